"""Every setting, as frozen dataclasses that check themselves when built.

They are hashable (static under `jax.jit`), nest, and turn to and from plain JSON, which is what
model folders and checkpoints store. Derived numbers are properties, never second knobs.
"""

import dataclasses
import math
import types
import typing
from typing import Any, Literal

from fv_jax.config.registry import require_known

PerLevel = int | tuple[int, ...]
Share = float | Literal["auto"]
DTYPES = ("float32", "bfloat16")
ANGLES = ("geometric", "even")
NEARBY_FRAMES, NEARBY_TAPS = 2, 9  # ids that stand nearby: 3 x 3 in each of two frames


def require(ok: bool, message: str) -> None:
    """Raise `ValueError(message)` unless `ok`."""
    if not ok:
        raise ValueError(message)


def require_countable(name: str, value: Any) -> None:
    """Raise `ValueError` unless a value that is a number, or a tuple of them, is finite and of a
    size that machines count with.
    """
    for number in value if isinstance(value, tuple) else (value,):
        finite = not isinstance(number, float) or math.isfinite(number)
        require(finite, f"{name} must be finite, got {value}")
        small = not isinstance(number, int | float) or abs(number) < 2**32
        require(small, f"{name} must be below {2**32}, got {value}")


def at_least(config: Any, **bounds: float) -> None:
    """Raise `ValueError` unless each named field is at least its bound, and every number finite
    and of a size that machines count with.
    """
    kind = type(config).__name__
    for field in dataclasses.fields(config):
        require_countable(f"{kind}.{field.name}", getattr(config, field.name))
    for name, low in bounds.items():
        value = getattr(config, name)
        require(value >= low, f"{kind}.{name} must be >= {low}, got {value}")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of the frame tokenizer (`tokenizers/fsq.py`)."""

    levels: tuple[int, ...] = (5, 5, 5, 5, 4)
    """FSQ levels per channel; their product is the number of ids."""
    patch: int = 8
    """Side of the square that one id stands for, px."""
    halo: int = 0
    """How many px around its patch the encoder sees."""
    width: int = 192
    """Channels of encoder and decoder."""
    encoder_depth: int = 3
    """Residual MLPs of the encoder."""
    decoder_depth: int = 2
    """Residual blocks of the decoder, each with one 3x3 convolution."""
    hysteresis: float = 0.15
    """How far beyond half a step a channel may drift before a clip's id changes."""

    def __post_init__(self) -> None:
        at_least(self, patch=1, width=1, encoder_depth=1, decoder_depth=1, halo=0, hysteresis=0)
        require(
            bool(self.levels) and min(self.levels) >= 3,
            f"TokenizerConfig.levels must be integers >= 3, got {self.levels}",
        )
        require(
            self.halo < self.patch,
            f"TokenizerConfig.halo must be below patch={self.patch}, got {self.halo}",
        )


