"""The interface of a method, whether its codes are drawn, solved for or encoded."""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from jvsc.model.networks import Generator
from jvsc.model.objective import nonzero_fraction, squared_error
from jvsc.model.parameters import Parameters, Statistics


class StepMetrics(NamedTuple):
    """Metrics of a training step, means over its batch.

    Attributes:
      loss: the loss that is minimised: the encoder's loss of the samples (eq. 12); for codes of a
        solver the data and L1 terms of objective (10); a sparse autoencoder's own loss.
      mse: squared error per pixel.
      kl: KL summed over the latents, in nats (zero without a posterior).
      nonzero_fraction: share of latents that are not exactly zero.
    """

    loss: Float[Array, ""]
    mse: Float[Array, ""]
    kl: Float[Array, ""]
    nonzero_fraction: Float[Array, ""]


class Inference(NamedTuple):
    """What a method infers of each datum.

    Attributes:
      codes: [B, K].
      kl: divergence of the posterior from the prior, latent by latent, in nats; None for a method
        without a posterior.
      expected_loss: the training loss in closed form, [B]; None where there is none.
    """

    codes: Float[Array, "B K"]
    kl: Float[Array, "B K"] | None = None
    expected_loss: Float[Array, " B"] | None = None


@runtime_checkable
class Model(Protocol):
    """A method, one of three kinds: `Variational`, `SolverCoded` and `SparseAutoencoder`."""

    @property
    def generator(self) -> Generator:
        """From codes to data."""
        ...

    def init(self, key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        """Initial parameters and statistics, functions of `key` alone."""
        ...

    def loss(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        first: ArrayLike,
    ) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
        """The training loss of a batch, the step's metrics, and the new statistics.

        Args:
          parameters: of encoder and generator.
          statistics: running averages of encoder, generator and prior.
          data: batch x, or a device's share of it.
          key: the step's key.
          step: steps done before it.
          first: place of the first datum in the whole batch.
        """
        ...

    def infer(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        keys: Key[Array, " B"],
    ) -> Inference:
        """Codes for the user, from trained parameters; one key a datum for the draws."""
        ...

    def validation_loss(
        self,
        statistics: Statistics,
        data: Float[Array, "B D"],
        reconstruction: Float[Array, "B D"],
        inferred: Inference,
    ) -> Float[Array, " B"]:
        """Per-datum terms of the validation loss."""
        ...


def step_metrics(
    loss: Float[Array, ""],
    data: Float[Array, "B D"],
    reconstruction: Float[Array, "B D"],
    codes: Float[Array, "B K"],
) -> StepMetrics:
    """The metrics of a step that infers one code a datum and has no divergence."""
    return StepMetrics(
        loss=loss,
        mse=jnp.mean(squared_error(data, reconstruction)),
        kl=jnp.zeros((), loss.dtype),
        nonzero_fraction=jnp.mean(nonzero_fraction(codes)),
    )
