"""A process that is forked from one with a loaded model gets vectors or one sentence, and never waits without end."""

import os

import numpy as np
import pytest

from core_encoder.errors import ConfigError
from core_encoder.forks import check_process
from tests.forked import run_program
from tests.remote.jina_server import JinaServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the operating system has no fork")

IN_A_CHILD = """
import os, signal, sys, threading, time, traceback

def in_a_child(do, meanwhile=lambda: None):
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)  # a wait without end is an error; a slow machine is none
        try:
            do()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    meanwhile()
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the forked process ended with status {status}"
"""
ENCODER = """
import io
import numpy as np
from PIL import Image
from core_encoder import JinaClipEncoder

encoder = JinaClipEncoder.load("nano", device="cpu", runtime=sys.argv[1])
texts = ["a red circle"] * 40 + ["a long text about shapes " * 60]
file = io.BytesIO()
Image.effect_noise((300, 500), 40).convert("RGB").save(file, "WEBP")
images = [file.getvalue()] * 3

def vectors():
    tiles = encoder.encode_image_tiles(images)
    return np.concatenate([encoder.encode_text(texts), encoder.encode_image(images), tiles[0].vectors])

expected = vectors()

def check():
    np.testing.assert_allclose(vectors(), expected, rtol=0, atol=1e-5)
"""
EDGE = """
from jclip_connectors import MultimodalCollection
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.errors import StoreRequestError
from jclip_connectors.testing import HashEmbedder

embedder = HashEmbedder()
store = QdrantEdgeStore.open(sys.argv[1], embedder.config)
collection = MultimodalCollection(embedder, store)
collection.add_texts(["a", "b"])

def check():
    uses = [lambda: collection.search("a"), store.count, lambda: collection.add_texts(["c"]), lambda: [*store.scroll()]]
    for use in uses:
        try:
            use()
        except StoreRequestError as error:
            assert "before this process was forked" in str(error), error
        else:
            raise AssertionError("the forked process used the store")
    store.close()

in_a_child(check)
assert store.count() == 2
assert collection.search("a")[0].content == "a"
store.close()

def open_again():
    with QdrantEdgeStore.open(sys.argv[1], embedder.config) as own:
        assert own.count() == 2

in_a_child(open_again)
"""
REMOTE = """
import httpx
import numpy as np
from jclip_connectors import EmbeddingConfig
from jclip_connectors.errors import StoreRequestError
from jclip_connectors.remote import RemoteEmbedder

config = EmbeddingConfig()
embedder = RemoteEmbedder(config, base_url=sys.argv[1])
expected = embedder.embed_texts(["a", "b"])

def check():
    np.testing.assert_array_equal(embedder.embed_texts(["a", "b"]), expected)

def close():
    embedder.close()

in_a_child(check)
in_a_child(lambda: in_a_child(check))
in_a_child(close)
check()
embedder.close()

client = httpx.Client()
given = RemoteEmbedder(config, base_url=sys.argv[1], client=client)
given.embed_texts(["a"])

def is_refused():
    try:
        given.embed_texts(["a"])
    except StoreRequestError as error:
        assert "`client`" in str(error) and "forked" in str(error), error
    else:
        raise AssertionError("the forked process used the client of its parent")

in_a_child(is_refused)
given.close()
client.close()
"""


def run(*parts, arguments=(), **environment):
    code, stdout, stderr = run_program(
        "-c", "\n".join((IN_A_CHILD, *parts)), *arguments, environment={**os.environ, **environment}
    )
    assert code == 0, stdout + stderr


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_forked_process_and_a_process_forked_from_it_get_the_same_vectors(runtime):
    program = "in_a_child(check)\nin_a_child(lambda: in_a_child(check))\ncheck()"
    run(ENCODER, program, arguments=[runtime], TOKENIZERS_PARALLELISM="true")


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_process_that_is_forked_while_other_threads_encode_gets_vectors(runtime):
    busy = """
stop, going = threading.Event(), threading.Event()
def encode():
    while going.wait() and not stop.is_set():
        vectors()
threads = [threading.Thread(target=encode, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for seconds in (0.01, 0.1, 0.3):
    going.set()
    time.sleep(seconds)
    in_a_child(check, meanwhile=going.clear)  # the forked process has the processors for itself
stop.set()
going.set()
for thread in threads:
    thread.join()
"""
    run(ENCODER, busy, arguments=[runtime])


def test_a_lock_that_another_thread_holds_at_the_fork_is_open_in_the_forked_process():
    code = "from core_encoder import forks\nlock = forks.ForkSafeLock()\n"
    program = """
held, leave = threading.Event(), threading.Event()
def hold():
    with lock:
        held.set()
        leave.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
def take():
    with lock:
        pass
in_a_child(take)
leave.set()
thread.join()
with lock:
    in_a_child(take)
"""
    run(code, program)


def test_a_model_on_a_gpu_is_refused_in_a_forked_process():
    check_process(os.getpid(), "cuda")
    check_process(os.getpid() + 1, "cpu")
    with pytest.raises(ConfigError, match=r"'cuda' .* before this process was forked.*'spawn'"):
        check_process(os.getpid() + 1, "cuda")


def test_an_embedded_store_that_was_opened_before_the_fork_is_refused_in_one_sentence(tmp_path):
    run(EDGE, arguments=[tmp_path / "collection"])


def test_a_remote_embedder_has_connections_of_its_own_in_a_forked_process():
    with JinaServer(lambda _kind, value, _request: np.full(1024, 1 + len(value))) as server:
        run(REMOTE, arguments=[server.url])


DROPPED = """
import gc
from core_encoder import JinaClipEncoder

encoder = JinaClipEncoder.load("nano", runtime="onnx", threads=4)
before = encoder.encode_text(["a"])

def drop():
    global encoder
    assert (encoder.encode_text(["a"]) == before).all()
    del encoder
    gc.collect()

in_a_child(drop)
"""


def test_a_forked_process_may_drop_an_encoder_that_its_parent_used():
    run(DROPPED)
