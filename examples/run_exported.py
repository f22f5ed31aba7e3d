"""Runs what `fv export MODEL --stablehlo --out DIR` wrote, with jax alone: no code of fv_jax.

    python examples/run_exported.py DIR "a small red circle moves left over stripes" out.gif 0

Needs jax, flatbuffers, sentencepiece and pillow.
"""

import itertools
import json
import sys
from pathlib import Path

import jax.export
import numpy as np
import sentencepiece
from PIL import Image


def video(folder: Path, prompt: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids int32 [M, h, w] of the key frames and those between them, and pixels [M, Y, X, 3]."""
    about = json.loads((folder / "stablehlo.json").read_text())

    def read(name: str):
        data = bytearray((folder / f"{name}.stablehlo").read_bytes())
        return jax.export.deserialize(data).call

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "text.model"))
    layout = about["text"]
    ids = np.array(pieces.EncodeAsIds(prompt), np.int32) + layout["first_id"]
    text = np.full(layout["slots"], layout["padding"], np.int32)
    text[: len(ids)] = ids
    keys = read("key_frames")(text, np.uint32(seed))
    grids = [keys[0]]
    for gap, (a, b) in enumerate(itertools.pairwise(keys)):
        if about["between"]:
            grids += [*read("between")(text, a, b, np.uint32(seed), np.uint32(gap))]
        grids.append(b)
    pixels = read("pixels")
    return np.stack(grids), np.stack([pixels(grid) for grid in grids])


if __name__ == "__main__":
    _, frames = video(Path(sys.argv[1]), sys.argv[2], int(sys.argv[4]))
    first, *rest = map(Image.fromarray, frames)
    first.save(sys.argv[3], save_all=True, append_images=rest, duration=125, loop=0)
    print(f"{len(frames)} frames in {sys.argv[3]}")
