"""How videos are compared, as data: a number means little without all of this beside it.

A preset says what a data set's numbers are of (how many clips, how long, what is given), a
profile how a tool computes them:

    repo     the video papers' common tool (JunyaoHu/common_metrics_on_video_quality), which
             FlashVideo names: one fake for each real clip, SSIM over the three color channels,
             LPIPS with AlexNet
    magvit   MAGVIT's own tool (arXiv:2212.05199, appendix B.3): SSIM of luma, LPIPS with VGG16,
             several fakes of a clip of which the best counts, TensorFlow's old bilinear resize

Numbers of different profiles do not compare. In both the frames that the model was given count in
FVD, where they are the real ones in the fake clip, too, and not in the other scores.
"""

import dataclasses
from typing import Annotated, Any, Literal

import tyro

from fv_jax.config.model import at_least, require
from fv_jax.config.registry import choices, require_known
from fv_jax.evaluation.metrics import METRICS

Profile = Literal["repo", "magvit"]
PROFILES: tuple[Profile, ...] = ("repo", "magvit")


def _setting(default: Any, text: str, flag: str = "") -> Any:
    """A field of `Protocol` and its flag of `fv evaluate`, called as the field or `flag`."""
    return dataclasses.field(default=default, metadata={"help": text, "flag": flag})


