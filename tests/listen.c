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
 * Listen mode, `httptun -l`, with scripted clients, targets and hops: what
 * it answers to good, bad and hostile requests, what it carries, and that
 * nothing is left of any of it.  Other people's programs never come here.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define LOCAL	"127.0.0.1", "0", (char *)NULL
#define MB	((uint64_t)1 << 20)
#define PEAK	8192		/* KiB that the program may ever take */
#define MARGIN	64		/* KiB by which the allocator may err */

/* The proxy under test, and a target for it. */
static struct kit_proxy	px;
static int		tl;
static unsigned		tport;


/* ---- the proxy, its clients and targets ---------------------------------- */

/* Starts `httptun -l` with these arguments, and a target. */
static void
serve(const char *arg, ...)
{
	va_list ap;

	va_start(ap, arg);
	kit_proxy_is(&px, kit_server(NULL, arg, ap));
	va_end(ap);
	tl = kit_listen(AF_INET, &tport);
}

/* Nothing is left of whatever was asked. */
static void
settles(void)
{
	kit_proxy_settles(&px);
}

/* It has taken up all that was sent. */
static void
rests(void)
{
	kit_proxy_rests(&px);
}

static int
fds(void)
{
	struct kit_figure f;

	kit_figure(px.proc->pid, &f);
	return f.fds;
}

static long
rss(void)
{
	struct kit_figure f;

	kit_figure(px.proc->pid, &f);
	return f.rss;
}

static int
client(void)
{
	return kit_client(&px);
}

static int
ask(const char *request)
{
	return kit_ask(&px, request);
}

static struct kit_pair
tunnel(void)
{
	return kit_tunnel(&px, tl, tport);
}

/* The next client is served. */
static void
serves(void)
{
	kit_farewell(tunnel());
}

static int
has_name(const char *name, int family)
{
	struct addrinfo hints = { .ai_family = family }, *ai;

	if (getaddrinfo(name, NULL, &hints, &ai) != 0) {
		print_message("%s has no such address here: not tested\n",
		    name);
		return 0;
	}
	freeaddrinfo(ai);
	return 1;
}

static void
nobody_at(int family)
{
	if (kit_knock(family, px.port) == 0)
		kit_fail("somebody listens where nobody should");
}


/* ---- listening ----------------------------------------------------------- */

static void
not_for_a_proxy(int family)
{
	int c = kit_connect(family, px.port);
	const char *text;

	kit_puts(c, "GET / HTTP/1.1\r\nHost: here\r\n\r\n");
	text = kit_refusal(c, 404, NULL, KIT_STAYS);
	if (strstr(text, "httptun") == NULL || strstr(text, "proxy") == NULL)
		kit_fail("it does not say what it is: <<%s>>", text);
	(void)close(c);
}

static void
loopback_by_default(void **state)
{
	(void)state;
	serve("0", NULL);
	not_for_a_proxy(AF_INET);
	if (kit_has_ipv6()) {
		assert_int_equal(kit_listening(px.proc, 1), px.port);
		not_for_a_proxy(AF_INET6);
		kit_err_is(px.proc, kit_str(
		    "httptun: listening on 127.0.0.1 %u\n"
		    "httptun: listening on ::1 %u\n", px.port, px.port));
	}
}

static void
one_family(void **state)
{
	(void)state;
	serve("-4", "0", NULL);
	not_for_a_proxy(AF_INET);
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
	if (!kit_has_ipv6())
		return;
	nobody_at(AF_INET6);
	serve("-6", "0", NULL);
	not_for_a_proxy(AF_INET6);
	nobody_at(AF_INET);
	kit_err_is(px.proc, kit_str("httptun: listening on ::1 %u\n", px.port));
}

static void
given_address(void **state)
{
	(void)state;
	serve(LOCAL);
	not_for_a_proxy(AF_INET);
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
	if (!kit_has_ipv6())
		return;
	nobody_at(AF_INET6);
	serve("::1", "0", NULL);
	not_for_a_proxy(AF_INET6);
	nobody_at(AF_INET);
	kit_err_is(px.proc, kit_str("httptun: listening on ::1 %u\n", px.port));
}

/* The port is asked for by number: there is no other way to say which. */
static void
given_port(void **state)
{
	unsigned port;
	int fd;

	(void)state;
	fd = kit_listen(AF_INET, &port);
	(void)close(fd);
	serve("127.0.0.1", kit_str("%u", port), NULL);
	assert_int_equal(px.port, port);
	serves();
}

static void
port_in_use(void **state)
{
	unsigned port;

	(void)state;
	(void)kit_listen(AF_INET, &port);
	kit_will_not_start(1, "127.0.0.1", kit_str("%u", port), NULL);
	kit_will_not_start(1, kit_str("%u", port), NULL);
	if (!kit_has_ipv6())
		return;
	(void)kit_listen(AF_INET6, &port);
	kit_will_not_start(1, "::1", kit_str("%u", port), NULL);
	kit_will_not_start(1, kit_str("%u", port), NULL);
}

static void
wrong_usage(void **state)
{
	static const char *const ports[] = {
		"", "abc", "65536", "99999999999", "4294967376", "80x", " 80",
		"80 ", "+80", "0x50", "8.0"
	};
	static const char *const addrs[] = {
		"256.1.1.1", "1:2", "::1::", "127.0.0.1:80", "not an address",
		"127.0.0.1 "
	};
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(ports); i++) {
		kit_will_not_start(2, ports[i], NULL);
		kit_will_not_start(2, "127.0.0.1", ports[i], NULL);
	}
	for (i = 0; i < KIT_COUNT(addrs); i++)
		kit_will_not_start(2, "-c", "any", addrs[i], "0", NULL);
	kit_will_not_start(2, NULL);
	kit_will_not_start(2, "127.0.0.1", "0", "more", NULL);
	kit_will_not_start(2, "-w", "0", LOCAL);
	kit_will_not_start(2, "-a", kit_path("missing"), LOCAL);
	kit_will_not_start(2, "-a", kit_file("faulty", 0600, "nocolon\n"),
	    LOCAL);
	/* TEST-NET-1: no machine has it */
	kit_will_not_start(1, "-c", "any", "192.0.2.1", "0", NULL);
}

/* Were the port looked at, the status would be 1: it is in use. */
static void
no_open_proxy(void **state)
{
	static const char *const addrs[] = {
		"0.0.0.0", "*", "::", "", "0", "0x0", "::ffff:0.0.0.0",
		"192.0.2.1"
	};
	const char *port;
	unsigned n;
	size_t i;

	(void)state;
	(void)kit_listen(AF_INET, &n);
	port = kit_str("%u", n);
	for (i = 0; i < KIT_COUNT(addrs); i++) {
		kit_will_not_start(2, addrs[i], port, NULL);
		kit_will_not_start(2, "-c", "!10.0.0.1", addrs[i], port, NULL);
	}
	kit_will_not_start(2, "-4", "*", port, NULL);
}

static void
open_when_told(void **state)
{
	const char *users = kit_file("users", 0600, "alice:secret\n");

	(void)state;
	serve("-c", "any", "0.0.0.0", "0", NULL);
	serves();
	kit_err_is(px.proc, kit_str("httptun: listening on 0.0.0.0 %u\n",
	    px.port));
	serve("-a", users, "0.0.0.0", "0", NULL);
	(void)kit_refusal(ask(kit_request_to(tport)), 407, NULL, KIT_STAYS);
	serve("-c", "any", "*", "0", NULL);
	serves();
	if (!kit_has_ipv6())
		return;
	not_for_a_proxy(AF_INET6);
	serve("-c", "any", "-6", "*", "0", NULL);
	not_for_a_proxy(AF_INET6);
	nobody_at(AF_INET);
}

static void
open_by_targets(void **state)
{
	(void)state;
	serve("-t", "127.0.0.1", "0.0.0.0", "0", NULL);
	serves();
}


/* ---- good requests ------------------------------------------------------- */

/* Through the proxy to a target of this family under this name. */
static void
reach(int family, const char *host)
{
	unsigned port;
	struct kit_pair p;
	int lfd;

	kit_note("target %s", host);
	lfd = kit_listen(family, &port);
	p.c = ask(kit_str("CONNECT %s:%u HTTP/1.1\r\nHost: %s:%u\r\n\r\n"
	    "early", host, port, host, port));
	p.t = kit_accept(lfd);
	kit_expect(p.c, KIT_OK);
	kit_expect(p.t, "early");
	kit_farewell(p);
	(void)close(lfd);
}

