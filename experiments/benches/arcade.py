"""What the `arcade` model can do, on clips that it never saw.

Tokenizer: PSNR of the 16 games it is for and of eight that nothing was trained on, mean over
frames, and how many ids stay where no pixel changes.

Videos of a game's name: which game a classifier says they show. It is a softmax regression on
small pictures, trained here on other real clips; its accuracy on real unseen ones is told beside.

PSNR of videos is that of the mean squared error over all frames: many frames are equal to the one
before, pixel for pixel, and would count as 100 dB each in a mean over frames. A clip in which the
whole picture changes counts for most there, so that of the median clip is told beside it.

First frame given: key frames 2 and 3 against the clip's own, as sampled (temperature 1) and the
likeliest ids (temperature 0, no guidance), beside copying the given frame. Inserted frames, between
true key frames, beside a copy of the nearer one and a linear blend. Of the ids that change (a key
frame's from the one before; those of a gap that do not stay through all of it) the share that is
right.

Time: the same networks as everywhere in the paper's comparison, at this model's size and pixels,
with random weights and 16 frames, one id at a time; and the shipped weights, as by default. The
gaps of one clip and of eight: the shipped weights between true key frames, which inherit all they
may, and a network of that size that is fed every id and inherits none.

    cost   five minutes on two CPU cores, and the extra `arcade`
"""

import dataclasses
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments.arcade_tokenizer import GAMES, UNSEEN
from experiments.baselines import ways
from experiments.benches.interpolation import blend, copy
from experiments.timing import times_in_turns
from fv_jax.config.model import Options
from fv_jax.data.sources.arcade import Arcade
from fv_jax.generation.generator import Generator
from fv_jax.metrics import psnr
from fv_jax.metrics.signal_to_noise import decibels
from fv_jax.metrics.token_stability import stability
from fv_jax.reporting.results import markdown, record

_CELL = ways.Cell(160, 16, 1)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    model: str = "arcade"
    """A shipped model's name, or a model folder."""
    clips: int = 4
    """Unseen clips of each game."""
    videos: int = 6
    """Videos sampled of each game's name."""
    repeats: int = 3
    """Rounds of timing; 0 for none."""
    variant: str = ""
    """What the record's name ends with, for another model than the shipped one."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record."""
    generator = Generator.load(settings.model)
    real = _clips(GAMES, "test", settings.clips)
    values = {
        **_tokenizer(generator, real, _clips(UNSEEN, "test", settings.clips)),
        **_games(generator, settings.videos),
        **_given(generator, real),
        **_inserted(generator, real),
        **(_times(generator, real, settings.repeats) if settings.repeats else {}),
    }
    table = markdown(["measure", "value"], [[name, value] for name, value in values.items()])
    record("arcade", settings, {"measures": values}, table, variant=settings.variant)


def _clips(games: tuple[str, ...], split: str, each: int) -> list[tuple[str, np.ndarray]]:
    """Name and pixels of clips, all of a game one after the other."""
    source = Arcade(name="", games="+".join(games), split=split, count=each * len(games), frames=17)
    order = [i * len(games) + game for game in range(len(games)) for i in range(each)]
    entries = [source[i] for i in tqdm(order, desc="playing", unit="clip")]
    return [(entry.text, entry.open().frames(range(source.frames))) for entry in entries]


def _tokenizer(generator: Generator, real, unseen) -> dict[str, float]:
    tokenizer, values = generator.model.frames, {}
    for name, clips in (("trained games", real), ("eight games never seen", unseen)):
        videos = np.stack([video for _, video in clips])
        ids = np.stack([tokenizer.encode(video) for video in videos])
        values[f"tokenizer, {name}, dB"] = psnr(videos, [tokenizer.decode(grid) for grid in ids])
        stable = stability(videos, ids, tokenizer.downsample)
        values[f"tokenizer, {name}, ids that stay where no pixel changes"] = stable[
            "same_where_equal"
        ]
    return values


