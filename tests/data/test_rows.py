"""Training rows of both tasks: what they hold, and what they learn."""

import dataclasses

import numpy as np
import pytest
import tiny
from tiny_rows import CAPTION, CHANGES, EXPERIMENT, SKIP, Moving, rows_of

from fv_jax.data.rows import Kind, RowMaker, blocks_of_a_row, kinds
from fv_jax.generation.skip_mask import regions
from fv_jax.sequence.changes import bases, whole
from fv_jax.sequence.nearby import codes_nearby, neighbors
from fv_jax.sequence.packing import interpolation_serials, key_frame_serials, unpack
from fv_jax.sequence.skipping import Compact
from fv_jax.sequence.vocab import PAD, Vocab


def clip():
    """Frame t holds nothing but the id t, so that rows show which frames they took."""
    return CAPTION, np.arange(17, dtype=np.uint16)[:, None].repeat(16, axis=1)


def taken(row):
    """Serial numbers and frame numbers of a row's blocks, without its padding."""
    used = int((row["tokens"] != PAD).any() and np.flatnonzero(row["tokens"])[-1] + 1)
    _, serials, frames = unpack(row["tokens"][None, :used], tiny.sequence())
    assert (frames == frames[:, :, :1]).all()
    return serials, frames[0, :, 0].tolist()


def many(maker, count=400):
    return [maker(clip(), np.random.default_rng(i)) for i in range(count)]


def test_key_frame_rows_take_every_fourth_frame_and_learn_all_of_them():
    row = rows_of(key_frame_share=1.0)(clip(), np.random.default_rng(0))
    serials, frames = taken(row)
    assert serials == [1, 2, 3, 4]
    assert np.diff(frames).tolist() == [4, 4, 4]
    assert row["weight"].tolist() == [1, 1, 1, 1, 0]


def test_interpolation_rows_learn_the_inserted_frames_only():
    maker = rows_of(key_frame_share=0.0, insertions=((4, 3),))
    for row in many(maker, 100):
        serials, frames = taken(row)
        first = frames[0]
        assert serials == [1, 5, 2, 3, 4]
        assert frames == [first, first + 4, first + 1, first + 2, first + 3]
        assert row["weight"].tolist() == [0, 0, 1, 1, 1]


def test_a_wide_gap_is_divided_evenly():
    maker = rows_of(key_frame_share=0.0, insertions=((8, 3),))
    _, frames = taken(maker(clip(), np.random.default_rng(0)))
    assert np.diff(frames).tolist() == [8, -6, 2, 2]


def test_interpolation_starts_anywhere_in_the_clip():
    maker = rows_of(key_frame_share=0.0, insertions=((4, 3),))
    assert {taken(row)[1][0] for row in many(maker)} == set(range(13))


def test_tasks_are_mixed_as_the_shares_say():
    serials = [tuple(taken(row)[0]) for row in many(rows_of(), 2000)]
    shares = {kind: serials.count(kind) / 2000 for kind in set(serials)}
    # Insertions in proportion to their frames, 3 to 1; four standard deviations.
    assert shares[(1, 2, 3, 4)] == pytest.approx(0.5, abs=0.045)
    assert shares[(1, 5, 2, 3, 4)] == pytest.approx(0.375, abs=0.045)
    assert shares[(1, 3, 2)] == pytest.approx(0.125, abs=0.03)
    assert len(shares) == 3


def test_all_rows_have_the_length_of_the_longest_and_weight_only_on_real_blocks():
    stride = tiny.sequence().stride
    for row in many(rows_of(), 60):
        assert (row["tokens"].shape, row["tokens"].dtype) == ((5 * stride,), np.int32)
        assert (row["weight"].shape, row["weight"].dtype) == ((5,), np.float32)
        serials, _ = taken(row)
        assert (row["tokens"][len(serials) * stride :] == PAD).all()
        assert (row["weight"][len(serials) :] == 0).all()
        assert row["weight"].sum() == (4 if serials[1] == 2 else len(serials) - 2)


def test_without_insertions_every_row_is_of_key_frames():
    maker = rows_of(insertions=(), key_frame_share=0.0)
    assert maker.blocks == 4
    assert {tuple(taken(row)[0]) for row in many(maker, 20)} == {(1, 2, 3, 4)}


