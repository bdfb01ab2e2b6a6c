"""Where documents' files live: a folder for each tenant, on a local disk or in whatever store fsspec opens by a URL.

`put` makes keys of the content, `<tenant id>/<first two hex digits>/<sha256>`: the same bytes twice are one file, which
never changes. Producers may also put files of their own into a tenant's folder and name them by path; the key is then
`<tenant id>/<path>`. Such a file can change at any time, and from its ingest on it is the document's: `document.delete`
removes it like any other. No key, however it is made, reaches a file outside its tenant's folder.

Nothing counts references: a file goes when no row names its key any more, under the lock that naming it takes, too
(`discarding`). Triggers note the keys of rows that go. What stands in a tenant's folder `temporary` goes by its age.
Its size and its checksum stand in the document's row.
"""

from typing import TYPE_CHECKING

from pipelines.storage.base import Content, Found, Storage, StoredObject
from pipelines.storage.local import LocalStorage

if TYPE_CHECKING:  # the parser's process needs none of them
    from core.settings import Settings

__all__ = ["Content", "Found", "LocalStorage", "Storage", "StoredObject", "storage_of"]


def storage_of(settings: "Settings") -> Storage:
    """Return the storage that the settings name; raises SettingsError for a URL that cannot be opened."""
    if settings.storage.url is None:
        return LocalStorage(settings.storage_root)
    from pipelines.storage.remote import RemoteStorage  # few need it, and it takes a while to import

    url, options = settings.storage.url.get_secret_value(), settings.storage.parsed_options()
    return RemoteStorage(url, options, most_bytes=settings.documents.max_bytes)
