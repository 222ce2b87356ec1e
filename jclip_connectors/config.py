"""The configuration that embedders, stores and integrations share, and its fingerprint."""

import dataclasses
import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, get_args

from core_encoder.cache import VARIABLE as CACHE_VARIABLE
from core_encoder.errors import ConfigError, ImageDecodeError, ImageLimitError
from core_encoder.exported import Exported, read_export
from core_encoder.file_hash import file_hash
from core_encoder.image_limits import DEFAULT_LIMITS, ImageLimits
from core_encoder.image_preprocess import Resampling, ResizeMode
from core_encoder.models import FILES, WEIGHTS_FILE, Precision, default_revision, find_folder, is_hub_id, known_model
from core_encoder.rendering import Rendering
from core_encoder.tiling import Tiling

Fingerprint: TypeAlias = Mapping[str, str | int | bool | None]
"""The options that determine the vectors of a collection: each name and its value."""

_LIMITS = MappingProxyType(
    {"max_pixels": ("max_pixels", "--max-pixels"), "max_bytes": ("max_image_bytes", "--max-bytes")}
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"\w[\w.-]*")
_FOLDER_REVISION = "sha256:"  # prefix of the revision of a model in a folder: a hash of its files
# Variables of other parts of this distribution; any other unknown JCLIP_* name is an error.
_FOREIGN_PREFIXES = ("JCLIP_SERVER_", "JCLIP_TEST_")


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Which model makes the vectors, and with which options.

    Attributes:
        model: hub id, folder with a checkpoint, or "nano", the model that comes with the package.
        revision: commit of a hub id, 40 hex digits; `None` is the pinned commit of a known model.
        dimensions: length of the vectors, cut from the model's full length; `None` keeps the full length.
        normalize: whether vectors have unit length.
        max_tokens: longer texts are cut to this many tokens; `None` is the model's limit.
        resize_mode: how an image becomes square; `None` is the model's own way.
        rendering: "as_seen" reads a picture as a viewer shows it: upright, transparency on white, colours in sRGB;
            "as_stored" reads the pixels of the file, as the published model's code does.
        resampling: "exact" resizes a picture to the pixels that the published model sees; "fast" takes less time for
            large pictures, and moves their vectors a little.
        precision: number format in which the model computes; "auto" lets the encoder choose for the device.
        tiling: how images are cut into tiles; `None` makes one vector per image.
        max_pixels: width times height of an image; a JPEG with more is shrunk while it is decoded, and any other image
            is refused. `None` is the default of `core_encoder.ImageLimits`. It is not part of the fingerprint.
        max_image_bytes: size of an image's file; the same.

    Raises:
        ConfigError: a value of the wrong type, or out of range.
    """

    model: str = "jinaai/jina-clip-v2"
    revision: str | None = None
    dimensions: int | None = None
    normalize: bool = True
    max_tokens: int | None = None
    resize_mode: ResizeMode | None = None
    rendering: Rendering = "as_seen"
    resampling: Resampling = "exact"
    precision: Precision = "auto"
    tiling: Tiling | None = None
    max_pixels: int | None = None
    max_image_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        _check("model", self.model, _is_text, "a hub id, a folder, or 'nano'")
        for name in ("dimensions", "max_tokens", "max_pixels", "max_image_bytes"):
            _check(name, getattr(self, name), _is_count, "an int of at least 1, or None")
        _check("normalize", self.normalize, lambda value: isinstance(value, bool), "True or False")
        _check("revision", self.revision, lambda value: value is None or _is_text(value), "a commit, or None")
        renderings = get_args(Rendering)
        _check("rendering", self.rendering, lambda value: value in renderings, f"one of {renderings}")
        resamplings = get_args(Resampling)
        _check("resampling", self.resampling, lambda value: value in resamplings, f"one of {resamplings}")
        modes, precisions = (None, *get_args(ResizeMode)), get_args(Precision)
        _check("resize_mode", self.resize_mode, lambda value: value in modes, f"one of {modes}")
        _check("precision", self.precision, lambda value: value in precisions, f"one of {precisions}")
        _check("tiling", self.tiling, lambda value: value is None or isinstance(value, Tiling), "a `Tiling`, or None")
        known = known_model(self.model)
        if known is not None and self.dimensions is not None and self.dimensions > known.embedding_dim:
            raise ConfigError(f"`dimensions` is {self.dimensions}, but {self.model} has only {known.embedding_dim}")

    @property
    def embedding_dim(self) -> int | None:
        """Length of the vectors if it is known before the model is loaded, else `None`."""
        known = known_model(self.model)
        if known is None and (folder := find_folder(self.model)) is not None:
            exported = read_export(folder)
            known = None if exported is None else known_model(exported.model)
        return self.dimensions if self.dimensions is not None or known is None else known.embedding_dim

    @property
    def image_limits(self) -> ImageLimits:
        """The limits for one image."""
        given = {"max_pixels": self.max_pixels, "max_bytes": self.max_image_bytes}
        return dataclasses.replace(DEFAULT_LIMITS, **{name: most for name, most in given.items() if most is not None})

    @classmethod
    def from_toml(cls, path: str | Path, table: str = "jclip") -> "EmbeddingConfig":
        """Read a table of a TOML file: one key per field, and a nested table for `tiling`.

        Args:
            path: the file.
            table: name of the table; dots separate nested tables, like "tool.jclip".

        Raises:
            ConfigError: no such file or table, not TOML, an unknown key or a bad value.
        """
        try:
            values: Any = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise ConfigError(f"cannot read {str(path)!r} as TOML: {reason}") from error
        for name in table.split("."):
            values = values.get(name) if isinstance(values, dict) else None
        if not isinstance(values, dict):
            raise ConfigError(f"{str(path)!r} has no table [{table}]")
        return _from_mapping(values, source=f"[{table}] of {str(path)!r}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "EmbeddingConfig":
        """Read the JCLIP_* variables: JCLIP_MODEL, JCLIP_DIMENSIONS, ...; JCLIP_TILES is `max_tiles`.

        Args:
            environ: the variables; `None` reads the variables of this process.

        Raises:
            ConfigError: an unknown JCLIP_* variable or a bad value.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, object] = {}
        for name, text in environ.items():
            if not name.startswith("JCLIP_") or name.startswith(_FOREIGN_PREFIXES) or name == CACHE_VARIABLE:
                continue
            if name not in _VARIABLES:
                raise ConfigError(f"unknown variable {name}; known are {', '.join(_VARIABLES)}")
            field, read = _VARIABLES[name]
            try:
                values[field] = read(text)
            except ValueError as error:
                raise ConfigError(f"{name} is {text!r}: {error}") from error
        return _from_mapping(values, source="the environment")

    @classmethod
    def from_fingerprint(cls, fingerprint: Fingerprint, *, model: str | None = None) -> "EmbeddingConfig":
        """The configuration that has the given fingerprint.

        Args:
            fingerprint: the fingerprint of a collection.
            model: the folder of the model, if the model was loaded from a folder: the fingerprint has only its name.

        Raises:
            ConfigError: `model` is needed or is another model, or a later version made the fingerprint.
        """
        values: dict[str, Any] = complete_fingerprint(fingerprint)
        stored, revision = values.get("model"), values.get("revision")
        in_folder = is_folder_revision(revision)
        if in_folder and model is None:
            raise ConfigError(f"the vectors were made with the model in a folder {stored!r}: pass its path as `model`")
        exported = model is not None and find_folder(model) is not None and _identity(model, None) == (stored, revision)
        if not in_folder and not exported and model not in (None, stored):
            raise ConfigError(f"the vectors were made with the model {stored!r}, not {model!r}: leave out `model`")
        values["model"] = stored if model is None else model
        values["revision"] = None if in_folder or exported or stored == "nano" else revision
        if isinstance(values.get("tiling"), str):
            values["tiling"] = _read_options(values["tiling"])
        return _from_mapping(values, source="the fingerprint")

    def fingerprint(self) -> dict[str, str | int | bool | None]:
        """The options that determine the vectors: configurations with equal fingerprints make comparable vectors.

        A model is identified by its content: a hub id by its commit, a folder by the hash of the model's files. Any
        other name belongs to an embedder other than `LocalEmbedder`, and its `revision` is not checked.

        Raises:
            ConfigError: `model` is neither a hub id nor a folder with a checkpoint, or `revision` is not a commit.
        """
        model, revision = _identity(self.model, self.revision)
        return {
            "model": model,
            "revision": revision,
            "dimensions": self.embedding_dim,
            "normalize": self.normalize,
            "max_tokens": self.max_tokens,
            "resize_mode": self.resize_mode,
            "rendering": self.rendering,
            "resampling": self.resampling,
            "precision": _fingerprint_precision(self.model, self.precision),
            "tiling": None if self.tiling is None else _options(self.tiling),
        }


