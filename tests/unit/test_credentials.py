"""Passwords and API keys: what is stored tells nothing, and only what was given fits it."""

from collections.abc import Callable
from functools import partial

import pytest

from core.credentials import KEY_MARK, hash_api_key, hash_password, is_password, new_api_key
from core.errors import UsageError

PASSWORD = "correct horse battery"


def test_a_password_fits_what_was_stored_of_it_alone() -> None:
    stored = hash_password(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in stored
    assert stored != hash_password(PASSWORD)
    assert is_password(PASSWORD, stored)
    assert not is_password(PASSWORD + " ", stored)


@pytest.mark.parametrize("stored", ["", "!", "$argon2id$broken", PASSWORD])
def test_what_is_no_hash_fits_nothing(stored: str) -> None:
    assert not is_password(PASSWORD, stored)


def test_no_password_is_nobody_s() -> None:
    assert not is_password(PASSWORD, None)


@pytest.mark.parametrize("hashed", [hash_password, partial(hash_api_key, pepper=b"pepper")])
def test_half_of_a_surrogate_pair_is_refused_without_the_value(hashed: Callable[[str], str]) -> None:
    with pytest.raises(UsageError, match="half of a surrogate pair") as told:
        hashed(PASSWORD + "\ud800")
    assert PASSWORD not in repr((told.value, told.value.__cause__, told.value.__context__))
    assert not is_password(PASSWORD + "\ud800", hash_password(PASSWORD))


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 1025])
def test_a_password_that_is_too_short_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(UsageError, match="12 to 1024 characters"):
        hash_password(password)
    assert not is_password(password, hash_password(PASSWORD))


def test_an_api_key_is_found_by_its_hash_under_the_same_pepper() -> None:
    made = new_api_key(b"pepper")
    assert made.key.startswith(KEY_MARK)
    assert made.key.startswith(made.prefix)
    assert len(made.prefix) == 11
    assert made.key not in repr(made)
    assert hash_api_key(made.key, b"pepper") == made.key_hash != hash_api_key(made.key, b"salt")
    assert new_api_key(b"pepper").key != made.key
    with pytest.raises(UsageError, match="GREENROOM_ENCRYPTION_KEYS"):
        hash_api_key(made.key, b"")
