"""`jclip`: arguments in, tables and exit codes out; the commands call other modules for the work.

Exit codes: 0 done; 1 done in part (some files could not be indexed, records were not removed, a check failed); 2 not
done; 130 interrupted.
Results go to stdout, everything else to stderr. Neither torch nor the store is loaded before a command needs it.
"""

import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from core_encoder.errors import JinaClipError
from jclip_connectors.cli import terminal
from jclip_connectors.cli.check_command import check
from jclip_connectors.cli.collection_commands import INDEX_NOTES, demo, index, optimize, search
from jclip_connectors.cli.model_commands import models, serve, verify
from jclip_connectors.errors import ConnectorError, MissingDependencyError

_NOT_DONE, _INTERRUPTED = 2, 130


class _Commands(TyperGroup):
    """The commands; every error that a user can cause is shown in one line and without a traceback."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (typer's own classes move between versions)
        """Read the options; typer imports much for that, and would end without a word at an interrupt."""
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:
            terminal.say("stopped")
            raise typer.Exit(_INTERRUPTED) from None

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer's own classes move between its versions)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the program that reads our output has stopped, such as `head`
        except MissingDependencyError as error:
            message = f"{error}; the extra 'all' has the packages for every command on a collection in a folder"
        except (JinaClipError, ConnectorError) as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        except KeyboardInterrupt:
            kept = "; indexed files are kept, and the same command continues from there"
            terminal.say("stopped" + (kept if ctx.invoked_subcommand == "index" else ""))
            raise typer.Exit(_INTERRUPTED) from None
        terminal.say(f"error: {message}", style="red")
        raise typer.Exit(_NOT_DONE)


app = typer.Typer(
    cls=_Commands,
    help="Search pictures and texts by meaning, with jina-clip and a collection in a folder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command(epilog=INDEX_NOTES)(index)
app.command()(search)
app.command()(check)
app.command()(optimize)
app.command()(serve)
app.command()(models)
app.command()(verify)


def run() -> None:
    """Run the command line; warnings are one line each."""
    warnings.showwarning = lambda message, *_, **__: terminal.say(f"warning: {message}", style="yellow")
    app()