# What a fingerprint that lacks a field means: how all vectors were made before the field was added.
_BEFORE: Fingerprint = MappingProxyType(
    {
        "normalize": True,
        "max_tokens": None,
        "resize_mode": None,
        "resampling": "exact",
        "precision": "auto",
        "tiling": None,
    }
)


def is_folder_revision(revision: object) -> bool:
    """Whether a revision is the hash of a model in a folder: the name of the folder then tells nothing."""
    return isinstance(revision, str) and revision.startswith(_FOLDER_REVISION)


def complete_fingerprint(stored: Fingerprint) -> dict[str, str | int | bool | None]:
    """The fingerprint of a collection of any version, in the form of this one.

    A field that was added later has the value that all vectors had before it was added.
    """
    completed = {**_BEFORE, **stored}
    if "rendering" not in completed:
        turned = completed.pop("exif_orientation", False) is True
        completed["rendering"] = "as_stored, but turned by EXIF" if turned else "as_stored"
    return completed


def image_problem(error: ImageDecodeError) -> str:
    """What is wrong with an image, and for a limit how a user of a configuration or of the command raises it."""
    if isinstance(error, ImageLimitError) and error.limit in _LIMITS:
        field, option = _LIMITS[error.limit]
        return f"{error.found}; scale it down first, or raise `{field}` of the configuration ({option} of the command)"
    return error.found if isinstance(error, ImageLimitError) else str(error)


