"""Clips as ids on disk, so that training reads tokens and never decodes or encodes pixels.

One folder per (tokenizer, split): shards of clips as .npz with `frames` uint16 [n, M, P]. A
shard is written whole or not at all, and one that is there is not made again, so an interrupted
build goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt16
from tqdm import tqdm

from fv_jax.config import to_json
from fv_jax.data import shapes
from fv_jax.files import replacing
from fv_jax.tokenizers.fsq import FSQTokenizer

_SHARD = 500  # clips


class ShapesTokens(Sequence):
    """Frame ids and captions of the first `count` clips of a split of `shapes`.

    Procedural frames carry no camera noise, so they are encoded one by one, without hysteresis:
    an id then depends on its patch's pixels alone, which is easier to predict.
    """

    def __init__(self, split: str, count: int, tokenizer: FSQTokenizer, folder: Path):
        self.captions = [shapes.clip(split, i).caption for i in range(count)]
        home = folder / f"{split}-{fingerprint(tokenizer)}"
        starts = range(0, count, _SHARD)
        missing = [s for s in starts if not _shard_path(home, s, count).exists()]
        for start in tqdm(missing, desc=f"tokenising {split}", unit="shard", disable=not missing):
            path = _shard_path(home, start, count)
            frames = _encode(split, range(start, min(start + _SHARD, count)), tokenizer)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, frames=frames)
        shards = [np.load(_shard_path(home, start, count))["frames"] for start in starts]
        self.frames: UInt16[np.ndarray, "N M P"] = np.concatenate(shards)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[str, UInt16[np.ndarray, "M P"]]:
        return self.captions[index], self.frames[index]


def fingerprint(tokenizer: FSQTokenizer) -> str:
    """Twelve hexadecimal digits that change with the tokenizer's config or weights."""
    digest = hashlib.sha256(json.dumps(to_json(tokenizer.config)).encode())
    for leaf in jax.tree.leaves(tokenizer.params):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def _encode(split: str, indices: range, tokenizer: FSQTokenizer) -> UInt16[np.ndarray, "n M P"]:
    frames = np.concatenate([shapes.render(shapes.clip(split, index)) for index in indices])
    ids = tokenizer.encode(frames)
    return ids.reshape(len(indices), shapes.NUM_FRAMES, -1).astype(np.uint16)


def _shard_path(home: Path, start: int, count: int) -> Path:
    return home / f"{start:06d}-{min(start + _SHARD, count):06d}.npz"
