"""Sinks get events as their transforms make them; what came is what keys, restarts and ledgers go by."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingestd.core.submission import SubmissionOutcome
from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from tests.each import each
from tests.integration.intake import replay_support as replayed
from tests.integration.intake.replay_support import write
from tests.integration.intake.support import all_posted, event, events, key_of, running, webhook
from tests.integration.intake.test_fan import piped
from tests.integration.intake.test_letters_anew import ONE_TRY, work_on_letters
from tests.receiver import Action, Hang, Receiver, Reply, Request, in_turn

pytestmark = pytest.mark.anyio

HIDE = {"redact": ["routingMetadata.queueId"], "method": "mask"}
DROP = {"drop": True, "when": {"interactionId": ["i-1", "i-4"]}}
FAIL = {"set": {"eventType.no": "object"}, "when": {"interactionId": ["i-2"]}}


def steps(receiver: Receiver, *tables: dict[str, Any], **other: Any) -> dict[str, Any]:
    return webhook(receiver, transforms=list(tables), **other)


def queues(receiver: Receiver) -> set[str]:
    bodies = [msgspec.json.decode(request.body) for request in receiver.requests]
    return {one["routingMetadata"]["queueId"] for body in bodies for one in body}


@each("replays", [True, False])
async def test_one_of_two_sinks_gets_others_and_each_event_has_one_outcome(
    tmp_path: Path, replays: bool
) -> None:
    """Event 1 and 4 are dropped for one sink, 4 for the other, too; a step fails on 2."""
    async with Receiver() as plain, Receiver() as changed:
        sinks = {
            "plain": steps(plain, {"drop": True, "when": {"interactionId": ["i-4"]}}),
            "changed": steps(changed, HIDE, DROP, FAIL),
        }
        if replays:
            place = replayed.Place(tmp_path / "state", sinks)
            async with place.opened(write(tmp_path / "events.ndjson", events(range(6)))) as replay:
                await replayed.run(replay, warn=place.warnings.append)
                pipeline = replay.pipeline
                report = replayed.make_report(replay)
            assert (report["exit_code"], report["dropped"]) == (3, 1)
        else:
            async with running(tmp_path / "state", sinks=sinks) as life:
                taken = await life.take(*events(range(6)), wait_s=15.0)
                assert taken.ends == SubmissionOutcome(delivered=4, dead_lettered=1, pending=0, skipped=1)
                pipeline = life.pipeline
        ledger, ledgers = pipeline.ledger, {one.name: one.ledger for one in pipeline.runners}
        assert (ledger.accepted, ledger.delivered, ledger.dropped, ledger.dead_lettered) == (6, 4, 1, 1)
        assert ledger.balanced()
        assert all(one.balanced() for one in ledgers.values())
        one = ledgers["changed"]
        assert (one.routed, one.delivered, one.dropped, one.dead_lettered) == (6, 3, 2, 1)
        assert all_posted(plain) == [0, 1, 2, 3, 5]
        assert all_posted(changed) == [0, 3, 5]
        assert (queues(plain), queues(changed)) == ({"q"}, {"***"})
        assert b"[" + b",".join(events([0, 1, 2, 3, 5])) + b"]" == plain.requests[0].body
        (letter,) = replayed.rows(
            tmp_path / "state", "SELECT sink, reason, detail, payload, form FROM letters"
        )
    assert letter[:2] == ("changed", "untransformed")
    assert letter[2].startswith("step 3 of sinks.changed.transforms (set): eventType is not an object")
    assert letter[3:] == (event(2), 1)


async def test_a_copy_of_a_dropped_event_is_a_duplicate_by_the_key_that_it_came_with(tmp_path: Path) -> None:
    drop_id = {"remove": ["interactionId", "eventTime"]}
    async with (
        Receiver() as one,
        running(tmp_path / "state", sinks={"one": steps(one, DROP, drop_id)}) as life,
    ):
        first = await life.take(*events(range(3)))
        await life.until_empty()
        second = await life.take(*events(range(4)))
        await life.until_empty()
        assert (first.accepted, second.accepted, second.duplicates) == (3, 1, 3)
        ledger = life.ledger
        assert (ledger.delivered, ledger.dropped, ledger.duplicate) == (3, 1, 3)


@each("replays", [True, False])
@each("after", [[], [{"remove": ["attributes"]}], [HIDE, DROP, FAIL, {"set": {"schemaVersion": 9}}]])
async def test_what_was_sent_goes_out_again_as_the_same_bytes_whatever_the_transforms_are_then(
    tmp_path: Path, replays: bool, after: list[dict[str, Any]]
) -> None:
    source = write(tmp_path / "events.ndjson", events(range(6)))
    async with Receiver(lambda _: Hang()) as one, Receiver() as other:
        before = {"one": steps(one, HIDE, DROP, FAIL), "other": webhook(other)}
        if replays:
            place = replayed.Place(tmp_path / "state", before)
            async with place.running(source) as started:
                await one.until(lambda r: len(r.requests) == 1)
                await started.crash(tmp_path / "image")
        else:
            async with running(tmp_path / "state", sinks=before) as life:
                await life.take(*events(range(6)))
                await one.until(lambda r: len(r.requests) == 1)
                await life.crash(tmp_path / "image")
        (request,) = one.requests
        one.requests.clear()
        one.script = in_turn(Reply())
        sinks = {"one": steps(one, *after), "other": webhook(other)}
        if replays:
            await replayed.Place(tmp_path / "image", sinks).run(source)
        else:
            async with running(tmp_path / "image", sinks=sinks) as life:
                await life.until_empty()
        again = {key_of(found): found.body for found in one.requests}
        assert again[key_of(request)] == request.body
        assert all_posted(one) == [0, 3, 5]  # the others were resolved before
    told = "SELECT reason, payload FROM letters"
    assert replayed.rows(tmp_path / "image", told) == [("untransformed", event(2))]


async def test_a_refused_batch_that_is_halved_keeps_the_bytes_of_its_halves(tmp_path: Path) -> None:
    """Also of events that an earlier process has transformed, by a configuration that is gone."""
    async with Receiver(lambda _: Hang()) as one:
        async with running(tmp_path / "state", sinks={"one": steps(one, HIDE)}) as life:
            await life.take(*events(range(4)))
            await one.until(lambda r: len(r.requests) == 1)
            await life.crash(tmp_path / "second")

        def too_large(request: Request) -> Action:
            return Reply(413) if len(msgspec.json.decode(request.body)) > 2 else Hang()

        one.requests.clear()
        one.script = too_large
        async with running(tmp_path / "second", sinks={"one": webhook(one)}) as life:
            await one.until(lambda r: len(r.requests) == 3)
            await life.crash(tmp_path / "third")
        halves = {key_of(request): request.body for request in one.requests[1:]}
        one.requests.clear()
        one.script = in_turn(Reply())
        async with running(tmp_path / "third", sinks={"one": webhook(one)}) as life:
            await life.until_empty()
        assert {key_of(request): request.body for request in one.requests} == halves
        assert queues(one) == {"***"}


async def test_a_letter_is_sent_as_it_was_sent_and_one_that_was_not_is_transformed_first(
    tmp_path: Path,
) -> None:
    """A letter that the API refused has the bytes that it refused. One on which a step failed waits as it
    came, and never goes out so: it is transformed when a person wants it sent."""

    def refuses(request: Request) -> Action:
        return Reply(422) if b'"i-0"' in request.body else Reply()

    async with Receiver(refuses) as one:
        sinks = {"one": steps(one, {"set": {"attributes.by": "first"}}, HIDE, FAIL, max_events=1)}
        async with running(tmp_path / "state", sinks=sinks, **ONE_TRY) as life:
            await life.take(*events(range(3)))
            await life.until_empty()
        one.requests.clear()
        one.script = in_turn(Reply())
        other = {"set": {"attributes.by": "second"}}
        ask(tmp_path / "state")
        async with running(
            tmp_path / "state", sinks={"one": steps(one, other, HIDE, FAIL)}, **ONE_TRY
        ) as life:
            work_on_letters(life)
            await one.until(lambda r: len(r.requests) == 1)
            await replayed.until(
                lambda: bool(obstacles(tmp_path / "state") and life.ledger.retried_delivered)
            )
            assert life.ledger.retried_aside == 1
        assert all_posted(one) == [0]
        assert b'"by":"first"' in one.requests[0].body
        (why,) = obstacles(tmp_path / "state")
        assert why.startswith("a transform fails on it: step 3 of sinks.one.transforms (set)")
        ask(tmp_path / "state")
        drops = {"drop": True, "when": {"interactionId": ["i-2"]}}
        async with running(tmp_path / "state", sinks={"one": steps(one, other, drops)}, **ONE_TRY) as life:
            work_on_letters(life)
            await replayed.until(lambda: "leave it out now" in obstacles(tmp_path / "state")[0])
        ask(tmp_path / "state")
        one.script = lambda _: Reply(422)
        one.requests.clear()
        async with running(tmp_path / "state", sinks={"one": steps(one, other, HIDE)}, **ONE_TRY) as life:
            work_on_letters(life)
            await one.until(lambda r: len(r.requests) == 1)
            await replayed.until(lambda: life.ledger.retried_failed == 1)
        second = one.requests[0].body
        assert queues(one) == {"***"}
        ask(tmp_path / "state")
        async with running(
            tmp_path / "state", sinks={"one": steps(one, {"remove": ["attributes"]})}, **ONE_TRY
        ) as life:
            work_on_letters(life)
            await one.until(lambda r: len(r.requests) == 2)
        assert one.requests[1].body == second  # made once, and kept


def ask(directory: Path) -> None:
    """A person wants all letters sent that wait."""
    with LetterChanges.open(directory) as changes:
        for piece in changes.pages(Filter(), 2e9):
            changes.request([letter.id for letter in piece], now=1.9e9)


def obstacles(directory: Path) -> list[str]:
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        return [row[0] for row in connection.execute("SELECT obstacle FROM letters WHERE obstacle <> ''")]


async def test_what_came_through_a_pipe_is_kept_as_it_came_and_as_it_was_sent(tmp_path: Path) -> None:
    """It cannot be read again. Keys are those of the events as they came: what is sent has none."""
    steps_ = (HIDE, {"remove": ["interactionId", "eventTime"]})
    async with Receiver(lambda _: Hang()) as one:
        place = replayed.Place(tmp_path / "state", {"one": steps(one, *steps_)})
        with piped(tmp_path, events(range(3))) as pipe:
            async with place.running(pipe) as life:
                await one.until(lambda r: len(r.requests) == 1)
                image = await life.crash(tmp_path / "image")
        before = {key_of(request): request.body for request in one.requests}
        one.requests.clear()
        one.script = in_turn(Reply())
        image.sinks = {"one": webhook(one)}
        report = await image.run(write(tmp_path / "events.ndjson", events(range(4))))
        assert {key_of(request): request.body for request in one.requests}.items() > before.items()
        assert (report["delivered"], report["duplicate"]) == (4, 3)
