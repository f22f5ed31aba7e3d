"""A model as users hold it: one folder that says everything about itself.

config.json               sizes, sequence layout, tasks, checksums of the other files
network.safetensors       RetNet weights, bfloat16
tokenizer.safetensors     frame tokenizer with its own config in the header
text.model                sentencepiece
training.json             how it was made: steps, hours, losses, settings
"""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from flax import nnx

from fv_jax.config.model import RetNetConfig, SequenceConfig, from_json, to_json
from fv_jax.config.registry import choices
from fv_jax.files import write_text
from fv_jax.files.buckets import local
from fv_jax.generation import hub
from fv_jax.models.retnet import RetNet
from fv_jax.sequence.vocab import Vocab
from fv_jax.tokenizers.interface import FrameTokenizer
from fv_jax.tokenizers.load import load_tokenizer
from fv_jax.tokenizers.text import TextTokenizer
from fv_jax.weights.shipped import SHIPPED, shipped_models
from fv_jax.weights.tensors import params_from_tensors, read_safetensors, write_params

DEFAULT = "shapes"
_WEIGHTS = ("network.safetensors", "tokenizer.safetensors", "text.model")
FILES = (*_WEIGHTS, "config.json", "training.json")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """config.json without the checksums.

    Attributes:
        network: sizes of the RetNet.
        sequence: layout of the packed sequence.
        key_frames: how many key frames a clip was trained with.
        key_frame_fps: key frames per second.
        key_frame_stride: frames from one key frame to the next at the trained frame rate.
        insertions: (gap, inserted) pairs that interpolation was trained on; empty if it was not.
        given_frames: frames in a row, from one key frame to the next, that a video may begin with;
            0 where no training row did.
        skip: frames of a row that interpolates which are read whole, where the network was trained
            to do without stable ids: both that are given (2), or the first; 0 where it was not.
        inherit: (gap, share) pairs: how many of the stable ids frames in such a gap may inherit
            (`skip_mask.harmless_share`), from clips held out; empty where nobody looked.
    """

    network: RetNetConfig
    sequence: SequenceConfig
    key_frames: int
    key_frame_fps: float
    key_frame_stride: int
    insertions: tuple[tuple[int, int], ...]
    given_frames: int = 0
    skip: int = 0
    inherit: tuple[tuple[int, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model: configs, weights (float32) and both tokenizers."""

    name: str
    config: ModelConfig
    params: Any
    frames: FrameTokenizer
    text: TextTokenizer

    @property
    def graph(self) -> nnx.GraphDef:
        """The network's structure, for `nnx.merge(graph, params)`."""
        return network_graph(self.config.network, self.config.sequence)

    @property
    def in_float32(self) -> "Model":
        """The same model, whose matmuls take float32; itself if they do so already."""
        network = self.config.network
        if network.matmul_dtype == "float32":
            return self
        network = dataclasses.replace(network, matmul_dtype="float32")
        return dataclasses.replace(self, config=dataclasses.replace(self.config, network=network))

    @property
    def frame_size(self) -> tuple[int, int]:
        """(Y, X) of the frames, px."""
        h, w = self.config.sequence.frame_grid
        return h * self.frames.downsample, w * self.frames.downsample


@functools.lru_cache(maxsize=32)
def network_graph(network: RetNetConfig, sequence: SequenceConfig) -> nnx.GraphDef:
    """Structure of a RetNet without allocating its weights; kept, since tracing it takes longer
    than a small model's video.
    """
    return nnx.graphdef(_abstract(network, sequence))


def save(
    folder: Path,
    config: ModelConfig,
    params: Any,
    frames: FrameTokenizer,
    text: TextTokenizer,
    record: dict[str, Any],
) -> None:
    """Write a model folder; config.json, with the checksums, comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    write_params(folder / "network.safetensors", params, {})
    frames.save(folder / "tokenizer.safetensors")
    (folder / "text.model").write_bytes(text.model)
    write_text(folder / "training.json", json.dumps(record, indent=1) + "\n")
    sums = {name: _sha256(folder / name) for name in _WEIGHTS}
    write_text(
        folder / "config.json", json.dumps({**to_json(config), "sha256": sums}, indent=1) + "\n"
    )


def locate(model: str) -> Path:
    """The folder of a shipped model's name, of a path, or of `hf:OWNER/NAME[@REVISION]`.

    Raises:
        FileNotFoundError: none of them; the message lists what there is.
        OSError, ValueError: a hub or a store does not give it; see `hub.fetch`, `buckets.fetch`.
    """
    if model.startswith(hub.PREFIX):
        return hub.fetch(model, FILES)
    for folder in (SHIPPED / model, Path(local(model))):
        if (folder / "config.json").is_file():
            return folder
    raise FileNotFoundError(
        f"no model named {model!r} and no folder {model!r} with a config.json; "
        f"{choices(model, shipped_models())}"
    )


def load(model: str = DEFAULT) -> Model:
    """Load a shipped model by name, a model folder by path, or a hub's by `hf:OWNER/NAME`.

    A path may be one in an object store, gs:// or s3://.

    Raises:
        FileNotFoundError: no such model, or a file of it is missing.
        ValueError: a file is damaged (its checksum differs) or does not fit the config.
    """
    folder = locate(model)
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        sums = values.pop("sha256")
        config = from_json(ModelConfig, values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}/config.json is no model config ({error})") from error
    for name in _WEIGHTS:
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; copy the whole model folder again")
        if _sha256(path) != sums.get(name):
            raise ValueError(
                f"{path} is damaged or was changed: its checksum is not the one in config.json; "
                "copy the model folder again"
            )
    frames = load_tokenizer(str(folder / "tokenizer.safetensors"))
    params = _load_network(folder / "network.safetensors", config)
    return Model(_name(folder), config, params, frames, TextTokenizer.load(folder / "text.model"))


def _name(folder: Path) -> str:
    """The experiment's that trained it, else the folder's."""
    try:
        return json.loads((folder / "training.json").read_text(encoding="utf-8"))["config"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


def _load_network(path: Path, config: ModelConfig) -> Any:
    abstract = nnx.to_pure_dict(nnx.state(_abstract(config.network, config.sequence), nnx.Param))
    return params_from_tensors(read_safetensors(path)[0], abstract, path)


def _abstract(network: RetNetConfig, sequence: SequenceConfig) -> RetNet:
    def make() -> RetNet:
        return RetNet(network, Vocab(sequence).size, sequence.frame_codes, rngs=nnx.Rngs(0))

    return nnx.eval_shape(make)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
