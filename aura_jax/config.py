"""The sizes of an AuraEquiVAE: one frozen value that determines every layer."""

import dataclasses
import json
from collections.abc import Sequence

from aura_jax.errors import ConfigError

NORM_GROUPS = 32
HEAD_DIM = 64
MAX_LEVELS, MAX_BLOCKS = 8, 16  # far above real models, so that a corrupt file fails fast
FLIPPED_CHANNELS = 4  # the last four latent channels carry the signs of the flips
LATENT_LIMIT = 8.0  # the encoder's output is clamped to ±8, as the model was trained


@dataclasses.dataclass(frozen=True)
class AuraConfig:
    """Sizes of the encoder and decoder; the defaults are the published model's.

    Attributes:
        ch: channels of the first level.
        ch_mult: channels of each level as multiples of `ch`; every level but the last halves the
            image, so four levels make an f8 autoencoder.
        num_res_blocks: residual blocks of each encoder level (a decoder level has one more).
        z_channels: channels of the latent; the last four change sign under flips.
        in_channels: channels of the encoder's input.
        out_channels: channels of the decoder's output.

    Raises:
        ConfigError: if a value is not a positive integer, a width is not a multiple of 32 (the
            number of norm groups), the last width is not a multiple of 64 (the size of an attention
            head), the latent has fewer than 4 channels, or there are more than 8 levels or 16
            blocks.
    """

    ch: int = 256
    ch_mult: Sequence[int] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 16
    in_channels: int = 3
    out_channels: int = 3

    def __post_init__(self) -> None:
        if isinstance(self.ch_mult, list):  # JSON has lists; a tuple is hashable
            object.__setattr__(self, "ch_mult", tuple(self.ch_mult))
        self._check_types()
        for width in (self.ch, *self.widths):
            if width % NORM_GROUPS:
                raise ConfigError(f"width {width} is not a multiple of {NORM_GROUPS}: {self}")
        if self.widths[-1] % HEAD_DIM:
            raise ConfigError(
                f"last width {self.widths[-1]} is not a multiple of {HEAD_DIM}: {self}"
            )
        if len(self.ch_mult) > MAX_LEVELS or self.num_res_blocks > MAX_BLOCKS:
            raise ConfigError(f"over {MAX_LEVELS} levels or {MAX_BLOCKS} blocks a level: {self}")
        if self.z_channels < FLIPPED_CHANNELS:
            raise ConfigError(f"z_channels={self.z_channels}: the flips need at least 4 channels")

    def _check_types(self) -> None:
        if not isinstance(self.ch_mult, tuple) or not self.ch_mult:
            raise ConfigError(f"ch_mult={self.ch_mult!r}: expected a tuple such as (1, 2, 4, 4)")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for number in value if field.name == "ch_mult" else (value,):
                if type(number) is not int or number < 1:
                    raise ConfigError(f"{field.name}={value!r}: expected positive integers")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, from the image to the latent."""
        return tuple(self.ch * mult for mult in self.ch_mult)

    @property
    def downsampling(self) -> int:
        """Image pixels along each side of a latent pixel, which are 8 for the published model."""
        return 2 ** (len(self.ch_mult) - 1)

    def check_rgb(self, source: object) -> None:
        """Check that the model encodes and decodes RGB images.

        Args:
            source: the file that the config was read from, for the message.

        Raises:
            ConfigError: if its images do not have three channels.
        """
        if (self.in_channels, self.out_channels) != (3, 3):
            raise ConfigError(f"{source}: not a model of RGB images: {self}")

    def to_json(self) -> str:
        """Return the config as a JSON object, for the metadata of a checkpoint."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "AuraConfig":
        """Read a config from a JSON object; missing fields take their defaults.

        Raises:
            ConfigError: if the text is not a JSON object with fields of a config.
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            reason = str(error)[:200]
            raise ConfigError(f"not a config: {text[:200]!r} ({reason})") from None


PRESETS = {
    "published": AuraConfig(),
    "small": AuraConfig(ch=64, ch_mult=(1, 1, 2, 2), num_res_blocks=1),  # the embedded checkpoint's
}
