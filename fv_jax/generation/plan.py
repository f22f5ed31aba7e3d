"""What is to be sampled, checked before anything is: one plan from the prompt to the frames.

    prompts, seeds, options, first frames ──► Plan ──► key frames ──► gaps by level ──► pixels

Whoever samples (`Generator`, `Stream`, the command line) makes a plan first. All that can be wrong
with a request is said here, and what is doubtful stands in the plan's `notes`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8

from fv_jax.array_types import Frames
from fv_jax.config.model import Options
from fv_jax.generation.policies import Policy, Sampling
from fv_jax.generation.pretrained import Model
from fv_jax.sequence.packing import key_frames_after, pad_text

MOST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Request:
    """One video that is wanted.

    Attributes:
        index: number of its prompt in the list that was given.
        text: vocabulary ids of the prompt, padded.
    """

    index: int
    prompt: str
    seed: int
    text: Int[np.ndarray, " T"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked request; all of its videos share one batch.

    Attributes:
        requests: the videos.
        options: how they are sampled.
        key_frames: of each video.
        insert: frames put into every gap of each level; () for none.
        inherit: share of the stable ids that frames of each level inherit.
        skip: frames of a row that interpolates which are read whole, where what the others inherit
            is left out (`ModelConfig.skip`); 0 where it is fed.
        first_frames: uint8 key frames that the videos begin with, one set a request or one for
            all; None for none. To interpolate these are all the key frames.
        given_frames: uint8 frames that they begin with instead, in a row at the model's own rate:
            the first two key frames and all between them.
        key_policy / insert_policy: how ids of key frames and of inserted frames are chosen.
        fps: key frames per second.
        gaps: what the blocks of each level name as the length of its gaps; 0 where they name none.
        notes: what the model will have to guess, one sentence each.
        refused: why a prompt is left out, by its number.
    """

    requests: tuple[Request, ...]
    options: Options
    key_frames: int
    insert: tuple[int, ...]
    first_frames: UInt8[np.ndarray, "_ given Y X 3"] | None
    key_policy: Policy
    insert_policy: Policy
    fps: float
    given_frames: UInt8[np.ndarray, "_ given Y X 3"] | None = None
    gaps: tuple[int, ...] = ()
    inherit: tuple[float, ...] = ()
    skip: int = 0
    notes: tuple[str, ...] = ()
    refused: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def texts(self) -> Int[np.ndarray, "B T"]:
        """Text of every request."""
        return np.stack([request.text for request in self.requests])

    @property
    def seeds(self) -> list[int]:
        """Seed of every request."""
        return [request.seed for request in self.requests]

    @property
    def video_fps(self) -> float:
        """Frames per second of the finished videos."""
        return self.fps * frames_a_gap(self.insert)

    def part(self, rows: Sequence[int]) -> "Plan":
        """The plan of some of its requests, by their place in it; one may come twice."""

        def of_rows(frames):
            return frames if frames is None or len(frames) == 1 else frames[list(rows)]

        return dataclasses.replace(
            self,
            requests=tuple(self.requests[row] for row in rows),
            first_frames=of_rows(self.first_frames),
            given_frames=of_rows(self.given_frames),
        )


