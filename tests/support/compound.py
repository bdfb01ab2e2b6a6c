"""OLE compound files for tests ([MS-CFB], version 3): what Outlook messages and encrypted Office files are."""

import struct

_SECTOR, _MINI, _CUTOFF = 512, 64, 4096
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_NONE = 0xFFFFFFFF


def compound(streams: dict[str, bytes]) -> bytes:
    """Return a file with these streams; a name `a/b` is the stream b in the storage a."""
    tree = _Tree(streams)
    mini, mini_fat = _laid_out([data for data in tree.contents if len(data) < _CUTOFF], _MINI)
    big, big_fat = _laid_out([data for data in tree.contents if len(data) >= _CUTOFF], _SECTOR)
    starts = tree.starts()
    parts = [(big, big_fat)]
    chain = list(big_fat)
    places = []
    for content in (mini, struct.pack(f"<{len(mini_fat)}I", *mini_fat)):
        padded = content + bytes(-len(content) % _SECTOR)
        places.append(len(chain) if padded else _END)
        chain += _chain(len(chain), len(padded) // _SECTOR)
        parts.append((padded, []))
    directory = tree.directory(starts, places[0], len(mini))
    directory_at = len(chain)
    chain += _chain(directory_at, len(directory) // _SECTOR)
    fat_sectors = 1
    while (len(chain) + fat_sectors) * 4 > fat_sectors * _SECTOR:
        fat_sectors += 1
    fat_at = len(chain)
    chain += [_FAT] * fat_sectors
    chain += [_FREE] * (fat_sectors * _SECTOR // 4 - len(chain))
    mini_sectors = len(parts[2][0]) // _SECTOR
    header = struct.pack(
        "<8s16sHHHHH6xIIIIIIIIII",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", bytes(16), 0x3E, 3, 0xFFFE, 9, 6,
        0, fat_sectors, directory_at, 0, _CUTOFF, places[1], mini_sectors, _END, 0, fat_at,
    )  # fmt: skip
    rest = [fat_at + index if index < fat_sectors else _FREE for index in range(1, 109)]
    header += struct.pack("<108I", *rest)
    body = b"".join(content for content, _ in parts) + directory + struct.pack(f"<{len(chain)}I", *chain)
    return header + body


class _Tree:
    """The directory: storages and streams, each level a chain to the right."""

    def __init__(self, streams: dict[str, bytes]) -> None:
        self.streams = streams
        self.contents = list(streams.values())
        self.names: list[str] = []
        for path in streams:
            folder = path.rpartition("/")[0]
            if folder and folder not in self.names:
                self.names.append(folder)
            self.names.append(path)

    def starts(self) -> dict[str, int]:
        """Return where each stream begins: in sectors, or in small ones for a small stream."""
        small = large = 0
        found = {}
        for path, data in self.streams.items():
            if len(data) < _CUTOFF:
                found[path] = small if data else _END
                small += -(-len(data) // _MINI)
            else:
                found[path] = large
                large += -(-len(data) // _SECTOR)
        return found

    def directory(self, starts: dict[str, int], mini_at: int, mini_size: int) -> bytes:
        """Return the entries; names of a level are sorted as the format wants it."""
        entries = [_entry("Root Entry", 5, self._first(""), _NONE, mini_at, mini_size)]
        for path in self.names:
            is_stream = path in self.streams
            below = _NONE if is_stream else self._first(path)
            size = len(self.streams[path]) if is_stream else 0
            at = starts[path] if is_stream else 0
            entries.append(_entry(path.rpartition("/")[2], 2 if is_stream else 1, below, self._next(path), at, size))
        while len(entries) % 4:
            entries.append(bytes(64) + struct.pack("<HBBIII", 0, 0, 0, _NONE, _NONE, _NONE) + bytes(48))
        return b"".join(entries)

    def _level(self, folder: str) -> list[str]:
        level = [path for path in self.names if path.rpartition("/")[0] == folder]
        return sorted(level, key=lambda path: (len(path), path.upper()))

    def _first(self, folder: str) -> int:
        level = self._level(folder)
        return self.names.index(level[0]) + 1 if level else _NONE

    def _next(self, path: str) -> int:
        level = self._level(path.rpartition("/")[0])
        place = level.index(path) + 1
        return self.names.index(level[place]) + 1 if place < len(level) else _NONE


def _entry(name: str, kind: int, child: int, right: int, start: int, size: int) -> bytes:
    encoded = name.encode("utf-16-le") + b"\0\0"
    head = encoded.ljust(64, b"\0") + struct.pack("<HBBIII", len(encoded), kind, 1, _NONE, right, child)
    return head + bytes(36) + struct.pack("<IQ", start, size)


def _laid_out(contents: list[bytes], unit: int) -> tuple[bytes, list[int]]:
    """Return contents one after the other in whole units, and the chains that say so."""
    body = b""
    chain: list[int] = []
    for data in contents:
        count = -(-len(data) // unit)
        chain += _chain(len(chain), count)
        body += data.ljust(count * unit, b"\0")
    return body, chain


def _chain(first: int, count: int) -> list[int]:
    return [first + index + 1 for index in range(count - 1)] + [_END] * min(count, 1)
