sed 's|https://[a-z]*\.example\.com|http://127.0.0.1:8700|' page.toml > ingestd.toml
ingestd sandbox --port 8700 --quiet &
export AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=eu-central-1 # pragma: allowlist secret
cat > aws.py <<'PYTHON'
import json, logging, os, time
import botocore.session

port = os.environ.get("TESTS_MOTO")  # of the run, see tests/moto_of_run.py
if not port:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
url = f"http://127.0.0.1:{port}"
sqs = botocore.session.get_session().create_client("sqs", region_name="eu-central-1", endpoint_url=url)
queue = sqs.create_queue(QueueName="genesys-events")["QueueUrl"]
for id, topic in (("e-1", "v2.detail.events.conversation.c-1.user.start"), ("e-1", "v2.detail.events.conversation.c-1.user.start"), ("e-2", "v2.users.u-1.presence")):
    event = {"topicName": topic, "conversationId": "c-1"}
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"id": id, "source": "aws.partner/genesys.com", "detail": event}))
open("aws.url", "w").write(queue)
if "server" in globals():
    time.sleep(300)
PYTHON
python3 aws.py &
until [ -s aws.url ]; do sleep 0.1; done
sed -i "s|https://sqs[^\"]*|$(cat aws.url)|" ingestd.toml
