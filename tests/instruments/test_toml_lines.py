"""Lines of keys in TOML files."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.errors import BadInputError
from operando.instruments.toml_text import TomlDocument

TEXT = '''# a comment with [brackets] = "and quotes
title = "one # no comment"

[a.b] # two
c.d = { e = 1, "f g" = [1, 2, { h = 3 }] }
text = """
[not.a.table]
x = 1 \\""" still
"""
raw = \'\'\'
y = 'z' \'\'\'\'
list = [
  "]", # ]
  [ "a" ],
  { k = 1 },
]

["quoted.name"]
when = 1979-05-27 07:32:00
"a b".c = 0x10

[[array]]
n = 1
[[array]]
n = 2
[array.sub]
m = 3'''


def lines(text: str) -> dict[tuple[str, ...], int]:
    return dict(TomlDocument(text, Path("x.toml")).lines)


def test_every_kind_of_key_has_its_line() -> None:
    found = lines(TEXT)
    assert {key: found[key] for key in found if "list" not in key} == {
        ("title",): 2,
        ("a",): 4,
        ("a", "b"): 4,
        ("a", "b", "c"): 5,
        ("a", "b", "c", "d"): 5,
        ("a", "b", "c", "d", "e"): 5,
        ("a", "b", "c", "d", "f g"): 5,
        ("a", "b", "c", "d", "f g", "0"): 5,
        ("a", "b", "c", "d", "f g", "1"): 5,
        ("a", "b", "c", "d", "f g", "2"): 5,
        ("a", "b", "c", "d", "f g", "2", "h"): 5,
        ("a", "b", "text"): 6,
        ("a", "b", "raw"): 10,
        ("quoted.name",): 18,
        ("quoted.name", "when"): 19,
        ("quoted.name", "a b"): 20,
        ("quoted.name", "a b", "c"): 20,
        ("array",): 22,
        ("array", "0"): 22,
        ("array", "0", "n"): 23,
        ("array", "1"): 24,
        ("array", "1", "n"): 25,
        ("array", "1", "sub"): 26,
        ("array", "1", "sub", "m"): 27,
    }
    assert found["a", "b", "list", "2", "k"] == 15


def keys_of(value: object, key: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = {key} if key else set()
    items: list[tuple[str, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = [(str(index), item) for index, item in enumerate(value)]
    for name, item in items:
        found |= keys_of(item, (*key, name))
    return found


def test_no_key_is_missed() -> None:
    assert set(lines(TEXT)) == keys_of(tomllib.loads(TEXT))


PIECES = [
    "[a]", "[a.b]", "[[c]]", "[c.d]", "[ 'e' . \"f\" ]", "k = 1", "k.l = '#'",
    "m = [1, [2], {n=3}]",
    'o = "\\"]"', "p = '''\n[x]\n'''", 'q = """a\\\\"""', "", "# = [", "r = {}", "s = []",
    "t = [\n1, # ]\n2\n]", '"u\\n" = true', "v = 1.5e3 # y", "w = { x.y = 1, z = [ ] }", "\t",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_whatever_tomllib_reads_has_a_line_for_every_key(pieces: list[str]) -> None:
    text = "\n".join(pieces)
    try:
        expected = keys_of(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        with pytest.raises(BadInputError, match="not valid TOML"):
            lines(text)
        return
    found = lines(text)
    # An array of tables is known by its elements too, an empty one has none.
    assert set(found) == expected
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


def test_a_place_is_that_of_the_nearest_key_that_was_written() -> None:
    document = TomlDocument(TEXT, Path("/somewhere/x.toml"))
    assert document.where("a", "b", "missing") == "x.toml line 4"
    assert document.where("nothing") == "x.toml"
    assert document.label("a", "b", "text") == "x.toml line 6: [a.b] text"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.toml: cannot be read"):
        TomlDocument.read(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"x = '\xb5'")
    with pytest.raises(BadInputError, match="is not UTF-8"):
        TomlDocument.read(tmp_path / "latin.toml")


def test_files_from_other_editors_are_read(tmp_path: Path) -> None:
    (tmp_path / "dos.toml").write_bytes(b"\xef\xbb\xbfx = 1\r\ny = 2\r\n")
    assert dict(TomlDocument.read(tmp_path / "dos.toml").lines) == {("x",): 1, ("y",): 2}
