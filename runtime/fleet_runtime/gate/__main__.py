"""``python -m fleet_runtime.gate``."""

from fleet_runtime.gate.main import main

if __name__ == "__main__":
    main()
