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
#include <strings.h>
#include <unistd.h>

#include "kit.h"

#define OK	"HTTP/1.1 200 Connection established\r\n\r\n"
#define LOCAL	"127.0.0.1", "0", (char *)NULL
#define MB	((uint64_t)1 << 20)
#define PEAK	8192		/* KiB that the program may ever take */
#define MARGIN	64		/* KiB by which the allocator may err */

/* The proxy under test, what it has when idle, and a target for it. */
static struct kit_proc	*px;
static unsigned		 px_port;
static int		 px_af;		/* its clients' */
static struct kit_figure px_idle;	/* of all its processes */
static pid_t		 px_pids[16];	/* all its processes */
static int		 px_npids;
static int		 tl;
static unsigned		 tport;

/* A tunnel: the client's and the target's end. */
struct pair {
	int	c, t;
};

/* How somebody goes. */
enum way { WAY_CLOSE, WAY_RESET, WAY_HALF, WAYS };

enum after { STAYS, CLOSES };


/* ---- the proxy, its clients and targets ---------------------------------- */

static struct kit_proc *
launch(const char *arg, va_list ap)
{
	/* no look-up may outlast a test, whatever resolver there is */
	static const char *const env[] = {
		"RES_OPTIONS=timeout:1 attempts:1", NULL
	};
	static const struct kit_opt opt = { .env = env };
	const char *argv[32] = { NULL, "-l" };
	size_t n = 2;

	argv[0] = kit_binary();
	for (; arg != NULL; arg = va_arg(ap, const char *)) {
		assert_true(n + 1 < KIT_COUNT(argv));
		argv[n++] = arg;
	}
	argv[n] = NULL;
	return kit_startv(&opt, argv);
}

/* px has been started: learn what it is when idle, make a target. */
static void
serving(void)
{
	px_port = kit_listening(px, 0);
	px_af = AF_INET;
	kit_figure(px->pid, &px_idle);
	px_pids[0] = px->pid;
	px_npids = 1 + kit_family(px->pid, px_pids + 1,
	    KIT_COUNT(px_pids) - 1);
	tl = kit_listen(AF_INET, &tport);
}

/* Starts `httptun -l` with these arguments, and a target. */
static void
serve(const char *arg, ...)
{
	va_list ap;

	va_start(ap, arg);
	px = launch(arg, ap);
	va_end(ap);
	serving();
}

/* Nothing is left of whatever was asked. */
static void
settles(void)
{
	kit_returns(px, &px_idle);
}

/* It has taken up all that was sent. */
static void
rests(void)
{
	kit_idle_all(px_pids, px_npids);
}

static int
fds(void)
{
	struct kit_figure f;

	kit_figure(px->pid, &f);
	return f.fds;
}

static long
rss(void)
{
	struct kit_figure f;

	kit_figure(px->pid, &f);
	return f.rss;
}

static void
peak_is_low(void)
{
	long peak;
	int i;

	if (kit_sanitized())
		return;
	for (i = 0; i < px_npids; i++)
		if ((peak = kit_status(px_pids[i], "VmHWM")) >= PEAK)
			kit_fail("a peak of %ld KiB", peak);
}

static int
client(void)
{
	return kit_connect(px_af, px_port);
}

static int
ask(const char *request)
{
	int c = client();

	kit_puts(c, request);
	return c;
}

static const char *
connect_to(unsigned port)
{
	return kit_str("CONNECT 127.0.0.1:%u HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\n\r\n", port, port);
}

static struct pair
tunnel(void)
{
	struct pair p;

	p.c = ask(connect_to(tport));
	p.t = kit_accept(tl);
	kit_expect(p.c, OK);
	return p;
}

/* The tunnel carries both ways, then ends in order. */
static void
farewell(struct pair p)
{
	kit_puts(p.c, "to the target");
	kit_expect(p.t, "to the target");
	kit_puts(p.t, "to the client");
	kit_expect(p.c, "to the client");
	kit_half_close(p.c);
	kit_eof(p.t);
	kit_half_close(p.t);
	kit_eof(p.c);
	(void)close(p.c);
	(void)close(p.t);
}

/* The next client is served. */
static void
serves(void)
{
	farewell(tunnel());
}

static void
vanish(int fd, enum way how)
{
	if (how == WAY_RESET)
		kit_reset(fd);
	else if (how == WAY_CLOSE)
		(void)close(fd);
	else
		kit_half_close(fd);
}

/* The connection ends, in whatever way, without a byte. */
static void
ends(int fd)
{
	char byte;

	kit_poll(fd, POLLIN, "the end");
	if (read(fd, &byte, 1) > 0)
		kit_fail("'%c' and no end on %d", byte, fd);
	(void)close(fd);
}

/* Sends until the connection is reset; nothing is read. */
static void
push_until_reset(int fd)
{
	int64_t end = kit_now() + kit_patience();
	static const char junk[65536];
	ssize_t n;

	do {
		kit_poll(fd, POLLOUT, "a reset");
		n = send(fd, junk, sizeof(junk), MSG_NOSIGNAL | MSG_DONTWAIT);
	} while ((n != -1 || errno == EAGAIN) && kit_now() < end);
	if (n != -1 || (errno != ECONNRESET && errno != EPIPE))
		kit_fail("no reset on %d", fd);
	(void)close(fd);
}

static int
has_ipv6(void)
{
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6 };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), has;

	s6.sin6_addr = in6addr_loopback;
	has = fd != -1 &&
	    bind(fd, (struct sockaddr *)&s6, sizeof(s6)) == 0;
	if (fd != -1)
		(void)close(fd);
	if (!has)
		print_message("no IPv6 here: not tested\n");
	return has;
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
is_refused(int family, unsigned port)
{
	struct sockaddr_in s4 = { .sin_family = AF_INET };
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6 };
	int fd = socket(family, SOCK_STREAM, 0), n;

	s4.sin_port = s6.sin6_port = htons((uint16_t)port);
	s4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s6.sin6_addr = in6addr_loopback;
	n = family == AF_INET ?
	    connect(fd, (struct sockaddr *)&s4, sizeof(s4)) :
	    connect(fd, (struct sockaddr *)&s6, sizeof(s6));
	if (n == 0)
		kit_fail("somebody listens where nobody should");
	(void)close(fd);
}


/* ---- what it answers ----------------------------------------------------- */

/* A field's value; NULL when there is none, a failure when there are two. */
static const char *
field(const char *head, const char *name)
{
	const char *line = head, *val = NULL;
	size_t len = strlen(name);

	while ((line = strstr(line, "\r\n")) != NULL) {
		line += 2;
		if (strncasecmp(line, name, len) != 0 || line[len] != ':')
			continue;
		if (val != NULL)
			kit_fail("two %s fields: <<%s>>", name, head);
		val = line + len + 1 + strspn(line + len + 1, " \t");
		val = kit_str("%.*s", (int)strcspn(val, "\r\n"), val);
	}
	return val;
}

static const char *
must_have(const char *head, const char *name, const char *start)
{
	const char *val = field(head, name);

	if (val == NULL || strncmp(val, start, strlen(start)) != 0)
		kit_fail("no field \"%s: %s\": <<%s>>", name, start, head);
	return val + strlen(start);
}

/* RFC 9209: which error it was; "" in a test is any. */
static void
tells_why(const char *head, int status, const char *error)
{
	const char *rest;

	if (status != 403 && status < 502)
		return;
	if (status == 505)
		return;
	assert_non_null(error);
	rest = must_have(head, "Proxy-Status",
	    kit_str("httptun; error=%s", error));
	if (*error != '\0' ? *rest != '\0' && *rest != ';' :
	    *rest < 'a' || *rest > 'z')
		kit_fail("no error=%s: <<%s>>", error, head);
}

/* The head of a refusal; returns its Content-Length. */
static size_t
answers_head(int fd, int status, const char *error, enum after after)
{
	char head[4096];
	const char *len;

	(void)kit_head(fd, head, sizeof(head));
	if (strncmp(head, kit_str("HTTP/1.1 %d ", status), 13) != 0)
		kit_fail("<<%s>> and no %d", head, status);
	(void)must_have(head, "Content-Type", "text/plain");
	len = must_have(head, "Content-Length", "");
	if (status == 407)
		(void)must_have(head, "Proxy-Authenticate",
		    "Basic realm=\"httptun\"");
	tells_why(head, status, error);
	if (field(head, "Transfer-Encoding") != NULL)
		kit_fail("a Transfer-Encoding: <<%s>>", head);
	if (after == CLOSES)
		(void)must_have(head, "Connection", "close");
	else if (field(head, "Connection") != NULL &&
	    strcasecmp(field(head, "Connection"), "keep-alive") != 0)
		kit_fail("it will not stay: <<%s>>", head);
	return (size_t)strtoul(len, NULL, 10);
}

/* A whole refusal, its end of file too when there must be one.  The body. */
static const char *
answers(int fd, int status, const char *error, enum after after)
{
	size_t len = answers_head(fd, status, error, after);
	char body[1024];

	if (len < 2 || len >= sizeof(body))
		kit_fail("a body of %zu bytes", len);
	kit_recv(fd, body, len);
	body[len] = '\0';
	if (strchr(body, '\n') != body + len - 1)
		kit_fail("the body is not a line: <<%s>>", body);
	if (after == CLOSES)
		kit_eof(fd);
	return kit_str("%s", body);
}


/* ---- listening ----------------------------------------------------------- */

/* It ends with this status: one line on stderr, nothing else happens. */
static void
will_not_start(int status, const char *arg, ...)
{
	const char *err;
	char out[64];
	va_list ap;

	kit_note("must end with %d: %s ...", status, arg);
	va_start(ap, arg);
	px = launch(arg, ap);
	va_end(ap);
	kit_exits(px, status);
	assert_int_equal(kit_slurp(px->out, out, sizeof(out)), 0);
	err = kit_err(px);
	if (*err == '\0' || strchr(err, '\n') != err + strlen(err) - 1)
		kit_fail("stderr is not a line");
	if (strstr(err, "listening") != NULL)
		kit_fail("it listened before");
	kit_done(px);
}

