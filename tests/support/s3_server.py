"""A real S3 server of the suite's own (SeaweedFS), which checks signatures, with one bucket."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs
from botocore.exceptions import BotoCoreError

from tests.support.waiting import eventually

BUCKET = "documents"
_KEY, _SECRET = "suite", "a secret of the suite"
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where the server is, and what it knows us by."""

    endpoint: str

    @property
    def options(self) -> dict[str, Any]:
        """What fsspec is given."""
        return {"endpoint_url": self.endpoint, "key": _KEY, "secret": _SECRET}

    @property
    def options_json(self) -> str:
        """What the setting of the options is given."""
        return json.dumps(self.options)

    def files(self) -> s3fs.S3FileSystem:
        """Return a client that keeps nothing."""
        return s3fs.S3FileSystem(**self.options, use_listings_cache=False, skip_instance_cache=True)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run the server for the block, ended by its process id."""
    with tempfile.TemporaryDirectory(prefix="gr-s3-") as folder:
        identity = {"name": "suite", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}], "actions": ["Admin"]}
        known = Path(folder) / "s3.json"
        known.write_text(json.dumps({"identities": [identity]}))
        *ports, s3_port, s3_grpc = _free_ports(len(_PORTS) + 2)
        command = [
            shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed",
            "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64", "-volume.max=8", f"-s3.config={known}", "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0",  # which two of these servers would share
            f"-s3.port={s3_port}", f"-s3.port.grpc={s3_grpc}",
            *(f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)),
        ]  # fmt: skip
        server = S3Server(f"http://127.0.0.1:{s3_port}")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
            try:
                eventually(lambda: _has_bucket(server) or process.poll() is not None, 60)
                assert process.poll() is None, "weed did not start"
                yield server
            finally:
                process.kill()  # asked to end it would wait for readers
                process.wait(10)


def _has_bucket(server: S3Server) -> bool:
    files = server.files()
    try:
        if not files.exists(BUCKET):
            files.mkdir(BUCKET)
        files.pipe_file(f"{BUCKET}/ready", b"yes")  # a volume is there to write to
        files.rm_file(f"{BUCKET}/ready")
    except (OSError, BotoCoreError):  # it does not listen yet
        return False
    return True


def _free_ports(count: int) -> list[int]:
    opened = [socket.socket() for _ in range(count)]
    try:
        for each in opened:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in opened]
    finally:
        for each in opened:
            each.close()
