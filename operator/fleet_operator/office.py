"""What every reconcile may use: the cluster, the inbox, the settings, the queue."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_operator.cluster import Cluster, Object
from fleet_operator.decide.deliveries import Deliveries
from fleet_operator.inbox import Inbox
from fleet_operator.settings import Settings
from fleet_operator.work import Key

UNTOLD = 200


@dataclass
class Office:
    """One per process."""

    settings: Settings
    cluster: Cluster
    inbox: Inbox
    deliveries: Deliveries
    wake: Callable[[Key], None]
    wake_in: Callable[[Key, float], None]
    clock: Callable[[], float] = time.time
    """Unix seconds, for dates people read and the soak of a stage; never for order."""
    written_at: dict[str, float] = field(default_factory=dict)
    """By a robot's UID: when its status was last written, in seconds of the loop's clock."""
    untold: deque[Object] = field(default_factory=lambda: deque(maxlen=UNTOLD))
    """Events that the API server has not taken yet."""
    last_event: float = field(default_factory=time.monotonic)
    last_turn: float = field(default_factory=time.monotonic)
