"""Executors that encode shards: in this process, or on a Ray cluster."""

import abc
import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
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


class Worker:
    """A process that encodes shards, and keeps its encoder from one to the next.

    Args:
        work: how to encode them. Its batch is rounded up to a multiple of the process's devices.
        encoder: makes the model.
        threads: the number of threads that read image files.
    """

    def __init__(self, work: Work, encoder: EncoderFactory, threads: int):
        devices = jax.local_device_count()
        batch = -(-work.batch // devices) * devices
        self._work, self._threads = dataclasses.replace(work, batch=batch), threads
        self._encode = encoder(work.spec, work.weights, batch)

    def encode(
        self,
        shard: ShardInput,
        skipped: Mapping[str, str],
        progress: Callable[[int], None] = lambda _: None,
    ) -> tuple[Shard, ...]:
        """Encode a shard as `encode_shard` does."""
        return encode_shard(
            shard,
            self._work,
            self._encode,
            threads=self._threads,
            skipped=skipped,
            progress=progress,
        )


class LocalExecutor(Executor):
    """An executor in this process, on all of its devices.

    Args:
        encoder: makes the model.
    """

    def __init__(self, encoder: EncoderFactory = Encoder) -> None:
        self._encoder = encoder
        self.platform = jax.default_backend()

    def run(self, shards: Sequence[ShardInput], work: Work, ledger: Ledger) -> None:
        """Encode one shard after another, each on all devices."""
        worker = Worker(work, self._encoder, os.cpu_count() or 1)
        for shard in shards:
            ledger.finished(worker.encode(shard, ledger.skipped, ledger.encoded))


class RayExecutor(Executor):
    """An executor on a Ray cluster, with an actor for each GPU, TPU host or other node.

    If any node has GPUs, only these are used; otherwise, if any has TPUs, only these. An actor on a
    TPU host takes all of its chips.

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
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self.platform, self._places = actor_places(nodes)
        cpus = int(sum(node.get("CPU", 0) for node in nodes))
        self._threads = max(1, cpus // len(self._places))
        self._encoder = encoder

    def run(self, shards: Sequence[ShardInput], work: Work, ledger: Ledger) -> None:
        """Give shards to actors; Ray restarts an actor that dies and gives it the same shard."""
        ray = self._ray
        actor = ray.remote(max_restarts=-1, max_task_retries=RETRIES)(Worker)
        workers = [
            actor.options(**place).remote(work, self._encoder, self._threads)
            for place in self._places[: len(shards)]
        ]

        def encode(worker: Any, shard: ShardInput) -> Any:  # once the worker is free
            return worker.encode.remote(shard, ledger.skipped)

        try:
            for done in self._pools.ActorPool(workers).map_unordered(encode, shards):
                ledger.encoded(sum(shard.count for shard in done))
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


def actor_places(nodes: Sequence[Mapping[str, float]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the platform of a Ray cluster, and the options of the actor for each place in it.

    Args:
        nodes: the resources of each node.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus:
        return "gpu", [{"num_gpus": 1}] * gpus
    hosts = [{"resources": {"TPU": node["TPU"]}} for node in nodes if node.get("TPU")]
    if hosts:
        return "tpu", hosts
    return "cpu", [{"scheduling_strategy": "SPREAD"}] * len(nodes)


EXECUTORS: dict[ExecutorName, Callable[[], Executor]] = {
    "local": LocalExecutor,
    "ray": RayExecutor,
}
