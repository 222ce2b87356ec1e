"""What is marked as an image is embedded as an image or refused, in every dialect: it is never read as a text."""

import base64
import io
import json
import time
import urllib.parse

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jclip_connectors.server.dialects.items import is_marked
from tests.pictures import PICTURE, encoded
from tests.profiles import examples
from tests.server.harness import DATA_URI, PNG, PNG_BASE64
from tests.server.test_refusals import check_refusal

URL_BASE64 = base64.urlsafe_b64encode(PNG).decode()
IN_LINES = "\r\n".join(PNG_BASE64[place : place + 76] for place in range(0, len(PNG_BASE64), 76))
JPEG_BASE64 = base64.b64encode(encoded(PICTURE, "JPEG")).decode()

# Strings that say by themselves that they are images.
EMBEDDED = {
    "a data URI": DATA_URI,
    "the media type of a PDF": f"data:application/pdf;base64,{PNG_BASE64}",
    "the media type of bytes": f"data:application/octet-stream;base64,{PNG_BASE64}",
    "the media type of a text": f"data:text/plain;base64,{PNG_BASE64}",
    "no media type": f"data:;base64,{PNG_BASE64}",
    "a parameter": f"data:image/png;charset=utf-8;name=a.png;base64,{PNG_BASE64}",
    "only a parameter": f"data:;charset=utf-8;base64,{PNG_BASE64}",
    "a space in front": f" {DATA_URI}",
    "many spaces in front": "\n" * 100 + DATA_URI,
    "a mark of byte order in front": f"\ufeff{DATA_URI}",
    "a space behind": f"{DATA_URI}\n",
    "a space after the colon": f"data: image/png;base64,{PNG_BASE64}",
    "a new line after the colon": f"data:\nimage/png;base64,{PNG_BASE64}",
    "a space before the colon": f"data :image/png;base64,{PNG_BASE64}",
    "spaces around the parameter": f"data:image/png ; base64 , {PNG_BASE64}",
    "spaces in another media type": f"data: application/pdf ; base64 ,{PNG_BASE64}",
    "capital letters": f"DATA:IMAGE/PNG;BASE64,{PNG_BASE64}",
    "capital letters in another media type": f"Data:Application/Pdf;Base64,{PNG_BASE64}",
    "a media type in percent-encoding": f"data:image%2Fpng;base64,{PNG_BASE64}",
    "a media type of 100 kB": f"data:application/{'a' * 10**5};base64,{PNG_BASE64}",
    "base64": PNG_BASE64,
    "base64 of a JPEG": JPEG_BASE64,
    "base64 for URLs": URL_BASE64,
    "base64 in lines": IN_LINES,
    "base64 after a space": f"\n {PNG_BASE64}",
}
REFUSED = {
    "a parameter after base64": f"data:image/png;base64;name=a.png,{PNG_BASE64}",
    "base64 in the wrong place": f"data:base64;image/png,{PNG_BASE64}",
    "a space of no width in front": f"\u200b{DATA_URI}",
    "NUL in front": f"\0{DATA_URI}",
    "quotation marks": f'"{DATA_URI}"',
    "a Markdown image": f"![]({DATA_URI})",
    "two images": f"{DATA_URI} {DATA_URI}",
    "percent-encoded bytes": "data:image/png," + urllib.parse.quote(PNG),
    "percent-encoded bytes of another media type": "data:application/octet-stream," + urllib.parse.quote(PNG),
    "an SVG": "data:image/svg+xml;utf8,<svg/>",
    "no comma": f"data:image/png;base64{PNG_BASE64}",
    "no comma in another media type": f"data:application/pdf;base64{PNG_BASE64}",
    "no bytes": "data:image/png;base64,",
    "no image": "data:application/pdf;base64,aGVsbG8=",
    "base64 without its end": PNG_BASE64[:200],
    "base64 without its padding": PNG_BASE64.rstrip("="),
    "base64 as Python prints bytes": f"b'{PNG_BASE64}'",
    "base64 in quotation marks": f'"{PNG_BASE64}"',
    "base64 after its name": f"base64,{PNG_BASE64}",
    "a data URI of a misspelt scheme": f"dta:image/png;base64,{PNG_BASE64}",
    "a data URI of a misspelt encoding": f"data:;bas64,{PNG_BASE64}",
    "a data URI without its semicolon": f"data:applicationpdf base64 , {PNG_BASE64}",
    "a data URI without its scheme": f"//;base64,{JPEG_BASE64}",
    "base64 after a word": f"Image: {PNG_BASE64}",
    "a comma in a misspelt data URI": f"dta:image,png;base64,{PNG_BASE64}",
    "bytes as characters": PNG.decode("latin-1"),
    "bytes of a JPEG as characters": base64.b64decode(JPEG_BASE64).decode("latin-1"),
    "bytes that were decoded as UTF-8": PNG.decode("utf-8", "replace"),
    "bytes of a JPEG that were decoded as UTF-8": base64.b64decode(JPEG_BASE64).decode("utf-8", "replace"),
    "bytes of a GIF as characters": encoded(PICTURE, "GIF").decode("latin-1"),
    "bytes of a WebP as characters": encoded(PICTURE, "WEBP").decode("latin-1"),
    "hexadecimal digits": PNG.hex(),
    "base64 after its media type": f"image/png;base64,{PNG_BASE64}",
}
MARKED = {**EMBEDDED, **REFUSED}

