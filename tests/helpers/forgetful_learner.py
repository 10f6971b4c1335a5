"""The learner's program, which lets go of two segments at a time and ends by kill -9 at the n-th
object that it removes (0: never). For `helpers.forge`."""

import os
import signal
import sys
from functools import partial

from fleet_contract import names
from fleet_runtime.artifacts import Store
from fleet_runtime.learner import main as learner
from fleet_runtime.learner import retention
from helpers.learner import JOB_UID

FOLDERS = tuple(
    f"{names.job_root(JOB_UID)}/{folder}/" for folder in ("journal", "payload", "bases")
)


def plant(dies_at: int) -> None:
    delete, count = Store.delete, 0

    def dying(self: Store, key: str) -> None:
        nonlocal count
        count += key.startswith(FOLDERS)
        if dies_at and count == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        delete(self, key)

    Store.delete = dying  # type: ignore[method-assign]
    retention.decided = partial(retention.decided, least=2)


if __name__ == "__main__":
    plant(int(sys.argv[1]))
    sys.exit(learner.main())
