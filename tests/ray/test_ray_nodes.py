"""Two nodes on loopback: both are used, and one that is killed takes no row with it."""

import contextlib
import json
import os
import signal

import pytest

from tests.bulk.sources import pictures_tar
from tests.ray.cluster import Cluster, finished, processes_of, rows_of, waited_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test builds the environment
ROWS = 160  # of a shard
SHARDS = 8


def test_two_nodes_are_used_and_a_killed_one_leaves_every_row_once(tmp_path):
    sources = [pictures_tar(tmp_path / f"{at}.tar", ROWS, start=at * ROWS) for at in range(SHARDS)]
    out = tmp_path / "out"
    with Cluster(tmp_path) as cluster:
        first = cluster.start_head(cpus=1)
        second = cluster.add_node(cpus=1, ip="127.0.0.2")
        waited_for(lambda: "Ray runtime started" in (tmp_path / "node1.log").read_text(), process=second)
        driver = cluster.drive(sources, out, workers=2)
        nodes: set[int] = set()
        lines = []
        while len(nodes) < 2:
            lines.append(driver.stdout.readline())
            assert lines[-1], driver.log.read_text()
            pid = int(json.loads(lines[-1])["worker"].rpartition(":")[2])
            nodes |= {node.pid for node in (first, second) if pid in processes_of(node.pid)}
        for pid in processes_of(second.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        *_, report = finished(driver)
    assert report == {"shards": SHARDS, "unchanged": 0, "rows": SHARDS * ROWS, "failed": 0}
    assert sorted(row.key for row in rows_of(out)) == sorted(f"{at:05}" for at in range(SHARDS * ROWS))
