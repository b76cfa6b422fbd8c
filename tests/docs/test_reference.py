"""The generated pages are those that the code makes now."""

import subprocess
import sys
from pathlib import Path

from ingestd.telemetry.audit_entry import AuditEntry
from tests.docs.pages import ROOT
from tests.docs.reference import FOLDER, PAGES


def test_the_pages_of_the_reference_are_what_the_code_says_now(tmp_path: Path) -> None:
    """In a process of its own: what other tests have done to a command does not show in its help."""
    subprocess.run([sys.executable, "-m", "tests.docs.reference", str(tmp_path)], cwd=ROOT, check=True)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert all(entry.meaning for entry in AuditEntry)
    assert made.keys() == there.keys() == PAGES.keys()
    assert [name for name, text in made.items() if text != there[name]] == [], "run `make reference`"