static void
kinds_of_targets(void **state)
{
	(void)state;
	serve(LOCAL);
	reach(AF_INET, "127.0.0.1");
	reach(AF_INET, "127.1");
	reach(AF_INET, "localhost");
	reach(AF_INET, "LocalHost");
	if (kit_has_ipv6()) {
		reach(AF_INET6, "[::1]");
		reach(AF_INET6, "[0:0:0:0:0:0:0:1]");
		reach(AF_INET, "[::ffff:127.0.0.1]");
		if (has_name("localhost", AF_INET6))
			reach(AF_INET6, "localhost");
	}
	settles();
}

/* More look-ups at once than there are processes for. */
static void
many_look_ups(void **state)
{
	const char *asks = kit_str("CONNECT localhost:%u HTTP/1.1\r\n\r\n",
	    kit_nobody(AF_INET));
	int c[100];
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(c); i++)
		c[i] = ask(asks);
	for (i = 0; i < KIT_COUNT(c); i++) {
		(void)kit_refusal(c[i], 502, "connection_refused", KIT_STAYS);
		(void)close(c[i]);
	}
	settles();
}

/* Whatever helps with look-ups may die: the next one works. */
static void
helper_dies(void **state)
{
	int i;

	(void)state;
	serve(LOCAL);
	reach(AF_INET, "localhost");
	for (i = 1; i < px.npids; i++) {
		assert_int_equal(kill(px.pids[i], SIGKILL), 0);
		kit_gone(px.pids[i]);
	}
	reach(AF_INET, "localhost");
	reach(AF_INET, "localhost");
	settles();
}

/* Nobody connects to it, and the client hears so. */
static void
not_reached(int family, const char *host, int status)
{
	unsigned port;
	int lfd, c;

	lfd = kit_listen(family, &port);
	c = ask(kit_str("CONNECT %s:%u HTTP/1.1\r\n\r\n", host, port));
	(void)kit_refusal(c, status, "", KIT_STAYS);
	kit_untouched(lfd);
	(void)close(c);
	(void)close(lfd);
}

static void
no_names(void **state)
{
	(void)state;
	serve("-n", LOCAL);
	not_reached(AF_INET, "localhost", 403);
	not_reached(AF_INET, "a.name.invalid", 403);
	reach(AF_INET, "127.0.0.1");
	if (kit_has_ipv6())
		reach(AF_INET6, "[::1]");
	settles();
}

static void
targets_of_one_family(void **state)
{
	(void)state;
	if (!kit_has_ipv6())
		skip();
	serve("-4", "0", NULL);
	reach(AF_INET, "127.0.0.1");
	reach(AF_INET, "localhost");
	not_reached(AF_INET6, "[::1]", 502);
	settles();
	serve("-6", "0", NULL);
	px.family = AF_INET6;
	reach(AF_INET6, "[::1]");
	not_reached(AF_INET, "127.0.0.1", 502);
	not_reached(AF_INET, "[::ffff:127.0.0.1]", 502);
	settles();
}

/* All the ways to ask that are right; a target for %u. */
static void
good_requests(void **state)
{
	static const char *const requests[] = {
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.0\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.7\r\nHost: h\r\n\r\n",
		"\r\nCONNECT 127.0.0.1:%u HTTP/1.1\r\nHost: h\r\n\r\n",
		"\r\n\r\nCONNECT 127.0.0.1:%u HTTP/1.1\r\nHost: h\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\nHost: other:1\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\nhOST:h\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\nX:\r\nY: \r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\nX:\ta\tb \xe9\xff \r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\nX: 1\r\nX: 2\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\n!#$%%&'*+-.^_`|~: 1\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\nConnection: close\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.1\r\nAuthorization: a\r\n\r\n",
		"CONNECT 127.0.0.1:%u HTTP/1.0\r\nProxy-Authorization:\r\n\r\n"
	};
	struct kit_pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(requests); i++) {
		kit_note("request %zu", i);
		p.c = ask(kit_str(requests[i], tport));
		p.t = kit_accept(tl);
		kit_expect(p.c, KIT_OK);
		kit_farewell(p);
	}
	settles();
}

/* Who speaks first is heard, before and after the other has. */
static void
early_data(void **state)
{
	struct kit_stream s[] = {
		{ .dir = KIT_OUT, .bytes = MB, .seed = 1 },
		{ .dir = KIT_IN, .bytes = MB, .seed = 1, .end = 1 }
	};
	char buf[15000], rest[64];
	struct kit_pair p;
	int c, t;

	(void)state;
	serve(LOCAL);
	/* as much as one read can take, with the head */
	kit_fill(buf, sizeof(buf), 1, 0);
	c = client();
	kit_puts(c, kit_request_to(tport));
	kit_send(c, buf, sizeof(buf));
	t = kit_accept(tl);
	s[0].fd = c;
	s[1].fd = t;
	s[0].done = sizeof(buf);
	s[0].end = 1;
	kit_pump(s, 2);
	kit_puts(t, "answer");
	kit_half_close(t);
	kit_expect(c, KIT_OK "answer");
	kit_eof(c);

	/* the end of file comes early too, and the target speaks first */
	p.c = ask(kit_str("%s%s", kit_request_to(tport), "all of it"));
	kit_half_close(p.c);
	p.t = kit_accept(tl);
	kit_puts(p.t, "SSH-2.0-target\r\n");
	kit_expect(p.c, KIT_OK "SSH-2.0-target\r\n");
	assert_int_equal(kit_slurp(p.t, rest, sizeof(rest)), 9);
	assert_string_equal(rest, "all of it");
	(void)close(p.t);
	kit_eof(p.c);
	(void)close(p.c);
	(void)close(c);
	(void)close(t);
	settles();
}


/* ---- bad requests -------------------------------------------------------- */

struct sample {
	int		 status;
	const char	*bytes;
	size_t		 len;
};

#define S(status, bytes)	{ status, bytes, sizeof(bytes) - 1 }
#define GET			"GET / HTTP/1.1\r\nHost: h\r\n"

