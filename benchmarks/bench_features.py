"""log_mel against librosa, and noise cancellation, on 200 recordings of ten seconds; all in one run.

    python benchmarks/bench_features.py [CLIPS]

librosa is measured twice: as it comes, where its small matrix products keep every core busy, and held to one
thread. Processor time is what a machine with more clips than cores is short of; wall time is what one waits.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable

import librosa
import numpy as np
from threadpoolctl import threadpool_limits

from nearfar.encoders.features import BASELINE, DB_FLOOR, log_mel
from nearfar.recordings import audio
from nearfar.recordings.microphones import cancelled

SECONDS, RATE = 10, 16000


def of_librosa(waveform: np.ndarray) -> np.ndarray:
    """The same parameters, the same decibels."""
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=RATE, n_fft=1024, hop_length=512, n_mels=128, pad_mode="constant"
    )
    return 10 * np.log10(np.maximum(mel, DB_FLOOR))


Cost = tuple[float, float]


def measure(name: str, function: Callable[[], Iterable[object]], clips: int, *references: Cost) -> Cost:
    """Milliseconds of wall and of processor time a clip, printed with the ratios of the references to them."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in function():
        pass
    cost = 1e3 * (time.perf_counter() - wall) / clips, 1e3 * (time.process_time() - cpu) / clips
    ratios = "".join(f"{r[0] / cost[0]:10.1f}{r[1] / cost[1]:8.1f}" for r in references)
    print(f"{name:40s}{cost[0]:8.2f}{cost[1]:8.2f}{ratios}")
    return cost


def main() -> None:
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = np.random.default_rng(0)
    pairs = [rng.normal(scale=0.1, size=(2, SECONDS * RATE)).astype(np.float32) for _ in range(clips)]
    waveforms = [pair[0] for pair in pairs]
    for function in (of_librosa, log_mel):
        function(waveforms[0])  # tables are made at the first call
    worst = max(float(np.abs(of_librosa(w) - log_mel(w, BASELINE)).max()) for w in waveforms[:20])
    cores = os.cpu_count() or 1
    print(f"{clips} clips of {SECONDS} s; {cores} cores; largest difference {worst:.1e} dB")
    print(f"{'one clip, ms':40s}{'wall':>8s}{'cpu':>8s}{'x librosa: wall, cpu':>22s}{'of one thread':>16s}")
    as_it_comes = measure("log_mel, librosa as it comes", lambda: map(of_librosa, waveforms), clips)
    with threadpool_limits(1):
        one = measure(
            "log_mel, librosa of one thread", lambda: map(of_librosa, waveforms), clips, as_it_comes
        )
        measure("log_mel, nearfar on NumPy", lambda: map(log_mel, waveforms), clips, as_it_comes, one)
        name = f"log_mel, nearfar on NumPy, {cores} workers"
        measure(name, lambda: audio.each(waveforms, log_mel, workers=cores), clips, as_it_comes, one)
        measure("noise cancellation (W1), two channels", lambda: map(cancelled, pairs), clips)
        import torch  # after librosa, whose threads it would change

        torch.set_num_threads(1)
        tensors = [torch.from_numpy(w) for w in waveforms]
        measure("log_mel, nearfar on torch", lambda: map(log_mel, tensors), clips, as_it_comes, one)


if __name__ == "__main__":
    main()
