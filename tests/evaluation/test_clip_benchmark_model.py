"""Our models in clip-benchmark, and its metrics on recorded features."""

import gc
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core_encoder import JinaClipEncoder
from core_encoder.errors import EmbeddingDimError, ImageDecodeError
from core_encoder.nano.wording import LANGUAGES
from jclip_connectors.errors import EmbedInputError, EvaluationError
from jclip_connectors.evaluation.clip_benchmark_synthetic import write_synthetic
from jclip_connectors.evaluation.job import Job, ModelChoice
from jclip_connectors.evaluation.synthetic import LABELLINGS, synthetic_objects, synthetic_samples
from tests.checkpoints import V1_TINY, V2_TINY
from tests.evaluation.test_clip_benchmark_folders import requests
from tests.late import late

pytestmark = pytest.mark.slow  # the harness takes long to load
pytest.importorskip("clip_benchmark", reason="the extra 'eval' is not installed")
model = late("jclip_connectors.evaluation.clip_benchmark_model")
features = late("jclip_connectors.evaluation.clip_benchmark_features")
reading = late("jclip_connectors.evaluation.clip_benchmark_reading")
scores = late("jclip_connectors.evaluation.clip_benchmark_scores")
torch = late("torch")

TEXTS = ["a large red circle", "", "ein kleiner Stern", "a red circle left of a blue square " * 20]


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(72, 72), (45, 45), (36, 36), (90, 61), (30, 200), (512, 384)]
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes]


@pytest.mark.parametrize("source", ["nano", V1_TINY, V2_TINY])
@pytest.mark.parametrize("dimensions", [None, 16])
@pytest.mark.filterwarnings("ignore:.*was not trained for shortened vectors")
def test_the_vectors_in_the_harness_are_the_encoders_bit_for_bit(source, dimensions):
    harness_model, transform, tokenizer = model().load(
        model_name=str(source), pretrained=str(dimensions or "full"), cache_dir=None, device="cpu"
    )
    encoder = JinaClipEncoder.load(source, device="cpu")
    harness_model.eval()
    batch = torch().stack([transform(picture) for picture in pictures()]).to("cpu")
    expected = encoder.encode_image(pictures(), truncate_dim=dimensions)
    assert harness_model.encode_image(batch).numpy().tobytes() == expected.tobytes()
    tokens = tokenizer(TEXTS).to("cpu")
    expected = encoder.encode_text(TEXTS, truncate_dim=dimensions)
    assert harness_model.encode_text(tokens).numpy().tobytes() == expected.tobytes()


def test_a_picture_of_16_bits_is_refused_as_the_encoder_refuses_it():
    with pytest.raises(ImageDecodeError, match="16"):
        model().HarnessModel(JinaClipEncoder.load("nano"), None).square(Image.new("I;16", (80, 80), 40000))


def test_weights_of_another_activation_are_refused_with_the_right_name(tmp_path):

    choice = ModelChoice.parse("open_clip:ViT-B-16,openai")
    job = Job(
        model=choice, dimensions=None, variants=("float32",), tasks=(), data=tmp_path, synthetic=False,
        download=False, limit=None, out=tmp_path,
    )  # fmt: skip
    with pytest.raises(EvaluationError, match="ViT-B-16-quickgelu,openai"), features().open_features(job):
        pass


def test_mixed_precision_is_refused():
    harness_model, transform, tokenizer = model().load("nano", "full", None, "cpu")
    with torch().autocast("cpu"), pytest.raises(EmbedInputError, match="--no_amp"):
        harness_model.encode_text(tokenizer(TEXTS))
    with torch().autocast("cpu"), pytest.raises(EmbedInputError, match="--no_amp"):
        harness_model.encode_image(torch().stack([transform(pictures()[0])]))