static const struct sample malformed[] = {
	/* other protocols; there may be no line to wait for */
	S(400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
	S(400, "\x16"),
	S(400, "\x80\x2e\x01\x03\x01"),
	S(400, "\x05\x01\x00"),
	S(400, "\x04\x01\x00\x50\x7f\x00\x00\x01\x00"),
	S(400, "SSH-2.0-OpenSSH_9.2p1\r\n"),
	S(400, "* KIT_OK IMAP4rev1\r\n\r\n"),
	S(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	/* request lines */
	S(400, "GET /\r\n\r\n"),
	S(400, "GET\r\n\r\n"),
	S(400, "GET  / HTTP/1.1\r\n\r\n"),
	S(400, "GET /  HTTP/1.1\r\n\r\n"),
	S(400, " GET / HTTP/1.1\r\n\r\n"),
	S(400, "GET / HTTP/1.1 \r\n\r\n"),
	S(400, "GET\t/\tHTTP/1.1\r\n\r\n"),
	S(400, "GET / a HTTP/1.1\r\n\r\n"),
	S(400, "G@T / HTTP/1.1\r\n\r\n"),
	S(400, "GET / http/1.1\r\n\r\n"),
	S(400, "GET / HTTP/1\r\n\r\n"),
	S(400, "GET / HTTP/1.\r\n\r\n"),
	S(400, "GET / HTTP/1.1x\r\n\r\n"),
	S(400, "GET / HTTP/1.10\r\n\r\n"),
	S(400, "GET / HTTQ/1.1\r\n\r\n"),
	S(400, "GET / XHTTP/1.1\r\n\r\n"),
	S(505, "GET / HTTP/2.0\r\n\r\n"),
	S(505, "GET / HTTP/0.9\r\n\r\n"),
	S(505, "CONNECT 127.0.0.1:1 HTTP/3.0\r\n\r\n"),
	S(400, "\r\n\r\n\r\n" GET "\r\n"),
	/* line ends and control characters */
	S(400, "GET / HTTP/1.1\nHost: h\n\n"),
	S(400, "GET / HTTP/1.1\nHost: h\r\n\r\n"),
	S(400, "GET / HTTP/1.1\r\nHost: h\n\r\n"),
	S(400, GET "X: a\nY: b\r\n\r\n"),
	S(400, GET "\n"),
	S(400, "GET / HTTP/1.1\rHost: h\r\n\r\n"),
	S(400, GET "X: a\rb\r\n\r\n"),
	S(400, GET "X: a\r\r\n\r\n"),
	S(400, "\0GET / HTTP/1.1\r\n\r\n"),
	S(400, "GET /\0 HTTP/1.1\r\n\r\n"),
	S(400, "GET /\x01 HTTP/1.1\r\n\r\n"),
	S(400, "GET /\x7f HTTP/1.1\r\n\r\n"),
	S(400, GET "X\0Y: a\r\n\r\n"),
	S(400, GET "X: a\0b\r\n\r\n"),
	S(400, GET "X: a\x01\r\n\r\n"),
	S(400, GET "X: a\x1b[m\r\n\r\n"),
	S(400, GET "X: a\x7f\r\n\r\n"),
	/* fields */
	S(400, GET "X: a\r\n b\r\n\r\n"),
	S(400, GET "X: a\r\n\tb\r\n\r\n"),
	S(400, "GET / HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n"),
	S(400, GET "X : a\r\n\r\n"),
	S(400, GET "X\t: a\r\n\r\n"),
	S(400, GET ": a\r\n\r\n"),
	S(400, GET "X\r\n\r\n"),
	S(400, GET "X Y: a\r\n\r\n"),
	S(400, GET "X(: a\r\n\r\n"),
	S(400, GET "\xe9: a\r\n\r\n"),
	S(400, GET "Host: h\r\n\r\n"),
	S(400, GET "host: other\r\n\r\n"),
	S(400, "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
	/* what could be read in two ways */
	S(400, GET "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
	S(400, GET "Content-Length: x\r\n\r\n"),
	S(400, GET "Content-Length: -1\r\n\r\n"),
	S(400, GET "Content-Length: +1\r\n\r\n"),
	S(400, GET "Content-Length: 1 2\r\n\r\n"),
	S(400, GET "Content-Length: 99999999999999999999999\r\n\r\n"),
	S(400, GET "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")
};

/* Sent at once, or each byte in a segment of its own.  A refused client may
 * still be sending: it hears the reply all the same. */
static void
is_malformed(const struct sample *s, int drip)
{
	int c = client(), on = 1;
	size_t i;

	kit_note("%s: %.40s", drip ? "dripped" : "at once", s->bytes);
	if (drip)
		assert_int_equal(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on,
		    sizeof(on)), 0);
	for (i = 0; drip && i < s->len; i++)
		kit_send(c, s->bytes + i, 1);
	if (!drip)
		kit_send(c, s->bytes, s->len);
	(void)kit_refusal(c, s->status, NULL, KIT_CLOSES);
	(void)close(c);
}

static void
malformed_requests(void **state)
{
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(malformed); i++) {
		is_malformed(&malformed[i], 0);
		is_malformed(&malformed[i], 1);
	}
	serves();
	settles();
}

static void
bad_authorities(void **state)
{
	static const char *const bad[] = {
		"", "/", "/path", "*", "127.0.0.1", "127.0.0.1:", ":80", ":",
		"127.0.0.1:0", "127.0.0.1:00", "127.0.0.1:65536",
		"127.0.0.1:99999999999999999999", "127.0.0.1:4294967376",
		"127.0.0.1:abc", "127.0.0.1:8a", "127.0.0.1:-1",
		"127.0.0.1:+80", "127.0.0.1:0x50", "127.0.0.1:80:80",
		"127.0.0.1:80,81", "127.0.0.1:80/", "127.0.0.1:80/path",
		"127.0.0.1:80?q", "127.0.0.1:80#f", "127.0.0.1/:80",
		"user@127.0.0.1:80", "user:pw@127.0.0.1:80", "@127.0.0.1:80",
		"a b:80", "127.0.0.1 :80", "127.0.0.1: 80", "a\tb:80",
		"a\x01:80", "a\x7f:80", "\xe9:80", "a\"b:80", "a<b>:80",
		"a\\b:80", "a,b:80", "http://127.0.0.1:80/",
		"https://127.0.0.1:80", "//127.0.0.1:80",
		"::1:80", "::1", "[::1]", "[::1]:", "[::1]80", "[::1:80",
		"::1]:80", "[]:80", "[[::1]]:80", "[::1]x:80", "x[::1]:80",
		"[fe80::1%lo]:80", "[fe80::1%25lo]:80", "[::1%1]:80",
		"[127.0.0.1]:80", "[localhost]:80", "[::g]:80", "[1:2]:80",
		"[v1.x]:80"
	};
	char name[300];
	size_t i;
	int c;

	(void)state;
	serve(LOCAL);
	memset(name, 'a', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	for (i = 0; i <= KIT_COUNT(bad); i++) {
		kit_note("authority %zu", i);
		c = ask(kit_str("CONNECT %s HTTP/1.1\r\nHost: h\r\n\r\n",
		    i < KIT_COUNT(bad) ? bad[i] : kit_str("%s:80", name)));
		(void)kit_refusal(c, 400, NULL, KIT_CLOSES);
		(void)close(c);
	}
	serves();
	settles();
}

static void
too_long(const char *request, int status)
{
	struct sample s = { status, request, strlen(request) };

	is_malformed(&s, 0);
}

static void
long_requests(void **state)
{
	int c;

	(void)state;
	serve(LOCAL);
	too_long(kit_str("GET /%s HTTP/1.1\r\n\r\n",
	    kit_times(100000, "a")), 414);
	too_long(kit_str("GET /%s HTTP/1.1\r\n\r\n",
	    kit_times(8300, "a")), 414);
	too_long(kit_str("CONNECT %s:80 HTTP/1.1\r\n\r\n",
	    kit_times(100000, "a")), 414);
	too_long(kit_times(1 << 20, "A"), 414);
	too_long(kit_times(1000, "\r\n"), 400);
	too_long(kit_str(GET "%s\r\n", kit_times(MB / 32,
	    "X-Field: 012345678901234567890\r\n")), 431);
	too_long(kit_str(GET "X: %s\r\n\r\n", kit_times(1 << 20, "x")), 431);
	too_long(kit_str(GET "%s: x\r\n\r\n", kit_times(1 << 20, "X")), 431);
	too_long(kit_str(GET "X: %s\r\n\r\n", kit_times(16384, "x")), 431);
	too_long(kit_str(GET "%s\r\n", kit_times(100, "X:\r\n")), 431);
	too_long(kit_str(GET "%s", kit_times(17000, "x")), 431);

	/* and what is just not too long */
	c = ask(kit_str("GET /%s HTTP/1.1\r\nHost: h\r\n\r\n",
	    kit_times(8100, "a")));
	(void)kit_refusal(c, 404, NULL, KIT_STAYS);
	kit_puts(c, kit_str(GET "X: %s\r\n\r\n", kit_times(16000, "x")));
	(void)kit_refusal(c, 404, NULL, KIT_STAYS);
	kit_puts(c, kit_str(GET "%s\r\n", kit_times(99, "X:\r\n")));
	(void)kit_refusal(c, 404, NULL, KIT_STAYS);
	(void)close(c);
	serves();
	settles();
	kit_proxy_below(&px, PEAK);
}

/* A refused client that does not go, or sends for ever, is not kept. */
static void
refused_and_stays(void **state)
{
	int i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 10; i++)
		(void)kit_refusal(ask(i % 2 ? "\x16" :
		    "GET / HTTP/1.0\r\n\r\n"), i % 2 ? 400 : 404, NULL,
		    KIT_CLOSES);
	serves();
	kit_push_until_reset(ask("\x16"));
	settles();
}


/* ---- asking again -------------------------------------------------------- */

/* One connection is refused in every way that is not its fault, twice, and
 * still gets its tunnel. */
static void
refused_and_asks_again(void **state)
{
	static const struct {
		const char	*asks;
		int		 auth, status;
		const char	*error;
	} steps[] = {
		{ "CONNECT 127.0.0.1:%u", 0, 407, NULL },
		{ "CONNECT localhost:%u", 1, 403, "" },
		{ "GET /%u", 1, 404, NULL },
		{ "CONNECT 127.0.0.1:%u", 1, 502, "connection_refused" },
		{ "OPTIONS *", 1, 404, NULL },
		{ "BREW /%u", 1, 404, NULL }
	};
	unsigned nobody = kit_nobody(AF_INET);
	const char *auth;
	struct kit_pair p;
	size_t i;

	(void)state;
	serve("-n", "-a", kit_file("users", 0600, "alice:secret\n"), LOCAL);
	auth = kit_str("Proxy-Authorization: %s\r\n",
	    kit_basic("alice:secret"));
	p.c = client();
	for (i = 0; i < 2 * KIT_COUNT(steps); i++) {
		size_t n = i % KIT_COUNT(steps);

		kit_puts(p.c, kit_str(steps[n].asks, nobody));
		kit_puts(p.c, kit_str(" HTTP/1.1\r\nHost: h\r\n%s\r\n",
		    steps[n].auth ? auth : ""));
		(void)kit_refusal(p.c, steps[n].status, steps[n].error,
		    KIT_STAYS);
	}
	kit_puts(p.c, kit_str("CONNECT 127.0.0.1:%u HTTP/1.1\r\n%s\r\n",
	    tport, auth));
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	settles();
}

static void
stays_or_closes(void **state)
{
	static const struct {
		const char	*request;
		enum kit_after	 after;
	} cases[] = {
		{ GET "\r\n", KIT_STAYS },
		{ GET "Content-Length: 0\r\n\r\n", KIT_STAYS },
		{ GET "Connection: keep-alive\r\n\r\n", KIT_STAYS },
		{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
		    KIT_STAYS },
		{ "GET / HTTP/1.0\r\n\r\n", KIT_CLOSES },
		{ GET "Connection: close\r\n\r\n", KIT_CLOSES },
		{ GET "Connection: foo\r\nConnection: bar, Close\r\n\r\n",
		    KIT_CLOSES },
		/* a body, there or not, is never taken for a request */
		{ "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 27\r\n\r\n"
		    GET "\r\n", KIT_CLOSES },
		{ "PUT / HTTP/1.1\r\nHost: h\r\n"
		    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
		    GET "\r\n", KIT_CLOSES },
		{ "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n",
		    KIT_CLOSES }
	};
	size_t i;
	int c;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		c = ask(cases[i].request);
		(void)kit_refusal(c, 404, NULL, cases[i].after);
		if (cases[i].after == KIT_STAYS) {
			kit_puts(c, "GET / HTTP/1.0\r\n\r\n");
			(void)kit_refusal(c, 404, NULL, KIT_CLOSES);
		}
		(void)close(c);
	}
	/* two at once, and the end of file behind them */
	c = ask(GET "\r\n" GET "\r\n");
	kit_half_close(c);
	(void)kit_refusal(c, 404, NULL, KIT_STAYS);
	(void)kit_refusal_head(c, 404, NULL, KIT_STAYS);
	(void)close(c);
	settles();
}

/* Who asks and asks and never reads an answer is stopped, too. */
static void
asks_without_reading(void **state)
{
	const char *asks;
	struct pollfd pfd = { .events = POLLOUT };
	size_t sent = 0;
	ssize_t n;

	(void)state;
	serve(LOCAL);
	asks = kit_times(4096, GET "\r\n");
	pfd.fd = client();
	while (sent < 100 * MB && poll(&pfd, 1, 100) > 0) {
		n = send(pfd.fd, asks, strlen(asks), MSG_DONTWAIT);
		if (n == -1 && errno != EAGAIN)
			kit_fail("after %zu bytes: %s", sent, strerror(errno));
		sent += n > 0 ? (size_t)n : 0;
	}
	if (sent >= 100 * MB)
		kit_fail("nothing has stopped it");
	rests();
	serves();
	kit_proxy_below(&px, PEAK);
	kit_reset(pfd.fd);
	settles();
}

/* What stands behind a CONNECT is the tunnel's and no request, also when
 * there is no tunnel. */
static void
bytes_behind_a_refused_connect(void **state)
{
	static const char *const behind[] = {
		GET "\r\n", "x", "\r\n", "CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n"
	};
	const char *users = kit_file("users", 0600, "alice:secret\n");
	unsigned nobody = kit_nobody(AF_INET);
	size_t i;
	int c;

	(void)state;
	serve("-n", LOCAL);
	for (i = 0; i < KIT_COUNT(behind); i++) {
		c = ask(kit_str("%s%s", kit_request_to(nobody), behind[i]));
		(void)kit_refusal(c, 502, "connection_refused", KIT_CLOSES);
		(void)close(c);
		c = ask(kit_str("CONNECT localhost:%u HTTP/1.1\r\n\r\n%s",
		    tport, behind[i]));
		(void)kit_refusal(c, 403, "", KIT_CLOSES);
		(void)close(c);
	}
	c = ask(kit_str("CONNECT 127.0.0.1:%u HTTP/1.1\r\n"
	    "Content-Length: 4\r\n\r\n", nobody));
	(void)kit_refusal(c, 502, "connection_refused", KIT_CLOSES);
	(void)close(c);
	kit_untouched(tl);
	settles();
	serve("-a", users, LOCAL);
	c = ask(kit_str("%s%s", kit_request_to(tport), behind[0]));
	(void)kit_refusal(c, 407, NULL, KIT_CLOSES);
	(void)close(c);
	kit_untouched(tl);
	settles();
}

/* A request of n bytes, which is none for a proxy. */
static const char *
padded(size_t n)
{
	return kit_str("%sX: %s\r\n\r\n", GET,
	    kit_times(n - strlen(GET) - 7, "y"));
}

/* Also when they have not been read with it. */
static void
bytes_unread_behind_a_refused_connect(void **state)
{
	const char *users = kit_file("users", 0600, "alice:secret\n");
	const size_t once = 16384 + 4096;	/* is read */
	const char *connect;
	size_t n;
	int c;

	(void)state;
	serve("-a", users, LOCAL);
	connect = kit_request_to(tport);
	for (n = once - 1; n <= once + 1; n++) {
		c = ask(kit_str("%s%s%s" GET "\r\n", padded(9000),
		    padded(n - 9000 - strlen(connect)), connect));
		(void)kit_refusal(c, 404, NULL, KIT_STAYS);
		(void)kit_refusal(c, 404, NULL, KIT_STAYS);
		(void)kit_refusal(c, 407, NULL, KIT_CLOSES);
		(void)close(c);
	}
	settles();
}

static void
head_without_a_body(void **state)
{
	int c;

	(void)state;
	serve(LOCAL);
	c = ask("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_true(kit_refusal_head(c, 404, NULL, KIT_STAYS) > 0);
	kit_puts(c, GET "\r\n");
	(void)kit_refusal(c, 404, NULL, KIT_STAYS);
	kit_puts(c, "HEAD /x HTTP/1.0\r\n\r\n");
	assert_true(kit_refusal_head(c, 404, NULL, KIT_CLOSES) > 0);
	kit_eof(c);
	(void)close(c);
	settles();
}


/* ---- every cut ----------------------------------------------------------- */

static const char *
request_to_cut(void)
{
	return kit_str("\r\nCONNECT 127.0.0.1:%u HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\nUser-Agent: a cut one\r\n"
	    "Proxy-Connection: Keep-Alive\r\n\r\nearly", tport, tport);
}

static void
opens_with_early(int c)
{
	struct kit_pair p = { c, kit_accept(tl) };

	kit_expect(p.c, KIT_OK);
	kit_expect(p.t, "early");
	kit_farewell(p);
}

static void
connect_at_every_cut(void **state)
{
	const char *req;
	size_t i, len;
	int c;

	(void)state;
	serve(LOCAL);
	req = request_to_cut();
	len = strlen(req);
	for (i = 1; i < len; i++) {
		c = client();
		kit_note("cut at %zu", i);
		kit_send(c, req, i);
		rests();
		kit_send(c, req + i, len - i);
		opens_with_early(c);
	}
	c = client();
	for (i = 0; i < len; i++) {
		kit_send(c, req + i, 1);
		rests();
	}
	opens_with_early(c);
	settles();
}

/* On one connection: a rest of one request must not spoil the next. */
static void
refusals_at_every_cut(void **state)
{
	static const char *const requests[] = {
		GET "Accept: */*\r\n\r\n",
		"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n"
		    "Proxy-Authorization: Basic YTpi\r\n\r\n"
	};
	static const int status[] = { 404, 407 };
	size_t i, len, r;
	int c;

	(void)state;
	serve("-a", kit_file("users", 0600, "alice:secret\n"), LOCAL);
	c = client();
	for (r = 0; r < KIT_COUNT(requests); r++) {
		len = strlen(requests[r]);
		for (i = 1; i < len; i++) {
			kit_note("cut at %zu", i);
			kit_send(c, requests[r], i);
			rests();
			kit_send(c, requests[r] + i, len - i);
			(void)kit_refusal(c, status[r], NULL, KIT_STAYS);
		}
		for (i = 0; i < len; i++) {
			kit_send(c, requests[r] + i, 1);
			rests();
		}
		(void)kit_refusal(c, status[r], NULL, KIT_STAYS);
	}
	kit_half_close(c);
	kit_eof(c);
	(void)close(c);
	settles();
}


/* ---- what a tunnel carries ----------------------------------------------- */

/* One ends its direction, the other sends a lot afterwards. */
static void
half_closed(int quiet, int sender)
{
	kit_half_closed(quiet, sender, 10 * MB);
	settles();
}

static void
half_close_either_way(void **state)
{
	struct kit_pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel();
	half_closed(p.c, p.t);
	p = tunnel();
	half_closed(p.t, p.c);
}

static void
both_directions_at_once(void **state)
{
	(void)state;
	serve(LOCAL);
	kit_crosses(tunnel(), 64 * MB);
	settles();
	kit_proxy_below(&px, PEAK);
}

/* The sender must be stopped long before its end, the program must rest
 * meanwhile, and then everything comes. */
static void
stalled(int from, int to)
{
	struct kit_stream s[] = {
		{ from, KIT_OUT, 200 * MB, 1, 1, 0 },
		{ to, KIT_IN, 200 * MB, 1, 1, 0 }
	};

	kit_stalls(&s[0], 200);
	rests();
	kit_pump(s, 2);
	kit_proxy_below(&px, PEAK);
}

static void
stalled_reader(void **state)
{
	struct kit_pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel();
	stalled(p.c, p.t);
	stalled(p.t, p.c);
	(void)close(p.c);
	(void)close(p.t);
	settles();
}

static void
reset_either_way(void **state)
{
	(void)state;
	serve(LOCAL);
	kit_reset_passes(tunnel, 1);
	settles();
	kit_reset_passes(tunnel, 0);
	settles();
	serves();
}


/* ---- clients and targets that vanish ------------------------------------- */

/* Before a byte, or in the head. */
static void
vanish_in_head(const char *bytes, enum kit_way how)
{
	char buf[1024];
	int c = client();

	kit_puts(c, bytes);
	rests();
	kit_vanish(c, how);
	if (how != KIT_WAY_HALF)
		return;
	if (kit_slurp(c, buf, sizeof(buf)) > 0 &&
	    strncmp(buf, "HTTP/1.1 400 ", 13) != 0)
		kit_fail("<<%s>> for half a head", buf);
	(void)close(c);
}

static void
vanish_in_heads(void)
{
	static const char *const halves[] = {
		"", "\r\n", "C", "CONNECT", "CONNECT 127.0.0.1:80 HTTP/1.1\r\n",
		"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: h\r\n",
		"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: h\r\n\r",
		GET "\r\n" GET
	};
	enum kit_way how;
	size_t i;

	for (i = 0; i + 1 < KIT_COUNT(halves); i++)
		for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++)
			vanish_in_head(halves[i], how);
	vanish_in_head(halves[i], KIT_WAY_CLOSE);
	vanish_in_head(halves[i], KIT_WAY_RESET);
}

static void
vanishing_in_the_head(void **state)
{
	(void)state;
	serve(LOCAL);
	vanish_in_heads();
	settles();
	serves();
}

/* A reset frees all at once, and not only after -w's 30 s. */
static void
reset_while_connecting(void **state)
{
	unsigned port;
	int c[20];
	size_t i;

	(void)state;
	serve(LOCAL);
	kit_blackhole(&port);
	for (i = 0; i < KIT_COUNT(c); i++) {
		c[i] = ask(kit_request_to(port));
		if (i % 2)
			kit_puts(c[i], "early");
		rests();
	}
	assert_int_equal(fds(), px.idle.fds + 2 * (int)KIT_COUNT(c));
	serves();
	for (i = 0; i < KIT_COUNT(c); i++)
		kit_reset(c[i]);
	settles();
	serves();
}

/* The same when it has sent more than is kept meanwhile, so that nothing is
 * read from it any more. */
static void
reset_while_connecting_and_full(void **state)
{
	struct kit_stream flood = { 0, KIT_OUT, 100 * MB, 1, 0, 0 };
	unsigned port;

	(void)state;
	serve(LOCAL);
	kit_blackhole(&port);
	flood.fd = ask(kit_request_to(port));
	kit_stuff(&flood, 100);
	kit_reset(flood.fd);
	settles();
}

/* And in the look-up. */
static void
reset_while_looking_up(void **state)
{
	int c[30];
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(c); i++)
		c[i] = ask("CONNECT something.invalid:80 HTTP/1.1\r\n\r\n");
	for (i = 0; i < KIT_COUNT(c); i++)
		kit_reset(c[i]);
	reach(AF_INET, "localhost");
	settles();
}

