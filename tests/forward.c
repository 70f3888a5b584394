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
 * Ordinary http:// requests through `httptun -l`: what of a request reaches
 * the origin, what of the response reaches the client, and what never does.
 * First with scripted clients and origins, at the end with curl, apt-get and
 * a headless Chromium.
 *
 * In a request's or response's text here {} stands for the origin's port.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kit.h"

#define LOCAL	"127.0.0.1", "0", (char *)NULL
#define MB	((uint64_t)1 << 20)
#define PEAK	8192		/* KiB that a process may ever take */

#define URL	"http://127.0.0.1:{}"
/* the Host must never matter */
#define GET	"GET " URL "/p HTTP/1.1\r\nHost: h\r\n"
#define POST	"POST " URL "/p HTTP/1.1\r\nHost: h\r\n"
#define TE	"Transfer-Encoding: chunked\r\n"
#define LONG_NAME							\
	"X-0123456789-0123456789-0123456789-0123456789-0123456789-"	\
	"0123456789-0123456789-0123456789-0123456789-0123456789"
#define OKAY	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* The proxy under test, and an origin for it. */
static struct kit_proxy	px;
static int		ol;
static unsigned		oport;

#define SERVE(...) do {							\
	kit_proxy(&px, __VA_ARGS__);					\
	ol = kit_listen(AF_INET, &oport);				\
} while (0)

/* A client's connection and the origin's that was made for it. */
struct pair {
	int	c, o;
};


/* ---- messages ------------------------------------------------------------ */

enum framing { NONE, LENGTH, CHUNKED, TO_THE_END };

struct message {
	const char	*head;		/* with its empty line */
	const char	*body;		/* decoded */
	enum framing	 framing;
};

/* A decoder as strict as what httptun writes has to be: it knows neither
 * extensions nor trailers. */
struct unchunk {
	enum {
		SIZE, SIZE_LF, DATA, DATA_CR, DATA_LF, LAST_CR, LAST_LF, DONE
	}		 state;
	int		 digits;
	uint64_t	 left;
};

static int
unchunk_byte(struct unchunk *u, char c)
{
	static const char hex[] = "0123456789abcdef";
	const char *digit;

	switch (u->state) {
	case SIZE:
		digit = c == '\0' ? NULL :
		    strchr(hex, tolower((unsigned char)c));
		if (digit != NULL && u->digits++ < 16) {
			u->left = u->left * 16 + (uint64_t)(digit - hex);
			return 1;
		}
		u->state = SIZE_LF;
		return c == '\r' && u->digits > 0;
	case SIZE_LF:
		u->digits = 0;
		u->state = u->left > 0 ? DATA : LAST_CR;
		return c == '\n';
	case DATA_CR:
		u->state = DATA_LF;
		return c == '\r';
	case DATA_LF:
		u->state = SIZE;
		return c == '\n';
	case LAST_CR:
		u->state = LAST_LF;
		return c == '\r';
	case LAST_LF:
		u->state = DONE;
		return c == '\n';
	default:
		return 0;
	}
}

/* Decodes in place; how many bytes of the body there are. */
static size_t
unchunk(struct unchunk *u, char *buf, size_t len)
{
	size_t i, n = 0, run;

	for (i = 0; i < len; i += run) {
		run = 1;
		if (u->state == DATA) {
			run = len - i < u->left ? len - i : (size_t)u->left;
			memmove(buf + n, buf + i, run);
			n += run;
			u->left -= run;
			if (u->left == 0)
				u->state = DATA_CR;
		} else if (!unchunk_byte(u, buf[i]))
			kit_fail("no chunk: <<%.40s>> at %zu", buf + i, i);
	}
	return n;
}

static void
is(const char *what, const char *got, const char *want)
{
	if (want == NULL ? got != NULL : got == NULL ||
	    strcmp(got, want) != 0)
		kit_fail("%s is <<%s>>\n    and not <<%s>>", what,
		    got != NULL ? got : "(none)",
		    want != NULL ? want : "(none)");
}

/* Nothing in it that anybody could read in another way. */
static void
is_clean(const char *head, size_t len)
{
	const char *line, *end, *p;

	if (strlen(head) != len)
		kit_fail("a zero byte behind <<%s>>", head);
	for (line = head; strcmp(line, "\r\n") != 0; line = end + 2) {
		if ((end = strstr(line, "\r\n")) == NULL)
			kit_fail("no end: <<%s>>", head);
		for (p = line; p < end; p++)
			if (((unsigned char)*p < ' ' && *p != '\t') ||
			    *p == 0x7f)
				kit_fail("byte %d in <<%s>>", *p, head);
		p = line + strcspn(line, ": \t");
		if (line != head && (*p != ':' || p == line))
			kit_fail("no field: <<%s>>", head);
	}
}

static const char *
first_line(const char *head)
{
	return kit_str("%.*s", (int)strcspn(head, "\r"), head);
}

/* The fields but those that a proxy writes anew. */
static const char *
others(const char *head)
{
	static const char *const anew[] = {
		"Host:", "Connection:", "Via:", "Content-Length:",
		"Transfer-Encoding:"
	};
	const char *line, *all = "";
	size_t i;

	line = strstr(head, "\r\n") + 2;
	for (; *line != '\r'; line = strstr(line, "\r\n") + 2) {
		for (i = 0; i < KIT_COUNT(anew) && strncasecmp(line, anew[i],
		    strlen(anew[i])) != 0; i++)
			;
		if (i == KIT_COUNT(anew))
			all = kit_str("%s%.*s\r\n", all,
			    (int)strcspn(line, "\r"), line);
	}
	return all;
}

/* RFC 9112, section 6, without any of its lenience. */
static enum framing
framing_of(const char *head, size_t *length)
{
	const char *len = kit_field(head, "Content-Length");
	const char *te = kit_field(head, "Transfer-Encoding");

	*length = 0;
	if (len != NULL && te != NULL)
		kit_fail("two framings: <<%s>>", head);
	if (te != NULL) {
		is("Transfer-Encoding", te, "chunked");
		return CHUNKED;
	}
	if (len == NULL)
		return NONE;
	if (*len == '\0' || len[strspn(len, "0123456789")] != '\0')
		kit_fail("no Content-Length: <<%s>>", head);
	*length = (size_t)strtoul(len, NULL, 10);
	return LENGTH;
}

/* The origin's port in its places. */
static const char *
fill(const char *s)
{
	const char *at;

	while ((at = strstr(s, "{}")) != NULL)
		s = kit_str("%.*s%u%s", (int)(at - s), s, oport, at + 2);
	return s;
}


/* ---- clients and origins ------------------------------------------------- */

static void
rests(void)
{
	kit_proxy_rests(&px);
}

static int
ask(const char *request)
{
	int c = kit_connect(AF_INET, px.port);

	kit_puts(c, fill(request));
	return c;
}

/* A request's head as the origin gets it. */
static const char *
head_at(int o)
{
	char head[32768];

	is_clean(head, kit_head(o, head, sizeof(head)));
	is("Connection", kit_field(head, "Connection"), "close");
	return kit_str("%s", head);
}

static struct message
request_at(int o)
{
	static char body[65536];
	struct message m;
	struct unchunk u = { SIZE, 0, 0 };
	size_t n = 0;

	m.head = head_at(o);
	m.framing = framing_of(m.head, &n);
	assert_true(n < sizeof(body));
	if (m.framing == CHUNKED)
		for (; u.state != DONE && n < sizeof(body) - 1;) {
			kit_recv(o, body + n, 1);
			n += unchunk(&u, body + n, 1);
		}
	else
		kit_recv(o, body, n);
	body[n] = '\0';
	m.body = kit_str("%s", body);
	return m;
}

/* What a client gets: head and body are all of it. */
static struct message
response_in(char *buf, size_t len, int bodiless)
{
	char *end = strstr(buf, "\r\n\r\n");
	struct message m = { "", "", NONE };
	struct unchunk u = { SIZE, 0, 0 };
	size_t n, want;

	if (end == NULL || strncmp(buf, "HTTP/1.1 ", 9) != 0)
		kit_fail("no response: <<%s>>", buf);
	m.head = kit_str("%.*s", (int)(end + 4 - buf), buf);
	is_clean(m.head, (size_t)(end + 4 - buf));
	is("Connection", kit_field(m.head, "Connection"), "close");
	m.framing = framing_of(m.head, &want);
	n = len - strlen(m.head);
	end += 4;
	if (bodiless)
		want = 0;
	else if (m.framing == CHUNKED) {
		n = unchunk(&u, end, n);
		if (u.state != DONE)
			kit_fail("a chunked body without its end");
		want = n;
	} else if (m.framing == NONE) {
		m.framing = TO_THE_END;
		want = n;
	}
	if (n != want)
		kit_fail("a body of %zu bytes and not %zu: <<%s>>", n, want,
		    buf);
	end[n] = '\0';
	m.body = kit_str("%s", end);
	return m;
}

static struct message
response_at(int c, int bodiless)
{
	static char buf[1 << 17];
	size_t n = kit_slurp(c, buf, sizeof(buf));

	return response_in(buf, n, bodiless);
}

static void
has_status(const struct message *m, int status)
{
	if (strtol(m->head + 9, NULL, 10) != status)
		kit_fail("<<%s>> and no %d", m->head, status);
}

/* The last of the Via values: the protocol in which it came to us. */
static void
has_via(const char *head, const char *before, const char *version)
{
	is("Via", kit_field(head, "Via"), kit_str("%s%s%s httptun", before,
	    *before != '\0' ? ", " : "", version));
}

static struct pair
asked(const char *request)
{
	struct pair p;

	p.c = ask(request);
	p.o = kit_accept(ol);
	return p;
}

/* The origin answers and the client gets just that; then both connections
 * end, although the origin's could go on, and the client's was asked to. */
static void
answered(struct pair p, int bodiless)
{
	struct message m;

	rests();
	kit_silent(p.o, 0);
	kit_puts(p.o, bodiless ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
	    "\r\n" : OKAY);
	m = response_at(p.c, bodiless);
	has_status(&m, 200);
	is("the body", m.body, bodiless ? "" : "ok");
	kit_ends(p.o);
	(void)close(p.c);
}

static void
serves(void)
{
	struct pair p = asked(GET "\r\n");

	is("the request", first_line(request_at(p.o).head), "GET /p HTTP/1.1");
	answered(p, 0);
}

/* Sends what goes, to one that may be ending the connection; how much. */
static size_t
push(int fd, const char *bytes, size_t len)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	const char *from = bytes;
	ssize_t n = 0;

	while (len > 0 && n != -1 && poll(&pfd, 1, 200) > 0) {
		n = send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return (size_t)(bytes - from);
}


/* ---- what of a request reaches the origin -------------------------------- */

/* The line of the request and the Host are made of the URL alone. */
static void
urls(void **state)
{
	static const struct {
		int		 family;
		const char	*asks, *line, *host;
	} cases[] = {
		{ AF_INET, "GET " URL "/", "GET /", "127.0.0.1:{}" },
		{ AF_INET, "GET " URL, "GET /", "127.0.0.1:{}" },
		{ AF_INET, "GET " URL "?a=b", "GET /?a=b", "127.0.0.1:{}" },
		{ AF_INET, "GET " URL "?", "GET /?", "127.0.0.1:{}" },
		{ AF_INET, "GET " URL "?/x", "GET /?/x", "127.0.0.1:{}" },
		{ AF_INET, "GET " URL "?u@h", "GET /?u@h", "127.0.0.1:{}" },
		{ AF_INET, "GET " URL "/a/b.c;d=e?f=%20&g=?/:@",
		    "GET /a/b.c;d=e?f=%20&g=?/:@", "127.0.0.1:{}" },
		{ AF_INET, "GET " URL "//a/../b/./", "GET //a/../b/./",
		    "127.0.0.1:{}" },
		{ AF_INET, "GET " URL "/%41%2f%00", "GET /%41%2f%00",
		    "127.0.0.1:{}" },
		{ AF_INET, "GET " URL "/http://u:p@h:1/",
		    "GET /http://u:p@h:1/", "127.0.0.1:{}" },
		{ AF_INET, "GET HTTP://127.0.0.1:{}/x", "GET /x",
		    "127.0.0.1:{}" },
		{ AF_INET, "GET hTTp://127.1:{}/x", "GET /x", "127.1:{}" },
		{ AF_INET, "GET http://localhost:{}/x", "GET /x",
		    "localhost:{}" },
		{ AF_INET, "OPTIONS " URL, "OPTIONS *", "127.0.0.1:{}" },
		{ AF_INET, "OPTIONS " URL "/", "OPTIONS /", "127.0.0.1:{}" },
		{ AF_INET, "OPTIONS " URL "?q", "OPTIONS /?q",
		    "127.0.0.1:{}" },
		{ AF_INET, "options " URL, "options /", "127.0.0.1:{}" },
		{ AF_INET6, "GET http://[::1]:{}/x?y", "GET /x?y",
		    "[::1]:{}" },
		{ AF_INET6, "GET http://[::1]:{}", "GET /", "[::1]:{}" },
		{ AF_INET, "GET http://[::ffff:127.0.0.1]:{}/", "GET /",
		    "[::ffff:127.0.0.1]:{}" }
	};
	int v6 = kit_has_ipv6();
	struct message m;
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		if (strchr(cases[i].host, '[') != NULL && !v6)
			continue;
		kit_note("%s", cases[i].asks);
		ol = kit_listen(cases[i].family, &oport);
		p = asked(kit_str("%s HTTP/1.1\r\nHost: other:1\r\n\r\n",
		    cases[i].asks));
		m = request_at(p.o);
		is("the request", first_line(m.head), kit_str("%s HTTP/1.1",
		    cases[i].line));
		is("Host", kit_field(m.head, "Host"), fill(cases[i].host));
		is("the rest", others(m.head), "");
		assert_int_equal(m.framing, NONE);
		answered(p, 0);
		(void)close(ol);
	}
	kit_proxy_settles(&px);
}

static void
any_method(void **state)
{
	static const char *const methods[] = {
		"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH",
		"FOO", "get", "head", "M-SEARCH", "!#$%&'*+-.^_`|~9"
	};
	struct message m;
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < 2 * KIT_COUNT(methods); i++) {
		const char *name = methods[i / 2];

		kit_note("%s", name);
		p = asked(kit_str("%s " URL "/m HTTP/1.1\r\nHost: h\r\n%s",
		    name, i % 2 ? "\r\n" : "Content-Length: 4\r\n\r\nbody"));
		m = request_at(p.o);
		is("the request", first_line(m.head),
		    kit_str("%s /m HTTP/1.1", name));
		assert_int_equal(m.framing, i % 2 ? NONE : LENGTH);
		is("the body", m.body, i % 2 ? "" : "body");
		answered(p, strcmp(name, "HEAD") == 0);
	}
	kit_proxy_settles(&px);
}

