"""The back end that was renamed: its old name still works, warns where it is written, and is no fault of a file."""

import json
import shutil
import warnings
from pathlib import Path

import forked
import numpy as np
import pytest
from synthetic import RATE, clip, write_machine

from nearfar.backends import BACKENDS, FORMER_NAMES, RenamedWarning, backend_class
from nearfar.backends.domain_local_density import DomainLocalDensity
from nearfar.detector.fitted import Detector
from nearfar.files import digests
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.systems import configuration
from nearfar.systems.resolved import former_defaults, resolve

RENAMED = r"back end 'local_density' is now called 'domain_local_density', and does the same as before"


def test_a_former_name_is_of_no_other_back_end():
    assert not FORMER_NAMES.keys() & BACKENDS.keys()
    assert set(FORMER_NAMES.values()) <= BACKENDS.keys()


def test_the_old_name_gives_the_same_class_with_a_warning():
    with pytest.warns(RenamedWarning, match=RENAMED):
        assert backend_class("local_density") is DomainLocalDensity


def test_a_setting_by_the_old_name_is_the_same_system():
    with pytest.warns(RenamedWarning, match=RENAMED):
        old = configuration.load(
            "spectral", {"branch.backend": "local_density", "branch.backend_options.k": 3}
        )
    new = configuration.load(
        "spectral", {"branch.backend": "domain_local_density", "branch.backend_options.k": 3}
    )
    assert old.branch == new.branch
    assert resolve(old, seed=1).branches == resolve(new, seed=1).branches


def test_the_old_name_of_the_back_end_that_is_there_keeps_its_options(tmp_path: Path):
    """As the same name does; another back end has its own defaults."""
    file = tmp_path / "own.toml"
    text = (
        Path(configuration.SYSTEMS["spectral"])
        .read_text()
        .replace('"domain_normalized"', '"domain_local_density"')
    )
    file.write_text(text.replace("[threshold]", "[branch.backend_options]\nk = 3\n\n[threshold]"))
    with pytest.warns(RenamedWarning, match=RENAMED):
        same = configuration.load(file, {"branch.backend": "local_density"})
    assert same.branch.backend_options == {"k": 3}
    other = configuration.load(file, {"branch.backend": "density_normalized"})
    assert other.branch.backend_options == {}


def test_a_wrapped_back_end_is_kept_by_its_new_name(rng):
    options = {"backend": "local_density", "backend_options": {"k": 3}}
    settings = {"branch.backend": "per_domain_normalized", "branch.backend_options": options}
    with pytest.warns(RenamedWarning, match=RENAMED):
        system = configuration.load("spectral", settings)
    with pytest.warns(RenamedWarning, match=RENAMED):
        (branch,) = resolve(system, seed=1).branches
    kept = branch.describe()["backend"]["options"]
    assert kept["backend"] == "domain_local_density"
    assert kept["backend_options"]["k"] == 3
    X, domain = rng.normal(size=(30, 4)), np.array(["source"] * 30)
    assert np.isfinite(branch.backend.make().fit(X, domain).anomaly_score(X)).all()  # no warning


def test_an_unknown_back_end_is_still_unknown():
    with pytest.raises(ValueError, match="no back end 'local_densty'"):
        backend_class("local_densty")


def test_former_defaults_are_found_by_the_new_name():
    assert former_defaults("backend", "domain_local_density")["k_target"] == 5
    assert former_defaults("backend", "density_normalized") == {}


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "wrapped"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A detector of today, its back end alone or wrapped; and the score of a clip."""
    folder, wrapped = tmp_path_factory.mktemp("saved"), request.param
    backend, options = "domain_local_density", {"k": 2, "k_target": 1}
    if wrapped:
        backend, options = "per_domain_normalized", {"backend": backend, "backend_options": options}
    settings = {
        "branch.backend": backend,
        "branch.backend_options": options,
        "threshold.false_alarm_rate": 0.3,
    }
    machine = datasets.load_machine(write_machine(folder / "data", "fan", train=12, test=1))
    fitted = Detector.fit(machine, configuration.load("spectral", settings), jobs=Jobs(folder / "cache"))
    fitted.save(folder / "detector")
    return folder / "detector", fitted.score(clip(101), RATE).score


@pytest.mark.parametrize("written", [3, 4, 5])
def test_a_detector_by_the_old_name_scores_as_it_did_without_a_warning(tmp_path: Path, saved, written):
    detector, score = saved
    old = shutil.copytree(detector, tmp_path / "old")
    text = (old / "detector.json").read_text().replace('"domain_local_density"', '"local_density"')
    content = {**json.loads(text), "format": written}
    del content["digest"]
    (old / "detector.json").write_text(json.dumps({**content, "digest": digests.digest(content)}))
    assert '"local_density"' in (old / "detector.json").read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = Detector.load(old)
        assert loaded.score(clip(101), RATE).score == score
    loaded.save(tmp_path / "again")
    assert '"local_density"' not in (tmp_path / "again" / "detector.json").read_text()


def test_the_command_line_tells_it_once_in_one_line(tmp_path: Path):
    write_machine(tmp_path / "data", "fan", test=1)
    command = ["fit", str(tmp_path / "data" / "fan"), "--set", "branch.backend=local_density"]
    settings = ["--set", "branch.backend_options.k_target=2", "--set", "threshold.false_alarm_rate=0.3"]
    out = ["--out", str(tmp_path / "detector")]
    done = forked.nearfar(*command, *settings, *out)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "local_density" in line]
    assert len(told) == 1
    assert told[0].startswith("WARNING: back end 'local_density' is now called 'domain_local_density'")
