"""``python -m fleet_operator``."""

from fleet_operator.main import main

main()
