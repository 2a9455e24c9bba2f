"""The terms of the bound for each example, and the losses that training differentiates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.model import Autoencoder, Model, Parameters, Statistics
from jvsc.posteriors.base import Annealing, Divergence
from jvsc.sampling import Sampling, choose, combine, datum_keys, draw, first_draws, weights
from jvsc.thresholds import Heads, gradient_carrier


class StepMetrics(NamedTuple):
    """What a training step reports, means over its batch.

    Attributes:
      loss: the encoder's loss of the samples (eq. 12); for FISTA's codes the data and L1 terms of
        objective (10); a sparse autoencoder's own loss.
      mse: squared error per pixel.
      kl: KL summed over the latents, in nats (zero without a posterior).
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
    """KL term of the loss in nats, summed over the latents (eq. 12)."""
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
    statistics: Statistics,
    data: Float[Array, "B D"],
    heads: Heads,
    keys: Key[Array, " B"],
    num_samples: int,
    annealing: Annealing,
    chunk: int | None = None,
    training: bool = False,
) -> Float[Array, "1 B K"]:
    """The code of the highest ELBO among J draws of each datum (eq. 9), drawn anew with gradient.

    The divergence is the same for all draws of a datum, so the squared error decides. In training,
    a generator that normalises by the batch does so over the draws of a chunk.

    Args:
      model: encoder, posterior and generator.
      parameters: theirs.
      statistics: theirs.
      data: x.
      heads: posterior parameters of x.
      keys: one key a datum.
      num_samples: J.
      annealing: warm-up and temperature.
      chunk: draws held in memory at once; all by default.
      training: whether batch normalisation takes the statistics of the draws.

    Returns:
      The chosen codes, with a leading axis of one for J.

    Raises:
      ValueError: if the model has no posterior.
    """
    sample = model.require_posterior().sample
    stopped = jax.lax.stop_gradient(parameters)

    def loss(codes: Float[Array, "J B K"]) -> Float[Array, "J B"]:
        return squared_error(data, model.generate(stopped, statistics, codes, training)[0])

    chosen = choose(sample, loss, keys, heads, num_samples, annealing, chunk)
    return draw(sample, keys, heads, chosen[None], annealing)


def scale_gradient(values: Any, scale: float) -> Any:
    """The values as they are, with their gradient multiplied by `scale`."""
    stop = jax.lax.stop_gradient
    return jax.tree.map(lambda leaf: stop(leaf) + scale * gradient_carrier(leaf), values)


def variational_loss(
    parameters: Parameters,
    statistics: Statistics,
    data: Float[Array, "B D"],
    key: Key[Array, ""],
    annealing: Annealing,
    first: ArrayLike = 0,
    *,
    model: Model,
    sampling: Sampling,
    num_samples: int,
    kl_weight: ArrayLike,
    frobenius: float = 0.0,
    chunk: int | None = None,
) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
    """Loss of encoder and generator on a batch (eq. 11 and 12, with eq. 7 or 9 over J samples).

    Both descend mean_d (x_d - x_hat_d)^2 + beta KL. A dictionary descends 0.5 ||x - s A||^2 +
    frobenius ||A||_F^2 of the same samples: D/2 times that gradient, and the norm's.

    Args:
      parameters: of encoder and generator.
      statistics: their running averages.
      data: batch x, or a device's share of it.
      key: the step's key.
      annealing: warm-up and temperature at this step.
      first: place of the first datum in the whole batch.
      model: encoder, posterior and generator.
      sampling: how J samples count: "max", "avg" or "iwae".
      num_samples: J.
      kl_weight: beta at this step.
      frobenius: weight of the dictionary's norm; zero for a generator that is a network.
      chunk: with "max", draws held in memory at once.

    Returns:
      The loss, and the step's metrics and moved statistics. The loss of a dictionary is of use for
      its gradient only.

    Raises:
      ValueError: if the model has no posterior.
    """
    posterior = model.require_posterior()
    heads, encoder_statistics = model.encode(parameters, statistics, data, training=True)
    kl = total_kl(posterior.kl, heads)
    keys = datum_keys(key, data.shape[0], first)
    if sampling == "max":
        codes = best_draws(
            model, parameters, statistics, data, heads, keys, num_samples, annealing, chunk, True
        )
    else:
        numbers = first_draws(num_samples, data.shape[0])
        codes = draw(posterior.sample, keys, heads, numbers, annealing)

    scale = model.generator.loss_scale
    scaled = parameters._replace(generator=scale_gradient(parameters.generator, scale))
    reconstruction, generator_statistics = model.generate(scaled, statistics, codes, training=True)
    error = squared_error(data, reconstruction)
    losses = error + kl_weight * kl
    loss = jnp.mean(combine(losses, sampling))

    share = weights(losses, sampling)
    metrics = StepMetrics(
        loss=loss,
        mse=jnp.mean(jnp.sum(share * error, axis=0)),
        kl=jnp.mean(kl),
        nonzero_fraction=jnp.mean(jnp.sum(share * nonzero_fraction(codes), axis=0)),
    )
    if frobenius:
        loss += frobenius_term(parameters.generator, frobenius)
    return loss, (metrics, Statistics(encoder_statistics, generator_statistics))


