"""What a batch of records is checked for before any store sees it."""

import dataclasses

import numpy as np
import pytest

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import Record
from jclip_connectors.store_kit.validation import check_embedding, check_records


def picture(record_id, *row, **fields):
    return Record(record_id=record_id, modality="image", embedding=np.array(row, np.float64), **fields)


def test_the_first_record_of_an_empty_collection_settles_the_length_for_the_rest_of_its_batch():
    with pytest.raises(EmbedInputError, match=r"record 1 \('b'\) has the shape \(3,\), not \(2,\)"):
        check_records([picture("a", 1, 0), picture("b", 1, 0, 0)], dimensions=None, tiled=False)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_a_vector_has_unit_length_whatever_its_length_was(size):
    row = check_embedding(np.array([3 * size, 4 * size]), dimensions=2)
    assert row.dtype == np.float32
    np.testing.assert_allclose(row, [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("scheme", ["data:", "DATA:", "Data:"])
def test_the_bytes_of_an_image_are_no_uri(scheme):
    with pytest.raises(EmbedInputError, match="is a data URI") as caught:
        check_records([picture("a", 1, 0, uri=f"{scheme}image/png;base64,AAAA")], dimensions=2, tiled=False)
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize("absent", ["tile_embeddings", "tile_boxes"])
def test_tiles_without_boxes_and_boxes_without_tiles_are_refused(absent):
    tiles = {"tile_embeddings": np.eye(2), "tile_boxes": np.array([[0, 0, 9, 9], [5, 0, 9, 9]])}
    record = dataclasses.replace(picture("a", 1, 0, **tiles), **{absent: None})
    with pytest.raises(EmbedInputError, match="one of `tile_embeddings` and `tile_boxes`: give both or neither"):
        check_records([record], dimensions=2, tiled=True)
