"""Policies spelled as one word: names, options, and what is said about mistakes."""

from __future__ import annotations

from dataclasses import MISSING, dataclass

import pytest

from orcinus.core.component_spec import make as make_any
from orcinus.core.component_spec import make_order, make_policy, options_of, spell, with_option
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.errors import ConfigError


@dataclass
class Example:
    """Has one option of each kind."""

    size: int = 4
    share: float = 0.5
    eager: bool = True
    limit: int | None = None
    mode: str = "soft"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "example", Example)


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("spelled", "policy"),
    [
        ("example", Example()),
        ("example:size=8:share=1", Example(size=8, share=1.0)),
        ("example:eager=false", Example(eager=False)),
        ("example:limit=7", Example(limit=7)),
        ("example:limit=none:mode=hard", Example(mode="hard")),
    ],
)
def test_options_have_the_type_they_are_annotated_with(spelled: str, policy: Example) -> None:
    assert make_policy(spelled) == policy


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("magic", "unknown policy 'magic': choose"),
        ("example:size=big", "option size of policy 'example' must be int, not 'big'"),
        ("example:size=" + 500 * "9", "option size of policy 'example' must be int, at most 10\\^15, not '999"),
        ("example:eager=1", "must be true or false, not '1'"),
        ("example:limit=some", "must be int or none, not 'some'"),
        ("example:colour=red", "its options are size, share, eager, limit, mode"),
        ("example:size", "cannot take 'size'"),
    ],
)
def test_mistakes_are_explained(spelled: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy(spelled)


def test_every_option_of_every_policy_and_order_can_be_spelled() -> None:
    for known, make in ((POLICIES, make_policy), (ORDERS, make_order)):
        for name, kind in known.items():
            options = options_of(kind)
            spelled = ":".join([name, *(f"{key}={str(value).lower()}" for key, value in options.items())])
            assert options == {key: getattr(make(spelled), key) for key in options}


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("sarathi:chunk_size=0", "chunk_size of the policy 'sarathi' must be a whole number of at least 1"),
        ("stall-free:token_budget=-5", "token_budget of the policy 'stall-free' must be"),
        ("latency-target:tbt=0", "tbt of the policy 'latency-target' must be above 0 seconds"),
        ("latency-target:tbt=nan", "must be above 0 seconds"),
        ("latency-target:ttft=-1", "ttft of the policy"),
    ],
)
def test_values_out_of_range_are_refused(spelled: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy(spelled)


@pytest.mark.parametrize("spelled", ["priority:aging=0", "shortest-first:aging=nan", "fair:output_cost=-1", "lifo"])
def test_so_are_orders(spelled: str) -> None:
    with pytest.raises(ConfigError):
        make_order(spelled)


@dataclass(frozen=True)
class Pump:
    """Has an option that must be given, and one that need not."""

    rate: float
    valves: int = 2


PUMPS = {"pump": Pump, "hand": lambda: Pump(1.0)}


@pytest.mark.parametrize(("spelled", "pump"), [("pump:rate=3:valves=4", Pump(3.0, 4)), ("hand", Pump(1.0))])
def test_any_registry_of_dataclasses_and_functions_can_be_spelled(spelled: str, pump: Pump) -> None:
    assert make_any("machine", PUMPS, spelled) == pump


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("pump:valves=1", "machine 'pump' needs rate: write pump:rate=..."),
        ("hand:rate=2", "machine 'hand' cannot take 'rate=2': it has no options"),
        ("wheel", "unknown machine 'wheel': choose pump, hand"),
    ],
)
def test_its_mistakes_are_explained_with_its_noun(spelled: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_any("machine", PUMPS, spelled)


def test_an_option_without_a_default_is_known_by_its_mark() -> None:
    assert options_of(Pump) == {"rate": MISSING, "valves": 2}


def test_one_option_can_be_set_anew() -> None:
    assert with_option("sarathi", "chunk_size", "8") == "sarathi:chunk_size=8"
    assert with_option("fixed:tokens=3:scale=2", "scale", "4") == "fixed:scale=4:tokens=3"


def test_a_policy_is_spelled_as_the_word_that_makes_it() -> None:
    assert spell(make_policy("stall-free:token_budget=7")) == "stall-free:token_budget=7"
    assert spell(make_policy("orca")) == "orca"
    assert spell(make_order("fcfs")) == "fcfs"

    class Mine(type(make_policy("orca"))):  # type: ignore[misc]
        """Not registered."""

    assert spell(Mine()) == "Mine"