/* Who ends its direction may still want the answer: it comes.  Who has closed
 * cannot be told from it, and is forgotten with the answer. */
static void
closing_while_connecting(void **state)
{
	char buf[1024];
	unsigned port;
	int half, c;

	(void)state;
	serve("-w", "1", LOCAL);
	kit_blackhole(&port);
	half = ask(kit_request_to(port));
	kit_half_close(half);
	c = ask(kit_request_to(port));
	rests();
	(void)close(c);
	(void)kit_slurp(half, buf, sizeof(buf));
	if (strncmp(buf, "HTTP/1.1 504 ", 13) != 0)
		kit_fail("<<%s>> and no 504", buf);
	(void)close(half);
	settles();
	serves();
}

/* One of an idle tunnel goes. */
static void
vanish_idle(int a, int b, enum kit_way how)
{
	kit_vanish(a, how);
	if (how == KIT_WAY_RESET)
		kit_expect_reset(b);
	else
		kit_eof(b);
	if (how == KIT_WAY_HALF) {
		kit_puts(b, "still here");
		kit_expect(a, "still here");
	}
	(void)close(b);
	if (how == KIT_WAY_HALF)
		kit_ends(a);
}

/* The sender goes while its bytes are on their way: closing, it has sent
 * them, and they arrive. */
static void
vanish_sending(int a, int b, enum kit_way how)
{
	struct kit_stream s[] = {
		{ a, KIT_OUT, 100 * MB, 1, 0, 0 },
		{ b, KIT_IN, 0, 1, 1, 0 }
	};

	kit_stuff(&s[0], 50);
	kit_vanish(a, how);
	s[1].bytes = s[0].done;
	if (how == KIT_WAY_RESET)
		kit_until_reset(b);
	else
		kit_pump(s + 1, 1);
	(void)close(b);
	if (how == KIT_WAY_HALF)
		kit_ends(a);
}

/* The receiver goes while bytes are on their way to it: the sender is reset,
 * as what it sent is lost. */
static void
vanish_receiving(int a, int b, enum kit_way how)
{
	struct kit_stream s[] = {
		{ b, KIT_OUT, 100 * MB, 1, 0, 0 },
		{ a, KIT_IN, 0, 1, 1, 0 }
	};

	kit_stuff(&s[0], 50);
	kit_vanish(a, how);
	if (how != KIT_WAY_HALF) {
		kit_until_reset(b);
		(void)close(b);
		return;
	}
	s[1].bytes = s[0].done;
	kit_eof(b);
	(void)close(b);
	kit_pump(s + 1, 1);
	(void)close(a);
}

/* Both go while neither reads, so that the proxy only hears of it by what it
 * still has for them. */
static void
vanish_stuffed(int a, int b, enum kit_way how, int in_turn)
{
	struct kit_stream s[] = {
		{ a, KIT_OUT, 100 * MB, 1, 0, 0 },
		{ b, KIT_OUT, 100 * MB, 2, 0, 0 }
	};

	kit_stuff(&s[0], 50);
	kit_stuff(&s[1], 50);
	if (how == KIT_WAY_HALF)
		how = KIT_WAY_RESET;
	kit_vanish(a, how);
	if (in_turn)
		rests();
	kit_vanish(b, how);
}

static void
vanish_both(int a, int b, enum kit_way how)
{
	vanish_stuffed(a, b, how, 0);
}

static void
vanish_in_turn(int a, int b, enum kit_way how)
{
	vanish_stuffed(a, b, how, 1);
}

static void
vanish_open(void (*phase)(int, int, enum kit_way))
{
	struct kit_pair p;
	enum kit_way how;

	for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++) {
		p = tunnel();
		phase(p.c, p.t, how);
		p = tunnel();
		phase(p.t, p.c, how);
	}
}

static void
vanishing_from_an_idle_tunnel(void **state)
{
	(void)state;
	serve(LOCAL);
	vanish_open(vanish_idle);
	settles();
	serves();
}

static void
vanishing_from_a_busy_tunnel(void **state)
{
	(void)state;
	serve(LOCAL);
	vanish_open(vanish_sending);
	vanish_open(vanish_receiving);
	vanish_open(vanish_both);
	settles();
	serves();
	kit_proxy_below(&px, PEAK);
}


/* ---- targets that cannot be had, and time -------------------------------- */

static void
targets_that_refuse(void **state)
{
	unsigned n4 = kit_nobody(AF_INET);
	int c;

	(void)state;
	serve(LOCAL);
	c = ask(kit_request_to(n4));
	(void)kit_refusal(c, 502, "connection_refused", KIT_STAYS);
	if (kit_has_ipv6()) {
		kit_puts(c, kit_str("CONNECT [::1]:%u HTTP/1.1\r\n\r\n",
		    kit_nobody(AF_INET6)));
		(void)kit_refusal(c, 502, "connection_refused", KIT_STAYS);
	}
	kit_puts(c, kit_str("CONNECT localhost:%u HTTP/1.1\r\n\r\n", n4));
	(void)kit_refusal(c, 502, "connection_refused", KIT_STAYS);
	kit_puts(c, "CONNECT something.invalid:80 HTTP/1.1\r\n\r\n");
	(void)kit_refusal(c, 502, "dns_error", KIT_STAYS);
	(void)close(c);
	settles();
	serves();
}

static void
targets_that_never_answer(void **state)
{
	struct kit_stream flood = { 0, KIT_OUT, 100 * MB, 1, 0, 0 };
	int64_t start = kit_now();
	int behind, later;
	unsigned port;
	struct kit_pair p;

	(void)state;
	serve("-w", "1", LOCAL);
	kit_blackhole(&port);
	p.c = ask(kit_request_to(port));
	behind = ask(kit_str("%s" GET "\r\n", kit_request_to(port)));
	later = ask(kit_request_to(port));
	rests();
	kit_puts(later, GET "\r\n");
	flood.fd = ask(kit_request_to(port));
	kit_stuff(&flood, 100);
	assert_true(flood.done < flood.bytes);
	rests();
	serves();
	(void)kit_refusal(p.c, 504, "connection_timeout", KIT_STAYS);
	if (kit_now() - start < 900)
		kit_fail("it has waited %d ms", (int)(kit_now() - start));
	(void)kit_refusal(behind, 504, "connection_timeout", KIT_CLOSES);
	(void)kit_refusal(later, 504, "connection_timeout", KIT_CLOSES);
	kit_reset(flood.fd);
	kit_puts(p.c, kit_request_to(tport));
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	(void)close(behind);
	(void)close(later);
	settles();
	kit_proxy_below(&px, PEAK);
}

/* Sends a byte each second until something comes. */
static void
drip(int c, const char *bytes)
{
	struct pollfd pfd = { .fd = c, .events = POLLIN };

	do {
		assert_int_not_equal(*bytes, '\0');
		kit_send(c, bytes++, 1);
	} while (poll(&pfd, 1, 1000) == 0);
}

static void
slow_heads(void **state)
{
	int dripping, mute, half, empty, asked;
	int64_t start = kit_now();
	char buf[1024];
	struct kit_pair p;

	(void)state;
	serve("-w", "2", LOCAL);
	p = tunnel();
	dripping = client();
	mute = client();
	half = ask("CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost:");
	empty = ask("\r\n");
	asked = ask(GET "\r\n");
	(void)kit_refusal(asked, 404, NULL, KIT_STAYS);
	serves();
	drip(dripping, "CONNECT 127.0.0.1:80 HTTP/1.1\r\n");
	if (kit_now() - start < 1900)
		kit_fail("they had %d ms", (int)(kit_now() - start));
	(void)kit_refusal(dripping, 408, NULL, KIT_CLOSES);
	(void)kit_refusal(mute, 408, NULL, KIT_CLOSES);
	(void)kit_refusal(half, 408, NULL, KIT_CLOSES);
	(void)kit_refusal(empty, 408, NULL, KIT_CLOSES);
	(void)close(dripping);
	(void)close(mute);
	(void)close(half);
	(void)close(empty);
	/* who has had an answer is not told, or is */
	if (kit_slurp(asked, buf, sizeof(buf)) > 0 &&
	    strncmp(buf, "HTTP/1.1 408 ", 13) != 0)
		kit_fail("<<%s>> to one who asks nothing", buf);
	(void)close(asked);
	/* -w is for opening: an open tunnel has all the time there is */
	kit_farewell(p);
	settles();
}


/* ---- credentials --------------------------------------------------------- */

static const char users[] =
    "# the users: of this proxy\n"
    "alice:secret\n"
    "\n"
    "#dave:hidden\n"
    "bob:pass:with:colons\n"
    "carol:two words # and this\n"
    "empty:\n"
    "aliceandmore:other\n";

static const char *
connect_with(const char *credentials)
{
	return kit_request(kit_str("127.0.0.1:%u", tport), kit_str("%s%s\r\n",
	    strchr(credentials, ':') ? "" : "Proxy-Authorization: ",
	    credentials));
}

/* All on one connection, which then is accepted. */
static void
wrong_credentials(void **state)
{
	static const char *const pairs[] = {
		"alice:Secret", "alice:secre", "alice:secret1", "alice:",
		"alice", "", ":", ":secret", "Alice:secret", "bob:secret",
		"bob:pass", "bob:pass:with", "bob:pass:with:colons:",
		"carol:two words", "mallory:secret", "dave:hidden",
		"#dave:hidden", "# the users: of this proxy",
		"# the users", "empty", "empty:x", "aliceandmore:secret",
		"alice:other", "alice:secret\n", "alice:secret\nbob",
		" alice:secret"
	};
	static const char *const values[] = {
		"Basic", "Basic ", "Basic =", "Basic !!!!", "Basic YWxpY2",
		"Basic YWxpY2U6c2VjcmV0=", "Basic YWxpY2U6c2VjcmV0====",
		"Basic YWxpY2U6 c2VjcmV0", "Basic YWxpY2U6c2Vjcm",
		"Basic YWxpY2U6c2VjcmV0A", "Basic YWxpY2U6c2VjcmV0AA",
		"Basic Ym9iOnBhc3M6d2l0aDpjb2xvbnM",
		"Basic Ym9iOnBhc3M6d2l0aDpjb2xvbnM==",
		"BasicYWxpY2U6c2VjcmV0", "YWxpY2U6c2VjcmV0",
		"Bearer YWxpY2U6c2VjcmV0", "Digest YWxpY2U6c2VjcmV0",
		"Negotiate", "Basi YWxpY2U6c2VjcmV0", "X-Nothing: here",
		/* meant for somebody else */
		"Authorization: Basic YWxpY2U6c2VjcmV0"
	};
	struct kit_pair p;
	size_t i;

	(void)state;
	serve("-a", kit_file("users", 0600, users), LOCAL);
	p.c = client();
	for (i = 0; i < KIT_COUNT(pairs); i++) {
		kit_note("pair %s", pairs[i]);
		kit_puts(p.c, connect_with(kit_basic(pairs[i])));
		(void)kit_refusal(p.c, 407, NULL, KIT_STAYS);
	}
	for (i = 0; i < KIT_COUNT(values); i++) {
		kit_note("value %s", values[i]);
		kit_puts(p.c, connect_with(values[i]));
		(void)kit_refusal(p.c, 407, NULL, KIT_STAYS);
	}
	/* nor does an unknown one learn what there is behind the proxy */
	kit_puts(p.c, kit_request_to(kit_nobody(AF_INET)));
	(void)kit_refusal(p.c, 407, NULL, KIT_STAYS);
	kit_untouched(tl);
	kit_puts(p.c, connect_with(kit_basic("alice:secret")));
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	settles();
}

static void
right_credentials(void **state)
{
	static const char *const pairs[] = {
		"alice:secret", "bob:pass:with:colons",
		"carol:two words # and this", "empty:", "aliceandmore:other"
	};
	static const char *const schemes[] = {
		"Basic ", "basic ", "BASIC ", "bASIC   "
	};
	struct kit_pair p;
	size_t i, n;

	(void)state;
	serve("-a", kit_file("users", 0600, users), LOCAL);
	for (i = 0; i < KIT_COUNT(pairs) * KIT_COUNT(schemes); i++) {
		n = i / KIT_COUNT(pairs);
		kit_note("pair %s", pairs[i % KIT_COUNT(pairs)]);
		p.c = ask(kit_request_to(tport));
		(void)kit_refusal(p.c, 407, NULL, KIT_STAYS);
		kit_puts(p.c, connect_with(kit_str("%s%s", schemes[n],
		    kit_base64(pairs[i % KIT_COUNT(pairs)]))));
		p.t = kit_accept(tl);
		kit_expect(p.c, KIT_OK);
		kit_farewell(p);
	}
	settles();
}


