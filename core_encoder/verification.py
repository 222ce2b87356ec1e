"""Verify a checkpoint: its files are complete, and its model gives the expected vectors."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from core_encoder.checkpoint import FILES, WEIGHTS_FILE, find_checkpoint
from core_encoder.config import read_config
from core_encoder.encoder import JinaClipEncoder
from core_encoder.errors import ConfigError, JinaClipError
from core_encoder.exported import EXPORT_FILES, read_export
from core_encoder.image_input import ImageInput
from core_encoder.models import KnownModel, Precision, RuntimeChoice, known_model

_TEXTS = ("a red circle", "two cats asleep on a blue sofa in the afternoon sun", "ein roter Kreis", "红色的圆形")
_UNIT_TOLERANCE = 1e-5
_BATCH_TOLERANCE = 1e-6  # what the encoder promises on CPU in float32
LEAST_MEAN_COSINE, LEAST_COSINE = 0.995, 0.98  # of vectors in a lower precision to those in float32
_PUBLISHED_TOLERANCE = 1e-3  # the values are published with four decimals, computed elsewhere in other precisions


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        passed: whether the check succeeded.
        detail: what was found.
    """

    name: str
    passed: bool
    detail: str


def verify(
    source: str | Path,
    *,
    revision: str | None = None,
    runtime: RuntimeChoice = "auto",
    precision: Precision = "fp32",
    texts: Sequence[str] = (),
    images: Sequence[ImageInput] = (),
    local_files_only: bool = False,
) -> Iterator[Check]:
    """Check a model step by step, on the CPU in float32 or as it was exported; an error on loading ends the checks.

    Args:
        source: hub id, folder, or "nano".
        revision: commit of a hub id; the pinned one of a known model if `None`.
        runtime: "onnx" or "torch"; "auto" is ONNX Runtime where it is installed.
        precision: another precision whose vectors are compared with those in float32; "fp32" compares nothing.
        texts: to compare with, besides a few of this package.
        images: to compare with, besides one of this package.
        local_files_only: use the local cache and never the network.

    Yields:
        The result of each check: files, configuration, tensors, weights, vectors of texts and of a picture, the same
        vectors in a batch, shortened vectors, and published values if there are any.
    """
    name = "files"
    try:
        folder = find_checkpoint(source, revision=revision, local_files_only=local_files_only)
        exported = read_export(folder)
        names = FILES if exported is None else EXPORT_FILES
        yield Check(name=name, passed=True, detail=f"{', '.join(names)} in {folder}")
        name = "configuration"
        config = read_config(folder)
        size = config.vision.image_size
        yield Check(name=name, passed=True, detail=f"vectors of {config.embedding_dim}, pictures of {size} px")
        name = "tensors"
        start = time.perf_counter()
        encoder = JinaClipEncoder.load(
            source,
            revision=revision,
            device="cpu",
            precision="fp32" if exported is None else "auto",
            runtime=runtime,
            local_files_only=local_files_only,
        )
        seconds = time.perf_counter() - start
        yield Check(
            name=name, passed=True, detail=f"every one in its place, by name and shape; loaded in {seconds:.1f} s"
        )
        if exported is None:
            yield _check_weights(folder / WEIGHTS_FILE)
        name = "vectors"
        yield from _check_vectors(encoder, known_model(str(source)))
        if precision != "fp32":
            name = precision
            if exported is not None:
                raise ConfigError("an exported folder has one precision: verify the model that it was exported from")
            other = JinaClipEncoder.load(
                source, revision=revision, device="cpu", precision=precision, local_files_only=local_files_only
            )
            yield _compare("texts", encoder.encode_text, other.encode_text, (*_TEXTS, *texts), precision)
            yield _compare(
                "images",
                partial(encoder.encode_image, failed={}),  # images that cannot be read are left out
                partial(other.encode_image, failed={}),
                (_picture(), *images),
                precision,
            )
    except JinaClipError as error:
        yield Check(name=name, passed=False, detail=str(error))


