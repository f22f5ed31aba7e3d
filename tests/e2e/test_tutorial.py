"""The commands of docs/tutorial.md, each as it is written there, on a few real clips."""

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys

import pytest
from places import ROOT, SHARED

from fv_jax.media import open_clip
from fv_jax.media.frames import fit
from fv_jax.metrics import psnr

CLIPS = {"cat/001": "kinetics_*", "cat/002": "ucf101_*", "dog/001": "mmaction2_*",
         "dog/002": "carphone_*", "robot/001": "bair_*"}  # fmt: skip


def commands():
    """Those of the section on one's own videos, up to its table."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    section = text.split("## Your own videos")[1].split("\n| after")[0]
    block = re.findall(r"^    (.*)$", section, re.MULTILINE)
    return [shlex.split(line) for line in "\n".join(block).replace("\\\n", " ").splitlines()]


def test_the_section_goes_from_clips_to_an_evaluation():
    names = [words[1] for words in commands()]
    assert names == ["data", "train", "tokenize", "train", "generate", "interpolate", "evaluate"]


@pytest.mark.slow
def test_every_command_works_and_the_result_is_not_gray(tmp_path):
    assert SHARED, "needs FV_SHARED, a folder with real clips in clips/"
    for name, pattern in CLIPS.items():
        (source,) = (SHARED / "clips").glob(pattern)
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, (tmp_path / "clips" / name).with_suffix(source.suffix))
    before, said = resource.getrusage(resource.RUSAGE_CHILDREN), {}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for words in commands():
        done = subprocess.run(
            [sys.executable, "-m", "fv_jax", *words[1:]], cwd=tmp_path, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"
        assert "dead" not in done.stderr
        said[" ".join(words[1:3])] = done.stdout + done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu < 900, f"{cpu:.0f} s of CPU time"  # so on two cores less than 15 minutes

    out = tmp_path / "out"
    assert float(re.findall(r"psnr ([\d.]+)", said["train own_tokenizer"])[-1]) >= 24
    accuracy = float(re.findall(r"accuracy ([\d.]+)", said["train own_videos"])[-1])
    assert 0.01 < accuracy < 0.99  # of ids that differ, and are learned
    (first,) = (tmp_path / "clips" / "cat").glob("001.*")
    made, smooth = open_clip(out / "own.mp4"), open_clip(out / "smooth.mp4")
    frames = made.frames(range(len(made.times)))
    given = fit(open_clip(first).frames([0]), frames.shape[1:3])
    assert given.std() > 20
    assert psnr(given[None], frames[None, :1]) > 20
    assert (frames.std((1, 2, 3)) > 0.5 * frames[0].std()).all()
    assert len(smooth.times) == 4 * (len(made.times) - 1) + 1
    assert (out / "inspect" / "contact_sheet.png").is_file()
    assert "psnr" in said["evaluate own_videos"].lower()
