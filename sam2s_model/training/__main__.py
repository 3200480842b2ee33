"""`python -m sam2s_model.training CONFIG.yaml`, which `torchrun` can start, too."""

from __future__ import annotations

import sys

import typer

from sam2s_model.errors import Sam2sError
from sam2s_model.training.command import train

if __name__ == "__main__":
    try:
        typer.run(train)
    except Sam2sError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last saved state", file=sys.stderr)
        sys.exit(130)
