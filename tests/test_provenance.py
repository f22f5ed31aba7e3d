"""Where a number comes from: the state of the tree is known wherever a copy of it lies."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from places import ROOT

GIT = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]


def commit_said_by(tree: Path) -> str:
    code = (
        "from fv_jax import provenance as p; print(p.__file__, p.provenance()['commit'], sep='|')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=True
    )
    file, commit = run.stdout.strip().split("|")
    assert Path(file).is_relative_to(tree)
    return commit


def git(folder: Path, *words: str) -> str:
    run = subprocess.run([*GIT, *words], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone of so much of the project as knows its state."""
    tree = tmp_path / "clone"
    (tree / "fv_jax").mkdir(parents=True)
    for name in ("fv_jax/provenance.py", "fv_jax/commit.txt", ".gitattributes"):
        shutil.copy(ROOT / name, tree / name)
    (tree / "fv_jax/__init__.py").touch()
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "all")
    return tree


def test_a_clone_says_its_commit_and_whether_files_differ(clone):
    head = git(clone, "rev-parse", "HEAD")[:12]
    assert commit_said_by(clone) == head
    (clone / "fv_jax/__init__.py").write_text("# changed\n")
    assert commit_said_by(clone) == head + "+"


def test_an_archive_keeps_its_commit(clone, tmp_path):
    git(clone, "archive", "--output", str(tmp_path / "copy.tar"), "HEAD")
    with tarfile.open(tmp_path / "copy.tar") as archive:
        archive.extractall(tmp_path / "copy", filter="data")
    assert commit_said_by(tmp_path / "copy") == git(clone, "rev-parse", "HEAD")[:12]


def test_a_package_inside_another_clone_does_not_say_that_clone_s_commit(clone, tmp_path):
    inside = clone / ".venv/lib/python/site-packages"
    shutil.copytree(clone / "fv_jax", inside / "fv_jax")
    said = commit_said_by(inside)
    assert said
    assert git(clone, "rev-parse", "HEAD")[:12] not in said
