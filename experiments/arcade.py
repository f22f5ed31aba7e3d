"""The `arcade` network: both tasks of the paper (sections 3.1 to 3.3) on 16 Atari games.

command     fv train arcade_tokenizer && fv train arcade
"""

from experiments.arcade_tokenizer import GAMES
from fv_jax.config.model import RetNetConfig
from fv_jax.config.training import NetworkExperiment, OptimizerConfig, RunConfig


def get_config() -> NetworkExperiment:
    """The shipped network's settings."""
    games = f"arcade:games={'+'.join(GAMES)}"
    return NetworkExperiment(
        name="arcade",
        tokenizer="out/arcade_tokenizer/model",
        data=f"{games},split=train,count=2048",
        valid=f"{games},split=valid,count=64",
        fps=15.0,
        size=160,
        text_tokens=0,
        model=RetNetConfig(
            width=192, layers=4, heads=6, value_width=384, hidden=256, angles="even",
            memory_tokens=(8.0, 4096.0), chunk=155,
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-3, final_learning_rate=1e-4, warmup_steps=100, ema_decay=0.995
        ),
        run=RunConfig(steps=2400, batch_size=2, sample_every=600, checkpoint_every=100),
        interpolation_text_drop=0.5,
        loss_chunk=6144,
    )  # fmt: skip
