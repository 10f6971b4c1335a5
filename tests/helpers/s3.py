"""A real S3 server for tests: versitygw over a folder, with credentials of its own."""

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from s3fs import S3FileSystem

from fleet_cli.local import binaries
from fleet_cli.local.ports import LOOPBACK, free_ports

REGION = "eu-central-1"  # not the driver's default, so that a region nobody read is noticed


@dataclass(frozen=True)
class ObjectServer:
    """A running server and the one bucket in it."""

    endpoint: str
    access: str
    secret: str
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to reach it: the variables that every S3 tool knows."""
        return {
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
        }


@contextmanager
def running_object_server(folder: Path) -> Iterator[ObjectServer]:
    """Taking requests when entered; killed when left. Its log lies beside the folder."""
    bucket = "fleet"
    (folder / bucket).mkdir(parents=True)  # a folder is a bucket
    access, secret = secrets.token_hex(8), secrets.token_hex(16)
    program = binaries.resolve("versitygw")["versitygw"]
    port = free_ports(["s3"])["s3"]
    arguments = ["--port", f"{LOOPBACK}:{port}", "--region", REGION, "posix", str(folder)]
    log = folder.with_name(f"{folder.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), *arguments],
            stdout=output,
            stderr=output,
            env={"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret},
        )
    try:
        while not _listens(port):
            if process.poll() is not None:
                raise RuntimeError(f"versitygw did not start:\n{log.read_text()}")
            time.sleep(0.02)  # it tells nobody when it does
        yield ObjectServer(f"http://{LOOPBACK}:{port}", access, secret, bucket)
    finally:
        process.kill()
        process.wait()
        # Instances are kept by their arguments, and where the server is was none of these.
        S3FileSystem.clear_instance_cache()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True
