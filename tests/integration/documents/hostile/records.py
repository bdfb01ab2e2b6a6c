"""JSON and tables of text that break the rules, or keep them to a point that hurts."""

from pipelines.documents import errors
from tests.integration.documents.hostile.outcome import WICK, Case, reads, refused

_JSON: list[Case] = [
    refused("deep lists.json", "[" * 500 + "]" * 500, errors.NoTextError),
    refused("deep values.json", '{"a":' * 500 + "1" + "}" * 500, errors.BrokenFileError, "deeper than 200"),
    refused("deeper lists.json", "[" * 100_000 + "]" * 100_000, errors.BrokenFileError, "deeper than 200"),
    refused("cut off.json", '{"a": 1', errors.BrokenFileError, "not JSON"),
    refused("two values.json", '{"a": 1} {"b": 2}', errors.BrokenFileError, "not JSON"),
    refused("remarks.json", '{"a": 1 /* one */}', errors.BrokenFileError, "not JSON"),
    refused("single quotes.json", "{'a': 1}", errors.BrokenFileError, "not JSON"),
    refused("nothing.json", "null", errors.NoTextError),
    refused("an empty object.json", "{}", errors.NoTextError),
    refused("an empty text.json", '""', errors.NoTextError),
    reads("the same name twice.json", f'{{"a": "x", "a": "{WICK}"}}'),
    reads("numbers that are none.json", f'{{"a": NaN, "b": Infinity, "c": "{WICK}"}}'),
    reads("a number beyond all.json", f'{{"a": 1e999999, "c": "{WICK}"}}', WICK, "1e999999"),
    reads("half of a character.json", f'{{"a": "\\ud800", "c": "{WICK}"}}'),
    reads("zeros.json", f'{{"a": "\\u0000{WICK}"}}'),
    reads("a byte order mark.json", b"\xef\xbb\xbf" + f'{{"a": "{WICK}"}}'.encode()),
    reads("UTF-16.json", f'{{"a": "{WICK}"}}'.encode("utf-16")),
    reads("a name of a megabyte.json", f'{{"{"k" * 1_000_000}": "{WICK}"}}'),
    reads("a long list.json", f'["{WICK}", {", ".join(["1"] * 300_000)}]'),
    reads("names of Python.json", f'{{"__class__": "os.system", "__init__": "{WICK}"}}'),
    refused("not a value a line.jsonl", '{"a": 1}\nnot json\n', errors.BrokenFileError, "line 2"),
    refused("the last line cut.jsonl", '{"a": 1}\n{"a": ', errors.BrokenFileError, "line 2"),
    reads("blank lines.jsonl", f'\n\n{{"a": "{WICK}"}}\n\n'),
    reads("line ends of two kinds.jsonl", f'{{"a": 1}}\r\n{{"a": "{WICK}"}}\r'),
]

_TABLES: list[Case] = [
    reads("rows of all lengths.csv", f"a,b\n1\n1,2,3,4,5\n\n{WICK}\n"),
    reads("a quotation never closed.csv", f'a,b\n"{WICK},2\n3,4\n'),
    reads("quotations in quotations.csv", f'a,b\n"x ""y"" {WICK}",""""\n'),
    refused("delimiters alone.csv", ",,,\n,,,\n", errors.NoTextError),
    reads("heads alone.csv", f"{WICK},b,c\n"),
    reads("the same head twice.csv", f"a,a,a\n1,2,{WICK}\n"),
    reads("a formula.csv", f"a,b\n=cmd|' /C calc'!A0,{WICK}\n", WICK, "=cmd|"),
    reads("a cell of a megabyte.csv", f"a,b\n{'x' * 1_000_000},{WICK}\n"),
    reads("UTF-16.csv", f"a;b\n1;{WICK}\n".encode("utf-16")),
    reads("carriage returns.csv", f"a,b\r1,{WICK}\r"),
    reads("zeros.csv", f"a,b\n1\0,{WICK}\n"),
    reads("many columns.csv", ",".join(f"c{n}" for n in range(20_000)) + f"\n{WICK}\n"),
    reads("no table at all.csv", f"{WICK}\n\n{WICK}\n"),
    reads("a quotation in the middle.tsv", f'a\tb\nx"y\t{WICK}\n'),
    reads("commas.tsv", f"a,b\n1,{WICK}\n"),
]

CASES: list[Case] = [*_JSON, *_TABLES]
