"""Signal-to-noise ratios of the gradients of a dense encoder and a dictionary, datum by datum.

Draws for different data are independent, so the variance of a batch's gradient is the sum of its
data's. A datum's gradient of a dense layer is the outer product of what the layer is given, which
no draw changes, and the gradient of its outputs, so its variance needs that of the outputs alone.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jvsc.metrics.gradient_snr import SMALLEST_DEVIATION
from jvsc.model.networks import DenseLayer, Encoder, Generator
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.posteriors import Annealing
from jvsc.model.variational import Variational
from jvsc.solvers.duality import product

# A datum's layers are cut down to what is active in all of them, the smallest of these shares.
SHARES = (0.5625, 0.75, 1.0)
# Rows and columns of products come in multiples.
ROUND = 16
# Keeps the correlations of outputs, some of which depend on others, positive definite in float32.
JITTER = 1e-5


class _Moments(NamedTuple):
    """Mean and variance over the draws."""

    mean: Any
    variance: Any


def dense_gradient_snr(
    model: Variational,
    parameters: Parameters,
    data: Float[Array, "B D"],
    keys: Key[Array, " draws"],
    annealing: Annealing,
) -> Parameters:
    """|mean g| / (std g + 1e-9) of every parameter over independent draws (Rainforth et al. 2018).

    As `jvsc.metrics.gradient_snr` of the same draws, and several times as fast, but for the
    variance: it is the sum of the data's sample variances, an estimate of the same with less noise
    than the sample variance of their sum. Memory grows with the draws of a datum, [draws, K].
    May be jitted.

    Args:
      model: with a dense encoder, a dictionary and one code a datum.
      parameters: of encoder and dictionary.
      data: batch x.
      keys: one a draw.
      annealing: warm-up and temperature.

    Returns:
      The ratios, without unit, in the parameters' tree.

    Raises:
      ValueError: if the encoder is not made of dense layers, or a datum has several codes.
    """
    if model.encoder.layers is None:
        raise ValueError("the encoder is not made of dense layers; use jvsc.metrics.gradient_snr")
    heads, _ = model.heads(parameters, Statistics({}, {}), data)
    layers = model.encoder.layers(parameters.encoder, data)
    gradients = _gradients_of_datum(model, parameters.generator, annealing)

    _, *activations = [layer.inputs for layer in layers.values()]
    shares = [jnp.mean(activation > 0, axis=1) for activation in activations]
    largest = jnp.max(jnp.stack([jnp.zeros(len(data), data.dtype), *shares]), axis=0)
    enough = jnp.searchsorted(jnp.asarray(SHARES), largest)

    def add_datum(dictionary: _Moments, place: Int[Array, ""]):
        datum = jax.tree.map(lambda rows: rows[place][None], (heads, data))
        outputs, errors, codes = jax.vmap(lambda key: gradients(*datum, key, place))(keys)
        mean = product(codes.T, errors) / len(keys)
        square = product((codes**2).T, errors**2) / len(keys)
        of_datum = _Moments(mean, jnp.maximum(square - mean**2, 0))
        given = {name: layer._replace(inputs=layer.inputs[place]) for name, layer in layers.items()}
        # Not as an operand, whose names would be sorted: the layers are in order.
        propagate = [partial(_propagate, layers=given, share=share) for share in SHARES]
        of_outputs = jax.lax.switch(enough[place], propagate, outputs)
        return jax.tree.map(jnp.add, dictionary, of_datum), of_outputs

    zeros = jnp.zeros_like(parameters.generator)
    places = jnp.arange(len(data))
    dictionary, outputs = jax.lax.scan(add_datum, _Moments(zeros, zeros), places)
    # The loss is the mean over the data.
    scale = 1 / len(data)

    def ratio(path: Any, leaf: Array):
        layer, moments = layers[path[0].key], outputs[path[0].key]
        if leaf.ndim == 1:
            return _ratio(scale * moments.mean.sum(axis=0), scale**2 * moments.variance.sum(axis=0))
        return _ratio(
            scale * layer.inputs.T @ moments.mean,
            scale**2 * (layer.inputs**2).T @ moments.variance,
        )

    encoder = jax.tree.map_with_path(ratio, parameters.encoder)
    norm = 2 * model.frobenius * parameters.generator
    return Parameters(
        encoder, _ratio(scale * dictionary.mean + norm, scale**2 * dictionary.variance)
    )


def _ratio(mean: Float[Array, "..."], variance: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.abs(mean) / (jnp.sqrt(variance) + SMALLEST_DEVIATION)


def _gradients_of_datum(
    model: Variational, dictionary: Float[Array, "K D"], annealing: Annealing
) -> Callable:
    """`(heads, datum, key, place) -> gradients of heads and reconstruction, code` of one draw."""

    def encode(heads: Any, statistics: Any, data: Array, training: bool, generative: Any):
        del data, training, generative
        return heads, statistics

    def generate(shift: Array, statistics: Any, codes: Array, training: bool):
        # The codes leave by way of the statistics.
        del statistics, training
        return codes @ dictionary + shift, codes

    probed = replace(
        model,
        encoder=Encoder(lambda key: ({}, {}), encode),
        generator=Generator(lambda key: ({}, {}), generate, model.generator.loss_scale),
        frobenius=0.0,
    )

    def loss(parameters: Parameters, datum: Array, key: Key[Array, ""], place: Int[Array, ""]):
        value, (_, statistics) = probed.bound(
            parameters, Statistics({}, {}), datum, key, annealing, place
        )
        return value, statistics.generator

    def gradients(heads: Any, datum: Array, key: Key[Array, ""], place: Int[Array, ""]):
        probe = Parameters(heads, jnp.zeros_like(datum[0]))
        gradient, codes = jax.grad(loss, has_aux=True)(probe, datum, key, place)
        if len(codes) > 1:
            raise ValueError("the gradient is of several codes; use jvsc.metrics.gradient_snr")
        return (
            {name: head[0] for name, head in gradient.encoder.items()},
            gradient.generator,
            codes[0, 0],
        )

    return gradients


def _propagate(
    heads: dict[str, Float[Array, "R K"]], layers: dict[str, DenseLayer], share: float
) -> dict[str, _Moments]:
    """Moments of the gradient of each layer's outputs, from those of the heads, for one datum.

    Args:
      heads: gradients of the heads' outputs, a row a draw.
      layers: kernels, and the datum's `inputs` of each.
      share: of each layer's outputs at most so many are active.
    """
    kernels = {name: layer.kernel for name, layer in layers.items()}
    num_draws = len(next(iter(heads.values())))
    moments = {name: _Moments(head.mean(axis=0), head.var(axis=0)) for name, head in heads.items()}
    hidden = [name for name in kernels if name not in heads]
    above, roots = list(heads), None
    for name in reversed(hidden):
        # What a layer gives is zero where its ReLU is; the next layer is given it.
        active, places = _active(layers[above[0]].inputs, share)
        rows = {head: kernels[head][places] for head in above}
        mean = active * sum(rows[each] @ moments[each].mean for each in above)
        if roots is None:
            draws = sum(head @ rows[each].T for each, head in heads.items())
            roots = _root(active * draws - mean).T
        else:
            roots = active[:, None] * (rows[above[0]] @ roots)
        whole = jnp.zeros(len(kernels[above[0]]), mean.dtype)
        moments[name] = _Moments(
            whole.at[places].set(mean),
            whole.at[places].set(jnp.sum(roots**2, axis=1) / num_draws),
        )
        roots = jnp.zeros((len(whole), roots.shape[1]), roots.dtype).at[places].set(roots)
        above = [name]
    return moments


def _active(
    outputs: Float[Array, " M"], share: float
) -> tuple[Bool[Array, " m"], Int[Array, " m"]]:
    """The places of a share of a layer's outputs, non-zero ones first, and which are not zero."""
    count = min(len(outputs), ROUND * math.ceil(share * len(outputs) / ROUND))
    places = jnp.argsort(outputs <= 0)[:count]
    return outputs[places] > 0, places


def _root(deviations: Float[Array, "R M"]) -> Float[Array, "_ M"]:
    """A matrix with the same Gram matrix of columns, of at most as many rows as columns."""
    num_draws, width = deviations.shape
    if num_draws <= width:
        return deviations
    products = product(deviations.T, deviations)
    sizes = jnp.sqrt(jnp.diag(products))
    jitter = max(JITTER, width * float(jnp.finfo(deviations.dtype).eps))
    safe = jnp.where(sizes > 0, sizes, 1)
    correlations = jnp.where(sizes > 0, products / safe / safe[:, None], 0)
    correlations = correlations.at[jnp.diag_indices(width)].set(1 + jitter)
    return jnp.linalg.cholesky(correlations).T * sizes
