"""A state directory whose path means something in a URI, or is not UTF-8, is read like any other."""

import os
from pathlib import Path

import pytest

from ingestd.store.connection import connect
from tests.each import each

NAMES = [b"what?mode=rw", b"100%25", b"a#b", b"no utf-8 \xff"]


@each("name", NAMES, ids=repr)
def test_a_state_file_is_found_to_be_read(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    connect(path).close()
    reader = connect(path, read_only=True)
    try:
        assert reader.execute("SELECT count(*) FROM sources").fetchone() == (0,)
        with pytest.raises(Exception, match="readonly"):
            reader.execute("DELETE FROM sources")
    finally:
        reader.close()
