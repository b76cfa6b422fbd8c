"""Which file is read next, and that it costs no look at all of them."""

from ingestd.sources.live.live_file import LiveFile
from ingestd.sources.live.patterns import FoundFile
from ingestd.sources.live.reading import Ending, FileKind
from ingestd.sources.live.turns import Turns


def test_each_file_has_its_turn_without_a_look_at_all() -> None:
    files = {}
    for number in range(1, 101):
        found = FoundFile(f"/in/{number:03}", (1, number), 10, 1_000 - number)
        file = files[found.identity] = LiveFile(found, 0.0, lambda file, position: None)
        file.number, file.kind = number, FileKind.FOLLOWED
    looks = 0

    def ending_of(file: LiveFile) -> Ending:
        nonlocal looks
        looks += 1
        return Ending.CLOSED

    turns = Turns(files, by_time=True, ending_of=ending_of)
    order = []
    while found_next := turns.next():
        file, _ = found_next
        order.append(file.number)
        file.read_size, file.read_ending = file.size, Ending.CLOSED
        turns.has_turn(file)
        if len(order) == 50:
            files[1, 100].size += 1  # it has had its turn: the others go first
            turns.files_changed()
    assert order == [*range(100, 0, -1), 100]
    assert looks < 10 * len(files)
