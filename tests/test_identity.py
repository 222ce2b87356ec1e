"""Ids: one id is one UUID in every process."""

import subprocess
import sys
import uuid

from hypothesis import given
from hypothesis import strategies as st

from jclip_connectors.port import record_uuid


def test_an_id_has_the_same_uuid_in_every_process():
    here = record_uuid("ü/🚲")
    code = "from jclip_connectors.port import record_uuid; print(record_uuid('ü/🚲'))"
    command = [sys.executable, "-X", "utf8", "-c", code]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 (our own code)
    assert uuid.UUID(there.strip()) == here == uuid.UUID("23798a44-f393-5441-827d-c1dccc8483d9")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, min_size=2, max_size=2))
def test_two_ids_have_two_uuids(pair):
    assert record_uuid(pair[0]) != record_uuid(pair[1])
