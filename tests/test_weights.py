"""Pretrained weights: the records, and how weights are fetched, added, found and verified."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import torch
from file_server import serving
from safetensors.torch import save_file
from tiny_encoder import Net
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.encoders import ENCODERS, checkpoints, encoder_class, weights
from nearfar.encoders.checkpoints import CheckpointError
from nearfar.encoders.pretrained import (
    MIT,
    NTT,
    PRETRAINED,
    Pretrained,
    WeightsError,
    find,
    stored,
    weights_folder,
)
from nearfar.files.downloads import Client, DownloadError
from nearfar.recordings import audio


@pytest.fixture
def server():
    with serving() as started:
        yield started


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return Net().state_dict()


@pytest.fixture
def files(tensors, tmp_path):
    """The same weights in both formats, and the bytes of each."""
    save_file(tensors, tmp_path / "tiny.safetensors")
    torch.save({"model": tensors, "cfg": {"bands": 2}}, tmp_path / "tiny.pt")
    return tmp_path


@pytest.fixture(autouse=True)
def record(monkeypatch, server, tmp_path):
    """Tiny weights that can be fetched from the server, in a folder of this test."""
    monkeypatch.setenv("NEARFAR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(ENCODERS, "tiny", "tiny_encoder:Tiny")
    url = f"{server.address}/model.safetensors"
    known = Pretrained("tiny", "tiny", "model.safetensors", url, "the page", MIT, "paper", 100, 3, 64)
    monkeypatch.setitem(PRETRAINED, "tiny", known)
    return known


@pytest.fixture
def change(record, monkeypatch):
    def changed(**fields):
        monkeypatch.setitem(PRETRAINED, "tiny", replace(record, **fields))

    return changed


@pytest.fixture
def offered(server, files):
    content = (files / "tiny.safetensors").read_bytes()
    server.files["/model.safetensors"] = content
    return content


def client():
    return Client(urllib.request.build_opener(urllib.request.ProxyHandler({})), 5, lambda _: None)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# The records


@pytest.mark.parametrize("known", PRETRAINED.values(), ids=PRETRAINED)
def test_every_record_says_what_a_user_must_know(known):
    assert PRETRAINED[known.name] is known
    assert known.file.endswith((".safetensors", ".pt", ".zip"))
    assert known.page.startswith("https://")
    assert known.url is None or (known.url.startswith("https://") and known.url.endswith(known.file))
    assert known.licence.url.startswith("https://")
    assert known.paper.count("arXiv:") == 1
    assert known.sha256 is None or re.fullmatch("[0-9a-f]{64}", known.sha256)
    assert (known.licence is NTT) == known.must_accept
    assert not (known.must_accept and known.url)
    assert known.megabytes in ("4 MB", *(f"about {n} MB" for n in range(20, 1300)))


@pytest.mark.parametrize(
    "known", [r for r in PRETRAINED.values() if r.encoder in ENCODERS], ids=lambda known: known.name
)
def test_every_record_is_of_an_encoder_that_takes_it(known):
    encoder = encoder_class(known.encoder)(weights=known.name)
    assert encoder.sample_rate <= known.sample_rate  # it is given no more than its network wants


def test_the_numbers_of_the_large_ones_are_those_of_their_geometry():
    """A ViT with patches of 16 x 16, CLS, a normalization before, 6144 positions; fine-tuned, a head."""

    def parameters(dim, depth, head):
        block = 12 * dim**2 + 13 * dim
        front = 256 * dim + dim + dim + 2 * dim + 6144 * dim
        return depth * block + front + head * (2 * dim + 527 * (dim + 1))

    for name, geometry in {"eat": (768, 12, 1), "eat_pretrained": (768, 12, 0)}.items():
        assert PRETRAINED[name].parameters == parameters(*geometry)
    for name, geometry in {"eat_large": (1024, 24, 1), "eat_large_pretrained": (1024, 24, 0)}.items():
        assert PRETRAINED[name].parameters == parameters(*geometry)


def test_the_record_of_mn04_is_that_of_the_file(shared):
    file, record = shared / "weights" / PRETRAINED["mn04_as"].file, PRETRAINED["mn04_as"]
    assert file.stat().st_size == record.size
    assert sha256(file.read_bytes()) == record.sha256
    learnt = {n: t for n, t in checkpoints.read(file).items() if "running" not in n and "batches" not in n}
    assert sum(t.numel() for t in learnt.values()) == record.parameters


def test_the_file_of_mn04_is_stored_as_published(shared, monkeypatch):
    monkeypatch.setitem(ENCODERS, "efficientat", "nearfar.encoders.efficientat:EfficientAt")
    weights.add("mn04_as", shared / "weights" / PRETRAINED["mn04_as"].file)
    assert weights.verify("mn04_as").as_published is True


def test_the_records_load_no_torch():
    code = "import sys, nearfar.encoders.pretrained; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Where they lie


def test_the_folder_is_that_of_the_variable_or_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("NEARFAR_WEIGHTS", str(tmp_path))
    assert weights_folder() == tmp_path
    monkeypatch.setenv("NEARFAR_WEIGHTS", "")
    assert weights_folder().parts[-2:] == ("nearfar", "weights")


def test_weights_that_are_not_here_say_what_to_do(tmp_path):
    with pytest.raises(
        WeightsError,
        match=r"the weights 'eat' \(model\.safetensors, about 362 MB, licence MIT: https://.*\) are not in "
        rf"{re.escape(str(tmp_path))}.*; run `nearfar weights get eat`$",
    ):
        find("eat")
    with pytest.raises(
        WeightsError,
        match=r"'m2d_as' \(.*240213\.zip, about 342 MB, licence NTT.*read the licence, get the file at "
        r"https://.*releases, unpack .* run `nearfar weights add m2d_as FILE --accept-licence`$",
    ):
        find("m2d_as")


def test_a_path_is_found_as_it_is(files, tmp_path):
    assert find(files / "tiny.pt") == find(str(files / "tiny.pt")) == files / "tiny.pt"
    with pytest.raises(WeightsError, match=r"none\.pt: no such file of weights"):
        find(tmp_path / "none.pt")


def test_an_unknown_name_tells_the_nearest():
    for function in (find, weights.get, weights.verify):
        with pytest.raises(ValueError, match="no weights 'eat_larg'; did you mean 'eat_large'"):
            function("eat_larg")


# Fetching


def test_weights_are_fetched_and_found(record, offered):
    path = weights.get("tiny", client=client())
    assert path == find("tiny") == weights_folder() / "tiny" / "model.safetensors"
    assert path.read_bytes() == offered
    assert sorted(p.name for p in weights_folder().iterdir()) == ["tiny"]
    assert stored("tiny") == {
        "name": "tiny",
        "file": "model.safetensors",
        "size": len(offered),
        "sha256": sha256(offered),
        "parameters": 64,
        "origin": {
            "file": "tiny-model.safetensors",
            "url": record.url,
            "size": len(offered),
            "sha256": sha256(offered),
        },
        "licence": {"name": "MIT", "url": MIT.url, "accepted": ""},
    }
    waveforms = np.ones((1, 16), np.float32)
    assert encoder_class("tiny")(weights="tiny")(waveforms).shape == (1, 1, 2, 2, 3)


@pytest.mark.usefixtures("offered")
def test_what_is_here_is_not_fetched_again(server):
    first = weights.get("tiny", client=client())
    server.asked.clear()
    assert weights.get("tiny", client=client()) == first
    assert server.asked == []


def test_a_pickled_file_is_converted_with_its_configuration(change, server, files, tensors):
    content = (files / "tiny.pt").read_bytes()
    server.files["/tiny.pt"] = content
    change(url=f"{server.address}/tiny.pt", file="tiny.pt", sha256=sha256(content), size=len(content))
    path = weights.get("tiny", client=client())
    read = checkpoints.read(path)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    assert checkpoints.configuration(path) == {"bands": 2}
    assert weights.verify("tiny").as_published is True


def test_an_interrupted_download_goes_on(offered, server):
    server.cut = [100]

    def interrupt(_):
        raise KeyboardInterrupt

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(KeyboardInterrupt):
        weights.get("tiny", client=Client(opener, 5, interrupt))
    assert stored("tiny") is None
    weights.get("tiny", client=client())
    assert [asked for _, asked in server.asked] == [None, "bytes=100-"]
    assert find("tiny").read_bytes() == offered


def test_the_checksum_that_the_server_names_is_that_of_what_came(change, offered, server):
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(offered)}\nsize {len(offered)}\n"
    server.files["/pointer"] = text.encode()
    change(pointer=f"{server.address}/pointer")
    weights.get("tiny", client=client())
    assert find("tiny").read_bytes() == offered


@pytest.mark.parametrize("pinned", [True, False])
def test_another_checksum_than_was_named_is_refused(change, offered, server, pinned):
    other = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize {len(offered)}\n"
    server.files["/pointer"] = other.encode()
    change(sha256="0" * 64) if pinned else change(pointer=f"{server.address}/pointer")
    with pytest.raises(
        DownloadError,
        match=rf"what came has SHA-256 {sha256(offered)}, but 0+ was published; removed: run again",
    ):
        weights.get("tiny", client=client())
    assert list(weights_folder().iterdir()) == []


def test_a_server_that_names_another_checksum_than_is_known_is_not_asked_for_the_file(
    change, offered, server
):
    other = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'1' * 64}\nsize {len(offered)}\n"
    server.files["/pointer"] = other.encode()
    change(sha256=sha256(offered), pointer=f"{server.address}/pointer")
    with pytest.raises(
        DownloadError, match=r"names SHA-256 1+, but \w+ was published; if .*weights add tiny FILE"
    ):
        weights.get("tiny", client=client())
    assert [path for path, _ in server.asked] == ["/pointer"]


@pytest.mark.usefixtures("offered")
def test_a_server_that_names_no_checksum_is_told_of(change, server, caplog):
    server.files["/pointer"] = b"<html>"
    change(pointer=f"{server.address}/pointer")
    weights.get("tiny", client=client())
    assert "/pointer: names no checksum; what comes is only checked to fit its network" in caplog.text


def test_weights_of_another_network_are_not_stored_but_kept(server, tmp_path, tensors):
    save_file(tensors | {"more": torch.zeros(1)}, tmp_path / "other.safetensors")
    server.files["/model.safetensors"] = (tmp_path / "other.safetensors").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"tiny-model\.safetensors: not the weights .* 1 unexpected \(more\)"
    ):
        weights.get("tiny", client=client())
    assert stored("tiny") is None
    assert [p.name for p in weights_folder().iterdir()] == ["tiny-model.safetensors"]


def test_what_was_fetched_but_not_stored_is_not_fetched_again(change, offered, server):
    change(sha256=sha256(offered))
    weights_folder().mkdir()
    (weights_folder() / "tiny-model.safetensors").write_bytes(offered)
    weights.get("tiny", client=client())
    assert server.asked == []
    assert find("tiny").read_bytes() == offered


def test_a_missing_file_is_an_error():
    with pytest.raises(ConnectionError, match="the server answers 404"):
        weights.get("tiny", client=client())


def test_what_needs_a_person_is_not_fetched(change):
    change(url=None)
    with pytest.raises(
        WeightsError,
        match=r"not fetched by nearfar; get the file at the page, .* and run `nearfar weights add tiny FILE`$",
    ):
        weights.get("tiny")


@pytest.mark.parametrize("function", [weights.get, lambda name: weights.add(name, "tiny.pt")])
def test_a_licence_that_must_be_accepted_comes_first(change, function):
    change(must_accept=True, licence=NTT, url=None)
    with pytest.raises(
        ValueError,
        match=r"the licence of 'tiny' .* must be read and accepted first: For non-commercial .* --accept-licence$",
    ):
        function("tiny")


# Adding


@pytest.mark.parametrize("name", ["tiny.safetensors", "tiny.pt"])
def test_a_file_of_the_user_is_added(files, tensors, name):
    path = weights.add("tiny", files / name, accepted="asked")
    read = checkpoints.read(path)
    assert path == find("tiny")
    assert all(torch.equal(read[key], tensor) for key, tensor in tensors.items())
    known = stored("tiny")
    assert known["origin"] == {
        "file": name,
        "size": (files / name).stat().st_size,
        "sha256": sha256((files / name).read_bytes()),
    }
    assert known["licence"]["accepted"] == "asked"
    assert (files / name).is_file()


def test_what_is_added_takes_the_place_of_what_is_there(files, tensors):
    weights.add("tiny", files / "tiny.pt")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, files / "new.safetensors")
    weights.add("tiny", files / "new.safetensors")
    assert find("tiny").read_bytes() == (files / "new.safetensors").read_bytes()


def test_a_file_that_does_not_fit_leaves_what_is_there(files):
    weights.add("tiny", files / "tiny.pt")
    before = stored("tiny")
    torch.save({"model": {"frames.weight": torch.zeros(6, 9)}}, files / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: not the weights of this network: 5 missing"):
        weights.add("tiny", files / "other.pt")
    torch.save({"model": {}, "cfg": argparse.Namespace()}, files / "configured.pt")
    with pytest.raises(
        CheckpointError, match=r"(?s)configured\.pt: cannot be read as tensors alone.*save_file"
    ):
        weights.add("tiny", files / "configured.pt")
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        weights.add("tiny", files / "none.pt")
    assert stored("tiny") == before
    assert [p.name for p in weights_folder().iterdir()] == ["tiny"]


def test_weights_of_the_same_network_with_another_head_are_told_apart(change, files, record, monkeypatch):
    change(parameters=63)
    with pytest.raises(
        CheckpointError,
        match=r"tiny\.pt: a network with 64 parameters, but the weights 'tiny' have 63; as many have: none that",
    ):
        weights.add("tiny", files / "tiny.pt")
    monkeypatch.setitem(PRETRAINED, "teeny", replace(record, name="teeny"))
    with pytest.raises(CheckpointError, match=r"as many have: 'teeny'$"):
        weights.add("tiny", files / "tiny.pt")
    assert stored("tiny") is None


# Verifying


def test_what_came_is_verified(files):
    path = weights.add("tiny", files / "tiny.pt")
    found = weights.verify("tiny")
    assert (found.path, found.sha256, found.parameters) == (path, sha256(path.read_bytes()), 64)
    assert found.as_published is None


def test_another_file_than_was_published_is_told(change, files):
    change(sha256="0" * 64)
    weights.add("tiny", files / "tiny.pt")
    assert weights.verify("tiny").as_published is False


def test_a_file_that_has_changed_is_an_error(files):
    path = weights.add("tiny", files / "tiny.pt")
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(bytes(changed))
    with pytest.raises(
        ValueError, match=r"SHA-256 \w+, but it was \w+ when it came; remove .* and run `nearfar"
    ):
        weights.verify("tiny")


def test_a_file_of_ones_own_is_not_verified(files):
    with pytest.raises(ValueError, match=r"no weights '.*tiny\.pt'"):
        weights.verify(str(files / "tiny.pt"))


def test_what_is_not_here_is_not_verified():
    with pytest.raises(WeightsError, match="run `nearfar weights get tiny`"):
        weights.verify("tiny")


@pytest.fixture
def golden(files, monkeypatch, rng):
    """A recording, and what a program that is right makes of it."""
    weights.add("tiny", files / "tiny.pt")
    monkeypatch.setitem(weights.GOLDEN, "tiny", "golden")
    samples = rng.standard_normal((1, 80)).astype(np.float32) / 8
    audio.write(files / "golden.wav", samples, 100, bits=32)
    network = Net().eval()
    network.load_state_dict(checkpoints.read(find("tiny")))
    with torch.no_grad():
        frames = network.norm(torch.tensor(samples.reshape(10, 8))[None].mT).mT
        grid = 2 * network.frames(frames)[0].reshape(20, 3)  # the last block, frame by frame, band by band
    tokens = torch.cat([grid.mean(dim=0, keepdim=True), grid]).numpy()
    np.save(files / "golden.npy", tokens)
    return tokens


def test_tokens_are_compared_with_those_of_the_authors(golden, files):
    found = weights.compare("tiny", files)
    assert found.largest < 1e-6
    assert found.deviation == pytest.approx(golden.astype(float).std())
    assert found.correlation == pytest.approx(1)
    golden[7, 1] += 3
    np.save(files / "golden.npy", golden)
    assert weights.compare("tiny", files).largest == pytest.approx(3, abs=1e-5)


def test_tokens_of_another_shape_are_not_compared(golden, files):
    np.save(files / "golden.npy", golden[1:])
    with pytest.raises(ValueError, match=r"golden\.npy: has shape \(20, 3\), but 'tiny' gives \(21, 3\)"):
        weights.compare("tiny", files)
    with pytest.raises(
        ValueError, match=r"no weights with tokens to compare with, 'tini'; did you mean 'tiny'"
    ):
        weights.compare("tini", files)


def test_the_tokens_of_the_authors_have_the_shape_of_ours(shared):
    tokens = np.load(shared / "golden" / "eat" / f"{weights.GOLDEN['eat']}.npy")
    samples = audio.load(shared / "golden" / "eat" / f"{weights.GOLDEN['eat']}.wav", 16_000)
    assert tokens.shape == (1 + 64 * 8, PRETRAINED["eat"].dim)
    assert samples.shape == (1, 160_000)


# The commands


def invoke(*arguments, answer=None):
    return CliRunner().invoke(
        app, ["weights", *map(str, arguments)], input=answer, env={"COLUMNS": "200", "NO_COLOR": "1"}
    )


def test_the_list_says_what_is_here(files):
    lines = invoke("list").output.splitlines()
    assert all(any(name in line for line in lines) for name in PRETRAINED)
    assert any(re.search(r"m2d_as .*NTT.*│ add", line) for line in lines)
    assert any(re.search(r"tiny .*│ get", line) for line in lines)
    weights.add("tiny", files / "tiny.pt")
    assert any(re.search(r"tiny .*│ here", line) for line in invoke("list").output.splitlines())


@pytest.mark.usefixtures("offered")
def test_get_shows_the_licence_and_the_place():
    found = invoke("get", "tiny")
    assert found.exit_code == 0, found.output
    assert "Licence: MIT, https://opensource.org/license/mit\nYou may use" in found.output
    assert f"{weights_folder()}/tiny/model.safetensors" in found.output


def test_get_of_weights_with_a_licence_asks_and_then_tells_how():
    refused = invoke("get", "m2d_as", answer="n\n")
    assert refused.exit_code == 1
    assert "NTT evaluation licence, https://github.com/nttcslab/m2d/blob/master/LICENSE.pdf" in refused.output
    assert "do you accept it? [y/N]" in refused.output
    assert "Aborted" in refused.output
    nobody = invoke("get", "m2d_as")
    assert nobody.exit_code == 1
    for accepted in (invoke("get", "m2d_as", answer="y\n"), invoke("get", "m2d_as", "--accept-licence")):
        assert isinstance(accepted.exception, WeightsError)
        assert "run `nearfar weights add m2d_as FILE --accept-licence`" in str(accepted.exception)


def test_add_asks_for_the_licence_and_notes_how_it_was_accepted(change, files):
    change(must_accept=True, licence=NTT, url=None)
    assert invoke("add", "tiny", files / "tiny.pt", answer="n\n").exit_code == 1
    assert stored("tiny") is None
    assert invoke("add", "tiny", files / "tiny.pt", answer="y\n").exit_code == 0
    assert stored("tiny")["licence"]["accepted"] == "asked"
    assert invoke("add", "tiny", files / "tiny.pt", "--accept-licence").exit_code == 0
    assert stored("tiny")["licence"] == {"name": NTT.name, "url": NTT.url, "accepted": "--accept-licence"}


@pytest.mark.usefixtures("golden")
def test_verify_says_what_is_there_and_compares(files):
    found = invoke("verify", "tiny", "--golden", files)
    assert found.exit_code == 0, found.output
    assert (
        "tiny: loads (64 parameters); unchanged since it was added; the checksum of the published"
        in found.output
    )
    assert re.search(
        r"Largest difference from the authors' tokens: [\d.e-]+.* correlation: 1\.0000", found.output
    )


def test_an_unknown_name_is_an_error_of_one_line():
    for command in (["get", "eatt"], ["add", "eatt", "x.pt"], ["verify", "eatt"]):
        assert "no weights 'eatt'; did you mean 'eat'?" in str(invoke(*command).exception)


def test_the_record_beside_the_file_is_json_that_a_person_can_read(files):
    weights.add("tiny", files / "tiny.pt")
    text = (weights_folder() / "tiny" / "record.json").read_text()
    assert json.loads(text) == stored("tiny")
    assert len(text.splitlines()) > 10
