"""How wide a window is chosen."""

import pytest

from fv_jax.generation.window_size import WIDEST, buffer_size, window_size


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu", "something new"])
def test_more_rows_take_narrower_windows_and_none_less_than_one_token(platform):
    widths = [window_size(rows, platform) for rows in (1, 2, 8, 64, 1000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 1
    assert 1 < widths[0] <= WIDEST


def test_a_buffer_has_room_for_two_windows():
    assert buffer_size(4, "cpu") == 0
    assert all(buffer_size(window, "gpu") >= 2 * window for window in (1, 16, 100))


def test_accelerators_take_wider_ones_than_cpus():
    assert window_size(4, "gpu") > window_size(4, "cpu")
