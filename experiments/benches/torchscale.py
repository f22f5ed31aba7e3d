"""Decoding token by token against torchscale's own recurrent decoding in PyTorch.

Both sides compute one function with one set of weights. torchscale's `RetNetDecoder`
(arXiv:2307.08621; torchscale 0.3.0) draws them, and they are copied into our `RetNet`, which then
has RetNet's decays and rotation angles and no slot or level embeddings. Before anything is timed,
every logit of a whole sequence must agree to 1e-4. float32 on both sides; the ids that are read
and the codes that are scored are those of our packed sequences, text and serial numbers known.

    network    logits of given tokens, one token at a time
               ours: one jitted scan over the window step that `decode` takes
               torchscale: one forward call a token with `incremental_state`, eager,
               inference mode
    greedy     ids sampled at temperature 0
               ours: `generation/sampler.py`, one jitted call at W = 1
               torchscale: the same calls, argmax, the id written where the next call reads it
    sampled    the same at temperature 1: ours with Gumbel noise, torchscale's with multinomial

Seconds are medians of calls in turns (ours, torchscale, ours, ..) in one process, after a round
that does not count; compiling comes before and is reported apart. A token's time is that of one
step, which makes a token of every row. Ratios are torchscale's time over ours.

PyTorch and torchscale are for this bench only; a run without them says how to install them.
PyTorch's smaller wheels without CUDA (https://download.pytorch.org/whl/cpu) are enough.

    cost   three minutes on a CPU core (estimated), and PyTorch
"""

import dataclasses
import functools
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from experiments.timing import in_turns, parameters
from fv_jax.config.model import RetNetConfig, SequenceConfig
from fv_jax.generation import drafts, pretrained
from fv_jax.generation.policies import Sampling
from fv_jax.generation.sampler import Sampler, decode, start
from fv_jax.models import decode_cache
from fv_jax.models.retnet import RetNet
from fv_jax.provenance import cores
from fv_jax.reporting.results import markdown, record
from fv_jax.sequence.packing import key_frame_serials, pack
from fv_jax.sequence.vocab import FREE, Vocab

_INSTALL = "pip install torch==2.13.0 && pip install --no-deps torchscale==0.3.0"
_BATCHES = (1, 4)
_TOLERANCE = 1e-4  # of logits, absolute; they are about 1
_GOAL = 3.0  # times faster, one row
# What torchscale imports and recurrent decoding never calls. timm would bring torchvision, which
# must be built for the very torch that is installed; so a place is held for them.
_NOT_CALLED = {
    "timm.models.layers": ("drop_path",),
    "fairscale.nn": ("checkpoint_wrapper", "wrap"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    repeats: int = 7
    """Timed calls of each; the median counts."""
    threads: int = 0
    """Threads of PyTorch; 0 means one for every core that the process may use."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.threads < 0:
            raise ValueError(
                f"repeats must be >= 1 and threads >= 0, got {self.repeats} and {self.threads}"
            )


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, and the sequence that it decodes.

    Attributes:
        network: sizes, with what torchscale has: its angles, its decays, no other embeddings.
        sequence: layout of the tokens.
        blocks: of text, serial number and frame.
    """

    network: RetNetConfig
    sequence: SequenceConfig
    blocks: int

    @property
    def tokens(self) -> int:
        """Tokens of one row."""
        return self.blocks * self.sequence.stride


def run(settings: Settings) -> None:
    """Compare, measure and record."""
    torch = import_torch()
    torch.set_num_threads(settings.threads or cores())
    # Else a program that `fv` has kept from an earlier run would pass as one that compiles fast.
    jax.config.update("jax_enable_compilation_cache", False)
    rows = []
    for name, case in cases().items():
        theirs = their_network(torch, case)
        ours = from_torchscale(
            {key: value.numpy() for key, value in theirs.state_dict().items()}, case.network
        )
        sizes = parameters(ours), sum(p.numel() for p in theirs.parameters())
        if sizes[0] != sizes[1]:
            raise ValueError(f"{name}: ours has {sizes[0]} parameters, torchscale's {sizes[1]}")
        for batch in _BATCHES:
            made = _measure(
                torch, case, theirs, ours, batch, f"{name}, batch {batch}", settings.repeats
            )
            rows += [{"network": name, "parameters": sizes[0], "batch": batch, **r} for r in made]
    values = {
        "rows": rows,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "cores": cores(),
        "networks": {
            name: {**dataclasses.asdict(case.network), "tokens": case.tokens}
            for name, case in cases().items()
        },
    }
    record("torchscale", settings, values, _table(values))


def cases() -> dict[str, Case]:
    """The shipped network's sizes, and one of about six million parameters."""
    shipped = pretrained.load(pretrained.DEFAULT).config
    like_torchscale: dict[str, Any] = {
        "memory_tokens": None, "angles": "geometric", "slots": 0, "code_levels": (),
    }  # fmt: skip
    return {
        "shapes": Case(
            dataclasses.replace(shipped.network, **like_torchscale),
            shipped.sequence, shipped.key_frames,
        ),
        "middle": Case(
            RetNetConfig(
                width=256, layers=6, heads=4, value_width=512, hidden=512, **like_torchscale
            ),
            SequenceConfig(frame_grid=(16, 16), frame_codes=1024), 4,
        ),
    }  # fmt: skip


def import_torch() -> Any:
    """torch, with torchscale importable.

    Raises:
        ValueError: one of them is not installed.
    """
    try:
        import torch  # type: ignore[import-not-found]

        for name, functions in _NOT_CALLED.items():
            place = types.ModuleType(name)
            for function in functions:
                setattr(place, function, _not_called)
            sys.modules.setdefault(name, place)
        import torchscale.architecture.retnet  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"this bench needs torch and torchscale, and {error.name} is missing; "
            f"the project needs neither, so install them for this bench: {_INSTALL}"
        ) from error
    return torch


def _not_called(*_: Any, **__: Any) -> None:
    raise RuntimeError("torchscale's decoder called what recurrent decoding does not need")


def their_options(case: Case) -> dict[str, Any]:
    """Options of torchscale's `RetNetConfig` for the same function."""
    c = case.network
    return {
        "vocab_size": Vocab(case.sequence).size,
        "decoder_embed_dim": c.width,
        "decoder_value_embed_dim": c.value_width,
        "decoder_retention_heads": c.heads,
        "decoder_ffn_embed_dim": c.hidden,
        "decoder_layers": c.layers,
        "activation_fn": "swish",
    }


def their_network(torch: Any, case: Case) -> Any:
    """torchscale's decoder with its own random weights; its head scores the frame codes only."""
    from torchscale.architecture.config import (  # type: ignore[import-not-found]
        RetNetConfig as TheirConfig,
    )
    from torchscale.architecture.retnet import RetNetDecoder  # type: ignore[import-not-found]

    torch.manual_seed(0)
    options = their_options(case)
    width = options["decoder_embed_dim"]
    head = torch.nn.Linear(width, case.sequence.frame_codes, bias=False)
    torch.nn.init.normal_(head.weight, std=width**-0.5)  # as torchscale's own head
    embedding = torch.nn.Embedding(options["vocab_size"], width)
    decoder = RetNetDecoder(TheirConfig(**options), embedding, head).eval()
    return decoder.requires_grad_(False)


def from_torchscale(tensors: Mapping[str, np.ndarray], config: RetNetConfig) -> dict[str, Any]:
    """Parameters of our `RetNet` that compute torchscale's function.

    torchscale's matrices are [outputs, inputs], ours [inputs, outputs]; layers are stacked;
    channels that turn together lie half a head apart, not beside each other.
    """

    def stack(name: str) -> Array:
        layers = [tensors[f"layers.{i}.{name}.weight"].T for i in range(config.layers)]
        return jnp.asarray(np.stack(layers))

    def halves(x: Array) -> Array:
        pairs = x.reshape(*x.shape[:-1], config.heads, -1, 2)
        return pairs.swapaxes(-1, -2).reshape(x.shape)

    matrix = lambda name: {"weight": stack(name)}
    turned = lambda name: {"weight": halves(stack(name))}
    return {
        "embedding": jnp.asarray(tensors["embed_tokens.weight"]),
        "blocks": {
            "retention_norm": {"scale": stack("retention_layer_norm")},
            "retention": {
                "qkvg": {
                    "query": turned("retention.q_proj"),
                    "key": turned("retention.k_proj"),
                    "value": matrix("retention.v_proj"),
                    "gate": matrix("retention.g_proj"),
                },
                "out": matrix("retention.out_proj"),
            },
            "glu_norm": {"scale": stack("final_layer_norm")},
            "glu": {
                "up_gate": {"up": matrix("ffn.fc1"), "gate": matrix("ffn.gate")},
                "down": matrix("ffn.fc2"),
            },
        },
        "norm": {"scale": jnp.asarray(tensors["layer_norm.weight"])},
        "head": jnp.asarray(tensors["output_projection.weight"].T),
    }


def graph_of(config: RetNetConfig, vocabulary: int, codes: int) -> nnx.GraphDef:
    """Structure of our network, for `nnx.merge(graph, params)`."""
    make = lambda: RetNet(config, vocabulary, codes, rngs=nnx.Rngs(0))
    return nnx.graphdef(nnx.eval_shape(make))


@functools.partial(jax.jit, static_argnames="graph")
def network(
    params: Any, tokens: Int[Array, "B T"], *, graph: nnx.GraphDef
) -> Float[Array, "B T codes"]:
    """Logits after every token, token by token: `decode`'s step without its choosing."""
    model = nnx.merge(graph, params)
    decoder, ones = model.decoder(), jnp.ones(tokens.shape[0], jnp.int32)

    def token(state, ids):
        hidden, keys_values = decode_cache.window(decoder, ids[:, None], state)
        state = decode_cache.commit(decoder, state, keys_values, ones)
        return state, decoder.tables.logits(hidden[:, 0])

    state = decode_cache.begin(model, model.init_state(tokens.shape[0]), 0)
    return jax.lax.scan(token, state, tokens.T)[1].swapaxes(0, 1)


def their_logits(torch: Any, decoder: Any, tokens: Any) -> list[Any]:
    """What `network` computes, by torchscale: [B, codes] after each token."""
    state: dict[Any, Any] = {}
    with torch.inference_mode():  # its position is the length of what it is given
        ends = range(1, tokens.shape[1] + 1)
        return [decoder(tokens[:, :n], incremental_state=state)[0][:, 0] for n in ends]


def their_decode(
    torch: Any, decoder: Any, tokens: Int[np.ndarray, "B T"], frame_start: int, temperature: float
) -> Any:
    """`tokens` with an id for every FREE, by torchscale; all rows are FREE at the same places."""
    ids, free = torch.as_tensor(tokens, dtype=torch.long).clone(), tokens[0] == FREE
    state: dict[Any, Any] = {}
    with torch.inference_mode():
        for n in range(1, ids.shape[1] + 1):
            logits = decoder(ids[:, :n], incremental_state=state)[0][:, 0]
            if n < ids.shape[1] and free[n]:
                if temperature:
                    share = torch.softmax(logits / temperature, dim=-1)
                    chosen = torch.multinomial(share, 1)[:, 0]
                else:
                    chosen = torch.argmax(logits, dim=-1)
                ids[:, n] = chosen + frame_start
    return ids


def _measure(
    torch: Any, case: Case, theirs: Any, ours: Any, batch: int, label: str, repeats: int
) -> list[dict[str, Any]]:
    """One row per thing that is timed, after both sides were found to agree."""
    vocab, tokens = Vocab(case.sequence), _tokens(case, batch)
    graph = graph_of(case.network, vocab.size, case.sequence.frame_codes)
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    compiling: dict[str, float] = {}
    for what, temperature in {"greedy": 0.0, "sampled": 1.0}.items():
        sampler = Sampler(case.sequence, Sampling(temperature), window=1)
        ours_call, compiling[what] = _our_decode(ours, graph, sampler, tokens, case.blocks)
        theirs_call = functools.partial(
            their_decode, torch, theirs, tokens, vocab.frame_start, temperature
        )
        calls |= {(what, "ours"): ours_call, (what, "torchscale"): theirs_call}
    ids = np.array(calls["greedy", "ours"]())
    begin = time.perf_counter()
    compiled = network.lower(ours, ids, graph=graph).compile()
    compiling["network"] = time.perf_counter() - begin
    calls["network", "ours"] = functools.partial(compiled, ours, ids)
    calls["network", "torchscale"] = functools.partial(
        their_logits, torch, theirs, torch.as_tensor(ids, dtype=torch.long)
    )
    got, expected = (calls["network", side]() for side in ("ours", "torchscale"))
    difference = float(np.abs(np.asarray(got) - torch.stack(expected, dim=1).numpy()).max())
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"{label}: logits must agree to {_TOLERANCE:g} and differ by {difference:.1e}: the "
            "two do not compute the same thing, so their times mean nothing"
        )
    same = float((calls["greedy", "torchscale"]().numpy() == ids)[tokens == FREE].mean())
    with tqdm(total=len(calls) * (repeats + 1), desc=label, unit="call") as bar:

        def counted(call):
            bar.update()
            return call()

        shown = {key: functools.partial(counted, call) for key, call in calls.items()}
        seconds = in_turns(shown, repeats)
    per_token = {key: value / case.tokens for key, value in seconds.items()}
    return [
        {
            "what": what,
            "ours_seconds_per_token": per_token[what, "ours"],
            "torchscale_seconds_per_token": per_token[what, "torchscale"],
            "ratio": per_token[what, "torchscale"] / per_token[what, "ours"],
            "compile_seconds": compiling[what],
            "logit_difference": difference,
            "same_greedy_ids": same,
        }
        for what in ("network", "greedy", "sampled")
    ]


