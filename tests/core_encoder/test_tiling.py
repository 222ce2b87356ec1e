import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core_encoder.errors import ConfigError
from core_encoder.pictures import as_image, size_of
from core_encoder.tiling import TOKENS_PER_TILE, Tiling, count_tiles, cut_tiles, image_tokens, tile_boxes, tile_side
from tests.profiles import examples

SIZES = st.sampled_from([64, 72, 224, 512])
SIDES = st.one_of(st.integers(1, 3000), st.integers(1, 10**9))
LIMITS = st.integers(1, 40)


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


# Counts and prices


@pytest.mark.parametrize(
    ("width", "height", "size", "tiles"),
    [
        (512, 512, 512, 1),
        (513, 512, 512, 2),
        (1, 1, 512, 1),
        (720, 720, 512, 4),
        (1080, 1080, 512, 9),
        (224, 224, 224, 1),
        (750, 500, 224, 12),
        (500, 750, 224, 12),
    ],
)
def test_the_published_tile_counts(width, height, size, tiles):
    assert count_tiles(width, height, size=size) == tiles
    assert len(tile_boxes(width, height, size=size, tiling=Tiling(max_tiles=12))) == tiles


@pytest.mark.parametrize(
    ("width", "height", "size", "tokens"),
    [(512, 512, 512, 4000), (720, 720, 512, 16_000), (1080, 1080, 512, 36_000), (750, 500, 224, 12_000)],
)
def test_the_published_prices(width, height, size, tokens):
    assert image_tokens(width, height, size=size) == tokens


def test_a_size_without_a_published_price_is_refused():
    assert set(TOKENS_PER_TILE) == {224, 512}
    with pytest.raises(ConfigError, match="72"):
        image_tokens(100, 100, size=72)


@pytest.mark.parametrize("max_tiles", [0, -1, 1.5, "9", None, True])
def test_a_limit_that_is_no_positive_integer_is_refused(max_tiles):
    with pytest.raises(ConfigError, match="max_tiles"):
        Tiling(max_tiles=max_tiles)


def test_nine_tiles_are_the_default():
    assert Tiling() == Tiling(max_tiles=9)


# Boxes


@settings(deadline=None)
@given(SIDES, SIDES, SIZES, LIMITS)
def test_boxes_lie_inside_have_full_size_and_keep_the_limit(width, height, size, max_tiles):
    tiling = Tiling(max_tiles=max_tiles)
    boxes = tile_boxes(width, height, size=size, tiling=tiling)
    side = tile_side(width, height, size=size, tiling=tiling)
    assert 1 <= len(boxes) <= max_tiles
    assert side >= size
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert right - left == min(side, width)
        assert bottom - top == min(side, height)


@settings(deadline=None)
@given(SIDES, SIDES, SIZES, LIMITS)
def test_boxes_cover_every_pixel(width, height, size, max_tiles):
    boxes = tile_boxes(width, height, size=size, tiling=Tiling(max_tiles=max_tiles))
    columns = sorted({(left, right) for left, _, right, _ in boxes})
    rows = sorted({(top, bottom) for _, top, _, bottom in boxes})
    assert sorted((left, top, right, bottom) for left, right in columns for top, bottom in rows) == sorted(boxes)
    for spans, length in ((columns, width), (rows, height)):
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert start <= end


@settings(deadline=None)
@given(SIDES, SIDES, SIZES, LIMITS)
def test_boxes_are_spread_evenly(width, height, size, max_tiles):
    boxes = tile_boxes(width, height, size=size, tiling=Tiling(max_tiles=max_tiles))
    for axis in (0, 1):
        starts = sorted({box[axis] for box in boxes})
        gaps = [after - before for before, after in itertools.pairwise(starts)]
        assert not gaps or max(gaps) - min(gaps) <= 1


@settings(deadline=None)
@given(SIDES, SIDES, SIZES, LIMITS)
def test_the_side_grows_only_as_far_as_the_limit_asks(width, height, size, max_tiles):
    tiling = Tiling(max_tiles=max_tiles)
    side = tile_side(width, height, size=size, tiling=tiling)
    assert count_tiles(width, height, size=side) == len(tile_boxes(width, height, size=size, tiling=tiling))
    if side > size:
        assert count_tiles(width, height, size=side - 1) > max_tiles
    else:
        assert count_tiles(width, height, size=size) <= max_tiles


