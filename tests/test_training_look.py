"""The look at training clips: broken clips and copies are left out, what is common is refused, normal ones stay."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from two_microphones import RATE, pcm, recording
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip, DatasetError
from nearfar.recordings.datasets.validation import validate
from nearfar.recordings.inspection import copies, unlike
from nearfar.recordings.inspection.measured import measure
from nearfar.recordings.inspection.training import (
    Seen,
    _first_singular,
    judge,
    look,
    majority,
    where_apart,
)
from nearfar.recordings.microphones import MICROPHONES

N = 4 * RATE
CLIPS = 30
ALL = tuple(MICROPHONES.values())


def clip(seed, samples=N, **how):
    return (
        recording(np.random.default_rng(seed), samples, **how) if how else _plain_clip(seed, samples).copy()
    )


@cache
def _plain_clip(seed, samples):
    return recording(np.random.default_rng(seed), samples)


@dataclass(frozen=True, slots=True)
class Held(Seen):
    """A clip that is in memory."""

    samples: np.ndarray | None = None

    def again(self):
        return self.samples


def held(name, samples, rate=RATE, domain=None):
    samples = np.ascontiguousarray(samples, np.float32)
    known = Clip(Path(name), "mill", 0, "train", name, domain=domain)
    header = audio.Header(rate, len(samples), samples.shape[1], "WAV")
    sound = unlike.sound(samples, rate)
    return Held(known, header, measure(samples, rate), (), copies.digest(samples), None, samples, sound=sound)


@cache
def normal_clip(seed):
    return held(f"{seed:04}.wav", clip(seed))


@pytest.fixture(scope="module")
def normal():
    """Forty normal clips."""
    return [normal_clip(seed) for seed in range(40)]


def planted(normal, odd, count=CLIPS):
    """Normal clips of which the last ones are replaced by odd ones; the look, and the odd names."""
    odd = [held(f"odd{i}.wav", samples) for i, samples in enumerate(odd)]
    seen = [*normal[: count - len(odd)], *odd]
    return judge("mill", seen, ALL), [one.clip.name for one in odd]


def left_out(found):
    return sorted((suspect.clip.name, suspect.kind) for suspect in found.left_out)


def off(seed):
    return clip(seed, runs=0)


def off_half(seed):
    return clip(seed, runs=np.arange(N) < N / 2)


def exchanged(seed):
    return clip(seed)[::-1]


def dead(seed):
    return clip(seed) * [[1], [0]]


def units(seed):
    return clip(seed) * 32768


def gone(seed):
    samples = clip(seed)
    samples[0, N // 4 : N // 2] = 0
    return samples


def doubled(seed):
    return clip(seed)[[0, 0]]


LEFT_OUT = {
    off: "not_running",
    off_half: "not_running",
    exchanged: "swapped",
    dead: "dead",
    units: "units",
    gone: "gone",
    doubled: "identical",
}


@pytest.mark.parametrize("first", [0, 35])
def test_nothing_is_left_out_of_a_clean_set(first):
    found = judge("mill", [normal_clip(first + i) for i in range(CLIPS)], ALL)
    assert len(found.kept) == CLIPS
    assert (found.left_out, found.problems, found.warnings, found.unlike) == ((), (), (), ())
    assert len(found.noticed) <= 1


def test_a_wide_tail_of_a_clean_set_is_no_machine_that_is_off():
    """The machine is now louder and now softer than its surroundings: some clips lie beyond limits by chance."""
    found = judge("mill", [normal_clip(i) for i in range(100)], ALL)
    assert (found.left_out, found.problems) == ((), ())
    assert len(found.noticed) <= 1


BROKEN = [odd for odd, kind in LEFT_OUT.items() if kind != "not_running"]


@pytest.mark.parametrize("odd", BROKEN, ids=lambda odd: odd.__name__)
@pytest.mark.parametrize("count", [1, 5])
def test_broken_clips_are_left_out_and_only_they(normal, odd, count):
    found, names = planted(normal, [odd(100 + i) for i in range(count)])
    assert left_out(found) == [(name, LEFT_OUT[odd]) for name in names]
    assert (found.problems, found.unlike) == ((), ())


@pytest.mark.parametrize("odd", [off, off_half], ids=lambda odd: odd.__name__)
def test_clips_of_a_machine_that_is_off_are_left_out(normal, odd):
    """And hardly any other: no chance gap among the rest makes more of them a group."""
    held_odd = [held(f"odd{i}.wav", odd(100 + i)) for i in range(5)]
    names = {one.clip.name for one in held_odd}
    more = 0
    for first in range(0, len(normal) - 25, 5):
        found = judge("mill", [*normal[first : first + 25], *held_odd], ALL)
        assert {kind for _, kind in left_out(found)} == {"not_running"}
        assert {name for name, _ in left_out(found)} >= names
        more += len(found.left_out) - len(names)
    assert more <= 1


@pytest.mark.parametrize("odd", [exchanged, dead, gone, doubled, units], ids=lambda odd: odd.__name__)
def test_what_half_of_the_clips_have_is_a_problem_of_the_set(normal, odd):
    found, _ = planted(normal, [odd(100 + i) for i in range(CLIPS // 2)])
    assert not any(suspect.kind == LEFT_OUT[odd] for suspect in found.left_out)
    (problem,) = found.problems
    assert f"mill: 15 of 30 training clips ({LEFT_OUT[odd]}), too many to be left out: " in problem
    assert "look which clips are right" in problem


def test_outliers_do_not_change_what_is_said_of_normal_clips(normal):
    """A fifth of the clips, each broken in its own way."""
    odd = [odd(100 + i) for i, odd in enumerate([*BROKEN, exchanged, gone, units])]
    found, names = planted(normal, odd, count=40)
    assert sorted(suspect.clip.name for suspect in found.left_out) == names
    clean = judge("mill", normal[:32], ALL)
    assert {c.name for c, _ in found.noticed} == {c.name for c, _ in clean.noticed}
    assert found.problems == clean.problems == ()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_the_majority_is_found_whatever_the_share_of_exchanged_channels(normal, share):
    few = round(share * CLIPS)
    measured = [one.known for one in normal[few:CLIPS]]
    measured += [measure(exchanged(seed), RATE) for seed in range(few)]
    assert majority(measured) == list(range(CLIPS - few))


def test_of_two_equal_halves_one_is_taken(normal):
    measured = [one.known for one in normal[:15]] + [measure(exchanged(seed), RATE) for seed in range(15)]
    assert majority(measured) in (list(range(15)), list(range(15, 30)))


@pytest.mark.parametrize(("short", "refused"), [(3, False), (15, True)])
def test_mixed_lengths(normal, short, refused):
    found, names = planted(normal, [clip(100 + i, N // 2) for i in range(short)])
    assert bool(found.problems) == refused
    if refused:
        assert "15 of 30 training clips (length), too many" in found.problems[0]
    else:
        assert left_out(found) == [(name, "length") for name in names]


def test_lengths_within_a_fifth_are_mixed_freely(normal):
    found, _ = planted(normal, [clip(100 + i, int(N * (0.86 + 0.02 * i))) for i in range(10)])
    assert (found.left_out, found.problems) == ((), ())


def test_a_clip_of_another_rate_or_number_of_channels_is_left_out(normal):
    seen = [*normal[:20], held("fast.wav", clip(100), 48000), held("mono.wav", clip(101)[:1])]
    found = judge("mill", seen, ALL)
    assert left_out(found) == [("fast.wav", "rate"), ("mono.wav", "channels")]
    assert (found.header.rate, found.header.channels) == (RATE, 2)


@pytest.mark.parametrize("targets", [1, 2])
def test_a_domain_of_one_or_two_clips_is_looked_at_without_a_warning(targets):
    """The only clip of a domain is at no distance from itself."""
    new = [held(f"new{i}.wav", clip(100 + i), domain="target") for i in range(targets)]
    old = [held(f"old{i}.wav", clip(200 + i), domain="source") for i in range(30)]
    found = judge("mill", [*old, *new], ALL)
    assert (found.left_out, found.problems, found.unlike) == ((), (), ())


def test_a_fault_of_the_machine_is_listed_and_kept(normal):
    """A whine that no other clip has."""
    faulty = clip(100) + 0.3 * np.sin(2 * np.pi * 3000 * np.arange(N) / RATE) * [[1], [0.2]]
    found, names = planted(normal, [pcm(faulty)])
    assert [suspect.clip.name for suspect in found.unlike] == names
    assert "as far from the other training clips as usual" in found.unlike[0].message
    assert found.left_out == ()


def test_a_fault_of_a_microphone_that_nobody_listens_to_leaves_a_clip_in(normal):
    seen = [*normal[:25], *(held(f"odd{i}.wav", dead(100 + i)) for i in range(5))]
    found = judge("mill", seen, [MICROPHONES["near"]])
    assert found.left_out == ()
    assert found.fault_counts["far dead"] == 5


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("press_2026-03-{day:02}_0815_{i}.wav", 1),
        ("202603{day:02}_{i}.wav", 1),
        ("2026.03.{day:02} {i}.wav", 1),
        ("202603{day:02}081500{i:02}.wav", 1),
        ("202603{day:02}_{i}.wav", 2),
        ("20269999_{i}.wav", 0),
        ("{i}.wav", 0),
    ],
)
def test_clips_that_are_all_from_one_day_are_told(normal, name, days):
    names = [name.format(day=4 + i % max(days, 1), i=i) for i in range(20)]
    seen = [
        replace(one, clip=replace(one.clip, path=Path(name), name=name))
        for one, name in zip(normal[: len(names)], names, strict=True)
    ]
    warnings = judge("mill", seen, ALL).warnings
    assert [("from one day, 2026-03-04" in w) for w in warnings] == ([True] if days == 1 else [])


# copies


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve normal clips, and copies of the first ones in several forms."""
    folder = tmp_path_factory.mktemp("copies") / "mill"
    folder.mkdir()
    for i in range(12):
        audio.write(folder / f"{i:04}.wav", clip(i), RATE)
    soundfile.write(folder / "0000 (1).wav", clip(0).T, RATE, subtype="FLOAT")
    soundfile.write(folder / "first again.flac", clip(0).T, RATE)
    audio.write(folder / "softer, 0001.wav", pcm(0.5 * clip(1)), RATE)
    soundfile.write(folder / "third in 24 bits.wav", clip(2).T, RATE, subtype="PCM_24")
    soundfile.write(folder / "fourth as vorbis.ogg", clip(3).T, RATE)
    return folder


