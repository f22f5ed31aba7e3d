"""The frame tokenizer at real size: 160x160 px to 20x20 ids of 20,000 codes, on any videos."""

from fv_jax.config import OptimizerConfig, RunConfig, TokenizerConfig, TokenizerExperiment


def get_config() -> TokenizerExperiment:
    """Settings for two CPU cores."""
    return TokenizerExperiment(
        name="tokenizer_160",
        data="clips",
        size=160,
        tokenizer=TokenizerConfig(
            levels=(8, 5, 5, 5, 5, 4), width=256, encoder_depth=4, decoder_depth=4
        ),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, final_learning_rate=1e-5, warmup_steps=100, beta2=0.99,
            ema_decay=0.995,
        ),
        run=RunConfig(steps=5000, batch_size=12, sample_every=1000, checkpoint_every=500),
        changed_weight=1.0,
        plain_weight=1.0,
        gradient_weight=0.5,
        noise=2.0,
        noise_consistency=0.05,
        still_consistency=0.2,
    )  # fmt: skip
