"""The error of an `upsert` that wrote some records: which failed, why, and when to come back."""

import numpy as np

from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from jclip_connectors.port import Record
from jclip_connectors.store_kit.failures import partial


def test_every_position_of_a_failed_id_has_its_reason_and_the_time_to_come_back():
    records = [Record(record_id=record_id, modality="image", embedding=np.ones(2, np.float32)) for record_id in "abac"]
    refused, busy = StoreRequestError("too large"), StoreUnavailableError("busy", retry_after_s=7.0)
    error = partial(records, {"a": busy, "c": refused})
    assert error.kept == {1: None}
    assert {position: (type(reason), str(reason)) for position, reason in error.failed.items()} == {
        0: (StoreUnavailableError, "the record 'a' is not written: busy"),
        2: (StoreUnavailableError, "the record 'a' is not written: busy"),
        3: (StoreRequestError, "the record 'c' is not written: too large"),
    }
    first = error.failed[0]
    assert isinstance(first, StoreUnavailableError)
    assert first.retry_after_s == 7.0
