"""Kinetics-600: CSV and clips wherever they lie, and the many clips that are gone."""

import os

import numpy as np
import pytest

from fv_jax.data.sources.base import open_source
from fv_jax.media.writers import write_mp4

HEADER = "label,youtube_id,time_start,time_end,split"
ROWS = (
    "abseiling,-0IErS_cKXQ,50,60,{split}",
    '"tossing coin, badly",0wR5jVB-WPk,417,427,{split}',
    "zumba,gone1234567,1,11,{split}",
)
NAMES = ("-0IErS_cKXQ_000050_000060", "0wR5jVB-WPk_000417_000427")


def write_csv(path, split="train", bom=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([HEADER, *ROWS]).format(split=split)
    path.write_text(text + "\n", encoding="utf-8-sig" if bom else "utf-8")


def write_clips(folder, names=NAMES, suffix=".mp4"):
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    for name in names:
        write_mp4(frames, 30, folder / f"{name}{suffix}")


@pytest.mark.parametrize("csv", ["train.csv", "annotations/train.csv", "kinetics-600_train.csv"])
@pytest.mark.parametrize("clips", ["train", "train/abseiling", "."])
def test_csv_and_clips_are_found_wherever_they_are(tmp_path, csv, clips):
    write_csv(tmp_path / csv, bom=True)
    write_clips(tmp_path / clips)
    source = open_source(f"kinetics600:{tmp_path}")
    assert [(entry.id, entry.text) for entry in source] == [
        (NAMES[0], "abseiling"),
        (NAMES[1], "tossing coin, badly"),
    ]
    assert source[0].open().frames([2]).shape == (1, 16, 16, 3)


def test_missing_clips_are_problems(tmp_path):
    write_csv(tmp_path / "train.csv")
    write_clips(tmp_path, NAMES[1:], ".webm")
    source = open_source(f"kinetics600:{tmp_path}")
    assert [entry.id for entry in source] == [NAMES[1]]
    assert [problem.id for problem in source.problems] == [NAMES[0], "gone1234567_000001_000011"]
    assert {p.reason for p in source.problems} == {"no file; its video may be gone from YouTube"}


@pytest.mark.parametrize("csv", ["val.csv", "validate.csv", "kinetics-600_val.csv"])
def test_validation_has_several_names(tmp_path, csv):
    write_csv(tmp_path / csv, split="validate")
    write_csv(tmp_path / "train.csv")
    write_clips(tmp_path / "val")
    assert len(open_source(f"kinetics600:{tmp_path},split=val")) == 2


def test_the_folder_is_walked_once(tmp_path, monkeypatch):
    write_csv(tmp_path / "train.csv")
    write_clips(tmp_path)
    walks, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: walks.append(a) or walk(*a, **k))
    source = open_source(f"kinetics600:{tmp_path}")
    assert [entry.text for entry in source] == ["abseiling", "tossing coin, badly"]
    assert len(walks) == 1


def test_no_clip_at_all_is_an_error_that_names_the_first(tmp_path):
    write_csv(tmp_path / "train.csv")
    with pytest.raises(ValueError, match=r"no clips in kinetics600:.*gone from YouTube"):
        open_source(f"kinetics600:{tmp_path}")


def test_a_missing_csv_says_where_to_get_it(tmp_path):
    write_clips(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no test.csv in .*cvdfoundation"):
        open_source(f"kinetics600:{tmp_path},split=test")


def test_two_csvs_of_a_split_are_refused(tmp_path):
    write_csv(tmp_path / "train.csv")
    write_csv(tmp_path / "annotations" / "train.csv")
    with pytest.raises(ValueError, match=r"holds train.csv and annotations/train.csv; keep one"):
        open_source(f"kinetics600:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("youtube_id,label\n", "no column time_start, time_end; want label,youtube_id"),
        ("", "no column label, youtube_id"),
        (f"{HEADER}\nzumba,abc,one,11,train\n", "line 2: want .*, got zumba,abc,one,11,train"),
        (f"{HEADER}\nzumba,abc,1e999,11,train\n", "line 2: want .*, got zumba,abc,1e999"),
        (f"{HEADER}\ncaf\xe9,abc,1,11,train\n", "no UTF-8 text file"),
        (f'{HEADER}\n"' + "zumba\n" * 25_000, "no CSV file"),
        (f"{HEADER}\nzumba,abc\n", "line 2: want .*, got zumba,abc,None"),
    ],
)
def test_other_csvs_are_refused(tmp_path, text, message):
    (tmp_path / "train.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        open_source(f"kinetics600:{tmp_path}")


def test_unknown_splits_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="split: no 'valid'; did you mean 'val'"):
        open_source(f"kinetics600:{tmp_path},split=valid")
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_source(f"kinetics600:{tmp_path}/nowhere")
