"""The threads that read images end with the call: the garbage collector may not wait for a thread."""

import gc
import threading

import pytest

from core_encoder import JinaClipEncoder
from core_encoder.errors import ImageDecodeError
from tests.pictures import PICTURE, encoded

PNG = encoded(PICTURE, "PNG")


@pytest.fixture(scope="module")
def encoder():
    return JinaClipEncoder.load("nano", device="cpu")


@pytest.fixture
def without_garbage_collection():
    gc.disable()
    yield
    gc.enable()


def reading():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("jclip-read")]


@pytest.mark.usefixtures("without_garbage_collection")
@pytest.mark.parametrize("method", ["encode_image", "encode_image_tiles"])
def test_no_thread_is_left_to_the_garbage_collector_after_an_unreadable_image(encoder, method):
    with pytest.raises(ImageDecodeError) as told:
        getattr(encoder, method)([PNG, b"no picture", PNG, PNG])
    assert reading() == []
    assert told.value is not None  # its traceback has the frames


@pytest.mark.usefixtures("without_garbage_collection")
@pytest.mark.parametrize("method", ["encode_image", "encode_image_tiles"])
def test_no_thread_is_left_when_a_caller_stops_a_call(encoder, method):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as told:
        getattr(encoder, method)([PNG] * 4, progress=stop)
    assert reading() == []
    assert told.value is not None
