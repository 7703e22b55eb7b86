"""An audit's report as a person reads it: plain text for a terminal, one self-contained HTML page for a file."""

from collections.abc import Iterator
from typing import Any

from braincl_med.foundation.errors import ConfigError
from braincl_med.privacy.audit import Report, passed

WARNING = (
    "A cue together with its completion network decodes to an image that resembles the scan. A vault must therefore "
    "be protected like the scans it stands for."
)

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Audit of {{ report.vaults | length }} vault{{ "" if report.vaults | length == 1 else "s" }}: {{
  "passed" if passed else "failed" }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
  table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
  th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #d0d7de; }
  td { overflow-wrap: anywhere; } th { white-space: nowrap; }
  .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
  .passed { color: #116329; } .failed { color: #a40e26; font-weight: 600; }
  .outcome, .note { border-left: 4px solid; padding: .5rem 1rem; background: #f6f8fa; }
  .note { border-color: #9a6700; color: #1b1f24; }
  @media print { body { margin: 0; max-width: none; font-size: 11pt; } tr, .note { break-inside: avoid; }
    .outcome, .note { background: none; } }
</style>
</head>
<body>
<h1>Audit of hospitals' memories</h1>
<p>Made {{ made }}.</p>
{% if passed %}<p class="outcome passed">Passed: every check of every vault.</p>
{% else %}<p class="outcome failed">Failed: {{ bad | join(", ") }}.</p>
{% endif %}<p class="note">{{ warning }}</p>
{% for vault in report.vaults %}
<h2>Vault {{ vault.vault }}: <span class="{{ "passed" if vault.passed else "failed" }}">{{
  "passed" if vault.passed else "failed" }}</span></h2>
<p>Memories of: {{ vault.experiments | join(", ") or "no experiment" }}.</p>
<table>
<thead><tr><th>Check</th><th>Outcome</th><th>What was seen</th></tr></thead>
<tbody>
{% for check in vault.checks | sort(attribute="passed") %}<tr><td>{{ check.check }}</td><td class="{{
  "passed" if check.passed else "failed" }}">{{ "✔ passed" if check.passed else "✘ failed" }}</td><td>{{
  check.detail }}</td></tr>
{% endfor %}</tbody>
</table>
{% if vault.files %}<h3>Size of the memories</h3>
<table>
<thead><tr><th>File</th><th>Stored</th><th class="number">Bytes</th><th class="number">Scans</th>
<th class="number">Bits a scan, cues alone</th><th class="number">all in</th></tr></thead>
<tbody>
{% for file in vault.files %}<tr><td>{{ file.file }}</td><td>{{ file.stored
  }}</td><td class="number">{{ "{:,}".format(file.bytes) }}</td><td
 class="number">{{ "{:,}".format(file.records) }}</td><td class="number">{{
  "{:,.1f}".format(file["bits-per-scan"]) }}</td><td class="number">{{
  "{:,.1f}".format(file["all-in-bits-per-scan"]) }}</td></tr>
{% endfor %}</tbody>
</table>
<p>“All in” counts the completion network, the coder's tables and the index as well.</p>
{% endif %}<h3>Likeness of recalls to the raw scans</h3>
{% if vault.fidelity %}<table>
<thead><tr><th>Task</th><th class="number">Scans</th><th class="number">PSNR (dB)</th><th class="number">SSIM</th>
<th class="number">Re-identified</th></tr></thead>
<tbody>
{% for row in vault.fidelity.tasks + [dict(vault.fidelity, task="all tasks")] %}<tr><td>{{ row.task }}</td><td
 class="number">{{ "{:,}".format(row.scans) }}</td><td class="number">{{ "{:.1f}".format(row.psnr) }}</td><td
 class="number">{{ "{:.3f}".format(row.ssim) }}</td><td class="number">{{
  "{:.1f} %".format(100 * row["re-identified"]) }}</td></tr>
{% endfor %}</tbody>
</table>
<p>Re-identified is the share of recalls to which no other of the task's given scans is nearer than their own: who
holds both the vault and the raw scans can link them this often.</p>
{% else %}<p>The recalls were not compared with raw scans: the audit was given none.</p>
{% endif %}{% endfor %}
</body>
</html>
"""


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
    return template.render(report=report, made=made, passed=passed(report), bad=bad, warning=WARNING, dict=dict)


def text(report: Report) -> str:
    """The report in lines, of each vault first what failed."""
    return "\n".join([*(line for vault in report["vaults"] for line in _vault(vault)), WARNING])


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
            f"{100 * row['re-identified']:.1f} % of {row['scans']:,} re-identified"
        )
    yield ""
