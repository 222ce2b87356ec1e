import dataclasses
import hashlib
import os
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core_encoder import JinaClipEncoder, image_formats, image_input, resampling
from core_encoder.errors import CheckpointError, ConfigError
from core_encoder.nano import REVISION
from core_encoder.origin import Origin
from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.port import StreamingEmbedder
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import EmbedderContract, picture
from tests.checkpoints import write_v1, write_v2

DIMENSIONS = 16
HASH = EmbeddingConfig(model="hash", revision="1", dimensions=24)


class TestHashEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self):
        return HashEmbedder(HASH)

    @pytest.fixture
    def tiled_embedder(self):
        return HashEmbedder(dataclasses.replace(HASH, tiling=Tiling()))


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v2")
    write_v2(folder)
    return JinaClipEncoder.load(str(folder), device="cpu")


class TestLocalEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, v2):
        return LocalEmbedder(EmbeddingConfig(model=v2.name, dimensions=DIMENSIONS), encoder=v2)

    @pytest.fixture
    def tiled_embedder(self, v2):
        tiling = Tiling(max_tiles=4)
        return LocalEmbedder(EmbeddingConfig(model=v2.name, dimensions=DIMENSIONS, tiling=tiling), encoder=v2)


@pytest.mark.parametrize("tiling", [None, Tiling(max_tiles=4)])
def test_a_stream_of_images_has_the_vectors_errors_and_notes_of_a_list(v2, tmp_path, tiling):
    def embedder(notes):
        config = EmbeddingConfig(model=v2.name, dimensions=DIMENSIONS, tiling=tiling)
        return LocalEmbedder(config, encoder=v2, on_note=lambda *note: notes.append(note))

    images = [picture(0), tmp_path / "none.png", picture(1, (300, 20)), picture(2)]
    streamed: list[Any] = []
    listed: list[Any] = []
    assert isinstance(embedder(streamed), StreamingEmbedder)
    found = list(embedder(streamed).stream_images(iter(images), at_once=2))
    embed = embedder(listed).embed_images if tiling is None else embedder(listed).embed_image_tiles
    with pytest.raises(PartialFailureError) as caught:
        embed(images)
    assert streamed == listed
    assert type(found[1]) is EmbedInputError
    assert str(found[1]) == str(caught.value.failed[1])
    for at, expected in caught.value.kept.items():
        if tiling is None:
            np.testing.assert_allclose(found[at], expected, atol=1e-6)
        else:
            np.testing.assert_allclose(found[at].vectors, expected.vectors, atol=1e-6)
            np.testing.assert_array_equal(found[at].boxes, expected.boxes)


@pytest.mark.parametrize("image", ["1.png", b"png", picture(0), 5])
def test_a_stream_of_one_bare_image_is_refused_with_what_to_write(v2, image):
    embedder = LocalEmbedder(EmbeddingConfig(model=v2.name), encoder=v2)
    with pytest.raises(EmbedInputError, match=r"`images` is .*: pass a list"):
        next(embedder.stream_images(image, at_once=2))


@pytest.mark.parametrize("at_once", [0, -1])
def test_a_stream_of_less_than_one_image_at_once_is_refused_before_one_is_asked_for(v2, at_once):
    seeds = iter(range(3))
    embedder = LocalEmbedder(EmbeddingConfig(model=v2.name), encoder=v2)
    with pytest.raises(ConfigError, match="`at_once` is"):
        next(embedder.stream_images(map(picture, seeds), at_once=at_once))
    assert next(seeds) == 0


def test_hash_vectors_are_the_same_in_every_process():
    values = HashEmbedder(HASH).embed_query("red bicycle")[:4]
    np.testing.assert_allclose(values, [-0.173874, -0.165914, 0.198534, -0.11679], atol=1e-6)


def test_hash_vectors_of_texts_that_share_words_are_near():
    rows = HashEmbedder(dataclasses.replace(HASH, dimensions=256)).embed_texts(
        ["a red bicycle", "red bicycle", "stock prices"]
    )
    assert rows[0] @ rows[1] > 0.7 > 0.3 > rows[0] @ rows[2]


