"""Sparse autoencoders, the opponents on activations of deep networks: ReLU-L1, TopK, JumpReLU.

All have one linear layer before the activation, and a dictionary of unit-norm atoms with a bias
behind it, x_hat = s A + b. The encoder starts as the dictionary's transpose (Gao et al. 2024).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from jvsc.model import Autoencoder, Parameters, Statistics
from jvsc.networks import Generator

NO_STATISTICS = Statistics({}, {})
Codes = Callable[[Any, Float[Array, "B K"]], Float[Array, "B K"]]


def initial_parameters(key: Key[Array, ""], num_features: int, num_latents: int) -> Parameters:
    """Random atoms of norm 1, the encoder their transpose, biases zero."""
    atoms = jax.random.normal(key, (num_latents, num_features))
    atoms /= jnp.linalg.norm(atoms, axis=1, keepdims=True)
    return Parameters(
        {"kernel": atoms.T, "bias": jnp.zeros(num_latents)},
        {"dictionary": atoms, "bias": jnp.zeros(num_features)},
    )


def pre_activations(parameters: Parameters, data: Float[Array, "B D"]) -> Float[Array, "B K"]:
    """(x - b) W + c: the decoder's bias is taken off first (Bricken et al. 2023)."""
    encoder, bias = parameters.encoder, parameters.generator["bias"]
    return (data - bias) @ encoder["kernel"] + encoder["bias"]


def decode(generator: Any, codes: Float[Array, "*B K"]) -> Float[Array, "*B D"]:
    """x_hat = s A + b."""
    return codes @ generator["dictionary"] + generator["bias"]


def sum_of_squares(error: Float[Array, "*B D"]) -> Float[Array, "*B"]:
    """||x - x_hat||^2."""
    return jnp.sum(error**2, axis=-1)


def biased_dictionary(num_features: int, num_latents: int) -> Generator:
    """The generator of an autoencoder; it begins together with the encoder."""

    def init(key: Key[Array, ""]) -> tuple[Any, Any]:
        return initial_parameters(key, num_features, num_latents).generator, {}

    def apply(
        generator: Any, statistics: Any, codes: Float[Array, "*B K"], training: bool
    ) -> tuple[Float[Array, "*B D"], Any]:
        del training
        return decode(generator, codes), statistics

    return Generator(init, apply)


