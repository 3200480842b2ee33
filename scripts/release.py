"""Make a release of what is committed.

    python scripts/release.py --prepare 0.2.0    # write the version and today's date where they stand; then commit
    python scripts/release.py                    # check, build into dist/, try the wheel, say what it consists of
    python scripts/release.py --tag              # the same, and tag v0.2.0 here: pushing it is a person's decision

The bill of materials is that of the clean environment which the wheel was tried in, by CycloneDX's own tool.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import wheel  # beside this file

ROOT = wheel.ROOT
VERSION = r"\d+\.\d+\.\d+"
IN_PACKAGE = re.compile(rf"(?<=<version>){VERSION}(?=</version>)")
IN_CITATION = {
    "version": re.compile(rf"^version: ({VERSION})$", re.M),
    "date": re.compile(r"^date-released: (\d{4}-\d\d-\d\d)$", re.M),
}
RELEASED = re.compile(rf"^## \[({VERSION})\] - (\d{{4}}-\d\d-\d\d)$", re.M)
UNRELEASED = "## [Unreleased]\n"
NOTHING_YET = " Nothing has been released yet."


def git(root: Path, *words: str) -> str:
    """What git prints. Raises SystemExit with its own message when it fails."""
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {words[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def prepare(root: Path, version: str, today: datetime.date) -> None:
    """Write a version and its date into package.xml, CITATION.cff and CHANGELOG.md.

    Raises SystemExit when it is no version of three numbers, not newer than the last, or when nothing has changed.
    """
    if not re.fullmatch(VERSION, version):
        raise SystemExit(f"the version is {version!r}: expected three numbers, such as 0.2.0")
    changes = (root / "CHANGELOG.md").read_text()
    last = RELEASED.search(changes)
    if last and _numbers(version) <= _numbers(last[1]):
        raise SystemExit(f"the version is {version}: expected one after {last[1]}, the newest of CHANGELOG.md")
    if UNRELEASED not in changes or not _unreleased(changes):
        raise SystemExit(f"CHANGELOG.md has nothing under {UNRELEASED.strip()}: expected what a user will notice")
    changes = changes.replace(NOTHING_YET, "").replace(UNRELEASED, f"{UNRELEASED}\n## [{version}] - {today}\n", 1)
    (root / "CHANGELOG.md").write_text(changes)
    package = root / "package.xml"
    package.write_text(IN_PACKAGE.sub(version, package.read_text(), count=1))
    citation = root / "CITATION.cff"
    text = citation.read_text()
    for name, line in (("version", f"version: {version}"), ("date", f"date-released: {today}")):
        text = IN_CITATION[name].sub(line, text) if IN_CITATION[name].search(text) else f"{text}{line}\n"
    citation.write_text(text)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _unreleased(changes: str) -> str:
    """What stands between the heading Unreleased and the next of its kind."""
    return changes.split(UNRELEASED, 1)[1].split("\n## ", 1)[0].strip()


def check(root: Path) -> str:
    """Return the version that everything names.

    Raises SystemExit, naming the file, what it says and what was expected, when a file says something else, when
    something is not committed, or when the tag is there already.
    """
    version = wheel.version_of(root)
    newest = RELEASED.search((root / "CHANGELOG.md").read_text())
    if not newest or newest[1] != version:
        said = f"its newest release is {newest[1]}" if newest else "it has no release"
        raise SystemExit(f"CHANGELOG.md: {said}, expected {version}, that of package.xml: see release.py --prepare")
    if left := _unreleased((root / "CHANGELOG.md").read_text()):
        raise SystemExit(f"CHANGELOG.md: expected nothing under {UNRELEASED.strip()}, found {left.splitlines()[0]!r}")
    citation = (root / "CITATION.cff").read_text()
    for name, expected in (("version", version), ("date", newest[2])):
        found = IN_CITATION[name].search(citation)
        if not found or found[1] != expected:
            raise SystemExit(f"CITATION.cff: the {name} is {found[1] if found else 'missing'}, expected {expected}")
    if changed := git(root, "status", "--porcelain").splitlines():
        raise SystemExit(f"{len(changed)} files are not committed, the first: {changed[0][3:]}")
    if git(root, "tag", "--list", f"v{version}").strip():
        raise SystemExit(f"the tag v{version} is there already: expected a new version, see release.py --prepare")
    return version


def bill_of_materials(programs: Path, target: Path, work: Path) -> None:
    """Write what is installed beside `programs` as CycloneDX in JSON: each package, its version and licence."""
    tool = wheel.make_environment(work / "sbom", "cyclonedx-bom>=7,<8")
    wheel.run(
        tool / "cyclonedx-py", "environment", "--output-reproducible", "--output-format", "JSON",
        "--output-file", target, programs / "python",
    )  # fmt: skip
    target.write_text(json.dumps(without_local_files(json.loads(target.read_text())), indent=2) + "\n")


def without_local_files(bill: dict) -> dict:
    """Leave out where on this machine the wheel was installed from, which is nobody else's concern."""
    for part in bill["components"]:
        links = [link for link in part.pop("externalReferences", ()) if not link["url"].startswith("file:")]
        part |= {"externalReferences": links} if links else {}
    return bill


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--prepare", metavar="VERSION", help="write this version and today's date, and do no more")
    options.add_argument("--tag", action="store_true", help="tag the commit, here alone")
    options.add_argument("--dist", type=Path, default=wheel.DIST, help="folder for what is released")
    options.add_argument("--work", type=Path, default=wheel.WORK, help="folder for the environments")
    given = options.parse_args()
    if given.prepare:
        prepare(ROOT, given.prepare, datetime.date.today())
        print(f"release: {given.prepare} stands in package.xml, CITATION.cff and CHANGELOG.md: read and commit them")
        return
    version = check(ROOT)
    dist, work = given.dist.resolve(), given.work.resolve()
    print(f"release: {version}, building and trying it (some minutes)", flush=True)
    made = wheel.build(ROOT, dist, work)
    if not made.name.startswith(f"sam2s_ros-{version}-"):
        raise SystemExit(f"the wheel is {made.name}: expected version {version}, which setup.py takes from package.xml")
    programs = wheel.install(made, work)
    wheel.try_out(programs, version)
    bill_of_materials(programs, dist / f"sam2s_ros-{version}.cdx.json", work)
    if given.tag:
        git(ROOT, "tag", "--annotate", f"v{version}", "--message", f"sam2s_ros {version}")
    for path in sorted(dist.glob(f"sam2s_ros-{version}*")):
        print(f"release: {path}")
    print(f"release: tagged v{version}: `git push origin v{version}`" if given.tag else "release: not tagged (--tag)")


if __name__ == "__main__":
    main()
