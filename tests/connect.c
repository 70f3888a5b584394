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
 * Connect mode, with scripted peers: each test is the proxies and the target
 * in turn, and says what the program sent, printed and ended with.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#define _XOPEN_SOURCE 700

#include <sys/socket.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <termios.h>
#include <unistd.h>

#include "kit.h"

#define HOST		"target.example"	/* never looked up */
#define PORT		"5432"
#define AUTHORITY	HOST ":" PORT
#define OK200		"HTTP/1.1 200 OK\r\n\r\n"
#define MB		((uint64_t)1 << 20)
#define RSS_MAX		8192			/* KiB */

/* bytes that may hold a NUL, and their number */
#define BYTES(s)	s, sizeof(s) - 1

/* credentials as the scripted proxies read them, and how they ask for them */
#define USERPASS	"Basic dXNlcjpwYXNz"		/* user:pass */
#define ODDPASS		"Basic dXNlcjpwQHNzOg=="	/* user:p@ss: */
#define NOPASS		"Basic dXNlcjo="		/* user: */
/* user:pa%41ss: word */
#define RAWPASS		"Basic dXNlcjpwYSU0MXNzOiB3b3Jk"
#define A1		"Basic YTox"			/* a:1 */
#define B2		"Basic Yjoy"			/* b:2 */
#define C3		"Basic Yzoz"			/* c:3 */
#define SECRET		"Basic dXNlcjpzZWNyZXQ="	/* user:secret */

#define E407		"HTTP/1.1 407 Proxy Authentication Required\r\n"
#define BASIC		"Proxy-Authenticate: Basic realm=\"r\"\r\n"
#define ASK		E407 BASIC "Content-Length: 0\r\n\r\n"

/* A proxy or a target: where it listens, and how the program is told so. */
struct peer {
	int		 lfd;
	unsigned	 port;
	const char	*hp;		/* 127.0.0.1:PORT */
	const char	*p;		/* PORT */
};

static char head[32768];		/* the request that request() read */


/* What nearly every test does. */

static struct peer
listen_on(int family)
{
	struct peer px;

	px.lfd = kit_listen(family, &px.port);
	px.hp = kit_str(family == AF_INET6 ? "[::1]:%u" : "127.0.0.1:%u",
	    px.port);
	px.p = kit_str("%u", px.port);
	return px;
}

static struct peer
peer(void)
{
	return listen_on(AF_INET);
}

/* How many fields of this name the request has; *value is the last one's. */
static int
fields(const char *name, const char **value)
{
	size_t len = strlen(name);
	const char *s, *v, *end;
	int n = 0;

	for (s = strstr(head, "\r\n"); s != NULL; s = strstr(s, "\r\n")) {
		s += 2;
		if (strncasecmp(s, name, len) != 0 || s[len] != ':')
			continue;
		n++;
		v = s + len + 1 + strspn(s + len + 1, " ");
		end = strstr(v, "\r\n");
		*value = kit_str("%.*s", (int)(end - v), v);
	}
	return n;
}

/* The request has one field of that name, with this value; NULL: none. */
static void
has_field(const char *name, const char *value)
{
	const char *v = NULL;
	int n = fields(name, &v);

	if (n != (value != NULL) || (value != NULL && strcmp(v, value) != 0))
		kit_fail("%d fields %s: %s, and not %s in <<%s>>", n, name,
		    n > 0 ? v : "", value != NULL ? value : "none", head);
}

/* Reads a CONNECT for this authority into head. */
static void
request(int fd, const char *authority)
{
	const char *line = kit_str("CONNECT %s HTTP/1.1\r\n", authority);

	kit_head(fd, head, sizeof(head));
	if (strncmp(head, line, strlen(line)) != 0)
		kit_fail("the request is <<%s>> and not for %s", head,
		    authority);
}

/* Accepts a connection and reads the CONNECT on it. */
static int
asked(const struct peer *px, const char *authority)
{
	int fd = kit_accept(px->lfd);

	request(fd, authority);
	return fd;
}

/* stderr is one line for people, with this in it */
static void
one_line(struct kit_proc *p, const char *what)
{
	const char *s = kit_err(p);
	size_t i;

	if (strncmp(s, "httptun: ", 9) != 0 &&
	    strncmp(s, "usage: httptun ", 15) != 0)
		kit_fail("no diagnostic: <<%s>>", s);
	for (i = 0; s[i] >= 0x20 && s[i] <= 0x7e; i++)
		;
	if (s[i] != '\n' || s[i + 1] != '\0')
		kit_fail("not one clean line: <<%s>>", s);
	kit_err_has(p, what);
}

/* It ends with this status, nothing on stdout and one line that has what. */
static void
fails(struct kit_proc *p, int status, const char *what)
{
	kit_exits(p, status);
	if (p->out != -1)
		kit_eof(p->out);
	one_line(p, what);
}

/* What a scripted hop does not like, as the whole of stderr. */
static void
blames(struct kit_proc *p, const struct peer *px, const char *what)
{
	kit_exits(p, 1);
	kit_eof(p->out);
	kit_err_is(p, kit_str("httptun: %s: %s\n", px->hp, what));
}

/* The tunnel carries both ways, and both of its ends in order. */
static void
works(struct kit_proc *p, int far)
{
	kit_puts(p->in, "question");
	kit_expect(far, "question");
	kit_puts(far, "answer");
	kit_expect(p->out, "answer");
	kit_half_close(p->in);
	kit_eof(far);
	kit_puts(far, "late");
	kit_half_close(far);
	kit_expect(p->out, "late");
	kit_eof(p->out);
	kit_exits(p, 0);
}

/* works(), and without a word */
static void
works_silently(struct kit_proc *p, int far)
{
	works(p, far);
	kit_err_is(p, "");
}

/* In two pieces; the program has looked at the first before the other comes. */
static void
send_cut(struct kit_proc *p, int fd, const char *s, size_t len, size_t cut)
{
	if (cut > 0) {
		kit_send(fd, s, cut);
		kit_idle(p);
	}
	kit_send(fd, s + cut, len - cut);
}

static void
memory_is_flat(struct kit_proc *p)
{
	long peak = kit_status(p->pid, "VmHWM");

	if (peak >= RSS_MAX && !kit_sanitized())
		kit_fail("%ld KiB of memory", peak);
}

static void
fds_back(struct kit_proc *p, int n)
{
	int64_t end = kit_now() + kit_patience();

	while (kit_fds(p->pid) != n) {
		if (kit_now() > end)
			kit_fail("%d descriptors and not %d", kit_fds(p->pid),
			    n);
		kit_idle(p);
	}
}


/* Replies that open the tunnel. */

/* behind each of them: the empty line must not end a head again */
#define EARLY	"220 early\0\r\n\r\nHTTP/1.1 403 no reply\r\n\r\n"

static const char *const opening[] = {
	OK200,
	"HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
	    "Link: </a>\r\n\r\n" OK200,
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: x\r\nContent-Length: 3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
	"HTTP/1.1 200\r\n\r\n",
	"HTTP/1.1 200 \r\n\r\n",
	"HTTP/1.1 200 \374ber 403 HTTP/1.1\r\nX:\r\nY:  \xff \r\n\r\n",
	"HTTP/1.1 201 Created\r\n\r\n",
	"HTTP/1.1 204 No Content\r\n\r\n",
	"HTTP/1.1 299 Odd\r\n\r\n",
	"HTTP/1.1 200 OK\nServer: x\n\n",
	"HTTP/1.1 200 OK\r\nA: b\n\r\n",
};

static void
test_reply_cut_anywhere(void **state)
{
	static const char early[] = EARLY;
	struct peer px = peer();
	struct kit_proc *p;
	size_t i, cut, len;
	char reply[512], got[sizeof(early)];
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(opening); i++) {
		len = strlen(opening[i]);
		memcpy(reply, opening[i], len);
		memcpy(reply + len, early, sizeof(early) - 1);
		/* cut 0: the early bytes are in the segment of the 200 */
		for (cut = 0; cut <= len; cut++) {
			kit_note("reply %zu cut at %zu", i, cut);
			p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
			fd = asked(&px, AUTHORITY);
			send_cut(p, fd, reply, len + sizeof(early) - 1, cut);
			kit_recv(p->out, got, sizeof(early) - 1);
			assert_memory_equal(got, early, sizeof(early) - 1);
			kit_half_close(p->in);
			kit_half_close(fd);
			kit_eof(fd);
			kit_eof(p->out);
			kit_exits(p, 0);
			kit_err_is(p, "");
			kit_done(p);
			(void)close(fd);
		}
	}
}

static void
test_reply_byte_by_byte(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	size_t i, j;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(opening); i += 4) {
		p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
		fd = asked(&px, AUTHORITY);
		for (j = 0; opening[i][j] != '\0'; j++)
			send_cut(p, fd, opening[i] + j, 1, 1);
		works_silently(p, fd);
	}
}

/* A reply's head of n bytes. */
static const char *
long_head(size_t n)
{
	static char reply[20000];
	size_t i = (size_t)sprintf(reply, "HTTP/1.1 200 OK\r\n");

	assert_true(n < sizeof(reply));
	while (n - i > 4000)
		i += (size_t)sprintf(reply + i, "X: %02000d\r\n", 0);
	(void)sprintf(reply + i, "X: %0*d\r\n\r\n", (int)(n - i - 7), 0);
	assert_int_equal(strlen(reply), n);
	return reply;
}

static void
test_reply_head_limit(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, long_head(16384));
	works_silently(p, fd);

	p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, long_head(16385));
	fails(p, 1, kit_str("httptun: %s: ", px.hp));
}

/* However much a head goes on it costs no memory; and it is given up. */
static void
test_reply_head_endless(void **state)
{
	static const char *const pieces[] = {
		"HTTP/1.1 200 OK\r\nX: ", "x",
		"HTTP/1.1 200 OK\r\n", "Name: value\r\n",
		"HTTP/1.1 ", "2",
		"HTTP/1.1 200 ", "OK ",
	};
	struct peer px = peer();
	struct kit_proc *p;
	char flood[65536];
	size_t i, j, len;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(pieces); i += 2) {
		len = strlen(pieces[i + 1]);
		for (j = 0; j + len < sizeof(flood); j += len)
			memcpy(flood + j, pieces[i + 1], len);
		p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
		fd = asked(&px, AUTHORITY);
		kit_puts(fd, pieces[i]);
		kit_send(fd, flood, j);
		fails(p, 1, kit_str("httptun: %s: ", px.hp));
	}
}

/* As many bytes of interim replies as it will take, 16 MB at most. */
static void
test_reply_interim_flood(void **state)
{
	static const char interim[] = "HTTP/1.1 102 Processing\r\nA: b\r\n\r\n";
	struct peer px = peer();
	struct kit_proc *p;
	char flood[(sizeof(interim) - 1) * 1000];
	ssize_t n = 1;
	size_t i, sent;
	int fd, was_open = 1;

	(void)state;
	for (i = 0; i < 1000; i++)
		memcpy(flood + i * (sizeof(interim) - 1), interim,
		    sizeof(interim) - 1);
	p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_send(fd, flood, 20 * (sizeof(interim) - 1));
	kit_idle(p);
	assert_true(kit_alive(p));	/* so many are to be borne */
	for (sent = 0; was_open && sent < 16 * MB; sent += (size_t)n) {
		kit_poll(fd, POLLOUT, "room");
		if (kit_alive(p))
			memory_is_flat(p);
		n = send(fd, flood + sent % sizeof(flood),
		    sizeof(flood) - sent % sizeof(flood), MSG_DONTWAIT);
		was_open = n > 0;
	}
	if (!was_open) {
		fails(p, 1, kit_str("httptun: %s: ", px.hp));
		return;
	}
	kit_send(fd, flood + sent % (sizeof(interim) - 1),
	    sizeof(interim) - 1 - sent % (sizeof(interim) - 1));
	kit_puts(fd, OK200);
	works_silently(p, fd);
}


/* Replies that refuse, and nonsense. */

