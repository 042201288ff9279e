"""`mimo-fed evaluate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

EXAMPLES: Final = """
Examples:

  mimo-fed evaluate sets/small --quick                      minutes on two cores, with the small base

  mimo-fed evaluate sets/debian --arms all --docs docs/evaluation.md

  mimo-fed evaluate sets/pilot --base mimo-smol --arms main --seeds 1 --rounds 4 --steps 4

  mimo-fed evaluate sets/debian --arms b,m,spare,default --out runs/schedules

  mimo-fed evaluate --report-only --out runs/evaluate-debian

Run it again and it goes on where it stopped; more arms or seeds are added to what is there.
"""

QUICK: Final[dict[str, Any]] = {
    "rounds": 8,
    "steps": 4,
    "seeds": 1,
    "max_users": 60,
    "arms": "main",
    "rates": "3e-3,1e-2,3e-2",
}
FULL: Final[dict[str, Any]] = {"arms": "all"}


def register(app: typer.Typer) -> None:
    """Add the command to `mimo-fed`."""
    app.command("evaluate", epilog=EXAMPLES)(evaluate)


def evaluate(
    folder: Annotated[Path | None, typer.Argument(metavar="SET", help="Folder of a set of users.")] = None,
    base: Annotated[str, typer.Option(help="mimo-nano, mimo-smol, or a folder.")] = "mimo-nano",
    arms: Annotated[
        str | None, typer.Option(help="main, all, or names with commas between.", show_default="main")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Federated rounds.", show_default="8")] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimizer steps of a user for each round.", show_default="4"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds.", show_default="3")] = None,
    devices_per_round: Annotated[int, typer.Option(min=0, help="Asked in a round; 0: all.")] = 0,
    max_users: Annotated[
        int | None, typer.Option(min=0, help="Users drawn from the set; 0: all.", show_default="0")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences in a step.")] = 1,
    seq_len: Annotated[int, typer.Option(min=8, help="Tokens in a sequence.")] = 128,
    rates: Annotated[
        str | None, typer.Option(help="Learning rates to choose from.", show_default="1e-3,3e-3,1e-2,3e-2")
    ] = None,
    intents: Annotated[int, typer.Option(min=1, help="Intents to tell, for each user.")] = 6,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Run every arm with rounds once more with encryption.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/evaluate-SET")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 2,
    tokens_per_pass: Annotated[
        int | None,
        typer.Option(
            min=64,
            help="Trained on at once: more is faster and takes more memory.",
            show_default="4096 with mimo-nano, else 1024",
        ),
    ] = None,
    role_seed: Annotated[
        str, typer.Option(help="Decides who takes part, tunes, or starts cold.")
    ] = "mimo-fed",
    name: Annotated[str, typer.Option(help="Of the data set; by default its folder's.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer users, one seed, the main arms.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="All arms, and each that has rounds with encryption too.")
    ] = False,
    docs: Annotated[Path | None, typer.Option(help="Also write the section of this page.")] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Only make the report again, from the files in --out.")
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON document alone.")
    ] = False,
) -> None:
    """Train many users in several ways on equal steps, and measure each on its own test text.

    70 in 100 users take part in rounds; 10 tune the learning rates of every arm, from one grid; 20 are cold
    starts, who never take part and get the result. Writes users.csv, results.json and report.html.
    """
    from rich.console import Console

    from mimo_fed.errors import ConfigError
    from mimo_fed.evaluate.view import View

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    preset = QUICK if quick else FULL if full else {}
    if quick and full:
        raise ConfigError("either --quick or --full", hint="leave one of them out")

    def choice(key: str, given: Any, default: Any) -> Any:
        return preset.get(key, default) if given is None else given

    if not report_only:
        if folder is None:
            raise ConfigError("no set of users is named", hint="build one with `mimo-fed data build debian`")
        from mimo_fed.evaluate.arms import parse_arms, with_encryption
        from mimo_fed.evaluate.plan import Plan
        from mimo_fed.evaluate.run import Order, run
        from mimo_fed.evaluate.sets import load_set
        from mimo_fed.evaluate.workers import World

        users = load_set(folder, name=name, max_users=choice("max_users", max_users, 0), role_seed=role_seed)
        plan = Plan(
            rounds=choice("rounds", rounds, 8),
            steps=choice("steps", steps, 4),
            seeds=tuple(range(choice("seeds", seeds, 3))),
            devices_per_round=devices_per_round,
            batch_size=batch,
            seq_len=seq_len,
            rates=parse_rates(choice("rates", rates, "1e-3,3e-3,1e-2,3e-2")),
            intents_per_user=intents,
        )
        chosen = parse_arms(choice("arms", arms, "main"))
        out = out or Path("runs") / f"evaluate-{users.name}"
        order = Order(
            world=World(
                base=base,
                users=users,
                plan=plan,
                out=out,
                tokens_per_pass=tokens_per_pass or (4096 if base == "mimo-nano" else 1024),
            ),
            arms=with_encryption(chosen) if encrypt or full else chosen,
            workers=workers,
            command=command(sys.argv[1:]),
        )
        with View(Console(stderr=True)) as view:
            run(order, view)
    if out is None:
        raise ConfigError("no run to report on", hint="name its folder with --out")
    report(out, docs, as_json=json_)


def report(out: Path, docs: Path | None, *, as_json: bool) -> None:
    """Make the page and the section, and say how the goals stand."""
    import json

    from rich.console import Console

    from mimo_fed.evaluate.findings import read
    from mimo_fed.evaluate.html import write_page
    from mimo_fed.evaluate.markdown import update_page
    from mimo_fed.evaluate.show import document, show

    findings = read(out)
    page = write_page(out)
    if docs is not None:
        update_page(docs, findings)
    if as_json:
        typer.echo(json.dumps(document(findings), indent=1))
        return
    console = Console()
    show(findings, console)
    console.print(f"\n{page}", highlight=False)


def parse_rates(text: str) -> tuple[float, ...]:
    """Read `1e-3,3e-3`.

    Raises:
        ConfigError: that is no list of numbers.
    """
    from mimo_fed.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"not numbers with commas between: {text!r}") from None


def command(arguments: list[str]) -> str:
    """Write what was typed, with paths that say nothing of this machine."""
    shown = [Path(word).name if Path(word).is_absolute() else word for word in arguments]
    return " ".join(["mimo-fed", *shown])
