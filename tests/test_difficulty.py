"""How hard the simulated machines are: neither hopeless nor trivial, and harder the fainter the fault."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from nearfar.encoders.features import Mel, log_mel
from nearfar.evaluation.metrics import omega
from nearfar.files.steps import Jobs
from nearfar.recordings.datasets import load
from nearfar.research import experiment
from nearfar.simulation import MACHINES, describe, simulate
from nearfar.simulation.dataset import SEVEN
from nearfar.simulation.machines.mechanics import Condition, Machine, dry_sound
from nearfar.systems import configuration

pytestmark = pytest.mark.slow
RATE = 16000
SEVERITIES = (0.2, 0.45, 0.7, 1.0)
FAULTS = [(d.name, fault) for d in describe() for fault in d.faults]
NORMAL_CLIPS, FAULTY_CLIPS = 40, 4
MEL = Mel(rate=RATE)


def embedding(
    machine: Machine, seed: int, fault: str | None = None, severity: float = 0.0
) -> NDArray[np.float64]:
    """Mean and standard deviation over time of the log-mel spectrum, without room and noise."""
    condition = Condition(machine.SPEEDS.usual[seed % 2], machine.LOADS.usual[seed // 2 % 2])
    rng = np.random.default_rng(seed)
    sound = dry_sound(machine, condition, fault=fault, severity=severity, samples=RATE, rate=RATE, rng=rng)
    levels = log_mel(sound, MEL)
    return np.concatenate([levels.mean(-1), levels.std(-1)])


class Normal:
    """A specimen, and what it sounds like when nothing is wrong."""

    def __init__(self, name: str) -> None:
        self.machine = MACHINES[name].manufacture(np.random.default_rng(0))
        normal = [embedding(self.machine, seed) for seed in range(100, 100 + NORMAL_CLIPS)]
        self.fitted = LedoitWolf().fit(np.array(normal))

    def score(self, fault: str, severity: float) -> float:
        """The mean distance of faulty clips; the same runs for every severity."""
        clips = [embedding(self.machine, seed, fault, severity) for seed in range(FAULTY_CLIPS)]
        return float(self.fitted.mahalanobis(np.array(clips)).mean())


@pytest.fixture(scope="module")
def normal() -> dict[str, Normal]:
    return {}


@pytest.mark.parametrize(("machine", "fault"), FAULTS)
def test_a_fault_is_easier_to_hear_the_worse_it_is(
    machine: str, fault: str, normal: dict[str, Normal]
) -> None:
    if machine not in normal:
        normal[machine] = Normal(machine)
    scores = [normal[machine].score(fault, severity) for severity in SEVERITIES]
    assert np.all(np.diff(scores) > 0), scores
    assert scores[-1] > 1.05 * scores[0]


# The whole: machines, rooms and noise, as `spectral_w1` hears them, by which the faults were chosen. The limits
# were set for this data set, so it is not made smaller.


@pytest.fixture(scope="module")
def omegas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Of every view and machine, on a small data set of the seven machines."""
    folder = tmp_path_factory.mktemp("difficulty")
    data = load(simulate(folder / "data", source_clips=60, test_clips=20, seconds=6.0, workers=2))
    found = {}
    for view in ("near", "far", "cancelled"):
        system = configuration.load("spectral_w1", {"branch.view": view, "threshold.method": "none"})
        result = experiment.run(system, data, folder / view, jobs=Jobs(folder / "cache"))
        found[view] = {str(machine): omega(table) for machine, table in result.metrics.groupby("machine")}
    return found


@pytest.mark.exhaustive
def test_the_near_microphone_hears_some_faults_of_every_machine(omegas: dict[str, dict[str, float]]) -> None:
    assert set(omegas["near"]) == set(SEVEN)
    assert {m: value for m, value in omegas["near"].items() if not 0.55 <= value <= 0.80} == {}


@pytest.mark.exhaustive
def test_the_far_microphone_alone_is_of_little_use(omegas: dict[str, dict[str, float]]) -> None:
    assert {m: value for m, value in omegas["far"].items() if value >= 0.60} == {}


@pytest.mark.exhaustive
def test_cancelling_helps_on_most_machines_but_not_on_all(omegas: dict[str, dict[str, float]]) -> None:
    helped = [m for m in SEVEN if omegas["cancelled"][m] > omegas["near"][m]]
    assert 4 <= len(helped) < 7
