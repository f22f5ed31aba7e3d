"""Every clip of a source through a tokenizer, once: what `fv tokenize` does.

    threads decode clips  ->  frames of several clips in one batch  ->  ids  ->  journal  ->  shard

Each clip is written to the journal of its shard as soon as it is encoded, and a full journal
becomes a shard, whole or not at all. A run that was killed goes on after the last clip written:
nothing is made twice, nothing is left out.
"""

import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import UInt8
from tqdm import tqdm

from fv_jax.config.model import TokenSettings, to_json
from fv_jax.data.skips import Skips, check_none, check_some_opens, report_notes, report_problems
from fv_jax.data.sources.base import Entry, Problem, Source, parse
from fv_jax.data.token_cache import (
    MANIFEST,
    TOKENIZER,
    Manifest,
    TokenFolder,
    clips_of,
    ids_of,
    shard_path,
)
from fv_jax.files import only_process_in, replacing
from fv_jax.journal import Journal
from fv_jax.media.frames import frame_numbers, read_pieces
from fv_jax.media.readers import ClipError, Reader
from fv_jax.provenance import cores, provenance
from fv_jax.tokenizers.code_use import CodeUse
from fv_jax.tokenizers.interface import FrameTokenizer, clip_ids

_BATCH_FRAMES = 256  # frames that are encoded together, at least
_MOST_PIECES = 4  # of a clip that is decoded as a whole


@dataclasses.dataclass(frozen=True)
class Film:
    """A clip too long to be decoded as a whole: its reader, and the frames of each piece."""

    reader: Reader
    parts: list[np.ndarray]


Whole = list[UInt8[np.ndarray, "_ Y X 3"]] | ClipError  # frames of every piece


def tokenize(
    source: Source, tokenizer: FrameTokenizer, folder: Path, settings: TokenSettings
) -> TokenFolder:
    """Make, or finish, a folder of tokens.

    Args:
        source: the clips.
        tokenizer: the frame tokenizer; it is saved beside the tokens.
        folder: a new one, or the folder of an earlier run, which is continued.
        settings: frames per second, size, length of a piece, clips of a shard.

    Returns:
        The folder, opened.

    Raises:
        ValueError: the folder holds other tokens, a clip is unusable and `strict` is set, or none
            can be used at all.
    """
    wanted = _manifest(source, tokenizer, settings)
    tokens = _complete(wanted, folder)  # which any number of processes may read
    if not tokens:
        report_problems(source, strict=settings.strict)
        if not folder.exists():
            check_some_opens(source)
        with only_process_in(folder):
            tokens = _complete(wanted, folder)
            if not tokens:
                if not (folder / MANIFEST).exists():
                    tokenizer.save(folder / TOKENIZER)
                    wanted.write(folder)
                tokens = _Run(source, tokenizer, folder, settings, wanted)()
    if not settings.force:
        _check_alive(folder, tokens.manifest)
    if settings.strict:  # it may have been made, or begun, without
        check_none(folder, [Problem(**p) for p in tokens.manifest.left_out])
    return tokens


def _complete(wanted: Manifest, folder: Path) -> TokenFolder | None:
    """The folder's tokens, if all are there.

    Raises:
        ValueError: it holds other tokens.
    """
    if not (folder / MANIFEST).exists():
        return None
    found = Manifest.read(folder)
    _check_same(found, wanted, folder)
    return TokenFolder(folder) if found.complete else None


