#!/usr/bin/env bash
# event-ruler 2.1.0 (AWS's open matcher of EventBridge patterns): in a list of objects, whether an absent
# field is looked for in the same element as its neighbour, or in all elements, depends on its name: names
# behind the neighbour's in the alphabet are looked for in the same element, names before it in all of them.
# Needs Java 17 and Maven. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT; cd "$place"

cat > pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><dependencies><dependency>
<groupId>software.amazon.event.ruler</groupId><artifactId>event-ruler</artifactId><version>2.1.0</version>
</dependency></dependencies></project>
POM
mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib >/dev/null

cat > Absence.java <<'JAVA'
import software.amazon.event.ruler.Machine;

public class Absence {
    public static void main(String[] names) throws Exception {
        for (String name : names) {
            Machine machine = new Machine();
            machine.addRule("rule", "{\"items\":{\"sku\":[\"A\"],\"" + name + "\":[{\"exists\":false}]}}");
            String event = "{\"items\":[{\"sku\":\"A\"},{\"sku\":\"B\",\"" + name + "\":true}]}";
            System.out.println(name + " " + (machine.rulesForJSONEvent(event).isEmpty() ? "no" : "match"));
        }
    }
}
JAVA
javac -nowarn -cp 'lib/*' Absence.java 2>/dev/null
echo "event-ruler 2.1.0: sku A, and no field NAME, against [{sku A}, {sku B, NAME true}]"
java -cp 'lib/*:.' Absence cancelled removed sku0 voided | tee out
[ "$(tr '\n' ' ' < out)" = "cancelled no removed no sku0 match voided match " ] || { echo "changed"; exit 1; }
