#!/usr/bin/env python3
"""Makes the image of the Dockerfile without a container engine, and runs the service in it.

The steps are the Dockerfile's own, read from it; one that is not understood is an error. A stage of the Rust image runs in a fresh
folder, with the Rust of this machine: its steps have no absolute paths. A stage of the Debian image runs in a minimal Debian root,
made by mmdebstrap. Then the service is started in that root as docker-compose.yml starts a replica, with the image's user and
without any capability, on a PostgreSQL of this script's own, and is asked by the health check of the compose file.

Usage: tests/deploy/image.py [--keep DIR]
  --keep DIR   a folder that is not there yet: what was built stays in it (the sources and target/ in DIR/build/src)

The build is a whole optimised one and takes minutes, the rest half a minute. The second part needs root, mmdebstrap and PostgreSQL's
binaries: where one is missing, that is said and left out. Ends with 0 where everything held, and with 1 otherwise.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# What is given as --build-arg.
ARGUMENTS = {"SOURCE_COMMIT": os.environ.get("SOURCE_COMMIT") or "0123456789abcdef0123456789abcdef01234567"}


class Wrong(Exception):
    """Something that did not hold."""


def run(command, **options):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, text=True, **options)
    if done.returncode != 0:
        said = (done.stdout or "") + (done.stderr or "")
        raise Wrong(f"{shlex.join(map(str, command))} ended with {done.returncode}{': ' if said else ''}{said[-4000:]}")
    return done.stdout


@contextlib.contextmanager
def timed(what):
    print(f"image: {what}", flush=True)
    began = time.monotonic()
    yield
    print(f"image: {what}: {time.monotonic() - began:.1f} s", flush=True)


# --- What the Dockerfile says


@dataclass
class Stage:
    image: str
    name: str
    steps: list = field(default_factory=list)


def with_variables(text, variables):
    def value(found):
        name = found.group(1) or found.group(2)
        if name not in variables:
            raise Wrong(f"Dockerfile: ${name} in '{text}' has no value")
        return variables[name]

    return re.sub(r"\$\{(\w+)\}|\$(\w+)", value, text)


def read_dockerfile(text):
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    variables, stages = {}, []
    for instruction in instructions:
        word, _, rest = instruction.strip().partition(" ")
        word, rest = word.upper(), rest.strip()
        if word == "ARG" and not stages and "=" in rest:
            name, _, default = rest.partition("=")
            variables[name] = default
        elif word == "FROM":
            found = re.fullmatch(r"(\S+)(?:\s+AS\s+(\S+))?", rest, re.IGNORECASE)
            if not found:
                raise Wrong(f"Dockerfile: not understood: {instruction}")
            stages.append(Stage(with_variables(found.group(1), variables), found.group(2) or ""))
        elif word in ("RUN", "COPY", "WORKDIR", "USER", "EXPOSE", "ENTRYPOINT", "CMD", "ARG") and stages:
            stages[-1].steps.append((word, rest))
        else:
            raise Wrong(f"Dockerfile: not understood: {instruction}")
    return stages


def copy_context(target):
    """The files that an engine would be sent: all but those that .dockerignore names."""
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    ignored = {line.strip() for line in ignored if line.strip() and not line.startswith("#")}
    for name in ignored:
        if not re.fullmatch(r"[\w.-]+", name):
            raise Wrong(f".dockerignore: not understood: {name}")
    for entry in sorted(REPOSITORY.iterdir()):
        if entry.name not in ignored:
            copy(entry, target / entry.name)


def copy(source, target):
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


# --- Stages


class Build:
    """The stages in folders below one: a stage's `/src` is DIR/<stage>/src."""

    def __init__(self, folder):
        self.folder = folder
        self.stages = read_dockerfile((REPOSITORY / "Dockerfile").read_text())
        self.roots = {}

    def named(self, name):
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise Wrong(f"Dockerfile: there is no stage '{name}'")

    def build(self, stage):
        """Its folder; made by its steps unless it was already."""
        if id(stage) in self.roots:
            return self.roots[id(stage)]
        if re.match(r"rust:[\d.]+-bookworm", stage.image):
            root = self.with_rust(stage)
        elif stage.image.startswith("debian:bookworm"):
            root = self.with_debian(stage)
        elif any(other.name == stage.image for other in self.stages):
            # Nothing else is made from that stage here, so it can be gone on with.
            root = self.build(self.named(stage.image))
            self.in_root(stage, root)
        else:
            raise Wrong(f"Dockerfile: the image {stage.image} is not known here")
        self.roots[id(stage)] = root
        return root

    def with_rust(self, stage):
        root = self.folder / stage.name
        root.mkdir()
        wanted = stage.image.removeprefix("rust:").split("-")[0]
        if not run(["cargo", "--version"], capture_output=True).startswith(f"cargo {wanted}."):
            print(f"image: this machine's Rust is another than {wanted}")
        directory, arguments = None, {}
        for word, rest in stage.steps:
            if word == "ARG" and "=" in rest:
                name, _, default = rest.partition("=")
                arguments[name] = ARGUMENTS.get(name, default)
            elif word == "WORKDIR" and rest.startswith("/"):
                directory = root / rest.lstrip("/")
                directory.mkdir(parents=True, exist_ok=True)
            elif word == "COPY" and directory:
                self.copy_into(rest, directory, directory)
            elif word == "RUN" and directory:
                if re.search(r"""(^|[\s'"=>:])/(?!dev/null\b)""", rest):
                    raise Wrong(f"Dockerfile: an absolute path in a step of the stage '{stage.name}': {rest}")
                # What cargo is told by this machine is no part of the image.
                mine = {name: value for name, value in os.environ.items() if name not in ("CARGO_TARGET_DIR", *ARGUMENTS)}
                with timed(f"{stage.name}: {rest[:70]}"):
                    run(["sh", "-c", rest], cwd=directory, env={**mine, **arguments})
            else:
                raise Wrong(f"Dockerfile: not understood in the stage '{stage.name}': {word} {rest}")
        return root

    def with_debian(self, stage):
        root = self.folder / "root"
        sources = [path for path in Path("/etc/apt").glob("sources.list.d/*.sources") if "bookworm" in path.read_text()]
        options = run(["apt-config", "dump"], capture_output=True).splitlines()
        options = [line for line in options if re.match(r"Acquire::(.*Proxy|Check-|Retries)", line)]
        with timed(f"{stage.name}: a minimal Debian for {stage.image}"):
            run(
                ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
                + [f"--aptopt={line}" for line in options]
                + ["bookworm", root]
                + [str(path) for path in sources],
                capture_output=True,
            )
        self.in_root(stage, root)
        return root

    def in_root(self, stage, root):
        """The steps of a stage whose root is a whole system. What describes how it is run is not done but kept."""
        for word, rest in stage.steps:
            if word == "RUN":
                with timed(f"{stage.name or 'image'}: {rest[:70]}"):
                    run(["chroot", root, "/bin/sh", "-c", rest], env=in_image(DEBIAN_FRONTEND="noninteractive"), capture_output=True)
            elif word == "COPY":
                self.copy_into(rest, root, None)
            elif word not in ("USER", "EXPOSE", "ENTRYPOINT", "CMD"):
                raise Wrong(f"Dockerfile: not understood in the stage '{stage.name}': {word} {rest}")

    def copy_into(self, rest, root, directory):
        found = re.fullmatch(r"(?:--from=(\S+)\s+)?([^-\s]\S*)\s+(\S+)", rest)
        if not found:
            raise Wrong(f"Dockerfile: not understood: COPY {rest}")
        stage, source, target = found.groups()
        if target.startswith("/"):
            target = root / target.lstrip("/")
        elif directory and target in (".", "./"):
            target = directory
        else:
            raise Wrong(f"Dockerfile: not understood: COPY {rest}")
        if stage:
            copy(self.build(self.named(stage)) / source.lstrip("/"), target)
        elif source == ".":
            copy_context(target)
        else:
            raise Wrong(f"Dockerfile: not understood: COPY {rest}")

    def runs_as(self, stage):
        """User, entry point and command of a stage, its own or those of the stage that it is made from."""
        settled = {}
        while True:
            for word, rest in stage.steps:
                if word in ("USER", "ENTRYPOINT", "CMD") and word not in settled:
                    settled[word] = rest
            if not any(other.name == stage.image for other in self.stages):
                return settled["USER"], json.loads(settled["ENTRYPOINT"]), json.loads(settled["CMD"])
            stage = self.named(stage.image)


