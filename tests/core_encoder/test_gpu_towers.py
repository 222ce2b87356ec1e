"""What a GPU computes, on a CPU: folded weights, recorded queries and compiled layers give what the towers give.

A graph of CUDA replays kernels on the same memory and asks Python nothing. Two stand-ins take its place: one gives the
same memory each time, and one (slow) is a trace of torch's operators, in which Python decides nothing either.
"""

import json
import logging
import threading

import numpy as np
import pytest
import torch

from core_encoder.encoder_module import EncoderModule
from core_encoder.image_preprocess import pixel_values
from core_encoder.tokenization import pack
from core_encoder.torch.gpu import QUERY_LENGTHS, GpuTowers
from core_encoder.torch.long_jobs import LongJobs
from core_encoder.torch.recorded import pinned
from core_encoder.torch.runtime import packed_features
from tests.checkpoints import V1_TINY, V2_TINY

RAW = 1e-4
CPU = torch.device("cpu")


class Repeats:
    """Records by remembering what to compute; always gives the same memory, as a graph does. Counts."""

    def __init__(self):
        self.made = self.replayed = 0

    def record(self, compute):
        output = compute()
        return lambda: output.copy_(compute())

    def __call__(self, compute, device):
        assert device == CPU
        self.made += 1
        recorded = self.record(compute)

        def replay():
            self.replayed += 1
            return recorded()

        return replay


class Traces(Repeats):
    """Records torch's operators: what Python decided stays as it was, and no value may be looked at."""

    def record(self, compute):
        from torch.fx.experimental.proxy_tensor import make_fx

        return make_fx(compute)()


class Loaded:
    def __init__(self, folder):
        module = EncoderModule.load(folder, device="cpu")
        self.encoder, self.model, self.preprocessing = module.encoder, module.towers, module.encoder.preprocessing
        self.records = Repeats()
        self.towers = self.gpu()

    def gpu(self, *, tokens_per_batch=65536, record=None, **options):
        record = self.records if record is None else record
        return GpuTowers(self.model, self.preprocessing, tokens_per_batch=tokens_per_batch, record=record, **options)

    def packed(self, *lengths, seed=0):
        rng = np.random.default_rng(seed)
        vocab = self.model.config.text.vocab_size
        return pack([rng.integers(5, vocab, n).tolist() for n in lengths], pad_token_id=self.pad)

    @property
    def pad(self):
        return self.model.config.text.pad_token_id

    def squares(self, count, seed=0):
        side = self.preprocessing.size
        return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)

    def plain_texts(self, packed):
        with torch.inference_mode():
            return packed_features(self.model, packed).float().numpy()

    def plain_images(self, squares):
        pixels = torch.from_numpy(pixel_values(squares, self.preprocessing)).to(self.model.logit_scale.dtype)
        with torch.inference_mode():
            return self.model.vision(pixels).numpy()


@pytest.fixture(params=[V1_TINY, V2_TINY], ids=["v1", "v2"])
def loaded(request):
    return Loaded(request.param)


@pytest.fixture
def v2():
    return Loaded(V2_TINY)


def difference(left, right):
    assert left.shape == right.shape
    assert left.dtype == right.dtype == np.float32
    return np.abs(left - right).max()


def test_normalisation_in_the_patch_embedding_changes_no_feature(loaded):
    squares = loaded.squares(3)
    squares[0], squares[1] = 0, 255
    assert difference(loaded.towers.image_features(squares), loaded.plain_images(squares)) < RAW
    assert loaded.records.made == 0


def test_the_folded_weights_are_aligned_and_the_parameters_stay_as_they_are(loaded):
    before = {name: parameter.clone() for name, parameter in loaded.model.named_parameters()}
    loaded.towers.image_features(loaded.squares(2))
    assert {name: parameter.shape for name, parameter in loaded.model.named_parameters()} == {
        name: parameter.shape for name, parameter in before.items()
    }
    assert all(torch.equal(parameter, before[name]) for name, parameter in loaded.model.named_parameters())
    block = loaded.model.vision.vision_blocks()[0]
    widened, hidden = block.weights(multiple=8), loaded.model.config.vision.mlp_width
    assert widened.mlp_out.shape[1] % 8 == 0
    assert widened.mlp_out.shape[1] - hidden < 8
    assert (widened.mlp_out is block.mlp_out.weight) == (hidden % 8 == 0)  # no second copy where none is needed


