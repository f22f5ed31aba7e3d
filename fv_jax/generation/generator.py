"""Text to video: the paper on one page.

prompt -> text ids -> key frames (recurrent decoding) -> frames between them -> pixels
                                                         (skip mask, recursive)
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8

from fv_jax.array_types import Frames
from fv_jax.config.model import Options
from fv_jax.generation import drafts, pretrained
from fv_jax.generation.engine import KEY_FRAMES, Engine
from fv_jax.generation.gaps import VideoIds
from fv_jax.generation.interpolation import interpolate
from fv_jax.generation.plan import Plan, plan_interpolation, plan_videos
from fv_jax.generation.policies import Policy
from fv_jax.generation.progress import Progress, Watch
from fv_jax.generation.stats import Stats
from fv_jax.generation.stream import Stream
from fv_jax.generation.window_size import KEPT_KEY_FRAMES
from fv_jax.media.clip import Clip
from fv_jax.sequence.packing import given_order, given_serials, key_frame_serials, pack
from fv_jax.sequence.vocab import FREE


class Generator:
    """A loaded model, ready to generate. Compiled samplers are kept from call to call.

    Args:
        model: a loaded model.
        engine: what calls the sampler, if another one than `Engine(model)`.
    """

    def __init__(self, model: pretrained.Model, engine: Engine | None = None):
        self.model = model
        self.engine = engine or Engine(model)
        self._float32: Engine | None = None

    @classmethod
    def load(cls, model: str = pretrained.DEFAULT) -> "Generator":
        """Load a shipped model by name, a folder by path, or `hf:OWNER/NAME[@REVISION]`."""
        return cls(pretrained.load(model))

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        options: Options = Options(),
        first_frames: UInt8[np.ndarray, "*b given Y X 3"] | None = None,
        given_frames: UInt8[np.ndarray, "... in_a_row Y X 3"] | None = None,
        policy: Policy | None = None,
    ) -> list[Clip]:
        """Videos for prompts; all of them share one batch.

        Args:
            prompts: sentences.
            seed: of the first prompt, or one for each. Prompt i has seed `seed + i`; the seed
                alone decides its video, not its neighbors. Of a model that computes in bfloat16
                this holds with `Options.float32`; without, matmuls round otherwise in other
                batches and windows, and only the distribution of videos is the same.
            options: how to sample.
            first_frames: K key frames to start from, at the key frames' rate: the same for
                all prompts, or [B, F, Y, X, 3]; the rest is generated.
            given_frames: g frames to start from instead, in a row at the model's own rate,
                likewise. A model that was trained to begin with so many
                (`ModelConfig.given_frames`) uses all of them; any other uses the key frames among
                them, and the plan's notes say so.
            policy: how ids of key frames are chosen, instead of what the options say.

        Raises:
            ValueError: an empty or too long prompt, or an option that the model was not made
                for.
        """
        return self.run(
            plan_videos(
                self.model, prompts, seed=seed, options=options, first_frames=first_frames,
                given_frames=given_frames, policy=policy,
            )
        )  # fmt: skip

    def interpolate(
        self,
        frames: UInt8[np.ndarray, "F Y X 3"],
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
        plan = plan_interpolation(
            self.model, frames, prompt=prompt, seed=seed, options=options, fps=fps
        )
        return self.run(plan)[0]

    def stream(self, prompt: str, *, seed: int = 0, options: Options = Options()) -> Stream:
        """Frames without end, each as soon as its ids are known; see `stream.py`."""
        return Stream(self.engine_for(options), prompt, seed, options)

    def engine_for(self, options: Options) -> Engine:
        """What samples with these options: in the model's dtype, or in float32."""
        exact = self.model.in_float32
        if not options.float32 or exact is self.model:
            return self.engine
        self._float32 = self._float32 or Engine(exact)
        return self._float32

    def run(self, plan: Plan, watch: Watch | None = None) -> list[Clip]:
        """Make what a plan says: key frames, the frames between them, pixels.

        `watch` is shown the ids while they are decided; what it raises ends the work.
        """
        stats = Stats()
        filled = self.sample(plan, stats, watch)
        with stats("decode"):
            pixels = [self.model.frames.decode(frames.ids) for frames in filled]
        return clips_of(plan, filled, pixels, stats)

    def sample(self, plan: Plan, stats: Stats, watch: Watch | None = None) -> list[VideoIds]:
        """What `run` makes, but for the pixels; `stats` is told what it costs."""
        engine = self.engine_for(plan.options)
        keys, between = self._key_frames(engine, plan, self._given(plan, stats), stats, watch)
        videos = [VideoIds.of_key_frames(grid) for grid in keys]
        return interpolate(engine, plan, videos, stats, given=between, watch=watch)

    def _given(self, plan: Plan, stats: Stats) -> Int[np.ndarray, "B given P"]:
        """The ids of the first frames, or of the given ones, in time order."""
        rows, sequence = len(plan.requests), self.model.config.sequence
        frames = plan.first_frames if plan.given_frames is None else plan.given_frames
        if frames is None:
            return np.zeros((rows, 0, sequence.frame_tokens), np.int32)
        with stats("encode"):
            ids = np.stack(self.model.frames.encode_clips(list(frames)))
        return np.broadcast_to(
            ids.reshape(*ids.shape[:2], -1), (rows, ids.shape[1], sequence.frame_tokens)
        )

    def _key_frames(
        self, engine: Engine, plan: Plan, given: Int[np.ndarray, "B given P"], stats: Stats,
        watch: Watch | None,
    ) -> tuple[Int[np.ndarray, "B F h w"], Int[np.ndarray, "B inserted h w"] | None]:  # fmt: skip
        """Key frames, and what lies between the first two of them where that is given."""
        sequence, options = self.model.config.sequence, plan.options
        rows, known = given.shape[:2]
        in_a_row = plan.given_frames is not None
        serials, order = key_frame_serials(plan.key_frames), range(plan.key_frames)
        if in_a_row:  # as interpolation orders them: the last one second
            given = given[:, given_order(known, 2)]
            serials = given_serials(known, plan.key_frames)
            order = given_order(known, plan.key_frames)
        count = len(serials)
        codes = np.pad(given, ((0, 0), (0, count - known), (0, 0)), constant_values=FREE)
        between = slice(2, known) if in_a_row else slice(0)

        def grids(codes):
            return np.delete(codes, between, axis=1).reshape(rows, -1, *sequence.frame_grid)

        if known < count:
            guess = drafts.previous_frame if options.drafts else drafts.nothing
            sampler = engine.sampler(
                plan.key_policy,
                rows,
                window=options.window,
                guidance=options.guidance,
                kept=KEPT_KEY_FRAMES if options.drafts else None,
            )
            codes, _ = engine.decode(
                engine.start(sampler, [(seed, KEY_FRAMES) for seed in plan.seeds]),
                sampler, stats,
                tokens=pack(
                    plan.texts, codes, serials, sequence, self.model.config.key_frame_stride
                ),
                guesses=guess(count, sequence), order=order,
                look=watch and (lambda codes, steps: watch(Progress(grids(codes), steps))),
            )  # fmt: skip
        inserted = codes[:, between].reshape(rows, -1, *sequence.frame_grid)
        return grids(codes), inserted if in_a_row else None


def clips_of(
    plan: Plan, videos: Sequence[VideoIds], pixels: Sequence[Frames], stats: Stats
) -> list[Clip]:
    """The finished videos of a plan."""
    summary = stats.summary(len(videos))
    return [
        Clip(
            shown, video.ids.astype(np.int32), video.key_frame, video.inherited, request.prompt,
            request.seed, plan.video_fps, summary,
        )
        for shown, video, request in zip(pixels, videos, plan.requests)
    ]  # fmt: skip
