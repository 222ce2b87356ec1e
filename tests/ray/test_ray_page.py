"""The program of the page about Ray runs."""

import pyarrow.dataset
import pytest

from tests.bulk.sources import BAD, picture, pictures_parquet
from tests.docs.blocks import DOCS, blocks_of
from tests.ray.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test builds the environment


def test_the_program_of_the_page_gives_a_row_for_each_row(tmp_path):
    (block,) = (block for block in blocks_of(DOCS / "bulk-ray.md") if block.language == "python")
    model = 'model="jinaai/jina-clip-v2", dimensions=512'
    assert model in block.text
    (tmp_path / "program.py").write_text(block.text.replace(model, 'model="nano", dimensions=64'))
    pictures = [*map(picture, range(200)), *BAD.values()]
    names = [f"picture {at}" for at in range(len(pictures))]
    (tmp_path / "pictures").mkdir()
    pictures_parquet(tmp_path / "pictures" / "0.parquet", pictures, name=names)
    with Cluster(tmp_path) as cluster, (tmp_path / "log").open("w") as log:
        process = cluster.start(cluster.python, "program.py", stdout=log, stderr=log)
        assert process.wait(200) == 0, (tmp_path / "log").read_text()
    rows = pyarrow.dataset.dataset(tmp_path / "rows").to_table().sort_by("key").to_pylist()
    assert sorted(row["key"] for row in rows) == sorted(names)
    assert {row["key"] for row in rows if row["error"]} == set(names[200:])
    assert {len(row["embedding"]) for row in rows if not row["error"]} == {64}
