"""Image files of every kind, whole and damaged: the right pixels, or named as broken."""

import io

import numpy as np
import pytest
import run_cases
from damage import damaged
from time_limit import scaled, time_limit

from keras_condense import datasets
from keras_condense.datasets.decoding import decode_image, decode_with_pillow

pytestmark = pytest.mark.slow  # all of it, together


pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

COLOURS = np.array(
    [[[250, 10, 20], [10, 240, 30], [20, 30, 230]], [[200, 210, 15], [0, 0, 0], [255, 255, 255]]], "uint8"
)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(content, channels=3):
    return decode_image(content, channels)


def large(mode="RGB"):
    """An image of smooth colours, which JPEG and WebP keep: red grows to the right, green downwards."""
    rows, columns = np.mgrid[0:24, 0:32]
    pixels = np.stack([columns * 8, rows * 10, np.full_like(rows, 60)], axis=-1).astype("uint8")
    return Image.fromarray(pixels).convert(mode), pixels


# --- the right pixels -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "P", "L", "1", "RGBA"])
def test_every_format_without_losses(kind, mode):
    image = Image.fromarray(COLOURS)
    expected = COLOURS
    if mode == "P":
        image = image.quantize(8)
    elif mode in ("L", "1"):
        image = image.convert(mode)
        expected = np.repeat(np.asarray(image.convert("L"))[..., None], 3, axis=-1)
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(np.full(COLOURS.shape[:2], 255 if kind == "gif" else 120, "uint8")))
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    np.testing.assert_array_equal(decoded(encoded(image, kind, **options)), expected)


def test_a_palette_bmp_is_no_gray_image():
    """The file that TensorFlow alone reads as indices: red, green and blue become 0, 1 and 2."""
    import tensorflow as tf

    content = encoded(Image.fromarray(COLOURS).quantize(8), "bmp")
    np.testing.assert_array_equal(decoded(content), COLOURS)
    try:
        by_tensorflow = tf.io.decode_image(content, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:
        return
    assert not np.array_equal(by_tensorflow, COLOURS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_the_orientation_of_photographs(kind, orientation):
    """Numbers from the standard: what the first row and the first column of the file are in the picture."""
    upright = np.asarray(large()[0]).astype(int)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpeg": {"quality": 98, "subsampling": 0}, "png": {}, "webp": {"lossless": True}}[kind]
    content = encoded(Image.fromarray(stored.astype("uint8")), kind, exif=exif, **options)
    pixels = decoded(content).astype(int)
    assert pixels.shape == upright.shape
    assert abs(pixels - upright).max() <= (12 if kind == "jpeg" else 0)


def test_photographs_without_exif_data_are_decoded_by_tensorflow():
    import tensorflow as tf

    for kind in ("jpeg", "png", "gif"):
        content = encoded(large()[0], kind)
        np.testing.assert_array_equal(
            decoded(content), tf.io.decode_image(content, channels=3, expand_animations=False).numpy()
        )


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_data_says_nothing(exif):
    pixels = decoded(encoded(large()[0], "jpeg", quality=98, exif=exif)).astype(int)
    assert abs(pixels - large()[1]).max() <= 16


def test_sixteen_bits_a_pixel():
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], "uint16")
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = encoded(Image.fromarray(values), "png")
    turned = encoded(Image.fromarray(values[::-1, ::-1].copy()), "png", exif=exif)
    np.testing.assert_array_equal(decoded(plain), decoded(turned))
    np.testing.assert_array_equal(decoded(turned)[..., 0], values >> 8)


def test_the_first_picture_of_an_animation():
    frames = [Image.fromarray(np.full((5, 7, 3), value, "uint8")) for value in (10, 200)]
    for kind in ("gif", "webp"):
        options = {"lossless": True} if kind == "webp" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(decoded(content), np.full((5, 7, 3), 10))


def test_gray_by_way_of_pillow():
    content = encoded(Image.fromarray(COLOURS).quantize(8), "bmp")
    expected = COLOURS @ np.array([0.2989, 0.587, 0.114])
    assert abs(decoded(content, 1)[..., 0] - expected).max() <= 1


def test_a_folder_of_every_kind(tmp_path):
    """The same picture nine times, through the public door."""
    exif = Image.Exif()
    exif[0x0112] = 3
    picture, pixels = large()
    turned, clear = picture.transpose(Image.Transpose.ROTATE_180), picture.convert("RGBA")
    files = {
        "palette.bmp": (picture.quantize(256), {}),
        "plain.bmp": (picture, {}),
        "plain.png": (picture, {}),
        "alpha.png": (clear, {}),
        "turned.jpg": (turned, {"quality": 98, "exif": exif}),
        "plain.jpeg": (picture, {"quality": 98}),
        "alpha.webp": (clear, {"lossless": True, "exact": True}),
        "turned.webp": (turned, {"lossless": True, "exif": exif}),
        "plain.gif": (picture.quantize(256), {}),
    }
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file, (image, options) in files.items():
            image.save(tmp_path / name / file, **options)
    data = datasets.load_arrays(tmp_path, batch_size=2)
    images = np.concatenate([data.train_images, data.test_images]).astype(int)
    assert images.shape == (18, 24, 32, 3)
    assert abs(images - pixels).max() <= 24


# --- lies -------------------------------------------------------------------------------------------------------------
def wholes():
    picture, _ = large()
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "png": encoded(picture, "png"),
        "jpg": encoded(picture, "jpeg"),
        "turned.jpg": encoded(picture, "jpeg", exif=exif),
        "gif": encoded(picture, "gif"),
        "bmp": encoded(picture, "bmp"),
        "palette.bmp": encoded(picture.quantize(16), "bmp"),
        "bit.bmp": encoded(picture.convert("1"), "bmp"),
        "webp": encoded(picture.convert("RGBA"), "webp"),
    }


def test_damaged_images(tmp_path):
    kinds = list(wholes().items())
    paths = []
    for number in scaled(240):
        name, content = kinds[number % len(kinds)]
        paths.append(tmp_path / f"{number}.{name}")
        paths[-1].write_bytes(damaged(content, number // len(kinds)))
    found = run_cases.outcomes("image", paths, tmp_path)
    broken = {name for name, outcome in found.items() if outcome == "ValueError: `broken`"}
    assert not {name: found[name] for name in found.keys() - broken if not found[name].startswith("ok: (")}
    for place in range(len(kinds)):  # of every kind some are broken and some are not
        assert 0 < len(broken.intersection(map(str, paths[place :: len(kinds)]))) < len(paths[place :: len(kinds)])


def png_of(width, height):
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (2**20, 2**12), (0, 5)])
def test_headers_that_claim_more_pixels_than_memory_holds(tmp_path, width, height):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(COLOURS).save(tmp_path / name / f"{number}.png")
    (tmp_path / "a" / "bomb.png").write_bytes(png_of(width, height))
    with time_limit(20), pytest.raises(ValueError, match=r"1 of its 7 can't: .*bomb\.png"):
        datasets.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"BM", b"RIFF", b"RIFF\0\0\0\0WEBP", b"Exif\0", b"BM" + bytes(100)])
def test_heads_without_a_body(content):
    with pytest.raises(ValueError, match=r"must be one that Pillow reads, and is not \(\w+"):
        decode_with_pillow(content)
