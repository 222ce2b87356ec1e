"""Work in bulk: vectors of many pictures and texts in Parquet files, and collections that move with their vectors."""

from jclip_connectors.bulk.carried import CarriedConfig, carried_config
from jclip_connectors.bulk.copying import CopyReport, copy_collection

__all__ = ["CarriedConfig", "CopyReport", "carried_config", "copy_collection"]
