"""``python -m fleet_operator``."""

import gc

gc.disable()  # what is imported stays: to look for garbage in it is a tenth of a start

from fleet_operator.main import main  # noqa: E402

gc.freeze()
gc.enable()
main()
