"""What the system tests share: a real node, a real PACS, senders, and questions to both. Everything is on loopback, on
free ports, below one temporary folder; every process is stopped by its own id."""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Callable, Iterable

import pydicom
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "scripts" / "validation"), str(ROOT / "scripts" / "demo")]
from ct_series import CTVolume, write_series  # noqa: E402
from invesalius_head import EXAMPLE, demo_header, load_head  # noqa: E402
from make_ct_series import arguments_from, make  # noqa: E402
from paint_haemorrhage import paint  # noqa: E402
from processes import LOOPBACK, DemoFailure, Node, Pacs, Server, find_tool, free_ports  # noqa: E402
from structured_report import TriageReport, read_triage_report  # noqa: E402

ICHNODE = Path(os.environ.get("ICHNODE", ROOT / ".build" / "debug" / "ichnode"))
MODELS = sorted(path.parent for path in (ROOT / "Models").glob("*/model.json"))
SHARED_DATA = Path(os.environ.get("ICHNODE_SHARED_DATA", ROOT.parent / "shared" / "data"))
GRACE_SECONDS = 1
# How long a study waits for a sender that was cut off.
QUIET_SECONDS = 6
CALLING_AE_TITLE = "DEMOPACS"
# Probability over 0.99 with the models so far, dozens of slices flagged: a test of the path, not of the model.
BLEED_SEED = 8

# The sender hands on data sets as they lie in the files: nothing is decoded, nothing encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


def why_not() -> str | None:
    """Why the system tests cannot run here."""
    for program in (ICHNODE, ICHNODE.parent / "ichnode-dicom"):
        if not program.exists():
            return f"{program.name} is not built: run make build"
    if len(MODELS) != 1:
        return "Models/ does not hold one model package"
    for tool, package in (("storescu", "dcmtk"), ("echoscu", "dcmtk"), ("Orthanc", "orthanc")):
        try:
            find_tool(tool, package)
        except DemoFailure as failure:
            return str(failure)
    return None


def needs_node(test):
    reason = why_not()
    return unittest.skipIf(reason is not None, reason or "")(test)


def needs_shared_data(test):
    present = (SHARED_DATA / "dicom").is_dir()
    return unittest.skipUnless(present, f"{SHARED_DATA}/dicom is not there: set ICHNODE_SHARED_DATA")(test)


needs_example_head = unittest.skipUnless(EXAMPLE.exists(), "Debian's invesalius-examples is not installed")


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60, detail: Callable[[], str] = str):
    """The first true answer of `condition`. Fails with `what`, and `detail()`, when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds:g} s: {what}\n{detail()}")
        time.sleep(0.02)


# --- Servers ----------------------------------------------------------------------------------------------------------


class RestartableNode(Node):
    """A node that can be killed and started again with the same data, and whose configuration a test may change."""

    def __init__(self, folder: Path, pacs_port: int, port: int | None = None, **sections: dict):
        """`sections` are merged into the configuration: dicom={"idle_timeout_seconds": 2}; lists replace others."""
        port = port or free_ports(1)[0]
        super().__init__(ICHNODE, MODELS[0], folder, port, GRACE_SECONDS)
        self.starts = 0
        for name in ("data", "run"):
            (folder / name).mkdir(parents=True)
        configuration = {
            "node": {
                "ae_title": "ICHNODE",
                "data_directory": str(folder / "data"),
                "run_directory": str(folder / "run"),
                "model": str(self.model),
                "log_level": "debug",
            },
            "dicom": {"port": port, "bind": [LOOPBACK], "allowed_networks": ["127.0.0.0/8"]},
            "disk": {},
            "completion": {"grace_seconds": GRACE_SECONDS, "quiet_seconds": QUIET_SECONDS},
            "delivery": {"first_retry_seconds": 0.5, "most_retry_seconds": 1},
            "console": {"host": LOOPBACK, "port": self.http_port},
            "peers": [{"name": "pacs", "ae_title": "ORTHANC", "host": LOOPBACK, "port": pacs_port}],
            "routes": [{"name": "default", "destinations": ["pacs"]}],
        }
        for section, keys in sections.items():
            is_list = isinstance(keys, list)
            configuration[section] = keys if is_list else configuration.get(section, {}) | keys
        # JSON is YAML.
        self.configuration.write_text(json.dumps(configuration, indent=2))

    def change_peer(self, **keys) -> None:
        """Of the one that results go to, before a start."""
        self._configure(lambda configuration: configuration["peers"][0].update(keys))

    def add_peer(self, name: str, **keys) -> None:
        """One more that results go to, before a start."""

        def add(configuration):
            configuration["peers"].append({"name": name, "host": LOOPBACK, **keys})
            configuration["routes"][0]["destinations"].append(name)

        self._configure(add)

    def change_route(self, **keys) -> None:
        """The one that there is, before a start."""
        self._configure(lambda configuration: configuration["routes"][0].update(keys))

    def change(self, section: str, **keys) -> None:
        """Of a section, before a start."""
        self._configure(lambda configuration: configuration.setdefault(section, {}).update(keys))

    def _configure(self, change: Callable[[dict], None]) -> None:
        configuration = json.loads(self.configuration.read_text())
        change(configuration)
        self.configuration.write_text(json.dumps(configuration, indent=2))

    def start(self) -> RestartableNode:
        self.starts += 1
        self.exit_status = None
        self.log = self.folder / f"ichnode-{self.starts}.log"
        self.__enter__()
        return self

    def kill(self) -> None:
        """kill -9, as the kernel does when memory runs out."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.exit_status = self.process.wait()

    def log_text(self) -> str:
        """Of this start."""
        return self.log.read_text(errors="replace")

    def children(self, verb: str) -> list[int]:
        """Process ids of the daemon's children of one kind: receive, decode, compose, send, infer."""
        found = []
        for listing in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for pid in read_or_empty(listing).split():
                arguments = read_or_empty(Path(f"/proc/{pid}/cmdline")).split("\0")
                if len(arguments) > 1 and arguments[1] == verb and not _is_template(pid):
                    found.append(int(pid))
        return found

    def templates(self) -> list[int]:
        """Process ids of what receive workers are forked from."""
        listings = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for listing in listings for pid in read_or_empty(listing).split() if _is_template(pid)]

    def serving_worker(self) -> int:
        """The receive worker that holds an established connection to the DICOM port."""
        port = f":{self.dicom_port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "01"}
        for pid in self.children("receive"):
            for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
                try:
                    if os.readlink(descriptor) in inodes:
                        return pid
                except OSError:
                    continue
        raise AssertionError("no receive worker holds a connection")

    def peak_memory_mib(self) -> dict[str, int]:
        """The most resident memory that the daemon and its inference child have had at a time each."""
        pids = {"daemon": [self.process.pid], "infer": self.children("infer")}
        found = {}
        for name, each in pids.items():
            peaks = [int(line.split()[1]) for pid in each for line in _status(pid) if line.startswith("VmHWM")]
            found[name] = sum(peaks) // 1024
        return found

    def anonymous_memory_kib(self) -> int:
        """What the daemon holds now, without what it has of files."""
        (line,) = [each for each in _status(self.process.pid) if each.startswith("RssAnon")]
        return int(line.split()[1])

    # What the node knows

    def study(self, uid: str) -> dict | None:
        text = self.command("study", "show", "--json", uid)
        return json.loads(text) if text.startswith("{") else None

    def stored(self, study_uid: str) -> list[Path]:
        folder = self.folder / "data" / "spool" / "studies" / study_uid
        return sorted(folder.glob("*.dcm")) if folder.is_dir() else []

    @property
    def incoming(self) -> Path:
        return self.folder / "data" / "spool" / "incoming"

    def wait_until_settled(self, uid: str, seconds: float = 60) -> dict:
        """Concluded, everything delivered, and nothing more to come: looked at again after another grace."""
        self.wait_until_delivered(uid, seconds)
        time.sleep(GRACE_SECONDS + 0.3)
        return self.wait_until_delivered(uid, seconds)

    def wait_until_delivered(self, uid: str, seconds: float = 60) -> dict:
        """Concluded, and nothing is owed to anybody."""

        def delivered():
            self.require_running()
            study = self.study(uid)
            at_rest = study and study["study"]["state"] == "concluded" and study["study"]["pendingDeliveries"] == 0
            return study if at_rest and study["analyses"] else None

        def detail():
            return f"{self.command('study', 'show', uid)}\n{self.log_tail(30)}"

        return wait_for(delivered, f"study {uid} is concluded and delivered", seconds, detail)


def _status(pid: int) -> list[str]:
    return read_or_empty(Path(f"/proc/{pid}/status")).splitlines()


def _is_template(pid: str) -> bool:
    return read_or_empty(Path(f"/proc/{pid}/comm")).strip() == "dicom-template"


