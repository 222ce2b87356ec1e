"""Count the AV1 frames that the first picture of an AVIF file needs, before the decoder starts.

dav1d decodes every frame in the data, also hidden ones, at any size that the data declares, and a frame that repeats
the previous frame takes only 50 bytes. Pillow decodes all the data in one call that cannot be stopped.
"""

import struct
from collections.abc import Iterator
from io import BytesIO

from core_encoder.decode_limits import TooCostlyError

_FRAMES = 8  # times `max_pixels`; the picture, its alpha and each preview are one frame each
_UNITS = 2**16  # AV1 units; a picture has about three
_LIST_BYTES = 2**16  # libavif's time grows with the square of a list's length; a grid of 1,000 cells fits
_EXTENTS = 2**12
_REUSED_BYTES = 4  # times the size of the file
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME, _REDUNDANT_FRAME_HEADER = 1, 3, 6, 7  # Source: AV1, section 6.2.2
_NO_PICTURES = (b"Exif", b"mime")


def check_avif(data: bytes, max_pixels: int) -> None:
    """Refuse AV1 frames of far more pixels than an image may have, and lists that libavif would be slow to read.

    Raises:
        TooCostlyError: the file is over a limit, or its structure is damaged.
    """
    num_bytes = frames = units = most_pixels = 0
    try:
        for payload in payloads(data):
            num_bytes += len(payload)
            if num_bytes > _REUSED_BYTES * max(len(data), 2**20):
                raise TooCostlyError("has AVIF items that share their bytes too often; save it again")
            for kind, body in _units(payload):
                units += 1
                if kind == _SEQUENCE_HEADER:
                    most_pixels = max(most_pixels, _sequence_pixels(bytes(body[:512])))
                frames += kind in (_FRAME_HEADER, _FRAME, _REDUNDANT_FRAME_HEADER)
                if units > _UNITS:
                    raise TooCostlyError(f"has over {_UNITS} AV1 units in its first frame; save it again")
    except (struct.error, IndexError) as error:
        raise TooCostlyError("has a damaged AVIF structure; save it again") from error
    if frames * most_pixels > _FRAMES * max_pixels:
        raise TooCostlyError(
            f"has {frames} AV1 frames of up to {most_pixels} pixels, over {_FRAMES} times `max_pixels` "
            f"{max_pixels}; save it again as a single picture"
        )


def payloads(data: bytes) -> Iterator[memoryview]:
    """Yield the bytes of every item, and of the first sample of every track."""
    whole = memoryview(data)
    for kind, body in boxes(whole):
        if kind == b"meta":
            yield from items(whole, body)
        elif kind == b"moov":
            for track in (body for kind, body in boxes(body) if kind == b"trak"):
                yield from _first_samples(whole, track)
        elif kind == b"mini":
            raise TooCostlyError("has AVIF's short header, which cannot be checked; save it again")


def items(whole: memoryview, meta: memoryview) -> Iterator[memoryview]:
    """Yield the bytes of every item that may be a picture."""
    found = inside(meta[4:], b"iprp")
    for kind, body in found:
        if kind not in (b"idat", b"iprp", b"ipco") and len(body) > _LIST_BYTES:
            raise TooCostlyError(
                f"has a list {kind!r} of {len(body)} bytes, over {_LIST_BYTES}; save it again in fewer parts"
            )
    near = only(found, b"idat")
    skipped = _ids_without_picture(only(found, b"iinf"))
    for item_id, extents in _extents(only(found, b"iloc")):
        parts = [(near if is_near else whole)[start:end] for is_near, start, end in extents]
        if sum(map(len, parts)) > len(whole):
            raise TooCostlyError("has an item that is larger than the file; save it again")
        if item_id not in skipped:
            yield parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _extents(iloc: memoryview) -> Iterator[tuple[int, list[tuple[bool, int, int | None]]]]:
    """Yield each item's id and extents: (is in `idat`, start, end). Source: ISO/IEC 14496-12, 8.11.3."""
    if not iloc:
        return
    stream = BytesIO(iloc)

    def number(num_bytes: int) -> int:
        read = stream.read(num_bytes)
        if len(read) < num_bytes:
            raise IndexError
        return int.from_bytes(read)

    version = number(4) >> 24
    offset_bytes, length_bytes = divmod(number(1), 16)
    base_bytes, index_bytes = divmod(number(1), 16)
    id_bytes = 2 if version < 2 else 4
    left = _EXTENTS
    for _ in range(number(id_bytes)):
        item_id = number(id_bytes)
        is_near = bool(version) and number(2) & 15 == 1
        number(2)  # which file holds the data: always this one
        base = number(base_bytes)
        num_extents = number(2)
        left -= num_extents
        if left < 0:
            raise TooCostlyError(f"has over {_EXTENTS} extents; save it again in fewer parts")
        extents = []
        for _ in range(num_extents):
            number(index_bytes if version else 0)
            start = base + number(offset_bytes)
            length = number(length_bytes)
            extents.append((is_near, start, start + length if length else None))
        yield item_id, extents


