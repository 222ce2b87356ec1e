"""The encoder's promises to its callers, on the small golden checkpoints."""

import functools
import itertools
import threading
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import core_encoder.encoder as encoder_module
from core_encoder import (
    CheckpointError,
    ConfigError,
    EmbeddingDimError,
    ImageDecodeError,
    InputError,
    JinaClipEncoder,
    TextTooLongError,
    Tiling,
)
from core_encoder.encoder_module import EncoderModule
from tests.checkpoints import V1_TINY, V2_TINY, write_v2
from tests.profiles import examples

TEXTS = ["a red cat", "", "x", "the cat sleeps on the beach", "红色的猫 " * 30, "a blue dog", "a red cat"]


@pytest.fixture(scope="module", params=["torch", "onnx"])
def runtime(request):
    return request.param


@pytest.fixture(scope="module")
def v1(runtime):
    return JinaClipEncoder.load(V1_TINY, device="cpu", runtime=runtime)


@pytest.fixture(scope="module")
def v2(runtime):
    return JinaClipEncoder.load(str(V2_TINY), device="cpu", runtime=runtime)


@functools.cache
def shared_encoder():
    """For hypothesis, whose examples share no fixtures."""
    return JinaClipEncoder.load(V2_TINY, device="cpu")


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def unit(rows):
    return np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-6


def test_the_facts_of_a_model_can_be_read(v1, v2):
    assert (v2.embedding_dim, v2.image_size, v2.max_tokens, v2.matryoshka_dims) == (64, 62, 8192, (8, 16, 32, 64))
    assert (v1.embedding_dim, v1.image_size, v1.max_tokens, v1.matryoshka_dims) == (96, 64, 8192, ())
    assert (v2.query_task, v1.query_task) == ("retrieval.query", None)
    assert (v2.precision, v2.device, v2.license) == ("fp32", "cpu", None)
    assert (v2.runtime.name, v2.attention_backend) in {("torch", "sdpa"), ("onnx", "fused")}
    assert "public-v2-tiny" in repr(v2)
    assert f"runtime='{v2.runtime.name}'" in repr(v2)


def test_rows_are_float32_of_unit_length(v2):
    for rows in (v2.encode_text(TEXTS), v2.encode_image([picture(40, 30)] * 3), v2.encode_text(TEXTS, truncate_dim=5)):
        assert rows.dtype == np.float32
        assert unit(rows)


def test_an_empty_sequence_gives_an_empty_matrix(v2):
    assert v2.encode_text([]).shape == (0, 64)
    assert v2.encode_text([], truncate_dim=16).shape == (0, 16)
    assert v2.encode_image([]).shape == (0, 64)
    assert v2.encode_image_tiles([]) == []


def test_any_iterable_will_do(v2):
    assert np.array_equal(v2.encode_text(text for text in TEXTS), v2.encode_text(tuple(TEXTS)))
    assert v2.encode_text(np.array(["a", "b"])).shape == (2, 64)
    assert v2.encode_image(np.zeros((2, 9, 9, 3), np.uint8)).shape == (2, 64)


@pytest.mark.parametrize("texts", ["a red cat", b"bytes", {"a": 1}, 5, None])
def test_one_bare_text_is_refused_with_what_to_write(v2, texts):
    with pytest.raises(InputError, match=r"`texts` is .*pass a list"):
        v2.encode_text(texts)


@pytest.mark.parametrize("images", ["photo.jpg", b"bytes", picture(9, 9), np.zeros((9, 9, 3), np.uint8), None])
def test_one_bare_image_is_refused_with_what_to_write(v2, images):
    with pytest.raises(InputError, match=r"`images` is .*pass a list"):
        v2.encode_image(images)


def test_an_item_that_is_not_text_is_named_by_its_position_in_the_whole_list(v2, monkeypatch):
    monkeypatch.setattr(encoder_module, "_WINDOW_TEXTS", 4)
    with pytest.raises(InputError, match="item 6: a text must be a str, found int"):
        v2.encode_text(["a"] * 6 + [7])


