"""Runs in the clients' environment: calls every public function of a script, and prints what each gave as JSON.

    python -I run.py use_openai.py < given.json

No function may leave this machine: neither a client that ignores its base URL nor one that reports its use.
"""

import asyncio
import inspect
import json
import runpy
import sys
import traceback


def stay_here(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in ("127.0.0.1", b"127.0.0.1"):
        raise PermissionError(f"this client would leave the machine for {host!r}")


def outcome(function, given):
    try:
        returned = function(given)
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
    except Exception:  # noqa: BLE001 (whatever a client raises is shown by the test)
        return {"raised": traceback.format_exc()}
    return {"returned": returned}


def main():
    given = json.load(sys.stdin)
    sys.addaudithook(stay_here)
    script = runpy.run_path(sys.argv[1])
    functions = {
        name: value
        for name, value in script.items()
        if inspect.isfunction(value) and value.__code__.co_filename == sys.argv[1] and not name.startswith("_")
    }
    outcomes = {name: outcome(function, given) for name, function in functions.items()}
    sys.stdout.write(f"\n{json.dumps(outcomes)}")


main()
