"""A small network on videos of your own, both tasks: the README's "Your own videos"."""

from fv_jax.config import NetworkExperiment, OptimizerConfig, RetNetConfig, RunConfig


def get_config() -> NetworkExperiment:
    """Settings that two CPU cores can bear; raise model.width and model.layers on a GPU."""
    return NetworkExperiment(
        name="own_videos",
        data="out/tokens/mine",
        text_tokens=0,
        model=RetNetConfig(
            width=128, layers=3, heads=4, value_width=256, hidden=172, angles="even",
            memory_tokens=(16.0, 4096.0), chunk=128,
        ),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=20, ema_decay=0.99),
        run=RunConfig(steps=60, batch_size=4, log_every=5, sample_every=60, checkpoint_every=20),
        key_frames=3,
        key_frame_stride=4,
        insertions=((4, 3),),
    )  # fmt: skip
