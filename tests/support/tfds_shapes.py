"""`shapes` as a TFDS set, `fv_shapes`: built and read without TensorFlow, nothing to download.

    from tfds_shapes import prepare
    prepare("DIR", "small")                  # then `tfds:fv_shapes/small,data_dir=DIR`

Record i of a split is clip i of `shapes.py`, pixel by pixel.
"""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from fv_jax.shapes import scenes

_ATTRIBUTES = {
    "size": list(scenes.SIZES),
    "colour": list(scenes.COLOURS),
    "shape": list(scenes.SHAPES),
    "direction": list(scenes.DIRECTIONS),
    "background": list(scenes.BACKGROUNDS),
}


@dataclasses.dataclass
class Counts(tfds.core.BuilderConfig):
    """Clips in each split."""

    train: int = 0
    valid: int = 0
    test: int = 0
    heldout: int = 0


class FvShapes(tfds.core.GeneratorBasedBuilder):
    """Captions, attributes and pixels (uint8, as bytes: 0.2 MB a clip) of `shapes`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        Counts("small", description="270 MB", train=1000, valid=100, test=100, heldout=100),
        Counts("full", description="2.8 GB", train=12_000, valid=500, test=500, heldout=500),
        Counts("tiny", description="4 MB", train=8, valid=4, test=4, heldout=4),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        video = (scenes.NUM_FRAMES, scenes.FRAME_SIZE, scenes.FRAME_SIZE, 3)
        labels = {k: tfds.features.ClassLabel(names=v) for k, v in _ATTRIBUTES.items()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"An object moves over a background, {scenes.FPS} frames per second.",
            features=tfds.features.FeaturesDict(
                {
                    "video": tfds.features.Tensor(shape=video, dtype=np.uint8, encoding="bytes"),
                    "caption": tfds.features.Text(),
                    **labels,
                }
            ),
            disable_shuffling=True,  # keeps the clips' numbers
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in scenes.SPLITS}

    def _generate_examples(self, split: str):
        for index in range(getattr(self.builder_config, split)):
            spec = scenes.clip(split, index)
            labels = {key: getattr(spec, key) for key in _ATTRIBUTES}
            yield index, {"video": scenes.render(spec), "caption": spec.caption, **labels}


def prepare(data_dir: str | Path, config: str = "small") -> Path:
    """Write the set, unless it is there; gives its folder.

    Args:
        data_dir: where TFDS keeps its sets.
        config: tiny, small or full (4 MB, 270 MB, 2.8 GB).

    Raises:
        ValueError: no such config.
    """
    if config not in FvShapes.builder_configs:
        raise ValueError(f"config must be {', '.join(FvShapes.builder_configs)}, got {config!r}")
    builder = FvShapes(config=config, data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_path)
