import pytest

from tests.milvus.parts import opened


@pytest.fixture
def path(tmp_path):
    return tmp_path / "milvus.db"


@pytest.fixture
def store(path):
    with opened(path) as store:
        yield store
