"""icetk: its own code's numbers (`fixtures/icetk`), and its interface with random weights."""

import inspect
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import tiny_icetk
import torch_file
from places import FIXTURES

from fv_jax.tokenizers import IceTokenizer
from fv_jax.tokenizers.icetk import network as icetk_network
from fv_jax.tokenizers.icetk import tokenizer as icetk
from fv_jax.tokenizers.icetk.network import IceConfig, attend, nearest

VECTORS = FIXTURES / "icetk"
ABOUT = json.loads((VECTORS / "config.json").read_text())
RATES = (4, 8, 16)
FIELDS = {
    "channels": 32, "channels_mult": [1, 1, 2], "enc_num_res_blocks": 1, "hidden_dim": 8,
    "embedding_dim": 6, "n_embed": 50,
}  # fmt: skip


def frames(count: int = 3, height: int = 32, width: int = 48) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# Parity


def assert_parity(tokenizer, vectors, case: str, rate: int, every: int = 1) -> None:
    """The bars of the vectors' README: ids equal, latents to 1e-3, pixels to 5e-5."""
    images, part = vectors[f"{case}/images_u8_nhwc"], f"{case}/rate{rate}"
    want, gap = vectors[f"{part}/ids"], vectors[f"{part}/gap"]
    got = tokenizer.encode(images, rate)
    # The gap says how much nearer the nearest code is than the second: a tie would show.
    assert np.array_equal(got, want), f"gaps where ids differ: {gap[got != want]}"
    latent = tokenizer.latent(images, rate)
    if f"{part}/z_e" in vectors:
        np.testing.assert_allclose(latent, vectors[f"{part}/z_e"], rtol=0, atol=1e-3)
    else:
        some = latent.ravel()[:: vectors[f"{part}/z_e_stride"]]
        np.testing.assert_allclose(some, vectors[f"{part}/z_e_every17"], rtol=0, atol=1e-3)
    assert_pixels(tokenizer, want, vectors[f"{part}/pixels01"], rate, every)


def assert_pixels(tokenizer, ids, pixels, rate: int, every: int = 1) -> None:
    want = pixels.transpose(0, 2, 3, 1)
    got = tokenizer.decode_float(ids[: len(want)], rate)[:, ::every, ::every]
    np.testing.assert_allclose(got, want, rtol=0, atol=5e-5)


