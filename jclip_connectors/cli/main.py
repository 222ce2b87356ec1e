"""The entry point of `jclip`: runs the commands, or says in one line which package is missing.

Importing this module loads nothing else, so that an interrupt is met from the first moment.
"""

import os
import signal
import sys
from types import FrameType

_NOT_DONE, _INTERRUPTED = 2, 130


def main() -> None:
    """Run the command line; exit code 2 if the extra "cli" is not installed."""
    # While modules are imported nothing can be lost, and an exception could come up inside any of them.
    before = signal.signal(signal.SIGINT, _stop_at_once)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 shows escapes instead of failing
    try:
        from jclip_connectors.cli.commands import make_app, run

        app = make_app(sys.argv[1:])
    except ModuleNotFoundError as error:
        from jclip_connectors.errors import MissingDependencyError

        sys.exit(_not_done(MissingDependencyError(str(error.name).partition(".")[0], extra="cli")))
    if before is signal.default_int_handler:  # a program that was started in the background ignores interrupts
        signal.signal(signal.SIGINT, _stop_in_order)
    else:
        signal.signal(signal.SIGINT, before)
    run(app)


def _stop_at_once(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(_INTERRUPTED)


def _stop_in_order(_number: int, _frame: FrameType | None) -> None:
    """Close what is open; a second interrupt does not wait for that, and shows no traceback."""
    signal.signal(signal.SIGINT, _stop_at_once)
    raise KeyboardInterrupt


def _not_done(error: ImportError) -> int:
    sys.stderr.write(f"error: {error}\n")
    return _NOT_DONE


if __name__ == "__main__":
    main()
