"""`evaluate.py` on ImageNet's images and with published weights: counted again with scikit-learn and NumPy."""

import re
import warnings

import evaluate
import keras
import numpy as np
import published
import pytest
from imagenet_images import LABELS, draw, write
from sklearn.metrics import top_k_accuracy_score
from tfds_prepared import prepare_cifar, prepare_imagenet

import keras_condense as kc
from keras_condense.applications import downloads, pretrained
from keras_condense.applications.preprocessing import IMAGENET
from keras_condense.datasets import imagenet

pytestmark = pytest.mark.slow  # all of it, together


pytest.importorskip("tensorflow_datasets")
SQUEEZENET = "SqueezeNet(version='1.1')"
DENSENET = "DenseNet(stages=(6, 6, 6), growth_rate=12, stem='cifar')"
LIKELY = [*LABELS.values(), 5, 6, 7, 8, 9]  # classes that are preferred, so that some images are right
SMALL = "Preprocessing(size=28, mean=(0.5, 0.5, 0.5), std=(0.2, 0.3, 0.4))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    write(folder / "val")
    for name, label in LABELS.items():
        for seed in range(3):
            draw(40 + seed, 50, 1000 * label + seed).save(folder / "val" / name / f"more{seed}.JPEG")
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare_imagenet(folder, "imagenet_v2", "3.0.0", {"test": [3, 998, 5]}, config="matched-frequency")
    prepare_cifar(folder, "cifar10", {"train": 10, "test": 25}, [f"class {i}" for i in range(10)])
    prepare_cifar(folder, "cifar100", {"train": 10, "test": 25}, [f"class {i}" for i in range(100)])
    return folder


