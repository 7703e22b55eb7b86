"""What `deploy init` and `deploy renew` write: who can read it, whether it holds, and that nothing is lost."""

import shutil
import ssl
import stat
import subprocess

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from typer.testing import CliRunner

from apps.cli.main import app
from apps.deploy.init import initialise
from apps.deploy.layout import Hospital, Server, parts_in, read_settings
from apps.deploy.parts import command_of, parts_of
from apps.deploy.renew import renew
from apps.deploy.units import units
from braincl_med.foundation.errors import ConfigError

HOSPITALS = 2


def test_nobody_but_the_owner_reads_anything_and_only_the_authority_has_its_key(written):
    for path in written.rglob("*"):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    assert [path.parent.name for path in written.rglob("ca.key")] == ["ca"]
    assert sorted(path.parent.name for path in written.rglob("node.key")) == ["hospital-1", "hospital-2"]
    secrets = {path.read_bytes() for path in written.rglob("executor.secret")}
    assert len(secrets) == 1 + HOSPITALS, "the server's secret opens no hospital's node"


def test_the_certificate_verifies_for_the_server_and_for_loopback(written):
    authority, certificate = written / "hospital-1" / "ca.crt", written / "server" / "server.pem"
    for name in (["-verify_hostname", "server.example.org"], ["-verify_ip", "127.0.0.1"]):
        command = ["openssl", "verify", "-x509_strict", "-CAfile", str(authority), *name, str(certificate)]
        assert subprocess.run(command, capture_output=True).returncode == 0, name
    other = ["openssl", "verify", "-CAfile", str(authority), "-verify_hostname", "example.org", str(certificate)]
    assert subprocess.run(other, capture_output=True).returncode != 0
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, written / "server" / "server.key")


def test_node_keys_are_those_that_flower_takes_and_the_server_has_their_public_halves(written):
    for name in ("hospital-1", "hospital-2"):
        private = load_ssh_private_key((written / name / "node.key").read_bytes(), None)
        public = load_ssh_public_key((written / "server" / "nodes" / f"{name}.pub").read_bytes())
        assert private.public_key() == public
        assert public.curve.name == "secp384r1"


def test_a_folder_with_content_is_refused_and_left_as_it_is(folder):
    before = (folder / "ca" / "ca.key").read_bytes()
    with pytest.raises(ConfigError, match="not empty"):
        initialise(folder, "server.example.org", HOSPITALS)
    assert (folder / "ca" / "ca.key").read_bytes() == before


@pytest.mark.parametrize("host", ["", "a b", 'x";', "300.1.1.1", "::1", "-x.org", "x" * 254])
def test_a_host_that_is_none_is_refused_before_anything_is_written(host, tmp_path):
    with pytest.raises(ConfigError, match="--server"):
        initialise(tmp_path / "new", host, 1)
    assert not (tmp_path / "new").exists()


def test_without_a_proxy_the_port_stays_on_loopback(tmp_path):
    with pytest.raises(ConfigError, match="proxy"):
        initialise(tmp_path / "new", "192.0.2.1", 1, with_proxy=False)


def test_control_and_runtime_are_on_loopback_and_want_the_secret(written):
    server = read_settings(written / "server")
    assert isinstance(server, Server)
    line = command_of(parts_of(server)[0], written / "server", server)
    assert line[line.index("--host") + 1] == "127.0.0.1"
    assert line[line.index("--isolation") + 1] == "process"
    assert "--superexec-auth-secret-file" in line
    assert "--enable-supernode-auth" in line
    hospital = read_settings(written / "hospital-2")
    assert isinstance(hospital, Hospital)
    line = command_of(parts_of(hospital)[0], written / "hospital-2", hospital)
    assert line[line.index("--superlink") + 1] == "server.example.org:42000"
    assert line[line.index("--host") + 1] == "127.0.0.1"
    assert line[line.index("--isolation") + 1] == "process"


def test_a_moved_folder_names_its_new_place(folder):
    hospital = read_settings(folder / "hospital-1")
    line = command_of(parts_of(hospital)[0], folder / "hospital-1", hospital)
    assert f'vault-dir="{folder}/hospital-1/state/vault"' in line[-1]


def test_a_server_of_another_certificate_is_renewed_under_the_same_authority(folder):
    state = folder / "server" / "state" / "superlink.db"
    state.write_bytes(b"an experiment")
    before = (folder / "server" / "server.pem").read_bytes()
    other = (folder / "server" / "nodes" / "hospital-2.pub").read_bytes()
    said = renew(folder, ["hospital-1"])
    after = (folder / "server" / "server.pem").read_bytes()
    authority = x509.load_pem_x509_certificate((folder / "hospital-2" / "ca.crt").read_bytes())
    x509.load_pem_x509_certificate(after).verify_directly_issued_by(authority)
    assert after != before
    private = load_ssh_private_key((folder / "hospital-1" / "node.key").read_bytes(), None)
    assert private.public_key() == load_ssh_public_key((folder / "server" / "nodes" / "hospital-1.pub").read_bytes())
    assert (folder / "server" / "nodes" / "hospital-2.pub").read_bytes() == other
    assert state.read_bytes() == b"an experiment"
    assert len(said) == 2


def test_a_hospital_renews_its_own_key_and_is_told_whom_to_give_it(folder):
    before = (folder / "hospital-1" / "node.key").read_bytes()
    (said,) = renew(folder / "hospital-1")
    assert (folder / "hospital-1" / "node.key").read_bytes() != before
    assert "hospital-1.pub" in said
    with pytest.raises(ConfigError, match=r"ca/ca\.key"):
        renew(folder / "server")


def test_compose_files_are_yaml_and_publish_the_proxys_port_alone(written):
    services = yaml.safe_load((written / "server" / "compose.yaml").read_text())["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"proxy"}
    assert {services[name]["network_mode"] for name in ("superlink", "executor")} == {"service:proxy"}
    services = yaml.safe_load((written / "hospital-1" / "compose.yaml").read_text())["services"]
    assert services.keys() == {"supernode", "app"}
    assert not any("ports" in service for service in services.values())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_takes_the_units(written, tmp_path):
    for role in ("server", "hospital-1"):
        for name, text in units(read_settings(written / role)).items():
            # The program is looked for where it is not on this machine.
            (tmp_path / name).write_text(text.replace("/opt/braincl/bin/braincl", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.glob("*.service")))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if "braincl-" in line], done.stderr


def test_parts_are_found_in_a_folder_around_them_or_in_one_of_them(written, tmp_path):
    assert [path.name for path in parts_in(written)] == ["server", "hospital-1", "hospital-2"]
    assert parts_in(written / "hospital-2") == [written / "hospital-2"]
    with pytest.raises(ConfigError, match=r"settings\.toml"):
        parts_in(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('role = "hospital"', 'role = "judge"', "role"),
        ("port = 42000", "port = 0", "port"),
        ("number = 0", "number = 0\nsurprise = 1", "surprise"),
        ("[node]", "[node", "TOML"),
    ],
)
def test_settings_that_are_wrong_are_refused_by_name(folder, old, new, named):
    path = folder / "hospital-1" / "settings.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=named):
        read_settings(folder / "hospital-1")


def test_the_command_says_where_to_read_on(tmp_path):
    done = CliRunner().invoke(
        app, ["deploy", "init", str(tmp_path / "f"), "--hospitals", "1", "--server", "192.0.2.7"]
    )
    assert done.exit_code == 0, done.output
    assert "README.md" in done.output
    assert "192.0.2.7" in (tmp_path / "f" / "README.md").read_text()
