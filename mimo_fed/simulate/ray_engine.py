"""The same rounds on Flower's Ray simulation engine: a virtual node a device, on as many machines as Ray has.

    this process  Simulation > GridRounds: the coordinator's driver on `mimo_fed.flower.FlowerFleet`
    an actor      `ray_node`: the device's driver; one message of one node at a time, whichever actor is free

What a device's driver keeps between messages travels with the node's Flower context, so that any actor can
take up any node. Devices' texts and the adapters to train from lie in the run's folder, which all machines
must see. Time and entropy are the real ones here: the rounding of the encryption differs from run to run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from mimo_fed.data import DemoDevice
from mimo_fed.data.extract import write_extract
from mimo_fed.errors import ConfigError
from mimo_fed.events import EventLog
from mimo_fed.flower import FlowerFleet, pack, unpack
from mimo_fed.model import Base
from mimo_fed.model.stack import StackedModel
from mimo_fed.round import envelope
from mimo_fed.round.cohort import Candidate
from mimo_fed.round.coordinate import Coordination
from mimo_fed.secagg import MAX_MEMBERS, Certificate, verify_hello
from mimo_fed.simulate.ray_node import DEVICES, Work, answer
from mimo_fed.simulate.rounds import Played, plan_of, played_of
from mimo_fed.simulate.school import School, Teach, Turn
from mimo_fed.simulate.settings import SimulateSettings
from mimo_fed.simulate.simulation import Progress, Simulation, spec_of
from mimo_fed.simulate.stores import MemoryStore

JOURNAL: Final = "journal"


class ContextJournal:
    """A journal in a node's Flower context; see `mimo_fed.round.device.Journal`."""

    def __init__(self, context: Context) -> None:
        if JOURNAL not in context.state.config_records:
            context.state[JOURNAL] = ConfigRecord()
        self._kept = context.state.config_records[JOURNAL]

    def get(self, key: str) -> bytes | None:
        """Return the value, or None."""
        value = self._kept.get(key)
        return value if isinstance(value, bytes) else None

    def put(self, key: str, value: bytes) -> None:
        """Keep the value."""
        self._kept[key] = value

    def erase(self, key: str) -> None:
        """Forget the value."""
        if key in self._kept:
            del self._kept[key]

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the keys that begin with the prefix, sorted."""
        return tuple(sorted(key for key in self._kept if key.startswith(prefix)))


def client_app(work: Work) -> ClientApp:
    """Return the app that every node runs."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        stage, payload = unpack(message.content)
        number = int(str(context.node_config["partition-id"]))
        return Message(
            pack(stage, answer(work, number, ContextJournal(context), stage, payload)), reply_to=message
        )

    return app


class GridRounds:
    """Runs rounds with the devices behind a Grid; see `mimo_fed.simulate.rounds.Plays`.

    Args:
        grid: Flower's.
        work: what the actors were told.
        ranks: of the devices in a round, by name.
    """

    def __init__(self, grid: Grid, work: Work, ranks: Mapping[str, int]) -> None:
        self._work, self._ranks = work, ranks
        self._anchors, self._key = work.anchors, work.coordinator
        self._fleet = FlowerFleet(grid, self._identify)

    def play(
        self,
        turn: Turn,
        there: frozenset[str],
        known: Mapping[str, Candidate],
        teach: Teach | None = None,
    ) -> Played:
        """Run a round; `there` and `teach` are of no use here, for devices train elsewhere.

        Virtual nodes are never away: the round waits until as many have greeted as it asks.
        """
        path = self._work.release(turn.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(turn.released)
        wanted = min(turn.config.n_max, MAX_MEMBERS, len(self._ranks))
        plan = replace(plan_of(turn, self._work.settings.seed, known), min_devices=wanted)
        store = MemoryStore()
        outcome = Coordination(
            self._fleet,
            store,
            key=self._key,
            anchors=self._anchors,
            spec=turn.spec,
            entropy=os.urandom,
            now_s=time.time,
            events=EventLog(None),
        ).run(plan)
        sent = [len(data) for data in store.spool.files.values()]
        ranks = [self._ranks[name] for name in outcome.result.survivors]
        return played_of(outcome, turn.spec, ranks, sum(sent) / max(1, len(sent)))

    def _identify(self, nonce: bytes, answer: bytes) -> Certificate:
        return verify_hello(envelope.unwrap(answer), nonce, self._anchors, int(time.time()))


def run_on_ray(
    base: Base,
    devices: Sequence[DemoDevice],
    settings: SimulateSettings,
    *,
    folder: Path,
    progress: Progress,
    fresh: bool = False,
    address: str = "",
    num_cpus: int = 0,
    gpus_per_device: float = 0.0,
) -> Simulation:
    """Run what is left of a simulation on Flower's engine.

    Args:
        base: the frozen base; actors load it by its name.
        devices: with their text.
        settings: of rounds on the global adapter, with encryption, opened by their own devices.
        folder: of the run; on several machines, one that all of them see under this path.
        progress: told of every round.
        fresh: start over.
        address: of a Ray cluster that is there; empty: one is started on this machine.
        num_cpus: of that one; 0: all.
        gpus_per_device: share of a GPU that a device takes.

    Returns:
        The simulation as it ended.

    Raises:
        ConfigError: the settings ask for more than this engine does, or Ray is not installed.
    """
    check(settings)
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from flwr.simulation import run_simulation
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the engine ray needs a package: {error.name}", hint="install mimo-fed[ray]"
        ) from None
    ordered = sorted(devices, key=lambda device: device.name)
    write_extract(folder / DEVICES, ordered, {"source": "a simulation"})
    work = Work(base=base.name, folder=folder.resolve(), settings=settings)
    ended: list[Simulation] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        spec = spec_of(base, settings.round.adapter)
        school = School(StackedModel(base, spec), {d.name: d for d in ordered}, settings)
        rounds = GridRounds(grid, work, {d.name: school.rank_in(d.name, spec) for d in ordered})
        simulation = Simulation(
            base, ordered, settings, folder=folder, progress=progress, fresh=fresh, rounds=rounds
        )
        simulation.run()
        ended.append(simulation)

    init: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False}
    init |= {"address": address} if address else {"num_cpus": num_cpus} if num_cpus else {}
    try:
        run_simulation(
            server_app=app,
            client_app=client_app(work),
            num_supernodes=len(ordered),
            backend_config={
                "init_args": init,
                "client_resources": {"num_cpus": 1, "num_gpus": gpus_per_device},
            },
        )
    finally:
        ray.shutdown()
    return ended[0]


def check(settings: SimulateSettings) -> None:
    """Raise ConfigError if the settings ask for what only the engine of one process does."""
    asked = {
        "--no-encryption": not settings.encryption,
        "--method sketch": settings.method != "federated",
        "--cohorts": bool(settings.cohorts),
        "--personal-steps or --refresh-steps": bool(settings.personal_steps or settings.refresh_steps),
        "--dropout": bool(settings.dropout),
        f"--committee {settings.round.secure_sum.committee}": settings.round.secure_sum.committee != "all",
    }
    if refused := [option for option, given in asked.items() if given]:
        raise ConfigError(
            f"the engine ray runs encrypted rounds on the global adapter alone: {', '.join(refused)}",
            hint="leave --engine out for these",
        )
