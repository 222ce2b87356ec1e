"""SQL statements for PostgreSQL, and the conversion of records to rows and back."""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from psycopg import sql

from core_encoder.tiling import Box
from jclip_connectors.pgvector.clients import Row, Statement
from jclip_connectors.pgvector.filters import of_modality, with_modality
from jclip_connectors.pgvector.schema import Layout, Names
from jclip_connectors.port import MODALITIES, FloatArray, Modality, Record, SearchHit, record_uuid
from jclip_connectors.store_kit.payload import to_hit, to_payload, to_record, without_vectors

_COLUMNS = ("key", "record_id", "modality", "payload", "terms", "numbers", "fields", "embedding")
_TILE_COLUMNS = ("key", "position", "embedding")
_INCOMING = sql.Identifier("pg_temp", "jclip_incoming")
_INCOMING_TILES = sql.Identifier("pg_temp", "jclip_incoming_tiles")
_MOST_ROWS = 2**62  # for a LIMIT
_MOST_EF_SEARCH = 1000
# The names are our own: a condition of the caller, which is inside, may use any other name.
_FOR_EACH_QUERY = sql.SQL(
    "SELECT hits.* FROM (SELECT number::int - 1 AS jclip_number, text::vector AS jclip_vector FROM "
    "unnest(%(queries)s::text[]) WITH ORDINALITY AS texts (text, number)) AS jclip_queries "
    "CROSS JOIN LATERAL ({}) AS hits ORDER BY hits.query, hits.score DESC, hits.record_id"
)
_JSONB_VERSION = b"\x01"
_COPY_HEADER, _COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), struct.pack("!h", -1)


def row_bytes(record: Record, layout: Layout) -> int:
    """An upper bound for the size of a checked record in a batch."""
    rows = 1 if record.tile_embeddings is None else 1 + len(record.tile_embeddings)
    payload = json.dumps(to_payload(record))
    return 200 + 2 * len(payload) + rows * (40 + 4 * layout.dimensions)


