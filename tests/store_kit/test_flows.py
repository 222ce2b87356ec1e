import asyncio

import pytest

from jclip_connectors.errors import PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.async_flows import run_async
from jclip_connectors.store_kit.flows import run


class SdkError(Exception):
    pass


def translate(error):
    if not isinstance(error, SdkError):
        return None
    text = str(error)
    return StoreUnavailableError(text, retry_after_s=0.0) if text.startswith("busy") else StoreRequestError(text)


class Client:
    """Answers with what it was given, one thing a call; raises what is an error."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def ask(self, what):
        self.asked.append(what)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class AsyncClient(Client):
    async def ask(self, what):
        await asyncio.sleep(0)
        return super().ask(what)


def blocking(flow, *answers, attempts=3):
    client = Client(*answers)
    return run(flow, client, translate=translate, attempts=attempts), client.asked


def awaited(flow, *answers, attempts=3):
    client = AsyncClient(*answers)
    return asyncio.run(run_async(flow, client, translate=translate, attempts=attempts)), client.asked


both = pytest.mark.parametrize("perform", [blocking, awaited])


def sums():
    first = yield lambda client: client.ask("first")
    second = yield lambda client: client.ask("second")
    return first + second


def forgives():
    failed, kept = {}, {}
    for position in range(3):
        try:
            kept[position] = yield lambda client, position=position: client.ask(position)
        except StoreRequestError as error:
            failed[position] = error
    if failed:
        raise PartialFailureError("records", failed=failed, kept=kept)


@both
def test_a_flow_is_sent_the_answers_to_its_calls(perform):
    assert perform(sums(), 1, 2) == (3, ["first", "second"])


@both
def test_a_call_is_made_again_while_the_store_is_unavailable(perform):
    assert perform(sums(), SdkError("busy"), SdkError("busy"), 1, SdkError("busy"), 2) == (
        3,
        ["first", "first", "first", "second", "second"],
    )


@both
def test_after_the_last_attempt_the_error_is_ours_and_names_its_cause(perform):
    with pytest.raises(StoreUnavailableError, match="busy") as caught:
        perform(sums(), *[SdkError("busy")] * 3)
    assert isinstance(caught.value.__cause__, SdkError)


@both
def test_a_refusal_is_not_tried_again(perform):
    with pytest.raises(StoreRequestError, match="no"):
        perform(sums(), SdkError("no"), 1, 2)


@both
def test_a_flow_can_go_on_after_a_refusal(perform):
    with pytest.raises(PartialFailureError) as caught:
        perform(forgives(), "a", SdkError("no"), "c")
    assert sorted(caught.value.failed) == [1]
    assert caught.value.kept == {0: "a", 2: "c"}


@both
def test_what_is_not_the_clients_error_passes_as_it_is(perform):
    with pytest.raises(ZeroDivisionError):
        perform(sums(), ZeroDivisionError())


@both
def test_the_wait_between_attempts_is_what_the_store_asks_for(perform, clock):
    delays = iter([3.5, None, None])

    def slow(_):
        return StoreUnavailableError("busy", retry_after_s=next(delays))

    client = (AsyncClient if perform is awaited else Client)(SdkError(), SdkError(), SdkError(), 1, 2)
    if perform is awaited:
        assert asyncio.run(run_async(sums(), client, translate=slow, attempts=4)) == 3
    else:
        assert run(sums(), client, translate=slow, attempts=4) == 3
    assert clock.waited == [3.5, 0.5, 1.0]


@both
def test_a_retry_is_logged_with_its_reason_and_without_a_secret(perform, caplog):
    perform(sums(), SdkError("busy, api-key: abcdef123456"), 1, 2)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("jclip_connectors.store_kit", "WARNING")
    assert "busy" in record.getMessage()
    assert "abcdef123456" not in caplog.text
