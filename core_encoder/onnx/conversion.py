"""Convert a checkpoint to ONNX: into the cache for this user, or into a folder that loads anywhere."""

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core_encoder.cache import VARIABLE, cache_folder
from core_encoder.config import ModelConfig
from core_encoder.errors import CheckpointError
from core_encoder.exported import EXPORT_FILE, GRAPH_VERSION, TOWERS, OnnxPrecision
from core_encoder.file_hash import file_hash
from core_encoder.logit_scale import read_logit_scale
from core_encoder.models import WEIGHTS_FILE

_LOG = logging.getLogger("core_encoder")
_CONFIG_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")


def converted(folder: Path, config: ModelConfig, precision: OnnxPrecision) -> Path:
    """The folder of a checkpoint's graphs in the user's cache; they are made if they are not there.

    Args:
        folder: of the checkpoint.
        config: of the checkpoint.
        precision: of the matrices.

    Raises:
        CheckpointError: the weights are damaged, or the cache cannot be written.
    """
    with _cache_errors(folder):
        weights = file_hash(folder / WEIGHTS_FILE).encode()
        name = hashlib.sha256(b"\0".join((weights, (folder / "config.json").read_bytes()))).hexdigest()[:32]
        place = cache_folder() / "onnx" / f"{name}-{precision}-{GRAPH_VERSION}"
        if not place.is_dir():
            _LOG.info("converting the model to ONNX, once: %s", place)
            with _written(place) as temporary:
                write_towers(folder, config, precision, temporary)
    return place


def export(
    folder: Path, config: ModelConfig, precision: OnnxPrecision, out: Path, *, source: str, revision: str | None
) -> None:
    """Write a model into a folder that loads anywhere without a conversion.

    Args:
        folder: of the checkpoint.
        config: of the checkpoint.
        precision: of the matrices.
        out: the new folder; it must not exist.
        source: the hub id or name of the model; "" for a folder of the user.
        revision: the commit of a hub model, or the revision of "nano"; `None` for a folder of the user.

    Raises:
        CheckpointError: the weights are damaged, or `out` exists or cannot be written.
    """
    if out.exists():
        raise CheckpointError(f"{str(out)!r} exists already: choose another folder, or remove it first")
    try:
        about = {
            "format": 1,
            "precision": precision,
            "model": source,
            "revision": revision,
            "weights_sha256": file_hash(folder / WEIGHTS_FILE),
            "logit_scale": read_logit_scale(folder / WEIGHTS_FILE),
        }
        with _written(out) as temporary:
            for name in _CONFIG_FILES:
                shutil.copyfile(folder / name, temporary / name)
            write_towers(folder, config, precision, temporary)
            (temporary / EXPORT_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{str(out)!r} cannot be written: {error.strerror}") from error


def write_towers(folder: Path, config: ModelConfig, precision: OnnxPrecision, out: Path) -> None:
    """Write the graphs of both towers into a folder that exists."""
    # Imported here: a model that is converted already needs none of this.
    from core_encoder.onnx.graph import Graph
    from core_encoder.onnx.image_graph import build_image_tower
    from core_encoder.onnx.layers import Layers
    from core_encoder.onnx.merged_weights import MergedWeights
    from core_encoder.onnx.text_graph import build_text_tower

    weights = MergedWeights(folder, config)
    with Graph(out / TOWERS["text"]) as graph:
        build_text_tower(graph, Layers(graph, weights, precision), config.text)
    with Graph(out / TOWERS["image"]) as graph:
        build_image_tower(graph, Layers(graph, weights, precision), config.vision)


@contextmanager
def _written(place: Path) -> Iterator[Path]:
    """Give a temporary folder, and rename it to `place` when everything is written.

    Raises:
        OSError: it cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}-{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was faster, with the same files
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"the model in {str(folder)!r} cannot be converted to ONNX: {error.strerror} ({error.filename}); "
            f"`{VARIABLE}` names another folder for the cache"
        ) from error