@pytest.mark.parametrize(
    ("pretrained", "cache_dir", "error", "named"),
    [
        ("openai", None, EmbedInputError, "--pretrained"),
        ("129", None, EmbeddingDimError, "1..128"),
        ("full", "/cache", EmbedInputError, "HF_HOME"),
    ],
)
def test_what_the_model_does_not_have_is_refused_when_it_is_loaded(pretrained, cache_dir, error, named):
    with pytest.raises(error, match=named):
        model().load("nano", pretrained, cache_dir, "cpu")


OURS = ["eval", "--model_type", "jclip", "--model", "nano"]


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        (OURS, [*OURS, "--no_amp", "--num_workers", "0"]),
        ([*OURS, "--no_amp", "--num_workers=0"], [*OURS, "--no_amp", "--num_workers=0"]),
        (["eval", "--model_type=jclip", "--no_amp"], ["eval", "--model_type=jclip", "--no_amp", "--num_workers", "0"]),
        (["eval", "--model_type", "open_clip", "--num_workers", "4"],) * 2,
        (["build", "a.json"],) * 2,
        ([],) * 2,
    ],
)
def test_the_command_gets_what_our_models_need(given, completed):
    assert model().harness_arguments(given) == completed


@pytest.mark.parametrize(
    "option", [["--num_workers", "4"], ["--num_workers=2"], ["--num_workers", "0", "--num_workers=1"]]
)
def test_workers_are_refused(option):
    with pytest.raises(EmbedInputError, match="--num_workers"):
        model().harness_arguments([*OURS, *option])


def test_the_command_says_what_is_wrong_without_a_traceback():
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "jclip_connectors.evaluation.clip_benchmark_model", *OURS, "--num_workers", "4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("`--num_workers` is 4")


def test_accuracy_counts_the_right_class_among_the_first_k_even_if_there_are_fewer_classes():
    output = torch().tensor([[0.1, 0.9, 0.0], [0.8, 0.1, 0.3], [0.0, 0.2, 0.7], [0.5, 0.4, 0.6]])
    target = torch().tensor([1, 2, 2, 1])
    assert model().accuracy(output, target, topk=(1, 2, 5)) == [0.5, 0.75, 1.0]


@pytest.fixture(scope="module")
def nano():
    return JinaClipEncoder.load("nano")


@pytest.fixture(scope="module")
def languages(nano):
    """100 pictures with five captions each, for every language that nano knows."""
    samples = synthetic_samples(100)
    pictures_of_all = nano.encode_image([sample.picture for sample in samples], normalize=False)
    return {
        language: reading().Retrieval(
            picture_ids=[f"{number}.jpg" for number in range(len(samples))],
            pictures=pictures_of_all,
            texts=nano.encode_text([text for sample in samples for text in sample.captions[language]], normalize=False),
            owners=np.repeat(np.arange(len(samples)), 5),
        )
        for language in LANGUAGES
    }


RECALLS = ("text_retrieval_recall@5", "image_retrieval_recall@5")


def recalls(data, variant="float32", dimensions=128):
    found = scores().retrieval_scores(data, RECALLS, dimensions=dimensions, variant=variant, batch_size=64)
    return np.array([score.value for score in found])


def test_captions_of_other_pictures_find_as_much_as_chance(languages):
    rng = np.random.default_rng(0)
    right = languages["en"]
    permuted = [recalls(replace(right, pictures=right.pictures[rng.permutation(100)])) for _ in range(10)]
    # 5 of 100 pictures; and at least one of 5 captions among 5 of 500
    np.testing.assert_allclose(np.mean(permuted, axis=0), [0.05, 0.05], atol=0.02)
    assert (recalls(right) > 0.6).all()


def test_recall_counts_pictures_with_one_right_caption_among_five_and_not_the_share_of_captions():
    texts = np.zeros((10, 4), np.float32)
    texts[:4, 1], texts[4, :2] = 1, [0.9, 0.4]  # the first picture's: all but one are nearer to the second picture
    texts[5:] = [0.5, 0.1, 0.6, 0.6]  # the second's: nearer to the first than four of its own
    data = reading().Retrieval(
        picture_ids=["a", "b"],
        pictures=np.eye(2, 4, dtype=np.float32),
        texts=texts,
        owners=np.repeat([0, 1], 5),
    )
    metrics = ["text_retrieval_recall@1", "text_retrieval_recall@2", "text_retrieval_recall@5"]
    found = scores().retrieval_scores(data, metrics, dimensions=4, variant="float32", batch_size=64)
    assert [score.value for score in found] == [0.5, 0.5, None]  # recall@5 of 2 pictures is not defined


