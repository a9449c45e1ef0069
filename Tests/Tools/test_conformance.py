"""docs/CONFORMANCE.md and docs/SECURITY.md say what the programs do: their tables are those of the programs, and what
they promise of associations holds on the wire."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

import yaml
from node_fixture import (
    ICHNODE,
    LOOPBACK,
    ROOT,
    RestartableNode,
    free_ports,
    needs_node,
    phantom,
    send_all,
    wait_for,
)
from pydicom.uid import UID_dictionary
from pynetdicom import AE, build_context, evt
from raw_dicom import (
    ASSOCIATE_RJ,
    C_FIND_RQ,
    C_STORE_RQ,
    CT,
    EXPLICIT,
    EXPLICIT_LITTLE,
    IMPLICIT,
    VERIFICATION,
    Image,
    Peer,
    associate_request,
    context,
    data_pdu,
    request,
)

sys.path.insert(0, str(ROOT / "scripts" / "conformance"))
import conformance  # noqa: E402

STATEMENT = ROOT / "docs" / "CONFORMANCE.md"
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
# In running text or a block.
COMMAND = r"(?:^|`|sudo (?:-u ichnode )?)ichnode ([a-z]+)(?: ([a-z-]+))?"
COMMITMENT = "1.2.840.10008.1.20.1"
# Two of three, so that the node tries all.
REFUSED_REPORTS = {"1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.34"}
MOST_OBJECT_MEBIBYTES = 1
MOST_ASSOCIATIONS = 3


def rows(name: str) -> list[list[str]]:
    """Of a table of the statement."""
    block = next(block for block in conformance.BLOCK.finditer(STATEMENT.read_text()) if block["name"] == name)
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block["table"].splitlines()]
    return lines[2:]


def uids(kind: str) -> set[str]:
    """Of PS3.6 Table A-1."""
    return {uid for uid, entry in UID_dictionary.items() if entry[1] == kind}


def syntax_uid(name: str) -> str:
    return next(row[1] for row in rows("transfer syntaxes") if row[0] == name)


@needs_node
class Documents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.filterwarnings("ignore", module="pydicom")
        cls.tables = conformance.tables(ICHNODE.parent)

    def test_tables_are_what_the_programs_say_and_do(self):
        for document in conformance.DOCUMENTS:
            difference = conformance.difference(document, self.tables)
            self.assertEqual(difference, "", "run make conformance, and read what has changed")

    def test_every_table_has_its_place(self):
        placed = [name for document in conformance.DOCUMENTS for name in conformance.names(document.read_text())]
        self.assertEqual(sorted(placed), sorted(self.tables))


class Text(unittest.TestCase):
    def test_values_before_the_setting_that_changes_them_are_its_defaults(self):
        """As in: 60 s [`dicom.idle_timeout_seconds`]."""
        defaults = yaml.safe_load((ROOT / "etc" / "ichnode.yaml").read_text())
        # Stands behind comment marks there.
        defaults["tls"] = {"port": 2762}
        compared = set()
        for value, section, key in re.findall(
            r"(\d+)[^.;,\d\[]*\[`([a-z_]+)(?:\[\])?\.([a-z_]+)`", STATEMENT.read_text()
        ):
            settings = defaults[section][0] if isinstance(defaults[section], list) else defaults[section]
            default = settings.get(key)
            if isinstance(default, int) and not isinstance(default, bool):
                self.assertEqual(int(value), default, f"{section}.{key}")
                compared.add((section, key))
        self.assertGreater(len(compared), 8)


    def test_audit_messages_are_those_of_the_codes(self):
        section = STATEMENT.read_text().split("### 6.4 ")[1].split("<!-- generated")[0]
        messages = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
        events = {row[3] for row in rows("audit codes") if row[0] == "Event ID"}
        self.assertEqual({next((e for e in events if message.startswith(e)), message) for message in messages}, events)
        types = {row[3] for row in rows("audit codes") if row[0] == "Event Type Code"}
        told = {kind for kind in types if any(message.endswith(kind) for message in messages)}
        # These two are one line.
        self.assertEqual(types - told, {"Application Start", "Application Stop"})

    def test_settings_that_documents_name_are_in_the_example(self):
        example = (ROOT / "etc" / "ichnode.yaml").read_text()
        sections = set(re.findall(r"^(?:# )?([a-z_0-9]+):$", example, re.MULTILINE))
        known = set(re.findall(r"^[# -]*([a-z_0-9]+):", example, re.MULTILINE))
        # Checks of doctor are named alike.
        checks = re.findall(r'"(.+)"', (ROOT / "Sources/ichnode/Doctor/SetupFinding.swift").read_text())
        named = {
            (path.name, each[0])
            for path in DOCUMENTS
            for each in re.findall(r"`(([a-z_0-9]+)(?:\[\])?\.[a-z_0-9.]+)`", path.read_text())
            if each[1] in sections and each[0] not in checks and not each[0].endswith((".md", ".yaml"))
        }
        self.assertGreater(len(named), 50)
        self.assertEqual([each for each in sorted(named) if each[1].rsplit(".", 1)[1] not in known], [])

    @needs_node
    def test_commands_that_documents_name_are_there(self):
        asked = subprocess.run(
            [ICHNODE, "--experimental-dump-help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
        )
        commands = json.loads(asked.stdout)["command"]["subcommands"]
        known = {each["commandName"]: {sub["commandName"] for sub in each.get("subcommands", [])} for each in commands}
        named = {
            (path.name, *each)
            for path in DOCUMENTS
            for each in re.findall(COMMAND, path.read_text(), re.MULTILINE)
        }
        self.assertGreater(len(named), 15)
        for document, command, word in sorted(named):
            self.assertIn(command, known, document)
            if known[command] and word:
                self.assertIn(word, known[command], f"{document}: ichnode {command} {word}")


class Archive:
    """Takes what the node sends, knows nothing that it asks for, and keeps what it proposes."""

    def __init__(self, test: type[unittest.TestCase], syntaxes: list[str]):
        self.proposed: dict[str, set[tuple[str, ...]]] = {}
        self.requestors: set[tuple[str, str, str, int]] = set()
        self.roles: list[object] = []
        self.commitments = 0
        entity = AE(ae_title="ARCHIVE")
        for row in rows("requested contexts"):
            entity.add_supported_context(row[1], syntaxes)
        handlers = [
            (evt.EVT_REQUESTED, self._note),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, lambda event: iter(())),
            (evt.EVT_C_MOVE, lambda event: iter([(None, None)])),
            (evt.EVT_N_ACTION, self._commit),
        ]
        (self.port,) = free_ports(1)
        server = entity.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)
        test.addClassCleanup(server.shutdown)

    def _note(self, event) -> None:
        requestor = event.assoc.requestor
        for each in requestor.primitive.presentation_context_definition_list:
            self.proposed.setdefault(str(each.abstract_syntax), set()).add(tuple(map(str, each.transfer_syntax)))
        self.roles += list(requestor.role_selection)
        self.requestors.add(
            (
                requestor.primitive.calling_ae_title.strip(),
                str(requestor.implementation_class_uid),
                requestor.implementation_version_name,
                requestor.maximum_length,
            )
        )

    def _store(self, event) -> int:
        return 0x0122 if event.request.AffectedSOPClassUID in REFUSED_REPORTS else 0

    def _commit(self, event):
        self.commitments += 1
        return 0, None


@needs_node
class OnTheWire(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="ichnode-conformance-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.archive = Archive(cls, [EXPLICIT, IMPLICIT])
        peer = {"name": "pacs", "ae_title": "ARCHIVE", "host": LOOPBACK, "port": cls.archive.port}
        route = {"name": "default", "destinations": ["pacs"], "counts_from": "pacs", "retrieve_from": "pacs"}
        cls.node = RestartableNode(
            cls.folder / "node",
            cls.archive.port,
            dicom={
                "most_associations": MOST_ASSOCIATIONS,
                "most_associations_per_peer": MOST_ASSOCIATIONS,
                "admission_queue_seconds": 0.2,
                "most_object_mebibytes": MOST_OBJECT_MEBIBYTES,
            },
            completion={"grace_seconds": 0.5, "quiet_seconds": 1, "deadline_seconds": 2},
            peers=[{**peer, "commitment": "required"}],
            routes=[{**route, "key_objects": True}],
        )
        cls.addClassCleanup(cls.node.stop)
        cls.node.start()

    def peer(self) -> Peer:
        peer = Peer(self.node.dicom_port)
        self.addCleanup(peer.socket.close)
        return peer

    def negotiated(self, proposals: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Results of contexts of one transfer syntax each."""
        found = {}
        for start in range(0, len(proposals), 128):
            some = proposals[start : start + 128]
            with Peer(self.node.dicom_port) as peer:
                answers = peer.associate(*(context(2 * i + 1, *each) for i, each in enumerate(some)))
                found |= {each: answers[2 * i + 1][0] for i, each in enumerate(some)}
                peer.release()
        return found

    def test_every_class_is_accepted_in_every_transfer_syntax_and_nothing_else_is(self):
        syntaxes = [row[1] for row in rows("transfer syntaxes")]
        storage = [row[1] for name in ("storage classes", "retired storage classes") for row in rows(name)]
        claimed = {(each, syntax) for each in [*storage, VERIFICATION] for syntax in syntaxes}
        claimed |= {(COMMITMENT, syntax) for syntax in (IMPLICIT, EXPLICIT)}
        self.assertEqual({row[1] for row in rows("other classes")}, {VERIFICATION, COMMITMENT})
        other_classes = (uids("SOP Class") | uids("Meta SOP Class")) - {*storage, VERIFICATION, COMMITMENT}
        other_syntaxes = uids("Transfer Syntax") - set(syntaxes)
        refused = {(each, EXPLICIT): 3 for each in other_classes}
        refused |= {(CT, each): 4 for each in other_syntaxes}
        refused |= {(COMMITMENT, each): 4 for each in syntaxes if each not in (IMPLICIT, EXPLICIT)}
        found = self.negotiated(sorted(claimed | set(refused)))
        self.assertEqual({each for each, result in found.items() if result == 0}, claimed)
        self.assertEqual({each: result for each, result in found.items() if result != 0}, refused)
        told = {int(row[0]) for row in rows("context refusals")}
        # 2 is what a wrong role gets, as DICOMTests have it.
        self.assertEqual(told, set(refused.values()) | {2})

    def test_the_node_says_who_it_is_and_how_long_pdus_may_be(self):
        item = dict(rows("implementation"))
        entity = AE(ae_title="PEER")
        contexts = [build_context(VERIFICATION, [IMPLICIT])]
        association = entity.associate(LOOPBACK, self.node.dicom_port, contexts=contexts, ae_title="ICHNODE")
        self.addCleanup(association.release)
        acceptor = association.acceptor
        self.assertEqual(str(acceptor.implementation_class_uid), item["Implementation Class UID"])
        self.assertEqual(acceptor.implementation_version_name, item["Implementation Version Name"])
        self.assertEqual(acceptor.maximum_length, int(dict(rows("parameters"))["`dicom.max_pdu_bytes`"].strip("`")))

    def rejection(self, **fields) -> str:
        with Peer(self.node.dicom_port) as peer:
            peer.send(associate_request(**fields))
            answer = peer.receive()
            self.assertEqual(answer and answer[0], ASSOCIATE_RJ, f"{fields}: {answer}")
            return " / ".join(str(byte) for byte in answer[1][1:4])

    def test_rejections_have_the_reasons_that_are_told(self):
        provoked = {
            self.rejection(called=b"OTHER"),
            self.rejection(calling=b""),
            self.rejection(version=2),
            self.rejection(application_context="1.2.3"),
        }
        others = [self.peer() for _ in range(MOST_ASSOCIATIONS)]
        for other in others:
            other.associate()
        provoked.add(self.rejection())
        for other in others:
            other.release()
        self.assertEqual(provoked, {"1 / 1 / 7", "1 / 1 / 3", "1 / 2 / 2", "1 / 1 / 2", "2 / 3 / 2"})
        # A damaged request, a full disk and a node that stops have tests of their own.
        self.assertEqual({row[0] for row in rows("rejections")}, provoked | {"1 / 1 / 1", "2 / 3 / 1"})

    def test_statuses_are_those_that_are_told(self):
        peer = self.peer()
        peer.associate()
        number = iter(range(1, 100))

        def status(in_command: str | None = None, cut: int | None = None, **fields) -> str:
            uid = f"1.2.3.77.{next(number)}"
            image = Image(**{"instance": uid, "study": "1.2.3.77", **fields})
            response = peer.store(in_command or uid, image.encoded()[:cut])
            self.assertEqual(response.status == 0, response.comment == "", response)
            return f"{response.status:04X}"

        provoked = {
            status(),
            status(in_command="1.2.3.78"),
            status(cut=-530),
            status(study="", series="1.2.3.77.9"),
            status(insertion=EXPLICIT_LITTLE.nested(33)),
            status(pixels=bytes((MOST_OBJECT_MEBIBYTES << 20) + 2)),
        }
        peer.send(data_pdu(1, request(C_STORE_RQ, CT, "1.2.3.79", data_set=False), command=True))
        provoked.add(f"{peer.response().status:04X}")
        self.assertEqual(provoked, {"0000", "A900", "C000", "C001", "C002", "C003", "C004"})
        # With little room on the disk, as a test of the watermarks has it.
        self.assertEqual({row[0] for row in rows("store statuses")}, provoked | {"A700"})
        peer.send(data_pdu(1, request(C_FIND_RQ, CT, data_set=False), command=True))
        self.assertEqual([f"{peer.response().status:04X}"], [row[0] for row in rows("other statuses")])
        peer.release()

    def test_what_the_node_proposes_is_what_is_told(self):
        # Slices further apart than they are thick: it asks how many there are. Of the other some are missing: it asks
        # for these. It sends results of both, and asks for commitment.
        for name, *options in (("doubtful", "--bleed", "left", "--thickness", "3"), ("incomplete", "--leave-out", "9")):
            send_all(self.node, phantom(self.folder / name, *options).files)
        wait_for(lambda: self.archive.commitments == 2, "requests for commitment", 60, self.node.log_text)
        told = {row[1]: {tuple(syntax_uid(name) for name in row[2].split(", "))} for row in rows("requested contexts")}
        verification = {VERIFICATION: told[VERIFICATION]}
        self.maxDiff = None
        self.assertEqual(self.archive.proposed | verification, told)
        # What it says of the rest of the machine does not matter here.
        doctor = [ICHNODE, "doctor", "--config", self.node.configuration]
        subprocess.run(doctor, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        self.assertEqual(self.archive.proposed, told)
        item, limits = dict(rows("implementation")), {row[0]: row[1] for row in rows("limits")}
        pdu = int(limits["Maximum PDU length received as SCU"].removesuffix(" KiB")) << 10
        names = (item["Implementation Class UID"], item["Implementation Version Name"])
        self.assertEqual(self.archive.requestors, {("ICHNODE", *names, pdu)})
        self.assertEqual(self.archive.roles, [])


if __name__ == "__main__":
    unittest.main()
