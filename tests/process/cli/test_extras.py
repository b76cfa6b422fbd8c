"""The core runs without the extras, and says which one a sink needs."""

import os
import subprocess
import sys
from pathlib import Path

from tests.each import each
from tests.machine import patience

BLOCKED = ("botocore", "boto3", "pyarrow", "moto")
EVENT = (
    '{"interactionId":"i-1","eventType":"call","eventTime":"2026-01-01T10:00:00Z","routingMetadata":'
    '{"queueId":"q","skill":"s","actionType":"ANSWER"},"attributes":{},"schemaVersion":1}'
)


def ingestd(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a Python that has none of the extras' packages."""
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in BLOCKED)]
    (directory / "sitecustomize.py").write_text("\n".join(lines))
    environment = os.environ | {"PYTHONPATH": str(directory), "XDG_STATE_HOME": str(directory)}
    return subprocess.run(
        [sys.executable, "-m", "ingestd", *arguments],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=patience(50),
        check=False,
    )


def test_a_replay_into_several_sinks_and_a_lake_needs_no_extra(tmp_path: Path) -> None:
    (tmp_path / "events.ndjson").write_text(EVENT + "\n")
    (tmp_path / "c.toml").write_text(
        '[sinks.api]\ntype = "ingest_api"\n[sinks.lake]\ntype = "lake"\nurl = "lake"\n'
    )
    done = ingestd(tmp_path, "replay", "events.ndjson", "--sandbox", "--config", "c.toml")
    assert (done.returncode, len(list(tmp_path.glob("lake/**/*.ndjson.zst")))) == (0, 1), done.stderr


@each(
    ("sink", "said"),
    [
        ('type = "eventbridge"\naws_region = "eu-west-1"', "pip install 'ingestd[aws]'"),
        ('type = "lake"\nurl = "s3://bucket/x"', "pip install 'ingestd[aws]'"),
        ('type = "lake"\nurl = "lake"\nformat = "parquet"', "pip install 'ingestd[lake]'"),
    ],
)
def test_a_sink_that_needs_an_extra_says_which(tmp_path: Path, sink: str, said: str) -> None:
    (tmp_path / "events.ndjson").write_text(EVENT + "\n")
    (tmp_path / "c.toml").write_text(f'[sinks.api]\ntype = "ingest_api"\n[sinks.other]\n{sink}\n')
    done = ingestd(tmp_path, "replay", "events.ndjson", "--sandbox", "--config", "c.toml")
    assert done.returncode == 2, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr
