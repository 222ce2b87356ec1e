"""A load generator in a process of its own: single-text requests over keep-alive connections of loopback.

    python -m benchmarks.open_loop '{"port": 8080, "seconds": 10, "rate": 500, "texts": ["a red circle"]}'

With a `rate` the loop is open: requests are due at the times of a Poisson process, whatever the server does, and
latency counts from when a request was due. Without one it is closed: each connection sends when it has its answer.
One selector over plain sockets reads no more than the head of an answer, as it shares the machine with the server.
"""

import json
import math
import os
import random
import re
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *\d+", re.IGNORECASE)
_LAST_ANSWERS_S = 60.0  # waited for after the last request was due
_IDLE_S = 0.05
_REFUSALS = {"429", "503"}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send.

    Attributes:
        port: of the server on loopback.
        seconds: for which requests are due.
        texts: sent in turn, one a request.
        rate: requests a second of an open loop; `None` closes it.
        connections: of a closed loop; of an open one, those that it begins with.
        max_connections: of an open loop; a request that finds none free waits here, and its latency counts.
        warmup_s: at the beginning, which does not count.
        cpu: that the generator is bound to, or `None`.
        seed: of the times.
    """

    port: int
    seconds: float
    texts: Sequence[str]
    rate: float | None = None
    connections: int = 64
    max_connections: int = 4096
    warmup_s: float = 1.0
    cpu: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came back.

    Attributes:
        seconds: length of the window that counts.
        offered: requests that were due in it.
        statuses: answers that came in it, by HTTP status; besides, of any time, "broken" connections and "none" at all.
        without_retry_after: refusals that do not say when to come back.
        p50_s: median latency of the vectors of all requests that were due in the window.
        p99_s: what 99 of 100 of them do not exceed.
        refused_p99_s: the same of refusals.
        late_p99_s: the same of the time from when a request was due to when it was sent.
        connections: that were opened.
        cpu_share: of one processor, that the generator took.
    """

    seconds: float
    offered: int
    statuses: dict[str, int]
    without_retry_after: int
    p50_s: float
    p99_s: float
    refused_p99_s: float
    late_p99_s: float
    connections: int
    cpu_share: float

    @property
    def goodput(self) -> float:
        """Vectors a second."""
        return self.statuses.get("200", 0) / self.seconds

    @property
    def refused(self) -> int:
        """Requests that were refused with a time to come back at."""
        return sum(self.statuses.get(status, 0) for status in _REFUSALS) - self.without_retry_after

    @property
    def late(self) -> float:
        """Share of what was due that was still unanswered at the end."""
        return max(0.0, 1 - sum(self.statuses.values()) / self.offered)

    @property
    def failed(self) -> int:
        """Requests that got neither a vector nor such a refusal."""
        return sum(self.statuses.values()) - self.statuses.get("200", 0) - self.refused


def send(load: Load) -> Outcome:
    """Run a load in a new process."""
    command = [sys.executable, "-m", "benchmarks.open_loop", json.dumps(asdict(load))]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very file
    return Outcome(**json.loads(found.stdout))