static const struct {
	const char	*reply, *what;
} refusals[] = {
	{ "HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\ndenied\n",
	    "403 Forbidden" },
	{ "HTTP/1.1 403 Forbidden\r\nContent-Length: 9999\r\n\r\n",
	    "403 Forbidden" },
	{ "HTTP/1.1 403 Forbidden\r\n\r\nit never ends", "403 Forbidden" },
	{ "HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "5\r\nhello\r\n0\r\n\r\n", "502 Bad Gateway" },
	{ "HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "zz\r\n", "502 Bad Gateway" },
	{ "HTTP/1.0 503 Service Unavailable\r\n\r\n<html>",
	    "503 Service Unavailable" },
	/* without a reason: the registered one */
	{ "HTTP/1.1 503\r\n\r\n", "503 Service Unavailable" },
	{ "HTTP/1.1 503 \r\n\r\n", "503 Service Unavailable" },
	{ "HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", "302 Found" },
	{ "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\n\r\n",
	    "426 Upgrade Required" },
	{ "HTTP/1.1 600 Odd\r\n\r\n", "600 Odd" },
	{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Gone\r\n\r\n",
	    "404 Gone" },
	{ "HTTP/1.1 403 No\nContent-Length: 2\n\nno", "403 No" },
};

static void
test_refusal(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	size_t i;
	int fd, closing;

	(void)state;
	for (i = 0; i < KIT_COUNT(refusals); i++)
		for (closing = 0; closing < 2; closing++) {
			kit_note("refusal %zu %d", i, closing);
			p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
			fd = asked(&px, AUTHORITY);
			kit_puts(fd, refusals[i].reply);
			if (closing)
				kit_drop(fd);
			blames(p, &px, refusals[i].what);
			kit_done(p);
		}
	kit_untouched(px.lfd);
}

static void
test_refusal_cut_anywhere(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	const char *reply = refusals[0].reply;
	size_t cut, headlen = (size_t)(strstr(reply, "\r\n\r\n") - reply) + 4;
	int fd;

	(void)state;
	for (cut = 1; cut < headlen; cut++) {
		p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
		fd = asked(&px, AUTHORITY);
		send_cut(p, fd, reply, strlen(reply), cut);
		blames(p, &px, refusals[0].what);
		kit_done(p);
		(void)close(fd);
	}
}

/* The diagnostic is fit for a terminal whatever the proxy says. */
static void
test_refusal_escaped(void **state)
{
	struct peer px = peer();
	struct kit_proc *p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
	int fd = asked(&px, AUTHORITY);
	char *s;

	(void)state;
	kit_puts(fd, "HTTP/1.1 403 Verb\xf6ten\ttab \\\r\n\r\n");
	fails(p, 1, kit_str("httptun: %s: 403 Verb\\x", px.hp));
	for (s = p->errbuf; *s != '\0'; s++)
		*s = (char)tolower((unsigned char)*s);
	kit_err_has(p, "verb\\xf6ten\\x09tab ");

	p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, "HTTP/1.1 403 \x1b[31mred\r\n\r\n");
	fails(p, 1, kit_str("httptun: %s: ", px.hp));
}

static const struct {
	const char	*reply;
	size_t		 len;
} garbage[] = {
	{ BYTES("SSH-2.0-OpenSSH_9.2\r\n\r\n") },
	{ BYTES("\x16\x03\x01\x02\x00\x01\r\n\r\n") },
	{ BYTES("200 OK\r\n\r\n") },
	{ BYTES("HTTP/2 200 OK\r\n\r\n") },
	{ BYTES("HTTP/2.0 200 OK\r\n\r\n") },
	{ BYTES("HTTP/0.9 200 OK\r\n\r\n") },
	{ BYTES("http/1.1 200 OK\r\n\r\n") },
	{ BYTES("HTTP/1.1 20 OK\r\n\r\n") },
	{ BYTES("HTTP/1.1 2000 OK\r\n\r\n") },
	{ BYTES("HTTP/1.1 2x0 OK\r\n\r\n") },
	{ BYTES("HTTP/1.1 200OK\r\n\r\n") },
	{ BYTES("HTTP/1.1200 OK\r\n\r\n") },
	{ BYTES("HTTP/1.1\r\n\r\n") },
	{ BYTES("HTTP/1.1 -20 OK\r\n\r\n") },
	{ BYTES("HTTP/1.1 099 OK\r\n\r\n") },
	{ BYTES("HTTP/1.1 200 O\0K\r\n\r\n") },
	{ BYTES("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n") },
	{ BYTES("HTTP/1.1 200 OK\r\nX\0: b\r\n\r\n") },
	{ BYTES("HTTP/1.1 2\0" "00 OK\r\n\r\n") },
	{ BYTES("\0HTTP/1.1 200 OK\r\n\r\n") },
	{ BYTES("<html>\r\n\r\n") },
	{ BYTES("HTTP/1.1 100 Continue\r\n\r\nSSH-2.0-x\r\n\r\n") },
};

static void
test_garbage(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(garbage); i++) {
		kit_note("garbage %zu", i);
		p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
		fd = asked(&px, AUTHORITY);
		/* and bytes behind it, which no tunnel may deliver */
		kit_send(fd, garbage[i].reply, garbage[i].len);
		(void)send(fd, "more", 4, MSG_DONTWAIT);
		fails(p, 1, kit_str("httptun: %s: ", px.hp));
		kit_done(p);
	}
	kit_untouched(px.lfd);
}

static void
test_early_close(void **state)
{
	static const char *const cuts[] = {
		"", "H", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\n\r", "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 200 OK\nA: b\n", "HTTP/1.1 403 For"
	};
	struct peer px = peer();
	struct kit_proc *p;
	size_t i;
	int fd, how;

	(void)state;
	for (i = 0; i < KIT_COUNT(cuts); i++)
		for (how = 0; how < 3; how++) {
			kit_note("early close %zu %d", i, how);
			p = kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL);
			fd = asked(&px, AUTHORITY);
			kit_puts(fd, cuts[i]);
			kit_idle(p);
			if (how == 0)
				kit_half_close(fd);
			else if (how == 1)
				kit_drop(fd);
			else
				kit_reset(fd);
			fails(p, 1, kit_str("httptun: %s: ", px.hp));
			kit_done(p);
		}
	kit_untouched(px.lfd);
}

static void
test_proxy_refuses_connection(void **state)
{
	unsigned port = kit_nobody(AF_INET);
	struct kit_proc *p;

	(void)state;
	p = kit_httptun(NULL, "-x", kit_str("127.0.0.1:%u", port), HOST, PORT,
	    NULL);
	fails(p, 1, kit_str("httptun: 127.0.0.1:%u: Connection refused\n",
	    port));
	p = kit_httptun(NULL, "127.0.0.1", kit_str("%u", port), NULL);
	fails(p, 1, kit_str("httptun: 127.0.0.1:%u: Connection refused\n",
	    port));
}


/* The request. */

static void
test_request_shape(void **state)
{
	static const struct {
		const char *host, *port, *authority;
	} targets[] = {
		{ HOST, PORT, AUTHORITY },
		{ "10.1.2.3", "1", "10.1.2.3:1" },
		{ "::1", "65535", "[::1]:65535" },
		{ "2001:db8::1", "443", "[2001:db8::1]:443" },
		{ "xn--bcher-kva.example", "80", "xn--bcher-kva.example:80" },
	};
	struct peer px = peer();
	struct kit_proc *p;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(targets); i++) {
		p = kit_httptun(NULL, "-x", px.hp, targets[i].host,
		    targets[i].port, NULL);
		kit_puts(p->in, "early");
		fd = asked(&px, targets[i].authority);
		has_field("Host", targets[i].authority);
		has_field("Content-Length", NULL);
		has_field("Transfer-Encoding", NULL);
		has_field("Proxy-Authorization", NULL);
		has_field("Authorization", NULL);
		/* what stdin has waits for the reply */
		kit_idle(p);
		kit_silent(fd, 0);
		kit_puts(fd, OK200);
		kit_expect(fd, "early");
		works_silently(p, fd);
	}
}

static void
test_request_fields(void **state)
{
	struct peer px = peer(), px2 = peer();
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(NULL, "-H", "X-One: 1 2  3", "-H", "User-Agent: mine",
	    "-H", "hOST: other:1", "-x", px.hp, "-x", px2.hp, HOST, PORT,
	    NULL);
	fd = asked(&px, px2.hp);
	has_field("X-One", "1 2  3");
	has_field("User-Agent", "mine");
	has_field("Host", "other:1");
	kit_puts(fd, OK200);
	request(fd, AUTHORITY);		/* the second hop's is its own */
	has_field("X-One", NULL);
	has_field("Host", AUTHORITY);
	kit_puts(fd, OK200);
	works_silently(p, fd);

	p = kit_httptun(NULL, "-H", "Host:", "-H", "User-Agent:", "-x", px.hp,
	    HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	has_field("Host", NULL);
	has_field("User-Agent", NULL);
	kit_puts(fd, OK200);
	works_silently(p, fd);
	kit_untouched(px2.lfd);
}


/* Several hops in a row. */

static void
test_hops(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	int fd, last;

	(void)state;
	for (last = 0; last < 4; last++) {
		/* the default port is 3128, with a scheme and without */
		p = kit_httptun(NULL, "-x", kit_str("http://%s/", px.hp),
		    "-x", last % 2 == 0 ? "p2.example" : "http://p2.example/",
		    "-x", "http://[2001:db8::7]:81", HOST, PORT, NULL);
		fd = asked(&px, "p2.example:3128");
		has_field("Host", "p2.example:3128");
		kit_puts(fd, last == 1 ? "HTTP/1.1 403 One\r\n\r\n" : OK200);
		if (last == 1) {
			blames(p, &px, "403 One");
			continue;
		}
		request(fd, "[2001:db8::7]:81");
		has_field("Host", "[2001:db8::7]:81");
		kit_puts(fd, last == 2 ? "HTTP/1.1 403 Two\r\n\r\n" :
		    "HTTP/1.1 100 Continue\r\n\r\n" OK200);
		if (last == 2) {
			fails(p, 1, "httptun: p2.example:3128: 403 Two\n");
			continue;
		}
		request(fd, AUTHORITY);
		has_field("Host", AUTHORITY);
		kit_puts(fd, last == 3 ? "HTTP/1.1 403 Three\r\n\r\n" :
		    OK200 "early");
		if (last == 3) {
			fails(p, 1,
			    "httptun: [2001:db8::7]:81: 403 Three\n");
			continue;
		}
		kit_expect(p->out, "early");
		works_silently(p, fd);
	}
	kit_untouched(px.lfd);
}

/* A long way; a challenge of the last is answered. */
static void
test_hops_many(void **state)
{
	struct peer px = peer();
	const char *argv[2 * 20 + 6] = { kit_binary(), "-x", px.hp };
	struct kit_proc *p;
	int fd, i;

	(void)state;
	for (i = 1; i < 20; i++) {
		argv[2 * i + 1] = "-x";
		argv[2 * i + 2] = kit_str("user:pass@p%d.example:%d", i, i);
	}
	argv[2 * i + 1] = HOST;
	argv[2 * i + 2] = PORT;
	p = kit_startv(NULL, argv);
	fd = kit_accept(px.lfd);
	for (i = 1; i < 20; i++) {
		request(fd, kit_str("p%d.example:%d", i, i));
		has_field("Proxy-Authorization", NULL);
		kit_puts(fd, OK200);
	}
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", NULL);
	kit_puts(fd, ASK);
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", USERPASS);
	kit_puts(fd, OK200);
	works_silently(p, fd);
}

static void
test_hop_direct(void **state)
{
	struct peer tgt = peer(), px = peer();
	struct kit_proc *p;
	const char *const env[] = { kit_str("all_proxy=http://%s", px.hp),
	    NULL };
	struct kit_opt opt = { .env = env };

	(void)state;
	p = kit_httptun(&opt, "-x", "direct", "127.0.0.1", tgt.p, NULL);
	works_silently(p, kit_accept(tgt.lfd));
	p = kit_httptun(NULL, "127.0.0.1", tgt.p, NULL);
	works_silently(p, kit_accept(tgt.lfd));
	p = kit_httptun(NULL, "localhost", tgt.p, NULL);
	works_silently(p, kit_accept(tgt.lfd));
	kit_untouched(px.lfd);
}


/* Credentials. */

/* A body is not to be taken for the next reply. */
static const char *const kept[] = {
	"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 407 N\r\n" BASIC
	    "Content-Length:0\r\n\r\n",
	"HTTP/1.1 407 N\r\n" BASIC
	    "Content-Length:21\r\n\r\nHTTP/1.1 200 OK\r\n\r\nab",
	"HTTP/1.1 407 N\r\n" BASIC "Transfer-Encoding:chunked\r\n\r\n"
	    "13;a=b\r\nHTTP/1.1 200 OK\r\n\r\n\r\n2\r\nab\r\n0\r\nT: v\r\n\r\n",
};

static void
test_auth_same_connection(void **state)
{
	const char *const env[] = { "HTTPTUN_AUTH=user:pass", NULL };
	struct kit_opt opt = { .env = env };
	struct peer px = peer();
	struct kit_proc *p;
	size_t i, cut, len;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(kept); i++) {
		len = strlen(kept[i]);
		for (cut = 0; cut < len; cut++) {
			kit_note("challenge %zu cut at %zu", i, cut);
			p = kit_httptun(&opt, "-x", px.hp, HOST, PORT, NULL);
			fd = asked(&px, AUTHORITY);
			has_field("Proxy-Authorization", NULL);
			send_cut(p, fd, kept[i], len, cut);
			request(fd, AUTHORITY);
			has_field("Proxy-Authorization", USERPASS);
			kit_puts(fd, OK200 "early");
			kit_expect(p->out, "early");
			works_silently(p, fd);
			kit_done(p);
			(void)close(fd);
		}
	}
	kit_untouched(px.lfd);
}

static void
test_auth_large_body(void **state)
{
	struct peer px = peer();
	struct kit_proc *p = kit_httptun(NULL, "-x",
	    kit_str("user:pass@%s", px.hp), HOST, PORT, NULL);
	int fd = asked(&px, AUTHORITY);
	static char body[60000];

	(void)state;
	memset(body, 'x', sizeof(body));
	kit_puts(fd, kit_str(E407 BASIC "Content-Length: %zu\r\n\r\n",
	    sizeof(body)));
	kit_send(fd, body, sizeof(body));
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", USERPASS);
	kit_puts(fd, OK200);
	works_silently(p, fd);
	kit_untouched(px.lfd);
}

/* After these the same connection is of no use, whoever closes it. */
static const struct {
	const char	*reply;
	int		 closes;	/* the proxy; else the program must */
} renewed[] = {
	{ E407 BASIC "Connection: close\r\nContent-Length: 2\r\n\r\nno", 1 },
	{ E407 BASIC "Connection: close\r\nContent-Length: 2\r\n\r\nno", 0 },
	{ E407 BASIC "Connection: Foo, cLOSE\r\nContent-Length: 0\r\n\r\n", 0 },
	{ E407 BASIC "\r\nuntil the end", 1 },
	{ "HTTP/1.0 407 No\r\n" BASIC "Content-Length: 0\r\n\r\n", 1 },
	{ "HTTP/1.0 407 No\r\n" BASIC "\r\n<html>", 1 },
	/* promised to stay, and did not */
	{ ASK, 1 },
	{ E407 BASIC "Content-Length: 5\r\n\r\nno", 1 },
	{ E407 BASIC "Transfer-Encoding: chunked\r\n\r\n5\r\nno", 1 },
};

static void
test_auth_new_connection(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(renewed); i++) {
		kit_note("challenge %zu", i);
		p = kit_httptun(NULL, "-x", kit_str("user:pass@%s", px.hp),
		    HOST, PORT, NULL);
		fd = asked(&px, AUTHORITY);
		has_field("Proxy-Authorization", NULL);
		kit_puts(fd, renewed[i].reply);
		if (renewed[i].closes)
			kit_drop(fd);
		else
			(void)kit_until_end(fd);
		fd = asked(&px, AUTHORITY);
		has_field("Proxy-Authorization", USERPASS);
		kit_puts(fd, OK200);
		works_silently(p, fd);
	}
	kit_untouched(px.lfd);
}

/* The proxy takes the second request and closes: that was no answer to the
 * credentials, so they are sent once more, and not again. */
static void
test_auth_closed_on_second(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	int fd, how, closes;

	(void)state;
	for (how = 0; how < 4; how++) {
		closes = how & 1;
		p = kit_httptun(NULL, "-x", kit_str("user:pass@%s", px.hp),
		    HOST, PORT, NULL);
		fd = asked(&px, AUTHORITY);
		kit_puts(fd, ASK);
		request(fd, AUTHORITY);
		if (how & 2)
			kit_reset(fd);
		else
			kit_drop(fd);
		fd = asked(&px, AUTHORITY);
		has_field("Proxy-Authorization", USERPASS);
		if (!closes) {
			kit_puts(fd, OK200);
			works_silently(p, fd);
		} else {
			kit_drop(fd);
			fails(p, 1, kit_str("httptun: %s: ", px.hp));
		}
	}
	kit_untouched(px.lfd);
}

static void
test_auth_never_again(void **state)
{
	static const char *const second[] = {
		ASK, E407 BASIC "Connection: close\r\n\r\n"
	};
	struct peer px = peer();
	struct kit_proc *p;
	size_t first, i;
	int fd;

	(void)state;
	for (first = 0; first < 2; first++)
		for (i = 0; i < KIT_COUNT(second); i++) {
			p = kit_httptun(NULL, "-x", kit_str("user:pass@%s",
			    px.hp), HOST, PORT, NULL);
			fd = asked(&px, AUTHORITY);
			kit_puts(fd, second[first]);
			if (first == 1)
				fd = asked(&px, AUTHORITY);
			else
				request(fd, AUTHORITY);
			has_field("Proxy-Authorization", USERPASS);
			kit_puts(fd, second[i]);
			fails(p, 1, kit_str("httptun: %s: 407 Proxy "
			    "Authentication Required", px.hp));
			kit_eof(fd);
			kit_untouched(px.lfd);
		}
}

static void
test_auth_at_once(void **state)
{
	struct peer px = peer(), px2 = peer();
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(NULL, "-A", "basic", "-x", kit_str("user:pass@%s",
	    px.hp), "-x", px2.hp, HOST, PORT, NULL);
	fd = asked(&px, px2.hp);
	has_field("Proxy-Authorization", USERPASS);
	kit_puts(fd, OK200);
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", NULL);
	kit_puts(fd, OK200);
	works_silently(p, fd);

	/* it has had its one try */
	p = kit_httptun(NULL, "-A", "basic", "-x", kit_str("user:pass@%s",
	    px.hp), HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	has_field("Proxy-Authorization", USERPASS);
	kit_puts(fd, ASK);
	fails(p, 1, kit_str("httptun: %s: 407 ", px.hp));
	kit_eof(fd);

	/* nothing to send: nothing is sent */
	p = kit_httptun(NULL, "-A", "basic", "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	has_field("Proxy-Authorization", NULL);
	kit_puts(fd, OK200);
	works_silently(p, fd);
	kit_untouched(px.lfd);
	kit_untouched(px2.lfd);
}

/* Which credentials a challenge brings out; NULL: the program gives up. */
static void
answers(const struct peer *px, struct kit_proc *p, const char *challenge,
    const char *value)
{
	int fd = asked(px, AUTHORITY);

	has_field("Proxy-Authorization", NULL);
	kit_puts(fd, challenge);
	if (value == NULL) {
		fails(p, 1, kit_str("httptun: %s: 407 Proxy Authentication "
		    "Required", px->hp));
		kit_eof(fd);
		kit_untouched(px->lfd);
		return;
	}
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", value);
	kit_puts(fd, OK200);
	works(p, fd);
}

static void
test_auth_schemes(void **state)
{
	static const struct {
		const char *fields, *value, *said;
	} offers[] = {
		{ "", NULL, "Required" },
		{ "Proxy-Authenticate: NTLM, bAsIc Realm=\"a, b\\\" c\"\r\n",
		    USERPASS, NULL },
		{ "Proxy-Authenticate: X q=\"a, Basic realm=\\\"r\\\"\"\r\n",
		    NULL, " (offered: X)" },
		{ "Proxy-Authenticate: NTLM TlRM==\r\n"
		    "proxy-authenticate:basic realm=r, charset=\"UTF-8\"\r\n",
		    USERPASS, NULL },
		{ "Proxy-Authenticate: Basic\r\n", USERPASS, NULL },
		{ "WWW-Authenticate: Basic realm=\"r\"\r\n", NULL, "Required" },
		{ "Proxy-Authenticate: Basics realm=\"r\"\r\n", NULL,
		    " (offered: Basics)\n" },
		{ "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", "
		    "algorithm=MD5-sess\r\n", NULL, " (offered: Digest; "
		    "such a Digest is not spoken)\n" },
	};
	struct peer px = peer();
	struct kit_proc *p;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(offers); i++) {
		kit_note("offer %zu", i);
		p = kit_httptun(NULL, "-x", kit_str("user:pass@%s", px.hp),
		    HOST, PORT, NULL);
		answers(&px, p, kit_str("%s%sContent-Length: 0\r\n\r\n", E407,
		    offers[i].fields), offers[i].value);
		if (offers[i].said != NULL)
			kit_err_has(p, offers[i].said);
	}
	/* no credentials at all */
	answers(&px, kit_httptun(NULL, "-x", px.hp, HOST, PORT, NULL), ASK,
	    NULL);
}

/* Schemes that are not spoken are named, and what to try. */
static void
test_auth_unspoken(void **state)
{
	static const char *const offers[][2] = {
		{ "NTLM", "NTLM" },
		{ "Negotiate\r\nProxy-Authenticate: NTLM", "Negotiate, NTLM" },
		{ "NTLM, Negotiate", "NTLM, Negotiate" },
		{ "Negotiate YWJj==, NTLM, Bearer realm=\"NTLM\"",
		    "Negotiate, NTLM, Bearer" },
		{ "ntlm, Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
		    "ntlm, Digest" },
	};
	struct peer px = peer();
	struct kit_proc *p;
	size_t i;
	int fd, local;

	(void)state;
	for (i = 0; i < KIT_COUNT(offers); i++)
		for (local = 0; local < 2; local++) {
			kit_note("offer %zu", i);
			p = local ? kit_httptun(NULL, "-x", px.hp, "-L",
			    "0:" AUTHORITY, NULL) : kit_httptun(NULL, "-x",
			    kit_str("user:pass@%s", px.hp), HOST, PORT, NULL);
			if (local)
				(void)kit_connect(AF_INET, kit_listening(p, 0));
			fd = asked(&px, AUTHORITY);
			kit_puts(fd, kit_str("%sProxy-Authenticate: %s\r\n"
			    "Content-Length: 0\r\n\r\n", E407,
			    offers[i][0]));
			kit_eof(fd);
			kit_err_wait(p, "as the hop\n");
			kit_err_has(p, kit_str("httptun: %s: 407 Proxy "
			    "Authentication Required (offered: %s); try "
			    "cntlm or px, ", px.hp, offers[i][1]));
			if (local)
				continue;
			kit_exits(p, 1);
			kit_eof(p->out);
		}
	kit_untouched(px.lfd);
}

/* With the first source that there is; each is another pair. */
static void
test_auth_sources(void **state)
{
	struct peer px = peer();
	const char *file = kit_file("auth", 0600, "# ours\nb:2\nx:y\n");
	const char *const env[] = { "HTTPTUN_AUTH=c:3", NULL };
	const struct {
		const char *user, *option, *value;
		int env;
		const char *answer;
	} sources[] = {
		{ "a:1@", "-a", file, 1, A1 },
		{ "a:1@", NULL, NULL, 0, A1 },
		{ "", "-a", file, 1, B2 },
		{ "", "-a", file, 0, B2 },
		{ "", NULL, NULL, 1, C3 },
		{ "", "-P", "user", 1, C3 },
		{ "http://us%65r:p%40ss%3A@", NULL, NULL, 0, ODDPASS },
		{ "us%65r:p%40ss%3a@", NULL, NULL, 0, ODDPASS },
		{ "user:p@ss:@", NULL, NULL, 0, ODDPASS },
		{ "http://user:p@ss:@", NULL, NULL, 0, ODDPASS },
		{ "user:@", "-a", file, 1, NOPASS },
		{ "http://user:@", "-P", "other", 0, NOPASS },
	};
	struct kit_opt opt = { .env = NULL };
	struct kit_proc *p;
	const char *hop;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(sources); i++) {
		kit_note("source %zu", i);
		opt.env = sources[i].env ? env : NULL;
		hop = kit_str("%s%s", sources[i].user, px.hp);
		if (sources[i].option != NULL)
			p = kit_httptun(&opt, sources[i].option,
			    sources[i].value, "-x", hop, HOST, PORT, NULL);
		else
			p = kit_httptun(&opt, "-x", hop, HOST, PORT, NULL);
		answers(&px, p, ASK, sources[i].answer);
		kit_err_is(p, "");
	}
}

/* A line of the file is taken as it stands, up to its end. */
static void
test_auth_file(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;

	(void)state;
	p = kit_httptun(NULL, "-a", kit_file("raw", 0600,
	    "#x:y\n# z\nuser:pa%41ss: word"), "-x", px.hp, HOST, PORT, NULL);
	answers(&px, p, ASK, RAWPASS);
	kit_err_is(p, "");
	p = kit_httptun(NULL, "-a", kit_file("open", 0644, "user:pass\n"),
	    "-x", px.hp, HOST, PORT, NULL);
	answers(&px, p, ASK, USERPASS);
	one_line(p, "/open: ");
}

/* The first hop's are for the first hop, each other's for itself alone. */
static void
test_auth_each_hop(void **state)
{
	const char *const env[] = { "HTTPTUN_AUTH=c:3", NULL };
	struct kit_opt opt = { .env = env };
	struct peer px = peer();
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(&opt, "-x", px.hp, "-x", "p2.example:81", HOST, PORT,
	    NULL);
	fd = asked(&px, "p2.example:81");
	kit_puts(fd, ASK);
	request(fd, "p2.example:81");
	has_field("Proxy-Authorization", C3);
	kit_puts(fd, OK200);
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", NULL);
	kit_puts(fd, ASK);
	fails(p, 1, "httptun: p2.example:81: 407 Proxy Authentication "
	    "Required");
	kit_eof(fd);

	p = kit_httptun(NULL, "-x", kit_str("a:1@%s", px.hp), "-x",
	    "user:pass@p2.example:81", HOST, PORT, NULL);
	fd = asked(&px, "p2.example:81");
	kit_puts(fd, ASK);
	request(fd, "p2.example:81");
	has_field("Proxy-Authorization", A1);
	kit_puts(fd, OK200);
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", NULL);
	kit_puts(fd, ASK);
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", USERPASS);
	kit_puts(fd, OK200);
	works_silently(p, fd);
	kit_untouched(px.lfd);
}

/* The second hop closes after its challenge: all the way again. */
static void
test_auth_far_hop_closes(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	int fd, i;

	(void)state;
	p = kit_httptun(NULL, "-x", kit_str("a:1@%s", px.hp), "-x",
	    "user:pass@p2.example:81", HOST, PORT, NULL);
	for (i = 0; i < 2; i++) {
		fd = asked(&px, "p2.example:81");
		if (fields("Proxy-Authorization", &(const char *){ NULL }) ==
		    0) {
			kit_puts(fd, ASK);
			request(fd, "p2.example:81");
		}
		has_field("Proxy-Authorization", A1);
		kit_puts(fd, OK200);
		request(fd, AUTHORITY);
		has_field("Proxy-Authorization", i == 0 ? NULL : USERPASS);
		if (i == 0) {
			kit_puts(fd, E407 BASIC "Connection: close\r\n\r\n");
			kit_drop(fd);
		}
	}
	kit_puts(fd, OK200);
	works_silently(p, fd);
	kit_untouched(px.lfd);
}

/* What ps(1) shows of it. */
static const char *
arguments(struct kit_proc *p)
{
	static char args[4096];
	char path[64];
	size_t i, len;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%ld/cmdline", (long)p->pid);
	assert_true((fd = open(path, O_RDONLY)) != -1);
	len = kit_slurp(fd, args, sizeof(args));
	(void)close(fd);
	for (i = 0; i < len; i++)
		if (args[i] == '\0')
			args[i] = ' ';
	assert_non_null(strstr(args, HOST));
	return args;
}

static void
lacks(const char *text, const char *secret)
{
	if (strstr(text, secret) != NULL)
		kit_fail("<<%s>> shows %s", text, secret);
}

static void
test_secrets_hidden(void **state)
{
	static const char *const secrets[] = {
		":pass", "p%61ss", "hunter2", "dXNlcjpz", "dXNlcjpw", "t0ken"
	};
	struct peer px = peer();
	struct kit_proc *p;
	size_t i;
	int fd;

	(void)state;
	p = kit_httptun(NULL, "-vv", "-x", kit_str("http://user:p%%61ss@%s",
	    px.hp), "-x", "u2:hunter2@p2.example", "-H",
	    "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=", "-H",
	    "Authorization: Bearer t0ken", HOST, PORT, NULL);
	fd = asked(&px, "p2.example:3128");
	has_field("Proxy-Authorization", SECRET);
	has_field("Authorization", "Bearer t0ken");
	for (i = 0; i < KIT_COUNT(secrets); i++)
		lacks(arguments(p), secrets[i]);
	kit_puts(fd, OK200);
	request(fd, AUTHORITY);
	kit_puts(fd, OK200);
	works(p, fd);
	kit_err_has(p, "CONNECT p2.example:3128");
	kit_err_has(p, "200 OK");
	for (i = 0; i < KIT_COUNT(secrets); i++)
		lacks(kit_err(p), secrets[i]);

	p = kit_httptun(NULL, "-vv", kit_str("-xuser:pass@%s", px.hp), HOST,
	    PORT, NULL);
	fd = asked(&px, AUTHORITY);
	lacks(arguments(p), ":pass");
	kit_puts(fd, ASK);
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", USERPASS);
	kit_puts(fd, OK200);
	works(p, fd);
	kit_err_has(p, "CONNECT " AUTHORITY);
	for (i = 0; i < KIT_COUNT(secrets); i++)
		lacks(kit_err(p), secrets[i]);
	/* nor does a complaint */
	p = kit_httptun(NULL, "-x", "user:hunter2@p2:bad", HOST, PORT, NULL);
	fails(p, 2, "");
	lacks(kit_err(p), "hunter2");
	p = kit_httptun(NULL, "-L", "a:b:c:ws://user:hunter2@p2/", NULL);
	fails(p, 2, "httptun: -L: ");
	lacks(kit_err(p), "hunter2");
	p = kit_httptun(NULL, "-L", "ws://user:hunter2@p2:80:1", NULL);
	fails(p, 2, "httptun: -L: ");
	lacks(kit_err(p), "hunter2");
}


/* The password prompt, on a pseudo-terminal. */

struct pty {
	int		 master, slave;
	struct termios	 before;
	struct kit_opt	 opt;
};

static void
pty_open(struct pty *t)
{
	memset(t, 0, sizeof(*t));
	t->master = posix_openpt(O_RDWR | O_NOCTTY);
	if (t->master == -1 || grantpt(t->master) == -1 ||
	    unlockpt(t->master) == -1 || (t->slave = open(ptsname(t->master),
	    O_RDWR | O_NOCTTY)) == -1 || tcgetattr(t->slave, &t->before) == -1)
		kit_fail("pseudo-terminal: %s", strerror(errno));
	assert_true(t->before.c_lflag & ECHO);
	t->opt.tty = t->slave;
}

