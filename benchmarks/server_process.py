"""Servers in processes of their own, that end with the block that began them."""

import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_START_S = 120
_SAMPLE_S = 0.5


class ServerProcess:
    """A server that runs, or is still loading."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        """Know it by its process and its port."""
        self.port = port
        self._process = process

    def resident_bytes(self) -> int:
        """Memory that it has now; Linux only."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """Processor time of all its threads since it began; Linux only."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until_ready(self) -> None:
        """Wait for `/ready`."""
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise SystemExit("the server did not start; its log is above")


@contextmanager
def running(arguments: Sequence[str], *, cpu: int | None) -> Iterator[ServerProcess]:
    """Run Python with `arguments`, "PORT" among them standing for a free port, until the end of the block.

    Args:
        arguments: of the interpreter.
        cpu: that the server is bound to, or `None`.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, *(str(port) if each == "PORT" else each for each in arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A file, as a pipe that nobody reads would hold the server up.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603 - this interpreter
        try:
            if cpu is not None:
                os.sched_setaffinity(process.pid, {cpu})
            server = ServerProcess(process, port)
            try:
                server.wait_until_ready()
            except SystemExit:
                log.seek(0)
                print(log.read().decode(errors="replace"))
                raise
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Memory:
    """Samples a server's resident memory in the block that it is the context of."""

    def __init__(self, server: ServerProcess) -> None:
        """Take the first sample."""
        self.samples = [server.resident_bytes()]
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Memory":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self.samples.append(self._server.resident_bytes())


def growth(samples: Sequence[int]) -> float:
    """How many times the largest of the first quarter the largest of the last quarter is."""
    quarter = math.ceil(len(samples) / 4)
    return max(samples[-quarter:]) / max(samples[:quarter])
