"""How long a store is waited for, by one caller and by several that share the waiting."""

import asyncio
import itertools
import threading

import pytest

from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.async_flows import run_async
from jclip_connectors.store_kit.flows import run
from jclip_connectors.store_kit.patience import (
    ClientGaveUpError,
    ConnectionLostError,
    Patience,
    check_patience,
    upsert_patiently,
)
from tests.bulk.copies import synthetic


class Server:
    """Refuses each request until some time has passed, and notes when it was asked."""

    def __init__(self, clock, error, until_s):
        self.clock = clock
        self.error = error
        self.until_s = clock.now_s + until_s
        self.asked_s: list[float] = []

    def ask(self):
        self.asked_s.append(self.clock.now_s)
        if self.clock.now_s < self.until_s:
            raise self.error.with_traceback(None)  # else one error that is raised often grows
        return "answer"

    async def ask_later(self):
        return self.ask()

    @property
    def gaps_s(self):
        return [later - sooner for sooner, later in zip(self.asked_s, self.asked_s[1:], strict=False)]


def translate(error):
    return error if isinstance(error, StoreUnavailableError) else None


def question():
    return (yield lambda server: server.ask())


def later_question():
    return (yield lambda server: server.ask_later())


def blocking(server, patience, attempts=3):
    return run(question(), server, translate=translate, attempts=attempts, patience=patience)


def awaited(server, patience, attempts=3):
    return asyncio.run(run_async(later_question(), server, translate=translate, attempts=attempts, patience=patience))


both = pytest.mark.parametrize("ask", [blocking, awaited])
BUSY = StoreUnavailableError("busy", busy=True)
TOLD = StoreUnavailableError("busy", busy=True, retry_after_s=7.0)
AWAY = StoreUnavailableError("away")
GAVE_UP = ClientGaveUpError("the client has waited a minute")


@both
@pytest.mark.parametrize("error", [BUSY, TOLD, AWAY, GAVE_UP])
def test_ten_minutes_without_an_answer_are_waited_for(ask, clock, error):
    server = Server(clock, error, 600)
    assert ask(server, Patience(3600.0)) == "answer"
    assert max(server.gaps_s) <= 30
    if error.busy:
        assert min(server.gaps_s) >= 1.0
    if error is TOLD:
        assert set(server.gaps_s) == {7.0}


@both
@pytest.mark.parametrize("error", [BUSY, TOLD, AWAY, GAVE_UP])
def test_after_the_patience_has_ended_the_error_is_that_of_the_store(ask, clock, error):
    server, patience = Server(clock, error, 10**6), Patience(3600.0)
    with pytest.raises(StoreUnavailableError) as caught:
        ask(server, patience)
    assert caught.value is error
    assert 3560 < server.asked_s[-1] - server.asked_s[0] <= 3600
    asked = len(server.asked_s)
    with pytest.raises(StoreUnavailableError):  # it is known to be away, so the next call does not wait for an hour
        ask(server, patience)
    assert len(server.asked_s) - asked <= 3


@both
def test_without_a_number_a_busy_store_is_waited_for_a_minute_and_another_one_is_tried_three_times(ask, clock):
    assert ask(Server(clock, BUSY, 45), None) == "answer"
    for error, tries in ((BUSY, 7), (AWAY, 3), (GAVE_UP, 1)):
        server = Server(clock, error, 10**6)
        with pytest.raises(StoreUnavailableError):
            ask(server, None)
        assert len(server.asked_s) == tries


@both
def test_a_connection_that_is_closed_is_not_waited_for(ask, clock):
    server = Server(clock, ConnectionLostError("closed"), 600)
    with pytest.raises(StoreUnavailableError):
        ask(server, Patience(3600.0))
    assert len(server.asked_s) == 1


@both
def test_a_failure_long_after_another_one_is_a_new_one(ask, clock):
    patience = Patience(100.0)
    with pytest.raises(StoreUnavailableError):
        ask(Server(clock, AWAY, 10**4), patience)
    clock.sleep(7200)
    assert ask(Server(clock, AWAY, 90), patience) == "answer"


