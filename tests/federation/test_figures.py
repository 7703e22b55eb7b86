import dataclasses

import pytest

from braincl_med.federation.checkpoint import Checkpoint, folder_of, save_checkpoint
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.records.store import RunStore
from braincl_med.streams.named import build_registry
from tests.federation.experiments import tiny


def altered(**changes):
    return lambda order, report: dataclasses.replace(report, **changes)


@pytest.mark.parametrize(
    ("phase", "answer", "reason"),
    [
        (
            "sleep",
            lambda o, r: dataclasses.replace(r, weights={"classifier.bias": r.weights["classifier.bias"]}),
            "the update lacks 'backbone.bn1.bias'",
        ),
        ("evaluate", altered(figures={}), "confusion: field required"),
        (
            "evaluate",
            lambda o, r: dataclasses.replace(r, figures={**r.figures, "confusion": [[-5] * 3] * 3}),
            "counts below zero",
        ),
        ("evaluate", lambda o, r: dataclasses.replace(r, figures={**r.figures, "confusion": [[5]]}), "is not 3 by 3"),
        ("evaluate", lambda o, r: dataclasses.replace(r, figures={**r.figures, "scores": {"x": {}}}), "no score of"),
        (
            "evaluate",
            lambda o, r: dataclasses.replace(r, figures={**r.figures, "scores": {"energy": {"known-wrong": [1]}}}),
            "have not 500 bins",
        ),
    ],
)
def test_an_answer_that_cannot_be_used_is_missing_and_spoils_nothing(tmp_path, phase, answer, reason):
    config = tiny(tmp_path, federation_hospitals=3, federation_quorum=2, stream_task_count=3, sleep_rounds=1)
    registry = build_registry(config.stream, config.seed)
    registry = registry.model_copy(update={"tasks": registry.tasks[:1]})
    exchange = local_exchange(local_hospitals(config))

    def spoiling(order):
        return [
            answer(order, report) if report.hospital == "site-1" and order.phase == phase else report
            for report in exchange(order)
        ]

    begun = Checkpoint(experiment="tiny", settings=config.as_result_settings(), registry=registry)
    save_checkpoint(folder_of(tmp_path, "tiny"), begun)
    Coordinator(config, spoiling).run()
    missing = {s.phase: s.missing for s in RunStore(tmp_path).steps("tiny") if s.missing}
    assert list(missing) == [phase]
    assert list(missing[phase]) == ["site-1"]
    assert reason in missing[phase]["site-1"]


def test_samples_by_class_are_told_in_wake_and_sleep_only_where_rows_are_weighted_by_them(tmp_path):
    seen = {}
    for rows in ("by-class", "by-examples"):
        config = tiny(tmp_path / rows, stream_task_count=1, sleep_rounds=1, federation_classifier_rows=rows)
        exchange = local_exchange(local_hospitals(config))

        def watching(order, exchange=exchange, rows=rows):
            reports = exchange(order)
            seen[rows, order.phase] = [sum(r.figures.get("classes", ())) == r.examples for r in reports]
            return reports

        Coordinator(config, watching).run()
    for phase in ("wake", "sleep"):
        assert all(seen["by-class", phase])
        assert not any(seen["by-examples", phase])
