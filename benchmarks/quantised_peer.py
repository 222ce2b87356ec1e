"""B2: ONNX Runtime's own `quantize_dynamic` of our float32 graphs, per channel, with 7-bit weights."""

import shutil
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.ours import keep_graphs_apart
from core_encoder.config import read_config, read_json
from core_encoder.exported import TOWERS
from core_encoder.image_preprocess import PreprocessConfig
from core_encoder.onnx.conversion import converted
from core_encoder.onnx.runtime import OnnxRuntime


def quantised_peer(folder: Path, *, threads: int) -> OnnxRuntime:
    """Both towers of a checkpoint as ONNX Runtime quantises them.

    Args:
        folder: of the checkpoint.
        threads: of one call.
    """
    keep_graphs_apart()
    config = read_config(folder)
    graphs = converted(folder, config, "fp32")
    place = graphs.with_name(f"{graphs.name}-quantize-dynamic")
    if not place.exists():
        unfinished = place.with_name(f"{place.name}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for name in TOWERS.values():
            quantize_dynamic(
                graphs / name,
                unfinished / name,
                op_types_to_quantize=["MatMul", "Gather"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        unfinished.rename(place)
    preprocessing = PreprocessConfig.from_json(read_json(folder / "preprocessor_config.json"))
    return OnnxRuntime(place, config, preprocessing, precision="int8", threads=threads)
