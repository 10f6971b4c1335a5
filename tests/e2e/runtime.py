"""containerd: how it is set up, and how it comes by the images once for many runs.

What it keeps on disk is gigabytes of layers, which no run changes, and two small databases,
which every run does: each run begins with the databases as they were after the import.
"""

import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryDirectory

from e2e import images
from fleet_cli.local.ports import LOOPBACK
from fleet_cli.local.processes import Child

METRICS = f"{LOOPBACK}:1338"
ROOT = images.FOLDER / "containerd"
PRISTINE = images.FOLDER / "containerd-pristine"
DATABASES = (
    "io.containerd.metadata.v1.bolt/meta.db",
    "io.containerd.snapshotter.v1.overlayfs/metadata.db",
)
LAYERS = "io.containerd.snapshotter.v1.overlayfs/snapshots"


def configure(folder: Path, network: Path) -> Path:
    """Write the configuration of one that keeps everything but images in the folder."""
    path = folder / "containerd.toml"
    # Without CAP_SYS_RESOURCE a negative OOM score kills runc.
    path.write_text(f"""
version = 2
root = "{ROOT}"
state = "{folder}/containerd-state"
[grpc]
address = "{folder}/containerd.sock"
[metrics]
address = "{METRICS}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{images.PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{network}"
""")
    return path


def load() -> None:
    """Import the images where they are others than last time."""
    stamp, wanted = PRISTINE / "images.txt", images.ids()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    began = time.monotonic()
    for old in (ROOT, PRISTINE):
        shutil.rmtree(old, ignore_errors=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        command = ["containerd", "--config", str(configure(folder, folder))]
        containerd = Child("containerd", command, folder / "log")
        containerd.start()
        try:
            while not _answers():
                if containerd.exit_code() is not None:
                    raise RuntimeError(f"containerd did not start:\n{containerd.tail()}")
                time.sleep(0.05)  # it tells nobody
            ctr = ["ctr", "--address", f"{folder}/containerd.sock", "--namespace", "k8s.io"]
            with Popen([*ctr, "images", "import", "-"], stdin=PIPE, stdout=DEVNULL) as importing:
                assert importing.stdin is not None
                images.send(importing.stdin)
            if importing.returncode:
                raise RuntimeError("ctr did not take the images")
        finally:
            containerd.stop(30)
    for database in DATABASES:
        (PRISTINE / database).parent.mkdir(parents=True)
        shutil.copy(ROOT / database, PRISTINE / database)
    (PRISTINE / "layers.txt").write_text("\n".join(map(str, _layers())))
    stamp.write_text(wanted)
    print(f"e2e: images imported in {time.monotonic() - began:.0f} s", flush=True)


def restore() -> None:
    """As after the import: nothing that an earlier run had is known any more."""
    for folder in ROOT.iterdir():
        if folder.name.startswith("io.containerd.grpc"):
            shutil.rmtree(folder)
    for database in DATABASES:
        shutil.copy(PRISTINE / database, ROOT / database)
    known = (PRISTINE / "layers.txt").read_text().splitlines()
    for layer in _layers():
        if str(layer) not in known:
            shutil.rmtree(layer)


def _layers() -> list[Path]:
    return sorted((ROOT / LAYERS).iterdir())


def _answers() -> bool:
    try:
        urllib.request.urlopen(f"http://{METRICS}/v1/metrics", timeout=5).close()
    except urllib.error.URLError:
        return False
    return True


if __name__ == "__main__":
    load()
