"""The shipped `shapes` network."""

from fv_jax.config import PRESETS, NetworkExperiment, OptimizerConfig, RunConfig


def get_config() -> NetworkExperiment:
    """The shipped network's settings."""
    return NetworkExperiment(
        name="shapes",
        tokenizer="shapes",
        model=PRESETS["shapes"],
        optimizer=OptimizerConfig(
            learning_rate=3e-3, final_learning_rate=3e-5, warmup_steps=200, ema_decay=0.998
        ),
        run=RunConfig(steps=2700, batch_size=8, sample_every=500, checkpoint_every=200),
        key_frame_share=0.55,
        train_clips=8000,
        insertions=((4, 3), (4, 1), (2, 1)),
    )
