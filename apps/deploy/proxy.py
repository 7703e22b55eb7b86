"""nginx in front of the SuperLink: TLS, the paths that hospitals' SuperNodes ask for, and nothing else."""

import os
import shutil
from pathlib import Path

from apps.deploy.layout import CA, CERTIFICATE, KEY, PROXY, Server, is_loopback, state_of
from apps.flower.command import LOOPBACK
from apps.flower.programs import FLEET, FLEET_ROOT, link_address, secret_path
from braincl_med.foundation.errors import ConfigError

SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where nginx lies for root, and a user's PATH does not look."""


def configuration(server: Server) -> str:
    """nginx.conf. A path is compared whole and handed on as written here, so no spelling of another one gets by."""
    host, port = link_address(server)
    listen = f"{LOOPBACK}:{server.port}" if is_loopback(server.host) else str(server.port)
    allowed = "\n".join(
        f"    location = {FLEET_ROOT}{name} {{ proxy_pass https://{host}:{port}{FLEET_ROOT}{name}; }}"
        for name in FLEET
    )
    return f"""\
# Hospitals reach the Fleet interface of the SuperLink and nothing else. Start: braincl deploy up FOLDER --only proxy
# Names of files are relative: certificates to this file's folder, all else to the folder given with -p.
daemon off;
pid nginx.pid;
error_log stderr warn;
worker_processes 2;
events {{ worker_connections 512; }}
http {{
  access_log off;
  server_tokens off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen {listen} ssl;
    ssl_certificate {CERTIFICATE};
    ssl_certificate_key {KEY};
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 512m;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_http_version 1.1;
    proxy_read_timeout 300s;
    proxy_ssl_trusted_certificate {CA};
    proxy_ssl_verify on;
    proxy_ssl_name localhost;
{allowed}
    location / {{ return 403; }}
  }}
}}
"""


def program() -> str | None:
    """The nginx of this machine, None where there is none."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")


def command(folder: Path, server: Server) -> list[str]:
    """The command of nginx in the foreground, for this folder.

    Raises:
        ConfigError: nginx is not installed, or its folder cannot be made.
    """
    nginx = program()
    if nginx is None:
        raise ConfigError("nginx is not installed, and the SuperLink must not be reached without it: install nginx")
    prefix = state_of(folder, server) / "nginx"
    prefix.mkdir(parents=True, exist_ok=True, mode=0o700)
    return [nginx, "-e", "stderr", "-p", str(prefix), "-c", str(secret_path(folder, PROXY))]
