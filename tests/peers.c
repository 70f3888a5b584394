/*
 * Copyright (c) 2026 the httptun authors
 *
 * Permission to use, copy, modify, and distribute this software for any
 * purpose with or without fee is hereby granted, provided that the above
 * copyright notice and this permission notice appear in all copies.
 *
 * THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
 * WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
 * MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
 * ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
 * WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
 * ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
 * OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
 */

/*
 * The WebSocket carrier with programs of other make, all on loopback: behind
 * nginx and HAProxy, under curl, through tinyproxy, with websockify, and with
 * Python's websockets library at either end.  What a peer does not do on
 * demand, broken frames above all, is tested in ws.c.
 *
 * A server here gets a socket that listens already as its stdin.  So no port
 * is guessed, and nobody waits for it to come up: whoever connects meanwhile
 * stands in the queue.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define NONE	((char *)NULL)
#define MB	1000000
#define BULK	(4 * MB)	/* both ways at once */
#define SOME	(MB / 5)
#define STUFFED	200		/* ms in which nothing more has gone */
#define PEAK	8192		/* KiB that one process may ever take */

/* Debian's: what it has installed is not there for another one, which may
 * well be the first in PATH. */
#define PYTHON	"/usr/bin/python3"

/* `httptun -l`, and a target. */
static struct kit_proxy	px;
static int		tl;
static unsigned		tport;

/* The server of other make. */
static struct kit_proc	*peer;


/* ---- our side ------------------------------------------------------------ */

static void
target(void)
{
	tl = kit_listen(AF_INET, &tport);
}

static const char *
target_port(void)
{
	return kit_str("%u", tport);
}

/* stdin/stdout to the target through these hops (NULL ends them) */
static struct kit_proc *
bridge(const char *hop, ...)
{
	struct kit_proc *p;
	va_list ap;

	va_start(ap, hop);
	p = kit_bridge(NULL, NULL, tport, hop, ap);
	va_end(ap);
	return p;
}

/* The client's end of file comes first, and the answer still arrives. */
static void
client_first(struct kit_proc *p, int t)
{
	kit_last_words(p->in, t, SOME, 3);
	kit_last_words(t, p->out, SOME, 4);
	kit_exits(p, 0);
}

static void
target_first(struct kit_proc *p, int t)
{
	kit_last_words(t, p->out, SOME, 5);
	kit_last_words(p->in, t, SOME, 6);
	kit_exits(p, 0);
}

/* Two tunnels through one hop or two, that end in either order. */
static void
tunnels(const char *hop, const char *next)
{
	void (*const ends[])(struct kit_proc *, int) = {
		client_first, target_first
	};
	struct kit_proc *p;
	size_t i;
	int t;

	for (i = 0; i < KIT_COUNT(ends); i++) {
		p = bridge(hop, next, NONE);
		t = kit_accept(tl);
		kit_talk(p, t, BULK);
		ends[i](p, t);
		kit_err_is(p, "");
	}
}


/* ---- servers of other make ----------------------------------------------- */

/* The reverse proxies: /tunnel/ goes on as it is, /stripped/ without that, and
 * nginx's /plain/ as it does where nobody has thought of WebSockets; otherwise
 * it is set up as its own documentation says for them. */

static void
start_nginx(int lfd, unsigned from, unsigned to)
{
	peer = kit_nginx(lfd, kit_str(
	    "	map $http_upgrade $connection_upgrade {\n"
	    "		default upgrade;\n"
	    "		'' close;\n"
	    "	}\n"
	    "	server {\n"
	    "		listen 127.0.0.1:%u;\n"
	    "		proxy_http_version 1.1;\n"
	    "		proxy_set_header Upgrade $http_upgrade;\n"
	    "		proxy_set_header Connection $connection_upgrade;\n"
	    "		location /tunnel/ {\n"
	    "			proxy_pass http://127.0.0.1:%u;\n"
	    "		}\n"
	    "		location /stripped/ {\n"
	    "			proxy_pass http://127.0.0.1:%u/;\n"
	    "		}\n"
	    "		location /plain/ {\n"
	    "			proxy_set_header Upgrade '';\n"
	    "			proxy_pass http://127.0.0.1:%u;\n"
	    "		}\n"
	    "	}\n", from, to, to, to));
}

