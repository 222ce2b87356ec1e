"""A SentenceTransformer over our encoder: every front door of the base class gives the encoder's vectors."""

import numpy as np
import pytest
import torch
from PIL import Image

from core_encoder import ConfigError, EmbeddingDimError, ImageDecodeError, InputError, JinaClipEncoder
from core_encoder.matryoshka import encode_binary, encode_ubinary
from tests.checkpoints import V1_TINY, V2_TINY, write_v1, write_v2
from tests.late import late

ours = late("jclip_connectors.sentence_transformers")
theirs = late("sentence_transformers")

UNIT = 1e-6
TEXTS = ["a red cat", "", "the cat sleeps on the beach " * 5, "红色的猫", "x"]


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


IMAGES = [picture(90, 40), picture(31, 77, 1), picture(64, 64, 2)]


def apart(a, b):
    assert a.shape == b.shape
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


class Both:
    def __init__(self, folder):
        self.encoder = JinaClipEncoder.load(folder, device="cpu")
        self.model = ours().JinaClipSentenceTransformer(folder, device="cpu")


@pytest.fixture(scope="module", params=["golden-v1", "golden-v2", "v1", "v2", "nano"])
def both(request, tmp_path_factory):
    makers = {"v1": write_v1, "v2": write_v2}
    known = {"golden-v1": V1_TINY, "golden-v2": V2_TINY, "nano": "nano"}
    source = known.get(request.param)
    return Both(makers[request.param](tmp_path_factory.mktemp("checkpoint")) if source is None else source)


@pytest.fixture(scope="module")
def v2():
    return Both(V2_TINY)


def test_it_is_a_sentence_transformer_and_says_what_it_takes(both):
    assert isinstance(both.model, theirs().SentenceTransformer)
    assert both.model.get_embedding_dimension() == both.encoder.embedding_dim
    assert both.model.modalities == ["text", "image"]
    assert (both.model.supports("image"), both.model.supports("audio")) == (True, False)
    assert (both.model.device, both.model.max_seq_length) == (torch.device("cpu"), 8192)


def test_texts_and_images_are_the_encoders(both):
    assert apart(both.model.encode(TEXTS), both.encoder.encode_text(TEXTS)) <= UNIT
    assert apart(both.model.encode(IMAGES), both.encoder.encode_image(IMAGES)) <= UNIT
    assert apart(both.model.encode_document(TEXTS), both.encoder.encode_text(TEXTS)) <= UNIT
    queries = both.encoder.encode_text(TEXTS, task=both.encoder.query_task)
    assert apart(both.model.encode_query(TEXTS), queries) <= UNIT
    assert apart(both.model.encode_query(IMAGES), both.encoder.encode_image(IMAGES)) <= UNIT


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_mixed_list_comes_back_in_its_order(both, tmp_path, batch_size):
    IMAGES[0].save(tmp_path / "a.png")
    items = [TEXTS[0], str(tmp_path / "a.png"), IMAGES[1], TEXTS[2], tmp_path / "a.png", {"image": IMAGES[2]}, TEXTS[4]]
    items += [{"text": str(tmp_path / "a.png")}, np.asarray(IMAGES[1]), (tmp_path / "a.png").read_bytes()]
    texts = {0: TEXTS[0], 3: TEXTS[2], 6: TEXTS[4], 7: str(tmp_path / "a.png")}
    images = {1: IMAGES[0], 2: IMAGES[1], 4: IMAGES[0], 5: IMAGES[2], 8: IMAGES[1], 9: IMAGES[0]}
    expected = np.empty((10, both.encoder.embedding_dim), np.float32)
    expected[list(texts)] = both.encoder.encode_text(list(texts.values()))
    expected[list(images)] = both.encoder.encode_image(list(images.values()))
    assert apart(both.model.encode(items, batch_size=batch_size), expected) <= UNIT


def test_the_query_prompt_is_the_models_own(v2):
    queries = v2.encoder.encode_text(TEXTS, task="retrieval.query")
    assert apart(v2.model.encode_query(TEXTS), queries) <= UNIT
    assert apart(v2.model.encode(TEXTS, prompt_name="retrieval.query"), queries) <= UNIT
    assert apart(v2.model.encode_query(TEXTS), v2.model.encode(TEXTS)) > 0.01
    assert apart(v2.model.encode(TEXTS, prompt="the "), v2.encoder.encode_text(["the " + t for t in TEXTS])) <= UNIT


def test_shorter_vectors_have_unit_length_whatever_is_asked(v2):
    short = ours().JinaClipSentenceTransformer(V2_TINY, device="cpu", truncate_dim=16)
    for normalize in (False, True):
        expected = v2.encoder.encode_text(TEXTS, truncate_dim=16)
        assert apart(v2.model.encode(TEXTS, truncate_dim=16, normalize_embeddings=normalize), expected) <= UNIT
        assert apart(short.encode(TEXTS, normalize_embeddings=normalize), expected) <= UNIT
        expected = v2.encoder.encode_text(TEXTS, truncate_dim=8, task="retrieval.query")
        assert apart(short.encode_query(TEXTS, truncate_dim=8, normalize_embeddings=normalize), expected) <= UNIT
    assert short.get_embedding_dimension() == 16


def test_a_model_that_was_not_trained_for_shorter_vectors_warns():
    model = ours().JinaClipSentenceTransformer(V1_TINY, device="cpu")
    with pytest.warns(UserWarning, match="not trained for shortened vectors"):
        assert model.encode(TEXTS, truncate_dim=16).shape == (5, 16)


