"""The command aura-jax cache: a data set's latents, made once."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table
from typer.core import TyperGroup

from aura_jax.cli.options import DEFAULT_WEIGHTS, Json, Weights
from aura_jax.console import console, progress, say
from aura_jax.errors import CacheError
from aura_jax.extras import needs
from aura_jax.latents.manifest import Manifest
from aura_jax.latents.spec import ComputeType, EngineName, Format, NumberType

MAKE = "make"  # the subcommand that may be left out
SHARE = re.compile(r"(\d+)/(\d+)")

Folder = Annotated[Path, typer.Argument(metavar="CACHE", help="What `aura-jax cache` wrote.")]


class _MakeByDefault(TyperGroup):
    """Takes words that begin with no subcommand as those of `make`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [MAKE, *args]
        return super().parse_args(ctx, args)


cache = typer.Typer(
    cls=_MakeByDefault,
    no_args_is_help=True,
    help="Encode a data set once: aura-jax cache [OPTIONS] PICTURES... CACHE, whose options "
    "`aura-jax cache make --help` lists. Then check and measure it.",
)


@cache.command(MAKE)
def make(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURES... CACHE",
            help="Folders of pictures or WebDataset tars, or tars; last, the cache's folder.",
        ),
    ],
    size: Annotated[
        int | None,
        typer.Option(
            help="Cut pictures to centered squares, scaled to this many pixels. "
            "Default: as they are, if all are equal."
        ),
    ] = None,
    weights: Weights = DEFAULT_WEIGHTS,
    dtype: Annotated[
        NumberType, typer.Option(help="To store latents in: bf16, float32, int8 or float8_e4m3fn.")
    ] = "bf16",
    format: Annotated[  # noqa: A002  the option's name
        Format, typer.Option(help="Of the files: arrayrecord (Grain's), or webdataset (tars).")
    ] = "arrayrecord",
    compute: Annotated[
        ComputeType | None,
        typer.Option(help="To compute in: bf16 (default on GPU and TPU) or float32 (on a CPU)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures encoded at once.")] = 8,
    per_shard: Annotated[
        int, typer.Option(min=1, help="Files of a folder that make one shard; a tar is one.")
    ] = 4096,
    max_bad: Annotated[
        int, typer.Option(min=0, help="Pictures that may be left out as they cannot be read.")
    ] = 100,
    engine: Annotated[
        EngineName, typer.Option(help="local: all devices here; ray: a cluster.")
    ] = "local",
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Make every N-th shard from I on, I < N, as a job.")
    ] = "0/1",
) -> None:
    """Encode pictures to latents in shards; the same command goes on with what was interrupted."""
    share = _parse_share(shard)
    if len(paths) < 2:
        raise CacheError(f"{paths[0]}: give pictures and, last, the folder of the cache")
    with needs("cache"):
        from aura_jax.latents import build
        from aura_jax.latents.executors import ENGINES
    request = build.Request(
        sources=paths[:-1],
        out=paths[-1],
        weights=weights,
        size=size,
        dtype=dtype,
        format=format,
        compute=compute,
        batch=batch,
        per_shard=per_shard,
        max_bad=max_bad,
    )
    manifest = build.make(request, ENGINES[engine], share)
    if manifest is None:
        say(f"{paths[-1]}: share {shard} is done; the cache is once all {share[1]} are")
    else:
        say(f"{paths[-1]}: {_summary(manifest)}")


@cache.command()
def verify(
    folder: Folder,
    sample: Annotated[
        int, typer.Option(min=0, help="Pictures to encode anew; 0 needs neither them nor weights.")
    ] = 16,
    weights: Annotated[
        str | None, typer.Option(help="The weights, if they are not where they were.")
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(help="The pictures' folder or tar, if not where it was; may be repeated."),
    ] = None,
) -> None:
    """Check every file and record of a cache, and encode some pictures anew."""
    with needs("cache"):
        from aura_jax.latents.source import LatentSource
        from aura_jax.latents.verify import check_sample, check_shards
    source = LatentSource(folder)
    with progress() as bar:
        task = bar.add_task("verify", total=len(source))
        check_shards(source, lambda count: bar.advance(task, count))
    skipped = len(source.manifest.skipped)
    say(
        f"{folder}: {len(source)} latents in {len(source.manifest.shards)} shards are whole; "
        f"with {skipped} left out they are all {len(source) + skipped} pictures"
    )
    if sample:
        worst = check_sample(source, sample, weights, pictures)
        drawn = min(sample, len(source))
        say(f"{drawn} pictures encoded anew: within {worst:.2g} of what is stored (relative L2)")


@cache.command()
def stats(folder: Folder, as_json: Json = False) -> None:
    """Measure statistics of each channel that commute with the flips; kept in the manifest."""
    with needs("cache"):
        from aura_jax.latents.measure import measure
        from aura_jax.latents.source import LatentSource
    source = LatentSource(folder)
    with progress() as bar:
        task = bar.add_task("stats", total=len(source))
        found = measure(source, lambda count: bar.advance(task, count))
    if as_json:
        print(json.dumps(dataclasses.asdict(found), allow_nan=False))
        return
    table = Table("channel", "mean", "std", "1 %", "median", "99 %")
    shown = [found.mean, found.std, *(found.quantiles[level] for level in ("0.01", "0.5", "0.99"))]
    for i, numbers in enumerate(zip(*shown, strict=True)):
        table.add_row(str(i), *(f"{number:.4f}" for number in numbers))
    console.print(table)
    say(f"{found.count} latents; {found.clamped:.3%} of their numbers were clamped")


def _summary(manifest: Manifest) -> str:
    size = decimal(sum(shard.bytes for shard in manifest.shards))
    found = f"{len(manifest)} latents in {len(manifest.shards)} shards, {size}"
    skipped = len(manifest.skipped)
    return f"{found}; {skipped} pictures left out, see its manifest.json" if skipped else found


def _parse_share(text: str) -> tuple[int, int]:
    match = SHARE.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]):
        raise CacheError(f"--shard {text}: expected I/N with 0 <= I < N, such as 0/8")
    return int(match[1]), int(match[2])
