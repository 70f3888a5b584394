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
 * The reverse mode: a gateway, `httptun -l -r`, whose tunnels leave through
 * exits, `httptun -r -x ws://gateway/`, that have parked links at it.  First
 * the two with each other, then each of them with a peer of the test's own
 * that does what a good one never does, at last with things that fail.
 *
 * Nobody else connects from 127.0.0.2: who does at a target is the exit.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define NONE	((char *)NULL)
#define LOCAL	"127.0.0.1", "0", NONE
#define VIA	"127.0.0.2"	/* the exit's address */
#define PARKED	4		/* links that an exit keeps */
#define CREW	4
#define MB	((uint64_t)1 << 20)
#define PEAK	8192		/* KiB that a process may ever take */

/* The gateway, its exit, and a target. */
static struct kit_proxy	 px = { .family = AF_INET };
static struct kit_proc	*xp;
static struct kit_figure xidle;
static int		 links;		/* parked when nothing is asked */
static int		 tl;
static unsigned		 tport;


/* ---- the test's frame ---------------------------------------------------- */

static int
teardown(void **state)
{
	xp = NULL;
	return kit_teardown(state);
}

#define TEST(f)	cmocka_unit_test_setup_teardown(f, kit_setup, teardown)

/* It repeats nothing, however often that has happened. */
static void
says_nothing_twice(struct kit_proc *p)
{
	const char *s = kit_err(p);
	size_t n;

	for (; *s != '\0'; s += n) {
		n = strcspn(s, "\n") + 1;
		if (kit_said(p, kit_str("%.*s", (int)n, s)) > 1)
			kit_fail("said twice: <<%.*s>>", (int)n, s);
	}
}


/* ---- gateways and exits -------------------------------------------------- */

/* Both have taken up all there is, and rest; twice, since what the one has
 * done last may have woken the other. */
static void
rests(void)
{
	int i;

	for (i = 0; i < 2; i++) {
		kit_proxy_rests(&px);
		if (xp != NULL)
			kit_idle(xp);
	}
}

/* How many connections there are to a port of ours.  A port that nobody chose
 * is only free of others at the same address. */
static int
connections(unsigned port)
{
	FILE *f = fopen("/proc/self/net/tcp", "r");
	in_addr_t here = inet_addr("127.0.0.1");
	unsigned a, p, st;
	char line[512];
	int n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		n += sscanf(line, " %*d: %x:%x %*[0-9A-F]:%*x %x", &a, &p,
		    &st) == 3 && (a == here || ntohl(a) >> 24 != 127) &&
		    p == port && st == 1;		/* ESTABLISHED */
	fclose(f);
	return n;
}

/* Waits until the gateway has so many links, and nobody else. */
static void
parked(int n)
{
	int64_t end = kit_now() + kit_patience();
	int got;

	kit_note("wait for %d links", n);
	do {
		while ((got = connections(px.port)) != n) {
			if (kit_now() > end)
				kit_fail("%d links and not %d", got, n);
			(void)poll(NULL, 0, 2);
		}
		rests();
	} while (connections(px.port) != n);
}

/* Starts a gateway with these arguments, and a target. */
static void
gateway(const char *arg, ...)
{
	va_list ap;

	tl = kit_listen(AF_INET, &tport);
	va_start(ap, arg);
	kit_proxy_is(&px, kit_server(NULL, arg, ap));
	va_end(ap);
	xp = NULL;
	links = 0;
}

static struct kit_proc *
exit_va(const char *hop, const char *arg, va_list ap)
{
	const char *argv[24] = { NULL, "-r", "-x" };
	size_t n = 3;

	argv[0] = kit_binary();
	argv[n++] = hop;
	for (; arg != NULL; arg = va_arg(ap, const char *)) {
		assert_true(n + 1 < KIT_COUNT(argv));
		argv[n++] = arg;
	}
	argv[n] = NULL;
	return kit_startv(NULL, argv);
}

/* Starts an exit whose gateway is that last hop. */
static struct kit_proc *
exit_to(const char *hop, const char *arg, ...)
{
	struct kit_proc *p;
	va_list ap;

	va_start(ap, arg);
	p = exit_va(hop, arg, ap);
	va_end(ap);
	return p;
}

static const char *
url(unsigned port)
{
	return kit_str("ws://127.0.0.1:%u/", port);
}

/* That exit is there, and with it so many links: this is what all of it
 * comes back to. */
static void
is_there(struct kit_proc *p, int n)
{
	xp = p;
	links = n;
	parked(n);
	kit_figure(px.proc->pid, &px.idle);
	kit_figure(xp->pid, &xidle);
}

/* Starts the exit with these arguments and lets it park. */
static void
one_exit(const char *arg, ...)
{
	struct kit_proc *p;
	va_list ap;

	va_start(ap, arg);
	p = exit_va(url(px.port), arg, ap);
	va_end(ap);
	is_there(p, PARKED);
}

#define REVERSE(...) do {						\
	gateway("-r", __VA_ARGS__);					\
	one_exit("-t", "127.0.0.1", "-s", VIA, NONE);			\
} while (0)

/* Nothing is left of whatever was asked. */
static void
settles(void)
{
	if (xp != NULL)
		parked(links);
	kit_proxy_settles(&px);
	if (xp != NULL)
		kit_returns(xp, &xidle);
}

static int
ask(const char *request)
{
	return kit_ask(&px, request);
}

/* Who has connected to a target is the exit. */
static int
via_exit(int fd)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	char addr[INET_ADDRSTRLEN];

	assert_int_equal(getpeername(fd, (struct sockaddr *)&sin, &len), 0);
	assert_non_null(inet_ntop(AF_INET, &sin.sin_addr, addr,
	    sizeof(addr)));
	assert_string_equal(addr, VIA);
	return fd;
}

static struct kit_pair
tunnel(void)
{
	struct kit_pair p = kit_tunnel(&px, tl, tport);

	(void)via_exit(p.t);
	return p;
}

static void
serves(void)
{
	kit_farewell(tunnel());
}

/* This client is refused, and may ask again; a new one unless c is one. */
static int
is_refused(int c, const char *authority, int status, const char *error)
{
	kit_note("%s must be refused", authority);
	if (c == -1)
		c = kit_client(&px);
	kit_puts(c, kit_request(authority, ""));
	(void)kit_refusal(c, status, error, KIT_STAYS);
	return c;
}

static const char *
target(void)
{
	return kit_str("127.0.0.1:%u", tport);
}


/* ---- what a tunnel carries ----------------------------------------------- */

static void
half_close_either_way(void **state)
{
	struct kit_pair p;

	(void)state;
	REVERSE(LOCAL);
	serves();
	p = tunnel();
	kit_half_closed(p.c, p.t, 4 * MB);
	p = tunnel();
	kit_half_closed(p.t, p.c, 4 * MB);
	/* both at once */
	p = tunnel();
	kit_half_close(p.c);
	kit_half_close(p.t);
	kit_eof(p.c);
	kit_eof(p.t);
	(void)close(p.c);
	(void)close(p.t);
	settles();
	kit_err_is(xp, "");
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
}

static void
both_directions_at_once(void **state)
{
	(void)state;
	REVERSE(LOCAL);
	kit_crosses(tunnel(), 16 * MB);
	settles();
	kit_proxy_below(&px, PEAK);
}

/* Who speaks first is heard, and what came with the CONNECT. */
static void
early_data(void **state)
{
	static char buf[15000], got[sizeof(buf)];
	struct kit_pair p;
	char rest[64];

	(void)state;
	REVERSE(LOCAL);
	p.c = ask(kit_str("%searly", kit_request(target(), "")));
	p.t = via_exit(kit_accept(tl));
	kit_expect(p.t, "early");
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	/* the target speaks first, and the end of file comes early too */
	p.c = ask(kit_str("%sall of it", kit_request(target(), "")));
	kit_half_close(p.c);
	p.t = via_exit(kit_accept(tl));
	kit_puts(p.t, "SSH-2.0-target\r\n");
	kit_expect(p.c, KIT_OK "SSH-2.0-target\r\n");
	assert_int_equal(kit_slurp(p.t, rest, sizeof(rest)), 9);
	assert_string_equal(rest, "all of it");
	(void)close(p.t);
	kit_eof(p.c);
	(void)close(p.c);
	/* as much as is read with a head */
	kit_fill(buf, sizeof(buf), 1, 0);
	p.c = ask(kit_request(target(), ""));
	kit_send(p.c, buf, sizeof(buf));
	p.t = kit_accept(tl);
	kit_recv(p.t, got, sizeof(got));
	kit_check(got, sizeof(got), 1, 0);
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	settles();
}

static void
reset_either_way(void **state)
{
	(void)state;
	REVERSE(LOCAL);
	kit_reset_passes(tunnel, 1);
	settles();
	kit_reset_passes(tunnel, 0);
	settles();
	serves();
}

/* The exit's way to its gateway is a WebSocket on another one. */
static void
through_another(void **state)
{
	struct kit_proxy relay;
	int i;

	(void)state;
	kit_proxy(&relay, "127.0.0.1", "0", NONE);
	gateway("-r", LOCAL);
	is_there(exit_to(url(relay.port), "-x", url(px.port), "-t",
	    "127.0.0.1", "-s", VIA, NONE), PARKED);
	for (i = 0; i < 2 * PARKED; i++)
		serves();
	kit_crosses(tunnel(), 3 * MB);
	settles();
	kit_reset_passes(tunnel, 1);
	kit_reset_passes(tunnel, 0);
	settles();
}

/* The sender must be stopped long before its end; another tunnel never is;
 * then everything comes. */
static void
stalled(int from, int to)
{
	struct kit_stream s[] = {
		{ from, KIT_OUT, 100 * MB, 1, 1, 0 },
		{ to, KIT_IN, 100 * MB, 1, 1, 0 }
	};

	kit_stalls(&s[0], 100);
	rests();
	serves();
	s[0].bytes = s[1].bytes = s[0].done + MB;
	kit_pump(s, 2);
}

static void
back_pressure(void **state)
{
	struct kit_pair p;

	(void)state;
	REVERSE(LOCAL);
	p = tunnel();
	stalled(p.c, p.t);
	stalled(p.t, p.c);
	(void)close(p.c);
	(void)close(p.t);
	settles();
	kit_proxy_below(&px, PEAK);
	if (!kit_sanitized() && kit_status(xp->pid, "VmHWM") >= PEAK)
		kit_fail("the exit has taken %ld KiB",
		    kit_status(xp->pid, "VmHWM"));
}