/* Waits for the prompt, which must come with the echo off. */
static void
pty_prompted(struct pty *t)
{
	struct termios now;
	char buf[512];

	kit_until(t->master, buf, sizeof(buf), "assword");
	assert_int_equal(tcgetattr(t->slave, &now), 0);
	assert_false(now.c_lflag & ECHO);
}

/* The terminal is as it was and has not shown the secret. */
static void
pty_restored(struct pty *t)
{
	struct termios now;
	char buf[4096];
	size_t len = 0;
	ssize_t n;

	assert_int_equal(tcgetattr(t->slave, &now), 0);
	assert_int_equal(now.c_lflag, t->before.c_lflag);
	assert_int_equal(now.c_iflag, t->before.c_iflag);
	kit_nonblock(t->master, 1);
	while ((n = read(t->master, buf + len, sizeof(buf) - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = '\0';
	assert_null(strstr(buf, "secret"));
}

static void
test_prompt(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	struct pty t;
	int fd, form;

	(void)state;
	for (form = 0; form < 2; form++) {
		pty_open(&t);
		if (form == 0)
			p = kit_httptun(&t.opt, "-w", "1", "-P", "user", "-x",
			    px.hp, HOST, PORT, NULL);
		else
			p = kit_httptun(&t.opt, "-w", "1", "-x",
			    kit_str("user@%s", px.hp), HOST, PORT, NULL);
		kit_puts(p->in, "stdin is no terminal\n");
		fd = asked(&px, AUTHORITY);
		kit_silent(t.master, 0);
		kit_puts(fd, ASK);
		pty_prompted(&t);
		if (form == 0)		/* a person's time does not count */
			kit_silent(fd, 1300);
		kit_puts(t.master, "secret\n");
		request(fd, AUTHORITY);
		has_field("Proxy-Authorization", SECRET);
		kit_puts(fd, OK200);
		kit_expect(fd, "stdin is no terminal\n");
		works_silently(p, fd);
		pty_restored(&t);
	}
	kit_untouched(px.lfd);
}

/* A wrong password is not asked for again. */
static void
test_prompt_once(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	struct pty t;
	int fd;

	(void)state;
	pty_open(&t);
	p = kit_httptun(&t.opt, "-P", "user", "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, ASK);
	pty_prompted(&t);
	kit_puts(t.master, "secret\n");
	request(fd, AUTHORITY);
	kit_puts(fd, ASK);
	fails(p, 1, kit_str("httptun: %s: 407 ", px.hp));
	pty_restored(&t);

	/* and nobody is asked without need */
	p = kit_httptun(&t.opt, "-P", "user", "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, OK200);
	works_silently(p, fd);
	kit_silent(t.master, 0);
}

/* But the next tunnel's is, until one has worked: that one stays. */
static void
test_prompt_mistyped(void **state)
{
	static const char *const typed[] = { "mistyped\n", "secret\n" };
	struct peer px = peer();
	struct kit_proc *p;
	struct pty t;
	int c, fd, i;

	(void)state;
	pty_open(&t);
	p = kit_httptun(&t.opt, "-P", "user", "-x", px.hp, "-L",
	    "127.0.0.1:0:" AUTHORITY, NULL);
	for (i = 0; i < 4; i++) {
		kit_note("tunnel %d", i);
		c = kit_connect(AF_INET, kit_listening(p, 0));
		fd = asked(&px, AUTHORITY);
		kit_puts(fd, ASK);
		if (i < 2) {
			pty_prompted(&t);
			kit_puts(t.master, typed[i]);
		}
		request(fd, AUTHORITY);
		if (i > 0)
			has_field("Proxy-Authorization", SECRET);
		kit_puts(fd, i == 1 || i == 3 ? OK200 : ASK);
		if (i == 1 || i == 3) {
			kit_puts(fd, "hello");
			kit_expect(c, "hello");
		} else
			kit_expect_reset(c);
		pty_restored(&t);
	}
}

/* What is typed at a prompt, a signal that comes then, and what follows. */
struct interruption {
	const char *typed;
	int sig, status;
};

static void
prompt_ends(struct pty *t, struct kit_proc *p, int fd,
    const struct interruption *end)
{
	pty_prompted(t);
	kit_puts(t->master, end->typed);
	if (end->sig != 0)
		(void)kill(p->pid, end->sig);
	kit_exits(p, end->status);
	kit_eof(p->out);
	pty_restored(t);
	(void)kit_until_end(fd);
}

/* Ctrl-C, Ctrl-D and signals at the prompt leave the terminal as it was. */
static void
test_prompt_ended(void **state)
{
	static const struct interruption ends[] = {
		{ "sec\x03", 0, -SIGINT }, { "\x04", 0, 1 },
		{ "sec", SIGTERM, -SIGTERM }, { "", SIGHUP, -SIGHUP },
		{ "s\x1c", 0, -SIGQUIT },
	};
	struct peer px = peer();
	struct kit_proc *p;
	struct pty t;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(ends); i++) {
		kit_note("end %zu", i);
		pty_open(&t);
		p = kit_httptun(&t.opt, "-P", "user", "-x", px.hp, HOST, PORT,
		    NULL);
		fd = asked(&px, AUTHORITY);
		kit_puts(fd, ASK);
		prompt_ends(&t, p, fd, &ends[i]);
		if (ends[i].status == 1)
			kit_err_is(p, kit_str("httptun: %s: 407 Proxy "
			    "Authentication Required (offered: Basic; no "
			    "password given)\n", px.hp));
	}
	kit_untouched(px.lfd);
}

/* The same where the server of a session, if there is one, is to be told. */
static void
test_prompt_ended_poll(void **state)
{
	static const struct interruption ends[] = {
		{ "sec\x03", 0, -SIGINT }, { "sec", SIGTERM, -SIGTERM },
		{ "", SIGHUP, -SIGHUP }, { "s\x1c", 0, -SIGQUIT },
	};
	struct peer px = peer();
	char post[4096];
	struct kit_proc *p;
	struct pty t;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(ends); i++) {
		kit_note("end %zu", i);
		pty_open(&t);
		p = kit_httptun(&t.opt, "-P", "user", "-x",
		    kit_str("poll://%s", px.hp), HOST, PORT, NULL);
		fd = kit_accept(px.lfd);
		(void)kit_head(fd, post, sizeof(post));
		kit_puts(fd, "HTTP/1.1 401 Unauthorized\r\n"
		    "WWW-Authenticate: Basic realm=\"x\"\r\n"
		    "Content-Length: 0\r\n\r\n");
		prompt_ends(&t, p, fd, &ends[i]);
		kit_err_is(p, ends[i].status == -SIGQUIT ? "" :
		    kit_str("httptun: %s: 401 Unauthorized (offered: Basic; "
		    "interrupted)\n", px.hp));
	}
	kit_untouched(px.lfd);
}

/* Ctrl-Z, and fg: asked anew, with the terminal as it was in between. */
static void
test_prompt_stopped(void **state)
{
	struct peer px = peer();
	struct kit_proc *sh;
	struct pty t;
	int fd;

	(void)state;
	pty_open(&t);
	sh = kit_start(&t.opt, "/bin/sh", "-mc", kit_str("\"$0\" -P user -x %s "
	    HOST " " PORT " </dev/null; echo stopped >&2; read x; fg",
	    px.hp), kit_binary(), NULL);
	kit_group(sh);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, ASK);
	pty_prompted(&t);
	kit_puts(t.master, "sec\x1a");
	kit_err_wait(sh, "stopped\n");
	pty_restored(&t);
	kit_puts(sh->in, "x\n");
	pty_prompted(&t);
	kit_puts(t.master, "secret\n");
	request(fd, AUTHORITY);
	has_field("Proxy-Authorization", SECRET);
	kit_puts(fd, OK200);
	kit_eof(fd);
	(void)close(fd);
	kit_exits(sh, 0);
	pty_restored(&t);
}

static void
test_prompt_no_terminal(void **state)
{
	struct peer px = peer();
	struct kit_opt opt = { .newsid = 1 };
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(&opt, "-P", "user", "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, ASK);
	fails(p, 1, "httptun: ");
	kit_eof(fd);
	kit_untouched(px.lfd);
}


/* Flows: each kind of near end, with a hop and without. */

enum near { PIPES, SOCK, LOCAL };

static const struct route {
	enum near	 near;
	int		 hop;
} routes[] = {
	{ PIPES, 0 }, { PIPES, 1 }, { SOCK, 0 }, { SOCK, 1 },
	{ LOCAL, 0 }, { LOCAL, 1 },
};

struct tunnel {
	struct kit_proc	*p;
	int		 in, out;	/* the near end: to it, from it */
	int		 far;
	int		 local;		/* -L */
	int		 fds;		/* -L: descriptors at rest */
};

static void
tunnel_open(struct tunnel *t, const struct route *r)
{
	struct peer tgt = peer();
	struct kit_opt opt = { .in = r->near == SOCK ? KIT_SOCK : KIT_PIPE,
	    .out = r->near == SOCK ? KIT_SOCK : KIT_PIPE };
	const char *hop = r->hop ? tgt.hp : "direct";

	kit_note("near end %d, hop %d", (int)r->near, r->hop);
	t->local = r->near == LOCAL;
	if (t->local) {
		t->p = kit_httptun(NULL, "-x", hop, "-L", kit_str(
		    "0:127.0.0.1:%u", tgt.port), NULL);
		(void)kit_listening(t->p, 0);
		kit_idle(t->p);
		t->fds = kit_fds(t->p->pid);
		t->in = t->out = kit_connect(AF_INET, kit_listening(t->p, 0));
	} else {
		t->p = kit_httptun(&opt, "-x", hop, "127.0.0.1", tgt.p, NULL);
		t->in = t->p->in;
		t->out = t->p->out;
	}
	t->far = kit_accept(tgt.lfd);
	if (r->hop) {
		request(t->far, tgt.hp);
		kit_puts(t->far, OK200);
	}
}

/* Both ends of file have been seen: all is over, in order. */
static void
tunnel_over(struct tunnel *t)
{
	if (!t->local)
		kit_exits(t->p, 0);
	else {
		fds_back(t->p, t->fds);
		assert_true(kit_alive(t->p));
		assert_non_null(strstr(kit_err(t->p), "listening on"));
	}
	kit_done(t->p);
	(void)close(t->far);
	if (t->local)
		(void)close(t->in);
}

static void
on_all_routes(void (*test)(const struct route *, int), int down)
{
	size_t i;

	for (i = 0; i < KIT_COUNT(routes); i++)
		test(&routes[i], down);
}

/* One end ends its direction, the other sends a lot afterwards. */
static void
half_close(const struct route *r, int down)
{
	struct tunnel t;
	unsigned seed = down ? 2 : 1;
	int from, to;

	tunnel_open(&t, r);
	from = down ? t.far : t.in;
	to = down ? t.out : t.far;
	kit_puts(from, "last words");
	kit_half_close(from);
	kit_expect(to, "last words");
	kit_eof(to);
	kit_idle(t.p);
	if (down)
		assert_true(kit_alive(t.p));
	kit_pump((struct kit_stream[]){
		{ down ? t.in : t.far, KIT_OUT, 10 * MB, seed, 1, 0 },
		{ down ? t.far : t.out, KIT_IN, 10 * MB, seed, 1, 0 },
	}, 2);
	tunnel_over(&t);
}

static void
test_half_close_near(void **state)
{
	(void)state;
	on_all_routes(half_close, 0);
}

static void
test_half_close_far(void **state)
{
	(void)state;
	on_all_routes(half_close, 1);
}

static void
test_both_ways(void **state)
{
	struct tunnel t;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(routes); i++) {
		tunnel_open(&t, &routes[i]);
		kit_pump((struct kit_stream[]){
			{ t.in, KIT_OUT, 64 * MB, 3, 1, 0 },
			{ t.out, KIT_IN, 64 * MB, 4, 1, 0 },
			{ t.far, KIT_OUT, 64 * MB, 4, 1, 0 },
			{ t.far, KIT_IN, 64 * MB, 3, 1, 0 },
		}, 4);
		tunnel_over(&t);
	}
}

/* A reader that stalls stops the sender, and costs neither memory nor time;
 * the other direction goes on. */
static void
stall(const struct route *r, int down)
{
	struct tunnel t;
	struct kit_stream s[2] = {
		{ -1, KIT_OUT, 200 * MB, 5, 1, 0 },
		{ -1, KIT_IN, 200 * MB, 5, 1, 0 },
	};

	tunnel_open(&t, r);
	s[0].fd = down ? t.far : t.in;
	s[1].fd = down ? t.out : t.far;
	kit_stuff(&s[0], 50);
	if (s[0].done > 100 * MB)
		kit_fail("the sender was not stopped");
	kit_idle(t.p);
	kit_puts(down ? t.in : t.far, "meanwhile");
	kit_expect(down ? t.far : t.out, "meanwhile");
	kit_idle(t.p);
	memory_is_flat(t.p);
	kit_pump(s, 2);
	memory_is_flat(t.p);
	kit_half_close(down ? t.in : t.far);
	kit_eof(down ? t.far : t.out);
	tunnel_over(&t);
}

static void
test_stalled_near(void **state)
{
	(void)state;
	on_all_routes(stall, 1);
}

static void
test_stalled_far(void **state)
{
	(void)state;
	on_all_routes(stall, 0);
}


/* Ends that break, and odd near ends. */

static void
test_stdout_closed(void **state)
{
	struct tunnel t;
	size_t i;

	(void)state;
	for (i = 0; routes[i].near != LOCAL; i++) {
		tunnel_open(&t, &routes[i]);
		kit_puts(t.far, "first");
		kit_expect(t.out, "first");
		if (routes[i].near == SOCK)	/* one socket by two numbers */
			kit_drop(t.in);
		kit_drop(t.out);
		(void)send(t.far, "second", 6, 0);
		kit_exits(t.p, 1);
		kit_err_is(t.p, "");
		(void)kit_until_end(t.far);
	}
}

static void
test_target_resets(void **state)
{
	struct tunnel t;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(routes); i++) {
		tunnel_open(&t, &routes[i]);
		kit_puts(t.far, "first");
		kit_expect(t.out, "first");
		kit_reset(t.far);
		if (t.local) {
			kit_expect_reset(t.out);
			fds_back(t.p, t.fds);
			assert_true(kit_alive(t.p));
			continue;
		}
		kit_eof(t.out);
		kit_exits(t.p, 1);
		one_line(t.p, "httptun: 127.0.0.1:");
	}
}

/* The same, and our end is told to a target that is gone already. */
static void
test_target_resets_at_end(void **state)
{
	struct tunnel t;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(routes); i++) {
		if (routes[i].near == LOCAL)
			continue;
		tunnel_open(&t, &routes[i]);
		kit_puts(t.far, "first");
		kit_expect(t.out, "first");
		kit_stop(t.p->pid);
		kit_reset(t.far);
		kit_half_close(t.in);
		kit_signal(t.p->pid, SIGCONT);
		kit_eof(t.out);
		kit_exits(t.p, 1);
		one_line(t.p, "httptun: 127.0.0.1:");
		kit_err_has(t.p, ": Connection reset by peer\n");
	}
}

