"""moto on a socket that it is given: ``python -m tests.moto_server PORT FD``. See ``tests/aws.py``.

It ends with its parent, when its standard input closes, and imports moto when it is asked for the first time.
Three things are put right, of queues:

- A group of a FIFO queue is given to one consumer only. moto looks which are on their way, and then takes
  messages, while others do the same.
- A request that waits sees what has come free meanwhile.
- A look at the clock makes no dates: there are thousands of them in a request.
"""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_LOOKS_S = 0.05
_turn = threading.RLock()


def put_right(models: Any) -> None:
    backend = models.SQSBackend
    once = backend.receive_message

    def receive_message(self: Any, queue: str, count: int, wait_s: float, *more: Any) -> Any:
        end = time.monotonic() + wait_s
        while True:
            with _turn:
                found = once(self, queue, count, 0, *more)
            if found or time.monotonic() > end:
                return found
            time.sleep(_LOOKS_S)

    backend.receive_message = receive_message
    for name in ("delete_message", "delete_message_batch", "change_message_visibility", "send_message"):
        setattr(backend, name, _in_turn(getattr(backend, name)))
    backend.is_message_valid_based_on_retention_period = lambda *_: True  # no test waits for a minute
    models.unix_time_millis = lambda: time.time() * 1000
    models.unix_time = time.time


def _in_turn(call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        with _turn:
            return call(*arguments, **named)

    return called


def main(port: int, fd: int) -> None:
    if 0 in select.select([0, fd], [], [])[0]:
        return  # nobody asked
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from moto.sqs import models
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # requests are not logged
    put_right(models)
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler, fd=fd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