/* An http:// request goes out of the exit, too. */
static void
http_requests(void **state)
{
	const char *asks;
	char head[4096];
	int c, o;

	(void)state;
	REVERSE(LOCAL);
	c = ask(kit_str("GET http://127.0.0.1:%u/p?q HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
	    "Proxy-Connection: Keep-Alive\r\n\r\n", tport, tport));
	o = via_exit(kit_accept(tl));
	(void)kit_head(o, head, sizeof(head));
	if (strncmp(head, "GET /p?q HTTP/1.1\r\n", 19) != 0)
		kit_fail("<<%s>>", head);
	(void)kit_must_have(head, "Host", target());
	(void)kit_must_have(head, "User-Agent", "curl/7.88.1");
	assert_null(kit_field(head, "Proxy-Connection"));
	kit_puts(o, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	if (strstr(kit_reply(c, 200), "\r\n\r\nhello") == NULL)
		kit_fail("no hello");
	kit_eof(o);			/* it has all, and is left in order */
	(void)close(c);
	(void)close(o);

	asks = kit_str("POST http://127.0.0.1:%u/ HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\nContent-Length: 4\r\n\r\nbody", tport,
	    tport);
	c = ask(asks);
	o = via_exit(kit_accept(tl));
	(void)kit_head(o, head, sizeof(head));
	kit_expect(o, "body");
	/* up to the end of file */
	kit_puts(o, "HTTP/1.0 200 OK\r\n\r\nuntil the end");
	(void)close(o);
	(void)kit_slurp(c, head, sizeof(head));
	if (strstr(head, "until the end") == NULL)
		kit_fail("<<%s>>", head);
	(void)close(c);

	/* where no target may be reached none is */
	c = ask(kit_str("GET http://127.0.0.3:%u/ HTTP/1.1\r\nHost: h\r\n"
	    "\r\n", tport));
	(void)kit_refusal(c, 403, "", KIT_EITHER);
	(void)close(c);
	c = ask(kit_str("GET http://127.0.0.1:%u/ HTTP/1.1\r\nHost: h\r\n"
	    "\r\n", kit_nobody(AF_INET)));
	(void)kit_refusal(c, 502, "connection_refused", KIT_EITHER);
	(void)close(c);
	kit_untouched(tl);
	settles();
}

/* A gateway's other ways in, and an exit's other ways to it. */
static void
other_ways(void **state)
{
	static const struct kit_opt plain;
	struct kit_proxy corp;
	struct kit_proc *p;
	char buf[64];
	int t;

	(void)state;
	kit_proxy(&corp, LOCAL);
	REVERSE(LOCAL);
	p = kit_httptun(&plain, "-x", url(px.port), "127.0.0.1",
	    kit_str("%u", tport), NONE);
	kit_puts(p->in, "a question");
	kit_half_close(p->in);
	t = via_exit(kit_accept(tl));
	assert_int_equal(kit_slurp(t, buf, sizeof(buf)), 10);
	assert_string_equal(buf, "a question");
	kit_puts(t, "an answer");
	(void)close(t);
	(void)kit_slurp(p->out, buf, sizeof(buf));
	assert_string_equal(buf, "an answer");
	kit_exits(p, 0);
	settles();

	kit_done(xp);
	xp = NULL;
	parked(0);
	is_there(kit_start(NULL, kit_binary(), "-r", "-t", "127.0.0.1", "-x",
	    kit_str("127.0.0.1:%u", corp.port), "-x", url(px.port), NONE),
	    PARKED);
	kit_farewell(kit_tunnel(&px, tl, tport));
	kit_done(xp);
	xp = NULL;
	parked(0);
	is_there(kit_start(NULL, kit_binary(), "-X", "ws", "-r", "-t",
	    "127.0.0.1", "-x", kit_str("127.0.0.1:%u", px.port), NONE),
	    PARKED);
	kit_farewell(kit_tunnel(&px, tl, tport));
	kit_done(xp);
	xp = NULL;
	parked(0);
	/* A WebSocket on the way to a poll server is not the gateway's. */
	is_there(kit_start(NULL, kit_binary(), "-r", "-t", "127.0.0.1", "-x",
	    url(corp.port), "-x", kit_str("poll://127.0.0.1:%u/", corp.port),
	    "-x", url(px.port), NONE), PARKED);
	kit_farewell(kit_tunnel(&px, tl, tport));
	settles();
}


/* ---- who may go where ---------------------------------------------------- */

/* The exit's refusals are the client's, which may ask again each time. */
static void
refusals(void **state)
{
	unsigned nobody = kit_nobody(AF_INET);
	struct kit_pair p;
	int i;

	(void)state;
	gateway("-r", "-t", "127.0.0.0/8", "-t", "*", LOCAL);
	one_exit("-n", "-s", VIA, "-t", "127.0.0.1", NONE);
	p.c = -1;
	for (i = 0; i < 3; i++) {
		p.c = is_refused(p.c, kit_str("127.0.0.1:%u", nobody), 502,
		    "connection_refused");
		(void)is_refused(p.c, kit_str("127.0.0.3:%u", tport), 403,
		    "");
		/* -n */
		(void)is_refused(p.c, kit_str("localhost:%u", tport), 403,
		    "");
	}
	kit_untouched(tl);
	kit_puts(p.c, kit_request(target(), ""));
	p.t = via_exit(kit_accept(tl));
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	/* bytes behind a CONNECT are never a request */
	p.c = ask(kit_str("%s%s", kit_request("127.0.0.3:80", ""),
	    kit_request(target(), "")));
	(void)kit_refusal(p.c, 403, "", KIT_CLOSES);
	kit_untouched(tl);
	(void)close(p.c);
	settles();
}

/* The gateway's own rules look at the text, and nowhere else. */
static void
gateway_rules(void **state)
{
	int c;

	(void)state;
	gateway("-r", "-t", "!127.0.0.3", "-t", "!*.not.test", "-t",
	    "!127.0.0.0/8:1", "-t", "!10.0.0.0/8", "-t", "127.0.0.0/8", "-t",
	    "localhost", LOCAL);
	one_exit("-t", "127.0.0.1", "-s", VIA, NONE);
	/* no exit is asked: it could not even answer */
	kit_stop(xp->pid);
	c = is_refused(-1, "127.0.0.3:80", 403, "");
	(void)is_refused(c, "127.0.0.1:1", 403, "");
	(void)is_refused(c, "10.0.0.1:80", 403, "");
	(void)is_refused(c, "[::1]:80", 403, "");
	(void)is_refused(c, "is.not.test:80", 403, "");
	(void)is_refused(c, "other.name:80", 403, "");
	kit_go_on();
	serves();
	(void)close(c);
	settles();
}

/* Only the exit looks a name up: the gateway, where its address is not
 * allowed, takes it for a text. */
static void
names(void **state)
{
	struct kit_pair p;
	int i;

	(void)state;
	gateway("-r", "-n", "-t", "!127.0.0.0/8", "-t", "!::1", "-t", "*",
	    LOCAL);
	one_exit("-4", "-t", "localhost", "-s", VIA, NONE);
	for (i = 0; i < 2; i++) {
		p.c = ask(kit_request(kit_str("localhost:%u", tport), ""));
		p.t = via_exit(kit_accept(tl));
		kit_expect(p.c, KIT_OK);
		kit_farewell(p);
		if (i == 0)		/* now it has a helper */
			is_there(xp, PARKED);
	}
	(void)close(is_refused(-1, target(), 403, ""));
	kit_untouched(tl);
	settles();
}

/* The exit's client is never on the exit's machine. */
static void
loopback_is_closed(void **state)
{
	static const char *const hosts[] = {
		"127.0.0.1", "127.1", "localhost", "[::1]", "0.0.0.0", "[::]",
		"2130706433", "[::ffff:127.0.0.1]", "127.9.9.9",
		"169.254.1.1", "[fe80::1]"
	};
	static const char *const rules[] = { "*", "0.0.0.0/0", "local*" };
	size_t i, k;
	int c;

	(void)state;
	gateway("-r", "-c", "any", LOCAL);
	for (i = 0; i <= KIT_COUNT(rules); i++) {
		if (i == 0)
			one_exit(NONE);
		else
			one_exit("-t", rules[i - 1], NONE);
		c = kit_client(&px);
		for (k = 0; k < KIT_COUNT(hosts); k++)
			(void)is_refused(c, kit_str("%s:%u", hosts[k], tport),
			    403, "");
		(void)close(c);
		kit_untouched(tl);
		kit_done(xp);
		xp = NULL;
	}
}

/* Who may register, and with what. */
static void
credentials(void **state)
{
	const char *users = kit_file("users", 0600, "u:p\ngate:way\n");
	const char *mine = kit_file("mine", 0600, "gate:way\n");
	struct kit_proc *bad[2];
	struct kit_pair p;
	const char *asks;
	size_t i;

	(void)state;
	gateway("-r", "-a", users, LOCAL);
	/* the one with no credentials, the other with wrong ones */
	bad[0] = exit_to(url(px.port), NONE);
	bad[1] = exit_to(kit_str("ws://u:wrong@127.0.0.1:%u/", px.port),
	    NONE);
	for (i = 0; i < KIT_COUNT(bad); i++)
		kit_err_wait(bad[i], "401");
	parked(0);
	for (i = 0; i < KIT_COUNT(bad); i++) {
		kit_rests(bad[i]);
		assert_int_equal(kit_said(bad[i], "\n"), 1);
		assert_int_equal(kit_said(bad[i], "wrong"), 0);
		assert_true(kit_alive(bad[i]));
	}
	is_there(exit_to(kit_str("ws://u:p@127.0.0.1:%u/", px.port), "-t",
	    "127.0.0.1", "-s", VIA, NONE), PARKED);
	/* a client needs its own */
	p.c = ask(kit_request(target(), ""));
	(void)kit_reply(p.c, 407);
	asks = kit_request(target(), kit_str("Proxy-Authorization: %s\r\n",
	    kit_basic("u:p")));
	kit_puts(p.c, asks);
	p.t = via_exit(kit_accept(tl));
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	settles();
	kit_err_is(xp, "");
	kit_done(xp);
	xp = NULL;
	parked(0);
	/* its own are not what it wants to be shown by the gateway */
	one_exit("-a", mine, "-A", "basic", "-t", "127.0.0.1", "-s", VIA,
	    NONE);
	p.c = ask(asks);
	p.t = via_exit(kit_accept(tl));
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	settles();
	kit_err_is(xp, "");
	for (i = 0; i < KIT_COUNT(bad); i++)
		assert_int_equal(kit_said(bad[i], "\n"), 1);
}


/* ---- WebSockets of our own (RFC 6455) ------------------------------------ */

/* Of a link we are the client (an exit) or the server (a gateway). */

enum {
	TEXT = KIT_WS_TEXT, BINARY = KIT_WS_BINARY, CLOSE = KIT_WS_CLOSE,
	PING = KIT_WS_PING, PONG = KIT_WS_PONG
};

/* what came last */
static struct kit_ws_frame	frame;

static void
ws_send(struct kit_ws w, int opcode, const void *p, size_t n)
{
	kit_ws_send(&w, KIT_WS_FIN | (unsigned)opcode, p, n);
}

static void
ws_puts(struct kit_ws w, const char *s)
{
	kit_ws_puts(&w, s);
}

static void
ws_end(struct kit_ws w)
{
	kit_ws_end(&w);
}

/* The next frame: its opcode.  Whole messages only. */
static int
ws_next(struct kit_ws w)
{
	kit_ws_read_head(&w, &frame);
	if (!frame.fin)
		kit_fail("a frame of opcode %u that is not all of a message",
		    frame.op);
	kit_ws_read_data(&w, &frame);
	kit_note("frame %u on %d: %.60s", frame.op, w.fd, (char *)frame.data);
	return (int)frame.op;
}

/* The code of a Close; 0: it has none. */
static int
ws_code(void)
{
	return frame.len < 2 ? 0 : frame.data[0] << 8 | frame.data[1];
}

/* The next frame is just this. */
static void
ws_is(struct kit_ws w, int opcode, const char *text)
{
	int got = ws_next(w);

	if (got != opcode || frame.len != strlen(text) ||
	    memcmp(frame.data, text, frame.len) != 0)
		kit_fail("frame %d <<%s>> and not %d <<%s>>", got,
		    (char *)frame.data, opcode, text);
}

/* These bytes come next, in binary frames however they are cut. */
static void
ws_expect(struct kit_ws w, const char *text)
{
	size_t n;

	for (; *text != '\0'; text += n) {
		if ((n = (size_t)ws_next(w)) != BINARY)
			kit_fail("frame %zu and not <<%s>>", n, text);
		n = frame.len;
		if (n > strlen(text) || memcmp(frame.data, text, n) != 0)
			kit_fail("<<%s>> and not <<%s>>", (char *)frame.data,
			    text);
	}
}

/* A whole head, and nothing behind it. */
static const char *
ws_head(struct kit_ws w)
{
	const char *s = "", *end;

	while ((end = strstr(s, "\r\n\r\n")) == NULL) {
		if (ws_next(w) != BINARY)
			kit_fail("no binary frame in a head");
		s = kit_str("%s%s", s, (char *)frame.data);
	}
	if (end[4] != '\0')
		kit_fail("bytes behind the head: <<%s>>", s);
	return s;
}

/* A Close with this code (0: any) comes; after ours the server ends first. */
static void
ws_closed(struct kit_ws w, int code)
{
	int got, error;

	if (ws_next(w) != CLOSE)
		kit_fail("no Close, but <<%s>>", (char *)frame.data);
	got = ws_code();
	if (code != 0 && got != code)
		kit_fail("Close %d and not %d", got, code);
	kit_ws_close(&w, got);
	if (!w.client)
		(void)shutdown(w.fd, SHUT_WR);
	if ((error = kit_until_end(w.fd)) != 0 && code == 1000)
		kit_fail("not closed in order: %s", strerror(error));
	(void)close(w.fd);
}

/* We have sent a Close; one with this code (0: any) is the answer. */
static void
ws_bye(struct kit_ws w, int code)
{
	while (ws_next(w) != CLOSE)
		;
	if (code != 0 && ws_code() != code)
		kit_fail("no Close %d", code);
	if (!w.client)
		(void)shutdown(w.fd, SHUT_WR);
	(void)kit_until_end(w.fd);
	(void)close(w.fd);
}

/* The other side closes it, whatever it has said before and with whatever
 * code. */
static void
ws_ends(struct kit_ws w)
{
	while (ws_next(w) != CLOSE)
		;
	kit_ws_close(&w, ws_code());
	if (!w.client)
		(void)shutdown(w.fd, SHUT_WR);
	(void)kit_until_end(w.fd);
	(void)close(w.fd);
}

enum { GO_FIN, GO_RST, GO_CLOSE, GO_BROKEN, GO_BARE, GOINGS };

/* How a link may go, with nothing said before. */
static void
ws_goes(struct kit_ws w, int how)
{
	kit_note("link %d goes, %d", w.fd, how);
	if (how == GO_RST) {
		kit_reset(w.fd);
		return;
	}
	if (how != GO_FIN) {
		kit_ws_close(&w, how == GO_CLOSE ? 1000 : how == GO_BROKEN ?
		    1011 : 0);
		ws_bye(w, 0);
		return;
	}
	kit_half_close(w.fd);
	(void)kit_until_end(w.fd);
	(void)close(w.fd);
}

/* Which of them has something to read. */
static int
ws_which(const struct kit_ws *w, int n)
{
	int64_t end = kit_now() + kit_patience();
	struct pollfd pfd[16];
	int i;

	assert_true(n <= (int)KIT_COUNT(pfd));
	for (i = 0; i < n; i++) {
		pfd[i].fd = w[i].fd;
		pfd[i].events = POLLIN;
	}
	while (poll(pfd, (nfds_t)n, 50) <= 0)
		if (kit_now() > end)
			kit_fail("none of %d links is asked", n);
	for (i = 0; pfd[i].revents == 0; i++)
		;
	return i;
}


/* ---- an exit of our own -------------------------------------------------- */

#define REPLY_200	"HTTP/1.1 200 OK\r\n\r\n"

static int
ex_asks(const char *fields)
{
	return ask(kit_str("GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
	    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KIT_WS_KEY
	    "\r\n%s\r\n", px.port, fields));
}

static struct kit_ws
ex_parks(void)
{
	struct kit_ws w = { .client = 1 };

	w.fd = ex_asks("Sec-WebSocket-Protocol: exit.httptun\r\n");
	kit_ws_upgraded(w.fd, "exit.httptun");
	return w;
}

/* The link is asked for this target, and for nothing else. */
static void
ex_asked(struct kit_ws w, const char *authority)
{
	assert_string_equal(ws_head(w), kit_request(authority, ""));
}

/* A tunnel whose target is the exit itself: the client, and the link. */
static int
ex_tunnel(struct kit_ws *w)
{
	int c;

	*w = ex_parks();
	c = ask(kit_request("a.target:80", ""));
	ex_asked(*w, "a.target:80");
	ws_puts(*w, REPLY_200);
	kit_expect(c, KIT_OK);
	return c;
}

/* The tunnel carries, and then ends in order. */
static void
ex_farewell(int c, struct kit_ws w)
{
	kit_puts(c, "to the target");
	ws_expect(w, "to the target");
	ws_puts(w, "to the client");
	kit_expect(c, "to the client");
	kit_half_close(c);
	ws_is(w, TEXT, "end");
	ws_end(w);
	kit_eof(c);
	ws_closed(w, 1000);
	(void)close(c);
}

/* Whoever answers before he is asked may do so with the exit's 200. */
static void
early_answers(void **state)
{
	static const struct {
		const char	*answer;
		int		 ends, status;
	} rows[] = {
		{ "HTTP/1.1 503 Full\r\nContent-Length: 4\r\n\r\nfull", 0,
		    503 },
		{ "HTTP/1.1 503 Full\r\nContent-Length: 4\r\n\r\nfull", 1,
		    503 },
		{ "HTTP/1.1 100 Continue\r\n\r\n", 1, 502 },
		{ "", 1, 502 }
	};
	unsigned char bytes[512];
	struct kit_ws w;
	const char *text;
	size_t i, n;
	int c;

	(void)state;
	gateway("-r", LOCAL);
	for (i = 0; i < KIT_COUNT(rows); i++) {
		w = ex_parks();
		c = ask("GET http://a.target/ HTTP/1.0\r\n"
		    "Host: a.target\r\n\r\n");
		ex_asked(w, "a.target:80");
		text = kit_str("%s%s", REPLY_200, rows[i].answer);
		n = kit_ws_make(bytes, 1, KIT_WS_FIN | KIT_WS_BINARY,
		    KIT_WS_SHORTEST, text, strlen(text));
		if (rows[i].ends)
			n += kit_ws_make(bytes + n, 1, KIT_WS_FIN |
			    KIT_WS_TEXT, KIT_WS_SHORTEST, "end", 3);
		kit_send(w.fd, bytes, n);
		(void)kit_reply(c, rows[i].status);
		(void)close(c);
		(void)close(w.fd);
	}
	settles();
}

/* Who may register, as the gateway sees it. */
static void
registering(void **state)
{
	static const struct {
		int		 reverse, status;
		const char	*fields;
	} cases[] = {
		{ 1, 101, "Sec-WebSocket-Protocol: exit.httptun\r\n" },
		{ 1, 101, "Sec-WebSocket-Protocol: a, exit.httptun\r\n" },
		{ 1, 101, "Sec-WebSocket-Protocol: a\r\n"
		    "Sec-WebSocket-Protocol: exit.httptun,connect.httptun\r\n"
		    },
		{ 1, 403, "Sec-WebSocket-Protocol: exit.httptun\r\n"
		    "Origin: http://127.0.0.1\r\n" },
		{ 0, 403, "Sec-WebSocket-Protocol: exit.httptun\r\n" },
		{ 0, 403, "Sec-WebSocket-Protocol: exit.httptun, "
		    "connect.httptun\r\n" }
	};
	char head[4096];
	size_t i;
	int c;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		if (i == 0)
			gateway("-r", LOCAL);
		else if (!cases[i].reverse && cases[i - 1].reverse)
			gateway(LOCAL);
		c = ex_asks(cases[i].fields);
		(void)kit_head(c, head, sizeof(head));
		if (strtol(head + 9, NULL, 10) != cases[i].status)
			kit_fail("<<%s>> and no %d", head, cases[i].status);
		if (cases[i].status == 101)
			(void)kit_must_have(head, "Sec-WebSocket-Protocol",
			    "exit.httptun");
		(void)close(c);
		kit_proxy_settles(&px);
	}
}

