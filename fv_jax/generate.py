"""Text to video: the paper on one page.

prompt -> text ids -> key frames (recurrent decoding) -> frames between them -> pixels
                                                         (skip mask, recursive)
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Bool, Int, UInt8

from fv_jax import model_folder
from fv_jax.config import Options
from fv_jax.interpolation.fill import Frames, fill
from fv_jax.sampling.decode import FREE, decode, start
from fv_jax.sampling.policies import Policy
from fv_jax.sequence import header, interpolation_serials, key_frame_serials, pack, pad_text
from fv_jax.stats import Stats

_KEY_FRAMES, _BETWEEN = 0, 1  # stages, folded into a request's key


@dataclasses.dataclass(frozen=True)
class Clip:
    """One generated video.

    Attributes:
        frames: pixels.
        ids: frame codes.
        key_frame: which frames are key frames.
        inherited: which ids were copied rather than sampled.
        fps: frames per second.
        stats: sampler steps, tokens by kind, seconds by stage (of the whole batch).
    """

    frames: UInt8[np.ndarray, "M Y X 3"]
    ids: Int[np.ndarray, "M h w"]
    key_frame: Bool[np.ndarray, " M"]
    inherited: Bool[np.ndarray, "M h w"]
    prompt: str
    seed: int
    fps: float
    stats: dict[str, Any]


class Generator:
    """A loaded model, ready to generate. Compiled samplers are kept from call to call."""

    def __init__(self, model: model_folder.Model):
        self.model = model
        self._network = nnx.merge(model.graph, model.params)
        self._compiled: dict[Any, Callable] = {}

    @classmethod
    def load(cls, model: str = model_folder.DEFAULT) -> "Generator":
        """Load a shipped model by name or a model folder by path."""
        return cls(model_folder.load(model))

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of a prompt that the model's text tokenizer never saw."""
        return self.model.text.unknown(prompt)

    def untrained_levels(self, options: Options) -> list[int]:
        """Levels of interpolation (from 1) whose gaps are finer than the model was trained on."""
        config = self.model.config
        insert = self._check_insert(options)
        gaps = [config.key_frame_stride / (insert + 1) ** level for level in range(options.levels)]
        known = set(config.insertions)
        return [i + 1 for i, gap in enumerate(gaps) if insert and (gap, insert) not in known]

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        options: Options = Options(),
        first_frames: UInt8[np.ndarray, "K Y X 3"] | None = None,
    ) -> list[Clip]:
        """Videos for prompts; all of them share one batch.

        Args:
            prompts: sentences.
            seed: of the first prompt, or one for each. Prompt i has seed `seed + i`; the seed
                alone decides its video, not its neighbours.
            options: how to sample.
            first_frames: K key frames to start from, at the key frames' rate, the same for
                all prompts; the rest is generated.

        Raises:
            ValueError: an empty or too long prompt, or an option that the model was not made
                for.
        """
        config = self.model.config
        count = options.key_frames or config.key_frames
        policy = Policy(options.temperature, options.top_k, options.top_p)
        self._check_insert(options)  # before sampling anything
        if not 1 <= count <= config.key_frames:
            raise ValueError(
                f"key_frames must be in 1..{config.key_frames}, which is what "
                f"{self.model.name!r} was trained with; got {count}"
            )
        texts = np.stack([self.text_ids(prompt) for prompt in prompts])
        seeds = _seeds(seed, len(prompts))
        stats = Stats()
        given = self._encode_first(first_frames, count, len(prompts), stats)
        ids = self._key_frames(texts, given, count, seeds, policy, stats)
        videos = [Frames.of_key_frames(grid) for grid in ids]
        return self._finish(
            videos, texts, list(prompts), seeds, options, stats, config.key_frame_fps
        )

    def interpolate(
        self,
        frames: UInt8[np.ndarray, "M Y X 3"],
        *,
        prompt: str = "",
        seed: int = 0,
        options: Options = Options(),
        fps: float | None = None,
    ) -> Clip:
        """Put frames between the given ones.

        Args:
            frames: at least two, of the model's size; they come back encoded and decoded.
            prompt: what is seen; empty for none (the model is trained without text, too).
            seed: of the sampled ids and of the inherited places.
            options: `insert`, `levels`, `inherit` and the policy.
            fps: of the given frames; None means the model's key-frame rate.
        """
        if len(frames) < 2:
            raise ValueError(f"interpolation needs at least 2 frames, got {len(frames)}")
        stats = Stats()
        ids = self._encode(frames, stats)
        text = self.text_ids(prompt) if prompt.strip() else pad_text([], self.model.config.sequence)
        videos = [Frames.of_key_frames(ids)]
        fps = fps or self.model.config.key_frame_fps
        seeds = _seeds(seed, 1)
        return self._finish(videos, text[None], [prompt], seeds, options, stats, fps)[0]

    @property
    def frame_size(self) -> tuple[int, int]:
        """(Y, X) px of the model's frames."""
        h, w = self.model.config.sequence.frame_grid
        return h * self.model.frames.downsample, w * self.model.frames.downsample

    def text_ids(self, prompt: str) -> Int[np.ndarray, " T"]:
        """Vocabulary ids of a prompt, padded.

        Raises:
            ValueError: an empty prompt, or one that does not fit into the text slots.
        """
        ids = self.model.text.encode(prompt)
        if not ids:
            raise ValueError(
                "the prompt is empty; write a sentence such as "
                "'a small red circle moves left over stripes'"
            )
        try:
            return pad_text(ids, self.model.config.sequence)
        except ValueError as error:
            raise ValueError(f"the prompt {_shorten(prompt)!r} is too long: {error}") from error

    def _encode_first(self, frames, count, rows, stats) -> Int[np.ndarray, "B K P"]:
        grid = self.model.config.sequence.frame_grid
        if frames is None:
            return np.zeros((rows, 0, grid[0] * grid[1]), np.int32)
        if not 1 <= len(frames) <= count:
            raise ValueError(f"first_frames must be 1..{count} key frames, got {len(frames)}")
        ids = self._encode(frames, stats).reshape(len(frames), -1)
        return np.broadcast_to(ids, (rows, *ids.shape))

    def _encode(self, frames, stats) -> Int[np.ndarray, "M h w"]:
        if frames.shape[1:3] != self.frame_size:
            raise ValueError(f"frames must be {self.frame_size} px (Y, X), got {frames.shape[1:3]}")
        with stats("encode"):
            return self.model.frames.encode_clip(frames)

    def _key_frames(self, texts, given, count, seeds, policy, stats) -> Int[np.ndarray, "B M h w"]:
        sequence, vocab = self.model.config.sequence, self.model.vocab
        known = given.shape[1]
        serials = key_frame_serials(count)
        rows = len(texts)
        if known == count:
            return given.reshape(rows, count, *sequence.frame_grid)
        prefix = pack(texts, given, serials[:known], sequence) if known else _nothing(rows)
        headers = np.stack([header(texts, n, vocab) for n in serials[known:]])
        forced = np.full((count - known, rows, sequence.frame_tokens), FREE, np.int32)
        keys = [(s, _KEY_FRAMES) for s in seeds]
        ids = self._decode(keys, prefix, headers, forced, policy, stats)
        ids = np.concatenate([given, ids.swapaxes(0, 1)], axis=1)
        return ids.reshape(rows, count, *sequence.frame_grid)

    def _finish(self, videos, texts, prompts, seeds, options, stats, fps) -> list[Clip]:
        """Interpolate, decode to pixels, and pack up."""
        sequence, vocab = self.model.config.sequence, self.model.vocab
        insert = self._check_insert(options)
        serials = interpolation_serials(insert) if insert else []
        policy = Policy(options.insert_temperature, options.top_k, options.top_p)

        def generate(rows, a, b, forced):
            text = np.stack([texts[v] for v, _, _ in rows])
            prefix = pack(text, np.stack([a, b], axis=1), serials[:2], sequence)
            headers = np.stack([header(text, n, vocab) for n in serials[2:]])
            keys = [(seeds[v], _BETWEEN, level, gap) for v, level, gap in rows]
            return self._decode(keys, prefix, headers, forced, policy, stats)

        filled = fill(
            videos, generate, insert=insert, levels=options.levels, inherit=options.inherit,
            seeds=seeds, radius=max(1, self.model.frames.reach),
        )  # fmt: skip
        with stats("decode"):
            pixels = [self.model.frames.decode(frames.ids) for frames in filled]
        fps = fps * (insert + 1) ** (options.levels if insert else 0)
        summary = stats.summary(len(videos))
        return [
            Clip(p, f.ids.astype(np.int32), f.key_frame, f.inherited, prompt, s, fps, summary)
            for p, f, prompt, s in zip(pixels, filled, prompts, seeds)
        ]

    def _check_insert(self, options: Options) -> int:
        """The number of frames to insert; the model must know its serial numbers."""
        config = self.model.config
        trained = sorted({n for _, n in config.insertions})
        insert = options.insert if options.insert >= 0 else max(trained, default=0)
        if not options.levels:
            return 0
        if insert and insert not in trained:
            raise ValueError(
                f"insert must be one of {[0, *trained]}, which is what {self.model.name!r} was "
                f"trained with; got {insert}"
            )
        return insert

    def _decode(self, keys, prefix, headers, forced, policy, stats) -> Int[np.ndarray, "F B P"]:
        """Run the sampler for this shape, compiling it if it is new."""
        params, state = self.model.params, start(self._network, keys)
        arrays = [np.asarray(x, np.int32) for x in (prefix, headers, forced)]
        shape = (policy, *(x.shape for x in arrays))
        static = dict(
            graph=self.model.graph, policy=policy, frame_start=self.model.vocab.frame_start
        )
        if shape not in self._compiled:
            with stats("compile"):
                lowered = decode.lower(params, state, *arrays, **static)
                self._compiled[shape] = lowered.compile()
        with stats("sample"):
            ids = np.asarray(self._compiled[shape](params, state, *arrays)[0])
        stats.count(
            steps=ids.shape[0] * ids.shape[2],
            sampled=int((arrays[2] == FREE).sum()),
            forced=int((arrays[2] != FREE).sum()) + arrays[0].size + arrays[1].size,
        )
        return ids


def _nothing(rows: int) -> Int[np.ndarray, "B 0"]:
    return np.zeros((rows, 0), np.int32)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _seeds(seed: int | Sequence[int], count: int) -> list[int]:
    seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise ValueError(f"need one seed per prompt: got {len(seeds)} for {count} prompts")
    if not 0 <= min(seeds) <= max(seeds) < 2**32:
        raise ValueError(f"seeds must be in 0..{2**32 - 1}, got {min(seeds)}..{max(seeds)}")
    return seeds
