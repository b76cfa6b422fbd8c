#!/usr/bin/env bash
# event-ruler 2.1.0 (AWS's open matcher of EventBridge patterns): a field that may be a text or in a numeric
# range, beside a `$or`. One pattern and one event give match or no match by chance: machines built one after
# the other in the same way disagree.
# Needs Java 17 and Maven. Exits 1 when all machines agree.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT; cd "$place"

cat > pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><dependencies><dependency>
<groupId>software.amazon.event.ruler</groupId><artifactId>event-ruler</artifactId><version>2.1.0</version>
</dependency></dependencies></project>
POM
mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib >/dev/null

cat > Chance.java <<'JAVA'
import software.amazon.event.ruler.Machine;

public class Chance {
    static final String PATTERN =
        "{\"b\":[\"f\",{\"numeric\":[\"<\",1]}],\"$or\":[{\"c\":[\"X\"]},{\"d\":[\"D\"]}]}";
    static final String EVENT = "{\"b\":\"f\",\"c\":\"X\"}";

    public static void main(String[] arguments) throws Exception {
        int matched = 0;
        for (int i = 0; i < 300; i++) {
            Machine machine = new Machine();
            machine.addRule("rule", PATTERN);
            if (!machine.rulesForJSONEvent(EVENT).isEmpty()) matched++;
        }
        System.out.println("event-ruler 2.1.0: " + PATTERN + " against " + EVENT);
        System.out.println(matched + " of 300 machines match");
        System.exit(matched > 0 && matched < 300 ? 0 : 1);
    }
}
JAVA
javac -nowarn -cp 'lib/*' Chance.java 2>/dev/null
java -cp 'lib/*:.' Chance || { echo "changed: they agree"; exit 1; }
