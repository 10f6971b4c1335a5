"""`python -m fleet_runtime.learner`."""

import sys

from fleet_runtime.learner.main import main

if __name__ == "__main__":
    sys.exit(main())
