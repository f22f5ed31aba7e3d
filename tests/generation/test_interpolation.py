"""Gaps filled by the sampler: one call a level, rows of A, B and the inserted frames."""

import numpy as np
import pytest
import tiny

from fv_jax.config.model import Options
from fv_jax.generation.engine import BETWEEN, Engine
from fv_jax.generation.gaps import VideoIds
from fv_jax.generation.interpolation import interpolate
from fv_jax.generation.plan import plan_interpolation
from fv_jax.generation.stats import Stats
from fv_jax.sequence.packing import unpack
from fv_jax.sequence.vocab import FREE


class Recorder(Engine):
    """Samples 0 everywhere, and remembers what it was asked."""

    def __init__(self, model):
        super().__init__(model, tiny.STEP_TIME)
        self.calls = []

    def start(self, sampler, keys):
        return keys

    def decode(self, state, sampler, stats, *, tokens, guesses, read=0, prefix=0):
        self.calls.append((state, sampler, tokens, guesses, prefix))
        codes = unpack(tokens, sampler.sequence)[2]
        return np.where(codes < 0, 0, codes), state


def run(options, frames=None, **more):
    model = tiny.model()
    frames = tiny.video(3) if frames is None else frames
    plan = plan_interpolation(model, frames, seed=5, options=options)
    engine, ids = Recorder(model), model.frames.encode_clips([frames])[0]
    (video,) = interpolate(engine, plan, [VideoIds.of_key_frames(ids)], Stats(), **more)
    return video, engine.calls, ids


def test_a_level_is_one_call_whose_rows_are_a_b_and_the_inserted_frames():
    video, calls, ids = run(Options(insert=3, inherit=1.0))
    assert len(calls) == 1
    keys, sampler, tokens, guesses, prefix = calls[0]
    assert keys == [(5, BETWEEN, 0, 0), (5, BETWEEN, 0, 1)]
    assert (sampler.guidance, prefix) == (1.0, 2)
    _, serials, codes = unpack(tokens, sampler.sequence)
    assert serials == [1, 5, 2, 3, 4]
    np.testing.assert_array_equal(codes[:, 0], ids[:2].reshape(2, -1))
    np.testing.assert_array_equal(codes[:, 1], ids[1:].reshape(2, -1))
    known = video.inherited[[1, 2, 3]].reshape(3, -1)
    np.testing.assert_array_equal(tokens[0].reshape(5, -1)[2:, -16:] != FREE, known)
    assert (guesses >= 0).any()
    np.testing.assert_array_equal(video.ids[::4], ids)
    assert not run(Options(insert=3, drafts=False))[1][0][3].max() >= 0


@pytest.mark.parametrize(("insert", "levels", "calls"), [(1, 2, 2), (0, 1, 0), (3, 0, 0)])
def test_levels_are_filled_one_after_the_other(insert, levels, calls):
    video, made, ids = run(Options(insert=insert, levels=levels))
    assert len(made) == calls
    assert len(video.ids) == 2 * (insert + 1) ** (levels if insert else 0) + 1
    assert [len(state) for state, *_ in made] == [2, 4][:calls]
    np.testing.assert_array_equal(video.ids[video.key_frame], ids)


def test_gaps_of_a_later_part_draw_as_in_the_whole():
    _, whole, _ = run(Options(insert=1))
    frames = tiny.video(3)
    _, part, _ = run(Options(insert=1), frames[1:], first_gap=1)
    assert part[0][0] == whole[0][0][1:]
