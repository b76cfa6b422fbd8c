"""A page's commands, run in one shell: ``bash`` as it stands, ``console`` command by command."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import Block, Page
from tests.machine import patience
from tests.ports import free_port

SETUP = Path(__file__).parent / "setup"
PORTS = ("8700", "8080", "9464")
"""Of the sandbox, the service and its admin address: others are used in their place."""


@dataclass(frozen=True)
class Step:
    """``shown``: lines of output that stand in the page. ``whole``: these and no others."""

    block: Block | None
    script: str
    shown: list[str] = field(default_factory=list)
    whole: bool = False
    code_is_asked: bool = False


def steps(page: Page) -> list[Step]:
    """What the page shows, in its order; before it, what its ``setup`` file has."""
    prepared = SETUP / page.name.removeprefix("docs/").replace(".md", ".sh")
    found = [Step(None, prepared.read_text())] if prepared.exists() else []
    for block in page.blocks:
        if block.language == "bash":
            # a comment right under a command is its output; after an empty line it is a comment
            found.append(
                Step(block, block.text, re.findall(r"(?<=[^\n]\n)# (.*)$", block.text, re.MULTILINE))
            )
        elif block.language == "console":
            found += _commands(block)
    return found


def _commands(block: Block) -> list[Step]:
    runs = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)
    assert runs, f"{block.id}: no line begins with a dollar sign"
    asked = [words == "echo $?" for words, _ in runs[1:]] + [False]
    return [
        Step(block, words, shown.splitlines(), whole=bool(shown), code_is_asked=later)
        for (words, shown), later in zip(runs, asked, strict=True)
    ]


def run(page: Page, directory: Path, commands: Path) -> None:
    """Fails unless each command ends with 0 (or its code is shown) and prints what the page shows.

    ``commands``: a directory with the ``ingestd`` to use.
    """
    todo, ports = steps(page), {port: str(free_port()) for port in PORTS}
    if configurations := [block.text for block in page.blocks if block.language == "toml"]:
        (directory / "page.toml").write_text(configurations[0])  # for the page's setup
    done = subprocess.run(
        ["bash", "-uo", "pipefail", "-c", _script(todo, ports)],
        cwd=directory,
        env=_environment(directory, commands, ports),
        capture_output=True,
        text=True,
        timeout=patience(100),
    )
    assert "Traceback" not in done.stderr
    output = done.stdout
    for port, free in ports.items():
        output = output.replace(free, port)
    *printed, rest = re.split(r"\n@@ (\d+)\n", output)
    texts, codes = printed[::2], printed[1::2]
    for step, text, code in zip(todo, texts, codes, strict=False):
        _judge(page, step, text, int(code), done.stderr)
    assert len(codes) == len(todo), f"{page.name}: ended in {todo[len(codes)].script}\n{rest}\n{done.stderr}"


def _judge(page: Page, step: Step, text: str, code: int, errors: str) -> None:
    where = step.block.id if step.block else f"{page.name}, its setup"
    what = f"{where}: {step.script}\nprinted {text}\n{errors[-4000:]}"
    assert code == 0 or step.code_is_asked, f"exit code {code} of {what}"
    if step.whole:
        pattern = "".join("(?:.*\n)*" if line == "…" else _any(line) + "\n" for line in step.shown)
        assert re.fullmatch(pattern, text.rstrip("\n") + "\n"), f"other output of {what}"
    else:
        lines = iter(text.splitlines())
        missing = [line for line in step.shown if not any(re.fullmatch(_any(line), one) for one in lines)]
        assert missing == [], f"missing in the output of {what}"


def _any(line: str) -> str:
    return re.escape(line).replace("…", ".*?")


def _script(todo: list[Step], ports: dict[str, str]) -> str:
    lines = ["trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT", "set +e"]
    for step in todo:
        script = step.script
        for port, free in ports.items():
            script = re.sub(rf"(127\.0\.0\.1:|--port ){port}\b", rf"\g<1>{free}", script)
        # `--sandbox` of these means the usual port of a running one
        script = re.sub(
            r"^(ingestd (?!replay|dlq).* --sandbox)\b",
            rf"\1 --api http://127.0.0.1:{ports['8700']}",
            script,
            flags=re.MULTILINE,
        )
        # what it prints once it listens must not get between the lines of the next command
        listens = f"(: < /dev/tcp/127.0.0.1/{ports['8700']}) 2>/dev/null"
        wait = rf"\1 >/dev/null \2until {listens}; do sleep 0.05; done\n"
        script = re.sub(r"^(ingestd sandbox [^&\n]*)(&.*\n)", wait, script, flags=re.MULTILINE)
        whole_block = step.block is None or step.block.language == "bash"
        lines.append(f"set -e\n{script}\nset +e\n:" if whole_block else script)
        lines.append("code=$?; printf '\\n@@ %s\\n' $code; (exit $code)")
    return "\n".join(lines)


def _environment(directory: Path, commands: Path, ports: dict[str, str]) -> dict[str, str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("INGESTD_", "GENESYS_"))
    }
    return {
        **clean,
        "PATH": os.pathsep.join((str(commands), str(Path(sys.executable).parent), os.environ["PATH"])),
        "XDG_STATE_HOME": str(directory / "xdg"),
        "INGESTD_INGEST_LISTEN": f"127.0.0.1:{ports['8080']}",
        "INGESTD_ADMIN_LISTEN": f"127.0.0.1:{ports['9464']}",
        "COLUMNS": "100",
    }
