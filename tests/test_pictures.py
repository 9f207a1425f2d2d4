"""relight.images: every kind of picture file a capture may hold, and those that lie."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from relight.errors import DataError
from relight.images import MAX_PIXELS, SUFFIXES, image_size, read_image


def ramp(height: int = 5, width: int = 7, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """No two pixels and no two channels are alike, so that a swapped axis or channel shows."""
    values = np.random.default_rng(0).permutation(np.iinfo(dtype).max)[: height * width * channels]
    return values.reshape(height, width, channels).astype(dtype)


def assert_reads(path: Path, expected: np.ndarray, linear: bool = False, atol: float = 1e-6) -> None:
    picture = read_image(path)
    np.testing.assert_allclose(picture.values.numpy(), expected, atol=atol, rtol=1e-6)
    assert picture.linear is linear
    assert picture.values.dtype == torch.float32 and picture.values.is_contiguous()
    assert image_size(path) == (expected.shape[1], expected.shape[0])


def write_exr(path: Path, channels: dict[str, np.ndarray], **header: object) -> Path:
    head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    with OpenEXR.File(head, {k: np.ascontiguousarray(v, np.float32) for k, v in channels.items()}) as file:
        file.write(str(path))
    return path


def png_claiming(path: Path, width: int, height: int) -> Path:
    """A valid PNG header of any size with almost no data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )
    return path


# Integers


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg"])
def test_eight_bit_colour(tmp_path: Path, suffix: str) -> None:
    pixels = ramp() if suffix != ".jpg" else np.full((8, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", lossless=True, quality=95)
    assert_reads(tmp_path / f"a{suffix}", pixels / 255, atol=1e-6 if suffix != ".jpg" else 2 / 255)


def test_every_suffix_we_list_is_tested_here() -> None:
    assert set(SUFFIXES) == {".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg", ".exr", ".hdr"}


def test_suffix_in_capitals(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "IMG_1.PNG")
    assert_reads(tmp_path / "IMG_1.PNG", ramp() / 255)


def test_alpha_is_straight(tmp_path: Path) -> None:
    pixels = ramp(channels=4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert_reads(tmp_path / "a.png", pixels / 255)
    picture = read_image(tmp_path / "a.png")
    assert picture.alpha is not None
    np.testing.assert_allclose(picture.alpha.numpy(), pixels[..., 3] / 255)


def test_grey_is_one_channel_and_rgb_repeats_it(tmp_path: Path) -> None:
    pixels = ramp(channels=1)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "g.png")
    assert_reads(tmp_path / "g.png", pixels / 255)
    picture = read_image(tmp_path / "g.png")
    assert picture.alpha is None
    np.testing.assert_allclose(picture.rgb.numpy(), np.repeat(pixels, 3, 2) / 255)


def test_grey_with_alpha(tmp_path: Path) -> None:
    pixels = ramp(channels=2)
    Image.fromarray(pixels).save(tmp_path / "la.png")
    assert_reads(tmp_path / "la.png", pixels[..., [0, 0, 0, 1]] / 255)


def test_one_bit(tmp_path: Path) -> None:
    pixels = ramp(channels=1)[..., 0] > 120
    Image.fromarray(pixels).save(tmp_path / "b.png")
    assert_reads(tmp_path / "b.png", pixels[..., None].astype(np.float32))


@pytest.mark.parametrize("transparent", [False, True])
def test_palette(tmp_path: Path, transparent: bool) -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    image = Image.frombytes("P", image.size, image.tobytes())
    colors = [(10, 20, 30), (250, 0, 9), (1, 200, 3), (44, 55, 66), (7, 8, 9), (90, 91, 92)]
    image.putpalette([v for color in colors for v in color])
    if transparent:
        image.info["transparency"] = 1
    image.save(tmp_path / "p.png")
    expected = np.array(colors).reshape(2, 3, 3) / 255
    if transparent:
        alpha = np.ones((2, 3, 1))
        alpha[0, 1] = 0
        expected = np.concatenate([expected, alpha], 2)
    assert_reads(tmp_path / "p.png", expected)


def test_cmyk_jpeg_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 8), (0, 0, 0, 0)).save(tmp_path / "c.jpg")
    assert_reads(tmp_path / "c.jpg", np.ones((8, 16, 3)), atol=2 / 255)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_keep_their_depth(tmp_path: Path, channels: int, suffix: str) -> None:
    pixels = ramp(channels=channels, dtype=np.uint16)
    stored = pixels[..., [2, 1, 0, 3][:channels]] if channels > 1 else pixels[..., 0]
    assert cv2.imwrite(str(tmp_path / f"deep{suffix}"), stored)
    assert_reads(tmp_path / f"deep{suffix}", pixels / 65535, atol=1e-7)


