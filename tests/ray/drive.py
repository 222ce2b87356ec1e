"""A program that embeds sources on Ray; it prints a line for each shard, and then the report."""

import dataclasses
import json
import sys
from functools import partial

from jclip_connectors.bulk import EmbedJob, embed_shards, find_shards, ray_engine, run_on_ray
from jclip_connectors.config import EmbeddingConfig
from tests.ray.deadly import DeadlyJob


def main(*, sources, out, deadly=False, batch_size=8, device=None, max_failed=0.05, retries=None, **options):
    if retries is not None:
        ray_engine._RETRIES = retries
    job = (DeadlyJob if deadly else EmbedJob)(
        config=EmbeddingConfig(model="nano"), out=out, batch_size=batch_size, device=device
    )
    report = embed_shards(
        find_shards(sources),
        job,
        run=partial(run_on_ray, **options),
        max_failed=max_failed,
        progress=tell_shard,
    )
    tell(**dataclasses.asdict(report))


def tell_shard(now):
    if now.last is not None:
        tell(shard=now.last.shard, worker=now.last.worker)


def tell(**values):
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
