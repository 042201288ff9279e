"""One evaluation, from a set of users to its report; what is there already is not done again.

rates of every arm -> every arm under every seed -> users.csv and results.json -> report.html
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mimo_fed.errors import ConfigError
from mimo_fed.evaluate.arms import BASE, Arm, roles_of
from mimo_fed.evaluate.files import write_folder
from mimo_fed.evaluate.jobs import Job, Kept, record_from, rows_from
from mimo_fed.evaluate.plan import Plan
from mimo_fed.evaluate.records import ENCRYPTED, ArmRecord, Json, Results, Row
from mimo_fed.evaluate.sets import UserSet
from mimo_fed.evaluate.tune import Tuned, untuned
from mimo_fed.evaluate.view import View, duration
from mimo_fed.evaluate.workers import Here, Known, Pool, World, pool_of
from mimo_fed.page.versions import versions_of

PACKAGES: Final = ("mimo-fed", "numpy", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for.

    Attributes:
        world: base, users, settings, folder.
        arms: which.
        workers: processes.
        command: what was typed; goes into the results.
    """

    world: World
    arms: tuple[Arm, ...]
    workers: int
    command: str


def usable(arms: Sequence[Arm], users: UserSet, plan: Plan) -> tuple[Arm, ...]:
    """Leave out arms with cohorts where there are not two cohorts to tell apart."""
    if len(users.languages(users.federated, plan.n_min)) >= 2:
        return tuple(arms)
    return tuple(arm for arm in arms if not arm.has_cohorts)


def run(order: Order, view: View) -> None:
    """Do what is left of an evaluation, and write its two files.

    Args:
        order: what to do.
        view: told of everything.

    Raises:
        ConfigError: the budget cannot be cut into an arm's parts, or an arm is to run with encryption alone.
    """
    world, users, plan = order.world, order.world.users, order.world.plan
    arms = usable(order.arms, users, plan)
    for arm in arms:
        plan.shares(arm, len(users.federated))
    names = {arm.name for arm in arms}
    if alone := [arm.name for arm in arms if arm.encrypted and arm.plain.name not in names]:
        raise ConfigError(
            f"there would be nothing to compare with: {alone[0]}", hint="run the arm without encryption, too"
        )
    if dropped := [arm.name for arm in order.arms if arm not in arms]:
        view.say(f"left out, for want of two languages with {plan.n_min} users: {', '.join(dropped)}")
    tuned: dict[str, Tuned] = {}
    results: dict[tuple[str, int], Json] = {}
    with pool_of(world, order.workers) as pool:
        work = _Work(pool, order, arms, pool.probe(), view)
        for job, result in work.results():
            if job.kind == "tune":
                tuned[job.arm.name] = Tuned.from_json(result)
            else:
                results[job.arm.name, job.seed] = result
    ordered = [results[arm.name, seed] for arm in arms for seed in _seeds(arm, plan)]
    rows = [row for result in ordered for row in rows_from(result)]
    write_folder(world.out, _results(order, arms, tuned, ordered, rows), rows)


