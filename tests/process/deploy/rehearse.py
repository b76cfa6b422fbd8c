"""Goes through the Dockerfile without a container engine: ``make rehearse-image``, as root.

Its argument is a Debian root, made by debootstrap, that stands for the base image; it is left alone. Each
stage is a copy of it, each RUN is run in there, each COPY copies what .dockerignore lets through. At the end
the image's command is asked for its version, as the image's user and on a root that is read-only.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).parents[3]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MACHINE = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
"""Of this machine: names, authorities and where packages come from."""


def instructions(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        yield word.upper(), rest.strip()


class Stage:
    def __init__(self, base: Path, root: Path) -> None:
        subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True)
        self.root, self.directory, self.user = root, "/", "0:0"
        self.environment = {"PATH": PATH, "HOME": "/root"}
        self.arguments: dict[str, str] = {}
        for name in filter(os.path.isfile, MACHINE):
            (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            (root / name[1:]).unlink(missing_ok=True)
            shutil.copyfile(name, root / name[1:])
        for name in ("python", "pip"):  # as the base image calls them
            link = root / "usr/local/bin" / name
            if not link.is_symlink():
                link.symlink_to(f"/usr/bin/{name}3")

    def run(self, command: str) -> None:
        outer = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        subprocess.run(
            ["chroot", self.root, "/bin/sh", "-c", f"cd {self.directory} && {command}"],
            env={**outer, **self.environment, **self.arguments},
            check=True,
        )

    def copy(self, sources: list[Path], target: str) -> None:
        place = self.root / os.path.join(self.directory, target).lstrip("/")
        for source in sources:
            into = place / source.name if target.endswith("/") else place
            into.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(
                    source,
                    into,
                    symlinks=True,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
                )
            else:
                shutil.copyfile(source, into)

    def ask_version(self, entrypoint: list[str]) -> str:
        user, group = self.user.split(":")
        inside = shlex.join(
            ["chroot", f"--userspec={user}:{group}", str(self.root), *entrypoint, "--version"]
        )
        read_only = (
            f"mount --bind {self.root} {self.root} && mount -o remount,bind,ro {self.root} && {inside}"
        )
        done = subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-c", read_only],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


def check_sent(paths: list[str]) -> None:
    """Whether .dockerignore, which begins with *, lets the builder have them."""
    lines = (TREE / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if missing := [path for path in paths if f"!{path}" not in lines]:
        raise SystemExit(f"COPY {missing[0]}: .dockerignore keeps it from the builder")


def rehearse(base: Path, place: Path) -> str:
    stages: dict[str, Stage] = {}
    entrypoint: list[str] = []
    stage = Stage.__new__(Stage)
    for word, rest in instructions((TREE / "Dockerfile").read_text(encoding="utf-8")):
        sys.stdout.write(f"{word} {rest}\n")
        sys.stdout.flush()
        words = shlex.split(rest) if word in ("COPY", "ENV", "ARG") else []
        if word == "FROM":
            name = rest.split()[-1] if " AS " in rest.upper() else str(len(stages))
            stage = stages[name] = Stage(base, place / name)
        elif word == "RUN":
            stage.run(rest)
        elif word == "COPY":
            origin = TREE
            if words[0].startswith("--from="):
                origin = stages[words.pop(0).removeprefix("--from=")].root
            else:
                check_sent(words[:-1])
            stage.copy([origin / one.lstrip("/") for one in words[:-1]], words[-1])
        elif word == "ENV":
            for name, _, value in (one.partition("=") for one in words):
                stage.environment[name] = value.replace("$PATH", stage.environment["PATH"])
        elif word == "ARG":
            stage.arguments |= {name: value for name, _, value in (one.partition("=") for one in words)}
        elif word == "WORKDIR":
            stage.directory = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word == "ENTRYPOINT":
            entrypoint = json.loads(rest)
    return stage.ask_version(entrypoint)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as place:
        sys.stdout.write(f"{rehearse(Path(sys.argv[1]), Path(place))}\n")


if __name__ == "__main__":
    main()