/* Of a client's request nothing goes down the link but its target, and what
 * came behind it waits for a 2xx. */
static void
what_a_link_is_asked(void **state)
{
	static const char *const targets[] = {
		"127.0.0.1:22", "[::1]:443", "some.name:65535", "10.0.0.1:1"
	};
	struct kit_ws w;
	size_t i;
	int c;

	(void)state;
	gateway("-r", LOCAL);
	for (i = 0; i < KIT_COUNT(targets); i++) {
		w = ex_parks();
		c = ask(kit_str("CONNECT %s HTTP/1.1\r\nHost: other\r\n"
		    "User-Agent: u\r\nProxy-Authorization: Basic YTpi\r\n"
		    "X-Secret: s\r\nCookie: c\r\nProxy-Connection: "
		    "Keep-Alive\r\n\r\nearly", targets[i]));
		ex_asked(w, targets[i]);
		rests();
		kit_silent(w.fd, 0);
		ws_puts(w, REPLY_200);
		ws_expect(w, "early");
		kit_expect(c, KIT_OK);
		ex_farewell(c, w);
	}
	w = ex_parks();
	c = ask("GET http://10.0.0.1/path HTTP/1.1\r\nHost: h\r\n"
	    "X-Secret: s\r\n\r\n");
	ex_asked(w, "10.0.0.1:80");
	rests();
	kit_silent(w.fd, 0);
	ws_puts(w, REPLY_200);
	if (strncmp(ws_head(w), "GET /path HTTP/1.1\r\n", 20) != 0)
		kit_fail("no request");
	ws_puts(w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	(void)kit_reply(c, 200);
	(void)close(c);
	ws_ends(w);
	kit_proxy_settles(&px);
}

/* Each of the answers of an exit; 0: the tunnel opens. */
static const struct answer {
	const char	*bytes;
	int		 status;
	const char	*error;
} answers[] = {
	{ REPLY_200, 0, NULL },
	{ "HTTP/1.0 200\r\n\r\n", 0, NULL },
	{ "HTTP/1.1 204 No Content\r\n\r\n", 0, NULL },
	{ "HTTP/1.1 299 X\r\nContent-Length: 5\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n", 0, NULL },
	{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: y\r\n\r\n"
	    REPLY_200, 0, NULL },
	{ "HTTP/1.1 403 Forbidden\r\nProxy-Status: httptun; "
	    "error=http_request_denied\r\nContent-Length: 4\r\n\r\nno.\n",
	    403, "http_request_denied" },
	{ "HTTP/1.1 502 Bad Gateway\r\nProxy-Status: httptun; "
	    "error=connection_refused\r\nContent-Length: 4\r\n\r\nno.\n",
	    502, "connection_refused" },
	{ "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\nProxy-Status: "
	    "httptun; error=dns_error; rcode=\"NXDOMAIN\"\r\n\r\nno.\n",
	    502, "dns_error" },
	{ "HTTP/1.1 504 Gateway Timeout\r\nProxy-Status: httptun; "
	    "error=connection_timeout\r\nContent-Length: 4\r\n\r\nno.\n",
	    504, "connection_timeout" },
	{ "HTTP/1.1 503 Service Unavailable\r\nProxy-Status: httptun; "
	    "error=proxy_internal_error\r\nContent-Length: 4\r\n\r\n"
	    "no.\n",
	    503, "proxy_internal_error" },
	/* what is no exit's answer */
	{ "HTTP/1.1 407 Proxy Authentication Required\r\n"
	    "Proxy-Authenticate: Basic realm=\"x\"\r\n"
	    "Content-Length: 0\r\n\r\n", 502, "" },
	{ "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic "
	    "realm=\"x\"\r\nContent-Length: 0\r\n\r\n", 502, "" },
	{ "HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n"
	    "Content-Length: 0\r\n\r\n", 502, "" },
	{ "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "" },
	{ "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", 502, "" },
	{ "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n", 502, "" },
	{ "\x16\x03\x01", 502, "" },
	{ "HTTP/2.0 200 OK\r\n\r\n", 502, "" },
	{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 502, "" },
	{ "\r\n\r\n\r\n\r\n", 502, "" }
};

/* At once or each byte in a frame of its own, all with early data. */
static void
ex_answers(const struct answer *a, int drip)
{
	struct kit_ws w = ex_parks();
	const char *s;
	int c;

	kit_note("answer <<%.40s>>", a->bytes);
	c = ask(kit_request("a.target:80", ""));
	ex_asked(w, "a.target:80");
	for (s = a->bytes; drip && *s != '\0'; s++)
		ws_send(w, BINARY, s, 1);
	if (!drip)
		ws_puts(w, a->status == 0 ? kit_str("%searly", a->bytes) :
		    a->bytes);
	if (a->status != 0) {
		(void)kit_refusal(c, a->status, a->error, KIT_STAYS);
		if (*a->error != '\0') {	/* an exit's own refusal */
			kit_ws_close(&w, 1000);
			ws_bye(w, 1000);
		} else
			ws_ends(w);
		(void)close(c);
		return;
	}
	kit_expect(c, drip ? KIT_OK : KIT_OK "early");
	ex_farewell(c, w);
}

static void
answers_of_an_exit(void **state)
{
	struct answer large = { NULL, 502, "" };
	size_t i;

	(void)state;
	gateway("-r", LOCAL);
	for (i = 0; i < KIT_COUNT(answers); i++)
		ex_answers(&answers[i], 0);
	for (i = 0; i < KIT_COUNT(answers); i++)
		if (answers[i].status == 0)
			ex_answers(&answers[i], 1);
	large.bytes = kit_str("HTTP/1.1 200 OK\r\nX: %s", kit_times(20000,
	    "x"));
	ex_answers(&large, 0);
	kit_proxy_settles(&px);
}

/* Whatever the body of an exit's refusal is, the client's is one line, and the
 * log says why. */
static void
bodies_of_refusals(void **state)
{
	static const char *const bodies[] = {
		"Content-Length: 14\r\n\r\none\ntwo\nthree\n",
		"Content-Length: 9\r\n\r\n\x1b[2Jx\ry\b\n",
		"Content-Length: 1\r\n\r\n\n",
		"Content-Length: 4\r\n\r\nlast",
		("Transfer-Encoding: chunked\r\n\r\n4\r\nno.\n\r\n"
		    "0\r\n\r\n"),
		"\r\nup to the end\n", "Content-Length: 0\r\n\r\n"
	};
	struct answer a = { NULL, 403, "http_request_denied" };
	size_t i;

	(void)state;
	gateway("-r", "-v", LOCAL);
	for (i = 0; i <= KIT_COUNT(bodies); i++) {
		a.bytes = kit_str("HTTP/1.1 403 Forbidden\r\nProxy-Status: "
		    "httptun; error=http_request_denied\r\n%s",
		    i < KIT_COUNT(bodies) ? bodies[i] :
		    kit_str("Content-Length: 30000\r\n\r\n%s",
		    kit_times(30000, "x")));
		ex_answers(&a, 0);
	}
	kit_proxy_settles(&px);
	if (kit_said(px.proc, " \n") > 0)
		kit_fail("the log does not say why");
	if (strpbrk(kit_err(px.proc), "\x1b\r\b") != NULL)
		kit_fail("control characters in the log");
}

/* One whose frames are wrong has not died: that is an answer, and nonsense. */
static void
frames_of_an_answer(void **state)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
	} cases[] = {
#define B(s)	{ s, sizeof(s) - 1 }
		B("\x81\x83\0\0\0\0bye"),
		B("\x82\x05hello"),			/* no mask */
		B("\x83\x80\0\0\0\0"),			/* no such opcode */
		B("\xc2\x80\0\0\0\0"),			/* RSV1 */
		B("\x88\x82\0\0\0\0\x03\xed"),		/* Close 1005 */
		B("\x82\xff\0\0\0\1\0\0\0\0\0\0\0\0")	/* too long */
#undef B
	};
	struct kit_ws w[2];
	size_t n;
	int c, i;

	(void)state;
	gateway("-r", LOCAL);
	w[1] = ex_parks();
	for (n = 0; n < KIT_COUNT(cases); n++) {
		kit_note("case %zu", n);
		w[0] = ex_parks();
		c = ask(kit_request("a.target:80", ""));
		i = ws_which(w, 2);
		ex_asked(w[i], "a.target:80");
		kit_send(w[i].fd, cases[n].bytes, cases[n].len);
		(void)kit_refusal(c, 502, "http_protocol_error", KIT_STAYS);
		ws_ends(w[i]);
		(void)close(c);
		w[1] = w[!i];
	}
	rests();
	ws_send(w[1], PING, "not asked", 9);
	ws_is(w[1], PONG, "not asked");
	kit_ws_close(&w[1], 1000);
	ws_bye(w[1], 0);
	kit_proxy_settles(&px);
}

/* One that goes in the middle of it, or ends its direction there. */
static void
half_an_answer(void **state)
{
	struct kit_ws w;
	int c, how;

	(void)state;
	gateway("-r", LOCAL);
	for (how = 0; how <= GOINGS; how++) {
		w = ex_parks();
		c = ask(kit_request("a.target:80", ""));
		ex_asked(w, "a.target:80");
		kit_note("half an answer, %d", how);
		ws_puts(w, "HTTP/1.1 200 OK\r\n");
		if (how < GOINGS)
			ws_goes(w, how);
		else
			ws_end(w);
		(void)kit_refusal(c, 502, "", KIT_STAYS);
		if (how == GOINGS)
			ws_ends(w);
		(void)close(c);
	}
	kit_proxy_settles(&px);
}

/* A second answer is the tunnel's, a second CONNECT nobody's. */
static void
a_link_serves_once(void **state)
{
	struct kit_ws w[2];
	int c, o, i;

	(void)state;
	gateway("-r", LOCAL);
	/* whatever the answer, the link is not asked again */
	w[0] = ex_parks();
	c = ask(kit_request("a.target:80", ""));
	ex_asked(w[0], "a.target:80");
	ws_puts(w[0], answers[5].bytes);
	(void)kit_refusal(c, 403, NULL, KIT_STAYS);
	kit_puts(c, kit_request("b.target:80", ""));
	rests();
	w[1] = ex_parks();
	ex_asked(w[1], "b.target:80");
	ws_puts(w[1], kit_str("%s%s", REPLY_200, answers[5].bytes));
	kit_expect(c, kit_str("%s%s", KIT_OK, answers[5].bytes));
	/* the exit closes the link that it has refused on */
	kit_ws_close(&w[0], 1000);
	ws_bye(w[0], 1000);
	ex_farewell(c, w[1]);
	/* two links, two clients, one each */
	for (i = 0; i < 2; i++)
		w[i] = ex_parks();
	c = ask(kit_request("a.target:80", ""));
	i = ws_which(w, 2);
	ex_asked(w[i], "a.target:80");
	o = ask(kit_request("b.target:80", ""));
	ex_asked(w[!i], "b.target:80");
	ws_puts(w[!i], REPLY_200);
	kit_expect(o, KIT_OK);
	ws_puts(w[i], REPLY_200);
	kit_expect(c, KIT_OK);
	ex_farewell(c, w[i]);
	ex_farewell(o, w[!i]);
	kit_proxy_settles(&px);
}

/* Goes, or ends its direction, which is as good as that. */
static void
ex_dies(struct kit_ws w, int how)
{
	if (how < GOINGS) {
		ws_goes(w, how);
		return;
	}
	ws_end(w);
	ws_ends(w);
}

/* One that dies without a byte of answer is not the last one. */
static void
another_link_is_tried(void **state)
{
	struct kit_ws w[4], next;
	int c, how, i, n;

	(void)state;
	gateway("-r", LOCAL);
	for (how = 0; how <= GOINGS; how++) {
		for (n = 0; n < (int)KIT_COUNT(w); n++)
			w[n] = ex_parks();
		c = ask(kit_str("%searly", kit_request("a.target:80", "")));
		for (; n > 0; n--) {
			i = ws_which(w, n);
			ex_asked(w[i], "a.target:80");
			ex_dies(w[i], how);
			w[i] = w[n - 1];
		}
		/* that was the last one: the client waits for a new one */
		rests();
		kit_silent(c, 0);
		next = ex_parks();
		ex_asked(next, "a.target:80");
		ws_puts(next, REPLY_200);
		ws_expect(next, "early");
		kit_expect(c, KIT_OK);
		ex_farewell(c, next);
	}
	kit_proxy_settles(&px);
}

/* An exit that says anything while nothing is asked loses its link. */
static void
parked_and_talks(void **state)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
	} cases[] = {
#define B(s)	{ s, sizeof(s) - 1 }
		B("\x82\x85\0\0\0\0hello"),		/* binary */
		B("\x81\x83\0\0\0\0end"),
		B("\x81\x83\0\0\0\0bye"),
		B("\x82\x05hello"),			/* no mask */
		B("\x83\x80\0\0\0\0"),			/* no such opcode */
		B("\xc2\x80\0\0\0\0"),			/* RSV1 */
		B("\x88\x82\0\0\0\0\x03\xe8"),		/* Close 1000 */
		B("\x88\x80\0\0\0\0"),
		B("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
#undef B
	};
	struct kit_ws bad, good;
	size_t i;
	int c;

	(void)state;
	gateway("-r", LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		bad = ex_parks();
		kit_send(bad.fd, cases[i].bytes, cases[i].len);
		ws_ends(bad);
		good = ex_parks();
		c = ask(kit_request("a.target:80", ""));
		ex_asked(good, "a.target:80");
		ws_puts(good, REPLY_200);
		kit_expect(c, KIT_OK);
		ex_farewell(c, good);
	}
	/* a Ping is no word, a Pong for nothing neither; while a half of one
	 * is on its way another link is asked */
	bad = ex_parks();
	kit_send(bad.fd, "\x89\x85\0\0\0\0he", 8);
	rests();
	good = ex_parks();
	c = ask(kit_request("a.target:80", ""));
	ex_asked(good, "a.target:80");
	kit_silent(bad.fd, 0);
	kit_send(bad.fd, "llo", 3);
	ws_is(bad, PONG, "hello");
	ws_puts(good, REPLY_200);
	kit_expect(c, KIT_OK);
	ex_farewell(c, good);
	good = bad;
	ws_send(good, PONG, "", 0);
	c = ask(kit_request("a.target:80", ""));
	ex_asked(good, "a.target:80");
	ws_send(good, PING, "x", 1);
	ws_is(good, PONG, "x");
	ws_puts(good, REPLY_200);
	kit_expect(c, KIT_OK);
	ws_send(good, PING, "", 0);
	ws_is(good, PONG, "");
	ex_farewell(c, good);
	kit_proxy_settles(&px);
}

/* The end of each direction, and of the link, as the exit sees it. */
static void
ends_at_an_exit(void **state)
{
	static const char all[] = "\x82\x98\0\0\0\0" REPLY_200 "hello"
	    "\x81\x83\0\0\0\0end";
	struct kit_ws w;
	int c, how;

	(void)state;
	gateway("-r", LOCAL);
	c = ex_tunnel(&w);
	ex_farewell(c, w);
	assert_int_equal(strlen(REPLY_200) + 5, 0x18);
	/* the exit first; in fragments, with a Ping in between */
	c = ex_tunnel(&w);
	kit_send(w.fd, "\x01\x81\0\0\0\0e\x89\x80\0\0\0\0\x80\x82\0\0\0\0nd",
	    7 + 6 + 8);
	kit_eof(c);
	ws_is(w, PONG, "");
	kit_puts(c, "goes on");
	ws_expect(w, "goes on");
	kit_half_close(c);
	ws_is(w, TEXT, "end");
	ws_closed(w, 1000);
	(void)close(c);
	/* all that it has to say in one write */
	w = ex_parks();
	c = ask(kit_request("a.target:80", ""));
	ex_asked(w, "a.target:80");
	kit_send(w.fd, all, sizeof(all) - 1);
	kit_expect(c, KIT_OK "hello");
	kit_eof(c);
	kit_puts(c, "goes on");
	ws_expect(w, "goes on");
	(void)close(c);
	ws_is(w, TEXT, "end");
	ws_closed(w, 1000);
	/* broken by the exit: the client must not take it for an end */
	for (how = 0; how < GOINGS; how++) {
		c = ex_tunnel(&w);
		ws_puts(w, "half of it");
		kit_expect(c, "half of it");
		ws_goes(w, how);
		kit_expect_reset(c);
		(void)close(c);
	}
	/* and by the client */
	c = ex_tunnel(&w);
	kit_reset(c);
	ws_closed(w, 1011);
	kit_proxy_settles(&px);
}

/* Who waits is served in time by who comes, and who goes does not wait. */
static void
waiting_for_an_exit(void **state)
{
	int gone[20], c, o;
	struct kit_ws w;
	size_t i;

	(void)state;
	gateway("-r", LOCAL);
	for (i = 0; i < KIT_COUNT(gone); i++)
		gone[i] = ask(i % 2 ? kit_request("gone.target:80", "") :
		    "GET http://127.0.0.1/ HTTP/1.1\r\nHost: h\r\n\r\n");
	rests();
	for (i = 0; i < KIT_COUNT(gone); i++) {
		kit_silent(gone[i], 0);
		kit_reset(gone[i]);
	}
	kit_proxy_settles(&px);
	w = ex_parks();
	rests();
	kit_silent(w.fd, 0);
	/* in the order in which they have come; the one sends no more */
	c = ask(kit_request("a.target:80", ""));
	ex_asked(w, "a.target:80");
	o = ask(kit_str("%sall of it", kit_request("b.target:80", "")));
	kit_half_close(o);
	rests();
	ws_puts(w, REPLY_200);
	kit_expect(c, KIT_OK);
	ex_farewell(c, w);
	c = ask(kit_request("c.target:80", ""));
	rests();
	w = ex_parks();
	ex_asked(w, "b.target:80");
	ws_puts(w, REPLY_200);
	ws_expect(w, "all of it");
	ws_is(w, TEXT, "end");
	ws_puts(w, "an answer");
	ws_end(w);
	kit_expect(o, KIT_OK "an answer");
	kit_eof(o);
	(void)close(o);
	ws_closed(w, 1000);
	w = ex_parks();
	ex_asked(w, "c.target:80");
	/* it goes while the exit connects: the link is told */
	kit_reset(c);
	ws_ends(w);
	kit_proxy_settles(&px);
}


/* ---- a gateway of our own ------------------------------------------------ */

/* Where it listens. */
static int	gl;
static unsigned	gport;

/* One of the exit's handshakes, which must be as it has to be; its key, which
 * is no other one's. */
static const char *
gw_handshake(int fd)
{
	static char last[25];
	char head[4096];
	const char *key;

	(void)kit_head(fd, head, sizeof(head));
	if (strncmp(head, "GET / HTTP/1.1\r\n", 16) != 0)
		kit_fail("<<%s>>", head);
	(void)kit_must_have(head, "Host", kit_str("127.0.0.1:%u", gport));
	(void)kit_must_have(head, "Upgrade", "websocket");
	(void)kit_must_have(head, "Connection", "Upgrade");
	(void)kit_must_have(head, "Sec-WebSocket-Version", "13");
	assert_string_equal(kit_must_have(head, "Sec-WebSocket-Protocol",
	    "exit.httptun"), "");
	assert_null(kit_field(head, "Sec-WebSocket-Extensions"));
	assert_null(kit_field(head, "Origin"));
	key = kit_must_have(head, "Sec-WebSocket-Key", "");
	assert_int_equal(strlen(key), 24);
	if (strcmp(key, last) == 0)
		kit_fail("the same key twice: %s", key);
	strcpy(last, key);
	return key;
}

/* The next link that parks; these bytes come behind the 101 at once. */
static struct kit_ws
gw_next_asked(const char *frames, size_t len)
{
	struct kit_ws w = { .fd = kit_accept(gl) };
	const char *reply = kit_ws_answer(gw_handshake(w.fd), "exit.httptun");
	char all[1024];

	assert_true(strlen(reply) + len < sizeof(all));
	memcpy(all, reply, strlen(reply));
	memcpy(all + strlen(reply), frames, len);
	kit_send(w.fd, all, strlen(reply) + len);
	return w;
}

static struct kit_ws
gw_next(void)
{
	return gw_next_asked("", 0);
}

/* The exit comes, with all its links, and no more. */
static void
gw_all(struct kit_ws *w)
{
	int i;

	for (i = 0; i < PARKED; i++)
		w[i] = gw_next();
	kit_rests(xp);
	kit_untouched(gl);
	for (i = 0; i < PARKED; i++)
		kit_silent(w[i].fd, 0);
}

/* An exit with these arguments, and a target for it. */
static void
gw_exit(const char *arg, ...)
{
	va_list ap;

	tl = kit_listen(AF_INET, &tport);
	gl = kit_listen(AF_INET, &gport);
	va_start(ap, arg);
	xp = exit_va(url(gport), arg, ap);
	va_end(ap);
}

#define GW_EXIT()	gw_exit("-t", "127.0.0.1", "-s", VIA, NONE)

/* A tunnel by this link to the target: its end there. */
static int
gw_tunnel(struct kit_ws w)
{
	int t;

	ws_puts(w, kit_request(target(), ""));
	t = via_exit(kit_accept(tl));
	ws_expect(w, KIT_OK);
	return t;
}

static void
gw_farewell(struct kit_ws w, int t)
{
	ws_puts(w, "to the target");
	kit_expect(t, "to the target");
	kit_puts(t, "to the client");
	ws_expect(w, "to the client");
	ws_end(w);
	kit_eof(t);
	kit_half_close(t);
	ws_is(w, TEXT, "end");
	ws_closed(w, 1000);
	(void)close(t);
}

/* All that comes before a Close 1000 is one whole reply of this status. */
static void
gw_refused(struct kit_ws w, int status)
{
	const char *s = "", *end;
	int opcode;

	while ((opcode = ws_next(w)) == BINARY)
		s = kit_str("%s%s", s, (char *)frame.data);
	if (strncmp(s, kit_str("HTTP/1.1 %d ", status), 13) != 0 ||
	    (end = strstr(s, "\r\n\r\n")) == NULL ||
	    strtoul(kit_must_have(s, "Content-Length", ""), NULL, 10) !=
	    strlen(end + 4))
		kit_fail("<<%s>> and no %d", s, status);
	if (opcode != CLOSE || ws_code() != 1000)
		kit_fail("frame %d and no Close 1000", opcode);
	kit_ws_close(&w, 1000);
	kit_half_close(w.fd);
	assert_int_equal(kit_until_end(w.fd), 0);
	(void)close(w.fd);
}

/* A full exit parks again with the first place that it has, be it its only
 * one: those that it serves may go on for long. */
static void
full_exit(void **state)
{
	static const struct {
		const char	*limit;		/* of descriptors */
		int		 places;
	} cases[] = {
		{ "18", 1 }, { "24", 4 }
	};
	struct kit_pair p[4];
	size_t n;
	int i;

	(void)state;
	for (n = 0; n < KIT_COUNT(cases); n++) {
		gateway("-r", LOCAL);
		xp = kit_start(NULL, "sh", "-c", "ulimit -n $0; exec \"$@\"",
		    cases[n].limit, kit_binary(), "-r", "-x", url(px.port),
		    "-t", "127.0.0.1", "-s", VIA, NONE);
		parked(cases[n].places);
		for (i = 0; i < cases[n].places; i++)
			p[i] = tunnel();
		kit_farewell(p[0]);
		serves();
		for (i = 1; i < cases[n].places; i++)
			kit_farewell(p[i]);
		parked(cases[n].places);
		kit_done(xp);
	}
}

/* A gateway's tunnels are as many as its workers hold: where the first one is
 * full, links still find room there to be parked. */
static void
full_gateway(void **state)
{
	struct kit_pair p[60];
	size_t i;

	(void)state;
	tl = kit_listen(AF_INET, &tport);
	kit_proxy_is(&px, kit_start(NULL, "sh", "-c",
	    "ulimit -n 64; exec \"$@\"", "sh", kit_binary(), "-l", "-r",
	    LOCAL));
	xp = NULL;
	one_exit("-t", "127.0.0.1", "-s", VIA, NONE);
	for (i = 0; i < KIT_COUNT(p); i++)
		p[i] = tunnel();
	for (i = 0; i < KIT_COUNT(p); i++)
		kit_farewell(p[i]);
	serves();
}

