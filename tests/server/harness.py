"""What the tests of the server share: uvicorn in a thread, a model that can be held, and requests."""

import base64
import contextlib
import socket
import threading
import time

import httpx
import numpy as np
import uvicorn

from core_encoder.errors import CheckpointError
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.app import create_app
from jclip_connectors.server.protocol import LimitedProtocol
from jclip_connectors.server.stopping import StoppingServer
from tests.pictures import PICTURE, encoded
from tests.server.openapi_check import Judged

PNG = encoded(PICTURE, "PNG")
PNG_BASE64 = base64.b64encode(PNG).decode()
DATA_URI = f"data:image/png;base64,{PNG_BASE64}"


class Server:
    """uvicorn on a free port of loopback, from `with` to its end; all it answers is held against the OpenAPI file."""

    def __init__(self, model, *, config=None, **options):
        self.app = create_app(model, config or EmbeddingConfig(model="nano"), **options)
        # Named TCP: only then does asyncio switch off Nagle's algorithm, which costs 40 ms an answer.
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.judged = Judged(self.app)
        self.uvicorn = StoppingServer(
            uvicorn.Config(
                self.judged,
                loop="asyncio",
                http=LimitedProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        self.thread = threading.Thread(target=self.uvicorn.run, kwargs={"sockets": [self.socket]})
        hooks = {"response": [lambda answer: (answer.read(), self.check_answers())]}
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False, event_hooks=hooks)

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.uvicorn.started)
        return self

    def __exit__(self, *_):
        self.client.close()
        self.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.check_answers()

    def check_answers(self):
        problems, self.judged.problems = self.judged.problems, []
        assert not problems, problems

    def stop(self):
        self.uvicorn.should_exit = True

    @property
    def engine(self):
        return self.app.state.service.engine

    def post(self, items, **fields):
        headers = fields.pop("headers", None)
        return self.client.post("/v1/embeddings", json={"model": "nano", "input": items, **fields}, headers=headers)

    def vectors(self, items, **fields):
        answer = self.post(items, **fields)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        assert [each["index"] for each in data] == list(range(len(data)))
        return np.array([each["embedding"] for each in data])


class HeldEncoder:
    """An encoder that computes when it is let, and remembers its batches."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.gate = threading.Event()
        self.batches = []
        self.poison = None
        self.error: Exception = CheckpointError("item 0: the model gave NaN")
        self.delay_s = 0

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_tokens(self, texts, **options):
        self._arrive("text", texts)
        if self.poison in [text.ids for text in texts]:
            raise self.error
        return self._encoder.encode_tokens(texts, **options)

    def encode_image(self, images, **options):
        self._arrive("image", images)
        return self._encoder.encode_image(images, **options)

    def _arrive(self, kind, items):
        self.batches.append((kind, len(items)))
        assert self.gate.wait(30)
        time.sleep(self.delay_s)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@contextlib.contextmanager
def in_background(call, *arguments, count=1):
    """Run calls in threads; the block gets the list that their results go to, and waits for them at its end."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(call(*arguments))) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        for thread in threads:
            thread.join(30)
