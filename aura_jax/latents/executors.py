"""Where the work on shards runs: on this machine's devices, or on a Ray cluster."""

import abc
import importlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from typing import Any

import jax

from aura_jax.errors import CacheError
from aura_jax.extras import needs
from aura_jax.latents.encode_shard import Encoder, Plan, encode_slice
from aura_jax.latents.examples import Slice
from aura_jax.latents.manifest import Shard
from aura_jax.latents.progress import Report
from aura_jax.latents.spec import ComputeType, EngineName

RETRIES = 3  # of a shard, by Ray, if the worker dies


class Engine(abc.ABC):
    """Runs `encode_slice` on many slices."""

    @abc.abstractmethod
    def compute_type(self) -> ComputeType:
        """The type to compute in, unless a user says otherwise: as `aura_jax.load` chooses."""

    @abc.abstractmethod
    def run(self, slices: Sequence[Slice], plan: Plan, report: Report) -> None:
        """Encodes slices, and reports each shard that is whole."""


class LocalEngine(Engine):
    """Every device of this machine, with one thread for each."""

    def compute_type(self) -> ComputeType:
        """bfloat16 but on CPUs."""
        return "float32" if jax.default_backend() == "cpu" else "bf16"

    def run(self, slices: Sequence[Slice], plan: Plan, report: Report) -> None:
        """Devices take slices in turns; the first error stops all of them."""
        waiting: SimpleQueue[Slice] = SimpleQueue()
        for part in slices:
            waiting.put(part)
        stop = threading.Event()
        devices = jax.local_devices()[: len(slices)]
        with ThreadPoolExecutor(len(devices)) as pool:
            try:
                work = [pool.submit(_work, waiting, plan, report, each, stop) for each in devices]
                wait(work)
            finally:
                stop.set()
            for each in work:
                each.result()


class _StoppedError(Exception):
    """Another thread has met an error, or Ctrl-C came."""


def _work(
    waiting: SimpleQueue[Slice],
    plan: Plan,
    report: Report,
    device: Any,
    stop: threading.Event,
) -> None:
    def progress(count: int) -> None:
        if stop.is_set():
            raise _StoppedError
        report.encoded(count)

    try:
        encoder = Encoder(plan, device)
        while not stop.is_set():
            part = waiting.get_nowait()
            left_out = report.left_out
            report.done(encode_slice(part, plan, encoder, left_out=left_out, progress=progress))
    except (Empty, _StoppedError):
        return
    except BaseException:
        stop.set()
        raise


class RayEngine(Engine):
    """A Ray cluster: an actor for each GPU, or for each node if there are no GPUs.

    It joins the cluster that Ray finds (RAY_ADDRESS, or one on this machine), or starts one here.
    All nodes see the same paths. JAX is left alone in this process, since it would take the memory
    of a GPU that an actor needs.
    """

    def __init__(self) -> None:
        """Connects.

        Raises:
            AuraError: if Ray is not installed.
        """
        with needs("ray"):
            self._ray: Any = importlib.import_module("ray")  # its own types leave out much of this
            self._pools: Any = importlib.import_module("ray.util")
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False)
        self._gpus = int(self._ray.cluster_resources().get("GPU", 0))

    def compute_type(self) -> ComputeType:
        """bfloat16 if the cluster has GPUs."""
        return "bf16" if self._gpus else "float32"

    def run(self, slices: Sequence[Slice], plan: Plan, report: Report) -> None:
        """Ray starts an actor that dies anew, and gives it the same slice again."""
        ray = self._ray
        options = {"num_gpus": 1} if self._gpus else {"scheduling_strategy": "SPREAD"}
        actor = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **options)(Worker)
        count = min(self._gpus or len(ray.nodes()), len(slices))
        workers = [actor.remote(plan) for _ in range(count)]
        # One dict, which is sent with a slice as it is when a worker is free.
        jobs = [(part, report.left_out) for part in slices]
        try:
            pool = self._pools.ActorPool(workers)
            for shard in pool.map_unordered(lambda worker, job: worker.encode.remote(*job), jobs):
                report.encoded(shard.count)
                report.done(shard)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise CacheError(f"Ray gave up: {error}; the same command goes on") from None
        finally:
            for worker in workers:
                ray.kill(worker)


class Worker:
    """What Ray runs: an encoder, which is kept from one shard to the next."""

    def __init__(self, plan: Plan):
        self._plan, self._encoder = plan, Encoder(plan)

    def encode(self, part: Slice, left_out: Mapping[str, str]) -> Shard:
        """As `encode_slice`."""
        return encode_slice(
            part, self._plan, self._encoder, left_out=left_out, progress=lambda _: None
        )


ENGINES: dict[EngineName, type[Engine]] = {"local": LocalEngine, "ray": RayEngine}
