"""Fault 53 of the tutorial on topic subscriptions: filters are patterns, equal if they mean the same."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.control.engine.compare import canonical
from ingestd.control.subscription.filter_policy import canonical_policy
from tests.effort import examples

leaf = st.one_of(
    st.text("abc", max_size=2), st.integers(-3, 3), st.booleans(), st.none(), st.floats(-3, 3, width=16)
)
operator = st.one_of(
    st.fixed_dictionaries({"prefix": st.text("abc", min_size=1, max_size=2)}),
    st.fixed_dictionaries({"anything-but": st.lists(st.text("ab", max_size=2), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"numeric": st.just([">", 0, "<=", 5])}),
)
policies = st.recursive(
    st.dictionaries(
        st.sampled_from(["a", "b", "numeric"]),
        st.lists(st.one_of(leaf, operator), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    ),
    lambda below: st.dictionaries(st.sampled_from("cd"), below, min_size=1, max_size=2),
    max_leaves=4,
)


def shuffled(value: Any, draw: st.DataObject, *, operand: bool = False) -> Any:
    if isinstance(value, dict):
        names = draw.draw(st.permutations(list(value)))
        return {name: shuffled(value[name], draw, operand=name == "numeric") for name in names}
    if isinstance(value, list) and not (operand and value[:1] == [">"]):
        return [shuffled(one, draw) for one in draw.draw(st.permutations(value))]
    return value


@settings(max_examples=examples(50))
@given(policy=policies, draw=st.data())
def test_a_filter_written_in_another_order_is_the_same_filter(policy: Any, draw: st.DataObject) -> None:
    one, other = canonical_policy(policy), canonical_policy(shuffled(policy, draw))
    assert canonical(one) == canonical(other)
    assert canonical_policy(one) == one


def test_filters_that_differ_stay_different() -> None:
    def differ(one: Any, other: Any) -> bool:
        return canonical(canonical_policy(one)) != canonical(canonical_policy(other))

    assert differ({"a": [1]}, {"a": [True]})
    assert differ({"a": [{"numeric": [">", 1, "<", 5]}]}, {"a": [{"numeric": ["<", 5, ">", 1]}]})
    assert differ({"a": ["1"]}, {"a": [1]})
    assert not differ({"a": [300, "x"]}, {"a": ["x", 3e2, 300]})
