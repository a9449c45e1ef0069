"""The attacks of test_node_attacks.py once more, from within TLS, where the worker and not the daemon meets them first."""

import tempfile
import unittest
from pathlib import Path

import test_node_attacks as attacks
from certificates import CertificateFolder


def setUpModule():
    folder = tempfile.TemporaryDirectory(prefix="ichnode-certificates-")
    unittest.addModuleCleanup(folder.cleanup)
    certificates = CertificateFolder(Path(folder.name))
    certificates.authority("site")
    certificates.issue("node", "site")
    certificates.issue("scanner", "site")
    attacks.open_arenas(certificates)


class NestingOverTLS(attacks.Nesting):
    pass


class DeflatedOverTLS(attacks.Deflated):
    pass


class RequestsOverTLS(attacks.Requests):
    pass


class AnswersOwedOverTLS(attacks.AnswersOwed):
    pass


class DataPDUsOverTLS(attacks.DataPDUs):
    pass


class CommandsOverTLS(attacks.Commands):
    pass


class IdentifiersOverTLS(attacks.Identifiers):
    pass


class EndingsOverTLS(attacks.Endings):
    pass


class SlowPeersOverTLS(attacks.SlowPeers):
    pass


class StrictNodeOverTLS(attacks.StrictNode):
    pass


class DuplicatesOverTLS(attacks.Duplicates):
    pass


class ElementsOverTLS(attacks.Elements):
    pass
