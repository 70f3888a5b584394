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
 * The poll carrier seen from its client, in this order: the client against a
 * scripted gateway, which judges every request; the whole way, client and
 * `httptun -l`, on all routes; the whole way through a proxy that meddles with
 * each request and through a network that fails.  The last two are this
 * program again, as processes of their own.
 *
 * With HTTPTUN_LONG set the numbers are large, it takes minutes, and says what
 * it does; HTTPTUN_SEED gives the meddling proxy another course.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define NONE		((char *)NULL)
#define LOCAL		"127.0.0.1", "0", NONE
#define HOST		"target.example"	/* never looked up */
#define PORT		"5432"
#define KB		((uint64_t)1 << 10)
#define MB		((uint64_t)1 << 20)
#define PEAK		8192		/* KiB that a process may ever take */
#define BODY_MAX	(1 * MB)	/* of a PUT */
#define BODY_MIN	1024		/* to which a 413 brings it down */
#define PIECE		16384		/* of an answer to a GET */

/* the streams' seeds: client to target, and back */
#define UP		1
#define DOWN		2

#define CONNS		12		/* to a gateway at once */
#define GATEWAYS	8
#define REQUESTS	2000		/* to a gateway in all */

static int
is_long(void)
{
	return getenv("HTTPTUN_LONG") != NULL;
}


/* ---- the gateway: requests ---------------------------------------------- */

/* A connection, and the request on it that waits for its answer. */
struct ask {
	int		 fd;		/* -1: no connection */
	int		 waits;		/* the request has come whole */
	unsigned	 serial;	/* of all requests to this gateway */
	char		*buf;		/* the request, and what is behind */
	size_t		 have, used;	/* bytes in buf, the request's */
	const char	*head;
	char		 method[8];
	char		 target[512];
	const char	*body;
	size_t		 len;
	uint64_t	 off;		/* Tunnel-Offset */
	int64_t		 end;		/* Tunnel-End, -1: none */
};

/* What a server would know of the one tunnel, and what each request on it
 * must be like. */
struct gateway {
	int		 lfd;
	unsigned	 port;
	const char	*hp;		/* 127.0.0.1:PORT */
	const char	*url;		/* poll://127.0.0.1:PORT/ */
	const char	*host;		/* the Host field */
	const char	*before;	/* a request-target, before the id */
	const char	*auth;		/* Authorization, NULL: none at all */
	const char	*pauth;		/* Proxy-Authorization */
	const char	*extra;		/* X-Extra */
	int		 many;		/* tunnels: ids and bytes unjudged */
	int		 accepted;	/* connections */
	unsigned	 requests;
	unsigned	 posts;
	struct ask	 asks[CONNS];
	char		 id[64];	/* the first request's */
	uint64_t	 fed;		/* bytes that stdin got */
	uint64_t	 up;		/* bytes that have come */
	int64_t		 upend;
	uint64_t	 down;		/* bytes there are for the client */
	uint64_t	 drained;	/* bytes that have left stdout */
	int		 ended;		/* no more come down */
	int		 deleted;	/* DELETEs */
};

static struct gateway gateways[GATEWAYS], *gw = gateways;

/* A fresh one; gw is it. */
static void
gateway(int nth)
{
	char *bufs[CONNS];
	size_t i;

	gw = &gateways[nth];
	for (i = 0; i < CONNS; i++)
		bufs[i] = gw->asks[i].buf;
	memset(gw, 0, sizeof(*gw));
	for (i = 0; i < CONNS; i++) {
		gw->asks[i].fd = -1;
		gw->asks[i].buf = bufs[i];
	}
	gw->lfd = kit_listen(AF_INET, &gw->port);
	gw->hp = gw->host = kit_str("127.0.0.1:%u", gw->port);
	gw->url = kit_str("poll://%s/", gw->hp);
	gw->before = "/";
	gw->upend = -1;
}

static int
is(const struct ask *a, const char *method)
{
	return a->waits && strcmp(a->method, method) == 0;
}

static int
under_way(const char *method)
{
	int i, n = 0;

	for (i = 0; i < CONNS; i++)
		n += is(&gw->asks[i], method);
	return n;
}

/* The number that a field must be: 1 to 18 digits. */
static int64_t
number(const struct ask *a, const char *name)
{
	const char *val = kit_one_field(a->head, name);
	size_t n;

	if (val == NULL)
		return -1;
	n = strspn(val, "0123456789");
	if (n < 1 || n > 18 || val[n] != '\0')
		kit_fail("%s: %s", name, val);
	return strtoll(val, NULL, 10);
}

static void
judge_field(const struct ask *a, const char *name, const char *value)
{
	const char *val = kit_one_field(a->head, name);

	if ((val == NULL) != (value == NULL) ||
	    (val != NULL && *value != '\0' && strcmp(val, value) != 0))
		kit_fail("%s is %s and not %s: <<%s>>", name, val == NULL ?
		    "missing" : val, value == NULL ? "missing" : value,
		    a->head);
}

static void
judge_target(const struct ask *a)
{
	size_t n = strlen(gw->before);
	const char *id = a->target + n;

	if (strncmp(a->target, gw->before, n) != 0 ||
	    strspn(id, "0123456789abcdefABCDEF") != 32 || id[32] != '\0')
		kit_fail("the target is %s", a->target);
	if (gw->id[0] == '\0')
		memcpy(gw->id, id, 33);
	if (!gw->many && strcmp(gw->id, id) != 0)
		kit_fail("the id is %s and was %s", id, gw->id);
}

/* A PUT brings the bytes that stdin got, and ends where they end. */
static void
judge_put(const struct ask *a)
{
	if (kit_field(a->head, "Content-Length") == NULL)
		kit_fail("a PUT without a length: <<%s>>", a->head);
	if (gw->many)
		return;
	if (a->off > gw->up || a->off + a->len > gw->fed)
		kit_fail("a PUT of %zu at %ju where %ju have come of %ju",
		    a->len, (uintmax_t)a->off, (uintmax_t)gw->up,
		    (uintmax_t)gw->fed);
	kit_check(a->body, a->len, UP, a->off);
	if (a->end != -1 && ((gw->upend != -1 && gw->upend != a->end) ||
	    (uint64_t)a->end != gw->fed))
		kit_fail("Tunnel-End: %jd, where %ju bytes were to go",
		    (intmax_t)a->end, (uintmax_t)gw->fed);
	if (gw->upend == -1)
		gw->upend = a->end;
}

/* Whatever a test is about, each request must be all this. */
static void
judge(struct ask *a)
{
	if (sscanf(a->head, "%7s %511s HTTP/1.1\r\n", a->method, a->target) != 2
	    || strncmp(a->head, kit_str("%s %s HTTP/1.1\r\n", a->method,
	    a->target), strlen(a->method) + strlen(a->target) + 12) != 0)
		kit_fail("no request line: <<%s>>", a->head);
	a->waits = 1;
	if ((a->serial = gw->requests++) == REQUESTS)
		kit_fail("more than %d requests: it spins", REQUESTS);
	kit_note("%s %.300s, %zu bytes, on %d", a->method, a->target, a->len,
	    a->fd);
	judge_target(a);
	judge_field(a, "Host", gw->host);
	judge_field(a, "Authorization", gw->auth);
	judge_field(a, "Proxy-Authorization", gw->pauth);
	judge_field(a, "X-Extra", gw->extra);
	judge_field(a, "Transfer-Encoding", NULL);
	judge_field(a, "Origin", NULL);
	judge_field(a, "Tunnel-Offset", "");
	a->off = (uint64_t)number(a, "Tunnel-Offset");
	if ((a->end = number(a, "Tunnel-End")) != -1 && !is(a, "PUT"))
		kit_fail("a %s with Tunnel-End", a->method);
	gw->posts += (unsigned)is(a, "POST");
	gw->deleted += is(a, "DELETE");
	if (is(a, "PUT"))
		judge_put(a);
	else if (is(a, "GET") ? !gw->many && a->off > gw->down : a->off != 0 &&
	    is(a, "POST"))
		kit_fail("a %s at %ju", a->method, (uintmax_t)a->off);
	else if (is(a, "POST") ? a->len == 0 : a->len != 0)
		kit_fail("a %s with %zu bytes", a->method, a->len);
	else if (!is(a, "POST") && !is(a, "GET") && !is(a, "DELETE"))
		kit_fail("a %s", a->method);
	if (under_way(a->method) > 2 && !gw->many)
		kit_fail("more than two %s are under way", a->method);
}

/* Is there a whole request? */
static void
look_at(struct ask *a)
{
	const char *end, *val;
	size_t n;

	if (a->waits && a->have > a->used)
		kit_fail("bytes behind a %s without an answer", a->method);
	a->buf[a->have] = '\0';
	if (a->waits || (end = strstr(a->buf, "\r\n\r\n")) == NULL)
		return;
	n = (size_t)(end - a->buf) + 4;
	a->head = kit_str("%.*s", (int)n, a->buf);
	val = kit_one_field(a->head, "Content-Length");
	a->len = val != NULL ? strtoul(val, NULL, 10) : 0;
	if (a->len > BODY_MAX)
		kit_fail("a body of %zu bytes", a->len);
	if (a->have < n + a->len)
		return;
	a->used = n + a->len;
	a->body = a->buf + n;
	judge(a);
}

/* The client has gone, or is to go. */
static void
forget(struct ask *a)
{
	(void)close(a->fd);
	a->fd = -1;
	a->waits = 0;
	a->have = a->used = 0;
}

static void
take_connection(void)
{
	struct ask *a = gw->asks;

	while (a < gw->asks + CONNS && a->fd != -1)
		a++;
	if (a == gw->asks + CONNS)
		kit_fail("more than %d connections at once", CONNS);
	if (a->buf == NULL && (a->buf = malloc(BODY_MAX + 65536)) == NULL)
		kit_fail("no memory");
	a->fd = kit_accept(gw->lfd);
	a->waits = 0;
	a->have = a->used = 0;
	gw->accepted++;
}

/* Take up what comes within so many ms.  Ends before requests: a request may
 * stand for one whose connection has ended. */
static void
turn(int ms)
{
	struct pollfd pfd[CONNS + 1];
	struct ask *a;
	int i, ready[CONNS] = { 0 };
	ssize_t n;

	for (i = 0; i < CONNS; i++)
		pfd[i].fd = gw->asks[i].fd;
	pfd[CONNS].fd = gw->lfd;
	for (i = 0; i <= CONNS; i++)
		pfd[i].events = POLLIN;
	if (poll(pfd, CONNS + 1, ms) <= 0)
		return;
	for (i = 0; i < CONNS; i++) {
		a = &gw->asks[i];
		if (pfd[i].fd == -1 || pfd[i].revents == 0)
			continue;
		n = recv(a->fd, a->buf + a->have,
		    BODY_MAX + 65535 - a->have, MSG_DONTWAIT);
		if (n > 0)
			a->have += (size_t)n;
		if (n == 0 || (n == -1 && errno != EAGAIN))
			forget(a);
		ready[i] = n > 0;
	}
	for (i = 0; i < CONNS; i++)
		if (ready[i])
			look_at(&gw->asks[i]);
	if (pfd[CONNS].revents != 0)
		take_connection();
}

/* The first request of this method that has no answer yet, or NULL. */
static struct ask *
pending(const char *method)
{
	struct ask *first = NULL;
	int i;

	for (i = 0; i < CONNS; i++)
		if (is(&gw->asks[i], method) && (first == NULL ||
		    gw->asks[i].serial < first->serial))
			first = &gw->asks[i];
	return first;
}

/* The same, waiting for it. */
static struct ask *
want(const char *method)
{
	int64_t end = kit_now() + kit_patience();
	struct ask *a;

	kit_note("wait for a %s", method);
	while ((a = pending(method)) == NULL) {
		if (kit_now() > end)
			kit_fail("no %s comes", method);
		turn(50);
	}
	return a;
}

/* None comes: the client rests without one. */
static void
none(struct kit_proc *p, const char *method)
{
	kit_idle(p);
	do
		turn(0);
	while (pending(method) == NULL &&
	    poll(&(struct pollfd){ gw->lfd, POLLIN, 0 }, 1, 0) > 0);
	if (pending(method) != NULL)
		kit_fail("a %s comes", method);
}

/* Nobody can connect any more, nobody is connected. */
static void
shut(void)
{
	int i;

	for (i = 0; i < CONNS; i++)
		if (gw->asks[i].fd != -1)
			forget(&gw->asks[i]);
	(void)close(gw->lfd);
	gw->lfd = -1;
}


/* ---- the gateway: answers ----------------------------------------------- */

static const char *
at(uint64_t off)
{
	return kit_str("Tunnel-Offset: %ju\r\n", (uintmax_t)off);
}

static const char *
at_end(uint64_t off, uint64_t end)
{
	return kit_str("%sTunnel-End: %ju\r\n", at(off), (uintmax_t)end);
}

/* The request has its answer, whatever that was; the connection stays. */
static void
done(struct ask *a)
{
	a->waits = 0;
	a->have -= a->used;
	memmove(a->buf, a->buf + a->used, a->have);
	a->used = 0;
	look_at(a);
}

static const char *
reason(int status)
{
	return status == 200 ? "OK" : status == 403 ? "Forbidden" :
	    status == 502 ? "Bad Gateway" : "Because";
}

/* Head, with these fields (each with its CRLF), and body in one write. */
static void
answer(struct ask *a, int status, const char *fields, const void *body,
    size_t len)
{
	static char buf[1024 + PIECE];
	int n;

	n = snprintf(buf, 1024, status == 204 ? "HTTP/1.1 %d %s\r\n%s\r\n" :
	    "HTTP/1.1 %d %s\r\n%sContent-Length: %zu\r\n\r\n", status,
	    reason(status), fields, len);
	assert_true(n > 0 && n < 1024 && len <= PIECE);
	if (len > 0)
		memcpy(buf + n, body, len);
	kit_note("answer %s on %d: %d", a->method, a->fd, status);
	kit_send(a->fd, buf, (size_t)n + len);
	done(a);
}

static void
says(struct ask *a, int status, const char *fields, const char *body)
{
	answer(a, status, fields, body, strlen(body));
}

/* An intermediary's own answer. */
static void
page(struct ask *a, int status)
{
	says(a, status, "Server: between\r\nContent-Type: text/html\r\n",
	    status == 204 ? "" : "<html>no tunnel's bytes</html>\n");
}

/* A 200 for bytes that there are. */
static void
piece(struct ask *a, uint64_t n, const char *fields)
{
	static char buf[PIECE];

	kit_fill(buf, (size_t)n, DOWN, a->off);
	answer(a, 200, fields, buf, (size_t)n);
}

static void
cut(struct ask *a, enum kit_way how)
{
	int fd = dup(a->fd);

	kit_note("cut %s on %d", a->method, a->fd);
	forget(a);
	kit_vanish(fd, how);
}

/* What a good server says; 0 when it would wait. */
static int
serve(struct ask *a)
{
	uint64_t n;

	if (is(a, "PUT")) {
		if (a->off + a->len > gw->up)
			gw->up = a->off + a->len;
		says(a, 200, at(gw->up), "");
	} else if (is(a, "GET")) {
		n = gw->down - a->off;
		if (n == 0 && !gw->ended)
			return 0;
		if (n == 0)
			says(a, 204, at_end(a->off, gw->down), "");
		else if (n <= PIECE && gw->ended)
			piece(a, n, at_end(a->off, gw->down));
		else
			piece(a, n < PIECE ? n : PIECE, at(a->off));
	} else
		says(a, 200, at(0), "");
	return 1;
}

static void
serve_all(void)
{
	int i;

	for (i = 0; i < CONNS; i++)
		if (gw->asks[i].waits)
			(void)serve(&gw->asks[i]);
}

/* Be a good server until the client has ended. */
static void
attend(struct kit_proc *p)
{
	int64_t end = kit_now() + kit_patience();

	while (kit_alive(p)) {
		if (kit_now() > end)
			kit_fail("process %ld does not end", (long)p->pid);
		turn(20);
		serve_all();
	}
}

