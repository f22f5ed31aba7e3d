"""`arcade`: clips that depend on nothing but game, split and number."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from fv_jax.data.sources import arcade
from fv_jax.data.sources.base import open_source


def test_there_are_104_games_and_the_recipes_name_each_once():
    from experiments import arcade_tokenizer as recipe

    assert len(arcade.GAMES) == 104
    assert sorted(recipe.GAMES + recipe.UNSEEN + recipe.OTHERS) == list(arcade.GAMES)


def test_games_take_turns_and_give_their_names():
    source = open_source("arcade:games=ms_pacman+pong,split=valid,count=3,frames=5")
    assert [source[i].text for i in range(len(source))] == ["ms pacman", "pong", "ms pacman"]
    assert len({source[i].id for i in range(3)}) == 3
    reader = source[2].open()
    assert reader.frames([0, 4]).shape == (2, 160, 160, 3)
    np.testing.assert_allclose(np.diff(reader.times), 1 / 15)
    with pytest.raises(IndexError, match=r"0\.\.2"):
        source[3]


def test_a_clip_depends_on_game_split_and_number_alone():
    clip = arcade.play("pong", "train", 3, 9)
    code = (
        "import zlib; from fv_jax.data.sources.arcade import play; play('qbert', 'train', 0, 2);"
        "print(zlib.crc32(play('pong', 'train', 3, 9).tobytes()))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import zlib

    assert int(other.stdout) == zlib.crc32(clip.tobytes())
    assert (arcade.play("pong", "train", 3, 5) == clip[:5]).all()
    others = [("pong", "test", 3), ("pong", "train", 4), ("qbert", "train", 3)]
    assert all((arcade.play(*each, 9) != clip).any() for each in others)


def test_a_clip_moves_and_its_background_is_exactly_still():
    clip = arcade.play("freeway", "train", 0, 9)
    same = (clip[1:] == clip[:-1]).all(-1)
    assert 0.5 < same.mean() < 0.999


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arcade:games=pong+tag", "games: no 'tag'; there are: adventure, "),
        ("arcade:games=combat", "games: no 'combat'"),
        ("arcade:split=all", "split: no 'all'; there are: train, valid, test"),
        ("arcade:count=0", "count must be in 1"),
        ("arcade:frames=1", "frames must be in 2"),
        ("arcade:pong", "takes no place"),
    ],
)
def test_what_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        open_source(text)


def test_without_the_emulator_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    monkeypatch.delitem(sys.modules, "fv_jax.data.sources.arcade")
    with pytest.raises(ValueError, match=r"pip install 'fv-jax\[arcade\]'"):
        importlib.import_module("fv_jax.data.sources.arcade")


@pytest.mark.slow
def test_every_game_can_be_played():
    for game in arcade.GAMES:
        assert arcade.play(game, "test", 0, 2).shape == (2, 160, 160, 3)
