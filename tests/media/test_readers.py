"""Readers: the frames that decoding from the start gives, in any order; damage is a reason."""

import io
import itertools
import os
import struct
from concurrent.futures import ThreadPoolExecutor

import av
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import videos
from PIL import Image

from fv_jax.media import pictures, video_file
from fv_jax.media.frames import read_pieces
from fv_jax.media.pictures import Pictures
from fv_jax.media.readers import Array, ClipError, fps_of
from fv_jax.media.video_file import FrameDecoder, VideoFile

REAL = videos.real_clips()
JUMPING = ("mp4", "fast.mp4", "open_gop.mp4", "refresh.mp4", "hevc.mp4", "mkv", "webm", "gif")
COUNTING = ("part2.mp4", "avi", "h264.avi", "mpg")


def check_random_access(path, seed=0, few=None):
    """Every way of asking gives the frames of PyAV's own reading from the start."""
    want, times = videos.sequential(path)
    reader = VideoFile(path)
    assert len(reader.times) == len(want)
    if reader.size != want.shape[1:3]:  # oblong pixels are made square
        (height, width), stored = reader.size, want
        assert (height, width > stored.shape[2]) == (stored.shape[1], True)
        want = reader.frames(range(len(stored)))
        for i in (0, len(want) - 1):
            square = Image.fromarray(stored[i]).resize((width, height), Image.Resampling.BICUBIC)
            assert np.abs(np.asarray(square, int) - want[i]).mean() < 2
    assert reader.size == want.shape[1:3]
    np.testing.assert_array_equal(reader.frames(range(len(want))), want)
    last, rng = len(want) - 1, np.random.default_rng(seed)
    picks = [[last], [last, 0, last // 2, 0], [last // 2] * 3]
    picks += [rng.integers(0, last, n).tolist() for n in (1, 4)]
    for indices in picks[:few]:
        np.testing.assert_array_equal(reader.frames(indices), want[indices], str(indices))
    return reader, times


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_clips_frame_by_frame(path):
    reader, times = check_random_access(path, few=2)
    if path.suffix != ".avi":  # whose stamps are in the order of decoding
        np.testing.assert_allclose(reader.times, np.asarray(times) - times[0], atol=1e-6)


def test_there_are_real_clips():
    if not REAL:
        pytest.skip(reason="no recorded clips here: set FV_SHARED to a folder with clips/*.mp4")
    assert {path.suffix for path in REAL} == {".mp4", ".avi", ".gif"}


@pytest.mark.parametrize("kind", [*JUMPING, *COUNTING])
def test_every_kind_of_file_frame_by_frame(kind, tmp_path):
    path = videos.write(tmp_path / f"a.{kind}", videos.noise(), kind)
    reader, _ = check_random_access(path)
    np.testing.assert_allclose(reader.times, np.arange(24) / 25, atol=1e-3)
    assert fps_of(reader) == pytest.approx(25, rel=0.03)


@pytest.mark.parametrize("kind", JUMPING)
def test_a_late_frame_is_reached_by_a_jump(kind, tmp_path, monkeypatch):
    path = videos.write(tmp_path / f"a.{kind}", videos.noise(), kind)
    begins = []
    decode = VideoFile._decode
    monkeypatch.setattr(
        VideoFile, "_decode", lambda self, first: begins.append(first) or decode(self, first)
    )
    VideoFile(path).frames([22])
    assert begins == [22]


@pytest.mark.parametrize("kind", ["mp4", "avi", "gif"])
def test_a_long_group_of_pictures(kind, tmp_path):
    path = videos.write(tmp_path / f"a.{kind}", videos.noise(200, (32, 32)), kind)
    check_random_access(path)


@pytest.mark.parametrize("kind", ["avi", "h264.avi"])  # of frames that come later than packets
def test_frames_dropped_in_an_avi_leave_their_time(kind, tmp_path):
    stamps = 40 * np.array([*range(10), *range(40, 50)])
    path = videos.write(tmp_path / f"a.{kind}", videos.noise(20), kind, stamps=stamps.tolist())
    reader, _ = check_random_access(path)
    np.testing.assert_allclose(reader.times, stamps / 1000, atol=1e-6)


@pytest.mark.parametrize("kind", ["avi", "h264.avi"])
def test_packets_lost_from_an_avi_leave_their_time(kind, tmp_path):
    path = videos.write(tmp_path / f"a.{kind}", videos.noise(40), kind)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    data[places[14] - 8 : places[22] - 8] = bytes(places[22] - places[14])  # heads of chunks, too
    path.write_bytes(bytes(data))
    times = VideoFile(path).times
    assert len(times) < 40
    np.testing.assert_allclose(times[-8:], np.arange(32, 40) / 25, atol=1e-6)
    assert np.diff(times).max() >= 8 / 25


def with_edits(path, *edits):
    """An MP4 with another edit list: seconds, and the second of the media at which they begin."""
    data = bytearray(path.read_bytes())
    at, homes = 0, []
    for name in (b"moov", b"trak", b"edts", b"elst"):
        while data[at + 4 : at + 8] != name:
            at += int.from_bytes(data[at : at + 4], "big")
        homes.append(at)
        at += 8
    size = int.from_bytes(data[at - 8 : at - 4], "big")
    (start,) = struct.unpack_from(">i", data, at + 12)  # of what was the only edit
    with av.open(str(path)) as container:
        rate = container.streams.video[0].time_base.denominator
    rows = [struct.pack(">iii", round(1000 * s), start + round(rate * t), 65536) for s, t in edits]
    box = struct.pack(">I4sII", 16 + 12 * len(rows), b"elst", 0, len(rows)) + b"".join(rows)
    data[at - 8 : at - 8 + size] = box
    for home in homes[:-1]:
        struct.pack_into(
            ">I", data, home, int.from_bytes(data[home : home + 4], "big") + len(box) - size
        )
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("edits", "frames"),
    [
        ([(0.4, 0.2)], range(5, 15)),
        ([(0.2, 0), (0.4, 0.4)], [*range(5), *range(10, 20)]),
        ([(0.4, 0.4), (0.4, 0)], [*range(10, 20), *range(10)]),
        ([(0.4, 0.2), (0.4, 0.2)], [*range(5, 15), *range(5, 15)]),
    ],
)
def test_an_edit_list_says_what_is_shown_and_when(edits, frames, tmp_path):
    whole = videos.read(videos.write(tmp_path / "a.mp4", videos.noise(), "mp4"))[0]
    reader, times = check_random_access(with_edits(tmp_path / "a.mp4", *edits))
    np.testing.assert_array_equal(reader.frames(range(len(frames))), whole[list(frames)])
    # Where two parts meet, FFmpeg has the same time twice; here these share it.
    np.testing.assert_allclose(reader.times, np.asarray(times) - times[0], atol=0.021)
    assert reader.times[-1] == pytest.approx((len(frames) - 1) / 25, abs=0.041)


@pytest.mark.parametrize("kind", ["mp4", "part2.mp4", "mkv", "gif"])
def test_uneven_time_stamps_are_kept(kind, tmp_path):
    gaps = np.random.default_rng(1).integers(2, 20, 23) * 10  # a GIF counts in 10 ms
    stamps = np.concatenate([[0], np.cumsum(gaps)])
    frames = videos.noise(24)
    path = videos.write(tmp_path / f"a.{kind}", frames, kind, stamps=stamps.tolist())
    reader, _ = check_random_access(path)
    np.testing.assert_allclose(reader.times, stamps / 1000, atol=1e-3)
    assert fps_of(reader) == pytest.approx(1000 / np.median(gaps), rel=0.02)


def test_a_gif_of_pillow_with_uneven_delays(tmp_path):
    pictures = [Image.fromarray(f) for f in videos.noise(6)]
    delays = [20, 500, 100, 1000, 50, 200]  # ms
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=delays)
    reader, _ = check_random_access(tmp_path / "a.gif")
    np.testing.assert_allclose(reader.times, np.cumsum([0, *delays[:-1]]) / 1000, atol=1e-9)


