"""The dialect of a model on Azure Machine Learning: `POST /score`.

The body is a table of images and texts, as for the CLIP models of Azure's catalogue, or a request of the hosted API
in which `model` may be absent, because a deployment has only one model.

Source: Azure Machine Learning's online endpoints, and the samples of its catalogue's `embeddings` task.
"""

from collections.abc import Mapping
from functools import partial

from jclip_connectors.server.dialects.encodings import write_json
from jclip_connectors.server.dialects.fields import (
    check_count,
    check_items,
    read_list,
    read_mapping,
)
from jclip_connectors.server.dialects.items import check_no_images, check_texts, image_item, plain_text_item
from jclip_connectors.server.dialects.jina import write_error
from jclip_connectors.server.dialects.json_bodies import read_object
from jclip_connectors.server.dialects.pairs import Pairs
from jclip_connectors.server.dialects.sagemaker import read_plain
from jclip_connectors.server.requests import (
    Answer,
    Call,
    Dialect,
    EmbeddingRequest,
    Item,
    RequestError,
    Served,
    item_error,
)

_COLUMNS = {"image": "image_features", "text": "text_features"}


def read_request(body: bytes, served: Served) -> Call:
    """Read a request in either form.

    Raises:
        RequestError: the request as a whole cannot be answered.
    """
    raw = read_object(body, expected="`input_data`, or with `input`")
    return _read_table(raw, served) if "input_data" in raw else read_plain(raw, served)


DIALECT = Dialect(read_request, write_error)


def _read_table(raw: Mapping[str, object], served: Served) -> Call:
    table = read_mapping(raw, "input_data")
    columns = read_list(table, "columns", served)
    if any(not isinstance(column, str) or column not in _COLUMNS for column in columns) or len(columns) > len(
        set(columns)
    ):
        raise RequestError("`columns` must be 'image', 'text' or both", field="input_data.columns")
    rows = read_list(table, "data", served)
    for place in (raw, table, read_mapping(raw, "params")):
        check_no_images(place, "input_data")
        if "text" in columns:
            check_texts(rows, place, "columns")
    pairs = Pairs.of(_row(row, columns, index, served) for index, row in enumerate(rows))
    check_count(len(pairs.items), "data", served)
    items = check_items(pairs.items, "data", served)
    return Call(EmbeddingRequest(items=items, numbers=pairs.rows), partial(_write, pairs))


def _row(row: object, columns: list[str], index: int, served: Served) -> dict[str, Item]:
    """Read a row: its items, keyed by the names of their vectors; an empty cell gives no item."""
    values = row if isinstance(row, list) else [row]
    if len(values) != len(columns):
        return {"": item_error(index, f"has {len(values)} values for {len(columns)} columns")}
    read = {"image": image_item, "text": plain_text_item}
    filled = {column: value for column, value in zip(columns, values, strict=True) if value not in (None, "")}
    if not filled:
        return {"": item_error(index, "has neither an image nor a text: fill one of them, or both")}
    return {_COLUMNS[column]: read[column](value, index, served) for column, value in filled.items()}


def _write(pairs: Pairs, answer: Answer) -> bytes:
    return write_json(pairs.write(answer))