/* ---- a chain: -l -x ------------------------------------------------------ */

static int
chain(const char *hop, const char *w)
{
	unsigned port;
	int lfd = kit_listen(AF_INET, &port);

	serve("-w", w, "-x", kit_str("%s127.0.0.1:%u", hop, port), LOCAL);
	return lfd;
}

#define AFAR	"something.invalid:443"

static const char *
connect_afar(const char *fields)
{
	return kit_request(AFAR, fields);
}

/* What a hop is asked, and that nothing of the client's own comes along. */
static void
hop_is_asked(int h, const char *auth)
{
	static const char line[] = "CONNECT " AFAR " HTTP/1.1\r\n";
	char head[4096];

	(void)kit_head(h, head, sizeof(head));
	if (strncmp(head, line, sizeof(line) - 1) != 0)
		kit_fail("a hop was asked <<%s>>", head);
	assert_string_equal(kit_must_have(head, "Host", ""), AFAR);
	if (auth != NULL)
		assert_string_equal(kit_must_have(head, "Proxy-Authorization",
		    ""), auth);
	else if (kit_one_field(head, "Proxy-Authorization") != NULL)
		kit_fail("whose credentials? <<%s>>", head);
	if (kit_one_field(head, "X-Own") != NULL)
		kit_fail("the client's own field: <<%s>>", head);
}

static void
chain_carries(void **state)
{
	struct kit_pair p;
	int lfd;

	(void)state;
	lfd = chain("", "30");
	p.c = ask(kit_str("%searly", connect_afar("X-Own: 1\r\n"
	    "Proxy-Authorization: Basic YTpi\r\n")));
	p.t = kit_accept(lfd);
	hop_is_asked(p.t, NULL);
	kit_silent(p.t, 50);
	kit_silent(p.c, 0);
	kit_puts(p.t, "HTTP/1.0 200 Whatever\r\nVia: x\r\n"
	    "Content-Length: 5\r\n\r\nhello");
	kit_expect(p.c, KIT_OK "hello");
	kit_expect(p.t, "early");
	half_closed(p.c, p.t);

	/* more of it than is kept: nothing lost, the rest waits outside */
	{
		struct kit_stream s[] = {
			{ 0, KIT_OUT, 50 * MB, 1, 1, 0 },
			{ 0, KIT_IN, 50 * MB, 1, 1, 0 }
		};

		s[0].fd = ask(connect_afar(""));
		s[1].fd = kit_accept(lfd);
		hop_is_asked(s[1].fd, NULL);
		kit_stuff(&s[0], 100);
		assert_true(s[0].done < s[0].bytes);
		rests();
		kit_puts(s[1].fd, "HTTP/1.1 200 KIT_OK\r\n\r\n");
		kit_expect(s[0].fd, KIT_OK);
		kit_pump(s, 2);
		(void)close(s[0].fd);
		(void)close(s[1].fd);
	}
	kit_untouched(lfd);
	settles();
	kit_proxy_below(&px, PEAK);
}

static void
chain_refused(void **state)
{
	static const struct {
		const char	*reply;
		int		 status;
	} cases[] = {
		{ "HTTP/1.1 407 Proxy Authentication Required\r\n"
		    "Proxy-Authenticate: Basic realm=\"hop\"\r\n"
		    "Content-Length: 7\r\n\r\nhop's\r\n", 502 },
		{ "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 502 },
		{ "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nhop's", 403 },
		{ "HTTP/1.0 403\r\n\r\nhop's", 403 },
		{ "HTTP/1.1 401 Who\r\n\r\n", 502 },
		{ "HTTP/1.1 404 Not here\r\n\r\n", 502 },
		{ "HTTP/1.1 302 Go\r\nLocation: http://x/\r\n\r\n", 502 },
		{ "HTTP/1.1 503 Later\r\n\r\n", 502 },
		{ "HTTP/1.1 504 Slow\r\n\r\n", 502 },
		{ "SSH-2.0-OpenSSH_9.2\r\n", 502 },
		{ "HTTP/1.1 200 KIT_OK\r\nVia: x", 502 },
		{ "", 502 }
	};
	int lfd, c, h;
	size_t i;

	(void)state;
	lfd = chain("", "30");
	c = client();
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		kit_puts(c, connect_afar(""));
		h = kit_accept(lfd);
		hop_is_asked(h, NULL);
		kit_puts(h, cases[i].reply);
		kit_half_close(h);
		(void)kit_refusal(c, cases[i].status, "", KIT_STAYS);
		kit_ends(h);
	}
	kit_untouched(lfd);
	/* the hop resets, and is not there any more */
	kit_puts(c, connect_afar(""));
	h = kit_accept(lfd);
	hop_is_asked(h, NULL);
	kit_reset(h);
	(void)kit_refusal(c, 502, "", KIT_STAYS);
	(void)close(lfd);
	kit_puts(c, connect_afar(""));
	(void)kit_refusal(c, 502, "connection_refused", KIT_STAYS);
	(void)close(c);
	settles();
}

/* The hop's 407 is answered with the hop's own credentials. */
static void
chain_with_credentials(void **state)
{
	struct kit_pair p;
	int lfd;

	(void)state;
	lfd = chain("us:pw@", "30");
	p.c = ask(connect_afar("Proxy-Authorization: Basic YTpi\r\n"));
	p.t = kit_accept(lfd);
	hop_is_asked(p.t, NULL);
	kit_puts(p.t, "HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n"
	    "Proxy-Authenticate: Basic realm=\"hop\"\r\n\r\n");
	hop_is_asked(p.t, kit_basic("us:pw"));
	kit_puts(p.t, "HTTP/1.1 200 KIT_OK\r\n\r\n");
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	/* and when they do not help the client is not asked for others */
	p.c = ask(connect_afar(""));
	p.t = kit_accept(lfd);
	hop_is_asked(p.t, NULL);
	kit_puts(p.t, "HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n"
	    "Proxy-Authenticate: Basic realm=\"hop\"\r\n\r\n");
	hop_is_asked(p.t, kit_basic("us:pw"));
	kit_puts(p.t, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n"
	    "Proxy-Authenticate: Basic realm=\"hop\"\r\n\r\n");
	(void)kit_refusal(p.c, 502, "", KIT_STAYS);
	kit_untouched(lfd);
	kit_ends(p.t);
	(void)close(p.c);
	settles();
}

static void
chain_vanishing(void **state)
{
	int lfd, c, h;

	(void)state;
	lfd = chain("", "1");
	c = ask(connect_afar(""));
	h = kit_accept(lfd);
	hop_is_asked(h, NULL);
	(void)kit_refusal(c, 504, "", KIT_STAYS);
	kit_ends(h);
	(void)close(c);
	settles();

	/* who is asked for a client that resets is left at once */
	lfd = chain("", "30");
	c = ask(connect_afar(""));
	h = kit_accept(lfd);
	hop_is_asked(h, NULL);
	kit_reset(c);
	kit_ends(h);
	settles();
}

/* The same on both sides of two proxies: each waits for the other one. */
static void
chain_vanishing_from_both_sides(void **state)
{
	static const char *const carriers[] = { "http", "ws", "poll" };
	struct kit_proc *hop;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(carriers); i++) {
		kit_note("%s", carriers[i]);
		hop = kit_httptun(NULL, "-l", "0", NULL);
		serve("-x", kit_str("%s://127.0.0.1:%u", carriers[i],
		    kit_listening(hop, 0)), LOCAL);
		vanish_open(vanish_both);
		vanish_open(vanish_in_turn);
		settles();
		kit_done(hop);
	}
}


/* ---- signals ------------------------------------------------------------- */