@dataclasses.dataclass(frozen=True)
class Protocol:
    """All that a result depends on beside the clips and the weights.

    Attributes:
        name: of the preset.
        profile: of the tool.
    """

    name: str = "plain"
    profile: Profile = "repo"
    metrics: tuple[str, ...] = _setting(
        ("psnr", "ssim", "lpips", "fvd"),
        f"Some of {', '.join(METRICS)} (shapes_fvd is no FVD: of the `shapes` data only).",
    )
    real_count: int = _setting(
        0,
        "Real clips that are compared, at most; 0 for all. Fewer clips have fewer fakes.",
        "count",
    )
    windows: int = _setting(
        1, "Pieces of each real clip, evenly spaced in time, that FVD's real set is made of; fakes "
        "begin as the first one does.",
    )  # fmt: skip
    crops: int = _setting(1, "Square parts of each piece, from one side to the other, likewise.")
    fake_count: int = _setting(
        0, "Fakes, spread evenly over the real clips; 0 for one of each. All count in FVD."
    )
    given_frames: int = _setting(
        0, "First frames of the real clip that the model gets; 0 for none. --given-in-fvd and "
        "--given-in-frames say where they count.",
    )  # fmt: skip
    given_in_fvd: bool = _setting(True, "Whether given frames count in FVD.")
    given_in_frames: bool = _setting(False, "Whether they count in PSNR, SSIM and LPIPS.")
    frames: int = _setting(0, "Frames of a clip; 0 for as many as the clips have, all alike.")
    size: int = _setting(
        0, "Side of the square frames that are compared, px; 0 for as they are, all alike."
    )
    best_of: int = _setting(1, "Fakes of each real clip of which the best counts, but in FVD.")
    repeats: int = _setting(
        1, "How often it is done with other seeds; mean and deviation are reported."
    )
    ssim_colour: Literal["channels", "luma"] = _setting(
        "channels", "What SSIM looks at: the mean of the three channels, or luma of BT.601."
    )
    lpips_net: Literal["alexnet", "vgg16"] = _setting("alexnet", "Whose weights LPIPS must have.")
    i3d_resize: Literal["half_pixel", "legacy_bilinear"] = _setting(
        "half_pixel", "How FVD's network gets its 224 px: the short side scaled without antialias "
        "and the middle cut out, or both sides scaled, pixels at their upper left corners.",
    )  # fmt: skip
    i3d_epsilon: float = _setting(
        1e-3, "Beside the variance in its batch norms: 1e-3 as trained, 1e-5 as in many papers."
    )

    def __post_init__(self) -> None:
        at_least(
            self, given_frames=0, frames=0, size=0, real_count=0, fake_count=0, windows=1, crops=1,
            best_of=1, repeats=1, i3d_epsilon=0,
        )  # fmt: skip
        require(bool(self.metrics), f"metrics must be some of {', '.join(METRICS)}, got none")
        for name in self.metrics:
            require_known("metrics", name, METRICS)
        require_known("profile", self.profile, PROFILES)
        require(
            not self.frames or self.given_frames < self.frames,
            f"given_frames must be below frames={self.frames}, got {self.given_frames}",
        )

    def trials(self, clips: int) -> list[int]:
        """How many fakes each of so many real clips has.

        Raises:
            ValueError: fewer than the best is taken of.
        """
        count = self.fake_count or clips
        trials = [count // clips + (i < count % clips) for i in range(clips)]
        require(
            trials[-1] >= self.best_of,
            f"best_of={self.best_of} needs {self.best_of * clips} fakes of {clips} clips, got "
            f"{count}",
        )
        return trials

    @property
    def first_scored(self) -> int:
        """The first frame that counts in scores of frames."""
        return 0 if self.given_in_frames else self.given_frames


_FLAGS = {f.metadata["flag"] or f.name: f for f in dataclasses.fields(Protocol) if f.metadata}


def _optional(field: dataclasses.Field) -> Any:
    hint: Any = Literal["yes", "no"] if field.type is bool else field.type
    return Annotated[hint | None, tyro.conf.arg(help=field.metadata["help"])]


# Settings that replace the protocol's own, one flag each; None leaves a setting as it is.
Changes = dataclasses.make_dataclass(
    "Changes", [(flag, _optional(field), None) for flag, field in _FLAGS.items()], frozen=True
)
Changes.__doc__ = "Settings instead of the protocol's own."


def changed(changes: Any) -> dict[str, Any]:
    """The fields of `Protocol` that `Changes` sets."""
    values = {field: getattr(changes, flag) for flag, field in _FLAGS.items()}
    return {
        field.name: value == "yes" if field.type is bool else value
        for field, value in values.items()
        if value is not None
    }


PRESETS: dict[str, Protocol] = {
    # Clips as they are, one fake for each real one.
    "plain": Protocol(),
    # The model that comes with the package, on clips that it never saw.
    "shapes": Protocol(
        "shapes", given_frames=1, frames=17, size=64, real_count=256,
        metrics=("psnr", "ssim", "lpips", "fvd", "shapes_fvd"),
    ),
    # The paper's own (section 4.2): the class's text and the initial frame. It says neither how
    # many clips it compares nor of how many frames; its averages are of three trials.
    "flashvideo": Protocol("flashvideo", given_frames=1, frames=16, size=160, repeats=3),
    # Its variant of Fig. 5: the class and the first five frames, all of which are used.
    "flashvideo_five": Protocol("flashvideo_five", given_frames=5, frames=16, size=160, repeats=3),
    # 256 test clips; all 100 fakes of each count in FVD, against the first window of each.
    "bair": Protocol(
        "bair", given_frames=1, frames=16, size=64, real_count=256, fake_count=25_600,
        best_of=100, repeats=4,
    ),
    # The same against all 15 windows of each, so that the real set is no smaller than it is.
    "bair_debiased": Protocol(
        "bair_debiased", given_frames=1, frames=16, size=64, real_count=256, windows=15,
        fake_count=25_600, best_of=100, repeats=4,
    ),
    # 50,000 fakes of the validation clips; two windows and three crops of each are the real set.
    "kinetics600": Protocol(
        "kinetics600", given_frames=5, frames=16, size=64, real_count=50_000, fake_count=50_000,
        windows=2, crops=3, repeats=4,
    ),
    # 10,000 fakes; the real set is the training split.
    "ucf101": Protocol(
        "ucf101", frames=16, size=128, real_count=9_537, fake_count=10_000, repeats=4
    ),
}  # fmt: skip

_PROFILES: dict[str, dict[str, Any]] = {
    "repo": {
        "fake_count": 0, "best_of": 1, "ssim_colour": "channels", "lpips_net": "alexnet",
        "i3d_resize": "half_pixel",
    },
    "magvit": {"ssim_colour": "luma", "lpips_net": "vgg16", "i3d_resize": "legacy_bilinear"},
}  # fmt: skip


def protocol(name: str, profile: str = "repo", **changes: Any) -> Protocol:
    """A preset as a profile's tool would compute it, with changes.

    Raises:
        ValueError: no such preset or profile, or a value that cannot be.
    """
    require(name in PRESETS, f"no protocol {name!r}; {choices(name, PRESETS)}")
    require(profile in _PROFILES, f"no profile {profile!r}; {choices(profile, _PROFILES)}")
    preset = dataclasses.replace(PRESETS[name], profile=profile, **_PROFILES[profile])
    count = changes.get("real_count")
    if count and preset.fake_count and "fake_count" not in changes:
        changes["fake_count"] = round(preset.fake_count * count / preset.real_count)  # as many each
    return dataclasses.replace(preset, **changes)


def preset_of(experiment: str) -> str:
    """The preset that an experiment of this name is measured with: `bair_tiny` as `bair`."""
    names = sorted((n for n in PRESETS if n != "plain"), key=len, reverse=True)
    return next((n for n in names if experiment == n or experiment.startswith(f"{n}_")), "plain")
