"""How much of a language model's cross-entropy survives when codes stand in for activations."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jvsc.errors import UserError

Ablation = Literal["zero", "mean"]


class SplicingLosses(NamedTuple):
    """Cross-entropy of a language model, one of whose layers is replaced.

    Attributes:
      clean: with the model's own activations, nats a token.
      spliced: with their reconstructions from codes.
      ablated: with zeros, or with the activations' mean.
    """

    clean: float
    spliced: float
    ablated: float

    @property
    def recovered(self) -> float:
        """`cross_entropy_recovered` of the three."""
        return cross_entropy_recovered(self.clean, self.spliced, self.ablated)


def cross_entropy_recovered(clean: float, spliced: float, ablated: float) -> float:
    """(ablated - spliced) / (ablated - clean), the share of cross-entropy recovered.

    Also called loss recovered (Bricken et al. 2023; the downstream loss of Gao et al. 2024).

    Args:
      clean: cross-entropy of the language model as it is.
      spliced: of the model with one layer's activations replaced by their reconstructions.
      ablated: of the model without that layer's activations.

    Returns:
      At most about 1, where the reconstruction costs nothing; 0 where it is no better than the
      ablation, and negative where it is worse. Without unit.

    Raises:
      UserError: for losses that are not finite, or an ablation that does not raise the loss.
    """
    if not np.isfinite([clean, spliced, ablated]).all():
        raise UserError(f"losses are {clean}, {spliced} and {ablated}; all three must be finite")
    if ablated <= clean:
        raise UserError(
            f"the ablation's loss is {ablated}, the model's own {clean}: choose a layer whose"
            " ablation raises the loss"
        )
    return float((ablated - spliced) / (ablated - clean))


def splicing_losses(
    loss: Callable[[Float[np.ndarray, "N D"]], float],
    activations: Float[np.ndarray, "N D"],
    reconstruction: Float[np.ndarray, "N D"],
    ablation: Ablation = "zero",
) -> SplicingLosses:
    """Cross-entropy of a language model with its activations, their reconstruction, and neither.

    Args:
      loss: the model's mean cross-entropy in nats a token, given what stands in the place of
        `activations`: a function of your own, in any framework.
      activations: the model's own at one layer, a token a row.
      reconstruction: from codes, such as `coder.inverse_transform(coder.transform(activations))`.
      ablation: "zero" (Bricken et al. 2023), or "mean", every token the mean of `activations`,
        which is the stricter one: most models do better by it than by zeros.

    Returns:
      The three losses, and with `.recovered` the share of cross-entropy that is recovered.

    Raises:
      UserError: for a reconstruction of another shape, or another `ablation`.
    """
    if np.shape(reconstruction) != np.shape(activations):
        raise UserError(
            f"the reconstruction has the shape {np.shape(reconstruction)}; it must have that of"
            f" the activations, {np.shape(activations)}"
        )
    if ablation not in ("zero", "mean"):
        raise UserError(f'ablation is {ablation!r}; give "zero" or "mean"')
    absent = np.zeros_like(activations)
    if ablation == "mean":
        # Sums of half precision stop growing.
        absent[:] = np.mean(activations, axis=0, dtype=np.float64).astype(activations.dtype)
    return SplicingLosses(*(float(loss(rows)) for rows in (activations, reconstruction, absent)))
