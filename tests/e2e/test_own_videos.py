"""From a folder of videos to a generated one, with the commands of docs/tutorial.md."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

from fv_jax.cli.main import main
from fv_jax.data.token_cache import TokenFolder
from fv_jax.media.writers import write_mp4
from fv_jax.tokenizers.code_use import CodeUse

SMALL_TOKENIZER = (
    "--run.steps 2 --run.sample-every 2 --run.batch-size 2 --pairs 8 --size 64 --crop 2 "
    "--tokenizer.levels 4 3 3 --tokenizer.patch 16 --tokenizer.width 12 "
    "--tokenizer.encoder-depth 1 --tokenizer.decoder-depth 1"
).split()
SMALL_NETWORK = (
    "--run.steps 2 --run.sample-every 2 --run.batch-size 2 --model.width 24 --model.layers 1 "
    "--model.heads 2 --model.value-width 24 --model.hidden 16 --model.chunk 19 "
    "--model.memory-tokens 4 60"
).split()


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Six clips of two classes, and a file that is no video."""
    folder = tmp_path / "clips"
    for i in range(6):
        write_mp4(tiny.video(20, seed=i), 8.0, folder / ("cat", "dog")[i % 2] / f"{i}.mp4")
    (folder / "cat" / "broken.mp4").write_text("no video")
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_readme_s_commands_one_after_the_other(clips, capsys):
    assert main(["data", "inspect", "clips"]) == 0
    assert main(["train", "own_tokenizer", "--data", "clips", *SMALL_TOKENIZER]) == 0
    tokens = ["--tokenizer", "out/own_tokenizer/model", "--out", "out/tokens/mine", "--size", "64"]
    assert main(["tokenize", "clips", *tokens]) == 0
    assert main(["train", "own_videos", *SMALL_NETWORK]) == 0
    first = ["--first-frames", "clips/cat/0.mp4", "--out", "out/own.npz"]
    assert main(["generate", "cat", "--model", "out/own_videos/model", *first]) == 0
    with np.load("out/own.npz") as made:
        assert made["frames"].shape == (9, 64, 64, 3)
        assert made["key_frame"].sum() == 3
    made = TokenFolder(Path("out/tokens/mine"))
    use = CodeUse.of((made[i][1] for i in range(len(made))), made.manifest.codebook_size)
    assert use.used >= 0.02 * use.codebook
    assert use.perplexity >= 4
    output = capsys.readouterr()
    assert "dead" not in output.err
    assert output.err.count("left out cat/broken.mp4: not a video") == 2  # by each stage once
    assert "fv tokenize clips --tokenizer out/own_tokenizer/model" in output.out
    # The same commands again find everything done.
    assert main(["tokenize", "clips", *tokens]) == 0
    assert main(["train", "own_videos", *SMALL_NETWORK]) == 0


def test_gray_clips_make_a_dead_tokenizer_and_every_command_says_so(tmp_path, monkeypatch, capsys):
    for i in range(3):
        write_mp4(np.full((20, 64, 64, 3), 90, np.uint8), 8.0, tmp_path / "clips" / f"{i}.mp4")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "own_tokenizer", "--data", "clips", *SMALL_TOKENIZER]) == 0
    assert "model is a dead tokenizer" in capsys.readouterr().err.splitlines()[-1]
    tokens = ["--tokenizer", "out/own_tokenizer/model", "--out", "out/tokens/mine", "--size", "64"]
    assert main(["tokenize", "clips", *tokens]) == 2
    assert "--force goes on" in capsys.readouterr().err.splitlines()[-1]
    assert main(["tokenize", "clips", *tokens, "--force"]) == 0
    assert main(["train", "own_videos", *SMALL_NETWORK]) == 0
    assert "ids of a dead tokenizer" in capsys.readouterr().err.splitlines()[-1]


def tokenize(out):
    """`fv tokenize` as a process of its own, over enough clips to be killed on the way."""
    command = [sys.executable, "-m", "fv_jax", "tokenize", "shapes,split=valid,count=1000"]
    options = ["--size", "64", "--shard-clips", "50", "--out", str(out)]
    return subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)


def shards(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.array_record")}


@pytest.mark.slow
def test_a_killed_tokenize_goes_on_without_redoing_or_duplicating(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert tokenize(whole).wait() == 0
    rng, kills_on_the_way = np.random.default_rng(0), 0
    for _ in range(100):
        before, process = shards(cut), tokenize(cut)
        deadline = time.monotonic() + rng.uniform(4, 10)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills_on_the_way += len(shards(cut)) > len(before)
        assert before.items() <= shards(cut).items()  # no shard is made twice
    assert process.returncode == 0
    assert kills_on_the_way >= 2
    one, other = TokenFolder(whole), TokenFolder(cut)
    assert one.clips == other.clips
    assert len({clip["id"] for clip in other.clips}) == 1000
    for path in whole.glob("*.array_record"):
        assert (cut / path.name).read_bytes() == path.read_bytes()
