"""The command line as a new user meets it: every mistake is one clear line and exit code 2."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import videos
from screen import left_on_screen

from fv_jax.cli.main import main
from fv_jax.generation.generator import Generator
from fv_jax.generation.pretrained import SHIPPED
from fv_jax.media.writers import save_clip

PROMPT = "a small red circle moves left over stripes"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Leave the user's cache alone, and share one among the tests of a run."""
    cache = tmp_path_factory.getbasetemp() / "xla-cache"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def refuse(capsys, args: list[str], *words: str) -> None:
    """The command must fail with code 2 and one line that holds all the words."""
    code = main([str(arg) for arg in args])
    error = left_on_screen(capsys.readouterr().err)
    assert code == 2, error
    line = error.strip()
    assert line.startswith("fv: ")
    assert "\n" not in line
    assert "Traceback" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["Expected one of", "--help"]),
        (["paint"], ["paint", "generate"]),
        (["generate", PROMPT, "--sed", "3"], ["--sed"]),
        (["generate", PROMPT, "--seed", "three"], ["three", "--seed"]),
        (["generate"], ["no prompt", "fv generate"]),
        (["generate", PROMPT, "--out", "video.avi"], [".avi", ".mp4"]),
        (["generate", PROMPT, "--out", "OUT/a.mp4", "--model", "nosuch"], ["nosuch", "shapes"]),
        (["generate", PROMPT, "--out", "OUT/a.mp4", "--seed", "-1"], ["--seed", "-1"]),
        (["generate", PROMPT, "--out", "OUT/a.mp4", "--top-p", "0"], ["--top-p", "0"]),
        (["generate", PROMPT, "--out", "OUT/a.mp4", "--inherit", "2"], ["--inherit", "2"]),
        (["generate", PROMPT, "--out", "OUT/a.mp4", "--insert", "2"], ["insert", "2", "3"]),
        (["generate", PROMPT, "--out", "OUT/a.mp4", "--key-frames", "9"], ["key_frames", "9"]),
        (["generate", PROMPT, "--out", "OUT/a.mp4", "--scale", "0"], ["--scale", "0"]),
        (["generate", "", "--out", "OUT/a.mp4"], ["empty"]),
        (["generate", " . ", "--out", "OUT/a.mp4"], ["empty"]),
        (["generate", "red " * 13, "--out", "OUT/a.mp4"], ["13", "11"]),
        (["generate", "a", "b", "--out", "OUT/a.mp4"], ["folder", "--format"]),
        (["generate", "--prompts", "OUT/none.txt", "--out", "OUT/x"], ["none.txt"]),
        (["interpolate", "OUT/none.mp4", "--out", "OUT/a.mp4"], ["none.mp4"]),
        (["generate", PROMPT, "--out", "OUT/a.mp4/"], ["a.mp4", "folder"]),
        (["interpolate", "OUT/none.mp4", "--out", "OUT/a.mp4/"], ["a.mp4", "folder"]),
        (["bench", "nosuch"], ["nosuch", "shapes-adherence"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_bad_usage_is_one_line_and_leaves_nothing(args, words, tmp_path, capsys):
    refuse(capsys, [arg.replace("OUT", str(tmp_path)) for arg in args], *words)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_path_below_a_file_is_refused_before_sampling(tmp_path, capsys):
    blocker = tmp_path / "file.txt"
    blocker.write_text("in the way")
    refuse(capsys, ["generate", PROMPT, "--out", blocker / "a.mp4"], "file.txt")
    assert blocker.read_text() == "in the way"


def test_a_folder_as_output_file_is_refused(tmp_path, capsys):
    (tmp_path / "a.mp4").mkdir()
    refuse(capsys, ["generate", PROMPT, "--out", tmp_path / "a.mp4"], "folder")


@pytest.mark.parametrize("command", ["interpolate", "first frames"])
def test_a_text_file_named_mp4_is_refused(command, tmp_path, capsys):
    fake = tmp_path / "fake.mp4"
    fake.write_text("this is no video")
    out = tmp_path / "out.mp4"
    if command == "interpolate":
        args = ["interpolate", fake, "--out", out]
    else:
        args = ["generate", PROMPT, "--first-frames", fake, "--out", out]
    refuse(capsys, args, "fake.mp4")
    assert not out.exists()


@pytest.mark.parametrize("name", ["network.safetensors", "tokenizer.safetensors", "text.model"])
def test_a_model_file_cut_in_half_is_named(name, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(SHIPPED / "shapes", model)
    data = (model / name).read_bytes()
    (model / name).write_bytes(data[: len(data) // 2])
    refuse(
        capsys,
        ["generate", PROMPT, "--model", model, "--out", tmp_path / "a.mp4"],
        name,
        "damaged",
    )


def test_a_model_config_cut_in_half_is_named(tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(SHIPPED / "shapes", model)
    text = (model / "config.json").read_text()
    (model / "config.json").write_text(text[: len(text) // 2])
    args = ["generate", PROMPT, "--model", model, "--out", tmp_path / "a.mp4"]
    refuse(capsys, args, "config.json")


def test_generate_writes_what_the_interface_says(tmp_path, capsys):
    out = tmp_path / "new folder" / "a.npz"
    assert main(["generate", PROMPT, "--out", str(out), "--seed", "5"]) == 0
    assert left_on_screen(capsys.readouterr().err) == ""
    clip = np.load(out)
    assert clip["frames"].dtype == np.uint8
    assert clip["frames"].shape == (17, 64, 64, 3)
    assert clip["ids"].dtype == np.int32
    assert clip["ids"].shape == clip["inherited"].shape == (17, 8, 8)
    assert list(np.flatnonzero(clip["key_frame"])) == [0, 4, 8, 12, 16]
    assert clip["inherited"].dtype == clip["key_frame"].dtype == bool
    assert str(clip["prompt"]) == PROMPT
    assert int(clip["seed"]) == 5
    assert float(clip["fps"]) == 8
    stats = json.loads(str(clip["stats"]))
    assert stats["sampled"] + clip["inherited"].sum() == 17 * 64
    assert {"import", "sample", "decode"} <= set(stats["seconds"])


def test_unknown_words_warn_with_the_known_ones_and_generation_goes_on(tmp_path, capsys):
    out = tmp_path / "a.gif"
    assert main(["generate", "a small red dragon moves left", "--out", str(out)]) == 0
    warning = left_on_screen(capsys.readouterr().err)
    assert "'dragon'" in warning
    assert "triangle" in warning
    assert out.stat().st_size > 0


def test_several_prompts_make_numbered_files_and_a_bad_one_is_left_out(tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{PROMPT}\n\n{'red ' * 13}\na large blue square moves up over gray\n")
    args = ["generate", "--prompts", str(prompts), "--out", str(tmp_path / "many")]
    code = main([*args, "--seed", "5", "--batch-size", "2"])
    assert code == 2
    assert "prompt 1 is left out" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == ["000.npz", "002.npz"]
    alone = tmp_path / "alone.npz"
    assert main(["generate", PROMPT, "--out", str(alone), "--seed", "5"]) == 0
    batched = np.load(tmp_path / "many" / "000.npz")
    assert (batched["ids"] == np.load(alone)["ids"]).all()
    assert int(np.load(tmp_path / "many" / "002.npz")["seed"]) == 7


def test_a_prompt_that_fails_is_reported_and_the_others_are_made(tmp_path, monkeypatch, capsys):
    make, batches = Generator.run, []

    def fails_on_blue(self, plan):
        batches.append(plan.requests)
        if any("blue" in request.prompt for request in plan.requests):
            raise jax.errors.JaxRuntimeError("INTERNAL:\nbroken")
        return make(self, plan)

    monkeypatch.setattr(Generator, "run", fails_on_blue)
    prompts, out = tmp_path / "prompts.txt", tmp_path / "many"
    blue = PROMPT.replace("red", "blue")
    prompts.write_text(f"{PROMPT}\n{blue}\n{PROMPT}\n{PROMPT}\n")

    def full_at_two(clip, path, **more):
        if path.name == "002.npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        return save_clip(clip, path, **more)

    monkeypatch.setattr("fv_jax.cli.generate.save_clip", full_at_two)
    args = ["generate", "--prompts", str(prompts), "--out", str(out), "--insert", "0"]
    assert main([*args, "--key-frames", "1", "--batch-size", "2"]) == 2
    shown = capsys.readouterr()
    assert "fv: prompt 1 failed: INTERNAL: broken\n" in shown.err
    assert "fv: prompt 2 failed: " in shown.err
    assert "No space left on device" in shown.err
    assert shown.err.count("failed") == 2
    assert re.search(r"2/4 .* frames/s", shown.err)
    assert shown.out.startswith("2 videos in ")
    assert sorted(p.name for p in out.iterdir() if p.is_file()) == ["000.npz", "003.npz"]
    assert [int(np.load(out / f"00{i}.npz")["seed"]) for i in (0, 3)] == [0, 3]
    assert [len(batch) for batch in batches] == [2] * 4  # one shape: nothing is compiled again


def test_a_batch_too_large_for_the_memory_is_halved(tmp_path, monkeypatch):
    make, batches = Generator.run, []

    def holds_one(self, plan):
        batches.append(len(plan.requests))
        if len(plan.requests) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return make(self, plan)

    monkeypatch.setattr(Generator, "run", holds_one)
    prompts, out = tmp_path / "prompts.txt", tmp_path / "many"
    prompts.write_text(f"{PROMPT}\n" * 5)
    args = ["generate", "--prompts", str(prompts), "--out", str(out), "--insert", "0"]
    assert main([*args, "--key-frames", "1", "--batch-size", "4", "--format", "npz"]) == 0
    assert batches == [4, 2, 1, 1, 1, 1, 1]
    assert [int(np.load(out / f"00{i}.npz")["seed"]) for i in range(5)] == [0, 1, 2, 3, 4]


def test_a_wrong_option_is_reported_once_however_many_prompts(tmp_path, capsys):
    for option, value in (("--insert", "2"), ("--key-frames", "9")):
        args = ["generate", PROMPT, PROMPT, "--out", tmp_path, option, value]
        refuse(capsys, args, option.strip("-").replace("-", "_"), value)
    assert not list(tmp_path.iterdir())


def test_first_frames_begin_the_video_and_interpolate_reads_what_generate_wrote(tmp_path):
    whole, video = tmp_path / "a.npz", tmp_path / "a.mp4"
    for path in (whole, video):
        assert main(["generate", PROMPT, "--out", str(path), "--insert", "0"]) == 0
    frames, fps = videos.read(video)
    assert frames.shape == (5, 64, 64, 3)
    assert fps == 2
    longer = tmp_path / "b.npz"
    args = ["generate", PROMPT, "--first-frames", str(video), "--first-frame-count", "2"]
    assert main([*args, "--out", str(longer)]) == 0
    assert np.load(longer)["frames"].shape[0] == 17
    smooth = tmp_path / "smooth.mp4"
    assert main(["interpolate", str(video), "--out", str(smooth), "--scale", "2"]) == 0
    frames, fps = videos.read(smooth)
    assert frames.shape == (17, 128, 128, 3)
    assert fps == 8


def test_too_short_a_video_for_the_first_frames_is_refused(tmp_path, capsys):
    video = tmp_path / "short.gif"
    assert (
        main(["generate", PROMPT, "--out", str(video), "--key-frames", "2", "--insert", "0"]) == 0
    )
    capsys.readouterr()
    args = ["generate", PROMPT, "--first-frames", video, "--first-frame-count", "3"]
    refuse(capsys, [*args, "--out", tmp_path / "b.mp4"], "short.gif", "2 frames", "3 key frames")
    args = ["generate", PROMPT, PROMPT, "--first-frames", video, "--first-frame-count", "6"]
    refuse(capsys, [*args, "--out", tmp_path / "many"], "--first-frame-count", "1..5", "6")


# `python -m fv_jax`, but stopped by Ctrl-C even where shells tell processes to ignore it (`&`).
_STOPPABLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fv_jax.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def start(args: list[str]) -> subprocess.Popen:
    """A process that shares the compiled programs of this one."""
    same = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _STOPPABLE, *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | same,
        start_new_session=True,
    )  # fmt: skip


def wait_for(condition, process: subprocess.Popen, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)


def test_ctrl_c_keeps_finished_videos_and_leaves_no_half_file(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{PROMPT}\n" * 400)
    out = tmp_path / "out"
    process = start(["generate", "--prompts", str(prompts), "--out", str(out), "--batch-size", "2"])
    wait_for(lambda: list(out.glob("[0-9]*.npz")), process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith("fv: stopped")
    files = list(out.iterdir())
    assert all(np.load(path)["frames"].shape[0] == 17 for path in files)


def test_ctrl_c_in_training_saves_and_the_same_command_continues(tmp_path):
    folder = tmp_path / "run"
    args = ["train", "shapes_tokenizer", "--run.folder", str(folder), "--run.batch-size", "2"]
    args += ["--tokenizer.width", "16", "--run.log-every", "1", "--evaluation-clips", "2"]
    args += ["--tokenizer.encoder-depth", "1", "--tokenizer.decoder-depth", "1", "--crop", "2"]
    process = start([*args, "--run.steps", "100000"])
    log = folder / "log.jsonl"
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) > 3, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "the same command continues it" in error
    saved = max(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())
    assert main([*args, "--run.steps", str(saved + 2)]) == 0
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == saved + 2
    assert Path(folder / "model" / "tokenizer.safetensors").exists()
