"""The packed sequence (paper section 3.2, Fig. 3): text and a serial number before every frame.

Three key frames:

    [text | SN_1 | frame 1] [text | SN_2 | frame 2] [text | SN_3 | frame 3]

Interpolation, n = 2 frames between A and B; B's serial number is n + 2, since it will be last:

    [text | SN_1 | A] [text | SN_4 | B] [text | SN_2 | insert 1] [text | SN_3 | insert 2]
                                         \\________ loss and sampling only here ________/

Key frames after g = 5 frames that are given in a row, where key frames are four frames apart. The
given ones come as interpolation orders and numbers them; the key frames go on after them:

    [SN_1 | frame 1] [SN_5 | 5] [SN_2 | 2] [SN_3 | 3] [SN_4 | 4] [SN_3 | frame 9] [SN_4 | 13] ..
     \\____________________ given ______________________________/ \\__ loss and sampling here __/

Where a network knows several gaps, a token before the serial number says how many frames lie from
one known frame to the next: from A to B, or from key frame to key frame. Serial numbers are the
same at every level of an interpolation, and what moves by how much is not.

Every block has the same length, so "the same patch, one frame ago" is one fixed distance: all
that a network with relative positions can learn. The text is padded, never cut.

A row of F frames has T = F (text + 1 + P) tokens, with P ids in each frame; with gaps F more.
All arrays here are NumPy int32; frame ids are codes (0..codebook) outside and vocabulary ids
inside a sequence.
"""

import numpy as np
from jaxtyping import Int

from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.vocab import FREE, PAD, Vocab


def key_frame_serials(frames: int) -> list[int]:
    """Serial numbers in packed order for the key-frame task: 1, 2, .. frames."""
    return list(range(1, frames + 1))


def interpolation_serials(inserted: int) -> list[int]:
    """Serial numbers in packed order for the interpolation task: 1, n + 2, 2, 3, .. n + 1."""
    return [1, inserted + 2, *range(2, inserted + 2)]


def given_serials(given: int, key_frames: int) -> list[int]:
    """Serial numbers in packed order of key frames after given ones: 1, g, 2 .. g - 1, 3 .. M.

    Args:
        given: g, frames given in a row: the first two key frames and all between them.
        key_frames: M, these two among them.
    """
    return [*interpolation_serials(given - 2), *range(3, key_frames + 1)]


def given_order(given: int, key_frames: int) -> list[int]:
    """Frames in the same order, numbered from 0: 0, g - 1, 1 .. g - 2, 2 (g - 1), 3 (g - 1) .."""
    gap = given - 1
    return [0, gap, *range(1, gap), *(gap * frame for frame in range(2, key_frames))]


def key_frames_after(given: int, key_frames: int) -> int:
    """How many key frames a row has that begins with given frames.

    Those between the first two take the place of its last key frames, so that rows are no longer;
    at least one key frame follows.
    """
    return max(key_frames - (given - 2), 3)


def header(
    text: Int[np.ndarray, "B text"], serial: int, vocab: Vocab, gap: int = 0
) -> Int[np.ndarray, "B header"]:
    """What precedes a frame: the text (vocabulary ids), the gap if there is one, serial number."""
    ids = [vocab.gap(gap)] if vocab.config.gaps else []
    ids = np.broadcast_to([*ids, vocab.serial(serial)], (len(text), len(ids) + 1))
    return np.concatenate([text, ids], axis=1).astype(np.int32)


def pad_text(ids: list[int], config: SequenceConfig) -> Int[np.ndarray, " text"]:
    """Text ids (from 0) as vocabulary ids, padded at the end to the text slots.

    Raises:
        ValueError: too many ids, or an id outside the text vocabulary.
    """
    if len(ids) > config.text_tokens:
        raise ValueError(f"the text has {len(ids)} tokens, but a block holds {config.text_tokens}")
    if ids and not 0 <= min(ids) <= max(ids) < config.text_vocabulary:
        raise ValueError(f"text ids must be in 0..{config.text_vocabulary - 1}, got {ids}")
    padded = np.full(config.text_tokens, PAD, np.int32)
    padded[: len(ids)] = np.asarray(ids, np.int32) + Vocab(config).text_start
    return padded


def pack(
    text: Int[np.ndarray, "B text"],
    frames: Int[np.ndarray, "B F P"],
    serials: list[int],
    config: SequenceConfig,
    gap: int = 0,
) -> Int[np.ndarray, "B T"]:
    """Blocks of (text, serial number, frame codes), in the given order; FREE codes stay FREE.

    Use `key_frame_serials` with the frames in time order, or `interpolation_serials` with the
    frames in the order A, B, inserted. `gap` is what the blocks name, if they name any.

    Raises:
        ValueError: frames or serials of another number or size, codes out of range, or a gap that
            no block names.
    """
    rows, blocks, size = frames.shape
    vocab = Vocab(config)
    if blocks != len(serials):
        raise ValueError(f"got {blocks} frames but {len(serials)} serial numbers")
    if size != config.frame_tokens:
        raise ValueError(f"a frame must have {config.frame_tokens} ids, got {size}")
    if text.shape != (rows, config.text_tokens):
        raise ValueError(f"text must have shape {(rows, config.text_tokens)}, got {text.shape}")
    if frames.size and not FREE <= frames.min() <= frames.max() < config.frame_codes:
        raise ValueError(
            f"frame codes must be in 0..{config.frame_codes - 1} or {FREE}, got "
            f"{frames.min()}..{frames.max()}"
        )
    parts = []
    for block, serial in enumerate(serials):
        codes = frames[:, block]
        ids = np.where(codes == FREE, FREE, codes + vocab.frame_start)
        parts += [header(text, serial, vocab, gap), ids]
    return np.concatenate(parts, axis=1).astype(np.int32)


def unpack(
    tokens: Int[np.ndarray, "B T"], config: SequenceConfig
) -> tuple[Int[np.ndarray, "B text"], list[int], Int[np.ndarray, "B F P"]]:
    """Text, serial numbers and frame codes of a packed sequence, in packed order.

    Raises:
        ValueError: a length that is no whole number of blocks.
    """
    rows, length = tokens.shape
    if length % config.stride:
        raise ValueError(f"length must be a multiple of stride {config.stride}, got {length}")
    blocks = tokens.reshape(rows, -1, config.stride)
    vocab = Vocab(config)
    serials = blocks[0, :, config.header - 1] - vocab.serial_start + 1
    frames = blocks[:, :, config.header :] - vocab.frame_start
    return blocks[:, 0, : config.text_tokens], [int(s) for s in serials], frames
