"""Kinetics-600 as the paper trains on it: three stages (`paper_runs.py` says what is ours in them).

    command     fv train kinetics600 --stage tokenizer --data kinetics600:DIR
                fv tokenize kinetics600:DIR --tokenizer out/kinetics600_tokenizer/model --size 160
                    --fps 25 --out out/tokens/kinetics600
                fv tokenize kinetics600:DIR,split=val (the same) --out out/tokens/kinetics600_valid
                fv train kinetics600 --stage key_frames
                fv train kinetics600 --stage interpolation
                fv generate "tai chi" --first-frames CLIP --given-frames 5
                    --model out/kinetics600_interpolation/model --out out/kinetics600.mp4
    tiny        the same with `--preset tiny` behind every `fv train`, kinetics600_tiny for
                kinetics600 in every path, and --size 64; the split=val line is not needed
    faithful    the same with `--faithful` behind the last two `fv train`, and their paths ending in
                _faithful: RetNet's decays and angles, no slots, no levels
    cost        eight GPUs with 80 GB: 500 epochs of about 392,000 clips in batches of 64 are
                3,062,500 steps of each network stage, 16 key frames or 6,656 tokens a row.
                ids of 10-second clips at 25 fps: 84 GB
    size        4.3 M parameters (tokenizer), 344 M (network: 302 M and its tables of ids)
    estimate    --estimate --devices 8 (key_frames; jax 0.10.2, 2026-11-21), of its table:
         parameters        344.5 M
         a step            64 rows, in 4 parts, 425,984 tokens, 8.87e+14 model FLOPs
         an epoch          392,000 clips, 2,609,152,000 tokens, 6,125 steps
         the run           3,062,500 steps, 500.0 epochs
         bytes per device  36.75 GiB: weights 1.28 GiB, average 1.28 GiB, optimizer 2.57 GiB,
                           gradients and activations 31.62 GiB (by XLA's memory analysis for cpu)
         received a step   9.64 GB by each device
         hours on 8 of   at 40% MFU
           TPU v5p             513.75 h     4,109.97 device-hours
           A100-80GB           755.80 h     6,046.40 device-hours
           H100 SXM            238.43 h     1,907.46 device-hours
    seed        0
    paper row   table 2: FVD 25.2 at 160x160, from the class and first frames
    expected    not known: the paper does not say how it samples, nor how many clips it compares
    measured    nothing at this size yet; all of `tiny`, over 12 clips:
                117 s on two cores that were busy with other work, too

Clips disappear from YouTube: whoever has fewer lowers `--run.steps` by as much, to stay at 500
epochs. All clips are read at 25 fps, whatever their own rate.
"""

from experiments.paper_runs import DataSet, Preset, Stage, settings
from fv_jax.config.training import NetworkExperiment, TokenizerExperiment

DATA = DataSet(
    name="kinetics600",
    source="kinetics600:data/kinetics600",
    clips=392_000,
    epochs=500,
    fps=25.0,
    key_frames=16,
    text_vocabulary=760,
)


def get_config(
    stage: Stage = "key_frames", preset: Preset = "paper", faithful: bool = False
) -> TokenizerExperiment | NetworkExperiment:
    """Settings of a stage."""
    return settings(DATA, stage, preset, faithful)
