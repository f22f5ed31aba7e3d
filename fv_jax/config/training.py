"""Settings of trainings: what `fv train` takes, and what experiments/*.py give it.

Like those of `config.py` they are frozen, check themselves, and turn to and from JSON.
"""

import dataclasses

from fv_jax.config.model import RetNetConfig, TokenizerConfig, at_least, require


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam with warm-up, cosine decay, clipping, decoupled weight decay and weight averaging."""

    learning_rate: float = 3e-3
    final_learning_rate: float = 3e-5
    warmup_steps: int = 200
    clip_norm: float = 1.0
    weight_decay: float = 1e-4
    beta2: float = 0.98
    ema_decay: float = 0.998

    def __post_init__(self) -> None:
        at_least(self, learning_rate=0, warmup_steps=0, weight_decay=0)
        require(self.clip_norm > 0, f"OptimizerConfig.clip_norm must be > 0, got {self.clip_norm}")
        require(
            0 <= self.ema_decay < 1,
            f"OptimizerConfig.ema_decay must be in [0, 1), got {self.ema_decay}",
        )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How a training is spread over devices (`training/mesh.py`). One size may be -1: what is left.

    Attributes:
        data: copies of the weights, each with rows of its own.
        fsdp: parts that every weight, its average and its optimizer state are cut into; each part
            has rows of its own, too.
        tensor: parts of the heads, the GLU's channels and the vocabulary.
        sequence: parts of every row's tokens.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1

    def __post_init__(self) -> None:
        sizes = dataclasses.asdict(self)
        good = all(size == -1 or size >= 1 for size in sizes.values())
        require(
            good and list(sizes.values()).count(-1) <= 1,
            f"MeshConfig sizes must be >= 1, one of them may be -1, got {sizes}",
        )


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How long to train, and how often to look.

    Attributes:
        steps: optimizer steps in all; the learning rate's schedule ends there.
        batch_size: rows of one step, on all devices together.
        accumulate: parts that a batch is cut into, one after the other; the step is the same
            and needs the memory of one part.
        mesh: how it is spread over devices.
        seed: of the initialisation and of the order of the data.
        folder: where checkpoints, logs and samples go ("" means out/EXPERIMENT).
        log_every / sample_every / checkpoint_every: in steps.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        keep_every: beside them those whose step is a multiple of this stay; 0 for none.
        max_skipped: how many steps may be left out because their loss or gradient is not finite
            before the run stops.
    """

    steps: int = 1000
    batch_size: int = 16
    accumulate: int = 1
    mesh: MeshConfig = MeshConfig()
    seed: int = 0
    folder: str = ""
    log_every: int = 20
    sample_every: int = 500
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    keep_every: int = 0
    max_skipped: int = 20

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
    """A run of `fv train` that makes a frame tokenizer.

    Attributes:
        data: a source of clips (`fv data inspect --help` lists the kinds).
        valid: another one for evaluation; "" holds clips of `data` out.
        valid_share: share of the clips that is held out.
        size: side of the square frames that videos are scaled to, px; `shapes` keeps its own.
        pairs: consecutive frames that are read once from videos, to train on.
        augment: turn pairs of videos, swap their colours, change brightness and contrast at every
            draw: a few clips then teach more than how they look themselves.
        strict: stop at a clip that cannot be read, instead of leaving it out.
        start: file or folder of the tokenizer whose weights the training starts from; "" for
            random ones.
        crop: side of the training crops, in patches. Crops are taken where two frames differ.
        changed_weight / plain_weight: loss weights of patches that differ between the two
            frames and of those that do not. Plain background fills most of a frame, and a loss
            that ignores this collapses onto it.
        gradient_weight: of the absolute error of differences between neighbouring pixels.
        noise: standard deviation of the noise on the encoder's input, in levels of 255; drawn
            from 0 to this, so that ids are stable under camera noise.
        noise_consistency: weight of how far noise moves the latents, in steps squared.
        still_consistency: weight of how far latents move from one frame to the next where no
            pixel of the patch changes by more than two levels.
        adversarial_weight: of the discriminator's opinion; begin without (`start`).
        lpips_weight: of the LPIPS distance, with the user's own weights:
        lpips_trunk / lpips_heads: files of them (`metrics/lpips.py`).
        evaluation_clips: unseen clips for the sample grid and the numbers beside it.
    """

    name: str
    data: str = "shapes"
    valid: str = ""
    valid_share: float = 0.1
    size: int = 64
    pairs: int = 4000
    augment: bool = False
    strict: bool = False
    start: str = ""
    tokenizer: TokenizerConfig = TokenizerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    crop: int = 5
    changed_weight: float = 8.0
    plain_weight: float = 0.3
    gradient_weight: float = 0.0
    noise: float = 2.0
    noise_consistency: float = 0.0
    still_consistency: float = 0.0
    adversarial_weight: float = 0.0
    lpips_weight: float = 0.0
    lpips_trunk: str = ""
    lpips_heads: str = ""
    evaluation_clips: int = 32

    def __post_init__(self) -> None:
        at_least(
            self, size=1, pairs=1, crop=1, changed_weight=0, plain_weight=0, gradient_weight=0,
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

    Its clips are rendered as they are needed, and its sizes are fixed
    (`shapes/features.py`).

    Attributes:
        valid_clips: unseen clips for evaluation.
    """

    name: str
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    valid_clips: int = 256

    def __post_init__(self) -> None:
        at_least(self, valid_clips=1)


REMAT = ("none", "block", "cheap")


@dataclasses.dataclass(frozen=True)
class ExpectedData:
    """Sizes of a data set and its ids, known without reading them.

    Attributes:
        clips: of one epoch.
        frame_grid: (h, w) ids of a frame.
        frame_codes: of the tokenizer's codebook.
        text_vocabulary: text ids.
        code_levels: FSQ levels of the codes, if they have any.
    """

    clips: int
    frame_grid: tuple[int, int]
    frame_codes: int
    text_vocabulary: int
    code_levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        at_least(self, clips=1, frame_codes=2, text_vocabulary=1)


@dataclasses.dataclass(frozen=True)
class NetworkExperiment:
    """A run of `fv train` that makes a text-to-video network.

    Attributes:
        data: a folder that `fv tokenize` wrote, or a source of clips (`fv data inspect --help`
            lists the kinds), which is tokenized first.
        valid: the same for evaluation; "" holds clips of `data` out.
        valid_share: share of the clips that is held out.
        tokenizer: for a source: a trained tokenizer's file, or the name of a shipped model.
        fps / size: for a source: frames per second, and side of the square frames, px.
        live: tokenize a source while training, a new window of the video at every draw.
        mirror: with `live`, show half of the draws mirrored left to right.
        strict: stop at a clip that cannot be used, instead of leaving it out.
        workers: processes that make the batches; 0 for threads. Not with `live`.
        text: sentencepiece file; "" makes one of the words of the training texts.
        start: model folder (or shipped model) whose weights the training starts from; "" for
            random ones. Its network and sequence must be the same.
        slot_embeddings: give every slot of a block a learned embedding (`RetNetConfig.slots`).
        level_embeddings: read and score ids by their FSQ levels, too (`RetNetConfig.code_levels`).
        key_frame_share: share of rows that are the key-frame task; the rest interpolate.
        key_frames: M, key frames of a clip; 1 for images.
        key_frame_stride: frames from one key frame to the next.
        insertions: (gap, inserted) pairs that the interpolation task draws from: `gap` frames
            lie from A to B, of which `inserted` are put between.
        text_tokens: text slots of a block; 0 for as many as the longest text of the data needs.
        text_drop: share of rows that are trained without their text (for guidance).
        remat: what the backward pass computes again instead of keeping it: "none", "block" (all
            of a layer but its input) or "cheap" (all but the results of matmuls).
        loss_chunk: codes that are scored at a time; logits of all of them never exist at once.
        expected: sizes of the data, for `--estimate` where the data is not at hand.
    """

    name: str
    data: str = "shapes,split=train,count=10000"
    valid: str = ""
    valid_share: float = 0.1
    tokenizer: str = "shapes"
    fps: float = 8.0
    size: int = 64
    live: bool = False
    mirror: bool = False
    strict: bool = False
    workers: int = 0
    text: str = ""
    start: str = ""
    model: RetNetConfig = RetNetConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    slot_embeddings: bool = True
    level_embeddings: bool = True
    text_tokens: int = 12
    serial_numbers: int = 16
    key_frame_share: float = 0.5
    key_frames: int = 5
    key_frame_stride: int = 4
    insertions: tuple[tuple[int, int], ...] = ((4, 3),)
    text_drop: float = 0.1
    remat: str = "none"
    loss_chunk: int = 4096
    expected: ExpectedData | None = None

    def __post_init__(self) -> None:
        require(
            self.remat in REMAT, f"NetworkExperiment.remat must be one of {REMAT}, got {self.remat}"
        )
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
        for name in ("key_frame_share", "text_drop"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"NetworkExperiment.{name} must be in [0, 1], got {value}")
        for gap, inserted in self.insertions:
            require(
                inserted >= 1 and gap % (inserted + 1) == 0,
                f"NetworkExperiment.insertions needs (gap, inserted) with gap divisible by "
                f"inserted + 1, got {(gap, inserted)}",
            )
        longest = max([self.key_frames] + [n + 2 for _, n in self.insertions])
        require(
            self.serial_numbers >= longest,
            f"NetworkExperiment.serial_numbers must be >= {longest}, got {self.serial_numbers}",
        )

    @property
    def clip_frames(self) -> int:
        """Frames that a clip must have for either task."""
        gaps = [gap for gap, _ in self.insertions]
        return 1 + max([(self.key_frames - 1) * self.key_frame_stride, *gaps])
