"""A receiver of HL7 messages over MLLP: python-hl7's server, which can be told to answer as badly as receivers do."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import deque

import hl7
from hl7.mllp import start_hl7_server
from processes import LOOPBACK, free_ports

SLOW_SECONDS = 0.6


class Ris:
    """Answers AA, after what is in `script`, one entry for each message or connection attempt:

    an acknowledgement code; `slow`: AA after a while; `silent`: nothing; `cut`: closes; `mid`: aborts while the message
    is still read; `half`: half an answer, then closes; `garbage`; `flood`: an answer that does not end; `other`: an answer
    for another message; `chatty`: AA, then something that nobody asked for.
    """

    def __init__(self, *script: str, port: int | None = None, context: ssl.SSLContext | None = None):
        self.port = port or free_ports(1)[0]
        self.script = deque(script)
        self.pace_seconds = 0.0
        self.heard: list[tuple[str, str]] = []
        """MSH-10 and text of all that came whole, in order."""
        self.accepted: list[str] = []
        """MSH-10 of those that were answered with AA or CA, in order, as often as they were."""
        self.connections = 0
        self._context = context
        self._writers: set = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Ris:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)  # what a cut connection leaves behind
        listening = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), daemon=True)
        self._thread.start()
        if not listening.wait(10):
            raise AssertionError(f"nothing listens on port {self.port}")
        return self

    def stop(self) -> None:
        """With whatever is under way."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop = None

    def texts(self, identifier: str) -> list[str]:
        return [text for each, text in self.heard if each == identifier]

    def _run(self, listening: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            start_hl7_server(self._serve, LOOPBACK, self.port, encoding="utf-8", ssl=self._context)
        )
        listening.set()
        self._loop.run_forever()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self, reader, writer) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                if self.script and self.script[0] == "mid":
                    self.script.popleft()
                    await reader.readexactly(100)
                    writer.transport.abort()
                    return
                text = (await reader.readblock()).decode("utf-8")
                message = hl7.parse(text)
                self.heard.append((str(message.segment("MSH")[10]), text))
                await asyncio.sleep(self.pace_seconds)
                if not await self._answer(message, writer, self.script.popleft() if self.script else "AA"):
                    writer.close()
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(self, message: hl7.Message, writer, action: str) -> bool:
        """Returns whether the connection goes on."""
        if action == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        code = "AA" if action in ("slow", "chatty") else action
        if code in ("AA", "CA", "AE", "AR", "CE", "CR"):
            writer.writeblock(str(message.create_ack(code)).encode())
            if code in ("AA", "CA"):
                self.accepted.append(str(message.segment("MSH")[10]))
        answer = str(message.create_ack("AA")).encode()
        if action == "chatty":
            writer.writeblock(answer)
        elif action == "half":
            writer.write(b"\x0b" + answer[: len(answer) // 2])
        elif action == "garbage":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif action == "flood":
            writer.write(b"\x0b" + answer + b" " * (1 << 20))
        elif action == "other":
            writer.writeblock(answer.replace(str(message.segment("MSH")[10]).encode(), b"ANOTHER"))
        await writer.drain()
        return action not in ("cut", "half")
