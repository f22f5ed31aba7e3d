"""What an experiment's model makes of clips that it never saw: one file each, made once.

    real clip ──► its text, its given frames ──► Generator ──► CLIPS/HASH-r0-t0.npz

A file's name says which clip, repeat and trial it is of, and its seed follows from these alone. So
a run that was stopped goes on, one over more clips makes only those that are missing, and neither
order nor batches change a video. A clip is known by its id, its text, and the pixels of the frames
that are given; where none are, two sources with the same ids and texts have the same fakes.
"""

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fv_jax.array_types import Frames
from fv_jax.batching import filled
from fv_jax.config.model import Options, to_json
from fv_jax.config.training import NetworkExperiment
from fv_jax.data.sources.base import Entry
from fv_jax.data.split import open_split, open_whole
from fv_jax.data.token_cache import Manifest, tokens_at
from fv_jax.evaluation.clip_sets import ClipFile
from fv_jax.evaluation.evaluate import Comparison, Sets, progress
from fv_jax.evaluation.feature_cache import clip_hash
from fv_jax.evaluation.protocols import Protocol
from fv_jax.generation import pretrained
from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import frames_a_gap, inserted, key_frames, uses_all, uses_some
from fv_jax.media.frames import fit, frame_numbers
from fv_jax.media.npz import NpzClips
from fv_jax.media.readers import ClipError, Reader
from fv_jax.media.writers import save_clip

_LISTED = 1000  # clips, in a result


@dataclasses.dataclass(frozen=True)
class Unseen:
    """A real clip that a model is measured on.

    Attributes:
        id: in its source.
        text: what the model is told.
        read: gives its first so many frames at the model's rate; 0 for all.
        count: how many of them are compared; 0 for all.
    """

    id: str
    text: str
    read: Callable[[int], Frames]
    count: int

    @property
    def clip(self) -> ClipFile:
        """What is compared."""
        return ClipFile(self.id, functools.partial(self.read, self.count))


@dataclasses.dataclass(frozen=True)
class Made:
    """A fake: of which clip, which repeat, which trial.

    Attributes:
        clip: its number among the real ones.
        path: of its file.
    """

    clip: int
    run: int
    trial: int
    seed: int
    path: Path


def unseen_entries(config: NetworkExperiment, source: str = "") -> tuple[str, list[Entry]]:
    """Name of the source, and the clips that an experiment keeps for evaluation.

    Args:
        config: of the experiment.
        source: takes its place.

    Raises:
        ValueError: there are none.
    """
    if source or config.valid:
        part = open_whole(source or _pixels_of(config.valid))
    else:
        part = open_split(_pixels_of(config.data), "", config.valid_share)[1]
    return part.source.name, part.entries


def choose(
    entries: Sequence[Entry], protocol: Protocol, fps: float
) -> tuple[list[Unseen], list[str]]:
    """The protocol's number of clips that are long enough, and why others on the way are not used.

    Which ones depends on their names alone, so that the first classes of a list are no more likely.

    Args:
        entries: of the source.
        protocol: says how many clips, and of how many frames at that rate.
        fps: of the model's frames.

    Raises:
        ValueError: there are not so many.
    """
    order = sorted(entries, key=lambda entry: hashlib.sha256(entry.id.encode()).digest())
    count = min(protocol.real_count, len(order)) or len(order)
    least = protocol.frames + protocol.windows - 1
    used = protocol.frames if protocol.windows == 1 else 0  # windows are spread over all there is
    chosen, left_out = [], []
    with progress("opening clips", count) as bar:
        for entry in order:
            if len(chosen) == count:
                break
            try:
                frame_numbers(entry.open(), fps, count=least)
            except ClipError as error:
                left_out.append(f"{entry.id}: {error}")
                continue
            read = functools.partial(_frames, entry, fps)
            chosen.append(Unseen(entry.id, entry.text, read, used))
            bar.update()
    for line in left_out:
        print(f"fv: left out {line}", file=sys.stderr)
    if not chosen:
        raise ValueError(
            f"none of {len(order)} clips has {least} frames at {fps:g} fps"
            + (f" (first: {left_out[0]})" if left_out else "")
        )
    return chosen, left_out


