"""A Dockerfile that builds without a network from a folder of wheels, and a compose file over the same commands."""

from apps.deploy.layout import Hospital, Server
from apps.deploy.parts import PROXY_PART, Part, parts_of
from apps.deploy.units import HOME, PROGRAM

USER_ID = 10001
DOCKERFILE = f"""\
# Builds without a network: `wheelhouse/` beside this file holds the program and all that it needs (see README.md).
# The base image is the one thing to have before: docker load, or a registry of your own.
FROM python:3.11-slim
COPY wheelhouse /wheelhouse
RUN python -m venv /opt/braincl \\
 && /opt/braincl/bin/pip install --no-index --find-links /wheelhouse --no-cache-dir braincl-med \\
 && rm -rf /wheelhouse
RUN useradd --system --uid {USER_ID} --no-create-home --home-dir {HOME} --shell /usr/sbin/nologin braincl
USER {USER_ID}
WORKDIR {HOME}
ENTRYPOINT ["{PROGRAM}", "deploy", "up", "{HOME}"]
"""
SHARED = """\
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    restart: always
"""


def compose(settings: Server | Hospital) -> str:
    """compose.yaml: one container a program; they share one loopback, and the proxy's port alone is published."""
    first, *others = _ordered(settings)
    services = "".join(_service(part, settings, f'    network_mode: "service:{first.name}"\n') for part in others)
    published = f'    ports: ["{settings.port}:{settings.port}"]\n' if isinstance(settings, Server) else ""
    return f"services:\n{_service(first, settings, published)}{services}"


def _ordered(settings: Server | Hospital) -> list[Part]:
    """The one that owns the network first."""
    return sorted(parts_of(settings), key=lambda part: part is not PROXY_PART)


def _service(part: Part, settings: Server | Hospital, network: str) -> str:
    if part is PROXY_PART:
        image = f"""\
    image: nginx:stable
    user: "{USER_ID}"
    entrypoint: ["nginx", "-e", "stderr", "-p", "{HOME}/state", "-c", "{HOME}/nginx.conf"]
"""
    else:
        image = f'    build: .\n    image: braincl-med\n    command: ["--only", "{part.name}"]\n'
    scans = f'      - "./scans:{HOME}/scans:ro"\n' if isinstance(settings, Hospital) and part.name == "app" else ""
    volumes = f'    volumes:\n      - ".:{HOME}:ro"\n      - "./state:{HOME}/state"\n{scans}'
    return f"  {part.name}:\n{image}{network}{volumes}{SHARED}"
