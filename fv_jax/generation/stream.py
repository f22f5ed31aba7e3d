"""Endless generation, frame by frame: stop it, save it, go on elsewhere, branch off.

    round 0   K1  .  .  .  K2  .  .  .  K3  .  .  .  K4  .  .  .  K5
    round 1                                          K1  .  .  .  K2  .  .  .  K3  ..
                                                     (the last two key frames, read anew)

A key frame is sampled, then the frames before it are put in, and all are yielded in time order.
The network knows a limited number of serial numbers; when they are used up, a new round begins
with the last key frames as its first ones. What a stream must remember does not grow with what it
has made: a `DecodeState`, the key frames that a new round may need, and the frames of one gap.
"""

import dataclasses
import hashlib
import json
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Int

from fv_jax.array_types import Frame
from fv_jax.config.model import Options, from_json, to_json
from fv_jax.files import replacing
from fv_jax.generation import drafts
from fv_jax.generation.engine import KEY_FRAMES, Engine
from fv_jax.generation.gaps import VideoIds
from fv_jax.generation.interpolation import interpolate
from fv_jax.generation.plan import plan_videos
from fv_jax.generation.pretrained import Model
from fv_jax.generation.sampler import DecodeState
from fv_jax.generation.stats import Stats
from fv_jax.generation.window_size import KEPT_KEY_FRAMES
from fv_jax.models.retnet import RetNetState
from fv_jax.sequence.packing import key_frame_serials, pack
from fv_jax.sequence.vocab import FREE
from fv_jax.weights.tensors import read_safetensors

_FORMAT = "fv-jax stream 2"
_CARRIED = 2  # key frames that a new round begins with: enough to see how things move


@dataclasses.dataclass(frozen=True)
class StreamedFrame:
    """One frame, as soon as its ids are known.

    Attributes:
        index: from 0, in time order.
        key_round: which round of serial numbers its next key frame belongs to.
    """

    index: int
    frame: Frame
    ids: Int[np.ndarray, "h w"]
    key_frame: bool
    inherited: Bool[np.ndarray, "h w"]
    key_round: int


@runtime_checkable
class HasEngine(Protocol):
    """What a `Generator` is to a stream."""

    @property
    def model(self) -> Model:
        """The loaded model."""
        ...

    def engine_for(self, options: Options) -> Engine:
        """Compiled calls of the sampler."""
        ...


@dataclasses.dataclass
class _Progress:
    """Where a stream is; with `DecodeState`, `keys` and `ready` all that it must remember.

    Attributes:
        key_round: of serial numbers.
        made: key frames of this round.
        gaps: filled so far, in all rounds.
        yielded: frames so far.
    """

    key_round: int = 0
    made: int = 0
    gaps: int = 0
    yielded: int = 0


