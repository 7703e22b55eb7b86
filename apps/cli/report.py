"""`braincl report`: what the dashboard shows of an experiment, as one HTML or PDF file."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import StateOption, state_root
from braincl_med.foundation.errors import ConfigError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PRINTING_SECONDS = 120


def report(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .html, or .pdf where a Chromium is installed.")],
    state: StateOption = None,
    limits: Annotated[
        Path | None, typer.Option("--limits", help="YAML file of what you ask of every diagnosis, for the verdict.")
    ] = None,
) -> None:
    """Write a report of an experiment: verdict, diagnoses, hospitals, privacy, settings."""
    from apps.dashboard.limits import read_limits
    from braincl_med.evaluation.verdict import Limits
    from braincl_med.foundation.files import write_whole
    from braincl_med.foundation.page import html
    from braincl_med.records.report import report as report_of
    from braincl_med.records.store import RunStore

    if out.suffix not in (".html", ".pdf"):
        raise ConfigError(f"'{out.name}' is neither .html nor .pdf: give --out a name that ends so")
    asked = Limits() if limits is None else read_limits(limits)
    page = html(report_of(RunStore(state_root(state)), experiment, asked)).encode()
    write_whole(out, page if out.suffix == ".html" else printed(page))
    typer.echo(f"wrote {out.name}")


def printed(page: bytes) -> bytes:
    """An HTML page as PDF, by a Chromium that asks nobody for anything.

    Raises:
        ConfigError: there is none, or it did not print.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ConfigError("no Chromium is installed, which prints PDF: write .html, and print that by any browser")
    with tempfile.TemporaryDirectory(prefix="braincl-") as scratch:
        source, printout = Path(scratch) / "report.html", Path(scratch) / "report.pdf"
        source.write_bytes(page)
        flags = [
            "--headless=new",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium has none for root
            "--disable-gpu",
            "--no-pdf-header-footer",
            "--host-rules=MAP * ~NOTFOUND",
        ]
        command = [
            browser,
            *flags,
            f"--user-data-dir={scratch}/profile",
            f"--print-to-pdf={printout}",
            source.as_uri(),
        ]
        try:
            subprocess.run(command, capture_output=True, timeout=PRINTING_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"{Path(browser).name} did not print within {PRINTING_SECONDS} s: write .html"
            ) from None
        if not printout.is_file():
            raise ConfigError(f"{Path(browser).name} could not print: write .html, and print that by any browser")
        return printout.read_bytes()
