"""Every command of `fv` as a dataclass: its flags, what they mean, what they are by default."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fv_jax.config.model import Options, TokenSettings, at_least, require
from fv_jax.evaluation.protocols import Changes

_MOST_SCALE = 64  # times larger than a model's frames
# Flags without the prefix of their field; the name is that of their box in --help.
_OPTIONS = Annotated[Options, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="sampling")]
_TOKENS = Annotated[TokenSettings, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="reading")]


@dataclasses.dataclass(frozen=True)
class Generate:
    """Make videos from sentences.

    One prompt: the suffix of --out decides the format (.mp4, .gif, .png for a montage, .npz for
    all arrays). Several prompts: --out is a folder, --format the format.

    Example: fv generate "a small red circle moves left over stripes" --out red.mp4
    """

    prompt: tyro.conf.Positional[tuple[str, ...]] = ()
    """The sentences."""
    out: Path = Path("out/video.mp4")
    """A file for one prompt, a folder for several or for --prompts."""
    prompts: Path | None = None
    """A text file with one prompt per line, instead of prompts on the command line."""
    format: Literal["npz", "mp4", "gif", "png"] = "npz"
    """Format of the files in a folder."""
    model: str = "shapes"
    """A shipped model's name, a model folder (here, gs:// or s3://), or hf:OWNER/NAME[@REVISION] of
    a hub."""
    seed: int = 0
    """Prompt i is sampled with seed + i."""
    batch_size: int = 8
    """Prompts sampled at a time; in float32 it does not change any video."""
    first_frames: Path | None = None
    """A video, GIF or folder of pictures (25 a second) whose first frames, at the model's key-frame
    rate, begin the new one."""
    first_frame_count: int = 1
    """How many key frames to take from --first-frames."""
    given_frames: int = 0
    """Frames in a row, at the model's own rate, to take from --first-frames instead of key frames.
    A model that was trained with so many uses all of them, any other the key frames among them."""
    scale: int = 1
    """Enlarge mp4 and gif frames by this whole number."""
    stream: int = 0
    """Write so many frames of an endless stream, as they come: --out FILE.mp4, or - for raw frames
    on standard output, which players and encoders read."""
    resume: Path | None = None
    """A stream goes on from this file, if it is there, and is kept in it afterwards."""
    options: _OPTIONS = Options()

    def __post_init__(self) -> None:
        at_least(self, seed=0, batch_size=1, first_frame_count=1, scale=1, stream=0)
        require(self.scale <= _MOST_SCALE, f"scale must be <= {_MOST_SCALE}, got {self.scale}")


@dataclasses.dataclass(frozen=True)
class Interpolate:
    """Put frames between the frames of a video.

    Example: fv interpolate slow.gif --out smooth.mp4
    """

    video: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEO")]
    """A video, GIF or folder of pictures; its frames are scaled and cropped to the model's size."""
    out: Path = Path("out/interpolated.mp4")
    """Where to write; .mp4, .gif, .png (montage) or .npz."""
    prompt: str = ""
    """What the video shows; may be left out."""
    model: str = "shapes"
    """A shipped model's name, a model folder (here, gs:// or s3://), or hf:OWNER/NAME[@REVISION] of
    a hub."""
    seed: int = 0
    """Decides the sampled ids and which places are inherited."""
    scale: int = 1
    """Enlarge mp4 and gif frames by this whole number."""
    options: _OPTIONS = Options()

    def __post_init__(self) -> None:
        at_least(self, seed=0, scale=1)
        require(self.scale <= _MOST_SCALE, f"scale must be <= {_MOST_SCALE}, got {self.scale}")


@dataclasses.dataclass(frozen=True)
class Studio:
    """Open a page that shows how videos come about: key frames, what is inherited, streams.

    It is for this machine alone, unless --host and --token are given; docs/studio.md has the HTTP
    interface.

    Example: fv studio --port 8000
    """

    model: str = "shapes"
    """A shipped model's name, a model folder (here, gs:// or s3://), or hf:OWNER/NAME[@REVISION] of
    a hub."""
    port: int = 8000
    """Where it listens; 0 for any that is free."""
    host: str = "127.0.0.1"
    """The address; another one than this machine's own needs a --token."""
    token: str = ""
    """A secret that everybody who asks must send: http://HOST:PORT/?token=TOKEN opens the page."""

    def __post_init__(self) -> None:
        require(0 <= self.port < 2**16, f"port must be in 0..65535, got {self.port}")


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Look through a source of clips: how many, how long, what is wrong; and a contact sheet.

    A source is a folder, or KIND:PLACE,option=value,..:

    - `clips` a folder of videos, GIFs and folders of pictures (25 a second)
    - their texts: captions.jsonl or .csv there, a .txt beside each clip (docs/data.md has more),
      or else the names of the folders they lie in
    - `folder:clips,match=train/*,picture_fps=10` the same with options
    - `gs://BUCKET/clips`, `s3://..` wherever a folder is named: it is fetched first
    - `ucf101:DIR,split=train,list=1` UCF-101 as unpacked
    - `kinetics600:DIR,split=val` its CSV and clip files
    - `bair:DIR,split=test,camera=image_main` TFRecords of BAIR, or as TFDS prepared them
    - `tfds:NAME,split=train,data_dir=DIR` any set of videos of TensorFlow Datasets
    - `shapes,split=train,count=1000` the procedural set
    - `arcade:games=breakout+pong,split=train,count=1000` Atari games (pip install fv-jax[arcade])

    Example: fv data inspect clips --decode --strict
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """A folder, or KIND:PLACE,option=value."""
    sheet: Path = Path("out/inspect/contact_sheet.png")
    """Where the contact sheet goes; inspect.json with all numbers and problems goes beside it."""
    probe: int = 1000
    """How many clips to open, evenly spaced; 0 for all."""
    decode: bool = False
    """Decode every frame of the clips opened, instead of the first, middle and last."""
    strict: bool = False
    """End with code 2 if there is any problem."""

    def __post_init__(self) -> None:
        at_least(self, probe=0)


@dataclasses.dataclass(frozen=True)
class Data:
    """Look at sources of clips before training on them: `fv data inspect SOURCE`."""


@dataclasses.dataclass(frozen=True)
class Tokenize:
    """Turn every clip of a source into ids, once, for training; a run started again continues.

    `fv data inspect --help` lists the kinds of sources.

    Example: fv tokenize clips --tokenizer out/tokenizer_160/model --out out/tokens/clips
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """A folder of videos, or KIND:PLACE,option=value."""
    out: Annotated[str, tyro.conf.arg(metavar="PATH")]
    """The folder for the tokens; may be gs://BUCKET/PATH or s3://BUCKET/PATH."""
    tokenizer: str = "shapes"
    """A trained tokenizer's file or folder, a shipped model's name, or icetk:PATH."""
    settings: _TOKENS = TokenSettings()


_OWN = tyro.conf.Positional[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Train:
    """Train an experiment of experiments/ (or a .py file); a run started again continues.

    Every setting can be overridden: `fv train shapes_images --run.steps 100 --model.layers 2`.

    Example: fv train ucf101 --stage key_frames --preset tiny --estimate
    """

    experiment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPERIMENT")]
    """A name such as `shapes` or `shapes_tokenizer`, or a path to a .py with `get_config()`."""
    settings: Annotated[_OWN, tyro.conf.arg(metavar="...")] = ()
    """Flags, which `fv train EXPERIMENT --help` lists: variants, an estimate, all settings."""


@dataclasses.dataclass(frozen=True)
class EvaluateSampling:
    """Only for an experiment, whose clips are made here."""

    model: str = ""
    """An experiment's model folder, instead of the one that `fv train` wrote."""
    stage: str | None = None
    """Stage of an experiment that has some; by default the last."""
    preset: str | None = None
    """Preset of an experiment that has some."""
    faithful: tyro.conf.FlagCreatePairsOff[bool] = False
    """The experiment's `--faithful` training, where it has one."""
    source: str = ""
    """Real clips of an experiment, instead of those it keeps for evaluation."""
    seed: int = 0
    """Part of the seed of every video."""
    batch_size: int = 8
    """Videos sampled at a time; in float32 it does not change any."""
    options: _OPTIONS = Options()

    def __post_init__(self) -> None:
        at_least(self, seed=0, batch_size=1)


@dataclasses.dataclass(frozen=True)
class EvaluateWeights:
    """Files of weights, which do not come with the package."""

    i3d_weights: Path | None = None
    """FVD's network; or the environment variable FV_I3D_WEIGHTS."""
    lpips_trunk: Path | None = None
    """LPIPS's network; or FV_LPIPS_TRUNK."""
    lpips_heads: Path | None = None
    """Its heads; or FV_LPIPS_HEADS."""


@dataclasses.dataclass(frozen=True)
class EvaluatePlaces:
    """Where results and what was computed before lie."""

    name: str = ""
    """Name of the result; by default the experiment's, or the folder's. A result of another command
    is not replaced."""
    out: Path = Path("out/evaluate")
    """Results go to results/ there; `experiments` records them in the tree."""
    cache: Path = Path("out/evaluate")
    """For videos made, and numbers that need not be computed again."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score videos: two sets of clips, or what an experiment's model makes of unseen clips.

    - `fv evaluate REAL FAKE` compares folders of clips (or .npz): PSNR, SSIM, LPIPS, FVD
    - `fv evaluate EXPERIMENT` first makes a video for every clip kept for evaluation, from its
      text and first frames; a run started again continues

    FVD and LPIPS need weights that do not come with the package; without them they are null, and
    the result says why.

    Example: fv evaluate shapes --count 16
    """

    what: tyro.conf.Positional[tuple[str, ...]] = ()
    """REAL FAKE, or EXPERIMENT."""
    protocol: str = ""
    """plain, shapes, bair, bair_debiased, kinetics600 or ucf101; by default the experiment's."""
    profile: Literal["repo", "magvit"] = "repo"
    """Whose tool the numbers are computed as (fv_jax/evaluation/protocols.py)."""
    changes: tyro.conf.OmitArgPrefixes[Changes] = Changes()
    weights: tyro.conf.OmitArgPrefixes[EvaluateWeights] = EvaluateWeights()
    allow_unverified_weights: bool = False
    """Take other weights than the published ones; the numbers then compare with nobody's."""
    sampling: Annotated[
        EvaluateSampling, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="videos")
    ] = EvaluateSampling()
    places: tyro.conf.OmitArgPrefixes[EvaluatePlaces] = EvaluatePlaces()