# (penalty) -> codes of a batch, for the generator's parameters and statistics
Solve = Callable[
    [Parameters, Statistics, Float[Array, "B D"], Float[Array, ""]], Float[Array, "B K"]
]


def sparse_coding_loss(
    parameters: Parameters,
    statistics: Statistics,
    data: Float[Array, "B D"],
    penalty: Float[Array, ""],
    *,
    model: Model,
    solve: Solve,
    frobenius: float = 0.0,
) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
    """Objective (10) of a generator on a batch, its codes being a solver's (section 4.1).

    Args:
      parameters: the generator's; there is no encoder.
      statistics: the generator's running averages.
      data: batch x.
      penalty: lambda at this step.
      model: the generator.
      solve: codes of the batch under the parameters.
      frobenius: weight of the dictionary's norm; zero for a generator that is a network.

    Returns:
      What the generator descends: 0.5 ||x - s A||^2 for a dictionary, up to a constant factor the
      mean squared error for a network, and the norm's term; lambda ||s||_1 has no gradient here.
      With it the step's metrics, whose loss is 0.5 ||x - x_hat||^2 + lambda ||s||_1, and the moved
      statistics.
    """
    codes = solve(jax.lax.stop_gradient(parameters), statistics, data, penalty)
    codes = jax.lax.stop_gradient(codes)
    reconstruction, moved = model.generate(parameters, statistics, codes, training=True)
    error = jnp.mean(squared_error(data, reconstruction))
    metrics = StepMetrics(
        loss=jnp.mean(data_term(data, reconstruction)) + jnp.mean(l1_term(codes, penalty)),
        mse=error,
        kl=jnp.zeros(()),
        nonzero_fraction=jnp.mean(nonzero_fraction(codes)),
    )
    loss = model.generator.loss_scale * error
    if frobenius:
        loss += frobenius_term(parameters.generator, frobenius)
    return loss, (metrics, statistics._replace(generator=moved))


def autoencoder_loss(
    parameters: Parameters,
    statistics: Statistics,
    data: Float[Array, "B D"],
    penalty: Float[Array, ""],
    *,
    model: Model,
    autoencoder: Autoencoder,
) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
    """A sparse autoencoder's own loss on a batch (see `jvsc.autoencoders`).

    Args:
      parameters: of encoder and dictionary.
      statistics: theirs.
      data: batch x.
      penalty: lambda at this step.
      model: its generator.
      autoencoder: its encoder and loss.

    Returns:
      The mean loss, and the step's metrics and moved statistics.
    """
    losses, codes, moved = autoencoder.loss(parameters, statistics, data, penalty)
    reconstruction, _ = model.generate(parameters, statistics, codes)
    loss = jnp.mean(losses)
    metrics = StepMetrics(
        loss=loss,
        mse=jnp.mean(squared_error(data, reconstruction)),
        kl=jnp.zeros(()),
        nonzero_fraction=jnp.mean(nonzero_fraction(codes)),
    )
    return loss, (metrics, moved)
