"""Programs in processes of their own that start at once: they are forked from a process that has loaded torch.

Loading torch takes longer than what these programs do. Everything else they load themselves, after their environment
variables have been set. A test of what a program loads, or of how the interpreter starts, takes `subprocess` instead.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch"])


class Program:
    """A Python program that runs: what it prints so far, and how it ends.

    Args:
        arguments: those of the interpreter: `-m MODULE ...`, `-c CODE ...` or `FILE ...`.
        environment: all of its environment variables.
    """

    def __init__(self, *arguments, environment=os.environ):
        self._folder = tempfile.TemporaryDirectory(prefix="program-")
        self._outputs = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        given = (list(map(str, arguments)), dict(environment), [str(path) for path in self._outputs])
        self._process = _CONTEXT.Process(target=_run, args=given)
        self._process.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.join()
        self._folder.cleanup()

    @property
    def stdout(self):
        return self._printed(0)

    @property
    def stderr(self):
        return self._printed(1)

    def _printed(self, number):
        path = self._outputs[number]
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def lines_of_stderr(self):
        """Give each line as soon as it is written, until the program has ended."""
        given = 0
        while True:
            ended = self._process.exitcode is not None
            lines = self.stderr.splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            yield from whole[given:]
            given = len(whole)
            if ended:
                return
            time.sleep(0.002)

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()

    def wait(self, timeout_s=60):
        """Give the exit code, which is negative where a signal ended the program."""
        self._process.join(timeout_s)
        assert self._process.exitcode is not None, f"it still runs after {timeout_s} s:\n{self.stderr}"
        return self._process.exitcode


def run_program(*arguments, environment=os.environ):
    """Run a program to its end; the exit code, and what it printed to stdout and stderr."""
    with Program(*arguments, environment=environment) as program:
        code = program.wait(timeout_s=240)
        return code, program.stdout, program.stderr


def _run(arguments, environment, outputs):
    """Become the program, in the new process."""
    for number, path in zip((1, 2), outputs, strict=True):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server that forks ignores it
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("PYTHONWARNINGS"):  # the interpreter reads it at its start
        warnings._processoptions(environment["PYTHONWARNINGS"].split(","))  # type: ignore[attr-defined]
    kind, *rest = arguments
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - a test's own code
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(kind).parent))
        runpy.run_path(kind, run_name="__main__")
