"""The audit trail of a running node: every message is one of PS3.15 §A.5, and what happened is in it."""

import base64
import io
import os
import stat
import subprocess
import tempfile
import unittest
from collections import Counter
from pathlib import Path

import pydicom
from console_client import USERS, ConsoleClient
from lxml import etree
from node_fixture import (
    HERE,
    ICHNODE,
    LOOPBACK,
    RestartableNode,
    RestartablePacs,
    Sender,
    echoscu,
    free_ports,
    needs_node,
    phantom,
    storescu,
    wait_for,
)
from pydicom.sr.codedict import codes
from scenario_site import Clock

SCHEMA = etree.RelaxNG(etree.parse(str(HERE / "audit_message.rng")))
# All that a header may hold and XML may not, or only in other words.
PATIENT_NAME = 'Sm"i<th&\'Söns>^Zoë'
PATIENT_ID = 'A & B<"1">'
INSTITUTION = "North Hospital"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"

# What PS3.15 §A.5.3 asks of each message: its action codes, its event types, roles of participants that have to be
# there, and the types of its objects' identifiers.
SPECIALIZED = {
    "110100": ("E", {"110120", "110121"}, {"110150"}, Counter()),
    "110101": ("R", set(), set(), Counter({"12": 1})),
    "110102": ("E", set(), {"110153", "110152"}, Counter({"110180": 1, "2": 1})),
    "110103": ("CRUD", set(), set(), Counter({"110180": 1, "2": 1})),
    "110104": ("CRU", set(), {"110153", "110152"}, Counter({"110180": 1, "2": 1})),
    "110105": ("D", set(), set(), Counter({"110180": 1, "2": 1})),
    "110112": ("E", set(), {"110153", "110152"}, Counter({"110181": 1})),
    "110113": ("E", {"110126", "110133"}, set(), Counter({"110182": 1})),
    "110114": ("E", {"110122", "110123"}, set(), Counter()),
}
# Type, and role, of the objects with these types of identifier.
ROLES = {"110180": ("2", "3"), "110181": ("2", "3"), "2": ("1", "1"), "12": ("2", "13"), "110182": ("2", "13")}


class Message:
    def __init__(self, line: str):
        self.line = line
        self.tree = etree.fromstring(line)
        self.event = self.tree.find("EventIdentification")
        self.id = self.event.find("EventID").get("csd-code")
        self.types = [each.get("csd-code") for each in self.event.findall("EventTypeCode")]
        self.action = self.event.get("EventActionCode")
        self.outcome = self.event.get("EventOutcomeIndicator")
        self.participants = self.tree.findall("ActiveParticipant")
        self.objects = {
            each.find("ParticipantObjectIDTypeCode").get("csd-code"): each
            for each in self.tree.findall("ParticipantObjectIdentification")
        }

    @property
    def study(self) -> str | None:
        return self.object_id("110180")

    def participant(self, role: str):
        (found,) = [each for each in self.participants if role in self.roles(each)]
        return found

    @staticmethod
    def roles(participant) -> list[str]:
        return [each.get("csd-code") for each in participant.findall("RoleIDCode")]

    def object_id(self, kind: str) -> str | None:
        return self.objects[kind].get("ParticipantObjectID") if kind in self.objects else None

    def detail(self, kind: str, name: str) -> str:
        (value,) = [
            each.get("value")
            for each in self.objects[kind].findall("ParticipantObjectDetail")
            if each.get("type") == name
        ]
        return base64.b64decode(value).decode()

    def counts(self) -> dict[str | None, int]:
        classes = self.objects["110180"].iter("SOPClass")
        return {each.get("UID"): int(each.get("NumberOfInstances")) for each in classes}


def named(study_files: list[Path]) -> None:
    for path in study_files:
        ds = pydicom.dcmread(path)
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.PatientName, ds.PatientID = PATIENT_NAME, PATIENT_ID
        ds.InstitutionName, ds.AccessionNumber = INSTITUTION, "ACC-1"
        ds.save_as(path, enforce_file_format=True)


