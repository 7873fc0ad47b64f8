"""CIFAR-10 by the paper's recipe: build, train, condense, export, compare.

CondenseNet-86 (section 4.1 of the paper): 300 epochs of SGD at batch 64, pad, crop and flip; groups and condense factor
4, half of the classifier's inputs. The paper reports 5.06 % test error. On two CPU cores an epoch takes about
twelve minutes; `--network CondenseNet50 --epochs 1` shows the way.

    python applications/cifar10/main.py --data-dir ~/tensorflow_datasets
    python applications/cifar10/main.py --network CondenseNet50 --epochs 1
"""

import argparse
import pathlib
import sys

import keras

import keras_condense as kc

NETWORKS = [name for name in kc.applications.__all__ if name.startswith("CondenseNet") and name[-2:].isdigit()]


def main(arguments: list[str] | None = None) -> kc.deployment.DeploymentReport:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="CondenseNet86", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--data-dir", help="where tensorflow-datasets keeps CIFAR-10; downloaded there at first")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--output", type=pathlib.Path, help="default: runs/cifar10-NETWORK")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was killed")
    settings = parser.parse_args(arguments)
    output = settings.output or pathlib.Path("runs", f"cifar10-{settings.network.lower()}")

    keras.utils.set_random_seed(settings.seed)
    data = kc.datasets.load(
        "cifar10", batch_size=settings.batch_size, data_dir=settings.data_dir, seed=settings.seed, augment=True
    )
    network = getattr(kc.applications, settings.network)
    model = kc.training.train(
        network(input_shape=data.image_shape, classes=len(data.class_names)),
        data,
        output,
        epochs=settings.epochs,
        learning_rate=0.1 * settings.batch_size / 64,
        resume=settings.resume,
        settings={"seed": settings.seed},
    )

    small = kc.condense(model)
    kc.saving.save_model(small, output / "condensed.keras")
    kc.export_tflite(small, output / "cifar10.tflite")

    report = kc.compare_deployed(model, small, output / "cifar10.tflite", *data.test_arrays())
    print(report)
    return report


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
