"""Sources for tests: pictures in tar files, Parquet files and folders, some of them broken."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(number, side=24):
    """The bytes of a PNG that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


BAD = {"truncated": picture(0)[:60], "no picture": b"plain words", "empty": b""}


def write_tar(path, samples):
    """A tar file of webdataset: samples are (stem, {suffix: bytes})."""
    with tarfile.open(path, "w") as archive:
        for stem, parts in samples:
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{stem}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def pictures_tar(path, count, *, start=0):
    """A tar file of good pictures with captions and notes."""
    return write_tar(
        path,
        [
            (
                f"{at:05}",
                {
                    "png": picture(at),
                    "txt": f"caption {at}".encode(),
                    "json": json.dumps({"number": at, "width": 24}).encode(),
                },
            )
            for at in range(start, start + count)
        ],
    )


def pictures_parquet(path, images, *, row_group_size=None, **columns):
    """A Parquet file with the column "image" of bytes."""
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), **columns}), path, row_group_size=row_group_size)
    return path
