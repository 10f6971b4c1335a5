"""The control plane of ``fleet up`` with a node that runs containers: kubelet over containerd.

Made for network and mount namespaces of its own (``__main__``): ports are fixed, and nothing here
removes a mount, a link or a rule.
"""

import json
from pathlib import Path

import yaml

from e2e import policies, runtime
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.control_plane import Component, ControlPlane
from fleet_cli.local.ports import LOOPBACK

NODE = "10.1.0.1"  # on this namespace's loopback; pods reach it by their default route
SERVICES = "10.0.0.1"  # the API server, to pods
CGROUP = "/fleetloop-e2e"


class RealPlane(ControlPlane):
    """What a real node adds, and where the API server must listen for it."""

    programs = ("kubelet", "kube-proxy", "coredns", policies.PROGRAM)
    addresses = (LOOPBACK, NODE, SERVICES)
    preferred = {"apiserver": 6443}  # where a policy expects it

    def groups(self) -> tuple[tuple[Component, ...], ...]:
        return (
            (self.etcd(), self.apiserver(), self.containerd()),
            (self.controller_manager(), self.scheduler(), self.kube_proxy(), self.coredns()),
            (self.judge(),),  # before there are pods to judge
            (self.node(),),
        )

    def apiserver(self) -> Component:
        usual = super().apiserver()
        # Of two flags the later one counts.
        flags = {
            "bind-address": "0.0.0.0",
            "advertise-address": NODE,
            "endpoint-reconciler-type": "lease",
        }
        command = usual.command + [f"--{flag}={value}" for flag, value in flags.items()]
        return Component(usual.name, command, usual.ready)

    def containerd(self) -> Component:
        path = runtime.configure(self.folder, self._network())
        ready = f"http://{runtime.METRICS}/v1/metrics"
        return Component("containerd", ["containerd", "--config", str(path)], ready)

    def node(self) -> Component:
        tls = {"tlsCertFile": str(self.pki.cert), "tlsPrivateKeyFile": str(self.pki.key)}
        resolv = self.folder / "resolv.conf"
        resolv.write_text("")  # pods know names of the cluster, and no others
        config = self._config(
            "kubelet",
            "kubelet.config.k8s.io/v1beta1",
            "KubeletConfiguration",
            **tls,
            authentication={
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(self.pki.ca)},
            },
            authorization={"mode": "AlwaysAllow"},  # its one client is the API server
            cgroupDriver="cgroupfs",
            cgroupRoot=CGROUP,
            clusterDNS=[NODE],
            clusterDomain="cluster.local",
            containerRuntimeEndpoint=f"unix://{self.folder}/containerd.sock",
            enforceNodeAllocatable=[],
            # A test machine's disk may be as full as it likes.
            evictionHard={"memory.available": "1Mi", "nodefs.available": "0%"},
            failCgroupV1=False,
            failSwapOn=False,
            imageGCHighThresholdPercent=100,
            imageMinimumGCAge="24h",
            oomScoreAdj=0,
            podLogsDir=str(self.folder / "pods"),
            resolvConf=str(resolv),
            volumePluginDir=str(self.folder / "plugins"),
        )
        flags = {
            "kubeconfig": self.kubeconfig("node"),
            "root-dir": self.folder / "kubelet",
            "cert-dir": self.folder / "kubelet-pki",
            "hostname-override": "local",
            "node-ip": NODE,
            "config": config,
        }
        ready = f"{self.url('apiserver')}/api/v1/nodes/local"
        return Component("kubelet", self._command("kubelet", flags), ready, grace=15.0)

    def kube_proxy(self) -> Component:
        config = self._config(
            "kube-proxy",
            "kubeproxy.config.k8s.io/v1alpha1",
            "KubeProxyConfiguration",
            mode="iptables",
            clientConnection={"kubeconfig": str(self.kubeconfig("admin"))},
            clusterCIDR=policies.PODS,
            # The limits belong to the machine and not to this namespace.
            conntrack={
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            healthzBindAddress=f"{LOOPBACK}:10256",
            hostnameOverride="local",
            metricsBindAddress=f"{LOOPBACK}:10249",
            oomScoreAdj=0,
        )
        command = self._command("kube-proxy", {"config": config})
        return Component("kube-proxy", command, f"http://{LOOPBACK}:10249/metrics")

    def judge(self) -> Component:
        policies.divert()
        program = self.binaries[policies.PROGRAM]
        command = policies.command(program, self.url("apiserver"), self.pki)
        return Component(policies.PROGRAM, command, f"http://{policies.METRICS}/metrics")

    def coredns(self) -> Component:
        path = self.folder / "Corefile"
        path.write_text(
            f".:53 {{\n  bind {NODE}\n  errors\n  ready {LOOPBACK}:8181\n"
            f"  kubernetes cluster.local {{\n    kubeconfig {self.kubeconfig('admin')}\n  }}\n}}\n"
        )
        command = [str(self.binaries["coredns"]), "-conf", str(path)]
        return Component("coredns", command, f"http://{LOOPBACK}:8181/ready")

    def _network(self) -> Path:
        """A link of its own per pod, no bridge: then every packet passes the service rules."""
        folder = self.folder / "cni"
        folder.mkdir(exist_ok=True)
        ipam = {
            "type": "host-local",
            "dataDir": str(self.folder / "cni-leases"),
            "ranges": [[{"subnet": policies.PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        plugins = [{"type": "ptp", "ipam": ipam}, {"type": "portmap"}]
        config = {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}
        (folder / "pods.conflist").write_text(json.dumps(config))
        return folder

    def _config(self, name: str, version: str, kind: str, **fields: object) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"apiVersion": version, "kind": kind, **fields}))
        return path


class RealCluster(LocalCluster):
    """LocalCluster on that plane."""

    plane_type = RealPlane
