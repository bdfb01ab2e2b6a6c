"""What stands below a URL that fsspec opens: the paths, the listing, and our errors for those of every library."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import fsspec

from core.errors import GreenroomError, SettingsError, UnavailableError
from pipelines.storage.base import MARK, Found, in_bytes
from pipelines.storage.errors import FileVanishedError

# What we ask about is what was written a moment ago, by another process perhaps.
_NOTHING_KEPT: Final = {"use_listings_cache": False, "skip_instance_cache": True}
# A store that hangs costs a minute, not the quarter of an hour that its library would try for.
_S3_TIMES: Final = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}
# These would follow links out of a tenant's folder: a local folder is the setting `root`.
_LOCAL: Final = ("file", "local")
_AGAIN: Final = timedelta(seconds=30)


class RemoteFiles:
    """Files below a URL such as s3://bucket/folder; `options` go to fsspec as they are.

    `setting` is the group of the settings that names the URL. Raises SettingsError for one that cannot be opened, and
    for a local folder.
    """

    def __init__(self, url: str, options: Mapping[str, Any], *, setting: str) -> None:
        self._setting = setting
        self.files, self.root = _opened(url, options, setting)

    @property
    def place(self) -> str:
        """The URL without what may be secret in it."""
        protocol = self.files.protocol
        return f"{protocol if isinstance(protocol, str) else protocol[0]}://{self.root.rpartition('@')[2]}"

    def path(self, key: str) -> str:
        """Return where a key stands."""
        return f"{self.root.rstrip('/')}/{key}"

    def mark(self) -> str | None:
        """Return what the file MARK at the root says; None where there is none."""
        with contextlib.suppress(FileVanishedError), self.answers(_missing):
            return bytes(self.files.cat_file(self.path(MARK))).decode("utf-8", "replace").strip()
        return None

    def set_mark(self, text: str) -> None:
        """Write that file."""
        with self.answers(_missing):
            self.files.pipe_file(self.path(MARK), f"{text}\n".encode())

    @contextlib.contextmanager
    def answers(self, gone: Callable[[], GreenroomError]) -> Iterator[None]:
        """Raise UnavailableError for what any library raises in the block, and `gone()` for a file that is not there.

        Of the library's errors no text goes on: it may hold addresses, names and keys.
        """
        try:
            yield
        except GreenroomError:
            raise
        except FileNotFoundError:
            self.require_root()
            raise gone() from None
        except PermissionError:
            told = f"the store refuses: check credentials and policy of {self._setting}.url"
            raise UnavailableError(told, retry_after=_AGAIN) from None
        except Exception as error:  # each store has a library, each library its own
            raise self._away(error) from None

    def require_root(self) -> None:
        """Raise UnavailableError where not a file is missing but all that it could be in: a bucket, or its name."""
        try:
            is_there = self.files.exists(self.root.partition("/")[0])
        except Exception as error:
            raise self._away(error) from None
        if not is_there:
            raise UnavailableError(f"the bucket does not exist: check {self._setting}.url", retry_after=_AGAIN)

    def walk(self, folder: str = "", after: str = "") -> Iterator[Found]:
        """Yield what stands below a folder behind a key, as `Storage.walk` does: of S3 page by page."""
        prefix = f"{folder}/" if folder else ""
        pages = self._pages_of_s3 if hasattr(self.files, "call_s3") else self._one_page
        for page in pages(prefix, after):
            yield from page

    def _pages_of_s3(self, prefix: str, after: str) -> Iterator[list[Found]]:
        bucket, _, inside = self.root.rstrip("/").partition("/")
        root = f"{inside}/" if inside else ""
        start = root + (after or prefix)
        while True:
            where = {"Bucket": bucket, "Prefix": root + prefix, "StartAfter": start}
            with self.answers(_missing):
                listed = self.files.call_s3("list_objects_v2", **where).get("Contents", [])
            if not listed:
                return
            found = [Found(each["Key"].removeprefix(root), each["Size"], each["LastModified"]) for each in listed]
            # a folder that was made by hand is an object whose key ends with a slash
            yield [each for each in found if not each.key.endswith("/")]
            start = listed[-1]["Key"]

    def _one_page(self, prefix: str, after: str) -> Iterator[list[Found]]:
        root, listed = self.path("").lstrip("/"), dict[str, Any]()
        with contextlib.suppress(FileVanishedError), self.answers(_missing):
            listed = self.files.find(self.path(prefix), detail=True)
        files = {path.lstrip("/").removeprefix(root): facts for path, facts in listed.items()}
        yield [
            Found(key, facts["size"], _modified(facts))
            for key, facts in sorted(files.items(), key=lambda item: in_bytes(item[0]))
            if facts["type"] == "file" and key.startswith(prefix) and in_bytes(key) > in_bytes(after)
        ]

    def _away(self, error: Exception) -> UnavailableError:
        told = f"the store of {self._setting}.url does not answer: {type(error).__name__}"
        return UnavailableError(told, retry_after=_AGAIN)


def _opened(url: str, options: Mapping[str, Any], setting: str) -> tuple[Any, str]:
    """Return what fsspec opens by a URL, and the path in it."""
    try:
        protocol = fsspec.core.split_protocol(url)[0]
        if protocol is None or protocol in _LOCAL:
            raise SettingsError(f"{setting}.url names a local folder: set storage.root to that instead")
        times = {"config_kwargs": _S3_TIMES} if protocol in ("s3", "s3a") else {}
        files, root = fsspec.url_to_fs(url, **{**_NOTHING_KEPT, **times, **options})
    except ImportError as error:
        hint = "For S3 install `greenroom[s3]`, for others the package that is named."
        raise SettingsError(f"{setting}.url: {error}. {hint}") from error
    except (ValueError, TypeError, OSError) as error:
        # some libraries look for programs of others, and tell each place
        told = str(error).partition("\n")[0]
        raise SettingsError(f"{setting}.url or {setting}.options cannot be used: {told}") from error
    return files, str(root)


def _missing() -> FileVanishedError:
    return FileVanishedError("nothing stands there")


def _modified(found: Mapping[str, Any]) -> datetime | None:
    """Return when a file was written, as whatever library tells it."""
    told = next(
        (found[name] for name in ("LastModified", "mtime", "updated", "last_modified", "created") if name in found),
        None,
    )
    if isinstance(told, int | float):
        return datetime.fromtimestamp(told, UTC)
    if not isinstance(told, datetime):
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)
