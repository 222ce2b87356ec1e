"""The exact versions in constraints/ are those of pyproject.toml's extras, inside its ranges, and name no place."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FILES = [*sorted(ROOT.glob("constraints/*")), *sorted(ROOT.glob("tests/*/*.txt"))]


def pinned(path):
    """What a file pins: a requirement for each line."""
    return [Requirement(line) for line in path.read_text().splitlines()]


def required(extra):
    """What the base and an extra ask for, those extras included that it names."""
    for each in map(Requirement, [*PROJECT["dependencies"], *EXTRAS[extra]]):
        if each.name == PROJECT["name"]:
            for other in each.extras:
                yield from required(other)
        else:
            yield each


def test_every_extra_has_its_file_and_nothing_else_has():
    assert sorted(path.name for path in ROOT.glob("constraints/*")) == sorted(f"{extra}.txt" for extra in EXTRAS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_holds_exact_versions_and_neither_addresses_nor_options_nor_comments(path):
    for each in pinned(path):
        assert [specifier.operator for specifier in each.specifier] == ["=="], each
        assert each.url is None
        assert not each.extras, each  # a constraint cannot have any


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_version_is_inside_the_range_of_pyproject(extra):
    versions: dict[str, list[str]] = {}
    for each in pinned(ROOT / "constraints" / f"{extra}.txt"):
        (specifier,) = each.specifier
        versions.setdefault(canonicalize_name(each.name), []).append(specifier.version)
    for each in required(extra):
        found = versions.get(canonicalize_name(each.name), [])
        assert found, f"{each.name} is not pinned: `make upgrade`"
        assert all(each.specifier.contains(version, prereleases=True) for version in found), f"{each}: {found}"


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_versions_of_an_extra_are_those_that_the_tests_run_with(extra):
    tested = {(each.name, str(each.specifier)) for each in pinned(ROOT / "constraints" / "dev.txt")}
    names = {name for name, _ in tested}
    own = {(each.name, str(each.specifier)) for each in pinned(ROOT / "constraints" / f"{extra}.txt")}
    assert {pin for pin in own if pin[0] in names} <= tested


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/*/*.in")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_package_of_others_is_pinned(path):
    asked = {Requirement(line).name for line in path.read_text().splitlines()}
    assert asked <= {each.name for each in pinned(path.with_suffix(".txt"))}
