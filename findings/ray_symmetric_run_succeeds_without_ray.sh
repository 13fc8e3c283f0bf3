#!/usr/bin/env bash
# A job that `ray symmetric-run` starts succeeds, exit status 0, where Ray did not start and the command never ran.
#
# Package:    ray 2.60.0
# Guess:      `ray symmetric-run --address HOST:PORT -- COMMAND` starts Ray on all computers of a batch job, runs the
#             command on the head, and has its exit status. If Ray cannot start, the job fails.
# Happens:    The failure is printed, Ray is stopped, and the exit status is 0.
# Seen:
#     a command that ends with 3: exit status 3
#     Ray does not start: exit status 0, the command ran: False
# Matters:    A scheduler such as Slurm calls a training completed that was never begun, and starts the jobs that
#             depend on it; with a port that is taken, or one among those of Ray's workers, that is every time. Look
#             for the result at the end of the job's script, and fail if it is not there.
# Documented: no. The help says that it starts a cluster, runs a command, and stops the cluster.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check ray==2.60.0
cd "$work"
# In place of `ray start` and `ray stop`, so that no cluster of this computer is touched
mkdir bin
cat > bin/ray <<'STUB'
#!/bin/sh
if [ "$1" = start ]; then exit "$STARTS"; fi
STUB
chmod +x bin/ray
venv/bin/python -I - <<'PYTHON'
import os
import subprocess
import sys
from pathlib import Path

ENDS_WITH_3 = ["sh", "-c", "touch ran; exit 3"]
# It refuses to begin beside a cluster that runs already, which has no part in this
RUN = (
    "import sys; import ray.scripts.symmetric_run as run; run.check_ray_already_started = lambda: False; "
    "sys.argv[0] = 'symmetric-run'; run.symmetric_run()"
)


def status(starts):
    """Where `ray start` ends with that."""
    environment = {**os.environ, "PATH": f"bin:{os.environ['PATH']}", "STARTS": str(starts)}
    command = [sys.executable, "-I", "-c", RUN, "--address", "127.0.0.1:6379", "--", *ENDS_WITH_3]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


started = status(0)
print(f"a command that ends with 3: exit status {started}")
if started != 3 or not Path("ran").exists():
    sys.exit("CHANGED: the exit status of a command is no longer that of the job")
Path("ran").unlink()
failed = status(1)
print(f"Ray does not start: exit status {failed}, the command ran: {Path('ran').exists()}")
if failed != 0:
    sys.exit("CHANGED: a job without Ray fails now")
PYTHON
