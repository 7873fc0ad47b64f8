"""What is worth keeping as rows, one for each channel: concatenations that a pick of channels reads."""

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Add, ConcatenateChannels, PickChannels

__all__ = ["picks_an_image", "stores"]


def picks_an_image(node: Node, source: Node) -> bool:
    """Whether a node picks channels of an image; a shuffle is a transposition, which is as good as it gets."""
    return isinstance(node.op, PickChannels) and node.is_image and node.op.shuffled_groups(source.channels) is None


def stores(graph: Graph) -> set[str]:
    """Concatenations, and sums between them, that are worth keeping as rows: a pick reads one of their chain."""
    by_name = graph.by_name()
    chained: dict[str, set[str]] = {
        node.name: set() for node in graph if isinstance(node.op, (ConcatenateChannels, Add)) and node.is_image
    }
    for node in graph:
        for name in node.inputs if node.name in chained else ():
            if name in chained:
                chained[node.name].add(name)
                chained[name].add(node.name)
    picks = (node for node in graph if isinstance(node.op, PickChannels))
    picked = {node.inputs[0] for node in picks if picks_an_image(node, by_name[node.inputs[0]])}
    found: set[str] = set()
    for name in chained:
        if name in picked and name not in found:
            chain, following = set(), [name]
            while following:
                member = following.pop()
                if member not in chain:
                    chain.add(member)
                    following += chained[member]
            # sums alone, as in a residual network, are read as images by others
            if any(isinstance(by_name[member].op, ConcatenateChannels) for member in chain):
                found |= chain
    return found