static void
request_fields(void **state)
{
	static const struct {
		const char	*sent, *rest, *via;
	} cases[] = {
		{ "Accept: */*\r\nX-A: 1\r\nCookie: a=b; c=d\r\nX-A: 2\r\n"
		    "Authorization: Basic YTpi\r\nX-B: \xe9\xff\ta, b\r\n",
		    "Accept: */*\r\nX-A: 1\r\nCookie: a=b; c=d\r\nX-A: 2\r\n"
		    "Authorization: Basic YTpi\r\nX-B: \xe9\xff\ta, b\r\n",
		    "" },
		/* all that is for this connection, and what looks like it */
		{ "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"
		    "TE: trailers\r\nTrailer: X-T\r\nUpgrade: websocket\r\n"
		    "Proxy-Authorization: Basic YTpi\r\n"
		    "Proxy-Authenticate: Basic realm=\"x\"\r\nX: y\r\n",
		    "X: y\r\n", "" },
		{ "keep-ALIVE: 1\r\nPROXY-CONNECTION: x\r\nte: y\r\n"
		    "pROXY-aUTHORIZATION: z\r\nCONNECTION: Keep-Alive\r\n",
		    "", "" },
		{ "Connections: 1\r\nTE2: 2\r\nX-Upgrade: 3\r\n"
		    "Keep-Alive-X: 4\r\nProxy: 5\r\n",
		    "Connections: 1\r\nTE2: 2\r\nX-Upgrade: 3\r\n"
		    "Keep-Alive-X: 4\r\nProxy: 5\r\n", "" },
		{ "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
		    "HTTP2-Settings: AAMAAABk\r\n", "", "" },
		/* all that this client says is for this connection */
		{ "Connection: x-one\r\nX-One: 1\r\nX-Two: 2\r\n",
		    "X-Two: 2\r\n", "" },
		{ "X-One: 1\r\nConnection: close ,X-ONE,,\tx-two , \r\n"
		    "connection: x-three\r\nx-TWO: 2\r\nX-Three: 3\r\n"
		    "X-Four: 4\r\nX-One: 5\r\nX-On: 6\r\nX-One1: 7\r\n",
		    "X-Four: 4\r\nX-On: 6\r\nX-One1: 7\r\n", "" },
		{ "Connection: " LONG_NAME "\r\n" LONG_NAME ": 1\r\n"
		    LONG_NAME "-2: 2\r\n", LONG_NAME "-2: 2\r\n", "" },
		{ "Connection: x-none\r\nConnection: \r\nX: y\r\n",
		    "X: y\r\n", "" },
		/* what the proxy itself writes cannot be talked away */
		{ "Connection: host, connection\r\nX: y\r\n", "X: y\r\n",
		    "" },
		{ "Via: 1.0 fred\r\nX: y\r\n", "X: y\r\n", "1.0 fred" },
		{ "Via: 1.0 fred, 2 b\r\nX: y\r\nvia: HTTP/1.1 c (d)\r\n",
		    "X: y\r\n", "1.0 fred, 2 b, HTTP/1.1 c (d)" }
	};
	struct message m;
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		p = asked(kit_str(GET "%s\r\n", cases[i].sent));
		m = request_at(p.o);
		is("the rest", others(m.head), cases[i].rest);
		is("Host", kit_field(m.head, "Host"), fill("127.0.0.1:{}"));
		has_via(m.head, cases[i].via, "1.1");
		answered(p, 0);
	}
	kit_proxy_settles(&px);
}

/* Whatever the client's Host says, and wherever it stands. */
static void
host_is_rebuilt(void **state)
{
	static const char *const fields[] = {
		"Host: 127.0.0.1:{}\r\n", "Host: other.example\r\n",
		"Host: 127.0.0.1:1\r\n", "X: y\r\nhOST:other:80\r\n",
		"Host:\r\n", "Host: [::1]\r\nX-Host: z\r\n"
	};
	struct pair p;
	unsigned port;
	size_t i;
	int lfd;

	(void)state;
	SERVE(LOCAL);
	lfd = kit_listen(AF_INET, &port);
	for (i = 0; i < KIT_COUNT(fields); i++) {
		kit_note("case %zu", i);
		p = asked(kit_str("GET " URL "/ HTTP/1.1\r\n%s\r\n",
		    fields[i]));
		is("Host", kit_field(request_at(p.o).head, "Host"),
		    fill("127.0.0.1:{}"));
		answered(p, 0);
	}
	/* even where it names somebody who is there */
	p = asked(kit_str("GET " URL "/ HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\n\r\n", port));
	is("Host", kit_field(request_at(p.o).head, "Host"),
	    fill("127.0.0.1:{}"));
	answered(p, 0);
	kit_untouched(lfd);
	kit_proxy_settles(&px);
}

static void
http_1_0_clients(void **state)
{
	static const char *const requests[] = {
		"GET " URL "/p HTTP/1.0\r\n\r\n",
		"GET " URL "/p HTTP/1.0\r\nHost: h\r\n"
		    "Connection: keep-alive\r\n\r\n",
		"GET " URL "/p HTTP/1.0\r\nProxy-Connection: Keep-Alive\r\n"
		    "\r\n"
	};
	struct message m;
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(requests); i++) {
		kit_note("case %zu", i);
		p = asked(requests[i]);
		m = request_at(p.o);
		is("the request", first_line(m.head), "GET /p HTTP/1.1");
		is("Host", kit_field(m.head, "Host"), fill("127.0.0.1:{}"));
		is("the rest", others(m.head), "");
		has_via(m.head, "", "1.0");
		answered(p, 0);
	}
	p = asked("POST " URL "/p HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody");
	m = request_at(p.o);
	assert_int_equal(m.framing, LENGTH);
	is("the body", m.body, "body");
	answered(p, 0);
	kit_proxy_settles(&px);
}

/* Just below the limits, so that what the proxy adds does not count. */
static void
long_requests(void **state)
{
	const char *path, *value;
	struct message m;
	struct pair p;

	(void)state;
	SERVE(LOCAL);
	path = kit_times(8000, "p");
	p = asked(kit_str("GET " URL "/%s HTTP/1.1\r\nHost: h\r\n\r\n",
	    path));
	is("the request", first_line(request_at(p.o).head),
	    kit_str("GET /%s HTTP/1.1", path));
	answered(p, 0);
	value = kit_str("X: %s\r\n", kit_times(16000, "x"));
	p = asked(kit_str(GET "%s\r\n", value));
	is("the rest", others(request_at(p.o).head), value);
	answered(p, 0);
	value = kit_times(98, "X: 1\r\n");
	p = asked(kit_str(GET "%s\r\n", value));
	m = request_at(p.o);
	is("the rest", others(m.head), value);
	has_via(m.head, "", "1.1");
	answered(p, 0);
	kit_proxy_settles(&px);
}

static const struct {
	const char	*wire, *body;
} chunks[] = {
	{ "0\r\n\r\n", "" },
	{ "0000\r\n\r\n", "" },
	{ "5\r\nhello\r\n0\r\n\r\n", "hello" },
	{ "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello" },
	{ "00005\r\nhello\r\n000\r\n\r\n", "hello" },
	{ "a\r\n0123456789\r\nB\r\n0123456789x\r\n0\r\n\r\n",
	    "01234567890123456789x" },
	{ "11\r\nseventeen letters\r\n0\r\n\r\n", "seventeen letters" },
	{ "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n" },
	/* extensions and trailers go no further */
	{ "5;a\r\nhello\r\n0;b\r\n\r\n", "hello" },
	{ "5;a=b;c=\"d; e\"\r\nhello\r\n0\r\n\r\n", "hello" },
	{ "5\r\nhello\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n", "hello" },
	{ "5\r\nhello\r\n0\r\nContent-Length: 3\r\nHost: x\r\n\r\n",
	    "hello" }
};

static void
has_body(const struct message *m, enum framing framing, const char *body)
{
	assert_int_equal(m->framing, framing);
	is("the body", m->body, body);
	is("the rest", others(m->head), "");
}

static void
request_bodies(void **state)
{
	struct message m;
	struct pair p;
	size_t i, k;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(chunks); i++) {
		kit_note("chunks %zu", i);
		p = asked(kit_str(POST TE "\r\n%s", chunks[i].wire));
		m = request_at(p.o);
		has_body(&m, CHUNKED, chunks[i].body);
		answered(p, 0);
		/* a segment for each byte */
		p = asked(POST "Transfer-Encoding: \tchunked \r\n\r\n");
		for (k = 0; chunks[i].wire[k] != '\0'; k++)
			kit_send(p.c, chunks[i].wire + k, 1);
		m = request_at(p.o);
		has_body(&m, CHUNKED, chunks[i].body);
		answered(p, 0);
	}
	p = asked(POST "Content-Length: 5\r\n\r\n");
	is("Content-Length", kit_field(head_at(p.o), "Content-Length"), "5");
	for (k = 0; k < 5; k++) {
		kit_puts(p.c, kit_str("%zu", k));
		kit_expect(p.o, kit_str("%zu", k));
	}
	answered(p, 0);
	p = asked(POST "Content-Length: 0\r\n\r\n");
	m = request_at(p.o);
	has_body(&m, LENGTH, "");
	answered(p, 0);
	kit_proxy_settles(&px);
}

static char
next_byte(int fd, struct unchunk *u)
{
	char c;

	do {
		kit_recv(fd, &c, 1);
	} while (unchunk(u, &c, 1) == 0);
	return c;
}

/* What has come goes on without waiting for more. */
static void
chunks_are_not_held(void **state)
{
	struct unchunk u = { SIZE, 0, 0 }, d = { SIZE, 0, 0 };
	char head[1024];
	struct pair p;
	int i;

	(void)state;
	SERVE(LOCAL);
	p = asked(POST TE "\r\n");
	(void)head_at(p.o);
	kit_puts(p.o, "HTTP/1.1 200 OK\r\n" TE "\r\n");
	(void)kit_head(p.c, head, sizeof(head));
	for (i = 0; i < 10; i++) {
		kit_puts(p.c, "2\r\nq");
		assert_int_equal(next_byte(p.o, &u), 'q');
		kit_puts(p.o, "2\r\na");
		assert_int_equal(next_byte(p.c, &d), 'a');
		kit_puts(p.c, "r\r\n");
		assert_int_equal(next_byte(p.o, &u), 'r');
		kit_puts(p.o, "b\r\n");
		assert_int_equal(next_byte(p.c, &d), 'b');
	}
}

/* Of a request with all there may be in it, each cut gives the same. */
static void
cut_request_arrives(struct pair p)
{
	struct message m;

	p.o = kit_accept(ol);
	m = request_at(p.o);
	is("the request", first_line(m.head), "PUT /a?b HTTP/1.1");
	is("the rest", others(m.head), "X: y\r\n");
	assert_int_equal(m.framing, CHUNKED);
	is("the body", m.body, "hello, world");
	answered(p, 0);
}

static void
every_cut_of_a_request(void **state)
{
	const char *req;
	struct pair p = { -1, -1 };
	size_t i, len;

	(void)state;
	SERVE(LOCAL);
	req = fill("\r\nPUT " URL "/a?b HTTP/1.1\r\nHost: h\r\n"
	    "Connection: X-A\r\nX: y\r\nX-A: 1\r\n" TE "\r\n"
	    "5;x=y\r\nhello\r\n7\r\n, world\r\n0\r\nX-T: z\r\n\r\n");
	len = strlen(req);
	for (i = 1; i < len; i++) {
		kit_note("cut at %zu", i);
		p.c = kit_connect(AF_INET, px.port);
		kit_send(p.c, req, i);
		rests();
		kit_send(p.c, req + i, len - i);
		cut_request_arrives(p);
	}
	p.c = kit_connect(AF_INET, px.port);
	for (i = 0; i < len; i++) {
		kit_send(p.c, req + i, 1);
		rests();
	}
	cut_request_arrives(p);
	kit_proxy_settles(&px);
}


/* ---- what never reaches the origin --------------------------------------- */

/* A second request is not sent on, not answered, and nobody's body. */
static void
bytes_behind(void **state)
{
	static const char *const requests[] = {
		GET "\r\n", GET "Content-Length: 0\r\n\r\n",
		POST "Content-Length: 4\r\n\r\nbody",
		POST TE "\r\n4\r\nbody\r\n0\r\n\r\n"
	};
	static const char *const behind[] = {
		GET "\r\n", "x", "\r\n", "0\r\n\r\n",
		"GET /other HTTP/1.1\r\nHost: h\r\n\r\n",
		"CONNECT 127.0.0.1:{} HTTP/1.1\r\n\r\n"
	};
	struct message m;
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(requests) * KIT_COUNT(behind) * 2; i++) {
		const char *req = requests[i % KIT_COUNT(requests)];
		const char *more = fill(behind[i / 2 / KIT_COUNT(requests)]);

		kit_note("case %zu", i);
		/* at once, or when the request is at the origin already */
		p = asked(i % 2 ? req : kit_str("%s%s", req, more));
		m = request_at(p.o);
		is("the body", m.body, strncmp(req, "POST", 4) == 0 &&
		    m.framing != NONE ? "body" : "");
		if (i % 2)
			kit_puts(p.c, more);
		answered(p, 0);
	}
	kit_untouched(ol);
	kit_proxy_settles(&px);
}

/* Refused without a connection to anybody.  Whoever reads these otherwise
 * than we do sees another body, or another request behind it. */
