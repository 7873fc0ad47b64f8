"""The same training on TensorFlow, JAX and PyTorch; the latter two with TensorFlow out of reach."""

import functools
import importlib.util
import json
import os
import pathlib

import backend_forks
import forked
import numpy as np
import pytest
from backend_forks import Program

pytestmark = pytest.mark.slow  # all of it, together


HERE = pathlib.Path(__file__).parent
PACKAGE = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
OTHERS = pytest.mark.parametrize("backend", ["jax", "torch"])


def run(backend, folder):
    """What a process of the backend leaves: of the training, and of the run. TensorFlow's is the first."""
    if importlib.util.find_spec(PACKAGE[backend]) is None:
        pytest.skip(f"{PACKAGE[backend]} is not installed")
    program = [HERE / "backend_run.py", folder]
    if backend == "tensorflow":
        code = forked.run(*program, folder=folder, output=folder / "output.txt", timeout=300)
        output = (folder / "output.txt").read_text()
    else:
        (done,) = backend_forks.run(backend, [Program(program, folder)], timeout=300)
        code, output = done.code, done.output
    assert code == 0, output
    said = json.loads(output.splitlines()[-1])
    assert said == {"backend": backend, "tensorflow": backend == "tensorflow", "tf_keras": False}
    return tuple(dict(np.load(folder / f"{name}.npz")) for name in (backend, f"{backend}-run"))


def skip_unless_tensorflow_has(path):
    if not path.exists():
        pytest.skip(f"another backend's run left no {path.name}")
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        pytest.skip("these tests run on another backend")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("backends")


@pytest.fixture(scope="module")
def left_by(folder):
    """What each backend leaves, whose process runs once."""
    left = functools.cache(functools.partial(run, folder=folder))
    left("tensorflow")
    return left


@pytest.fixture(scope="module")
def reference(left_by):
    return left_by("tensorflow")[0]


@pytest.fixture(scope="module")
def reference_run(left_by):
    return left_by("tensorflow")[1]


@pytest.mark.slow
@OTHERS
def test_training_condensing_and_files_agree(backend, left_by, reference):
    results, _ = left_by(backend)
    np.testing.assert_allclose(results["start"], reference["start"], atol=1e-5)
    np.testing.assert_allclose(results["losses"], reference["losses"], atol=1e-4)
    for name in ("stages", "connections", *(name for name in reference if name.startswith("mask/"))):
        np.testing.assert_array_equal(results[name], reference[name])
    assert len(set(reference["sensitivity"])) > 1
    np.testing.assert_array_equal(results["sensitivity"], reference["sensitivity"])
    # twelve steps of float32 sums in another order
    np.testing.assert_allclose(results["trained"], reference["trained"], atol=1e-3)
    np.testing.assert_allclose(results["distillation_losses"], reference["distillation_losses"], rtol=1e-2)
    np.testing.assert_allclose(results["taught"], reference["taught"], atol=1e-3)
    np.testing.assert_allclose(results["shared"], reference["shared"], atol=1e-3)
    for name in ("masked", "condensed"):  # saved by TensorFlow, loaded here
        np.testing.assert_allclose(results[f"foreign/{name}"], reference["trained"], atol=1e-4)


@pytest.mark.slow
@OTHERS
def test_tensorflow_loads_what_others_saved(backend, folder, reference):
    skip_unless_tensorflow_has(folder / f"{backend}.npz")
    import keras

    import keras_condense  # noqa: F401

    expected = np.load(folder / f"{backend}.npz")["trained"]
    x = np.random.default_rng(0).normal(size=(24, 6, 6, 8)).astype("float32")
    for name in ("masked", "condensed"):
        model = keras.models.load_model(folder / f"{backend}-{name}.keras", compile=False)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x, training=False)), expected, atol=1e-4)


@pytest.mark.slow
@OTHERS
def test_a_run_on_arrays_agrees_and_goes_on_elsewhere(backend, left_by, reference_run):
    _, results = left_by(backend)
    np.testing.assert_array_equal(results["draws"], reference_run["draws"])
    assert len(results["losses"]) == 14
    # the running means of the first epoch's losses; later ones amplify the float32 sums' other order
    np.testing.assert_allclose(results["losses"][:7], reference_run["losses"][:7], rtol=1e-4)
    names = [name for name in reference_run if name.startswith("mask/")]
    assert len(names) == 1
    for name in names:
        # of each group's eight inputs the fourth and the fifth differ by 5 % or more when four are dropped
        for mask in (results[name], results[f"resumed/{name}"]):
            np.testing.assert_array_equal(mask, reference_run[name])
    for trained in ("trained", "resumed/trained"):
        np.testing.assert_allclose(results[trained], reference_run["trained"], atol=2e-2)
    if backend == "jax":  # PyTorch calls the layers in every step
        assert results["traces"] == reference_run["traces"] == 1


@pytest.mark.slow
@OTHERS
def test_tensorflow_goes_on_with_what_others_began(backend, folder, reference_run):
    skip_unless_tensorflow_has(folder / f"{backend}-stopped")
    from backend_run import masks, small_condensenet

    from keras_condense import datasets
    from keras_condense.training import train

    data = datasets.load_arrays("digits", batch_size=180, image_size=8, augment=datasets.PHOTOGRAPHS)
    model = train(small_condensenet(), data, folder / f"{backend}-stopped", epochs=2, learning_rate=0.05, resume=True,
                  verbose=0)  # fmt: skip
    for name, mask in masks(model).items():
        np.testing.assert_array_equal(mask, reference_run[name])
