"""The Dockerfile names files, extras, variables and routes that are there; no container is built here."""

import re
import tomllib
from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_command

from jclip_connectors.cli.commands import make_app
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.app import create_app
from jclip_connectors.server.serve import load_served_model

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMMANDS = get_command(make_app())
assert isinstance(COMMANDS, TyperGroup)
SERVE = COMMANDS.commands["serve"]


def variables():
    named = [option.envvar for option in SERVE.params if option.envvar]
    return {name for each in named for name in ([each] if isinstance(each, str) else each)}


def test_everything_that_is_copied_is_there_and_not_ignored():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = [name for each in copied for name in each.split()]
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(names) == let_in
    assert all((ROOT / name).exists() for name in names)


def test_the_extras_that_are_installed_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = re.findall(r'"\.\[([\w,]+)\]"', DOCKERFILE)
    assert installed == ["server", "server,local"]  # for a CPU, and with torch for a GPU
    assert {"server", "local"} <= set(extras)


def test_the_command_reads_every_variable_that_is_set_for_it():
    assert {name for name in re.findall(r"\b(JCLIP_SERVER_\w+)=\S", DOCKERFILE) if "KEYS" not in name} <= variables()


def test_hosts_that_run_the_image_with_their_own_variables_are_heard():
    assert {"AIP_HTTP_PORT", "AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"} <= variables()


def test_a_device_is_a_build_argument_and_reaches_the_command():
    assert "ARG DEVICE=cpu" in DOCKERFILE
    assert "JCLIP_SERVER_DEVICE=${DEVICE}" in DOCKERFILE
    option = next(option for option in SERVE.params if option.name == "device")
    assert option.envvar == "JCLIP_SERVER_DEVICE"


def test_the_probe_of_the_image_is_a_route():
    model = load_served_model(EmbeddingConfig(model="nano"), device="cpu")
    routes = {getattr(route, "path", None) for route in create_app(model, EmbeddingConfig(model="nano")).routes}
    probe = re.search(r"JCLIP_SERVER_PORT'\]\}(/\w+)", DOCKERFILE)
    assert probe is not None
    assert probe[1] in routes


def test_the_image_does_not_run_as_root():
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE.rsplit("FROM", 1)[1], re.MULTILINE)
