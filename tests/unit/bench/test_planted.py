from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mimo_fed.adapter import GlobalAdapter, prefix
from mimo_fed.aggregate import ServerState, advance
from mimo_fed.bench.planted import Settings, judge, run, settings_of
from mimo_fed.bench.planted_arms import arms, num_floats
from mimo_fed.bench.planted_show import show, write_plot
from mimo_fed.bench.planted_task import MODULE, SHAPES, Client, Shape, Thin, make_task
from mimo_fed.bench.planted_train import gradient_of, train
from mimo_fed.bench.progress import Bar
from mimo_fed.config import Phase, ScheduleConfig, ServerConfig

TINY = Shape(
    out=24, inp=20, num_clients=6, inputs=(40, 60), drawn=True, rounds=16, num_steps=5, rates=(0.01, 0.02)
)
PHASES: tuple[Phase, ...] = ("B", "A", "M", "AB")


def moved(seed: int = 3) -> GlobalAdapter:
    """An adapter that is neither zero nor canonical."""
    spec = make_task(TINY, 0).spec
    rng = np.random.default_rng(seed)
    zero = GlobalAdapter.zero(spec)
    values = {n: rng.normal(size=x.shape).astype(np.float32) * 0.3 for n, x in zero.values("M").items()}
    return zero.with_values("M", values)


def loss(adapter: GlobalAdapter, client: Client) -> float:
    left, core, right = adapter.left[MODULE], adapter.core[MODULE], adapter.right[MODULE]
    missed = left.astype(np.float64) @ core @ right - client.tall.astype(np.float64) @ client.wide
    if client.inputs is None:
        return float((np.square(missed) * client.squares).sum() / 2)
    return float(np.square(missed @ client.inputs.T).sum() / 2 / len(client.inputs))


def test_the_norm_of_a_thin_product_is_that_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    one = Thin(rng.normal(size=(9, 3)), rng.normal(size=(3, 7)))
    other = Thin(rng.normal(size=(9, 2)), rng.normal(size=(2, 7)))
    whole = one.tall @ one.wide - other.tall @ other.wide
    assert one.minus(other).norm() == pytest.approx(np.linalg.norm(whole))
    singular = np.linalg.svd(whole)[1]
    assert one.minus(other).tail(2) == pytest.approx(np.linalg.norm(singular[2:]))


def test_the_wanted_adapter_is_the_weighted_mean_of_the_teachers() -> None:
    task = make_task(TINY, 4)
    assert len({client.weight for client in task.clients}) > 1
    mean = np.average(
        [c.tall @ c.wide for c in task.clients], axis=0, weights=[c.weight for c in task.clients]
    )
    np.testing.assert_allclose(task.wanted.tall @ task.wanted.wide, mean, atol=1e-6)
    alone = make_task(replace(TINY, num_clients=1), 4)
    assert alone.floor < 1e-6 < task.floor  # rank 8 + 4 + 2 fits into 16; six such do not


def test_many_teachers_do_not_fit_into_one_adapter() -> None:
    task = make_task(TINY, 4)
    u, singular, vt = np.linalg.svd(task.wanted.tall @ task.wanted.wide)
    best = (u[:, :16] * singular[:16]) @ vt[:16]
    rank = task.spec.config.rank
    adapter = GlobalAdapter.zero(task.spec)
    right = {MODULE: np.ascontiguousarray(vt[:rank], np.float32)}
    core = {MODULE: np.diag(singular[:rank]).astype(np.float32)}
    left = {MODULE: np.ascontiguousarray(u[:, :rank], np.float32)}
    error = task.error(replace(adapter, left=left, core=core, right=right))
    assert error == pytest.approx(task.floor, rel=1e-3)
    assert error == pytest.approx(
        np.linalg.norm(best - u @ np.eye(24, 20) * singular @ vt) / task.wanted.norm()
    )


@pytest.mark.parametrize("skew", [0.0, 0.8])
def test_endless_inputs_are_the_limit_of_drawn_ones(skew: float) -> None:
    drawn = make_task(replace(TINY, inputs=(60_000, 60_000), num_clients=2), 1, skew=skew).clients
    for client in drawn:
        endless = replace(client, inputs=None).wide_spread
        np.testing.assert_allclose(client.wide_spread, endless, atol=0.05 * np.abs(endless).max())
    one, two = (client.squares for client in drawn)
    assert one.mean() == pytest.approx(1, rel=1e-5)
    assert (np.abs(one - two).max() > 0.5) == (skew > 0)


@pytest.mark.parametrize("drawn", [True, False])
@pytest.mark.parametrize("phase", PHASES)
def test_the_gradient_is_that_of_the_loss(phase: Phase, drawn: bool) -> None:
    adapter, client = moved(), make_task(replace(TINY, drawn=drawn), 0, skew=0.5).clients[0]
    values = adapter.values(phase)
    slopes = gradient_of(adapter, phase, client)(values)
    rng = np.random.default_rng(1)
    way = {name: rng.normal(size=value.shape) for name, value in values.items()}
    ahead, behind = (
        loss(adapter.with_values(phase, {n: v + step * way[n] for n, v in values.items()}), client)
        for step in (1e-2, -1e-2)
    )
    wanted = sum(float(np.sum(slopes[name] * way[name])) for name in way)
    # the loss is quadratic in each factor; of AB the central difference has a term of the step's square
    assert (ahead - behind) / 2e-2 == pytest.approx(wanted, rel=2e-2 if phase == "AB" else 1e-3)


