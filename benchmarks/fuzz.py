"""The command python -m benchmarks.fuzz: break checkpoints, and check what reads them."""

import resource
import signal
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Annotated, NoReturn

import jax.numpy as jnp
import numpy as np
import typer
from flax import nnx

import aura_jax
from aura_jax import AuraConfig, CheckpointError
from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.prefix import autoencoder_in
from aura_jax.checkpoint.shards import open_checkpoint
from aura_jax.checkpoint.validation import unwrapped
from aura_jax.cli.run import new_app, run
from aura_jax.console import say
from aura_jax.dtypes import FLOAT16, FLOAT32
from aura_jax.errors import AuraError
from aura_jax.model.parameters import blueprint, merge, shapes_of
from benchmarks.mutations import bombs, independently_read, mutate, random_mutation

CONFIG = AuraConfig(ch=64, ch_mult=(1,), num_res_blocks=1, z_channels=4)
PREFIXES = ("", "vae.", "module.vae.")
MEMORY = Path("/dev/shm")
PATIENCE, LONGEST_MESSAGE = 10, 30_000  # seconds, characters

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.fuzz --cases 10000 --seed 1")
def main(
    cases: Annotated[int, typer.Option(min=1, help="Number of broken files to read.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Random seed of the mutations.")] = 0,
) -> None:
    """Break valid checkpoints at random, and check that each is refused or read correctly.

    Names, shapes and values of the tensors are checked without building models.
    The command stops at the first file that is read wrongly, takes over ten
    seconds, or raises an error other than CheckpointError.
    """
    random, outcomes, slowest = Random(seed), Counter[str](), 0.0
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "file"
        files = _whole_files(path)
        headers, start = [*bombs(files[0][0]).values()], time.process_time()
        for case in range(cases):
            broken, prefix, kind = _broken(random, files, headers)
            path.write_bytes(broken)
            began = time.process_time()
            try:
                with _limited():
                    outcomes[f"{kind}, {'read' if read_right(path, prefix) else 'refused'}"] += 1
            except Exception as error:
                kept = Path(f"fuzz-{seed}-{case}.safetensors")
                kept.write_bytes(broken)
                raise AuraError(f"{kept}: {type(error).__name__}: {error}") from error
            slowest = max(slowest, time.process_time() - began)
    rate = cases / (time.process_time() - start) * 60
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    counts = "; ".join(f"{name}: {count:,}" for name, count in sorted(outcomes.items()))
    say(f"{cases:,} files at {rate:,.0f} a minute of processor time: {counts}")
    say(f"the slowest took {slowest:.2f} s; {memory:.2f} GiB of memory at most")


def read_right(path: Path, prefix: str = "") -> bool:
    """Return whether a file is accepted, after checking what was read or the message.

    Raises:
        AssertionError: if the tensors are not those in the file, or the message is long or has
            control characters.
    """
    try:
        stored = autoencoder_in(open_checkpoint(path))
        summary = summarize(stored)
        arrays = {name: tensor.read() for name, tensor in unwrapped(stored).items()}
    except CheckpointError as error:
        _check_message(str(error))
        return False
    expected = independently_read(path.read_bytes(), prefix)
    assert arrays.keys() == expected.keys(), "other names"
    assert summary.parameters == sum(array.size for array in expected.values()), "other counts"
    for name, array in arrays.items():
        assert array.tobytes() == expected[name].tobytes(), f"other values of {name}"
    return True


def _check_message(message: str) -> None:
    assert len(message) <= LONGEST_MESSAGE, f"a message of {len(message)} characters"
    assert all(line.isprintable() for line in message.split("\n")), "control characters"


def _whole_files(path: Path) -> list[tuple[bytes, str]]:
    """Return valid checkpoints in both layouts and with prefixes, and the latter."""
    model, rng = blueprint(CONFIG, FLOAT32, FLOAT16), np.random.default_rng(0)
    values = {n: rng.normal(size=shape).astype(FLOAT16) for n, shape in shapes_of(model).items()}
    vae = merge(nnx.graphdef(model), {name: jnp.asarray(array) for name, array in values.items()})
    files = []
    for layout in ("torch", "flax"):
        aura_jax.save(vae, path, layout=layout)
        data = path.read_bytes()
        for prefix in PREFIXES:
            (size,) = struct.unpack("<Q", data[:8])
            header = data[8 : 8 + size]
            for network in (b'"encoder.', b'"decoder.'):
                header = header.replace(network, b'"%s%s' % (prefix.encode(), network[1:]))
            content = struct.pack("<Q", len(header)) + header + data[8 + size :]
            files.append((content, prefix.removeprefix("module.")))
    return files


def _broken(
    random: Random, files: list[tuple[bytes, str]], headers: list[bytes]
) -> tuple[bytes, str, str]:
    """Return a broken file, the prefix of its names, and the kind of damage."""
    data, prefix = random.choice(files)
    kind = "changed"
    if random.random() < 0.05:
        data, prefix, kind = random.choice(headers), "", "bomb"
    if kind == "changed" or random.random() < 0.5:
        header = min(8 + struct.unpack("<Q", data[:8])[0], len(data))
        for _ in range(random.randint(1, 3)):
            data = mutate(data, header, random_mutation(random))
    return data, prefix, kind


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TimeoutError if the block takes too much processor time."""

    def stop(*_: object) -> NoReturn:
        raise TimeoutError(f"took over {PATIENCE} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


if __name__ == "__main__":
    run(app)
