"""Settings from an env file: values, and names that nothing reads."""

from pathlib import Path

import pytest

from core.errors import SettingsError
from core.settings import load_settings


def test_an_env_file_s_settings_count_and_its_other_names_do_not(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("GREENROOM_WORKER_THREADS=7\nPOSTGRES_PASSWORD=x\n", encoding="utf-8")
    assert load_settings(_env_file=file).worker.threads == 7


@pytest.mark.parametrize("name", ["GREENROOM_COLOUR", "GREENROOM_WORKER_THREAD", "greenroom_colour"])
def test_an_unknown_name_in_an_env_file_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"{name}=1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=name.upper()):
        load_settings(_env_file=file)


def test_the_env_file_of_the_working_directory_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("GREENROOM_COLOUR=red\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="GREENROOM_COLOUR"):
        load_settings()
