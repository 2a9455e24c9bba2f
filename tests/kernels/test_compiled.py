"""Numba's compiler where it has no place to keep what it compiles."""

import pytest

pytest.importorskip("numba", reason="the extra numba is not installed")

from jvsc.kernels.compiled import compiled, compiled_in_parallel, compiled_inline


@pytest.mark.parametrize("decorate", [compiled, compiled_inline, compiled_in_parallel])
def test_what_cannot_be_kept_is_compiled_all_the_same(decorate):
    """A function of no file has no place for a cache, as one of a read-only installation."""
    names = {}
    exec("def doubled(x):\n    return 2 * x", names)
    assert decorate(names["doubled"])(21) == 42
