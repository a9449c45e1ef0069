"""What `ichnode doctor` says of peers that do not take what the configuration wants of them."""

from __future__ import annotations

import subprocess
import tempfile
import unittest
from pathlib import Path

from node_fixture import ICHNODE, LOOPBACK, RestartableNode, free_ports, needs_node
from pynetdicom import AE
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)


@needs_node
class Peers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ichnode-doctor-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def peer(self, *sop_classes) -> int:
        """The port of one that accepts these, and Verification."""
        entity = AE(ae_title="PACS")
        for sop_class in (Verification, *sop_classes):
            entity.add_supported_context(sop_class)
        (port,) = free_ports(1)
        server = entity.start_server((LOOPBACK, port), block=False)
        self.addCleanup(server.shutdown)
        return port

    def doctor(self, port: int, route: dict, **peer) -> tuple[int, str]:
        node = RestartableNode(
            self.folder / str(port), port, routes=[{"name": "default", "destinations": ["pacs"], **route}]
        )
        node.change_peer(ae_title="PACS", **peer)
        result = subprocess.run(
            [str(ICHNODE), "doctor", "--config", str(node.configuration)], capture_output=True, text=True, timeout=120
        )
        return result.returncode, result.stdout + result.stderr

    def test_everything_that_is_refused_is_named_with_what_to_change(self):
        route = {"key_objects": True, "counts_from": "pacs", "retrieve_from": "pacs"}
        code, said = self.doctor(self.peer(SecondaryCaptureImageStorage), route, commitment="required")
        self.assertEqual(code, 78, said)
        for refused, advice in (
            ("Enhanced SR Storage", "allow it there, or change sr_class of the route default"),
            ("Key Object Selection Document Storage", "allow it there, or set key_objects: false in the route default"),
            ("Study Root query (C-FIND)", "allow it there, or set counts_from: none in the route default"),
            ("Study Root retrieval (C-MOVE)", "allow it there, or set retrieve_from: none in the route default"),
            ("storage commitment", "switch it on there, or set commitment: none for this peer"),
        ):
            with self.subTest(refused):
                self.assertIn(f"BAD   peer pacs accepts no {refused}: {advice}\n", said)
        self.assertNotIn("no Secondary Capture", said)

    def test_another_sr_class_will_do(self):
        port = self.peer(SecondaryCaptureImageStorage, ComprehensiveSRStorage)
        code, said = self.doctor(port, {"sr_class": "comprehensive3d"})
        self.assertEqual(code, 0, said)
        self.assertIn("warn  peer pacs accepts no Comprehensive 3D SR Storage: ", said)

    def test_a_peer_that_takes_all_is_good(self):
        port = self.peer(
            SecondaryCaptureImageStorage,
            EnhancedSRStorage,
            StudyRootQueryRetrieveInformationModelFind,
            StorageCommitmentPushModel,
        )
        code, said = self.doctor(port, {"counts_from": "pacs"}, commitment="required")
        self.assertEqual(code, 0, said)
        self.assertNotIn("warn", said)


if __name__ == "__main__":
    unittest.main()
