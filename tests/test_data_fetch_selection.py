"""Which rows a selection takes, and what its file says."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fullsize
from mmaupro_ext.data.schema import CATEGORIES
from mmaupro_ext.data.selection import (
    Criteria,
    make_selection,
    parse_categories,
    parse_length_types,
    proportional_shares,
    read_ids,
    read_selection,
    select,
    write_selection,
)
from mmaupro_ext.errors import ConfigError, DataError

REVISION = "a" * 40


@pytest.fixture(scope="module")
def docs() -> list[dict]:
    return fullsize.rows()


def ids(docs: list[dict], **criteria: object) -> set[str]:
    return {doc["id"] for doc in select(docs, Criteria(**criteria))}


def test_filters_are_combined_with_and(docs: list[dict]) -> None:
    found = select(docs, Criteria(categories=("music", "open"), length_types=("long",)))
    assert found
    assert {doc["category"] for doc in found} == {"music", "open"}
    assert {doc["length_type"] for doc in found} == {"long"}


def test_a_sample_has_the_shares_of_the_whole(docs: list[dict]) -> None:
    counts = Counter(doc["category"] for doc in select(docs, Criteria(limit=530)))
    assert sum(counts.values()) == 530
    for category in CATEGORIES.values():
        exact = category.expected_count * 530 / len(docs)
        # Less than one item from the quota, except where a category is lifted to one item or
        # gives an item for it.
        assert abs(counts[category.value] - exact) < 2
        assert counts[category.value] >= 1


def test_a_sample_of_twelve_has_every_category(docs: list[dict]) -> None:
    counts = Counter(doc["category"] for doc in select(docs, Criteria(limit=12)))
    assert counts == {category.value: 1 for category in CATEGORIES.values()}


def test_a_sample_depends_on_the_seed_and_not_on_the_row_order(docs: list[dict]) -> None:
    shuffled = docs[:]
    random.Random(1).shuffle(shuffled)
    assert ids(docs, limit=60, seed=4) == ids(shuffled, limit=60, seed=4)
    assert ids(docs, limit=60, seed=4) != ids(docs, limit=60, seed=5)


def test_a_known_draw_stays_the_same() -> None:
    """The ids of a published sample must not change with a release of this package.

    The expected ids come from `printf 7:id-N | sha256sum | sort`.
    """
    docs = [{"id": f"id-{n}", "category": "music", "length_type": "short"} for n in range(50)]
    assert sorted(ids(docs, limit=4, seed=7)) == ["id-1", "id-11", "id-27", "id-48"]


def test_a_larger_sample_of_one_category_holds_the_smaller(docs: list[dict]) -> None:
    small = ids(docs, categories=("music",), limit=50)
    assert small < ids(docs, categories=("music",), limit=80)


def test_a_limit_beyond_the_rows_takes_all(docs: list[dict]) -> None:
    assert len(ids(docs, categories=("sound_music_speech",), limit=100)) == 7


@settings(max_examples=100, deadline=None)
@given(
    counts=st.dictionaries(st.text(max_size=3), st.integers(1, 1500), min_size=1, max_size=12),
    limit=st.integers(1, 4000),
)
def test_shares_are_exact_in_sum_and_fair(counts: dict[str, int], limit: int) -> None:
    shares = proportional_shares(counts, limit)
    total = sum(counts.values())
    assert sum(shares.values()) == min(limit, total)
    assert all(0 <= shares[name] <= counts[name] for name in counts)
    if limit >= len(counts):
        assert min(shares.values()) >= 1
    lifted = any(count * limit < total for count in counts.values())
    if limit < total and not lifted:
        assert all(abs(shares[name] * total - counts[name] * limit) < total for name in counts)


def test_selections_grow_and_keep_their_parts(docs: list[dict], tmp_path: Path) -> None:
    first = make_selection(docs, Criteria(categories=("multi",)), REVISION)
    second = make_selection(docs, Criteria(limit=24, seed=2), REVISION, first)
    again = make_selection(docs, Criteria(limit=24, seed=2), REVISION, second)
    assert first.ids <= second.ids
    assert second.by_category["multi"] == 430
    assert [part["description"] for part in again.parts] == [
        "category multi",
        "stratified sample of 24, seed 2",
    ]
    write_selection(tmp_path, again)
    assert read_selection(tmp_path) == again
    content = json.loads((tmp_path / "selection.json").read_text())
    assert content["parts"][1]["seed"] == 2
    assert content["count"] == len(again.ids)
    assert list(tmp_path.iterdir()) == [tmp_path / "selection.json"]


def test_selections_of_two_revisions_do_not_mix(docs: list[dict]) -> None:
    first = make_selection(docs, Criteria(limit=12), "b" * 40)
    with pytest.raises(DataError, match="Name another folder with --to"):
        make_selection(docs, Criteria(limit=12), REVISION, first)


def test_ids_of_another_dataset_are_noticed(docs: list[dict]) -> None:
    first = make_selection(docs, Criteria(limit=12), REVISION)
    with pytest.raises(DataError, match="items that test.parquet has not"):
        make_selection(docs[:100], Criteria(limit=12), REVISION, first)


def test_one_line_says_how_much_and_which(docs: list[dict]) -> None:
    chosen = make_selection(docs, Criteria(limit=120, seed=9), REVISION)
    assert chosen.describe() == (
        "unfinished download: 120 of 5,305 items (stratified sample of 120, seed 9); run the same "
        "`mmaupro data fetch` again"
    )


def test_a_folder_without_the_file_has_no_selection(tmp_path: Path) -> None:
    assert read_selection(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"format": 2}', b'{"format": 1, "ids": 3}', b"\xff", b'{"format": 1}'],
)
def test_a_selection_that_cannot_be_read_is_never_taken_for_everything(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "selection.json").write_bytes(content)
    with pytest.raises(DataError, match="Delete it and run"):
        read_selection(tmp_path)


def test_a_file_of_ids_has_comments_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("# mine\na\n\n  b  \na\n")
    assert read_ids(path) == ("a", "b")


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe"])
def test_a_file_without_ids_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="one id per line"):
        read_ids(path)


def test_a_missing_file_of_ids_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt: not readable"):
        read_ids(tmp_path / "none.txt")


def test_category_names_are_slugs_or_values() -> None:
    assert parse_categories(["instruction_following", "music"]) == (
        "music",
        "instruction following",
    )
    with pytest.raises(ConfigError, match="unknown category 'musik'. The categories: sound"):
        parse_categories(["musik"])
    with pytest.raises(ConfigError, match="short, medium, long, ultra-long"):
        parse_length_types(["ultralong"])


def test_filters_that_leave_nothing_are_refused(docs: list[dict]) -> None:
    with pytest.raises(ConfigError, match="no item of the dataset is left by: category music, a"):
        select(docs, Criteria(categories=("music",), ids=(docs[0]["id"],)))


def test_a_limit_below_one_is_refused(docs: list[dict]) -> None:
    with pytest.raises(ConfigError, match="--limit 0"):
        select(docs, Criteria(limit=0))
