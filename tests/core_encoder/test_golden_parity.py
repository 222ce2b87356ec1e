"""The encoder against outputs of the reference implementation, kept in tests/golden; a missing file fails."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from core_encoder import JinaClipEncoder
from core_encoder.config import read_config
from core_encoder.image_preprocess import PreprocessConfig, preprocess_batch
from core_encoder.tokenization import pack
from core_encoder.torch.attention import Packing
from core_encoder.torch.loading import load_model
from tests.checkpoints import V1_TINY, V2_TINY

UNIT, RAW = 3e-5, 1e-4
pytestmark = pytest.mark.filterwarnings("ignore:1 of 18 texts were cut to 512 tokens")
FOLDERS = {"v1": V1_TINY, "v2": V2_TINY}


class Golden:
    def __init__(self, folder, runtime):
        self.folder = folder
        self.expected = dict(np.load(folder / "expected.npz"))
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.texts = json.loads((folder / "texts.json").read_text())
        self.encoder = JinaClipEncoder.load(folder, runtime=runtime)
        config = read_config(folder)
        self.model = load_model(folder, config, device=torch.device("cpu"), dtype=torch.float32)
        self.pad = config.text.pad_token_id

    def image(self, name):
        """The path, or the pixels that the reference decoded where decoders may differ (JPEG)."""
        decoded = self.expected.get(f"decoded__{name}")
        return self.folder / "images" / name if decoded is None else decoded

    @property
    def images(self):
        return [self.image(name) for name in self.manifest["image_names"]]

    def close(self, actual, name, tolerance):
        expected = self.expected[name]
        assert actual.shape == expected.shape
        assert actual.dtype == np.float32
        assert np.abs(actual - expected).max() <= tolerance


@pytest.fixture(scope="module", params=["torch", "onnx"])
def runtime(request):
    return request.param


@pytest.fixture(scope="module", params=["v1", "v2"])
def golden(request, runtime):
    return Golden(FOLDERS[request.param], runtime)


@pytest.fixture(scope="module")
def v2(runtime):
    return Golden(V2_TINY, runtime)


def test_the_goldens_hold_what_these_tests_compare(golden):
    assert len(golden.manifest["image_names"]) == 16
    assert len(golden.texts) == 18
    assert golden.manifest["made_with"]["dtype"] == "float32"


def test_text_embeddings(golden):
    golden.close(golden.encoder.encode_text(golden.texts, max_tokens=512), "text_embeddings", UNIT)


def test_text_features_before_normalisation(golden):
    features = golden.encoder.encode_text(golden.texts, max_tokens=512, normalize=False)
    golden.close(features, "text_features", RAW)
    golden.close(features, "text_embeddings_unnormalized", RAW)


def test_text_with_the_query_prefix(v2):
    actual = v2.encoder.encode_text(v2.texts, task="retrieval.query", max_tokens=512)
    v2.close(actual, "text_embeddings_task_retrieval_query", UNIT)
    assert np.abs(actual - v2.expected["text_embeddings"]).max() > 0.01  # the prefix does something


@pytest.mark.filterwarnings("ignore:.*was not trained for shortened vectors")
def test_truncated_embeddings_of_texts_and_images(golden):
    for dim in golden.manifest["truncate_dims"]:
        texts = golden.encoder.encode_text(golden.texts, max_tokens=512, truncate_dim=dim)
        golden.close(texts, f"text_embeddings_trunc{dim}", UNIT)
        golden.close(golden.encoder.encode_image(golden.images, truncate_dim=dim), f"image_embeddings_trunc{dim}", UNIT)


@pytest.mark.parametrize("rows", ["raw", "long", "padliteral"])
def test_rows_of_token_ids_up_to_1992_tokens_and_with_literal_pad_tokens(golden, rows):
    packed = pack(golden.expected[f"{rows}_input_ids"].tolist(), pad_token_id=golden.pad)
    features = golden.encoder.runtime.text_features(packed)
    golden.close(features, f"{rows}_features", RAW)


def test_a_literal_pad_token_in_a_text_reaches_the_encoder(golden):
    features = golden.encoder.encode_text(golden.manifest["padliteral_texts"], normalize=False)
    golden.close(features, "padliteral_features", RAW)
    assert np.abs(features[0] - features[1]).max() > 1e-3  # the gap it leaves moves the tokens behind it


def test_a_text_longer_than_the_references_512_tokens_is_encoded_whole_by_default(golden):
    ids = golden.expected["long_input_ids"][0].tolist()
    whole = [text for text in golden.texts if golden.encoder.count_tokens([text]) == [len(ids)]]
    assert len(whole) == 1
    golden.close(golden.encoder.encode_text(whole, normalize=False), "long_features", RAW)


def test_hidden_states_of_single_tokens(golden):
    for ids, expected in zip(
        golden.expected["text_input_ids"][:4, :24], golden.expected["text_hidden_first4"], strict=True
    ):
        packed = pack([ids.tolist()], pad_token_id=golden.pad)
        layout = Packing.of(packed.lengths, torch.from_numpy(packed.positions), torch.device("cpu"))
        hidden = golden.model.text.hidden_states(torch.from_numpy(packed.input_ids), layout).numpy()
        assert np.abs(hidden - expected[ids != golden.pad]).max() <= RAW


def test_pixel_values(golden):
    config = PreprocessConfig.from_json(json.loads((golden.folder / "preprocessor_config.json").read_text()))
    for image, expected in zip(golden.images, golden.expected["pixel_values"], strict=True):
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else Image.open(image).convert("RGB")
        assert np.abs(preprocess_batch([picture], config)[0] - expected).max() <= 1e-6


def test_image_embeddings_and_features(golden):
    golden.close(golden.encoder.encode_image(golden.images), "image_embeddings", UNIT)
    golden.close(golden.encoder.encode_image(golden.images, normalize=False), "image_features", RAW)


def test_image_tower_on_random_pixels(golden):
    pixels = torch.from_numpy(golden.expected["random_pixels"])
    if golden.encoder.runtime.name == "onnx":
        features = golden.encoder.runtime.pixel_features(golden.expected["random_pixels"])
    else:
        features = golden.model.vision(pixels).numpy()
    golden.close(features, "random_pixels_features", RAW)
    golden.close(golden.model.vision.hidden_states(pixels[:1]).numpy(), "vision_tokens_random0", RAW)


def test_logits_of_images_and_texts(golden):
    images = torch.from_numpy(golden.encoder.encode_image(golden.images[:4], normalize=False))
    texts = torch.from_numpy(golden.encoder.encode_text(golden.texts[:5], max_tokens=512, normalize=False))
    golden.close(golden.model.similarity(images, texts).numpy(), "logits_per_image", 1e-3)  # scaled by about 14
