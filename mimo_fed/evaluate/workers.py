"""Processes that do jobs: each loads the base once, works on one thread, and keeps what it has done."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from mimo_fed.evaluate.jobs import Job, Kept, perform
from mimo_fed.evaluate.plan import Plan
from mimo_fed.evaluate.records import Json
from mimo_fed.evaluate.sets import UserSet

if TYPE_CHECKING:
    from mimo_fed.evaluate.costs import Speed
    from mimo_fed.evaluate.training import Trainer

Hear = Callable[[str, float], None]
"""told of a job's title and of tokens that it has got through"""
POLL_S: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class World:
    """What every job of a run needs.

    Attributes:
        base: name of the base, or its folder.
        users: by role.
        plan: the settings.
        out: folder of the run.
        tokens_per_pass: see `StackedModel`; bounds memory, not results.
    """

    base: str
    users: UserSet
    plan: Plan
    out: Path
    tokens_per_pass: int = 4096


@dataclass(frozen=True)
class Known:
    """What is known once the base is loaded: its digest, and how fast it is here."""

    fingerprint: str
    speed: Speed


class Worker:
    """Does jobs in this process.

    Args:
        world: what jobs need.
    """

    def __init__(self, world: World) -> None:
        from mimo_fed.evaluate.training import Trainer
        from mimo_fed.model import load_base

        self._world = world
        base = load_base(world.base)
        self.trainer: Trainer = Trainer(base, world.plan, tokens_per_pass=world.tokens_per_pass)
        self.kept = Kept(world.out, base.fingerprint, world.users, world.plan)

    def probe(self) -> Known:
        """See how fast this is."""
        from mimo_fed.evaluate.costs import probe

        return Known(self.trainer.base.fingerprint, probe(self.trainer, self._world.users))

    def do(self, job: Job, hear: Hear) -> Json:
        """Do a job and keep its result."""
        result = perform(self.trainer, self._world.users, job, tell=partial(hear, job.title))
        self.kept.save(job, result)
        return result


class Here:
    """Does jobs in this process, one after the other; a `with` block.

    Args:
        world: what jobs need.
    """

    def __init__(self, world: World) -> None:
        self._worker = Worker(world)
        self._waiting: deque[Job] = deque()

    def __enter__(self) -> Here:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def probe(self) -> Known:
        """Return what is found out about the base."""
        return self._worker.probe()

    def submit(self, job: Job) -> None:
        """Have a job done, after those that were submitted before."""
        self._waiting.append(job)

    def done(self, hear: Hear) -> Iterator[tuple[Job, Json]]:
        """Do each job and yield it, until none is left; more may be submitted meanwhile.

        Args:
            hear: called with (job's title, tokens) as a job goes on.
        """
        while self._waiting:
            job = self._waiting.popleft()
            yield job, self._worker.do(job, hear)


class Pool:
    """Some workers, in processes of their own; a `with` block.

    Args:
        world: what jobs need.
        workers: how many processes.
    """

    def __init__(self, world: World, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._queue = context.Queue()
        self._executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(world, self._queue)
        )
        self._running: dict[Future[Json], Job] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._queue.close()

    def probe(self) -> Known:
        """Return what one worker finds out about the base."""
        return self._executor.submit(_probe).result()

    def submit(self, job: Job) -> None:
        """Have a job done, after those that were submitted before."""
        self._running[self._executor.submit(_do, job)] = job

    def done(self, hear: Hear) -> Iterator[tuple[Job, Json]]:
        """Yield each job when it is done, until none is left; more may be submitted meanwhile.

        Args:
            hear: called with (job's title, tokens) as jobs go on.
        """
        while self._running:
            finished, _ = wait(self._running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            self._drain(hear)
            for future in finished:
                yield self._running.pop(future), future.result()

    def _drain(self, hear: Hear) -> None:
        while True:
            try:
                title, tokens = self._queue.get_nowait()
            except Empty:
                return
            hear(title, tokens)


def pool_of(world: World, workers: int) -> Here | Pool:
    """Return what does jobs: processes, or this one if one worker is enough."""
    return Pool(world, workers) if workers > 1 else Here(world)


_own: dict[str, Any] = {}
"""of a process of the pool: its worker, and the queue that it tells"""


def _begin(world: World, queue: Any) -> None:
    _own.update(worker=Worker(world), queue=queue)


def _probe() -> Known:
    worker: Worker = _own["worker"]
    return worker.probe()


def _do(job: Job) -> Json:
    worker: Worker = _own["worker"]
    return worker.do(job, lambda title, tokens: _own["queue"].put((title, tokens)))
