"""The sampler as StableHLO, for programs without this package (`jax.export`).

    key_frames.stablehlo   (text int32 [T], seed uint32 []) -> ids int32 [F, h, w]
    between.stablehlo      (text, a int32 [h, w], b int32 [h, w], seed, gap uint32 []) -> [n, h, w]
    pixels.stablehlo       (ids int32 [h, w]) -> uint8 [Y, X, 3]
    stablehlo.json         shapes, the sampling options, and how a text becomes ids

T text slots, F key frames, n frames between two. Weights are in the files, which run on CPU, CUDA
and TPU. The ids are those of `Generator.generate` with the same seed and `Options.inherit` 0 (in
float32); gap g lies between the key frames g and g + 1. `examples/run_exported.py` runs them.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fv_jax.config.model import Options
from fv_jax.files import replacing, write_text
from fv_jax.generation import drafts
from fv_jax.generation.changes import Blocks, decode_changes
from fv_jax.generation.engine import BETWEEN, KEY_FRAMES
from fv_jax.generation.plan import inserted
from fv_jax.generation.policies import Sampling
from fv_jax.generation.pretrained import Model
from fv_jax.generation.sampler import Sampler, decode_tokens, start
from fv_jax.sequence.nearby import neighbors
from fv_jax.sequence.packing import interpolation_serials, key_frame_serials, pack
from fv_jax.sequence.vocab import FREE, PAD, Vocab
from fv_jax.tokenizers.fsq import FSQTokenizer, decode_ids

PLATFORMS = ("cpu", "cuda", "tpu")
_WINDOW = 8  # ids tried at a time; it changes no id


def export_sampler(model: Model, folder: Path, options: Options = Options()) -> list[Path]:
    """Write the files, and return their paths.

    Args:
        model: whose weights they hold.
        folder: an existing one.
        options: how ids are chosen; temperatures and guidance count, the rest does not.

    Raises:
        ValueError: the model's frames are not of our own tokenizer.
    """
    if not isinstance(model.frames, FSQTokenizer):
        kind = type(model.frames).__name__
        raise ValueError(
            f"only models with an FSQ tokenizer can be exported, {model.name!r} has {kind}"
        )
    if importlib.util.find_spec("flatbuffers") is None:
        raise ValueError('StableHLO is written by flatbuffers: pip install "fv-jax[hub]"')
    sequence, pixels = model.config.sequence, model.frames
    text = jax.ShapeDtypeStruct((sequence.text_tokens,), jnp.int32)
    grid = jax.ShapeDtypeStruct(sequence.frame_grid, jnp.int32)
    number = jax.ShapeDtypeStruct((), jnp.uint32)
    decoder = lambda ids: decode_ids(pixels.config, pixels.params, ids[None])[0]
    calls = {"key_frames": (_key_frames(model, options), (text, number))}
    insert = next(iter(inserted(model, options)), 0)  # of the first level
    if insert:
        calls["between"] = _between(model, options, insert), (text, grid, grid, number, number)
    calls["pixels"] = decoder, (grid,)
    paths = []
    for name, (call, arguments) in calls.items():
        made = jax.export.export(jax.jit(call), platforms=PLATFORMS)(*arguments)
        paths.append(folder / f"{name}.stablehlo")
        with replacing(paths[-1]) as temporary:
            temporary.write_bytes(made.serialize())
    about = {
        "platforms": PLATFORMS,
        "text": {
            "slots": sequence.text_tokens, "padding": PAD, "first_id": Vocab(sequence).text_start,
            "tokenizer": "text.model (sentencepiece); ids + first_id, padded at the end",
        },
        "key_frames": model.config.key_frames,
        "between": insert,
        "frames_per_second": model.config.key_frame_fps * (insert + 1),
        "size": model.frame_size,
        "options": dataclasses.asdict(options),
    }  # fmt: skip
    paths.append(folder / "stablehlo.json")
    write_text(paths[-1], json.dumps(about, indent=1) + "\n")
    return paths


def _key_frames(model: Model, options: Options) -> Callable:
    count = model.config.key_frames
    policy = Sampling(options.temperature, options.top_k, options.top_p)
    guesses = drafts.previous_frame(count, model.config.sequence)
    sample = _sampler(model, policy, key_frame_serials(count), guesses, guidance=options.guidance)
    return lambda text, seed: sample(text, [], (seed, KEY_FRAMES))


def _between(model: Model, options: Options, insert: int) -> Callable:
    policy = Sampling(options.insert_temperature, options.top_k, options.top_p)
    guesses = drafts.neighboring_frame(insert, model.config.sequence)
    sample = _sampler(model, policy, interpolation_serials(insert), guesses)

    def between(text, a, b, seed, gap):
        return sample(text, [a, b], (seed, BETWEEN, 0, gap))[2:]

    return between


def _sampler(
    model: Model, policy: Sampling, serials: list[int], guesses: np.ndarray, guidance: float = 1.0
) -> Callable:
    """A function of a text, the first grids and the words of a key, that gives all grids."""
    sequence, network = model.config.sequence, nnx.merge(model.graph, model.params)
    sampler = Sampler(sequence, policy, min(_WINDOW, sequence.stride), guidance)
    free = np.full((1, len(serials), sequence.frame_tokens), FREE, np.int32)
    text = np.full((1, sequence.text_tokens), PAD, np.int32)
    # Key frames, and what the first level puts between them: both name the same gap.
    blank = pack(text, free, serials, sequence, model.config.key_frame_stride)
    first = Vocab(sequence).frame_start
    # Serial numbers count time, of key frames and between them.
    changes = model.config.network.places > 0
    around = None
    if model.config.network.nearby:
        around = jnp.asarray(neighbors(serials, sequence, changes=changes, decided=changes))
    count = 1 if changes else len(serials)  # blocks of which every id is decoded

    def sample(text, known: list, words: tuple[Any, ...]):
        blocks = jnp.asarray(blank).reshape(len(serials), sequence.stride)
        blocks = blocks.at[:, : sequence.text_tokens].set(text)
        for block, grid in enumerate(known):
            blocks = blocks.at[block, sequence.header :].set(grid.reshape(-1) + first)
        length, given = count * sequence.stride, len(known) * sequence.stride
        tokens, state, _ = decode_tokens(
            network, sampler, start(network, sampler, [words]), blocks[:count].reshape(1, -1),
            jnp.asarray(guesses[:length]), None, None if around is None else around[:length],
            prefix=min(given + sequence.header - 1, length),
        )  # fmt: skip
        if changes:
            tokens, _, _ = decode_changes(
                network, sampler, state,
                blocks.at[:count].set(tokens.reshape(count, -1)).reshape(1, -1),
                Blocks.of(serials, sequence), None, count, len(serials),
            )  # fmt: skip
        grids = tokens.reshape(blocks.shape)[:, sequence.header :] - first
        return grids.reshape(-1, *sequence.frame_grid)

    return sample