@dataclasses.dataclass(frozen=True)
class RetNetConfig:
    """Sizes of the RetNet (pre-norm, no biases, RMSNorm, GLU)."""

    width: int = 160
    """D, channels of the residual stream."""
    layers: int = 4
    """Number of blocks."""
    heads: int = 5
    """H; width and value_width must be divisible by it, key width K = D / H even."""
    value_width: int = 320
    """Channels of all heads' values together (H * E)."""
    hidden: int = 216
    """Channels inside the GLU."""
    memory_tokens: tuple[float, float] | None = (8.0, 1024.0)
    """Half-lives of the shortest and the longest head, in tokens; the heads between are spaced
    geometrically. None gives RetNet's gamma_h = 1 - 2^(-5-h)."""
    angles: str = "geometric"
    """How the rotation angles of a head are spaced, "geometric" as RetNet has them (from 1 down to
    1e-4 rad per token) or "even" between 0 and pi; with these a head can tell one distance from
    those next to it, which images need (`ops/rope.py`)."""
    chunk: int = 77
    """Tokens per chunk of the chunkwise form."""
    slots: int = 0
    """Length of a block if its slots have learned embeddings, added to those of the ids; 0 for
    none. They tell the network where in a frame it is."""
    code_levels: tuple[int, ...] = ()
    """FSQ levels of the frame codes, if ids are also read and scored level by level: codes that
    look alike then share what is learned of them. () for none."""
    nearby: int = 0
    """Channels of each id around the predicted place in the two frames nearest in time, which the
    network is told (`models/nearby.py`; beyond the paper); 0 where it must find them."""
    places: int = 0
    """Ids of a frame, if frames after the first are coded as what changed (`sequence/changes.py`)
    and the network says where the next change is, too (`models/places.py`; beyond the paper);
    needs `nearby`. 0 where every id is coded."""
    shared_start: bool = True
    """Start all embedding rows with one common random vector, so that a distance alone can be found
    (`models/retnet.py`); trained weights are not told by it."""
    matmul_dtype: str = "float32"
    """Dtype of matmul inputs. Parameters, accumulation, decays, norms and the retention state stay
    float32 (float64 when the inputs are)."""

    def __post_init__(self) -> None:
        at_least(
            self, width=1, layers=1, heads=1, value_width=1, hidden=1, chunk=1, slots=0,
            nearby=0, places=0,
        )  # fmt: skip
        require(not self.places or self.nearby > 0, "RetNetConfig.places needs nearby above 0")
        for name in ("width", "value_width"):
            value = getattr(self, name)
            require(
                value % self.heads == 0,
                f"RetNetConfig.{name} must be divisible by heads={self.heads}, got {value}",
            )
        require_known("RetNetConfig.angles", self.angles, ANGLES)
        least = 6 if self.angles == "even" else 4
        require(
            self.key_dim % 2 == 0 and self.key_dim >= least,
            f"RetNetConfig.width / heads must be even and >= {least} (rotated in pairs), "
            f"got {self.width} / {self.heads} = {self.key_dim}",
        )
        if self.memory_tokens is not None:
            low, high = self.memory_tokens
            require(
                0 < low <= high,
                f"RetNetConfig.memory_tokens must be (min, max) with 0 < min <= max, "
                f"got {self.memory_tokens}",
            )
        require_known("RetNetConfig.matmul_dtype", self.matmul_dtype, DTYPES)

    @property
    def key_dim(self) -> int:
        """K: channels of one head's keys."""
        return self.width // self.heads

    @property
    def value_dim(self) -> int:
        """E: channels of one head's values."""
        return self.value_width // self.heads


@dataclasses.dataclass(frozen=True)
class SequenceConfig:
    """What a packed sequence is made of (`vocab.py`, `sequence.py`)."""

    text_tokens: int = 12
    """Text slots before every frame; shorter prompts are padded."""
    frame_grid: tuple[int, int] = (8, 8)
    """(h, w) ids of a frame."""
    text_vocabulary: int = 32
    """Number of text ids."""
    frame_codes: int = 2500
    """Number of frame ids (the tokenizer's codebook)."""
    serial_numbers: int = 16
    """How many serial-number tokens exist (SN_1 .. SN_n)."""
    gaps: tuple[int, ...] = ()
    """Numbers of frames from one known frame to the next that a block names, by a token before its
    serial number; () for blocks that name none."""

    def __post_init__(self) -> None:
        at_least(self, text_tokens=1, text_vocabulary=1, frame_codes=2, serial_numbers=1)
        require(
            list(self.gaps) == sorted({*self.gaps}) and min(self.gaps, default=1) >= 1,
            f"SequenceConfig.gaps must be rising numbers of frames from 1 on, got {self.gaps}",
        )
        require(
            min(self.frame_grid) >= 1,
            f"SequenceConfig.frame_grid must be positive, got {self.frame_grid}",
        )

    @property
    def frame_tokens(self) -> int:
        """P: ids per frame."""
        return self.frame_grid[0] * self.frame_grid[1]

    @property
    def header(self) -> int:
        """Tokens of a block before its frame: text, gap if blocks name it, serial number."""
        return self.text_tokens + bool(self.gaps) + 1

    @property
    def stride(self) -> int:
        """Tokens of one block: header and frame. The same for every block."""
        return self.header + self.frame_tokens


@dataclasses.dataclass(frozen=True)
class TokenSettings:
    """How clips become ids (`data/tokenize.py`)."""

    fps: float = 8.0
    """Frames per second that are read of every clip."""
    size: int = 160
    """Side of the square frames, px: the short side is scaled to it, the middle cut out."""
    piece_seconds: float = 60.0
    """Longer clips are cut into pieces of this length."""
    shard_clips: int = 256
    """Clips of one file."""
    strict: bool = False
    """Stop at a clip that cannot be used, instead of leaving it out."""
    force: bool = False
    """Go on although the tokenizer is dead: nearly all pictures have the same few ids."""
    threads: int = 0
    """Threads that decode; 0 for as many as there are cores."""

    def __post_init__(self) -> None:
        at_least(self, size=1, shard_clips=1, threads=0)
        require(0 < self.fps <= 1000, f"fps must be > 0 and <= 1000, got {self.fps}")
        require(self.size <= 8192, f"size must be <= 8192, got {self.size}")
        require(self.piece_seconds > 0, f"piece_seconds must be > 0, got {self.piece_seconds}")


