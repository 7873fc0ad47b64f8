"""Weights written as few values: k-means of a kernel (Deep Compression, arXiv 1510.00149, section 3)."""

import warnings
from typing import Any

import numpy as np

from keras_condense.validation import as_index, shown

__all__ = ["LARGEST_SAMPLE", "check_bits", "clustered", "codebook_of"]

# of larger kernels, so many weights are drawn for k-means: the means of 256 clusters of a million hardly move any more
LARGEST_SAMPLE = 2**18
_LARGEST_WHOLE = 2**20


def check_bits(name: str, bits: Any) -> int:
    """`bits` if a codebook can have so many."""
    number = as_index(bits)
    if number is None or isinstance(bits, bool) or not 1 <= number <= 8:
        raise ValueError(
            f"`{name}` (={shown(bits)}) must be an integer from 1 to 8. Use 5 for at most 32 different weights in a "
            "layer."
        )
    return number


def codebook_of(kernel: np.ndarray, bits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, bool]:
    """The few values that stand for a kernel's weights, by k-means that begins with equal steps from least to greatest.

    The paper found this beginning the best (section 3.2), for it keeps large weights. A kernel that holds a zero keeps
    all of its zeros: 0 is then one of the values, whose cluster nothing else joins. Kernels of more than 2**20 weights
    are clustered by a sample of 2**18, and each weight then takes the nearest value. A kernel of no more different
    weights than values is kept as it is.

    Args:
        kernel: finite weights of any shape.
        bits: at most 2**bits values.
        seed: of the sample.

    Returns:
        The values, ascending, float32 and without the zero that is kept; for each weight the index of its value, in
        [0, len(values)), uint8 and of the kernel's shape; and whether a zero is kept, whose index is 0 then, and those
        of the others one more.

    Example:
        >>> values, indices, zero = codebook_of(np.array([0.0, 0.9, 1.1, -2.0, 0.0]), bits=2)
        >>> values, indices, zero
        (array([-2. ,  0.9,  1.1], dtype=float32), array([0, 2, 3, 1, 0], dtype=uint8), True)
    """
    kernel = np.asarray(kernel, "float32")
    zero = bool((kernel == 0).any())
    weights = kernel[kernel != 0]
    indices = np.zeros(kernel.shape, "uint8")
    if not weights.size:
        return np.zeros(1, "float32"), indices, zero  # of which no weight makes use
    values, of_weights = _clusters(weights, 2**bits - zero, seed)
    indices[kernel != 0] = of_weights + zero
    return values, indices, zero


def clustered(kernel: np.ndarray, bits: int, seed: int = 0) -> np.ndarray:
    """A kernel whose weights are replaced by the values that `codebook_of` finds for them, float32.

    Example:
        >>> clustered(np.array([0.9, 1.1, -2.0]), bits=1)
        array([ 1.,  1., -2.], dtype=float32)
    """
    values, indices, zero = codebook_of(kernel, bits, seed)
    return np.concatenate([np.zeros(int(zero), "float32"), values])[indices]


def _clusters(weights: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values in ascending order, and the number of each weight's."""
    different, numbers = np.unique(weights, return_inverse=True)
    if len(different) <= count:
        return different, numbers.astype("uint8")
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    # k-means in float64, for the mean of many float32 weights
    points = weights.astype("float64")[:, None]
    sample = points
    if len(points) > _LARGEST_WHOLE:
        sample = np.random.default_rng(seed).choice(points, LARGEST_SAMPLE, replace=False)
    start = np.linspace(different[0], different[-1], count)[:, None].astype("float64")
    # in one thread, for several add up in the order in which they end, and the last bits then change from run to run
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cluster may stay empty, and is left out
        means = KMeans(count, init=start, n_init=1).fit(sample)
        numbers = means.labels_ if sample is points else means.predict(points)
    values = means.cluster_centers_[:, 0]
    used, numbers = np.unique(numbers, return_inverse=True)
    order = np.argsort(values[used])
    places = np.empty(len(used), "uint8")
    places[order] = np.arange(len(used))
    return values[used][order].astype("float32"), places[numbers.reshape(-1)]
