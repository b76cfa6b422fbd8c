"""A plan on disk, to be approved before its apply. Apply refuses it if the resources have changed since."""

import json
from pathlib import Path
from typing import Any

from ingestd.control.engine.plan import Plan
from ingestd.core.errors import UserError

MAX_FILE_BYTES = 64 * 1024**2


def save_plan(path: Path, plan: Plan) -> None:
    """As JSON, without secrets, for the owner alone. Raises UserError."""
    try:
        path.touch(mode=0o600)
        path.write_text(json.dumps(plan.as_json(), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write the plan {path}: {error.strerror}") from None


def check_plan(path: Path, plan: Plan) -> None:
    """That ``plan``, made just now, does what the file says, to the same resources. Raises UserError."""
    saved = _read(path)
    if saved.get("api") != plan.base:
        raise UserError(f"{path} is a plan for {str(saved.get('api'))[:200]}, not for {plan.base}")
    if saved.get("fingerprint") == plan.fingerprint:
        return
    before, now = _steps(saved), _steps(plan.as_json())
    moved = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    what = ", ".join(
        f"{name} ({before.get(name, 'nothing')} -> {now.get(name, 'nothing')})" for name in moved[:5]
    )
    raise UserError(
        f"{path}: the resources or the file changed since{f': {what}' if what else ''}. Run plan again."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            saved = json.loads(file.read(MAX_FILE_BYTES))
    except OSError as error:
        raise UserError(f"cannot read the plan {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        saved = None
    if not isinstance(saved, dict) or saved.get("format") != 1 or not isinstance(saved.get("changes"), list):
        raise UserError(f"{path} is not a plan: make one with `ingestd plan --out`")
    return saved


def _steps(plan: dict[str, Any]) -> dict[str, str]:
    """Name of each resource -> what is done to it."""
    steps = [one for one in plan["changes"] if isinstance(one, dict)]
    return {f"{one.get('kind')}.{one.get('name')}": str(one.get("action")) for one in steps}
