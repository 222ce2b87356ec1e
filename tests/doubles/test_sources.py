"""Each rule of a double of a server says, beside it, how we know it.

A rule is a function, a method or a table of constants. Its source is one of the phrases of `SOURCE`, in the docstring
or in a comment; a function that refuses several things and has no source in its docstring has one for each refusal.
"""

import ast
import importlib.util
import io
import re
import tokenize
from itertools import pairwise
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
FILES = sorted(
    path
    for pattern in ("weaviate_*.py", "qdrant_*.py", "pinecone_*.py")
    for path in FOLDER.glob(pattern)
    if not path.stem.endswith("_stores")  # they connect the suites to a double or to a server
)
SOURCE = re.compile(
    r"Seen on a real server \((?:Weaviate 1\.40\.0-dev|Qdrant 1\.19\.0)\)"
    r"|Documented\b"
    r"|Read in the client \((?:weaviate-client 4\.24|qdrant-client 1\.20|pinecone 10\.2), (?P<file>[\w/]+\.py)\)"
    r"|Read in the server's source \((?:Weaviate|Qdrant)\)"
    r"|Assumed\b"
)
PACKAGES = {"weaviate": "weaviate", "qdrant": "qdrant_client", "pinecone": "pinecone"}
REFUSALS = {"Refused", "TooLarge", "RefusedError", "AnswerError"}

# What decides nothing that a server decides: the double's own controls, sockets, and helpers.
NO_RULE: dict[str, set[str]] = {
    "weaviate_collections": {"Collection.name", "Collection.vectors", "_know"},
    "weaviate_queries": {"know"},
    "weaviate_server": {
        "KILLED",
        "_HttpServer.get_request",
        "_HttpServer.hang_up",
        "_Servicer.Aggregate",
        "_Servicer.BatchDelete",
        "_Servicer.BatchObjects",
        "_Servicer.Search",
        "_Servicer.__init__",
        *(
            f"WeaviateDouble.{name}"
            for name in (
                *("__enter__", "__exit__", "address", "connect", "connect_async"),
                *("delay", "fail", "gather", "meeting", "surprised"),
            )
        ),
    },
    "qdrant_server": {
        "RefusedError.__init__",
        "Request.json",
        "to_json",
        *(f"QdrantServer.{name}" for name in ("__init__", "__enter__", "__exit__", "stop", "calls", "_fault", "_send")),
    },
    "pinecone_server": {
        "KEY",
        "Namespace.__init__",
        "_Handler.do_DELETE",
        "_Handler.do_GET",
        "_Handler.do_PATCH",
        "_Handler.do_POST",
        "_Handler.log_message",
        "_Server.__init__",
        "_Server.handle_error",
        *(
            f"PineconeDouble.{name}"
            for name in (
                *("__init__", "__enter__", "__exit__", "connect", "connect_async"),
                *("now", "fail", "items", "_fault"),
            )
        ),
    },
}
# No source was found for a part of these, which a docstring or a comment names.
ASSUMED = {
    "pinecone_rules.Rules._check_metadata",
    "pinecone_rules.Rules.check_items",
    "pinecone_rules._any_equal",
    "pinecone_rules._clause",
    "pinecone_rules._operator",
    "pinecone_rules.check_index_name",
    "pinecone_rules.check_schema",
    "pinecone_rules.check_vector",
    "pinecone_server.MAX_ADDRESS",
    "pinecone_server.PineconeDouble._documents_search",
    "pinecone_server.PineconeDouble._start_import",
    "pinecone_server.PineconeDouble._fetch",
    "pinecone_server.PineconeDouble._matching",
    "pinecone_server.PineconeDouble._seen",
    "pinecone_server.PineconeDouble._upsert",
    "pinecone_server._Handler._answer",
    "pinecone_server._check_kind",
    "qdrant_server.QdrantServer._check_key",
    "qdrant_server.QdrantServer._perform",
    "qdrant_server.QdrantServer._query",
    "qdrant_server.QdrantServer.create",
    "qdrant_server.QdrantServer.update",
    "qdrant_server.QdrantServer.index",
    "weaviate_collections.CLASS_DEFAULTS",
    "weaviate_collections.CLASS_NAME",
    "weaviate_collections.Collection.add_property",
    "weaviate_collections.Collection.put",
    "weaviate_collections.check_vector",
    "weaviate_queries._as_kind",
    "weaviate_queries._values",
    "weaviate_queries.by_words",
    "weaviate_queries.nearest",
    "weaviate_server._Servicer._answer",
    "weaviate_server._collection_for",
}


