"""A process that may not download is stopped before anything leaves this machine."""

import subprocess
import sys
import textwrap

import pytest

GUARDED = "from jclip_connectors.evaluation.network_guard import forbid_network; forbid_network()\n"


def run_guarded(code):
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", GUARDED + textwrap.dedent(code)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("import socket; socket.getaddrinfo('example.org', 80)", "example.org"),
        ("import socket; socket.socket().connect(('192.0.2.1', 80))", "192.0.2.1"),
        ("import subprocess; subprocess.call('wget http://example.org/a', shell=True)", "wget http://example.org/a"),
        ("import os; os.system('touch made')", "touch made"),
        ("import subprocess; subprocess.call(['wget', 'http://example.org/a'])", "wget http://example.org/a"),
        ("import os; os.posix_spawn('/bin/sh', ['/bin/sh', '-c', 'touch made'], {})", "touch made"),
        ("import os; os.execv('/usr/bin/env', ['/usr/bin/env', 'curl', 'http://example.org'])", "http://example.org"),
        ("import os; os.popen('curl http://example.org')", "curl http://example.org"),
    ],
)
def test_a_look_up_a_connection_and_a_shell_are_refused_by_name(code, named):
    done = run_guarded(code)
    assert done.returncode == 1
    assert "EvaluationError" in done.stderr
    assert named in done.stderr
    assert "--download" in done.stderr


def test_this_machine_and_programs_without_a_shell_are_allowed():
    done = run_guarded(
        """
        import socket, subprocess, sys
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname()).close()
        socket.getaddrinfo("localhost", 80)
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        """
    )
    assert done.returncode == 0, done.stderr
