"""UCF-101: every way to unpack it, the official lists, and classes as words."""

import numpy as np
import pytest
from places import SHARED

from fv_jax.data.sources.base import open_source
from fv_jax.data.sources.ucf101 import words
from fv_jax.media.readers import fps_of
from fv_jax.media.writers import write_mp4

TRAIN = (
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1",
    "HandstandPushups/v_HandStandPushups_g08_c02.avi 37",
    "YoYo/v_YoYo_g09_c05.avi 101",
)
TEST = ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "YoYo/v_YoYo_g01_c01.avi")


def write_lists(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainlist01.txt").write_text("\r\n".join(TRAIN) + "\r\n")
    (folder / "testlist01.txt").write_text("\n".join(TEST) + "\n")
    (folder / "classInd.txt").write_text("1 ApplyEyeMakeup\n")


def write_clips(folder, flat=False):
    """Every clip of the lists; the files spell one class in their own way."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    write_mp4(frames, 25, folder / "first.avi")
    data = (folder / "first.avi").read_bytes()
    (folder / "first.avi").unlink()
    for line in TRAIN + TEST:
        path = folder / line.split()[0].replace("v_HandStand", "v_Handstand")
        path = folder / path.name if flat else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.mark.parametrize("clips", ["UCF-101", ".", "deep/er/UCF-101"])
@pytest.mark.parametrize("lists", ["ucfTrainTestlist", "../ucfTrainTestlist", "."])
@pytest.mark.parametrize("flat", [False, True])
def test_every_layout_gives_the_same_clips(tmp_path, clips, lists, flat):
    place = tmp_path / "data"
    write_clips(place / clips, flat)
    write_lists(place / lists)
    source = open_source(f"ucf101:{place}")
    assert [(entry.id, entry.text) for entry in source] == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", "Apply Eye Makeup"),
        ("HandstandPushups/v_HandstandPushups_g08_c02", "Handstand Pushups"),
        ("YoYo/v_YoYo_g09_c05", "Yo Yo"),
    ]
    assert source.problems == []
    assert [entry.text for entry in open_source(f"ucf101:{place},split=test")] == [
        "Apply Eye Makeup",
        "Yo Yo",
    ]


def test_clips_are_read(tmp_path):
    write_clips(tmp_path)
    write_lists(tmp_path)
    reader = open_source(f"ucf101:{tmp_path}")[1].open()
    assert reader.frames([2, 0]).shape == (2, 16, 16, 3)
    assert fps_of(reader) == pytest.approx(25)


def test_all_needs_no_lists_and_has_the_ids_of_the_splits(tmp_path):
    write_clips(tmp_path)
    ids = [entry.id for entry in open_source(f"ucf101:{tmp_path},split=all")]
    write_lists(tmp_path)
    splits = [open_source(f"ucf101:{tmp_path},split={split}") for split in ("train", "test")]
    assert ids == sorted(entry.id for source in splits for entry in source)


def test_listed_clips_without_a_file_are_problems(tmp_path):
    write_clips(tmp_path)
    write_lists(tmp_path)
    (tmp_path / "YoYo/v_YoYo_g09_c05.avi").unlink()
    source = open_source(f"ucf101:{tmp_path}")
    assert len(source) == 2
    (problem,) = source.problems
    assert problem.id == "YoYo/v_YoYo_g09_c05"
    assert problem.reason == "the list names it, but there is no such file"


def test_a_clip_that_is_there_twice_is_taken_once(tmp_path):
    write_clips(tmp_path)
    copy = tmp_path / "copy" / "v_yoyo_g09_c05.mp4"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "YoYo/v_YoYo_g09_c05.avi").read_bytes())
    source = open_source(f"ucf101:{tmp_path},split=all")
    assert len(source) == 5
    (problem,) = source.problems
    assert problem.reason == "left out, the same as YoYo/v_YoYo_g09_c05.avi"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("YoYo", "Yo Yo"),
        ("Archery", "Archery"),
        ("PlayingDhol", "Playing Dhol"),
        ("CleanAndJerk", "Clean And Jerk"),
    ],
)
def test_classes_as_words(label, expected):
    assert words(label) == expected


def test_missing_lists_say_what_to_unpack(tmp_path):
    write_clips(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no trainlist02.txt .*Task\.zip.*split=all"):
        open_source(f"ucf101:{tmp_path},list=2")


def test_missing_clips_and_folders_say_what_to_unpack(tmp_path):
    write_lists(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no clip named .* unpack UCF101\.rar"):
        open_source(f"ucf101:{tmp_path}")
    with pytest.raises(FileNotFoundError, match=r"no folder .* unpack UCF101\.rar"):
        open_source(f"ucf101:{tmp_path}/nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("split=valid", "split: no 'valid'; there are: train, test, all"),
        ("list=4", "list must be 1, 2 or 3, got 4"),
        ("list=one", "list must be a number, got 'one'"),
        ("fold=1", "no option 'fold'; there are: split, list"),
    ],
)
def test_unknown_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        open_source(f"ucf101:{tmp_path},{options}")


def test_a_list_of_something_else_is_refused(tmp_path):
    write_clips(tmp_path)
    (tmp_path / "trainlist01.txt").write_text("1 ApplyEyeMakeup\n")
    with pytest.raises(ValueError, match=r"trainlist01.txt, line 1: want Class/v_Class_g01_c01"):
        open_source(f"ucf101:{tmp_path}")


def test_a_real_clip(tmp_path):
    real = SHARED / "clips" / "ucf101_ApplyEyeMakeup_g01_c01.avi"
    if not real.is_file():
        pytest.skip(f"no clip of UCF-101 at {real} (set FV_SHARED)")
    write_lists(tmp_path / "ucfTrainTestlist")
    link = tmp_path / "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    source = open_source(f"ucf101:{tmp_path},split=test")
    assert (len(source), len(source.problems)) == (1, 1)
    reader = source[0].open()
    assert (len(reader.times), reader.size) == (164, (240, 320))
    assert fps_of(reader) == pytest.approx(25)
    assert reader.frames([0]).std() > 10