def test_in_bf16_folding_loses_no_more_than_normalised_pixels_do(v2):
    squares = v2.squares(16)
    exact = v2.plain_images(squares)
    v2.model.bfloat16()
    plain = difference(v2.plain_images(squares), exact)
    folded = difference(v2.towers.image_features(squares), exact)
    assert folded < 1.5 * plain


def test_one_picture_is_recorded_and_replayed(loaded):
    for seed in range(3):
        square = loaded.squares(1, seed=seed)
        assert difference(loaded.towers.image_features(square), loaded.plain_images(square)) < RAW
    assert (loaded.records.made, loaded.records.replayed) == (1, 3)


def test_a_short_text_is_recorded_for_its_padded_length_and_is_the_same(loaded):
    for length in (1, 2, 16, 17, 3, 31, 64, 65, 128, 100, 5):
        packed = loaded.packed(length, seed=length)
        assert difference(loaded.towers.text_features(packed), loaded.plain_texts(packed)) < RAW
    assert (loaded.records.made, loaded.records.replayed) == (len(QUERY_LENGTHS), 11)


def test_several_texts_a_long_one_and_one_with_a_gap_are_not_recorded(loaded):
    for packed in (
        loaded.packed(3, 4),
        loaded.packed(QUERY_LENGTHS[-1] + 1),
        pack([[7, loaded.pad, 9]], pad_token_id=loaded.pad),
    ):
        assert difference(loaded.towers.text_features(packed), loaded.plain_texts(packed)) < RAW
    assert loaded.records.made == 0


def test_a_moved_model_is_recorded_and_folded_again(v2):
    text, square, many = v2.packed(7), v2.squares(1), v2.squares(2)
    before = [v2.towers.text_features(text), v2.towers.image_features(square), v2.towers.image_features(many)]
    v2.model._apply(lambda parameter: torch.full_like(parameter, 0.01))
    after = [v2.towers.text_features(text), v2.towers.image_features(square), v2.towers.image_features(many)]
    assert v2.records.made == 4
    for old, new, expected in zip(
        before, after, [v2.plain_texts(text), v2.plain_images(square), v2.plain_images(many)], strict=True
    ):
        assert difference(new, expected) < RAW
        assert difference(new, old) > RAW


def test_threads_share_recordings_and_each_gets_its_own_vector(loaded):
    texts = [loaded.packed(1 + i * 3, seed=i) for i in range(8)]
    expected = [loaded.plain_texts(text) for text in texts]
    wrong = []

    def work(first):
        for i in range(first, first + 12):
            found = loaded.towers.text_features(texts[i % 8])
            if difference(found, expected[i % 8]) >= RAW:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert loaded.records.made <= 2


def test_where_nothing_can_be_recorded_one_warning_says_so_and_queries_go_on(v2, caplog):
    def refuse(_compute, _device):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    towers = v2.gpu(record=refuse)
    text, square = v2.packed(7), v2.squares(1)
    for _ in range(2):
        assert difference(towers.text_features(text), v2.plain_texts(text)) < RAW
        assert difference(towers.image_features(square), v2.plain_images(square)) < RAW
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (
            logging.WARNING,
            "a CUDA graph cannot be recorded, short queries are computed without: RuntimeError: operation not "
            "permitted when stream is capturing",
        )
    ]


@pytest.mark.slow
def test_a_recording_in_which_python_decides_nothing_gives_the_same(loaded):
    towers = loaded.gpu(record=Traces())
    for length in (16, 3, 17):
        packed = loaded.packed(length, seed=length)
        assert difference(towers.text_features(packed), loaded.plain_texts(packed)) < RAW
    for seed in range(2):
        square = loaded.squares(1, seed=seed)
        assert difference(towers.image_features(square), loaded.plain_images(square)) < RAW


