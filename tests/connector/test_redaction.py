import base64
import unicodedata
from urllib.parse import quote

import pytest
from connector.redaction import printable, redact
from hypothesis import given
from hypothesis import strategies as st
from leaks import is_spelled

KEY = "zz-SECRET/of+the=test_1"


@given(st.text())
def test_every_text_becomes_one_printable_line(text):
    assert printable(text).isprintable()


@given(st.text(alphabet=st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Co", "Cs", "Cn"])))
def test_nothing_is_left_of_what_nobody_sees(text):
    assert printable(text) == ""


@given(st.text(max_size=3000), st.integers(1, 700))
def test_a_line_is_never_longer_than_asked_for(text, longest):
    assert len(printable(text, longest)) <= longest + 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bcreset", "reset"),
        ("\x1b", ""),
        ("a\x9b31mb", "a 31mb"),
        ("one\r\ntwo\ttabs\x0bthree\x85four\u2028five", "one two tabs three four five"),
        ("ba\u202eck\u2066wards\u200f", "ba ck wards"),
        ("bell\x07back\x08space\x7f", "bell back space"),
        ("zero\u200bwidth\ufeff", "zero width"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("\u65e5\u672c\u8a9e \U0001f600 na\u00efve", "\u65e5\u672c\u8a9e \U0001f600 na\u00efve"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_out(text, line):
    assert printable(text) == line


def test_a_cut_is_marked():
    assert printable("x" * 600) == "x" * 500 + "…"


@pytest.mark.parametrize(
    "text",
    [
        "nvapi-abc_D-1",
        "NVAPI-ABC",
        "Bearer nvapi-abc.",
        '"nvapi-abc"',
        "key=nvapi-abc&x=1",
        "nvapi-abc…",
    ],
)
def test_whatever_looks_like_a_key_of_nvidia_is_hidden(text):
    assert "abc" not in redact(text).lower()
    assert "nvapi-…" in redact(text)


SPELLINGS = {
    "plain": KEY,
    "lower": KEY.lower(),
    "upper": KEY.upper(),
    "percent": quote(KEY, safe=""),
    "percent, lower": quote(KEY, safe="").lower(),
    "percent, every letter": "".join(f"%{ord(letter):02X}" for letter in KEY),
    "json": KEY.replace("/", r"\/"),
    "json, twice": KEY.replace("/", r"\\\/"),
    "unicode escapes": "".join(f"\\u{ord(letter):04X}" for letter in KEY),
    "html": "".join(f"&#{ord(letter)};" for letter in KEY),
    "html, hexadecimal": "".join(f"&#x{ord(letter):02x};" for letter in KEY),
    "mixed": KEY.replace("/", "%2F").replace("+", r"\u002b").replace("=", "&#61;"),
    **{f"base64 after {size}": base64.b64encode(b"u" * size + KEY.encode()).decode() for size in range(4)},
    **{f"base64 before {size}": base64.b64encode(KEY.encode() + b"u" * size).decode() for size in range(4)},
    "base64 for addresses": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "base64 without the end": base64.b64encode(KEY.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("text", ["{}", "bad key {}.", "a{}b", '{{"authorization": "{}"}}'])
def test_a_key_is_hidden_in_every_spelling(text, spelling):
    assert not is_spelled(redact(text.format(spelling), KEY), KEY)


# An escape that is cut in its middle cannot be told from other text: keys are hidden before texts are cut.
LETTER_BY_LETTER = {
    name: SPELLINGS[name] for name in SPELLINGS if not name.startswith(("percent", "uni", "html", "mix"))
}


@pytest.mark.parametrize("spelling", LETTER_BY_LETTER.values(), ids=LETTER_BY_LETTER)
def test_a_key_is_hidden_where_a_text_is_cut_within_it(spelling):
    found = [length for length in range(12, len(spelling)) if is_spelled(redact(f"{spelling[:length]}…", KEY), KEY)]
    assert found == []


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=5, max_size=60), st.text(), st.text())
def test_any_key_is_hidden_anywhere(key, before, after):
    assert key not in redact(f"{before}{key}{after}", key).replace("nvapi-…", "").replace("...", "\0")


@pytest.mark.parametrize("key", [None, "", "a", "key", "test"])
def test_what_is_too_short_for_a_key_leaves_ordinary_words_alone(key):
    assert redact("a key for the test", key) == "a key for the test"


def test_other_words_stay():
    text = "The service answered 401 at http://nim.example/v1/ranking: no such key"
    assert redact(text, KEY) == text


def test_all_control_categories_are_known_to_be_unprintable():
    letters = map(chr, range(0x110000))
    hidden = {letter for letter in letters if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp")}
    assert not any(letter.isprintable() for letter in hidden)