/* At once, with all its processes, without a trace, whatever is under way. */
static void
ends_by(int sig)
{
	int head, connecting, i;
	struct kit_pair p;
	unsigned port;

	kit_note("signal %d", sig);
	/* whoever runs us in the background may have it ignored */
	(void)signal(sig, SIG_DFL);
	serve(LOCAL);
	kit_blackhole(&port);
	p = tunnel();
	head = ask("CONNECT 127");
	connecting = ask(kit_request_to(port));
	rests();
	assert_int_equal(kill(px.proc->pid, sig), 0);
	kit_exits(px.proc, -sig);
	kit_ends(p.c);
	kit_ends(p.t);
	kit_ends(head);
	kit_ends(connecting);
	for (i = 0; i < px.npids; i++)
		kit_gone(px.pids[i]);
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
	kit_eof(px.proc->out);
	kit_done(px.proc);
}

static void
signals(void **state)
{
	(void)state;
	ends_by(SIGTERM);
	ends_by(SIGINT);
	ends_by(SIGHUP);
	ends_by(SIGKILL);	/* no helper outlives it */
}


/* ---- nothing is left ----------------------------------------------------- */

#define TUNNELS	300

static void
open_many(struct kit_pair *p)
{
	int i, t;

	for (i = 0; i < TUNNELS; i++)
		p[i].c = ask(kit_str("%s%04d", kit_request_to(tport), i));
	for (i = 0; i < TUNNELS; i++) {
		t = kit_accept(tl);
		p[kit_number(t, TUNNELS)].t = t;
	}
	for (i = 0; i < TUNNELS; i++)
		kit_expect(p[i].c, KIT_OK);
}

static void
use_many(void)
{
	struct kit_pair p[TUNNELS];
	struct kit_stream *s = calloc(4 * TUNNELS, sizeof(*s)), *q = s;
	unsigned i;

	assert_non_null(s);
	open_many(p);
	assert_int_equal(fds(), px.idle.fds + 2 * TUNNELS);
	for (i = 0; i < TUNNELS; i++) {
		struct kit_stream four[] = {
			{ p[i].c, KIT_OUT, 50000, 2 * i, 1, 0 },
			{ p[i].t, KIT_IN, 50000, 2 * i, 1, 0 },
			{ p[i].t, KIT_OUT, 70000, 2 * i + 1, 1, 0 },
			{ p[i].c, KIT_IN, 70000, 2 * i + 1, 1, 0 }
		};

		memcpy(q, four, sizeof(four));
		q += 4;
	}
	kit_pump(s, 4 * TUNNELS);
	free(s);
	for (i = 0; i < TUNNELS; i++) {
		(void)close(p[i].c);
		(void)close(p[i].t);
	}
	settles();
}

static void
many_tunnels(void **state)
{
	long before;

	(void)state;
	serve(LOCAL);
	use_many();
	before = rss();
	use_many();
	use_many();
	if (!kit_sanitized() && rss() > before + MARGIN)
		kit_fail("from %ld to %ld KiB", before, rss());
	kit_proxy_below(&px, PEAK);
}

/* With few descriptors: whoever finds no room waits for it, and meanwhile
 * the program neither spins nor drops what it has. */
static void
few_descriptors(void **state)
{
	struct kit_pair p[100];
	int i, t;

	(void)state;
	kit_proxy_is(&px, kit_start(NULL, "sh", "-c",
	    "ulimit -n 64; exec \"$@\"", "sh", kit_binary(), "-l", LOCAL));
	tl = kit_listen(AF_INET, &tport);
	for (i = 0; i < (int)KIT_COUNT(p); i++) {
		p[i].c = ask(kit_str("%s%04d", kit_request_to(tport), i));
		p[i].t = -1;
	}
	rests();
	for (i = 0; i < (int)KIT_COUNT(p); i++) {
		while (p[i].t == -1) {
			t = kit_accept(tl);
			p[kit_number(t, (int)KIT_COUNT(p))].t = t;
		}
		kit_expect(p[i].c, KIT_OK);
		kit_farewell(p[i]);
	}
	settles();
}

/* Too few to begin with: it listens, or one line says why it does not. */
static void
too_few_descriptors(void **state)
{
	struct kit_proc *p;
	const char *s;
	int n;

	(void)state;
	for (n = 6; n < 12; n++) {
		p = kit_start(NULL, "sh", "-c", "ulimit -n $0; exec \"$@\"",
		    kit_str("%d", n), kit_binary(), "-l", LOCAL);
		kit_err_wait(p, "httptun: ");
		if (strstr(kit_err(p), "listening on") != NULL) {
			kit_done(p);
			break;
		}
		kit_exits(p, 1);
		kit_eof(p->err);
		s = strchr(kit_err(p), '\n');
		if (s == NULL || s[1] != '\0')
			kit_fail("not one line: <<%s>>", kit_err(p));
	}
}

/* Everything that somebody can do to it, quickly. */
static void
ordeal(unsigned nobody)
{
	struct kit_pair p;
	size_t i;
	int c;

	for (i = 0; i < KIT_COUNT(malformed); i++)
		is_malformed(&malformed[i], 0);
	vanish_in_heads();
	vanish_open(vanish_idle);
	for (i = 0; i < 500; i++) {
		c = ask(kit_request_to(nobody));
		(void)kit_refusal(c, 502, "connection_refused", KIT_STAYS);
		kit_puts(c, GET "\r\n");
		(void)kit_refusal(c, 404, NULL, KIT_STAYS);
		(void)close(c);
		p = tunnel();
		kit_reset(i % 2 ? p.c : p.t);
		kit_expect_reset(i % 2 ? p.t : p.c);
		(void)close(i % 2 ? p.t : p.c);
	}
	/* a label too long to be asked for: the resolver says so itself */
	c = ask(kit_str("CONNECT %s.invalid:80 HTTP/1.1\r\n\r\n",
	    kit_times(64, "a")));
	(void)kit_refusal(c, 502, "dns_error", KIT_STAYS);
	(void)close(c);
	serves();
}

static void
nothing_is_left(void **state)
{
	unsigned nobody = kit_nobody(AF_INET);
	long before;
	int i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 3; i++)
		ordeal(nobody);
	settles();
	before = rss();
	for (i = 0; i < 5; i++)
		ordeal(nobody);
	settles();
	if (!kit_sanitized() && rss() > before + MARGIN)
		kit_fail("from %ld to %ld KiB", before, rss());
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(loopback_by_default),
		KIT_TEST(one_family),
		KIT_TEST(given_address),
		KIT_TEST(given_port),
		KIT_TEST(port_in_use),
		KIT_TEST(wrong_usage),
		KIT_TEST(no_open_proxy),
		KIT_TEST(open_when_told),
		KIT_TEST(open_by_targets),
		KIT_TEST(kinds_of_targets),
		KIT_TEST(many_look_ups),
		KIT_TEST(helper_dies),
		KIT_TEST(no_names),
		KIT_TEST(targets_of_one_family),
		KIT_TEST(good_requests),
		KIT_TEST(early_data),
		KIT_TEST(malformed_requests),
		KIT_TEST(bad_authorities),
		KIT_TEST(long_requests),
		KIT_TEST(refused_and_stays),
		KIT_TEST(refused_and_asks_again),
		KIT_TEST(stays_or_closes),
		KIT_TEST(asks_without_reading),
		KIT_TEST(bytes_behind_a_refused_connect),
		KIT_TEST(bytes_unread_behind_a_refused_connect),
		KIT_TEST(head_without_a_body),
		KIT_TEST(connect_at_every_cut),
		KIT_TEST(refusals_at_every_cut),
		KIT_TEST(half_close_either_way),
		KIT_TEST(both_directions_at_once),
		KIT_TEST(stalled_reader),
		KIT_TEST(reset_either_way),
		KIT_TEST(vanishing_in_the_head),
		KIT_TEST(reset_while_connecting),
		KIT_TEST(reset_while_connecting_and_full),
		KIT_TEST(reset_while_looking_up),
		KIT_TEST(closing_while_connecting),
		KIT_TEST(vanishing_from_an_idle_tunnel),
		KIT_TEST(vanishing_from_a_busy_tunnel),
		KIT_TEST(targets_that_refuse),
		KIT_TEST(targets_that_never_answer),
		KIT_TEST(slow_heads),
		KIT_TEST(wrong_credentials),
		KIT_TEST(right_credentials),
		KIT_TEST(chain_carries),
		KIT_TEST(chain_refused),
		KIT_TEST(chain_with_credentials),
		KIT_TEST(chain_vanishing),
		KIT_TEST(chain_vanishing_from_both_sides),
		KIT_TEST(signals),
		KIT_TEST(many_tunnels),
		KIT_TEST(few_descriptors),
		KIT_TEST(too_few_descriptors),
		KIT_TEST(nothing_is_left)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
