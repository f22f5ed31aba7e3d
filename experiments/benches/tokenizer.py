"""How good is the `shapes` frame tokenizer on clips it never saw?

Reconstruction over whole frames and over the patches that the object touches, use of the
codebook, and what skip mask and drafts live on: ids that stay where pixels stay.

    cost   22 s of CPU time
"""

import dataclasses
from pathlib import Path

import numpy as np

from fv_jax.generation.pretrained import SHIPPED
from fv_jax.metrics import psnr, ssim
from fv_jax.metrics.signal_to_noise import decibels
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes import scenes
from fv_jax.tokenizers.fsq import FSQTokenizer


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write it."""

    tokenizer: Path = SHIPPED / "shapes" / "tokenizer.safetensors"
    """A tokenizer file."""
    clips: int = 200
    """Unseen clips of trained (colour, shape) pairs."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record."""
    tokenizer = FSQTokenizer.load(settings.tokenizer)
    clips = [scenes.clip("test", i) for i in range(settings.clips)]
    frames = np.stack([scenes.render(clip) for clip in clips])
    ids = np.stack([tokenizer.encode(video) for video in frames])
    decoded = np.stack([tokenizer.decode(grid) for grid in ids])
    patch = tokenizer.downsample
    touched = _touched(frames, clips, patch)
    error = _per_patch((decoded.astype(np.float32) - frames) ** 2, patch).mean((3, 5, 6))
    share = np.bincount(ids.ravel(), minlength=tokenizer.codebook_size) / ids.size
    used = share[share > 0]
    values = {
        "psnr_frame_db": psnr(frames, decoded),
        "psnr_object_patches_db": decibels(error[touched].mean()),
        "ssim": ssim(frames, decoded),
        "codes_used": len(used),
        "codebook_size": tokenizer.codebook_size,
        "perplexity": float(np.exp(-(used * np.log(used)).sum())),
        **_stability(tokenizer, frames, ids, patch),
    }
    names = {
        "psnr_frame_db": "PSNR, whole frames, dB (>= 33)",
        "psnr_object_patches_db": "PSNR, patches the object touches, dB (>= 25)",
        "ssim": "SSIM",
        "codes_used": "codes in use",
        "codebook_size": "codebook",
        "perplexity": "perplexity of the ids",
        "same_ids_where_pixels_same": "ids unchanged where the patch's pixels are (1 exactly)",
        "stable_under_noise": "ids stable under noise of sigma 2/255, with hysteresis (>= 0.995)",
        "stable_under_noise_plain": "the same without hysteresis",
        "changed_ids_where_moved": "ids changed where a patch changed by > 8/255 on average",
    }
    table = markdown(["measure", "value"], [[names[key], values[key]] for key in names])
    record("tokenizer", settings, values, table)


def _touched(frames, clips, patch) -> np.ndarray:
    """Which patches the object touches, boolean [N, M, h, w]."""
    plain = np.stack([scenes.background(clip.background) for clip in clips])[:, None]
    difference = np.abs(frames - plain).max(-1, keepdims=True)
    return _per_patch(difference, patch).max((3, 5, 6)) > 1


def _stability(tokenizer, frames, ids, patch) -> dict[str, float]:
    change = _per_patch(np.abs(np.diff(frames.astype(np.int16), axis=1)), patch)
    id_change = np.diff(ids, axis=1) != 0
    still, moved = change.max((3, 5, 6)) == 0, change.mean((3, 5, 6)) > 8
    rng = np.random.default_rng(0)
    kept, kept_plain = [], []
    for video in frames[:50, 0]:
        noise = rng.normal(0, 2, (8, *video.shape))
        noisy = np.clip(np.round(video + noise), 0, 255).astype(np.uint8)
        kept.append(np.diff(tokenizer.encode_clips([noisy])[0], axis=0) == 0)
        kept_plain.append(np.diff(tokenizer.encode(noisy), axis=0) == 0)
    return {
        "same_ids_where_pixels_same": float(np.mean(~id_change[still])),
        "stable_under_noise": float(np.mean(kept)),
        "stable_under_noise_plain": float(np.mean(kept_plain)),
        "changed_ids_where_moved": float(np.mean(id_change[moved])),
    }


def _per_patch(pixels: np.ndarray, patch: int) -> np.ndarray:
    """[N, M, Y, X, C] as [N, M, h, patch, w, patch, C]."""
    n, m, height, width, channels = pixels.shape
    return pixels.reshape(n, m, height // patch, patch, width // patch, patch, channels)
