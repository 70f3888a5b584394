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

"""The client of luizluca's bridge, on its stdin and stdout.

    bridge_client.py url host port

It is Ruby's Net::HTTP, whose words and habits are these: a connection for
POST, one for GET, one for PUT and DELETE; a kept connection is used again
within 2 s only; a GET, PUT or DELETE that brings no answer, within 60 s (63 s
for a GET), is said once more on a new connection.  The bridge's own: whatever
body a GET's answer has goes to stdout; 410 ends it, 404 ends it with the next
bytes of stdin, and any other status is as good as 200; the end of stdin is a
DELETE at once, that waits for nothing.
"""

import http.client
import os
import select
import sys
import threading
import time
import urllib.parse
import uuid

MAXBUF = 655360
KEEP = 2


class Http:
    def __init__(self, url, timeout=60):
        self.conn = http.client.HTTPConnection(url.hostname, url.port or 80,
                                               timeout=timeout)
        self.host = url.netloc.split("@")[-1]
        self.used = 0

    def closed(self):
        sock = self.conn.sock
        return (time.monotonic() > self.used + KEEP or
                sock and select.select([sock], [], [], 0)[0])

    def send(self, method, path, body, fields):
        conn = self.conn
        conn.putrequest(method, path, skip_host=True,
                        skip_accept_encoding=True)
        for name, value in fields:
            conn.putheader(name, value)
        conn.putheader("Accept-Encoding",
                       "gzip;q=1.0,deflate;q=0.6,identity;q=0.3")
        conn.putheader("Accept", "*/*")
        conn.putheader("User-Agent", "Ruby")
        conn.putheader("Host", self.host)
        if body is not None:
            conn.putheader("Content-Length", str(len(body)))
            conn.putheader("Content-Type",
                           "application/x-www-form-urlencoded")
        conn.endheaders(body)
        answer = conn.getresponse()
        return answer.status, answer.read()

    def ask(self, method, path, body=None, fields=()):
        if self.closed():
            self.conn.close()
        for left in (1, 0):
            try:
                answer = self.send(method, path, body, fields)
                self.used = time.monotonic()
                return answer
            except (OSError, http.client.HTTPException):
                self.conn.close()
                if method == "POST" or not left:
                    raise


class Bridge:
    def __init__(self, url, host, port):
        self.url = urllib.parse.urlsplit(url)
        self.path = "%s/%s" % (self.url.path, uuid.uuid4())
        self.target = ("%s:%s" % (host, port)).encode()
        self.connected = False

    def tell(self, *what):
        print(*what, file=sys.stderr, flush=True)

    def open(self):
        status, body = Http(self.url).ask("POST", self.path, self.target)
        self.connected = status == 201
        self.tell("POST %d: %s" % (status, body.decode("latin-1")))
        return self.connected

    def down(self):
        http_get = Http(self.url, 63)
        while self.connected:
            status, body = http_get.ask("GET", self.path)
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()
            if status in (404, 410):
                self.tell("GET", status)
                self.connected = False
            if status == 410:
                os._exit(0)     # it closes stdin under whoever reads it

    def up(self):
        http_put = Http(self.url)
        while self.connected:
            data = os.read(0, MAXBUF)
            if not data:
                self.tell("DELETE")
                http_put.ask("DELETE", self.path,
                             fields=[("Depth", "Infinity")])
                break
            status, _ = http_put.ask("PUT", self.path, data)
            if status != 200:
                self.tell("PUT", status)
            if status == 410:
                break


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: bridge_client.py url host port")
    bridge = Bridge(*sys.argv[1:])
    if not bridge.open():
        return 1
    threading.Thread(target=bridge.down, daemon=True).start()
    bridge.up()
    sys.stderr.flush()
    os._exit(0)                 # as it is: no GET is waited for


if __name__ == "__main__":
    sys.exit(main())
