"""The JSON that describes a model, in a checkpoint's metadata and in config.json beside it."""

import dataclasses
import json
from typing import Any

from aura_jax.config import AuraConfig
from aura_jax.errors import AuraError, ConfigError, printable
from aura_jax.latent_stats import LatentStats

STATS = "latent_stats"  # beside the fields of the config


@dataclasses.dataclass(frozen=True)
class Description:
    """The sizes of a model and, if they are known, the statistics of its latents.

    Raises:
        ConfigError: if the statistics are of another type or number of channels.
    """

    config: AuraConfig
    latent_stats: LatentStats | None = None

    def __post_init__(self) -> None:
        stats = self.latent_stats
        if stats is not None and len(stats.mean) != self.config.z_channels:
            raise ConfigError(
                f"latent_stats of {len(stats.mean)} channels, but the model's latents have "
                f"{self.config.z_channels}"
            )

    def to_json(self, *, indent: int | None = None) -> str:
        """Return a JSON object; without statistics it is the config's alone."""
        fields = dataclasses.asdict(self.config)
        if self.latent_stats is not None:
            fields[STATS] = self.latent_stats.to_dict()
        return json.dumps(fields, indent=indent)

    @classmethod
    def from_json(cls, text: str) -> "Description":
        """Read a JSON object; missing fields of the config take their defaults.

        Raises:
            ConfigError: if the text is not such an object.
        """
        fields = _fields(text)
        if STATS not in fields:
            return cls(AuraConfig.from_json(text))
        stats = fields.pop(STATS)
        try:
            return cls(AuraConfig.from_json(json.dumps(fields)), LatentStats(**stats))
        except (TypeError, AuraError) as error:
            raise ConfigError(f"not a config: {printable(str(error))}") from None


def is_description(text: str | None) -> bool:
    """Return whether a text describes a model of this package; other programs have configs too."""
    fields = _fields(text or "")
    known = {field.name for field in dataclasses.fields(AuraConfig)} | {STATS}
    return bool(fields) and fields.keys() <= known


def description_of(vae: Any) -> Description:
    """Describe a model for a file.

    Raises:
        ConfigError: if its statistics have another type or number of channels, or it is averaged
            over the flips, which a file cannot say.
    """
    if vae.encoder.averaged:
        raise ConfigError(
            "an equivariant model: files hold parameters alone, so save the model that it was "
            "made from, and call aura_jax.equivariant after loading"
        )
    stats = vae.latent_stats
    if stats is not None and not isinstance(stats, LatentStats):
        raise ConfigError(
            f"vae.latent_stats is of type {type(stats).__name__}, expected LatentStats; those of a "
            "cache are LatentSource(...).latent_stats"
        )
    return Description(vae.config, stats)


def _fields(text: str) -> dict[str, Any]:
    """Return a JSON object; an empty one if the text is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
