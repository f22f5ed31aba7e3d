"""Text to video: the paper on one page.

prompt -> text ids -> key frames (recurrent decoding) -> frames between them -> pixels
                                                         (skip mask, recursive)
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Int, UInt8

from fv_jax.config.model import Options
from fv_jax.generation import drafts, pretrained
from fv_jax.generation.interpolation import Frames, fill
from fv_jax.generation.policies import Policy
from fv_jax.generation.sampler import DecodeState, Sampler, decode, start
from fv_jax.generation.stats import Stats
from fv_jax.generation.window_size import buffer_size, window_size
from fv_jax.media.clip import Clip
from fv_jax.sequence.packing import interpolation_serials, key_frame_serials, pack, pad_text, unpack
from fv_jax.sequence.vocab import FREE

if TYPE_CHECKING:
    from fv_jax.generation.stream import Stream

KEY_FRAMES, BETWEEN = 0, 1  # stages, folded into a request's key


class Generator:
    """A loaded model, ready to generate. Compiled samplers are kept from call to call."""

    def __init__(self, model: pretrained.Model):
        self.model = model
        self._network = nnx.merge(model.graph, model.params)
        self._compiled: dict[Any, Callable] = {}

    @classmethod
    def load(cls, model: str = pretrained.DEFAULT) -> "Generator":
        """Load a shipped model by name or a model folder by path."""
        return cls(pretrained.load(model))

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of a prompt that the model's text tokenizer never saw."""
        return self.model.text.unknown(prompt)

    def untrained_levels(self, options: Options) -> list[int]:
        """Levels of interpolation (from 1) whose gaps are finer than the model was trained on."""
        config = self.model.config
        insert = self.inserted(options)
        gaps = [config.key_frame_stride / (insert + 1) ** level for level in range(options.levels)]
        known = set(config.insertions)
        return [i + 1 for i, gap in enumerate(gaps) if insert and (gap, insert) not in known]

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        options: Options = Options(),
        first_frames: UInt8[np.ndarray, "*B K Y X 3"] | None = None,
    ) -> list[Clip]:
        """Videos for prompts; all of them share one batch.

        Args:
            prompts: sentences.
            seed: of the first prompt, or one for each. Prompt i has seed `seed + i`; the seed
                alone decides its video, not its neighbours.
            options: how to sample.
            first_frames: K key frames to start from, at the key frames' rate: the same for
                all prompts, or [B, K, Y, X, 3]; the rest is generated.

        Raises:
            ValueError: an empty or too long prompt, or an option that the model was not made
                for.
        """
        config = self.model.config
        count = self.key_frames(options)
        if not len(prompts):
            raise ValueError("no prompts; give at least one sentence")
        sampler = self.sampler(options, options.temperature, options.guidance, len(prompts))
        self.inserted(options)  # before sampling anything
        texts = np.stack([self.text_ids(prompt) for prompt in prompts])
        seeds = _seeds(seed, len(prompts))
        stats = Stats()
        given = self._encode_first(first_frames, count, len(prompts), stats)
        ids = self._key_frames(texts, given, count, seeds, sampler, options.drafts, stats)
        videos = [Frames.of_key_frames(grid) for grid in ids]
        return self._finish(
            videos, texts, list(prompts), seeds, options, stats, config.key_frame_fps
        )

    def stream(self, prompt: str, *, seed: int = 0, options: Options = Options()) -> "Stream":
        """Frames without end, each as soon as its ids are known; see `stream.py`."""
        from fv_jax.generation.stream import Stream

        return Stream(self, prompt, seed, options)

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
        ids = self._encode(frames[None], stats)[0]
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
        if frames.ndim == 5 and len(frames) != rows:
            raise ValueError(f"need one set of first_frames per prompt: got {len(frames)}, {rows}")
        known = frames.shape[-4]
        if not 1 <= known <= count:
            raise ValueError(f"first_frames must be 1..{count} key frames, got {known}")
        each = frames if frames.ndim == 5 else frames[None]
        ids = self._encode(each, stats).reshape(len(each), known, -1)
        return np.broadcast_to(ids, (rows, *ids.shape[1:]))

    def _encode(self, clips, stats) -> Int[np.ndarray, "B M h w"]:
        if clips.shape[2:4] != self.frame_size:
            raise ValueError(f"frames must be {self.frame_size} px (Y, X), got {clips.shape[2:4]}")
        with stats("encode"):
            return np.stack(self.model.frames.encode_clips(list(clips)))

    def _key_frames(
        self, texts, given, count, seeds, sampler, use_drafts, stats
    ) -> Int[np.ndarray, "B M h w"]:
        rows, known = given.shape[:2]
        codes = np.pad(given, ((0, 0), (0, count - known), (0, 0)), constant_values=FREE)
        if known < count:
            guess = drafts.previous_frame if use_drafts else drafts.nothing
            codes, _ = self.decode(
                self.start(sampler, [(s, KEY_FRAMES) for s in seeds]), sampler, stats,
                tokens=pack(texts, codes, key_frame_serials(count), sampler.sequence),
                guesses=guess(count, sampler.sequence), prefix=known,
            )  # fmt: skip
        return codes.reshape(rows, count, *sampler.sequence.frame_grid)

    def _finish(self, videos, texts, prompts, seeds, options, stats, fps) -> list[Clip]:
        """Interpolate, decode to pixels, and pack up."""
        filled = self.fill(videos, texts, seeds, options, stats)
        with stats("decode"):
            pixels = [self.model.frames.decode(frames.ids) for frames in filled]
        fps = fps * (self.inserted(options) + 1) ** options.levels
        summary = stats.summary(len(videos))
        return [
            Clip(p, f.ids.astype(np.int32), f.key_frame, f.inherited, prompt, s, fps, summary)
            for p, f, prompt, s in zip(pixels, filled, prompts, seeds)
        ]

    def fill(
        self,
        videos: list[Frames],
        texts: Int[np.ndarray, "B T"],
        seeds: list[int],
        options: Options,
        stats: Stats,
        first_gap: int = 0,
    ) -> list[Frames]:
        """Put frames between the given ones, all gaps of a level in one batch."""
        insert = self.inserted(options)
        sequence = self.model.config.sequence
        guesses = (
            drafts.neighbouring_frame(insert, sequence)
            if options.drafts
            else drafts.nothing(insert + 2, sequence)
        )

        # Where an id sees the whole frame (icetk) no ring is wide enough; the paper's is one id.
        reach = self.model.frames.reach
        radius = reach if 1 <= reach < max(sequence.frame_grid) else 1

        def generate(rows, a, b, forced):
            # The frames around an inserted one say what it shows; the text adds little.
            sampler = self.sampler(options, options.insert_temperature, 1.0, len(rows))
            keys = [(seeds[v], BETWEEN, level, gap) for v, level, gap in rows]
            codes, _ = self.decode(
                self.start(sampler, keys), sampler, stats,
                tokens=pack(
                    np.stack([texts[v] for v, _, _ in rows]),
                    np.stack([a, b, *forced], axis=1), interpolation_serials(insert), sequence,
                ),
                guesses=guesses, prefix=2,
            )  # fmt: skip
            return codes[:, 2:].swapaxes(0, 1)

        return fill(
            videos, generate, insert=insert, levels=options.levels, inherit=options.inherit,
            seeds=seeds, radius=radius, first_gap=first_gap,
        )  # fmt: skip

    def key_frames(self, options: Options) -> int:
        """Key frames of a clip.

        Raises:
            ValueError: more than the model was trained with.
        """
        most = self.model.config.key_frames
        count = options.key_frames or most
        if not 1 <= count <= most:
            raise ValueError(
                f"key_frames must be in 1..{most}, which is what {self.model.name!r} was trained "
                f"with; got {count}"
            )
        return count

    def inserted(self, options: Options) -> int:
        """Frames put into every gap.

        Raises:
            ValueError: a number that the model was not trained with.
        """
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

    def sampler(self, options: Options, temperature: float, guidance: float, rows: int) -> Sampler:
        """What to compile for `rows` rows of key frames or of inserted ones."""
        sequence = self.model.config.sequence
        policy = Policy(temperature, options.top_k, options.top_p)
        sampler = Sampler(sequence, policy, guidance=guidance)
        platform = jax.default_backend()
        window = options.window or window_size(rows * sampler.readings, platform)
        window = min(window, sequence.stride)
        return dataclasses.replace(sampler, window=window, buffer=buffer_size(window, platform))

    def start(self, sampler: Sampler, keys: list[tuple[int, ...]]) -> DecodeState:
        """A state before any token; see `sampling.decode.start`."""
        return start(self._network, sampler, keys)

    def decode(
        self,
        state: DecodeState,
        sampler: Sampler,
        stats: Stats,
        *,
        tokens: Int[np.ndarray, "B L"],
        guesses: Int[np.ndarray, " L"],
        read: int = 0,
        prefix: int = 0,
    ) -> tuple[Int[np.ndarray, "B M P"], DecodeState]:
        """Run the sampler, compiling it for a new shape. `read` and `prefix` count blocks."""
        sequence = sampler.sequence
        static = dict(
            graph=self.model.graph, sampler=sampler,
            read=read * sequence.stride, prefix=prefix * sequence.stride,
        )  # fmt: skip
        shape = (sampler, read, prefix, tokens.shape)
        if shape not in self._compiled:
            with stats("compile"):
                lowered = decode.lower(self.model.params, state, tokens, guesses, **static)
                self._compiled[shape] = lowered.compile()
        with stats("sample"):
            whole, state, counts = self._compiled[shape](self.model.params, state, tokens, guesses)
            codes = unpack(np.asarray(whole), sequence)[2]
        new = tokens[:, read * sequence.stride :]
        sampled = int((new == FREE).sum())
        stats.count(
            steps=int(counts.steps), sampled=sampled, forced=new.size - sampled,
            drafted=int(counts.drafted.sum()), accepted=int(counts.accepted.sum()),
        )  # fmt: skip
        return codes, state


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _seeds(seed: int | Sequence[int], count: int) -> list[int]:
    seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise ValueError(f"need one seed per prompt: got {len(seeds)} for {count} prompts")
    if not 0 <= min(seeds) <= max(seeds) < 2**32:
        raise ValueError(f"seeds must be in 0..{2**32 - 1}, got {min(seeds)}..{max(seeds)}")
    return seeds