/* Four links, one CONNECT each, and a new one as soon as one is used. */
static void
four_links(void **state)
{
	unsigned nobody = kit_nobody(AF_INET);
	struct kit_ws w[PARKED], used;
	int t, i;

	(void)state;
	GW_EXIT();
	gw_all(w);
	for (i = 0; i < 6; i++) {
		used = w[i % PARKED];
		kit_note("link %d", i);
		switch (i) {
		case 0:
		case 1:
			t = gw_tunnel(used);
			w[i] = gw_next();	/* not when it has ended */
			gw_farewell(used, t);
			break;
		case 2:
			ws_puts(used, kit_request(kit_str("127.0.0.1:%u",
			    nobody), ""));
			gw_refused(used, 502);
			w[i] = gw_next();
			break;
		case 3:
			ws_puts(used, kit_request(kit_str("127.0.0.3:%u",
			    tport), ""));
			gw_refused(used, 403);
			w[i] = gw_next();
			break;
		case 4:
			ws_puts(used, "nonsense\r\n\r\n");
			gw_refused(used, 400);
			w[0] = gw_next();
			break;
		default:
			/* a direct death, while it is asked */
			ws_send(used, BINARY, "CONNECT", 7);
			kit_reset(used.fd);
			w[1] = gw_next();
		}
		kit_rests(xp);
		kit_untouched(gl);
	}
	kit_untouched(tl);
	for (i = 0; i < PARKED; i++)
		kit_silent(w[i].fd, 0);
}

/* Whatever a gateway puts behind a CONNECT is the tunnel's. */
static void
two_connects(void **state)
{
	const char *once, *s;
	struct kit_ws w[PARKED];
	int t;

	(void)state;
	GW_EXIT();
	gw_all(w);
	once = kit_request(target(), "");
	ws_puts(w[0], kit_str("%s%s", once, once));
	t = via_exit(kit_accept(tl));
	kit_expect(t, once);
	ws_expect(w[0], KIT_OK);
	gw_farewell(w[0], t);
	/* a refused one is the last */
	ws_puts(w[1], kit_str("%s%s", kit_request("127.0.0.3:80", ""), once));
	gw_refused(w[1], 403);
	ws_puts(w[2], kit_request("127.0.0.3:80", ""));
	ws_puts(w[2], once);
	gw_refused(w[2], 403);
	kit_rests(xp);
	kit_untouched(tl);
	/* byte by byte, with a Ping between */
	for (s = once; *s != '\0'; s++) {
		ws_send(w[3], BINARY, s, 1);
		if (s - once == 20) {
			ws_send(w[3], PING, "p", 1);
			ws_is(w[3], PONG, "p");
		}
	}
	t = via_exit(kit_accept(tl));
	ws_expect(w[3], KIT_OK);
	gw_farewell(w[3], t);
}

/* An exit is asked with CONNECT; anything else it does not know, and no
 * request gets where its rules do not let it. */
static void
asked_otherwise(void **state)
{
	static const struct {
		int		 status;
		const char	*request;
	} cases[] = {
		{ 404, "GET http://127.0.0.1:%u/ HTTP/1.1\r\nHost: h\r\n"
		    "\r\n" },
		{ 404, "GET / HTTP/1.1\r\nHost: h%u\r\n\r\n" },
		{ 400, "CONNECT 127.0.0.1 HTTP/1.1\r\nHost: h%u\r\n\r\n" },
		{ 400, "CONNECT 127.0.0.1:%u HTTP/1.1\nHost: h\n\n" },
		{ 505, "CONNECT 127.0.0.1:%u HTTP/2.0\r\n\r\n" },
		{ 404, "POST /%u HTTP/1.1\r\nHost: h\r\n"
		    "Content-Length: 3\r\n\r\na=b" },
		{ 400, "\x16\x03\x01%u" }
	};
	struct kit_ws w[PARKED], next;
	size_t i;

	(void)state;
	gw_exit(NONE);
	gw_all(w);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		next = i < PARKED ? w[i] : gw_next();
		ws_puts(next, kit_str(cases[i].request, tport));
		gw_refused(next, cases[i].status);
	}
	kit_untouched(tl);
}

/* A gateway where somebody waits already asks with its 101. */
static void
asked_at_once(void **state)
{
	const char *once, *asks;
	struct kit_ws w[PARKED], used;
	int t;

	(void)state;
	GW_EXIT();
	once = kit_request(target(), "");
	assert_true(strlen(once) < 126);
	asks = kit_str("\x82%c%s", (char)strlen(once), once);
	used = gw_next_asked(asks, strlen(asks));
	t = via_exit(kit_accept(tl));
	ws_expect(used, KIT_OK);
	gw_all(w);
	gw_farewell(used, t);
	/* the half of it */
	used = w[0];
	t = gw_tunnel(used);
	w[0] = gw_next_asked(asks, 20);
	kit_rests(xp);
	kit_untouched(tl);
	gw_farewell(used, t);
	kit_puts(w[0].fd, asks + 20);
	t = via_exit(kit_accept(tl));
	ws_expect(w[0], KIT_OK);
	gw_farewell(w[0], t);
	/* all that there is to say */
	asks = kit_str("%s\x82\x05""early\x81\x03""end", asks);
	used = gw_next_asked(asks, strlen(asks));
	t = via_exit(kit_accept(tl));
	kit_expect(t, "early");
	kit_eof(t);
	ws_expect(used, KIT_OK);
	kit_half_close(t);
	ws_is(used, TEXT, "end");
	ws_closed(used, 1000);
	(void)close(t);
	(void)gw_next_asked("\x81\x03""end", 5);
	/* a Close with the 101 */
	(void)gw_next_asked("\x88\x02\x03\xe8", 4);
	kit_untouched(tl);
}

static void
pings(void **state)
{
	static char long_one[126];
	struct kit_ws w[PARKED];
	int t, i;

	(void)state;
	GW_EXIT();
	gw_all(w);
	memset(long_one, 'p', sizeof(long_one) - 1);
	for (i = 0; i < PARKED; i++) {
		ws_send(w[i], PING, "", 0);
		ws_is(w[i], PONG, "");
		ws_send(w[i], PING, "hello", 5);
		ws_is(w[i], PONG, "hello");
		ws_send(w[i], PING, long_one, 125);
		ws_is(w[i], PONG, long_one);
		ws_send(w[i], PONG, "for nothing", 11);
	}
	t = gw_tunnel(w[2]);
	ws_send(w[2], PING, "open", 4);
	ws_is(w[2], PONG, "open");
	gw_farewell(w[2], t);
}

/* The end of each direction, and of the link, as the gateway sees it. */
static void
ends_at_a_gateway(void **state)
{
	struct kit_ws w[PARKED];
	int t, how;

	(void)state;
	GW_EXIT();
	gw_all(w);
	gw_farewell(w[0], gw_tunnel(w[0]));
	/* the target first */
	t = gw_tunnel(w[1]);
	kit_half_close(t);
	ws_is(w[1], TEXT, "end");
	ws_puts(w[1], "goes on");
	kit_expect(t, "goes on");
	ws_end(w[1]);
	kit_eof(t);
	ws_closed(w[1], 1000);
	(void)close(t);
	/* the target's reset */
	t = gw_tunnel(w[2]);
	kit_reset(t);
	ws_closed(w[2], 1011);
	/* the gateway's */
	for (how = 0; how < GOINGS; how++) {
		w[3] = gw_next();
		t = gw_tunnel(w[3]);
		ws_puts(w[3], "half of it");
		kit_expect(t, "half of it");
		ws_goes(w[3], how);
		kit_expect_reset(t);
		(void)close(t);
	}
	kit_err_is(xp, "");
}

/* Each way not to be welcome.  %s is the right Sec-WebSocket-Accept. */
#define UPGRADED	"HTTP/1.1 101 Switching Protocols\r\n"		\
			"Upgrade: websocket\r\nConnection: Upgrade\r\n"	\
			"Sec-WebSocket-Accept: "
#define PROTOCOL	"Sec-WebSocket-Protocol: exit.httptun\r\n"

