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
 * The two older programs that tunnel by POST, PUT, GET and DELETE: khuevu's
 * http-tunnel and luizluca's bridge, clients of `httptun -l` and servers of
 * our client.  They stand here as tests/khuevu_*.py and tests/bridge_*.py,
 * which say and do what the real ones do; how they end is their own way too:
 * neither client can say that its stdin has ended, but by a DELETE, which
 * ends all.  What they would never say is said by the test itself.
 *
 * HTTPTUN_LONG in the environment: 100 MB down, 10 MB up, and holds that are
 * waited for.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kit.h"

#define NONE	((char *)NULL)
#define PYTHON	"/usr/bin/python3"	/* Debian's */
#define MB	1000000
#define CLIENTS	10			/* at once */

#define FORM	"Content-Type: application/x-www-form-urlencoded\r\n"
#define ID	"/6ba7b810-9dad-11d1-80b4-00c04fd430c8"
#define OTHER	"/0123456789abcdef0123456789ABCDEF"

/* `httptun -l`, and a target. */
static struct kit_proxy	px;
static int		tl;
static unsigned		tport;

/* The older server, and its URL. */
static struct kit_proc	*peer;
static const char	*url;


/* ---- the older programs -------------------------------------------------- */

struct protocol {
	const char	*name;
	const char	*location;	/* of its server's tunnels */
	struct kit_proc	*(*client)(const char *host, unsigned port);
	/* how its client's tunnels end */
	void		 (*client_first)(struct kit_proc *, int);
	void		 (*target_first)(struct kit_proc *, int);
	/* what it says to its server, and hears */
	const char	*post;		/* %u: the target's port */
	int		 opened, refused;
};

static struct kit_proc *
script(const struct kit_opt *opt, const char *name, const char *arg, ...)
{
	const char *argv[16] = { PYTHON, "-I" };
	size_t n = 2;
	va_list ap;

	argv[n++] = kit_str("tests/%s.py", name);
	va_start(ap, arg);
	for (; arg != NULL; arg = va_arg(ap, const char *))
		argv[n++] = arg;
	va_end(ap);
	argv[n] = NULL;
	return kit_startv(opt, argv);
}

static struct kit_proc *
khuevu_client(const char *host, unsigned port)
{
	return script(NULL, "khuevu_client", "-s", "0.01",
	    kit_str("%s:%u", host, port), kit_str("127.0.0.1:%u", tport),
	    NONE);
}

/* It ends no sooner than its GET has, and takes what that brings. */
static void
khuevu_client_first(struct kit_proc *p, int t)
{
	char buf[16];

	kit_puts(p->in, "the last");
	kit_expect(t, "the last");
	kit_half_close(p->in);
	kit_err_wait(p, "the end of stdin\n");
	kit_puts(t, "x");
	(void)kit_slurp(p->out, buf, sizeof(buf));
	kit_exits(p, 0);
	kit_err_has(p, "\nDELETE 200");
	(void)kit_until_end(t);
}

/* It never takes the target's end for one, and goes on sending. */
static void
khuevu_target_first(struct kit_proc *p, int t)
{
	kit_puts(t, "the last");
	kit_half_close(t);
	kit_expect(p->out, "the last");
	kit_err_wait(p, "\nGET 200, 0 bytes\n");
	kit_puts(p->in, "and still");
	kit_expect(t, "and still");
	kit_half_close(p->in);
	kit_exits(p, 0);
	kit_eof(p->out);
	kit_err_has(p, "\nDELETE 200");
	(void)kit_until_end(t);
}

static struct kit_proc *
bridge_client(const char *host, unsigned port)
{
	return script(NULL, "bridge_client", kit_str("http://%s:%u/bridge",
	    host, port), "127.0.0.1", kit_str("%u", tport), NONE);
}

static void
bridge_client_first(struct kit_proc *p, int t)
{
	kit_puts(p->in, "the last");
	kit_expect(t, "the last");
	kit_half_close(p->in);
	kit_exits(p, 0);
	kit_eof(p->out);
	kit_err_has(p, "POST 201: \nDELETE\n");
	(void)kit_until_end(t);
}

/* Told that the target has ended it is gone, and so is the target for it. */
static void
bridge_target_first(struct kit_proc *p, int t)
{
	kit_puts(t, "the last");
	kit_half_close(t);
	kit_expect(p->out, "the last");
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "POST 201: \nGET 410\n");
	(void)kit_until_end(t);
}

static struct protocol khuevu = {
	"khuevu", NULL, khuevu_client, khuevu_client_first,
	khuevu_target_first, "host=127.0.0.1&port=%u", 200, 502
};
static struct protocol bridge = {
	"bridge", "/bridge", bridge_client, bridge_client_first,
	bridge_target_first, "127.0.0.1:%u", 201, 406
};

/* Its server, which holds a GET for this time only; its port. */
static unsigned
older_server(const struct protocol *pr)
{
	struct kit_opt opt = { .out = KIT_NULL };
	unsigned port;

	opt.in = kit_listen(AF_INET, &port);
	peer = script(&opt, kit_str("%s_server", pr->name), "-s", "0.01",
	    pr->location, NONE);
	(void)close(opt.in);
	url = kit_str("poll://127.0.0.1:%u%s", port, pr->location != NULL ?
	    pr->location : "/");
	return port;
}


/* ---- tunnels ------------------------------------------------------------- */

static void
target(void)
{
	tl = kit_listen(AF_INET, &tport);
}

/* A target, and `httptun -l`. */
static void
our_server(void)
{
	target();
	kit_proxy(&px, "127.0.0.1", "0", NONE);
}

/* Our client, from stdin/stdout to the target. */
static struct kit_proc *
our_client(const char *hop)
{
	return kit_httptun(NULL, "-v", "-x", hop, "127.0.0.1",
	    kit_str("%u", tport), NONE);
}

/* What form-encoding, or text, would change. */
static void
every_byte(int from, int to)
{
	static const char sly[] = "data=+%2B&data=;%\r\n\r\n %+";
	unsigned char buf[256], got[256];
	size_t i;

	for (i = 0; i < sizeof(buf); i++)
		buf[i] = (unsigned char)i;
	kit_send(from, buf, sizeof(buf));
	kit_recv(to, got, sizeof(got));
	if (memcmp(buf, got, sizeof(buf)) != 0)
		kit_fail("not every byte value arrives as it is");
	kit_puts(from, sly);
	kit_expect(to, sly);
}

/* Both directions at once, of so many tunnels. */
static void
talk(struct kit_proc *const *p, const int *t, size_t n, uint64_t up,
    uint64_t down)
{
	struct kit_stream s[4 * CLIENTS];
	size_t i;

	memset(s, 0, sizeof(s));
	for (i = 0; i < n; i++) {
		s[4 * i].fd = p[i]->in;
		s[4 * i + 1].fd = s[4 * i + 2].fd = t[i];
		s[4 * i + 3].fd = p[i]->out;
		s[4 * i].dir = s[4 * i + 2].dir = KIT_OUT;
		s[4 * i + 1].dir = s[4 * i + 3].dir = KIT_IN;
		s[4 * i].bytes = s[4 * i + 1].bytes = up;
		s[4 * i + 2].bytes = s[4 * i + 3].bytes = down;
		s[4 * i].seed = s[4 * i + 1].seed = 2 * (unsigned)i + 1;
		s[4 * i + 2].seed = s[4 * i + 3].seed = 2 * (unsigned)i + 2;
	}
	kit_pump(s, 4 * n);
}

static void
much(struct kit_proc *p, int t)
{
	int many = getenv("HTTPTUN_LONG") != NULL;

	every_byte(p->in, t);
	every_byte(t, p->out);
	talk(&p, &t, 1, (many ? 10 : 1) * MB, (many ? 100 : 3) * MB);
}

/* Each client says which it is; the targets' ends in their order. */
static void
accept_all(struct kit_proc *const *p, int *t, int n)
{
	int fds[CLIENTS], i;

	for (i = 0; i < n; i++)
		kit_puts(p[i]->in, kit_str("%04d", i));
	for (i = 0; i < n; i++)
		fds[i] = kit_accept(tl);
	for (i = 0; i < n; i++)
		t[kit_number(fds[i], n)] = fds[i];
}


/* ---- the older programs among themselves --------------------------------- */

static void
peers(void **state)
{
	const struct protocol *pr = *state;
	void (*const ends[])(struct kit_proc *, int) = {
		pr->client_first, pr->target_first
	};
	struct kit_proc *p;
	unsigned port;
	size_t i;
	int t;

	target();
	port = older_server(pr);
	for (i = 0; i < KIT_COUNT(ends); i++) {
		p = pr->client("127.0.0.1", port);
		t = kit_accept(tl);
		every_byte(p->in, t);
		every_byte(t, p->out);
		talk(&p, &t, 1, MB / 5, MB / 5);
		ends[i](p, t);
	}
}


/* ---- older clients of httptun -l ----------------------------------------- */

static void
client_ends_first(void **state)
{
	const struct protocol *pr = *state;
	struct kit_proc *p;
	int t;

	our_server();
	p = pr->client("127.0.0.1", px.port);
	t = kit_accept(tl);
	much(p, t);
	pr->client_first(p, t);
	(void)close(t);
	kit_proxy_settles(&px);
}

/* And the proxy itself under another of its names. */
static void
target_ends_first(void **state)
{
	const struct protocol *pr = *state;
	struct kit_proc *p;
	int t;

	our_server();
	p = pr->client("localhost", px.port);
	t = kit_accept(tl);
	every_byte(p->in, t);
	every_byte(t, p->out);
	pr->target_first(p, t);
	(void)close(t);
	kit_proxy_settles(&px);
}

/* At once, and with workers: a session is everybody's. */
static void
clients_at_once(void **state)
{
	const struct protocol *pr = *state;
	struct kit_proc *p[CLIENTS];
	int i, t[CLIENTS];

	target();
	kit_proxy(&px, "-j", "3", "127.0.0.1", "0", NONE);
	for (i = 0; i < CLIENTS; i++)
		p[i] = pr->client("127.0.0.1", px.port);
	accept_all(p, t, CLIENTS);
	talk(p, t, CLIENTS, MB / 10, MB / 10);
	for (i = 0; i < CLIENTS; i++) {
		(i % 2 == 0 ? pr->client_first : pr->target_first)(p[i], t[i]);
		(void)close(t[i]);
	}
	kit_proxy_settles(&px);
}

