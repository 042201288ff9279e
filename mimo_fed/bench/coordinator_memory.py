"""How much memory a coordinator needs at its peak, and that it does not grow with the number of devices.

A program of its own, since a peak belongs to a process: `python -m mimo_fed.bench.coordinator_memory N D`.
It runs a whole round of N devices and a sampled committee, and prints a JSON object. The devices and the
members are another process, so that only the coordinator is measured.

What the vectors hold does not change what they weigh: the devices send zeros for masked words, and the
coordinator clears the check coordinates of what it lifts. A spool writes every contribution to disk whole and
keeps what stands before the words; the words would be read again only if a device were accused.
"""

from __future__ import annotations

import json
import sys
import tempfile
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo_fed.bench.memory import raised_by
from mimo_fed.bench.parties import NOW_S, VECTOR, Parties
from mimo_fed.secagg import NUM_CHECKS, Anchors, Arithmetic, Backend, Coordinator, choose, verify_manifest
from mimo_fed.secagg.manifest import SignedManifest, num_words


class Weightless:
    """A back end whose masked words are zeros; adding and unmasking are another's, at full size.

    Args:
        backend: the other.
    """

    name = "weightless"

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def prepare(self) -> None:
        """Get the other ready."""
        self._backend.prepare()

    def protect(self, *, values_D: NDArray[np.uint32], word_bits: int, **_: Any) -> bytearray:
        """Return as many zero words as there are values."""
        return bytearray(len(values_D) * word_bits // 8)

    def add(self, total_D: Any, data: bytes | bytearray | memoryview, word_bits: int) -> None:
        """Add words to a sum."""
        self._backend.add(total_D, data, word_bits)

    def unmask(self, **arguments: Any) -> NDArray[np.float64]:
        """Lift a mask that was not put on, and clear the check coordinates."""
        total_D = self._backend.unmask(**arguments)
        total_D[-NUM_CHECKS:] = 0
        return total_D


class Disk:
    """A spool in a folder that keeps of each contribution what stands before its words.

    Args:
        folder: where.
        words_bytes: how long the words at the end are.
    """

    def __init__(self, folder: Path, words_bytes: int) -> None:
        self._folder, self._words_bytes = folder, words_bytes

    def put(self, name: str, data: bytes) -> None:
        """Write all of it, then cut the words off."""
        with (self._folder / name).open("wb") as file:
            file.write(data)
            file.truncate(len(data) - self._words_bytes)

    def get(self, name: str) -> bytes:
        """Return what was kept."""
        return (self._folder / name).read_bytes()

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return a part of what was kept."""
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(length)


def play_devices(line: Connection, num_devices: int, num_params: int) -> None:
    """Be every device and every member of a round: send what they send, read what they are asked."""
    parties = Parties({VECTOR: num_params}, num_devices, "sampled")
    line.send_bytes(parties.m1)
    line.send_bytes(parties.anchors.to_json())
    inputs = {VECTOR: np.zeros(num_params, np.uint32)}
    arithmetic = Arithmetic(backend=Weightless(choose("numpy")))
    for device in parties.devices:
        line.send_bytes(parties.contribution(device, inputs, arithmetic))
    members = [parties.member(party) for party in parties.committee]
    for member in members:
        line.send_bytes(member.receive(line.recv_bytes(), parties.anchors))
    ballot = line.recv_bytes()
    for member in members:
        line.send_bytes(member.vote(ballot))
    certificate = line.recv_bytes()
    for member in members:
        line.send_bytes(member.open(certificate))


class Round:
    """The coordinator's side of a whole round.

    Args:
        line: to the devices and members.
        folder: for the spool.
        backend: that adds and unmasks.
    """

    def __init__(self, line: Connection, folder: Path, backend: Backend) -> None:
        self._line = line
        m1, anchors = line.recv_bytes(), Anchors.from_json(line.recv_bytes())
        self._signed: SignedManifest = verify_manifest(m1, anchors, NOW_S)
        manifest = self._signed.manifest
        spool = Disk(folder, num_words(manifest.sums[0]) * manifest.word_bits // 8)
        self._session = Coordinator(self._signed, anchors, spool, Arithmetic(backend=Weightless(backend)))

    def run(self) -> None:
        """Collect, have the shares checked, ballot, and open."""
        session, manifest = self._session, self._signed.manifest
        for _ in range(manifest.n_max):
            session.add(self._line.recv_bytes())
        session.close()
        for member in manifest.members:
            self._line.send_bytes(session.share_request(member.device_id))
            session.add_complaints(self._line.recv_bytes())
        self._line.send_bytes(session.ballot())
        for _ in manifest.members:
            session.add_vote(self._line.recv_bytes())
        self._line.send_bytes(session.quorum_certificate())
        for _ in manifest.members:
            session.add_opening(self._line.recv_bytes())
        session.result()


def main(num_devices: int, num_params: int) -> None:
    """Run a round and print by how much its coordinator's peak was above what it began with."""
    here, there = Pipe()
    devices = Process(target=play_devices, args=(there, num_devices, num_params))
    devices.start()
    backend = choose()
    backend.prepare()
    with tempfile.TemporaryDirectory() as folder:
        peak = raised_by(lambda: Round(here, Path(folder), backend).run())
    devices.join()
    print(json.dumps({"peak_bytes": peak, "backend": backend.name}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
