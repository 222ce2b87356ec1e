"""The search page: who may use it, what it shows of the machine, and what pictures it reads."""

import os
import random
import re
import string
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from core_encoder.errors import ConfigError
from core_encoder.image_limits import ImageLimits
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Record
from jclip_connectors.server.app import create_app
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.page_app import create_page_app
from jclip_connectors.server.requests import RequestError
from jclip_connectors.server.serve import serve
from jclip_connectors.server.ui.access import Access
from jclip_connectors.server.ui.gallery import Gallery, Shown
from jclip_connectors.server.ui.pictures import Pictures
from tests.pictures import PICTURE, encoded
from tests.server.harness import wait_until
from tests.ui.conftest import CONFIG

ROUTES = ("/ui", "/ui/page.js", "/ui/page.css", "/ui/info", "/ui/thumb/x", "/ui/picture/x", "/ui/nothing")
OWN = ("127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]:8080", "[::1]", "photos.example.com:443")
FOREIGN = (
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example:80",
    "127.0.0.1@evil.example",
    "evil.example:127.0.0.1",
    "0.0.0.0",  # noqa: S104
    "127.0.0.2",
    "[::ffff:127.0.0.1]",
    "",
    " ",
)


@pytest.fixture(scope="module")
def named(model, shown):
    with_name = Shown(store=shown.store, config=CONFIG, name="p", hosts=("photos.example.com",))
    app = create_app(model, CONFIG, collection=with_name, cors_origins=["*"])
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def locked(model, shown):
    app = create_app(model, CONFIG, collection=shown, api_keys=["a-key"])
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_every_route_of_the_page_answers_only_to_the_names_of_this_server(named):
    for route in ROUTES:
        for host in OWN:
            assert named.get(route, headers={"Host": host}).status_code != 421, (route, host)
        for host in FOREIGN:
            assert named.get(route, headers={"Host": host}).status_code == 421, (route, host)


