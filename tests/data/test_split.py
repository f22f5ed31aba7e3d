"""Held-out clips: a function of the ids alone, which hardly changes with them."""

import numpy as np
import pytest

from fv_jax.data.split import held_out, open_split, open_whole, split

IDS = [f"class {i // 30}/{i:03}.mp4" for i in range(200)]


@pytest.mark.parametrize(
    ("clips", "share", "count"),
    [(200, 0.1, 20), (200, 0.5, 100), (7, 0.3, 2), (10, 1e-9, 1), (10, 1 - 1e-9, 9), (2, 0.5, 1)],
)
def test_the_share_asked_for_is_held_out_but_never_none_or_all(clips, share, count):
    kept = held_out(IDS[:clips], share)
    assert len(kept) == count
    assert kept < set(IDS[:clips])


def test_the_order_of_the_clips_does_not_matter():
    shuffled = np.random.default_rng(0).permutation(IDS).tolist()
    assert shuffled != IDS
    assert held_out(shuffled, 0.1) == held_out(IDS, 0.1)


def test_a_larger_share_holds_out_the_same_clips_and_more():
    assert held_out(IDS, 0.1) < held_out(IDS, 0.2) < held_out(IDS, 0.9)


@pytest.mark.parametrize("gone", [0, 50, 199])
def test_a_clip_that_comes_or_goes_moves_at_most_one_other(gone):
    fewer = IDS[:gone] + IDS[gone + 1 :]
    assert len(held_out(IDS, 0.1) - held_out(fewer, 0.1)) <= 1
    assert len(held_out(fewer, 0.1) - held_out(IDS, 0.1)) <= 1


def test_held_out_clips_are_spread_over_the_list():
    places = [IDS.index(clip) for clip in held_out(IDS, 0.2)]
    assert np.bincount(np.asarray(places) // 50, minlength=4).min() >= 4


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_shares_that_leave_one_side_empty_are_refused(share):
    with pytest.raises(ValueError, match="share held out must be in"):
        held_out(IDS, share)


@pytest.mark.parametrize("clips", [0, 1])
def test_too_few_clips_say_what_to_do(clips):
    with pytest.raises(ValueError, match=f"{clips} clip is too few .* name others for evaluation"):
        held_out(IDS[:clips], 0.5)


def test_clips_of_the_same_id_stay_on_one_side():
    ids = [name for name in IDS[:10] for _ in range(3)]
    train, held = split(ids, 0.3)
    assert sorted(train + held) == list(range(30))
    assert {ids[i] for i in held} == held_out(IDS[:10], 0.3)
    assert not {ids[i] for i in train} & {ids[i] for i in held}


def test_a_source_is_opened_in_two_parts():
    train, held = open_split("shapes,split=train,count=10", "", 0.3)
    names = [entry.id for entry in open_whole("shapes,split=train,count=10").entries]
    assert (len(train.entries), len(held.entries)) == (7, 3)
    assert {entry.id for entry in held.entries} == held_out(names, 0.3)
    assert [name for name in names if name not in held_out(names, 0.3)] == [
        entry.id for entry in train.entries
    ]


def test_of_one_clip_the_last_third_is_held_out(capsys):
    (whole,) = open_whole("shapes,count=1").entries
    train, held = open_split("shapes,count=1", "", 0.1)
    first, last = train.entries[0].open(), held.entries[0].open()
    count = len(whole.open().times)
    assert len(last.times) == round(count / 3)
    assert len(first.times) + len(last.times) == count
    assert first.times[0] == last.times[0] == 0
    both = [reader.frames(range(len(reader.times))) for reader in (first, last)]
    np.testing.assert_array_equal(np.concatenate(both), whole.open().frames(range(count)))
    assert train.entries[0].id != held.entries[0].id  # what is kept of their pixels is apart
    assert "is one clip: its last third is held out" in capsys.readouterr().err


def test_another_source_may_be_for_evaluation():
    train, valid = open_split("shapes,count=3", "shapes,split=valid,count=2", 0.3)
    assert [entry.id for entry in valid.entries] == ["valid/000000", "valid/000001"]
    assert (len(train.entries), valid.source.name) == (3, "shapes,split=valid,count=2")