def ignored_variables(config: EmbeddingConfig, environ: Mapping[str, str] | None = None) -> list[str]:
    """The JCLIP_* variables that say something else than a collection's own configuration, which is used instead.

    Args:
        config: the configuration of an existing collection.
        environ: the variables; `None` reads the variables of this process.

    Returns:
        A sentence for each variable without effect.

    Raises:
        ConfigError: an unknown JCLIP_* variable or a bad value.
    """
    environ = os.environ if environ is None else environ
    asked = EmbeddingConfig.from_env(environ)
    return [
        f"{name} is {environ[name]!r} and has no effect: the collection was made with `{field}` {made!r}"
        for name, (field, _) in _VARIABLES.items()
        if name in environ and (made := getattr(config, field)) != getattr(asked, field)
    ]


def _check(name: str, value: object, accepts: Callable[[object], bool], allowed: str) -> None:
    if not accepts(value):
        raise ConfigError(f"`{name}` is {value!r}; use {allowed}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)


def _from_mapping(values: Mapping[str, object], *, source: str) -> EmbeddingConfig:
    arguments: dict[str, Any] = dict(values)
    _refuse_unknown(arguments, EmbeddingConfig, source=source)
    tiling = arguments.get("tiling")
    if isinstance(tiling, dict):
        _refuse_unknown(tiling, Tiling, source=f"`tiling` in {source}")
        arguments["tiling"] = Tiling(**tiling)
    try:
        return EmbeddingConfig(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _refuse_unknown(values: Mapping[str, object], options: type[EmbeddingConfig | Tiling], *, source: str) -> None:
    known = [field.name for field in dataclasses.fields(options)]
    for name in values:
        if name not in known:
            raise ConfigError(f"{source}: unknown key {name!r}; known are {', '.join(known)}")


def _read_bool(text: str) -> bool:
    answers = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in answers:
        raise ValueError("write true or false")
    return answers[text.lower()]


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("write a whole number") from None


def _read_tiles(text: str) -> Tiling:
    return Tiling(max_tiles=_read_int(text))


_VARIABLES: Mapping[str, tuple[str, Callable[[str], object]]] = MappingProxyType(
    {
        "JCLIP_MODEL": ("model", str),
        "JCLIP_REVISION": ("revision", str),
        "JCLIP_DIMENSIONS": ("dimensions", _read_int),
        "JCLIP_NORMALIZE": ("normalize", _read_bool),
        "JCLIP_MAX_TOKENS": ("max_tokens", _read_int),
        "JCLIP_RESIZE_MODE": ("resize_mode", str),
        "JCLIP_RENDERING": ("rendering", str),
        "JCLIP_RESAMPLING": ("resampling", str),
        "JCLIP_PRECISION": ("precision", str),
        "JCLIP_TILES": ("tiling", _read_tiles),
        "JCLIP_MAX_PIXELS": ("max_pixels", _read_int),
        "JCLIP_MAX_IMAGE_BYTES": ("max_image_bytes", _read_int),
    }
)


def _identity(model: str, revision: str | None) -> tuple[str, str | None]:
    if model == "nano":
        from core_encoder.nano import REVISION  # imported here: only this model needs it

        return model, REVISION
    folder = find_folder(model)
    if folder is not None:
        exported = read_export(folder)
        if exported is not None and exported.model:
            return exported.model, exported.revision
        return folder.resolve().name, f"{_FOLDER_REVISION}{_hash_folder(folder, model, exported)[:16]}"
    if is_hub_id(model):
        commit = revision if revision is not None else default_revision(model)
        if commit is None or _COMMIT.fullmatch(commit) is None:
            raise ConfigError(f"`revision` is {commit!r}: {model!r} needs a commit of 40 hex digits, as branches move")
        return model, commit
    if _NAME.fullmatch(model) is None:
        raise ConfigError(f"`model` is {model!r}: there is no such folder, and it is not a hub id like 'owner/name'")
    return model, revision


def _hash_folder(folder: Path, model: str, exported: Exported | None) -> str:
    """One hash of a checkpoint's files; an exported folder has the hash of the checkpoint that it was made from."""
    digest = hashlib.sha256()
    for name in FILES:
        path = folder / name
        if name == WEIGHTS_FILE and exported is not None:
            digest.update(bytes.fromhex(exported.weights_sha256))
            continue
        if not path.is_file():
            raise ConfigError(
                f"`model` is the folder {model!r}, which has no {name}; a checkpoint has {', '.join(FILES)}"
            )
        try:
            digest.update(bytes.fromhex(file_hash(path)))
        except OSError as error:
            raise ConfigError(
                f"`model` is the folder {model!r}, whose {name} cannot be read: {error.strerror}"
            ) from error
    return digest.hexdigest()


def _fingerprint_precision(model: str, precision: Precision) -> Precision:
    """The precision as it was asked for; a model that was exported in less than fp32 has no other."""
    if precision != "auto" or model == "nano" or (folder := find_folder(model)) is None:
        return precision
    exported = read_export(folder)
    return "auto" if exported is None or exported.precision == "fp32" else exported.precision


def _options(tiling: Tiling) -> str:
    return ", ".join(f"{field.name}={getattr(tiling, field.name)!r}" for field in dataclasses.fields(tiling))


def _read_options(text: str) -> dict[str, object]:
    """Parse the text that `_options` makes into keyword arguments."""
    try:
        return {name: int(value) for name, value in (option.split("=") for option in text.split(", "))}
    except ValueError as error:
        raise ConfigError(f"`tiling` {text!r} cannot be read: another version wrote it; use that version") from error
