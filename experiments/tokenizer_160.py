"""The frame tokenizer at the paper's size, on any videos: 160x160 px to 20x20 ids of 20,000 codes.

    command     fv train tokenizer_160 --data clips --valid-share 0.4
    cost        5,000 steps of 12 crop pairs: 33 minutes on one CPU core (EPYC), shared at times
    size        4.32 M parameters, 20,000 codes (levels 8, 5, 5, 5, 5, 4)
    seed        0
    expected    ids steady where the picture is (>= 99.5%), with hysteresis
    measured    22.9 dB, SSIM 0.675 on two clips never seen; ids that stay where no pixel changes by
                more than 2/255: 99.93% with hysteresis (22.7 dB), 98.8% without; 6,938 codes in
                127,200 ids, perplexity 896 (`fv bench video-tokenizer` has the rest)

The figures are from three clips of a few seconds (carphone, BAIR's GIF, a swimming pool of
mmaction2) and two never seen (UCF-101 ApplyEyeMakeup g01 c01, Kinetics arm wrestling): far too few
to learn what video looks like. With `--no-augment` it reaches 26 dB on crops of the three, but 21.8
on the others; turning crops, swapping their colors and changing their contrast gives 1.1 dB there
(SSIM 0.619 to 0.675) and uses more codes, which are less steady one by one (99.6% to 98.8%). Give
it your own data set; from 1,000 clips on nothing is augmented. All figures here are of trainings
from random weights in which every pair was augmented, or none: today they start as a codec, and
half of the pairs are (`fv bench video-tokenizer` says what comes of it).

What keeps ids steady, before and after, with `--no-augment` (share of ids that stay from one frame
to the next where no pixel of the patch changes by more than 2/255, each frame encoded alone):

- without noise on the input and without consistency losses (`--noise 0 --noise-consistency 0
  --still-consistency 0`): 99.09%, and 21.5 dB;
- with them: 99.58%, and 21.8 dB;
- with the hysteresis that whole clips are encoded with: 99.9% either way. Hysteresis alone does
  nearly all; it costs 0.1 dB, and ids then change in 83 to 84% of the patches that change by more
  than 8/255 instead of 91%.

Later, for texture: `--start out/tokenizer_160/model --adversarial-weight 0.1` adds a discriminator
(PatchGAN, hinge, R1), `--lpips-weight` with your own LPIPS weights that distance. 600 steps with
the discriminator were tried: 22.0 dB as before, its hinge loss fell from 2.00 to 1.93, which is
too short for it to change anything.
"""

from fv_jax.config.model import TokenizerConfig
from fv_jax.config.training import OptimizerConfig, RunConfig, TokenizerExperiment


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
