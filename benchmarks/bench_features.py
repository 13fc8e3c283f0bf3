"""log_mel against librosa, and noise cancellation, on 200 recordings of ten seconds; all in one run.

python benchmarks/bench_features.py [CLIPS]
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # one thread a worker, as the command line sets it

import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterable  # noqa: E402

import librosa  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from nearfar import audio  # noqa: E402
from nearfar.features import BASELINE, DB_FLOOR, log_mel  # noqa: E402
from nearfar.microphones import cancelled, health  # noqa: E402

SECONDS, RATE = 10, 16000


def of_librosa(waveform: np.ndarray) -> np.ndarray:
    """The same parameters, the same decibels."""
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=RATE, n_fft=1024, hop_length=512, n_mels=128, pad_mode="constant"
    )
    return 10 * np.log10(np.maximum(mel, DB_FLOOR))


def measure(
    name: str, function: Callable[[], Iterable[object]], clips: int, reference: float | None
) -> float:
    """Milliseconds a clip, printed with the ratio to a reference."""
    start = time.perf_counter()
    for _ in function():
        pass
    each = 1e3 * (time.perf_counter() - start) / clips
    ratio = "" if reference is None else f"{reference / each:8.1f}"
    print(f"{name:44s}{each:9.2f} ms{ratio}")
    return each


def main() -> None:
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = np.random.default_rng(0)
    pairs = [rng.normal(scale=0.1, size=(2, SECONDS * RATE)).astype(np.float32) for _ in range(clips)]
    waveforms = [pair[0] for pair in pairs]
    tensors = [torch.from_numpy(w) for w in waveforms]
    torch.set_num_threads(1)
    for function in (of_librosa, log_mel):
        function(waveforms[0])  # tables are made at the first call
    worst = max(float(np.abs(of_librosa(w) - log_mel(w, BASELINE)).max()) for w in waveforms[:20])
    cores = os.cpu_count() or 1
    print(f"{clips} clips of {SECONDS} s; {cores} cores; largest difference {worst:.1e} dB")
    print(f"{'one clip':44s}{'':9s}      x librosa")
    reference = measure("log_mel, librosa", lambda: map(of_librosa, waveforms), clips, None)
    measure("log_mel, nearfar on NumPy", lambda: map(log_mel, waveforms), clips, reference)
    measure("log_mel, nearfar on torch", lambda: map(log_mel, tensors), clips, reference)
    for workers in sorted({2, cores}):
        name = f"log_mel, nearfar on NumPy, {workers} workers"
        measure(name, lambda n=workers: audio.each(waveforms, log_mel, workers=n), clips, reference)
    measure("noise cancellation (W1), two channels", lambda: map(cancelled, pairs), clips, None)
    measure("microphone health, two channels", lambda: map(health, pairs), clips, None)


if __name__ == "__main__":
    main()
