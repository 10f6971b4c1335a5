"""Whom each may call on a network that heeds the policies, and whom not."""

from e2e.calls import Call

# What is refused to one is granted to another, or to the node: so it is known to be there.
TABLE = {
    "operator": (
        "nats:4222 nats-service:4222 node:6443 service:443",
        "s3:7070 robot:1 outsider:80",
    ),
    "learner": ("nats:4222 s3:7070 node:53", "node:6443 service:443 robot:1 outsider:80"),
    "clerk": ("nats:4222 s3:7070", "node:6443 robot:1 learner:9090 outsider:80"),
    "robot": (
        "nats:4222 nats-service:4222 s3:7070 node:53",
        (
            "node:6443 service:443 other-robot:1 other-robot:9090 learner:9090 clerk:1"
            " operator:9090 outsider:80 nats:8222"
        ),
    ),
    "gate": ("nats:4222 s3:7070", "node:6443 robot:1 outsider:80"),
    "rank": ("learner:9090 learner:40000", "clerk:1 robot:1"),
    "person": ("s3:7070 node:6443 outsider:80", "nats:4222 s3:1 robot:1 learner:1"),
    "sweeper": ("nats:4222 s3:7070", "nats:8222 learner:1"),
    "stranger": (
        "learner:9090 clerk:9090 operator:9090 node:6443 service:443 outsider:80",
        (
            "nats:4222 nats-service:4222 nats:8222 s3:7070 robot:1 robot:9090 gate:1 clerk:1"
            " learner:40000 operator:8080"
        ),
    ),
    "outsider": (
        "learner:9090 operator:9090 service:443",
        "nats:4222 nats-service:4222 s3:7070 robot:1 gate:1 clerk:1 learner:40000 operator:8080",
    ),
    "impostor": ("outsider:80", "nats:4222 s3:7070 learner:40000"),
    "nats": ("", "s3:7070 node:53 node:6443 service:443 learner:9090 outsider:80"),
    "s3": ("", "nats:4222 node:53 node:6443 service:443 learner:9090 outsider:80"),
    "node": (
        (
            "nats:8222 nats:4222 s3:7070 s3:1 robot:1 robot:9090 other-robot:1 other-robot:9090"
            " gate:1 clerk:1 learner:1 learner:40000 operator:8080"
        ),
        "",
    ),
}
CELLS = [
    (Call(caller, at), granted)
    for caller, row in TABLE.items()
    for granted, cells in zip((True, False), row, strict=True)
    for at in cells.split()
]