/* Be one until so many bytes have come. */
static void
take_up(uint64_t bytes)
{
	int64_t end = kit_now() + kit_patience();

	while (gw->up < bytes) {
		if (kit_now() > end)
			kit_fail("%ju bytes have come, not %ju",
			    (uintmax_t)gw->up, (uintmax_t)bytes);
		turn(20);
		serve_all();
	}
}


/* ---- the gateway's client ----------------------------------------------- */

/* stdin gets more of its stream. */
static void
feed(struct kit_proc *p, size_t n)
{
	static char buf[65536];

	assert_true(n <= sizeof(buf));
	kit_fill(buf, n, UP, gw->fed);
	gw->fed += n;
	kit_send(p->in, buf, n);
}

/* stdout has more of its. */
static void
drain(struct kit_proc *p, size_t n)
{
	static char buf[65536];

	assert_true(n <= sizeof(buf));
	kit_recv(p->out, buf, n);
	kit_check(buf, n, DOWN, gw->drained);
	gw->drained += n;
}

/* There are more bytes for the client: it asks, gets and prints them. */
static void
give(struct kit_proc *p, size_t n)
{
	uint64_t goal = gw->down + n;
	struct ask *a;

	gw->down = goal;
	while (gw->drained < goal) {
		a = want("GET");
		if (a->off != gw->drained)
			kit_fail("a GET at %ju where stdout has %ju",
			    (uintmax_t)a->off, (uintmax_t)gw->drained);
		n = goal - a->off < PIECE ? (size_t)(goal - a->off) : PIECE;
		(void)serve(a);
		drain(p, n);
	}
}

/* stdin's bytes come, in whatever PUTs. */
static void
bring(struct kit_proc *p, size_t n)
{
	feed(p, n);
	take_up(gw->fed);
}

/* Its descriptors are as many again. */
static void
fds_back(struct kit_proc *p, int n)
{
	int64_t end = kit_now() + kit_patience();

	while (kit_fds(p->pid) > n) {
		if (kit_now() > end)
			kit_fail("%d descriptors, not %d", kit_fds(p->pid), n);
		kit_idle(p);
	}
}

/* The POST's form; an IPv6 address may stand in brackets. */
static void
form_is(const struct ask *a, const char *host, const char *port)
{
	char got[512];
	size_t i, n = 0;

	for (i = 0; i < a->len && n + 1 < sizeof(got); i++) {
		if (a->body[i] == '%' && i + 2 < a->len) {
			got[n++] = (char)strtol(kit_str("%.2s", a->body + i +
			    1), NULL, 16);
			i += 2;
		} else
			got[n++] = a->body[i] == '+' ? ' ' : a->body[i];
	}
	got[n] = '\0';
	if (strcmp(got, kit_str("host=%s&port=%s", host, port)) != 0 &&
	    (strchr(host, ':') == NULL || strcmp(got,
	    kit_str("host=[%s]&port=%s", host, port)) != 0))
		kit_fail("the form is <<%s>> and not host=%s&port=%s", got,
		    host, port);
}

/* It asks for the tunnel and gets it. */
static struct kit_proc *
opens(struct kit_proc *p)
{
	struct ask *a = want("POST");

	form_is(a, HOST, PORT);
	(void)serve(a);
	return p;
}

static struct kit_proc *
client(void)
{
	return kit_httptun(NULL, "-x", gw->url, HOST, PORT, NONE);
}

/* A tunnel through a fresh gateway. */
static struct kit_proc *
tunnel(void)
{
	gateway(0);
	return opens(client());
}

/* Both directions have ended: so does the client, in order. */
static void
ends_well(struct kit_proc *p)
{
	attend(p);
	if (gw->up != gw->fed || gw->upend != (int64_t)gw->fed)
		kit_fail("%ju of %ju bytes came, and Tunnel-End: %jd",
		    (uintmax_t)gw->up, (uintmax_t)gw->fed,
		    (intmax_t)gw->upend);
	drain(p, (size_t)(gw->down - gw->drained));
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "");
	if (gw->deleted != 1)
		kit_fail("%d DELETEs", gw->deleted);
	kit_done(p);
}

static void
farewell(struct kit_proc *p)
{
	kit_half_close(p->in);
	gw->ended = 1;
	ends_well(p);
}

/* It has never taken much. */
static void
flat(struct kit_proc *p)
{
	if (!kit_sanitized() && kit_status(p->pid, "VmHWM") >= PEAK)
		kit_fail("%ld KiB of memory", kit_status(p->pid, "VmHWM"));
}

/* It has ended with 1, a line for people and nothing on stdout. */
static void
complains(struct kit_proc *p, const char *what)
{
	const char *s;
	size_t i;

	kit_exits(p, 1);
	if (p->out != -1)
		kit_eof(p->out);
	s = kit_err(p);
	for (i = 0; s[i] >= 0x20 && s[i] <= 0x7e; i++)
		;
	if (strncmp(s, "httptun: ", 9) != 0 || s[i] != '\n' ||
	    s[i + 1] != '\0')
		kit_fail("not one clean line: <<%s>>", s);
	kit_err_has(p, what);
}

/* It has given up an open tunnel because of the gateway. */
static void
gives_up(struct kit_proc *p, const char *what)
{
	attend(p);
	complains(p, gw->hp);
	complains(p, what);
	if (gw->deleted == 0)
		kit_fail("no DELETE has come");
	kit_done(p);
}


/* ---- requests ----------------------------------------------------------- */

/* A tunnel of each kind of URL and target. */
static void
forms(void **state)
{
	static const struct {
		const char	*path, *before, *host;
	} cases[] = {
		{ "/", "/", HOST },
		{ "", "/", HOST },
		{ "/a/b/", "/a/b/", HOST },
		{ "/a", "/a/", HOST },
		{ "/p%20q/", "/p%20q/", HOST },
		{ "/", "/", "192.0.2.1" },
		{ "/", "/", "::1" },
		{ "/", "/", "2001:db8::7" },
	};
	struct kit_proc *p;
	char last[64] = "";
	struct ask *a;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		gateway(0);
		gw->before = cases[i].before;
		p = kit_httptun(NULL, "-x", kit_str("poll://%s%s", gw->hp,
		    cases[i].path), cases[i].host, PORT, NONE);
		a = want("POST");
		form_is(a, cases[i].host, PORT);
		(void)serve(a);
		bring(p, 100);
		give(p, 100);
		farewell(p);
		if (strcmp(last, gw->id) == 0)
			kit_fail("the id is always %s", last);
		memcpy(last, gw->id, sizeof(last));
	}
}

static void
carrier_by_option(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway(0);
	p = opens(kit_httptun(NULL, "-X", "poll", "-x", gw->hp, HOST, PORT,
	    NONE));
	bring(p, 1);
	give(p, 1);
	farewell(p);
}

/* -H is for each of them. */
static void
further_fields(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway(0);
	gw->extra = "a b";
	p = opens(kit_httptun(NULL, "-H", "X-Extra: a b", "-x", gw->url, HOST,
	    PORT, NONE));
	bring(p, 1);
	give(p, 1);
	farewell(p);
}

/* There is always a GET, whatever the PUTs do, and two connections do. */
static void
always_a_get(void **state)
{
	struct kit_proc *p = tunnel();
	struct ask *put;
	int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		give(p, 1000);
		(void)want("GET");
		bring(p, 100);
		(void)want("GET");
	}
	feed(p, 10);
	put = want("PUT");
	for (i = 0; i < 5; i++)
		give(p, 100);
	if (!is(put, "PUT"))
		kit_fail("the PUT has gone");
	(void)serve(put);
	give(p, 3 * PIECE);
	farewell(p);
	if (gw->accepted > 2)
		kit_fail("%d connections", gw->accepted);
}

/* -I: an answer that comes a byte at a time is not idle. */
static void
slow_answer(void **state)
{
	struct kit_proc *p;
	struct ask *a;
	int64_t end;

	(void)state;
	gateway(0);
	p = opens(kit_httptun(NULL, "-I", "1", "-x", gw->url, HOST, PORT,
	    NONE));
	a = want("GET");
	kit_puts(a->fd, kit_str("HTTP/1.1 200 OK\r\n%sContent-Length: "
	    "1000\r\n\r\n", at(0)));
	a->waits = 0;			/* it has all it will get */
	for (end = kit_now() + 1300; kit_now() < end; ) {
		kit_puts(a->fd, "x");
		kit_expect(p->out, "x");
		(void)poll(NULL, 0, 20);
	}
	attend(p);
	complains(p, "idle");
}

/* The same bytes again and again, as the server can take none, are. */
static void
stalled_target(void **state)
{
	struct kit_proc *p;
	struct ask *a;
	int64_t end = kit_now() + kit_patience(), held = 0;

	(void)state;
	gateway(0);
	p = opens(kit_httptun(NULL, "-I", "2", "-x", gw->url, HOST, PORT,
	    NONE));
	feed(p, 10);
	for (; kit_alive(p); turn(20)) {
		if (kit_now() > end)
			kit_fail("it is not idle");
		if ((a = pending("DELETE")) != NULL)
			(void)serve(a);
		if ((a = pending("PUT")) == NULL)
			held = kit_now();
		else if (kit_now() > held + 1100)
			says(a, 200, at(0), "");
	}
	complains(p, "idle");
}

/* Connections that do not stay are no trouble. */
static void
no_keep_alive(void **state)
{
	struct kit_proc *p = tunnel();
	struct ask *a;
	int i;

	(void)state;
	for (i = 0; i < 8; i++) {
		feed(p, 10);
		a = want("PUT");
		gw->up = gw->fed;
		says(a, 200, kit_str("Connection: %s\r\n%s", i < 4 ? "close" :
		    "x, Close", at(gw->up)), "");
		cut(a, i % 2 ? KIT_WAY_HALF : KIT_WAY_CLOSE);
		a = want("GET");
		gw->down += 10;
		piece(a, 10, kit_str("connection: close\r\n%s", at(a->off)));
		cut(a, KIT_WAY_CLOSE);
		drain(p, 10);
	}
	farewell(p);
}

/* What stdin brings while a PUT is under way goes in one, after it. */
static void
writes_are_joined(void **state)
{
	struct kit_proc *p = tunnel();
	struct ask *a;
	int i, round;

	(void)state;
	for (round = 0; round < 3; round++) {
		feed(p, 1000);
		a = want("PUT");
		assert_int_equal(a->off, gw->up);
		for (i = 0; i < 3; i++) {
			feed(p, 700);
			kit_idle(p);
			turn(0);
		}
		if (under_way("PUT") != 1)
			kit_fail("%d PUTs", under_way("PUT"));
		(void)serve(a);
		a = want("PUT");
		if (a->off + a->len != gw->fed)
			kit_fail("a PUT of %zu at %ju, and not all of %ju",
			    a->len, (uintmax_t)a->off, (uintmax_t)gw->fed);
		(void)serve(a);
	}
	farewell(p);
}

/* stdin may be ahead of the tunnel, or end before it is there. */
static void
early_stdin(void **state)
{
	struct kit_proc *p;
	struct ask *post;

	(void)state;
	gateway(0);
	p = client();
	feed(p, 5000);
	kit_half_close(p->in);
	post = want("POST");
	kit_idle(p);
	turn(0);
	(void)serve(post);
	take_up(5000);
	give(p, 50);
	gw->ended = 1;
	ends_well(p);
}

static void
open_and_close(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway(0);
	p = kit_httptun(NULL, "-z", "-x", gw->url, HOST, PORT, NONE);
	kit_puts(p->in, "not to be sent");
	(void)opens(p);
	attend(p);
	kit_exits(p, 0);
	kit_eof(p->out);
	kit_err_is(p, "");
	assert_int_equal(gw->deleted, 1);

	/* there is no socket that could be passed */
	p = kit_httptun(&(struct kit_opt){ .out = KIT_SOCK }, "-F", "-x",
	    gw->url, HOST, PORT, NONE);
	kit_exits(p, 2);
	kit_err_has(p, "-F");
	turn(0);
	assert_int_equal(gw->posts, 1);
}


/* ---- credentials -------------------------------------------------------- */

#define CREDENTIALS	"user:p@ss"
#define BASIC_401	"WWW-Authenticate: Basic realm=\"r\"\r\n"
#define DIGEST_401	"WWW-Authenticate: Digest realm=\"r\", nonce=\"n0\", " \
			"qop=\"auth\", algorithm=SHA-256\r\n"

static const char *
gateway_with(const char *userinfo)
{
	return kit_str("poll://%s@%s/", userinfo, gw->hp);
}

/* They are told when asked for, then in each request. */
static void
after_a_challenge(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway(0);
	p = kit_httptun(NULL, "-x", gateway_with("user:p%40ss"), HOST, PORT,
	    NONE);
	says(want("POST"), 401, kit_str("%s" BASIC_401, at(0)), "who?\n");
	gw->auth = kit_basic(CREDENTIALS);
	(void)opens(p);
	bring(p, 100);
	give(p, 100);
	bring(p, 100);
	farewell(p);
}

static void
at_once(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway(0);
	gw->auth = kit_basic(CREDENTIALS);
	p = opens(kit_httptun(NULL, "-A", "basic", "-x",
	    gateway_with("user:p@ss"), HOST, PORT, NONE));
	bring(p, 100);
	give(p, 100);
	farewell(p);
}

/* Wrong ones, or none: the tunnel is refused. */
static void
refused_credentials(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway(0);
	p = kit_httptun(NULL, "-x", gateway_with(CREDENTIALS), HOST, PORT,
	    NONE);
	says(want("POST"), 401, kit_str("%s" BASIC_401, at(0)), "who?\n");
	gw->auth = "";
	says(want("POST"), 401, kit_str("%s" BASIC_401, at(0)), "no!\n");
	attend(p);
	complains(p, kit_str("%s: 401 ", gw->hp));
	assert_int_equal(gw->posts, 2);

	gateway(0);
	p = client();
	says(want("POST"), 401, kit_str("%s" BASIC_401, at(0)), "who?\n");
	attend(p);
	complains(p, kit_str("%s: 401 ", gw->hp));
	assert_int_equal(gw->posts, 1);
}

/* A Digest is each request's own (RFC 7616, 3.4). */
static void
digest(const struct ask *a, int seen[100])
{
	const char *val = kit_must_have(a->head, "Authorization", "Digest ");
	const char *nc = strstr(val, "nc=");
	int n;

	if (strstr(val, kit_str("uri=\"%s\"", a->target)) == NULL)
		kit_fail("another uri: <<%s>>", a->head);
	n = nc != NULL ? (int)strtol(nc + 3, NULL, 16) : 0;
	if (n < 1 || n >= 100 || seen[n]++)
		kit_fail("a bad nc: <<%s>>", a->head);
}

static void
digests(void **state)
{
	static const char *const methods[] = { "POST", "GET", "PUT" };
	struct kit_proc *p;
	struct ask *a;
	int seen[100] = { 0 }, i;

	(void)state;
	p = kit_httptun(NULL, "-A", "digest", "-h", NONE);
	if (kit_wait(p) != 0) {
		print_message("no Digest in this version: not tested\n");
		skip();
	}
	gateway(0);
	p = kit_httptun(NULL, "-x", gateway_with(CREDENTIALS), HOST, PORT,
	    NONE);
	says(want("POST"), 401, kit_str("%s" BASIC_401 DIGEST_401, at(0)),
	    "who?\n");
	gw->auth = "";
	for (i = 0; i < 11; i++) {
		a = want(methods[i == 0 ? 0 : 1 + i % 2]);
		digest(a, seen);
		gw->down += 10;
		(void)serve(a);
		if (i % 2 == 0)
			feed(p, 10);
	}
	farewell(p);
}

static void
bears(struct ask *a, const char *nonce)
{
	const char *val = kit_must_have(a->head, "Authorization", "Digest ");

	if (strstr(val, kit_str("nonce=\"%s\"", nonce)) == NULL)
		kit_fail("not with %s: <<%s>>", nonce, a->head);
}

/* Each session has its own nonces; one that is too old is replaced as often as
 * need be, but not for ever. */
static void
nonces(void **state)
{
	static const char stale[] = "Tunnel-Offset: 0\r\nWWW-Authenticate: "
	    "Digest realm=\"r\", nonce=\"n%d\", qop=\"auth\", stale=true\r\n";
	struct kit_proc *p;
	struct ask *a;
	int c, d, i;

	(void)state;
	gateway(0);
	gw->many = 1;
	gw->auth = NULL;
	p = kit_httptun(NULL, "-v", "-x", gateway_with(CREDENTIALS), "-L",
	    "0:" HOST ":" PORT, NONE);
	c = kit_connect(AF_INET, kit_listening(p, 0));
	says(want("POST"), 401, kit_str(stale, 0), "who?\n");
	gw->auth = "";
	a = want("POST");
	bears(a, "n0");
	(void)serve(a);
	bears(want("GET"), "n0");
	gw->auth = NULL;
	d = kit_connect(AF_INET, kit_listening(p, 0));
	says(want("POST"), 401, kit_str(stale, 1), "who?\n");
	gw->auth = "";
	a = want("POST");
	bears(a, "n1");
	(void)serve(a);
	kit_puts(c, "x");
	a = want("PUT");
	bears(a, "n0");
	/* some more in a row, twice */
	for (i = 2; i < 9; i++) {
		says(a, 401, kit_str(stale, i), "late\n");
		a = want("PUT");
		bears(a, kit_str("n%d", i));
		if (i == 5) {
			says(a, 200, at(1), "");
			kit_puts(c, "x");
			a = want("PUT");
			bears(a, "n5");
		}
	}
	for (; i < 15 && kit_alive(p) && pending("DELETE") == NULL; i++) {
		says(a, 401, kit_str(stale, i), "late\n");
		while ((a = pending("PUT")) == NULL &&
		    pending("DELETE") == NULL)
			turn(20);
	}
	if (i == 15)
		kit_fail("for ever");
	kit_ends(c);
	(void)serve(want("DELETE"));
	kit_err_wait(p, "each nonce is too old");
	kit_puts(d, "x");
	bears(want("PUT"), "n1");
}


/* ---- a proxy on the way ------------------------------------------------- */

/* The scripted gateway is it: absolute-form, and no look-up here. */
static void
through_a_proxy(void **state)
{
	static const struct {
		const char	*url, *host;
	} cases[] = {
		{ "gw.example:8081/in/", "gw.example:8081" },
		{ "gw.example/in/", "gw.example" },
		{ "gw.example:80/in/", "gw.example" },
		{ "[2001:db8::1]:8081/in/", "[2001:db8::1]:8081" },
	};
	struct kit_proc *p;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		gateway(0);
		gw->host = cases[i].host;
		gw->before = kit_str("http://%s/in/", cases[i].host);
		p = opens(kit_httptun(NULL, "-x", gw->hp, "-x",
		    kit_str("poll://%s", cases[i].url), HOST, PORT, NONE));
		bring(p, 100);
		give(p, 100);
		farewell(p);
	}
}

/* A client of gw.example:81, which gw forwards to, a proxy that knows a:1. */
static struct kit_proc *
by_a_proxy(const char *url)
{
	gateway(0);
	gw->host = "gw.example:81";
	gw->before = "http://gw.example:81/";
	return kit_httptun(NULL, "-x", kit_str("http://a:1@%s", gw->hp), "-x",
	    url, HOST, PORT, NONE);
}

/* Each of the two asks for its own credentials. */
static void
credentials_of_both(void **state)
{
	struct kit_proc *p;

	(void)state;
	p = by_a_proxy("poll://b:2@gw.example:81/");
	says(want("POST"), 407, "Proxy-Authenticate: Basic realm=\"p\"\r\n",
	    "who?\n");
	gw->pauth = kit_basic("a:1");
	says(want("POST"), 401, kit_str("%s" BASIC_401, at(0)), "who?\n");
	gw->auth = kit_basic("b:2");
	(void)opens(p);
	bring(p, 100);
	give(p, 100);
	bring(p, 100);
	farewell(p);

	p = by_a_proxy("poll://gw.example:81/");
	says(want("POST"), 407, "Proxy-Authenticate: Basic realm=\"p\"\r\n",
	    "who?\n");
	gw->pauth = kit_basic("a:1");
	says(want("POST"), 407, "Proxy-Authenticate: Basic realm=\"p\"\r\n",
	    "no!\n");
	attend(p);
	complains(p, kit_str("%s: 407 ", gw->hp));
}

/* Who refuses a body may never read on: squid, when a nonce is too old. */
static void
refused_body(void **state)
{
	static const char stale[] = "Proxy-Authenticate: Digest realm=\"p\", "
	    "nonce=\"n%d\", qop=\"auth\", stale=true\r\n";
	struct kit_proc *p;
	int accepted;

	(void)state;
	p = by_a_proxy("poll://gw.example:81/");
	says(want("POST"), 407, kit_str(stale, 0), "who?\n");
	gw->pauth = "";
	(void)opens(p);
	bring(p, 100);
	give(p, 100);
	accepted = gw->accepted;
	feed(p, 100);
	says(want("PUT"), 407, kit_str(stale, 1), "late\n");
	(void)want("PUT");
	assert_int_equal(gw->accepted, accepted + 1);
	bring(p, 100);
	give(p, 100);
	farewell(p);
}


/* ---- answers that are none ---------------------------------------------- */

static const int asked_again[] = {
	408, 425, 429, 500, 502, 503, 504, 200, 204
};

/* An intermediary's: the request comes again, none of its bytes gets out. */
static void
again_when_open(void **state)
{
	struct kit_proc *p = tunnel();
	struct ask *a;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(asked_again); i++) {
		feed(p, 10);
		a = want("PUT");
		assert_int_equal(a->off, gw->up);
		(void)want("GET");
		page(a, asked_again[i]);
		page(pending("GET"), asked_again[i]);
		a = want("PUT");
		assert_int_equal(a->off, gw->up);
		(void)serve(a);
		give(p, 10);
	}
	farewell(p);
}

/* On a POST a 200 is somebody else's server. */
static void
again_when_asking(void **state)
{
	struct kit_proc *p[KIT_COUNT(asked_again)];
	int i, n = 0;

	(void)state;
	for (i = 0; i < (int)KIT_COUNT(asked_again); i++)
		if (asked_again[i] != 200) {
			gateway(n);
			p[n++] = client();
			page(want("POST"), asked_again[i]);
		}
	for (i = 0; i < n; i++) {
		gw = &gateways[i];
		(void)opens(p[i]);
		assert_int_equal(gw->posts, 2);
		bring(p[i], 1);
		give(p[i], 1);
		farewell(p[i]);
	}
}

/* Any other status ends it. */
static void
never_again(void **state)
{
	static const int final[] = { 301, 302, 400, 403, 404, 405, 418, 501 };
	static const char *const methods[] = { "POST", "PUT", "GET" };
	struct kit_proc *p;
	size_t i, j;

	(void)state;
	for (i = 0; i < KIT_COUNT(final) * KIT_COUNT(methods); i++) {
		gateway(0);
		j = i % KIT_COUNT(methods);
		p = client();
		if (j == 0) {
			page(want("POST"), final[i / KIT_COUNT(methods)]);
			attend(p);
			complains(p, kit_str("%s: %d ", gw->hp,
			    final[i / KIT_COUNT(methods)]));
			assert_int_equal(gw->posts, 1);
			kit_done(p);
			continue;
		}
		feed(opens(p), 10);
		page(want(methods[j]), final[i / KIT_COUNT(methods)]);
		gives_up(p, "");
	}
}

/* Pauses before the next time: 50 ms, doubling.  An empty answer that came at
 * once is not asked for all the time either: 10 ms, doubling. */
static void
pauses(void **state)
{
	struct kit_proc *p = tunnel();
	int64_t start, put = 0, get = 0;
	int puts = 0, gets = 0;

	(void)state;
	feed(p, 10);
	(void)want("PUT");
	(void)want("GET");
	start = kit_now();
	while (put == 0 || get == 0) {
		if (kit_now() > start + kit_patience())
			kit_fail("%d PUTs, %d GETs", puts, gets);
		turn(50);
		if (put == 0 && pending("PUT") != NULL) {
			if (puts++ < 4)
				page(pending("PUT"), 503);
			else
				put = kit_now() - start;
		}
		if (get == 0 && pending("GET") != NULL) {
			if (gets++ < 6)
				says(pending("GET"), 204, at(0), "");
			else
				get = kit_now() - start;
		}
	}
	/* milliseconds may be a little less than that */
	if (put < 50 + 100 + 200 + 400 - 50)
		kit_fail("5 PUTs in %jd ms", (intmax_t)put);
	if (get < 10 + 20 + 40 + 80 + 160 + 320 - 30)
		kit_fail("7 GETs in %jd ms", (intmax_t)get);
	give(p, 10);
	farewell(p);
}

/* Nor is a PUT that is told each time at once that nothing of it, or of the
 * end, was taken. */
static void
puts_in_vain(void **state)
{
	struct kit_proc *p = tunnel();
	int64_t start;
	int i, round;

	(void)state;
	for (round = 0; round < 3; round++) {
		if (round < 2)
			feed(p, 10);
		else
			kit_half_close(p->in);
		(void)want("PUT");
		start = kit_now();
		for (i = 0; i < 6; i++)
			says(want("PUT"), round % 2 ? 200 : 409, at(gw->up),
			    "");
		(void)want("PUT");
		/* milliseconds may be a little less than that */
		if (kit_now() - start < 10 + 20 + 40 + 80 + 160 + 320 - 30)
			kit_fail("7 PUTs in %jd ms", (intmax_t)(kit_now() -
			    start));
		(void)serve(want("PUT"));
	}
	gw->ended = 1;
	ends_well(p);
}

/* 413, whoever says it: smaller bodies, down to a limit. */
static void
too_large_for(size_t limit, int closes)
{
	struct kit_proc *p;
	size_t most = BODY_MAX;
	struct ask *a;
	const char *path;

	gateway(0);
	path = kit_stream_file("stdin", 100000, UP);
	gw->fed = 100000;
	p = opens(kit_httptun(&(struct kit_opt){ .in = open(path, O_RDONLY) },
	    "-x", gw->url, HOST, PORT, NONE));
	while (gw->up < gw->fed) {
		a = want("PUT");
		if (a->len > most)
			kit_fail("%zu bytes again", a->len);
		if (a->len <= limit) {
			(void)serve(a);
			continue;
		}
		if (a->len <= BODY_MIN)
			break;
		most = a->len / 2 > BODY_MIN ? (a->len + 1) / 2 : BODY_MIN;
		says(a, 413, closes ? "Connection: close\r\n" : "",
		    "too much\n");
		if (closes)
			cut(a, KIT_WAY_CLOSE);
	}
	if (limit < BODY_MIN) {
		page(want("PUT"), 413);
		gives_up(p, "413");
		return;
	}
	gw->ended = 1;
	ends_well(p);
}

static void
too_large(void **state)
{
	(void)state;
	too_large_for(65536, 1);
	too_large_for(8192, 0);
	too_large_for(BODY_MIN, 1);
	too_large_for(BODY_MIN - 1, 0);
}

/* 408: the way is too slow for such bodies; they are as long as before once it
 * is fast again. */
static void
slow_way(void **state)
{
	const size_t all = 2 << 20;
	struct kit_proc *p;
	struct ask *a;
	size_t last = 0, most = 0;
	int i;

	(void)state;
	gateway(0);
	gw->fed = all;
	p = opens(kit_httptun(&(struct kit_opt){ .in = open(kit_stream_file(
	    "stdin", all, UP), O_RDONLY) }, "-x", gw->url, HOST, PORT, NONE));
	for (i = 0; i < 4; i++) {
		a = want("PUT");
		if (last != 0 && a->len > last / 2)
			kit_fail("%zu bytes after %zu", a->len, last);
		last = a->len;
		page(a, 408);
	}
	while (gw->up < gw->fed) {
		a = want("PUT");
		most = a->len > most ? a->len : most;
		(void)serve(a);
	}
	if (most < 4 * last)
		kit_fail("%zu bytes at most, and %zu before", most, last);
	gw->ended = 1;
	ends_well(p);
}


/* ---- answers that end it ------------------------------------------------ */

/* A POST that the gateway itself refuses. */
static void
refused(void **state)
{
	static const struct {
		int		 status;
		const char	*line;
	} cases[] = {
		{ 403, "403 Forbidden" }, { 502, "502 Bad Gateway" },
		{ 504, "504 " }, { 503, "503 " }, { 409, "409 " },
		{ 400, "400 " }, { 404, "404 " }, { 500, "500 " },
	};
	struct kit_proc *p;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		gateway(0);
		p = client();
		kit_puts(p->in, "not to be lost in silence");
		says(want("POST"), cases[i].status, kit_str("%sProxy-Status: "
		    "httptun; error=x\r\n", at(0)), "\033[31mno\r\n\r\n");
		attend(p);
		complains(p, kit_str("%s: %s", gw->hp, cases[i].line));
		kit_err_has(p, ": \\x1b[31mno\n");
		assert_int_equal(gw->posts, 1);
		kit_done(p);
	}
}

/* The tunnel broke behind the gateway, or the gateway has lost it. */
static void
gone(void **state)
{
	static const char *const methods[] = { "PUT", "GET" };
	static const int statuses[] = { 410, 404 };
	struct kit_proc *p;
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		p = tunnel();
		bring(p, 10);
		give(p, 10);
		feed(p, 10);
		says(want(methods[i % 2]), statuses[i / 2], at(0), "gone\n");
		gives_up(p, "");
	}
}

/* Where both sides have had 10 bytes and stdin 5 more, in a PUT. */
static struct kit_proc *
half_way(void)
{
	struct kit_proc *p = tunnel();

	bring(p, 10);
	give(p, 10);
	feed(p, 5);
	(void)want("GET");
	(void)want("PUT");
	return p;
}

/* Offsets that cannot be: bytes would be lost or come twice. */
static void
impossible(void **state)
{
	static const struct {
		const char	*method;
		int		 status;
		uint64_t	 off;
		int		 end;		/* -1: none */
		const char	*body;
	} cases[] = {
		{ "PUT", 200, 9, -1, "" },
		{ "PUT", 200, 0, -1, "" },
		{ "PUT", 200, 16, -1, "" },
		{ "PUT", 200, 999999999999999999, -1, "" },
		{ "PUT", 409, 9, -1, "no\n" },
		{ "PUT", 409, 16, -1, "no\n" },
		{ "GET", 200, 9, -1, "bytes" },
		{ "GET", 200, 11, -1, "bytes" },
		{ "GET", 200, 0, -1, "bytes" },
		{ "GET", 204, 11, -1, "" },
		{ "GET", 409, 11, -1, "no\n" },
		{ "GET", 200, 10, 14, "bytes" },
		{ "GET", 200, 10, 0, "bytes" },
		{ "GET", 204, 10, 9, "" },
	};
	struct kit_proc *p;
	const char *fields;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		p = half_way();
		fields = cases[i].end == -1 ? at(cases[i].off) :
		    at_end(cases[i].off, (uint64_t)cases[i].end);
		says(pending(cases[i].method), cases[i].status, fields,
		    cases[i].body);
		/* "bytes" may be out before the end is known to be wrong */
		attend(p);
		if (cases[i].end != -1 && cases[i].status == 200)
			(void)kit_until_end(p->out);
		gives_up(p, "");
	}
}

/* What is no offset at all is not as if there were none. */
static void
malformed(void **state)
{
	static const char *const fields[] = {
		"Tunnel-Offset: -1\r\n", "Tunnel-Offset: x\r\n",
		"Tunnel-Offset: 1000000000000000000\r\n",
		"Tunnel-Offset: 10\r\nTunnel-Offset: 10\r\n",
		"Tunnel-Offset: 10\r\nTunnel-End: -1\r\n",
	};
	static const char *const methods[] = { "PUT", "GET" };
	struct kit_proc *p;
	size_t i;

	(void)state;
	for (i = 0; i < 2 * KIT_COUNT(fields); i++) {
		kit_note("case %zu", i);
		p = half_way();
		says(pending(methods[i % 2]), 200, fields[i / 2], "");
		gives_up(p, "malformed");
	}
	for (i = 0; i < KIT_COUNT(fields); i++) {
		gateway(0);
		p = client();
		says(want("POST"), 200, fields[i], "");
		attend(p);
		complains(p, "malformed");
		kit_done(p);
	}
}

/* Nor can it have what has not been sent yet. */
static void
ahead_of_us(void **state)
{
	static const int statuses[] = { 200, 409 };
	struct kit_proc *p;
	struct ask *a;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(statuses); i++) {
		p = half_way();
		a = pending("PUT");
		assert_int_equal(a->off + a->len, 15);
		feed(p, 10);
		kit_idle(p);
		says(a, statuses[i], at(16), "");
		gives_up(p, "impossible");
	}
}

/* The end that was told before is another. */
static void
another_end(void **state)
{
	static const struct {
		int		 status;
		uint64_t	 end;
		const char	*body;
	} cases[] = {
		{ 204, 21, "" }, { 204, 19, "" }, { 200, 21, "x" },
		{ 200, 0, "more than there was to be" },	/* no End */
	};
	struct kit_proc *p;
	const char *fields;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		p = half_way();
		gw->down = 20;
		piece(pending("GET"), 5, at_end(10, 20));
		drain(p, 5);
		fields = cases[i].end == 0 ? at(15) : at_end(15, cases[i].end);
		says(want("GET"), cases[i].status, fields, cases[i].body);
		attend(p);
		if (cases[i].status == 200)
			(void)kit_until_end(p->out);
		gives_up(p, "");
	}
}


/* ---- answers that are less, or cut, or framed otherwise ----------------- */

/* A PUT of which only a part was taken. */
static void
part_of_a_put(void **state)
{
	struct kit_proc *p = tunnel();
	struct ask *a;

	(void)state;
	feed(p, 1000);
	a = want("PUT");
	assert_int_equal(a->len, 1000);
	gw->up = 300;
	says(a, 200, at(300), "");
	a = want("PUT");
	assert_int_equal(a->off, 300);
	assert_int_equal(a->len, 700);
	gw->up = 500;
	says(a, 409, at(500), "no\n");
	a = want("PUT");
	assert_int_equal(a->off, 500);
	says(a, 200, at(500), "");		/* none of it */
	a = want("PUT");
	assert_int_equal(a->off, 500);
	gw->up = 600;
	says(a, 408, at(600), "late\n");	/* the rest did not come */
	a = want("PUT");
	assert_int_equal(a->off, 600);
	gw->up = 999;
	feed(p, 1);
	says(a, 200, at(999), "");
	take_up(1001);
	farewell(p);
}

/* The end too is said again where it may be lost. */
static void
end_is_said_again(void **state)
{
	struct kit_proc *p = tunnel();
	struct ask *a;

	(void)state;
	feed(p, 100);
	kit_half_close(p->in);
	while ((a = want("PUT"))->end == -1)
		(void)serve(a);
	cut(a, KIT_WAY_RESET);
	a = want("PUT");
	assert_int_equal(a->end, 100);
	page(a, 502);
	a = want("PUT");
	assert_int_equal(a->end, 100);
	gw->up = a->off + a->len;
	says(a, 200, at(gw->up), "");
	take_up(100);
	none(p, "PUT");
	gw->ended = 1;
	ends_well(p);
}

/* An answer that is cut off: asked for again, from the right byte. */
static void
cut_anywhere(void **state)
{
	static const char *const ends[] = {
		"", "H", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nTunnel-Off",
		"HTTP/1.1 200 OK\r\nTunnel-Offset: %ju",
		"HTTP/1.1 200 OK\r\nTunnel-Offset: %ju\r\nContent-Length: 4",
		"HTTP/1.1 200 OK\r\nTunnel-Offset: %ju\r\nContent-Length: 40\r",
		"HTTP/1.1 200 OK\r\nTunnel-Offset: %ju\r\n"
		    "Content-Length: 40\r\n\r",
		"HTTP/1.1 200 OK\r\nTunnel-Offset: %ju\r\n"
		    "Content-Length: 40\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTunnel-Offset: %ju\r\n"
		    "Transfer-Encoding: chunked\r\n\r\n2",
		"HTTP/1.1 200 OK\r\nTunnel-Offset: %ju\r\n"
		    "Transfer-Encoding: chunked\r\n\r\n28\r\n",
	};
	struct kit_proc *p = tunnel();
	enum kit_way how;
	char body[40];
	struct ask *a;
	size_t i, n, got;

	(void)state;
	for (i = 0; i < KIT_COUNT(ends) + 4; i++) {
		how = i % 2 ? KIT_WAY_CLOSE : KIT_WAY_RESET;
		feed(p, 10);
		(void)want("PUT");
		a = want("GET");
		gw->down = a->off + 40;
		/* the last ones are cut in the body */
		n = i < KIT_COUNT(ends) ? 0 : 13 * (i - KIT_COUNT(ends)) + 1;
		n = n < 40 ? n : 39;
		kit_puts(a->fd, kit_str(ends[i < KIT_COUNT(ends) ? i :
		    KIT_COUNT(ends) - 1 - 2 * (i % 2)], (uintmax_t)a->off));
		kit_fill(body, n, DOWN, a->off);
		kit_send(a->fd, body, n);
		kit_idle(p);
		cut(a, how);
		cut(pending("PUT"), how);
		a = want("GET");
		got = (size_t)(a->off - gw->drained);
		if (a->off < gw->drained || got > n)
			kit_fail("a GET at %ju after %zu bytes at %ju",
			    (uintmax_t)a->off, n, (uintmax_t)gw->drained);
		drain(p, got);
		give(p, 0);
		assert_int_equal(want("PUT")->off, gw->up);
		take_up(gw->fed);
	}
	farewell(p);
}

/* An answer's framing, whatever is in front of the gateway. */
static const struct {
	const char	*head;		/* behind it the fields */
	const char	*body;		/* of ten bytes */
	int		 closes;
} framings[] = {
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
	    "a\r\n0123456789\r\n0\r\n\r\n", 0 },
	{ "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n",
	    "003\r\n012\r\n7;x=\"y\"\r\n3456789\r\n000\r\nA: b\r\n\r\n", 0 },
	{ "HTTP/1.1 200 OK\r\n", "0123456789", 1 },
	{ "HTTP/1.1 200 OK\r\nConnection: close\r\n", "0123456789", 1 },
	{ "HTTP/1.0 200 OK\r\n", "0123456789", 1 },
	{ "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n", "0123456789", 1 },
	{ "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"
	    "Content-Length: 10\r\n", "0123456789", 0 },
	{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
	    "Link: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n",
	    "0123456789", 0 },
	{ "HTTP/1.1 200\r\nVia: 1.1 a, 1.0 b\r\ncontent-length:10\r\n",
	    "0123456789", 0 },
	{ "HTTP/1.1 200 OK\nContent-Length:   10  \n", "0123456789", 0 },
};

static void
framed(void **state)
{
	struct kit_proc *p = tunnel();
	const char *text;
	struct ask *a;
	size_t i, j;

	(void)state;
	for (i = 0; i < 2 * KIT_COUNT(framings); i++) {
		j = i / 2;
		a = want("GET");
		/* field names have no case, and gateways like them small */
		text = kit_str(i % 2 ? "%stunnel-offset: %ju\r\n\r\n%s" :
		    "%sTunnel-Offset:%ju\r\n\r\n%s", framings[j].head,
		    (uintmax_t)a->off, framings[j].body);
		kit_send(a->fd, text, strlen(text) / 2);
		kit_idle(p);
		kit_puts(a->fd, text + strlen(text) / 2);
		gw->down = gw->drained = a->off + 10;
		if (framings[j].closes)
			cut(a, KIT_WAY_CLOSE);
		else
			done(a);
		kit_expect(p->out, "0123456789");

		feed(p, 7);		/* with a body that has no meaning */
		a = want("PUT");
		gw->up = gw->fed;
		kit_puts(a->fd, kit_str("%s%s\r\n%s", framings[j].head,
		    at(gw->up), framings[j].body));
		if (framings[j].closes)
			cut(a, KIT_WAY_CLOSE);
		else
			done(a);
	}
	farewell(p);
}

/* A GET's answer may have a length of 0, and the end may be said with it. */
static void
empty_answers(void **state)
{
	struct kit_proc *p = tunnel();

	(void)state;
	says(want("GET"), 200, at(0), "");
	give(p, 10);
	says(want("GET"), 200, at_end(10, 10), "");
	kit_eof(p->out);
	bring(p, 10);
	none(p, "GET");
	kit_half_close(p->in);
	ends_well(p);
}

/* An answer that is there twice: the other one is nobody's. */
static void
answers_twice(void **state)
{
	struct kit_proc *p = tunnel();
	const char *text;
	char bytes[11];
	struct ask *a;
	int i, n;

	(void)state;
	for (i = 0; i < 4; i++) {
		n = i % 2 ? 10 : 0;
		feed(p, 10);
		a = want("PUT");
		gw->up = gw->fed;
		text = kit_str("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n"
		    "\r\n%.*s", at(gw->up), n, n, "0123456789");
		kit_puts(a->fd, kit_str("%s%s", text, text));
		done(a);
		bring(p, 10);
		a = want("GET");
		kit_fill(bytes, (size_t)n, DOWN, a->off);
		text = kit_str("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n"
		    "\r\n", at(a->off), n);
		memcpy(bytes + n, "", 1);
		kit_puts(a->fd, kit_str("%s%s%s%s", text, bytes, text, bytes));
		gw->down += (uint64_t)n;
		done(a);
		drain(p, (size_t)n);
		give(p, 10);
	}
	farewell(p);
}

/* The same a byte at a time. */
static void
byte_by_byte(void **state)
{
	struct kit_proc *p = tunnel();
	const char *text;
	struct ask *a;

	(void)state;
	a = want("GET");
	text = kit_str("%s%s\r\n%s", framings[1].head, at_end(0, 10),
	    framings[1].body);
	for (; *text != '\0'; text++) {
		kit_send(a->fd, text, 1);
		kit_idle(p);
	}
	kit_expect(p->out, "0123456789");
	kit_eof(p->out);
	gw->down = gw->drained = 10;
	done(a);
	bring(p, 10);
	none(p, "GET");
	kit_half_close(p->in);
	ends_well(p);
}


/* ---- connections that end ----------------------------------------------- */

/* One that was kept is closed before, or instead of, the next answer. */
static void
kept_and_closed(void **state)
{
	static const char time_out[] = "HTTP/1.1 408 Request Time-out\r\n"
	    "Content-Length: 0\r\nConnection: close\r\n\r\n";
	struct kit_proc *p = tunnel();
	struct ask *a;
	int i;

	(void)state;
	for (i = 0; i < 8; i++) {
		bring(p, 10);			/* on one that is kept */
		feed(p, 10);
		a = want("PUT");
		gw->up = gw->fed;
		says(a, 200, at(gw->up), "");
		if (i < 4)
			kit_idle(p);
		else				/* the next is on its way */
			feed(p, 10);
		if (i % 4 >= 2)
			kit_puts(a->fd, time_out);
		cut(a, i % 2 ? KIT_WAY_RESET : KIT_WAY_CLOSE);
		bring(p, 10);
		give(p, 10);
		a = want("GET");
		gw->down += 10;
		piece(a, 10, at(a->off));
		cut(a, i % 2 ? KIT_WAY_RESET : KIT_WAY_CLOSE);
		drain(p, 10);
		(void)want("GET");
	}
	farewell(p);
}

/* All of them, again and again, with whatever is on them. */
static void
all_cut(void **state)
{
	struct kit_proc *p = tunnel();
	int i, j;

	(void)state;
	for (i = 0; i < 6; i++) {
		feed(p, 10);
		(void)want("PUT");
		(void)want("GET");
		for (j = 0; j < CONNS; j++)
			if (gw->asks[j].fd != -1)
				cut(&gw->asks[j], i % 2 ? KIT_WAY_RESET :
				    KIT_WAY_CLOSE);
		bring(p, 10);
		give(p, 10);
	}
	farewell(p);
}

/* The gateway that is not there is no tunnel; one that does not answer is
 * asked again. */
static void
first_connection(void **state)
{
	unsigned port = kit_nobody(AF_INET);
	struct kit_proc *p;

	(void)state;
	p = kit_httptun(NULL, "-x", kit_str("poll://127.0.0.1:%u/", port),
	    HOST, PORT, NONE);
	complains(p, kit_str("127.0.0.1:%u: Connection refused", port));

	gateway(0);
	p = client();
	cut(want("POST"), KIT_WAY_RESET);
	cut(want("POST"), KIT_WAY_CLOSE);
	kit_puts(want("POST")->fd, "HTTP/1.1 200 OK\r\nTunnel-Of");
	cut(want("POST"), KIT_WAY_CLOSE);
	(void)opens(p);
	bring(p, 10);
	give(p, 10);
	farewell(p);
}


/* ---- how a tunnel ends -------------------------------------------------- */

/* The target's end: with the last bytes, behind them, before them. */
static void
target_ends(void **state)
{
	struct kit_proc *p;
	struct ask *a;
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		p = tunnel();
		give(p, i == 3 ? 0 : 10);
		a = want("GET");
		if (i == 0 || i == 2)
			gw->down += 10;
		if (i == 0)
			piece(a, 10, at_end(10, 20));
		else if (i == 2) {
			piece(a, 4, at_end(10, 20));
			drain(p, 4);
			a = want("GET");
			assert_int_equal(a->off, 14);
			piece(a, 6, at(14));
		} else
			says(a, 204, at_end(a->off, gw->down), "");
		drain(p, (size_t)(gw->down - gw->drained));
		kit_eof(p->out);
		/* the other direction goes on, without a GET */
		none(p, "GET");
		bring(p, 100);
		none(p, "GET");
		assert_true(kit_alive(p));
		kit_half_close(p->in);
		ends_well(p);
	}
}

/* The client's end: behind its bytes, and when there are none. */
static void
stdin_ends(void **state)
{
	struct kit_proc *p;
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		p = tunnel();
		if (i == 0)
			bring(p, 100);
		kit_half_close(p->in);
		while (gw->upend == -1)
			(void)serve(want("PUT"));
		none(p, "PUT");
		give(p, 100);
		(void)want("GET");
		assert_true(kit_alive(p));
		gw->ended = 1;
		ends_well(p);
	}
}

/* Of a stdout that nobody reads it takes a little, then asks no more, however
 * small the answers are. */
static void
stdout_stalls(void **state)
{
	struct kit_proc *p = tunnel();
	uint64_t given = 0;
	size_t n;

	(void)state;
	gw->down = 16 * MB;
	for (;;) {
		kit_idle(p);
		turn(0);
		turn(0);		/* on a connection that is new */
		if (pending("GET") == NULL)
			break;
		given = pending("GET")->off + PIECE;
		if (given > 4 * MB)
			kit_fail("it asks for more and more");
		(void)serve(pending("GET"));
	}
	flat(p);
	bring(p, 1000);
	gw->down = given + 3 * PIECE;
	while (gw->drained < gw->down) {
		n = (size_t)(gw->down - gw->drained);
		turn(20);
		serve_all();
		drain(p, n < PIECE / 4 ? n : PIECE / 4);
	}
	farewell(p);
}

/* The reader of stdout has gone: so does the client. */
static void
stdout_is_closed(void **state)
{
	struct kit_proc *p = tunnel();

	(void)state;
	give(p, 10);
	kit_drop(p->out);
	gw->down += 10;
	(void)serve(want("GET"));
	attend(p);
	kit_exits(p, 1);
	assert_int_equal(gw->deleted, 1);
}

/* It says that it goes, then dies by the signal. */
static void
signals(void **state)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGHUP };
	struct kit_proc *p;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(sigs); i++) {
		p = tunnel();
		bring(p, 10);
		give(p, 10);
		(void)kill(p->pid, sigs[i]);
		(void)want("DELETE");
		attend(p);
		kit_exits(p, -sigs[i]);
		kit_eof(p->out);
		kit_err_is(p, "");
	}
}

