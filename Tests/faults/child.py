"""One case on one pool, in a process of its own: `child.py JOB`, the job being JSON; the result goes to a file."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import table
from failures import Skip
from trial import Trial

PR_SET_PDEATHSIG = 1


def main() -> None:
    job = json.loads(sys.argv[1])
    faulthandler.enable()
    # It does not outlive the program.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    fault = table.one_fault(job["fault"], job["module"])
    faulthandler.dump_traceback_later(fault.limit, exit=True)
    folder = Path(job["folder"])
    result = attempt(fault, job, folder)
    (folder / "result.new").write_text(json.dumps(result))
    os.replace(folder / "result.new", folder / "result")
    faulthandler.cancel_dump_traceback_later()
    sys.stderr.flush()


def attempt(fault: Any, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    start = time.monotonic()
    trial = None
    skipped = None
    reasons = []
    try:
        trial = Trial(fault, job["pool"], folder, Path(job["template"]), (Path(job["shared"]), job["port"]))
        fault.run(trial)
    except Skip as skip:
        skipped = str(skip)
    except BaseException as failure:
        traceback.print_exc()
        reasons.append(f"{type(failure).__name__}: {failure}".splitlines()[0])
    if trial is None:
        return {"reasons": reasons, "skipped": skipped}
    pid = os.getpid()
    has_ended = not reasons and skipped is None
    for what, step in (("end state", partial(trial.conclude, has_ended)), ("cleaning up", trial.clean_up)):
        try:
            step()
        except BaseException as failure:
            assert os.getpid() == pid, "a forked child came back"
            traceback.print_exc()
            reasons.append(f"{what}: {type(failure).__name__}: {failure}".splitlines()[0])
    return {
        "errors": trial.errors,
        "worst_ms": trial.worst_ms,
        "recovery_ms": trial.recovery_ms,
        "reasons": trial.reasons + reasons,
        "notes": trial.notes,
        "skipped": skipped,
        "seconds": time.monotonic() - start,
    }


if __name__ == "__main__":
    main()
