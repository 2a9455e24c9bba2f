"""How much of a language model's cross-entropy its codes recover.

    python docs/examples/language_model.py [--steps=600] [--num-train=40000] [--n-components=512]
        [--max-iter=5]

A transformer of two layers learns to predict the next character of the standard library's source.
The residual stream between its layers is coded by SparseCoder's default method and by TopK, with
equally many non-zeros, and replaced by the reconstruction. About a minute on two cores.
"""

import argparse
import sysconfig
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jvsc import SparseCoder
from jvsc.metrics import splicing_losses

CHARACTERS, CONTEXT, WIDTH, BATCH = 128, 64, 128, 32
NON_ZEROS = 8  # of each activation's code


class Layer(nn.Module):
    """Causal attention and a dense part, each added to the residual stream [B, CONTEXT, WIDTH]."""

    @nn.compact
    def __call__(self, stream):
        causal = nn.make_causal_mask(jnp.ones(stream.shape[:2]))
        attention = nn.MultiHeadDotProductAttention(num_heads=4)
        stream += attention(nn.LayerNorm()(stream), mask=causal)
        hidden = nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(stream)))
        return stream + nn.Dense(WIDTH)(hidden)


class Transformer(nn.Module):
    """`residual` goes from characters to the stream between the layers, `logits` on from there."""

    def setup(self):
        self.embedding = nn.Embed(CHARACTERS, WIDTH)
        self.positions = nn.Embed(CONTEXT, WIDTH)
        self.first, self.second = Layer(), Layer()
        self.norm, self.head = nn.LayerNorm(), nn.Dense(CHARACTERS)

    def residual(self, characters):
        return self.first(self.embedding(characters) + self.positions(jnp.arange(CONTEXT)))

    def logits(self, stream):
        return self.head(self.norm(self.second(stream)))

    def __call__(self, characters):
        return self.logits(self.residual(characters))


MODEL = Transformer()


def cross_entropy(logits, text):
    """Mean over all positions, in nats a character; `text` has one character more."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:]).mean()


def read_text():
    """Characters of the standard library's modules: to train on, and every tenth module apart."""
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [np.frombuffer(module.read_bytes(), np.uint8) for module in modules]
    texts = [text[text < CHARACTERS].astype(np.int32) for text in texts]
    train = [text for number, text in enumerate(texts) if number % 10]
    return np.concatenate(train), np.concatenate(texts[::10])


def windows(text, count, random):
    """Pieces of a text with one character more than the context."""
    starts = random.integers(len(text) - CONTEXT, size=(count, 1))
    return text[starts + np.arange(CONTEXT + 1)]


def train(text, steps, random):
    """Parameters of the transformer after so many steps of Adam."""
    rate = optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 10, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1), optax.adam(rate))

    @jax.jit
    def step(params, state, batch):
        loss = lambda params: cross_entropy(MODEL.apply(params, batch[:, :-1]), batch)  # noqa: E731
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    params = MODEL.init(jax.random.key(0), windows(text, 1, random)[:, :-1])
    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state, windows(text, BATCH, random))
    return params


def main() -> None:
    """Trains the transformer, codes its activations, and prints what the codes recover."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--steps", type=int, default=600, help="of the transformer")
    arguments.add_argument("--num-train", type=int, default=40_000, help="activations to fit")
    arguments.add_argument("--n-components", type=int, default=512)
    arguments.add_argument("--max-iter", type=int, default=5, help="passes over the activations")
    given = arguments.parse_args()

    random = np.random.default_rng(0)
    text, unseen = read_text()
    params = train(text, given.steps, random)
    residual = jax.jit(partial(MODEL.apply, params, method="residual"))
    logits = jax.jit(partial(MODEL.apply, params, method="logits"))

    def activations(pieces):
        return np.asarray(residual(pieces[:, :-1])).reshape(-1, WIDTH)

    held_out = windows(unseen, 500, random)
    fitted = activations(windows(text, given.num_train // CONTEXT, random))
    measured = activations(held_out)

    def loss(rows):
        return cross_entropy(logits(rows.reshape(-1, CONTEXT, WIDTH)), held_out)

    for method in ("inferred_threshold", "topk"):
        share = NON_ZEROS / given.n_components
        coder = SparseCoder(
            given.n_components, method, share, max_iter=given.max_iter, random_state=0
        ).fit(fitted)
        codes = coder.transform(measured)
        losses = splicing_losses(loss, measured, coder.inverse_transform(codes), "mean")
        print(f"{method}, non-zeros: {np.count_nonzero(codes) / len(codes):.1f}")
        print(f"{method}, variance explained: {coder.score(measured):.1%}")
        print(f"{method}, nats per character: {losses.spliced:.3f}")
        print(f"{method}, cross-entropy recovered: {losses.recovered:.1%}")
    print(f"nats per character: {losses.clean:.3f}, of mean activations: {losses.ablated:.3f}")


if __name__ == "__main__":
    main()
