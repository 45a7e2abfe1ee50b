"""Verifies DKIM signatures by dkimpy, OpenDKIM, Mail::DKIM and authheaders: `verifiers.py NAMESERVER ZONE FILE...` in a
namespace of the content laboratory, where the name server of ZONE is the only one. signatures.py starts it.

What verify.sh of the laboratory prints, a line for each file; that starts four programs for each, and so takes ten times as
long for a corpus.
"""

import pathlib
import socket
import subprocess
import sys
import time

import authheaders
import dkim

PERL = r"""
use Mail::DKIM::Verifier;
for my $file (@ARGV) {
    open(my $in, "<", $file) or die "$file: $!";
    my $verifier = Mail::DKIM::Verifier->new;
    while (<$in>) { chomp; s/\015$//; $verifier->PRINT("$_\015\012") }
    $verifier->CLOSE;
    print join(",", map { $_->algorithm . "=" . $_->result } $verifier->signatures), "\n";
}
"""


def by_dkimpy(message):
    verifier = dkim.DKIM(message, minkey=1024)
    found = []
    for number in range(sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)):
        try:
            said = "pass" if verifier.verify(number) else "False"
        except Exception as error:  # each of its own kinds is an answer
            said = type(error).__name__
        found.append(f"{verifier.signature_fields.get(b'a', b'?').decode()}={said}")
    return ",".join(found) or "none"


def by_opendkim(message):
    done = subprocess.run(["opendkim-testmsg"], input=message, capture_output=True)
    return "pass" if done.returncode == 0 else (done.stdout + done.stderr).decode(errors="replace").strip()[-60:]


def by_authheaders(message):
    try:
        said = authheaders.authenticate_message(message, "mx.example.net", spf=False, dmarc=False, arc=False)
        return said.replace("\n", " ").split(";", 1)[1].strip()[:90]
    except Exception as error:
        return type(error).__name__


def wait_for_names():
    """Until the name server listens."""
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 53)) == 0:
                return
        time.sleep(0.05)
    sys.exit("the name server does not come")


def main(nameserver, zone, *files):
    server = subprocess.Popen(
        [sys.executable, nameserver, zone], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_names()
        perl = subprocess.run(["perl", "-e", PERL, *files], capture_output=True, text=True, check=True).stdout.splitlines()
        for file, by_perl in zip(files, perl, strict=True):
            message = pathlib.Path(file).read_bytes()
            print(f"{pathlib.Path(file).name}: dkimpy[{by_dkimpy(message)}] opendkim[{by_opendkim(message)}] "
                  f"Mail::DKIM[{by_perl}] authheaders[{by_authheaders(message)}]")
    finally:
        server.kill()


main(*sys.argv[1:])
