"""TensorFlow Lite metadata: labels and normalization as Android's task library and ML Kit read them from a file.

The field's own writers can't be had beside this TensorFlow: that of tflite-support wants protobuf 3, and MediaPipe's
lacks a part that it imports. So the few tables of tflite-support's metadata_schema.fbs that a classifier of images
needs are written here, by field number.
"""

import dataclasses
import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from keras_condense.cards import Card, write_card

__all__ = ["LABELS", "with_card"]

LABELS = "labels.txt"  # what the archive behind a file calls them
_NAME, _IDENTIFIER, _PARSER = "TFLITE_METADATA", b"M001", "1.0.0"
_AXIS_LABELS, _NORMALIZATION, _IMAGE = 2, 1, 2  # of AssociatedFileType, ProcessUnitOptions, ContentProperties
_COLORS = {1: 2, 3: 1}  # ColorSpaceType by channels: gray, RGB
_ALIGNMENT = 16  # bytes; weights lie at multiples of it, as the converter put them


def with_card(content: bytes, card: Card, name: str = "", inside: bool = False) -> bytes:
    """A .tflite file that says what it takes and gives.

    Args:
        content: the file, of one image and one vector of scores.
        card: what it takes and gives.
        name: of the network.
        inside: whether normalization became part of the network, which then takes pixels as they are.

    Returns:
        The file with metadata, and behind it an archive of `labels.txt` and the card.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    class Aligned(flatbuffers.Builder):
        """Puts vectors of bytes, weights among them, where processors read them fastest."""

        def StartVector(self, elemSize, numElems, alignment):
            return super().StartVector(elemSize, numElems, max(alignment, _ALIGNMENT if elemSize == 1 else 1))

    inside = inside or card.takes_pixels
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    buffer = schema.BufferT()
    buffer.data = list(_metadata(card, name, inside))
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = Aligned(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    file = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{label}\n" for label in card.class_names))
        write_card(archive, dataclasses.replace(card.for_others(), takes_pixels=inside))
    return file.getvalue()


def _metadata(card: Card, name: str, inside: bool) -> bytes:
    """The tables `ModelMetadata` and those below it."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    height, width, channels = card.image_shape
    # (pixels - mean) / std, of pixels from 0 to 255
    mean = [0.0] if inside else [255 * value for value in card.mean]
    std = [1.0] if inside else [255 * value for value in card.std]
    lowest, highest = (([(pixel - m) / s for m, s in zip(mean, std, strict=True)]) for pixel in (0, 255))
    normalization = _table(builder, 2, {0: _floats(builder, mean), 1: _floats(builder, std)})
    unit = _table(builder, 2, {0: (_NORMALIZATION, builder.PrependUint8Slot), 1: normalization})
    size = _table(builder, 2, {0: (width, builder.PrependUint32Slot), 1: (height, builder.PrependUint32Slot)})
    image = _table(builder, 2, {0: (_COLORS[channels], builder.PrependInt8Slot), 1: size})
    content = _table(builder, 3, {0: (_IMAGE, builder.PrependUint8Slot), 1: image})
    stats = _table(builder, 2, {0: _floats(builder, highest), 1: _floats(builder, lowest)})
    described = "pixels from 0 to 255" if inside else "pixels, less the mean and divided by the standard deviation"
    taken = {
        0: builder.CreateString("image"),
        1: builder.CreateString(described),
        3: content,
        4: _tables(builder, [unit]),
        5: stats,
    }
    taken = _table(builder, 7, taken)
    labels = {
        0: builder.CreateString(LABELS),
        1: builder.CreateString("a class for each score"),
        2: (_AXIS_LABELS, builder.PrependInt8Slot),
    }
    labels = _table(builder, 5, labels)
    given = {
        0: builder.CreateString("scores"),
        1: builder.CreateString("of each class"),
        6: _tables(builder, [labels]),
    }
    given = _table(builder, 7, given)
    subgraph = _table(builder, 10, {2: _tables(builder, [taken]), 3: _tables(builder, [given])})
    whole = {
        0: builder.CreateString(name),
        3: _tables(builder, [subgraph]),
        7: builder.CreateString(_PARSER),
    }
    builder.Finish(_table(builder, 8, whole), _IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, fields: int, values: dict[int, int | tuple[int, Callable]]) -> int:
    """A table of so many fields; a value is an offset, or a number and what writes it."""
    builder.StartObject(fields)
    for field, value in values.items():
        number, write = value if isinstance(value, tuple) else (value, builder.PrependUOffsetTRelativeSlot)
        write(field, number, 0)
    return builder.EndObject()


def _tables(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()