# Strings that are images only if something else says so.
UNMARKED = ["https://example.com/cat.png", "cat.png", "aGVsbG8=", "a red circle", "", "/9j/", PNG_BASE64[40:]]

TEXTS = [
    "data: the new oil",
    "Data:a survey, and what comes after it",
    "data: base64, base32 and base16",
    "data:,hello",
    "data:text/plain,hello",
    "data: text or image; which of them, and why",
    "https://example.com/cat.png",
    "/9j/ is how a JPEG begins in base64, iVBORw0KGgo is how a PNG does",
    "iVBORw0KGgo",
    "R0lGODlh",
    "GIF89a is a format, RIFF and WEBP too; \u2030PNG is not, nor is ffd8ff",
    "GIF89a",
    f'<p>A page <img src="data:image/png;base64,{PNG_BASE64[:300]}"> with a picture</p>',
    f"# A page with a picture\n\nIt is ![](data:image/png;base64,{PNG_BASE64[:300]}).",
    "A list: one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve",
    "Questions about life, the universe and everything: data:x;y,z",
    "Qk",
    "metadata:image/png;base64,AAAA",
    "a" * 300,
    "AAAA" * 100,
]


def hosted(item, **fields):
    return "/v1/embeddings", {"model": "nano", "input": [item], **fields}


def tei(item, **fields):
    return "/embed", {"inputs": [item], **fields}


def vertex(item, **fields):
    return "/predict", {"instances": [item], **fields}


def sagemaker(item, **fields):
    return "/invocations", {"data": [item], **fields}


def azure(item, **fields):
    return "/score", {"input": [item], **fields}


def cohere(item, **fields):
    return "/v2/embed", {"model": "nano", "input_type": "search_document", "texts": [item], **fields}


def weaviate(item, **fields):
    return "/vectorize", {"texts": [item], **fields}


def azure_table(item, **fields):
    return "/score", {"input_data": {"columns": ["text"], "data": [item]}, **fields}


MIXED = [hosted, tei, vertex, sagemaker, azure]  # one list for texts and images
TEXTS_ALONE = [cohere, weaviate, azure_table]


def rows(answer):
    """All vectors of an answer in any dialect."""
    body = answer.json() if isinstance(answer.json(), list) else [answer.json()]
    found = []

    def look(value):
        if isinstance(value, list) and value and all(isinstance(each, int | float) for each in value):
            found.append(value)
        elif isinstance(value, list | dict):
            for each in value if isinstance(value, list) else value.values():
                look(each)

    look(body)
    return np.array(found)


