"""Describe a finished cache, in the messages of aura-jax cache."""

from typing import TYPE_CHECKING

from rich.filesize import decimal

from aura_jax.console import say
from aura_jax.errors import counted

if TYPE_CHECKING:
    from aura_jax.latents.manifest import Manifest


def summary(manifest: "Manifest") -> str:
    """Describe the size of a finished cache, and how many images were skipped."""
    found = f"{counts(manifest)}, {decimal(sum(shard.bytes for shard in manifest.shards))}"
    skipped = counted(len(manifest.skipped), "image")
    return f"{found}; {skipped} skipped, see its manifest.json" if manifest.skipped else found


def say_buckets(manifest: "Manifest") -> None:
    """Say how many latents each bucket has, from the tallest to the widest."""
    if manifest.spec.buckets:
        ordered = sorted(manifest.buckets.items(), key=lambda item: item[0].width / item[0].height)
        used = [f"{size} ({size.width / size.height:.2f}): {n:,}" for size, n in ordered if n]
        say(f"latents by width x height (ratio): {'; '.join(used)}")


def say_left_out(manifest: "Manifest") -> None:
    """Say which files were not taken as images, and what could not be read beside images."""
    from aura_jax.images import left_out  # late, since `--help` does not need Pillow

    if manifest.left_out:
        say(left_out.summary(manifest.left_out))
    if problems := manifest.problems:
        say(f"problems: {', '.join(f'{count:,} {kind}' for kind, count in problems.items())}")


def counts(manifest: "Manifest") -> str:
    """Format the numbers of latents and shards."""
    return f"{counted(len(manifest), 'latent')} in {counted(len(manifest.shards), 'shard')}"
