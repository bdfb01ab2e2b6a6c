"""`greenroom collections`: how the documents of each are cut."""

from pathlib import Path

from tests.support.command import Inline

LONG = "# Knots\n\n" + "A bowline makes a loop that does not slip, and a sheet bend joins two ropes. " * 40


def test_documents_are_cut_as_their_collection_says(inline: Inline, tmp_path: Path) -> None:
    (tmp_path / "knots.md").write_text(LONG)
    assert inline.ok("collections", "set", "small-pieces", "--chunk-size", "64", "--chunk-overlap", "0").startswith(
        "made"
    )
    cut = ("ingest", str(tmp_path), "--collection", "small-pieces")
    [small] = inline.json(*cut)["documents"]
    inline.ok(
        "collections", "set", "small-pieces", "--chunk-size", "256", "--name", "Pieces", "--description", "of rope"
    )
    assert inline.json(*cut)["counts"] == {"unchanged": 1}
    [large] = inline.json(*cut, "--force")["documents"]
    assert small["chunks"] > 2 * large["chunks"] > 0
    [listed] = [each for each in inline.json("collections", "list") if each["slug"] == "small-pieces"]
    assert (listed["name"], listed["description"], listed["documents"]) == ("Pieces", "of rope", 1)
    assert (listed["chunk_size"], listed["chunk_overlap"]) == (256, 0)
    assert "small-pieces" in inline.ok("collections", "list")


def test_what_cannot_be_is_refused_and_changes_nothing(inline: Inline) -> None:
    for given, says in (
        (("default", "--chunk-size", "8"), "16 to 8,192 tokens"),
        (("default", "--chunk-size", "99999999999"), "16 to 8,192 tokens"),
        (("default", "--chunk-overlap", "200"), "at most half"),
        (("default", "--name", ""), "1 to 255 characters"),
        (("No Such", "--chunk-size", "64"), "cannot be a collection"),
        (("default",), "say what to set"),
    ):
        refused = inline.run("collections", "set", *given)
        assert refused.returncode == 2
        assert says in refused.stderr
    [default] = [each for each in inline.json("collections", "list") if each["slug"] == "default"]
    assert (default["chunk_size"], default["chunk_overlap"]) == (256, 32)
