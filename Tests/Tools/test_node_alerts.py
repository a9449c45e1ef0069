"""HL7 alerts: what a RIS is told, that it is told once, and that it can be as unfriendly as it likes."""

import json
import os
import re
import signal
import sqlite3
import ssl
import tempfile
import unittest
from pathlib import Path

import hl7
import pydicom
from certificates import CertificateFolder
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from node_fixture import LOOPBACK, NodeTestCase, RestartableNode, needs_node, phantom, storescu, wait_for
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from ris import Ris

ACKNOWLEDGEMENT_SECONDS = 1
# Messages of the burst; `ICHNODE_ALERT_BURST=1000` is the long form.
BURST = int(os.environ.get("ICHNODE_ALERT_BURST", "150"))
TIMESTAMP = re.compile(r"\d{14}[+-]\d{4}")


def checked(text: str) -> hl7.Message:
    """The message, after hl7apy has found nothing wrong with it, nor we where hl7apy does not look."""
    message = parse_message(text, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert message.validate(), text
    assert text.endswith("\r") and "\n" not in text, text
    parsed = hl7.parse(text)
    assert [str(segment[0]) for segment in parsed] == ["MSH", "PID", "PV1", "ORC", "OBR", "TQ1"] + ["OBX"] * 4, text
    header, order, request = (parsed.segment(name) for name in ("MSH", "ORC", "OBR"))
    assert 0 < len(str(header[10])) <= 20 and str(header[18]) == "UNICODE UTF-8", header
    assert str(order[1]) == "RE" and str(order[3]) and str(order[3]) == str(request[3]), text
    for moment in (header[7], request[22], *(each[14] for each in parsed.segments("OBX")[1:])):
        assert TIMESTAMP.fullmatch(str(moment)), text
    observations = parsed.segments("OBX")
    assert [str(each[2]) for each in observations] in [["ST", "CWE", "NM", "TX"], ["HD", "CWE", "NM", "TX"]], text
    assert str(observations[0][11]) == "O", text
    assert all(len(each) == 19 and str(each[18]).startswith("2.25.") for each in observations[1:]), text
    presence = str(observations[1][5])
    # Presence, its flag, its status, priority; the number is there, and a number, unless there is none.
    expected = {
        "52101004^Present^SCT": ("AA", "S^Stat^HL70485"),
        "272519000^Absent^SCT": ("N", "R^Routine^HL70485"),
        "373068000^Undetermined^SCT": ("", "R^Routine^HL70485"),
    }[presence]
    assert (str(observations[1][8]), str(parsed.segment("TQ1")[9])) == expected, text
    assert str(observations[3][8]) == expected[0], text
    if "Undetermined" in presence:
        assert (str(observations[2][5]), str(observations[2][11])) == ("", "X"), text
    else:
        assert 0 <= float(str(observations[2][5])) <= 1 and str(observations[2][11]) == "P", text
    assert str(observations[1][11]) == str(observations[3][11]) == str(request[25]) == "P", text
    return parsed


@needs_node
class AlertTestCase(NodeTestCase):
    """Nodes of their own, to which every study that they analyse is positive."""

    def receiver(self, *script: str, **options) -> Ris:
        ris = Ris(*script, **options).start()
        self.addCleanup(ris.stop)
        return ris

    def started(self, name: str, port: int, **keys) -> RestartableNode:
        """`keys` are of the section hl7."""
        receiver = {
            "name": "ris", "host": LOOPBACK, "port": port, "receiving_application": "RIS", "receiving_facility": "HOSP",
            "acknowledgement_timeout_seconds": ACKNOWLEDGEMENT_SECONDS, **keys,
        }  # fmt: skip
        route = {"name": "default", "destinations": ["pacs"], "threshold": "0", "alerts": ["ris"]}
        node = self.site.add_node(
            name,
            hl7=[receiver],
            routes=[route],
            completion={"grace_seconds": 1, "quiet_seconds": 1, "deadline_seconds": 2},
            delivery={"first_retry_seconds": 0.1, "most_retry_seconds": 1},
        )
        self.addCleanup(node.stop)
        return node.start()

    def deliveries(self, node: RestartableNode, *options: str) -> list[dict]:
        """To the receiver."""
        listed = json.loads(node.command("outbox", "list", "--json", *options))
        return [each for each in listed if each["destination"] == "ris"]

    def send(self, node: RestartableNode, name: str, *options: str, change=None):
        study = phantom(self.folder / name, "--patient-id", name, "--accession", f"A-{name}", *options)
        for path in study.files if change else []:
            header = pydicom.dcmread(path)
            change(header)
            header.save_as(path)
        storescu(node, self.folder / name)
        return study

    def told(self, node: RestartableNode, ris: Ris, count: int, seconds: float = 60) -> list[str]:
        """Waits until so many messages were accepted; each was heard as one text."""
        wait_for(lambda: len(set(ris.accepted)) >= count, f"{count} alerts accepted", seconds, node.log_tail)
        for identifier in set(ris.accepted):
            self.assertEqual(len(set(ris.texts(identifier))), 1, "another text under the same MSH-10")
        self.assertEqual(len(ris.accepted), len(set(ris.accepted)), "accepted twice")
        return [ris.texts(each)[0] for each in ris.accepted]


class Messages(AlertTestCase):
    def test_positives_are_told_and_what_becomes_of_them(self):
        ris = self.receiver()
        node = self.started("messages", ris.port)

        def change(header):
            header.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
            header.PatientName = "Yamada^Tarou^^Dr=山田^太郎=やまだ^たろう"
            header.IssuerOfPatientID = "A&B^C"
            header.ReferringPhysicianName = "House^Gregory"
            header.TimezoneOffsetFromUTC = "+0000"
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTH", "99HOSP", "CT head | plain"
            request = Dataset()
            request.RequestedProcedureCodeSequence = Sequence([code])
            header.RequestAttributesSequence = Sequence([request])

        # Older than a day, though by the clock of the images' zone alone it would not be.
        old = self.send(node, "OLD", "--hours-old", "30")
        whole = self.send(node, "WHOLE", change=change)
        with_gap = self.send(node, "GAP", "--leave-out", "9,10")
        for study in (old, whole, with_gap):
            node.wait_until_settled(study.uid)
            self.assertEqual(len(self.pacs.reports(study.uid)), 1)
        messages = {}
        for text in self.told(node, ris, 2):
            message = checked(text)
            messages[str(message.segment("OBX")[5])] = message
        self.assertEqual(set(messages), {whole.uid, with_gap.uid})
        message = messages[whole.uid]
        header = pydicom.dcmread(whole.files[0], stop_before_pixels=True)
        report = self.pacs.reports(whole.uid)[0]
        self.assertEqual(
            [str(message.segment("MSH")[number]) for number in (3, 4, 5, 6, 9, 11, 12, 15, 16)],
            ["ICHNODE", "", "RIS", "HOSP", "ORU^R01^ORU_R01", "P", "2.5.1", "", ""],
        )
        patient = message.segment("PID")
        self.assertEqual(str(patient[3]), "WHOLE^^^A\\T\\B\\S\\C^MR")
        self.assertEqual(
            str(patient[5]), "Yamada^Tarou^^^Dr^^^A~山田^太郎^^^^^^I~やまだ^たろう^^^^^^P"
        )
        self.assertEqual((str(patient[7]), str(patient[8])), (header.PatientBirthDate, header.PatientSex))
        self.assertEqual(str(message.segment("PV1")[8]), "^House^Gregory^^^^^^^^^^^^A")
        request = message.segment("OBR")
        self.assertEqual((str(request[3]), str(request[18]), str(request[24])), ("A-WHOLE", "A-WHOLE", "CT"))
        self.assertEqual(str(request[4]), "CTH^CT head \\F\\ plain^99HOSP")
        self.assertEqual(str(request[7]), header.StudyDate + header.StudyTime[:6] + "+0000")
        self.assertAlmostEqual(float(str(message.segments("OBX")[2][5])), report.probability, places=3)
        self.assertIn("Limits: incomplete", str(messages[with_gap.uid].segments("OBX")[3][5]))
        # The same finding again says nothing new.
        node.command("study", "reprocess", whole.uid)
        node.wait_until_settled(whole.uid)
        self.assertEqual(len(ris.accepted), 2)
        # A threshold that nothing reaches.
        node.stop()
        node._configure(lambda configuration: configuration["routes"][0].update(threshold="1"))
        node.start()
        # Also where the node ends before its turn comes.
        (engine,) = node.children("infer")
        os.kill(engine, signal.SIGSTOP)
        node.command("study", "reprocess", whole.uid)
        node.kill()
        node.start()
        for study in (whole, with_gap, old):
            if study != whole:
                node.command("study", "reprocess", study.uid)
            wait_for(lambda study=study: len(self.pacs.reports(study.uid)) == 2, "it is revised", 60, node.log_tail)
        self.told(node, ris, 4)
        node.wait_until_settled(old.uid)
        corrections = {str(each.segment("OBX")[5]): each for each in map(checked, self.told(node, ris, 4)[2:])}
        self.assertEqual(set(corrections), {whole.uid, with_gap.uid})
        for study, presence in ((whole, "272519000"), (with_gap, "373068000")):
            correction = corrections[study.uid]
            self.assertEqual(str(correction.segments("OBX")[1][5][0][0]), presence)
            self.assertEqual(str(correction.segment("ORC")[3]), str(messages[study.uid].segment("ORC")[3]))
            self.assertNotEqual(str(correction.segment("MSH")[10]), str(messages[study.uid].segment("MSH")[10]))
            self.assertIn("Correction", str(correction.segments("OBX")[3][5]))
        self.assertEqual(ris.connections, 2, "one connection for each start")

    def test_whatever_a_receiver_does_it_is_told_again_until_it_accepts_and_then_no_more(self):
        ris = self.receiver(
            *("silent", "cut", "mid", "half", "garbage", "flood", "other", "AE", "AR", "CE", "CR", "slow", "chatty")
        )
        node = self.started("unfriendly", ris.port, acknowledgement="enhanced", study_uid_type="HD")
        first = self.send(node, "FIRST")
        node.wait_until_settled(first.uid)
        (text,) = self.told(node, ris, 1)
        message = checked(text)
        self.assertEqual([str(message.segment("MSH")[number]) for number in (15, 16)], ["AL", "NE"])
        self.assertEqual(str(message.segment("OBX")[5]), f"{first.uid}^{first.uid}^ISO")
        # All but the one that was cut off in the middle came whole.
        self.assertEqual(len(ris.heard), 11)
        told = [each["text"] for each in node.study(first.uid)["events"] if each["text"].startswith("to ris: ")]
        for reason in (
            "does not answer in time", "closes the connection before its answer is whole", "answers without MLLP",
            "answers with more than 65536 bytes", "answers for another message", "receiver answered AE",
            "receiver answered AR", "receiver answered CE", "receiver answered CR",
        ):  # fmt: skip
            self.assertTrue(any(reason in each for each in told), (reason, told))
        self.assertRegex(told[-1], "message [0-9A-F]{20} accepted")
        # What says more than it was asked ends its connection, and is told the next all the same.
        second = self.send(node, "SECOND")
        node.wait_until_settled(second.uid)
        self.told(node, ris, 2)
        # Nobody listens, then somebody does.
        ris.stop()
        third = self.send(node, "THIRD")
        pending = wait_for(
            lambda: [each for each in self.deliveries(node) if each.get("lastError")], "it is tried", 60, node.log_tail
        )
        self.assertIn("cannot be reached", pending[0]["lastError"])
        self.assertIn(pending[0]["message"]["id"], node.command("outbox", "list", "--json"))
        # To the study's images and result nothing happens, whatever the receiver does.
        self.assertEqual(len(wait_for(lambda: self.pacs.reports(third.uid), "its report is there")), 1)
        self.assertNotIn("FIRST", node.log_text(), "the log holds a Patient ID")
        again = self.receiver(port=ris.port)
        self.told(node, again, 1)
        node.wait_until_settled(third.uid)
        self.assertEqual({each["state"] for each in self.deliveries(node, "--all")}, {"delivered"})


class TLS(AlertTestCase):
    def test_alerts_are_told_within_tls_to_whom_they_are_meant_for(self):
        folder = tempfile.TemporaryDirectory(prefix="ichnode-alerts-")
        self.addCleanup(folder.cleanup)
        certificates = CertificateFolder(Path(folder.name))
        for authority in ("site", "other"):
            certificates.authority(authority)
        certificates.issue("node", "site")
        certificates.issue("ris", "site", names=f"IP:{LOOPBACK}")
        certificates.issue("named-otherwise", "site", names="DNS:elsewhere.example")
        certificates.issue("stranger", "other", names=f"IP:{LOOPBACK}")

        def context(name: str) -> ssl.SSLContext:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.pem("site")))
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(certificates.pem(name), certificates.key(name))
            return context

        files = {"certificate": certificates.pem("node"), "key": certificates.key("node"), "ca": certificates.pem("site")}
        files = {key: str(path) for key, path in files.items()}
        ris = self.receiver(context=context("stranger"))
        node = self.started("secure", ris.port, tls=True, **files)
        study = self.send(node, "SECURE")

        def error():
            return next((each["lastError"] for each in self.deliveries(node) if each.get("lastError")), "")

        wait_for(lambda: "fails in TLS" in error(), "a stranger is told nothing", 60, error)
        for name, meant in (("named-otherwise", False), ("ris", True)):
            ris.stop()
            ris = self.receiver(port=ris.port, context=context(name))
            if not meant:
                before = node.log_text().count("fails in TLS")
                wait_for(lambda: node.log_text().count("fails in TLS") > before + 1, "nor another host", 30, error)
                self.assertEqual(ris.heard, [])
        self.told(node, ris, 1)
        node.wait_until_settled(study.uid)
        # Without the name of its host, where that is said.
        node.stop()
        ris.stop()
        ris = self.receiver(port=ris.port, context=context("named-otherwise"))
        node._configure(lambda configuration: configuration["hl7"][0].update(verify_host=False))
        node.start()
        self.send(node, "UNNAMED")
        self.told(node, ris, 1)
        # A key that others may read is none.
        os.chmod(files["key"], 0o644)
        node.stop()
        node.start()
        self.send(node, "OPEN")
        wait_for(lambda: "open to others" in error(), "an open key is refused", 60, error)