def test_a_bad_image_is_named_by_its_position(v2, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(ImageDecodeError, match=r"item 2 .*bad\.png"):
        v2.encode_image([picture(9, 9), picture(9, 9), tmp_path / "bad.png", picture(9, 9)])


@pytest.mark.parametrize("dim", [0, -1, 65, 1.5, True, "8"])
def test_a_length_that_the_model_does_not_have_is_refused(v2, dim):
    for encode in (v2.encode_text, v2.encode_image, v2.encode_image_tiles):
        with pytest.raises(EmbeddingDimError):
            encode([], truncate_dim=dim)


def test_truncation_comes_before_normalisation(v2):
    raw = v2.encode_text(TEXTS, normalize=False)
    for dim in (1, 8, 37, 64):
        expected = raw[:, :dim] / np.linalg.norm(raw[:, :dim], axis=1, keepdims=True)
        assert np.abs(v2.encode_text(TEXTS, truncate_dim=dim) - expected).max() < 1e-6
        assert np.array_equal(v2.encode_text(TEXTS, truncate_dim=dim, normalize=False), raw[:, :dim])


def test_a_model_that_was_not_trained_for_short_vectors_warns(v1):
    with pytest.warns(UserWarning, match="not trained for shortened vectors"):
        assert v1.encode_text(["a"], truncate_dim=16).shape == (1, 16)


def test_an_unknown_task_is_refused_and_a_model_without_tasks_warns(v1, v2):
    with pytest.raises(ConfigError, match=r"`task` is 'retrieval.passage'.*\['retrieval.query'\]"):
        v2.encode_text(["a"], task="retrieval.passage")
    with pytest.warns(UserWarning, match="has no tasks"):
        assert np.array_equal(v1.encode_text(["a"], task="retrieval.query"), v1.encode_text(["a"]))


@pytest.mark.parametrize("max_tokens", [0, -5, 8193, 2.0, True])
def test_a_max_tokens_that_the_model_does_not_allow_is_refused(v2, max_tokens):
    with pytest.raises(ConfigError, match="`max_tokens` is"):
        v2.encode_text(["a"], max_tokens=max_tokens)


def test_long_texts_are_cut_with_one_warning_that_counts_them(v2, monkeypatch):
    monkeypatch.setattr(encoder_module, "_WINDOW_TEXTS", 2)
    long = ["the cat " * 50, "the cat " * 60]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cut = v2.encode_text([*long, "a", *long], max_tokens=20)
    assert [str(warning.message) for warning in caught] == ["4 of 5 texts were cut to 20 tokens"]
    assert caught[0].filename == __file__
    assert np.array_equal(cut[0], cut[1])  # the same first tokens


def test_long_texts_can_be_refused_by_position(v2):
    with pytest.raises(TextTooLongError, match=r"item 1: the text has \d+ tokens, 20 are allowed"):
        v2.encode_text(["a", "the cat " * 50], max_tokens=20, overflow="error")
    with pytest.raises(ConfigError, match="`overflow` is 'ignore'"):
        v2.encode_text(["a"], overflow="ignore")


@pytest.mark.slow
def test_a_text_of_8192_tokens_is_encoded_whole(v1, v2):
    for encoder in (v1, v2):
        one, two = encoder.count_tokens(["the", "the the"])
        text = "the " * (8190 // (two - one))
        assert encoder.count_tokens([text]) == [8192]
        whole, shorter = encoder.encode_text([text]), encoder.encode_text([text[:4000]])
        assert unit(whole)
        assert np.abs(whole - shorter).max() > 1e-6
        with pytest.warns(UserWarning, match="1 of 1 texts were cut to 8192"):
            encoder.encode_text([text + "the"])


def test_a_short_text_is_the_same_among_others_although_it_is_computed_in_columns_alone(v2):
    texts = [*[""] * 7, "0", "0", "000", "0000", "03013031lái"]  # elementwise functions once rounded this one otherwise
    together = v2.encode_text(texts)
    alone = np.concatenate([v2.encode_text([text]) for text in texts])
    assert np.abs(alone - together).max() < 1e-6


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_with_two_threads_an_item_is_the_same_among_others_too(v1, v2):
    images = [picture(30 + 7 * i, 60 - 4 * i, seed=i) for i in range(9)]
    for encoder in (v1, v2):
        for encode, items in ((encoder.encode_text, [*TEXTS, "0" * 50]), (encoder.encode_image, images)):
            alone = np.concatenate([encode([item]) for item in items])
            assert np.abs(alone - encode(items)).max() < 1e-6


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=12), st.randoms())
def test_a_text_has_the_same_vector_whatever_shares_its_batch(texts, random):
    encoder = shared_encoder()
    together = encoder.encode_text(texts)
    index = random.randrange(len(texts))
    assert np.abs(encoder.encode_text([texts[index]])[0] - together[index]).max() < 1e-6
    shuffled = list(range(len(texts)))
    random.shuffle(shuffled)
    assert np.abs(encoder.encode_text([texts[i] for i in shuffled]) - together[shuffled]).max() < 1e-6