@pytest.fixture(scope="module")
def small_tensors():
    about = ABOUT["small"]
    fields = {name: about[name] for name in FIELDS}
    config = IceConfig(**{**fields, "channels_mult": tuple(fields["channels_mult"])})
    tensors = tiny_icetk.tensors(config, about["weight_seed"])
    return {name: tensor.astype(np.float16) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def small(small_tensors):
    tokenizer = IceTokenizer.load(small_tensors, ABOUT["small"])
    return tokenizer, np.load(VECTORS / "vectors_small.npz")


@pytest.mark.parametrize(
    ("case", "rate"),
    [
        ("a32", 4), ("a32", 8), ("a32", 16),
        *(pytest.param("b64", rate, marks=pytest.mark.slow) for rate in RATES),
    ],
)  # fmt: skip
def test_the_small_network_gives_icetks_numbers(small, case, rate):
    assert_parity(*small, case, rate)


@pytest.mark.parametrize("rate", RATES)
def test_any_codes_decode_to_icetks_pixels(small, rate):
    tokenizer, vectors = small
    part = f"codes/rate{rate}"
    assert_pixels(tokenizer, vectors[f"{part}/ids"], vectors[f"{part}/pixels01"], rate)


@pytest.mark.slow
def test_batches_of_several_frames_give_icetks_numbers(small, monkeypatch):
    monkeypatch.setattr(icetk, "_frames_per_call", lambda pixels: 3)  # as on an accelerator
    assert_parity(*small, "a32", 8)


@pytest.mark.slow
def test_the_full_network_gives_icetks_numbers():
    entry = ABOUT["full"]
    tensors = tiny_icetk.tensors(IceConfig(), entry["weight_seed"])
    assert {n: list(t.shape) for n, t in tensors.items()} == entry["shapes"]
    for name, first in entry["probe_first3"].items():
        np.testing.assert_allclose(tensors[name].ravel()[:3], first, rtol=1e-7)
    tokenizer, vectors = IceTokenizer.load(tensors), np.load(VECTORS / "vectors_full.npz")
    for rate in RATES:
        assert_parity(tokenizer, vectors, "f64", rate, every=2)


def test_a_torch_checkpoint_gives_the_same_ids(small, small_tensors, tmp_path):
    tokenizer, vectors = small
    torch_file.save(tmp_path / "ice_image.pt", {"module": small_tensors})
    fields = {name: getattr(tokenizer.config, name) for name in FIELDS}
    read = IceTokenizer.load(tmp_path / "ice_image.pt", fields)
    assert read.fingerprint() == tokenizer.fingerprint()
    images = vectors["a32/images_u8_nhwc"]
    np.testing.assert_array_equal(read.encode(images), vectors["a32/rate8/ids"])


# The interface


@pytest.mark.parametrize("rate", RATES)
def test_shapes_dtypes_and_range(rate):
    tokenizer, given = tiny_icetk.tokenizer(), frames()
    ids = tokenizer.encode(given, rate)
    assert (ids.shape, ids.dtype) == ((3, 32 // rate, 48 // rate), np.int32)
    assert 0 <= ids.min() < ids.max() < tokenizer.codebook_size == 50
    pixels = tokenizer.decode_float(ids, rate)
    assert (pixels.shape, pixels.dtype) == (given.shape, np.float32)
    decoded = tokenizer.decode(ids, rate)
    assert (decoded.shape, decoded.dtype) == (given.shape, np.uint8)
    assert pixels.min() < 0 or pixels.max() > 1  # not clipped
    np.testing.assert_allclose(decoded / 255, np.clip(pixels, 0, 1), atol=0.5001 / 255)


def test_the_rate_is_8_if_not_given():
    tokenizer, given = tiny_icetk.tokenizer(), frames()
    assert tokenizer.downsample == 8
    ids = tokenizer.encode(given)
    np.testing.assert_array_equal(ids, tokenizer.encode(given, 8))
    np.testing.assert_array_equal(tokenizer.decode(ids), tokenizer.decode(ids, 8))


def test_a_frames_ids_do_not_depend_on_its_batch(monkeypatch):
    tokenizer, given = tiny_icetk.tokenizer(), frames(5)
    alone = np.concatenate([tokenizer.encode(frame[None]) for frame in given])
    monkeypatch.setattr(icetk, "_frames_per_call", lambda pixels: 2)
    np.testing.assert_array_equal(tokenizer.encode(given), alone)
    assert tokenizer.encode(given[:0]).shape == (0, 4, 6)


def test_an_accelerator_takes_several_frames_per_call(monkeypatch):
    assert icetk._frames_per_call(160 * 160) == 1
    monkeypatch.setattr(icetk.jax, "default_backend", lambda: "gpu")
    assert [icetk._frames_per_call(side**2) for side in (80, 160, 480, 1024)] == [64, 16, 1, 1]


def test_clips_of_any_lengths_and_sizes_are_encoded_frame_by_frame():
    tokenizer = tiny_icetk.tokenizer()
    clips = [frames(2), frames(1, 16, 16), frames(3)[1:], frames(0), frames(2, 16, 16)[1:]]
    ids = tokenizer.encode_clips(clips)
    assert [i.shape for i in ids] == [(2, 4, 6), (1, 2, 2), (2, 4, 6), (0, 4, 6), (1, 2, 2)]
    for clip, got in zip(clips, ids):
        np.testing.assert_array_equal(got, tokenizer.encode(clip))
    assert tokenizer.encode_clips([]) == []


def test_an_id_may_depend_on_any_pixel_of_its_frame():
    tokenizer, given = tiny_icetk.tokenizer(), frames(1)
    assert tokenizer.reach > max(given.shape)
    changed = given.copy()
    changed[:, :8, :8] = 255 - changed[:, :8, :8]
    differ = tokenizer.latent(given) != tokenizer.latent(changed)
    assert differ[0, -1, -1].any()


def test_attention_in_chunks_is_attention(monkeypatch):
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 11, 6)).astype(np.float32)
    scores = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(6))
    want = scores / scores.sum(-1, keepdims=True) @ v
    for size in (4, 1024):
        monkeypatch.setattr(icetk_network, "_QUERIES", size)
        np.testing.assert_allclose(attend(*map(jnp.asarray, (q, k, v))), want, atol=1e-5)


def test_the_nearest_code_is_found_in_chunks_and_of_equals_the_first(monkeypatch):
    rng = np.random.default_rng(0)
    codes, z = rng.normal(size=(37, 5)), rng.normal(size=(2, 3, 4, 5))
    codes[[3, 20, 36]] = z[0, 0, 0]  # equally near, in three chunks
    codes, z = codes.astype(np.float32), z.astype(np.float32)
    want = np.argmin(np.square(z[..., None, :] - codes).sum(-1), axis=-1)
    for size in (8, 2048):
        monkeypatch.setattr(icetk_network, "_CODES", size)
        ids = nearest(jnp.asarray(z), jnp.asarray(codes))
        assert ids.dtype == np.int32
        assert ids[0, 0, 0] == 3
        np.testing.assert_array_equal(ids, want)


