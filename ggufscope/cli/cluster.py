"""The door to a Dask cluster: an executor for jobs, and its failures in our words."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ggufscope.errors import ClusterError, GGUFScopeError, WorkersLost

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
    for name in ("distributed", "tornado", "asyncio"):
        # What they have to say in passing follows from what is raised, and is said in one line.
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
    """Return a client; ``address`` may be the file that a scheduler wrote, too."""
    from_file = address.endswith(".json")
    try:
        if from_file:
            Path(address).stat()  # Dask waits for one that is not there
        else:
            distributed.comm.get_address_host_port(address)  # of none its client is left half made
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions of packages that are not ours
            return distributed.Client(
                **{"scheduler_file" if from_file else "address": address},
                timeout=_PATIENCE,
                set_as_default=False,
            )
    except Exception as error:
        words = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ClusterError(
            f"no scheduler at {address}: {words}",
            hint="start one with `dask scheduler`, and name the address that it prints",
        ) from None
