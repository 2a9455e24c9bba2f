"""Sparse matrices of files: every index is checked before compiled code trusts it."""

import numpy as np
import pytest
from scipy import sparse

from jvsc.errors import UserError
from jvsc.runs.sparse_files import read_sparse

CODES = sparse.random_array((5, 24), density=0.3, rng=np.random.default_rng(0), dtype=np.float32)
FORMATS = ("csr", "csc", "bsr")


def compressed(form):
    """What `save_npz` writes of the codes in a compressed format, by its names."""
    matrix = sparse.bsr_array(CODES.toarray(), blocksize=(1, 4)) if form == "bsr" else CODES
    matrix = matrix.asformat(form)
    arrays = {name: getattr(matrix, name) for name in ("data", "indices", "indptr")}
    return {"format": form.encode(), "_is_array": True, "shape": matrix.shape, **arrays}


def coordinates():
    matrix = sparse.coo_array(CODES)
    arrays = {"data": matrix.data, "row": matrix.row, "col": matrix.col}
    return {"format": b"coo", "_is_array": True, "shape": matrix.shape, **arrays}


# How many values an index can have.
SIZES = {b"csr": 24, b"csc": 5, b"bsr": 6}
DAMAGES = {
    "indices out of range": lambda m: {"indices": m["indices"] + 10**6},
    "indices just out of range": lambda m: {"indices": m["indices"] + SIZES[m["format"]]},
    "negative indices": lambda m: {"indices": m["indices"] - 1},
    "indices beyond 32 bits": lambda m: {"indices": m["indices"].astype(np.int64) + 2**32},
    "indices that are no numbers": lambda m: {"indices": np.full(len(m["indices"]), np.nan)},
    "indices between numbers": lambda m: {"indices": m["indices"] + 0.5},
    "pointers without a sign": lambda m: {
        "indptr": np.append(m["indptr"][:-1].astype("u8"), 2**63)
    },
    "indices without a sign": lambda m: {"indices": m["indices"].astype("u8") + np.uint64(2**63)},
    "falling pointers": lambda m: {"indptr": m["indptr"][::-1].copy()},
    "negative pointers": lambda m: {"indptr": m["indptr"] - 3},
    "one pointer too far": lambda m: {"indptr": np.r_[m["indptr"][:1], 10**8, m["indptr"][2:]]},
    "pointers beyond the data": lambda m: {"indptr": m["indptr"] * 1000},
    "too little data": lambda m: {"data": m["data"][:2]},
    "one dimension": lambda m: {"shape": np.array([120])},
    "a negative shape": lambda m: {"shape": np.array([-5, 24])},
    "a shape beyond memory": lambda m: {"shape": np.array([2**62, 2**62])},
    "dates": lambda m: {"data": m["data"].astype("M8[s]")},
    "strings": lambda m: {"data": m["data"].astype("U8")},
    "complex numbers": lambda m: {"data": m["data"].astype(complex)},
    "records": lambda m: {"data": np.zeros(len(m["data"]), [("a", "f4")])},
    "infinity": lambda m: {"data": np.full(m["data"].shape, np.inf)},
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_crafted_matrix_is_refused_in_one_line(form, damage, tmp_path):
    matrix = compressed(form)
    np.savez(tmp_path / "codes.npz", **(matrix | DAMAGES[damage](matrix)))
    with pytest.raises(UserError, match=r"codes\.npz cannot be read \(.*give scipy") as told:
        read_sparse(tmp_path / "codes.npz", "codes")
    assert "\n" not in str(told.value)


COORDINATES = {
    "far": lambda m: {"row": m["row"] + 100},
    "negative": lambda m: {"col": m["col"] - 100},
    "wrapped": lambda m: {"col": m["col"].astype(np.int64) + 2**32},
    "more rows than memory": lambda m: {"shape": np.array([2**50, 24])},
    "no rows": lambda m: {
        "shape": (0, 24),
        **{name: m[name][:0] for name in ("row", "col", "data")},
    },
}


@pytest.mark.parametrize("damage", COORDINATES)
def test_crafted_coordinates_are_refused_in_one_line(damage, tmp_path):
    matrix = coordinates()
    np.savez(tmp_path / "codes.npz", **(matrix | COORDINATES[damage](matrix)))
    with pytest.raises(UserError, match=r"codes\.npz cannot be read"):
        read_sparse(tmp_path / "codes.npz", "codes")


@pytest.mark.parametrize("form", [*FORMATS, "coo", "dia"])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, bool])
def test_every_format_and_type_that_is_whole_is_read(form, kind, tmp_path):
    matrix = sparse.csr_array(CODES.toarray().astype(kind)).asformat(form)
    sparse.save_npz(tmp_path / "codes.npz", matrix)
    found = read_sparse(tmp_path / "codes.npz", "codes")
    assert (found.format, found.dtype) == ("csr", np.float32)
    np.testing.assert_array_equal(found.toarray(), matrix.toarray().astype(np.float32))
