"""What the paper's three trainings share; `ucf101.py`, `kinetics600.py` and `bair.py` say the rest.

Three stages, each from the result of the one before:

    tokenizer      frames to ids: 160x160 px to 20x20 of 20,000
    key_frames     the network learns key frames from texts
    interpolation  it goes on, seven rows in ten now fill in frames between two

The paper states: 160x160 px, icetk as tokenizer (20x20 ids of 20,000), Adam, eight A100 with 80 GB,
1000, 500 and 800 epochs, texts made of the class, no pretraining. Ours where it states nothing:

- the network's size (`PRESETS["paper"]`), learning rate, batch and length of a clip. Key frames are
  four frames apart, so that three are put into each gap;
- given frames. The paper gives the initial frame, and five in Fig. 5. A quarter of the key-frame
  rows begin with five frames in a row, of which two are key frames and three lie between; they
  take the place of the row's last three key frames (`sequence/packing.py`);
- one network for both tasks. Each of its stages gets all the epochs, with 3 rows in 10 of the
  second kept for key frames, or it would forget them;
- the tokenizer, of icetk's sizes and trained on the same clips. Whoever has icetk's weights leaves
  its stage out and says `--tokenizer icetk:PATH` to `fv tokenize`.

`--faithful` leaves out what we changed in the network (`faithful.py`); its two network stages have
names of their own that end in `_faithful`, and the tokenizer is the same.

The preset `tiny` is the same way in small, over any clips laid out as the data set: frames of 64 px
to 8x8 ids of 1,000, clips of 9 frames, networks of 0.9 M parameters. It takes two minutes on two
cores, and learns nearly nothing:

    fv train bair --preset tiny --stage tokenizer --data bair:DIR
    fv tokenize bair:DIR --tokenizer out/bair_tiny_tokenizer/model --size 64 --fps 10 \\
        --out out/tokens/bair_tiny
    fv train bair --preset tiny --stage key_frames
    fv train bair --preset tiny --stage interpolation
    fv generate "a robot arm pushes objects" --model out/bair_tiny_interpolation/model \\
        --first-frames CLIP --out out/bair_tiny.mp4
"""

import dataclasses
import math
from typing import Literal

from experiments import own_tokenizer, own_videos, tokenizer_160
from experiments.faithful import faithful as as_the_paper
from fv_jax.config.model import PRESETS, TokenizerConfig
from fv_jax.config.training import (
    ExpectedData,
    MeshConfig,
    NetworkExperiment,
    OptimizerConfig,
    RunConfig,
    TokenizerExperiment,
)

Stage = Literal["tokenizer", "key_frames", "interpolation"]
Preset = Literal["paper", "tiny"]

GPUS = 8
BATCH = 64


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What differs between the data sets.

    Attributes:
        name: of the experiment.
        source: of the clips to train on.
        clips: that it has.
        epochs: of the paper.
        fps: frames per second, the clips' own.
        key_frames: of a row.
        text_vocabulary: words of all texts, and one for unknown words.
    """

    name: str
    source: str
    clips: int
    epochs: int
    fps: float
    key_frames: int
    text_vocabulary: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the paper's epochs."""
        return round(self.epochs * self.clips / BATCH)


def settings(
    data: DataSet, stage: Stage, preset: Preset, faithful: bool = False
) -> TokenizerExperiment | NetworkExperiment:
    """Settings of one stage of one data set's training."""
    name = data.name if preset == "paper" else f"{data.name}_{preset}"
    if stage == "tokenizer":
        tokenizer = _paper_tokenizer() if preset == "paper" else _tiny_tokenizer()
        return dataclasses.replace(tokenizer, name=f"{name}_tokenizer", data=data.source)
    network = _paper_network(data) if preset == "paper" else _tiny_network()
    network = dataclasses.replace(
        network,
        name=f"{name}_{stage}",
        data=f"out/tokens/{name}",
        tokenizer=f"out/{name}_tokenizer/model",
        fps=data.fps,
        text_tokens=15,  # with serial number and ids 416 tokens, 16 of them 26 chunks of 256
        key_frame_stride=4,
        given_frames=5,
        insertions=((4, 3),),
    )
    if faithful:
        network = as_the_paper(network)
    if stage == "key_frames":
        return dataclasses.replace(network, key_frame_share=1.0)
    first = network.name.replace(stage, "key_frames")
    return dataclasses.replace(network, key_frame_share=0.3, start=f"out/{first}/model")


def _paper_tokenizer() -> TokenizerExperiment:
    """icetk's sizes: 160 px, patches of 8 px, 20,000 codes."""
    return dataclasses.replace(
        tokenizer_160.get_config(),
        valid_share=0.01,
        pairs=40_000,  # 6 GB on disk
        run=RunConfig(steps=50_000, batch_size=64, sample_every=5000, checkpoint_every=1000),
    )


def _paper_network(data: DataSet) -> NetworkExperiment:
    levels = tokenizer_160.get_config().tokenizer.levels
    return NetworkExperiment(
        name=data.name,
        valid=f"out/tokens/{data.name}_valid",
        size=160,
        model=PRESETS["paper"],
        # Adam as the paper says, so without weight decay.
        optimizer=OptimizerConfig(
            learning_rate=3e-4, final_learning_rate=3e-5, warmup_steps=2000, weight_decay=0.0,
            ema_decay=0.9999,
        ),
        # Two rows at a time on each GPU; all that matmuls make is then kept for the backward pass.
        run=RunConfig(
            steps=data.steps, batch_size=BATCH, accumulate=BATCH // (2 * GPUS),
            mesh=MeshConfig(data=-1), log_every=100, sample_every=10_000, checkpoint_every=2000,
        ),
        key_frames=data.key_frames,
        remat="cheap",
        expected=ExpectedData(
            clips=data.clips, frame_grid=(20, 20), frame_codes=math.prod(levels),
            text_vocabulary=data.text_vocabulary, code_levels=levels,
        ),
    )  # fmt: skip


def _tiny_tokenizer() -> TokenizerExperiment:
    return dataclasses.replace(
        own_tokenizer.get_config(),
        size=64,
        crop=5,
        pairs=200,
        evaluation_clips=4,
        tokenizer=TokenizerConfig(levels=(8, 5, 5, 5), width=96, encoder_depth=1, decoder_depth=1),
        run=RunConfig(steps=300, batch_size=12, sample_every=300, checkpoint_every=300),
    )


def _tiny_network() -> NetworkExperiment:
    return dataclasses.replace(
        own_videos.get_config(),
        size=64,
        run=RunConfig(
            steps=100, batch_size=4, log_every=10, sample_every=100, checkpoint_every=100
        ),
    )
