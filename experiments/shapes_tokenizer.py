"""The `shapes` frame tokenizer: 64x64 px to 8x8 ids."""

from fv_jax.config import OptimizerConfig, RunConfig, TokenizerConfig, TokenizerExperiment


def get_config() -> TokenizerExperiment:
    """The shipped tokenizer's settings."""
    return TokenizerExperiment(
        name="shapes_tokenizer",
        tokenizer=TokenizerConfig(levels=(5, 5, 5, 5, 4)),
        optimizer=OptimizerConfig(
            learning_rate=4e-3, final_learning_rate=1e-5, warmup_steps=100, beta2=0.99,
            ema_decay=0.995,
        ),
        run=RunConfig(steps=16_000, batch_size=12, sample_every=1000, checkpoint_every=1000),
    )  # fmt: skip