/* One of each kind, ours too, on one server. */
static void
kinds_at_once(void **state)
{
	static const char *const hops[] = {
		"poll://127.0.0.1:%u/", "poll://localhost:%u/any/where",
		"ws://127.0.0.1:%u/", "http://127.0.0.1:%u"
	};
	struct kit_proc *p[KIT_COUNT(hops) + 2];
	int i, n = 0, t[KIT_COUNT(p)];

	(void)state;
	our_server();
	p[n++] = khuevu.client("127.0.0.1", px.port);
	p[n++] = bridge.client("127.0.0.1", px.port);
	for (i = 0; i < (int)KIT_COUNT(hops); i++) {
		const char *mark = strchr(hops[i], '%');

		p[n++] = our_client(kit_str("%.*s%u%s", (int)(mark - hops[i]),
		    hops[i], px.port, mark + 2));
	}
	accept_all(p, t, n);
	talk(p, t, (size_t)n, MB / 2, MB / 2);
	for (i = n - 1; i >= 2; i--) {
		kit_half_close(p[i]->in);
		kit_eof(t[i]);
		kit_puts(t[i], "answer");
		kit_half_close(t[i]);
		kit_expect(p[i]->out, "answer");
		kit_eof(p[i]->out);
		kit_exits(p[i], 0);
		(void)close(t[i]);
	}
	every_byte(p[0]->in, t[0]);
	every_byte(t[1], p[1]->out);
	bridge.client_first(p[1], t[1]);
	khuevu.client_first(p[0], t[0]);
	(void)close(t[1]);
	(void)close(t[0]);
	kit_proxy_settles(&px);
}

/* What its PUT has been told to be taken is not lost by the DELETE behind it,
 * however slow the target is. */
static void
delivered(void **state)
{
	const struct protocol *pr = *state;
	struct kit_stream s[] = {
		{ .dir = KIT_OUT, .bytes = MB / 5, .seed = 1, .end = 1 },
		{ .dir = KIT_IN, .bytes = MB / 5, .seed = 1, .end = 1 },
	};
	struct kit_proc *p;

	tl = kit_listen_buf(AF_INET, &tport, 4096);
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	p = pr->client("127.0.0.1", px.port);
	s[0].fd = p->in;
	s[1].fd = kit_accept(tl);
	kit_puts(s[1].fd, "x");
	kit_expect(p->out, "x");
	kit_pump(s, 1);
	if (pr == &khuevu) {
		kit_err_wait(p, "the end of stdin\n");
		kit_puts(s[1].fd, "x");
	}
	kit_exits(p, 0);
	kit_pump(&s[1], 1);
	(void)close(s[1].fd);
	kit_proxy_settles(&px);
}

/* The client says so, and that is all. */
static void
client_refused(void **state)
{
	static const char *const rules[] = { NULL, "!127.0.0.1" };
	const struct protocol *pr = *state;
	struct kit_proc *p;
	size_t i;

	for (i = 0; i < KIT_COUNT(rules); i++) {
		target();
		if (rules[i] != NULL)
			kit_proxy(&px, "-t", rules[i], "127.0.0.1", "0",
			    NONE);
		else {
			tport = kit_nobody(AF_INET);
			kit_proxy(&px, "127.0.0.1", "0", NONE);
		}
		p = pr->client("127.0.0.1", px.port);
		kit_exits(p, 1);
		kit_eof(p->out);
		kit_err_has(p, kit_str("POST %d", pr == &khuevu &&
		    rules[i] != NULL ? 403 : pr->refused));
		kit_proxy_settles(&px);
		kit_untouched(tl);
	}
}

static void
client_unknown(void **state)
{
	const struct protocol *pr = *state;
	struct kit_proc *p;

	target();
	kit_proxy(&px, "-a", kit_file("users", 0600, "al:open\n"),
	    "127.0.0.1", "0", NONE);
	p = pr->client("127.0.0.1", px.port);
	kit_exits(p, 1);
	kit_eof(p->out);
	kit_err_has(p, "POST 401");
	kit_untouched(tl);
	kit_proxy_settles(&px);
}


/* ---- what they say and hear, word for word ------------------------------- */

/* A request, in one write. */
static void
say(int c, const char *method, const char *where, const char *fields,
    const char *body)
{
	kit_puts(c, kit_str("%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s"
	    "%s\r\n%s", method, where, px.port, fields, body == NULL ? "" :
	    kit_str("Content-Length: %zu\r\n", strlen(body)),
	    body == NULL ? "" : body));
}

/* The answer, with exactly this body unless it does not matter; nothing that
 * is not for older programs.  Its head. */
static const char *
hear(int c, int status, const char *body)
{
	char buf[4096];
	const char *head, *length;
	size_t n;

	(void)kit_head(c, buf, sizeof(buf));
	head = kit_str("%s", buf);
	if (strncmp(head, kit_str("HTTP/1.1 %d ", status), 13) != 0)
		kit_fail("<<%s>> and no %d", head, status);
	if (kit_field(head, "Tunnel-Offset") != NULL ||
	    kit_field(head, "Tunnel-End") != NULL ||
	    kit_field(head, "Transfer-Encoding") != NULL)
		kit_fail("what is this to it: <<%s>>", head);
	(void)kit_must_have(head, "Cache-Control", "no-store");
	length = kit_one_field(head, "Content-Length");
	if ((length == NULL) != (status == 204))
		kit_fail("Content-Length and %d: <<%s>>", status, head);
	n = length == NULL ? 0 : strtoul(length, NULL, 10);
	if (body != NULL && n != strlen(body))
		kit_fail("a body of %zu bytes: <<%s>>", n, head);
	if (body != NULL)
		kit_expect(c, body);
	else {
		assert_true(n < sizeof(buf));
		kit_recv(c, buf, n);
	}
	return head;
}

/* On a connection of its own. */
static const char *
once(const char *method, const char *where, const char *fields,
    const char *body, int status)
{
	const char *head;
	int c = kit_client(&px);

	say(c, method, where, fields, body);
	head = hear(c, status, NULL);
	(void)close(c);
	return head;
}

/* The POST for the target. */
static const char *
post(const struct protocol *pr)
{
	const char *mark = strchr(pr->post, '%');

	return kit_str("%.*s%u", (int)(mark - pr->post), pr->post, tport);
}

static void
khuevu_life(void **state)
{
	const char *absolute;
	int c, g, i, t;

	(void)state;
	our_server();
	absolute = kit_str("http://127.0.0.1:%u" ID, px.port);
	c = kit_client(&px);
	g = kit_client(&px);
	say(c, "POST", absolute, FORM, post(&khuevu));
	(void)hear(c, 200, NULL);
	t = kit_accept(tl);
	say(c, "PUT", absolute, FORM, "data=a+b%2B%26%3D%25%0d%0A%C3%a4-._~");
	(void)hear(c, 200, NULL);
	kit_expect(t, "a b+&=%\r\n\303\244-._~");
	kit_puts(t, "one");
	say(g, "GET", ID, "", NULL);
	(void)hear(g, 200, "one");
	say(g, "GET", ID, "", NULL);
	say(c, "PUT", absolute, FORM, "data=beside");
	(void)hear(c, 200, NULL);
	kit_expect(t, "beside");
	kit_silent(g, 0);
	kit_puts(t, "two");
	(void)hear(g, 200, "two");
	kit_half_close(t);
	for (i = 0; i < 2; i++) {
		say(g, "GET", ID, "", NULL);
		(void)hear(g, 200, "");
	}
	say(c, "PUT", absolute, FORM, "data=behind");
	(void)hear(c, 200, NULL);
	kit_expect(t, "behind");
	say(c, "DELETE", ID, "", NULL);
	(void)hear(c, 200, NULL);
	kit_eof(t);
	(void)close(t);
	(void)close(c);
	(void)close(g);
	(void)once("GET", ID, "", NULL, 404);
	(void)once("PUT", ID, FORM, "data=x", 404);
	kit_proxy_settles(&px);
}

static void
bridge_life(void **state)
{
	int c, g, i, t;

	(void)state;
	our_server();
	c = kit_client(&px);
	g = kit_client(&px);
	say(c, "POST", "/bridge" ID, FORM, post(&bridge));
	(void)hear(c, 201, NULL);
	t = kit_accept(tl);
	say(c, "PUT", "/bridge" ID, FORM, "data=a+b%2B");
	(void)hear(c, 200, NULL);
	kit_expect(t, "data=a+b%2B");
	kit_puts(t, "one");
	say(g, "GET", "/bridge" ID, "", NULL);
	(void)hear(g, 200, "one");
	say(g, "GET", "/bridge" ID, "", NULL);
	say(c, "PUT", "/bridge" ID, FORM, "beside");
	(void)hear(c, 200, NULL);
	kit_expect(t, "beside");
	kit_silent(g, 0);
	kit_puts(t, "two");
	(void)hear(g, 200, "two");
	kit_half_close(t);
	for (i = 0; i < 2; i++) {
		say(g, "GET", "/bridge" ID, "", NULL);
		(void)hear(g, 410, "");
	}
	say(c, "PUT", "/bridge" ID, FORM, "behind");
	(void)hear(c, 410, "");
	(void)kit_until_end(t);
	say(c, "DELETE", "/bridge" ID, "Depth: Infinity\r\n", NULL);
	(void)hear(c, 200, NULL);
	say(g, "GET", "/bridge" ID, "", NULL);
	(void)hear(g, 404, "");
	say(c, "PUT", "/bridge" ID, FORM, "x");
	(void)hear(c, 404, NULL);
	(void)close(c);
	(void)close(g);
	kit_proxy_settles(&px);
}

/* With the target's end all ends, but what a PUT was told to be taken arrives
 * first; one that waits for that is told. */
static void
bridge_slow_target(void **state)
{
	struct pollfd p = { .events = POLLIN };
	struct kit_stream s = { .dir = KIT_IN, .seed = 1, .end = 1 };
	unsigned char buf[MB / 16];
	int g;

	(void)state;
	tl = kit_listen_buf(AF_INET, &tport, 4096);
	kit_proxy(&px, "-v", "127.0.0.1", "0", NONE);
	p.fd = kit_client(&px);
	say(p.fd, "POST", ID, FORM, post(&bridge));
	(void)hear(p.fd, 201, NULL);
	s.fd = kit_accept(tl);
	for (;; s.bytes += sizeof(buf)) {
		kit_fill(buf, sizeof(buf), 1, s.bytes);
		kit_puts(p.fd, kit_str("PUT " ID " HTTP/1.1\r\nHost: a\r\n"
		    FORM "Content-Length: %zu\r\n\r\n", sizeof(buf)));
		kit_send(p.fd, buf, sizeof(buf));
		if (poll(&p, 1, 200) == 0)
			break;
		(void)hear(p.fd, 200, "");
	}
	kit_half_close(s.fd);
	g = kit_client(&px);
	say(g, "GET", ID, "", NULL);
	(void)hear(g, 410, "");
	(void)hear(p.fd, 410, "");
	say(g, "DELETE", ID, "", NULL);
	(void)hear(g, 200, NULL);
	kit_pump(&s, 1);
	kit_err_wait(px.proc, " done\n");
	(void)close(s.fd);
	(void)close(p.fd);
	(void)close(g);
	kit_proxy_settles(&px);
}

/* What its client has sent is the target's; what it does not fetch is not. */
static void
deleted(void **state)
{
	const struct protocol *pr = *state;
	int g, t;

	our_server();
	(void)once("POST", ID, FORM, post(pr), pr->opened);
	t = kit_accept(tl);
	g = kit_client(&px);
	say(g, "GET", ID, "", NULL);
	(void)once("PUT", ID, FORM, "data=x", 200);
	(void)once("DELETE", ID, "", NULL, 200);
	(void)hear(g, pr == &bridge ? 410 : 200, "");
	kit_expect(t, pr == &bridge ? "data=x" : "x");
	kit_eof(t);
	(void)close(t);
	(void)close(g);
	kit_proxy_settles(&px);
}

/* Nor is a tunnel open that was deleted before. */
static void
deleted_before(void **state)
{
	const struct protocol *pr = *state;
	int c, g;

	target();
	kit_blackhole(&tport);
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	c = kit_client(&px);
	say(c, "POST", ID, FORM, post(pr));
	kit_proxy_rests(&px);
	g = kit_client(&px);
	say(g, "GET", ID, "", NULL);
	kit_proxy_rests(&px);
	(void)once("DELETE", ID, "", NULL, 200);
	(void)hear(c, pr->refused, NULL);
	(void)hear(g, pr == &bridge ? 410 : 200, "");
	(void)close(c);
	(void)close(g);
	kit_proxy_settles(&px);
}

static void
target_resets(void **state)
{
	const struct protocol *pr = *state;
	int g, t;

	our_server();
	(void)once("POST", ID, FORM, post(pr), pr->opened);
	t = kit_accept(tl);
	g = kit_client(&px);
	say(g, "GET", ID, "", NULL);
	kit_reset(t);
	if (pr == &bridge)
		(void)hear(g, 410, "");
	else
		kit_poll(g, POLLIN, "an answer");
	(void)once("PUT", ID, FORM, "data=x", pr == &bridge ? 410 : 503);
	(void)once("DELETE", ID, "", NULL, 200);
	(void)close(g);
	kit_proxy_settles(&px);
}

static void
forms(void **state)
{
	static const struct {
		const char		*head, *tail;	/* around the port */
		const struct protocol	*pr;
	} rows[] = {
		{ "host=127.0.0.1&port=", "", &khuevu },
		{ "port=", "&host=127.0.0.1", &khuevu },
		{ "port=", "&host=localhost", &khuevu },
		{ "host=127%2e0%2E0.1&port=", "", &khuevu },
		{ "127.0.0.1:", "", &bridge },
		{ "localhost:", "", &bridge },
	};
	size_t i;
	int t;

	(void)state;
	our_server();
	for (i = 0; i < KIT_COUNT(rows); i++) {
		kit_note("%sN%s", rows[i].head, rows[i].tail);
		(void)once("POST", OTHER, FORM, kit_str("%s%u%s",
		    rows[i].head, tport, rows[i].tail), rows[i].pr->opened);
		t = kit_accept(tl);
		(void)once("PUT", OTHER, FORM, "data=x", 200);
		kit_expect(t, rows[i].pr == &khuevu ? "x" : "data=x");
		(void)once("DELETE", OTHER, "", NULL, 200);
		(void)kit_until_end(t);
		(void)close(t);
	}
	kit_proxy_settles(&px);
}

/* Cut anywhere, in the middle of a %XX too. */
static void
in_pieces(void **state)
{
	static const char body[] = "data=%41%2b+%7Fz";
	size_t cut;
	int c, t;

	(void)state;
	our_server();
	(void)once("POST", ID, FORM, post(&khuevu), 200);
	t = kit_accept(tl);
	c = kit_client(&px);
	for (cut = 1; cut < sizeof(body) - 1; cut++) {
		kit_note("cut at %zu", cut);
		kit_puts(c, kit_str("PUT " ID " HTTP/1.1\r\nHost: a\r\n" FORM
		    "Content-Length: %zu\r\n\r\n%.*s", sizeof(body) - 1,
		    (int)cut, body));
		kit_proxy_rests(&px);
		kit_puts(c, body + cut);
		(void)hear(c, 200, NULL);
		kit_expect(t, "A+ \177z");
	}
}

/* What is not so encoded gets an answer, and nothing behind the fault is taken;
 * the tunnel goes on. */
static void
bad_forms(void **state)
{
	static const struct {
		const char	*body, *taken;
	} rows[] = {
		{ "x=1", "" }, { "d", "" }, { "data", "" }, { "Data=1", "" },
		{ "data=%zz", "" }, { "data=ab%4", "ab" }, { "data=ab%", "ab" },
		{ "data=a&data=b", "a" }, { "data=a%4xb", "a" },
	};
	size_t i;
	int c, t;

	(void)state;
	our_server();
	(void)once("POST", ID, FORM, post(&khuevu), 200);
	t = kit_accept(tl);
	c = kit_client(&px);
	for (i = 0; i < 2 * KIT_COUNT(rows); i++) {
		kit_note("%s", rows[i / 2].body);
		if (i % 2) {
			kit_puts(c, kit_str("PUT " ID " HTTP/1.1\r\nHost: a\r\n"
			    FORM "Content-Length: %zu\r\n\r\n",
			    strlen(rows[i / 2].body)));
			kit_proxy_rests(&px);
			kit_puts(c, rows[i / 2].body);
		} else
			say(c, "PUT", ID, FORM, rows[i / 2].body);
		(void)hear(c, 400, NULL);
		kit_expect(t, rows[i / 2].taken);
		say(c, "PUT", ID, FORM, i % 2 ? "data=" : "");
		(void)hear(c, 200, NULL);
		say(c, "PUT", ID, FORM, "data=%26");
		(void)hear(c, 200, NULL);
		kit_expect(t, "&");
	}
}

