"""The node takes what it should, byte for byte, refuses the rest with a reason, and lets nobody block anybody."""

import os
import shutil
import socket
import tempfile
import time
import unittest
import zlib
from pathlib import Path

import pydicom
from node_fixture import (
    LOOPBACK,
    NodeTestCase,
    Sender,
    data_set_bytes,
    echoscu,
    needs_node,
    phantom,
    run_tool,
    send_all,
    storescu,
    wait_for,
)
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian
from transcode import TARGETS, transcode, with_bits

SILENT_SOCKETS = 100


@needs_node
class BytePreservation(NodeTestCase):
    def test_generated_objects_are_stored_as_sent_in_every_transfer_syntax(self):
        study = phantom(self.folder / "phantom", "--slices", str(len(TARGETS)))
        sent = []
        for source, target in zip(study.files, TARGETS):
            with tempfile.TemporaryDirectory() as scratch:
                source = with_bits(source, target.bits, Path(scratch)) if target.bits else source
                sent.append(self.folder / f"{target.name}.dcm")
                transcode(source, target, sent[-1])
        send_all(self.node, sent)
        self.assert_in_spool(study, sent)
        stored = [pydicom.dcmread(path, stop_before_pixels=True) for path in self.node.stored(study.uid)]
        kept = {ds.file_meta.TransferSyntaxUID for ds in stored}
        self.assertEqual(kept, {target.uid for target in TARGETS})

    def test_deflated_object_of_odd_length_is_stored_as_sent(self):
        # PS3.5 §A.5 asks for a padding byte; senders exist that add none.
        study = phantom(self.folder / "phantom", "--slices", "1")
        path = self.folder / "odd.dcm"
        write_odd_deflated(study.files[0], path)
        content = data_set_bytes(path)
        self.assertEqual(len(content) % 2, 1)
        send_all(self.node, [path])
        (stored,) = self.node.stored(study.uid)
        self.assertEqual(data_set_bytes(stored), content)

    def test_dcmtk_sender_and_spool_agree(self):
        study = phantom(self.folder, "--implicit", "--odd-uids")
        # storescu reads and encodes again: what it writes of its own file is what has to arrive.
        storescu(self.node, self.folder)
        wait_for(lambda: len(self.node.stored(study.uid)) == len(study.files), "all are stored", 10)
        for path in self.node.stored(study.uid):
            stored = pydicom.dcmread(path)
            (source,) = [each for each in study.files if pydicom.dcmread(each).SOPInstanceUID == stored.SOPInstanceUID]
            self.assertEqual(stored, pydicom.dcmread(source))


def write_odd_deflated(source: Path, path: Path) -> None:
    """The image in Deflated Explicit VR Little Endian, an odd number of bytes long and not padded."""
    ds = pydicom.dcmread(source)
    for attempt in range(1000):
        ds.ImageComments = "odd" + "." * attempt
        encoded = DicomBytesIO()
        encoded.is_little_endian, encoded.is_implicit_VR = True, False
        write_dataset(encoded, pydicom.Dataset({e.tag: e for e in ds if e.tag.group != 2}))
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        deflated = compressor.compress(encoded.getvalue()) + compressor.flush()
        if len(deflated) % 2:
            break
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with path.open("wb") as file:
        file.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(file, ds.file_meta)
        file.write(deflated)


