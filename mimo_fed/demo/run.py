"""One run of the demo from an empty folder to its report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from mimo_fed.data import DemoDevice, load_demo
from mimo_fed.demo import html, report, see
from mimo_fed.demo.board import Board, DeviceState
from mimo_fed.demo.cluster import Cluster
from mimo_fed.demo.layout import DemoSettings, Layout
from mimo_fed.demo.live import Tail, View, follow
from mimo_fed.demo.processes import Processes
from mimo_fed.demo.see import Sight
from mimo_fed_client.audit import device_source, verify_release
from mimo_fed_client.audit_lines import lines

Json = dict[str, Any]

REPORTS_S = 120.0
"""how long devices may take to measure themselves after the last round"""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run that went through."""

    settings: DemoSettings
    layout: Layout
    report: Json
    sight: Sight
    audited: list[str]
    """what anybody can check of the last round"""


def run(settings: DemoSettings, console: Console) -> Finished:
    """Run the whole loop and write `report.json` and `report.html`.

    Raises:
        ConfigError: the settings, or the folder.
        TransportError: a process keeps failing; the hint names its log.
        DataError: a figure of the report is missing.
    """
    began = time.monotonic()
    layout = Layout(settings.runs, settings.name)
    layout.create(settings)
    devices = load_demo()[: settings.devices]
    board = Board(rounds=settings.rounds, devices={d.name: DeviceState() for d in devices})
    tail = Tail(
        layout.coordinator / "events.jsonl",
        {d.name: layout.device(d.name) / "events.jsonl" for d in devices},
    )
    with Processes(_environment(settings, layout), layout.root) as processes, View(console, board) as view:
        cluster = Cluster(layout, settings, devices, processes, view.say)
        cluster.set_up()
        cluster.start()

        def rounds_over() -> bool:
            processes.check()
            return not processes.running("supervisor")

        follow(view, tail, ended=rounds_over)
        reports = [layout.device(d.name) / "report.json" for d in devices]
        end = time.monotonic() + REPORTS_S

        def reported() -> bool:
            processes.check()
            return all(path.exists() for path in reports) or time.monotonic() > end

        follow(view, tail, ended=reported)
        records, wall_s = cluster.records(), time.monotonic() - began
        view.say("devices have reported")
        audited = _audit(layout, devices[0].name)
        view.say("the last round's evidence was verified from the pinned root")
    return _write(settings, layout, devices, records, audited, wall_s=wall_s)


def _audit(layout: Layout, device: str) -> list[str]:
    """Verify the newest release's round as an outsider would, by what one device pins.

    Raises:
        VerificationError: the evidence does not hold.
    """
    with device_source(layout.device(device)).open() as updater:
        return lines(verify_release(updater, "dev", None))


def _environment(settings: DemoSettings, layout: Layout) -> dict[str, str]:
    variables = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if settings.test_plaintext:
        layout.plaintext.mkdir()
        variables["MIMO_FED_TEST_PLAINTEXT"] = str(layout.plaintext)
    return variables


def _write(
    settings: DemoSettings,
    layout: Layout,
    devices: Sequence[DemoDevice],
    records: list[Json],
    audited: list[str],
    *,
    wall_s: float,
) -> Finished:
    cards = [
        report.DeviceCard(
            name=d.name,
            author=d.author,
            language=d.language,
            translated=d.translated,
            device_class=d.device_class,
            rank=d.rank,
        )
        for d in devices
    ]
    paths = {d.name: layout.device(d.name) / "report.json" for d in devices}
    measured = {name: report.read_json(path) for name, path in paths.items() if path.exists()}
    found = report.build(
        cards,
        measured,
        records,
        base=settings.base,
        settings=report.settings_record(settings.round, rounds=settings.rounds, devices=len(devices)),
        wall_s=wall_s,
    )
    trained = [record for record in records if record["kind"] == "train"]
    last = max(trained, key=lambda record: int(record["sequence"]))
    sight = see.look(layout.coordinator, last, str(last["survivors"][0]))
    report.write_json(layout.report, found)
    layout.page.write_text(html.page(found, name=settings.name, sight=sight), encoding="utf-8")
    return Finished(settings=settings, layout=layout, report=found, sight=sight, audited=audited)
