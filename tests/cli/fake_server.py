# SPDX-License-Identifier: Apache-2.0
"""A control socket that answers from a script.

Each step of the script handles one connection: it gets the request (a dict) and returns what to
send: a dict is a result, a Refusal a refusal, bytes are sent as they are, None closes the
connection, SILENCE holds it open without a word.
"""
import json
import os
import socket
import threading

SILENCE = object()


class Refusal:
    def __init__(self, code, message, hint=None):
        self.fields = {"ok": False, "code": code, "message": message}
        if hint:
            self.fields["hint"] = hint


class FakeServer:
    def __init__(self, path, script):
        self.path = path
        self.script = list(script)
        self.requests = []
        self.held = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(8)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        # A blocked accept is ended by a shutdown of the listener.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        for conn in self.held:
            conn.close()
        os.unlink(self.path)

    def run(self):
        for step in self.script:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.serve(conn, step)

    def serve(self, conn, step):
        line = conn.makefile("rb").readline()
        request = json.loads(line)
        self.requests.append(request)
        answer = step(request) if callable(step) else step
        if answer is SILENCE:
            self.held.append(conn)
            return
        if isinstance(answer, Refusal):
            answer = dict(answer.fields, id=request["id"])
        elif isinstance(answer, dict):
            answer = {"id": request["id"], "ok": True, "result": answer}
        if answer is not None:
            if not isinstance(answer, bytes):
                answer = json.dumps(answer).encode() + b"\n"
            conn.sendall(answer)
        conn.close()
