"""torchscale's RetNetDecoder checkpoints: weights, options and logits, form by form.

    net = load("weights.safetensors", "config.json", dtype="float64")
    net.logits(tokens)                                    # ours: one normalizer, all forms agree
    net.logits(tokens, abs_sum_norm=True)                 # torchscale's parallel form
    net.logits(tokens, "chunkwise", 16, abs_sum_norm=True)  # torchscale's chunkwise form

torchscale's three forms divide the retention by different things before the head norm, whose
epsilon sees it: their logits differ by up to 0.1. Ours follow its recurrent form; the flag
reproduces the other two (arXiv:2307.08621; microsoft/torchscale 4d1e0e8).
"""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fv_jax.config.registry import require_known
from fv_jax.models.layers import rms_normalize
from fv_jax.ops import retention
from fv_jax.ops.decay import inverse_root_sum, masked_powers
from fv_jax.ops.products import einsum, matmul
from fv_jax.ops.rope import apply_rope_interleaved

_ACTIVATIONS = {
    "swish": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "relu": jax.nn.relu,
}
# Options that change training or memory, not the numbers of a forward pass.
_WITHOUT_EFFECT = frozenset(
    "dropout drop_path_rate activation_dropout checkpoint_activations fsdp ddp_rank subln "
    "max_target_positions chunkwise_recurrent recurrent_chunk_size no_output_layer "
    "moe_top1_expert moe_expert_count moe_gating_use_fp32 moe_eval_capacity_token_fraction "
    "moe_second_expert_policy moe_normalize_gate_prob_before_dropping rel_pos_buckets max_rel_pos "
    "z_loss_coeff pad_token_id xpos_scale_base".split()
)
# Options that would change them in ways that are not supported, with the value that is.
_ONLY = {"moe_freq": 0, "use_xmoe": False, "multiway": False, "xpos_rel_pos": False}


