"""A Dask cluster of real processes on this machine; a worker that is killed is started anew."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.program import environment

_PROGRAM = """
import json, sys
if __name__ == "__main__":
    from distributed import LocalCluster
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    for _ in iter(sys.stdin.readline, ""):
        pids = [worker.pid for worker in cluster.workers.values()]
        print(json.dumps([cluster.scheduler_address, pids]), flush=True)
    cluster.close()
"""
_STARTED_BY = "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"
"""Of a process that has imported Dask, which takes longer than all that the tests have it do."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs, in a process that is asked about it."""

    process: subprocess.Popen[str]

    def ask(self) -> tuple[str, list[int]]:
        """The address of the scheduler, and the processes of the workers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        address, pids = json.loads(self.process.stdout.readline())
        return address, pids

    @property
    def address(self) -> str:
        return self.ask()[0]


@contextmanager
def running(**more: str) -> Iterator[Cluster]:
    """A cluster of two workers, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what Dask says of workers that are killed
        text=True,
        env=environment(**{_STARTED_BY: "forkserver", **more}),
    )
    try:
        yield Cluster(process)
    finally:
        process.communicate(timeout=60)  # which closes its input
