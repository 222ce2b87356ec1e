"""The configuration of vectors that exist, for the collection or the folder that they are carried to."""

from dataclasses import dataclass, field, replace

import numpy as np

from core_encoder.errors import ConfigError
from core_encoder.matryoshka import normalize, truncate
from core_encoder.models import known_model
from jclip_connectors.config import EmbeddingConfig, Fingerprint, is_folder_revision
from jclip_connectors.port import FloatArray, Record
from jclip_connectors.store_kit.validation import check_count

_LACKING = "its fingerprint does not say"


@dataclass(frozen=True, kw_only=True)
class CarriedConfig(EmbeddingConfig):
    """A configuration with the fingerprint that vectors have: no model is looked for.

    It opens a collection for these vectors. It cannot make vectors: a model that is a folder has no path here.

    Attributes:
        carried: the fingerprint.
    """

    carried: Fingerprint = field(hash=False)

    @property
    def embedding_dim(self) -> int | None:
        """The length of the vectors, if the fingerprint or the caller says it."""
        dimensions = self.carried.get("dimensions")
        return dimensions if isinstance(dimensions, int) else self.dimensions

    def fingerprint(self) -> dict[str, str | int | bool | None]:
        """The fingerprint that the vectors have."""
        return dict(self.carried)


def carried_config(
    fingerprint: Fingerprint, *, length: int | None = None, dimensions: int | None = None
) -> CarriedConfig:
    """The configuration that opens a collection for vectors of another collection.

    Args:
        fingerprint: the fingerprint of the collection that has the vectors.
        length: E, the length of these vectors; `None` is what the fingerprint says.
        dimensions: how many values of each vector are carried; `None` carries all of them.

    Raises:
        ConfigError: the vectors are shorter than `dimensions`, or a part of them means nothing, as their model was not
            trained for that; or a later version made the fingerprint.
    """
    model, revision, tiling = (fingerprint.get(name) for name in ("model", "revision", "tiling"))
    if not isinstance(model, str):
        raise ConfigError(f"the vectors have no model: {_LACKING} what made them, so they cannot be carried")
    shortened = shortened_fingerprint(fingerprint, length=length, dimensions=dimensions)
    # Of a model in a folder only the name is known, which may be the name of a known model.
    name = str(revision) if is_folder_revision(revision) else model
    parts = EmbeddingConfig.from_fingerprint({"model": name, "revision": None, "tiling": tiling})
    return CarriedConfig(model=name, tiling=parts.tiling, carried=shortened)


def shortened_fingerprint(fingerprint: Fingerprint, *, length: int | None, dimensions: int | None) -> Fingerprint:
    """The fingerprint of vectors of which the first `dimensions` values are kept; see `carried_config`."""
    stored = fingerprint.get("dimensions")
    full = stored if length is None else length
    if dimensions is None or dimensions == full:
        return fingerprint
    if not isinstance(full, int):
        raise ConfigError(f"`dimensions` is {dimensions!r}, and the length of the vectors is not known: {_LACKING}")
    check_count(dimensions, name="dimensions", error=ConfigError)
    if dimensions > full:
        raise ConfigError(f"`dimensions` is {dimensions!r}, and the vectors have {full} values: use 1..{full}")
    model, revision = fingerprint.get("model"), fingerprint.get("revision")
    known = None if is_folder_revision(revision) else known_model(str(model))
    if known is None or not known.matryoshka:
        reason = "is not known to be trained" if known is None else "was not trained"
        raise ConfigError(
            f"`dimensions` is {dimensions}, but the model {model!r} {reason} for shorter vectors: the first values of "
            f"a vector mean little. Leave out `dimensions`, which keeps all {full}"
        )
    return {**fingerprint, "dimensions": dimensions}


def shortened(record: Record, dimensions: int) -> Record:
    """The record with the first values of its vectors, of unit length.

    Source: Kusupati et al., Matryoshka Representation Learning, 2022; as `core_encoder` cuts what a model makes.
    """
    if record.embedding.shape[-1] == dimensions:
        return record
    tiles = record.tile_embeddings
    return replace(
        record,
        embedding=_cut(record.embedding[None], dimensions)[0],
        tile_embeddings=None if tiles is None else _cut(tiles, dimensions),
    )


def _cut(rows: FloatArray, dimensions: int) -> FloatArray:
    return normalize(truncate(np.asarray(rows, dtype=np.float32), dimensions))
