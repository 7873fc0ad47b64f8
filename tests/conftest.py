"""What every test shares: a fixed seed, repeatable hypothesis examples, and TensorFlow's log kept quiet."""

import gc
import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before anything imports TensorFlow
# what XLA compiles here runs a few steps: compiling it well takes longer
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker for each core
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import pytest
from hypothesis import settings

BACKEND = os.environ.get("KERAS_BACKEND")

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("repeatable")


def pytest_configure(config):
    """Import what all tests import, before warnings are errors.

    With xdist, workers run the tests: the process that starts them needs nothing of it, and they would wait for it.
    """
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        import keras_condense  # noqa: F401


def pytest_collection_modifyitems(items):
    """Files with tests that take long come first: begun last, one would leave the other workers idle at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish():
    """No module of the tests may choose a backend when it is imported: programs that later ones start would have it."""
    if os.environ.get("KERAS_BACKEND") != BACKEND:
        raise pytest.UsageError(f"A module set KERAS_BACKEND={os.environ['KERAS_BACKEND']} when it was imported.")


@pytest.fixture(scope="module", autouse=True)
def memory():
    """Give back what a file's models took: Keras and TensorFlow keep their functions for the whole process.

    What they still keep, like all that imports made, is never garbage, and looking through it again and again takes up
    to a third of the time.
    """
    gc.collect()
    gc.freeze()
    yield
    import keras

    keras.utils.clear_session()


@pytest.fixture(autouse=True)
def seed():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def benchmark_program():
    """A function that imports a program of benchmarks/ by its name, as a module of its own."""
    folder = pathlib.Path(__file__).parent.parent / "benchmarks"

    def load(name):
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


# programs that tests and `make readme` start: no modules with doctests, and some choose a backend
collect_ignore = ["readme_blocks.py"]
collect_ignore_glob = ["*_run.py"]
