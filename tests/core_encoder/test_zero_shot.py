"""Zero-shot classification: known answers with nano, templates, ties, probabilities, and what is refused."""

import itertools
import json
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core_encoder import ConfigError, EmbeddingDimError, ImageDecodeError, InputError, JinaClipEncoder, LabelClassifier
from core_encoder.encoder_module import EncoderModule
from core_encoder.errors import CheckpointError
from core_encoder.exporting import export_onnx
from core_encoder.labels import check_labels
from core_encoder.logit_scale import read_logit_scale
from core_encoder.matryoshka import normalize
from core_encoder.nano.scenes import COLOURS, HELD_OUT_PAIRS, PLACES, SHAPES, Scene, SceneObject, draw_scene
from tests.checkpoints import V1_TINY, V2_TINY

LANGUAGES = ["a red circle", "ein grüner Stern", "un cœur bleu", "黄色い三角形", "un cuadrado morado"]
SHOWN = [("red", "circle"), ("green", "star"), ("blue", "heart"), ("yellow", "triangle"), ("purple", "square")]


def picture(colour, shape, place="centre", seed=1):
    item = SceneObject(shape=shape, colour=colour, size="large", place=place)
    return draw_scene(Scene(objects=(item,)), seed=seed).image


def softmax(scores, scale):
    shares = np.exp(np.float64(scale) * np.asarray(scores, np.float64))
    return shares / shares.sum()


@pytest.fixture(scope="module")
def encoder():
    return JinaClipEncoder.load("nano")


@pytest.fixture(scope="module")
def classes():
    """32 labels, and 4 pictures of each."""
    rng = np.random.default_rng(0)
    pairs = [(shape, colour) for shape in SHAPES for colour in COLOURS if (shape, colour) not in HELD_OUT_PAIRS]
    chosen = [pairs[at] for at in rng.permutation(len(pairs))[:32]]
    pictures = [
        picture(colour, shape, PLACES[rng.integers(len(PLACES))], seed=4 * at + copy)
        for at, (shape, colour) in enumerate(chosen)
        for copy in range(4)
    ]
    return [f"a {colour} {shape}" for shape, colour in chosen], pictures


