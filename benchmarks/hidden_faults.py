"""Faults that hide among the training clips: which looks find them, and whom they suspect without cause.

    python benchmarks/hidden_faults.py [--seeds 2,3] [--clips 150] [--draws 5] [--machines fan,pump] [--workers 2]
                                       [--folder DIR]

For each simulated machine and seed, normal training clips of both domains are recorded, and faulty clips of all
kinds and severities as the simulator draws them. Then sets are drawn in which 0, 1, 3 and 5 % of the training clips
are faulty ones in place of normal ones. The looks are:

* ``median, inner 3/4``: what nearfar had before: band levels of near and what near hears beyond far; a covariance
  of the inner three quarters; at most ten clips beyond a fixed limit;
* ``not robust``: the row of `inspection.unlike`, with centres and covariance of all clips, also of suspected ones;
* ``MCD``: the minimum covariance determinant (scikit-learn) on twelve principal components of the inner three
  quarters of the same rows, and the distance from their plane, with the rule of suspicion of `inspection.unlike`;
* ``no conditions``: `inspection.unlike.unlikeness` without what names tell of conditions;
* ``reweighted``: the same with it, which is what `check` and `fit` list;
* ``score``: `unlike_by_score` of cross-fitted scores of the default system, what `fit` lists beside it;
* ``fit``: both together.

What is recorded is kept in DIR, a few numbers a clip.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.covariance import MinCovDet, ledoit_wolf
from threadpoolctl import threadpool_limits

from nearfar.backends.domain_normalized import DomainNormalized
from nearfar.embedding.embeddings import shape_mean_std
from nearfar.encoders.spectral import Spectral
from nearfar.recordings.audio import INT16_SCALE
from nearfar.recordings.clips import Clip, parse_clip
from nearfar.recordings.inspection import unlike, usual
from nearfar.recordings.inspection.measured import Float, measure
from nearfar.recordings.inspection.training import unlike_by_score
from nearfar.recordings.microphones import MICROPHONES
from nearfar.simulation.dataset import Cell, Planned, Settings, plan, record, site_of
from nearfar.simulation.machines import MACHINES

RATE, SECONDS = 16000, 10.0
SHARES = (0.0, 0.01, 0.03, 0.05)
TARGETS = 10  # training clips of the target domain
FAULTY = {"source": 30, "target": 6}  # clips of each pool of faults
FOLDS = 10  # of the cross-fitted scores, as in `spectral`
COMPONENTS = 12  # of MCD
SEVERITIES = ((0.4, 0.6), (0.6, 0.8), (0.8, 1.01))
Pool = dict[str, np.ndarray]
Bool = np.ndarray


def pool_of(machine: str, seed: int, clips: int, folder: Path) -> Pool:
    """Numbers of all clips of a machine, normal and faulty; made once."""
    path = folder / f"{machine}-{seed}-{clips}.npz"
    if not path.exists():
        with threadpool_limits(1):
            np.savez(path, **_recorded(machine, seed, clips))
    names = [Path(one.key) for one in _planned(machine, seed, clips)[1]]
    with np.load(path) as arrays:
        return {**arrays, "condition": np.array([parse_clip(name).attributes for name in names])}


def _planned(machine: str, seed: int, clips: int) -> tuple[Settings, list[Planned]]:
    """All clips of a pool, normal ones first."""
    settings = Settings(
        machines=(machine,), source_clips=clips - TARGETS, target_clips=TARGETS, test_clips=max(FAULTY.values()),
        seconds=SECONDS, rate=RATE, snr=(-8.0, 0.0), seed=seed, shift=None, noise=None, microphone_faults=(),
        microphone_fault_share=0.0, sources=False,
    )  # fmt: skip
    cells = [(Cell(machine, "train", "source", "normal"), clips - TARGETS)]
    cells += [(Cell(machine, "train", "target", "normal"), TARGETS)]
    cells += [(Cell(machine, "test", d, "anomaly"), n) for d, n in FAULTY.items()]  # type: ignore[arg-type]
    site = site_of(settings, machine)
    return settings, [plan(settings, site, cell, index) for cell, count in cells for index in range(count)]


def _recorded(machine: str, seed: int, clips: int) -> Pool:
    settings, planned = _planned(machine, seed, clips)
    site, rows = site_of(settings, machine), defaultdict(list)
    encoder = Spectral(floor_db=-10.0)  # as in spectral.toml
    for one in planned:
        clip = record(site, one, samples=settings.samples).clip
        samples = (np.rint(clip / INT16_SCALE) * INT16_SCALE).astype(np.float32)
        measured = measure(samples, RATE)
        assert measured.pair is not None
        rows["former"].append(np.concatenate([measured.bands[0], measured.pair.presence[0]]))
        rows["sound"].append(unlike.sound(samples, RATE))
        heard = MICROPHONES["cancelled_3taps"].view(samples)
        rows["embedding"].append(shape_mean_std(encoder(heard[None]))[0])
        rows["target"].append(one.domain == "target")
        rows["severity"].append(one.severity)
        rows["fault"].append(one.fault or "")
    return {name: np.array(values) for name, values in rows.items()}


def drawn(pool: Pool, share: float, rng: np.random.Generator) -> np.ndarray:
    """The clips of a training set in which so many are faulty ones of the same domain: (n,) numbers."""
    faulty = pool["severity"] > 0
    chosen = np.flatnonzero(~faulty)
    for place in rng.choice(len(chosen), round(share * len(chosen)), replace=False):
        others = np.flatnonzero(faulty & (pool["target"] == pool["target"][chosen[place]]))
        chosen[place] = rng.choice(np.setdiff1d(others, chosen))
    return chosen


def former(rows: Float, domains: Sequence[str]) -> Bool:
    """What nearfar had before."""
    centred = np.empty_like(rows)
    for group in unlike._groups(domains):
        centred[group] = rows[group] - np.median(rows[group], axis=0)
    inner = usual._inner(np.median(centred**2, axis=1))
    distance = np.empty(len(rows))
    for fold in range(5):
        own = np.arange(fold, len(rows), 5)
        covariance = ledoit_wolf(centred[np.setdiff1d(inner, own)], assume_centered=True)[0]
        precision = np.linalg.inv(covariance + 0.1 * np.eye(rows.shape[1]))
        distance[own] = ((centred[own] @ precision) * centred[own]).sum(axis=1)
    ratio = distance / np.median(distance)
    limit = max(5.0, float(np.exp(5 * unlike.MAD * np.median(np.abs(np.log(ratio))))))
    return (ratio > limit) & (ratio >= np.sort(ratio)[-10])


def not_robust(rows: Float, domains: Sequence[str]) -> Bool:
    """The same distances, by centres and a covariance of all clips."""
    groups = unlike._groups(domains)
    distance = unlike.leave_one_out(rows, groups, np.ones(len(rows), bool))
    return unlike.suspicion(unlike.in_units_of_the_usual(distance, groups), groups).suspected


def mcd(rows: Float, domains: Sequence[str]) -> Bool:
    """The minimum covariance determinant on robust principal components."""
    groups, centred = unlike._groups(domains), np.empty_like(rows)
    for group in groups:
        centred[group] = rows[group] - np.median(rows[group], axis=0)
    inner = usual._inner(np.median(centred**2, axis=1))
    axes = np.linalg.svd(centred[inner], full_matrices=False)[2][:COMPONENTS]
    scores = centred @ axes.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inside = MinCovDet(random_state=0, support_fraction=0.8).fit(scores).mahalanobis(scores)
    beside = ((centred - scores @ axes) ** 2).sum(axis=1)
    distance = inside / np.median(inside) + beside / np.median(beside)
    return unlike.suspicion(unlike.in_units_of_the_usual(distance, groups), groups).suspected


def by_score(embeddings: Float, domains: Sequence[str]) -> Bool:
    """What `fit` lists by the cross-fitted scores of the default system."""
    scores, labels = np.empty(len(embeddings)), np.array(domains)
    order = np.random.default_rng(0).permutation(len(embeddings))
    for fold in range(FOLDS):
        own = order[fold::FOLDS]
        rest = np.setdiff1d(order, own)
        scores[own] = (
            DomainNormalized().fit(embeddings[rest], domain=labels[rest]).anomaly_score(embeddings[own])
        )
    clips = [Clip(Path(f"{i}.wav"), "m", 0, "train", f"{i}.wav", domain=d) for i, d in enumerate(domains)]  # type: ignore[arg-type]
    listed = unlike_by_score(clips, {clip.key: score for clip, score in zip(clips, scores, strict=True)})
    names = {suspect.clip.name for suspect in listed}
    return np.array([clip.name in names for clip in clips])


LOOKS: dict[str, tuple[str, Callable[[Float, Sequence[str]], Bool]]] = {
    "median, inner 3/4": ("former", former),
    "not robust": ("sound", not_robust),
    "MCD": ("sound", mcd),
    "no conditions": ("sound", lambda rows, domains: unlike.unlikeness(rows, domains).suspected),
    "score": ("embedding", by_score),
}


def looked(machine: str, seed: int, clips: int, draws: int, folder: Path) -> list[tuple[object, ...]]:
    """Of each set and look: machine, share, look; and of each clip its severity (0: normal), and the suspicion."""
    pool, rng, found = pool_of(machine, seed, clips, folder), np.random.default_rng(seed), []
    with threadpool_limits(1):
        for share, _ in product(SHARES, range(draws)):
            chosen = drawn(pool, share, rng)
            domains = ["target" if is_target else "source" for is_target in pool["target"][chosen]]
            suspected = {
                name: look(pool[rows][chosen].astype(float), domains) for name, (rows, look) in LOOKS.items()
            }
            sounds, told = pool["sound"][chosen], pool["condition"][chosen].tolist()
            suspected["reweighted"] = unlike.unlikeness(sounds, domains, told).suspected
            suspected["fit"] = suspected["reweighted"] | suspected["score"]
            found += [(machine, share, name, pool["severity"][chosen], of) for name, of in suspected.items()]
    return found


def show(found: list[tuple[object, ...]]) -> None:
    """The tables."""
    names, machines = [*LOOKS, "reweighted", "fit"], sorted({str(one[0]) for one in found})
    for share in SHARES:
        head = ("recall", "precision", "false a set", "sets with any")
        print(f"\n{f'{share:.0%} hidden':20s}" + "".join(f"{word:>15s}" for word in head))
        for name in names:
            print(f"{name:20s}" + "".join(f"{cell:>15s}" for cell in rates(found, name, share)))
    print("\nrecall by severity, 1 to 5 % hidden")
    for name in names:
        severity, of = clips_of(found, name)
        cells = [of[(severity >= low) & (severity < high)] for low, high in SEVERITIES]
        told = zip(SEVERITIES, cells, strict=True)
        print(
            f"{name:20s}"
            + "".join(f"   to {min(high, 1.0)}: {c.mean():6.1%} of {len(c)}" for (_, high), c in told)
        )
    print(f"\n{'recall, 1 to 5 % hidden':24s}" + "".join(f"{m:>9s}" for m in machines))
    for name in names:
        pairs = [clips_of(found, name, machine) for machine in machines]
        print(f"{name:24s}" + "".join(f"{of[severity > 0].mean():9.0%}" for severity, of in pairs))


def rates(found: list[tuple[object, ...]], name: str, share: float) -> list[str]:
    """Recall, precision, suspected normal clips a set, and the share of sets that have any."""
    sets = [(s, of) for _, at, look, s, of in found if at == share and look == name]
    hits = sum(int((of & (s > 0)).sum()) for s, of in sets)
    hidden = sum(int((s > 0).sum()) for s, _ in sets)
    false = [int((of & (s == 0)).sum()) for s, of in sets]
    return [
        f"{hits / hidden:.1%}" if hidden else "",
        f"{hits / (hits + sum(false)):.1%}" if hidden and hits + sum(false) else "",
        f"{np.mean(false):.2f}",
        f"{np.mean(np.array(false) > 0):.0%}",
    ]


def clips_of(found: list[tuple[object, ...]], name: str, machine: str | None = None) -> tuple[Float, Bool]:
    """Severities and suspicions of all clips of sets with hidden faults."""
    at = [(s, of) for m, share, look, s, of in found if look == name and share and machine in (None, m)]
    severity, of = (np.concatenate(parts) for parts in zip(*at, strict=True))
    return severity, of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", default="2,3")
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--machines", default=",".join(MACHINES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        tasks = list(product(given.machines.split(","), [int(s) for s in given.seeds.split(",")]))
        with ProcessPoolExecutor(given.workers) as pool:
            jobs = [
                pool.submit(looked, machine, seed, given.clips, given.draws, folder)
                for machine, seed in tasks
            ]
            found = [one for job in jobs for one in job.result()]
    show(found)


if __name__ == "__main__":
    main()
