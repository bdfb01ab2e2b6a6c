"""A hot standby of an embedded server, fed by streaming replication, which can take its place."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from db.embedded import EmbeddedServer
from db.embedded.cluster import ENVIRONMENT, SUPERUSER
from db.embedded.identity import server_identity
from db.embedded.layout import PORT, server_url
from db.embedded.programs import binary, server_programs
from tests.faults.proxy import Proxy, postgres_proxy
from tests.support.waiting import eventually

_IS_SYNCHRONOUS = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"


class Standby(EmbeddedServer):
    """Stands in for the server that it follows: `url` leads to it. Whatever that one confirms has come here first."""

    def __init__(self, primary: EmbeddedServer, primary_home: Path) -> None:
        super().__init__(primary_home)
        self._primary = primary
        self._identity = server_identity(primary_home / "postgres" / "data")
        self.folder = Path(tempfile.mkdtemp(prefix="gr-standby-"))
        self.folder.chmod(0o711)
        self.data = self.folder / "data"
        # The primary's socket is in a folder that the server's own user cannot enter.
        self._line: Proxy = postgres_proxy(primary.url())
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, user: str = "greenroom_owner", database: str = "greenroom") -> str:
        """An address for psycopg."""
        return server_url(self.data, user, database)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.data / f".s.PGSQL.{PORT}"

    def promote(self) -> None:
        """Let it take writes."""
        with psycopg.connect(self.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def __enter__(self) -> Self:
        self._line.__enter__()
        self._copy()
        self._start()
        try:
            self._await_confirmation()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [str(server_programs() / "postgres"), "-D", str(self.data)],
            cwd=self.data,
            env=ENVIRONMENT,
            user=self._identity.uid,
            group=self._identity.gid,
            extra_groups=self._identity.extra_groups,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _await_confirmation(self) -> None:
        """Let the primary confirm nothing from now on that has not come here."""
        with psycopg.connect(self._primary.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            eventually(lambda: connection.execute(_IS_SYNCHRONOUS).fetchall() == [(1,)], 30)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown: SIGTERM would wait for whoever is connected
            self._process.wait(30)
        self._line.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    def _copy(self) -> None:
        line = f"host=127.0.0.1 port={self._line.port} user={SUPERUSER} sslmode=disable gssencmode=disable"
        subprocess.run(
            [binary("pg_basebackup"), "-D", self.data, "-X", "stream", "-c", "fast", "-R", "-d", line],
            check=True,
            capture_output=True,
        )
        # The primary's socket is in its data folder, and the lock beside it was copied too.
        self.socket.with_name(f"{self.socket.name}.lock").unlink()
        if self._identity.switches:
            assert self._identity.uid is not None
            assert self._identity.gid is not None
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, self._identity.uid, self._identity.gid)
