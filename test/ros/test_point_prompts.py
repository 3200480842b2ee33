"""Clicks on topics, in a real graph: the object, the class and the image that they are applied to, and the answers."""

from __future__ import annotations

import pytest
from geometry_msgs.msg import Point, PointStamped
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from sam2s_ros.interfaces import messages
from sam2s_ros.msg import ErrorCode, Prompt, PromptResult, TrackedMasks, TrackerStatus
from sam2s_ros.srv import AddPrompts, GetState

NAME = "/clicks/tracker"
CLICK = "/viewer_mouse_left"  # as rqt_image_view calls it


class Person:
    """Clicks, and reads the answers."""

    def __init__(self, graph):
        self.graph = graph
        self.results = graph.collect(PromptResult, f"{NAME}/prompt_result")
        self.masks = graph.collect(TrackedMasks, f"{NAME}/masks")
        self.stamped = graph.publisher(PointStamped, f"{NAME}/point")
        self.bare = graph.publisher(Point, CLICK)

    def ready(self) -> bool:
        return bool(self.stamped.get_subscription_count() and self.bare.get_subscription_count())

    def _answer(self, publisher, message) -> PromptResult:
        count = len(self.results)
        publisher.publish(message)
        self.graph.wait_until(lambda: len(self.results) > count, 20, lambda: "the answer to a click")
        return self.results[-1]

    def click(self, x: float, y: float) -> PromptResult:
        return self._answer(self.bare, Point(x=x, y=y))

    def point(self, x: float, y: float, stamp: int) -> PromptResult:
        header = Header(stamp=messages.to_time(stamp), frame_id="endoscope")
        return self._answer(self.stamped, PointStamped(header=header, point=Point(x=x, y=y)))

    def choose(self, **values) -> None:
        kinds = {int: ("INTEGER", "integer_value"), str: ("STRING", "string_value"), float: ("DOUBLE", "double_value")}
        request = SetParameters.Request()
        for name, value in values.items():
            kind, field = kinds[type(value)]
            given = ParameterValue(type=getattr(ParameterType, f"PARAMETER_{kind}"), **{field: value})
            request.parameters.append(Parameter(name=name, value=given))
        assert all(r.successful for r in self.graph.call(SetParameters, f"{NAME}/set_parameters", request).results)


@pytest.fixture(scope="module")
def person(graph, start_tracker, camera):
    process = start_tracker(remap=("__ns:=/clicks", "image:=/image", f"~/click:={CLICK}"))
    statuses = graph.collect(TrackerStatus, f"{NAME}/status")
    graph.wait_until(
        lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING or not process.running(), 60
    )
    assert process.running(), process.output
    made = Person(graph)
    graph.wait_until(made.ready, 20)
    graph.wait_until(lambda: graph.node.count_publishers(f"{NAME}/prompt_result"), 20)
    graph.known_to(NAME)
    camera.first(lambda: made.masks)
    return made


@pytest.fixture
def stamps(person, camera) -> list[int]:
    """Three images that the tracker has just seen; it has no objects."""
    assert person.graph.call(Trigger, f"{NAME}/reset").success
    person.choose(point_object_id=0, point_class="", point_max_age=1.0, point_label="positive")
    sent = []
    for number in range(3):
        sent.append(camera.send(camera.picture(number)))
        person.graph.wait_until(lambda: person.masks.of(sent[-1]), 20)
    return sent


def test_p20_a_point_is_applied_to_the_image_of_its_stamp(person, stamps):
    result = person.point(20.0, 24.0, stamps[0])
    assert result.success and result.error == ErrorCode.NONE and (result.point.x, result.point.y) == (20.0, 24.0)
    assert messages.to_ns(result.stamp_used) == stamps[0]
    [object_id] = result.object_ids
    shown = f"{stamps[0] // 10**9}.{stamps[0] % 10**9:09d}"
    assert result.message == f"object {object_id} (instrument) was prompted on the image of {shown}"


def test_a_click_without_a_stamp_is_of_the_newest_image(person, stamps):
    result = person.click(20.0, 24.0)
    assert result.success and messages.to_ns(result.stamp_used) == stamps[-1]
    assert messages.to_ns(person.point(20.0, 24.0, 0).stamp_used) == stamps[-1]