/* Many tunnels are each said goodbye, whichever process has them. */
static void
each_is_deleted(const struct kit_proxy *near, const char *request, int sig)
{
	char ids[3][33] = { "" };
	struct ask *a;
	int c, i, j;

	for (i = 0; i < 3; i++) {
		c = kit_connect(AF_INET, near->port);
		kit_puts(c, request);
		a = want("POST");
		memcpy(ids[i], a->target + 1, 32);
		(void)serve(a);
		while (under_way("GET") < i + 1)
			turn(20);
	}
	for (i = 0; i < (sig == SIGINT ? near->npids : 1); i++)
		(void)kill(near->pids[i], sig);
	for (i = 0; i < 3; i++) {
		a = want("DELETE");
		for (j = 0; j < 3 && strcmp(ids[j], a->target + 1) != 0; j++)
			;
		if (j == 3)
			kit_fail("DELETE %s again", a->target);
		ids[j][0] = '\0';
		(void)serve(a);
	}
	kit_exits(near->proc, -sig);
}

/* SIGTERM comes to the first process, SIGINT, as from a terminal, to all. */
static void
signal_with_many(void **state)
{
	static const int sigs[] = { SIGTERM, SIGINT };
	struct kit_proxy near;
	size_t i;

	(void)state;
	gateway(0);
	gw->many = 1;
	for (i = 0; i < KIT_COUNT(sigs); i++) {
		memset(&near, 0, sizeof(near));
		kit_proxy_is(&near, kit_httptun(NULL, "-x", gw->url, "-L",
		    "0:" HOST ":" PORT, NONE));
		each_is_deleted(&near, "", sigs[i]);
		kit_proxy(&near, "-j", "2", "-x", gw->url, "127.0.0.1", "0",
		    NONE);
		each_is_deleted(&near, kit_request(HOST ":" PORT, ""),
		    sigs[i]);
		kit_err_is(near.proc, kit_str("httptun: listening on 127.0.0.1"
		    " %u\n", near.port));
	}
}

/* Nor does -l -i leave before it has said so. */
static void
inetd_deletes(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway(0);
	p = kit_httptun(NULL, "-l", "-i", "-x", gw->url, NONE);
	kit_puts(p->in, kit_request(HOST ":" PORT, ""));
	(void)serve(want("POST"));
	kit_expect(p->out, KIT_OK);
	says(want("GET"), 204, at_end(0, 0), "");
	kit_eof(p->out);
	kit_half_close(p->in);
	says(want("PUT"), 200, at(0), "");
	cut(want("DELETE"), KIT_WAY_RESET);
	(void)serve(want("DELETE"));
	kit_exits(p, 0);
}

/* Nor does a stderr that nobody reads keep it. */
static void
signal_with_full_stderr(void **state)
{
	struct kit_opt opt = { .err = 0 };
	struct kit_proc *p;
	char said[4096] = "", fill[4096] = "";
	int fd[2], i;

	(void)state;
	gateway(0);
	gw->many = 1;
	if (pipe(fd) == -1)
		kit_fail("pipe: %s", strerror(errno));
	opt.err = fd[1];
	p = kit_httptun(&opt, "-4", "-x", gw->url, "-L", "0:" HOST ":" PORT,
	    NONE);
	kit_poll(fd[0], POLLIN, "a line");
	if (read(fd[0], said, sizeof(said) - 1) == -1 ||
	    strncmp(said, "httptun: listening on 127.0.0.1 ", 32) != 0)
		kit_fail("it says <<%s>>", said);
	(void)fcntl(fd[1], F_SETFL, O_NONBLOCK);
	while (write(fd[1], fill, sizeof(fill)) > 0)
		;
	(void)fcntl(fd[1], F_SETFL, 0);
	for (i = 0; i < 2; i++) {
		(void)kit_connect(AF_INET, (unsigned)strtoul(said + 32, NULL,
		    10));
		if (i == 0)
			(void)serve(want("POST"));
		else
			says(want("POST"), 403, at(0), "no\n");
	}
	kit_idle(p);
	kit_signal(p->pid, SIGTERM);
	(void)want("DELETE");
	attend(p);
	kit_exits(p, -SIGTERM);
}

/* A second signal ends all at once. */
static void
signal_twice(void **state)
{
	struct kit_proxy near;
	int c;

	(void)state;
	gateway(0);
	kit_proxy(&near, "-x", gw->url, LOCAL);
	c = kit_connect(AF_INET, near.port);
	kit_puts(c, kit_request(HOST ":" PORT, ""));
	(void)serve(want("POST"));
	(void)kill(near.proc->pid, SIGTERM);
	(void)want("DELETE");
	(void)kill(near.proc->pid, SIGTERM);
	kit_exits(near.proc, -SIGTERM);
}

/* Starts -L that asks a gateway for many tunnels, and rests. */
static struct kit_proc *
forwards(unsigned *port, int *fds)
{
	struct kit_proc *p;

	gateway(0);
	gw->many = 1;
	p = kit_httptun(NULL, "-x", gw->url, "-L", "0:" HOST ":" PORT, NONE);
	*port = kit_listening(p, 0);
	kit_idle(p);
	*fds = kit_fds(p->pid);
	return p;
}

/* Its DELETE comes before the POST, on another connection: so it comes again,
 * until there was something to delete; but not where the POST has failed. */
static void
deleted_early(void **state)
{
	struct kit_proc *p;
	struct ask *post;
	unsigned port;
	int c, fds, i;

	(void)state;
	p = forwards(&port, &fds);
	c = kit_connect(AF_INET, port);
	post = want("POST");
	kit_reset(c);
	for (i = 0; i < 3; i++)
		says(want("DELETE"), 404, at(0), "no\n");
	says(want("DELETE"), 200, at(0), "");
	forget(post);
	fds_back(p, fds);
	assert_int_equal(gw->deleted, 4);
	c = kit_connect(AF_INET, port);
	says(want("POST"), 403, at(0), "no\n");
	kit_expect_reset(c);
	says(want("DELETE"), 404, at(0), "no\n");
	fds_back(p, fds);
	assert_int_equal(gw->deleted, 5);
}

/* -L: what becomes of the client in each case; the program goes on. */
static void
local_port(void **state)
{
	struct kit_proc *p;
	unsigned port;
	int c, i, fds;

	(void)state;
	p = forwards(&port, &fds);
	for (i = 0; i < 4; i++) {
		gw->deleted = 0;
		c = kit_connect(AF_INET, port);
		if (i == 0) {
			says(want("POST"), 403, at(0), "no\n");
			kit_expect_reset(c);
			continue;
		}
		(void)serve(want("POST"));
		says(want("GET"), 200, at(0), "hello");
		kit_expect(c, "hello");
		if (i == 1) {			/* broken over there */
			says(want("GET"), 410, at(0), "gone\n");
			kit_expect_reset(c);
		} else if (i == 2)
			kit_reset(c);
		else {
			says(want("GET"), 204, at_end(5, 5), "");
			kit_eof(c);
			kit_half_close(c);
			assert_int_equal(want("PUT")->end, 0);
			says(want("PUT"), 200, at(0), "");
		}
		(void)serve(want("DELETE"));
	}
	/* a refused one may be said goodbye as well */
	turn(0);
	serve_all();
	fds_back(p, fds);
	assert_true(kit_alive(p));
}


/* ---- what takes time ---------------------------------------------------- */

static void
no_post(struct ask *a)
{
	if (!is(a, "POST"))
		(void)serve(a);
}

static void
say_502(struct ask *a)
{
	page(a, 502);
}

static void
reset_it(struct ask *a)
{
	cut(a, KIT_WAY_RESET);
}

static void
no_delete(struct ask *a)
{
	if (!is(a, "DELETE"))
		(void)serve(a);
}

/* -w bounds the POST; a DELETE without an answer keeps nobody long. */
static const struct {
	void	(*act)(struct ask *);
	int	 opens;
	int	 sig;		/* 0: stdin ends */
	int	 vanishes;	/* the gateway does, before */
	int	 status;
	unsigned posts;		/* at least */
	const char *says;	/* what became of the last one */
} waits[] = {
	{ no_post, 0, 0, 0, 1, 1, "no answer within 1 s\n" },
	{ say_502, 0, 0, 0, 1, 2, "no answer within 1 s: 502 Bad Gateway\n" },
	{ reset_it, 0, 0, 0, 1, 2,
	    "no answer within 1 s: Connection reset by peer\n" },
	{ no_delete, 1, 0, 0, 0, 1, "" },
	{ no_delete, 1, SIGTERM, 0, -SIGTERM, 1, "" },
	{ no_post, 0, SIGINT, 0, -SIGINT, 1, "" },
	{ no_delete, 1, SIGTERM, 1, -SIGTERM, 1, "" },
};

static struct kit_proc *
start_waiting(size_t i)
{
	struct kit_proc *p;

	gateway((int)i);
	p = kit_httptun(NULL, "-w", "1", "-x", gw->url, HOST, PORT, NONE);
	if (waits[i].opens) {
		bring(opens(p), 10);
		give(p, 10);
	} else
		(void)want("POST");
	if (waits[i].vanishes)
		shut();
	if (waits[i].sig != 0)
		(void)kill(p->pid, waits[i].sig);
	else if (waits[i].opens)
		kit_half_close(p->in);
	gw->ended = 1;
	return p;
}

static void
waiting(void **state)
{
	int64_t end;
	struct kit_proc *p[KIT_COUNT(waits)];
	size_t i, left;
	int j;

	(void)state;
	for (i = 0; i < KIT_COUNT(waits); i++)
		p[i] = start_waiting(i);
	end = kit_now() + kit_patience();
	do {
		for (i = left = 0; i < KIT_COUNT(waits); i++) {
			gw = &gateways[i];
			turn(2);
			for (j = 0; j < CONNS; j++)
				if (gw->asks[j].waits)
					waits[i].act(&gw->asks[j]);
			left += kit_alive(p[i]) != 0;
		}
	} while (left > 0 && kit_now() < end);
	for (i = 0; i < KIT_COUNT(waits); i++) {
		gw = &gateways[i];
		kit_note("case %zu", i);
		kit_exits(p[i], waits[i].status);
		kit_eof(p[i]->out);
		if (waits[i].status == 1)
			complains(p[i], kit_str("%s: %s", gw->hp,
			    waits[i].says));
		else
			kit_err_is(p[i], "");
		if (gw->posts < waits[i].posts)
			kit_fail("case %zu: %u POSTs", i, gw->posts);
		if (waits[i].opens && !waits[i].vanishes && gw->deleted != 1)
			kit_fail("case %zu: %d DELETEs", i, gw->deleted);
	}
}

/* A session is open: who is silent behind it has nothing to do with the POST. */
static void
waiting_behind(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway(0);
	gw->many = 1;			/* its bytes are not stdin's */
	p = kit_httptun(NULL, "-w", "2", "-x", gw->url, "-x", "behind:3128",
	    HOST, PORT, NONE);
	page(want("POST"), 503);
	attend(p);
	complains(p, "httptun: behind:3128: no answer within 2 s\n");
	assert_int_equal(gw->posts, 2);
}

/* A request that came after this one. */
static int
again(const char *method, unsigned serial)
{
	int i;

	for (i = 0; i < CONNS; i++)
		if (is(&gw->asks[i], method) && gw->asks[i].serial > serial)
			return 1;
	return 0;
}

/* What takes the hold time and more: a request without any answer comes again
 * on another connection, a PUT with half of the bytes; a client that cannot take more says that it is there;
 * one whose gateway has gone ends after 60 s. */
static void
waiting_long(void **state)
{
	struct kit_proc *mute, *stalled, *alone;
	int64_t start = kit_now(), end = start + 90000;
	unsigned put, get;
	int came = 0, all;

	(void)state;
	if (!is_long()) {
		print_message("takes a minute: only with HTTPTUN_LONG\n");
		skip();
	}
	stalled = tunnel();
	gw->down = 8 * MB;
	gateway(1);
	mute = opens(client());
	feed(mute, 20000);
	put = want("PUT")->serial;
	get = want("GET")->serial;
	gateway(2);
	alone = opens(client());
	bring(alone, 10);
	give(alone, 10);
	shut();
	do {
		if (kit_now() > end)
			kit_fail("it does not come");
		gw = &gateways[0];
		turn(10);
		if (pending("GET") != NULL)
			(void)serve(pending("GET"));
		all = pending("PUT") != NULL;
		gw = &gateways[1];
		turn(10);
		if (!came && again("PUT", put) && again("GET", get)) {
			came = 1;
			assert_int_equal(pending("PUT")->len, 10000);
		}
		if (came)
			serve_all();
	} while (!all || !came || kit_alive(alone));
	if (kit_now() - start < 59000)
		kit_fail("it ended after %jd ms", (intmax_t)(kit_now() -
		    start));
	complains(alone, gateways[2].hp);
	assert_int_equal(gw->accepted, 4);
	farewell(mute);
	gw = &gateways[0];
	assert_int_equal(pending("PUT")->len, 0);
	(void)kill(stalled->pid, SIGTERM);
	attend(stalled);
	kit_exits(stalled, -SIGTERM);
}


/* ---- the whole way: routes ---------------------------------------------- */

static struct kit_proxy	server;		/* httptun -l, the gateway */
static struct kit_proxy	other;		/* and one before or behind it */
static int		tl;		/* the target */
static unsigned		tport;

/* who asks for the tunnel */
enum near { STDIO, PORT_HERE, A_PROXY };

/* The way; A is the gateway's 127.0.0.1:PORT, B the other proxy's. */
static const struct route {
	const char	*name;
	enum near	 near;
	const char	*hops[2];
	int		 cred;		/* both ask for credentials */
} routes[] = {
	{ "direct", STDIO, { "poll://A/", NULL }, 0 },
	{ "-L", PORT_HERE, { "poll://A/x/y/", NULL }, 0 },
	{ "-l -x", A_PROXY, { "poll://A/", NULL }, 0 },
	{ "through a proxy", STDIO, { "http://B", "poll://A/in/" }, 0 },
	{ "-L through a proxy", PORT_HERE, { "http://B", "poll://A" }, 0 },
	{ "its own proxy", STDIO, { "http://A", "poll://A/" }, 0 },
	{ "a hop behind", STDIO, { "poll://A/", "http://B" }, 0 },
	{ "a WebSocket behind", STDIO, { "poll://A/", "ws://B/" }, 0 },
	{ "a WebSocket before", STDIO, { "ws://B/", "poll://A/" }, 0 },
	{ "-l -x, a hop behind", A_PROXY, { "poll://A/", "http://B" }, 0 },
	{ "credentials", STDIO, { "http://u:p@B", "poll://u:p@A/" }, 1 },
};

struct tunnel {
	const struct route *r;
	struct kit_proc	*p;
	int		 in, out;	/* the near end: to it, from it */
	int		 far;
	struct kit_proxy proxy;		/* -l -x */
};

/* A hop with the ports filled in; NULL stays. */
static const char *
hop_of(const char *hop)
{
	const char *at;

	if (hop == NULL)
		return NULL;
	at = strpbrk(hop, "AB");
	return kit_str("%.*s127.0.0.1:%u%s", (int)(at - hop), hop,
	    *at == 'A' ? server.port : other.port, at + 1);
}

/* Starts the two proxies and the target. */
static void
far_side(int cred)
{
	const char *file;

	if (cred) {
		file = kit_file("users", 0600, "u:p\n");
		kit_proxy(&server, "-a", file, LOCAL);
		kit_proxy(&other, "-a", file, LOCAL);
	} else {
		kit_proxy(&server, LOCAL);
		kit_proxy(&other, LOCAL);
	}
	tl = kit_listen(AF_INET, &tport);
}

static void
far_side_ends(void)
{
	kit_done(server.proc);
	kit_done(other.proc);
	(void)close(tl);
}

