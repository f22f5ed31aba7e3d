"""Gaps filled by the sampler: one call a level, rows of A, B and the inserted frames."""

import dataclasses

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
from fv_jax.sequence.vocab import FREE, Vocab


class Recorder(Engine):
    """Samples 0 everywhere, and remembers what it was asked."""

    def __init__(self, model):
        super().__init__(model, tiny.STEP_TIME)
        self.calls, self.left_out = [], []

    def start(self, sampler, keys):
        return keys

    def decode(self, state, sampler, stats, *, tokens, guesses, order, left_out, look):
        self.calls.append((state, sampler, tokens, guesses))
        self.left_out.append(left_out)
        codes = unpack(tokens, sampler.sequence)[2]
        return np.where(codes < 0, 0, codes), state


def run(options, frames=None, model=None, **more):
    model = model or tiny.model()
    frames = tiny.video(3) if frames is None else frames
    plan = plan_interpolation(model, frames, seed=5, options=options)
    engine, ids = Recorder(model), model.frames.encode_clips([frames])[0]
    (video,) = interpolate(engine, plan, [VideoIds.of_key_frames(ids)], Stats(), **more)
    run.left_out = engine.left_out
    return video, engine.calls, ids


def test_a_level_is_one_call_whose_rows_are_a_b_and_the_inserted_frames():
    video, calls, ids = run(Options(insert=3, inherit=1.0))
    assert len(calls) == 1
    keys, sampler, tokens, guesses = calls[0]
    assert keys == [(5, BETWEEN, 0, 0), (5, BETWEEN, 0, 1)]
    assert sampler.guidance == 1.0
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


def model_that_skips(whole, **changes):
    model = tiny.model()
    return dataclasses.replace(
        model, config=dataclasses.replace(model.config, skip=whole, **changes)
    )


@pytest.mark.parametrize("whole", [1, 2])
def test_what_frames_inherit_is_left_out_of_what_the_network_reads(whole):
    for options in (Options(insert=3, inherit=0.0), Options(insert=3, skip=False)):
        run(options, model=model_that_skips(whole))
        assert run.left_out == [None]
    video, calls, _ = run(Options(insert=3, inherit=1.0), model=model_that_skips(whole))
    (left_out,) = run.left_out
    sequence = tiny.sequence()
    blocks = left_out.reshape(2, 5, sequence.stride)
    assert not blocks[:, :, : sequence.header].any()
    assert not blocks[:, :whole].any()
    inherited = video.inherited.reshape(len(video.ids), -1)
    for gap in range(2):
        for frame in range(3):
            np.testing.assert_array_equal(
                blocks[gap, 2 + frame, sequence.header :], inherited[4 * gap + 1 + frame]
            )
        if whole == 1:  # at inherit 1 all that is stable, of B as of what is inserted
            np.testing.assert_array_equal(blocks[gap, 1], blocks[gap, 2])
    assert not (left_out & (calls[0][2] == FREE)).any()


def test_levels_of_several_numbers_are_batches_of_their_own_length():
    video, made, ids = run(Options(insert=(3, 1)))
    assert [len(state) for state, *_ in made] == [2, 8]
    assert [tokens.shape[1] // tiny.sequence().stride for _, _, tokens, *_ in made] == [5, 3]
    assert len(video.ids) == 2 * 4 * 2 + 1
    np.testing.assert_array_equal(video.ids[::8], ids)
    # A later part's gaps are numbered as in the whole, at every level.
    _, part, _ = run(Options(insert=(3, 1)), tiny.video(3)[1:], first_gap=1)
    assert [state for state, *_ in part] == [made[0][0][1:], made[1][0][4:]]


def test_blocks_name_the_gaps_that_a_level_fills():
    sequence = dataclasses.replace(tiny.sequence(), gaps=(2, 4))
    network = dataclasses.replace(tiny.model().config.network, slots=sequence.stride)
    model = model_that_skips(0, sequence=sequence, network=network)
    _, made, _ = run(Options(insert=(1, 1)), model=model)
    for (_, _, tokens, *_), name in zip(made, (1, 0)):
        headers = tokens.reshape(len(tokens), -1, sequence.stride)[:, :, sequence.text_tokens]
        assert (headers == Vocab(sequence).gap_start + name).all()
