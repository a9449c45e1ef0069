#!/usr/bin/env python3
"""Deliveries of studies as hospitals make them, through real associations into a running node whose clock is set: what
is decided, when and why, which series is analysed, and how many reports reach the PACS. Prints a table; fails where
one of them is decided otherwise, sooner, or twice."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import random
import signal
import sys
import threading
import time
import traceback
from typing import Callable

from ct_series import new_uid
from enhanced_ct import enhanced_ct
from node_fixture import wait_for, why_not
from pydicom.dataset import Dataset
from scenario_site import DEADLINE, GRACE, QUIET, Patient, Scene, Site, advance_past_retention, encoded

ENDED = "associations ended and grace passed"
QUIET_PASSED = "nothing arrived for the quiet time"
DEADLINE_PASSED = "deadline passed"
DECLARED = "all images that the scanner declared are there"
HELD = "the PACS holds no more images of the series"
OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0xA700, 0xC001
LOST = "an image was cut off or refused, and did not come again"
BY_HAND = "completed by an operator"
UPPER = "the upper end of the series shows brain: the head is cut off"
LOWER = "the lower end of the series shows brain: the head is cut off"

SCENARIOS: list[Callable[[Scene], None]] = []


def scenario(function: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Its name is what the table says."""
    SCENARIOS.append(function)
    return function


def nothing_to_analyse(reason: str) -> str:
    return f"{QUIET_PASSED}; though no series that can be analysed: {reason}"


def outbox(s: Scene, *arguments: str) -> str:
    return s.node.command("outbox", *arguments)


def command(s: Scene, verb: str) -> str:
    return s.node.command("study", verb, s.patient.study_uid)


# --- How a study arrives ----------------------------------------------------------------------------------------------


@scenario
def one_association_per_study(s: Scene):
    s.send(s.patient.scout() + s.patient.head() + s.patient.bone())
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def one_association_per_series(s: Scene):
    for series in (s.patient.scout(), s.patient.head(), s.patient.bone()):
        s.send(series)
        s.wait(0.5)
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def one_association_per_image(s: Scene):
    for image in s.patient.head():
        s.send([image])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def one_association_per_image_with_pauses(s: Scene):
    for image in s.patient.head():
        s.send([image])
        s.wait(1.2)
    # Twice the pauses, which are the waiting and what sending takes.
    time.sleep(0.2)
    s.undecided()
    s.decided(ENDED, "negative", 2.8, reason="")
    s.reports(1)


@scenario
def pauses_learned_from_an_earlier_study(s: Scene):
    for image in s.patient.head(slices=20):
        s.send([image])
        s.wait(1.7)
    s.wait(10)
    s.patient = Patient()
    images = s.patient.head()
    s.send(images[:10])
    s.wait(2.5)
    s.undecided()
    s.send(images[10:])
    s.wait(2.5)
    s.undecided()
    s.wait(5)
    wait_for(lambda: s.analyses(), "an analysis", 40, s._show)
    s.decisions.append(s.analyses()[0]["completion"])
    s.reports(1)


@scenario
def images_out_of_order(s: Scene):
    images = s.patient.head()
    random.Random(1).shuffle(images)
    s.send(images)
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def images_from_head_to_feet(s: Scene):
    s.send(s.patient.head()[::-1])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def two_associations_at_once(s: Scene):
    images = s.patient.head()
    first, second = s.associate(), s.associate()
    for one, other in zip(images[::2], images[1::2]):
        s.store(first, [one])
        s.store(second, [other])
    first.release()
    s.wait(5)
    s.undecided()
    second.release()
    s.moment = s.clock.now()
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def three_studies_interleaved_on_one_association(s: Scene):
    patients = [s.patient, Patient(), Patient()]
    heads = [patient.head() for patient in patients]
    s.send(image for images in zip(*heads) for image in images)
    s.decided(ENDED, "negative", GRACE)
    for patient in patients:
        wait_for(lambda: s.analyses(patient.study_uid), "an analysis", 40)
        s.reports(1, patient.study_uid)


@scenario
def eight_studies_at_once(s: Scene):
    patients = [s.patient, *(Patient() for _ in range(7))]
    threads = [threading.Thread(target=s.send, args=(patient.head(),)) for patient in patients]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    s.wait(GRACE + 0.5)
    for patient in patients:
        wait_for(lambda: s.analyses(patient.study_uid), "an analysis", 60)
        assert s.analyses(patient.study_uid)[0]["completion"] == ENDED
        s.reports(1, patient.study_uid)
    s.decisions.append(f"{ENDED}: negative, eight times")


