"""The search page over every store: what it finds is what a search of the collection finds."""

import pytest
from starlette.testclient import TestClient

from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.server.app import create_app
from jclip_connectors.server.ui.gallery import Shown
from tests.every_store.live_stores import LIVE_STORES
from tests.ui.conftest import CONFIG
from tests.ui.test_routes import QUERY, search

QUICK = ("edge", "qdrant")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LIVE_STORES]
)
def test_the_page_finds_in_every_store_what_a_search_finds(model, gallery, name):
    with LIVE_STORES[name]() as open_store:
        store = open_store(CONFIG)
        store.upsert(list(gallery.collection.store.scroll()))
        collection = MultimodalCollection(gallery.collection.embedder, store)
        shown = Shown(store=store, config=CONFIG, name="photos", roots=(gallery.folder,))
        with TestClient(create_app(model, CONFIG, collection=shown), base_url="http://127.0.0.1") as page:
            for modality in ("image", "text"):
                expected = collection.search(QUERY, modality=modality, limit=9, group_duplicates=True)
                found = search(page, text=QUERY, modality=modality, limit=9)
                assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-4)
                boxes = [None if hit.box is None else list(hit.box) for hit in expected]
                assert [hit["box"] for hit in found] == boxes
            first = search(page, text=QUERY, limit=1)[0]
            assert first["name"] == "canvas.png"
            assert page.get(first["thumb"]).status_code == 200
            like = search(page, like=first["id"], where={"number": {"lt": 4}})
            assert sorted(hit["metadata"]["number"] for hit in like) == [0, 1, 2, 3]
            assert page.get("/ui/info").json()["counts"] == {"image": 13, "text": 2}