@pytest.mark.filterwarnings("ignore:1 of 18 texts were cut to 512 tokens")
def test_the_goldens_hold_on_the_path_of_a_gpu(loaded, monkeypatch):
    folder = V1_TINY if loaded.model.config.text.position == "alibi" else V2_TINY
    expected, texts = np.load(folder / "expected.npz"), json.loads((folder / "texts.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    images = [expected.get(f"decoded__{name}") for name in manifest["image_names"]]
    images = [
        folder / "images" / name if image is None else image
        for name, image in zip(manifest["image_names"], images, strict=True)
    ]
    monkeypatch.setattr(loaded.encoder.runtime, "_gpu", loaded.towers)
    together = loaded.encoder.encode_text(texts, max_tokens=512, normalize=False)
    assert difference(together, expected["text_features"]) <= RAW
    alone = [loaded.encoder.encode_text([text], normalize=False)[0] for text in texts[:6]]
    assert difference(np.stack(alone), expected["text_features"][:6]) <= RAW
    assert difference(loaded.encoder.encode_image(images, normalize=False), expected["image_features"]) <= RAW


def test_what_cannot_be_written_or_is_not_in_one_piece_is_copied_for_the_upload():
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1]
    values.flags.writeable = False
    copied = pinned(values, CPU)
    assert copied.dtype == torch.uint8
    assert np.array_equal(copied.numpy(), values)
    assert not np.shares_memory(copied.numpy(), values)


class Counting:
    """A compiler that counts what it is given, and runs it as it is."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, _inputs):
        self.graphs += 1
        return graph.forward


def test_small_batches_and_the_first_work_are_eager():
    calls = []
    jobs = LongJobs((lambda: calls.append("eager"),), large_batch=10, backend="no such compiler", before_compiling=25)
    for tokens in (9, 10, 9, 10, 10, 9):
        jobs.run(tokens, lambda functions: functions[0]())
    assert calls == ["eager"] * 6


@pytest.mark.slow
def test_layers_are_compiled_once_for_all_layers_and_lengths_and_give_the_same(loaded):
    torch.compiler.reset()
    text, image = Counting(), Counting()
    towers = loaded.gpu(tokens_per_batch=2, before_compiling=0, backend=text)
    for lengths in ((30, 20), (41, 17, 5), (200, 3, 3)):
        packed = loaded.packed(*lengths)
        assert difference(towers.text_features(packed), loaded.plain_texts(packed)) < RAW
    assert text.graphs == 2  # before and after attention
    towers = loaded.gpu(tokens_per_batch=2, before_compiling=0, backend=image)
    for count in (3, 2, 5):
        squares = loaded.squares(count)
        assert difference(towers.image_features(squares), loaded.plain_images(squares)) < RAW
    assert image.graphs == 1


@pytest.mark.slow
def test_a_compiler_that_fails_is_told_once_by_name_and_the_job_goes_on(v2, caplog):
    torch.compiler.reset()

    def broken(_graph, _inputs):
        raise RuntimeError("no compiler here")

    towers = v2.gpu(tokens_per_batch=2, before_compiling=0, backend=broken)
    packed = v2.packed(30, 20)
    for _ in range(2):
        assert difference(towers.text_features(packed), v2.plain_texts(packed)) < RAW
    (record,) = [record for record in caplog.records if record.name == "core_encoder.torch"]
    assert record.levelno == logging.WARNING
    assert "broken" in record.getMessage()
    assert "no compiler here" in record.getMessage()


@pytest.mark.slow
def test_torchs_own_compiler_gives_the_same(v2):
    torch.compiler.reset()
    towers = v2.gpu(tokens_per_batch=2, before_compiling=0)
    for seed in range(2):
        packed, squares = v2.packed(30, 20 + seed), v2.squares(3 + seed)
        assert difference(towers.text_features(packed), v2.plain_texts(packed)) < RAW
        assert difference(towers.image_features(squares), v2.plain_images(squares)) < RAW
