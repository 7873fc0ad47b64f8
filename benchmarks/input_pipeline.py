"""Images a second that are decoded, resized and augmented: `load`, Keras' own reader, and what a training step takes.

The files are made up: JPEGs of the size of most of ImageNet's, 500 x 375 pixels and about 110 kB, as many as one of its
1024 TFRecord files holds. `load` would hold so few in memory; here it reads them in each epoch, as it reads ImageNet.
With `resize="photographs"` boxes are cut out of the files' own pixels, as ImageNet's networks are trained.
All contestants live in one process and run in turn, each with an iterator of its own and batches before those timed.
Keras' reader resizes without antialiasing, and crops at random out of 256 x 256 pixels without changing the light.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from common import print_rows, write_results
from PIL import Image

import keras_condense as kc
from keras_condense.datasets import IMAGENET, PHOTOGRAPHS, examples
from keras_condense.training import compile_model

FILES, CLASSES = 1251, 10
SIDE, STEP_BATCH = 224, 8
WARM_UP = 3  # batches


def write_files(folder: pathlib.Path, files: int) -> float:
    """Write smooth images with noise, always the same ones; return their mean size in kB."""
    random, sizes = np.random.default_rng(0), []
    for number in range(files):
        path = folder / f"class{number % CLASSES}" / f"{number:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        smooth = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype="uint8"))
        smooth = np.asarray(smooth.resize((500, 375), Image.Resampling.BICUBIC), "float32")
        noisy = smooth + random.normal(0, 20, (375, 500, 1)).astype("float32")
        Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(path, quality=90)
        sizes.append(path.stat().st_size)
    return statistics.mean(sizes) / 1000


def ours(folder: pathlib.Path, batch: int, augment, resize: str = "stretch") -> Callable[[], Iterator]:
    """Epochs of `load`, whose files are decoded in each."""
    examples.IN_MEMORY_BYTES = 0
    data = kc.datasets.load(folder, image_size=SIDE, batch_size=batch, augment=augment, resize=resize, seed=0)
    return lambda: iter(data.training())


def keras_own(folder: pathlib.Path, batch: int, layers: list[keras.layers.Layer], side: int) -> Callable[[], Iterator]:
    """Epochs of Keras' reader, with layers of Keras in `tf.data`."""
    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(side, side), batch_size=batch, seed=0, verbose=False
    )

    def changed(pixels, labels):
        for layer in layers:
            pixels = layer(pixels, training=True)
        return pixels, labels

    data = images.repeat().map(changed, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return lambda: iter(data)


def training_steps() -> Callable[[], Iterator]:
    """Steps of CondenseNet-74 on noise."""
    model = kc.applications.CondenseNetImageNet74G8()
    compile_model(model, steps=1000)
    model.jit_compile = False
    random = np.random.default_rng(0)
    images = random.normal(size=(STEP_BATCH, SIDE, SIDE, 3)).astype("float32")
    labels = random.integers(0, 1000, STEP_BATCH)

    def steps():
        while True:
            model.train_on_batch(images, labels)
            yield images, labels

    return steps


def timed(begin: Callable[[], Iterator], images: int) -> tuple[float, float]:
    """Images a second, and milliseconds of all processors for each."""
    batches, seen = begin(), 0
    for _ in range(WARM_UP):
        next(batches)
    start, start_of_processors = time.perf_counter(), time.process_time()
    while seen < images:
        seen += len(next(batches)[1])
    return seen / (time.perf_counter() - start), 1000 * (time.process_time() - start_of_processors) / seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--files", type=int, default=FILES, help="default: %(default)s, one file's of ImageNet's records"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each contestant (default: %(default)s)")
    parser.add_argument("--images", type=int, default=640, help="that are timed in a round (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="of the pipelines (default: %(default)s)")
    arguments = parser.parse_args()
    normal = keras.layers.Normalization(mean=(123.7, 116.3, 103.5), variance=(3409.9, 3262.7, 3291.9))
    normal.build((None, SIDE, SIDE, 3))  # not within a pipeline, of which its constants would be a part
    mirrored = [keras.layers.RandomCrop(SIDE, SIDE, seed=0), keras.layers.RandomFlip("horizontal", seed=0), normal]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        kilobytes = write_files(folder, arguments.files)
        print(f"{arguments.files} files of {kilobytes:.0f} kB", file=sys.stderr)
        contestants = {
            "keras_condense, augment=False": ours(folder, arguments.batch, False),
            "keras_condense, augment=PHOTOGRAPHS": ours(folder, arguments.batch, PHOTOGRAPHS),
            "keras_condense, resize=photographs, augment=False": ours(folder, arguments.batch, False, "photographs"),
            "keras_condense, resize=photographs, augment=IMAGENET": ours(
                folder, arguments.batch, IMAGENET, "photographs"
            ),
            "image_dataset_from_directory": keras_own(folder, arguments.batch, [normal], SIDE),
            "image_dataset_from_directory, RandomCrop, RandomFlip": keras_own(folder, arguments.batch, mirrored, 256),
            f"training step of CondenseNet-74, G=C=8, batch {STEP_BATCH}": training_steps(),
        }
        measured = {name: [] for name in contestants}
        for _ in range(arguments.rounds):
            for name, begin in contestants.items():
                images = 4 * STEP_BATCH if name.startswith("training") else arguments.images
                measured[name].append(timed(begin, images))
                print(f"{name}: {measured[name][-1][0]:.1f} images a second", file=sys.stderr)
    rows = []
    for name, rounds in measured.items():
        speeds, processor_times = zip(*rounds, strict=True)
        rows.append(
            {
                "contestant": name,
                "images_per_second": f"{statistics.median(speeds):.1f}",
                "slowest": f"{min(speeds):.1f}",
                "fastest": f"{max(speeds):.1f}",
                "processor_ms_per_image": f"{statistics.median(processor_times):.2f}",
                "rounds": len(rounds),
                "kilobytes_per_file": "" if name.startswith("training") else f"{kilobytes:.0f}",
            }
        )
    packages = ("keras-condense", "keras", "tensorflow", "numpy", "pillow")
    path = write_results("input_pipeline", rows, threads=os.cpu_count(), packages=packages)
    print_rows(rows, f"images of {SIDE} x {SIDE}: {path}")


if __name__ == "__main__":
    main()
