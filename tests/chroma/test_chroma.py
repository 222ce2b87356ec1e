"""What the extra `chroma` brings is enough, in an environment of its own: the function, the loader and the store."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.environments import environment, run

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test builds the environment

SCRIPT = """
import json, sys
import chromadb
from chromadb.config import Settings
from jclip_connectors import MultimodalCollection
from jclip_connectors.chroma import ChromaStore, JinaClipEmbeddingFunction, JinaClipImageLoader
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
store = ChromaStore.open(client, "records", HashEmbedder().config)
records = MultimodalCollection(HashEmbedder(), store)
records.add_images(paths, ids=["a", "b"])
seen["stored"] = [hit.record_id for hit in records.search(image=paths[1], limit=1)]
print(json.dumps(seen))
"""


def test_a_collection_of_chroma_finds_texts_and_images_and_remembers_its_function_and_a_store_works(tmp_path):
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
        "stored": ["b"],
    }
