"""Which adapter a round may train from: the newest of channel dev, or one shortly before it."""

import os
from pathlib import Path

import pytest

from mimo_fed.errors import SpecMismatch
from mimo_fed_client.journal import FileJournal
from mimo_fed_client.releases import BEHIND, Releases
from mimo_fed_client.updater import Updater
from mimo_fed_client.usage import Usage
from tests.simulators.agents import world


def test_a_round_may_train_from_a_release_shortly_before_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimo_fed_client.releases.LOOK_PAUSE_S", 0.0)
    with world(tmp_path) as here:
        made = [here.publish(f"adapter {i}".encode() * 10, f"round-{i}") for i in range(BEHIND + 2)]
        updater = Updater(tmp_path / "updater", here.url, (tmp_path / "registry" / "root.json").read_bytes())
        releases = Releases(
            updater,
            FileJournal(tmp_path / "journal", os.urandom(32)),
            patience_s=1.0,
            usage=Usage(tmp_path / "usage.json"),
        )
        for info in made[1:]:
            assert releases.base(info.digest).startswith(f"adapter {info.number} ".encode()[:-1])
        with pytest.raises(SpecMismatch, match="not among the newest"):
            releases.base(made[0].digest)
        with pytest.raises(SpecMismatch, match="not among the newest"):
            releases.base("ab" * 32)
        updater.close()
