"""A browser for the tests of the search page: Debian's Chromium, driven by Playwright from an environment of its own.

Whatever a page does that it must not do is collected and fails the test: a request to another server, an error in the
console, an exception, a dialog.
"""

import contextlib
import importlib
import os
import shutil
import socket
import sys
import threading
from pathlib import Path

import pytest
import uvicorn

from jclip_connectors.server.protocol import LimitedProtocol
from jclip_connectors.server.stopping import StoppingServer
from tests.environments import environment
from tests.server.harness import wait_until

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_INSTALL = "the tests of the search page need a Chromium: `apt-get install chromium`"


def chromium():
    """The path of the browser; where there is none the test is skipped, and fails in continuous integration."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        if os.environ.get("CI") or ".ci" in Path(sys.prefix).parts:
            pytest.fail(_INSTALL)
        pytest.skip(_INSTALL)
    return found


def playwright():
    """Playwright's module for blocking code."""
    python = environment("browser", Path(__file__).with_name("requirements.txt"))
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    if str(packages) not in sys.path:
        sys.path.append(str(packages))  # behind those of the tests, and built for the same interpreter
    return importlib.import_module("playwright.sync_api")


@contextlib.contextmanager
def served(app):
    """Serve an application on a free port of loopback; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = StoppingServer(
            uvicorn.Config(app, loop="asyncio", http=LimitedProtocol, log_config=None, access_log=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


class Visit:
    """A page in a context of its own, and what it did that it must not do."""

    def __init__(self, browser, url, **options):
        self.url = url
        self.problems = []
        self.expected: tuple[str, ...] = ()  # parts of messages that this test causes
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.route("**/*", self._only_ours)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self._note("error", f"exception: {error}"))
        self.page.on("dialog", self._dialog)

    def open(self, path="/ui"):
        self.page.goto(self.url + path)
        return self.page

    def search(self, text):
        self.page.get_by_role("searchbox").fill(text)
        self.page.keyboard.press("Enter")

    def check(self):
        bad = [problem for problem in self.problems if not any(part in problem for part in self.expected)]
        assert not bad, bad

    def _only_ours(self, route):
        if route.request.url.startswith((f"{self.url}/ui", "blob:", "data:")):
            route.continue_()
        else:
            self.problems.append(f"request: {route.request.url}")
            route.abort()

    def _note(self, kind, text):
        if kind in ("error", "warning"):
            self.problems.append(f"{kind}: {text}")

    def _dialog(self, dialog):
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()


DROP = """([bytes, name, type]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, {type}));
  return transfer;
}"""


def drop(page, content, name, media_type="image/png"):
    """Drop a file on the page."""
    transfer = page.evaluate_handle(DROP, [list(content), name, media_type])
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def paste(page, content, name="image.png", media_type="image/png"):
    """Paste a file into the page."""
    transfer = page.evaluate_handle(DROP, [list(content), name, media_type])
    page.evaluate(
        "(clipboardData) => document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData, bubbles: true}))",
        transfer,
    )