COPIES = {
    "0000 (1).wav": "0000.wav",
    "first again.flac": "0000.wav",
    "softer, 0001.wav": "0001.wav",
    "third in 24 bits.wav": "0002.wav",
}


def test_copies_are_left_out_and_their_originals_named(folder):
    found = look(datasets.load_machine(folder))
    said = {suspect.clip.name: suspect.message for suspect in found.left_out if suspect.kind == "copy"}
    lossy = {"fourth as vorbis.ogg": "0003.wav"} if "fourth as vorbis.ogg" in said else {}
    assert said == {copy: f"a copy of {original}" for copy, original in (COPIES | lossy).items()}
    assert len(found.left_out) == len(said)


def test_check_finds_the_same_copies(folder):
    problems = [p for p in validate(datasets.load_any(folder)) if p.kind == "copy"]
    assert {Path(p.where).name for p in problems} >= set(COPIES)


def test_clips_that_are_there_many_times_are_kept_once(normal):
    seen = [held(f"{i}{'again' * k}.wav", one.samples) for i, one in enumerate(normal[:10]) for k in range(6)]
    found = judge("mill", seen, ALL)
    assert [one.name for one in found.kept] == [f"{i}.wav" for i in range(10)]
    assert Counter(suspect.kind for suspect in found.left_out) == {"copy": 50}


