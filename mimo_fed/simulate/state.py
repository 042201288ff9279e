"""Where a simulation stands, and how it is kept in a folder: after every round, whole or not at all.

`state.json` names every other file and is replaced last, by a rename: what is not named there is left over
from a round that was not finished, and is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.aggregate import ServerState
from mimo_fed.errors import ConfigError, DataError
from mimo_fed.model.stack import Personal
from mimo_fed.round.cohort import Candidate

STATE: Final = "state.json"
FORMAT: Final = "mimo-fed simulation 1"
_OURS: Final = re.compile(r"(adapter-\d+|server-\d+|personal-.+)\.[0-9a-f]{16}\.safetensors")
"""files that a state may have named; others in the folder are somebody else's"""
Entry = dict[str, Any]


@dataclass
class Learner:
    """One shared adapter on its way: the global one, or that of a cohort.

    Attributes:
        adapter: as it is now.
        server: moments of the server's optimizer.
        num_rounds: rounds that moved it.
        clip_norm: of its next round; None: that of the settings.
        known: what its rounds say of devices, for a fair draw.
    """

    adapter: GlobalAdapter
    server: ServerState
    num_rounds: int = 0
    clip_norm: float | None = None
    known: dict[str, Candidate] = field(default_factory=dict)


@dataclass
class State:
    """Everything that a simulation has come to.

    Attributes:
        learners: by the name of the cohort; the global adapter's name is empty.
        num_done: rounds that are over.
        finished: the last refreshment of personal adapters is over too.
        choices: cohort of every device.
        personals: of the devices that have one.
        history: one entry a round.
    """

    learners: dict[str, Learner]
    choices: dict[str, str]
    num_done: int = 0
    finished: bool = False
    personals: dict[str, Personal] = field(default_factory=dict)
    history: list[Entry] = field(default_factory=list)


class StateFolder:
    """Keeps a state.

    Args:
        folder: made if missing.
        settings: digest of everything that the run depends on.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder, self._settings = folder, settings
        self._written: dict[str, tuple[Any, str]] = {}

    def load(self, specs: dict[str, AdapterSpec]) -> State | None:
        """Return what is kept; None if there is nothing.

        Args:
            specs: shape of every learner's adapter.

        Raises:
            ConfigError: it is of other settings.
            DataError: it is damaged.
        """
        path = self._folder / STATE
        if not path.exists():
            return None
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["format"] != FORMAT:
                raise ValueError(raw["format"])
            if raw["settings"] != self._settings:
                raise ConfigError(
                    f"a simulation with other settings or devices is in: {self._folder}",
                    hint="take another folder, or --fresh to start over in this one",
                )
            return self._read(raw, specs)
        except (ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
            raise DataError(f"state of the simulation is damaged: {path}: {error}") from None

    def save(self, state: State) -> None:
        """Keep a state; files of what has not changed since are left alone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        learners = {
            name: {
                "adapter": self._file(f"adapter-{at}", learner.adapter, learner.adapter.to_safetensors),
                "server": self._file(f"server-{at}", learner.server, learner.server.to_bytes),
                "num_rounds": learner.num_rounds,
                "clip_norm": learner.clip_norm,
                "known": [asdict(candidate) for candidate in learner.known.values()],
            }
            for at, (name, learner) in enumerate(state.learners.items())
        }
        personals = {
            name: {
                "file": self._file(f"personal-{name}", personal.factors, lambda p=personal: _write(p)),
                "scale": personal.scale,
            }
            for name, personal in state.personals.items()
        }
        raw = {
            "format": FORMAT,
            "settings": self._settings,
            "num_done": state.num_done,
            "finished": state.finished,
            "learners": learners,
            "choices": state.choices,
            "personals": personals,
            "history": state.history,
        }
        _replace(self._folder / STATE, json.dumps(raw).encode())
        self._tidy({item[1] for item in self._written.values()})

    def clear(self) -> None:
        """Forget what is kept."""
        (self._folder / STATE).unlink(missing_ok=True)
        self._written.clear()
        self._tidy(())

    def _file(self, key: str, value: Any, write: Any) -> str:
        """Write a value to a file named by its content, unless it is the object that was written last."""
        kept = self._written.get(key)
        if kept is not None and kept[0] is value:
            return kept[1]
        data: bytes = write()
        name = f"{key}.{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
        if not (self._folder / name).exists():
            _replace(self._folder / name, data)
        self._written[key] = (value, name)
        return name

    def _tidy(self, named: Iterable[str]) -> None:
        kept = set(named)
        for path in self._folder.glob("*.safetensors"):
            if path.name not in kept and _OURS.fullmatch(path.name):
                path.unlink()

    def _read(self, raw: Entry, specs: dict[str, AdapterSpec]) -> State:
        learners = {}
        for at, (name, kept) in enumerate(raw["learners"].items()):
            adapter = GlobalAdapter.from_safetensors(self._bytes(kept["adapter"]), specs[name])
            server = ServerState.from_bytes(self._bytes(kept["server"]))
            self._written[f"adapter-{at}"] = (adapter, kept["adapter"])
            self._written[f"server-{at}"] = (server, kept["server"])
            known = {item["device_id"]: Candidate(**item) for item in kept["known"]}
            learners[name] = Learner(adapter, server, int(kept["num_rounds"]), kept["clip_norm"], known)
        personals = {}
        for name, kept in raw["personals"].items():
            personals[name] = _personal(self._bytes(kept["file"]), float(kept["scale"]))
            self._written[f"personal-{name}"] = (personals[name].factors, kept["file"])
        return State(
            learners=learners,
            choices=dict(raw["choices"]),
            num_done=int(raw["num_done"]),
            finished=bool(raw["finished"]),
            personals=personals,
            history=list(raw["history"]),
        )

    def _bytes(self, name: str) -> bytes:
        return (self._folder / Path(name).name).read_bytes()


def _write(personal: Personal) -> bytes:
    tensors = {
        f"{module}.{side}": np.ascontiguousarray(factor)
        for module, pair in personal.factors.items()
        for side, factor in zip("BA", pair, strict=True)
    }
    return safetensors_numpy.save(dict(sorted(tensors.items())))


def _personal(data: bytes, scale: float) -> Personal:
    tensors = safetensors_numpy.load(data)
    modules = sorted({name.rpartition(".")[0] for name in tensors})
    return Personal(factors={m: (tensors[f"{m}.B"], tensors[f"{m}.A"]) for m in modules}, scale=scale)


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
