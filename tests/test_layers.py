"""The layers point one way, and the method itself needs few packages."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Folder of braincl_med → what of the project it may import besides itself and the foundation.
ALLOWED = {
    "foundation": set(),
    "settings": set(),
    "scans": set(),
    "memory": set(),
    "cortex": set(),
    "evaluation": set(),
    "dp": {"cortex", "messages"},
    "streams": {"scans"},
    "vault": {"memory", "streams"},
    "masking": set(),
    "phases": {"cortex", "streams"},
    "messages": {"cortex", "streams", "evaluation"},
    "methods": {"cortex", "dp", "evaluation", "memory", "messages", "phases", "scans", "streams", "vault"},
    "records": {"streams", "evaluation"},
    "federation": {
        "cortex",
        "dp",
        "evaluation",
        "masking",
        "messages",
        "methods",
        "phases",
        "records",
        "streams",
        "vault",
    },
    "inference": {"cortex", "evaluation", "federation", "methods", "records", "scans", "streams", "vault"},
    "privacy": {
        "vault",
        "memory",
        "scans",
        "streams",
        "records",
        "federation",
        "evaluation",
        "cortex",
        "dp",
        "methods",
        "masking",
    },
    "bench": {"federation", "records"},
}
# What every room may import; the foundation itself imports nothing of the project.
EVERYWHERE = {"foundation", "settings"}


def imports(path):
    """What a file imports, in full: `from braincl_med import vault` and `from ..vault import x` name a room too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_settings_tables_and_the_dashboards_store_need_no_torch():
    code = "import sys; import braincl_med.records.summary, braincl_med.records.table, braincl_med.settings.loading; "
    code += (
        "import braincl_med.evaluation.fairness, braincl_med.evaluation.operating; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_every_folder_imports_only_what_lies_below_it():
    rooms = {path.parent.name for path in (ROOT / "braincl_med").glob("*/*.py")}
    assert rooms == ALLOWED.keys()
    for folder, allowed in ALLOWED.items():
        for path in (ROOT / "braincl_med" / folder).rglob("*.py"):
            for module in imports(path):
                if module.startswith("braincl_med."):
                    part = module.split(".")[1]
                    common = {"foundation": set(), "settings": {"foundation"}}.get(folder, EVERYWHERE)
                    assert part in allowed | common | {folder}, f"{path.relative_to(ROOT)} imports {module}"


def test_the_method_knows_nothing_of_the_apps():
    for path in (ROOT / "braincl_med").rglob("*.py"):
        used = {module.split(".")[0] for module in imports(path)}
        assert not used & {"server", "client"}, path
        assert "streamlit" not in used, path
        assert not used & {"flwr"}, path
        assert "apps" not in used, path


def test_the_method_and_its_benchmarks_import_without_flower_streamlit_and_the_data_packages():
    code = """
import sys
for name in ("flwr", "flwr_datasets", "datasets", "streamlit", "monai", "medmnist", "opacus", "ray", "typer",
             "cryptography", "skimage", "psutil", "matplotlib", "pandas", "sklearn", "scipy"):
    sys.modules[name] = None
import braincl_med.federation.local
import braincl_med.vault.vault, braincl_med.records.summary
import braincl_med.bench.cells, braincl_med.bench.report
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