def test_time_starts_at_the_first_frame(tmp_path):
    stamps = [5000 + 40 * i for i in range(24)]
    path = videos.write(tmp_path / "a.mkv", videos.noise(24), "mkv", stamps=stamps)
    reader, times = check_random_access(path)
    assert times[0] == 5
    np.testing.assert_allclose(reader.times, np.arange(24) / 25, atol=1e-9)


@pytest.mark.parametrize("shape", [(46, 62), (48, 34), (98, 18)])
@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_odd_macroblocks(shape, kind, tmp_path):
    path = videos.write(tmp_path / f"a.{kind}", videos.noise(6, shape), kind)
    check_random_access(path)


@pytest.mark.parametrize("shape", [(47, 63), (33, 64)])
def test_odd_sides(shape, tmp_path):
    for kind in ("webm", "gif", "avi"):
        check_random_access(videos.write(tmp_path / f"a.{kind}", videos.noise(6, shape), kind))


@pytest.mark.parametrize(
    ("turn", "corner", "size"),
    [(90, (-1, 0), (80, 48)), (-90, (0, -1), (80, 48)), (180, (-1, -1), (48, 80))],
)
def test_phone_videos_are_upright(turn, corner, size, tmp_path):
    frames = np.zeros((5, 48, 80, 3), np.uint8)
    frames[:, :16, :16] = (255, 0, 0)  # at the top left
    path = videos.write(tmp_path / "a.mp4", frames, "mp4", turn=turn)
    reader = VideoFile(path)
    assert reader.size == size
    got = reader.frames([4, 0])
    assert got.shape == (2, *size, 3)
    red = [got[0, y, x, 0] > 200 for y, x in itertools.product((0, -1), repeat=2)]
    assert red == [place == corner for place in itertools.product((0, -1), repeat=2)]