def test_bits_are_the_same_as_ours(v2):
    rows = v2.encoder.encode_text(TEXTS)
    assert np.array_equal(v2.model.encode(TEXTS, precision="ubinary"), encode_ubinary(rows))
    assert np.array_equal(v2.model.encode(TEXTS, precision="binary"), encode_binary(rows))


def test_one_item_gives_one_vector_and_a_tensor_on_request(v2):
    assert v2.model.encode("a red cat").shape == v2.model.encode(IMAGES[0]).shape == (64,)
    assert len(v2.model.encode([])) == 0
    tensor = v2.model.encode([*TEXTS, *IMAGES], convert_to_tensor=True)
    assert torch.equal(tensor, torch.from_numpy(v2.model.encode([*TEXTS, *IMAGES])))
    assert apart(v2.model.encode(np.array(TEXTS)), v2.encoder.encode_text(TEXTS)) <= UNIT


def test_similarity_and_semantic_search_rank_as_the_encoder_does(v2):
    documents, queries = v2.model.encode_document([*TEXTS, *IMAGES]), v2.model.encode_query(["a cat", "a beach"])
    rows = np.concatenate([v2.encoder.encode_text(TEXTS), v2.encoder.encode_image(IMAGES)])
    expected = v2.encoder.encode_text(["a cat", "a beach"], task="retrieval.query") @ rows.T
    assert apart(v2.model.similarity(queries, documents), expected) <= UNIT
    hits = theirs().util.semantic_search(queries, documents, top_k=3)
    assert [[hit["corpus_id"] for hit in row] for row in hits] == np.argsort(-expected, axis=1)[:, :3].tolist()


def test_the_models_forward_gives_the_same_vectors(v2):
    features = v2.model(v2.model.preprocess([TEXTS[0], IMAGES[0]]))
    expected = np.concatenate([v2.encoder.encode_text(TEXTS[:1]), v2.encoder.encode_image(IMAGES[:1])])
    assert apart(features["sentence_embedding"], expected) <= UNIT


def test_texts_are_cut_where_max_seq_length_says():
    model = ours().JinaClipSentenceTransformer(V2_TINY, device="cpu")
    model.max_seq_length = 20
    with pytest.warns(UserWarning, match="1 of 2 texts were cut to 20 tokens"):
        model.encode(["a", "the cat " * 50])


def test_the_encoder_follows_the_model_to_another_precision():
    model = ours().JinaClipSentenceTransformer(V2_TINY, device="cpu")
    rounded = JinaClipEncoder.load(V2_TINY, device="cpu", precision="bf16").encode_text(TEXTS)
    assert apart(model.to(torch.bfloat16).encode(TEXTS), rounded) <= UNIT
    with pytest.raises(ConfigError, match=r"torch\.float16 is not supported"):
        model.half()


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        (["a", IMAGES[0], 5], InputError, "item 2: Unsupported input type: int"),
        (["a" * 99, IMAGES[0], "\ud800", "b" * 50], InputError, "item 2: the text holds half of a surrogate pair"),
        (["a", IMAGES[0], b"zz", IMAGES[1]], ImageDecodeError, "item 2 is not an image in an allowed format"),
        (["a", torch.zeros(3, 9, 9)], ImageDecodeError, "item 1 is a Tensor"),
        (["a", ("b", "c")], InputError, "item 1 is a tuple: one text or one image is needed"),
        ([{"text": "a", "image": IMAGES[0]}], InputError, r"item 0 holds \('image', 'text'\): one text or one image"),
        (["a", {"audio": np.zeros(9)}], InputError, "item 1 holds 'audio': one text or one image is needed"),
        ([[{"role": "user", "content": "a"}]], InputError, "item 0 is a list: one text or one image is needed"),
        (["a", "https://example.com/a.jpg"], ImageDecodeError, "item 1 is a URL.*never downloads"),
        (5, InputError, "item 0: Unsupported input type: int"),
    ],
)
def test_an_item_that_cannot_be_encoded_is_named_by_its_position(v2, items, error, message):
    with pytest.raises(error, match=message):
        v2.model.encode(items, batch_size=2)


def test_options_that_the_model_does_not_have_are_refused(v2):
    for value in (None, "token_embeddings"):
        with pytest.raises(ConfigError, match=f"`output_value` is {value!r}"):
            v2.model.encode(TEXTS, output_value=value)
    for dim in (0, 65):
        with pytest.raises(EmbeddingDimError):
            v2.model.encode(TEXTS, truncate_dim=dim)
        with pytest.raises(EmbeddingDimError):
            ours().JinaClipSentenceTransformer(V2_TINY, device="cpu", truncate_dim=dim)
    with pytest.raises(ValueError, match="Prompt name 'passage' not found"):
        v2.model.encode(TEXTS, prompt_name="passage")
    with pytest.raises(ValueError, match="additional keyword arguments"):
        v2.model.encode(TEXTS, colour="red")


def test_saving_and_training_are_refused(v2, tmp_path):
    for save in (v2.model.save, v2.model.save_pretrained, v2.model.push_to_hub, v2.model[0].save):
        with pytest.raises(NotImplementedError, match="cannot be saved"):
            save(str(tmp_path / "saved"))
    with pytest.raises(NotImplementedError, match="cannot be trained"):
        v2.model.train()
    assert list(tmp_path.iterdir()) == []
