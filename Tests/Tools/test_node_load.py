"""As many associations as the node admits, all at once, with its default limits: none of their objects is lost."""

import collections
import hashlib
import os
import sqlite3
import threading
import time
import unittest
from random import Random

from node_fixture import NodeTestCase, data_set_bytes, needs_node, wait_for
from plain_sender import PlainSender, SenderFailure, new_uid, small_image

ASSOCIATIONS = 64
# Of the default limit of 32 associations for one.
ADDRESSES = ("127.0.0.11", "127.0.0.12")
# Two associations go into each study, from both addresses.
STUDIES = 32
INSTANCES = int(os.environ.get("ICHNODE_LOAD_INSTANCES", "2000"))


@needs_node
class Load(NodeTestCase):
    def test_all_associations_at_once_lose_nothing(self):
        node = self.site.add_node("load")
        self.addCleanup(node.stop)
        node.start()
        template = small_image()
        random = Random(1)
        studies = [(new_uid(random), new_uid(random)) for _ in range(STUDIES)]
        acknowledged: list[dict[str, tuple[str, str]]] = [{} for _ in range(ASSOCIATIONS)]
        failures: list[str] = []
        # The last one in finds the node full: a further association is refused, as PS3.8 Table 9-21 has it.
        all_open = threading.Barrier(ASSOCIATIONS + 1)
        full_seen = threading.Barrier(ASSOCIATIONS + 1)

        def send(number: int) -> None:
            own = Random(number)
            study, series = studies[number % STUDIES]
            source = ADDRESSES[number // STUDIES % 2]
            try:
                with PlainSender(node.dicom_port, [template.sop_class_uid], timeout=60, source=source) as sender:
                    all_open.wait(60)
                    full_seen.wait(60)
                    for _ in range(number, INSTANCES, ASSOCIATIONS):
                        instance = template.instance(study, series, new_uid(own), own.randbytes(64))
                        status = sender.store(instance)
                        if status != 0:
                            failures.append(f"association {number}: {instance.sop_uid} got {status:#06x}")
                            continue
                        acknowledged[number][instance.sop_uid] = (study, instance.digest)
            except (OSError, threading.BrokenBarrierError) as failure:
                failures.append(f"association {number}: {failure!r}")

        senders = [threading.Thread(target=send, args=(number,), daemon=True) for number in range(ASSOCIATIONS)]
        for sender in senders:
            sender.start()
        all_open.wait(60)
        with self.assertRaisesRegex(SenderFailure, "PDU of type 3 "):
            PlainSender(node.dicom_port, [template.sop_class_uid], source="127.0.0.13")
        started = time.monotonic()
        full_seen.wait(60)
        for sender in senders:
            sender.join(600)
            self.assertFalse(sender.is_alive())
        seconds = time.monotonic() - started
        self.assertEqual(failures, [])
        expected = {uid: held for each in acknowledged for uid, held in each.items()}
        self.assertEqual(len(expected), INSTANCES)
        print(f"\n    {INSTANCES} instances over {ASSOCIATIONS} associations: {INSTANCES / seconds:.0f}/s", flush=True)
        self.assert_stored(node, expected)

    def assert_stored(self, node, expected: dict[str, tuple[str, str]]) -> None:
        """These and nothing else, byte for byte, in the spool and in the ledger, each once."""
        wait_for(lambda: not list(node.incoming.iterdir()), "incoming is empty", 10, node.log_tail)
        spool = node.folder / "data" / "spool" / "studies"
        paths = list(spool.glob("*/*"))
        found = {
            path.name.removesuffix(".dcm"): (path.parent.name, hashlib.sha256(data_set_bytes(path)).hexdigest())
            for path in paths
        }
        self.assertEqual(len(paths), len(found))
        self.assertEqual({uid for uid in expected if found.get(uid) != expected[uid]}, set(), "lost")
        self.assertEqual(found.keys() - expected.keys(), set(), "nobody sent these")

        def recorded() -> list[tuple[str, str]]:
            with sqlite3.connect(f"file:{node.folder / 'data' / 'ledger.sqlite'}?mode=ro", uri=True) as ledger:
                return ledger.execute("SELECT sop_uid, path FROM instance").fetchall()

        wait_for(lambda: len(recorded()) >= len(expected), "the ledger knows them all", 30, node.log_tail)
        rows = recorded()
        self.assertEqual({path for _, path in rows}, {str(path) for path in paths})
        self.assertEqual([uid for uid, n in collections.Counter(uid for uid, _ in rows).items() if n > 1], [])
