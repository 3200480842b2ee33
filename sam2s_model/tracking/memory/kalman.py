"""A Kalman filter of boxes that move with constant velocity, for N objects at once.

Position and velocity of centre x, centre y, aspect ratio and height do not influence each other, as in DeepSORT, whose
noise (relative to the height) SAMURAI takes over. The 8 x 8 covariance is then four of 2 x 2, and nothing is inverted.

mean: (N, 4, 2), value and velocity of each quantity; covariance: (N, 4, 3), of value, both, and velocity
"""

from __future__ import annotations

import torch
from torch import Tensor

POSITION, VELOCITY = 1 / 20, 1 / 160  # standard deviations, in heights
ASPECT, ASPECT_VELOCITY, ASPECT_MEASURED = 1e-2, 1e-5, 1e-1  # of the aspect ratio


def start(box: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4), x0 y0 x1 y1, at rest -> mean and covariance."""
    value = _quantities(box)
    height = value[:, 3]
    deviations = _deviations(height, 2 * POSITION, ASPECT), _deviations(height, 10 * VELOCITY, ASPECT_VELOCITY)
    mean = torch.stack((value, torch.zeros_like(value)), dim=2)
    return mean, torch.stack((deviations[0] ** 2, torch.zeros_like(value), deviations[1] ** 2), dim=2)


def predict(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """One frame later."""
    value, velocity = mean.unbind(2)
    pp, pv, vv = covariance.unbind(2)
    height = value[:, 3]
    noise = _deviations(height, POSITION, ASPECT) ** 2, _deviations(height, VELOCITY, ASPECT_VELOCITY) ** 2
    mean = torch.stack((value + velocity, velocity), dim=2)
    return mean, torch.stack((pp + 2 * pv + vv + noise[0], pv + vv, vv + noise[1]), dim=2)


def update(mean: Tensor, covariance: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """Correct a prediction by measured boxes (N, 4)."""
    pp, pv, vv = covariance.unbind(2)
    measured = pp + _deviations(mean[:, 3, 0], POSITION, ASPECT_MEASURED) ** 2
    gain = torch.stack((pp / measured, pv / measured), dim=2)
    mean = mean + gain * (_quantities(box) - mean[:, :, 0])[:, :, None]
    corrected = torch.stack((pp - gain[:, :, 0] * pp, pv - gain[:, :, 0] * pv, vv - gain[:, :, 1] * pv), dim=2)
    return mean, corrected


def box(mean: Tensor) -> Tensor:
    """(N, 4), x0 y0 x1 y1: where the objects are."""
    x, y, aspect, height = mean[:, :, 0].unbind(1)
    width = aspect * height
    return torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), dim=1)


def _quantities(box: Tensor) -> Tensor:
    x0, y0, x1, y1 = box.unbind(1)
    height = (y1 - y0).clamp(min=1e-3)
    return torch.stack(((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / height, height), dim=1)


def _deviations(height: Tensor, relative: float, aspect: float) -> Tensor:
    height = height.clamp(min=1.0)
    return torch.stack(
        (relative * height, relative * height, torch.full_like(height, aspect), relative * height), dim=1
    )
