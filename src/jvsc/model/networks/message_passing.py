"""Approximate message passing as an encoder: Bayesian inference, with no parameters of its own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.model.gaussian_channel import laplacian_slab, spike_and_slab
from jvsc.model.networks.base import (
    Encoder,
    LinearGenerativeModel,
    NetworkParameters,
    NetworkStatistics,
    check_prior,
)
from jvsc.model.thresholding import Heads


def message_passing_encoder(
    num_latents: int, prior: dict[str, float], num_steps: int = 8
) -> Encoder:
    """Approximate message passing (Donoho, Maleki & Montanari 2009) with the Bayes denoiser.

    Each step observes every latent through a Gaussian channel, c = s + z A^T, whose variance is the
    noise's and that of what the other latents leave uncertain; z is the residual with Onsager's
    term. So the posterior's probabilities are calibrated where atoms are many and incoherent. The
    dictionary, the noise and the prior are read; there are no parameters of its own. Steps are of
    atoms of norm 1 and of codes that these would have, whatever norms the dictionary has.

    Args:
      num_latents: K.
      prior: the posterior's heads, with `gate`, `loc` and `log_scale` among them.
      num_steps: L.

    Raises:
      UserError: if `num_steps` is not positive, or the posterior has no gate.
    """
    check_prior(prior)
    if num_steps < 1:
        raise UserError(f"encoder.steps is {num_steps}; give a positive number")
    if set(prior) != {"loc", "log_scale", "gate"}:
        raise UserError(
            "encoder.name=message_passing is for method=inferred_threshold; give another encoder"
        )

    def init(key: Key[Array, ""]) -> tuple[NetworkParameters, NetworkStatistics]:
        del key
        return {}, {}

    def apply(
        parameters: NetworkParameters,
        statistics: NetworkStatistics,
        data: Float[Array, "B D"],
        training: bool,
        generative: LinearGenerativeModel | None = None,
    ) -> tuple[Heads, NetworkStatistics]:
        del parameters, training
        assert generative is not None  # a generator that is a network is refused before
        norms = jnp.linalg.norm(generative.dictionary, axis=1)
        norms = jnp.where(norms > 0, norms, 1.0)
        dictionary = generative.dictionary / norms[:, None]
        prior_scale = generative.prior_scale * norms
        num_features = data.shape[1]
        code = jnp.zeros((data.shape[0], num_latents), data.dtype)
        probability = jax.nn.sigmoid(generative.prior_log_odds)
        variance = jnp.full_like(code, 1.0) * probability * 2 * prior_scale**2
        residual, uncertain = data, jnp.zeros_like(code[:, :1])
        observed, channel = code, variance[:, :1]
        for step in range(num_steps):
            channel = generative.noise_variance + jnp.sum(variance, 1, keepdims=True) / num_features
            if step:
                onsager = residual * uncertain / num_features
                residual = data - code @ dictionary + onsager
            observed = code + residual @ dictionary.T
            active, loc, slab = spike_and_slab(
                observed, channel, prior_scale, generative.prior_log_odds
            )
            code = active * loc
            variance = active * (slab + (1 - active) * loc**2)
            uncertain = jnp.sum(variance, 1, keepdims=True) / channel
        log_odds, loc, slab = laplacian_slab(observed, channel, prior_scale)
        gate = log_odds + generative.prior_log_odds
        log_scale = 0.5 * jnp.log(slab / 2) - jnp.log(norms)
        return {"loc": loc / norms, "log_scale": log_scale, "gate": gate}, statistics

    return Encoder(init, apply, reads_dictionary=True)
