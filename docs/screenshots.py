"""Make the screenshots of the pages in a headless Chromium: what `jclip demo` prints and shows, and the search page.

python docs/screenshots.py                 # writes docs/pictures/demo-*.png and search-page.png
python docs/screenshots.py site/index.html # any page, light and dark, wide and narrow, into the folder "screenshots"
"""

import html
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote_plus

from PIL import Image

FOLDER = Path(__file__).parent / "pictures"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_WIDEST_PX = 860  # of a picture on a page
_TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1e1e2e; }}
pre {{ margin: 0; padding: 20px 24px; color: #e0e0ee; font: 15px/1.45 monospace; }}
</style><pre><b>$ jclip demo</b>
{output}</pre>"""


def screenshot(page: str, size: tuple[int, int], *, dark: bool = False) -> Image.Image:
    """What a browser shows of a page.

    Raises:
        FileNotFoundError: there is no Chromium.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(
            "no Chromium is installed: `apt-get install chromium` on Debian, or put one on the PATH"
        )
    with TemporaryDirectory() as folder:
        target = Path(folder) / "page.png"
        options = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        command = [browser, *_QUIET, *options, f"--user-data-dir={folder}/profile", f"--screenshot={target}"]
        command += [f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=4000", page]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 (our own)
        if not target.exists():
            raise RuntimeError(f"{browser} has made no screenshot: {done.stderr[-500:]}")
        return Image.open(io.BytesIO(target.read_bytes())).convert("RGB")


def demo() -> None:
    """Run the demo, and write what it prints and its page of results."""
    jclip = Path(sys.executable).with_name("jclip")
    with TemporaryDirectory() as name:
        folder = Path(name)
        command = [str(jclip), "demo", "--folder", str(folder / "jclip-demo")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (our own command)
        last = re.split(r"^(?=\S)", done.stdout, flags=re.MULTILINE)[-1]  # a table begins with its query
        lines = done.stderr.replace(f"{folder}/", "").strip().splitlines()
        output = "...\n" + last.rstrip() + "\n\n" + "\n".join(lines[-2:])
        page = folder / "terminal.html"
        page.write_text(_TERMINAL.format(output=html.escape(output)), encoding="utf-8")
        height = 40 + 22 * (output.count("\n") + 2)
        _save(screenshot(page.as_uri(), (800, height)), "demo-terminal.png")
        sheet = folder / "jclip-demo" / "contact-sheet.html"
        _save(screenshot(sheet.as_uri(), (1180, 770)), "demo-sheet.png")
        (collection,) = (folder / "jclip-demo").glob("*.jclip")
        _save(_search_page(collection, "a small orange ring"), "search-page.png")


def _search_page(collection: Path, query: str) -> Image.Image:
    """What the search page of a collection shows for a query."""
    jclip = Path(sys.executable).with_name("jclip")
    command = [str(jclip), "ui", "--collection", str(collection), "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:  # noqa: S603 (our own command)
        try:
            address = next(line for line in server.stderr or () if line.startswith("http"))
            page, _, token = address.strip().partition("#")
            return screenshot(f"{page}?q={quote_plus(query)}&tab=images#{token}", (1180, 770))
        finally:
            server.terminate()


def looks(page: Path) -> None:
    """Write a page as it is seen, into the folder "screenshots"."""
    target = Path("screenshots")
    target.mkdir(exist_ok=True)
    for label, size, dark in (
        ("light", (1280, 1600), False),
        ("dark", (1280, 1600), True),
        ("narrow", (360, 1600), False),
    ):
        screenshot(page.resolve().as_uri(), size, dark=dark).save(target / f"{page.stem}-{label}.png")


def _save(picture: Image.Image, name: str) -> None:
    picture.thumbnail((_WIDEST_PX, _WIDEST_PX), Image.Resampling.LANCZOS)
    picture.quantize(256, kmeans=4, dither=Image.Dither.NONE).save(FOLDER / name, optimize=True)


def main() -> None:
    """Make the screenshots of the demo, or of the pages that are named."""
    for name in sys.argv[1:]:
        looks(Path(name))
    if not sys.argv[1:]:
        demo()


if __name__ == "__main__":
    main()
