"""Files that anybody sends: read as the command line does, within limits, and not kept."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from fv_jax.media.frames import fit
from fv_jax.media.writers import write_gif, write_mp4
from fv_jax.studio import uploads
from fv_jax.studio.uploads import Uploads, read_upload


def a_video(tmp_path, count=9, fps=8.0, name="clip.mp4", write=write_mp4):
    path = tmp_path / name
    write(tiny.video(count), fps, path)
    return path.read_bytes()


def a_picture(width=80, height=64):
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_first_frames_are_key_frames_at_their_rate(tmp_path):
    upload = read_upload(a_video(tmp_path), "first_frames", 2, tiny.model())
    assert upload.frames.shape == (2, 64, 64, 3)
    assert upload.fps == 2.0
    near = np.abs(upload.frames.astype(int) - tiny.video(9)[[0, 4]])
    assert near.mean() < 10  # an mp4 has half of the colors


def test_a_picture_is_one_frame_fitted_to_the_model():
    upload = read_upload(a_picture(), "first_frames", 1, tiny.model())
    np.testing.assert_array_equal(
        upload.frames, fit(np.full((1, 64, 80, 3), 90, np.uint8), (64, 64))
    )


def test_every_frame_is_taken_to_interpolate(tmp_path):
    data = a_video(tmp_path, 3, 4.0, "clip.gif", write_gif)
    upload = read_upload(data, "interpolate", 1, tiny.model())
    assert (upload.frames.shape, upload.fps) == ((3, 64, 64, 3), 4.0)


def test_what_is_too_long_is_cut_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_FRAMES", 4)
    upload = read_upload(a_video(tmp_path), "interpolate", 1, tiny.model())
    assert len(upload.frames) == 4
    assert "only the first 4 of 9 frames" in upload.notes[0]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", b"ffconcat version 1.0\nfile x\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"#!/bin/sh\nid\n", b"v=0\r\no=- 0\r\n",
    ],
)  # fmt: skip
def test_what_is_no_video_or_names_other_files_is_not_opened(data, monkeypatch):
    monkeypatch.setattr(uploads, "open_clip", None)
    with pytest.raises(ValueError, match="no kind of file that is read here"):
        read_upload(data, "first_frames", 1, tiny.model())


@pytest.mark.parametrize("cut", [20, 200, 2000])
def test_damaged_files_are_one_line(tmp_path, cut):
    with pytest.raises(ValueError, match="cannot be read as a video"):
        read_upload(a_video(tmp_path)[:cut], "interpolate", 1, tiny.model())


def test_too_few_too_large_and_too_slow_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="too short: 3 frames at 2 fps of the 4"):
        read_upload(a_video(tmp_path), "first_frames", 4, tiny.model())
    with pytest.raises(ValueError, match="at least 2 frames"):
        read_upload(a_picture(), "interpolate", 1, tiny.model())
    monkeypatch.setattr(uploads, "_MOST_PIXELS", 80 * 63)
    with pytest.raises(ValueError, match="pixels"):
        read_upload(a_picture(), "first_frames", 1, tiny.model())
    monkeypatch.setattr(uploads, "_MOST_PIXELS", 10**6)
    monkeypatch.setattr(uploads, "_MOST_SECONDS", -1.0)
    with pytest.raises(ValueError, match="takes more than"):
        read_upload(a_picture(), "first_frames", 1, tiny.model())


def test_the_file_is_gone_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "below"))
    (tmp_path / "below").mkdir()
    data = a_video(tmp_path)
    read_upload(data, "first_frames", 1, tiny.model())
    with pytest.raises(ValueError, match="cannot be read"):
        read_upload(data[:200], "first_frames", 1, tiny.model())
    assert [*Path(tempfile.gettempdir()).iterdir()] == []


def test_the_last_uploads_are_kept(monkeypatch):
    monkeypatch.setattr(uploads, "_KEPT", 2)
    kept, sent = Uploads(), []
    for _ in range(3):
        sent.append(read_upload(a_picture(), "first_frames", 1, tiny.model()))
        kept.add(sent[-1])
    assert kept[sent[2].id] is sent[2]
    with pytest.raises(ValueError, match="send it again"):
        kept[sent[0].id]
