"""A sender that the node is taken from: one association stores image after image, another stops in the middle of an
object. Prints what was acknowledged, and how both end: interrupted_sender.py PORT STUDY."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tools"))
from raw_dicom import C_STORE_RQ, CT, CutOff, Image, Peer, data_pdu, data_set_pdus, request  # noqa: E402

MOST_SECONDS = 120
# PS3.8 §9.3.8.
ABORT = 7


def say(*words: object) -> None:
    print(*words, flush=True)


def store_many(port: int, study: str) -> None:
    with Peer(port, timeout=MOST_SECONDS) as peer:
        peer.associate()
        deadline, number = time.monotonic() + MOST_SECONDS, 0
        while time.monotonic() < deadline:
            number += 1
            instance = f"{study}.1.{number}"
            try:
                response = peer.store(instance, Image(instance, study).encoded())
            except (CutOff, OSError) as error:
                return say("many cut", error)
            if response is None:
                return say("many aborted")
            say("stored" if response.status == 0 else "refused", instance)
            time.sleep(0.02)


def store_half(port: int, study: str) -> None:
    with Peer(port, timeout=MOST_SECONDS) as peer:
        peer.associate()
        instance = f"{study}.2.1"
        pdus = data_set_pdus(1, Image(instance, study, pixels=bytes(1 << 20)).encoded())
        peer.send(data_pdu(1, request(C_STORE_RQ, CT, instance, message_id=1), command=True), *pdus[: len(pdus) // 2])
        say("half sent")
        try:
            answer = peer.receive()
        except (CutOff, OSError) as error:
            return say("half cut", error)
        say("half", "closed" if answer is None else "aborted" if answer[0] == ABORT else f"answered {answer[0]}")


if __name__ == "__main__":
    arguments = (int(sys.argv[1]), sys.argv[2])
    other = threading.Thread(target=store_half, args=arguments)
    other.start()
    store_many(*arguments)
    other.join()
