"""Storage commitment: results are delivered when the PACS has said that it keeps them, by whatever way it says so."""

from __future__ import annotations

import threading
import time
import unittest
from collections import Counter

from certificates import CertificateFolder
from node_fixture import (
    CALLING_AE_TITLE,
    LOOPBACK,
    NodeTestCase,
    RestartableNode,
    Site,
    free_ports,
    needs_node,
    phantom,
    send_all,
    wait_for,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

NO_SUCH_INSTANCE = 0x0112
ALL_COMMITTED, SOME_FAILED = 1, 2


def report(transaction: str, committed: list[tuple[str, str]], failed: list[tuple[str, str]] = ()) -> Dataset:
    """Event Information (PS3.4 Table J.3-2)."""

    def references(pairs, reason=None):
        items = []
        for sop_class, instance in pairs:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
            if reason is not None:
                item.FailureReason = reason
            items.append(item)
        return items

    ds = Dataset()
    ds.TransactionUID = transaction
    if failed:
        ds.FailedSOPSequence = references(failed, NO_SUCH_INSTANCE)
    ds.ReferencedSOPSequence = references(committed)
    return ds


def send_report(association, ds: Dataset) -> int | None:
    """Status of the response; None where none came."""
    event_type = SOME_FAILED if "FailedSOPSequence" in ds else ALL_COMMITTED
    status, _ = association.send_n_event_report(
        ds, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return status.get("Status")


def associate(
    node: RestartableNode, *, has_role=False, calling="STGCMT", syntaxes=None, port: int | None = None, tls=None
):
    """An association of a commitment SCP with the node; the caller ends it. `tls` is a context."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    context = build_context(StorageCommitmentPushModel, syntaxes or [ImplicitVRLittleEndian])
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if has_role else []
    return entity.associate(
        LOOPBACK,
        port or node.dicom_port,
        contexts=[context],
        ext_neg=roles,
        ae_title="ICHNODE",
        tls_args=(tls, None) if tls else None,
    )


class Archive:
    """Stores in memory, and takes requests for commitment. How it reports is the subclasses' matter."""

    def __init__(self, test: unittest.TestCase):
        self.node: RestartableNode | None = None
        self.stored: list[str] = []
        self.requests: list[Dataset] = []
        self.statuses: list[int | None] = []
        # Which of the objects stored, counted from 0, is not committed the first time.
        self.fails: int | None = None
        entity = AE(ae_title="STGCMT")
        for sop_class in (EnhancedSRStorage, SecondaryCaptureImageStorage, StorageCommitmentPushModel):
            entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        (self.port,) = free_ports(1)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._ask)]
        server = entity.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)
        test.addCleanup(server.shutdown)

    def _store(self, event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def _ask(self, event):
        request = event.action_information
        self.requests.append(request)
        threading.Thread(target=self._report, args=(event.assoc, request), daemon=True).start()
        return 0, None

    def _report(self, association, request: Dataset) -> None:
        raise NotImplementedError

    def answer(self, request: Dataset) -> Dataset:
        pairs = [
            (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in request.ReferencedSOPSequence
        ]
        failed = []
        if self.fails is not None:
            failed = [pair for pair in pairs if pair[1] == self.stored[self.fails]]
            self.fails = None
        return report(request.TransactionUID, [pair for pair in pairs if pair not in failed], failed)


class SameAssociation(Archive):
    def _report(self, association, request):
        # The response to the request goes first.
        time.sleep(0.2)
        self.statuses.append(send_report(association, self.answer(request)))


class OwnAssociation(Archive):
    has_role = False

    def _report(self, _, request):
        association = associate(self.node, has_role=self.has_role)
        self.statuses.append(send_report(association, self.answer(request)))
        association.release()


class OwnAssociationWithRole(OwnAssociation):
    has_role = True


class Deaf(OwnAssociation):
    """Reports when it is told to."""

    def __init__(self, test):
        super().__init__(test)
        self.may_report = threading.Event()
        test.addCleanup(self.may_report.set)

    def _report(self, _, request):
        if self.may_report.is_set():
            super()._report(_, request)


class CommitmentTestCase(NodeTestCase):
    def started(self, archive: Archive, **peer) -> RestartableNode:
        """A node that sends its results there."""
        node = self.site.add_node(f"node-{archive.port}")
        node.change_peer(ae_title="STGCMT", port=archive.port, commitment="required", **peer)
        archive.node = node
        self.addCleanup(node.stop)
        return node.start()

    def delivery(self, node: RestartableNode, uid: str) -> dict:
        (delivery,) = node.study(uid)["deliveries"]
        return delivery

    def delivery_events(self, node: RestartableNode, uid: str) -> list[str]:
        return [each["text"] for each in node.study(uid)["events"] if each["kind"] == "delivery"]

    def wait_until_asked(self, node: RestartableNode, uid: str) -> dict:
        def asked():
            deliveries = (node.study(uid) or {"deliveries": []})["deliveries"]
            return next((each for each in deliveries if each.get("commitmentAskedAt")), None)

        return wait_for(asked, "commitment is asked for", 60, lambda: node.log_tail(30))


@needs_node
class Commitment(CommitmentTestCase):
    def test_orthanc_commits_on_an_association_of_its_own(self):
        site = Site()
        self.addCleanup(site.stop)
        site.node.change_peer(commitment="required")
        site.node.change_route(key_objects=True)
        site.start()
        study = phantom(self.folder, "--bleed", "left")
        send_all(site.node, study.files)
        site.node.wait_until_settled(study.uid)
        delivery = self.delivery(site.node, study.uid)
        self.assertEqual(delivery["state"], "delivered")
        self.assertGreater(len(delivery["objects"]), 1)
        count = len(delivery["objects"])
        self.assertEqual(
            self.delivery_events(site.node, study.uid),
            [f"to pacs: {count} objects accepted, commitment is asked for", f"to pacs: {count} objects committed"],
        )
        # Its REST API shows all of it in the study of the images.
        pacs = site.pacs
        self.assertEqual(len(pacs.summaries(study.uid)), 1)
        self.assertEqual(len(pacs.key_objects(study.uid)), 1)
        self.assertEqual(len(pacs.captures(study.uid)), count - 3)

    def test_report_on_the_same_association_or_a_new_one_with_or_without_role_selection(self):
        for kind in (SameAssociation, OwnAssociation, OwnAssociationWithRole):
            with self.subTest(kind.__name__):
                archive = kind(self)
                node = self.started(archive)
                study = phantom(self.folder / kind.__name__)
                send_all(node, study.files)
                node.wait_until_settled(study.uid)
                delivery = self.delivery(node, study.uid)
                self.assertEqual(delivery["state"], "delivered", node.log_tail(30))
                (request,) = archive.requests
                self.assertEqual(delivery["transactionUID"], request.TransactionUID)
                self.assertEqual(archive.statuses, [0])
                self.assertEqual(len(archive.stored), 1)
                node.stop()

    def test_an_object_that_is_not_committed_is_sent_again_alone(self):
        for kind in (SameAssociation, OwnAssociation):
            with self.subTest(kind.__name__):
                archive = kind(self)
                archive.fails = 1
                node = self.started(archive)
                study = phantom(self.folder / kind.__name__, "--bleed", "left")
                send_all(node, study.files)
                node.wait_until_settled(study.uid)
                (failed,) = (uid for uid, count in Counter(archive.stored).items() if count > 1)
                self.assertEqual(Counter(archive.stored)[failed], 2)
                self.assertEqual(failed, archive.stored[1])
                self.assertEqual(len(archive.requests), 2)
                self.assertEqual(
                    [str(item.ReferencedSOPInstanceUID) for item in archive.requests[1].ReferencedSOPSequence], [failed]
                )
                self.assertNotEqual(archive.requests[0].TransactionUID, archive.requests[1].TransactionUID)
                text = f"to pacs: commitment failed for {failed}: the peer does not have it (0x112)"
                self.assertIn(text, self.delivery_events(node, study.uid))
                self.assertEqual(self.delivery(node, study.uid)["state"], "delivered")
                node.stop()

    def test_without_a_report_all_is_sent_and_asked_for_again(self):
        archive = Deaf(self)
        node = self.started(archive, commitment_timeout_seconds=2)
        study = phantom(self.folder)
        send_all(node, study.files)
        wait_for(lambda: len(archive.requests) >= 3, "asked three times", 60, lambda: node.log_tail(30))
        self.assertEqual(len({each.TransactionUID for each in archive.requests[:3]}), 3)
        self.assertGreaterEqual(len(archive.stored), 3)
        self.assertEqual(set(archive.stored), {archive.stored[0]})
        self.assertNotEqual(self.delivery(node, study.uid)["state"], "delivered")
        # Told once each, however long it goes on.
        self.assertEqual(
            self.delivery_events(node, study.uid),
            [
                "to pacs: 1 objects accepted, commitment is asked for",
                "to pacs: no report of commitment came in time; all is sent again",
            ],
        )
        archive.may_report.set()
        node.wait_until_settled(study.uid)
        self.assertEqual(self.delivery(node, study.uid)["state"], "delivered")

    def test_a_node_that_is_killed_before_the_report_takes_it_after_its_restart(self):
        archive = Deaf(self)
        node = self.started(archive)
        study = phantom(self.folder)
        send_all(node, study.files)
        before = self.wait_until_asked(node, study.uid)
        self.assertEqual(before["state"], "accepted")
        node.kill()
        node.start()
        self.assertEqual(self.delivery(node, study.uid), before)
        association = associate(node)
        self.addCleanup(association.release)
        answer = archive.answer(archive.requests[0])
        self.assertEqual(send_report(association, answer), 0)
        self.assertEqual(self.delivery(node, study.uid)["state"], "delivered")
        # Repeated, because its response was lost.
        self.assertEqual(send_report(association, answer), 0)
        node.wait_until_settled(study.uid)
        self.assertEqual((len(archive.requests), len(archive.stored)), (1, 1))

    def test_report_is_taken_within_tls_and_while_the_disk_is_short(self):
        certificates = CertificateFolder(self.folder / "tls")
        certificates.authority("site")
        for name in ("node", "archive"):
            certificates.issue(name, "site")
        archive = Deaf(self)
        tls = certificates.tls_section("node", "site", *free_ports(1))
        node = self.site.add_node("node-tls", tls=tls)
        node.change_peer(ae_title="STGCMT", port=archive.port, commitment="required")
        self.addCleanup(node.stop)
        node.start()
        study = phantom(self.folder)
        send_all(node, study.files)
        self.wait_until_asked(node, study.uid)
        node.stop()
        node.change("disk", reject_associations_below_mebibytes=1 << 30)
        node.start()
        # As long as it is short, nothing is stored.
        entity = AE(ae_title=CALLING_AE_TITLE)
        entity.add_requested_context(CTImageStorage)
        self.assertTrue(entity.associate(LOOPBACK, node.dicom_port, ae_title="ICHNODE").is_rejected)
        association = associate(node, port=tls["port"], tls=certificates.client_context("archive", "site"))
        self.addCleanup(association.release)
        self.assertEqual(send_report(association, archive.answer(archive.requests[0])), 0)
        self.assertEqual(self.delivery(node, study.uid)["state"], "delivered")

    def test_one_destination_that_never_reports_delays_no_other(self):
        archive = Deaf(self)
        site = Site()
        self.addCleanup(site.stop)
        site.node.change_peer(commitment="required")
        site.node.add_peer("silent", ae_title="STGCMT", port=archive.port, commitment="required")
        site.start()
        study = phantom(self.folder)
        send_all(site.node, study.files)

        def states():
            study_now = site.node.study(study.uid) or {"deliveries": []}
            return {each["destination"]: each["state"] for each in study_now["deliveries"]}

        wait_for(
            lambda: states() == {"pacs": "delivered", "silent": "accepted"},
            "one is delivered, the other accepted",
            60,
            lambda: f"{states()}\n{site.node.log_tail(30)}",
        )


@needs_node
class Reports(NodeTestCase):
    """Of nobody who was asked."""

    def setUp(self):
        super().setUp()
        self.association = associate(self.node, syntaxes=[ExplicitVRLittleEndian])
        self.assertTrue(self.association.is_established)
        self.addCleanup(self.association.release)

    def event(self, ds: Dataset, event_type: int = 1, instance: str = StorageCommitmentPushModelInstance):
        status, _ = self.association.send_n_event_report(ds, event_type, StorageCommitmentPushModel, instance)
        return status.get("Status")

    def test_what_was_not_asked_is_refused_and_logged_and_the_association_goes_on(self):
        ds = report(generate_uid(), [(CTImageStorage, generate_uid())])
        self.assertEqual(self.event(ds), 0x0110)
        self.assertEqual(self.event(ds, event_type=3), 0x0113)
        self.assertEqual(self.event(ds, instance=generate_uid()), 0x0112)
        del ds.TransactionUID
        self.assertEqual(self.event(ds), 0x0110)

        def refused():
            return [line for line in self.node.log_text().splitlines() if "report of commitment refused" in line]

        # It is answered first.
        wait_for(lambda: len(refused()) >= 4, "each is in the log", 5, self.node.log_tail)
        lines = refused()
        self.assertTrue(any("unknown Transaction UID" in line for line in lines))

    def test_the_node_commits_to_nothing_itself(self):
        ds = report(generate_uid(), [(CTImageStorage, generate_uid())])
        sop = (StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        status, _ = self.association.send_n_action(ds, 1, *sop)
        self.assertEqual(status.Status, 0x0211)

    def test_the_peer_is_granted_the_role_of_the_scp_and_no_other(self):
        entity = AE(ae_title=CALLING_AE_TITLE)
        contexts = [build_context(StorageCommitmentPushModel)]
        for scu, scp, granted in ((False, True, True), (True, True, True), (True, False, None)):
            role = build_role(StorageCommitmentPushModel, scu_role=scu, scp_role=scp)
            association = entity.associate(
                LOOPBACK, self.node.dicom_port, contexts=contexts, ext_neg=[role], ae_title="ICHNODE"
            )
            with self.subTest(scu=scu, scp=scp):
                if granted is None:
                    self.assertEqual(association.accepted_contexts, [])
                else:
                    (context,) = association.accepted_contexts
                    self.assertEqual((context.as_scu, context.as_scp), (False, True))
            if association.is_established:
                association.release()


if __name__ == "__main__":
    unittest.main()
