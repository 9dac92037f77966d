from dataclasses import replace

import pytest

from embed_assets.orchestration.due_runs import Shards, due_runs, held_back
from embed_assets.orchestration.sensor_cursor import Asked, SensorCursor, cursor_text, parse_cursor
from embed_assets.staleness import STAGES, Stale

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


def stands_at(**stages: str) -> Shards:
    """Shards that were asked for when they were new, each with the stage that it waits at now."""
    stale = {shard: Stale(stage, "not done yet") for shard, stage in stages.items()}
    asked = {shard: Asked(f"{shard}1", 0) for shard in stages}
    return replace(shards("".join(stages), asked=asked), stale=stale)


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
    assert runs(shards("abc", asked={"b": Asked("b1", 0)})) == ["a", "c"]
    by_settings = {"a": NEW, "b": Stale("chunks", "overlap 0 -> 9", by_settings=True), "c": NEW}
    assert runs(replace(shards("abc"), stale=by_settings)) == ["a", "c"]


def test_what_was_asked_for_is_forgotten_once_it_changed_or_is_up_to_date() -> None:
    asked = {"a": Asked("a0", 2), "b": Asked("b1", 0), "c": Asked("c1", 0)}
    due = due_runs(shards("ab", asked=asked), 3, 0)
    assert due.runs == [["a"]]
    assert due.asked == {"a": Asked("a1", 0), "b": Asked("b1", 0)}


def test_shards_that_their_neighbour_held_back_go_on_without_it() -> None:
    known = stands_at(a="embeddings", b="embeddings", c="chunks", d="embeddings")
    assert held_back(known) == {"a", "b", "c", "d"}
    due = due_runs(replace(known, stopped={"c"}), 9, 0)
    assert due.runs == [["a", "b"], ["d"]]
    assert not due.is_quiet
    # What failed is noted where it stands, and so is nobody's question any more.
    assert due.asked["c"] == Asked("c1", 1)
    assert held_back(replace(known, asked=due.asked)) == set()


def test_shards_are_asked_for_again_only_as_long_as_they_come_further() -> None:
    asked = {"a": Asked("a1", 0)}
    n_runs = 0
    for stage in STAGES:
        # Each stage is looked at twice: what stands still is left alone.
        for _ in range(2):
            known = replace(stands_at(a=stage), asked=asked)
            due = due_runs(known, 3, 0)
            asked = due.asked
            n_runs += len(due.runs)
        assert due.is_quiet
        assert f"1 failed or were cancelled in {stage} (a)" in due.why
    assert n_runs == len(STAGES) - 1


def test_runs_are_of_shards_that_wait_at_one_stage() -> None:
    """One that fails at a stage holds back only those that passed it, which is how it is seen."""
    stages = {"a": "embeddings", "b": "embeddings", "c": "chunks", "d": "chunks", "e": "embeddings"}
    known = stands_at(**stages)
    assert runs(known) == ["cd", "ab", "e"]
    # Also where nothing is remembered.
    assert runs(replace(known, asked={})) == ["cd", "ab", "e"]


def test_what_was_held_back_goes_over_no_shard_that_is_up_to_date() -> None:
    # It may be what held it back: damaged since it was made.
    assert runs(stands_at(a="chunks", c="chunks")) == ["a", "c"]


def test_what_was_held_back_waits_for_others_as_any_shard() -> None:
    known = stands_at(a="chunks", b="chunks", c="chunks")
    due = due_runs(replace(known, busy={"a"}, moving={"b"}), 3, 0)
    assert due.runs == [["c"]]
    assert (due.asked["a"], due.asked["b"]) == (Asked("a1", 0), Asked("b1", 0))
    assert runs(known, n_runs=50) == []
    assert not due_runs(known, 3, n_runs=50).is_quiet


def test_what_was_held_back_and_is_now_outdated_by_settings_waits_for_a_person() -> None:
    known = stands_at(a="chunks")
    by_settings = {"a": Stale("chunks", "overlap 0 -> 9", by_settings=True)}
    assert runs(replace(known, stale=by_settings)) == []


def test_the_cursor_keeps_what_was_asked_for_in_few_characters() -> None:
    asked = {f"shard-{n:06}": Asked("0123456789", n % 4) for n in range(5000)}
    text = cursor_text(SensorCursor(asked=asked))
    assert parse_cursor(text).asked == asked
    assert len(text) < 40 * 5000


@pytest.mark.parametrize("text", [None, "", '{"asked": {"a": "0123456789"}}', "a/3"])
def test_a_cursor_of_another_version_is_an_empty_one(text: str | None) -> None:
    assert parse_cursor(text) == SensorCursor()


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
    failed = dict.fromkeys(many.order[:5000], Asked("v", 0))
    assert due_runs(replace(many, asked=failed), 2, 0).runs == []


def test_it_says_what_it_leaves_alone() -> None:
    by_settings = Stale("chunks", "overlap 0 -> 9", by_settings=True)
    asked = {"a": Asked("a1", 0), "e": Asked("e1", 2), "f": Asked("f1", 2)}
    known = shards("abcdef", asked=asked, busy={"b"}, n_moving_files=2)
    at = Stale("embeddings", "not done yet")
    known = replace(known, stale={**known.stale, "d": by_settings, "e": at, "f": at})
    why = due_runs(known, 3, 0).why
    for part in (
        "1 in progress",
        "2 files",
        "1 failed or were cancelled in raw_corpus (a), 2 failed or were cancelled in embeddings "
        "(e, f); they run again when",
        "1 overlap 0 -> 9",
        "16 shards",
    ):
        assert part in why


def test_it_is_quiet_only_when_nothing_can_happen_by_itself() -> None:
    asked = {"a": Asked("a1", 0)}
    assert due_runs(shards("a", asked=asked), 3, 0).is_quiet
    assert not due_runs(shards("a", asked=asked, busy={"a"}), 3, 0).is_quiet
    assert not due_runs(shards("a", asked=asked, n_moving_files=1), 3, 0).is_quiet
    assert not due_runs(shards("a"), 3, 0).is_quiet
