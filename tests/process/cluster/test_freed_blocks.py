"""Memory of blocks as large as a chunk is not given back and asked for again."""

import platform
import subprocess
import sys

import pytest

_PAGES_ASKED_FOR = """
import resource
from ingestd.app.cluster.freed_blocks import keep_freed_blocks

def pages() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        blocks = [bytes([1]) * 300_000 for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(pages())
keep_freed_blocks()
pages()
print(pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_pages_of_freed_blocks_stay_with_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PAGES_ASKED_FOR], capture_output=True, check=True, text=True
    )
    before, after = map(int, done.stdout.split())
    assert before > 10_000
    assert after < 100
