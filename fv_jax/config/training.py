"""Settings of trainings: what `fv train` takes, and what experiments/*.py give it.

Like those of `config.py` they are frozen, check themselves, and turn to and from JSON.
"""

import dataclasses

from fv_jax.config.model import RetNetConfig, TokenizerConfig, at_least, require
from fv_jax.config.registry import require_known


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam with warm-up, cosine decay, clipping, decoupled weight decay and weight averaging."""

    learning_rate: float = 3e-3
    """Adam's step size after the warm-up."""
    final_learning_rate: float = 3e-5
    """Adam's step size at the last step, where the cosine ends."""
    warmup_steps: int = 200
    """Steps in which the learning rate rises from 0."""
    clip_norm: float = 1.0
    """Gradients of a larger norm are scaled down to it."""
    weight_decay: float = 1e-4
    """Share of a weight, times the learning rate, that a step takes away."""
    beta2: float = 0.98
    """Adam's memory of squared gradients, per step."""
    ema_decay: float = 0.998
    """Memory of the average of the weights, per step; the average is what is exported."""

    def __post_init__(self) -> None:
        at_least(self, learning_rate=0, final_learning_rate=0, warmup_steps=0, weight_decay=0)
        require(self.clip_norm > 0, f"OptimizerConfig.clip_norm must be > 0, got {self.clip_norm}")
        for name in ("beta2", "ema_decay"):
            value = getattr(self, name)
            require(0 <= value < 1, f"OptimizerConfig.{name} must be in [0, 1), got {value}")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How a training is spread over devices (`training/mesh.py`).

    One size may be -1: what is left.
    """

    data: int = -1
    """Copies of the weights, each with rows of its own."""
    fsdp: int = 1
    """Parts that every weight, its average and its optimizer state are cut into; each part has rows
    of its own, too."""
    tensor: int = 1
    """Parts of the heads, the GLU's channels and the vocabulary."""
    sequence: int = 1
    """Parts of every row's tokens."""

    def __post_init__(self) -> None:
        sizes = dataclasses.asdict(self)
        good = all(size == -1 or size >= 1 for size in sizes.values())
        require(
            good and list(sizes.values()).count(-1) <= 1,
            f"MeshConfig sizes must be >= 1, one of them may be -1, got {sizes}",
        )


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How long to train, and how often to look."""

    steps: int = 1000
    """Optimizer steps in all; the learning rate's schedule ends there."""
    batch_size: int = 16
    """Rows of one step, on all devices together."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after the other; the step is the same and needs the
    memory of one part."""
    mesh: MeshConfig = MeshConfig()
    seed: int = 0
    """Seed of the first weights and of the order of the data."""
    folder: str = ""
    """Where checkpoints, logs and samples go ("" means out/EXPERIMENT); gs:// and s3://, too."""
    log_every: int = 20
    """Steps from one line of the log to the next."""
    sample_every: int = 500
    """Steps from one picture of samples to the next."""
    checkpoint_every: int = 200
    """Steps from one checkpoint to the next."""
    keep_checkpoints: int = 2
    """Newest checkpoints that stay on disk."""
    keep_every: int = 0
    """Checkpoints whose step is a multiple of this stay, too; 0 for none."""
    max_skipped: int = 20
    """Steps that may be left out, since their loss or gradient is not finite, before the run
    stops."""

    def __post_init__(self) -> None:
        at_least(
            self, steps=1, batch_size=1, accumulate=1, log_every=1, sample_every=1,
            checkpoint_every=1, keep_checkpoints=1, keep_every=0, max_skipped=0,
        )  # fmt: skip
        require(
            self.batch_size % self.accumulate == 0,
            f"RunConfig.batch_size must be divisible by accumulate={self.accumulate}, "
            f"got {self.batch_size}",
        )


