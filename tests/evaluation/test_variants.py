import numpy as np
import pytest

from core_encoder import JinaClipEncoder
from core_encoder.errors import EmbeddingDimError
from core_encoder.matryoshka import normalize
from jclip_connectors.evaluation.figures import VARIANTS
from jclip_connectors.evaluation.synthetic import CAPTIONS_PER_PICTURE, synthetic_samples
from jclip_connectors.evaluation.variants import bytes_kept, bytes_searched, similarity, vectors


def rows(count, width, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32) * 7


def test_float32_is_the_cosine_of_what_is_left_of_the_rows():
    queries, documents = rows(5, 32), rows(9, 32, seed=1)
    scores = similarity(queries, documents, dimensions=24, variant="float32")
    expected = normalize(queries[:, :24]) @ normalize(documents[:, :24]).T
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, expected)


def test_int8_multiplies_rounded_values():
    queries, documents = np.array([[3, 4]], np.float32), np.array([[4, 3], [-5, 0]], np.float32)
    scores = similarity(queries, documents, dimensions=2, variant="int8")
    # 0.6 and 0.8 are 76 and 102 of 127
    np.testing.assert_allclose(scores, [[2 * 76 * 102 / 127**2, -76 * 127 / 127**2]], rtol=1e-6)


def test_binary_counts_equal_signs_and_a_zero_counts_as_negative():
    queries = np.array([[1, 2, 3, 4, -1, -2, -3, -4]], np.float32)
    documents = np.array([[9, 9, 9, 9, -9, -9, -9, -9], [1, 1, -1, -1, 1, 1, 0, 0], [-1, -1, -1, -1, 1, 1, 1, 1]])
    scores = similarity(queries, documents.astype(np.float32), dimensions=8, variant="binary")
    np.testing.assert_array_equal(scores, [[1, 0, -1]])


def test_rescoring_orders_the_candidates_by_their_float32_cosine_and_no_others():
    queries, documents = rows(300, 32), rows(100, 32, seed=1)
    exact = similarity(queries, documents, dimensions=32, variant="float32")
    binary = similarity(queries, documents, dimensions=32, variant="binary")
    rescored = similarity(queries, documents, dimensions=32, variant="binary_rescored", k=3)
    for own, cosines, signs in zip(rescored, exact, binary, strict=True):
        candidates = np.argsort(-signs, kind="stable")[:12]
        others = np.setdiff1d(np.arange(100), candidates)
        np.testing.assert_allclose(own[candidates], cosines[candidates], atol=1e-6)
        assert own[others].max() < -1.9
        np.testing.assert_array_equal(
            np.argsort(-own[others], kind="stable"), np.argsort(-signs[others], kind="stable")
        )


def test_rescoring_of_all_documents_is_the_exact_ranking():
    queries, documents = rows(20, 64), rows(40, 64, seed=1)
    rescored = similarity(queries, documents, dimensions=64, variant="binary_rescored", k=10)
    np.testing.assert_allclose(rescored, similarity(queries, documents, dimensions=64, variant="float32"), atol=1e-6)


def ndcg_at_10(scores, right):
    """Mean nDCG@10 of rows of scores, with right documents marked."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    discounts = 1 / np.log2(np.arange(2, 12))
    gained = (np.take_along_axis(right, order, axis=1) * discounts).sum(axis=1)
    best = np.array([discounts[: row.sum()].sum() for row in right])
    return (gained / best).mean()


@pytest.mark.parametrize("dimensions", [128, 64, 32])
def test_int8_ranks_as_well_as_float32(drawn_sets, dimensions):
    right = np.repeat(np.eye(100, dtype=bool), CAPTIONS_PER_PICTURE, axis=0)

    def mean_ndcg(variant):
        found = []
        for pictures, texts in drawn_sets:
            for queries, documents, own in ((texts, pictures, right), (pictures, texts, right.T)):
                scores = similarity(queries, documents, dimensions=dimensions, variant=variant)
                found.append(ndcg_at_10(scores, own))
        return np.mean(found)

    assert mean_ndcg("float32") > 0.3
    assert abs(mean_ndcg("int8") - mean_ndcg("float32")) <= 0.005


@pytest.fixture(scope="module")
def drawn_sets():
    """Raw features of nano for three sets of 100 pictures with five captions each."""
    nano, found = JinaClipEncoder.load("nano"), []
    for seed in range(3):
        samples = synthetic_samples(100, seed)
        texts = [text for sample in samples for text in sample.captions["en"]]
        pictures = nano.encode_image([sample.picture for sample in samples], normalize=False)
        found.append((pictures, nano.encode_text(texts, normalize=False)))
    return found


def test_rounded_products_are_whole_numbers_even_of_the_longest_vectors():
    raw = rows(50, 1024)
    for variant in ("int8", "binary"):
        kept = vectors(raw, dimensions=1024, variant=variant)
        np.testing.assert_array_equal(kept @ kept.T, kept.astype(np.int64) @ kept.astype(np.int64).T)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_of_zeros_and_no_rows_at_all_have_scores(variant):
    queries, documents = np.zeros((2, 16), np.float32), rows(3, 16)
    assert np.isfinite(similarity(queries, documents, dimensions=16, variant=variant)).all()
    assert similarity(queries[:0], documents, dimensions=16, variant=variant).shape == (0, 3)
    assert similarity(queries, documents[:0], dimensions=16, variant=variant).shape == (2, 0)


def test_dimensions_that_do_not_fill_bytes_are_refused_for_bits_alone():
    assert similarity(rows(1, 16), rows(1, 16), dimensions=12, variant="int8").shape == (1, 1)
    with pytest.raises(EmbeddingDimError, match="12 dimensions"):
        similarity(rows(1, 16), rows(1, 16), dimensions=12, variant="binary_rescored")


def test_the_bytes_of_a_vector_are_those_of_its_values():
    assert [bytes_searched(1024, variant) for variant in VARIANTS] == [4096, 1024, 128, 128]
    assert [bytes_kept(1024, variant) for variant in VARIANTS] == [4096, 1024, 128, 128 + 4096]