def test_parameters_choose_object_and_class(person, stamps, camera):
    [first] = person.click(20.0, 24.0).object_ids
    [second] = person.click(40.0, 24.0).object_ids
    assert second > first
    person.choose(point_object_id=first, point_class="object")
    result = person.click(22.0, 24.0)
    assert list(result.object_ids) == [first] and f"object {first} (object)" in result.message
    person.choose(point_object_id=-1, point_class="")
    assert list(person.click(21.0, 24.0).object_ids) == [first], "the last one that was clicked on"
    stamp = camera.send()
    masks = person.graph.wait_until(lambda: person.masks.of(stamp), 20)
    assert [(o.object_id, o.class_name) for o in masks.objects] == [(first, "object"), (second, "instrument")]
    assert masks.objects[0].class_score == 1.0 and masks.objects[1].class_score != masks.objects[1].class_score
    assert person.graph.call(Trigger, f"{NAME}/reset").success
    stamp = camera.send()
    person.graph.wait_until(lambda: person.masks.of(stamp), 20)
    assert person.click(20.0, 24.0).object_ids[0] > second, "a new one, where the last is gone"


def test_a_negative_point_corrects_its_object_and_starts_none(person, stamps, camera):
    [object_id] = person.click(20.0, 24.0).object_ids
    person.choose(point_label="negative")
    refused = person.click(40.0, 24.0)
    assert not refused.success and refused.error == ErrorCode.INVALID_PROMPT, "of a new object, which is nowhere then"
    person.choose(point_object_id=-1)
    assert list(person.click(40.0, 24.0).object_ids) == [object_id]
    assert [o.object_id for o in person.graph.call(GetState, f"{NAME}/get_tracker_state").objects] == [object_id]


@pytest.mark.parametrize("x, y, choice, code, said", [
    (64.0, 5.0, {}, "INVALID_PROMPT", "point (64, 5) is outside the image: expected 0 <= x <= 63"),
    (float("nan"), 5.0, {}, "INVALID_PROMPT", "point (nan, 5)"),
    (1e300, 5.0, {}, "INVALID_PROMPT", "point (inf, 5)"),
    (5.0, 5.0, dict(point_object_id=4000), "UNKNOWN_OBJECT", "object 4000 is not tracked"),
    (5.0, 5.0, dict(point_class="spoon"), "UNKNOWN_CLASS", "class 'spoon' is not in label set 'generic'"),
])  # fmt: skip
def test_p21_p22_a_bad_point_is_answered_with_the_reason(person, stamps, x, y, choice, code, said):
    person.choose(**choice)
    result = person.click(x, y)
    assert (result.success, result.error, list(result.object_ids)) == (False, getattr(ErrorCode, code), [])
    assert said in result.message and messages.to_ns(result.stamp_used) == 0


def test_p20_a_point_on_an_image_that_was_never_seen_is_refused(person, stamps):
    person.choose(point_max_age=0.0)
    result = person.point(20.0, 24.0, stamps[-1] + 1)
    assert (result.success, result.error) == (False, ErrorCode.UNKNOWN_STAMP) and str(stamps[-1]) in result.message


def test_p20_a_point_with_the_time_of_the_click_is_of_the_newest_image_that_is_not_later(person, stamps):
    """As RViz publishes them."""
    for late, used in ((5_000_000, stamps[-1]), (500_000_000, stamps[-1]), (stamps[1] - stamps[-1] + 1, stamps[1])):
        click = stamps[-1] + late
        result = person.point(20.0, 24.0, click)
        assert result.success and messages.to_ns(result.stamp_used) == used, result.message
        assert f"the newest not later than the click, by {(click - used) / 1e9:.3f} s" in result.message
    too_late = person.point(20.0, 24.0, stamps[-1] + 2 * 10**9)
    assert (too_late.success, too_late.error) == (False, ErrorCode.UNKNOWN_STAMP), "point_max_age is 1 s"
    too_early = person.point(20.0, 24.0, 5 * 10**9)
    assert (too_early.success, too_early.error) == (False, ErrorCode.TOO_OLD)


def test_an_object_is_renamed_while_it_is_tracked(person, stamps, camera):
    [object_id] = person.click(20.0, 24.0).object_ids
    renamed = AddPrompts.Request(prompts=[Prompt(object_id=object_id, class_name="object")])
    answer = person.graph.call(AddPrompts, f"{NAME}/add_prompts", renamed)
    assert answer.success and [o.class_name for o in answer.masks.objects] == ["object"], answer.message
    stamp = camera.send()
    masks = person.graph.wait_until(lambda: person.masks.of(stamp), 20)
    assert [(o.class_id, o.class_score) for o in masks.objects] == [(2, 1.0)]
