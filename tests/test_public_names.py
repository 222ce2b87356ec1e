"""Every public name: a docstring that tells its arguments, shapes and errors, and a page of the documentation.

What a docstring may leave out is what another one says that it names: "see `QdrantStore.open`", or the Protocol that a
class keeps to.
"""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
import textwrap
import types
from pathlib import Path
from typing import Any, get_origin

import pytest

from core_encoder.errors import JinaClipError
from jclip_connectors import port
from jclip_connectors.errors import ConnectorError

ROOT = Path(__file__).parents[1]


def _hooks() -> Any:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FACES: dict[str, list[str]] = _hooks().faces()
NAMES = [(face, name) for face, names in FACES.items() for name in names]
PROTOCOLS = (port.VectorStore, port.AsyncVectorStore, port.Embedder, port.AsyncEmbedder)
REFERS = re.compile(
    r"\b(?:see|as for|those of|is) `[\w.]+`|`[\w.]+`(?: in a thread| off the event loop| under)|"
    r"(?:call|use) `[\w.]+` instead|`[\w.]+` is the usual way"
)
SHAPE = re.compile(r"\([BETNI](?:, \w+)*,?\)|\((?:\w+, )+\w+\)|`TileEmbeddings`")
ARRAYS = ("FloatArray", "NDArray", "IntArray")
ERRORS = {
    kind.__name__: {base.__name__ for base in kind.__mro__ if issubclass(base, ConnectorError | JinaClipError)}
    for root in (ConnectorError, JinaClipError)
    for kind in [root, *root.__subclasses__(), *(sub for one in root.__subclasses__() for sub in one.__subclasses__())]
}


def documented(name: str, thing: Any, *, owner: type | None = None) -> list[str]:
    """What the docstring of a function or method lacks."""
    text = inspect.cleandoc(thing.__doc__ or "")
    if not text:
        return [f"{name} has no docstring"]
    told = text + "".join(
        inspect.getdoc(getattr(protocol, thing.__name__)) or ""
        for protocol in PROTOCOLS
        if owner is not None and hasattr(protocol, thing.__name__)
    )
    if owner is not None:
        # An asynchronous method takes what its blocking twin takes: `aquery` is `query`, awaited.
        twin = getattr(owner, re.sub("^(?:async_|a)", "", thing.__name__), None)
        told += (inspect.getdoc(owner) or "") + (inspect.getdoc(twin) or "" if ", awaited" in text else "")
    signature = inspect.signature(thing)
    problems = []
    if not REFERS.search(text):
        problems += [
            f"{name} does not tell what `{parameter.name}` is"
            for parameter in signature.parameters.values()
            if parameter.name not in ("self", "cls", "_", "__", "run_manager", "args", "kwargs")
            and not re.search(rf"\b{re.escape(parameter.name)}\b", told)
        ]
        returned = str(signature.return_annotation)
        if any(array in returned for array in ARRAYS) and not SHAPE.search(told):
            problems.append(f"{name} returns an array and does not tell its shape")
        problems += [
            f"{name} raises {error} and does not tell so"
            for error in _raised(thing)
            if not any(re.search(rf"\b{kind}\b", told) for kind in ERRORS[error])
        ]
    return problems


def _raised(function: Any) -> set[str]:
    """Our errors that the body of a function makes and raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    made = {
        ast.unparse(node.exc.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }
    return {name for name in made if name in ERRORS}


def _problems_of_class(name: str, kind: type) -> list[str]:
    text = inspect.cleandoc(vars(kind).get("__doc__") or "")
    if not text:
        return [f"{name} has no docstring"]
    problems = []
    if dataclasses.is_dataclass(kind) or issubclass(kind, tuple):
        fields = [field for field in inspect.get_annotations(kind) if not field.startswith("_")]
        problems += [
            f"{name} does not tell what its field `{field}` is"
            for field in fields
            if not re.search(rf"\b{field}\b", text)
        ]
    for attribute, member in vars(kind).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if attribute.startswith("_") and (attribute != "__init__" or dataclasses.is_dataclass(kind)):
            continue
        if isinstance(function, property) and not function.__doc__:
            problems.append(f"{name}.{attribute} has no docstring")
        elif isinstance(function, types.FunctionType):
            problems += documented(f"{name}.{attribute}", function, owner=kind)
    return problems


@pytest.mark.parametrize(("face", "name"), NAMES, ids=[f"{face}.{name}" for face, name in NAMES])
def test_a_public_name_says_what_it_takes_what_it_gives_and_how_it_fails(face, name):
    if face == "jclip_connectors.testing" and name in (
        "StoreContract",
        "EmbedderContract",
        "BridgedStore",
        "EventLoop",
    ):
        # Suites of tests: what a subclass gives is in the docstring of the class.
        assert inspect.getdoc(getattr(importlib.import_module(face), name))
        return
    thing = getattr(importlib.import_module(face), name)
    if inspect.isclass(thing):
        assert _problems_of_class(name, thing) == []
    elif isinstance(thing, types.FunctionType):
        assert documented(name, thing) == []
    else:  # a constant or an alias: its docstring is the string below it
        assert get_origin(thing) is not None or isinstance(thing, str | int | frozenset | dict | tuple)
        assert _docstring_below(face, name), f"{face}.{name} has no docstring below it"


@pytest.mark.parametrize("face", FACES)
def test_a_face_has_a_page(face):
    pages = [path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md")]
    assert any(re.search(rf"^::: {re.escape(face)}$", page, re.MULTILINE) for page in pages)


def test_the_faces_are_those_that_the_overview_lists():
    overview = (ROOT / "docs" / "reference" / "index.md").read_text()
    for face in FACES:
        assert f"`{face}`" in overview, face


def _without(rows: Any) -> None:
    del rows


def _half(rows: Any) -> None:
    """Do something."""
    raise ConnectorError(f"no {rows}")


def test_a_docstring_that_lacks_something_is_seen():
    assert documented("without", _without) == ["without has no docstring"]
    assert documented("half", _half) == [
        "half does not tell what `rows` is",
        "half raises ConnectorError and does not tell so",
    ]


def _docstring_below(face: str, name: str) -> bool:
    """Whether a string stands below the assignment of a name, in the face or where the face has it from."""
    path = Path(importlib.import_module(face).__file__ or "")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return _docstring_below(str(node.module), name)
    body = ast.parse(path.read_text()).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if name in map(ast.unparse, targets):
            return isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    return False
