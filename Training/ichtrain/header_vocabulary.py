"""What scanners and technologists write, as data: the words by which the node judges series.

The same words as in Sources/ICHModel/Selection/HeaderVocabulary.swift; `tests/test_series.py` compares the two. Texts
are compared in lower case with accents removed.
"""

from __future__ import annotations

import functools
import re
import unicodedata


@functools.lru_cache(maxsize=4096)
def folded(text: str) -> str:
    """Lower case, accents removed, underscores, carets and NULs as spaces."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return re.sub("[_^\0]", " ", plain).lower().strip()


def words_pattern(*terms: str) -> re.Pattern[str]:
    """One of the terms, each a regular expression, at the beginning of a word; the first group is the term."""
    return re.compile(r"\b(" + "|".join(terms) + ")")


HEAD_BODY_PARTS = frozenset({
    "head", "brain", "skull", "headneck", "head neck", "cranium", "cerebrum", "neuro", "kopf", "schadel", "tete",
    "crane", "cabeza", "craneo", "testa", "cranio", "hoofd", "cabeca",
})
PART_BODY_PARTS = frozenset({
    "face", "orbit", "sinus", "paranasal sinus", "ear", "iac", "temporal bone", "jaw", "maxilla", "mandible", "tmj",
    "nose", "dental", "sella",
})
UNSPECIFIED_BODY_PARTS = frozenset({
    "", "unknown", "other", "specials", "whole body", "wholebody", "none", "default",
})
HEAD = words_pattern(
    "head", "brain", "cereb", "encephal", "enzephal", "cran[ie]", "skull", "neuro", "stroke", "stereota", "ncct",
    "cct", r"ctb\b", "schadel", "kopf", "hirn", "gehirn", r"tete\b", "cerveau", "cabe[zc]a", r"testa\b", "cervell",
    "hoofd", "hersen", "schedel", "skalle", "huvud", "hjarn", "g[łl]ow", "m[oó]zg", "kafa", "beyin", "голов", "мозг",
    ".*(頭|头|脳|脑)",
)
PART_OF_HEAD = words_pattern(
    "sinus", "nnh", "paranasal", "orbit", "facial", r"face\b", "maxill", "mandib", "mittelgesicht", "gesichtsschadel",
    "denta", "temporal bone", "petrous", "felsenbein", "rocher", r"iac\b", "mastoid", "cochlea", r"ears?\b",
    "oreille", "tmj", "kiefer", "sella", "pituitar", "hypophys",
)
OTHER_BODY = words_pattern(
    "chest", "thora[xc]", "torax", "lung", "lunge", "poumon", "pulmon", "abdom", "pelvi", "becken", "bassin", "liver",
    "leber", "renal", "kidney", "urogram", "colon", "spine", "[cl]-?spine", "wirbel", "[hbl]ws", "rachis", "column",
    "cervical", "lumb", "sacr", r"neck\b", r"hals\b", r"cou\b", "cuello", "collo", "knee", "knie", r"hip\b", "hufte",
    "shoulder", "schulter", "wrist", "ankle", r"foot\b", "femur", "heart", "cardiac", "coronar", "herz", "aorta",
    "whole ?body", "runoff", "extremit",
)
ANGIOGRAPHY = words_pattern(
    "cta", r"ct-?a\b", "angio", r"ctv\b", "veno", "perfusion", r"ctp\b", "cbf", "cbv", "mtt", "tmax", "bolus",
    "smart ?prep", "sure ?start", "(pre)?monitoring", "carotid", "willis", r"cow\b", "aneurysm", "tracker",
    "test ?inj",
)
WITHOUT_CONTRAST = words_pattern(
    "without", "w/o", r"wo\b", "non", "no (iv )?c", "ohne", "nativ", "sans", "sin ", "senza", "zonder", "plain",
    "unenhanced", "pre[ -]?(c|km)",
)
WITH_CONTRAST = words_pattern(
    r"c\+", r"ce\b", "contrast", "post[ -]?(c|km|gd)", "(mit|nach) km", r"km\b", "avec inj", "injecte", r"with c\b",
    r"w/? ?c\b", "enhanced(?! conversion)", r"iv\+", "arterial", "venous phase", "delayed",
)
BONE_TEXT = words_pattern(
    "bone", "knochen", "hueso", "oss", r"os\b", "kosc", "kemik", "sharp", "edge",
)
DERIVED_TEXT = words_pattern(
    "mip", "minip", "mpr", "vrt", "3d", r"vr\b", "iodine", "jod", "vnc", "virtual non", "mono ?e", r"\d+ ?kev",
    "z ?eff", "electron dens", "spectral", "dose", "summary", "exam protocol", "screen ?save", "key image", "report",
    "fused", "overlay", r"sag\b", "sagit", r"[ck]or\b", "[ck]oron", "result",
)
LOCALIZER_TYPES = frozenset({"localizer", "scout", "surview", "topogram", "scanogram"})
DERIVED_TYPES = frozenset({
    "mip", "minip", "mpr", "csa mpr", "csamanipulated", "reformatted", "oblique", "projection image", "3d", "vrt",
    "volume rendered", "perfusion", "rcbf", "rcbv", "mtt", "tmax", "subtraction", "screen save", "screensave",
    "iodine", "vnc", "monoenergetic", "dose info", "patient info", "results", "ref surview",
    "maximum", "minimum", "resampled", "division", "multiplication", "masked", "std deviation", "quantity", "max ip",
    "min ip", "curved mpr", "volume render", "surface render",
})
CONTRAST_TYPES = frozenset({"post contrast", "angio"})
NO_CONTRAST = frozenset({
    "", "none", "no", "n", "nein", "non", "aucun", "ninguno", "0", "n/a", "na", "-", "without", "ohne",
})


def is_bone_kernel(kernel: str, manufacturer: str) -> bool | None:
    """Whether a Convolution Kernel is one for bone or lung; None where it is not known."""
    name, maker = folded(kernel.split("\\")[0]), folded(manufacturer)
    if not name:
        return None
    if "philips" in maker:
        if name in ("yb", "yc", "yd", "ye", "d", "e", "l", "lung"):
            return True
        if name in ("a", "b", "c", "ua", "ub", "uc", "sa", "sb", "brain standard", "standard"):
            return False
    if canon := re.search(r"^fc(\d{2})", name):  # Toshiba, Canon: FC30 to FC39 bone, from FC50 lung and bone
        return 30 <= int(canon[1]) <= 39 or int(canon[1]) >= 50
    if siemens := re.search(r"^[a-z]{1,2}(\d{2})[a-z]{0,2}\b", name):  # from H10s to Hr69h: the sharpness
        return int(siemens[1]) >= 56
    if name.startswith(("bone", "boneplus", "bone+", "bone plus", "edge", "lung", "ultra", "hd bone")):  # GE
        return True
    if name.startswith(("stnd", "standard", "std+", "std", "soft", "detail", "brain", "head")):
        return False
    return None
