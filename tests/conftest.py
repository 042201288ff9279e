"""Prints the table of faults after the test run, also when workers ran the tests."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show every fault that a test recorded: what happened, and seconds from the kill to the opened sum."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    faults = [value for r in reports for name, value in getattr(r, "user_properties", ()) if name == "fault"]
    if faults:
        terminalreporter.section("faults")
        terminalreporter.write_line(f"{'fault':42}{'what happened':44}seconds")
        for fault, outcome, seconds in faults:
            terminalreporter.write_line(f"{fault:42}{outcome:44}{seconds:7.1f}")
