"""The `arcade` network: both tasks of the paper (sections 3.1 to 3.3) on 16 Atari games.

command     fv train arcade_tokenizer && fv train arcade
"""

from typing import Literal

from experiments.arcade_tokenizer import GAMES
from fv_jax.config.model import RetNetConfig
from fv_jax.config.training import ExpectedData, NetworkExperiment, OptimizerConfig, RunConfig

_SMALL = RetNetConfig(
    width=192, layers=4, heads=6, value_width=384, hidden=256, angles="even",
    memory_tokens=(8.0, 4096.0), chunk=155,
)  # fmt: skip
_LARGE = RetNetConfig(
    width=512, layers=12, heads=8, value_width=1024, hidden=688, angles="even",
    memory_tokens=(8.0, 8192.0), chunk=256, matmul_dtype="bfloat16",
)  # fmt: skip


def get_config(preset: Literal["cpu", "gpu"] = "cpu") -> NetworkExperiment:
    """The shipped network's settings, or those of a large one for all games."""
    small = preset == "cpu"
    games = f"arcade:games={'+'.join(GAMES)},split=" if small else "arcade:split="
    clips = 2048 if small else 52_000
    return NetworkExperiment(
        name="arcade" if small else "arcade_gpu",
        tokenizer="out/arcade_tokenizer/model",
        data=f"{games}train,count={clips}",
        valid=f"{games}valid,count={64 if small else 416}",
        fps=15.0,
        size=160,
        text_tokens=2 if small else 4,
        model=_SMALL if small else _LARGE,
        optimizer=OptimizerConfig(
            learning_rate=3e-3 if small else 1e-3, final_learning_rate=1e-4, warmup_steps=100,
            ema_decay=0.995,
        ),
        run=RunConfig(
            steps=2400 if small else 40_000, batch_size=2 if small else 32,
            accumulate=1 if small else 4,
            sample_every=600 if small else 2000, checkpoint_every=100 if small else 500,
        ),
        interpolation_text_drop=0.5,
        loss_chunk=6144,
        expected=ExpectedData(
            clips=clips, frame_grid=(20, 20), frame_codes=6144,
            text_vocabulary=21 if small else 148,
        ),
    )  # fmt: skip