def test_two_clips_of_one_machine_are_no_copies(normal):
    """Not even of pure tones, whose levels hardly vary."""
    assert judge("mill", normal, ALL).left_out == ()
    time = np.arange(N) / RATE
    hums = [
        held(f"{i}.wav", pcm(0.1 * np.sin(2 * np.pi * 100 * time + i) + 1e-3 * clip(i))) for i in range(15)
    ]
    assert not any(suspect.kind == "copy" for suspect in judge("mill", hums, [MICROPHONES["near"]]).left_out)


# the same is said by everyone


ODD = {
    "dead": dead,
    "swapped": exchanged,
    "gone": gone,
    "identical": doubled,
    "units": units,
    "short": lambda seed: clip(seed, N // 2),
    "late": lambda seed: np.stack([clip(seed)[0], np.roll(clip(seed)[1], 300)]),
    "clipped": lambda seed: np.stack([pcm(12 * clip(seed)[0]) / 4, clip(seed)[1]]),
    "offset": lambda seed: clip(seed) + np.float32([[0.05], [0]]),
}
SPOILING = [kind for kind in ODD if kind not in ("clipped", "offset")]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Thirty normal training clips, and an odd test clip of each kind."""
    folder = tmp_path_factory.mktemp("data") / "mill"
    for i in range(CLIPS):
        path = folder / "train" / f"{i:04}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, clip(i), RATE)
    (folder / "test").mkdir()
    for seed, (kind, odd) in enumerate(ODD.items(), start=100):
        soundfile.write(folder / "test" / f"{kind}.wav", odd(seed).T, RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def detector(machine, tmp_path_factory):
    found = Detector.fit(machine, "spectral", jobs=Jobs(tmp_path_factory.mktemp("jobs")))
    found.save(machine.parent / "detector")
    return found


@pytest.fixture(scope="module")
def problems(machine):
    return validate(datasets.load_any(machine))


@pytest.mark.parametrize("kind", ODD)
def test_score_and_check_say_the_same_of_a_file(detector, problems, machine, kind):
    verdict = detector.score_file(machine / "test" / f"{kind}.wav")
    assert [f.kind for f in verdict.faults] == [kind]
    assert (verdict.decision == "unusable") == (kind in SPOILING)
    assert np.isfinite(verdict.score)
    (problem,) = (p for p in problems if p.where.endswith(f"/{kind}.wav"))
    assert (problem.kind, problem.message) == (kind, verdict.faults[0].message)
    assert (problem.severity == "error") == (kind in SPOILING)


def test_check_says_nothing_else(problems):
    assert {p.kind for p in problems} == set(ODD)


def test_the_command_line_says_the_same(detector, machine):
    files = [str(machine / "test" / f"{kind}.wav") for kind in ODD]
    out = CliRunner().invoke(app, ["score", str(machine.parent / "detector"), *files, "--json"]).stdout
    said = {Path(row["recording"]).stem: row for row in map(json.loads, out.splitlines())}
    for kind in ODD:
        assert [f["kind"] for f in said[kind]["faults"]] == [kind]
        assert (
            said[kind]["faults"][0]["message"]
            == detector.score_file(said[kind]["recording"]).faults[0].message
        )
    checked = json.loads(CliRunner().invoke(app, ["check", str(machine), "--json"]).stdout)
    assert {Path(p["where"]).stem: p["kind"] for p in checked} == {kind: kind for kind in ODD}


def test_fit_says_the_same(machine, tmp_path):
    """Clips that score would not judge are left out, by the same kinds; the length is that of most clips."""
    folder = tmp_path / "mill"
    folder.mkdir()
    for path in (*sorted((machine / "train").iterdir()), *(machine / "test").iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    found = Detector.fit(folder, "spectral", jobs=Jobs(tmp_path / "jobs")).trained_on
    as_fit = {kind: "length" if kind == "short" else kind for kind in SPOILING}
    assert {Path(one["clip"]).stem: one["kind"] for one in found["left_out"]} == as_fit
    assert found["faults"] == {"near clipped": 1, "near offset": 1}
    with pytest.raises(DatasetError, match="the far microphone is silent") as refused:
        Detector.fit(folder, "spectral", odd_clips="refuse", jobs=Jobs(tmp_path / "jobs"))
    assert all(any(f"{kind}.wav: " in p for p in refused.value.problems) for kind in SPOILING)


def test_clips_of_a_machine_that_is_off_stand_apart_from_the_others():
    assert where_apart([0.1, 0.2, 0.4, 1.3, 1.4, 1.5]) == 0.5
    assert where_apart([0.1, 0.6, 0.7, 1.2, 1.3]) == 0.7
    assert where_apart([0.8, 0.9, 1.0, 1.1, 1.2]) == np.inf
    assert where_apart([0.1, 0.2, 0.4]) == np.inf


@pytest.mark.parametrize("odd_clips", ["leave out", "keep"])
def test_a_far_microphone_that_is_dead_in_all_clips_is_refused_also_where_a_protocol_keeps_all(
    tmp_path, rng, odd_clips
):
    for number in range(8):
        samples = recording(rng, 2 * RATE)
        samples[1] = 0
        audio.write(tmp_path / "mill" / f"{number}.wav", samples, RATE)
    with pytest.raises(DatasetError, match=r"8 of 8 training clips \(dead\), too many to be left out"):
        Detector.fit(tmp_path / "mill", "spectral", odd_clips=odd_clips, jobs=Jobs(tmp_path / "jobs"))


@pytest.mark.parametrize("shape", [(7, 30), (30, 7), (12, 12)])
def test_two_groups_are_told_apart_by_the_first_singular_vector_of_whichever_side(rng, shape):
    rows = rng.standard_normal(shape)
    found, expected = _first_singular(rows), np.linalg.svd(rows)[0][:, 0]
    np.testing.assert_allclose(abs(found @ expected) / np.linalg.norm(found), 1)


@pytest.mark.parametrize("block", [3, 7, 500])
def test_recordings_whose_levels_go_alike_are_found_block_by_block(rng, monkeypatch, block):
    monkeypatch.setattr(copies, "BLOCK", block)
    rows = rng.standard_normal((40, 10)) * np.repeat([1.0, 0.01], 20)[:, None]
    rows[[9, 17, 30]] = rows[[4, 4, 2]] + 0.05
    of = np.array([""] * 17 + ["long"] * 23)
    of[4] = "long"
    limit, found = 0.3**2 * 10, list(copies._first_near(rows, of, 0.3**2 * 10))
    expected = {}
    for later in range(40):
        for earlier in range(later):
            varied = min((rows[later] ** 2).sum(), (rows[earlier] ** 2).sum()) > limit
            apart = of[later] != of[earlier] or not of[later]
            if varied and apart and ((rows[later] - rows[earlier]) ** 2).sum() < limit:
                expected.setdefault(later, earlier)
    assert found == sorted(expected.items())
    assert {9: 4, 30: 2}.items() <= expected.items()


def test_copies_have_the_digest_of_the_original_in_any_container(rng):
    samples = pcm(0.3 * rng.standard_normal((2, 1000)))
    finer = samples + np.float32(0.2 / 2**15)
    assert copies.digest(samples) == copies.digest(finer) == copies.digest(samples.copy())
    assert copies.digest(samples) != copies.digest(samples[::-1])
    loud = np.float32([[1.5, -1.0, 1e38]])
    assert copies.digest(loud) == copies.digest(np.minimum(loud, 40)) != copies.digest(loud / 2)


@pytest.mark.parametrize("others", ["channels", "rate"])
def test_so_many_clips_of_another_format_that_none_is_odd(others, normal):
    """Half are mono, or of half the rate: this is told, and what is usual is that of one format."""
    samples = [clip(seed) for seed in range(6)]
    odd = [
        held(
            f"odd{seed}.wav",
            sound[:1] if others == "channels" else sound[:, ::2],
            RATE // (1 + (others == "rate")),
        )
        for seed, sound in enumerate(samples)
    ]
    found = judge("mill", [*normal[:6], *odd], ALL)
    assert found.problem_kinds[0] == others
    assert found.usual is not None
