"""How a run trains: one frozen value, which a run's folder keeps and a resumed run must repeat."""

import dataclasses
import math
import re
from typing import Literal, NamedTuple

from aura_jax.config import AuraConfig
from aura_jax.errors import TrainingError
from aura_jax.training.losses import IMAGE_LOSSES, POOL

type GradientNorms = Literal["batch", "tensor", "none"]
type Trained = Literal["all", "encoder", "decoder"]
type ComputeType = Literal["bf16", "f32"]
type Losses = tuple[tuple[str, float], ...]

LOSSES = (*IMAGE_LOSSES, "z2", "lpips", "gan", "encoder")
PERCEPTUAL_LOSSES = ("lpips", "gan")
PUBLISHED_LOSSES: Losses = (("lpips", 1.0), ("pooled_l1", 0.2), ("z2", 1.0), ("gan", 1.0))
PLAIN_LOSSES: Losses = (("l1", 0.2), ("l2", 1.0), ("z2", 1e-4))


class Crops(NamedTuple):
    """Square crops of `size` pixels, `batch` of them in a step."""

    size: int
    batch: int

    @classmethod
    def parse(cls, text: str) -> "Crops":
        """The crops of a text such as 256x16.

        Raises:
            TrainingError: if it is not of that form.
        """
        match = re.fullmatch(r"(\d+)x(\d+)", text)
        if match is None or 0 in (int(match[1]), int(match[2])):
            raise TrainingError(f"crops {text!r}: expected SIZExBATCH, such as 256x16")
        return cls(int(match[1]), int(match[2]))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The published recipe, but for its length; see each field.

    Attributes:
        steps: optimizer steps of the whole run; the cosine schedule ends with them.
        crops: sizes and batches, taken in turns, one a step.
        losses: (name, weight) of each term; names are those of LOSSES.
        gradnorm: how gradients of the image losses are normalized (`losses.gradnorm`, with the
            loss's weight), or "none": then weights multiply the losses.
        train: which network learns; the other one stays as it is.
        noise: σ of the multiplicative noise on the latent.
        p_horizontal: probability of a horizontal flip of latent and target, per sample.
        p_vertical: probability of a vertical one.
        learning_rate: divided by the config's `ch` to give the rate of most parameters.
        conv_in_rate: the rate of parameters with conv_in in their name.
        discriminator_rate: the rate of the discriminator.
        warmup: steps of linear warm-up, at most a tenth of all.
        weight_decay: of AdamW; its betas are (0.9, 0.95).
        gan_start: step from which the "gan" loss counts.
        ema: decay of the averaged weights, which are what a run exports.
        accumulate: micro-batches a step, for a batch that does not fit; gradients are averaged.
            With `gradnorm` this is not the same as one large batch: each has norms of its own.
        remat: whether to recompute ResnetBlocks in the backward pass instead of keeping them.
        dtype: what networks compute in; weights are float32.
        seed: of the initial weights, the order of the data, crops, noise and flips.

    Raises:
        TrainingError: if a value is out of its range or a loss is unknown.
    """

    steps: int
    crops: tuple[Crops, ...] = (Crops(256, 16),)
    losses: Losses = PUBLISHED_LOSSES
    gradnorm: GradientNorms = "batch"
    train: Trained = "all"
    noise: float = 0.1
    p_horizontal: float = 0.5
    p_vertical: float = 0.5
    learning_rate: float = 2**-6
    conv_in_rate: float = 1e-4
    discriminator_rate: float = 1e-4
    warmup: int = 200
    weight_decay: float = 1e-3
    gan_start: int = 20
    ema: float = 0.999
    accumulate: int = 1
    remat: bool = False
    dtype: ComputeType = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        names = [name for name, _ in self.losses]
        for name in names:
            if name not in LOSSES:
                raise TrainingError(f"loss {name!r}: expected one of {', '.join(LOSSES)}")
        if not set(names) - {"z2"} or len(set(names)) < len(names):
            raise TrainingError(f"losses {names}: expected different ones, and one of images")
        if self.steps < 1 or self.accumulate < 1 or not self.crops:
            raise TrainingError(f"steps and accumulate must be 1 or more, with some crops: {self}")
        for name in ("p_horizontal", "p_vertical", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name}={getattr(self, name)}: expected 0 to 1")
        numbers = ("noise", "learning_rate", "conv_in_rate", "discriminator_rate")
        numbers += ("warmup", "weight_decay", "gan_start", "seed")
        for name, value in (*((n, getattr(self, n)) for n in numbers), *self.losses):
            if not 0 <= value < math.inf:  # so that NaN is caught too
                raise TrainingError(f"{name}={value}: expected 0 or more")
        for size, batch in self.crops:
            if batch % self.accumulate:
                raise TrainingError(f"a batch of {batch} does not split into {self.accumulate}")
            if "pooled_l1" in names and size < POOL:
                raise TrainingError(f"crops of {size}: pooled_l1 needs {POOL} pixels")

    def check(self, config: AuraConfig, devices: int) -> None:
        """Refuses crops that do not fit a model or split over devices.

        Raises:
            TrainingError: with the crop and what it must be a multiple of.
        """
        for size, batch in self.crops:
            if size % config.downsampling:
                raise TrainingError(f"crops of {size}: expected multiples of {config.downsampling}")
            if batch % (devices * self.accumulate):
                raise TrainingError(
                    f"a batch of {batch} does not split over {devices} devices"
                    + (f" in {self.accumulate} micro-batches" if self.accumulate > 1 else "")
                )

    @property
    def weights(self) -> dict[str, float]:
        """The losses by name."""
        return dict(self.losses)

    @property
    def warmup_steps(self) -> int:
        """Steps until the rates are at their peak."""
        return min(self.warmup, self.steps // 10)


def parse_loss(text: str) -> tuple[str, float]:
    """A name and its weight of a text such as l1=0.5; the weight is 1 if none is given.

    Raises:
        TrainingError: if the weight is no number.
    """
    name, _, weight = text.partition("=")
    try:
        return name, float(weight or 1)
    except ValueError:
        raise TrainingError(f"loss {text!r}: expected NAME=WEIGHT, such as l1=0.5") from None