@pytest.mark.parametrize(("dim", "least"), [(None, 1.0), (64, 1.0), (16, 0.98)])
def test_nano_names_128_pictures_of_32_classes(encoder, classes, dim, least):
    labels, pictures = classes
    found = LabelClassifier(encoder, labels, truncate_dim=dim).classify(pictures, top=1)
    right = [result[0].label == labels[at // 4] for at, result in enumerate(found)]
    assert np.mean(right) >= least


def test_labels_in_several_languages_are_found(encoder):
    found = LabelClassifier(encoder, LANGUAGES).classify([picture(*shown) for shown in SHOWN], top=1)
    assert [result[0].label for result in found] == LANGUAGES


@pytest.mark.parametrize("dim", [None, 16])
def test_a_score_is_the_cosine_of_the_vectors_of_the_encoder(encoder, dim):
    pictures = [picture(*shown) for shown in SHOWN]
    texts, images = encoder.encode_text(LANGUAGES, truncate_dim=dim), encoder.encode_image(pictures, truncate_dim=dim)
    found = LabelClassifier(encoder, LANGUAGES, truncate_dim=dim).classify(pictures)
    for image, result in zip(images, found, strict=True):
        scores = {one.label: one.score for one in result}
        assert [scores[label] for label in LANGUAGES] == pytest.approx(texts @ image, abs=1e-6)


def test_a_shortened_vector_is_the_whole_one_cut_and_scaled(encoder):
    whole = encoder.encode_text(LANGUAGES, normalize=False)
    short = LabelClassifier(encoder, LANGUAGES, truncate_dim=16)
    assert short.vectors == pytest.approx(normalize(whole[:, :16].copy()), abs=1e-7)
    assert short.vectors.shape == (5, 16)


@pytest.mark.parametrize("folder", [V1_TINY, V2_TINY], ids=["v1", "v2"])
def test_several_templates_give_the_mean_of_their_unit_vectors(folder):
    encoder = JinaClipEncoder.load(folder)
    labels, templates = ["a cat", "a dog", "two words"], ["{}", "a photo of {}.", "{c}, drawn"]
    classifier = LabelClassifier(encoder, labels, templates)
    for label, vector in zip(labels, classifier.vectors, strict=True):
        rows = encoder.encode_text([label, f"a photo of {label}.", f"{label}, drawn"])
        mean = rows.mean(axis=0)
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
        assert np.linalg.norm(mean) < 1 - 1e-5  # else the mean shows nothing
    assert np.linalg.norm(classifier.vectors, axis=1) == pytest.approx(1, abs=1e-6)


def test_many_labels_are_encoded_a_part_at_a_time(encoder, monkeypatch):
    whole = LabelClassifier(encoder, LANGUAGES, ["{}", "a picture of {}"]).vectors
    monkeypatch.setattr("core_encoder.zero_shot._TEXTS_AT_ONCE", 4)
    assert LabelClassifier(encoder, LANGUAGES, ["{}", "a picture of {}"]).vectors == pytest.approx(whole, abs=1e-6)


def test_labels_get_no_query_prefix():
    encoder = JinaClipEncoder.load(V2_TINY)
    assert encoder.query_task is not None
    prefixed = encoder.encode_text(["a cat"], task=encoder.query_task)
    assert np.abs(LabelClassifier(encoder, ["a cat"]).vectors - prefixed).max() > 1e-3
    assert LabelClassifier(encoder, ["a cat"]).vectors == pytest.approx(encoder.encode_text(["a cat"]), abs=1e-6)


def test_the_nearest_comes_first_and_equal_labels_keep_their_order(encoder):
    # nano reads small letters only, so the two spellings have one vector.
    classifier = LabelClassifier(encoder, ["blue", "a red circle", "red", "A RED CIRCLE", "green"])
    (whole,) = classifier.classify([picture("red", "circle")])
    assert [one.label for one in whole[:2]] == ["a red circle", "A RED CIRCLE"]
    assert [one.score for one in whole] == sorted((one.score for one in whole), reverse=True)
    assert classifier.classify([picture("red", "circle")], top=2) == [whole[:2]]
    assert classifier.classify([picture("red", "circle")], top=99) == [whole]


def test_many_equal_labels_keep_their_order(encoder):
    # nano reads small letters only.
    labels = ["".join(pair) for pair in itertools.product(*zip("red circle", "RED CIRCLE", strict=True))][:1023]
    labels = list(dict.fromkeys(labels))
    (found,) = LabelClassifier(encoder, labels).classify([picture("red", "circle")])
    assert [one.label for one in found] == labels


def test_a_score_does_not_depend_on_what_is_classified_with_it(encoder, classes):
    labels, pictures = classes
    vectors = encoder.encode_image(pictures)
    classifier = LabelClassifier(encoder, labels)
    assert [classifier.rank(vectors[at : at + 1])[0] for at in range(8)] == classifier.rank(vectors)[:8]
    few = LabelClassifier(encoder, labels[:3])
    for whole, part in zip(classifier.rank(vectors[:8]), few.rank(vectors[:8]), strict=True):
        scores = {one.label: one.score for one in whole}
        assert [one.score for one in part] == pytest.approx([scores[one.label] for one in part], abs=1e-6)


@pytest.mark.parametrize(("source", "scale"), [("nano", 3.849609375), (V1_TINY, 2.9), (V2_TINY, 2.900390625)])
def test_probabilities_are_the_softmax_over_all_labels_at_the_models_temperature(source, scale):
    classifier = LabelClassifier(JinaClipEncoder.load(source), LANGUAGES)
    (whole,) = classifier.classify([picture("red", "circle")], probabilities=True)
    shares = [one.probability or 0.0 for one in whole]
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    assert shares == pytest.approx(softmax([one.score for one in whole], np.exp(scale)), rel=1e-5)
    (first,) = classifier.classify([picture("red", "circle")], probabilities=True, top=1)
    assert first == whole[:1]  # of all labels, also if only one is shown
    (plain,) = classifier.classify([picture("red", "circle")])
    assert {one.probability for one in plain} == {None}


def test_an_exported_model_keeps_its_temperature(tmp_path):
    out = export_onnx("nano", tmp_path / "out")
    (found,) = LabelClassifier(JinaClipEncoder.load(out), LANGUAGES).classify(
        [picture("red", "circle")], probabilities=True
    )
    (expected,) = LabelClassifier(JinaClipEncoder.load("nano"), LANGUAGES).classify(
        [picture("red", "circle")], probabilities=True
    )
    assert [one.probability for one in found] == pytest.approx([one.probability for one in expected], rel=1e-4)
    about = json.loads((out / "export.json").read_text())
    del about["logit_scale"]
    (out / "export.json").write_text(json.dumps(about))
    with pytest.raises(ConfigError, match="an earlier version exported it; export it again"):
        LabelClassifier(JinaClipEncoder.load(out), LANGUAGES).classify([], probabilities=True)


def test_an_encoder_without_files_has_scores_and_no_probabilities(encoder):
    parts = JinaClipEncoder(encoder.runtime, encoder.tokenizer, encoder.preprocessing, name="mine")
    classifier = LabelClassifier(parts, LANGUAGES)
    assert classifier.classify([picture("red", "circle")], top=1)[0][0].label == LANGUAGES[0]
    with pytest.raises(ConfigError, match="'mine' comes without: load it with"):
        classifier.classify([picture("red", "circle")], probabilities=True)


def test_a_moved_module_keeps_its_temperature():
    module = EncoderModule.load("nano", device="cpu").float()
    (found,) = LabelClassifier(module.encoder, LANGUAGES).classify([picture("red", "circle")], probabilities=True)
    assert sum(one.probability or 0.0 for one in found) == pytest.approx(1)


def test_a_bad_image_is_reported_and_the_others_are_classified(encoder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    images = [picture(*SHOWN[0]), tmp_path / "bad.png", picture(*SHOWN[1])]
    classifier = LabelClassifier(encoder, LANGUAGES)
    failed: dict[int, ImageDecodeError] = {}
    found = classifier.classify(images, top=1, failed=failed)
    assert [result[0].label for result in found] == LANGUAGES[:2]
    assert list(failed) == [1]
    with pytest.raises(ImageDecodeError, match="item 1"):
        classifier.classify(images)
    streamed = list(classifier.stream(iter(images), top=1))
    assert [streamed[0], streamed[2]] == found
    assert isinstance(streamed[1], ImageDecodeError)


def test_a_stream_asks_for_few_images_ahead(encoder):
    asked = []

    def images():
        for at in range(100_000):
            asked.append(at)
            yield picture("red", "circle")

    stream = LabelClassifier(encoder, LANGUAGES).stream(images(), top=1)
    next(stream)
    stream.close()
    assert len(asked) < 1000


def test_nothing_gives_nothing(encoder):
    classifier = LabelClassifier(encoder, LANGUAGES)
    assert classifier.classify([]) == []
    assert classifier.rank(np.zeros((0, 128), np.float32)) == []


def test_braces_in_labels_and_templates_are_only_letters(encoder):
    classifier = LabelClassifier(encoder, ["{}", "{c} {0} {x}", "100 % {"], ["{} in {brackets}", "{c}: {{c}}"])
    expected = normalize(
        np.stack(
            [
                encoder.encode_text([f"{label} in {{brackets}}", f"{label}: {{{label}}}"]).mean(axis=0)
                for label in ("{}", "{c} {0} {x}", "100 % {")
            ]
        )
    )
    assert classifier.vectors == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], ["{}"], "there are no labels: one at least is needed"),
        (["a"], [], "there are no templates: one at least is needed"),
        ("a cat", ["{}"], "`labels` is one str"),
        (["a"], "a {}", "`templates` is one str"),
        (["a", "b", 3], ["{}"], "`labels` item 2 is int: a str is needed"),
        (["a", " \t"], ["{}"], "`labels` item 1 is blank: write a label, or remove it"),
        (["a", "\u200b"], ["{}"], "`labels` item 1 is blank"),
        (["a", "b", " a"], ["{}"], "`labels` item 2 is ' a', which is `labels` item 0 already"),
        (["caf\u00e9", "cafe\u0301"], ["{}"], "which is `labels` item 0 already"),
        (["a", "b\ud800"], ["{}"], "`labels` item 1 holds half of a surrogate pair"),
        (["a"], ["{}", ""], "`templates` item 1 is blank: write a template"),
        (["a"], ["{}", "a photo"], "`templates` item 1 is 'a photo': it needs {} or {c}"),
        (["a"], ["a {class}"], "`templates` item 0 is 'a {class}': it needs {} or {c}"),
        (["a"], ["{}", "{}"], "`templates` item 1 is '{}', which is `templates` item 0 already"),
    ],
)
def test_labels_and_templates_that_cannot_be_meant_are_refused(encoder, labels, templates, message):
    with pytest.raises(InputError) as caught:
        LabelClassifier(encoder, labels, templates)
    assert message in str(caught.value)