static void
test_client_resets(void **state)
{
	struct tunnel t;
	struct peer tgt = peer(), near = peer();
	struct kit_opt opt = { .in = 0 };
	struct kit_proc *p;
	size_t i;
	int fd, far;

	(void)state;
	for (i = 0; i < KIT_COUNT(routes); i++) {
		if (routes[i].near != LOCAL)
			continue;
		tunnel_open(&t, &routes[i]);
		kit_puts(t.in, "question");
		kit_expect(t.far, "question");
		kit_reset(t.in);
		kit_expect_reset(t.far);
		fds_back(t.p, t.fds);
		assert_true(kit_alive(t.p));
	}
	/* stdin and stdout as one TCP socket */
	fd = kit_connect(AF_INET, near.port);
	opt.in = opt.out = kit_accept(near.lfd);
	p = kit_httptun(&opt, "127.0.0.1", tgt.p, NULL);
	(void)close(opt.in);
	far = kit_accept(tgt.lfd);
	kit_puts(fd, "question");
	kit_expect(far, "question");
	kit_reset(fd);
	kit_expect_reset(far);
	kit_exits(p, 1);
}

static void
test_stdio_one_tcp_socket(void **state)
{
	struct peer tgt = peer(), near = peer();
	struct kit_opt opt = { .in = 0 };
	struct kit_proc *p;
	int fd, far;

	(void)state;
	fd = kit_connect(AF_INET, near.port);
	opt.in = opt.out = kit_accept(near.lfd);
	p = kit_httptun(&opt, "127.0.0.1", tgt.p, NULL);
	(void)close(opt.in);
	far = kit_accept(tgt.lfd);
	kit_pump((struct kit_stream[]){
		{ fd, KIT_OUT, MB, 1, 1, 0 }, { far, KIT_IN, MB, 1, 1, 0 },
	}, 2);
	kit_pump((struct kit_stream[]){
		{ far, KIT_OUT, MB, 2, 1, 0 }, { fd, KIT_IN, MB, 2, 1, 0 },
	}, 2);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

static void
test_stdio_files(void **state)
{
	static char buf[1 << 20];
	struct peer tgt = peer();
	const char *in = kit_file("in", 0600, ""), *out = kit_path("out");
	struct kit_opt opt = { .in = open(in, O_RDWR),
	    .out = open(out, O_RDWR | O_CREAT, 0600) };
	struct kit_proc *p;
	int far;

	(void)state;
	kit_fill(buf, sizeof(buf), 7, 0);
	kit_send(opt.in, buf, sizeof(buf));
	assert_int_equal(lseek(opt.in, 0, SEEK_SET), 0);
	p = kit_httptun(&opt, "127.0.0.1", tgt.p, NULL);
	far = kit_accept(tgt.lfd);
	kit_pump((struct kit_stream[]){
		{ far, KIT_IN, MB, 7, 1, 0 }, { far, KIT_OUT, MB, 8, 1, 0 },
	}, 2);
	kit_exits(p, 0);
	kit_err_is(p, "");
	assert_int_equal(lseek(opt.out, 0, SEEK_SET), 0);
	kit_recv(opt.out, buf, sizeof(buf));
	kit_check(buf, sizeof(buf), 8, 0);
	kit_eof(opt.out);
}

/* Without a stdin it is at its end from the start; and the number 0 that a
 * socket then gets is not taken for it. */
static void
test_stdin_closed(void **state)
{
	static const int kinds[] = { KIT_CLOSED, KIT_NULL };
	struct peer tgt = peer();
	struct kit_opt opt = { .in = 0 };
	struct kit_proc *p;
	size_t i;
	int far;

	(void)state;
	for (i = 0; i < KIT_COUNT(kinds); i++) {
		opt.in = kinds[i];
		p = kit_httptun(&opt, "127.0.0.1", tgt.p, NULL);
		far = kit_accept(tgt.lfd);
		kit_eof(far);
		kit_puts(far, "answer");
		kit_expect(p->out, "answer");
		kit_half_close(far);
		kit_eof(p->out);
		kit_exits(p, 0);
		kit_err_is(p, "");
	}
}

/* Without a stdout or a stderr nothing of theirs goes into the tunnel. */
static void
test_stdout_stderr_missing(void **state)
{
	struct peer tgt = peer(), px = peer();
	struct kit_opt noout = { .out = KIT_CLOSED },
	    noerr = { .err = KIT_CLOSED };
	struct pollfd pfd = { .events = POLLIN };
	struct kit_proc *p;
	char buf[64];

	(void)state;
	p = kit_httptun(&noout, "127.0.0.1", tgt.p, NULL);
	pfd.fd = tgt.lfd;
	while (poll(&pfd, 1, 10) == 0 && kit_alive(p))
		;
	if (kit_alive(p)) {		/* it may give up before, too */
		pfd.fd = kit_accept(tgt.lfd);
		(void)send(pfd.fd, "answer", 6, 0);
		kit_half_close(pfd.fd);
		kit_half_close(p->in);
		kit_poll(pfd.fd, POLLIN, "an end");
		if (read(pfd.fd, buf, sizeof(buf)) > 0)
			kit_fail("the target got its own bytes");
	}
	(void)kit_wait(p);

	p = kit_httptun(&noerr, "-vv", "-x", px.hp, HOST, PORT, NULL);
	pfd.fd = asked(&px, AUTHORITY);
	kit_idle(p);
	kit_silent(pfd.fd, 0);
	kit_puts(pfd.fd, OK200);
	works(p, pfd.fd);
}

/* What we were lent is blocking again when we go. */
static void
test_stdio_left_blocking(void **state)
{
	struct peer tgt = peer();
	struct kit_opt opt = { .in = 0 };
	struct kit_proc *p;
	int in[2], out[2], far, sig;

	(void)state;
	for (sig = 0; sig <= SIGTERM; sig += SIGTERM) {
		assert_int_equal(pipe(in), 0);
		assert_int_equal(pipe(out), 0);
		opt.in = in[0];
		opt.out = out[1];
		p = kit_httptun(&opt, "127.0.0.1", tgt.p, NULL);
		far = kit_accept(tgt.lfd);
		kit_puts(in[1], "question");
		kit_expect(far, "question");
		if (sig != 0)
			(void)kill(p->pid, sig);
		else {
			kit_half_close(far);
			kit_half_close(in[1]);
		}
		kit_exits(p, -sig);
		assert_false(fcntl(in[0], F_GETFL) & O_NONBLOCK);
		assert_false(fcntl(out[1], F_GETFL) & O_NONBLOCK);
	}
}

/* One that passes bytes on as they are. */
static void
pty_open_raw(struct pty *t)
{
	struct termios raw;

	pty_open(t);
	raw = t->before;
	raw.c_oflag &= ~(tcflag_t)OPOST;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	assert_int_equal(tcsetattr(t->slave, TCSANOW, &raw), 0);
}

/* A terminal that takes no more holds up what goes to it, and nothing else. */
static void
test_terminal_full(void **state)
{
	struct peer tgt = peer();
	struct kit_stream s[2] = {
		{ .dir = KIT_OUT, .bytes = 1 << 20, .seed = 3 },
		{ .dir = KIT_IN, .bytes = 1 << 20, .seed = 3 },
	};
	struct kit_proc *p;
	struct pty t;
	int far;

	(void)state;
	pty_open_raw(&t);
	t.opt.out = t.slave;
	p = kit_httptun(&t.opt, "127.0.0.1", tgt.p, NULL);
	far = kit_accept(tgt.lfd);
	s[0].fd = far;
	s[1].fd = t.master;
	kit_stuff(&s[0], 50);
	kit_puts(p->in, "goes on");
	kit_expect(far, "goes on");
	kit_idle(p);
	kit_pump(s, 2);
	kit_half_close(far);
	kit_half_close(p->in);
	kit_exits(p, 0);
	assert_false(fcntl(t.slave, F_GETFL) & O_NONBLOCK);
}

/* What pppd(8) does with its `pty' command: the master is stdin and stdout. */
static void
test_terminal_master(void **state)
{
	struct peer tgt = peer();
	struct kit_proc *p;
	struct pty t;
	int far;

	(void)state;
	pty_open_raw(&t);
	t.opt.tty = 0;
	t.opt.in = t.opt.out = t.master;
	p = kit_httptun(&t.opt, "127.0.0.1", tgt.p, NULL);
	far = kit_accept(tgt.lfd);
	kit_puts(far, "down");
	kit_expect(t.slave, "down");
	kit_puts(t.slave, "up");
	kit_expect(far, "up");
	kit_done(p);
}


/* -F: the socket itself goes to the caller. */

static int
receive_fd(int sock)
{
	union {
		struct cmsghdr	h;
		char		space[CMSG_SPACE(4 * sizeof(int))];
	} u;
	char bytes[8];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = u.space, .msg_controllen = sizeof(u.space) };
	struct cmsghdr *c;
	int fd;

	kit_poll(sock, POLLIN, "a descriptor");
	assert_int_equal(recvmsg(sock, &m, 0), 1);
	c = CMSG_FIRSTHDR(&m);
	assert_non_null(c);
	assert_int_equal(c->cmsg_level, SOL_SOCKET);
	assert_int_equal(c->cmsg_type, SCM_RIGHTS);
	assert_int_equal(c->cmsg_len, CMSG_LEN(sizeof(int)));
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	return fd;
}

/* It has come, is the only thing that comes, and the tunnel is whole. */
static void
passed(struct kit_proc *p, int far, const char *early)
{
	int fd = receive_fd(p->out);

	kit_exits(p, 0);
	kit_eof(p->out);
	kit_err_is(p, "");
	kit_expect(fd, early);
	kit_puts(fd, "question");
	kit_expect(far, "question");
	kit_puts(far, "answer");
	kit_expect(fd, "answer");
	kit_half_close(fd);
	kit_eof(far);
	(void)close(fd);
}

static void
test_pass_cut_anywhere(void **state)
{
	static const char early[] = "SSH-2.0-early\r\n\r\n";
	struct peer px = peer();
	struct kit_opt opt = { .in = KIT_NULL, .out = KIT_SOCK };
	struct kit_proc *p;
	const char *reply;
	size_t i, cut, len;
	int far;

	(void)state;
	for (i = 0; i < 3; i++) {
		reply = kit_str("%s%s", opening[i], early);
		len = strlen(opening[i]);
		for (cut = 0; cut <= len; cut++) {
			p = kit_httptun(&opt, "-F", "-x", px.hp, HOST, PORT,
			    NULL);
			far = asked(&px, AUTHORITY);
			send_cut(p, far, reply, strlen(reply), cut);
			passed(p, far, early);
			kit_done(p);
			(void)close(far);
		}
	}
}

/* Whoever gets it reads slowly, and the socket does not block. */
static void
test_pass_full(void **state)
{
	struct peer px = peer();
	struct kit_opt opt = { .in = KIT_NULL };
	struct kit_proc *p;
	char buf[4096] = "";
	ssize_t n;
	size_t full = 0;
	int far, sv[2], fd;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(fcntl(sv[1], F_SETFL, O_NONBLOCK), 0);
	while ((n = write(sv[1], buf, sizeof(buf))) > 0)
		full += (size_t)n;
	opt.out = sv[1];
	p = kit_httptun(&opt, "-F", "-x", px.hp, HOST, PORT, NULL);
	far = asked(&px, AUTHORITY);
	kit_puts(far, OK200);
	kit_idle(p);
	for (; full > 0; full -= (size_t)n) {
		kit_poll(sv[0], POLLIN, "what came before");
		n = read(sv[0], buf, full < sizeof(buf) ? full : sizeof(buf));
		assert_true(n > 0);
	}
	fd = receive_fd(sv[0]);
	kit_exits(p, 0);
	kit_puts(far, "here");
	kit_expect(fd, "here");
	(void)close(fd);
	(void)close(sv[0]);
}

