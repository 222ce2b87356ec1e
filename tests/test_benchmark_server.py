"""The arithmetic of the load generator and of the server's benchmark, where a mistake would flatter."""

import itertools
import json
import math
import socket
import statistics
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fixed_engine import TEXTS, FixedTimeEncoder
from benchmarks.open_loop import Generator, Load, Outcome, answer_length, due_times, percentile, request_bytes
from benchmarks.server_process import growth
from core_encoder import JinaClipEncoder


def outcome(**changes):
    found = {
        "seconds": 10.0,
        "offered": 100,
        "statuses": {},
        "without_retry_after": 0,
        "p50_s": 0.0,
        "p99_s": 0.0,
        "refused_p99_s": 0.0,
        "late_p99_s": 0.0,
        "connections": 1,
        "cpu_share": 0.0,
    }
    return Outcome(**{**found, **changes})


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_the_share_does_not_exceed(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) * (1 - 1e-9)
    assert sum(value < found for value in values) < share * len(values) * (1 + 1e-9)


def test_the_slowest_hundredth_of_a_hundred_is_one_value():
    assert percentile(list(range(1, 101)), 0.99) == 99
    assert percentile(list(range(1, 102)), 0.99) == 100
    assert math.isnan(percentile([], 0.99))


def test_requests_are_due_at_the_times_of_a_poisson_process():
    times = list(due_times(500.0, 20.0, seed=1))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert times == sorted(times)
    assert times[-1] < 20
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert statistics.mean(gaps) == pytest.approx(1 / 500, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1 / 500, rel=0.05)  # as for an exponential


def test_the_same_seed_gives_the_same_times():
    assert list(due_times(50.0, 2.0, seed=3)) == list(due_times(50.0, 2.0, seed=3))
    assert list(due_times(50.0, 2.0, seed=3)) != list(due_times(50.0, 2.0, seed=4))


def test_only_vectors_are_goodput_and_only_refusals_that_name_a_time_are_clean():
    found = outcome(statuses={"200": 50, "429": 20, "503": 5, "500": 2, "broken": 1}, without_retry_after=3)
    assert found.goodput == 5.0
    assert found.refused == 22
    assert found.failed == 3 + 2 + 1
    assert found.late == pytest.approx(0.22)


def test_an_answer_ends_where_its_length_says():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-type: x\r\n\r\nabcde"
    assert answer_length(answer) == len(answer)
    assert answer_length(answer[:30]) is None
    assert answer_length(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n") == 39 + 12


def test_an_answer_without_a_length_is_not_guessed_at():
    with pytest.raises(SystemExit, match="without Content-Length"):
        answer_length(b"HTTP/1.1 200 OK\r\n\r\ncontent-length: 5\r\n\r\n")


def test_a_request_says_how_long_its_body_is():
    head, body = request_bytes("rødt \u661f").split(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["input"] == ["rødt \u661f"]


@pytest.fixture
def slow_server():
    """A server that takes 20 ms for each request, one at a time, and refuses every fifth."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lock, numbers = threading.Lock(), itertools.count(1)

        def serve(connection):
            with connection:
                while connection.recv(65536):
                    with lock:
                        threading.Event().wait(0.02)
                        refuse = next(numbers) % 5 == 0
                    status = b"429 Too Many\r\nRetry-After: 1" if refuse else b"200 OK"
                    connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_latency_counts_from_when_a_request_was_due(slow_server):
    load = Load(port=slow_server, seconds=1.0, rate=100.0, texts=["x"], connections=1, max_connections=4, warmup_s=0.0)
    found = Generator(load).run()
    assert 25 <= found.statuses["200"] + found.statuses["429"] <= 51  # 50 a second is all that it can
    assert found.refused == found.statuses["429"] > 0
    assert found.failed == 0
    assert found.p99_s > 0.5  # the last were due half a second before they could be sent
    assert found.late_p99_s > 0.4
    assert found.late == pytest.approx(0.5, abs=0.2)
    assert found.connections == 4


def test_a_closed_loop_sends_when_it_has_its_answer(slow_server):
    found = Generator(Load(port=slow_server, seconds=1.0, texts=["x"], connections=2, warmup_s=0.2)).run()
    assert found.goodput == pytest.approx(40, rel=0.4)  # 50 a second, of which every fifth is refused
    assert found.p50_s < 0.2
    assert found.late <= 0.1


def test_the_fixed_engine_has_the_vectors_of_the_model_and_takes_its_time():
    encoder = JinaClipEncoder.load("nano", device="cpu")
    fixed = FixedTimeEncoder(encoder, texts_per_s=len(TEXTS) * 10, call_s=0.05)
    tokens = fixed.tokenize(TEXTS[::-1])
    assert fixed.seconds(tokens) == pytest.approx(0.1 + 0.05)
    rows = fixed.encode_tokens(tokens, normalize=False)
    assert abs(rows - encoder.encode_text(TEXTS[::-1], normalize=False)).max() <= 1e-6


def test_memory_grows_from_the_first_quarter_to_the_last():
    samples = [100, 150, 400, 110, 110, 140, 165, 160]
    assert growth(samples) == pytest.approx(165 / 150)
    assert growth([100, 200]) == 2
