"""How frames are shown: each generated file beside the pixels that a viewer would see."""

from fractions import Fraction

import av
import numpy as np
import pytest
import videos

from fv_jax.media import open_clip
from fv_jax.media.display import over_background, tone_mapped

WHITE, RED = (255, 255, 255), (255, 0, 0)


def encode(path, frames, codec, pixels, *, options=None, form=None, prepare=lambda context: None):
    """Frames as rgb24 or rgba arrays, or ready av.VideoFrames, at 25 fps."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        first = frames[0]
        ready = isinstance(first, av.VideoFrame)
        stream.height, stream.width = (first.height, first.width) if ready else first.shape[:2]
        stream.pix_fmt = pixels
        prepare(stream.codec_context)
        for frame in frames:
            if not ready:
                kind = "rgba" if frame.shape[-1] == 4 else "rgb24"
                frame = av.VideoFrame.from_ndarray(frame, format=kind).reformat(format=pixels)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def near(pixels, color, slack):
    return np.abs(pixels.astype(int) - color).max() <= slack


def half_transparent(count=3):
    """Green that nobody should see on the left, red on the right, and half a black below it."""
    frames = np.zeros((count, 64, 64, 4), np.uint8)
    frames[..., :3] = (0, 255, 0)
    frames[:, :, 32:] = (*RED, 255)
    frames[:, 48:, 32:] = (0, 0, 0, 128)
    return frames


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "slack"),
    [
        ("a.mov", "qtrle", "argb", 0),
        ("a.mov", "png", "rgba", 0),
        ("a.mov", "prores_ks", "yuva444p10le", 6),
        ("a.webm", "libvpx-vp9", "yuva420p", 12),
        ("a.webm", "libvpx", "yuva420p", 12),
        ("a.mkv", "ffv1", "bgra", 0),
    ],
)
def test_what_is_transparent_is_shown_on_white(name, codec, pixels, slack, tmp_path):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    options = {"profile": "4444"} if codec == "prores_ks" else {}
    if codec.startswith("libvpx"):  # which says so only where it is told to
        options |= {"auto-alt-ref": "0"}
    path = encode(tmp_path / name, list(half_transparent()), codec, pixels, options=options)
    reader = open_clip(path)
    (shown,) = reader.frames([1])
    assert near(shown[4:60, 4:28], WHITE, slack)
    assert near(shown[4:44, 36:60], RED, slack + 2)
    assert near(shown[52:60, 36:60], (127, 127, 127), slack + 2)
    assert "transparent pixels are shown on white" in reader.notes


def test_alpha_is_straight_and_opaque_pictures_are_left_alone():
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    mixed = over_background(rgba)
    assert mixed.tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    assert over_background(np.full((2, 2, 4), 255, np.uint8)) is None


@pytest.mark.parametrize(
    ("shape", "size"),
    [(Fraction(64, 45), (48, 91)), (Fraction(8, 9), (48, 57)), (Fraction(1), (48, 64)),
     (Fraction(200, 1), (48, 64))],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_pixels_that_are_not_square_become_square(kind, shape, size, tmp_path):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(48, 0).repeat(3, -1)

    def oblong(context):
        context.sample_aspect_ratio = shape

    path = encode(tmp_path / f"a.{kind}", [ramp] * 3, "libx264", "yuv420p", prepare=oblong)
    reader = open_clip(path)
    (shown,) = reader.frames([2])
    assert (reader.size, shown.shape[:2]) == (size, size)
    assert bool(reader.notes) == (size != (48, 64))
    assert near(shown[24, [4, size[1] // 2, -4], 0], [16, 128, 240], 12)


MATRICES = {  # turned anticlockwise by these degrees, mirrored: where the corners A B / C D go
    (0, False): "AB/CD", (90, False): "BD/AC", (180, False): "DC/BA", (270, False): "CA/DB",
    (0, True): "BA/DC", (90, True): "DB/CA", (180, True): "CD/AB", (270, True): "AC/BD",
}  # fmt: skip
CORNERS = {"A": (255, 0, 0), "B": (0, 255, 0), "C": (0, 0, 255), "D": (255, 255, 0)}


@pytest.mark.parametrize(("turn", "mirrored"), MATRICES)
def test_all_turns_and_mirrors(turn, mirrored, tmp_path):
    frame = np.zeros((48, 80, 3), np.uint8)
    for (y, x), name in zip([(0, 0), (0, 40), (24, 0), (24, 40)], "ABCD"):
        frame[y : y + 24, x : x + 40] = CORNERS[name]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        stream.set_display_rotation(turn, mirrored)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    (shown,) = open_clip(tmp_path / "a.mp4").frames([1])
    assert shown.shape[:2] == ((48, 80) if turn % 180 == 0 else (80, 48))
    quarter = shown.shape[0] // 4, shown.shape[1] // 4
    seen = ["".join(min(CORNERS, key=lambda c: np.abs(
        shown[y * quarter[0], x * quarter[1]].astype(int) - CORNERS[c]).sum()) for x in (1, 3))
        for y in (1, 3)]  # fmt: skip
    assert "/".join(seen) == MATRICES[turn, mirrored]


@pytest.mark.parametrize("angle", [90, 180])
def test_a_turn_that_the_stream_says_once_is_that_of_all_frames(angle, tmp_path):
    path = videos.write(tmp_path / "whole.mp4", videos.noise(20), "mkv")  # key frames: 0, 8, 16
    stored = open_clip(path).frames(range(20))
    change = f"h264_metadata=display_orientation=insert:rotate={angle}"
    reader = open_clip(videos.rewritten(path, tmp_path / "turned.mkv", change))
    want = np.rot90(stored, angle // 90, axes=(1, 2))
    assert reader.size == want.shape[1:3]
    assert np.abs(reader.frames(range(20)).astype(int) - want).mean() < 1
    assert np.abs(reader.frames([13]).astype(int) - want[13]).mean() < 1


def pq(nits):
    """SMPTE ST 2084, from light to code."""
    power = (nits / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def gray(code, transfer):
    """A 10-bit frame of limited range, all of one code in [0, 1]."""
    frame = av.VideoFrame(64, 48, "yuv420p10le")
    values = round(64 + 876 * code), 512, 512
    for plane, value in zip(frame.planes, values):
        plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
    return frame


@pytest.mark.parametrize(
    ("nits", "want"),
    [(0, 0), (0.01 * 203, 25), (0.1 * 203, 89), (0.3 * 203, 149), (203, 210), (1000, 255),
     (4000, 255)],
)  # fmt: skip
def test_the_curve_of_pq(nits, want):
    """Up to 30% of reference white sRGB's own values, then a bend up to 1000 cd/m2."""
    shown = tone_mapped(gray(pq(nits), 16))
    assert near(shown, want, 2 if nits < 100 else 4)