def rules_of(text: str) -> dict[str, ast.stmt]:
    """The functions, methods and tables of constants of a module, by name."""
    found: dict[str, ast.stmt] = {}

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[prefix + node.name] = node
            elif isinstance(node, ast.ClassDef):
                collect(node.body, f"{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign) and not prefix:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                        if isinstance(name, ast.Name) and name.id.isupper():
                            found[name.id] = node

    collect(ast.parse(text).body, "")
    return found


def comments_of(text: str) -> dict[int, str]:
    """The comments, by the number of their line; a comment of several lines is one, at its first line."""
    comments: dict[int, str] = {}
    start = previous = -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        own_line = not token.line[: token.start[1]].strip()
        if own_line and line == previous + 1:
            comments[start] += " " + token.string.lstrip("# ")
        else:
            start = line
            comments[line] = token.string.lstrip("# ")
        previous = line if own_line else -1
    return comments


def refusals_of(node: ast.stmt) -> list[int]:
    """The last lines of the statements that refuse something."""
    return sorted(
        each.end_lineno or each.lineno
        for each in ast.walk(node)
        if isinstance(each, ast.Raise)
        and isinstance(each.exc, ast.Call)
        and isinstance(each.exc.func, ast.Name)
        and each.exc.func.id in REFUSALS
    )


def sources_of(text: str, node: ast.stmt) -> list[str]:
    """The texts beside a rule that may tell its source: the docstring, and the comments in it or above it."""
    lines = text.splitlines()
    first = node.lineno
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        while first > 1 and lines[first - 2].strip():  # a comment is for all constants of its paragraph
            first -= 1
    last = node.end_lineno or node.lineno
    comments = {line: comment for line, comment in comments_of(text).items() if first <= line <= last}
    beside = [
        comment
        for line, comment in comments.items()
        if line >= node.lineno or lines[line - 1].startswith("#")  # not the comment behind another constant
    ]
    docstring = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None
    return [*([] if docstring is None else [" ".join(docstring.split())]), *beside]


def problem_of(text: str, node: ast.stmt) -> str | None:
    """What is wrong with a rule's source, or `None`."""
    if not any(map(SOURCE.search, sources_of(text, node))):
        return "no source"
    docstring = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None
    if docstring is not None and SOURCE.search(" ".join(docstring.split())):
        return None
    told = [line for line, comment in comments_of(text).items() if SOURCE.search(comment)]
    for begin, end in pairwise([node.lineno - 1, *refusals_of(node)]):
        if not any(begin < line <= end for line in told):
            return f"no source for the refusal in line {end}"
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_rule_tells_its_source(path):
    text = path.read_text(encoding="utf-8")
    checked = {name: node for name, node in rules_of(text).items() if name not in NO_RULE.get(path.stem, ())}
    problems = {name: problem_of(text, node) for name, node in checked.items()}
    assert {name: problem for name, problem in problems.items() if problem is not None} == {}
    assert len(checked) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_listed_as_no_rule_exists_and_refuses_nothing(path):
    rules = rules_of(path.read_text(encoding="utf-8"))
    listed = NO_RULE.get(path.stem, set())
    assert listed <= rules.keys()
    assert [name for name in sorted(listed) if refusals_of(rules[name])] == []


def test_what_is_assumed_is_listed():
    assumed = set()
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for name, node in rules_of(text).items():
            if any(re.search(r"\bAssumed\b", beside) for beside in sources_of(text, node)):
                assumed.add(f"{path.stem}.{name}")
    assert assumed == ASSUMED


def test_the_files_that_are_named_exist_in_the_clients():
    for path in FILES:
        spec = importlib.util.find_spec(PACKAGES[path.stem.split("_")[0]])
        assert spec is not None
        assert spec.origin is not None
        flat = re.sub(r"\s+(?:# )?", " ", path.read_text(encoding="utf-8"))
        named = [found["file"] for found in SOURCE.finditer(flat) if found["file"] is not None]
        assert named
        assert [file for file in named if not (Path(spec.origin).parent / file).is_file()] == []


GOOD = '''
LIMIT = 10  # Documented


def refuse(value):
    """Refuse. Documented."""
    raise Refused(value)
'''


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (GOOD, {}),
        (GOOD.replace("# Documented", ""), {"LIMIT": "no source"}),
        (GOOD.replace("# Documented", "# Documented\nMORE = 20"), {"MORE": "no source"}),
        (GOOD.replace("LIMIT", "# Documented\nMORE = 20\nLIMIT"), {}),
        (GOOD.replace(" Documented.", ""), {"refuse": "no source"}),
        (GOOD.replace("Documented.", "Seen on a real server."), {"refuse": "no source"}),
        (GOOD + "    # Documented\n    raise Refused(1)\n", {}),
        (
            GOOD.replace(" Documented.", "") + "    # Documented\n    raise Refused(1)\n",
            {"refuse": "no source for the refusal in line 7"},
        ),
    ],
)
def test_a_rule_without_a_source_is_found(text, problems):
    found = {name: problem_of(text, node) for name, node in rules_of(text).items()}
    assert {name: problem for name, problem in found.items() if problem is not None} == problems
