"""Stand-ins for Flower's programs: a SuperLink that answers and has a child, and a `flwr` that says as it is told.

In the folder FAKE_FOLDER `status` is what `flwr list` answers; they leave `pids` and `submitted` there, and a line of
the coordinator in the log of 'tiny' if that is its state root.
"""

import sys

SUPERLINK = """
import http.server, json, os, pathlib, subprocess, sys
folder = pathlib.Path(os.environ["FAKE_FOLDER"])
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
(folder / "pids").write_text(f"{os.getpid()} {child.pid}")
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Health).serve_forever()
"""
FLWR = """
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["FAKE_FOLDER"])
if sys.argv[1] == "run":
    (folder / "submitted").touch()
    log = folder / "logs" / "tiny.log"
    if log.is_file():
        log.write_text("'tiny' learns from synthetic scans\\n")
    print(json.dumps({"success": True, "run-id": 1}))
elif sys.argv[1] == "list":
    print(json.dumps({"runs": [{"status": (folder / "status").read_text()}]}))
"""


def install(folder):
    """Put the programs into `folder` and return it."""
    for name, code in (("flower-superlink", SUPERLINK), ("flwr", FLWR)):
        path = folder / name
        path.write_text(f"#!{sys.executable} -S\n{code}")
        path.chmod(0o755)
    return folder
