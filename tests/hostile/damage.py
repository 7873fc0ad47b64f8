"""Damaged copies of a file's bytes, the same ones for the same number."""

import random
import struct

__all__ = ["damaged"]

WORDS = (0, 1, 2, 3, 255, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 0x01010101)


def _truncated(data: bytearray, draw: random.Random) -> bytes:
    return bytes(data[: draw.randrange(len(data))])


def _flipped(data: bytearray, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def _byte(data: bytearray, draw: random.Random) -> bytes:
    data[draw.randrange(len(data))] = draw.choice((0, 1, 127, 128, 255))
    return bytes(data)


def _word(data: bytearray, draw: random.Random) -> bytes:
    at = draw.randrange(max(len(data) // 4 - 1, 1)) * 4
    data[at : at + 4] = struct.pack(draw.choice("<>") + "I", draw.choice((*WORDS, len(data), draw.getrandbits(32))))
    return bytes(data)


def _swapped(data: bytearray, draw: random.Random) -> bytes:
    size = draw.choice((1, 4, 16, 256))
    a, b = (draw.randrange(max(len(data) - size, 1)) for _ in range(2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(data)


def _zeroed(data: bytearray, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(data)), draw.choice((4, 64, 1024))
    size = min(size, len(data) - at)
    data[at : at + size] = bytes(size)
    return bytes(data)


def _repeated(data: bytearray, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(data)), draw.choice((1, 4, 64))
    return bytes(data[: at + size] + data[at : at + size] + data[at + size :])


def _without(data: bytearray, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(data)), draw.choice((1, 4, 64))
    return bytes(data[:at] + data[at + size :])


def _other_magic(data: bytearray, draw: random.Random) -> bytes:
    magic = draw.choice(
        (b"PK\3\4", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"GIF89a", b"RIFF", b"\x89HDF\r\n")
    )
    return magic + bytes(data[len(magic) :])


def _noise(data: bytearray, draw: random.Random) -> bytes:
    return bytes(data[: draw.choice((0, 8, 64))]) + draw.randbytes(draw.choice((0, 1, 100, 5000)))


_KINDS = (
    _truncated,
    _flipped,
    _flipped,
    _byte,
    _word,
    _word,
    _swapped,
    _zeroed,
    _repeated,
    _without,
    _other_magic,
    _noise,
)


def damaged(data: bytes, number: int) -> bytes:
    """Return damaged copy `number` of `data`; every kind of damage comes up in any dozen of consecutive numbers."""
    draw = random.Random(number)
    return _KINDS[number % len(_KINDS)](bytearray(data), draw)