static void
test_pass(void **state)
{
	struct peer px = peer(), tgt = peer();
	struct kit_opt opt = { .in = KIT_NULL, .out = KIT_SOCK };
	struct kit_proc *p;
	int far;

	(void)state;
	p = kit_httptun(&opt, "-F", "127.0.0.1", tgt.p, NULL);
	far = kit_accept(tgt.lfd);
	kit_puts(far, "early");
	passed(p, far, "early");

	p = kit_httptun(&opt, "-F", "-x", px.hp, "-x", "p2.example:81", HOST,
	    PORT, NULL);
	far = asked(&px, "p2.example:81");
	kit_puts(far, OK200);
	request(far, AUTHORITY);
	kit_puts(far, OK200 "early");
	passed(p, far, "early");

	/* a challenge's body on the way */
	p = kit_httptun(&opt, "-F", "-x", kit_str("user:pass@%s", px.hp),
	    HOST, PORT, NULL);
	far = asked(&px, AUTHORITY);
	kit_puts(far, kept[2]);
	request(far, AUTHORITY);
	has_field("Proxy-Authorization", USERPASS);
	kit_puts(far, OK200 "early");
	passed(p, far, "early");

	p = kit_httptun(&opt, "-F", "-x", px.hp, HOST, PORT, NULL);
	far = asked(&px, AUTHORITY);
	kit_puts(far, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
	blames(p, &px, "403 Forbidden");

	p = kit_httptun(NULL, "-F", "-x", px.hp, HOST, PORT, NULL);
	fails(p, 2, "httptun: ");
	/* TCP passes no descriptor, and says nothing */
	opt.out = kit_connect(AF_INET, px.port);
	(void)kit_accept(px.lfd);
	p = kit_httptun(&opt, "-F", "-x", px.hp, HOST, PORT, NULL);
	kit_exits(p, 2);
	kit_err_has(p, "httptun: -F: ");
	kit_untouched(px.lfd);
}


/* -L */

#define MANY	100

static void
test_local_many(void **state)
{
	static struct kit_stream s[4 * MANY];
	struct peer px = peer();
	struct kit_proc *p;
	const char *said;
	unsigned i, port;
	int fds, near, far;

	(void)state;
	p = kit_httptun(NULL, "-x", px.hp, "-L", "0:" AUTHORITY, NULL);
	port = kit_listening(p, 0);
	kit_idle(p);
	said = kit_str("%s", kit_err(p));
	fds = kit_fds(p->pid);
	for (i = 0; i < MANY; i++) {
		near = kit_connect(AF_INET, port);
		far = asked(&px, AUTHORITY);
		kit_puts(far, OK200);
		s[4 * i] = (struct kit_stream){ near, KIT_OUT, MB / 4,
		    2 * i, 1, 0 };
		s[4 * i + 1] = (struct kit_stream){ far, KIT_IN, MB / 4,
		    2 * i, 1, 0 };
		s[4 * i + 2] = (struct kit_stream){ far, KIT_OUT, MB / 4,
		    2 * i + 1, 1, 0 };
		s[4 * i + 3] = (struct kit_stream){ near, KIT_IN, MB / 4,
		    2 * i + 1, 1, 0 };
	}
	kit_pump(s, KIT_COUNT(s));
	fds_back(p, fds);
	assert_true(kit_alive(p));
	kit_err_is(p, said);
}

static void
test_local_several(void **state)
{
	struct peer t4 = peer(), t6 = listen_on(AF_INET6), px = peer();
	struct kit_proc *p;
	int near, far;

	(void)state;
	p = kit_httptun(NULL, "-L", kit_str("127.0.0.1:0:%s", t4.hp), "-L",
	    kit_str("[::1]:0:%s", t6.hp), "-L", kit_str("localhost:0:"
	    "127.0.0.1:%u", px.port), NULL);
	kit_err_wait(p, "listening on ::1 ");
	near = kit_connect(AF_INET, kit_listening(p, 0));
	far = kit_accept(t4.lfd);
	kit_puts(near, "four");
	kit_expect(far, "four");
	near = kit_connect(AF_INET6, kit_listening(p, 1));
	far = kit_accept(t6.lfd);
	kit_puts(near, "six");
	kit_expect(far, "six");
	near = kit_connect(AF_INET, kit_listening(p, 2));
	far = kit_accept(px.lfd);
	kit_puts(far, "name");
	kit_expect(near, "name");
	kit_untouched(t4.lfd);
	kit_untouched(t6.lfd);
}

/* Bytes and an end that come while the tunnel is being opened wait for it. */
static void
test_local_early_client(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	int near, far;

	(void)state;
	p = kit_httptun(NULL, "-x", px.hp, "-L", "0:" AUTHORITY, NULL);
	near = kit_connect(AF_INET, kit_listening(p, 0));
	kit_puts(near, "question");
	kit_half_close(near);
	far = asked(&px, AUTHORITY);
	kit_idle(p);
	kit_silent(far, 0);
	kit_puts(far, OK200 "answer");
	kit_expect(far, "question");
	kit_eof(far);
	kit_expect(near, "answer");
	kit_half_close(far);
	kit_eof(near);
	assert_true(kit_alive(p));
}

/* Each failure is one connection's: a reset, a line, and the next is served. */
static void
test_local_failures(void **state)
{
	struct peer px = peer();
	unsigned port, closed = kit_nobody(AF_INET);
	struct kit_proc *p;
	const char *line;
	int near, far, fds, i;

	(void)state;
	p = kit_httptun(NULL, "-x", px.hp, "-L", "0:" AUTHORITY, NULL);
	port = kit_listening(p, 0);
	kit_idle(p);
	fds = kit_fds(p->pid);
	for (i = 0; i < 3; i++) {
		near = kit_connect(AF_INET, port);
		kit_puts(near, "question");
		far = asked(&px, AUTHORITY);
		if (i == 0)
			kit_puts(far, "HTTP/1.1 403 Never\r\n\r\nbody");
		else if (i == 1)
			kit_puts(far, "SSH-2.0-x\r\n\r\n");
		kit_drop(far);
		kit_expect_reset(near);
	}
	kit_err_wait(p, kit_str("httptun: %s: 403 Never\n", px.hp));
	line = strstr(kit_err(p), "403 Never\n") + 10;
	line = strchr(line, '\n');
	assert_non_null(line);
	line = strchr(line + 1, '\n');
	assert_non_null(line);			/* a line for each */
	fds_back(p, fds);
	near = kit_connect(AF_INET, port);
	far = asked(&px, AUTHORITY);
	kit_puts(far, OK200 "answer");
	kit_expect(near, "answer");
	kit_done(p);

	p = kit_httptun(NULL, "-L", kit_str("0:127.0.0.1:%u", closed), NULL);
	for (i = 0; i < 2; i++)
		kit_expect_reset(kit_connect(AF_INET, kit_listening(p, 0)));
	kit_err_wait(p, kit_str("httptun: 127.0.0.1:%u: Connection refused\n",
	    closed));
	assert_true(kit_alive(p));
}

/* A client that resets while its tunnel is being opened frees it at once. */
static void
test_local_client_gives_up(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	unsigned port, hole;
	int near, far, fds;

	(void)state;
	p = kit_httptun(NULL, "-x", px.hp, "-L", "0:" AUTHORITY, NULL);
	port = kit_listening(p, 0);
	kit_idle(p);
	fds = kit_fds(p->pid);
	near = kit_connect(AF_INET, port);
	far = asked(&px, AUTHORITY);
	kit_reset(near);
	(void)kit_until_end(far);
	fds_back(p, fds);
	/* the bytes that it has sent do not hide the reset */
	near = kit_connect(AF_INET, port);
	kit_puts(near, "question");
	far = asked(&px, AUTHORITY);
	kit_idle(p);
	kit_reset(near);
	(void)kit_until_end(far);
	fds_back(p, fds);
	kit_done(p);

	kit_blackhole(&hole);
	p = kit_httptun(NULL, "-L", kit_str("0:127.0.0.1:%u", hole), NULL);
	port = kit_listening(p, 0);
	kit_idle(p);
	fds = kit_fds(p->pid);
	near = kit_connect(AF_INET, port);
	fds_back(p, fds + 2);
	kit_reset(near);
	fds_back(p, fds);
	assert_true(kit_alive(p));
}

static void
test_local_cannot_listen(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;

	(void)state;
	p = kit_httptun(NULL, "-L", kit_str("%u:" AUTHORITY, px.port), NULL);
	fails(p, 1, kit_str("127.0.0.1:%u: ", px.port));
	kit_untouched(px.lfd);
}


/* Signals. */

enum phase { DIALLING, ASKING, CARRYING, SERVING };

static struct kit_proc *
in_phase(enum phase phase, int *far)
{
	struct kit_opt opt = { .newsid = 1 };
	struct peer px = peer();
	struct kit_proc *p;
	unsigned hole;

	switch (phase) {
	case DIALLING:
		kit_blackhole(&hole);
		p = kit_httptun(&opt, "127.0.0.1", kit_str("%u", hole), NULL);
		kit_idle(p);
		break;
	case ASKING:
	case CARRYING:
		p = kit_httptun(&opt, "-x", px.hp, HOST, PORT, NULL);
		*far = asked(&px, AUTHORITY);
		if (phase == ASKING)
			break;
		kit_puts(*far, OK200 "early");
		kit_expect(p->out, "early");
		break;
	default:
		p = kit_httptun(&opt, "-x", px.hp, "-L", "0:" AUTHORITY, NULL);
		(void)kit_connect(AF_INET, kit_listening(p, 0));
		*far = asked(&px, AUTHORITY);
		kit_puts(*far, OK200);
		(void)kit_connect(AF_INET, kit_listening(p, 0));
		(void)asked(&px, AUTHORITY);
		break;
	}
	return p;
}

static void
test_signals(void **state)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGHUP };
	struct kit_proc *p;
	int64_t end;
	size_t i;
	int phase, far;

	(void)state;
	for (phase = DIALLING; phase <= SERVING; phase++)
		for (i = 0; i < KIT_COUNT(sigs); i++) {
			kit_note("phase %d, signal %d", phase, sigs[i]);
			far = -1;
			p = in_phase((enum phase)phase, &far);
			(void)kill(p->pid, sigs[i]);
			kit_exits(p, -sigs[i]);
			assert_null(strstr(kit_err(p), "ignal"));
			if (far != -1)
				(void)kit_until_end(far);
			/* nobody of its group is left */
			end = kit_now() + kit_patience();
			while (kill(-p->pid, 0) == 0)
				if (kit_now() > end)
					kit_fail("a child is left");
		}
}


/* -z, -w, -I, -s, -n, -4, -6, -v, and the like. */

static void
test_zero_io(void **state)
{
	struct peer px = peer(), tgt = peer();
	unsigned closed = kit_nobody(AF_INET);
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(NULL, "-z", "-x", px.hp, HOST, PORT, NULL);
	kit_puts(p->in, "not to be sent");
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, OK200);
	kit_eof(fd);
	kit_exits(p, 0);
	kit_eof(p->out);
	kit_err_is(p, "");

	p = kit_httptun(NULL, "-v", "-z", "127.0.0.1", tgt.p, NULL);
	kit_eof(kit_accept(tgt.lfd));
	kit_exits(p, 0);
	kit_eof(p->out);
	one_line(p, tgt.hp);

	p = kit_httptun(NULL, "-z", "-x", px.hp, HOST, PORT, NULL);
	kit_puts(asked(&px, AUTHORITY), "HTTP/1.1 403 No\r\n\r\n");
	blames(p, &px, "403 No");
	p = kit_httptun(NULL, "-z", "127.0.0.1", kit_str("%u", closed), NULL);
	fails(p, 1, "Connection refused");
}

/* Sends a byte on each of n now and then until the other sides have gone. */
static void
drip(const int *fd, const char *const *bytes, size_t n)
{
	int64_t end = kit_now() + kit_patience();
	struct pollfd pfd = { .events = POLLIN };
	size_t at, i, left;

	for (at = 0, left = n; left > 0; at++) {
		(void)poll(NULL, 0, 200);
		for (i = left = 0; i < n; i++) {
			pfd.fd = fd[i];
			if (poll(&pfd, 1, 0) > 0)
				continue;
			left++;
			(void)send(fd[i], bytes[i] + at % strlen(bytes[i]), 1,
			    0);
		}
		if (kit_now() > end)
			kit_fail("no end of patience");
	}
}

/* It is for all steps together, so neither a first hop that has answered nor
 * bytes, interim replies or a second try are progress.  All wait at once. */
static void
test_time_out(void **state)
{
	static const char *const drops[] = { "HTTP/1.1 200 xxxxxxxxxxxxxxx",
	    "HTTP/1.1 100 C\r\n\r\n" };
	struct peer px = peer();
	struct kit_proc *p[5], *ages;
	int64_t since;
	unsigned hole;
	int fd[5], c;

	(void)state;
	kit_blackhole(&hole);
	since = kit_now();
	ages = kit_httptun(NULL, "-w", "999999999", "-x", px.hp, HOST, PORT,
	    NULL);
	c = asked(&px, AUTHORITY);
	p[4] = kit_httptun(NULL, "-w", "2", "-x", kit_str("user:pass@%s",
	    px.hp), HOST, PORT, NULL);
	fd[4] = asked(&px, AUTHORITY);
	p[0] = kit_httptun(NULL, "-w", "1", "127.0.0.1", kit_str("%u", hole),
	    NULL);
	p[1] = kit_httptun(NULL, "-w1", "-x", px.hp, HOST, PORT, NULL);
	fd[1] = asked(&px, AUTHORITY);
	p[2] = kit_httptun(NULL, "-w1", "-x", px.hp, "-x", "p2.example", HOST,
	    PORT, NULL);
	fd[2] = asked(&px, "p2.example:3128");
	kit_puts(fd[2], OK200);
	request(fd[2], AUTHORITY);
	p[3] = kit_httptun(NULL, "-w1", "-x", px.hp, HOST, PORT, NULL);
	fd[3] = asked(&px, AUTHORITY);
	drip(fd + 2, drops, 2);
	kit_puts(fd[4], ASK);
	kit_drop(fd[4]);
	fd[4] = asked(&px, AUTHORITY);
	fails(p[0], 1, kit_str("httptun: 127.0.0.1:%u: ", hole));
	fails(p[1], 1, kit_str("httptun: %s: ", px.hp));
	fails(p[2], 1, "httptun: p2.example:3128: ");
	fails(p[3], 1, kit_str("httptun: %s: ", px.hp));
	/* Had it connected meanwhile, an end would be the target's, too. */
	kit_expect_reset(fd[1]);
	fails(p[4], 1, kit_str("httptun: %s: ", px.hp));
	assert_in_range(kit_now() - since, 1900, 2900);
	kit_untouched(px.lfd);
	kit_puts(c, OK200);
	kit_drop(c);
	kit_half_close(ages->in);
	kit_exits(ages, 0);
}

/* What a hop says is no line, nor a colour, of the log's. */
static void
test_log_escapes(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	int c;

	(void)state;
	p = kit_httptun(NULL, "-v", "-x", px.hp, "-L", "0:" AUTHORITY, NULL);
	c = kit_connect(AF_INET, kit_listening(p, 0));
	kit_puts(asked(&px, AUTHORITY),
	    "HTTP/1.1 502 bad\033[31m\rhttptun: a lie\r\n\r\n");
	kit_expect_reset(c);
	kit_err_wait(p, " 502 0 0 ");
	if (strpbrk(kit_err(p), "\r\033") != NULL)
		kit_fail("the log is not escaped");
	kit_err_has(p, "bad\\x1b[31m\\x0dhttptun: a lie\n");
}