class Noted(Patience):
    """Notes when requests are let pass: the clock of the test goes on while they are on their way."""

    def __init__(self, limit_s):
        super().__init__(limit_s)
        self.sent_s: list[float] = []
        self._noting = threading.Lock()

    def delay_s(self):
        with self._noting:
            delay_s = super().delay_s()
            if not delay_s:
                self.sent_s.append(self._sent_s)
            return delay_s


def test_callers_that_share_the_waiting_send_one_request_a_second_together(clock):
    server, patience = Server(clock, BUSY, 120), Noted(3600.0)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(blocking(server, patience))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["answer"] * 4
    refused_s = [at_s for at_s in patience.sent_s if at_s < server.until_s]
    after_the_first = refused_s[4:]  # four may have been sent before the first was refused
    assert all(b - a >= 1.0 for a, b in itertools.pairwise(after_the_first))


def test_an_answer_to_a_request_from_before_does_not_end_the_wait_that_the_store_has_asked_for(clock):
    patience = Patience(3600.0)
    assert patience.delay_s() == 0.0
    sent_s = patience.now_s()
    clock.sleep(1)
    patience.delay_s()
    assert patience.failed(TOLD, tries=1, attempts=3) == 7.0
    patience.succeeded(sent_s)
    assert patience.delay_s() == 7.0
    clock.sleep(7)
    assert patience.delay_s() == 0.0
    assert patience.delay_s() == 1.0  # one request a second, until one has succeeded
    patience.succeeded(patience.now_s())
    assert patience.delay_s() == patience.delay_s() == 0.0


def test_who_listens_is_told_of_each_wait(clock):
    told = []
    server = Server(clock, TOLD, 20)
    blocking(server, Patience(60.0, on_wait=lambda error, wait_s: told.append((error, wait_s))))
    assert told == [(TOLD, 7.0)] * 3


def test_nobody_waits_after_it_was_given_up(clock):
    patience = Patience(3600.0)
    patience.give_up()
    server = Server(clock, BUSY, 600)
    with pytest.raises(StoreUnavailableError):
        blocking(server, patience)
    assert len(server.asked_s) == 1


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), True, "60"])
def test_a_patience_that_is_no_number_of_seconds_is_named(value):
    with pytest.raises(EmbedInputError, match="`patience_s` is"):
        check_patience(value)


class Half:
    """Takes the records of even positions at first, and more each time; refuses the first one for good."""

    def __init__(self, error):
        self.error = error
        self.taken: list[str] = []
        self.calls = 0

    def upsert(self, records):
        self.calls += 1
        yield lambda _: None
        failed = {}
        for at, record in enumerate(records):
            if record.record_id == "r 0":
                failed[at] = StoreRequestError("never")
            elif at % 2 and self.calls < 4:
                failed[at] = self.error
            else:
                self.taken.append(record.record_id)
        if failed:
            raise PartialFailureError("records", failed=failed, kept={})


def written(half, patience):
    run(
        upsert_patiently(half.upsert, list(synthetic(9)), patience),
        None,
        translate=translate,
        attempts=1,
        patience=patience,
    )


def test_what_passes_is_written_again_and_what_is_refused_for_good_is_told_once(clock):
    half = Half(StoreUnavailableError("the disk is full"))
    with pytest.raises(PartialFailureError) as caught:
        written(half, Patience(60.0))
    assert list(caught.value.refused) == list(caught.value.failed) == [0]
    assert sorted(caught.value.kept) == list(range(1, 9))
    assert sorted(half.taken) == [f"r {at}" for at in range(1, 9)]
    assert clock.waited == [1.0, 2.0, 4.0][: len(clock.waited)]
    assert clock.waited


def test_without_patience_what_would_pass_is_told(clock):
    half = Half(StoreUnavailableError("the disk is full"))
    with pytest.raises(PartialFailureError) as caught:
        written(half, Patience())
    assert list(caught.value.unavailable) == [1, 3, 5, 7]
    assert list(caught.value.refused) == [0]
    assert half.calls == 1
    assert clock.waited == []