def test_hash_vectors_need_a_length():
    with pytest.raises(EmbedInputError, match="`dimensions`"):
        HashEmbedder(EmbeddingConfig(model="hash"))


def test_a_folder_is_loaded_and_its_queries_get_the_prefix(tmp_path):
    write_v2(tmp_path)
    embedder = LocalEmbedder(EmbeddingConfig(model=str(tmp_path)), device="cpu", local_files_only=True)
    encoder = JinaClipEncoder.load(str(tmp_path), device="cpu")
    query = encoder.encode_text(["a"], task="retrieval.query")[0]
    assert np.abs(query - encoder.encode_text(["a"])[0]).max() > 1e-3
    np.testing.assert_allclose(embedder.embed_query("a"), query, atol=1e-6)
    np.testing.assert_allclose(embedder.embed_texts(["a"]), encoder.encode_text(["a"]), atol=1e-6)


def test_a_model_without_tasks_gets_no_prefix_and_no_warning(tmp_path):
    write_v1(tmp_path)
    embedder = LocalEmbedder(EmbeddingConfig(model=str(tmp_path)), device="cpu")
    np.testing.assert_allclose(embedder.embed_query("a"), embedder.embed_texts(["a"])[0], atol=1e-6)
    whole = dataclasses.replace(embedder.config, dimensions=embedder.dimensions)
    assert LocalEmbedder(whole, device="cpu").embed_query("a").shape == (embedder.dimensions,)


def test_every_option_of_the_configuration_reaches_the_encoder(v2):
    options: dict[str, Any] = {"dimensions": 8, "normalize": False, "max_tokens": 4, "resize_mode": "squash"}
    embedder = LocalEmbedder(EmbeddingConfig(model=v2.name, **options), encoder=v2)
    text, wide = "a red circle", picture(0, (200, 100))
    with pytest.warns(UserWarning, match="1 of 1 texts were cut to 4 tokens"):
        row = embedder.embed_texts([text])
    with pytest.warns(UserWarning, match="were cut"):
        expected = v2.encode_text([text], truncate_dim=8, normalize=False, max_tokens=4)
    np.testing.assert_allclose(row, expected, atol=1e-6)
    expected = v2.encode_image([wide], truncate_dim=8, normalize=False, resize_mode="squash")
    np.testing.assert_allclose(embedder.embed_images([wide]), expected, atol=1e-6)
    assert embedder.dimensions == 8


def test_pictures_are_resized_as_the_configuration_says(v2):
    large = picture(0, (900, 700))
    rows = {}
    for how in ("exact", "fast"):
        embedder = LocalEmbedder(EmbeddingConfig(model=v2.name, resampling=how), encoder=v2)
        rows[how] = embedder.embed_images([large])
        assert np.array_equal(rows[how], v2.encode_image([large], resampling=how))
    assert np.array_equal(rows["exact"], v2.encode_image([large]))
    assert not np.array_equal(rows["exact"], rows["fast"])


def test_fast_resizing_without_its_package_is_refused_before_the_model_is_loaded(monkeypatch):
    monkeypatch.setattr(resampling, "cykooz_resizer", None)
    with pytest.raises(ConfigError, match="`resampling` is 'fast', which needs the package cykooz-resizer"):
        LocalEmbedder(EmbeddingConfig(model="/no/such/folder", resampling="fast"))


def test_photographs_are_turned_if_the_configuration_says_so(v2, tmp_path):
    exif = picture(0).getexif()
    exif[0x0112] = 6
    picture(0).save(tmp_path / "turned.png", exif=exif)
    for turn in ("as_stored", "as_seen"):
        embedder = LocalEmbedder(EmbeddingConfig(model=v2.name, rendering=turn), encoder=v2)
        expected = v2.encode_image([tmp_path / "turned.png"], rendering=turn)
        np.testing.assert_allclose(embedder.embed_images([tmp_path / "turned.png"]), expected, atol=1e-6)