@pytest.mark.parametrize("phase", PHASES)
def test_training_moves_the_prefix_alone_and_lowers_the_loss(phase: Phase) -> None:
    adapter, client = moved(), make_task(TINY, 0).clients[0]
    values = train(adapter, phase, [client], rank=8, rate=0.01, num_steps=5)
    for part in adapter.spec.parts(phase):
        change = values[part.name] - adapter.values(phase)[part.name]
        assert np.count_nonzero(change) == prefix(part, change, 8).size
        assert prefix(part, change, 8).all()
    assert loss(adapter.with_values(phase, values), client) < loss(adapter, client)


def test_one_client_of_full_rank_gets_what_it_trained() -> None:
    """Then there is nothing to average: the arm is the client's own training, phase after phase."""
    shape = replace(TINY, num_clients=1, rounds=2)
    task = make_task(shape, 0)
    client = replace(task.clients[0], rank=16)
    task = replace(task, clients=(client,))
    points = arms(ScheduleConfig(cycle="BA"))["default"].run(task, shape, 0.02)
    adapter = GlobalAdapter.zero(task.spec)
    b = train(adapter, "B", [client], 16, 0.02, shape.num_steps)
    adapter = adapter.with_values("B", b).canonical()
    a = train(adapter, "A", [client], 16, 0.02, shape.num_steps)
    assert points[-1].error == pytest.approx(task.error(adapter.with_values("A", a)), rel=1e-4)


def test_a_round_without_movement_changes_no_error() -> None:
    task = make_task(TINY, 0)
    zero = GlobalAdapter.zero(task.spec)
    after = advance(
        zero, "B", {}, state=ServerState.empty("B"), config=ServerConfig(), next_phase="A"
    ).adapter
    assert task.error(zero) == pytest.approx(1.0)
    assert task.error(after) == pytest.approx(1.0)


def test_all_arms_run_and_the_document_says_how_they_did(tmp_path: Path) -> None:
    with Bar(Console(file=StringIO())) as bar:
        document = run(Settings(shape=TINY, seeds=(0,)), bar)
    entries = document["arms"]
    assert set(entries) == {"fedit", "b", "default", "spare", "m", "sketch", "oracle"}
    spec = make_task(TINY, 0).spec
    assert entries["fedit"]["floats_per_round"] == num_floats(spec, "AB") == 16 * (24 + 20)
    assert entries["m"]["floats_per_round"] == 256
    assert entries["spare"]["floats_per_round"] == (16 * 24 + 16 * 20 + 6 * 256) / 8
    assert entries["sketch"]["floats_per_round"] == 20 * (24 + 20)
    assert (
        document["floor"] <= entries["oracle"]["error"] < entries["default"]["error"] < entries["b"]["error"]
    )
    assert entries["spare"]["error"] < entries["m"]["error"]
    assert set(entries["default"]["tuning"]) == {"0.01", "0.02"}
    assert entries["default"]["curve"][-1] == [16 * (24 + 20) * 8, entries["default"]["error"]]
    said = StringIO()
    show(document, Console(file=said, width=100))
    assert "default cycle" in said.getvalue()
    write_plot(document, tmp_path / "planted.svg")
    assert "default cycle" in (tmp_path / "planted.svg").read_text()


def test_two_cycles_are_judged_against_the_best_of_the_exact_ones() -> None:
    entries = {
        "fedit": {"error": 0.01, "floats_per_round": 1.0},
        "b": {"error": 0.5, "floats_per_round": 100.0},
        "default": {"error": 0.1, "floats_per_round": 100.0},
        "m": {"error": 0.9, "floats_per_round": 10.0},
        "spare": {"error": 0.13, "floats_per_round": 40.0},
    }
    goals = judge(entries)
    assert [goal["measured"] for goal in goals] == pytest.approx([0.1 / 0.13, 2.5, 1.3, 0.4])
    assert [goal["met"] for goal in goals] == [True, False, False, True]


def test_rates_are_chosen_on_other_tasks() -> None:
    shape = replace(TINY, rounds=3)
    named = settings_of("small", (0, 1), 0.0, ScheduleConfig())
    assert named.shape is SHAPES["small"]
    with Bar(Console(file=StringIO())) as bar:
        entry = run(replace(named, shape=shape, num_tune=2), bar)["arms"]["default"]
    ba = arms(ScheduleConfig())["default"]

    def errors(rate: float, *seeds: int) -> list[float]:
        return [ba.run(make_task(shape, seed), shape, rate)[-1].error for seed in seeds]

    assert entry["errors"] == pytest.approx(errors(entry["rate"], 0, 1), rel=1e-3)
    for rate in shape.rates:
        assert entry["tuning"][f"{rate:g}"] == pytest.approx(np.mean(errors(rate, 1001, 1002)), rel=1e-3)