@scenario
def association_stays_open(s: Scene):
    association = s.associate()
    s.store(association, s.patient.head())
    s.decided(QUIET_PASSED, "negative", QUIET)
    association.release()
    s.reports(1)


@scenario
def association_stays_open_and_the_count_is_declared(s: Scene):
    association = s.associate()
    s.store(association, s.patient.head(images_in_acquisition=20))
    s.decided(DECLARED, "negative", GRACE)
    association.release()
    s.reports(1)


@scenario
def association_stays_open_and_the_pacs_is_asked(s: Scene):
    s.calling = "ASKING"
    images = s.patient.head()
    s.pacs.held[images[0].SeriesInstanceUID] = images
    association = s.associate()
    s.store(association, images)
    s.wait(GRACE + 0.2)
    s.undecided()
    time.sleep(1)
    s.wait(GRACE + 0.2)
    wait_for(lambda: s.analyses(), "an analysis", 40, s._show)
    assert s.analyses()[0]["completion"] == HELD, s._show()
    s.decisions.append(f"{HELD}: negative")
    association.release()
    s.reports(1)


@scenario
def aborted_in_the_middle_and_sent_again(s: Scene):
    images = s.patient.head()
    association = s.associate()
    s.store(association, images[:12])
    association.close()
    s.wait(20)
    s.undecided()
    s.send(images)
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def aborted_in_the_middle_for_good(s: Scene):
    association = s.associate()
    s.store(association, s.patient.head()[:14])
    association.close()
    s.decided(QUIET_PASSED, "undetermined", QUIET, reason=UPPER)
    s.reports(1)


@scenario
def cut_off_within_an_image_for_good(s: Scene):
    images = s.patient.head()
    association = s.associate()
    s.store(association, images[:19])
    association.cut_off_within(encoded(images[19]))
    s.wait(QUIET + 10)
    s.undecided()
    s.decided(f"{DEADLINE_PASSED}; {LOST}", "undetermined", DEADLINE, reason=f"incomplete: {LOST}")
    s.reports(1)


@scenario
def the_last_image_alone_on_an_association_that_is_cut_off(s: Scene):
    images = s.patient.head()
    for image in images[:19]:
        s.send([image])
    s.associate().cut_off_within(encoded(images[19]))
    s.settle()
    s.wait(QUIET + 5)
    s.undecided()
    s.node.kill()
    s.node.start()
    s.wait(QUIET + 5)
    s.undecided()
    s.send([images[19]])
    # The pauses of such a sender are longer than the grace.
    s.wait(30)
    wait_for(lambda: s.analyses(), "an analysis", 40, s._show)
    assert [(each["completion"], each["outcome"]) for each in s.analyses()] == [(ENDED, "negative")], s._show()
    s.decisions.append(f"{ENDED}: negative")
    s.reports(1)


@scenario
def cut_off_within_an_image_and_sent_again(s: Scene):
    images = s.patient.head()
    association = s.associate()
    s.store(association, images[:19])
    association.cut_off_within(encoded(images[19]))
    s.wait(20)
    s.undecided()
    s.send([images[19]])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def an_image_is_refused(s: Scene):
    images = s.patient.head()
    association = s.associate()
    s.store(association, images[:19])
    damaged = encoded(images[19])
    assert association.store(dataclasses.replace(damaged, sop_uid=new_uid())) != 0
    association.release()
    s.wait(QUIET + 10)
    s.undecided()
    s.send([images[19]])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def sent_twice(s: Scene):
    images = s.patient.head()
    s.send(images)
    s.decided(ENDED, "negative", GRACE)
    s.send(images)
    s.wait(QUIET)
    s.reports(1)


@scenario
def every_image_twice_on_one_association(s: Scene):
    s.send(image for image in s.patient.head() for _ in range(2))
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def the_node_restarts_in_the_middle(s: Scene):
    images = s.patient.head()
    s.send(images[:11])
    s.settle()
    s.node.kill()
    s.node.start()
    s.moment = s.clock.now()
    s.send(images[11:])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


# --- What is missing --------------------------------------------------------------------------------------------------


