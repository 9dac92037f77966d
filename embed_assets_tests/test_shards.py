"""A shard plan is stable: files stay where they are, whatever comes, changes or goes."""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_assets import rows
from embed_assets.shards import (
    Assignment,
    Piece,
    ShardPlan,
    SourceFile,
    check_key,
    from_manifest,
    manifest_frame,
    plan_shards,
    shard_version,
)

SHARD_BYTES = 1000


def split(file: SourceFile) -> list[Piece]:
    edges = [*range(0, file.n_bytes, SHARD_BYTES), file.n_bytes] if file.n_bytes else [0, 0]
    return [
        Piece(file.source, start, end, end - start, file.version) for start, end in pairwise(edges)
    ]


def no_split(file: SourceFile) -> list[Piece]:
    raise AssertionError(f"{file.source} did not change and must not be read")


def plan(
    files: list[SourceFile],
    before: ShardPlan | None = None,
    cut: Callable[[SourceFile], list[Piece]] = split,
) -> ShardPlan:
    if before is None:
        return plan_shards([], files, cut, SHARD_BYTES)
    return plan_shards(before.manifest, files, cut, SHARD_BYTES, before.next_number)


def file(source: str, n_bytes: int, version: str = "1") -> SourceFile:
    return SourceFile(source, n_bytes, version)


def shards_of(plan: ShardPlan) -> dict[str, list[str]]:
    shards = defaultdict(list)
    for row in plan.manifest:
        shards[row.piece.source].append(row.shard)
    return dict(shards)


def test_small_files_share_a_shard_and_a_big_one_has_its_own() -> None:
    result = plan([file("a", 300), file("b", 500), file("c", 300), file("d", 300), file("e", 300)])
    assert shards_of(result) == {
        "a": ["shard-000000"],
        "b": ["shard-000001"],
        "c": ["shard-000000"],
        "d": ["shard-000000"],
        "e": ["shard-000002"],
    }
    assert result.added == ("shard-000000", "shard-000001", "shard-000002")


def test_a_big_file_spreads_over_shards() -> None:
    assert shards_of(plan([file("big", 2700)])) == {
        "big": ["shard-000000", "shard-000001", "shard-000002"]
    }


def test_adding_files_never_moves_an_existing_file() -> None:
    first = plan([file("b", 300), file("d", 300)])
    second = plan([file(s, 300) for s in "abcde"], first)
    assert set(first.manifest) <= set(second.manifest)


def test_unchanged_files_are_not_read_again() -> None:
    files = [file("a", 300), file("big", 2500)]
    first = plan(files)
    second = plan(files, first, no_split)
    assert second == replace(first, added=())


def test_a_changed_file_makes_only_its_own_shard_stale() -> None:
    first = plan([file("a", 300), file("b", 900), file("c", 900)])
    second = plan([file("a", 300), file("b", 800, "2"), file("c", 900)], first)
    assert (second.added, second.changed, second.removed) == ((), ("shard-000001",), ())
    assert shards_of(second) == shards_of(first)


def test_a_grown_file_keeps_its_shards_and_gets_new_ones() -> None:
    first = plan([file("big", 2000)])
    second = plan([file("big", 3600, "2")], first)
    assert shards_of(second)["big"] == [f"shard-{n:06d}" for n in range(4)]
    assert second.changed == ("shard-000000", "shard-000001")
    assert second.added == ("shard-000002", "shard-000003")


def test_a_shrunk_file_gives_up_its_last_shards() -> None:
    first = plan([file("big", 3000)])
    second = plan([file("big", 1000, "2")], first)
    assert (second.changed, second.removed) == (
        ("shard-000000",),
        ("shard-000001", "shard-000002"),
    )


def test_a_deleted_file_leaves_its_shard() -> None:
    first = plan([file("a", 300), file("b", 300), file("c", 900)])
    second = plan([file("a", 300)], first)
    assert shards_of(second) == {"a": ["shard-000000"]}
    assert (second.changed, second.removed) == (("shard-000000",), ("shard-000001",))


@pytest.mark.parametrize("version", ["900-1", "900-2"], ids=["mv", "copy and delete"])
def test_a_renamed_file_stays_in_its_shard(version: str) -> None:
    first = plan([file("a", 900, "900-1"), file("b", 901, "901-1"), file("c", 902, "902-1")])
    second = plan(
        [file("a", 900, "900-1"), file("c", 902, "902-1"), file("new/b", 901, version)], first
    )
    assert shards_of(second) == {
        "a": ["shard-000000"],
        "c": ["shard-000002"],
        "new/b": ["shard-000001"],
    }
    assert (second.added, second.changed, second.removed) == ((), ("shard-000001",), ())


def test_files_of_a_renamed_folder_stay_where_they_are() -> None:
    def listed(folder: str, touched: int) -> list[SourceFile]:
        # Many of one size, many in one shard, and one that spreads over three.
        sizes = [300] * 20 + [900] * 5 + [2500]
        return [file(f"{folder}/{i}.txt", n, f"{n}-{i}-{touched}") for i, n in enumerate(sizes)]

    first = plan(listed("old", 1))
    for touched in (1, 2):
        second = plan(listed("new/deeper", touched), first)
        assert shards_of(second) == {
            source.replace("old", "new/deeper"): shards
            for source, shards in shards_of(first).items()
        }
        assert (second.added, second.removed) == ((), ())
        assert second.changed == first.added


def test_of_files_that_look_alike_the_surest_is_taken() -> None:
    names = ["x/a", "x/b", "x/c", "x/d"]
    first = plan([file(name, 900, f"900-{i}") for i, name in enumerate(names)])
    second = plan(
        [
            file("y/a", 900, "900-7"),  # The name of x/a, which y/d takes.
            file("y/b", 900, "900-8"),  # The name of x/b.
            file("y/d", 900, "900-0"),  # The time of x/a.
            file("y/e", 900, "900-9"),  # The size alone, and the first in order.
            file("y/f", 900, "900-9"),
        ],
        first,
    )
    assert shards_of(second) == {
        "y/d": shards_of(first)["x/a"],
        "y/b": shards_of(first)["x/b"],
        "y/a": shards_of(first)["x/c"],
        "y/e": shards_of(first)["x/d"],
        "y/f": ["shard-000004"],
    }


def test_two_files_that_swap_their_sizes_are_told_apart_by_them() -> None:
    first = plan([file("x/a", 800, "800-1"), file("x/b", 900, "900-2")])
    second = plan([file("y/a", 900, "900-2"), file("y/b", 800, "800-3")], first)
    assert shards_of(second) == {"y/a": ["shard-000001"], "y/b": ["shard-000000"]}
    # Under their old names they are two changed files.
    third = plan([file("x/a", 900, "900-2"), file("x/b", 800, "800-1")], first)
    assert shards_of(third) == shards_of(first)


def test_a_renamed_file_is_cut_anew() -> None:
    """It may be another file of the same size and time: its old cuts need not fit."""
    first = plan([file("a", 2500)])

    def thirds(file: SourceFile) -> list[Piece]:
        return [Piece(file.source, i, i + 1, 833, file.version) for i in range(3)]

    second = plan([file("b", 2500)], first, thirds)
    assert [row.piece for row in second.manifest] == thirds(file("b", 2500))
    assert second.added == second.removed == ()


def test_a_removed_shards_key_never_comes_back() -> None:
    first = plan([file("a", 900), file("b", 900)])
    second = plan([file("a", 900)], first)
    third = plan([file("a", 900), file("c", 900)], second)
    assert third.added == ("shard-000002",)
    # Even where the caller lost the count, a key that stands is not handed out twice.
    others = [file("b", 900), file("z", 800, "2")]
    recounted = plan_shards(first.manifest, others, split, SHARD_BYTES)
    assert recounted.added == ("shard-000002",)


def test_new_small_files_fill_the_emptiest_shard_first() -> None:
    first = plan([file(source, 499) for source in "abcdef"])
    assert len(first.added) == 3
    left = [file("a", 499), file("c", 400, "2"), file("e", 499), file("f", 499)]
    second = plan(left, first)
    third = plan([*left, *(file(f"new{n}", 300) for n in range(3))], second)
    # shard 1 holds 400 bytes and takes two; shard 0 holds 499 and takes the third.
    assert shards_of(third)["new0"] == ["shard-000001"]
    assert shards_of(third)["new1"] == ["shard-000001"]
    assert shards_of(third)["new2"] == ["shard-000000"]


def test_keys_of_another_making_are_kept() -> None:
    row = Assignment("my-own", Piece("a", 0, 900, 900, "1"))
    result = plan_shards([row], [file("a", 900), file("b", 900)], split, SHARD_BYTES)
    assert [row.shard for row in result.manifest] == ["my-own", "shard-000000"]


def test_a_file_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' is listed twice"):
        plan([file("a", 1), file("a", 2)])


def test_a_file_without_pieces_is_refused_rather_than_lost() -> None:
    with pytest.raises(ValueError, match="no piece came for 'a'"):
        plan([file("a", 1)], cut=lambda file: [])


corpora = st.dictionaries(
    st.text("abcdef/", min_size=1, max_size=4),
    st.tuples(st.integers(0, 3500), st.sampled_from("123")),
    max_size=25,
).map(lambda corpus: [file(source, n, version) for source, (n, version) in corpus.items()])


@settings(max_examples=150, deadline=None)
@given(corpora, corpora, st.randoms(use_true_random=False))
def test_every_plan_holds_the_promises(
    old: list[SourceFile], new: list[SourceFile], order: random.Random
) -> None:
    first = plan(old)
    second = plan(new, first)

    assert [
        row.piece for row in sorted(second.manifest, key=lambda r: (r.piece.source, r.piece.start))
    ] == [
        piece for f in sorted(new, key=lambda f: f.source) for piece in _stands_or_split(f, first)
    ], "every byte of every file is in exactly one shard"
    unchanged = {f.source for f in new} & {f.source for f in old if f in new}
    for source in unchanged:
        assert shards_of(second)[source] == shards_of(first)[source]

    before, after = _pieces_by_shard(first), _pieces_by_shard(second)
    assert second.added == tuple(sorted(after.keys() - before.keys()))
    assert second.removed == tuple(sorted(before.keys() - after.keys()))
    both = before.keys() & after.keys()
    assert second.changed == tuple(sorted(k for k in both if before[k] != after[k]))
    for key in second.added:
        check_key(key)
        assert sum(piece.n_bytes for piece in after[key]) <= SHARD_BYTES

    shuffled, rows_shuffled = list(new), list(first.manifest)
    order.shuffle(shuffled)
    order.shuffle(rows_shuffled)
    again = plan_shards(rows_shuffled, shuffled, split, SHARD_BYTES, first.next_number)
    assert again == second, "the order of listing does not matter"
    assert plan(new, second, no_split) == replace(second, added=(), changed=(), removed=())


@settings(max_examples=100, deadline=None)
@given(corpora, st.data())
def test_renaming_moves_nothing(old: list[SourceFile], data: st.DataObject) -> None:
    """Nor does it, with the time changed, unless there are several of one size: they may swap."""
    old = [replace(f, version=f"{f.n_bytes}-{i}") for i, f in enumerate(old)]
    first = plan(old)
    moved = set(data.draw(st.lists(st.sampled_from(old)))) if old else set()
    by_mv = plan([_renamed(f, f.version) if f in moved else f for f in old], first)
    by_copy = plan([_renamed(f, f"{f.version}-2") if f in moved else f for f in old], first)
    for f in old:
        assert (
            shards_of(by_mv)[(_renamed(f, "") if f in moved else f).source]
            == shards_of(first)[f.source]
        )
        if f not in moved:
            assert shards_of(by_copy)[f.source] == shards_of(first)[f.source]
    for second in (by_mv, by_copy):
        assert (second.added, second.removed) == ((), ())
        assert _n_bytes(second) == _n_bytes(first)


def _renamed(file: SourceFile, version: str) -> SourceFile:
    return replace(file, source=f"new/{file.source}-{len(file.source)}", version=version)


def _n_bytes(plan: ShardPlan) -> dict[str, list[int]]:
    return {
        key: sorted(piece.n_bytes for piece in pieces)
        for key, pieces in _pieces_by_shard(plan).items()
    }


def _stands_or_split(file: SourceFile, before: ShardPlan) -> list[Piece]:
    old = [row.piece for row in before.manifest if row.piece.source == file.source]
    if old and old[0].version == file.version:
        return sorted(old, key=lambda piece: piece.start)
    return split(file)


def _pieces_by_shard(plan: ShardPlan) -> dict[str, set[Piece]]:
    pieces = defaultdict(set)
    for row in plan.manifest:
        pieces[row.shard].add(row.piece)
    return dict(pieces)


def test_the_manifest_survives_its_table() -> None:
    manifest = plan([file("a", 300), file("dir/ü.csv", 2500)]).manifest
    frame = manifest_frame(manifest, "corpus")
    assert frame.schema == rows.SHARDS
    assert from_manifest(frame) == manifest
    assert from_manifest(manifest_frame([], "corpus")) == []


def test_a_shards_version_knows_content_and_not_order() -> None:
    one, other = Piece("a", 0, 5, 5, "1"), Piece("b", 0, 5, 5, "1")
    assert shard_version([one, other]) == shard_version([other, one])
    versions = {
        shard_version(pieces)
        for pieces in ([one], [other], [one, other], [replace(one, version="2")], [])
    }
    assert len(versions) == 5


@pytest.mark.parametrize("key", ["shard-000000", "A", "9_x-", "x" * 128])
def test_usable_keys_pass(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "-a", "_a", "a'b", "a b", "ä", "a\n", "a/b", "x" * 129])
def test_a_key_that_could_break_a_predicate_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is not usable"):
        check_key(key)