@settings(deadline=None)
@given(SIDES, SIDES, SIZES, LIMITS)
def test_the_same_image_has_the_same_boxes_and_its_mirror_the_mirrored(width, height, size, max_tiles):
    tiling = Tiling(max_tiles=max_tiles)
    boxes = tile_boxes(width, height, size=size, tiling=tiling)
    assert boxes == tile_boxes(width, height, size=size, tiling=tiling)
    turned = tile_boxes(height, width, size=size, tiling=tiling)
    assert sorted(boxes) == sorted((top, left, bottom, right) for left, top, right, bottom in turned)


def test_boxes_come_row_by_row():
    boxes = tile_boxes(720, 1080, size=512, tiling=Tiling())
    assert boxes == sorted(boxes, key=lambda box: (box[1], box[0]))
    assert boxes[0] == (0, 0, 512, 512)
    assert boxes[1] == (208, 0, 720, 512)
    assert boxes[-1] == (208, 568, 720, 1080)


@pytest.mark.parametrize("size", [(1, 10**12), (10**12, 1), (10**12, 10**12)])
def test_extreme_sizes_take_no_time(size):
    start = time.thread_time()
    assert len(tile_boxes(*size, size=512, tiling=Tiling(max_tiles=1000))) <= 1000
    assert time.thread_time() - start < 5


# Pictures


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), LIMITS)
def test_tiles_show_what_their_boxes_say(width, height, max_tiles):
    image = noise(width, height)
    tiles, boxes = cut_tiles(image, size=64, tiling=Tiling(max_tiles=max_tiles))
    assert tiles[0] is image
    assert boxes.dtype == np.int64
    assert boxes.shape == (len(tiles), 4)
    assert boxes[0].tolist() == [0, 0, width, height]
    assert len(tiles) - 1 <= max_tiles
    from_array, _ = cut_tiles(np.asarray(image), size=64, tiling=Tiling(max_tiles=max_tiles))
    for tile, other, box in zip(map(as_image, tiles[1:]), from_array[1:], boxes[1:].astype(int).tolist(), strict=True):
        left, top, right, bottom = box
        shown = np.asarray(image)[top:bottom, left:right]
        assert tile.width == tile.height == max(shown.shape[:2])
        left, top = (tile.width - shown.shape[1]) // 2, (tile.height - shown.shape[0]) // 2
        canvas = np.zeros((tile.height, tile.width, 3), np.uint8)
        canvas[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
        np.testing.assert_array_equal(np.asarray(tile), canvas)
        np.testing.assert_array_equal(other, canvas)


@pytest.mark.parametrize("size", [(512, 512), (100, 100), (1, 1)])
def test_a_square_image_of_one_tile_has_the_overview_only(size):
    tiles, boxes = cut_tiles(noise(*size), size=512, tiling=Tiling())
    assert len(tiles) == 1
    assert boxes.tolist() == [[0, 0, *size]]


@pytest.mark.parametrize("size", [(100, 30), (512, 1), (3, 400)])
def test_an_oblong_image_of_one_tile_keeps_it_because_the_overview_may_be_cropped(size):
    tiles, boxes = cut_tiles(noise(*size), size=512, tiling=Tiling())
    assert [size_of(tile) for tile in tiles] == [size, (max(size), max(size))]
    assert boxes.tolist() == [[0, 0, *size]] * 2


def test_with_one_tile_allowed_the_tile_is_the_whole_image():
    _, boxes = cut_tiles(noise(700, 900), size=64, tiling=Tiling(max_tiles=1))
    assert boxes.tolist() == [[0, 0, 700, 900]] * 2


def test_cutting_leaves_the_image_as_it_was():
    image = noise(200, 150)
    before = image.tobytes()
    cut_tiles(image, size=64, tiling=Tiling())
    assert image.tobytes() == before
