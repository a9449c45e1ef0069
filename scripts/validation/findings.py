"""What a check found, and which findings are allowed."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    validator: str
    text: str
    allowed_because: str | None = None


class AllowList:
    def __init__(self, path: Path):
        content = tomllib.loads(path.read_text())
        self._rules = [
            (rule["validator"], rule["object"], re.compile(rule["pattern"]), rule["reason"])
            for rule in content.get("allowed", [])
        ]
        self.codes = {(each["value"], each["scheme"]): each["meaning"] for each in content.get("code", [])}
        self.forbidden_codes = {
            (each["value"], each["scheme"]): each["reason"] for each in content.get("forbidden", [])
        }

    def judge(self, validator: str, kind: str, text: str) -> Finding:
        text = text.strip()
        for name, objects, pattern, reason in self._rules:
            if name == validator and objects in ("*", kind) and pattern.fullmatch(text):
                return Finding(validator, text, reason)
        return Finding(validator, text)
