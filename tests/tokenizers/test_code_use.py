"""A tokenizer is alive if its ids say something."""

import numpy as np
import pytest

from fv_jax.tokenizers.code_use import CodeUse


def test_codes_are_counted_over_all_parts():
    use = CodeUse.of([np.asarray([[0, 1]]), np.asarray([2, 3, 3, 3], np.uint16)], 50)
    assert (use.codebook, use.used) == (50, 4)
    shares = np.asarray([1, 1, 1, 3]) / 6
    assert use.perplexity == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert use.bits == pytest.approx(np.log2(use.perplexity))


@pytest.mark.parametrize("used", [4, 7, 50])
def test_codes_that_are_used_alike_count_whole(used):
    assert CodeUse.of([np.arange(used)], 50).perplexity == pytest.approx(used)


@pytest.mark.parametrize(
    ("ids", "codebook", "alive"),
    [
        (np.zeros(500, int), 1000, False),  # one code for everything
        (np.arange(19), 1000, False),
        (np.arange(20), 1000, True),  # 2% of the codes
        (np.arange(3), 36, False),  # enough of so few codes, but they say nothing
        (np.arange(4), 36, True),
        (np.r_[np.zeros(10_000, int), np.arange(100)], 1000, False),  # hardly ever another
        (np.zeros(0, int), 1000, True),  # nobody knows
    ],
)
def test_few_codes_or_one_that_is_nearly_all_are_a_problem(ids, codebook, alive):
    problem = CodeUse.of([ids], codebook).problem
    assert bool(problem) is not alive
    if problem:
        assert f"of {codebook} codes in use" in problem


def test_few_codes_that_say_something_are_not_called_dead(tmp_path):
    few = CodeUse.of([np.arange(150)], 9600)  # as very dark clips have, at 40 dB
    assert not few.is_dead
    assert "150 of 9600 codes in use, perplexity 150 (want 192 and 4)" in few.warning(tmp_path)
    assert "--force goes on" in few.warning(tmp_path)
    assert "dead" not in few.warning(tmp_path)
    dead = CodeUse.of([np.zeros(50, int)], 9600)
    assert dead.is_dead
    assert "is a dead tokenizer" in dead.warning(tmp_path)
    nobody_knows = CodeUse.of([np.zeros(0, int)], 9600)
    assert not nobody_knows.is_dead
    assert not nobody_knows.warning(tmp_path)
