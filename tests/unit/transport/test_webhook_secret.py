"""Spellings that PyPI's and npm's standardwebhooks and svix take, and the rules that a refusal names."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.transport.webhook_secret import decode_secret
from tests.each import each


@given(st.binary(min_size=16, max_size=64), st.booleans(), st.booleans())
def test_the_prefix_and_the_padding_may_be_there_or_not(key: bytes, prefix: bool, padding: bool) -> None:
    text = base64.b64encode(key).decode()
    spelled = ("whsec_" if prefix else "") + (text if padding else text.rstrip("="))
    assert decode_secret(spelled) == key


@each("size", [16, 20, 23, 24, 32, 64])
def test_sizes_that_are_taken(size: int) -> None:
    assert decode_secret("whsec_" + base64.b64encode(bytes(size)).decode()) == bytes(size)


@each(
    ("text", "rule"),
    [
        ("", "is empty"),
        ("whsec_", "is empty"),
        ("whsec_==", "is empty"),
        ("whsec_" + base64.b64encode(bytes(15)).decode(), "has 15 bytes, and 16 to 64 are expected"),
        (base64.b64encode(bytes(65)).decode(), "has 65 bytes, and 16 to 64 are expected"),
        ("whsec_" + "ab-_" * 8, "has - or _, as URL-safe base64: write + for - and / for _"),
        ("whsec_" + "abc*" * 8, "has characters that base64 has not"),
        ("whsec_" + "abcä" * 8, "has characters that base64 has not"),
        ("whsec_" + "ab=c" * 8, "has characters that base64 has not"),
        ("WHSEC_" + "abcd" * 8, "the only prefix is whsec_"),
        ("abcd" * 8 + "e", "is not whole"),
        ("abcd" * 8 + "=", "is not whole"),
        ("abcd" * 8 + "ab=", "is not whole"),
    ],
)
def test_a_refusal_says_which_rule_and_not_the_secret(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule.replace("+", r"\+")) as error:
        decode_secret(text)
    assert len(text) < 10 or text.removeprefix("whsec_") not in str(error.value)