@needs_node
class AuditTrail(unittest.TestCase):
    """One life of a node, which all tests look back at."""

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-audit-")
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name)
        cls.clock = Clock(cls.folder)
        (port,) = free_ports(1)
        cls.pacs = RestartablePacs(cls.folder / "pacs", port)
        cls.addClassCleanup(cls.pacs.stop)
        cls.pacs.start()
        cls.node = RestartableNode(
            cls.folder / "node",
            cls.pacs.dicom_port,
            port,
            retention={"keep_days": 2},
            audit={"enterprise_site": "SITE & SON"},
            console={"users": USERS},
            routes=[
                {"name": "north", "institutions": ["^north"], "destinations": ["pacs"], "counts_from": "pacs"},
                {"name": "default", "destinations": ["sender"]},
            ],
        )
        preload = [f"LD_PRELOAD={cls.clock.library}", f"ICHNODE_CLOCK={cls.clock.path}"]
        cls.node.command_line = ["/usr/bin/env", *preload, *cls.node.command_line]
        cls.audit_log = cls.node.folder / "data" / "audit" / "audit.log"
        cls.addClassCleanup(cls.node.stop)
        cls.node.start()
        cls.live()
        cls.node.stop()
        cls.messages = [Message(line) for line in cls.audit_log.read_text().splitlines()]

    @classmethod
    def live(cls) -> None:
        # Slices further apart than they are thick: the PACS is asked how many there are.
        cls.study = phantom(cls.folder / "study", "--thickness", "3")
        named(cls.study.files)
        storescu(cls.node, cls.study.files[0].parent)
        # Received, and delivered.
        wait_for(lambda: cls.count("110104") == 2, "the study is delivered", 25, cls.node.log_tail)
        storescu(cls.node, cls.study.files[0].parent)
        echoscu(cls.node, called="NOBODY")
        cls.visit_console()
        cls.node.command("study", "complete", "1.2.3.4")
        cls.known = cls.node.wait_until_settled(cls.study.uid)
        cls.node.command("study", "ignore", cls.study.uid)
        cls.explained = cls.explain()
        wait_for(lambda: cls.count("110103") == 2, "both commands are recorded", 5, cls.node.log_tail)
        cls.shown = cls.node.command("audit", "show").splitlines()
        wait_for(lambda: cls.count("110101") == 1, "that it was read is recorded", 5, cls.node.log_tail)
        cls.clock.advance(3 * 86400)
        wait_for(lambda: cls.count("110105") == 1, "retention removes the study", 25, cls.node.log_tail)
        cls.cut = phantom(cls.folder / "cut", "--patient-id", "CUT")
        with Sender(cls.node, cls.cut.files) as sender:
            sender.store_all(cls.cut.files[:2])
            sender.association.abort()
        wait_for(lambda: cls.count("110104") == 4, "the broken association is recorded", 10, cls.node.log_tail)
        cls.logs = [cls.node.log_text()]
        cls.node.kill()
        # As if the last line had been under way.
        with cls.audit_log.open("a") as file:
            file.write("<AuditMessage><EventIdent")
        cls.node.start()
        wait_for(lambda: cls.count("110100") == 2, "it starts again", 10, cls.node.log_tail)
        cls.logs.append(cls.node.log_text())

    @classmethod
    def visit_console(cls) -> None:
        visitor = ConsoleClient(cls.node.http_port)
        visitor.sign_in('ot"to', "wrong")
        visitor.sign_in("otto")
        visitor.get("/nothing")
        visitor.post("/sign-out")
        visitor.close()
        wait_for(lambda: cls.count("110114") == 3, "the visit is recorded", 5, cls.node.log_tail)

    @classmethod
    def explain(cls) -> str:
        """Of a file that the node has received: both titles and the institution are in it."""
        (stored, *_) = cls.node.stored(cls.study.uid)
        command = [str(ICHNODE), "route", "explain", "--config", str(cls.node.configuration), str(stored)]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=20).stdout

    @classmethod
    def count(cls, event: str) -> int:
        return sum(f'<EventID csd-code="{event}"' in line for line in whole_lines(cls.audit_log))

    def find(self, event: str, **conditions: str) -> list[Message]:
        return [
            each
            for each in self.messages
            if each.id == event and all(getattr(each, name) == value for name, value in conditions.items())
        ]

    def one(self, event: str, **conditions: str) -> Message:
        found = self.find(event, **conditions)
        self.assertEqual(len(found), 1, "\n".join(each.line for each in self.messages))
        return found[0]

    # What all have in common

    def test_every_line_is_a_message_of_the_standards_schema(self):
        self.assertGreater(len(self.messages), 10)
        for each in self.messages:
            self.assertTrue(SCHEMA.validate(each.tree), f"{SCHEMA.error_log}\n{each.line}")

    def test_the_schema_refuses_what_is_none(self):
        line = self.messages[0].line
        for right, wrong in (
            ("csd-code=", "code="),
            ('EventActionCode="E"', 'EventActionCode="X"'),
            ('UserIsRequestor="', 'UserIsRequestor="perhaps'),
            ("AuditSourceIdentification", "AuditSource"),
        ):
            self.assertIn(right, line)
            self.assertFalse(SCHEMA.validate(etree.fromstring(line.replace(right, wrong))), wrong)

    def test_every_code_and_its_meaning_are_those_of_part_16(self):
        groups = {"EventID": 400, "EventTypeCode": 401, "RoleIDCode": 402, "ParticipantObjectIDTypeCode": 404}
        for each in self.messages:
            for coded in each.tree.iter(*groups):
                if coded.get("codeSystemName") == "RFC-3881":
                    # PS3.15 §A.5.1.2.4
                    known = {"2": "Patient Number", "12": "URI"}
                else:
                    self.assertEqual(coded.get("codeSystemName"), "DCM")
                    group = getattr(codes, f"cid{groups[coded.tag]}")
                    known = {code.value: code.meaning for code in (getattr(group, name) for name in group.dir())}
                self.assertEqual(known.get(coded.get("csd-code")), coded.get("originalText"), each.line)

    def test_every_message_is_as_its_table_has_it(self):
        self.assertEqual({each.id for each in self.messages}, set(SPECIALIZED))
        for each in self.messages:
            actions, types, roles, kinds = SPECIALIZED[each.id]
            self.assertIn(each.action, actions, each.line)
            self.assertEqual(len(each.types), 1 if types else 0, each.line)
            self.assertLessEqual(set(each.types), types, each.line)
            present = [role for participant in each.participants for role in Message.roles(participant)]
            self.assertEqual(sorted(present), sorted(roles), each.line)
            self.assertEqual(Counter(each.objects.keys()), kinds, each.line)
            for kind, found in each.objects.items():
                shown = (found.get("ParticipantObjectTypeCode"), found.get("ParticipantObjectTypeCodeRole"))
                self.assertEqual(shown, ROLES[kind], each.line)
            requestors = [one for one in each.participants if one.get("UserIsRequestor") == "true"]
            self.assertLessEqual(len(requestors), 1, "PS3.15 A.5.2: not more than one")
            source = each.tree.find("AuditSourceIdentification")
            self.assertEqual(source.get("AuditSourceID"), "ICHNODE")
            self.assertEqual(source.get("AuditEnterpriseSiteID"), "SITE & SON")

    def test_the_patient_is_named_as_in_the_header(self):
        for each in self.messages:
            if each.study == self.study.uid:
                self.assertEqual(each.object_id("2"), PATIENT_ID)
                self.assertEqual(each.objects["2"].findtext("ParticipantObjectName"), PATIENT_NAME)

    # What happened

    def test_a_life_of_the_node_begins_and_ends(self):
        types = [each.types[0] for each in self.find("110100")]
        self.assertEqual(types, ["110120", "110120", "110121"], "killed once, then stopped")
        self.assertEqual(self.messages[0].types, ["110120"])
        self.assertEqual(self.messages[-1].types, ["110121"])
        pids = {each.participant("110150").get("UserID") for each in self.find("110100")}
        self.assertEqual(len(pids), 2)

    def test_what_came_from_whom(self):
        (first, second) = self.find("110102", study=self.study.uid)
        created = self.one("110104", action="C", study=self.study.uid)
        self.assertEqual(created.outcome, "0")
        self.assertEqual(created.counts(), {CT_IMAGE_STORAGE: len(self.study.files)})
        self.assertEqual([one.get("Number") for one in created.objects["110180"].iter("Accession")], ["ACC-1"])
        for each in (first, second, created):
            sender, node = each.participant("110153"), each.participant("110152")
            self.assertEqual(each.object_id("110180"), self.study.uid)
            self.assertEqual(sender.get("AlternativeUserID"), "AETITLES=DEMOPACS")
            self.assertEqual(sender.get("NetworkAccessPointID"), LOOPBACK)
            self.assertEqual(sender.get("NetworkAccessPointTypeCode"), "2")
            self.assertEqual(sender.get("UserIsRequestor"), "true")
            self.assertEqual(node.get("AlternativeUserID"), "AETITLES=ICHNODE")

    def test_images_that_were_there_already_are_told_apart(self):
        counts = [each.counts() for each in self.find("110104", action="R", study=self.study.uid)]
        again = [each for each in counts if CT_IMAGE_STORAGE in each]
        self.assertEqual(again, [{CT_IMAGE_STORAGE: len(self.study.files)}])

    def test_what_was_sent_where(self):
        transferred = self.find("110104", action="R", study=self.study.uid)
        sent = [each for each in transferred if CT_IMAGE_STORAGE not in each.counts()]
        self.assertEqual(len(sent), 1)
        self.assertEqual(sent[0].participant("110153").get("UserIsRequestor"), "true")
        self.assertEqual(sent[0].participant("110152").get("AlternativeUserID"), "AETITLES=ORTHANC")
        held = Counter(
            pydicom.dcmread(io.BytesIO(self.pacs.download(each)), stop_before_pixels=True).SOPClassUID
            for modality in ("SR", "OT", "KO")
            for each in self.pacs.find(self.study.uid, modality)
        )
        self.assertEqual(sent[0].counts(), dict(held))

    def test_an_association_that_broke_off_is_no_success(self):
        cut = self.one("110104", study=self.cut.uid)
        self.assertEqual((cut.outcome, cut.counts()), ("4", {CT_IMAGE_STORAGE: 2}))
        self.assertIn("abortedByPeer", cut.event.findtext("EventOutcomeDescription"))

    def test_who_was_refused(self):
        alert = self.one("110113")
        self.assertEqual((alert.types, alert.outcome), (["110126"], "4"))
        self.assertEqual(alert.object_id("110182"), LOOPBACK)
        self.assertIn("NOBODY", alert.detail("110182", "Alert Description"))

    def test_who_signed_in_and_out(self):
        found = []
        for each in self.find("110114"):
            (user,) = [one for one in each.participants if one.get("UserIsRequestor") == "true"]
            self.assertEqual(user.get("NetworkAccessPointID"), LOOPBACK)
            found.append((user.get("UserID"), each.types, each.outcome))
        self.assertEqual(
            found, [('ot"to', ["110122"], "4"), ("otto", ["110122"], "0"), ("otto", ["110123"], "0")]
        )
        self.assertIn("wrong", self.find("110114")[0].event.findtext("EventOutcomeDescription"))

    def test_what_the_pacs_was_asked(self):
        queries = self.find("110112")
        self.assertGreaterEqual(len(queries), 1)
        for each in queries:
            self.assertEqual(each.object_id("110181"), STUDY_ROOT_FIND)
            self.assertEqual(each.participant("110152").get("AlternativeUserID"), "AETITLES=ORTHANC")
            syntax = each.detail("110181", "TransferSyntax")
            self.assertEqual(syntax, pydicom.uid.ExplicitVRLittleEndian)
            question = base64.b64decode(each.objects["110181"].findtext("ParticipantObjectQuery"))
            ds = pydicom.filereader.read_dataset(io.BytesIO(question), is_implicit_VR=False, is_little_endian=True)
            self.assertEqual((ds.QueryRetrieveLevel, ds.StudyInstanceUID), ("SERIES", self.study.uid))
            self.assertEqual(len(ds), 4)

    def test_what_was_done_by_hand(self):
        failed, ignored = self.find("110103")
        self.assertEqual(failed.detail("110180", "Command"), "study complete")
        self.assertEqual((failed.outcome, failed.object_id("110180")), ("4", "1.2.3.4"))
        self.assertIn("not waiting", failed.event.findtext("EventOutcomeDescription"))
        self.assertEqual(ignored.detail("110180", "Command"), "study ignore")
        self.assertEqual((ignored.outcome, ignored.object_id("110180")), ("0", self.study.uid))
        user = next(one for one in ignored.participants if one.get("UserIsRequestor") == "true").get("UserID")
        login = subprocess.run(["id", "-un"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        self.assertEqual(user, f"{login}@{os.uname().nodename}")

    def test_what_was_removed(self):
        deleted = self.one("110105")
        self.assertEqual(deleted.object_id("110180"), self.study.uid)
        self.assertEqual(deleted.counts(), {None: len(self.study.files)})

    def test_that_it_was_read(self):
        used = self.one("110101")
        self.assertEqual(used.object_id("12"), self.audit_log.as_uri())
        self.assertEqual(used.objects["12"].findtext("ParticipantObjectName"), "Security Audit Log")
        position = self.messages.index(used)
        self.assertEqual(self.shown, [each.line for each in self.messages[: len(self.shown)]])
        self.assertGreaterEqual(position, len(self.shown))

    # Where it is kept

    def test_only_the_nodes_user_and_group_may_read_it(self):
        self.assertEqual(stat.S_IMODE(self.audit_log.stat().st_mode), 0o640)
        self.assertEqual(stat.S_IMODE(self.audit_log.parent.stat().st_mode) & 0o027, 0)

    def test_the_log_has_each_event_without_the_patient(self):
        text = "".join(self.logs)
        self.assertEqual(sum("audit event" in line for line in text.splitlines()), len(self.messages) - 1)
        for identity in (PATIENT_NAME, PATIENT_ID, "Söns", "ACC-1"):
            self.assertNotIn(identity, text)

    def test_the_route_of_a_stored_image_is_explained(self):
        self.assertIn(
            f'Study of calling AE title DEMOPACS, called AE title ICHNODE, institution "{INSTITUTION}"\n'
            "1. north: takes the study\n",
            self.explained,
        )
        self.assertEqual([each["route"] for each in self.known["analyses"]], ["north"])


@needs_node
@unittest.skipUnless(os.geteuid() == 0, "only root may mount a small disk")
class FullDisk(unittest.TestCase):
    def test_a_full_disk_of_the_trail_delays_nothing_and_loses_nothing(self):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-audit-")
        self.addCleanup(temporary.cleanup)
        folder = Path(temporary.name)
        node = RestartableNode(folder / "node", *free_ports(1))
        audit = folder / "node" / "data" / "audit"
        audit.mkdir()
        mount = f"mount -t tmpfs -o size=8k,mode=750 none {audit}"
        # In a name space of its own, so that the disk goes with the node.
        node.command_line = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", *node.command_line]
        self.addCleanup(node.stop)
        node.start()
        log = Path(f"/proc/{node.process.pid}/root{audit}/audit.log")
        for _ in range(16):
            echoscu(node, called="NOBODY")
        wait_for(lambda: "audit log cannot be written" in node.log_text(), "the disk is full", 5, node.log_tail)
        study = phantom(folder / "study")
        storescu(node, study.files[0].parent)
        self.assertEqual(len(node.stored(study.uid)), len(study.files))
        for line in whole_lines(log):
            self.assertTrue(SCHEMA.validate(etree.fromstring(line)), "what did not fit was taken back")

        def events() -> int:
            return sum("audit event" in line for line in node.log_text().splitlines())

        remount = ["mount", "-o", "remount,size=1m", str(audit)]
        subprocess.run(["nsenter", "--mount", "--target", str(node.process.pid), *remount], check=True)
        wait_for(lambda: f'"{study.uid}"' in log.read_text(), "it is written", 20, node.log_tail)
        # Begun and transferred, after all that had to wait.
        wait_for(lambda: len(whole_lines(log)) == events() == 1 + 16 + 2, "all of it, once", 5, node.log_tail)
        self.assertEqual(len(set(whole_lines(log))), 1 + 16 + 2)
        for line in whole_lines(log):
            self.assertTrue(SCHEMA.validate(etree.fromstring(line)), line)


def whole_lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


if __name__ == "__main__":
    unittest.main()
