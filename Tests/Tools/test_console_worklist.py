"""The worklist of a real node follows what is stored, and open streams do not keep the node from stopping."""

from __future__ import annotations

import http.client
import time
import unittest

from node_fixture import LOOPBACK, NodeTestCase, needs_node, phantom, send_all, wait_for

STOP_SECONDS = 8
STREAMS = 20


class Events:
    """A stream of server-sent events."""

    def __init__(self, port: int, topics: str):
        self.connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
        self.connection.request("GET", f"/events?topics={topics}", headers={"Accept": "text/event-stream"})
        self.response = self.connection.getresponse()

    def next(self) -> tuple[str, str] | None:
        """Kind and data; None at the end of the stream."""
        fields = {}
        while (line := self.response.readline().decode()) not in ("", "\n"):
            name, _, value = line.rstrip("\n").partition(":")
            fields[name] = value.strip()
        return (fields["event"], fields["data"]) if fields else None

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@needs_node
class Worklist(NodeTestCase):
    def events(self, topics: str) -> Events:
        opened = Events(self.node.http_port, topics)
        self.addCleanup(opened.close)
        self.assertEqual(opened.response.status, 200)
        self.assertEqual(opened.next(), ("open", ""))
        return opened

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        """Status, ETag and body."""
        connection = http.client.HTTPConnection(LOOPBACK, self.node.http_port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("ETag"), answer.read().decode()
        finally:
            connection.close()

    def is_listed(self, uid: str) -> bool:
        """Other tests may have left more than a page."""
        return any(f'id="study-{uid}"' in self.get(f"/worklist/list?page={page}")[2] for page in range(1, 6))

    def test_what_is_stored_is_news_and_is_listed(self):
        study = phantom(self.folder / "phantom", "--slices", "4")
        studies, one, other = (self.events(each) for each in ("studies", f"study:{study.uid}", "study:1.2.3"))
        self.assertFalse(self.is_listed(study.uid))
        send_all(self.node, study.files)
        self.assertEqual(studies.next(), ("changed", "studies"))
        self.assertEqual(one.next(), ("changed", f"study:{study.uid}"))
        wait_for(lambda: self.is_listed(study.uid), "the study is listed", 5)
        self.node.wait_until_delivered(study.uid)
        self.assertIn(f'href="/studies/{study.uid}"', self.get("/?period=7d")[2])
        # The stream of another study has been told nothing of it.
        other.connection.sock.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            other.next()

        def is_settled():
            _, tag, _ = self.get("/worklist/list")
            return self.get("/worklist/list", **{"If-None-Match": tag})[0] == 304

        wait_for(is_settled, "nothing more changes", 10)

    def test_open_streams_do_not_keep_the_node(self):
        streams = [self.events("studies,deliveries,alerts") for _ in range(STREAMS)]
        started = time.monotonic()
        self.node.stop()
        self.assertLess(time.monotonic() - started, STOP_SECONDS)
        self.assertEqual(self.node.exit_status, 0, self.node.log_tail())
        # Each was ended, not cut off.
        self.assertEqual({each.next() for each in streams}, {None})


if __name__ == "__main__":
    unittest.main()
