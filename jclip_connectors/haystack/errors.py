"""Errors that are ours and Haystack's at once, so that code that was written for either catches them."""

from haystack.errors import FilterError

from jclip_connectors.errors import EmbedInputError, PartialFailureError


class DocumentsNotEmbeddedError(PartialFailureError, RuntimeError):
    """Some documents could not be embedded; `failed` and `kept`, the embedded documents, are by position."""


class FilterInputError(EmbedInputError, FilterError):
    """A filter of Haystack's is not valid, or asks for what no store can compare."""
