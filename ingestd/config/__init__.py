"""Every setting, its default and its cross-checks; the only reader of configuration files and environment.

``sections`` says what can be set, ``settings`` what fits together, ``places`` where values come from,
``login`` resolves where to send, ``listing`` shows it all. A component is handed its own section, never
the tree.
"""

from ingestd.config.login import Login, find_login, resolve_login, state_directory
from ingestd.config.places import Overrides, load, load_with_origins
from ingestd.config.sections import (
    Admin,
    Api,
    Audit,
    Batch,
    Delivery,
    Ingest,
    Letters,
    Log,
    Metrics,
    Producer,
    Schema,
    Source,
    Spool,
    State,
    Tls,
    Window,
)
from ingestd.config.settings import Settings, check_run, doubts

__all__ = [
    "Admin",
    "Api",
    "Audit",
    "Batch",
    "Delivery",
    "Ingest",
    "Letters",
    "Log",
    "Login",
    "Metrics",
    "Overrides",
    "Producer",
    "Schema",
    "Settings",
    "Source",
    "Spool",
    "State",
    "Tls",
    "Window",
    "check_run",
    "doubts",
    "find_login",
    "load",
    "load_with_origins",
    "resolve_login",
    "state_directory",
]
