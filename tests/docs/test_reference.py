"""The generated pages are those that the code makes now."""

import pytest

from tests.docs import reference


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_of_the_reference_is_what_the_code_says_now(name: str) -> None:
    made = reference.make(name)
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == made, "run `make reference`"


def test_every_page_of_the_reference_is_made() -> None:
    assert {path.name for path in reference.FOLDER.iterdir()} == reference.PAGES.keys()
