import contextlib
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.loading import load_experiment
from braincl_med.settings.reading import DEEPEST, LARGEST, read_file, read_text

BOMB = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{m}, *{m}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sleep:\n  epochs: 6\nwake: {}\nsleep: {}\n", "line 4: the key 'sleep' .* again, after line 1"),
        ("sleep: {epochs: 6, epochs: 60}\n", "line 1: the key 'epochs' stands there again"),
        ("a: 1\nseed: 010\n", "line 2: the number 010 begins with a zero"),
        ("a: -007\n", "-007 begins with a zero"),
        (BOMB, "line 2: '\\*a' refers to another place"),
        ("a: &a [*a]\n", "refers to another place"),
        ("a: !!python/object:os.system x\n", "tag"),
        ("a: !!bool yes\n", "the tag 'tag:yaml.org,2002:bool' is not taken"),
        (f"a: {'[' * 3000}\n", f"more than {DEEPEST} mappings and lists"),
        ("".join(f"{' ' * n}a:\n" for n in range(3000))[: LARGEST - 1], f"more than {DEEPEST} mappings and lists"),
        ("a: 1\n---\na: 2\n", "line 2: a second document begins"),
        ("[a]: 1\n", "a key is no plain word"),
        ("? \n: 1\n", "a key is no plain word"),
        (f"a: {'9' * 5000}\n", "a number has 5,000 digits"),
        ('a: "\\UFFFFFFFF"\n', "is not YAML"),
        ('a: "\\0"\n', "a control character"),
        ('a: "\\ud800"\n', "a control character"),
        ("a: [1\n", "is not YAML: .* in line 2"),
        ("a: \0\n", "is not YAML"),
        ("- a\n- b\n", "holds a list, expected a mapping"),
        ("\n", "holds nothing, expected a mapping"),
        (f"a: {'x' * LARGEST}\n", "more than 262,144 characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_with_its_line(text, reason):
    with pytest.raises(ConfigError, match=reason) as refused:
        read_text(text, "the text")
    assert str(refused.value).startswith("the text")
    assert "\n" not in str(refused.value)


def test_plain_words_are_read_as_a_person_reads_them():
    text = "{a: 6, b: 1e-3, c: 0.5, d: on, e: 1:30, f: true, g: , h: '010', i: 2026-11-21, j: no, k: -0, l: 1_000}"
    assert read_text(text, "it") == {
        "a": 6, "b": 0.001, "c": 0.5, "d": "on", "e": "1:30", "f": True, "g": None, "h": "010", "i": "2026-11-21",
        "j": "no", "k": 0, "l": "1_000",
    }  # fmt: skip
    assert read_text("on: 1\n12: 2\n<<: {on: 3}\n", "it") == {"on": 1, "12": 2, "<<": {"on": 3}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("name: größe\n".encode("latin-1"), "'it.yaml' is not UTF-8 from byte 9 on: save it as UTF-8"),
        ("name: a\n".encode("utf-16"), "'it.yaml' is not UTF-8 from byte 1 on"),
        (b"a: 1\n" * LARGEST, "'it.yaml' has more than 262,144 bytes"),
        (None, "'it.yaml' cannot be read: permission denied"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_without_its_folder(tmp_path, monkeypatch, content, reason):
    path = tmp_path / "it.yaml"
    path.write_bytes(content or b"a: 1\n")
    if content is None:
        path.chmod(0)
        if os.access(path, os.R_OK):  # root reads everything
            monkeypatch.setattr(type(path), "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(ConfigError, match=reason) as refused:
        read_file(path)
    assert str(tmp_path) not in str(refused.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "it.yaml"
    path.write_bytes("\ufeffname: a\n".encode())
    assert read_file(path) == {"name": "a"}


@pytest.mark.parametrize("source", ["", "no\0where", "~nobody-here/x", "x" * 5000, "/nowhere/at/all.yaml", "../.."])
def test_a_source_that_names_nothing_is_refused(source):
    with pytest.raises(ConfigError, match=r"no experiment .*give a YAML file or one of: centralised") as refused:
        load_experiment(source)
    assert "/" not in str(refused.value)


def test_the_largest_text_is_read_in_seconds():
    begun = time.process_time()
    with pytest.raises(ConfigError):
        read_text("[" * (LARGEST - 1), "it")
    assert len(read_text("".join(f"k{n}: {n}\n" for n in range(2000)), "it")) == 2000
    assert time.process_time() - begun < 5


SNIPPETS = [
    *"a'\"|>#?90.e~\té\ud800\0[]{}:\n",
    "sleep",
    ": ",
    "  ",
    "- ",
    "&a ",
    "*a",
    "!!int ",
    "\\u",
    "\\x",
    "%YAML ",
    "---",
]


@given(st.lists(st.sampled_from(SNIPPETS), max_size=25).map("".join) | st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_whatever_stands_there_is_a_mapping_or_a_sentence(text):
    with contextlib.suppress(ConfigError):
        assert isinstance(read_text(text, "it"), dict)
