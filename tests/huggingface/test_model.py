"""transformers' Auto classes give our classes and the encoder's vectors, without a question and without remote code."""

import importlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from core_encoder import (
    CheckpointError,
    ConfigError,
    EmbeddingDimError,
    ImageDecodeError,
    InputError,
    JinaClipEncoder,
    MissingWeightsError,
)
from core_encoder.models import default_revision
from tests.checkpoints import V1_TINY, V2_TINY, write_v1, write_v2
from tests.forked import run_program
from tests.late import late

transformers = late("transformers")
loading = late("jclip_connectors.huggingface.loading")
models = late("jclip_connectors.huggingface.model")
processing = late("jclip_connectors.huggingface.processor")

UNIT = 1e-6
TEXTS = ["a red cat", "", "the cat sleeps on the beach " * 5, "红色的猫", "a <pad> in a [PAD] text"]
SHARED_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors")


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


IMAGES = [picture(90, 40), picture(31, 77, 1), picture(64, 64, 2)]


def apart(a, b):
    assert a.shape == b.shape
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


@pytest.fixture(scope="module", autouse=True)
def _registered():
    importlib.import_module("jclip_connectors.huggingface")


class Both:
    """One checkpoint, loaded as our encoder and through transformers."""

    def __init__(self, folder):
        self.folder = folder
        self.encoder = JinaClipEncoder.load(folder, device="cpu", runtime="torch")
        self.model = transformers().AutoModel.from_pretrained(folder)
        self.processor = transformers().AutoProcessor.from_pretrained(folder)

    def inputs(self, **kwargs):
        return self.processor(return_tensors="pt", **kwargs)


@pytest.fixture(scope="module", params=["golden-v1", "golden-v2", "v1", "v2", "v2-two-tasks"])
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    if request.param == "v2-two-tasks":
        return Both(write_v2(folder, tasks=("other", "retrieval.query"), seed=3))
    makers = {"v1": write_v1, "v2": write_v2}
    golden = {"golden-v1": V1_TINY, "golden-v2": V2_TINY}
    return Both(golden[request.param] if request.param in golden else makers[request.param](folder))


@pytest.fixture(scope="module")
def v2():
    return Both(V2_TINY)


@pytest.fixture(scope="module")
def v1():
    return Both(V1_TINY)


def test_the_auto_classes_give_our_classes(both):
    assert type(both.model) is models().JinaCLIPModel
    assert type(both.processor) is processing().JinaCLIPProcessor
    assert type(both.processor.image_processor) is processing().JinaCLIPImageProcessor
    assert type(transformers().AutoConfig.from_pretrained(both.folder)) is loading().JinaCLIPConfig
    assert type(transformers().AutoImageProcessor.from_pretrained(both.folder)) is processing().JinaCLIPImageProcessor
    assert (both.model.dtype, both.model.device.type, both.model.training) == (torch.float32, "cpu", False)


def test_encode_text_and_encode_image_are_the_encoders(both):
    assert apart(both.model.encode_text(TEXTS), both.encoder.encode_text(TEXTS)) <= UNIT
    assert apart(both.model.encode_image(IMAGES), both.encoder.encode_image(IMAGES)) <= UNIT
    raw = both.model.encode_text(TEXTS, normalize_embeddings=False)
    assert apart(raw, both.encoder.encode_text(TEXTS, normalize=False)) <= 1e-5
    raw = both.model.encode_image(IMAGES, normalize_embeddings=False)
    assert apart(raw, both.encoder.encode_image(IMAGES, normalize=False)) <= 1e-5


def test_what_the_processor_makes_gives_the_encoders_vectors(both):
    output = both.model(**both.inputs(text=TEXTS, images=IMAGES))
    texts, images = both.encoder.encode_text(TEXTS), both.encoder.encode_image(IMAGES)
    assert apart(output.text_embeds, texts) <= UNIT
    assert apart(output.image_embeds, images) <= UNIT
    scale = both.model.encoder_module.towers.logit_scale.exp().item()
    assert apart(output.logits_per_image, scale * images @ texts.T) <= 1e-5 * scale
    assert torch.equal(output.logits_per_text, output.logits_per_image.T)
    features = both.model.get_text_features(**both.inputs(text=TEXTS)).pooler_output
    assert apart(features, both.encoder.encode_text(TEXTS, normalize=False)) <= 1e-5
    features = both.model.get_image_features(**both.inputs(images=IMAGES)).pooler_output
    assert apart(features, both.encoder.encode_image(IMAGES, normalize=False)) <= 1e-5


