"""Alerts with a stated mean time between false ones: what was asked, what was got, and how late faults are told.

    python benchmarks/alerts.py independent
    python benchmarks/alerts.py dependent
    python benchmarks/alerts.py delay
    python benchmarks/alerts.py season
    python benchmarks/alerts.py hear FOLDER NAME MACHINE SEED DAY_SEED HOURS [FAULT SEVERITY] [--steady]
    python benchmarks/alerts.py streams FOLDER MACHINE...

The first four are of random numbers in place of scores, in windows of 10 s, one after the other. ``independent``:
normal windows of a normal distribution; beside the rule, the same bets on ranks among fixed normal scores.
``dependent``: series in which windows that follow each other are alike, with and without the measurement of that.
``delay``: faults that begin at once, told from normal windows with a given AUC by window, at "1 per 30 days".
Beside it k of n windows above a threshold, with as many false alerts in the same series. ``season``: normal
scores that climb steadily, and a fault that grows steadily.

``hear`` simulates sound (``nearfar.simulation.days``), and keeps the embeddings that ``spectral`` makes of its
windows, hour by hour, in FOLDER; ``--steady``: at one load and speed, without stops. ``streams`` takes
FOLDER/fit-MACHINE and FOLDER/listen-MACHINE, which are to be different days, and FOLDER/FAULT-MACHINE: it fits the
back end of ``spectral`` to the former, with a fit for each hour that is left out, and hears the rest.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from nearfar.decisions.alarms import AlarmRule
from nearfar.decisions.alerts import SETTLE_S, AlertRule, Alerts, CountAlerts
from nearfar.decisions.betting import BETS, EDetector, RankBets
from nearfar.decisions.dependence import Dependence

WINDOW = 10.0  # seconds
HOUR = 360  # windows
Scores = NDArray[np.float64]
MOST = 1  # false alerts in what was heard of a simulated machine, at which rules are compared
RULES = ("1/1", "3/5", "6/10", "12/20")


def rule(text: str) -> AlertRule:
    return AlertRule.parse(text, window_s=WINDOW, hop_s=WINDOW)


def measure(scores: Scores, hours: Scores) -> Dependence | None:
    return Dependence.measure(scores, hours, window_s=WINDOW, hop_s=WINDOW)


def autoregressive(n: int, phi: float, rng: np.random.Generator) -> Scores:
    """Each window keeps a share phi of the one before it; variance 1."""
    return np.asarray(lfilter([math.sqrt(1 - phi**2)], [1, -phi], rng.normal(size=n + 500))[500:])


def plant(n: int, rng: np.random.Generator, *, share: float, load: float, passing: float) -> Scores:
    """White noise and a slower part (phi 0.9), a load that changes each 45 minutes or so, and what passes by."""
    x = math.sqrt(1 - share) * rng.normal(size=n) + math.sqrt(share) * autoregressive(n, 0.9, rng)
    for start in np.flatnonzero(rng.random(n) < passing):
        x[start : start + rng.integers(2, 5)] += 2.5 * rng.random()
    start = 0
    while start < n:
        length = int(rng.exponential(270)) + 30
        x[start : start + length] += rng.choice([-load, 0, load])
        start += length
    return x


Series = Callable[[int, np.random.Generator], Scores]
SERIES: dict[str, Series] = {
    "independent": lambda n, rng: rng.normal(size=n),
    "quiet plant": lambda n, rng: plant(n, rng, share=0.1, load=0.2, passing=1 / 360),
    "busy plant": lambda n, rng: plant(n, rng, share=0.3, load=0.5, passing=1 / 120),
    "phi 0.6": lambda n, rng: autoregressive(n, 0.6, rng),
    "phi 0.85": lambda n, rng: autoregressive(n, 0.85, rng),
}


def shift_of(series: Series, auc: float) -> float:
    """By how much a fault raises the scores, so that it is above a normal window in this share of pairs."""
    known = np.sort(series(50_000, np.random.default_rng(99)))
    low, high = 0.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        above = (np.searchsorted(known, known + middle) / len(known)).mean()
        low, high = (middle, high) if above < auc else (low, middle)
    return low


def began(alerts: Alerts, scores: Scores) -> int:
    return sum(alerts.after(score).began for score in scores.tolist())


def independent() -> None:
    """Mean time to the first alert, asked 2 h; fixed: ranks among the normal scores alone."""
    asked = rule("1 per 2 h")
    print(
        "| normal windows | got (h) | standard error | fixed normal scores (h) | the worst fifth of fits (h) |"
    )
    print("|---|---|---|---|---|")
    for n in (40, 200, 1000, 4000):
        rng = np.random.default_rng(n)
        times, fixed = [], []
        for _ in range(150):
            normal = rng.normal(size=n)
            alerts = Alerts(asked, normal)
            times.append(next(i for i in range(1, 10**6) if alerts.after(rng.normal()).began) / HOUR)
            fixed.append(until_fixed(normal, asked.windows, rng) / HOUR)
        error, worst = np.std(times) / math.sqrt(len(times)), worst_fits(n, asked.windows)
        print(f"| {n} | {np.mean(times):.1f} | {error:.1f} | {np.mean(fixed):.1f} | {worst:.1f} |")


def until_fixed(normal: Scores, windows: float, rng: np.random.Generator) -> int:
    """Windows until an alert, where nothing is learnt; at most 20,000."""
    detectors = [EDetector(RankBets(normal, memory=1, bet=bet)) for bet in BETS]
    for number in range(1, 20_001):
        score = rng.normal()
        if max(detector.take(score) for detector in detectors) >= len(BETS) * windows:
            return number
    return 20_000


def worst_fits(n: int, threshold: float) -> float:
    """Of thirty sets of normal scores, the mean time (h) of the worst six, where nothing is learnt."""
    rng = np.random.default_rng(n + 1)
    means = []
    for _ in range(30):
        normal = rng.normal(size=n)
        means.append(np.mean([until_fixed(normal, threshold, rng) for _ in range(8)]) / HOUR)
    return float(np.mean(sorted(means)[:6]))


def dependent() -> None:
    """Hours between false alerts over 100 h, asked 2 h; the measurement is on 6 h."""
    print(
        "| windows | rate of the tail | got by the theorem's threshold (h) | got with what was measured (h) |"
    )
    print("|---|---|---|---|")
    asked = rule("1 per 2 h")
    for name, series in SERIES.items():
        plain, raised, rates = [], [], []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            normal, later = series(6 * HOUR, rng), series(100 * HOUR, rng)
            measured = measure(normal, np.arange(6 * HOUR) // HOUR)
            assert measured is not None
            rates.append(measured.tails[0].rate)
            plain.append(100 / max(1, began(Alerts(asked, normal), later)))
            raised.append(100 / max(1, began(Alerts(asked, normal, dependence=measured), later)))
        told = " | ".join(
            f"{np.median(x):.2f} ({min(x):.2f} to {max(x):.2f})" for x in (rates, plain, raised)
        )
        print(f"| {name} | {told} |", flush=True)


def count_alerts(scores: Scores, k: int, n: int, above: float) -> int:
    """How many alerts k of n gives, as ``CountAlerts`` does; one that lasts counts again each hour."""
    flagged = np.convolve(scores > above, np.ones(n, dtype=int))[: len(scores)]
    event = np.where(flagged >= k, 1, np.where(flagged <= (k - 1) // 2, -1, 0))
    last = np.maximum.accumulate(np.where(event != 0, np.arange(len(event)), 0))
    on = event[last] == 1
    return int((on[1:] & ~on[:-1]).sum() + on[0] + on.sum() // HOUR)


def threshold_for(scores: Scores, k: int, n: int, most: int) -> float:
    """The lowest threshold at which k of n gives at most so many alerts."""
    low, high = float(scores.min()), float(scores.max())
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if count_alerts(scores, k, n, middle) > most else (low, middle)
    return high


def delays(start: Callable[[], Alerts | CountAlerts], faults: list[tuple[Scores, Scores]]) -> Scores:
    """Minutes from the beginning of each fault to the alert; infinite if there is none.

    Where a false alert is on when the fault begins, there is no delay to measure.
    """
    found = []
    for before, after in faults:
        alerts, on = start(), False
        for score in before.tolist():
            on = alerts.after(score).alert
        if not on:
            hit = next(
                (i for i, score in enumerate(after.tolist(), 1) if alerts.after(score).alert), math.inf
            )
            found.append(hit * WINDOW / 60)
    return np.array(found or [math.nan])


def delay() -> None:
    days = 60
    asked = rule("1 per 30 days")
    print(
        f"| windows | AUC | false alerts in {days} days | bets: median, 9 of 10 (min) | "
        + " | ".join(RULES)
        + " |"
    )
    print("|---|---|---|---|" + "---|" * len(RULES))
    for name in ("independent", "quiet plant", "busy plant"):
        series, rng = SERIES[name], np.random.default_rng(17)
        normal = series(8 * HOUR, rng)
        alerts = Alerts(asked, normal, dependence=measure(normal, np.arange(len(normal)) // HOUR))
        state = alerts.state()
        later = series(days * 24 * HOUR, rng)
        false = began(alerts, later)
        counts = [AlarmRule.parse(text) for text in RULES]
        above = [threshold_for(later, c.needed, c.of_last, max(false, 3)) for c in counts]
        for auc in (0.8, 0.9, 0.95, 0.99, 0.999):
            shift = shift_of(series, auc)
            faults = [(x[:60], x[60:] + shift) for x in (series(360 * 3, rng) for _ in range(60))]
            found = [delays(lambda state=state: Alerts.restore(state), faults)]  # type: ignore[misc]
            found += [
                delays(lambda c=c, a=a: CountAlerts(c, above=a), faults)  # type: ignore[misc]
                for c, a in zip(counts, above, strict=True)
            ]
            told = " | ".join(f"{np.median(x):.1f}, {np.sort(x)[int(0.9 * len(x))]:.1f}" for x in found)
            print(f"| {name} | {auc} | {false} | {told} |", flush=True)


def season() -> None:
    """A window each minute, 60 days, asked 1 per 30 days; climbs in standard deviations a day."""
    asked = AlertRule.parse("1 per 30 days", window_s=60, hop_s=60)
    print("| climb a day | false alerts in 60 days, of each of 4 |")
    print("|---|---|")
    days = 60
    for climb in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8):
        found = []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=days * 1440) + climb * np.arange(days * 1440) / 1440
            found.append(began(Alerts(asked, rng.normal(size=720)), x))
        print(f"| {climb} | {found} |", flush=True)
    print("\n| a fault that grows by, an hour | alert after (h), at (standard deviations) |\n|---|---|")
    for growth in (0.05, 0.1, 0.25, 0.5, 1, 4):
        hours = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            alerts = Alerts(asked, rng.normal(size=720))
            for score in rng.normal(size=3 * 1440).tolist():
                alerts.after(score)
            hit = next(
                (i for i in range(20_000) if alerts.after(rng.normal() + growth * i / 60).alert), math.inf
            )
            hours.append(hit / 60)
        print(f"| {growth} | {np.median(hours):.1f}, {growth * np.median(hours):.1f} |", flush=True)


def hear(
    folder: Path,
    name: str,
    machine: str,
    seed: int,
    day_seed: int,
    hours: int,
    fault: tuple[str, float] | None,
    steady: bool,
) -> None:
    """Embeddings of simulated windows, an array for each hour; those that are there stay."""
    from nearfar.embedding.embeddings import embed
    from nearfar.files.steps import Jobs
    from nearfar.simulation import Onset
    from nearfar.simulation.days import BEGINS, Settings, pieces, regimes_of, stream_of

    settings = Settings(
        machines=(machine,), hours=float(hours), file_hours=1.0, rate=16000, snr_db=-4.0, seed=seed,
        day_seed=day_seed, train_hours=0.0 if fault else float(hours), begins=BEGINS.isoformat(),
        schedule=not steady, hall=True, drift=(), drift_db=6.0, drift_hours=24.0,
        onsets=(Onset(fault[0], 0.0, severity=fault[1]),) if fault else (),
    )  # fmt: skip
    branch, size = spectral(Jobs()), round(WINDOW * settings.rate)
    folder.mkdir(exist_ok=True, parents=True)
    stops = [(r.start, r.end) for r in regimes_of(settings, machine) if r.condition is None]
    (folder / f"{name}.json").write_text(json.dumps(stops))
    for hour in range(hours):
        path = folder / f"{name}_{hour:03d}.npy"
        if path.exists():
            continue
        found, rest = [], np.zeros((2, 0), dtype=np.float32)
        for piece in pieces(stream_of(settings, machine), hour * 3600 * settings.rate, 3600 * settings.rate):
            rest = np.concatenate([rest, piece.astype(np.float32)], axis=1)
            while rest.shape[1] >= size:
                window = np.round(rest[:, :size] * 32768).clip(-32768, 32767).astype(np.float32) / 32768
                found.append(
                    embed(window, branch.encoder, view=branch.resolved.view, pooling=branch.resolved.pooling)
                )
                rest = rest[:, size:]
        np.save(path.with_suffix(".part.npy"), np.array(found, dtype=np.float32))
        path.with_suffix(".part.npy").rename(path)


def spectral(jobs):  # type: ignore[no-untyped-def]
    """The only branch of ``spectral``, not fitted."""
    from nearfar.systems.branches import Branch
    from nearfar.systems.fusion import load_any
    from nearfar.systems.resolved import resolve

    return Branch(resolve(load_any("spectral"), seed=0, jobs=jobs, machine="any").branches[0])


def heard(folder: Path, name: str) -> list[NDArray[np.float32]]:
    """The hours of a stream that are there, in order."""
    return [np.load(path) for path in sorted(folder.glob(f"{name}_[0-9][0-9][0-9].npy"))]


def told_running(folder: Path, name: str, windows: int) -> NDArray[np.bool_]:
    """Of each window, whether it is not told to be of a machine at rest.

    By the truth: those that lie in a stop, after its first 10 s, but every fifth. ``fit`` left out 31 of 38 such
    windows of two hours of the fan, ``score`` told 11 of 13 of a third.
    """
    found = np.ones(windows, dtype=bool)
    for start, end in json.loads((folder / f"{name}.json").read_text()):
        inside = range(math.ceil(start / WINDOW) + 1, math.floor(end / WINDOW))
        found[[i for i in inside if i % 5 and i < windows]] = False
    return found


def settled(running: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which windows alerts hear: not those of a machine at rest, nor the minute after."""
    recently = np.convolve(~running, np.ones(1 + round(SETTLE_S / WINDOW)))[: len(running)]
    return recently == 0


