"""Variational sparse coding (section 3 of the paper): an encoder infers a posterior over codes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from jvsc.model.empirical_bayes import NOISE, EmpiricalBayes, prior_heads
from jvsc.model.expected_error import charged_squared_error, expected_squared_error
from jvsc.model.model import Inference, Model, StepMetrics
from jvsc.model.networks import Encoder, Generator, LinearGenerativeModel
from jvsc.model.objective import (
    EncoderTerms,
    encoder_objective,
    entries_of,
    frobenius_term,
    nonzero_fraction,
    scale_gradient,
    sparse_coding_objective,
    squared_error,
)
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.posteriors import Annealing, InferredThreshold, Posterior
from jvsc.model.posteriors.base import slab_of_prior
from jvsc.model.posteriors.inferred_threshold import PRIOR_LOG_ODDS, PRIOR_LOG_SCALE
from jvsc.model.sampling import (
    BY_MOMENTS,
    Choice,
    Sampling,
    by_importance,
    choose,
    combine,
    datum_keys,
    draw,
    first_draws,
    lowest,
    weights,
)
from jvsc.model.thresholding import Heads
from jvsc.solvers.support import least_squares_on_support

FULL_NOISE = Annealing()
Code = Literal["best_draw", "deterministic"]


@dataclass(frozen=True)
class Variational:
    """Encoder, posterior and generator, and how they are trained.

    Attributes:
      generator: from codes to data.
      posterior: the family of posteriors.
      encoder: from data to the posterior's heads.
      sampling: how J samples count: "max" (eq. 9), "avg" (eq. 7) or "iwae"; or "exact", eq. 7
        for J to infinity, in closed form, of a dictionary; or "moments", for any generator: the
        error of the deterministic code (else the mean), and what the posterior's noise changes.
      num_samples: J.
      kl_weight: beta.
      kl_warmup: step -> factor of beta in training.
      frobenius: weight of the dictionary's norm; zero for a generator that is a network.
      annealing: step -> warm-up and temperature in training.
      final_annealing: what codes are inferred with.
      sampling_chunk: draws of a datum held in memory at once; all by default.
      penalty: lambda of objective (10), which a dictionary's codes are validated by.
      code: what a user gets as the code: the best of J draws, or the deterministic one.
      support_steps: conjugate-gradient steps on a deterministic code's support, with a dictionary.
      empirical_bayes: how noise and prior are found, which then replace `kl_weight`; None where
        they are the posterior's constants.
      has_missing: whether NaN is an entry that is not there; with `sampling` "exact", and noise
        that is not learned.
    """

    generator: Generator
    posterior: Posterior
    encoder: Encoder
    sampling: Sampling = "max"
    num_samples: int = 1
    kl_weight: float = 1e-2
    kl_warmup: Callable[[Int[Array, ""]], ArrayLike] | None = None
    frobenius: float = 0.0
    annealing: Callable[[Int[Array, ""]], Annealing] = lambda step: FULL_NOISE
    final_annealing: Annealing = FULL_NOISE
    sampling_chunk: int | None = None
    penalty: float = 20.0
    code: Code = "best_draw"
    support_steps: int = 0
    empirical_bayes: EmpiricalBayes | None = None
    has_missing: bool = False

    def init(self, key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        """Initial parameters and statistics, functions of `key` alone."""
        encoder_key, generator_key = jax.random.split(key)
        encoder = self.encoder.init(encoder_key)
        generator = self.generator.init(generator_key)
        prior = None
        if self.empirical_bayes is not None:
            assert isinstance(self.posterior, InferredThreshold)
            prior = self.empirical_bayes.init(self.posterior)
        return Parameters(encoder[0], generator[0]), Statistics(encoder[1], generator[1], prior)

    def heads(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        training: bool = False,
    ) -> tuple[Heads, Any]:
        """Posterior parameters of each datum, [B, K] a head, and the encoder's new statistics."""
        generative = None
        data, present = entries_of(data, self.has_missing)
        if self.encoder.reads_dictionary:
            generative = self.generative_model(parameters, statistics)._replace(present=present)
        heads, encoder_statistics = self.encoder.apply(
            parameters.encoder, statistics.encoder, data, training, generative
        )
        if statistics.prior is not None:
            heads = heads | prior_heads(statistics.prior, heads["loc"])
        return heads, encoder_statistics

    def generative_model(
        self, parameters: Parameters, statistics: Statistics
    ) -> LinearGenerativeModel:
        """Dictionary, noise and prior as an encoder may read them, without a gradient."""
        dictionary = jax.lax.stop_gradient(parameters.generator)
        weight = self.bound_weight(statistics, dictionary.shape[1])
        noise_variance = jnp.asarray(weight * dictionary.shape[1] / 2, jnp.float32)
        if statistics.prior is not None:
            scale = jnp.exp(statistics.prior[PRIOR_LOG_SCALE])
            return LinearGenerativeModel(
                dictionary, noise_variance, scale, statistics.prior[PRIOR_LOG_ODDS]
            )
        scale, log_odds = slab_of_prior(self.posterior)
        return LinearGenerativeModel(
            dictionary, noise_variance, jnp.float32(scale), jnp.float32(log_odds)
        )

    def bound_weight(self, statistics: Statistics, num_features: int) -> float | Float[Array, ""]:
        """beta; 2 sigma^2 / D where the noise's variance sigma^2 is learned."""
        if statistics.prior is None:
            return self.kl_weight
        return 2 * jnp.exp(statistics.prior[NOISE]) / num_features

    def generate(
        self,
        parameters: Parameters,
        statistics: Statistics,
        codes: Float[Array, "*B K"],
        training: bool = False,
    ) -> tuple[Float[Array, "*B D"], Any]:
        """Data of codes, and the generator's new statistics."""
        return self.generator.apply(parameters.generator, statistics.generator, codes, training)

    def best_draws(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        heads: Heads,
        keys: Key[Array, " B"],
        annealing: Annealing,
        chunk: int | None = None,
        training: bool = False,
        choice: Choice = lowest,
    ) -> Float[Array, "1 B K"]:
        """One code among J draws of each datum: of the highest ELBO (eq. 9); drawn with gradient.

        The divergence is the same for all draws of a datum, so the squared error decides. In
        training, a generator that normalises by the batch does so over the draws of a chunk.

        Args:
          parameters: of encoder and generator.
          statistics: running averages of both.
          data: x.
          heads: posterior parameters of x.
          keys: one key a datum.
          annealing: warm-up and temperature.
          chunk: draws held in memory at once; all by default.
          training: whether batch normalisation takes the statistics of the draws.
          choice: which draw is used, by the losses of all.

        Returns:
          The chosen codes, with a leading axis of one for J.
        """
        stopped = jax.lax.stop_gradient(parameters)

        def loss(codes: Float[Array, "J B K"]) -> Float[Array, "J B"]:
            return squared_error(data, self.generate(stopped, statistics, codes, training)[0])

        sample = self.posterior.sample
        chosen = choose(sample, loss, keys, heads, self.num_samples, annealing, chunk, choice)
        return draw(sample, keys, heads, chosen[None], annealing)

    def loss(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        first: ArrayLike,
    ) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
        """`bound` with the annealing of a step (see `Model.loss`)."""
        warmup = 1.0 if self.kl_warmup is None else jnp.asarray(self.kl_warmup(step))
        annealing = self.annealing(step)
        return self.bound(parameters, statistics, data, key, annealing, first, warmup, step)

    def bound(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        key: Key[Array, ""],
        annealing: Annealing,
        first: ArrayLike = 0,
        kl_warmup: float | Float[Array, ""] = 1.0,
        step: Int[Array, ""] | int = 0,
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
          kl_warmup: factor of beta at this step.
          step: steps done, for what `empirical_bayes` finds.

        Returns:
          The loss, and the step's metrics and new statistics. The loss of a dictionary is of use
          for its gradient only.
        """
        heads, encoder_statistics = self.heads(parameters, statistics, data, training=True)
        kl = self.posterior.kl(heads)
        weight = self.bound_weight(statistics, data.shape[1]) * kl_warmup
        scaled = parameters._replace(
            generator=scale_gradient(parameters.generator, self.generator.loss_scale)
        )
        if self.sampling in BY_MOMENTS:
            keys = datum_keys(key, data.shape[0], first) if self.sampling == "moments" else None
            terms, nonzeros, generator_statistics = self._expected_terms(
                scaled, statistics, data, heads, kl, annealing, weight, keys
            )
        else:
            terms, nonzeros, generator_statistics = self._drawn_terms(
                parameters, scaled, statistics, data, heads, kl, key, annealing, first, weight
            )
        loss = jnp.mean(combine(terms.total(), self.sampling))
        share = weights(terms.total(), self.sampling)
        squared_errors = jnp.sum(share * terms.squared_error, axis=0)
        metrics = StepMetrics(
            loss=loss,
            mse=jnp.mean(squared_errors),
            kl=jnp.mean(jnp.sum(kl, axis=-1)),
            nonzero_fraction=jnp.mean(jnp.sum(share * nonzeros, axis=0)),
        )
        if self.frobenius:
            loss += frobenius_term(parameters.generator, self.frobenius)
        prior = statistics.prior
        if self.empirical_bayes is not None:
            assert isinstance(self.posterior, InferredThreshold)
            prior = self.empirical_bayes.update(
                prior, self.posterior, heads, squared_errors, jnp.asarray(step)
            )
        return loss, (metrics, Statistics(encoder_statistics, generator_statistics, prior))

    def _drawn_terms(
        self, parameters, scaled, statistics, data, heads, kl, key, annealing, first, weight
    ) -> tuple[EncoderTerms, Float[Array, "J B"], Any]:
        """Terms of eq. 12 and share of non-zeros of J draws, or of the chosen one."""
        keys = datum_keys(key, data.shape[0], first)
        if self.sampling == "max":
            codes = self.best_draws(
                parameters, statistics, data, heads, keys, annealing, self.sampling_chunk, True
            )
        else:
            numbers = first_draws(self.num_samples, data.shape[0])
            codes = draw(self.posterior.sample, keys, heads, numbers, annealing)
        reconstruction, generator_statistics = self.generate(scaled, statistics, codes, True)
        terms = encoder_objective(data, reconstruction, kl, weight)
        return terms, nonzero_fraction(codes), generator_statistics

    def _expected_terms(
        self, scaled, statistics, data, heads, kl, annealing, weight, keys=None
    ) -> tuple[EncoderTerms, Float[Array, "1 B"], Any]:
        """Their expectation under the posterior, with a leading axis of one for J.

        With keys it is `charged_squared_error`, of any generator, and of a deterministic code.
        """
        mean, variance = self.posterior.moments(heads, annealing)
        probability = self.posterior.support_probability(heads)
        without_draws = self.code == "deterministic"
        if keys is None:
            reconstruction, generator_statistics = self.generate(scaled, statistics, mean, True)
            error = expected_squared_error(
                data, reconstruction, variance, scaled.generator, self.has_missing
            )
        else:
            code = self.posterior.deterministic_code(heads) if without_draws else mean
            generate = partial(self.generate, scaled, statistics, training=True)
            error, generator_statistics = charged_squared_error(
                generate, data, mean, variance, code, keys
            )
        terms = EncoderTerms(error[None], weight * jnp.sum(kl, axis=-1))
        in_use = probability > 0.5 if without_draws else probability
        return terms, jnp.mean(in_use, axis=-1, dtype=jnp.float32)[None], generator_statistics

    def infer(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        keys: Key[Array, " B"],
    ) -> Inference:
        """The code of each datum, by draws or in closed form, and its posterior's divergence.

        One draw becomes the code, chosen by how training counts J draws: the best ("max"), any
        ("avg", and where nothing is drawn), or one chosen by its importance weight ("iwae").
        """
        heads, _ = self.heads(parameters, statistics, data)
        if self.code == "deterministic":
            return self._infer_without_draws(parameters, statistics, data, heads)
        if self.sampling == "avg" or self.sampling in BY_MOMENTS:
            numbers = first_draws(1, data.shape[0])
            codes = draw(self.posterior.sample, keys, heads, numbers, self.final_annealing)
        else:
            choice = by_importance(keys) if self.sampling == "iwae" else lowest
            annealing, chunk = self.final_annealing, self.sampling_chunk
            codes = self.best_draws(
                parameters, statistics, data, heads, keys, annealing, chunk, choice=choice
            )
        return Inference(codes[0], self.posterior.kl(heads))

    @property
    def code_in_words(self) -> str:
        """How `infer` makes a code, for readers."""
        if self.code == "deterministic":
            return "deterministic"
        if self.num_samples == 1 or self.sampling in ("avg", *BY_MOMENTS):
            return "one draw each"
        if self.sampling == "max":
            return f"the best of {self.num_samples} draws"
        return f"one of {self.num_samples} draws, chosen by importance weight"

    def _infer_without_draws(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        heads: Heads,
    ) -> Inference:
        """The deterministic code, and with a dictionary the loss it was trained by."""
        codes, kl = self.posterior.deterministic_code(heads), self.posterior.kl(heads)
        if not self.generator.is_dictionary:
            return Inference(codes, kl)
        entries, present = entries_of(data, self.has_missing)
        codes = least_squares_on_support(
            entries, parameters.generator, codes, self.support_steps, present
        )
        if present is not None:  # of nothing nothing follows
            codes = jnp.where(jnp.any(present, axis=1, keepdims=True), codes, 0.0)
        weight = self.bound_weight(statistics, data.shape[1])
        terms, _, _ = self._expected_terms(
            parameters, statistics, data, heads, kl, self.final_annealing, weight
        )
        return Inference(codes, kl, terms.total()[0])

    def validation_loss(
        self,
        statistics: Statistics,
        data: Float[Array, "B D"],
        reconstruction: Float[Array, "B D"],
        inferred: Inference,
    ) -> Float[Array, " B"]:
        """Objective (10) with a dictionary, the encoder's loss (12) with a network.

        Without draws a dictionary has its expected loss: (10) charges sizes that nothing shrinks.
        """
        if inferred.expected_loss is not None:
            return inferred.expected_loss
        if self.generator.is_dictionary:
            objective = sparse_coding_objective(data, reconstruction, inferred.codes, self.penalty)
            return objective.total()
        assert inferred.kl is not None
        weight = self.bound_weight(statistics, data.shape[1])
        return encoder_objective(data, reconstruction, inferred.kl, weight).total()


def needs_no_draw(model: Model) -> bool:
    """Whether codes are inferred without draws, and no L1 penalty shrinks their values."""
    return isinstance(model, Variational) and model.code == "deterministic"
