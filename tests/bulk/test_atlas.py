"""The map of a collection: a Parquet file with small pictures, places and nearest records."""

from io import BytesIO

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jclip_connectors.bulk.atlas import nearest_rows, principal_components, write_atlas
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import Record


def unit_rows(count, length=8, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, length)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def records(tmp_path):
    rows = unit_rows(6)
    Image.effect_noise((300, 200), 30).save(tmp_path / "a.png")
    found = [
        Record(
            record_id=f"r{at}",
            modality="text",
            embedding=row,
            content=f"text {at}",
            metadata={"year": 2000 + at, "mixed": at if at % 2 else "x", "tags": ["a"], "x": 1, "flag": True},
        )
        for at, row in enumerate(rows[:4])
    ]
    for name, row in (("a.png", rows[4]), ("gone.png", rows[5])):
        found.append(Record(record_id=name, modality="image", embedding=row, uri=str(tmp_path / name)))
    return found


def test_the_file_has_a_row_for_each_record_with_its_picture_and_fields(records, tmp_path):
    path = tmp_path / "map.parquet"
    assert write_atlas(records, path, side=100) == 6
    table = pq.read_table(path)
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ["r0", "r1", "r2", "r3", "a.png", "gone.png"]
    assert [row["year"] for row in rows] == [2000, 2001, 2002, 2003, None, None]
    assert [row["mixed"] for row in rows][:2] == ['"x"', "1"]
    assert rows[0]["tags"] == '["a"]'
    assert rows[0]["metadata_x"] == 1
    assert rows[0]["flag"] is True
    assert table.schema.field("vector").type.list_size == 8
    np.testing.assert_allclose([row["vector"] for row in rows], unit_rows(6), atol=1e-6)
    assert [row["image"] is None for row in rows] == [True] * 4 + [False, True]
    assert rows[4]["image"]["path"] == "a.png"
    with Image.open(BytesIO(rows[4]["image"]["bytes"])) as picture:
        assert picture.size == (100, 67)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_neighbours_are_the_nearest_other_rows_by_cosine(records, tmp_path):
    write_atlas(records, tmp_path / "map.parquet", project="none")
    table = pq.read_table(tmp_path / "map.parquet")
    assert "x" not in table.column_names
    rows = unit_rows(6)
    for at, found in enumerate(table["neighbors"].to_pylist()):
        cosines = rows @ rows[at]
        expected = [each for each in np.argsort(-cosines) if each != at]
        assert found["ids"] == expected
        np.testing.assert_allclose(found["distances"], 1 - cosines[expected], atol=1e-6)


@pytest.mark.parametrize("block", [1, 700, 2**24])
def test_neighbours_do_not_depend_on_the_size_of_a_block(monkeypatch, block):
    monkeypatch.setattr("jclip_connectors.bulk.atlas._BLOCK_VALUES", block)
    rows = unit_rows(500)
    ids, distances = nearest_rows(rows, 10)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    np.testing.assert_array_equal(ids, np.argsort(-cosines, axis=1, kind="stable")[:, :10])
    np.testing.assert_allclose(distances, 1 - np.sort(cosines, axis=1)[:, ::-1][:, :10], atol=1e-6)


def test_places_are_the_two_directions_of_most_variance():
    rng = np.random.default_rng(1)
    rows = np.zeros((200, 5), np.float32)
    rows[:, 3], rows[:, 1] = 5 * rng.standard_normal(200), 2 * rng.standard_normal(200)
    places = principal_components(rows)
    centred = rows - rows.mean(axis=0)
    assert abs(np.corrcoef(places[:, 0], centred[:, 3])[0, 1]) > 0.99
    assert abs(np.corrcoef(places[:, 1], centred[:, 1])[0, 1]) > 0.99


def test_a_map_of_one_record_has_no_neighbours_and_one_of_none_is_refused(records, tmp_path):
    write_atlas(records[:1], tmp_path / "map.parquet")
    assert pq.read_table(tmp_path / "map.parquet")["neighbors"].to_pylist() == [{"ids": [], "distances": []}]
    with pytest.raises(EmbedInputError, match="empty"):
        write_atlas([], tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()