def test_what_there_is_to_say_about_images_is_passed_on_with_each_image(v2, tmp_path):
    wide, ended = tmp_path / "wide.png", tmp_path / "ended.jpg"
    picture(0, (90, 30)).save(wide)
    picture(0).save(ended)
    ended.write_bytes(ended.read_bytes()[:-2])
    heard = []
    config = EmbeddingConfig(model=v2.name, tiling=Tiling(max_tiles=2))
    embedder = LocalEmbedder(config, encoder=v2, on_note=lambda image, kind, _: heard.append((image, kind)))
    embedder.embed_images([picture(1), ended, wide])
    assert heard == [(ended, "end_missing"), (wide, "centre_only")]
    heard.clear()
    with pytest.raises(PartialFailureError):
        embedder.with_config(config).embed_image_tiles([ended, tmp_path / "none.png", wide])
    assert heard == [(ended, "end_missing")]  # tiles cover all of the wide picture


def test_a_limit_of_the_configuration_is_named_with_the_way_to_raise_it(v2, tmp_path):
    picture(0).save(tmp_path / "a.png")
    for option, told in (("max_pixels", "--max-pixels"), ("max_image_bytes", "--max-bytes")):
        limited: dict[str, Any] = {option: 10}
        embedder = LocalEmbedder(EmbeddingConfig(model=v2.name, **limited), encoder=v2)
        with pytest.raises(PartialFailureError, match=f"raise `{option}` of the configuration \\({told}"):
            embedder.embed_images([tmp_path / "a.png"])


def test_an_encoder_of_another_model_is_refused(v2):
    with pytest.raises(ConfigError, match=r"`config\.model` is 'nano'"):
        LocalEmbedder(EmbeddingConfig(model="nano"), encoder=v2)


def test_options_of_loading_are_refused_with_a_loaded_encoder(v2):
    with pytest.raises(ConfigError, match="leave out `device`"):
        LocalEmbedder(EmbeddingConfig(model=v2.name), encoder=v2, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 49}, "`dimensions` is 49, but .* has only 48"),
        ({"max_tokens": 8193}, "`max_tokens` is 8193"),
        ({"max_tokens": 2}, "`max_tokens` is 2"),
        ({"precision": "bf16"}, "`precision` is 'bf16', but .* 'fp32'"),
    ],
)
def test_an_option_that_the_model_does_not_have_is_refused_before_anything_is_stored(v2, options, message):
    with pytest.raises(ConfigError, match=message):
        LocalEmbedder(EmbeddingConfig(model=v2.name, **options), encoder=v2)


def test_one_loaded_model_serves_other_options(v2):
    embedder = LocalEmbedder(EmbeddingConfig(model=v2.name), encoder=v2)
    short = embedder.with_config(dataclasses.replace(embedder.config, dimensions=8, tiling=Tiling()))
    assert (embedder.dimensions, short.dimensions) == (48, 8)
    assert short.config.tiling == Tiling()
    np.testing.assert_array_equal(short.embed_texts(["a"]), v2.encode_text(["a"], truncate_dim=8))
    with pytest.raises(ConfigError, match="`dimensions` is 49"):
        embedder.with_config(dataclasses.replace(embedder.config, dimensions=49))


@pytest.mark.parametrize("changed", [{"model": "nano"}, {"revision": "0" * 40}, {"precision": "bf16"}])
def test_other_options_are_not_another_model(v2, changed):
    embedder = LocalEmbedder(EmbeddingConfig(model=v2.name), encoder=v2)
    (name,) = changed
    with pytest.raises(ConfigError, match=f"`{name}` is "):
        embedder.with_config(dataclasses.replace(embedder.config, **changed))