def test_hlg_gets_brighter_up_to_white():
    shown = [int(tone_mapped(gray(code, 18))[0, 0, 0]) for code in np.linspace(0, 1, 11)]
    assert shown[0] == 0
    assert shown[-1] >= 252
    assert (np.diff(shown) > 0).all()
    assert 190 <= int(tone_mapped(gray(0.75, 18))[0, 0, 0]) <= 225  # reference white: BT.2408


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_tone_mapped_and_told(transfer, name, tmp_path):
    def hdr(context):
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9

    frames = [gray(pq(203) if transfer == 16 else 0.75, transfer) for _ in range(3)]
    options = {"x265-params": "log-level=none"}
    path = encode(
        tmp_path / "a.mp4", frames, "libx265", "yuv420p10le", options=options, prepare=hdr
    )
    reader = open_clip(path)
    assert reader.notes == [f"HDR ({name}): tone-mapped to SDR, 1000 cd/m2 to white"]
    assert near(reader.frames([2]), 210, 8)


@pytest.mark.parametrize("full", [False, True])
def test_limited_and_full_range(full, tmp_path):
    def ranged(context):
        context.color_range = 2 if full else 1

    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(48, 0).repeat(3, -1)
    source = av.VideoFrame.from_ndarray(ramp, format="rgb24")
    frames = [source.reformat(format="yuv420p", dst_color_range=2 if full else 1) for _ in "abc"]
    path = encode(tmp_path / "a.mp4", frames, "libx264", "yuv420p", prepare=ranged)
    assert near(open_clip(path).frames([1])[0], ramp, 6)


def interlaced(tmp_path, kind="mp4"):
    """A white bar that moves between the two fields of every frame."""
    frames = np.zeros((12, 96, 96, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[::2, 4 + 6 * i : 20 + 6 * i] = 255
        frame[1::2, 7 + 6 * i : 23 + 6 * i] = 255
    codec, options = {
        "mp4": ("libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "1"}),
        "mpg": ("mpeg2video", {"flags": "+ildct+ilme", "qmax": "2"}),
    }[kind]
    return encode(tmp_path / f"a.{kind}", list(frames), codec, "yuv420p", options=options)


def combed(frame):
    """How much a line differs from those above and below it, where these agree."""
    lines = frame[..., 1].astype(int)
    return np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean()


@pytest.mark.parametrize("kind", ["mp4", "mpg"])
def test_fields_become_frames(kind, tmp_path):
    path = interlaced(tmp_path, kind)
    stored, times = videos.sequential(path)
    reader = open_clip(path)
    assert any("interlaced" in note for note in reader.notes)
    np.testing.assert_allclose(reader.times, np.asarray(times) - times[0], atol=1e-6)
    shown = reader.frames(range(len(stored)))
    assert len(shown) == 12
    assert combed(shown[6]) < 0.2 * combed(stored[6])
    for some in ([6], [11], [3, 9], [0]):  # whatever is asked for, the same frames
        np.testing.assert_array_equal(reader.frames(some), shown[some])


def test_frames_that_are_interlaced_later_on_are_told(tmp_path):
    parts = []
    for flags in ("-ildct", "+ildct+ilme"):
        options = {"flags": flags, "x264-params": "tff=1" if "+" in flags else "", "bf": "0"}
        frames = [np.full((96, 96, 3), 20 * i, np.uint8) for i in range(6)]
        path = encode(tmp_path / "a.ts", frames, "libx264", "yuv420p", options=options)
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    reader = open_clip(path)
    assert not any("interlaced" in note for note in reader.notes)
    reader.frames(range(12))
    assert "interlaced later on: shown as stored" in reader.notes
