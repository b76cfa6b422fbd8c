"""``ingestd dlq``: look into the dead letters, correct them, send them again."""

import json
import subprocess
from typing import Any

import pytest

from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store.connection import connect
from ingestd.store.new_letters import insert_letters
from tests.event_api import INVALID, EventApi, event, events, events_of, key, write
from tests.process.cli.support import COMMAND, DEADLINE_S, Place
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

NOT_JSON = b"not json"


async def fill(place: Place, api: EventApi) -> None:
    """Letters 1: invalid, 2: unparsable, 3: refused (event 3), 4-6: gave up together."""

    def answer(request: Request) -> Reply:
        inside = events_of(request)
        if event(3) in inside:
            index = inside.index(event(3))
            return Reply(422, body=b'{"errors":[{"index":%d,"message":"no such queue"}]}' % index)
        return Reply(500 if event(100) in inside else 200)

    first = write(place / "first.ndjson", [INVALID, NOT_JSON, *events(6)])
    second = write(place / "second.ndjson", events(3, first=100))
    api.ingest = answer
    assert (await place.run(*place.replay(api, first))).code == 3
    assert (await place.run(*place.replay(api, second, "--give-up-after", "0s"))).code == 3
    assert [letter["reason"] for letter in place.letters()] == [
        *("invalid", "unparsable", "refused"),
        *("gave_up",) * 3,
    ]
    api.ingest = lambda request: Reply()


async def listed(place: Place, *filters: object) -> list[int]:
    done = place.call(*place.dlq("list", "--json", *filters))
    assert done.code == 0, done
    found: dict[str, Any] = json.loads(done.out)
    assert found["total"] == len(found["letters"])
    return [letter["id"] for letter in found["letters"]]


async def test_letters_are_listed_grouped_and_shown(place: Place) -> None:
    api = EventApi()
    async with api:
        await fill(place, api)
    assert await listed(place) == [1, 2, 3, 4, 5, 6]
    assert await listed(place, "--reason", "gave_up") == [4, 5, 6]
    assert await listed(place, "--newer", "1h") == [1, 2, 3, 4, 5, 6]
    assert await listed(place, "--older", "1h") == []
    assert await listed(place, "--state", "delivered") == []

    table = place.call(*place.dlq("list"))
    assert table.code == 0
    assert [line.split()[:2] for line in table.out.splitlines()][1:4] == [
        ["1", "invalid"],
        ["2", "unparsable"],
        ["3", "refused"],
    ]
    groups = place.call(*place.dlq("list", "--group", "--json")).json["groups"]
    assert (groups[0]["count"], groups[0]["example"]) == (3, 4)
    assert sum(group["count"] for group in groups) == 6
    assert await listed(place, "--fingerprint", groups[0]["fingerprint"]) == [4, 5, 6]

    shown = place.call(*place.dlq("show", 3, "--json")).json
    assert (shown["payload"], shown["reason"], shown["line"]) == (event(3).decode(), "refused", 6)
    assert shown["source"] == str(place / "first.ndjson")
    assert "no such queue" in shown["detail"]
    words = place.call(*place.dlq("show", 1))
    assert INVALID.decode() in words.out
    assert "maybe taken       no" in words.out.splitlines()
    missing = place.call(*place.dlq("show", 99))
    assert (missing.code, missing.said) == (2, ["ingestd: there is no dead letter 99"])


async def test_letters_are_sent_again_by_id_filter_or_all(place: Place) -> None:
    api = EventApi()
    async with api:
        await fill(place, api)
        frozen = api.batches[-1]
        count = len(api.batches)

        trial = (await place.run(*place.dlq("retry", "--all", "--dry-run", "--json"))).json
        assert (trial["dry_run"], trial["selected"], trial["sent"]) == (True, 6, 4)
        assert len(api.batches) == count

        one = await place.run(*place.dlq("retry", 3, "--json"))
        assert (one.code, json.loads(one.out)["delivered"]) == (0, 1), one
        assert events_of(api.batches[count]) == [event(3)]

        some = await place.run(*place.dlq("retry", "--reason", "gave_up", "--json"))
        assert (some.code, json.loads(some.out)["delivered"]) == (0, 3), some
        again = api.batches[count + 1]
        assert (key(again), again.body) == (key(frozen), frozen.body)

        rest = await place.run(*place.dlq("retry", "--all", "--json"))
        result = json.loads(rest.out)
        assert (rest.code, result["delivered"], sorted(result["invalid"])) == (3, 0, ["1", "2"])
        assert "expected" in result["invalid"]["1"]
        assert len(api.batches) == count + 2
    assert await listed(place) == [1, 2]
    assert await listed(place, "--state", "delivered") == [3, 4, 5, 6]
    nothing = await place.run(*place.dlq("retry"))
    assert nothing.code == 2
    assert "No letters are chosen" in nothing.err
    nobody = await place.run(*place.dlq("park", 99))
    assert (nobody.code, "no such dead letters" in nobody.err) == (2, True)


async def test_one_letter_of_a_request_that_may_have_been_taken_takes_the_others_along(place: Place) -> None:
    api = EventApi()
    async with api:
        await fill(place, api)
        frozen = api.batches[-1]
        done = await place.run(*place.dlq("retry", 5, "--json"))
    assert (done.code, json.loads(done.out)["together"]) == (0, 2), done
    assert (key(api.batches[-1]), api.batches[-1].body) == (key(frozen), frozen.body)