@pytest.mark.filterwarnings("ignore:1 of 18 texts were cut to 512 tokens")
@pytest.mark.parametrize("folder", [V1_TINY, V2_TINY], ids=["v1", "v2"])
def test_ids_vectors_and_logits_are_the_references(folder):
    both, expected = Both(folder), dict(np.load(folder / "expected.npz"))
    texts = json.loads((folder / "texts.json").read_text())
    names = json.loads((folder / "manifest.json").read_text())["image_names"]
    images = [expected.get(f"decoded__{name}", folder / "images" / name) for name in names]
    inputs = both.inputs(text=texts, images=images, max_length=512)
    assert np.array_equal(inputs["input_ids"], expected["text_input_ids"])
    assert apart(inputs["pixel_values"], expected["pixel_values"]) <= 1e-6
    assert apart(both.model.encode_text(texts, max_length=512), expected["text_embeddings"]) <= 3e-5
    assert apart(both.model.encode_image(images), expected["image_embeddings"]) <= 3e-5
    output = both.model(**inputs)
    assert apart(output.text_embeds, expected["text_embeddings"]) <= 3e-5
    assert apart(output.image_embeds, expected["image_embeddings"]) <= 3e-5
    assert apart(output.logits_per_image[:4, :5], expected["logits_per_image"]) <= 1e-3


@pytest.mark.parametrize("folder", [V1_TINY, V2_TINY], ids=["v1", "v2"])
def test_autotokenizer_gives_the_same_ids_and_the_model_takes_all_that_it_makes(folder):
    both = Both(folder)
    inputs = transformers().AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(inputs["input_ids"], both.inputs(text=TEXTS)["input_ids"])
    assert apart(both.model(**inputs).text_embeds, both.encoder.encode_text(TEXTS)) <= UNIT


def test_the_query_task_and_shorter_vectors_are_the_encoders(v2):
    for options in ({"task": "retrieval.query"}, {"truncate_dim": 16}, {"task": "retrieval.query", "truncate_dim": 5}):
        assert apart(v2.model.encode_text(TEXTS, **options), v2.encoder.encode_text(TEXTS, **options)) <= UNIT
    positional = v2.model.encode_text(TEXTS, "retrieval.query", batch_size=2)
    assert apart(positional, v2.encoder.encode_text(TEXTS, task="retrieval.query")) <= UNIT
    short = transformers().AutoModel.from_pretrained(V2_TINY, truncate_dim=8)
    assert apart(short.encode_image(IMAGES), v2.encoder.encode_image(IMAGES, truncate_dim=8)) <= UNIT
    assert short.encode_text(TEXTS, truncate_dim=16).shape == (5, 16)


