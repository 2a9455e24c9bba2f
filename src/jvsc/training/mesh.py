"""The mesh of devices, and how arrays are placed on it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jvsc.errors import UserError

DATA_AXIS, LATENT_AXIS = "data", "latents"


def make_mesh(latent_shards: int = 1) -> Mesh:
    """Latents over `latent_shards` devices, the batch over the rest.

    Args:
      latent_shards: devices among which the latents are divided, neighbours of one process.

    Raises:
      UserError: if a process's devices cannot be grouped so.
    """
    if jax.local_device_count() % latent_shards:
        raise UserError(
            f"parallel.latent_shards is {latent_shards}, but a process has "
            f"{jax.local_device_count()} of the devices; give a divisor of their number"
        )
    devices = np.asarray(jax.devices()).reshape(-1, latent_shards)
    axis_types = (jax.sharding.AxisType.Auto,) * 2
    return Mesh(devices, (DATA_AXIS, LATENT_AXIS), axis_types=axis_types)


def batch_axis(mesh: Mesh) -> str | None:
    """The mesh axis of the batch; None where it is not divided.

    Then devices exchange nothing, and where they divide the latents XLA would refuse to.
    """
    return DATA_AXIS if mesh.shape[DATA_AXIS] > 1 else None


def check_batch_size(batch_size: int, num_devices: int) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Raises:
      UserError: naming the nearest batch sizes that they can.
    """
    if batch_size % num_devices:
        below = batch_size // num_devices * num_devices
        nearest = f"{below} or {below + num_devices}" if below else str(num_devices)
        raise UserError(
            f"batch_size is {batch_size} on {num_devices} devices; give a multiple: {nearest}"
        )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The same arrays on every device; each process gives the whole of them."""
    return _place(tree, mesh, lambda path, leaf: PartitionSpec())


def spread_latents(tree: Any, mesh: Mesh, num_latents: int) -> Any:
    """States of S seeds on the mesh: arrays with an axis of latents are divided along it.

    Args:
      tree: a `TrainState` with a leading axis; each process gives the whole of it.
      mesh: of `make_mesh`.
      num_latents: K, a multiple of the devices among which latents are divided.
    """
    return _place(tree, mesh, lambda path, leaf: _spec(path, leaf, num_latents))


def _spec(path: tuple[Any, ...], leaf: Any, num_latents: int) -> PartitionSpec:
    """An encoder's latents are the last axis of its arrays, a generator's the first after S.

    Both are names in `Parameters` and `Statistics`, and so in an optimiser's copies of them.
    """
    names = {getattr(part, "name", getattr(part, "key", None)) for part in path}
    axis = leaf.ndim - 1 if "encoder" in names else 1 if "generator" in names else 0
    if axis < 1 or leaf.ndim <= axis or leaf.shape[axis] != num_latents:
        return PartitionSpec()
    return PartitionSpec(*[None] * axis, LATENT_AXIS)


def _place(tree: Any, mesh: Mesh, spec: Callable[[tuple[Any, ...], Any], PartitionSpec]) -> Any:
    def place(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        sharding = NamedSharding(mesh, spec(path, leaf))
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(path, jax.random.key_data(leaf)))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree_util.tree_map_with_path(place, tree)


def on_one_device(shapes: Any) -> Any:
    """Shapes and types to be restored onto this process's first device, whatever wrote them."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )
