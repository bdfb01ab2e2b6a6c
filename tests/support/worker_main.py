"""A worker as a process of its own: `python -m tests.support.worker_main`, its configuration as JSON on standard input.

Prints `ready`; ends at SIGTERM with 0 once it has drained or handed back.
"""

import json
import os
import signal
import sys

from core.settings import load_settings
from pipelines.registry import load_registry
from pipelines.resources import Resources
from workers.broker import open_broker
from workers.processes import Addresses, WorkerProcess


def main() -> None:
    """Run until SIGTERM."""
    config = json.loads(sys.stdin.readline())
    settings = load_settings(_env_file=None, worker=config["worker"])
    registry = load_registry(["tests.support.tasks"], ours=("pipelines.replay",))
    broker = open_broker(config["redis_url"], config["namespace"])
    addresses = Addresses(config["url"], system_url=config["system_url"])
    worker = WorkerProcess(settings, addresses, broker, registry, Resources())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    worker.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM})
    worker.stop()
    os._exit(0)  # a handler that still runs was handed back; its thread does not keep us


if __name__ == "__main__":
    main()
