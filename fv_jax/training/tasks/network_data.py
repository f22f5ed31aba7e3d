"""What a network is trained and evaluated on: folders of tokens, or sources turned into them."""

import dataclasses
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import jax

from fv_jax.config.model import TokenSettings
from fv_jax.config.training import NetworkExperiment
from fv_jax.data.batches import Clips
from fv_jax.data.live import LiveClips
from fv_jax.data.skips import Skips, check_some_opens, report_problems
from fv_jax.data.sources.base import open_source
from fv_jax.data.split import Part, frames_held_out, open_split, say_one_clip, split
from fv_jax.data.token_cache import TOKENIZER, Chosen, Manifest, Stretch, TokenFolder, tokens_at
from fv_jax.data.tokenize import clips_hash, tokenize
from fv_jax.media.frames import Window
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.tokenizers.interface import FrameTokenizer
from fv_jax.tokenizers.load import load_tokenizer


class TextClips(Clips, Protocol):
    """Clips whose texts are known without reading them."""

    @property
    def texts(self) -> list[str]:
        """The text of every clip."""
        ...


@dataclasses.dataclass(frozen=True)
class FrameIds:
    """What the ids of the frames mean.

    Attributes:
        tokenizer: makes them.
        grid: (h, w) ids of a frame.
        fps: frames per second.
    """

    tokenizer: FrameTokenizer
    grid: tuple[int, int]
    fps: float

    @property
    def levels(self) -> tuple[int, ...]:
        """FSQ levels of a code; () where codes have none."""
        return self.tokenizer.config.levels if isinstance(self.tokenizer, FSQTokenizer) else ()


@dataclasses.dataclass(frozen=True)
class NetworkData:
    """Clips of ids to train on and to evaluate on, and what the ids mean."""

    train: TextClips
    valid: TextClips
    ids: FrameIds


def frame_ids(config: NetworkExperiment) -> FrameIds:
    """What the ids of an experiment's frames mean; no clip is opened for it.

    Raises:
        FileNotFoundError: no such tokenizer.
        ValueError: it, or the folder of tokens, is damaged; frames of this size have no ids.
    """
    if folder := tokens_at(config.data):
        manifest = Manifest.read(folder)
        return FrameIds(load_tokenizer(str(folder / TOKENIZER)), manifest.grid, manifest.fps)
    tokenizer = load_tokenizer(config.tokenizer)
    if config.size % tokenizer.downsample:
        raise ValueError(f"size must be a multiple of {tokenizer.downsample}, got {config.size}")
    side = config.size // tokenizer.downsample
    return FrameIds(tokenizer, (side, side), config.fps)


def network_data(config: NetworkExperiment, folder: Path) -> NetworkData:
    """Open, and where need be make, what an experiment is trained on.

    Args:
        config: `data` and the settings beside it.
        folder: the place for tokens that are made here.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: nothing of it can be used, or training and evaluation clips do not match.
    """
    ids = frame_ids(config)
    if config.live:
        return _live(config, ids, folder)
    tokens = _tokens(config.data, config, ids.tokenizer, folder)
    span = config.clip_frames
    if config.valid:
        other = _tokens(config.valid, config, ids.tokenizer, folder)
        for name in ("tokenizer", "grid", "fps"):
            got, want = getattr(other.manifest, name), getattr(tokens.manifest, name)
            if got != want:
                raise ValueError(f"{config.valid} has {name} {got}, {config.data} has {want}")
        train, valid = range(len(tokens)), _long(other, range(len(other)), span, config.valid)
    elif len({clip["whole"] for clip in tokens.clips}) == 1:
        say_one_clip(config.data)
        return _parts_of_one(tokens, span, ids)
    else:
        other = tokens
        wholes = [clip["whole"] for clip in tokens.clips]  # pieces stay together
        train, valid = split(wholes, config.valid_share)
        valid = _long(tokens, valid, span, f"{config.data} (held out)")
    train = _long(tokens, train, span, config.data)
    return NetworkData(Chosen(tokens, train), Chosen(other, valid), ids)


def _parts_of_one(tokens: TokenFolder, span: int, ids: FrameIds) -> NetworkData:
    """The first frames (or pieces) of a clip that is alone, and its last ones."""
    pieces, count = len(tokens), tokens.clips[0]["frames"]
    if pieces > 1:
        cut = pieces - frames_held_out(pieces)
        return NetworkData(Chosen(tokens, range(cut)), Chosen(tokens, range(cut, pieces)), ids)
    cut = count - frames_held_out(count, span)
    if cut < span:
        raise ValueError(
            f"the only clip of {tokens.folder} has {count} frames, and {2 * span} are wanted, to "
            f"train on {span} and evaluate on as many others; lower --key-frames, "
            "--key-frame-stride or the gap of --insertions, or raise the fps of the tokens"
        )
    return NetworkData(Stretch(tokens, 0, 0, cut), Stretch(tokens, 0, cut, count), ids)


def _tokens(
    name: str, config: NetworkExperiment, tokenizer: FrameTokenizer, folder: Path
) -> TokenFolder:
    """The folder of tokens of this name, or the one made of the source of this name."""
    if made := tokens_at(name):
        return TokenFolder(made)
    if jax.process_count() > 1:
        raise ValueError(
            f"{name} must be tokenized before a training with several processes: run "
            "`fv tokenize` once, and give its folder as --data"
        )
    try:
        source = open_source(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no folder of tokens {name!r} and no source of that name; make tokens with "
            f"`fv tokenize SOURCE --out {name}` ({error})"
        ) from error
    # A dead tokenizer is told of when the training ends.
    settings = TokenSettings(fps=config.fps, size=config.size, strict=config.strict, force=True)
    key = f"{name} {tokenizer.fingerprint()} {config.fps} {config.size} {clips_hash(source)}"
    words = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")[-40:]
    home = folder / f"{words}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return tokenize(source, tokenizer, home, settings)


def _long(tokens: TokenFolder, indices: Sequence[int], span: int, name: str) -> list[int]:
    """Those clips that are long enough; says how many are not."""
    long = [i for i in indices if tokens.clips[i]["frames"] >= span]
    if len(long) < len(indices):
        print(
            f"fv: {len(indices) - len(long)} of {len(indices)} clips of {name} are left out: they "
            f"have fewer than {span} frames at {tokens.manifest.fps:g} fps",
            file=sys.stderr,
        )
    if not long:
        raise ValueError(
            f"no clip of {name} has {span} frames at {tokens.manifest.fps:g} fps; lower "
            "--key-frames, --key-frame-stride or the gap of --insertions, or raise the fps of the "
            "tokens"
        )
    return long


def _live(config: NetworkExperiment, ids: FrameIds, folder: Path) -> NetworkData:
    train, valid = open_split(config.data, config.valid, config.valid_share)
    window = Window(config.fps, config.size, config.clip_frames)
    name = hashlib.sha256(str(Path(config.data).resolve()).encode()).hexdigest()[:8]
    skips = Skips(folder / f"left_out-{name}", strict=config.strict)
    report_problems(train.source, valid.source, strict=config.strict)
    check_some_opens(train.source)
    known = len(skips.problems())
    if known:
        print(f"fv: {known} clips are known to be unusable: {skips.folder}", file=sys.stderr)

    def clips(part: Part, **how: bool) -> LiveClips:
        noise_free = part.source.noise_free
        return LiveClips(
            part.entries, ids.tokenizer, window, noise_free=noise_free, skips=skips, **how
        )

    return NetworkData(clips(train, mirror=config.mirror), clips(valid, centered=True), ids)
