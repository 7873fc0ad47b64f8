"""Graphs: order, names, who reads what, and what a rewriting may leave behind."""

import numpy as np
import pytest
from graphs import Builder

from keras_condense.tflite.graph import Graph, Node


def chain(*names):
    """A graph in which each node reads the one before it."""
    nodes = [Node(name, "relu" if i else "input", names[i - 1 : i] if i else (), (4,)) for i, name in enumerate(names)]
    return Graph(tuple(nodes), {"y": names[-1]})


def test_node_gives_attributes_and_weights_by_name():
    node = Node("a", "affine", ("x",), (4, 4, 2), {"relu": False}, {"scale": np.ones(2)})
    assert node["relu"] is False
    assert node["scale"].sum() == 2
    assert node.channels == 2
    assert node.get("relu", True) is False  # there, though false
    assert node.get("shift", 3) == 3
    with pytest.raises(KeyError, match="shift"):
        node["shift"]


def test_replace_merges_and_leaves_the_original_alone():
    node = Node("a", "affine", ("x",), (2,), {"relu": False}, {"scale": np.ones(2)})
    other = node.replace(attributes={"relu": True}, weights={"shift": np.zeros(2)}, inputs=("z",))
    assert (other["relu"], set(other.weights), other.inputs) == (True, {"scale", "shift"}, ("z",))
    assert (node["relu"], set(node.weights), node.inputs) == (False, {"scale"}, ("x",))


def test_refuses_a_name_that_is_taken():
    with pytest.raises(ValueError, match=r"'a' must have a name of its own.*its name is taken"):
        Graph((Node("a", "input", (), (4,)), Node("a", "relu", ("a",), (4,))), {})


def test_refuses_a_node_before_what_it_reads():
    with pytest.raises(ValueError, match=r"come after what it reads; \['b'\] come later"):
        Graph((Node("a", "relu", ("b",), (4,)), Node("b", "input", (), (4,))), {})


def test_refuses_an_output_that_no_node_makes():
    with pytest.raises(ValueError, match=r"Output 'y' must be the value of a node.*'z'"):
        Graph((Node("a", "input", (), (4,)),), {"y": "z"})


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
    spare = (Node("u", "input", (), (4,)), Node("v", "relu", ("u",), (4,)), Node("w", "relu", ("v",), (4,)))
    other = graph.with_nodes([*graph, *spare])
    assert [node.name for node in other] == ["x", "a", "b", "u"]


def test_lookup_by_name():
    graph = chain("x", "a")
    assert graph["a"].inputs == ("x",)
    assert list(graph.by_name()) == ["x", "a"]
    with pytest.raises(KeyError):
        graph["b"]
