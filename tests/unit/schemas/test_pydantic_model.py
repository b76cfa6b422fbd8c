import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.core.errors import UserError
from ingestd.core.reasons import Reason
from ingestd.schemas.pydantic_model import PydanticSchema
from tests.unit.schemas.broken_events import explained_within_memory

CODE = """
from datetime import datetime
from pydantic import BaseModel, ConfigDict, create_model, field_validator

class Line(BaseModel):
    count: int

class Order(BaseModel):
    model_config = ConfigDict(strict=True)
    order_id: str
    total: float = 0.0
    lines: list[Line] = []

    class Inner(BaseModel):
        x: int

class Odd(BaseModel):
    x: str

    @field_validator("x")
    @classmethod
    def check(cls, value):
        return {}[value]

numbers = dict[str, int]
Wide = create_model("Wide", **{f"f{i}": (int, ...) for i in range(40)})

class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    pair: tuple[int, int]
    names: set[str]
    rest: list[int]
    wide: list[Wide] = []
nothing = 7
"""
_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working directory, under a name that no other test has imported."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    name = f"orders_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(CODE)
    yield name
    sys.modules.pop(name, None)


def test_a_model_next_to_the_user(module: str) -> None:
    schema = PydanticSchema(f"{module}:Order")
    assert schema.default_key == ()
    assert schema.keys([b'{"order_id": "1"}', b'{"order_id": 1}', b"{"]) == ["", None, None]
    refusal = schema.explain(
        b'{"order_id": "1", "lines": [{"count": "personal data personal data personal data"}]}'
    )
    assert refusal is not None
    assert refusal.errors == [
        (
            "lines.0.count",
            "expected a valid integer, unable to parse string as an integer, "
            "found 'personal data personal data personal …'",
        )
    ]


def test_nested_names_and_plain_types(module: str) -> None:
    assert PydanticSchema(f"{module}:Order.Inner").keys([b'{"x": 1}']) == [""]
    assert PydanticSchema(f"{module}:numbers").keys([b'{"x": 1}', b'{"x": "y"}']) == ["", None]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity"])
def test_numbers_that_json_has_not_are_refused(module: str, number: bytes) -> None:
    schema = PydanticSchema(f"{module}:Order")
    event = b'{"order_id": "1", "total": ' + number + b"}"
    assert schema.keys([event]) == [None]
    refusal = schema.explain(event)
    assert refusal is not None
    assert refusal.reason is Reason.UNPARSABLE


def test_a_validator_that_fails_does_not_stop_the_process_or_show_the_value(module: str) -> None:
    schema = PydanticSchema(f"{module}:Odd")
    assert schema.keys([b'{"x": "secret"}']) == [None]
    refusal = schema.explain(b'{"x": "secret"}')
    assert refusal is not None
    assert refusal.errors == [("", "the model could not check it: KeyError")]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{module}:None_", "has no None_"),
        ("{module}:nothing", "package.module:Model"),
        ("{module}:", "package.module:Model"),
        (":Order", "package.module:Model"),
        ("{module}:Order()", "package.module:Model"),
        ("no_such_module:Order", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_wrong_spec_says_what_to_write(module: str, spec: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        PydanticSchema(spec.format(module=module))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_to_import(module: str) -> None:
    Path(f"{module}.py").write_text("raise RuntimeError('two\\nlines')")
    with pytest.raises(UserError, match=r"cannot be imported: RuntimeError: two\\nlines"):
        PydanticSchema(f"{module}:Order")


def test_files_next_to_the_user_do_not_stand_in_for_libraries(module: str) -> None:
    Path("colorsys.py").write_text("raise RuntimeError")
    sys.modules.pop("colorsys", None)
    PydanticSchema(f"{module}:Order")
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)


CROWD = b",".join(b'"k%x":{}' % number for number in range(20_000))
GOOD = b'{"at":"2026-01-01T00:00:00Z","pair":[1,2],"names":["a"],"rest":[%b]%b}'


def test_a_crowded_event_that_lacks_forty_fields_costs_no_more_than_to_read_it(module: str) -> None:
    schema = PydanticSchema(f"{module}:Wide")
    event = b"{" + CROWD + b"}"
    refusal = explained_within_memory(schema, event)
    assert refusal.errors == [(f"f{number}", "required, but missing") for number in range(10)]


def test_what_json_may_say_in_a_strict_model_it_may_say_in_a_crowded_event_too(module: str) -> None:
    schema = PydanticSchema(f"{module}:Strict")
    many = b",".join([b"7"] * 5_000)
    assert schema.explain(GOOD % (many, b"")) is None
    assert schema.keys([GOOD % (b"7", b""), GOOD % (many, b"")]) == ["", None]
    for bad, field in (
        ((GOOD % (many, b"")).replace(b"2026", b"yest"), "at"),
        (GOOD % (many + b',"x"', b""), "rest.5000"),
        (GOOD % (many, b',"wide":[{%b}]' % CROWD), "wide.0.f0"),
        (GOOD % (many, b',"wide":{%b}' % CROWD), "wide"),
    ):
        refusal = schema.explain(bad)
        assert refusal is not None
        assert refusal.reason is Reason.INVALID
        assert refusal.errors[0].field == field
