"""What a request's JSON says: checked, and with everything that is not said filled in."""

import dataclasses
import json
from typing import Any

from fv_jax.config.model import Options, from_json
from fv_jax.config.registry import require_known
from fv_jax.generation.plan import MOST_SEED, frames_a_gap, inserted, key_frames
from fv_jax.generation.pretrained import Model

MOST_BYTES = 64 * 1024  # of JSON
MOST_LETTERS = 1000  # of a sentence
MOST_SEEDS = 8
MOST_FRAMES = 2048  # of all videos of a request together


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request for videos or a stream.

    Attributes:
        seeds: one a video; all have one prompt.
        first_frames: an upload's id, whose frames they begin with; "" for none.
        interpolate: an upload's id, between whose frames others are put; "" for none.
    """

    prompt: str = ""
    seeds: tuple[int, ...] = (0,)
    options: Options = Options()
    first_frames: str = ""
    interpolate: str = ""


def read_asked(body: bytes, model: Model) -> Asked:
    """A request from its JSON.

    Raises:
        ValueError: what is wrong, and what was expected.
    """
    values = _json(body)
    known = [field.name for field in dataclasses.fields(Asked)]
    _refuse_unknown(values, known, "the request")
    for name in ("prompt", "first_frames", "interpolate"):
        _check_text(name, values.get(name, ""))
    seeds = values.get("seeds", [0])
    whole = isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
    if not whole or not 1 <= len(seeds) <= MOST_SEEDS:
        raise ValueError(f"seeds must be 1 to {MOST_SEEDS} whole numbers, got {str(seeds)[:80]}")
    options = _options(values.get("options", {}))
    asked = Asked(**{**values, "seeds": tuple(seeds), "options": options})
    if asked.first_frames and asked.interpolate:
        raise ValueError("give first_frames or interpolate, not both")
    if not asked.interpolate:
        check_length(key_frames(model, options), len(seeds), model, options)
    return asked


def read_fork(body: bytes) -> tuple[str | None, int | None]:
    """Prompt and seed of a fork, None where they stay.

    Raises:
        ValueError: what is wrong, and what was expected.
    """
    values = _json(body or b"{}")
    _refuse_unknown(values, ["prompt", "seed"], "a fork")
    prompt, seed = values.get("prompt"), values.get("seed")
    if prompt is not None:
        _check_text("prompt", prompt)
    if seed is not None and (type(seed) is not int or not 0 <= seed <= MOST_SEED):
        raise ValueError(f"seed must be in 0..{MOST_SEED}, got {str(seed)[:40]}")
    return prompt, seed


def check_length(keys: int, videos: int, model: Model, options: Options) -> None:
    """Refuse requests that would take very long.

    Raises:
        ValueError: too many frames in all.
    """
    frames = ((keys - 1) * frames_a_gap(inserted(model, options)) + 1) * videos
    if frames > MOST_FRAMES:
        raise ValueError(
            f"that would be {frames} frames, and at most {MOST_FRAMES} are made at a time; ask for "
            "fewer seeds, levels or key frames"
        )


def _json(body: bytes) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise ValueError(f"numbers must be finite, got {word}")

    try:
        values = json.loads(body, parse_constant=refuse)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the body must be JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"the body must be a JSON object, got {str(values)[:40]}")
    return values


def _options(values: Any) -> Options:
    if not isinstance(values, dict):
        raise ValueError(f"options must be an object, got {str(values)[:40]}")
    plain = Options()
    _refuse_unknown(values, [field.name for field in dataclasses.fields(Options)], "options")
    for name, value in values.items():
        usual, number = getattr(plain, name), type(value) in (int, float)
        if name == "insert":
            parts = value if isinstance(value, list) else [value]
            right, want = all(type(n) is int for n in parts), "a whole number or a list of them"
        elif name == "inherit":
            right, want = number or value == "auto", 'a number or "auto"'
        elif isinstance(usual, float):
            right, want = number, "a number"
        else:
            right, want = type(value) is type(usual), f"of type {type(usual).__name__}"
        if not right:
            raise ValueError(f"options.{name} must be {want}, got {str(value)[:40]!r}")
    try:
        return from_json(Options, values)
    except ValueError as error:
        raise ValueError(str(error).replace("Options.", "options.")) from error


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a text, got {str(text)[:40]!r}")
    if len(text) > MOST_LETTERS:
        raise ValueError(f"{name} must have at most {MOST_LETTERS} letters, got {len(text)}")


def _refuse_unknown(values: dict[str, Any], known: list[str], what: str) -> None:
    for name in values:
        require_known(what, name, known)
