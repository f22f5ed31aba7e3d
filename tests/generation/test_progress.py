"""Looking on: the same ids, decided bit by bit, and an end where the one who looks wants it."""

import itertools

import numpy as np
import pytest
import tiny

from fv_jax.config.model import Options
from fv_jax.generation import engine
from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import plan_videos
from fv_jax.sequence.vocab import FREE

OPTIONS = [
    Options(insert=3, inherit=0.3, window=5),
    Options(insert=(1, 1), inherit=0.5, window=3, guidance=1.0, drafts=False),
    Options(insert=0, key_frames=2, window=1, temperature=0.5),
]


@pytest.fixture(autouse=True)
def _pieces_of_one_step(monkeypatch):
    monkeypatch.setattr(engine, "_PIECE", 0.0)


def watched(generator, plan):
    seen = []
    return generator.run(plan, seen.append), seen


def batches(seen):
    """Of one batch each: those between two beginnings."""
    starts = [i for i, look in enumerate(seen) if look.steps == 0]
    return [seen[a:b] for a, b in zip(starts, [*starts[1:], len(seen)])]


@pytest.mark.parametrize("options", OPTIONS, ids=["inherits", "levels", "key frames"])
@pytest.mark.parametrize("given", [0, 2], ids=["from nothing", "after first frames"])
def test_the_ids_are_those_of_nobody_looking_and_are_decided_bit_by_bit(generator, options, given):
    first = tiny.video(given) if given and options.key_frames != 2 else None
    request = {"seed": 3, "options": options, "first_frames": first}
    plain = generator.generate(tiny.PROMPTS, **request)
    plan = plan_videos(generator.model, tiny.PROMPTS, **request)
    clips, seen = watched(generator, plan)
    for clip, want in zip(clips, plain):
        for name in ("ids", "frames", "key_frame", "inherited"):
            np.testing.assert_array_equal(getattr(clip, name), getattr(want, name))
        assert {**clip.stats, "seconds": 0} == {**want.stats, "seconds": 0}
    assert len(batches(seen)) == 1 + len(plan.insert)
    for batch in batches(seen):
        assert len(batch) > 2
        for before, after in itertools.pairwise(batch):
            known = before.ids != FREE
            np.testing.assert_array_equal(after.ids[known], before.ids[known])
            assert after.steps > before.steps
        assert (batch[0].ids == FREE).any()
        assert (batch[-1].ids != FREE).all()
    keys = batches(seen)[0]
    assert all(look.gaps is None for look in keys)
    np.testing.assert_array_equal(keys[-1].ids, [clip.ids[clip.key_frame] for clip in plain])
    if first is not None:
        assert (keys[0].ids[:, :given] != FREE).all()
    for look in seen[len(keys) :]:
        inherited = look.gaps.inherited.swapaxes(0, 1)
        assert (look.ids[inherited] != FREE).all()


def test_frames_given_in_a_row_are_no_key_frames():
    model = tiny.model_of_five()
    generator = Generator(model, engine.Engine(model, tiny.STEP_TIME))
    plan = plan_videos(
        generator.model, tiny.PROMPTS, options=OPTIONS[0], given_frames=tiny.video(5)
    )
    clips, seen = watched(generator, plan)
    keys = batches(seen)[0]
    assert all(look.ids.shape == (2, 3, 4, 4) for look in keys)
    np.testing.assert_array_equal(keys[-1].ids, [clip.ids[clip.key_frame] for clip in clips])


def test_who_looks_may_end_it(generator):
    plan, looks = plan_videos(generator.model, tiny.PROMPTS, options=OPTIONS[0]), []

    def stop(look):
        looks.append(look)
        if look.steps > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generator.run(plan, stop)
    assert [look.steps for look in looks] == list(range(7))


def test_programs_that_were_not_used_for_long_are_dropped(monkeypatch):
    monkeypatch.setattr(engine, "_MOST_COMPILED", 2)
    generator = Generator(tiny.model(), engine.Engine(tiny.model(), tiny.STEP_TIME))
    for temperature in (0.0, 0.5, 1.0):
        options = Options(insert=0, key_frames=1, window=4, temperature=temperature)
        generator.generate(tiny.PROMPTS[:1], options=options)
    kept = [sampler.policy.temperature for _, sampler, _ in generator.engine._compiled]
    assert kept == [0.5, 1.0]
