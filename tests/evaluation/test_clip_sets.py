"""Sets of clips from folders and .npz; what is wrong with one names it."""

from pathlib import Path

import numpy as np
import pytest
import videos
from PIL import Image

from fv_jax.data.sources.folder import VideoFolder
from fv_jax.evaluation.clip_sets import check_times, open_set, paired, pieces, scored
from fv_jax.evaluation.protocols import Protocol
from fv_jax.media.readers import ClipError
from fv_jax.media.writers import write_gif, write_mp4

FRAMES = videos.noise(10, (32, 48))


def write_pictures(folder):
    folder.mkdir(parents=True)
    for i, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(folder / f"{i}.png")


def test_a_folder_has_the_clips_that_training_finds_there(tmp_path):
    write_pictures(tmp_path / "set" / "1")
    (tmp_path / "set" / "1" / "info.json").write_text("{}")
    write_pictures(tmp_path / "elsewhere")
    (tmp_path / "set" / "2").symlink_to(tmp_path / "elsewhere")
    write_mp4(FRAMES, 8, tmp_path / "set" / "10.mp4")
    names = [clip.name for clip in open_set(tmp_path / "set")]
    training = VideoFolder(name="set", place=str(tmp_path / "set"))
    assert names == [str(tmp_path / "set" / training[i].id) for i in range(len(training))]
    assert [name[-1] for name in names] == ["1", "2", "4"]
    (frames,) = open_set(tmp_path / "elsewhere")  # of the folder itself
    np.testing.assert_array_equal(frames.read(), FRAMES)


def test_a_folder_mixes_formats_and_counts_numbers(tmp_path):
    np.savez(tmp_path / "10.npz", frames=FRAMES)
    write_mp4(FRAMES, 8, tmp_path / "9.mp4")
    write_gif(FRAMES, 8, tmp_path / "2.gif")
    write_pictures(tmp_path / "30")
    (tmp_path / "notes.txt").write_text("no clip")
    clips = open_set(tmp_path)
    assert [clip.name.rsplit("/", 1)[1] for clip in clips] == ["2.gif", "9.mp4", "10.npz", "30"]
    assert all(clip.read().shape == FRAMES.shape for clip in clips)
    np.testing.assert_array_equal(clips[2].read(), FRAMES)
    np.testing.assert_array_equal(clips[3].read(), FRAMES)


@pytest.mark.parametrize("key", ["frames", "videos"])
def test_an_npz_holds_several_clips(key, tmp_path):
    np.savez(tmp_path / "all.npz", **{key: np.stack([FRAMES, FRAMES[::-1]])})
    first, second = open_set(tmp_path / "all.npz")
    np.testing.assert_array_equal(second.read(), FRAMES[::-1])
    assert first.name.endswith("all.npz[0]")


def test_floats_of_bytes_are_those_bytes(tmp_path):
    np.savez(tmp_path / "all.npz", frames=(FRAMES[None] / 255).astype(np.float32))
    np.testing.assert_array_equal(open_set(tmp_path / "all.npz")[0].read(), FRAMES)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (FRAMES / 127.5 - 1, ["got -0.9", "[0, 1]"]),
        (FRAMES.astype(float), ["got 1 to 255", "[0, 1]"]),
        (np.where(FRAMES > 9, np.nan, 0.5), ["nan", "[0, 1]"]),
        (FRAMES.astype(np.int64), ["int64", "uint8"]),
        (FRAMES[..., 0], ["(10, 32, 48)", "[F, Y, X, 3]"]),
        (FRAMES[:0], ["(0, 32, 48, 3)"]),
    ],
)
def test_arrays_that_are_no_clip_are_named(values, words, tmp_path):
    np.savez(tmp_path / "odd.npz", frames=values)
    with pytest.raises(ValueError, match=r"odd\.npz") as error:
        open_set(tmp_path)[0].read()
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_damaged_files_are_named(content, tmp_path):
    path = tmp_path / "odd.npz"
    np.savez(path, frames=FRAMES)
    path.write_bytes(path.read_bytes()[:-600] if content is None else content)
    with pytest.raises(ValueError, match=r"odd\.npz"):
        open_set(tmp_path)[0].read()


