#!/usr/bin/env bash
# Room.simulate(snr=...) of pyroomacoustics makes all sources equally loud, and leaves its noise on for later calls.
#
# Package:    pyroomacoustics 0.10.1, NumPy 2.4.6
# Guess:      `snr` sets the level of the sensor noise. What the sources sound like, relative to each other and
#             in absolute level, stays as it was. A later call without `snr` has no noise.
# Happens:    Every source is scaled to variance 1 at the reference microphone (by default the first), before
#             they are added. A machine 33 dB below the noise of the hall is as loud as it. And the noise level
#             stays in the room (`sigma2_awgn`): the next call, without `snr`, has the sources as they are, with
#             noise of the former scale.
# Seen:
#     without snr       at near: machine  -32.9 dB, hall   -0.1 dB, with noise 0 dB
#     snr=0             at near: machine    0.0 dB, hall    0.0 dB, with noise 6 dB
#     without snr again at near: machine  -32.9 dB, hall   -0.1 dB, with noise 5 dB
# Matters:    Near and far microphones are simulated to have a machine at a given level in the noise of other
#             sources. With `snr` the chosen level is undone, and near-to-far level differences are right only
#             for each source alone. Add sensor noise yourself, and check the levels of `return_premix=True`.
# Documented: In the docstring of `Room.simulate`: the variance of every source is normalized to one, and
#             `sigma2_awgn` is set. It does not say that this adds noise to later calls.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  pyroomacoustics==0.10.1 numpy==2.4.6 scipy==1.17.1
cd "$work"
venv/bin/python -I - <<'PYTHON'
import sys

import numpy as np
import pyroomacoustics as pra

rng = np.random.default_rng(0)
room = pra.ShoeBox([6, 5, 3], fs=16000, materials=pra.Material(0.3), max_order=3)
room.add_source([1, 1, 1], signal=0.01 * rng.standard_normal(16000))  # the machine
room.add_source([5, 4, 2], signal=rng.standard_normal(16000))  # the hall
room.add_microphone_array(np.array([[1.5, 1, 1], [4.5, 4, 2]]).T)  # near, far


def decibels(signals):
    return np.round(20 * np.log10(signals.std(axis=-1)), 1)


def simulate(name, **options):
    machine, hall = decibels(room.simulate(return_premix=True, **options))
    near = decibels(room.mic_array.signals)[0]
    parts = f"machine {machine[0]:6.1f} dB, hall {hall[0]:6.1f} dB"
    print(f"{name:17} at near: {parts}, with noise {round(near)} dB")
    return hall[0] - machine[0], near - hall[0]


before = simulate("without snr")
simulated = simulate("snr=0", snr=0)
after = simulate("without snr again")
if before[0] < 30 or abs(simulated[0]) > 0.1:
    sys.exit("CHANGED: snr no longer makes the sources equally loud")
if before[1] > 0.5 or after[1] < 3:
    sys.exit("CHANGED: a later call without snr no longer has the noise")
PYTHON
