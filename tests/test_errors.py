"""The error tree: its bases, its fields, and what a partial failure tells."""

from core_encoder.errors import JinaClipError
from jclip_connectors.errors import (
    CollectionMismatchError,
    ConnectorError,
    EmbedInputError,
    MissingDependencyError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)


def test_every_error_of_this_package_has_one_base_and_the_right_builtin_kin():
    failures = {1: ValueError("first"), 7: EmbedInputError("second")}
    errors: list[Exception] = [
        MissingDependencyError("torch", extra="local"),
        EmbedInputError("x"),
        CollectionMismatchError({}, {"a": 1}, collection="c"),
        StoreUnavailableError("x"),
        StoreRequestError("x"),
        PartialFailureError("images", failed=failures, kept={0: None}),
    ]
    assert all(isinstance(error, ConnectorError) and not isinstance(error, JinaClipError) for error in errors)
    assert isinstance(errors[0], ImportError)
    assert isinstance(errors[1], ValueError)
    assert StoreUnavailableError("x", retry_after_s=2.5).retry_after_s == 2.5
    assert StoreUnavailableError("x").retry_after_s is None


def test_a_partial_failure_names_the_first_items_and_keeps_all():
    failed = {position: ValueError(f"reason {position}") for position in range(3, 10)}
    error = PartialFailureError("images", failed=failed, kept={0: "a"})
    assert str(error).startswith("7 of 8 images failed: 3: reason 3; 4: reason 4;")
    assert str(error).endswith("7: reason 7; and 2 more")
    assert error.failed == failed
    assert error.kept == {0: "a"}
