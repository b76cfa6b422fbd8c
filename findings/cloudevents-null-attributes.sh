#!/usr/bin/env bash
# Three SDKs of CloudEvents and one event whose optional attributes are null. The JSON format (2.2) lets a sender write
# an unset attribute as null, and a receiver must take it as absent. PyPI cloudevents 2.2.0 refuses `subject`,
# `dataschema` and `datacontenttype`, and fails with a TypeError at `time`. Java's cloudevents-json-jackson 4.0.1 gives
# an extension the text "null": with cloudevents-kafka, whose interceptor makes the record's key of `partitionkey`, all
# events without a key get the key "null", and one partition. npm cloudevents 10.0.0 keeps a null extension, and in
# binary mode its header has the value null, which fetch sends as the text.
# ingestd reads null as absent and leaves it out of headers (docs/service.md, docs/sinks/cloudevents.md).
# Needs Python 3.10, Node 18, Java 17 and Maven. Exits 1 when one of them has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT; cd "$place"
python3 -m venv venv
timeout 300 venv/bin/pip install --quiet --disable-pip-version-check cloudevents==2.2.0
timeout 300 npm install --silent --no-audit --no-fund cloudevents@10.0.0
cat > pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><dependencies><dependency>
<groupId>io.cloudevents</groupId><artifactId>cloudevents-json-jackson</artifactId><version>4.0.1</version>
</dependency><dependency>
<groupId>io.cloudevents</groupId><artifactId>cloudevents-kafka</artifactId><version>4.0.1</version>
</dependency></dependencies></project>
POM
timeout 300 mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib >/dev/null

cat > null.py <<'PY'
import json

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event

for name in ("subject", "dataschema", "datacontenttype", "time", "partitionkey"):
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", name: None}
    message = HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(event).encode())
    try:
        from_structured_event(message)
        print("python", name, "taken")
    except Exception as error:
        print("python", name, type(error).__name__)
PY
cat > null.mjs <<'JS'
import { HTTP } from "cloudevents";

const body = '{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":null,"partitionkey":null}';
const event = HTTP.toEvent({ headers: { "content-type": "application/cloudevents+json" }, body });
const headers = new Headers(HTTP.binary(event).headers); // as fetch sends them
const shown = (name) => JSON.stringify(headers.get(name));
console.log("javascript", "ce-subject", shown("ce-subject"), "ce-partitionkey", shown("ce-partitionkey"));
JS
cat > Null.java <<'JAVA'
import io.cloudevents.CloudEvent;
import io.cloudevents.core.provider.EventFormatProvider;
import io.cloudevents.kafka.PartitionKeyExtensionInterceptor;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.clients.producer.ProducerRecord;

public class Null {
    static final String EVENT =
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"subject\":null,\"partitionkey\":null}";

    static String shown(Object value) {
        return value == null ? "absent" : value.getClass().getSimpleName() + ":" + value;
    }

    public static void main(String[] arguments) {
        CloudEvent event = EventFormatProvider.getInstance().resolveFormat("application/cloudevents+json")
            .deserialize(EVENT.getBytes(StandardCharsets.UTF_8));
        Object key = new PartitionKeyExtensionInterceptor().onSend(new ProducerRecord<>("topic", event)).key();
        System.out.println("java subject " + shown(event.getSubject())
            + " partitionkey " + shown(event.getExtension("partitionkey")) + " record's key " + shown(key));
    }
}
JAVA
javac -nowarn -cp 'lib/*' Null.java 2>/dev/null
cat > expected <<'EXPECTED'
python subject CloudEventValidationError
python dataschema CloudEventValidationError
python datacontenttype CloudEventValidationError
python time TypeError
python partitionkey taken
javascript ce-subject null ce-partitionkey "null"
java subject absent partitionkey String:null record's key String:null
EXPECTED
echo "PyPI cloudevents 2.2.0, npm cloudevents 10.0.0, Maven io.cloudevents 4.0.1: attributes that are null"
{ venv/bin/python null.py; node null.mjs; java -cp 'lib/*:.' Null 2>/dev/null; } | tee out
cmp -s out expected || { echo "changed"; exit 1; }
