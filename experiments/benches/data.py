"""How fast do clips come: decoded, decoded and tokenized, and from the token cache?

One thread each, the same number of frames at the same rate and size. "Cached" reads what `fv
tokenize` made (made here first, apart from the time). The last row is what training makes of them:
rows of both tasks with their texts. (grain's shuffle comes on top: 0.02 ms a row for 10,000 clips,
but 5 ms for five.) The last column compares with what one H200 takes at 40% MFU, training the
paper's network (`ucf101.py`).

    cost   28 s of CPU time
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import jax
import numpy as np

from experiments import ucf101
from fv_jax.config.model import TokenSettings
from fv_jax.config.training import NetworkExperiment
from fv_jax.data.live import LiveClips
from fv_jax.data.skips import Skips
from fv_jax.data.sources.base import Entry, open_source
from fv_jax.data.tokenize import tokenize
from fv_jax.media.frames import Window, read_random
from fv_jax.media.video_file import FrameDecoder
from fv_jax.planning.estimate import MFU
from fv_jax.reporting.results import markdown, record
from fv_jax.tokenizers.load import load_tokenizer
from fv_jax.training.accelerators import find_accelerator
from fv_jax.training.flops import step_flops
from fv_jax.training.tasks.network import network_task
from fv_jax.training.tasks.network_loss import of_expected_data


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write it."""

    data: str = "clips"
    """A source of clips."""
    tokenizer: str = "shapes"
    """A tokenizer's file, folder or name."""
    fps: float = 8.0
    """Frames per second."""
    size: int = 160
    """Side of the square frames, px."""
    frames: int = 17
    """Frames of a window: what a training row is made of."""
    seconds: float = 5.0
    """How long to measure each way."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record."""
    source, tokenizer = open_source(settings.data), load_tokenizer(settings.tokenizer)
    entries = [source[i] for i in range(len(source))]
    window = Window(settings.fps, settings.size, settings.frames)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tokens"
        cache = TokenSettings(fps=settings.fps, size=settings.size)
        tokens = tokenize(source, tokenizer, folder, cache)
        skips = Skips(Path(scratch) / "left_out")
        live = LiveClips(entries, tokenizer, window, mirror=True, skips=skips)
        rng = np.random.default_rng(0)
        ways: dict[str, Callable[[int], object]] = {
            "decoded": lambda i: read_random(entries[i].open(), window, rng),
            "decoded and tokenized (live)": lambda i: live.draw(i, rng),
            "cached ids": lambda i: tokens.draw(i, rng)[1][: settings.frames].copy(),
        }
        rates = {name: _rate(way, len(entries), settings.seconds) for name, way in ways.items()}
        task = network_task(
            NetworkExperiment(
                "rows", data=str(folder), text_tokens=0, key_frame_stride=4, valid_share=0.2
            ),
            Path(scratch),
        )
        rates["cached ids, packed into rows"] = _rate(
            lambda i: task.rows(tokens.draw(i, rng), rng), len(entries), settings.seconds
        )
    base, wanted = rates["decoded"], tokens_of_an_h200()
    ids = settings.frames * tokens.manifest.grid[0] * tokens.manifest.grid[1]
    table = markdown(
        ["way", "clips/s", "frames/s", "tokens/s", "times decoding", "times what one H200 takes"],
        [
            [n, rate, rate * settings.frames, rate * ids, rate / base, rate * ids / wanted]
            for n, rate in rates.items()
        ],
    )
    per_frame = decoded_per_frame(entries)
    table += f"\n\nDecoded frames for each frame of whole clips: {per_frame:.3f}"
    values = {
        "decoded_per_frame": per_frame,
        "clips_per_second": rates, "clips": len(entries), "frames": settings.frames,
        "tokens_per_second_of_an_h200": wanted,
    }  # fmt: skip
    record("data", settings, values, table)


def decoded_per_frame(entries: Sequence[Entry]) -> float:
    """How many frames are decoded where every frame of the clips is wanted, for each of them."""
    decode, decoded, wanted = FrameDecoder.__call__, 0, 0

    def counted(self, packet):
        nonlocal decoded
        for frame in decode(self, packet):
            decoded += 1
            yield frame

    with mock.patch.object(FrameDecoder, "__call__", counted):
        for entry in entries:
            reader = entry.open()
            wanted += sum(1 for _ in reader.each(range(len(reader.times))))
    return decoded / wanted


def tokens_of_an_h200() -> float:
    """Tokens a second that one H200 trains the paper's network on, at 40% MFU."""
    config = ucf101.get_config(stage="key_frames", preset="paper")
    assert isinstance(config, NetworkExperiment)
    task = of_expected_data(config, 1)
    params = jax.eval_shape(task.init, jax.random.key(0))
    flops = step_flops(task.loss, params, task.batch_shapes(), jax.random.key(0))
    gpu = find_accelerator("H200")
    assert gpu is not None
    return MFU * gpu.peak_flops * task.tokens_per_step / flops


def _rate(way: Callable[[int], object], count: int, seconds: float) -> float:
    """Calls per second: the median over rounds, after a first round to warm up."""
    few = min(count, 100)
    for i in range(few):
        way(i)
    rates = []
    stop = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        for i in range(few):
            way(i)
        now = time.perf_counter()
        rates.append(few / (now - start))
        if now > stop:
            return float(np.median(rates))
