"""What the next admin process finds of the one before, which may have been killed while it wrote."""

from ingestd.app.cluster.kept_counts import Carried, KeptCounts
from ingestd.app.cluster.machine_view import CarriedCounts
from ingestd.telemetry.summed_metrics import SumOfMetrics
from tests.each import each


def test_counts_of_processes_that_died_are_found_by_the_next_one() -> None:
    kept, carried = KeptCounts(), Carried(7.0, 1.0)
    assert kept.read() is None
    counts, sums = CarriedCounts(carried.counts), SumOfMetrics(carried.sums)
    for life, value in ((1, 5), (2, 3)):
        counts.note("worker-1", life, "sink one", value)
        sums.add_up({("worker-1", life): page(value)}, ready=True)
        kept.write(carried)
    found = kept.read()
    assert found
    assert found.started == 7.0
    again = CarriedCounts(found.counts)
    assert again.totals() == {"sink one": 8}
    again.note("worker-1", 2, "sink one", 4)
    assert again.totals() == {"sink one": 9}
    (family,) = SumOfMetrics(found.sums).add_up({("worker-1", 2): page(4)}, ready=True)
    assert [one.value for one in family.samples] == [9]


def page(value: int) -> str:
    return f'# TYPE x_total counter\nx_total{{sink="one"}} {value}\n'


@each("number", [1, 2, 3])
def test_a_writing_that_was_cut_short_leaves_the_one_before(number: int) -> None:
    kept = KeptCounts(4096)
    for started in range(1, number + 1):
        kept.write(Carried(float(started), 0.0))
    assert kept.read() == Carried(float(number), 0.0)
    kept._memory[number % 2 * 4096 + 20] ^= 1
    assert kept.read() == (Carried(number - 1.0, 0.0) if number > 1 else None)
    kept.write(Carried(9.0, 0.0))
    assert kept.read() == Carried(9.0, 0.0)


def test_what_has_no_room_is_not_written() -> None:
    kept, carried = KeptCounts(256), Carried(1.0, 0.0)
    kept.write(carried)
    carried.counts.before = {f"sink {number}": 1.0 for number in range(100)}
    kept.write(carried)
    assert kept.read() == Carried(1.0, 0.0)
