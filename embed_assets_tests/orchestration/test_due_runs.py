from dataclasses import replace

import pytest

from embed_assets.orchestration.due_runs import Shards, due_runs
from embed_assets.staleness import Stale

NEW = Stale("raw_corpus", "new")


def shards(stale: str, order: str = "abcdefghijklmnop", **known: object) -> Shards:
    plain = Shards(
        order=list(order),
        stale=dict.fromkeys(stale, NEW),
        versions={s: f"{s}1" for s in stale},
        asked={},
        busy=frozenset(),
        moving=frozenset(),
        n_moving_files=0,
    )
    return replace(plain, **known)  # type: ignore[arg-type]


def backlog(n_shards: int) -> Shards:
    """So many new shards that nobody has asked for."""
    order = [f"s{n:04}" for n in range(n_shards)]
    stale, versions = dict.fromkeys(order, NEW), dict.fromkeys(order, "v")
    return replace(shards(""), order=order, stale=stale, versions=versions)


def runs(known: Shards, shards_per_run: int = 3, n_runs: int = 0) -> list[str]:
    return ["".join(run) for run in due_runs(known, shards_per_run, n_runs).runs]


@pytest.mark.parametrize(
    ("stale", "expected"),
    [
        ("", []),
        ("abc", ["abc"]),
        ("abcd", ["abc", "d"]),
        ("ace", ["abcde"]),
        ("acegi", ["abcde", "ghi"]),
        ("ag", ["abcdefg"]),
        ("ah", ["a", "h"]),
    ],
)
def test_a_run_goes_over_a_few_shards_that_are_up_to_date(stale: str, expected: list[str]) -> None:
    assert runs(shards(stale)) == expected


def test_no_run_goes_over_a_shard_that_is_in_other_hands_or_moves() -> None:
    assert runs(replace(shards("ac"), busy={"b"})) == ["a", "c"]
    assert runs(replace(shards("ac"), moving={"b"})) == ["a", "c"]


def test_no_run_goes_over_a_shard_that_failed_or_waits_for_a_person() -> None:
    assert runs(shards("abc", asked={"b": "b1"})) == ["a", "c"]
    by_settings = {"a": NEW, "b": Stale("chunks", "overlap 0 -> 9", by_settings=True), "c": NEW}
    assert runs(replace(shards("abc"), stale=by_settings)) == ["a", "c"]


def test_what_was_asked_for_is_forgotten_once_it_changed_or_is_up_to_date() -> None:
    due = due_runs(shards("ab", asked={"a": "a0", "b": "b1", "c": "c1"}), 3, 0)
    assert due.runs == [["a"]]
    assert due.asked == {"a": "a1", "b": "b1"}


def test_a_backlog_is_asked_for_as_runs_end() -> None:
    many = backlog(1000)
    first = due_runs(many, 2, n_runs=0)
    assert len(first.runs) == 50
    assert len(first.asked) == 100
    assert not first.is_quiet
    later = due_runs(replace(many, asked=first.asked, busy=first.asked.keys()), 2, n_runs=48)
    assert later.runs == [["s0100", "s0101"], ["s0102", "s0103"]]


def test_where_everything_fails_nothing_more_is_asked_for() -> None:
    many = backlog(6000)
    failed = dict.fromkeys(many.order[:5000], "v")
    assert due_runs(replace(many, asked=failed), 2, 0).runs == []


def test_it_says_what_it_leaves_alone() -> None:
    by_settings = Stale("chunks", "overlap 0 -> 9", by_settings=True)
    known = shards("abcd", asked={"a": "a1"}, busy={"b"}, n_moving_files=2)
    known = replace(known, stale={**known.stale, "d": by_settings})
    why = due_runs(known, 3, 0).why
    for part in ("1 in progress", "2 files", "1 failed", "(a)", "1 overlap 0 -> 9", "16 shards"):
        assert part in why


def test_it_is_quiet_only_when_nothing_can_happen_by_itself() -> None:
    asked = {"a": "a1"}
    assert due_runs(shards("a", asked=asked), 3, 0).is_quiet
    assert not due_runs(shards("a", asked=asked, busy={"a"}), 3, 0).is_quiet
    assert not due_runs(shards("a", asked=asked, n_moving_files=1), 3, 0).is_quiet
    assert not due_runs(shards("a"), 3, 0).is_quiet
