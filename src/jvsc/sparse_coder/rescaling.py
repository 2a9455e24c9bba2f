"""What was learned of data in some units, in other units: the same codes of the same data."""

import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jvsc.model.empirical_bayes import NOISE
from jvsc.model.methods import AutoencoderMethod, SolverMethod, VariationalMethod
from jvsc.model.parameters import Statistics
from jvsc.model.posteriors.inferred_threshold import PRIOR_LOG_SCALE
from jvsc.sparse_coder.settings import Plan
from jvsc.training.state import TrainState


def rescaled(
    plan: Plan, state: TrainState, ratio: float, shift: Float[np.ndarray, " D"]
) -> TrainState:
    """A packed state for data x' = ratio x + shift, in place of x.

    Dictionaries of free norm become `ratio` times as large, and their codes stay; where atoms have
    norm 1 it is the codes that do, and what they are compared with. A shift is taken off in what
    has an offset for it; encoders that read the dictionary have none, and take the data as they
    come. The optimiser's averages stay: Adam's steps do not depend on such a factor.

    Args:
      plan: what is trained.
      state: with a leading axis of one.
      ratio: the old scale over the new one.
      shift: the old mean less the new one, over the new scale.
    """
    method, log_ratio = plan.config.family, math.log(ratio)
    encoder, generator = state.parameters
    statistics = state.statistics
    shift = shift.astype(np.float32)
    if isinstance(method, AutoencoderMethod):
        encoder = encoder | {"bias": encoder["bias"] * ratio}
        if "log_threshold" in encoder:
            encoder |= {"log_threshold": encoder["log_threshold"] + log_ratio}
        generator = generator | {"bias": generator["bias"] * ratio + shift}
        statistics = _autoencoder_statistics(statistics, ratio)
    elif isinstance(method, VariationalMethod) and method.finds_prior:
        encoder = _on_other_inputs(plan, encoder, ratio, shift, codes=ratio)
        prior = statistics.prior | {
            NOISE: statistics.prior[NOISE] + 2 * log_ratio,
            PRIOR_LOG_SCALE: statistics.prior[PRIOR_LOG_SCALE] + log_ratio,
        }
        statistics = statistics._replace(prior=prior)
    else:
        encoder = _on_other_inputs(plan, encoder, ratio, shift)
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


def _on_other_inputs(
    plan: Plan, encoder: Any, ratio: float, shift: Float[np.ndarray, " D"], codes: float = 1.0
) -> Any:
    """An encoder of the other data, whose codes are `codes` times as large."""
    if plan.config.encoder.name == "unrolled":
        # Steps of inference in units of noise and prior change with those.
        return encoder if codes != 1 else _shorter_steps(encoder, ratio)
    if plan.config.encoder.name == "mlp" and "hidden_0" in encoder:
        first = encoder["hidden_0"]["Dense_0"]
        encoder = encoder | {"hidden_0": {"Dense_0": _affine(first, ratio, shift)}}
        if codes != 1:
            encoder |= {
                "loc": {"Dense_0": {k: v * codes for k, v in encoder["loc"]["Dense_0"].items()}},
                "log_scale": {"Dense_0": _louder(encoder["log_scale"]["Dense_0"], codes)},
            }
        return encoder
    if plan.config.encoder.name != "linear":
        return encoder
    changed = dict(encoder)
    for name in [name for name in encoder if name.endswith("_kernel")]:
        offset = name.replace("_kernel", "_offset")
        layer = _affine({"kernel": encoder[name], "bias": encoder[offset]}, ratio, shift)
        changed |= {name: layer["kernel"], offset: layer["bias"]}
    if codes != 1:
        changed |= {name: changed[name] * codes for name in ("loc_kernel", "loc_offset")} | {
            "gate_size_slope": changed["gate_size_slope"] / codes,
            "log_scale_offset": changed["log_scale_offset"] + math.log(codes),
        }
    return changed


def _shorter_steps(encoder: Any, ratio: float) -> Any:
    return encoder | {"step_size": encoder["step_size"] / ratio**2}


def _affine(layer: Any, ratio: float, shift: Float[np.ndarray, " D"]) -> Any:
    """A layer's output of x, from ratio x + shift."""
    kernel = layer["kernel"] / ratio
    return {"kernel": kernel, "bias": layer["bias"] - shift @ kernel}


def _louder(layer: Any, codes: float) -> Any:
    return layer | {"bias": layer["bias"] + math.log(codes)}


def _with_types_of(like: TrainState, state: TrainState) -> TrainState:
    return jax.tree.map(lambda old, new: np.asarray(new, old.dtype), like, state)