/* Starts the client of such a route, which for -L and -l stays. */
static void
near_side(struct tunnel *t, const struct route *r)
{
	const char *argv[16], **a = argv;
	int i;

	kit_note("route: %s", r->name);
	memset(t, 0, sizeof(*t));
	t->r = r;
	*a++ = kit_binary();
	if (r->near == A_PROXY)
		*a++ = "-l";
	for (i = 0; i < 2 && r->hops[i] != NULL; i++) {
		*a++ = "-x";
		*a++ = hop_of(r->hops[i]);
	}
	if (r->near == PORT_HERE) {
		*a++ = "-L";
		*a++ = kit_str("0:127.0.0.1:%u", tport);
	} else {
		*a++ = "127.0.0.1";
		*a++ = r->near == A_PROXY ? "0" : kit_str("%u", tport);
	}
	*a = NULL;
	t->p = kit_startv(NULL, argv);
	if (r->near != STDIO)
		kit_proxy_is(&t->proxy, t->p);
}

/* Opens a tunnel, with bytes that come before it is there. */
static void
near_open(struct tunnel *t)
{
	if (t->r->near == STDIO) {
		t->in = t->p->in;
		t->out = t->p->out;
	} else
		t->in = t->out = kit_connect(AF_INET, t->proxy.port);
	if (t->r->near == A_PROXY)
		kit_puts(t->in, kit_request_to(tport));
	kit_puts(t->in, "early");
	t->far = kit_accept(tl);
	if (t->r->near == A_PROXY)
		kit_expect(t->out, KIT_OK);
	kit_expect(t->far, "early");
}

static void
open_route(struct tunnel *t, const struct route *r)
{
	near_side(t, r);
	near_open(t);
}

/* Nothing is left anywhere, and nobody ever took much. */
static void
nothing_left(struct tunnel *t)
{
	(void)close(t->far);
	if (t->r->near != STDIO) {
		(void)close(t->in);
		kit_proxy_settles(&t->proxy);
		kit_proxy_below(&t->proxy, PEAK);
	}
	kit_done(t->p);
	kit_untouched(tl);
	kit_proxy_settles(&server);
	kit_proxy_below(&server, PEAK);
	kit_proxy_settles(&other);
}

static void
on_all_routes(void (*test)(struct tunnel *))
{
	struct tunnel t;
	size_t i;

	far_side(0);
	for (i = 0; i < KIT_COUNT(routes); i++) {
		if (routes[i].cred) {
			far_side_ends();
			far_side(1);
		}
		open_route(&t, &routes[i]);
		test(&t);
		nothing_left(&t);
	}
	far_side_ends();
}

static void
pump_both(struct tunnel *t)
{
	kit_pump((struct kit_stream[]){
		{ t->in, KIT_OUT, 2 * MB, 3, 0, 0 },
		{ t->out, KIT_IN, 2 * MB, 4, 0, 0 },
		{ t->far, KIT_OUT, 2 * MB, 4, 0, 0 },
		{ t->far, KIT_IN, 2 * MB, 3, 0, 0 },
	}, 4);
	flat(t->p);
	kit_half_close(t->in);
	kit_half_close(t->far);
	kit_eof(t->far);
	kit_eof(t->out);
	if (t->r->near == STDIO) {
		kit_exits(t->p, 0);
		kit_err_is(t->p, "");
	}
}

static void
both_ways(void **state)
{
	(void)state;
	on_all_routes(pump_both);
}

/* One end ends its direction, the other sends a lot afterwards. */
static void
half_close(struct tunnel *t, int down)
{
	int from = down ? t->far : t->in, to = down ? t->out : t->far;

	kit_puts(from, "last words");
	kit_half_close(from);
	kit_expect(to, "last words");
	kit_eof(to);
	kit_rests(t->p);
	assert_true(kit_alive(t->p));
	kit_pump((struct kit_stream[]){
		{ down ? t->in : t->far, KIT_OUT, MB, 5, 1, 0 },
		{ down ? t->far : t->out, KIT_IN, MB, 5, 1, 0 },
	}, 2);
	if (t->r->near == STDIO)
		kit_exits(t->p, 0);
}

static void
half_close_near(struct tunnel *t)
{
	half_close(t, 0);
}

static void
half_close_far(struct tunnel *t)
{
	half_close(t, 1);
}

static void
half_closes(void **state)
{
	(void)state;
	on_all_routes(half_close_near);
	on_all_routes(half_close_far);
}

/* A reader that stalls stops the sender and costs no memory; the other
 * direction goes on. */
static void
stall(struct tunnel *t, int down)
{
	struct kit_stream s[2] = {
		{ down ? t->far : t->in, KIT_OUT, 256 * MB, 6, 1, 0 },
		{ down ? t->out : t->far, KIT_IN, 256 * MB, 6, 1, 0 },
	};

	/* Four connections at most, each with the system's buffers, of which
	 * those that receive grow to 32 MB. */
	kit_stuff(&s[0], 50);
	if (s[0].done > 4 * 40 * MB)
		kit_fail("the sender was not stopped");
	s[0].bytes = s[1].bytes = s[0].done + 4 * MB;
	kit_rests(t->p);
	kit_puts(down ? t->in : t->far, "meanwhile");
	kit_expect(down ? t->far : t->out, "meanwhile");
	kit_rests(t->p);
	kit_proxy_rests(&server);
	kit_pump(s, 2);
	flat(t->p);
	kit_half_close(down ? t->in : t->far);
	kit_eof(down ? t->far : t->out);
	if (t->r->near == STDIO)
		kit_exits(t->p, 0);
}

static void
stalls(void **state)
{
	struct tunnel t;
	size_t i;
	int down;

	(void)state;
	far_side(0);
	for (i = 0; i < (is_long() ? KIT_COUNT(routes) - 1 : 4); i++)
		for (down = 0; down < 2; down++) {
			open_route(&t, &routes[i]);
			stall(&t, down);
			nothing_left(&t);
		}
}

/* The target resets: so does the near end. */
static void
target_reset(struct tunnel *t)
{
	kit_puts(t->far, "first");
	kit_expect(t->out, "first");
	kit_reset(t->far);
	t->far = kit_listen(AF_INET, &(unsigned){ 0 });	/* stays a number */
	if (t->r->near != STDIO) {
		kit_expect_reset(t->out);
		assert_true(kit_alive(t->p));
		return;
	}
	complains(t->p, "127.0.0.1:");
}

static void
target_resets(void **state)
{
	(void)state;
	on_all_routes(target_reset);
}

/* The client resets, or is killed: so does it to the target. */
static void
client_reset(struct tunnel *t)
{
	kit_puts(t->in, "question");
	kit_expect(t->far, "question");
	if (t->r->near == STDIO) {
		(void)kill(t->p->pid, SIGTERM);
		kit_exits(t->p, -SIGTERM);
	} else {
		kit_reset(t->in);
		t->in = kit_listen(AF_INET, &(unsigned){ 0 });
	}
	kit_expect_reset(t->far);
}

static void
client_resets(void **state)
{
	(void)state;
	on_all_routes(client_reset);
}

/* A target that says all it has at once and goes, before it is asked. */
static void
target_speaks_first(void **state)
{
	char got[16];
	struct tunnel t;
	int i, far;

	(void)state;
	far_side(0);
	for (i = 0; i < 3; i++) {
		near_side(&t, &routes[i]);
		if (t.r->near == STDIO) {
			t.in = t.p->in;
			t.out = t.p->out;
		} else
			t.in = t.out = kit_connect(AF_INET, t.proxy.port);
		if (t.r->near == A_PROXY)
			kit_puts(t.in, kit_request_to(tport));
		far = t.far = kit_accept(tl);
		kit_puts(far, "220 hello");
		kit_half_close(far);
		if (t.r->near == A_PROXY)
			kit_expect(t.out, KIT_OK);
		assert_int_equal(kit_slurp(t.out, got, sizeof(got)), 9);
		assert_string_equal(got, "220 hello");
		kit_half_close(t.in);
		kit_eof(far);
		if (t.r->near == STDIO)
			kit_exits(t.p, 0);
		nothing_left(&t);
	}
}

/* A tunnel that does not come about, on each route. */
static void
refused_there(void **state)
{
	static const struct {
		const char	*host;
		int		 status;
	} cases[] = {
		{ "127.0.0.2", 502 },		/* nobody listens there */
		{ "127.0.0.1", 403 },		/* barred */
	};
	struct kit_proc *p;
	const char *port, *url;
	size_t i;
	int c;

	(void)state;
	port = kit_str("%u", kit_nobody(AF_INET));
	kit_proxy(&server, "-t", "127.0.0.2", LOCAL);
	url = kit_str("poll://127.0.0.1:%u/", server.port);
	kit_proxy(&other, "-x", url, LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		p = kit_httptun(NULL, "-x", url, cases[i].host, port, NONE);
		complains(p, kit_str("127.0.0.1:%u: %d ", server.port,
		    cases[i].status));
		c = kit_ask(&other, kit_request(kit_str("%s:%s",
		    cases[i].host, port), ""));
		(void)kit_refusal(c, cases[i].status, "", KIT_EITHER);
		(void)close(c);
		kit_proxy_settles(&server);
		kit_proxy_settles(&other);
	}
}

/* The gateway's credentials are no business of a chain's clients. */
static void
chain_without_credentials(void **state)
{
	int c;

	(void)state;
	kit_proxy(&server, "-a", kit_file("users", 0600, "u:p\n"), LOCAL);
	kit_proxy(&other, "-x", kit_str("poll://127.0.0.1:%u/", server.port),
	    LOCAL);
	c = kit_ask(&other, kit_request("127.0.0.1:9", ""));
	(void)kit_refusal(c, 502, "", KIT_EITHER);
}

