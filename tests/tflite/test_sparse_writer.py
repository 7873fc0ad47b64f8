"""What a sparse part is written in: concatenations, sums, picks and convolutions of every kind, at every cut."""

import pytest
from graphs import Builder
from sparse_networks import assert_every_end_equivalent, end, layer, stem

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("filters", [4, 16])
def test_window_convolution_behind_an_index(groups, filters, repeats):
    b = Builder()
    x = stem(b)
    indices = b.random.integers(0, 4, 8) if repeats else b.random.permutation(8)
    y = b.convolution(b.index(x, indices), filters, 3, groups=groups, bias=True)
    assert_every_end_equivalent(end(b, b.concatenate(x, y, layer(b, x, 16, 8, 8))))


def test_pointwise_convolution_behind_an_index_with_repeats():
    b = Builder()
    y = b.convolution(b.index(stem(b), [0, 0, 1, 2, 3, 4, 7, 7]), 32, groups=4)
    assert_every_end_equivalent(end(b, y))


@pytest.mark.parametrize("count", [4, 6, 8])
def test_concatenation_that_begins_with_a_part_of_a_store(count):
    """As many rows as the store has, in the right order, but the rows behind them hold something already."""
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    part = b.index(x, range(count))
    assert_every_end_equivalent(end(b, b.concatenate(part, b.convolution(part, 16 - count, 1))))


def test_concatenation_that_ends_with_a_part_of_a_store():
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    y = b.convolution(x, 8, groups=8)
    assert_every_end_equivalent(end(b, b.concatenate(y, b.index(x, range(8, 16)))))


def test_concatenation_of_parts_behind_relu_and_pool():
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    part = b.pool(b.relu(b.index(x, range(8))))
    assert_every_end_equivalent(end(b, b.concatenate(part, b.convolution(part, 8, groups=4))))


def test_concatenation_of_three():
    b = Builder()
    x = stem(b)
    first, second = b.convolution(x, 4, groups=4, bias=True), layer(b, x, 8, 4, 2)
    x = b.concatenate(x, first, second)
    x = b.concatenate(x, layer(b, x, 4, 4, 4))
    assert_every_end_equivalent(end(b, x))


def test_concatenation_whose_first_input_is_new():
    b = Builder()
    x = stem(b)
    y = b.concatenate(layer(b, x, 4, 4, 4), x)
    assert_every_end_equivalent(end(b, b.concatenate(b.convolution(y, 8, groups=4), y, b.relu(y))))


def test_concatenation_of_a_value_with_itself():
    b = Builder()
    x = stem(b)
    y = b.convolution(x, 4, groups=4)
    assert_every_end_equivalent(end(b, b.concatenate(x, y, y, x)))


def test_concatenations_that_branch():
    """Two chains grow from one store, with different widths."""
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    short = b.concatenate(x, b.convolution(x, 4, groups=2, relu=True))
    long = b.concatenate(x, b.convolution(x, 16, groups=8))
    both = b.concatenate(short, long)
    assert_every_end_equivalent(end(b, b.affine(both, relu=True)))


def test_concatenation_that_is_read_by_a_convolution_a_pool_and_a_concatenation():
    b = Builder()
    x = stem(b, 16)
    x = b.concatenate(x, layer(b, x, 8, 4, 4))
    pooled = b.pool(x)
    x = b.pool(b.concatenate(x, layer(b, x, 8, 4, 4)))
    assert_every_end_equivalent(end(b, b.concatenate(x, pooled)))


def test_convolution_with_two_readers():
    b = Builder()
    x = stem(b)
    y = b.convolution(x, 8, groups=8, bias=True)
    x = b.concatenate(x, y)
    assert_every_end_equivalent(end(b, b.concatenate(x, b.convolution(y, 8, groups=4))))


@pytest.mark.parametrize("relu", [False, True])
def test_stem_with_bias(relu):
    b = Builder()
    x = stem(b, bias=True, relu=relu)
    assert_every_end_equivalent(end(b, b.concatenate(b.convolution(x, 8, groups=8), x)))


def test_sums():
    b = Builder()
    x = stem(b)
    y, z = b.convolution(x, 8, groups=4), b.convolution(x, 8, groups=8)
    same = b.sum(y, y)
    other = b.sum(b.index(y, [7, 6, 5, 4, 3, 2, 1, 0]), b.shuffle(z, 2))
    repeated = b.sum(b.index(y, [0, 0, 1, 1, 2, 2, 3, 3]), z)
    assert_every_end_equivalent(end(b, b.concatenate(same, other, repeated, b.sum(x, same))))


def test_sum_of_stores():
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    x = b.sum(x, b.relu(x))
    assert_every_end_equivalent(end(b, b.concatenate(x, b.convolution(x, 8, groups=8))))


def test_relu_of_an_index():
    b = Builder()
    x = stem(b)
    y = b.relu(b.index(x, [3, 3, 0, 1, 7, 2, 3, 6]))
    assert_every_end_equivalent(end(b, b.concatenate(x, b.convolution(y, 8, groups=4), y)))


@pytest.mark.parametrize("first", [2, 4])
def test_shuffles_of_two_kinds(first):
    b = Builder()
    x = b.convolution(stem(b), 16, groups=8)
    x = b.affine(b.shuffle(b.relu(b.shuffle(x, first)), 8))
    assert_every_end_equivalent(end(b, b.convolution(b.shuffle(x, 16 // first), 8, 3, groups=8)))


def test_channels_that_nobody_reads():
    b = Builder()
    x = stem(b)
    y = b.affine(b.concatenate(x, b.convolution(x, 8, groups=4)), relu=True)
    lowered = assert_every_end_equivalent(end(b, b.convolution(b.index(y, [12, 1, 1, 5]), 8, groups=4)))
    assert lowered[0][y].channels == 3


def test_a_concatenated_value_that_nobody_reads():
    """An index takes nothing of the norm's channels."""
    b = Builder()
    x = stem(b)
    unread = b.affine(b.relu(x))
    x = b.index(b.concatenate(x, unread, b.convolution(x, 8, groups=4)), [0, 5, 23, 16])
    assert_every_end_equivalent(end(b, b.convolution(x, 16, groups=4)))


def test_pooled_channels_that_are_no_multiple_of_four():
    b = Builder()
    x = stem(b, filters=6)
    x = b.pool(b.concatenate(x, b.convolution(x, 3, groups=3), b.convolution(x, 6, groups=6)))
    assert_every_end_equivalent(b.graph(x), count=1)


def test_names_that_are_taken():
    b = Builder()
    x = stem(b, size=16)
    x = b.convolution(x, 16, groups=8, name="c_windows")
    x = b.convolution(x, 8, 3, groups=4, name="c")
    x = b.pool(b.convolution(x, 16, groups=8, name="c_copies"))
    assert_every_end_equivalent(b.graph(b.relu(b.convolution(x, 4, 1, name=f"{x}_rows"))))
