"""Which images of a study make the volume that is analysed, by the headers alone: the node's rules.

The Swift side is Sources/ICHModel/Selection and /Volume; what differs there from here is a mistake. Not repeated here:
the look at the pixels for brain tissue. Positions are millimetres along the slice normal, which points to the head.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from . import header_vocabulary as words
from .dicom import CT_IMAGE_STORAGE, MOST_SIDE, ImageHeader
from .header_vocabulary import folded

MULTI_FRAME_CLASSES = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
LEAST_PIXELS = 64
MOST_TILT_DEGREES = 35.0
MOST_POSITION_MM = 5000.0
SAME_POSITION_MM = 0.02
SAME_FIELD_MM = 1.0
LEAST_COSINE = math.cos(math.radians(1.0))
LEAST_SLICES = 8
LEAST_COVERAGE_MM = 80.0


@dataclass(frozen=True)
class Slice:
    """One axial image. normal: unit vector, LPS, towards the head. position_mm: of the first voxel along it."""

    header: ImageHeader
    normal: tuple[float, float, float]
    position_mm: float

    @property
    def thickness_mm(self) -> float | None:
        thickness = self.header.slice_thickness
        return thickness if thickness is not None and 0.05 <= thickness <= 50 else None


@dataclass(frozen=True)
class Choice:
    """What is analysed of one study.

    slices: feet to head, of one series; empty where nothing can be analysed, then `reason` says why. warnings: what the
    series lacks or seems to lack.
    """

    slices: tuple[Slice, ...] = ()
    reason: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def positions_mm(self) -> np.ndarray:
        return np.array([s.position_mm for s in self.slices], np.float64)


class Refusal(Exception):
    """Why an image is no slice. rank: of several reasons the lowest says most. is_loss: the series lacks this image."""

    def __init__(self, reason: str, rank: int, is_loss: bool = False) -> None:
        super().__init__(reason)
        self.rank, self.is_loss = rank, is_loss


# Geometry


def spacing_mm(positions_mm: Iterable[float]) -> float | None:
    """The median distance of neighbours, rounded to 0.001 mm; None for fewer than two distinct positions."""
    kept = distinct_positions(positions_mm)
    if len(kept) < 2:
        return None
    return math.floor(float(np.percentile(np.diff(kept), 50)) * 1000 + 0.5) / 1000


def distinct_positions(positions_mm: Iterable[float]) -> list[float]:
    """Ascending, positions closer than 0.02 mm to the one before left out."""
    kept: list[float] = []
    for position in sorted(positions_mm):
        if not kept or position - kept[-1] >= SAME_POSITION_MM:
            kept.append(position)
    return kept


def gaps(positions_mm: Iterable[float]) -> list[tuple[float, float]]:
    """Neighbouring positions with room for a slice between them. Spacing may change from stretch to stretch.

    Three or more neighbouring intervals that are equal within 10 % are a stretch: no gap. Another interval is a gap
    above 1.5 times the largest spacing of the stretches next to it, or of the median where there is no stretch.
    """
    kept = distinct_positions(positions_mm)
    intervals = np.diff(kept)
    stretches: list[tuple[int, int, float]] = []
    start = 0
    while start < len(intervals):
        end = start + 1
        while end < len(intervals) and intervals[start : end + 1].max() <= 1.1 * intervals[start : end + 1].min():
            end += 1
        if end - start >= 3:
            stretches.append((start, end, float(np.median(intervals[start:end]))))
            start = end
        else:
            start += 1
    found = []
    for index, interval in enumerate(intervals):
        if any(start <= index < end for start, end, _ in stretches):
            continue
        below = [spacing for _, end, spacing in stretches if end <= index][-1:]
        above = [spacing for start, _, spacing in stretches if start > index][:1]
        if interval > 1.5 * max(below + above, default=float(np.median(intervals))):
            found.append((kept[index], kept[index + 1]))
    return found


def slice_of(header: ImageHeader) -> Slice | None:
    """The image in space; None where position, orientation, spacing or size are missing or impossible."""
    if header.position is None or header.orientation is None or header.pixel_spacing is None:
        return None
    if not all(0.05 <= spacing <= 10 for spacing in header.pixel_spacing):
        return None
    if not all(1 <= side <= MOST_SIDE for side in (header.rows or 0, header.columns or 0)):
        return None
    (a, b, c), (d, e, f) = header.orientation[:3], header.orientation[3:]
    cross = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.sqrt(dot(cross, cross))
    if abs(length - 1) >= 0.05:
        return None
    sign = -1.0 if cross[2] < 0 else 1.0
    normal = tuple(sign * value / length for value in cross)
    position = dot(normal, header.position)
    return Slice(header, normal, position) if abs(position) <= MOST_POSITION_MM else None


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(left, right))


# One image


def judge(header: ImageHeader) -> Slice:
    """The slice that an axial CT image is. Raises Refusal where the image is none."""
    types = [folded(kind) for kind in header.image_type]
    if header.sop_class.startswith(SECONDARY_CAPTURE):
        raise Refusal("secondary capture or derived image", 9)
    if header.sop_class in MULTI_FRAME_CLASSES:
        raise Refusal("multi-frame object, not supported: convert it to CT Image Storage", 6, True)
    if header.sop_class != CT_IMAGE_STORAGE or folded(header.modality or "ct") != "ct":
        raise Refusal("not a CT", 12)
    if words.LOCALIZER_TYPES & set(types):
        raise Refusal("localizer", 10)
    if words.CONTRAST_TYPES & set(types):
        raise Refusal("contrast agent given", 2)
    photometric = folded(header.photometric)
    is_derived = types[1:2] == ["secondary"] or header.samples_per_pixel not in (None, 1)
    if is_derived or not (photometric == "" or photometric.startswith("monochrome")):
        raise Refusal("secondary capture or derived image", 9)
    is_reformatted = bool(words.DERIVED_TYPES & set(types))
    if (header.frames or 1) > 1:
        raise Refusal("multi-frame object, not supported: convert it to CT Image Storage", 6, not is_reformatted)
    found = slice_of(header)
    if found is None:
        raise Refusal("no position, orientation or pixel spacing", 8, not is_reformatted)
    tilt = math.degrees(math.acos(min(1.0, found.normal[2])))
    if tilt > MOST_TILT_DEGREES:
        raise Refusal("reformatted, not axial", 7, not is_reformatted and tilt <= 60)
    if is_reformatted:
        raise Refusal("secondary capture or derived image", 9)
    if min(header.rows, header.columns) < LEAST_PIXELS:
        raise Refusal(f"fewer than {LEAST_PIXELS} rows or columns", 7, True)
    return found


# One volume of a series


def coverage_mm(stack: list[Slice]) -> float:
    """From the first to the last slice, one slice thickness included."""
    return stack[-1].position_mm - stack[0].position_mm + (thickness_mm(stack) or 0) if stack else 0.0


def thickness_mm(stack: list[Slice]) -> float | None:
    known = [s.thickness_mm for s in stack if s.thickness_mm is not None]
    return float(np.percentile(known, 50)) if known else None


def ordered(slices: Iterable[Slice]) -> list[Slice]:
    return sorted(slices, key=lambda s: (s.position_mm, s.header.sop_instance_uid))


def largest_stack(slices: list[Slice]) -> list[Slice]:
    """Of the largest group of alike images one for every position; where positions occur twice, of the acquisition in
    it that covers as much, if there is one."""
    groups: list[list[Slice]] = []
    for one in ordered(slices):
        group = next((group for group in groups if are_alike(group[0], one)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    if not groups:
        return []
    whole = max(groups, key=goodness)
    if len(distinct_positions(s.position_mm for s in whole)) == len(whole):
        return whole
    by_acquisition: dict[int | None, list[Slice]] = {}
    for one in whole:
        by_acquisition.setdefault(one.header.acquisition_number, []).append(one)
    acquisitions = [with_unique_positions(group) for group in by_acquisition.values()]
    wide = [group for group in acquisitions if coverage_mm(group) >= 0.8 * coverage_mm(whole)]
    return max(wide, key=goodness) if wide else with_unique_positions(whole)


def goodness(stack: list[Slice]) -> tuple:
    return len(stack), coverage_mm(stack), lateness(stack[0])


def lateness(one: Slice) -> tuple:
    """The later acquisition, instance: a repetition is made because the first did not turn out well."""
    numbers = (one.header.acquisition_number, one.header.instance_number)
    return tuple(-math.inf if number is None else number for number in numbers), one.header.sop_instance_uid


def are_alike(left: Slice, right: Slice) -> bool:
    """One size, pixel spacing, orientation and field of view."""
    a, b = left.header, right.header
    if (a.rows, a.columns) != (b.rows, b.columns) or dot(left.normal, right.normal) < LEAST_COSINE:
        return False
    if any(abs(x - y) > 0.001 * x for x, y in zip(a.pixel_spacing, b.pixel_spacing)):
        return False
    # Along the normal or, with a tilted gantry, with the table along the body axis: what is left beside the better.
    way = [y - x for x, y in zip(a.position, b.position)]
    along = dot(way, left.normal)
    beside = [x - along * n for x, n in zip(way, left.normal)]
    return math.sqrt(min(dot(beside, beside), way[0] ** 2 + way[1] ** 2)) <= SAME_FIELD_MM


def with_unique_positions(stack: list[Slice]) -> list[Slice]:
    """Of images at one position the latest: two are never averaged."""
    kept: list[Slice] = []
    start = -math.inf
    for one in stack:
        if one.position_mm - start >= SAME_POSITION_MM:
            kept.append(one)
            start = one.position_mm
        elif lateness(one) > lateness(kept[-1]):
            kept[-1] = one
    return ordered(kept)


# One series


@dataclass(frozen=True)
class Judgement:
    """One series. region: "head", "" where nothing names one, or "other". rank: of the reason, see Refusal."""

    headers: list[ImageHeader]
    stack: list[Slice]
    region: str
    reason: str
    rank: int
    losses: Counter

    @property
    def order(self) -> tuple:
        """Lower is better among usable series."""
        thickness = thickness_mm(self.stack)
        thickness_class = 2 if thickness is None or thickness < 2.4 else 0 if thickness <= 5.1 else 1
        first = self.stack[0].header
        number = math.inf if first.series_number is None else first.series_number
        return (
            thickness_class,
            max(0, 20 - int(coverage_mm(self.stack) / 20)),
            folded("".join(first.image_type[:1])) == "derived",
            words.is_bone_kernel(first.kernel, first.manufacturer) is None,
            number,
            first.series_uid,
        )


def judge_series(headers: list[ImageHeader]) -> Judgement:
    slices: list[Slice] = []
    refusals: list[Refusal] = []
    for header in headers:
        try:
            slices.append(judge(header))
        except Refusal as refusal:
            refusals.append(refusal)
    stack = largest_stack(slices)
    region, name = region_of(headers)
    losses = Counter(str(refusal) for refusal in refusals if refusal.is_loss)
    losses["beside the chosen volume"] += len(slices) - len(stack)
    try:
        if not stack:
            raise min(refusals, key=lambda refusal: refusal.rank, default=Refusal("no images", 13))
        if region == "other":
            raise Refusal(f"body part {name} is not the head", 5)
        for header in distinct_headers([s.header for s in stack]):
            refuse_by_text(header)
        if len(stack) < LEAST_SLICES:
            raise Refusal(f"fewer than {LEAST_SLICES} slices", 0)
        if coverage_mm(stack) < LEAST_COVERAGE_MM:
            raise Refusal(f"covers only {coverage_mm(stack):.0f} mm", 0)
    except Refusal as refusal:
        return Judgement(headers, stack, region, str(refusal), refusal.rank, losses)
    return Judgement(headers, stack, region, "", 99, losses)


def distinct_headers(headers: list[ImageHeader]) -> list[ImageHeader]:
    """One for each set of texts, in the order of their first SOP Instance UIDs."""

    def texts(h: ImageHeader) -> tuple[str, ...]:
        return (h.series_description, h.body_part, h.kernel, h.contrast_agent, h.protocol_name, h.study_description)

    found: dict[tuple[str, ...], ImageHeader] = {}
    for header in sorted(headers, key=lambda header: header.sop_instance_uid):
        found.setdefault(texts(header), header)
    return list(found.values())


def refuse_by_text(header: ImageHeader) -> None:
    """Raises Refusal for what descriptions, kernel and contrast agent speak against."""
    text = folded(header.series_description)
    if folded(header.contrast_agent) not in words.NO_CONTRAST:
        raise Refusal("contrast agent given", 2)
    if words.ANGIOGRAPHY.search(text):
        raise Refusal("angiography or perfusion", 3)
    if words.WITH_CONTRAST.search(text) and not words.WITHOUT_CONTRAST.search(text):
        raise Refusal("contrast agent given", 2)
    is_part = words.PART_OF_HEAD.search(text) or folded(header.body_part) in words.PART_BODY_PARTS
    if is_part and not words.HEAD.search(text):
        raise Refusal("face, ear or sinuses, not the whole head", 4)
    is_bone = words.is_bone_kernel(header.kernel, header.manufacturer)
    if is_bone or (is_bone is None and words.BONE_TEXT.search(text)):
        raise Refusal("bone kernel", 1)
    if words.DERIVED_TEXT.search(text):
        raise Refusal("secondary capture or derived image", 9)


def region_of(headers: list[ImageHeader]) -> tuple[str, str]:
    """("head", ""), ("other", its name) or ("", ""). The nearer a text is to the series, the more it counts."""
    for header in distinct_headers(headers):
        texts = (region_in(header.series_description), region_by_body_part(folded(header.body_part)))
        for region in (*texts, region_in(header.protocol_name), region_in(header.study_description)):
            if region is not None:
                return region
    return "", ""


def region_by_body_part(part: str) -> tuple[str, str] | None:
    if part in words.UNSPECIFIED_BODY_PARTS:
        return None
    if part in words.HEAD_BODY_PARTS or part in words.PART_BODY_PARTS or words.HEAD.search(part):
        return "head", ""
    return "other", part.upper()


def region_in(text: str) -> tuple[str, str] | None:
    text = folded(text)
    if words.HEAD.search(text) or words.PART_OF_HEAD.search(text):
        return "head", ""
    other = words.OTHER_BODY.search(text)
    return ("other", other[1].upper()) if other else None


# One study


def choose(headers: Iterable[ImageHeader]) -> Choice:
    """What is analysed of the images of one study: of its usable series the best one."""
    by_series = sorted(headers, key=lambda header: header.series_uid)
    if len({header.patient_id for header in by_series} - {""}) > 1:
        return Choice(reason="its images name several patients: find out whose it is")
    series = [judge_series(list(group)) for _, group in groupby(by_series, key=lambda header: header.series_uid)]
    usable = [one for one in series if not one.reason]
    if not usable:
        return Choice(reason=reason_without(series))
    eligible = [one for one in usable if one.region == "head"] or usable
    widest = max(coverage_mm(one.stack) for one in eligible)
    # A duplicate of a part of the head loses whatever its thickness.
    best = min((one for one in eligible if coverage_mm(one.stack) >= 0.8 * widest), key=lambda one: one.order)
    warnings = [f"{count} images left out: {reason}" for reason, count in best.losses.items() if count]
    missing = gaps(s.position_mm for s in best.stack)
    if missing:
        warnings.append(f"slices seem to be missing at {len(missing)} places: fetch the study again")
    return Choice(tuple(best.stack), warnings=tuple(warnings))


def reason_without(series: list[Judgement]) -> str:
    """The reason that says most about a study without a usable series."""
    of_head = [one for one in series if one.region == "head" and one.reason not in ("not a CT",) and one.rank != 4]
    return min(of_head or series, key=lambda one: one.rank).reason if series else "no images"
