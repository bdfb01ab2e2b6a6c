"""Files by URL, from a real server: what comes, what is refused, and that nobody inside the network is asked."""

from io import BytesIO
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from core.errors import RetryableError
from core.settings import load_settings
from pipelines.documents.errors import AddressRefusedError, FetchRefusedError, TooLargeError
from pipelines.documents.fetching import Fetcher, _inner
from pipelines.documents.payloads import IngestDocument
from pipelines.enqueue import enqueue
from tests.integration.documents.library import Library
from tests.integration.documents.shared import Shared
from tests.support.database import Database
from tests.support.site import Site

LOOPBACK = ip_network("127.0.0.0/8")


def fetcher(**changed: object) -> Fetcher:
    given: dict[str, object] = {"max_bytes": 100_000, "seconds": 10.0, "networks": [LOOPBACK]}
    return Fetcher(**(given | changed))  # type: ignore[arg-type]


def test_a_file_is_fetched_with_the_name_that_it_has(site: Site) -> None:
    site.pages["/manual.txt"] = (200, {"Content-Type": "text/plain"}, b"lamp oil")
    site.pages["/page"] = (200, {"Content-Type": "text/html; charset=utf-8"}, b"<p>x</p>")
    site.pages["/old"] = (302, {"Location": "/manual.txt"}, b"")
    into = BytesIO()
    found = fetcher().fetch(site.url("/old", "localhost"), into)
    assert (into.getvalue(), found.name, found.size) == (b"lamp oil", "manual.txt", 8)
    assert found.url == site.url("/manual.txt", "localhost")
    assert site.asked[0] == ("/old", f"localhost:{site.port}")
    assert fetcher().fetch(site.url("/page"), BytesIO()).name == "page.html"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/x",
        "http://localhost:{port}/x",
        "http://[::1]:{port}/x",
        "http://[::ffff:127.0.0.1]:{port}/x",
        "http://0.0.0.0:{port}/x",
        "http://2130706433:{port}/x",
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://user:word@127.0.0.1:{port}/x",
        "ftp://127.0.0.1:{port}/x",
        "file:///etc/passwd",
        "//127.0.0.1:{port}/x",
        "not a url",
    ],
)
def test_nobody_inside_is_asked(site: Site, url: str) -> None:
    site.pages["/x"] = (200, {}, b"secret")
    with pytest.raises(AddressRefusedError) as caught:
        fetcher(networks=[]).fetch(url.format(port=site.port), BytesIO())
    assert site.asked == []
    assert "secret" not in str(caught.value)


def test_nobody_inside_is_asked_by_a_redirect_either(site: Site) -> None:
    site.pages["/x"] = (302, {"Location": site.url("/y", "127.0.0.2")}, b"")
    with pytest.raises(AddressRefusedError, match="not public"):
        fetcher(networks=[ip_network("127.0.0.1/32")]).fetch(site.url("/x"), BytesIO())
    assert [path for path, _ in site.asked] == ["/x"]


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2002:a00:1::", "10.0.0.1"),
        ("64:ff9b::a00:1", "10.0.0.1"),
        ("2606:4700::1111", "2606:4700::1111"),
        ("8.8.8.8", "8.8.8.8"),
    ],
)
def test_an_address_inside_an_address_is_seen(address: str, inner: str) -> None:
    assert _inner(ip_address(address)) == ip_address(inner)


@pytest.mark.parametrize("address", ["fec0::1", "::7f00:1", "64:ff9b:1::a00:1", "100.64.0.1", "224.0.0.1", "ff02::1"])
def test_an_address_that_only_seems_public_is_not(address: str) -> None:
    assert not fetcher(networks=[])._may_ask(ip_address(address))


@pytest.mark.parametrize(
    ("path", "media_type", "name"),
    [
        ("/index.php", "text/html", "index.php.html"),
        ("/wiki/Node.js", "text/html", "Node.js.html"),
        ("/a.md", "text/plain", "a.md"),
        ("/a.docx", "application/octet-stream", "a.docx"),
        ("/a%00b%0A.txt", "text/plain", "ab.txt"),
        ("/100%25.txt", "text/plain", "100%.txt"),
    ],
)
def test_the_media_type_counts_more_than_the_paths_ending(site: Site, path: str, media_type: str, name: str) -> None:
    site.pages[path] = (200, {"Content-Type": media_type}, b"x")
    assert fetcher().fetch(site.url(path), BytesIO()).name == name


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (404, {}, FetchRefusedError),
        (403, {}, FetchRefusedError),
        (304, {}, FetchRefusedError),
        (200, {"Content-Encoding": "gzip"}, FetchRefusedError),
        (302, {"Location": "/x"}, FetchRefusedError),
        (302, {"Location": "http://10.0.0.1/"}, AddressRefusedError),
        (503, {"Retry-After": "7"}, RetryableError),
        (429, {"Retry-After": "soon"}, RetryableError),
        (429, {"Retry-After": "9" * 15}, RetryableError),
    ],
)
def test_an_answer_that_is_no_file_says_so(
    site: Site, status: int, headers: dict[str, str], error: type[Exception]
) -> None:
    site.pages["/x"] = (status, headers, b"secret")
    with pytest.raises(error) as caught:
        fetcher().fetch(site.url("/x"), BytesIO())
    assert len(site.asked) <= 6
    assert "secret" not in str(caught.value)
    if status == 503:
        assert isinstance(caught.value, RetryableError)
        assert caught.value.retry_after is not None
        assert caught.value.retry_after.total_seconds() == 7


def test_a_file_that_is_too_large_or_too_slow_is_given_up(site: Site) -> None:
    site.pages["/large"] = (200, {}, b"x" * 200_000)
    site.pages["/slow"] = (200, {"X-Slow": "1"}, b"x" * 90_000)
    into = BytesIO()
    with pytest.raises(TooLargeError):
        fetcher().fetch(site.url("/large"), into)
    assert into.tell() <= 100_000
    with pytest.raises(RetryableError, match=r"within 0\.5 s"):
        fetcher(seconds=0.5).fetch(site.url("/slow"), BytesIO())


def test_a_server_that_is_away_may_be_asked_again(free_port: int) -> None:
    with pytest.raises(RetryableError, match="cannot be reached"):
        fetcher().fetch(f"http://127.0.0.1:{free_port}/x", BytesIO())
    with pytest.raises(RetryableError, match="cannot be reached"):
        fetcher().fetch("http://no-such-host.invalid/x", BytesIO())


def test_a_url_becomes_a_document(database: Database, site: Site, shared: Shared, tmp_path: Path) -> None:
    site.pages["/tea.md"] = (200, {"Content-Type": "text/markdown"}, b"# Tea\n\nOolong is partly oxidised.")
    settings = load_settings(
        _env_file=None, storage={"root": tmp_path}, documents={"fetch_networks": "127.0.0.0/8", "max_bytes": 1000}
    )
    resources = shared.resources(settings)
    library = Library(database, resources, tmp_path)
    try:
        url = site.url("/tea.md")
        for _ in range(2):
            enqueue(library.connection, IngestDocument(url=url))
            library.work()
        rows = database.rows("SELECT name, external_id, source, source_url, status FROM knowledge.documents")
        assert rows == [("tea.md", url, "url", url, "completed")]
        assert library.search("oolong")[0].document_name == "tea.md"

        task_id = enqueue(library.connection, IngestDocument(url=site.url("/none")))
        library.work()
        assert library.line.task(task_id)["status"] == "failed"
        assert "answered 404" in library.line.task(task_id)["last_error"]
    finally:
        library.line.close()
        resources.close()


@pytest.mark.parametrize("fields", [{}, {"path": "a", "url": "http://x"}])
def test_an_ingest_names_one_thing(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give one of path, url and document_id"):
        IngestDocument(**fields)