def to_rows(records: Sequence[Record], names: Names, layout: Layout) -> list[Statement]:
    """Write checked records: copy them to a temporary table, then upsert from there.

    Rows are written in the order of their keys, so that concurrent batches with the same records wait for each other
    without a deadlock.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
    replaced = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in _COLUMNS if name != "key"
    )
    insert = sql.SQL(
        "INSERT INTO {records} ({columns}) SELECT {columns} FROM {incoming} ORDER BY key "
        "ON CONFLICT (key) DO UPDATE SET {replaced}"
    ).format(records=names.records, columns=columns, incoming=_INCOMING, replaced=replaced)
    statements = [
        *_copy(_INCOMING, names.records, _COLUMNS, (_fields(record, layout) for record in records)),
        Statement(query=insert),
    ]
    if layout.tiled:
        tiles = ((record, tile) for record in records for tile in enumerate(_tiles(record)))
        fields = (
            (_key(record), struct.pack("!i", position), _vector(row, layout)) for record, (position, row) in tiles
        )
        statements += [
            *_copy(_INCOMING_TILES, names.tiles, _TILE_COLUMNS, fields),
            # The rows of these records are locked now.
            Statement(
                query=sql.SQL("DELETE FROM {} AS tiles USING {} AS incoming WHERE tiles.key = incoming.key").format(
                    names.tiles, _INCOMING
                )
            ),
            Statement(query=sql.SQL("INSERT INTO {} SELECT * FROM {}").format(names.tiles, _INCOMING_TILES)),
        ]
    # Dropped now, not at the end of the transaction: a transaction of the caller may have more batches.
    tables = [_INCOMING, _INCOMING_TILES] if layout.tiled else [_INCOMING]
    return [*statements, Statement(query=sql.SQL("DROP TABLE {}").format(sql.SQL(", ").join(tables)))]


def to_search(
    queries: FloatArray,
    names: Names,
    layout: Layout,
    *,
    condition: sql.Composable,
    values: dict[str, Any],
    modality: Modality | None,
    tiles: bool,
    limit: int,
    candidates: int,
    approximate: bool,
) -> list[Statement]:
    """Searches with all stages, from the first stage to the tiles: rows for `row_to_hit`, nearest first.

    The first stage passes on `candidates` records, so search is exact in a collection of this size. An `approximate`
    first stage uses the HNSW index of each modality; otherwise it compares every record.

    Args:
        queries: (B, E), B at least 1; one statement searches for all of them.
        names: the tables.
        layout: how the vectors are stored.
        condition: the filter.
        values: the values of the filter's placeholders.
        modality: only texts or only images; `None` for both.
        tiles: compare the nearest tile of each record.
        limit: the largest number of results for each query.
        candidates: the number of records that the first stage passes on.
        approximate: whether the first stage uses the index.
    """
    limit, candidates = min(limit, _MOST_ROWS), min(candidates, _MOST_ROWS)
    texts = ["[" + ",".join(map(str, query)) + "]" for query in queries.tolist()]
    if len(texts) == 1:  # a constant: the planner then knows more than of a vector that it reads from a row
        vector: sql.Composable = sql.SQL("{}::vector").format(sql.Placeholder("query"))
        parameters: dict[str, Any] = {**values, "query": texts[0]}
    else:
        vector = sql.SQL("jclip_vector")
        parameters = {**values, "queries": texts}
    # Halfvecs are compared as vectors, so that the cosine of the stored values is not rounded again.
    whole = sql.SQL("1 - (embedding::vector <=> {})").format(vector)
    settings: list[Statement] = []
    source = sql.SQL("{} WHERE {}").format(names.records, with_modality(condition, modality))
    if layout.staged or tiles or approximate:
        wanted = layout.first_of(sql.SQL("{}::{}").format(vector, layout.vector))
        distance = sql.SQL("{} {} {}").format(layout.first, layout.nearness, wanted)
        if approximate:
            settings = _settings(candidates)
            branches = [of_modality(one) for one in MODALITIES if modality in (None, one)]
        else:
            distance = sql.SQL("({}) + 0").format(distance)  # prevents the use of an index, which would be approximate
            branches = [with_modality(condition, modality)]
        chosen = sql.SQL(" UNION ALL ").join(
            sql.SQL("(SELECT key FROM {} WHERE {} ORDER BY {} LIMIT {})").format(
                names.records, branch, distance, sql.Literal(candidates)
            )
            for branch in branches
        )
        source = sql.SQL("({}) AS chosen JOIN {} USING (key)").format(chosen, names.records)
    if tiles:
        answer = sql.SQL(
            "SELECT payload, coalesce(nearest.score, found.score) AS score, nearest.position, record_id, "
            "{number} AS query FROM "
            "(SELECT key, record_id, payload, {whole} AS score FROM {source}) AS found LEFT JOIN LATERAL "
            "(SELECT {whole} AS score, position FROM {tiles} AS tiles WHERE tiles.key = found.key "
            "ORDER BY score DESC, position LIMIT 1) AS nearest ON TRUE ORDER BY score DESC, record_id LIMIT {limit}"
        )
    else:
        answer = sql.SQL(
            "SELECT payload, {whole} AS score, NULL::int AS position, record_id, {number} AS query FROM {source} "
            "ORDER BY score DESC, record_id LIMIT {limit}"
        )
    number = sql.SQL("0" if len(texts) == 1 else "jclip_number")
    asked = answer.format(whole=whole, source=source, tiles=names.tiles, number=number, limit=sql.Literal(limit))
    query = asked if len(texts) == 1 else _FOR_EACH_QUERY.format(asked)
    return [*settings, Statement(query=query, parameters=parameters)]


def to_read(
    names: Names,
    layout: Layout,
    *,
    condition: sql.Composable,
    values: dict[str, Any],
    vectors: bool,
    limit: int | None = None,
) -> Statement:
    """Read the records of a condition, in the order of their keys: rows for `row_to_record`, followed by the key."""
    if not vectors:
        brief = sql.SQL("SELECT payload, NULL, NULL, key::text FROM {} WHERE {} ORDER BY key LIMIT {}")
        return Statement(query=brief.format(names.records, condition, sql.Literal(limit)), parameters=values)
    query = sql.SQL("SELECT payload, {}, {}, key::text FROM {} AS records WHERE {} ORDER BY key LIMIT {}")
    send = sql.Identifier(f"{layout.storage}_send")  # binary: does not depend on type adapters of the connection
    tiles: sql.Composable = sql.SQL("NULL::bytea[]")
    if layout.tiled:
        tiles = sql.SQL(
            "ARRAY(SELECT {}(tiles.embedding) FROM {} AS tiles WHERE tiles.key = records.key ORDER BY position)"
        ).format(send, names.tiles)
    vector = sql.SQL("{}(embedding)").format(send)
    return Statement(query=query.format(vector, tiles, names.records, condition, sql.Literal(limit)), parameters=values)


def row_to_record(row: Row, layout: Layout) -> Record:
    """The record of a row of `to_read`."""
    payload, embedding, tiles, _ = row
    if embedding is None:
        return without_vectors(json.loads(payload))
    rows = [_read_vector(tile, layout) for tile in tiles or ()]
    return to_record(json.loads(payload), embedding=_read_vector(embedding, layout), tile_embeddings=rows)


def row_to_hit(row: Row) -> SearchHit:
    """The result of a row of `to_search`."""
    payload, score, position = json.loads(row[0]), row[1], row[2]
    box = None if position is None else Box(*payload["tile_boxes"][position])
    return to_hit(payload, score=score, box=box)


def _settings(candidates: int) -> list[Statement]:
    """The settings for a search in an HNSW index: the scan continues until there are enough results.

    A scan of the table is disabled: the planner underestimates its cost, because it ignores TOAST storage.
    """
    ef_search = sql.Literal(max(40, min(candidates, _MOST_EF_SEARCH)))
    return [
        Statement(query=sql.SQL("SET LOCAL enable_seqscan = off")),
        Statement(query=sql.SQL("SET LOCAL hnsw.iterative_scan = relaxed_order")),
        Statement(query=sql.SQL("SET LOCAL hnsw.ef_search = {}").format(ef_search)),
    ]


def _copy(
    incoming: sql.Identifier, target: sql.Identifier, columns: Sequence[str], rows: Iterable[Sequence[bytes]]
) -> list[Statement]:
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    create = sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0")
    copy = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(incoming)
    return [
        Statement(query=create.format(incoming, listed, target)),
        Statement(query=copy, copied=b"".join(_stream(rows))),
    ]


def _stream(rows: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
    """Rows in the binary format of COPY; each field is in the binary format of its type."""
    yield _COPY_HEADER
    for row in rows:
        yield struct.pack("!h", len(row))
        for field in row:
            yield struct.pack("!i", len(field))
            yield field
    yield _COPY_END


def _fields(record: Record, layout: Layout) -> list[bytes]:
    payload = to_payload(record)
    terms, numbers = payload.pop("terms"), payload.pop("numbers")
    return [
        _key(record),
        record.record_id.encode(),
        record.modality.encode(),
        json.dumps(payload).encode(),
        _jsonb(terms),
        _jsonb(numbers),
        _jsonb({key: value for key, value in record.metadata.items() if _fits(key) and _fits(value)}),
        _vector(record.embedding, layout),
    ]


def _key(record: Record) -> bytes:
    return record_uuid(record.record_id).bytes


def _tiles(record: Record) -> Iterable[FloatArray]:
    return () if record.tile_embeddings is None else record.tile_embeddings


def _jsonb(value: object) -> bytes:
    return _JSONB_VERSION + json.dumps(value).encode()


def _fits(value: object) -> bool:
    """Whether JSONB can represent `value`."""
    text = json.dumps(value, ensure_ascii=False)
    return "\\u0000" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _vector(row: FloatArray, layout: Layout) -> bytes:
    """A vector in pgvector's binary format: its length, 16 unused bits, the values."""
    return struct.pack("!HH", len(row), 0) + row.astype(_value_type(layout)).tobytes()


def _read_vector(raw: bytes, layout: Layout) -> FloatArray:
    return np.frombuffer(raw, _value_type(layout), offset=4).astype(np.float32)


def _value_type(layout: Layout) -> str:
    return ">f4" if layout.storage == "vector" else ">f2"
