"""Which columns of a source are embedded, and whether a table has them."""

import dataclasses
from dataclasses import dataclass

import pyarrow as pa

from jclip_connectors.errors import EmbedInputError

FINGERPRINT_KEY = b"jclip.fingerprint"  # in the metadata of a file of vectors


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a source are used: of a tar file, the suffixes of its parts without the first dot.

    Attributes:
        images: the pictures; `None` finds them if there is no doubt, unless `texts` is given.
        texts: the texts.
        key: what names an item, and is the id of its record; `None` takes ids from the content. In a tar file,
            "__key__" is the name of the parts without the suffix.
        metadata: what becomes the metadata of a record.
    """

    images: str | None = None
    texts: str | None = None
    key: str | None = None
    metadata: tuple[str, ...] = ()


def check_schema(schema: pa.Schema, columns: Columns, *, where: str) -> Columns:
    """Check a table for the columns.

    Args:
        schema: of the table.
        columns: that are used.
        where: names the table in a message.

    Returns:
        The columns with that of the pictures, which is found if there is no doubt.

    Raises:
        EmbedInputError: a column does not exist, or has no pictures or texts; the message lists the columns.
    """
    has = f"it has {', '.join(f'{each.name} ({each.type})' for each in schema)}"
    if schema.metadata is not None and FINGERPRINT_KEY in schema.metadata:
        raise EmbedInputError(f"{where} is a file of vectors that `jclip` has made: there is nothing to embed")
    for name in (columns.images, columns.texts, columns.key, *columns.metadata):
        if name is not None and schema.names.count(name) != 1:
            many = "no column" if name not in schema.names else "several columns"
            raise EmbedInputError(f"{where} has {many} {name!r}; {has}")
    if columns.images is not None and not _has_pictures(schema.field(columns.images).type):
        raise EmbedInputError(
            f"the column {columns.images!r} of {where} has no bytes of pictures. URLs are not fetched: img2dataset "
            f"fetches them into tar files, which can be embedded; {has}"
        )
    if columns.texts is not None and not _has_texts(schema.field(columns.texts).type):
        raise EmbedInputError(f"the column {columns.texts!r} of {where} has no texts; {has}")
    for name in columns.metadata:
        if not _is_json(schema.field(name).type):
            raise EmbedInputError(
                f"the column {name!r} of {where} has values that JSON does not have, and metadata is JSON: convert it "
                f"to numbers or text, or leave it out; {has}"
            )
    if columns.images is not None or columns.texts is not None:
        return columns
    pictures = [each.name for each in schema if _has_pictures(each.type)]
    if len(pictures) != 1:
        raise EmbedInputError(
            f"{where} has {len(pictures)} columns of pictures: name the pictures with `images` or the texts with "
            f"`texts` (--images, --texts). URLs are not fetched: img2dataset fetches them into tar files; {has}"
        )
    return dataclasses.replace(columns, images=pictures[0])


def _has_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):  # as Hugging Face's datasets keep pictures
        names = [kind.field(at).name for at in range(kind.num_fields)]
        return "bytes" in names and _has_pictures(kind.field(names.index("bytes")).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _has_texts(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_texts(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_json(kind: pa.DataType) -> bool:
    """Whether values of a type have a form in JSON; times become text."""
    types = pa.types
    if types.is_nested(kind):
        return all(_is_json(kind.field(at).type) for at in range(kind.num_fields))
    if types.is_dictionary(kind):
        return _is_json(kind.value_type)
    times = types.is_temporal(kind) and not types.is_duration(kind) and not types.is_interval(kind)
    plain = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)
    return bool(times or plain or _has_texts(kind))
