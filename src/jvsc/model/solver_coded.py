"""Sparse coding without an encoder: codes by a solver, the dictionary by steps or online."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from jvsc.model.model import Inference, StepMetrics, step_metrics
from jvsc.model.networks import Generator
from jvsc.model.objective import filled, frobenius_term, sparse_coding_objective, squared_error
from jvsc.model.parameters import Parameters, Statistics

# (parameters, statistics, data, penalty) -> codes [B, K]
Solve = Callable[
    [Parameters, Statistics, Float[Array, "B D"], Float[Array, ""]], Float[Array, "B K"]
]


@dataclass(frozen=True)
class SolverCoded:
    """A generator whose codes minimise objective (10).

    Attributes:
      generator: from codes to data.
      solve: codes of a batch, without a gradient.
      penalty: lambda.
      penalty_warmup: step -> factor of the penalty in training.
      frobenius: weight of the dictionary's norm; zero for a generator that is a network.
      has_missing: whether NaN is an entry that is not there.
      penalty_factor: statistics -> factor of the penalty that training has found.
    """

    generator: Generator
    solve: Solve
    penalty: float
    penalty_warmup: Callable[[Int[Array, ""]], ArrayLike] = lambda step: 1.0
    frobenius: float = 0.0
    has_missing: bool = False
    penalty_factor: Callable[[Statistics], ArrayLike] = lambda statistics: 1.0

    def init(self, key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        """Initial parameters and statistics of the generator; there is no encoder."""
        _, generator_key = jax.random.split(key)
        parameters, statistics = self.generator.init(generator_key)
        return Parameters({}, parameters), Statistics({}, statistics)

    def loss(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        first: ArrayLike,
    ) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
        """The generator's training loss (section 4.1), for the solver's codes.

        That is 0.5 ||x - s A||^2 + weight ||A||_F^2 for a dictionary, the mean squared error for a
        network; lambda ||s||_1 has no gradient here. The metrics' loss is objective (10).
        """
        del key, first
        warmup = jnp.asarray(self.penalty_warmup(step))
        penalty = self.penalty * warmup * self.penalty_factor(statistics)
        codes = self.solve(jax.lax.stop_gradient(parameters), statistics, data, penalty)
        codes = jax.lax.stop_gradient(codes)
        reconstruction, generator_statistics = self.generator.apply(
            parameters.generator, statistics.generator, codes, True
        )
        if self.has_missing:
            data = filled(data, reconstruction)
        metrics = solver_metrics(data, reconstruction, codes, penalty)
        loss = self.generator.loss_scale * jnp.mean(squared_error(data, reconstruction))
        if self.frobenius:
            loss += frobenius_term(parameters.generator, self.frobenius)
        return loss, (metrics, statistics._replace(generator=generator_statistics))

    def infer(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        keys: Key[Array, " B"],
    ) -> Inference:
        """The solver's codes at the last penalty."""
        del keys
        penalty = jnp.asarray(self.penalty * self.penalty_factor(statistics), jnp.float32)
        return Inference(self.solve(parameters, statistics, data, penalty))

    def validation_loss(
        self,
        statistics: Statistics,
        data: Float[Array, "B D"],
        reconstruction: Float[Array, "B D"],
        inferred: Inference,
    ) -> Float[Array, " B"]:
        """Objective (10)."""
        penalty = jnp.asarray(self.penalty * self.penalty_factor(statistics))
        return sparse_coding_objective(data, reconstruction, inferred.codes, penalty).total()


def solver_metrics(
    data: Float[Array, "B D"],
    reconstruction: Float[Array, "B D"],
    codes: Float[Array, "B K"],
    penalty: Float[Array, ""] | float,
) -> StepMetrics:
    """A step's metrics, whose loss is the mean of objective (10)."""
    objective = sparse_coding_objective(data, reconstruction, codes, penalty)
    loss = jnp.mean(objective.data) + jnp.mean(objective.l1)
    return step_metrics(loss, data, reconstruction, codes)
