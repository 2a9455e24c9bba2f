"""What was learned of data in some units, in other units: the same codes of the same data."""

import math
from typing import Any

import jax
import numpy as np

from jvsc.model.empirical_bayes import NOISE
from jvsc.model.methods import AutoencoderMethod, SolverMethod, finds_prior
from jvsc.model.parameters import Statistics
from jvsc.model.posteriors.inferred_threshold import PRIOR_LOG_SCALE
from jvsc.sparse_coder.settings import Plan
from jvsc.training.state import TrainState


def rescaled(plan: Plan, state: TrainState, ratio: float) -> TrainState:
    """A packed state for centred data x' = ratio x, in place of x.

    Dictionaries of free norm become `ratio` times as large, and their codes stay; where atoms have
    norm 1 it is the codes that do, and what they are compared with. What was learned about the
    mean stays with it where that moves: a mean of few rows is far off, and an offset that kept to
    it would take thousands of steps to come back. The optimiser's averages stay: Adam's steps do
    not depend on such a factor.

    Args:
      plan: what is trained.
      state: with a leading axis of one.
      ratio: the old scale over the new one.
    """
    method, log_ratio = plan.config.family, math.log(ratio)
    encoder, generator = state.parameters
    statistics = state.statistics
    if isinstance(method, AutoencoderMethod):
        encoder = encoder | {"bias": encoder["bias"] * ratio}
        if "log_threshold" in encoder:
            encoder |= {"log_threshold": encoder["log_threshold"] + log_ratio}
        generator = generator | {"bias": generator["bias"] * ratio}
        statistics = _autoencoder_statistics(statistics, ratio)
    elif finds_prior(method):
        encoder = _on_other_inputs(plan, encoder, ratio, codes=ratio)
        prior = statistics.prior | {
            NOISE: statistics.prior[NOISE] + 2 * log_ratio,
            PRIOR_LOG_SCALE: statistics.prior[PRIOR_LOG_SCALE] + log_ratio,
        }
        statistics = statistics._replace(prior=prior)
    else:
        encoder = _on_other_inputs(plan, encoder, ratio)
        if not plan.config.generator.unit_norm:
            generator = generator * np.float32(ratio)
    if isinstance(method, SolverMethod):
        control = statistics.generator["control"] + 2 * log_ratio
        statistics = statistics._replace(generator=statistics.generator | {"control": control})
    parameters = state.parameters._replace(encoder=encoder, generator=generator)
    return _with_types_of(state, state._replace(parameters=parameters, statistics=statistics))


def _autoencoder_statistics(statistics: Statistics, ratio: float) -> Statistics:
    """Thresholds and penalties are in units of the codes, the latter of the data's square too."""
    numbers = dict(statistics.encoder)
    if "threshold" in numbers:
        numbers["threshold"] = numbers["threshold"] * ratio
    if "control" in numbers:
        numbers["control"] = numbers["control"] + math.log(ratio)
    return statistics._replace(encoder=numbers)


def _on_other_inputs(plan: Plan, encoder: Any, ratio: float, codes: float = 1.0) -> Any:
    """An encoder of the other data, whose codes are `codes` times as large."""
    if plan.config.encoder.name == "unrolled":
        # Steps of inference in units of noise and prior change with those.
        return encoder if codes != 1 else _shorter_steps(encoder, ratio)
    if plan.config.encoder.name == "mlp" and "hidden_0" in encoder:
        first = encoder["hidden_0"]["Dense_0"]
        scaled = first | {"kernel": first["kernel"] / ratio}
        encoder = encoder | {"hidden_0": {"Dense_0": scaled}}
        if codes != 1:
            encoder |= {
                "loc": {"Dense_0": {k: v * codes for k, v in encoder["loc"]["Dense_0"].items()}},
                "log_scale": {"Dense_0": _louder(encoder["log_scale"]["Dense_0"], codes)},
            }
        return encoder
    if plan.config.encoder.name != "linear":
        return encoder
    changed = dict(encoder)
    changed |= {name: encoder[name] / ratio for name in encoder if name.endswith("_kernel")}
    if codes != 1:
        changed |= {name: changed[name] * codes for name in ("loc_kernel", "loc_offset")} | {
            "gate_size_slope": changed["gate_size_slope"] / codes,
            "log_scale_offset": changed["log_scale_offset"] + math.log(codes),
        }
    return changed


def _shorter_steps(encoder: Any, ratio: float) -> Any:
    return encoder | {"step_size": encoder["step_size"] / ratio**2}


def _louder(layer: Any, codes: float) -> Any:
    return layer | {"bias": layer["bias"] + math.log(codes)}


def _with_types_of(like: TrainState, state: TrainState) -> TrainState:
    return jax.tree.map(lambda old, new: np.asarray(new, old.dtype), like, state)
