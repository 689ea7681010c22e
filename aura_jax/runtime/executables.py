"""Keep executables in a folder, so that another process need not compile them."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jaxlib.version
from jax.experimental.serialize_executable import deserialize_and_load, serialize
from jax.stages import Compiled

import aura_jax
from aura_jax.arrays import Shape
from aura_jax.errors import AuraError
from aura_jax.files import check_folder, replacing

type Identity = Mapping[str, Any]  # everything that an executable depends on, as JSON values


class ExecutableFolder:
    """A folder of executables, each in a file that is named after everything it depends on.

    An executable of another version, device or setting is therefore not found, and is compiled.
    Loading one runs code from the file, so the folder must belong to this user alone.

    Args:
        path: the folder; `save` makes it.

    Raises:
        AuraError: if it is a file, belongs to another user, or others may write to it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        check_folder(self.path)
        if self.path.exists() and os.name == "posix":
            about = self.path.stat()
            if about.st_uid != os.getuid() or about.st_mode & 0o077:
                raise AuraError(
                    f"{path}: holds code that would be run, and other users have access to it; "
                    f"use a folder of your own, with chmod 700"
                )

    def loader(
        self, name: str, identity: Identity, devices: Sequence[Any]
    ) -> Callable[[Shape], Compiled | None]:
        """Return a function that loads the executable of a program for a shape."""
        return lambda shape: self._load(name, shape, identity, devices)

    def _load(
        self, name: str, shape: Shape, identity: Identity, devices: Sequence[Any]
    ) -> Compiled | None:
        """Return an executable, or None if there is none or its file is damaged."""
        try:
            digest, _, content = self._file(name, shape, identity).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if digest != _digest(content):
            return None
        return _loaded(content, devices)

    def save(
        self,
        name: str,
        shape: Shape,
        identity: Identity,
        compiled: Compiled,
        devices: Sequence[Any],
        try_out: Callable[[Compiled], None],
    ) -> None:
        """Write an executable, and run it as another process will.

        On a CPU, JAX (0.12) stores only half of an executable that was itself loaded, from a folder
        or from the compilation cache.

        Raises:
            AuraError: if it cannot be written, or JAX cannot store it.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            content = pickle.dumps(serialize(compiled))
            try_out(_loaded(content, devices))
        except (ValueError, NotImplementedError, MemoryError, jax.errors.JaxRuntimeError) as error:
            raise AuraError(
                f"{name} of shape {shape}: JAX cannot store this executable ({error}); on a CPU, "
                "save it where it was compiled, in a process without JAX's compilation cache"
            ) from None
        with replacing(self._file(name, shape, identity)) as temporary:
            temporary.write_bytes(_digest(content) + b"\n" + content)

    def _file(self, name: str, shape: Shape, identity: Identity) -> Path:
        text = json.dumps([name, shape, identity], sort_keys=True)
        sides = "x".join(map(str, shape))
        return self.path / f"{name}-{sides}-{_digest(text.encode()).decode()[:16]}.xla"


def environment(devices: Sequence[Any]) -> Identity:
    """Describe the versions, the devices and the processor that executables depend on."""
    client = devices[0].client
    return {
        "aura_jax": [aura_jax.__version__, _source()],
        "jax": [jax.__version__, jaxlib.version.__version__, client.platform_version],
        "devices": [[device.id, device.device_kind] for device in devices],
        "flags": [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
        "processor": _processor() if client.platform == "cpu" else None,
    }


def _loaded(content: bytes, devices: Sequence[Any]) -> Compiled:
    return deserialize_and_load(
        *pickle.loads(content), backend=devices[0].client, execution_devices=devices
    )


@cache
def _source() -> str:
    """Return the digest of the code that makes programs, which a version may not tell apart."""
    package = Path(aura_jax.__file__).parent
    files = sorted([*package.glob("model/*.py"), *package.glob("runtime/**/*.py")])
    return _digest(b"".join(file.read_bytes() for file in files)).decode()


@cache
def _processor() -> str:
    """Return the instruction sets of the processor; code for more of them would crash here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
