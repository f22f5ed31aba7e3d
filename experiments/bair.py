"""BAIR robot pushing as the paper trains on it: three stages (`paper_runs.py` has our choices).

    command     fv train bair --stage tokenizer --data bair:DIR
                fv tokenize bair:DIR --tokenizer out/bair_tokenizer/model --size 160 --fps 10
                    --out out/tokens/bair
                fv tokenize bair:DIR,split=test (the same) --out out/tokens/bair_valid
                fv train bair --stage key_frames
                fv train bair --stage interpolation
                fv generate "a robot arm pushes objects" --first-frames CLIP
                    --model out/bair_interpolation/model --out out/bair.mp4
    tiny        the same with `--preset tiny` behind every `fv train`, bair_tiny for bair in every
                path, and --size 64; the split=test line is not needed
    faithful    the same with `--faithful` behind the last two `fv train`, and their paths ending in
                _faithful: RetNet's decays and angles, no slots, no levels
    cost        eight GPUs with 80 GB: 800 epochs of 43,264 clips in batches of 64 are 540,800
                steps of each network stage, 8 key frames or 3,328 tokens a row.
                ids of both splits: 1 GB
    size        4.3 M parameters (tokenizer), 343 M (network: 302 M and its tables of ids)
    estimate    --estimate --devices 8 (key_frames; jax 0.10.2, 2026-11-21), of its table:
         parameters        343.7 M
         a step            64 rows, in 4 parts, 212,992 tokens, 4.44e+14 model FLOPs
         an epoch          43,264 clips, 143,982,592 tokens, 676 steps
         the run           540,800 steps, 800.0 epochs
         bytes per device  22.72 GiB: weights 1.28 GiB, average 1.28 GiB, optimizer 2.56 GiB,
                           gradients and activations 17.60 GiB (by XLA's memory analysis for cpu)
         received a step   9.62 GB by each device
         hours on 8 of   at 40% MFU
           TPU v5p              45.36 h       362.89 device-hours
           A100-80GB            66.73 h       533.87 device-hours
           H100 SXM             21.05 h       168.42 device-hours
    seed        0
    paper row   table 3: FVD 83, PSNR 17.1, SSIM 0.741, LPIPS 0.098
    expected    not known: the paper does not say how it samples, nor how many clips it compares
    measured    nothing at this size yet; all of `tiny`, over 12 clips:
                76 s on two cores that were busy with other work, too

The clips are 64x64 px and are enlarged to the paper's 160. There are no texts: all clips have the
same one. A row spans 29 of a clip's 30 frames, of the camera `image_aux1`. Table 3's other rows
were measured in other ways than the paper's (LPIPS with VGG, best of 100), so it ranks nobody.
"""

from experiments.paper_runs import DataSet, Preset, Stage, settings
from fv_jax.config.training import NetworkExperiment, TokenizerExperiment

DATA = DataSet(
    name="bair",
    source="bair:data/bair",
    clips=43_264,
    epochs=800,
    fps=10.0,
    key_frames=8,
    text_vocabulary=6,
)


def get_config(
    stage: Stage = "key_frames", preset: Preset = "paper", faithful: bool = False
) -> TokenizerExperiment | NetworkExperiment:
    """Settings of a stage."""
    return settings(DATA, stage, preset, faithful)
