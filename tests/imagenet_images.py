"""Images in ImageNet's layout, drawn at random, of every kind that ImageNet has."""

import io

import numpy as np
from PIL import Image

# three of the classes, and their places among the 1000
LABELS = {"n01440764": 0, "n01443537": 1, "n15075141": 999}
# file name: width, height, colours, format
KINDS = {
    "landscape.JPEG": (500, 375, "RGB", "JPEG"),
    "portrait.JPEG": (333, 500, "RGB", "JPEG"),
    "gray.JPEG": (300, 301, "L", "JPEG"),
    "cmyk.JPEG": (400, 300, "CMYK", "JPEG"),
    "png_by_another_name.JPEG": (400, 311, "RGB", "PNG"),
    "exact.JPEG": (256, 363, "RGB", "JPEG"),
    "small.JPEG": (50, 40, "RGB", "JPEG"),
    "thin.JPEG": (20, 200, "RGB", "JPEG"),
    "palette.png": (280, 260, "P", "PNG"),
}


def draw(width, height, seed):
    """A smooth image of random colours, as photographs are smooth."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype="uint8")
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    return stream.getvalue()


def write(folder):
    """Write an image of each kind into class folders of `folder`."""
    for seed, (name, (width, height, colours, kind)) in enumerate(KINDS.items()):
        class_folder = folder / list(LABELS)[seed % len(LABELS)]
        class_folder.mkdir(parents=True, exist_ok=True)
        draw(width, height, seed).convert(colours).save(class_folder / name, kind)