def plan_videos(
    model: Model,
    prompts: Sequence[str],
    *,
    seed: int | Sequence[int] = 0,
    options: Options = Options(),
    first_frames: UInt8[np.ndarray, "*b given Y X 3"] | None = None,
    given_frames: UInt8[np.ndarray, "... in_a_row Y X 3"] | None = None,
    policy: Policy | None = None,
    leave_out: bool = False,
) -> Plan:
    """The plan of one video a prompt.

    Args:
        model: that will make them.
        prompts: sentences.
        seed: of the first prompt, or one for each. Prompt i has seed `seed + i`.
        options: how to sample.
        first_frames: K key frames to start from, at the key frames' rate: the same for all
            prompts, or [B, F, Y, X, 3]; the rest is generated.
        given_frames: g frames to start from instead, in a row at the model's own rate, likewise.
            A model that was trained to begin with so many uses all of them; of any other the key
            frames among them are the first frames, and a note says so.
        policy: how ids of key frames are chosen, instead of what the options say.
        leave_out: put prompts that cannot be used into `refused`, as long as one can be used.

    Raises:
        ValueError: an empty or too long prompt, or an option that the model was not made for.
    """
    if not len(prompts):
        raise ValueError("no prompts; give at least one sentence")
    insert, notes = inserted(model, options), []
    first_frames, given_frames = _begins(model, insert, first_frames, given_frames, notes)
    count = key_frames(model, options, 0 if given_frames is None else given_frames.shape[-4])
    known = 1 if first_frames is None else first_frames.shape[-4]
    if not 1 <= known <= count:
        raise ValueError(f"first_frames must be 1..{count} key frames, got {known}")
    requests, refused = [], {}
    for index, (prompt, number) in enumerate(zip(prompts, _seeds(seed, len(prompts)))):
        try:
            requests.append(Request(index, prompt, number, text_ids(model, prompt)))
        except ValueError as error:
            if not leave_out or len(prompts) == 1:
                raise
            refused[index] = str(error)
    rows = [request.index for request in requests]
    return Plan(
        tuple(requests), options, count, insert,
        _of_requests(model, "first_frames", first_frames, len(prompts), rows),
        policy or _policy(options, options.temperature),
        _policy(options, options.insert_temperature),
        model.config.key_frame_fps,
        _of_requests(model, "given_frames", given_frames, len(prompts), rows),
        named_gaps(model, insert, model.config.key_frame_fps),
        shares(model, options, insert, model.config.key_frame_fps),
        model.config.skip if options.skip else 0,
        (
            *notes,
            *unknown_words(model, requests),
            *untrained_levels(model, insert, model.config.key_frame_fps),
            *unknown_shares(model, options, insert),
            *unused_window(model, options),
        ),
        refused,
    )  # fmt: skip


def plan_interpolation(
    model: Model,
    frames: Frames,
    *,
    prompt: str = "",
    seed: int = 0,
    options: Options = Options(),
    fps: float | None = None,
) -> Plan:
    """The plan of one video with more frames between the given ones.

    Args:
        model: that will make them.
        frames: at least two, of the model's size.
        prompt: what is seen; empty for none (the model is trained without text, too).
        seed: of the sampled ids and of the inherited places.
        options: `insert`, `levels`, `inherit` and the policy.
        fps: frames per second of the given ones; None means the model's key-frame rate.

    Raises:
        ValueError: too few frames, frames of another size, or as `plan_videos`.
    """
    if len(frames) < 2:
        raise ValueError(f"interpolation needs at least 2 frames, got {len(frames)}")
    insert, (number,) = inserted(model, options), _seeds(seed, 1)
    named = bool(prompt.strip())
    text = text_ids(model, prompt) if named else pad_text([], model.config.sequence)
    policy, rate = _policy(options, options.insert_temperature), fps or model.config.key_frame_fps
    requests = (Request(0, prompt, number, text),)
    _check_size(model, frames.shape[1:3])
    return Plan(
        requests, options, len(frames), insert, frames[None], policy, policy, rate,
        gaps=named_gaps(model, insert, rate), inherit=shares(model, options, insert, rate),
        skip=model.config.skip if options.skip else 0,
        notes=(
            *unknown_words(model, requests), *untrained_levels(model, insert, rate),
            *unknown_shares(model, options, insert), *unused_window(model, options),
        ),
    )  # fmt: skip


def text_ids(model: Model, prompt: str) -> Int[np.ndarray, " T"]:
    """The vocabulary ids of a prompt, padded.

    Raises:
        ValueError: an empty prompt, or one that does not fit into the text slots.
    """
    ids = model.text.encode(prompt)
    if not ids:
        raise ValueError(
            "the prompt is empty; write a sentence such as "
            "'a small red circle moves left over stripes'"
        )
    try:
        return pad_text(ids, model.config.sequence)
    except ValueError as error:
        shown = prompt if len(prompt) <= 60 else prompt[:57] + "..."
        raise ValueError(f"the prompt {shown!r} is too long: {error}") from error


