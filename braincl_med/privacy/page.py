"""An audit's report as a person reads it: plain text for a terminal, one self-contained HTML page for a file."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import sha256_of
from braincl_med.privacy.audit import passed
from braincl_med.privacy.template import TEMPLATE
from braincl_med.privacy.vault_audit import Report
from braincl_med.privacy.words import GLOSSARY, LIMITS, opening

WARNING = (
    "A cue together with its completion network decodes to an image that resembles the scan. A vault must therefore "
    "be protected like the scans it stands for."
)


def html(report: Report, made: str) -> str:
    """The report as a page; all that comes from a vault is escaped.

    Args:
        report: of `audit`.
        made: when, as it shall be read.

    Raises:
        ConfigError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment
    except ImportError:
        raise ConfigError("audit.html needs Jinja: install 'braincl-med[privacy]'") from None
    template = Environment(autoescape=True).from_string(TEMPLATE)
    bad = [vault["vault"] for vault in report["vaults"] if not vault["passed"]]
    return template.render(
        report=report,
        made=made,
        passed=passed(report),
        bad=bad,
        warning=WARNING,
        opening=opening(report),
        glossary=GLOSSARY,
        limits=LIMITS,
        digest=sha256_of(as_file(report)),
        share=_share,
        dict=dict,
    )


def as_file(report: Report) -> bytes:
    """The bytes of audit.json, whose SHA-256 the page names."""
    return json.dumps(report, indent=2).encode()


def text(report: Report) -> str:
    """The report in lines, of each vault first what failed."""
    return "\n".join([*(line for vault in report["vaults"] for line in _vault(vault)), opening(report), WARNING])


def _vault(vault: dict[str, Any]) -> Iterator[str]:
    failed = sum(not check["passed"] for check in vault["checks"])
    outcome = f"FAILED {failed} of {len(vault['checks'])} checks" if failed else "passed every check"
    yield f"{vault['vault']} ({', '.join(vault['experiments']) or 'no experiment'}): {outcome}"
    for check in sorted(vault["checks"], key=lambda check: bool(check["passed"])):
        yield f"  {'passed' if check['passed'] else 'FAILED'}  {check['check']}: {check['detail']}"
    for file in vault["files"]:
        yield (
            f"  {file['file']}: {file['stored']}, {file['bytes']:,} bytes, {file['records']:,} scans, "
            f"{file['bits-per-scan']:,.1f} bits a scan, {file['all-in-bits-per-scan']:,.1f} all in"
        )
    fidelity = vault["fidelity"]
    for row in [*fidelity["tasks"], {**fidelity, "task": "all tasks"}] if fidelity else ():
        yield (
            f"  recalls of {row['task']}: PSNR {row['psnr']:.1f} dB, SSIM {row['ssim']:.3f}, "
            f"{100 * row['re-identified']:.1f} % of {row['scans']:,} matched to their scan"
        )
    for one in vault["attacks"]:
        yield from _attacks(one)
    yield ""


def _attacks(one: dict[str, Any]) -> Iterator[str]:
    for row in one["thief"]:
        yield (
            f"  cues of {row['scans']:,} scans decoded with {row['how']}: PSNR {row['psnr']:.1f} dB, "
            f"matched {_share(row['matched'], row['interval'])}, by chance {100 * row['chance']:.1f} %"
        )
    for row in one["membership"]:
        low, high = row["interval"]
        found = ", ".join(
            f"{_share(part['found'], part['interval'])} found at {100 * part['false-positives']:g} % false"
            for part in row["found"]
        )
        yield f"  membership in {row['of']}: AUC {row['auc']:.3f} [{low:.3f}, {high:.3f}], {found}"
    for row in one["update"]:
        yield (
            f"  update of a batch of {row['batch']}: a scan's features read exactly in {100 * row['exact']:.0f} %, "
            f"a diagnosis in {100 * row['labels']:.0f} % of {row['updates']}"
        )
    for row in one["inversion"]:
        yield (
            f"  a scan rebuilt from the network's update ({row['attack']}, {row['seconds']:.0f} s): PSNR "
            f"{row['psnr']:.1f} dB, of a flat image {row['flat']:.1f}"
        )
    for sentence in one["not-measured"]:
        yield f"  not measured: {sentence}"


def _share(share: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
