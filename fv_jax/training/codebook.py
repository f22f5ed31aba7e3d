"""Making a table of patches (`tokenizers/codebook.py`) of clips, by k-means.

patches.npz                   which patches the clips show, and how often; read once
samples/                      frames of unseen clips, and what the table makes of them
model/tokenizer.safetensors   the table
model/tokenizer_training.json how it was made
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image
from tqdm import tqdm

from fv_jax.array_types import Frames
from fv_jax.config.model import to_json
from fv_jax.config.training import CodebookExperiment
from fv_jax.data.skips import Skips, check_some_opens, report_problems
from fv_jax.data.sources.base import Entry
from fv_jax.data.split import open_split, open_whole
from fv_jax.files import only_process_in, replacing, write_text
from fv_jax.media.frames import read_frames
from fv_jax.media.readers import ClipError
from fv_jax.metrics import psnr
from fv_jax.provenance import provenance
from fv_jax.tokenizers.code_use import CodeUse
from fv_jax.tokenizers.codebook import CodebookTokenizer, cut, distinct, nearest

_SHOWN = 8  # clips in the picture, each by its first frame


@dataclasses.dataclass(frozen=True)
class Patches:
    """Different patches and how much each counts.

    Attributes:
        pixels: uint8 [U, C].
        weight: float64 [U], 1 in all.
    """

    pixels: np.ndarray
    weight: np.ndarray


def train(config: CodebookExperiment, folder: Path) -> tuple[Path, str]:
    """Make a table and say how good it is. What was read of the clips is kept for another try.

    Returns:
        The folder of the tokenizer, and what is wrong with it, in a line; "" if nothing is.

    Raises:
        ValueError: fewer different patches than codes, or no clip can be read.
    """
    own, held = open_split(config.data, config.valid, config.valid_share)
    report_problems(own.source, held.source, strict=config.strict)
    check_some_opens(own.source)
    with only_process_in(folder):
        begun = time.monotonic()
        skips = Skips(folder / "left_out", strict=config.strict)
        parts = [(own.entries, 1 - config.wide_share if config.wide else 1.0)]
        if config.wide:
            parts.append((open_whole(config.wide).entries, config.wide_share))
        tokenizer = CodebookTokenizer(table(_patches(parts, config, folder, skips), config))
        clips = list(_frames(held.entries, config, skips, "reading unseen clips"))
        ids = [tokenizer.encode(clip) for clip in clips]
        decoded = [tokenizer.decode(clip) for clip in ids]
        use = CodeUse.of(ids, tokenizer.codebook_size)
        scores = {
            "psnr": psnr(clips, decoded), "codes_used": use.used, "perplexity": use.perplexity,
        }  # fmt: skip
        print(", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
        shown = [(clip[0], made[0]) for clip, made in zip(clips, decoded)][:_SHOWN]
        rows = [np.concatenate(row, axis=1) for row in zip(*shown)]
        with replacing(folder / "samples" / "sample.png") as temporary:
            Image.fromarray(np.concatenate(rows)).save(temporary)
        model = folder / "model"
        tokenizer.save(model / "tokenizer.safetensors")
        record = {
            "experiment": to_json(config), "source": provenance(), "scores": scores,
            "minutes": round((time.monotonic() - begun) / 60, 1),
        }  # fmt: skip
        write_text(model / "tokenizer_training.json", json.dumps(record, indent=1) + "\n")
    return model, use.warning(model)


def table(patches: Patches, config: CodebookExperiment) -> np.ndarray:
    """The patches of a table, uint8 [V, p, p, 3], those that count most first.

    k-means (Lloyd's) from the patches that count most; rows that serve none go to the patches that
    lose most.

    Raises:
        ValueError: fewer different patches than codes.
    """
    count, weight = config.codes, patches.weight
    if len(weight) < count:
        raise ValueError(
            f"the clips have {len(weight)} different patches, too few for {count} codes; give "
            "fewer --codes, or more clips"
        )
    rows = patches.pixels[np.argsort(-weight, kind="stable")[:count]].astype(np.float64)
    share = np.zeros(count)
    for turn in tqdm(range(config.rounds + 1), desc="clustering patches", unit="round"):
        rounded = np.round(rows).astype(np.uint8)
        which = nearest(patches.pixels, jnp.asarray(rounded, jnp.float32) - 128)
        share = np.bincount(which, weight, count)
        if turn == config.rounds:
            break
        lost = ((patches.pixels.astype(np.float32) - rounded[which]) ** 2).sum(1) * weight
        for channel in range(rows.shape[1]):
            rows[:, channel] = np.bincount(which, weight * patches.pixels[:, channel], count)
        rows /= np.maximum(share, np.finfo(float).tiny)[:, None]
        idle = np.flatnonzero(share == 0)
        rows[idle] = patches.pixels[np.argsort(-lost, kind="stable")[: len(idle)]]
    order = np.argsort(-share, kind="stable")
    return rounded[order].reshape(count, config.patch, config.patch, 3)


def _patches(
    parts: Sequence[tuple[Sequence[Entry], float]],
    config: CodebookExperiment,
    folder: Path,
    skips: Skips,
) -> Patches:
    """Patches of all parts, each with its share of the weight, clips of a part alike."""
    text = "\n".join(
        [*(f"{entry.id} {share}" for part, share in parts for entry in part),
         str((config.size, config.patch, config.frames))]
    )  # fmt: skip
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = folder / f"patches-{key}.npz"
    if not path.exists():
        found, weights = [], []
        for part, share in parts:
            for frames in _frames(part, config, skips, "reading patches"):
                every = cut(frames, config.patch)
                different, which = distinct(every)
                found.append(different)
                weights.append(np.bincount(which) / len(every) * share / len(part))
        pixels, which = distinct(np.concatenate(found))
        weight = np.bincount(which, np.concatenate(weights))
        kept = np.sort(np.argsort(-weight, kind="stable")[: config.different])
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, pixels=pixels[kept], weight=weight[kept] / weight[kept].sum())
    with np.load(path) as file:
        return Patches(file["pixels"], file["weight"])


def _frames(
    entries: Sequence[Entry], config: CodebookExperiment, skips: Skips, what: str
) -> Iterator[Frames]:
    """Some frames of every clip, evenly spread, uint8 [F, size, size, 3]."""
    found = 0
    for entry in tqdm(entries, desc=what, unit="clip"):
        try:
            reader = entry.open()
            numbers = np.linspace(0, len(reader.times) - 1, config.frames).astype(int)
            frames = read_frames(reader, np.unique(numbers), config.size)
        except ClipError as error:
            skips.add(entry.id, error)
            continue
        found += 1
        yield frames
    if not found:
        raise ValueError(f"none of {len(entries)} clips can be read")
