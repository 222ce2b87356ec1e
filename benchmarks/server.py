"""`jclip serve` under load: latency at 70 % of saturation, throughput beside the bare encoder, and overload.

    python -m benchmarks.server [--seconds 60] [--quick]

Server and load generator are processes of their own on loopback, each bound to a processor where there are two, and a
request is one short text. Vectors are compared before any time is taken. Linux only.
"""

import argparse
import json
import os
import statistics
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.fixed_engine import TEXTS, FixedTimeEncoder
from benchmarks.open_loop import Load, Outcome, send
from benchmarks.server_process import Memory, ServerProcess, growth, running
from core_encoder import JinaClipEncoder
from jclip_connectors.server.serve import BATCH_TOKENS

NANO = ("-m", "jclip_connectors.cli.main", "serve", "--model", "nano", "--device", "cpu", "--port", "PORT")
FIXED = ("-m", "benchmarks.fixed_engine", "PORT")
CALL_S = 0.005  # that an engine takes for a call, besides its texts: 24 layers of kernels to launch
ENGINES = {"large model, GPU": 500.0, "larger GPU": 1000.0}  # short texts a second
CLIENTS, MANY_CLIENTS = 64, 256
OVERLOAD_PARTS = 4
LARGEST_DIFFERENCE = 1e-6
# The bars.
LATENCY_BATCHES, STEADY_LOAD, BULK_SHARE, OVERLOAD, GOODPUT_SHARE, LATE, GROWTH = 3, 0.7, 0.7, 2.0, 0.95, 0.05, 1.05


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How long everything takes, and where it runs.

    Attributes:
        overload_s: of more load than the server can bear, in all parts together.
        steady_s: of less, in all rounds together.
        window_s: of one measurement of throughput.
        rounds: of all that a ratio is made of.
        server_cpu: that servers are bound to, or `None`.
        load_cpu: that generators are bound to, or `None`.
    """

    overload_s: float
    steady_s: float
    window_s: float
    rounds: int
    server_cpu: int | None
    load_cpu: int | None


@dataclass(frozen=True)
class Row:
    """A line of the table; `met` is `None` where nothing is claimed."""

    what: str
    bar: str
    measured: str
    met: bool | None = None


def two_processors() -> tuple[int | None, int | None]:
    """One for the server and one for the generator, or `None` where there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return (first, others[0]) if others else (None, None)


def full_batch(encoder: JinaClipEncoder) -> list[str]:
    """As many texts as the server gives a model at once."""
    count = BATCH_TOKENS["cpu"] // max(encoder.count_tokens(TEXTS))
    return [TEXTS[i % len(TEXTS)] for i in range(count)]


def seconds_of_call(encoder: JinaClipEncoder | FixedTimeEncoder, texts: Sequence[str], *, rounds: int) -> float:
    """Median time of one call, after one without a clock."""
    tokens = encoder.tokenize(texts)
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        encoder.encode_tokens(tokens, normalize=False)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def speed(encoder: JinaClipEncoder) -> tuple[float, float]:
    """Texts a second, and the seconds that a call takes besides."""
    batch = full_batch(encoder)
    one_s, batch_s = (seconds_of_call(encoder, texts, rounds=20) for texts in (batch[:1], batch))
    text_s = (batch_s - one_s) / (len(batch) - 1)
    return 1 / text_s, max(0.0, one_s - text_s)


