#!/usr/bin/env bash
# soxr adds noise to 16-bit arrays: silence becomes noise, and two equal channels are no longer equal.
#
# Package:    soxr 1.1.0, NumPy 2.4.6
# Guess:      Resampling is linear and treats all channels alike: zeros stay zeros, equal channels stay equal,
#             and the same rate in and out changes nothing. An int16 array is only rounded at the end.
# Happens:    For int16, and for int16 only, soxr dithers: it adds noise of about one step, different in each
#             channel. It does so even when the rate stays the same. float32 and int32 arrays are not dithered.
# Seen:
#     int16   48000 to 16000 Hz: zeros become [-1, 0, 1]; 45% of the samples of two equal channels differ
#     int16   48000 to 48000 Hz: zeros become [-1, 0, 1]; 40% of the samples of two equal channels differ
#     int32   48000 to 16000 Hz: zeros become [0]; 0% of the samples of two equal channels differ
#     int32   48000 to 48000 Hz: zeros become [0]; 0% of the samples of two equal channels differ
#     float32 48000 to 16000 Hz: zeros become [0.0]; 0% of the samples of two equal channels differ
#     float32 48000 to 48000 Hz: zeros become [0.0]; 0% of the samples of two equal channels differ
#     level of a dead int16 pair: -96.6 dBFS, correlation of its channels -0.01
# Matters:    A dead microphone (all zeros) and a doubled one (near and far equal) are recognized by exact
#             values. After resampling in int16 neither can be: the dead pair is not silent, its channels are
#             independent, and nearly half of the samples of the doubled pair differ. Resample floating point,
#             or look first.
# Documented: Dither is the default of libsoxr, for 16-bit output. python-soxr's tracker mentions it (issues 10
#             and 11); the docstring of `soxr.resample` does not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check soxr==1.1.0 numpy==2.4.6
cd "$work"
venv/bin/python -I - <<'PYTHON'
import sys

import numpy as np
import soxr

dead = np.zeros((48000, 2))
noise = np.rint(np.random.default_rng(0).normal(0, 1000, 48000))
doubled = np.stack([noise, noise], axis=1)
noisy, unequal = {}, {}
for dtype in ("int16", "int32", "float32"):
    for rate in (16000, 48000):
        silence = soxr.resample(dead.astype(dtype), 48000, rate)
        pair = soxr.resample(doubled.astype(dtype), 48000, rate)
        noisy[dtype, rate], unequal[dtype, rate] = np.any(silence), np.mean(pair[:, 0] != pair[:, 1])
        print(
            f"{dtype:7} 48000 to {rate} Hz: zeros become {np.unique(silence).tolist()}; "
            f"{unequal[dtype, rate]:.0%} of the samples of two equal channels differ"
        )
silence = soxr.resample(dead.astype("int16"), 48000, 16000) / 32768
level = 20 * np.log10(np.sqrt(np.mean(silence**2)))
print(f"level of a dead int16 pair: {level:.1f} dBFS, correlation of its channels {np.corrcoef(silence.T)[0, 1]:+.2f}")
if {dtype for (dtype, _), found in noisy.items() if found} != {"int16"}:
    sys.exit("CHANGED: soxr no longer turns silence into noise for int16 alone")
if {dtype for (dtype, _), share in unequal.items() if share > 0.1} != {"int16"}:
    sys.exit("CHANGED: soxr no longer makes equal channels unequal for int16 alone")
PYTHON
