"""Optimisers that keep the atoms of a dictionary at norm 1."""

from typing import Any

import jax.numpy as jnp
import optax


def with_unit_atoms(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser that keeps the atoms at norm 1 after each step (Bricken et al. 2023).

    The gradient's component along each atom, which normalising would undo, is removed first.

    Args:
      inner: the optimiser of all parameters; the generator's are a dictionary or have that key.
    """

    def update(gradient: Any, state: Any, parameters: Any = None) -> Any:
        atoms, slope = _atoms(parameters), _atoms(gradient)
        slope = slope - jnp.sum(slope * atoms, axis=1, keepdims=True) * atoms
        updates, state = inner.update(_with_atoms(gradient, slope), state, parameters)
        atoms_after = atoms + _atoms(updates)
        step = atoms_after / jnp.linalg.norm(atoms_after, axis=1, keepdims=True) - atoms
        return _with_atoms(updates, step), state

    return optax.GradientTransformation(inner.init, update)  # type: ignore[arg-type]


def atoms_of(generator: Any) -> Any:
    """The dictionary of a generator's parameters, which may have a bias beside it."""
    return generator["dictionary"] if isinstance(generator, dict) else generator


def _atoms(parameters: Any) -> Any:
    return atoms_of(parameters.generator)


def _with_atoms(parameters: Any, atoms: Any) -> Any:
    generator = parameters.generator
    has_bias = isinstance(generator, dict)
    return parameters._replace(generator=generator | {"dictionary": atoms} if has_bias else atoms)