@scenario
def a_missing_slice_comes_late(s: Scene):
    images = s.patient.head()
    s.send(images[:9] + images[10:])
    s.wait(30)
    s.undecided()
    s.send([images[9]])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def a_missing_slice_never_comes(s: Scene):
    images = s.patient.head()
    s.send(images[:9] + images[10:])
    s.decided(
        f"{DEADLINE_PASSED}; no slice at 54.0 mm along the normal", "undetermined", DEADLINE,
        reason="incomplete: no slice at 54.0 mm along the normal",
    )  # fmt: skip
    s.reports(1)


@scenario
def many_missing_slices_never_come(s: Scene):
    images = s.patient.head()
    s.send(images[:6] + images[8:12] + images[13:])
    missing = ", ".join(f"no slice at {each} mm along the normal" for each in ("36.0", "42.0", "72.0"))
    s.decided(f"{DEADLINE_PASSED}; {missing}", "undetermined", DEADLINE, reason=f"incomplete: {missing}")
    s.reports(1)


@scenario
def a_missing_slice_is_fetched_from_the_pacs(s: Scene):
    s.calling = "FETCHING"
    images = s.patient.head()
    s.pacs.held[images[0].SeriesInstanceUID] = copy.deepcopy(images)
    s.send(images[:9] + images[10:])
    s.wait(GRACE + 0.2)
    wait_for(lambda: s.study()["study"]["instanceCount"] == 20, "the missing slice", 20, s._show)
    s.wait(GRACE + 0.5)
    wait_for(lambda: s.analyses(), "an analysis", 40, s._show)
    assert s.analyses()[0]["outcome"] == "negative", s._show()
    s.decisions.append(f"{s.analyses()[0]['completion']}: negative")
    s.reports(1)


@scenario
def the_clock_is_set_while_a_slice_is_missing(s: Scene):
    images = s.patient.head()
    s.send(images[:9] + images[10:])
    s.wait(30)
    s.clock.set_ahead(DEADLINE - 10)
    s.wait(30)
    s.undecided()
    s.send([images[9]])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def the_upper_part_comes_late(s: Scene):
    images = s.patient.head()
    s.send(images[:13])
    s.wait(GRACE + 0.2)
    time.sleep(2)
    s.wait(30)
    s.undecided()
    s.send(images[13:])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def the_upper_part_never_comes(s: Scene):
    s.send(s.patient.head()[:14])
    s.wait(GRACE + 0.2)
    time.sleep(2)
    s.decided(f"{QUIET_PASSED}; though {UPPER}", "undetermined", QUIET - 0.5, reason=UPPER)
    s.reports(1)


@scenario
def the_lower_part_comes_late(s: Scene):
    images = s.patient.head()
    s.send(images[6:])
    s.wait(GRACE + 0.2)
    time.sleep(2)
    s.wait(30)
    s.undecided()
    s.send(images[:6])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def the_lower_part_never_comes(s: Scene):
    s.send(s.patient.head()[6:])
    s.wait(GRACE + 0.2)
    time.sleep(2)
    s.decided(f"{QUIET_PASSED}; though {LOWER}", "undetermined", QUIET - 0.5, reason=LOWER)
    s.reports(1)


@scenario
def a_bleed_does_not_wait_for_the_upper_part(s: Scene):
    images = s.patient.head(bleed="left")
    s.send(images[:14])
    s.decided(ENDED, "positive", GRACE, reason=UPPER)
    s.send(images[14:])
    s.decided(ENDED, "positive", GRACE)
    _, revised = s.reports(2)
    assert revised.PredecessorDocumentsSequence


@scenario
def slices_further_apart_than_they_are_thick(s: Scene):
    s.send(s.patient.head(thickness=4))
    doubt = "slices of 4.0 mm are 6.0 mm apart"
    s.decided(f"{QUIET_PASSED}; though {doubt}", "negative", QUIET)
    s.reports(1)


@scenario
def slices_further_apart_and_the_count_is_declared(s: Scene):
    s.send(s.patient.head(thickness=4, images_in_acquisition=20))
    s.decided(DECLARED, "negative", GRACE)
    s.reports(1)


@scenario
def fewer_images_than_declared(s: Scene):
    s.send(s.patient.head(images_in_acquisition=40))
    s.decided(f"{QUIET_PASSED}; though 20 of 40 images that the scanner declared", "negative", QUIET)
    s.reports(1)


