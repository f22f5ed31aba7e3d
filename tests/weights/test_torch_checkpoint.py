"""Files of torch.save give their tensors, and nothing in them is ever executed."""

import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch_file
from torch_file import Call, View

from fv_jax.weights.torch_checkpoint import read_checkpoint, state_dict

DTYPES = [*torch_file.STORAGES]


def array(dtype: str, shape=(3, 4)) -> np.ndarray:
    values = np.arange(np.prod(shape)).reshape(shape) - 3
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


@pytest.mark.parametrize("byte_order", ["little", "big", "none"])
def test_every_type_of_tensor_comes_back(tmp_path, byte_order):
    want = {dtype: array(dtype) for dtype in DTYPES}
    torch_file.save(tmp_path / "a.pt", want, byte_order=byte_order)
    got = read_checkpoint(tmp_path / "a.pt")
    assert list(got) == DTYPES
    for dtype in DTYPES:
        assert got[dtype].dtype == want[dtype].dtype
        np.testing.assert_array_equal(got[dtype], want[dtype])


def test_scalars_empty_tensors_and_other_values_come_back(tmp_path):
    value = {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "list": [1, -2, None, True, "text"],
        "ordered": Call("collections", "OrderedDict"),
        "parameter": Call("torch._utils", "_rebuild_parameter", (array("int32"), True, {})),
    }
    torch_file.save(tmp_path / "a.pt", value)
    got = read_checkpoint(tmp_path / "a.pt")
    assert got["scalar"].shape == ()
    assert got["scalar"] == 2.5
    assert got["empty"].shape == (0, 3)
    assert got["list"] == value["list"]
    assert got["ordered"] == {}
    np.testing.assert_array_equal(got["parameter"], array("int32"))


def test_a_state_dict_s_own_attributes_are_dropped(tmp_path):
    # torch keeps versions of modules in an attribute of the dict, set by BUILD.
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00_metadataK\x01sb."
    torch_file.save(tmp_path / "a.pt", {}, **{"data.pkl": pickled})
    assert read_checkpoint(tmp_path / "a.pt") == {}


def test_offsets_and_strides_are_those_of_the_storage(tmp_path):
    storage = np.arange(24, dtype=np.float32)
    views = {
        "transposed": View(storage, 4, (5, 3), (1, 5)),
        "every_second": View(storage, 1, (4,), (2,)),
        "expanded": View(storage, 2, (3, 2), (0, 1)),
    }
    torch_file.save(tmp_path / "a.pt", views)
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert "a/data/1" not in archive.namelist()  # one storage
    got = read_checkpoint(tmp_path / "a.pt")
    np.testing.assert_array_equal(got["transposed"], storage[4:19].reshape(3, 5).T)
    np.testing.assert_array_equal(got["every_second"], storage[1:8:2])
    np.testing.assert_array_equal(got["expanded"], np.tile(storage[2:4], (3, 1)))
    with pytest.raises(ValueError, match="read-only"):
        got["transposed"][0, 0] = 1


def test_files_of_before_1_6_come_back_too(tmp_path):
    want = {dtype: array(dtype) for dtype in DTYPES} | {"empty": np.zeros((0, 3), np.float32)}
    torch_file.save_old(tmp_path / "a.pth", want)
    got = read_checkpoint(tmp_path / "a.pth")
    assert list(got) == list(want)
    for name in want:
        assert got[name].dtype == want[name].dtype
        np.testing.assert_array_equal(got[name], want[name])


def test_a_storage_of_before_1_6_may_be_a_part_of_another(tmp_path):
    storage = np.arange(24, dtype=np.float32)
    torch_file.save_old(tmp_path / "a.pth", View(storage, 1, (2, 3), (3, 1)), part=("v", 10, 8))
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "a.pth"), storage[11:17].reshape(2, 3))
    for view, part in (((2, (2, 3), (4, 1)), ("v", 10, 8)), ((0, (2,), (1,)), ("v", 20, 8))):
        torch_file.save_old(tmp_path / "a.pth", View(storage, *view), part=part)
        with pytest.raises(ValueError, match=r"beyond its storage|should hold 8 elements"):
            read_checkpoint(tmp_path / "a.pth")


def test_parameters_and_sizes_of_early_files_are_taken(tmp_path):
    old = {
        "w": Call("torch.nn.parameter", "Parameter", (array("float32"), True)),
        "size": Call("torch", "Size", ((3, 4),)),
    }
    torch_file.save_old(tmp_path / "a.pth", old)
    got = read_checkpoint(tmp_path / "a.pth")
    np.testing.assert_array_equal(got["w"], array("float32"))
    assert got["size"] == (3, 4)


@pytest.mark.parametrize("length", [20, 60, 200, -1])
def test_a_truncated_file_of_before_1_6_says_so(tmp_path, length):
    torch_file.save_old(tmp_path / "a.pth", {"w": array("float64", (50, 50))})
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.pth is (truncated|damaged)"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_big_endian_file_of_before_1_6_is_refused(tmp_path):
    torch_file.save_old(tmp_path / "a.pth", {"w": array("float32")}, little_endian=False)
    with pytest.raises(ValueError, match="big-endian"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("save", [torch_file.save, torch_file.save_old])
@pytest.mark.parametrize(
    "call",
    [
        Call("os", "system", ("touch {}",)),
        Call("posix", "system", ("touch {}",)),
        Call("builtins", "eval", ("open('{}', 'w')",)),
        Call("builtins", "getattr", ("{}", "x")),
        Call("subprocess", "Popen", (["touch", "{}"],)),
        Call("torch", "load", ("{}",)),
        Call("torch._utils", "_rebuild_wrapper_subclass", ("{}",)),
        Call("numpy.core.multiarray", "_reconstruct", ("{}",)),
        Call("argparse", "Namespace", ()),
        Call("no_such_module", "name", ()),
    ],
)
def test_a_call_of_anything_else_is_refused_and_not_made(tmp_path, call, save):
    target = tmp_path / "made_by_the_pickle"
    filled = [str(target) if a == "{}" else a for a in call.arguments]
    filled = [a.format(target) if isinstance(a, str) else a for a in filled]
    for value in (call._replace(arguments=tuple(filled)), call._replace(arguments=None)):
        save(tmp_path / "a.pt", {"module": {"w": array("float32")}, "x": value})
        with pytest.raises(ValueError, match=f"asks for {call.module}.{call.name}.*refused"):
            read_checkpoint(tmp_path / "a.pt")
    assert not target.exists()


def test_dotted_names_reach_nothing(tmp_path):
    # Protocol 4 may name attributes of attributes.
    pickled = b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93."
    torch_file.save(tmp_path / "a.pt", {}, **{"data.pkl": pickled})
    with pytest.raises(ValueError, match=r"asks for collections\.OrderedDict\.__init__"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_pickle_cannot_alter_the_reader(tmp_path):
    # BUILD sets attributes of whatever lies on the stack.
    for name in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"):
        pickled = b"\x80\x02" + name + b"}X\x08\x00\x00\x00__call__K\x01sb."
        torch_file.save(tmp_path / "a.pt", {}, **{"data.pkl": pickled})
        with pytest.raises(ValueError, match="damaged"):
            read_checkpoint(tmp_path / "a.pt")
    torch_file.save(tmp_path / "b.pt", {"w": array("float32")})
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "b.pt")["w"], array("float32"))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (((4, 3), (3, 1), 1), "beyond its storage"),
        (((2, 2), (12, 1), 0), "beyond its storage"),
        (((3,), (1,), 12), "beyond its storage"),
        (((3,), (-1,), 5), "stride"),
        (((-3,), (1,), 0), "size"),
        (((3,), (1, 1), 0), "size"),
        (((3,), (1,), -1), "offset -1"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, view, message):
    size, stride, offset = view
    torch_file.save(tmp_path / "a.pt", View(np.zeros(12, np.float32), offset, size, stride))
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.pt")


def test_a_missing_or_short_storage_is_refused(tmp_path):
    for content, message in ((None, "data/0"), (b"\0" * 44, "should hold 12 x float32, holds 11")):
        torch_file.save(tmp_path / "a.pt", {"w": array("float32")}, **{"data/0": content})
        with pytest.raises(ValueError, match=message):
            read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("length", [0.1, 0.5, 0.99])
def test_a_truncated_file_says_so(tmp_path, length):
    torch_file.save(tmp_path / "a.pt", {"w": array("float64", (50, 50))})
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: int(length * len(whole))])
    with pytest.raises(ValueError, match=r"a\.pt is truncated"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(("place", "message"), [(8, "encrypted"), (10, "compression"), (16, "CRC")])
def test_a_damaged_zip_directory_says_so(tmp_path, place, message):
    path = tmp_path / "a.pt"
    torch_file.save(path, {"w": array("float32")}, **{"data.pkl": b"\x80\x02N.", "data/0": None})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # data.pkl's, the first
    content[entry + place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.pt is damaged: .*{message}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html></html>", "is a web page"),
        (b"<html></html>", "is a web page"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "is damaged"),
        (b"GGUF....", "is no file of torch.save: it starts with b'GGUF"),
    ],
)
def test_a_file_of_something_else_says_what_it_is(tmp_path, content, message):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.pt")


def test_a_zip_archive_of_something_else_is_refused(tmp_path):
    torch_file.save(tmp_path / "a.pt", {}, **{"data.pkl": None})
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        read_checkpoint(tmp_path / "a.pt")
    torch_file.save(tmp_path / "a.pt", {}, **{"data.pkl": b"\x80\x02}"})
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        read_checkpoint(tmp_path / "nowhere.pt")


def test_a_state_dict_is_found_bare_or_one_level_down():
    w = {"w": array("float32")}
    for value in (w, {"module": w}, {"state_dict": w, "epoch": 3}):
        assert state_dict(value, "a.pt") == w
    for value, message in (
        ({"epoch": 3}, "entry 'epoch' is a int"),
        ([w], "but a list"),
        ({}, "but a dict"),
    ):
        with pytest.raises(ValueError, match=f"a.pt holds no state dict.*{message}"):
            state_dict(value, "a.pt")
