"""The settings of a training run: frozen values that check themselves, without importing JAX."""

import dataclasses
import math
import re
from typing import Literal, NamedTuple

from aura_jax.config import AuraConfig
from aura_jax.errors import TrainingError
from aura_jax.images.options import Decoding

type GradientNorms = Literal["batch", "tensor", "none"]
type Trained = Literal["all", "encoder", "decoder"]
type Losses = tuple[tuple[str, float], ...]

LOSSES = ("l1", "l2", "pooled_l1", "blurry_l1", "z2", "lpips", "gan", "encoder")
PERCEPTUAL_LOSSES = ("lpips", "gan")
PUBLISHED_LOSSES: Losses = (("lpips", 1.0), ("pooled_l1", 0.2), ("z2", 1.0), ("gan", 1.0))
PLAIN_LOSSES: Losses = (("l1", 0.2), ("l2", 1.0), ("z2", 1e-4))
POOL = 16  # side in pixels of the squares whose mean colors `pooled_l1` compares


class Crops(NamedTuple):
    """The size of square crops in pixels, and the number of crops in a step."""

    size: int
    batch: int

    @classmethod
    def parse(cls, text: str) -> "Crops":
        """Parse a text such as 256x16.

        Raises:
            TrainingError: if the text is not SIZExBATCH with numbers of 1 or more.
        """
        match = re.fullmatch(r"(\d+)x(\d+)", text)
        if match is None or 0 in (int(match[1]), int(match[2])):
            raise TrainingError(f"crops {text!r}: expected SIZExBATCH, such as 256x16")
        return cls(int(match[1]), int(match[2]))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The hyperparameters of training; the defaults are the published recipe.

    Attributes:
        steps: optimizer steps of the whole run; the cosine schedule ends with them.
        crops: sizes and batches, used in turn, one per step.
        losses: the name and weight of each term; LOSSES lists the names.
        gradnorm: how `losses.gradnorm` normalizes the gradient of each image loss to the loss's
            weight; with "none", weights multiply the losses instead.
        train: the networks to train; a network that is not trained keeps its parameters.
        equivariant: whether to keep the decoder symmetric, so that it commutes with flips exactly.
        noise: σ of the multiplicative noise on the latent.
        p_horizontal: probability of a horizontal flip of latent and target, per sample.
        p_vertical: probability of a vertical flip of latent and target, per sample.
        learning_rate: divided by the config's `ch` to give the rate of most parameters.
        conv_in_rate: the rate of parameters with conv_in in their name.
        discriminator_rate: the rate of the discriminator.
        warmup: steps of linear warm-up, capped at a tenth of all steps.
        weight_decay: the weight decay of AdamW, whose betas are (0.9, 0.95).
        gan_start: step from which on the "gan" loss is added.
        ema: decay of the averaged parameters, which a run saves.
        accumulate: micro-batches per step, for a batch that does not fit; gradients are averaged.
            With `gradnorm` this differs from one large batch, since each micro-batch is normalized
            separately.
        remat: whether to recompute activations inside ResnetBlocks in the backward pass.
        dtype: the dtype to compute in, "bfloat16" or "float32" (also "bf16", "f32"); None
            chooses the default of the device. Parameters are float32.
        seed: the seed of initial parameters, data order, crops, noise and flips.

    Raises:
        TrainingError: if a value is out of its range or a loss is unknown.
        AuraError: if `dtype` is not supported.
    """

    steps: int
    crops: tuple[Crops, ...] = (Crops(256, 16),)
    losses: Losses = PUBLISHED_LOSSES
    gradnorm: GradientNorms = "batch"
    train: Trained = "all"
    equivariant: bool = False
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
    dtype: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_losses()
        self._check_trained()
        self._check_ranges()
        self._check_crops()
        if self.dtype is not None:
            # Late, since `--help` does not need numpy.
            from aura_jax.dtypes import BFLOAT16, FLOAT32, as_dtype

            object.__setattr__(self, "dtype", str(as_dtype(self.dtype, (BFLOAT16, FLOAT32))))

    def _check_losses(self) -> None:
        names = [name for name, _ in self.losses]
        for name in names:
            if name not in LOSSES:
                raise TrainingError(f"loss {name!r}: expected one of {', '.join(LOSSES)}")
        if len(set(names)) < len(names):
            raise TrainingError(f"losses {', '.join(names)}: a loss is given twice")
        if not set(names) - {"z2"}:
            raise TrainingError(f"losses {names}: expected at least one loss of images")

    def _check_trained(self) -> None:
        if self.equivariant and self.train == "encoder":
            raise TrainingError(
                "equivariant keeps the decoder symmetric, but only the encoder is trained"
            )

    def _check_ranges(self) -> None:
        if self.steps < 1 or self.accumulate < 1:
            raise TrainingError(
                f"steps={self.steps}, accumulate={self.accumulate}: expected 1 or more"
            )
        for name in ("p_horizontal", "p_vertical", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name}={getattr(self, name)}: expected 0 to 1")
        names = ("noise", "learning_rate", "conv_in_rate", "discriminator_rate")
        names += ("warmup", "weight_decay", "gan_start", "seed")
        for name, value in (*((n, getattr(self, n)) for n in names), *self.losses):
            if not 0 <= value < math.inf:  # false for NaN too
                raise TrainingError(f"{name}={value}: expected a finite number, 0 or more")

    def _check_crops(self) -> None:
        if not self.crops:
            raise TrainingError("crops: expected at least one size and batch")
        for size, batch in self.crops:
            if batch % self.accumulate:
                raise TrainingError(
                    f"a batch of {batch} does not split into {self.accumulate} micro-batches"
                )
            if "pooled_l1" in self.weights and size < POOL:
                raise TrainingError(f"crops of {size}: the loss pooled_l1 needs {POOL} pixels")

    def check(self, config: AuraConfig, devices: int) -> None:
        """Check that crops fit a model and batches split over devices.

        Raises:
            TrainingError: if a crop or a batch is not such a multiple.
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
        """The weights of the losses by name."""
        return dict(self.losses)

    @property
    def warmup_steps(self) -> int:
        """The number of steps until the learning rates reach their peak."""
        return min(self.warmup, self.steps // 10)


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """The settings of a run, which must be the same when it is resumed.

    Attributes:
        data: an image file, a folder of images and tars, or a tar.
        recipe: how to train.
        config: the sizes of a new model; None to fine-tune.
        init: a checkpoint to fine-tune, as `aura_jax.load` takes it; None for a new model.
        perceptual: the file of VGG16 and LPIPS weights, if any.
        workers: processes that decode images; 0 decodes in threads.
        decoding: how image files are decoded.
        images: the number of images. `open_run` sets this and the following fields.
        images_sha256: the hash of their names.
        processes: the number of processes that train together.

    Raises:
        TrainingError: if neither or both of `config` and `init` are given.
    """

    data: str
    recipe: Recipe
    config: AuraConfig | None = None
    init: str | None = None
    perceptual: str | None = None
    workers: int = 0
    decoding: Decoding = dataclasses.field(default_factory=Decoding)
    images: int = 0
    images_sha256: str = ""
    processes: int = 1

    def __post_init__(self) -> None:
        if (self.config is None) == (self.init is None):
            raise TrainingError(
                "give either config, for a new model, or init, a checkpoint to fine-tune"
            )


def parse_loss(text: str) -> tuple[str, float]:
    """Parse a loss and its weight, such as l1=0.5; the weight is 1 if none is given.

    Raises:
        TrainingError: if the weight is not a number.
    """
    name, _, weight = text.partition("=")
    try:
        return name, float(weight or 1)
    except ValueError:
        raise TrainingError(f"loss {text!r}: expected NAME=WEIGHT, such as l1=0.5") from None
