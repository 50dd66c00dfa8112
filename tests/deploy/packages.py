#!/usr/bin/env python3
"""Installs the packages of a program that is built, as whoever gets them does, and uses what they brought.

Usage: tests/deploy/packages.py --binary FILE [--suite NAME]... [--keep DIR]
  --binary FILE  a release build of this commit
  --suite NAME   a Debian to try; without it bookworm and trixie
  --keep DIR     where the packages stay

In a fresh minimal Debian, made by mmdebstrap: the .deb is installed with what it recommends; the service starts by hand, as its own
account, with the settings that were installed, on a private PostgreSQL, and answers a heartbeat; a newer package keeps settings that
were changed; `apt remove` keeps settings and data, `apt purge` neither. The archive's program runs there without being installed. In
the first of them the .rpm is installed as well, by Debian's rpm: the systems that it is made for cannot be had everywhere. There the
units run under a systemd of their own, too, where systemd-nspawn can be used.

Needs root, mmdebstrap, rpmbuild and systemd-analyze; where one is missing that is said and the rest left out, and where CI is set it
fails. Takes a minute for each Debian. Ends with 0 where everything held, and with 1 otherwise.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NEEDED = ["mmdebstrap", "rpmbuild", "systemd-analyze", "dpkg-deb"]
# What the archive and the .rpm are promised to run on: Debian 12 has 2.36, Ubuntu 22.04 2.35, RHEL
# 9 2.34.
GLIBC = "2.34"
# Above this, systemd calls a service exposed to more than it has to be.
MOST_EXPOSED = 2.0
STATE = "var/lib/client-failover"
SETTINGS = "etc/client-failover/client-failover.toml"


class Wrong(Exception):
    """Something that did not hold."""


def say(text):
    print(f"packages: {text}", flush=True)


def check(holds, otherwise):
    if not holds:
        raise Wrong(otherwise)


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500, **options)
    check(done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


@contextlib.contextmanager
def timed(what):
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")


class Root:
    """A fresh Debian in a folder."""

    def __init__(self, suite, folder):
        self.suite, self.path = suite, folder / suite
        # The mirrors of this machine, with the names of that Debian.
        sources = [path.read_text() for path in Path("/etc/apt/sources.list.d").glob("*.sources") if "bookworm" in path.read_text()]
        listed = folder / f"{suite}.sources"
        listed.write_text("\n".join(sources).replace("bookworm", suite))
        options = [line for line in run("apt-config", "dump").splitlines() if re.match(r"Acquire::(.*Proxy|Check-|Retries)", line)]
        run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *[f"--aptopt={line}" for line in options], suite, self.path, listed)
        # As in every root that is no machine: nothing is started by what is installed.
        policy = self.path / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)

    def command(self, *words, user=None):
        """With what an engine or a machine would mount, and as that account without a right of root."""
        bare = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"] if user else []
        mounts = f'mount -t proc proc "{self.path}/proc" && mkdir -p "{self.path}/dev/shm" && mount -t tmpfs tmpfs "{self.path}/dev/shm" && exec "$@"'
        return ["unshare", "--mount", "--propagation=private", "sh", "-c", mounts, "sh", "chroot", str(self.path), *bare, *map(str, words)]

    def run(self, *words, user=None):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        return run(*self.command(*words, user=user), env=environment)

    def has(self, path):
        return (self.path / path).exists()

    def mode(self, path):
        """Its rights, and the names of its owner and group in there."""
        found = (self.path / path).lstat()
        names = lambda file: {int(line.split(":")[2]): line.split(":")[0] for line in (self.path / file).read_text().splitlines()}
        return f"{stat.S_IMODE(found.st_mode):o} {names('etc/passwd').get(found.st_uid)}:{names('etc/group').get(found.st_gid)}"

    def take(self, file):
        shutil.copy(file, self.path / "tmp")
        return Path("/tmp") / file.name


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextlib.contextmanager
def service(root):
    """The installed service, started by hand as its account with the settings that were installed; yields its port."""
    port = free_port()
    command = root.command("client-failover", "serve", "--config", f"/{SETTINGS}", user="client-failover")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CLIENT_FAILOVER_LISTEN": f"127.0.0.1:{port}"}
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            while True:
                check(process.poll() is None and time.monotonic() < began + 60, "the service is not ready")
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if ask(port, "GET", "/health/ready")[0] == 200:
                        break
                time.sleep(0.05)
            say(f"{root.suite}: ready {time.monotonic() - began:.1f} s after its start")
            yield port
            process.send_signal(signal.SIGTERM)
            check(process.wait(timeout=30) == 0, f"it ended with {process.returncode}")
        except BaseException:
            process.kill()
            process.wait()
            said.seek(0)
            print(said.read()[-4000:])
            raise


GROUP = "/api/v1/tenants/plant/namespaces/line1/clientfailover/groups/pump"


def heartbeat(port):
    check(ask(port, "PUT", GROUP, {"FailoverTimeout": "00:00:02"})[0] in (200, 201), "there is no group")
    check(ask(port, "POST", f"{GROUP}/clientsessions", {"Id": "a"})[0] in (200, 201), "there is no session")
    status, answer = ask(port, "POST", f"{GROUP}/clientsessions/a", {"PercentHealthyStreams": 100})
    check(status == 200 and json.loads(answer)["Role"] == 1, f"the heartbeat is answered {status}: {answer}")


def make_key(root):
    """As an administrator does on the machine: the private server lets its own account in."""
    url = "postgres://client_failover@%2Fvar%2Flib%2Fclient-failover%2Frun:5432/client_failover"
    made = root.run("client-failover", "keys", "create", "first", "--tenant", "*", "--role", "admin", "--database-url", url, user="client-failover")
    check("cfk_" in made, f"no key can be made: {made}")


def is_installed(root):
    for path, mode in [
        ("usr/bin/client-failover", "755 root:root"),
        ("etc/client-failover", "750 root:client-failover"),
        ("etc/client-failover/run", "700 root:root"),
        (SETTINGS, "640 root:client-failover"),
        (STATE, "700 client-failover:client-failover"),
        ("usr/lib/systemd/system/client-failover.service", "644 root:root"),
        ("usr/share/bash-completion/completions/client-failover", "644 root:root"),
        ("usr/share/man/man1/client-failover-run.1.gz", "644 root:root"),
    ]:
        check(root.has(path), f"{root.suite}: there is no {path}")
        check(root.mode(path) == mode, f"{root.suite}: {path} is {root.mode(path)}")


def newer(package, folder):
    """The same package as another version, with a new line in the settings that it brings."""
    tree = folder / "newer"
    run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*", "Version: 99.0-1", control.read_text(), flags=re.MULTILINE))
    file = folder / "client-failover_99.0-1.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, file)
    shutil.rmtree(tree)
    return file


def try_deb(root, package, update):
    apt = lambda *words: root.run("apt-get", "--quiet", "--yes", *words)
    apt("update")
    with timed(f"{root.suite}: apt install, with PostgreSQL"):
        apt("install", root.take(package))
    is_installed(root)
    check(root.run("client-failover", "version").split()[1] == package.name.split("_")[1].removesuffix("-1"), "another version")
    settings = root.path / SETTINGS
    settings.write_text(settings.read_text() + 'log = "warn"\n')
    with service(root) as port:
        heartbeat(port)
        make_key(root)
    apt("install", root.take(update))
    check(settings.read_text().endswith('log = "warn"\n'), "a newer package takes changed settings away")
    is_installed(root)
    with service(root) as port:
        check(ask(port, "GET", GROUP)[0] == 200, "the group is gone with an update")
    apt("remove", "client-failover")
    check(not root.has("usr/bin/client-failover"), "the program is still there")
    check(root.has(f"{STATE}/pg/PG_VERSION") and root.has(SETTINGS), "apt remove takes data or settings")
    apt("purge", "client-failover")
    left = [path for path in [STATE, "etc/client-failover"] if root.has(path)]
    check(not left, f"apt purge leaves {left}")
    check("client-failover" not in (root.path / "etc/passwd").read_text(), "apt purge leaves the account")


def try_rpm(root, package):
    rpm = lambda *words: run("rpm", "--root", root.path, "--dbpath", "/var/lib/rpm-of-the-test", *words)
    # Its database is empty: nothing that the package needs is in it, though it is there.
    rpm("--install", "--nodeps", package)
    is_installed(root)
    # Every file is as it was packed, its owner and its rights too.
    rpm("--verify", "--nodeps", "client-failover")
    with service(root) as port:
        heartbeat(port)
    rpm("--erase", "client-failover")
    check(not root.has("usr/bin/client-failover") and root.has(f"{STATE}/pg/PG_VERSION"), "rpm --erase takes data, or leaves the program")
    # What comes next begins anew.
    shutil.rmtree(root.path / STATE)


def try_archive(root, archive):
    run("tar", "--extract", "--directory", root.path / "opt", "--file", archive)
    top = Path("/opt") / archive.name.removesuffix(".tar.gz")
    root.run(top / "client-failover", "version")
    for name in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "client-failover.toml", "systemd/client-failover.service",
                 "completions/client-failover.bash", "man/client-failover.1"]:
        check(root.has(str(top / name).lstrip("/")), f"the archive has no {name}")


# In a booted root: what an administrator types, and what is to be seen then.
TRIAL = """#!/bin/bash -e
systemctl disable --quiet --now postgresql
systemctl enable --quiet --now client-failover
until client-failover health >/dev/null 2>&1; do sleep 0.1; done
systemctl start client-failover-run@pump
until systemctl status --no-pager client-failover-run@pump | grep 'Primary in term 1'; do sleep 0.1; done
grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/$(systemctl show -P MainPID client-failover)/status
systemctl restart client-failover
until client-failover groups list --tenant plant --namespace line1 | grep pump; do sleep 0.1; done
systemctl stop client-failover client-failover-run@pump
systemctl show -P Result client-failover client-failover-run@pump
journalctl --unit client-failover --grep 'role changed'
echo all of it
"""


def try_systemd(root, package):
    """Booted, the service runs with all that its unit takes away, on its own PostgreSQL; the agent's template runs a program beside it."""
    enter = lambda *words: ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh", "systemd-nspawn", "--quiet",
                            f"--directory={root.path}", "--register=no", "--keep-unit", "--private-network", "--console=pipe", *words]
    if not shutil.which("systemd-nspawn") or subprocess.run(enter("--as-pid2", "/bin/true"), capture_output=True).returncode != 0:
        say("the units are not tried under systemd: there is no systemd-nspawn, or it cannot be used here")
        return
    root.run("apt-get", "--quiet", "--yes", "install", "systemd", "systemd-sysv", root.take(package))
    (root.path / "etc/client-failover/run/pump.conf").write_text(
        "CLIENT_FAILOVER_SERVER=http://127.0.0.1:8080\nRUN=--group plant/line1/pump --create 2s -- /bin/sleep 1000\n")
    trial = root.path / "usr/local/bin/trial"
    trial.write_text(TRIAL)
    trial.chmod(0o755)
    units = root.path / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/trial.service").symlink_to("/etc/systemd/system/trial.service")
    (units / "trial.service").write_text(
        "[Unit]\nAfter=multi-user.target\nSuccessAction=exit\nFailureAction=exit\n"
        "[Service]\nType=oneshot\nTimeoutStartSec=90\nExecStart=/usr/local/bin/trial\n"
        "StandardOutput=file:/trial.log\nStandardError=file:/trial.log\n")
    # Asked to end, nspawn ends what it has booted.
    subprocess.run(["timeout", "--kill-after=20", "120", *enter("--boot")], stdin=subprocess.DEVNULL, capture_output=True)
    check(root.has("trial.log"), "systemd does not boot")
    said = (root.path / "trial.log").read_text()
    for line in ["Primary in term 1", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "success\n\nsuccess", "role changed", "all of it"]:
        check(line in said, f"under systemd there is no '{line}' in: {said}")
    say("under systemd the service and the agent run, with a filter of system calls and without a capability")
    root.run("apt-get", "--quiet", "--yes", "purge", "client-failover")


def try_units(folder, package):
    """Whatever the units ask of systemd is known to it, and the service's is closed to what it does not need."""
    tree = folder / "units"
    run("dpkg-deb", "--extract", package, tree)
    units = tree / "usr/lib/systemd/system"
    for name in ["client-failover.service", "client-failover-run@.service"]:
        text = (units / name).read_text().replace("/usr/bin/client-failover", "/bin/true")
        # Its own manual need not be installed on this machine.
        text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
        unit = folder / name.replace("@", "@pump")
        unit.write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
        check(done.returncode == 0 and unit.name not in done.stderr, f"{name}: {done.stderr}")
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", folder / "client-failover.service")
    exposed = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said).group(1))
    check(exposed < MOST_EXPOSED, f"client-failover.service has an exposure of {exposed}")
    say(f"client-failover.service has an exposure of {exposed}, of at most {MOST_EXPOSED}")
    pages = sorted((tree / "usr/share/man/man1").iterdir())
    say(f"{len(pages)} manual pages")
    if shutil.which("lintian"):
        said = subprocess.run(["lintian", "--fail-on", "error", "--tag-display-limit", "0", str(package)], capture_output=True, text=True)
        check(said.returncode == 0, said.stdout + said.stderr)
        say(f"lintian has no error and {len(said.stdout.splitlines())} warnings")


