"""Text from outside is shown on one line, without control characters, and not too long."""

import re

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.text import cut, did_you_mean, printable, shape

HOSTILE = st.text(st.characters(codec=None), max_size=40)


@given(HOSTILE)
def test_what_is_printable_stays_and_everything_else_becomes_an_escape(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert (shown == text) == text.isprintable()
    assert printable(text, keep="\n").replace("\n", "").isprintable()


@given(HOSTILE, st.integers(2, 20))
def test_what_is_cut_is_printable_and_says_that_there_was_more(text: str, limit: int) -> None:
    shown = cut(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert shown.endswith("…") == (
        len(printable(text[: limit + 1])) > limit or text[-1:] == "…" == shown[-1:]
    )


def test_a_control_character_cannot_move_the_cursor_nor_the_direction_of_writing() -> None:
    assert printable("a\x1b[2J\r\n‮b") == "a\\x1b[2J\\r\\n\\u202eb"


def test_a_guess_is_close_or_none() -> None:
    assert did_you_mean("max_byte", ["max_bytes", "url"]) == "max_bytes"
    assert did_you_mean("x", ["max_bytes", "url"]) is None
    assert did_you_mean("a" * 1_000_000, ["max_bytes"]) is None


WORDS = st.lists(
    st.sampled_from(["'", '"', " ", "a", "7", "é", "0123abcd-", "0" * 27, "_", ","]) | st.text(max_size=2)
)
_VARIABLE = r"[0-9a-f]{8}-[0-9a-f-]{27}|'[^']*'|\"[^\"]*\"|\b\w*\d\w*"


@given(WORDS.map("".join))
def test_quoted_values_words_with_digits_and_ids_are_no_part_of_a_shape(text: str) -> None:
    line = text.replace("\n", "").partition("{")[0]
    assert shape(line, of_answer=False) == re.sub(_VARIABLE, "#", line, flags=re.IGNORECASE)[:120]
