"""`mimo-fed simulate`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimo_fed.errors import ConfigError

if TYPE_CHECKING:
    from mimo_fed.data import DemoDevice
    from mimo_fed.simulate.settings import SimulateSettings

EXAMPLES = """
Examples:

  mimo-fed simulate --demo                               the demo's eight devices on the smallest base

  mimo-fed simulate DEVICES --devices-per-round 64       a set of `mimo-fed data build`, or your own folder

  mimo-fed simulate DEVICES --no-encryption              exact sums instead: faster, any number a round

  mimo-fed simulate DEVICES --committee helper --devices-per-round 256

  mimo-fed simulate DEVICES --cohorts language --choose-every 2 --personal-steps 4 --out runs/sim

  mimo-fed simulate DEVICES --cycle AB --json            FedIT, the inexact baseline

  mimo-fed simulate DEVICES --engine ray                 a process a device, on as many machines as Ray has

A run that was cut short goes on where it was: give the same command again.
"""


class Method(StrEnum):
    """How updates are averaged."""

    FEDERATED = "federated"
    SKETCH = "sketch"


class Committee(StrEnum):
    """Who opens the sums."""

    ALL = "all"
    SAMPLED = "sampled"
    HELPER = "helper"


class Suite(StrEnum):
    """The primitives of the encryption."""

    HYBRID = "hybrid"
    CLASSIC = "classic"


class Optimizer(StrEnum):
    """The server's."""

    FEDAVG = "fedavg"
    FEDAVGM = "fedavgm"
    FEDADAM = "fedadam"
    FEDYOGI = "fedyogi"


class Trait(StrEnum):
    """What cohorts are named after."""

    LANGUAGE = "language"
    DEVICE_CLASS = "device_class"


class Engine(StrEnum):
    """Where the devices run."""

    PROCESS = "process"
    RAY = "ray"


def register(app: typer.Typer) -> None:
    """Add the command to `mimo-fed`."""
    app.command("simulate", epilog=EXAMPLES)(simulate)


def simulate(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of devices: a set, or one JSON Lines file a device.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="The eight devices of the demo.")] = False,
    base: Annotated[str, typer.Option(help="mimo-nano, mimo-smol or a folder.")] = "mimo-nano",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds on the global adapter.")] = 8,
    devices_per_round: Annotated[int, typer.Option(min=0, help="Devices asked in a round; 0: all.")] = 0,
    cycle: Annotated[
        str, typer.Option(help="Phases of the rounds, over and over; AB alone is FedIT.")
    ] = "BA",
    encryption: Annotated[
        bool, typer.Option(help="Protect and open the sums as in production, or add exact floats.")
    ] = True,
    committee: Annotated[
        Committee, typer.Option(help="Who opens the sums; `all` is at most 64 devices.")
    ] = Committee.ALL,
    suite: Annotated[Suite, typer.Option(help="Primitives of the encryption.")] = Suite.HYBRID,
    method: Annotated[
        Method, typer.Option(help="sketch: two sums of products; any local factors.")
    ] = Method.FEDERATED,
    cohorts: Annotated[
        Trait | None, typer.Option(help="A cohort adapter for each language or device class.")
    ] = None,
    choose_every: Annotated[
        int, typer.Option(min=0, help="Rounds between choices of a cohort by loss; 0: as declared.")
    ] = 0,
    personal_steps: Annotated[
        int, typer.Option(min=0, help="Personal steps in each round a device is in; 0: none.")
    ] = 0,
    refresh_steps: Annotated[
        int, typer.Option(min=0, help="Personal steps of every device after a release.")
    ] = 0,
    refresh_every: Annotated[
        int, typer.Option(min=0, help="Rounds between such releases; 0: only at the end.")
    ] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Steps on a shared adapter, per round.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences per step.")] = 2,
    seq_len: Annotated[int, typer.Option(min=8, help="Tokens per sequence.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="AdamW, of phase B.")] = 1e-3,
    rank: Annotated[int, typer.Option(min=4, help="Of the global adapter: 4, 8, 16, 32 ...")] = 16,
    n_min: Annotated[int, typer.Option(min=3, help="Fewest devices for which a sum is opened.")] = 3,
    clip_norm: Annotated[float, typer.Option(min=0.0, help="Longest update, L2.")] = 1.0,
    clip_target: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share not clipped that the norm follows; 0: it stays.")
    ] = 0.0,
    optimizer: Annotated[Optimizer, typer.Option(help="The server's.")] = Optimizer.FEDAVG,
    server_rate: Annotated[float, typer.Option(min=0.0, help="The server's learning rate.")] = 1.0,
    fed_nova: Annotated[
        bool, typer.Option("--fed-nova", help="Devices of few steps pull as much as others.")
    ] = False,
    slow: Annotated[
        str, typer.Option(help="Classes that take a share of the steps: watch:0.25,fridge:0.5")
    ] = "",
    dropout: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of devices that vanish in a round.")
    ] = 0.0,
    engine: Annotated[
        Engine, typer.Option(help="process: all in this one, batched. ray: Flower's engine, many machines.")
    ] = Engine.PROCESS,
    ray_address: Annotated[
        str, typer.Option(help="Of a Ray cluster, `auto` for the one here; else one is started.")
    ] = "",
    gpus_per_device: Annotated[
        float, typer.Option(min=0.0, help="Share of a GPU for each device at work, with --engine ray.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder of the run: its state after every round, its report.")
    ] = Path("runs/simulate"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, whatever is in that folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report alone, for programs.")] = False,
) -> None:
    """Run rounds over many devices in one process, on the code of production.

    Coordinator, device drivers, encryption and aggregation are those of a real fleet. All devices of a round
    are trained together over one shared base. The same settings and seed give the same adapters, also after a
    run that was cut short.
    """
    from rich.console import Console

    from mimo_fed.config import (
        AdapterConfig,
        PrivacyConfig,
        RoundConfig,
        ScheduleConfig,
        SecureSumConfig,
        ServerConfig,
        TrainConfig,
    )
    from mimo_fed.simulate.settings import SimulateSettings

    devices = load(folder, demo=demo)
    train = TrainConfig(
        num_steps=steps,
        batch_size=batch_size,
        seq_len=seq_len,
        learning_rate=learning_rate,
        personal_learning_rate=learning_rate,
        normalise_steps=fed_nova,
    )
    schedule = ScheduleConfig(cycle=cycle)
    settings = SimulateSettings(
        rounds=rounds,
        devices_per_round=min(devices_per_round or len(devices), len(devices)),
        schedule=schedule,
        round=RoundConfig(
            n_min=n_min,
            adapter=AdapterConfig(rank=rank, shells=shells_up_to(rank)),
            train=train,
            privacy=PrivacyConfig(clip_norm=clip_norm),
            secure_sum=SecureSumConfig(suite=suite.value, committee=committee.value),
            server=ServerConfig(optimizer=optimizer.value, learning_rate=server_rate),
        ),
        encryption=encryption,
        method=method.value,
        cohorts=names_of(devices, cohorts.value, n_min) if cohorts else (),
        cohort_by=(cohorts or Trait.LANGUAGE).value,
        cohort_schedule=schedule,
        cohort_train=train,
        choose_every=choose_every,
        personal_steps=personal_steps,
        refresh_steps=refresh_steps,
        refresh_every=refresh_every,
        dropout=dropout,
        step_shares=read_shares(slow),
        clip_target=clip_target,
        seed=seed,
    )
    console = Console(stderr=as_json)
    where = Where(engine=engine, ray_address=ray_address, gpus_per_device=gpus_per_device)
    report = run(base, devices, settings, out, console, where=where, fresh=fresh, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(report))


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where the devices run."""

    engine: Engine
    ray_address: str
    gpus_per_device: float


def run(
    base: str,
    devices: tuple[DemoDevice, ...],
    settings: SimulateSettings,
    out: Path,
    console: object,
    *,
    where: Where,
    fresh: bool,
    quiet: bool,
) -> dict[str, object]:
    """Run what is left of a simulation, write its report and show it."""
    from rich.console import Console

    from mimo_fed.model import load_base
    from mimo_fed.simulate.results import report_of, write_report
    from mimo_fed.simulate.show import Watcher, show
    from mimo_fed.simulate.simulation import Simulation

    assert isinstance(console, Console)  # noqa: S101 - for the type checker
    with Watcher(console, settings.rounds, quiet=quiet) as watcher:
        loaded = load_base(base)
        if where.engine == Engine.RAY:
            try:
                from mimo_fed.simulate.ray_engine import run_on_ray
            except ModuleNotFoundError as error:
                raise ConfigError(
                    f"the engine ray needs a package: {error.name}", hint="install mimo-fed[ray]"
                ) from None

            simulation = run_on_ray(
                loaded,
                devices,
                settings,
                folder=out,
                progress=watcher,
                fresh=fresh,
                address=where.ray_address,
                gpus_per_device=where.gpus_per_device,
            )
        else:
            simulation = Simulation(loaded, devices, settings, folder=out, progress=watcher, fresh=fresh)
            simulation.run()
    report = report_of(simulation)
    path = write_report(out, report)
    if not quiet:
        show(report, console)
        console.print(f"{path}", highlight=False)
    return report


def load(folder: Path | None, *, demo: bool) -> tuple[DemoDevice, ...]:
    """Load the devices.

    Raises:
        ConfigError: a folder and --demo, or neither.
    """
    from mimo_fed.data import load_demo, load_devices

    if demo == (folder is not None):
        raise ConfigError("a simulation needs devices", hint="give a folder of devices, or --demo")
    return load_demo() if folder is None else load_devices(folder)


def names_of(devices: tuple[DemoDevice, ...], trait: str, n_min: int) -> tuple[str, ...]:
    """Return the cohorts that enough devices declare.

    Raises:
        ConfigError: there are none.
    """
    declared = [str(getattr(device, trait)) for device in devices]
    names = tuple(sorted({name for name in declared if declared.count(name) >= n_min}))
    if not names:
        raise ConfigError(f"no {trait} is declared by {n_min} devices", hint="leave --cohorts out")
    return names


def shells_up_to(rank: int) -> tuple[int, ...]:
    """Return shells that double from 4 up to a rank.

    Raises:
        ConfigError: the rank is not 4 times a power of two.
    """
    bounds = [4]
    while bounds[-1] < rank:
        bounds.append(2 * bounds[-1])
    if bounds[-1] != rank:
        raise ConfigError(f"rank is not 4, 8, 16, 32 or so on: {rank}")
    return tuple(bounds)


def read_shares(text: str) -> tuple[tuple[str, float], ...]:
    """Read `watch:0.25,fridge:0.5`.

    Raises:
        ConfigError: it is written otherwise.
    """
    shares = []
    for part in filter(None, text.split(",")):
        name, _, share = part.partition(":")
        try:
            shares.append((name.strip(), float(share)))
        except ValueError:
            raise ConfigError(
                f"shares of the steps cannot be read: {part}", hint="write them as watch:0.25,fridge:0.5"
            ) from None
    return tuple(shares)
