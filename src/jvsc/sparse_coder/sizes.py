"""How many atoms, data a step and passes a fit has."""

import math
import warnings

import numpy as np
from jaxtyping import Float

from jvsc.errors import UserError
from jvsc.model.methods import METHODS, VariationalMethod
from jvsc.sparse_coder.settings import DEFAULT_STEPS, ONLINE, CoderSettings

# Atoms where nothing is said: so many, or so many for each feature if those are fewer.
MOST_COMPONENTS, COMPONENTS_A_FEATURE = 256, 4
# Passes of a fit with fewer data than the usual steps take, but at least so many steps.
USUAL_PASSES, FEWEST_STEPS = 50, 1000
MOST_PASSES = 200
# Of online learning, with many data a step, as a pass over all atoms takes the same time for any.
ONLINE_STEPS, ONLINE_PASSES, ONLINE_BATCH = 400, 100, 1024
# Data of a step, unless a pass has less than so many steps.
DEFAULT_BATCH, SMALLEST_BATCH, FEWEST_BATCHES = 128, 16, 20


def sized(
    settings: CoderSettings,
    n_components: int | None,
    num_features: int,
    given: Float[np.ndarray, "K D"] | None,
    initial: Float[np.ndarray, "K D"] | None,
) -> CoderSettings:
    """The settings with as many components as there are.

    Args:
      settings: what the user gave.
      n_components: the same, None where nothing was said.
      num_features: D.
      given: atoms that stay.
      initial: atoms that the dictionary begins with.

    Raises:
      UserError: for both kinds of atoms, or another number of them than was said.
    """
    if given is not None and initial is not None:
        raise UserError("dictionary stays as it is given, so dict_init has no use; leave one out")
    if given is not None:
        count = len(given)
    elif n_components is not None:
        count = settings.n_components
        if initial is not None and len(initial) != count:
            raise UserError(f"dict_init has {len(initial)} atoms, but n_components is {count}")
    elif initial is not None:
        count = len(initial)
    else:
        count = min(MOST_COMPONENTS, COMPONENTS_A_FEATURE * num_features)
    return settings.model_copy(update={"n_components": count})


def warn_of_share(settings: CoderSettings, num_features: int) -> None:
    """Warns where more non-zeros are wanted than a datum has features."""
    method, share = METHODS[settings.method], settings.sparsity
    is_dense = isinstance(method, VariationalMethod) and not method.has_sparsity
    if is_dense or share is None or settings.alpha is not None:
        return
    active = share * settings.n_components
    if active > num_features:
        warnings.warn(
            f"sparsity={share} of {settings.n_components} components is {active:.0f} non-zeros of "
            f"a datum with {num_features} features; give a lower sparsity or fewer components",
            stacklevel=3,
        )


def batch_of(settings: CoderSettings, num_data: int, in_parts: bool = False) -> int:
    """Data of a step, by default 128, or of few data at most a twentieth in powers of two.

    The lasso takes by default 1,024, or of few data at most half. For fewer data than a step takes,
    the largest power of two. A remainder waits for its turn in the next epoch, and few sizes have
    to be compiled.

    Args:
      settings: what the user gave.
      num_data: of a pass.
      in_parts: whether they are a part of the data, over which one pass is made.
    """
    learns_online = settings.method == ONLINE
    wanted = settings.batch_size or (ONLINE_BATCH if learns_online else DEFAULT_BATCH)
    if settings.batch_size is None and not in_parts:
        few = num_data // 2 if learns_online else num_data // FEWEST_BATCHES
        wanted = min(wanted, _power_of_two(max(few, SMALLEST_BATCH)))
    return wanted if num_data >= wanted else _power_of_two(num_data)


def _power_of_two(number: int) -> int:
    """The largest that is at most so many."""
    return 1 << (number.bit_length() - 1)


def passes_of(settings: CoderSettings, steps: int) -> int:
    """Passes of a fit, of so many steps each."""
    if settings.max_iter is not None:
        return settings.max_iter
    if settings.method == ONLINE:
        return min(math.ceil(ONLINE_STEPS / steps), ONLINE_PASSES)
    usual = min(max(USUAL_PASSES * steps, FEWEST_STEPS), DEFAULT_STEPS)
    return min(math.ceil(usual / steps), MOST_PASSES)