def _games(generator: Generator, each: int) -> dict[str, float]:
    names = [game.replace("_", " ") for game in GAMES]
    real = [(name, video[::4]) for name, video in _clips(GAMES, "train", 12)]
    judge = game_judge(real, names)
    index = names.index
    told = lambda clips: float(np.mean([judge(video) == index(name) for name, video in clips]))
    values = {"classifier, real unseen clips": told(_clips(GAMES, "test", 6))}
    ways_of = {
        "as by default": Options(insert=0),
        "temperature 0.7": Options(insert=0, temperature=0.7),
        "temperature 0.7, no guidance": Options(insert=0, temperature=0.7, guidance=1.0),
    }
    for how, options in ways_of.items():
        made = []
        for i, name in enumerate(tqdm(names, desc=f"sampling {how}", unit="game")):
            seed = 10_000 + i * each
            clips = generator.generate([name] * each, seed=seed, options=options)
            made += [(name, clip.frames) for clip in clips]
        values[f"videos of the right game, of {len(made)}, {how}"] = told(made)
    return values


def game_judge(clips, names: list[str]):
    """A function that says which game a video shows, by its frames' mean log probabilities.

    It learns from `clips`, the name of the game and some frames [F, 160, 160, 3] of each.
    """
    small = lambda video: video.reshape(-1, 20, 8, 20, 8, 3).mean((2, 4)).reshape(len(video), -1)
    x = jnp.asarray(np.concatenate([small(video) for _, video in clips]) / 255)
    y = jnp.asarray([names.index(name) for name, video in clips for _ in video])
    params = {"w": jnp.zeros((x.shape[1], len(names))), "b": jnp.zeros(len(names))}
    optimizer = optax.adamw(1e-3, weight_decay=1e-2)

    def loss(params):
        logits = x @ params["w"] + params["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(300):
        params, state = step(params, state)

    def judge(video: np.ndarray) -> int:
        logits = small(video) / 255 @ np.asarray(params["w"]) + np.asarray(params["b"])
        return int(np.asarray(jax.nn.log_softmax(logits)).mean(0).argmax())

    return judge


class _Means:
    """Means by name; of squared errors as dB, and that of the median clip."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def error(self, name: str, true: np.ndarray, made: np.ndarray) -> None:
        """Add the squared error of a clip's frames uint8 [.. Y, X, 3]."""
        self.add(f"{name}, dB", np.square(true.astype(np.float32) - made).mean())

    def right(self, name: str, right: np.ndarray) -> None:
        """Add the share of ids that are right; nothing where there are none."""
        if right.size:
            self.add(f"{name}, changing ids that are right", right.mean())

    def add(self, name: str, value: float) -> None:
        """Add a number."""
        self._values.setdefault(name, []).append(float(value))

    def all(self) -> dict[str, float]:
        """The means, and the medians of errors."""
        found = {}
        for name, values in self._values.items():
            mean = float(np.mean(values))
            if name.endswith(", dB"):
                found[name] = decibels(mean)
                found[f"{name[:-4]}, median clip, dB"] = decibels(median(values))
            else:
                found[name] = mean
        return found


def _given(generator: Generator, real) -> dict[str, float]:
    gap, tokenizer = generator.model.config.key_frame_stride, generator.model.frames
    means, sampled = _Means(), Options(insert=0, key_frames=3)
    ways_of = {
        "sampled": sampled,
        "likeliest": dataclasses.replace(sampled, temperature=0.0, guidance=1.0),
    }
    for start in tqdm(range(0, len(real), 8), desc="first frame given", unit="batch"):
        part = real[start : start + 8]
        true = np.stack([video[: 2 * gap + 1 : gap] for _, video in part])
        ids = np.stack([tokenizer.encode(video) for video in true])
        for frames in true:
            for n in (1, 2):
                means.error(f"key frame {n + 1}, copying the given one", frames[n], frames[0])
        for name, options in ways_of.items():
            made = generator.generate(
                [text for text, _ in part], seed=start, options=options, first_frames=true[:, :1]
            )
            for clip, frames, true_ids in zip(made, true, ids):
                for n in (1, 2):
                    means.error(f"key frame {n + 1}, {name}", frames[n], clip.frames[n])
                changing = true_ids[1] != true_ids[0]
                means.right(f"key frame 2, {name}", (clip.ids[1] == true_ids[1])[changing])
    return means.all()


def _inserted(generator: Generator, real) -> dict[str, float]:
    gap, tokenizer = generator.model.config.key_frame_stride, generator.model.frames
    means = _Means()
    for number, (text, video) in enumerate(tqdm(real, desc="inserting", unit="clip")):
        ids, between = tokenizer.encode(video), np.arange(len(video)) % gap != 0
        stays = [(ids[i : i + gap + 1] == ids[i]).all(0) for i in range(0, len(video) - 1, gap)]
        changing = ~np.repeat(stays, gap, axis=0)[between[:-1]]
        made = {
            "": generator.interpolate(
                video[::gap], prompt=text, seed=number, options=Options(inherit=1.0)
            ),
            ", no text": generator.interpolate(
                video[::gap], seed=number, options=Options(inherit=1.0)
            ),
        }
        if generator.model.config.network.places:
            header = generator.model.config.sequence.header
            filled = made[""].ids
            changes = (filled != copy(filled, gap)).sum(axis=(1, 2))[between]
            means.add("tokens read an inserted frame", header + float(changes.mean()))
        for how, clip in made.items():
            means.error(f"inserted{how}", video[between], clip.frames[between])
            means.right(f"inserted{how}", (clip.ids == ids)[between][changing])
        means.error("inserted, copying the nearer", video[between], copy(video, gap)[between])
        means.error("inserted, blending", video[between], blend(video, gap)[between])
        decoded = tokenizer.decode(ids)
        means.error("inserted, the tokenizer alone", video[between], decoded[between])
        means.right("inserted, copying the nearer", (copy(ids, gap) == ids)[between][changing])
    return means.all()


def _times(generator: Generator, real, repeats: int) -> dict[str, float]:
    """Median seconds, all ways in turns."""
    model = generator.model.config
    layout = ways.sequence(_CELL, model.sequence.text_tokens, model.sequence.frame_codes)
    network = dataclasses.replace(model.network, slots=0, code_levels=(), nearby=0, places=0)
    retnets = ways.RetNets(network, layout)
    inserted = [call for _, call in retnets.inserted(_CELL).calls]
    whole = {
        "RetNet, in turn, 16 frames, W = 1, s": retnets.in_turn(_CELL).calls[0][1],
        "FlashVideo, 4 key frames of 16, W = 1, s": inserted[0],
        "FlashVideo, 12 inserted of 16, W = 1, s": inserted[1],
        "transformer with KV cache, 16 frames, s": ways.transformer_with_cache(
            network, layout, _CELL
        ).calls[0][1],
    }
    window1 = Options(window=1, drafts=False, inherit=0.0)
    for name, options in (("W = 1", window1), ("as by default", Options(inherit=0.0))):
        whole[f"shipped weights, {model.key_frames} key frames, {name}, s"] = lambda o=options: (
            generator.generate(["pong"], options=dataclasses.replace(o, insert=0))
        )
        whole[f"shipped weights, all frames, {name}, s"] = lambda o=options: generator.generate(
            ["pong"], options=o
        )
    insert, key = model.insertions[0][1], model.key_frame_stride
    for count in (1, 8):
        part = real[:: max(len(real) // count, 1)][:count]
        frames = np.stack([video[::key] for _, video in part])
        tokens = ways.gap_rows(layout, count * (frames.shape[1] - 1), insert)
        whole[f"gaps of {count} clip(s), every id fed, W = 1, s"] = retnets.run(tokens, known=2)
        whole[f"gaps of {count} clip(s), shipped weights, s"] = lambda part=part, frames=frames: (
            generator.generate(
                [text for text, _ in part], first_frames=frames, options=Options(inherit=1.0)
            )
        )
    return {name: median(times) for name, times in times_in_turns(whole, repeats).items()}