def test_sixteen_bit_grey_with_alpha(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = ramp(channels=2, dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", 7, 5, 16, 4, 0, 0, 0)
    (tmp_path / "la16.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert_reads(tmp_path / "la16.png", pixels[..., [0, 0, 0, 1]] / 65535, atol=1e-7)


def test_float_tiff_is_linear(tmp_path: Path) -> None:
    pixels = np.linspace(0, 40, 12, dtype=np.float32).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / "f.tif")
    assert_reads(tmp_path / "f.tif", pixels[..., None], linear=True)


def test_integers_of_32_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 4), 1 << 20, np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(DataError, match=r"i\.tif: integers of 32 bits; re-export"):
        read_image(tmp_path / "i.tif")


# EXIF orientation


def stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores for this upright picture, by the EXIF standard's table of where row 0 and column 0 lie."""
    first_row, first_column = [
        ("top", "left"), ("top", "right"), ("bottom", "right"), ("bottom", "left"),
        ("left", "top"), ("right", "top"), ("right", "bottom"), ("left", "bottom"),
    ][orientation - 1]  # fmt: skip
    if orientation <= 4:
        rows = slice(None) if first_row == "top" else slice(None, None, -1)
        columns = slice(None) if first_column == "left" else slice(None, None, -1)
        return upright[rows, columns]
    columns = slice(None) if first_row == "left" else slice(None, None, -1)
    rows = slice(None) if first_column == "top" else slice(None, None, -1)
    return upright[rows, columns].swapaxes(0, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "grey16", "color16"])
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    if kind == "jpg":  # four flat quarters survive JPEG
        upright = np.kron(np.array([[[250], [10]], [[90], [170]], [[30], [220]]]), np.ones((16, 16, 1))).astype("u1")
        upright = np.repeat(upright, 3, 2)
    else:
        upright = ramp(channels=1 if kind == "grey16" else 3, dtype=np.uint8 if kind == "png" else np.uint16)
    stored = np.ascontiguousarray(stored_for(upright, orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / ("a.jpg" if kind == "jpg" else "a.png")
    if kind == "color16":  # Pillow cannot write it: borrow the eXIf chunk of a file that it can
        cv2.imwrite(str(path), stored[..., ::-1])
        body = path.read_bytes()
        block = exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
        path.write_bytes(body[:33] + chunk + body[33:])
    else:
        Image.fromarray(stored[..., 0] if kind == "grey16" else stored).save(path, exif=exif, quality=100)
    scale = np.iinfo(upright.dtype).max
    assert_reads(path, upright / scale, atol=3 / 255 if kind == "jpg" else 1e-7)
    kept = read_image(path, upright=False).values.numpy()
    np.testing.assert_allclose(kept, stored / scale, atol=3 / 255 if kind == "jpg" else 1e-7)
    assert image_size(path, upright=False) == (stored.shape[1], stored.shape[0])


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_orientation_that_does_not_exist_is_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp()).save(tmp_path / "a.png", exif=exif)
    assert_reads(tmp_path / "a.png", ramp() / 255)


def test_turned_deep_tiff_is_refused_rather_than_read_wrongly(tmp_path: Path) -> None:
    path = tmp_path / "t.tif"
    cv2.imwrite(str(path), ramp(dtype=np.uint16))
    # Planar configuration 1 is the default, so its entry can give its place to an orientation.
    entry = struct.pack("<HHIHH", 0x011C, 3, 1, 1, 0)
    assert path.read_bytes().count(entry) == 1
    path.write_bytes(path.read_bytes().replace(entry, struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)))
    with pytest.raises(DataError, match=r"t\.tif: a turned TIFF of 16 bits; re-export it upright"):
        read_image(path)


# Float formats


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr(tmp_path: Path, dtype: type) -> None:
    pixels = np.linspace(0, 30, 5 * 7 * 3).reshape(5, 7, 3).astype(dtype)
    head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(head, {"RGB": pixels}) as file:
        file.write(str(tmp_path / "a.exr"))
    assert_reads(tmp_path / "a.exr", pixels.astype(np.float32), linear=True)


def test_exr_alpha_is_divided_out(tmp_path: Path) -> None:
    alpha = np.array([[0.0, 0.5], [0.25, 1.0]], np.float32)
    color = np.array([[7.0, 3.0], [2.0, 1.0]], np.float32)
    write_exr(tmp_path / "a.exr", {c: color * alpha * (i + 1) for i, c in enumerate("RGB")} | {"A": alpha})
    expected = np.stack([color * (alpha > 0), 2 * color * (alpha > 0), 3 * color * (alpha > 0), alpha], -1)
    assert_reads(tmp_path / "a.exr", expected, linear=True)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Y"], [0]),
        (["Z"], [0]),
        (["B", "G", "R", "Z", "N.X", "N.Y", "N.Z"], [2, 1, 0]),
        (["ViewLayer.Combined.B", "ViewLayer.Combined.G", "ViewLayer.Combined.R", "ViewLayer.Normal.X"], [2, 1, 0]),
        (["N.X", "N.Y", "N.Z"], [0, 1, 2]),
    ],
)
def test_exr_layers(tmp_path: Path, names: list[str], expected: list[int]) -> None:
    planes = {name: np.full((3, 4), 1.0 + i) for i, name in enumerate(names)}
    write_exr(tmp_path / "layers.exr", planes)
    assert_reads(tmp_path / "layers.exr", np.ones((3, 4, 1)) * (np.array(expected) + 1.0), linear=True)


