"""Shared noise: enough is in every sum that a server can get, also one that lies and has a hospital's help."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from braincl_med.dp.gaussian import delta_of, multiplier_for
from braincl_med.dp.ledger import Ledger
from braincl_med.dp.shares import count_deviation, hidden_least, noise_share
from braincl_med.dp.statistics import COUNTS
from braincl_med.federation.masks import context_of
from braincl_med.foundation.errors import PrivacyError
from braincl_med.masking.agreement import add_stream
from braincl_med.masking.protocol import reveal
from braincl_med.masking.shamir import SHARE, combine, weights
from braincl_med.messages.order import Order
from braincl_med.methods.private import digest_of, entry_of, tell_counts, tell_statistics
from braincl_med.streams.named import build_registry
from braincl_med.streams.tasks import ClassSpec, Registry, Scans, TaskSpec
from tests.federation.experiments import tiny
from tests.masking.hospitals import Round

SHARED = {
    "cortex_features": 8,
    "privacy_mode": "statistics",
    "privacy_noise": "shared",
    "privacy_epsilon": 50,
    "federation_hospitals": 5,
    "federation_masking": "on",
    "stream_task_count": 2,
}


def stories(names, outside, threshold):
    """Who is said to each hospital to have dropped out, such that `threshold` are told so of everyone outside."""
    told = {name: [] for name in names}
    for away in outside:
        free = [n for n in names if n != away and len(told[n]) < len(names) - threshold]
        for name in sorted(free, key=lambda n: len(told[n]))[:threshold]:
            told[name].append(away)
    return told


@pytest.mark.parametrize(("count", "threshold", "inside"), [(7, 4, 2), (5, 3, 2), (10, 7, 6)])
def test_a_server_that_tells_hospitals_different_stories_sums_fewer_and_enough_noise_is_left(
    count, threshold, inside
):
    """What `masking` cannot refuse without another exchange; `hidden_least` counts on it."""
    sum_of = Round(count, threshold, size=8)
    names, within = sum_of.names, sum_of.names[:inside]
    dropped = stories(names, names[inside:], threshold)
    assert all(sum(away in said for said in dropped.values()) >= threshold for away in names[inside:])
    shares = {}
    for name in names:
        out = sorted(dropped[name])
        alive = [other for other in names if other not in out]
        told = reveal(sum_of.parties[name], alive, out, sum_of.boxes(name))
        for one in within:
            for place, other in enumerate((one, *out)):
                part = told[one][SHARE * place : SHARE * (place + 1)]
                shares.setdefault((one, other), {})[names.index(name) + 1] = part
    total = sum((sum_of.masked[name][64] for name in within), np.zeros(2, np.uint64))
    for one, other in itertools.product(within, [None, *names[inside:]]):
        known = shares[one, other or one]
        some = dict(itertools.islice(known.items(), threshold))
        seed = combine(some, weights(list(some)))
        sign = 1 if other is None or one < other else -1
        both = [sum_of.masked[one][32].copy() * 0, total]  # the narrower ring's part of the stream comes first
        add_stream(seed, both, -sign)
    plain = sum((sum_of.plain[name][64] for name in within), np.zeros(2, np.uint64))
    assert np.array_equal(total, plain), "fewer than the threshold, in clear"
    assert inside < threshold
    assert hidden_least(count, threshold) <= inside


def test_where_lies_gain_nothing_everybody_but_oneself_in_a_sum_of_the_threshold_is_counted_on():
    assert [hidden_least(n, t) for n, t in ((3, 2), (3, 3), (4, 3), (5, 4), (5, 5), (10, 8))] == [1, 2, 2, 3, 4, 7]
    for n in range(3, 101):
        for t in range(n // 2 + 1, n + 1):
            assert 1 <= hidden_least(n, t) <= t - 1


@pytest.mark.parametrize("epsilon", [0.5, 1, 3, 5, 30])
def test_noise_of_many_on_whole_counts_is_not_rounded_away_before_it_is_summed(tmp_path, epsilon):
    config = tiny(
        tmp_path, **{**SHARED, "federation_hospitals": 100, "privacy_figures_epsilon": epsilon, "privacy_epsilon": 99}
    )
    multiplier, delta = multiplier_for(epsilon, config.privacy.delta), config.privacy.delta
    deviation = count_deviation(config, multiplier)
    edges = (np.arange(-4000, 4001) + 0.5) / deviation
    normal = np.array([0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges])
    one = np.concatenate([np.diff(normal), [0]])
    others = hidden_least(100, config.federation.masked_least)
    summed = np.fft.fft(np.fft.ifftshift(one)) ** others
    chances = np.maximum(np.fft.fftshift(np.fft.ifft(summed).real), 0)
    assert np.maximum(chances[1:] - math.exp(epsilon) * chances[:-1], 0).sum() <= delta
    assert delta_of(multiplier, epsilon) <= delta


def site_of(config, folder, **more):
    given = {
        "config": config, "share": 0, "name": "site-0", "ledger": Ledger(folder, 50, 1e-5),
        "method": SimpleNamespace(network=lambda *_: None),
    }  # fmt: skip
    return SimpleNamespace(**{**given, **more})


def order_of(config, task=0, phase="release"):
    return Order("tiny", task, phase, 0, build_registry(config.stream, config.seed))


def test_with_another_share_of_the_noise_an_order_is_another_release(tmp_path):
    """Else a run whose threshold is lowered would sum numbers that were drawn for sums of more hospitals."""
    more, fewer = (tiny(tmp_path, **{**SHARED, "federation_masking_threshold": t}) for t in (5, 3))
    assert noise_share(more) < noise_share(fewer)
    digests = {digest_of(site_of(one, tmp_path), order_of(one)) for one in (more, fewer)}
    assert len(digests) == 2
    assert context_of(order_of(more), more) != context_of(order_of(more), fewer)
    louder = tiny(tmp_path, **{**SHARED, "federation_masking_threshold": 5, "privacy_release_epsilon": 40})
    assert context_of(order_of(more), more) != context_of(order_of(more), louder), "masks of both do not cancel"


def scans_of(labels, patients=None):
    labels = np.array(labels, np.int64)
    return Scans(np.zeros((len(labels), 28, 28, 3), np.uint8), labels, patients)


def test_with_shared_noise_a_task_that_was_missed_is_not_told_of(tmp_path, monkeypatch):
    """Of the order's task all hospitals of the sum draw noise, of a former one this hospital alone would."""
    monkeypatch.setattr("braincl_med.methods.private.extract_features", lambda _, images: torch.ones(len(images), 8))
    config = tiny(tmp_path, **SHARED)
    site, order = site_of(config, tmp_path), order_of(config, task=1)
    first, second = (list(order.registry.numbers(task)) for task in (0, 1))
    report = tell_statistics(site, order, {0: scans_of(first), 1: scans_of(second)})
    assert report.examples == 1, "a rounded number would tell what little noise hides"
    assert not report.weights[COUNTS][first].any()
    assert report.weights[COUNTS][second].all()
    with pytest.raises(PrivacyError, match="adds no noise"):
        tell_statistics(site_of(config, tmp_path / "other"), order, {0: scans_of(first)})