def key_frames(model: Model, options: Options, given: int = 0) -> int:
    """How many key frames a video gets.

    Args:
        model: that makes it.
        options: may ask for fewer than the model was trained with.
        given: frames that the video begins with, if all of them are used (`uses_all`).

    Raises:
        ValueError: more than the model was trained with, or none after the given frames.
    """
    least, most = 1, model.config.key_frames
    if given:
        least, most = 2, key_frames_after(given, most)
    count = options.key_frames or most
    if not least <= count <= most:
        after = f" after {given} given frames" if given else ""
        raise ValueError(
            f"key_frames must be in {least}..{most}, which is what {model.name!r} was trained "
            f"with{after}; got {count}"
        )
    return count


def uses_all(model: Model, given: int) -> bool:
    """Whether a model was trained to begin with so many frames in a row."""
    return given > 1 and given == model.config.given_frames


def uses_some(model: Model, given: int, used: int) -> list[str]:
    """A note where only some of the given frames are used."""
    if used == given:
        return []
    trained = model.config.given_frames
    return [
        f"{model.name!r} was not trained to begin with {given} frames in a row"
        + (f" (but with {trained})" if trained else "")
        + f": of those given it uses {used}, the key frames among them"
    ]


def inserted(model: Model, options: Options) -> tuple[int, ...]:
    """How many frames are put into every gap at each level; () for none.

    Raises:
        ValueError: a number that the model was not trained with.
    """
    trained = sorted({n for _, n in model.config.insertions})
    insert = options.per_level
    if insert == (-1,):
        insert = own_levels(model)
    for n in insert if options.levels else ():
        if n and n not in trained:
            raise ValueError(
                f"insert must be one of {[0, *trained]}, which is what {model.name!r} was trained "
                f"with; got {n}"
            )
    return tuple(n for n in insert if n) * options.levels


def own_levels(model: Model) -> tuple[int, ...]:
    """What a model puts between its key frames: from level to level what it was trained on."""
    gap, levels = model.config.key_frame_stride, []
    while numbers := [n for g, n in model.config.insertions if g == gap]:
        levels.append(max(numbers))
        gap //= levels[-1] + 1
    return tuple(levels) or tuple(sorted(n for _, n in model.config.insertions)[-1:])


def frames_a_gap(insert: Sequence[int]) -> int:
    """Frames from one key frame to the next, after all levels."""
    return math.prod(n + 1 for n in insert)


def unknown_words(model: Model, requests: Sequence[Request]) -> list[str]:
    """A note for every prompt with words that the model's text tokenizer never saw."""
    notes = []
    for request in requests:
        if unknown := model.text.unknown(request.prompt):
            notes.append(
                f"the model never saw {', '.join(map(repr, unknown))} and will guess; it knows: "
                f"{' '.join(model.text.words)}"
            )
    return notes


def rates(insert: Sequence[int], fps: float) -> list[float]:
    """Frames a second before each level."""
    return [fps * frames_a_gap(insert[:level]) for level in range(len(insert))]


def named_gaps(model: Model, insert: Sequence[int], fps: float) -> tuple[int, ...]:
    """What blocks name as the length of each level's gaps: the nearest that they can.

    Arguments are those of `untrained_levels`.
    """
    known, base = model.config.sequence.gaps, _base(model)
    if not known:
        return (0,) * len(insert)
    distance = lambda gap, rate: abs(math.log(gap * rate / base))
    return tuple(min(known, key=lambda gap: distance(gap, rate)) for rate in rates(insert, fps))


def shares(model: Model, options: Options, insert: Sequence[int], fps: float) -> tuple[float, ...]:
    """What frames of each level inherit: as much as is asked for, or as the model's table says.

    Between two of the table's gaps it is the share of the longer one, and beyond the longest that
    one's. Further arguments are those of `untrained_levels`.
    """
    if options.inherit != "auto":
        return (options.inherit,) * len(insert)
    table = sorted(model.config.inherit) or [(1, Options.inherit)]
    found = []
    for rate in rates(insert, fps):
        gap = _base(model) / rate
        longer = [share for known, share in table if known > 0.99 * gap]
        found.append(longer[0] if longer else table[-1][1])
    return tuple(found)


