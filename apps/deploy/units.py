"""systemd units: each program as a user without a shell, that writes its state and nothing else."""

from apps.deploy.layout import Hospital, Server
from apps.deploy.parts import APP, EXECUTOR, SUPERLINK, SUPERNODE, Part, parts_of

HOME, PROGRAM, USER = "/srv/braincl", "/opt/braincl/bin/braincl", "braincl"
SERVED = {SUPERLINK: EXECUTOR, SUPERNODE: APP}
"""Whose work ends with the end of the other: bound to it, and started again with it."""


def unit_name(part: Part) -> str:
    """The unit's file name."""
    return f"braincl-{part.name}.service"


def units(settings: Server | Hospital) -> dict[str, str]:
    """File name → content of every unit of a folder."""
    return {unit_name(part): _unit(part) for part in parts_of(settings)}


def _unit(part: Part) -> str:
    order = "Wants=network-online.target\nAfter=network-online.target"
    for first, second in SERVED.items():
        if part is first:
            order += f"\nUpholds={unit_name(second)}"
        elif part is second:
            order += f"\nBindsTo={unit_name(first)}\nAfter={unit_name(first)}"
    credentials = "\n".join(f"LoadCredential={name}:{HOME}/{name}" for name in part.files)
    enrol = f"\nExecStartPost={PROGRAM} deploy enrol {HOME}" if part is SUPERLINK else ""
    return f"""\
[Unit]
Description=BrainCL-Med {part.name}: {part.what}
{order}
StartLimitIntervalSec=0

[Service]
ExecStart={PROGRAM} deploy up {HOME} --only {part.name}{enrol}
User={USER}
{credentials}
# Flower ends with status 0 where it refuses a node for its clock, so on-failure would leave that node down.
Restart=always
RestartSec=10
TimeoutStartSec=300
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={HOME}/state
ProtectHome=yes
PrivateTmp=yes
PrivateDevices={"no" if part is APP else "yes"}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
LockPersonality=yes
CapabilityBoundingSet=
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""
