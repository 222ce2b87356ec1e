"""What a new collection is made of: named vectors, graphs, quantization."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.qdrant.store import QdrantStore
from tests.qdrant.harness import CONFIG, QUERY, TILED, records


def made(client, config, **options):
    QdrantStore.open(client, "made", config, **options)
    vectors = client.get_collection("made").config.params.vectors
    client.delete_collection("made")
    return vectors


@pytest.mark.parametrize(
    ("model", "dimensions", "coarse"),
    [
        ("jinaai/jina-clip-v2", None, 64),
        ("jinaai/jina-clip-v2", 129, 64),
        ("jinaai/jina-clip-v2", 128, None),
        ("jinaai/jina-clip-v1", None, None),
        ("nano", None, None),
        ("elsewhere", 1024, None),
    ],
)
def test_a_new_collection_gets_a_prefix_where_the_model_was_trained_for_it(client, model, dimensions, coarse):
    config = EmbeddingConfig(model=model, dimensions=dimensions)
    if model == "nano":
        config = EmbeddingConfig(model=model)
    vectors = made(client, config)
    assert vectors["full"].size == config.embedding_dim
    assert ("coarse" in vectors) == (coarse is not None)
    if coarse is not None:
        assert vectors["coarse"].size == coarse


def test_only_what_is_searched_first_has_a_graph(client):
    plain = made(client, TILED)
    assert plain["full"].hnsw_config.m is None
    assert plain["tiles"].hnsw_config.m == 0
    staged = made(client, TILED, coarse_dimensions=4)
    assert {name: vector.hnsw_config.m for name, vector in staged.items()} == {"coarse": None, "full": 0, "tiles": 0}
    assert {vector.distance for vector in staged.values()} == {models.Distance.COSINE}
    assert staged["tiles"].multivector_config.comparator == models.MultiVectorComparator.MAX_SIM
    assert staged["full"].multivector_config is None


def test_a_collection_of_a_few_thousand_long_vectors_is_still_scanned(client):
    vectors = made(client, dataclasses.replace(CONFIG, dimensions=1024))
    assert vectors["full"].hnsw_config.full_scan_threshold == 4096 * 4  # KiB; 4 KiB a vector
    assert made(client, CONFIG)["full"].hnsw_config.full_scan_threshold == 10_000


@pytest.mark.parametrize(
    ("quantization", "kind"), [("scalar", models.ScalarQuantization), ("binary", models.BinaryQuantization)]
)
def test_quantized_vectors_are_a_first_stage_of_their_own(client, server, quantization, kind):
    config = EmbeddingConfig(model="jinaai/jina-clip-v2", dimensions=256)
    store = QdrantStore.open(client, "photos", config, quantization=quantization)
    vectors = client.get_collection("photos").config.params.vectors
    assert set(vectors) == {"full"}
    assert isinstance(vectors["full"].quantization_config, kind)
    assert vectors["full"].on_disk is True
    store.search(np.ones(256, np.float32))
    assert server.requests[-1].json["params"]["quantization"] == {"rescore": True, "oversampling": 3.0}
    QdrantStore.open(client, "photos", config)
    QdrantStore.open(client, "photos", config, quantization=quantization)
    other: Any = "binary" if quantization == "scalar" else "scalar"
    with pytest.raises(EmbedInputError, match=f"`quantization` is '{other}', but .* was made with '{quantization}'"):
        QdrantStore.open(client, "photos", config, quantization=other)


def test_a_prefix_that_is_asked_for_is_what_gets_quantized(client):
    vectors = made(client, CONFIG, coarse_dimensions=8, quantization="scalar")
    assert vectors["coarse"].quantization_config is not None
    assert vectors["full"].quantization_config is None


def test_the_prefix_is_part_of_the_collection(client):
    QdrantStore.open(client, "photos", CONFIG, coarse_dimensions=8)
    for other in (4, None):
        with pytest.raises(EmbedInputError, match=f"`coarse_dimensions` is {other}, but .* was made with 8"):
            QdrantStore.open(client, "photos", CONFIG, coarse_dimensions=other)
    QdrantStore.open(client, "photos", CONFIG).upsert(records(0, 5))
    assert len(QdrantStore.open(client, "photos", CONFIG, coarse_dimensions=8).search(QUERY)) == 5
