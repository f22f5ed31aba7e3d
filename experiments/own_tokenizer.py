"""A small frame tokenizer on videos of your own: the first step of docs/tutorial.md.

    command     fv train own_tokenizer --data clips
    cost        5,000 steps of 5 crop pairs: 176 s of CPU time, on one core
    size        0.71 M parameters; 96x96 px to 24x24 ids of 9,600 codes (levels 8, 8, 6, 5, 5)
    seed        0
    expected    >= 24 dB on clips held out, a third of the codes in use on real clips
    measured    24.3 dB on one real clip never seen (Kinetics arm wrestling) after four others of a
                few seconds; 3,855 codes in use on 73 frames, perplexity 621; ids stay in all
                patches where no pixel changes. 24 clips of one plain color over another: 28.0 dB.
                After 600 steps already: one clip alone (carphone, its last third) 25.8 dB, very
                dark clips 35.7, very bright 40.5, gray 26.9, `shapes` 26.6 dB. All by
                `fv bench own-tokenizer`, seed 0 alone

`tokenizer_160.py` is the one of full size; `--run.steps` gives more quality here, too. Why patches
of 4 px at 96 px, and what was tried: docs/deviations.md, "It starts as a codec".
"""

from fv_jax.config.model import TokenizerConfig
from fv_jax.config.training import OptimizerConfig, RunConfig, TokenizerExperiment


def get_config() -> TokenizerExperiment:
    """Settings for a first try."""
    return TokenizerExperiment(
        name="own_tokenizer",
        data="clips",
        size=96,
        pairs=500,
        tokenizer=TokenizerConfig(
            levels=(8, 8, 6, 5, 5), patch=4, width=128, encoder_depth=2, decoder_depth=3
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-3, final_learning_rate=1e-4, warmup_steps=50, beta2=0.99,
            ema_decay=0.99,
        ),
        run=RunConfig(steps=5000, batch_size=5, sample_every=1000, checkpoint_every=1000),
        crop=8,
        changed_weight=1.0,
        plain_weight=1.0,
        gradient_weight=0.2,
        noise_consistency=0.05,
        still_consistency=0.2,
    )  # fmt: skip
