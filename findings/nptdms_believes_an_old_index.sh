#!/usr/bin/env bash
# npTDMS gives new samples with the rate and the scaling of the recording that had this file name before.
#
# Package:    npTDMS 1.13.0, NumPy 2.4.6
# Guess:      `TdmsFile.read("clip.tdms")` describes clip.tdms. An index file beside it only saves time; it is
#             checked against the file, or the file against it.
# Happens:    If there is a file `clip.tdms_index`, all metadata are taken from it: channels, number and type of
#             samples, `wf_increment`, scalings. Only the raw bytes come from clip.tdms. If the recording was
#             written again without an index, the new samples have the old rate and scaling; if their type or
#             number differs, they are other numbers. `file_status` says that all is complete. The same file, given
#             as an open file, is read as it is.
# Seen:
#     first recording, with its index; as an open file, and by its path:
#         16000 Hz, 8 samples, begins [0.0, 0.5, 1.0], incomplete: False
#         16000 Hz, 8 samples, begins [0.0, 0.5, 1.0], incomplete: False
#     recorded again under this name, without an index:
#         48000 Hz, 8 samples, begins [200.0, 202.0, 204.0], incomplete: False
#         16000 Hz, 8 samples, begins [50.0, 50.5, 51.0], incomplete: False
#     recorded again as floating point, 20 samples:
#         48000 Hz, 20 samples, begins [100.0, 101.0, 102.0], incomplete: False
#         16000 Hz, 8 samples, begins [0.0, 8548.0, 0.0], incomplete: False
#     the same, after the old index was removed:
#         48000 Hz, 20 samples, begins [100.0, 101.0, 102.0], incomplete: False
#         48000 Hz, 20 samples, begins [100.0, 101.0, 102.0], incomplete: False
# Matters:    LabVIEW leaves such an index beside every file, and copies of single files part them. A recording at
#             48 kHz that is taken for 16 kHz has every frequency at a third; with the old gain, every level is
#             wrong. Pass an open file in place of a path, or remove index files.
# Documented: Not in the reference of `read` and `open`. The docstring of `TdmsWriter` says that an index may be
#             written beside the file; a comment in the source says that it is read because that is faster.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check npTDMS==1.13.0 numpy==2.4.6
cd "$work"
venv/bin/python -I - <<'PYTHON'
import pathlib
import sys

import numpy as np
from nptdms import ChannelObject, TdmsFile, TdmsWriter


def record(samples, rate, gain, index):
    told = {
        "wf_increment": 1 / rate, "NI_Scaling_Status": "unscaled", "NI_Number_Of_Scales": 1,
        "NI_Scale[0]_Scale_Type": "Linear", "NI_Scale[0]_Linear_Slope": gain, "NI_Scale[0]_Linear_Y_Intercept": 0.0,
    }
    with TdmsWriter("clip.tdms", index_file=index) as writer:
        writer.write_segment([ChannelObject("rig", "near", samples, properties=told)])


def shown(file):
    tdms = TdmsFile.read(file)
    near = tdms["rig"]["near"]
    rate = round(1 / near.properties["wf_increment"])
    first = near[:3].tolist()
    print(f"    {rate} Hz, {len(near)} samples, begins {first}, incomplete: {tdms.file_status.incomplete_final_segment}")
    return rate, len(near), first


def both(title):
    print(title)
    with open("clip.tdms", "rb") as file:
        opened = shown(file)
    return opened, shown("clip.tdms")


record(np.arange(8, dtype=np.int16), 16000, 0.5, index=True)
first = both("first recording, with its index; as an open file, and by its path:")
record(np.arange(8, dtype=np.int16) + 100, 48000, 2.0, index=False)
second = both("recorded again under this name, without an index:")
record(np.arange(20, dtype=np.float32) + 100, 48000, 1.0, index=False)
third = both("recorded again as floating point, 20 samples:")
pathlib.Path("clip.tdms_index").unlink()
fourth = both("the same, after the old index was removed:")
same = [opened == by_path for opened, by_path in (first, second, third, fourth)]
if same != [True, False, False, True] or second[1][0] != 16000:
    sys.exit("CHANGED: npTDMS now compares the index with the file, or no longer uses it")
PYTHON
