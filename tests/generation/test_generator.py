"""Text to video with random weights: what a clip holds, what its seed decides, what is refused."""

import dataclasses

import numpy as np
import pytest
import tiny

from fv_jax.config.model import Options
from fv_jax.generation.engine import Engine
from fv_jax.generation.generator import Generator
from fv_jax.generation.skip_mask import regions
from fv_jax.media.clip import Clip
from fv_jax.sequence.packing import unpack
from fv_jax.sequence.vocab import FREE, Vocab

# 3 key frames at 2 fps, 3 frames put between: 9 frames at 8 fps. All tests share its samplers.
OPTIONS = Options(insert=3, inherit=0.3, window=4)
KEY_FRAMES_ONLY = Options(insert=0)


@pytest.fixture(scope="module")
def clips(generator):
    return generator.generate(tiny.PROMPTS, seed=40, options=OPTIONS)


def assert_same_video(a: Clip, b: Clip):
    for name in ("frames", "ids", "key_frame", "inherited"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_clip_holds_what_it_says(clips):
    for clip, prompt, seed in zip(clips, tiny.PROMPTS, (40, 41)):
        assert (clip.prompt, clip.seed, clip.fps) == (prompt, seed, 8.0)
        assert (clip.frames.shape, clip.frames.dtype) == ((9, 64, 64, 3), np.uint8)
        assert (clip.ids.shape, clip.ids.dtype) == ((9, 4, 4), np.int32)
        assert (clip.key_frame.shape, clip.key_frame.dtype) == ((9,), bool)
        assert (clip.inherited.shape, clip.inherited.dtype) == ((9, 4, 4), bool)
        assert 0 <= clip.ids.min() <= clip.ids.max() < 36
        np.testing.assert_array_equal(np.flatnonzero(clip.key_frame), [0, 4, 8])


def test_pixels_are_the_decoded_ids(clips):
    for clip in clips:
        np.testing.assert_array_equal(clip.frames, tiny.frames().decode(clip.ids))


@pytest.mark.parametrize("window", [1, 2])
def test_the_window_changes_no_id(generator, clips, window):
    options = dataclasses.replace(OPTIONS, window=window)
    for clip, again in zip(clips, generator.generate(tiny.PROMPTS, seed=40, options=options)):
        assert_same_video(again, clip)
        assert again.stats["steps"] != clip.stats["steps"]


def test_stats_count_every_token(clips):
    stats = clips[0].stats
    stride = tiny.sequence().stride
    inherited = sum(int(clip.inherited.sum()) for clip in clips)
    inserted = 2 * 6 * 16  # videos, frames, ids
    assert stats["videos"] == 2
    assert stats["sampled"] == 2 * 3 * 16 + inserted - inherited
    headers = 2 * 3 * 10 + 4 * (2 * stride + 3 * 10)
    assert stats["forced"] == headers + inherited
    # All gaps at once; a step takes at least one token of every row and at most the window.
    assert (3 + 3) * stride / 4 <= stats["steps"] <= (3 + 3) * stride
    assert 0 <= stats["accepted"] <= stats["drafted"] <= stats["sampled"]
    assert set(stats["seconds"]) == {"compile", "sample", "decode"}


@pytest.mark.parametrize(
    ("options", "frames", "fps"),
    [
        (KEY_FRAMES_ONLY, 3, 2.0),
        (Options(insert=3, levels=0), 3, 2.0),
        (Options(), 9, 8.0),  # the most that the model was trained to insert
        (Options(key_frames=1), 1, 8.0),
    ],
)
def test_number_of_frames_and_their_rate(generator, options, frames, fps):
    clip = generator.generate(tiny.PROMPTS, options=options)[1]
    assert len(clip.frames) == frames
    assert clip.fps == fps


def test_levels_multiply_frames_and_rate(generator):
    options = Options(insert=1, levels=2)
    clip = generator.interpolate(tiny.video(2), fps=5.0, options=options)
    assert len(clip.frames) == 5
    assert clip.fps == 20.0
    np.testing.assert_array_equal(np.flatnonzero(clip.key_frame), [0, 4])


def test_a_seed_decides_its_video_whatever_the_batch(generator, clips):
    again = generator.generate(tiny.PROMPTS[::-1], seed=[41, 40], options=OPTIONS)
    assert_same_video(again[1], clips[0])
    assert_same_video(again[0], clips[1])
    (alone,) = generator.generate(tiny.PROMPTS[:1], seed=40, options=OPTIONS)
    assert_same_video(alone, clips[0])


def test_other_seeds_and_prompts_give_other_videos(generator, clips):
    same_prompt = generator.generate([tiny.PROMPTS[0]] * 2, seed=40, options=OPTIONS)
    assert_same_video(same_prompt[0], clips[0])
    assert (same_prompt[1].ids != clips[0].ids).any()
    assert (same_prompt[1].ids != clips[1].ids).any()


def test_key_frames_do_not_depend_on_what_is_put_between(generator, clips):
    keys = generator.generate(tiny.PROMPTS, seed=40, options=KEY_FRAMES_ONLY)
    for clip, key in zip(clips, keys):
        np.testing.assert_array_equal(clip.ids[clip.key_frame], key.ids)


def test_inherited_ids_are_stable_and_equal_both_key_frames(clips):
    for clip in clips:
        for frame in np.flatnonzero(~clip.key_frame):
            a, b = clip.ids[frame // 4 * 4], clip.ids[frame // 4 * 4 + 4]
            mask = clip.inherited[frame]
            assert not (mask & ~regions(a, b).stable).any()
            np.testing.assert_array_equal(clip.ids[frame][mask], a[mask])
        assert not clip.inherited[clip.key_frame].any()


@pytest.mark.parametrize("inherit", [0.0, 1.0])
def test_inherit_1_copies_all_that_is_stable_and_0_nothing(generator, inherit):
    clip = generator.interpolate(
        tiny.video(3, seed=2), seed=3, options=Options(insert=3, inherit=inherit)
    )
    copied = 0
    for frame in np.flatnonzero(~clip.key_frame):
        a, b = clip.ids[frame // 4 * 4], clip.ids[frame // 4 * 4 + 4]
        stable = regions(a, b).stable
        np.testing.assert_array_equal(clip.inherited[frame], stable & (inherit == 1))
        copied += int(stable.sum())
    assert copied > 0


def test_temperature_0_gives_one_video_for_all_seeds(generator):
    greedy = Options(insert=0, temperature=0.0)
    one, two = generator.generate([tiny.PROMPTS[0]] * 2, seed=1, options=greedy)
    np.testing.assert_array_equal(one.ids, two.ids)


@pytest.mark.parametrize("count", [1, 3])
def test_first_frames_are_kept_as_the_first_key_frames(generator, count):
    first = tiny.video(count)
    ids = tiny.frames().encode_clips([first])[0]
    clips = generator.generate(tiny.PROMPTS, options=KEY_FRAMES_ONLY, first_frames=first)
    for clip in clips:
        assert len(clip.ids) == 3
        np.testing.assert_array_equal(clip.ids[:count], ids)
        np.testing.assert_array_equal(clip.frames[:count], tiny.frames().decode(ids))


def test_first_frames_of_each_prompt_are_as_if_it_were_alone(generator):
    first = np.stack([tiny.video(1, seed) for seed in range(2)])
    clips = generator.generate(
        tiny.PROMPTS, seed=7, options=KEY_FRAMES_ONLY, first_frames=first
    )  # fmt: skip
    for i, clip in enumerate(clips):
        same = generator.generate(
            tiny.PROMPTS, seed=7, options=KEY_FRAMES_ONLY, first_frames=first[i]
        )
        np.testing.assert_array_equal(clip.ids, same[i].ids)


class KeepingEngine(Engine):
    """Keeps what it is asked to decode; compiles nothing that `tiny.generator` has compiled."""

    def __init__(self):
        super().__init__(tiny.model_of_five(), tiny.STEP_TIME)
        self.calls, self._compiled = [], tiny.generator().engine._compiled

    def decode(self, *args, **more):
        self.calls.append(more)
        return super().decode(*args, **more)


class Given(Generator):
    """Begins with ids that are given here, whatever the frames show."""

    def __init__(self, ids):
        self.ids, engine = ids, KeepingEngine()
        super().__init__(engine.model, engine)
        self.calls = engine.calls

    def _given(self, plan, stats):
        return np.broadcast_to(self.ids, (len(plan.requests), *self.ids.shape))

    def five(self, options=OPTIONS):
        return self.generate(tiny.PROMPTS[:1], seed=3, options=options, given_frames=tiny.video(5))[
            0
        ]


@pytest.fixture(scope="module")
def given():
    return np.random.default_rng(0).integers(0, 36, (5, 16))


def test_five_given_frames_are_in_the_row_and_in_the_clip_as_they_are_given(given):
    maker = Given(given)
    clip = maker.five()
    keys = maker.calls[0]
    sequence = tiny.sequence()
    _, serials, frames = unpack(keys["tokens"][:, : 5 * sequence.stride], sequence)
    assert serials == [1, 5, 2, 3, 4]
    np.testing.assert_array_equal(frames[0], given[[0, 4, 1, 2, 3]])
    assert keys["tokens"].shape[1] == 6 * sequence.stride
    last = keys["tokens"][0, 5 * sequence.stride :]
    assert last[sequence.text_tokens] == Vocab(sequence).serial(3)
    assert (last[sequence.text_tokens + 1 :] == FREE).all()
    assert clip.ids.shape == (9, 4, 4)
    np.testing.assert_array_equal(clip.ids[:5].reshape(5, 16), given)
    np.testing.assert_array_equal(np.flatnonzero(clip.key_frame), [0, 4, 8])
    assert not clip.inherited[:5].any()
    twice = maker.five(Options(insert=3, levels=2))
    np.testing.assert_array_equal(twice.ids[:17:4].reshape(5, 16), given)
    np.testing.assert_array_equal(maker.five(KEY_FRAMES_ONLY).ids[:2].reshape(2, 16), given[::4])


@pytest.mark.parametrize("frame", range(5))
def test_each_of_five_given_frames_changes_what_is_generated(given, frame):
    other = given.copy()
    other[frame] = (other[frame] + 7) % 36
    # The key frame after them, which nothing but these and the text precedes.
    before, after = (Given(ids).five(KEY_FRAMES_ONLY).ids[2] for ids in (given, other))
    assert (before != after).any()


def test_given_frames_are_encoded_in_time_order_and_key_frames_are_taken_by_other_models(generator):
    five = tiny.video(5, seed=4)
    ids = tiny.frames().encode_clips([five])[0]
    whole = Generator(tiny.model_of_five(), generator.engine)
    (clip,) = whole.generate(tiny.PROMPTS[:1], options=OPTIONS, given_frames=five)
    np.testing.assert_array_equal(clip.ids[:5], ids)
    some = generator.generate(tiny.PROMPTS, options=KEY_FRAMES_ONLY, given_frames=five)
    same = generator.generate(tiny.PROMPTS, options=KEY_FRAMES_ONLY, first_frames=five[::4])
    for a, b in zip(some, same):
        assert_same_video(a, b)


def test_interpolation_keeps_the_given_frames_and_their_order(generator):
    frames = tiny.video(3, seed=5)
    clip = generator.interpolate(frames, prompt=tiny.PROMPTS[0], options=OPTIONS)
    assert (clip.prompt, clip.fps, len(clip.frames)) == (tiny.PROMPTS[0], 8.0, 9)
    np.testing.assert_array_equal(clip.ids[::4], tiny.frames().encode_clips([frames])[0])


def test_interpolation_without_text_differs_from_one_with(generator):
    frames = tiny.video(3, seed=5)
    named = generator.interpolate(frames, prompt=tiny.PROMPTS[0], options=OPTIONS)
    unnamed = generator.interpolate(frames, options=OPTIONS)
    assert unnamed.prompt == ""
    assert (named.ids != unnamed.ids).any()


def test_one_sampler_is_compiled_per_shape(generator, clips):
    before = len(generator.engine._compiled)
    again = generator.generate(tiny.PROMPTS, seed=7, options=OPTIONS)
    assert len(generator.engine._compiled) == before
    assert "compile" not in again[0].stats["seconds"]


def test_a_bfloat16_model_samples_in_float32_where_asked():
    model = tiny.model()
    network = dataclasses.replace(model.config.network, matmul_dtype="bfloat16")
    config = dataclasses.replace(model.config, network=network)
    low = Generator(dataclasses.replace(model, config=config))
    options = dataclasses.replace(OPTIONS, float32=True, window=4)
    assert low.engine_for(options).model == model
    assert low.engine_for(OPTIONS) is low.engine
    assert Generator(model).engine_for(options).model is model
    exact = low.generate(tiny.PROMPTS, seed=40, options=options)
    for clip, same in zip(exact, Generator(model).generate(tiny.PROMPTS, seed=40, options=options)):
        assert_same_video(clip, same)
