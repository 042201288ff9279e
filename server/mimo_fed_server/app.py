"""Flower's ServerApp: the coordinator with the devices behind a SuperLink."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from mimo_fed.events import EventLog
from mimo_fed.flower import FlowerFleet
from mimo_fed_server.coordinator import Identify, run
from mimo_fed_server.settings import load_settings

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what is left of the coordinator's rounds; the run's configuration names its settings file."""
    settings = load_settings(Path(str(context.run_config["settings"])))
    events = EventLog(Path(settings.home) / "events.jsonl")

    def make_fleet(identify: Identify) -> FlowerFleet:
        return FlowerFleet(grid, identify, events)

    run(make_fleet, settings)
