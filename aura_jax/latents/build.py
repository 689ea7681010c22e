"""Making a cache: the plan from what a user asks for, and the work on what is not done yet."""

import dataclasses
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.hub import find_checkpoint, is_local
from aura_jax.checkpoint.tensors import open_safetensors
from aura_jax.config import LATENT_LIMIT, AuraConfig
from aura_jax.console import messages
from aura_jax.errors import CacheError, ImageError, first_of
from aura_jax.images.io import decode_8_bit
from aura_jax.latents.encode_shard import Plan
from aura_jax.latents.examples import Slice, find_slices, keys_sha256, sizes_sha256
from aura_jax.latents.executors import Engine
from aura_jax.latents.manifest import Manifest, Origin, Settings
from aura_jax.latents.progress import Report, progress_bar
from aura_jax.latents.shard_io import checksum
from aura_jax.latents.spec import ComputeType, Format, NumberType
from aura_jax.latents.workspace import BusyError, CacheFolder

COLOURS = "8-bit RGB, turned as EXIF says, transparency on white, color profiles ignored"


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks for; see the command's options."""

    sources: Sequence[Path]
    out: Path
    weights: str
    size: int | None
    dtype: NumberType
    format: Format
    compute: ComputeType | None
    batch: int
    per_shard: int
    max_bad: int


def make(request: Request, engine_type: type[Engine], share: tuple[int, int]) -> Manifest | None:
    """Encodes what is not done yet of a share of the slices, and finishes the cache if all is done.

    Args:
        request: what to cache, and how.
        engine_type: where to run; it starts once the request is found to be sound.
        share: (i, n): the slices whose index is i modulo n.

    Returns:
        The manifest of the finished cache; None if other shares are not done yet.

    Raises:
        AuraError: if something about the request, the pictures or the folder is wrong.
    """
    checkpoint = find_checkpoint(request.weights)
    config = summarize(open_safetensors(checkpoint)).config
    _check(request, config)
    slices = find_slices(request.sources, request.per_shard)
    size = _size(request, config, slices)
    engine = engine_type()
    plan = _plan(request, size, request.compute or engine.compute_type())
    draft = Manifest(
        settings=_settings(plan, config, checkpoint, slices),
        origin=_origin(request),
        classes=tuple(sorted({p.label for s in slices for p in s.pictures if p.label is not None})),
        shards=(),
    )
    folder, files = CacheFolder(request.out), [plan.file(part) for part in slices]
    index, count = share
    with folder.locked(None if count == 1 else f"{index}-{count}"):
        done, own = folder.begin(draft), slices[index::count]
        folder.sweep(plan.file(part) for part in own)
        todo = [part for part in own if plan.file(part) not in done]
        if todo:
            with progress_bar(sum(len(part.pictures) for part in todo)) as bar:
                _run(engine, todo, plan, Report(folder, done, plan.max_bad, bar))
        if count == 1:
            return folder.finish(draft, files)
    try:
        with folder.locked():  # the last of several shares to end is alone
            return folder.finish(draft, files)
    except BusyError:
        return None


def _run(engine: Engine, todo: Sequence[Slice], plan: Plan, report: Report) -> None:
    try:
        engine.run(todo, plan, report)
    except KeyboardInterrupt:
        messages.print("stopped; the same command goes on after the last whole shard")
        raise


def _check(request: Request, config: AuraConfig) -> None:
    if (config.in_channels, config.out_channels) != (3, 3):
        raise CacheError(f"{request.weights}: not a model of RGB pictures: {config}")
    out = request.out.resolve()
    for source in request.sources:
        if source.is_dir() and out.is_relative_to(source.resolve()):
            raise CacheError(f"{request.out}: lies within {source}, whose pictures it would join")


def _size(request: Request, config: AuraConfig, slices: Sequence[Slice]) -> tuple[int, int]:
    """Height and width of all pictures as the model sees them."""
    height, width = (request.size,) * 2 if request.size is not None else _first_size(slices)
    multiple = config.downsampling
    if min(height, width) < 1 or height % multiple or width % multiple:
        raise CacheError(
            f"pictures of {width} x {height}: expected multiples of {multiple}; give --size"
        )
    return height, width


def _plan(request: Request, size: tuple[int, int], compute: ComputeType) -> Plan:
    """With all paths absolute, since work may run elsewhere."""
    local = is_local(request.weights)
    return Plan(
        out=request.out.absolute(),
        weights=str(Path(request.weights).absolute()) if local else request.weights,
        compute=compute,
        size=size,
        resize=request.size is not None,
        dtype=request.dtype,
        format=request.format,
        batch=request.batch,
        max_bad=request.max_bad,
    )


def _first_size(slices: Sequence[Slice]) -> tuple[int, int]:
    """Height and width of the first picture that can be read."""
    reasons = []
    for picture in (picture for part in slices for picture in part.pictures):
        try:
            width, height = decode_8_bit(picture.photo.read(), picture.key).size
        except ImageError as error:
            reasons.append(str(error))
        else:
            return height, width
    raise CacheError(f"none of the {len(reasons)} pictures can be read; {first_of(reasons)}")


def _settings(
    plan: Plan, config: AuraConfig, checkpoint: Path, slices: Sequence[Slice]
) -> Settings:
    """All that decides what the latents are."""
    return {
        "weights": checksum(checkpoint),
        "config": {**dataclasses.asdict(config), "ch_mult": [*config.ch_mult]},
        "height": plan.size[0],
        "width": plan.size[1],
        "crop": "the largest centered square" if plan.resize else None,
        "filter": "Lanczos" if plan.resize else None,
        "colors": COLOURS,
        "clamp": LATENT_LIMIT,
        "dtype": plan.dtype,
        "format": plan.format,
        "compute": plan.compute,
        "precision": plan.precision,
        "batch": plan.batch,
        "aura_jax": version("aura-jax"),
        "pictures": sum(len(part.pictures) for part in slices),
        "keys": keys_sha256([picture.key for picture in part.pictures] for part in slices),
        "sizes": sizes_sha256(slices),
    }


def _origin(request: Request) -> Origin:
    """Paths from the cache's folder, so that it can be moved together with its pictures."""
    local = is_local(request.weights)
    return Origin(
        weights=_relative(Path(request.weights), request.out) if local else request.weights,
        sources=tuple(_relative(source, request.out) for source in request.sources),
        per_shard=request.per_shard,
    )


def _relative(path: Path, folder: Path) -> str:
    place = Path(os.path.normpath(path.absolute()))  # a link stays one: its name tells what it is
    return os.path.relpath(place.parent.resolve() / place.name, folder.resolve())
