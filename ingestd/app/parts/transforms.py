"""Transforms that several processes cannot make as one does: refused in words."""

from collections.abc import Iterator, Sequence

from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.core.json_path import Path, parse
from ingestd.core.transform_section import TransformConfig
from ingestd.processing.transforms.fields import leaves
from ingestd.schemas.key_paths import KeyPaths
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.wiring.factories import sections_of


def check_transforms(settings: Settings) -> None:
    """Raises UserError."""
    for name, section in sections_of(settings).items():
        for place, step in _steps(settings, name, section):
            if (
                step.redact
                and step.method == "hash"
                and not (step.secret.get_secret_value() or step.secret_file)
            ):
                raise UserError(
                    f"{place}: with --workers redact needs a secret or secret_file: the key that is made"
                    " without one is another in each process, so one value would become several"
                )
            for path in _order_of(settings, section):
                if _may_set(step, path):
                    raise UserError(
                        f"{place} may set what sinks.{name} keeps its order by: with --workers events are"
                        " split by what stands there when they come, so leave --workers away, or the order"
                    )


def _steps(settings: Settings, name: str, section: HttpSinkConfig) -> Iterator[tuple[str, TransformConfig]]:
    for setting, steps in (
        ("transforms", settings.transforms),
        (f"sinks.{name}.transforms", section.transforms),
    ):
        for number, step in enumerate(steps, 1):
            yield f"step {number} of {setting}", step


def _order_of(settings: Settings, section: HttpSinkConfig) -> Sequence[Path]:
    order_by = settings.delivery.order_by if section.order_by is None else section.order_by
    return KeyPaths.parse(order_by).paths if order_by else ()


def _may_set(step: TransformConfig, path: Path) -> bool:
    """Whether two events that differ at ``path`` may be alike there after it. What a hash makes of two values
    are two, and what is gone has no order to keep."""
    if step.jq or step.python:
        return True
    masked = step.redact if step.method == "mask" else []
    places = [parse(one) for one in (*step.rename.values(), *step.template, *masked)]
    for name, value in step.set.items():
        places += [place for place, _ in leaves(parse(name), value)]
    return any(_meet(place, path) for place in places)


def _meet(one: Path, other: Path) -> bool:
    """Whether one stands at the other, or within it."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
