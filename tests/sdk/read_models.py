"""Writes ``schemas/genesys_models.json`` again, from the public SDKs of Genesys Cloud: ``make models``.

The Python package has types, values of enums and descriptions; only the JavaScript one says which fields are
required. Both are taken from their registries, by ``pip download`` and ``npm pack``, into a directory that is
left empty. Where the newest JavaScript package is older, what it does not know counts as optional.
"""

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[2] / "ingestd/schemas/genesys_models.json"
PYTHON, JAVASCRIPT = "PureCloudPlatformClientV2", "purecloud-platform-client-v2"
PYTHON_VERSION, JAVASCRIPT_VERSION = "269.0.0", "262.0.0"
WANTED = (
    *("BatchConversationEventRequest", "BatchUserPresenceEventRequest", "BatchUserRoutingStatusEventRequest"),
    *("BatchPredictiveRoutingCustomKpiAttributionEventRequest", "BatchEventResponse"),
    *("ExternalEventsRequest", "ExternalEventsResponse", "WebhookInvocationResponse"),
    *("CreateIntegrationRequest", "Integration", "IntegrationConfiguration"),
    *("CreateTriggerRequest", "UpdateTriggerRequest", "Trigger"),
    *("CreateExternalEventsConfigurationRequest", "UpdateExternalEventsConfigurationRequest"),
    *("ExternalEventsConfiguration", "JourneyJsonSchemaRequest", "JourneySchemaUpdateRequest"),
    *(
        "JourneyExternalEventsSchema",
        "Source",
        "CreateScheduledTriggerRequest",
        "UpdateScheduledTriggerRequest",
    ),
)
"""With all that they are made of."""
OPAQUE = {"IntegrationType", "IntegrationConfigurationInfo", "CredentialInfo", "DomainEntityRef"}
"""Objects whose members are the platform's own business."""
SOURCE_IDS = {"sourceId", "externalSourceId"}
"""Each model has its own idea of them; any other name that one model says is a UUID is one in all."""
TYPES = {"str": "text", "bool": "boolean", "int": "integer", "float": "number", "datetime": "time"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sdk.read_models")
    parser.add_argument("--python", default=PYTHON_VERSION)
    parser.add_argument("--javascript", default=JAVASCRIPT_VERSION)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        python, interfaces = fetch(Path(place), given.python, given.javascript)
        models = read(python, interfaces)
    read_from = {PYTHON: given.python, JAVASCRIPT: given.javascript, "on": date.today().isoformat()}  # noqa: DTZ011
    TABLE.write_text(as_text({"readFrom": read_from}, models), encoding="utf-8")
    sys.stdout.write(f"{TABLE}: {len(models)} models\n")


def fetch(place: Path, python: str, javascript: str) -> tuple[dict[str, str], str]:
    """(Python source of each model by its file's name, the text of index.d.ts)."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place)]
    subprocess.run([*pip, f"{PYTHON}=={python}"], check=True)
    subprocess.run(["npm", "pack", "--silent", f"{JAVASCRIPT}@{javascript}"], check=True, cwd=place)
    (wheel,), (package,) = place.glob("*.whl"), place.glob("*.tgz")
    with zipfile.ZipFile(wheel) as files:
        names = [name for name in files.namelist() if re.search(r"/models/\w+\.py$", name)]
        sources = {Path(name).stem: files.read(name).decode() for name in names}
    with tarfile.open(package) as files:
        interfaces = files.extractfile("package/index.d.ts")
        assert interfaces is not None
        return sources, interfaces.read().decode()


def read(python: dict[str, str], interfaces: str) -> dict[str, dict[str, Any]]:
    """Model -> field -> what it may be; those of WANTED and what they are made of."""
    sources = {
        match[1]: text for text in python.values() if (match := re.search(r"class (\w+)\(object\)", text))
    }
    models: dict[str, dict[str, Any]] = {}
    waiting = list(WANTED)
    while waiting:
        name = waiting.pop()
        if name in models or name in OPAQUE:
            continue
        required = required_in(interfaces, name)
        models[name] = {field: spec | required.get(field, {}) for field, spec in fields_of(sources[name])}
        waiting += [
            spec["type"].strip("[]{}") for spec in models[name].values() if spec.get("type", "")[-1:] != "?"
        ]
        waiting = [one for one in waiting if one in sources]
    settle_ids(models)
    return dict(sorted(models.items()))


def fields_of(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    types = pairs(source, "swagger_types")
    for attribute, name in pairs(source, "attribute_map").items():
        said = re.search(rf"Gets the {attribute} of this \w+\.\n(.*?)\n\n", source, re.DOTALL)
        words = " ".join(said[1].split()) if said else ""
        setter = source.split(f"def {attribute}(self, {attribute}")[1].split(f"self._{attribute} =")[0]
        values = re.search(r"allowed_values = \[(.*?)\]", setter, re.DOTALL)
        spec: dict[str, Any] = {"type": type_of(types[attribute], words)}
        if values:
            spec["enum"] = re.findall(r'"([^"]*)"', values[1])
        yield name, spec


def pairs(source: str, table: str) -> dict[str, str]:
    return dict(re.findall(r"'([^']+)': '([^']+)'", source.split(f"self.{table} = {{")[1].split("}")[0]))


def type_of(said: str, words: str) -> str:
    """``[x]`` is a list of x, ``{x}`` an object of such values, a name with a capital another model."""
    if inner := re.fullmatch(r"list\[(.*)\]", said):
        return f"[{type_of(inner[1], words)}]"
    if inner := re.fullmatch(r"dict\(str, (.*)\)", said):
        return f"{{{type_of(inner[1], '')}}}"
    if said == "str" and re.search(r"\bUUID\b", words):
        return "uuid"
    if said in OPAQUE:
        return "{any}"
    return TYPES.get(said, "any" if said == "object" else said)


def required_in(interfaces: str, name: str) -> dict[str, dict[str, Any]]:
    found = re.search(rf"export interface {name} \{{ \n(.*?)\n\t\}}", interfaces, re.DOTALL)
    names = re.findall(r'"([^"]+)": ', found[1]) if found else []
    return {field: {"required": True} for field in names}


def settle_ids(models: dict[str, dict[str, Any]]) -> None:
    """Some descriptions of an id leave out that it is a UUID."""
    fields = [
        (name, spec) for model, of in models.items() if model.endswith("Event") for name, spec in of.items()
    ]
    said = {name for name, spec in fields if spec["type"].strip("[]") == "uuid"} - SOURCE_IDS
    for name, spec in fields:
        if name in said:
            spec["type"] = spec["type"].replace("text", "uuid")


def as_text(head: dict[str, Any], models: dict[str, dict[str, Any]]) -> str:
    """A line for each model, so that what changes is seen."""
    lines = [f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in models.items()]
    return json.dumps(head)[:-1] + ', "models": {\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    main()
