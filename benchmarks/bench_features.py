"""log_mel against librosa, and noise cancellation, on 200 recordings of ten seconds; all in one run.

    python benchmarks/bench_features.py [CLIPS]

librosa is measured twice: as it comes, with as many BLAS threads as cores, and held to one thread. Its products
of small matrices are several times as fast in the second case, which few users know.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable

import librosa
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from nearfar import audio
from nearfar.features import BASELINE, DB_FLOOR, log_mel
from nearfar.microphones import cancelled, health

SECONDS, RATE = 10, 16000


def of_librosa(waveform: np.ndarray) -> np.ndarray:
    """The same parameters, the same decibels."""
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=RATE, n_fft=1024, hop_length=512, n_mels=128, pad_mode="constant"
    )
    return 10 * np.log10(np.maximum(mel, DB_FLOOR))


def measure(
    name: str, function: Callable[[], Iterable[object]], clips: int, references: list[float]
) -> float:
    """Milliseconds a clip, printed with the ratios of the references to it."""
    start = time.perf_counter()
    for _ in function():
        pass
    each = 1e3 * (time.perf_counter() - start) / clips
    print(f"{name:44s}{each:9.2f} ms" + "".join(f"{reference / each:12.1f}" for reference in references))
    return each


def main() -> None:
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = np.random.default_rng(0)
    pairs = [rng.normal(scale=0.1, size=(2, SECONDS * RATE)).astype(np.float32) for _ in range(clips)]
    waveforms = [pair[0] for pair in pairs]
    tensors = [torch.from_numpy(w) for w in waveforms]
    for function in (of_librosa, log_mel):
        function(waveforms[0])  # tables are made at the first call
    worst = max(float(np.abs(of_librosa(w) - log_mel(w, BASELINE)).max()) for w in waveforms[:20])
    cores = os.cpu_count() or 1
    print(f"{clips} clips of {SECONDS} s; {cores} cores; largest difference {worst:.1e} dB")
    print(f"{'one clip, wall time':56s} x librosa   x librosa of one thread")
    references = [measure("log_mel, librosa as it comes", lambda: map(of_librosa, waveforms), clips, [])]
    with threadpool_limits(1):
        torch.set_num_threads(1)
        references.append(
            measure("log_mel, librosa of one thread", lambda: map(of_librosa, waveforms), clips, [])
        )
        measure("log_mel, nearfar on NumPy", lambda: map(log_mel, waveforms), clips, references)
        measure("log_mel, nearfar on torch", lambda: map(log_mel, tensors), clips, references)
        name = f"log_mel, nearfar on NumPy, {cores} workers"
        measure(name, lambda: audio.each(waveforms, log_mel, workers=cores), clips, references)
        measure("noise cancellation (W1), two channels", lambda: map(cancelled, pairs), clips, [])
        measure("microphone health, two channels", lambda: map(health, pairs), clips, [])


if __name__ == "__main__":
    main()
