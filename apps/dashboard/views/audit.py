"""The last audit of the hospitals' vaults: what was checked, and what came out."""

from typing import Any

import pandas as pd
import streamlit as st

from apps.dashboard import data, frame
from braincl_med.foundation.errors import BrainclError
from braincl_med.records.schema import Audit
from braincl_med.records.table import percent, size


def last_audit() -> Audit | None:
    """The latest audit; ends the page with a sentence when the store cannot be read."""
    frame.names()
    try:
        return data.last_audit()
    except BrainclError as error:
        frame.sentence(f"{error}.")
        raise


def show(vault: dict[str, Any]) -> None:
    """One vault's checks, files and fidelity."""
    checks = vault.get("checks") or []
    failed = [c for c in checks if not c.get("passed")]
    good = bool(vault.get("passed"))
    outcome = "passed every check" if good else f"failed {len(failed)} of {len(checks)} checks"
    with st.expander(
        f"**{frame.plain(str(vault.get('vault', 'vault')))}** {outcome}",
        expanded=True,
        icon=":material/check_circle:" if good else ":material/cancel:",
    ):
        st.caption(f"Memories of: {frame.plain(', '.join(vault.get('experiments') or [])) or 'no experiment'}")
        if checks:
            frame.table(
                pd.DataFrame(
                    [
                        {
                            "Check": c.get("check", ""),
                            "Outcome": "✔ passed" if c.get("passed") else "✘ failed",
                            "What was seen": c.get("detail", ""),
                        }
                        for c in checks
                    ]
                ).set_index("Check")
            )
        fidelity(vault.get("fidelity"))
        files = vault.get("files") or []
        if files:
            st.markdown("**Files**")
            frame.table(
                pd.DataFrame(
                    [
                        {
                            "File": f.get("file", ""),
                            "Size": size(f.get("bytes")),
                            "Samples": f"{f.get('records') or 0:,}",
                            "Bits a sample": _number(f.get("bits-per-scan"), 1),
                        }
                        for f in files
                    ]
                ).set_index("File")
            )


def fidelity(found: dict[str, Any] | None) -> None:
    """How much of a scan its recall gives away."""
    if not found:
        st.caption("The recalls were not compared with raw scans: the audit had none.")
        return
    cards = [
        (
            "Likeness (PSNR)",
            f"{_number(found.get('psnr'), 1)} dB",
            "How close recalls are to the raw scans, pixel by pixel. Above 30 dB the eye sees little difference.",
        ),
        (
            "Likeness (SSIM)",
            _number(found.get("ssim"), 2),
            "How alike their structures are: 1 is identical, 0 unrelated.",
        ),
        (
            "Matched to its scan",
            percent(found.get("re-identified")),
            "The share of recalls for which the right raw scan could be picked out among all those tried. "
            "Whoever holds both the vault and the raw scans can link them this often.",
        ),
        ("Scans compared", _number(found.get("scans"), 0), "Raw scans that the audit compared with their recalls."),
    ]
    frame.cards(cards)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


frame.begin(
    "Audit",
    "An audit opens what a hospital keeps and checks that it holds coded memories only, and how much of a scan they "
    "give away.",
)
audit = last_audit()
if audit is None:
    frame.sentence("No audit has been recorded yet.", "`braincl audit` makes one.")
vaults = audit.report.get("vaults") or []
if audit.passed:
    st.success(
        f"**Passed** on {frame.when(audit.made)}: {len(vaults)} {'vault' if len(vaults) == 1 else 'vaults'}.",
        icon=":material/check_circle:",
    )
else:
    bad = [str(v.get("vault", "a vault")) for v in vaults if not v.get("passed")]
    st.error(
        f"**Failed** on {frame.when(audit.made)}: {frame.plain(', '.join(bad)) or 'see below'}.",
        icon=":material/cancel:",
    )
for vault in vaults:
    show(vault)
