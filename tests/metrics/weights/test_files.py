"""Files of weights: read whatever they are called, refused by what they are, converted, known.

The published weights of I3D are not here. Where a test needs some, the random ones play their
part: their own checksums take the place of the published ones.
"""

import functools
import hashlib
import json

import google_crc32c
import numpy as np
import pytest
import random_i3d
import reference_metrics
import torch_file
from safetensors.numpy import load_file, save_file

from fv_jax.cli.main import main
from fv_jax.metrics import I3D, LPIPS
from fv_jax.metrics.weights import files as weights
from fv_jax.metrics.weights import i3d as i3d_weights
from fv_jax.metrics.weights import lpips as lpips_weights
from fv_jax.metrics.weights.files import content_hash, convert, origin, read_tensors
from fv_jax.metrics.weights.i3d import _Checksum, complete, verdict


def without_gains():
    """As TensorFlow has them: batch norm does not scale."""
    return {k: v for k, v in random_i3d.weights().items() if not k.endswith("bn.weight")}


def rows(tensors, imagenet=None):
    """The checksums of these tensors, in TensorFlow's layout, one after the other."""
    made, offset = [], 0
    for torch_name, tensor in sorted(tensors.items()):
        layout = i3d_weights._in_tensorflow(tensor)
        crcs = [
            f"{google_crc32c.value(i3d_weights._in_tensorflow(t[torch_name]).tobytes()):08x}"
            for t in (tensors, imagenet or tensors)
        ]
        crcs[1] = crcs[1] if imagenet else "00000000"
        kind = "batch_norm" if ".bn." in torch_name else "conv_3d"
        shape = [1, 1, 1, 1, *layout.shape] if kind == "batch_norm" else list(layout.shape)
        made.append(_Checksum(f"{torch_name}/{kind}", torch_name, shape, offset, *crcs))
        offset += layout.nbytes
    return made


@pytest.fixture
def published(monkeypatch):
    """Weights that count as the published ones in this test."""
    monkeypatch.setattr(i3d_weights, "_checksums", published_rows)
    return without_gains()


@functools.cache
def published_rows():
    return rows(without_gains())


def alexnet():
    return {
        name: np.full(shape, (i + 1) / np.prod(shape), np.float32)
        for i, (name, shape) in enumerate(lpips_weights._trunk_shapes("alexnet").items())
    }


def heads(net="alexnet"):
    shapes = lpips_weights._head_shapes(net)
    return {name: np.full(shape, 0.1, np.float32) for name, shape in shapes.items()}


# --- The table of published checksums


def test_the_published_checksums_are_of_this_network():
    table = i3d_weights._checksums()
    want = {k: v for k, v in i3d_weights.shapes().items() if not k.endswith("bn.weight")}
    assert len(table) == 230
    assert {row.torch for row in table} == want.keys()
    assert i3d_weights.tensorflow_bytes() == 50_818_176
    end = 0
    for row in table:
        assert row.offset == end
        end += 4 * int(np.prod(row.shape))
        layout = [s for s in row.shape if s != 1] if "batch_norm" in row.tensorflow else row.shape
        shape = want[row.torch]
        assert tuple(layout) == (shape if len(shape) < 5 else (*shape[2:], shape[1], shape[0]))
        assert row.crc32c != row.crc32c_rgb_imagenet


def test_the_table_of_published_checksums_stays_as_it_is():
    rows = json.dumps([tuple(row) for row in i3d_weights._checksums()])
    digest = hashlib.sha256(rows.encode()).hexdigest()
    assert digest == "333af333cbebc48cb08a9a07ddcb098d28281c0d4959693600bf0b4df27e8adf"


# --- Which I3D


def test_random_weights_are_not_the_published_ones():
    found = random_i3d.network().verdict
    assert not found.verified
    assert "230 of 230 tensors are others, 57 bn.weight are not 1" in found.text


