"""Measure the errors of the Flax model and its PyTorch twin, stage by stage, against float64."""

import copy
import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import torch

from aura_jax import AuraConfig, load
from aura_jax.arrays import relative_error
from aura_jax.checkpoint.names import layout_of, oihw, torch_name
from aura_jax.checkpoint.tensors import StoredCheckpoint
from aura_jax.checkpoint.validation import unwrapped
from convert.stages import Outputs, Part, flax_outputs
from convert.tolerances import BF16_AGAINST_TORCH, FP32_PARITY
from convert.torch_reference import TorchAuraEquiVAE, outputs_of

SEED = 0
BATCH, HEIGHT, WIDTH = 2, 6, 4  # in latent pixels; unequal, so that swapped axes are noticed


@dataclasses.dataclass(frozen=True)
class StageError:
    """Relative L2 errors of one stage's output, which include the errors of earlier stages."""

    stage: str
    fp32: float
    torch_fp32: float
    bf16: float
    torch_bf16: float

    @property
    def passes(self) -> bool:
        """Whether the errors of both dtypes are within the tolerances (NaN is not)."""
        bf16_limit = BF16_AGAINST_TORCH * self.torch_bf16
        return self.fp32 <= FP32_PARITY and self.bf16 <= bf16_limit


def verify(
    source: StoredCheckpoint, converted: Path, param_dtype: np.dtype | None = None
) -> list[StageError]:
    """Run a converted checkpoint and the twin of its source on the same seeded images.

    Args:
        source: the checkpoint before the conversion.
        converted: the file that the conversion wrote.
        param_dtype: the dtype that the conversion cast parameters to; None if it did not cast.

    Returns:
        The errors of every stage, in the order of execution.
    """
    fp32, bf16 = (load(converted, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    twin = torch_twin(source, fp32.config, param_dtype)
    rounded = copy.deepcopy(twin).bfloat16()
    images = seeded_images(fp32.config)
    with torch.inference_mode():
        latents = twin.double().encode(nchw(images).double())
    errors = []
    inputs: dict[Part, np.ndarray] = {"encoder": images, "decoder": nhwc(latents.float())}
    for part, x in inputs.items():
        exact = torch_outputs(twin.double(), part, x)
        runs = (
            flax_outputs(fp32, part, x),
            torch_outputs(twin.float(), part, x),
            flax_outputs(bf16, part, x),
            torch_outputs(rounded, part, x),
        )
        for stage, output in exact.items():
            measured = (relative_error(run[stage], output) for run in runs)
            errors.append(StageError(f"{part}.{stage}", *measured))
    return errors


def seeded_images(config: AuraConfig) -> np.ndarray:
    """Make images [B, H, W, C] in [-1, 1] of noisy color blocks, the same in every run."""
    rng = np.random.default_rng(SEED)
    blocks = rng.uniform(-0.8, 0.8, (BATCH, HEIGHT, WIDTH, config.in_channels))
    images = blocks.repeat(config.downsampling, axis=1).repeat(config.downsampling, axis=2)
    return (images + rng.uniform(-0.2, 0.2, images.shape)).astype(np.float32)


def torch_twin(
    source: StoredCheckpoint, config: AuraConfig, param_dtype: np.dtype | None = None
) -> TorchAuraEquiVAE:
    """Build the PyTorch model of a checkpoint in float32, with weights rounded to param_dtype."""
    tensors, state = unwrapped(source), {}
    flax = layout_of(tensors) == "flax"
    for name, tensor in tensors.items():
        array = oihw(tensor.read()) if flax else tensor.read()
        rounded = array if param_dtype is None else array.astype(param_dtype)
        state[torch_name(name)] = torch.from_numpy(rounded.astype(np.float32))
    with torch.device("meta"):
        twin = TorchAuraEquiVAE(config)
    twin.load_state_dict(state, assign=True)
    return twin.eval()


def torch_outputs(twin: TorchAuraEquiVAE, part: Part, x: np.ndarray) -> Outputs:
    """Compute the output of each stage of the twin for x [B, H, W, C], in the weights' dtype."""
    network = getattr(twin, part)
    dtype = network.conv_in.weight.dtype
    return {name: nhwc(y) for name, y in outputs_of(network, nchw(x).to(dtype)).items()}


def nchw(x: np.ndarray) -> torch.Tensor:
    """Convert an array [B, H, W, C] to a PyTorch tensor [B, C, H, W]."""
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def nhwc(x: torch.Tensor) -> np.ndarray:
    """Convert a PyTorch tensor [B, C, H, W] to an array [B, H, W, C]; bfloat16 becomes float32."""
    x = x.float() if x.dtype == torch.bfloat16 else x
    return x.permute(0, 2, 3, 1).numpy()
