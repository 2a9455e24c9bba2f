"""The JumpReLU autoencoder with an L0 penalty (Rajamanoharan et al. 2024)."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.model.autoencoders.base import (
    NO_STATISTICS,
    Autoencoder,
    decode,
    initial_parameters,
    pre_activations,
    sum_of_squares,
)
from jvsc.model.parameters import Parameters, Statistics


def _rectangle(
    pre: Float[Array, "*B K"], threshold: Float[Array, " K"], bandwidth: float
) -> Float[Array, "*B K"]:
    """K((z - theta) / epsilon): one within half a bandwidth of the threshold."""
    return (jnp.abs(pre - threshold) < bandwidth / 2).astype(pre.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def step_function(
    pre: Float[Array, "*B K"], threshold: Float[Array, " K"], bandwidth: float
) -> Float[Array, "*B K"]:
    """H(z - theta), with a pseudo-derivative in theta.

    It is -K((z - theta) / epsilon) / epsilon, and zero in z (Rajamanoharan et al. 2024).
    """
    del bandwidth
    return (pre > threshold).astype(pre.dtype)


@step_function.defjvp
def _step_function_jvp(bandwidth: float, primals: Any, tangents: Any) -> Any:
    pre, threshold = primals
    slope = -_rectangle(pre, threshold, bandwidth) / bandwidth
    return step_function(pre, threshold, bandwidth), slope * tangents[1]


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def jump_relu(
    pre: Float[Array, "*B K"], threshold: Float[Array, " K"], bandwidth: float
) -> Float[Array, "*B K"]:
    """JumpReLU, z H(z - theta), with a pseudo-derivative in theta.

    It is -theta K((z - theta) / epsilon) / epsilon, and H(z - theta) in z (Rajamanoharan et al.
    2024).
    """
    del bandwidth
    return jnp.where(pre > threshold, pre, 0.0)


@jump_relu.defjvp
def _jump_relu_jvp(bandwidth: float, primals: Any, tangents: Any) -> Any:
    pre, threshold = primals
    slope = -threshold * _rectangle(pre, threshold, bandwidth) / bandwidth
    passed = jnp.where(pre > threshold, tangents[0], 0.0)
    return jump_relu(pre, threshold, bandwidth), passed + slope * tangents[1]


def jump_relu_l0(
    num_features: int,
    num_latents: int,
    bandwidth: float = 1e-3,
    initial_threshold: float = 1e-3,
    target_active: int = 0,
    axis_name: str | None = None,
) -> Autoencoder:
    """Codes JumpReLU(z), loss ||x - x_hat||^2 + lambda ||s||_0 (Rajamanoharan et al. 2024).

    With a target k the penalty is lambda (L0 / k - 1)^2, as there for a wanted number, L0 the mean
    of the batch: data may differ in how many latents they take, as in the trainers that people use.

    Args:
      num_features: D.
      num_latents: K.
      bandwidth: epsilon for data of mean squared norm 1; sqrt(D) times that is used.
      initial_threshold: likewise.
      target_active: k; zero for none.
      axis_name: mesh axis over which a batch is spread in training.

    Raises:
      UserError: if bandwidth or threshold are not positive.
    """
    if not (bandwidth > 0 and initial_threshold > 0):
        raise UserError(
            f"bandwidth is {bandwidth} and initial_threshold {initial_threshold}; give positive "
            "numbers"
        )
    unit = math.sqrt(num_features)
    start = math.log(unit * initial_threshold)

    def init(key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        parameters = initial_parameters(key, num_features, num_latents)
        encoder = parameters.encoder | {"log_threshold": jnp.full(num_latents, start, jnp.float32)}
        return parameters._replace(encoder=encoder), NO_STATISTICS

    def activate(parameters: Parameters, data: Float[Array, "B D"]) -> tuple[Array, Array]:
        return pre_activations(parameters, data), jnp.exp(parameters.encoder["log_threshold"])

    def infer(
        parameters: Parameters, statistics: Statistics, data: Float[Array, "B D"]
    ) -> Float[Array, "B K"]:
        del statistics
        return jump_relu(*activate(parameters, data), unit * bandwidth)

    def loss(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> tuple[Float[Array, " B"], Float[Array, "B K"], Statistics]:
        pre, threshold = activate(parameters, data)
        codes = jump_relu(pre, threshold, unit * bandwidth)
        error = data - decode(parameters.generator, codes)
        norm = jnp.sum(step_function(pre, threshold, unit * bandwidth), axis=-1)
        if target_active:
            norm = jnp.mean(norm)
            norm = norm if axis_name is None else jax.lax.pmean(norm, axis_name)
        charge = (norm / target_active - 1) ** 2 if target_active else norm
        return sum_of_squares(error) + penalty * charge, codes, statistics

    return Autoencoder(init, infer, loss)
