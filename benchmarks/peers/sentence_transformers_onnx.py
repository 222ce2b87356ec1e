"""Encode texts with sentence-transformers' ONNX backend; started by `benchmarks.sentence_transformers_cpu`.

It writes an XLM-R of the given size with random weights, exports and quantises it as its documentation says, unless
that is done, and then answers each line of JSON `{"model": "fp32" | "int8", "texts": [...]}` with a line
`{"shape": [B, D], "seconds": ...}`: what `encode` returned, and the processor time of this process in it.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import onnxruntime
import torch
from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

FIRST_LETTER = 0x3400  # the token of id i is the letter of this code and i
_UNKNOWN = "<unk>"
_SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, _UNKNOWN: 3}


def write_model(folder: Path, layers: int, vocab_size: int) -> None:
    """An XLM-R of v2's width with random weights, and a tokenizer of one token a letter."""
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=vocab_size,
        hidden_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    letters = {chr(FIRST_LETTER + i): i for i in range(len(_SPECIAL), vocab_size)}
    tokenizer = Tokenizer(WordLevel(_SPECIAL | letters, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    options = {"model_max_length": 512, "pad_token": "<pad>", "unk_token": _UNKNOWN}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options).save_pretrained(folder)  # type: ignore[no-untyped-call]


def export(folder: Path, layers: int, vocab_size: int, instructions: str) -> None:
    """Write the float32 graph and the quantised one, unless they are there."""
    if folder.exists():
        return
    unfinished = folder.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_model(unfinished / "hub", layers, vocab_size)
    options = {"provider": "CPUExecutionProvider"}
    tower = Transformer(str(unfinished / "hub"), max_seq_length=512, backend="onnx", model_kwargs=options)
    model = SentenceTransformer(modules=[tower, Pooling(tower.get_embedding_dimension(), "mean")], backend="onnx")
    model.save_pretrained(str(unfinished))
    export_dynamic_quantized_onnx_model(model, instructions, str(unfinished))
    shutil.rmtree(unfinished / "hub")
    unfinished.rename(folder)


def load(folder: Path, file_name: str, threads: int) -> SentenceTransformer:
    """One of the two graphs."""
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = threads
    options = {"provider": "CPUExecutionProvider", "file_name": file_name, "session_options": session}
    return SentenceTransformer(str(folder), backend="onnx", model_kwargs=options)


def main() -> None:
    """Export, load, say so with an empty line of JSON, and answer until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--vocab-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--instructions", choices=("arm64", "avx2", "avx512", "avx512_vnni"), required=True)
    options = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    torch.set_num_threads(options.threads)
    export(options.folder, options.layers, options.vocab_size, options.instructions)
    quantised = next((options.folder / "onnx").glob(f"model_q*int8_{options.instructions}.onnx")).name
    files = {"fp32": "model.onnx", "int8": quantised}
    models = {name: load(options.folder, file, options.threads) for name, file in files.items()}
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        before = time.process_time()
        found = models[asked["model"]].encode(asked["texts"], batch_size=32, show_progress_bar=False)
        print(
            json.dumps({"seconds": time.process_time() - before, "shape": list(found.shape)}), file=answers, flush=True
        )


if __name__ == "__main__":
    main()
