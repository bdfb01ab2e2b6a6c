"""What idle processes ask and hold: the real commands on a server of their own, which writes each statement down."""

import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from db.embedded import EmbeddedServer
from db.embedded.layout import Layout
from tests.benchmarks.history.subject import Json, Parameters, Tell
from tests.benchmarks.peers.servers import Servers
from tests.support.command import Greenroom
from tests.support.waiting import eventually

_SETTINGS = {"log_statement": "all", "log_line_prefix": "%u|%a|"}
_LINE = re.compile(r"^(?P<login>\w+)\|(?P<name>[^|]*)\|LOG:  (?:statement|execute [^:]*): (?P<text>.*)", re.MULTILINE)
_BRACKET = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET|RESET|DEALLOCATE)\b", re.IGNORECASE)
# What a start asks, and what it loads only once, is over by then.
_SETTLING = 10.0
# Those of its connections that a process opens last, by name: whoever has them has started.
_LAST = {"greenroom relay", "greenroom heartbeat"}
_SHOWN = 100
_PARTS = ("console.child", "workers.heartbeat", "console")


def weight(servers: Servers, parameters: Parameters, tell: Tell) -> Json:
    """Statements a minute and resident memory of an idle relay and worker over Redis, and of an idle `up`."""
    with (
        tempfile.TemporaryDirectory(prefix="greenroom-weight-") as folder,
        EmbeddedServer(Path(folder) / "server", settings=_SETTINGS) as server,
    ):
        log = Layout(Path(folder) / "server").log
        apart = {"GREENROOM_DATABASE_URL": server.url(), "GREENROOM_BROKER_URL": servers.redis_url}
        command = Greenroom(Path(folder) / "home", apart)
        command.ok("db", "migrate")
        with command.running("relay") as relay, command.running("worker") as worker:
            found = _idle(log, {"relay": relay.process.pid, "worker": worker.process.pid}, parameters, tell)
        together = Greenroom(Path(folder) / "home", {"GREENROOM_DATABASE_URL": server.url()})
        with together.running("up") as up:
            found_up = _idle(log, {"up": up.process.pid}, parameters, tell)
    return {"relay and worker over Redis": found, "up": found_up}


def _idle(log: Path, pids: dict[str, int], parameters: Parameters, tell: Tell) -> Json:
    """Let the commands stand idle; return what the server heard from each login meanwhile, and what they hold."""
    begun = log.stat().st_size
    eventually(lambda: {line["name"] for line in _LINE.finditer(_heard(log, begun))} >= _LAST, 120, pause=0.5)
    time.sleep(_SETTLING)
    settled = log.stat().st_size
    time.sleep(parameters.idle)
    heard = _heard(log, settled)
    found = {
        "statements_a_minute": _by_login(heard, 60 / parameters.idle),
        "resident_megabytes": {name: _resident(pid) for name, pid in pids.items()},
    }
    tell(f"{', '.join(pids)}: {found['resident_megabytes']}")
    for login, asked in found["statements_a_minute"].items():
        tell(
            f"{login}: {asked['all']} statements a minute, {asked['without_begin_and_commit']} without BEGIN and COMMIT"
        )
    return found


def _heard(log: Path, position: int) -> str:
    """Return what the server wrote from a position of its log on."""
    with log.open("rb") as file:
        file.seek(position)
        return file.read().decode(errors="replace")


def _by_login(heard: str, factor: float) -> Json:
    """Count by login and, within it, by connection and by a statement's first line."""
    lines = list(_LINE.finditer(heard))
    found: Json = {}
    for login in sorted({line["login"] for line in lines}):
        said = [line for line in lines if line["login"] == login]
        asked = [line for line in said if not _BRACKET.match(line["text"])]
        found[login] = {
            "all": round(len(said) * factor, 1),
            "without_begin_and_commit": round(len(asked) * factor, 1),
            "by_connection": _counted((line["name"] for line in asked), factor),
            "by_statement": _counted((line["text"][:_SHOWN] for line in asked), factor),
        }
    return found


def _counted(names: Iterable[str], factor: float) -> Json:
    return {name: round(count * factor, 1) for name, count in Counter(names).most_common()}


def _resident(pid: int) -> Json:
    """Return megabytes of a command's process and of its children, by what they run."""
    parent = psutil.Process(pid)
    return {
        f"{process.pid} {_what(process)}": round(process.memory_info().rss / 2**20, 1)
        for process in (parent, *parent.children(recursive=True))
    }


def _what(process: psutil.Process) -> str:
    words = process.cmdline()
    module = next((name for name in _PARTS if name in words), None)
    return " ".join(words[words.index(module) :]) if module else process.name()
