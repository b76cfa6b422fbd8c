"""When a member joins again because nobody reads some partitions."""

from typing import Any, cast

import pytest

from ingestd.sources.kafka.settings import KafkaConfig
from ingestd.sources.kafka.unowned import Unowned

DRAIN_S, FOR_S = 20.0, 30.0


class Hand:
    """A clock that is set by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("has_some", [False, True])
def test_it_joins_again_when_they_were_unowned_for_longer_than_they_are_given_back_and_then_not_at_once(
    has_some: bool,
) -> None:
    clock, said = Hand(), list[str]()
    one = Unowned(
        KafkaConfig.model_validate({"topics": "t"}),
        cast("Any", clock),
        drain_s=DRAIN_S,
        for_s=FOR_S,
        warn=said.append,
    )
    least_s = DRAIN_S + FOR_S * (2 if has_some else 1)
    assert not one.is_over(2, has_some=has_some)
    clock.now += least_s - 1
    assert not one.is_over(2, has_some=has_some)
    assert not one.is_over(0, has_some=has_some), "somebody has them"
    clock.now += 2
    assert not one.is_over(1, has_some=has_some), "these are new"
    clock.now += least_s
    assert one.is_over(1, has_some=has_some)
    assert said == ["the group has 1 partitions that no member reads; this one joins it again"]
    clock.now += 1
    assert not one.is_over(1, has_some=has_some)
    clock.now += least_s - 1
    assert not one.is_over(1, has_some=has_some)
    clock.now += 1
    assert one.is_over(1, has_some=has_some)
