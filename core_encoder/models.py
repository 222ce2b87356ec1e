"""Names of models, and the known models: their source, licence, sizes and published check values."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WEIGHTS_FILE = "model.safetensors"
FILES = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    WEIGHTS_FILE,
)  # all files that a vector depends on

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
"""A model's precision: "auto" is bf16 on CUDA with torch, as in the reference, and else fp32."""

RuntimeName = Literal["onnx", "torch"]
"""A library that runs the model: ONNX Runtime or torch."""

RuntimeChoice = Literal["auto", "onnx", "torch"]
"""Which library runs the model; "auto" is torch on CUDA, and ONNX Runtime on a CPU where it is installed."""

AttentionChoice = Literal["auto", "sdpa", "varlen", "xformers"]
"""How torch's text tower computes attention."""


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """Facts about a published model that are known without a download.

    Attributes:
        name: hub id, or the name of the bundled model.
        revision: the commit that is loaded by default; `None` for the bundled model.
        license: SPDX identifier of the weights' licence.
        languages: a description for people.
        embedding_dim: length of a full vector.
        matryoshka: whether it was trained so that a prefix of a vector has almost the same meaning.
        image_size: side of the square that the image tower sees, pixels.
        check_text: a text whose vector has been published, or `None`.
        check_values: the first values of that vector at unit length, four decimals.
    """

    name: str
    revision: str | None
    license: str
    languages: str
    embedding_dim: int
    matryoshka: bool
    image_size: int
    check_text: str | None = None
    check_values: tuple[float, ...] = ()


KNOWN_MODELS: tuple[KnownModel, ...] = (
    KnownModel(
        name="jinaai/jina-clip-v2",
        revision="e10d47f5691d0454a0fb5d13f46f2199b74cb436",
        license="CC-BY-NC-4.0",
        languages="89 languages",
        embedding_dim=1024,
        matryoshka=True,
        image_size=512,
    ),
    KnownModel(
        name="jinaai/jina-clip-v1",
        revision="06150c7c382d7a4faedc7d5a0d8cdb59308968f4",
        license="Apache-2.0",
        languages="English",
        embedding_dim=768,
        matryoshka=False,
        image_size=224,
        # Source: public test values of an ONNX export of the model (four decimals).
        check_text="hello world",
        check_values=(-0.0862, -0.0101, -0.0056, 0.0375, -0.0472),
    ),
    KnownModel(
        name="nano",
        revision=None,
        license="Apache-2.0",
        languages="English, German, French, Spanish, Chinese",
        embedding_dim=128,
        matryoshka=True,
        image_size=72,
    ),
)


def known_model(name: str) -> KnownModel | None:
    """Look a model up by hub id or name; `None` for any other hub id or folder."""
    return next((model for model in KNOWN_MODELS if model.name == name), None)


def default_revision(name: str) -> str | None:
    """The commit that `name` is pinned to, or `None` if there is none."""
    model = known_model(name)
    return None if model is None else model.revision


def find_folder(source: str | Path) -> Path | None:
    """The folder that `source` names ("~" is the user's home), or `None` if there is no such folder."""
    if source == "":  # as a path it would be the current folder
        return None
    try:
        folder = Path(source).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # a name that is too long, or a user without a home
        return None


def is_hub_id(source: str) -> bool:
    """Whether `source` has the form of a hub id, "owner/name"."""
    return _HUB_ID.fullmatch(source) is not None