static void
start_haproxy(int lfd, unsigned from, unsigned to)
{
	(void)from;
	peer = kit_haproxy(lfd, kit_str("global\n"
	    "	maxconn 512\n"
	    "defaults\n"
	    "	mode http\n"
	    "	retries 0\n"
	    "	timeout connect 10s\n"
	    "	timeout client 30s\n"
	    "	timeout server 30s\n"
	    "	timeout tunnel 1h\n"
	    "frontend web\n"
	    "	bind fd@0\n"
	    "	http-request replace-path /stripped/(.*) /\\1\n"
	    "	default_backend tunnels\n"
	    "backend tunnels\n"
	    "	server httptun 127.0.0.1:%u\n", to));
}

struct reverse {
	void	(*start)(int lfd, unsigned from, unsigned to);
};

static struct reverse nginx = { start_nginx };
static struct reverse haproxy = { start_haproxy };

/* Starts it in front of this port; its own. */
static unsigned
in_front_of(const struct reverse *r, unsigned to)
{
	unsigned from;
	int lfd = kit_listen(AF_INET, &from);

	r->start(lfd, from, to);
	/* or connecting to one that has ended would succeed */
	(void)close(lfd);
	return from;
}

/* `httptun -l` behind it, and a target; the URL of the way there. */
static const char *
behind(const struct reverse *r)
{
	target();
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	return kit_str("ws://127.0.0.1:%u/tunnel/", in_front_of(r, px.port));
}


/* ---- behind nginx and HAProxy -------------------------------------------- */

static void
both_ways(void **state)
{
	tunnels(behind(*state), NULL);
	kit_proxy_settles(&px);
}

/* The sender must be stopped long before its end, we rest meanwhile, and then
 * all of what it has sent arrives. */
static void
stall(struct kit_proc *p, int from, int to)
{
	struct kit_stream s[] = {
		{ .fd = from, .dir = KIT_OUT, .bytes = 300 * MB, .seed = 7 },
		{ .fd = to, .dir = KIT_IN, .seed = 7 },
	};

	kit_stalls(&s[0], STUFFED);
	kit_idle(p);
	kit_proxy_rests(&px);
	s[0].bytes = s[1].bytes = s[0].done + MB;
	kit_pump(s, 2);
}

static void
stalled(void **state)
{
	struct kit_proc *p = bridge(behind(*state), NONE);
	int t = kit_accept(tl);

	kit_puts(p->in, "up");
	kit_expect(t, "up");
	stall(p, t, p->out);
	stall(p, p->in, t);
	client_first(p, t);
	kit_proxy_settles(&px);
	kit_proxy_below(&px, PEAK);
}

static void
broken(void **state)
{
	const char *url = behind(*state);
	struct kit_proc *p = bridge(url, NONE);
	int t = kit_accept(tl);

	kit_puts(p->in, "up");
	kit_expect(t, "up");
	kit_reset(t);
	kit_refused(p, "httptun: 127.0.0.1:");

	p = bridge(url, NONE);
	t = kit_accept(tl);
	kit_puts(t, "down");
	kit_expect(p->out, "down");
	(void)kill(p->pid, SIGKILL);
	kit_expect_reset(t);
	kit_proxy_settles(&px);
}

/* A tunnel through the local port that is one end of it. */
static struct kit_pair
local_tunnel(const struct kit_proxy *local)
{
	struct kit_pair p;

	p.c = kit_client(local);
	p.t = kit_accept(tl);
	return p;
}

/* A hundred at the same time; each way of ending is somebody's. */
static void
a_hundred(void **state)
{
	static const struct kit_opt opt = { .in = KIT_NULL };
	const char *url = behind(*state);
	struct kit_proxy local;
	struct kit_pair p[100];
	size_t i;

	kit_proxy_is(&local, kit_httptun(&opt, "-x", url, "-L",
	    kit_str("127.0.0.1:0:127.0.0.1:%u", tport), NONE));
	for (i = 0; i < KIT_COUNT(p); i++)
		p[i] = local_tunnel(&local);
	for (i = 0; i < KIT_COUNT(p); i++)
		kit_parts(p[i], i % KIT_WAYS, i / KIT_WAYS % 2);
	kit_proxy_settles(&local);
	kit_proxy_settles(&px);
}

