"""compose.yaml names only settings that exist, gives each role its own login, and demands passwords."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from core.settings import PREFIX, known_variables
from db.roles import ROLES as LOGINS

ROOT = Path(__file__).parents[2]
ROLES = ("migrate", "relay", "worker", "scheduler", "watcher", "operator")


def compose(env_file: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("docker-compose")
    call: list[str | Path] = [
        program,
        "--env-file",
        env_file,
        "-f",
        "compose.yaml",
        "--profile",
        "tools",
        "config",
        "--format",
        "json",
    ]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(call, cwd=ROOT, env=kept, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = compose(".env.example")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_each_setting_exists(services: dict[str, Any], role: str) -> None:
    named = {name for name in services[role]["environment"] if name.startswith(PREFIX)}
    assert named
    assert named <= known_variables().keys()


def test_each_role_has_its_own_login(services: dict[str, Any]) -> None:
    passwords = json.loads(services["migrate"]["environment"]["GREENROOM_ROLE_PASSWORDS"])
    addresses = {
        "relay": services["relay"]["environment"]["GREENROOM_DATABASE_URL"],
        "worker": services["worker"]["environment"]["GREENROOM_DATABASE_URL"],
        "system": services["worker"]["environment"]["GREENROOM_DATABASE_SYSTEM_URL"],
        "scheduler": services["scheduler"]["environment"]["GREENROOM_DATABASE_URL"],
        "operator": services["operator"]["environment"]["GREENROOM_DATABASE_URL"],
    }
    assert passwords.keys() == {*addresses, "producer"}
    assert passwords.keys() <= set(LOGINS)
    assert services["watcher"]["environment"]["GREENROOM_DATABASE_URL"] == addresses["system"]
    for kind, address in addresses.items():
        parts = urlsplit(address)
        assert (parts.username, parts.password) == (f"greenroom_{kind}", passwords[kind])


def test_what_writes_has_a_place_to_write_to(services: dict[str, Any]) -> None:
    assert all(services[role]["read_only"] for role in ROLES)
    mounted = {role for role in ROLES if services[role].get("volumes")}
    assert mounted == {"worker", "operator"}, "the others touch no file"


def test_operators_commands_come_up_only_when_called(services: dict[str, Any]) -> None:
    assert services["operator"]["profiles"] == ["tools"]
    assert services["operator"]["restart"] == "no"


def test_a_role_is_judged_by_itself_alone(services: dict[str, Any]) -> None:
    for role in ("relay", "worker", "scheduler"):
        assert services[role]["healthcheck"]["test"] == ["CMD", "greenroom", "doctor", "--own"]


@pytest.mark.parametrize("missing", ["POSTGRES", "RELAY", "WORKER", "SYSTEM", "SCHEDULER", "OPERATOR", "PRODUCER"])
def test_a_missing_password_is_refused(tmp_path: Path, missing: str) -> None:
    given = (ROOT / ".env.example").read_text().splitlines()
    env_file = tmp_path / "env"
    env_file.write_text("\n".join(line for line in given if not line.startswith(f"{missing}_PASSWORD=")))
    done = compose(str(env_file))
    assert done.returncode != 0
    assert f"{missing}_PASSWORD is missing a value" in done.stderr
