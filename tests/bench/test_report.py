"""A benchmark's results as tables and as a picture."""

import dataclasses

import numpy as np
import pytest

from braincl_med.bench.cells import results_of
from braincl_med.bench.plan import cells_of
from braincl_med.bench.report import figure, markdown
from braincl_med.evaluation.examination import Spectrum, effective_rank
from braincl_med.records.examined import derived
from tests.bench.plans import table_of
from tests.evaluation.test_examination import told


def test_the_tables_figures_are_those_of_the_run_store(finished):
    folder, bench = finished
    results = results_of(list(cells_of(bench)), folder)
    table = table_of(markdown(bench, results, "braincl bench small"), "method")
    assert list(table) == ["Finetune", "Replay, equal bytes", "BrainCL"]
    first = next(r.summary.last_accuracy for r in results if r.cell.row.name == "Finetune")
    for result in results:
        row, summary = table[result.cell.row.name], result.summary
        assert row["last %"] == f"{100 * summary.last_accuracy:.1f}"
        assert row["average %"] == f"{100 * summary.average_accuracy:.1f}"
        assert row["forgetting %"] == f"{100 * summary.forgetting:.1f}"
        assert row["worst class %"] == f"{100 * summary.fairness.worst_accuracy:.1f}"
        assert row["of the first row's last"] == (f"{summary.last_accuracy / first:.3f}" if first else "")
        assert (row["kept"] == "0 B") == (result.kept_bytes == 0)
        assert row["seeds"] == "1"
        assert result.peak_bytes > 50 * 2**20


def test_means_and_spreads_over_seeds(finished):
    folder, bench = finished
    [one] = [r for r in results_of(list(cells_of(bench)), folder) if r.cell.row.name == "BrainCL"]

    def with_figures(row, seed, last, worst, kept):
        cell = dataclasses.replace(one.cell, row=row, seed=seed)
        fair = dataclasses.replace(one.summary.fairness, worst_accuracy=worst)
        figures = {"last_accuracy": last, "average_accuracy": last, "forgetting": -0.01, "records": 4}
        summary = dataclasses.replace(one.summary, **figures, after_each=(1.0, last), fairness=fair, at_rest=kept)
        return dataclasses.replace(one, cell=cell, summary=summary, peak_bytes=3 * 2**20)

    bench = bench.model_copy(update={"seeds": (1, 2, 3)})
    joint, rival, _ = bench.rows
    page = markdown(
        bench,
        [
            with_figures(joint, 1, 0.8, 0.5, {"cues": 1024}),
            with_figures(joint, 2, 0.5, 0.3, {"cues": 3072}),
            with_figures(rival, 1, 0.4, 0.0, {"cues": 400, "backbones": 2**30}),
            with_figures(rival, 2, 0.5, 0.0, {"cues": 400, "backbones": 2**30}),
            with_figures(rival, 3, 0.9, 0.6, {"cues": 400, "backbones": 2**30}),
        ],
        "braincl bench small",
    )
    table = table_of(page, "method")
    two, three, none = table.values()
    assert two["last %"] == "65.0 ± 21.2"
    assert two["worst class %"] == "40.0 ± 14.1"
    assert (two["kept"], two["a sample"], two["seeds"]) == ("2.0 KiB", "512 B", "2 of 3")
    assert three["last %"] == "60.0 ± 26.5"
    assert three["of the first row's last"] == "0.750"
    assert (three["kept"], three["a sample"], three["peak memory"]) == ("1.00 GiB", "100 B", "3.0 MiB")
    assert none["seeds"] == "0 of 3"
    assert not any(value for key, value in none.items() if key not in ("method", "seeds"))
    assert table_of(page, "after task")[rival.name]["2"] == "60.0 ± 26.5"


def test_examined_rows_are_set_beside_each_other(finished):
    folder, bench = finished
    results = results_of(list(cells_of(bench)), folder)
    assert "effective rank" not in markdown(bench, results, "braincl bench small")
    flat = told().model_copy(update={"spectrum": Spectrum(values=[1.0, 0.0], scans=12), "attention": []})

    def seen(one):
        networks = (flat, flat if one.cell.row.name == "Finetune" else told())
        found = tuple(derived("x", after, "", {"a": network}) for after, network in enumerate(networks))
        return dataclasses.replace(one, examined=found)

    page = markdown(bench, [seen(one) for one in results], "braincl bench small")
    table = table_of(page, "method | spread of classes")
    rank = effective_rank(np.array([3.0, 1.0]))
    assert table["Finetune"]["effective rank"] == "1.0"
    assert table["BrainCL"]["effective rank"] == f"{rank:.1f}"
    assert table["BrainCL"]["of the first row's rank"] == f"{rank:.2f}"
    assert (table["BrainCL"]["attention stayed %"], table["Finetune"]["attention stayed %"]) == ("80.0", "")
    assert table["BrainCL"]["near AUROC %"] == ""


def test_a_row_of_fewer_tasks_than_others_ends_earlier(finished):
    folder, bench = finished
    one, *others = results_of(list(cells_of(bench)), folder)
    longer = dataclasses.replace(one, summary=dataclasses.replace(one.summary, after_each=(0.9, 0.8, 0.7)))
    curves = table_of(markdown(bench, [longer, *others], "braincl bench small"), "after task")
    assert curves[one.cell.row.name]["3"] == "70.0"
    assert all(curves[other.cell.row.name]["3"] == "" for other in others)


def test_a_page_written_again_keeps_its_notes(finished):
    folder, bench = finished
    results = results_of(list(cells_of(bench)), folder)
    page = markdown(bench, results, "braincl bench small")
    head, heading, rest = page.partition("## phantom")
    noted = (
        f"{head}What it says:\n\n- nothing much\n\n![curve](small.png)\n\n{heading}{rest.replace('BrainCL', 'Old')}"
    )
    again = markdown(bench, results, "braincl bench small", noted)
    assert again.count("- nothing much\n\n![curve](small.png)\n\n## phantom") == 1
    assert "Old" not in again
    assert markdown(bench, results, "braincl bench small", again) == again
    assert again.replace("What it says:\n\n- nothing much\n\n![curve](small.png)\n\n", "") == page


def test_the_picture_has_a_line_for_every_row_and_lines_that_differ(finished):
    pytest.importorskip("matplotlib")
    folder, bench = finished
    results = results_of(list(cells_of(bench)), folder)
    [axes] = figure(bench, results).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [row.name for row in bench.rows]
    for row, line in zip(bench.rows, axes.lines, strict=True):
        [result] = [r for r in results if r.cell.row == row]
        assert line.get_ydata() == pytest.approx([100 * share for share in result.summary.after_each])
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 3