def model_folder(config: NetworkExperiment, trained: Path, named: str = "") -> Path:
    """The model that an experiment is measured by: the one named, trained or shipped.

    Args:
        config: of the experiment.
        trained: where its training leaves a model.
        named: a model that takes its place.

    Raises:
        FileNotFoundError: there is none.
    """
    if named:
        return pretrained.locate(named)
    for place in (str(trained), config.name):
        try:
            return pretrained.locate(place)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(
        f"no model {str(trained)!r} of {config.name}: train it first (experiments/ has the "
        "commands), or give --model"
    )


def fitted(protocol: Protocol, generator: Generator, options: Options) -> Protocol:
    """The protocol with the model's length and size where it says none.

    Raises:
        ValueError: the model makes shorter videos than the protocol wants.
    """
    gap = _gap(generator, options)
    whole = uses_all(generator.model, protocol.given_frames) and gap == _stride(generator)
    given = protocol.given_frames if whole else 0
    length = (key_frames(generator.model, options, given) - 1) * gap + 1
    size = generator.model.frame_size[0]
    found = dataclasses.replace(
        protocol, frames=protocol.frames or length, size=protocol.size or size
    )
    if found.frames > length:
        raise ValueError(
            f"protocol {found.name}: want {found.frames} frames, the model makes {length}; give "
            f"--frames {length}, or --key-frames and --levels for more"
        )
    return found


def compare_samples(
    config: NetworkExperiment, folder: Path, generator: Generator, protocol: Protocol, *,
    source: str, options: Options, seed: int, batch_size: int, home: Path,
) -> Callable[[], Comparison]:  # fmt: skip
    """Clips that an experiment's model never saw, and what it makes of them.

    Args:
        config: of the experiment.
        folder: of the model.
        generator: of the model.
        protocol: from `fitted`.
        source: real clips, instead of those that the experiment keeps for evaluation.
        options: how to sample.
        seed: of the first repeat.
        batch_size: videos sampled at a time.
        home: folder for the fakes; what is there already is not made again.

    Returns:
        What makes the fakes; nothing is written before it is called.

    Raises:
        ValueError: no clip can be used, or the protocol asks for what the model cannot make.
    """
    fps = generator.model.config.key_frame_fps * _gap(generator, options)
    name, entries = unseen_entries(config, source)
    real, left_out = choose(entries, protocol, fps)
    weights = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    samples = Samples(
        generator, real, protocol, options=options, seed=seed, home=home / config.name,
        weights=weights,
    )  # fmt: skip
    for note in samples.notes:
        print(f"fv: warning: {note}", file=sys.stderr)
    about = {
        "experiment": config.name, "real": name, "left_out": left_out,
        "clips": [unseen.id for unseen in real[:_LISTED]],
        "model": {"config_sha256": weights, "training": _training(folder)},
        "seed": seed,
        "seeds": [[made.seed for made in run[:_LISTED]] for run in samples.made],
        "seeds_are": "the first 4 bytes, little-endian, of sha256('SEED RUN TRIAL CLIP')",
        "options": to_json(options), "given_as": "real frames in the fake clips, too",
        "given_used": samples.used,
    }  # fmt: skip

    def made() -> Comparison:
        samples.generate(batch_size)
        sets = Sets([unseen.clip for unseen in real], samples.runs(), generated=True)
        return Comparison(sets, protocol, [unseen.text for unseen in real], fps, about)

    return made


