"""Fuzz/ compiles a part of the product's files. That they go together without the others is seen here, without the
minutes for which `make fuzz` builds."""

import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from node_fixture import ROOT

SOURCES = ROOT / "Sources"
CHECKOUTS = ROOT / ".build" / "checkouts"
BUILT = ROOT / ".build" / "debug"
# Modules of packages that Fuzz/Package.swift names, beside those of the same name as their product.
FURTHER = {"CoreMetrics", "UnixSignals"}


@unittest.skipUnless((BUILT / "Modules").is_dir(), "needs the debug build, for modules of other packages")
class FuzzPackage(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-fuzz-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        command = ["swift", "package", "--package-path", str(ROOT / "Fuzz"), "--scratch-path", temporary.name]
        described = subprocess.run([*command, "describe", "--type", "json"], capture_output=True, check=True)
        targets = json.loads(described.stdout)["targets"]
        self.targets = {each["name"]: each for each in targets if (SOURCES / each["name"]).is_dir()}

    def test_what_is_fuzzed_compiles_without_the_rest(self):
        parts = [name for name in self.in_order() if self.is_part(name)]
        self.assertIn("ichnode", parts)
        for name in parts:
            with self.subTest(name):
                self.assertEqual(self.foreign_imports(name), set())
                self.assertEqual(self.compile(name), "")

    def in_order(self) -> list[str]:
        """What others depend on comes first."""
        order: list[str] = []

        def add(name: str):
            for each in self.targets[name].get("target_dependencies", []):
                add(each)
            if name not in order:
                order.append(name)

        for name in self.targets:
            add(name)
        return order

    def files(self, name: str) -> list[Path]:
        return [SOURCES / name / each for each in self.targets[name]["sources"]]

    def is_part(self, name: str) -> bool:
        return 0 < len(self.files(name)) < len(list((SOURCES / name).rglob("*.swift")))

    def foreign_imports(self, name: str) -> set[str]:
        """Of packages that are there for the product alone."""
        named = {each for target in self.targets.values() for each in target.get("product_dependencies", [])}
        built = {path.stem for path in (BUILT / "Modules").glob("*.swiftmodule")}
        texts = [path.read_text() for path in self.files(name)]
        imported = {each for text in texts for each in re.findall(r"^(?:\w+ )?import (\w+)$", text, re.MULTILINE)}
        return imported & (built - named - FURTHER - set(self.targets))

    def compile(self, name: str) -> str:
        """Errors."""
        maps = [*BUILT.glob("*.build/module.modulemap"), SOURCES / "CZlib" / "module.modulemap"]
        maps += CHECKOUTS.glob("*/Sources/*/include/module.modulemap")
        maps += CHECKOUTS.glob("GRDB.swift/Sources/GRDBSQLite/module.modulemap")
        done = subprocess.run(
            ["swiftc", "-emit-module", "-emit-module-path", str(self.folder / f"{name}.swiftmodule")]
            + ["-swift-version", "6", "-module-name", name, "-package-name", re.sub(r"\W", "_", ROOT.name.lower()), "-parse-as-library"]
            + ["-I", str(self.folder), "-I", str(BUILT / "Modules")]
            + [word for path in maps for word in ("-Xcc", f"-fmodule-map-file={path}")]
            + [str(path) for path in self.files(name)],
            capture_output=True,
            text=True,
        )  # fmt: skip
        return "\n".join(line for line in done.stderr.splitlines() if "error:" in line)


if __name__ == "__main__":
    unittest.main()