/* The most that either client sends at once; each byte of the one three. */
static void
biggest(void **state)
{
	static char body[5 + 3 * 51200];
	struct kit_stream s[] = {
		{ .dir = KIT_OUT, .bytes = 655360, .seed = 1 },
		{ .dir = KIT_IN, .bytes = 655360, .seed = 1 },
	};
	unsigned char raw[51200];
	size_t i;
	int c, t;

	(void)state;
	our_server();
	c = kit_client(&px);
	say(c, "POST", ID, FORM, post(&khuevu));
	(void)hear(c, 200, NULL);
	t = kit_accept(tl);
	kit_fill(raw, sizeof(raw), 2, 0);
	memcpy(body, "data=", 5);
	for (i = 0; i < sizeof(raw); i++) {
		body[5 + 3 * i] = '%';
		body[6 + 3 * i] = "0123456789ABCDEF"[raw[i] >> 4];
		body[7 + 3 * i] = "0123456789abcdef"[raw[i] & 15];
	}
	kit_puts(c, kit_str("PUT " ID " HTTP/1.1\r\nHost: a\r\n" FORM
	    "Content-Length: %zu\r\n\r\n", sizeof(body)));
	kit_send(c, body, sizeof(body));
	memset(raw, 0, sizeof(raw));
	kit_recv(t, raw, sizeof(raw));
	kit_check(raw, sizeof(raw), 2, 0);
	(void)hear(c, 200, NULL);

	say(c, "POST", OTHER, FORM, post(&bridge));
	(void)hear(c, 201, NULL);
	s[0].fd = c;
	s[1].fd = kit_accept(tl);
	kit_puts(c, "PUT " OTHER " HTTP/1.1\r\nHost: a\r\n" FORM
	    "Content-Length: 655360\r\n\r\n");
	kit_pump(s, 2);
	(void)hear(c, 200, NULL);
}

/* A reason is text, for people. */
static void
refusals(void **state)
{
	const struct protocol *pr = *state;
	const char *head;
	int c;

	target();
	tport = kit_nobody(AF_INET);
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	head = once("POST", ID, FORM, post(pr), pr->refused);
	(void)kit_must_have(head, "Content-Type", "text/plain");
	if (strcmp(kit_one_field(head, "Content-Length"), "0") == 0)
		kit_fail("no reason");
	/* the id is free then */
	(void)once("POST", ID, FORM, post(pr), pr->refused);
	(void)once("GET", ID, "", NULL, 404);
	tl = kit_listen(AF_INET, &tport);
	c = kit_client(&px);
	say(c, "POST", ID, "Origin: http://localhost\r\n" FORM, post(pr));
	(void)kit_refusal_head(c, 403, NULL, KIT_EITHER);
	(void)close(c);
	(void)once("POST", ID, FORM, "host=127.0.0.1", 400);
	kit_untouched(tl);
	kit_proxy_settles(&px);
}

/* What waits for a tunnel that does not open has no body, which the bridge's
 * client would write out. */
static void
waits_in_vain(void **state)
{
	const struct protocol *pr = *state;
	int c, g, p;

	target();
	kit_blackhole(&tport);
	kit_proxy(&px, "-w", "1", "127.0.0.1", "0", NONE);
	c = kit_client(&px);
	say(c, "POST", ID, FORM, post(pr));
	kit_proxy_rests(&px);
	g = kit_client(&px);
	say(g, "GET", ID, "", NULL);
	p = kit_client(&px);
	say(p, "PUT", ID, FORM, "data=x");
	(void)hear(c, pr == &bridge ? 406 : 504, NULL);
	(void)hear(g, 404, "");
	(void)hear(p, 404, "");
	(void)close(c);
	(void)close(g);
	(void)close(p);
	kit_proxy_settles(&px);
}

/* Who may go where is said in the same way through hops. */
static void
rules_before_hops(void **state)
{
	const struct protocol *pr = *state;
	const char *head;

	target();
	kit_proxy(&px, "-t", "!127.0.0.1", "-x", "http://127.0.0.1:1",
	    "127.0.0.1", "0", NONE);
	head = once("POST", ID, FORM, post(pr), pr == &bridge ? 406 : 403);
	(void)kit_must_have(head, "Content-Type", "text/plain");
	if (strcmp(kit_one_field(head, "Content-Length"), "0") == 0)
		kit_fail("no reason");
	kit_untouched(tl);
	kit_proxy_settles(&px);
}

static void
credentials(void **state)
{
	static const struct {
		const char	*method, *body;
	} each[] = {
		{ "PUT", "data=x" }, { "GET", NULL }, { "DELETE", NULL }
	};
	const struct protocol *pr = *state;
	const char *al, *eve, *head;
	size_t i;
	int t;

	target();
	kit_proxy(&px, "-a", kit_file("users", 0600, "al:open\neve:x\n"),
	    "127.0.0.1", "0", NONE);
	al = kit_str(FORM "Authorization: %s\r\n", kit_basic("al:open"));
	eve = kit_str(FORM "Authorization: %s\r\n", kit_basic("eve:x"));
	head = once("POST", ID, FORM, post(pr), 401);
	if (kit_field(head, "WWW-Authenticate") == NULL ||
	    kit_field(head, "Proxy-Authenticate") != NULL)
		kit_fail("not for a server's client: <<%s>>", head);
	kit_untouched(tl);
	(void)once("POST", ID, al, post(pr), pr->opened);
	t = kit_accept(tl);
	for (i = 0; i < KIT_COUNT(each); i++) {
		(void)once(each[i].method, ID, FORM, each[i].body, 401);
		(void)once(each[i].method, ID, eve, each[i].body, 404);
	}
	(void)once("PUT", ID, al, "data=y", 200);
	kit_expect(t, pr == &bridge ? "data=y" : "y");
	kit_puts(t, "z");
	(void)once("GET", ID, al, NULL, 200);
	(void)once("DELETE", ID, al, NULL, 200);
	(void)kit_until_end(t);
	(void)close(t);
	kit_proxy_settles(&px);
}

/* Only the time tells the two from ours; and that takes some. */
static void
holds(void **state)
{
	const struct protocol *pr = *state;
	int c;

	if (getenv("HTTPTUN_LONG") == NULL) {
		print_message("only with HTTPTUN_LONG: it takes a minute\n");
		skip();
	}
	our_server();
	(void)once("POST", ID, FORM, post(pr), pr->opened);
	c = kit_client(&px);
	say(c, "GET", ID, "", NULL);
	kit_silent(c, pr == &bridge ? 55000 : 7000);
	(void)hear(c, 204, "");
	(void)once("DELETE", ID, "", NULL, 200);
}


/* ---- our client and older servers ---------------------------------------- */

/* They cannot be told; our client says so, and has the answer still. */
static void
our_client_first(void **state)
{
	struct kit_proc *p;
	int t;

	target();
	(void)older_server(*state);
	p = our_client(url);
	t = kit_accept(tl);
	much(p, t);
	kit_half_close(p->in);
	kit_err_wait(p, "the end of our input cannot be said");
	kit_puts(t, "the answer");
	kit_expect(p->out, "the answer");
	kit_silent(t, 0);
	kit_half_close(t);
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_wait(peer, "DELETE 200\n");
	(void)kit_until_end(t);
}

static void
our_target_first(void **state)
{
	struct kit_proc *p;
	int t;

	target();
	(void)older_server(*state);
	p = our_client(url);
	t = kit_accept(tl);
	every_byte(p->in, t);
	every_byte(t, p->out);
	kit_puts(t, "the last");
	kit_half_close(t);
	kit_expect(p->out, "the last");
	kit_eof(p->out);
	if (*state == &khuevu) {
		kit_puts(p->in, "and still");
		kit_expect(t, "and still");
	}
	kit_half_close(p->in);
	kit_exits(p, 0);
	kit_err_wait(peer, "DELETE 200\n");
	(void)kit_until_end(t);
}

static void
our_way_out(void **state)
{
	const char *corp;
	struct kit_proc *p;
	int t;

	target();
	(void)older_server(*state);
	corp = kit_str("http://127.0.0.1:%u", kit_serve(&kit_tinyproxy, NULL));
	p = kit_httptun(NULL, "-x", corp, "-x", url, "127.0.0.1",
	    kit_str("%u", tport), NONE);
	t = kit_accept(tl);
	every_byte(p->in, t);
	every_byte(t, p->out);
	talk(&p, &t, 1, MB / 5, MB / 5);
	kit_half_close(t);
	kit_eof(p->out);
	kit_half_close(p->in);
	kit_exits(p, 0);
	kit_err_wait(peer, "DELETE 200\n");
}

/* Ten local connections at once. */
static void
our_port(void **state)
{
	static const struct kit_opt opt = { .in = KIT_NULL };
	struct kit_proxy local;
	struct kit_stream s[4 * CLIENTS];
	struct kit_pair p[CLIENTS];
	int i, n;

	target();
	(void)older_server(*state);
	kit_proxy_is(&local, kit_httptun(&opt, "-x", url, "-L",
	    kit_str("127.0.0.1:0:127.0.0.1:%u", tport), NONE));
	for (i = 0; i < CLIENTS; i++) {
		p[i].c = kit_client(&local);
		p[i].t = kit_accept(tl);
	}
	memset(s, 0, sizeof(s));
	for (n = 0; n < 4 * CLIENTS; n++) {
		i = n / 4;
		s[n].fd = n % 4 == 0 || n % 4 == 3 ? p[i].c : p[i].t;
		s[n].dir = n % 2 == 0 ? KIT_OUT : KIT_IN;
		s[n].bytes = MB / 10;
		s[n].seed = (unsigned)n / 2;
	}
	kit_pump(s, KIT_COUNT(s));
	for (i = 0; i < CLIENTS; i++) {
		kit_half_close(p[i].t);
		kit_eof(p[i].c);
		(void)close(p[i].c);
	}
	for (i = 0; i < CLIENTS; i++) {
		(void)kit_until_end(p[i].t);
		(void)close(p[i].t);
	}
	kit_proxy_settles(&local);
}

/* The one says why; the other one opens what it has not connected, and it is
 * the first PUT or GET that fails. */
static void
our_target_refuses(void **state)
{
	static const struct kit_opt opts[] = {
		{ .in = KIT_PIPE }, { .in = KIT_NULL }
	};
	const char *at;
	struct kit_proc *p;
	size_t i;

	target();
	tport = kit_nobody(AF_INET);
	at = kit_str("127.0.0.1:%u: ", older_server(*state));
	for (i = 0; i < KIT_COUNT(opts); i++) {
		p = kit_httptun(&opts[i], "-x", url, "127.0.0.1",
		    kit_str("%u", tport), NONE);
		if (opts[i].in == KIT_PIPE)
			kit_puts(p->in, "is there anybody");
		kit_exits(p, 1);
		kit_eof(p->out);
		kit_err_has(p, at);
		kit_err_has(p, *state == &bridge ? "406" : "503");
		if (*state == &bridge)
			kit_err_has(p, "Connection refused");
	}
}

/* The chunk that met nobody is lost, and it says so. */
static void
our_target_resets(void **state)
{
	struct kit_proc *p;
	int t;

	(void)state;
	target();
	(void)older_server(&khuevu);
	p = our_client(url);
	t = kit_accept(tl);
	kit_puts(p->in, "up");
	kit_expect(t, "up");
	kit_reset(t);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)!write(p->in, "x", 1);
	kit_exits(p, 1);
	kit_eof(p->out);
	kit_err_has(p, "httptun: 127.0.0.1:");
	kit_err_wait(peer, "DELETE 200\n");
}

