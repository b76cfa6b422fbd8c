"""Coverage-guided fuzzing: what the accelerator accepts the definition accepts too, with the same key.

``make fuzz-accelerator`` builds it with counters of its branches and runs this under libFuzzer (atheris),
which also sees the branches of ``ingestd.schemas``. An input is lines, as in a file. Arguments: a folder for
the corpus, then libFuzzer's.
"""

import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ingestd.schemas"]):
    from tests.unit.processing.test_accelerator import PIECES, VALID, check


def one(data: bytes) -> None:
    check(data.split(b"\n"))


def seeds(folder: Path) -> None:
    """Where it begins: valid events of several shapes, and such as are broken in one place."""
    folder.mkdir(parents=True, exist_ok=True)
    event = json.loads(VALID)
    shapes = [VALID, json.dumps(event, indent=1).replace("\n", " ").encode(), json.dumps(event).encode()]
    shapes += [VALID[:at] + piece + VALID[at:] for at in range(0, len(VALID), 9) for piece in PIECES[:40:3]]
    for number, shape in enumerate(shapes):
        (folder / f"seed-{number}").write_bytes(shape)


def main() -> None:
    corpus = Path(sys.argv[1])
    seeds(corpus)
    words = [b'"eventType"', b'"eventTime"', b'"interactionId"', b'"routingMetadata"', b'"attributes"']
    words += [
        b'"schemaVersion"',
        b'"queueId"',
        b'"skill"',
        b'"actionType"',
        b'"TRANSFER"',
        b"2024-02-29T23:59:60Z",
    ]
    dictionary = corpus.with_suffix(".dict")
    escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in [*words, *filter(None, PIECES)]]
    dictionary.write_text("\n".join(f'"{word}"' for word in escaped))
    atheris.Setup([sys.argv[0], f"-dict={dictionary}", "-max_len=1200", *sys.argv[1:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
