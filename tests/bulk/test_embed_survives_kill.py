"""`embed_shards` is killed again and again; in the end every row is there once."""

import collections
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jclip_connectors.bulk.batch_marker import DIED
from jclip_connectors.bulk.vector_files import TEMPORARY, VectorFolder
from jclip_connectors.bulk.vector_rows import to_rows
from tests.bulk.sources import pictures_tar
from tests.forked import Program
from tests.profiles import examples

SHARDS, ROWS = 4, 12  # in batches of 4


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for at in range(SHARDS):
        pictures_tar(folder / f"{at}.tar", ROWS, start=at * ROWS)
    return folder


def run(source, out, *, batch=0, picture=-1):
    with Program("-m", "tests.bulk.dying", source, out, batch, picture) as program:
        code = program.wait()
        assert code in (0, -signal.SIGKILL), program.stderr
        return code, program.stdout


def keys_of(out):
    folder = VectorFolder(out)
    rows = [row for name in folder.files() for batch in folder.batches(name) for row in to_rows(batch)]
    return collections.Counter(row.key for row in rows), [row for row in rows if row.error is not None]


EXPECTED = {f"{at:05}": 1 for at in range(SHARDS * ROWS)}


def test_a_run_that_was_killed_goes_on_and_leaves_nothing_half(source, tmp_path):
    out = tmp_path / "out"
    assert run(source, out, batch=5)[0] == -signal.SIGKILL
    left = VectorFolder(out).names(TEMPORARY)
    assert len(left) == 2  # the file that was being written, and the marker
    assert run(source, out) == (0, "1 unchanged, 0 failed\n")
    assert keys_of(out) == (EXPECTED, [])
    assert VectorFolder(out).names(TEMPORARY) == []


def test_a_batch_at_which_the_process_died_twice_becomes_failed_rows(source, tmp_path):
    out = tmp_path / "out"
    deadly = ROWS + 5  # in the second batch of the second shard
    assert run(source, out, picture=deadly)[0] == -signal.SIGKILL
    assert run(source, out, picture=deadly)[0] == -signal.SIGKILL
    assert run(source, out, picture=deadly) == (0, "1 unchanged, 4 failed\n")
    keys, failed = keys_of(out)
    assert keys == EXPECTED
    assert {row.key: row.error for row in failed} == {f"{at:05}": DIED for at in range(ROWS + 4, ROWS + 8)}


@pytest.mark.slow
@pytest.mark.timeout(900)  # up to five programs for each example
def test_every_row_is_there_once_wherever_the_runs_were_killed(source, tmp_path_factory):
    @settings(max_examples=examples(24))
    @given(st.lists(st.integers(1, SHARDS * ROWS // 4), max_size=4, unique=True))
    def killed_at(batches):
        out = tmp_path_factory.mktemp("out")
        for batch in batches:
            run(source, out, batch=batch)
        assert run(source, out)[0] == 0
        keys, failed = keys_of(out)
        assert keys == EXPECTED
        assert len(failed) in (0, 4, 8)  # a batch that was met twice is left out

    killed_at()