def scored(
    fit: list[NDArray[np.float32]], others: list[NDArray[np.float32]], running: NDArray[np.bool_]
) -> tuple[Scores, Scores]:
    """Scores of the hours of the fit, each by a fit to the others, and of other hours by a fit to all.

    Only windows of the fit that are ``running`` are fitted to; the others have NaN.
    """
    from nearfar.files.steps import Jobs

    hours = np.repeat(np.arange(len(fit)), [len(x) for x in fit])
    X, unseen = np.concatenate(fit), np.full(len(hours), np.nan)

    def fitted(to: NDArray[np.bool_]):  # type: ignore[no-untyped-def]
        return spectral(Jobs()).fit_backend(list(X[to]), np.full(to.sum(), "undisclosed"))

    for hour in range(len(fit)):
        own = running & (hours == hour)
        unseen[own] = fitted(running & (hours != hour)).anomaly_score(list(X[own]))
    whole = fitted(running)
    return unseen, np.concatenate([whole.anomaly_score(list(x)) for x in others])


def auc(normal: Scores, faulty: Scores) -> float:
    known = np.sort(normal)
    return float(
        (np.searchsorted(known, faulty, "left") + np.searchsorted(known, faulty, "right")).mean()
        / 2
        / len(known)
    )


def streams(folder: Path, machines: list[str]) -> None:
    print(
        "| machine | fitted to, heard (h) | above the fit's 1 % | rate of the tail | by the theorem (h) | got (h) |"
    )
    print("|---|---|---|---|---|---|")
    asked = rule("1 per 2 h")
    told = []
    for machine in machines:
        fit, listen = heard(folder, f"fit-{machine}"), heard(folder, f"listen-{machine}")
        names = sorted(
            {p.name.split("-")[0] for p in folder.glob(f"*-{machine}_000.npy")} - {"fit", "listen"}
        )
        faulty = [np.concatenate(heard(folder, f"{name}-{machine}")) for name in names]
        parts = np.repeat(np.arange(len(fit)), [len(x) for x in fit])
        running = told_running(folder, f"fit-{machine}", len(parts))
        normal, scores = scored(fit, [np.concatenate(listen), *faulty], running)
        known, measured = normal[running], measure(np.where(settled(running), normal, np.nan), parts)
        assert measured is not None
        n = sum(map(len, listen))
        later, hours = scores[:n], n / HOUR
        later[~settled(told_running(folder, f"listen-{machine}", n))] = np.nan
        plain = began(Alerts(asked, known), later)
        raised = began(Alerts(asked, known, dependence=measured), later)
        share = np.mean(later[np.isfinite(later)] > np.quantile(known, 0.99))
        rates = ", ".join(f"{tail.rate:.2f}" for tail in measured.tails)
        print(
            f"| {machine} | {len(fit)}, {hours:.0f} | {100 * share:.1f} % | {rates} | "
            f"{hours / max(plain, 1):.1f} ({plain}) | {hours / max(raised, 1):.1f} ({raised}) |",
            flush=True,
        )
        of_each = np.split(scores[n:], np.cumsum([len(x) for x in faulty])[:-1])
        for name, of in zip(names, of_each, strict=True):
            of[~settled(told_running(folder, f"{name}-{machine}", len(of)))] = np.nan
            told.append((machine, name, known, measured, later, of))
    print("\n| fault | AUC | false alerts at 1 per 30 days | bets, 1 per 30 days | calibrated on what was heard | "
          "bets, as often as k of n | " + " | ".join(RULES) + " |")  # fmt: skip
    print("|---|---|---|---|---|---|" + "---|" * len(RULES))
    for one in told:
        of_fault(*one)