static void
not_for_a_proxy(int family)
{
	int c = kit_connect(family, px_port);
	const char *text;

	kit_puts(c, "GET / HTTP/1.1\r\nHost: here\r\n\r\n");
	text = answers(c, 404, NULL, STAYS);
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
	if (has_ipv6()) {
		assert_int_equal(kit_listening(px, 1), px_port);
		not_for_a_proxy(AF_INET6);
		kit_err_is(px, kit_str("httptun: listening on 127.0.0.1 %u\n"
		    "httptun: listening on ::1 %u\n", px_port, px_port));
	}
}

static void
one_family(void **state)
{
	(void)state;
	serve("-4", "0", NULL);
	not_for_a_proxy(AF_INET);
	kit_err_is(px, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px_port));
	if (!has_ipv6())
		return;
	is_refused(AF_INET6, px_port);
	serve("-6", "0", NULL);
	not_for_a_proxy(AF_INET6);
	is_refused(AF_INET, px_port);
	kit_err_is(px, kit_str("httptun: listening on ::1 %u\n", px_port));
}

static void
given_address(void **state)
{
	(void)state;
	serve(LOCAL);
	not_for_a_proxy(AF_INET);
	kit_err_is(px, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px_port));
	if (!has_ipv6())
		return;
	is_refused(AF_INET6, px_port);
	serve("::1", "0", NULL);
	not_for_a_proxy(AF_INET6);
	is_refused(AF_INET, px_port);
	kit_err_is(px, kit_str("httptun: listening on ::1 %u\n", px_port));
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
	assert_int_equal(px_port, port);
	serves();
}

static void
port_in_use(void **state)
{
	unsigned port;

	(void)state;
	(void)kit_listen(AF_INET, &port);
	will_not_start(1, "127.0.0.1", kit_str("%u", port), NULL);
	will_not_start(1, kit_str("%u", port), NULL);
	if (!has_ipv6())
		return;
	(void)kit_listen(AF_INET6, &port);
	will_not_start(1, "::1", kit_str("%u", port), NULL);
	will_not_start(1, kit_str("%u", port), NULL);
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
		will_not_start(2, ports[i], NULL);
		will_not_start(2, "127.0.0.1", ports[i], NULL);
	}
	for (i = 0; i < KIT_COUNT(addrs); i++)
		will_not_start(2, "-c", "any", addrs[i], "0", NULL);
	will_not_start(2, NULL);
	will_not_start(2, "127.0.0.1", "0", "more", NULL);
	will_not_start(2, "-w", "0", LOCAL);
	will_not_start(2, "-a", kit_path("missing"), LOCAL);
	will_not_start(2, "-a", kit_file("faulty", 0600, "nocolon\n"),
	    LOCAL);
	/* TEST-NET-1: no machine has it */
	will_not_start(1, "-c", "any", "192.0.2.1", "0", NULL);
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
		will_not_start(2, addrs[i], port, NULL);
		will_not_start(2, "-c", "!10.0.0.1", addrs[i], port, NULL);
	}
	will_not_start(2, "-4", "*", port, NULL);
}

