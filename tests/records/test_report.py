"""A run's report says what the store holds, as one file that runs nothing and asks nobody."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from apps.cli import report as cli
from apps.cli.main import app
from braincl_med.evaluation.verdict import Limits
from braincl_med.foundation.page import html
from braincl_med.records.report import PASSED, report
from braincl_med.records.schema import TOGETHER
from braincl_med.records.summary import summarise
from braincl_med.records.table import percent, points
from tests.records.example_store import AUDIT, begin, build_example

HOSTILE = "<script>alert(1)</script><img src=http://192.0.2.1/seen.png>"


class Texts(HTMLParser):
    """The texts and tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def test_its_figures_are_those_of_the_store(tmp_path: Path) -> None:
    store = build_example(tmp_path)
    summary, tally = summarise(store, "memories"), store.tally("memories")
    page = Texts(html(report(store, "memories", Limits(sensitivity=0.99))))
    told = " ".join(page.found)
    assert "Not ready: " in told
    assert "SYNTHETIC PHANTOM SCANS" in told
    for row in summary.classes:
        right = int(tally.correct[-1, :, row.number].sum())
        assert f"{percent(row.now)} (" in told
        assert f"; {right} of {row.scans})" in told
    for name, right, scans in zip(tally.hospitals, tally.correct[-1].sum(1), tally.scans[-1].sum(1), strict=True):
        assert name in told
        assert f"; {right} of {scans})" in told
    assert summary.fairness is not None
    assert f"chance alone explains up to {points(summary.fairness.hospital_chance)}" in told
    for value in summary.after_each:
        assert percent(value) in told
    assert "failed: only files of the manifest" in told
    assert "31.0 % of recalls matched" in told
    assert PASSED in told
    assert "sleep-epochs" in told


def test_what_others_wrote_is_text_and_nothing_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = build_example(tmp_path)
    begin(store, "hostile", data=HOSTILE)
    store.record_evaluation("hostile", 0, HOSTILE, np.eye(2, dtype=int), {}, {})
    vault = {"vault": HOSTILE, "experiments": ["hostile"], "checks": [{}], "fidelity": {"re-identified": 0.0}}
    store.record_audit(False, {"vaults": [vault]})
    store.end("hostile", "failed", HOSTILE)
    page = html(report(store, "hostile", Limits()))
    monkeypatch.setattr("braincl_med.records.standing.seconds_since", lambda _: 4000.0)
    assert page == html(report(store, "hostile", Limits())), "the same an hour later"
    shown = Texts(page)
    assert any("0.0 % of recalls matched" in text for text in shown.found)
    assert not {"script", "img", "link", "iframe", "a"} & shown.tags
    assert "No verdict: no limits are set." in shown.found
    assert sum(HOSTILE in text for text in shown.found) >= 4
    assert not re.search(r"url\(|@import", page)


def test_one_that_has_only_begun_and_a_masked_sum(tmp_path: Path) -> None:
    store = build_example(tmp_path)
    begin(store, "new")
    assert "Nothing has been tested yet." in html(report(store, "new", Limits(scans=5)))
    store.record_evaluation("new", 0, TOGETHER, np.eye(2, dtype=int), {}, {})
    assert "nobody knows what was right at which" in html(report(store, "new", Limits(scans=5)))


def test_groups_too_small_to_be_told_of_are_withheld(tmp_path: Path) -> None:
    store = build_example(tmp_path)
    begin(store, "small")
    settings = store.experiment("small").config
    federation = settings["federation"] | {"smallest-group": 10}
    store.begin(settings | {"federation": federation}, store.experiment("small").registry, {}, "")
    store.record_evaluation("small", 0, "a", np.diag([4, 7]), {}, {})
    page = html(report(store, "small", Limits()))
    assert page.count("withheld: too few scans") >= 3
    assert "4 of 4" not in page
    assert "7 of 7" not in page
    history = page[page.index("As further diagnoses were added") : page.index("How sure is it?")]
    assert history.count("100.0 %") == 1, "of all known together, which are enough"


def test_the_command_writes_a_page_and_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_example(tmp_path)
    out, limits = tmp_path / "report.html", tmp_path / "limits.yaml"
    limits.write_text("sensitivity: 5\n")
    asked = ["report", "memories", "--state", str(tmp_path), "--limits", str(limits), "--out"]
    done = CliRunner().invoke(app, [*asked, str(out)])
    assert done.exit_code == 0, done.output
    assert "Within the limits that are set" in out.read_text()
    monkeypatch.setattr(cli, "BROWSERS", ("no-such-browser",))
    refused = CliRunner().invoke(app, [*asked, str(tmp_path / "report.pdf")])
    assert "no Chromium is installed" in str(refused.exception)
    assert "neither .html nor .pdf" in str(CliRunner().invoke(app, [*asked, "report.doc"]).exception)


@pytest.mark.browser
@pytest.mark.skipif(not any(map(shutil.which, cli.BROWSERS)), reason="chromium is missing")
def test_it_prints_to_pdf(tmp_path: Path) -> None:
    build_example(tmp_path).record_audit(True, AUDIT)
    out = tmp_path / "report.pdf"
    done = CliRunner().invoke(app, ["report", "memories", "--state", str(tmp_path), "--out", str(out)])
    assert done.exit_code == 0, (done.output, done.exception)
    content = out.read_bytes()
    assert content.startswith(b"%PDF-")
    assert re.search(rb"/MediaBox \[0 0 59[456]", content), "A4 is 595 points wide"
