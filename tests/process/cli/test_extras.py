"""The core runs without the extras, and says which one a sink needs."""

import os
import subprocess
import sys
from pathlib import Path

from tests.machine import patience

BLOCKED = ("botocore", "boto3", "pyarrow", "moto")
EVENT = (
    '{"interactionId":"i-1","eventType":"call","eventTime":"2026-01-01T10:00:00Z","routingMetadata":'
    '{"queueId":"q","skill":"s","actionType":"ANSWER"},"attributes":{},"schemaVersion":1}'
)


RUN = f"""
import os, sys
sys.modules.update(dict.fromkeys({BLOCKED}))
from ingestd.cli.main import main
os._exit = sys.exit  # it ends the process at once
for config in sys.argv[1:]:
    sys.argv = ["ingestd", "replay", "events.ndjson", "--sandbox", "--config", config]
    try:
        main()
    except SystemExit as end:
        print(end.code or 0, flush=True)
    else:
        print(0, flush=True)
    print("the end", file=sys.stderr, flush=True)
"""


def replays(directory: Path, *sinks: str) -> list[tuple[int, str]]:
    """Into each of these and an API, one after the other in a Python that has none of the extras' packages:
    the codes, and what was said."""
    (directory / "events.ndjson").write_text(EVENT + "\n")
    for number, sink in enumerate(sinks):
        (directory / f"{number}.toml").write_text(
            f'[sinks.api]\ntype = "ingest_api"\n[sinks.other]\n{sink}\n[state]\ndir = "state{number}"\n'
        )
    done = subprocess.run(
        [sys.executable, "-c", RUN, *(f"{number}.toml" for number in range(len(sinks)))],
        env=os.environ | {"XDG_STATE_HOME": str(directory)},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=patience(100),
        check=False,
    )
    assert done.returncode == 0, done
    codes = [int(line) for line in done.stdout.splitlines() if line.isdigit()]
    return list(zip(codes, done.stderr.split("the end\n"), strict=False))


NEEDY = {
    'type = "eventbridge"\naws_region = "eu-west-1"': "pip install 'ingestd[aws]'",
    'type = "lake"\nurl = "s3://bucket/x"': "pip install 'ingestd[aws]'",
    'type = "lake"\nurl = "lake"\nformat = "parquet"': "pip install 'ingestd[lake]'",
}


def test_a_replay_into_several_sinks_and_a_lake_needs_no_extra_and_a_sink_that_needs_one_says_which(
    tmp_path: Path,
) -> None:
    first, *others = replays(tmp_path, 'type = "lake"\nurl = "lake"', *NEEDY)
    assert (first[0], len(list(tmp_path.glob("lake/**/*.ndjson.zst")))) == (0, 1), first
    assert [code for code, _ in others] == [2] * len(NEEDY), others
    for said, (_, err) in zip(NEEDY.values(), others, strict=True):
        assert said in err
        assert "Traceback" not in err
