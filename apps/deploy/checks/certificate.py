"""Whether a certificate holds: dates, name, and who signed it."""

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from apps.deploy.checks.finding import Finding
from apps.deploy.layout import is_address

SOON = datetime.timedelta(days=30)
RENEW = (
    "`braincl deploy renew DIR` where the federation was set up, and bring server.pem and server.key to the server"
)


def certificate_finding(pem: bytes, authority: bytes, host: str, now: datetime.datetime) -> Finding:
    """How the server's certificate is at the time `now`, for whoever calls the server `host`."""
    what = "certificate"
    try:
        certificate, signer = x509.load_pem_x509_certificate(pem), x509.load_pem_x509_certificate(authority)
    except ValueError:
        return Finding(what, "server.pem or ca.crt is no certificate", "copy both again from where they were made")
    try:
        certificate.verify_directly_issued_by(signer)
    except (InvalidSignature, ValueError, TypeError):
        return Finding(
            what, "it was signed by another authority than this folder's ca.crt", f"{RENEW}, with one ca.crt"
        )
    if host not in _names(certificate):
        return Finding(
            what, f"it is for {', '.join(_names(certificate))}, not for {host}", f"correct `host`, or {RENEW}"
        )
    return _date_finding(what, certificate, now)


def authority_finding(pem: bytes, now: datetime.datetime) -> Finding:
    """How the authority's certificate, by which the server is known, is at the time `now`."""
    try:
        return _date_finding("authority", x509.load_pem_x509_certificate(pem), now)
    except ValueError:
        return Finding("authority", "ca.crt is no certificate", "copy it again from where the federation was set up")


def _date_finding(what: str, certificate: x509.Certificate, now: datetime.datetime) -> Finding:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < first:
        return Finding(
            what, f"it begins to hold on {first:%Y-%m-%d %H:%M} UTC", "set this machine's clock (it is slow)"
        )
    if now > last:
        return Finding(what, f"it has expired on {last:%Y-%m-%d}", RENEW)
    if last - now < SOON:
        return Finding(what, f"it expires on {last:%Y-%m-%d}, in {(last - now).days} days", RENEW)
    return Finding(what, f"holds until {last:%Y-%m-%d}")


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [name for name in names.get_values_for_type(x509.DNSName) if not is_address(name)] + addresses
