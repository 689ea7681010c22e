"""The command aura-jax cache: make, verify and measure a data set's cached latents."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from aura_jax.cli.cache_options import (
    Area,
    AspectRatios,
    Batch,
    BucketSizes,
    CacheComputeDtype,
    ExecutorChoice,
    Folder,
    FormatName,
    Job,
    MaxSkipped,
    Out,
    PerShard,
    PrefixKeys,
    Size,
    StorageDtype,
)
from aura_jax.cli.cache_progress import watched
from aura_jax.cli.cache_summary import counts, say_buckets, say_left_out, summary
from aura_jax.cli.options import (
    DEFAULT_WEIGHTS,
    Equivariant,
    Images,
    Json,
    MaxPixels,
    RawColors,
    Weights,
)
from aura_jax.cli.start import importing
from aura_jax.console import console, progress, say, warn
from aura_jax.errors import CacheError, counted
from aura_jax.extras import needs
from aura_jax.images.options import MAX_PIXELS, Decoding
from aura_jax.latents.buckets import Bucket, of_area

JOB = re.compile(r"(\d+)/(\d+)")

cache = typer.Typer(
    no_args_is_help=True,
    help="Make, verify and measure caches of latents, which encode a data set once for training.",
)


@cache.command(
    epilog="Example: aura-jax cache make photos/ --out latents/ --size 256 --storage-dtype int8"
)
def make(
    images: Images,
    out: Out,
    weights: Weights = DEFAULT_WEIGHTS,
    size: Size = None,
    aspect_ratios: AspectRatios = False,
    area: Area = None,
    bucket: BucketSizes = None,
    storage_dtype: StorageDtype = "bfloat16",
    compute_dtype: CacheComputeDtype = None,
    equivariant: Equivariant = False,
    format: FormatName = "arrayrecord",  # noqa: A002  the option's name
    batch: Batch = 8,
    per_shard: PerShard = 4096,
    max_skipped: MaxSkipped = 100,
    prefix_keys: PrefixKeys = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    raw_colors: RawColors = False,
    executor: ExecutorChoice = "local",
    job: Job = "0/1",
) -> None:
    """Encode a data set to shards of latents. To resume, run the same command again."""
    index, count = _parse_job(job)
    sizes = _buckets(area, bucket or [], aspect_ratios=aspect_ratios)
    with importing(), needs("cache"):
        from aura_jax.latents import build
        from aura_jax.latents.executors import EXECUTORS
    with watched() as listener:
        manifest = build.make(
            images,
            out,
            weights=weights,
            size=size,
            buckets=sizes,
            storage_dtype=storage_dtype,
            compute_dtype=compute_dtype,
            equivariant=equivariant,
            format=format,
            per_shard=per_shard,
            batch=batch,
            max_skipped=max_skipped,
            prefix_keys=prefix_keys,
            decoding=Decoding(max_pixels, raw_colors),
            job=(index, count),
            executor=EXECUTORS[executor],
            listener=listener,
        )
    if manifest is None:
        say(f"{out}: job {job} is done; the cache is complete when all {count} jobs are done")
    else:
        say(f"{out}: {summary(manifest)}")
        say_buckets(manifest)
        say_left_out(manifest)


@cache.command(epilog="Example: aura-jax cache verify latents/ --sample 64")
def verify(
    folder: Folder,
    sample: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of random images to encode again and compare; with 0, neither images nor "
            "weights are needed.",
        ),
    ] = 16,
    weights: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint that made the cache.", show_default="the recorded location"
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder, tar or image file that was cached; may be given several times.",
            show_default="the recorded locations",
        ),
    ] = None,
) -> None:
    """Check every file and record of a cache, and encode a sample of its images again."""
    with importing(), needs("cache"):
        from aura_jax.latents.source import LatentSource
        from aura_jax.latents.verify import check_sample, check_shards
    source = LatentSource(folder)
    with progress() as bar:
        task = bar.add_task("verify", total=len(source))
        check_shards(source, lambda count: bar.advance(task, count))
    skipped = len(source.manifest.skipped)
    say(
        f"{folder}: {counts(source.manifest)}, all whole; with "
        f"{counted(skipped, 'skipped image')} they account for all {len(source) + skipped}"
    )
    if sample:
        worst = check_sample(source, sample, weights, images)
        drawn = counted(min(sample, len(source)), "image")
        say(f"{drawn} encoded again: within {worst:.2g} of the stored latents (relative L2)")


@cache.command(epilog="Example: aura-jax cache stats latents/ --json")
def stats(folder: Folder, as_json: Json = False) -> None:
    """Measure each channel's mean and standard deviation, and store them in the cache.

    A cache that cannot be written, such as one on a read-only mount, is
    measured but not changed.
    """
    with importing(), needs("cache"):
        from aura_jax.latents.measure import measure, store
        from aura_jax.latents.source import LatentSource
    source = LatentSource(folder)
    with progress() as bar:
        task = bar.add_task("stats", total=len(source))
        found = measure(source, lambda count: bar.advance(task, count))
    try:
        store(source, found)
    except OSError as error:  # such as a read-only mount: the measured values are still shown
        warn(f"{folder}: the statistics are shown, but not stored ({error.strerror})")
    if as_json:
        left_out = {
            "skipped": len(source.manifest.skipped),
            "left_out": source.manifest.left_out,
            "problems": source.manifest.problems,
            "buckets": {str(size): n for size, n in source.manifest.buckets.items()},
        }
        print(json.dumps(dataclasses.asdict(found) | left_out, allow_nan=False))
        return
    table = Table("channel", "mean", "std", "1 %", "median", "99 %")
    shown = [found.mean, found.std, *(found.quantiles[level] for level in ("0.01", "0.5", "0.99"))]
    for i, numbers in enumerate(zip(*shown, strict=True)):
        table.add_row(str(i), *(f"{number:.4f}" for number in numbers))
    console.print(table)
    say(f"{counted(found.count, 'latent')}; {found.clamped:.3%} of their values were clamped")
    say_buckets(source.manifest)
    say_left_out(source.manifest)


def _buckets(area: int | None, given: Sequence[str], *, aspect_ratios: bool) -> Sequence[Bucket]:
    if given and (aspect_ratios or area is not None):
        raise CacheError("--bucket names sizes: it cannot be combined with --aspect-ratios, --area")
    if aspect_ratios != (area is not None):
        raise CacheError("--aspect-ratios and --area go together, as in --area 256 --aspect-ratios")
    return [Bucket.parse(text) for text in given] if area is None else of_area(area)


def _parse_job(text: str) -> tuple[int, int]:
    match = JOB.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]):
        raise CacheError(f"--job {text}: expected I/N with 0 <= I < N, such as 0/8")
    return int(match[1]), int(match[2])
