#!/usr/bin/env bash
# pyuff writes single precision in binary universal files as doubles, and reads its own file as other samples.
#
# Package:    pyuff 2.5.8, NumPy 2.4.6
# Guess:      With `force_double=False` and `ord_data_type=2`, a binary data set 58 has 4 bytes a sample, as its
#             header says. What pyuff writes, it reads.
# Happens:    The header says single precision and 4 bytes a sample; the body has 8 bytes a sample. Read back, the
#             data set has twice as many samples as its own `num_pts`: the halves of doubles, taken as numbers.
#             There is no error and no warning. As text, and in double precision, the samples come back.
# Seen:
#     text, single precision: num_pts 480, 480 samples read, peak 1, right
#     text, double precision: num_pts 480, 480 samples read, peak 1, right
#     binary, double precision: num_pts 480, 480 samples read, peak 1, right
#     binary, single precision: num_pts 480, 960 samples read, peak 8.01e+34, WRONG
#     written: 480 samples, peak 1
# Matters:    Universal files are how vibration and sound recordings are passed between analysers, and single
#             precision is usual there. A clip of 10 s becomes 20 s of noise with huge peaks. Compare the number of
#             samples with `num_pts`, and write double precision.
# Documented: The docstring of `write_sets` says of `force_double` that single precision should be avoided. It does
#             not say that binary files are wrong.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check pyuff==2.5.8 numpy==2.4.6
cd "$work"
venv/bin/python -I - <<'PYTHON'
import pathlib
import sys
import warnings

import numpy as np
import pyuff

warnings.simplefilter("error")  # a warning would end this script
warnings.simplefilter("ignore", ResourceWarning)  # of the file that pyuff leaves open
samples = np.sin(2 * np.pi * 1000 * np.arange(480) / 48000)


def again(binary, precision):
    data_set = {
        "type": 58, "binary": binary, "func_type": 1, "ord_data_type": precision, "abscissa_spacing": 1,
        "id1": "near", "id2": "NONE", "id3": "NONE", "id4": "NONE", "id5": "NONE",
        "rsp_node": 1, "rsp_dir": 3, "ref_node": 0, "ref_dir": 0,
        "abscissa_spec_data_type": 17, "ordinate_spec_data_type": 15, "orddenom_spec_data_type": 0,
        "z_axis_spec_data_type": 0, "x": np.arange(len(samples)) / 48000, "data": samples.copy(),
    }
    path = pathlib.Path("clip.uff")
    path.unlink(missing_ok=True)
    pyuff.UFF(str(path)).write_sets(data_set, "add", force_double=False)
    return pyuff.UFF(str(path)).read_sets(0)


right = []
for binary, precision, name in [
    (0, 2, "text, single precision"), (0, 4, "text, double precision"),
    (1, 4, "binary, double precision"), (1, 2, "binary, single precision"),
]:
    read = again(binary, precision)
    data = read["data"]
    right.append(len(data) == len(samples) and np.allclose(data, samples, atol=1e-5))
    print(f"{name}: num_pts {int(read['num_pts'])}, {len(data)} samples read, peak {np.nanmax(np.abs(data)):.3g}, {'right' if right[-1] else 'WRONG'}")
print(f"written: {len(samples)} samples, peak {np.abs(samples).max():.3g}")
if right != [True, True, True, False]:
    sys.exit("CHANGED: pyuff now reads its own binary files of single precision, or other files wrongly")
PYTHON