static const char *const smuggling[] = {
	/* two lengths */
	POST "Content-Length: 5\r\n" TE "\r\n0\r\n\r\n",
	POST TE "Content-Length: 5\r\n\r\n0\r\n\r\n",
	POST TE "Content-Length: 0\r\n\r\n0\r\n\r\n",
	POST TE "X: y\r\nContent-Length: z\r\n\r\n0\r\n\r\n",
	POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello6",
	POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	POST "Content-Length: 5\r\nX: y\r\ncontent-length: 0\r\n\r\nhello",
	POST "Content-Length: 5, 5\r\n\r\nhello",
	POST "Content-Length: 5, 6\r\n\r\nhello",
	POST "Content-Length: 5,\r\n\r\nhello",
	/* no length */
	POST "Content-Length:\r\n\r\nhello",
	POST "Content-Length: +5\r\n\r\nhello",
	POST "Content-Length: -5\r\n\r\nhello",
	POST "Content-Length: 0x5\r\n\r\nhello",
	POST "Content-Length: 5 \t5\r\n\r\nhello",
	POST "Content-Length: 5;\r\n\r\nhello",
	POST "Content-Length: 5.0\r\n\r\nhello",
	POST "Content-Length: \"5\"\r\n\r\nhello",
	POST "Content-Length: five\r\n\r\nhello",
	POST "Content-Length: 18446744073709551621\r\n\r\nhello",
	POST "Content-Length: 99999999999999999999999999\r\n\r\nhello",
	POST "Content-Length : 5\r\n\r\nhello",
	POST "Content-Length\t: 5\r\n\r\nhello",
	POST "Content-Length\r\n\r\nhello",
	POST "Content-Length:\r\n 5\r\n\r\nhello",
	POST "Content-Length: 1\r\n 5\r\n\r\nhello",
	POST "X: y\r\n Content-Length: 5\r\n\r\nhello",
	POST "Content-Length: 5\n\r\nhello",
	POST "Content-Length: 5\rX: y\r\n\r\nhello",
	POST "\x0b""Content-Length: 5\r\n\r\nhello",
	POST "Content-Length:\x0b""5\r\n\r\nhello",
	/* no coding that we know */
	POST "Transfer-Encoding: identity\r\n\r\nhello",
	POST "Transfer-Encoding: gzip\r\n\r\nhello",
	POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chunk\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chu nked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
	POST TE TE "\r\n0\r\n\r\n",
	POST TE "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: gzip\r\n" TE "\r\n0\r\n\r\n",
	POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
	POST "X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	POST "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	POST "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding:\x0b""chunked\r\n\r\n0\r\n\r\n",
	POST "Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n",
	POST "\x01Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	POST "[Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	/* chunks in a protocol without them */
	"POST " URL "/ HTTP/1.0\r\n" TE "\r\n0\r\n\r\n",
	"POST " URL "/ HTTP/1.0\r\nContent-Length: 5\r\n" TE
	    "\r\n0\r\n\r\n",
	/* whose request is it? */
	"GET " URL "/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET " URL "/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"GET " URL "/ HTTP/1.1\r\nHost : a\r\n\r\n",
	"GET " URL "/ HTTP/1.1\r\n\r\n",
	"GET " URL "/ HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET " URL "/ HTTP/1.1\r\nHost: a, b\r\n\r\n",
	"GET " URL "/ HTTP/1.1\r\nHost: a/b\r\n\r\n",
	"GET " URL "/ HTTP/1.1\r\nHost: u@a\r\n\r\n",
	"GET " URL "/ HTTP/1.1\r\n Host: a\r\n\r\n",
	/* where does it end? */
	"GET " URL "/ HTTP/1.1\nHost: h\n\n",
	"GET " URL "/ HTTP/1.1\r\nHost: h\n\r\n",
	GET "\n",
	GET "\n\r\n",
	GET ": x\r\n\r\n",
	GET "X Y: z\r\n\r\n",
	"GET " URL "/ X HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET " URL "/\tHTTP/1.1\r\nHost: h\r\n\r\n",
	"GET " URL "/  HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET " URL "/ HTTP/1.1 \r\nHost: h\r\n\r\n",
	"GET " URL "/ HTTP/1.10\r\nHost: h\r\n\r\n",
	"GET " URL "/\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET " URL "/\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET\t" URL "/ HTTP/1.1\r\nHost: h\r\n\r\n",
	"GE,T " URL "/ HTTP/1.1\r\nHost: h\r\n\r\n"
};

static void
smugglers(void **state)
{
	static const char zero[] = "GET http://127.0.0.1/\0 HTTP/1.1\r\n\r\n";
	size_t i;
	int c;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(smuggling); i++) {
		kit_note("case %zu: %.100s", i, smuggling[i]);
		c = ask(smuggling[i]);
		kit_refusal(c, 400, NULL, KIT_CLOSES);
		(void)close(c);
		/* a second request behind it makes no difference */
		c = ask(kit_str("%s" GET "\r\n", smuggling[i]));
		kit_refusal(c, 400, NULL, KIT_CLOSES);
		(void)close(c);
	}
	c = kit_connect(AF_INET, px.port);
	kit_send(c, zero, sizeof(zero) - 1);
	kit_refusal(c, 400, NULL, KIT_CLOSES);
	(void)close(c);
	kit_untouched(ol);
	serves();
	kit_proxy_settles(&px);
}

/* Here the client says that its own framing is none of the next one's
 * business: a refusal, or one that is as clear as ever. */
static void
named_framing(void **state)
{
	static const struct {
		const char	*request;
		int		 refused;	/* is a right answer */
	} cases[] = {
		{ POST "Connection: Content-Length\r\nContent-Length: 5\r\n"
		    "\r\nhello", 1 },
		{ POST "Connection: transfer-encoding\r\n" TE
		    "\r\n5\r\nhello\r\n0\r\n\r\n", 1 },
		{ POST "Connection: close, TE\r\nTE: chunked\r\n"
		    "Transfer-Encoding: CHUNKED\r\n"
		    "\r\n5\r\nhello\r\n0\r\n\r\n", 1 },
		{ POST "Transfer_Encoding: chunked\r\nContent_Length: 9\r\n"
		    "Content-Length: 5\r\n\r\nhello", 0 },
		{ POST "X-Transfer-Encoding: chunked\r\n"
		    "Content-Length: 5\r\n\r\nhello", 0 }
	};
	char buf[1024];
	struct pollfd pfd[2] = { { .events = POLLIN }, { .events = POLLIN } };
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		p.c = ask(kit_str("%s" GET "\r\n", cases[i].request));
		pfd[0].fd = p.c;
		pfd[1].fd = ol;
		(void)poll(pfd, 2, kit_patience());
		if (pfd[1].revents != 0 || !cases[i].refused) {
			p.o = kit_accept(ol);
			is("the body", request_at(p.o).body, "hello");
			answered(p, 0);
			continue;
		}
		(void)kit_slurp(p.c, buf, sizeof(buf));
		if (strncmp(buf, "HTTP/1.1 400 ", 13) != 0)
			kit_fail("<<%s>>", buf);
		(void)close(p.c);
		kit_untouched(ol);
	}
	kit_proxy_settles(&px);
}

static const char *const bad_chunks[] = {
	"x\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n",
	"+5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n",
	" 5\r\nhello\r\n0\r\n\r\n", "5x\r\nhello\r\n0\r\n\r\n",
	"5,6\r\nhello\r\n0\r\n\r\n", "5 6\r\nhello\r\n0\r\n\r\n",
	"\r\nhello\r\n0\r\n\r\n", ";a\r\nhello\r\n0\r\n\r\n",
	"10000000000000005\r\nhello\r\n0\r\n\r\n",
	"fffffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
	/* line ends */
	"5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n",
	"5\r\rhello\r\n0\r\n\r\n", "5\n\rhello\r\n0\r\n\r\n",
	"5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n\r\n",
	"5\r\nhello\r0\r\n\r\n", "5\r\nhello \r\n0\r\n\r\n",
	"4\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\n\r\n",
	"5\r\nhello\r\n0\r\n\n", "5\r\nhello\r\n0\r\n\rX",
	"5;a\nb\r\nhello\r\n0\r\n\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n",
	"5;a\x01\r\nhello\r\n0\r\n\r\n",
	"5\r\nhello\r\n0\r\nX: y\n\r\n\r\n",
	"5\r\nhello\r\nx"
};

/* What somebody has received is a whole message. */
static int
is_whole(const char *text)
{
	const char *end = strstr(text, "\r\n\r\n");
	struct unchunk u = { SIZE, 0, 0 };
	const char *head;
	size_t want;
	char *body;

	if (end == NULL)
		return 0;
	head = kit_str("%.*s", (int)(end + 4 - text), text);
	body = strdup(end + 4);
	assert_non_null(body);
	switch (framing_of(head, &want)) {
	case CHUNKED:
		(void)unchunk(&u, body, strlen(body));
		break;
	case LENGTH:
		u.state = strlen(body) >= want ? DONE : SIZE;
		break;
	default:
		u.state = DONE;
	}
	free(body);
	return u.state == DONE;
}

/* The origin sees the end of the connection and not of the request. */
static void
stays_incomplete(int o)
{
	static char text[1 << 17];

	(void)kit_to_the_end(o, text, sizeof(text));
	if (is_whole(text))
		kit_fail("a whole request: <<%s>>", text);
	(void)close(o);
}

/* It gets a 400, or nothing. */
static void
has_no_response(int c)
{
	char buf[4096];

	(void)kit_to_the_end(c, buf, sizeof(buf));
	if (*buf != '\0' && strncmp(buf, "HTTP/1.1 400 ", 13) != 0)
		kit_fail("<<%s>>", buf);
	(void)close(c);
}

static void
is_malformed(int c)
{
	char buf[4096];

	(void)kit_to_the_end(c, buf, sizeof(buf));
	if (strncmp(buf, "HTTP/1.1 400 ", 13) != 0)
		kit_fail("no 400: <<%s>>", buf);
	(void)close(c);
}

static void
bad_chunks_from_the_client(void **state)
{
	struct pollfd pfd = { .events = POLLIN };
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(bad_chunks); i++) {
		kit_note("case %zu", i);
		/* once the origin has the head */
		p = asked(POST TE "\r\n");
		kit_poll(p.o, POLLIN, "the head");
		kit_puts(p.c, bad_chunks[i]);
		stays_incomplete(p.o);
		is_malformed(p.c);
		/* and with the head: the origin need not know of it */
		p.c = ask(kit_str(POST TE "\r\n%s", bad_chunks[i]));
		is_malformed(p.c);
		rests();
		pfd.fd = ol;
		if (poll(&pfd, 1, 0) > 0)
			stays_incomplete(kit_accept(ol));
	}
	serves();
	kit_proxy_settles(&px);
}

/* What came as far as it may go has come to us (RFC 9110, 7.6.2). */
static void
forwards_no_more(void **state)
{
	static const struct {
		const char	*method, *left;
		int		 status;	/* 0: the origin's */
	} cases[] = {
		{ "OPTIONS", "0", 200 }, { "TRACE", "0", 501 },
		{ "OPTIONS", "1", 0 }, { "TRACE", "2", 0 }, { "GET", "0", 0 }
	};
	struct pair p;
	size_t i;
	int c;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		const char *asks = fill(kit_str("%s " URL "/ HTTP/1.1\r\n"
		    "Host: h\r\nMax-Forwards: %s\r\n\r\n",
		    cases[i].method, cases[i].left));

		if (cases[i].status == 0) {
			p = asked(asks);
			is("Max-Forwards", kit_field(head_at(p.o),
			    "Max-Forwards"), i == 3 ? "1" : "0");
			answered(p, 0);
			continue;
		}
		c = ask(asks);
		(void)kit_refusal(c, cases[i].status, NULL, KIT_STAYS);
		(void)close(c);
		kit_untouched(ol);
	}
}

/* Extensions and trailers have an end, or they are ended. */
static void
endless_chunks(void **state)
{
	static const char *const begin[] = {
		"5;", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\nX: ",
		"0000000000"
	};
	static const char *const repeat[] = {
		"extension", "X-Trailer: y\r\n", "yyyyyyyyyy", "0000000000"
	};
	const char *more;
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(begin); i++) {
		kit_note("case %zu", i);
		p = asked(kit_str(POST TE "\r\n%s", begin[i]));
		more = kit_times(MB / 8, repeat[i]);
		(void)push(p.c, more, strlen(more));
		stays_incomplete(p.o);
		has_no_response(p.c);
	}
	kit_proxy_settles(&px);
	kit_proxy_below(&px, PEAK);
}

static void
bad_urls(void **state)
{
	static const char *const bad[] = {
		"https://127.0.0.1:{}/", "HTTPS://127.0.0.1:{}/",
		"ftp://127.0.0.1:{}/", "ws://127.0.0.1:{}/",
		"httpx://127.0.0.1:{}/", "xhttp://127.0.0.1:{}/",
		"http+x://127.0.0.1:{}/", "file:///etc/passwd",
		"http://", "http:///", "http:///p", "http://?q",
		"http://:{}/", "http://:{}",
		/* whose password is that? */
		"http://user@127.0.0.1:{}/", "http://u:p@127.0.0.1:{}/",
		"http://@127.0.0.1:{}/", "http://:@127.0.0.1:{}/",
		"http://127.0.0.1:{}@127.0.0.1/", "http://u@",
		"http://u%40v@127.0.0.1:{}/",
		"http://127.0.0.1:{}/#f", "http://127.0.0.1:{}#f",
		"http://127.0.0.1:{}/?q#", "http://127.0.0.1:{}#@h/",
		"http://127.0.0.1:0/", "http://127.0.0.1:65536/",
		"http://127.0.0.1:99999999999999999999/",
		"http://127.0.0.1:4294967376/", "http://127.0.0.1:x/",
		"http://127.0.0.1:{}x/", "http://127.0.0.1:+{}/",
		"http://127.0.0.1:-1/", "http://127.0.0.1:0x50/",
		"http://127.0.0.1:{}:{}/", "http://127.0.0.1:{},80/",
		"http://127.0.0.1:{}\\x/", "http://127.0.0.1\\:{}/",
		"http://127.0.0.1:{};x/", "http://127.0.0.1:{}&x/",
		"http://[::1/", "http://::1/", "http://[::1:{}/",
		"http://[::1]{}/", "http://[]:{}/", "http://[[::1]]:{}/",
		"http://[::1]x:{}/", "http://x[::1]:{}/",
		"http://[127.0.0.1]:{}/", "http://[fe80::1%25lo]:{}/",
		"http://[v1.x]:{}/", "http://a b:{}/", "http://a\"b:{}/",
		"http://a<b>:{}/", "http://a,b:{}/", "http://\xe9:{}/",
		"http://127.0.0.1%00:{}/", "http://127.0.0.1%2f:{}/"
	};
	size_t i;
	int c;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(bad); i++) {
		kit_note("%s", bad[i]);
		c = ask(kit_str("GET %s HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n"
		    "\r\n", bad[i]));
		kit_refusal(c, 400, NULL, KIT_EITHER);
		(void)close(c);
	}
	c = ask(kit_str("GET http://%s:{}/ HTTP/1.1\r\nHost: h\r\n\r\n",
	    kit_times(300, "a")));
	kit_refusal(c, 400, NULL, KIT_EITHER);
	(void)close(c);
	kit_untouched(ol);
	serves();
	kit_proxy_settles(&px);
}

/* These are no URLs, and for nobody else either. */
static void
no_urls(void **state)
{
	static const char *const targets[] = {
		"http:", "http:/", "http:127.0.0.1:{}", "http:/127.0.0.1:{}/",
		"127.0.0.1:{}", "127.0.0.1:{}/", "//127.0.0.1:{}/",
		"/http://127.0.0.1:{}/", "?http://127.0.0.1:{}/", "*", "x"
	};
	char buf[4096];
	size_t i;
	int c;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(targets); i++) {
		c = ask(kit_str("GET %s HTTP/1.0\r\n\r\n", targets[i]));
		(void)kit_slurp(c, buf, sizeof(buf));
		if (strncmp(buf, "HTTP/1.1 400 ", 13) != 0 &&
		    strncmp(buf, "HTTP/1.1 404 ", 13) != 0)
			kit_fail("%s: <<%s>>", targets[i], buf);
		(void)close(c);
	}
	kit_untouched(ol);
	kit_proxy_settles(&px);
}

/* As the other one's proxy it is asked in origin-form, and is none. */
static void
its_own_url(void **state)
{
	char buf[4096];
	int c;

	(void)state;
	SERVE(LOCAL);
	c = ask(kit_str("GET http://127.0.0.1:%u/ HTTP/1.1\r\n"
	    "Host: h\r\n\r\n", px.port));
	kit_half_close(c);
	(void)kit_slurp(c, buf, sizeof(buf));
	if (strncmp(buf, "HTTP/1.1 404 ", 13) != 0)
		kit_fail("<<%s>> and no 404", buf);
	(void)close(c);
	kit_proxy_settles(&px);
}


/* ---- what of a response reaches the client ------------------------------- */

/* A response, and how it has to reach the client. */
struct response {
	const char	*sent, *rest, *body;
	enum framing	 framing;
	int		 status, ends;	/* with the connection */
};

#define R(code)	"HTTP/1.1 " #code " Reason\r\n"