class _Work:
    """The jobs of a run, in order: the rates of an arm come before its trainings.

    Args:
        pool: does them.
        order: what was asked for.
        arms: that can be run.
        known: of the base.
        view: told of everything.
    """

    def __init__(
        self, pool: Here | Pool, order: Order, arms: Sequence[Arm], known: Known, view: View
    ) -> None:
        self._pool, self._world, self._arms, self._view = pool, order.world, arms, view
        self._speed = known.speed
        self._kept = Kept(order.world.out, known.fingerprint, order.world.users, order.world.plan)
        self._found: list[tuple[Job, Json]] = []
        tunings = {arm.plain.name: Job(kind="tune", arm=arm.plain) for arm in arms}
        left = [job for job in tunings.values() if self._tunes(job.arm) and self._kept.load(job) is None]
        expected = sum(self._seconds(job) for job in left)
        expected += sum(self._expected(arm, tunings[arm.plain.name]) for arm in arms)
        self._say(expected, order.workers)
        for job in tunings.values():
            if self._tunes(job.arm):
                self._give(job)
            else:
                self._have(job, untuned(order.world.plan).to_json())

    def results(self) -> list[tuple[Job, Json]]:
        """Wait for all jobs; return those done now and those found."""
        for job, result in self._pool.done(self._hear):
            self._view.finish(job.title)
            self._have(job, result)
        return self._found

    def _tunes(self, arm: Arm) -> bool:
        """Whether there is a rate to choose."""
        return bool(arm.parts) and len(self._world.plan.rates) > 1

    def _give(self, job: Job) -> None:
        result = self._kept.load(job)
        if result is not None:
            self._have(job, result)
            return
        self._view.begin(job.title, self._seconds(job))
        self._pool.submit(job)

    def _have(self, job: Job, result: Json) -> None:
        """Take a result; the rates of an arm let its trainings begin."""
        self._found.append((job, result))
        if job.kind == "tune":
            rates = Tuned.from_json(result).rates
            for arm in self._arms:
                if arm.plain.name == job.arm.name:
                    for seed in _seeds(arm, self._world.plan):
                        self._give(Job(kind="train", arm=arm, seed=seed, rates=rates))

    def _expected(self, arm: Arm, tuning: Job) -> float:
        """Return about how long the trainings of an arm take that are not there yet."""
        found = self._kept.load(tuning) if self._tunes(arm) else untuned(self._world.plan).to_json()
        rates = Tuned.from_json(found).rates if found else None
        jobs = [Job(kind="train", arm=arm, seed=s, rates=rates) for s in _seeds(arm, self._world.plan)]
        return sum(self._seconds(job) for job in jobs if rates is None or self._kept.load(job) is None)

    def _seconds(self, job: Job) -> float:
        from mimo_fed.evaluate.costs import seconds

        return seconds(job, self._world.users, self._world.plan, self._speed)

    def _hear(self, title: str, tokens: float) -> None:
        self._view.hear(title, tokens / self._speed.trained)

    def _say(self, expected: float, workers: int) -> None:
        users, plan = self._world.users, self._world.plan
        self._view.say(
            f"{users.name} on {self._world.base}: {len(users.federated)} users take part, "
            f"{len(users.tuning)} tune, {len(users.cold)} are cold starts; {len(self._arms)} arms, "
            f"{plan.budget(len(users.federated))} steps a user, {len(plan.seeds)} seeds"
        )
        self._view.say(f"{duration(expected / workers)} with {workers} workers, at the speed of this moment")
        self._view.expect(expected)


def _seeds(arm: Arm, plan: Plan) -> tuple[int, ...]:
    """Return the seeds of an arm: the base draws nothing, and encryption is compared on one."""
    return plan.seeds[:1] if arm.encrypted or arm.kind == BASE.kind else plan.seeds


def _results(
    order: Order, arms: Sequence[Arm], tuned: dict[str, Tuned], done: Sequence[Json], rows: Sequence[Row]
) -> Results:
    plan, users = order.world.plan, order.world.users
    records = tuple(record_from(result) for result in done)
    return Results(
        dataset=users.name,
        base=rows[0].base,
        command=order.command,
        roles=roles_of(arms),
        settings={
            "users": {
                "federated": len(users.federated),
                "tuning": len(users.tuning),
                "cold start": len(users.cold),
            },
            "steps a user": plan.budget(len(users.federated)),
            "arms": {arm.name: _about(arm, order, tuned, records) for arm in arms},
            "apart by encryption, bits per byte at most": agreement(rows),
            **plan.to_json(),
        },
        provenance=users.provenance,
        arms=records,
        versions=versions_of(PACKAGES),
        machine={"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()},
    )


def _about(arm: Arm, order: Order, tuned: dict[str, Tuned], records: Sequence[ArmRecord]) -> Json:
    """Say how an arm was run: its steps by adapter, its rates, and the largest share of devices clipped."""
    plan = order.world.plan
    budget = plan.budget(len(order.world.users.federated))
    chosen = tuned[arm.plain.name].to_json()
    clipped = [e.get("clipped", 0.0) for r in records if r.arm == arm.name for e in r.history]
    return {
        "says": arm.says,
        "cycle": arm.cycle if arm.in_rounds else "",
        "steps": [budget * part // max(1, arm.parts) for part in arm.shares],
        "rates": {curve["part"]: chosen[curve["part"]] for curve in chosen["curves"]},
        "curves": [] if arm.encrypted else chosen["curves"],
        "clipped": max(clipped) if clipped else None,
    }


def agreement(rows: Sequence[Row]) -> dict[str, float]:
    """Return, for each arm run with and without encryption, by how much a user's figures differ at most."""
    plain = {(row.arm, row.seed, row.user): row.bits_per_byte for row in rows if not row.encrypted}
    found: dict[str, float] = {}
    for row in rows:
        if not row.encrypted:
            continue
        name = row.arm.removesuffix(ENCRYPTED)
        apart = abs(row.bits_per_byte - plain[name, row.seed, row.user])
        found[name] = max(found.get(name, 0.0), round(apart, 6))
    return found