def _check_weights(path: Path) -> Check:
    count, damaged = 0, []
    with safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            tensor = file.get_tensor(name)
            count += tensor.size
            if not np.isfinite(tensor).all():
                damaged.append(name)
    detail = (
        f"NaN or infinite values in {damaged[:4]}, {len(damaged)} in all" if damaged else f"{count:,} finite numbers"
    )
    return Check(name="weights", passed=not damaged, detail=detail)


def _check_vectors(encoder: JinaClipEncoder, known: KnownModel | None) -> Iterator[Check]:
    texts = encoder.encode_text(_TEXTS)  # (4, E)
    yield _check_rows("text vectors", texts, (len(_TEXTS), encoder.embedding_dim))
    yield _check_rows("image vector", encoder.encode_image([_picture()]), (1, encoder.embedding_dim))

    alone = np.concatenate([encoder.encode_text([text]) for text in _TEXTS])  # (4, E)
    difference = float(np.abs(texts - alone).max())
    yield Check(
        name="alone and in a batch",
        passed=difference <= _BATCH_TOLERANCE,
        detail=f"texts differ by {difference:.1e}, {_BATCH_TOLERANCE:.0e} is allowed",
    )
    if encoder.matryoshka_dims:
        yield _check_prefixes(encoder, texts)
    if known is not None and known.check_text is not None:
        found = encoder.encode_text([known.check_text])[0, : len(known.check_values)]
        difference = float(np.abs(found - np.array(known.check_values)).max())
        yield Check(
            name="published values",
            passed=difference <= _PUBLISHED_TOLERANCE,
            detail=f"{known.check_text!r} differs by {difference:.1e}, {_PUBLISHED_TOLERANCE:.0e} is allowed",
        )


def _compare(
    what: str,
    exact: Callable[[Sequence[Any]], NDArray[np.float32]],
    rounded: Callable[[Sequence[Any]], NDArray[np.float32]],
    items: Sequence[Any],
    precision: str,
) -> Check:
    """Compare the vectors of the same items in float32 and in another precision by their cosine."""
    cosines = (exact(items) * rounded(items)).sum(axis=1)  # (B,)
    mean, least = float(cosines.mean()), float(cosines.min())
    return Check(
        name=f"{what} in {precision}",
        passed=mean >= LEAST_MEAN_COSINE and least >= LEAST_COSINE,  # false for NaN
        detail=f"cosine to fp32 of {len(cosines)} {what}: {mean:.5f} on average, at least {least:.5f}; "
        f"{LEAST_MEAN_COSINE} and {LEAST_COSINE} are needed",
    )


def _check_rows(name: str, rows: NDArray[np.float32], shape: tuple[int, int]) -> Check:
    error = float(np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1).max()) if rows.shape == shape else np.nan
    passed = error <= _UNIT_TOLERANCE  # false for NaN
    return Check(name=name, passed=passed, detail=f"{rows.shape}, lengths within {error:.1e} of 1")


def _check_prefixes(encoder: JinaClipEncoder, full: NDArray[np.float32]) -> Check:
    dims, error = encoder.matryoshka_dims, 0.0
    for dim in dims:
        prefix = full[:, :dim].astype(np.float64)  # (4, dim)
        unit = prefix / np.linalg.norm(prefix, axis=1, keepdims=True)
        error = max(error, float(np.abs(encoder.encode_text(_TEXTS, truncate_dim=dim) - unit).max()))
    return Check(
        name="shortened vectors",
        passed=error <= _UNIT_TOLERANCE,
        detail=f"{', '.join(map(str, dims))}: the unit prefix of the full one to {error:.1e}",
    )


def _picture() -> NDArray[np.uint8]:
    """A picture that is not of one colour: (120, 160, 3) uint8."""
    y, x = np.mgrid[0:120, 0:160]
    return np.stack([x * 255 // 159, y * 255 // 119, (x + y) % 256], axis=-1).astype(np.uint8)
