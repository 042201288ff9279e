"""Compatibility: one of three devices runs behind Flower's own SuperNode instead of our embedded one.

It is a test and nothing more: the stock node installs and runs the app that the server sent, which a device
must not do (docs/adr), and it loads the model anew for every message.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.running import Running, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

DEVICE = "wrist-watch"


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    options = ("--devices", "3", "--deadline-s", "240", "--test-stock-node", DEVICE)
    yield from running(tmp_path_factory.mktemp("runs"), "stock", 1, *options)


def test_round_opens_with_a_device_behind_the_stock_node(run: Running) -> None:
    opened = run.opened(run.wait_round(1))
    assert DEVICE in opened["survivors"]
    assert opened["votes"] == 3
    log = (run.folder / "logs" / f"{DEVICE}.log").read_text()
    assert "SuperNode ID" in log
