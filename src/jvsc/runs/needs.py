"""What a run's settings would take of this machine's memory, told before any of it is taken."""

import math
from itertools import pairwise

from jvsc.errors import refuse_beyond_memory
from jvsc.model.networks import ARCHITECTURES
from jvsc.model.sampling import Sampling
from jvsc.runs.config import Config

FLOAT = 4


def largest_arrays(config: Config, num_features: int) -> dict[str, int]:
    """Bytes of arrays that a training or an evaluation holds at least, by the settings' keys."""
    latents, seeds = config.num_latents, len(config.seeds)
    draws = draws_held(config.num_samples, config.sampling_chunk, config.sampling)
    batch = config.batch_size * latents * FLOAT
    hidden = config.encoder.hidden if not config.has_network_generator else ()
    widths = (num_features, *hidden, latents)
    encoder = sum(math.prod(pair) for pair in pairwise(widths))
    named_data = config.data.name == "patches"
    data = (config.data.num_train + config.data.num_validation) * num_features * FLOAT
    # Of codes and data, before a step and after it.
    moments = 2 * latents * (latents + num_features) * config.learns_online
    return {
        "num_latents": seeds * (latents * num_features + moments) * FLOAT,
        "encoder.hidden and num_latents": seeds * encoder * FLOAT,
        "num_samples, batch_size and num_latents": batch * draws,
        "data.num_train and data.num_validation": data if named_data else 0,
        "eval.num_edges": config.eval.num_edges * latents * FLOAT,
        "eval.snr_draws and eval.snr_batches": config.eval.snr_draws
        * config.eval.snr_batches
        * FLOAT,
    }


def draws_held(num_samples: int, sampling_chunk: int | None, sampling: Sampling) -> int:
    """Draws of a datum that a step holds at once: all of them where all have a gradient."""
    return min(num_samples, sampling_chunk or num_samples) if sampling == "max" else num_samples


def check_needs(config: Config, num_features: int | None = None) -> None:
    """Refuses settings whose arrays the machine cannot hold.

    Args:
      config: the run's settings.
      num_features: D; where it is not known yet, as of patches and images, or the least.

    Raises:
      UserError: naming the settings and what they would take.
    """
    if num_features is None:
        shape = {"patches": (config.data.patch_size**2,)}.get(config.data.name, (1,))
        known = ARCHITECTURES.get(config.data.name)
        num_features = math.prod(known.shape if known else shape)
    refuse_beyond_memory(largest_arrays(config, num_features))


def check_chunk(config: Config, num_features: int) -> None:
    """Refuses a chunk of data, which an encoding fills up, that the machine cannot hold.

    Raises:
      UserError: saying what it would take.
    """
    size = config.eval.chunk * (num_features + config.num_latents) * FLOAT
    refuse_beyond_memory({"eval.chunk": size})