@pytest.fixture(scope="module")
def image_vectors(encoder):
    return encoder.encode_image([PNG, base64.b64decode(JPEG_BASE64)])


def check_image_or_refusal(answer, image_vectors):
    """Say whether the answer is the vector of the image; it fails if it is anything but that or a refusal."""
    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500, answer.text
        assert "item 0" in answer.text or "modality" in answer.text or "image" in answer.text
        return False
    assert np.abs(rows(answer) - image_vectors).max(axis=1).min() <= 1e-6, "the vector of something else"
    return True


@pytest.mark.parametrize("name", MARKED)
def test_a_string_that_is_marked_is_no_text(server, image_vectors, name):
    for dialect in MIXED:
        path, body = dialect(MARKED[name])
        embedded = check_image_or_refusal(server.client.post(path, json=body), image_vectors)
        assert embedded is (name in EMBEDDED), path
    for dialect in TEXTS_ALONE:
        path, body = dialect(MARKED[name])
        answer = server.client.post(path, json=body)
        assert answer.status_code == 400, answer.text
        assert "item 0 is an image" in answer.text


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_only_reminds_of_an_image_is_a_text(server, encoder, text):
    expected = encoder.encode_text([text])
    for dialect in (*MIXED, *TEXTS_ALONE):
        path, body = dialect(text)
        answer = server.client.post(path, json=body)
        assert answer.status_code == 200, (path, answer.text)
        np.testing.assert_allclose(rows(answer), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", MIXED)
def test_the_text_of_an_object_is_a_text_whatever_it_holds(server, encoder, dialect):
    texts = [text[:1000] for text in MARKED.values()]
    for place, expected in enumerate(encoder.encode_text(texts)):
        path, body = dialect({"text": texts[place]})
        answer = server.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(rows(answer)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"modality": "image"},
        {"modality": " IMAGE "},
        {"modality": ["image"]},
        {"input_type": "image"},
        {"input_type": "image_url"},
        {"modality": "images"},
        {"modality": "picture"},
        {"modality": ["image", "image"]},
        {"modality": [["image"]]},
        {"modality": {"type": "image"}},
        {"modality": 5},
        {"modality": ""},
    ],
)
def test_what_the_request_says_is_an_image_is_no_text(server, image_vectors, fields):
    known = (
        fields in ({"modality": "image"}, {"modality": " IMAGE "}, {"modality": ["image"]}) or "input_type" in fields
    )
    for dialect in (*MIXED, *TEXTS_ALONE):
        for text in (*UNMARKED, PNG_BASE64, f" {DATA_URI}"):
            path, body = dialect(text, **fields)
            embedded = check_image_or_refusal(server.client.post(path, json=body), image_vectors)
            assert embedded is (dialect in MIXED and known and text in (PNG_BASE64, f" {DATA_URI}")), (path, text)


@pytest.mark.parametrize("dialect", [vertex, sagemaker])
def test_the_clouds_parameters_may_say_that_items_are_images(server, image_vectors, dialect):
    path, body = dialect("https://example.com/cat.png", parameters={"modality": "image"})
    assert not check_image_or_refusal(server.client.post(path, json=body), image_vectors)


def test_each_item_may_have_a_modality_of_its_own(server, encoder, image_vectors):
    vectors = server.vectors(["a star", PNG_BASE64, "a circle"], modality=["text", "image", "text"])
    np.testing.assert_allclose(vectors[[0, 2]], encoder.encode_text(["a star", "a circle"]), atol=1e-6)
    np.testing.assert_allclose(vectors[1], image_vectors[0], atol=1e-6)


def test_the_modality_of_a_text_leaves_a_text_alone_and_refuses_an_image(server, encoder):
    vectors = server.vectors(["a star", {"text": DATA_URI}], modality="text")
    np.testing.assert_allclose(vectors, encoder.encode_text(["a star", DATA_URI]), atol=1e-6)
    for item in (DATA_URI, PNG_BASE64, {"image": PNG_BASE64}):
        assert "`modality`" in check_refusal(server.post([item], modality="text"))["detail"]


