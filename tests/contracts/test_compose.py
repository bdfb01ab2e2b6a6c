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

ROOT = Path(__file__).parents[2]
ROLES = ("migrate", "relay", "worker")


def compose(env_file: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("docker-compose")
    call: list[str | Path] = [program, "--env-file", env_file, "-f", "compose.yaml", "config", "--format", "json"]
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
    }
    for kind, address in addresses.items():
        parts = urlsplit(address)
        assert (parts.username, parts.password) == (f"greenroom_{kind}", passwords[kind])


def test_a_missing_password_is_refused() -> None:
    done = compose(os.devnull)
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD is missing a value" in done.stderr