@needs_node
class Admission(NodeTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.strict = cls.site.add_node(
            "strict",
            dicom={
                "allowed_calling_ae_titles": ["SCANNER1"],
                "most_associations_per_peer": 2,
                "admission_queue_seconds": 0.5,
                "request_deadline_seconds": 1,
            },
        )
        cls.addClassCleanup(cls.strict.stop)
        cls.strict.start()

    def assert_logged(self, node, text: str) -> None:
        wait_for(lambda: text in node.log_text(), f'"{text}" in the log', 5, node.log_tail)

    def test_unknown_called_ae_title_is_named_as_the_reason(self):
        answer = echoscu(self.node, called="SOMEONE")
        self.assertNotEqual(answer.returncode, 0)
        self.assertIn("Called AE Title Not Recognized", answer.stdout)
        self.assert_logged(self.node, "called AE title")

    def test_calling_ae_title_that_is_not_allowed_is_named_as_the_reason(self):
        self.assertEqual(echoscu(self.strict, calling="SCANNER1").returncode, 0)
        answer = echoscu(self.strict, calling="STRANGER")
        self.assertNotEqual(answer.returncode, 0)
        self.assertIn("Calling AE Title Not Recognized", answer.stdout)

    def test_silent_sockets_delay_nobody(self):
        silent = []
        try:
            for _ in range(SILENT_SOCKETS):
                silent.append(socket.create_connection((LOOPBACK, self.node.dicom_port), timeout=5))
            started = time.monotonic()
            answer = echoscu(self.node)
            seconds = time.monotonic() - started
        finally:
            for each in silent:
                each.close()
        self.assertEqual(answer.returncode, 0, answer.stdout)
        print(f"\n    C-ECHO beside {SILENT_SOCKETS} silent sockets: {seconds:.3f} s", flush=True)
        self.assertLess(seconds, 1)

    def test_silent_socket_is_closed_at_the_deadline(self):
        with socket.create_connection((LOOPBACK, self.strict.dicom_port), timeout=5) as silent:
            started = time.monotonic()
            self.assertEqual(silent.recv(1), b"")
            self.assertLess(time.monotonic() - started, 3)
        self.assert_logged(self.strict, "no complete association request in time")

    def test_http_on_the_dicom_port_is_aborted_and_logged(self):
        with socket.create_connection((LOOPBACK, self.strict.dicom_port), timeout=5) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
            started = time.monotonic()
            # A-ABORT (PS3.8 Table 9-10, action AA-1), as to whatever is no association request.
            self.assertEqual(browser.recv(100), bytes([7, 0, 0, 0, 0, 4, 0, 0, 0, 0]))
            self.assertEqual(browser.recv(100), b"")
            self.assertLess(time.monotonic() - started, 1)
        self.assert_logged(self.strict, "HTTP on the DICOM port")
        self.assertEqual(echoscu(self.strict, calling="SCANNER1").returncode, 0)

    def test_over_the_limit_of_a_peer_the_rejection_is_transient(self):
        study = phantom(self.folder, "--slices", "2")
        with Sender(self.strict, study.files, "SCANNER1"), Sender(self.strict, study.files, "SCANNER1"):
            answer = echoscu(self.strict, calling="SCANNER1")
        self.assertNotEqual(answer.returncode, 0)
        self.assertIn("Rejected Transient", answer.stdout)
        self.assertRegex(answer.stdout, "Local Limit Exceeded|Temporary Congestion")
        # The places are free again.
        wait_for(lambda: echoscu(self.strict, calling="SCANNER1").returncode == 0, "an association is admitted", 5)


@needs_node
class DiskWatermarks(NodeTestCase):
    """A ballast file takes the room of a real disk and gives it back."""

    BALLAST_MIB, MARGIN_MIB = 3072, 1024

    def setUp(self):
        super().setUp()
        free = shutil.disk_usage(self.folder).free >> 20
        if free < 2 * self.BALLAST_MIB:
            self.skipTest(f"{free} MiB free are too little to take some away")
        self.watermark = free - self.MARGIN_MIB
        self.ballast = self.folder / f"ballast-{self.id()}"
        self.addCleanup(self.ballast.unlink, missing_ok=True)

    def started(self, name: str, reject: int, refuse: int):
        disk = {"reject_associations_below_mebibytes": reject, "refuse_objects_below_mebibytes": refuse}
        node = self.site.add_node(name, disk=disk)
        self.addCleanup(node.stop)
        node.start()
        return node

    def take_room(self) -> None:
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.BALLAST_MIB << 20)

    def test_below_the_first_only_echo_is_admitted_and_it_ends_by_itself(self):
        node = self.started("nearly-full", reject=self.watermark, refuse=0)
        study = phantom(self.folder, "--slices", "3")
        self.assertEqual(echoscu(node).returncode, 0)
        self.take_room()
        wait_for(lambda: "disk nearly full" in node.log_text(), "the watch notices", 10, node.log_tail)
        address = [LOOPBACK, str(node.dicom_port)]
        answer = run_tool("storescu", "-aet", "SCANNER", "-aec", "ICHNODE", *address, str(study.files[0]))
        self.assertNotEqual(answer.returncode, 0)
        self.assertIn("Rejected Transient", answer.stdout)
        self.assertIn("Temporary Congestion", answer.stdout)
        self.assertEqual(echoscu(node).returncode, 0, "C-ECHO goes on")
        self.assertEqual(node.stored(study.uid), [])
        self.ballast.unlink()
        wait_for(lambda: "disk has room again" in node.log_text(), "the watch notices", 10, node.log_tail)
        storescu(node, *study.files)
        self.assertEqual(len(node.stored(study.uid)), 3)

    def test_below_the_second_objects_of_an_open_association_are_refused(self):
        node = self.started("disk-full", reject=self.watermark, refuse=self.watermark)
        study = phantom(self.folder, "--slices", "3")
        with Sender(node, study.files) as sender:
            self.assertTrue(sender.store(study.files[0]))
            self.take_room()
            self.assertEqual(sender.status(study.files[1]), 0xA700)
            self.assertEqual(list(node.incoming.iterdir()), [], "nothing of it remains")
            self.ballast.unlink()
            self.assertTrue(sender.store(study.files[1]), "it ends by itself")
        self.assertEqual(len(node.stored(study.uid)), 2)


if __name__ == "__main__":
    unittest.main()
