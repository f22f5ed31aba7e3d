"""What can be wrong with a request, said once and before anything is sampled."""

import dataclasses
import re

import numpy as np
import pytest
import tiny

from fv_jax.config.model import Options
from fv_jax.generation.plan import inserted, plan_interpolation, plan_videos, text_ids
from fv_jax.sequence.packing import pad_text

MODEL = tiny.model()
OPTIONS = Options(insert=3)


def test_a_plan_holds_what_will_be_made():
    plan = plan_videos(MODEL, tiny.PROMPTS, seed=4, options=Options(temperature=0.5, top_k=7))
    assert [(r.index, r.prompt, r.seed) for r in plan.requests] == [
        (0, tiny.PROMPTS[0], 4), (1, tiny.PROMPTS[1], 5),
    ]  # fmt: skip
    assert (plan.key_frames, plan.insert, plan.gaps, plan.skip) == (3, (3,), (0,), 0)
    assert (plan.fps, plan.video_fps) == (2.0, 8.0)
    assert (plan.key_policy.temperature, plan.key_policy.top_k) == (0.5, 7)
    assert (plan.insert_policy.temperature, plan.insert_policy.top_k) == (0.0, 7)
    assert plan.seeds == [4, 5]
    np.testing.assert_array_equal(plan.texts[1], text_ids(MODEL, tiny.PROMPTS[1]))
    assert not plan.notes
    assert not plan.refused


def test_a_part_of_a_plan_keeps_what_its_requests_are():
    first = np.stack([tiny.video(1, seed) for seed in range(2)])
    plan = plan_videos(MODEL, tiny.PROMPTS, first_frames=first)
    part = plan.part([1, 1])
    assert [r.index for r in part.requests] == [1, 1]
    np.testing.assert_array_equal(part.first_frames, first[[1, 1]])
    shared = plan_videos(MODEL, tiny.PROMPTS, first_frames=first[0]).part([1])
    np.testing.assert_array_equal(shared.first_frames, first[:1])


def test_prompts_that_cannot_be_used_are_left_out_where_others_can():
    prompts = ["", tiny.PROMPTS[0], "red " * 13, tiny.PROMPTS[1]]
    first = np.stack([tiny.video(1, seed) for seed in range(4)])
    plan = plan_videos(MODEL, prompts, seed=10, first_frames=first, leave_out=True)
    assert [(r.index, r.seed) for r in plan.requests] == [(1, 11), (3, 13)]
    np.testing.assert_array_equal(plan.first_frames, first[[1, 3]])
    assert list(plan.refused) == [0, 2]
    assert "empty" in plan.refused[0]
    assert "13 tokens" in plan.refused[2]
    with pytest.raises(ValueError, match="the prompt is empty"):
        plan_videos(MODEL, prompts)
    with pytest.raises(ValueError, match="the prompt is empty"):
        plan_videos(MODEL, [" "], leave_out=True)


@pytest.mark.parametrize("prompt", ["", "   ", "\n", "!?"])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(ValueError, match="prompt is empty; write a sentence such as"):
        text_ids(MODEL, prompt)


def test_a_prompt_that_is_too_long_is_refused_and_never_cut():
    fits = "a small red circle moves left over stripes moves"
    assert len(text_ids(MODEL, fits)) == 9
    with pytest.raises(ValueError, match=f"'{fits} left' is too long: .*10 tokens.* holds 9"):
        text_ids(MODEL, f"{fits} left")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key_frames": 4}, r"key_frames must be in 1\.\.3, .* got 4"),
        ({"insert": 2}, r"insert must be one of \[0, 1, 3\], .* got 2"),
    ],
)
def test_options_that_the_model_was_not_trained_for_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plan_videos(MODEL, tiny.PROMPTS, options=dataclasses.replace(OPTIONS, **changes))


def test_a_model_without_insertions_makes_key_frames_only():
    config = dataclasses.replace(MODEL.config, insertions=())
    model = dataclasses.replace(MODEL, config=config)
    assert inserted(model, Options()) == ()
    with pytest.raises(ValueError, match=r"insert must be one of \[0\]"):
        inserted(model, Options(insert=3))


