"""The `arcade` network: both tasks of the paper (sections 3.1 to 3.3) on 16 Atari games.

    command     fv train arcade_tokenizer && fv train arcade
    cost        2,400 steps of 2 rows (2,015 tokens each): 64 minutes on two CPU cores that were
                shared with much other work, 1,500 to 4,700 tokens/s. `--preset gpu`, all games:
                about half an hour of an H100 at 40% MFU (estimated, not run)
    size        4.2 M parameters (8.4 MB): width 192, 4 layers, 6 heads, half-lives 8 to 4,096
    seed        0
    expected    right game >= 95%; key frames nearer to the truth than the given one is; inserted
                frames 2 dB above blending
    measured    right game 75% of 16 videos after the 2,400 steps. Went on for 1,230 (seed 1, 2e-3)
                and 230 with stable ids left out (seed 2, 1e-3, `--skip 0.55 0.8`): 0.135 nats and
                accuracy 97.4% per id after 800 of the 1,230; in the end the right game in 78% of 32
                videos by default, in 97% at temperature 0.7 without guidance. 32 unseen clips, dB
                of the mean squared error: key frame 2 after a given first one 21.3 (likeliest ids;
                copying 22.7), key frame 3 21.1 (copying 21.7), 26% of the changing ids right;
                inserted frames 18.2 (copying 23.3, blending 24.3), 29% of the changing ids right
                (copying 38%). 2026-11-28, an AMD EPYC with two cores, jax 0.10.2

Not shipped: what moves is not learned yet. 92% of the ids are those of the frame before, and after
16 million tokens, two thirds of what `shapes` saw of a world of one object, sprites still vanish
between key frames. More steps come first. `fv bench arcade` has the rest.
"""

from typing import Literal

from experiments.arcade_tokenizer import GAMES
from fv_jax.config.model import RetNetConfig
from fv_jax.config.training import ExpectedData, NetworkExperiment, OptimizerConfig, RunConfig

_SMALL = RetNetConfig(
    width=192, layers=4, heads=6, value_width=384, hidden=256, angles="even",
    memory_tokens=(8.0, 4096.0), chunk=155, nearby=32,
)  # fmt: skip
_LARGE = RetNetConfig(
    width=512, layers=12, heads=8, value_width=1024, hidden=688, angles="even",
    memory_tokens=(8.0, 8192.0), chunk=256, nearby=64, matmul_dtype="bfloat16",
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
        skip=(0.3, 0.6),
        skip_given=True,
        loss_chunk=6144,
        expected=ExpectedData(
            clips=clips, frame_grid=(20, 20), frame_codes=6144,
            text_vocabulary=21 if small else 148,
        ),
    )  # fmt: skip
