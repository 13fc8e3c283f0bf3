"""Kaldi's filter-bank features from their definition: sample by sample, bin by bin, in double precision."""

from __future__ import annotations

import math

import numpy as np


def mel(hz):
    return 1127 * math.log(1 + hz / 700)


def window_of(name, n):
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / (n - 1)) for i in range(n)]
    return [h**0.85 for h in hann] if name == "povey" else hann


def triangle(m, left, right):
    """Height at ``m`` of the triangle from left to right."""
    middle = (left + right) / 2
    if m <= left or m >= right:
        return 0.0
    return (m - left) / (middle - left) if m < middle else (right - m) / (right - middle)


def prepared(frame, name, pre_emphasis):
    """A frame without its mean, pre-emphasized, windowed."""
    mean = sum(frame) / len(frame)
    frame = [sample - mean for sample in frame]
    emphasized = [frame[i] - pre_emphasis * frame[max(0, i - 1)] for i in range(len(frame))]
    return [sample * weight for sample, weight in zip(emphasized, window_of(name, len(frame)), strict=True)]


def kaldi_fbank(
    waveform,
    *,
    rate=16000,
    n_mels=128,
    window="hanning",
    frame_ms=25.0,
    hop_ms=10.0,
    pre_emphasis=0.97,
    f_min=20.0,
    f_max=None,
    log_floor=1.1920929e-07,
):
    """(samples,) to (frames, n_mels)."""
    length, hop, n_fft = int(rate * frame_ms / 1000), int(rate * hop_ms / 1000), 2
    while n_fft < length:
        n_fft *= 2
    low, high = mel(f_min), mel(rate / 2 if f_max is None else f_max)
    step = (high - low) / (n_mels + 1)
    bank = [
        [triangle(mel(k * rate / n_fft), low + b * step, low + (b + 2) * step) for k in range(n_fft // 2)]
        for b in range(n_mels)
    ]  # the bin at half of the rate has no weight
    rows, first = [], 0
    while first + length <= len(waveform):
        frame = prepared([float(x) for x in waveform[first : first + length]], window, pre_emphasis)
        powers = []
        for k in range(n_fft // 2):
            turns = np.exp(-2j * math.pi * k * np.arange(length) / n_fft)
            powers.append(abs(np.dot(frame, turns)) ** 2)
        rows.append([math.log(max(np.dot(heights, powers), log_floor)) for heights in bank])
        first += hop
    return np.array(rows)
