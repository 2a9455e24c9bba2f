"""What sparse autoencoders share: a linear encoder, a dictionary with a bias, and `Model`.

All have one linear layer before the activation, and a dictionary of unit-norm atoms with a bias
behind it, x_hat = s A + b. The encoder starts as the dictionary's transpose (Gao et al. 2024).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from jvsc.errors import UserError
from jvsc.model.model import Inference, StepMetrics, step_metrics
from jvsc.model.networks import Generator
from jvsc.model.objective import squared_error
from jvsc.model.parameters import Parameters, Statistics

NO_STATISTICS = Statistics({}, {})


class Autoencoder(NamedTuple):
    """A deterministic encoder that is trained with a dictionary by a loss of its own.

    Attributes:
      init: `key -> (parameters, statistics)` of encoder and dictionary, with the same atoms.
      infer: `(parameters, statistics, data [B, D]) -> codes [B, K]`.
      loss: `(parameters, statistics, data [B, D], penalty) -> (losses [B], codes [B, K], new
        statistics)`.
    """

    init: Callable[[Key[Array, ""]], tuple[Parameters, Statistics]]
    infer: Callable[[Parameters, Statistics, Float[Array, "B D"]], Float[Array, "B K"]]
    loss: Callable[
        [Parameters, Statistics, Float[Array, "B D"], Float[Array, ""]],
        tuple[Float[Array, " B"], Float[Array, "B K"], Statistics],
    ]


@dataclass(frozen=True)
class SparseAutoencoder:
    """A sparse autoencoder as a `Model`.

    Attributes:
      generator: the dictionary with its bias.
      autoencoder: encoder and loss.
      penalty: lambda.
      penalty_warmup: step -> factor of the penalty in training.
    """

    generator: Generator
    autoencoder: Autoencoder
    penalty: float = 1.0
    penalty_warmup: Callable[[Int[Array, ""]], ArrayLike] | None = None

    def init(self, key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        """Initial parameters and statistics, functions of `key` alone."""
        return self.autoencoder.init(key)

    def loss(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        first: ArrayLike,
    ) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
        """The autoencoder's own loss, a mean over the batch (see `Model.loss`)."""
        del key, first
        penalty = jnp.asarray(self.penalty, data.dtype)
        if self.penalty_warmup is not None:
            penalty *= jnp.asarray(self.penalty_warmup(step))
        losses, codes, new_statistics = self.autoencoder.loss(parameters, statistics, data, penalty)
        reconstruction = decode(parameters.generator, codes)
        metrics = step_metrics(jnp.mean(losses), data, reconstruction, codes)
        return metrics.loss, (metrics, new_statistics)

    def infer(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        keys: Key[Array, " B"],
    ) -> Inference:
        """The encoder's codes."""
        del keys
        return Inference(self.autoencoder.infer(parameters, statistics, data))

    def validation_loss(
        self,
        statistics: Statistics,
        data: Float[Array, "B D"],
        reconstruction: Float[Array, "B D"],
        inferred: Inference,
    ) -> Float[Array, " B"]:
        """The mean squared error alone."""
        del statistics, inferred
        return squared_error(data, reconstruction)


class AutoencoderOptions(NamedTuple):
    """Options of the sparse autoencoders; each reads those that it needs.

    Attributes:
      active: k of TopK, BatchTopK and Matryoshka.
      auxiliary_active: number of dead latents that model the error.
      auxiliary_weight: of their loss.
      dead_after: steps after which a latent that has not been active is dead.
      bandwidth: of JumpReLU's pseudo-derivatives.
      initial_threshold: of JumpReLU.
      target_active: number of non-zeros that JumpReLU's penalty aims at; zero for no target.
      prefixes: shares of the latents that Matryoshka's nested dictionaries have.
      axis_name: mesh axis over which a batch is spread in training.
    """

    active: int = 32
    auxiliary_active: int = 512
    auxiliary_weight: float = 1 / 32
    dead_after: int = 10_000
    bandwidth: float = 1e-3
    initial_threshold: float = 1e-3
    target_active: int = 0
    prefixes: tuple[float, ...] = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)
    axis_name: str | None = None


# (D, K, options) -> autoencoder
MakeAutoencoder = Callable[[int, int, AutoencoderOptions], Autoencoder]


def check_active(active: int, num_latents: int) -> None:
    """Refuses to keep fewer latents than one, or more than there are.

    Raises:
      UserError: saying how many there are.
    """
    if not 0 < active <= num_latents:
        raise UserError(f"active is {active}; give 1 to {num_latents}, which latents there are")


def initial_parameters(key: Key[Array, ""], num_features: int, num_latents: int) -> Parameters:
    """Random atoms of norm 1, the encoder their transpose, biases zero."""
    atoms = jax.random.normal(key, (num_latents, num_features), jnp.float32)
    atoms /= jnp.linalg.norm(atoms, axis=1, keepdims=True)
    return Parameters(
        {"kernel": atoms.T, "bias": jnp.zeros(num_latents, jnp.float32)},
        {"dictionary": atoms, "bias": jnp.zeros(num_features, jnp.float32)},
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
    """The generator of an autoencoder, with the same initial atoms as its encoder."""

    def init(key: Key[Array, ""]) -> tuple[Any, Any]:
        return initial_parameters(key, num_features, num_latents).generator, {}

    def apply(
        generator: Any, statistics: Any, codes: Float[Array, "*B K"], training: bool
    ) -> tuple[Float[Array, "*B D"], Any]:
        del training
        return decode(generator, codes), statistics

    return Generator(init, apply)
