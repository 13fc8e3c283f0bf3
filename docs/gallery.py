"""Draw the gallery of figures, ``docs/images/figures``: ``python docs/gallery.py [FOLDER]``, by hand.

Data and results are kept in FOLDER, if one is named; a second call then only draws.

All of it is simulated: four machines with 70 training and 80 test clips of four seconds each. Nothing was chosen so
that a number is good. What was chosen so that the eye finds something:

* of the faults of the fan in the test set, the clip with the highest score;
* an autoencoder that is trained for three epochs instead of a hundred, so that its seeds differ.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import signal

import nearfar
from nearfar import simulate
from nearfar.evaluation.results import Result
from nearfar.evidence.spectrograms import Spectrogram, spectrogram
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.audio import FAR, NEAR, Samples, read
from nearfar.recordings.clips import Clip, Dataset, Machine
from nearfar.report import figures
from nearfar.research import experiment, fused
from nearfar.systems import configuration

Levels = NDArray[np.float64]

OUT = Path(__file__).parent / "images" / "figures"
COLOURS = 256
DOTS_PER_INCH = 100
MACHINES = ("fan", "gearbox", "bearing", "pump")
SHOWN = "fan"
SECONDS, BANDS, COLUMNS = 4.0, 48, 160
SEEDS = (1, 2, 3)
QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
BESIDE = 3  # normal clips in an envelope spectrum
FRAME = 256  # samples, of coherence
HIGHEST_RATE = 200.0  # Hz, of an envelope

STUDY = """
name = "three_views"
protocol = "cross-fitted, leave one machine out"

[fusion]
weights = "search"
calibration = "own_normals"
false_alarm_rate = 0.05
"""
BRANCH = """
[branches.{name}]
system = "spectral"
settings = {{ "branch.view" = "{view}" }}
"""
VIEWS = {"near": "near", "cancelled": "cancelled_3taps", "far": "far"}


def main() -> None:
    """Simulate, fit, score, draw, write."""
    begun = time.perf_counter()
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(*sys.argv[1:2] or [folder])
        if not (at / "hall").exists():
            simulate(
                at / "hall",
                machines=MACHINES,
                source_clips=60,
                target_clips=10,
                test_clips=20,
                seconds=SECONDS,
            )
        hall = datasets.load(at / "hall")
        results = run(hall, at)
        clip = highest(hall[SHOWN], results["spectral"])
        detector = nearfar.fit(at / "hall" / SHOWN, "spectral")
        write(figures.explanation(nearfar.explain(detector, clip.recording)), OUT / "explanation.png")
        for name, draw in (*of_results(results), *of_sounds(hall[SHOWN], clip)):
            write(draw(), OUT / f"{name}.png")
    print(f"drawn in {time.perf_counter() - begun:.0f} s")


def write(figure: Figure, file: Path) -> None:
    """A PNG of few colours, which takes a third of the space."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=DOTS_PER_INCH)
    Image.open(drawn).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(file, optimize=True)
    print(f"wrote {file}, {file.stat().st_size / 1024:.0f} KiB")


def run(hall: Dataset, at: Path) -> dict[str, Result]:
    """Two systems, a fusion of three, and one that is trained with several seeds."""
    jobs = Jobs(at / "cache")
    results = {
        name: experiment.run(name, hall, at / "results" / name, jobs=jobs)
        for name in ("spectral", "spectral_near")
    }
    study = at / "three_views.toml"
    study.write_text(STUDY + "".join(BRANCH.format(name=n, view=v) for n, v in VIEWS.items()))
    results["three_views"] = fused.run(fused.load(study), hall, at / "results" / "three", jobs=jobs).result
    few = {"branch.training.epochs": 3, "threshold.method": "none"}
    baseline = configuration.load("baseline_mse", few)
    results["baseline_mse"] = experiment.run(
        baseline, hall, at / "results" / "baseline", seeds=SEEDS, jobs=jobs
    )
    return results


