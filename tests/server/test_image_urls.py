"""Images that are named by URL: refused unless the operator allows them, and then fetched from public hosts alone."""

import functools
import http.server
import threading

import numpy as np
import pytest

from core_encoder.errors import ConfigError
from jclip_connectors.server import image_fetch
from jclip_connectors.server.limits import ServerLimits
from tests.server.harness import DATA_URI, PNG, Server, in_background, wait_until

INSIDE = [
    "http://127.0.0.1/a.png",
    "http://localhost/a.png",
    "http://2130706433/a.png",
    "http://0x7f000001/a.png",
    "http://0177.0.0.1/a.png",
    "http://127.1/a.png",
    "http://[::1]/a.png",
    "http://[::ffff:127.0.0.1]/a.png",
    "http://[::ffff:169.254.169.254]/latest/meta-data",
    "http://[64:ff9b::7f00:1]/a.png",
    "http://[fd00:ec2::254]/latest",
    "http://169.254.169.254/latest/meta-data/iam",
    "http://10.0.0.1/a.png",
    "http://192.168.0.1/a.png",
    "http://100.100.100.200/latest",
    "http://0.0.0.0/a.png",
    "https://127.0.0.1:443/a.png",
    "http://user:secret@example.com/a.png",
    "http://example.com:22/a.png",
    "http://exa mple.com/a.png",
    "http:///a.png",
    "http://",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "ftp://127.0.0.1/a.png",
]


class Site(http.server.BaseHTTPRequestHandler):
    end = threading.Event()

    def do_GET(self):
        if self.path == "/slow.png":
            self.end.wait(60)
            return
        self.send_response(200 if self.path == "/a.png" else 404)
        self.send_header("Content-Length", str(len(PNG)))
        self.end_headers()
        self.wfile.write(PNG)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    """A site on loopback, and a fetcher that takes loopback for the internet."""
    monkeypatch.setattr(image_fetch, "_is_public", lambda _address: True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Site.end.clear()
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    Site.end.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def fetching(model):
    with Server(model, image_urls=True) as running:
        yield running


@pytest.mark.parametrize("url", INSIDE)
def test_nothing_inside_is_fetched(fetching, url):
    answer = fetching.post(["a star", {"image": url}])
    assert (answer.status_code, answer.json()["detail"][:6]) == (400, "item 1")
    assert "secret" not in answer.text
    assert "meta-data" not in answer.text
    assert fetching.post("a star").status_code == 200


def test_an_image_by_url_gets_the_encoders_own_vector(model, site, encoder):
    with Server(model, image_urls=True, allowed_hosts=[site]) as server:
        vectors = server.vectors([{"image": f"http://{site}/a.png"}, "a star", {"url": f"http://{site}/a.png"}])
    image = encoder.encode_image([PNG])[0]
    assert np.abs(vectors - np.stack([image, encoder.encode_text(["a star"])[0], image])).max() <= 1e-6


def test_an_image_that_is_not_there_fails_by_its_index_or_with_partial_alone(model, site):
    with Server(model, image_urls=True, allowed_hosts=[site]) as server:
        items = [{"image": f"http://{site}/a.png"}, {"image": f"http://{site}/b.png"}]
        refused = server.post(items)
        assert (refused.status_code, refused.json()["detail"][:6]) == (400, "item 1")
        answer = server.post(items, partial=True).json()
        assert [each["index"] for each in answer["data"]] == [0]
        assert [each["index"] for each in answer["errors"]] == [1]


def test_a_host_that_is_not_allowed_is_not_asked(model, site):
    with Server(model, image_urls=True, allowed_hosts=["images.example.com"]) as server:
        answer = server.post([{"image": f"http://{site}/a.png"}])
        assert answer.status_code == 400


def test_a_slow_site_is_given_up_and_texts_do_not_wait_for_it(model, site):
    limits = ServerLimits(max_fetch_s=2)
    with Server(model, image_urls=True, allowed_hosts=[site], limits=limits) as server:
        with in_background(server.post, [{"image": f"http://{site}/slow.png"}], count=20) as slow:
            wait_until(lambda: server.engine.waiting_tokens > 0)
            assert server.post(["a star", DATA_URI]).status_code == 200
            assert not slow
        assert [answer.status_code for answer in slow] == [400] * 20


def test_a_request_has_a_limit_of_urls(model):
    with Server(model, image_urls=True, limits=ServerLimits(max_image_urls=2)) as server:
        answer = server.post([{"image": "http://example.com/a.png"}] * 3)
        assert (answer.status_code, "2 are allowed" in answer.json()["detail"]) == (422, True)


def test_a_host_that_can_be_no_host_is_refused_at_the_start(model):
    with pytest.raises(ConfigError):
        Server(model, image_urls=True, allowed_hosts=["http://example.com/"])
