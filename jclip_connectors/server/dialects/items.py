"""Reading one item in all dialects: a text or an image. What is marked as an image is never read as a text.

An image is marked by the field that it is in, by `modality`, `input_type` or a media type, by a data URI, or by base64
that begins as an image's file does. The `text` of an object is a text whatever it holds, because its field says so.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from jclip_connectors.server.requests import ImageItem, Item, RequestError, Served, TextItem, UrlItem, item_error

Mark: TypeAlias = Literal["text", "image"] | None
"""What a request says about an item, apart from the item itself."""

ALLOWED_ITEM = "a string, {'text': ...} or {'image': base64 or data URI}"

_SEND_FILE = "send the image's file as base64 or as a data URI"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WEB_URL = re.compile(r"https?://", re.IGNORECASE)
_DATA = re.compile(r"data\s*:", re.IGNORECASE)
# In front of a data URI or base64, a careless client may leave white space, a byte order mark or quotation marks.
_MAYBE_DATA = re.compile(r"\s*+[\W_]{0,16}data\s*:", re.IGNORECASE)
_BINARY_TYPE = re.compile(r"(?:image|video|audio|application|binary|font|model)/[a-z0-9.+*-]*+(?:[;,]|$)")
# The first bytes of image files, written in base64, also after a data URI's head that is misspelt; Python's `str` of
# bytes puts b' in front.
_BASE64_OF_AN_IMAGE = re.compile(
    r"""\s*+[^\w+/-]{0,16}(?:[^<>()\[\]{}]{0,100}[,:]\s*)?"""
    r"""(?:b["'])?(?=[A-Za-z0-9+/_=-]{32})"""
    r"(?:iVBORw0KGgo"  # PNG
    r"|[/_]9j[/_]"  # JPEG
    r"|R0lGOD[dl]h"  # GIF
    r"|UklGR.{7}RUJQ"  # WebP
    r"|SUk[qr]A|TU0AK"  # TIFF
    r"|Qk.{6}AAAA"  # BMP
    r"|AAAA..Z0eX"  # AVIF, HEIC
    r"|AAAADEpYTCA|[/_]wo"  # JPEG XL
    r"|AAAADGpQICA)"  # JPEG 2000
)
# The same bytes in a string of bytes, in one whose bytes were lost in decoding, and in hexadecimal digits.
_BYTES_OF_AN_IMAGE = re.compile(
    r"[\x89\ufffd\u2030]PNG\r?\n|\xff\xd8\xff|\ufffd{3,4}\0\x10JFIF|GIF8[79]a[^\0]{0,8}\0|RIFF.{4}WEBPVP8"
    r"|(?:0x)?(?i:89504e470d0a1a0a|ffd8ff[c-f][0-9a-f])[0-9a-f]{16}",
    re.DOTALL,
)
_IMAGE_TYPE = re.compile(r"(?:input_)?images?(?:_?(?:url|base64|bytes))?|image/.*", re.DOTALL)
_TYPE_FIELDS = ("type", "modality", "input_type", "mime_type", "mimeType", "media_type", "content_type", "contentType")
_IMAGE_FIELDS = ("image", "bytes", "url", "image_url", "image_base64", "image_bytes")  # of objects that are one item
_IMAGE_OBJECT = ("url", "bytes", "base64", "data", "bytesBase64Encoded")  # of objects in the place of an image
_OTHER_FIELDS = ("images", "image_urls", "input_image", "pdf", "audio", "audio_url", "video", "video_url")
_REQUEST_FIELDS = ("image", "images", "image_url", "image_urls")
_MARKS: Mapping[str, Mark] = {"text": "text", "image": "image"}


def read_marks(raw: Mapping[str, object], count: int) -> Sequence[Mark]:
    """Read what `modality` and `input_type` say about each of `count` items; other values of `input_type` say nothing.

    Raises:
        RequestError: `modality` is neither "text" nor "image", nor a list of as many of them as there are items.
    """
    if _says_image(raw.get("input_type")):
        return ["image"] * count
    value = raw.get("modality")
    if value is None:
        return [None] * count
    values = value if isinstance(value, list) else [value] * count
    if len(values) != count:
        raise RequestError(
            f"`modality` has {len(values)} values for {count} items: send one for each", field="modality"
        )
    marks = [_MARKS.get(each.strip().lower()) if isinstance(each, str) else None for each in values]
    if None in marks:
        raise RequestError("`modality` must be 'text' or 'image', or a list with one for each item", field="modality")
    return marks


def check_no_images(raw: Mapping[str, object], name: str, known: Iterable[str] = ()) -> None:
    """Refuse images in a field of the request that the route does not have, because they would be left out.

    Args:
        raw: the request.
        name: the field in which this route takes images.
        known: fields that the route has.

    Raises:
        RequestError: such a field holds something.
    """
    for field in _REQUEST_FIELDS:
        if field not in known and raw.get(field):
            raise RequestError(f"`{field}` is not a field of this route: send images in `{name}`", field=field)


def check_texts(texts: Sequence[object], raw: Mapping[str, object], name: str) -> None:
    """Refuse texts if the request says that it holds images.

    Raises:
        RequestError: it says so.
    """
    if texts and "image" in read_marks(raw, len(texts)):
        raise RequestError(f"the request says that it holds images, and `{name}` holds texts: send images", field=name)


def refuse_token_ids(values: Sequence[object], name: str) -> None:
    """Refuse items that are all token ids, or lists of token ids, which some clients send for a model of theirs.

    Raises:
        RequestError: they are.
    """
    lists = [each if isinstance(each, list) else [each] for each in values]
    if all(each and all(isinstance(one, int) and not isinstance(one, bool) for one in each) for each in lists):
        raise RequestError(
            f"`{name}` holds token ids, which mean nothing to this model: send the text (LangChain's "
            "`OpenAIEmbeddings` does with `check_embedding_ctx_length=False`)",
            status=400,
            field=name,
        )


def any_items(values: Sequence[object], raw: Mapping[str, object], served: Served) -> list[Item]:
    """Read items in any form that clients send; `raw` is what may say whether they are images, as for `read_marks`."""
    return [
        any_item(value, i, served, mark)
        for i, (value, mark) in enumerate(zip(values, read_marks(raw, len(values)), strict=True))
    ]


def any_item(value: object, index: int, served: Served, mark: Mark = None) -> Item:
    """Read one item in any form that clients send, or return its error."""
    if isinstance(value, str):
        return string_item(value, index, served, mark)
    if isinstance(value, dict):
        return object_item(value, index, served, mark)
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return item_error(index, "is a list of strings: put its strings into the list of items itself")
    return item_error(index, f"is {kind(value)}: send {ALLOWED_ITEM}")


def string_item(value: str, index: int, served: Served, mark: Mark = None) -> Item:
    """Read a bare string: a text, or an image if it is marked as one, because some clients send images so."""
    if mark == "image":
        return image_item(value, index, served)
    if not is_marked(value):
        return text_item(value, index, served)
    if mark == "text":
        return item_error(index, "is an image in a data URI or in base64, and `modality` says 'text': send 'image'")
    return image_item(value, index, served)


def object_item(value: Mapping[str, object], index: int, served: Served, mark: Mark = None) -> Item:
    """Read an object that holds one text or one image, also as a part of a message; or return its error."""
    if not value:
        return item_error(index, f"is an empty object: send {ALLOWED_ITEM}; an empty text is {{'text': ''}}")
    parts = value.get("content")
    if isinstance(parts, list):
        if len(parts) == 1 and isinstance(parts[0], dict) and "content" not in parts[0]:
            return object_item(parts[0], index, served, mark)
        return item_error(index, f"has {len(parts)} parts: this model embeds one text or one image: send one part")
    given = [name for name in ("text", "image") if value.get(name) is not None] + other_content(value)
    if len(given) != 1:
        what = f"has {' and '.join(f'`{name}`' for name in given)}" if given else "has neither `text` nor `image`"
        return item_error(index, f"{what}: send {ALLOWED_ITEM}")
    content = value[given[0]]
    if given[0] in _OTHER_FIELDS:
        return item_error(index, f"has `{given[0]}`, which is not read here: send {ALLOWED_ITEM}")
    if given[0] != "text":
        if mark == "text":
            return item_error(index, f"has `{given[0]}`, and `modality` says 'text': send 'image'")
        return image_item(content, index, served)
    if mark == "image" or says_image(value):
        return item_error(index, "is marked as an image, and has only `text`: send {'image': base64 or data URI}")
    if not isinstance(content, str):
        return item_error(index, f"has `text` that is {kind(content)}: send a string")
    return text_item(content, index, served)


def other_content(value: Mapping[str, object]) -> list[str]:
    """Name the fields of an object, beside `text` and `image`, that hold an image or what no model here reads."""
    images = [name for name in _IMAGE_FIELDS if name != "image" and value.get(name) is not None]
    return images + [name for name in _OTHER_FIELDS if value.get(name)]


def says_image(value: Mapping[str, object]) -> bool:
    """Whether an object says by its type, modality or media type that it is an image."""
    return any(_says_image(value.get(name)) for name in _TYPE_FIELDS)


def is_marked(text: str) -> bool:
    """Whether a string is marked as an image: a data URI that is no text, or an image's file in base64 or as it is."""
    if _BASE64_OF_AN_IMAGE.match(text) or _BYTES_OF_AN_IMAGE.match(text):
        return True
    start = _MAYBE_DATA.match(text)
    if start is None:
        return False
    comma = text.find(",", start.end())
    header = text[start.end() : None if comma < 0 else comma].lower()
    if _BINARY_TYPE.match(header):
        return True
    media_type, *parameters = "".join(header.split()).split(";")
    # A text may begin with "data:" too: without a media type, "base64" is a word of it.
    has_type = media_type in ("", "base64") or "/" in media_type or "%2f" in media_type
    named = [media_type, *parameters] if parameters else []  # "base64" stands there alone, or in the wrong place
    return has_type and any(each.startswith("base64") for each in named)


def plain_text_item(value: object, index: int, served: Served) -> Item:
    """Read a text in a list of texts, or return its error; an image belongs into another list."""
    if isinstance(value, str) and is_marked(value):
        return item_error(index, "is an image in a data URI or in base64, in the place of a text: send it as an image")
    return text_item(value, index, served)


def text_item(value: object, index: int, served: Served) -> Item:
    """Read a text, or return its error."""
    if not isinstance(value, str):
        return item_error(index, f"is {kind(value)}: send a string")
    allowed, chars = served.limits.max_text_chars, num_chars(value)
    if chars > allowed:
        return item_error(
            index,
            f"has {chars} characters, {allowed} are allowed: send parts of it",
            code="INPUT_TOKEN_LIMIT_EXCEEDED",
        )
    return TextItem(value)


def image_item(value: object, index: int, served: Served) -> Item:
    """Read base64, a data URI or a URL, or return the image's error; a file name is an error."""
    if isinstance(value, dict):
        given = [name for name in _IMAGE_OBJECT if value.get(name) is not None]
        if len(given) != 1:
            names = ", ".join(f"`{name}`" for name in _IMAGE_OBJECT)
            return item_error(index, f"is an image whose object must have one of {names}: {_SEND_FILE}")
        value = value[given[0]]
    if not isinstance(value, str):
        return item_error(index, f"is {kind(value)}: {_SEND_FILE}")
    value = value.strip().lstrip("\ufeff")
    if _URL.match(value[:64]):
        if served.image_urls and _WEB_URL.match(value[:8]):
            return UrlItem(value)
        rule = "fetches only http and https URLs" if served.image_urls else "does not fetch images"
        what = f"is the URL of an image, and this server {rule}: send the image as base64"
        return item_error(index, what, code="INPUT_URL")
    payload = value
    if _DATA.match(value):
        header, comma, payload = value.partition(",")
        if not comma or not "".join(header.lower().split()).endswith(";base64"):
            return item_error(index, "is a data URI without base64: send 'data:image/png;base64,...'")
    return _image_bytes(payload, index, served)


def num_chars(text: str) -> int:
    """The number of characters after the tokenizer's normalisation, which expands one ligature to up to eighteen."""
    return len(text) if text.isascii() else len(unicodedata.normalize("NFKC", text))


def kind(value: object) -> str:
    """Name a JSON type for people; never the value, which may be private."""
    return "null" if value is None else _NAMES[type(value)]


def _says_image(value: object) -> bool:
    return isinstance(value, str) and _IMAGE_TYPE.fullmatch(value.strip().lower()) is not None


def _image_bytes(payload: str, index: int, served: Served) -> Item:
    payload = "".join(payload.split())
    allowed = served.limits.max_image_bytes
    if len(payload) * 3 // 4 > allowed + 2:  # up to two of them are padding
        return item_error(index, f"is an image of {len(payload) * 3 // 4} bytes, {allowed} are allowed: scale it down")
    if "-" in payload or "_" in payload:  # base64 for URLs
        payload = payload.replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        return item_error(index, f"is not base64: {_SEND_FILE}")
    if not data:
        return item_error(index, f"is an empty image: {_SEND_FILE}")
    return ImageItem(data)


_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "a boolean", list: "a list", dict: "an object"}