static const struct response responses[] = {
	{ R(200) "Content-Length: 5\r\n\r\nhello", "", "hello", LENGTH,
	    200, 0 },
	{ R(404) "Content-Length: 0\r\n\r\n", "", "", LENGTH, 404, 0 },
	{ R(200) "\r\nhello", "", "hello", TO_THE_END, 200, 1 },
	{ R(200) "\r\n", "", "", TO_THE_END, 200, 1 },
	{ "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "", "ok", LENGTH,
	    200, 0 },
	{ "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", "", "ok", LENGTH,
	    200, 0 },
	{ "HTTP/1.1 299 \xe9t\xe9 (a)\r\nContent-Length: 2\r\n\r\nok", "",
	    "ok", LENGTH, 299, 0 },
	{ R(201) "Content-Length:2\r\nLocation: \t/x \r\n\r\nok",
	    "Location: /x\r\n", "ok", LENGTH, 201, 0 },
	/* what is behind the body is nobody's */
	{ R(200) "Content-Length: 5\r\n\r\nhello, and more", "", "hello",
	    LENGTH, 200, 0 },
	{ R(200) "Content-Length: 2\r\n\r\nok" OKAY, "", "ok", LENGTH, 200,
	    0 },
	{ R(200) "Content-Length: 0\r\n\r\n" OKAY, "", "", LENGTH, 200, 0 },
	{ R(200) TE "\r\n2\r\nok\r\n0\r\n\r\n" OKAY, "", "ok", CHUNKED, 200,
	    0 },
	/* errors are the origin's own, and pass */
	{ R(407) "Content-Length: 2\r\n\r\nok", "", "ok", LENGTH, 407, 0 },
	{ R(502) "Content-Length: 2\r\n\r\nok", "", "ok", LENGTH, 502, 0 },
	{ R(599) "Content-Length: 2\r\n\r\nok", "", "ok", LENGTH, 599, 0 },
	/* fields */
	{ R(200) "Set-Cookie: a=b\r\nContent-Length: 2\r\nDate: x\r\n"
	    "Set-Cookie: c=d, e\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"
	    "Server: \xe9\r\nLocation: http://x/\r\n\r\nok",
	    "Set-Cookie: a=b\r\nDate: x\r\nSet-Cookie: c=d, e\r\n"
	    "WWW-Authenticate: Basic realm=\"x\"\r\nServer: \xe9\r\n"
	    "Location: http://x/\r\n", "ok", LENGTH, 200, 0 },
	{ R(200) "Connection: keep-alive, X-A\r\nKeep-Alive: timeout=5\r\n"
	    "X-A: 1\r\nX-B: 2\r\nProxy-Connection: x\r\nTE: y\r\n"
	    "Trailer: X-T\r\nUpgrade: h2c\r\nconnection: x-c\r\nX-C: 3\r\n"
	    "Proxy-Authenticate: Basic realm=\"y\"\r\n"
	    "Proxy-Authorization: z\r\nContent-Length: 2\r\n\r\nok",
	    "X-B: 2\r\n", "ok", LENGTH, 200, 0 },
	{ R(426) "Upgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Content-Length: 2\r\n\r\nok", "", "ok", LENGTH, 426, 0 }
};

/* One exchange: HTTP/1.0 clients know no chunks. */
static void
passes_back(const struct response *r, int old)
{
	struct message m;
	struct pair p;

	p = asked(old ? "GET " URL "/p HTTP/1.0\r\n\r\n" : GET "\r\n");
	(void)request_at(p.o);
	kit_puts(p.o, r->sent);
	if (r->ends)
		kit_half_close(p.o);
	m = response_at(p.c, 0);
	has_status(&m, r->status);
	has_via(m.head, "", r->sent[7] == '0' ? "1.0" : "1.1");
	is("the rest", others(m.head), r->rest);
	is("the body", m.body, r->body);
	assert_int_equal(m.framing, old && r->framing == CHUNKED ?
	    TO_THE_END : r->framing);
	kit_ends(p.o);
	(void)close(p.c);
}

static void
responses_pass(void **state)
{
	struct response r = { .rest = "", .framing = CHUNKED, .status = 200 };
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < 2 * KIT_COUNT(responses); i++) {
		kit_note("response %zu", i / 2);
		passes_back(&responses[i / 2], i % 2);
	}
	for (i = 0; i < 2 * KIT_COUNT(chunks); i++) {
		kit_note("chunks %zu", i / 2);
		r.sent = kit_str(R(200) TE "\r\n%s", chunks[i / 2].wire);
		r.body = chunks[i / 2].body;
		passes_back(&r, i % 2);
	}
	kit_proxy_settles(&px);
}

static void
http_1_0_origins(void **state)
{
	static const struct response old[] = {
		{ "HTTP/1.0 200 OK\r\n\r\nhello", "", "hello", TO_THE_END,
		    200, 1 },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "",
		    "hello", LENGTH, 200, 0 },
		{ "HTTP/1.0 404\r\nConnection: keep-alive\r\n"
		    "Content-Length: 5\r\n\r\nhello, ", "", "hello", LENGTH,
		    404, 0 },
		{ "HTTP/1.0 200 OK\r\nConnection: close\r\nX: y\r\n\r\n",
		    "X: y\r\n", "", TO_THE_END, 200, 1 }
	};
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < 2 * KIT_COUNT(old); i++) {
		kit_note("response %zu", i / 2);
		passes_back(&old[i / 2], i % 2);
	}
	kit_proxy_settles(&px);
}

static void
via_of_a_response(void **state)
{
	struct message m;
	struct pair p;

	(void)state;
	SERVE(LOCAL);
	p = asked(GET "\r\n");
	(void)request_at(p.o);
	kit_puts(p.o, R(200) "Via: 1.0 a, 2 b\r\nContent-Length: 0\r\n"
	    "Via: 1.1 c\r\n\r\n");
	m = response_at(p.c, 0);
	has_via(m.head, "1.0 a, 2 b, 1.1 c", "1.1");
	kit_ends(p.o);
}

/* RFC 9112, 6.3: these have none, whatever they say. */
static void
without_a_body(void **state)
{
	static const struct {
		const char	*method, *sent;
		const char	*length;
		int		 status;
	} cases[] = {
		{ "HEAD", R(200) "Content-Length: 5\r\n\r\n", "5", 200 },
		{ "HEAD", R(200) "Content-Length: 5\r\n\r\nhello", "5",
		    200 },
		{ "HEAD", R(404) "\r\n", NULL, 404 },
		{ "HEAD", R(200) TE "\r\n", NULL, 200 },
		{ "HEAD", R(200) TE "\r\n0\r\n\r\n", NULL, 200 },
		{ "GET", R(204) "\r\n", NULL, 204 },
		{ "GET", R(204) "\r\nhello", NULL, 204 },
		{ "DELETE", R(204) "\r\n", NULL, 204 },
		{ "GET", R(204) "Content-Length: 5\r\n\r\nhello", NULL, 204 },
		{ "GET", R(304) "\r\n", NULL, 304 },
		{ "GET", R(304) "Content-Length: 5\r\n\r\n", "5", 304 },
		{ "GET", R(304) "Content-Length: 5\r\n\r\nhello", "5", 304 }
	};
	struct message m;
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < 2 * KIT_COUNT(cases); i++) {
		kit_note("case %zu", i / 2);
		p = asked(kit_str("%s " URL "/ HTTP/1.%d\r\nHost: h\r\n\r\n",
		    cases[i / 2].method, (int)(i % 2)));
		(void)request_at(p.o);
		kit_puts(p.o, cases[i / 2].sent);
		m = response_at(p.c, 1);
		has_status(&m, cases[i / 2].status);
		is("Content-Length", kit_field(m.head, "Content-Length"),
		    cases[i / 2].length);
		kit_ends(p.o);
		(void)close(p.c);
	}
	kit_proxy_settles(&px);
}

/* The head of an interim response, as a client gets it. */
static const char *
interim(int c, const char *status)
{
	char head[1024];

	is_clean(head, kit_head(c, head, sizeof(head)));
	if (strncmp(head, kit_str("HTTP/1.1 %s ", status), 13) != 0)
		kit_fail("<<%s>> and no %s", head, status);
	return kit_str("%s", head);
}

static void
interim_responses(void **state)
{
	static const char sent[] = "HTTP/1.1 100 Continue\r\n\r\n"
	    "HTTP/1.1 102 \r\n\r\n"
	    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nKeep-Alive: x\r\n"
	    "Connection: x-a\r\nX-A: 1\r\n\r\n"
	    "HTTP/1.1 100\r\n\r\n" OKAY;
	struct message m;
	struct pair p;

	(void)state;
	SERVE(LOCAL);
	p = asked(GET "\r\n");
	(void)request_at(p.o);
	kit_puts(p.o, sent);
	(void)interim(p.c, "100");
	(void)interim(p.c, "102");
	is("Link and no more", others(interim(p.c, "103")),
	    "Link: </a>\r\n");
	(void)interim(p.c, "100");
	m = response_at(p.c, 0);
	is("the body", m.body, "ok");
	kit_ends(p.o);
	(void)close(p.c);
	/* RFC 9110, 15.2: not to a client of HTTP/1.0 */
	p = asked("GET " URL "/ HTTP/1.0\r\n\r\n");
	(void)request_at(p.o);
	kit_puts(p.o, sent);
	m = response_at(p.c, 0);
	has_status(&m, 200);
	is("the body", m.body, "ok");
	kit_ends(p.o);
	(void)close(p.c);
	kit_proxy_settles(&px);
}

/* The client waits, and the body goes only once the origin wants it. */
static void
expect_continue(void **state)
{
	static const char asks[] = POST "Expect: 100-continue\r\n"
	    "Content-Length: 5\r\n\r\n";
	struct message m;
	struct pair p;

	(void)state;
	SERVE(LOCAL);
	p = asked(asks);
	is("Expect", kit_field(head_at(p.o), "Expect"), "100-continue");
	rests();
	kit_silent(p.c, 0);
	kit_puts(p.o, "HTTP/1.1 100 Continue\r\n\r\n");
	(void)interim(p.c, "100");
	kit_puts(p.c, "hello");
	kit_expect(p.o, "hello");
	answered(p, 0);
	/* the origin does not want it */
	p = asked(asks);
	(void)head_at(p.o);
	kit_puts(p.o, "HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno");
	m = response_at(p.c, 0);
	has_status(&m, 417);
	is("the body", m.body, "no");
	kit_ends(p.o);
	(void)close(p.c);
	/* a client that does not wait, and an origin that knows nothing */
	p = asked(kit_str("%shello", asks));
	(void)head_at(p.o);
	kit_expect(p.o, "hello");
	answered(p, 0);
	kit_proxy_settles(&px);
}

/* What a client has got, interim responses too, without the framing. */
static const char *
all_decoded(char *buf, size_t len, int bodiless)
{
	const char *heads = "";
	struct message m;
	char *p = buf;
	size_t n;

	while (strncmp(p, "HTTP/1.1 1", 10) == 0 &&
	    strstr(p, "\r\n\r\n") != NULL) {
		n = (size_t)(strstr(p, "\r\n\r\n") - p) + 4;
		heads = kit_str("%s%.*s", heads, (int)n, p);
		p += n;
	}
	m = response_in(p, len - (size_t)(p - buf), bodiless);
	return kit_str("%s%s%s", heads, m.head, m.body);
}

/* The same when the origin sends the first i bytes first. */
static const char *
cut_response(const struct response *r, size_t i, int old)
{
	static char buf[8192];
	struct pair p;
	size_t n;

	kit_note("cut at %zu", i);
	p = asked(old ? "GET " URL "/ HTTP/1.0\r\n\r\n" : GET "\r\n");
	(void)request_at(p.o);
	kit_send(p.o, r->sent, i);
	rests();
	kit_puts(p.o, r->sent + i);
	if (r->ends)
		kit_half_close(p.o);
	n = kit_slurp(p.c, buf, sizeof(buf));
	kit_ends(p.o);
	(void)close(p.c);
	return all_decoded(buf, n, r->framing == NONE);
}

static void
every_cut_of_a_response(void **state)
{
	static const struct response cases[] = {
		{ .sent = R(200) "Server: x\r\nContent-Length: 5\r\n"
		    "Connection: X-A\r\nX-A: 1\r\n\r\nhello",
		    .framing = LENGTH },
		{ .sent = "HTTP/1.1 100 Continue\r\n\r\n" R(200) TE
		    "X: y\r\n\r\n5;x\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
		    .framing = CHUNKED },
		{ .sent = "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello",
		    .framing = TO_THE_END, .ends = 1 },
		{ .sent = "HTTP/1.1 103 \r\nLink: </a>\r\n\r\n" R(304)
		    "ETag: \"a\"\r\n\r\n", .framing = NONE }
	};
	const struct response *r;
	const char *whole;
	size_t c, i;

	(void)state;
	SERVE(LOCAL);
	for (c = 0; c < 2 * KIT_COUNT(cases); c++) {
		kit_note("response %zu", c / 2);
		r = &cases[c / 2];
		whole = cut_response(r, strlen(r->sent), c % 2);
		for (i = 1; i < strlen(r->sent); i++)
			is("this cut", cut_response(r, i, c % 2), whole);
	}
	kit_proxy_settles(&px);
}


/* ---- bad responses ------------------------------------------------------- */

static void
is_refused(struct pair p, enum kit_after after)
{
	char buf[4096];

	kit_refusal(p.c, 502, "", after);
	(void)close(p.c);
	(void)kit_to_the_end(p.o, buf, sizeof(buf));
	(void)close(p.o);
}

static const char *const bad_responses[] = {
	/* not HTTP/1 */
	"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "\x15\x03\x01 \x02\x02\x16\r\n\r\n",
	"220 mail.example ESMTP\r\n\r\n", "<html>hello</html>\r\n\r\n",
	"ICY 200 OK\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
	"HTTP/11 200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n",
	"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
	"HTTP/1.1 200OK\r\n\r\n", "HTTP/1.1 2xx OK\r\n\r\n",
	"HTTP/1.1 +20 OK\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 \r\n\r\n",
	" HTTP/1.1 200 OK\r\n\r\n",
	/* what we have not asked for */
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
	    "Upgrade: websocket\r\n\r\n",
	/* two lengths */
	R(200) "Content-Length: 5\r\n" TE "\r\n0\r\n\r\n",
	R(200) TE "Content-Length: 5\r\n\r\n0\r\n\r\n",
	R(200) "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello6",
	R(200) "Content-Length: 5, 6\r\n\r\nhello6",
	/* no length */
	R(200) "Content-Length:\r\n\r\nhello",
	R(200) "Content-Length: +5\r\n\r\nhello",
	R(200) "Content-Length: -5\r\n\r\nhello",
	R(200) "Content-Length: 0x5\r\n\r\nhello",
	R(200) "Content-Length: 5 5\r\n\r\nhello",
	R(200) "Content-Length: five\r\n\r\nhello",
	R(200) "Content-Length: 18446744073709551621\r\n\r\nhello",
	/* no coding that we know */
	R(200) "Transfer-Encoding: gzip\r\n\r\nhello",
	R(200) "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	R(200) "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
	R(200) "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
	R(200) "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	R(200) TE TE "\r\n0\r\n\r\n",
	R(200) TE "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
	/* chunks in a protocol without them */
	"HTTP/1.0 200 OK\r\n" TE "\r\n0\r\n\r\n"
};

