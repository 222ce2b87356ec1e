"""Count the HEVC frames that the picture of a HEIC file needs, before the decoder starts.

libde265 decodes every frame in the data of an item, at any size that the data declares, and a grid may show one item
many times. libheif decodes all of that in one call that cannot be stopped.
"""

import struct
from collections import deque
from collections.abc import Iterator

from core_encoder.avif_frames import boxes, inside, items, only
from core_encoder.decode_limits import TooCostlyError

_FRAMES = 8  # times `max_pixels`; the cells of a grid have about as many pixels as the picture
_VISITS = 2**16  # cells of all grids
_UNITS = 2**16
_REUSED_BYTES = 4  # times the size of the file
_PICTURE_TYPES, _SEQUENCE_SET = 32, 33  # types below the first are parts of pictures. Source: H.265, table 7-1
_FIRST_SLICE = 0x80
_LARGEST_SEQUENCE_SET = 4096


def check_heif(data: bytes, max_pixels: int) -> None:
    """Refuse HEVC frames of far more pixels than an image may have.

    Raises:
        TooCostlyError: the file is over a limit, or its structure is damaged.
    """
    whole = memoryview(data)
    try:
        meta = only(list(boxes(whole)), b"meta")
        found = inside(meta[4:], b"iprp", b"ipco")
        _check_names(only(found, b"iinf"))
        configurations = [body for kind, body in found if kind == b"hvcC"]
        length_bytes = {(body[21] & 3) + 1 for body in configurations}
        if len(length_bytes) > 1:
            raise TooCostlyError("has HEVC items with lengths of different sizes; save it again")
        most_pixels = max(
            (_sequence_pixels(each) for body in configurations for each in _sequence_sets(body)), default=0
        )
        num_bytes = units = most_frames = 0
        for payload in items(whole, meta):
            num_bytes += len(payload)
            if num_bytes > _REUSED_BYTES * max(len(data), 2**20):
                raise TooCostlyError("has HEIF items that share their bytes too often; save it again")
            frames = 0
            for unit in _units(payload, min(length_bytes, default=4)):
                units += 1
                if units > _UNITS:
                    raise TooCostlyError(f"has over {_UNITS} HEVC units; save it again")
                kind = unit[0] >> 1 & 63
                frames += kind < _PICTURE_TYPES and bool(unit[2] & _FIRST_SLICE)
                if kind == _SEQUENCE_SET:
                    most_pixels = max(most_pixels, _sequence_pixels(unit))
            most_frames = max(most_frames, frames)
        cells = _cells(found)
    except (struct.error, IndexError) as error:
        raise TooCostlyError("has a damaged HEIF structure; save it again") from error
    if cells * most_frames * most_pixels > _FRAMES * max_pixels:
        raise TooCostlyError(
            f"has {cells} HEVC pictures with {most_frames} frames of up to {most_pixels} pixels, over {_FRAMES} times "
            f"`max_pixels` {max_pixels}; save it again as a single picture"
        )


def _check_names(iinf: memoryview) -> None:
    """Refuse types and names of items that are no text: pi-heif 1.4 reads memory at a null pointer for them."""
    for kind, body in boxes(iinf[6 if iinf[0] == 0 else 8 :]) if iinf else ():
        if kind == b"infe":
            start = 8 if body[0] < 3 else 10
            try:
                str(body[start:], "utf-8")
            except UnicodeDecodeError as error:
                raise TooCostlyError("has a HEIF item whose name is no text; save it again") from error


def _cells(found: list[tuple[bytes, memoryview]]) -> int:
    """How many coded pictures the primary item is put together from. Source: ISO/IEC 14496-12, 8.11.4 and 8.11.12."""
    primary, references = only(found, b"pitm"), only(found, b"iref")
    if not primary:
        return 1
    wide = bool(references) and references[0] > 0
    id_bytes = 4 if wide else 2
    parts: dict[int, list[int]] = {}
    for kind, body in boxes(references[4:]) if references else ():
        if kind == b"dimg":
            source, count = struct.unpack_from(">IH" if wide else ">HH", body)
            names = body[id_bytes + 2 : id_bytes + 2 + count * id_bytes]
            parts.setdefault(source, []).extend(struct.unpack(f">{count}{'I' if wide else 'H'}", names))
    waiting = deque([int.from_bytes(primary[4 : 6 if primary[0] == 0 else 8])])
    cells = visits = 0
    while waiting:
        inner = parts.get(waiting.popleft())
        visits += 1 if inner is None else len(inner)
        if visits > _VISITS:
            raise TooCostlyError(f"has a HEIF grid of over {_VISITS} cells; save it again")
        if inner is None:
            cells += 1
        else:
            waiting.extend(inner)
    return cells


def _units(payload: memoryview, length_bytes: int) -> Iterator[memoryview]:
    """Yield each unit that has a header, up to the first damaged one. Source: ISO/IEC 14496-15, 4.3.3."""
    start = 0
    while start + length_bytes <= len(payload):
        end = start + length_bytes + int.from_bytes(payload[start : start + length_bytes])
        unit = payload[start + length_bytes : end]
        if end > len(payload) or len(unit) < 3:
            return
        yield unit
        start = end


def _sequence_sets(configuration: memoryview) -> Iterator[memoryview]:
    """Yield the sequence parameter sets in an `hvcC` box. Source: ISO/IEC 14496-15, 8.3.3."""
    start = 23
    for _ in range(configuration[22]):
        kind, count = struct.unpack_from(">BH", configuration, start)
        start += 3
        for _ in range(count):
            (length,) = struct.unpack_from(">H", configuration, start)
            if kind & 63 == _SEQUENCE_SET:
                yield configuration[start + 2 : start + 2 + length]
            start += 2 + length


def _sequence_pixels(unit: memoryview) -> int:
    """Read width times height of the frames. Source: H.265, 7.3.2.2 and 7.3.3."""
    raw = bytes(unit[:_LARGEST_SEQUENCE_SET]).replace(b"\0\0\3", b"\0\0")
    bits = f"{int.from_bytes(raw):0{8 * len(raw)}b}"
    layers = int(bits[20:23], 2)  # behind the header of 16 bits and the id of the video set
    place = 24 + 96  # behind the general profile
    present = [bits[place + 2 * i : place + 2 * i + 2] for i in range(layers)]
    if layers:
        place += 16
    place += sum(88 * (each[0] == "1") + 8 * (each[1] == "1") for each in present)

    def number() -> int:
        nonlocal place
        zeros = bits.index("1", place) - place
        value = int(bits[place + zeros : place + 2 * zeros + 1], 2) - 1
        place += 2 * zeros + 1
        return value

    try:
        number()  # the set's id
        if number() == 3:  # the chroma format
            place += 1
        return number() * number()
    except ValueError as error:
        raise TooCostlyError("has a damaged HEVC parameter set; save it again") from error