def test_the_published_weights_are_known_bit_by_bit(published):
    tensors = complete(published, "a.pt")
    assert verdict(tensors, "a.pt").verified
    name = "Mixed_4c.b1b.conv3d.weight"
    changed = tensors | {name: tensors[name].copy()}
    changed[name][3, 2, 1, 0, 1] += 1e-6
    found = verdict(changed, "a.pt")
    assert not found.verified
    assert f"1 of 230 tensors are others, e.g. {name}" in found.text
    gain = "Mixed_4c.b1b.bn.weight"
    assert not verdict(tensors | {gain: tensors[gain] * 1.5}, "a.pt").verified


def test_the_i3d_of_imagenet_is_refused(monkeypatch):
    other = {name: tensor + 1 for name, tensor in without_gains().items()}
    made = rows(other, imagenet=without_gains())
    monkeypatch.setattr(i3d_weights, "_checksums", lambda: made)
    with pytest.raises(ValueError, match=r"b\.pt is the wrong I3D: rgb_imagenet"):
        verdict(complete(without_gains(), "b.pt"), "b.pt")


def test_other_relatives_of_i3d_are_refused_by_name():
    tensors = random_i3d.weights()
    flow = tensors | {"Conv3d_1a_7x7.conv3d.weight": np.zeros((64, 2, 7, 7, 7), np.float32)}
    with pytest.raises(ValueError, match=r"a\.pt is I3D for optical flow; FVD needs .* RGB"):
        complete(flow, "a.pt")
    more = tensors | {"logits.conv3d.bias": np.zeros(600, np.float32)}
    with pytest.raises(ValueError, match="600 classes; FVD needs the 400"):
        complete(more, "a.pt")


def test_unfit_tensors_are_named():
    tensors = dict(random_i3d.weights())
    del tensors["Mixed_3b.b0.bn.bias"]
    tensors["fc.weight"] = np.zeros(3)
    tensors["Mixed_3b.b0.bn.running_var"] = np.ones(3)
    with pytest.raises(
        ValueError,
        match=r"misses 1 tensors, e.g. Mixed_3b\.b0\.bn\.bias; it has unknown 1 .*fc\.weight; "
        r"Mixed_3b\.b0\.bn\.running_var must have shape \(64,\), got \(3,\)",
    ):
        complete(tensors, "a.pt")
    nan = random_i3d.weights() | {"logits.conv3d.bias": np.full(400, np.nan)}
    with pytest.raises(ValueError, match=r"logits\.conv3d\.bias holds NaN"):
        complete(nan, "a.pt")
    negative = random_i3d.weights() | {"Mixed_3b.b0.bn.running_var": -np.ones(64)}
    with pytest.raises(ValueError, match=r"Mixed_3b\.b0\.bn\.running_var must be > 0, got -1"):
        I3D.load(negative)


def test_counters_of_batches_are_ignored_and_missing_gains_are_1():
    tensors = without_gains() | {"Mixed_3b.b0.bn.num_batches_tracked": np.array(7)}
    whole = complete(tensors, "a.pt")
    assert whole.keys() == i3d_weights.shapes().keys()
    assert all((whole[name] == 1).all() for name in whole if name.endswith("bn.weight"))


def test_batch_norm_is_folded_with_the_epsilon():
    tensors = random_i3d.weights()
    for epsilon in (1e-3, 1e-5):
        kernel, bias = i3d_weights.folded(tensors, epsilon)["Mixed_3b.b1b"]
        leaf = lambda name: tensors[f"Mixed_3b.b1b.{name}"].astype(float)
        scale = leaf("bn.weight") / np.sqrt(leaf("bn.running_var") + epsilon)
        expected = leaf("conv3d.weight").transpose(2, 3, 4, 1, 0) * scale
        np.testing.assert_allclose(kernel, expected, rtol=3e-7)
        shift = leaf("bn.bias") - leaf("bn.running_mean") * scale
        np.testing.assert_allclose(bias, shift, rtol=1e-6, atol=1e-7)


# --- Files


def test_every_kind_of_file_gives_the_same_tensors(tmp_path):
    tensors = alexnet() | {"classifier.6.bias": np.zeros(3, np.float16)}
    torch_file.save(tmp_path / "a.npz", tensors)  # suffixes do not matter
    torch_file.save_old(tmp_path / "b.pth", {"state_dict": tensors})
    np.savez(tmp_path / "c.npz", **tensors)
    save_file(tensors, tmp_path / "d.safetensors")
    for name in ("a.npz", "b.pth", "c.npz", "d.safetensors"):
        got, _ = read_tensors(tmp_path / name, "weights are needed")
        assert got.keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert got[key].dtype == tensor.dtype
            np.testing.assert_array_equal(got[key], tensor)


def test_tensorflows_own_file_is_read(tmp_path, published):
    path = tmp_path / "model.ckpt.data-00000-of-00001"
    with path.open("wb") as file:
        for row in i3d_weights._checksums():
            file.write(i3d_weights._in_tensorflow(published[row.torch]).tobytes())
    assert path.stat().st_size == 50_818_176
    tensors, _ = read_tensors(path, "weights are needed")
    assert tensors.keys() == published.keys()
    assert all(np.array_equal(tensors[name], published[name]) for name in published)
    i3d = I3D.load(path)
    assert i3d.verdict.verified
    kernel, _ = i3d.convolutions["logits"]
    expected = published["logits.conv3d.weight"].transpose(2, 3, 4, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", r"is a web page.* \(21 bytes, the first b'<!DOCTYP'\)"),
        (b"PK\x03\x04" + bytes(60), "is truncated"),
        (b"\x93NUMPY\x01\x00", "one array without a name"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"\x80\x04\x95....", "is a pickle, which could run anything"),
        (b"\x12\x34 something", "of no known kind"),
        (bytes([200, 0, 0, 0, 0, 0, 0, 0]) + b'{"a": ', "damaged or no safetensors"),
    ],
)
def test_files_of_something_else_say_what_they_are(tmp_path, content, message):
    path = tmp_path / "i3d_pretrained_400.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"i3d_pretrained_400\.pt .*{message}") as error:
        I3D.load(path)
    if "safetensors" not in message:
        for word in ("FVD needs I3D", "a867b87ac3a9", "rgb_scratch", "50,818,176"):
            assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_another_file_of_the_size_of_tensorflows_is_no_weights(tmp_path):
    path = tmp_path / "noise.data"
    for start in (b"\xff" * 8, b"\x01" * 8):  # NaN; numbers, but then variances of 0
        with path.open("wb") as file:
            file.write(start)
            file.truncate(50_818_176)
        with pytest.raises(
            ValueError, match=r"noise\.data has the size .* not its content"
        ) as error:
            I3D.load(path)
        assert len(str(error.value)) < len(str(path)) + 150


def test_a_program_of_torch_is_not_run(tmp_path):
    torch_file.save(tmp_path / "a.pt", {}, **{"constants.pkl": b"\x80\x02)."})
    with pytest.raises(ValueError, match=r"TorchScript program.*not run.*i3d_pretrained_400"):
        I3D.load(tmp_path / "a.pt")


def test_a_pickle_of_anything_else_is_refused(tmp_path):
    made = tmp_path / "made"
    call = torch_file.Call("os", "system", (f"touch {made}",))
    for save in (torch_file.save, torch_file.save_old):
        save(tmp_path / "a.pt", {"w": np.zeros(3, np.float32), "x": call})
        with pytest.raises(ValueError, match=r"asks for os\.system.*refused"):
            I3D.load(tmp_path / "a.pt")
    assert not made.exists()


def test_arrays_of_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"a\.npz is damaged or no npz"):
        I3D.load(tmp_path / "a.npz")


def test_folders_and_missing_files_say_what_belongs_there(tmp_path):
    with pytest.raises(ValueError, match="is a folder, not a file: FVD needs"):
        I3D.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.pt: FVD needs I3D"):
        I3D.load(tmp_path / "none.pt")


# --- Converting


def test_i3d_is_converted_and_known_again(tmp_path, published, capsys, monkeypatch):
    monkeypatch.setattr(I3D, "smoke_value", lambda self: 500.0)
    torch_file.save(tmp_path / "i3d.pt", published | {"a.num_batches_tracked": np.array(3)})
    assert (
        main(["convert-weights", str(tmp_path / "i3d.pt"), str(tmp_path / "i3d.safetensors")]) == 0
    )
    said = capsys.readouterr()
    assert "I3D, 287 tensors, 12,711,824 numbers; the published I3D of Kinetics-400" in said.out
    assert "FVD 500.00 here, 569.23 by the common tool" in said.out
    assert "do not trust" in said.err
    tensors = load_file(tmp_path / "i3d.safetensors")
    assert tensors.keys() == i3d_weights.shapes().keys()
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    i3d, record = I3D.published(tmp_path / "i3d.safetensors")
    assert i3d.verdict.verified
    assert record["verified"]
    assert record["smoke"]["value"] == 500
    assert "do not trust" in record["cautions"][0]
    digest = hashlib.sha256((tmp_path / "i3d.safetensors").read_bytes()).hexdigest()
    assert (record["sha256"], record["path"]) == (digest, str(tmp_path / "i3d.safetensors"))
    json.dumps(record)


def test_converting_keeps_the_word_of_the_first_file(tmp_path, monkeypatch, capsys):
    torch_file.save(tmp_path / "alexnet.pth", alexnet() | {"classifier.1.bias": np.zeros(9)})
    digest = hashlib.sha256((tmp_path / "alexnet.pth").read_bytes()).hexdigest()
    known = (weights._Known("alexnet-mine.pth", digest[:8]),)
    monkeypatch.setattr(weights, "_KNOWN", known)
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert "as published (alexnet-mine.pth)" in convert(tmp_path / "alexnet.pth", first).text
    assert "as published (alexnet-mine.pth)" in convert(first, second).text
    tensors, header = read_tensors(second, "")
    assert tensors.keys() == alexnet().keys()
    assert origin(second, header, tensors).known == "alexnet-mine.pth"
    # Other tensors under the same header are not believed.
    tensors["features.0.bias"] = tensors["features.0.bias"] + 1
    save_file(tensors, second, metadata=header)
    assert origin(second, header, tensors).known == ""
    assert "of no known published file" in convert(second, tmp_path / "c.safetensors").text


def test_heads_are_converted_too(tmp_path):
    for net in ("alexnet", "vgg16"):
        torch_file.save_old(tmp_path / "heads.pth", heads(net))
        made = convert(tmp_path / "heads.pth", tmp_path / "heads.safetensors")
        assert f"LPIPS heads of {net}, 5 tensors" in made.text
        assert not made.verified
        assert load_file(tmp_path / "heads.safetensors").keys() == heads(net).keys()
    torch_file.save_old(tmp_path / "heads.pth", {"lin0.model.1.weight": np.zeros((1, 64, 1, 1))})
    with pytest.raises(ValueError, match="neither of AlexNet nor of VGG16, but 1 of"):
        convert(tmp_path / "heads.pth", tmp_path / "heads.safetensors")


def test_the_published_heads_are_known_by_their_bytes():
    path = reference_metrics.LPIPS_HEADS
    tensors, header = read_tensors(path, "")
    assert origin(path, header, tensors).known == ""  # a copy that says nothing of its origin
    hashes = {file.name: file.sha256 for file in weights._KNOWN}
    assert hashes["alex.pth"].startswith("df73285e")
    assert hashes["vgg.pth"].startswith("a78928a0")


def test_git_blob_and_sha256_are_of_the_file(tmp_path):
    (tmp_path / "a").write_bytes(b"hello\n")
    came = origin(tmp_path / "a", {}, {})
    assert came.git_blob == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert came.sha256.startswith("5891b5b522d5df08")
    assert (came.bytes, came.known) == (6, "")


def test_content_counts_whatever_the_order_and_type():
    tensors = alexnet()
    turned = dict(reversed(tensors.items()))
    assert content_hash(tensors) == content_hash({k: v.astype(float) for k, v in turned.items()})
    assert content_hash(tensors) != content_hash(tensors | {"features.0.bias": np.ones(64)})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["none.pt", "a.safetensors"], ["none.pt", "fv convert-weights --help"]),
        (["other.npz", "a.safetensors"], ["neither I3D", "AlexNet", "but fc.weight"]),
        (["page.pt", "a.safetensors"], ["page.pt is a web page"]),
        (["other.npz", "a.npz"], [".safetensors", "a.npz"]),
        (["other.npz"], ["convert-weights"]),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(tmp_path, capsys, args, words):
    np.savez(tmp_path / "other.npz", **{"fc.weight": np.zeros(3)})
    (tmp_path / "page.pt").write_text("<html></html>")
    before = sorted(tmp_path.iterdir())
    assert main(["convert-weights", *(str(tmp_path / arg) for arg in args)]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert all(word in error for word in words), error
    assert len(error) < 2 * len(str(tmp_path)) + 250
    assert sorted(tmp_path.iterdir()) == before


# --- Only the published ones


def test_unpublished_weights_need_leave(tmp_path):
    save_file(random_i3d.weights(), tmp_path / "mine.safetensors")
    with pytest.raises(
        ValueError, match=r"mine\.safetensors is not the published I3D.*--allow-unverified-weights"
    ):
        I3D.published(tmp_path / "mine.safetensors")
    i3d, record = I3D.published(
        tmp_path / "mine.safetensors", bn_epsilon=1e-5, allow_unverified=True
    )
    assert i3d.bn_epsilon == record["bn_epsilon"] == 1e-5
    assert not record["verified"]
    assert record["smoke"] is None  # there is nothing to compare it with
    assert "compare with nobody's" in record["cautions"][0]


@pytest.mark.parametrize(("value", "agrees"), [(569.5, True), (580.0, False)])
def test_a_smoke_value_that_is_off_is_told(tmp_path, published, monkeypatch, value, agrees):
    save_file(published, tmp_path / "i3d.safetensors")
    monkeypatch.setattr(I3D, "smoke_value", lambda self: value)
    _, record = I3D.published(tmp_path / "i3d.safetensors")
    assert record["smoke"] == {"value": value, "expected": 569.22963, "agrees": agrees}
    assert bool(record["cautions"]) != agrees
    assert agrees or "580" in record["cautions"][0]


def test_lpips_is_known_by_its_files_or_its_smoke_value(tmp_path, monkeypatch):
    save_file(alexnet(), tmp_path / "trunk.safetensors")
    save_file(heads(), tmp_path / "heads.safetensors")
    files = tmp_path / "trunk.safetensors", tmp_path / "heads.safetensors"
    with pytest.raises(
        ValueError, match=r"trunk\.safetensors and .*heads\.safetensors: of no known"
    ):
        LPIPS.published(*files)
    lpips, record = LPIPS.published(*files, allow_unverified=True)
    assert (lpips.net, record["net"], record["verified"]) == ("alexnet", "alexnet", False)
    assert "compare with nobody's" in record["cautions"][0]
    monkeypatch.setattr(type(lpips), "smoke_value", lambda self: 0.81400901)
    _, record = LPIPS.published(*files)
    assert record["verified"]
    assert record["smoke"]["agrees"]
    assert record["cautions"] == []
    monkeypatch.setattr(weights, "_known", lambda *hashes: "a published file")
    monkeypatch.setattr(type(lpips), "smoke_value", lambda self: 0.75)
    _, record = LPIPS.published(*files)
    assert record["verified"]
    assert "has LPIPS 0.75 here and 0.81401" in record["cautions"][0]
    json.dumps(record)
