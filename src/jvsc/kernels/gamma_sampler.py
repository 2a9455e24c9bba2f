"""Standard Gamma samples for whole arrays at once, differentiable in the concentration.

`jax.random.gamma`, which distrax calls, walks through an array element by element on the CPU;
this sampler proposes for all elements together (see docs/DESIGN.md for the measured ratio).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

# Of so many elements one can be proposed again at a time. The first proposal is accepted for 95 to
# 99.9% of the elements, so a proposal for all of them again would be nearly all waste.
GROUP = 8
TINY = float(jnp.finfo(jnp.float32).tiny)


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


def _propose(
    key: Key[Array, ""], concentration: Float[Array, "*B"]
) -> tuple[Float[Array, "*B"], Bool[Array, "*B"]]:
    """One proposal for each concentration >= 1, and whether it is accepted."""
    normal_key, uniform_key = jax.random.split(key)
    d = concentration - 1 / 3
    x = jax.random.normal(normal_key, d.shape, d.dtype)
    u = jax.random.uniform(uniform_key, d.shape, d.dtype, minval=TINY)
    v = (1 + x / jnp.sqrt(9 * d)) ** 3
    log_v = jnp.log(jnp.maximum(v, TINY))
    return d * v, (v > 0) & (jnp.log(u) < 0.5 * x**2 + d * (1 - v + log_v))


def _rejection(
    first_key: Key[Array, ""],
    again_key: Key[Array, ""],
    concentration: Float[Array, "*B"],
    usable: Bool[Array, "*B"],
) -> Float[Array, "*B"]:
    """Proposes for every element, then for one rejected of each group until none is left."""
    size = concentration.size
    padding = (0, -size % GROUP)

    def grouped(values: Array, fill: float | bool) -> Array:
        return jnp.pad(values.ravel(), padding, constant_values=fill).reshape(-1, GROUP)

    concentrations = grouped(concentration, 1.0)
    samples, accepted = _propose(first_key, concentrations)
    samples = jnp.where(grouped(usable, True), samples, jnp.nan)
    accepted = accepted | ~grouped(usable, False)

    def again(carry):
        round_index, samples, accepted = carry
        # The first rejected element of each group; argmin finds the first False.
        chosen = jax.nn.one_hot(jnp.argmin(accepted, axis=1), GROUP, dtype=bool) & ~accepted
        shape = jnp.sum(jnp.where(chosen, concentrations, 0.0), axis=1)
        # A group with none left proposes for an arbitrary element, to no effect.
        proposal, good = _propose(
            jax.random.fold_in(again_key, round_index), jnp.where(shape > 0, shape, 1.0)
        )
        taken = chosen & good[:, None]
        return round_index + 1, jnp.where(taken, proposal[:, None], samples), accepted | taken

    carry = (jnp.int32(0), samples, accepted)
    _, samples, _ = jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), again, carry)
    return samples.ravel()[:size].reshape(concentration.shape)