def in_image(**more):
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **more}


# --- The compose file, as far as it says how a replica is run


def read_replica():
    """Command, environment and health check of a replica."""
    text = (REPOSITORY / "docker-compose.yml").read_text()
    block = re.search(r"^x-replica: &replica\n((?:  .*\n|\n)+)", text, re.MULTILINE)
    if not block:
        raise Wrong("docker-compose.yml: there is no x-replica")
    block = re.sub(r"^ *#.*\n", "", block.group(1), flags=re.MULTILINE)
    # The defaults of the variables: a desk's settings.
    block = re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", block)
    command = re.search(r"^  command: \[(.*)\]$", block, re.MULTILINE)
    check = re.search(r"^    test: \[CMD, (.*)\]$", block, re.MULTILINE)
    environment = re.search(r"^  environment:\n((?:    .*\n)+)", block, re.MULTILINE)
    if not (command and check and environment):
        raise Wrong("docker-compose.yml: command, environment or health check of x-replica are not understood")
    words = lambda found: [word.strip().strip('"') for word in found.group(1).split(",")]
    pairs = [line.strip().partition(": ") for line in environment.group(1).splitlines()]
    return words(command), {name: value.strip('"') for name, _, value in pairs}, words(check)


# --- The database


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def postgres(binaries, url):
    """A PostgreSQL with that URL's account and database on a free port of this machine; yields the URL that leads to it."""
    user, password, database = re.fullmatch(r"postgres://(\w+):(\w+)@postgres:5432/(\w+)", url).groups()
    folder = Path(tempfile.mkdtemp(prefix="cf-image-postgres-"))
    shutil.chown(folder, "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"]
    (folder / "password").write_text(password)
    (folder / "password").chmod(0o644)
    port, server = free_port(), None
    try:
        run([*as_postgres, binaries / "initdb", "-D", folder / "data", "-U", user, "--auth=scram-sha-256", "--pwfile", folder / "password",
             "--encoding=UTF8", "--no-locale", "--no-sync"], cwd="/", capture_output=True)
        server = subprocess.Popen(
            [*as_postgres, binaries / "postgres", "-D", folder / "data", "-p", str(port), "-k", "",
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        client = {**os.environ, "PGPASSWORD": password, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": user}
        is_ready = lambda: subprocess.run([binaries / "pg_isready", "-q"], env=client).returncode == 0
        wait_until("PostgreSQL is ready", is_ready, 30)
        run([binaries / "createdb", database], env=client, capture_output=True)
        yield f"postgres://{user}:{password}@127.0.0.1:{port}/{database}"
    finally:
        if server:
            os.killpg(server.pid, signal.SIGINT)
            server.wait(timeout=30)
        shutil.rmtree(folder)


def wait_until(what, holds, seconds):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Wrong(f"not within {seconds} s: {what}")
        time.sleep(0.1)


# --- The service in its image


class Image:
    def __init__(self, build, root):
        self.root = root
        self.user, self.entry_point, self.default = build.runs_as(build.stages[-1])

    def command(self, words):
        """As its user, without a capability or a way to get one."""
        uid, _, gid = self.user.partition(":")
        bare = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        return ["chroot", str(self.root), "setpriv", *bare, *words]

    def run(self, words, environment):
        done = subprocess.run(self.command(words), env=in_image(**environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr


def check(holds, otherwise):
    if not holds:
        raise Wrong(otherwise)


def try_bare_run(image):
    """A container that is given nothing says what it needs, in one line."""
    code, _, said = image.run([*image.entry_point, *image.default], {})
    check(code == 2 and len(said.splitlines()) == 1 and "DATABASE_URL" in said, f"started without a database: {code} {said}")


def try_service(image, binaries):
    command, environment, health = read_replica()
    port = free_port()
    with postgres(binaries, environment["DATABASE_URL"]) as url:
        # The containers' own addresses are this machine's here.
        environment = {**environment, "DATABASE_URL": url, "CLIENT_FAILOVER_LISTEN": f"127.0.0.1:{port}"}
        health = [word.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}") for word in health]
        check(any(str(port) in word for word in health), f"the health check asks another address: {health}")
        with tempfile.TemporaryFile("w+") as said:
            service = subprocess.Popen(image.command([*image.entry_point, *command]), env=in_image(**environment),
                                       stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            try:
                is_healthy = lambda: service.poll() is None and image.run(health, environment)[0] == 0
                wait_until("the health check succeeds", is_healthy, 30)
                try_commands(image, environment, f"http://127.0.0.1:{port}")
                service.send_signal(signal.SIGTERM)
                check(service.wait(timeout=20) == 0, f"it ended with {service.returncode}")
            except BaseException:
                service.kill()
                service.wait()
                said.seek(0)
                print(said.read()[-4000:])
                raise


def try_commands(image, environment, url):
    """What the documents have one do in a container."""
    code, shown, said = image.run(["client-failover", "version", "--server", url], {})
    check(code == 0 and shown.count(ARGUMENTS["SOURCE_COMMIT"]) == 2, f"the commit is not told: {code} {shown}{said}")
    key = ["client-failover", "keys", "create", "prometheus", "--tenant", "*", "--role", "viewer"]
    code, made, said = image.run(key, environment)
    check(code == 0 and "cfk_" in made, f"no key can be made in the image: {code} {made}{said}")
    code, shown, said = image.run(["client-failover", "status", "--server", url], {})
    check(code == 0, f"a command in the image cannot ask the service: {code} {shown}{said}")
    # The authorities are there: what fails is the other side, which speaks no TLS.
    code, _, said = image.run(["client-failover", "status", "--server", url.replace("http:", "https:")], {})
    check(code != 0 and "authorit" not in said, f"https:// in the image: {code} {said}")


def find_postgres():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


def main():
    arguments = sys.argv[1:]
    if arguments and (len(arguments) != 2 or arguments[0] != "--keep"):
        sys.exit("usage: tests/deploy/image.py [--keep DIR]")
    folder = Path(arguments[1]) if arguments else Path(tempfile.mkdtemp(prefix="cf-image-"))
    if arguments:
        folder.mkdir(parents=True)
    try:
        build = Build(folder.resolve())
        with timed("the build stage"):
            build.build(build.named("build"))
        binaries = find_postgres()
        missing = [what for what, is_there in [("root", os.geteuid() == 0), ("mmdebstrap", shutil.which("mmdebstrap")),
                                               ("PostgreSQL", binaries)] if not is_there]
        if missing:
            print(f"image: the runtime stage is skipped: it needs {' and '.join(missing)}")
            return
        with timed("the runtime stage"):
            image = Image(build, build.build(build.stages[-1]))
        with timed("the service in its image"):
            try_bare_run(image)
            try_service(image, binaries)
        print("image: everything held")
    finally:
        # With --keep the root goes too: nobody needs a second Debian.
        shutil.rmtree(folder / "root" if arguments else folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"image: FAIL: {wrong}")