def test_with_shared_noise_patients_cost_what_the_others_draw_for_them(tmp_path):
    config = tiny(tmp_path, **SHARED)
    registry = build_registry(config.stream, config.seed)
    by_task = [list(registry.numbers(task)) for task in (0, 1)]
    known = {task: scans_of(labels, np.arange(len(labels))) for task, labels in enumerate(by_task)}
    entries = []
    for patients in (True, False):
        answers = SimpleNamespace(
            network=lambda *_: None,
            answer=lambda _, images, __: SimpleNamespace(logits=np.zeros((len(images), registry.seen(1)))),
        )
        site = site_of(
            config, tmp_path / str(patients), method=answers,
            evaluated=lambda _, task, patients=patients: known[task] if patients else scans_of(by_task[task]),
        )  # fmt: skip
        tell_counts(site, order_of(config, 1, "evaluate"))
        entries += site.ledger.entries()
    assert [(entry.unit, entry.steps) for entry in entries] == [("patient", 2), ("scan", 1)]
    assert entries[0].multiplier == entries[1].multiplier, "as much as all others draw"


def test_own_scans_that_two_experiments_reach_by_one_code_are_on_one_account(tmp_path):
    config = tiny(tmp_path, **SHARED)
    site = site_of(config, tmp_path)
    for number, name in enumerate(("melanoma", "naevus", "c43.9")):
        spec = ClassSpec(dataset="own", label=name, name=name, code="icd-10:c43.9" if number < 2 else "")
        registry = Registry(tasks=(TaskSpec(name="skin", classes=(spec,)),))
        order = Order("tiny", 0, "release", 0, registry)
        site.ledger.enter(entry_of(site, order, "training", [spec], unit="scan", multiplier=multiplier_for(2, 1e-5)))
    assert site.ledger.epsilon() > 3.5, "three releases of one scan whose folder is named by the code"
