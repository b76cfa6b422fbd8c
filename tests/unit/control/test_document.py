"""The file of what is wanted: three ways to write it, variables, and the words for what is wrong."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ingestd.control.engine.document import Document, load_document, make_document
from ingestd.control.engine.variables import read_variables
from ingestd.core.errors import UserError
from tests.each import each

TOML = """
[variables]
stage = "dev"
on = true
types = ["v2.users.{id}.presence"]

[destination.main]
name = "orders-${stage}"
event_bus_arn = "arn:aws:events:eu-west-1:123456789012:event-bus/aws.partner/genesys.com/cloud/o/${stage}"
event_types = "${types}"
enabled = "${on}"
after = ["integration.real"]

[integration.real]
aws_account_id = "123456789012"
aws_region = "eu-west-1"
suffix = "s"
event_filter = ["v2.users.{id}.presence"]
protected = true
"""
YAML = """
variables: {stage: dev}
integration:
  real:
    aws_account_id: "123456789012"
    aws_region: eu-west-1
    suffix: ${stage}
    event_filter: ["v2.users.{id}.presence"]
"""
REAL: dict[str, Any] = {
    "aws_account_id": "123456789012",
    "aws_region": "eu-west-1",
    "suffix": "s",
    "event_filter": ["v2.users.{id}.presence"],
}


def load(tmp_path: Path, text: str, name: str = "control.toml", **variables: str) -> Document:
    path = tmp_path / name
    path.write_text(text)
    return load_document(path, variables, environ={"PLACE": "eu-west-1", "CLIENT_SECRET": "canary"})


def test_tables_become_what_is_wanted_with_their_variables_references_and_protection(tmp_path: Path) -> None:
    main, real = load(tmp_path, TOML).wanted
    assert (main.address, main.key) == (("destination", "main"), "orders-dev")
    assert main.fields["event_bus_arn"].endswith("/o/dev")
    assert main.fields["event_types"] == ["v2.users.{id}.presence"]
    assert main.fields["enabled"] is True
    assert main.after == {("integration", "real")}
    assert real.protected
    assert not main.protected


def test_a_variable_given_on_the_command_line_wins_and_keeps_the_type_of_the_file(tmp_path: Path) -> None:
    main, _ = load(tmp_path, TOML, stage="prod", on="false").wanted
    assert main.key == "orders-prod"
    assert main.fields["enabled"] is False
    with pytest.raises(UserError, match="--var on: the file has true: the same type expected"):
        load(tmp_path, TOML, on="maybe")
    with pytest.raises(UserError, match=r"--var stag: there is none in .variables.; did you mean stage"):
        load(tmp_path, TOML, stag="x")


def test_a_name_twice_in_a_filter_that_is_a_variable_is_told() -> None:
    table = {"policy": {"detail": {"a": [1]}}}
    given = '{"detail":{"a":[1]},"detail":{"b":[2]}}'
    with pytest.raises(UserError, match="--var policy: it is not JSON: the name 'detail' stands twice"):
        read_variables(table, {"policy": given}, {})
    assert read_variables(table, {"policy": '{"b":[2]}'}, {})["policy"] == {"b": [2]}


def test_yaml_and_json_say_the_same_as_toml(tmp_path: Path) -> None:
    as_json = json.dumps(
        {"variables": {"stage": "dev"}, "integration": {"real": {**REAL, "suffix": "${stage}"}}}
    )
    first = load(tmp_path, YAML, "control.yaml").wanted
    assert first == load(tmp_path, as_json, "control.json").wanted
    assert first[0].fields["suffix"] == "dev"


@each("name", ["control.toml", "control.yml", "control.json"])
def test_an_empty_file_wants_nothing(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, "", name).wanted == ()


def test_without_pyyaml_a_yaml_file_says_which_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(
        UserError, match=r"control.yaml: YAML needs the extra yaml: pip install 'ingestd\[yaml\]'"
    ):
        load(tmp_path, YAML, "control.yaml")


def test_environment_variables_fill_in_but_never_secrets(tmp_path: Path) -> None:
    good = YAML.replace("eu-west-1", "${env:PLACE}")
    assert load(tmp_path, good, "c.yaml").wanted[0].fields["aws_region"] == "eu-west-1"
    with pytest.raises(UserError, match="called like a secret") as told:
        load(tmp_path, YAML.replace("eu-west-1", "${env:CLIENT_SECRET}"), "c.yaml")
    assert "canary" not in str(told.value)
    with pytest.raises(UserError, match="there is no environment variable NOWHERE"):
        load(tmp_path, YAML.replace("eu-west-1", "${env:NOWHERE}"), "c.yaml")
    with pytest.raises(UserError, match=r"variables.api_token: api_token is called like a secret"):
        load(tmp_path, '[variables]\napi_token = "canary"\n')


def test_a_doubled_dollar_is_no_variable_and_what_is_put_in_is_not_looked_at_again(tmp_path: Path) -> None:
    text = TOML.replace('name = "orders-${stage}"', 'name = "$${stage} ${odd}"')
    text = text.replace("[variables]", "[variables]\nodd = '${stage}'")
    assert load(tmp_path, text).wanted[0].key == "${stage} ${stage}"


@each(
    ("text", "said"),
    [
        ("[targets.x]\n", r"there is no table \[targets\]; did you mean target\?"),
        ("target = 1\n", r"\[target\]: tables with names expected"),
        ("[integration]\nx = 1\n", r"integration x: a table expected"),
        ('[integration."a b"]\n', r"integration a b: a table's name has"),
        (TOML.replace('"s"', '"s"\nnotse = ""'), r"integration.real.*notse.*did you mean notes"),
        (
            TOML.replace("${stage}", "${stages}", 1),
            r"destination.main.name: there is no variable stages; did you",
        ),
        (
            TOML.replace('integration.real"', 'integration.rael"'),
            r"there is no integration.rael .*did you mean",
        ),
        (TOML.replace("protected = true", "protected = 1"), r"integration real: protected: expected true"),
        (TOML.replace('after = ["', 'after = ["x'), r"after: there is no xintegration.real"),
        ("[variables]\nx = 1979-05-27\n", r"variables.x: a date is not taken: write it as text"),
        ("[variables]\nx = nan\n", r"variables.x: not a finite number"),
        ("[variables]\n'a b' = 1\n", r"variables.: a b: a name has letters"),
        ("x = " + "[" * 60 + "]" * 60, r"x: nested deeper than 50"),
        ("x = [\n", r"it is not TOML: "),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_was_meant(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(UserError, match=said) as told:
        load(tmp_path, text)
    assert str(told.value).startswith(str(tmp_path / "control.toml"))
    assert "\n" not in str(told.value)


@each(
    ("text", "name", "said"),
    [
        ("a: &x [1]\nb: *x\n", "c.yaml", "line 2: aliases"),
        ("a: 1\na: 2\n", "c.yaml", "line 1: a name stands twice"),
        (
            "!!python/object/apply:os.system ['true']\n",
            "c.yaml",
            "it is not YAML: line 1: could not determine",
        ),
        ("on: {x: 1}\n", "c.yaml", "the name True is not text: quote it"),
        ('{"a": 1, "a": 2}', "c.json", "'a' stands twice"),
        ('{"a": NaN}', "c.json", "NaN is not a number"),
        ("[" * 100_000, "c.json", "it is not JSON"),
        ("[" * 1_200, "c.yaml", "it is not YAML"),
        ("[1]", "c.json", "tables expected"),
    ],
)
def test_hostile_files_are_answered(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(tmp_path, text, name)


@each(
    ("value", "field"),
    [
        ({"auth": {"client_secret": "***"}}, "auth.client_secret"),
        ({"headers": {"X-Key": "Bearer ***"}}, "headers.X-Key"),
        ({"endpoint_url": "https://***@h/p"}, "endpoint_url"),
        ({"endpoint_url": "https://h/p?***"}, "endpoint_url"),
    ],
)
def test_the_mask_of_a_secret_is_not_taken_for_one(value: dict[str, Any], field: str) -> None:
    with pytest.raises(
        UserError, match=rf"^target t: {field}: it holds the mask .* give a reference, env:NAME"
    ):
        make_document({"target": {"t": value}})


def test_a_file_that_is_too_big_or_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read it: No such file"):
        load_document(tmp_path / "none.toml")
    with pytest.raises(UserError, match="over 1048576 bytes"):
        load(tmp_path, "#" * 1_100_000)


def test_one_resource_twice_is_refused() -> None:
    """Two tables of one name would each undo what the other did, for ever."""
    with pytest.raises(UserError, match="integration b: main is also the name of integration a"):
        make_document({"integration": {"a": {**REAL, "name": "main"}, "b": {**REAL, "name": "main"}}})


def test_a_circle_is_told_with_all_that_are_in_it() -> None:
    tables = {name: {**REAL, "after": [f"integration.{other}"]} for name, other in ("ab", "bc", "ca")}
    with pytest.raises(UserError, match=r"in a circle: integration.. -> integration.. -> integration.. -> "):
        make_document({"integration": tables})
    with pytest.raises(UserError, match=r"in a circle: integration.a -> integration.a"):
        make_document({"integration": {"a": {**REAL, "after": ["integration.a"]}}})