static const struct {
	const char	*says, *bytes;
} unwelcome[] = {
	{ "403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" },
	{ "401", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n"
	    "WWW-Authenticate: Basic realm=\"gw\"\r\n\r\n" },
	{ "404", "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n" },
	{ "426", "HTTP/1.1 426 Upgrade Required\r\n"
	    "Sec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n" },
	{ "502", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n" },
	{ "200", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" },
	{ "", UPGRADED "%s\r\n\r\n" },
	{ "", UPGRADED "%s\r\nSec-WebSocket-Protocol: connect.httptun\r\n"
	    "\r\n" },
	{ "", UPGRADED "%s\r\n" PROTOCOL
	    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n" },
	{ "", UPGRADED KIT_WS_ACCEPT "\r\n" PROTOCOL "\r\n" },
	{ "", "HTTP/1.1 101 Switching Protocols\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n" PROTOCOL
	    "\r\n" },
	{ "", "SSH-2.0-OpenSSH_9.2p1\r\n" }
};

/* Answers one handshake so; nothing that comes behind is taken. */
static void
gw_answers(const char *bytes)
{
	int fd = kit_accept(gl);

	kit_puts(fd, kit_str(bytes, kit_ws_accept(gw_handshake(fd))));
	/* it may have gone already */
	if (strncmp(bytes, "HTTP/1.1 101", 12) == 0)
		(void)send(fd, "\x82\x0aunexpected", 12, MSG_NOSIGNAL);
	else
		kit_half_close(fd);
	(void)kit_until_end(fd);
	(void)close(fd);
}

/* It says so, once, asks for nothing, and tries again some time. */
static void
not_welcome(void **state)
{
	struct pollfd pfd = { .events = POLLIN };
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(unwelcome); i++) {
		kit_note("case %zu", i);
		GW_EXIT();
		pfd.fd = gl;
		do {
			gw_answers(unwelcome[i].bytes);
			kit_rests(xp);
		} while (poll(&pfd, 1, 0) > 0);
		kit_err_has(xp, kit_str("127.0.0.1:%u: ", gport));
		kit_err_has(xp, unwelcome[i].says);
		assert_int_equal(kit_said(xp, "\n"), 1);
		kit_untouched(tl);
		assert_true(kit_alive(xp));
		kit_done(xp);
	}
}

/* Silence of an exit: 504 and the link is closed.  No link: 503.  Silence of a
 * gateway, before its 101 or in its CONNECT: it is not waited for.  All in the
 * time that -w allows, which they spend together. */
static void
silent_peers(void **state)
{
	struct kit_ws w, g[PARKED];
	int64_t start;
	int c[2], i;

	(void)state;
	gateway("-r", "-w", "1", LOCAL);
	gw_exit("-w", "1", NONE);
	w = ex_parks();
	for (i = 0; i < PARKED - 1; i++)
		g[i] = gw_next();
	g[i].fd = kit_accept(gl);
	(void)gw_handshake(g[i].fd);
	start = kit_now();
	ws_puts(g[0], "CONNECT 127.0.0.1:1 HTTP/1.1\r\n");
	c[0] = ask(kit_request("a.target:80", ""));
	ex_asked(w, "a.target:80");
	c[1] = ask(kit_request("b.target:80", ""));
	(void)kit_refusal(c[0], 504, "", KIT_STAYS);
	(void)kit_refusal(c[1], 503, "", KIT_STAYS);
	if (kit_now() - start < 900)
		kit_fail("they had %d ms", (int)(kit_now() - start));
	ws_ends(w);
	gw_refused(g[0], 408);
	(void)kit_until_end(g[PARKED - 1].fd);
	for (i = 1; i < PARKED - 1; i++)
		kit_silent(g[i].fd, 0);
	kit_err_wait(xp, kit_str("httptun: 127.0.0.1:%u: ", gport));
	says_nothing_twice(xp);
	/* both of the clients can still ask */
	w = ex_parks();
	kit_puts(c[1], kit_request("b.target:80", ""));
	ex_asked(w, "b.target:80");
	ws_puts(w, REPLY_200);
	kit_expect(c[1], KIT_OK);
	ex_farewell(c[1], w);
	(void)close(c[0]);
	kit_proxy_settles(&px);
}

/* Links that a gateway closes, in whatever way, come back by themselves; the
 * one that is left is replaced when it is used, before or after that. */
static void
closes_parked_links(void **state)
{
	struct kit_ws w[PARKED], used;
	int t;

	(void)state;
	GW_EXIT();
	gw_all(w);
	used = w[3];
	ws_goes(w[0], GO_CLOSE);
	ws_goes(w[1], GO_FIN);
	ws_goes(w[2], GO_RST);
	t = gw_tunnel(used);
	gw_all(w);
	gw_farewell(used, t);
	/* one that talks nonsense */
	used = w[2];
	ws_end(w[0]);
	ws_ends(w[0]);
	w[0] = gw_next();
	t = gw_tunnel(used);
	w[2] = gw_next();
	gw_farewell(used, t);
	kit_rests(xp);
	kit_untouched(gl);
	says_nothing_twice(xp);
}


/* ---- many ---------------------------------------------------------------- */

#define CROWD	200

/* All ask at once; which of them it is comes behind the CONNECT. */
static void
crowd_asks(struct kit_pair *p, int n)
{
	const char *asks = kit_request(target(), "");
	int i, t;

	for (i = 0; i < n; i++) {
		p[i].c = ask(kit_str("%s%04d", asks, i));
		p[i].t = -1;
	}
	for (i = 0; i < n; i++) {
		t = kit_accept(tl);
		p[kit_number(t, n)].t = t;
	}
	for (i = 0; i < n; i++) {
		if (p[i].t == -1)
			kit_fail("client %d has no target", i);
		kit_expect(p[i].c, KIT_OK);
	}
}

/* More at once than there are links, and all of them open together; each
 * ends in its own way. */
static void
crowd_at_one_exit(void **state)
{
	struct kit_pair p[CROWD];
	int i;

	(void)state;
	REVERSE(LOCAL);
	crowd_asks(p, CROWD);
	for (i = 0; i < CROWD; i++)
		kit_carries(p[i]);
	parked(links + 2 * CROWD);	/* the clients', and a new link each */
	for (i = 0; i < CROWD; i++)
		if (i % 4 == 0)
			kit_farewell(p[i]);
		else if (i % 4 == 1) {
			kit_reset(p[i].c);
			kit_expect_reset(p[i].t);
			(void)close(p[i].t);
		} else if (i % 4 == 2) {
			kit_reset(p[i].t);
			kit_expect_reset(p[i].c);
			(void)close(p[i].c);
		} else {
			kit_half_close(p[i].t);
			kit_eof(p[i].c);
			(void)close(p[i].c);
			kit_eof(p[i].t);
			(void)close(p[i].t);
		}
	settles();
	serves();
	kit_err_is(xp, "");
}

/* Three of them share the work. */
static void
crowd_at_three_exits(void **state)
{
	struct kit_pair p[CROWD];
	struct kit_proc *x[3];
	int i, all = 0;

	(void)state;
	gateway("-r", LOCAL);
	for (i = 0; i < 3; i++)
		x[i] = exit_to(url(px.port), "-v", "-t", "127.0.0.1", NONE);
	parked(3 * PARKED);
	kit_figure(px.proc->pid, &px.idle);
	crowd_asks(p, CROWD);
	for (i = 0; i < CROWD; i++)
		kit_farewell(p[i]);
	parked(3 * PARKED);
	kit_proxy_settles(&px);
	for (i = 0; i < 3; i++) {
		int n = kit_said(x[i], kit_str(" %s 200 ", target()));

		if (n == 0)
			kit_fail("exit %d has had nothing to do", i);
		all += n;
	}
	assert_int_equal(all, CROWD);
}


/* ---- what fails ---------------------------------------------------------- */

/* A CONNECT is refused with 503 or 504; is it 504? */
static int
no_way(int c)
{
	char head[4096];

	(void)kit_head(c, head, sizeof(head));
	if (strncmp(head, "HTTP/1.1 503 ", 13) != 0 &&
	    strncmp(head, "HTTP/1.1 504 ", 13) != 0)
		kit_fail("<<%s>>", head);
	(void)close(c);
	return head[11] == '4';
}

/* Two exits: of the one that is killed the tunnels do not look as if they had
 * ended, the one that stands still is given up for this time and not for
 * ever.  A third one, and it again, serve who comes then. */
static void
exits_fail(void **state)
{
	struct kit_proc *x[2];
	struct kit_pair p[3], q;
	int c[PARKED + 2], timeouts = 0;
	const char *nobody;
	size_t i;

	(void)state;
	REVERSE("-w", "1", LOCAL);
	x[0] = xp;
	for (i = 0; i < KIT_COUNT(p); i++) {
		p[i] = tunnel();
		kit_carries(p[i]);
	}
	kit_half_close(p[2].t);
	kit_eof(p[2].c);
	kit_done(x[0]);
	xp = NULL;
	for (i = 0; i < 2; i++) {
		kit_expect_reset(p[i].c);
		(void)close(p[i].c);
		kit_ends(p[i].t);
	}
	/* that end of file had been a true one */
	kit_push_until_reset(p[2].c);
	kit_ends(p[2].t);
	parked(0);

	one_exit("-t", "127.0.0.1", "-s", VIA, NONE);
	x[1] = xp;
	q = tunnel();
	parked(links + 2);
	kit_stop(x[1]->pid);
	nobody = kit_request(kit_str("127.0.0.1:%u", kit_nobody(AF_INET)),
	    "");
	for (i = 0; i < KIT_COUNT(c); i++)
		c[i] = ask(nobody);
	for (i = 0; i < KIT_COUNT(c); i++)
		timeouts += no_way(c[i]);
	/* where the links have rested for long the use of the first one asks
	 * the others whether they live, and those nobody gets */
	assert_in_range(timeouts, 1, PARKED);
	kit_untouched(tl);
	xp = exit_to(url(px.port), "-t", "127.0.0.1", "-s", VIA, NONE);
	parked(links + 2 + PARKED - timeouts);
	serves();
	kit_done(xp);
	kit_puts(q.c, "meanwhile");
	kit_go_on();
	kit_expect(q.t, "meanwhile");
	xp = x[1];
	parked(links + 2);
	serves();
	kit_farewell(q);
	settles();
}

static void
start_gateway_at(unsigned port)
{
	const char *argv[] = { kit_binary(), "-l", "-r", "-v", "127.0.0.1",
	    kit_str("%u", port), NULL };

	kit_proxy_is(&px, kit_startv(NULL, argv));
	assert_int_equal(px.port, port);
}

/* The exit finds its gateway again by itself; it tells what has happened, and
 * does not tell it twice. */
static void
gateway_comes_again(void **state)
{
	struct kit_proc *one = NULL;
	struct kit_pair p;
	unsigned port = 0;
	int how;

	(void)state;
	(void)close(kit_listen(AF_INET, &port));
	tl = kit_listen(AF_INET, &tport);
	for (how = 0; how < 2; how++) {
		xp = NULL;
		start_gateway_at(port);
		if (how == 0)
			one = exit_to(url(port), "-t", "127.0.0.1", "-s", VIA,
			    NONE);
		is_there(one, PARKED);
		p = tunnel();
		if (how == 0) {
			kit_farewell(p);
			settles();
		}
		kit_signal(px.proc->pid, how == 0 ? SIGTERM : SIGKILL);
		kit_exits(px.proc, how == 0 ? -SIGTERM : -SIGKILL);
		if (how == 1) {
			kit_expect_reset(p.t);
			kit_ends(p.c);
		}
	}
	assert_true(kit_alive(xp));
	says_nothing_twice(xp);
}

/* A client that this one of the workers has accepted: the others stand still
 * meanwhile. */
static int
client_of(const pid_t *w, int which)
{
	int64_t end = kit_now() + kit_patience();
	int i, c, fds;

	rests();
	fds = kit_fds(w[which]);
	for (i = 0; i < CREW; i++)
		if (i != which)
			kit_stop(w[i]);
	c = kit_client(&px);
	while (kit_fds(w[which]) == fds) {
		if (kit_now() > end)
			kit_fail("worker %d does not accept", which);
		(void)poll(NULL, 0, 1);
	}
	kit_go_on();
	return c;
}

/* The workers, and a tunnel of each. */
static void
one_each(struct kit_pair *q, pid_t *w)
{
	int i;

	kit_wait_workers(&px, w, CREW, NULL);
	for (i = 0; i < CREW; i++) {
		q[i].c = client_of(w, i);
		kit_puts(q[i].c, kit_request(target(), ""));
		q[i].t = via_exit(kit_accept(tl));
		kit_expect(q[i].c, KIT_OK);
	}
}

/* Whichever worker has the client, the links are there for it. */
static void
four_workers(void **state)
{
	struct kit_pair p[50], q[CREW];
	pid_t w[CREW];
	int i;

	(void)state;
	REVERSE("-j", "4", LOCAL);
	one_each(q, w);
	/* what is passed on takes along what has come already */
	for (i = 0; i < CREW; i++) {
		int c = client_of(w, i);

		kit_puts(c, kit_str("%searly%d", kit_request(target(), ""),
		    i));
		p[0].t = kit_accept(tl);
		kit_expect(p[0].t, kit_str("early%d", i));
		kit_expect(c, KIT_OK);
		kit_farewell((struct kit_pair){ c, p[0].t });
		/* and may ask again when refused */
		c = client_of(w, i);
		(void)is_refused(c, "127.0.0.3:80", 403, "");
		(void)is_refused(c, "127.0.0.3:81", 403, "");
		(void)close(c);
	}
	crowd_asks(p, (int)KIT_COUNT(p));
	for (i = 0; i < (int)KIT_COUNT(p); i++)
		kit_carries(p[i]);
	for (i = 0; i < (int)KIT_COUNT(p); i++)
		kit_farewell(p[i]);
	for (i = 0; i < CREW; i++)
		kit_farewell(q[i]);
	settles();
}

/* One after the other: each takes its own tunnels and nobody else's, also the
 * one that has the links.  Then the exit comes back. */
static void
workers_die(void **state)
{
	struct kit_pair q[CREW];
	pid_t w[CREW];
	int i, k;

	(void)state;
	REVERSE("-j", "4", LOCAL);
	one_each(q, w);
	for (i = 0; i < CREW; i++) {
		kit_signal(w[i], SIGKILL);
		kit_gone(w[i]);
		kit_expect_reset(q[i].c);
		kit_expect_reset(q[i].t);
		(void)close(q[i].c);
		(void)close(q[i].t);
		for (k = i + 1; k < CREW; k++)
			kit_carries(q[k]);
	}
	serves();
	kit_wait_workers(&px, w, CREW, NULL);
	parked(PARKED);
	settles();
	says_nothing_twice(xp);
}

/* Who waits for an exit waits on when the worker dies that has the list of
 * those who do. */
static void
waits_for_a_new_worker(void **state)
{
	int c[CREW], i;
	pid_t w[CREW];
	struct kit_ws x;

	(void)state;
	gateway("-r", "-j", "4", LOCAL);
	kit_wait_workers(&px, w, CREW, NULL);
	for (i = 0; i < CREW; i++) {
		c[i] = client_of(w, i);
		kit_puts(c[i], kit_request("a.target:80", ""));
	}
	for (i = 0; i < CREW - 1; i++) {
		kit_signal(w[i], SIGKILL);
		kit_gone(w[i]);
		kit_ends(c[i]);
	}
	kit_wait_workers(&px, w, CREW, NULL);
	x = ex_parks();
	ex_asked(x, "a.target:80");
	ws_puts(x, REPLY_200);
	kit_expect(c[i], KIT_OK);
	ex_farewell(c[i], x);
}


/* ---- a link that is cut in silence --------------------------------------- */

/* the test is where the gateway is, the exit and the target are there */
static int	here_ns, there_ns;

static int
listen_at_all(unsigned *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd == -1 || bind(fd, (struct sockaddr *)&sin, len) == -1 ||
	    listen(fd, 512) == -1 ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) == -1)
		kit_fail("listen: %s", strerror(errno));
	*port = ntohs(sin.sin_port);
	return fd;
}

