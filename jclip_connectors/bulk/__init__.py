"""Work in bulk: vectors of many pictures and texts in Parquet files, and collections that move with their vectors.

Copies between stores need no package besides these; what reads and writes files needs the extra "bulk".
"""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from jclip_connectors.bulk.carried import CarriedConfig, carried_config
from jclip_connectors.bulk.copying import CopyReport, copy_collection
from jclip_connectors.bulk.reindexing import ReindexReport, reindex_collection
from jclip_connectors.errors import MissingDependencyError

if TYPE_CHECKING:
    from jclip_connectors.bulk.columns import Columns
    from jclip_connectors.bulk.embed_shard import EmbedBatch, EmbedJob, EmbedShard, ShardDone
    from jclip_connectors.bulk.embedding import EmbedProgress, EmbedReport, embed_shards, run_locally
    from jclip_connectors.bulk.loading import LoadProgress, LoadReport, load
    from jclip_connectors.bulk.ray_engine import run_on_ray
    from jclip_connectors.bulk.shards import Shard, find_shards

__all__ = [
    "CarriedConfig",
    "Columns",
    "CopyReport",
    "EmbedBatch",
    "EmbedJob",
    "EmbedProgress",
    "EmbedReport",
    "EmbedShard",
    "LoadProgress",
    "LoadReport",
    "ReindexReport",
    "Shard",
    "ShardDone",
    "carried_config",
    "copy_collection",
    "embed_shards",
    "find_shards",
    "load",
    "reindex_collection",
    "run_locally",
    "run_on_ray",
]

_MODULES = MappingProxyType(  # of what needs the extra
    {
        "Columns": "columns",
        "EmbedBatch": "embed_shard",
        "EmbedJob": "embed_shard",
        "EmbedProgress": "embedding",
        "EmbedReport": "embedding",
        "EmbedShard": "embed_shard",
        "LoadProgress": "loading",
        "LoadReport": "loading",
        "Shard": "shards",
        "ShardDone": "embed_shard",
        "embed_shards": "embedding",
        "find_shards": "shards",
        "load": "loading",
        "run_locally": "embedding",
        "run_on_ray": "ray_engine",
    }
)


def __getattr__(name: str) -> object:
    """Import what needs the extra on first use (PEP 562).

    Raises:
        MissingDependencyError: the extra is not installed.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name).partition(".")[0], extra="bulk") from error


def __dir__() -> list[str]:
    """The public names, also before their first use."""
    return sorted({*globals(), *__all__})
