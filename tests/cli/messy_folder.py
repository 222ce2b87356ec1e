"""A folder as people have it: every format, turned, transparent, with profiles, broken, oddly named, and other files.

All pictures show the same: on a light ground a red triangle at the top left, a blue square at the bottom right.
"""

import io
import os
import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from tests.colour_profiles import SRGB, rgb_profile
from tests.pictures import png

SIZE = (120, 80)
GROUND, RED, BLUE = (236, 236, 228), (205, 35, 35), (40, 60, 205)
RED_AT, BLUE_AT, GROUND_AT = (0.25, 0.36), (0.79, 0.74), (0.86, 0.14)  # parts of the width and the height

IMAGE, TEXT, FAILED, LEFT_OUT = "image", "text", "failed", "left out"
# What becomes of a name: (one of the four, what is said about it). "grey" pictures have lost their colours.
Fates = dict[str, tuple[str, str]]


def scene(size=SIZE):
    width, height = size
    picture = Image.new("RGB", (width * 4, height * 4), GROUND)
    draw = ImageDraw.Draw(picture)

    def at(x, y):
        return (x * width * 4, y * height * 4)

    draw.polygon([at(0.25, 0.08), at(0.06, 0.55), at(0.44, 0.55)], fill=RED)
    draw.rectangle([at(0.66, 0.56), at(0.92, 0.92)], fill=BLUE)
    return picture.resize(size, Image.Resampling.LANCZOS)