def test_one_input_gives_one_vector_and_a_tensor_on_request(v2):
    assert v2.model.encode_text("a red cat").shape == v2.model.encode_image(IMAGES[0]).shape == (64,)
    assert v2.model.encode_text(["a red cat"]).shape == (1, 64)
    assert v2.model.encode_text([]).shape == (0, 64)
    tensor = v2.model.encode_image(IMAGES, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert torch.equal(tensor, torch.from_numpy(v2.model.encode_image(IMAGES)))


def test_half_of_the_inputs_gives_half_of_the_output_and_none_is_refused(v2):
    output = v2.model(**v2.inputs(text="a red cat"))
    assert output.text_embeds.shape == (1, 64)
    assert output.image_embeds is None
    assert output.logits_per_image is None
    assert len(v2.model(**v2.inputs(images=IMAGES[0]), return_dict=False)) == 2  # the embeddings and the features
    with pytest.raises(InputError, match="`input_ids`, `pixel_values` or both"):
        v2.model()
    with pytest.raises(InputError, match="`text`, `images` or both"):
        v2.processor()


def test_a_mask_that_hides_tokens_is_refused_and_left_padding_is_understood(v2):
    inputs = v2.inputs(text=TEXTS)
    hidden = inputs["attention_mask"].clone()
    hidden[0, 1] = 0
    with pytest.raises(InputError, match="`attention_mask` hides tokens"):
        v2.model.get_text_features(inputs["input_ids"], hidden)
    with pytest.raises(InputError, match="`token_type_ids`"):
        v2.model.get_text_features(inputs["input_ids"], token_type_ids=torch.ones_like(inputs["input_ids"]))
    ids = inputs["input_ids"][:1, :6]
    left = torch.cat([torch.full((1, 3), 1), ids], dim=1)  # 1 is the pad id
    features = [v2.model.get_text_features(rows).pooler_output for rows in (ids, left)]
    assert apart(features[0], features[1]) <= 1e-5


def test_pixels_of_another_size_are_refused(v2):
    with pytest.raises(InputError, match=r"\(1, 3, 64, 64\): \(B, 3, 62, 62\) is needed"):
        v2.model.get_image_features(torch.zeros(1, 3, 64, 64))


def test_a_bad_image_or_text_is_named_by_its_position(v2, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageDecodeError, match=r"item 1 .*bad\.png"):
        v2.processor(images=[IMAGES[0], tmp_path / "bad.png"])
    with pytest.raises(ImageDecodeError, match=r"item 1 .*bad\.png"):
        v2.model.encode_image([IMAGES[0], tmp_path / "bad.png"])
    with pytest.raises(InputError, match="item 1: a text must be a str, found int"):
        v2.processor(text=["a", 5])
    with pytest.raises(EmbeddingDimError):
        v2.model.encode_text(TEXTS, truncate_dim=65)


def test_long_texts_are_cut_by_the_processor_with_one_warning(v2):
    long = ["the cat " * 50] * 2
    with pytest.warns(UserWarning, match="2 of 3 texts were cut to 20 tokens") as caught:
        inputs = v2.inputs(text=[*long, "a"], max_length=20)
    assert [warning.filename for warning in caught] == [__file__]
    assert inputs["input_ids"].shape == (3, 20)
    with pytest.warns(UserWarning, match="texts were cut to 20 tokens"):
        expected = v2.encoder.encode_text([*long, "a"], max_tokens=20)
    assert apart(v2.model(**inputs).text_embeds, expected) <= UNIT


def test_the_encoder_follows_the_model_to_another_precision(v2):
    model = transformers().AutoModel.from_pretrained(V2_TINY)
    model.bfloat16()
    assert (model.dtype, model.encoder_module.encoder.precision) == (torch.bfloat16, "bf16")
    expected = JinaClipEncoder.load(V2_TINY, device="cpu", precision="bf16").encode_text(TEXTS)
    assert apart(model.encode_text(TEXTS), expected) <= UNIT
    assert apart(model(**v2.inputs(text=TEXTS)).text_embeds, expected) <= UNIT
    assert transformers().AutoModel.from_pretrained(V2_TINY, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert transformers().AutoModel.from_pretrained(V2_TINY, torch_dtype="auto").dtype == torch.float32
    with pytest.raises(ConfigError, match=r"torch\.float16 is not supported"):
        model.half()
    assert model.dtype == torch.bfloat16  # nothing was moved
    assert model.to(torch.float32).encode_text(TEXTS).dtype == np.float32


def test_the_weights_are_in_memory_once(v2):
    towers = v2.model.encoder_module.towers
    assert sum(p.numel() for p in v2.model.parameters()) == sum(p.numel() for p in towers.parameters())
    with torch.no_grad():
        copy = transformers().AutoModel.from_pretrained(V2_TINY)
        before = copy.encode_text(TEXTS)
        copy.encoder_module.towers.text.token_type[:, 0] += 5.0
    assert apart(copy.encode_text(TEXTS), before) > 1e-3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"device_map": "auto"}, r"`device_map` is not supported.*model\.to"),
        ({"output_loading_info": True}, "`output_loading_info` is not supported.*strict"),
        ({"attn_implementation": "flash_attention_2"}, "`attn_implementation` is 'flash_attention_2'"),
        ({"use_safetensors": False}, "`use_safetensors` is not supported.*never from a pickle"),
        ({"load_in_8bit": True}, "`load_in_8bit` is not supported"),
        ({"quantization_config": {"load_in_8bit": True}}, "`quantization_config`"),
        ({"dtype": torch.float16}, "`dtype` is torch.float16"),
        ({"torch_dtype": "int8"}, "`dtype` is 'int8'"),
        ({"output_attentions": True}, r"\['output_attentions'\] differ from config.json"),
        ({"output_hidden_states": True}, r"\['output_hidden_states'\] differ from config.json"),
        ({"projection_dim": 3}, r"\['projection_dim'\] differ from config.json"),
        ({"normalise": True}, "`normalise` is not supported"),
    ],
)
def test_an_argument_that_cannot_be_honoured_is_refused_by_name(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        models().JinaCLIPModel.from_pretrained(V2_TINY, config=_config(kwargs), **kwargs)


def test_a_refused_credential_is_not_repeated():
    with pytest.raises(ConfigError, match="its name is `token`") as caught:
        transformers().AutoModel.from_pretrained(V2_TINY, use_auth_token="hf_very_secret")  # noqa: S106 - not one
    assert "hf_very_secret" not in str(caught.value)


def _config(kwargs):
    """What AutoModel does: fields of config.json go into the configuration, and out of the arguments."""
    config, unused = transformers().AutoConfig.from_pretrained(V2_TINY, return_unused_kwargs=True, **dict(kwargs))
    for name in kwargs.keys() - unused.keys() - {"dtype", "torch_dtype"}:
        del kwargs[name]
    return config


def test_asking_for_what_is_done_anyway_is_fine(v2):
    model = transformers().AutoModel.from_pretrained(
        V2_TINY, trust_remote_code=True, use_safetensors=True, attn_implementation="sdpa", device_map=None
    )
    assert apart(model.encode_text(TEXTS), v2.encoder.encode_text(TEXTS)) <= UNIT


def test_a_damaged_checkpoint_is_refused_by_our_own_loader(tmp_path):
    folder = write_v2(tmp_path / "v2")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks \['model.safetensors'\]"):
        transformers().AutoModel.from_pretrained(folder)
    shutil.copyfile(V1_TINY / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(MissingWeightsError):
        transformers().AutoModel.from_pretrained(folder)


def test_saving_training_and_random_weights_are_refused(v2, tmp_path):
    for save in (v2.model.save_pretrained, v2.model.push_to_hub):
        with pytest.raises(NotImplementedError, match="cannot be saved: copy the checkpoint"):
            save(str(tmp_path / "saved"))
    with pytest.raises(NotImplementedError, match="cannot be trained"):
        v2.model.train()
    with pytest.raises(NotImplementedError, match="needs its weights"):
        transformers().AutoModel.from_config(v2.model.config)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_processor_comes_back_and_the_encoder_reads_its_files(v2, tmp_path):
    v2.processor.save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(V2_TINY / name, tmp_path / name)
    again = Both(tmp_path)
    inputs, expected = (p.inputs(text=TEXTS, images=IMAGES) for p in (again, v2))
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)
    assert apart(again.encoder.encode_text(TEXTS), v2.encoder.encode_text(TEXTS)) <= UNIT
    with pytest.raises(ConfigError, match="push_to_hub"):
        v2.processor.save_pretrained(tmp_path, push_to_hub=True)


def test_the_processor_needs_no_fields_of_transformers_in_its_file(v2, tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    for name in SHARED_FILES:
        shutil.copyfile(V2_TINY / name, folder / name)
    fields = json.loads((folder / "preprocessor_config.json").read_text())
    for name in ("auto_map", "processor_class", "image_processor_type"):
        del fields[name]
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    processor = transformers().AutoProcessor.from_pretrained(folder)
    assert type(processor) is processing().JinaCLIPProcessor
    assert torch.equal(
        processor(images=IMAGES, return_tensors="pt")["pixel_values"], v2.inputs(images=IMAGES)["pixel_values"]
    )
    assert type(transformers().AutoImageProcessor.from_pretrained(folder)) is processing().JinaCLIPImageProcessor
    with pytest.raises(ConfigError, match=r"\['do_resize'\] cannot be set"):
        transformers().AutoProcessor.from_pretrained(folder, do_resize=False)


# --- in a process of its own: nothing was imported before, nobody can answer a question


def hostile(folder, source, owner):
    """A checkpoint whose auto_map points at a file that leaves a mark when it is executed."""
    shutil.copytree(source, folder)
    (folder / "evil.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nraise SystemExit(3)\n"
    )
    for name, keys in (
        ("config.json", ("AutoConfig", "AutoModel")),
        ("preprocessor_config.json", ("AutoImageProcessor", "AutoProcessor")),
    ):
        fields = json.loads((folder / name).read_text())
        fields["auto_map"] = {key: f"{owner}evil.{key}" for key in keys}
        (folder / name).write_text(json.dumps(fields))
    return folder


def hub_cache(folder, checkpoints):
    for repo_id, (source, commit) in checkpoints.items():
        repo = folder / f"models--{repo_id.replace('/', '--')}"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit)
        shutil.copytree(source, repo / "snapshots" / commit)
    return folder


CODE = """
import json, sys, warnings
warnings.simplefilter("error")
import jclip_connectors.huggingface
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer
found = {}
for source in json.loads(sys.argv[1]):
    for trust in (None, True):
        options = {} if trust is None else {"trust_remote_code": trust}
        autos = (AutoModel, AutoProcessor, AutoConfig, AutoImageProcessor)
        parts = [auto.from_pretrained(source, **options) for auto in autos]
        AutoTokenizer.from_pretrained(source, **options)
        assert all(type(part).__module__.startswith("jclip_connectors.") for part in parts), parts
        output = parts[0](**parts[1](text=["a red cat"], return_tensors="pt"))
        assert abs(output.text_embeds.numpy() - parts[0].encode_text(["a red cat"])).max() < 1e-6
        found[source] = parts[0].encode_text("a red cat").tolist()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_local_classes_win_over_an_auto_map_without_a_question_and_without_running_it(tmp_path):
    hub_id = "jinaai/jina-clip-implementation--"
    folders = [
        hostile(tmp_path / "local-file", V2_TINY, ""),
        hostile(tmp_path / "another-repository", V1_TINY, hub_id),
    ]
    commits = {name: default_revision(name) for name in ("jinaai/jina-clip-v2", "jinaai/jina-clip-v1")}
    cached = {
        "jinaai/jina-clip-v2": (folders[0], commits["jinaai/jina-clip-v2"]),
        "jinaai/jina-clip-v1": (folders[1], commits["jinaai/jina-clip-v1"]),
    }
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(hub_cache(tmp_path / "hub", cached)),
        "HF_HUB_OFFLINE": "1",
    }
    sources = [*map(str, folders), *cached]
    code, printed, complaints = run_program("-c", CODE, json.dumps(sources), environment=environment)
    assert code == 0, complaints[-3000:]
    assert list(tmp_path.rglob("ran")) == []
    found = json.loads(printed)
    for source, folder in zip(sources, [*folders, *folders], strict=True):
        expected = JinaClipEncoder.load(folder, device="cpu").encode_text(["a red cat"])[0]
        assert apart(np.float32(found[source]), expected) <= UNIT


def test_a_missing_package_is_an_import_error_that_names_the_extra():
    code = (
        "import sys\nsys.modules[sys.argv[1]] = None\n"
        "from jclip_connectors.errors import MissingDependencyError\n"
        "try:\n    __import__('jclip_connectors.' + sys.argv[2])\n"
        "except MissingDependencyError as error:\n    print(error.extra, error)\n"
    )
    for package, module in (("transformers", "huggingface"), ("sentence_transformers", "sentence_transformers")):
        _, out, complaints = run_program("-c", code, package, module)
        extra = module.replace("_", "-")
        assert out == f"{extra} {package} is not installed: pip install 'jclip-connectors[{extra}]'\n", complaints
