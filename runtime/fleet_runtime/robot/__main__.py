"""``python -m fleet_runtime.robot``."""

from fleet_runtime.robot.main import main

if __name__ == "__main__":
    main()