static void
open_when_told(void **state)
{
	const char *users = kit_file("users", 0600, "alice:secret\n");

	(void)state;
	serve("-c", "any", "0.0.0.0", "0", NULL);
	serves();
	kit_err_is(px, kit_str("httptun: listening on 0.0.0.0 %u\n",
	    px_port));
	serve("-a", users, "0.0.0.0", "0", NULL);
	(void)answers(ask(connect_to(tport)), 407, NULL, STAYS);
	serve("-c", "any", "*", "0", NULL);
	serves();
	if (!has_ipv6())
		return;
	not_for_a_proxy(AF_INET6);
	serve("-c", "any", "-6", "*", "0", NULL);
	not_for_a_proxy(AF_INET6);
	is_refused(AF_INET, px_port);
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
	struct pair p;
	int lfd;

	kit_note("target %s", host);
	lfd = kit_listen(family, &port);
	p.c = ask(kit_str("CONNECT %s:%u HTTP/1.1\r\nHost: %s:%u\r\n\r\n"
	    "early", host, port, host, port));
	p.t = kit_accept(lfd);
	kit_expect(p.c, OK);
	kit_expect(p.t, "early");
	farewell(p);
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
	if (has_ipv6()) {
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
		(void)answers(c[i], 502, "connection_refused", STAYS);
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
	for (i = 1; i < px_npids; i++) {
		assert_int_equal(kill(px_pids[i], SIGKILL), 0);
		kit_gone(px_pids[i]);
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
	(void)answers(c, status, "", STAYS);
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
	if (has_ipv6())
		reach(AF_INET6, "[::1]");
	settles();
}

static void
targets_of_one_family(void **state)
{
	(void)state;
	if (!has_ipv6())
		skip();
	serve("-4", "0", NULL);
	reach(AF_INET, "127.0.0.1");
	reach(AF_INET, "localhost");
	not_reached(AF_INET6, "[::1]", 502);
	settles();
	serve("-6", "0", NULL);
	px_af = AF_INET6;
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
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(requests); i++) {
		kit_note("request %zu", i);
		p.c = ask(kit_str(requests[i], tport));
		p.t = kit_accept(tl);
		kit_expect(p.c, OK);
		farewell(p);
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
	struct pair p;
	int c, t;

	(void)state;
	serve(LOCAL);
	/* as much as one read can take, with the head */
	kit_fill(buf, sizeof(buf), 1, 0);
	c = client();
	kit_puts(c, connect_to(tport));
	kit_send(c, buf, sizeof(buf));
	t = kit_accept(tl);
	s[0].fd = c;
	s[1].fd = t;
	s[0].done = sizeof(buf);
	s[0].end = 1;
	kit_pump(s, 2);
	kit_puts(t, "answer");
	kit_half_close(t);
	kit_expect(c, OK "answer");
	kit_eof(c);

	/* the end of file comes early too, and the target speaks first */
	p.c = ask(kit_str("%s%s", connect_to(tport), "all of it"));
	kit_half_close(p.c);
	p.t = kit_accept(tl);
	kit_puts(p.t, "SSH-2.0-target\r\n");
	kit_expect(p.c, OK "SSH-2.0-target\r\n");
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
	S(400, "* OK IMAP4rev1\r\n\r\n"),
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
	(void)answers(c, s->status, NULL, CLOSES);
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
		(void)answers(c, 400, NULL, CLOSES);
		(void)close(c);
	}
	serves();
	settles();
}

/* n times the text */
static const char *
times(size_t n, const char *text)
{
	size_t len = strlen(text), i;
	char *s = malloc(n * len + 1);
	const char *r;

	assert_non_null(s);
	for (i = 0; i < n; i++)
		memcpy(s + i * len, text, len);
	s[n * len] = '\0';
	r = kit_str("%s", s);
	free(s);
	return r;
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
	too_long(kit_str("GET /%s HTTP/1.1\r\n\r\n", times(100000, "a")), 414);
	too_long(kit_str("GET /%s HTTP/1.1\r\n\r\n", times(8300, "a")), 414);
	too_long(kit_str("CONNECT %s:80 HTTP/1.1\r\n\r\n",
	    times(100000, "a")), 414);
	too_long(times(1 << 20, "A"), 414);
	too_long(times(1000, "\r\n"), 400);
	too_long(kit_str(GET "%s\r\n", times(MB / 32,
	    "X-Field: 012345678901234567890\r\n")), 431);
	too_long(kit_str(GET "X: %s\r\n\r\n", times(1 << 20, "x")), 431);
	too_long(kit_str(GET "%s: x\r\n\r\n", times(1 << 20, "X")), 431);
	too_long(kit_str(GET "X: %s\r\n\r\n", times(16384, "x")), 431);
	too_long(kit_str(GET "%s\r\n", times(100, "X:\r\n")), 431);
	too_long(kit_str(GET "%s", times(17000, "x")), 431);

	/* and what is just not too long */
	c = ask(kit_str("GET /%s HTTP/1.1\r\nHost: h\r\n\r\n",
	    times(8100, "a")));
	(void)answers(c, 404, NULL, STAYS);
	kit_puts(c, kit_str(GET "X: %s\r\n\r\n", times(16000, "x")));
	(void)answers(c, 404, NULL, STAYS);
	kit_puts(c, kit_str(GET "%s\r\n", times(99, "X:\r\n")));
	(void)answers(c, 404, NULL, STAYS);
	(void)close(c);
	serves();
	settles();
	peak_is_low();
}

/* A refused client that does not go, or sends for ever, is not kept. */
static void
refused_and_stays(void **state)
{
	int i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 10; i++)
		(void)answers(ask(i % 2 ? "\x16" : "GET / HTTP/1.0\r\n\r\n"),
		    i % 2 ? 400 : 404, NULL, CLOSES);
	serves();
	push_until_reset(ask("\x16"));
	settles();
}


/* ---- asking again -------------------------------------------------------- */

/* RFC 4648, section 4 */
static const char *
base64(const char *s)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)s;
	size_t len = strlen(s), i, n = 0;
	char out[256];
	unsigned v;

	assert_true(len < sizeof(out) / 2);
	for (i = 0; i < len; i += 3) {
		v = (unsigned)p[i] << 16;
		v |= i + 1 < len ? (unsigned)p[i + 1] << 8 : 0;
		v |= i + 2 < len ? p[i + 2] : 0;
		out[n++] = set[v >> 18];
		out[n++] = set[v >> 12 & 63];
		out[n++] = i + 1 < len ? set[v >> 6 & 63] : '=';
		out[n++] = i + 2 < len ? set[v & 63] : '=';
	}
	return kit_str("%.*s", (int)n, out);
}

static const char *
basic(const char *userpass)
{
	return kit_str("Basic %s", base64(userpass));
}

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
	struct pair p;
	size_t i;

	(void)state;
	serve("-n", "-a", kit_file("users", 0600, "alice:secret\n"), LOCAL);
	auth = kit_str("Proxy-Authorization: %s\r\n", basic("alice:secret"));
	p.c = client();
	for (i = 0; i < 2 * KIT_COUNT(steps); i++) {
		size_t n = i % KIT_COUNT(steps);

		kit_puts(p.c, kit_str(steps[n].asks, nobody));
		kit_puts(p.c, kit_str(" HTTP/1.1\r\nHost: h\r\n%s\r\n",
		    steps[n].auth ? auth : ""));
		(void)answers(p.c, steps[n].status, steps[n].error, STAYS);
	}
	kit_puts(p.c, kit_str("CONNECT 127.0.0.1:%u HTTP/1.1\r\n%s\r\n",
	    tport, auth));
	p.t = kit_accept(tl);
	kit_expect(p.c, OK);
	farewell(p);
	settles();
}

