"""The mesh of devices, and what lies where on it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jvsc.errors import UserError

DATA_AXIS = "data"


def make_mesh() -> Mesh:
    """All devices in one row; a batch is spread over it."""
    return jax.make_mesh(
        (jax.device_count(),), (DATA_AXIS,), axis_types=(jax.sharding.AxisType.Auto,)
    )


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
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def everywhere(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(everywhere(jax.random.key_data(leaf)))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(everywhere, tree)


def on_one_device(shapes: Any) -> Any:
    """Shapes and types to be restored onto this process's first device, whatever wrote them."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )
