"""Who logs in where. One login a kind of process; the owner's address stands for all of them (DESIGN, "Modes")."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from core.errors import SettingsError
from core.settings import Settings
from db.roles import ROLES, role_name, role_url

if TYPE_CHECKING:
    from workers.processes import Addresses


@dataclass(frozen=True, slots=True)
class Place:
    """A database: its address by the login we were given, and the owner's where that is known."""

    url: str
    owner_url: str | None
    settings: Settings
    is_embedded: bool

    def login(self, kind: str) -> str:
        """Return the address of a kind of process; a login that is not the owner's serves as it is."""
        return self.url if self.owner_url is None else _login(self.owner_url, kind, self.settings)

    def owner(self) -> str:
        """Return the owner's address; raises SettingsError where we have another login only."""
        if self.owner_url is None:
            raise SettingsError("this needs the database's owner: set GREENROOM_DATABASE_URL to the owner's address")
        return self.owner_url

    def owner_direct(self) -> str:
        """Return the owner's address past a pooler."""
        direct = self.settings.database.direct_url
        return direct.get_secret_value() if direct and not self.is_embedded else self.owner()

    def process(self, kind: str) -> "Addresses":
        """Return the addresses of a relay or worker that runs beside its owner."""
        from workers.processes import Addresses

        direct = self.settings.database.direct_url
        return Addresses(
            url=self.login(kind),
            direct_url=_login(direct.get_secret_value(), kind, self.settings)
            if direct and not self.is_embedded
            else None,
            system_url=self.login("system"),
            pooled=self.is_pooled,
        )

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler in transaction mode stands between."""
        return self.settings.database.is_pooled and not self.is_embedded


def given_place(settings: Settings) -> Place:
    """Return the place that GREENROOM_DATABASE_URL names."""
    if settings.database.url is None:
        raise SettingsError("set GREENROOM_DATABASE_URL to the address of a database")
    url = settings.database.url.get_secret_value()
    user = _user_of(url)
    is_role = user in {role_name(kind) for kind in ROLES}
    return Place(url=url, owner_url=None if is_role else url, settings=settings, is_embedded=False)


def own_addresses(settings: Settings, url: str) -> "Addresses":
    """Return the addresses of a relay or worker that runs apart, with logins of its own."""
    from workers.processes import Addresses

    direct, system = settings.database.direct_url, settings.database.system_url
    return Addresses(
        url=url,
        direct_url=direct.get_secret_value() if direct else None,
        system_url=system.get_secret_value() if system else None,
        pooled=settings.database.is_pooled,
    )


def _login(owner_url: str, kind: str, settings: Settings) -> str:
    given = settings.role_passwords.get(kind)
    if given is None:
        return role_url(owner_url, kind)
    parts = urlsplit(owner_url)
    host = parts.netloc.rpartition("@")[2]
    login = f"{role_name(kind)}:{quote(given.get_secret_value(), safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def _user_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise SettingsError(
            "GREENROOM_DATABASE_URL must begin with postgresql:// (a user, a host and a database follow)"
        )
    if not parts.username:
        raise SettingsError("GREENROOM_DATABASE_URL names no user: write postgresql://user:password@host/database")
    return unquote(parts.username)