@scenario
def every_second_slice_is_still_at_the_pacs(s: Scene):
    s.calling = "ASKING"
    images = s.patient.head(slices=40, spacing="3", thickness=3)
    s.pacs.held[images[0].SeriesInstanceUID] = images
    s.send(images[::2])
    s.wait(GRACE + 0.2)
    time.sleep(1)
    missing = "20 of 40 images that the PACS holds"
    s.decided(
        f"{DEADLINE_PASSED}; {missing}", "undetermined", DEADLINE,
        reason=f"incomplete: {missing}; spacing of 6.0 mm is about twice the slice thickness or more",
    )  # fmt: skip
    s.reports(1)


@scenario
def the_pacs_is_still_receiving(s: Scene):
    s.calling = "ASKING"
    images = s.patient.head(thickness=4)
    s.pacs.held[images[0].SeriesInstanceUID] = images
    answers = iter([8, 14])
    s.pacs.counts = lambda series: next(answers, 20)
    s.send(images)
    for _ in range(3):
        s.wait(GRACE + 0.2)
        time.sleep(1)
        s.undecided()
    s.pacs.counts = None
    s.wait(20)
    wait_for(lambda: s.analyses(), "an analysis", 40, s._show)
    assert s.analyses()[0]["completion"] == HELD, s._show()
    s.decisions.append(f"{HELD}: negative")
    s.reports(1)


@scenario
def an_operator_completes_it(s: Scene):
    images = s.patient.head()
    s.send(images[:9] + images[10:])
    s.wait(10)
    assert "analysed as it stands" in command(s, "complete")
    missing = "no slice at 54.0 mm along the normal"
    wait_for(lambda: s.analyses(), "an analysis", 40, s._show)
    analysis = s.analyses()[0]
    assert analysis["completion"] == f"{BY_HAND}; {missing}" and analysis["outcome"] == "undetermined", analysis
    s.decisions.append(analysis["completion"])
    s.reports(1)


# --- What comes later -------------------------------------------------------------------------------------------------


@scenario
def the_missing_slice_comes_after_the_report(s: Scene):
    images = s.patient.head()
    s.send(images[:9] + images[10:])
    missing = "no slice at 54.0 mm along the normal"
    s.decided(f"{DEADLINE_PASSED}; {missing}", "undetermined", DEADLINE, reason=f"incomplete: {missing}")
    s.wait(100)
    s.send([images[9]])
    s.decided(ENDED, "negative", GRACE)
    first, revised = s.reports(2)
    (earlier,) = revised.PredecessorDocumentsSequence
    series = earlier.ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert "PredecessorDocumentsSequence" not in first
    assert revised.SeriesDescription.endswith("(revised 2)")


@scenario
def slices_are_replaced_by_others_with_a_bleed(s: Scene):
    clean, bleeding = s.patient.head(), s.patient.head(bleed="left")
    s.send(clean)
    s.decided(ENDED, "negative", GRACE)
    for before, after in zip(clean, bleeding):
        after.SOPInstanceUID, after.SeriesInstanceUID = before.SOPInstanceUID, before.SeriesInstanceUID
    s.send(bleeding)
    s.decided(ENDED, "positive", GRACE)
    _, revised = s.reports(2)
    assert revised.PredecessorDocumentsSequence


@scenario
def a_scout_comes_after_the_report(s: Scene):
    s.send(s.patient.head())
    s.decided(ENDED, "negative", GRACE)
    s.send(s.patient.scout())
    s.unchanged(GRACE)
    s.reports(1)


@scenario
def a_bone_series_comes_after_the_report(s: Scene):
    s.send(s.patient.head())
    s.decided(ENDED, "negative", GRACE)
    s.send(s.patient.bone())
    s.unchanged(GRACE)
    s.reports(1)


@scenario
def a_better_series_comes_after_a_complete_one(s: Scene):
    s.send(s.patient.head(2, slices=60, spacing="2", thickness=2))
    s.decided(ENDED, "negative", GRACE)
    s.send(s.patient.head(3))
    s.unchanged(GRACE)
    s.reports(1)


@scenario
def a_usable_series_comes_after_a_refused_one(s: Scene):
    s.send(s.patient.bone(3))
    s.decided(nothing_to_analyse("bone kernel"), "undetermined", QUIET, reason="bone kernel", series=None)
    s.send(s.patient.head(4))
    s.decided(ENDED, "negative", GRACE, series=4)
    s.reports(2)


@scenario
def an_angiography_follows_minutes_later(s: Scene):
    s.send(s.patient.head())
    s.decided(ENDED, "negative", GRACE)
    s.wait(240)
    s.send(s.patient.head(5, series_description="CTA HEAD 1.0", contrast_agent="IOMERON"))
    s.unchanged(GRACE)
    s.reports(1)


@scenario
def angiography_and_perfusion_follow_while_the_study_waits(s: Scene):
    images = s.patient.head()
    s.send(images[:9] + images[10:])
    s.wait(60)
    s.send(s.patient.head(5, series_description="CTA HEAD 1.0", contrast_agent="IOMERON"))
    s.wait(120)
    perfusion = [s.patient.head(6, slices=2, series_description="Perfusion 4D", contrast_agent="IOMERON")[0]]
    for index in range(40):
        image = copy.deepcopy(perfusion[0])
        image.SOPInstanceUID, image.InstanceNumber, image.AcquisitionNumber = new_uid(), index + 1, index + 1
        perfusion.append(image)
    s.send(perfusion)
    s.wait(60)
    s.undecided()
    s.send([images[9]])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def a_scout_comes_long_before_the_head(s: Scene):
    s.send(s.patient.scout())
    s.wait(90)
    s.undecided()
    s.send(s.patient.head())
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def a_scout_and_nothing_else(s: Scene):
    s.send(s.patient.scout())
    s.decided(
        f"{DEADLINE_PASSED}; localizers only", "undetermined", DEADLINE, series=None,
        reason="localizer; incomplete: localizers only",
    )  # fmt: skip
    s.reports(1)


@scenario
def our_own_results_come_back(s: Scene):
    s.send(s.patient.head(bleed="left"))
    s.decided(ENDED, "positive", GRACE)
    s.settle()
    wait_for(lambda: s.study()["study"]["pendingDeliveries"] == 0, "delivery", 40)
    results = [each for each in s.pacs.results if each.StudyInstanceUID == s.patient.study_uid]
    captures = [each for each in results if each.Modality != "SR"]
    assert captures
    association = s.associate()
    for each in captures:
        s.store(association, [each])
    association.release()
    s.wait(QUIET)
    s.reports(1)


def _analysing(s: Scene, images: list[Dataset]) -> int:
    """Until the analysis is under way; it is stopped there. Returns the process to go on with."""
    s.send(images)
    s.settle()
    # What is encoded ahead is encoded by now.
    time.sleep(1.5)
    (engine,) = s.node.children("infer")
    os.kill(engine, signal.SIGSTOP)
    s.wait(GRACE + 0.2)
    wait_for(lambda: s.study()["study"]["state"] == "analysing", "an analysis under way", 20, s._show)
    return engine


@scenario
def a_slice_is_replaced_while_the_analysis_is_under_way(s: Scene):
    images, bleeding = s.patient.head(), s.patient.head(bleed="left")
    engine = _analysing(s, images)
    for before, after in zip(images, bleeding):
        after.SOPInstanceUID, after.SeriesInstanceUID = before.SOPInstanceUID, before.SeriesInstanceUID
    s.send(bleeding[6:14])
    s.settle()
    os.kill(engine, signal.SIGCONT)
    abandoned = "analysis abandoned: more of what it rests on arrived meanwhile"
    wait_for(lambda: s.study()["events"][-1]["text"] == abandoned, "the end of the first analysis", 40, s._show)
    s.decided(ENDED, "positive", GRACE)
    s.reports(1)


@scenario
def more_of_a_head_that_is_cut_off_comes_while_the_analysis_is_under_way(s: Scene):
    def times(text: str) -> int:
        return sum(text in line and s.patient.study_uid in line for line in s.node.log_text().splitlines())

    def held_back() -> int:
        return sum(event["kind"] == "waits" for event in s.study()["events"])

    images = s.patient.head()
    engine = _analysing(s, images[:14])
    s.send(images[14:15])
    s.wait(GRACE + 0.2)
    wait_for(lambda: times("study assembled") == 2, "all is assembled before the analysis ends", 20, s._show)
    os.kill(engine, signal.SIGCONT)
    wait_for(lambda: held_back() == 2, "neither was the whole head", 60, s._show)
    time.sleep(0.3)
    s.decided(f"{QUIET_PASSED}; though {UPPER}", "undetermined", QUIET, reason=UPPER)
    s.reports(1)
    assert s.study()["study"]["state"] == "concluded", s._show()


