"""`fv export`, `fv push` and `--model hf:..`: a model leaves, and arrives whole or not at all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fake_hub
import numpy as np
import pytest
import tiny
from places import ROOT
from screen import left_on_screen

from fv_jax import Options
from fv_jax.cli.main import main
from fv_jax.generation import pretrained
from fv_jax.generation.generator import Generator

RECORD = {
    "parameters": 1234567, "steps": 8000, "hours": 1.5, "final": {"valid_loss": 0.25},
    "config": {"name": "my_experiment", "data": "out/tokens/mine"},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A model as a training leaves it, with random weights."""
    folder, m = tmp_path_factory.mktemp("out") / "mine" / "model", tiny.model()
    pretrained.save(folder, m.config, m.params, m.frames, m.text, RECORD)
    return folder


@pytest.fixture(scope="module")
def shared(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "shared"
    words = ["export", trained, "--out", folder, "--stablehlo", "--license", "cc-by-4.0"]
    assert main(list(map(str, words))) == 0
    return folder


def test_a_model_is_called_what_trained_it(trained):
    assert pretrained.load(str(trained)).name == "my_experiment"


def test_the_folder_is_a_model_with_a_card(trained, shared):
    for name in pretrained.FILES:
        assert (shared / name).read_bytes() == (trained / name).read_bytes()
    card = (shared / "README.md").read_text()
    header, title = card.split("---\n")[1], card.split("---\n")[2]
    assert "license: cc-by-4.0\n" in header
    assert "pipeline_tag: text-to-video\n" in header
    assert title.startswith("\n# my_experiment\n")
    for words in (
        "`my_experiment`, 8,000 steps, 1.5 hours, on: out/tokens/mine.", "| valid loss | 0.25 |",
        "| parameters | 1,234,567 |", "64x64 px", "![", 'Generator.load("hf:OWNER/NAME")',
        f"It knows {len(tiny.text().words)} words",
    ):  # fmt: skip
        assert words in card
    assert (shared / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in shared.parent.iterdir() if path != shared]


def test_a_program_without_the_package_makes_the_same_video(shared, tmp_path):
    """In a process that cannot import fv_jax."""
    prompt, program = tiny.text().words[0], ROOT / "examples" / "run_exported.py"
    code = f"""
import runpy, sys, numpy, pathlib
sys.modules["fv_jax"] = None
video = runpy.run_path({str(program)!r})["video"]
ids, frames = video(pathlib.Path({str(shared)!r}), {prompt!r}, 7)
numpy.savez("video.npz", ids=ids, frames=frames)
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    options = Options(inherit=0.0)
    (clip,) = Generator.load(str(shared)).generate([prompt], seed=7, options=options)
    with np.load(tmp_path / "video.npz") as made:
        np.testing.assert_array_equal(made["ids"], clip.ids)
        # Pixels of one frame at a time, here of all: float32 sums round otherwise.
        np.testing.assert_allclose(made["frames"].astype(int), clip.frames, rtol=0, atol=1)
    about = json.loads((shared / "stablehlo.json").read_text())
    assert about["platforms"] == ["cpu", "cuda", "tpu"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("export nosuch --out OUT/new", "no model named 'nosuch'"),
        ("export MODEL --out OUT", "is there already"),
        ("export MODEL --out OUT/file/new", "is no folder"),
        ("export MODEL", "fv export needs --out PATH"),
        ("push MODEL hf:me/mine", "README.md; make it with fv export"),
        ("push SHARED me/mine", "hf:OWNER/NAME"),
        ("generate a --model hf:mine", "hf:OWNER/NAME"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_made(
    words, error, trained, shared, tmp_path, capsys
):
    (tmp_path / "file").write_text("in the way")
    places = {"MODEL": str(trained), "SHARED": str(shared), "OUT": str(tmp_path)}
    for name, place in places.items():
        words = words.replace(name, place)
    assert main(words.split()) == 2
    line = left_on_screen(capsys.readouterr().err)
    assert error in line
    assert line.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def fv(*words: object, hub: fake_hub.Hub, home: Path, token: str = "let-me-in"):
    """`fv` in a process of its own: the client reads its variables when it is imported."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.address, "HF_HOME": str(home / "hf"), "HF_TOKEN": token,
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-m", "fv_jax", *map(str, words)]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)


def test_pushed_and_fetched_by_name_it_is_the_same_model(shared, tmp_path):
    folder = shutil.copytree(shared, tmp_path / "shared")
    with fake_hub.running() as hub:
        done = fv("push", folder, "hf:me/mine", "--private", hub=hub, home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "me/mine/commit/" in done.stdout
        files = hub.models["me/mine"]
        assert files.keys() == {path.name for path in folder.iterdir()}
        assert files["network.safetensors"] == (shared / "network.safetensors").read_bytes()
        assert b"hf:OWNER" not in files["README.md"]
        assert hub.private == {"me/mine"}

        made = "--key-frames 1 --out a.npz --model hf:me/mine"
        word = tiny.text().words[0]
        pinned = f"{made}@{hub.commit('me/mine')}"
        for words in (made, pinned):
            done = fv("generate", word, *words.split(), hub=hub, home=tmp_path)
            assert done.returncode == 0, done.stderr
        fetched = {line.rpartition("/")[2] for line in hub.requests if "/resolve/" in line}
        assert fetched == set(pretrained.FILES)  # no picture, no card, no StableHLO

        done = fv("generate", word, *made.split(), "--model", "hf:me/other", hub=hub, home=tmp_path)
        assert_refused(done, "hf:me/other")
        files["network.safetensors"] = files["network.safetensors"][:-1] + b"?"
        done = fv("generate", word, *made.split(), hub=hub, home=tmp_path)
        assert_refused(done, "network.safetensors", "checksum")
        done = fv("push", folder, "hf:me/mine", hub=hub, home=tmp_path, token="wrong")
        assert_refused(done, "hf:me/mine", "401")
    done = fv("generate", word, "--model", "hf:me/new", hub=hub, home=tmp_path)
    assert_refused(done, "hf:me/new")


def assert_refused(done, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    shown = left_on_screen(done.stderr).splitlines()
    (line,) = [line for line in shown if line.startswith("fv: ")]
    assert "Traceback" not in done.stderr
    assert all(word in line for word in words), line
