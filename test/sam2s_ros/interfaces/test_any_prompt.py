"""Whatever a prompt message holds, it is a prompt for the image or refused with a code."""

from __future__ import annotations

import array

import numpy as np
from geometry_msgs.msg import Point32
from hypothesis import event, given, settings, strategies as st
from sensor_msgs.msg import Image

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_ros.interfaces import messages
from sam2s_ros.msg import Prompt

HEIGHT, WIDTH = 6, 8
numbers = st.one_of(st.floats(width=32), st.integers(-1, 9).map(float))
sizes = st.one_of(st.just(HEIGHT), st.just(WIDTH), st.integers(0, 2**32 - 1))
masks = st.builds(
    lambda encoding, height, width, step, data: Image(
        encoding=encoding, height=height, width=width, step=step, data=array.array("B", data)
    ),
    st.sampled_from(["mono8", "8UC1", "rgb8", "", "mono16"]),
    sizes,
    sizes,
    sizes,
    st.one_of(st.just(bytes(HEIGHT * WIDTH)), st.just(bytes([255]) * HEIGHT * WIDTH), st.binary(max_size=60)),
)


@given(
    clicks=st.lists(st.tuples(numbers, numbers, st.one_of(st.integers(0, 1), st.integers(0, 255))), max_size=3),
    more_labels=st.sampled_from([0, 0, 0, 1]),
    box=st.one_of(st.just([]), st.just([1.0, 1.0, 5.0, 5.0]), st.lists(numbers, max_size=4)),
    mask=st.one_of(st.just(Image()), masks),
)
@settings(max_examples=300)
def test_p22_any_prompt_is_taken_or_refused_with_a_code(clicks, more_labels, box, mask):
    message = Prompt(points=[Point32(x=x, y=y) for x, y, _ in clicks], box=box, mask=mask)
    message.point_labels = [label for _, _, label in clicks] + [1] * more_labels
    try:
        prompt = messages.prompt_from_message(message).validated(HEIGHT, WIDTH)
    except RequestError as error:
        event("refused")
        assert error.code in (ErrorCode.INVALID_PROMPT, ErrorCode.EMPTY_REQUEST) and str(error)
        return
    event("taken")
    if prompt.points is not None:
        assert np.isfinite(prompt.points).all() and set(prompt.point_labels.tolist()) <= {0, 1}
        assert (prompt.points >= 0).all() and (prompt.points <= (WIDTH - 1, HEIGHT - 1)).all()
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        assert 0 <= x0 < x1 <= WIDTH and 0 <= y0 < y1 <= HEIGHT
    if prompt.mask is not None:
        assert prompt.mask.shape == (HEIGHT, WIDTH) and prompt.mask.any() and prompt.points is None is prompt.box