# Files


def test_saved_weights_load_to_the_same_tokenizer(tmp_path):
    tokenizer, path = tiny_icetk.tokenizer(), tmp_path / "ice.safetensors"
    tokenizer.save(path)
    loaded = IceTokenizer.load(path)
    assert loaded.config == tokenizer.config
    assert loaded.fingerprint() == tokenizer.fingerprint()
    np.testing.assert_array_equal(loaded.encode(frames()), tokenizer.encode(frames()))
    assert [p.name for p in tmp_path.iterdir()] == ["ice.safetensors"]
    with safetensors.safe_open(path, "numpy") as file:
        assert json.loads(file.metadata()["icetk"]) == FIELDS
        assert set(file.keys()) == set(tiny_icetk.tensors()) - {
            "quantize.embed_avg", "quantize.cluster_size",
        }  # fmt: skip


def test_tensors_are_saved_as_float16_where_that_is_exact(tmp_path):
    tensors = {k: v.astype(np.float16) for k, v in tiny_icetk.tensors().items()}
    tensors["enc.conv_in.bias"] = tiny_icetk.tensors()["enc.conv_in.bias"]
    tensors["enc.conv_out.bias"] = np.full(8, 1e6, np.float32)  # beyond float16
    IceTokenizer.load(tensors, FIELDS).save(tmp_path / "ice.safetensors")
    saved = safetensors.numpy.load_file(tmp_path / "ice.safetensors")
    wide = {name for name, tensor in saved.items() if tensor.dtype == np.float32}
    assert wide == {"enc.conv_in.bias", "enc.conv_out.bias"}
    for name, tensor in saved.items():
        np.testing.assert_array_equal(tensor, tensors[name])


def test_the_fingerprint_changes_with_config_and_weights():
    tensors = tiny_icetk.tensors()
    moved = {**tensors, "enc.conv_in.bias": tensors["enc.conv_in.bias"] + 1e-3}
    fewer = {k: v[:49] if k.startswith("quantize.") and len(v) == 50 else v
             for k, v in tensors.items()}  # fmt: skip
    prints = {
        IceTokenizer.load(tensors, FIELDS).fingerprint(),
        IceTokenizer.load(moved, FIELDS).fingerprint(),
        IceTokenizer.load(fewer, {**FIELDS, "n_embed": 49}).fingerprint(),
    }
    assert len(prints) == 3
    assert all(len(p) == 12 and int(p, 16) >= 0 for p in prints)
    bare = {k: v for k, v in tensors.items() if k not in ("quantize.embed_avg",)}
    assert IceTokenizer.load(bare, FIELDS).fingerprint() in prints


def test_a_torch_checkpoint_may_be_bare_or_under_module(tmp_path):
    want = tiny_icetk.tokenizer().fingerprint()
    for name, value in (("a.pt", tiny_icetk.tensors()), ("b.pt", {"module": tiny_icetk.tensors()})):
        torch_file.save(tmp_path / name, value)
        assert IceTokenizer.load(tmp_path / name, FIELDS).fingerprint() == want


