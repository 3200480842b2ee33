"""A log of lists."""

from __future__ import annotations


class SaidLog:
    """What was said: `infos` and `warnings`."""

    def __init__(self):
        self.infos, self.warnings = [], []

    def info(self, sentence):
        self.infos.append(sentence)

    def warning(self, sentence):
        self.warnings.append(sentence)