static void
bad_responses_are_refused(void **state)
{
	static const char zero[] = "HTTP/1.1 200 OK\r\nX: a\0b\r\n"
	    "Content-Length: 0\r\n\r\n";
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(bad_responses); i++) {
		kit_note("%.100s", bad_responses[i]);
		p = asked(GET "\r\n");
		(void)request_at(p.o);
		kit_puts(p.o, bad_responses[i]);
		is_refused(p, KIT_EITHER);
		/* an interim response before it makes it no better */
		p = asked(GET "\r\n");
		(void)request_at(p.o);
		kit_puts(p.o, kit_str("HTTP/1.1 100 \r\n\r\n%s",
		    bad_responses[i]));
		(void)interim(p.c, "100");
		is_refused(p, KIT_EITHER);
	}
	p = asked(GET "\r\n");
	kit_send(p.o, zero, sizeof(zero) - 1);
	is_refused(p, KIT_EITHER);
	/* too much of it, without an end and with one */
	p = asked(GET "\r\n");
	kit_puts(p.o, kit_str(R(200) "X: %s", kit_times(40000, "x")));
	is_refused(p, KIT_EITHER);
	p = asked(GET "\r\n");
	kit_puts(p.o, kit_str(R(200) "%s\r\n", kit_times(200, "X: y\r\n")));
	is_refused(p, KIT_EITHER);
	serves();
	kit_proxy_settles(&px);
	kit_proxy_below(&px, PEAK);
}

/* RFC 9112, sections 4 and 5, allows two answers to these: to clean them, or
 * a 502.  A client that gets them as they are may be misled. */
static void
odd_responses(void **state)
{
	static const char *const odd[] = {
		"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nhello",
		"HTTP/1.1\t200  OK\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "Content-Length : 5\r\n\r\nhello",
		R(200) "X : y\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "X: y\r\n z\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "X: y\r\n Content-Length: 3\r\n\r\nhello",
		R(200) "X: y\r\n\tz\r\n\tz\r\nContent-Length: 5\r\n\r\nhello",
		R(200) " X: y\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "Content-Length:\r\n 5\r\n\r\nhello",
		R(200) "X: a\rb\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "X: a\x01\x1b[mb\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "no colon\r\nContent-Length: 5\r\n\r\nhello",
		R(200) ": no name\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "X Y: z\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		R(200) "Transfer-Encoding: identity\r\n\r\nhello",
		R(200) "Transfer-Encoding:\r\n\r\nhello",
		R(304) "Content-Length: +5\r\n\r\n",
		R(304) "Content-Length: 5, 6\r\n\r\n",
		R(304) "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
		R(304) "Content-Length: 5\r\n" TE "\r\n",
		"HTTP/1.1 200 a\x01\x1b[mb\r\nContent-Length: 5\r\n\r\nhello"
	};
	static char buf[8192];
	struct message m;
	struct pair p;
	size_t i, n;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(odd); i++) {
		kit_note("%.100s", odd[i]);
		p = asked(GET "Connection: close\r\n\r\n");
		(void)request_at(p.o);
		kit_puts(p.o, odd[i]);
		kit_half_close(p.o);
		n = kit_slurp(p.c, buf, sizeof(buf));
		m = response_in(buf, n, strncmp(buf, "HTTP/1.1 304 ", 13) ==
		    0);
		if (strncmp(buf, "HTTP/1.1 200 ", 13) == 0)
			is("the body", m.body, "hello");
		kit_ends(p.o);
		(void)close(p.c);
	}
	kit_proxy_settles(&px);
}

/* The client must not take for a whole one what is none. */
static void
bad_chunks_from_the_origin(void **state)
{
	char head[1024];
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < 2 * KIT_COUNT(bad_chunks); i++) {
		kit_note("case %zu", i / 2);
		p = asked(i % 2 ? "GET " URL "/ HTTP/1.0\r\n\r\n" :
		    GET "\r\n");
		(void)request_at(p.o);
		kit_puts(p.o, R(200) TE "\r\n");
		(void)kit_head(p.c, head, sizeof(head));
		kit_puts(p.o, bad_chunks[i / 2]);
		kit_until_reset(p.c);
		kit_ends(p.o);
		(void)close(p.c);
	}
	serves();
	kit_proxy_settles(&px);
}


/* ---- origins that cannot be had, or go ----------------------------------- */

static void
origins_that_cannot_be_had(void **state)
{
	unsigned nobody = kit_nobody(AF_INET), hole;
	const struct {
		const char	*method, *host;
		unsigned	 port;		/* 0: where nobody answers */
		int		 status;
		const char	*error;
	} cases[] = {
		{ "GET", "127.0.0.1", nobody, 502, "connection_refused" },
		{ "GET", "localhost", nobody, 502, "connection_refused" },
		{ "GET", "something.invalid", 80, 502, "dns_error" },
		{ "GET", "127.0.0.1", 0, 504, "connection_timeout" },
		{ "POST", "127.0.0.1", nobody, 502, "connection_refused" },
		{ "POST", "127.0.0.1", 0, 504, "connection_timeout" }
	};
	int c[KIT_COUNT(cases)], both;
	const char *request;
	size_t i;

	(void)state;
	SERVE("-w", "1", LOCAL);
	kit_blackhole(&hole);
	/* of two at once the second one is asked behind the first one's end */
	request = kit_str("GET http://127.0.0.1:%u/ HTTP/1.1\r\nHost: h\r\n"
	    "\r\n", hole);
	both = ask(kit_str("%s%s", request, request));
	/* a body that reads like a request is none */
	for (i = 0; i < KIT_COUNT(cases); i++)
		c[i] = ask(kit_str("%s http://%s:%u/ HTTP/1.1\r\nHost: h\r\n"
		    "%s", cases[i].method, cases[i].host,
		    cases[i].port != 0 ? cases[i].port : hole,
		    *cases[i].method == 'P' ? TE "\r\n0\r\n\r\n" GET "\r\n" :
		    "\r\n"));
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		kit_refusal(c[i], cases[i].status, cases[i].error,
		    *cases[i].method == 'P' ? KIT_CLOSES : KIT_EITHER);
		(void)close(c[i]);
	}
	for (i = 0; i < 2; i++)
		kit_refusal(both, 504, "connection_timeout", KIT_EITHER);
	(void)close(both);
	kit_untouched(ol);
	kit_proxy_settles(&px);
}

/* To HEAD they are the same without the body. */
static void
refused_head(void **state)
{
	char head[1024], rest[64];
	unsigned nobody = kit_nobody(AF_INET);
	int c;

	(void)state;
	SERVE(LOCAL);
	c = ask(kit_str("HEAD http://127.0.0.1:%u/ HTTP/1.1\r\nHost: h\r\n"
	    "Connection: close\r\n\r\n", nobody));
	(void)kit_head(c, head, sizeof(head));
	assert_int_equal(strncmp(head, "HTTP/1.1 502 ", 13), 0);
	assert_int_equal(kit_slurp(c, rest, sizeof(rest)), 0);
	(void)close(c);
	kit_proxy_settles(&px);
}

static void
origin_goes_before_the_response(void **state)
{
	static const char sent[] = R(200) "Server: x\r\n"
	    "Content-Length: 0\r\n\r\n";
	static const char *const broken_off[KIT_WAYS] = {
		[KIT_WAY_CLOSE] = "http_response_incomplete",
		[KIT_WAY_RESET] = "connection_terminated",
		[KIT_WAY_HALF] = "http_response_incomplete"
	};
	struct pair p;
	enum kit_way how;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++)
		for (i = 0; i < sizeof(sent) - 1; i++) {
			kit_note("after %zu", i);
			p = asked(GET "\r\n");
			(void)request_at(p.o);
			kit_send(p.o, sent, i);
			kit_vanish(p.o, how);
			kit_refusal(p.c, 502, broken_off[how], KIT_EITHER);
			(void)close(p.c);
			if (how == KIT_WAY_HALF)
				kit_ends(p.o);
		}
	/* and with an interim response behind it */
	for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++) {
		p = asked(GET "\r\n");
		(void)request_at(p.o);
		kit_puts(p.o, "HTTP/1.1 100 \r\n\r\n");
		(void)interim(p.c, "100");
		kit_vanish(p.o, how);
		kit_refusal(p.c, 502, broken_off[how], KIT_EITHER);
		(void)close(p.c);
		if (how == KIT_WAY_HALF)
			kit_ends(p.o);
	}
	serves();
	kit_proxy_settles(&px);
}

/* A body that does not come to its end is never brought to one. */
static void
origin_goes_in_the_body(void **state)
{
	static const struct {
		const char	*head, *body;
	} cases[] = {
		{ R(200) "Content-Length: 5\r\n\r\n", "hello" },
		{ R(200) TE "\r\n", "5\r\nhello\r\n0\r\n\r\n" },
		{ "HTTP/1.0 200 OK\r\n\r\n", "hello" }
	};
	char head[1024];
	struct pair p;
	enum kit_way how;
	size_t i, n;
	int old, clean;

	(void)state;
	SERVE(LOCAL);
	for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++)
	for (old = 0; old < 2; old++)
	for (i = 0; i < KIT_COUNT(cases); i++)
	for (n = 0; n < strlen(cases[i].body); n++) {
		kit_note("case %zu, way %d, after %zu", i, (int)how, n);
		p = asked(old ? "GET " URL "/ HTTP/1.0\r\n\r\n" : GET "\r\n");
		(void)request_at(p.o);
		kit_puts(p.o, cases[i].head);
		(void)kit_head(p.c, head, sizeof(head));
		kit_send(p.o, cases[i].body, n);
		/* no length but the connection's: all but a reset is right */
		clean = i == 2 && how != KIT_WAY_RESET;
		if (i == 2) {
			kit_recv(p.c, head, n);
			assert_memory_equal(head, cases[i].body, n);
		}
		kit_vanish(p.o, how);
		if (clean)
			kit_eof(p.c);
		else
			kit_until_reset(p.c);
		(void)close(p.c);
		if (how == KIT_WAY_HALF)
			kit_ends(p.o);
	}
	kit_proxy_settles(&px);
}

/* While the request's body is on its way to it: the client hears of it, even
 * one that has gone on sending. */
static void
origin_goes_in_the_request(void **state)
{
	struct kit_stream s = { 0, KIT_OUT, 100 * MB, 1, 0, 0 };
	struct pair p;
	enum kit_way how;

	(void)state;
	SERVE(LOCAL);
	for (how = KIT_WAY_CLOSE; how < KIT_WAY_HALF; how++) {
		p = asked(kit_str(POST "Content-Length: %ju\r\n\r\n",
		    (uintmax_t)s.bytes));
		(void)head_at(p.o);
		s.fd = p.c;
		s.done = 0;
		kit_stuff(&s, 50);
		kit_vanish(p.o, how);
		kit_refusal(p.c, 502, "", KIT_CLOSES);
		(void)close(p.c);
	}
	serves();
	kit_proxy_settles(&px);
	kit_proxy_below(&px, PEAK);
}


/* ---- clients that go ----------------------------------------------------- */

/* Nothing waits for 30 s here. */
static void
client_goes_while_connecting(void **state)
{
	unsigned hole;
	int c[10];
	size_t i;

	(void)state;
	SERVE(LOCAL);
	kit_blackhole(&hole);
	for (i = 0; i < KIT_COUNT(c); i++) {
		c[i] = ask(kit_str("POST http://127.0.0.1:%u/ HTTP/1.1\r\n"
		    "Host: h\r\nContent-Length: 9\r\n\r\n%s", hole,
		    i % 2 ? "body" : ""));
		rests();
	}
	for (i = 0; i < KIT_COUNT(c); i++)
		kit_reset(c[i]);
	kit_proxy_settles(&px);
	serves();
}

static void
client_goes_in_the_head(void **state)
{
	static const char *const halves[] = {
		"G", "GET http:", "GET " URL "/", "GET " URL "/ HTTP/1.1\r\n",
		GET, GET "\r", GET "Content-Le"
	};
	enum kit_way how;
	size_t i;
	int c;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(halves); i++)
		for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++) {
			c = ask(halves[i]);
			rests();
			kit_vanish(c, how);
			if (how == KIT_WAY_HALF)
				has_no_response(c);
		}
	kit_proxy_settles(&px);
	kit_untouched(ol);
}

/* In the body, wherever: the origin is left with a part, and knows it. */
static void
client_goes_in_the_body(void **state)
{
	static const struct {
		const char	*head, *body;
	} cases[] = {
		{ POST "Content-Length: 5\r\n\r\n", "hello" },
		{ POST TE "\r\n", "5\r\nhello\r\n0\r\n\r\n" },
		{ POST TE "\r\n", "0\r\nX: y\r\n\r\n" }
	};
	struct pair p;
	enum kit_way how;
	size_t i, n;

	(void)state;
	SERVE(LOCAL);
	for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++)
	for (i = 0; i < KIT_COUNT(cases); i++)
	for (n = 0; n < strlen(cases[i].body); n++) {
		kit_note("case %zu, way %d, after %zu", i, (int)how, n);
		p = asked(cases[i].head);
		kit_poll(p.o, POLLIN, "the head");
		kit_send(p.c, cases[i].body, n);
		kit_vanish(p.c, how);
		stays_incomplete(p.o);
		if (how == KIT_WAY_HALF)
			has_no_response(p.c);
	}
	serves();
	kit_proxy_settles(&px);
}

/* Who has asked and ended its direction, as nc -N does, wants to hear. */
static void
client_ends_its_direction(void **state)
{
	static const char *const requests[] = {
		GET "\r\n", POST "Content-Length: 4\r\n\r\nbody",
		POST TE "\r\n4\r\nbody\r\n0\r\n\r\n"
	};
	struct message m;
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(requests); i++) {
		p.c = ask(requests[i]);
		kit_half_close(p.c);
		p.o = kit_accept(ol);
		(void)request_at(p.o);
		rests();
		kit_puts(p.o, "HTTP/1.1 100 \r\n\r\n" R(200)
		    "Content-Length: 5\r\n\r\nhe");
		rests();
		kit_puts(p.o, "llo");
		(void)interim(p.c, "100");
		m = response_at(p.c, 0);
		is("the body", m.body, "hello");
		kit_ends(p.o);
		(void)close(p.c);
	}
	kit_proxy_settles(&px);
}

static void
client_goes_before_the_response(void **state)
{
	struct pair p;

	(void)state;
	SERVE(LOCAL);
	p = asked(GET "\r\n");
	(void)request_at(p.o);
	kit_reset(p.c);
	kit_ends(p.o);
	kit_proxy_settles(&px);
	/* who closes may have ended its direction only: told with the answer */
	p = asked(GET "\r\n");
	(void)request_at(p.o);
	(void)close(p.c);
	rests();
	kit_puts(p.o, R(200) "Content-Length: 99999999999\r\n\r\n");
	kit_push_until_reset(p.o);
	kit_proxy_settles(&px);
}

static void
client_goes_in_the_response(void **state)
{
	struct kit_stream s = { 0, KIT_OUT, 100 * MB, 1, 0, 0 };
	char head[1024];
	struct pair p;
	enum kit_way how;

	(void)state;
	SERVE(LOCAL);
	for (how = KIT_WAY_CLOSE; how < KIT_WAY_HALF; how++) {
		p = asked(GET "\r\n");
		(void)request_at(p.o);
		kit_puts(p.o, kit_str(R(200) "Content-Length: %ju\r\n\r\n",
		    (uintmax_t)s.bytes));
		(void)kit_head(p.c, head, sizeof(head));
		s.fd = p.o;
		s.done = 0;
		kit_stuff(&s, 50);
		kit_vanish(p.c, how);
		kit_push_until_reset(p.o);
	}
	serves();
	kit_proxy_settles(&px);
}

