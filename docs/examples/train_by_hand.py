"""The paper's method on one screen, trained by hand from jvsc's public pieces.

    python docs/examples/train_by_hand.py [--steps=3000]

An encoder infers the heads of a Thresholded Laplacian; J codes are drawn and the best one counts
(eq. 9); the encoder descends (12), the dictionary (11). About a minute on two cores.
"""

import argparse

import jax
import jax.numpy as jnp
import optax

from jvsc.data import load_patches
from jvsc.model.networks import dictionary_generator, mlp_encoder
from jvsc.model.objective import dictionary_objective, encoder_objective, sparse_coding_objective
from jvsc.model.posteriors import Annealing, Laplacian, Thresholded
from jvsc.model.sampling import choose, datum_keys, draw
from jvsc.model.thresholds import FixedThreshold

D, K, J, BATCH, KL_WEIGHT, FROBENIUS, PENALTY = 64, 96, 10, 100, 1e-2, 1e-4, 5.0

posterior = Thresholded(Laplacian(scale=0.1), FixedThreshold(0.25))
encoder = mlp_encoder(D, K, posterior.heads, hidden=(128, 256, 128))
generator = dictionary_generator(D, K)


def best_codes(networks, dictionary, x, key):
    """The code of the highest ELBO among J draws of each datum, and the posterior's heads."""
    heads, _ = encoder.apply(networks, {}, x, True, None)
    keys = datum_keys(key, len(x))
    error = lambda codes: jnp.mean((x - codes @ dictionary) ** 2, axis=-1)  # noqa: E731
    chosen = choose(posterior.sample, error, keys, heads, J, Annealing())
    return draw(posterior.sample, keys, heads, chosen[None], Annealing())[0], heads


def losses(networks, dictionary, x, key):
    """The encoder's loss (12) and the dictionary's (11), means over a batch."""
    stop = jax.lax.stop_gradient
    codes, heads = best_codes(networks, stop(dictionary), x, key)
    kl = posterior.kl(heads)
    of_encoder = encoder_objective(x, codes @ stop(dictionary), kl, KL_WEIGHT)
    of_dictionary = dictionary_objective(x, stop(codes) @ dictionary, dictionary, FROBENIUS)
    return jnp.mean(of_encoder.total()), jnp.mean(of_dictionary.total())


def train(data, steps):
    """Encoder and dictionary after so many steps, in one compiled loop."""
    init_key, train_key = jax.random.split(jax.random.key(0))
    networks, dictionary = encoder.init(init_key)[0], generator.init(init_key)[0]
    optimizers = optax.adam(1e-3), optax.sgd(optax.cosine_decay_schedule(0.5, steps))

    def step(state, number):
        (networks, dictionary), (adam, sgd) = state
        batch_key, draw_key = jax.random.split(jax.random.fold_in(train_key, number))
        x = data[jax.random.randint(batch_key, (BATCH,), 0, len(data))]
        # Each loss has a gradient of its own alone: their sum's gradient is both.
        both = lambda networks, dictionary: sum(losses(networks, dictionary, x, draw_key))  # noqa: E731
        slopes = jax.grad(both, argnums=(0, 1))(networks, dictionary)
        updates, adam = optimizers[0].update(slopes[0], adam)
        networks = optax.apply_updates(networks, updates)
        updates, sgd = optimizers[1].update(slopes[1], sgd)
        return ((networks, optax.apply_updates(dictionary, updates)), (adam, sgd)), None

    start = (networks, dictionary), (optimizers[0].init(networks), optimizers[1].init(dictionary))
    return jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(steps)))()[0][0]


def main() -> None:
    """Trains, and prints objective (10) of held-out codes beside that of zero codes."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--steps", type=int, default=3000)
    steps = arguments.parse_args().steps
    patches = load_patches("", patch_size=8, num_train=20_000, num_validation=2_000)
    networks, dictionary = train(jnp.asarray(patches.train), steps)
    x = jnp.asarray(patches.validation)
    codes, _ = best_codes(networks, dictionary, x, jax.random.key(1))
    objective = sparse_coding_objective(x, codes @ dictionary, codes, PENALTY).total()
    print(f"non-zeros: {jnp.mean(codes != 0):.1%}")
    print(f"objective (10): {jnp.mean(objective):.1f}, of zero codes {D / 2:.1f}")


if __name__ == "__main__":
    main()