def test_some_key_frame_rows_begin_with_given_frames_and_learn_what_follows():
    maker = rows_of(key_frame_share=1.0, given_frames=5, given_share=0.25)
    assert maker.blocks == 6
    rows = many(maker, 1000)
    kinds = [tuple(taken(row)[0]) for row in rows]
    assert set(kinds) == {(1, 2, 3, 4), (1, 5, 2, 3, 4, 3)}
    assert kinds.count((1, 5, 2, 3, 4, 3)) / 1000 == pytest.approx(0.25, abs=0.055)
    row = rows[kinds.index((1, 5, 2, 3, 4, 3))]
    first = taken(row)[1][0]
    assert (np.asarray(taken(row)[1]) - first).tolist() == [0, 4, 1, 2, 3, 8]
    assert row["weight"].tolist() == [0, 0, 0, 0, 0, 1]
    assert {taken(r)[1][0] for r, kind in zip(rows, kinds) if len(kind) == 6} == set(range(9))


def test_the_paper_s_rows_are_no_longer_for_given_frames():
    changes = dict(key_frames=16, serial_numbers=16)
    assert rows_of(**changes).blocks == rows_of(**changes, given_frames=5).blocks == 16


def test_text_is_dropped_from_the_share_of_rows_asked_for():
    texts = [row["tokens"][:9] for row in many(rows_of(), 2000)]
    dropped = np.mean([(text == PAD).all() for text in texts])
    assert dropped == pytest.approx(0.25, abs=0.04)
    kept = next(text for text in texts if (text != PAD).any())
    np.testing.assert_array_equal(kept[:8], np.asarray(tiny.text().encode(CAPTION)) + 1)


def dropped_shares(maker):
    """Shares of the key-frame and of the interpolation rows that have no text."""
    rows = [(taken(row)[0][1] == 2, (row["tokens"][:9] == PAD).all()) for row in many(maker, 2000)]
    return [np.mean([none for key, none in rows if key is kind]) for kind in (True, False)]


def test_interpolation_rows_have_a_share_without_text_of_their_own():
    plain, own = rows_of(text_drop=0.1), rows_of(text_drop=0.1, interpolation_text_drop=0.5)
    assert dropped_shares(plain) == pytest.approx([0.1, 0.1], abs=0.04)
    assert dropped_shares(own) == pytest.approx([0.1, 0.5], abs=0.06)
    assert dropped_shares(rows_of(interpolation_text_drop=0.0))[1] == 0
    # Nothing else is drawn otherwise, and rows of key frames are the same rows.
    for a, b in zip(many(plain), many(own)):
        assert taken(a) == taken(b)
        np.testing.assert_array_equal(a["weight"], b["weight"])
        if taken(a)[0][1] == 2:
            np.testing.assert_array_equal(a["tokens"], b["tokens"])


def test_rows_have_as_many_blocks_as_can_be_cut():
    assert blocks_of_a_row(EXPERIMENT) == 5
    assert blocks_of_a_row(EXPERIMENT, parts=2) == 6
    row = RowMaker(EXPERIMENT, tiny.sequence(), tiny.text(), blocks=6)(
        clip(), np.random.default_rng(0)
    )
    assert row["tokens"].shape == (6 * tiny.sequence().stride,)
    assert row["weight"].shape == (6,)
    assert row["weight"][5] == 0


def test_longer_clips_are_entered_anywhere():
    maker = rows_of(key_frame_share=1.0)
    frames = np.arange(20, dtype=np.uint16)[:, None].repeat(16, axis=1)
    rows = [maker((CAPTION, frames), np.random.default_rng(i)) for i in range(200)]
    firsts = {taken(row)[1][0] for row in rows}
    assert firsts == set(range(20 - 12))
    assert all(np.diff(taken(row)[1]).tolist() == [4, 4, 4] for row in rows)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("inserted", [1, 3])
