"""A model of one's own from jvsc's pure functions, on data whose true codes are known.

    python docs/examples/own_model.py [--steps=6000]

The data are sparse sums of known atoms, and noise. The encoder is a few lines of JAX; the
posterior, the draws and the choice among them are jvsc's. About a minute on two cores.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import optax
from sklearn.metrics import roc_auc_score

from jvsc.model.posteriors import Annealing, Laplacian, Thresholded
from jvsc.model.sampling import choose, datum_keys, draw
from jvsc.model.thresholds import FixedThreshold, laplacian_threshold

DIMENSIONS, ATOMS, ACTIVE, SAMPLES, BATCH = 32, 48, 0.06, 8, 256
SCALE, KL_WEIGHT = 0.01, 0.006

posterior = Thresholded(Laplacian(SCALE), FixedThreshold(laplacian_threshold(ACTIVE, SCALE)))


def unit_norm(atoms):
    """Each row divided by its length."""
    return atoms / jnp.linalg.norm(atoms, axis=1, keepdims=True)


def make_data(key, dictionary, count):
    """Codes of which a share ACTIVE is not zero, and the data they make, with noise."""
    support_key, size_key, noise_key = jax.random.split(key, 3)
    support = jax.random.bernoulli(support_key, ACTIVE, (count, ATOMS))
    codes = support * jax.random.laplace(size_key, (count, ATOMS))
    noise = 0.02 * jax.random.normal(noise_key, (count, DIMENSIONS))
    return codes, codes @ dictionary + noise


def init(key):
    """Parameters: three dense layers, the last of which gives the heads, and a dictionary."""
    keys = jax.random.split(key, 4)
    widths = (DIMENSIONS, 256, 256, ATOMS * len(posterior.heads))
    layers = [
        (jax.random.normal(k, (a, b)) * a**-0.5, jnp.zeros(b))
        for k, a, b in zip(keys[:3], widths[:-1], widths[1:], strict=True)
    ]
    return {"layers": layers, "dictionary": jax.random.normal(keys[3], (ATOMS, DIMENSIONS))}


def encode(layers, data):
    """The posterior's heads of data, which start at the prior."""
    *hidden, (weights, offsets) = layers
    for w, b in hidden:
        data = jax.nn.gelu(data @ w + b)
    split = jnp.split(0.1 * (data @ weights) + offsets, len(posterior.heads), axis=-1)
    heads = zip(posterior.heads, split, strict=True)
    return {name: posterior.prior[name] + head for name, head in heads}


def squared_error(parameters, data, codes):
    """||x - s A||^2 of each datum and draw, the atoms of A having unit norm."""
    return jnp.sum((data - codes @ unit_norm(parameters["dictionary"])) ** 2, axis=-1)


def best_codes(parameters, data, key):
    """The best of SAMPLES draws for each datum (eq. 9), and the heads they come from."""
    heads = encode(parameters["layers"], data)
    keys = datum_keys(key, len(data))
    error = partial(squared_error, parameters, data)
    chosen = choose(posterior.sample, error, keys, heads, SAMPLES, Annealing())
    return draw(posterior.sample, keys, heads, chosen[None], Annealing())[0], heads


def loss(parameters, data, key):
    """Half the squared error and the weighted divergence, mean over the batch."""
    codes, heads = best_codes(parameters, data, key)
    error = squared_error(parameters, data, codes)
    return jnp.mean(error / 2 + KL_WEIGHT * jnp.sum(posterior.kl(heads), axis=-1))


def train(key, dictionary, steps):
    """Parameters after so many steps of Adam on fresh data, all in one compiled loop."""
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    init_key, train_key = jax.random.split(key)
    parameters = init(init_key)

    def step(state, number):
        parameters, moments = state
        data_key, draw_key = jax.random.split(jax.random.fold_in(train_key, number))
        _, data = make_data(data_key, dictionary, BATCH)
        gradient = jax.grad(loss)(parameters, data, draw_key)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(parameters, updates), moments), None

    start = (parameters, optimizer.init(parameters))
    return jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(steps)))()[0][0]


def main() -> None:
    """Trains, and prints how much of the truth was found."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--steps", type=int, default=6000)
    steps = arguments.parse_args().steps

    truth_key, train_key, test_key, draw_key = jax.random.split(jax.random.key(0), 4)
    dictionary = unit_norm(jax.random.normal(truth_key, (ATOMS, DIMENSIONS)))
    parameters = train(train_key, dictionary, steps)

    similarity = jnp.abs(dictionary @ unit_norm(parameters["dictionary"]).T)
    match = jnp.argmax(similarity, axis=1)
    found = jnp.mean(jnp.max(similarity, axis=1) > 0.95)
    print(f"true atoms found (cosine above 0.95): {found:.0%}")

    codes, data = make_data(test_key, dictionary, 2000)
    inferred, heads = best_codes(parameters, data, draw_key)
    print(f"non-zeros: {jnp.mean(inferred != 0):.1%}, true {jnp.mean(codes != 0):.1%}")
    probability = posterior.support_probability(heads)[:, match]
    area = roc_auc_score((codes != 0).ravel(), probability.ravel())
    print(f"P(non-zero) against the true support, area under the ROC curve: {area:.2f}")


if __name__ == "__main__":
    main()