@dataclasses.dataclass(frozen=True)
class TokenizerExperiment:
    """A run of `fv train` that makes a frame tokenizer."""

    name: str
    """Name of the run, and of its folder in out/."""
    data: str = "shapes"
    """A source of clips (`fv data inspect --help` lists the kinds)."""
    valid: str = ""
    """A source for evaluation; "" holds clips of `data` out."""
    valid_share: float = 0.1
    """Share of the clips that is held out."""
    size: int = 64
    """Side of the square frames that videos are scaled to, px; `shapes` keeps its own."""
    pairs: int = 4000
    """Consecutive frames that are read once from videos, to train on."""
    augment: bool = True
    """If there are fewer than 1,000 clips, turn half of the pairs drawn of them, swap their colors,
    change brightness and contrast: a few clips then teach more than how they look themselves."""
    strict: bool = False
    """Stop at a clip that cannot be read, instead of leaving it out."""
    start: str = ""
    """File or folder of the tokenizer whose weights the training starts from; "" for a codec of the
    data's principal components."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    crop: int = 5
    """Side of the training crops, in patches. Crops are taken where two frames differ."""
    changed_weight: float = 8.0
    """Loss weight of patches that differ between the two frames. Plain background fills most of a
    frame, and a loss that ignores this collapses onto it."""
    plain_weight: float = 0.3
    """Loss weight of patches that do not differ."""
    range_weight: float = 0.1
    """Weight of how far latents go beyond the range in which FSQ's bound has a gradient, squared: a
    channel that goes there as a whole would never come back, and its levels would be lost."""
    gradient_weight: float = 0.0
    """Loss weight of the absolute error of differences between neighboring pixels."""
    noise: float = 2.0
    """Standard deviation of the noise on the encoder's input, in levels of 255; drawn from 0 to
    this, so that ids are stable under camera noise."""
    noise_consistency: float = 0.0
    """Loss weight of how far noise moves the latents, in steps squared."""
    still_consistency: float = 0.0
    """Loss weight of how far latents move from one frame to the next where no pixel of the patch
    changes by more than two levels."""
    adversarial_weight: float = 0.0
    """Loss weight of the discriminator's opinion; begin without (`start`)."""
    lpips_weight: float = 0.0
    """Loss weight of the LPIPS distance, which needs the next two files."""
    lpips_trunk: str = ""
    """LPIPS's network, a file of the user's (`metrics/lpips.py`)."""
    lpips_heads: str = ""
    """LPIPS's heads, a file of the user's."""
    evaluation_clips: int = 32
    """Unseen clips for the sample grid and the numbers beside it."""

    def __post_init__(self) -> None:
        at_least(
            self, size=1, pairs=1, crop=1, changed_weight=0, plain_weight=0, range_weight=0,
            gradient_weight=0,
            noise=0, noise_consistency=0, still_consistency=0, adversarial_weight=0,
            lpips_weight=0, evaluation_clips=1,
        )  # fmt: skip
        require(
            self.size % self.tokenizer.patch == 0 and self.size >= self.crop * self.tokenizer.patch,
            f"TokenizerExperiment.size must be a multiple of patch={self.tokenizer.patch} and hold "
            f"{self.crop} of them, got {self.size}",
        )
        require(
            self.data != "shapes" or (self.size == 64 and not self.valid),
            "TokenizerExperiment.data=shapes has 64 px and its own clips for evaluation; got "
            f"size={self.size}, valid={self.valid!r}",
        )
        require(
            not self.lpips_weight or bool(self.lpips_trunk and self.lpips_heads),
            "TokenizerExperiment.lpips_weight needs lpips_trunk and lpips_heads, files of weights",
        )


@dataclasses.dataclass(frozen=True)
class FeaturesExperiment:
    """A run of `fv train` that makes the feature network of `shapes-FVD`.

    Its clips are rendered as they are needed, and its sizes are fixed (`shapes/features.py`).
    """

    name: str
    """Name of the run, and of its folder in out/."""
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    valid_clips: int = 256
    """Unseen clips for evaluation."""

    def __post_init__(self) -> None:
        at_least(self, valid_clips=1)


@dataclasses.dataclass(frozen=True)
class CodebookExperiment:
    """A run of `fv train` that makes a frame tokenizer that is a table of patches
    (`tokenizers/codebook.py`).
    """

    name: str
    """Name of the run, and of its folder in out/."""
    data: str = "clips"
    """A source of clips (`fv data inspect --help` lists the kinds)."""
    valid: str = ""
    """A source for evaluation; "" holds clips of `data` out."""
    valid_share: float = 0.1
    """Share of the clips that is held out."""
    wide: str = ""
    """Another source, for patches that `data` does not show; "" for none."""
    wide_share: float = 0.4
    """How much the patches of `wide` count, of all."""
    size: int = 160
    """Side of the square frames that videos are scaled to, px."""
    patch: int = 8
    """Side of the square that one id stands for, px."""
    codes: int = 6144
    """Ids, each the name of one patch."""
    frames: int = 9
    """Frames of a clip that are looked at, evenly spread."""
    different: int = 100_000
    """Different patches that are clustered at most: those that are seen most often."""
    rounds: int = 6
    """Rounds of k-means."""
    strict: bool = False
    """Stop at a clip that cannot be read, instead of leaving it out."""
    folder: str = ""
    """Where the table and what was read for it go ("" means out/EXPERIMENT)."""

    def __post_init__(self) -> None:
        at_least(self, size=1, patch=1, codes=2, frames=1, different=2, rounds=0)
        require(
            self.size % self.patch == 0,
            f"CodebookExperiment.size must be a multiple of patch={self.patch}, got {self.size}",
        )
        require(
            0 < self.wide_share < 1,
            f"CodebookExperiment.wide_share must be in (0, 1), got {self.wide_share}",
        )
        require(
            self.codes <= 2**16,
            f"CodebookExperiment.codes must be <= {2**16}, got {self.codes}",
        )