/* -I ends what is idle, and only that; -w ends nothing that is open. */
static void
test_idle(void **state)
{
	struct peer px = peer();
	struct kit_proc *p, *local, *patient;
	int fd, fds, far, near, open;
	int64_t end;

	(void)state;
	local = kit_httptun(NULL, "-v", "-I", "1", "-x", px.hp, "-L",
	    "0:" AUTHORITY, NULL);
	(void)kit_listening(local, 0);
	kit_idle(local);
	fds = kit_fds(local->pid);
	near = kit_connect(AF_INET, kit_listening(local, 0));
	far = asked(&px, AUTHORITY);
	kit_puts(far, OK200);
	patient = kit_httptun(NULL, "-w", "1", "-x", px.hp, HOST, PORT, NULL);
	open = asked(&px, AUTHORITY);
	kit_puts(open, OK200);
	p = kit_httptun(NULL, "-I", "1", "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, OK200);
	/* one direction is enough to be busy */
	for (end = kit_now() + 1300; kit_now() < end; ) {
		kit_puts(fd, "x");
		kit_expect(p->out, "x");
		(void)poll(NULL, 0, 20);
	}
	fails(p, 1, "idle");
	(void)kit_until_end(fd);
	/* -L goes on */
	(void)kit_until_end(near);
	(void)kit_until_end(far);
	fds_back(local, fds);
	assert_true(kit_alive(local));
	kit_err_has(local, "idle");
	works_silently(patient, open);
}

static void
test_source_address(void **state)
{
	struct peer px = peer(), tgt = listen_on(AF_INET6);
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(NULL, "-s", "127.0.0.9", "-x", px.hp, HOST, PORT,
	    NULL);
	fd = asked(&px, AUTHORITY);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&sin, &len), 0);
	assert_string_equal(inet_ntoa(sin.sin_addr), "127.0.0.9");
	kit_puts(fd, OK200);
	works_silently(p, fd);

	p = kit_httptun(NULL, "-s", "127.0.0.9", "::1", tgt.p, NULL);
	fails(p, 1, "httptun: ");
	p = kit_httptun(NULL, "-s", "::1", "::1", tgt.p, NULL);
	works_silently(p, kit_accept(tgt.lfd));
	p = kit_httptun(NULL, "-s", "192.0.2.1", "-x", px.hp, HOST, PORT,
	    NULL);
	fails(p, 1, "httptun: ");
	kit_untouched(px.lfd);
	kit_untouched(tgt.lfd);
}

static void
test_families_and_names(void **state)
{
	struct peer t4 = peer(), t6 = listen_on(AF_INET6);
	struct kit_proc *p;

	(void)state;
	p = kit_httptun(NULL, "-4", "localhost", t4.p, NULL);
	works_silently(p, kit_accept(t4.lfd));
	p = kit_httptun(NULL, "-6", "::1", t6.p, NULL);
	works_silently(p, kit_accept(t6.lfd));
	p = kit_httptun(NULL, "-6", "127.0.0.1", t4.p, NULL);
	fails(p, 1, "httptun: ");
	p = kit_httptun(NULL, "-4", "::1", t6.p, NULL);
	fails(p, 1, "httptun: ");
	p = kit_httptun(NULL, "-6", "-x", t4.hp, HOST, PORT, NULL);
	fails(p, 1, "httptun: ");

	/* -n: of names here, not of names that go to a proxy */
	p = kit_httptun(NULL, "-n", "localhost", t4.p, NULL);
	fails(p, 1, kit_str("httptun: localhost:%s: ", t4.p));
	p = kit_httptun(NULL, "-n", "-x", kit_str("localhost:%s", t4.p), HOST,
	    PORT, NULL);
	fails(p, 1, kit_str("httptun: localhost:%s: ", t4.p));
	kit_untouched(t4.lfd);
	kit_untouched(t6.lfd);
	p = kit_httptun(NULL, "-n", "-N", "-X", "connect", "-x", t4.hp, HOST,
	    PORT, NULL);
	t4.lfd = asked(&t4, AUTHORITY);
	kit_puts(t4.lfd, OK200);
	works_silently(p, t4.lfd);
}

static void
test_verbose(void **state)
{
	struct peer px = peer();
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(NULL, "-v", "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, OK200);
	works(p, fd);
	one_line(p, AUTHORITY);		/* one line for the tunnel */
	p = kit_httptun(NULL, "-v", "-v", "-x", px.hp, HOST, PORT, NULL);
	fd = asked(&px, AUTHORITY);
	kit_puts(fd, "HTTP/1.1 200 Fine\r\nX: \x9b\t31m\r\n\r\n");
	works(p, fd);
	kit_err_has(p, "CONNECT " AUTHORITY);
	kit_err_has(p, "200 Fine");
	assert_null(strchr(kit_err(p), '\x9b'));
	assert_null(strchr(kit_err(p), '\t'));
	assert_null(strchr(kit_err(p), '\r'));
}

static void
test_usage(void **state)
{
	struct kit_proc *p;
	char buf[16384];

	(void)state;
	p = kit_httptun(NULL, "-V", NULL);
	kit_exits(p, 0);
	kit_slurp(p->out, buf, sizeof(buf));
	assert_memory_equal(buf, "httptun ", 8);
	assert_ptr_equal(strchr(buf, '\n'), buf + strlen(buf) - 1);
	kit_err_is(p, "");
	p = kit_httptun(NULL, "-h", NULL);
	kit_exits(p, 0);
	kit_slurp(p->out, buf, sizeof(buf));
	assert_non_null(strstr(buf, "usage: httptun"));
	kit_err_is(p, "");
	p = kit_httptun(NULL, NULL);
	kit_exits(p, 2);
	kit_eof(p->out);
	kit_err_has(p, "usage: httptun");
	assert_ptr_equal(strchr(kit_err(p), '\n'),
	    kit_err(p) + p->errlen - 1);
}


/* Bad input: @ stands for the listening proxy's HOST:PORT, % for a directory
 * in which there is a file `faulty' with a line that has no colon. */
static const char *const wrong[][8] = {
	{ "-Q", "-x", "@", HOST, PORT },
	{ "-x", "@", HOST },
	{ "-x", "@", HOST, PORT, "more" },
	{ "-x", "@", HOST, "0" },
	{ "-x", "@", HOST, "65536" },
	{ "-x", "@", HOST, "99999999999999999999" },
	{ "-x", "@", HOST, "abc" },
	{ "-x", "@", HOST, "" },
	{ "-x", "@", "--", HOST, "-1" },
	{ "-x", "@", HOST, "+80" },
	{ "-x", "@", HOST, " 80" },
	{ "-x", "@", HOST, "80 " },
	{ "-x", "@", HOST, "80x" },
	{ "-x", "@", HOST, "0x50" },
	{ "-x", "@", HOST, "80-90" },
	{ "-x", "@", "", PORT },
	{ "-x", "@", "target example", PORT },
	{ "-x", "@", " target.example", PORT },
	{ "-x", "@", "target\texample", PORT },
	{ "-x", "@", "target.example\r\nX: y", PORT },
	{ "-x", "@", "target\nexample", PORT },
	{ "-x", "@", "target\x7f", PORT },
	{ "-x", "@", "user@target.example", PORT },
	{ "-x", "@", "target.example/path", PORT },
	{ "-x", "@", "target.example:80", PORT },
	{ "-x", "", HOST, PORT },
	{ "-x", "@", "-x", "", HOST, PORT },
	{ "-x", "@", "-x", "p2:0", HOST, PORT },
	{ "-x", "@", "-x", "p2:65536", HOST, PORT },
	{ "-x", "@", "-x", "p2:http", HOST, PORT },
	{ "-x", "@", "-x", "p 2:80", HOST, PORT },
	{ "-x", "@", "-x", "[::1:80", HOST, PORT },
	{ "-x", "@", "-x", "[::g]:80", HOST, PORT },
	{ "-x", "@", "-x", "http://p2/path", HOST, PORT },
	{ "-x", "@", "-x", "http://p2:80/?query", HOST, PORT },
	{ "-x", "@", "-x", "http://", HOST, PORT },
	{ "-x", "@", "-x", "ftp://p2/", HOST, PORT },
	{ "-x", "@", "-x", "u:%zz@p2", HOST, PORT },
	{ "-x", "@", "-x", "u:%4@p2", HOST, PORT },
	{ "-x", "@", "-x", "u:%0d%0a@p2", HOST, PORT },
	{ "-x", "@", "-x", "u:%00@p2", HOST, PORT },
	{ "-X", "4", "-x", "@", HOST, PORT },
	{ "-X", "5", "-x", "@", HOST, PORT },
	{ "-X", "foo", "-x", "@", HOST, PORT },
	{ "-A", "foo", "-x", "@", HOST, PORT },
	{ "-w", "0", "-x", "@", HOST, PORT },
	{ "-w", "-1", "-x", "@", HOST, PORT },
	{ "-w", "1.5", "-x", "@", HOST, PORT },
	{ "-w", "x", "-x", "@", HOST, PORT },
	{ "-w", "", "-x", "@", HOST, PORT },
	{ "-w", "99999999999999999999", "-x", "@", HOST, PORT },
	{ "-I", "0", "-x", "@", HOST, PORT },
	{ "-I", "1s", "-x", "@", HOST, PORT },
	{ "-s", "here", "-x", "@", HOST, PORT },
	{ "-s", "localhost", "-x", "@", HOST, PORT },
	{ "-H", "no colon", "-x", "@", HOST, PORT },
	{ "-H", ": value", "-x", "@", HOST, PORT },
	{ "-H", "A B: value", "-x", "@", HOST, PORT },
	{ "-H", "A : value", "-x", "@", HOST, PORT },
	{ "-H", "A: b\r\nC: d", "-x", "@", HOST, PORT },
	{ "-H", "A: b\nC: d", "-x", "@", HOST, PORT },
	{ "-H", "A: b\rc", "-x", "@", HOST, PORT },
	{ "-H", "A: \x1b[m", "-x", "@", HOST, PORT },
	{ "-H", "A: \x7f", "-x", "@", HOST, PORT },
	{ "-H", "", "-x", "@", HOST, PORT },
	{ "-a", "%/missing", "-x", "@", HOST, PORT },
	{ "-a", "%/faulty", "-x", "@", HOST, PORT },
	{ "-a", "%", "-x", "@", HOST, PORT },
	{ "-x", "@", "-L", "0" },
	{ "-x", "@", "-L", "" },
	{ "-x", "@", "-L", "0:" HOST },
	{ "-x", "@", "-L", "0:" HOST ":" },
	{ "-x", "@", "-L", "0:" HOST ":0" },
	{ "-x", "@", "-L", "0:" HOST ":65536" },
	{ "-x", "@", "-L", "0::80" },
	{ "-x", "@", "-L", "65536:" AUTHORITY },
	{ "-x", "@", "-L", "x:" AUTHORITY },
	{ "-x", "@", "-L", "0:a b:80" },
	{ "-x", "@", "-L", "0:::1:80" },
	{ "-x", "@", "-L", "0:[::1:80" },
	{ "-x", "@", "-L", "1:2:3:4:5" },
	{ "-x", "@", "-L", "0:" AUTHORITY, HOST, PORT },
	{ "-x", "@", "-L", "0:" AUTHORITY, "-L", "0:bad" },
	/* all addresses, and nothing that says who may */
	{ "-x", "@", "-L", "*:0:" AUTHORITY },
	{ "-x", "@", "-L", ":0:" AUTHORITY },
	{ "-x", "@", "-L", "0.0.0.0:0:" AUTHORITY },
	{ "-x", "@", "-L", "[::]:0:" AUTHORITY },
	{ "-x", "@", "-F", "-L", "0:" AUTHORITY },
	{ "-x", "@", "-z", "-L", "0:" AUTHORITY },
	{ "-x", "@", HOST, PORT, "-w" },
	{ "-w" },
};

static void
test_bad_input(void **state)
{
	struct peer px = peer();
	const char *faulty = kit_file("faulty", 0600, "# x\nno colon\n");
	const char *argv[10], *dir = kit_str("%.*s",
	    (int)(strrchr(faulty, '/') - faulty), faulty);
	struct kit_proc *p;
	size_t i, j;

	(void)state;
	for (i = 0; i < KIT_COUNT(wrong); i++) {
		argv[0] = kit_binary();
		for (j = 0; j < 8 && wrong[i][j] != NULL; j++) {
			argv[j + 1] = wrong[i][j];
			if (strcmp(wrong[i][j], "@") == 0)
				argv[j + 1] = px.hp;
			else if (wrong[i][j][0] == '%')
				argv[j + 1] = kit_str("%s%s", dir,
				    wrong[i][j] + 1);
		}
		argv[j + 1] = NULL;
		kit_note("wrong %zu: %s %s", i, argv[j > 1 ? j - 1 : 1],
		    argv[j]);
		p = kit_startv(NULL, argv);
		fails(p, 2, "");
		kit_untouched(px.lfd);
		kit_done(p);
	}
}


/* The environment's proxies. */

/* Does the program, given this environment, ask the first peer (0), the
 * second (1), or none of them (-1)?  -n keeps names from being looked up, so
 * that without a proxy such a tunnel fails at once. */
static int
asks(const struct peer px[2], const char *const *env, const char *host)
{
	struct kit_opt opt = { .env = env };
	struct kit_proc *p = kit_httptun(&opt, "-n", host, "1", NULL);
	struct pollfd pfd[2] = {
		{ px[0].lfd, POLLIN, 0 }, { px[1].lfd, POLLIN, 0 }
	};
	int64_t end = kit_now() + kit_patience();
	int alive, fd, which = -1;

	do {
		alive = kit_alive(p);
		if (poll(pfd, 2, 5) > 0)
			which = (pfd[0].revents & POLLIN) ? 0 : 1;
		if (kit_now() > end)
			kit_fail("neither asked nor ended");
	} while (alive && which == -1);
	if (which == -1)
		fails(p, 1, kit_str("httptun: %s%s%s:1: ", strchr(host, ':') !=
		    NULL ? "[" : "", host, strchr(host, ':') != NULL ? "]" :
		    ""));
	else {
		fd = kit_accept(px[which].lfd);
		kit_head(fd, head, sizeof(head));
		kit_puts(fd, OK200);
		works_silently(p, fd);
		(void)close(fd);
	}
	kit_done(p);
	return which;
}

/* Port 1 of a loopback address refuses, and nothing here listens there. */
static const struct {
	const char	*host, *no_proxy;
	int		 proxied;
} no_proxy[] = {
	{ HOST, "", 1 },
	{ HOST, "*", 0 },
	{ HOST, "*.example", 1 },
	{ HOST, "other.example,*", 1 },
	{ HOST, "target.example", 0 },
	{ HOST, "TARGET.Example", 0 },
	{ "TARGET.example", "target.eXample", 0 },
	{ HOST, "example", 0 },
	{ HOST, ".example", 0 },
	{ HOST, ".target.example", 0 },
	{ HOST, "get.example", 1 },
	{ HOST, ".get.example", 1 },
	{ HOST, "a.target.example", 1 },
	{ HOST, "target", 1 },
	{ HOST, "target.example.org", 1 },
	{ HOST, "target.example:1", 1 },
	{ HOST, "other.example,target.example", 0 },
	{ HOST, "other.example, target.example", 0 },
	{ HOST, "other.example target.example third.example", 0 },
	{ HOST, ",,target.example,", 0 },
	{ HOST, "target.example.", 0 },
	{ "target.example.", "target.example", 0 },
	{ HOST, ".target.example.", 0 },
	{ HOST, "TARGET.EXAMPLE.", 0 },
	{ HOST, "example.", 0 },
	{ "target.example.", "target.example.", 0 },
	{ "target.example.", ".example", 0 },
	{ HOST, "target.example..", 1 },
	{ HOST, "..target.example", 1 },
	{ HOST, ".", 1 },
	{ HOST, "..", 1 },
	{ HOST, ",", 1 },
	{ HOST, " \t", 1 },
	{ HOST, "* ", 1 },
	{ HOST, " *", 1 },
	{ HOST, "*,target.example", 0 },
	{ HOST, "other\ttarget.example", 0 },
	{ HOST, " target.example ", 0 },
	{ HOST, "other;target.example", 1 },
	{ HOST, "http://target.example", 1 },
	{ HOST, "target.example/32", 1 },
	{ HOST, "10.0.0.0/8", 1 },
	{ "127.1.2.3", "*", 0 },
	{ "127.1.2.3", "", 1 },
	{ "127.1.2.3", "x.example, 127.1.2.3", 0 },
	{ "127.1.2.3", "127.1.2.3:1", 1 },
	{ "127.1.2.3", "127.1.2.3.", 1 },
	{ "127.1.2.3", ".127.1.2.3", 1 },
	{ "127.1.2.3", "[127.1.2.3]", 1 },
	{ "127.1.2.3", "127.1.2.3/0", 0 },
	{ "127.1.2.3", "0.0.0.0/0", 1 },
	{ "127.1.2.3", "127.1.2.3/-1", 1 },
	{ "127.1.2.3", "::ffff:127.1.2.3", 1 },
	{ "2130772483", "127.1.2.3", 0 },
	{ "127.1.2.3", "127.1.2.3", 0 },
	{ "127.1.2.3", "127.1.2.4", 1 },
	{ "127.1.2.3", "2.3", 1 },
	{ "127.1.2.3", ".2.3", 1 },
	{ "127.1.2.3", "127", 1 },
	{ "127.1.2.3", "127.1.0.0/16", 0 },
	{ "127.1.2.3", "127.2.0.0/16", 1 },
	{ "127.1.2.3", "127.0.0.0/8", 0 },
	{ "127.1.2.3", "127.1.2.3/32", 0 },
	{ "127.1.2.3", "127.1.2.2/31", 0 },
	{ "127.1.2.3", "127.1.2.4/31", 1 },
	{ "127.1.2.3", "127.1.2.0/33", 1 },
	{ "127.1.2.3", "127.0.0.0/x", 1 },
	{ "127.1.2.3", "x.example,127.1.2.0/24", 0 },
	{ "127.1.2.3", "::/0", 1 },
	{ "::1", "::1", 0 },
	{ "::1", "0:0::1", 0 },
	{ "::1", "::1/128", 0 },
	{ "::1", "::/64", 0 },
	{ "::1", "fe80::/10", 1 },
	{ "::1", "127.0.0.0/8", 1 },
	{ "::1", "*", 0 },
	{ "::1", "[::1]", 1 },
	{ "::1", "::2/126", 0 },
	{ "::1", "::2/127", 1 },
	{ "::1", "::1/129", 1 },
	{ "::1", "x.example,::1", 0 },
};

static void
test_no_proxy(void **state)
{
	struct peer px[2];
	const char *env[] = { NULL, NULL, NULL };
	size_t i;
	int upper, which;

	(void)state;
	px[0] = peer();
	px[1] = peer();
	env[0] = kit_str("all_proxy=http://%s", px[0].hp);
	for (i = 0; i < KIT_COUNT(no_proxy); i++)
		for (upper = 0; upper < 2; upper++) {
			env[1] = kit_str("%s=%s", upper ? "NO_PROXY" :
			    "no_proxy", no_proxy[i].no_proxy);
			kit_note("%s, %s", no_proxy[i].host, env[1]);
			which = asks(px, env, no_proxy[i].host);
			if (which != (no_proxy[i].proxied ? 0 : -1))
				kit_fail("%s with %s: %d", no_proxy[i].host,
				    env[1], which);
		}
}

/* curl (7.88 at least) reads the same list in the same way, but for bits of
 * IPv6, which it means to and does not. */
static void
test_no_proxy_of_curl(void **state)
{
	struct peer px = peer();
	const char *env[] = { kit_str("all_proxy=http://%s", px.hp), NULL,
	    NULL }, *host;
	struct kit_opt opt = { .in = KIT_NULL, .out = KIT_NULL, .env = env };
	struct kit_proc *p;
	size_t i;
	int v6, fd, status;

	(void)state;
	for (i = 0; i < KIT_COUNT(no_proxy); i++) {
		host = no_proxy[i].host;
		v6 = strchr(host, ':') != NULL;
		if (v6 && strpbrk(no_proxy[i].no_proxy, "/0") != NULL)
			continue;
		env[1] = kit_str("no_proxy=%s", no_proxy[i].no_proxy);
		kit_note("%s, %s", host, env[1]);
		/* that the name leads nowhere is its end, with 6 or 7 */
		p = kit_start(&opt, "curl", "-q", "-s", "--resolve",
		    "*:1:127.0.0.1", kit_str(v6 ? "http://[%s]:1/" :
		    "http://%s:1/", host), NULL);
		if (no_proxy[i].proxied) {
			fd = kit_accept(px.lfd);
			(void)kit_head(fd, head, sizeof(head));
			kit_puts(fd, "HTTP/1.1 204 No\r\n\r\n");
			(void)close(fd);
		}
		status = kit_wait(p);
		if (no_proxy[i].proxied ? status != 0 : status != 6 &&
		    status != 7)
			kit_fail("curl ends with %d", status);
		kit_untouched(px.lfd);
		kit_done(p);
	}
}

/* Which of the two is asked; 1 and 2 in a value stand for the peers. */
static const struct {
	const char	*env[3];
	int		 which;
} choice[] = {
	{ { "https_proxy=1" }, 0 },
	{ { "HTTPS_PROXY=1" }, 0 },
	{ { "all_proxy=1" }, 0 },
	{ { "ALL_PROXY=1" }, 0 },
	{ { "http_proxy=1" }, -1 },
	{ { "HTTP_PROXY=1" }, -1 },
	{ { "https_proxy=1", "HTTPS_PROXY=2" }, 0 },
	{ { "HTTPS_PROXY=1", "https_proxy=2" }, 1 },
	{ { "https_proxy=", "HTTPS_PROXY=2" }, 1 },
	{ { "all_proxy=1", "ALL_PROXY=2" }, 0 },
	{ { "all_proxy=", "ALL_PROXY=2" }, 1 },
	{ { "all_proxy=1", "https_proxy=2" }, 1 },
	{ { "ALL_PROXY=1", "HTTPS_PROXY=2" }, 1 },
	{ { "all_proxy=1", "https_proxy=" }, 0 },
	{ { "all_proxy=1", "https_proxy=", "HTTPS_PROXY=" }, 0 },
	{ { "https_proxy=", "all_proxy=" }, -1 },
	{ { "https_proxy=1", "no_proxy=example", "NO_PROXY=other" }, -1 },
	{ { "https_proxy=1", "no_proxy=other", "NO_PROXY=example" }, 0 },
	{ { "https_proxy=1", "no_proxy=", "NO_PROXY=example" }, -1 },
};

static void
test_environment(void **state)
{
	struct peer px[2];
	const char *env[4], *val;
	size_t i, j;
	int bare, which;

	(void)state;
	px[0] = peer();
	px[1] = peer();
	for (i = 0; i < KIT_COUNT(choice); i++)
		for (bare = 0; bare < 2; bare++) {
			for (j = 0; j < 3 && choice[i].env[j] != NULL; j++) {
				val = strchr(choice[i].env[j], '=') + 1;
				env[j] = !isdigit((unsigned char)*val) ?
				    choice[i].env[j] : kit_str("%.*s%s%s",
				    (int)(val - choice[i].env[j]),
				    choice[i].env[j], bare ? "" : "http://",
				    px[*val - '1'].hp);
			}
			env[j] = NULL;
			kit_note("choice %zu", i);
			which = asks(px, env, HOST);
			if (which != choice[i].which)
				kit_fail("%s...: %d", env[0], which);
		}
}

static void
test_environment_more(void **state)
{
	struct peer px = peer(), tgt = peer();
	const char *env[] = { kit_str("https_proxy=http://user:pass@%s/",
	    px.hp), NULL, NULL };
	struct kit_opt opt = { .env = env };
	struct kit_proc *p;
	int near, far;

	(void)state;
	/* its credentials are used */
	answers(&px, kit_httptun(&opt, HOST, PORT, NULL), ASK, USERPASS);
	/* -L asks it too, and honours no_proxy */
	p = kit_httptun(&opt, "-L", "0:" AUTHORITY, NULL);
	near = kit_connect(AF_INET, kit_listening(p, 0));
	far = asked(&px, AUTHORITY);
	kit_puts(far, OK200 "x");
	kit_expect(near, "x");
	env[1] = "no_proxy=127.0.0.0/8";
	p = kit_httptun(&opt, "-L", kit_str("0:%s", tgt.hp), NULL);
	near = kit_connect(AF_INET, kit_listening(p, 0));
	kit_puts(kit_accept(tgt.lfd), "x");
	kit_expect(near, "x");
	/* -x stands before it, and no_proxy is not for -x */
	env[0] = kit_str("https_proxy=http://%s", tgt.hp);
	env[1] = "no_proxy=*";
	p = kit_httptun(&opt, "-x", px.hp, HOST, PORT, NULL);
	far = asked(&px, AUTHORITY);
	kit_puts(far, OK200);
	works_silently(p, far);
	kit_untouched(px.lfd);
	kit_untouched(tgt.lfd);
}

static void
test_environment_faulty(void **state)
{
	static const char *const faulty[] = {
		"https_proxy=socks5://127.0.0.1:1", "HTTPS_PROXY=ftp://h:1",
		"all_proxy=socks5h://127.0.0.1:1", "ALL_PROXY=x://y",
	};
	struct peer px = peer();
	const char *env[] = { NULL, NULL };
	struct kit_opt opt = { .env = env };
	struct kit_proc *p;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(faulty); i++) {
		env[0] = faulty[i];
		p = kit_httptun(&opt, "127.0.0.1", px.p, NULL);
		fails(p, 1, kit_str("%.*s", (int)strcspn(faulty[i], "="),
		    faulty[i]));
		kit_untouched(px.lfd);
		/* of no interest when there is a -x */
		p = kit_httptun(&opt, "-x", px.hp, HOST, PORT, NULL);
		fd = asked(&px, AUTHORITY);
		kit_puts(fd, OK200);
		works_silently(p, fd);
	}
}

