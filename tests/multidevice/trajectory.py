"""Trains a few epochs on this process's devices and saves what came: `trajectory.py KIND FILE`.

In double precision (JAX_ENABLE_X64=1): in float32 two draws of a datum may be equal to rounding,
and which is the better one depend on the order of a sum.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from models import EXPLAINING, image_config, random_images, small_config

from jvsc.runs.factories import build_dataset, build_model, build_optimizer
from jvsc.runs.train import feed_arguments, make_feed
from jvsc.training.feed import streamed_feed
from jvsc.training.mesh import batch_axis, make_mesh, spread_latents
from jvsc.training.state import init_states

NUM_EPOCHS = 2


def trajectory(kind: str) -> dict[str, np.ndarray]:
    """Losses and last parameters; kind is linear, topk, explaining, gates and so on.

    With `_latents_N` behind the kind, the latents are divided among N of the devices; with
    `_streamed`, the data are sent in parts.
    """
    kind, _, shards = kind.partition("_latents_")
    kind, streamed, _ = kind.partition("_streamed")
    if kind in ("linear", "topk", "matryoshka", "jump_relu", "explaining", "lasso"):
        config = small_config(batch_size=40, num_samples=3, data__num_train=400)
        if kind in ("topk", "matryoshka", "jump_relu"):
            # No threshold of ours; an AuxK loss of latents that soon are dead.
            sizes = {"autoencoder__active": 4, "autoencoder__dead_after": 80}
            if kind == "jump_relu":
                sizes |= {"autoencoder__bandwidth": 0.5, "autoencoder__target_active": 4}
            config = small_config(
                method=kind, threshold=None, batch_size=40, data__num_train=400, **sizes
            )
        if kind == "lasso":
            online = {"method": kind, "threshold": None, "fista__penalty": 1.0}
            config = small_config(batch_size=40, data__num_train=400, **online)
        if kind == "explaining":
            corrects = {"encoder__corrects": True}
            config = small_config(batch_size=40, data__num_train=400, **EXPLAINING, **corrects)
        dataset = build_dataset(config)
    else:
        config = image_config(num_samples=3, sampling_chunk=2, compute_dtype="float64")
        if kind == "gates":
            config = image_config(
                method="inferred_threshold", threshold=None, sampling="moments",
                encoder__lifetime_sparsity=True, noise__rule="learned", compute_dtype="float64",
            )  # fmt: skip
        dataset = random_images(config)
    mesh = make_mesh(int(shards or 1))
    model = build_model(config, dataset.train.shape[1], batch_axis(mesh))
    optimizer = build_optimizer(config, config.steps_per_epoch)
    state = init_states(config.seeds, model, optimizer)
    if kind != "lasso":  # whose steps on the host are float32's
        state = jax.tree.map(in_double, state)
    state = spread_latents(state, mesh, config.num_latents)
    if streamed:
        arguments = feed_arguments(config, model, optimizer, dataset, mesh)
        # Less than the data of an epoch.
        segment_bytes = dataset.train.nbytes // 3
        feed = streamed_feed(
            dataset.train, keys=state.key, segment_bytes=segment_bytes, **arguments
        )
    else:
        feed = make_feed(config, model, optimizer, dataset, state, mesh)
    losses = []
    for _ in range(NUM_EPOCHS):
        state, metrics = feed.run_epoch(state)
        losses.append(np.asarray(metrics.loss))
    leaves = jax.tree.leaves((state.parameters, state.statistics))
    flat = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])
    largest = max(leaves, key=lambda leaf: leaf.size if config.num_latents in leaf.shape else 0)
    spread = largest.shape[1:] != largest.addressable_shards[0].data.shape[1:]
    return {"losses": np.concatenate(losses, axis=1), "parameters": flat, "spread": spread}


def in_double(leaf: jax.Array) -> jax.Array:
    """Floats as float64; keys and counts as they are."""
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


if __name__ == "__main__":
    np.savez(sys.argv[2], devices=jax.device_count(), **trajectory(sys.argv[1]))