def test_an_empty_folder_and_no_folder_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no clip"):
        open_set(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_set(tmp_path / "nowhere")


def clips_of(tmp_path, names):
    for name in names:
        np.savez(tmp_path / f"{name}.npz", frames=FRAMES)
    return open_set(tmp_path)


def test_pairs_go_by_name_or_else_by_order(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    real = clips_of(tmp_path / "a", ["x", "y"])
    fake = clips_of(tmp_path / "b", ["y", "z", "p", "q"])
    groups, by = paired(real, fake)
    assert [[c.name[-5] for c in group] for group in groups] == [["p", "q"], ["y", "z"]]
    assert by == "order"
    assert paired(real, real[::-1]) == ([[real[0]], [real[1]]], "name")
    assert paired(real, fake[:2]) == ([[fake[0]], [fake[1]]], "order")
    with pytest.raises(ValueError, match=r"a/x.npz has no fake .*b/z.npz no real one"):
        paired(real, fake[2:])
    with pytest.raises(ValueError, match="got 3 fake clips, want 2"):
        paired(real, fake[:3])
    with pytest.raises(ValueError, match="got 1 fake clips, want 2"):
        paired(real, fake[:1])


def test_a_protocol_cuts_and_scales_and_names_what_is_too_short(tmp_path):
    clip = clips_of(tmp_path, ["x"])[0]
    assert scored(clip, Protocol(frames=6, size=16)).shape == (6, 16, 16, 3)
    with pytest.raises(ValueError, match=r"x.npz: got 10 frames, want 16"):
        scored(clip, Protocol(frames=16))


def test_windows_are_evenly_spaced_and_crops_go_from_side_to_side():
    numbers = np.broadcast_to(np.arange(30)[:, None, None, None], (30, 32, 48, 3)).astype(np.uint8)
    starts = [p[0, 0, 0, 0] for p in pieces(numbers, Protocol(frames=16, windows=15))]
    assert starts == list(range(15))
    columns = np.broadcast_to(np.arange(48)[None, None, :, None], (4, 32, 48, 3)).astype(np.uint8)
    for frames, axis in ((columns, 2), (columns.swapaxes(1, 2), 1)):
        crops = pieces(frames, Protocol(frames=4, crops=3))
        assert [int(c.min()) for c in crops] == [0, 8, 16]
        assert all(c.shape == (4, 32, 32, 3) and c.take(-1, axis).min() > 30 for c in crops)
    with pytest.raises(ClipError, match="want 17 for 2 windows"):
        pieces(numbers[:16], Protocol(frames=16, windows=2))


def test_clips_of_other_rates_show_other_moments(tmp_path):
    for name, fps in (("8.mp4", 8), ("12.mp4", 12), ("ntsc.mp4", 30000 / 1001), ("30.mp4", 30)):
        write_mp4(FRAMES, fps, tmp_path / name)
    write_gif(FRAMES, 8, tmp_path / "8.gif")
    write_gif(FRAMES, 30, tmp_path / "30.gif")
    np.savez(tmp_path / "8.npz", frames=FRAMES, fps=8.0)
    np.savez(tmp_path / "any.npz", frames=FRAMES)
    write_pictures(tmp_path / "pictures")
    clips = {Path(clip.name).name: clip for clip in open_set(tmp_path)}
    alike = ["8.mp4 8.gif", "8.npz 8.mp4", "any.npz 12.mp4", "ntsc.mp4 30.gif", "30.mp4 ntsc.mp4",
             "8.mp4 pictures"]  # fmt: skip
    for one, other in map(str.split, alike):
        check_times(clips[one], clips[other], 0)
        check_times(clips[other], clips[one], 4)
    with pytest.raises(ValueError, match=r"12\.mp4 plays at 12 frames a second, .*8\.mp4 at 8"):
        check_times(clips["8.mp4"], clips["12.mp4"], 0)
    with pytest.raises(ValueError, match=r"give clips of one rate"):
        check_times(clips["8.npz"], clips["12.mp4"], 0)
    check_times(clips["8.mp4"], clips["12.mp4"], 1)


def test_pauses_at_other_places_are_other_moments(tmp_path):
    for name, at in (("a.mkv", 3), ("b.mkv", 7)):
        stamps = [40 * i + 400 * (i >= at) for i in range(10)]
        videos.write(tmp_path / name, FRAMES, "mkv", stamps=stamps)
    with pytest.raises(ValueError, match="do not show the same moment"):
        check_times(*open_set(tmp_path), 0)
