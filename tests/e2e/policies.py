"""What holds the node's pods to NetworkPolicies: kube-network-policies, as its project builds it.

It judges the first packet of each connection, which the kernel hands it through a queue.
"""

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from fleet_cli.local.pki import Pki
from fleet_cli.local.ports import LOOPBACK

PROGRAM = "kube-network-policies"
PODS = "10.244.0.0/24"
METRICS = f"{LOOPBACK}:9080"
QUEUE = 100
# A pod's own: where a client within a cluster looks, and there is no other way to tell this one.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Its own rules want a kernel with NFT_QUEUE, and spare what pods say to their node, where here API
# server and names are. So: after Services are resolved, on the way out and on the way in. What the
# node itself says, as to probe, goes through; nothing does while nobody judges.
RULES = f"""
*mangle
:JUDGED - [0:0]
-A POSTROUTING -m owner --uid-owner 0 -j RETURN
-A POSTROUTING -j JUDGED
-A INPUT -j JUDGED
-A JUDGED -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
-A JUDGED -s {PODS} -j NFQUEUE --queue-num {QUEUE}
-A JUDGED -d {PODS} -j NFQUEUE --queue-num {QUEUE}
COMMIT
"""


def divert() -> None:
    """In this network namespace, for good. Once again does it no harm: whoever is judged twice is
    judged alike.
    """
    subprocess.run(["iptables-restore", "--noflush", "--wait"], input=RULES, text=True, check=True)


def command(program: Path, server: str, pki: Pki) -> list[str]:
    """Its command line, once what it looks for lies in this mount namespace's /run."""
    ACCOUNT.mkdir(parents=True, exist_ok=True)
    (ACCOUNT / "ca.crt").write_bytes(pki.ca.read_bytes())
    (ACCOUNT / "token").write_text(pki.token("admin"))
    at = urlsplit(server)
    told = {"KUBERNETES_SERVICE_HOST": at.hostname, "KUBERNETES_SERVICE_PORT": at.port}
    flags = {
        "hostname-override": "local",
        "metrics-bind-address": METRICS,
        "nfqueue-id": QUEUE,
        "netfilter-bug-1766-fix": "false",  # it would judge by rules of its own
    }
    return [
        "env",
        *(f"{name}={value}" for name, value in told.items()),
        str(program),
        *(f"--{flag}={value}" for flag, value in flags.items()),
    ]
