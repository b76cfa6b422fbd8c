"""Every setting, its default and its cross-checks; the only reader of configuration files and environment.

``sections`` says what can be set, ``settings`` what fits together, ``loading`` where values come from,
``login`` resolves where to send, ``show`` shows it all. A component is handed its own section, never
the tree.
"""

from ingestd.config.api_login import (
    Login,
    find_login,
    find_state_directory,
    resolve_login,
    state_base,
    state_directory,
)
from ingestd.config.ingest_section import IngestConfig, ProducerConfig, TlsConfig
from ingestd.config.loading import ConfigFile, Overrides, load, load_with_origins
from ingestd.config.sections import (
    AdminConfig,
    ApiConfig,
    AuditConfig,
    BatchConfig,
    ConsoleTokenConfig,
    DeliveryConfig,
    LettersConfig,
    LogConfig,
    MetricsConfig,
    SchemaConfig,
    StateConfig,
    WindowConfig,
)
from ingestd.config.settings import Settings, check_run, doubts
from ingestd.config.spool_section import SpoolConfig

__all__ = [
    "AdminConfig",
    "ApiConfig",
    "AuditConfig",
    "BatchConfig",
    "ConfigFile",
    "ConsoleTokenConfig",
    "DeliveryConfig",
    "IngestConfig",
    "LettersConfig",
    "LogConfig",
    "Login",
    "MetricsConfig",
    "Overrides",
    "ProducerConfig",
    "SchemaConfig",
    "Settings",
    "SourceConfig",
    "SpoolConfig",
    "StateConfig",
    "TlsConfig",
    "WindowConfig",
    "check_run",
    "doubts",
    "find_login",
    "find_state_directory",
    "load",
    "load_with_origins",
    "resolve_login",
    "state_base",
    "state_directory",
]
