import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincl_med.foundation.arrays import Positions
from braincl_med.foundation.errors import ConfigError
from braincl_med.streams.shares import Share, share_of

SHARES: tuple[Share, ...] = ("iid", "dirichlet", "by-class", "one-class")


def all_shares(
    labels: np.ndarray,
    classes: dict[int, str],
    share: Share,
    hospitals: int,
    cap: int = 1000,
    alpha: float = 0.5,
    seed: int = 0,
) -> list[Positions]:
    return [share_of(labels, classes, cap, share, alpha, hospitals, h, seed) for h in range(hospitals)]


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), max_size=60).map(lambda held: np.array(held, np.int64)),
    learned=st.sets(st.integers(0, 6), min_size=1),
    cap=st.integers(1, 12),
    share=st.sampled_from(SHARES),
    alpha=st.sampled_from([1e-6, 1e-2, 0.5, 100.0]),
    hospitals=st.integers(1, 9),
    seed=st.integers(0, 2**31 - 1),
)
def test_shares_are_disjoint_complete_and_capped(
    labels: np.ndarray, learned: set[int], cap: int, share: Share, alpha: float, hospitals: int, seed: int
) -> None:
    classes = {label: f"set/{label}" for label in learned}
    shares = all_shares(labels, classes, share, hospitals, cap, alpha, seed)
    together = np.concatenate(shares)
    assert len(np.unique(together)) == len(together)
    for label in range(7):
        expected = min(cap, int((labels == label).sum())) if label in learned else 0
        assert (labels[together] == label).sum() == expected
    np.testing.assert_array_equal(
        shares[-1], share_of(labels, classes, cap, share, alpha, hospitals, hospitals - 1, seed)
    )


def balanced(classes: int, each: int) -> tuple[np.ndarray, dict[int, str]]:
    return np.repeat(np.arange(classes), each), {c: f"set/{c}" for c in range(classes)}


def test_iid_shares_are_even() -> None:
    shares = all_shares(*balanced(4, 100), "iid", 3)
    assert sorted(map(len, shares)) == [133, 133, 134]
    assert all(np.bincount(np.repeat(np.arange(4), 100)[held]).min() > 15 for held in shares)


@pytest.mark.parametrize(("classes", "hospitals"), [(4, 3), (4, 2), (8, 3), (3, 3)])
def test_by_class_no_class_lies_at_two_hospitals(classes: int, hospitals: int) -> None:
    labels, named = balanced(classes, 20)
    held = [set(labels[index].tolist()) for index in all_shares(labels, named, "by-class", hospitals)]
    assert sum(map(len, held)) == classes
    assert all(held)


def test_by_class_more_hospitals_than_classes_share_a_class() -> None:
    labels, named = balanced(2, 20)
    held = all_shares(labels, named, "by-class", 5)
    assert all(len(set(labels[index].tolist())) == 1 for index in held)


@pytest.mark.parametrize("hospitals", [2, 4])
def test_with_one_class_the_last_hospital_alone_is_unlucky(hospitals: int) -> None:
    *lucky, unlucky = all_shares(*balanced(4, 60), "one-class", hospitals)
    labels = np.repeat(np.arange(4), 60)
    assert len(set(labels[unlucky].tolist())) == 1
    assert len(unlucky) == 60 // hospitals
    others = labels[np.concatenate(lucky)]
    assert np.bincount(others).tolist().count(60) == 3
    assert max(map(len, lucky)) - min(map(len, lucky)) <= 2
    for held in lucky:
        assert len(set(labels[held].tolist())) == 4


def test_a_task_of_one_class_is_shared_evenly_by_all() -> None:
    assert [len(held) for held in all_shares(*balanced(1, 60), "one-class", 4)] == [15, 15, 15, 15]


def test_a_small_alpha_skews_more_than_a_large_one() -> None:
    labels, named = balanced(8, 100)

    def spread(alpha: float) -> float:
        counts = [
            np.bincount(labels[held], minlength=8) for held in all_shares(labels, named, "dirichlet", 3, alpha=alpha)
        ]
        return float(np.std(counts))

    assert spread(0.1) > 2 * spread(100)


@pytest.mark.parametrize("share", SHARES)
def test_another_seed_gives_another_share(share: Share) -> None:
    labels, named = balanced(6, 50)
    first = all_shares(labels, named, share, 3)
    assert any(
        not np.array_equal(a, b)
        for seed in (1, 2, 3)
        for a, b in zip(first, all_shares(labels, named, share, 3, seed=seed), strict=True)
    )


def test_which_scans_are_kept_does_not_depend_on_the_numbering() -> None:
    labels = np.array([0, 1] * 50)
    kept = share_of(labels, {0: "set/a", 1: "set/b"}, 5, "iid", 0.5, 1, 0, 7)
    renumbered = share_of(labels + 3, {4: "set/b", 3: "set/a"}, 5, "iid", 0.5, 1, 0, 7)
    np.testing.assert_array_equal(kept, renumbered)


def test_a_hospital_that_does_not_take_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 take part"):
        share_of(np.zeros(5, np.int64), {0: "set/0"}, 5, "iid", 0.5, 3, 3, 0)
