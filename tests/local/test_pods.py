"""What a pod's process gets to see, and what the API gets to see of the process."""

import asyncio
import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.victims import kill_pod_processes, main_processes
from helpers.kube import Kube, await_exit, condition, container, exists, pod

SLEEP = ("sleep", "1000")


class Kubectl:
    """One kubectl command; what it says on either channel."""

    def __init__(self, cluster: LocalCluster, namespace: str, *arguments: str) -> None:
        where = (f"--kubeconfig={cluster.kubeconfig}", "-n", namespace)
        self.command = (str(cluster.kubectl), *where, *arguments)

    def __call__(self, *more: str) -> str:
        command = (*self.command, *more)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout + done.stderr


async def output(kube: Kube, name: str, phase: str = "Succeeded") -> str:
    await kube.phase(name, phase)
    return await kube.logs(name)


async def test_the_environment_comes_from_every_source_and_later_entries_may_use_earlier_ones(
    kube: Kube,
) -> None:
    await kube.create("configmaps", {"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}})
    secret = base64.b64encode(b"hush").decode()
    await kube.create("secrets", {"metadata": {"name": "s"}, "data": {"password": secret}})
    env = [
        {"name": "PLAIN", "value": "$(ALL_a)-$(NOBODY)-$$(ALL_a)"},
        {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "b"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
        {
            "name": "ABSENT",
            "valueFrom": {"secretKeyRef": {"name": "no", "key": "no", "optional": True}},
        },
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['robot']"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    sources = [{"prefix": "ALL_", "configMapRef": {"name": "c"}}]
    script = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"
    body = pod("env", "python3", "-c", script, args=["$(NAME)"], env=env, envFrom=sources)
    body["metadata"]["labels"] = {"robot": "r1"}
    await kube.create("pods", body)
    seen, arguments = json.loads(await output(kube, "env"))
    status = (await kube.get("pods", "env"))["status"]
    assert arguments == ["env"]
    assert seen["PLAIN"] == "1-$(NOBODY)-$(ALL_a)"
    assert (seen["ALL_b"], seen["ONE"], seen["SECRET"], seen["NAME"]) == ("2", "2", "hush", "env")
    assert (seen["LABEL"], seen["IP"]) == ("r1", status["podIP"])
    assert seen["IP"].startswith("127.")
    assert seen["OMP_NUM_THREADS"] == "1"
    assert "ABSENT" not in seen


async def test_mounts_are_folders_of_the_pod_and_their_paths_are_rewritten(kube: Kube) -> None:
    await kube.create("configmaps", {"metadata": {"name": "c"}, "data": {"k": "from configmap"}})
    projected = [
        {"configMap": {"name": "c", "items": [{"key": "k", "path": "deep/file"}]}},
        {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "c"}},
        {"name": "both", "projected": {"sources": projected}},
    ]
    mounts = [
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "config", "mountPath": "/etc/fleet"},
        {"name": "both", "mountPath": "/both"},
    ]
    script = (
        "cat /etc/fleet/k; echo; cat /both/deep/file /both/n; echo; cat /tmp/left; echo $URL; pwd"
    )
    write = {
        "name": "init",
        "image": "local",
        "command": ["sh", "-c", "echo by init > /tmp/left"],
        "volumeMounts": mounts,
    }
    await kube.run(
        "volumes",
        "sh",
        "-c",
        script,
        env=[{"name": "URL", "value": "file:///tmp/objects and /var/tmp/x"}],
        volumeMounts=mounts,
        workingDir="/tmp",
        pod={"volumes": volumes, "initContainers": [write]},
    )
    first, second, third, url, cwd = (await output(kube, "volumes")).splitlines()
    assert first == "from configmap"
    assert second == "from configmapvolumes"
    assert third == "by init"
    assert url == f"file://{cwd}/objects and /var/tmp/x"
    assert cwd.endswith("volumes/scratch")


async def test_a_service_account_token_proves_the_pod_to_the_api_server(
    kube: Kube, cluster: LocalCluster
) -> None:
    await kube.run("me", str(cluster.kubectl), "auth", "whoami", "-o", "json")
    user = json.loads(await output(kube, "me"))["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{kube.namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["me"]


async def test_kubectl_reads_logs_of_this_run_and_the_previous_one(
    kube: Kube, cluster: LocalCluster
) -> None:
    script = "echo one; echo two; echo three; test -e $HOME/x && sleep 1000; touch $HOME/x; exit 3"
    await kube.run("talks", "sh", "-c", script, pod={"restartPolicy": "OnFailure"})
    await kube.until(
        "pods", "talks", lambda p: container(p).get("restartCount") == 1 and container(p)["ready"]
    )
    logs = Kubectl(cluster, kube.namespace, "logs", "talks")
    assert logs("--previous") == "one\ntwo\nthree\n"
    assert logs("--tail=1") == "three\n"
    assert "leave out --timestamps" in logs("--timestamps")
    follow = await asyncio.create_subprocess_exec(*logs.command, "-f", stdout=subprocess.PIPE)
    assert follow.stdout is not None
    assert await follow.stdout.readline() == b"one\n"
    await kube.delete("pods", "talks")
    rest, _ = await follow.communicate()
    assert rest == b"two\nthree\n"


async def test_kubectl_exec_is_refused_with_a_sentence(kube: Kube, cluster: LocalCluster) -> None:
    await kube.run("quiet", *SLEEP)
    await kube.phase("quiet", "Running")
    answer = Kubectl(cluster, kube.namespace, "exec", "quiet", "--", "true")()
    assert "use a shell on this machine" in answer


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ('echo noise; printf "no such world" > "$WORDS"; exit 2', 2, "no such world"),
        ("echo first; echo it broke >&2; exit 1", 1, "first\nit broke"),
        ("echo all is well", 0, ""),
    ],
    ids=["its own words", "or the end of its log", "which is nothing where all went well"],
)
async def test_a_container_that_ends_says_why(
    kube: Kube, script: str, code: int, said: str
) -> None:
    await kube.run(
        "ends",
        *("sh", "-c", script),
        env=[{"name": "WORDS", "value": "/dev/termination-log"}],
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    ended = await kube.until(
        "pods", "ends", lambda p: "terminated" in container(p).get("state", {})
    )
    found = container(ended)["state"]["terminated"]
    assert (found["exitCode"], found.get("message", "")) == (code, said)


async def test_a_crashing_container_backs_off_and_says_with_which_code_it_ended(
    kube: Kube,
) -> None:
    await kube.run("crash", "sh", "-c", "exit 7", pod={"restartPolicy": "Always"})
    seen = await kube.until(
        "pods",
        "crash",
        lambda p: (
            container(p).get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        ),
    )
    assert container(seen)["lastState"]["terminated"]["exitCode"] == 7
    assert seen["status"]["phase"] == "Running"
    assert condition(seen, "Ready") == "False"


async def test_readiness_follows_its_probe_and_two_pods_may_listen_on_one_port(kube: Kube) -> None:
    serve = "python3 -m http.server --bind $IP 18080"
    probe = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}
    for name in ("a", "b"):
        await kube.run(
            name,
            "sh",
            "-c",
            serve,
            env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            ports=[{"name": "web", "containerPort": 18080}],
            startupProbe={"tcpSocket": {"port": 18080}, "periodSeconds": 1, "failureThreshold": 30},
            readinessProbe=probe,
        )
    for name in ("a", "b"):
        await kube.until("pods", name, lambda p: condition(p, "Ready") == "True")


async def test_a_failing_liveness_probe_restarts_the_container(kube: Kube) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", "/data/sick"]}, "periodSeconds": 1}
    mounts = [{"name": "data", "mountPath": "/data"}]
    await kube.run(
        "sick",
        "sh",
        "-c",
        "test -e /data/sick && rm /data/sick || touch /data/sick; exec sleep 1000",
        livenessProbe={**probe, "failureThreshold": 1, "initialDelaySeconds": 1},
        volumeMounts=mounts,
        pod={"restartPolicy": "Always", "volumes": [{"name": "data", "emptyDir": {}}]},
    )
    seen = await kube.until("pods", "sick", lambda p: container(p).get("restartCount") == 1)
    assert container(seen)["lastState"]["terminated"]["exitCode"] == 143


async def test_a_deleted_pod_ends_within_its_grace_and_its_children_with_it(
    kube: Kube, tmp_path: Path
) -> None:
    script = f"trap 'echo bye > {tmp_path}/bye; exit 0' TERM; sleep 1000 & echo $$$$ $!; wait"
    await kube.run("polite", "sh", "-c", script)
    stubborn = f"trap '' TERM; echo $$$$ > {tmp_path}/pid; while :; do sleep 1; done"
    await kube.run("stubborn", "sh", "-c", stubborn, pod={"terminationGracePeriodSeconds": 1})
    pids: list[int] = []
    for name in ("polite", "stubborn"):
        await kube.phase(name, "Running")
    while len(pids) < 2:  # until the shell has come as far as its echo
        pids = [int(word) for word in (await kube.logs("polite")).split()]
    for name in ("polite", "stubborn"):
        await kube.delete("pods", name)
    for name in ("polite", "stubborn"):
        await kube.until_gone("pods", name)
    for pid in (*pids, int((tmp_path / "pid").read_text())):
        await_exit(pid, 30)
    assert (tmp_path / "bye").read_text() == "bye\n"


async def test_a_pod_deleted_by_force_leaves_no_process(kube: Kube) -> None:
    await kube.run("forced", "sh", "-c", "echo $$$$; exec sleep 1000")
    await kube.phase("forced", "Running")
    text = ""
    while not text.endswith("\n"):
        text = await kube.logs("forced")
    await kube.delete("pods", "forced", gracePeriodSeconds=0)
    await asyncio.to_thread(await_exit, int(text), 30)
    assert not await exists(kube, "pods", "forced")


async def test_a_missing_image_is_reported_and_a_corrected_one_runs(kube: Kube) -> None:
    await kube.run("image", "true", image="robot:missing")
    await kube.until(
        "pods",
        "image",
        lambda p: (
            container(p).get("state", {}).get("waiting", {}).get("reason") == "ImagePullBackOff"
        ),
    )
    body = {"spec": {"containers": [{"name": "main", "image": "robot:1"}]}}
    await kube.api.patch(kube.path("pods", "image"), body)
    await kube.phase("image", "Succeeded")


async def test_a_missing_secret_keeps_the_container_waiting_until_it_comes(kube: Kube) -> None:
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "late", "key": "x"}}}]
    await kube.run("waits", "sh", "-c", "echo $X", env=env)
    seen = await kube.until(
        "pods",
        "waits",
        lambda p: (
            "waiting" in container(p).get("state", {})
            and container(p)["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        ),
    )
    assert "late" in container(seen)["state"]["waiting"]["message"]
    await kube.create("secrets", {"metadata": {"name": "late"}, "stringData": {"x": "came"}})
    assert await output(kube, "waits") == "came\n"


async def test_a_command_that_does_not_exist_fails_the_pod_with_the_reason(kube: Kube) -> None:
    await kube.run("typo", "pyhton3")
    seen = await kube.phase("typo", "Failed")
    ended = container(seen)["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert "pyhton3" in ended["message"]


async def test_nothing_of_the_users_own_environment_reaches_a_pod(
    kube: Kube, cluster: LocalCluster
) -> None:
    await kube.run("env", "env", pod={"automountServiceAccountToken": False})
    names = {line.partition("=")[0] for line in (await output(kube, "env")).splitlines()}
    assert "KUBECONFIG" not in names
    assert not {name for name in names & os.environ.keys() if "PYTEST" in name}


async def test_a_pods_process_is_known_from_others_and_comes_back_when_it_is_killed(
    kube: Kube,
) -> None:
    for name in ("victim", "bystander"):
        await kube.run(name, *SLEEP, pod={"restartPolicy": "OnFailure"})
    uids = {}
    for name in ("victim", "bystander"):
        uids[name] = (await kube.phase(name, "Running"))["metadata"]["uid"]
    (bystander,) = main_processes(uids["bystander"])
    (killed,) = kill_pod_processes(uids["victim"])
    await kube.until(
        "pods", "victim", lambda p: container(p).get("restartCount") == 1 and container(p)["ready"]
    )
    assert main_processes(uids["victim"]) != [killed]
    assert main_processes(uids["bystander"]) == [bystander]
