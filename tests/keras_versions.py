"""Marks of tests of what older versions of Keras do not have."""

import keras
import pytest

INSTALLED = tuple(map(int, keras.__version__.split(".")[:2]))


def since_keras(version: str, older: str) -> pytest.MarkDecorator:
    """Skip on a Keras before `version`, which `older` says something of."""
    wanted = tuple(map(int, version.split(".")))
    return pytest.mark.skipif(wanted > INSTALLED, reason=f"Keras before {version} {older}")


unread_inputs = since_keras("3.14", "takes no inputs that nothing reads")
