"""The one page that says which file goes to whom, by which way, and what to type there."""

from collections.abc import Sequence

from apps.deploy.layout import CA_FOLDER, CA_KEY, KEY, NODE_KEY, NODES, SECRET, SERVER, Server
from apps.deploy.parts import parts_of
from apps.deploy.units import HOME, PROGRAM, USER, unit_name


def page(server: Server, hospitals: Sequence[str]) -> str:
    """README.md of the folder that `deploy init` writes."""
    units = " ".join(unit_name(part) for part in parts_of(server))
    each = "\n".join(
        f"| `{name}/` | {name}, and nobody else | holds `{NODE_KEY}`, its identity |" for name in hospitals
    )
    return f"""\
# A federation of {len(hospitals)} hospitals with the server {server.host}

Everything here was written by `braincl deploy init`. Files can be read by their owner alone; keep it so.

| folder | goes to | by a way that nobody reads along (scp, an encrypted stick), for it |
|---|---|---|
| `{CA_FOLDER}/` | stays here, offline if you can | holds `{CA_KEY}`: whoever has it can pretend to be the server |
| `{SERVER}/` | the server, and nobody else | holds `{KEY}` and `{SECRET}` |
{each}

A hospital that wants its key seen by nobody calls `braincl deploy renew FOLDER` on its own machine and sends the file
that ends in `.pub`, which is no secret, to the server's `{NODES}/`. Once the folders are where they belong, delete
them here.

## On one machine

```
braincl deploy up .                     # server and hospitals, until Ctrl-C
braincl deploy run server demo          # in another terminal
```

## On the machine of the server, and of each hospital

Only the server's port {server.port} must be reachable, from the hospitals. Install the program into `/opt/braincl`
(`python3.11 -m venv /opt/braincl`, then `/opt/braincl/bin/pip install` of the wheel), at the server nginx too. Then,
as root, with FOLDER being `{SERVER}` or `hospital-N`:

```
useradd --system --no-create-home --home-dir {HOME} --shell /usr/sbin/nologin {USER}
cp -r FOLDER {HOME} && chown -R root:root {HOME} && chmod 0755 {HOME}
chmod 0644 {HOME}/settings.toml {HOME}/ca.crt
chown -R {USER}: {HOME}/state && chmod 0700 {HOME}/state
cp {HOME}/systemd/*.service /etc/systemd/system/ && systemctl daemon-reload
```

At the server besides: `chmod 0644 {HOME}/server.pem && chmod -R a+rX {HOME}/{NODES}`. Then
`systemctl enable --now {units}`,
at a hospital `systemctl enable --now braincl-supernode.service braincl-app.service`. systemd hands keys to the
programs; their user cannot read the files.

`{PROGRAM} deploy check {HOME}` says what is wrong, on either side. A run is submitted on the server as that user:
`sudo -u {USER} {PROGRAM} deploy run {HOME} demo`.

## In containers

Beside `Dockerfile`, `wheelhouse/` holds the program and what it needs: `pip wheel --wheel-dir wheelhouse .` in the
clone of the program, on a machine with a network and the same Python. `chown -R 10001 FOLDER`, then
`docker compose up --detach` in it; at the server `docker compose exec superlink {PROGRAM} deploy enrol {HOME}`
once. The base images are loaded beforehand (`docker load`).

## Renewal

`braincl deploy renew .` here makes a new certificate for the server, `--hospital hospital-1` a new key for that
hospital; it says which files go where. Certificates last 397 days, the authority ten years.
"""