@scenario
def another_series_comes_while_the_analysis_is_under_way(s: Scene):
    engine = _analysing(s, s.patient.head())
    s.send(s.patient.head(5, series_description="CTA HEAD 1.0", contrast_agent="IOMERON"))
    s.settle()
    os.kill(engine, signal.SIGCONT)
    wait_for(lambda: s.analyses(), "an analysis", 40, s._show)
    assert s.analyses()[0]["outcome"] == "negative", s._show()
    s.decisions.append(f"{s.analyses()[0]['completion']}: negative")
    s.unchanged(GRACE)
    s.reports(1)


@scenario
def a_revision_while_the_pacs_takes_nothing(s: Scene):
    images = s.patient.head()
    s.pacs.status = OUT_OF_RESOURCES
    s.send(images[:9] + images[10:])
    missing = "no slice at 54.0 mm along the normal"
    s.decided(f"{DEADLINE_PASSED}; {missing}", "undetermined", DEADLINE, reason=f"incomplete: {missing}")
    s.send([images[9]])
    s.decided(ENDED, "negative", GRACE)
    s.pacs.status = 0
    # Which of the two is tried first is a matter of their pauses. The earlier never comes after the later.
    wait_for(lambda: s.study()["study"]["pendingDeliveries"] == 0, "all is delivered", 40, s._show)
    states = sorted(each["state"] for each in s.study()["deliveries"])
    assert states in (["delivered", "delivered"], ["delivered", "superseded"]), s._show()
    *earlier, revised = s.reports(states.count("delivered"))
    assert revised.PredecessorDocumentsSequence
    assert not any("PredecessorDocumentsSequence" in each for each in earlier)


def _given_up(s: Scene) -> str:
    """The number of the delivery that the PACS refused for good."""
    s.pacs.status = CANNOT_UNDERSTAND
    s.send(s.patient.head())
    s.decided(ENDED, "negative", GRACE)
    wait_for(lambda: "dead" in outbox(s, "list"), "the refusal", 20, s._show)
    s.pacs.status = 0
    (line,) = (each for each in outbox(s, "list").splitlines() if s.patient.study_uid in each)
    assert "peer refused the object (0xC001)" in line, line
    return line.split()[0]


@scenario
def refused_for_good_and_tried_again_by_an_operator(s: Scene):
    number = _given_up(s)
    assert "is tried again now" in outbox(s, "retry", number)
    wait_for(lambda: s.study()["deliveries"][0]["state"] == "delivered", "the delivery", 20, s._show)
    s.reports(1)


@scenario
def refused_for_good_and_withdrawn_by_an_operator(s: Scene):
    number = _given_up(s)
    assert "is withdrawn" in outbox(s, "discard", number)
    assert "no delivery" in outbox(s, "retry", number)
    s.reports(0)


# --- Which series -----------------------------------------------------------------------------------------------------


@scenario
def stretches_of_different_spacing(s: Scene):
    s.send(s.patient.head(slices=26, spacing="3x10,6x15"))
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def a_tilted_gantry(s: Scene):
    s.send(s.patient.head(tilt=18))
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def two_acquisitions_in_one_series(s: Scene):
    def acquisition(image: Dataset, index: int) -> None:
        image.AcquisitionNumber = 1 if index < 8 else 2

    s.send(s.patient.head(change=acquisition))
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def a_repetition_after_motion(s: Scene):
    series = new_uid()
    first = s.patient.head(series_uid=series, bleed="left")
    second = s.patient.head(series_uid=series)
    for index, image in enumerate(first + second):
        image.AcquisitionNumber = 1 + index // 20
        image.InstanceNumber = index + 1
    s.send(first + second)
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def a_repetition_of_the_upper_part(s: Scene):
    series = new_uid()
    images = s.patient.head(series_uid=series)
    again = s.patient.head(series_uid=series)[12:]
    for index, image in enumerate(again):
        image.AcquisitionNumber, image.InstanceNumber = 2, 21 + index
    s.send(images + again)
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def thin_thick_and_bone(s: Scene):
    thin = s.patient.head(2, slices=60, spacing="2", thickness=2, series_description="HEAD 2.0 H30s")
    s.send(thin + s.patient.head(3, thickness=5, spacing="5", slices=24) + s.patient.bone(4))
    s.decided(ENDED, "negative", GRACE, series=3)
    explained = command(s, "explain")
    assert "another series has a better slice thickness" in explained and "bone kernel" in explained, explained
    s.reports(1)


