"""Scores and features on one and on eight fake CPU devices; run as a program.

They are written to the .npz file named. A process has its devices from its start on.
"""

import sys

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)

import numpy as np  # noqa: E402
import random_i3d  # noqa: E402

from fv_jax.metrics import LPIPS, fvd, psnr  # noqa: E402
from fv_jax.metrics.device_batches import DeviceBatches  # noqa: E402
from fv_jax.metrics.frame_scores import frame_scores  # noqa: E402
from fv_jax.metrics.signal_to_noise import PSNR  # noqa: E402
from fv_jax.metrics.structural_similarity import SSIM  # noqa: E402
from fv_jax.metrics.weights.lpips import NETS  # noqa: E402


def lpips():
    """AlexNet and heads of random weights."""
    rng, convs, before = np.random.default_rng(0), {}, 3
    for conv in NETS["alexnet"].convs:
        shape = (conv.channels, before, conv.kernel, conv.kernel)
        weight = rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]))
        convs[f"features.{conv.index}.weight"] = weight.astype(np.float32)
        convs[f"features.{conv.index}.bias"] = rng.standard_normal(conv.channels, np.float32) / 20
        before = conv.channels
    widths = [conv.channels for conv in NETS["alexnet"].convs]
    heads = {
        f"lin{i}.model.1.weight": rng.uniform(0, 0.1, (1, width, 1, 1)).astype(np.float32)
        for i, width in enumerate(widths)
    }
    return LPIPS.load(convs, heads)


def held_rows():
    """Rows that each device holds of a batch of 16 and of a last one of 3, and rows handed on."""
    held, counts = [], []

    def function(state, x):
        held.append([shard.data.shape[0] for shard in x.addressable_shards])
        return x

    batches = DeviceBatches(function, (), lambda result: counts.append(len(result)), size=2)
    for i in range(19):
        batches.add(np.full((2,), i))
    batches.finish()
    return held, counts


def main(path):
    """Measure 5 pairs of clips of 9 frames: 45 frames and 5 clips, in batches that do not fit."""
    rng = np.random.default_rng(1)
    real, fake = (rng.integers(0, 256, (5, 9, 32, 35, 3), dtype=np.uint8) for _ in range(2))
    measures = {"psnr": PSNR(), "ssim": SSIM(), "lpips": lpips()}
    i3d, results = random_i3d.quick(), {}
    for name, devices in (("one", jax.devices()[:1]), ("eight", jax.devices())):
        scores = frame_scores(real, fake, measures, batch=2, devices=devices)
        results |= {f"{name}/{metric}": values for metric, values in scores.items()}
        results[f"{name}/features"] = i3d.features(real, batch=1, devices=devices)
        results[f"{name}/fvd"] = np.asarray(fvd(real, fake, i3d, batch=1, devices=devices))
    results["all/psnr"] = np.asarray(psnr(real, fake))  # all devices, by default
    results["held"], results["counts"] = map(np.asarray, held_rows())
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