@dataclasses.dataclass(frozen=True)
class Options:
    """How videos are sampled."""

    key_frames: int = 0
    """Key frames of the video; 0 means as many as the model was trained with."""
    insert: PerLevel = -1
    """Frames put between neighbors, one number for each level (1,1 fills gaps of 4 frames, then of
    2); -1 means the model's own numbers, 0 none."""
    levels: int = 1
    """How often to do all of that."""
    inherit: Share = 0.2
    """Share of the ids that no key frame changes which inserted frames copy, 0 to 1; "auto" is what
    the model's own table says for the length of each gap."""
    skip: bool = True
    """Leave out of what the network reads what inserted frames inherit, where it was trained to do
    without: it then costs nothing. Otherwise it is fed."""
    temperature: float = 1.0
    """Randomness of key frames' ids; 0 always takes the likeliest."""
    insert_temperature: float = 0.0
    """The same for inserted frames, which the frames around them nearly determine."""
    top_k: int = 0
    """Sample among the k likeliest ids; 0 means all."""
    top_p: float = 1.0
    """Sample among the likeliest ids whose probabilities reach p; 1 means all."""
    guidance: float = 1.5
    """How much key frames follow the text: 1 as trained; else each id is scored twice."""
    window: int = 0
    """Ids decoded at a time at most, 0 for what is fastest here; in float32 the ids are the same,
    in bfloat16 (of some models) their distribution. Where frames are coded as what changed, one
    change is decided at a time."""
    drafts: bool = True
    """Guess ids from neighboring frames and check several at once; as with --window, no id changes
    in float32."""
    float32: bool = False
    """Compute in float32 where the model was made for bfloat16: slower, but then the seed alone
    decides the video, whatever the window, the guesses and the batch."""

    def __post_init__(self) -> None:
        at_least(
            self, key_frames=0, levels=0, temperature=0, insert_temperature=0, top_k=0,
            guidance=0, window=0,
        )  # fmt: skip
        require(self.levels <= 8, f"levels must be <= 8, got {self.levels}")
        least = -1 if isinstance(self.insert, int) else 1
        require(
            bool(self.per_level) and min(self.per_level) >= least,
            f"insert must be -1, 0, or frames of each level from 1 on, got {self.insert}",
        )
        levels = len(self.per_level) * self.levels
        require(levels <= 8, f"insert and levels must make at most 8 levels, got {levels}")
        require(
            self.inherit == "auto" or 0 <= self.inherit <= 1,
            f'inherit must be a share in [0, 1] or "auto", got {self.inherit}',
        )
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")

    @property
    def per_level(self) -> tuple[int, ...]:
        """`insert` of each level."""
        return (self.insert,) if isinstance(self.insert, int) else self.insert


PRESETS: dict[str, RetNetConfig] = {
    "tiny": RetNetConfig(width=32, layers=2, heads=2, value_width=64, hidden=48, chunk=16),
    "shapes": RetNetConfig(angles="even"),
    # 302 M parameters without embeddings, 20x20 ids a frame, 16 frames. hidden is 4/3 of the
    # width, rounded up to what eight devices can share.
    "paper": RetNetConfig(
        width=1024, layers=24, heads=16, value_width=2048, hidden=1368,
        memory_tokens=(16.0, 8192.0), chunk=256, matmul_dtype="bfloat16",
    ),
}  # fmt: skip


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values (tuples become lists)."""
    return dataclasses.asdict(config)


def from_json(kind: type, values: dict[str, Any]) -> Any:
    """The dataclass `kind` from `to_json`'s values.

    Raises:
        ValueError: a field that `kind` does not have, or a missing one without a default.
    """
    hints = typing.get_type_hints(kind)
    for name in values:
        require_known(f"fields of {kind.__name__}", name, hints)
    try:
        return kind(**{name: _value(hints[name], value) for name, value in values.items()})
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_json(typing.cast(type, hint), value)
    if isinstance(value, list):
        return tuple(_value(None, item) for item in value)
    if isinstance(hint, types.UnionType) and value is None:
        return None
    return value