@pytest.mark.parametrize("tiled", [False, True])
def test_large_images_do_not_wait_at_full_size(v2, tmp_path, monkeypatch, tiled):
    """Each reader has one of them; what waits for the model is as small as the model takes it."""
    Image.new("RGB", (3000, 2000), (200, 30, 30)).save(tmp_path / "large.png")
    decode, alive, most = image_formats.decode, set(), 0

    def counted(*arguments, **options):
        nonlocal most
        decoded = decode(*arguments, **options)
        alive.add(id(decoded.image))
        weakref.finalize(decoded.image, alive.discard, id(decoded.image))
        most = max(most, len(alive))
        return decoded

    monkeypatch.setattr(image_input, "decode", counted)
    embedder = LocalEmbedder(EmbeddingConfig(model=v2.name, tiling=Tiling(max_tiles=4)), encoder=v2)
    (embedder.embed_image_tiles if tiled else embedder.embed_images)([tmp_path / "large.png"] * 24)
    assert 1 <= most <= min(8, os.cpu_count() or 1)


def test_a_local_embedder_tells_of_what_only_a_part_counts(v2, tmp_path):
    told = []
    config = EmbeddingConfig(model=v2.name, max_tokens=8)
    embedder = LocalEmbedder(config, encoder=v2, on_note=lambda *note: told.append(note))
    Image.new("RGB", (400, 50)).save(tmp_path / "wide.png")
    short, long = "a", "a red circle " * 10
    with pytest.warns(UserWarning, match="1 of 3 texts were cut to 8 tokens"):
        embedder.embed_texts([short, long, short])
    assert [(item, kind) for item, kind, _ in told] == [(long, "text_cut")]
    assert "8 tokens" in told.pop()[2]
    embedder.embed_images([picture(0), tmp_path / "wide.png"])
    assert [(item, kind) for item, kind, _ in told] == [(tmp_path / "wide.png", "centre_only")]
    told.clear()
    tiled = embedder.with_config(dataclasses.replace(config, tiling=Tiling(max_tiles=4)))
    tiled.embed_image_tiles([tmp_path / "wide.png"])
    assert told == []


def test_a_loaded_encoder_knows_its_files_and_its_commit(v2, tmp_path):
    nano: Any = JinaClipEncoder.load("nano", device="cpu")
    assert nano.origin.revision == REVISION
    weights = (nano.origin.folder / "model.safetensors").read_bytes()
    assert nano.origin.weights_hash() == hashlib.sha256(weights).hexdigest()
    assert (v2.origin.revision, str(v2.origin.folder)) == (None, str(Path(v2.name).resolve()))
    commit = "0123456789" * 4
    shutil.copytree(nano.origin.folder, tmp_path / commit, ignore=lambda *_: ["__pycache__"])
    assert Origin.of("owner/name", tmp_path / commit).revision == commit  # as in the hub's cache
    assert Origin.of(tmp_path / commit, tmp_path / commit).revision is None


def test_an_encoder_of_another_revision_is_refused():
    nano: Any = JinaClipEncoder.load("nano", device="cpu")
    commit, name = "0123456789" * 4, "jinaai/jina-clip-v2"
    nano.name, nano.origin = name, dataclasses.replace(nano.origin, revision=commit)  # as if from the hub
    for revision in (None, "9" * 40):
        with pytest.raises(ConfigError, match=f"loaded from the revision '{commit}'"):
            LocalEmbedder(EmbeddingConfig(model=name, revision=revision), encoder=nano)
    LocalEmbedder(EmbeddingConfig(model=name, revision=commit), encoder=nano)


def test_an_encoder_whose_files_have_changed_is_refused(v2, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(v2.name, folder)
    encoder: Any = JinaClipEncoder.load(folder, device="cpu")
    config = EmbeddingConfig(model=str(folder))
    LocalEmbedder(config, encoder=encoder)
    LocalEmbedder(EmbeddingConfig(model=f"{folder}/"), encoder=encoder)  # the same folder, written otherwise
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ConfigError, match="have changed since"):
        LocalEmbedder(config, encoder=encoder)
    with pytest.raises(CheckpointError, match="have changed since"):
        encoder.origin.weights_hash()