def _tokens(case: Case, batch: int) -> Int[np.ndarray, "B T"]:
    """A key-frame sequence whose frames are all to be sampled, with random text."""
    vocab, sequence = Vocab(case.sequence), case.sequence
    shape = (batch, sequence.text_tokens)
    text = np.random.default_rng(0).integers(vocab.text_start, vocab.serial_start, shape)
    frames = np.full((batch, case.blocks, sequence.frame_tokens), FREE, np.int32)
    return pack(text.astype(np.int32), frames, key_frame_serials(case.blocks), sequence)


def _our_decode(
    params: Any, graph: nnx.GraphDef, sampler: Sampler, tokens: np.ndarray, blocks: int
) -> tuple[Callable[[], Array], float]:
    """A call that decodes `tokens`, and the seconds of compiling it."""
    model, guesses = nnx.merge(graph, params), drafts.nothing(blocks, sampler.sequence)
    # One for every call: decoding takes its state away.
    begin_state = jax.jit(lambda: start(model, sampler, [(row,) for row in range(len(tokens))]))
    begin = time.perf_counter()
    lowered = decode.lower(params, begin_state(), tokens, guesses, graph=graph, sampler=sampler)
    compiled = lowered.compile()
    seconds = time.perf_counter() - begin
    return lambda: compiled(params, begin_state(), tokens, guesses)[0], seconds


