"""Small data sets in the form in which TensorFlow Datasets keeps the real ones."""

import io

import numpy as np
from imagenet_images import draw, encoded


def prepare(folder, title, version, features, splits, keys=("image", "label"), config=None):
    """Prepare a data set: `splits` holds the examples of each; `config` names the variant of one that has several."""
    import tensorflow_datasets as tfds

    class Prepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = title
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=keys
            )

        def _split_generators(self, manager):
            return {split: enumerate(examples) for split, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Prepared(data_dir=folder).download_and_prepare()


def prepare_cifar(folder, name, splits, classes=("a", "b")):
    """Prepare a data set of the form of cifar10, whose version it has; `splits` holds the sizes."""
    import tensorflow_datasets as tfds

    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(names=classes),
    }

    def examples(count):
        for i in range(count):
            yield {"id": str(i), "image": np.asarray(draw(32, 32, i)), "label": i % len(classes)}

    prepare(folder, name, "3.0.2", features, {split: examples(count) for split, count in splits.items()})


def prepare_imagenet(folder, name, version, splits, config=None):
    """Prepare a data set of the form of imagenet2012; `splits` holds the labels.

    Image number i is `draw(60 + i, 50, i)`, whose file name is i.
    """
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=tfds.builder("imagenet2012").info.features["label"].names),
        "file_name": tfds.features.Text(),
    }

    def examples(labels):
        for seed, label in enumerate(labels):
            yield {"image": io.BytesIO(encoded(draw(60 + seed, 50, seed))), "label": label, "file_name": str(seed)}

    prepare(
        folder, name, version, features, {split: examples(labels) for split, labels in splits.items()}, config=config
    )
