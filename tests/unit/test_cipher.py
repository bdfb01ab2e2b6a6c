"""Secrets at rest: they open where they were written, with a key of the ring, and nowhere else."""

import base64
import os
from dataclasses import replace
from uuid import UUID

import pytest

from core.errors import PermanentError, SettingsError, UsageError
from pipelines.vault.cipher import Cipher, Place, Sealed

OLD, NEW = (base64.urlsafe_b64encode(os.urandom(32)).decode() for _ in range(2))
PLACE = Place("vault.secrets", UUID(int=1), UUID(int=2))


def test_a_value_opens_in_its_row() -> None:
    cipher = Cipher([NEW])
    sealed = cipher.seal("sk-ünsere", PLACE)
    assert "sk-" not in base64.b64decode(sealed.text).decode("latin-1")
    assert cipher.open(sealed, PLACE) == "sk-ünsere"
    assert cipher.seal("sk-ünsere", PLACE) != sealed


@pytest.mark.parametrize(
    "place",
    [
        replace(PLACE, table="vault.provider_keys"),
        replace(PLACE, tenant_id=UUID(int=3)),
        replace(PLACE, row_id=UUID(int=3)),
    ],
)
def test_a_value_that_was_moved_does_not_open(place: Place) -> None:
    cipher = Cipher([NEW])
    with pytest.raises(PermanentError, match="does not open: it was changed, or moved here"):
        cipher.open(cipher.seal("x", PLACE), place)


def test_a_value_that_was_changed_does_not_open() -> None:
    cipher = Cipher([NEW])
    sealed = cipher.seal("x", PLACE)
    bytes_of = bytearray(base64.b64decode(sealed.text))
    bytes_of[-1] ^= 1
    for text in (base64.b64encode(bytes_of).decode(), "no base64!", "AAAA"):
        with pytest.raises(PermanentError, match="does not open"):
            cipher.open(Sealed(text, sealed.key_id), PLACE)


def test_half_of_a_surrogate_pair_is_refused_without_the_value() -> None:
    with pytest.raises(UsageError, match="a secret holds half of a surrogate pair") as told:
        Cipher([NEW]).seal("sk-clear\udc80", PLACE)
    assert "sk-clear" not in repr((told.value, told.value.__cause__, told.value.__context__))


def test_the_first_key_seals_and_all_open() -> None:
    old, both = Cipher([OLD]), Cipher([NEW, OLD])
    sealed = old.seal("x", PLACE)
    assert both.open(sealed, PLACE) == "x"
    assert both.key_ids == (both.key_id, old.key_id)
    assert both.seal("x", PLACE).key_id == Cipher([NEW]).key_id != old.key_id
    with pytest.raises(PermanentError, match=f"under the key {old.key_id}, which GREENROOM_ENCRYPTION_KEYS lacks"):
        Cipher([NEW]).open(sealed, PLACE)


def test_a_ring_without_keys_and_keys_that_are_none_are_refused() -> None:
    with pytest.raises(SettingsError, match="set GREENROOM_ENCRYPTION_KEYS"):
        Cipher([])
    for key in ("short", base64.urlsafe_b64encode(b"16 bytes are few").decode(), "ü"):
        with pytest.raises(SettingsError, match="32 bytes in URL-safe base64"):
            Cipher([key])
