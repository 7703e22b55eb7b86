"""What is known of privacy: the last audit, what was spent of differential privacy, and where erasures stand."""

from typing import Any

import pandas as pd
import streamlit as st

from apps.dashboard import data, frame, whose
from braincl_med.evaluation.intervals import wilson
from braincl_med.records.report import DECODES, PASSED
from braincl_med.records.schema import Audit
from braincl_med.records.table import percent, size


def audited(report: dict[str, Any], record: data.Record) -> list[dict[str, Any]]:
    """Those vaults of a report that hold memories of this experiment; in a hospital's view its own."""
    vaults, own = report.get("vaults") or [], data.hospital()
    held = [vault for vault in vaults if record.summary.name in (vault.get("experiments") or [])]
    return whose.vaults_of(held, own) if own else held


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
            st.markdown("##### Files")
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
    matched, scans = found.get("re-identified"), found.get("scans") or 0
    cards = [
        (
            "Matched to its scan",
            percent(matched),
            "The share of recalls for which the right raw scan could be picked out among all those tried. "
            "Whoever holds both the vault and the raw scans can link them this often.",
        ),
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
        ("Scans compared", _number(found.get("scans"), 0), "Raw scans that the audit compared with their recalls."),
    ]
    frame.cards(cards)
    if matched is not None and scans:
        low, high = wilson(round(matched * scans), scans)
        st.caption(
            f"Matched: {round(matched * scans):,} of {scans:,} recalls, {percent(low)} to {percent(high)} in 95 of "
            f"100 cases; by guessing at most {percent(1 / scans, 2)}."
        )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def say(found: Audit, vaults: list[dict[str, Any]], hospitals: int) -> None:
    """Of how many vaults of the experiment the last audit tells, and what its outcome means."""
    bad = [str(vault.get("vault", "a vault")) for vault in vaults if not vault.get("passed")]
    told = f"{len(vaults)} of {hospitals} vaults of this experiment audited on {frame.when(found.made)}"
    if bad:
        st.error(f"**Failed:** {frame.plain(', '.join(bad))}. {told}.", icon=":material/cancel:")
    elif vaults:
        st.success(f"**Passed:** {told}.", icon=":material/check_circle:")
        st.markdown(PASSED)
    else:
        st.warning("The last audit looked at no vault of this experiment.", icon=":material/help_center:")


def spent(name: str) -> None:
    """What hospitals have spent of differential privacy, after each group of diseases."""
    rows = data.epsilons(name)
    if not rows:
        st.markdown("No budget of differential privacy is kept here: no ε bounds what weights tell.")
        return
    st.markdown(
        f"**ε = {max(epsilon for _, _, epsilon in rows):.2f}** spent at most by a hospital. The account of each "
        "hospital lies with it: `braincl privacy ledger` opens it."
    )
    frame.figures(
        pd.DataFrame(
            [(record.tasks[task], hospital, epsilon) for task, hospital, epsilon in rows if task < len(record.tasks)],
            columns=["After", "Hospital", "ε spent in all"],
        )
    )


frame.begin(
    "Privacy",
    "What hospitals keep instead of scans, and how much of a scan it gives away. An audit opens vaults and checks "
    "that they hold coded memories only.",
)
record = frame.chosen()
st.warning(DECODES, icon=":material/lock:")
st.subheader("Audit")
latest = data.last_audit()
if latest is None:
    st.info("No audit has been recorded yet. `braincl audit` makes one.", icon=":material/info:")
else:
    vaults = audited(latest.report, record)
    hospitals = int(record.experiment.config.get("federation", {}).get("hospitals") or len(vaults))
    say(latest, vaults, 1 if data.hospital() else hospitals)
    for vault in vaults:
        show(vault)
    st.markdown("##### All audits, of any experiment")
    history = [(frame.when(made), "passed" if passed else "failed") for made, passed in data.audits()]
    frame.figures(pd.DataFrame(history, columns=["Made", "Outcome"]))
st.subheader("Differential privacy")
spent(record.summary.name)
st.subheader("Erasures")
st.markdown(
    "What was erased for a patient stands in the log of the hospital's own vault, which never leaves it: "
    "`braincl vault verify` reads it there and holds it against the manifest."
)
