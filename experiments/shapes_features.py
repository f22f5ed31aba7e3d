"""The feature network of `shapes-FVD` (not in the paper): attributes and motion of `shapes`.

    command     fv train shapes_features
    cost        900 steps of 32 clips of 17 frames: 15 minutes of two CPU cores that were shared
                with much other work (1 step/s; 5 steps/s while they were free)
    size        0.16 M parameters, 64 features; 320 kB
    seed        0
    expected    every attribute right in >= 99% of unseen clips; velocity within 0.1 px a frame
    measured    size, colour, shape, direction and background right in all of 256 unseen clips;
                off by (root mean square) 0.15 px in radius, 0.6 px in place, and 0.06 and 0.07 px
                a frame in velocity, where clips have 1 to 2.25

Without a largest value over all places (`anywhere` in `shapes/features.py`) shapes were
right in 74% of clips after 1,000 steps and in 73% after 1,500: each corner had to be learned place
by place.
"""

from fv_jax.config.training import FeaturesExperiment, OptimizerConfig, RunConfig


def get_config() -> FeaturesExperiment:
    """The shipped feature network's settings."""
    return FeaturesExperiment(
        name="shapes_features",
        optimizer=OptimizerConfig(
            learning_rate=2e-3, final_learning_rate=2e-5, warmup_steps=50, ema_decay=0.99,
            beta2=0.99,
        ),
        run=RunConfig(steps=900, batch_size=32, sample_every=300, checkpoint_every=150),
    )  # fmt: skip