def test_a_file_in_memory(tmp_path):
    for kind in ("mp4", "avi", "gif"):
        path = videos.write(tmp_path / f"a.{kind}", videos.noise(), kind)
        held = VideoFile(path.read_bytes())
        np.testing.assert_array_equal(held.frames([20, 3]), VideoFile(path).frames([20, 3]))
        with pytest.raises(ClipError, match="cut short"):
            VideoFile(path.read_bytes()[:-50])


@pytest.mark.parametrize("name", ["a:b.mp4", "%03d.mp4", "a b,c=d.mp4", "http:x.mp4", "ä?&#.mp4"])
def test_names_that_look_like_something_else(name, tmp_path, monkeypatch):
    videos.write(tmp_path / name, videos.noise(4), "mp4")
    monkeypatch.chdir(tmp_path)
    assert len(VideoFile(type(tmp_path)(name)).times) == 4


def test_the_suffix_does_not_matter(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.noise(4), "mp4").rename(tmp_path / "a.gif")
    check_random_access(path)


@pytest.mark.parametrize("bad", [[], [-1], [24], [0, 99]])
def test_frames_that_are_not_there(bad, tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.noise(), "mp4")
    for reader in (VideoFile(path), Array(videos.noise, 25, count=24, size=(48, 64))):
        with pytest.raises(ValueError, match=r"must be in 0\.\.23"):
            reader.frames(bad)


def test_one_frame_is_too_few_unless_asked_for(tmp_path):
    for kind in ("mp4", "gif"):
        path = videos.write(tmp_path / f"a.{kind}", videos.noise(1), kind)
        with pytest.raises(ClipError, match="at least 2 frames, got 1"):
            VideoFile(path)
        reader = VideoFile(path, least=1)
        assert reader.frames([0, 0]).shape == (2, 48, 64, 3)


