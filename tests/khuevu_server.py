#!/usr/bin/env python3
#
# Copyright (c) 2026 the httptun authors
#
# Permission to use, copy, modify, and distribute this software for any
# purpose with or without fee is hereby granted, provided that the above
# copyright notice and this permission notice appear in all copies.
#
# THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
# WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
# MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
# ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
# WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
# ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
# OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.

"""The server of khuevu's http-tunnel, on a listening socket as its stdin.

    khuevu_server.py [-s secs]

It is Python 2's BaseHTTPServer: HTTP/1.0, no length, the end of the
connection ends a body, and one request after the other in one thread, so
that a connection that says nothing stops all.  Its habits: the POST is
answered before the target is connected; a GET is held for 5 s (-s); 200
without a byte is the target's end, as often as asked; an id that it does not
know, and one that is closed, is an exception: no answer at all.  Where the
target is slow its own PUT would answer 503 in the middle of a chunk, this one
waits a while.

All but PUTs and GETs that go well is told on stderr, and what kind of
request the real one could not have read.
"""

import argparse
import http.server
import re
import select
import socket
import sys
import urllib.parse

BUFFER = 51200
sockets = {}


def form(body):
    """The first value of each name; Python 2 parts them at ; as well."""
    fields = {}
    for part in re.split(b"[&;]", body):
        name, _, value = part.partition(b"=")
        value = urllib.parse.unquote_to_bytes(value.replace(b"+", b" "))
        fields.setdefault(name, value)
    return fields


class Handler(http.server.BaseHTTPRequestHandler):
    server_version = "BaseHTTP/0.3"
    sys_version = "Python/2.7.18"
    hold = 5

    def name(self):
        return self.path.split("/")[-1]

    def body(self):
        return form(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, status, body=b""):
        self.send_response(status)
        self.flush_headers()
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        fields = self.body()
        conn = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        conn.setblocking(False)
        conn.connect_ex((fields[b"host"].decode(), int(fields[b"port"])))
        sockets[self.name()] = conn
        self.answer(200)

    def do_PUT(self):
        conn = sockets[self.name()]
        data = self.body()[b"data"]
        if len(data) > BUFFER:
            print("a chunk of", len(data), file=sys.stderr, flush=True)
        if not select.select([], [conn], [], self.hold)[1]:
            return self.answer(504)
        try:
            conn.settimeout(10)
            conn.sendall(data)
            conn.setblocking(False)
            self.answer(200)
        except OSError:
            self.answer(503)

    def do_GET(self):
        conn = sockets[self.name()]
        if not select.select([conn], [], [], self.hold)[0]:
            return self.answer(204)
        try:
            self.answer(200, conn.recv(BUFFER))
        except OSError:
            self.answer(503)

    def do_DELETE(self):
        sockets[self.name()].close()
        self.answer(200)

    def log_request(self, code="-", size="-"):
        if self.command in ("POST", "DELETE") or code not in (200, 204):
            print(self.command, code, file=sys.stderr, flush=True)


class Server(http.server.HTTPServer):
    def handle_error(self, request, client_address):
        print("exception:", repr(sys.exc_info()[1]), file=sys.stderr,
              flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", type=float, default=5, metavar="secs",
                        help="hold a GET for so long")
    Handler.hold = parser.parse_args().s
    server = Server(("", 0), Handler, bind_and_activate=False)
    server.socket = socket.socket(fileno=0)
    server.serve_forever()


if __name__ == "__main__":
    main()