@scenario
def thin_slices_only(s: Scene):
    s.send(s.patient.head(slices=120, spacing="1", thickness=1))
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def a_series_that_the_site_refuses(s: Scene):
    s.send(s.patient.head(2, series_description="HEAD research") + s.patient.head(3, kernel="UB"))
    s.decided(ENDED, "negative", GRACE, series=3)
    s.reports(1)


@scenario
def a_series_that_the_site_prefers(s: Scene):
    s.send(s.patient.head(2) + s.patient.head(3, series_description="Cranial routine"))
    s.decided(ENDED, "negative", GRACE, series=3)
    s.reports(1)


@scenario
def feet_first_and_prone(s: Scene):
    def turned(image: Dataset, index: int) -> None:
        # Feet first, the table coordinates run the other way; the patient's do not.
        image.PatientPosition = "FFP"
        image.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [-x, -y, z]

    s.send(s.patient.head(change=turned)[::-1])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def one_enhanced_object(s: Scene):
    s.send([enhanced_ct(s.patient.head())])
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


def _concatenation(images: list[Dataset]) -> list[Dataset]:
    uid = new_uid()
    return [
        enhanced_ct(images[:15], part=(1, 2, 0, uid)),
        enhanced_ct(images[15:], part=(2, 2, 15, uid)),
    ]


@scenario
def the_second_part_of_a_concatenation_comes_late(s: Scene):
    first, second = _concatenation(s.patient.head())
    s.send([first])
    s.wait(30)
    s.undecided()
    s.send([second])
    s.decided(DECLARED, "negative", GRACE)
    s.reports(1)


@scenario
def the_second_part_of_a_concatenation_never_comes(s: Scene):
    s.send(_concatenation(s.patient.head())[:1])
    missing = "1 of 2 parts of a concatenation"
    s.decided(f"{DEADLINE_PASSED}; {missing}", "undetermined", DEADLINE, reason=f"incomplete: {missing}; {UPPER}")
    s.reports(1)


@scenario
def contrast_agent_none(s: Scene):
    s.send(s.patient.head(contrast_agent="NONE"))
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def contrast_was_given(s: Scene):
    s.send(s.patient.head(contrast_agent="IOMERON 400"))
    s.decided(nothing_to_analyse("contrast agent given"), "undetermined", QUIET, reason="contrast agent given", series=None)
    s.reports(1)


@scenario
def a_phantom(s: Scene):
    s.send(s.patient.head(fill=0))
    s.decided(ENDED, "undetermined", GRACE, reason="no brain tissue")
    s.reports(1)


@scenario
def a_chest(s: Scene):
    s.patient.header = {"body_part": "CHEST", "series_description": "Thorax 5.0", "study_description": "CT CHEST"}
    s.send(s.patient.head())
    s.decided(ENDED, "not a head CT", GRACE, reason="body part THORAX is not the head", series=None)
    s.reports(0)


@scenario
def reformats_only(s: Scene):
    def coronal(image: Dataset, index: int) -> None:
        image.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        image.ImagePositionPatient = [-120, index * 6 - 60, 120]

    s.send(s.patient.head(series_description="HEAD COR", change=coronal))
    s.decided(nothing_to_analyse("reformatted, not axial"), "undetermined", QUIET, reason="reformatted, not axial", series=None)
    s.reports(1)


@scenario
def a_dose_report_among_the_images(s: Scene):
    s.send(s.patient.head() + s.patient.secondary_capture())
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def a_few_slices_of_a_head(s: Scene):
    s.send(s.patient.head()[:5])
    s.decided(
        f"{DEADLINE_PASSED}; part of a series: fewer than 8 slices", "undetermined", DEADLINE, series=None,
        reason="fewer than 8 slices; incomplete: part of a series: fewer than 8 slices",
    )  # fmt: skip
    s.reports(1)


# --- Whose, and how old -----------------------------------------------------------------------------------------------


def _two_patients(s: Scene) -> None:
    def other(image: Dataset, index: int) -> None:
        image.PatientID = "OTHER" if index > 9 else "ONE"

    s.send(s.patient.head(change=other))
    s.decided(
        ENDED, "undetermined", GRACE, reason="identity conflict: 2 patients under one Study Instance UID",
    )  # fmt: skip


@scenario
def two_patients_in_one_study(s: Scene):
    _two_patients(s)
    s.reports(0)


