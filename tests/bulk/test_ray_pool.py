"""The workers that a cluster has room for, and the options of the engine, without Ray."""

import logging
import os

import pytest

from jclip_connectors.bulk import EmbedJob
from jclip_connectors.bulk.ray_pool import check_options, host_and_port, plan_pool
from jclip_connectors.bulk.ray_token import arrange_token
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError

CPUS = {"CPU": 8.0, "memory": 1e9}
GPUS = {"CPU": 16.0, "GPU": 4.0}


def plan(*nodes, count=100, workers=None, gpus=None, grows=False, **options):
    job = EmbedJob(config=EmbeddingConfig(model="nano"), out="out", **options)
    return plan_pool(nodes, job, count, workers=workers, gpus=gpus, grows=grows)


def test_without_gpus_each_cpu_has_a_worker_of_one_thread():
    pool = plan(CPUS, CPUS)
    assert (pool.fewest, pool.most, pool.cpus, pool.gpus) == (16, 16, 1, 0)
    assert (pool.job.device, pool.job.threads) == ("cpu", 1)


def test_with_gpus_each_gpu_has_a_worker_and_no_worker_runs_on_cpus():
    pool = plan(CPUS, GPUS)
    assert (pool.fewest, pool.most, pool.cpus, pool.gpus) == (4, 4, 4, 1)
    assert (pool.job.device, pool.job.threads) == ("cuda", 4)


def test_workers_may_share_a_gpu_and_take_more_threads():
    assert plan(GPUS, gpus=0.5).most == 8
    assert plan(GPUS, gpus=0, threads=4).most == 4
    assert plan(GPUS, device="cpu").job.device == "cpu"
    assert plan(GPUS, runtime="onnx").gpus == 0
    with pytest.raises(EmbedInputError, match="leave one of them out"):
        plan(GPUS, gpus=1, device="cpu")


def test_an_endpoint_needs_no_device():
    pool = plan(GPUS, endpoint="http://localhost:8080/v1")
    assert (pool.job.device, pool.gpus) == (None, 0)


def test_there_are_no_more_workers_than_shards_or_room(caplog):
    assert plan(CPUS, count=3).most == 3
    with caplog.at_level(logging.WARNING):
        pool = plan(CPUS, workers=(20, 40))
    assert (pool.fewest, pool.most) == (8, 8)
    assert "there is room for 8 workers at the moment, not for 20" in caplog.text


def test_a_cluster_may_get_the_machines_that_are_asked_for():
    pool = plan(CPUS, workers=(2, 40), grows=True)
    assert (pool.fewest, pool.most) == (2, 40)
    assert plan(CPUS, workers=2, gpus=1, grows=True).job.device == "cuda"


def test_where_no_worker_has_room_it_is_said_at_once():
    with pytest.raises(EmbedInputError, match="no machine has room for a worker, which needs 1 CPUs and 1 GPUs"):
        plan(CPUS, workers=2, gpus=1)
    with pytest.raises(EmbedInputError, match="needs 9 CPUs"):
        plan(CPUS, threads=9, grows=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "ray://head:10001"}, "use HOST:PORT of the head"),
        ({"address": "head"}, "use HOST:PORT of the head"),
        ({"address": ":6379"}, "use HOST:PORT of the head"),
        ({"address": "head:6379", "loopback": True}, "`loopback` is for a Ray that is started here"),
        ({"workers": 0}, "`workers` is 0"),
        ({"workers": (4, 2)}, "`workers` is 4:2"),
        ({"gpus": 2}, "`gpus_per_worker` is 2"),
        ({"gpus": -1}, "`gpus_per_worker` is -1"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_ray_is_started(options, message):
    with pytest.raises(EmbedInputError, match=message):
        check_options(**{"address": None, "workers": None, "gpus": None, "loopback": False, **options})


def test_addresses_of_all_kinds_are_read():
    assert host_and_port("10.0.0.1:6379") == ("10.0.0.1", 6379)
    assert host_and_port("[::1]:6379") == ("::1", 6379)
    check_options("auto", None, None, loopback=False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is set back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_token_is_made_once_and_its_owner_alone_can_read_it(home):
    arrange_token(joins=False)
    token = home / ".ray" / "auth_token"
    made = token.read_text()
    assert len(made) == 64
    assert [path.stat().st_mode & 0o077 for path in (token, token.parent)] == [0, 0]
    assert os.environ["RAY_AUTH_MODE"] == "token"
    token.chmod(0o644)  # as Ray makes it
    arrange_token(joins=True)
    assert token.read_text() == made
    assert token.stat().st_mode & 0o077 == 0


def test_who_joins_sends_a_token_if_there_is_one(home, monkeypatch):
    arrange_token(joins=True)
    assert "RAY_AUTH_MODE" not in os.environ
    assert not list(home.iterdir())
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    arrange_token(joins=True)
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_the_mode_that_the_user_has_set_is_kept(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    arrange_token(joins=False)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert not list(home.iterdir())