def test_the_rest_of_the_server_answers_to_every_name(named):
    assert named.get("/v1/models", headers={"Host": "evil.example"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:81"}, 403),
        ({"Origin": "http://127.0.0.1@evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_search_that_a_page_of_another_site_sends_is_refused(named, headers, status):
    assert named.post("/ui/search", json={"text": "a"}, headers=headers).status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
@pytest.mark.parametrize("route", ["/ui/search", "/ui/session"])
def test_what_a_form_of_another_page_can_send_is_refused(named, kind, route):
    answer = named.post(route, content=b'{"text": "a", "key": "a"}', headers={"Content-Type": kind})
    assert answer.status_code == 415


def test_no_page_of_another_origin_may_read_an_answer(named):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (named.options("/ui/search", headers=asked), named.get("/ui/info", headers=asked)):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert named.options("/v1/embeddings", headers=asked).headers["access-control-allow-origin"] == "*"


def test_every_answer_has_the_headers_that_keep_scripts_and_frames_out(named):
    answers = [
        *(named.get(route) for route in ROUTES),
        named.get("/ui", headers={"Host": "evil.example"}),
        named.post("/ui/search", json={}),
        named.delete("/ui/search"),
    ]
    assert {answer.status_code for answer in answers} == {200, 404, 421, 400, 405}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_without_a_session_only_the_page_itself_is_answered(locked):
    locked.cookies.clear()
    statuses = {route: locked.get(route).status_code for route in ROUTES}
    assert statuses == {
        "/ui": 200,
        "/ui/page.js": 200,
        "/ui/page.css": 200,
        "/ui/info": 401,
        "/ui/thumb/x": 401,
        "/ui/picture/x": 401,
        "/ui/nothing": 404,
    }
    assert locked.post("/ui/search", json={"text": "a"}).status_code == 401


def test_a_key_is_changed_into_a_cookie_that_scripts_and_other_sites_never_get(locked):
    locked.cookies.clear()
    assert locked.post("/ui/session", json={"key": "another"}).status_code == 401
    assert not locked.cookies
    answer = locked.post("/ui/session", json={"key": "a-key"})
    assert answer.status_code == 204
    assert re.fullmatch(
        r"jclip_ui_[0-9a-f]{8}=[0-9]+\.[0-9a-f]{40}; Path=/ui; Max-Age=43200; HttpOnly; SameSite=Strict",
        answer.headers["set-cookie"],
    )
    assert locked.get("/ui/info").status_code == 200
    locked.cookies.clear()
    assert locked.get("/ui/info", headers={"Authorization": "Bearer a-key"}).status_code == 200


def test_a_cookie_that_is_changed_or_old_or_of_another_process_is_no_session(monkeypatch):
    access, other = Access(["a-key"]), Access(["a-key"])
    name, _, rest = access.open_session("a-key").partition("=")
    value = rest.partition(";")[0]
    access.check_session(Headers(), {name: value})
    ends, _, signature = value.partition(".")
    later = f"{int(ends) + 1}.{signature}"
    for wrong in (later, value[:-1], f"{ends}.", ".", "", f"{ends}.{'0' * 40}", "²." + signature, value + "é"):
        with pytest.raises(RequestError, match="no API key"):
            access.check_session(Headers(), {name: wrong})
    other_name = other.open_session("a-key").partition("=")[0]
    with pytest.raises(RequestError, match="no API key"):
        other.check_session(Headers(), {other_name: value, name: value})
    monkeypatch.setattr(time, "time", lambda: int(ends) + 1.0)
    with pytest.raises(RequestError, match="no API key"):
        access.check_session(Headers(), {name: value})


def test_the_token_of_the_address_opens_the_page_and_other_users_of_the_machine_are_refused(model, shown):
    own = Shown(store=shown.store, config=CONFIG, name="p", token="the-token")  # noqa: S106
    with TestClient(create_page_app(own, lambda: model, limits=ServerLimits()), base_url="http://localhost") as page:
        assert page.get("/ui/info").status_code == 401
        assert page.post("/ui/session", json={"token": "a-guess"}).status_code == 401
        assert page.post("/ui/session", json={"token": "the-token"}).status_code == 204
        assert page.get("/ui/info").status_code == 200


def test_a_page_that_other_machines_reach_needs_a_key(shown):
    with pytest.raises(ConfigError, match="open to everyone"):
        serve(CONFIG, host="0.0.0.0", collection=shown)  # noqa: S104


def test_a_host_with_a_port_or_a_path_is_refused_at_the_start():
    for host in ("a.example:80", "http://a.example", "a.example/x", ""):
        with pytest.raises(ConfigError):
            Access(hosts=[host])


def test_ten_thousand_made_up_names_of_records_are_no_records(hit_names):
    gallery, names = hit_names
    rng = random.Random(0)  # noqa: S311
    alphabets = ["0123456789abcdef", string.printable, "".join(map(chr, range(0x80, 0x500))), "./\\%\0\ud800"]
    for number in range(10_000):
        letters = alphabets[number % len(alphabets)]
        name = "".join(rng.choices(letters, k=40 if number % 8 == 0 else rng.randrange(80)))
        if name not in names:
            with pytest.raises(RequestError, match="no such record"):
                gallery.record(name, vectors=False)


@pytest.fixture(scope="module")
def hit_names(shown):
    """A collection that has shown its records, and their names."""
    pictures = Pictures(roots=shown.roots, rendering="as_seen", limits=ImageLimits())
    gallery = Gallery(shown, pictures, Access().handle)
    vector = np.eye(128, dtype=np.float32)[0]
    hits = gallery.search(vector, text=None, modality="image", limit=200, where=None)
    assert gallery.record(hits[0]["id"], vectors=False).uri is not None
    return gallery, {hit["id"] for hit in hits}


@pytest.mark.parametrize("name", ["../canvas.png", "..%2f..%2fetc%2fpasswd", "%00", "a" * 5000, "é", "?side=200"])
def test_a_path_in_the_place_of_a_record_is_not_found(page, name):
    assert page.get(f"/ui/thumb/{name}").status_code == 404
    assert page.get(f"/ui/picture/{name}").status_code == 404


def test_files_outside_of_the_folder_are_never_read(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    png = encoded(PICTURE, "PNG")
    (root / "in.png").write_bytes(png)
    (outside / "out.png").write_bytes(png)
    (root / "link.png").symlink_to(outside / "out.png")
    (root / "inner.png").symlink_to(root / "in.png")
    (root / "folder").symlink_to(outside)
    (root / "dangling.png").symlink_to(root / "none.png")
    os.mkfifo(root / "pipe.png")
    (root / "sibling").mkdir()
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "a.png").write_bytes(png)
    pictures = Pictures(roots=[root], rendering="as_seen", limits=ImageLimits())
    assert pictures.read(str(root / "in.png")) == png
    assert pictures.read(str(root / "inner.png")) == png
    started = time.monotonic()
    for uri in (
        outside / "out.png",
        root / "link.png",
        root / "folder" / "out.png",
        root / ".." / "outside" / "out.png",
        root / "dangling.png",
        root / "pipe.png",
        root / "sibling",
        root,
        tmp_path / "root2" / "a.png",
        "/dev/zero",
        "/proc/self/environ",
        "http://127.0.0.1/a.png",
        f"file://{root}/in.png",
        "data:image/png;base64,iVBORw0KGgo=",
        f"{root}/in.png\0",
        "",
    ):
        with pytest.raises(RequestError):
            pictures.read(str(uri))
    assert time.monotonic() - started < 20


def test_devices_and_pipes_are_not_read_where_every_folder_is_allowed(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    pictures = Pictures(roots=None, rendering="as_seen", limits=ImageLimits())
    for uri in (tmp_path / "pipe.png", "/dev/zero", "/dev/stdin", tmp_path):
        with pytest.raises(RequestError):
            pictures.read(str(uri))


def test_damaged_and_huge_pictures_are_no_pictures(tmp_path):
    png = encoded(PICTURE, "PNG")
    bomb = Image.new("1", (30_000, 30_000))
    bomb.save(tmp_path / "bomb.png")
    (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "page.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    (tmp_path / "empty.png").touch()
    (tmp_path / "large.png").write_bytes(png + b"\0" * 5000)
    pictures = Pictures(
        roots=[tmp_path], rendering="as_seen", limits=ImageLimits(max_bytes=len(png) + 4000, max_pixels=2**26)
    )
    for name in ("bomb.png", "cut.png", "page.svg", "empty.png", "large.png"):
        with pytest.raises(RequestError):
            pictures.jpeg(str(tmp_path / name), None, side=400)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_upright_and_its_size_is_that_of_the_upright_picture(tmp_path, orientation):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "secret place"
    Image.effect_noise((90, 60), 30).convert("RGB").save(path, exif=exif)
    pictures = Pictures(roots=[tmp_path], rendering="as_seen", limits=ImageLimits())
    expected = (60, 90) if orientation > 4 else (90, 60)
    assert pictures.size(str(path), None) == expected
    content = pictures.jpeg(str(path), None, side=400)
    assert b"secret place" not in content
    with Image.open(BytesIO(content)) as shown_picture:
        assert shown_picture.size == expected


def test_a_large_progressive_photo_has_a_thumbnail(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.effect_noise((3000, 2000), 30).convert("RGB").save(path, progressive=True)
    pictures = Pictures(roots=[tmp_path], rendering="as_seen", limits=ImageLimits())
    with Image.open(BytesIO(pictures.jpeg(str(path), None, side=400))) as thumbnail:
        assert thumbnail.size == (400, 267)


def test_what_a_record_says_about_its_files_is_not_shown_beyond_the_allowed_folder(model, tmp_path):
    store = InMemoryStore(CONFIG)
    vector = np.eye(128, dtype=np.float32)[0]
    path = str(tmp_path / "private" / "a.png")
    metadata = {"path": path, "folder": str(tmp_path / "private"), "modified_ns": 1, "year": 2020}
    store.upsert([Record(record_id=path, modality="image", embedding=vector, uri=path, metadata=metadata)])
    app = create_page_app(Shown(store=store, config=CONFIG, name="p"), lambda: model, limits=ServerLimits())
    with TestClient(app, base_url="http://localhost") as page:
        wait_until(lambda: page.get("/ui/info").json()["ready"])
        answers = page.get("/ui/info").text + page.post("/ui/search", json={"text": "a"}).text
    assert "private" not in answers
    assert '"name":"a.png"' in answers
    assert '"metadata":{"year":2020}' in answers
