"""Assemble a run from its spec: images, networks, trainer and folder."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from aura_jax.checkpoint.loading import load
from aura_jax.dtypes import default_compute_dtype
from aura_jax.errors import TrainingError, counted
from aura_jax.files import check_outside
from aura_jax.images.left_out import summary
from aura_jax.images.readers import ImageFile, list_images
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.training.checkpointing import Say
from aura_jax.training.config import PUBLISHED_LOSSES, RunSpec
from aura_jax.training.data import batches
from aura_jax.training.init import new_model
from aura_jax.training.loop import Every, Run
from aura_jax.training.networks.lpips import Perceptual, load_perceptual
from aura_jax.training.skipped import Skipped
from aura_jax.training.step import Trainer
from aura_jax.training.workdir import Workdir


def open_run(
    spec: RunSpec, out: str | Path, *, every: Every = Every(), say: Say = lambda line: None
) -> Run:
    """Start a run, or reopen one that was interrupted: `run.train(run.resume())` trains it.

    Args:
        spec: the settings; this function sets the fields that depend on data and processes.
        out: the run's folder, which is made if it is missing; a run in it must have the same spec.
        every: the intervals at which to write.
        say: called with lines of information for the user.

    Raises:
        AuraError: if the spec does not fit the data, the weights, the devices or the folder.
    """
    workdir, images = Workdir(Path(out)), _find(spec, Path(out), say)
    spec, perceptual = _with_perceptual(_resolved(spec, images), say)
    recipe, vae = spec.recipe, _model(spec)
    recipe.check(vae.config, jax.device_count())
    skipped = Skipped(workdir.skipped, len(images))
    data = batches(
        images,
        recipe.crops,
        seed=recipe.seed,
        skipped=skipped,
        workers=spec.workers,
        decoding=spec.decoding,
        process=jax.process_index(),
        processes=spec.processes,
    )
    trainer = Trainer(recipe, vae, perceptual)
    # Last, so that a refused run leaves no folder behind.
    workdir.open(spec, process=jax.process_index())
    return Run(trainer, data, skipped, workdir, every=every, say=say)


def _find(spec: RunSpec, out: Path, say: Say) -> Sequence[ImageFile]:
    data, left_out = [Path(spec.data)], Counter()
    check_outside(out, data)
    images = list_images(data, left_out)
    others = f"; {summary(left_out)}" if left_out else ""
    say(f"{spec.data}: {counted(len(images), 'image')}{others}")
    return images


def _resolved(spec: RunSpec, images: Sequence[ImageFile]) -> RunSpec:
    """Set the fields that depend on the data, the device and the processes."""
    names = "\n".join(map(str, images)).encode(errors="surrogateescape")
    dtype = spec.recipe.dtype or str(default_compute_dtype())
    return dataclasses.replace(
        spec,
        recipe=dataclasses.replace(spec.recipe, dtype=dtype),
        images=len(images),
        images_sha256=hashlib.sha256(names).hexdigest(),
        processes=jax.process_count(),
    )


def _with_perceptual(spec: RunSpec, say: Say) -> tuple[RunSpec, Perceptual | None]:
    """Load the perceptual networks; without LPIPS heads, drop lpips from the published losses."""
    recipe, path = spec.recipe, spec.perceptual
    if path is None:
        return spec, None
    perceptual = load_perceptual(path)
    if perceptual.lpips is None and "lpips" in recipe.weights:
        if recipe.losses != PUBLISHED_LOSSES:
            raise TrainingError(f"{path}: has no LPIPS heads, which the loss lpips needs")
        say(f"{path}: no LPIPS heads, so the loss lpips is off")
        kept = tuple(loss for loss in recipe.losses if loss[0] != "lpips")
        spec = dataclasses.replace(spec, recipe=dataclasses.replace(recipe, losses=kept))
    return spec, perceptual


def _model(spec: RunSpec) -> AuraEquiVAE:
    """Make a new model, or load the one to fine-tune."""
    dtype = jnp.dtype(spec.recipe.dtype)
    if spec.config is not None:
        vae = new_model(spec.config, dtype, spec.recipe.seed)
    else:
        vae = load(str(spec.init), dtype=dtype, param_dtype=jnp.float32)
    vae.latent_stats = None  # those of the checkpoint do not hold for what it will become
    vae.config.check_rgb(spec.init or "config")
    return vae