def of_fault(
    machine: str, fault: str, normal: Scores, measured: Dependence, later: Scores, faulty: Scores
) -> None:
    """Delays from 40 moments at which the machine breaks: normal windows, then the faulty ones of another time."""
    rng = np.random.default_rng(5)
    faults = [
        (later[i : i + HOUR // 2], faulty[j : j + HOUR])
        for i, j in zip(
            rng.integers(len(later) - HOUR // 2, size=40),
            rng.integers(len(faulty) - 120, size=40),
            strict=True,
        )
    ]

    def bets(seconds: float) -> Alerts:
        return Alerts(AlertRule(seconds, WINDOW, WINDOW), normal, dependence=measured)

    usable = later[np.isfinite(later)]
    again = measure(later, np.arange(len(later)) // HOUR)
    calibrated = Alerts(rule("1 per 30 days"), usable, dependence=again).state()
    equal = next((t for t in np.geomspace(600, 1e8, 60) if began(bets(t), later) <= MOST), 1e8)
    counts = [AlarmRule.parse(text) for text in RULES]
    above = [threshold_for(usable, c.needed, c.of_last, MOST) for c in counts]
    found = [delays(lambda: bets(30 * 86400), faults), delays(lambda: Alerts.restore(calibrated), faults)]
    found.append(delays(lambda: bets(equal), faults))
    found += [
        delays(lambda c=c, a=a: CountAlerts(c, above=a), faults)  # type: ignore[misc]
        for c, a in zip(counts, above, strict=True)
    ]
    told = " | ".join(f"{np.median(x):.1f}, {np.sort(x)[int(0.9 * len(x))]:.1f}" for x in found)
    month = began(bets(30 * 86400), later)
    told = f"{month} | {told}"
    print(f"| {machine}, {fault} | {auc(usable, faulty[np.isfinite(faulty)]):.3f} | {told} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("independent", "dependent", "delay", "season"):
        commands.add_parser(name)
    of_hear = commands.add_parser("hear")
    of_hear.add_argument("folder", type=Path)
    of_hear.add_argument("name")
    of_hear.add_argument("machine")
    for name in ("seed", "day_seed", "hours"):
        of_hear.add_argument(name, type=int)
    of_hear.add_argument("fault", nargs="*")
    of_hear.add_argument("--steady", action="store_true")
    of_streams = commands.add_parser("streams")
    of_streams.add_argument("folder", type=Path)
    of_streams.add_argument("machines", nargs="+")
    args = parser.parse_args()
    if args.command == "hear":
        fault = (args.fault[0], float(args.fault[1])) if args.fault else None
        hear(args.folder, args.name, args.machine, args.seed, args.day_seed, args.hours, fault, args.steady)
    elif args.command == "streams":
        streams(args.folder, args.machines)
    else:
        {"independent": independent, "dependent": dependent, "delay": delay, "season": season}[args.command]()


if __name__ == "__main__":
    main()
