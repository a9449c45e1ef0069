"""Certificates for the tests of TLS, made when they are needed by the openssl program. None is in the repository."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class CertificateFolder:
    """Authorities and certificates of theirs, by name: NAME.pem and NAME-key.pem."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def pem(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}-key.pem"

    def authority(self, name: str) -> None:
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365"),
            *("-subj", f"/O=Test site/CN={name}", "-keyout", self.key(name), "-out", self.pem(name)),
        )

    def issue(
        self, name: str, authority: str, days: int = 365, expired: bool = False, names: str = "DNS:localhost"
    ) -> None:
        """RSA, so that every suite of the profile can be had. `names` are the Subject Alternative Names."""
        request = self.folder / f"{name}-request.pem"
        self._openssl(
            *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/O=Test site/CN={name}"),
            *("-keyout", self.key(name), "-out", request),
        )
        if expired:
            return self._issue_expired(name, authority, request)
        extensions = self.folder / f"{name}-extensions"
        extensions.write_text(f"subjectAltName={names}\n")
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.pem(authority), "-CAkey", self.key(authority)),
            *("-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", self.pem(name)),
        )

    def tls_section(self, name: str, trusts: str, port: int, **keys) -> dict:
        """Of a node's configuration."""
        files = {"certificate": self.pem(name), "key": self.key(name), "ca": self.pem(trusts)}
        return {"port": port, **{key: str(path) for key, path in files.items()}, **keys}

    def client_context(self, name: str | None, trusts: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.pem(trusts)))
        context.check_hostname = False
        if name:
            context.load_cert_chain(self.pem(name), self.key(name))
        return context

    def _issue_expired(self, name: str, authority: str, request: Path) -> None:
        """`openssl x509` cannot date a certificate back; `openssl ca` can."""
        folder = self.folder / f"{name}-ca"
        folder.mkdir()
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n")
        settings = folder / "ca.cnf"
        settings.write_text(
            f"""[ca]
default_ca = site
[site]
database = {folder / "index.txt"}
serial = {folder / "serial"}
new_certs_dir = {folder}
default_md = sha256
policy = any
[any]
commonName = supplied
organizationName = optional
"""
        )
        self._openssl(
            *("ca", "-batch", "-notext", "-config", settings, "-in", request, "-cert", self.pem(authority)),
            *("-keyfile", self.key(authority), "-startdate", "20200101000000Z", "-enddate", "20200201000000Z"),
            *("-out", self.pem(name)),
        )

    @staticmethod
    def _openssl(*arguments) -> None:
        result = subprocess.run(
            ["openssl", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        if result.returncode != 0:
            raise AssertionError(f"openssl {' '.join(map(str, arguments))}\n{result.stderr}")
