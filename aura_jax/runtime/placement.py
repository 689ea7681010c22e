"""Where the arrays of a codec lie: on one device, or split over a mesh."""

import dataclasses
import math
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)
from jaxtyping import Array

from aura_jax.arrays import Shape, Size
from aura_jax.errors import ArrayError, AuraError
from aura_jax.model.autoencoder import AuraEquiVAE


@dataclasses.dataclass(frozen=True)
class Placement:
    """A sharding of images and latents that splits at most the batch and the rows.

    Raises:
        ArrayError: if it splits columns or channels, or is not a sharding of this kind.
    """

    sharding: Sharding

    @classmethod
    def of(cls, vae: AuraEquiVAE) -> "Placement":
        """Return the place of a model's weights; weights on several devices are copied to each.

        Weights in numpy arrays go to the default device.
        """
        weight = jax.tree.leaves(nnx.state(vae))[0]
        if not isinstance(weight, jax.Array):
            return _default_placement()
        sharding = weight.sharding
        if isinstance(sharding, NamedSharding) and len(sharding.device_set) > 1:
            return cls(NamedSharding(sharding.mesh, PartitionSpec()))
        return cls(SingleDeviceSharding(min(sharding.device_set, key=lambda each: each.id)))

    def __post_init__(self) -> None:
        if isinstance(self.sharding, SingleDeviceSharding):
            return
        if not isinstance(self.sharding, NamedSharding):
            raise ArrayError(
                f"sharding {self.sharding}: expected a jax.sharding.NamedSharding, such as "
                'NamedSharding(mesh, PartitionSpec("data"))'
            )
        if any(axes is not None for axes in self.sharding.spec[2:]):
            raise ArrayError(
                f"sharding {self.sharding.spec}: splits columns or channels; expected one that "
                "splits the batch, the rows or both, such as PartitionSpec('data', 'height')"
            )

    def __str__(self) -> str:
        """Describe the devices and the axes that are split over them."""
        if self.mesh is None:
            return str(self.device)
        sides = dict(self.mesh.mesh.shape)
        return f"{self.device.platform} mesh {sides} by {tuple(self.mesh.spec)}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what another process can have too: the form of the mesh instead of its devices."""
        if self.mesh is None:
            return _default_placement, ()
        mesh = self.mesh.mesh
        return _mesh_placement, (dict(mesh.shape), mesh.axis_types, self.mesh.spec)

    @cached_property
    def devices(self) -> list[Any]:
        """All devices, in the order of the mesh."""
        if self.mesh is None:
            return [self.device]
        assert self.mesh.mesh.devices is not None, "an abstract mesh has no sharding of arrays"
        return [*self.mesh.mesh.devices.flat]

    @cached_property
    def device(self) -> Any:
        """One of the devices, which are all of one kind."""
        return min(self.sharding.device_set, key=lambda device: device.id)

    @cached_property
    def mesh(self) -> NamedSharding | None:
        """The sharding, if it has several devices."""
        sharding = self.sharding
        return sharding if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1 else None

    @cached_property
    def weights(self) -> Sharding:
        """The sharding of weights: a copy on every device."""
        if isinstance(self.sharding, NamedSharding):
            return NamedSharding(self.sharding.mesh, PartitionSpec())
        return self.sharding

    @cached_property
    def shards(self) -> tuple[int, int]:
        """The number of parts that the batch and the rows are split into."""
        batch, rows = (self._parts(axis) for axis in (0, 1))
        return batch, rows

    def _parts(self, axis: int) -> int:
        if self.mesh is None:
            return 1
        axes = (*self.mesh.spec, None, None)[axis]
        names = axes if isinstance(axes, tuple) else (axes,)
        return math.prod(self.mesh.mesh.shape[name] for name in names if name is not None)

    @cached_property
    def local_device(self) -> Any:
        """One of the devices of this process."""
        return min(self.sharding.addressable_devices, key=lambda device: device.id)

    def local(self, vae: AuraEquiVAE) -> AuraEquiVAE:
        """Return a copy of a model on one device of this process; on a CPU, in numpy arrays.

        JAX would compile a program for each shape of weights to convert them to another dtype.
        """
        graph, state = nnx.split(vae)
        if self.device.platform == "cpu":
            return nnx.merge(graph, jax.device_get(state))
        return nnx.merge(graph, jax.device_put(state, self.local_device))

    def put(self, x: Array | np.ndarray) -> Array:
        """Place images or latents; this takes no time if they are there."""
        if isinstance(x, jax.Array) and x.sharding == self.sharding:
            return x
        return jax.device_put(x, self.sharding)

    def context(self) -> AbstractContextManager[Any]:
        """Hide another mesh that `jax.set_mesh` has set, which holds other devices than these."""
        context = jax.sharding.get_abstract_mesh()
        if context.empty or (self.mesh is not None and context == self.mesh.mesh.abstract_mesh):
            return nullcontext()
        return jax.set_mesh(self._own_mesh)

    @cached_property
    def _own_mesh(self) -> Mesh:
        if self.mesh is None:
            return Mesh(np.array([self.device]), "device")
        assert isinstance(self.mesh.mesh, Mesh), "an abstract mesh has no sharding of arrays"
        return self.mesh.mesh

    def whole_batch(self, count: Size) -> Size:
        """Return the smallest batch of at least this many images that divides over the devices."""
        return -(-count // self.shards[0]) * self.shards[0]

    def first(self, x: Array, count: Size) -> Array:
        """Cut a batch; one that does not divide over the devices is copied to each of them."""
        if x.shape[0] == count:  # which may be symbolic, unlike len(x)
            return x
        if self.mesh is None:
            return x[:count]
        # With explicit axes a batch that is split cannot be cut.
        spec = PartitionSpec(None, *self.mesh.spec[1:])
        x = jax.device_put(x, NamedSharding(self.mesh.mesh, spec))[:count]
        return x if count % self.shards[0] else self.put(x)

    def check_rows(self, name: str, shape: Shape, multiple: int) -> None:
        """Check that rows divide into equal parts.

        Args:
            name: the array's name, for the message.
            shape: [B, H, W, C].
            multiple: the number of rows that a part must be a multiple of.

        Raises:
            ArrayError: if they do not.
        """
        parts = self.shards[1]
        if parts > 1 and shape[1] % (parts * multiple):
            raise ArrayError(
                f"{name} of shape {shape}: {shape[1]} rows do not divide into {parts} parts of "
                f"whole multiples of {multiple}; pad them to a multiple of {parts * multiple}"
            )


def _default_placement() -> Placement:
    return Placement(SingleDeviceSharding(jax.local_devices()[0]))


def _mesh_placement(
    shape: dict[str, int], axis_types: tuple[AxisType, ...], spec: PartitionSpec
) -> Placement:
    needed, found = math.prod(shape.values()), jax.device_count()
    if found < needed:
        raise AuraError(f"this codec needs {needed} devices, and this process has {found}")
    mesh = jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types)
    return Placement(NamedSharding(mesh, spec))
