"""`load` is ended at random moments and run again: the store has what one run without an end gives."""

import json
import signal
import threading
import time

import numpy as np
import pytest
from qdrant_client import QdrantClient

from jclip_connectors.bulk.loading import load
from jclip_connectors.bulk.vector_files import Sidecar
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.qdrant import QdrantStore
from jclip_connectors.testing.store_contract import TILED, E
from tests.bulk.copies import assert_equal_records, synthetic
from tests.bulk.test_load_patience import EndedError
from tests.bulk.test_loading import loaded, put
from tests.doubles.qdrant_server import QdrantServer
from tests.every_store.live_stores import LIVE_STORES
from tests.forked import Program

POINTS = "PUT /collections/photos/points"
QUICK = ("memory", "edge", "qdrant")
SIDECAR = Sidecar(fingerprint=TILED.fingerprint(), dimensions=E)


def files(out):
    """Files with records of every kind; some ids are in several files."""
    records = list(synthetic(90, length=E))
    for at in range(6):
        put(out, f"{at}", [*records[at * 15 : at * 15 + 15], records[(at * 7) % 90]], SIDECAR)


class Ending:
    """A store that ends the program at some calls, before or after the records were written."""

    def __init__(self, store, rng):
        self._store = store
        self._rng = rng
        self._lock = threading.Lock()
        self.left = 0

    def upsert(self, records):
        with self._lock:  # of several writers one has the last call
            self.left -= 1
            is_last = self.left == 0
            before = is_last and self._rng.random() < 0.5
        if before:
            raise EndedError
        self._store.upsert(records)
        if is_last:
            raise EndedError

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LIVE_STORES]
)
def test_a_load_that_was_ended_at_random_equals_one_clean_run(tmp_path, name):
    files(tmp_path)
    clean = InMemoryStore(TILED)
    load(tmp_path, lambda *_: clean, store_name="clean")
    rng = np.random.default_rng(5)
    with LIVE_STORES[name]() as open_store:
        store = Ending(open_store(TILED), rng)
        ended = 0
        for _ in range(4):
            store.left = int(rng.integers(1, 4))  # of twelve calls in all
            try:
                loaded(tmp_path, lambda *_: store, batch_size=8, writers=int(rng.integers(1, 4)))
            except EndedError:
                ended += 1
        store.left = 0
        loaded(tmp_path, lambda *_: store, batch_size=8)
        assert ended >= 2
        assert_equal_records(clean.scroll(), store.scroll())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Failed to obtain server version")
def test_a_load_that_was_killed_at_random_equals_one_clean_run(tmp_path):
    out = tmp_path / "out"
    records = list(synthetic(4000, length=E))
    for at in range(40):
        put(out, f"{at:02}", records[at * 100 : at * 100 + 100], SIDECAR)
    rng = np.random.default_rng(2)
    with QdrantServer() as server:
        url = server.url.replace("http:", "qdrant:") + "/photos"
        arguments = ["load", out, "--store", url, "--batch-size", "20", "--progress-json"]
        codes = []
        for _ in range(5):
            with Program("-m", "jclip_connectors.cli.main", *map(str, arguments)) as run:
                wanted = server.calls().count(POINTS) + int(rng.integers(2, 35))
                until_s = time.monotonic() + 20
                while server.calls().count(POINTS) < wanted and time.monotonic() < until_s:
                    time.sleep(0.002)
                time.sleep(rng.uniform(0, 0.01))
                run.kill()
                codes.append(run.wait())
        assert codes.count(-signal.SIGKILL) >= 3
        with Program("-m", "jclip_connectors.cli.main", *map(str, arguments)) as run:
            assert run.wait(timeout_s=120) == 0
            assert json.loads(run.stdout.splitlines()[-1])["refused"] == 0
        client = QdrantClient(url=server.url, check_compatibility=False)
        assert_equal_records(records, QdrantStore.open(client, "photos", TILED).scroll())
        client.close()