static struct kit_proc *
exit_there(void)
{
	struct kit_proc *p;

	kit_enter(there_ns);
	p = exit_to(kit_str("ws://192.0.2.1:%u/", px.port), NONE);
	kit_enter(here_ns);
	return p;
}

/* A tunnel to the target there, which carries and ends. */
static void
serves_there(const char *asks)
{
	struct kit_pair p;

	p.c = ask(asks);
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
}

static void
wire_is_cut(void **state)
{
	int c[PARKED + 2], timeouts = 0;
	const char *asks;
	struct kit_pair p;
	int64_t end;
	size_t i;

	(void)state;
	if (!kit_networks(&here_ns, &there_ns))
		skip();
	kit_enter(here_ns);
	gateway("-r", "-w", "1", "-c", "any", "0.0.0.0", "0", NONE);
	kit_enter(there_ns);
	tl = listen_at_all(&tport);
	kit_enter(here_ns);
	is_there(exit_there(), PARKED);
	asks = kit_request(kit_str("192.0.2.2:%u", tport), "");
	serves_there(asks);
	(void)close(is_refused(-1, target(), 403, ""));
	settles();
	p.c = ask(asks);
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	parked(links + 2);

	kit_script(there_ns, "ip link set far down");
	for (i = 0; i < KIT_COUNT(c); i++)
		c[i] = ask(kit_request("192.0.2.2:1", ""));
	for (i = 0; i < KIT_COUNT(c); i++)
		timeouts += no_way(c[i]);
	assert_int_equal(timeouts, PARKED);
	kit_script(there_ns, "ip link set far up\n" KIT_UNTIL_UP("far"));
	kit_script(here_ns, KIT_UNTIL_UP("near"));
	(void)exit_there();
	end = kit_now() + kit_patience();
	while (connections(px.port) < links + 2) {
		if (kit_now() > end)
			kit_fail("no exit comes");
		(void)poll(NULL, 0, 2);
	}
	serves_there(asks);
	/* nothing has happened to what was open */
	kit_farewell(p);
}


/* ---- signals and usage --------------------------------------------------- */

static void
signals(void **state)
{
	static const int sigs[] = { SIGTERM, SIGTERM, SIGINT, SIGHUP };
	pid_t all[2][32];
	struct kit_pair p;
	int n[2], k;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(sigs); i++) {
		struct kit_proc *first, *last;

		REVERSE(LOCAL);
		p = tunnel();
		/* once the exit first, once the gateway */
		first = i % 2 ? px.proc : xp;
		last = i % 2 ? xp : px.proc;
		n[0] = kit_processes(first->pid, all[0], 32);
		n[1] = kit_processes(last->pid, all[1], 32);
		kit_signal(first->pid, sigs[i]);
		kit_exits(first, -sigs[i]);
		for (k = 0; k < n[0]; k++)
			kit_gone(all[0][k]);
		kit_signal(last->pid, sigs[i]);
		kit_exits(last, -sigs[i]);
		for (k = 0; k < n[1]; k++)
			kit_gone(all[1][k]);
		kit_ends(p.c);
		kit_ends(p.t);
		kit_done(first);
		kit_done(last);
	}
}

/* It goes on while there are tunnels; links that are parked are none. */
static void
drains(void **state)
{
	struct kit_pair p;

	(void)state;
	REVERSE("-j", "4", LOCAL);
	p = tunnel();
	kit_signal(px.proc->pid, SIGQUIT);
	while (kit_knock(AF_INET, px.port) != ECONNREFUSED)
		(void)poll(NULL, 0, 1);
	kit_carries(p);
	kit_half_close(p.c);
	kit_eof(p.t);
	kit_puts(p.t, "the last words");
	kit_expect(p.c, "the last words");
	assert_true(kit_alive(px.proc));
	(void)close(p.t);
	kit_eof(p.c);
	kit_exits(px.proc, 0);
	assert_true(kit_alive(xp));
}

static void
drains_at_once(void **state)
{
	(void)state;
	REVERSE(LOCAL);
	kit_signal(px.proc->pid, SIGQUIT);
	kit_exits(px.proc, 0);
}

static void
wrong_usage(void **state)
{
#define WS	"-x", "ws://127.0.0.1:1/"
	static const char *const cases[][10] = {
		{ "-r" },
		{ "-r", "127.0.0.1", "80" },
		{ "-r", "80" },
		{ "-r", WS, "127.0.0.1", "80" },
		{ "-r", WS, "80" },
		{ "-r", WS, "ws://127.0.0.1:1/" },
		{ "-r", "ws://127.0.0.1:1/" },
		{ "-r", "-x", "127.0.0.1:1" },
		{ "-r", "-x", "http://127.0.0.1:1" },
		{ "-r", WS, "-x", "http://127.0.0.1:1" },
		{ "-r", "-x", "direct" },
		{ "-r", "-x", "poll://127.0.0.1:1/" },
		{ "-r", WS, "-L", "0:127.0.0.1:80" },
		{ "-r", WS, "-f", "/dev/null" },
		{ "-r", WS, "-z" },
		{ "-r", WS, "-F" },
		{ "-r", WS, "-T" },
		{ "-r", WS, "-i" },
		{ "-r", WS, "-j", "2" },
		{ "-r", WS, "-c", "any" },
		{ "-r", WS, "-t", "127.0.0.1/33" },
		{ "-l", "-r", WS, "127.0.0.1", "0" },
		{ "-l", "-r", WS },
		{ "-l", "-r", "-i" },
		{ "-l", "-r" },
		{ "-l", "-r", "-L", "0:127.0.0.1:80", "127.0.0.1", "0" },
		{ "-l", "-r", "127.0.0.1", "0", "more" },
		/* an open one by accident */
		{ "-l", "-r", "0.0.0.0", "0" }
	};
#undef WS
	const char *argv[KIT_COUNT(cases[0]) + 2], *err;
	struct kit_proc *p;
	char out[64];
	size_t i, k;

	(void)state;
	argv[0] = kit_binary();
	for (i = 0; i < KIT_COUNT(cases); i++) {
		for (k = 0; k < KIT_COUNT(cases[i]) && cases[i][k] != NULL;
		    k++)
			argv[k + 1] = cases[i][k];
		argv[k + 1] = NULL;
		kit_note("case %zu: %s %s ...", i, argv[1], argv[2]);
		p = kit_startv(NULL, argv);
		kit_exits(p, 2);
		assert_int_equal(kit_slurp(p->out, out, sizeof(out)), 0);
		err = kit_err(p);
		if (*err == '\0' || strchr(err, '\n') != err + strlen(err) - 1)
			kit_fail("stderr is not a line");
		kit_done(p);
	}
}


/* Into a host that can only dial out. */
static void
ssh_through_an_exit(void **state)
{
	const char *proxy;
	struct kit_proc *p;

	(void)state;
	REVERSE(LOCAL);
	proxy = kit_str("ProxyCommand=%s -x 127.0.0.1:%u %%h %%p",
	    kit_binary(), px.port);
	tport = kit_serve(&kit_sshd, NULL);
	kit_ssh_runs(proxy, tport);
	p = kit_ssh(proxy, tport, "cat");
	kit_last_words(p->in, p->out, MB, 8);
	kit_exits(p, 0);
	settles();
}


int
main(void)
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(ssh_through_an_exit),
		TEST(half_close_either_way),
		TEST(both_directions_at_once),
		TEST(early_data),
		TEST(reset_either_way),
		TEST(through_another),
		TEST(back_pressure),
		TEST(http_requests),
		TEST(other_ways),
		TEST(refusals),
		TEST(gateway_rules),
		TEST(names),
		TEST(loopback_is_closed),
		TEST(credentials),
		TEST(early_answers),
		TEST(registering),
		TEST(what_a_link_is_asked),
		TEST(answers_of_an_exit),
		TEST(bodies_of_refusals),
		TEST(half_an_answer),
		TEST(frames_of_an_answer),
		TEST(a_link_serves_once),
		TEST(another_link_is_tried),
		TEST(parked_and_talks),
		TEST(ends_at_an_exit),
		TEST(waiting_for_an_exit),
		TEST(four_links),
		TEST(full_exit),
		TEST(full_gateway),
		TEST(two_connects),
		TEST(asked_otherwise),
		TEST(asked_at_once),
		TEST(pings),
		TEST(ends_at_a_gateway),
		TEST(not_welcome),
		TEST(silent_peers),
		TEST(closes_parked_links),
		TEST(crowd_at_one_exit),
		TEST(crowd_at_three_exits),
		TEST(exits_fail),
		TEST(gateway_comes_again),
		TEST(four_workers),
		TEST(workers_die),
		TEST(waits_for_a_new_worker),
		TEST(wire_is_cut),
		TEST(signals),
		TEST(drains),
		TEST(drains_at_once),
		TEST(wrong_usage)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
