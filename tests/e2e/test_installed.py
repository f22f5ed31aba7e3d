"""An installed package does all that a clone does, wherever its user is."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tiny
from places import ROOT

from fv_jax.media.writers import write_mp4

TRAIN = (
    "train shapes_images --run.steps 10 --run.batch-size 2 --run.sample-every 10 "
    "--data shapes,split=train,count=20 --valid shapes,split=valid,count=8"
)
SMALL = "--model.width 24 --model.layers 1 --model.heads 2 --model.value-width 24 --model.hidden 16"
SCORE = "evaluate shapes --count 2 --batch-size 2 --metrics psnr"
WALK = [
    f"{TRAIN} {SMALL}",
    "tokenize clips --out out/tokens/mine --tokenizer shapes",
    "generate circle --model out/shapes_images/model --key-frames 1 --out made.png",
    "generate circle --out made.mp4",
    SCORE,
    "bench shapes-adherence --prompts 1",
    "report",
]
MADE = [
    "out/shapes_images/model/config.json",
    "out/tokens/mine/manifest.json",
    "made.png",
    "made.mp4",
    "out/evaluate/results/evaluate-shapes.json",
    "out/bench/results/shapes-adherence.json",
    "out/report/index.html",
    "out/report/paper.md",
]


def run(*words: object, folder: Path, path: str = "") -> str:
    """What a command prints, in an environment that does not lead to the source tree."""
    leading = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    environment = {k: v for k, v in os.environ.items() if k not in leading}
    if path:
        environment["PYTHONPATH"] = path
    done = subprocess.run(
        list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The source distribution and the wheel, by suffix."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, folder=ROOT)
    return {path.suffix: path for path in folder.iterdir()}


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder of a user, who has clips and a folder experiments/ with a name of ours."""
    folder = tmp_path / "work"
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "shapes.py").write_text("raise RuntimeError('shadows ours')")
    for i in range(2):
        write_mp4(tiny.video(9, seed=i), 8.0, folder / "clips" / f"{i}.mp4")
    return folder


def test_the_wheel_brings_experiments_that_no_other_folder_hides(built, elsewhere, tmp_path):
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "site")
    inside = {path.relative_to(ROOT) for path in (ROOT / "experiments").rglob("*.py")}
    assert {f"fv_jax/{path.as_posix()}" for path in inside} <= set(names)
    assert {name.split("/")[0] for name in names} == {"fv_jax", "fv_jax-0.1.0.dist-info"}
    code = (
        "from fv_jax.training import experiments as e; import fv_jax;"
        "print(e.load_training('shapes_images').__file__, e.load('window', 'benches').__file__)"
    )
    shown = run(sys.executable, "-P", "-c", code, folder=elsewhere, path=str(tmp_path / "site"))
    home = tmp_path / "site/fv_jax/experiments"
    assert shown.split() == [str(home / "shapes_images.py"), str(home / "benches/window.py")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".whl", ".gz"])
def test_installed_in_a_bare_environment_it_does_all_that_a_clone_does(
    kind, built, elsewhere, tmp_path
):
    bare = tmp_path / "bare"
    run(sys.executable, "-m", "venv", bare, folder=tmp_path)
    python = bare / "bin/python"
    installer = (
        ["uv", "pip", "install", "--python", python] if shutil.which("uv")
        else [python, "-m", "pip", "install", "--disable-pip-version-check"]
    )  # fmt: skip
    run(*installer, "-q", built[kind], folder=tmp_path)
    for words in WALK:
        run(bare / "bin/fv", *words.split(), folder=elsewhere)
    assert [name for name in MADE if not (elsewhere / name).is_file()] == []
