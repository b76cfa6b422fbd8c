"""The HTTP client and OAuth2, used by delivery and control."""

import sys

# httpx imports its own command line where click and rich are installed, as they are here: a tenth of
# a second and ten megabytes for nothing. It copes with their absence, so its module is marked absent.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
