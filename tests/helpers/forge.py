"""Learner processes in a tenth of a second: one program has everything imported and forks.

Each line on stdin is a JSON object {environment, log, script}; the answer is the child's pid. The
child is a learner like any other, in a process of its own, or a script with its arguments; it
leaves its exit code in `<log>.exit`, which a killed one cannot.
"""

import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path


def run(script: list[str]) -> int:
    """Another program, with the helpers at hand."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.argv = script
    runpy.run_path(script[0], run_name="__main__")
    return 0


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
            code = run(order["script"]) if order["script"] else learner.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:  # noqa: BLE001 - the log tells, nobody above would
            traceback.print_exc()
        finally:
            Path(f"{order['log']}.exit").write_text(str(code))
            os._exit(code)


if __name__ == "__main__":
    main()
