"""A result as a card of HTML: its picture with the nearest tile outlined, or its text; its rank, score and name.

File names and texts may come from untrusted sources: they are all escaped.
"""

import base64
import functools
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Protocol

from PIL import Image

from core_encoder.errors import ImageDecodeError
from core_encoder.image_input import read_image
from core_encoder.image_limits import DEFAULT_LIMITS, ImageLimits
from core_encoder.rendering import Rendering
from core_encoder.tiling import Box
from jclip_connectors.port import Record, SearchHit

_SIDE_PX = 200  # of a picture on the page
_DENSITY = 2  # pixels of a thumbnail per pixel of the page
_TEXT_CHARS = 400  # shown of a found text


class ShowPicture(Protocol):
    """Makes the HTML of a picture: of `picture`, with all but these arguments given."""

    def __call__(self, path: Path, description: str, *, box: Box | None = None) -> str:
        """The HTML of the picture at `path`, with `box` outlined."""


def card(rank: int, hit: SearchHit, show: ShowPicture, *, mark: str = "") -> str:
    """The list item of a result.

    Args:
        rank: 1 for the first result.
        hit: the result.
        show: makes the HTML of its picture.
        mark: HTML to stand behind the score.
    """
    name = location(hit)
    if hit.uri is not None:
        shown = show(Path(hit.uri), f"Result {rank}: {Path(name).name}", box=hit.box)
    else:
        content = hit.content if hit.content is not None else ""
        more = "…" if len(content) > _TEXT_CHARS else ""
        shown = f"<blockquote>{escaped(content[:_TEXT_CHARS])}{more}</blockquote>"
    return (
        f'<li><div class="shown">{shown}</div>'
        f'<p class="line"><b>{rank}</b> <span class="score">{hit.score:.4f}</span>{mark}</p>'
        f'<p class="name" title="{escaped(name)}">{escaped(Path(name).name)}</p></li>'
    )


def location(found: SearchHit | Record) -> str:
    """Where a record is, for people: the address of its picture, the path of its file, or its id."""
    return found.uri if found.uri is not None else str(found.metadata.get("path", found.record_id))


def picture(path: Path, description: str, *, rendering: Rendering, limits: ImageLimits, box: Box | None = None) -> str:
    """The HTML of a picture, which is in it, with `box` outlined; one that cannot be read becomes a placeholder."""
    try:
        loaded = read_image(path, index=0, rendering=rendering, limits=limits)
    except ImageDecodeError:
        return '<div class="missing">this picture cannot be read any more</div>'
    image = loaded.image
    width, height = loaded.full_size
    scale = _SIDE_PX / max(width, height)
    shown_width, shown_height = max(1, round(width * scale)), max(1, round(height * scale))
    image.thumbnail((_SIDE_PX * _DENSITY, _SIDE_PX * _DENSITY))
    outline = ""
    if box is not None and box != (0, 0, width, height):
        description += f"; nearest is the tile from {box.left}, {box.top} to {box.right}, {box.bottom}"
        outline = (
            f'<i style="left:{_percent(box.left, width)};top:{_percent(box.top, height)};'
            f'width:{_percent(box.right - box.left, width)};height:{_percent(box.bottom - box.top, height)}"></i>'
        )
    return (
        f'<div class="picture"><img src="{_data_uri(image)}" width="{shown_width}" height="{shown_height}" '
        f'alt="{escaped(description)}">{outline}</div>'
    )


def cards_in_notebook(hits: Sequence[SearchHit], *, more: int, rendering: Rendering) -> str:
    """The cards of results with their styles, for a notebook, and how many more there are."""
    show = functools.partial(picture, rendering=rendering, limits=DEFAULT_LIMITS)
    cards = "\n".join(card(rank, hit, show) for rank, hit in enumerate(hits, start=1))
    if not cards:
        return "<p>Nothing was found.</p>"
    rest = f"<p>and {more} more</p>" if more else ""
    return f'<div class="jclip-hits">\n<style>{_NOTEBOOK_STYLE}</style>\n<ol class="hits">\n{cards}\n</ol>{rest}</div>'


def _data_uri(image: Image.Image) -> str:
    encoded = BytesIO()
    image.save(encoded, "JPEG", quality=88, subsampling=0)  # thin coloured lines survive without subsampling
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%"


def escaped(text: str) -> str:
    """Text for a page: escaped; characters that HTML forbids are shown by pictures of them or backslash escapes."""
    return escape(text.encode("utf-8", "backslashreplace").decode().translate(_FORBIDDEN), quote=True)


# Source: the HTML standard, "Preprocessing the input stream": controls but for white space, and noncharacters.
_CONTROL_PICTURES = 0x2400  # of U+0000..U+001F, in order
_FORBIDDEN = {
    **{code: chr(_CONTROL_PICTURES + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    **{code: f"\\u{code:04x}" for code in range(0xFDD0, 0xFDF0)},
    **{plane + code: f"\\U{plane + code:08x}" for plane in range(0, 0x110000, 0x10000) for code in (0xFFFE, 0xFFFF)},
}

# A notebook has colours of its own, light or dark: the cards have none but for lines, in a grey that is seen on both.
_NOTEBOOK_STYLE = """
.jclip-hits .hits { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); }
.jclip-hits li { margin: 0; padding: .6rem; min-width: 0; border: 1px solid #8886; border-radius: .6rem; }
.jclip-hits .shown { min-height: 200px; display: grid; place-items: center; }
.jclip-hits .picture { position: relative; line-height: 0; }
.jclip-hits .picture img { max-width: 100%; height: auto; margin: 0; }
.jclip-hits .picture i { position: absolute; outline: 3px solid #e5006d; box-shadow: 0 0 0 4px #fff8; }
.jclip-hits blockquote { margin: 0; padding: .25rem .75rem; max-height: 200px; overflow: hidden; white-space: pre-wrap;
  overflow-wrap: anywhere; border-left: 3px solid #8886; align-self: stretch; justify-self: stretch; }
.jclip-hits .missing { opacity: .7; text-align: center; }
.jclip-hits .line { margin: .6rem 0 0; display: flex; gap: .6rem; }
.jclip-hits .score, .jclip-hits .name { opacity: .7; font-variant-numeric: tabular-nums; }
.jclip-hits .name { margin: 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
"""
