"""Workers, drivers and nodes that are killed: every row is there once."""

import os
import signal

import pytest

from jclip_connectors.bulk.batch_marker import DIED
from tests.bulk.sources import picture, pictures_tar, write_tar
from tests.ray.cluster import Cluster, finished, rows_of, waited_for, worker_in
from tests.ray.deadly import DEADLY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test builds the environment
ROWS = 160  # of a shard


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return [pictures_tar(folder / f"{at}.tar", ROWS, start=at * ROWS) for at in range(5)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        started.start_head(cpus=2)
        yield started


def workers(lines):
    return {line["worker"] for line in lines if "worker" in line}


def keys(out):
    return sorted(row.key for row in rows_of(out))


EVERY_KEY = sorted(f"{at:05}" for at in range(5 * ROWS))


def test_two_workers_share_five_shards_and_a_killed_one_starts_again(cluster, sources, tmp_path):
    out = tmp_path / "out"
    driver = cluster.drive(sources, out, workers=2)
    pid = waited_for(lambda: worker_in(out, 5, batch_size=8), process=driver)
    os.kill(pid, signal.SIGKILL)
    *lines, report = finished(driver)
    assert report == {"shards": 5, "unchanged": 0, "rows": 5 * ROWS, "failed": 0}
    assert len(workers(lines)) >= 2
    assert keys(out) == EVERY_KEY


def test_the_same_call_goes_on_after_its_program_was_killed(cluster, sources, tmp_path):
    out = tmp_path / "out"
    driver = cluster.drive(sources, out, workers=1)
    first = driver.stdout.readline()
    assert "shard" in first, driver.log.read_text()
    waited_for(lambda: worker_in(out, 5, batch_size=8), process=driver)
    os.kill(driver.pid, signal.SIGKILL)
    done = len(list(out.glob("*.parquet")))
    *_, report = finished(cluster.drive(sources, out, workers=2))
    assert report["unchanged"] >= 1
    assert report["unchanged"] >= done
    assert (report["shards"], report["rows"], report["failed"]) == (5, 5 * ROWS, 0)
    assert keys(out) == EVERY_KEY


def test_batches_that_kill_their_worker_are_failed_rows_and_the_job_goes_on(cluster, tmp_path):
    pictures = [picture(at) for at in range(64)]
    pictures[20], pictures[50] = DEADLY
    write_tar(tmp_path / "deadly.tar", [(f"{at:05}", {"png": content}) for at, content in enumerate(pictures)])
    pictures_tar(tmp_path / "good.tar", 40, start=100)
    out = tmp_path / "out"
    sources = [tmp_path / "deadly.tar", tmp_path / "good.tar"]
    # Tried twice only, the shard is left out, and the other one is done.
    driver = cluster.drive(sources, out, workers=1, deadly=True, retries=1)
    assert driver.wait(200) == 1
    assert "1 of 2 shards are not done" in driver.log.read_text()
    assert "its worker died each of the 2 times that it was tried" in driver.log.read_text()
    assert len(list(out.glob("*.parquet"))) == 1
    # The second program knows of these two deaths.
    *_, report = finished(cluster.drive(sources, out, workers=1, deadly=True, max_failed=1))
    assert report == {"shards": 2, "unchanged": 1, "rows": 104, "failed": 16}
    failed = {row.key for row in rows_of(out) if row.error == DIED}
    assert failed == {f"{at:05}" for at in (*range(16, 24), *range(48, 56))}


def test_a_worker_without_the_device_of_the_job_is_refused_and_so_is_a_stranger(cluster, sources, tmp_path):
    driver = cluster.drive(sources[:1], tmp_path / "out", workers=1, device="cuda")
    assert driver.wait(200) == 1
    assert "EmbedInputError: torch is not installed" in driver.log.read_text()  # which CUDA needs
    assert not list((tmp_path / "out").glob("*.parquet"))

    cluster.environ["RAY_AUTH_TOKEN"] = "0" * 64
    driver = cluster.drive(sources[:1], tmp_path / "out", workers=1)
    assert driver.wait(200) == 1
    assert "StoreUnavailableError: the Ray cluster at" in driver.log.read_text()
