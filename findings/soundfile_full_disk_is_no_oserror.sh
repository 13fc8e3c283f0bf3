#!/usr/bin/env bash
# python-soundfile turns a full disk into an AssertionError without a message: the OSError is printed, and lost.
#
# Package:    soundfile 0.14.0 (libsndfile 1.2.2), NumPy 2.4.6
# Guess:      If the `write` of a Python file object raises OSError (no space left on device), so does the
#             `SoundFile` that writes to it. At least the error is one of soundfile's own, such as LibsndfileError.
# Happens:    The exception of the file object is printed to stderr as "ignored", and `SoundFile.write` ends in a
#             bare `assert`. With `python -O`, where there are no assertions, nothing is raised at all, and the file
#             is too short.
# Seen:
#     python: raised AssertionError('')
#     python -O: raised nothing; 4096 of 64044 bytes were written
# Matters:    A recorder or a watch that writes clips catches OSError to make room and go on. It does not catch
#             AssertionError, and under -O it does not know that sound is lost. Write to memory first, then the
#             bytes to the disk; or keep the exception in the file object and raise it after each write.
# Documented: That file objects can be given is documented; what becomes of their exceptions is not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
cd "$work"
cat > record.py <<'PYTHON'
import errno
import io

import numpy as np
import soundfile

SIZE = 44 + 16000 * 2 * 2


class Full(io.BytesIO):
    """A disk with room for 4 KiB."""

    def write(self, data):
        room = 4096 - self.tell()
        if len(data) > room:
            super().write(bytes(data)[:room])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


disk = Full()
try:
    with soundfile.SoundFile(disk, "w", 16000, 2, format="WAV", subtype="PCM_16") as file:
        file.write(np.zeros((16000, 2)))
except BaseException as error:
    print(f"raised {error!r}".replace("AssertionError()", "AssertionError('')"))
else:
    print(f"raised nothing; {len(disk.getvalue())} of {SIZE} bytes were written")
PYTHON
usual=$(venv/bin/python -I record.py 2>stderr)
optimized=$(venv/bin/python -I -O record.py 2>>stderr)
echo "python: $usual"
echo "python -O: $optimized"
grep -q "No space left on device" stderr || { echo "CHANGED: the exception is no longer printed as ignored"; exit 1; }
if [[ $usual != "raised AssertionError('')" || $optimized != "raised nothing; 4096 of 64044 bytes were written" ]]; then
    echo "CHANGED: soundfile no longer loses the exception of the file object"
    exit 1
fi
