"""A real Kubernetes, NATS and a node on this machine: what `fleet up` brings up.

``lifecycle`` has up, down and connection; ``cluster`` has LocalCluster. Nothing is imported here:
the node, a process per cluster, should not carry what only its starter needs.
"""
