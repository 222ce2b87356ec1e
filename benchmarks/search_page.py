"""The search page over 10,000 pictures: what it adds to the model's time, its small pictures, and its memory.

    python -m benchmarks.search_page --quick | --full

The collection is in a folder, the model is nano, and the requests go through the whole application, without a socket.
All pictures are one file on the disk, with many names.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from benchmarks.comparison import Bench, Claim, main
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.port import Record
from jclip_connectors.server import create_app, load_served_model
from jclip_connectors.server.ui.gallery import Shown

_RECORDS, _QUICK_RECORDS = 10_000, 200
_FILES = 2000
_PART = 100  # records that one search gives all of
_CONNECTIONS = 6  # of a browser to one server
_PHOTO = (4000, 3000)
_THUMBNAILS, _QUICK_THUMBNAILS = 2000, 40
_REQUESTS = 20
_CONFIG = EmbeddingConfig(model="nano")


def write_photos(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Write photos of noise with some structure, as JPEG."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 16, size[0] // 16, 3), np.uint8)
    picture = Image.fromarray(noise).resize(size)
    paths = [folder / f"photo {number}.jpg" for number in range(count)]
    picture.save(paths[0], quality=90)
    for path in paths[1:]:
        path.hardlink_to(paths[0])
    return paths


def fill(store: QdrantEdgeStore, paths: list[Path], count: int, length: int) -> None:
    """Write records with made-up vectors."""
    rows = np.random.default_rng(1).standard_normal((count, length)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for start in range(0, count, 500):
        store.upsert(
            [
                Record(
                    record_id=f"record {at}",
                    modality="image",
                    embedding=rows[at],
                    uri=str(paths[at % len(paths)]),
                    metadata={"part": at // _PART},
                )
                for at in range(start, min(start + 500, count))
            ]
        )


def resident_bytes() -> int:
    """The largest memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def embed(client: TestClient) -> list[float]:
    """Embed a text some times; returns the vector."""
    found: list[float] = []
    for _ in range(_REQUESTS):
        answer = client.post("/v1/embeddings", json={"model": "nano", "input": ["a red circle"]})
        found = answer.json()["data"][0]["embedding"]
    return found


def apart(expected: object, actual: object) -> float:
    """The largest difference of two vectors."""
    return float(np.abs(np.subtract(expected, actual)).max())  # type: ignore[call-overload]  # two lists


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run(bench: Bench) -> None:
    """Measure the page."""
    count = _QUICK_RECORDS if bench.quick else _RECORDS
    thumbnails = _QUICK_THUMBNAILS if bench.quick else _THUMBNAILS
    model = load_served_model(_CONFIG, device="cpu", runtime="onnx")
    with tempfile.TemporaryDirectory(prefix="search-page-") as name:
        folder = Path(name)
        paths = write_photos(folder, _FILES, (400, 300) if bench.quick else _PHOTO)
        with QdrantEdgeStore.open(folder / "c.jclip", _CONFIG) as store:
            fill(store, paths, count, model.encoder.embedding_dim)
            shown = Shown(store=store, config=_CONFIG, name="photos")
            with (
                TestClient(create_app(model, _CONFIG), base_url="http://localhost") as plain,
                TestClient(create_app(model, _CONFIG, collection=shown), base_url="http://localhost") as mounted,
            ):
                claim = Claim(
                    what="/v1/embeddings without the page / with it",
                    baseline="without",
                    ours="with",
                    difference=apart,
                    tolerance=0,
                    bar=0.95,
                )
                bench.compare({"without": lambda: embed(plain), "with": lambda: embed(mounted)}, [claim])
                searches(bench, mounted, count)
                pictures(bench, mounted, thumbnails)


def searches(bench: Bench, client: TestClient, count: int) -> None:
    """What a search of the page takes beyond the embedding of its text."""

    def search(number: int) -> None:
        answer = client.post("/ui/search", json={"text": f"picture number {number}", "limit": 100})
        if len(answer.json()["hits"]) != 100:
            raise SystemExit("a search has not found 100 pictures: no times are taken")

    def vector(number: int) -> None:
        client.post("/v1/embeddings", json={"model": "nano", "input": [f"picture number {number}"]})

    search(0)
    pairs = [(seconds_of(partial(vector, at)), seconds_of(partial(search, at))) for at in range(1, 101)]
    more = sorted(whole - alone for alone, whole in pairs)
    bench.record(
        f"search of {count:,} records, p95 beyond the model", [1000 * more[94]], unit="ms", bar=30, at_most=True
    )


def pictures(bench: Bench, client: TestClient, thumbnails: int) -> None:
    """Small pictures, each of another record, and the memory that they take."""
    addresses = [
        hit["thumb"]
        for part in range(thumbnails // _PART or 1)
        for hit in client.post("/ui/search", json={"text": "a", "limit": 200, "where": {"part": part}}).json()["hits"]
    ]
    if len(set(addresses)) != max(thumbnails, _PART):
        raise SystemExit("the searches have not given every record once: no times are taken")
    before = resident_bytes()
    taken = [seconds_of(partial(client.get, address)) for address in addresses[:20]]
    with ThreadPoolExecutor(_CONNECTIONS) as connections:
        page = seconds_of(lambda: list(connections.map(client.get, addresses[20:60])))
        statuses = set(connections.map(lambda address: client.get(address).status_code, addresses[60:]))
    if statuses != {200}:
        raise SystemExit("a small picture was not answered")
    size = "400 x 300" if bench.quick else "12 megapixel"
    bench.record(f"small picture of a {size} JPEG", [1000 * statistics.median(taken)], unit="ms", bar=150, at_most=True)
    bench.record("40 of them, asked for as a browser does", [page], unit="s", bar=2, at_most=True)
    grown = (resident_bytes() - before) / 1e6
    bench.record(f"memory after {len(addresses):,} of them", [grown], unit="MB more", bar=100, at_most=True)


if __name__ == "__main__":
    main("search_page", __doc__, run)
