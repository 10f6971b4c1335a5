"""Learner processes in a tenth of a second: one program has everything imported and forks.

Each line on stdin is a JSON object {environment, log}; the answer is the child's pid. The child is
a learner like any other, in a process of its own; it leaves its exit code in `<log>.exit`, which a
killed one cannot.
"""

import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    import torch
    import torch._dynamo  # what the first optimiser would import, for seconds

    from fleet_runtime.algorithms import hg_dagger  # noqa: F401
    from fleet_runtime.learner import main as learner

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for them
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid:
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(order["environment"])
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        code = 99
        try:
            code = learner.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            Path(f"{order['log']}.exit").write_text(str(code))
            os._exit(code)


if __name__ == "__main__":
    main()
