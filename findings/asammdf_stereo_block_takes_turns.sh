#!/usr/bin/env bash
# asammdf stores a stereo block as one channel in which near and far take turns, half as long as it was.
#
# Package:    asammdf 8.8.28, NumPy 2.4.6
# Guess:      A signal of shape (samples, 2), as soundfile and sounddevice give it, is stored as a channel array,
#             or is refused. The opposite shape is refused: its length does not match the time stamps.
# Happens:    It is stored as one plain channel with all time stamps. Its samples are the first half of the block,
#             near and far in turn. Nothing is said, and nothing in the file tells. The other half is not in the
#             file. The same values in a record with one field of shape (2,) are stored in full.
# Seen:
#     written: shape (1000, 2), begins [[0.25, -0.25], [1.25, -1.25], [2.25, -2.25]]
#     read:    shape (1000,), begins [0.25, -0.25, 1.25, -1.25, 2.25, -2.25]
#     time stamps: 1000, to 0.020813 s
#     the first half of near and far, in turn: True
#     as a record with one field of shape (2,): shape (1000, 2), all values right: True
# Matters:    The file looks like a mono recording of the right length and rate. Each tone appears at half its
#             frequency and again mirrored, far is mixed with near, and the second half of the recording is lost: a
#             fault that begins late is gone. Write each channel as a signal of its own; check one value of each
#             file after writing.
# Documented: Not found. The docstring of `Signal` calls samples "array-like"; an issue of its tracker (1148) asks
#             how channel arrays are made.
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

N = 1000
stamps = np.arange(N) / 48000
near, far = np.arange(N) + 0.25, -np.arange(N) - 0.25
block = np.stack([near, far], axis=1)
record = np.zeros(N, np.dtype([("mic", "f8", (2,))]))
record["mic"] = block


def stored(samples):
    with MDF() as file:
        file.append(Signal(samples, stamps, name="mic", unit="Pa"))
        file.save("clip.mf4", overwrite=True)
    with MDF("clip.mf4") as file:
        return file.get("mic")


plain = stored(block)
print(f"written: shape {block.shape}, begins {block[:3].tolist()}")
print(f"read:    shape {plain.samples.shape}, begins {plain.samples[:6].tolist()}")
print(f"time stamps: {len(plain.timestamps)}, to {plain.timestamps[-1]:.6f} s")
takes_turns = np.array_equal(plain.samples, block.ravel()[:N])
print(f"the first half of near and far, in turn: {takes_turns}")
full = stored(record).samples["mic"]
print(f"as a record with one field of shape (2,): shape {full.shape}, all values right: {np.array_equal(full, block)}")
if not takes_turns or not np.array_equal(full, block):
    sys.exit("CHANGED: asammdf stores a signal of shape (samples, 2) in another way")
PYTHON