/* http:// requests go through a chain too. */
static void
chain_forwards(void **state)
{
	char got[4096];
	int c, far;

	(void)state;
	kit_proxy(&server, LOCAL);
	kit_proxy(&other, "-x", kit_str("poll://127.0.0.1:%u/", server.port),
	    LOCAL);
	tl = kit_listen(AF_INET, &tport);
	c = kit_ask(&other, kit_str("GET http://127.0.0.1:%u/page HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\n\r\n", tport, tport));
	far = kit_accept(tl);
	(void)kit_head(far, got, sizeof(got));
	assert_non_null(strstr(got, "GET /page HTTP/1.1\r\n"));
	kit_puts(far, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage");
	(void)close(far);
	(void)kit_head(c, got, sizeof(got));
	kit_expect(c, "page");
	(void)close(c);
	/* an origin that resets has not answered */
	c = kit_ask(&other, kit_str("GET http://127.0.0.1:%u/page HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\n\r\n", tport, tport));
	far = kit_accept(tl);
	(void)kit_head(far, got, sizeof(got));
	kit_reset(far);
	(void)kit_reply(c, 502);
	(void)close(c);
	kit_proxy_settles(&other);
	kit_proxy_settles(&server);
}


/* ---- processes in between: what they share ------------------------------ */

#define BETWEEN_MAX	1024

static pid_t	between_pids[BETWEEN_MAX];
static int	between_n;
static unsigned	between_port;		/* which it is in front of */

/* Forget whoever has ended: only then may the number be somebody else's. */
static void
between_reap(void)
{
	int i;

	for (i = 0; i < between_n; i++)
		if (waitpid(between_pids[i], NULL, WNOHANG) != 0)
			between_pids[i--] = between_pids[--between_n];
}

static void
between_kill(int sig)
{
	int i;

	between_reap();
	for (i = 0; i < between_n; i++)
		(void)kill(between_pids[i], sig);
}

/* On a socket so set each end of the process is a reset. */
static void
brittle(int fd, int on)
{
	struct linger l = { .l_onoff = on, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

static int
between_connect(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	sin.sin_port = htons((uint16_t)between_port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd == -1 || connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1)
		_exit(1);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

/* A socket on this port, 0 for any; others may have it too. */
static int
between_bind(unsigned *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	sin.sin_port = htons((uint16_t)*port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on,
	    sizeof(on)) == -1 || bind(fd, (struct sockaddr *)&sin, len) == -1 ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) == -1) {
		perror("bind");
		exit(1);
	}
	*port = ntohs(sin.sin_port);
	return fd;
}

/* One that listens. */
static int
between_listen(unsigned *port)
{
	int fd = between_bind(port);

	if (listen(fd, 512) == -1) {
		perror("listen");
		exit(1);
	}
	return fd;
}

/* A process for the next connection. */
static void
between_accept(int lfd, void (*serve_it)(int, unsigned))
{
	static unsigned nth;
	int fd = accept(lfd, NULL, NULL), on = 1;
	pid_t pid;

	nth++;
	if (fd == -1)
		return;
	between_reap();
	if (between_n < BETWEEN_MAX && (pid = fork()) == 0) {
		(void)close(lfd);
		(void)close(0);
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
		    sizeof(on));
		serve_it(fd, nth);
		_exit(0);
	} else if (between_n < BETWEEN_MAX && pid != -1)
		between_pids[between_n++] = pid;
	(void)close(fd);
}

/* This program as one of them, in front of that port; an end of file on its
 * stdin ends it. */
static struct kit_proc *
between(const char *what, unsigned port, const char *course)
{
	struct kit_proc *p;

	p = kit_start(&(struct kit_opt){ .newsid = 1 }, "/proc/self/exe",
	    what, kit_str("%u", port), course, NONE);
	kit_group(p);
	(void)kit_listening(p, 0);
	return p;
}


/* ---- a network that fails --------------------------------------------------
 * Passes bytes on.  A line on its stdin makes trouble for a time: all
 * connections reset each MS, COUNT times; all of them reset and new ones
 * refused for MS; nothing passed, nobody accepted for MS, and half of the old
 * connections reset afterwards. */

static void
pass_on(int from, int to, short *open_)
{
	char buf[65536];
	ssize_t n, done, m;

	if ((n = read(from, buf, sizeof(buf))) == -1)
		_exit(1);
	if (n == 0) {
		*open_ = 0;
		(void)shutdown(to, SHUT_WR);
	}
	for (done = 0; done < n; done += m)
		if ((m = write(to, buf + done, (size_t)(n - done))) == -1)
			_exit(1);
}

/* One connection: a process for each direction would close in order, one for
 * both is killed as one. */
static void
forward(int c, unsigned nth)
{
	int up = between_connect();
	struct pollfd pfd[2] = { { c, POLLIN, 0 }, { up, POLLIN, 0 } };

	(void)nth;
	brittle(c, 1);
	brittle(up, 1);
	while (pfd[0].events != 0 || pfd[1].events != 0) {
		pfd[0].fd = pfd[0].events != 0 ? c : -1;
		pfd[1].fd = pfd[1].events != 0 ? up : -1;
		if (poll(pfd, 2, -1) <= 0)
			continue;
		if (pfd[0].revents != 0)
			pass_on(c, up, &pfd[0].events);
		if (pfd[1].revents != 0)
			pass_on(up, c, &pfd[1].events);
	}
	brittle(c, 0);
	brittle(up, 0);
}

struct trouble {
	char	 what;		/* 0: none */
	int	 ms, count;
	int64_t	 next;
};

/* Its beginning: the line that asks for it. */
static int
trouble_begins(struct trouble *t, int *lfd)
{
	char line[64];
	ssize_t n = read(0, line, sizeof(line) - 1);

	if (n <= 0)
		return 0;
	line[n] = '\0';
	t->count = 1;
	if (sscanf(line, "%c %d %d", &t->what, &t->ms, &t->count) < 2)
		exit(1);
	t->next = kit_now() + t->ms;
	if (t->what == 'x') {
		(void)close(*lfd);
		*lfd = -1;
		between_kill(SIGKILL);
	} else if (t->what == 'h')
		between_kill(SIGSTOP);
	fprintf(stderr, "trouble\n");
	return 1;
}

/* Its time has come. */
static void
trouble_goes_on(struct trouble *t, int *lfd, unsigned *here)
{
	int i;

	if (t->what == 'r')
		between_kill(SIGKILL);
	else if (t->what == 'x')
		*lfd = between_listen(here);
	else {
		between_reap();
		for (i = 0; i < between_n; i += 2)
			(void)kill(between_pids[i], SIGKILL);
		between_kill(SIGCONT);
	}
	if (--t->count > 0) {
		t->next += t->ms;
		return;
	}
	t->what = '\0';
	fprintf(stderr, "over\n");
}

static int
network(void)
{
	struct trouble t = { .what = '\0' };
	struct pollfd pfd[2] = { { 0, POLLIN, 0 }, { -1, POLLIN, 0 } };
	unsigned here = 0;
	int lfd, wait;

	(void)between_bind(&here);	/* it stays ours when refusing */
	lfd = between_listen(&here);
	fprintf(stderr, "httptun: listening on 127.0.0.1 %u\n", here);
	for (;;) {
		pfd[1].fd = t.what == 'h' ? -1 : lfd;
		wait = t.what == '\0' ? -1 : (int)(t.next - kit_now());
		if (t.what != '\0' && wait < 0)
			wait = 0;
		(void)poll(pfd, 2, wait);
		if (pfd[0].revents != 0 && !trouble_begins(&t, &lfd))
			break;
		if (pfd[1].fd != -1 && pfd[1].revents != 0 && lfd != -1)
			between_accept(lfd, forward);
		if (t.what != '\0' && kit_now() >= t.next)
			trouble_goes_on(&t, &lfd, &here);
	}
	between_kill(SIGKILL);
	return 0;
}


/* ---- tunnels over it ---------------------------------------------------- */

#define FLOWS_MAX	50

/* Tunnels through one local port that run at once. */
struct flows {
	struct kit_proc		*net, *p;
	int			 n, fds;
	int			 c[FLOWS_MAX], t[FLOWS_MAX];
	struct kit_stream	 s[4 * FLOWS_MAX];
};

static void
flows_open(struct flows *f, int n)
{
	unsigned port;
	int i, lfd;

	f->n = n;
	f->net = between("--network", server.port, "");
	lfd = kit_listen(AF_INET, &port);
	f->p = kit_httptun(NULL, "-x", kit_str("poll://127.0.0.1:%u/",
	    kit_listening(f->net, 0)), "-L", kit_str("0:127.0.0.1:%u", port),
	    NONE);
	(void)kit_listening(f->p, 0);
	kit_idle(f->p);
	f->fds = kit_fds(f->p->pid);
	for (i = 0; i < n; i++) {
		f->c[i] = kit_connect(AF_INET, kit_listening(f->p, 0));
		f->t[i] = kit_accept(lfd);
		f->s[4 * i] = (struct kit_stream){ f->c[i], KIT_OUT, 0,
		    (unsigned)i, 0, 0 };
		f->s[4 * i + 1] = (struct kit_stream){ f->t[i], KIT_IN, 0,
		    (unsigned)i, 0, 0 };
		f->s[4 * i + 2] = (struct kit_stream){ f->t[i], KIT_OUT, 0,
		    (unsigned)(i + n), 0, 0 };
		f->s[4 * i + 3] = (struct kit_stream){ f->c[i], KIT_IN, 0,
		    (unsigned)(i + n), 0, 0 };
	}
	kit_untouched(lfd);
}

/* So many bytes more through each, in both directions; then perhaps the ends
 * in order. */
static void
flows_more(struct flows *f, uint64_t bytes, int end)
{
	int i;

	for (i = 0; i < 4 * f->n; i++) {
		f->s[i].bytes += bytes;
		f->s[i].end = end;
	}
	kit_pump(f->s, 4 * (size_t)f->n);
}

/* Some bytes at once into each end, whatever becomes of them for now. */
static void
flows_push(struct flows *f)
{
	char buf[2000];
	int i;

	for (i = 0; i < 4 * f->n; i++) {
		f->s[i].bytes += sizeof(buf);
		if (f->s[i].dir != KIT_OUT)
			continue;
		kit_fill(buf, sizeof(buf), f->s[i].seed, f->s[i].done);
		kit_send(f->s[i].fd, buf, sizeof(buf));
		f->s[i].done += sizeof(buf);
	}
}

/* All ends well and nothing is left. */
static void
flows_end(struct flows *f)
{
	int i;

	flows_more(f, 100 * KB, 1);
	for (i = 0; i < f->n; i++) {
		(void)close(f->c[i]);
		(void)close(f->t[i]);
	}
	fds_back(f->p, f->fds);
	kit_half_close(f->net->in);
	kit_exits(f->net, 0);
	if (is_long())
		print_message("  %d tunnels, %ju bytes each way in each\n",
		    f->n, (uintmax_t)f->s[0].bytes);
}

/* Every connection is reset, again and again; or nobody can connect for a
 * while, or nothing gets through: nothing is lost, nor is any tunnel. */
static void
network_fails(void **state)
{
	static struct flows resetting, refusing, silent;
	const char *ms = is_long() ? "20000" : "2000";
	int64_t end = kit_now() + (is_long() ? 40000 : 0) + kit_patience();
	int over;

	(void)state;
	kit_proxy(&server, LOCAL);
	flows_open(&resetting, is_long() ? 50 : 10);
	flows_open(&refusing, 5);
	flows_open(&silent, 5);
	flows_more(&resetting, 1000, 0);
	flows_more(&refusing, 1000, 0);
	flows_more(&silent, 1000, 0);
	kit_puts(resetting.net->in, is_long() ? "r 2000 15" : "r 200 8");
	kit_puts(refusing.net->in, kit_str("x %s", ms));
	kit_puts(silent.net->in, kit_str("h %s", ms));
	kit_err_wait(refusing.net, "trouble");
	kit_err_wait(silent.net, "trouble");
	flows_push(&refusing);
	flows_push(&silent);
	do {
		if (kit_now() > end)
			kit_fail("it is not over");
		over = strstr(kit_err(resetting.net), "over") != NULL;
		if (!over)
			flows_more(&resetting, 16 * KB, 0);
		else
			(void)poll(NULL, 0, 5);
		over &= strstr(kit_err(refusing.net), "over") != NULL &&
		    strstr(kit_err(silent.net), "over") != NULL;
	} while (!over);
	flows_end(&resetting);
	flows_end(&refusing);
	flows_end(&silent);
	kit_proxy_settles(&server);
}


/* ---- a proxy that meddles --------------------------------------------------
 * Between client and gateway, it takes each request and does something with
 * it that networks and proxies do.  All of it is allowed to them, or happens:
 * the tunnel has to stand it. */

#define MESSAGE_MAX	(2 * MB)
#define BODY_TAKEN	65536		/* of a request: beyond it, 413 */

enum {
	POST = 1, PUT = 2, GET = 4, DELETE = 8, OPEN = PUT | GET | DELETE,
	ANY = POST | OPEN
};

enum mood {
	PLAIN, PIECES, SLOW, OLD, CHUNKED, CHUNKED_CUT, TO_THE_END,
	TO_THE_END_CUT, INTERIM, CUT_HEAD, CUT_BODY, CUT_SENT, LOSE,
	CUT_ANSWER_HEAD, CUT_ANSWER_BODY, BUSY, BUSY_AFTER, PAGE, TWICE,
	BY_TURNS, LATER, MOODS,
	/* these are not drawn */
	IDLE_CUT = MOODS, IDLE_408, TOO_LARGE, COUNTS
};

static const struct {
	const char	*name;
	int		 weight;
	int		 methods;
	int		 fails;		/* it has to be asked again */
} moods[COUNTS] = {
	[PLAIN] = { "passed on as it was", 30, ANY, 0 },
	[PIECES] = { "in small pieces", 8, ANY, 0 },
	[SLOW] = { "delayed", 8, ANY, 0 },
	[OLD] = { "in HTTP/1.0, field names in lower case", 8, ANY, 0 },
	[CHUNKED] = { "the answer in chunks", 8, ANY, 0 },
	[CHUNKED_CUT] = { "the answer in chunks, cut off", 4, ANY, 1 },
	[TO_THE_END] = { "the answer's body up to the end", 8, ANY, 0 },
	[TO_THE_END_CUT] = { "the answer's body less than it was", 4, OPEN, 1 },
	[INTERIM] = { "an interim answer first", 4, ANY, 0 },
	[CUT_HEAD] = { "cut off in the request's head", 4, ANY, 1 },
	[CUT_BODY] = { "cut off in the request's body", 4, POST | PUT, 1 },
	[CUT_SENT] = { "cut off behind the request", 4, ANY, 1 },
	[LOSE] = { "the answer lost", 4, ANY, 1 },
	[CUT_ANSWER_HEAD] = { "cut off in the answer's head", 4, ANY, 1 },
	[CUT_ANSWER_BODY] = { "cut off in the answer's body", 4, ANY, 1 },
	[BUSY] = { "an own error, not passed on", 6, ANY, 1 },
	[BUSY_AFTER] = { "an own error instead of the answer", 4, ANY, 1 },
	[PAGE] = { "a page of its own", 4, OPEN, 1 },
	[TWICE] = { "repeated, both at once", 6, ANY, 0 },
	[BY_TURNS] = { "repeated, one after the other", 6, ANY, 0 },
	[LATER] = { "repeated when nobody waits for it", 6, OPEN, 0 },
	[IDLE_CUT] = { "a connection closed before a request", 0, 0, 0 },
	[IDLE_408] = { "a 408 before a request", 0, 0, 0 },
	[TOO_LARGE] = { "too large: 413", 0, 0, 0 },
};

/* A message as it was read; it may not be whole yet. */
struct message {
	char	 b[MESSAGE_MAX + 1];
	size_t	 have, head, body;	/* body: as Content-Length says */
};

static struct message	 request, reply;
static int		 meddle_up = -1;	/* the kept connection there */
static uint64_t		 meddle_seed;

/* what all the processes know together */
static struct {
	unsigned	 counts[COUNTS];
	unsigned char	 failed[4096];	/* in a row, for each target */
}			*meddled_so_far;

/* A number below n. */
static unsigned
roll(unsigned n)
{
	meddle_seed ^= meddle_seed << 13;
	meddle_seed ^= meddle_seed >> 7;
	meddle_seed ^= meddle_seed << 17;
	return (unsigned)(meddle_seed >> 33) % n;
}

static void
counted(int what)
{
	(void)__sync_fetch_and_add(&meddled_so_far->counts[what], 1);
}

/* Leaves for good, in one of the ways that there are. */
static void
leave(int c)
{
	if (roll(2)) {
		brittle(c, 1);
		_exit(0);
	}
	(void)shutdown(c, SHUT_WR);
	_exit(0);
}

static void
put(int fd, const char *s, size_t n)
{
	ssize_t m;

	for (; n > 0; s += m, n -= (size_t)m)
		if ((m = write(fd, s, n)) <= 0)
			_exit(0);
}

/* In pieces, the first of them tiny. */
static void
put_pieces(int fd, const char *s, size_t n)
{
	size_t m;
	int i;

	for (i = 0; n > 0; s += m, n -= m, i++) {
		m = 1 + roll(i < 20 ? 7 : 16384);
		if (m > n)
			m = n;
		put(fd, s, m);
		if (roll(8) == 0)
			(void)poll(NULL, 0, 1);
	}
}

/* Reads more of a message: 0 at the end of it all. */
static int
more(int fd, struct message *m, size_t most)
{
	const char *end, *val;
	ssize_t n;

	if (most > MESSAGE_MAX - m->have)
		most = MESSAGE_MAX - m->have;
	if ((n = read(fd, m->b + m->have, most)) <= 0)
		return 0;
	m->have += (size_t)n;
	m->b[m->have] = '\0';
	if (m->head == 0 && (end = strstr(m->b, "\r\n\r\n")) != NULL) {
		m->head = (size_t)(end - m->b) + 4;
		val = strstr(m->b, "\r\nContent-Length: ");
		m->body = val != NULL && val < end ?
		    strtoul(val + 18, NULL, 10) : 0;
		if (m->body > MESSAGE_MAX - m->head)
			_exit(0);
	}
	return 1;
}

static int
whole(const struct message *m)
{
	return m->head != 0 && m->have >= m->head + m->body;
}

/* All of it; whoever does not send all of it gets nothing more either. */
static void
read_all(int fd, struct message *m)
{
	while (!whole(m))
		if (!more(fd, m, MESSAGE_MAX))
			_exit(0);
}

static int
method(void)
{
	return strncmp(request.b, "POST ", 5) == 0 ? POST :
	    strncmp(request.b, "PUT ", 4) == 0 ? PUT :
	    strncmp(request.b, "GET ", 4) == 0 ? GET : DELETE;
}

static enum mood
draw(int which)
{
	unsigned sum = 0, n;
	int i;

	for (i = 0; i < MOODS; i++)
		sum += (moods[i].methods & which) ?
		    (unsigned)moods[i].weight : 0;
	n = roll(sum);
	for (i = 0; ; i++) {
		sum = (moods[i].methods & which) ?
		    (unsigned)moods[i].weight : 0;
		if (n < sum)
			return (enum mood)i;
		n -= sum;
	}
}

/* Not so often in a row for one tunnel that its pauses get long. */
static enum mood
moderate(enum mood mood)
{
	const char *s = strchr(request.b, ' ') + 1;
	unsigned char *failed;
	unsigned hash = 0;

	for (; *s != ' ' && *s != '\0'; s++)
		hash = hash * 31 + (unsigned char)*s;
	failed = &meddled_so_far->failed[hash %
	    sizeof(meddled_so_far->failed)];
	if (moods[mood].fails && ++*failed <= 4)
		return mood;
	*failed = 0;
	return moods[mood].fails ? PLAIN : mood;
}

/* An answer of its own; the request has been read. */
static void
own(int c, int status)
{
	static const char text[] = "<html>nobody's bytes</html>\n";
	char buf[512];
	int n;

	n = snprintf(buf, sizeof(buf), "HTTP/1.1 %d Own\r\nContent-Type: "
	    "text/html\r\nContent-Length: %zu\r\n\r\n%s", status,
	    status == 204 ? 0 : sizeof(text) - 1, status == 204 ? "" : text);
	put(c, buf, (size_t)n);
}

static int
error_status(void)
{
	static const int list[] = { 502, 503, 504, 503, 500, 429, 408, 425 };

	return list[roll(KIT_COUNT(list))];
}

/* A proxy that reads no more of the body says so and hears the client out,
 * or its answer would be lost in a reset. */
static void
too_much(int c)
{
	static const char text[] = "HTTP/1.1 413 Too Large\r\n"
	    "Content-Length: 0\r\nConnection: close\r\n\r\n";
	char junk[16384];

	counted(TOO_LARGE);
	put(c, text, sizeof(text) - 1);
	(void)shutdown(c, SHUT_WR);
	while (read(c, junk, sizeof(junk)) > 0)
		;
	_exit(0);
}

/* A head's field names in lower case; a request's or reply's version 1.0. */
static void
age(struct message *m)
{
	char *line, *v = strstr(m->b, "HTTP/1.1");

	if (v != NULL && v < m->b + m->head)
		v[7] = '0';
	for (line = strstr(m->b, "\r\n"); line != NULL &&
	    line + 4 < m->b + m->head; line = strstr(line, "\r\n"))
		for (line += 2; *line != ':' && *line != '\r'; line++)
			*line = (char)tolower((unsigned char)*line);
}

/* The request on its way: in one, or as it comes, or not quite. */
static void
send_request(int c, int up, enum mood mood)
{
	size_t sent = 0, most = request.head + request.body, n;

	if (mood == CUT_BODY)
		most = request.head + roll((unsigned)request.body + 1);
	if (mood == OLD)
		age(&request);
	if (mood == PLAIN || mood == OLD || roll(2))	/* it keeps all first */
		while (request.have < most)
			if (!more(c, &request, MESSAGE_MAX))
				_exit(0);
	while (sent < most) {
		n = (request.have < most ? request.have : most) - sent;
		if (mood == PIECES)
			put_pieces(up, request.b + sent, n);
		else
			put(up, request.b + sent, n);
		sent += n;
		if (sent < most && !more(c, &request, 16384))
			_exit(0);
	}
	if (mood == CUT_BODY || mood == CUT_SENT)
		leave(c);
}

/* Waits for an answer's bytes.  Of a client that goes some proxies tell the
 * server at once, others never. */
static void
await(int c, int up)
{
	struct pollfd pfd[2] = { { up, POLLIN, 0 }, { c, POLLIN, 0 } };
	char byte;

	while (poll(pfd, 2, -1) <= 0 || pfd[0].revents == 0)
		if (recv(c, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
			if (roll(2))
				_exit(0);
			pfd[1].fd = -1;
		}
}

static void
read_reply(int c, int up)
{
	reply.have = reply.head = reply.body = 0;
	while (!whole(&reply)) {
		await(c, up);
		if (!more(up, &reply, MESSAGE_MAX))
			leave(c);
	}
}

/* The request twice; one of the answers is the client's. */
static void
twice(int c, enum mood mood)
{
	int second, first = meddle_up;

	read_all(c, &request);
	put(first, request.b, request.have);
	/* the first GET would wait in vain for the second */
	if (mood == BY_TURNS && method() != GET)
		read_reply(c, first);
	second = between_connect();
	put(second, request.b, request.have);
	if (mood == TWICE || method() == GET) {
		read_reply(c, roll(2) ? first : second);
		(void)close(first);
		(void)close(second);
		meddle_up = -1;
		return;
	}
	if (roll(2))			/* else it is the first one's */
		read_reply(c, second);
	(void)close(second);
}

/* The request once more, by a process that nobody waits for. */
static void
repeat_later(int c)
{
	char byte;
	int fd;

	if (fork() != 0)
		return;
	(void)close(c);
	if (meddle_up != -1)
		(void)close(meddle_up);
	(void)poll(NULL, 0, 20 + (int)roll(200));
	fd = between_connect();
	put(fd, request.b, request.have);
	(void)!read(fd, &byte, 1);
	_exit(0);
}

/* The answer's head with another framing; the body is put behind it. */
static void
reframe(int c, const char *field)
{
	const char *cl = strstr(reply.b, "\r\nContent-Length: ");
	const char *rest = cl + 2 + strcspn(cl + 2, "\r");

	put(c, reply.b, (size_t)(cl - reply.b));
	put(c, rest, (size_t)(reply.b + reply.head - 2 - rest));
	put(c, field, strlen(field));
	put(c, "\r\n", 2);
}

static void
put_chunked(int c, int cut_off)
{
	size_t done, n, most = cut_off ? roll((unsigned)reply.body + 1) :
	    reply.body;
	char line[64];
	int k;

	reframe(c, "Transfer-Encoding: chunked\r\n");
	for (done = 0; done < most; done += n) {
		n = 1 + roll(8000);
		if (n > most - done)
			n = most - done;
		k = snprintf(line, sizeof(line), roll(2) ? "%zx\r\n" :
		    "%zX;a=b\r\n", n);
		put(c, line, (size_t)k);
		put(c, reply.b + reply.head + done, n);
		if (cut_off && done + n >= most)
			leave(c);
		put(c, "\r\n", 2);
	}
	if (cut_off)
		leave(c);
	put(c, "0\r\n\r\n", 5);
}

/* Up to the end of file, which may come early: that is no reset. */
static void
put_to_the_end(int c, int less)
{
	size_t n = less ? roll((unsigned)reply.body + 1) : reply.body;

	reframe(c, "Connection: close\r\n");
	put(c, reply.b + reply.head, n);
	_exit(0);
}

/* What the client gets of the answer. */
static void
send_reply(int c, enum mood mood)
{
	static const char hint[] = "HTTP/1.1 103 Early Hints\r\n"
	    "Link: </x>\r\n\r\n";

	if (strncmp(reply.b + 9, "204", 3) == 0 && mood >= CHUNKED &&
	    mood <= TO_THE_END_CUT)
		mood = PLAIN;			/* it has no body */
	switch (mood) {
	case LOSE:
		leave(c);
		break;
	case BUSY_AFTER:
		own(c, error_status());
		return;
	case CUT_ANSWER_HEAD:
		put(c, reply.b, roll((unsigned)reply.head));
		leave(c);
		break;
	case CUT_ANSWER_BODY:
		put(c, reply.b, reply.head - 1 + roll((unsigned)reply.body +
		    1));
		leave(c);
		break;
	case CHUNKED:
		put_chunked(c, 0);
		return;
	case TO_THE_END:
		put_to_the_end(c, 0);
		break;
	case CHUNKED_CUT:
		put_chunked(c, 1);
		break;
	case TO_THE_END_CUT:
		put_to_the_end(c, 1);
		break;
	case INTERIM:
		put(c, hint, sizeof(hint) - 1);
		break;
	case OLD:
		age(&reply);
		put(c, reply.b, reply.have);
		_exit(0);
	default:
		break;
	}
	if (mood == PIECES)
		put_pieces(c, reply.b, reply.have);
	else
		put(c, reply.b, reply.have);
}

/* Before a request: a kept connection's end, or what some servers say then. */
static void
idle_moods(int c)
{
	static const char text[] = "HTTP/1.1 408 Request Time-out\r\n"
	    "Content-Length: 0\r\nConnection: close\r\n\r\n";

	if (roll(30) == 0) {
		counted(IDLE_CUT);
		leave(c);
	}
	if (roll(60) == 0) {
		counted(IDLE_408);
		put(c, text, sizeof(text) - 1);
		leave(c);
	}
}

/* One request and what becomes of it. */
static void
meddle(int c)
{
	enum mood mood;

	idle_moods(c);
	request.have = request.head = request.body = 0;
	while (request.head == 0)
		if (!more(c, &request, 1 + roll(4096)))
			_exit(0);
	mood = moderate(draw(method()));
	counted((int)mood);
	if (mood == CUT_HEAD)
		leave(c);
	if (request.body > BODY_TAKEN)
		too_much(c);
	if (mood == BUSY || mood == PAGE) {
		read_all(c, &request);
		own(c, mood == BUSY ? error_status() : roll(2) ? 200 : 204);
		return;
	}
	if (mood == SLOW)
		(void)poll(NULL, 0, (int)roll(30));
	/* a server may have closed one that was kept */
	if (meddle_up != -1 && (mood == OLD || roll(4) == 0)) {
		(void)close(meddle_up);
		meddle_up = -1;
	}
	if (meddle_up == -1)
		meddle_up = between_connect();
	if (mood == TWICE || mood == BY_TURNS)
		twice(c, mood);
	else {
		send_request(c, meddle_up, mood);
		read_reply(c, meddle_up);
	}
	if (mood == SLOW)
		(void)poll(NULL, 0, (int)roll(30));
	if (mood == OLD) {
		(void)close(meddle_up);
		meddle_up = -1;
	}
	send_reply(c, mood);
	if (mood == LATER)
		repeat_later(c);
}

static void
meddle_client(int c, unsigned nth)
{
	int i;

	(void)signal(SIGCHLD, SIG_IGN);
	meddle_seed += nth * 0x9e3779b97f4a7c15U;
	for (i = 0; i < 8; i++)
		(void)roll(2);
	for (;;)
		meddle(c);
}

static int
meddler(const char *course)
{
	struct pollfd pfd[2] = { { 0, POLLIN, 0 }, { -1, POLLIN, 0 } };
	unsigned here = 0, sum = 0;
	int i;

	meddle_seed = strtoul(course, NULL, 10) * 2654435761U + 1;
	meddled_so_far = mmap(NULL, sizeof(*meddled_so_far),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (meddled_so_far == MAP_FAILED)
		return 1;
	(void)signal(SIGPIPE, SIG_IGN);
	pfd[1].fd = between_listen(&here);
	fprintf(stderr, "httptun: listening on 127.0.0.1 %u\n", here);
	do {
		(void)poll(pfd, 2, -1);
		if (pfd[1].revents != 0)
			between_accept(pfd[1].fd, meddle_client);
	} while (pfd[0].revents == 0);
	between_kill(SIGKILL);
	for (i = 0; i < COUNTS; i++) {
		fprintf(stderr, "  %6u  %s\n",
		    meddled_so_far->counts[i], moods[i].name);
		sum += i == PLAIN ? 0 : meddled_so_far->counts[i];
	}
	fprintf(stderr, "meddled %u\n", sum);
	return 0;
}


/* ---- tunnels through it ------------------------------------------------- */

static const char *
seed(void)
{
	const char *s = getenv("HTTPTUN_SEED");

	return s != NULL ? s : "1";
}

/* It ends, and has done something: so often at least. */
static void
meddled(struct kit_proc *m, unsigned least)
{
	const char *sum;

	kit_half_close(m->in);
	kit_exits(m, 0);
	if (is_long())
		print_message("  seed %s\n%s", seed(),
		    strchr(kit_err(m), '\n') + 1);
	sum = strstr(kit_err(m), "meddled ");
	if (sum == NULL || strtoul(sum + 8, NULL, 10) < least)
		kit_fail("it has not meddled %u times", least);
}

/* A tunnel by one hop or two, and what is to go through it. */
static struct kit_proc *
meddled_stream(const char *hop, const char *next, uint64_t bytes,
    struct kit_stream s[4])
{
	const char *port = kit_str("%u", tport);
	struct kit_proc *p;
	int far;

	p = next == NULL ?
	    kit_httptun(NULL, "-x", hop, "127.0.0.1", port, NONE) :
	    kit_httptun(NULL, "-x", hop, "-x", next, "127.0.0.1", port, NONE);
	far = kit_accept(tl);
	s[0] = (struct kit_stream){ p->in, KIT_OUT, bytes, 1, 0, 0 };
	s[1] = (struct kit_stream){ p->out, KIT_IN, bytes, 2, 0, 0 };
	s[2] = (struct kit_stream){ far, KIT_OUT, bytes, 2, 0, 0 };
	s[3] = (struct kit_stream){ far, KIT_IN, bytes, 1, 0, 0 };
	return p;
}

/* Both ends, in order. */
static void
meddled_end(struct kit_proc *p, int far)
{
	flat(p);
	kit_half_close(p->in);
	kit_half_close(far);
	kit_eof(far);
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

/* A lot each way at once; the meddler is in front of the gateway for one
 * tunnel, and a plain proxy on the way for the other. */
static void
meddled_streams(void **state)
{
	struct kit_stream s[8];
	struct kit_proc *m, *p[2];
	const char *hp;

	(void)state;
	kit_proxy(&server, LOCAL);
	tl = kit_listen(AF_INET, &tport);
	m = between("--meddler", server.port, seed());
	hp = kit_str("127.0.0.1:%u", kit_listening(m, 0));
	p[0] = meddled_stream(kit_str("poll://%s/", hp), NULL, is_long() ?
	    100 * MB : 2 * MB, s);
	p[1] = meddled_stream(kit_str("http://%s", hp),
	    kit_str("poll://127.0.0.1:%u/", server.port), is_long() ?
	    100 * MB : 2 * MB, s + 4);
	kit_pump(s, 8);
	meddled_end(p[0], s[2].fd);
	meddled_end(p[1], s[6].fd);
	kit_untouched(tl);
	kit_proxy_below(&server, PEAK);
	meddled(m, 20);
}

#define AT_ONCE		100

/* What tunnel n says is so long, and its answer. */
static size_t
length(int n, int down)
{
	return (size_t)(n * 37 * (down ? 5 : 1) % 6000);
}

static void
say_number(int fd, int n, int down)
{
	char buf[6004];

	memcpy(buf, kit_str("%04d", n), 4);
	kit_fill(buf + 4, length(n, down), (unsigned)(2 * n + down), 0);
	kit_send(fd, buf, 4 + length(n, down));
	kit_half_close(fd);
}

/* Which one this is, to its end. */
static int
hear_number(int fd, int below, int down)
{
	int n = kit_number(fd, below);
	char buf[6000];

	kit_recv(fd, buf, length(n, down));
	kit_check(buf, length(n, down), (unsigned)(2 * n + down), 0);
	kit_eof(fd);
	return n;
}

/* A question and its answer in each of many: each once. */
static void
meddled_tunnels(void **state)
{
	int c[AT_ONCE], i, n, t, round, rounds = is_long() ? 10 : 1;
	char seen[10 * AT_ONCE] = { 0 };
	struct kit_proc *m, *p;
	const char *err;
	unsigned port;

	(void)state;
	kit_proxy(&server, LOCAL);
	m = between("--meddler", server.port, seed());
	tl = kit_listen(AF_INET, &tport);
	p = kit_httptun(NULL, "-x", kit_str("poll://127.0.0.1:%u/",
	    kit_listening(m, 0)), "-L", kit_str("0:127.0.0.1:%u", tport), NONE);
	port = kit_listening(p, 0);
	kit_idle(p);
	err = kit_str("%s", kit_err(p));
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < AT_ONCE; i++) {
			c[i] = kit_connect(AF_INET, port);
			say_number(c[i], round * AT_ONCE + i, 0);
		}
		for (i = 0; i < AT_ONCE; i++) {
			t = kit_accept(tl);
			n = hear_number(t, rounds * AT_ONCE, 0);
			if (seen[n]++)
				kit_fail("tunnel %d came twice", n);
			say_number(t, n, 1);
			(void)close(t);
		}
		for (i = 0; i < AT_ONCE; i++) {
			n = hear_number(c[i], rounds * AT_ONCE, 1);
			assert_int_equal(n, round * AT_ONCE + i);
			(void)close(c[i]);
		}
	}
	kit_untouched(tl);
	kit_err_is(p, err);
	meddled(m, 100);
}


/* An argument is the pattern of the tests to run, or which of the processes in
 * between this is, in front of which port, by which seed. */
int
main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(forms),
		KIT_TEST(carrier_by_option),
		KIT_TEST(further_fields),
		KIT_TEST(always_a_get),
		KIT_TEST(slow_answer),
		KIT_TEST(stalled_target),
		KIT_TEST(no_keep_alive),
		KIT_TEST(writes_are_joined),
		KIT_TEST(early_stdin),
		KIT_TEST(open_and_close),
		KIT_TEST(after_a_challenge),
		KIT_TEST(at_once),
		KIT_TEST(refused_credentials),
		KIT_TEST(digests),
		KIT_TEST(nonces),
		KIT_TEST(through_a_proxy),
		KIT_TEST(credentials_of_both),
		KIT_TEST(refused_body),
		KIT_TEST(again_when_open),
		KIT_TEST(again_when_asking),
		KIT_TEST(never_again),
		KIT_TEST(pauses),
		KIT_TEST(puts_in_vain),
		KIT_TEST(too_large),
		KIT_TEST(slow_way),
		KIT_TEST(refused),
		KIT_TEST(gone),
		KIT_TEST(impossible),
		KIT_TEST(malformed),
		KIT_TEST(ahead_of_us),
		KIT_TEST(another_end),
		KIT_TEST(part_of_a_put),
		KIT_TEST(end_is_said_again),
		KIT_TEST(cut_anywhere),
		KIT_TEST(framed),
		KIT_TEST(empty_answers),
		KIT_TEST(answers_twice),
		KIT_TEST(byte_by_byte),
		KIT_TEST(kept_and_closed),
		KIT_TEST(all_cut),
		KIT_TEST(first_connection),
		KIT_TEST(target_ends),
		KIT_TEST(stdin_ends),
		KIT_TEST(stdout_stalls),
		KIT_TEST(stdout_is_closed),
		KIT_TEST(signals),
		KIT_TEST(signal_with_many),
		KIT_TEST(signal_with_full_stderr),
		KIT_TEST(signal_twice),
		KIT_TEST(inetd_deletes),
		KIT_TEST(deleted_early),
		KIT_TEST(local_port),
		KIT_TEST(waiting),
		KIT_TEST(waiting_behind),
		KIT_TEST(waiting_long),
		KIT_TEST(both_ways),
		KIT_TEST(half_closes),
		KIT_TEST(stalls),
		KIT_TEST(target_resets),
		KIT_TEST(client_resets),
		KIT_TEST(target_speaks_first),
		KIT_TEST(refused_there),
		KIT_TEST(chain_without_credentials),
		KIT_TEST(chain_forwards),
		KIT_TEST(network_fails),
		KIT_TEST(meddled_streams),
		KIT_TEST(meddled_tunnels),
	};

	if (argc > 3) {
		between_port = (unsigned)strtoul(argv[2], NULL, 10);
		return strcmp(argv[1], "--network") == 0 ? network() :
		    meddler(argv[3]);
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