def prefer_likely_classes(classifier):
    """Raise their scores above those of all others."""
    bias = np.zeros(1000)
    bias[LIKELY] = 10
    classifier.bias.assign(bias)
    classifier.kernel.assign(10 * classifier.kernel)  # so that it depends on the image which of them is first


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small network of 1000 classes as .keras and as .tflite of each kind."""
    keras.utils.set_random_seed(0)
    random = {"kernel_initializer": "random_normal"}
    model = keras.Sequential(
        [
            keras.Input((28, 28, 3)),
            keras.layers.Conv2D(16, 7, strides=7, activation="relu", **random),
            keras.layers.Flatten(),
            keras.layers.Dense(1000, activation="softmax", **random),
        ]
    )
    prefer_likely_classes(model.layers[-1])
    folder = tmp_path_factory.mktemp("files")
    model.save(folder / "float32.keras")
    data = list(np.random.default_rng(0).normal(size=(8, 1, 28, 28, 3)).astype("float32"))
    for quantize in (None, "float16", "int8"):
        path = folder / f"{quantize or 'float32'}.tflite"
        kc.export_tflite(model, path, quantize=quantize, representative_data=data if quantize == "int8" else None)
    return folder


@pytest.fixture
def untrained(monkeypatch):
    """Give published weights no file: networks stay as they were initialised. Returns the list of those built."""
    built = []

    def load(row, model, convert):
        built.append((row, model))
        if row.dataset == "imagenet":
            prefer_likely_classes([layer for layer in model.layers if layer.weights][-1])

    monkeypatch.setattr(downloads, "load", load)
    return built


def run(capsys, *argv):
    """Run the script; return its output, and the percentages of its lines by their beginnings."""
    capsys.readouterr()
    assert evaluate.main([str(argument) for argument in argv]) == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    return output, {top: float(error) for top, error in re.findall(r"^(top-\d) error +([\d.]+) %", output, re.M)}


def counted(scores, labels, top):
    """Per cent of images whose label is not among the first `top` of the scores, of equal ones the first."""
    order = np.argsort(-scores.astype("float64"), axis=1, kind="stable")[:, :top]
    return 100 * np.mean([label not in row for label, row in zip(labels, order, strict=True)])


def images_and_labels(folder, preprocessing):
    return (np.concatenate(part) for part in zip(*kc.datasets.load_evaluation(folder, preprocessing), strict=True))


def test_a_network_with_weights_beside_its_published_error(folder, untrained, capsys):
    output, errors = run(capsys, SQUEEZENET, "--weights", "imagenet", "--dataset", folder, "--batch-size", "18")
    ((row, model),) = untrained
    images, labels = images_and_labels(folder, IMAGENET)
    scores = model.predict_on_batch(images)
    for top in (1, 5):
        accuracy = top_k_accuracy_score(labels, scores, k=top, labels=range(1000))
        assert errors[f"top-{top}"] == pytest.approx(100 * (1 - accuracy), abs=0.006)
    assert 0 < errors["top-5"] < 100
    assert f"images         18 of {folder}, a folder for each class, 1,000 classes\n" in output
    assert "crop           shorter side resized to 256 (bilinear, antialiased), the middle 224x224 of it\n" in output
    assert "RGB, mean 0.485 0.456 0.406, std 0.229 0.224 0.225\n" in output
    assert re.search(r"top-1 error .* of 18\), published 39\.31 %\n", output)
    assert re.search(r"top-5 error .* of 18\), published 17\.72 %\n", output)
    assert f"for {SQUEEZENET} on ImageNet's 50,000 validation images, {row.address}\n" in output


def test_imagenet_v2_of_tensorflow_datasets(data_dir, untrained, capsys):
    output, _ = run(capsys, SQUEEZENET, "--weights", "imagenet", "--dataset", "imagenet_v2", "--data-dir", data_dir)
    assert "3 of imagenet_v2, split 'test' as imagenet_v2/matched-frequency/3.0.0, 1,000 classes\n" in output


def test_cifar_with_the_weights_own_statistics(data_dir, untrained, capsys):
    output, errors = run(capsys, DENSENET, "--weights", "cifar10", "--data-dir", data_dir)
    ((_, model),) = untrained
    pixels = np.stack([np.asarray(draw(32, 32, i)) for i in range(25)])
    images = (pixels / 255 - (0.4914, 0.4822, 0.4465)) / (0.2023, 0.1994, 0.2010)
    scores, labels = model.predict_on_batch(images.astype("float32")), np.arange(25) % 10
    for top in (1, 5):
        accuracy = top_k_accuracy_score(labels, scores, k=top, labels=range(10))
        assert errors[f"top-{top}"] == pytest.approx(100 * (1 - accuracy), abs=0.006)
    assert "mean 0.4914 0.4822 0.4465, std 0.2023 0.1994 0.201\n" in output
    assert re.search(r"top-1 error .* of 25\), published 6\.43 %\n", output)
    assert re.search(r"top-5 error .*, none published\n", output)
    assert "on the 10,000 test images of CIFAR-10, https://" in output


@pytest.mark.parametrize("name", ["float32.keras", "float32.tflite", "float16.tflite", "int8.tflite"])
def test_files_with_a_preprocessing_of_their_own(name, files, folder, capsys):
    output, errors = run(capsys, files / name, "--preprocessing", SMALL, "--dataset", folder, "--batch-size", "7")
    options = {"size": 28, "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.3, 0.4)}
    images, labels = images_and_labels(folder, kc.applications.preprocessing.Preprocessing(**options))
    if name.endswith(".keras"):
        scores = keras.models.load_model(files / name).predict(images, verbose=0)
    else:
        scores = kc.run_tflite(files / name, images)
    assert errors == {f"top-{top}": pytest.approx(counted(scores, labels, top), abs=0.006) for top in (1, 5)}
    assert 0 < errors["top-5"] < errors["top-1"] < 100
    assert "resized to 32 (bilinear, antialiased), the middle 28x28 of it" in output
    assert output.count("none published") == 2


def test_a_file_as_the_weights_it_was_made_of(folder, untrained, tmp_path, capsys):
    _, expected = run(capsys, SQUEEZENET, "--weights", "imagenet", "--dataset", folder)
    untrained[0][1].save(tmp_path / "model.keras")
    argv = [tmp_path / "model.keras", "--preprocessing", f"{SQUEEZENET}:imagenet", "--dataset", folder]
    output, errors = run(capsys, *argv)
    assert errors == expected
    assert "published 39.31 %" in output


def test_a_network_with_a_file_of_weights(data_dir, tmp_path, capsys):
    network = "CondenseNet(stages=(1,), growth_rates=(4,), stem_strides=1, classes=10)"
    kc.applications.CondenseNet((1,), (4,), stem_strides=1, classes=10).save_weights(tmp_path / "own.weights.h5")
    argv = [network, "--weights", tmp_path / "own.weights.h5", "--data-dir", data_dir]
    asked = ["--preprocessing", f"{DENSENET}:cifar10", "--dataset", "cifar10"]
    output, _ = run(capsys, *argv, *asked)
    assert "25 of cifar10, split 'test'" in output
    assert evaluate.main([str(argument) for argument in argv]) == 1
    assert "`--preprocessing` and `--dataset` must be given" in capsys.readouterr().err


def test_every_row_has_a_test_set():
    assert published.TEST_SETS.keys() == pretrained.CLASSES.keys()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["SqueezeNet"], "`--weights` must be given for 'SqueezeNet', a network of this package"),
        (
            ["SqueezeNet", "--weights", "cifar10"],
            r"names the weights 'cifar10' of SqueezeNet, and there are 'imagenet'",
        ),
        (["SparseDenseNet40", "--weights", "cifar10"], "and there are none of it with these arguments"),
        (["SqueezeNet(version='1.2')", "--weights", "imagenet"], "and there are none of it with these arguments"),
        (
            ["SqueezeNet(groups=2)", "--weights", "imagenet"],
            "has the argument 'groups', which SqueezeNet does not take",
        ),
        (["SqueezeNet(weights='x')", "--weights", "imagenet"], "has the argument 'weights', which SqueezeNet does not"),
        (["SqueezeNet('1.1')", "--weights", "imagenet"], "must be a name, or a name and arguments in brackets"),
        (["SqueezeNet(version=print())", "--weights", "imagenet"], "must be a name, or a name and arguments in"),
        (["SqueezeNet(**{})", "--weights", "imagenet"], "must be a name, or a name and arguments in brackets"),
        (["SqueezeNet(", "--weights", "imagenet"], "must be a name, or a name and arguments in brackets"),
        (["SqueezeNit", "--weights", "imagenet"], "must be a name in keras_condense.applications"),
        (["model.keras", "--weights", "imagenet"], "must be a name, or a name and arguments in brackets"),
        (["SqueezeNet", "--weights", "no/such.h5"], "names the weights 'no/such.h5' of SqueezeNet"),
        (["SqueezeNet", "--weights", "imagenet", "--preprocessing", SMALL], "must be left out with --weights"),
        (["SqueezeNet", "--weights", "imagenet", "--image-size", "224"], "`--image-size` (=(224,)) must be left out"),
        ([DENSENET, "--weights", "cifar10", "--dataset", "svhn_cropped"], "must be 'cifar10' or an .npz file of it"),
        ([DENSENET, "--weights", "cifar10", "--dataset", "digits"], "must be 'cifar10' or an .npz file of it"),
        (["SqueezeNet", "--weights", "imagenet", "--dataset", "digits"], "must have the 1000 classes of the weights"),
        (["float32.keras", "--preprocessing", SMALL], "`--preprocessing` and `--dataset` must be given"),
        (
            ["CondenseNet", "--weights", "float32.keras", "--preprocessing", SMALL, "--dataset", "digits"],
            "must have the arguments stages, growth_rates, which CondenseNet has no default for",
        ),
        (["float32.keras", "--dataset", "~nosuchuser/x"], "must be 'digits', an .npz file"),
        (["float32.keras", "--dataset", "x", "--preprocessing", "imagenet"], "of its weights with a colon between"),
        (["float32.keras", "--dataset", "x", "--preprocessing", "SqueezeNet:cifar10"], "names the weights 'cifar10'"),
        (
            ["float32.keras", "--dataset", "x", "--preprocessing", "Preprocessing(size=3)"],
            "of which size, mean and std",
        ),
        (["float32.keras", "--dataset", "x", "--preprocessing", SMALL[:-1] + ", sizes=2)"], "of which size, mean and"),
        (["float32.keras", "--dataset", "x", "--preprocessing", SMALL.replace("28", "0")], "`size` (=0) must be"),
        (["float32.keras", "--dataset", "imagenet_v2"], "`--preprocessing` must be given for 'float32.keras' on"),
        (["float32.tflite", "--dataset", "imagenet2012"], "a file does not say how its images were cropped"),
        (["missing.keras", "--dataset", "x", "--preprocessing", SMALL], "must be an existing file"),
        (["missing.tflite", "--dataset", "x", "--preprocessing", SMALL], "must be an existing file"),
        (["float32.keras", "--dataset", "imagenet_v3", "--preprocessing", SMALL], "a name of TensorFlow Datasets or"),
        (["float32.keras", "--dataset", "FOLDER", "--preprocessing", "SqueezeNet:imagenet"], "takes images of (28, 28"),
        (
            ["float32.tflite", "--dataset", "FOLDER", "--preprocessing", "SqueezeNet:imagenet"],
            "the model expects (rows",
        ),
        (["float32.keras", "--dataset", "digits", "--preprocessing", SMALL], "and the data set has 10 classes"),
    ],
)
def test_what_is_refused(argv, message, files, folder, fails, monkeypatch):
    monkeypatch.chdir(files)
    assert message in fails(evaluate.main, *(folder if argument == "FOLDER" else argument for argument in argv))


def test_all_classes_in_folders_ask_for_the_preprocessing(files, tmp_path, fails):
    for name in imagenet.imagenet_classes():
        (tmp_path / "val" / name).mkdir(parents=True)
    for path in (tmp_path, tmp_path / "val"):
        message = fails(evaluate.main, files / "float32.keras", "--dataset", path)
        assert "`--preprocessing` must be given" in message


def test_classes_in_another_order(files, tmp_path, fails, monkeypatch):
    names = imagenet.imagenet_classes()[::-1]
    data = kc.datasets.load_evaluation("digits", IMAGENET)
    object.__setattr__(data, "class_names", names)
    monkeypatch.setattr(kc.datasets, "load_evaluation", lambda *_args, **_kwargs: data)
    keras.Sequential([keras.Input((224, 224, 3)), keras.layers.Flatten()]).save(tmp_path / "model.keras")
    argv = ["--preprocessing", "SqueezeNet:imagenet", "--dataset", "other"]
    message = fails(evaluate.main, tmp_path / "model.keras", *argv)
    assert "must number ImageNet's classes as the weights do" in message


@pytest.mark.parametrize("kind", ["vectors", "two inputs", "never built"])
def test_models_of_other_inputs(kind, tmp_path, fails):
    if kind == "vectors":
        model, found = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)]), "(None, 784)"
    elif kind == "two inputs":
        images = [keras.Input((8, 8, 1), name=name) for name in "ab"]
        model, found = keras.Model(images, keras.layers.Flatten()(keras.layers.Add()(images))), "(None, 8, 8, 1)"
    else:
        model, found = keras.Sequential([keras.layers.Flatten()]), "inputs of no known shape"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of one that was never built
        model.save(tmp_path / "model.keras")
    message = fails(evaluate.main, tmp_path / "model.keras")
    assert "must take one image (height, width, channels), and takes" in message
    assert found in message


def test_parts_of_imagenet_under_other_names(files, fails, monkeypatch):
    data = kc.datasets.load("digits", image_size=28, channels=3)
    object.__setattr__(data, "class_names", imagenet.imagenet_classes())
    monkeypatch.setattr(kc.datasets, "load", lambda *_args, **_kwargs: data)
    message = fails(evaluate.main, files / "float32.keras", "--dataset", "imagenet2012_subset")
    assert "`--preprocessing` must be given" in message


def test_a_name_of_weights_goes_before_a_folder_of_that_name(data_dir, untrained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    output, _ = run(capsys, DENSENET, "--weights", "cifar10", "--data-dir", data_dir)
    assert "published 6.43 %" in output


def test_weights_of_this_package(data_dir, capsys):
    output, _ = run(capsys, "CondenseNet50", "--weights", "cifar10", "--data-dir", data_dir)
    assert re.search(r"top-1 error .* of 25\), 6\.99 % when it was packaged\n", output)
    assert re.search(r"weights        of CondenseNet50, \S+condensenet50-cifar10\.weights\.h5\n", output)
    assert "published      for" not in output


@pytest.mark.parametrize("kind", ["not finite", "two outputs"])
def test_models_that_can_t_be_evaluated(kind, folder, tmp_path, fails):
    image = keras.Input((28, 28, 3))
    scores = keras.layers.Dense(1000)(keras.layers.GlobalAveragePooling2D()(image))
    if kind == "two outputs":
        model, message = keras.Model(image, [scores, scores]), "`model` gives 2 outputs"
    else:
        model, message = keras.Model(image, scores), "`MODEL` gives scores that are NaN or infinite"
        model.set_weights([np.full(weight.shape, np.nan) for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    assert message in fails(evaluate.main, tmp_path / "model.keras", "--preprocessing", SMALL, "--dataset", folder)


def test_a_broken_image_is_one_line(files, tmp_path, fails):
    write(tmp_path / "val")
    (tmp_path / "val" / "n01440764" / "broken.JPEG").write_bytes(b"no image")
    message = fails(evaluate.main, files / "float32.keras", "--preprocessing", SMALL, "--dataset", tmp_path)
    assert "broken.JPEG' (8 bytes) must be an image that can be decoded" in message
