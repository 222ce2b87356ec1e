"""A picture "as_seen" is what a viewer shows."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from core_encoder.errors import ConfigError
from core_encoder.image_input import load_image, read_image
from core_encoder.rendering import _transform, check_rendering
from tests.colour_profiles import SRGB, cmyk_profile, grey_profile, rgb_profile
from tests.pictures import PICTURE, PIXELS, TIFF_TAGS, encoded, png_chunk, refusal, tiff

WHITE = (255, 255, 255)


def seen(image):
    return np.asarray(load_image(image, index=0, rendering="as_seen")).astype(int)


def stored(image):
    return np.asarray(load_image(image, index=0)).astype(int)


def on_white(pixels, alpha):
    """(H, W, 3) and (H, W) of 0..255."""
    share = alpha[..., None] / 255
    return pixels * share + 255 * (1 - share)


ALPHA = np.random.default_rng(1).choice(np.array([0, 90, 200, 255], np.uint8), (24, 31))
CLEAR = Image.fromarray(np.dstack([PIXELS, ALPHA]))
GREY = PICTURE.convert("L")


def png_of(depth, kind, rows, *chunks):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, kind, 0, 0, 0))
    bits = rows.reshape(len(rows), -1)
    if depth == 16:
        lines = [b"\0" + row.astype(">u2").tobytes() for row in bits]
    else:
        spread = (bits[..., None] >> np.arange(depth)[::-1]) & 1
        lines = [b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in spread.astype(np.uint8)]
    body = png_chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + png_chunk(b"IEND", b"")


def test_the_value_must_be_one_of_two():
    for value in ("seen", True, None, 1):
        with pytest.raises(ConfigError, match="'as_seen', 'as_stored'"):
            check_rendering(value)


def test_a_picture_that_needs_nothing_is_the_same_in_both_renderings():
    for fmt in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "MPO"):
        np.testing.assert_array_equal(seen(encoded(PICTURE, fmt)), stored(encoded(PICTURE, fmt)))
    for mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"):
        image = PICTURE.convert(mode)
        np.testing.assert_array_equal(seen(image), stored(image))
    assert load_image(PICTURE, index=0, rendering="as_seen") is PICTURE


def test_what_was_rendered_once_is_not_rendered_again():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(CLEAR, "PNG", exif=exif, icc_profile=rgb_profile())
    once = load_image(data, index=0, rendering="as_seen")
    assert load_image(once, index=0, rendering="as_seen") is once
    assert once.size == (24, 31)


# Transparency


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_put_on_white_in_every_format(fmt):
    data = encoded(CLEAR, fmt, **({"lossless": True, "exact": True} if fmt == "WEBP" else {}))
    assert np.abs(seen(data) - on_white(PIXELS, ALPHA)).max() <= 1
    np.testing.assert_array_equal(stored(data), PIXELS)


def test_transparency_of_an_avif_is_put_on_white():
    image = Image.new("RGBA", (64, 48), (200, 30, 30, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 31, 47), fill=(30, 60, 220, 255))
    shown = seen(encoded(image, "AVIF", quality=100))
    assert np.abs(shown[:, 40:] - 255).max() <= 3
    assert np.abs(shown[:, :24] - (30, 60, 220)).max() <= 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa", "PA"])
def test_transparency_is_put_on_white_in_every_mode(mode):
    if mode in ("RGBA", "RGBa"):
        image, colours = CLEAR.convert(mode), PIXELS
    elif mode == "PA":
        image = Image.merge("PA", (PICTURE.quantize(16), Image.fromarray(ALPHA)))
        image.putpalette(PICTURE.quantize(16).getpalette() or [])
        colours = np.asarray(PICTURE.quantize(16).convert("RGB"))
    else:
        image = Image.merge("LA", (GREY, Image.fromarray(ALPHA))).convert(mode)
        colours = np.asarray(GREY.convert("RGB"))
    before = image.mode, dict(image.info), image.tobytes()
    assert np.abs(seen(image) - on_white(colours, ALPHA)).max() <= 2
    assert (image.mode, image.info, image.tobytes()) == before


def test_an_array_with_opacity_is_put_on_white():
    array = np.dstack([PIXELS, ALPHA])
    assert np.abs(seen(array) - on_white(PIXELS, ALPHA)).max() <= 1
    np.testing.assert_array_equal(stored(array), PIXELS)


def test_a_palette_with_several_opacities_is_put_on_white():
    palette = PICTURE.quantize(16)
    opacities = bytes(range(0, 256, 17))
    data = encoded(palette, "PNG", transparency=opacities)
    colours, alpha = np.asarray(palette.convert("RGB")), np.frombuffer(opacities, np.uint8)[np.asarray(palette)]
    assert np.abs(seen(data) - on_white(colours, alpha)).max() <= 1
    with Image.open(BytesIO(data)) as image:
        image.load()
        before = image.getpalette("RGBA"), image.tobytes(), dict(image.info)
        assert np.abs(seen(image) - on_white(colours, alpha)).max() <= 1
        assert (image.getpalette("RGBA"), image.tobytes(), image.info) == before


@pytest.mark.parametrize("fmt", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_put_on_white(fmt):
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    ImageDraw.Draw(clear).rectangle((10, 10, 29, 29), fill=(0, 0, 255, 255))
    other = Image.new("RGBA", (40, 40), (0, 255, 0, 255))
    options = {"lossless": True} if fmt == "WEBP" else {}
    loaded = read_image(
        encoded(clear, fmt, save_all=True, append_images=[other], **options), index=0, rendering="as_seen"
    )
    assert loaded.image.getpixel((2, 2)) == WHITE
    assert loaded.image.getpixel((20, 20)) == (0, 0, 255)
    assert [note.kind for note in loaded.notes] == ["first_frame"]
    assert read_image(encoded(clear, fmt), index=0).notes == ()


def test_a_colour_that_means_transparent_becomes_white():
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    image.putpixel((3, 3), (254, 0, 0))
    shown = seen(encoded(image, "PNG", transparency=(255, 0, 0)))
    assert shown[3, 3].tolist() == [254, 0, 0]
    assert (np.delete(shown.reshape(64, 3), 27, axis=0) == 255).all()
    grey = Image.new("L", (8, 8), 40)
    assert (seen(encoded(grey, "PNG", transparency=40)) == 255).all()
    assert (seen(encoded(grey, "PNG", transparency=41)) == 40).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_grey_that_means_transparent_is_found_at_every_depth(depth):
    top = 2**depth - 1
    rows = np.array([[0, top], [top, 0]])
    for key, shown in ((0, [[255, 255], [255, 255]]), (top, [[0, 255], [255, 0]])):
        data = png_of(depth, 0, rows, png_chunk(b"tRNS", struct.pack(">H", key)))
        assert seen(data)[..., 0].tolist() == shown


def test_a_colour_of_16_bits_that_means_transparent_is_found():
    rows = np.array([[(65535, 0, 32896), (0, 0, 0)]])
    data = png_of(16, 2, rows, png_chunk(b"tRNS", struct.pack(">HHH", 65535, 0, 32896)))
    assert seen(data)[0].tolist() == [[255, 255, 255], [0, 0, 0]]


def test_colours_of_16_bits_with_opacity_are_put_on_white():
    rows = np.array([[(65535, 0, 0, 0), (0, 0, 65535, 65535)]])
    assert seen(png_of(16, 6, rows))[0].tolist() == [[255, 255, 255], [0, 0, 255]]
    assert seen(png_of(16, 4, np.array([[(0, 0), (0, 65535)]])))[0, :, 0].tolist() == [255, 0]


# Colour profiles


def wide(image, profile):
    """The same colours, as numbers of another profile."""
    target = ImageCms.ImageCmsProfile(BytesIO(profile))
    return ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), target)


SOFT = Image.fromarray(np.random.default_rng(2).integers(60, 200, (24, 31, 3), dtype=np.uint8))


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_a_profile_is_converted_to_srgb_in_every_format(fmt):
    flat = Image.new("RGB", (32, 32), (200, 120, 90))
    options = {"lossless": True} if fmt == "WEBP" else {"quality": 100}
    data = encoded(wide(flat, rgb_profile()), fmt, icc_profile=rgb_profile(), **options)
    assert np.abs(seen(data) - (200, 120, 90)).max() <= 4
    assert np.abs(stored(data) - (200, 120, 90)).max() > 20


def test_a_profile_counts_for_pillow_images_and_pictures_with_opacity():
    image = wide(SOFT, rgb_profile())
    image.info["icc_profile"] = rgb_profile()
    assert np.abs(seen(image) - np.asarray(SOFT)).max() <= 3
    clear = image.convert("RGBA")
    clear.putalpha(Image.fromarray(ALPHA))
    clear.info["icc_profile"] = rgb_profile()
    assert np.abs(seen(clear) - on_white(np.asarray(SOFT), ALPHA)).max() <= 4


@pytest.mark.parametrize(
    "profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()], ids=["created"]
)
def test_a_profile_of_srgb_changes_no_pixel(profile):
    image = PICTURE.copy()
    image.info["icc_profile"] = profile
    assert load_image(image, index=0, rendering="as_seen") is image
    data = encoded(PICTURE, "JPEG", icc_profile=profile)
    np.testing.assert_array_equal(seen(data), stored(data))


def test_srgbs_colours_with_another_curve_are_converted():
    image = wide(SOFT, rgb_profile(SRGB, 1.0))
    image.info["icc_profile"] = rgb_profile(SRGB, 1.0)
    assert np.abs(stored(image) - np.asarray(SOFT)).max() > 50
    assert np.abs(seen(image) - np.asarray(SOFT)).max() <= 4


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_profile_of_grey_is_converted(mode):
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert(mode)
    ramp.info["icc_profile"] = grey_profile(1.0)
    linear = np.arange(256) / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(seen(ramp)[..., 0].reshape(-1) - expected).max() <= 2


def test_a_profile_of_16_bit_grey_is_converted_after_the_scaling():
    ramp = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    data = encoded(ramp, "PNG", icc_profile=grey_profile(1.0))
    assert seen(data)[8, 0, 0] == pytest.approx(188, abs=2)


@pytest.mark.parametrize(
    "profile", [b"junk", b"\0" * 200, rgb_profile()[:150], rgb_profile().replace(b"rXYZ", b"xxxx")]
)
def test_a_damaged_profile_is_ignored(profile):
    data = encoded(PICTURE, "JPEG", icc_profile=profile)
    np.testing.assert_array_equal(seen(data), stored(data))


def test_a_profile_for_other_channels_is_ignored():
    for image, profile in (
        (GREY, rgb_profile()),
        (PICTURE, grey_profile(1.0)),
        (PICTURE.convert("CMYK"), rgb_profile()),
    ):
        data = encoded(image, "TIFF", icc_profile=profile)
        np.testing.assert_array_equal(seen(data), stored(data))


def test_a_profile_is_parsed_once_for_many_pictures():
    _transform.cache_clear()
    data = encoded(PICTURE, "JPEG", icc_profile=rgb_profile())
    for _ in range(5):
        seen(data)
    assert _transform.cache_info().misses == 1


# Grey of 16 bits


RAMP = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "tiff_lzw", "tiff_adobe_deflate"])
def test_grey_of_16_bits_is_scaled_to_8(order, fmt):
    image = Image.fromarray(RAMP.astype(order))
    name, options = ("TIFF", {"compression": fmt}) if fmt.startswith("tiff_") else (fmt, {})
    for source in (image, encoded(image, name, **options)):
        np.testing.assert_array_equal(seen(source)[..., 0], RAMP // 257)
        assert "8 bits" in refusal(source)


def test_grey_of_16_bits_that_holds_values_of_8_bits_is_kept():
    small = Image.fromarray((RAMP // 257).astype(np.uint16))
    np.testing.assert_array_equal(seen(small), stored(small))


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_tiff_says_the_range_of_its_grey(bits, white_is_zero):
    if bits == 12 and white_is_zero:
        return  # Pillow does not read it
    top = 2**bits - 1
    levels = np.arange(16) * (top // 15)  # (16,)
    if bits == 12:
        pairs = levels.reshape(4, 2, 2)
        packed = np.stack([pairs[..., 0] >> 4, (pairs[..., 0] & 15) << 4 | pairs[..., 1] >> 8, pairs[..., 1] & 255], -1)
        content = packed.astype(np.uint8).tobytes()
    else:
        content = levels.astype("<u2").tobytes()
    tags = TIFF_TAGS | {
        258: (258, 3, 1, bits),
        262: (262, 3, 1, 0 if white_is_zero else 1),
        279: (279, 4, 1, len(content)),
    }
    data = bytearray(tiff(*tags.values()))
    data[8 : 8 + len(content)] = content
    expected = np.arange(16).reshape(4, 4) * 17
    np.testing.assert_array_equal(seen(bytes(data))[..., 0], 255 - expected if white_is_zero else expected)


@pytest.mark.parametrize("array", [RAMP.astype(np.int32), RAMP.astype(np.float32) / 65535])
def test_grey_of_unknown_range_is_refused_with_what_to_do(array):
    message = refusal(Image.fromarray(array), rendering="as_seen")
    assert "image editor" in message
    assert "as_seen" not in message


def test_the_refusal_of_as_stored_names_as_seen():
    assert '`rendering` "as_seen"' in refusal(Image.fromarray(RAMP))


# Other colours


def test_a_cmyk_jpeg_of_adobe_is_not_inverted():
    light = Image.new("CMYK", (32, 32), (10, 20, 30, 5))
    data = encoded(light, "JPEG", quality=100)
    assert np.abs(seen(data) - np.asarray(light.convert("RGB")).astype(int)).max() <= 4


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF"])
def test_a_profile_of_inks_is_converted(fmt):
    """Of these inks magenta alone prints a mid grey, which no formula would guess."""
    profile = cmyk_profile(lambda *inks: (0, 0, 0) if inks[3] else (50, 0, 0) if inks[1] else (100, 0, 0))
    options = {"quality": 100} if fmt == "JPEG" else {}
    for inks, grey in (((0, 255, 0, 0), 119), ((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((255, 0, 255, 0), 255)):
        data = encoded(Image.new("CMYK", (16, 16), inks), fmt, icc_profile=profile, **options)
        assert np.abs(seen(data) - grey).max() <= 4


def test_a_lab_tiff_is_converted():
    lab = ImageCms.profileToProfile(
        SOFT, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert np.abs(seen(encoded(lab, "TIFF")) - np.asarray(SOFT)).mean() < 1


# Notes and boxes


def test_a_document_of_several_pages_is_noted_and_a_thumbnail_is_no_page():
    pages = encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.rotate(90)])
    for data in (pages, encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE], compression="tiff_lzw")):
        assert [note.kind for note in read_image(data, index=0).notes] == ["first_page"]
    assert read_image(encoded(PICTURE, "TIFF"), index=0).notes == ()
    big = encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE], big_tiff=True)
    assert [note.kind for note in read_image(big, index=0).notes] == ["first_page"]
    reduced = PICTURE.copy()
    with BytesIO() as file:
        small = PICTURE.resize((8, 6))
        small.encoderinfo = {"tiffinfo": {254: 1}}
        reduced.save(file, "TIFF", save_all=True, append_images=[small])
        assert read_image(file.getvalue(), index=0).notes == ()