def _table(values: dict[str, Any]) -> str:
    rows = values["rows"]
    cells = [
        [
            row["network"], row["batch"], row["what"],
            f"{row['ours_seconds_per_token'] * 1e3:.3f}",
            f"{row['torchscale_seconds_per_token'] * 1e3:.3f}",
            f"{row['ratio']:.2f}", f"{row['compile_seconds']:.1f}",
            f"{row['logit_difference']:.1e}", f"{row['same_greedy_ids']:.1%}",
        ]
        for row in rows
    ]  # fmt: skip
    header = [
        "network", "batch", "what", "ours, ms/token", "torchscale, ms/token", "times faster",
        "compiling, s", "logits differ by", "same greedy ids",
    ]  # fmt: skip
    sizes = {row["network"]: row["parameters"] for row in rows}
    about = "; ".join(
        f"{name}: {sizes[name]:,} parameters on both sides, width {c['width']}, {c['layers']} "
        f"layers, {c['heads']} heads, V = {c['value_width']}, F = {c['hidden']}, "
        f"{c['tokens']:,} tokens"
        for name, c in values["networks"].items()
    )
    least = min(row["ratio"] for row in rows if row["batch"] == 1)
    return (
        f"{about}. PyTorch {values['torch']} with {values['torch_threads']} threads, "
        f"{values['cores']} cores.\n\n{markdown(header, cells)}\n"
        f"Least at batch 1: {least:.2f} times faster (goal: {_GOAL:g}).\n"
    )
