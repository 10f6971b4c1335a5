"""``python -m fleet_runtime.datasets``."""

import sys

try:
    from fleet_runtime.datasets.program import main
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed: install fleetloop[datasets]")

sys.exit(main())