def test_who_reads_labels_from_elsewhere_says_where_they_are():
    with pytest.raises(InputError, match=r"^line 9 is 'a', which is line 4 already: remove one of them$"):
        check_labels(["a", "a"], ["line 4", "line 9"])


@pytest.mark.parametrize("top", [0, -1, True, 1.5, "3"])
def test_a_number_of_labels_that_is_none_is_refused(encoder, top):
    with pytest.raises(ConfigError, match="`top` is"):
        LabelClassifier(encoder, LANGUAGES).classify([], top=top)


def test_dimensions_that_the_model_does_not_have_are_refused(encoder):
    with pytest.raises(EmbeddingDimError, match=r"use 1\.\.128"):
        LabelClassifier(encoder, LANGUAGES, truncate_dim=129)
    with pytest.raises(EmbeddingDimError, match=r"\(B, 128\) is needed"):
        LabelClassifier(encoder, LANGUAGES).rank(np.zeros((1, 64), np.float32))


def test_the_temperature_is_read_in_every_number_format(tmp_path):
    header = json.dumps({"logit_scale": {"dtype": "BF16", "shape": [], "data_offsets": [2, 4]}}).encode()
    content = struct.pack("<Q", len(header)) + header + b"\0\0" + struct.pack("<H", 0x4060)
    (tmp_path / "bf16").write_bytes(content)
    assert read_logit_scale(tmp_path / "bf16") == 3.5
    for dtype in (np.float16, np.float32):
        save_file({"a": np.zeros(3, np.int8), "logit_scale": np.array(3.5, dtype)}, tmp_path / "weights")
        assert read_logit_scale(tmp_path / "weights") == 3.5


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b"nope"],
)
def test_weights_without_a_temperature_are_an_error(tmp_path, content):
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged, or has no number logit_scale"):
        read_logit_scale(tmp_path / "weights")


@pytest.mark.parametrize("scale", [np.nan, np.inf, 1000])
def test_a_temperature_that_is_none_is_an_error(tmp_path, scale):
    shutil.copytree(V1_TINY, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    save_file({**weights, "logit_scale": np.array(scale, np.float32)}, tmp_path / "model" / "model.safetensors")
    classifier = LabelClassifier(JinaClipEncoder.load(tmp_path / "model"), LANGUAGES)
    with pytest.raises(CheckpointError, match="logit_scale is"):
        classifier.classify([], probabilities=True)


def test_weights_that_are_gone_are_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_logit_scale(tmp_path / "weights")