@pytest.mark.parametrize("kind", ["query", "document", "search_document", None, 5])
def test_other_kinds_of_input_say_nothing_about_images(server, kind):
    assert server.post(["a star"], input_type=kind).status_code == 200


IMAGE_OBJECTS = {
    "the hosted API's": {"image": PNG_BASE64},
    "its URL": {"image": {"url": DATA_URI}},
    "its bytes": {"image": {"bytes": PNG_BASE64}},
    "Google's": {"image": {"bytesBase64Encoded": PNG_BASE64, "mimeType": "image/png"}},
    "Anthropic's": {"type": "image", "image": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}},
    "OpenAI's part": {"type": "image_url", "image_url": {"url": DATA_URI, "detail": "auto"}},
    "OpenAI's older part": {"type": "image_url", "image_url": DATA_URI},
    "OpenAI's newer part": {"type": "input_image", "image_url": DATA_URI},
    "Voyage's": {"content": [{"type": "image_base64", "image_base64": DATA_URI}]},
    "Cohere's": {"content": [{"type": "image_url", "image_url": {"url": DATA_URI}}]},
}


@pytest.mark.parametrize("name", IMAGE_OBJECTS)
def test_an_object_that_holds_an_image_gets_its_vector(server, image_vectors, name):
    for dialect in MIXED:
        path, body = dialect(IMAGE_OBJECTS[name])
        assert check_image_or_refusal(server.client.post(path, json=body), image_vectors), path


TEXT_PARTS = [{"type": "text", "text": "a star"}, {"type": "input_text", "text": "a star"}]


@pytest.mark.parametrize(
    "item", [*TEXT_PARTS, {"content": TEXT_PARTS[:1]}, {"role": "user", "content": TEXT_PARTS[:1]}]
)
def test_an_object_that_is_a_part_of_a_message_is_read(server, encoder, item):
    np.testing.assert_allclose(server.vectors([item]), encoder.encode_text(["a star"]), atol=1e-6)


BAD_OBJECTS = [
    {"text": "a star", "modality": "image"},
    {"text": PNG_BASE64, "type": "image"},
    {"text": PNG_BASE64, "type": "image_url"},
    {"text": PNG_BASE64, "type": "input_image"},
    {"text": PNG_BASE64, "mime_type": "image/png"},
    {"text": PNG_BASE64, "mimeType": "IMAGE/PNG"},
    {"text": PNG_BASE64, "content_type": "image/png; charset=binary"},
    {"text": "a star", "image_url": {"url": DATA_URI}},
    {"text": "a star", "image_url": "https://example.com/cat.png"},
    {"text": "a star", "images": [PNG_BASE64]},
    {"text": "a star", "pdf": "JVBERi0="},
    {"text": "a star", "bytes": PNG_BASE64},
    {"type": "image_url", "image_url": {}},
    {"type": "image_url", "image_url": {"url": None}},
    {"type": "image_url", "image_url": {"url": "cat.png"}},
    {"type": "image"},
    {"image": {"url": DATA_URI, "bytes": PNG_BASE64}},
    {"image": {"path": "/etc/passwd"}},
    {"image": [DATA_URI]},
    {"image": {"url": {"url": DATA_URI}}},
    {"images": [DATA_URI]},
    {"content": []},
    {"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": DATA_URI}]},
    {"content": [DATA_URI]},
    {"content": [{"content": [{"type": "text", "text": "a"}]}]},
]


