"""Small data sets in the form in which TensorFlow Datasets keeps the real ones."""


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
