"""Executors that encode shards: on this machine's devices, or on a Ray cluster."""

import abc
import importlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from typing import Any

import jax

from aura_jax.errors import CacheError
from aura_jax.extras import needs
from aura_jax.latents.choices import ExecutorName
from aura_jax.latents.encode_shard import Work, encode_shard
from aura_jax.latents.encoder import Encoder, EncoderFactory
from aura_jax.latents.examples import ShardInput
from aura_jax.latents.ledger import Ledger
from aura_jax.latents.manifest import Shard

RETRIES = 3  # of a shard by Ray, if its worker dies


class Executor(abc.ABC):
    """The interface of executors, which call `encode_shard` for many shards.

    Attributes:
        platform: the platform of its devices: "cpu", "gpu" or "tpu".
    """

    platform: str

    @abc.abstractmethod
    def run(self, shards: Sequence[ShardInput], work: Work, ledger: Ledger) -> None:
        """Encode shards, and record each finished one in the ledger.

        Raises:
            AuraError: if a shard fails; the first such error.
        """


class LocalExecutor(Executor):
    """An executor on all devices of this machine, with one thread for each.

    Args:
        encoder: makes the model for a device.
        devices: the devices to use; by default all local devices of JAX.
    """

    def __init__(
        self, encoder: EncoderFactory = Encoder, devices: Sequence[Any] | None = None
    ) -> None:
        self._encoder = encoder
        self._devices = jax.local_devices() if devices is None else devices
        self.platform = self._devices[0].platform

    def run(self, shards: Sequence[ShardInput], work: Work, ledger: Ledger) -> None:
        """Let each free device take the next shard; the first error stops all of them."""
        devices = self._devices[: len(shards)]
        threads = max(1, (os.cpu_count() or 1) // len(devices))
        run = _LocalRun(shards, work, ledger, self._encoder, threads)
        with ThreadPoolExecutor(len(devices)) as pool:
            try:
                running = [pool.submit(run.on, device) for device in devices]
                wait(running)
            finally:
                run.stop.set()
            for each in running:
                each.result()


class _StoppedError(Exception):
    """Another device had an error, or Ctrl-C was pressed."""


class _LocalRun:
    """The queue of shards, and the state that all devices share."""

    def __init__(
        self,
        shards: Sequence[ShardInput],
        work: Work,
        ledger: Ledger,
        encoder: EncoderFactory,
        threads: int,
    ):
        self._work, self._report, self._encoder, self._threads = work, ledger, encoder, threads
        self._waiting: SimpleQueue[ShardInput] = SimpleQueue()
        for shard in shards:
            self._waiting.put(shard)
        self.stop = threading.Event()

    def on(self, device: Any) -> None:
        """Encode on a device until the queue is empty or `stop` is set."""
        try:
            work = self._work
            encode = self._encoder(work.spec, work.weights, work.batch, device)
            while (shard := self._next()) is not None:
                done = encode_shard(
                    shard,
                    work,
                    encode,
                    threads=self._threads,
                    skipped=self._report.skipped,
                    progress=self._encoded,
                )
                self._report.finished(done)
        except _StoppedError:
            return
        except BaseException:
            self.stop.set()
            raise

    def _next(self) -> ShardInput | None:
        try:
            return None if self.stop.is_set() else self._waiting.get_nowait()
        except Empty:
            return None

    def _encoded(self, count: int) -> None:
        if self.stop.is_set():
            raise _StoppedError
        self._report.encoded(count)


class RayExecutor(Executor):
    """An executor on a Ray cluster: one actor for each GPU, or for each node without GPUs.

    It joins the cluster that Ray finds (RAY_ADDRESS, or one on this machine), or starts one here.
    All nodes must see the same paths. This process does not initialize JAX, which would allocate
    memory of a GPU that an actor needs.

    Args:
        encoder: makes the model in an actor.

    Raises:
        AuraError: if Ray is not installed.
    """

    def __init__(self, encoder: EncoderFactory = Encoder) -> None:
        with needs("ray"):
            # Ray's type annotations lack much of this.
            self._ray: Any = importlib.import_module("ray")
            self._pools: Any = importlib.import_module("ray.util")
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False)
        resources = self._ray.cluster_resources()
        self._cpus, self._gpus = (int(resources.get(name, 0)) for name in ("CPU", "GPU"))
        self._encoder = encoder
        self.platform = "gpu" if self._gpus else "cpu"

    def run(self, shards: Sequence[ShardInput], work: Work, ledger: Ledger) -> None:
        """Give shards to actors; Ray restarts an actor that dies and gives it the same shard."""
        ray = self._ray
        options = {"num_gpus": 1} if self._gpus else {"scheduling_strategy": "SPREAD"}
        actor = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **options)(RayWorker)
        places = self._gpus or len(ray.nodes())
        threads = max(1, self._cpus // places)
        workers = [
            actor.remote(work, self._encoder, threads) for _ in range(min(places, len(shards)))
        ]

        def encode(worker: Any, shard: ShardInput) -> Any:  # once the worker is free
            return worker.encode.remote(shard, ledger.skipped)

        try:
            for done in self._pools.ActorPool(workers).map_unordered(encode, shards):
                ledger.encoded(done.count)
                ledger.finished(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise CacheError(
                f"Ray gave up ({error}); run the same command again to resume"
            ) from None
        finally:
            for worker in workers:
                ray.kill(worker)


class RayWorker:
    """A Ray actor, which keeps its encoder from one shard to the next."""

    def __init__(self, work: Work, encoder: EncoderFactory, threads: int):
        self._work, self._threads = work, threads
        self._encode = encoder(work.spec, work.weights, work.batch, None)

    def encode(self, shard: ShardInput, skipped: Mapping[str, str]) -> Shard:
        """Encode a shard as `encode_shard` does."""
        return encode_shard(
            shard,
            self._work,
            self._encode,
            threads=self._threads,
            skipped=skipped,
            progress=lambda _: None,
        )


EXECUTORS: dict[ExecutorName, Callable[[], Executor]] = {
    "local": LocalExecutor,
    "ray": RayExecutor,
}
