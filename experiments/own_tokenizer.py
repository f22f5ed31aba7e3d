"""A small frame tokenizer on videos of your own: the first step of docs/tutorial.md.

    command     fv train own_tokenizer --data clips
    cost        5,000 steps of 5 crop pairs: 176 s of CPU time, on one core
    size        0.71 M parameters; 96x96 px to 24x24 ids of 9,600 codes (levels 8, 8, 6, 5, 5)
    seed        0
    expected    >= 24 dB on clips held out, a third of the codes in use on real clips
    measured    seeds 0, 1, 2 by `fv bench own-tokenizer`, 146 to 183 s of CPU time each, the first
                in 110 s on two free cores. dB of what is held out; codes in use by all frames:
                real clips (a Kinetics clip, after four others) 24.4, 24.6, 24.3; 6,244 to 7,046
                plain colors (24 clips)                         28.5, 28.3, 29.8; 1,456 to 1,670
                one clip alone (carphone, its last third)       27.1, 27.1, 27.2; 3,293 to 3,442
                very dark                                       43.8, 36.3, 39.1; 176 to 360
                very bright                                     38.0, 41.8, 43.5; 215 to 300
                gray                                            42.0, 40.1, 37.0; 2,163 to 2,234
                `shapes`                                        31.3, 29.5, 30.5; 1,078 to 1,458
                No code has more than 8% of the patches that are not alike. Ids stay in all patches
                where no pixel changes. Dark and bright clips need so few codes that the line about
                2% of them may come: it says to look at the samples

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
