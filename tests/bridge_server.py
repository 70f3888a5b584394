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

"""The server of luizluca's bridge, on a listening socket as its stdin.

    bridge_server.py [-s secs] location

It is the small WEBrick that comes with it: HTTP/1.1, a thread for each
connection, which is kept, a length in every answer, and a write for each line
of one.  Its habits: a POST that is no H:P, or whose target cannot be reached,
is 406 with the reason; a GET is held for 57 s (-s); once the target has ended
the next GET or PUT is told 410 and the id is gone; no half-close; of a
target's reset a GET says 200 and nothing, a PUT 500.

All but PUTs and GETs that go well is told on stderr.
"""

import argparse
import re
import select
import socket
import sys
import threading
import urllib.parse

MAXBUF = 655360
REASONS = {200: "OK", 201: "Created", 204: "No Content", 404: "Not Found",
           405: "Method Not Allowed", 406: "Not Acceptable", 410: "Gone",
           500: "Internal Error"}

connections = {}
mutex = threading.Lock()
hold = 57


def lookup(name):
    with mutex:
        return connections.get(name)


def close(name):
    with mutex:
        conn = connections.pop(name, None)
    if conn:
        try:
            conn.shutdown(socket.SHUT_RDWR)     # wakes a GET
        except OSError:
            pass
        conn.close()


def do_post(name, body):
    host, port = (body.decode("latin-1").split(":") + [""])[:2]
    try:
        if not re.fullmatch("[-.0-9A-Za-z]+", host):
            raise OSError("getaddrinfo: Name or service not known")
        port = int(re.match("[0-9]*", port)[0] or "0")
        conn = socket.create_connection((host, port))
    except OSError as error:
        return 406, str(error).encode()
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with mutex:
        connections[name] = conn
    return 201, b""


def do_put(name, body):
    conn = lookup(name)
    if not conn:
        return 404, b""
    try:
        conn.sendall(body)
    except ConnectionResetError:
        return 500, b""
    except OSError:
        close(name)
        return 410, b""
    return 200, b""


def do_get(name, body):
    conn = lookup(name)
    if not conn:
        return 404, b""
    try:
        if not select.select([conn], [], [], hold)[0]:
            return 204, b""
        data = conn.recv(MAXBUF)
    except ConnectionResetError:
        return 200, b""
    except (OSError, ValueError):
        data = b""
    if not data:
        close(name)
    return (200 if data else 410), data


def do_delete(name, body):
    close(name)
    return 200, b""


METHODS = {b"POST": do_post, b"PUT": do_put, b"GET": do_get,
           b"DELETE": do_delete}


def read_request(file):
    """Method, path, fields, body; None at the end."""
    line = file.readline().strip()
    if not line:
        return None
    method, target, _ = line.split(None, 2)
    path = urllib.parse.unquote_plus(urllib.parse.urlsplit(target.decode())
                                     .path)
    fields = {}
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    return method, path, fields, file.read(int(fields.get(b"content-length",
                                                          0)))


def answer(client, status, body):
    lines = ["HTTP/1.1 %d %s\r\n" % (status, REASONS[status]),
             "Content-Length: %d\r\n" % len(body),
             "Connection: keep-alive\r\n"]
    if status == 406:
        lines.append("Content-Type: text/plain\r\n")
    for line in lines:
        client.sendall(line.encode())
    client.sendall(b"\r\n" + body)


def serve(client, location):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, client.makefile("rb") as file:
        while request := read_request(file):
            method, path, fields, body = request
            status, data = 404, b""
            if path.startswith(location):
                status, data = (METHODS[method](path.split("/")[-1], body)
                                if method in METHODS else (405, b""))
            answer(client, status, data)
            if method in (b"POST", b"DELETE") or status not in (200, 204):
                print(method.decode(), status, file=sys.stderr, flush=True)
            if fields.get(b"connection", b"").lower() == b"close":
                break


def thread(client, location):
    try:
        serve(client, location)
    except (BrokenPipeError, ConnectionResetError):
        pass


def main():
    global hold
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", type=float, default=57, metavar="secs",
                        help="hold a GET for so long")
    parser.add_argument("location")
    args = parser.parse_args()
    hold = args.s
    listener = socket.socket(fileno=0)
    while True:
        client = listener.accept()[0]
        threading.Thread(target=thread, args=(client, args.location),
                         daemon=True).start()


if __name__ == "__main__":
    main()
