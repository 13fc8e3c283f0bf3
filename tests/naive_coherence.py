"""Slow and obvious twin of coherence weighting: bin by bin and frame by frame, in double precision."""

from __future__ import annotations

import numpy as np


def spectra(waveform, n_fft):
    """A list of spectra, centred in zeros every half frame, up to the first centre at or past the end."""
    hop, n = n_fft // 2, len(waveform)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    found = []
    for centre in range(0, n + hop, hop):
        frame = [
            window[i] * waveform[centre - hop + i] if 0 <= centre - hop + i < n else 0.0 for i in range(n_fft)
        ]
        found.append(np.fft.rfft(frame))
    return found


def coherence(near, far, n_fft, forgetting=None):
    """Of each frame and bin, corrected for chance: (frames, bins)."""
    C, F = spectra(near, n_fft), spectra(far, n_fft)
    inside = 1 + len(near) // (n_fft // 2)
    found = np.zeros((len(C), n_fft // 2 + 1))
    for b in range(n_fft // 2 + 1):
        cross = sum(C[t][b] * F[t][b].conjugate() for t in range(inside)) / inside
        of_near = sum(abs(C[t][b]) ** 2 for t in range(inside)) / inside
        of_far = sum(abs(F[t][b]) ** 2 for t in range(inside)) / inside
        for t in range(len(C)):
            if forgetting is not None:
                cross = forgetting * cross + (1 - forgetting) * C[t][b] * F[t][b].conjugate()
                of_near = forgetting * of_near + (1 - forgetting) * abs(C[t][b]) ** 2
                of_far = forgetting * of_far + (1 - forgetting) * abs(F[t][b]) ** 2
            share = abs(cross) ** 2 / (of_near * of_far) if of_near * of_far > 0 else 0.0
            chance = 1 / inside
            if forgetting is not None:
                chance = max(chance, (1 - forgetting) / (1 + forgetting))
            if chance < 1:
                found[t, b] = min(1.0, max(0.0, (share - chance) / (1 - chance)))
    return found


def weighted(near, far, n_fft, forgetting=None):
    """Near with each bin of each frame times one minus its coherence."""
    hop, n, window = n_fft // 2, len(near), np.hanning(n_fft + 1)[:-1]
    C, shares = spectra(near, n_fft), coherence(near, far, n_fft, forgetting)
    summed, weight = np.zeros(n), np.zeros(n)
    for t, of_frame in enumerate(C):
        frame = np.fft.irfft((1 - shares[t]) * of_frame, n_fft)
        for i in range(n_fft):
            if 0 <= t * hop - hop + i < n:
                summed[t * hop - hop + i] += window[i] * frame[i]
                weight[t * hop - hop + i] += window[i] ** 2
    return summed / weight
