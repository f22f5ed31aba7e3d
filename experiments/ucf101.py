"""UCF-101 as the paper trains on it: three stages (`paper_runs.py` says what is ours in them).

    command     fv train ucf101 --stage tokenizer --data ucf101:DIR
                fv tokenize ucf101:DIR --tokenizer out/ucf101_tokenizer/model --size 160 --fps 25
                    --out out/tokens/ucf101
                fv tokenize ucf101:DIR,split=test (the same) --out out/tokens/ucf101_valid
                fv train ucf101 --stage key_frames
                fv train ucf101 --stage interpolation
                fv generate "Apply Eye Makeup" --first-frames CLIP
                    --model out/ucf101_interpolation/model --out out/ucf101.mp4
    tiny        the same with `--preset tiny` behind every `fv train`, ucf101_tiny for ucf101 in
                every path, and --size 64; the split=test line is not needed
    faithful    the same with `--faithful` behind the last two `fv train`, and their paths ending in
                _faithful: RetNet's decays and angles, no slots, no levels
    cost        eight GPUs with 80 GB: 1000 epochs of 9,537 clips (list 1) in batches of 64 are
                149,016 steps of each network stage, 16 key frames or 6,656 tokens a row.
                ids of both splits: 2 GB
    size        4.3 M parameters (tokenizer), 344 M (network: 302 M and its tables of ids)
    estimate    --estimate --devices 8 (key_frames; jax 0.10.2, 2026-11-21), of its table:
         parameters        343.9 M
         a step            64 rows, in 4 parts, 425,984 tokens, 8.87e+14 model FLOPs
         an epoch          9,537 clips, 63,478,272 tokens, 149 steps
         the run           149,016 steps, 1,000.0 epochs
         bytes per device  36.74 GiB: weights 1.28 GiB, average 1.28 GiB, optimizer 2.56 GiB,
                           gradients and activations 31.61 GiB (by XLA's memory analysis for cpu)
         received a step   9.63 GB by each device
         hours on 8 of   at 40% MFU
           TPU v5p              25.00 h       199.98 device-hours
           A100-80GB            36.78 h       294.21 device-hours
           H100 SXM             11.60 h        92.81 device-hours
    seed        0
    paper row   table 1: FVD 408 at 160x160, from the class and first frames
    expected    not known: the paper does not say how it samples, nor how many clips it compares
    measured    nothing at this size yet; all of `tiny`, over 12 clips:
                72 s on two cores that were busy with other work, too

A row spans 61 frames, 2.4 seconds at 25 fps. Shorter clips are left out, and counted at the start.
"""

from experiments.paper_runs import DataSet, Preset, Stage, settings
from fv_jax.config.training import NetworkExperiment, TokenizerExperiment

DATA = DataSet(
    name="ucf101",
    source="ucf101:data/ucf101",
    clips=9537,
    epochs=1000,
    fps=25.0,
    key_frames=16,
    text_vocabulary=152,
)


def get_config(
    stage: Stage = "key_frames", preset: Preset = "paper", faithful: bool = False
) -> TokenizerExperiment | NetworkExperiment:
    """Settings of a stage."""
    return settings(DATA, stage, preset, faithful)
