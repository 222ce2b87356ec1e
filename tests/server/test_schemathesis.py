"""What schemathesis makes up from the OpenAPI file: good and bad requests; the server answers all, and lives."""

import copy

import numpy as np
import pytest
import schemathesis
from hypothesis import settings

from tests.profiles import examples
from tests.server.harness import DATA_URI, PNG_BASE64
from tests.server.openapi_check import SPEC


def narrowed():
    """Say of the file's requests what it leaves unsaid, so that all that are made up from it can be answered."""
    spec = copy.deepcopy(SPEC)
    schemas = spec["components"]["schemas"]
    body = spec["paths"]["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    del spec["paths"]["/v1/embeddings"]["post"]["security"]  # keys are tried in test_refusals
    schemas["ClipV1Request"]["properties"]["model"]["const"] = "nano"
    body["discriminator"]["mapping"] = {
        "nano": "#/components/schemas/ClipV1Request",
        "jina-clip-v2": "#/components/schemas/ClipV2Request",
    }
    schemas["ImageDoc"]["properties"]["image"]["enum"] = [PNG_BASE64, DATA_URI]  # no URL, and no other string
    for name in ("ClipV1Request", "ClipV2Request", "TextDoc", "ImageDoc"):
        schemas[name]["additionalProperties"] = False  # the server knows some that the file does not, and leaves others
    schemas["ClipV2Request"]["properties"]["dimensions"]["anyOf"][0] |= {"maximum": 128, "multipleOf": 8}
    for name in ("ClipV1Request", "ClipV2Request"):
        del schemas[name]["example"]  # has a URL; it is sent in test_openapi
        for field in ("input", "embedding_type"):
            next(each for each in schemas[name]["properties"][field]["anyOf"] if "items" in each)["minItems"] = 1
        schemas[name]["properties"]["input"]["anyOf"].remove({"$ref": "#/components/schemas/PDFDoc"})
    return spec


SCHEMA = schemathesis.openapi.from_dict(narrowed())

# Of what schemathesis counts as bad, what is good here: any number of dimensions where nothing is packed into bits,
# JSON under another name, which is what `curl -d` calls a form, and more fields.
GOOD_HERE = ("Non-multiple of", "multipleOf", "Content-Type", "unexpected properties", "additionalProperties")


@pytest.fixture(scope="module", autouse=True)
def _the_server_lives_and_computes_as_before(server):
    before = server.vectors(["a star", DATA_URI])
    yield
    np.testing.assert_array_equal(server.vectors(["a star", DATA_URI]), before)


@pytest.mark.hypothesis
@SCHEMA.parametrize()
@settings(max_examples=examples(200), derandomize=True, database=None, deadline=None)
def test_good_requests_are_answered_and_bad_ones_refused(case, server):
    answer = case.call(base_url=server.url)
    server.check_answers()
    assert answer.status_code < 500
    if case.path != "/v1/embeddings":
        return
    if case.meta.generation.mode.is_positive:
        assert answer.status_code == 200, answer.text
    elif not any(words in case.meta.phase.data.description for words in GOOD_HERE):
        assert answer.status_code >= 400, case.meta.phase.data.description
