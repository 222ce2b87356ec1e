"""A contact sheet: search results as one HTML file without other files, with the nearest tiles outlined.

File names and texts may come from untrusted sources: they are all escaped, and a content security policy allows only
the pictures and styles in the page, no script and no request.
"""

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core_encoder.image_limits import DEFAULT_LIMITS, ImageLimits
from core_encoder.rendering import Rendering
from jclip_connectors.collection.cards import ShowPicture, card, escaped, picture
from jclip_connectors.port import SearchHit
from jclip_connectors.store_kit.files import replace_file


@dataclass(frozen=True, kw_only=True)
class Section:
    """One query and its results.

    Attributes:
        heading: the query.
        hits: the results, nearest first.
        query_image: the picture that was searched for; `None` for a text.
        right_ids: the records that answer the query, if known; they are marked.
    """

    heading: str
    hits: Sequence[SearchHit]
    query_image: Path | None = None
    right_ids: Collection[str] = ()

    @property
    def right_first(self) -> bool:
        """Whether the first result is a right one."""
        return bool(self.hits) and self.hits[0].record_id in self.right_ids


def write_contact_sheet(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    *,
    rendering: Rendering = "as_seen",
    limits: ImageLimits = DEFAULT_LIMITS,
) -> None:
    """Write search results as a page; a picture that can no longer be read becomes a placeholder.

    Args:
        path: the HTML file; an existing one is replaced.
        title: of the page.
        sections: the queries.
        rendering: how pictures were read when they were embedded; the page shows them so.
        limits: on pictures; over them, a picture becomes a placeholder.

    Raises:
        OSError: the file cannot be written.
    """
    show = functools.partial(picture, rendering=rendering, limits=limits)
    body = "\n".join(_section(section, show) for section in sections)
    replace_file(Path(path), _PAGE.format(title=escaped(title), style=_STYLE, body=body).encode())


def _section(section: Section, show: ShowPicture) -> str:
    parts = [f"<section>\n<h2>{escaped(section.heading)}</h2>"]
    if section.query_image is not None:
        query = show(section.query_image, f"The query: {section.query_image.name}")
        parts.append(f'<figure class="query">{query}<figcaption>the query</figcaption></figure>')
    if section.hits:
        cards = "\n".join(_cards(section, show))
        parts.append(f'<ol class="hits">\n{cards}\n</ol>')
    else:
        parts.append('<p class="nothing">Nothing was found.</p>')
    return "\n".join([*parts, "</section>"])


def _cards(section: Section, show: ShowPicture) -> Iterator[str]:
    for rank, hit in enumerate(section.hits, start=1):
        mark = ' <span class="right">✓ right</span>' if hit.record_id in section.right_ids else ""
        yield card(rank, hit, show, mark=mark)


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --quiet: #5b6570; --page: #f6f7f9; --card: #fff; --line: #d8dde3;
  --mark: #e5006d; --right: #0a7a38; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebef; --quiet: #9aa5b1; --page: #14171a; --card: #1e2328;
  --line: #343b43; --mark: #ff5ca8; --right: #4ccb7f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 86rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; overflow-wrap: anywhere; white-space: pre-wrap; }
.hits { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
.hits li { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .6rem; min-width: 0; }
.shown { min-height: 200px; display: grid; place-items: center; }
.picture { position: relative; line-height: 0; }
.picture img { max-width: 100%; height: auto; border-radius: .2rem; }
.picture i { position: absolute; outline: 3px solid var(--mark); box-shadow: 0 0 0 4px #fff8; }
.query { margin: 0 0 1rem; width: fit-content; }
figcaption, .name, .nothing { color: var(--quiet); }
blockquote { margin: 0; padding: .25rem .75rem; max-height: 200px; overflow: hidden; white-space: pre-wrap;
  overflow-wrap: anywhere; border-left: 3px solid var(--line); align-self: stretch; justify-self: stretch; }
.missing { display: grid; place-items: center; width: 100%; height: 200px; padding: 1rem; text-align: center;
  color: var(--quiet); border: 1px dashed var(--line); border-radius: .2rem; }
.line { margin: .6rem 0 0; display: flex; gap: .6rem; align-items: baseline; }
.score { font-variant-numeric: tabular-nums; color: var(--quiet); }
.right { color: var(--right); font-weight: 600; margin-left: auto; }
.name { margin: 0; font-size: .85rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
