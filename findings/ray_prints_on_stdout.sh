#!/usr/bin/env bash
# Ray prints on the standard output of the program that uses it, although it was told log_to_driver=False.
#
# Package:    ray 2.60.0
# Guess:      With log_to_driver=False, whatever the processes of a cluster say stays in their logs. Standard output is
#             the program's own, for scores as CSV or JSON that another program reads.
# Happens:    Messages of the cluster itself, such as that a worker was killed, are printed there all the same. The
#             option is about what workers print.
# Seen:
#     clip,score
#     text of Ray follows on standard output: 146 words
# Matters:    `score ... > scores.csv` on a cluster is a valid table until a worker dies. Then there is a line of prose
#             in it, and nothing on standard error. Write results to a file, or look at each line.
# Documented: ray.init: "log_to_driver: If True, the output from all of the worker processes on all nodes will be
#             directed to the driver." Nothing is said of the cluster's own messages.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check ray==2.60.0
cd "$work"
cat > run.py <<'PYTHON'
import os
import signal
import time

import ray

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)


@ray.remote(max_retries=0)
def die():
    os.kill(os.getpid(), signal.SIGKILL)


print("clip,score", flush=True)
try:
    ray.get(die.remote())
except ray.exceptions.WorkerCrashedError:
    pass
time.sleep(5)
ray.shutdown()
PYTHON
RAY_USAGE_STATS_ENABLED=0 HOME="$work" venv/bin/python -I run.py > stdout.txt 2> stderr.txt
head -n 1 stdout.txt
if test "$(head -n 1 stdout.txt)" = "clip,score" && grep -q "worker died" stdout.txt; then
  echo "text of Ray follows on standard output: $(tail -n +2 stdout.txt | wc -w) words"
else
  echo "CHANGED: nothing of Ray is on standard output"
  exit 1
fi
