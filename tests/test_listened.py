"""What a report takes from recordings: each is read once, and what is found is what others find."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import RATE, write_machine

from nearfar.embedding import embeddings
from nearfar.evaluation.results import Result
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Dataset, DatasetError, Machine
from nearfar.recordings.datasets.validation import validate
from nearfar.recordings.inspection.measured import measure
from nearfar.recordings.microphones import listen
from nearfar.recordings.recording import known_digests
from nearfar.research import embedded, experiment, listened
from nearfar.research.listened import listen_to
from nearfar.systems import configuration
from nearfar.systems.branches import Branch
from nearfar.systems.resolved import resolve

SETTINGS = {"branch.encoder_options.n_mels": 16, "branch.conditioning": [], "branch.backend": "mahalanobis",
            "threshold.method": "none"}  # fmt: skip


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listened") / "plant"
    for machine in ("fan", "pump"):
        write_machine(folder, machine, train=8, target=2, test=2, seconds=0.5)
    return folder


@pytest.fixture(scope="module")
def made(plant: Path) -> tuple[Result, Jobs]:
    """A result of both machines, and the cache that has its embeddings."""
    jobs = Jobs(plant.parent / "cache")
    system = configuration.load("spectral", SETTINGS)
    return experiment.run(system, plant, plant.parent / "result", seeds=(1,), jobs=jobs), jobs


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file is opened, by whatever way."""
    found: Counter[Path] = Counter()
    of_sound = audio.read_recorded

    def counted(recording: Any) -> Any:
        found[getattr(recording, "path", recording)] += 1
        return of_sound(recording)

    monkeypatch.setattr(audio, "read_recorded", counted)
    monkeypatch.setattr(audio, "read", lambda recording: pytest.fail(f"{recording} is read in another way"))
    return found


def test_each_recording_is_read_once_for_all_results(
    plant: Path, made: tuple[Result, Jobs], reads: Counter[Path], tmp_path: Path
) -> None:
    result, _ = made
    played = list(result.scores["key"][:3])
    results = {"one": result, "two": replace(result, folder=Path("elsewhere"))}
    dataset = datasets.load(plant)
    found = listen_to(dataset, results, played=played, jobs=Jobs(tmp_path), workers=2)
    assert set(reads.values()) == {1}
    assert set(reads) == {clip.path for clip in dataset.clips}
    assert found.clips == len(dataset.clips) == 36
    assert sorted(found.heard) == sorted(played)


def test_problems_are_those_of_the_check(plant: Path, made: tuple[Result, Jobs], tmp_path: Path) -> None:
    result, jobs = made
    shutil.copytree(plant, tmp_path / "plant")
    dataset = datasets.load(tmp_path / "plant")
    (tmp_path / "plant" / "broken.wav").write_bytes(b"RIFF")
    clips = tuple(replace(c, path=tmp_path / "plant" / "broken.wav") if c.name.endswith("0001_speed_1.2.wav") else c
                  for c in dataset["fan"].clips)  # fmt: skip
    broken = Dataset("plant", tmp_path / "plant", (Machine("fan", clips), dataset["pump"]))
    bad = next(c.key for c in broken.clips if c.path.name == "broken.wav" and c.split == "test")
    found = listen_to(broken, {"one": result}, played=[bad, "fan/test/none.wav"], jobs=jobs)
    expected = validate(broken)
    assert [(p.kind, p.where) for p in found.problems] == [(p.kind, p.where) for p in expected]
    assert not any(str(tmp_path) in problem.message for problem in found.problems)
    assert found.unheard[bad].startswith("not a readable recording")
    assert found.unheard["fan/test/none.wav"] == "no such clip in plant"
    assert not found.heard
    (levels, _) = (one for one in found.maps if one.machine == "fan")
    assert "of 18 clips are not shown" in levels.note
    assert bad not in {clip.key for clip in levels.clips}