def read_or_empty(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


class RestartablePacs(Pacs):
    def __init__(self, folder: Path, node_port: int = 104, **settings):
        super().__init__(folder, node_port, **settings)
        self.starts = 0

    def start(self) -> RestartablePacs:
        self.exit_status = None
        self.__enter__()
        return self

    def reports(self, study_uid: str) -> list[TriageReport]:
        found = self.find(study_uid, "SR")
        return [read_triage_report(pydicom.dcmread(io.BytesIO(self.download(each)))) for each in found]

    def captures(self, study_uid: str) -> list[str]:
        """Heatmaps."""
        return self.find(study_uid, "OT", 9003)

    def summaries(self, study_uid: str) -> list[str]:
        return self.find(study_uid, "OT", 9004)

    def key_objects(self, study_uid: str) -> list[str]:
        return self.find(study_uid, "KO")


class Site:
    """A PACS and a node for it, and a folder for whatever else."""

    def __init__(self, **sections: dict):
        self._temporary = tempfile.TemporaryDirectory(prefix="ichnode-system-")
        self.folder = Path(self._temporary.name)
        (node_port,) = free_ports(1)
        self.pacs = RestartablePacs(self.folder / "pacs", node_port)
        self.node = RestartableNode(self.folder / "node", self.pacs.dicom_port, node_port, **sections)
        self._others: list[Server] = []

    def start(self) -> Site:
        self.pacs.start()
        try:
            self.node.start()
        except BaseException:
            self.stop()
            raise
        return self

    def add_node(self, name: str, **sections: dict) -> RestartableNode:
        """A further node that sends to the same PACS; the caller starts it. Names may come twice."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        node = RestartableNode(folder, self.pacs.dicom_port, **sections)
        self._others.append(node)
        return node

    def stop(self) -> None:
        for server in [*self._others, self.node, self.pacs]:
            server.stop()
        self._temporary.cleanup()


_shared: Site | None = None


def shared_site() -> Site:
    """One PACS and one node for all tests of a run, started by the first that asks; both run when this returns."""
    global _shared
    if _shared is None:
        # A polite kill unwinds like Ctrl-C, so that the servers are stopped.
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        _shared = Site()
        atexit.register(_shared.stop)
        _shared.start()
    for server in (_shared.pacs, _shared.node):
        if server.process is None or server.process.poll() is not None:
            server.start()
    return _shared


# --- Studies ----------------------------------------------------------------------------------------------------------


class Study:
    """Files of one study, feet to head."""

    def __init__(self, uid: str, files: list[Path]):
        self.uid, self.files = uid, files


def phantom(folder: Path, *options: str) -> Study:
    """A small generated head: enough for the whole path, quick to analyse."""
    written = make(arguments_from([str(folder), "--slices", "20", "--size", "128", "--spacing", "6", *options]))
    return Study(written["study_instance_uid"], [folder / each["file"] for each in written["instances"]])


def example_head(folder: Path, label: str, bleed_seed: int | None = None) -> Study:
    """The 108 slices of Debian's invesalius-examples, clean or with a painted haemorrhage."""
    volume = load_head()
    if bleed_seed is not None:
        pixels, _ = paint(volume, bleed_seed)
        volume = CTVolume(**{**volume.__dict__, "hounsfield": pixels})
    header = demo_header(label, f"{int(time.time()):X}")
    written = write_series(volume, header, folder)
    return Study(header.study_uid, [folder / each["file"] for each in written])


def data_set_bytes(path: Path) -> bytes:
    """What follows the file meta header: preamble, "DICM", then (0002,0000) UL with the length of the rest."""
    content = path.read_bytes()
    assert content[128:132] == b"DICM" and content[132:136] == b"\2\0\0\0", path
    return content[144 + int.from_bytes(content[140:144], "little") :]


# --- Senders ----------------------------------------------------------------------------------------------------------


def run_tool(name: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess:
    """One of DCMTK's programs; its output and messages together."""
    return subprocess.run(
        [find_tool(name, "dcmtk"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
    )


def storescu(node: RestartableNode, *paths: Path, calling: str = CALLING_AE_TITLE) -> str:
    """Sends files or folders with DCMTK's storescu; all have to be accepted. Returns its messages."""
    result = run_tool(
        "storescu", "-v", "+sd", "-aet", calling, "-aec", "ICHNODE", LOOPBACK, str(node.dicom_port), *map(str, paths)
    )
    if result.returncode != 0:
        raise AssertionError(f"storescu ended with {result.returncode}\n{result.stdout[-2000:]}\n{node.log_tail()}")
    return result.stdout


def echoscu(node: RestartableNode, *, calling: str = CALLING_AE_TITLE, called: str = "ICHNODE"):
    return run_tool("echoscu", "-v", "-aet", calling, "-aec", called, LOOPBACK, str(node.dicom_port))


class Sender:
    """An association of pynetdicom's that sends stored data sets unchanged, whatever their transfer syntax."""

    def __init__(self, node: RestartableNode, files: Iterable[Path], calling: str = CALLING_AE_TITLE, **options):
        """`options` go to pynetdicom's associate(): tls_args."""
        port = options.pop("port", node.dicom_port)
        entity = AE(ae_title=calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
        metas = [read_file_meta_info(path) for path in files]
        contexts = {(str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)) for meta in metas}
        for sop_class, syntax in sorted(contexts):
            # A context of its own for each syntax: the receiver could choose only one of several.
            entity.add_requested_context(sop_class, syntax)
        self.association = entity.associate(LOOPBACK, port, ae_title="ICHNODE", **options)
        if not self.association.is_established:
            raise AssertionError(f"no association with the node\n{node.log_tail()}")

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, kind, *_) -> None:
        if self.association.is_established:
            self.association.release() if kind is None else self.association.abort()

    def status(self, path: Path) -> int | None:
        """Status of the C-STORE response; None where none came."""
        try:
            return self.association.send_c_store(path).get("Status")
        except (RuntimeError, ConnectionError):
            return None

    def store(self, path: Path) -> bool:
        """Whether the object was acknowledged with success."""
        return self.status(path) == 0

    def store_all(self, paths: Iterable[Path], per_second: float | None = None) -> list[Path]:
        """Sends until one is not acknowledged. Returns those that were."""
        acknowledged, started = [], time.monotonic()
        for index, path in enumerate(paths):
            if per_second:
                time.sleep(max(0.0, started + index / per_second - time.monotonic()))
            if not self.store(path):
                break
            acknowledged.append(path)
        return acknowledged


def send_all(node: RestartableNode, files: list[Path], calling: str = CALLING_AE_TITLE) -> None:
    """Over one association; all have to be acknowledged.

    On a loaded machine pynetdicom 3.0.4 loses about one response in a thousand (against DCMTK's storescp too: its
    reactor takes it from under the caller). Like any sender, this one then sends the rest again.
    """
    remaining = list(files)
    for _ in range(3):
        with Sender(node, remaining, calling) as sender:
            remaining = remaining[len(sender.store_all(remaining)) :]
        if not remaining:
            return
    raise AssertionError(f"not acknowledged: {remaining[0]}\n{node.log_tail()}")


class BackgroundSender(threading.Thread):
    """Sends in the background, so that a test can do harm meanwhile."""

    def __init__(self, node: RestartableNode, files: list[Path], per_second: float):
        super().__init__(daemon=True)
        self.sender = Sender(node, files)
        self.files, self.per_second = files, per_second
        self.acknowledged: list[Path] = []
        self.start()

    def run(self) -> None:
        started = time.monotonic()
        for index, path in enumerate(self.files):
            time.sleep(max(0.0, started + index / self.per_second - time.monotonic()))
            if not self.sender.store(path):
                break
            self.acknowledged.append(path)
        self.sender.__exit__(None)

    def wait_for(self, count: int) -> None:
        wait_for(lambda: len(self.acknowledged) >= count, f"{count} objects acknowledged", 30)

    def unacknowledged(self) -> list[Path]:
        """After the end."""
        self.join(40)
        assert not self.is_alive(), "the sender hangs"
        return self.files[len(self.acknowledged) :]


# --- Test case --------------------------------------------------------------------------------------------------------


class NodeTestCase(unittest.TestCase):
    """A test with the shared site and a folder of its own."""

    site: Site

    @classmethod
    def setUpClass(cls):
        cls.site = shared_site()

    def setUp(self):
        # A test before this one may have left something stopped.
        shared_site()
        folder = tempfile.TemporaryDirectory(prefix="ichnode-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @property
    def node(self) -> RestartableNode:
        return self.site.node

    @property
    def pacs(self) -> RestartablePacs:
        return self.site.pacs

    def assert_one_report(self, study: Study, node: RestartableNode | None = None) -> TriageReport:
        """Waits for the study's end: then exactly one SR of it lies in the PACS."""
        node = node or self.node
        node.wait_until_settled(study.uid)
        reports = self.pacs.reports(study.uid)
        self.assertEqual(len(reports), 1, node.command("study", "show", study.uid))
        return reports[0]

    def assert_in_spool(self, study: Study, files: Iterable[Path], node: RestartableNode | None = None) -> None:
        """Each file's data set is in the spool byte for byte."""
        stored = {data_set_bytes(path) for path in (node or self.node).stored(study.uid)}
        lost = [path.name for path in files if data_set_bytes(path) not in stored]
        self.assertEqual(lost, [], "acknowledged, but not in the spool as sent")

    def events(self, study: Study | str, kind: str) -> list[str]:
        uid = study if isinstance(study, str) else study.uid
        # The ledger is written a little later than the spool.
        known = self.node.study(uid) or {"events": []}
        return [each["text"] for each in known["events"] if each["kind"] == kind]
