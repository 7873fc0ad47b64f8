"""What every test shares: a fixed seed, repeatable hypothesis examples, and TensorFlow's log kept quiet."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before anything imports TensorFlow

import keras
import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("repeatable")


@pytest.fixture(scope="module", autouse=True)
def memory():
    """Give back what a file's models took: Keras and TensorFlow keep their functions for the whole process."""
    yield
    keras.utils.clear_session()


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


# programs that tests and `make readme` start, no modules with doctests
collect_ignore = ["backend_run.py", "readme_blocks.py"]
