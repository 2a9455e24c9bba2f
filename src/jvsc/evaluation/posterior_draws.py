"""What many draws of each datum's code tell of a trained model, in chunks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

from jvsc.data.pixels import as_float
from jvsc.evaluation.inference import in_chunks
from jvsc.metrics import gaussian_log_likelihood, importance_weighted_bound, jaccard_consistency
from jvsc.model.objective import sparse_coding_objective, squared_error
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.posteriors import Annealing, Posterior
from jvsc.model.posteriors.inferred_threshold import PRIOR_LOG_ODDS, PRIOR_LOG_SCALE
from jvsc.model.sampling import datum_keys, draw, first_draws
from jvsc.model.variational import Variational

# (parameters, statistics, data [N, D], key) -> one or more numbers for each datum, [N] each
MeasureData = Callable[
    [Parameters, Statistics, Shaped[np.ndarray, "N D"], Key[Array, ""]],
    tuple[Float[np.ndarray, " N"], ...],
]

# An atom of smaller norm does not count as a feature (section 4.1.2 of the paper).
SMALLEST_NORM = 0.1


def make_bound(
    model: Variational,
    *,
    num_samples: int,
    annealing: Annealing,
    chunk: int,
) -> MeasureData:
    """Compiles two bounds on log p(x), in nats: importance-weighted over J samples, and the ELBO.

    The likelihood is the Gaussian of `gaussian_log_likelihood`; the densities of a thresholded
    family are its base's and its inferred threshold's, where the divergence acts.

    Args:
      model: the method, whose weight beta > 0 of the divergence gives the likelihood's variance.
      num_samples: J.
      annealing: warm-up and temperature of the samples.
      chunk: data at once, of which one draw each is held in memory.

    Returns:
      A function that gives for each datum the bound of Burda et al. (2016), and the mean of the J
      log weights, an estimate of the evidence lower bound.
    """
    posterior = model.posterior

    def bounds(parameters, statistics, data, heads, keys):
        weight = model.bound_weight(statistics, data.shape[1])

        def log_weight(number: Int[Array, ""]) -> Float[Array, " B"]:
            numbers = first_draws(1, data.shape[0]) + number
            codes, log_ratios = draw(
                posterior.sample_and_log_ratio, keys, heads, numbers, annealing
            )
            error = squared_error(data, model.generate(parameters, statistics, codes)[0])
            likelihood = gaussian_log_likelihood(error, weight, data.shape[1])
            return (likelihood + jnp.sum(log_ratios, axis=-1))[0]

        log_weights = jax.lax.map(log_weight, jnp.arange(num_samples))
        return importance_weighted_bound(log_weights), jnp.mean(log_weights, axis=0)

    return _measure(model, bounds, chunk)


def make_consistency(
    model: Variational, *, num_draws: int, annealing: Annealing, chunk: int
) -> MeasureData:
    """Compiles the Jaccard consistency of the supports of a datum's codes (eq. 13).

    Atoms of a norm below 0.1 do not count (section 4.1.2); a network's latents all do.

    Args:
      model: the method.
      num_draws: codes drawn for each datum.
      annealing: warm-up and temperature of the samples.
      chunk: data at once.
    """
    posterior = model.posterior

    def consistency(parameters, statistics, data, heads, keys):
        numbers = first_draws(num_draws, data.shape[0])
        supports = draw(posterior.sample, keys, heads, numbers, annealing) != 0
        if model.generator.is_dictionary:
            supports &= jnp.linalg.norm(parameters.generator, axis=1) >= SMALLEST_NORM
        return (jaccard_consistency(supports),)

    return _measure(model, consistency, chunk)


def make_best_of_draws(
    model: Variational, *, num_draws: int, annealing: Annealing, penalty: float, chunk: int
) -> MeasureData:
    """Compiles objective (10) of the best among many draws of each datum's code.

    The objective itself chooses, so this is the most that drawing alone can reach with a posterior.

    Args:
      model: a method with a dictionary.
      num_draws: J.
      annealing: warm-up and temperature of the samples.
      penalty: lambda of objective (10).
      chunk: data at once, of which one draw each is held in memory.
    """
    posterior = model.posterior

    def best(parameters, statistics, data, heads, keys):
        def objective(number: Int[Array, ""]) -> Float[Array, " B"]:
            numbers = first_draws(1, data.shape[0]) + number
            codes = draw(posterior.sample, keys, heads, numbers, annealing)[0]
            reconstruction, _ = model.generate(parameters, statistics, codes)
            return sparse_coding_objective(data, reconstruction, codes, penalty).total()

        worst = jnp.full(data.shape[0], jnp.inf, data.dtype)
        return (
            jax.lax.fori_loop(
                0, num_draws, lambda i, least: jnp.minimum(least, objective(i)), worst
            ),
        )

    return _measure(model, best, chunk)


def prior_codes(
    posterior: Posterior,
    num_codes: int,
    num_latents: int,
    found: dict[str, Any] | None = None,
) -> Float[Array, "N K"]:
    """Codes drawn from a posterior's prior, with a fixed key.

    Args:
      posterior: the family.
      num_codes: N.
      num_latents: K.
      found: the prior's numbers that a training has found (`EmpiricalBayes`).
    """
    values: dict[str, Any] = dict(posterior.prior)
    if found is not None:
        values |= {"log_scale": found[PRIOR_LOG_SCALE], "gate": found[PRIOR_LOG_ODDS]}
    heads = {
        name: jnp.full((num_codes, num_latents), value, jnp.float32)
        for name, value in values.items()
    }
    keys = datum_keys(jax.random.key(0), num_codes)
    return draw(posterior.sample, keys, heads, first_draws(1, num_codes), Annealing())[0]


def _measure(model: Variational, of_heads: Callable, chunk: int) -> MeasureData:
    """Compiles `(parameters, statistics, data, heads, keys of the data) -> numbers` in chunks."""

    @jax.jit
    def of_chunk(parameters, statistics, rows, key, first):
        data = as_float(rows)
        heads, _ = model.heads(parameters, statistics, data)
        keys = datum_keys(key, data.shape[0], first)
        return of_heads(parameters, statistics, data, heads, keys)

    def measure(
        parameters: Parameters,
        statistics: Statistics,
        data: Shaped[np.ndarray, "N D"],
        key: Key[Array, ""],
    ) -> tuple[Float[np.ndarray, " N"], ...]:
        return in_chunks(
            lambda rows, first: of_chunk(parameters, statistics, rows, key, first), data, chunk
        )

    return measure
