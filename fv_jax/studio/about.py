"""What a page must know of a model before anything is made: words, sizes, how ids look."""

from typing import Any

import jax
import numpy as np

from fv_jax.config.model import Options, to_json
from fv_jax.generation.plan import own_levels
from fv_jax.generation.pretrained import Model
from fv_jax.shapes import scenes
from fv_jax.studio.asked import MOST_FRAMES, MOST_LETTERS, MOST_SEEDS
from fv_jax.studio.uploads import MOST_BYTES
from fv_jax.studio.videos import png

_FEW_WORDS = 64
_FEW_CODES = 4096
_SENTENCE = (
    ("a",), tuple(scenes.SIZES), tuple(scenes.COLOURS), scenes.SHAPES, ("moves",),
    tuple(scenes.DIRECTIONS), ("over",), scenes.BACKGROUNDS,
)  # fmt: skip


def about(model: Model) -> dict[str, Any]:
    """A model as plain JSON values; run it where JAX may be used.

    `words` are all that it knows, null where they are many. `sentence` are the words of each place
    of a sentence, null where sentences are free. `patches` is a picture of every id, null where
    they are too many.
    """
    words = model.text.words if model.text.size <= _FEW_WORDS else None
    grammar = {word for place in _SENTENCE for word in place}
    config, h, w = model.config, *model.config.sequence.frame_grid
    return {
        "name": model.name, "words": words,
        "sentence": _SENTENCE if words is not None and set(words) == grammar else None,
        "size": model.frame_size, "grid": [h, w], "key_frames": config.key_frames,
        "fps": config.key_frame_fps, "insert": own_levels(model),
        "levels": sorted({n for _, n in config.insertions}),
        "given_frames": config.given_frames, "skip": config.skip > 0,
        "options": to_json(Options()),
        "limits": {"seeds": MOST_SEEDS, "frames": MOST_FRAMES, "letters": MOST_LETTERS,
                   "bytes": MOST_BYTES},
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.params)),
        "patches": patches(model),
    }  # fmt: skip


def patches(model: Model) -> dict[str, Any] | None:
    """How each id looks where all around it are the same: a picture to show while others are open.

    The decoder may look at an id's neighbors, so whole frames look a little other at edges.
    """
    codes, side = model.frames.codebook_size, model.frames.downsample
    if codes > _FEW_CODES:
        return None
    columns = int(np.ceil(np.sqrt(codes)))
    grids = np.broadcast_to(np.arange(codes)[:, None, None], (codes, 3, 3))
    shown = model.frames.decode(grids.astype(np.int32))[:, side : 2 * side, side : 2 * side]
    sheet = np.zeros((columns * columns, side, side, 3), np.uint8)
    sheet[:codes] = shown
    sheet = sheet.reshape(columns, columns, side, side, 3).swapaxes(1, 2)
    return {"columns": columns, "png": png(sheet.reshape(columns * side, columns * side, 3))}