@pytest.mark.parametrize(
    ("insertions", "options", "levels"),
    [
        (((4, 3), (2, 1)), Options(), (3,)),
        (((16, 1), (8, 1), (4, 1), (2, 1)), Options(), (1, 1)),  # key frames lie 4 apart
        (((16, 1), (4, 1), (4, 3)), Options(), (3,)),
        (((8, 3), (16, 7)), Options(), (7,)),  # none for that gap
        (((4, 3), (2, 1)), Options(insert=(3, 1)), (3, 1)),
        (((4, 3), (2, 1)), Options(insert=(3, 1), levels=2), (3, 1, 3, 1)),
        (((4, 3), (2, 1)), Options(insert=(1,), levels=0), ()),
        (((4, 3), (2, 1)), Options(insert=0), ()),
    ],
)
def test_what_is_inserted_at_each_level(insertions, options, levels):
    model = dataclasses.replace(
        MODEL, config=dataclasses.replace(MODEL.config, insertions=insertions)
    )
    assert inserted(model, options) == levels


def test_each_levels_gaps_are_named_as_far_as_the_model_can():
    sequence = dataclasses.replace(MODEL.config.sequence, gaps=(2, 4, 16))
    config = dataclasses.replace(MODEL.config, sequence=sequence)
    model = dataclasses.replace(MODEL, config=config)
    options = Options(insert=(1, 1, 1))
    assert plan_videos(model, tiny.PROMPTS, options=options).gaps == (4, 2, 2)
    # 8 frames a second are the model's own rate.
    for fps, gaps in ((0.49, (16, 16, 4)), (0.51, (16, 4, 4)), (8.0, (2, 2, 2))):
        plan = plan_interpolation(model, tiny.video(2), options=options, fps=fps)
        assert plan.gaps == gaps
        assert plan.video_fps == 8 * fps


@pytest.mark.parametrize(
    ("table", "fps", "shares"),
    [
        (((4, 1.0), (16, 0.3), (8, 0.6)), 2.0, (1.0, 1.0)),  # gaps of 4 and then 2 frames
        (((4, 1.0), (16, 0.3), (8, 0.6)), 1.0, (0.6, 1.0)),
        (((4, 1.0), (16, 0.3), (8, 0.6)), 0.7, (0.3, 0.6)),  # 11.4 and 5.7: the longer one's
        (((4, 1.0), (16, 0.3), (8, 0.6)), 0.1, (0.3, 0.3)),
        ((), 2.0, (0.2, 0.2)),
    ],
)
def test_what_frames_inherit_follows_from_the_table_of_the_model(table, fps, shares):
    model = dataclasses.replace(MODEL, config=dataclasses.replace(MODEL.config, inherit=table))
    plan = lambda options: plan_interpolation(model, tiny.video(2), fps=fps, options=options)
    auto = plan(Options(insert=(1, 1), inherit="auto"))
    assert auto.inherit == shares
    assert any("no table of what its frames may inherit" in note for note in auto.notes) != bool(
        table
    )
    asked = plan(Options(insert=(1, 1), inherit=0.7))
    assert asked.inherit == (0.7, 0.7)
    assert not any("table" in note for note in asked.notes)


def test_what_is_inherited_is_left_out_where_the_model_can_do_without():
    for trained in (0, 1, 2):
        config = dataclasses.replace(MODEL.config, skip=trained)
        model = dataclasses.replace(MODEL, config=config)
        for skip in (True, False):
            options = Options(skip=skip)
            assert plan_videos(model, tiny.PROMPTS, options=options).skip == trained * skip
            assert plan_interpolation(model, tiny.video(2), options=options).skip == trained * skip


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, r"seeds must be in 0\.\.4294967295, got -1\.\.0"),
        (2**32 - 1, r"got 4294967295\.\.4294967296"),
        ([1], "one seed per prompt: got 1 for 2 prompts"),
        ([1, 2**40], "seeds must be in"),
    ],
)
def test_seeds_that_cannot_be_used_are_refused(seed, message):
    with pytest.raises(ValueError, match=message):
        plan_videos(MODEL, tiny.PROMPTS, seed=seed)


@pytest.mark.parametrize("count", [0, 4])
def test_too_few_or_too_many_first_frames_are_refused(count):
    with pytest.raises(ValueError, match=rf"first_frames must be 1\.\.3 key frames, got {count}"):
        plan_videos(MODEL, tiny.PROMPTS, first_frames=np.zeros((count, 64, 64, 3), np.uint8))


def test_first_frames_of_another_number_of_prompts_are_refused():
    with pytest.raises(ValueError, match="one set of first_frames per prompt: got 1, 2"):
        plan_videos(MODEL, tiny.PROMPTS, first_frames=tiny.video(1)[None])


