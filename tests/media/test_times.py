"""Times of frames made from what packets say: read, guessed, spread or refused."""

import inspect
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import videos

from fv_jax.media import times
from fv_jax.media.readers import ClipError
from fv_jax.media.times import Index, Times, evenly, of_decoded


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """25 fps, stamps in milliseconds."""
    path = videos.write(tmp_path_factory.mktemp("times") / "a.mkv", videos.noise(4), "mkv")
    with av.open(str(path)) as container:
        yield container.streams.video[0]


@pytest.fixture
def times_of(stream):
    """Times of a stream with this index, in a file of this form."""

    def make(index, form="matroska", codec="h264") -> Times:
        container = SimpleNamespace(format=SimpleNamespace(name=form))
        # Without the tests' own check of annotations, which wants an open file.
        return inspect.unwrap(times.times)(index, container, stream, codec)

    return make


def test_stamps_in_any_order_are_times_from_the_first_on_and_what_frames_are_known_by(times_of):
    found = times_of(Index([40, 120, 80], [0, 40, 80]))
    np.testing.assert_allclose(found.seconds, [0, 0.04, 0.08])
    assert (found.stamps, found.notes) == ([40, 80, 120], ())
    # Stamps of such a codec, or after a clock that was set back, find no decoded frame.
    assert times_of(Index([0, 40], [0, 40]), codec="mpeg4").stamps is None
    joined = times_of(Index([0, 40], [0, 40], joined=True))
    assert joined.stamps is None
    assert joined.notes == ("the clock is set back on the way: taken as joined",)


def test_stamps_of_packets_find_no_frame_that_comes_in_another_order(times_of):
    found = times_of(Index([40, 80, 120], [0, 40, 80], delay=2))
    np.testing.assert_allclose(found.seconds, [0, 0.04, 0.08])
    assert (found.stamps, found.notes) == (None, ())
    assert times_of(Index([40, 160, 80], [0, 40, 80], delay=2)).stamps == [40, 80, 160]


@pytest.fixture
def index_of(stream):
    """The index of packets with these times of presentation and of decoding, ms."""

    def make(*stamps) -> Index:
        packets = [av.Packet(b"\0") for _ in stamps]
        for packet, (pts, dts) in zip(packets, stamps):
            packet.pts, packet.dts, packet.time_base = pts, dts, Fraction(1, 1000)
        form = SimpleNamespace(name="matroska")
        container = SimpleNamespace(format=form, duration=None, demux=lambda: packets)
        return inspect.unwrap(times.index)(container, stream, lambda _: [])

    return make


def test_a_clock_is_set_back_where_both_times_are(index_of):
    joined = index_of((0, 0), (120, 40), (40, 80), (0, 0), (120, 40), (40, 80))
    assert (joined.joined, joined.stamps) == (True, [0, 120, 40, 81, 201, 121])
    # Xvid's in Matroska, whose times of decoding somebody made up.
    odd = index_of((0, -40), (120, 0), (160, 160), (200, 200), (240, 120), (280, 280))
    assert (odd.joined, odd.stamps) == (False, [0, 120, 160, 200, 240, 280])