static void
stays_or_closes(void **state)
{
	static const struct {
		const char	*request;
		enum after	 after;
	} cases[] = {
		{ GET "\r\n", STAYS },
		{ GET "Content-Length: 0\r\n\r\n", STAYS },
		{ GET "Connection: keep-alive\r\n\r\n", STAYS },
		{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", STAYS },
		{ "GET / HTTP/1.0\r\n\r\n", CLOSES },
		{ GET "Connection: close\r\n\r\n", CLOSES },
		{ GET "Connection: foo\r\nConnection: bar, Close\r\n\r\n",
		    CLOSES },
		/* a body, there or not, is never taken for a request */
		{ "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 27\r\n\r\n"
		    GET "\r\n", CLOSES },
		{ "PUT / HTTP/1.1\r\nHost: h\r\n"
		    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
		    GET "\r\n", CLOSES },
		{ "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n",
		    CLOSES }
	};
	size_t i;
	int c;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		c = ask(cases[i].request);
		(void)answers(c, 404, NULL, cases[i].after);
		if (cases[i].after == STAYS) {
			kit_puts(c, "GET / HTTP/1.0\r\n\r\n");
			(void)answers(c, 404, NULL, CLOSES);
		}
		(void)close(c);
	}
	/* two at once, and the end of file behind them */
	c = ask(GET "\r\n" GET "\r\n");
	kit_half_close(c);
	(void)answers(c, 404, NULL, STAYS);
	(void)answers_head(c, 404, NULL, STAYS);
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
	asks = times(4096, GET "\r\n");
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
	peak_is_low();
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
		c = ask(kit_str("%s%s", connect_to(nobody), behind[i]));
		(void)answers(c, 502, "connection_refused", CLOSES);
		(void)close(c);
		c = ask(kit_str("CONNECT localhost:%u HTTP/1.1\r\n\r\n%s",
		    tport, behind[i]));
		(void)answers(c, 403, "", CLOSES);
		(void)close(c);
	}
	c = ask(kit_str("CONNECT 127.0.0.1:%u HTTP/1.1\r\n"
	    "Content-Length: 4\r\n\r\n", nobody));
	(void)answers(c, 502, "connection_refused", CLOSES);
	(void)close(c);
	kit_untouched(tl);
	settles();
	serve("-a", users, LOCAL);
	c = ask(kit_str("%s%s", connect_to(tport), behind[0]));
	(void)answers(c, 407, NULL, CLOSES);
	(void)close(c);
	kit_untouched(tl);
	settles();
}

static void
head_without_a_body(void **state)
{
	int c;

	(void)state;
	serve(LOCAL);
	c = ask("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_true(answers_head(c, 404, NULL, STAYS) > 0);
	kit_puts(c, GET "\r\n");
	(void)answers(c, 404, NULL, STAYS);
	kit_puts(c, "HEAD /x HTTP/1.0\r\n\r\n");
	assert_true(answers_head(c, 404, NULL, CLOSES) > 0);
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
	struct pair p = { c, kit_accept(tl) };

	kit_expect(p.c, OK);
	kit_expect(p.t, "early");
	farewell(p);
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
			(void)answers(c, status[r], NULL, STAYS);
		}
		for (i = 0; i < len; i++) {
			kit_send(c, requests[r] + i, 1);
			rests();
		}
		(void)answers(c, status[r], NULL, STAYS);
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
	struct kit_stream s[] = {
		{ sender, KIT_OUT, 10 * MB, 1, 1, 0 },
		{ quiet, KIT_IN, 10 * MB, 1, 1, 0 }
	};

	kit_puts(quiet, "last words");
	kit_half_close(quiet);
	kit_expect(sender, "last words");
	kit_eof(sender);
	kit_pump(s, 2);
	(void)close(quiet);
	(void)close(sender);
	settles();
}

static void
half_close_either_way(void **state)
{
	struct pair p;

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
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel();
	{
		struct kit_stream s[] = {
			{ p.c, KIT_OUT, 64 * MB, 1, 1, 0 },
			{ p.t, KIT_IN, 64 * MB, 1, 1, 0 },
			{ p.t, KIT_OUT, 64 * MB, 2, 1, 0 },
			{ p.c, KIT_IN, 64 * MB, 2, 1, 0 }
		};

		kit_pump(s, 4);
	}
	(void)close(p.c);
	(void)close(p.t);
	settles();
	peak_is_low();
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

	kit_stuff(&s[0], 200);
	if (s[0].done >= s[0].bytes / 2)
		kit_fail("%ju bytes went to a reader that does not read",
		    (uintmax_t)s[0].done);
	rests();
	kit_pump(s, 2);
	peak_is_low();
}

static void
stalled_reader(void **state)
{
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel();
	stalled(p.c, p.t);
	stalled(p.t, p.c);
	(void)close(p.c);
	(void)close(p.t);
	settles();
}

