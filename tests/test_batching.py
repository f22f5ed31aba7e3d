import numpy as np
import pytest

from fv_jax.batching import batched, filled


def test_rows_are_filled_up_with_the_last_one():
    assert filled(["a", "b"], 4) == ["a", "b", "b", "b"]
    assert filled(["a", "b"], 2) == ["a", "b"]
    assert np.array_equal(filled(np.arange(4).reshape(2, 2), 3), [[0, 1], [2, 3], [2, 3]])


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_a_function_sees_one_shape_and_its_results_are_those_of_the_rows(count):
    shapes = set()

    def doubled(rows):
        shapes.add((rows.shape, rows.dtype))
        return rows[:, 0] * 2

    inputs = np.arange(count * 2, dtype=np.uint8).reshape(count, 2)
    outputs = batched(doubled, inputs, 3)
    assert shapes == {((3, 2), np.dtype(np.uint8))}
    assert outputs.shape == (count,)
    assert np.array_equal(outputs, inputs[:, 0] * 2)
