"""A small frame tokenizer on videos of your own: the first step of docs/tutorial.md.

    command     fv train own_tokenizer --data clips
    cost        400 steps of 12 crop pairs: half a minute on two CPU cores
    size        0.6 M parameters, 1,000 codes: few, so that a small network can learn them

`tokenizer_160.py` is the one of full size. Give this one more `--run.steps`, too.
"""

from fv_jax.config.model import TokenizerConfig
from fv_jax.config.training import OptimizerConfig, RunConfig, TokenizerExperiment


def get_config() -> TokenizerExperiment:
    """Settings for a first try."""
    return TokenizerExperiment(
        name="own_tokenizer",
        data="clips",
        size=160,
        pairs=500,
        tokenizer=TokenizerConfig(levels=(8, 5, 5, 5), width=128, encoder_depth=2, decoder_depth=2),
        optimizer=OptimizerConfig(
            learning_rate=4e-3, final_learning_rate=1e-4, warmup_steps=20, beta2=0.99,
            ema_decay=0.99,
        ),
        run=RunConfig(steps=400, batch_size=12, sample_every=400, checkpoint_every=200),
        changed_weight=1.0,
        plain_weight=1.0,
        gradient_weight=0.5,
        noise_consistency=0.05,
        still_consistency=0.2,
    )  # fmt: skip
