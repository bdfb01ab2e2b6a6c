"""Who logs in where. One login a kind of process; the owner's address stands for all of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from core.errors import SettingsError
from core.settings import Settings
from db.roles import ROLES, role_name, role_url

if TYPE_CHECKING:
    from workers.processes import Addresses

_LOGINS = frozenset(map(role_name, ROLES))


@dataclass(frozen=True, slots=True)
class Place:
    """A database, by the address that we were given: the owner's, or that of one kind of process."""

    url: str
    settings: Settings
    is_embedded: bool

    def login(self, kind: str) -> str:
        """Return the address of a kind of process."""
        return _login(self.url, kind, self.settings)

    def owner(self) -> str:
        """Return the owner's address; raises SettingsError where we have another login only."""
        if _is_role(self.url):
            raise SettingsError("this needs the database's owner: set GREENROOM_DATABASE_URL to the owner's address")
        return self.url

    def owner_direct(self) -> str:
        """Return the owner's address past a pooler."""
        return self._direct_url or self.owner()

    def direct(self, kind: str) -> str:
        """Return the address of a kind of process past a pooler, the same as `login` where none is given."""
        return _login(self._direct_url, kind, self.settings) if self._direct_url else self.login(kind)

    def process(self, kind: str) -> "Addresses":
        """Return the addresses of a relay or worker, whether it runs beside others or apart."""
        from workers.processes import Addresses

        direct = self._direct_url
        return Addresses(
            url=self.login(kind),
            direct_url=_login(direct, kind, self.settings) if direct else None,
            system_url=self.system_url,
            pooled=self.is_pooled,
            system_direct_url=self._system_direct_url,
        )

    @property
    def kind(self) -> str | None:
        """The kind of process whose own login we were given; None for an owner's."""
        user = unquote(urlsplit(self.url).username or "")
        return next((kind for kind in ROLES if role_name(kind) == user), None)

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler in transaction mode stands between."""
        return self.settings.database.is_pooled and not self.is_embedded

    @property
    def _direct_url(self) -> str | None:
        given = self.settings.database.direct_url
        return given.get_secret_value() if given and not self.is_embedded else None

    @property
    def _system_direct_url(self) -> str | None:
        """The system role's address past the pooler: its login at the direct address."""
        if self._direct_url is None or self.system_url is None:
            return None
        login = urlsplit(self.system_url).netloc.rpartition("@")[0]
        parts = urlsplit(self._direct_url)
        return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))

    def watcher(self) -> tuple[str, bool]:
        """Return a watcher's address, the system role's, and whether a pooler stands between.

        Past the pooler where we may: a watcher's lock needs a session. Raises SettingsError where it is not known.
        """
        direct, url = self._system_direct_url, self.url if self.kind == "system" else self.system_url
        if url is None:
            raise SettingsError("a watcher logs in as the system role: set GREENROOM_DATABASE_SYSTEM_URL")
        return (direct, False) if direct else (url, self.is_pooled)

    @property
    def system_url(self) -> str | None:
        """The system role's address: as given, or else as the owner's tells it; a role's own login tells no other's."""
        given = self.settings.database.system_url
        if given and not self.is_embedded:
            return given.get_secret_value()
        return None if _is_role(self.url) else self.login("system")


def given_place(settings: Settings) -> Place:
    """Return the place that GREENROOM_DATABASE_URL names."""
    if settings.database.url is None:
        raise SettingsError("set GREENROOM_DATABASE_URL to the address of a database")
    url = settings.database.url.get_secret_value()
    _require_user(url)
    return Place(url, settings, is_embedded=False)


def _login(url: str, kind: str, settings: Settings) -> str:
    """Return the address of a kind of process, derived from the owner's; a role's own login serves as it stands."""
    if _is_role(url):
        return url
    given = settings.role_passwords.get(kind)
    if given is None:
        return role_url(url, kind)
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    login = f"{role_name(kind)}:{quote(given.get_secret_value(), safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def _is_role(url: str) -> bool:
    return unquote(urlsplit(url).username or "") in _LOGINS


def _require_user(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise SettingsError(
            "GREENROOM_DATABASE_URL must begin with postgresql:// (a user, a host and a database follow)"
        )
    if not parts.username:
        raise SettingsError("GREENROOM_DATABASE_URL names no user: write postgresql://user:password@host/database")
