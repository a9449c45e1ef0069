"""Patient and study text in every character set of PS3.3 C.12.1.1.2, sent to the running node: all that comes back says
the same in UTF-8. The bytes are encoded here, by Python's tables and the escape sequences of PS3.5; the names are those
of PS3.5 Annexes H to K where these have one."""

from __future__ import annotations

import io
import json
import re
import unittest
import warnings
from dataclasses import dataclass
from typing import Callable

import pydicom
from node_fixture import NodeTestCase, RestartableNode, Study, needs_node, phantom, storescu
from processes import http
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement

import own  # noqa: E402  (node_fixture has the folders on the path)
from structured_report import walk  # noqa: E402

Encode = Callable[[str], bytes]
# Where code extensions end (PS3.5 §6.1.2.5.3).
DELIMITERS = re.compile(r"([\\^=])")
NAME, PHYSICIAN, DESCRIPTION, IDENTIFIER = "PatientName", "ReferringPhysicianName", "StudyDescription", "PatientID"
SHORT = ["AccessionNumber", "StudyID"]
CARRIED = [NAME, "OtherPatientNames", PHYSICIAN, DESCRIPTION, IDENTIFIER, "IssuerOfPatientID", *SHORT]
# What report and history say.
MISREAD = "not of the character set"


def extended(*sets: tuple[str, bytes, Encode], back: bytes = b"") -> Encode:
    """Encodes with code extensions: a character by the first set whose pattern it matches, which is designated where
    another was; else as ASCII. `back` designates what G0 holds at the end of a component."""

    def component(text: str) -> bytes:
        result, current = b"", b""
        for character in text:
            fitting = ((escape, encode) for pattern, escape, encode in sets if re.match(pattern, character))
            escape, encode = next(fitting, (b"", str.encode))
            # ASCII stands in G0: only a set that was put there has to make room for it.
            if escape != current and (escape or current in IN_G0):
                result += escape or back
                current = escape
            result += encode(character)
        return result + (back if current in IN_G0 else b"")

    return lambda text: b"".join(
        part.encode() if DELIMITERS.fullmatch(part) else component(part) for part in DELIMITERS.split(text)
    )


def low(encode: Encode) -> Encode:
    """The same codes in G0."""
    return lambda character: bytes(byte & 0x7F for byte in encode(character))


def codec(name: str) -> Encode:
    return lambda text: text.encode(name)


JIS_X_0208, JIS_X_0212 = b"\x1b$B", b"\x1b$(D"
IN_G0 = {JIS_X_0208, JIS_X_0212}
KANJI = (r"[^\x00-\x7f\uff61-\uff9f]", JIS_X_0208, low(codec("euc_jp")))
# Three bytes in EUC, the first of which says which set it is.
RARE_KANJI = (r"[丂丄]", JIS_X_0212, lambda character: low(codec("euc_jp"))(character)[1:])
KATAKANA = (r"[\uff61-\uff9f]", b"", codec("shift_jis"))
HANGUL = (r"[^\x00-\x7f]", b"\x1b$)C", codec("euc_kr"))
HANZI = (r"[^\x00-\x7f]", b"\x1b$)A", codec("gb2312"))
CYRILLIC = (r"[Ѐ-ӿ]", b"\x1b-L", codec("iso8859_5"))
GREEK = (r"[Ͱ-Ͽ]", b"\x1b-F", codec("iso8859_7"))
ROMAN = b"\x1b(J"
ASCII = b"\x1b(B"


@dataclass
class Sample:
    declared: str
    encode: Encode
    name: str
    physician: str
    word: str
    # Whether pydicom reads the source as it is meant.
    alike: bool = True

    def text(self) -> dict[str, str]:
        return {
            NAME: self.name,
            "OtherPatientNames": f"{self.physician}\\{self.name}",
            PHYSICIAN: self.physician,
            DESCRIPTION: f"CT {self.word} 1",
            IDENTIFIER: f"{self.word}-1",
            "IssuerOfPatientID": self.word,
            "AccessionNumber": f"A{self.word[:4]}",
            "StudyID": self.word[:4],
            "SeriesDescription": f"HEAD {self.word}",
            "InstitutionName": self.word,
        }


def plain(declared: str, name: str, *words: str, encoding: str | None = None, **options) -> Sample:
    return Sample(declared, codec(encoding or python_encoding[declared]), name, *words, **options)


