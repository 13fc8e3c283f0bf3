#!/usr/bin/env bash
# asammdf leaves out samples that are marked as invalid: the sound jumps, and nothing says so.
#
# Package:    asammdf 8.8.28, NumPy 2.4.6
# Guess:      `MDF.get` returns the samples of a channel with its invalidation bits, or NaN in their place. Two
#             channels of one group have the same length, because they share one time channel.
# Happens:    By default, invalid samples are removed, with their time stamps, and `invalidation_bits` of the
#             result is None. The two channels of a group differ in length. With `ignore_invalidation_bits=True`,
#             whose name promises less, the samples are all there, and so are their bits.
# Seen:
#     near: 4790 samples, invalidation bits none, 998 to 1002: [998.0, 999.0, 1010.0, 1011.0, 1012.0]
#     far: 4800 samples, invalidation bits none, 998 to 1002: [-998.0, -999.0, -1000.0, -1001.0, -1002.0]
#     near, ignore_invalidation_bits=True: 4800 samples, invalidation bits 10 set, 998 to 1002: [998.0, 999.0, 1000.0, 1001.0, 1002.0]
#     widest step of the time stamps of near: 11.0 intervals
# Matters:    Samples of two microphones are compared by their number. Behind the first invalid sample of near, all
#             later ones are paired with samples of far of another moment; a cut tone clicks. Who uses only
#             `signal.samples` and a known rate never notices. Read with `ignore_invalidation_bits=True` and look
#             at `signal.invalidation_bits`.
# Documented: The option is in the docstring of `get`: "option to ignore invalidation bits". That samples are
#             removed without it is not said there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check asammdf==8.8.28 numpy==2.4.6
cd "$work"
venv/bin/python -I - <<'PYTHON'
import sys

import numpy as np
from asammdf import MDF, Signal

N = 4800
stamps = np.arange(N) / 48000
lost = np.zeros(N, bool)
lost[1000:1010] = True
near = np.arange(N) + 0.0
with MDF() as file:
    file.append([
        Signal(near, stamps, name="near", unit="Pa", invalidation_bits=lost),
        Signal(-near, stamps, name="far", unit="Pa"),
    ])
    file.save("clip.mf4", overwrite=True)


def some(bits):
    return "none" if bits is None else f"{int(np.sum(bits))} set"


with MDF("clip.mf4") as file:
    default, far = file.get("near"), file.get("far")
    complete = file.get("near", ignore_invalidation_bits=True)
for name, signal in [("near", default), ("far", far), ("near, ignore_invalidation_bits=True", complete)]:
    around = signal.samples[998:1003].tolist()
    print(f"{name}: {len(signal.samples)} samples, invalidation bits {some(signal.invalidation_bits)}, 998 to 1002: {around}")
widest = np.diff(default.timestamps).max() * 48000
print(f"widest step of the time stamps of near: {widest:.1f} intervals")
as_seen = len(default.samples) == N - 10 and len(far.samples) == N and len(complete.samples) == N
if not as_seen or np.sum(complete.invalidation_bits) != 10:
    sys.exit("CHANGED: asammdf no longer leaves out invalid samples by default, or no longer gives them on request")
PYTHON