/* An argument is the pattern of the tests to run. */
int
main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(test_reply_cut_anywhere),
		KIT_TEST(test_reply_byte_by_byte),
		KIT_TEST(test_reply_head_limit),
		KIT_TEST(test_reply_head_endless),
		KIT_TEST(test_reply_interim_flood),
		KIT_TEST(test_refusal),
		KIT_TEST(test_refusal_cut_anywhere),
		KIT_TEST(test_refusal_escaped),
		KIT_TEST(test_garbage),
		KIT_TEST(test_early_close),
		KIT_TEST(test_proxy_refuses_connection),
		KIT_TEST(test_request_shape),
		KIT_TEST(test_request_fields),
		KIT_TEST(test_hops),
		KIT_TEST(test_hops_many),
		KIT_TEST(test_hop_direct),
		KIT_TEST(test_auth_same_connection),
		KIT_TEST(test_auth_large_body),
		KIT_TEST(test_auth_new_connection),
		KIT_TEST(test_auth_closed_on_second),
		KIT_TEST(test_auth_never_again),
		KIT_TEST(test_auth_at_once),
		KIT_TEST(test_auth_schemes),
		KIT_TEST(test_auth_unspoken),
		KIT_TEST(test_auth_sources),
		KIT_TEST(test_auth_file),
		KIT_TEST(test_auth_each_hop),
		KIT_TEST(test_auth_far_hop_closes),
		KIT_TEST(test_secrets_hidden),
		KIT_TEST(test_prompt),
		KIT_TEST(test_prompt_once),
		KIT_TEST(test_prompt_mistyped),
		KIT_TEST(test_prompt_ended),
		KIT_TEST(test_prompt_stopped),
		KIT_TEST(test_prompt_ended_poll),
		KIT_TEST(test_prompt_no_terminal),
		KIT_TEST(test_half_close_near),
		KIT_TEST(test_half_close_far),
		KIT_TEST(test_both_ways),
		KIT_TEST(test_stalled_near),
		KIT_TEST(test_stalled_far),
		KIT_TEST(test_stdout_closed),
		KIT_TEST(test_target_resets),
		KIT_TEST(test_target_resets_at_end),
		KIT_TEST(test_client_resets),
		KIT_TEST(test_stdio_one_tcp_socket),
		KIT_TEST(test_stdio_files),
		KIT_TEST(test_stdin_closed),
		KIT_TEST(test_stdout_stderr_missing),
		KIT_TEST(test_stdio_left_blocking),
		KIT_TEST(test_terminal_full),
		KIT_TEST(test_terminal_master),
		KIT_TEST(test_pass_cut_anywhere),
		KIT_TEST(test_pass),
		KIT_TEST(test_pass_full),
		KIT_TEST(test_local_many),
		KIT_TEST(test_local_several),
		KIT_TEST(test_local_early_client),
		KIT_TEST(test_local_failures),
		KIT_TEST(test_local_client_gives_up),
		KIT_TEST(test_local_cannot_listen),
		KIT_TEST(test_signals),
		KIT_TEST(test_zero_io),
		KIT_TEST(test_time_out),
		KIT_TEST(test_log_escapes),
		KIT_TEST(test_idle),
		KIT_TEST(test_source_address),
		KIT_TEST(test_families_and_names),
		KIT_TEST(test_verbose),
		KIT_TEST(test_usage),
		KIT_TEST(test_bad_input),
		KIT_TEST(test_no_proxy),
		KIT_TEST(test_no_proxy_of_curl),
		KIT_TEST(test_environment),
		KIT_TEST(test_environment_more),
		KIT_TEST(test_environment_faulty),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("connect", tests, NULL, NULL);
}
