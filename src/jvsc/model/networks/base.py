"""The interface of a network: pure functions of parameters, running statistics and data."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Key

from jvsc.errors import UserError
from jvsc.model.thresholding import Heads

NetworkParameters = Any
# Running averages of batch normalisation; empty for a network without it.
NetworkStatistics = Any


class DenseLayer(NamedTuple):
    """A dense layer and its inputs.

    Attributes:
      inputs: the layer's inputs, one row a datum.
      kernel: the matrix that multiplies the inputs.
    """

    inputs: Float[Array, "B I"]
    kernel: Float[Array, "I O"]


class LinearGenerativeModel(NamedTuple):
    """The linear generative model, x = s A + noise with a prior of s, as some encoders read it.

    Attributes:
      dictionary: A, one atom a row.
      noise_variance: sigma^2 of an entry's noise.
      prior_scale: b0 of a Laplacian slab, or of one with the slab's variance.
      prior_log_odds: log p0 - log(1 - p0) of the prior's probability of a non-zero.
      present: which entries of the data there are; None for all.
    """

    dictionary: Float[Array, "K D"]
    noise_variance: Float[Array, ""]
    prior_scale: Float[Array, ""]
    prior_log_odds: Float[Array, ""]
    present: Bool[Array, "B D"] | None = None


class Encoder(NamedTuple):
    """A network from data to posterior parameters.

    Attributes:
      init: `key -> (parameters, statistics)`.
      apply: `(parameters, statistics, data [B, D], training, generative) -> ({head: [B, K]},
        statistics)`; training normalises by the batch and changes the statistics; `generative` is
        None where it is not read.
      layers: of dense layers alone, in float32 or more, `(parameters, data [B, D]) ->
        {name: layer}`, in their order.
      reads_dictionary: whether it is given the generative model.
    """

    init: Callable[[Key[Array, ""]], tuple[NetworkParameters, NetworkStatistics]]
    apply: Callable[
        [
            NetworkParameters,
            NetworkStatistics,
            Float[Array, "B D"],
            bool,
            LinearGenerativeModel | None,
        ],
        tuple[Heads, NetworkStatistics],
    ]
    layers: Callable[[NetworkParameters, Float[Array, "B D"]], dict[str, DenseLayer]] | None = None
    reads_dictionary: bool = False


class Generator(NamedTuple):
    """A network from codes to data.

    Attributes:
      init: `key -> (parameters, statistics)`.
      apply: `(parameters, statistics, codes [..., K], training) -> (data [..., D], statistics)`;
        training normalises by the codes given and updates the statistics.
      loss_scale: its loss is so many times the mean squared error over the pixels.
      is_dictionary: whether its parameters are a matrix [K, D], and data are `codes @ matrix`.
    """

    init: Callable[[Key[Array, ""]], tuple[NetworkParameters, NetworkStatistics]]
    apply: Callable[
        [NetworkParameters, NetworkStatistics, Float[Array, "*B K"], bool],
        tuple[Float[Array, "*B D"], NetworkStatistics],
    ]
    loss_scale: float = 1.0
    is_dictionary: bool = False


def uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default initialisation, uniform(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """What was computed in a half precision, as float32; anything else as it is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Linear(nn.Module):
    """A dense layer with PyTorch's default initialisation of weights and biases."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B K"]:
        init = uniform_fan_in(x.shape[-1])
        return nn.Dense(self.features, dtype=self.dtype, kernel_init=init, bias_init=init)(x)


def split_variables(variables: Any) -> tuple[NetworkParameters, NetworkStatistics]:
    """Flax's variables as parameters and running statistics."""
    return variables["params"], variables.get("batch_stats", {})


def check_prior(prior: Any) -> None:
    """Refuses names of heads where their values are asked for.

    Raises:
      UserError: if it is no mapping of names to numbers.
    """
    if not isinstance(prior, Mapping):
        raise UserError(
            f"prior is {prior!r}; give posterior.prior, the heads with their values at the prior"
        )