def of_results(results: dict[str, Result]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Figures of results, by the names of their files."""
    spectral, near, views = results["spectral"], results["spectral_near"], results["three_views"]
    drawn = figures.of_result
    yield "score_distributions", lambda: drawn.score_distributions(spectral, SHOWN)
    yield "roc", lambda: drawn.roc(spectral, SHOWN)
    yield "heat_map", lambda: drawn.heat_map(spectral)
    yield "false_alarm_rates", lambda: drawn.false_alarm_rates(spectral)
    yield "branch_weights", lambda: drawn.branch_weights(views)
    yield "left_out", lambda: drawn.left_out(views)
    yield "seeds", lambda: drawn.seeds(results["baseline_mse"], near, spectral)
    yield "omegas", lambda: drawn.omegas(*results.values())
    yield "comparison", lambda: drawn.comparison(near, spectral)


def highest(machine: Machine, result: Result) -> Clip:
    """The anomalous clip of the machine with the highest score."""
    table = result.scores[(result.scores["machine"] == machine.name) & (result.scores["label"] == "anomaly")]
    key = table.loc[table["score"].idxmax(), "key"]
    return next(one for one in machine.test if one.key == key)


def of_sounds(machine: Machine, clip: Clip) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Figures of recordings, by the names of their files."""
    recorded = [samples_of(one) for one in machine.train]
    faulty, rate = samples_of(clip), rate_of(clip)
    normal = np.array([band_levels(one[NEAR], rate) for one in recorded])
    seen = spectrogram(faulty[NEAR], rate, bands=BANDS, columns=COLUMNS)
    edges, limits = seen.frequencies, np.quantile(normal, QUANTILES, axis=0)
    yield (
        "abnormal_map",
        lambda: figures.abnormal_map(
            seen.times,
            edges,
            np.maximum(seen.levels - limits[3][:, None], 0),
            label="dB above 95 % of normal clips",
        ),
    )
    beyond = average(seen) - limits[4]
    first = int(np.argmax(beyond))
    band = (float(edges[max(first - 1, 0)]), float(edges[min(first + 2, BANDS)]))
    yield (
        "spectra",
        lambda: figures.spectra(
            edges, average(seen), limits, quantiles=QUANTILES, abnormal=[band], title="near microphone"
        ),
    )
    yield (
        "envelope_spectrum",
        lambda: envelopes(faulty[NEAR], [one[NEAR] for one in recorded[:BESIDE]], rate, band),
    )
    level = {name: [loudness(one[i]) for one in recorded] for name, i in (("near", NEAR), ("far", FAR))}
    yield "levels", lambda: figures.levels(np.arange(len(recorded)), level, over="number of the recording")
    yield "coherence", lambda: coherences(recorded, rate)
    domains = [one.domain or "" for one in machine.train]
    of = {name: normal[[d == name for d in domains]] for name in dict.fromkeys(domains)}
    yield "spectra_by_domain", lambda: figures.spectra_by_domain(edges, of)
    tested = np.array([band_levels(samples_of(one)[NEAR], rate) for one in machine.test])
    groups = [f"training, {d}" for d in domains] + [f"test, {one.label}" for one in machine.test]
    yield "embeddings", lambda: principal(np.vstack([normal, tested]), groups)


def samples_of(clip: Clip) -> Samples:
    """(2, samples)."""
    return read(clip.recording)[0]


def rate_of(clip: Clip) -> int:
    return read(clip.recording)[1]


def average(seen: Spectrogram) -> Levels:
    """Mean power in each band, in dBFS."""
    return 10 * np.log10((10 ** (seen.levels.astype(float) / 10)).mean(axis=1))


def band_levels(samples: Samples, rate: int) -> Levels:
    return average(spectrogram(samples, rate, bands=BANDS, columns=COLUMNS))


def loudness(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(samples.astype(float) ** 2)))


def envelopes(clip: Samples, normal: list[Samples], rate: int, band: tuple[float, float]) -> Figure:
    """Of the power of a band, relative to its mean: 0 dB is a change by all of it."""
    of = [envelope(one, rate, band) for one in (clip, *normal)]
    frequencies, level = of[0]
    (found,) = signal.find_peaks(level, height=np.median(level) + 15, distance=20)[:1]
    strongest = found[np.argsort(-level[found])[:3]]
    return figures.envelope_spectrum(
        frequencies, level, normal=np.array([one[1] for one in of[1:]]), peaks=sorted(frequencies[strongest])
    )


def envelope(samples: Samples, rate: int, band: tuple[float, float]) -> tuple[Levels, Levels]:
    filtered = signal.sosfiltfilt(signal.butter(4, band, "bandpass", fs=rate, output="sos"), samples)
    power = np.abs(signal.hilbert(filtered)) ** 2
    relative = (power / power.mean() - 1) * np.hanning(len(power))
    frequencies = np.fft.rfftfreq(len(power), 1 / rate)
    kept = (frequencies > 2) & (frequencies <= HIGHEST_RATE)
    amplitude = 4 * np.abs(np.fft.rfft(relative)[kept]) / len(power)
    return frequencies[kept], 20 * np.log10(amplitude + 1e-6)


def coherences(recorded: list[Samples], rate: int) -> Figure:
    """Of a single clip and, because chance averages out, of all."""
    spectra = [
        [
            signal.csd(one[a], one[b], rate, nperseg=FRAME)[1]
            for a, b in ((NEAR, FAR), (NEAR, NEAR), (FAR, FAR))
        ]
        for one in recorded
    ]
    cross, near, far = np.mean(spectra, axis=0)
    frequencies = np.fft.rfftfreq(FRAME, 1 / rate)
    one = signal.coherence(recorded[0][NEAR], recorded[0][FAR], rate, nperseg=FRAME)[1]
    of_all = np.abs(cross) ** 2 / (near.real * far.real)
    return figures.coherence(frequencies, {"one clip": one, "all training clips": of_all})


def principal(rows: Levels, groups: list[str]) -> Figure:
    """The first two principal components of rows, of unit variance in each band."""
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    share = values**2 / (values**2).sum()
    points = left[:, :2] * values[:2]
    return figures.embeddings(
        points, groups, variance=(share[0], share[1]), title="levels of 48 bands, near microphone"
    )


if __name__ == "__main__":
    main()