/* b sees that a resets, in each state of the tunnel */
static void
reset_passes(int swap)
{
	struct pair p;
	int a, b, i;

	for (i = 0; i < 3; i++) {
		p = tunnel();
		a = swap ? p.t : p.c;
		b = swap ? p.c : p.t;
		if (i == 1) {		/* b has ended its direction */
			kit_half_close(b);
			kit_eof(a);
		} else if (i == 2) {	/* a has */
			kit_half_close(a);
			kit_eof(b);
		}
		kit_reset(a);
		if (i == 2) {
			push_until_reset(b);
			continue;
		}
		kit_expect_reset(b);
		(void)close(b);
	}
	settles();
}

static void
reset_either_way(void **state)
{
	(void)state;
	serve(LOCAL);
	reset_passes(0);
	reset_passes(1);
	serves();
}


/* ---- clients and targets that vanish ------------------------------------- */

/* Before a byte, or in the head. */
static void
vanish_in_head(const char *bytes, enum way how)
{
	char buf[1024];
	int c = client();

	kit_puts(c, bytes);
	rests();
	vanish(c, how);
	if (how != WAY_HALF)
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
	enum way how;
	size_t i;

	for (i = 0; i + 1 < KIT_COUNT(halves); i++)
		for (how = WAY_CLOSE; how < WAYS; how++)
			vanish_in_head(halves[i], how);
	vanish_in_head(halves[i], WAY_CLOSE);
	vanish_in_head(halves[i], WAY_RESET);
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
		c[i] = ask(connect_to(port));
		if (i % 2)
			kit_puts(c[i], "early");
		rests();
	}
	assert_int_equal(fds(), px_idle.fds + 2 * (int)KIT_COUNT(c));
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
	flood.fd = ask(connect_to(port));
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
	half = ask(connect_to(port));
	kit_half_close(half);
	c = ask(connect_to(port));
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
vanish_idle(int a, int b, enum way how)
{
	vanish(a, how);
	if (how == WAY_RESET)
		kit_expect_reset(b);
	else
		kit_eof(b);
	if (how == WAY_HALF) {
		kit_puts(b, "still here");
		kit_expect(a, "still here");
	}
	(void)close(b);
	if (how == WAY_HALF)
		ends(a);
}

/* The sender goes while its bytes are on their way: closing, it has sent
 * them, and they arrive. */
static void
vanish_sending(int a, int b, enum way how)
{
	struct kit_stream s[] = {
		{ a, KIT_OUT, 100 * MB, 1, 0, 0 },
		{ b, KIT_IN, 0, 1, 1, 0 }
	};

	kit_stuff(&s[0], 50);
	vanish(a, how);
	s[1].bytes = s[0].done;
	if (how == WAY_RESET)
		kit_until_reset(b);
	else
		kit_pump(s + 1, 1);
	(void)close(b);
	if (how == WAY_HALF)
		ends(a);
}

/* The receiver goes while bytes are on their way to it: the sender is reset,
 * as what it sent is lost. */
