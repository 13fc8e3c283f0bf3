#!/usr/bin/env bash
# libsndfile refuses to write FLAC at 65,536, 131,072 and 262,144 Hz, and says that the decoder failed.
#
# Package:    soundfile 0.14.0 (libsndfile 1.2.2), NumPy 2.4.6
# Guess:      FLAC holds any whole rate up to 655,350 Hz. So a recording at 131,072 Hz, a usual rate of vibration
#             analysers, can be written as one at 96,000 or 192,000 Hz can; `check_format` has nothing against it.
# Happens:    Above 65,535 Hz only multiples of 10 Hz can be written: the rates that a frame of FLAC's streamable
#             subset can tell. The error speaks of the decoder.
# Seen:
#     65535 ok
#     65536 LibsndfileError: Error : problem with initialization of the flac decoder.
#     96000 ok
#     102400 ok
#     131072 LibsndfileError: Error : problem with initialization of the flac decoder.
#     200000 ok
#     262144 LibsndfileError: Error : problem with initialization of the flac decoder.
#     655350 ok
# Matters:    Analysers sample at powers of two, so that lines of a spectrum fall on whole hertz. An archive that
#             keeps events as FLAC fails for these machines alone, and the message sends one to look for a damaged
#             file. Keep such recordings as WAV, or as raw FLAC outside of the subset by another encoder.
# Documented: The subset is in RFC 9639, section 7. That only its rates are written is said by neither library.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
cd "$work"
cat > rates.py <<'PYTHON'
import io

import numpy as np
import soundfile

SAMPLES = np.zeros(1000, np.int16)
assert soundfile.check_format("FLAC", "PCM_16")
for rate in (65535, 65536, 96000, 102400, 131072, 200000, 262144, 655350):
    try:
        soundfile.write(io.BytesIO(), SAMPLES, rate, format="FLAC", subtype="PCM_16")
        print(rate, "ok")
    except soundfile.LibsndfileError as error:
        print(rate, f"LibsndfileError: {error}")
PYTHON
venv/bin/python -I rates.py > seen.txt
cat seen.txt
for rate in 65535 96000 102400 200000 655350; do
  grep -qx "$rate ok" seen.txt || { echo "CHANGED: $rate Hz is refused"; exit 1; }
done
for rate in 65536 131072 262144; do
  grep -q "^$rate LibsndfileError: .*flac decoder" seen.txt || { echo "CHANGED: $rate Hz is written, or the error is another"; exit 1; }
done