def test_frames_of_one_time_are_spread_to_the_next(times_of):
    found = times_of(Index([0, 0, 100, 100, 100, 250], [0] * 6))
    np.testing.assert_allclose(found.seconds, [0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert found.stamps is None
    assert found.notes == ("3 frames have the time of another one: spread to the next time",)
    last = times_of(Index([0, 100, 100], [0] * 3)).seconds  # the last lasts as long as the others
    np.testing.assert_allclose(last, [0, 0.1, 0.15])
    np.testing.assert_allclose(times_of(Index([7, 7], [0, 0])).seconds, [0, 5e-4])


@pytest.mark.parametrize(
    ("stamps", "seconds", "twice"),
    [
        ([0, 1, 80, 81, 160], [0, 0.04, 0.08, 0.12, 0.16], 2),
        ([0, 1, 2, 120], [0, 0.04, 0.08, 0.12], 2),
        ([0, 1, 2, 3], [0, 0.001, 0.002, 0.003], 0),  # 1000 a second
        ([0, 2, 80, 82, 160], [0, 0.002, 0.08, 0.082, 0.16], 0),
    ],
)
def test_a_frame_a_tick_after_another_has_its_time(stamps, seconds, twice, times_of):
    found = times_of(Index(stamps, stamps))
    np.testing.assert_allclose(found.seconds, seconds)
    assert (found.stamps, len(found.notes)) == (stamps, bool(twice))


@pytest.mark.parametrize(
    ("index", "form", "seconds"),
    [
        (Index([0, None, 80], [0, 40, 90]), "mpeg", [0, 0.04, 0.09]),  # the order of decoding
        (Index([0, None, 80], [0, None, 90]), "mpeg", None),
        (Index([None, None], [None, None]), "mpeg", None),
        (Index([0, 80, 40], [0, 40, 120]), "avi", [0, 0.04, 0.12]),
        (Index([0, 40, 80], [0, 40, 40]), "avi", None),
        # A frame's time is that of the packet that it comes with, here the second after its own.
        (Index([0] * 5, [0, 40, 80, 120, 900], delay=2), "avi", [0, 0.04, 0.82, 0.86, 0.9]),
        (Index([0, 80, 120], [0, 40, 80]), "mpegvideo", None),
    ],
)
def test_where_stamps_are_missing_the_order_of_decoding_counts_else_the_rate(
    times_of, index, form, seconds
):
    found = times_of(index, form)
    assert found.stamps is None
    if seconds is None:
        seconds = np.arange(len(index.stamps)) / 25
        assert found.notes == ("frames have no times of their own: taken as even, 25 fps",)
    np.testing.assert_allclose(found.seconds, seconds)


def test_a_gif_s_shortest_frames_last_as_long_as_browsers_show_them():
    container = SimpleNamespace(format=SimpleNamespace(name="gif"))
    hundredths = SimpleNamespace(time_base=Fraction(1, 100))
    index = Index([0, 5, 6, 8, 9], [0, 5, 6, 8, 9])
    found = inspect.unwrap(times.times)(index, container, hundredths, "gif")
    np.testing.assert_allclose(found.seconds, [0, 0.05, 0.15, 0.17, 0.27])
    assert found.stamps == index.stamps


def test_a_file_without_times_and_rate_is_refused_and_so_is_a_frame_of_hours(times_of):
    unknown = SimpleNamespace(average_rate=None, guessed_rate=None)
    with pytest.raises(ClipError, match="the file does not say its frame rate"):
        inspect.unwrap(evenly)(unknown, 3)
    with pytest.raises(ClipError, match=r"frames last 0.04 to 3.6e\+06 s, up to 3600 can be"):
        times_of(Index([0, 40, 3_600_000_040], [0, 1, 2]))


def test_decoded_frames_have_their_own_times_or_even_ones(stream):
    read = lambda frames, **more: of_decoded(frames, Index(**more), stream, "h264")
    found, numbers = read([(1, 40), (2, 80), (4, 200)])
    np.testing.assert_allclose(found.seconds, [0, 0.04, 0.16])
    assert (found.stamps, numbers) == ([40, 80, 200], [1, 2, 4])
    assert read([(1, 80), (2, 40)])[0].stamps is None  # not in the order of the screen
    assert read([(1, 40), (2, 80)], joined=True)[0].stamps is None
    for frames in ([(0, None), (1, 40)], [(0, 40), (3, 40)]):
        found, numbers = read(frames)
        np.testing.assert_allclose(found.seconds, [0, 0.04])
        assert numbers == [number for number, _ in frames]


@pytest.mark.parametrize(
    ("stamps", "seconds"),
    [
        ([40, None, None, 100, 200], [0, 0.02, 0.04, 0.06, 0.16]),
        ([None, 40, 80, None], [0, 0.04, 0.08, 0.12]),
        ([0, 400, None, 480], [0, 0.4, 0.44, 0.48]),
    ],
)
def test_decoded_frames_without_a_time_are_spread_between_others(stamps, seconds, stream):
    found, numbers = of_decoded([*enumerate(stamps)], Index(), stream, "h264")
    np.testing.assert_allclose(found.seconds, seconds)
    assert (found.stamps, numbers) == (None, [*range(len(stamps))])
    count = stamps.count(None)
    assert found.notes == (f"{count} frames have no time: spread between others",)


def test_a_beginning_that_cannot_be_decoded_shows_in_the_packets():
    first = av.VideoFrame(2, 2)
    first.pts = 40
    assert not Index([40, 80], first=first).begins_late
    assert Index([40, 0], first=first).begins_late
    assert Index([40, None], first=first).begins_late
    assert Index([40, 80], first=first, key_first=False).begins_late
    assert not Index([40, 80]).begins_late


@pytest.mark.parametrize(
    ("data", "codec", "fits"),
    [
        ("0002 6511 0001 41", "h264", True),
        ("0002 6511 0002 41", "h264", False),  # runs over the end
        ("0002 6511 00", "h264", False),  # a rest
        ("0000", "h264", False),
        ("0001 e5", "h264", False),  # the first bit is 0 in every unit
        ("0001 60", "h264", False),  # of no kind
        ("0001 00", "hevc", True),
        ("", "h264", False),
    ],
)
def test_units_of_a_packet_fill_it(data, codec, fits):
    assert times._nals_fit(memoryview(bytes.fromhex(data)), 2, codec) is fits
