"""`jclip`: arguments in, tables and exit codes out; the commands call other modules for the work.

Exit codes: 0 done; 1 done in part (some files could not be indexed, records were not removed, a check failed); 2 not
done; 130 interrupted.
Results go to stdout, everything else to stderr. A command that was asked for loads its own modules only: what the
others need takes as long as a search. Neither a runtime nor the store is loaded before a command needs it.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from keyword import iskeyword
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup

from core_encoder.errors import JinaClipError
from jclip_connectors.cli import terminal
from jclip_connectors.errors import ConnectorError, MissingDependencyError

_NOT_DONE, _INTERRUPTED = 2, 130
_MODULES: Mapping[str, str] = (
    MappingProxyType(  # by command, in the order of the help; each has a function of `_function`'s name, or an app
        {
            "demo": "collection_commands",
            "index": "collection_commands",
            "search": "search_command",
            "ui": "ui_command",
            "classify": "classify_command",
            "check": "check_command",
            "embed": "embed_command",
            "copy": "copy_command",
            "export": "transfer_commands",
            "import": "transfer_commands",
            "reindex": "reindex_command",
            "load": "load_command",
            "optimize": "optimize_command",
            "serve": "model_commands",
            "models": "model_commands",
            "verify": "model_commands",
            "export onnx": "model_commands",
            "eval": "eval_command",
        }
    )
)

_COPIED = "copied records are kept"
_KEPT = MappingProxyType(
    {
        "index": "indexed files are kept",
        "copy": _COPIED,
        "load": "loaded files are kept",
        "embed": "shards that are done are kept",
        "export": _COPIED,
        "import": _COPIED,
    }
)
_WITH_ACTIONS = frozenset({"eval"})


class _Commands(TyperGroup):
    """The commands; every error that a user can cause is shown in one line and without a traceback."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (typer's own classes move between versions)
        """Read the options; typer imports much for that, and would end without a word at an interrupt."""
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:
            terminal.say("stopped")
            raise typer.Exit(_INTERRUPTED) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (as above)
        """Read the name of the command, which may be two words."""
        return super().parse_args(ctx, [" ".join(args[:2]), *args[2:]] if " ".join(args[:2]) in _MODULES else args)

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
            kept = _KEPT.get(ctx.invoked_subcommand)
            terminal.say("stopped" if kept is None else f"stopped; {kept}, and the same command continues from there")
            raise typer.Exit(_INTERRUPTED) from None
        terminal.say(f"error: {message}", style="red")
        raise typer.Exit(_NOT_DONE)


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Make the command line for `arguments`: with the one command that they begin with, else with all of them."""
    app = typer.Typer(
        cls=_Commands,
        callback=_keep_group,
        help="Search pictures and texts by meaning, with jina-clip and a collection in a folder.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    asked = [name for name in (" ".join(arguments[:2]), *arguments[:1]) if name in _MODULES][:1]
    for name in asked if asked else _MODULES:
        module = import_module(f"jclip_connectors.cli.{_MODULES[name]}")
        if name in _WITH_ACTIONS:
            app.add_typer(module.app, name=name)
        else:
            app.command(name, epilog=getattr(module, f"{name.upper()}_NOTES", None))(getattr(module, _function(name)))
    return app


def _function(name: str) -> str:
    return f"{name}_" if iskeyword(name) else name.replace(" ", "_")


def _keep_group() -> None:
    """With a callback, typer keeps the names of commands also where there is only one."""


def run(app: Callable[[], object]) -> None:
    """Run the command line; warnings are one line each."""
    warnings.showwarning = lambda message, *_, **__: terminal.say(f"warning: {message}", style="yellow")
    app()