def test_icetks_own_size_is_the_default():
    with pytest.raises(ValueError, match=r"conv_in\.bias must have shape \(512,\), got \(64,\)"):
        IceTokenizer.load(tiny_icetk.tensors())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enc.conv_in.bias": None}, r"misses 1 tensors, e\.g\. enc\.conv_in\.bias"),
        ({"other.weight": np.zeros(3)}, r"unknown 1 tensors, e\.g\. other\.weight"),
        ({"enc.conv_in.bias": np.zeros(3)}, r"enc\.conv_in\.bias must have shape \(32,\), got"),
        ({"quantize.cluster_size": np.zeros(3)}, r"cluster_size must have shape \(50,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(changes, message):
    tensors = {**tiny_icetk.tensors(), **changes}
    with pytest.raises(ValueError, match=f"the mapping of weights does not fit.*{message}"):
        IceTokenizer.load({k: v for k, v in tensors.items() if v is not None}, FIELDS)


def test_a_missing_file_says_which_files_there_are_and_whence(tmp_path):
    for weights, text, missing in (
        (tmp_path / "ice_image.pt", None, r"ice_image\.pt: icetk needs"),
        (tiny_icetk.tensors(), tmp_path / "ice_text.model", r"ice_text\.model: icetk needs"),
    ):
        with pytest.raises(FileNotFoundError, match=missing) as caught:
            IceTokenizer.load(weights, FIELDS, text)
        for word in ("ice_image.pt", "410 MB", "ice_text.model", "~/.icetk_models"):
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_embed": None}, r"missing: \['n_embed'\]"),
        ({"channels": 48}, "multiple of 32, got 48"),
        ({"channels_mult": [1, 2]}, r"three factors >= 1, got \(1, 2\)"),
        ({"hidden_dim": 0}, "hidden_dim must be >= 1, got 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change, message):
    values = {k: v for k, v in {**FIELDS, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        IceTokenizer.load(tiny_icetk.tensors(), values)


def test_another_config_than_the_files_is_refused(tmp_path):
    tiny_icetk.tokenizer().save(tmp_path / "ice.safetensors")
    assert (
        IceTokenizer.load(tmp_path / "ice.safetensors", {**FIELDS, "note": 1}).codebook_size == 50
    )
    with pytest.raises(ValueError, match=r"ice\.safetensors is of IceConfig.*got the config"):
        IceTokenizer.load(tmp_path / "ice.safetensors", {**FIELDS, "n_embed": 49})


# Bad calls


@pytest.mark.parametrize(
    ("given", "rate", "message"),
    [
        (np.zeros((1, 64, 60, 3), np.uint8), 8, "multiples of 8 px, got 64x60"),
        (np.zeros((1, 0, 64, 3), np.uint8), 4, "multiples of 4 px, got 0x64"),
        (np.zeros((64, 64, 3), np.uint8), 8, r"uint8 \[B, Y, X, 3\], got uint8 \[64, 64, 3\]"),
        (np.zeros((1, 64, 64, 4), np.uint8), 8, r"got uint8 \[1, 64, 64, 4\]"),
        (np.zeros((1, 64, 64, 3)), 8, r"got float64 \[1, 64, 64, 3\]"),
        (np.zeros((1, 64, 64, 3), np.uint8), 5, "rate must be 4, 8 or 16, got 5"),
    ],
)
def test_frames_of_a_wrong_kind_are_refused(given, rate, message):
    tokenizer = tiny_icetk.tokenizer()
    # Without the tests' own check of annotations, which would come first.
    for method in (IceTokenizer.encode, IceTokenizer.latent):
        with pytest.raises(ValueError, match=message):
            inspect.unwrap(method)(tokenizer, given, rate)
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(IceTokenizer.encode_clips)(tokenizer, [frames(1), given], rate)


@pytest.mark.parametrize(
    ("ids", "rate", "message"),
    [
        (np.array([[[0, -1]]]), 8, r"0\.\.49, got -1\.\.0"),
        (np.array([[[0, 50]]]), 8, r"0\.\.49, got 0\.\.50"),
        (np.zeros((4, 4), np.int32), 8, r"\[B, h, w\], got int32 \[4, 4\]"),
        (np.zeros((1, 4, 0), np.int32), 8, r"got int32 \[1, 4, 0\]"),
        (np.zeros((1, 4, 4)), 8, "got float64"),
        (np.zeros((1, 4, 4), np.int32), 2, "rate must be 4, 8 or 16, got 2"),
    ],
)
def test_ids_of_a_wrong_kind_are_refused(ids, rate, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(IceTokenizer.decode_float)(tiny_icetk.tokenizer(), ids, rate)


def test_text_needs_a_text_model():
    with pytest.raises(ValueError, match="no text model"):
        tiny_icetk.tokenizer().encode_text("a")


# The package icetk itself, where the extra of that name is installed


@pytest.fixture(scope="module")
def theirs():
    """icetk, with a protobuf that its own generated file cannot be imported with."""
    from sentencepiece import sentencepiece_model_pb2

    sys.modules["icetk.sentencepiece_model_pb2"] = sentencepiece_model_pb2
    pytest.importorskip("torch", reason="the extra icetk is not installed")
    return pytest.importorskip("icetk", reason="the extra icetk is not installed").icetk


@pytest.mark.slow
def test_ids_and_pixels_are_those_of_the_package_itself(theirs, tmp_path):
    import torch

    tensors = tiny_icetk.tensors(IceConfig(), seed=5)
    module = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    torch.save({"module": module}, tmp_path / "ice_image.pt")
    theirs.configure(path=str(tmp_path), device="cpu", fp16=False)
    ours = IceTokenizer.load(tmp_path / "ice_image.pt")
    given = frames(2, 64, 64)
    pixels = torch.from_numpy(given.transpose(0, 3, 1, 2)) / 255
    for rate in RATES:
        want = theirs.encode(image_torch=pixels, compress_rate=rate)
        ids = ours.encode(given, rate)
        np.testing.assert_array_equal(ids.reshape(2, -1), want.numpy())
        decoded = theirs.decode(image_ids=torch.from_numpy(ids).long(), compress_rate=rate)
        got = ours.decode_float(ids, rate)
        np.testing.assert_allclose(got, decoded.numpy().transpose(0, 2, 3, 1), rtol=0, atol=5e-5)