def test_maps_show_what_the_branch_embeds_computed_or_stored(
    plant: Path, made: tuple[Result, Jobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, jobs = made
    dataset = datasets.load(plant)
    computed = listen_to(dataset, {"one": result}, jobs=Jobs(tmp_path))
    monkeypatch.setattr(listened, "embed", lambda *_, **__: pytest.fail("the store has it"))
    from_store = listen_to(dataset, {"one": result}, jobs=jobs)
    assert [one.what for one in from_store.maps] == [
        embedded.LEVELS, "spectral, view cancelled_3taps, pooling shape_mean_std"
    ] * 2  # fmt: skip
    assert [one.used_by for one in from_store.maps] == [(), ("one",)] * 2
    branch = Branch(resolve(configuration.load("spectral", SETTINGS), seed=1).branches[0])
    for machine, one, two in zip(("fan", "pump"), computed.maps[1::2], from_store.maps[1::2], strict=True):
        assert [clip.key for clip in one.clips] == [clip.key for clip in two.clips]
        np.testing.assert_allclose(one.places, two.places, atol=1e-3)
        X = np.stack(branch.embed(one.clips, workers=1, jobs=Jobs(tmp_path / machine)))
        _, sizes, axes = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
        expected = (X - X.mean(axis=0)) @ axes[:2].T
        np.testing.assert_allclose(np.abs(one.places), np.abs(expected), atol=1e-3)
        np.testing.assert_allclose(one.shares, (sizes**2 / (sizes**2).sum())[:2], rtol=1e-4)
    clip = computed.maps[0].clips[0]
    samples, rate = audio.read_recorded(clip.recording).samples, RATE
    bands = {
        c.key: measure(audio.read_recorded(c.recording).samples, rate).bands[0]
        for c in computed.maps[0].clips
    }
    assert bands[clip.key].shape == measure(samples, rate).bands[0].shape
    places, _ = embedded.principal_components(np.stack(list(bands.values())))
    np.testing.assert_allclose(computed.maps[0].places, places, atol=1e-6)


def test_what_is_played_is_what_the_microphones_heard(plant: Path, made: tuple[Result, Jobs]) -> None:
    result, jobs = made
    key = result.scores["key"][0]
    found = listen_to(datasets.load(plant), {"one": result}, played=[key], jobs=jobs).heard[key]
    samples, _ = audio.read(found.clip.recording)
    assert list(found.sounds) == ["near", "far", "cancelled"]
    for view, sound in found.sounds.items():
        np.testing.assert_array_equal(sound, listen(samples, view))
    assert (found.rate, found.seconds) == (RATE, 0.5)


def test_one_microphone_and_long_clips(plant: Path, made: tuple[Result, Jobs], tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(listened, "MOST_SECONDS", 0.25)
    result, jobs = made
    for path in plant.rglob("*.wav"):
        copy = tmp_path / path.relative_to(plant)
        copy.parent.mkdir(parents=True, exist_ok=True)
        audio.write(copy, audio.read(path)[0][:1], RATE)
    key = result.scores["key"][0]
    found = listen_to(datasets.load(tmp_path), {"one": result}, played=[key], jobs=jobs)
    assert list(found.heard[key].sounds) == ["near"]
    assert len(found.heard[key].sounds["near"]) == RATE // 4
    assert found.heard[key].seconds == 0.5
    assert [one.what for one in found.maps] == [embedded.LEVELS] * 2  # the branch needs two microphones


def test_a_data_set_of_other_clips_is_refused(made: tuple[Result, Jobs], tmp_path: Path) -> None:
    write_machine(tmp_path, "saw", train=3, target=0, test=1, seconds=0.1)
    with pytest.raises(DatasetError, match=r"one: \w+ has none of its test clips; give the data set"):
        listen_to(datasets.load(tmp_path), {"one": made[0]})


def test_recordings_of_which_none_can_be_used_are_refused(plant: Path, made: tuple[Result, Jobs]) -> None:
    result, jobs = made
    data = datasets.load(plant, (1, 9))
    with pytest.raises(
        DatasetError, match=r"no recording of plant can be used, such as fan/test/\S+: no channel 9"
    ):
        listen_to(data, {"one": result}, jobs=jobs)


def test_maps_that_are_not_shown_are_told(made: tuple[Result, Jobs], monkeypatch: pytest.MonkeyPatch) -> None:
    result, jobs = made
    system = configuration.load("baseline_mse").model_dump(mode="json")
    trained = replace(result, run=result.run.model_copy(update={"system": system}))
    recipes, why_not = embedded.recipes_of({"ae": trained, "one": result}, "fan", jobs)
    assert [recipe.name for recipe in recipes] == [embedded.LEVELS, recipes[1].name]
    assert why_not == [
        "ae: the network of 'autoencoder' is trained for each machine, and a result does not keep it"
    ]
    monkeypatch.setattr(embedded, "MOST_RECIPES", 1)
    assert embedded.recipes_of({"one": result}, "fan", jobs)[1] == ["one: a machine has at most 1 maps"]
    monkeypatch.undo()
    strange = replace(result, run=result.run.model_copy(update={"system": {"name": "x", "branch": {}}}))
    assert "its encoder cannot be made here" in embedded.recipes_of({"x": strange}, "fan", jobs)[1][0]
    of_file = replace(result, run=result.run.model_copy(update={"system": {"name": "x", "scores": "a.csv"}}))
    assert embedded.recipes_of({"x": of_file}, "fan", jobs) == ([embedded.Recipe(embedded.LEVELS)], [])


def test_maps_show_test_clips_and_the_target_domain_first(plant: Path) -> None:
    machine = datasets.load(plant)["fan"]
    assert len(embedded.chosen(machine, 100)) == 18
    few = embedded.chosen(machine, 8)
    assert Counter((c.split, c.domain) for c in few if c.split == "train") == {
        ("train", "target"): 2, ("train", "source"): 2
    }  # fmt: skip
    one = embedded.chosen(machine, 18, [machine.test[0].key])
    assert [c.key for c in one if c.split == "test"] == [machine.test[0].key]
    played = [machine.test[1].key, machine.train[3].key]
    assert {c.key for c in embedded.chosen(machine, 8, played=played)} >= set(played)
    assert {c.key for c in embedded.chosen(machine, 1, played=played)} == set(played)


def test_what_does_not_fit_into_memory_may_be_read_again(
    plant: Path, made: tuple[Result, Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, jobs = made
    assert listen_to(datasets.load(plant), {"one": result}, jobs=jobs).once
    monkeypatch.setattr(listened, "MOST_HELD", 100)
    assert not listen_to(datasets.load(plant), {"one": result}, jobs=jobs).once


@pytest.mark.parametrize(("maps", "points"), [(1, 300), (28, 285), (100, 80), (1000, 60)])
def test_many_maps_have_fewer_points(maps: int, points: int) -> None:
    assert embedded.points_of_each(maps) == points


def test_principal_components_of_nothing_that_varies() -> None:
    places, shares = embedded.principal_components(np.ones((4, 3)))
    assert not places.any()
    assert not shares.any()
    places, shares = embedded.principal_components(np.outer(np.arange(3.0), [1, 2]))
    np.testing.assert_allclose(shares, [1, 0])
    assert not places[:, 1].any()


def test_digests_that_are_remembered_are_told_without_reading(plant: Path, tmp_path: Path) -> None:
    clips = datasets.load(plant)["fan"].clips[:3]
    recordings, jobs = [clip.recording for clip in clips], Jobs(tmp_path)
    assert known_digests(recordings, jobs) == [None] * 3
    shas = jobs.digests_of([clips[0].path])
    assert known_digests(recordings, jobs) == [*shas, None, None]
    assert embeddings.stored([], None, {}, None, view="near", pooling="mean") == {}
