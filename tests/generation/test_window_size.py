"""How wide a window is chosen: by what a step costs, and by what it keeps."""

import numpy as np
import pytest
import tiny

from fv_jax.generation.window_size import (
    KEPT_BETWEEN,
    KEPT_KEY_FRAMES,
    StepTime,
    buffer_size,
    row_groups,
    window_size,
    without_guesses,
)

READS = StepTime(1e-3, 0.0)  # all of a step is what it reads, as on an accelerator
ADDS = StepTime(0.0, 1e-4)  # all of it is arithmetic
BETWEEN = StepTime(1e-3, 1e-4)


@pytest.mark.parametrize("kept", [KEPT_KEY_FRAMES, KEPT_BETWEEN])
@pytest.mark.parametrize("stride", [7, 77, 414])
def test_where_tokens_cost_nothing_a_window_is_as_wide_as_more_are_kept(stride, kept):
    assert window_size(READS, 1000, stride, kept) == stride
    assert window_size(ADDS, 1, stride, kept) == 1


def test_more_rows_take_narrower_windows():
    widths = [window_size(BETWEEN, rows, 77, KEPT_KEY_FRAMES) for rows in (1, 2, 8, 64, 1000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 1
    assert widths[0] == 8


def test_the_width_is_the_one_with_the_least_time_a_kept_token():
    for rows in (1, 2, 16, 100):
        cost = {w: BETWEEN(rows * w) / kept for w, kept in KEPT_KEY_FRAMES.items()}
        assert window_size(BETWEEN, rows, 77, KEPT_KEY_FRAMES) in cost
        best = min(cost, key=cost.__getitem__)
        assert cost[window_size(BETWEEN, rows, 77, KEPT_KEY_FRAMES)] <= cost[best]


def test_rows_that_are_alike_decode_together_where_a_token_costs_more_than_a_step():
    left, both = np.asarray([9, 1, 8, 2]), lambda groups: [sorted(g.tolist()) for g in groups]
    assert both(row_groups(left, StepTime(1.0, 0.0), 1)) == [[0, 1, 2, 3]]
    assert both(row_groups(left, StepTime(0.0, 1.0), 1)) == [[1], [3], [2], [0]]
    # Four tokens a step and one more for the step: 45 together, 28 in pairs, 40 one by one.
    assert both(row_groups(left, StepTime(1.0, 1.0), 1)) == [[1, 3], [0, 2]]
    assert both(row_groups(np.asarray([5, 5, 5]), StepTime(1.0, 1.0), 4)) == [[0, 1, 2]]


def test_without_guesses_only_headers_are_kept_together():
    sequence = tiny.sequence()  # 9 + 1 known, 16 to sample
    kept = without_guesses(sequence)
    assert kept[1] == 1
    assert kept[8] == 26 / (16 + 2)
    assert kept[sequence.stride] == 26 / 17


def test_two_measurements_make_a_line_and_none_falls():
    step = StepTime.between((1, 3e-3), (11, 8e-3))
    assert (step.a, step.b) == pytest.approx((2.5e-3, 5e-4))
    noisy = StepTime.between((1, 3e-3), (64, 2e-3))
    assert (noisy.a, noisy.b) == (3e-3, 0.0)
    assert StepTime.between((1, 1e-4), (2, 1e-2)).a == 0.0


def test_a_buffer_has_room_for_two_windows():
    assert buffer_size(4, "cpu") == 0
    assert all(buffer_size(window, "gpu") >= 2 * window for window in (1, 16, 100))
