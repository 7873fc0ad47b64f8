"""Every check: what passes and how, and the three parts of every message."""

import fractions

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_condense.validation import (
    check_channel_constants,
    check_choice,
    check_divisible,
    check_fraction,
    check_not_negative,
    check_padding,
    check_positive_integer,
)


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(3), np.array(5)])
def test_positive_integers(value):
    checked = check_positive_integer("filters", value, "Fix it.")
    assert checked == value
    assert type(checked) is int


@pytest.mark.parametrize(
    "value",
    [0, -1, 1.0, True, False, "4", None, np.float32(4), np.bool_(True), np.array([1, 2]), [4], float("nan"), 4 + 0j],
    ids=repr,
)
def test_what_is_no_positive_integer(value):
    with pytest.raises(ValueError, match=r"^`filters` \(=.*\) must be a positive integer\. Fix it\.$"):
        check_positive_integer("filters", value, "Fix it.")


@given(st.integers(0, 1000), st.integers(1, 50))
def test_divisible(value, divisor):
    if value % divisor == 0:
        assert check_divisible("a", value, "b", divisor, "Fix it.") is None
    else:
        with pytest.raises(ValueError, match=rf"^`a` \(={value}\) must be divisible by `b` \(={divisor}\)\. Fix it\.$"):
            check_divisible("a", value, "b", divisor, "Fix it.")


@pytest.mark.parametrize("value", [0, 1, 0.25, np.float32(0.5), np.float64(0.5), np.int32(1)])
def test_fractions(value):
    checked = check_fraction("rate", value, "Fix it.")
    assert checked == value
    assert type(checked) is float


@pytest.mark.parametrize(
    "value", [-0.1, 1.1, float("nan"), float("inf"), True, "0.5", None, np.array([0.5]), 1j], ids=repr
)
def test_what_is_no_fraction(value):
    with pytest.raises(ValueError, match=r"^`rate` \(=.*\) must be a number in \[0, 1\]\. Fix it\.$"):
        check_fraction("rate", value, "Fix it.")


def test_fraction_below_one():
    assert check_fraction("rate", 0.999, "Fix it.", below_one=True) == 0.999
    with pytest.raises(ValueError, match=r"^`rate` \(=1\) must be a number in \[0, 1\)\. Fix it\.$"):
        check_fraction("rate", 1, "Fix it.", below_one=True)


@pytest.mark.parametrize("value", [0, 0.0, 1e-5, 7, 1e300, np.float32(0.5), fractions.Fraction(1, 2)], ids=repr)
def test_not_negative(value):
    checked = check_not_negative("decay", value, "Fix it.")
    assert checked == value
    assert type(checked) is float


NOT_NUMBERS = [-1e-9, float("nan"), float("inf"), -float("inf"), 10**400, True, "1", None, np.array([1.0]), 1j]


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=lambda value: repr(value)[:9])
def test_what_is_negative_or_no_number(value):
    with pytest.raises(ValueError, match=r"^`decay` \(=.*\) must be a finite number, not negative\. Fix it\.$"):
        check_not_negative("decay", value, "Fix it.")


@pytest.mark.parametrize("value", [0, -1, float("nan"), None], ids=repr)
def test_what_is_not_above_zero(value):
    with pytest.raises(ValueError, match=r"^`rate` \(=.*\) must be a finite number above 0\. Fix it\.$"):
        check_not_negative("rate", value, "Fix it.", above_zero=True)


def test_choices():
    assert check_choice("mode", None, (None, "a")) is None
    assert check_choice("mode", "a", iter(["a", "b"]), "Fix it.") == "a"
    with pytest.raises(ValueError, match=r"^`mode` \(='c'\) must be one of 'a', 'b'\. Fix it\.$"):
        check_choice("mode", "c", iter(["a", "b"]), "Fix it.")
    with pytest.raises(ValueError, match=r"^`mode` \(=\[\]\) must be one of 'a'\.$"):
        check_choice("mode", [], ("a",))
    with pytest.raises(ValueError, match=r"`mode` \(=array.* must be one of 'a'"):
        check_choice("mode", np.array(["a", "b"]), ("a",))


@pytest.mark.parametrize("value", [0, 4, np.int64(2)])
def test_paddings(value):
    padding = check_padding("pad", value, "Fix it.")
    assert padding == value
    assert type(padding) is int


@pytest.mark.parametrize("value", [-1, 1.0, True, "4", None])
def test_no_paddings(value):
    with pytest.raises(ValueError, match=r"^`pad` \(=.*\) must be a positive integer or 0\. Fix it\.$"):
        check_padding("pad", value, "Fix it.")


@pytest.mark.parametrize("values", [[1, 2.5], (0.0, -3), np.array([1, 2], "float32")])
def test_channel_constants(values):
    constants = check_channel_constants("mean", values, 2, "Fix it.")
    assert constants == tuple(map(float, values))
    assert {type(constant) for constant in constants} == {float}


@pytest.mark.parametrize("values", [1.0, [1], [1, 2, 3], [[1, 2]], [[1], [2, 3]], [1, np.nan], ["a", "b"], None])
def test_no_channel_constants(values):
    with pytest.raises(ValueError, match=r"^`mean` \(=.*\) must be a number for each of .* 2 channels\. Fix it\.$"):
        check_channel_constants("mean", values, 2, "Fix it.")


def test_channel_constants_above_zero():
    assert check_channel_constants("std", [1, 2], 2, "Fix it.", above_zero=True) == (1.0, 2.0)
    with pytest.raises(ValueError, match=r"^`std` \(=\[1, 0\]\) must be above 0 in every channel\. Fix it\.$"):
        check_channel_constants("std", [1, 0], 2, "Fix it.", above_zero=True)
