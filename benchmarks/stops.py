"""The command python -m benchmarks.stops: kill and interrupt commands, and count lost results.

Each trial starts a command in an empty folder, sends a signal to its process group at a random
moment, and runs the same command again. Its files must then be those of a command that nothing
stopped, byte for byte.
"""

import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.table import Table

from aura_jax import AuraConfig, AuraError, save
from aura_jax.cli.run import new_app, run
from aura_jax.cli.start import INTERRUPTED
from aura_jax.console import console, messages, say
from aura_jax.dtypes import FLOAT32
from aura_jax.signals import STOPS
from aura_jax.training import new_model

ROOT = Path(__file__).parent.parent
SMALL = AuraConfig(ch=64, ch_mult=(1,), num_res_blocks=1)
COMMAND = "from aura_jax.cli.start import main; main()"
SAVE = """
import aura_jax, sys
vae = aura_jax.load(sys.argv[1])
for _ in range(200):
    aura_jax.save(vae, "vae.safetensors")
"""

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.stops --kills 60 --signals 40")
def main(
    kills: Annotated[int, typer.Option(min=0, help="Number of trials with SIGKILL.")] = 60,
    signals: Annotated[int, typer.Option(min=0, help="Number of trials with other signals.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of signals and moments.")] = 0,
) -> None:
    """Kill and interrupt train, cache make, save and convert, and count lost results.

    Each command is run again after its signal. A result is lost if the files
    then differ from those of a command that nothing stopped, or if training did
    not save before it ended.
    """
    rng, lost = np.random.default_rng(seed), []
    counts = collections.Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        commands = _commands(place)
        whole = {name: _finish(words, place / name) for name, words in commands.items()}
        for trial in range(kills + signals):
            name = [*commands][trial % len(commands)]
            stop = signal.SIGKILL if trial < kills else signal.Signals(rng.choice(sorted(STOPS)))
            seconds, files = whole[name]
            moment = rng.uniform(0, seconds)
            saved = _stop(commands[name], place / str(trial), stop, moment)
            counts[name, stop.name] += 1
            if not saved or _finish(commands[name], place / str(trial))[1] != files:
                lost.append(f"{name}: {stop.name} after {moment:.2f} of {seconds:.2f} s")
            messages.print(f"{trial + 1} of {kills + signals} trials, {len(lost)} lost")
    table = Table("command", "signal", "trials")
    for (name, stopped), count in sorted(counts.items()):
        table.add_row(name, stopped, str(count))
    console.print(table)
    say(f"{kills + signals} trials, {len(lost)} lost")
    if lost:
        raise AuraError("\n".join(lost))


def _commands(place: Path) -> dict[str, list[str]]:
    """Make the inputs, and return the commands, which write into the folder where they run."""
    photos, config, weights = place / "photos", place / "config.json", place / "vae.safetensors"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(64):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(photos / f"{i:02}.png")
    config.write_text(SMALL.to_json())
    save(new_model(SMALL, FLOAT32, 0), weights)
    train = f"train --data {photos} --out out --config {config} --steps 20 --crops 8x8 --workers 1"
    train += " --save-every 4 --record-every 1 --plot-every 100"
    cache = f"cache make {photos} --out out --weights {weights} --per-shard 4"
    python = [sys.executable, "-c"]
    return {
        "train": [*python, COMMAND, *train.split()],
        "cache make": [*python, COMMAND, *cache.split()],
        "save": [*python, SAVE, str(weights)],
        "convert": [sys.executable, "-m", "convert", str(weights), "torch.st", "--layout", "torch"],
    }


def _start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    compiled = str(folder.parent / "compiled")
    environment = {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": compiled}
    return subprocess.Popen(
        words,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _stop(words: list[str], folder: Path, stop: signal.Signals, moment: float) -> bool:
    """Send a signal at a moment, and return whether the command kept all that it should.

    A run of training that has done a step saves first, unless it is killed.
    """
    with _start(words, folder) as process:
        time.sleep(moment)
        os.killpg(process.pid, stop)
        process.communicate()
    training = (folder / "out" / "metrics.jsonl").exists()
    return stop == signal.SIGKILL or not training or process.returncode in (0, INTERRUPTED)


def _finish(words: list[str], folder: Path) -> tuple[float, dict[str, bytes]]:
    """Run a command to its end, unless it has reached it, and return its seconds and files."""
    start = time.perf_counter()
    with _start(words, folder) as process:
        _, error = process.communicate()
    if process.returncode and b"exists already" not in error:
        raise AuraError(f"{' '.join(words)}: {error.decode()}")
    return time.perf_counter() - start, _files(folder)


def _files(folder: Path) -> dict[str, bytes]:
    """Read the files that may not differ: not locks, checkpoints, or the seconds of each step."""
    files = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.name[0] != "." and "checkpoints/" not in name:
            files[name] = path.read_bytes()
    for name in [name for name in files if name.endswith(".jsonl")]:
        lines = [json.loads(line) | {"seconds": 0} for line in files[name].splitlines()]
        files[name] = json.dumps(lines).encode()
    return files


if __name__ == "__main__":
    run(app)
