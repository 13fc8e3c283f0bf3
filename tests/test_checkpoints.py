"""Reading files of weights, and loading them strictly."""

from __future__ import annotations

import argparse
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nearfar.encoders import checkpoints
from nearfar.encoders.checkpoints import CheckpointError, configuration, matched, read, write


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture
def tensors(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_safetensors_and_pickled_tensors_read_the_same(tensors, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pt")
    assert equal(read(tmp_path / "a.safetensors"), tensors)
    assert equal(read(tmp_path / "a.pt"), tensors)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin"])
@pytest.mark.parametrize("wrap", [lambda t: {"model": t}, lambda t: {"state_dict": {"model": t}, "epoch": 3}])
def test_the_tensors_of_a_training_checkpoint_are_found(tensors, tmp_path, name, wrap):
    torch.save(wrap(tensors), tmp_path / name)
    assert equal(read(tmp_path / name), tensors)


def test_what_is_written_is_read_again_with_its_configuration(tensors, tmp_path):
    views = {name: tensor.T if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}
    write(tmp_path / "a.safetensors", views, configuration={"buckets": 320, "deep_norm": True})
    assert equal(read(tmp_path / "a.safetensors"), views)
    assert configuration(tmp_path / "a.safetensors") == {"buckets": 320, "deep_norm": True}


def test_the_configuration_of_a_pickled_checkpoint(tensors, tmp_path):
    torch.save({"model": tensors, "cfg": {"buckets": 320}}, tmp_path / "a.pt")
    torch.save(tensors, tmp_path / "b.pt")
    save_file(tensors, tmp_path / "c.safetensors")
    found = [configuration(tmp_path / name) for name in ("a.pt", "b.pt", "c.safetensors")]
    assert found == [{"buckets": 320}, {}, {}]


def test_more_than_tensors_is_not_read_but_told_how_to_convert(tensors, tmp_path):
    torch.save({"model": tensors, "cfg": argparse.Namespace(x=1)}, tmp_path / "a.pt")
    for function in (read, configuration):
        with pytest.raises(CheckpointError, match=r"(?s)a\.pt: cannot be read as tensors alone.*save_file\("):
            function(tmp_path / "a.pt")


def test_how_to_convert_is_code_that_runs(tensors, tmp_path, monkeypatch):
    torch.save({"model": tensors, "cfg": argparse.Namespace(x=1)}, tmp_path / "OLD.pt")
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in checkpoints.CONVERT.splitlines() if line.startswith("    ")]
    exec("\n".join(lines))
    assert equal(read(tmp_path / "NEW.safetensors"), tensors)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_file_that_is_cut_off_is_an_error(tensors, tmp_path, name):
    whole = tmp_path / f"whole-{name}"
    save_file(tensors, whole) if name.endswith("safetensors") else torch.save(tensors, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"a\.\w+: damaged, or not what its name says"):
        read(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_no_checkpoint_at_all_is_an_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged|cannot be read as tensors alone"):
        read(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    for name in ("a.safetensors", "a.pt"):
        with pytest.raises(FileNotFoundError, match=name):
            read(tmp_path / name)


def test_another_suffix_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.zip: a file of weights ends in \.safetensors, \.pt"):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.zeros(2)], "holds a list, not tensors by name"),
        ({"epoch": 3, "model": {}}, r"holds no tensors under 'model', 'state_dict', but \[\]"),
        ({"epoch": 3}, r"holds no tensors under 'model', 'state_dict', but \['epoch'\]"),
    ],
)
def test_a_file_without_named_tensors_is_an_error(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=said):
        read(tmp_path / "a.pt")


# Loading


def test_tensors_are_loaded_and_copied(network, tensors):
    given = {name: tensor + 1 for name, tensor in tensors.items()}
    matched(given, network, where="here")
    assert equal(network.state_dict(), given)
    with torch.no_grad():
        network[0].weight.zero_()
    assert given["0.weight"].any()


def test_a_network_on_the_meta_device_gets_its_tensors(network, tensors):
    matched(tensors, network.to("meta"), where="here")
    assert equal(network.state_dict(), tensors)
    assert network(torch.zeros(2, 3)).shape == (2, 2)


def test_half_precision_becomes_that_of_the_network(network, tensors):
    given = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    matched(given, network, where="here")
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, given["0.weight"].float())


def test_what_is_dropped_may_be_there_or_not(network, tensors):
    given = {
        **tensors,
        "head.weight": torch.zeros(1),
        "head.bias": torch.zeros(1),
        "decoder_1": torch.zeros(1),
    }
    matched(given, network, where="here", dropped=("head.", "decoder_", "mask_token"))
    assert equal(network.state_dict(), tensors)


def test_everything_that_does_not_fit_is_named(network, tensors):
    del tensors["0.bias"], tensors["2.weight"]
    tensors["0.weight"] = torch.zeros(4, 5)
    tensors["1.running_var"] = torch.zeros(4, dtype=torch.int8)
    tensors["head.bias"] = torch.zeros(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(CheckpointError, match="not the weights of this network: 2 missing") as caught:
        matched(tensors, network, where="file.pt")
    assert str(caught.value) == (
        "file.pt: not the weights of this network: 2 missing (0.bias, 2.weight); 1 unexpected (head.bias); "
        "2 of another shape (0.weight: (4, 5) instead of (4, 3), 1.running_var: (4,) of torch.int8 instead of (4,))"
    )
    assert equal(network.state_dict(), before)


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean", "1.num_batches_tracked", "2.bias"])
def test_a_single_missing_tensor_is_an_error(network, tensors, name):
    del tensors[name]
    with pytest.raises(CheckpointError, match=rf"1 missing \({name}\)$"):
        matched(tensors, network, where="here")


def test_long_lists_are_shortened_with_their_count():
    network = nn.Sequential(*(nn.Linear(1, 1) for _ in range(10)))
    with pytest.raises(CheckpointError, match=r"20 missing \(0\.weight, .*2\.bias, and 14 more\)$"):
        matched({}, network, where="here")


def test_values_arrive_exactly(network, tensors, tmp_path):
    tensors["0.weight"][0, 0] = math.pi
    write(tmp_path / "a.safetensors", tensors, configuration={})
    matched(read(tmp_path / "a.safetensors"), network, where="here")
    assert network[0].weight[0, 0].item() == tensors["0.weight"][0, 0].item()


@pytest.mark.parametrize("told", ["no JSON", "7", "[1]"])
def test_a_configuration_that_is_none_names_the_file(tensors, tmp_path, told):
    save_file(tensors, tmp_path / "a.safetensors", metadata={checkpoints.CONFIGURATION: told})
    with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged, or not what its name says"):
        configuration(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "error", [IndexError, UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), TypeError, OSError(22, "Invalid")]
)
def test_whatever_the_reader_of_pickles_raises_names_the_file(tensors, tmp_path, monkeypatch, error):
    def load(*_, **__):
        raise error

    torch.save(tensors, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(CheckpointError, match=r"a\.pt: damaged, or not what its name says"):
        read(tmp_path / "a.pt")
