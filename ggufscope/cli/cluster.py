"""The door to a Dask cluster: an executor for jobs, and its failures in our words."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ggufscope.errors import BadUsage, ClusterError, GGUFScopeError, WorkersLost

TRIES: Final = 2
"""How often a job that failed is tried again: the disk of one machine may have been away."""
AT_ONCE: Final = 256
"""Threads that a cluster is taken to have at the least: more machines may join while it works."""
_PATIENCE: Final = 10
"""Seconds for a scheduler to answer."""


@contextmanager
def cluster(address: str, warn: Callable[[str], object]) -> Iterator[tuple[Executor, int]]:
    """Reach a scheduler; yield an executor, and how many threads work for it.

    Raises ``ClusterError`` where it cannot be reached, or is lost inside.
    """
    try:
        import distributed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise ClusterError(
            "--scheduler needs Dask, which is not installed here",
            hint="pip install 'ggufscope[cluster]'",
        ) from None
    for name in [*logging.root.manager.loggerDict]:
        # What they have to say in passing follows from what is raised, and is said in one line.
        if name.partition(".")[0] in {"distributed", "tornado", "asyncio"}:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    client = _connected(distributed, address)
    try:
        threads = sum(client.nthreads().values())
        if not threads:
            warn(f"{address} has no worker yet: the first one is waited for")
        yield client.get_executor(pure=False, retries=TRIES), max(threads, AT_ONCE)
    except KilledWorker as error:
        raise ClusterError(
            f"{error.allowed_failures + 1} workers ended while they did one job, the last "
            f"{error.last_worker.address}",
            hint="their logs say why: most of the time memory was short",
        ) from None
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("ggufscope"):
            raise
        raise ClusterError(
            f"a worker has no ggufscope, or another version of it: {error}",
            hint="install one version everywhere: all machines of a cluster need it",
        ) from None
    except Exception as error:
        if not isinstance(error, WorkersLost) and (
            isinstance(error, GGUFScopeError) or client.status == "running"
        ):
            raise
        raise ClusterError(
            f"the connection to the scheduler at {address} was lost",
            hint="see whether it is still there; --resume keeps what is done",
        ) from None
    finally:
        with suppress(TimeoutError):
            client.close(timeout=_PATIENCE)


def _connected(distributed: Any, address: str) -> Any:
    """Return a client; ``address`` may be the file that a scheduler wrote, too.

    Who is there is asked first: a client that finds no scheduler is left half made, and waits.
    """
    try:
        where = _written_in(Path(address)) if address.endswith(".json") else address
        distributed.comm.get_address_host_port(where)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions of packages that are not ours
            asyncio.run(asyncio.wait_for(_ask(distributed, where), _PATIENCE + 1))
            return distributed.Client(where, timeout=_PATIENCE, set_as_default=False)
    except Exception as error:
        words = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        if isinstance(error, MemoryError | TimeoutError) or not words:
            words = f"what answers there, if anything does, is none ({type(error).__name__})"
        raise ClusterError(
            f"no scheduler at {address!r}: {words}",
            hint="start one with `dask scheduler`, and name the address that it prints",
        ) from None


def _written_in(path: Path) -> str:
    """Return the address in the file that a scheduler wrote."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["address"])
    except (LookupError, TypeError, ValueError):
        raise BadUsage(
            "it is no file that a scheduler wrote", hint="dask scheduler --scheduler-file FILE"
        ) from None


async def _ask(distributed: Any, address: str) -> None:
    """Ask a scheduler what it is; raises what the connection raises."""
    security = distributed.Security().get_connection_args("client")
    comm = await distributed.comm.connect(address, timeout=_PATIENCE, **security)
    try:
        await comm.write({"op": "identity", "reply": True})
        await comm.read()
    finally:
        comm.abort()
