"""What the efficiency bench times is what it says."""

import jax
import numpy as np
import pytest
import tiny

from experiments.baselines import autoregressive, ways
from experiments.baselines.ways import Cell
from experiments.benches import efficiency
from fv_jax.config.model import PRESETS
from fv_jax.sequence.vocab import FREE

CELL = Cell(pixels=16, frames=5, batch=2)  # 2x2 ids a frame
LAYOUT = ways.sequence(CELL, text_tokens=3, codes=400)  # 8 tokens a block
NETWORK = PRESETS["tiny"]


def test_three_lengths_tell_the_cost_of_all_when_it_is_a_parabola():
    cost = lambda n: 3.0 + 0.5 * n + 0.25 * n**2
    points, ids = np.asarray([10, 40, 90]), np.asarray([10, 12, 40, 55, 90])
    weights = sum(ways._lagrange(points, n) for n in ids)
    assert weights @ cost(points) == pytest.approx(cost(ids).sum())


def ends():
    starts = autoregressive.part_starts(LAYOUT, CELL.frames)
    return autoregressive.part_ends(LAYOUT, starts)


@pytest.fixture(scope="module")
def ours():
    return ways.RetNets(NETWORK, LAYOUT)


def test_ours_makes_every_frame(ours):
    way = ours.in_turn(CELL)
    ((weight, call),) = way.calls
    tokens, _, counts = call()
    assert tokens.shape == (2, 5 * LAYOUT.stride)
    assert not (np.asarray(tokens) == FREE).any()
    assert weight == 1
    assert counts.steps == way.steps == 5 * LAYOUT.stride
    again, _, _ = call()  # the state is made anew
    np.testing.assert_array_equal(again, tokens)


def test_key_frames_and_gaps_are_all_frames(ours):
    way = ours.inserted(CELL)
    first, then = (np.asarray(call()[0]) for _, call in way.calls)
    assert first.shape == (2, 2 * LAYOUT.stride)
    assert then.shape == (2, (2 + 3) * LAYOUT.stride)
    assert first.shape[1] + then.shape[1] - 2 * LAYOUT.stride == way.steps == 5 * LAYOUT.stride


def test_windows_over_known_tokens_are_kept_whole(ours):
    keys, gaps, before = (call() for _, call in ours.windows(CELL, (4, 2)).calls)
    assert keys[2].steps == 2 * LAYOUT.stride / 4
    assert gaps[2].steps == 3 * LAYOUT.stride / 2
    assert before[2].steps == 0


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (ways.transformer_with_cache, 1.0),
        (ways.transformer_without_cache, None),
        (ways.masked_transformer, 12.0),
        pytest.param(ways.pixel_diffusion, 256.0, marks=pytest.mark.slow),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_baselines_run_and_have_our_parameters(make, part, ours):
    way = make(NETWORK, LAYOUT, CELL)
    assert abs(way.parameters / ours.size - 1) <= 0.05
    if part is None:  # weights of a few ids add up to all of them
        *ids, (_, nothing) = way.calls
        assert sum(weight for weight, _ in ids) == pytest.approx(5 * 4)
        assert sum(weight for weight, _ in way.calls) == pytest.approx(len(ends()))
        np.testing.assert_array_equal(nothing() == FREE, False)
    else:
        assert [weight for weight, _ in way.calls] == [part]
    for _, call in way.calls:
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(call()))


def test_what_would_take_too_long_is_foreseen_from_a_smaller_cell():
    took = {"pixels": 64, "frames": 5, "batch": 1, "ways": {"MaskGIT": {"longest_call": 1.0}}}
    guess = lambda *cell: efficiency._expected("MaskGIT", Cell(*cell), [took])
    assert guess(64, 5, 1) == 1
    assert guess(128, 5, 1) == 16
    assert guess(64, 5, 16) == 16
    assert efficiency._expected("other", Cell(64, 5, 1), [took]) == 0


def test_a_cell_has_medians_and_means_of_three_trials(monkeypatch):
    times = lambda calls, repeats, warm: {call: [1.0, 2.0, 6.0] for call in calls}
    monkeypatch.setattr(efficiency, "times_in_turns", times)
    monkeypatch.setattr(efficiency, "_shipped", tiny.generator)
    way = lambda calls: ways.Way([(1.0, lambda: 0)] * calls, parameters=1, steps=5, step_bytes=1)
    made = {"RetNet, in turn": lambda: way(1), efficiency.WINDOWED: lambda: way(3)}
    monkeypatch.setattr(efficiency, "_ways", lambda preset, cell: made.items())
    kept = [
        {"window": window, "inherit": 0.0, "key frames": 2.0, "inserted": 4.0}
        for window in efficiency._windows(2)
    ]
    cell = Cell(pixels=16, frames=5, batch=1)
    preset = efficiency.Preset(NETWORK, 3, 400, (cell,))
    rows = efficiency._measure(preset, cell, kept, 5.0, [])["ways"]
    for row in rows.values():
        assert row["mean_seconds_per_frame"] == pytest.approx(1.5 * row["seconds_per_frame"])
    assert rows["RetNet, in turn"]["seconds_per_frame"] == pytest.approx(2.0 / 5)
