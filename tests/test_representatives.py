"""Which clips stand for all: every domain and condition, none at the edge, the same each time."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from nearfar.detector import representatives as module
from nearfar.detector.representatives import representatives, shares


def mean_distance(X: np.ndarray, chosen: list[int]) -> float:
    scaled = X / X.std(axis=0)
    return float(np.mean([min(np.sqrt(np.mean((x - scaled[i]) ** 2)) for i in chosen) for x in scaled]))


def test_shares_are_as_even_as_counts_allow() -> None:
    assert shares({"a": 990, "b": 10}, 24) == {"a": 14, "b": 10}
    assert shares({"a": 990, "b": 500}, 24) == {"a": 12, "b": 12}
    assert shares({"a": 3, "b": 2}, 24) == {"a": 3, "b": 2}
    assert shares({"": 100}, 24) == {"": 24}
    assert shares({}, 24) == {}


def test_of_few_target_clips_all_are_taken_up_to_half(rng: np.random.Generator) -> None:
    X = rng.standard_normal((100, 5))
    for target, expected in ((3, 3), (10, 10), (30, 12)):
        domain = ["source"] * (100 - target) + ["target"] * target
        found = representatives(domain, [""] * 100, [X], 24)
        assert len(found) == 24
        assert sum(domain[i] == "target" for i in found) == expected


def test_every_condition_has_its_share(rng: np.random.Generator) -> None:
    X = rng.standard_normal((100, 5))
    attributes = ["speed_1"] * 90 + ["speed_2"] * 8 + ["speed_3"] * 2
    found = representatives(["source"] * 100, attributes, [X], 12)
    assert [sum(attributes[i] == f"speed_{k}" for i in found) for k in (1, 2, 3)] == [5, 5, 2]
    each = [f"load_{i}" for i in range(100)]  # more conditions than can be taken
    assert len(representatives(["source"] * 100, each, [X], 12)) == 12


def test_they_are_nearer_to_all_than_nearly_any_other_choice(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.standard_normal((6, 2)) + offset for offset in ((0, 0), (5, 0), (0, 5))])
    found = representatives([""] * 18, [""] * 18, [X], 3)
    every = [mean_distance(X, list(three)) for three in combinations(range(18), 3)]
    assert np.mean(np.array(every) < mean_distance(X, found)) < 0.15
    assert {i // 6 for i in found} == {0, 1, 2}


def test_one_clip_far_from_all_others_is_not_preferred(rng: np.random.Generator) -> None:
    X = rng.standard_normal((60, 3))
    X[17] += 50
    assert 17 not in representatives([""] * 60, [""] * 60, [X], 6)


def test_suspects_are_left_out_unless_there_is_little_else(rng: np.random.Generator) -> None:
    X = rng.standard_normal((20, 3))
    domain = ["source"] * 16 + ["target"] * 4
    found = representatives(domain, [""] * 20, [X], 12, suspects={0, 1, 16, 17, 18})
    assert not {0, 1} & {*found}
    assert {16, 17, 18} <= {*found}  # three of the four of the target


def test_what_was_taken_stays_and_makes_room_only_for_a_new_condition(rng: np.random.Generator) -> None:
    X, domain = rng.standard_normal((60, 4)), ["source"] * 40 + ["target"] * 20
    first = representatives(domain[:40], [""] * 40, [X[:40]], 8)
    available = np.zeros(60, bool)
    available[first] = available[40:] = True
    found = representatives(domain, [""] * 60, [X], 8, available=available, taken=first)
    assert {i for i in found if i < 40} < {*first}
    assert [domain[i] for i in found].count("target") == 4
    more = ["source"] * 60  # nothing new: nothing changes
    assert representatives(more, [""] * 60, [X], 8, available=available, taken=first) == first


def test_every_array_counts_alike_whatever_its_units(rng: np.random.Generator) -> None:
    X = [rng.standard_normal((50, 4)), rng.standard_normal((50, 2, 3))]
    expected = representatives([""] * 50, [""] * 50, X, 7)
    assert representatives([""] * 50, [""] * 50, [1e4 * X[0] + 3, 1e-4 * X[1]], 7) == expected


def test_of_many_clips_some_are_compared(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COMPARED", 30)
    X = rng.standard_normal((200, 3))
    found = representatives([""] * 200, [""] * 200, [X], 10, taken={7})
    assert len(found) == 10
    assert 7 in found


def test_clips_that_are_all_alike() -> None:
    assert representatives([""] * 9, [""] * 9, [np.ones((9, 2))], 3) == [0, 1, 2]