def test_a_short_row_lacks_nothing_but_stable_ids(inserted, given):
    maker, s = rows_of(**SKIP, skip_given=given), tiny.sequence()
    vocab, whole = Vocab(s), 1 if given else 2
    blocks, left_out = inserted + 2, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        clip = Moving().draw(0, rng)
        size = round(0.9 * blocks * s.stride)
        row = maker(clip, rng, Kind(inserted, size))
        assert (row["tokens"].shape, row["positions"].shape) == ((size,), (size + 1,))
        length = int((np.diff(row["positions"]) > 0).sum())
        at = row["positions"][:length]
        kept = np.zeros((blocks, s.stride), bool)
        kept.reshape(-1)[at] = True
        codes = np.full(kept.shape, -1)
        codes.reshape(-1)[at] = row["tokens"][:length] - vocab.frame_start
        frames = codes[:, s.header :]
        assert kept[:whole].all()
        # What is left out of B stands in A, so the regions can be told from what is left.
        a, b = frames[0], np.where(kept[1, s.header :], frames[1], frames[0])
        stable = regions(a.reshape(4, 4), b.reshape(4, 4)).stable.reshape(-1)
        free = np.zeros_like(kept)
        free[whole:, s.header :] = stable
        last = at[-1] if length == size else kept.size  # too much may change: a row ends early
        assert (kept | free).reshape(-1)[:last].all()
        if stable.any():
            left_out.append((~kept)[free].mean())
        # Weight on what follows: every inserted id that is there, and nothing else.
        weight = np.pad(row["weight"], (size - len(row["weight"]), 0))
        predicted = np.flatnonzero(weight) + 1
        block, place = np.divmod(at[predicted], s.stride)
        assert (block >= 2).all()
        assert (place >= s.header).all()
        assert len(predicted) == kept[2:, s.header :].sum()
        assert set(np.unique(row["weight"])) <= {0, 1}
    assert min(left_out) < 0.6
    assert max(left_out) > 0.9


@pytest.mark.parametrize("kind", [Kind(0), Kind(3), Kind(3, 60), Kind(1, 40)])
def test_rows_of_a_network_that_reads_them_have_the_ids_nearby(kind):
    """Found again in the whole row, whose frames hold what this row lacks."""
    model, s = dataclasses.replace(tiny.NETWORK, nearby=3), tiny.sequence()
    maker = rows_of(**SKIP, skip_given=True, model=model)
    clip = Moving().draw(0, np.random.default_rng(1))
    row = maker(clip, np.random.default_rng(0), kind)
    assert set(rows_of(**SKIP)(clip, np.random.default_rng(0), kind)) == {*row} - {"nearby"}
    whole = maker(clip, np.random.default_rng(0), Kind(kind.inserted))["tokens"]
    if kind.length:  # its positions say where it stands in the row that lacks nothing
        following = row["positions"][1:]
        np.testing.assert_array_equal(row["tokens"][:20], whole[:20])
    else:
        following = np.arange(1, len(row["tokens"]) + 1)
    order = key_frame_serials(4) if not kind.inserted else interpolation_serials(kind.inserted)
    places = neighbors(order, s)
    places = np.pad(places, ((0, len(whole) + 1 - len(places)), (0, 0)), constant_values=-1)
    want = codes_nearby(whole, places[following], Vocab(s).frame_start)
    np.testing.assert_array_equal(row["nearby"], want)
    assert (row["nearby"] >= 0).any()


def test_rows_of_a_network_that_knows_several_gaps_name_them():
    sequence = dataclasses.replace(tiny.sequence(), gaps=(2, 4))
    for changes in ({}, SKIP):
        experiment = dataclasses.replace(EXPERIMENT, gaps=(2, 4), **changes)
        maker = RowMaker(experiment, sequence, tiny.text(), blocks_of_a_row(experiment))
        seen, serial = set(), sequence.text_tokens + 1
        for seed in range(200):
            rng = np.random.default_rng(seed)
            tokens = maker(clip(), rng, maker.kind(rng))["tokens"]
            start = Vocab(sequence).serial_start
            name = int(tokens[serial - 1]) - Vocab(sequence).gap_start
            second = int(tokens[sequence.stride + serial]) - start + 1
            seen.add((second, (2, 4)[name]))
        # Key frames, one and three frames between two: each as far apart as it is named.
        assert seen == {(2, 4), (5, 4), (3, 2)} | ({(3, 4)} if changes else set())


