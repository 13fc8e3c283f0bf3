"""Sounds of a page: recordings that a browser plays, inside the file.

Which codec: every browser of today plays FLAC and MP3, while Opus in Ogg, which would be smaller, plays only in the
newest Safari. FLAC is exact: what is heard is what was recorded, as far as 16 bits go, and no noise of a codec is
taken for one of the machine. It is for the evidence on one clip. MP3 has a third of its size, and is for pages with
dozens of clips. A page says which it has.

Loudness: all players of one call share one gain, so that one clip can be heard to be louder than another. It is a
power of two and not below 1, which moves bits and rounds nothing. It brings the loudest of them to about ``LOUD``
and no peak above ``PEAK``, so that nothing is clipped. Of recordings that are louder than that, the player begins
with its volume turned down, so that nothing hurts the ear.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.audio import resample

Waveform = NDArray[np.float32]
Codec = Literal["flac", "mp3"]

LOUD = -26.0  # dBFS, of the mean square of the loudest sound
PEAK = -3.0  # dBFS
MOST_GAIN = 48.0  # dB: what is silent stays so
STEP_DB = 20 * math.log10(2)
HIGHEST_RATE = 48_000  # Hz; browsers play no more, and ears hear no more
MP3_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_KBITS = {16_000: 64, 22_050: 64, 24_000: 64, 32_000: 96, 44_100: 128, 48_000: 128}  # constant bit rates
FULL = 32767  # of 16 bits, with which both signs have the same scale


@dataclass(frozen=True, slots=True)
class Player:
    """A sound and what is said about it.

    Attributes
    ----------
    name : str
    source : str
        The sound itself, as a URL.
    seconds : float
    rate, recorded_rate : int
        Hz; of what is heard, and of the recording.
    gain_db : float
        By how much it is louder than the recording.
    volume : float
        Of the player when the page opens, above 0 and at most 1; the listener can change it.
    codec : str
        "FLAC, 16 bits" or "MP3, 64 kbit/s".
    """

    name: str
    source: str
    seconds: float
    rate: int
    recorded_rate: int
    gain_db: float
    volume: float
    codec: str


def players(
    sounds: Sequence[tuple[str, Waveform, int]], *, codec: Codec = "flac", gain_db: float | None = None
) -> tuple[Player, ...]:
    """Players of sounds that are to be compared.

    Parameters
    ----------
    sounds : sequence of (name, (samples,) array, rate in Hz)
    codec : {"flac", "mp3"}
    gain_db : float or None
        For all of them; None: ``gain_for`` these sounds.

    Raises
    ------
    ValueError
        If a sound has no samples or a sample that is not a number, or if the codec is not one of these or not
        available.
    """
    if codec not in ("flac", "mp3") or not available(codec):
        raise ValueError(
            f"codec={codec!r}: must be 'flac', or 'mp3' where the libsndfile of this system has it"
        )
    for name, samples, _ in sounds:
        if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
            raise ValueError(
                f"sound '{name}' of shape {samples.shape}: must be finite samples of one microphone"
            )
    gain = gain_for([samples for _, samples, _ in sounds]) if gain_db is None else gain_db
    loudest = max((_rms(samples) for _, samples, _ in sounds), default=0.0) * 2.0 ** (gain / STEP_DB)
    volume = 1.0 if not loudest else min(1.0, 10 ** ((LOUD - _db(loudest)) / 20))
    return tuple(_player(*sound, codec, gain, volume) for sound in sounds)


def gain_for(sounds: Sequence[Waveform]) -> float:
    """One gain for all of these, dB: a whole number of doublings.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.report.pages.sounds import gain_for
    >>> round(gain_for([np.full(100, 0.001, np.float32)]), 2)
    30.1
    """
    loudest = max((_rms(samples) for samples in sounds), default=0.0)
    peak = max((float(np.abs(s).max()) for s in sounds if len(s)), default=0.0)
    if not loudest or not math.isfinite(peak):
        return 0.0
    room = min(LOUD - _db(loudest), PEAK - _db(peak), MOST_GAIN)
    return STEP_DB * max(0, math.floor(room / STEP_DB + 1e-9))


def available(codec: Codec) -> bool:
    """Whether sounds can be encoded here: the libsndfile of some systems is built without MP3."""
    import soundfile

    return codec.upper() in soundfile.available_formats()


def _rms(samples: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def _db(amplitude: float) -> float:
    return 20 * math.log10(amplitude)


def playable_rate(rate: int, codec: Codec) -> int:
    """At which rate a sound is played that was recorded at ``rate``: the same, if browsers and the codec allow it.

    Examples
    --------
    >>> from nearfar.report.pages.sounds import playable_rate
    >>> playable_rate(16000, "mp3"), playable_rate(96000, "flac"), playable_rate(51200, "flac")
    (16000, 48000, 48000)
    """
    if codec == "flac":
        return max(8000, min(rate, HIGHEST_RATE))
    return next((known for known in MP3_RATES if known >= rate), HIGHEST_RATE)


def encoded_bytes(seconds: float, rate: int, codec: Codec) -> int:
    """About how much a sound adds to a page, to plan with: what noise takes, which is the most."""
    played = playable_rate(rate, codec)
    per_second = MP3_KBITS[played] * 125 if codec == "mp3" else 2 * played * 0.9
    return math.ceil(4 / 3 * seconds * per_second) + 200


def _player(name: str, samples: Waveform, rate: int, codec: Codec, gain_db: float, volume: float) -> Player:
    played = playable_rate(rate, codec)
    heard = samples if played == rate else resample(samples[None], rate, played)[0]
    heard = heard * np.float32(2.0 ** (gain_db / STEP_DB))
    whole = np.clip(np.rint(heard * (FULL + 1)), -FULL - 1, FULL).astype(np.int16)
    content, kind, told = _encoded(whole, played, codec)
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return Player(name, source, len(samples) / rate, played, rate, gain_db, volume, told)


def _encoded(samples: NDArray[np.int16], rate: int, codec: Codec) -> tuple[bytes, str, str]:
    import soundfile

    file = io.BytesIO()
    if codec == "flac":
        soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
        return file.getvalue(), "audio/flac", "FLAC, 16 bits"
    kbits = MP3_KBITS[rate]
    lowest, highest = (8, 160) if rate < 32_000 else (32, 320)  # kbit/s of MPEG 2 and of MPEG 1, layer III
    soundfile.write(
        file,
        samples,
        rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=(highest - kbits) / (highest - lowest),
    )
    return file.getvalue(), "audio/mpeg", f"MP3, {kbits} kbit/s"
