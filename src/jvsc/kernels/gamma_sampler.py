"""Standard Gamma samples for whole arrays at once, differentiable in the concentration.

`jax.random.gamma`, which distrax calls, walks through an array element by element on the CPU;
this sampler proposes for all elements together (see docs/DESIGN.md for the measured ratio).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

# Of so many elements one can be proposed again at a time, and so many groups at least are made side
# by side. The first proposal is accepted for 95 to 99.9% of the elements, so a proposal for all of
# them again would be nearly all waste.
LARGEST_GROUP, FEWEST_GROUPS = 32, 8
TINY = float(jnp.finfo(jnp.float32).tiny)
# Stands for a sample that is not accepted yet.
_REJECTED = -1.0


@jax.custom_jvp
def sample_standard_gamma(
    key: Key[Array, ""], concentration: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Draws from Gamma(concentration, 1) by Marsaglia and Tsang's rejection (2000).

    The gradient with respect to the concentration is implicit (Figurnov et al. 2018; Jankowiak &
    Obermeyer 2018): the derivative of the quantile at the sample's own probability.

    Args:
      key: one key for the whole array.
      concentration: shape parameters a > 0, any shape.

    Returns:
      Positive samples of `concentration`'s shape and type; NaN where it is not finite and positive.
    """
    boost_key, first_key, again_key = jax.random.split(key, 3)
    boosted = jnp.where(concentration < 1, concentration + 1, concentration)
    # A concentration that is not usable is never accepted: it passes through as NaN.
    usable = jnp.isfinite(concentration) & (concentration > 0)
    sample = _rejection(first_key, again_key, boosted, usable)
    uniform = jax.random.uniform(boost_key, boosted.shape, boosted.dtype, minval=TINY)
    boost = jnp.where(concentration < 1, jnp.log(uniform) / concentration, 0.0)
    # A tiny concentration underflows to zero, where the implicit gradient is not defined.
    return jnp.maximum(sample * jnp.exp(boost), TINY)


@sample_standard_gamma.defjvp
def _sample_standard_gamma_jvp(primals, tangents):
    key, concentration = primals
    sample = sample_standard_gamma(key, concentration)
    # Its stub asks for a keyword that the function does not take.
    slope = jax.lax.random_gamma_grad(concentration, sample)  # pyright: ignore[reportCallIssue]
    return sample, slope * tangents[1]


def _propose(key: Key[Array, ""], concentration: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """One proposal for each concentration >= 1; `_REJECTED` where it is not accepted."""
    normal_key, uniform_key = jax.random.split(key)
    d = concentration - 1 / 3
    x = jax.random.normal(normal_key, d.shape, d.dtype)
    u = jax.random.uniform(uniform_key, d.shape, d.dtype, minval=TINY)
    v = (1 + x / jnp.sqrt(9 * d)) ** 3
    log_v = jnp.log(jnp.maximum(v, TINY))
    accepted = (v > 0) & (jnp.log(u) < 0.5 * x**2 + d * (1 - v + log_v))
    return jnp.where(accepted, d * v, _REJECTED)


def _rejection(
    first_key: Key[Array, ""],
    again_key: Key[Array, ""],
    concentration: Float[Array, "*B"],
    usable: Bool[Array, "*B"],
) -> Float[Array, "*B"]:
    """Proposes for every element, then for one rejected of each group until none is left."""
    size = concentration.size
    # A group is a column: what is done to each row of groups is one instruction for many of them.
    group = min(LARGEST_GROUP, max(size // FEWEST_GROUPS, 1))
    padding = (0, -size % group)

    def grouped(values: Array, fill: float | bool) -> Array:
        return jnp.pad(values.ravel(), padding, constant_values=fill).reshape(group, -1)

    concentrations = grouped(concentration, 1.0)
    samples = jnp.where(grouped(usable, True), _propose(first_key, concentrations), jnp.nan)
    rows = jnp.arange(group)[:, None]

    def again(carry):
        round_index, samples = carry
        # The first rejected of each group; a group with none left proposes to no effect.
        first = jnp.min(jnp.where(samples < 0, rows, group), axis=0)
        shape = jnp.max(jnp.where(rows == first, concentrations, 1.0), axis=0)
        proposal = _propose(jax.random.fold_in(again_key, round_index), shape)
        # Keeps XLA from fusing the proposal into all of its group: a tenth faster on a CPU.
        first, proposal = jax.lax.optimization_barrier((first, proposal))
        return round_index + 1, jnp.where(rows == first, proposal, samples)

    carry = (jnp.int32(0), samples)
    _, samples = jax.lax.while_loop(lambda carry: jnp.any(carry[1] < 0), again, carry)
    return samples.ravel()[:size].reshape(concentration.shape)
