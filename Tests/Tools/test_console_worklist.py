"""The worklist of a real node follows what is stored, and open streams do not keep the node from stopping."""

from __future__ import annotations

import http.client
import time
import unittest
from contextlib import contextmanager

from node_fixture import LOOPBACK, NodeTest, needs_node, wait_for
from raw_dicom import small_ct


class Events:
    """A stream of server-sent events."""

    def __init__(self, port: int, topics: str):
        self.connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
        self.connection.request("GET", f"/events?topics={topics}")
        self.response = self.connection.getresponse()

    def next(self) -> tuple[str, str]:
        fields = {}
        while line := self.response.readline().decode().rstrip("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        return fields.get("event", ""), fields.get("data", "")