/* It is not done where the client was lost in its midst, with the origin still
 * owed so much of the request that all of the response is read over. */
static void
client_goes_in_both(void **state)
{
	struct kit_stream s[] = {
		{ 0, KIT_OUT, 100 * MB, 1, 0, 0 },
		{ 0, KIT_OUT, 100 * MB, 2, 0, 0 }
	};
	struct pair p;

	(void)state;
	SERVE("-v", LOCAL);
	p = asked(kit_str(POST "Content-Length: %ju\r\n\r\n",
	    (uintmax_t)s[0].bytes));
	kit_puts(p.o, kit_str(R(200) "Content-Length: %ju\r\n\r\n",
	    (uintmax_t)s[1].bytes));
	s[0].fd = p.c;
	s[1].fd = p.o;
	kit_stuff(&s[0], 50);
	kit_stuff(&s[1], 50);
	kit_reset(p.c);
	kit_pump(&s[1], 1);
	kit_err_wait(px.proc, " 200 ");
	assert_null(strstr(kit_err(px.proc), " done"));
	kit_proxy_settles(&px);
}


/* ---- large bodies -------------------------------------------------------- */

/* kit_stream's like for bodies with a framing. */
struct flow {
	int		 fd;
	enum kit_dir	 dir;
	enum framing	 framing;
	unsigned	 seed;
	uint64_t	 bytes;
	int		 last;		/* so many are the whole body */
	int		 end;		/* IN: the end of file follows */
	/* how far it is */
	uint64_t	 done;
	int		 ended;
	struct unchunk	 un;
	size_t		 sent, have;	/* of the wire's bytes */
	char		 wire[66000];
};

static int
flow_finished(const struct flow *f)
{
	int whole = f->framing == CHUNKED && f->last;

	if (f->done != f->bytes || f->sent != f->have)
		return 0;
	if (f->dir == KIT_OUT)
		return !whole || f->ended;
	return (!whole || f->un.state == DONE) && (!f->end || f->ended);
}

/* The next chunk, of any size, or the last one. */
static void
flow_encode(struct flow *f)
{
	uint64_t left = f->bytes - f->done;
	size_t n = 1 + (size_t)(f->done * 7919 % 65536);
	int head = 0;

	n = left < n ? (size_t)left : n;
	f->ended = n == 0;
	if (f->framing == CHUNKED)
		head = snprintf(f->wire, sizeof(f->wire), "%zX\r\n", n);
	kit_fill(f->wire + head, n, f->seed, f->done);
	f->done += n;
	f->sent = 0;
	f->have = (size_t)head + n;
	if (f->framing == CHUNKED) {
		memcpy(f->wire + f->have, "\r\n", 2);
		f->have += 2;
	}
}

static void
flow_out(struct flow *f)
{
	ssize_t n;

	if (f->sent == f->have)
		flow_encode(f);
	n = send(f->fd, f->wire + f->sent, f->have - f->sent, MSG_DONTWAIT |
	    MSG_NOSIGNAL);
	if (n == -1 && errno != EAGAIN)
		kit_fail("flow %u out at %ju: %s", f->seed,
		    (uintmax_t)f->done, strerror(errno));
	f->sent += n > 0 ? (size_t)n : 0;
}

static void
flow_in(struct flow *f)
{
	uint64_t left = f->bytes - f->done;
	size_t want = sizeof(f->wire);
	ssize_t n;

	/* what is behind it may be somebody else's */
	if (f->framing != CHUNKED && !f->end && left < want)
		want = (size_t)left;
	n = recv(f->fd, f->wire, want, MSG_DONTWAIT);
	if (n == -1 && errno == EAGAIN)
		return;
	if (n == -1)
		kit_fail("flow %u in at %ju: %s", f->seed,
		    (uintmax_t)f->done, strerror(errno));
	f->ended = n == 0;
	if (f->framing == CHUNKED)
		n = (ssize_t)unchunk(&f->un, f->wire, (size_t)n);
	kit_check(f->wire, (size_t)n, f->seed, f->done);
	f->done += (size_t)n;
	if (f->done > f->bytes || (f->ended && !flow_finished(f)))
		kit_fail("flow %u ends at %ju of %ju", f->seed,
		    (uintmax_t)f->done, (uintmax_t)f->bytes);
}

static void
pump(struct flow *f, size_t n)
{
	struct pollfd pfd[8];
	int64_t end = kit_now() + kit_patience();
	size_t i, left;

	assert_true(n <= KIT_COUNT(pfd));
	do {
		for (i = left = 0; i < n; i++) {
			left += !flow_finished(&f[i]);
			pfd[i].fd = flow_finished(&f[i]) ? -1 : f[i].fd;
			pfd[i].events = f[i].dir == KIT_OUT ? POLLOUT :
			    POLLIN;
		}
		if (left > 0 && poll(pfd, (nfds_t)n, 50) > 0)
			end = kit_now() + kit_patience();
		(void)kit_err(px.proc);
		for (i = 0; i < n; i++) {
			if (pfd[i].fd == -1 || pfd[i].revents == 0)
				continue;
			if (f[i].dir == KIT_OUT)
				flow_out(&f[i]);
			else
				flow_in(&f[i]);
		}
	} while (left > 0 && kit_now() < end);
	for (i = 0; i < n; i++)
		if (!flow_finished(&f[i]))
			kit_fail("flow %u stands at %ju of %ju", f[i].seed,
			    (uintmax_t)f[i].done, (uintmax_t)f[i].bytes);
}

/* Sends what goes until nothing has gone for so many ms. */
static void
stuff(struct flow *f, int ms)
{
	struct pollfd pfd = { .fd = f->fd, .events = POLLOUT };

	while (!flow_finished(f) && poll(&pfd, 1, ms) > 0)
		flow_out(f);
	kit_note("flow %u is stuffed at %ju", f->seed, (uintmax_t)f->done);
}

static const char *
length_field(enum framing framing, uint64_t bytes)
{
	return framing == CHUNKED ? TE : framing == LENGTH ?
	    kit_str("Content-Length: %ju\r\n", (uintmax_t)bytes) : "";
}

/* A request with a body to come; both heads have passed when it returns. */
static struct pair
exchange(enum framing up, uint64_t up_bytes, enum framing down,
    uint64_t down_bytes, int old)
{
	char head[1024];
	struct pair p;

	p = asked(kit_str("POST " URL "/ HTTP/1.%d\r\nHost: h\r\n%s\r\n",
	    !old, length_field(up, up_bytes)));
	is("the framing", kit_field(head_at(p.o), "Transfer-Encoding"),
	    up == CHUNKED ? "chunked" : NULL);
	kit_puts(p.o, kit_str(R(200) "%s\r\n",
	    length_field(down, down_bytes)));
	(void)kit_head(p.c, head, sizeof(head));
	is("the framing", kit_field(head, "Transfer-Encoding"),
	    down == CHUNKED && !old ? "chunked" : NULL);
	return p;
}

/* The four flows of an exchange: up, out and in, then down. */
static struct flow *
flows_of(struct pair p, enum framing up, uint64_t up_bytes, enum framing down,
    uint64_t down_bytes, int old)
{
	static struct flow f[4];
	size_t i;

	memset(f, 0, sizeof(f));
	for (i = 0; i < 4; i++) {
		f[i].fd = i == 0 || i == 3 ? p.c : p.o;
		f[i].dir = i % 2 ? KIT_IN : KIT_OUT;
		f[i].framing = i < 2 ? up : down;
		f[i].bytes = i < 2 ? up_bytes : down_bytes;
		f[i].seed = i < 2 ? 1 : 2;
		f[i].last = 1;
	}
	if (old && down == CHUNKED)
		f[3].framing = TO_THE_END;
	return f;
}

/* The response's last byte must not come before the request's: then it would
 * be an early one. */
static void
both_at_once(enum framing up, enum framing down, int old)
{
	const uint64_t bytes = 10 * MB;
	struct pair p;
	struct flow *f;

	kit_note("%d up, %d down, HTTP/1.%d", (int)up, (int)down, !old);
	p = exchange(up, bytes, down, bytes, old);
	f = flows_of(p, up, bytes, down, bytes - 1, old);
	f[2].last = f[3].last = 0;
	pump(f, 4);
	kit_silent(p.o, 0);
	f[2].bytes = f[3].bytes = bytes;
	f[2].last = f[3].last = f[3].end = 1;
	pump(f + 2, 1);
	if (down == TO_THE_END)
		kit_half_close(p.o);
	pump(f + 3, 1);
	kit_ends(p.o);
	(void)close(p.c);
}

static void
large_bodies(void **state)
{
	static const enum framing ups[] = { LENGTH, CHUNKED };
	static const enum framing downs[] = { LENGTH, CHUNKED, TO_THE_END };
	size_t up, down;

	(void)state;
	SERVE(LOCAL);
	for (up = 0; up < KIT_COUNT(ups); up++)
		for (down = 0; down < KIT_COUNT(downs); down++)
			both_at_once(ups[up], downs[down], 0);
	for (down = 0; down < KIT_COUNT(downs); down++)
		both_at_once(LENGTH, downs[down], 1);
	kit_proxy_settles(&px);
	kit_proxy_below(&px, PEAK);
}

/* The sender must be stopped long before its end, the proxy must rest, and
 * then all of it comes. */
static void
stalled(struct flow *f)
{
	stuff(f, 100);
	if (f->done >= f->bytes / 2)
		kit_fail("%ju bytes went to somebody who does not read",
		    (uintmax_t)f->done);
	rests();
	pump(f, 2);
}

static void
stalled_origin(void **state)
{
	static const enum framing ups[] = { LENGTH, CHUNKED };
	struct pair p;
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(ups); i++) {
		p = asked(kit_str(POST "%s\r\n",
		    length_field(ups[i], 64 * MB)));
		(void)head_at(p.o);
		stalled(flows_of(p, ups[i], 64 * MB, NONE, 0, 0));
		answered(p, 0);
	}
	kit_proxy_settles(&px);
	kit_proxy_below(&px, PEAK);
}

static void
stalled_client(void **state)
{
	static const enum framing downs[] = { LENGTH, CHUNKED, TO_THE_END };
	char head[1024];
	struct pair p;
	size_t i;
	int old;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < 2 * KIT_COUNT(downs); i++) {
		old = i % 2;
		p = asked(old ? "GET " URL "/ HTTP/1.0\r\n\r\n" : GET "\r\n");
		(void)head_at(p.o);
		kit_puts(p.o, kit_str(R(200) "%s\r\n",
		    length_field(downs[i / 2], 64 * MB)));
		(void)kit_head(p.c, head, sizeof(head));
		stalled(flows_of(p, NONE, 0, downs[i / 2], 64 * MB, old) + 2);
		if (downs[i / 2] == TO_THE_END)
			kit_half_close(p.o);
		kit_eof(p.c);
		kit_ends(p.o);
		(void)close(p.c);
	}
	kit_proxy_settles(&px);
	kit_proxy_below(&px, PEAK);
}

/* Interim responses are no way around a client that does not read. */
static void
flood_of_interims(void **state)
{
	const char *flood = kit_times(MB, "HTTP/1.1 100 \r\n\r\n");
	size_t len = strlen(flood), n;
	struct pair p;

	(void)state;
	SERVE(LOCAL);
	p = asked(GET "\r\n");
	(void)request_at(p.o);
	while ((n = push(p.o, flood, len)) > 0) {
		flood += n;
		len -= n;
		rests();
	}
	kit_proxy_below(&px, PEAK);
	kit_reset(p.c);
	(void)close(p.o);
	serves();
	kit_proxy_settles(&px);
}

/* A client that takes its time gets the end of the response, too, when the
 * origin is long gone.  It says that it can take small segments only, and so
 * there is room for little outside the proxy. */
static int
slow_client(const char *request)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0), mss = 536, buf = 4096;

	sin.sin_port = htons((uint16_t)px.port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buf, sizeof(buf)) == -1 ||
	    connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1)
		kit_fail("a slow client: %s", strerror(errno));
	kit_puts(fd, fill(request));
	return fd;
}

static void
slow_clients(void **state)
{
	static char buf[1 << 20];
	const char *body;
	struct pair p[40];
	struct message m;
	size_t i, n;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(p); i++) {
		body = kit_times((i + 1) * 8192, "x");
		p[i].c = slow_client(i % 2 ? GET "\r\n" :
		    "GET " URL "/ HTTP/1.0\r\n\r\n");
		p[i].o = kit_accept(ol);
		(void)request_at(p[i].o);
		kit_puts(p[i].o, kit_str(R(200) TE "\r\n%zx\r\n%s\r\n"
		    "0\r\n\r\n", strlen(body), body));
		kit_half_close(p[i].o);
	}
	/* longer than anybody lingers for one who has got everything */
	kit_silent(ol, 2500);
	for (i = 0; i < KIT_COUNT(p); i++) {
		kit_note("client %zu", i);
		n = kit_slurp(p[i].c, buf, sizeof(buf));
		m = response_in(buf, n, 0);
		assert_int_equal(strlen(m.body), (i + 1) * 8192);
		(void)close(p[i].c);
		(void)close(p[i].o);
	}
	kit_proxy_settles(&px);
}

/* The origin has heard enough and answers; it reads no more. */
static void
early_response(enum framing up, enum framing down)
{
	char head[1024];
	struct pair p;
	struct flow *f;

	p = asked(kit_str(POST "%s\r\n", length_field(up, 100 * MB)));
	(void)head_at(p.o);
	f = flows_of(p, up, 100 * MB, down, MB, 0);
	stuff(f, 100);
	kit_puts(p.o, kit_str(R(413) "%s\r\n", length_field(down, MB)));
	(void)kit_head(p.c, head, sizeof(head));
	assert_int_equal(strncmp(head, "HTTP/1.1 413 ", 13), 0);
	pump(f + 2, 2);
	if (down == TO_THE_END)
		kit_half_close(p.o);
	kit_eof(p.c);
	(void)close(p.c);
	(void)close(p.o);
}

static void
early_responses(void **state)
{
	static const enum framing downs[] = { LENGTH, CHUNKED, TO_THE_END };
	size_t i;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(downs); i++) {
		early_response(LENGTH, downs[i]);
		early_response(CHUNKED, downs[i]);
	}
	kit_proxy_settles(&px);
	kit_proxy_below(&px, PEAK);
}

/* The same from an origin that is gone at once, to a client that goes on
 * sending and looks at the answer only then.  The proxy may see the answer
 * before the origin's reset, or after it. */
static void
early_response_and_away(void **state)
{
	const char *body = kit_times(20000, "x"), *more = kit_times(MB, "y");
	static char buf[1 << 17];
	struct message m;
	struct pair p;
	int i, k, after;

	(void)state;
	SERVE(LOCAL);
	for (after = 0; after < 2; after++) {
		p = asked(kit_str(POST "%s\r\n", length_field(LENGTH,
		    100 * MB)));
		(void)head_at(p.o);
		stuff(flows_of(p, LENGTH, 100 * MB, NONE, 0, 0), 100);
		for (i = 0; after && i < px.npids; i++)
			(void)kill(px.pids[i], SIGSTOP);
		kit_puts(p.o, kit_str(R(413) "%s\r\n%s",
		    length_field(LENGTH, 20000), body));
		if (!after)
			rests();
		kit_reset(p.o);
		for (k = 0; k < i; k++)
			(void)kill(px.pids[k], SIGCONT);
		(void)push(p.c, more, strlen(more));
		(void)kit_to_the_end(p.c, buf, sizeof(buf));
		m = response_in(buf, strlen(buf), 0);
		has_status(&m, 413);
		is("the body", m.body, body);
		(void)close(p.c);
	}
	kit_proxy_settles(&px);
}

/* Many at once, each its own. */
static void
many_clients(void **state)
{
	struct pair p[100];
	struct message m;
	const char *line;
	size_t i, n;

	(void)state;
	SERVE(LOCAL);
	for (i = 0; i < KIT_COUNT(p); i++)
		p[i].c = ask(kit_str("PUT " URL "/%zu HTTP/1.1\r\nHost: h\r\n"
		    "Content-Length: 4\r\n\r\n%04zu", i, i));
	for (i = 0; i < KIT_COUNT(p); i++) {
		int o = kit_accept(ol);

		m = request_at(o);
		line = first_line(m.head);
		n = (size_t)strtoul(m.body, NULL, 10);
		is("the request", line, kit_str("PUT /%zu HTTP/1.1", n));
		assert_true(n < KIT_COUNT(p));
		p[n].o = o;
	}
	for (i = 0; i < KIT_COUNT(p); i++) {
		n = i * 37 % KIT_COUNT(p);
		kit_puts(p[n].o, kit_str(R(200) "Content-Length: 4\r\n\r\n"
		    "%04zu", n));
		m = response_at(p[n].c, 0);
		is("the body", m.body, kit_str("%04zu", n));
		kit_ends(p[n].o);
		(void)close(p[n].c);
	}
	kit_proxy_settles(&px);
}


/* ---- who may ask, and for what ------------------------------------------- */

static const char *
with_credentials(const char *userpass)
{
	return kit_str(GET "X: y\r\nProxy-Authorization: %s\r\n"
	    "Authorization: Basic b3du\r\n\r\n", kit_basic(userpass));
}

static void
credentials(void **state)
{
	const char *users = kit_file("users", 0600, "al:open\n");
	const char *more = kit_times(MB, "y");
	struct pair p;
	int c;

	(void)state;
	SERVE("-a", users, LOCAL);
	p.c = ask(GET "\r\n");
	kit_refusal(p.c, 407, NULL, KIT_STAYS);
	kit_puts(p.c, fill(with_credentials("al:opem")));
	kit_refusal(p.c, 407, NULL, KIT_STAYS);
	kit_puts(p.c, fill(GET "Authorization: Basic YWw6b3Blbg==\r\n\r\n"));
	kit_refusal(p.c, 407, NULL, KIT_STAYS);
	kit_untouched(ol);
	kit_puts(p.c, fill(with_credentials("al:open")));
	p.o = kit_accept(ol);
	is("the rest", others(request_at(p.o).head),
	    "X: y\r\nAuthorization: Basic b3du\r\n");
	answered(p, 0);
	/* a body is no request, and who sends one hears the answer */
	c = ask(kit_str(POST "Content-Length: %zu\r\n\r\n", strlen(more)));
	(void)push(c, more, strlen(more));
	kit_refusal(c, 407, NULL, KIT_CLOSES);
	(void)close(c);
	c = ask(kit_str(POST TE "\r\n0\r\n\r\n%s",
	    with_credentials("al:open")));
	kit_refusal(c, 407, NULL, KIT_CLOSES);
	(void)close(c);
	kit_untouched(ol);
	kit_proxy_settles(&px);
}

/* Whichever error it is: it may tell of the name or of the address. */
static void
forbidden(const char *host)
{
	int c = ask(kit_str("GET http://%s:{}/ HTTP/1.1\r\nHost: h\r\n\r\n",
	    host));

	kit_note("%s", host);
	kit_refusal(c, 403, "", KIT_EITHER);
	(void)close(c);
	kit_untouched(ol);
}

static void
rules_for_targets(void **state)
{
	char buf[4096];
	struct pair p;
	int c;

	(void)state;
	SERVE("-v", "-t", "!127.0.0.0/8", LOCAL);
	forbidden("127.0.0.1");
	forbidden("127.1");
	forbidden("localhost");
	forbidden("2130706433");
	if (kit_has_ipv6())
		forbidden("[::ffff:127.0.0.1]");
	/* the log knows why, the client does not */
	kit_err_wait(px.proc, "rule -t !127.0.0.0/8");
	c = ask("GET http://localhost:{}/ HTTP/1.0\r\n\r\n");
	(void)kit_slurp(c, buf, sizeof(buf));
	if (strstr(buf, "not allowed here") == NULL ||
	    strstr(buf, "127.0.0") != NULL)
		kit_fail("<<%s>>", buf);
	(void)close(c);
	kit_proxy_settles(&px);
	SERVE("-t", "localhost", LOCAL);
	forbidden("127.0.0.1");
	p = asked("GET http://LocalHost:{}/ HTTP/1.0\r\n\r\n");
	(void)request_at(p.o);
	answered(p, 0);
	SERVE("-t", "127.0.0.1:1-2,70", LOCAL);
	forbidden("127.0.0.1");
	SERVE("-n", LOCAL);
	forbidden("localhost");
	serves();
}

static void
rules_for_clients(void **state)
{
	int c;

	(void)state;
	SERVE("-c", "!127.0.0.1", LOCAL);
	c = ask(GET "\r\n");
	kit_refusal(c, 403, "http_request_denied", KIT_EITHER);
	(void)close(c);
	kit_untouched(ol);
	kit_proxy_settles(&px);
}

/* -T: an ordinary request is not TLS. */
static void
nothing_but_tls(void **state)
{
	int c;

	(void)state;
	SERVE("-T", LOCAL);
	c = ask(GET "\r\n");
	kit_refusal(c, 403, "http_request_denied", KIT_EITHER);
	(void)close(c);
	c = ask(POST "Content-Length: 5\r\n\r\nhello");
	kit_refusal(c, 403, "http_request_denied", KIT_CLOSES);
	(void)close(c);
	kit_untouched(ol);
	kit_proxy_settles(&px);
}

/* A line for each, without what may be secret in it. */
static void
log_lines(void **state)
{
	const char *line;
	char what[64];
	unsigned long up, down;
	struct pair p;
	int status, n = 0;

	(void)state;
	SERVE("-v", LOCAL);
	kit_err_wait(px.proc, "listening on");
	p = asked("POST " URL "/a/b?secret=1 HTTP/1.1\r\nHost: h\r\n"
	    "Authorization: Basic c2VjcmV0\r\n"
	    "Content-Length: 1000\r\n\r\n");
	kit_puts(p.c, kit_times(1000, "u"));
	(void)request_at(p.o);
	kit_puts(p.o, kit_str(R(200) "Content-Length: 2000\r\n\r\n%s",
	    kit_times(2000, "d")));
	(void)response_at(p.c, 0);
	kit_err_wait(px.proc, "/a/b");
	line = strstr(kit_err(px.proc), fill(URL "/a/b"));
	assert_non_null(line);
	if (sscanf(line, "%63s %d %lu %lu %*s%n", what, &status, &up, &down,
	    &n) != 4 || n == 0 || line[n] == '\0')
		kit_fail("no log line: %s", line);
	is("WHAT", what, fill(URL "/a/b"));
	assert_int_equal(status, 200);
	/* with or without the heads */
	assert_in_range(up, 1000, 1500);
	assert_in_range(down, 2000, 2500);
	if (strstr(kit_err(px.proc), "secret") != NULL ||
	    strstr(kit_err(px.proc), "c2VjcmV0") != NULL ||
	    strstr(line + n, "/a/b") != NULL)
		kit_fail("too much is told");
}


/* ---- through hops: -l -x ------------------------------------------------- */

#define AFAR	"http://something.invalid"

/* A hop is asked for a tunnel, and for nothing else before it is there. */
static void
hop_is_asked(int h, const char *target, const char *auth)
{
	char head[4096];

	(void)kit_head(h, head, sizeof(head));
	is("the request", first_line(head), kit_str("CONNECT %s HTTP/1.1",
	    target));
	is("Host", kit_field(head, "Host"), target);
	is("Proxy-Authorization", kit_field(head, "Proxy-Authorization"),
	    auth);
	is("X-Own", kit_field(head, "X-Own"), NULL);
	rests();
	kit_silent(h, 0);
}

static void
chain_carries(void **state)
{
	struct message m;
	unsigned port;
	struct pair p;
	int lfd = kit_listen(AF_INET, &port);

	(void)state;
	SERVE("-x", kit_str("us:pw@127.0.0.1:%u", port), LOCAL);
	/* the name is the hop's to look up, the port is the scheme's */
	p.c = ask("POST " AFAR "/p?q HTTP/1.1\r\nHost: h\r\nX-Own: 1\r\n"
	    "Proxy-Authorization: Basic b3du\r\nContent-Length: 4\r\n\r\n"
	    "body");
	p.o = kit_accept(lfd);
	hop_is_asked(p.o, "something.invalid:80", NULL);
	kit_puts(p.o, "HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n"
	    "Proxy-Authenticate: Basic realm=\"hop\"\r\n\r\n");
	hop_is_asked(p.o, "something.invalid:80", kit_basic("us:pw"));
	kit_puts(p.o, "HTTP/1.0 200 Here\r\nContent-Length: 9\r\n\r\n");
	m = request_at(p.o);
	is("the request", first_line(m.head), "POST /p?q HTTP/1.1");
	is("Host", kit_field(m.head, "Host"), "something.invalid");
	is("the rest", others(m.head), "X-Own: 1\r\n");
	is("the body", m.body, "body");
	answered(p, 0);
	p.c = ask("GET " AFAR ":81 HTTP/1.1\r\nHost: h\r\n\r\n");
	p.o = kit_accept(lfd);
	hop_is_asked(p.o, "something.invalid:81", NULL);
	kit_puts(p.o, "HTTP/1.1 200 OK\r\n\r\n");
	m = request_at(p.o);
	is("the request", first_line(m.head), "GET / HTTP/1.1");
	is("Host", kit_field(m.head, "Host"), "something.invalid:81");
	answered(p, 0);
	kit_untouched(lfd);
	kit_proxy_settles(&px);
}

static void
chain_refused(void **state)
{
	static const struct {
		const char	*reply;
		int		 status;
	} cases[] = {
		{ "HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n"
		    "Proxy-Authenticate: Basic realm=\"hop\"\r\n\r\n", 502 },
		{ "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nhop's", 403 },
		{ "HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhop's", 502 },
		{ "HTTP/1.1 503 Later\r\n\r\n", 502 },
		{ "SSH-2.0-x\r\n", 502 },
		{ "", 502 }
	};
	char rest[64];
	unsigned port;
	struct pair p;
	size_t i;
	int lfd = kit_listen(AF_INET, &port);

	(void)state;
	SERVE("-x", kit_str("127.0.0.1:%u", port), LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		p.c = ask("GET " AFAR "/p HTTP/1.1\r\nHost: h\r\n\r\n");
		p.o = kit_accept(lfd);
		hop_is_asked(p.o, "something.invalid:80", NULL);
		kit_puts(p.o, cases[i].reply);
		kit_half_close(p.o);
		kit_refusal(p.c, cases[i].status, "", KIT_EITHER);
		(void)close(p.c);
		(void)kit_to_the_end(p.o, rest, sizeof(rest));
		is("the rest", rest, "");
		(void)close(p.o);
	}
	kit_proxy_settles(&px);
}

/* Two of us, and bodies of a size. */
static void
chain_of_our_own(void **state)
{
	struct kit_proxy first;
	struct message m;
	struct pair p;

	(void)state;
	SERVE(LOCAL);
	first = px;
	SERVE("-x", kit_str("127.0.0.1:%u", first.port), LOCAL);
	both_at_once(CHUNKED, CHUNKED, 0);
	both_at_once(LENGTH, TO_THE_END, 0);
	p = asked("OPTIONS http://localhost:{} HTTP/1.1\r\nHost: h\r\n\r\n");
	m = request_at(p.o);
	is("the request", first_line(m.head), "OPTIONS * HTTP/1.1");
	is("Host", kit_field(m.head, "Host"), fill("localhost:{}"));
	has_via(m.head, "", "1.1");
	answered(p, 0);
	kit_proxy_settles(&px);
	kit_proxy_settles(&first);
	kit_proxy_below(&px, PEAK);
	kit_proxy_below(&first, PEAK);
}

/* The last hop is asked by a session, whose answers are cut anywhere.  A reply
 * that is none has one answer, whatever else still comes that way. */
