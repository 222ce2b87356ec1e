"""Ray in processes of its own: clusters of one or more nodes on this machine, and programs that use them.

Where the system allows it, all of it runs in a network of its own that has nothing but loopback. Every process is
ended by its number, and belongs to a session that a test has begun.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from jclip_connectors.bulk.vector_files import VectorFolder
from jclip_connectors.bulk.vector_rows import to_rows
from tests.environments import ROOT, environment, run

_FENCES: tuple[list[str], ...] = (["unshare", "--net"], ["unshare", "--net", "--map-root-user"], [])


def ray_python():
    """Build the environment with Ray once, and give its Python."""
    python = environment("ray", ROOT / "constraints" / "ray.txt")
    if not list(python.parents[1].glob("lib/*/site-packages/jclip_connectors-*")):
        import uv

        command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", str(python), "--no-deps", "--editable"]
        run([*command, str(ROOT)], timeout=300)
    return python


class Cluster:
    """A folder for Ray, and what runs there.

    Args:
        folder: becomes the home of all programs, and where they write.
        fenced: whether they run in a network of their own, where the system allows it.
        environ: more environment variables for all of them.
    """

    def __init__(self, folder, *, fenced=True, **environ):
        self.folder = folder
        self.python = ray_python()
        self.address = None
        # Short, as the paths of sockets are.
        self.temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.environ = {
            "HOME": str(folder),
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            **{name: os.environ[name] for name in ("JCLIP_CACHE_DIR",) if name in os.environ},
            **environ,
        }
        self._started = []
        self._fence = next(fence for fence in _FENCES if not fence or (fenced and _works(fence)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._started:
            for pid in processes_of(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def start(self, *command, **options):
        """Start a program in a session of its own, inside the network of the first one."""
        if not self._started:
            fence = [*self._fence, "sh", "-c", 'ip link set lo up; exec "$@"', "sh"] if self._fence else []
        elif self._fence:
            users = ["--user", "--preserve-credentials"] if len(self._fence) > 2 else []
            fence = ["nsenter", "--target", str(self._started[0].pid), "--net", *users]
        else:
            fence = []
        line = [*fence, *map(str, command)]
        own = {"env": self.environ, "cwd": self.folder, "start_new_session": True}
        process = subprocess.Popen(line, **own, **options)  # noqa: S603 (ours)
        self._started.append(process)
        return process

    def start_head(self, *, cpus):
        """Start a cluster of one node; it takes who has the token."""
        self.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        # A node that does not answer is dead after three seconds.
        self.environ |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
        self.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
        process = self._start_node("--head", "--port=0", f"--temp-dir={self.temporary}", cpus=cpus)
        found = self.temporary / "ray_current_cluster"
        waited_for(lambda: found.exists() and found.read_text(), process=process)
        self.address = found.read_text()
        # The driver may join when the node has told the head about itself.
        waited_for(lambda: list(self.temporary.glob("session_latest/sockets/raylet")), process=process)
        return process

    def add_node(self, *, cpus, ip):
        """Start a second node, and wait until the head knows it."""
        return self._start_node(f"--address={self.address}", f"--node-ip-address={ip}", cpus=cpus)

    def _start_node(self, *arguments, cpus):
        options = [f"--num-cpus={cpus}", "--object-store-memory=80000000", "--include-dashboard=false", "--block"]
        options = [option for option in options if "--head" in arguments or "dashboard" not in option]
        log = (self.folder / f"node{len(self._started)}.log").open("w")
        with log:
            # Not the script `ray`: it names the folder that the environment was built in.
            program = "from ray.scripts.scripts import main; main()"
            return self.start(self.python, "-c", program, "start", *arguments, *options, stdout=log, stderr=log)

    def drive(self, sources, out, **options):
        """Start a program that embeds sources with `run_on_ray`; see drive.py."""
        given = json.dumps({"sources": list(map(str, sources)), "out": str(out), "address": self.address, **options})
        with (self.folder / f"driver{len(self._started)}.log").open("w") as log:
            process = self.start(
                self.python, ROOT / "tests/ray/drive.py", given, stdout=subprocess.PIPE, stderr=log, text=True
            )
        process.log = Path(log.name)
        return process


def finished(process, *, timeout_s=200):
    """Wait for a driver, and give what it printed: a line for each shard, and the report."""
    printed, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, process.log.read_text()
    return [json.loads(line) for line in printed.splitlines()]


def waited_for(condition, *, process, timeout_s=90):
    """Wait until a condition is true while a process runs, and give its value."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)
    return value


def processes_of(session):
    """The numbers of all processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = stat.read_text().split(" (", 1)
            if int(rest.rpartition(")")[2].split()[3]) == session:
                found.append(int(number))
    return found


def listening_addresses(pids):
    """The addresses on which processes listen, as the kernel writes them: (address, port) in hex."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                found.add(tuple(local.split(":")))
    return found


def worker_in(out, batch_start, *, batch_size):
    """The process that has come to a batch of some shard, stopped there; `None` if there is none."""
    for marker in Path(out).glob(".tmp/*.at"):
        with contextlib.suppress(OSError, ValueError):
            at = json.loads(marker.read_text())["at"]
            if int(at.split("-")[0]) < batch_start * batch_size:
                continue
            (written,) = Path(out).glob(f".tmp/{marker.name.removesuffix('.at')}.*.*")
            pid = int(written.name.split(".")[-2])
            os.kill(pid, signal.SIGSTOP)
            if marker.exists():
                return pid
            os.kill(pid, signal.SIGCONT)
    return None


def rows_of(out):
    """All rows of a folder of vectors."""
    folder = VectorFolder(out)
    return [row for name in folder.files() for batch in folder.batches(name) for row in to_rows(batch)]


def _works(fence):
    return subprocess.run([*fence, "true"], capture_output=True, check=False).returncode == 0  # noqa: S603 (ours)
