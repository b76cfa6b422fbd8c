"""Nothing that leaves the process for a person or a file has a secret of the configuration in it.

Where secrets may stand is read from the configuration's schema: a setting that is added has to say by its
type that it holds one, or be named here as public.
"""

import base64
import contextlib
import io
import json
import logging
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.app import bug_report
from ingestd.app.checks.run import Report, check_all
from ingestd.app.letters import shape
from ingestd.cli.notice import notice
from ingestd.config import load_with_origins
from ingestd.config.settings import Settings
from ingestd.config.show import as_json, as_toml
from ingestd.control.engine.compare import shown
from ingestd.core import redaction
from ingestd.core.answer import Answer
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.core.redaction import MIN_SECRET_CHARS, Mask, redact, redact_tree
from ingestd.core.submission import DeferredSubmission
from ingestd.sinks import answer_body, answers
from ingestd.sources.http.endpoint import answer_to
from ingestd.store import dead_letters, letter_leases, new_letters
from ingestd.store.connection import connect
from ingestd.telemetry import log
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from tests.each import each
from tests.receiver import Receiver, Reply
from tests.secret_places import STEP, Marked, places

PUBLIC = """
AdminConfig: listen redact
AnswersConfig: event_id id index items message ok retryable
ApiConfig: ca_file client_id client_id_file max_connection_age no_auth region trust_env
AuditConfig: file keep max_bytes
AuthConfig: client_id client_id_file header scope type username
ConsoleTokenConfig: role
BatchConfig: max_age max_bytes max_events
CloudEventsConfig: mode type
ConfirmConfig: delivered failed initial_delay max_pending requests_per_minute status timeout
DeliveryConfig: backoff_base backoff_cap circuit_threshold give_up_after max_attempts max_in_flight order_by
    request_timeout min_retries_per_second retry_ratio shutdown_timeout startup_timeout
AwsConfig: aws_profile aws_region
KafkaConfig: bootstrap_servers ca_file cert_file exact_takeover format group mechanism oauth_client_id
    oauth_scope oauth_token_url protocol session_timeout spool start static_member tls tombstones topics user
NatsConfig: ack_wait consumer format max_unacked spool start stream subjects
NatsLogin: ca_file cert_file domain servers user
EventBridgeConfig: bus detail detail_type max_entry_bytes resources source time type
FilesConfig: closed_after done_after exclude format items max_files max_open move_to order paths poll_every
    rotated_after spool start watch when_done
GenesysEventsConfig: api map namespace source_id strict type
IngestConfig: access_token_in_query allow_anonymous body_timeout head_timeout idle_timeout keep_rejected
    listen max_body max_connections max_events max_expansion max_head token_lifetime trusted_proxies
    wait_timeout webhook_origins webhook_rate
IngestApiConfig: type
JourneyEventsConfig: configuration_id strict type
LakeConfig: event_type file_age file_bytes file_mode format max_backlog of partition time type
LettersConfig: poll_interval retention retry
LogConfig: format level
MetricsConfig: host port
ProducerConfig: api_key_header client_id events_per_day events_per_second username
SchemaConfig: dedup_key format_assertion max_depth max_values name
SinkConfigBase: allow_private when
HttpSinkConfig: events_per_second expect max_age max_backlog max_backlog_age max_bytes max_events
    max_in_flight on_status order_by requests_per_minute shared_rate when_full
SourceConfig: delimiter format items keep_going max_event_bytes max_rejected max_window
SpoolConfig: ballast kind max_bytes max_parked name partitions replicas workers
NotificationsConfig: renew_after topics
SqsConfig: aws_profile aws_region format max_in_flight pollers queue_url spool visibility
StateConfig: dir
TlsConfig: cert_file client_ca_file
UnwrapSection: unwrap unwrap_fields
WebhookConfig: body handshake_origin secret_url type
TrailConfig: max_age max_bytes
TracingConfig: ca_file max_queue propagate sample service_name
TransformConfig: drop jq keep last method python redact remove rename set template when
EventTest: event gets name rejected
WindowConfig: max_age max_count
WrapConfig: data id source subject time type
"""
"""Class of the section, and its settings that are no secrets, whatever somebody sets them to."""


