"""Packaging of keras_condense; pyproject.toml holds the settings of the development tools."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent

TENSORFLOW = ["tensorflow>=2.18", "pillow>=10"]  # Pillow reads what TensorFlow does not read rightly
LITERT = ["ai-edge-litert>=1.2"]
TFDS = ["tensorflow-datasets>=4.9", "importlib_resources"]  # tfds imports the latter without declaring it
PLOT = ["matplotlib>=3.8", "pandas>=2.1"]
TENSORBOARD = ["tensorboard>=2.18"]
TFMOT = ["tf_keras>=2.18", "tensorflow-model-optimization>=0.8"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings[python]>=0.30"]


def readme() -> str:
    """README.md as a package index can show it: without pictures and links to files that are not there."""
    text = re.sub(r"<!--.*?-->\n?", "", (HERE / "README.md").read_text(encoding="utf-8"))
    text = re.sub(r"!\[[^]]*\]\((?!https?:)[^)]*\)\n+", "", text)
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]*\)", r"\1", text)


setup(
    name="keras-condense",
    version="0.1.0",
    description="Keras networks that drop most of their connections while they train, and files of them for phones",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["keras_condense", "keras_condense.*"]), "keras_condense_scripts"],
    package_dir={"keras_condense_scripts": "scripts"},
    entry_points={"console_scripts": ["keras-condense = keras_condense_scripts.main:main"]},
    package_data={
        "keras_condense": ["py.typed"],
        "keras_condense.applications": ["weights/*"],
        "keras_condense.tflite": ["targets/*.json"],
    },
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=["keras>=3.12", "numpy>=1.26", "rich>=13", "scikit-learn>=1.3"],
    extras_require={
        "tensorflow": TENSORFLOW,
        "tflite": TENSORFLOW + LITERT,
        "tfds": TFDS,
        "tflite-runtime": ["tflite-runtime>=2.14; python_version<'3.12'", "numpy<2"],
        "plot": PLOT,
        "tensorboard": TENSORFLOW + PLOT + TENSORBOARD,
        "tfmot": TENSORFLOW + TFMOT,
        "docs": DOCS,
        "reference": ["torch>=2.4", "pytorchcv>=0.0.70"],  # other implementations, for the tests that compare with them
        "test": TENSORFLOW
        + LITERT
        + TFDS
        + PLOT
        + TENSORBOARD
        + TFMOT
        + ["hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.7", "ruff>=0.6"],
    },
    keywords="keras pruning condensenet group-convolution tflite xnnpack mobile",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