def sound(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_sound_without_video(tmp_path):
    sound(tmp_path / "a.mp4")
    with pytest.raises(ClipError, match="no video in the file"):
        VideoFile(tmp_path / "a.mp4")


def test_what_cannot_be_read_at_all(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("no video\n" * 100)
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would wait for a writer
    reasons = {
        "empty.mp4": "the file is empty",
        "words.mp4": "not a video, or a damaged one",
        "none.mp4": "No such file",
        "folder.mp4": "not a file",
        "pipe.mp4": "not a file",
    }
    for name, reason in reasons.items():
        with pytest.raises(ClipError, match=reason):
            VideoFile(tmp_path / name)


def test_a_playlist_opens_nothing_else(tmp_path):
    """FFmpeg would follow it: to other files, or into the network."""
    videos.write(tmp_path / "a.mp4", videos.noise(4), "mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    (tmp_path / "hls.mp4").write_text("#EXTM3U\n#EXTINF:1,\na.mp4\n#EXT-X-ENDLIST\n")
    for name in ("list.mp4", "hls.mp4"):
        with pytest.raises(ClipError, match="not a video"):
            VideoFile(tmp_path / name)


def test_frames_of_another_size_are_an_error(tmp_path):
    parts = []
    for shape in ((48, 64), (64, 80)):
        path = videos.write(tmp_path / "a.mpg", videos.noise(8, shape), "mpg")
        parts.append(path.read_bytes())
    (tmp_path / "a.mpg").write_bytes(b"".join(parts))
    reader = VideoFile(tmp_path / "a.mpg")
    with pytest.raises(ClipError, match=r"has 80x64 px, the first 64x48 px"):
        reader.frames(range(len(reader.times)))


def test_a_frame_too_large_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    path = videos.write(tmp_path / "a.mp4", videos.noise(4), "mp4")
    monkeypatch.setattr(video_file, "MOST_PIXELS", 40 * 40)
    with pytest.raises(ClipError):
        VideoFile(path)


def damaged(path, kind, which):
    """The same file with the packets of these numbers overwritten by zeros."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    head = 24 if kind == "flv" else 8  # of the container
    for place, size in (packets[i] for i in which):
        data[place + head : place + size] = bytes(max(0, size - head))
    other = path.with_name(f"damaged.{kind}")
    other.write_bytes(bytes(data))
    return other


@pytest.mark.parametrize("kind", ["mp4", "hevc.mp4", "part2.mp4", "avi", "h264.avi", "flv"])
@pytest.mark.parametrize("which", [range(12, 15), range(3)], ids=["middle", "start"])
def test_frames_that_cannot_be_decoded_cost_themselves(which, kind, tmp_path):
    """The frames that come are ffmpeg's own, and time goes on where none come."""
    path = videos.write(tmp_path / f"a.{kind}", videos.noise(40), kind)
    bad = damaged(path, kind, which)
    first = VideoFile(bad)
    first.frames(range(len(first.times)))  # which may only then find the damage
    reader = VideoFile(bad)
    count = len(reader.times)
    assert f"{40 - count} of 40 frames cannot be decoded: left out" in reader.notes
    assert 1 <= 40 - count <= 35
    got = reader.frames(range(count))
    np.testing.assert_array_equal(reader.frames([count - 1, 1]), got[[-1, 1]])
    assert np.diff(reader.times).max() >= (0.079 if which[0] else 0.039)
    assert reader.times[-1] <= 39 / 25 + 1e-3
    assert first.frames(range(len(first.times))).shape[0] == len(first.times)


def test_damage_within_a_packet_is_told_by_the_frame_that_does_not_come(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.noise(24), "mp4")
    with av.open(str(path)) as container:
        place, size = [(p.pos, p.size) for p in container.demux(video=0) if p.size][12]
    data = bytearray(path.read_bytes())
    data[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(bytes(data))
    reader = VideoFile(path)
    frames = reader.frames(range(len(reader.times)))
    assert any("cannot be decoded" in note for note in reader.notes)
    assert len(frames) == len(reader.times) >= 20
    assert any("left out" in note for note in VideoFile(path).notes)


def test_a_damaged_gif_says_so_and_leaves_no_logging_behind(tmp_path):
    path = videos.write(tmp_path / "a.gif", videos.noise(12), "gif")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(bytes(data))
    for _ in range(2):  # the same message twice
        reader = VideoFile(path)
        reader.frames(range(len(reader.times)))
        assert any("cannot be decoded" in note for note in reader.notes)
    assert av.logging.get_level() is None


def test_a_damaged_gif_does_not_blame_others_read_at_the_same_time(tmp_path):
    good = videos.write(tmp_path / "good.gif", videos.noise(12), "gif")
    data = bytearray(good.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    (tmp_path / "bad.gif").write_bytes(bytes(data))

    def read(name):
        reader = VideoFile(tmp_path / name)
        reader.frames(range(len(reader.times)))
        return bool(reader.notes)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(read, ["good.gif", "bad.gif"] * 40))
    assert results == [False, True] * 40


@pytest.mark.parametrize("kind", ["open_gop.mp4", "hevc.mp4", "mkv"])
def test_a_clip_that_begins_between_key_frames(kind, tmp_path):
    """Cut out without encoding anew: the frames before the first key frame are lost."""
    whole = videos.write(tmp_path / f"a.{kind}", videos.noise(40), kind)
    cut = tmp_path / f"b.{kind}"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [p for p in source.demux(video=0) if p.dts is not None][3:]:
            packet.stream = stream
            target.mux(packet)
    reader, want = VideoFile(cut), videos.sequential(cut)[0]
    assert len(reader.times) == len(want)
    assert any("frames cannot be decoded: left out" in note for note in reader.notes)
    np.testing.assert_array_equal(reader.frames(range(len(want))), want)
    np.testing.assert_array_equal(reader.frames([len(want) - 1, 2]), want[[-1, 2]])


def picture(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_pictures_in_order(tmp_path):
    frames = videos.noise(5)
    paths = [picture(tmp_path / f"{i}.png", f) for i, f in enumerate(frames)]
    reader = Pictures(paths, 10.0)
    np.testing.assert_allclose(reader.times, np.arange(5) / 10)
    assert reader.size == (48, 64)
    np.testing.assert_array_equal(reader.frames([4, 0, 4]), frames[[4, 0, 4]])


def test_pictures_gone_wrong(tmp_path):
    good = [picture(tmp_path / f"{i}.png", f) for i, f in enumerate(videos.noise(3))]
    other = picture(tmp_path / "other.png", videos.noise(1, (20, 20))[0])
    cut = tmp_path / "cut.png"
    cut.write_bytes(good[0].read_bytes()[:200])
    with pytest.raises(ClipError, match="at least 2 frames, got 1"):
        Pictures(good[:1], 10)
    with pytest.raises(ClipError, match=r"other\.png has 20x20 px, the first picture 64x48 px"):
        Pictures([*good, other], 10).frames([0, 3])
    for broken in (cut, tmp_path / "none.png"):
        reader = Pictures([*good, broken], 10)
        assert reader.frames([2]).shape == (1, 48, 64, 3)
        with pytest.raises(ClipError, match=f"{broken.name} is no readable picture"):
            reader.frames([3])


def test_pictures_of_huge_size_are_refused(tmp_path, monkeypatch):
    paths = [picture(tmp_path / f"{i}.png", f) for i, f in enumerate(videos.noise(2))]
    monkeypatch.setattr(pictures, "MOST_PIXELS", 100)
    with pytest.raises(ClipError, match=r"0\.png claims 64x48 px"):
        Pictures(paths, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own
    with pytest.raises(ClipError, match=r"0\.png claims more pixels than can be"):
        Pictures(paths, 10)


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=25)
def test_damaged_pictures_are_a_reason_or_pixels(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    buffer = io.BytesIO()
    Image.fromarray(videos.noise(1, (24, 24))[0]).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    path.write_bytes(bytes(content))
    try:
        got = Pictures([path, path], 10).frames([1])
    except ClipError as error:
        got = str(error)
    assert "a.png" in got if isinstance(got, str) else got.ndim == 4


def test_an_array_is_loaded_once_and_only_if_needed():
    calls = []

    def load():
        calls.append(1)
        return videos.noise(6)

    reader = Array(load, 10.0, count=6, size=(48, 64))
    np.testing.assert_allclose(reader.times, np.arange(6) / 10)
    assert not calls
    np.testing.assert_array_equal(reader.frames([5, 2, 5]), videos.noise(6)[[5, 2, 5]])
    reader.frames([0])
    assert len(calls) == 1
    with pytest.raises(ClipError, match="at least 2 frames"):
        Array(load, 10.0, count=1, size=(48, 64))
    with pytest.raises(ClipError, match=r"want uint8 frames \(7, 48, 64, 3\)"):
        Array(load, 10.0, count=7, size=(48, 64)).frames([0])


def test_the_rate_is_the_median_which_a_gap_does_not_change(tmp_path):
    stamps = [40 * i + 5000 * (i > 10) for i in range(24)]
    path = videos.write(tmp_path / "a.mkv", videos.noise(24), "mkv", stamps=stamps)
    assert fps_of(VideoFile(path)) == pytest.approx(25)


def test_a_jump_of_hours_is_damage(tmp_path):
    stamps = [40 * i + 10_000_000 * (i > 10) for i in range(24)]
    path = videos.write(tmp_path / "a.mkv", videos.noise(24), "mkv", stamps=stamps)
    with pytest.raises(ClipError, match="up to 3600"):
        VideoFile(path)


def test_an_end_that_is_missing_is_noticed_where_the_length_is_said(tmp_path):
    path = videos.write(tmp_path / "a.flv", videos.noise(60), "flv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ClipError, match=r"2\.4 s announced, but it ends after 0\.\d s"):
        VideoFile(path)


def test_no_file_stays_open(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.noise(), "mp4")
    before = len(os.listdir("/proc/self/fd"))
    open_readers = [VideoFile(path) for _ in range(5)]
    for reader in open_readers:
        reader.frames([3])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", [*JUMPING, *COUNTING, "flv"])
def test_a_whole_clip_is_decoded_once(kind, tmp_path, monkeypatch):
    """Read one by one, in pieces, or all together: its frames, and the first one at opening."""
    path = videos.write(tmp_path / f"a.{kind}", videos.noise(60, (16, 16)), kind)
    decoded, decode = [], FrameDecoder.__call__

    def counted(self, packet):
        for each in decode(self, packet):
            decoded.append(1)
            yield each

    monkeypatch.setattr(FrameDecoder, "__call__", counted)
    ways = (
        lambda reader: list(reader.each(range(60))),
        lambda reader: reader.frames(range(60)),
        lambda reader: list(read_pieces(reader, np.split(np.arange(60), 6), 16)),
    )
    for way in ways:
        decoded.clear()
        way(VideoFile(path))
        assert 60 <= len(decoded) <= 1.05 * 60
