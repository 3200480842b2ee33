"""Print which share of each package's lines the tests have run, from the data that `make test` leaves in build/."""

import os

import coverage

PACKAGES = ("sam2s_model", "sam2s_ros")


def totals(data_file: str) -> dict[str, float]:
    """Return percent of the lines of each package. Raises CoverageException where nothing of one was measured."""
    measured = coverage.Coverage(data_file=data_file, messages=False)
    measured.load()
    with open(os.devnull, "w") as nowhere:
        return {name: measured.report(include=[f"*/{name}/*"], file=nowhere) for name in PACKAGES}


if __name__ == "__main__":
    try:
        shares = totals(os.environ.get("COVERAGE_FILE", "build/coverage"))
    except coverage.CoverageException as error:
        raise SystemExit(f"coverage: not of both packages: {error}") from None
    shown = ", ".join(f"{name} {share:.0f} %" for name, share in shares.items())
    print(f"coverage: {shown} of the lines, without what only child processes run (nodes, commands)")