class Burst(AlertTestCase):
    def test_alerts_survive_the_node_in_order(self):
        ris = self.receiver()
        node = self.started("burst", ris.port)
        study = self.send(node, "BURST")
        node.wait_until_settled(study.uid)
        (text,) = self.told(node, ris, 1)
        node.stop()
        first = str(hl7.parse(text).segment("MSH")[10])
        identifiers = [f"BURST{number:06}" for number in range(BURST)]
        with sqlite3.connect(node.folder / "data" / "ledger.sqlite") as ledger:
            ledger.executemany(
                """INSERT INTO delivery (study_uid, destination, state, priority, attempts, next_attempt_at, created_at,
                                         objects, message)
                   SELECT study_uid, destination, 'pending', priority, 0, 0, created_at, objects, ?
                   FROM delivery WHERE destination = 'ris' AND message LIKE ?""",
                [(json.dumps({"id": each, "body": text.replace(first, each)}), f"%{first}%") for each in identifiers],
            )
        ris.pace_seconds = 0.002
        node.start()
        for share in (0.2, 0.45, 0.7):
            wait_for(lambda share=share: len(set(ris.accepted)) > share * BURST, "some alerts", 120, node.log_tail)
            node.kill()
            node.start()
        wait_for(lambda: len(set(ris.accepted)) == BURST + 1, "all alerts", 120, node.log_tail)
        node.wait_until_settled(study.uid)
        in_order = list(dict.fromkeys(ris.accepted))
        self.assertEqual(in_order, [first, *identifiers])
        # What was accepted in the moment of death came again, under the same MSH-10 and with the same bytes.
        self.assertLessEqual(len(ris.accepted) - len(in_order), 3)
        for identifier in identifiers:
            self.assertEqual(set(ris.texts(identifier)), {text.replace(first, identifier)})


if __name__ == "__main__":
    unittest.main()
