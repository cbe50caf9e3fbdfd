"""The compiled library as Python calls it."""

import ctypes

import pytest

from kepton.kernels.library import library


@pytest.mark.skipif(library() is None, reason="no kernels: no C++ compiler at install")
def test_the_arguments_of_the_compiled_search_are_declared():
    """An int that is passed undeclared fills half a long: once the threads were less than none."""
    nothing = *3 * [0], *5 * [None], 1.0, *5 * [None]
    assert library().kepton_neighbors(*nothing, 2) == 0
    with pytest.raises(ctypes.ArgumentError):
        library().kepton_neighbors(*nothing, 2.5)
