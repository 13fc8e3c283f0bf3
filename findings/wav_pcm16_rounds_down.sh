#!/usr/bin/env bash
# soundfile rounds float samples down when it writes 16-bit WAV, and to the nearest when it writes 16-bit FLAC.
#
# Package:    soundfile 0.14.0 (libsndfile 1.2.2), NumPy 2.4.6
# Guess:      A float sample becomes the nearest 16-bit value, in every lossless container. So WAV and FLAC made
#             from one array hold the same samples.
# Happens:    WAV, AIFF, W64, RF64 and CAF take the next value *below*; FLAC takes the nearest. WAV gets an
#             offset of half a step, and a larger rounding error. Half of the samples differ from those of the
#             FLAC file. Tiny positive noise vanishes, tiny negative noise becomes -1.
# Seen:
#     written, in steps: -1.25 -0.75 -0.25 0.25 0.75 1.25
#     WAV PCM_16  stored: -2 -1 -1 0 0 1 (below)
#     AIFF PCM_16 stored: -2 -1 -1 0 0 1 (below)
#     W64 PCM_16  stored: -2 -1 -1 0 0 1 (below)
#     RF64 PCM_16 stored: -2 -1 -1 0 0 1 (below)
#     CAF PCM_16  stored: -2 -1 -1 0 0 1 (below)
#     FLAC PCM_16 stored: -1 -1 0 0 1 1 (nearest)
#     noise of one step in WAV: mean -0.502, error 0.578 steps, zeros 34%
#     noise of one step in FLAC: mean +0.002, error 0.289 steps, zeros 38%
#     samples that differ between WAV and FLAC: 50%
# Matters:    A microphone that is nearly silent looks different in the two containers: its level, its offset
#             and the number of samples that are exactly 0. A copy in another container is no exact copy. A data
#             set that is converted from floats should be rounded before it is written; int16 arrays are written
#             unchanged.
# Documented: libsndfile's tracker has it: issue 362 and pull request 959, merged after release 1.2.2. It
#             happens with SFC_SET_CLIPPING, which soundfile always sets. The docstring of `soundfile.write`
#             does not mention it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
cd "$work"
venv/bin/python -I - <<'PYTHON'
import io
import sys

import numpy as np
import soundfile

STEP = 1 / 32768
LOSSLESS = [
    ("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"), ("CAF", "PCM_16"),
    ("FLAC", "PCM_16"),
]


def stored(samples, container, subtype):
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format=container, subtype=subtype)
    return soundfile.read(io.BytesIO(file.getvalue()), dtype="int16")[0]


steps = np.array([-1.25, -0.75, -0.25, 0.25, 0.75, 1.25])
print("written, in steps:", *steps)
down = {}
for kind in LOSSLESS:
    values = stored(steps * STEP, *kind)
    down[kind] = np.array_equal(values, np.floor(steps))
    print(f"{' '.join(kind):11} stored:", *values, "(below)" if down[kind] else "(nearest)")
    if not down[kind] and not np.array_equal(values, np.rint(steps)):
        sys.exit(f"CHANGED: {kind} is neither rounded down nor to the nearest")

noise = np.random.default_rng(0).standard_normal(160_000)  # deviation: one step
wav, flac = (stored(noise * STEP, container, "PCM_16") for container in ("WAV", "FLAC"))
for name, values in (("WAV", wav), ("FLAC", flac)):
    error, zeros = np.sqrt(np.mean((values - noise) ** 2)), np.mean(values == 0)
    print(f"noise of one step in {name}: mean {values.mean():+.3f}, error {error:.3f} steps, zeros {zeros:.0%}")
print(f"samples that differ between WAV and FLAC: {np.mean(wav != flac):.0%}")
if [kind for kind in LOSSLESS if not down[kind]] != [("FLAC", "PCM_16")]:
    sys.exit("CHANGED: not all containers but FLAC round down any more")
PYTHON