def main():
    words, binary, suites, keep = sys.argv[1:], None, [], None
    while words:
        flag = words.pop(0)
        if flag not in ("--binary", "--suite", "--keep") or not words:
            sys.exit("usage: tests/deploy/packages.py --binary FILE [--suite NAME]... [--keep DIR]")
        value = words.pop(0)
        binary, keep = (value if flag == "--binary" else binary), (value if flag == "--keep" else keep)
        suites += [value] if flag == "--suite" else []
    if not binary:
        sys.exit("packages: --binary says what is packed")
    missing = [tool for tool in NEEDED if not shutil.which(tool)] + (["root"] if os.geteuid() != 0 else [])
    if missing:
        say(f"skipped: there is no {', no '.join(missing)}")
        sys.exit(1 if os.environ.get("CI") else 0)
    folder = Path(tempfile.mkdtemp(prefix="cf-packages-"))
    # Whoever is no root in there passes through it.
    folder.chmod(0o755)
    try:
        made = Path(keep) if keep else folder / "made"
        with timed("made"):
            run(REPOSITORY / "deploy/packages/build", binary, made)
        (deb,), (rpm,), (archive,) = (list(made.glob(kind)) for kind in ["*.deb", "*.rpm", "*.tar.gz"])
        for file in [deb, rpm, archive]:
            say(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
        try_units(folder, deb)
        needed = re.search(r"libc6 \(>= ([\d.]+)\)", run("dpkg-deb", "--field", deb, "Depends")).group(1)
        number = lambda text: [int(part) for part in text.split(".")]
        check(number(needed) <= number(GLIBC), f"the program needs glibc {needed}, and {GLIBC} is promised")
        for page in sorted((REPOSITORY / "docs").glob("*.md")):
            said = set(re.findall(r"glibc ([\d.]*\d)", page.read_text()))
            check(said <= {GLIBC}, f"{page.name} says glibc {said}, and {GLIBC} is promised")
        say(f"the program needs glibc {needed}")
        update = newer(deb, folder)
        for number, suite in enumerate(suites or ["bookworm", "trixie"]):
            with timed(f"{suite}: all of it"):
                with timed(f"{suite}: a minimal Debian"):
                    root = Root(suite, folder)
                try_archive(root, archive)
                try_deb(root, deb, update)
                if number == 0:
                    try_rpm(root, rpm)
                    with timed(f"{suite}: under systemd"):
                        try_systemd(root, deb)
                shutil.rmtree(root.path)
        say("everything held")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"packages: FAIL: {wrong}")