def relu_l1(num_features: int, num_latents: int) -> Autoencoder:
    """Codes ReLU(z), loss ||x - x_hat||^2 + lambda ||s||_1.

    Bricken et al. 2023, whose resampling of neurons is left out; Cunningham et al. 2023.

    Args:
      num_features: D.
      num_latents: K.
    """

    def init(key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        return initial_parameters(key, num_features, num_latents), NO_STATISTICS

    def infer(parameters: Parameters, data: Float[Array, "B D"]) -> Float[Array, "B K"]:
        return jax.nn.relu(pre_activations(parameters, data))

    def loss(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> tuple[Float[Array, " B"], Float[Array, "B K"], Statistics]:
        codes = infer(parameters, data)
        error = data - decode(parameters.generator, codes)
        return sum_of_squares(error) + penalty * jnp.sum(codes, axis=-1), codes, statistics

    return Autoencoder(init, infer, loss)


def keep_largest(values: Float[Array, "B K"], count: int) -> Float[Array, "B K"]:
    """The `count` largest of each row where they are positive, zero elsewhere."""
    largest, places = jax.lax.top_k(values, count)
    rows = jnp.arange(values.shape[0])[:, None]
    return jnp.zeros_like(values).at[rows, places].set(jax.nn.relu(largest))


def auxiliary_loss(
    error: Float[Array, "B D"],
    pre: Float[Array, "B K"],
    dead: Bool[Array, " K"],
    dictionary: Float[Array, "K D"],
    count: int,
) -> Float[Array, " B"]:
    """What dead latents leave of the error: ||e - e_hat||^2, e_hat from `count` of them (AuxK).

    Gao et al. 2024, appendix A.2. The error counts as given; zero where no latent is dead.

    Args:
      error: e = x - x_hat.
      pre: pre-activations.
      dead: which latents are.
      dictionary: atoms.
      count: of the largest pre-activations among the dead.
    """
    revived = keep_largest(jnp.where(dead, pre, -jnp.inf), count)
    left = sum_of_squares(jax.lax.stop_gradient(error) - revived @ dictionary)
    return jnp.where(jnp.any(dead), left, 0.0)


def topk(
    num_features: int,
    num_latents: int,
    active: int,
    auxiliary_active: int = 512,
    auxiliary_weight: float = 1 / 32,
    dead_after: int = 10_000,
    axis_name: str | None = None,
) -> Autoencoder:
    """Codes of the k largest pre-activations, loss ||x - x_hat||^2 + AuxK (Gao et al. 2024).

    Args:
      num_features: D.
      num_latents: K.
      active: k; those of them that are negative become zero.
      auxiliary_active: how many dead latents model the error.
      auxiliary_weight: of their loss.
      dead_after: steps after which a latent that has not been active is dead.
      axis_name: mesh axis over which a batch is spread in training.
    """
    auxiliary_active = min(auxiliary_active, num_latents)

    def init(key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        silent = jnp.zeros(num_latents, jnp.int32)
        parameters = initial_parameters(key, num_features, num_latents)
        return parameters, Statistics({"silent_steps": silent}, {})

    def infer(parameters: Parameters, data: Float[Array, "B D"]) -> Float[Array, "B K"]:
        return keep_largest(pre_activations(parameters, data), active)

    def loss(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> tuple[Float[Array, " B"], Float[Array, "B K"], Statistics]:
        del penalty
        pre = pre_activations(parameters, data)
        codes = keep_largest(pre, active)
        error = data - decode(parameters.generator, codes)
        silent = statistics.encoder["silent_steps"]
        dictionary = parameters.generator["dictionary"]
        left = auxiliary_loss(error, pre, silent >= dead_after, dictionary, auxiliary_active)
        moved = Statistics({"silent_steps": _silence(silent, codes, axis_name)}, {})
        return sum_of_squares(error) + auxiliary_weight * left, codes, moved

    return Autoencoder(init, infer, loss)


def _silence(
    silent: Int[Array, " K"], codes: Float[Array, "B K"], axis_name: str | None
) -> Int[Array, " K"]:
    """Steps since each latent was last active, on any device."""
    active = jnp.any(codes != 0, axis=0)
    if axis_name is not None:
        active = jax.lax.pmax(active.astype(jnp.int32), axis_name) > 0
    return jnp.where(active, 0, silent + 1)


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
) -> Autoencoder:
    """Codes JumpReLU(z), loss ||x - x_hat||^2 + lambda ||s||_0 (Rajamanoharan et al. 2024).

    Args:
      num_features: D.
      num_latents: K.
      bandwidth: epsilon for data of mean squared norm 1; sqrt(D) times that is used.
      initial_threshold: likewise.
    """
    unit = math.sqrt(num_features)
    start = math.log(unit * initial_threshold)

    def init(key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        parameters = initial_parameters(key, num_features, num_latents)
        encoder = parameters.encoder | {"log_threshold": jnp.full(num_latents, start)}
        return parameters._replace(encoder=encoder), NO_STATISTICS

    def activate(parameters: Parameters, data: Float[Array, "B D"]) -> tuple[Array, Array]:
        return pre_activations(parameters, data), jnp.exp(parameters.encoder["log_threshold"])

    def infer(parameters: Parameters, data: Float[Array, "B D"]) -> Float[Array, "B K"]:
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
        return sum_of_squares(error) + penalty * norm, codes, statistics

    return Autoencoder(init, infer, loss)


def with_unit_atoms(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser after each of whose steps the atoms have norm 1 (Bricken et al. 2023).

    The gradient's part along each atom, which the norm would undo, is taken off before the step.
    """

    def update(gradient: Parameters, state: Any, parameters: Parameters | None = None) -> Any:
        assert parameters is not None
        atoms, slope = parameters.generator["dictionary"], gradient.generator["dictionary"]
        slope -= jnp.sum(slope * atoms, axis=1, keepdims=True) * atoms
        gradient = gradient._replace(generator=gradient.generator | {"dictionary": slope})
        updates, state = inner.update(gradient, state, parameters)
        moved = atoms + updates.generator["dictionary"]  # type: ignore[attr-defined]
        step = moved / jnp.linalg.norm(moved, axis=1, keepdims=True) - atoms
        generator = updates.generator | {"dictionary": step}  # type: ignore[attr-defined]
        return updates._replace(generator=generator), state  # type: ignore[attr-defined]

    return optax.GradientTransformation(inner.init, update)  # type: ignore[arg-type]