/* The next request's connection, its body read; it is of this method. */
static int
comes(int lfd, const char *method)
{
	char buf[4096], body[64];
	const char *length;
	int c = kit_accept(lfd);

	(void)kit_head(c, buf, sizeof(buf));
	if (strncmp(buf, method, strlen(method)) != 0)
		kit_fail("no %s: <<%s>>", method, buf);
	if ((length = kit_one_field(buf, "Content-Length")) != NULL)
		kit_recv(c, body, strtoul(length, NULL, 10));
	return c;
}

/* The only answer there, and its end. */
static void
told(int c, const char *text)
{
	kit_puts(c, text);
	kit_half_close(c);
	(void)kit_until_end(c);
	(void)close(c);
}

/* They do not count, so what is lost on the way is not asked again: bytes
 * would come twice, or be lost without a word. */
static void
lost_on_the_way(void **state)
{
	static const struct {
		const char	*answer;	/* NULL: a PUT has none */
		const char	*out;
	} cases[] = {
		{ NULL, "" },
		{ "", "" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
		    "hel" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		    "3\r\nhel\r\n", "hel" },
	};
	struct kit_proc *p;
	unsigned port;
	int lfd, g;
	size_t i;

	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		lfd = kit_listen(AF_INET, &port);
		p = kit_httptun(NULL, "-x", kit_str("poll://127.0.0.1:%u",
		    port), "127.0.0.1", "9", NONE);
		if (*state == &bridge)
			told(comes(lfd, "POST"), "HTTP/1.0 406 No\r\n\r\n");
		told(comes(lfd, "POST"), *state == &bridge ?
		    "HTTP/1.0 201 Created\r\n\r\n" :
		    "HTTP/1.0 200 OK\r\n\r\n");
		g = comes(lfd, "GET");
		if (cases[i].answer != NULL)
			told(g, cases[i].answer);
		else {
			kit_puts(p->in, "once");
			told(comes(lfd, "PUT"), "");
		}
		told(comes(lfd, "DELETE"), "HTTP/1.0 200 OK\r\n\r\n");
		kit_expect(p->out, cases[i].out);
		kit_eof(p->out);
		kit_exits(p, 1);
		kit_err_has(p, "may be lost");
		(void)close(lfd);
	}
}

/* The target's end is that of the tunnel, but whether all has arrived is what
 * the PUT's answer says. */
static void
our_put_outlives(void **state)
{
	static const char *const put[] = { "200 OK", "410 Gone" };
	struct kit_proc *p;
	unsigned port;
	int lfd, g, c, i;

	(void)state;
	for (i = 0; i < 2; i++) {
		lfd = kit_listen(AF_INET, &port);
		p = kit_httptun(NULL, "-x", kit_str("poll://127.0.0.1:%u",
		    port), "127.0.0.1", "9", NONE);
		told(comes(lfd, "POST"), "HTTP/1.0 201 Created\r\n\r\n");
		g = comes(lfd, "GET");
		kit_puts(p->in, "up");
		c = comes(lfd, "PUT");
		told(g, "HTTP/1.0 410 Gone\r\n\r\n");
		kit_idle(p);
		assert_true(kit_alive(p));
		told(c, kit_str("HTTP/1.0 %s\r\n\r\n", put[i]));
		told(comes(lfd, "DELETE"), "HTTP/1.0 200 OK\r\n\r\n");
		kit_eof(p->out);
		kit_exits(p, i);
		(void)close(lfd);
	}
}

static void
our_signal(void **state)
{
	struct kit_proc *p;
	int t;

	target();
	(void)older_server(*state);
	p = our_client(url);
	t = kit_accept(tl);
	kit_puts(p->in, "up");
	kit_expect(t, "up");
	(void)kill(p->pid, SIGTERM);
	kit_exits(p, -SIGTERM);
	kit_err_wait(peer, "DELETE 200\n");
	(void)kit_until_end(t);
}


/* ---- all of them --------------------------------------------------------- */

#define CASE(name, f, row) { name, f, kit_setup, kit_teardown, row }
#define EACH(f) CASE("khuevu: " #f, f, &khuevu),			\
    CASE("bridge: " #f, f, &bridge)

int
main(void)
{
	static const struct CMUnitTest older[] = {
		EACH(peers),
		EACH(client_ends_first),
		EACH(target_ends_first),
		EACH(clients_at_once),
		KIT_TEST(kinds_at_once),
		EACH(delivered),
		EACH(client_refused),
		EACH(client_unknown),
		KIT_TEST(khuevu_life),
		KIT_TEST(bridge_life),
		KIT_TEST(bridge_slow_target),
		EACH(deleted),
		EACH(deleted_before),
		EACH(target_resets),
		KIT_TEST(forms),
		KIT_TEST(in_pieces),
		KIT_TEST(bad_forms),
		KIT_TEST(biggest),
		EACH(refusals),
		EACH(waits_in_vain),
		EACH(rules_before_hops),
		EACH(credentials),
		EACH(holds),
		EACH(our_client_first),
		EACH(our_target_first),
		EACH(our_way_out),
		EACH(our_port),
		EACH(our_target_refuses),
		KIT_TEST(our_target_resets),
		EACH(lost_on_the_way),
		KIT_TEST(our_put_outlives),
		EACH(our_signal),
	};

	return cmocka_run_group_tests(older, NULL, NULL);
}