@pytest.mark.parametrize("item", BAD_OBJECTS)
def test_an_object_that_is_marked_as_an_image_and_is_none_is_refused(server, item):
    for dialect in MIXED:
        path, body = dialect(item)
        answer = server.client.post(path, json=body)
        assert 400 <= answer.status_code < 500, answer.text
        assert (answer.json()["error"] if dialect is tei else answer.json()["detail"]).startswith("item 0 ")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "nano", "input": ["a star"], "images": [PNG_BASE64]}),
        ("/v1/embeddings", {"model": "nano", "input": "a star", "image": PNG_BASE64}),
        ("/v1/embeddings", {"model": "nano", "input": "a star", "image_url": {"url": DATA_URI}}),
        ("/embed", {"inputs": "a star", "images": [PNG_BASE64]}),
        ("/predict", {"instances": ["a star"], "images": [PNG_BASE64]}),
        ("/invocations", {"data": ["a star"], "images": [PNG_BASE64]}),
        ("/score", {"input_data": {"columns": ["text"], "data": ["a star"]}, "images": [PNG_BASE64]}),
        ("/score", {"input_data": {"columns": ["text"], "data": ["a star"], "images": [PNG_BASE64]}}),
        ("/vectorize", {"texts": ["a star"], "image": [PNG_BASE64]}),
        ("/v2/embed", {"model": "nano", "input_type": "search_document", "texts": ["a star"], "image": PNG_BASE64}),
    ],
)
def test_images_beside_the_items_are_not_left_out_in_silence(server, path, body):
    answer = server.client.post(path, json=body)
    assert answer.status_code == 422, answer.text
    assert "is not a field of this route: send images in `" in answer.text


def test_cohere_is_told_that_its_images_are_texts(server):
    _, body = cohere("a star", input_type="image")
    answer = server.client.post("/v2/embed", json=body)
    assert (answer.status_code, "says that it holds images" in answer.text) == (422, True)
    body = {**body, "texts": None, "inputs": [{"content": [{"type": "text", "text": "a star"}]}]}
    assert "marked as an image" in server.client.post("/v2/embed", json=body).text


def test_a_bad_image_among_marked_ones_fails_alone_with_partial(server):
    answer = server.post([PNG_BASE64, "https://example.com/a.png", DATA_URI], modality="image", partial=True).json()
    assert [each["index"] for each in answer["data"]] == [0, 2]
    assert [each["code"] for each in answer["errors"]] == ["INPUT_URL"]


def picture_bytes(format_, side):
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, format_)
    return file.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("side", [1, 2, 5, 300])
def test_the_bytes_of_every_format_are_known_in_base64(format_, side):
    assert is_marked(base64.b64encode(picture_bytes(format_, side)).decode())
    assert is_marked(base64.urlsafe_b64encode(picture_bytes(format_, side)).decode())


@pytest.mark.hypothesis
@settings(max_examples=examples(300))
@given(
    st.sampled_from(["", " ", "\n\t ", "\ufeff", "'", '"']),
    st.sampled_from(["data", "DATA", "Data"]),
    st.text(" \t\n", max_size=3),
    st.sampled_from(["", "image/png", "application/octet-stream", "text/html", "Image/JPEG", "../../etc", "a/b"]),
    st.lists(st.sampled_from(["charset=utf-8", "name=a", "x", "base64=no", ""]), max_size=3),
    st.text(" \t\n", max_size=3),
)
def test_no_space_and_no_parameter_hides_a_data_uri(before, scheme, space, media_type, parameters, more_space):
    header = ";".join([f"{space}{media_type}{space}", *parameters, f"{more_space}base64{more_space}"])
    assert is_marked(f"{before}{scheme}{space}:{header},{PNG_BASE64}")


@pytest.mark.hypothesis
@settings(max_examples=examples(300))
@given(st.text(max_size=200).filter(lambda text: "data" not in text.lower()))
def test_a_text_of_no_data_uri_is_not_marked(text):
    assert not is_marked(text)


@pytest.mark.parametrize("text", [" " * 2**18, "a" * 2**18, "data:" * 2**16, "_" * 2**18, "b'" * 2**17, "/9j/" * 2**16])
def test_looking_for_marks_takes_little_time(text):
    started = time.perf_counter()
    is_marked(text)
    assert time.perf_counter() - started < 0.5


def test_the_body_of_a_marked_image_is_never_repeated(server):
    answer = server.client.post("/v1/embeddings", content=json.dumps(hosted("data:image/png;base64,SECRETSECRET")[1]))
    assert "SECRET" not in answer.text
