"""A full push as LeRobot's HIL-SERL does it: all float32 weights, pickled, in chunks, then loaded.

Written after its `learner.py` and `actor.py` (`state_to_bytes`, `StreamParameters`,
`update_policy_parameters`): the state dict moved to the CPU and torch.saved, sent in chunks of
2 MiB, `torch.load`ed at the other end and loaded into the network. Chunks travel in a plain TCP
connection here, not in gRPC, which is not installed: that is kind to it.
"""

from __future__ import annotations

import io
import socket
import struct
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

CHUNK = 2 * 2**20
_LENGTH = struct.Struct("!Q")


def push(connection: socket.socket, net: nn.Module) -> int:
    """Send all of it; how many bytes that were."""
    buffer = io.BytesIO()
    torch.save({name: one.detach().cpu() for name, one in net.state_dict().items()}, buffer)
    size = buffer.tell()
    connection.sendall(_LENGTH.pack(size))
    view = buffer.getbuffer()
    for start in range(0, size, CHUNK):
        connection.sendall(view[start : start + CHUNK])
    return size


def receive(connection: socket.socket) -> io.BytesIO | None:
    """The next message; None at the end."""
    head = connection.recv(_LENGTH.size, socket.MSG_WAITALL)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    buffer = io.BytesIO()
    while buffer.tell() < size:
        chunk = connection.recv(min(CHUNK, size - buffer.tell()))
        if not chunk:
            return None
        buffer.write(chunk)
    buffer.seek(0)
    return buffer


def load(net: nn.Module, message: io.BytesIO) -> float:
    """Load it; monotonic seconds when that was done."""
    net.load_state_dict(torch.load(message, weights_only=True))
    return time.monotonic()