static void
chain_of_sessions(void **state)
{
	struct kit_proxy first;
	char head[1024];
	struct pair p;

	(void)state;
	SERVE(LOCAL);
	first = px;
	SERVE("-v", "-x", kit_str("poll://127.0.0.1:%u", first.port), LOCAL);
	both_at_once(CHUNKED, CHUNKED, 0);
	both_at_once(LENGTH, LENGTH, 0);
	both_at_once(LENGTH, TO_THE_END, 0);
	p = asked("GET http://localhost:{}/ HTTP/1.1\r\nHost: h\r\n\r\n");
	(void)request_at(p.o);
	kit_puts(p.o, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
	(void)kit_head(p.c, head, sizeof(head));
	kit_puts(p.o, "12345HTTP/1.1 200 Smuggled\r\n\r\n");
	kit_expect(p.c, "12345");
	kit_eof(p.c);
	(void)close(p.c);
	kit_ends(p.o);
	/* what came, head and all */
	kit_err_wait(px.proc, " 200 0 68 ");
	p = asked("GET http://localhost:{}/ HTTP/1.1\r\nHost: h\r\n\r\n");
	(void)request_at(p.o);
	kit_puts(p.o, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	    "\r\n");
	(void)kit_head(p.c, head, sizeof(head));
	kit_puts(p.o, "3\r\n123\r\nnone\r\n");
	kit_until_reset(p.c);
	(void)close(p.c);
	kit_ends(p.o);
	p = asked("GET http://localhost:{}/ HTTP/1.1\r\nHost: h\r\n\r\n");
	(void)request_at(p.o);
	kit_puts(p.o, kit_times(300000, "x"));
	(void)kit_refusal(p.c, 502, "http_protocol_error", KIT_CLOSES);
	(void)close(p.c);
	(void)close(p.o);
	kit_proxy_settles(&px);
	kit_proxy_settles(&first);
	kit_signal(px.proc->pid, SIGUSR1);
	kit_err_wait(px.proc, " workers");
	kit_err_has(px.proc, "totals: 0 open, 6 tunnels,");
}


/* ---- curl, apt-get, Chromium --------------------------------------------- */

/* http and https: a page, what was sent, and that in each framing. */
static const char origin_script[] =
    "class Handler(http.server.BaseHTTPRequestHandler):\n"
    "    protocol_version = 'HTTP/1.1'\n"
    "    def body(self):\n"
    "        if self.headers.get('Transfer-Encoding') != 'chunked':\n"
    "            n = int(self.headers.get('Content-Length', 0))\n"
    "            return self.rfile.read(n)\n"
    "        data, n = b'', 1\n"
    "        while n > 0:\n"
    "            n = int(self.rfile.readline(), 16)\n"
    "            data += self.rfile.read(n)\n"
    "            self.rfile.readline()\n"
    "        return data\n"
    "    def page(self):\n"
    "        return b'<p id=p></p><script>var x = new XMLHttpRequest();'\\\n"
    "            b'x.open(\"POST\", \"/echo\", false);'\\\n"
    "            b'x.send(\"as\" + \"ked\");'\\\n"
    "            b'p.textContent = x.responseText</script>\\n'\n"
    "    def answer(self):\n"
    "        data = self.body() or self.page()\n"
    "        self.send_response(200)\n"
    "        self.send_header('Content-Type', 'text/html')\n"
    "        self.send_header('X-Method', self.command)\n"
    "        self.send_header('X-Framing', self.headers.get(\n"
    "            'Transfer-Encoding', self.headers.get(\n"
    "            'Content-Length', 'none')))\n"
    "        if self.path == '/chunked':\n"
    "            self.send_header('Transfer-Encoding', 'chunked')\n"
    "            data = b'%x\\r\\n%s\\r\\n0\\r\\n\\r\\n' % (len(data), data)\n"
    "        elif self.path == '/close':\n"
    "            self.send_header('Connection', 'close')\n"
    "        else:\n"
    "            self.send_header('Content-Length', str(len(data)))\n"
    "        self.end_headers()\n"
    "        if self.command != 'HEAD':\n"
    "            self.wfile.write(data)\n"
    "    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer\n"
    "    def log_message(self, *args):\n"
    "        pass\n";

/* Its ports; {} is the first, the second is returned. */
static unsigned
start_origin(void)
{
	struct kit_web w;

	kit_web(&w, origin_script);
	oport = w.http;
	return w.https;
}

#define BODY	3000000		/* more than 1 MB, so that curl expects a 100 */
#define N	"3000000"
#define TE_CHUNKED	"Transfer-Encoding: chunked"

static const struct {
	const char	*argv[8];	/* %F: a file with a body */
	const char	*says;		/* status, method, framing */
	int		 echo;		/* the body comes back */
} curls[] = {
	{ { URL "/page" }, "200 GET none\n", 0 },
	{ { URL "/page", URL "/chunked" }, "200 GET none\n200 GET none\n",
	    0 },
	{ { "http://localhost:{}/close" }, "200 GET none\n", 0 },
	{ { "--http1.0", URL "/chunked" }, "200 GET none\n", 0 },
	{ { "-X", "DELETE", URL "/close" }, "200 DELETE none\n", 0 },
	{ { "-T", "%F", URL "/length" }, "200 PUT " N "\n", 1 },
	{ { "-T", "%F", URL "/chunked" }, "200 PUT " N "\n", 1 },
	{ { "-T", "%F", URL "/close" }, "200 PUT " N "\n", 1 },
	{ { "-H", "Expect:", "-T", "%F", URL "/x" }, "200 PUT " N "\n", 1 },
	{ { "--http1.0", "-T", "%F", URL "/chunked" }, "200 PUT " N "\n",
	    1 },
	{ { "--data-binary", "@%F", URL "/x" }, "200 POST " N "\n", 1 },
	{ { "-H", "Expect: 100-continue", "--data-binary", "@%F", URL "/x" },
	    "200 POST " N "\n", 1 },
	{ { "-H", TE_CHUNKED, "--data-binary", "@%F", URL "/chunked" },
	    "200 POST chunked\n", 1 },
	{ { "-H", TE_CHUNKED, "-T", "%F", URL "/length" },
	    "200 PUT chunked\n", 1 }
};

/* curl by http_proxy, on these arguments. */
static struct kit_proc *
start_curl(const char *userinfo, const char *const *args)
{
	const char *env[2] = { NULL, NULL };
	const struct kit_opt opt = { .in = KIT_NULL, .env = env };
	const char *argv[24] = { "curl", "-q", "-sS", "-w",
	    "%{stderr}%{http_code} %header{x-method} %header{x-framing}\n" };
	size_t n = 5;

	env[0] = kit_str("http_proxy=http://%s127.0.0.1:%u", userinfo,
	    px.port);
	for (; *args != NULL; args++) {
		const char *f = strstr(*args, "%F");

		argv[n++] = f == NULL ? fill(*args) : kit_str("%.*s%s",
		    (int)(f - *args), *args, kit_stream_file("body", BODY, 1));
	}
	argv[n] = NULL;
	return kit_startv(&opt, argv);
}

/* It comes back whole, and curl is content. */
static void
echoed(struct kit_proc *p, const char *says)
{
	struct kit_stream s = { p->out, KIT_IN, BODY, 1, 1, 0 };

	kit_pump(&s, 1);
	kit_exits(p, 0);
	kit_err_is(p, says);
	kit_done(p);
}

static void
under_curl(void **state)
{
	static const char *const head[] = { "-I", URL "/length", NULL };
	struct kit_proc *p;
	char page[4096];
	size_t i;

	(void)state;
	SERVE(LOCAL);
	(void)start_origin();
	for (i = 0; i < KIT_COUNT(curls); i++) {
		kit_note("curl %s %s", curls[i].argv[0], curls[i].argv[1]);
		p = start_curl("", curls[i].argv);
		if (curls[i].echo) {
			echoed(p, curls[i].says);
			continue;
		}
		(void)kit_slurp(p->out, page, sizeof(page));
		kit_exits(p, 0);
		assert_int_equal(strncmp(page, "<p id=p></p>", 12), 0);
		kit_err_is(p, curls[i].says);
		kit_done(p);
	}
	p = start_curl("", head);
	(void)kit_slurp(p->out, page, sizeof(page));
	kit_exits(p, 0);
	kit_err_is(p, "200 HEAD none\n");
	assert_non_null(kit_field(page, "Content-Length"));
	is("Via", kit_field(page, "Via"), "1.1 httptun");
}

/* With --proxy-anyauth it first asks without credentials, and without the
 * body, and then again. */
static void
under_curl_with_credentials(void **state)
{
	static const char *const argv[] = {
		"--data-binary", "@%F", URL "/x", NULL
	};
	static const char *const anyauth[] = {
		"--proxy-anyauth", "--data-binary", "@%F", URL "/x", NULL
	};
	struct kit_proc *p;

	(void)state;
	SERVE("-a", kit_file("users", 0600, "al:open\n"), LOCAL);
	(void)start_origin();
	echoed(start_curl("al:open@", argv), "200 POST " N "\n");
	echoed(start_curl("al:open@", anyauth), "200 POST " N "\n");
	p = start_curl("al:opem@", argv);
	kit_exits(p, 0);
	kit_err_has(p, "407 ");
}

/* What they start themselves ends with the test, too. */
static struct kit_proc *
start_group(const struct kit_opt *opt, const char *const *argv)
{
	struct kit_opt o = *opt;
	struct kit_proc *p;

	o.newsid = 1;
	p = kit_startv(&o, argv);
	kit_group(p);
	return p;
}

/* A repository of one package, and an apt that knows no other. */
static const char apt_script[] =
    "set -e; mkdir -p \"$0/repo\" \"$0/pkg/DEBIAN\" \"$0/lists/partial\" \\\n"
    "    \"$0/cache/archives/partial\" \"$0/got\"; cd \"$0\"\n"
    "printf '%s\\n' 'Package: httptun-nothing' 'Version: 1' \\\n"
    "    'Architecture: all' 'Maintainer: Nobody <nobody@localhost>' \\\n"
    "    'Description: nothing' >pkg/DEBIAN/control\n"
    "head -c 300000 /dev/urandom >pkg/nothing\n"
    "dpkg-deb --root-owner-group -b pkg repo/nothing.deb >/dev/null\n"
    "cd repo; { cat ../pkg/DEBIAN/control; echo 'Filename: ./nothing.deb'\n"
    "    echo \"Size: $(stat -c %s nothing.deb)\"\n"
    "    set -- $(sha256sum nothing.deb); echo \"SHA256: $1\"; } >Packages\n"
    "set -- $(sha256sum Packages) $(stat -c %s Packages)\n"
    "{ LC_ALL=C date -u '+Date: %a, %d %b %Y %T UTC'; echo 'SHA256:'\n"
    "    echo \" $1 $3 Packages\"; } >Release\n"
    ">../status\n";

static const char apt_config[] =
    "Dir \"%s/\";\n"
    "Dir::State \"%s\"; Dir::State::status \"%s/status\";\n"
    "Dir::Cache \"%s/cache\"; Dir::Log \"%s\";\n"
    "Dir::Etc \"%s\"; Dir::Etc::sourcelist \"%s/list\";\n"
    "Dir::Etc::sourceparts \"/dev/null\"; Dir::Etc::parts \"/dev/null\";\n"
    "Dir::Etc::main \"/dev/null\"; Dir::Etc::preferencesparts \"/dev/null\";\n"
    "APT::Sandbox::User \"root\"; Acquire::Languages \"none\";\n"
    "Acquire::http::Proxy \"http://al:open@127.0.0.1:%u/\";\n";

/* apt-get, which has to end well; it pipelines what it asks for. */
static void
apt_get(const char *tree, const char *command, const char *package)
{
	const char *env[2] = { NULL, NULL };
	const struct kit_opt opt = { .in = KIT_NULL, .env = env };
	const char *const argv[] = { "sh", "-c",
	    "cd \"$0\" && exec apt-get -q -y \"$@\" 2>&1",
	    kit_str("%s/got", tree), command, package, NULL };
	char says[16384];
	struct kit_proc *p;

	env[0] = kit_str("APT_CONFIG=%s", kit_path("apt_config"));
	p = start_group(&opt, argv);
	(void)kit_slurp(p->out, says, sizeof(says));
	kit_note("%s", says);
	kit_exits(p, 0);
	if (strstr(says, "Err:") != NULL || strstr(says, "\nE:") != NULL ||
	    strstr(says, "\nW:") != NULL)
		kit_fail("apt-get %s: %s", command, says);
}

static void
under_apt_get(void **state)
{
	static const struct kit_opt opt = { .in = KIT_NULL };
	const char *t = kit_path("tree");
	struct kit_proc *p;
	char line[256];

	(void)state;
	kit_proxy(&px, "-v", "-a", kit_file("users", 0600, "al:open\n"),
	    LOCAL);
	kit_exits(kit_start(NULL, "sh", "-c", apt_script, t, (char *)NULL), 0);
	p = kit_start(&opt, "python3", "-u", "-m", "http.server", "--bind",
	    "127.0.0.1", "--directory", kit_str("%s/repo", t), "0",
	    (char *)NULL);
	(void)kit_until(p->out, line, sizeof(line), "\n");
	if (sscanf(line, "Serving HTTP on %*s port %u", &oport) != 1)
		kit_fail("http.server says %s", line);
	(void)kit_file("apt_config", 0600, kit_str(apt_config, t, t, t, t, t,
	    t, t, px.port));
	kit_exits(kit_start(NULL, "sh", "-c", "echo \"$1\" >$0/list", t,
	    fill("deb [trusted=yes] " URL "/ ./"), (char *)NULL), 0);
	apt_get(t, "update", NULL);
	kit_err_wait(px.proc, fill(" al " URL "/./Packages 200 "));
	apt_get(t, "download", "httptun-nothing");
	kit_err_wait(px.proc, fill(" al " URL "/./nothing.deb 200 "));
	kit_exits(kit_start(NULL, "sh", "-c", "cmp $0/repo/nothing.deb "
	    "$0/got/httptun-nothing_1_all.deb", t, (char *)NULL), 0);
}

/* Whatever else a browser thinks to fetch must not leave this machine. */
static void
browse(const char *url)
{
	static const char made[] = "<p id=\"p\">asked</p>";
	static const struct kit_opt opt = { .in = KIT_NULL };
	const char *const argv[] = { "chromium-headless-shell",
	    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
	    "--ignore-certificate-errors",
	    kit_str("--user-data-dir=%s", kit_path("tree")),
	    kit_str("--proxy-server=http://127.0.0.1:%u", px.port),
	    "--proxy-bypass-list=<-loopback>", "--dump-dom", url, NULL };
	char page[65536];
	struct kit_proc *p;

	p = start_group(&opt, argv);
	(void)kit_slurp(p->out, page, sizeof(page));
	kit_exits(p, 0);
	if (strstr(page, made) == NULL)
		kit_fail("the page is <<%s>>", page);
}

static void
under_chromium(void **state)
{
	unsigned https;

	(void)state;
	kit_proxy(&px, "-v", "-n", "-t", "127.0.0.1", LOCAL);
	https = start_origin();
	browse(fill(URL "/page"));
	kit_err_wait(px.proc, fill(" " URL "/page 200 "));
	kit_err_wait(px.proc, fill(" " URL "/echo 200 "));
	browse(kit_str("https://127.0.0.1:%u/page", https));
	kit_err_wait(px.proc, kit_str(" 127.0.0.1:%u 200 ", https));
}


static const struct CMUnitTest tests[] = {
	KIT_TEST(urls), KIT_TEST(any_method), KIT_TEST(request_fields),
	KIT_TEST(host_is_rebuilt), KIT_TEST(http_1_0_clients),
	KIT_TEST(long_requests), KIT_TEST(request_bodies),
	KIT_TEST(chunks_are_not_held), KIT_TEST(every_cut_of_a_request),
	KIT_TEST(bytes_behind), KIT_TEST(smugglers), KIT_TEST(named_framing),
	KIT_TEST(forwards_no_more),
	KIT_TEST(bad_chunks_from_the_client), KIT_TEST(endless_chunks),
	KIT_TEST(bad_urls), KIT_TEST(no_urls), KIT_TEST(its_own_url),
	KIT_TEST(responses_pass), KIT_TEST(http_1_0_origins),
	KIT_TEST(via_of_a_response), KIT_TEST(without_a_body),
	KIT_TEST(interim_responses), KIT_TEST(expect_continue),
	KIT_TEST(every_cut_of_a_response), KIT_TEST(bad_responses_are_refused),
	KIT_TEST(odd_responses), KIT_TEST(bad_chunks_from_the_origin),
	KIT_TEST(origins_that_cannot_be_had), KIT_TEST(refused_head),
	KIT_TEST(origin_goes_before_the_response),
	KIT_TEST(origin_goes_in_the_body),
	KIT_TEST(origin_goes_in_the_request),
	KIT_TEST(client_goes_while_connecting),
	KIT_TEST(client_goes_in_the_head), KIT_TEST(client_goes_in_the_body),
	KIT_TEST(client_ends_its_direction),
	KIT_TEST(client_goes_before_the_response),
	KIT_TEST(client_goes_in_the_response),
	KIT_TEST(client_goes_in_both), KIT_TEST(large_bodies),
	KIT_TEST(stalled_origin), KIT_TEST(stalled_client),
	KIT_TEST(flood_of_interims), KIT_TEST(slow_clients),
	KIT_TEST(early_responses), KIT_TEST(early_response_and_away),
	KIT_TEST(many_clients), KIT_TEST(credentials),
	KIT_TEST(rules_for_targets), KIT_TEST(rules_for_clients),
	KIT_TEST(nothing_but_tls), KIT_TEST(log_lines),
	KIT_TEST(chain_carries), KIT_TEST(chain_refused),
	KIT_TEST(chain_of_our_own), KIT_TEST(chain_of_sessions),
	KIT_TEST(under_curl),
	KIT_TEST(under_curl_with_credentials), KIT_TEST(under_apt_get),
	KIT_TEST(under_chromium)
};

int
main(void)
{
	return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
