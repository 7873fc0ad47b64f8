"""Graphs: order, names, who reads what, and what a rewriting may leave behind."""

import numpy as np
import pytest
from graphs import Builder

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Affine, Input, Relu


def chain(*names):
    """A graph in which each node reads the one before it."""
    nodes = [Node(name, Relu() if i else Input(), names[i - 1 : i] if i else (), (4,)) for i, name in enumerate(names)]
    return Graph(tuple(nodes), {"y": names[-1]})


def test_with_op_leaves_the_original_alone():
    node = Node("a", Affine(np.ones(2), np.zeros(2)), ("x",), (4, 4, 2), "norm")
    other = node.with_op(relu=True, shift=np.ones(2)).replace(inputs=("z",))
    assert (other.op.relu, other.op.shift.sum(), other.op.scale.sum(), other.inputs) == (True, 2, 2, ("z",))
    assert (node.op.relu, node.op.shift.sum(), node.inputs) == (False, 0, ("x",))
    assert (other.layer, other.channels, other.is_image) == ("norm", 2, True)
    with pytest.raises(TypeError, match="kernel"):
        node.with_op(kernel=1)


def test_refuses_a_name_that_is_taken():
    with pytest.raises(ValueError, match=r"'a' must have a name of its own.*its name is taken"):
        Graph((Node("a", Input(), (), (4,)), Node("a", Relu(), ("a",), (4,))), {})


def test_refuses_a_node_before_what_it_reads():
    with pytest.raises(ValueError, match=r"come after what it reads; \['b'\] come later"):
        Graph((Node("a", Relu(), ("b",), (4,)), Node("b", Input(), (), (4,))), {})


def test_refuses_an_output_that_no_node_makes():
    with pytest.raises(ValueError, match=r"Output 'y' must be the value of a node.*'z'"):
        Graph((Node("a", Input(), (), (4,)),), {"y": "z"})


def test_readers_count_a_node_once_and_outputs_not():
    b = Builder()
    x = b.input(4, 4, 2)
    twice = b.sum(x, x)
    end = b.relu(twice)
    graph = b.graph(end)
    readers = graph.readers()
    assert [node.name for node in readers[x]] == [twice]
    assert readers[end] == []
    assert graph.only_reader(x).name == twice
    assert graph.only_reader(end) is None


def test_only_reader_is_none_for_several_readers_and_for_outputs():
    b = Builder()
    x = b.input(4, 4, 2)
    y = b.relu(x)
    z = b.relu(y)
    assert b.graph(y, z).only_reader(y) is None  # leaves the network
    assert b.graph(z).only_reader(y).name == z
    assert b.graph(z, b.relu(y)).only_reader(y) is None


def test_with_nodes_follows_renames_through_each_other():
    graph = chain("x", "a", "b", "c")
    other = graph.with_nodes(graph, {"b": "a", "a": "x"})
    assert [(node.name, node.inputs) for node in other] == [("x", ()), ("c", ("x",))]


def test_with_nodes_renames_outputs():
    graph = chain("x", "a")
    assert graph.with_nodes(graph, {"a": "x"}).outputs == {"y": "x"}


def test_with_nodes_drops_what_nobody_needs_but_keeps_inputs():
    graph = chain("x", "a", "b")
    spare = (Node("u", Input(), (), (4,)), Node("v", Relu(), ("u",), (4,)), Node("w", Relu(), ("v",), (4,)))
    other = graph.with_nodes([*graph, *spare])
    assert [node.name for node in other] == ["x", "a", "b", "u"]


def test_lookup_by_name():
    graph = chain("x", "a")
    assert graph["a"].inputs == ("x",)
    assert list(graph.by_name()) == ["x", "a"]
    with pytest.raises(KeyError):
        graph["b"]