def classification(nano, name, labels=None):
    labelling = LABELLINGS[name]
    objects = synthetic_objects(64)
    texts = [template.format(c=one) for one in labelling.classes for template in labelling.templates]
    return reading().Classification(
        pictures=nano.encode_image([picture for picture, _ in objects], normalize=False),
        labels=np.array([labelling.label(item) for _, item in objects]) if labels is None else labels,
        classes=labelling.classes,
        templates=labelling.templates,
        texts=texts,
        text_features=nano.encode_text(texts, normalize=False),
    )


ACCURACIES = ("acc1", "acc5", "mean_per_class_recall")


def accuracies(data, variant="float32"):
    found = scores().classification_scores(data, ACCURACIES, dimensions=128, variant=variant, batch_size=10)
    return [score.value for score in found]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_labels_that_are_drawn_give_chance(nano):
    rng = np.random.default_rng(0)
    found = [accuracies(classification(nano, "shape", rng.integers(0, 10, 64))) for _ in range(10)]
    np.testing.assert_allclose(np.mean(found, axis=0), [0.1, 0.5, 0.1], atol=0.04)
    assert accuracies(classification(nano, "shape"))[0] > 0.5


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_the_first_five_of_two_classes_are_no_metric(nano, variant):
    acc1, acc5, recall = accuracies(classification(nano, "size"), variant)
    assert acc5 is None
    assert min(acc1, recall) > 0.8


class CountingFeatures:
    """Random vectors, and how many pictures were asked for."""

    def __init__(self):
        self.asked = 0

    def pictures(self, pictures):
        self.asked += len(pictures)
        return np.stack([np.asarray(picture.resize((4, 4)), np.float32).ravel() for picture in pictures])

    def texts(self, texts, *, language):
        return np.ones((len(texts), 48), np.float32) * len(language)


def test_pictures_of_several_languages_are_opened_once_and_a_missing_one_is_named(tmp_path):
    write_synthetic(tmp_path, requests("crossmodal3600"), pictures=12)
    root, features = tmp_path / "crossmodal3600", CountingFeatures()
    reader = reading().Reader(features, batch_size=5, limit=None, download=False)
    read = [reader.retrieval("crossmodal3600", "test", code, root, lambda _: None) for code in ("en", "de", "fil")]
    assert features.asked == 12
    assert all((one.pictures == read[0].pictures).all() for one in read)
    assert [len(one.texts) for one in read] == [12] * 3
    (root / "xm3600" / "images" / "0007.jpg").unlink()
    fresh = reading().Reader(features, batch_size=5, limit=None, download=False)
    with pytest.raises(EvaluationError, match=r"crossmodal3600.*0007\.jpg"):
        fresh.retrieval("crossmodal3600", "test", "en", root, lambda _: None)


@pytest.mark.filterwarnings("ignore:WebDataset.shardshuffle", "ignore::ResourceWarning")
def test_a_label_without_a_class_is_named(tmp_path):
    write_synthetic(tmp_path, requests("wds/mnist"), pictures=12)
    classes = tmp_path / "wds_mnist" / "classnames.txt"
    classes.write_text(classes.read_text().splitlines()[0])
    reader = reading().Reader(CountingFeatures(), batch_size=5, limit=None, download=False)
    with pytest.raises(EvaluationError, match=r"wds/mnist.*1 names of classes"):
        reader.classification("wds/mnist", "test", "en", str(tmp_path / "wds_mnist"), lambda _: None)
    del reader
    gc.collect()  # webdataset leaves the tars open
