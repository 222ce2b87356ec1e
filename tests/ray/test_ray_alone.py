"""`jclip embed --engine ray` without a cluster: Ray is started for the job, and keeps to itself."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.bulk.sources import pictures_tar
from tests.ray.cluster import Cluster, listening_addresses, processes_of, rows_of, waited_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test builds the environment
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
KEY = "a-key-that-nobody-may-see"
COMMAND = "from jclip_connectors.cli.main import main; main()"


def test_ray_is_started_on_loopback_with_a_private_token_and_no_telemetry_and_sees_no_key(tmp_path):
    for at in range(4):
        pictures_tar(tmp_path / f"{at}.tar", 400, start=at * 400)
    with Cluster(tmp_path, fenced=False, AWS_SECRET_ACCESS_KEY=KEY) as cluster:
        with (tmp_path / "log").open("w") as log:
            # Relative paths are those of the command, wherever the workers are.
            arguments = ["embed", "{0..3}.tar", "out", "--images", "png", "--model", "nano", "--batch-size", 8]
            options = ["--engine", "ray", "--workers", "1:2", "--loopback", "--progress-json"]
            command = [cluster.python, "-c", COMMAND, *arguments, *options]
            process = cluster.start(*command, stdout=subprocess.PIPE, stderr=log, text=True)
        out = tmp_path / "out"
        waited_for(lambda: list(out.glob(".tmp/*.at")), process=process)
        processes = processes_of(process.pid)
        listening = listening_addresses(processes)
        environs = [
            Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            for pid in processes
            if Path(f"/proc/{pid}/comm").read_text().strip() in ("gcs_server", "raylet")  # workers hide theirs
        ]
        printed, _ = process.communicate(timeout=200)
        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert json.loads(printed.splitlines()[-1])["shards"] == 4
        assert len(rows_of(out)) == 1600

        assert len(environs) == 2
        assert all(b"RAY_USAGE_STATS_ENABLED=0" in environ for environ in environs)
        assert len(listening) >= 4  # the head, the node, its agent, and workers
        assert {address for address, _ in listening} <= LOOPBACK
        token = tmp_path / ".ray" / "auth_token"
        assert token.stat().st_mode & 0o077 == 0
        written = [path for folder in (cluster.temporary, out) for path in folder.rglob("*") if path.is_file()]
        assert len(written) > 10
        for secret in (KEY, token.read_text()):
            assert not [path for path in written if secret.encode() in path.read_bytes()]