SAMPLES = [
    plain("ISO_IR 100", "Äneas^Rüdiger^ß=Æneas^Øyvind", "Buc^Jérôme", "Schädel"),
    plain("ISO_IR 101", "Wałęsa^Őrség", "Dvořák^Štěpán", "Głowa", encoding="iso8859_2"),
    plain("ISO_IR 109", "Ħaġar^Ċensu", "Ĝis^Ŭesto", "Kapo-ĉio", encoding="iso8859_3"),
    plain("ISO_IR 110", "Bērziņš^Ģirts", "Kõrgõzstan^Ųla", "Galvą", encoding="iso8859_4"),
    plain("ISO_IR 144", "Люкceмбypг^Ѓорѓи", "Џорџ^Љуба", "Череп", encoding="iso8859_5"),
    plain("ISO_IR 127", "قباني^لنزار", "الخوارزمي^محمد", "رأس", encoding="iso8859_6"),
    plain("ISO_IR 126", "Διονυσιος^Ώρα", "Σωκράτης", "Κεφάλι", encoding="iso8859_7"),
    plain("ISO_IR 138", "שרון^דבורה", "כהן^משה", "ראש", encoding="iso8859_8"),
    plain("ISO_IR 148", "Çavuşoğlu^İpek", "Yıldız^Ğ", "Kafatası", encoding="iso8859_9"),
    plain("ISO_IR 203", "Œuvre^Žižka", "Ÿves^Šimon", "Tête-€", encoding="iso8859_15", alike=False),
    plain("ISO_IR 166", "นามสกุล^ชื่อ", "แพทย์^สมชาย", "ศีรษะ", encoding="tis_620"),
    plain("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ", "ｻﾄｳ^ﾊﾅｺ", "ﾄｳﾌﾞ", encoding="shift_jis"),
    plain("ISO_IR 192", "Wang^XiaoDong=王^小東=ワン^𠮷", "Łódź^Ελένη", "頭部"),
    plain("GB18030", "Wang^XiaoDong=王^小东=㐀^𠀀", "张^伟", "头颅"),
    # Second bytes that are 5C and 5E, the delimiters' (PS3.5 §6.1.2.3).
    plain("GB18030", "Bi=誠^乗", "誠^乗", "頭誠"),
    plain("GBK", "Zhang=張^偉", "王^偉", "頭顱"),
    Sample(r"\ISO 2022 IR 87", extended(KANJI, back=ASCII), "Yamada^Tarou=山田^太郎=やまだ^たろう", "佐藤^花子", "頭部CT"),
    Sample(
        r"ISO 2022 IR 13\ISO 2022 IR 87", extended(KANJI, KATAKANA, back=ROMAN), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "ｻﾄｳ=佐藤^花子", "頭部ｱ",
    ),
    Sample(
        r"ISO 2022 IR 6\ISO 2022 IR 87\ISO 2022 IR 159", extended(RARE_KANJI, KANJI, back=ASCII), "Ito=丂田^丄郎",
        "伊藤^花子", "頭丂",
    ),
    Sample(r"\ISO 2022 IR 149", extended(HANGUL), "Hong^Gildong=洪^吉洞=홍^길동", "김^희중", "두부"),
    Sample(r"\ISO 2022 IR 58", extended(HANZI), "Zhang^XiaoDong=张^小东=", "王^伟", "头颅", alike=False),
    Sample(
        r"ISO 2022 IR 6\ISO 2022 IR 144\ISO 2022 IR 126", extended(CYRILLIC, GREEK), "Иванов^Σωκράτης=И^Σ", "Петров^Λ",
        "ЧерепΚ",
    ),
]  # fmt: skip


@dataclass
class Fault:
    """Text that is not of its declared set, and what becomes of it."""

    declared: str | None
    name: bytes
    reads: str


FAULTS = {
    "none declared, Latin-1": Fault(None, b"M\xfcller^J\xf6rg", "Müller^Jörg"),
    "none declared, UTF-8": Fault(None, "Müller^Jörg".encode(), "Müller^Jörg"),
    "ASCII declared, Latin-1": Fault("ISO_IR 6", b"M\xfcller", "Müller"),
    "UTF-8 declared, Latin-1": Fault("ISO_IR 192", b"M\xfcller", "Müller"),
    "UTF-8 declared, cut within a letter": Fault("ISO_IR 192", b"M\xc3", "MÃ"),
    "UTF-8 declared, overlong": Fault("ISO_IR 192", b"M\xc0\xafller", "MÀ¯ller"),
    "unknown set": Fault("ISO_IR 999", b"M\xfcller", "Müller"),
    "Windows-1252 under Latin-1": Fault("ISO_IR 100", b"M\x9aller", "M?ller"),
    "unassigned in Thai": Fault("ISO_IR 166", b"M\xfcller", "Müller"),
    "half a character of GB18030": Fault("GB18030", b"Wang=\xcd", "Wang=Í"),
    "half a kanji": Fault(r"\ISO 2022 IR 87", b"Yamada=\x1b$B;3E", "Yamada=?$B;3E"),
    "unknown escape": Fault(r"\ISO 2022 IR 87", b"Yamada=\x1b$Z;3", "Yamada=?$Z;3"),
}