REMAT = ("none", "block", "cheap")


@dataclasses.dataclass(frozen=True)
class ExpectedData:
    """Sizes of a data set and its ids, known without reading them."""

    clips: int
    """Clips of one epoch."""
    frame_grid: tuple[int, int]
    """(h, w) ids of a frame."""
    frame_codes: int
    """Codes of the tokenizer's codebook."""
    text_vocabulary: int
    """Number of text ids."""
    code_levels: tuple[int, ...] = ()
    """FSQ levels of the codes, if they have any."""

    def __post_init__(self) -> None:
        at_least(self, clips=1, frame_codes=2, text_vocabulary=1)


@dataclasses.dataclass(frozen=True)
class NetworkExperiment:
    """A run of `fv train` that makes a text-to-video network."""

    name: str
    """Name of the run, and of its folder in out/."""
    data: str = "shapes,split=train,count=10000"
    """A folder that `fv tokenize` wrote, or a source of clips (`fv data inspect --help` lists the
    kinds), which is tokenized first."""
    valid: str = ""
    """Tokens or a source for evaluation; "" holds clips of `data` out."""
    valid_share: float = 0.1
    """Share of the clips that is held out."""
    tokenizer: str = "shapes"
    """For a source: a trained tokenizer's file, or the name of a shipped model."""
    fps: float = 8.0
    """For a source: frames per second that are read."""
    size: int = 64
    """For a source: side of the square frames, px."""
    live: bool = False
    """Tokenize a source while training, a new window of the video at every draw."""
    mirror: bool = False
    """With `live`, show half of the draws mirrored left to right."""
    strict: bool = False
    """Stop at a clip that cannot be used, instead of leaving it out."""
    workers: int = 0
    """Processes that make the batches; 0 for threads. Not with `live`."""
    text: str = ""
    """A sentencepiece file; "" makes one of the words of the training texts."""
    start: str = ""
    """Model folder (or shipped model) whose weights the training starts from; "" for random ones.
    Its network and sequence must be the same, but that blocks may name gaps in a slot that its
    texts left free, and that the network may read ids nearby and code changes."""
    model: RetNetConfig = RetNetConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    slot_embeddings: bool = True
    """Give every slot of a block a learned embedding (`RetNetConfig.slots`)."""
    level_embeddings: bool = True
    """Read and score ids by their FSQ levels, too (`RetNetConfig.code_levels`)."""
    text_tokens: int = 12
    """Text slots of a block; 0 for as many as the longest text of the data needs."""
    serial_numbers: int = 16
    """Serial numbers that the network knows: 1 to this."""
    key_frame_share: float = 0.5
    """Share of rows that are the key-frame task; the rest interpolate."""
    key_frames: int = 5
    """Key frames of a clip; 1 for images."""
    key_frame_stride: int = 4
    """Frames from one key frame to the next."""
    insertions: tuple[tuple[int, int], ...] = ((4, 3),)
    """(gap, inserted) pairs that the interpolation task draws from: `gap` frames lie from A to B,
    of which `inserted` are put between."""
    gaps: tuple[int, ...] = ()
    """Gaps that blocks name by a token of their own, so that a network trained on several knows
    which it fills: those of all `insertions`, and `key_frame_stride`; () for none."""
    skip: tuple[float, ...] = ()
    """Shares of the inserted frames' ids that a row has room for: every batch is of one task, and
    if that is interpolation, of one of these lengths, drawn evenly. Stable ids (paper section 3.3)
    are left out, a random share of them that is at least as large as the room asks for, and the
    network learns to do without. What changes should have room. () for one that is fed all."""
    skip_given: bool = False
    """With `skip`, leave stable ids out of the second of the frames around, too."""
    changes: bool = False
    """Code every frame after the first as what changed (`sequence/changes.py`; beyond the paper):
    rows are shorter, and the network says where the next change is. Worth it where frames have
    hundreds of ids of which few change; with 64 ids it is not better (docs/findings.md). Needs
    `model.nearby` and `skip`, whose shares are then the room for changes, in rows of both tasks:
    clips in which about as much changes are put together, and each batch has the least room that
    they need. What has none is cut off at the end of a row, so 1.0 should be among the shares."""
    given_frames: int = 0
    """Frames in a row, from one key frame to the next, that some rows of the key-frame task begin
    with; 0 for none. A model trained so can be given that many frames of a clip."""
    given_share: float = 0.25
    """Share of the rows of the key-frame task that do so, if there are given frames."""
    text_drop: float = 0.1
    """Share of rows that are trained without their text (for guidance)."""
    interpolation_text_drop: float | None = None
    """The same of rows that interpolate, which then learn to do without a prompt; None for
    `text_drop`."""
    remat: str = "none"
    """What the backward pass computes again instead of keeping it: "none", "block" (all of a layer
    but its input) or "cheap" (all but the results of matmuls)."""
    loss_chunk: int = 4096
    """Codes that are scored at a time; logits of all of them never exist at once."""
    expected: ExpectedData | None = None

    def __post_init__(self) -> None:
        require_known("NetworkExperiment.remat", self.remat, REMAT)
        at_least(self, loss_chunk=1)
        at_least(
            self, text_tokens=0, serial_numbers=1, key_frames=1, key_frame_stride=1, size=1,
            workers=0,
        )  # fmt: skip
        require(self.fps > 0, f"NetworkExperiment.fps must be > 0, got {self.fps}")
        require(
            self.live or not self.mirror, "NetworkExperiment.mirror needs live: cached ids stay"
        )
        require(
            not (self.live and self.workers), "NetworkExperiment.live works in threads: workers 0"
        )
        for name in ("key_frame_share", "given_share", "text_drop", "interpolation_text_drop"):
            value = getattr(self, name)
            require(
                value is None or 0 <= value <= 1,
                f"NetworkExperiment.{name} must be in [0, 1], got {value}",
            )
        require(
            all(0 < share <= 1 for share in self.skip),
            f"NetworkExperiment.skip must be shares of a row's ids in (0, 1], got {self.skip}",
        )
        require(bool(self.skip) or not self.skip_given, "NetworkExperiment.skip_given needs skip")
        require(
            not self.skip or self.changes or bool(self.insertions),
            "NetworkExperiment.skip needs insertions",
        )
        require(
            not self.changes or (bool(self.skip) and self.model.nearby > 0),
            "NetworkExperiment.changes needs skip, a row's room for changes (such as 0.2 1.0), and "
            f"model.nearby (such as 16), got {self.skip} and {self.model.nearby}",
        )
        require(
            not self.changes or self.key_frames > 1,
            "NetworkExperiment.changes needs key_frames above 1: one frame has nothing before it",
        )
        require(
            not (self.changes and self.skip_given),
            "NetworkExperiment.skip_given has no meaning with changes: leave it off",
        )
        wanted = {self.key_frame_stride, *(gap for gap, _ in self.insertions)}
        require(
            not self.gaps or wanted <= {*self.gaps},
            f"NetworkExperiment.gaps must have {sorted(wanted)} among them, got {self.gaps}",
        )
        for gap, inserted in self.insertions:
            require(
                inserted >= 1 and gap % (inserted + 1) == 0,
                f"NetworkExperiment.insertions needs (gap, inserted) with gap divisible by "
                f"inserted + 1, got {(gap, inserted)}",
            )
        require(
            self.given_frames in (0, self.key_frame_stride + 1) and self.given_frames != 2,
            f"NetworkExperiment.given_frames must be 0 or key_frame_stride + 1, which is "
            f"{self.key_frame_stride + 1}, and above 2, got {self.given_frames}",
        )
        require(
            not self.given_frames or self.key_frames >= 3,
            f"NetworkExperiment.given_frames needs key_frames >= 3, got {self.key_frames}",
        )
        longest = max([self.key_frames, self.given_frames] + [n + 2 for _, n in self.insertions])
        require(
            self.serial_numbers >= longest,
            f"NetworkExperiment.serial_numbers must be >= {longest}, got {self.serial_numbers}",
        )

    @property
    def clip_frames(self) -> int:
        """Frames that a clip must have for either task."""
        gaps = [gap for gap, _ in self.insertions]
        return 1 + max([(self.key_frames - 1) * self.key_frame_stride, *gaps])
