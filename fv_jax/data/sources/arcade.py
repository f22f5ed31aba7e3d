"""`arcade`: 104 Atari games as a set of clips that is the same on every machine.

    arcade:games=breakout+pong,split=train,count=1000

The emulator and its games come with ale-py (`pip install fv-jax[arcade]`; Bellemare et al., The
Arcade Learning Environment, arXiv:1207.4708). A clip is a pure function of (game, split, number):
random actions, each held for some frames, play the game for a while, and then the picture is
recorded, 160x160 px of it, every fourth frame (15 a second). Its text is the name of the game.
"""

import functools
import itertools
import threading
import zlib

import numpy as np

from fv_jax.array_types import Frames
from fv_jax.config.registry import require_known
from fv_jax.data.sources.base import Entry, Problem
from fv_jax.media.readers import Array

try:
    from ale_py import ALEInterface, LoggerMode, roms
except ModuleNotFoundError as error:
    raise ValueError("arcade needs ale-py; do: pip install 'fv-jax[arcade]'") from error

FPS = 15
FRAME_SIZE = 160
SPLITS = ("train", "valid", "test")
_UNLOADABLE = {"combat", "joust", "maze_craze", "warlords"}  # games for two: the process would end
GAMES = tuple(sorted(set(roms.get_all_rom_ids()) - _UNLOADABLE))

_FRAMES_PER_PICTURE = 4  # of 60 a second
_HOLD = 0.75  # the probability that a picture's action is that of the last one
_WARM_UP = (30, 300)  # pictures that are played before the clip
_TOP = 34  # rows above the square, where scores are: what players of these games cut off
_MOST_TRIES = 20  # to find a clip within which the game is not over

_local = threading.local()


class Arcade:
    """Clips of some games in turn, `count` in all.

    Args:
        name: what `open_source` opens again.
        games: their names, joined by "+"; "" for all.
        split: train, valid or test.
        count: N.
        frames: F of every clip.
    """

    noise_free = True

    def __init__(
        self, *, name: str, games: str = "", split: str = "train", count: int = 1000,
        frames: int = 33,
    ):  # fmt: skip
        self.games = tuple(games.split("+")) if games else GAMES
        for game in self.games:
            require_known("arcade's games", game, GAMES)
        require_known("arcade's split", split, SPLITS)
        for option, value, least in (("count", count, 1), ("frames", frames, 2)):
            if not least <= value < 2**31:
                raise ValueError(f"arcade's {option} must be in {least}..2^31 - 1, got {value}")
        self.name, self.split, self.count, self.frames = name, split, count, frames
        self.problems: list[Problem] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Entry:
        if not 0 <= index < self.count:
            raise IndexError(f"clip must be in 0..{self.count - 1}, got {index}")
        number, which = divmod(index, len(self.games))
        game = self.games[which]
        load = functools.partial(play, game, self.split, number, self.frames)
        size = (FRAME_SIZE, FRAME_SIZE)
        read = functools.partial(Array, load, FPS, count=self.frames, size=size)
        return Entry(f"{self.split}/{game}/{number:06d}", game.replace("_", " "), read)


def play(game: str, split: str, number: int, frames: int) -> Frames:
    """The pictures of one clip, uint8 [F, 160, 160, 3].

    A game that is over within the clip is played anew with other actions, some times.
    """
    seed = [zlib.crc32(game.encode()), SPLITS.index(split), number]
    emulator, start = _loaded(game)
    actions = emulator.getMinimalActionSet()
    for attempt in itertools.count(1):
        rng = np.random.default_rng([*seed, attempt])
        emulator.restoreSystemState(start)
        action, pictures, over = actions[0], [], False
        for picture in range(-int(rng.integers(*_WARM_UP)), frames):
            if rng.uniform() >= _HOLD:
                action = actions[rng.integers(len(actions))]
            for _ in range(_FRAMES_PER_PICTURE):
                emulator.act(action)
            if emulator.game_over():
                over = picture >= 0
                if over and attempt < _MOST_TRIES:
                    break
                emulator.reset_game()
            if picture >= 0:
                pictures.append(_square(emulator.getScreenRGB()))
        if len(pictures) == frames:
            return np.stack(pictures)
    raise AssertionError("the last attempt takes what comes")


def _loaded(game: str) -> tuple[ALEInterface, object]:
    """This thread's emulator of a game and the state at its start; loading takes long."""
    games = _local.__dict__.setdefault("games", {})
    if game not in games:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        emulator = ALEInterface()
        emulator.setInt("random_seed", 0)
        emulator.setFloat("repeat_action_probability", 0.0)
        emulator.loadROM(roms.get_rom_path(game))
        games[game] = emulator, emulator.cloneSystemState()
    return games[game]


def _square(screen: np.ndarray) -> np.ndarray:
    """The square of a screen of 210 to 250 rows where the game is played."""
    top = _TOP + (len(screen) - 210) // 2
    return screen[top : top + FRAME_SIZE]