@dataclasses.dataclass(frozen=True)
class Report:
    """Put results beside the paper's tables: in a Markdown file, and as a page.

    Example: fv report && xdg-open out/report/index.html
    """

    results: tuple[Path, ...] = ()
    """Folders of results of `fv evaluate` and `fv bench`, instead of those that come with the
    project; the page shows out/evaluate's, too, as fresh."""
    readme: Path | None = None
    """A Markdown file, whose sections of the paper are replaced; what else it says stays. In a
    clone experiments/results/paper.md, elsewhere its copy in --page."""
    page: Path = Path("out/report")
    """Folder of the page, which holds all it shows."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure something, print it, and write it to out/bench.

    Example: fv bench shapes-adherence --prompts 20
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """A file experiments/benches/NAME.py, for example `shapes-adherence`."""
    settings: Annotated[_OWN, tyro.conf.arg(metavar="...")] = ()
    """Flags, which `fv bench NAME --help` lists."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a model as a folder for a model hub: weights, config, a card with a picture.

    Example: fv export out/own_videos/model --out out/shared --license cc-by-4.0
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name, a model folder, or hf:OWNER/NAME."""
    out: Path
    """The folder to make."""
    stablehlo: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write the sampler, too, as StableHLO for CPU, CUDA and TPU, which runs without this package
    (examples/run_exported.py)."""
    prompt: str = ""
    """The sentence whose video is the card's picture; by default one that the model knows."""
    license: str = ""
    """The model's license, as the hub names it; by default unknown, or apache-2.0 of shipped ones.
    """


@dataclasses.dataclass(frozen=True)
class Push:
    """Put a folder of `fv export` onto a model hub, under an account whose token is known there.

    The token is `hf auth login`'s, or the environment variable HF_TOKEN.

    Example: fv push out/shared hf:me/my-model --private
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """What `fv export` wrote."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="hf:OWNER/NAME")]
    """Where it goes; made if it is not there."""
    private: tyro.conf.FlagCreatePairsOff[bool] = False
    """Seen by its owner alone."""


@dataclasses.dataclass(frozen=True)
class List:
    """Say what there is: trainings, benches, models and kinds of sources, each with its cost.

    Example: fv list models
    """

    what: tyro.conf.Positional[
        tuple[Literal["experiments", "benches", "models", "sources"], ...]
    ] = ()
    """Which of them; by default all."""


@dataclasses.dataclass(frozen=True)
class ConvertWeights:
    """Turn weights of the metrics' networks into a .safetensors that `fv evaluate` reads quickly.

    I3D for FVD (i3d_pretrained_400.pt, or TensorFlow's model.ckpt.data-00000-of-00001), and for
    LPIPS the trunks alexnet-owt-7be5be79.pth and vgg16-397923af.pth and the heads alex.pth and
    vgg.pth. Neither torch nor TensorFlow is needed; pickles of anything but tensors are refused.
    The file is compared with the published one, and the result says so. docs/evaluation.md says
    where each is from.

    Example: fv convert-weights i3d_pretrained_400.pt i3d.safetensors
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """The file to convert: .pt, .pth, .npz, .safetensors, or TensorFlow's data file."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """The .safetensors to write."""
    smoke: bool = True
    """Compute a value with the published I3D and compare it with another tool's: some seconds."""
