"""A model's arrays by their names, and back."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import safe_open

from jvsc.errors import UserError

# Of a model's folder: what `jvsc.load` reads, or SAELens.
LAYOUTS = ("jvsc", "sae_lens")


def name_leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by their paths, such as "parameters/encoder/loc/Dense_0/kernel"."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def read_arrays(file: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the arrays of a safetensors file; a damaged one raises whatever it may."""
    if not file.is_file():  # nobody may ever write into a pipe
        raise ValueError("no regular file")
    with safe_open(file, "numpy") as opened:
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return opened.metadata() or {}, arrays


def short_reason(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def leaves_like(
    arrays: dict[str, np.ndarray], like: Any, file: Path, asker: str, remedy: str
) -> Any:
    """The tree that `name_leaves` named.

    Args:
      arrays: by their names.
      like: shapes and types of the tree's leaves.
      file: where the arrays come from.
      asker: what says how they must be.
      remedy: what to do if they are not.

    Raises:
      UserError: naming the first array that is not there, or of another shape or type.
    """

    def leaf(path: Any, wanted: Any) -> np.ndarray:
        name = _name(path)
        array = arrays.get(name)
        if array is None or array.shape != wanted.shape or array.dtype != wanted.dtype:
            got = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise UserError(
                f"{file} holds {got} as {name!r} where {asker} asks for "
                f"{wanted.dtype} {wanted.shape}; {remedy}"
            )
        return array

    return jax.tree_util.tree_map_with_path(leaf, like)
