"""Standard Gamma samples for whole arrays at once, differentiable in the concentration.

`jax.random.gamma`, which distrax calls, walks through an array element by element on the CPU;
this sampler proposes for all elements together (see docs/DESIGN.md for the measured ratio).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


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
      Positive float32 samples of `concentration`'s shape.
    """
    boosted = jnp.where(concentration < 1, concentration + 1, concentration)
    d = boosted - 1 / 3
    c = 1 / jnp.sqrt(9 * d)
    usable = jnp.isfinite(concentration) & (concentration > 0)

    def propose(carry):
        round_index, sample, accepted = carry
        normal_key, uniform_key = jax.random.split(jax.random.fold_in(key, round_index))
        x = jax.random.normal(normal_key, boosted.shape)
        u = jax.random.uniform(uniform_key, boosted.shape, minval=jnp.finfo(jnp.float32).tiny)
        v = (1 + c * x) ** 3
        log_v = jnp.log(jnp.maximum(v, jnp.finfo(jnp.float32).tiny))
        good = (v > 0) & (jnp.log(u) < 0.5 * x**2 + d * (1 - v + log_v))
        return round_index + 1, jnp.where(~accepted & good, d * v, sample), accepted | good

    _, sample, _ = jax.lax.while_loop(
        lambda carry: ~jnp.all(carry[2]),
        propose,
        # Round 0 is kept for the boost below.
        # A concentration that is not finite is never accepted: it passes through as NaN.
        (jnp.int32(1), jnp.where(usable, 1.0, jnp.nan), ~usable),
    )
    boost_uniform = jax.random.uniform(
        jax.random.fold_in(key, 0), boosted.shape, jnp.float32, minval=jnp.finfo(jnp.float32).tiny
    )
    boost = jnp.where(concentration < 1, jnp.log(boost_uniform) / concentration, 0.0)
    # A tiny concentration underflows to zero, where the implicit gradient is not defined.
    return jnp.maximum(sample * jnp.exp(boost), jnp.finfo(jnp.float32).tiny)


@sample_standard_gamma.defjvp
def _sample_standard_gamma_jvp(primals, tangents):
    key, concentration = primals
    sample = sample_standard_gamma(key, concentration)
    # Its stub asks for a keyword that the function does not take.
    slope = jax.lax.random_gamma_grad(concentration, sample)  # pyright: ignore[reportCallIssue]
    return sample, slope * tangents[1]
