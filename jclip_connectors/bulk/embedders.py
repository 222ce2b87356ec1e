"""What makes the vectors of a job, opened in the process that needs it."""

import os
import sys

from core_encoder.models import RuntimeChoice
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import Embedder
from jclip_connectors.store_kit.keys import read_key

KEY_VARIABLE = "ENDPOINT_API_KEY"


def open_embedder(
    config: EmbeddingConfig,
    *,
    device: str | None = None,
    threads: int | None = None,
    runtime: RuntimeChoice = "auto",
    endpoint: str | None = None,
) -> Embedder:
    """Load the model, or connect to an endpoint.

    Args:
        config: the configuration of the vectors.
        device: where the model runs; `None` uses CUDA if it is available.
        threads: of this process, also for what else it does with OpenMP; `None` leaves that to the runtime.
        runtime: what runs the model.
        endpoint: the URL of an endpoint that embeds, without `/embeddings`; `None` runs the model here. Its key is read
            from the variable ENDPOINT_API_KEY.

    Raises:
        MissingDependencyError: a package that is needed is not installed.
        ConfigError: the model does not have an option, or the endpoint cannot be asked for it.
        CheckpointError: the weights are absent or damaged.
    """
    if endpoint is not None:
        from jclip_connectors.remote.embedder import RemoteEmbedder  # imported here: a model needs none of it

        return RemoteEmbedder(config, base_url=endpoint, api_key=read_key(os.environ, KEY_VARIABLE))
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read by ONNX Runtime and by torch when they are loaded
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
    from jclip_connectors.local import LocalEmbedder

    return LocalEmbedder(config, device=device, runtime=runtime)
