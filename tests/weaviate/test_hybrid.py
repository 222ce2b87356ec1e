"""Searches by words and a vector together."""

import numpy as np
import pytest

from core_encoder.tiling import Box
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.testing.store_contract import ids_of, image, text, vector
from jclip_connectors.weaviate.store import Hybrid


@pytest.fixture
def cars(photos):
    photos.upsert(
        [
            text("boat", vector(1), content="a boat"),
            text("red", vector(0.6, 0.8), content="a red car", metadata={"n": 1}),
            image("picture", vector(0, 1), uri="car.png"),
        ]
    )
    return photos


def test_hybrid_goes_from_words_to_the_vector(cars):
    for alpha, expected in ((0, ["red"]), (0.5, ["red", "boat", "picture"]), (1, ["boat", "red", "picture"])):
        assert ids_of(cars.search(vector(1), hybrid=Hybrid(text="Car!", alpha=alpha))) == expected
    first = cars.search(vector(1), limit=1, hybrid=Hybrid(text="car", alpha=0.5))[0]
    assert first.score == pytest.approx(0.8)


def test_hybrid_takes_filters_and_a_modality(cars):
    words = Hybrid(text="car boat", alpha=0.5)
    assert ids_of(cars.search(vector(1), where={"n": {"gte": 1}}, hybrid=words)) == ["red"]
    assert ids_of(cars.search(vector(1), modality="image", hybrid=words)) == ["picture"]


def test_hybrid_tells_the_box_of_the_nearest_tile(tiled):
    boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
    tiles = np.stack([vector(0, 1), vector(1)])
    tiled.upsert([image("a", tile_embeddings=tiles, tile_boxes=boxes), text("b", vector(0, 0, 1), content="car")])
    hits = tiled.search(vector(1), tiles=True, hybrid=Hybrid(text="car", alpha=0.9))
    assert [(hit.record_id, hit.box) for hit in hits] == [("a", Box(5, 0, 9, 9)), ("b", None)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"text": ""}, "`text`"),
        ({"text": "  "}, "`text`"),
        ({"text": 7}, "`text`"),
        ({"text": "a", "alpha": 1.1}, "`alpha`"),
        ({"text": "a", "alpha": -0.1}, "`alpha`"),
        ({"text": "a", "alpha": float("nan")}, "`alpha`"),
        ({"text": "a", "alpha": True}, "`alpha`"),
        ({"text": "a", "alpha": "1"}, "`alpha`"),
    ],
)
def test_a_bad_hybrid_is_refused_by_name(arguments, named):
    with pytest.raises(EmbedInputError, match=named):
        Hybrid(**arguments)


def test_words_alone_are_no_hybrid(photos):
    with pytest.raises(EmbedInputError, match="`hybrid` is str; use a `Hybrid`"):
        photos.search(vector(1), hybrid="red car")
