"""Sound files and raw samples, as recorders and power cuts leave them, and worse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile
from synthetic import RATE, clip

from fuzz import damage
from fuzz.surfaces import Surface
from nearfar.export import nearfar_edge
from nearfar.recordings import audio
from nearfar.recordings.blocks import Lost, length_of
from nearfar.recordings.clips import Clip, Dataset, Machine
from nearfar.recordings.datasets import validation
from nearfar.recordings.inspection import alone, measured
from nearfar.windows import streaming

FORMATS: dict[
    str, tuple[str, dict[str, str]]
] = {  # by name of the surface: suffix, and what soundfile is told
    "wav": (".wav", {"format": "WAV", "subtype": "PCM_16"}),
    "wav-24": (".wav", {"format": "WAVEX", "subtype": "PCM_24"}),
    "wav-32": (".wav", {"format": "WAV", "subtype": "PCM_32"}),
    "wav-float": (".wav", {"format": "WAV", "subtype": "FLOAT"}),
    "wav-adpcm": (".wav", {"format": "WAV", "subtype": "IMA_ADPCM"}),
    "rf64": (".wav", {"format": "RF64", "subtype": "PCM_16"}),
    "w64": (".w64", {"format": "W64", "subtype": "PCM_16"}),
    "flac": (".flac", {"format": "FLAC", "subtype": "PCM_16"}),
    "ogg": (".ogg", {"format": "OGG", "subtype": "VORBIS"}),
    "mp3": (".mp3", {"format": "MP3", "subtype": "MPEG_LAYER_III"}),
    "aiff": (".aiff", {"format": "AIFF", "subtype": "PCM_16"}),
    "caf": (".caf", {"format": "CAF", "subtype": "PCM_16"}),
    "au": (".au", {"format": "AU", "subtype": "PCM_16"}),
}
LEARNT = (".wav", ".flac")
NAME = "clip"  # of the recording that is damaged
OTHERS = 4  # recordings beside it


def _make(suffix: str, options: dict[str, str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        soundfile.write(folder / f"{NAME}{suffix}", clip(1, seconds=0.5).T, RATE, **options)
        for number in range(OTHERS):
            soundfile.write(
                folder / f"other{number}{suffix}", clip(2 + number, seconds=0.5).T, RATE, **options
            )

    return make


def the_file(case: Path) -> Path:
    """The recording of a case that is damaged."""
    (other,) = case.glob("other0.*")
    return case / f"{NAME}{other.suffix}"  # it may be gone


def read(case: Path) -> Any:
    """All of it."""
    recorded = audio.read_recorded(the_file(case))
    assert recorded.samples.shape == (recorded.header.channels, recorded.header.samples)
    return [recorded.rate, *recorded.samples.shape]


def header(case: Path) -> Any:
    """Its header."""
    found = audio.read_header(the_file(case))
    return [found.rate, found.channels, found.samples]


def blocks(case: Path) -> Any:
    """Some at a time: what is lost is told, and names the file."""
    heard = audio.in_blocks(the_file(case))
    kept = lost = 0
    for block in heard.blocks(0):
        if isinstance(block, Lost):
            lost += length_of(block)
            assert NAME in str(block.error), f"a loss that names no file: {block.error}"
        else:
            kept += length_of(block)
    return [kept, lost]


def inspected(case: Path) -> Any:
    """What is wrong with it, by itself."""
    samples, rate = audio.read(the_file(case))
    return [fault.kind for fault in alone.faults_alone(measured.measure(samples, rate))]


def validated(case: Path) -> Any:
    """As ``nearfar check`` looks at it."""
    machine = Machine("fan", (Clip(the_file(case), "fan", 0, "train", the_file(case).name, label="normal"),))
    problems = validation.validate(Dataset("data", case, (machine,)))
    return [problem.kind for problem in problems]


def streamed(case: Path) -> Any:
    """From a pipe."""
    path = the_file(case)
    with path.open("rb") as pipe, streaming.of_pipe(pipe, path.name, rate=RATE, channels=2) as stream:
        return sum(map(length_of, stream.recorded.blocks(0)))


def whole_stream(case: Path) -> Any:
    """A clip from a pipe."""
    with the_file(case).open("rb") as pipe:
        return list(audio.read_stream(pipe, the_file(case).name, rate=RATE, channels=2).samples.shape)


def at_the_edge(case: Path) -> Any:
    """As the runner beside an export reads it, which names the file as this does."""
    path, read = the_file(case), 0
    try:
        with path.open("rb") as file:
            sound = nearfar_edge.open_wav(file)
            while (samples := sound.read(1000)).shape[1]:
                read += samples.shape[1]
    except nearfar_edge.EdgeError as error:
        raise ValueError(f"{path}: {error}") from error
    return read


USES = {"read": read, "header": header, "blocks": blocks, "inspected": inspected, "validated": validated}
PIPED = {"streamed": streamed, "whole_stream": whole_stream}
WAYS = {".wav": (damage.chunks,)}


def _raw(folder: Path) -> None:
    """Raw samples are whatever they are: only their number can be wrong, or their look."""
    for name in (NAME, "other0"):
        samples = (clip(len(name), seconds=0.5).T * 32767).astype("<i2")
        (folder / f"{name}.raw").write_bytes(samples.tobytes())


AT_THE_EDGE = ("wav", "wav-24", "wav-32", "wav-float", "rf64")
SURFACES = (
    *(
        Surface(
            f"sound-{name}",
            _make(suffix, options),
            (f"{NAME}.*",),
            USES | PIPED | ({"at_the_edge": at_the_edge} if name in AT_THE_EDGE else {}),
            WAYS,
            commands=(("check", "."),) if suffix in LEARNT else (),
        )
        for name, (suffix, options) in FORMATS.items()
    ),
    Surface("sound-raw", _raw, (f"{NAME}.*",), PIPED),
)
