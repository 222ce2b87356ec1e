"""The runtime on ONNX Runtime: graphs of both towers, built from a checkpoint without torch."""
