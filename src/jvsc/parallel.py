"""The mesh of devices, and what lies where on it."""

from typing import Any

import jax
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
    """The same arrays on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def on_one_device(shapes: Any) -> Any:
    """Shapes and types to be restored onto the first device, whatever devices wrote them."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )
