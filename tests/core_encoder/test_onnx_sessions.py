"""How the runtime on ONNX Runtime opens its towers."""

import numpy as np
import onnxruntime
import pytest

from core_encoder import ConfigError, JinaClipEncoder
from core_encoder.onnx.runtime import OnnxRuntime

TEXTS = ["a red circle", "ein grüner Stern unten rechts", "", "红色的圆形"]


@pytest.fixture
def opened(monkeypatch):
    """What was opened, and whether the weights were copied."""
    found = []
    open_session = OnnxRuntime._open

    def note(self, path, *, copied):
        found.append((path.name, copied))
        return open_session(self, path, copied=copied)

    monkeypatch.setattr(OnnxRuntime, "_open", note)
    return found


def test_one_question_in_int8_copies_no_weights_and_later_ones_get_the_same_vectors(opened):
    encoder = JinaClipEncoder.load("nano", runtime="onnx", precision="int8")
    assert opened == []
    first = encoder.encode_text(TEXTS)
    assert opened == [("text.onnx", False)]
    for _ in range(2):
        np.testing.assert_array_equal(encoder.encode_text(TEXTS), first)
    assert opened == [("text.onnx", False), ("text.onnx", True)]
    picture = np.zeros((80, 90, 3), np.uint8)
    np.testing.assert_array_equal(encoder.encode_image([picture]), encoder.encode_image([picture]))
    assert opened[2:] == [("image.onnx", False), ("image.onnx", True)]


def test_a_tower_in_fp32_is_opened_once(opened):
    encoder = JinaClipEncoder.load("nano", runtime="onnx", precision="fp32")
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), encoder.encode_text(TEXTS))
    assert opened == [("text.onnx", True)]


def test_a_provider_that_onnx_runtime_does_not_take_is_an_error_and_no_silent_change(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    encoder = JinaClipEncoder.load("nano", providers=["CUDAExecutionProvider"])
    opened = onnxruntime.InferenceSession

    def open_on_the_cpu(path, options, **_):
        return opened(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_on_the_cpu)
    with pytest.raises(ConfigError, match="ONNX Runtime took 'CPUExecutionProvider'"):
        encoder.encode_text(["a"])
