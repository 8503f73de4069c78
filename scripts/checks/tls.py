"""The TLS door under testssl.sh and against Mozilla's recommendation (sslyze). Writes docs/checks/tls.md."""

import json
import subprocess
import sys
from pathlib import Path

import app
import edge
import report

SEVERE = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")
# What is not the door's to mend, with the reason that goes to the page.
EXPECTED = {
    "cert_notAfter_old": "",
    "cert_crlDistributionPoints": "",
    "OCSP_stapling": "nothing to staple: the check's own authority runs no OCSP, and Let's Encrypt "
                     "ended its service in 2025",
    "cert_ocspURL": "the check's own authority runs no OCSP",
    "cert_revocation": "the check's own authority says nothing of revocation; with Let's Encrypt the "
                       "certificate names a CRL",
    "DNS_CAArecord": "a name of this machine has no CAA record",
    "cert_validityPeriod": "the check's own certificate",
    "cert_extlifeSpan": "the check's own certificate",
    "cipher_order": "all that is offered is sound, so the client's order decides, as Mozilla's "
                    "recommendation has it",
    "security_headers": "the app's to say: `secure_headers` of the app file sets them",
}


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def certificate(folder: Path) -> tuple[Path, str, str]:
    """An authority, and a certificate of HOST signed by it."""
    ca, ca_key, leaf, key, request = (folder / name for name in
                                      ("ca.pem", "ca.key", "leaf.pem", "leaf.key", "leaf.csr"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", str(ca_key), "-out", str(ca), "-days", "90",
            "-subj", "/CN=Check Authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", *curve, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={edge.HOST}")
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName=DNS:{edge.HOST}\nkeyUsage=digitalSignature\n"
                          "extendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n"
                          "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
    openssl("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key),
            "-CAcreateserial", "-days", "90", "-out", str(leaf), "-extfile", str(extensions))
    return ca, leaf.read_text(), key.read_text()


def testssl(page: report.Report, one: edge.Edge, ca: Path) -> None:
    out = one.folder / "testssl.json"
    words = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "min",
             "--ip", "127.0.0.1", "--add-ca", str(ca), "--jsonfile", str(out),
             f"{edge.HOST}:{one.https_port}"]
    with (one.folder / "testssl.txt").open("wb") as text:
        subprocess.run(words, stdout=text, stderr=text, stdin=subprocess.DEVNULL, timeout=1500, check=False)
    found = json.loads(out.read_text())
    page.facts.append(f"{len(found)} findings of testssl.sh")
    by_id = {item["id"]: item for item in found}
    for ident, wanted, what in (
        ("SSLv2", "OK", "SSL 2 is refused"), ("SSLv3", "OK", "SSL 3 is refused"),
        ("TLS1", "OK", "TLS 1.0 is refused"), ("TLS1_1", "OK", "TLS 1.1 is refused"),
        ("TLS1_2", "OK", "TLS 1.2 is spoken"), ("TLS1_3", "OK", "TLS 1.3 is spoken"),
        ("PFS", "OK", "forward secrecy"), ("heartbleed", "OK", "Heartbleed"),
        ("secure_client_renego", "OK", "no renegotiation by the client"),
        ("CRIME_TLS", "OK", "no compression (CRIME)"), ("ROBOT", "OK", "ROBOT"),
        ("LUCKY13", "OK", "LUCKY13"), ("BEAST", "OK", "BEAST"), ("FREAK", "OK", "FREAK"),
        ("LOGJAM", "OK", "LOGJAM"), ("DROWN", "OK", "DROWN"), ("POODLE_SSL", "OK", "POODLE"),
        ("SWEET32", "OK", "SWEET32"), ("ticketbleed", "OK", "Ticketbleed"), ("RC4", "OK", "no RC4"),
        ("HSTS_time", "OK", "HSTS, where the app asks for it"),
    ):
        item = by_id.get(ident) or by_id.get(f"{ident} <{edge.HOST}>")
        is_good = item is not None and item["severity"] in (wanted, "INFO")
        page.check(is_good, what, item["finding"] if item else f"testssl.sh does not say ({ident})")
    others = [item for item in found if item["severity"] in SEVERE]
    for item in others:
        ident = item["id"].split(" ")[0]
        reason = EXPECTED.get(ident)
        page.check(reason is not None, f"testssl.sh, {item['severity']}: {ident}",
                   item["finding"] + (f" ({reason})" if reason else ""))
    if not others:
        page.check(True, "testssl.sh finds nothing else", "no finding of low severity or worse")


def sslyze(page: report.Report, one: edge.Edge, ca: Path) -> None:
    for level in ("intermediate", "modern"):
        strict = Path(__file__).with_name("strict_sslyze.py")
        words = [sys.executable, str(strict), f"--mozilla_config={level}", f"--certinfo_ca_file={ca}",
                 f"--sni={edge.HOST}", f"{edge.HOST}:{one.https_port}{{127.0.0.1}}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        lines = done.stdout.splitlines()
        at = next((n for n, line in enumerate(lines) if "COMPLIANCE AGAINST" in line.upper()), 0)
        said = " ".join(line.strip() for line in lines[at + 1:] if line.strip(" -"))
        is_compliant = "OK - Compliant" in done.stdout
        if level == "intermediate":
            # testssl.sh asks without a name, and who names no host is turned away.
            renegotiation = next((line.split(":")[1].strip() for line in lines
                                  if "Secure Renegotiation:" in line), "sslyze does not say")
            page.check("OK - Supported" in renegotiation, "secure renegotiation", renegotiation)
            page.check(is_compliant, "Mozilla's intermediate recommendation (sslyze)", said)
        else:
            page.parts.append(f"Mozilla's *modern* recommendation is TLS 1.3 alone, which shuts out "
                              f"clients of before 2019; for the record: {said}")


def main() -> int:
    edge.build()
    page = report.Report("tls.md", "The TLS door", "Written by `make tls-check`; do not edit. "
                         "testssl.sh and sslyze look at the proxy's HTTPS with a certificate of an "
                         "authority made for the check.")
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "testssl.sh"],
                             capture_output=True, text=True, check=False).stdout
    page.facts.append(f"testssl.sh {version}; {edge.PROFILE} build")
    with app.Threaded() as behind, edge.Edge(behind.port) as one:
        ca, chain, key = certificate(one.folder)
        one.certify(chain, key, hsts=True)
        testssl(page, one, ca)
        sslyze(page, one, ca)
    return 0 if page.write() else 1


if __name__ == "__main__":
    sys.exit(main())