def clips_hash(source: Source) -> str:
    """A hash of every clip's id and text, which says whether two sources hold the same clips.

    Raises:
        ValueError: two clips have the same id.
    """
    entries = [source[i] for i in range(len(source))]
    twice = len(entries) - len({entry.id for entry in entries})
    if twice:
        raise ValueError(f"{source.name} names {twice} clips twice")
    lines = (f"{entry.id}\t{entry.text}\n" for entry in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


class _Run:
    """One run over what is not yet done."""

    def __init__(self, source, tokenizer, folder, settings, manifest):
        self.source: Source = source
        self.tokenizer: FrameTokenizer = tokenizer
        self.folder: Path = folder
        self.settings: TokenSettings = settings
        self.manifest: Manifest = manifest
        self.skips = Skips(folder / "left_out", strict=settings.strict)
        self.notes: list[tuple[str, str]] = []  # of clips that were read

    def __call__(self) -> TokenFolder:
        per_shard, total = self.settings.shard_clips, len(self.source)
        shards = range(-(-total // per_shard))
        missing = [number for number in shards if not shard_path(self.folder, number).exists()]
        done = total - sum(min(per_shard, total - n * per_shard) for n in missing)
        with (
            ThreadPoolExecutor(self.settings.threads or cores()) as pool,
            tqdm(total=total, initial=done, desc="tokenizing", unit="clip") as bar,
        ):
            try:
                for number in missing:
                    entries = range(number * per_shard, min((number + 1) * per_shard, total))
                    self._shard(number, entries, pool, bar)
                    if number == 0 and not self.settings.force:
                        _check_alive(self.folder, self.manifest)  # before hours are spent
            finally:
                pool.shutdown(cancel_futures=True)  # what was to be decoded ahead
        report_notes(sorted(self.notes))
        return self._finish(shards)

    def _shard(self, number: int, entries: range, pool: ThreadPoolExecutor, bar: tqdm) -> None:
        path = self.folder / f"{number:05d}.journal"
        journal = Journal(path)
        try:
            bar.update(len(journal.records))
            left = (self.source[i] for i in entries[len(journal.records) :])
            for entry, decoded in self._batched(_ahead(pool, self._decode, left)):
                journal.append(self._record(entry, decoded))
                bar.update()
        finally:
            journal.close()
        self._seal(shard_path(self.folder, number), journal.records)
        path.unlink()

    def _decode(self, entry: Entry) -> Whole | Film:
        """Frames of every piece of a clip, or why there are none."""
        fps, seconds = self.settings.fps, self.settings.piece_seconds
        try:
            reader = entry.open()
            per_piece = max(2, round(seconds * fps))
            numbers = frame_numbers(reader, fps)
            starts = range(0, len(numbers), per_piece)
            # A rest of one frame is no clip.
            parts = [numbers[s : s + per_piece] for s in starts if s == 0 or len(numbers) - s > 1]
            if len(parts) > _MOST_PIECES:
                return Film(reader, parts)
            frames = list(read_pieces(reader, parts, self.settings.size))
        except ClipError as error:
            return error
        self._note(entry, reader)
        return frames

    def _note(self, entry: Entry, reader: Reader) -> None:
        self.notes += [(entry.id, note) for note in reader.notes]

    def _batched(
        self, decoded: Iterable[tuple[Entry, Whole | Film]]
    ) -> Iterator[tuple[Entry, list[np.ndarray] | ClipError]]:
        """Ids in place of frames, encoded in batches of many clips."""
        waiting: list[tuple[Entry, Whole]] = []
        frames = 0
        for entry, pieces in decoded:
            if isinstance(pieces, Film):
                yield from self._encode(waiting)
                waiting, frames = [], 0
                yield entry, self._encode_film(pieces)
                self._note(entry, pieces.reader)
                continue
            waiting.append((entry, pieces))
            frames += sum(map(len, pieces)) if isinstance(pieces, list) else 0
            if frames >= _BATCH_FRAMES:
                yield from self._encode(waiting)
                waiting, frames = [], 0
        yield from self._encode(waiting)

    def _encode(self, waiting: list[tuple[Entry, Whole]]):
        clips = [clip for _, pieces in waiting if isinstance(pieces, list) for clip in pieces]
        encoded = iter(self._ids(clips) if clips else ())
        for entry, pieces in waiting:
            good = isinstance(pieces, list)
            yield entry, [next(encoded) for _ in pieces] if good else pieces

    def _encode_film(self, film: Film) -> list[np.ndarray] | ClipError:
        """One piece after the other: a film's frames may not fit into the memory."""
        ids = []
        try:
            for piece in read_pieces(film.reader, film.parts, self.settings.size):
                ids += self._ids([piece])
        except ClipError as error:
            return error
        return ids

    def _ids(self, clips: list[np.ndarray]) -> list[np.ndarray]:
        return clip_ids(self.tokenizer, clips, noise_free=self.source.noise_free)

    def _record(self, entry: Entry, pieces: list[np.ndarray] | ClipError) -> bytes:
        """One line of JSON, then the ids of all pieces."""
        if isinstance(pieces, ClipError):
            self.skips.add(entry.id, pieces)
            return json.dumps({"id": entry.id, "left_out": str(pieces)}).encode()
        about = {"id": entry.id, "text": entry.text, "frames": [len(ids) for ids in pieces]}
        return b"\n".join(
            [json.dumps(about).encode(), np.concatenate(pieces).astype("<u2").tobytes()]
        )

    def _seal(self, path: Path, records: list[bytes]) -> None:
        clips, payloads = [], []
        for record in records:
            head, _, ids = record.partition(b"\n")
            about = json.loads(head)
            sizes = about.get("frames", [])
            start, per_frame = 0, len(ids) // max(1, sum(sizes))
            for piece, frames in enumerate(sizes):
                whole, text = about["id"], about["text"]
                name = whole if len(sizes) == 1 else f"{whole}#{piece}"
                clips.append({"id": name, "whole": whole, "text": text, "frames": frames})
                payloads.append(ids[start : start + frames * per_frame])
                start += frames * per_frame
        with replacing(path) as temporary:
            writer = ArrayRecordWriter(str(temporary), "group_size:1")
            for payload in [json.dumps(clips).encode(), *payloads]:
                writer.write(payload)
            writer.close()

    def _finish(self, shards: range) -> TokenFolder:
        manifest = dataclasses.replace(self.manifest, complete=True)
        problems = {p.id: p for p in [*self.source.problems, *self.skips.problems()]}
        left_out = tuple(to_json(problem) for problem in problems.values())
        clips = frames = 0
        for number in shards:
            about = clips_of(shard_path(self.folder, number))
            clips, frames = clips + len(about), frames + sum(clip["frames"] for clip in about)
        if not clips:
            raise ValueError(
                f"none of the {self.manifest.entries} clips of {self.manifest.source} can be used, "
                f"e.g. {left_out[0]['id']}: {left_out[0]['reason']}"
            )
        dataclasses.replace(
            manifest, clips=clips, frames=frames, left_out=left_out, made=provenance()
        ).write(self.folder)
        return TokenFolder(self.folder)


def _check_alive(folder: Path, manifest: Manifest) -> None:
    """Raises `ValueError` if the ids of the first shard hardly tell its clips apart."""
    use = CodeUse.of(ids_of(shard_path(folder, 0)), manifest.codebook_size)
    if use.problem and not use.is_dead:
        raise ValueError(
            f"the tokenizer uses few of its codes on {manifest.source}: {use.problem}; if its "
            "samples look right, the clips need no more: go on with --force; else train it longer "
            "(--run.steps), and give --out another folder"
        )
    if use.problem:
        raise ValueError(
            f"the tokenizer is dead on {manifest.source}, what is made with it will be gray: "
            f"{use.problem}; train one on these clips, with more --run.steps if it was (`fv train "
            f"own_tokenizer --data {manifest.source}`), and give --out another folder; --force "
            "goes on"
        )


def _ahead(pool: ThreadPoolExecutor, function, items: Iterable[Entry]) -> Iterator[tuple]:
    """(item, function(item)) in order, a few computed ahead."""
    waiting: deque = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > 2 * cores():
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()


def _manifest(source: Source, tokenizer: FrameTokenizer, settings: TokenSettings) -> Manifest:
    if tokenizer.codebook_size > 2**16:
        raise ValueError(f"ids are stored as uint16, but there are {tokenizer.codebook_size}")
    if settings.size % tokenizer.downsample:
        raise ValueError(
            f"--size must be a multiple of {tokenizer.downsample} px, got {settings.size}"
        )
    side = settings.size // tokenizer.downsample
    return Manifest(
        source=source.name,
        entries=len(source),
        entries_hash=clips_hash(source),
        tokenizer=tokenizer.fingerprint(),
        codebook_size=tokenizer.codebook_size,
        grid=(side, side),
        fps=settings.fps,
        size=settings.size,
        piece_seconds=settings.piece_seconds,
        shard_clips=settings.shard_clips,
    )


def _check_same(before: Manifest, now: Manifest, folder: Path) -> None:
    """What the folder holds may be continued only with the same clips, tokenizer and settings."""
    names = [
        field.name
        for field in dataclasses.fields(Manifest)
        if field.name not in ("source", "complete", "clips", "frames", "left_out", "made")
    ]
    differ = [
        f"{name} {getattr(before, name)} instead of {getattr(now, name)}"
        for name in names
        if getattr(before, name) != getattr(now, name)
    ]
    if _options(before.source) != _options(now.source):  # another camera, say
        differ.append(f"source {before.source} instead of {now.source}")
    if differ:
        raise ValueError(
            f"{folder} holds tokens of another kind: {'; '.join(differ)}; "
            "give --out another folder, or delete it"
        )


def _options(source: str) -> tuple[str, dict[str, str]]:
    """Kind and options of a source, wherever it lies now."""
    kind, _, options = parse(source)
    return kind, {key: value for key, value in options.items() if key != "data_dir"}