@scenario
def two_patients_in_one_study_and_released(s: Scene):
    _two_patients(s)
    assert "is analysed" in command(s, "release")
    wait_for(lambda: len(s.analyses()) == 2, "an analysis", 40, s._show)
    assert s.analyses()[1]["outcome"] == "negative", s._show()
    s.decisions.append("released: negative")
    s.reports(1)


@scenario
def one_image_in_two_series(s: Scene):
    images = s.patient.head()
    stray = copy.deepcopy(images[4])
    stray.SeriesInstanceUID = new_uid()
    s.send(images + [stray])
    # The later of the two is where the image is; it is missing from the series.
    s.decided(
        f"{DEADLINE_PASSED}; no slice at 24.0 mm along the normal", "undetermined", DEADLINE,
        reason="identity conflict: one SOP Instance UID in two series",
    )  # fmt: skip
    s.reports(0)


@scenario
def an_operator_ignores_it(s: Scene):
    s.send(s.patient.head()[:9])
    s.settle()
    assert "neither analysed nor reported" in command(s, "ignore")
    s.wait(DEADLINE)
    s.send(s.patient.head())
    s.wait(DEADLINE)
    assert not s.analyses(), s._show()
    s.decisions.append("ignored")
    s.reports(0)


@scenario
def an_operator_has_it_analysed_again(s: Scene):
    s.send(s.patient.head())
    s.decided(ENDED, "negative", GRACE)
    before = s.conclusions()
    assert "is analysed with the model" in command(s, "reprocess")
    wait_for(lambda: s.conclusions() > before, "a conclusion", 40, s._show)
    s.decisions.append("nothing to say")
    s.reports(1)


@scenario
def a_study_of_last_year(s: Scene):
    def old(image: Dataset, index: int) -> None:
        image.StudyDate = image.SeriesDate = image.AcquisitionDate = "20250102"

    s.send(s.patient.head(change=old))
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)


@scenario
def forgotten_by_retention_and_sent_again(s: Scene):
    images = s.patient.head()
    s.send(images)
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)
    s.clock.advance(2 * 86400)
    wait_for(lambda: s.study()["study"]["purgedCount"] == 20, "retention", 40, s._show)
    assert not s.node.stored(s.patient.study_uid)
    s.send(images)
    s.unchanged(GRACE)
    assert len(s.node.stored(s.patient.study_uid)) == 20
    s.reports(1)


@scenario
def forgotten_by_retention_and_one_slice_comes_again(s: Scene):
    images = s.patient.head()
    s.send(images)
    s.decided(ENDED, "negative", GRACE)
    s.reports(1)
    advance_past_retention(s.clock, s.node, 2 * 86400)
    wait_for(lambda: s.study()["study"]["purgedCount"] == 20, "retention", 40, s._show)
    s.send([images[3]])
    s.unchanged(
        DEADLINE, "not analysed again: 19 images that retention removed; send the whole series again for that"
    )
    s.reports(1)


# --- The table --------------------------------------------------------------------------------------------------------

RULES = {
    "selection": {
        "refused_descriptions": ["research"],
        "preferred_descriptions": ["^cranial routine"],
    }
}


def run(names: list[str], every: int) -> int:
    chosen = [each for each in SCENARIOS if not names or any(name in each.__name__ for name in names)][::every]
    failed = []
    started = time.monotonic()
    print("| delivery | decided | reports | s |\n| --- | --- | --- | --- |", flush=True)
    with Site(**RULES) as site:
        for play in chosen:
            scene, begun = Scene(site), time.monotonic()
            try:
                play(scene)
                found = "; then ".join(scene.decisions)
            except (AssertionError, OSError, KeyError, IndexError, AttributeError, ValueError):
                failed.append((play.__name__, traceback.format_exc()))
                found = "**failed**"
                if site.node.process.poll() is not None:
                    site.node.start()
            reports = len(site.pacs.reports(scene.patient.study_uid))
            seconds = time.monotonic() - begun
            print(f"| {play.__name__.replace('_', ' ')} | {found} | {reports} | {seconds:.1f} |", flush=True)
    for name, why in failed:
        print(f"\n{name}\n{why}", file=sys.stderr)
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} as expected, in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only deliveries with one of these in their names")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth of them")
    arguments = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    return run(arguments.names, arguments.every)


if __name__ == "__main__":
    sys.exit(main())
