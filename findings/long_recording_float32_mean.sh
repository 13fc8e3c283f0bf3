#!/usr/bin/env bash
# The offset and the level of a long stereo recording are wrong in the layout in which soundfile returns it.
#
# Package:    soundfile 0.14.0 with NumPy 2.4.6
# Guess:      `x.mean(axis=0)` and `x.std(axis=0)` of float32 samples are right to several digits, whatever the
#             layout: NumPy adds pairwise.
# Happens:    NumPy adds pairwise along the fastest axis only. soundfile returns (frames, channels), where time
#             is the slow axis. There float32 sums are added one by one, and lose more the longer the recording
#             is. For 20 minutes at 16 kHz with an offset, mean and deviation are far off. `x.T` is the same
#             memory, so it is just as wrong; one channel, or a contiguous (channels, frames) array, is right.
# Seen:
#     made: 20 min at 16000 Hz, 16 bits, offset 3000, deviation 300; read as float32 (19200000, 2)
#     first 1 min                        mean [3001. 3000.], deviation [300. 300.]
#     first 5 min                        mean [3010. 3010.], deviation [299. 299.]
#     first 10 min                       mean [2958. 2958.], deviation [301. 301.]
#     first 15 min                       mean [3161. 3162.], deviation [336. 336.]
#     all, as returned                   mean [3394. 3395.], deviation [488. 488.]
#     all, transposed view               mean [3394. 3395.], deviation [488. 488.]
#     all, near alone                    mean 3000.0, deviation 300.0
#     all, contiguous (channels, frames) mean [3000. 3000.], deviation [300. 300.]
# Matters:    Clips of ten seconds are fine, so tests are. Long recordings of a recorder with an offset, or of a
#             sensor with a bias, get a wrong level and keep a part of their offset when the mean is subtracted.
#             Use contiguous (channels, frames), or `dtype="float64"`.
# Documented: The notes of `numpy.sum` say that sums are less precise along a slow axis. Those of `mean` and
#             `std` only say that float32 can be inaccurate.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
cd "$work"
venv/bin/python -I - <<'PYTHON'
import sys

import numpy as np
import soundfile

RATE, MINUTES = 16000, 20
rng = np.random.default_rng(0)
with soundfile.SoundFile("long.wav", "w", RATE, 2, "PCM_16") as file:
    for _ in range(MINUTES):
        file.write(np.rint(rng.normal(3000, 300, (60 * RATE, 2))).astype(np.int16))
x, _ = soundfile.read("long.wav", dtype="float32")
print(f"made: {MINUTES} min at {RATE} Hz, 16 bits, offset 3000, deviation 300; read as float32 {x.shape}")


def say(name, samples, axis):
    mean, deviation = 32768 * samples.mean(axis=axis), 32768 * samples.std(axis=axis)
    print(f"{name:34} mean {np.round(mean)}, deviation {np.round(deviation)}")
    return deviation


for minutes in (1, 5, 10, 15):
    say(f"first {minutes} min", x[: minutes * 60 * RATE], 0)
wrong = [say("all, as returned", x, 0), say("all, transposed view", x.T, 1)]
right = [say("all, near alone", x[:, 0], 0), say("all, contiguous (channels, frames)", np.ascontiguousarray(x.T), 1)]
if not (np.abs(np.array(wrong) / 300 - 1) > 0.1).all():
    sys.exit("CHANGED: the deviation in the layout of soundfile is right to 10 %")
if not all((np.abs(part / 300 - 1) < 0.01).all() for part in right):
    sys.exit("CHANGED: one channel, or the contiguous layout, is no longer right")
PYTHON
