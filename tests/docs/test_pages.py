"""Every block of every page: Python runs and prints what the page says; commands have the options they are given.

Blocks that want the real model get the bundled one, with vectors as short as it has; servers are doubles.
"""

import contextlib
import functools
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
import weaviate
from psycopg.conninfo import make_conninfo

from jclip_connectors.cli.commands import make_app
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.serve import load_served_model
from tests.checkpoints import V2_TINY
from tests.docs import readers_folder
from tests.docs.blocks import DOCS, Block, blocks_of
from tests.doubles.pinecone_server import KEY, PineconeDouble
from tests.doubles.postgres_server import postgres
from tests.doubles.qdrant_server import QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble
from tests.server.harness import Server

ROOT = DOCS.parent
ELSEWHERE = {"serving.md"}  # tests/clients/test_documentation.py runs its blocks, with the clients of others
WITH_ENGINES = {
    "bulk-engines.md",
    "bulk-ray.md",
    "copy.md",
}  # tests/ray and tests/engines run the blocks that say so, in environments of their own
PAGES = {str(path.relative_to(DOCS)): blocks_of(path) for path in sorted(DOCS.rglob("*.md"))}
PAGES["README.md"] = blocks_of(ROOT / "README.md")
RUN_PAGES = [name for name, blocks in PAGES.items() if any(block.language == "python" for block in blocks)]
# What stands on the page, and what the test has in its place.
SMALL = {"jinaai/jina-clip-v2": "nano", "dimensions=512": "dimensions=64", "dimensions=256": "dimensions=32"}
SMALL |= {"@256": "@32", "truncate_dim=256": "truncate_dim=32", "size=256": "size=32"}
World = Callable[[pytest.MonkeyPatch], AbstractContextManager[dict[str, str]]]


def is_run(name: str, block: Block) -> bool:
    return block.language == "python" and not block.options and name not in ELSEWHERE


def is_file(name: str, block: Block) -> bool:
    """Files are put together and run by test_add_a_store.py, and what wants a server of Chroma by tests/chroma."""
    return block.title is not None and name in ("add-a-store.md", "stores/chroma.md")