def public() -> set[str]:
    sections = re.split(r"\n(?=\S)", PUBLIC.strip())
    named = (section.split(":", 1) for section in sections)
    return {f"{name}.{field}" for name, fields in named for field in fields.split()}


def test_every_setting_says_by_its_type_that_it_holds_a_secret_or_is_known_to_be_public() -> None:
    unmarked = {place.name for place in places() if not place.kind}
    assert unmarked - public() == set(), "new: give it a type of core.setting_types, or name it in PUBLIC"
    assert public() - unmarked == set(), "no setting any more, or it is marked"


@pytest.fixture
def marked(tmp_path: Path) -> Marked:
    return Marked(tmp_path)


def quoted(marker: str) -> str:
    """As APIs quote what they were sent: a header, a URL, a body within a body, Basic credentials."""
    plain, escaped = json.dumps({"X-Odd": marker}), json.dumps({"body": json.dumps({"x": marker})})
    pair = [base64.b64encode(f"{before}:{marker}".encode()).decode() for before in ("u", "us", "usr")]
    return (
        f"you sent {plain} and {escaped}, to http://h/p?a={quote(marker, safe='')}&b={quote_plus(marker)}"
        f" and /p?k={marker} and {quote(marker)}, {' '.join(pair)} {quote(marker, safe='').lower()} end"
    )


def seen(text: str, markers: Iterable[str]) -> list[str]:
    """Those that can be read in ``text``, however it is spelled."""
    spelled = [text, text.replace("\\", ""), unquote(text), unquote_plus(text)]
    for word in re.findall(r"[\w+/=-]{8,}", text):
        with contextlib.suppress(ValueError):
            spelled.append(base64.b64decode(word + "=" * (-len(word) % 4)).decode("latin-1"))
    found = "\n".join(spelled)
    return [marker for marker in markers if marker in found or marker[:14] in found]


def test_every_place_of_the_schema_has_its_marker_and_the_seeing_eye_is_no_blind_one(marked: Marked) -> None:
    Settings.model_validate(marked.tree)
    assert len(marked.markers) > 60
    for marker in marked.markers.values():
        assert seen(quoted(marker), marked.markers.values()) == [marker]
        for part in quoted(marker).split():
            assert seen(part, [marker]) or marker[:14] not in part


def test_no_output_shows_a_secret_that_stands_anywhere_in_the_configuration(
    marked: Marked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "i.toml"
    file.write_text(as_file(marked.tree))
    settings, origins = load_with_origins(str(file), {}, {})
    outputs = {"toml": as_toml(settings, origins), "json": json.dumps(as_json(settings, origins))}
    in_files = [marker for name, marker in marked.markers.items() if name.endswith("_file")]
    markers = [marker for marker in marked.markers.values() if marker not in in_files]
    everything = " ".join(map(quoted, markers))
    log.configure("json", "info", stream=(lines := io.StringIO()))
    audit = AuditLog(tmp_path / "audit.jsonl")
    store = connect(tmp_path / "state.db")
    for number, marker in enumerate(markers):
        words = quoted(marker)
        log.warning(words, why=words)
        try:
            raise ValueError(words)
        except ValueError:
            logging.getLogger("aiohttp").exception("%s failed", words)
        audit(AuditEntry.DEAD_LETTERED, sink="s", error=words, reason=words)
        letter = DeadLetter(b"{}", Reason.REFUSED, words, 1, number, number)
        new_letters.insert_letters(store, [letter], 0.0)
        letter_leases.letters_failed(store, [(number + 1, letter)] if number % 2 else [], 0.0)
        notice(words)
        told = [
            answers.words(Answer(422, body=words.encode())),
            answer_body.safe_text(words, 500),
            shown(("a",), words),
        ]
        told += [
            answer_body.safe_text("y" * pad + f"{marker} " * 200, 500) for pad in range(number % 3, 30, 9)
        ]
        told += [
            repr(redact_tree({"lanes": [{"why": words}]})),
            repr(answer_to(DeferredSubmission(503, 1, words))),
        ]
        outputs[f"told {number}"] = " ".join(told)
    audit.close()
    outputs["log"] = lines.getvalue()
    outputs["audit"] = (tmp_path / "audit.jsonl").read_text()
    rows = dead_letters.select(store, "1", [])
    old = rows[0]._replace(detail=everything, fingerprint=everything)  # of a version that kept what it heard
    outputs["letters"] = repr(rows) + json.dumps(shape.as_dict(old, ""))
    store.close()
    outputs["state"] = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.glob("state.db*"))
    outputs["stderr"] = capsys.readouterr().err
    for name, text in outputs.items():
        assert len(text) > 100, name
        assert seen(text, markers) == [], name


@pytest.mark.anyio
async def test_check_shows_no_secret_of_the_configuration_nor_of_its_files(
    marked: Marked, tmp_path: Path
) -> None:
    del marked.tree["api"]["client_secret"]  # the file instead
    del marked.tree["ingest"]["tls"]
    (tmp_path / "i.toml").write_text(as_file(marked.tree))
    report = Report()
    async for _ in check_all(report, str(tmp_path / "i.toml"), {}, online=False, environ={}):
        pass
    text = " ".join(finding.text for finding in report.findings)
    assert len(report.findings) > 8
    assert seen(text, marked.markers.values()) == []


@pytest.mark.anyio
async def test_a_bug_report_shows_no_secret_of_the_configuration_nor_one_that_was_quoted_somewhere(
    marked: Marked, tmp_path: Path
) -> None:
    """Planted unmasked in the log, the audit file, the letters and the status, as older versions may have."""
    everything = " ".join(map(quoted, marked.markers.values()))
    status = json.dumps({"lanes": [{"why": everything}], "told": everything}).encode()
    async with Receiver(lambda request: Reply(body=status)) as service:
        marked.tree["admin"]["listen"] = service.url.removeprefix("http://")
        (tmp_path / "i.toml").write_text(as_file(marked.tree))
        state = tmp_path / "state"
        state.mkdir()
        store = connect(state / "state.db")
        letter = DeadLetter(everything.encode(), Reason.REFUSED, everything, 1, 1, 1)
        new_letters.insert_letters(store, [letter], 0.0)
        store.execute("UPDATE single_letters SET reason = ?, detail = ?", (everything, everything))
        store.commit()
        store.close()
        line = {"event": "DEAD_LETTERED", "error": everything, "sink": everything}
        (state / "audit.jsonl").write_text(json.dumps(line) + "\n")
        (tmp_path / "log.txt").write_text(
            f"ERROR {everything}\n" + json.dumps({"level": "error", "m": everything})
        )
        report = Report()
        async for _ in check_all(report, f"{tmp_path}/i.toml", {}, online=False, as_doctor=True, environ={}):
            pass
        bundle = await bug_report.collect(
            report.findings,
            f"{tmp_path}/i.toml",
            {},
            log_file=f"{tmp_path}/log.txt",
            clock=SystemClock(),
            environ={},
        )
    text = json.dumps(bundle)
    assert (len(bundle["log"]), len(bundle["audit"]["lines"]), len(bundle["state"]["letters"])) == (2, 1, 1)
    assert "told" in bundle["status"]["answer"]
    assert text.count("***") > 60
    assert seen(text, marked.markers.values()) == []


def test_a_masked_value_is_refused_wherever_it_is_set_and_the_words_name_it(
    marked: Marked, tmp_path: Path
) -> None:
    """`config show > ingestd.toml`: what was masked must not become a password of three stars."""
    settings, origins = load_with_origins(None, {}, {"INGESTD_API_URL": "http://h"})
    loads = tomllib.loads(as_toml(settings, origins))
    assert Settings.model_validate(loads) == settings
    settings = Settings.model_validate(marked.tree)
    masked = tomllib.loads(as_toml(settings, {}))
    for place in places():
        if place.kind in ("", "file"):
            continue
        value = masked
        for part in place.path:
            value = value[int(part) if part == STEP else part]
        assert "***" in str(value), place
        tree: dict[str, Any] = {}
        table = tree
        for part in place.path[:-1]:
            table = table.setdefault(part, {})
        table[place.path[-1]] = value
        named = ".".join(place.path)
        if STEP in place.path:
            above = tree
            for part in place.path[:-3]:
                above = above[part]
            above["transforms"] = [{"redact": ["x"]} | table]
            named = f"step 1 of {'.'.join(place.path[:-2])}: {place.path[-1]}"
        if place.path[0] == "sinks":
            tree["sinks"][place.path[1]]["type"] = place.path[1].replace("-", "_")
            tree["sinks"][place.path[1]].setdefault("configuration_id", "c")
            if place.path[1] != "journey-events":
                del tree["sinks"][place.path[1]]["configuration_id"]
        file = tmp_path / "masked.toml"
        file.write_text(as_file(tree))
        with pytest.raises(UserError, match=r"it holds the mask that `config show` prints") as refused:
            load_with_origins(str(file), {}, {})
        assert named in str(refused.value)


SECRETS = st.text(
    st.characters(exclude_characters="*", codec="utf-8"), min_size=MIN_SECRET_CHARS, max_size=60
)


@given(SECRETS, st.text(max_size=20), st.text(max_size=20))
def test_however_a_secret_is_spelled_it_is_masked(secret: str, before: str, after: str) -> None:
    mask = Mask()
    mask.hide(secret)
    pair = f"{before}{secret}{after}".encode()
    twice = json.dumps(json.dumps(secret))
    spelled = [
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        twice,
    ]
    for form in spelled:
        inner = (
            form.strip('\\"') if form[:1] in '\\"' and len(form.strip('\\"')) >= MIN_SECRET_CHARS else form
        )
        assert inner not in mask(f"{before}{form}{after}")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = mask.by_value(f"a {encode(pair).decode()} b")
        assert "***" in text


BREAKS = ["\n", "\r\n", "\r\n\t ", "\\n", "\\r\\n", "\u200b", "\u00ad", "\0", "\u2028"]


@given(
    st.text("abcXYZ019+/=._~!", min_size=12, max_size=60),
    st.sampled_from(BREAKS),
    st.integers(1, 20),
    st.text("cdXY -\n", max_size=10),
)
def test_a_secret_is_masked_over_several_lines_too(secret: str, broken: str, width: int, around: str) -> None:
    mask = Mask()
    mask.hide(secret)
    packed = base64.b64encode(f"user:{secret}:".encode()).decode()
    for text in (secret, packed):
        wrapped = broken.join(text[at : at + width] for at in range(0, len(text), width))
        left = mask.by_value(f"{around} {wrapped} {around}")
        assert "***" in left
        assert len(left) < 2 * len(around) + len(packed) - len(secret) + 60
        assert not any(piece in left for piece in wrapped.split(broken)[2:-2] if len(piece) > 6)
        assert left.startswith(around)
        assert left.endswith(around)


@each(
    "quoted",
    [
        r"Zx9\u002BSec/ret=42\u0026\u003C",  # System.Text.Json
        r"Zx9+Sec/ret\u003d42\u0026\u003c",  # Gson
        r"Zx9+Sec/ret=42\u0026\u003c",  # encoding/json
        r"Zx9+Sec\/ret=42&<",  # PHP
        "Zx9+Sec/ret=42&amp;&lt;",
        "Zx9&#43;Sec/ret=42&amp;&lt;",  # ASP.NET
        "Zx9+Sec&#x2F;ret&#x3D;42&amp;&lt;",  # mustache
        "Zx9%252BSec%252Fret%253D42%2526%253C",
    ],
)
def test_a_secret_is_masked_as_libraries_escape_it(quoted: str) -> None:
    mask = Mask()
    mask.hide("Zx9+Sec/ret=42&<")
    assert mask.by_value(f'{{"got":"{quoted}"}}') == '{"got":"***"}'


def test_short_and_trivial_values_blank_nothing(tmp_path: Path) -> None:
    tree = {
        "api": {"url": "http://user:pw@h/?v=1&format=json", "client_secret": "abc", "client_id": "me"},
        "sinks": {
            "hook": {
                "type": "webhook",
                "url": "http://h/p?mode=production",
                "headers": {"Accept": "application/json", "X-Env": "production", "X-N": "1"},
            }
        },
    }
    Settings.model_validate(tree)
    words = "abc: the production API takes application/json of user me, mode 1: format json"
    assert redact(words) == words


def test_there_may_be_thousands_of_secrets_and_old_tokens_go_before_those_of_the_configuration() -> None:
    mask = Mask()
    mask.hide("secret-of-the-configuration")
    last = 8 * redaction.MAX_PASSING
    for number in range(last + 1):
        mask.hide(f"token-{number:06}-{number:06}", passing=True)
    assert len(mask._forms) < 20 * redaction.MAX_PASSING
    assert mask(f"secret-of-the-configuration token-{last:06}-{last:06}") == "*** ***"
    for number in range(2_000):
        mask.hide(f"producer-{number:06}-{number:06}")
    assert mask("of producer-000000-000000, and producer-001999-001999") == "of ***, and ***"
    assert mask.without_cut("it was producer-0000") == "it was "


@each(
    ("text", "left"),
    [
        ("at http://user:pw@h/p?key=x, and so on", "at http://***@h/p?***, and so on"),
        ("Cookie: a=b; c=d", "Cookie: ***"),
        ('{"set-cookie": "sid=1", "x": 1}', '{"set-cookie": ***, "x": 1}'),
        ("X-Api-Key: k1", "X-Api-Key: ***"),
        ('\\"X-Auth-Token\\": \\"t1\\"', '\\"X-Auth-Token\\": ***'),
        ("Proxy-Authorization: Negotiate abc", "Proxy-Authorization: ***"),
        ("see https://docs.example.com/errors#422", "see https://docs.example.com/errors#422"),
        ("listening on http://127.0.0.1:8080/v1/events", "listening on http://127.0.0.1:8080/v1/events"),
    ],
)
def test_what_stands_where_secrets_stand_is_masked_without_being_known(text: str, left: str) -> None:
    assert redact(text) == left
    assert redact(left) == left


def as_file(tree: dict[str, Any]) -> str:
    """The tree as TOML."""

    def tables(table: dict[str, Any], name: tuple[str, ...]) -> Iterator[str]:
        inner = {key: value for key, value in table.items() if isinstance(value, dict) and key != "headers"}
        if name:
            yield f"[{'.'.join(name)}]"
        for key, value in table.items():
            if key not in inner:
                text = json.dumps(json.dumps(value) if isinstance(value, dict) else value)
                if key == "transforms":
                    text = text.replace('": ', '" = ')
                yield f"{key} = {text}"
        for key, value in inner.items():
            yield from tables(value, (*name, key))

    return "\n".join(tables(tree, ())) + "\n"


def test_letters_that_match_where_case_does_not_count_are_looked_at_as_ascii_is() -> None:
    others = map(chr, range(0x80, sys.maxunicode + 1))
    like = {one for one in others if re.fullmatch(r"[\x00-\x7f]", one, re.IGNORECASE)}
    assert like == set(redaction._LIKE_ASCII)
    for name in ("password", "pa\u017fsword", "PAS\u017fWORD", "to\u212aen", "token", "cl\u0131ent_secret"):
        for behind in ("", " \u2026", " gr\u00fc\u00df"):
            assert "hunter22" not in redact(f"{name}=hunter22{behind}")
