"""The worker's side of its heartbeat: starts the process, talks to it, and obeys its orders (workers/heartbeat.py)."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from db import leases
from db.processes import ProcessRow
from workers.running import RunningAttempts

# The longest pauses between words: while something runs, and else.
_TALK_SECONDS = 1.0
_IDLE_TALK_SECONDS = 2.0
# An attempt that has been running for this long is asked after: is it still ours?
_LONG_SECONDS = 2.0
_READY_SECONDS = 10.0
_ROOT = Path(__file__).resolve().parent.parent


class Heartbeat:
    """Starts the process, and anew should it die; says how late loops are and what runs; interrupts what it names."""

    name = "heartbeat"

    def __init__(
        self,
        *,
        url: str,
        pooled: bool,
        process: ProcessRow,
        lease_seconds: float,
        interrupt_seconds: float,
        loops_late: Callable[[], dict[str, float]],
        running: RunningAttempts,
    ) -> None:
        self._config = {
            "url": url,
            "pooled": pooled,
            "parent": os.getpid(),
            "lease_seconds": lease_seconds,
            "interrupt_seconds": interrupt_seconds,
            "process": {name: getattr(process, name) for name in ProcessRow.__slots__} | {"id": str(process.id)},
        }
        self._pause = min(max(lease_seconds / 6, 0.5), _IDLE_TALK_SECONDS)
        self._loops_late = loops_late
        self._running = running
        self._child: subprocess.Popen[bytes] | None = None
        self._is_ready = threading.Event()

    def wait_until_ready(self) -> None:
        """Wait until the process watches over this one, or for some seconds: what is to run runs with or without it."""
        self._is_ready.wait(_READY_SECONDS)

    def run_once(self) -> float:
        """Say how late the loops are and what runs; start the process if it is not there."""
        ended = self._child.poll() if self._child is not None else None
        if self._child is None or ended is not None:
            self._start()
        is_busy = self._running.is_busy()
        attempts = [(task_id.hex, claim) for task_id, claim in self._running.longer_than(_LONG_SECONDS)]
        self._write({"late": self._loops_late(), "is_busy": is_busy, "attempts": attempts})
        if ended is not None:
            # Seen by the loop's supervisor: one that ends again and again is a failing loop, not a silent one.
            raise RuntimeError(
                f"the heartbeat's process had ended by itself (exit status {ended}) and was started anew"
            )
        return min(self._pause, _TALK_SECONDS) if is_busy else self._pause

    def close(self) -> None:
        """End the process in order: it renews no more, and expires nothing."""
        if self._child is None or self._child.stdin is None:
            return
        try:
            self._child.stdin.write(b"stop\n")
            self._child.stdin.close()
        except OSError:
            pass  # gone already, which is what we want
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _start(self) -> None:
        # The pipe's end is not inherited by other children (close_fds), so its closing means that we are gone.
        # `-P`: a folder that happens to be the working directory must not shadow our packages.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.heartbeat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
        self._write(self._config)
        threading.Thread(target=self._hear, args=(self._child,), name="heartbeat's orders", daemon=True).start()

    def _hear(self, child: "subprocess.Popen[bytes]") -> None:
        if child.stdout is None:
            raise RuntimeError("the heartbeat's process was started without a pipe")
        with child.stdout as lines:
            for line in lines:
                if (order := json.loads(line)) is None:
                    self._is_ready.set()
                    continue
                task_id, claim_number, reason = order
                self._running.obey(leases.Order(UUID(task_id), claim_number, reason))

    def _write(self, value: Any) -> None:
        if self._child is None or self._child.stdin is None:
            raise RuntimeError("the heartbeat's process was not started")
        self._child.stdin.write(json.dumps(value).encode() + b"\n")
        self._child.stdin.flush()