def due_times(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the times of a Poisson process, in seconds from its start."""
    rng = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    due = rng.expovariate(rate)
    while due < seconds:
        yield due
        due += rng.expovariate(rate)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that `share` of them do not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def request_bytes(text: str) -> bytes:
    """One POST, ready to be sent."""
    body = json.dumps({"model": "nano", "input": [text]}).encode()
    head = ("POST /v1/embeddings HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json")
    return "\r\n".join((*head, f"Content-Length: {len(body)}", "", "")).encode() + body


def answer_length(received: bytes | bytearray) -> int | None:
    """Length of the answer that `received` begins with, head and body; `None` until its head is there."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    found = _LENGTH.search(received, 0, end + 2)
    if found is None:
        raise SystemExit(f"an answer without Content-Length: {bytes(received[:end])!r}")
    return end + 4 + int(found[1])


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    busy: bool = False  # a request is on its way
    due: float = 0.0  # of that request
    received: bytearray = field(default_factory=bytearray)


class Generator:
    """One run of a load."""

    def __init__(self, load: Load) -> None:
        """Open the first connections."""
        self._load = load
        self._requests = [request_bytes(text) for text in load.texts]
        self._selector = selectors.DefaultSelector()
        self._opened = self._offered = self._sent = self._on_their_way = self._without_retry_after = 0
        self._statuses: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._refusals: list[float] = []
        self._late: list[float] = []
        self._free = [self._connect() for _ in range(load.connections)]

    def run(self) -> Outcome:
        """Send everything and wait for the answers."""
        load, cpu_s = self._load, time.process_time()
        self._start = time.perf_counter()
        if load.rate is None:
            self._run_closed()
        else:
            self._run_open(load.rate)
        cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - self._start)
        end = time.perf_counter() + _LAST_ANSWERS_S
        while self._on_their_way and time.perf_counter() < end:
            self._receive(_IDLE_S)
        self._statuses["none"] += self._on_their_way
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()
        return Outcome(
            seconds=load.seconds - load.warmup_s,
            offered=self._offered,
            statuses={status: count for status, count in self._statuses.items() if count},
            without_retry_after=self._without_retry_after,
            p50_s=percentile(self._latencies, 0.5),
            p99_s=percentile(self._latencies, 0.99),
            refused_p99_s=percentile(self._refusals, 0.99),
            late_p99_s=percentile(self._late, 0.99),
            connections=self._opened,
            cpu_share=cpu_share,
        )

    def _run_closed(self) -> None:
        while (now := self._now()) < self._load.seconds:
            while self._free:
                self._send(self._free.pop(), now)
                self._offered += now >= self._load.warmup_s
            self._receive(_IDLE_S)

    def _run_open(self, rate: float) -> None:
        """Send what is due; the last request of all waits for a connection no longer than answers are waited for."""
        times = due_times(rate, self._load.seconds, self._load.seed)
        coming = next(times, math.inf)
        waiting: deque[float] = deque()
        while coming < math.inf or (waiting and self._now() < self._load.seconds + _LAST_ANSWERS_S):
            now = self._now()
            while coming <= now:
                waiting.append(coming)
                self._offered += coming >= self._load.warmup_s
                coming = next(times, math.inf)
            while waiting and (self._free or self._opened < self._load.max_connections):
                self._send(self._free.pop() if self._free else self._connect(), waiting.popleft())
            self._receive(min(_IDLE_S, max(0.0, coming - self._now())))
        self._statuses["none"] += len(waiting)

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _connect(self) -> _Connection:
        self._opened += 1
        connection = _Connection(socket.create_connection(("127.0.0.1", self._load.port)))
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.settimeout(0)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def _send(self, connection: _Connection, due: float) -> None:
        connection.busy, connection.due = True, due
        if due >= self._load.warmup_s:
            self._late.append(self._now() - due)
        self._on_their_way += 1
        try:
            connection.socket.send(self._requests[self._sent % len(self._requests)])  # short: it fits the buffer
        except OSError:
            self._drop(connection)
        self._sent += 1

    def _receive(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            connection: _Connection = key.data
            try:
                received = connection.socket.recv(65536)
            except OSError:
                received = b""
            if not received or not connection.busy:  # closed, or about to be: nothing was asked
                self._drop(connection)
                continue
            connection.received += received
            length = answer_length(connection.received)
            if length is not None and len(connection.received) >= length:
                self._count(connection)

    def _count(self, connection: _Connection) -> None:
        """Take an answer, and free its connection."""
        now, answer = self._now(), connection.received
        status = answer[9:12].decode("ascii")
        if self._load.warmup_s <= now < self._load.seconds:
            self._statuses[status] += 1
            if status in _REFUSALS and not _RETRY_AFTER.search(answer):
                self._without_retry_after += 1
        if connection.due >= self._load.warmup_s:
            (self._latencies if status == "200" else self._refusals).append(now - connection.due)
        connection.busy, connection.received = False, bytearray()
        self._on_their_way -= 1
        self._free.append(connection)

    def _drop(self, connection: _Connection) -> None:
        """Forget a connection that the server ended; a request on it is broken, an idle one is only closed."""
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._opened -= 1
        if connection.busy:
            self._on_their_way -= 1
            self._statuses["broken"] += 1
        else:
            self._free.remove(connection)


def main() -> None:
    """Run the load that the command line describes, and print its outcome."""
    load = Load(**json.loads(sys.argv[1]))
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    if load.cpu is not None:
        os.sched_setaffinity(0, {load.cpu})
    print(json.dumps(asdict(Generator(load).run())))


if __name__ == "__main__":
    main()
