#!/usr/bin/env bash
# The same float samples, written twice as WAV, are two different files.
#
# Package:    soundfile 0.14.0 (libsndfile 1.2.2), NumPy 2.4.6
# Guess:      Equal samples, rate and format give equal bytes, as they do for 16-bit PCM. So the digest of a
#             file says whether two recordings are the same, and a simulator with a seed writes the same files
#             again.
# Happens:    In WAV, WAVEX and AIFF with FLOAT or DOUBLE, libsndfile adds a chunk PEAK. It holds the time of
#             writing, in seconds. Two files that are written in the same second are equal, so a quick test does
#             not notice. 16-bit PCM, RF64, W64, CAF and AU are written without this time.
# Seen:
#     WAV FLOAT    two seconds apart: bytes [60] differ
#     WAVEX FLOAT  two seconds apart: bytes [84] differ
#     AIFF FLOAT   two seconds apart: bytes [71] differ
#     WAV DOUBLE   two seconds apart: bytes [60] differ
#     WAV PCM_16   two seconds apart: equal bytes
#     RF64 FLOAT   two seconds apart: equal bytes
#     W64 FLOAT    two seconds apart: equal bytes
#     CAF FLOAT    two seconds apart: equal bytes
#     AU FLOAT     two seconds apart: equal bytes
#     WAV FLOAT: decoded samples are equal
# Matters:    Data sets are compared by digests of their files, and copies among training clips are found in
#             this way. A float copy passes for a new recording; equal seeds seem to give other data. Compare
#             decoded samples, or write a container without the chunk.
# Documented: The chunk is named in libsndfile's description of `sf_command` (SFC_SET_ADD_PEAK_CHUNK). soundfile
#             has no option for it, and the docstring of `soundfile.write` does not mention it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
cd "$work"
venv/bin/python -I - <<'PYTHON'
import io
import sys
import time

import numpy as np
import soundfile

FORMATS = [
    ("WAV", "FLOAT"), ("WAVEX", "FLOAT"), ("AIFF", "FLOAT"), ("WAV", "DOUBLE"),
    ("WAV", "PCM_16"), ("RF64", "FLOAT"), ("W64", "FLOAT"), ("CAF", "FLOAT"), ("AU", "FLOAT"),
]
samples = 0.1 * np.random.default_rng(0).standard_normal((16000, 2))


def written(container, subtype):
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format=container, subtype=subtype)
    return file.getvalue()


first = [written(*kind) for kind in FORMATS]
time.sleep(2.1)
second = [written(*kind) for kind in FORMATS]
differ = []
for (container, subtype), a, b in zip(FORMATS, first, second):
    places = [i for i, (p, q) in enumerate(zip(a, b, strict=True)) if p != q]
    differ.append(bool(places))
    said = f"bytes {places} differ" if places else "equal bytes"
    print(f"{container + ' ' + subtype:12} two seconds apart: {said}")
same = np.array_equal(soundfile.read(io.BytesIO(first[0]))[0], soundfile.read(io.BytesIO(second[0]))[0])
print(f"WAV FLOAT: decoded samples are {'equal' if same else 'not equal'}")
if differ != [True] * 4 + [False] * 5 or not same:
    sys.exit("CHANGED: float WAV or AIFF no longer depends on the time of writing, or another container does")
PYTHON
