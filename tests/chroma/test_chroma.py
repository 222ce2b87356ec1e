"""Chroma's own client, in an environment of its own, with our embedding function and image loader."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.docs.blocks import DOCS, blocks_of
from tests.environments import environment, run

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test builds the environment

SCRIPT = """
import json, sys
import chromadb
from chromadb.config import Settings
from jclip_connectors.chroma import JinaClipEmbeddingFunction, JinaClipImageLoader
from jclip_connectors.testing import HashEmbedder

folder, *paths = sys.argv[1:]
client = chromadb.PersistentClient(folder, settings=Settings(anonymized_telemetry=False))
function = JinaClipEmbeddingFunction.from_embedder(HashEmbedder())
photos = client.create_collection("photos", embedding_function=function, data_loader=JinaClipImageLoader())
photos.add(ids=["a", "b"], uris=paths)
photos.add(ids=["note"], documents=["a red circle"])
seen = {
    "space": photos.configuration_json["hnsw"]["space"],
    "text": photos.query(query_texts=["a red circle"], n_results=1)["ids"][0],
    "image": photos.query(query_uris=[paths[1]], n_results=1)["ids"][0],
    "array": photos.query(query_images=JinaClipImageLoader()([paths[0]]), n_results=1)["ids"][0],
}
again = client.get_collection("photos")
kept = again.configuration_json["embedding_function"]
seen["kept"] = kept["name"]
seen["rebuilt"] = JinaClipEmbeddingFunction.build_from_config(kept["config"]).config == function.config
print(json.dumps(seen))
"""


def test_a_collection_of_chroma_finds_texts_and_images_and_remembers_its_function(tmp_path):
    python = environment("chroma", ROOT / "constraints" / "chroma.txt")
    paths = [str(tmp_path / f"{colour}.png") for colour in ("red", "blue")]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        Image.new("RGB", (20, 30), colour).save(path)
    command = [str(python), "-c", SCRIPT, str(tmp_path / "collection"), *paths]
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    seen = json.loads(run(command, env=environ, cwd=tmp_path, timeout=200).splitlines()[-1])
    assert seen == {
        "space": "cosine",
        "text": ["note"],
        "image": ["b"],
        "array": ["a"],
        "kept": "jclip",
        "rebuilt": True,
    }


def test_the_block_of_the_page_that_needs_chroma_runs(tmp_path):
    python = environment("chroma", ROOT / "constraints" / "chroma.txt")
    for name in ("bicycle.jpg", "boat.jpg"):
        Image.new("RGB", (20, 30), "red").save(tmp_path / name)
    (block,) = (block for block in blocks_of(DOCS / "frameworks" / "chroma.md") if block.title is not None)
    named = 'JinaClipEmbeddingFunction("jinaai/jina-clip-v2", dimensions=512)'
    assert named in block.text
    text = block.text.replace(named, "JinaClipEmbeddingFunction.from_embedder(HashEmbedder())")
    script = f"from jclip_connectors.testing import HashEmbedder\n{text}\nprint(found['ids'])"
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    seen = run([str(python), "-c", script], env=environ, cwd=tmp_path, timeout=200)
    assert seen.splitlines()[-1].startswith("[['")
