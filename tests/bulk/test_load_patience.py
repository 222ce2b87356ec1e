"""`load` into stores that are busy, away, slow or killed in between."""

import itertools
from contextlib import closing
from typing import Any

import pytest
from qdrant_client import QdrantClient

from jclip_connectors.bulk.loading import load
from jclip_connectors.bulk.pacing import Rate, Turns
from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreUnavailableError
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.qdrant import QdrantStore
from tests.bulk.copies import TILED, assert_equal_records, synthetic
from tests.bulk.test_loading import Opened, files_of, loaded, put
from tests.doubles.qdrant_server import Fault, QdrantServer

UPSERT = "PUT /collections/photos/points$"
BUSY = StoreUnavailableError("busy", busy=True)


class Flaky(InMemoryStore):
    """Raises what `failures` says, call after call; notes when it was called."""

    def __init__(self, config, clock, failures):
        super().__init__(config)
        self.clock = clock
        self.failures = iter(failures)
        self.called_s: list[float] = []

    def upsert(self, records):
        self.called_s.append(self.clock.now_s)
        error = next(self.failures, None)
        if error is not None:
            raise error
        super().upsert(records)


@pytest.mark.parametrize("writers", [1, 4])
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "20"}])
def test_a_server_that_answers_429_for_ten_minutes_loses_no_record(tmp_path, clock, writers, headers):
    wanted = files_of(tmp_path)
    with QdrantServer() as server, closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        asked_s: list[float] = []
        fault = Fault(UPSERT, status=429, headers=headers, times=10**6)
        server.faults.append(fault)
        server.on_fault = lambda _: asked_s.append(clock.now_s)
        clock.later.append((clock.now_s + 600, server.faults.clear))
        done = loaded(tmp_path, lambda config, _: QdrantStore.open(client, "photos", config), writers=writers)
        assert (done.written, done.refused) == (100, ())
        assert_equal_records(wanted, QdrantStore.open(client, "photos", TILED).scroll())
    assert 15 < len(asked_s) < 200
    if writers == 1:  # several that share the waiting: tests/store_kit/test_patience.py
        assert all(later - sooner >= 1 for sooner, later in itertools.pairwise(asked_s))


def test_a_store_that_is_gone_ends_the_load_after_the_patience_and_the_next_run_goes_on(tmp_path, clock):
    wanted = files_of(tmp_path)
    store = Flaky(TILED, clock, [None, None, *[StoreUnavailableError("gone")] * 1000])
    with pytest.raises(StoreUnavailableError, match="gone"):
        loaded(tmp_path, lambda *_: store, writers=1, patience_s=600)
    assert 570 <= store.called_s[-1] - store.called_s[2] <= 600
    store.failures = iter(())
    done = loaded(tmp_path, lambda *_: store, writers=1)
    assert (done.files_before, done.written) == (2, 60)
    assert_equal_records(wanted, store.scroll())


def test_a_store_that_fails_now_and_then_is_never_given_up(tmp_path, clock):
    wanted = files_of(tmp_path, 60, 2)
    outage = [StoreUnavailableError("away")] * 25  # some ten minutes
    store = Flaky(TILED, clock, [*outage, None] * 20)
    loaded(tmp_path, lambda *_: store, writers=1, patience_s=700)
    assert_equal_records(wanted, store.scroll())
    assert store.called_s[-1] - store.called_s[0] > 3600


class HalfFull(InMemoryStore):
    """Takes the first half of a batch for the first few times, as when a disk is full."""

    times = 5

    def upsert(self, records):
        if self.times:
            self.times -= 1
            middle = len(records) // 2
            super().upsert(records[:middle])
            full = StoreUnavailableError("the disk is full")
            raise PartialFailureError(
                "records",
                failed=dict.fromkeys(range(middle, len(records)), full),
                kept=dict.fromkeys(range(middle)),
            )
        super().upsert(records)


@pytest.mark.usefixtures("clock")
def test_what_could_not_be_written_for_a_reason_that_passes_is_no_dead_letter(tmp_path):
    wanted, opened = files_of(tmp_path), Opened(store_class=HalfFull)
    done = loaded(tmp_path, opened, writers=1)
    assert done.refused == ()
    assert_equal_records(wanted, opened.store.scroll())


def test_writers_are_halved_by_a_429_and_rise_by_one_a_minute(clock):
    turns = Turns(8, clock=clock.monotonic)
    assert turns.allowed() == 8
    turns.halve()
    turns.halve()  # of the same moment
    assert turns.allowed() == 4
    clock.sleep(59)
    assert turns.allowed() == 4
    clock.sleep(1)
    assert turns.allowed() == 5
    turns.halve()
    assert turns.allowed() == 2
    clock.sleep(5)
    turns.halve()
    clock.sleep(5)
    turns.halve()
    assert turns.allowed() == 1
    clock.sleep(3600)
    assert turns.allowed() == 8


def test_a_load_tells_how_many_writers_there_are_after_a_429(tmp_path, clock):
    files_of(tmp_path)
    store = Flaky(TILED, clock, [BUSY])
    told: list[Any] = []
    loaded(tmp_path, lambda *_: store, writers=4, progress=told.append)
    assert (told[-1].writers, told[-1].written) == (2, 100)


def test_no_more_records_a_second_are_written_than_was_said(clock):
    rate = Rate(100.0, clock=clock.monotonic, wait=clock.sleep)
    for _ in range(10):
        rate.wait_for(50)
    assert sum(clock.waited) == pytest.approx(4.5)


def test_a_load_keeps_to_its_rate(tmp_path, clock):
    files_of(tmp_path)
    store = Flaky(TILED, clock, [])
    loaded(tmp_path, lambda *_: store, writers=1, rate=10)
    assert store.called_s[-1] - store.called_s[0] == pytest.approx(8)


def test_a_load_that_follows_takes_new_files_and_ends_when_none_has_come_for_a_while(tmp_path, clock):
    records = list(synthetic(60))
    put(tmp_path, "b", records[:20])
    clock.later.append((clock.now_s + 100, lambda: put(tmp_path, "a", records[10:40])))  # rows of "b" come again
    clock.later.append((clock.now_s + 200, lambda: put(tmp_path, "c", records[40:])))
    store = Flaky(TILED, clock, [])
    done = loaded(tmp_path, lambda *_: store, follow_s=150)
    assert (done.files, done.written, done.folded) == (3, 70, 0)
    assert_equal_records(records, store.scroll())
    assert 350 <= clock.now_s - store.called_s[0] < 400


@pytest.mark.parametrize("name", ["rate", "patience_s", "follow_s"])
def test_a_bad_number_is_named(tmp_path, name):
    with pytest.raises(EmbedInputError, match=f"`{name}` is 0"):
        loaded(tmp_path, Opened(), **{name: 0})


class EndedError(BaseException):
    """Stands for an interrupt in a writer."""


@pytest.mark.usefixtures("clock")
def test_an_interrupt_ends_every_writer_and_the_next_run_goes_on(tmp_path, clock):
    wanted = files_of(tmp_path)
    store = Flaky(TILED, clock, [None, None, EndedError()])
    with pytest.raises(EndedError):
        loaded(tmp_path, lambda *_: store, writers=4, batch_size=10)
    done = load(tmp_path, lambda *_: store, store_name="memory://a")
    assert done.files + done.files_before == 5
    assert_equal_records(wanted, store.scroll())
