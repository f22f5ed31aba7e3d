"""How wide a window is chosen."""

import pytest

from fv_jax.sampling.window_size import WIDEST, window_size


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu", "something new"])
def test_more_rows_take_narrower_windows_and_none_less_than_one_token(platform):
    widths = [window_size(rows, platform) for rows in (1, 2, 8, 64, 1000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 1
    assert 1 < widths[0] <= WIDEST


def test_accelerators_take_wider_ones_than_cpus():
    assert window_size(4, "gpu") > window_size(4, "cpu")