@dataclasses.dataclass(frozen=True)
class TorchscaleConfig:
    """The options that shape a forward pass, by torchscale's names and with its defaults."""

    decoder_embed_dim: int = 768
    decoder_value_embed_dim: int = 1280
    decoder_retention_heads: int = 3
    decoder_ffn_embed_dim: int = 1280
    decoder_layers: int = 12
    decoder_normalize_before: bool = True
    activation_fn: str = "gelu"
    no_scale_embedding: bool = True
    layernorm_embedding: bool = False
    deepnorm: bool = False
    share_decoder_input_output_embed: bool = False
    layernorm_eps: float = 1e-6
    vocab_size: int = -1

    def __post_init__(self) -> None:
        require_known("activation_fn", self.activation_fn, _ACTIVATIONS)
        heads = self.decoder_retention_heads
        if self.decoder_embed_dim % (2 * heads) or self.decoder_value_embed_dim % heads:
            raise ValueError(
                f"decoder_embed_dim must be a multiple of 2 x {heads} heads and "
                f"decoder_value_embed_dim of {heads}, got {self.decoder_embed_dim} and "
                f"{self.decoder_value_embed_dim}"
            )

    @property
    def alpha(self) -> float:
        """Factor on the residual stream."""
        return (2.0 * self.decoder_layers) ** 0.25 if self.deepnorm else 1.0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that a checkpoint must hold (a tied head may be left out)."""
        d, v, f = self.decoder_embed_dim, self.decoder_value_embed_dim, self.decoder_ffn_embed_dim
        heads = self.decoder_retention_heads
        layer = {
            "retention.q_proj.weight": (d, d),
            "retention.k_proj.weight": (d, d),
            "retention.v_proj.weight": (v, d),
            "retention.g_proj.weight": (v, d),
            "retention.out_proj.weight": (d, v),
            "retention_layer_norm.weight": (d,),
            "ffn.fc1.weight": (f, d),
            "ffn.fc2.weight": (d, f),
            "ffn.gate.weight": (f, d),
            "final_layer_norm.weight": (d,),
        }
        whole = {
            "embed_tokens.weight": (self.vocab_size, d),
            "retnet_rel_pos.angle": (d // heads,),
            "retnet_rel_pos.decay": (heads,),
        }
        if not self.share_decoder_input_output_embed:
            whole["output_projection.weight"] = (self.vocab_size, d)
        if self.layernorm_embedding:
            whole["layernorm_embedding.weight"] = (d,)
        if self.decoder_normalize_before:
            whole["layer_norm.weight"] = (d,)
        for i in range(self.decoder_layers):
            whole |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
        return whole


@dataclasses.dataclass(frozen=True)
class Output:
    """What a forward pass yields.

    Attributes:
        logits: [B, T, V].
        hidden: residual stream after the embedding and after each layer, [L + 1, B, T, D].
        state: R of each layer after the last token, unnormalized, [L, B, H, K, E]; None with
            `abs_sum_norm`. torchscale's own state is R / sqrt(s_n), value axis first.
    """

    logits: Any
    hidden: Any
    state: Any


@dataclasses.dataclass(frozen=True)
class TorchscaleRetNet:
    """A loaded checkpoint.

    Attributes:
        config: its options.
        params: NumPy arrays by torchscale's names, without the two buffers.
        theta: angle per pair of channels, from the file's buffer.
        log_decay: log gamma per head, from the file's buffer.
        dtype: "float32" or "float64", of all maths.
    """

    config: TorchscaleConfig
    params: dict[str, np.ndarray]
    theta: tuple[float, ...]
    log_decay: tuple[float, ...]
    dtype: str

    def logits(
        self,
        tokens: Int[np.ndarray, "B T"],
        form: str = "parallel",
        chunk: int = 16,
        abs_sum_norm: bool = False,
    ) -> np.ndarray:
        """Logits [B, T, V] of whole sequences; see `forward`."""
        return self.forward(tokens, form, chunk, abs_sum_norm).logits

    def forward(
        self,
        tokens: Int[np.ndarray, "B T"],
        form: str = "parallel",
        chunk: int = 16,
        abs_sum_norm: bool = False,
    ) -> Output:
        """Run whole sequences in one form.

        Args:
            tokens: ids.
            form: of retention, one of `retention.FORMS`.
            chunk: tokens per chunk of the chunkwise form.
            abs_sum_norm: torchscale's extra divisor of the parallel and chunkwise forms.

        Raises:
            ValueError: an unknown form, or one without such a divisor for the flag; a chunk below
                1; ids out of range.
        """
        tokens = np.asarray(tokens)
        forms, flag = (retention.FORMS, "")
        if abs_sum_norm:
            forms, flag = _WITH_ABS_SUM, " with abs_sum_norm"
        require_known(f"form{flag}", form, forms)
        if chunk < 1:
            raise ValueError(f"chunk must be >= 1, got {chunk}")
        if tokens.ndim != 2 or not tokens.size:
            raise ValueError(f"tokens must be [B, T] with B, T >= 1, got shape {tokens.shape}")
        if not 0 <= tokens.min() <= tokens.max() < self.config.vocab_size:
            raise ValueError(
                f"tokens must be in 0..{self.config.vocab_size - 1}, "
                f"got {tokens.min()}..{tokens.max()}"
            )
        with jax.enable_x64(self.dtype == "float64"):
            run = functools.partial(self.apply, form=form, chunk=chunk, abs_sum_norm=abs_sum_norm)
            params = {name: jnp.asarray(value) for name, value in self.params.items()}
            values = jax.jit(run)(params, jnp.asarray(tokens, jnp.int32))
            return Output(*(None if v is None else np.asarray(v) for v in values))

    def apply(
        self,
        params: Mapping[str, Array],
        tokens: Int[Array, "B T"],
        *,
        form: str = "parallel",
        chunk: int = 16,
        abs_sum_norm: bool = False,
    ) -> tuple[Array, Array, Array | None]:
        """(logits, hidden, state) as a pure function, for gradients. See `Output`."""
        c = self.config
        x = params["embed_tokens.weight"][tokens]
        x = x if c.no_scale_embedding else x * c.decoder_embed_dim**0.5
        if c.layernorm_embedding:
            x = self._norm(x, params["layernorm_embedding.weight"])
        hidden, states = [x], []
        for i in range(c.decoder_layers):
            prefix = f"layers.{i}."
            layer = {k[len(prefix) :]: v for k, v in params.items() if k.startswith(prefix)}
            x, state = self._layer(layer, x, form, chunk, abs_sum_norm)
            hidden.append(x)
            states.append(state)
        if c.decoder_normalize_before:
            x = self._norm(x, params["layer_norm.weight"])
        tied = c.share_decoder_input_output_embed
        head = params["embed_tokens.weight" if tied else "output_projection.weight"]
        state = None if states[0] is None else jnp.stack(states)
        return matmul(x, head.T), jnp.stack(hidden), state

    def _layer(self, w: Mapping[str, Array], x: Array, form: str, chunk: int, abs_sum: bool):
        c = self.config
        before = c.decoder_normalize_before
        norm = lambda y, name: self._norm(y, w[f"{name}.weight"])
        y = norm(x, "retention_layer_norm") if before else x
        y, state = self._retention(w, y, form, chunk, abs_sum)
        x = c.alpha * x + y
        x = x if before else norm(x, "retention_layer_norm")
        y = norm(x, "final_layer_norm") if before else x
        times = lambda y, name: matmul(y, w[f"ffn.{name}.weight"].T)
        up = _ACTIVATIONS[c.activation_fn](times(y, "fc1"))
        x = c.alpha * x + times(up * times(y, "gate"), "fc2")
        return (x if before else norm(x, "final_layer_norm")), state

    def _retention(self, w: Mapping[str, Array], x: Array, form: str, chunk: int, abs_sum: bool):
        heads = self.config.decoder_retention_heads
        b, t, d = x.shape
        project = lambda name: matmul(x, w[f"retention.{name}_proj.weight"].T)
        split = lambda y: y.reshape(b, t, heads, -1)
        position = jnp.broadcast_to(jnp.arange(t), (b, t))
        theta = np.asarray(self.theta)
        q = apply_rope_interleaved(split(project("q")), position, theta)
        k = apply_rope_interleaved(split(project("k")) * (d // heads) ** -0.5, position, theta)
        v, g, decay = split(project("v")), project("g"), self.log_decay
        zero = retention.init_state(b, heads, q.shape[-1], v.shape[-1], q.dtype)
        start, length = jnp.zeros(b, jnp.int32), jnp.full(b, t, jnp.int32)
        options = {"chunk": chunk} if form == "chunkwise" else {}
        if abs_sum:
            y, state = _WITH_ABS_SUM[form](q, k, v, decay, **options), None
        else:
            run = retention.FORMS[form]
            y, state = run(q, k, v, decay, zero, start, length, **options)
        y = rms_normalize(y, self.config.layernorm_eps).reshape(b, t, -1)
        return matmul(jax.nn.silu(g) * y, w["retention.out_proj.weight"].T), state

    def _norm(self, x: Array, weight: Array) -> Array:
        return rms_normalize(x, self.config.layernorm_eps) * weight


def load(
    weights: str | os.PathLike,
    config: str | os.PathLike | Mapping[str, Any],
    dtype: str = "float32",
) -> TorchscaleRetNet:
    """Read a checkpoint.

    Args:
        weights: .safetensors, or a state dict saved by torch (.pt, .pth, .bin; needs torch).
        config: RetNetConfig's options: a mapping, or a JSON file of them (or one that holds them
            under "config").
        dtype: of all maths, "float32" or "float64".

    Raises:
        ValueError: an unknown or unsupported option; missing, unknown or misshapen tensors.
        FileNotFoundError: no such file.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    tensors = _read_weights(Path(weights))
    values = config if isinstance(config, Mapping) else _read_json(Path(config))
    values = dict(values.get("config", values))
    options = _options(values)
    if options.vocab_size < 0 and "embed_tokens.weight" in tensors:
        options = dataclasses.replace(options, vocab_size=len(tensors["embed_tokens.weight"]))
    expected = options.shapes()
    if options.share_decoder_input_output_embed:
        tensors.pop("output_projection.weight", None)
    missing = sorted(expected.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        parts = [f"misses {', '.join(missing)}"] * bool(missing)
        parts += [f"holds unknown {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"{weights} {' and '.join(parts)}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tensors[name].shape}")
    params = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    angle = params.pop("retnet_rel_pos.angle").astype(np.float64)
    decay = params.pop("retnet_rel_pos.decay").astype(np.float64)
    return TorchscaleRetNet(options, params, tuple(angle[::2]), tuple(decay), dtype)


def _options(values: Mapping[str, Any]) -> TorchscaleConfig:
    known = {field.name for field in dataclasses.fields(TorchscaleConfig)}
    unknown = sorted(set(values) - known - _WITHOUT_EFFECT - set(_ONLY))
    if unknown:
        raise ValueError(
            f"unknown torchscale option {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    for name, only in _ONLY.items():
        if values.get(name, only) != only:
            raise ValueError(f"option {name} must be {only!r} here, got {values[name]!r}")
    return TorchscaleConfig(**{name: values[name] for name in values if name in known})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(values).__name__}")
    return values


def _read_weights(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or no safetensors file ({error})") from error
    elif path.suffix in (".pt", ".pth", ".bin"):
        try:
            import torch  # type: ignore[import-not-found]
        except ImportError as error:
            raise ValueError(
                f"reading {path} needs torch; install it, or convert the file to safetensors"
            ) from error
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        loaded = loaded.get("model", loaded)
        # NumPy has no bfloat16 of its own; float32 holds every value of it.
        wide = lambda value: value if value.dtype == torch.float64 else value.float()
        tensors = {name: wide(value).numpy() for name, value in loaded.items()}
    else:
        raise ValueError(f"{path} must be .safetensors, .pt, .pth or .bin")
    return {name.removeprefix("decoder."): value for name, value in tensors.items()}


def _abs_sum_parallel(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: tuple[float, ...],
) -> Float[Array, "B T H E"]:
    """torchscale's parallel form: rows divided by clip(sum of |row|, 1, 5e4), without gradient.

    It keeps them in float16's range; the recurrent form cannot know that sum.
    """
    n = jnp.arange(q.shape[1])
    gamma = jnp.asarray(log_decay, q.dtype)
    powers = jnp.moveaxis(masked_powers(gamma, n[:, None] - n), -1, 0)  # [H, T, T]
    scores = einsum("bnhk,bmhk->bhnm", q, k) * powers
    scores = scores * inverse_root_sum(gamma, n).T[..., None]
    divisor = jnp.clip(jnp.sum(jnp.abs(scores), axis=-1, keepdims=True), 1, 5e4)
    return einsum("bhnm,bmhe->bnhe", scores / jax.lax.stop_gradient(divisor), v)


def _abs_sum_chunkwise(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: tuple[float, ...],
    chunk: int,
) -> Float[Array, "B T H E"]:
    """torchscale's chunkwise form, divisors and all.

    Within a chunk s_i counts from the chunk's start, the state is kept divided by s of a whole
    chunk, and both parts are divided by the larger of two absolute sums, without gradient.
    """
    b, t, heads, _ = q.shape
    chunks = -(-t // chunk)
    gamma = jnp.asarray(log_decay, q.dtype)
    i = jnp.arange(chunk)
    root = inverse_root_sum(gamma, i).T  # s_i^(-1/2), [H, S]
    whole = inverse_root_sum(gamma, i[-1:])[0] ** -2  # s of a chunk, [H]
    inner_decay = jnp.moveaxis(masked_powers(gamma, i[:, None] - i), -1, 0) * root[..., None]
    query_decay = masked_powers(gamma, i + 1).T * whole[:, None] * root  # [H, S]
    value_decay = masked_powers(gamma, chunk - 1 - i).T / whole[:, None]
    carry_decay = jnp.exp(gamma * chunk)[:, None, None]

    def split(x):  # [B, T, H, *] -> [chunks, B, H, S, *]
        x = jnp.pad(x, ((0, 0), (0, chunks * chunk - t), (0, 0), (0, 0)))
        return x.reshape(b, chunks, chunk, heads, -1).transpose(1, 0, 3, 2, 4)

    def body(carry, inputs):
        state, state_sum = carry
        q_c, k_c, v_c = inputs
        scores = einsum("bhik,bhjk->bhij", q_c, k_c) * inner_decay
        score_sum = jnp.maximum(jnp.sum(jnp.abs(scores), axis=-1, keepdims=True), 1)
        cross = einsum("bhik,bhke->bhie", q_c * query_decay[..., None], state)
        divisor = jax.lax.stop_gradient(jnp.maximum(score_sum, state_sum))
        y = (einsum("bhij,bhje->bhie", scores, v_c) + cross) / divisor
        added = einsum("bhjk,bhje->bhke", k_c * value_decay[..., None], v_c)
        state = state * carry_decay + added
        columns = jnp.sum(jnp.abs(state), axis=-2, keepdims=True)
        state_sum = jnp.maximum(jnp.max(columns, axis=-1, keepdims=True), 1)
        return (state, state_sum), y

    state = retention.init_state(b, heads, q.shape[-1], v.shape[-1], q.dtype)
    first = (state, jnp.ones((b, heads, 1, 1), q.dtype))
    _, y = jax.lax.scan(body, first, (split(q), split(k), split(v)))
    return y.transpose(1, 0, 3, 2, 4).reshape(b, chunks * chunk, heads, -1)[:, :t]


_WITH_ABS_SUM = {"parallel": _abs_sum_parallel, "chunkwise": _abs_sum_chunkwise}
