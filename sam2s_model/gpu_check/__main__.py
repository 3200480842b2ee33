"""One part in this process: `python -m sam2s_model.gpu_check NUMBER DEVICE`. Writes each check as a line of JSON."""

from __future__ import annotations

import json
import logging
import sys

import torch

from sam2s_model.gpu_check.part import Setting
from sam2s_model.gpu_check.parts import PARTS


def main(number: str, device: str) -> None:
    logging.disable(logging.WARNING)  # what is refused is a check
    part = next(part for part in PARTS if part.number == int(number))
    setting = Setting(torch.device(device))
    torch.cuda.set_device(0 if part.title == "each GPU" else setting.device)
    for check in part.run(setting):
        print(json.dumps(check.as_dict()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
