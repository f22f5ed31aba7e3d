"""Integrity of checkpoints: every damage to every file is found, and named."""

import shutil

import pytest

from fv_jax.training.integrity import FILES, find_damage, put_aside, remove_unfinished, seal

FOLDERS = {
    "state/d/0af3": b"many numbers" * 9,
    "state/manifest": b"\x0c\xdb",
    "data/metadata": b"{}",
}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "without its last byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "flipped": flip,
}
WORDS = {"deleted": "is missing", "flipped": "is not what was written"}


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "7"
    for name, data in FOLDERS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "beside").write_text("orbax's, which nothing needs")
    seal(folder)
    return folder


def test_what_was_sealed_is_whole(sealed):
    assert find_damage(sealed) == ""
    DAMAGES["deleted"](sealed / "beside")
    assert find_damage(sealed) == ""


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", FOLDERS)
def test_any_damage_to_any_file_is_named(name, kind, sealed):
    DAMAGES[kind](sealed / name)
    assert find_damage(sealed).startswith(f"{name} {WORDS.get(kind, 'has ')}")


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_sums_are_damage(kind, sealed):
    DAMAGES[kind](sealed / FILES)
    assert find_damage(sealed) == f"{FILES} is {'missing' if kind == 'deleted' else 'damaged'}"


def test_other_json_is_damage_and_so_is_a_missing_folder(sealed):
    (sealed / FILES).write_text("[1]")
    assert find_damage(sealed) == f"{FILES} is damaged"
    shutil.rmtree(sealed)
    assert find_damage(sealed) == f"{FILES} is missing"


def test_what_is_put_aside_replaces_what_was_there(sealed):
    shutil.copytree(sealed, sealed.with_name("7.damaged"))
    (sealed / "new").touch()
    assert put_aside(sealed) == sealed.with_name("7.damaged")
    assert not sealed.exists()
    assert (sealed.with_name("7.damaged") / "new").exists()


def test_only_what_was_cut_off_is_removed(sealed):
    home = sealed.parent
    for name in ("8.orbax-checkpoint-tmp", "6.old", "5.damaged"):
        shutil.copytree(sealed, home / name)
    assert not remove_unfinished(home)  # there was something
    assert remove_unfinished(home)
    assert sorted(path.name for path in home.iterdir()) == ["5.damaged", "7"]
