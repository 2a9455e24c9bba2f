"""A posterior and an encoder of one's own, trained by jvsc: codes that are never negative.

    python docs/examples/own_model.py [--num-train=40000] [--num-epochs=20] [--workdir=FOLDER]

The code of a latent is max(z - t, 0) of a Gaussian z: zero unless z exceeds the threshold t. A
posterior says how to draw a code, its divergence from the prior, and how probable a non-zero is;
an encoder is a pair of functions. Under a minute on two cores.
"""

import argparse
from dataclasses import dataclass
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import jvsc
from jvsc.data import load_patches
from jvsc.model.networks import Encoder, dictionary_generator
from jvsc.model.posteriors import Posterior
from jvsc.model.variational import Variational


@dataclass(frozen=True)
class RectifiedGaussian(Posterior):
    """max(z - t, 0) of z ~ N(loc, scale^2); under the prior z ~ N(0, 1).

    Attributes:
      sparsity: the prior's share of non-zeros, P(z > t).
    """

    sparsity: float

    @property
    def threshold(self):
        """The t that a share `sparsity` of the prior exceeds."""
        return NormalDist().inv_cdf(1 - self.sparsity)

    @property
    def prior(self):
        """The encoder's heads, and their values under the prior."""
        return {"loc": 0.0, "log_scale": 0.0}

    def sample_and_log_ratio(self, key, heads, annealing):
        """A draw, and log p - log q of its z."""
        noise = jax.random.normal(key, heads["loc"].shape)
        z = heads["loc"] + jnp.exp(heads["log_scale"]) * noise
        log_ratio = 0.5 * (noise**2 - z**2) + heads["log_scale"]
        return jax.nn.relu(z - self.threshold), log_ratio

    def kl(self, heads):
        """KL(N(loc, scale^2) || N(0, 1)) of each latent."""
        squares = heads["loc"] ** 2 + jnp.exp(2 * heads["log_scale"])
        return 0.5 * (squares - 1) - heads["log_scale"]

    def support_probability(self, heads):
        """P(z > t)."""
        return norm.cdf((heads["loc"] - self.threshold) * jnp.exp(-heads["log_scale"]))


def one_layer(num_features, num_latents, posterior):
    """An encoder with one hidden layer, whose heads start near the prior."""
    width = 4 * num_latents

    def init(key):
        hidden, heads = jax.random.split(key)
        parameters = {
            "hidden": jax.random.normal(hidden, (num_features, width)) / num_features**0.5
        }
        for name in posterior.heads:
            heads, now = jax.random.split(heads)
            parameters[name] = 0.1 * jax.random.normal(now, (width, num_latents)) / width**0.5
        return parameters, {}

    def apply(parameters, statistics, data, training, generative):
        features = jax.nn.gelu(data @ parameters["hidden"])
        heads = {
            name: value + features @ parameters[name] for name, value in posterior.prior.items()
        }
        return heads, statistics

    return Encoder(init, apply)


def main() -> None:
    """Trains, and prints what held-out codes are worth."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--num-train", type=int, default=40_000)
    arguments.add_argument("--num-epochs", type=int, default=20)
    arguments.add_argument("--workdir", help="where to keep checkpoints, to go on from")
    given = arguments.parse_args()

    patches = load_patches("", patch_size=8, num_train=given.num_train, num_validation=2_000)
    posterior = RectifiedGaussian(sparsity=0.1)
    model = Variational(
        dictionary_generator(64, 128),
        posterior,
        one_layer(64, 128, posterior),
        num_samples=10,
        kl_weight=3e-3,
    )
    trained = jvsc.train(
        model,
        patches,
        num_epochs=given.num_epochs,
        workdir=given.workdir,
        callback=lambda epoch: print(f"epoch {epoch.number}: loss {epoch.metrics['loss']:.3f}"),
    )
    inferred = trained.infer(patches.validation)
    explained = 1 - np.mean(inferred.squared_error) / np.mean(patches.validation**2)
    print(f"smallest code: {inferred.codes.min():.1f}")
    print(f"non-zeros: {np.mean(inferred.codes != 0):.1%}")
    print(f"variance explained: {explained:.1%}")


if __name__ == "__main__":
    main()
