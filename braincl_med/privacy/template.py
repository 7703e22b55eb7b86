"""The HTML page of an audit's report; Jinja escapes all that comes from a vault."""

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
  td { overflow-wrap: anywhere; } th { vertical-align: bottom; }
  .number { text-align: right; font-variant-numeric: tabular-nums; } td.number { white-space: nowrap; }
  .passed { color: #116329; } .failed { color: #a40e26; font-weight: 600; }
  .opening { font-size: 1.1rem; } dt { font-weight: 600; } dd { margin: 0 0 .4rem 0; }
  code { font-size: .85rem; overflow-wrap: anywhere; }
  .outcome, .note { border-left: 4px solid; padding: .5rem 1rem; background: #f6f8fa; }
  .note { border-color: #9a6700; color: #1b1f24; }
  @media print { body { margin: 0; max-width: none; font-size: 11pt; } tr, .note { break-inside: avoid; }
    .outcome, .note { background: none; } }
</style>
</head>
<body>
<h1>Audit of hospitals' memories</h1>
<p>Made {{ made }} by BrainCL-Med {{ report.version }}.</p>
<p class="outcome {{ "passed" if passed else "failed" }}">{{
  "Passed: every check of every vault. To pass is not to be anonymous" if passed
  else "Failed: " + bad | join(", ") }}.</p>
<p class="opening">{{ opening }}</p>
<p class="note">{{ warning }}</p>
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
<th class="number">Matched to their scan</th></tr></thead>
<tbody>
{% for row in vault.fidelity.tasks + [dict(vault.fidelity, task="all tasks")] %}<tr><td>{{ row.task }}</td><td
 class="number">{{ "{:,}".format(row.scans) }}</td><td class="number">{{ "{:.1f}".format(row.psnr) }}</td><td
 class="number">{{ "{:.3f}".format(row.ssim) }}</td><td class="number">{{
  "{:.1f} %".format(100 * row["re-identified"]) }}</td></tr>
{% endfor %}</tbody>
</table>
<p>Matched is the share of recalls to which no other of the task's given scans is nearer than their own: who
holds both the vault and the raw scans can link them this often. No check fails by it, however high it is.</p>
{% else %}<p>The recalls were not compared with raw scans: the audit was given none.</p>
{% endif %}{% for one in vault.attacks %}
<h3>Attacks on {{ one.experiment }}</h3>
<p>Tried for at most {{ "{:g}".format(one.minutes) }} minutes. None of these figures makes a check fail. In brackets
the 95 % interval.</p>
<table>
<thead><tr><th>Stolen cues, decoded with</th><th class="number">Scans</th><th class="number">PSNR (dB)</th>
<th class="number">Matched</th><th class="number">By chance</th></tr></thead>
<tbody>
{% for row in one.thief %}<tr><td>{{ row.how }}</td><td class="number">{{ "{:,}".format(row.scans) }}</td><td
 class="number">{{ "{:.1f}".format(row.psnr) }}</td><td class="number">{{ share(row.matched, row.interval) }}</td><td
 class="number">{{ "{:.1f} %".format(100 * row.chance) }}</td></tr>
{% endfor %}</tbody>
</table>
{% if one.membership %}<table>
<thead><tr><th>Was a scan learned? Asked of</th><th class="number">Learned</th><th class="number">Others</th>
<th class="number">AUC</th>{% for found in one.membership[0].found %}<th class="number">Found at {{
  "{:g}".format(100 * found["false-positives"]) }} % false</th>{% endfor %}</tr></thead>
<tbody>
{% for row in one.membership %}{% for part in [row] + row.classes %}<tr><td>{{ row.of if loop.first
  else "· class " ~ part.class }}</td><td class="number">{{ "{:,}".format(part.members) }}</td><td
 class="number">{{ "{:,}".format(part.strangers) }}</td><td class="number">{{
  "{:.3f} [{:.3f}, {:.3f}]".format(part.auc, *part.interval) }}</td>{% for found in part.found %}<td class="number">{{
  share(found.found, found.interval) }}</td>{% endfor %}</tr>
{% endfor %}{% endfor %}</tbody>
</table>
<p>Where fewer than 1,000 others were tried, “0.1 % false” means that none of them was named.</p>
{% endif %}{% if one["update"] %}<table>
<thead><tr><th>Scans in one unmasked update of the classifier</th><th class="number">Updates</th>
<th class="number">One scan's features read exactly</th><th class="number">A diagnosis read</th></tr></thead>
<tbody>
{% for row in one["update"] %}<tr><td>{{ row.batch }}</td><td class="number">{{ row.updates }}</td><td
 class="number">{{ "{:.0f} %".format(100 * row.exact) }}</td><td class="number">{{
  "{:.0f} %".format(100 * row.labels) }}</td></tr>
{% endfor %}</tbody>
</table>
{% endif %}{% if one.inversion %}<table>
<thead><tr><th>One scan rebuilt from the whole network's update</th><th class="number">Steps</th>
<th class="number">Seconds</th><th class="number">PSNR (dB)</th><th class="number">of a flat image</th></tr></thead>
<tbody>
{% for row in one.inversion %}<tr><td>{{ {"squared": "deep leakage (L-BFGS)", "cosine": "cosine (Adam)"}[row.attack]
  }}</td><td class="number">{{ "{:,}".format(row.steps) }}</td><td class="number">{{ "{:.0f}".format(row.seconds)
  }}</td><td class="number">{{ "{:.1f}".format(row.psnr) }}</td><td class="number">{{ "{:.1f}".format(row.flat)
  }}</td></tr>
{% endfor %}</tbody>
</table>
<p>At or below the flat image nothing was rebuilt in this time, which does not show that nobody can.</p>
{% endif %}{% if one.worst %}<p>For the hospital alone, the scans that come back most clearly: {%
  for row in one.worst %}{{ row.task }}, class {{ row.class }}, scan {{ row.ordinal }} ({{
  "{:.1f}".format(row.psnr) }} dB){{ ", " if not loop.last else "." }}{% endfor %}
Scans are counted from 0 in their class.</p>
{% endif %}{% if one["not-measured"] %}<p>Not measured:</p>
<ul>{% for sentence in one["not-measured"] %}<li>{{ sentence }}.</li>{% endfor %}</ul>
{% endif %}{% else %}
<h3>Attacks</h3>
<p>Not measured: they need raw scans (--scans) that fit this vault, and time (--minutes).</p>
{% endfor %}{% endfor %}
<h2>Words</h2>
<dl>{% for word, meaning in glossary.items() %}<dt>{{ word }}</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>
<h2>What this report does not show</h2>
<ul>{% for limit in limits %}<li>{{ limit }}</li>{% endfor %}</ul>
<h2>What it is about</h2>
<table>
<thead><tr><th>Manifest of</th><th>SHA-256; it vouches for every file it commits</th></tr></thead>
<tbody>
{% for vault in report.vaults %}{% for experiment, digest in vault.manifests.items() %}<tr><td>{{ vault.vault }}, {{
  experiment }}</td><td><code>{{ digest }}</code></td></tr>
{% endfor %}{% endfor %}</tbody>
</table>
<p>Of the report itself, as in audit.json: <code>{{ digest }}</code></p>
</body>
</html>
"""
