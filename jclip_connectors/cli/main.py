"""The entry point of `jclip`: runs the commands, or says in one line which package is missing."""

import sys

from jclip_connectors.errors import MissingDependencyError


def main() -> None:
    """Run the command line; exit code 2 if the extra "cli" is not installed."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 shows escapes instead of failing
    try:
        from jclip_connectors.cli.commands import run
    except ModuleNotFoundError as error:
        sys.exit(_not_done(MissingDependencyError(str(error.name).partition(".")[0], extra="cli")))
    run()


def _not_done(error: MissingDependencyError) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 2


if __name__ == "__main__":
    main()