def unknown_shares(model: Model, options: Options, insert: Sequence[int]) -> list[str]:
    """A note where what may be inherited is asked of a model that does not know."""
    if options.inherit != "auto" or not insert or model.config.inherit:
        return []
    return [
        f"{model.name!r} has no table of what its frames may inherit: they inherit "
        f"{Options.inherit:g} of the ids that do not change"
    ]


def unused_window(model: Model, options: Options) -> list[str]:
    """A note where several ids at a time are asked of a model that decides a change at a time."""
    if options.window <= 1 or not model.config.network.places:
        return []
    return [
        f"{model.name!r} decides one change at a time: window {options.window} counts for a first "
        "frame alone"
    ]


def untrained_levels(model: Model, insert: Sequence[int], fps: float) -> list[str]:
    """A note where frames are put into gaps that the model was not trained on.

    Args:
        model: knows the lengths of gaps that it was trained on, in frames of its own rate.
        insert: frames put into every gap of each level.
        fps: of the frames before anything is put between.
    """
    untrained, known = [], set()
    for level, (n, rate) in enumerate(zip(insert, rates(insert, fps))):
        trained = [_base(model) / gap for gap, m in model.config.insertions if m == n]
        if not any(math.isclose(rate, one, rel_tol=0.01) for one in trained):
            untrained.append((n, f"level {level + 1} between frames at {rate:.4g} fps"))
            known |= {*trained}
    if not untrained:
        return []
    numbers = " or ".join(str(n) for n in sorted({n for n, _ in untrained}))
    return [
        f"interpolation puts {numbers} frames into gaps that {model.name!r} was not trained on "
        f"({', '.join(where for _, where in untrained)}; trained: "
        f"{' or '.join(f'{rate:.4g}' for rate in sorted(known))} fps); it will guess"
    ]


def _base(model: Model) -> float:
    """Frames a second that gaps are told in: the model's own rate."""
    return model.config.key_frame_fps * model.config.key_frame_stride


def _policy(options: Options, temperature: float) -> Policy:
    return Sampling(temperature, options.top_k, options.top_p)


def _begins(model: Model, insert: Sequence[int], first, given, notes: list[str]):
    """First frames and given frames, of which one is None; `notes` gets what is to be said."""
    if given is None:
        return first, None
    if first is not None:
        raise ValueError("give first_frames or given_frames, not both")
    count, stride = given.shape[-4], model.config.key_frame_stride
    if not uses_all(model, count):
        key = given[..., ::stride, :, :, :]
        notes += uses_some(model, count, key.shape[-4])
        return key, None
    if insert and insert[0] != stride - 1:
        raise ValueError(
            f"after {count} given frames insert must be {stride - 1}, as many as lie between two "
            f"key frames, or 0; got {insert[0]}"
        )
    return None, given


def _of_requests(model: Model, name: str, frames, prompts: int, rows: list[int]):
    """One set for all prompts, or one for each that can be used."""
    if frames is None:
        return None
    if frames.ndim == 5 and len(frames) != prompts:
        raise ValueError(f"need one set of {name} per prompt: got {len(frames)}, {prompts}")
    _check_size(model, frames.shape[-3:-1])
    return frames[rows] if frames.ndim == 5 else frames[None]


def _check_size(model: Model, size: tuple[int, ...]) -> None:
    if tuple(size) != model.frame_size:
        raise ValueError(f"frames must be {model.frame_size} px (Y, X), got {tuple(size)}")


def _seeds(seed: int | Sequence[int], count: int) -> list[int]:
    seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise ValueError(f"need one seed per prompt: got {len(seeds)} for {count} prompts")
    if not 0 <= min(seeds) <= max(seeds) <= MOST_SEED:
        raise ValueError(f"seeds must be in 0..{MOST_SEED}, got {min(seeds)}..{max(seeds)}")
    return seeds
