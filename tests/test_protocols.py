"""Folds never overlap where they must not; a finding cannot be had without its scope."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest

from nearfar.evaluation import protocols
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.protocols import CROSS_FITTED, Finding, Fold, Selection

MACHINES = ("fan", "pump", "valve", "saw")


@pytest.fixture
def finding() -> Finding:
    index = pd.MultiIndex.from_tuples([(m, 0) for m in MACHINES], names=["machine", "section"])
    table = pd.DataFrame({"auc_source": 0.6, "auc_target": 0.7, "pauc": [0.5, 0.5, 0.5, 0.6]}, index=index)
    folds = CROSS_FITTED.folds(MACHINES)
    selections = tuple(Selection(f, {"weights": {"ae": 0.4, "ced": 0.6}}) for f in folds)
    return Finding(
        table,
        CROSS_FITTED,
        protocols.scope_of(("weights",), folds),
        selections,
        pd.Series({"fan/test/a": 1.0}),
    )


def test_complete_development_is_one_fold_of_all() -> None:
    assert protocols.complete_development(MACHINES) == (Fold(MACHINES, MACHINES),)


def test_each_machine_is_left_out_once() -> None:
    folds = protocols.leave_one_machine_out(MACHINES)
    assert [f.report for f in folds] == [(m,) for m in MACHINES]
    assert all(set(f.select) == set(MACHINES) - set(f.report) and not f.inner for f in folds)


def test_inner_folds_stay_among_the_selection_machines() -> None:
    for fold in protocols.nested_leave_one_machine_out(MACHINES):
        assert len(fold.inner) == 3
        assert {m for f in fold.inner for m in (*f.select, *f.report)} == set(fold.select)
        assert all(not set(f.select) & set(f.report) for f in fold.inner)


def test_branches_are_left_out_in_order() -> None:
    found = protocols.leave_one_branch_out(["ae", "ced", "m2d"])
    assert found == {"ae": ("ced", "m2d"), "ced": ("ae", "m2d"), "m2d": ("ae", "ced")}


def test_too_few_or_repeated_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"machines=\('fan',\): the protocol needs 2 or more, each once"):
        protocols.leave_one_machine_out(["fan"])
    with pytest.raises(ValueError, match="the protocol needs 3 or more"):
        protocols.nested_leave_one_machine_out(["fan", "pump"])
    with pytest.raises(ValueError, match=r"machines=\('fan', 'fan'\): .*each once"):
        protocols.complete_development(["fan", "fan"])
    with pytest.raises(ValueError, match=r"branches=\('ae',\): leaving one out needs two or more"):
        protocols.leave_one_branch_out(["ae"])


def test_every_protocol_says_what_is_selected_on_what() -> None:
    assert len(protocols.PROTOCOLS) == 5
    for name, protocol in protocols.PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.selected_on
        assert {m for f in protocol.folds(MACHINES) for m in f.report} == set(MACHINES)


def test_a_finding_knows_its_omega_and_describes_itself(finding: Finding) -> None:
    assert finding.omega == omega(finding.metrics)
    said = json.loads(json.dumps(finding.describe()))
    assert said["omega"] == finding.omega
    assert said["scope"] == "weights selected on 3 other machines for each of 4"
    assert said["protocol"]["name"] == CROSS_FITTED.name
    assert said["folds"][0] == {
        "select": ["pump", "valve", "saw"],
        "report": ["fan"],
        "chosen": {"weights": {"ae": 0.4, "ced": 0.6}},
    }


def test_scopes_in_words() -> None:
    lomo, whole = protocols.leave_one_machine_out(MACHINES), protocols.complete_development(MACHINES)
    assert protocols.scope_of((), lomo) == "nothing was selected; 4 machines reported"
    alone = protocols.scope_of(("weights",), protocols.complete_development(["fan"]))
    assert alone == "weights selected on the machine that is reported"
    assert protocols.scope_of(("calibration", "weights"), whole) == (
        "calibration and weights selected on the 4 machines that are reported"
    )


def test_a_finding_without_protocol_scope_or_folds_is_refused(finding: Finding) -> None:
    with pytest.raises(TypeError, match="missing 4 required positional arguments"):
        Finding(finding.metrics)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="protocol=None: a finding needs the Protocol"):
        dataclasses.replace(finding, protocol=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scope=' ': a finding needs to say what was selected on what"):
        dataclasses.replace(finding, scope=" ")
    with pytest.raises(ValueError, match="are of 3 folds that are not those of 'cross-fitted, leave one"):
        dataclasses.replace(finding, selections=finding.selections[1:])
    cheated = tuple(Selection(Fold(MACHINES, s.fold.report), s.chosen) for s in finding.selections)
    with pytest.raises(ValueError, match="not those of 'cross-fitted"):
        dataclasses.replace(finding, selections=cheated)