def test_exr_without_colour_names_its_channels(tmp_path: Path) -> None:
    write_exr(tmp_path / "d.exr", {"depth.V": np.ones((2, 2)), "id": np.ones((2, 2))})
    with pytest.raises(DataError, match=r"d\.exr: no R, G, B channels among depth\.V, id; re-export"):
        read_image(tmp_path / "d.exr")


def test_exr_crop_is_placed_in_its_display_window(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).random((4, 6)).astype(np.float32)
    corners = {
        "dataWindow": (np.array([-2, 1], np.int32), np.array([3, 4], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([8, 3], np.int32)),
    }
    write_exr(tmp_path / "crop.exr", dict.fromkeys("RGB", pixels), **corners)
    expected = np.zeros((4, 9, 3), np.float32)
    expected[1:4, 0:4] = pixels[:3, 2:, None]
    assert_reads(tmp_path / "crop.exr", expected, linear=True)


def test_hdr(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).random((6, 9, 3)).astype(np.float32) * 50 + 1
    cv2.imwrite(str(tmp_path / "sky.hdr"), np.ascontiguousarray(pixels[..., ::-1]))
    # RGBE shares one exponent: 8 bits of the largest channel.
    assert_reads(tmp_path / "sky.hdr", pixels, linear=True, atol=float(pixels.max()) / 128)


# Files that lie


def test_missing(tmp_path: Path) -> None:
    for call in (read_image, image_size):
        with pytest.raises(DataError, match=r"gone\.png: no such picture; check the path"):
            call(tmp_path / "gone.png")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"not a picture at all, but long enough to have a header" * 9, b"\0" * 500])
def test_garbage(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    for call in (read_image, image_size):
        with pytest.raises(DataError, match=rf"bad\{suffix}: .*(re-export it)"):
            call(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".exr", ".hdr", ".bmp"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7])
def test_truncated(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(3).integers(0, 255, (40, 60, 3), np.uint8)
    if suffix == ".exr":
        write_exr(path, {c: noise[..., i] / 255 for i, c in enumerate("RGB")})
    elif suffix == ".hdr":
        cv2.imwrite(str(path), noise.astype(np.float32))
    else:
        Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DataError, match=rf"cut\{suffix}: .*re-export it"):
        read_image(path)


def test_truncated_deep_png(tmp_path: Path) -> None:
    path = tmp_path / "cut16.png"
    cv2.imwrite(str(path), np.random.default_rng(3).integers(0, 65535, (64, 64, 3), np.uint16))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut16\.png: .*re-export it"):
        read_image(path)


@pytest.mark.parametrize("size", [(100_000, 100_000), (2_000_000_000, 2), (20_000, 8_948), (0, 10)])
def test_decompression_bomb_png(tmp_path: Path, size: tuple[int, int]) -> None:
    path = png_claiming(tmp_path / "bomb.png", *size)
    for call in (read_image, image_size):
        with pytest.raises(DataError, match=r"bomb\.png: .*(re-export it)"):
            call(path)


def test_large_photographs_below_the_limit_are_sized_without_a_warning(tmp_path: Path) -> None:
    width, height = 16_000, 10_000  # a real medium-format back; Pillow would warn
    assert width * height < MAX_PIXELS
    assert image_size(png_claiming(tmp_path / "large.png", width, height)) == (width, height)


def test_decompression_bomb_hdr(tmp_path: Path) -> None:
    path = tmp_path / "bomb.hdr"
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 100000 +X 100000\n" + b"\0" * 100)
    for call in (read_image, image_size):
        with pytest.raises(DataError, match=r"bomb\.hdr: claims 100000x100000 pixels"):
            call(path)


def test_decompression_bomb_exr(tmp_path: Path) -> None:
    path = write_exr(tmp_path / "bomb.exr", {"Y": np.zeros((3, 5))})
    window = struct.pack("<4i", 0, 0, 4, 2)
    assert path.read_bytes().count(window) == 2
    path.write_bytes(path.read_bytes().replace(window, struct.pack("<4i", 0, 0, 99_999, 99_999)))
    for call in (read_image, image_size):
        with pytest.raises(DataError, match=r"bomb\.exr: claims 100000x100000 pixels"):
            call(path)


def test_hdr_stored_upside_down_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flip.hdr"
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n+Y 2 +X 2\n" + b"\0" * 16)
    with pytest.raises(DataError, match=r"flip\.hdr: .*upside down.*re-export"):
        read_image(path)
