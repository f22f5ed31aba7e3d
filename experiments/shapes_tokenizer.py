"""The `shapes` frame tokenizer: 64x64 px to 8x8 ids, patch-local FSQ (not in the paper).

    command     fv train shapes_tokenizer
    cost        12,000 steps of 12 crop pairs: 12.6 minutes on two CPU cores (EPYC, 2 of them)
    size        1.86 M parameters, 400 codes (levels 5, 5, 4, 4)
    seed        0
    expected    >= 33 dB over frames, >= 25 dB over the patches that the object touches
    measured    34.0 dB and 25.7 dB on 200 unseen clips; `fv bench tokenizer` has the rest

The shipped weights are from a random start; today's trainings start as a codec of the clips.

What mattered, each tried for some minutes: crops where two frames of a clip differ, and weights
of 8 : 0.3 for patches that changed; small batches and many steps; squared error beside absolute
error (8 : 1).

Fewer codes are better for the network, as long as frames stay above the goal. 4,375 codes and 2,500
gave 0.2 to 0.5 dB more; but 1,204 of the 2,500 were in use, many of them nearly alike, and which
of them comes next is noise that the network has to learn. With 400 codes (279 in use) its loss
after 300 steps fell from about 35 to 25 nats per frame. The price: ids change in 94.8% of the
patches that change by more than 8 levels (98.2% with 2,500 codes).
"""

from fv_jax.config.model import TokenizerConfig
from fv_jax.config.training import OptimizerConfig, RunConfig, TokenizerExperiment


def get_config() -> TokenizerExperiment:
    """The shipped tokenizer's settings."""
    return TokenizerExperiment(
        name="shapes_tokenizer",
        tokenizer=TokenizerConfig(levels=(5, 5, 4, 4), decoder_depth=3),
        optimizer=OptimizerConfig(
            learning_rate=4e-3, final_learning_rate=1e-5, warmup_steps=100, beta2=0.99,
            ema_decay=0.995,
        ),
        run=RunConfig(steps=12_000, batch_size=12, sample_every=1000, checkpoint_every=1000),
    )  # fmt: skip