/* A password with what a URL has to hide, and the status' way through. */
static void
credentials(void **state)
{
	const char *at, *env[] = { "HTTPTUN_AUTH=al:o:p e%n", NULL };
	struct kit_opt opt = { .env = env };
	struct kit_proc *p;
	unsigned port;

	target();
	kit_proxy(&px, "-a", kit_file("users", 0600, "eve:x\nal:o:p e%n\n"),
	    "127.0.0.1", "0", NONE);
	port = in_front_of(*state, px.port);
	at = kit_str("127.0.0.1:%u", port);
	kit_refused(bridge(kit_str("ws://%s/tunnel/", at), NONE),
	    kit_str("httptun: %s: 401 ", at));
	kit_refused(bridge(kit_str("ws://al:o%%3ap@%s/tunnel/", at), NONE),
	    kit_str("httptun: %s: 401 ", at));
	kit_untouched(tl);
	p = bridge(kit_str("ws://al:o%%3ap%%20e%%25n@%s/tunnel/", at), NONE);
	client_first(p, kit_accept(tl));
	kit_err_is(p, "");
	/* where the path is another one behind the proxy */
	p = kit_httptun(&opt, "-A", "basic", "-x", kit_str("ws://%s/stripped/",
	    at), "127.0.0.1", target_port(), NONE);
	client_first(p, kit_accept(tl));
	kit_err_is(p, "");
	/* HAProxy keeps a connection that may take another request */
	kit_done(peer);
	kit_proxy_settles(&px);
}

/* What httptun -l says to a CONNECT, and what the reverse proxy itself says
 * when there is nobody. */
static void
refusals(void **state)
{
	unsigned port;

	(void)behind(*state);
	port = in_front_of(*state, px.port);
	tport = kit_nobody(AF_INET);
	kit_refused(bridge(kit_str("ws://127.0.0.1:%u/tunnel/", port), NONE),
	    kit_str("httptun: 127.0.0.1:%u: 502 ", port));
	kit_proxy_settles(&px);

	port = in_front_of(*state, kit_nobody(AF_INET));
	kit_refused(bridge(kit_str("ws://127.0.0.1:%u/tunnel/", port), NONE),
	    kit_str("httptun: 127.0.0.1:%u: 50", port));
}

/* httptun -l is asked for an ordinary page, and says what it is. */
static void
not_upgraded(void **state)
{
	unsigned port;

	target();
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	port = in_front_of(*state, px.port);
	kit_refused(bridge(kit_str("ws://127.0.0.1:%u/plain/", port), NONE),
	    kit_str("httptun: 127.0.0.1:%u: 404 ", port));
	kit_untouched(tl);
	kit_proxy_settles(&px);
}

static void
ssh_behind_nginx(void **state)
{
	const char *proxy;
	struct kit_proc *p;

	proxy = kit_str("ProxyCommand=%s -x %s %%h %%p", kit_binary(),
	    behind(*state));
	tport = kit_serve(&kit_sshd, NULL);
	kit_ssh_runs(proxy, tport);
	p = kit_ssh(proxy, tport, "cat");
	kit_last_words(p->in, p->out, 5 * BULK, 8);
	kit_exits(p, 0);
	kit_err_is(p, "");
	kit_proxy_settles(&px);
}

/* tinyproxy carries no half-close; the WebSocket through it does. */
static void
through_tinyproxy(void **state)
{
	const char *corp, *gw;

	(void)state;
	corp = kit_str("http://127.0.0.1:%u", kit_serve(&kit_tinyproxy, NULL));
	target();
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	gw = kit_str("ws://127.0.0.1:%u/", px.port);
	tunnels(corp, gw);
	kit_proxy_settles(&px);
}

/* One who has to leave through a proxy, to a web server of ours. */
static void
through_tinyproxy_to_nginx(void **state)
{
	const char *corp, *url = behind(*state);

	corp = kit_str("http://127.0.0.1:%u", kit_serve(&kit_tinyproxy, NULL));
	tunnels(corp, url);
	kit_proxy_settles(&px);
}


/* ---- curl asks httptun -l ------------------------------------------------ */

#define UPGRADE	"-H", "Connection: Upgrade", "-H", "Upgrade: websocket"
#define KEY	"-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
#define V13	"-H", "Sec-WebSocket-Version: 13"

struct curl {
	const char	*name;
	const char	*argv[16];
	int		 auth;		/* that httptun -l wants */
	int		 challenged;	/* a 401 stands before the answer */
	int		 status;
	const char	*field;		/* that the answer must have */
	const char	*value;
};

