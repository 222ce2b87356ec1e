"""huggingface_hub: feature extraction from a text-embeddings-inference server, `/embed`."""

# What it imports is in another environment.
# mypy: ignore-errors

from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError


def _client(given):
    return InferenceClient(model=f"{given['url']}/embed", token=given["key"])


def _refused(client, text, **options):
    try:
        client.feature_extraction(text, **options)
    except HfHubHTTPError as error:
        return {"status": error.response.status_code, "message": str(error), "body": error.response.json()}
    raise AssertionError("the request was answered")


def texts(given):
    return _client(given).feature_extraction(given["texts"]).tolist()


async def texts_async(given):
    async with AsyncInferenceClient(model=f"{given['url']}/embed", token=given["key"]) as client:
        return (await client.feature_extraction(given["texts"])).tolist()


def one_text(given):
    return _client(given).feature_extraction(given["texts"][0]).tolist()


def every_option(given):
    return (
        _client(given)
        .feature_extraction(
            given["texts"],
            normalize=False,
            prompt_name="query",
            truncate=True,
            truncation_direction="right",
            dimensions=32,
        )
        .tolist()
    )


def bad_text(given):
    return _refused(_client(given), "star " * 10_000)


def bad_prompt(given):
    return _refused(_client(given), "a star", prompt_name="poem")


def bad_key(given):
    return _refused(_client({**given, "key": "another-key"}), "a star")