class Samples:
    """The fakes of chosen clips.

    Args:
        generator: of the model.
        real: the clips.
        protocol: which frames are given, how many fakes there are.
        options: how to sample.
        seed: of the first repeat; part of every fake's seed.
        home: folder; one below it is named by everything that decides the fakes.
        weights: checksum of the model.

    Attributes:
        used: how many of the given frames the model uses: all of them, or the key frames among
            them where it was not trained to begin with so many in a row.
        notes: what is to be said of that.
    """

    def __init__(
        self, generator: Generator, real: Sequence[Unseen], protocol: Protocol, *,
        options: Options, seed: int, home: Path, weights: str,
    ):  # fmt: skip
        self._generator, self._real, self._options = generator, real, options
        model, given = generator.model, protocol.given_frames
        self._step = _gap(generator, options)
        known = -(-given // self._step)  # key frames among those given
        # The clips' rate is the model's own where as many are inserted as it leaves out.
        self._whole = uses_all(model, given) and self._step == _stride(generator)
        most = key_frames(model, options, given if self._whole else 0)
        if known > most:
            raise ValueError(
                f"given_frames={given} hold {known} key frames, the model {model.name!r} has {most}"
            )
        self.used = given if self._whole else known
        self.notes = uses_some(model, given, self.used)
        what = {"weights": weights, "options": _sampling(options), "known": known}
        if self._whole:
            what["given"] = given
        text = json.dumps(what, sort_keys=True)
        self.folder = home / hashlib.sha256(text.encode()).hexdigest()[:12]
        trials = protocol.trials(len(real))
        names = self._names()
        self.made = [
            [
                self._plan(i, names[i], run, trial, seed)
                for i, count in enumerate(trials)
                for trial in range(count)
            ]
            for run in range(protocol.repeats)
        ]

    def _names(self) -> list[str]:
        """A name for every real clip, by all that the model gets of it."""
        names = []
        with progress("reading given frames", len(self._real)) as bar:
            for index, unseen in enumerate(self._real):
                hasher = hashlib.sha256(f"{unseen.id}\t{unseen.text}".encode())
                if self.used:
                    hasher.update(clip_hash(self._first_frames(index)))
                names.append(hasher.hexdigest()[:16])
                bar.update()
        return names

    def _plan(self, index: int, name: str, run: int, trial: int, seed: int) -> Made:
        text = f"{seed} {run} {trial} {self._real[index].id}"
        key = hashlib.sha256(text.encode()).digest()
        path = self.folder / f"{name}-s{seed}-r{run}-t{trial}.npz"
        return Made(index, run, trial, int.from_bytes(key[:4], "little"), path)

    def generate(self, batch_size: int) -> int:
        """Make what is missing; gives how many that were."""
        every = [made for run in self.made for made in run]
        missing = [made for made in every if not made.path.exists()]
        size = min(batch_size, len(missing))
        with progress("generating", len(every), len(every) - len(missing)) as bar:
            for start in range(0, len(missing), max(size, 1)):
                batch = missing[start : start + size]
                for made, clip in zip(batch, self._batch(filled(batch, size))):
                    save_clip(clip, made.path)
                    bar.update()
        return len(missing)

    def _batch(self, batch: Sequence[Made]):
        begin = {}
        if self.used:
            frames = {made.clip: self._first_frames(made.clip) for made in batch}
            name = "given_frames" if self._whole else "first_frames"
            begin[name] = np.stack([frames[made.clip] for made in batch])
        return self._generator.generate(
            [self._real[made.clip].text for made in batch],
            seed=[made.seed for made in batch],
            options=self._options,
            **begin,
        )

    def _first_frames(self, index: int) -> np.ndarray:
        step = 1 if self._whole else self._step
        frames = self._real[index].read((self.used - 1) * step + 1)
        return fit(frames[::step], self._generator.model.frame_size)

    def runs(self) -> list[list[list[ClipFile]]]:
        """Each real clip's fakes, in every repeat."""
        found = []
        for run in self.made:
            groups: list[list[ClipFile]] = [[] for _ in self._real]
            for made in run:
                read = functools.partial(_load, made.path)
                groups[made.clip].append(ClipFile(str(made.path), read))
            found.append(groups)
        return found


def _gap(generator: Generator, options: Options) -> int:
    """Frames from one key frame to the next."""
    return frames_a_gap(inserted(generator.model, options))


def _stride(generator: Generator) -> int:
    """The same at the model's own rate."""
    return generator.model.config.key_frame_stride


def _training(folder: Path) -> dict[str, Any]:
    """Steps and the like from the model's own record, if it has one."""
    path = folder / "training.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {k: v for k, v in record.items() if isinstance(v, int | float | str)}


def _sampling(options: Options) -> dict[str, Any]:
    """Options that decide which ids are sampled."""
    return {k: v for k, v in to_json(options).items() if k not in ("window", "drafts")}


def _pixels_of(name: str) -> str:
    """The source of a folder of tokens, which has no pixels; any other source is its own."""
    folder = tokens_at(name)
    return Manifest.read(folder).source if folder else name


def _frames(entry: Entry, fps: float, count: int) -> np.ndarray:
    try:
        reader: Reader = entry.open()
        return reader.frames(frame_numbers(reader, fps, count=count).tolist())
    except ClipError as error:
        raise ValueError(f"{entry.id} cannot be read: {error}") from error


def _load(path: Path) -> np.ndarray:
    try:
        return NpzClips(path).read()
    except ValueError as error:
        raise ValueError(f"{error}; delete it, and it is made again") from error