def write_text(study: Study, declared: str | None, text: dict[str, bytes]) -> None:
    """Into every image, as it stands."""
    for path in study.files:
        ds = pydicom.dcmread(path)
        del ds.SpecificCharacterSet
        encoded = {} if declared is None else {"SpecificCharacterSet": declared.encode()}
        for keyword, value in (encoded | text).items():
            padded = value + b" " * (len(value) % 2)
            tag = tag_for_keyword(keyword)
            ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)
        # The bytes are of the set that is declared with them.
        ds.set_original_encoding(False, True, ds._character_set)
        ds.save_as(path, enforce_file_format=True)


@needs_node
class CharacterSets(NodeTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        warnings.filterwarnings("ignore", module="pydicom")
        cls.with_key_objects = cls.site.add_node("character-sets")
        configuration = json.loads(cls.with_key_objects.configuration.read_text())
        configuration["routes"][0]["key_objects"] = True
        cls.with_key_objects.configuration.write_text(json.dumps(configuration))
        cls.addClassCleanup(cls.with_key_objects.stop)
        cls.with_key_objects.start()

    @property
    def node(self) -> RestartableNode:
        return self.with_key_objects

    def sent(self, name: str, declared: str | None, text: dict[str, bytes]) -> Study:
        study = phantom(self.folder / name, "--bleed", "left", "--slices", "16", "--size", "96", "--spacing", "8")
        write_text(study, declared, text)
        storescu(self.node, *study.files)
        return study

    def results(self, study: Study) -> dict[str, list[pydicom.Dataset]]:
        """What the PACS holds of it, by kind; every kind is there."""
        self.node.wait_until_delivered(study.uid, 300)
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study.uid}}
        identifiers = json.loads(http(f"{self.pacs.url}/tools/find", query))
        found: dict[str, list[pydicom.Dataset]] = {}
        for each in identifiers:
            ds = pydicom.dcmread(io.BytesIO(self.pacs.download(each)))
            found.setdefault(own.kind_of(ds), []).append(ds)
        self.assertEqual(found.keys(), own.SERIES.keys(), self.node.command("study", "show", study.uid))
        return found

    def assert_says(self, ds: pydicom.Dataset, text: dict[str, str]) -> None:
        self.assertEqual(ds.SpecificCharacterSet, "ISO_IR 192")
        for keyword, expected in text.items():
            # By the bytes: strictly UTF-8.
            value = ds.get_item(keyword).value.decode("utf-8", "strict").rstrip(" ")
            self.assertEqual(value, expected, f"{own.kind_of(ds)}: {keyword}")

    def test_everything_that_comes_back_says_in_utf_8_what_was_sent(self):
        studies = []
        for number, sample in enumerate(SAMPLES):
            text = {keyword: sample.encode(value) for keyword, value in sample.text().items()}
            studies.append(self.sent(str(number), sample.declared, text))
        for sample, study in zip(SAMPLES, studies):
            with self.subTest(sample.declared):
                expected = {keyword: sample.text()[keyword] for keyword in CARRIED}
                if sample.alike:
                    source = pydicom.dcmread(study.files[0])
                    for keyword, value in expected.items():
                        read = source[keyword].value
                        read = "\\".join(map(str, read)) if source[keyword].VM > 1 else str(read)
                        self.assertEqual(read, value, f"source: {keyword}")
                for each in [ds for of_kind in self.results(study).values() for ds in of_kind]:
                    self.assert_says(each, expected)

    def test_text_that_is_not_of_its_declared_set_loses_no_result_and_is_noted(self):
        studies = [
            self.sent(f"f{number}", fault.declared, {NAME: fault.name, DESCRIPTION: fault.name})
            for number, fault in enumerate(FAULTS.values())
        ]
        for (name, fault), study in zip(FAULTS.items(), studies):
            with self.subTest(name):
                results = self.results(study)
                for each in [ds for of_kind in results.values() for ds in of_kind]:
                    self.assert_says(each, {NAME: fault.reads, DESCRIPTION: fault.reads, IDENTIFIER: "PHANTOM-1"})
                (report,) = results["SR"]
                said = [item.TextValue for item in walk(report) if "TextValue" in item]
                self.assertTrue(any(MISREAD in text for text in said), "the report says nothing of it")
                self.assertIn(MISREAD, " ".join(self.events(study, "text")))
        self.assertEqual(self.node.starts, 1)


if __name__ == "__main__":
    unittest.main()
