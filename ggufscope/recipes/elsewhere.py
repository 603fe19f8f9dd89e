"""Jobs for an executor that was lent, whose workers may be on other machines.

What travels is the job, a few numbers and names: a worker reads the source and writes into the
files under way by itself, under the same paths, on a disk that all machines share. A worker that is
lost may have done its job, or half of it: the one that does it again writes the same bytes.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from ggufscope.blocks.error import WeightError
from ggufscope.errors import ClusterError, SourceError, WriteError
from ggufscope.recipes.jobs import Job, run, why_slow
from ggufscope.recipes.workers import Done, by_executor
from ggufscope.version import __version__

Kept = TypeVar("Kept")


def by_others(
    tasks: Iterable[tuple[Job, Kept]],
    executor: Executor,
    count: int,
    warn: Callable[[str], object],
) -> Done[Kept]:
    """Have an executor do jobs; ``warn`` is told, once, of workers that are slower than need be.

    Raises what ``by_executor`` and ``serve`` raise.
    """
    told = ""
    away = ((job.elsewhere(), kept) for job, kept in tasks)
    with closing(by_executor(partial(serve, __version__), away, executor, count)) as done:
        for task, (costs, slow) in done:
            if slow and not told:
                warn(told := slow)
            yield task, costs


def serve(version: str, job: Job) -> tuple[dict[str, WeightError], str]:
    """Do a job where it was sent to; return what ``jobs.run`` returns, and what makes it slow.

    Raises ``ClusterError`` where this machine cannot do it, and what ``jobs.run`` raises.
    """
    here = f"the worker on {platform.node()}"
    if version != __version__:
        raise ClusterError(
            f"{here} has ggufscope {__version__}, and this is {version}",
            hint="install one version everywhere",
        )
    for path in job.paths:
        if not Path(path).exists():
            raise ClusterError(
                f"{here} does not see {path}",
                hint="source and targets have to lie on a disk that all machines share, under the "
                "same paths everywhere",
            )
    try:
        costs = run(job, durable=True)
    except (SourceError, WriteError) as error:
        raise error.about(here) from None
    why = why_slow()
    return costs, why and f"on {here} NumPy converts, several times slower: {why}"
