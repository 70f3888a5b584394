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

"""The client of khuevu's http-tunnel, on its stdin and stdout.

    khuevu_client.py [-p] [-s secs] server:port host:port

It is Python 2's httplib, which says and takes byte for byte what http.client
does here: a connection is kept where the server keeps it, and made anew where
it does not.  Its habits: POST and PUT have an absolute-form
target though there is no proxy, GET and DELETE have not; no answer but a 200
with bytes is any news to it, so it sleeps and asks again for ever; a chunk
that was not taken is gone; at the end of stdin it waits for its GET, which
may still bring bytes, and only then says DELETE.

Answers that bring nothing are told on stderr, one of a kind in a row.
"""

import argparse
import http.client
import os
import sys
import threading
import time
import urllib.parse
import uuid

BUFFER = 51200
FORM = {"Content-Type": "application/x-www-form-urlencoded",
        "Accept": "text/plain"}


class Connection:
    """One for POST, one for PUT and DELETE, one for GET."""

    def __init__(self, server, name):
        self.conn = http.client.HTTPConnection(server)
        self.path = "/" + name
        self.url = "http://" + server + self.path
        self.told = None

    def tell(self, what):
        if what != self.told:
            print(what, file=sys.stderr, flush=True)
        self.told = what

    def ask(self, method, target, form=None):
        """The answer's status and body."""
        body = None
        if form:                # Python 2 had no unreserved ~
            body = urllib.parse.urlencode(form).replace("~", "%7E")
        self.conn.request(method, target, body, FORM if form else {})
        answer = self.conn.getresponse()
        status, data = answer.status, answer.read()
        if status != 200 or not data and method != "PUT":
            self.tell("%s %d, %d bytes" % (method, status, len(data)))
        return status, data


class Receiver(threading.Thread):
    def __init__(self, conn, pause):
        threading.Thread.__init__(self, daemon=True)
        self.conn, self.pause = conn, pause
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set():
            status, data = self.conn.ask("GET", self.conn.path)
            if status == 200 and data:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            else:
                time.sleep(self.pause)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-p", action="store_true", help="port first")
    parser.add_argument("-s", type=float, default=1, metavar="secs",
                        help="sleep so long after an answer without bytes")
    parser.add_argument("server")
    parser.add_argument("target")
    args = parser.parse_args()

    host, port = args.target.rsplit(":", 1)
    fields = [("host", host), ("port", port)]
    name = str(uuid.uuid4())
    opener, sender, getter = (Connection(args.server, name)
                              for i in range(3))
    status, _ = opener.ask("POST", opener.url,
                           fields[::-1] if args.p else fields)
    if status != 200:
        return 1
    receiver = Receiver(getter, args.s)
    receiver.start()
    while True:
        data = os.read(0, BUFFER)
        if not data:
            break
        sender.ask("PUT", sender.url, [("data", data)])
    receiver.stopped.set()
    sender.tell("the end of stdin")
    receiver.join()
    sender.ask("DELETE", sender.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
