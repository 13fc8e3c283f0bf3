"""Labels in the names of folders, as other data sets write them."""

from __future__ import annotations

import pytest

from nearfar.recordings.datasets.labels import is_normal, label_of, says_anomaly

ANOMALOUS = """
abnormal anomaly anomalous anomalies NG Ng n.g. N.G NOK nok nOK niO n.i.O. faulty fault broken defect defective bad
fail failed damaged 01_NG NG2 NG_003 NGclips fault_ball ballfault BallFault abnormal-2 Abnormal.old AnomalousSound
AnomalousSound_IND engine2_broken broken_large not_ok NotOK not-normal kein_gut defekt Fehler Lagerschaden gestört
beschädigt ijou furyou 異常音 不良 anormal défaut test_NG
"""
OTHERS = """
normal_fan failover_hall default defaults song bangkok breakfast badge badminton Ansgar fan monday id_00 id_06
heavyload normal_speed NormalSound_CNT engine1_good engineering wing section target source far near NGO
"""
NORMAL = """
normal Normal NORMAL normal-2 good 01_OK ok okay healthy NormalSound i.O. no_fault noFault fault_free fault-free
fehlerfrei without_defects healthy_no_fault seijou 正常 異常なし gut
"""


@pytest.mark.parametrize("name", ANOMALOUS.split())
def test_names_of_anomalous_recordings(name):
    assert says_anomaly(name)
    assert label_of(name) == "anomaly"


@pytest.mark.parametrize("name", OTHERS.split())
def test_names_that_say_no_label(name):
    assert not says_anomaly(name)
    assert label_of(name) is None


@pytest.mark.parametrize("name", NORMAL.split())
def test_names_of_normal_recordings(name):
    assert is_normal(name)
    assert label_of(name) == "normal"


def test_a_name_that_says_both_says_none():
    assert says_anomaly("normal_and_faulty")
    assert label_of("normal_and_faulty") is None
