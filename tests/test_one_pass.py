"""A recording is read once: what inspects it hears and measures it, and the detector is the same."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthetic import RATE, clip, write_machine

from nearfar.detector.fitted import Detector
from nearfar.detector.one_pass import OnePass
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip
from nearfar.systems import configuration
from nearfar.systems.branches import Branch
from nearfar.systems.resolved import resolve

SMALL = {"branch.encoder_options.n_mels": 8, "threshold.false_alarm_rate": 0.1, "threshold.folds": 3}
VIEWS = ("near", "far", "cancelled_3taps")


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_machine(tmp_path_factory.mktemp("data"), "fan")


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "cache")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the samples of each file were read."""
    counts: Counter[str] = Counter()
    plain = audio.read_recorded

    def counted(recording: audio.Recording | Path) -> audio.Recorded:
        counts[Path(str(recording)).name] += 1
        return plain(recording)

    monkeypatch.setattr(audio, "read_recorded", counted)
    return counts


def system(**settings: object) -> configuration.System:
    return configuration.load("spectral", {**SMALL, **settings})


def arrays(detector: Detector, folder: Path) -> bytes:
    detector.save(folder)
    return (folder / "arrays.safetensors").read_bytes()


@pytest.mark.parametrize("view", ["cancelled_3taps", "near_and_cancelled", "cancelled_5taps"])
def test_a_detector_is_that_of_recordings_that_are_read_for_each_purpose(
    fan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    chosen = system(**{"branch.view": view})
    found = Detector.fit(fan, chosen, workers=2, jobs=Jobs(tmp_path / "one"))
    monkeypatch.setattr(Branch, "hears_one_by_one", False)
    expected = Detector.fit(fan, chosen, jobs=Jobs(tmp_path / "each"))
    assert arrays(found, tmp_path / "found") == arrays(expected, tmp_path / "expected")


def test_a_fit_reads_each_clip_once(fan: Path, jobs: Jobs, read: Counter[str]) -> None:
    one_view = system(
        **{"branch.view": "near"}
    )  # of one that cancels, it is told what it takes of some clips
    detector = Detector.fit(fan, one_view, keep="embeddings", jobs=jobs)
    (first,) = (name for name, count in read.items() if count > 1)  # which the self-check is of
    assert read[first] == 2
    assert len(read) == detector.trained_on["clips"]


def test_what_the_cache_knows_is_not_heard_again(
    fan: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    Detector.fit(fan, system(), jobs=jobs)
    monkeypatch.setattr(Branch, "overhear", lambda *_: pytest.fail("heard again"))
    Detector.fit(fan, system(**{"branch.backend": "mahalanobis"}), jobs=jobs)


def test_learning_and_calibrating_read_each_recording_once(
    fan: Path, jobs: Jobs, tmp_path: Path, read: Counter[str]
) -> None:
    detector = Detector.fit(fan, system(), keep="embeddings", jobs=jobs)
    later = [tmp_path / f"{number}.wav" for number in range(12)]
    for number, path in enumerate(later):
        audio.write(path, clip(5_000 + number), RATE)
    read.clear()
    detector.calibrate(later)
    assert read == Counter(path.name for path in later)
    read.clear()
    detector.learn(later, domain="source", jobs=jobs)
    assert read == Counter(path.name for path in later)


def one_pass(clips: list[Clip], jobs: Jobs, **settings: object) -> OnePass:
    resolved = resolve(system(**settings), seed=0, jobs=jobs)
    return OnePass.of([Branch(branch) for branch in resolved.branches], clips, views=VIEWS, jobs=jobs)


def written(folder: Path, samples: np.ndarray, rate: int = RATE) -> Clip:
    """One clip of a machine."""
    folder.mkdir()
    soundfile.write(folder / "one.wav", samples.T, rate, subtype="FLOAT")
    soundfile.write(folder / "other.wav", samples.T[::-1], rate, subtype="FLOAT")
    return datasets.load_machine(folder).train[0]


@pytest.mark.parametrize(
    ("samples", "rate", "heard"),
    [
        (clip(1), RATE, True),
        (np.repeat(clip(1), 3, axis=1), 3 * RATE, True),
        (clip(1)[:1], RATE, False),
        (clip(1)[:, :500], RATE, False),
        (clip(1), RATE // 2, False),
        (np.float32(1e30) * clip(1), RATE, True),
        (np.zeros_like(clip(1)), RATE, True),
    ],
    ids=["as usual", "higher rate", "one channel", "too short", "lower rate", "other units", "silent"],
)
def test_what_cannot_be_heard_is_left_to_the_inspection(
    tmp_path: Path, jobs: Jobs, samples: np.ndarray, rate: int, heard: bool
) -> None:
    clip = written(tmp_path / "mill", samples, rate)
    found = one_pass([clip], jobs)
    (seen,) = found.listen_to([clip])
    assert seen.error is None
    assert found.of_branch(0, [clip], ["sha"]).keys() == ({"sha"} if heard else set())
    meter = found.meter(2, [clip], ["sha"])
    assert meter is not None
    assert meter.found.keys() == ({"sha"} if heard else set())


def test_what_cannot_be_read_is_told(tmp_path: Path, jobs: Jobs) -> None:
    clip = written(tmp_path / "mill", np.zeros((2, RATE), np.float32))
    clip.path.write_bytes(b"RIFF")
    (seen,) = one_pass([clip], jobs).listen_to([clip])
    assert seen.error is not None
    assert seen.error[0] == "unreadable"


def test_a_fit_loads_no_scikit_learn(tmp_path: Path) -> None:
    write_machine(tmp_path, "fan")
    code = """
import sys
from pathlib import Path
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
Detector.fit(sys.argv[1], "spectral", jobs=Jobs(Path(sys.argv[2])))
print([name for name in ("sklearn", "pandas", "torch") if name in sys.modules])
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "fan"), str(tmp_path / "cache")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