def _ids_without_picture(iinf: memoryview) -> set[int]:
    """Find the items that hold EXIF or XMP: their text can look like AV1. Source: ISO/IEC 14496-12, 8.11.6."""
    without: set[int] = set()
    others: set[int] = set()
    if iinf:
        for kind, body in boxes(iinf[6 if iinf[0] == 0 else 8 :]):
            if kind == b"infe":
                item_id, _, item_type = struct.unpack_from(">HH4s" if body[0] < 3 else ">IH4s", body, 4)
                (without if item_type in _NO_PICTURES else others).add(item_id)
    return without - others


def _first_samples(whole: memoryview, track: memoryview) -> Iterator[memoryview]:
    """Yield the bytes of a track's items, and of its first sample. Source: ISO/IEC 14496-12, 8.7.3 and 8.7.5."""
    found = inside(track, b"mdia", b"minf", b"stbl")
    for kind, body in found:
        if kind == b"meta":
            yield from items(whole, body)
    sizes, offsets, long_offsets = (only(found, kind) for kind in (b"stsz", b"stco", b"co64"))
    if offsets and long_offsets:
        raise TooCostlyError("has two lists of one kind; save it again")
    if sizes and (offsets or long_offsets):
        size = int.from_bytes(sizes[4:8]) or int.from_bytes(sizes[12:16])
        start = int.from_bytes(offsets[8:12] if offsets else long_offsets[8:16])
        yield whole[start : start + size]


def boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and body of each box, up to the first damaged box: libavif stops there too."""
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= len(data):
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        end = start + size if size else len(data)
        if end < start + head or end > len(data):
            return
        yield kind, data[start + head : end]
        start = end


def inside(data: memoryview, *opened: bytes) -> list[tuple[bytes, memoryview]]:
    """List the boxes and, at any depth, the boxes inside those of the `opened` types."""
    found = []
    waiting = [data]
    while waiting:
        for kind, body in boxes(waiting.pop()):
            found.append((kind, body))
            if kind in opened:
                waiting.append(body)
    return found


def only(found: list[tuple[bytes, memoryview]], wanted: bytes) -> memoryview:
    """Return the only box of a type, or an empty view; two are refused, because libavif might use either."""
    bodies = [body for kind, body in found if kind == wanted]
    if len(bodies) > 1:
        raise TooCostlyError("has two lists of one kind; save it again")
    return bodies[0] if bodies else memoryview(b"")


def _units(payload: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield type and body of each unit, up to the first damaged unit. Source: AV1, sections 5.3 and 4.10.5."""
    start = 0
    while start < len(payload):
        header = payload[start]
        start += 2 if header & 4 else 1
        end = len(payload)
        if header & 2:
            size = 0
            for shift in range(0, 56, 7):
                if start >= len(payload):
                    return
                byte = payload[start]
                start += 1
                size |= (byte & 127) << shift
                if byte < 128:
                    break
            end = start + size
        if header & 128 or end > len(payload):
            return
        yield header >> 3 & 15, payload[start:end]
        start = end


def _sequence_pixels(header: bytes) -> int:
    """Read the largest width times height that frames may have. Source: AV1, section 5.5.1."""
    bits = f"{int.from_bytes(header):0{8 * len(header)}b}"
    place = 0

    def number(num_bits: int) -> int:
        nonlocal place
        place += num_bits
        return int(bits[place - num_bits : place] or "0", 2)

    number(4)  # profile, still picture
    if number(1):  # the short header of a still picture
        number(5)
    else:
        delay_bits = 0
        if number(1):  # timing
            number(64)
            if number(1):
                number(2 * bits.find("1", place) - 2 * place + 1)  # as many more bits as there are zeros
            if number(1):  # decoder model
                delay_bits = number(5) + 1
                number(42)
        has_delay = number(1)
        for _ in range(number(5) + 1):  # operating points
            number(12)
            if number(5) > 7:
                number(1)
            if delay_bits and number(1):
                number(2 * delay_bits + 1)
            if has_delay and number(1):
                number(4)
    width_bits, height_bits = number(4) + 1, number(4) + 1
    return (number(width_bits) + 1) * (number(height_bits) + 1)