def test_windows_and_batches_do_not_show_in_the_result(v2, monkeypatch):
    texts = [" ".join(["cat"] * (i * 7 % 23)) for i in range(50)]
    expected = v2.encode_text(texts)
    images = [picture(30 + i, 60 - i, seed=i) for i in range(9)]
    expected_images = v2.encode_image(images)
    monkeypatch.setattr(encoder_module, "_WINDOW_TEXTS", 7)
    monkeypatch.setattr(f"core_encoder.{v2.runtime.name}.runtime._TOKENS_PER_BATCH", {"cpu": 40})
    assert np.abs(v2.encode_text(texts) - expected).max() < 1e-6
    assert np.abs(v2.encode_image(images) - expected_images).max() < 1e-6


def test_progress_counts_up_to_the_total(v2, monkeypatch):
    monkeypatch.setattr(f"core_encoder.{v2.runtime.name}.runtime._TOKENS_PER_BATCH", {"cpu": 40})
    for encode, items in (
        (v2.encode_text, ["the cat sleeps"] * 30),
        (v2.encode_image, [picture(20, 20)] * 5),
        (v2.encode_image_tiles, [picture(150, 70)] * 5),
    ):
        calls: list[tuple[int, int]] = []
        encode(items, progress=lambda done, total, calls=calls: calls.append((done, total)))
        assert len(calls) > 1
        assert calls == sorted(calls)
        assert calls[-1] == (len(items), len(items))


def test_tiles_have_the_overview_first_and_the_same_vectors_as_their_cut_outs(v2):
    large, small = picture(150, 100, seed=1), picture(40, 40, seed=2)
    tiled, single = v2.encode_image_tiles([large, small], tiling=Tiling(max_tiles=6))
    assert tiled.boxes.tolist()[0] == [0, 0, 150, 100]
    assert tiled.vectors.shape == (1 + len(tiled.boxes[1:]), 64)
    assert np.abs(tiled.vectors[0] - v2.encode_image([large])[0]).max() < 1e-6
    cut_outs = [large.crop(tuple(int(edge) for edge in box)) for box in tiled.boxes[1:]]
    assert len(cut_outs) == 6
    assert np.abs(v2.encode_image(cut_outs) - tiled.vectors[1:]).max() < 1e-6
    assert single.vectors.shape == (1, 64)
    assert unit(tiled.vectors)


def test_resize_mode_and_orientation_change_the_vector_when_asked(v2, tmp_path):
    wide = picture(120, 40)
    default = v2.encode_image([wide])
    assert np.array_equal(default, v2.encode_image([wide], resize_mode="shortest"))
    assert np.abs(default - v2.encode_image([wide], resize_mode="longest")).max() > 1e-3
    assert np.abs(default - v2.encode_image([wide], resize_mode="squash")).max() > 1e-3
    exif = Image.Exif()
    exif[0x0112] = 6
    wide.save(tmp_path / "turned.png", exif=exif)
    turned = v2.encode_image([tmp_path / "turned.png"], rendering="as_seen")
    assert np.array_equal(v2.encode_image([tmp_path / "turned.png"]), default)
    assert np.abs(turned - v2.encode_image([wide.transpose(Image.Transpose.ROTATE_270)])).max() < 1e-6


def test_a_large_picture_has_the_vector_of_pillows_pixels_unless_fast_is_asked_for(v2):
    large, side = picture(900, 700), v2.image_size
    height, width = side, side * 900 // 700
    left = round((width - side) / 2)
    resized = large.resize((width, height), Image.Resampling.BICUBIC).crop((left, 0, left + side, side))
    exact, fast = v2.encode_image([large]), v2.encode_image([large], resampling="fast")
    assert np.array_equal(exact, v2.encode_image([resized]))
    assert 0 < np.abs(fast - exact).max() < 1e-2
    tiling = Tiling(max_tiles=1)
    for resampling, expected in [("exact", exact), ("fast", fast)]:
        (whole,) = v2.stream_images([large], resampling=resampling)
        assert np.array_equal(whole, expected[0])
        (tiled,) = v2.encode_image_tiles([large], tiling=tiling, resampling=resampling)
        (streamed,) = v2.stream_images([large], tiling=tiling, resampling=resampling)
        assert np.abs(tiled.vectors[0] - expected[0]).max() < 1e-6
        assert np.array_equal(streamed.vectors, tiled.vectors)


