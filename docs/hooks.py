"""What the build of the site adds to mkdocs: marks of the tests are taken out, and every public name has a page.

A face is `core_encoder`, `jclip_connectors`, or a module right inside that which has `__all__`; its names are public.
"""

import ast
import re
import zlib
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[1]
_NOT_FACES = frozenset({"jclip_connectors.collection"})  # the package itself has its names


def faces() -> dict[str, list[str]]:
    """The names of each face, read from its source: none is imported."""
    found: dict[str, list[str]] = {}
    top = ROOT / "jclip_connectors"
    modules = [
        top / "__init__.py",
        *top.glob("*/__init__.py"),
        *top.glob("[!_]*.py"),
        ROOT / "core_encoder/__init__.py",
    ]
    for path in modules:
        names = _exported(path)
        parts = path.relative_to(ROOT).with_suffix("").parts
        face = ".".join(part for part in parts if part != "__init__")
        if names and face not in _NOT_FACES:
            found[face] = names
    return dict(sorted(found.items()))


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 (mkdocs' own classes)
    """Take out the words behind ```python that only the tests read."""
    return re.sub(r"^(```python) run$", r"\1", markdown, flags=re.MULTILINE)


def on_post_build(config: Any, **_: Any) -> None:  # noqa: ANN401 (mkdocs' own class)
    """Refuse a site that lacks a public name.

    Raises:
        PluginError: naming each of them.
    """
    inventory = (Path(config["site_dir"]) / "objects.inv").read_bytes()
    listed = {line.split(b" ")[0].decode() for line in zlib.decompress(inventory.split(b"\n", 4)[4]).splitlines()}
    missing = [
        f"{face}.{name}"
        for face, names in faces().items()
        for name in names
        # A function that has the name of its module is listed below that.
        if not listed & {f"{face}.{name}.{name}", f"{face}.{name}"}
    ]
    if missing:
        raise PluginError(f"on no page of docs/reference: {', '.join(missing)}")


def _exported(path: Path) -> list[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []
