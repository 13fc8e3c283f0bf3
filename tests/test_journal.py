"""What a training has reached: kept, taken up again, and left alone where another one needs it."""

from __future__ import annotations

import errno
import os

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from nearfar.files import steps
from nearfar.training.journal import STATE, Journal

TABLE = "history.csv"


class Killed(BaseException):
    """What a process does not survive."""


class Steps:
    """A training of three weights and a batch normalization, with an optimizer that remembers."""

    def __init__(self, folder, *, every=2, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.module[0].weight.data.copy_(torch.randn(2, 3, generator=generator))
        self.module[0].bias.data.zero_()
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=0.1)
        self.journal = Journal(folder, every)
        self.trained = []

    def run(self, epochs):
        """Train, as far as the journal does not have it."""
        for epoch in range(self.journal.take_up(epochs, self.module, self.optimizer), epochs):
            batch = torch.randn(4, 3, generator=torch.Generator().manual_seed(epoch))
            loss = self.module(batch).pow(3).sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.trained.append(epoch + 1)
            row = {"epoch": epoch + 1, "loss": loss.item(), "center": epoch / 3}
            self.journal.write(row, self.module, self.optimizer, self.weights(), last=epochs)
        return self

    def weights(self):
        return {name: tensor.detach().numpy().copy() for name, tensor in self.module.state_dict().items()}


def names(folder):
    """Every file, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(ours[n].tobytes() == theirs[n].tobytes() for n in ours)


# what is kept


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = Steps(None).run(3)
    assert steps.trained == [1, 2, 3]
    assert [row["epoch"] for row in steps.journal.rows] == [1, 2, 3]
    assert steps.journal.checkpoint(2) is None
    assert names(tmp_path) == []


def test_the_folder_is_made_when_there_is_something_to_keep(tmp_path):
    folder = tmp_path / "a" / "b"
    steps = Steps(folder)
    assert steps.journal.checkpoint(1) is None
    assert not folder.exists()
    steps.run(1)
    assert folder.is_dir()


def test_checkpoints_are_kept_every_so_many_epochs_and_at_the_last(tmp_path):
    Steps(tmp_path, every=2).run(5)
    checkpoints = [f"epoch_{epoch:03d}.safetensors" for epoch in (2, 4, 5)]
    assert names(tmp_path) == sorted([*checkpoints, TABLE, STATE])


def test_a_checkpoint_has_the_weights_after_its_epoch(tmp_path):
    journal = Steps(tmp_path, every=2).run(5).journal
    for epoch in (2, 4, 5):
        assert same(journal.checkpoint(epoch), Steps(None).run(epoch).weights())
    assert journal.checkpoint(3) is None
    assert journal.checkpoint(6) is None


def test_weights_that_are_not_contiguous_are_kept_as_they_are(tmp_path):
    steps, weight = Steps(tmp_path), np.arange(6.0).reshape(2, 3).T
    row = {"epoch": 1, "loss": 0.0}
    steps.journal.write(row, steps.module, steps.optimizer, {"weight": weight}, last=1)
    np.testing.assert_array_equal(steps.journal.checkpoint(1)["weight"], weight)


def test_the_history_has_a_row_an_epoch(tmp_path):
    rows = Steps(tmp_path).run(3).journal.rows
    table = pd.read_csv(tmp_path / TABLE)
    assert list(table) == ["epoch", "loss", "center"]
    assert table["epoch"].tolist() == [1, 2, 3]
    assert table.to_dict("records") == rows
    again = Steps(tmp_path)
    again.run(3)
    assert again.journal.rows == rows
    assert again.trained == []


def test_two_trainings_that_keep_the_same_keep_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        Steps(tmp_path / folder).run(3)
    assert names(tmp_path / "a") == names(tmp_path / "b")
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


# how it is taken up


def test_a_longer_training_goes_on_where_a_shorter_one_ended(tmp_path):
    Steps(tmp_path / "a").run(3)
    longer, unbroken = Steps(tmp_path / "a", seed=1).run(7), Steps(tmp_path / "b").run(7)
    assert longer.trained == [4, 5, 6, 7]
    assert same(longer.weights(), unbroken.weights())
    assert longer.journal.rows == unbroken.journal.rows
    assert same(load_file(tmp_path / "a" / STATE), load_file(tmp_path / "b" / STATE))
    assert names(tmp_path / "a") == sorted([*names(tmp_path / "b"), "epoch_003.safetensors"])


def test_a_table_has_its_columns_in_order_when_it_was_taken_up(tmp_path):
    Steps(tmp_path).run(2)
    Steps(tmp_path).run(3)
    assert list(pd.read_csv(tmp_path / TABLE)) == ["epoch", "loss", "center"]


def test_the_optimizer_keeps_its_options_of_now(tmp_path):
    """Only what it remembers is taken up; the learning rate is set anew in each epoch."""
    Steps(tmp_path).run(3)
    again = Steps(tmp_path)
    again.optimizer.param_groups[0]["lr"] = 0.7
    again.run(3)
    assert again.optimizer.param_groups[0]["lr"] == 0.7
    remembered = again.optimizer.state_dict()["state"]
    assert len(remembered) == 4
    assert {float(of_parameter["step"]) for of_parameter in remembered.values()} == {3.0}


def test_a_training_of_equal_length_has_nothing_to_do(tmp_path):
    first = Steps(tmp_path).run(4)
    again = Steps(tmp_path, seed=1).run(4)
    assert again.trained == []
    assert same(again.weights(), first.weights())


def test_a_shorter_training_begins_anew_and_leaves_the_longer_ones_state_alone(tmp_path):
    Steps(tmp_path, every=4).run(6)
    before = {name: (tmp_path / name).read_bytes() for name in (STATE, TABLE)}
    shorter = Steps(tmp_path, every=4).run(3)
    assert shorter.trained == [1, 2, 3]
    assert same(shorter.weights(), Steps(None).run(3).weights())
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert same(shorter.journal.checkpoint(3), shorter.weights())
    assert Steps(tmp_path, every=4).run(8).trained == [7, 8]


# what an interruption leaves


def test_the_latest_state_is_taken_up_after_a_kill_between_epochs(tmp_path):
    """Of a training of 6 epochs that ended in the fourth there is no checkpoint, but the state of the third."""
    steps = Steps(tmp_path, every=10)
    steps.optimizer.register_step_post_hook(lambda *_: killed() if len(steps.trained) == 3 else None)
    with pytest.raises(Killed, match="killed while it trains"):
        steps.run(6)
    assert names(tmp_path) == [TABLE, STATE]
    again = Steps(tmp_path, every=10).run(6)
    assert again.trained == [4, 5, 6]
    assert same(again.weights(), Steps(None).run(6).weights())


def killed(*_):
    raise Killed("killed while it trains")


@pytest.mark.parametrize("number", range(1, 8))
def test_a_kill_before_any_file_is_in_place_does_no_harm(tmp_path, monkeypatch, number):
    """Three epochs write seven files: state and table thrice, and the checkpoint of the last."""
    unbroken = Steps(tmp_path / "unbroken", every=3).run(3)
    folder = tmp_path / "killed"
    written = []

    def replace(part, path, *, at=steps.Path.replace):
        written.append(path.name)
        return killed() if len(written) == number else at(part, path)

    with monkeypatch.context() as patched:
        patched.setattr(steps.Path, "replace", replace)
        with pytest.raises(Killed, match="killed while it trains"):
            Steps(folder, every=3).run(3)
    assert not [name for name in names(folder) if "part" in name]
    again = Steps(folder, every=3).run(3)
    assert same(again.weights(), unbroken.weights())
    assert again.journal.rows == unbroken.journal.rows
    assert same(load_file(folder / STATE), load_file(tmp_path / "unbroken" / STATE))
    assert same(again.journal.checkpoint(3), unbroken.weights())


@pytest.mark.parametrize("stale", [None, "epoch,loss,center\n1,0.5,0.0\n", "nonsense"])
def test_a_table_that_is_missing_or_stale_does_not_matter(tmp_path, stale):
    Steps(tmp_path).run(3)
    (tmp_path / TABLE).unlink()
    if stale:
        (tmp_path / TABLE).write_text(stale)
    longer, unbroken = Steps(tmp_path).run(4), Steps(None).run(4)
    assert longer.trained == [4]
    assert longer.journal.rows == unbroken.journal.rows
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / TABLE), pd.DataFrame(unbroken.journal.rows), check_like=True
    )


def test_a_disk_that_is_full_leaves_no_partial_files(tmp_path, monkeypatch):
    Steps(tmp_path).run(2)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def fsync(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(steps.os, "fsync", fsync)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            Steps(tmp_path).run(4)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    assert Steps(tmp_path).run(4).trained == [3, 4]


@pytest.mark.parametrize("how", ["a bit", "the end"])
def test_a_damaged_state_counts_as_absent(tmp_path, caplog, how):
    whole = Steps(tmp_path / "whole").run(4)
    begun = Steps(tmp_path / "begun").run(2)
    path = tmp_path / "begun" / STATE
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content if how == "a bit" else content[:-5])
    again = Steps(tmp_path / "begun").run(4)
    assert again.trained == [1, 2, 3, 4]
    assert same(again.weights(), whole.weights())
    assert f"{path}: damaged" in caplog.text
    assert begun.trained == [1, 2]


def test_a_damaged_checkpoint_counts_as_absent(tmp_path, caplog):
    steps = Steps(tmp_path / "a").run(2)
    path = tmp_path / "a" / "epoch_002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert steps.journal.checkpoint(2) is None
    assert f"{path}: damaged" in caplog.text