def test_several_threads_may_share_an_encoder(v2):
    expected = v2.encode_text(TEXTS)
    results = {}

    def work(name):
        results[name] = [v2.encode_text(TEXTS) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.abs(rows - expected).max() < 1e-6 for rows in itertools.chain(*results.values()))


def test_bf16_is_close_to_fp32_and_says_so(v2):
    rounded = JinaClipEncoder.load(V2_TINY, device="cpu", precision="bf16")
    assert rounded.precision == "bf16"
    rows = rounded.encode_text(TEXTS)
    assert rows.dtype == np.float32
    assert unit(rows)
    assert (rows * v2.encode_text(TEXTS)).sum(1).min() > 0.99
    images = [picture(80, 60, seed=i) for i in range(3)]
    assert (rounded.encode_image(images) * v2.encode_image(images)).sum(1).min() > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "abacus"}, "`device` is 'abacus'"),
        ({"device": "meta"}, "`device` is 'meta'"),
        ({"device": "mps"}, "`device` is 'mps'"),
        ({"device": "xla"}, "`device` is 'xla'"),
        ({"device": "cuda:99"}, "`device` is 'cuda:99'"),
        ({"device": ["cpu"]}, "`device` is "),
        ({"precision": "fp8"}, "`precision` is 'fp8'"),
        ({"attention": "magic"}, "`attention` is 'magic'"),
        ({"attention": "varlen"}, "`attention` is 'varlen', but it needs CUDA"),
        ({"attention": "xformers"}, "`attention` is 'xformers', but it needs CUDA"),
    ],
)
def test_an_option_that_cannot_be_had_here_is_refused_rather_than_replaced(options, message):
    with pytest.raises(ConfigError, match=message):
        JinaClipEncoder.load(V2_TINY, **{"device": "cpu", **options})


def test_a_preprocessor_of_another_size_than_the_model_is_refused(tmp_path):
    folder = write_v2(tmp_path)
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"size": 45', '"size": 46'))
    with pytest.raises(ConfigError, match="images of 46 px, the model takes 45 px"):
        JinaClipEncoder.load(folder, device="cpu")


def test_damaged_weights_give_an_error_and_not_a_vector_of_nan(tmp_path):
    encoder = JinaClipEncoder.load(write_v2(tmp_path), runtime="torch", device="cpu")
    with torch.no_grad():
        dict(EncoderModule(encoder).towers.named_parameters())["text.layers.1.norm_2.bias"][3] = float("nan")
    with pytest.raises(CheckpointError, match="item 0: the model gave NaN"):
        encoder.encode_text(["a"])


def test_bad_images_are_collected_where_the_caller_wants_to_keep_the_others(v2):
    good = [picture(150, 100, seed=1), picture(40, 40, seed=2)]
    failed: dict[int, ImageDecodeError] = {}
    rows = v2.encode_image([b"bad", good[0], "", good[1], b""], failed=failed)
    assert np.array_equal(rows, v2.encode_image(good))
    assert [(at, str(error)[:6]) for at, error in failed.items()] == [(0, "item 0"), (2, "item 2"), (4, "item 4")]
    failed.clear()
    tiled = v2.encode_image_tiles([good[0], b"bad", good[1], b"bad"], failed=failed)
    assert list(failed) == [1, 3]
    for found, expected in zip(tiled, v2.encode_image_tiles(good), strict=True):
        assert np.array_equal(found.vectors, expected.vectors)
        assert np.array_equal(found.boxes, expected.boxes)
    assert v2.encode_image([b"bad"], truncate_dim=8, failed=failed).shape == (0, 8)
    assert v2.encode_image_tiles([b"bad"], failed=failed) == []


def test_options_are_checked_before_the_first_image(v2):
    for encode in (v2.encode_image, v2.encode_image_tiles):
        with pytest.raises(ConfigError, match="`resize_mode` is 'nope'"):
            encode([], resize_mode="nope")
        with pytest.raises(ConfigError, match="`resampling` is 'nope'"):
            encode([], resampling="nope")
    with pytest.raises(ConfigError, match=r"`tiling` is 4: .*Tiling"):
        v2.encode_image_tiles([picture(9, 9)], tiling=4)