def encoded(image, fmt, **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def cut_out(hidden):
    """The scene with a transparent ground, whose pixels have the colour `hidden`."""
    whole = scene().convert("RGBA")
    light = np.asarray(whole.convert("L")) > 200
    pixels = np.asarray(whole).copy()
    pixels[light] = (*hidden, 0)
    return Image.fromarray(pixels)


def three_colours():
    """The scene with a palette: the first colour is that of the ground."""
    pixels = np.asarray(scene())
    palette = Image.fromarray(np.where(pixels[..., 1] > 150, 0, np.where(pixels[..., 0] > 120, 1, 2)).astype(np.uint8))
    palette.putpalette([*GROUND, *RED, *BLUE])
    return palette


class Folder:
    """The folder while it is filled, and what is to become of each file."""

    def __init__(self, root: Path):
        self.root = root
        self.fates: Fates = {}

    def add(self, name, content, fate=IMAGE, said=""):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.fates[name] = (fate, said)


def make_messy_folder(root: Path) -> Fates:
    """Fill a folder; the fate of each file by its path below the folder."""
    folder = Folder(root)
    for part in (formats, orientations, transparency, profiles, depths, names, wrong_suffixes, broken, bombs, texts):
        part(folder)
    others(folder)
    links(folder)
    return folder.fates


def formats(folder):
    whole = scene()
    moving = {"save_all": True, "append_images": [Image.new("RGB", SIZE), Image.new("RGB", SIZE, "green")]}
    for suffix, fmt, options in (
        ("jpg", "JPEG", {}), ("jpeg", "JPEG", {"quality": 30}), ("jpe", "JPEG", {"progressive": True}),
        ("jfif", "JPEG", {"subsampling": 0}), ("png", "PNG", {}), ("webp", "WEBP", {}), ("gif", "GIF", {}),
        ("avif", "AVIF", {}), ("tif", "TIFF", {}), ("tiff", "TIFF", {"compression": "tiff_lzw"}), ("bmp", "BMP", {}),
        ("JPG", "JPEG", {}), ("PnG", "PNG", {"optimize": True}),
    ):  # fmt: skip
        folder.add(f"formats/a.{suffix}", encoded(whole, fmt, **options))
    folder.add("formats/lossless.webp", encoded(whole, "WEBP", lossless=True))
    folder.add("formats/deflate.tif", encoded(whole, "TIFF", compression="tiff_adobe_deflate"))
    folder.add("formats/packbits.tif", encoded(whole, "TIFF", compression="packbits"))
    folder.add("formats/in jpeg.tif", encoded(whole, "TIFF", compression="jpeg"))
    folder.add("formats/moving.gif", encoded(whole, "GIF", **moving), IMAGE, "first frame")
    folder.add("formats/moving.webp", encoded(whole, "WEBP", **moving), IMAGE, "first frame")
    folder.add("formats/moving.png", encoded(whole, "PNG", **moving), IMAGE, "first frame")
    folder.add("formats/moving.avif", encoded(whole, "AVIF", **moving), IMAGE, "first frame")
    folder.add("formats/pages.tif", encoded(whole, "TIFF", **moving), IMAGE, "first page")
    folder.add("formats/wide.jpg", encoded(scene((400, 120)), "JPEG"), IMAGE, "centre square")
    folder.add("formats/tall.jpg", encoded(scene((100, 320)), "JPEG"), IMAGE, "centre square")


def orientations(folder):
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # turning by 5..8 exchanges the sides
    for tag in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = undo.get(tag, 1)
        turned = scene()
        turned.getexif()[0x0112] = undo.get(tag, 1)
        stored = ImageOps.exif_transpose(turned)
        exif[0x0112] = tag
        folder.add(f"turned/{tag}.jpg", encoded(stored, "JPEG", exif=exif))
        if tag in (3, 6):
            for suffix in ("png", "webp", "tif"):
                folder.add(f"turned/{tag}.{suffix}", encoded(stored, {"tif": "TIFF"}.get(suffix, suffix), exif=exif))


def transparency(folder):
    for name, hidden in (("black", (0, 0, 0)), ("red", (255, 0, 0))):
        for suffix, fmt in (("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF"), ("avif", "AVIF")):
            options = {"exact": True} if fmt == "WEBP" else {}
            folder.add(f"alpha/{name}.{suffix}", encoded(cut_out(hidden), fmt, **options))
    grey = cut_out((0, 0, 0))
    folder.add("alpha/grey.png", encoded(grey.convert("LA"), "PNG"), IMAGE, "grey")
    palette = three_colours()
    folder.add("alpha/palette.png", encoded(palette, "PNG", transparency=0))
    folder.add("alpha/palette.gif", encoded(palette, "GIF", transparency=0))
    key = Image.fromarray(np.asarray(cut_out((0, 0, 0)).convert("RGB")))
    folder.add("alpha/key.png", encoded(key, "PNG", transparency=(0, 0, 0)))


def profiles(folder):
    swapped = rgb_profile((SRGB[2], SRGB[1], SRGB[0]), gamma=2.2)  # what is called red is blue
    stored = Image.merge("RGB", scene().split()[::-1])
    for suffix, fmt in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF"), ("avif", "AVIF")):
        folder.add(f"profiles/swapped.{suffix}", encoded(stored, fmt, icc_profile=swapped))
    folder.add("profiles/damaged.jpg", encoded(scene(), "JPEG", icc_profile=b"no profile"))


def depths(folder):
    whole = scene()
    grey = whole.convert("L")
    folder.add("depths/grey.jpg", encoded(grey, "JPEG"), IMAGE, "grey")
    folder.add("depths/grey.png", encoded(grey, "PNG"), IMAGE, "grey")
    folder.add("depths/grey.tif", encoded(grey, "TIFF"), IMAGE, "grey")
    folder.add("depths/palette.png", encoded(whole.quantize(64), "PNG"))
    folder.add("depths/palette.bmp", encoded(whole.quantize(64), "BMP"))
    folder.add("depths/four colours.png", encoded(three_colours(), "PNG", bits=2))
    folder.add("depths/one bit.png", encoded(grey.point(lambda v: 255 * (v > 150), "1"), "PNG"), IMAGE, "grey")
    folder.add("depths/one bit.tif", encoded(grey.point(lambda v: 255 * (v > 150), "1"), "TIFF"), IMAGE, "grey")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    folder.add("depths/16 bit.png", encoded(deep, "PNG"), IMAGE, "grey")
    folder.add("depths/16 bit.tif", encoded(deep, "TIFF"), IMAGE, "grey")
    folder.add("depths/float.tif", encoded(grey.convert("F").point(lambda v: v * 40 + 0), "TIFF"), FAILED, "")
    folder.add("depths/cmyk.jpg", encoded(whole.convert("CMYK"), "JPEG"))
    folder.add("depths/cmyk.tif", encoded(whole.convert("CMYK"), "TIFF"))
    folder.add("depths/ycc.tif", encoded(whole.convert("YCbCr"), "TIFF"))


def names(folder):
    picture = encoded(scene(), "PNG")
    for name in (
        "line\nbreak.png", "\U0001f469\u200d\U0001f680.png", "\u05e9\u05dc\u05d5\u05dd.png", "\u202egnp.png",
        "\u8d64\u3044.png", "x" * 246 + ".png", "'\"quotes\".png", "-rf.png", "--help.png", " space .png", "100%.png",
        "back\\slash.png", "[bold]red.png", "<b>&amp;.png", "data:x.png", "a.b.c.png", "esc\x1b[31m.png", "tab\t.png",
        "e\u0301.png", "\u00e9.png",
    ):  # fmt: skip
        folder.add(f"names/{name}", picture)
    folder.add(os.fsdecode(b"names/\xff.png"), picture, FAILED, "rename it")


def wrong_suffixes(folder):
    folder.add("wrong/jpeg.png", encoded(scene(), "JPEG"))
    folder.add("wrong/webp.jpg", encoded(scene(), "WEBP"))
    folder.add("wrong/jpeg.heic", encoded(scene(), "JPEG"))
    folder.add("wrong/IMG_0001", encoded(scene(), "PNG"))
    folder.add("wrong/b.jpg_large", encoded(scene(), "JPEG"))
    folder.add("wrong/note.txt", encoded(scene(), "PNG"))


def broken(folder):
    whole = encoded(scene((300, 200)), "JPEG", quality=95)
    folder.add("broken/empty.jpg", b"", FAILED, "0 bytes")
    folder.add("broken/half.jpg", whole[: len(whole) // 2], FAILED, "cannot be decoded")
    folder.add("broken/half.png", encoded(scene((300, 200)), "PNG")[:400], FAILED, "cannot be decoded")
    folder.add("broken/half.webp", encoded(scene((300, 200)), "WEBP")[:300], FAILED, "cannot be decoded")
    folder.add("broken/text.jpg", b"no picture", FAILED, "not an image")
    folder.add("broken/zeros.jpg", bytes(4000), FAILED, "zeros")
    folder.add("broken/page.jpg", b"<!DOCTYPE html><title>Sign in</title>", FAILED, "a web page")
    folder.add("broken/document.png", b"%PDF-1.7\n", FAILED, "a PDF")
    folder.add("broken/no end.jpg", whole[:-2], IMAGE, "end mark")
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    folder.add("broken/pointer.jpg", lfs, FAILED, "git lfs pull")


def bombs(folder):
    folder.add("bombs/wide.png", png(60_000, 60_000), FAILED, "max_pixels")
    folder.add("bombs/long.png", png(2_000_000, 1), FAILED, "max_side_px")
    folder.add("bombs/a.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;", FAILED, "")
    header = struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 90_000, 90_000, 1, 24, 0, 0, 0, 0, 0, 0)
    folder.add("bombs/a.bmp", b"BM" + header, FAILED, "max_pixels")


def texts(folder):
    folder.add("texts/a.txt", b"a red triangle", TEXT)
    folder.add("texts/a.md", "# ein rotes Dreieck \u2013 \u8d64".encode(), TEXT)
    folder.add("texts/mark.txt", "a red triangle with a mark".encode("utf-8-sig"), TEXT)
    folder.add("texts/wide.txt", "a red triangle in UTF-16".encode("utf-16"), TEXT)
    folder.add("texts/controls.txt", b"a red\0\x08\x1b[31m triangle", TEXT)
    folder.add("texts/no mark.txt", "a red triangle".encode("utf-16-le"), FAILED, "UTF-16")
    folder.add("texts/latin.txt", "gr\u00fcn".encode("latin-1"), FAILED, "UTF-8")
    folder.add("texts/empty.txt", b"", FAILED, "empty")
    folder.add("texts/blank.txt", "\u200b \n".encode(), FAILED, "empty")
    folder.add("texts/huge.txt", b"a" * (2**20 + 1), FAILED, "split it")


def others(folder):
    picture = encoded(scene((60, 40)), "JPEG")
    container = b"\0\0\0\x18ftypqt  \0\0\0\0" + bytes(50)
    for name in ("a.MOV", "b.mov", "a.pdf", "a.py", "a.zip"):
        folder.add(f"others/{name}", container, LEFT_OUT, Path(name).suffix.lower())
    folder.add("others/README", b"read me", LEFT_OUT, "without a known suffix")
    folder.add("others/.hidden.jpg", picture, LEFT_OUT, "hidden")
    for name in ("Thumbs.db", ".DS_Store", "._a.jpg", "desktop.ini"):
        folder.add(f"others/{name}", b"data", LEFT_OUT, "litter of other programs")
    for name in ("@eaDir", "__MACOSX", ".thumbnails", "lost+found"):
        folder.add(f"others/{name}/a.jpg", picture, LEFT_OUT, "litter of other programs")
    folder.add("others/.git/a.jpg", picture, LEFT_OUT, "hidden")


def links(folder):
    root = folder.root
    (root / "links").mkdir()
    folder.add("links/original.png", encoded(scene(), "PNG"))
    for name, target, fate in (
        ("file.png", "original.png", (IMAGE, "")),
        ("nowhere.png", "none.png", (FAILED, "No such file")),
        ("folder", "..", (LEFT_OUT, "links to folders")),
    ):
        (root / "links" / name).symlink_to(target)
        folder.fates[f"links/{name}"] = fate
    os.link(root / "links" / "original.png", root / "links" / "hard.png")
    folder.fates["links/hard.png"] = (IMAGE, "")
    os.mkfifo(root / "links" / "pipe.png")
    folder.fates["links/pipe.png"] = (FAILED, "pipe")


if __name__ == "__main__":
    make_messy_folder(Path(sys.argv[1]))