static const struct curl curls[] = {
	/* RFC 6455, section 1.3 */
	{ "curl: upgraded", { UPGRADE, KEY, V13 }, 0, 0, 101,
	    "Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" },
	{ "curl: a protocol of a list", { UPGRADE, KEY, V13, "-H",
	    "Sec-WebSocket-Protocol: chat, connect.httptun" }, 0, 0, 101,
	    "Sec-WebSocket-Protocol", "connect.httptun" },
	{ "curl: no known protocol", { UPGRADE, KEY, V13, "-H",
	    "Sec-WebSocket-Protocol: chat" }, 0, 0, 101,
	    "Sec-WebSocket-Protocol", NULL },
	{ "curl: no extension", { UPGRADE, KEY, V13, "-H",
	    "Sec-WebSocket-Extensions: permessage-deflate" }, 0, 0, 101,
	    "Sec-WebSocket-Extensions", NULL },
	{ "curl: another version", { UPGRADE, KEY, "-H",
	    "Sec-WebSocket-Version: 8" }, 0, 0, 426,
	    "Sec-WebSocket-Version", "13" },
	{ "curl: no version", { UPGRADE, KEY }, 0, 0, 426,
	    "Sec-WebSocket-Version", "13" },
	{ "curl: a short key", { UPGRADE, V13, "-H",
	    "Sec-WebSocket-Key: c2hvcnQ=" }, 0, 0, 400, "Upgrade", NULL },
	{ "curl: no key", { UPGRADE, V13 }, 0, 0, 400, "Upgrade", NULL },
	{ "curl: an origin", { UPGRADE, KEY, V13, "-H",
	    "Origin: http://localhost" }, 0, 0, 403, "Upgrade", NULL },
	{ "curl: an exit", { UPGRADE, KEY, V13, "-H",
	    "Sec-WebSocket-Protocol: exit.httptun" }, 0, 0, 403, "Upgrade",
	    NULL },
	{ "curl: no credentials", { UPGRADE, KEY, V13 }, 1, 0, 401, "Upgrade",
	    NULL },
	{ "curl: wrong credentials", { UPGRADE, KEY, V13, "-u", "al:opem" },
	    1, 0, 401, "Upgrade", NULL },
	{ "curl: credentials", { UPGRADE, KEY, V13, "-u", "al:open" }, 1, 0,
	    101, "Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" },
	/* it asks, and takes the strongest scheme that it is offered */
	{ "curl: credentials, --anyauth", { UPGRADE, KEY, V13, "--anyauth",
	    "-u", "al:open" }, 1, 1, 101, "Sec-WebSocket-Accept",
	    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" },
};

/* The next head that it prints, which must have this status. */
static const char *
curl_head(struct kit_proc *p, int status)
{
	char head[4096];

	(void)kit_head(p->out, head, sizeof(head));
	if (strncmp(head, kit_str("HTTP/1.1 %d ", status), 13) != 0)
		kit_fail("<<%s>> and no %d", head, status);
	return kit_str("%s", head);
}

static void
test_curl(void **state)
{
	const struct curl *c = *state;
	const char *argv[32] = { "curl", "-q", "-sS", "-D", "-", "-o",
	    "/dev/null", "--http1.1" }, *head;
	struct kit_proc *p;
	size_t i, n;

	if (c->auth)
		kit_proxy(&px, "-a", kit_file("users", 0600, "al:open\n"),
		    "127.0.0.1", "0", NONE);
	else
		kit_proxy(&px, "127.0.0.1", "0", NONE);
	for (n = 0; argv[n] != NULL; n++)
		;
	for (i = 0; i < KIT_COUNT(c->argv) && c->argv[i] != NULL; i++)
		argv[n++] = c->argv[i];
	argv[n] = kit_str("http://127.0.0.1:%u/any", px.port);
	p = kit_startv(NULL, argv);
	if (c->challenged)
		(void)curl_head(p, 401);
	head = curl_head(p, c->status);
	if (c->status == 401)
		(void)kit_offers(head, "WWW-Authenticate", 0);
	if (c->value != NULL)
		(void)kit_must_have(head, c->field, c->value);
	else if (kit_field(head, c->field) != NULL)
		kit_fail("a field %s: <<%s>>", c->field, head);
	if (c->status == 101) {
		(void)kit_must_have(head, "Upgrade", "websocket");
		(void)kit_must_have(head, "Connection", "Upgrade");
		kit_done(p);
	} else
		kit_exits(p, 0);
	kit_proxy_settles(&px);
}


/* ---- Python's websockets library ----------------------------------------- */

/* stdin/stdout to a target through httptun -l, with the protocol if it is
 * named; what it says of the end goes to stderr. */
static const char client_script[] =
    "import asyncio, os, sys, websockets\n"
    "url, target, how, *protocols = sys.argv[1:]\n"
    "out = os.fdopen(1, 'wb', 0)\n"
    "\n"
    "def read():\n"
    "    if how == 'whole':\n"
    "        return sys.stdin.buffer.read()\n"
    "    return os.read(0, 65536)\n"
    "\n"
    "async def up(ws):\n"
    "    while data := await asyncio.to_thread(read):\n"
    "        if how == 'fragments':\n"
    "            await (await ws.ping())\n"
    "            await ws.send([data[:1], data[1:99], b'', data[99:]])\n"
    "        elif how == 'text':\n"
    "            await ws.send(data.decode())\n"
    "        else:\n"
    "            await ws.send(data)\n"
    "    if protocols:\n"
    "        await ws.send('end')\n"
    "    else:\n"
    "        await ws.close()\n"
    "\n"
    "async def down(ws):\n"
    "    try:\n"
    "        async for data in ws:\n"
    "            if data == 'end' and protocols:\n"
    "                out.close()\n"
    "            else:\n"
    "                out.write(data)\n"
    "    finally:\n"
    "        print('closed', ws.close_code, file=sys.stderr, flush=True)\n"
    "        out.close()\n"
    "\n"
    "async def main():\n"
    "    async with websockets.connect(url, max_size=None,\n"
    "            subprotocols=protocols or None) as ws:\n"
    "        assert ws.subprotocol == (protocols or [None])[0]\n"
    "        assert not ws.extensions\n"
    "        await ws.send(f'CONNECT {target} HTTP/1.1\\r\\n'\n"
    "            f'Host: {target}\\r\\n\\r\\n'.encode())\n"
    "        head = b''\n"
    "        while b'\\r\\n\\r\\n' not in head:\n"
    "            head += await ws.recv()\n"
    "        assert head.startswith(b'HTTP/1.1 200 ')\n"
    "        out.write(head[head.index(b'\\r\\n\\r\\n') + 4:])\n"
    "        await asyncio.gather(up(ws), down(ws))\n"
    "\n"
    "asyncio.run(main())\n";

/* httptun -l, a target, and the client to it. */
static struct kit_proc *
client(const char *how, const char *protocol)
{
	target();
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	return kit_start(NULL, PYTHON, kit_file("client.py", 0600,
	    client_script), kit_str("ws://127.0.0.1:%u/", px.port),
	    kit_str("127.0.0.1:%u", tport), how, protocol, NONE);
}

/* Its WebSocket has been closed in order, and nothing is left. */
static void
client_ends(struct kit_proc *p)
{
	kit_exits(p, 0);
	kit_err_is(p, "closed 1000\n");
	kit_proxy_settles(&px);
}

/* The target's end is a Close behind all of its data. */
static void
client_no_protocol_target_first(void **state)
{
	struct kit_proc *p = client("plain", NULL);
	int t = kit_accept(tl);

	(void)state;
	kit_talk(p, t, BULK);
	kit_last_words(t, p->out, SOME, 3);
	kit_eof(t);
	kit_half_close(p->in);
	client_ends(p);
}

/* The client's Close is the end of both directions. */
static void
client_no_protocol_client_first(void **state)
{
	struct kit_proc *p = client("plain", NULL);
	int t = kit_accept(tl);

	(void)state;
	kit_talk(p, t, BULK);
	kit_last_words(p->in, t, SOME, 3);
	kit_half_close(t);
	kit_eof(p->out);
	client_ends(p);
}

static void
client_text_is_data(void **state)
{
	struct kit_proc *p = client("text", NULL);
	int t = kit_accept(tl);

	(void)state;
	kit_puts(p->in, "Gr\303\274\303\237e");
	kit_expect(t, "Gr\303\274\303\237e");
	kit_puts(p->in, "end");
	kit_expect(t, "end");
	kit_puts(t, "end");
	kit_expect(p->out, "end");
	kit_half_close(p->in);
	kit_eof(t);
	kit_half_close(t);
	kit_eof(p->out);
	client_ends(p);
}

/* One with the protocol, which ends so. */
static void
client_with_end(const char *how, void (*end)(struct kit_proc *, int))
{
	struct kit_proc *p = client(how, "connect.httptun");
	int t = kit_accept(tl);

	kit_talk(p, t, BULK);
	end(p, t);
	client_ends(p);
}

static void
client_first_with_end(void **state)
{
	(void)state;
	client_with_end("plain", client_first);
}

static void
client_target_first_with_end(void **state)
{
	(void)state;
	client_with_end("plain", target_first);
}

static void
client_fragments(void **state)
{
	(void)state;
	client_with_end("fragments", client_first);
}

/* Several megabytes in a single frame. */
static void
client_big_message(void **state)
{
	struct kit_proc *p = client("whole", "connect.httptun");
	int t = kit_accept(tl);

	(void)state;
	kit_last_words(p->in, t, 4 * BULK, 1);
	kit_last_words(t, p->out, SOME, 2);
	client_ends(p);
	kit_proxy_below(&px, PEAK);
}

/* A client that never reads is a stall, and one that dies is a reset. */
static void
client_broken(void **state)
{
	struct kit_proc *p = client("plain", "connect.httptun");
	struct kit_stream s = { .dir = KIT_OUT, .bytes = 300 * MB };

	(void)state;
	s.fd = kit_accept(tl);
	kit_puts(p->in, "up");
	kit_expect(s.fd, "up");
	kit_stalls(&s, STUFFED);
	(void)kill(p->pid, SIGKILL);
	kit_until_reset(s.fd);
	kit_proxy_settles(&px);
}

/* The target's reset is a Close that says so. */
static void
client_target_resets(void **state)
{
	struct kit_proc *p = client("plain", "connect.httptun");
	int t = kit_accept(tl);

	(void)state;
	kit_puts(p->in, "up");
	kit_expect(t, "up");
	kit_reset(t);
	kit_err_wait(p, "closed 1011\n");
	kit_eof(p->out);
	kit_half_close(p->in);
	kit_exits(p, 1);
	kit_proxy_settles(&px);
}


/* A server with a path for each thing that one is wanted for: /echo/N and
 * /text/N send so many bytes back and then end, /close/CODE and /abort say a
 * last word, all others are the hop of section 5 of the design, that says its
 * data in fragments. */
static const char server_script[] =
    "import asyncio, socket, sys, websockets\n"
    "\n"
    "async def echo(ws, left, text):\n"
    "    while left > 0:\n"
    "        data = await ws.recv()\n"
    "        assert isinstance(data, bytes)\n"
    "        left -= len(data)\n"
    "        await ws.send(data.decode() if text else data)\n"
    "\n"
    "async def up(ws, writer):\n"
    "    async for data in ws:\n"
    "        if data == 'end' and ws.subprotocol:\n"
    "            break\n"
    "        assert isinstance(data, bytes)\n"
    "        writer.write(data)\n"
    "        await writer.drain()\n"
    "    writer.write_eof()\n"
    "\n"
    "async def down(ws, reader):\n"
    "    while data := await reader.read(65536):\n"
    "        await (await ws.ping())\n"
    "        await ws.send([data[:1], data[1:99], b'', data[99:]])\n"
    "    if ws.subprotocol:\n"
    "        await ws.send(['e', 'nd'])\n"
    "    else:\n"
    "        await ws.close()\n"
    "\n"
    "async def hop(ws):\n"
    "    head = b''\n"
    "    while b'\\r\\n\\r\\n' not in head:\n"
    "        head += await ws.recv()\n"
    "    request, early = head.split(b'\\r\\n\\r\\n', 1)\n"
    "    method, target, version = request.split(b'\\r\\n')[0].split(b' ')\n"
    "    assert (method, version) == (b'CONNECT', b'HTTP/1.1')\n"
    "    host, port = target.decode().rsplit(':', 1)\n"
    "    try:\n"
    "        reader, writer = await asyncio.open_connection(host, port)\n"
    "    except OSError:\n"
    "        await ws.send(b'HTTP/1.1 502 Bad Gateway\\r\\n'\n"
    "            b'Content-Length: 5\\r\\n\\r\\nnone\\n')\n"
    "        return\n"
    "    await ws.send(b'HTTP/1.1 200 OK\\r\\n\\r\\n')\n"
    "    writer.write(early)\n"
    "    await asyncio.gather(up(ws, writer), down(ws, reader))\n"
    "\n"
    "async def serve(ws):\n"
    "    assert 'Sec-WebSocket-Extensions' not in ws.request_headers\n"
    "    what, *number = ws.path[1:].split('/')\n"
    "    if what in ('echo', 'text'):\n"
    "        await echo(ws, int(number[0]), what == 'text')\n"
    "    elif what in ('close', 'abort'):\n"
    "        assert await ws.recv() == b'first'\n"
    "        await ws.send(b'last')\n"
    "        if what == 'abort':\n"
    "            ws.transport.close()\n"
    "        else:\n"
    "            await ws.close(int(number[0]))\n"
    "    else:\n"
    "        await hop(ws)\n"
    "\n"
    "async def main():\n"
    "    async with websockets.serve(serve, sock=socket.socket(fileno=0),\n"
    "            max_size=None, subprotocols=sys.argv[1:] or None):\n"
    "        await asyncio.Future()\n"
    "\n"
    "asyncio.run(main())\n";

/* Starts it with this protocol, if any; what its URLs begin with. */
static const char *
server(const char *protocol)
{
	const char *argv[] = { PYTHON, NULL, protocol, NULL };
	unsigned port;
	int lfd = kit_listen(AF_INET, &port);

	argv[1] = kit_file("server.py", 0600, server_script);
	peer = kit_hand_over(lfd, NULL, argv);
	(void)close(lfd);
	return kit_str("ws://127.0.0.1:%u/", port);
}

/* From a file to a file, and the server's Close ends it. */
static void
echo_of_files(void **state)
{
	const char *from = kit_stream_file("from", BULK, 1);
	const char *to = kit_file("to", 0600, ""), *url = server(NULL);
	struct kit_stream s = { .dir = KIT_IN, .bytes = BULK, .seed = 1,
	    .end = 1 };
	struct kit_opt opt = { .in = open(from, O_RDONLY),
	    .out = open(to, O_WRONLY) };
	struct kit_proc *p;

	(void)state;
	p = kit_httptun(&opt, kit_str("%secho/%d", url, BULK), NONE);
	kit_exits(p, 0);
	kit_err_is(p, "");
	if ((s.fd = open(to, O_RDONLY)) == -1)
		kit_fail("%s: %s", to, strerror(errno));
	kit_pump(&s, 1);
}

static void
echo_at_once(void **state)
{
	const char *url = server(NULL);
	struct kit_proc *p = kit_httptun(NULL, kit_str("%secho/%d", url,
	    BULK + 4), NONE);
	struct kit_stream s[] = {
		{ .dir = KIT_OUT, .bytes = BULK, .seed = 1 },
		{ .dir = KIT_IN, .bytes = BULK, .seed = 1 },
	};

	(void)state;
	kit_puts(p->in, "here");
	kit_expect(p->out, "here");
	s[0].fd = p->in;
	s[1].fd = p->out;
	kit_pump(s, 2);
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

/* stdin's end is nothing that a WebSocket says: the answer still comes. */
static void
echo_as_text(void **state)
{
	static const char text[] = "Gr\303\274\303\237e\n";
	const char *url = server(NULL);
	struct kit_proc *p = kit_httptun(NULL, kit_str("%stext/%zu", url,
	    sizeof(text) - 1), NONE);

	(void)state;
	kit_puts(p->in, text);
	kit_half_close(p->in);
	kit_expect(p->out, text);
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

/* What the server sent before is written in any case. */
static void
server_closes(void **state)
{
	static const struct {
		const char	*path;
		int		 status;
	} ways[] = {
		{ "close/1000", 0 }, { "close/1011", 1 }, { "close/1001", 1 },
		{ "close/4000", 1 }, { "abort", 1 },
	};
	const char *url = server(NULL);
	struct kit_proc *p;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(ways); i++) {
		kit_note("/%s", ways[i].path);
		p = kit_httptun(NULL, kit_str("%s%s", url, ways[i].path),
		    NONE);
		kit_puts(p->in, "first");
		kit_expect(p->out, "last");
		kit_eof(p->out);
		kit_exits(p, ways[i].status);
		if (ways[i].status == 0)
			kit_err_is(p, "");
		else
			kit_err_has(p, "httptun: 127.0.0.1:");
	}
}

static void
hop(void **state)
{
	const char *url = server("connect.httptun");

	(void)state;
	target();
	tunnels(url, NULL);
}

static void
hop_resets(void **state)
{
	struct kit_proc *p;
	int t;

	(void)state;
	target();
	p = bridge(server("connect.httptun"), NONE);
	t = kit_accept(tl);
	kit_puts(p->in, "up");
	kit_expect(t, "up");
	kit_reset(t);
	kit_refused(p, "httptun: 127.0.0.1:");
}

static void
hop_refuses(void **state)
{
	const char *url = server("connect.httptun");

	(void)state;
	tport = kit_nobody(AF_INET);
	kit_refused(bridge(url, NONE), kit_str("httptun: %.*s: 502 ",
	    (int)strcspn(url + 5, "/"), url + 5));
}

/* Without the protocol the target's end is a Close behind its data. */
static void
hop_no_protocol(void **state)
{
	struct kit_proc *p;
	int t;

	(void)state;
	target();
	p = bridge(server(NULL), NONE);
	t = kit_accept(tl);
	kit_talk(p, t, BULK);
	kit_last_words(t, p->out, SOME, 3);
	kit_eof(t);
	kit_exits(p, 0);
	kit_err_is(p, "");
}


/* ---- websockify ---------------------------------------------------------- */

/* Some of its versions want the protocol, this one takes or leaves it. */
static void
websockify(void **state)
{
	const char *argv[] = { PYTHON, "-m", "websockify", "--inetd", NULL,
	    NULL }, *url;
	struct kit_proc *p;
	unsigned port;
	int i, t, lfd = kit_listen(AF_INET, &port);

	(void)state;
	target();
	argv[4] = kit_str("127.0.0.1:%u", tport);
	peer = kit_hand_over(lfd, NULL, argv);
	(void)close(lfd);
	url = kit_str("ws://127.0.0.1:%u/websockify", port);
	for (i = 0; i < 2; i++) {
		p = i == 0 ? kit_httptun(NULL, url, NONE) : kit_httptun(NULL,
		    "-H", "Sec-WebSocket-Protocol: binary", url, NONE);
		t = kit_accept(tl);
		kit_talk(p, t, BULK);
		kit_last_words(t, p->out, SOME, 3);
		kit_exits(p, 0);
		kit_err_is(p, "");
		(void)close(t);
	}
}


/* ---- all of them --------------------------------------------------------- */

#define CASE(name, f, row) { name, f, kit_setup, kit_teardown, row }
#define BEHIND(f) CASE("nginx: " #f, f, &nginx),			\
    CASE("haproxy: " #f, f, &haproxy)

static const struct CMUnitTest fixed[] = {
	BEHIND(both_ways),
	BEHIND(stalled),
	BEHIND(broken),
	BEHIND(a_hundred),
	BEHIND(credentials),
	BEHIND(refusals),
	CASE("nginx: not_upgraded", not_upgraded, &nginx),
	CASE("ssh behind nginx", ssh_behind_nginx, &nginx),
	KIT_TEST(through_tinyproxy),
	CASE("through tinyproxy to nginx", through_tinyproxy_to_nginx, &nginx),
	KIT_TEST(client_no_protocol_target_first),
	KIT_TEST(client_no_protocol_client_first),
	KIT_TEST(client_text_is_data),
	KIT_TEST(client_first_with_end),
	KIT_TEST(client_target_first_with_end),
	KIT_TEST(client_fragments),
	KIT_TEST(client_big_message),
	KIT_TEST(client_broken),
	KIT_TEST(client_target_resets),
	KIT_TEST(echo_of_files),
	KIT_TEST(echo_at_once),
	KIT_TEST(echo_as_text),
	KIT_TEST(server_closes),
	KIT_TEST(hop),
	KIT_TEST(hop_resets),
	KIT_TEST(hop_refuses),
	KIT_TEST(hop_no_protocol),
	KIT_TEST(websockify),
};

int
main(void)
{
	struct CMUnitTest tests[KIT_COUNT(fixed) + KIT_COUNT(curls)];
	size_t i, n = KIT_COUNT(fixed);

	memcpy(tests, fixed, sizeof(fixed));
	for (i = 0; i < KIT_COUNT(curls); i++) {
		struct CMUnitTest t = CASE(curls[i].name, test_curl,
		    (void *)(uintptr_t)&curls[i]);

		memcpy(&tests[n++], &t, sizeof(t));
	}
	return _cmocka_run_group_tests("peers", tests, n, NULL, NULL);
}