class Stream(Iterator[StreamedFrame]):
    """An iterator without end; made by `Generator.stream` or `Stream.load`.

    The first round's frames are those of `Generator.generate` with the same prompt, seed and
    options. `stats` adds up over everything that this object did.
    """

    def __init__(self, engine: Engine, prompt: str, seed: int, options: Options):
        """A stream that has made nothing yet.

        Raises:
            ValueError: as `Generator.generate`; also with too few key frames to go on with.
        """
        self.prompt, self.seed, self.options = prompt, seed, options
        self.stats = Stats()
        self._engine = engine
        self._plan = plan = plan_videos(engine.model, [prompt], seed=seed, options=options)
        self._sampler = engine.sampler(
            plan.key_policy,
            1,
            window=options.window,
            guidance=options.guidance,
            kept=KEPT_KEY_FRAMES if options.drafts else None,
        )
        self._round = plan.key_frames
        if self._round <= _CARRIED:
            raise ValueError(
                f"a stream needs more than {_CARRIED} key frames a round, got {self._round}"
            )
        self._at = _Progress()
        self._keys: deque[np.ndarray] = deque(maxlen=_CARRIED)
        self._ready: deque[tuple[np.ndarray, bool, np.ndarray]] = deque()
        self._state = self._start()

    def __next__(self) -> StreamedFrame:
        """The next frame; key frames cost the most, those that lie ready nothing."""
        while not self._ready:
            self._advance()
        ids, key_frame, inherited = self._ready.popleft()
        index, self._at.yielded = self._at.yielded, self._at.yielded + 1
        with self.stats("decode"):
            pixels = self._engine.model.frames.decode(ids[None])[0]
        return StreamedFrame(index, pixels, ids, key_frame, inherited, self._at.key_round)

    def fork(self, *, prompt: str | None = None, seed: int | None = None) -> "Stream":
        """A stream that goes on from here on its own, with another prompt or seed if given.

        Both count from the next key frame on; frames that lie ready are the same in both.
        """
        options = self.options
        other_seed = self.seed if seed is None else seed
        other = Stream(self._engine, prompt or self.prompt, other_seed, options)
        other._at = dataclasses.replace(self._at)
        other._keys, other._ready = self._keys.copy(), self._ready.copy()
        other._state = jax.tree.map(jnp.copy, self._state)
        if seed is not None:
            other._state = other._state.replace(keys=other._start().keys)
        return other

    def save(self, path: Path) -> None:
        """Write everything that the rest of the stream depends on; whole or not at all."""
        grid = self._engine.model.config.sequence.frame_grid
        empty = np.zeros((0, *grid), np.int32)
        arrays = {
            "retention": np.asarray(self._state.net.retention),
            "position": np.asarray(self._state.net.position),
            "keys": np.asarray(jax.random.key_data(self._state.keys)),
            "key_frames": np.stack([*self._keys]) if self._keys else empty,
            "ready_ids": np.stack([f[0] for f in self._ready]) if self._ready else empty,
            "ready_key": np.asarray([f[1] for f in self._ready], bool),
            "ready_inherited": np.stack([f[2] for f in self._ready]) if self._ready else empty > 0,
        }
        header = {
            "format": _FORMAT, "model": fingerprint(self._engine.model),
            "prompt": self.prompt, "seed": self.seed, "options": to_json(self.options),
            "at": dataclasses.asdict(self._at), "sha256": _checksum(arrays),
        }  # fmt: skip
        with replacing(path) as temporary:
            safetensors.numpy.save_file(arrays, temporary, {"stream": json.dumps(header)})

    @classmethod
    def load(cls, maker: HasEngine, path: Path) -> "Stream":
        """Go on with what `save` wrote, bit by bit as if it had never stopped.

        Args:
            maker: a `Generator` of the same model.
            path: of the file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a damaged file, none of a stream, or one of another model.
        """
        tensors, metadata = read_safetensors(path)
        arrays = {name: np.asarray(value) for name, value in tensors.items()}
        try:
            header = json.loads(metadata["stream"])
            if header["format"] != _FORMAT:
                raise ValueError(f"format {header['format']!r} instead of {_FORMAT!r}")
            if header["sha256"] != _checksum(arrays):
                raise ValueError("its checksum does not fit its contents")
            options, at = from_json(Options, header["options"]), _Progress(**header["at"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged or no saved stream ({error})") from error
        engine = maker.engine_for(options)
        if header["model"] != fingerprint(engine.model):
            raise ValueError(
                f"{path} was saved with another model than {maker.model.name!r}; "
                "load the model that made it"
            )
        stream = cls(engine, header["prompt"], header["seed"], options)
        stream._at = at
        stream._keys.extend(arrays["key_frames"])
        ready = (arrays["ready_ids"], arrays["ready_key"], arrays["ready_inherited"])
        stream._ready.extend((ids, bool(key), mask) for ids, key, mask in zip(*ready))
        net = RetNetState(jnp.asarray(arrays["retention"]), jnp.asarray(arrays["position"]))
        stream._state = DecodeState(net, jax.random.wrap_key_data(jnp.asarray(arrays["keys"])))
        return stream

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self._plan.video_fps

    @property
    def frame_size(self) -> tuple[int, int]:
        """(Y, X) of the frames, px."""
        return self._engine.model.frame_size

    @property
    def state_bytes(self) -> int:
        """Device memory of the state: the same for ever."""
        leaves = jax.tree.leaves(self._state.net)
        return sum(leaf.nbytes for leaf in leaves)

    def _start(self) -> DecodeState:
        """The state at the beginning of the current round."""
        later = (self._at.key_round,) if self._at.key_round else ()
        return self._engine.start(self._sampler, [(self.seed, KEY_FRAMES, *later)])

    def _advance(self) -> None:
        """Sample the next key frame, and what lies before it."""
        at, sequence = self._at, self._sampler.sequence
        if at.made == self._round:
            if at.key_round == 0:  # once is enough
                warnings.warn(
                    f"the model was trained with {self._round} key frames, and all are made: the "
                    f"stream goes on in rounds that begin with the last {_CARRIED} key frames",
                    stacklevel=3,
                )
            at.key_round, at.made = at.key_round + 1, _CARRIED
            self._state = self._start()
            seen, read = _CARRIED, 0
        else:
            nearby = self._engine.model.config.network.nearby
            seen = read = min(at.made, _CARRIED if nearby else 1)
        known = [ids.reshape(-1) for ids in self._keys][len(self._keys) - seen :]
        free = np.full(sequence.frame_tokens, FREE, np.int32)
        serials = key_frame_serials(self._round)[at.made - seen : at.made + 1]
        guess = drafts.previous_frame if self.options.drafts else drafts.nothing
        codes, self._state = self._engine.decode(
            self._state, self._sampler, self.stats,
            tokens=pack(
                self._plan.texts, np.stack([*known, free])[None], serials, sequence,
                self._engine.model.config.key_frame_stride,
            ),
            guesses=guess(seen + 1, sequence), order=range(seen + 1), read=read,
        )  # fmt: skip
        key = codes[0, -1].reshape(sequence.frame_grid).astype(np.int32)
        made = [key] if not self._keys else [self._keys[-1], key]
        (frames,) = interpolate(
            self._engine, self._plan, [VideoIds.of_key_frames(np.stack(made))], self.stats,
            first_gap=at.gaps,
        )  # fmt: skip
        new = slice(len(made) - 1, None)  # the key frame before has been yielded
        rows = zip(frames.ids[new], frames.key_frame[new], frames.inherited[new])
        self._ready.extend((ids.astype(np.int32), bool(key), mask) for ids, key, mask in rows)
        self._keys.append(key)
        at.made += 1
        at.gaps += len(made) - 1


def fingerprint(model: Model) -> str:
    """A hash of all that a model's ids depend on: configs, network and tokenizers."""
    config = to_json(model.config)
    # Fields that came later count where they say something: streams saved before still load.
    for part, field, before in (
        (config, "given_frames", 0),
        (config, "skip", 0),
        (config, "inherit", ()),
        (config["sequence"], "gaps", ()),
        (config["network"], "shared_start", True),
        (config["network"], "nearby", 0),
        (config["network"], "places", 0),
    ):
        if part[field] == before:
            del part[field]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    digest.update(model.text.model + model.frames.fingerprint().encode())
    for leaf in jax.tree.leaves(model.params):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
