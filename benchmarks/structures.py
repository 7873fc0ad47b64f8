"""Which grouping suits a processor and which learns: CondenseNets of equal multiply-adds, trained alike on CIFAR-10.

The paper's structure (arXiv:1711.09224) has few filters a group, and layers on the largest images. Each other row of
`STRUCTURES` changes that, and has as many layers as bring its multiply-adds, condensed, to within 3 % of the paper's.
All are trained by the recipe "short" with the same seeds; test images are looked at once, after the training.
Instructions are those of `export_tflite`'s file, counted where a counter is given.

A run that was stopped goes on where it was; every finished one is added to structures.csv at once, and what stands
there for the same settings is not run again, but for the instructions of rows that have none where there is a counter.

    python benchmarks/structures.py --counter "python arm_cost.py count"
    python benchmarks/structures.py --seeds 1 --first-seed 1 --threads 1
"""

import argparse
import os
import pathlib
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from common import RESULTS, ROOT, conditions, print_rows, read_rows, write_rows
from operator_costs import counted

import keras_condense as kc
from keras_condense.training import train

SMALL, WIDE = (8, 16, 32), (16, 32, 64)
STRUCTURES = {
    "the paper's": {"stages": (4, 4, 4), "growth_rates": SMALL},
    "bottleneck 2": {"stages": (6, 8, 6), "growth_rates": SMALL, "bottleneck_factor": 2},
    "one group for the 1x1": {
        "stages": (6, 8, 6), "growth_rates": SMALL, "bottleneck_factor": 2, "groups": 1, "window_groups": 4,
    },
    "one group, stem strides 2": {
        "stages": (6, 8, 6), "growth_rates": WIDE, "bottleneck_factor": 2, "groups": 1, "window_groups": 4,
        "stem_strides": 2,
    },
}  # fmt: skip
RECIPE = "short"
PACKAGES = ("keras-condense", "keras", "tensorflow", "ai-edge-litert")


def built(name: str, image_size: int, seed: int) -> keras.Model:
    """A network before its first step; its weights follow from the seed alone."""
    keras.utils.set_random_seed(seed)
    arguments = {"stem_strides": 1, "condense_factor": 4} | STRUCTURES[name]
    return kc.applications.CondenseNet(**arguments, input_shape=(image_size, image_size, 3), classes=10)


def million_instructions(model: keras.Model, counter: str | None) -> str:
    if counter is None:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.tflite")
        kc.export_tflite(model, path)
        return f"{counted(counter, path) / 1e6:.2f}"


def run(name: str, seed: int, arguments: argparse.Namespace) -> dict:
    """Train, or go on training, and give the row's figures."""
    data = kc.datasets.load_arrays(
        "cifar10",
        image_size=arguments.image_size,
        augment=kc.datasets.Augmentation(pad=arguments.image_size // 8, flip=True),
        seed=seed,
        data_dir=arguments.data_dir,
    )
    model = built(name, arguments.image_size, seed)
    called = f"{name.replace(' ', '_')}_{arguments.image_size}px_{arguments.epochs}_seed{seed}"
    folder = arguments.runs / "".join(letter for letter in called if letter.isalnum() or letter == "_")
    model = train(
        model,
        data,
        folder,
        recipe=RECIPE,
        epochs=arguments.epochs,
        seed=seed,
        resume=True,
        validate=False,  # or test images would be looked at
        verbose=2,
    )
    small = kc.condense(model)
    small.compile(metrics=["accuracy"], loss="sparse_categorical_crossentropy")
    accuracy = small.evaluate(data.normalize(data.test_images), data.test_labels, verbose=0, return_dict=True)
    profile = kc.profile_model(small)
    return {
        "macs": profile.macs,
        "parameters": profile.parameters,
        "test_error": f"{100 * (1 - accuracy['accuracy']):.2f}",
        "million_instructions": million_instructions(small, arguments.counter),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="of tensorflow-datasets (default: ~/tensorflow_datasets)")
    parser.add_argument("--image-size", type=int, default=24, help="sides in pixels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="they go on from it (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--counter", help="command that counts instructions, see operator_costs.py; left out without")
    parser.add_argument("--runs", type=pathlib.Path, default=ROOT / "runs" / "structures", help="of the checkpoints")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "structures.csv")
    arguments = parser.parse_args()
    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    macs = [kc.profile_model(kc.condense(built(name, 24, 0), finish=True)).macs for name in STRUCTURES]
    if max(macs) > 1.03 * min(macs):
        raise RuntimeError(f"the structures must be equal in multiply-adds to within 3 %, and have {macs}")
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name in STRUCTURES:
            key = {
                "structure": name,
                "seed": str(seed),
                "image_size": str(arguments.image_size),
                "recipe": RECIPE,
                "epochs": str(arguments.epochs),
            }
            done = [row for row in read_rows(arguments.output) if row.items() >= key.items()]
            if done and (done[0]["million_instructions"] or not arguments.counter):
                continue
            keras.utils.clear_session()
            row = key | run(name, seed, arguments)
            row |= conditions(threads=arguments.threads or os.cpu_count(), packages=PACKAGES)
            others = [other for other in read_rows(arguments.output) if other not in done]
            write_rows(arguments.output, [*others, row])
    print_rows(read_rows(arguments.output), str(arguments.output), width=180)


if __name__ == "__main__":
    main()