async def test_a_letter_is_corrected_and_sent(place: Place) -> None:
    corrected = event(77)
    (place / "corrected.json").write_bytes(corrected + b"\n")
    api = EventApi()
    async with api:
        await fill(place, api)
        still_bad = await place.run(*place.dlq("retry", 1, "--edit", "-"), given=b'{"still": "bad"}')
        assert still_bad.code == 3
        assert "1: still not valid" in still_bad.out
        assert place.letters()[0]["payload"] == INVALID
        done = await place.run(*place.dlq("retry", 1, "--edit", place / "corrected.json"))
    assert done.code == 0, done
    assert api.events[-1] == corrected
    (letter,) = [letter for letter in place.letters() if letter["id"] == 1]
    assert (letter["payload"], letter["state"], letter["edited"]) == (corrected, "delivered", 1)


async def test_an_export_is_what_a_replay_reads_back(place: Place) -> None:
    api = EventApi()
    async with api:
        await fill(place, api)
        done = place.call(*place.dlq("export", "--output", place / "out.ndjson"))
        assert done.code == 0, done
        letters = [INVALID, NOT_JSON, event(3), *events(3, first=100)]
        assert (place / "out.ndjson").read_bytes().splitlines() == letters
        printed = place.call(*place.dlq("export", "--reason", "gave_up"))
        assert printed.out.encode().splitlines() == events(3, first=100)
        whole = place.call(*place.dlq("export", "--json"))
        assert [json.loads(line)["id"] for line in whole.out.splitlines()] == [1, 2, 3, 4, 5, 6]

        before = len(api.events)
        place.state = place / "another"
        done = await place.run(*place.replay(api, place / "out.ndjson"))
        assert (done.code, place.report["delivered"], place.report["rejected"]) == (3, 4, 2)
        assert api.events[before:] == letters[2:]


def test_a_damaged_payload_is_named_and_not_exported_shown_or_sent_as_if_it_were_whole(place: Place) -> None:
    place.state.mkdir()
    store = connect(place.state / "state.db")
    insert_letters(store, [DeadLetter(event(n), Reason.REFUSED, "no", 1, n, n) for n in range(3)], 0.0)
    damaged = event(1).replace(b"i-000001", b"i-999991")
    store.execute("UPDATE sealed_letters SET payload = CAST(? AS TEXT) WHERE id = 2", (damaged,))
    store.close()
    done = place.call(*place.dlq("export"))
    assert (done.code, done.out.encode().splitlines()) == (3, [event(0), event(2)])
    assert "1 payload damaged on disk, they are left out: letters 2." in done.err
    done = place.call(*place.dlq("export", "--json"))
    assert [json.loads(line)["intact"] for line in done.out.splitlines()] == [True, False, True]
    assert done.code == 3
    for words in (("show", 2), ("show", 2, "--json"), ("show", 2, "--payload")):
        done = place.call(*place.dlq(*words))
        assert (done.code, "999991" in done.out) == (3, True), words
        assert "the payload of letter 2 is damaged on disk: it is not what was stored" in done.err
    assert place.call(*place.dlq("show", 1)).code == 0
    api = ("--api", "http://127.0.0.1:9", "--no-auth")
    done = place.call(*place.dlq("retry", "--all", "--dry-run", "--json", *api))
    told = json.loads(done.out)
    assert (done.code, told["sent"], [*told["invalid"]]) == (3, 2, ["2"])
    assert "ingestd dlq retry 2 --edit FILE" in told["invalid"]["2"]
    (place / "whole.json").write_bytes(event(1))
    done = place.call(*place.dlq("retry", 2, "--edit", place / "whole.json", "--dry-run", "--json", *api))
    assert (done.code, json.loads(done.out)["sent"]) == (0, 1), "what is given takes the place of it"


async def test_purging_asks_first_and_deletes_only_what_was_meant(place: Place) -> None:
    api = EventApi()
    async with api:
        await fill(place, api)
    unasked = await place.run(*place.dlq("purge", "--reason", "gave_up"), given=b"n\n")
    assert unasked.code == 1
    assert "Delete 3 letters for good?" in unasked.err
    assert len(place.letters()) == 6
    assert (await place.run(*place.dlq("purge", "--reason", "gave_up"), given=b"y\n")).code == 0
    assert await listed(place) == [1, 2, 3]
    done = await place.run(*place.dlq("purge", "--all", "--yes", "--json"))
    assert (done.code, json.loads(done.out)) == (0, {"purged": 3})
    purged = [entry["count"] for entry in place.audit() if entry["event"] == "LETTERS_PURGED"]
    assert purged == [3, 3]
    for words in (
        ("purge", 4, "--yes"),
        ("retry", 4, "--api", api.url, "--no-auth"),
        ("park", 4),
        ("show", 4),
    ):
        gone = await place.run(*place.dlq(*words))
        assert (gone.code, "dead letter" in gone.err) == (2, True), (words, gone)
    assert (await place.run(*place.dlq("purge", "--reason", "gave_up", "--yes"))).code == 0


def test_an_export_that_nobody_reads_on_ends_without_a_word(place: Place) -> None:
    place.state.mkdir()
    store = connect(place.state / "state.db")
    payload = b'{"pad":"%s"}' % (b"x" * 200)
    insert_letters(store, [DeadLetter(payload, Reason.INVALID, "", 1, n, n) for n in range(3000)], 0.0)
    store.close()
    process = subprocess.Popen(
        [*COMMAND, *map(str, place.dlq("export"))], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == payload + b"\n"
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    "words", [("list",), ("show", 1), ("retry", "--all"), ("export",), ("purge", "--all")]
)
async def test_a_directory_without_letters_is_said_in_one_line(
    place: Place, words: tuple[object, ...]
) -> None:
    name, *rest = map(str, words)
    done = place.call(*place.dlq(name, *rest))
    assert (done.code, len(done.said)) == (2, 1), done
    assert "there is no state.db in" in done.err
    assert not place.state.exists()
