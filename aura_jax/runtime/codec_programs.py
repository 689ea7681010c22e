"""The programs of a codec, and the settings that they depend on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from aura_jax.config import AuraConfig
from aura_jax.errors import ArrayError, AuraError
from aura_jax.images.transforms import to_float, to_uint8
from aura_jax.model.autoencoder import AuraEquiVAE, equivariant
from aura_jax.runtime.executables import ExecutableFolder, Identity, environment
from aura_jax.runtime.inputs import LEVELS
from aura_jax.runtime.networks import PARTS, Part, network_program
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.plan import Plan, Precision, masked_plan, plan_for
from aura_jax.runtime.program import Program
from aura_jax.runtime.rewrite import abstract_rewritten, rewritten


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that the programs of a codec depend on, besides the values of the weights.

    Attributes:
        config: the sizes of the model.
        averaged: whether the model is averaged over the flips.
        dtype: the dtype to compute in.
        precision: "highest" or "fast": see `Codec`.
        place: where the arrays lie.
        bucketed: whether the programs take smaller images than their shapes: see `Codec`.

    Raises:
        ArrayError: if buckets are combined with a sharding of rows.
    """

    config: AuraConfig
    averaged: bool
    dtype: np.dtype
    precision: Precision
    place: Placement
    bucketed: bool

    def __post_init__(self) -> None:
        if self.bucketed and self.place.shards[1] > 1:
            raise ArrayError("buckets: cannot be combined with a sharding of rows")

    def plan(self) -> Plan:
        """Choose the kernels: see `plan_for`."""
        plan = plan_for(self.place, self.dtype, self.precision)
        return masked_plan(plan) if self.bucketed else plan

    def identity(self) -> Identity:
        """Describe the settings and this process, as far as executables depend on them."""
        return {
            "config": dataclasses.asdict(self.config),
            "settings": [
                *(str(self.dtype), self.precision, str(self.place)),
                *(self.averaged, self.bucketed),
            ],
            **environment(self.place.devices),
        }


class CodecPrograms(dict[str, Program]):
    """Programs by name: encode, decode, and from_levels and to_levels for 8-bit images.

    They can be pickled, with their weights and without their executables.

    Args:
        settings: the settings of the codec.
        plan: the kernels that the settings choose.
        model: the model, rewritten by the plan; abstract weights can be placed later.
        folder: a folder of saved executables; those found there are loaded instead of compiled.
    """

    def __init__(
        self, settings: Settings, plan: Plan, model: AuraEquiVAE, folder: ExecutableFolder | None
    ):
        self.settings, self._folder = settings, folder
        place, dtype, marked = settings.place, settings.dtype, settings.bucketed
        super().__init__(
            {
                part: network_program(part, model, dtype, plan, place, marked=marked)
                for part in PARTS
            },
            from_levels=Program(
                "images", lambda _, x: to_float(x), [], LEVELS, place, marked=marked
            ),
            to_levels=Program("images", lambda _, x: to_uint8(x), [], dtype, place),
        )
        if folder is not None:
            for name, program in self.items():
                program.load = folder.loader(name, settings.identity(), place.devices)

    @classmethod
    def of(
        cls, vae: AuraEquiVAE, settings: Settings, folder: ExecutableFolder | None
    ) -> "CodecPrograms":
        """Make the programs of a model, with weights of their own."""
        plan, place = settings.plan(), settings.place
        with place.context():
            model = rewritten(place.local(vae), settings.dtype, plan)
            return cls(settings, plan, model, folder)

    def save_executables(self, folder: ExecutableFolder) -> None:
        """Write all executables that have been compiled: see `Codec.save_executables`."""
        identity, devices = self.settings.identity(), self.settings.place.devices
        for name, program in self.items():
            for shape, compiled in program.compiled.items():
                folder.save(name, shape, identity, compiled, devices, program.try_out)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all but the executables, which depend on this process."""
        weights = {part: self[part].weights for part in PARTS}
        return _restored, (
            self.settings,
            self._folder,
            self.settings.place.device.platform,
            weights,
        )


def _restored(
    settings: Settings,
    folder: ExecutableFolder | None,
    platform: str,
    weights: dict[Part, Sequence[Any]],
) -> CodecPrograms:
    """Restore pickled programs.

    Raises:
        AuraError: if they were made for another platform, whose kernels differ.
    """
    here = settings.place.device.platform
    if platform != here:
        raise AuraError(
            f"this codec was made for the platform {platform}, and this process runs on {here}: "
            "make a codec from the model here"
        )
    plan = settings.plan()
    model = abstract_rewritten(settings.config, settings.dtype, plan)
    model = equivariant(model) if settings.averaged else model
    programs = CodecPrograms(settings, plan, model, folder)
    for part in PARTS:
        programs[part].place(weights[part])
    return programs
