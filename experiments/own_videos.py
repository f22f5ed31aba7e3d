"""A small network on videos of your own, both tasks: docs/tutorial.md.

    command     fv train own_videos --data out/tokens/mine
    cost        60 steps of 2 rows at 96 px, 24x24 ids a frame: 130 s of CPU time
    size        3.3 M parameters at 9,600 codes: width 128, 3 layers, 4 heads
    seed        0
    expected    that it runs; a minute teaches it brightness and colors, no more
    measured    the tutorial's five clips, one of them held out: 3.9 nats an id, 52% of the ids
                right. Without `nearby` 6.5 and 24%, and a given frame that nothing like was trained
                on went on in black
    no help     150 steps: of five clips it learns the four by heart (4.3 nats, 45%), and frames
                between sampled ones are flat again

For a model worth looking at raise `--run.steps`, `--model.width`, `--model.layers` and
`--model.heads`, on a GPU or TPU.
"""

from fv_jax.config.model import RetNetConfig
from fv_jax.config.training import NetworkExperiment, OptimizerConfig, RunConfig


def get_config() -> NetworkExperiment:
    """Settings that two CPU cores can bear; raise model.width and model.layers on a GPU."""
    return NetworkExperiment(
        name="own_videos",
        data="out/tokens/mine",
        text_tokens=0,
        model=RetNetConfig(
            width=128, layers=3, heads=4, value_width=256, hidden=172, angles="even",
            memory_tokens=(16.0, 4096.0), chunk=128, nearby=16,
        ),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=20, ema_decay=0.99),
        run=RunConfig(steps=60, batch_size=2, log_every=5, sample_every=60, checkpoint_every=20),
        key_frames=3,
        key_frame_stride=4,
        insertions=((4, 3),),
    )  # fmt: skip
