import numpy as np
import pytest

from core_encoder import JinaClipEncoder
from core_encoder.nano.wording import LANGUAGES
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.evaluation import synthetic
from jclip_connectors.evaluation.synthetic import (
    CAPTIONS_PER_PICTURE,
    LABELLINGS,
    known_language,
    synthetic_objects,
    synthetic_samples,
)


@pytest.fixture(scope="module")
def nano():
    return JinaClipEncoder.load("nano")


@pytest.fixture(scope="module")
def samples():
    return synthetic_samples(64)


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(samples):
    again, other = synthetic_samples(64), synthetic_samples(64, seed=1)
    assert [sample.captions for sample in samples] == [sample.captions for sample in again]
    assert [sample.picture.tobytes() for sample in samples] == [sample.picture.tobytes() for sample in again]
    assert all(
        first.picture.tobytes() != second.picture.tobytes() for first, second in zip(samples, other, strict=True)
    )


def test_no_two_captions_of_a_language_are_equal(samples):
    for language in LANGUAGES:
        captions = [caption for sample in samples for caption in sample.captions[language]]
        assert len(captions) == len(set(captions)) == CAPTIONS_PER_PICTURE * len(samples)


def test_more_captions_than_differ_are_refused(monkeypatch):
    monkeypatch.setattr(synthetic, "write", lambda *_: "a shape and a shape")
    with pytest.raises(EmbedInputError, match="fewer pictures"):
        synthetic_samples(1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_bundled_model_finds_most_pictures_and_captions_among_five_but_not_all(samples, nano, language):
    pictures = nano.encode_image([sample.picture for sample in samples])
    texts = nano.encode_text([caption for sample in samples for caption in sample.captions[language]])
    scores = texts @ pictures.T
    owner = np.repeat(np.arange(len(samples)), CAPTIONS_PER_PICTURE)
    found_pictures = (np.argsort(-scores, axis=1)[:, :5] == owner[:, None]).any(axis=1)
    found_texts = (owner[np.argsort(-scores.T, axis=1)[:, :5]] == np.arange(len(samples))[:, None]).any(axis=1)
    for found in (found_pictures, found_texts):
        assert 0.6 < found.mean() < 0.95  # chance is 0.08


def test_the_bundled_model_tells_most_classes_apart_and_small_shapes_not_always(nano):
    objects = synthetic_objects(64)
    pictures = nano.encode_image([picture for picture, _ in objects])
    right = {}
    for name, labelling in LABELLINGS.items():
        assert len(set(labelling.classes)) == len(labelling.classes)
        texts = [template.format(c=one) for one in labelling.classes for template in labelling.templates]
        classes = nano.encode_text(texts).reshape(len(labelling.classes), len(labelling.templates), -1).mean(axis=1)
        labels = np.array([labelling.label(item) for _, item in objects])
        right[name] = ((pictures @ classes.T).argmax(axis=1) == labels).mean()
    assert min(right.values()) > 0.6
    assert max(right["shape"], right["pair"]) < 0.95  # others may be known without an error


def test_captions_of_a_language_that_the_bundled_model_does_not_know_are_english():
    assert [known_language(code) for code in ("zh", "jp", "quz")] == ["zh", "en", "en"]
