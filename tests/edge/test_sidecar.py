"""The file beside a local collection, where somebody has been at it."""

import pytest

from jclip_connectors.edge.sidecar import SIDECAR_NAME, read_sidecar
from jclip_connectors.errors import StoreRequestError


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_sidecar_that_is_nested_too_deeply_is_refused_with_what_to_do(tmp_path, opening):
    (tmp_path / SIDECAR_NAME).write_text(opening * 200_000)
    with pytest.raises(StoreRequestError, match="nested too deeply; restore it, or delete"):
        read_sidecar(tmp_path)
