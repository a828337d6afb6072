"""What the stand-in daemons share: an HTTP face on a port, an inherited socket or a unix socket, an end in order.

They stand for real daemons (Lotus, RingRift, JMake) in the tests of examples/*.toml: small, and they misbehave on demand.
"""

import http.server
import json
import os
import signal
import socket
import socketserver
import sys
import threading
import time


def say(text):
    print(text, flush=True)


class Face(http.server.BaseHTTPRequestHandler):
    """Answers with what the daemon's `answer(method, path, body)` returns: a status and a JSON document."""

    daemon = None

    def do_GET(self):
        self.reply("GET")

    def do_POST(self):
        self.reply("POST")

    def reply(self, method):
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length) or "null")
        status, document = self.daemon.answer(method, self.path, body)
        answer = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Finishes the requests it has before it ends."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, daemon, listener):
        handler = type("FaceOf", (Face,), {"daemon": daemon})
        super().__init__(None, handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("local", 0)


def on_port(port):
    return socket.create_server(("127.0.0.1", port), backlog=128)


def inherited():
    """The socket that the supervisor opened and keeps (LISTEN_FDS)."""
    assert os.environ.get("LISTEN_PID") == str(os.getpid()), "no socket was passed to this process"
    return socket.socket(fileno=3)


def on_path(path):
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    return listener


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def serve(daemon, listener, at_the_end):
    """Serves until SIGTERM, ends what is in flight, then calls `at_the_end`."""
    server = Server(daemon, listener)
    # In another thread: `shutdown` waits for the loop that this signal interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.02)
    server.server_close()
    at_the_end()
    sys.exit(0)
