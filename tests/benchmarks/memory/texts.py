"""The texts that the persona has read: manuals that Debian ships under free licences, two of them in two formats.

debian-policy, its copy of the Filesystem Hierarchy Standard, developers-reference, maint-guide and debian-faq are under
the GNU General Public License or as free. None of them stands here: they are fetched by the distribution's own client.
"""

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGES: Final = ("debian-policy", "developers-reference", "maint-guide", "debian-faq")
SAMPLES: Final = Path("console/samples")
# Lists of what stands elsewhere, and the whole book on one page.
_NO_CHAPTERS: Final = ("index", "genindex", "search", "developers-reference.html")


@dataclass(frozen=True)
class Text:
    """One file of a book. `is_double` where another file says nearly the same in another format."""

    name: str
    content: bytes
    is_double: bool = False


def fetch(folder: Path) -> None:
    """Download and unpack the packages into a folder, those that are not there yet. Raises CalledProcessError."""
    for package in PACKAGES:
        target = folder / package
        if target.is_dir():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        _run(folder, "apt-get", "download", package)
        [archive] = folder.glob(f"{package}_*.deb")
        _run(folder, "dpkg-deb", "-x", archive.name, package)


def _run(folder: Path, program: str, *arguments: str) -> None:
    subprocess.run([shutil.which(program) or program, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def texts_of(folder: Path, samples: Path = SAMPLES) -> list[Text]:
    """Return all texts, by name: chapters in HTML, then what doubles them, then the samples."""
    policy = folder / "debian-policy/usr/share/doc/debian-policy"
    reference = folder / "developers-reference/usr/share/developers-reference"
    guide = folder / "maint-guide/usr/share/doc/maint-guide"
    faq = folder / "debian-faq/usr/share/doc/debian/FAQ"
    return [
        *_chapters("policy", policy / "policy.html", "*.html"),
        _unpacked("fhs", policy / "fhs/fhs-3.0.txt.gz"),
        *_chapters("reference", reference, "*.html"),
        *_chapters("guide", guide / "html", "*.en.html"),
        *_chapters("faq", faq, "*.en.html"),
        _unpacked("guide", guide / "maint-guide.en.txt.gz", is_double=True),
        _unpacked("faq", faq / "debian-faq.en.txt.gz", is_double=True),
        *(
            Text(f"samples-{path.name}", path.read_bytes())
            for path in sorted(samples.iterdir())
            if path.name != "NOTICE"
        ),
    ]


def _chapters(book: str, folder: Path, pattern: str) -> list[Text]:
    found = [path for path in sorted(folder.glob(pattern)) if not path.name.startswith(_NO_CHAPTERS)]
    if not found:
        raise FileNotFoundError(f"no chapters of {book} in {folder}")
    return [Text(f"{book}-{path.name}", path.read_bytes()) for path in found]


def _unpacked(book: str, path: Path, *, is_double: bool = False) -> Text:
    return Text(f"{book}-{path.stem}", gzip.decompress(path.read_bytes()), is_double)
