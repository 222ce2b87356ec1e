"""The site is built strictly, and a reader's browser loads nothing from elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS

ROOT = DOCS.parent
LOADED = re.compile(
    r"<(?:script|img|iframe|source)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+rel=[\"']?stylesheet[^>]+href=[\"']?(?:https?:)?//"
    r"|@import|url\([\"']?(?:https?:)?//",
    re.IGNORECASE,
)


def build(folder: Path, *, source: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("mkdocs")), "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 (our own tool)


pytestmark = pytest.mark.slow  # `make docs` builds it too


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere(site):
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 40
    for page in pages:
        assert LOADED.findall(page.read_text()) == [], page.name


def test_words_for_the_tests_are_not_on_the_site(site):
    assert "python run" not in (site / "serving.html").read_text()
    assert "RemoteEmbedder" in (site / "serving.html").read_text()


@pytest.mark.slow
def test_broken_links_stray_pages_and_public_names_without_a_page_fail_the_build(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(DOCS, source / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("core_encoder", "jclip_connectors"):
        (source / name).symlink_to(ROOT / name)
    shutil.copyfile(ROOT / "mkdocs.yml", source / "mkdocs.yml")
    with (source / "docs" / "first-steps.md").open("a") as page:
        page.write("\n[a page](nowhere.md) and [a part](filters.md#no-such-part)\n")
    (source / "docs" / "stray.md").write_text("# A page that nothing leads to\n")
    memory = source / "docs" / "reference" / "memory.md"
    memory.write_text(memory.read_text().replace(":::", "a module:"))
    done = build(tmp_path / "site", source=source)
    assert done.returncode != 0
    for problem in ("nowhere.md", "no-such-part", "stray.md", "jclip_connectors.memory.InMemoryStore"):
        assert problem in done.stderr