def served_vectors(server: ServerProcess, texts: Sequence[str]) -> NDArray[np.float64]:
    """(B, E) from the server."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/embeddings",
        json.dumps({"model": "nano", "input": list(texts)}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        return np.array([each["embedding"] for each in json.load(answer)["data"]])


def check_vectors(server: ServerProcess, encoder: JinaClipEncoder) -> None:
    """Stop where the server's vectors are not the encoder's, one by one or all in one request."""
    expected = encoder.encode_text(TEXTS)
    alone = np.concatenate([served_vectors(server, [text]) for text in TEXTS])
    difference = float(np.abs(np.stack([alone, served_vectors(server, TEXTS)]) - expected).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise SystemExit(f"the server's vectors differ from the encoder's by {difference:.1e}: no times are taken")


def closed(server: ServerProcess, setup: Setup, clients: int) -> Outcome:
    """Serve clients that send when they have their answer."""
    load = Load(port=server.port, seconds=setup.window_s + 1, texts=TEXTS, connections=clients, cpu=setup.load_cpu)
    return send(load)


def open_loop(server: ServerProcess, setup: Setup, rate: float, seconds: float) -> Outcome:
    """Serve a Poisson process."""
    load = Load(
        port=server.port, seconds=seconds + 1, rate=rate, texts=TEXTS, connections=MANY_CLIENTS, cpu=setup.load_cpu
    )
    return send(load)


def measure_latency(server: ServerProcess, encoder: JinaClipEncoder, setup: Setup) -> list[Row]:
    """Latency at a load that the server can bear, each round at its own share of what was borne a moment before."""
    batch, cpu_s = full_batch(encoder), 0.0
    goodputs, batches_s, found = [], [], list[Outcome]()
    for _ in range(setup.rounds):
        began_s = server.cpu_s()
        goodputs.append(closed(server, setup, MANY_CLIENTS).goodput)
        cpu_s += server.cpu_s() - began_s
        batches_s.append(seconds_of_call(encoder, batch, rounds=setup.rounds))
        found.append(open_loop(server, setup, STEADY_LOAD * goodputs[-1], setup.steady_s / setup.rounds))
    waits = [outcome.p99_s / batch_s for outcome, batch_s in zip(found, batches_s, strict=True)]
    wait, refused = statistics.median(waits), sum(outcome.refused for outcome in found)
    failed = sum(outcome.failed for outcome in found)
    each_us = 1e6 * cpu_s / (sum(goodputs) * (setup.window_s + 1))  # the warm-up is as fast, nearly
    most, batch_s = statistics.median(goodputs), statistics.median(batches_s)
    return [
        Row(
            f"nano, {MANY_CLIENTS} clients that wait: saturation",
            "",
            f"{most:.0f} requests/s, {each_us:.0f} us of processor each",
        ),
        Row("nano, one full batch", "", f"{batch_s * 1000:.0f} ms, {len(batch)} texts, {len(batch) / batch_s:.0f}/s"),
        Row(
            f"nano, Poisson at {STEADY_LOAD:.0%} of saturation: p99",
            f"<= {LATENCY_BATCHES} full batches",
            f"{wait:.1f} ({min(waits):.1f} - {max(waits):.1f}) full batches; {refused} refused, {failed} failed",
            wait <= LATENCY_BATCHES and not failed and not refused,
        ),
        _generator(found[-1]),
    ]


def measure_throughput(name: str, encoder: JinaClipEncoder, setup: Setup, texts_per_s: float, call_s: float) -> Row:
    """Single-text requests beside full batches, with an engine whose time is fixed."""
    engine = FixedTimeEncoder(encoder, texts_per_s=texts_per_s, call_s=call_s)
    batch, shares, rates = full_batch(encoder), [], []
    with running((*FIXED, str(texts_per_s), str(call_s)), cpu=setup.server_cpu) as server:
        check_vectors(server, encoder)
        for _ in range(setup.rounds):
            bulk = len(batch) / seconds_of_call(engine, batch, rounds=1)
            rates.append(closed(server, setup, CLIENTS).goodput)
            shares.append(rates[-1] / bulk)
    share = statistics.median(shares)
    return Row(
        f"{CLIENTS} clients, engine fixed at {texts_per_s:.0f} texts/s + {call_s * 1000:.1f} ms a call ({name})",
        f">= {BULK_SHARE:.0%} of its bulk rate",
        f"{share:.0%} ({min(shares):.0%} - {max(shares):.0%}), {statistics.median(rates):.0f} requests/s",
        share >= BULK_SHARE,
    )


def measure_overload(name: str, server: ServerProcess, setup: Setup) -> list[Row]:
    """More than the server can bear, in parts between measurements of what it can, as machines change their speed."""
    borne, found, samples = [closed(server, setup, MANY_CLIENTS).goodput], list[Outcome](), list[int]()
    for _ in range(OVERLOAD_PARTS):
        with Memory(server) as memory:
            found.append(open_loop(server, setup, OVERLOAD * borne[-1], setup.overload_s / OVERLOAD_PARTS))
        samples += memory.samples
        borne.append(closed(server, setup, MANY_CLIENTS).goodput)
    shares = [outcome.goodput / statistics.mean(around) for outcome, around in zip(found, pairwise(borne), strict=True)]
    share, late = statistics.median(shares), max(outcome.late for outcome in found)
    grown, failed = growth(samples), sum(outcome.failed for outcome in found)
    refused_s, most = max(outcome.refused_p99_s for outcome in found), statistics.median(borne)
    return [
        Row(
            f"{name}, {OVERLOAD:.0f} x saturation ({most:.0f}/s) for {setup.overload_s:.0f} s: goodput",
            f">= {GOODPUT_SHARE:.0%} of saturation",
            f"{share:.0%} ({min(shares):.0%} - {max(shares):.0%}; p99 {max(outcome.p99_s for outcome in found):.1f} s)",
            share >= GOODPUT_SHARE,
        ),
        Row(
            f"{name}, the rest",
            f"429 or 503 with Retry-After; <= {LATE:.0%} wait",
            f"{sum(outcome.refused for outcome in found)} refused, {failed} failed, {late:.0%} still wait; "
            f"refused within {refused_s:.2f} s (p99)",
            not failed and late <= LATE,
        ),
        Row(
            f"{name}, memory",
            f"last quarter <= {GROWTH:.2f} x the first",
            f"{grown:.2f} x ({samples[0] / 1e6:.0f} MB before, {max(samples) / 1e6:.0f} at most)",
            grown <= GROWTH,
        ),
        _generator(found[-1]),
    ]


def _generator(found: Outcome) -> Row:
    late = f"sent {found.late_p99_s * 1000:.1f} ms late (p99)"
    return Row("  its generator", "", f"{found.cpu_share:.0%} of a processor, {found.connections} connections, {late}")


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title=title, title_justify="left")
    for column in ("what", "bar", "measured", "verdict"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.what, row.bar, row.measured, "" if row.met is None else ("met" if row.met else "MISSED"))
    Console(width=160).print(table)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--quick", action="store_true", help="a fifth of all times, which proves less")
    options = parser.parse_args()
    part = 0.2 if options.quick else 1.0
    server_cpu, load_cpu = two_processors()
    setup = Setup(
        overload_s=part * options.seconds,
        steady_s=part * 30,
        window_s=max(1.5, part * 3),
        rounds=1 if options.quick else 3,
        server_cpu=server_cpu,
        load_cpu=load_cpu,
    )
    torch.set_num_threads(1)  # as the servers do
    encoder = JinaClipEncoder.load("nano", device="cpu")
    rows: list[Row] = []
    with running(NANO, cpu=server_cpu) as server:
        check_vectors(server, encoder)
        rows += measure_latency(server, encoder, setup)
        rows += measure_overload("nano", server, setup)
    for name, texts_per_s in ENGINES.items():
        rows.append(measure_throughput(name, encoder, setup, texts_per_s, CALL_S))
    rows.append(measure_throughput("as nano here", encoder, setup, *speed(encoder)))
    fast = ENGINES["large model, GPU"]
    with running((*FIXED, str(fast), str(CALL_S)), cpu=server_cpu) as server:
        rows += measure_overload(f"engine fixed at {fast:.0f} texts/s", server, setup)
    where = "each of one processor" if server_cpu is not None else "on one processor, the generator on the same"
    print_rows(f"jclip serve, {where}, one thread for the model", rows)


if __name__ == "__main__":
    main()
