"""Clips of an .npz: the right one, in any order, and never all of them in memory."""

import tracemalloc
import zipfile

import numpy as np
import pytest
import videos

from fv_jax.media.npz import NpzClips

CLIPS = np.stack([videos.noise(4, (16, 24), seed) for seed in range(6)])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_clips_come_in_any_order(save, tmp_path):
    save(tmp_path / "a.npz", ids=np.arange(3), videos=CLIPS)
    clips = NpzClips(tmp_path / "a.npz")
    assert clips.count == 6
    for index in (0, 1, 2, 5, 3, 3, 0, 5):
        np.testing.assert_array_equal(clips.read(index), CLIPS[index])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_in_order_the_file_is_read_once_and_a_clip_at_a_time(save, tmp_path, monkeypatch):
    many = np.random.default_rng(0).integers(0, 256, (40, 8, 32, 32, 3), np.uint8)
    save(tmp_path / "a.npz", frames=many)
    clips, given = NpzClips(tmp_path / "a.npz"), []
    read = zipfile.ZipExtFile.read

    def counted(self, n=-1):
        data = read(self, n)
        given.append(len(data))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    tracemalloc.start()
    for index in range(40):
        clips.read(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(given) < 1.01 * many.nbytes
    assert peak < many.nbytes / 4


@pytest.mark.parametrize("shape", [(4, 16, 24, 3), (1, 4, 16, 24, 3)])
def test_one_clip_in_either_order_of_memory(shape, tmp_path):
    for order in (np.ascontiguousarray, np.asfortranarray):
        np.savez(tmp_path / "a.npz", frames=order(CLIPS[0].reshape(shape)))
        clips = NpzClips(tmp_path / "a.npz")
        np.testing.assert_array_equal(clips.read(), CLIPS[0])
        assert clips.count == (1 if len(shape) == 5 else None)
    np.savez(tmp_path / "a.npz", frames=np.asfortranarray(CLIPS))
    with pytest.raises(ValueError, match=r"a\.npz: got 6 clips in Fortran's order"):
        NpzClips(tmp_path / "a.npz")


def test_a_file_that_was_read_is_not_kept_open(tmp_path):
    np.savez(tmp_path / "a.npz", frames=CLIPS)
    clips = NpzClips(tmp_path / "a.npz")
    for _ in range(2):
        for index in range(6):
            clips.read(index)
        assert clips._stream is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_byte_is_noticed(save, tmp_path):
    path = tmp_path / "a.npz"
    save(path, frames=CLIPS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    clips = NpzClips(path)
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as \.npz"):
        [clips.read(index) for index in range(6)]


def test_arrays_of_other_names_and_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", pixels=CLIPS)
    with pytest.raises(ValueError, match="want an array named `frames`, it has pixels"):
        NpzClips(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", frames=np.full((1, 2, 2, 3), None))
    with pytest.raises(ValueError, match=r"b\.npz cannot be read"):
        NpzClips(tmp_path / "b.npz").read()


@pytest.mark.parametrize(
    ("fps", "seconds"), [(8.0, [0, 0.125, 0.25, 0.375]), (0.0, None), (np.inf, None), (["x"], None)]
)
def test_times_are_those_of_a_rate_that_can_be_one(fps, seconds, tmp_path):
    np.savez(tmp_path / "a.npz", frames=CLIPS[0], fps=fps)
    times = NpzClips(tmp_path / "a.npz").times()
    assert (times is None) == (seconds is None)
    if seconds is not None:
        np.testing.assert_allclose(times, seconds)
