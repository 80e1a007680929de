"""A Ray cluster: connected to for as long as a run takes, quietly, and the room that it has for workers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from urllib.parse import urlsplit

from lightretriever.errors import ClusterError, LightRetrieverError, MissingExtraError, ModelError, UsageError

LOCAL, AUTO, CLIENT = "local", "auto", "ray://"
_SECONDS = 5.0  # for a connection; Ray itself tries for two minutes, and then ends the process
_MOST_CPUS = 8  # of a worker: a tower runs no more batches side by side


def import_ray() -> ModuleType:
    """Raises MissingExtraError without the ``ray`` extra."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("encoding on a Ray cluster", "ray") from None
    return ray


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to a cluster; a process that is connected already stays so, to whichever it is.

    Args:
        address: "local" (one of this machine's processors and GPUs, made for the run and ended with it), "auto" (the
            one that this machine belongs to, or that RAY_ADDRESS names) or ``host:6379``. Not ``ray://host:10001``:
            Ray Data does not run in a Ray client, which has no part in the object store.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: no address, or that of a client.
        ClusterError: nothing answers there, or not as this Ray would.
    """
    ray = import_ray()
    if ray.is_initialized():
        with _quiet():
            yield
        return
    _check_answers(address)
    with _quiet(), _own_environment(), _own_sigterm():
        try:
            _connect(ray, address)
            yield
        finally:
            ray.shutdown()  # a cluster that was made here ends; another one only loses this run's actors


def _connect(ray: ModuleType, address: str) -> None:
    try:
        if address == LOCAL:
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, AssertionError, SystemExit, ray.exceptions.RayError) as error:
        # With SystemExit Ray gives up after some minutes where something answers that does not speak as it does.
        reason = "what answers is no such" if isinstance(error, SystemExit) else " ".join(str(error).split())[:200]
        raise ClusterError(
            f"no Ray cluster can be used at {address!r} ({reason}): see to its address, and that it runs this version "
            "of Ray and Python (RAY_AUTH_MODE=token where it wants a token); or take --ray local"
        ) from None


def _check_answers(address: str) -> None:
    """Try what Ray would try for long. Raises UsageError and ClusterError as `connected`."""
    named = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address
    if named in (LOCAL, AUTO):
        return
    if named.startswith(CLIENT):
        raise UsageError(
            f"Ray Data does not run in a Ray client ({named}): run this on a machine of the cluster with --ray auto, "
            "by ray job submit for instance"
        )
    try:
        place = urlsplit(f"//{named}")
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UsageError(f"{named!r} is no address of a Ray cluster: local, auto or host:6379")
    try:
        socket.create_connection((host, port), _SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {named} ({error}): start one (ray start --head), or take --ray local"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave Ray Data's remarks on its progress, and its tracebacks, to its files."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _own_environment() -> Iterator[None]:
    """Switch usage statistics off, which Ray asks the environment alone about; put back what it sets there itself."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("RAY_") and name not in before]:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Put back what the process does on SIGTERM, for which Ray has a way of its own."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers, and what of a machine each has to itself."""

    count: int
    cpus: int
    gpus: int


def nodes() -> list[Mapping[str, float]]:
    """The resources of each machine of the cluster."""
    return [node["Resources"] for node in import_ray().nodes() if node["Alive"]]


def plan_workers(
    machines: Sequence[Mapping[str, float]], device: str, count: int | None = None, cpus: int | None = None
) -> Workers:
    """What workers a cluster shall have.

    Args:
        machines: the resources of each, as ``CPU`` and ``GPU``.
        device: "auto", "cpu" or "cuda".
        count: of workers; None for all that there is room for. More may be said of a cluster that grows.
        cpus: of each. None: all of the smallest machine, but at most 8; 1 beside a GPU.

    Raises:
        ClusterError: there is room for none.
    """
    gpus = int(device == "cuda" or (device == "auto" and any(machine.get("GPU", 0) >= 1 for machine in machines)))
    sizes = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
    cpus = cpus or (1 if gpus else min([_MOST_CPUS, *sizes]) if sizes else 1)
    room = sum(_room(machine, cpus, gpus) for machine in machines)
    if count is None and not room:
        has = " and ".join(f"{sum(machine.get(kind, 0) for machine in machines):g} {kind}s" for kind in ("CPU", "GPU"))
        raise ClusterError(
            f"no machine of the cluster has room for a worker of {cpus} CPUs and {gpus} GPUs (all have {has}): "
            "give fewer --worker-cpus or another --device, or --workers N on a cluster that grows"
        )
    return Workers(count or room, cpus, gpus)


def _room(machine: Mapping[str, float], cpus: int, gpus: int) -> int:
    by_cpu = int(machine.get("CPU", 0)) // cpus
    return min(by_cpu, int(machine.get("GPU", 0)) // gpus) if gpus else by_cpu


def was_interrupted(error: BaseException | None) -> bool:
    """Whether an error came of an interruption: one that meets Ray at its locks is hidden by an error of theirs."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def our_error(error: BaseException) -> LightRetrieverError:
    """One of ours for what came out of Ray: what a worker raised, or that Ray gave up.

    Ray wraps the error of a worker several times, and makes what it wraps it in of the error's class too.
    """
    inner = error
    while (deeper := getattr(inner, "cause", None) or inner.__cause__) is not None:
        inner = deeper
    if isinstance(inner, ModelError | MissingExtraError):
        return ModelError(f"a worker of the cluster says: {inner}")
    if isinstance(inner, LightRetrieverError):
        return inner
    if "No module named 'lightretriever" in str(error):
        return ClusterError(
            "the cluster's machines lack this package: pip install 'lightretriever[models,ray]' on each, in one version"
        )
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    reason = f"{type(inner).__name__}: {lines[-1] if lines else ''}"[:300]
    return ClusterError(f"Ray gave up ({reason}): see to the cluster and run again, what is written is kept")
