"""How the images come by their packages: the locks, and another torch than PyPI's."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
NO_WHEEL = "sha256:" + "0" * 64
LOCK = f"""\
nvidia-cublas==13.0.0 ; sys_platform == 'linux' \\
    --hash={NO_WHEEL} \\
    --hash={NO_WHEEL}
    # via torch
torch==2.0.0 \\
    --hash={NO_WHEEL}
    # via fleetloop (pyproject.toml)
"""


def wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir(parents=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{name}-{version}-py3-none-any.whl">x</a>')


@pytest.mark.parametrize(("other", "code"), [(True, 0), (False, 1)])
def test_another_torch_of_the_same_version_comes_without_the_cuda_packages(
    tmp_path: Path, other: bool, code: int
) -> None:
    shutil.copy(REQUIREMENTS / "install", tmp_path)
    (tmp_path / "learner.txt").write_text(LOCK)
    wheel(tmp_path / "index" / "torch", "torch", "2.0.0+cpu")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_TARGET": str(tmp_path / "site"),
        "PIP_INDEX_URL": f"file://{tmp_path}/nothing",
        "TORCH_INDEX": f"file://{tmp_path}/index" if other else "",
    }
    command = [str(tmp_path / "install"), "learner.txt"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    packages = [path.name for path in tmp_path.glob("site/torch-*")]
    assert packages == (["torch-2.0.0+cpu.dist-info"] if other else [])


@pytest.mark.parametrize("image", ["learner", "robot"])
def test_nothing_but_torch_and_its_cuda_packages_is_left_out(image: str) -> None:
    """The pattern of requirements/install, against the locks as they are."""
    script = (REQUIREMENTS / "install").read_text()
    pattern = script.partition("sed -E '")[2].partition("'")[0]
    rest = subprocess.check_output(
        ["sed", "-E", pattern, str(REQUIREMENTS / f"{image}.txt")], text=True
    )
    left = {line.partition("==")[0] for line in rest.splitlines() if line[:1].isalpha()}
    assert {"numpy", "safetensors", "filelock", "sympy"} <= left
    assert not {name for name in left if name.startswith(("torch", "nvidia", "cuda", "triton"))}
