#!/usr/bin/env bash
# soundfile seeks backwards while a FLAC is read from beginning to end, though nobody asked it to seek.
#
# Package:    soundfile 0.14.0 (libsndfile 1.2.2), NumPy 2.4.6
# Guess:      A FLAC that is read block by block, in order, is read forwards. So it can be decoded as it comes, from a
#             socket or a pipe behind a file object.
# Happens:    After each read, soundfile seeks to the frame where the file is already. Of a WAV this costs nothing. Of a
#             FLAC, libsndfile then looks for its frame anew, and reads bytes again that are gone in a stream. A
#             subclass whose `seekable` says no reads the same samples without one step back.
# Seen:
#     WAV SoundFile, 100 reads in order: 0 seeks backwards
#     WAV Unseekable, 100 reads in order: 0 seeks backwards
#     FLAC SoundFile, 100 reads in order: 146 seeks backwards
#     FLAC Unseekable, 100 reads in order: 0 seeks backwards
# Matters:    Recorders send FLAC over the network because it halves the traffic. With a stream behind soundfile, the
#             decoder loses its place after the first block, and one looks for the fault in the sender. Read a FLAC that
#             is large or far away in few large blocks, or tell soundfile that it cannot seek.
# Documented: No. soundfile says that file-like objects need `seek`; not that reads use it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
cd "$work"
cat > seeks.py <<'PYTHON'
import io

import numpy as np
import soundfile


class Counted(io.BytesIO):
    back = 0

    def seek(self, offset, whence=io.SEEK_SET):
        before = self.tell()
        place = super().seek(offset, whence)
        Counted.back += place < before
        return place


class Unseekable(soundfile.SoundFile):
    def seekable(self):
        return False


samples = np.random.default_rng(0).integers(-9999, 9999, (160000, 2)).astype(np.int16)
for form in ("WAV", "FLAC"):
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format=form, subtype="PCM_16")
    for kind in (soundfile.SoundFile, Unseekable):
        with kind(Counted(file.getvalue())) as sound:
            opened = Counted.back
            read = np.concatenate([sound.read(1600, dtype="int16") for _ in range(100)])
        assert np.array_equal(read, samples)
        print(f"{form} {kind.__name__}, 100 reads in order: {Counted.back - opened} seeks backwards")
PYTHON
venv/bin/python -I seeks.py > seen.txt
cat seen.txt
for line in "WAV SoundFile" "WAV Unseekable" "FLAC Unseekable"; do
  grep -q "^$line, .*: 0 seeks" seen.txt || { echo "CHANGED: $line seeks backwards"; exit 1; }
done
grep -q "^FLAC SoundFile, .*: [1-9][0-9]* seeks" seen.txt || { echo "CHANGED: FLAC is read forwards"; exit 1; }
