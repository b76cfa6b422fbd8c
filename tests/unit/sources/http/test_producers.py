import base64
from pathlib import Path
from typing import Any

import pytest

from ingestd.config import ProducerConfig
from ingestd.core.errors import UserError
from ingestd.sources.http.auth import ProducerKeys
from ingestd.wiring.producer_keys import producer_keys
from tests.each import each

LONG = "a-token-of-16-ch"
OTHER = "0123456789abcdef"
RAW = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(RAW).decode()


def keys_of(**fields: Any) -> ProducerKeys:
    return producer_keys({"web": ProducerConfig.model_validate(fields)})["web"]


def refusal(**producers: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        producer_keys({name: ProducerConfig.model_validate(fields) for name, fields in producers.items()})
    told = str(caught.value)
    assert "\n" not in told
    return told


def written(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_keys_come_from_the_configuration_and_from_files(tmp_path: Path) -> None:
    tokens = written(tmp_path / "tokens", f"\ufeff{OTHER}\r\n\n  {LONG}  \n{OTHER}\n")
    secrets = written(tmp_path / "secrets", SECRET)
    keys = keys_of(token=LONG, token_file=tokens, webhook_secret_file=secrets, events_per_day=5)
    assert keys == ProducerKeys((LONG, OTHER), (RAW,), 0.0, 5)
    assert keys_of(webhook_secret=SECRET, events_per_second=0.5) == ProducerKeys((), (RAW,), 0.5, 0)
    assert keys_of() == ProducerKeys()


def test_a_short_token_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path / "tokens", f"{LONG}\n{OTHER[:15]}\n")
    told = refusal(web={"token_file": file})
    assert told.startswith(f"producer web: the token in {file}, line 2 is shorter than 16 characters")
    assert OTHER[:15] not in told
    assert "in ingest.producers.web is shorter" in refusal(web={"token": "short"})


@each("token", ["with a space in it", "ümlauts-are-not-ok", "=" * 20, 'quote"quote"quote'])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    told = refusal(web={"token": token})
    assert "cannot have" in told
    assert token not in told


def test_two_producers_cannot_have_the_same_key(tmp_path: Path) -> None:
    file = written(tmp_path / "tokens", LONG)
    told = refusal(web={"token": LONG}, crm={"token_file": file})
    assert told == "producers web and crm have the same token: give each its own"
    secret = {"webhook_secret": SECRET}
    assert "same webhook secret" in refusal(web=secret, crm=secret)


def test_a_webhook_secret_that_breaks_a_rule_is_refused_by_that_rule_and_not_shown(tmp_path: Path) -> None:
    secret = "whsec_" + base64.b64encode(bytes(12)).decode()
    file = written(tmp_path / "secrets", f"{SECRET}\n{secret}\n")
    told = refusal(web={"webhook_secret_file": file})
    assert told.startswith(
        f"producer web: the webhook secret in {file}, line 2 has 12 bytes, and 16 to 64 are"
    )
    assert secret not in told
    told = refusal(web={"webhook_secret": SECRET[:-1] + "*"})
    assert "in ingest.producers.web has characters that base64 has not" in told
    assert RAW.hex() not in told
    assert SECRET not in told


@each("written_as", [SECRET, SECRET.removeprefix("whsec_"), SECRET.rstrip("=")])
def test_a_webhook_secret_is_taken_in_every_spelling_of_the_libraries(written_as: str) -> None:
    assert keys_of(webhook_secret=written_as).webhook_secrets == (RAW,)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    for file, why in (
        (missing, "No such file or directory"),
        (str(tmp_path), "Is a directory"),
        (written(tmp_path / "binary", b"\xff\xfe"), "not UTF-8"),
        (written(tmp_path / "large", "x" * 70_000), "longer than"),
        (written(tmp_path / "empty", "\n \n"), "holds no"),
    ):
        for what in ("token", "webhook_secret"):
            told = refusal(web={f"{what}_file": file})
            assert told.startswith("producer web: ")
            assert file in told
            assert why in told


def test_a_producer_has_a_name() -> None:
    assert "name" in refusal(**{"": {"token": LONG}})
