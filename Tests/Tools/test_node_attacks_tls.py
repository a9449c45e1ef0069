"""The attacks of test_node_attacks.py once more, from within TLS, where the worker and not the daemon meets them first."""

import ssl
import tempfile
import time
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
    def test_ninth_association_of_an_address_is_rejected_transiently_and_others_are_not(self):
        """Without a worker there is no TLS in which to reject: the connection is closed."""
        peers = [self.enterContext(self.peer()) for _ in range(attacks.MOST_PER_PEER)]
        for peer in peers:
            peer.associate()
        with self.assertRaises(OSError):
            self.peer()
        self.assert_logged("too many associations", times=1)
        with self.association(address=self.arena.next_address()) as other:
            other.release()
        for peer in peers:
            peer.release()
        attacks.wait_for(self.is_admitted, "there is room again", 5)

    def is_admitted(self) -> bool:
        try:
            with self.association() as peer:
                peer.release()
                return True
        except OSError:
            return False


class AnswersOwedOverTLS(attacks.AnswersOwed):
    pass


class DataPDUsOverTLS(attacks.DataPDUs):
    pass


class CommandsOverTLS(attacks.Commands):
    pass


class IdentifiersOverTLS(attacks.Identifiers):
    pass


class EndingsOverTLS(attacks.Endings):
    def test_half_closed_sockets_get_what_is_owed_and_hold_nothing(self):
        """Without close_notify the stream was cut off (RFC 8446 §6.1): nothing is owed but an end at once."""
        study = attacks.fresh_uid()
        content = attacks.Image(study + ".1", study).encoded()
        with self.association() as peer:
            self.assert_response(peer.store(study + ".1", content), attacks.SUCCESS)
            peer.send(attacks.data_pdu(1, attacks.request(attacks.C_STORE_RQ, attacks.CT, study + ".2"), command=True))
            peer.send(attacks.data_pdu(1, content[:100], command=False, last=False))
            peer.finish_sending()
            started = time.monotonic()
            try:
                while peer.receive():
                    pass
            except ssl.SSLError:
                pass
            self.assertLess(time.monotonic() - started, 1)
        self.assert_logged("association ended", "instances=1", times=1)
        self.assertEqual(self.lines("association ended", "how=released"), [])
        self.assert_stored(study, content)


class SlowPeersOverTLS(attacks.SlowPeers):
    pass


class StrictNodeOverTLS(attacks.StrictNode):
    pass


class DuplicatesOverTLS(attacks.Duplicates):
    pass


class ElementsOverTLS(attacks.Elements):
    pass
