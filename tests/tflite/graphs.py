"""Graphs put together by hand with random weights, and what graphs compute."""

import numpy as np

from keras_condense.tflite.emission import emit
from keras_condense.tflite.frontend import explicit_padding
from keras_condense.tflite.graph import Graph, Node

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
    shapes = [node.shape for node in graph if node.op == "input"]
    assert shapes == [node.shape for node in rewritten if node.op == "input"]
    images = [random.normal(size=(1, *shape)).astype("float32") for shape in shapes]
    assert_same(computed(rewritten, images), computed(graph, images))


def operators(graph):
    """The operators of a graph in their order, without the inputs."""
    return [node.op for node in graph if node.op != "input"]


class Builder:
    """Collects nodes; each method adds one and returns its name."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes = {}

    def graph(self, *outputs):
        """The graph whose outputs are called y0, y1 ..., without what they don't need."""
        nodes = tuple(self.nodes.values())
        return Graph(nodes, {f"y{i}": name for i, name in enumerate(outputs)}).with_nodes(nodes)

    def add(self, op, inputs, shape, attributes=None, weights=None, name=None):
        name = name or f"{op}{len(self.nodes)}"
        self.nodes[name] = Node(name, op, tuple(inputs), tuple(shape), attributes or {}, weights or {})
        return name

    def shape(self, name):
        return self.nodes[name].shape

    def normal(self, *shape):
        return self.random.normal(size=shape).astype("float32")

    def input(self, *shape):
        return self.add("input", (), shape, {"dtype": "float32"})

    def convolution(self, x, filters, size=1, stride=1, groups=1, padding="same", bias=False, relu=False, name=None):
        *sizes, channels = self.shape(x)
        if isinstance(padding, str):
            padding = tuple(explicit_padding(n, size, stride, 1, padding) for n in sizes)
        shape = [(n + sum(p) - size) // stride + 1 for n, p in zip(sizes, padding, strict=True)]
        attributes = {"strides": (stride, stride), "padding": padding, "dilation": (1, 1), "groups": groups}
        weights = {"kernel": self.normal(size, size, channels // groups, filters)}
        if bias:
            weights["bias"] = self.normal(filters)
        return self.add("convolution", [x], (*shape, filters), attributes | {"relu": relu}, weights, name)

    def depthwise(self, x, bias=False, relu=False):
        weights = {"kernel": self.normal(3, 3, self.shape(x)[-1])}
        if bias:
            weights["bias"] = self.normal(self.shape(x)[-1])
        attributes = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "relu": relu}
        return self.add("depthwise", [x], self.shape(x), attributes, weights)

    def affine(self, x, relu=False, name=None):
        """A batch norm, with negative scales too."""
        channels = self.shape(x)[-1]
        scale = self.random.uniform(0.5, 1.5, channels) * self.random.choice([-1, 1], channels)
        weights = {"scale": scale.astype("float32"), "shift": self.normal(channels)}
        return self.add("affine", [x], self.shape(x), {"relu": relu}, weights, name)

    def relu(self, x):
        return self.add("relu", [x], self.shape(x))

    def hard_swish(self, x):
        return self.add("hard_swish", [x], self.shape(x))

    def index(self, x, indices):
        indices = np.asarray(indices)
        return self.add("index", [x], (*self.shape(x)[:-1], len(indices)), {}, {"indices": indices})

    def shuffle(self, x, groups):
        return self.index(x, np.arange(self.shape(x)[-1]).reshape(groups, -1).T.ravel())

    def concatenate(self, *inputs):
        return self.add("concatenate", inputs, (*self.shape(inputs[0])[:-1], sum(self.shape(x)[-1] for x in inputs)))

    def sum(self, *inputs):
        return self.add("add", inputs, self.shape(inputs[0]))

    def pad(self, x, padding=((1, 1), (1, 1))):
        *sizes, channels = self.shape(x)
        shape = (*(n + sum(p) for n, p in zip(sizes, padding, strict=True)), channels)
        return self.add("pad", [x], shape, {"padding": padding})

    def pool(self, x, size=2):
        height, width, channels = self.shape(x)
        return self.add("average_pool", [x], (height // size, width // size, channels), {"size": (size, size)})

    def mean(self, x):
        return self.add("mean", [x], self.shape(x)[-1:])

    def dense(self, x, units):
        return self.add("dense", [x], (units,), {}, {"kernel": self.normal(self.shape(x)[-1], units)})