static void
vanish_receiving(int a, int b, enum way how)
{
	struct kit_stream s[] = {
		{ b, KIT_OUT, 100 * MB, 1, 0, 0 },
		{ a, KIT_IN, 0, 1, 1, 0 }
	};

	kit_stuff(&s[0], 50);
	vanish(a, how);
	if (how != WAY_HALF) {
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

static void
vanish_open(void (*phase)(int, int, enum way))
{
	struct pair p;
	enum way how;

	for (how = WAY_CLOSE; how < WAYS; how++) {
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
	settles();
	serves();
	peak_is_low();
}


/* ---- targets that cannot be had, and time -------------------------------- */

static void
targets_that_refuse(void **state)
{
	unsigned n4 = kit_nobody(AF_INET);
	int c;

	(void)state;
	serve(LOCAL);
	c = ask(connect_to(n4));
	(void)answers(c, 502, "connection_refused", STAYS);
	if (has_ipv6()) {
		kit_puts(c, kit_str("CONNECT [::1]:%u HTTP/1.1\r\n\r\n",
		    kit_nobody(AF_INET6)));
		(void)answers(c, 502, "connection_refused", STAYS);
	}
	kit_puts(c, kit_str("CONNECT localhost:%u HTTP/1.1\r\n\r\n", n4));
	(void)answers(c, 502, "connection_refused", STAYS);
	kit_puts(c, "CONNECT something.invalid:80 HTTP/1.1\r\n\r\n");
	(void)answers(c, 502, "dns_error", STAYS);
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
	struct pair p;

	(void)state;
	serve("-w", "1", LOCAL);
	kit_blackhole(&port);
	p.c = ask(connect_to(port));
	behind = ask(kit_str("%s" GET "\r\n", connect_to(port)));
	later = ask(connect_to(port));
	rests();
	kit_puts(later, GET "\r\n");
	flood.fd = ask(connect_to(port));
	kit_stuff(&flood, 100);
	assert_true(flood.done < flood.bytes);
	rests();
	serves();
	(void)answers(p.c, 504, "connection_timeout", STAYS);
	if (kit_now() - start < 900)
		kit_fail("it has waited %d ms", (int)(kit_now() - start));
	(void)answers(behind, 504, "connection_timeout", CLOSES);
	(void)answers(later, 504, "connection_timeout", CLOSES);
	kit_reset(flood.fd);
	kit_puts(p.c, connect_to(tport));
	p.t = kit_accept(tl);
	kit_expect(p.c, OK);
	farewell(p);
	(void)close(behind);
	(void)close(later);
	settles();
	peak_is_low();
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
	struct pair p;

	(void)state;
	serve("-w", "2", LOCAL);
	p = tunnel();
	dripping = client();
	mute = client();
	half = ask("CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost:");
	empty = ask("\r\n");
	asked = ask(GET "\r\n");
	(void)answers(asked, 404, NULL, STAYS);
	serves();
	drip(dripping, "CONNECT 127.0.0.1:80 HTTP/1.1\r\n");
	if (kit_now() - start < 1900)
		kit_fail("they had %d ms", (int)(kit_now() - start));
	(void)answers(dripping, 408, NULL, CLOSES);
	(void)answers(mute, 408, NULL, CLOSES);
	(void)answers(half, 408, NULL, CLOSES);
	(void)answers(empty, 408, NULL, CLOSES);
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
	farewell(p);
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
	return kit_str("CONNECT 127.0.0.1:%u HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\n%s%s\r\n\r\n", tport, tport,
	    strchr(credentials, ':') ? "" : "Proxy-Authorization: ",
	    credentials);
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
	struct pair p;
	size_t i;

	(void)state;
	serve("-a", kit_file("users", 0600, users), LOCAL);
	p.c = client();
	for (i = 0; i < KIT_COUNT(pairs); i++) {
		kit_note("pair %s", pairs[i]);
		kit_puts(p.c, connect_with(basic(pairs[i])));
		(void)answers(p.c, 407, NULL, STAYS);
	}
	for (i = 0; i < KIT_COUNT(values); i++) {
		kit_note("value %s", values[i]);
		kit_puts(p.c, connect_with(values[i]));
		(void)answers(p.c, 407, NULL, STAYS);
	}
	/* nor does an unknown one learn what there is behind the proxy */
	kit_puts(p.c, connect_to(kit_nobody(AF_INET)));
	(void)answers(p.c, 407, NULL, STAYS);
	kit_untouched(tl);
	kit_puts(p.c, connect_with(basic("alice:secret")));
	p.t = kit_accept(tl);
	kit_expect(p.c, OK);
	farewell(p);
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
	struct pair p;
	size_t i, n;

	(void)state;
	serve("-a", kit_file("users", 0600, users), LOCAL);
	for (i = 0; i < KIT_COUNT(pairs) * KIT_COUNT(schemes); i++) {
		n = i / KIT_COUNT(pairs);
		kit_note("pair %s", pairs[i % KIT_COUNT(pairs)]);
		p.c = ask(connect_to(tport));
		(void)answers(p.c, 407, NULL, STAYS);
		kit_puts(p.c, connect_with(kit_str("%s%s", schemes[n],
		    base64(pairs[i % KIT_COUNT(pairs)]))));
		p.t = kit_accept(tl);
		kit_expect(p.c, OK);
		farewell(p);
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
	return kit_str("CONNECT " AFAR " HTTP/1.1\r\nHost: " AFAR "\r\n"
	    "%s\r\n", fields);
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
	assert_string_equal(must_have(head, "Host", ""), AFAR);
	if (auth != NULL)
		assert_string_equal(must_have(head, "Proxy-Authorization",
		    ""), auth);
	else if (field(head, "Proxy-Authorization") != NULL)
		kit_fail("whose credentials? <<%s>>", head);
	if (field(head, "X-Own") != NULL)
		kit_fail("the client's own field: <<%s>>", head);
}

static void
chain_carries(void **state)
{
	struct pair p;
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
	kit_expect(p.c, OK "hello");
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
		kit_puts(s[1].fd, "HTTP/1.1 200 OK\r\n\r\n");
		kit_expect(s[0].fd, OK);
		kit_pump(s, 2);
		(void)close(s[0].fd);
		(void)close(s[1].fd);
	}
	kit_untouched(lfd);
	settles();
	peak_is_low();
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
		{ "HTTP/1.1 200 OK\r\nVia: x", 502 },
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
		(void)answers(c, cases[i].status, "", STAYS);
		ends(h);
	}
	kit_untouched(lfd);
	/* the hop resets, and is not there any more */
	kit_puts(c, connect_afar(""));
	h = kit_accept(lfd);
	hop_is_asked(h, NULL);
	kit_reset(h);
	(void)answers(c, 502, "", STAYS);
	(void)close(lfd);
	kit_puts(c, connect_afar(""));
	(void)answers(c, 502, "connection_refused", STAYS);
	(void)close(c);
	settles();
}

/* The hop's 407 is answered with the hop's own credentials. */
static void
chain_with_credentials(void **state)
{
	struct pair p;
	int lfd;

	(void)state;
	lfd = chain("us:pw@", "30");
	p.c = ask(connect_afar("Proxy-Authorization: Basic YTpi\r\n"));
	p.t = kit_accept(lfd);
	hop_is_asked(p.t, NULL);
	kit_puts(p.t, "HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n"
	    "Proxy-Authenticate: Basic realm=\"hop\"\r\n\r\n");
	hop_is_asked(p.t, basic("us:pw"));
	kit_puts(p.t, "HTTP/1.1 200 OK\r\n\r\n");
	kit_expect(p.c, OK);
	farewell(p);
	/* and when they do not help the client is not asked for others */
	p.c = ask(connect_afar(""));
	p.t = kit_accept(lfd);
	hop_is_asked(p.t, NULL);
	kit_puts(p.t, "HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n"
	    "Proxy-Authenticate: Basic realm=\"hop\"\r\n\r\n");
	hop_is_asked(p.t, basic("us:pw"));
	kit_puts(p.t, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n"
	    "Proxy-Authenticate: Basic realm=\"hop\"\r\n\r\n");
	(void)answers(p.c, 502, "", STAYS);
	kit_untouched(lfd);
	ends(p.t);
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
	(void)answers(c, 504, "", STAYS);
	ends(h);
	(void)close(c);
	settles();

	/* who is asked for a client that resets is left at once */
	lfd = chain("", "30");
	c = ask(connect_afar(""));
	h = kit_accept(lfd);
	hop_is_asked(h, NULL);
	kit_reset(c);
	ends(h);
	settles();
}


/* ---- signals ------------------------------------------------------------- */

/* At once, with all its processes, without a trace, whatever is under way. */
static void
ends_by(int sig)
{
	int head, connecting, i;
	struct pair p;
	unsigned port;

	kit_note("signal %d", sig);
	/* whoever runs us in the background may have it ignored */
	(void)signal(sig, SIG_DFL);
	serve(LOCAL);
	kit_blackhole(&port);
	p = tunnel();
	head = ask("CONNECT 127");
	connecting = ask(connect_to(port));
	rests();
	assert_int_equal(kill(px->pid, sig), 0);
	kit_exits(px, -sig);
	ends(p.c);
	ends(p.t);
	ends(head);
	ends(connecting);
	for (i = 0; i < px_npids; i++)
		kit_gone(px_pids[i]);
	kit_err_is(px, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px_port));
	kit_eof(px->out);
	kit_done(px);
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

/* Which client a target's connection belongs to its first bytes tell. */
static int
identify(int t, int max)
{
	char id[5];
	int n;

	kit_recv(t, id, 4);
	id[4] = '\0';
	n = atoi(id);
	assert_in_range(n, 0, max - 1);
	return n;
}

static void
open_many(struct pair *p)
{
	int i, t;

	for (i = 0; i < TUNNELS; i++)
		p[i].c = ask(kit_str("%s%04d", connect_to(tport), i));
	for (i = 0; i < TUNNELS; i++) {
		t = kit_accept(tl);
		p[identify(t, TUNNELS)].t = t;
	}
	for (i = 0; i < TUNNELS; i++)
		kit_expect(p[i].c, OK);
}

static void
use_many(void)
{
	struct pair p[TUNNELS];
	struct kit_stream *s = calloc(4 * TUNNELS, sizeof(*s)), *q = s;
	unsigned i;

	assert_non_null(s);
	open_many(p);
	assert_int_equal(fds(), px_idle.fds + 2 * TUNNELS);
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
	peak_is_low();
}

/* With few descriptors: whoever finds no room waits for it, and meanwhile
 * the program neither spins nor drops what it has. */
static void
few_descriptors(void **state)
{
	struct pair p[100];
	int i, t;

	(void)state;
	px = kit_start(NULL, "sh", "-c", "ulimit -n 64; exec \"$@\"", "sh",
	    kit_binary(), "-l", LOCAL);
	serving();
	for (i = 0; i < (int)KIT_COUNT(p); i++) {
		p[i].c = ask(kit_str("%s%04d", connect_to(tport), i));
		p[i].t = -1;
	}
	rests();
	for (i = 0; i < (int)KIT_COUNT(p); i++) {
		while (p[i].t == -1) {
			t = kit_accept(tl);
			p[identify(t, (int)KIT_COUNT(p))].t = t;
		}
		kit_expect(p[i].c, OK);
		farewell(p[i]);
	}
	settles();
}

/* Everything that somebody can do to it, quickly. */
static void
ordeal(unsigned nobody)
{
	struct pair p;
	size_t i;
	int c;

	for (i = 0; i < KIT_COUNT(malformed); i++)
		is_malformed(&malformed[i], 0);
	vanish_in_heads();
	vanish_open(vanish_idle);
	for (i = 0; i < 500; i++) {
		c = ask(connect_to(nobody));
		(void)answers(c, 502, "connection_refused", STAYS);
		kit_puts(c, GET "\r\n");
		(void)answers(c, 404, NULL, STAYS);
		(void)close(c);
		p = tunnel();
		kit_reset(i % 2 ? p.c : p.t);
		kit_expect_reset(i % 2 ? p.t : p.c);
		(void)close(i % 2 ? p.t : p.c);
	}
	/* a label too long to be asked for: the resolver says so itself */
	c = ask(kit_str("CONNECT %s.invalid:80 HTTP/1.1\r\n\r\n",
	    times(64, "a")));
	(void)answers(c, 502, "dns_error", STAYS);
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
	kit_err_is(px, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px_port));
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
		KIT_TEST(signals),
		KIT_TEST(many_tunnels),
		KIT_TEST(few_descriptors),
		KIT_TEST(nothing_is_left)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
