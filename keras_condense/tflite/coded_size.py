"""What a .tflite file weighs: as it is stored, zipped as app stores do, and under an ideal entropy coder."""

import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Iterator

import numpy as np

from keras_condense.tflite.runtime.files import load_file

__all__ = ["CodedSize", "coded_size", "entropy_bytes"]

# the number types of constants by TensorFlow Lite's numbers for them; others are taken byte by byte
_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8", 10: "float64"}


@dataclasses.dataclass(frozen=True)
class CodedSize:
    """Sizes of one file in bytes.

    Attributes:
        stored: of the file itself.
        zipped: of a zip archive of it, which is about what a phone downloads.
        entropy: of the file, were each constant tensor written by an ideal entropy coder, together with the list of its
            values, wherever that is less than to store it (Deep Compression, arXiv 1510.00149, section 4).

    Example:
        >>> print(CodedSize(stored=1000, zipped=600, entropy=400))
        1,000 bytes; zipped 600; entropy-coded 400
    """

    stored: int
    zipped: int
    entropy: int

    def __str__(self) -> str:
        return f"{self.stored:,} bytes; zipped {self.zipped:,}; entropy-coded {self.entropy:,}"


def coded_size(path_or_bytes: str | os.PathLike | bytes) -> CodedSize:
    """Say what a file of a network weighs: pruned weights and shared ones take their bytes until something codes them.

    Args:
        path_or_bytes: a .tflite file, or what `export_tflite` returned.

    Returns:
        A `CodedSize`.

    Raises:
        ValueError: no such file, or not a whole TensorFlow Lite model.

    Example:
        >>> import keras
        >>> import keras_condense as kc
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, kernel_initializer="zeros")])
        >>> size = coded_size(kc.export_tflite(model))
        >>> size.stored > 16384, size.zipped < 3000, size.entropy < 3000
        (True, True, True)
    """
    content, _ = load_file(path_or_bytes)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr("model.tflite", content)
    saved = sum(max(values.nbytes - entropy_bytes(values), 0) for values in _constants(content))
    return CodedSize(len(content), archive.tell(), len(content) - saved)


def entropy_bytes(values: np.ndarray) -> int:
    """Bytes of an array under an ideal entropy coder: Shannon's entropy of its values, and the list of them.

    Example:
        >>> entropy_bytes(np.array([0, 0, 0, 0, 0, 0, 1, 1], "int8"))  # 8 numbers of 0.81 bits, and 2 values
        3
        >>> entropy_bytes(np.zeros(1000, "float32"))
        4
    """
    found, counts = np.unique(values, return_counts=True)
    shares = counts / counts.sum()
    bits = -float(np.sum(counts * np.log2(shares)))
    return math.ceil(bits / 8 - 1e-9) + found.nbytes


def _constants(content: bytes) -> Iterator[np.ndarray]:
    """The constant tensors of a file, each buffer once."""
    from tensorflow.lite.python import schema_py_generated as schema

    model, seen = schema.Model.GetRootAs(content), set()
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            number = tensor.Buffer()
            data = model.Buffers(number)
            if number not in seen and data.DataLength():
                seen.add(number)
                kind = np.dtype(_TYPES.get(tensor.Type(), "uint8"))
                values = data.DataAsNumpy()
                yield values.view(kind) if values.nbytes % kind.itemsize == 0 else values
