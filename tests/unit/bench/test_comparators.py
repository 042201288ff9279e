"""What is timed is the real thing: masks cancel, ciphertexts decrypt, sums come out."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mimo_fed.bench import ideal, plain
from mimo_fed.bench.clock import Samples
from mimo_fed.bench.comparators import find_comparators

VECTOR_D = np.random.default_rng(3).normal(0, 0.5, 5000).astype(np.float32)


@pytest.mark.parametrize("word", [np.uint16, np.uint32])
def test_the_masks_of_two_neighbours_cancel_and_their_own_do_not(word: type) -> None:
    size = 200_000
    rng = np.random.default_rng(1)
    inputs = [rng.integers(0, 1000, size).astype(word) for _ in range(2)]
    own, pair, nothing = b"\1" * 32, b"\2" * 32, np.zeros(size, word)
    masked = [ideal.mask(inputs[0], own, [(pair, True)]), ideal.mask(inputs[1], own, [(pair, False)])]
    alone = ideal.mask(nothing, own, [])
    total = masked[0] + masked[1] - alone - alone
    assert np.array_equal(total, inputs[0] + inputs[1])
    assert np.mean(masked[0] == inputs[0]) < 0.01
    assert len(np.unique(alone)) > size // 5


def test_a_plain_sum_is_the_sum() -> None:
    total = np.zeros(3, np.uint32)
    for values in ([1, 2, 3], [10, 20, 30]):
        plain.add(total, np.array(values, "<u4").tobytes())
    assert total.tolist() == [11, 22, 33]


def test_flowers_clients_sum_to_their_quantised_vectors() -> None:
    pytest.importorskip("flwr")
    from flwr.common import ndarrays_to_parameters
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    from mimo_fed.bench import flower

    clients = [flower.Client(nid, 3) for nid in (1, 2, 3)]
    for client in clients:
        client.make_keys()
    sealed = {
        c.nid: dict(zip(answer["dsts"], answer["ctxts"], strict=True))
        for c in clients
        for answer in [c.share_keys(clients)]
    }
    parameters = ndarrays_to_parameters([VECTOR_D])
    total = np.zeros(len(VECTOR_D), np.int64)
    for client in clients:
        received = {nid: boxes[client.nid] for nid, boxes in sealed.items() if nid != client.nid}
        masked = flower.masked_arrays(client.mask(parameters, received))[1]
        own = pseudo_rand_gen(client.own_seed, flower.MODULUS, [(1,), masked.shape])[1]
        assert np.corrcoef(masked, VECTOR_D)[0, 1] < 0.1
        total += masked - own
    steps = (total % flower.MODULUS) / 3
    values = steps * 2 * flower.CLIPPING_RANGE / flower.TARGET_RANGE - flower.CLIPPING_RANGE
    assert np.abs(values - VECTOR_D * 0.001).max() < 1e-5


def test_a_run_of_flower_times_every_stage_and_counts_eight_bytes_a_parameter() -> None:
    pytest.importorskip("flwr")
    from mimo_fed.bench import flower

    run = flower.FlowerRun(VECTOR_D, 2)
    spent = run()
    assert set(spent) == {"setup", "share keys", *flower.MASKING, "unmask", flower.QUANTIZE}
    assert spent["share keys"] > 0
    assert 8 < run.num_bytes / len(VECTOR_D) < 9


def test_ckks_decrypts_to_the_vector_and_counts_what_it_serialises() -> None:
    pytest.importorskip("tenseal")
    from mimo_fed.bench.ckks import CHAINS, SLOTS, CkksRun

    run = CkksRun(VECTOR_D, CHAINS["ckks"])
    cipher = run.encrypt(VECTOR_D[:SLOTS])
    assert np.abs(np.array(cipher.decrypt()) - VECTOR_D[:SLOTS]).max() < 1e-4
    assert set(run()) == {"encrypt", "serialize"}
    assert run.num_bytes > 1.9 * len(cipher.serialize())


def test_a_package_that_is_missing_is_named_and_the_others_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    monkeypatch.delitem(sys.modules, "mimo_fed.bench.ckks", raising=False)
    found, skipped = find_comparators(VECTOR_D)
    assert "tenseal" in skipped["ckks"]
    assert {"ideal_32", "ideal_96"} <= {comparator.key for comparator in found}


def test_ratios_say_how_often_ours_goes_into_theirs() -> None:
    pytest.importorskip("flwr")
    [flower_8] = [c for c in find_comparators(VECTOR_D)[0] if c.key == "flower_8"]
    parts = {"setup": [1.0, 1.0, 1.0], "mask": [6.0, 4.0, 5.0], "quantize": [0.5, 4.5, 1.5]}
    flower_8.piece.run()
    client = {"s": 0.5, "masking_s": 0.25, "quantize_s": 1.0, "bytes": 20_000}
    entry = flower_8.entry({flower_8.piece.name: Samples(parts=parts)}, client)
    assert entry["client_time_ratio"] == 12.0
    assert entry["masking_time_ratio"] == 20.0
    assert entry["with_quantizing_ratio"] == 5.0
    assert entry["bytes_ratio"] == entry["bytes"] / 20_000 > 2
