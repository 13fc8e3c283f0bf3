#!/usr/bin/env bash
# OpenVINO's convert_model reports each conversion to Google Analytics, and nobody was asked.
#
# Package:    openvino 2026.4.1, which requires openvino-telemetry 2025.2.0
# Guess:      Converting a network that lies on this disk is arithmetic. It works in a plant without a network, writes
#             what it was asked for, and says nothing to anybody.
# Happens:    The first call writes a random identity of the user to ~/intel/openvino_ga_cid. This and every other call
#             sends a message for each kind of operation in the network, and for the version, arguments, framework and
#             outcome. For each message a process is forked from the one that converts.
# Seen:
#     messages of one conversion: 8
#     to www.google-analytics.com
#     identity kept in intel/openvino_ga_cid
#     answers asked for: none
# Matters:    In a plant, a connection to the outside that nobody has ordered is an incident. A fork of a process with
#             threads and gigabytes of weights is none of a conversion's business either. It is off where CI is "true",
#             so tests of a project do not see it. `opt_in_out --opt_out` is needed once for each user and computer; the
#             converter has a stand-in for where the package is missing, `openvino.tools.ovc.telemetry_stub`.
# Documented: A page about telemetry says that it is on by default (docs.openvino.ai). The package that sends describes
#             itself as one for statistics "with user's consent". Its former versions did ask.
#
# Nothing leaves here: the function that would send only counts.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  openvino==2026.4.1 openvino-telemetry==2025.2.0 onnx==1.22.0
cd "$work"
cat > convert.py <<'PYTHON'
import json
from pathlib import Path
from urllib.parse import urlsplit

import onnx
import openvino
from openvino_telemetry.backend.backend_ga4 import GA4Backend

messages, hosts = [], set()


def count(self, message):
    messages.append(json.dumps(message))
    hosts.add(urlsplit(self.backend_url).netloc)


GA4Backend.send = count
network = """<ir_version: 8, opset_import: ["" : 17]>
twice (float[rows, columns] x) => (float[rows, columns] y) { y = Add (x, x) }"""
onnx.save(onnx.parser.parse_model(network), "twice.onnx")
openvino.convert_model("twice.onnx")
from openvino_telemetry import Telemetry

Telemetry().sender.executor.shutdown(wait=True)
print("messages of one conversion:", len(messages))
for host in hosts:
    print("to", host)
for path in sorted(Path.home().rglob("openvino_ga_cid")):
    print("identity kept in", path.relative_to(Path.home()))
PYTHON
env -u CI -u TF_BUILD -u JENKINS_URL HOME="$work" venv/bin/python -I convert.py > stdout.txt 2> stderr.txt < /dev/null
cat stdout.txt
if grep -q "google-analytics" stdout.txt && grep -q "identity kept in intel/openvino_ga_cid" stdout.txt; then
  echo "answers asked for: none"
else
  echo "CHANGED: a conversion is no longer reported without being asked"
  exit 1
fi
