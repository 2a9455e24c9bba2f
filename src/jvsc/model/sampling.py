"""J samples of each datum's code: drawing, weighting, and choosing the one to differentiate.

Every draw has a key of its own, made from the step's key, the datum's place in the batch and the
draw's number. So a draw can be made again without keeping it, and no split of a batch over chunks
or devices changes it.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from jvsc.kernels.threefry import fused_threefry
from jvsc.model.posteriors.base import Annealing
from jvsc.model.thresholding import Heads

# (key, heads, annealing) -> a code [K], or a code and log ratios
Sample = Callable[[Key[Array, ""], Heads, Annealing], Any]
# By J draws; or by the code's mean and variance: "exact", the expectation in closed form, of a
# linear generator, and "moments" of any.
Sampling = Literal["max", "avg", "iwae", "exact", "moments"]
# Losses of J draws -> the number of one draw for each datum.
Choice = Callable[[Float[Array, "J B"]], Int[Array, " B"]]
# Apart from the draws' numbers, of which a datum's keys are made too.
_CHOICE = 2**32 - 1
SAMPLINGS: tuple[Sampling, ...] = ("max", "avg", "iwae")
BY_MOMENTS: tuple[Sampling, ...] = ("exact", "moments")


def datum_keys(key: Key[Array, ""], num_data: int, first: ArrayLike = 0) -> Key[Array, " B"]:
    """One key a datum: `fold_in(key, place of the datum)`, from place `first` on."""
    places = jnp.asarray(first) + jnp.arange(num_data)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(places)


def draw(
    sample: Sample,
    keys: Key[Array, " B"],
    heads: Heads,
    draws: Int[Array, "J B"],
    annealing: Annealing,
) -> Any:
    """Draws the numbered samples of each datum's code.

    Args:
      sample: one draw for one datum, such as a `Posterior`'s, or one with its log ratios.
      keys: one key a datum (`datum_keys`).
      heads: posterior parameters, each [B, K].
      draws: which draws; `draws[j, b] = j` gives samples 0 to J - 1.
      annealing: warm-up and temperature.

    Returns:
      Codes [J, B, K], and log ratios [J, B, K] if `sample` gives them.
    """

    def one(key: Key[Array, ""], heads: Heads, number: Int[Array, ""]) -> Any:
        return sample(fused_threefry(jax.random.fold_in(key, number)), heads, annealing)

    one_of_each_datum = jax.vmap(one, in_axes=(0, 0, 0))
    return jax.vmap(one_of_each_datum, in_axes=(None, None, 0))(keys, heads, draws)


def first_draws(num_samples: int, num_data: int, start: int = 0) -> Int[Array, "J B"]:
    """Numbers of `num_samples` consecutive draws for each of `num_data` data."""
    return jnp.broadcast_to(start + jnp.arange(num_samples)[:, None], (num_samples, num_data))


def lowest(losses: Float[Array, "J B"]) -> Int[Array, " B"]:
    """Number of the draw with the lowest loss of each datum; NaN counts as the highest."""
    return jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses), axis=0)


def by_importance(keys: Key[Array, " B"]) -> Choice:
    """Chooses draws with probability softmax(-loss), the weights of "iwae" (Gumbel's maxima).

    Args:
      keys: one key a datum (`datum_keys`).
    """

    def choice(losses: Float[Array, "J B"]) -> Int[Array, " B"]:
        def noise(key: Key[Array, ""]) -> Float[Array, " J"]:
            return jax.random.gumbel(
                jax.random.fold_in(key, _CHOICE), losses.shape[:1], losses.dtype
            )

        return lowest(losses - jax.vmap(noise, out_axes=1)(keys))

    return choice


def choose(
    sample: Sample,
    loss: Callable[[Float[Array, "J B K"]], Float[Array, "J B"]],
    keys: Key[Array, " B"],
    heads: Heads,
    num_samples: int,
    annealing: Annealing,
    chunk: int | None = None,
    choice: Choice = lowest,
) -> Int[Array, " B"]:
    """Number of the draw to use for each datum: by default of the highest ELBO (eq. 9).

    Only the losses of the draws are kept, and no gradient passes.

    Args:
      sample: one draw for one datum.
      loss: codes [J, B, K] -> loss of each, [J, B].
      keys: one key a datum.
      heads: posterior parameters, each [B, K].
      num_samples: J.
      annealing: warm-up and temperature.
      chunk: how many of the J draws are held in memory at once; all by default.
      choice: `lowest`, or `by_importance`.

    Returns:
      Indices in [0, J).
    """
    num_data = keys.shape[0]
    if num_samples == 1:
        return jnp.zeros(num_data, int)
    heads = jax.lax.stop_gradient(heads)

    def losses_from(start: Int[Array, ""] | int, count: int) -> Float[Array, "j B"]:
        draws = first_draws(count, num_data) + start
        return loss(draw(sample, keys, heads, draws, annealing))

    chunk = min(chunk or num_samples, num_samples)
    whole, rest = divmod(num_samples, chunk)
    if whole == 1:
        losses = losses_from(0, chunk)
    else:
        starts = chunk * jnp.arange(whole)
        losses = jax.lax.map(lambda start: losses_from(start, chunk), starts)
        losses = losses.reshape(whole * chunk, num_data)
    if rest:
        losses = jnp.concatenate([losses, losses_from(whole * chunk, rest)])
    return choice(losses)


def combine(losses: Float[Array, "J B"], sampling: Sampling) -> Float[Array, " B"]:
    """One loss a datum from the losses of its J samples, differentiable through all of them.

    Args:
      losses: loss of each sample, mse + beta KL (eq. 12).
      sampling: "avg" (eq. 7), "max" (the lowest loss, eq. 9) or "iwae" (-log mean exp(-loss), the
        form of Burda et al. 2016, of this scaled loss).

    Returns:
      One loss a datum.
    """
    if sampling == "max":
        return jnp.take_along_axis(losses, jnp.argmin(losses, axis=0)[None], axis=0)[0]
    if sampling == "avg" or sampling in BY_MOMENTS:
        return losses.mean(axis=0)
    return jnp.log(losses.shape[0]) - jax.nn.logsumexp(-losses, axis=0)


def weights(losses: Float[Array, "J B"], sampling: Sampling) -> Float[Array, "J B"]:
    """Each sample's share of the gradient: that of `combine` with respect to the losses.

    Args:
      losses: loss of each sample.
      sampling: "max" (one at the lowest loss), "avg" (1/J) or "iwae" (softmax(-loss)).

    Returns:
      Non-negative weights that sum to one over J, with no gradient of their own.
    """
    gradient = jax.grad(lambda losses: combine(losses, sampling).sum())
    return jax.lax.stop_gradient(gradient(jax.lax.stop_gradient(losses)))
