"""Image files to pixels: by TensorFlow where it reads a format rightly, else by Pillow.

TensorFlow takes the palette of a BMP for gray, refuses BMPs of 1 bit and WebPs with transparency, and shows photographs
as the sensor lay, whatever their EXIF orientation says. Pillow reads all of these, and is told apart from the first
bytes alone, so that a data set of JPEGs or PNGs is still decoded without Python.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["decode_image", "decode_with_pillow"]

_HEAD = 1 << 16  # bytes within which a camera writes its EXIF data
_EXIF = r"\C*(Exif\x00|eXIf)\C*"  # of JPEG and of PNG
_ORIENTATION = 0x0112  # EXIF's number for it


def decode_image(encoded: Any, channels: int) -> "tf.Tensor":
    """Decode the bytes of one image file to uint8 (height, width, channels); of an animation its first picture.

    Transparency is left out. An image is turned and mirrored as its EXIF orientation says.
    """
    import tensorflow as tf

    encoded = tf.convert_to_tensor(encoded)
    head = tf.strings.substr(encoded, 0, _HEAD)
    needs_pillow = (
        (tf.strings.substr(head, 0, 2) == b"BM")
        | (tf.strings.substr(head, 0, 4) == b"RIFF")
        | tf.strings.regex_full_match(head, _EXIF)
    )

    def by_pillow():
        if tf.executing_eagerly():
            return tf.constant(decode_with_pillow(encoded.numpy()))
        return tf.numpy_function(decode_with_pillow, [encoded], tf.uint8)

    image = tf.cond(
        needs_pillow,
        by_pillow,
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    image.set_shape([None, None, 3])  # always by way of RGB: not every format decodes to gray
    return tf.image.rgb_to_grayscale(image) if channels == 1 else image


def decode_with_pillow(encoded: bytes) -> np.ndarray:
    """Decode the bytes of one image file to uint8 (height, width, 3), its first picture, turned as EXIF says.

    Raises:
        ValueError: broken, of an unknown format, or of more pixels than Pillow takes for honest.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.fromarray(np.array([[0, 255]], "uint8")).save(file, "bmp")  # gray, by way of a palette
        >>> decode_with_pillow(file.getvalue()).tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
            turned = _upright(image)
            if turned.mode.startswith("I"):  # 16 bits a pixel, of which TensorFlow too takes the upper 8
                gray = (np.asarray(turned).astype("int64") >> 8).clip(0, 255).astype("uint8")
                return np.repeat(gray[..., None], 3, axis=-1)
            return np.array(turned.convert("RGB"))
    except Exception as error:  # a broken file can end in any
        raise ValueError(
            f"an image must be one that Pillow reads, and is not ({type(error).__name__}: {error}). Save it again."
        ) from error


def _upright(image: Any) -> Any:
    from PIL import Image

    ways = dict(zip(range(2, 9), _turns(Image.Transpose), strict=True))
    try:
        way = ways.get(image.getexif().get(_ORIENTATION))
    except Exception:  # broken EXIF data says nothing of the pixels
        way = None
    return image if way is None else image.transpose(way)


def _turns(transpose: Any) -> tuple[Any, ...]:
    """What puts orientations 2 to 8 right (TIFF 6.0, tag Orientation)."""
    return (
        transpose.FLIP_LEFT_RIGHT,
        transpose.ROTATE_180,
        transpose.FLIP_TOP_BOTTOM,
        transpose.TRANSPOSE,
        transpose.ROTATE_270,
        transpose.TRANSVERSE,
        transpose.ROTATE_90,
    )
