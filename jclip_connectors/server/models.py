"""`GET /v1/models`, with the fields of the hosted API and of OpenAI's API."""

from typing import Any

from jclip_connectors.server.dialects.fields import is_served
from jclip_connectors.server.requests import RequestError
from jclip_connectors.server.service import LoadedModel


def list_models(model: LoadedModel, *, max_tokens: int) -> dict[str, Any]:
    """Describe the one model that is served; `max_tokens` is the longest text that it takes here."""
    return {"object": "list", "data": [_describe(model, max_tokens)]}


def model_info(model: LoadedModel, model_id: str, *, max_tokens: int) -> dict[str, Any]:
    """Describe a model by any of its names.

    Raises:
        RequestError: 404, the model is not served here.
    """
    if not is_served(model_id, model.names):
        raise RequestError(
            f"this model is not served here: use {' or '.join(map(repr, model.names))}",
            status=404,
            code="RESOURCE_NOT_FOUND",
        )
    return _describe(model, max_tokens)


def _describe(model: LoadedModel, max_tokens: int) -> dict[str, Any]:
    free = ("prompt", "completion", "image", "request", "input_cache_read", "input_cache_write")
    return {
        "id": model.names[0],
        "object": "model",
        "owned_by": "local",
        "hugging_face_id": model.hub_id,
        "name": model.names[0],
        "created": 0,
        "description": "Embeds texts and images into one space.",
        "input_modalities": ["text", "image"],
        "output_modalities": ["embeddings"],
        "quantization": "",
        "context_length": max_tokens,
        "max_output_length": model.encoder.embedding_dim,
        "pricing": dict.fromkeys(free, "0"),
        "supported_sampling_parameters": [],
        "supported_features": [],
        "datacenters": [],
    }
