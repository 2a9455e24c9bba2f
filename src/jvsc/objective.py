"""The terms of the bound for each example, and the losses that training differentiates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.model import Model, Parameters
from jvsc.posteriors.base import Annealing, Divergence
from jvsc.sampling import Sampling, choose, combine, datum_keys, draw, first_draws, weights
from jvsc.solvers import fista
from jvsc.thresholds import Heads


class StepMetrics(NamedTuple):
    """What a training step reports, means over its batch.

    Attributes:
      loss: the encoder's loss of the samples, or objective (10) of FISTA's codes.
      mse: squared error per pixel.
      kl: KL summed over the latents (zero for FISTA).
      nonzero_fraction: share of latents that are not exactly zero.
    """

    loss: Float[Array, ""]
    mse: Float[Array, ""]
    kl: Float[Array, ""]
    nonzero_fraction: Float[Array, ""]


def squared_error(
    data: Float[Array, "*#B D"], reconstruction: Float[Array, "*B D"]
) -> Float[Array, "*B"]:
    """Reconstruction term of the encoder's loss: mean_d (x_d - x_hat_d)^2 (eq. 12)."""
    return jnp.mean((data - reconstruction) ** 2, axis=-1)


def total_kl(kl: Divergence, heads: Heads) -> Float[Array, "*B"]:
    """KL term of the loss, summed over the latents (eq. 12)."""
    return jnp.sum(kl(heads), axis=-1)


def data_term(
    data: Float[Array, "*#B D"], reconstruction: Float[Array, "*B D"]
) -> Float[Array, "*B"]:
    """Data term of sparse coding: 0.5 ||x - x_hat||^2 (eq. 10)."""
    return 0.5 * jnp.sum((data - reconstruction) ** 2, axis=-1)


def l1_term(codes: Float[Array, "*B K"], penalty: float | Float[Array, ""]) -> Float[Array, "*B"]:
    """Sparsity term of sparse coding: lambda ||s||_1 (eq. 10)."""
    return penalty * jnp.sum(jnp.abs(codes), axis=-1)


def frobenius_term(dictionary: Float[Array, "K D"], weight: float) -> Float[Array, ""]:
    """Penalty that bounds the dictionary: weight ||A||_F^2 (eq. 10 and 11)."""
    return weight * jnp.sum(dictionary**2)


def nonzero_fraction(codes: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """Share of each code's latents that are not exactly zero."""
    return jnp.mean(codes != 0, axis=-1, dtype=jnp.float32)


def best_draws(
    model: Model,
    parameters: Parameters,
    data: Float[Array, "B D"],
    heads: Heads,
    keys: Key[Array, " B"],
    num_samples: int,
    annealing: Annealing,
    chunk: int | None = None,
) -> Float[Array, "1 B K"]:
    """The code of the highest ELBO among J draws of each datum (eq. 9), drawn anew with gradient.

    The divergence is the same for all draws of a datum, so the squared error decides.

    Args:
      model: encoder, posterior and generator.
      parameters: theirs.
      data: x.
      heads: posterior parameters of x.
      keys: one key a datum.
      num_samples: J.
      annealing: warm-up and temperature.
      chunk: draws held in memory at once.
    """
    stop = jax.lax.stop_gradient
    sample = model.require_posterior().sample

    def loss(codes: Float[Array, "J B K"]) -> Float[Array, "J B"]:
        return squared_error(data, model.generator.apply(stop(parameters.generator), codes))

    chosen = choose(sample, loss, keys, heads, num_samples, annealing, chunk)
    return draw(sample, keys, heads, chosen[None], annealing)


def variational_loss(
    parameters: Parameters,
    data: Float[Array, "B D"],
    key: Key[Array, ""],
    annealing: Annealing,
    *,
    model: Model,
    sampling: Sampling,
    num_samples: int,
    kl_weight: float,
    frobenius: float,
    chunk: int | None = None,
) -> tuple[Float[Array, ""], StepMetrics]:
    """Loss of encoder and dictionary on a batch (eq. 11 and 12, with eq. 7 or 9 over J samples).

    The encoder descends mean_d (x_d - x_hat_d)^2 + beta KL, the dictionary
    0.5 ||x - s A||^2 + frobenius ||A||_F^2 of the same samples; a stop-gradient keeps each loss
    from the other's parameters.

    Args:
      parameters: of encoder and dictionary.
      data: batch x.
      key: the step's key.
      annealing: warm-up and temperature at this step.
      model: encoder, posterior and generator.
      sampling: how J samples count: "max", "avg" or "iwae".
      num_samples: J.
      kl_weight: beta.
      frobenius: weight of the dictionary's norm.
      chunk: with "max", draws held in memory at once.

    Returns:
      The sum of both losses, and the step's metrics.
    """
    stop = jax.lax.stop_gradient
    posterior = model.require_posterior()
    heads = model.encode(parameters, data)
    kl = total_kl(posterior.kl, heads)
    keys = datum_keys(key, data.shape[0])
    if sampling == "max":
        codes = best_draws(model, parameters, data, heads, keys, num_samples, annealing, chunk)
    else:
        numbers = first_draws(num_samples, data.shape[0])
        codes = draw(posterior.sample, keys, heads, numbers, annealing)

    generate = model.generator.apply
    error = squared_error(data, generate(stop(parameters.generator), codes))
    losses = error + kl_weight * kl
    encoder_loss = jnp.mean(combine(losses, sampling))

    share = weights(losses, sampling)
    dictionary_errors = data_term(data, generate(parameters.generator, stop(codes)))
    dictionary_loss = jnp.mean(jnp.sum(share * dictionary_errors, axis=0))
    dictionary_loss += frobenius_term(parameters.generator, frobenius)

    metrics = StepMetrics(
        loss=encoder_loss,
        mse=jnp.mean(jnp.sum(share * error, axis=0)),
        kl=jnp.mean(kl),
        nonzero_fraction=jnp.mean(jnp.sum(share * nonzero_fraction(codes), axis=0)),
    )
    return encoder_loss + dictionary_loss, metrics


def sparse_coding_loss(
    parameters: Parameters,
    data: Float[Array, "B D"],
    penalty: Float[Array, ""],
    *,
    frobenius: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[Float[Array, ""], StepMetrics]:
    """Objective (10) of a dictionary on a batch, the codes being FISTA's (section 4.1).

    Args:
      parameters: the dictionary; there is no encoder.
      data: batch x.
      penalty: lambda at this step.
      frobenius: weight of the dictionary's norm.
      tolerance: relative duality gap of the codes.
      max_iterations: FISTA's limit.

    Returns:
      The dictionary's loss, and the step's metrics.
    """
    dictionary = parameters.generator
    stopped = jax.lax.stop_gradient(dictionary)
    codes = fista(data, stopped, penalty, tolerance=tolerance, max_iterations=max_iterations).codes
    reconstruction = codes @ dictionary
    data_loss = jnp.mean(data_term(data, reconstruction))
    metrics = StepMetrics(
        loss=data_loss + jnp.mean(l1_term(codes, penalty)),
        mse=jnp.mean(squared_error(data, reconstruction)),
        kl=jnp.zeros(()),
        nonzero_fraction=jnp.mean(nonzero_fraction(codes)),
    )
    return data_loss + frobenius_term(dictionary, frobenius), metrics
