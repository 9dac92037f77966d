import pytest

from embed_assets.settling import Seen, Settled, settle
from embed_assets.shards import SourceFile

NOW = 1_000_000.0


def file(name: str, version: str = "v1", age: float | None = 3600) -> SourceFile:
    return SourceFile(name, 9, version, None if age is None else NOW - age)


def looked(
    *files: SourceFile, placed: dict[str, str] | None = None, seen: Seen | None = None
) -> Settled:
    seconds = 60 if seen else 0
    began = seen.looked_at if seen else NOW
    return settle(files, placed or {}, seen or Seen(), began + seconds, settle_seconds=10)


@pytest.mark.parametrize(
    ("age", "taken"),
    [(3600, True), (11, True), (9, False), (0, False), (-3600, False), (None, True)],
)
def test_a_file_seen_for_the_first_time_must_have_been_left_alone_for_a_while(
    age: float | None, taken: bool
) -> None:
    assert bool(looked(file("a", age=age)).files) is taken


@pytest.mark.parametrize("age", [5, -3600])
def test_what_two_looks_find_the_same_is_taken_whatever_its_clock_says(age: float) -> None:
    first = looked(file("a", age=age))
    assert looked(file("a", age=age), seen=first.seen).files == [file("a")]


def test_what_has_changed_since_the_last_look_waits_even_if_its_time_is_old() -> None:
    first = looked(file("a", "v1"))
    assert first.files
    # The clock of the machine that writes is an hour behind ours.
    second = looked(file("a", "v2"), placed={"a": "v1"}, seen=first.seen)
    assert second.moving == {"a"}
    assert [f.version for f in second.files] == ["v1"]
    third = looked(file("a", "v2"), placed={"a": "v1"}, seen=second.seen)
    assert [f.version for f in third.files] == ["v2"]


def test_looks_that_follow_each_other_at_once_do_not_count_as_two() -> None:
    first = looked(file("a", age=0))
    assert settle([file("a", age=0)], {}, first.seen, NOW + 5, settle_seconds=10).files == []


def test_planned_files_are_never_held_back() -> None:
    assert looked(file("a", age=0), placed={"a": "v1"}).moving == frozenset()


def test_zero_seconds_hold_nothing_back() -> None:
    assert settle([file("a", age=0), file("b", age=-9)], {}, Seen(), NOW, 0).moving == frozenset()


def test_what_is_remembered_does_not_grow_with_what_moves() -> None:
    many = [file(f"f{n}", age=-1e6) for n in range(5000)]
    first = looked(*many)
    assert len(first.moving) == 5000
    assert len(first.seen.files) == 1000
    assert looked(*many, seen=first.seen).moving == frozenset()
    # One that moves holds back those that were not remembered, and none that was.
    second = looked(*many, file("one more", age=-1e6), seen=first.seen)
    assert len(second.moving) == 4001
