"""Graphs put together by hand with random weights, and what graphs compute."""

import dataclasses

import numpy as np

from keras_condense.tflite import operators as ops
from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.passes import CHANNELS_LAST, SIMPLIFYING, run_all
from keras_condense.tflite.schemes import FLOAT32
from keras_condense.tflite.targets import targets
from keras_condense.tflite.tracing import emit

ARM64, X86_64 = targets()["arm64"], targets()["x86_64"]

# the same sums in another order, in float32
TOLERANCE = 1e-5


def computed(graph, images):
    """The outputs of a graph by name, as TensorFlow computes them."""
    return {name: np.asarray(value) for name, value in emit(graph, images).items()}


def assert_same(actual, expected):
    """Whether two dicts of outputs agree, relative to the largest expected value of each."""
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        assert np.isfinite(value).all()
        assert np.abs(actual[name] - value).max() <= TOLERANCE * np.abs(value).max(), name


def assert_equivalent(rewritten, graph, seed=0):
    """Whether two graphs compute the same from random images."""
    random = np.random.default_rng(seed)
    shapes = [node.shape for node in graph.inputs]
    assert shapes == [node.shape for node in rewritten.inputs]
    images = [random.normal(size=(1, *shape)).astype("float32") for shape in shapes]
    assert_same(computed(rewritten, images), computed(graph, images))


def operators(graph):
    """The kinds of operators of a graph in their order, without the inputs."""
    return [node.op.kind for node in graph if node.inputs]


def simplify(graph):
    """A graph after all simplifying passes."""
    return run_all(SIMPLIFYING, graph, ARM64, FLOAT32)


def lower_channels_last(graph, target=ARM64, scheme=FLOAT32):
    """A graph after all passes that channels last asks for."""
    return run_all(CHANNELS_LAST, graph, target, scheme)


def only(each, graph, target=ARM64, scheme=FLOAT32):
    """A graph after one pass."""
    return each.run(graph, target, scheme)


def with_costs(costs, target=ARM64):
    """A target on which some kinds of operators cost something else."""
    return dataclasses.replace(target, costs={"float32": {**target.costs["float32"], **costs}})


# a depthwise convolution that costs nothing is always chosen, and one that costs much never
FREE_WINDOWS = with_costs({"depthwise": {}, "convolution": {}, "add": {}})
DEAR_WINDOWS = with_costs({"depthwise": {"outputs": 1e6}})


def copied(op):
    """An operator's attributes, arrays copied, to be compared later."""
    values = {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def assert_unchanged(rewritten, graph):
    assert [(node.name, node.op.kind, node.inputs) for node in rewritten] == [
        (node.name, node.op.kind, node.inputs) for node in graph
    ]


class Builder:
    """Collects nodes; each method adds one and returns its name."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes = {}

    def graph(self, *outputs):
        """The graph whose outputs are called y0, y1 ..., without what they don't need."""
        nodes = tuple(self.nodes.values())
        return Graph(nodes, {f"y{i}": name for i, name in enumerate(outputs)}).with_nodes(nodes)

    def add(self, op, inputs, shape, name=None):
        name = name or f"{op.kind}{len(self.nodes)}"
        self.nodes[name] = Node(name, op, tuple(inputs), tuple(shape), name)
        return name

    def shape(self, name):
        return self.nodes[name].shape

    def normal(self, *shape):
        return self.random.normal(size=shape).astype("float32")

    def input(self, *shape):
        return self.add(ops.Input(), (), shape)

    def convolution(
        self, x, filters, size=1, stride=1, groups=1, padding="same", bias=False, relu=False, name=None, dilation=1
    ):
        *sizes, channels = self.shape(x)
        if isinstance(padding, str):
            padding = tuple(ops.explicit_padding(n, size, stride, dilation, padding) for n in sizes)
        span = (size - 1) * dilation + 1
        shape = [(n + sum(p) - span) // stride + 1 for n, p in zip(sizes, padding, strict=True)]
        op = ops.Convolution(
            self.normal(size, size, channels // groups, filters),
            self.normal(filters) if bias else None,
            relu,
            strides=(stride, stride),
            padding=padding,
            dilation=(dilation, dilation),
            groups=groups,
        )
        return self.add(op, [x], (*shape, filters), name)

    def depthwise(self, x, bias=False, relu=False):
        channels = self.shape(x)[-1]
        kernel = self.normal(3, 3, channels)
        op = ops.Depthwise(kernel, self.normal(channels) if bias else None, relu, padding=ops.PAD_ONE)
        return self.add(op, [x], self.shape(x))

    def affine(self, x, relu=False, name=None):
        """A batch norm, with negative scales too."""
        channels = self.shape(x)[-1]
        scale = self.random.uniform(0.5, 1.5, channels) * self.random.choice([-1, 1], channels)
        return self.add(ops.Affine(scale.astype("float32"), self.normal(channels), relu), [x], self.shape(x), name)

    def relu(self, x):
        return self.add(ops.Relu(), [x], self.shape(x))

    def hard_swish(self, x):
        return self.add(ops.HardSwish(), [x], self.shape(x))

    def index(self, x, indices):
        indices = np.asarray(indices)
        return self.add(ops.PickChannels(indices), [x], (*self.shape(x)[:-1], len(indices)))

    def shuffle(self, x, groups):
        return self.index(x, np.arange(self.shape(x)[-1]).reshape(groups, -1).T.ravel())

    def concatenate(self, *inputs):
        shape = (*self.shape(inputs[0])[:-1], sum(self.shape(x)[-1] for x in inputs))
        return self.add(ops.ConcatenateChannels(), inputs, shape)

    def sum(self, *inputs):
        return self.add(ops.Add(), inputs, self.shape(inputs[0]))

    def pad(self, x, padding=((1, 1), (1, 1))):
        *sizes, channels = self.shape(x)
        shape = (*(n + sum(p) for n, p in zip(sizes, padding, strict=True)), channels)
        return self.add(ops.Pad(padding), [x], shape)

    def pool(self, x, size=2):
        height, width, channels = self.shape(x)
        return self.add(ops.AveragePool((size, size)), [x], (height // size, width // size, channels))

    def mean(self, x):
        return self.add(ops.Mean(), [x], self.shape(x)[-1:])

    def dense(self, x, units):
        return self.add(ops.Dense(self.normal(self.shape(x)[-1], units)), [x], (units,))