def test_frames_given_in_a_row_are_all_used_by_a_model_that_was_trained_so():
    five = tiny.video(5)
    plan = plan_videos(tiny.model_of_five(), tiny.PROMPTS, given_frames=five)
    assert (plan.first_frames, plan.notes) == (None, ())
    np.testing.assert_array_equal(plan.given_frames[0], five)
    assert plan.key_frames == 3
    each = np.stack([five, tiny.video(5, 1)])
    part = plan_videos(tiny.model_of_five(), tiny.PROMPTS, given_frames=each).part([1, 0])
    np.testing.assert_array_equal(part.given_frames, each[::-1])


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (MODEL, 5, "begin with 5 frames in a row: of those given it uses 2, the key frames"),
        (tiny.model_of_five(), 9, r"begin with 9 frames in a row \(but with 5\): .* uses 3"),
    ],
)
def test_other_models_use_the_key_frames_among_the_given_frames_and_say_so(model, given, words):
    frames = np.stack([tiny.video(given, seed) for seed in range(2)])
    plan = plan_videos(model, tiny.PROMPTS, given_frames=frames)
    assert plan.given_frames is None
    np.testing.assert_array_equal(plan.first_frames, frames[:, ::4])
    (note,) = plan.notes
    assert re.search(words, note)
    assert not plan_videos(model, tiny.PROMPTS, given_frames=frames[:, :1]).notes


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"first_frames": tiny.video(1)}, "first_frames or given_frames, not both"),
        ({"options": Options(insert=1)}, r"after 5 given frames insert must be 3, .* got 1"),
        ({"options": Options(key_frames=1)}, r"key_frames must be in 2\.\.3, .* after 5 given"),
        ({"given_frames": np.zeros((5, 32, 64, 3), np.uint8)}, r"frames must be \(64, 64\) px"),
        ({"given_frames": tiny.video(5)[None]}, "one set of given_frames per prompt: got 1, 2"),
    ],
)
def test_given_frames_that_cannot_be_used_are_refused(more, message):
    with pytest.raises(ValueError, match=message):
        plan_videos(tiny.model_of_five(), tiny.PROMPTS, **{"given_frames": tiny.video(5), **more})


def test_frames_of_another_size_are_refused():
    small = np.zeros((2, 32, 64, 3), np.uint8)
    with pytest.raises(ValueError, match=r"frames must be \(64, 64\) px \(Y, X\), got \(32, 64\)"):
        plan_videos(MODEL, tiny.PROMPTS, first_frames=small)
    with pytest.raises(ValueError, match=r"frames must be \(64, 64\) px"):
        plan_interpolation(MODEL, small)


def test_one_frame_cannot_be_interpolated():
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        plan_interpolation(MODEL, tiny.video(1))


def test_no_prompt_is_refused():
    with pytest.raises(ValueError, match="no prompts"):
        plan_videos(MODEL, [])


def test_interpolation_may_go_without_a_text():
    plan = plan_interpolation(MODEL, tiny.video(2), prompt=" ")
    np.testing.assert_array_equal(plan.texts[0], pad_text([], MODEL.config.sequence))
    assert plan.fps == 2.0
    assert plan_interpolation(MODEL, tiny.video(2), fps=5.0).video_fps == 20.0


def test_notes_name_unknown_words_and_levels_that_nobody_trained():
    (note,) = plan_videos(MODEL, ["a red zebra moves left"]).notes
    assert "'zebra'" in note
    assert "triangle" in note
    (note,) = plan_videos(MODEL, tiny.PROMPTS, options=Options(insert=3, levels=2)).notes
    assert "level 2 between frames at 8 fps; trained: 2 fps" in note
    assert not plan_videos(MODEL, tiny.PROMPTS, options=Options(insert=0, levels=2)).notes


@pytest.mark.parametrize(
    ("fps", "options", "words"),
    [
        (2.0, OPTIONS, None),
        (1.999, OPTIONS, None),
        (4.0, Options(insert=1), None),
        (8.0, OPTIONS, "level 1 between frames at 8 fps; trained: 2 fps"),
        (2.0, Options(insert=1), "level 1 between frames at 2 fps; trained: 4 fps"),
        (29.97, Options(insert=3, levels=2), "29.97 fps, level 2 between frames at 119.9 fps"),
        (30.0, Options(insert=3, levels=0), None),
    ],
)
def test_interpolation_notes_a_rate_that_nobody_trained(fps, options, words):
    notes = plan_interpolation(MODEL, tiny.video(2), fps=fps, options=options).notes
    assert [words in note for note in notes] == ([True] if words else [])


def test_a_window_for_a_model_that_decides_one_change_at_a_time_is_noted():
    model = tiny.model_of_changes()
    (note,) = plan_videos(model, tiny.PROMPTS[:1], options=Options(window=8)).notes
    assert "'tiny' decides one change at a time: window 8 counts for a first frame alone" in note
    assert plan_interpolation(model, tiny.video(2), options=Options(window=8)).notes == (note,)
    assert not plan_videos(model, tiny.PROMPTS[:1]).notes
