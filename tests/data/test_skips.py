"""Clips left out: each reported once, by whichever thread, process or run comes first."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from fv_jax.data.skips import Skips
from fv_jax.data.sources.base import Problem

ELSEWHERE = """
import pathlib, sys
from fv_jax.data.skips import Skips
for clip in sys.argv[2:]:
    Skips(pathlib.Path(sys.argv[1])).add(clip, "elsewhere")
"""


def reports(capfd):
    lines = capfd.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("fv: left out ")]


def test_clips_are_recorded_with_their_reasons_by_id(tmp_path, capfd):
    skips = Skips(tmp_path / "left_out")
    assert skips.problems() == []
    skips.add("b/é.mp4", ValueError("too short"))
    skips.add("a\nb", "line breaks\nin both")
    assert skips.problems() == [
        Problem("a\nb", "line breaks\nin both"),
        Problem("b/é.mp4", "too short"),
    ]
    assert reports(capfd)[0] == "fv: left out b/é.mp4: too short"


def test_a_clip_is_reported_once_with_its_first_reason(tmp_path, capfd):
    for reason in ("first", "second"):
        Skips(tmp_path).add("clip", reason)
    assert Skips(tmp_path).problems() == [Problem("clip", "first")]
    assert reports(capfd) == ["fv: left out clip: first"]


def test_threads_report_each_clip_once(tmp_path, capfd):
    clips = [f"clip {i}" for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda clip: Skips(tmp_path).add(clip, "damaged"), clips * 8))
    assert [problem.id for problem in Skips(tmp_path).problems()] == sorted(clips)
    assert sorted(reports(capfd)) == sorted(f"fv: left out {clip}: damaged" for clip in clips)


def test_processes_report_each_clip_once(tmp_path, capfd):
    Skips(tmp_path).add("ours", "here")
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path), "ours", "theirs"]
    subprocess.run(command, check=True)
    Skips(tmp_path).add("theirs", "here")
    assert Skips(tmp_path).problems() == [Problem("ours", "here"), Problem("theirs", "elsewhere")]
    assert reports(capfd) == ["fv: left out ours: here", "fv: left out theirs: elsewhere"]


def test_a_record_that_is_just_being_written_is_not_listed_yet(tmp_path):
    Skips(tmp_path).add("whole", "damaged")
    (tmp_path / "0123456789abcdef.json").write_text('{"id": "ha')
    assert [problem.id for problem in Skips(tmp_path).problems()] == ["whole"]


def test_strict_raises_and_records_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"clip: damaged \(without --strict it would be left out"):
        Skips(tmp_path / "left_out", strict=True).add("clip", "damaged")
    assert not (tmp_path / "left_out").exists()
