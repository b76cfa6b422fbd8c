from pathlib import Path

import pytest

from ingestd.core.errors import UserError
from ingestd.schemas.load import load
from tests.each import each


def test_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "order.schema"
    path.write_text('{"type": "object"}')
    specs = ["interaction", "cloudevent", str(path), "ingestd.schemas.interaction_model:Interaction"]
    assert [load(spec).name for spec in specs] == specs


@each(
    ("spec", "words"),
    [
        ("interactions", "did you mean interaction?"),
        ("CloudEvents", "did you mean cloudevent?"),
        ("", "no such file"),
        ("order.schema", "no such file"),
        ("order.json", "cannot be read"),
        ("a\0b", "no such file"),
        ("x" * 10_000, "no such file"),
    ],
)
def test_anything_else_says_what_to_write(spec: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(spec)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()