@contextmanager
def _nowhere(_: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def _qdrant(_: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    with QdrantServer() as server:
        yield {"http://localhost:6333": server.url}


def _connect(server: WeaviateDouble, **options: Any) -> weaviate.WeaviateClient:
    return weaviate.connect_to_custom(**server.address() | options)


@contextmanager
def _weaviate(patch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    with WeaviateDouble() as server:
        patch.setattr(weaviate, "connect_to_local", functools.partial(_connect, server))
        patch.setattr(weaviate, "use_async_with_local", server.connect_async, raising=True)
        yield {}
    assert server.surprises == []


@contextmanager
def _pinecone(patch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    with PineconeDouble() as server:
        patch.setenv("PINECONE_CONTROLLER_HOST", server.url)
        patch.setenv("PINECONE_API_KEY", KEY)
        yield {}
    assert server.surprises == []


@contextmanager
def _pgvector(_: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    server = postgres()
    with server.database() as name:
        place = {"host": server.host, "port": server.port, "dbname": name}
        yield {"host=localhost dbname=postgres": make_conninfo(**place, user=server.user, password=server.password)}


@contextmanager
def _exported(_: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    readers_folder.export(Path.cwd())
    yield {}


@contextmanager
def _hub(_: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    yield {"jinaai/jina-clip-v2": str(V2_TINY)}  # nano is no checkpoint of transformers; this one has v2's layout


@contextmanager
def _served(_: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    config = EmbeddingConfig(model="nano")
    with Server(load_served_model(config, device="cpu"), config=config, api_keys=["a-key"]) as server:
        yield {"http://localhost:8080": server.url}


@contextmanager
def _exported_beside_qdrant(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    with _exported(monkeypatch), _qdrant(monkeypatch) as replaced:
        yield replaced


WORLDS: dict[str, World] = {
    "README.md": _nowhere,
    "bulk-load.md": _exported_beside_qdrant,
    "copy.md": _exported,
    "frameworks/huggingface.md": _hub,
    "frameworks/qdrant-inference.md": _qdrant,
    "remote.md": _served,
    "stores/pgvector.md": _pgvector,
    "stores/pinecone.md": _pinecone,
    "stores/qdrant.md": _qdrant,
    "stores/weaviate.md": _weaviate,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that a reader is in: with a few pictures."""
    readers_folder.fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("JINA_API_KEY", "PINECONE_API_KEY", "QDRANT_API_KEY", "WEAVIATE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.filterwarnings("ignore:Failed to obtain server version")  # the double of Qdrant has none
@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")  # to the double, on loopback
@pytest.mark.parametrize("name", [name for name in RUN_PAGES if any(is_run(name, block) for block in PAGES[name])])
@pytest.mark.usefixtures("folder")
def test_every_block_of_a_page_runs_and_prints_what_the_page_says(name, monkeypatch, capsys):
    names: dict[str, object] = {"__name__": "page"}
    blocks = PAGES[name]
    path = ROOT / name if name == "README.md" else DOCS / name
    with WORLDS.get(name, _nowhere)(monkeypatch) as replaced:
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if not is_run(name, block):
                continue
            text = block.text
            for told, used in (*replaced.items(), *SMALL.items()):
                text = text.replace(told, used)
            # So that a failure names the line of the page.
            code = compile("\n" * (block.line - 1) + text, str(path), "exec")
            with contextlib.ExitStack() as stack:
                stack.callback(capsys.readouterr)
                exec(code, names)  # noqa: S102 (our own page)
                printed = capsys.readouterr().out
            if following is not None and following.language == "text":
                assert printed.rstrip() == following.text.rstrip(), f"{path}:{block.line}"


def test_every_block_is_of_a_kind_that_is_checked():
    kinds = {"python", "text", "console", "toml"}
    for name, blocks in PAGES.items():
        for block in blocks:
            assert block.language in kinds, f"{name}:{block.line}"
            elsewhere = block.options == "run" and (name in ELSEWHERE or name in WITH_ENGINES)
            assert elsewhere or block.options in ("", f'title="{block.title}"'), f"{name}:{block.line}"
            assert block.title is None or is_file(name, block), f"{name}:{block.line}"


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Each command of each console block, without its variables and comments."""
    for name, blocks in PAGES.items():
        for block in blocks:
            if block.language != "console" or "curl" in block.text:
                continue
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words:
                    yield f"{name}: {line}", words


COMMANDS = dict(_commands())
JCLIP = {where: words for where, words in COMMANDS.items() if words[0] == "jclip"}


@pytest.mark.parametrize("where", JCLIP)
def test_a_command_of_a_page_has_the_options_that_the_page_gives_it(where):
    group = typer.main.get_command(make_app())
    names, words = group.commands, JCLIP[where]  # type: ignore[attr-defined]  # typer's group is click's
    command = names.get(" ".join(words[1:3]), names.get(words[1]))
    if hasattr(command, "commands"):  # actions of `jclip eval`; what is not the name of one is a table's
        command = command.commands.get(JCLIP[where][2], command.commands.get("tables"))
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in JCLIP[where] if word.startswith("--")} <= known | {"--help"}


def test_every_extra_and_every_target_of_a_page_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = 0
    for where, words in COMMANDS.items():
        if words[:2] == ["pip", "install"]:
            for extra in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
                named += 1
                assert set(extra.split(",")) <= set(extras), where
        if words[0] == "make":
            named += 1
            assert words[1] in targets, where
    assert named > 5


def test_every_toml_block_is_a_configuration(tmp_path):
    blocks = [block for block in PAGES["configuration.md"] if block.language == "toml"]
    assert blocks
    for block in blocks:
        path = tmp_path / "jclip.toml"
        path.write_text(block.text)
        assert EmbeddingConfig.from_toml(path).model


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md"])
def test_every_page_is_in_the_navigation(name):
    assert f": {name}\n" in (ROOT / "mkdocs.yml").read_text()


def test_readme_needs_one_import_of_a_package():
    for block in PAGES["README.md"]:
        modules = re.findall(r"^(?:from|import) ([\w.]+)", block.text, re.MULTILINE)
        ours = [module for module in modules if module.split(".")[0] in ("core_encoder", "jclip_connectors")]
        assert len(ours) == len(set(ours)), block.text
        # A package and its face; nothing deeper.
        assert all(module.count(".") <= 1 for module in ours), block.text


def test_the_pages_name_no_path_that_is_not_there():
    for name in PAGES:
        text = (ROOT / name if name == "README.md" else DOCS / name).read_text()
        for path in re.findall(r"`((?:examples|tests|docs|benchmarks|core_encoder)/[\w/.-]+\.\w+)`", text):
            assert (ROOT / path).exists() or "<" in path, f"{name}: {path}"
