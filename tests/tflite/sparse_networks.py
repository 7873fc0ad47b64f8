"""Networks with a beginning that can be sparse, and what is asked of every end."""

import pytest
from graphs import ARM64, Builder, assert_equivalent, simplify

from keras_condense.tflite.passes import sparse
from keras_condense.tflite.runtime import native_output_logged, run_tflite
from keras_condense.tflite.schemes import FLOAT32
from keras_condense.tflite.tracing import emit

tf = pytest.importorskip("tensorflow")


def stem(b, size=16, filters=8, **arguments):
    return b.convolution(b.input(size, size, 3), filters, 3, 2, padding=((1, 1), (1, 1)), **arguments)


def sparse_stem(b, size=16, filters=8):
    """What begins a part, and a convolution whose zeros can be skipped."""
    return b.convolution(stem(b, size, filters), filters, groups=4)


def layer(b, x, growth, groups, factor, bottleneck=4, indices=None, bias=False):
    """What `condense` makes of one layer, before the concatenation."""
    channels, middle = b.shape(x)[-1], bottleneck * growth
    if indices is None:
        indices = b.random.integers(0, channels, max(channels // factor, 1) * groups)
    y = b.affine(b.index(x, indices), relu=True)
    y = b.affine(b.shuffle(b.convolution(y, middle, groups=groups, bias=bias), groups), relu=True)
    return b.convolution(y, growth, 3, groups=groups, bias=bias)


def network(size=16, blocks=((2, 8), (1, 8)), groups=4, factor=4, bottleneck=4, bias=False, seed=0):
    b = Builder(seed)
    x = stem(b, size, 2 * blocks[0][1], bias=bias)
    for number, (count, growth) in enumerate(blocks):
        if number:
            x = b.pool(x)
        for _ in range(count):
            x = b.concatenate(x, layer(b, x, growth, groups, factor, bottleneck, bias=bias))
    return b.graph(b.dense(b.mean(b.affine(x, relu=True)), 5))


def ends(graph):
    """The kinds of operators, or names, where parts of a graph may end."""
    return [end for region in sparse.regions(graph) for end in region.ends]


def written(graph, target=ARM64):
    """For each part of a simplified graph and each of its ends, the graph with that part written."""
    for region in sparse.regions(graph):
        for end in region.ends:
            yield end, sparse.run(graph, region, end, target, FLOAT32)


def assert_every_end_equivalent(graph, count=None):
    """Write each part up to each of its ends and compare; gives the graphs."""
    graph, lowered = simplify(graph), []
    for end, other in written(graph):
        assert other is not graph, end
        assert_equivalent(other, graph)
        left = other.by_name().get(end)  # a vector in order has the name of its mean's rows
        assert left is None or left.shape == graph[end].shape
        lowered.append(other)
    assert lowered
    assert count is None or len(lowered) == count
    return lowered


def executed(graph, image):
    """What the interpreter computes from a converted graph."""
    converter_input = tf.TensorSpec(image.shape, "float32", "image")
    module = tf.Module()
    module.serve = tf.function(lambda x: emit(graph, [x]), input_signature=[converter_input], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    with native_output_logged():
        content = converter.convert()
    return run_tflite(content, image)


def end(b, x):
    return b.graph(b.mean(x))
