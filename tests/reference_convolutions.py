"""A convolution from its definition, and the arguments that tests of convolutions try."""

import numpy as np


def reference_convolution(images, kernel, strides, padding, dilation, groups):
    """A grouped convolution as loops over positions, from the definition."""
    batch, height, width, _ = images.shape
    kh, kw, per_group, filters = kernel.shape
    pads, sizes = [], []
    for size, k, stride, rate in zip((height, width), (kh, kw), strides, dilation, strict=True):
        span = (k - 1) * rate + 1
        if padding == "same":
            out = (size + stride - 1) // stride
            total = max((out - 1) * stride + span - size, 0)
            pads.append((total // 2, total - total // 2))
        else:
            out = (size - span) // stride + 1
            pads.append((0, 0))
        sizes.append(out)
    padded = np.pad(images.astype("float64"), ((0, 0), *pads, (0, 0)))
    outputs = np.zeros((batch, *sizes, filters))
    for f in range(filters):
        first = (f // (filters // groups)) * per_group
        for y in range(sizes[0]):
            for x in range(sizes[1]):
                for i in range(kh):
                    for j in range(kw):
                        pixel = padded[:, y * strides[0] + i * dilation[0], x * strides[1] + j * dilation[1]]
                        outputs[:, y, x, f] += pixel[:, first : first + per_group] @ kernel[i, j, :, f]
    return outputs


CONVOLUTIONS = [
    # kernel, strides, padding, dilation
    (1, 1, "valid", 1),
    (1, 2, "same", 1),
    (3, 1, "same", 1),
    (3, 2, "same", 1),
    (3, 2, "valid", 1),
    (3, 1, "valid", 2),
    (3, 1, "same", 3),
    ((2, 4), (1, 2), "same", 1),
    ((1, 3), 1, "same", (1, 2)),
    (2, (2, 1), "valid", 1),
]


def pair(value):
    return value if isinstance(value, tuple) else (value, value)
