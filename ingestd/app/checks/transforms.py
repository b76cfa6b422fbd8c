"""Transforms of every sink: whether they can run, what they do that is probably not meant, and what
the tests of a configuration say. No network."""

from collections.abc import Iterator

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Settings
from ingestd.core.json_path import Path, names, parse
from ingestd.core.transform_section import TransformConfig
from ingestd.schemas.key_paths import KeyPaths
from ingestd.sinks.lake import LakeConfig
from ingestd.wiring.factories import sections_of

_MAX_LISTED = 5


def check_transforms(settings: Settings) -> Iterator[Finding]:
    """Raises UserError: which step is wrong, and why."""
    sections = sections_of(settings)
    if not (settings.transforms or any(section.transforms for section in sections.values())):
        return
    from ingestd.app.transforms import programs  # only for those who have some

    for name in programs(settings):
        section = sections[name]
        steps = [*settings.transforms, *section.transforms]
        yield ok("transforms", f"{name}: {', '.join(step.action for step in steps)}")
        order_by = settings.delivery.order_by if section.order_by is None else section.order_by
        for path in KeyPaths.parse(order_by).paths if order_by else ():
            if any(_takes_away(step, path) for step in steps):
                words = f"its order_by is {names(path)}, and a step takes that away: there is no order then"
                yield warn("transforms", f"{name}: {words}")
    for name, lake in settings.sinks.items():
        if settings.transforms and isinstance(lake, LakeConfig) and lake.of == "accepted":
            yield warn("transforms", f"{name} (lake) keeps what was accepted as it came, without transforms")


def check_tests(settings: Settings) -> Iterator[Finding]:
    """Raises UserError: which test cannot be made, and why."""
    if not settings.tests:
        return
    from ingestd.app.transforms import results_of  # only for those who have some

    results = [*results_of(settings)]
    wrong = [one for one in results if one.wrong]
    for one in wrong[:_MAX_LISTED]:
        yield fail("tests", f"{one.name}: {one.wrong[0]}")
    if wrong:
        words = f"{len(wrong)} of {len(results)} are not as expected: see `ingestd test`"
        yield fail("tests", words)
    else:
        yield ok("tests", f"{len(results)} of {len(results)} are as expected")


def _takes_away(step: TransformConfig, path: Path) -> bool:
    """Whether nothing stands at ``path`` after it, of some events at least."""
    gone = [parse(one) for one in (*step.remove, *step.rename)]
    if any(path[: len(one)] == one for one in gone):
        return True
    kept = [parse(one) for one in step.keep]
    return bool(kept) and not any(one[: len(path)] == path or path[: len(one)] == one for one in kept)
