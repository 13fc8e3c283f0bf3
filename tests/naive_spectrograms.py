"""A spectrogram by its definition: a DFT of each frame, and the part of each bin that lies in each band."""

from __future__ import annotations

import cmath
import math
from itertools import pairwise


def spectrogram(samples, rate, n_fft, edges):
    """Levels in dBFS, a list for each band, of frames around columns of half their length."""
    hop = n_fft // 2
    window = [0.5 - 0.5 * math.cos(2 * math.pi * i / n_fft) for i in range(n_fft)]
    columns = []
    begin = 0
    while begin < len(samples):
        centre = begin + hop // 2
        places = range(centre - hop, centre + hop)
        frame = [
            samples[p] * w if 0 <= p < len(samples) else 0.0 for p, w in zip(places, window, strict=True)
        ]
        power = []
        for k in range(hop + 1):
            bin_ = sum(x * cmath.exp(-2j * math.pi * k * i / n_fft) for i, x in enumerate(frame))
            twice = 1 if k in (0, hop) else 2
            power.append(twice * abs(bin_) ** 2 / (n_fft * sum(w * w for w in window)))
        columns.append(power)
        begin += hop
    levels = []
    width = rate / n_fft
    for low, high in pairwise(edges):
        row = []
        for power in columns:
            inside = 0.0
            for k, p in enumerate(power):
                overlap = min(high, (k + 0.5) * width) - max(low, (k - 0.5) * width)
                inside += p * max(overlap, 0.0) / width
            row.append(10 * math.log10(max(inside, 1e-16)))
        levels.append(row)
    return levels
