"""How videos are compared, as data: a number means little without all of this beside it.

A preset says what a data set's numbers are of (how many clips, how long, what is given), a
profile how a tool computes them:

    repo     the video papers' common tool (JunyaoHu/common_metrics_on_video_quality), which
             FlashVideo names: one fake for each real clip, SSIM over the three colour channels,
             LPIPS with AlexNet
    magvit   MAGVIT's own tool (arXiv:2212.05199, appendix B.3): SSIM of luma, LPIPS with VGG16,
             several fakes of a clip of which the best counts, TensorFlow's old bilinear resize

Numbers of different profiles do not compare. In both the frames that the model was given count in
FVD, where they are the real ones in the fake clip, too, and not in the other scores.
"""

import dataclasses
from typing import Any, Literal

from fv_jax.config.model import at_least, require

Profile = Literal["repo", "magvit"]
PROFILES: tuple[Profile, ...] = ("repo", "magvit")
FRAME_METRICS, SET_METRICS = ("psnr", "ssim", "lpips"), ("fvd", "shapes_fvd")
METRICS = (*FRAME_METRICS, *SET_METRICS)
LABELS = {
    "psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "fvd": "FVD", "shapes_fvd": "shapes-FVD"
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Protocol:
    """All that a result depends on beside the clips and the weights.

    Attributes:
        name: of the preset.
        profile: of the tool.
        given_frames: first frames of the real clip that the model gets; 0 for none.
        frames: of every clip; 0 for as many as the clips have, all alike.
        size: px of the square frames that are compared; 0 for as they are, all alike.
        real_count: clips that are compared, at most; 0 for all.
        windows: pieces of each real clip, evenly spaced in time, that FVD's real set is made of;
            the first one is what fakes begin with.
        crops: square parts of each piece, from one side to the other, likewise.
        fake_count: fakes, spread evenly over the real clips; 0 for one of each. All count in FVD.
        best_of: fakes of each real clip of which the best counts in the other scores.
        repeats: how often it is done with other seeds; mean and deviation are reported.
        given_in_fvd / given_in_frames: whether given frames count.
        ssim_colour: "channels" (mean of the three) or "luma" (of BT.601).
        lpips_net: whose weights LPIPS must have.
        i3d_resize: how FVD's network gets its 224 px: "half_pixel", the short side scaled without
            antialias and the middle cut out, or "legacy_bilinear", both sides scaled, pixels at
            their upper left corners.
        i3d_epsilon: beside the variance in its batch norms: 1e-3 as the weights were trained,
            1e-5 in the PyTorch port that many papers used.
        metrics: what is computed, of `METRICS`. shapes_fvd is no FVD (`shapes/distance.py`).
    """

    name: str = "plain"
    profile: Profile = "repo"
    given_frames: int = 0
    frames: int = 0
    size: int = 0
    real_count: int = 0
    windows: int = 1
    crops: int = 1
    fake_count: int = 0
    best_of: int = 1
    repeats: int = 1
    given_in_fvd: bool = True
    given_in_frames: bool = False
    ssim_colour: Literal["channels", "luma"] = "channels"
    lpips_net: Literal["alexnet", "vgg16"] = "alexnet"
    i3d_resize: Literal["half_pixel", "legacy_bilinear"] = "half_pixel"
    i3d_epsilon: float = 1e-3
    metrics: tuple[str, ...] = (*FRAME_METRICS, "fvd")

    def __post_init__(self) -> None:
        at_least(
            self, given_frames=0, frames=0, size=0, real_count=0, fake_count=0, windows=1, crops=1,
            best_of=1, repeats=1, i3d_epsilon=0,
        )  # fmt: skip
        unknown = [name for name in self.metrics if name not in METRICS]
        require(
            bool(self.metrics) and not unknown,
            f"metrics must be some of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}",
        )
        require(
            self.profile in PROFILES,
            f"no profile {self.profile!r}; there are: {', '.join(PROFILES)}",
        )
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


PRESETS: dict[str, Protocol] = {
    # Clips as they are, one fake for each real one.
    "plain": Protocol(),
    # The model that comes with the package, on clips that it never saw.
    "shapes": Protocol(
        "shapes", given_frames=1, frames=17, size=64, real_count=256, metrics=METRICS
    ),
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
    require(name in PRESETS, f"no protocol {name!r}; there are: {', '.join(PRESETS)}")
    require(profile in _PROFILES, f"no profile {profile!r}; there are: {', '.join(_PROFILES)}")
    preset = dataclasses.replace(PRESETS[name], profile=profile, **_PROFILES[profile])
    count = changes.get("real_count")
    if count and preset.fake_count and "fake_count" not in changes:
        changes["fake_count"] = round(preset.fake_count * count / preset.real_count)  # as many each
    return dataclasses.replace(preset, **changes)


def preset_of(experiment: str) -> str:
    """The preset that an experiment of this name is measured with: `bair_tiny` as `bair`."""
    names = sorted((n for n in PRESETS if n != "plain"), key=len, reverse=True)
    return next((n for n in names if experiment == n or experiment.startswith(f"{n}_")), "plain")
