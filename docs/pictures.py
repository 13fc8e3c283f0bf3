"""Draw the pictures of README and documentation, ``docs/images``: ``python docs/pictures.py``, by hand.

Each shows one simulated clip, twice: as it is, and with a fault of severity 1. The fault changes neither speed nor
noise, so that whatever differs between the rows is the fault. What was chosen so that the eye finds something:

* of each machine the fault that can be seen best, at its lowest speed;
* of a hundred sites two with not more than two sources of noise, in which cancelling helps more than in most;
* a ratio of 0 dB of machine to noise at the near microphone;
* the part of the clip: one with an alarm, or that in which the fault changes most;
* the length of the window: long for lines, short for blows.

One shows noise cancellation instead, where it helps and where it hurts; its places are chosen for that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from PIL import Image

from nearfar.encoders.features import Mel, log_mel, mel_frequencies
from nearfar.recordings.audio import NEAR, Samples
from nearfar.recordings.microphones import cancelled, far, listen, near
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.machines.mechanics import Condition, dry_sound
from nearfar.simulation.noise import NOISES as KINDS
from nearfar.simulation.noise import noise_gain
from nearfar.simulation.rooms import Place, Room, heard
from nearfar.simulation.sites import Site

Level = NDArray[np.float32]  # (bands, frames), in dB

OUT = Path(__file__).parent / "images"
RATE = 16000
CLIP_SECONDS = 4.0  # that noise is cancelled in; a part of them is shown
LOAD, SNR_DB = 1, 0.0
TWO_SOURCES, ONE_SOURCE = 7, 62  # seeds of a site with a factory and an alarm, and of one with a factory
FRAMES = 160  # in a panel: each is two pixels wide
F_MIN = 120.0  # Hz; below there is little but the hum of the hall
RANGE_DB = 30.0  # of the colours
COLOURS = 256
KHZ = (0.25, 0.5, 1, 2, 4, 8)
INK = "#262626"

COLUMNS = {"far microphone": far, "near microphone": near, "near, noise cancelled": cancelled}
LOUDEST = (0, 1, 1)  # of each column, that whose loudest level is 0 dB: nobody calibrated the microphones
NOISES = {
    "factory": "a hall full of work",
    "machine": "another machine",
    "impacts": "someone who hammers",
    "babble": "people who talk",
    "vehicles": "vehicles",
    "alarms": "an alarm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What is drawn.

    Attributes
    ----------
    file : str
        Below ``OUT``.
    machine, fault : str
    seen : str
        What tells the lower row from the upper one.
    marked : (str, str) or None
        Of the machine's frequencies the one whose period is marked, and what that is called.
    seconds : float
        Length of the part that is shown.
    start : float or None
        Where it begins, in seconds; where the fault changes most if ``None``.
    window, bands : int
        Of the spectrogram; the window in samples.
    seed : int
        Of site and clip.
    """

    file: str
    machine: str
    fault: str
    seen: str
    seconds: float
    window: int
    bands: int = 56
    start: float | None = None
    marked: tuple[str, str] | None = None
    seed: int = TWO_SOURCES

    @property
    def condition(self) -> Condition:
        """How the machine is operated: at its lowest speed."""
        return Condition(MACHINES[self.machine].SPEEDS.usual[0], LOAD)

    @property
    def mel(self) -> Mel:
        """The spectrogram."""
        hop = round(self.seconds * RATE / FRAMES)
        return Mel(rate=RATE, n_fft=1024, win_length=self.window, hop=hop, n_mels=self.bands, f_min=F_MIN)