@pytest.mark.parametrize("inserted", [0, 3])
def test_a_row_of_changes_has_every_change_and_says_where_the_next_one_is(inserted):
    maker, s = rows_of(**CHANGES), tiny.sequence()
    lengths = sorted(k.length for _, k in kinds(maker.experiment, s) if k.inserted == inserted)
    blocks, cut = (5 if inserted else 4), 0
    times = interpolation_serials(3) if inserted else range(4)
    always, most = blocks * 10 + 16, 16 * (blocks - 1)
    assert lengths == [always + int(np.ceil(0.05 * most)), always + most]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        row = maker(Moving().draw(0, rng), rng, Kind(inserted, lengths[seed % 2]))
        size = len(row["tokens"])
        length = int((np.diff(row["positions"]) > 0).sum())
        part = Compact(row["tokens"][None], row["positions"][None], np.asarray([length], np.int32))
        frames = whole(part, times, s)[0]
        at = row["positions"][:length]
        present = at[at % s.stride >= s.header]
        for place in present[present >= s.stride]:
            block, slot = divmod(int(place), s.stride)
            base = frames[bases(times)[block]]
            assert frames[block, slot - s.header] != base[slot - s.header]
        # Every id and every place that is not given is predicted once; what was cut off is not.
        start = size - len(row["places"])
        weight, places = (np.pad(row[name], (start, 0)) for name in ("weight", "places"))
        places[:start] = -1
        given = 2 if inserted else 0
        assert weight.sum() == (present // s.stride >= given).sum()
        for t in range(length - 1):
            block, slot = divmod(int(at[t + 1]), s.stride)
            if block < max(given, 1) or slot < s.header - 1:
                assert places[t] == -1
                continue
            then = int(at[t + 2]) if t + 2 < length else -1
            if then < 0 and length == size:
                cut += places[t] == -1
                continue
            inside = then // s.stride == block
            assert places[t] == (then % s.stride - s.header if inside else s.frame_tokens)
        assert (places[length - 1 :] == -1).all()
        assert not weight[length - 1 :].any()
        around = row["around"]
        assert around.shape == (blocks - 1, 16, 18)
        for block in range(1, blocks):
            np.testing.assert_array_equal(around[block - 1, :, 4], frames[bases(times)[block]])
    assert cut  # a row with too little room


def said(row):
    """The last token of a row of changes after which something is predicted."""
    last = np.flatnonzero((row["places"] >= 0) | (row["weight"] > 0))[-1]
    return int(last) + len(row["tokens"]) - len(row["places"])


@pytest.mark.parametrize("rooms", [(1.0, 0.05, 0.12), (0.05, 0.12)])
def test_batches_of_changes_have_the_least_room_that_their_clips_need(rooms):
    maker, rng = rows_of(**{**CHANGES, "skip": rooms}), np.random.default_rng(0)
    for share, kind in maker.kinds:
        assert share == 0.5
        lengths = sorted(
            k.length
            for _, k in kinds(maker.experiment, tiny.sequence())
            if k.inserted == kind.inserted
        )
        assert kind.length == lengths[-1]
        rows = [maker(Moving().draw(0, rng), rng, kind) for _ in range(24)]
        made = maker.batches_of(rows, kind, 3)
        assert sorted(said(row) for batch in made for row in batch) == sorted(map(said, rows))
        sizes = [len(batch[0]["tokens"]) for batch in made]
        assert sizes == sorted(sizes)
        assert len({*sizes}) > 1
        for batch in made:
            (size,) = {len(row["tokens"]) for row in batch}
            most = max(map(said, batch)) + 2  # what is said is of the next, and of where it goes on
            assert size == min(length for length in lengths if length >= most)
            for row in batch:
                assert len(row["positions"]) == size + 1
                whole = next(r for r in rows if r["around"] is row["around"])
                for name in ("weight", "places"):
                    assert (row[name] > 0).sum() == (whole[name] > 0).sum()
                    assert len(row[name]) - size == len(whole[name]) - kind.length
