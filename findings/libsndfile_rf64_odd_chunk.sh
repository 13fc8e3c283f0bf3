#!/usr/bin/env bash
# A valid RF64 file with a chunk of odd size before its samples cannot be read; the same file as RIFF can.
#
# Package:    soundfile 0.14.0 (libsndfile 1.2.2), NumPy 2.4.6
# Guess:      RF64 is WAV with 64-bit sizes. What is read as WAV is read as RF64.
# Happens:    A chunk of odd size is followed by a byte of padding, in both. libsndfile skips that byte in RIFF, and
#             takes it for the beginning of the next chunk in RF64 and BW64. Then it finds no samples.
# Seen:
#     RIFF with 14 bytes of text: 1000
#     RIFF with 15 bytes of text: 1000
#     RF64 with 14 bytes of text: 1000
#     RF64 with 15 bytes of text: Error in RF64 file. No 'data' chunk marker.
# Matters:    Field recorders write RF64 or BW64 when a recording may grow beyond 4 GB, and put text of any length
#             (iXML, axml, the coding history of bext) before the samples. Half of all lengths are odd. Such a file is
#             whole; "no data chunk" does not mean that the recording is lost. Insert a byte into the text, or read the
#             chunks yourself: they are a name, a size, the content, and a byte if the size is odd.
# Documented: EBU Tech 3306 and ITU-R BS.2088 say that RF64 and BW64 keep the chunks of RIFF, which are padded to an
#             even number of bytes. We found nothing on libsndfile's tracker.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
cd "$work"
venv/bin/python -I - <<'PYTHON'
import io
import struct
import sys

import soundfile

RATE, CHANNELS, FRAMES = 16_000, 2, 1000
SOUND = bytes(2 * CHANNELS * FRAMES)


def chunk(name, content, size=None):
    said = len(content) if size is None else size
    return name + struct.pack("<I", said) + content + bytes(len(content) % 2)


def recording(magic, text):
    """A WAV of 16 bits, with a text of a recorder before its samples."""
    fmt = struct.pack("<HHIIHH", 1, CHANNELS, RATE, 2 * CHANNELS * RATE, 2 * CHANNELS, 16)
    chunks = [chunk(b"fmt ", fmt), chunk(b"iXML", text)]
    size = len(SOUND)
    if magic != b"RIFF":
        chunks.insert(0, chunk(b"ds64", struct.pack("<QQQI", 4 + 36 + 24 + 9 + len(text) + 8 + size, size, FRAMES, 0)))
        size = 0xFFFFFFFF
    chunks.append(chunk(b"data", SOUND, size))
    content = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(content) if magic == b"RIFF" else size) + content


def frames(content):
    try:
        return len(soundfile.read(io.BytesIO(content))[0])
    except soundfile.LibsndfileError as error:
        return error.error_string


found = {}
for magic in (b"RIFF", b"RF64"):
    for text in (b"<hall>1</hall>", b"<hall>12</hall>"):
        found[magic, len(text) % 2] = frames(recording(magic, text))
        print(f"{magic.decode()} with {len(text)} bytes of text:", found[magic, len(text) % 2])
whole = [found[b"RIFF", 0], found[b"RIFF", 1], found[b"RF64", 0]]
if whole != [FRAMES] * 3 or "data" not in str(found[b"RF64", 1]):
    sys.exit("CHANGED: RF64 with a chunk of odd size is read, or others are not")
PYTHON
