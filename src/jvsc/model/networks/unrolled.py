"""An encoder that explains away: some steps of inference under the model itself, as one network."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Key

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
from jvsc.solvers.duality import there

# Where the learned numbers of each step begin.
STEP_SIZE, MOMENTUM = 0.3, 0.3
# The products of matrices, which the gradient keeps of each step; the rest is made again.
CORRELATION = "correlation"
# Parameters that have a value for each step.
PER_STEP = ("step_size", "momentum", "log_variance_factor", "correction")


class _State(NamedTuple):
    """From step to step: codes, those before as they were shortened, and what was observed."""

    code: Float[Array, "B K"]
    before: Float[Array, "B K"]
    uncertain: Float[Array, "B 1"]
    observed: Float[Array, "B K"]
    noise_variance: Float[Array, "B #K"]


def unrolled_encoder(
    num_features: int,
    num_latents: int,
    prior: dict[str, float],
    num_steps: int = 10,
    corrects: bool = False,
) -> Encoder:
    """Steps towards what explains the data, each followed by the prior's own shrinkage, learned.

    From s = 0 a step is u = s + t (x - s A) (A + W)^T + m (s - s'), with s' the step before, which
    is taken as a noisy observation of the latents: its posterior under the prior (see
    `gaussian_channel`) gives the gate, the location and the next s = sigmoid(gate) loc, which is
    first shortened where it leaves more of a datum than zeros would. The observation's variance is
    the noise's and what the other latents leave uncertain, sum_k Var s_k / D, times a factor. The
    form is that of learned shrinkage with momentum (Gregor & LeCun 2010); the shrinkage is the
    posterior mean, as in message passing (Donoho et al. 2009). The dictionary is read, but not
    trained through the encoder.

    Learned are t, m and the factor of the variance, one number for each step, and at the end a
    factor and an offset of the gate and a factor of the scale for each latent. With `corrects` t
    and the factor have a value for each latent too, and W is learned.

    Args:
      num_features: D.
      num_latents: K.
      prior: the posterior's heads, with the values at which they are the prior. `loc`, `gate`,
        `log_scale` and `log_variance` are the last step's.
        Without a gate among them, all but `loc` follow its log-sigmoid by a learned slope instead,
        as their size decides which latents are in use.
      num_steps: L.
      corrects: whether each step has a matrix W [K, D] of its own, from zero.

    Raises:
      UserError: if `num_steps` is not positive, or the prior's values are not given.
    """
    check_prior(prior)
    if num_steps < 1:
        raise UserError(f"encoder.steps is {num_steps}; give a positive number")
    sloped = () if "gate" in prior else tuple(name for name in prior if name != "loc")

    def init(key: Key[Array, ""]) -> tuple[NetworkParameters, NetworkStatistics]:
        del key  # nothing is random
        width = num_latents if corrects else 1
        parameters: NetworkParameters = {
            "step_size": jnp.full((num_steps, width), STEP_SIZE, jnp.float32),
            "momentum": jnp.full((num_steps, 1), 0.0 if corrects else MOMENTUM, jnp.float32),
            "log_variance_factor": jnp.zeros((num_steps, width), jnp.float32),
            "log_gate_factor": jnp.zeros(num_latents, jnp.float32),
            "gate_offset": jnp.zeros(num_latents, jnp.float32),
            "log_scale_factor": jnp.zeros(num_latents, jnp.float32),
        }
        if corrects:
            shape = (num_steps, num_features, num_latents)
            parameters["correction"] = jnp.zeros(shape, jnp.float32)
        for name in sloped:
            parameters[f"{name}_offset"] = jnp.full(num_latents, prior[name], jnp.float32)
            parameters[f"{name}_slope"] = jnp.zeros(num_latents, jnp.float32)
        return parameters, {}

    def apply(
        parameters: NetworkParameters,
        statistics: NetworkStatistics,
        data: Float[Array, "B D"],
        training: bool,
        generative: LinearGenerativeModel | None = None,
    ) -> tuple[Heads, NetworkStatistics]:
        del training
        assert generative is not None  # a generator that is a network is refused before
        dtype = jnp.result_type(data, generative.dictionary, parameters["step_size"])
        correlate = _residual_correlation(data, generative.dictionary, generative.present)
        # No latent needs more, and steps that are too long would diverge.
        norms = jnp.maximum(jnp.linalg.norm(generative.dictionary, axis=1), jnp.finfo(dtype).tiny)
        limit = jnp.linalg.norm(data, axis=1, keepdims=True) / norms

        def step(state: _State, numbers: dict[str, Array]) -> tuple[_State, None]:
            shortened, correlation = correlate(state.code, numbers.get("correction"))
            observed = numbers["step_size"] * checkpoint_name(correlation, CORRELATION)
            observed += shortened + numbers["momentum"] * (shortened - state.before)
            observed = jnp.clip(observed, -limit, limit)
            channel = generative.noise_variance + state.uncertain / num_features
            channel = channel * jnp.exp(numbers["log_variance_factor"])
            active, loc, variance = spike_and_slab(
                observed, channel, generative.prior_scale, generative.prior_log_odds
            )
            code = active * loc
            spread = active * (variance + (1 - active) * loc**2)
            uncertain = jnp.sum(spread, axis=1, keepdims=True)
            return _State(code, shortened, uncertain, observed, channel), None

        zeros = jnp.zeros((data.shape[0], num_latents), dtype)
        prior_variance = jax.nn.sigmoid(generative.prior_log_odds) * 2 * generative.prior_scale**2
        uncertain = jnp.full((data.shape[0], 1), num_latents, dtype) * prior_variance
        width = parameters["log_variance_factor"].shape[1]
        start = _State(zeros, zeros, uncertain, zeros, zeros[:, :width])
        # One step is compiled, however many there are.
        steps = {name: parameters[name] for name in PER_STEP if name in parameters}
        keeps = jax.checkpoint_policies.save_only_these_names(CORRELATION)
        last, _ = jax.lax.scan(jax.checkpoint(step, policy=keeps), start, steps)
        log_odds, loc, variance = laplacian_slab(
            last.observed, last.noise_variance, generative.prior_scale
        )
        gate = log_odds + generative.prior_log_odds
        gate = jnp.exp(parameters["log_gate_factor"]) * gate + parameters["gate_offset"]
        log_scale = 0.5 * jnp.log(variance / 2) + parameters["log_scale_factor"]
        heads = {
            "loc": loc,
            "gate": gate,
            "log_scale": log_scale,
            "log_variance": 2 * log_scale + math.log(2),
        }
        for name in sloped:
            slope = parameters[f"{name}_slope"] * jax.nn.log_sigmoid(gate)
            heads[name] = parameters[f"{name}_offset"] + slope
        return {name: heads[name] for name in prior}, statistics

    return Encoder(init, apply, reads_dictionary=True)


def _residual_correlation(
    data: Float[Array, "B D"],
    dictionary: Float[Array, "K D"],
    present: Bool[Array, "B D"] | None,
) -> Callable[
    [Float[Array, "B K"], Float[Array, "D K"] | None],
    tuple[Float[Array, "B K"], Float[Array, "B K"]],
]:
    """`(codes, W^T) -> (s, (x - s A) (A + W)^T)`, by the Gram matrix where that is less work.

    The codes are shortened to s where they leave more of a datum than zeros would, so that steps
    along a direction that many atoms share do not grow. The last step's codes are not.

    Args:
      data: x.
      dictionary: A.
      present: entries whose residual counts; None for all.
    """
    num_latents, num_features = dictionary.shape
    correlation = data @ dictionary.T
    by_gram = present is None and num_latents <= 2 * num_features
    gram = dictionary @ dictionary.T if by_gram else None

    def correlate(
        codes: Float[Array, "B K"], correction: Float[Array, "D K"] | None
    ) -> tuple[Float[Array, "B K"], Float[Array, "B K"]]:
        if correction is None and gram is not None:
            image = codes @ gram
            share = _share_that_explains(codes * correlation, codes * image)
            return share * codes, correlation - share * image
        image = there(codes @ dictionary, present)
        share = _share_that_explains(image * data, image**2)
        atoms = dictionary.T if correction is None else dictionary.T + correction
        return share * codes, there(data - share * image, present) @ atoms

    return correlate


def _share_that_explains(
    overlaps: Float[Array, "B K"], squares: Float[Array, "B K"]
) -> Float[Array, "B 1"]:
    """The largest a in [0, 1] with ||x - a s A||^2 <= ||x||^2, without a gradient.

    Args:
      overlaps: terms of <x, s A>, which are summed.
      squares: terms of ||s A||^2, likewise.
    """
    overlap, square = (jnp.sum(terms, axis=1, keepdims=True) for terms in (overlaps, squares))
    tiny = jnp.finfo(square.dtype).tiny
    share = jnp.clip(2 * overlap / jnp.maximum(square, tiny), 0.0, 1.0)
    return jax.lax.stop_gradient(jnp.where(square > 0, share, 1.0))