PICTURES = (
    Picture(
        file="near-far.png",
        machine="fan",
        fault="unbalance",
        seen="the rotor is out of balance, and all swells once per revolution",
        marked=("shaft", "one revolution"),
        seconds=0.5,
        start=1.0,
        window=256,
    ),
    Picture(
        file="machines/fan.png",
        machine="fan",
        fault="blade",
        seen="a damaged blade hits once per revolution",
        marked=("shaft", "one revolution"),
        seconds=0.4,
        window=128,
        seed=ONE_SOURCE,
    ),
    Picture(
        file="machines/gearbox.png",
        machine="gearbox",
        fault="misalignment",
        seen="the coupling is bent twice per revolution, and all swells with it",
        marked=("shaft", "one revolution"),
        seconds=0.35,
        start=1.0,
        window=128,
    ),
    Picture(
        file="machines/bearing.png",
        machine="bearing",
        fault="cage",
        seen="a cracked cage knocks once per turn of its own",
        marked=("cage", "one turn of the cage"),
        seconds=1,
        start=1.0,
        window=128,
    ),
    Picture(
        file="machines/pump.png",
        machine="pump",
        fault="clogging",
        seen="the inlet is clogged, and the flow swells at a part of the shaft's speed",
        marked=("shaft", "one revolution"),
        seconds=0.5,
        start=1.0,
        window=256,
    ),
    Picture(
        file="machines/slider.png",
        machine="slider",
        fault="rail",
        seen="a pit in the rail is hit on the way there and on the way back",
        marked=("cycle", "there and back"),
        seconds=1.6,
        start=1.0,
        window=256,
    ),
    Picture(
        file="machines/valve.png",
        machine="valve",
        fault="looseness",
        seen="a loose plunger bounces: after each click, weaker blows around 1.5 kHz",
        marked=("cycle", "one cycle"),
        seconds=0.6,
        window=128,
        seed=ONE_SOURCE,
    ),
    Picture(
        file="machines/motor.png",
        machine="motor",
        fault="unbalance",
        seen="the rotor is out of balance, and all lines swell once per revolution",
        marked=("shaft", "one revolution"),
        seconds=0.4,
        start=1.0,
        window=256,
    ),
    Picture(
        file="machines/toycar.png",
        machine="toycar",
        fault="slip",
        seen="tyres that slip squeal for a while, at 1.6 kHz and its multiples",
        seconds=2,
        window=1024,
        bands=96,
        seed=ONE_SOURCE,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A row of the picture of cancellation: places in metres, the machine against the noise in dB."""

    title: str
    far: Place
    snr_db: float


ROOM = ((9.0, 6.0, 4.0), 0.3)  # metres, seconds of reverberation
GEARBOX, BESIDE_IT, NOISE_PLACE = (4.0, 2.8, 1.0), (4.2, 2.9, 1.2), (7.5, 4.5, 1.5)
SCENES = (
    Scene(title="it helps", far=(6.0, 3.5, 1.5), snr_db=-6.0),
    Scene(title="it hurts", far=(4.3, 2.5, 1.2), snr_db=15.0),
)
SCENE_MEL = Mel(rate=RATE, n_fft=1024, win_length=512, hop=100, n_mels=64, f_min=F_MIN)
SCENE_VIEWS = {"near microphone": "near", "one tap": "cancelled", "three taps": "cancelled_3taps"}
WARM_UP = 8  # frames that are not shown


def main() -> None:
    """Simulate, draw, write: every picture."""
    begun = time.perf_counter()
    matplotlib.rcParams.update({"font.size": 9.5, "text.color": INK, "axes.labelcolor": INK})
    matplotlib.rcParams.update({"axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK})
    for picture in PICTURES:
        file = OUT / picture.file
        file.parent.mkdir(parents=True, exist_ok=True)
        site = site_of(picture)
        rows = [levels(picture, site, fault) for fault in (None, picture.fault)]
        figure = draw(picture, site, shown(picture, rows))
        write(figure, file)
        print(f"wrote {file}, {file.stat().st_size / 1024:.0f} KiB")
    file = OUT / "cancellation.png"
    write(draw_scenes(), file)
    print(f"wrote {file}, {file.stat().st_size / 1024:.0f} KiB")
    print(f"{len(PICTURES) + 1} pictures in {time.perf_counter() - begun:.0f} s")


def write(figure: Figure, file: Path) -> None:
    """A PNG of few colours, which takes a third of the space."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=150)
    pyplot.close(figure)
    Image.open(drawn).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(file, optimize=True)


def site_of(picture: Picture) -> Site:
    """The machine where it stands."""
    seeds = np.random.SeedSequence(picture.seed)
    return Site.draw(picture.machine, shift=("none",), snr_db=SNR_DB, rate=RATE, seeds=seeds)


def levels(picture: Picture, site: Site, fault: str | None) -> list[Level]:
    """One row of panels, of the whole clip."""
    of_machine, of_noise, of_sensors = np.random.default_rng(picture.seed).spawn(3)
    take = site.take(
        "source",
        site.scenes["source"].units[0],
        picture.condition,
        fault=fault,
        severity=0.0 if fault is None else 1.0,
        snr_db=SNR_DB,
        samples=round(CLIP_SECONDS * RATE),
        rngs=(of_machine, of_noise, of_sensors),
    )
    clip = (take.machine + take.noise)[:, site.lead :].astype(np.float32)
    return [log_mel(view(clip), picture.mel) for view in COLUMNS.values()]


def shown(picture: Picture, rows: Sequence[Sequence[Level]]) -> list[list[Level]]:
    """The part that is drawn; where the fault changes most is judged by the last column."""
    if picture.start is None:
        normal, faulty = (row[-1] for row in rows)
        change = np.abs(faulty - normal).mean(axis=0)
        first = int(np.argmax(np.convolve(change, np.ones(FRAMES), mode="valid")))
    else:
        first = round(picture.start * RATE / picture.mel.hop)
    return [[level[:, first : first + FRAMES] for level in row] for row in rows]


def draw(picture: Picture, site: Site, rows: Sequence[Sequence[Level]]) -> Figure:
    """All panels; each microphone has its colour scale, because nobody calibrated it."""
    figure, axes = pyplot.subplots(
        len(rows), len(COLUMNS), figsize=(9, 5.4), sharex=True, sharey=True, layout="constrained"
    )
    loudest = [max(np.percentile(row[column], 99.5) for row in rows) for column in LOUDEST]
    for across, row, name in zip(axes, rows, ("normal", picture.fault), strict=True):
        for axis, level, reference in zip(across, row, loudest, strict=True):
            drawn = panel(axis, picture.mel, picture.seconds, level - reference)
        across[0].set_ylabel(f"{name}\n", fontsize=11, fontweight="bold")
        across[0].annotate("frequency (kHz)", (-0.2, 0.5), xycoords="axes fraction", rotation=90, va="center")
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=11, fontweight="bold", pad=8)
    for axis in axes[-1]:
        axis.set_xlabel("time (s)")
    if picture.marked is not None:
        frequency, name = picture.marked
        ruler(axes[-1, -1], picture.seconds, 1 / frequencies(picture, site)[frequency], name)
    bar = figure.colorbar(
        drawn, ax=axes, label="level (dB), loudest of the microphone = 0", pad=0.015, aspect=35
    )
    bar.outline.set_visible(False)
    figure.supxlabel(caption(picture, site), fontsize=9.5)
    return figure


def frequencies(picture: Picture, site: Site) -> dict[str, float]:
    """Of the machine, in Hz."""
    return site.units[site.scenes["source"].units[0]].frequencies(picture.condition)


def caption(picture: Picture, site: Site) -> str:
    """What one sees, and what the picture was made with."""
    unit = MACHINES[picture.machine].SPEED_UNIT
    kinds = dict.fromkeys(source.kind for source in site.scenes["source"].sources)
    noise = " and ".join(NOISES[kind] for kind in kinds)
    return (
        f"Simulated: {picture.machine}, {picture.condition.speed} {unit}. "
        f"Fault of severity 1: {picture.seen}.\n"
        f"Noise: {noise}; signal-to-noise ratio {SNR_DB:g} dB at the near microphone."
    )


def panel(axis: Axes, mel: Mel, seconds: float, level: Level) -> AxesImage:
    """One spectrogram; the frequency axis is the mel scale, its ticks are in kHz."""
    low, high = mel_frequencies(np.array([mel.f_min, mel.f_max]), mel.scale)
    drawn = axis.imshow(
        level,
        origin="lower",
        aspect="auto",
        extent=(0.0, seconds, low, high),
        cmap="magma",
        vmin=-RANGE_DB,
        vmax=0.0,
        interpolation="nearest",
    )
    axis.set_yticks(mel_frequencies(1000 * np.array(KHZ), mel.scale), [f"{k:g}" for k in KHZ])
    axis.tick_params(length=3)
    return drawn


def take_scene(scene: Scene) -> tuple[Samples, Samples]:
    """A gearbox and a hall full of work: of the machine alone and of both, (2, samples)."""
    rng = np.random.default_rng(0)
    ways = Room.build(*ROOM, rate=RATE).ways([GEARBOX, NOISE_PLACE], [BESIDE_IT, scene.far], rate=RATE)
    filled = round(CLIP_SECONDS * RATE) + ways.shape[-1] - 1
    kind = MACHINES["gearbox"]
    condition = Condition(kind.SPEEDS.usual[0], LOAD)
    dry = dry_sound(kind.manufacture(rng), condition, samples=filled, rate=RATE, rng=rng)
    machine = heard(dry, ways[0])
    noise = heard(KINDS["factory"].draw(rng)(samples=filled, rate=RATE, rng=rng), ways[1])
    both = machine + noise_gain(machine[NEAR], noise[NEAR], snr_db=scene.snr_db) * noise
    gain = 0.1 / np.std(both[NEAR])
    return (gain * machine).astype(np.float32), (gain * both).astype(np.float32)


def draw_scenes() -> Figure:
    """Where cancellation helps and where it hurts: near, one tap, three taps, and the machine as it was."""
    columns = (*SCENE_VIEWS, "the machine alone")
    figure, axes = pyplot.subplots(
        len(SCENES), len(columns), figsize=(10.5, 5.4), sharex=True, sharey=True, layout="constrained"
    )
    seconds = FRAMES * SCENE_MEL.hop / RATE
    for across, scene in zip(axes, SCENES, strict=True):
        machine, both = take_scene(scene)
        waveforms = [*(listen(both, view) for view in SCENE_VIEWS.values()), machine[NEAR]]
        levels = [log_mel(w, SCENE_MEL)[:, WARM_UP : WARM_UP + FRAMES] for w in waveforms]
        loudest = np.percentile(levels[-1], 99.5)
        for axis, level in zip(across, levels, strict=True):
            drawn = panel(axis, SCENE_MEL, seconds, level - loudest)
        distance = np.linalg.norm(np.subtract(scene.far, GEARBOX))
        across[0].set_ylabel(f"{scene.title}\n", fontsize=11, fontweight="bold")
        across[0].annotate(
            "frequency (kHz)", (-0.28, 0.5), xycoords="axes fraction", rotation=90, va="center"
        )
        across[0].set_title(
            f"far at {distance:.1f} m, machine to noise {scene.snr_db:+g} dB", fontsize=9, loc="left", pad=4
        )
    for axis, title in zip(axes[0], columns, strict=True):
        axis.annotate(
            title, (0.5, 1.12), xycoords="axes fraction", ha="center", fontsize=11, fontweight="bold"
        )
    for axis in axes[-1]:
        axis.set_xlabel("time (s)")
        axis.set_xticks((0.0, 0.5, 1.0), ("0", "0.5", "1"))
    bar = figure.colorbar(
        drawn, ax=axes, label="level (dB), loudest of the machine = 0", pad=0.015, aspect=35
    )
    bar.outline.set_visible(False)
    figure.supxlabel(
        "Simulated: a gearbox, with the near microphone at 0.3 m; one source of noise. The level of the machine "
        "against the noise is that at the near microphone.",
        fontsize=9.5,
    )
    return figure


def ruler(axis: Axes, seconds: float, period: float, name: str) -> None:
    """A period of what turns, in a panel of so many seconds."""
    start, y = 0.05 * seconds, mel_frequencies(np.array([6500.0]), "slaney")[0]
    arrow = {"arrowstyle": "|-|,widthA=.3,widthB=.3", "color": "white", "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (start, y), (start + period, y), arrowprops=arrow)
    axis.text(start + period + 0.03 * seconds, y, name, color="white", va="center")


if __name__ == "__main__":
    main()
