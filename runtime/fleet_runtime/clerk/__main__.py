"""``python -m fleet_runtime.clerk``."""

from fleet_runtime.clerk.main import main

if __name__ == "__main__":
    main()
