"""What the letters in shapes mean, in every annotation and docstring of the package.

    B   rows of a batch
    R   rows that the network sees: B, or 2 B where guidance adds each row without its text
    N   clips; pieces of them in scores
    T   tokens of a sequence
    W   tokens of a window, sampled or fed in one call
    S   tokens of a chunk, of chunkwise retention
    M   slots of the decode cache, which hold tokens that are not yet in the retention state
    F   frames
    G   gaps between neighboring frames, which interpolation fills
    Y   pixels of a frame from top to bottom
    X   pixels of a frame from left to right
    h   ids of a frame from top to bottom, or features of it
    w   ids of a frame from left to right, or features of it
    y   features of a frame from top to bottom, where there are h after or before them
    x   features of a frame from left to right, likewise
    P   ids of a frame, h * w, row by row
    L   layers
    D   width of the network
    H   heads
    K   key channels of a head
    K2  half of them: RoPE turns channels in pairs
    E   value channels of a head
    V   codes: of the network's vocabulary, or of a tokenizer's codebook
    d   channels of a code
    C   channels of a feature map, or of a vector of features
    I   channels that go into a layer
    O   channels that come out of it

Pixels are uint8, or where it is said floats in [0, 1].
Further sizes are whole words in small letters (`text`, `size`), sizes that do not matter are `_`,
and any number of leading axes is `*b`. A new letter needs a line here.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8

Frame = UInt8[np.ndarray, "Y X 3"]
Frames = UInt8[np.ndarray, "F Y X 3"]
Ids = Int[np.ndarray, "F h w"]


def checked_floats(frames: np.ndarray, name: str) -> Float[np.ndarray, "F Y X 3"]:
    """Floats as float32, if it is clear what they mean.

    Raises:
        ValueError: another type, or not all in [0, 1]; by the clip's name.
    """
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"pixels must be uint8, or floats in [0, 1], got {frames.dtype} in {name}")
    low, high = float(frames.min()), float(frames.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"floats must be in [0, 1], got {low:g} to {high:g} in {name}; scale them, or give "
            "uint8"
        )
    return frames.astype(np.float32)
