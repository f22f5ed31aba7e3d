"""Trainings and benches are found: ours by name wherever one works, a user's beside them."""

import sys

import pytest
from places import ROOT

from fv_jax.training import experiments

TRAINING = '''"""Mine.\n\nAll of it."""\nfrom experiments.helper import NAME\n\ndef get_config():
    return NAME\n'''
BENCH = '''"""Mine, measured."""\nfrom experiments.timing import median\n\ndef run(settings):
    return median\n'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working directory with a user's folder experiments/, some of whose names are ours."""
    folder = tmp_path / "experiments"
    (folder / "benches").mkdir(parents=True)
    for name in ("__init__", "shapes", "timing", "benches/__init__", "benches/window"):
        (folder / f"{name}.py").write_text("raise RuntimeError('shadows ours')")
    (folder / "helper.py").write_text("NAME = 'my own'")
    (folder / "mine.py").write_text(TRAINING)
    (folder / "benches" / "my_bench.py").write_text(BENCH)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def test_ours_are_ours_whatever_the_working_directory_holds(own):
    module = experiments.load_training("shapes_images")  # which imports experiments.shapes
    assert module.__file__ == str(ROOT / "experiments/shapes_images.py")
    assert module.get_config().name == "shapes_images"
    window = experiments.load("window", "benches")
    assert window.__file__ == str(ROOT / "experiments/benches/window.py")
    assert "experiments/shapes.py" in experiments.introduction(experiments.load("shapes"))


def test_a_user_s_are_found_beside_them_and_import_their_own_and_ours(own):
    assert {"mine", "shapes", "ucf101"} <= set(experiments.names())
    assert {"my-bench", "window"} <= set(experiments.names("benches"))
    mine = experiments.load_training("mine")
    assert mine.get_config() == "my own"
    assert experiments.introduction(mine) == "Mine.\n\nIts record is in experiments/mine.py."
    ours = sys.modules["experiments"].__path__[0]
    assert ours == str(ROOT / "experiments")
    assert experiments.load("my-bench", "benches").run(None).__module__ == "experiments.timing"


def test_a_file_anywhere_is_taken_by_its_path(own, tmp_path):
    (own / "mine.py").rename(tmp_path / "elsewhere.py")
    assert experiments.load_training("elsewhere.py").get_config() == "my own"


@pytest.mark.parametrize("name", ["nosuch", "nosuch.py", "shapes/"])
def test_what_is_not_there_is_said_with_what_is(own, name):
    with pytest.raises(FileNotFoundError, match=r"no experiment .*mine.*shapes_images"):
        experiments.load(name)
