"""How good is a frame tokenizer on real videos, and do its ids keep still?

All frames of each clip, at their own rate, squares of one size. Reconstruction, use of the
codebook, and what skip mask and drafts live on: ids that stay where the picture stays, with and
without the hysteresis of `encode_clips`. Consecutive frames are compared patch by patch; a
constant tokenizer would keep perfectly still, so the share of ids that change where the picture
does stands beside it.

    cost   a minute on two CPU cores (estimated), after half an hour of `fv train tokenizer_160`
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fv_jax.data.split import open_split, open_whole
from fv_jax.media.frames import Window, read
from fv_jax.media.readers import ClipError
from fv_jax.metrics import psnr, ssim
from fv_jax.metrics.token_stability import stability
from fv_jax.reporting.results import markdown, record
from fv_jax.tokenizers.code_use import CodeUse
from fv_jax.tokenizers.load import load_tokenizer


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write it."""

    tokenizer: tuple[str, ...] = ("out/tokenizer_160/model",)
    """Tokenizers to compare: files, folders or names."""
    data: str = "clips"
    """A source of clips."""
    valid_share: float = 0.4
    """Only the clips that a training with this share holds out; 1 takes all."""
    size: int = 160
    """Side of the square frames, px."""
    seconds: float = 6.0
    """Seconds of each clip, from its start."""
    variant: str = ""
    """Name of this comparison among others."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


_NAMES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "codes_used": "codes in use",
    "codebook": "codebook",
    "ids": "ids looked at",
    "perplexity": "perplexity of the ids",
    "bits_per_frame": "bits of a frame's ids, by their frequency",
    "same_where_equal": "ids that stay where no pixel changes",
    "same_where_still": "ids that stay where no pixel changes by more than 2/255",
    "same_where_quiet": "ids that stay where pixels change by less than 2/255 on average",
    "changed_where_moved": "ids that change where pixels change by more than 8/255 on average",
    "equal_share": "share of patches: no pixel changes",
    "still_share": "share of patches: at most 2/255",
    "quiet_share": "share of patches: under 2/255 on average",
    "moved_share": "share of patches: over 8/255 on average",
    "encode_ms": "encoding, ms a frame",
    "decode_ms": "decoding, ms a frame",
}


def run(settings: Settings) -> None:
    """Measure and record."""
    clips = _clips(settings)
    columns: dict[str, dict[str, float]] = {}
    for name in settings.tokenizer:
        tokenizer = load_tokenizer(name)
        for method in ("each frame alone", "whole clips"):
            print(f"{name}, {method}")
            columns[f"{name}, {method}"] = _measure(tokenizer, clips, method == "whole clips")
    rows = [[_NAMES[key], *(column[key] for column in columns.values())] for key in _NAMES]
    table = f"{len(clips)} clips: {', '.join(clips)}.\n\n" + markdown(["measure", *columns], rows)
    values = {"clips": list(clips), "tokenizers": columns}
    record("video-tokenizer", settings, values, table, settings.variant)


def _clips(settings: Settings) -> dict[str, np.ndarray]:
    """Frames of each clip by its id."""
    if settings.valid_share < 1:
        part = open_split(settings.data, "", settings.valid_share)[1]
    else:
        part = open_whole(settings.data)
    clips = {}
    for entry in tqdm(part.entries, desc="reading", unit="clip"):
        try:
            reader = entry.open()
            count = int(np.searchsorted(reader.times, settings.seconds))
            clips[entry.id] = read(reader, Window(0, settings.size, count))
        except ClipError as error:
            tqdm.write(f"left out {entry.id}: {error}")
    if not clips:
        raise ValueError(f"no clip of {settings.data} can be read")
    return clips


def _measure(tokenizer, clips: dict[str, np.ndarray], whole: bool) -> dict[str, float]:
    frames = sum(map(len, clips.values()))
    encode = (
        tokenizer.encode_clips if whole else lambda videos: [tokenizer.encode(v) for v in videos]
    )
    tokenizer.decode(encode([next(iter(clips.values()))])[0])  # compiled apart
    start = time.perf_counter()
    ids = encode(list(clips.values()))
    encoded = time.perf_counter()
    decoded = [tokenizer.decode(grid) for grid in ids]
    done = time.perf_counter()
    use, count = CodeUse.of(ids, tokenizer.codebook_size), sum(grid.size for grid in ids)
    pairs = list(zip(clips.values(), decoded))
    per_clip = [
        stability(v[None], grid[None], tokenizer.downsample) for v, grid in zip(clips.values(), ids)
    ]
    weights = [len(video) - 1 for video in clips.values()]
    return {
        "psnr": float(np.mean([psnr(video[None], made[None]) for video, made in pairs])),
        "ssim": float(np.mean([ssim(video[None], made[None]) for video, made in pairs])),
        "codes_used": use.used,
        "codebook": tokenizer.codebook_size,
        "ids": count,
        "perplexity": use.perplexity,
        "bits_per_frame": use.bits * count / frames,
        **_pooled(per_clip, weights),
        "encode_ms": (encoded - start) / frames * 1e3,
        "decode_ms": (done - encoded) / frames * 1e3,
    }


def _pooled(parts: list[dict[str, float]], weights: list[int]) -> dict[str, float]:
    """Shares over all patches of all clips, from shares per clip."""
    values = {}
    for name in ("equal", "still", "quiet", "moved"):
        amounts = np.asarray([w * part[f"{name}_share"] for w, part in zip(weights, parts)])
        key = f"{'changed' if name == 'moved' else 'same'}_where_{name}"
        shares = np.nan_to_num([part[key] for part in parts])
        values[key] = float(amounts @ shares / amounts.sum()) if amounts.sum() else float("nan")
        values[f"{name}_share"] = float(amounts.sum() / np.sum(weights))
    return values
