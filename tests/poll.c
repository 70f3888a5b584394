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
 * The poll carrier's server side: `httptun -l` and a client that is scripted
 * request by request, over one connection or many, with all that ordinary
 * requests may suffer on their way.  Each answer is checked for what the
 * carrier promises of all of them.  The carrier's client, and the two older
 * protocols, never come here.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/resource.h>
#include <sys/socket.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kit.h"

#define NONE		((char *)NULL)
#define LOCAL		"127.0.0.1", "0", NONE
#define KB		((size_t)1 << 10)
#define MB		((size_t)1 << 20)
#define PEAK		8192	/* KiB that a process may ever take */
#define SLACK		64	/* KiB by which the allocator may err */
#define PUT_MAX		MB	/* bytes of a PUT's body */
#define FORM_MAX	(4 * KB)	/* and of a POST's */
#define SESSIONS	1000
#define QUIET		100	/* ms in which what must wait shows that */

/* The proxy under test, a connection to it, and a target for it. */
static struct kit_proxy	px;
static int		c;
static int		tl;
static unsigned		tport;

/* Field lines of each request. */
static const char	*also;


/* ---- requests ------------------------------------------------------------ */

static uint32_t
chance(void)
{
	static uint32_t x = 2463534242U;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

/* The path of a session that there was none of yet. */
static const char *
new_path(void)
{
	static uint32_t n;

	return kit_str("/%08" PRIx32 "%08" PRIx32 "%08" PRIx32 "%08" PRIx32,
	    ++n, chance(), chance(), chance());
}

static const char *
at(uint64_t offset)
{
	return kit_str("Tunnel-Offset: %ju\r\n", (uintmax_t)offset);
}

static const char *
at_end(uint64_t offset, uint64_t end)
{
	return kit_str("%sTunnel-End: %ju\r\n", at(offset), (uintmax_t)end);
}

static const char *
form_for(unsigned port)
{
	return kit_str("host=127.0.0.1&port=%u", port);
}

/* A request's head, with that of its body if length is no -1. */
static const char *
head_for(const char *method, const char *target, const char *fields,
    ssize_t length)
{
	const char *host = "gw.example", *size = "";

	if (strncmp(target, "http://", 7) == 0)
		host = kit_str("%.*s", (int)strcspn(target + 7, "/"),
		    target + 7);
	if (length >= 0)
		size = kit_str("Content-Length: %zd\r\n", length);
	return kit_str("%s %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", method,
	    target, host, also, fields, size);
}

/* Sends one, head and body at once; without a body where that is NULL. */
static void
request(int fd, const char *method, const char *target, const char *fields,
    const void *body, size_t len)
{
	static char buf[PUT_MAX + 8 * KB];
	const char *head = head_for(method, target, fields,
	    body != NULL ? (ssize_t)len : -1);
	size_t n = strlen(head);

	assert_true(n + len <= sizeof(buf));
	memcpy(buf, head, n);
	if (len > 0)
		memcpy(buf + n, body, len);
	kit_send(fd, buf, n + len);
}

static void
ask(int fd, const char *method, const char *target, const char *fields,
    const char *body)
{
	request(fd, method, target, fields, body,
	    body != NULL ? strlen(body) : 0);
}

static void
post(int fd, const char *path, unsigned port)
{
	ask(fd, "POST", path, at(0), form_for(port));
}

static void
put(int fd, const char *path, uint64_t offset, const char *text)
{
	ask(fd, "PUT", path, at(offset), text);
}

static void
put_end(int fd, const char *path, uint64_t offset, const char *text,
    uint64_t end)
{
	ask(fd, "PUT", path, at_end(offset, end), text);
}

static void
get(int fd, const char *path, uint64_t offset)
{
	ask(fd, "GET", path, at(offset), NULL);
}

static void
del(int fd, const char *path)
{
	ask(fd, "DELETE", path, at(0), NULL);
}

/* Bytes of a stream, at their place in it. */
static void
put_stream(int fd, const char *path, unsigned seed, uint64_t offset,
    size_t len)
{
	static char buf[PUT_MAX];

	assert_true(len <= sizeof(buf));
	kit_fill(buf, len, seed, offset);
	request(fd, "PUT", path, at(offset), buf, len);
}


/* ---- answers ------------------------------------------------------------- */

struct answer {
	int		 status;
	int		 closes;
	int64_t		 offset;	/* -1: it says none */
	int64_t		 end;		/* -1: it says none */
	size_t		 len;		/* of the body */
	char		 head[4096];
	unsigned char	 body[MB + 1];	/* a string */
};

/* A field of up to 18 digits; -1: there is none. */
static int64_t
number_field(const char *head, const char *name)
{
	const char *val = kit_one_field(head, name);
	size_t len;

	if (val == NULL)
		return -1;
	len = strlen(val);
	if (len < 1 || len > 18 || strspn(val, "0123456789") != len)
		kit_fail("%s is no number: <<%s>>", name, head);
	return strtoll(val, NULL, 10);
}

static void
must_say(const char *head, const char *name, const char *value)
{
	if (*kit_must_have(head, name, value) != '\0')
		kit_fail("%s is more than %s: <<%s>>", name, value, head);
}

/* What each answer's head must be like; its body's length. */
static void
judge(struct answer *a)
{
	const char *h = a->head, *val;
	int64_t len = number_field(h, "Content-Length");

	if (strncmp(h, "HTTP/1.1 ", 9) != 0 || !isdigit((unsigned char)h[9]))
		kit_fail("no answer: <<%s>>", h);
	a->status = atoi(h + 9);
	if (kit_field(h, "Transfer-Encoding") != NULL ||
	    kit_field(h, "Proxy-Authenticate") != NULL)
		kit_fail("a field that is not to be there: <<%s>>", h);
	if ((len == -1) != (a->status == 204))
		kit_fail("%s Content-Length: <<%s>>", len == -1 ? "no" : "a",
		    h);
	a->len = len == -1 ? 0 : (size_t)len;
	must_say(h, "Cache-Control", "no-store");
	must_say(h, "X-Accel-Buffering", "no");
	a->offset = number_field(h, "Tunnel-Offset");
	a->end = number_field(h, "Tunnel-End");
	if (a->end != -1 && a->end < a->offset + len)
		kit_fail("an end before the end: <<%s>>", h);
	val = kit_one_field(h, "Connection");
	a->closes = val != NULL && strcasecmp(val, "close") == 0;
}

/* The next answer's head, taken off if it is there whole; 0: not yet. */
static size_t
take_head(int fd, char *head, size_t size)
{
	ssize_t n = recv(fd, head, size - 1, MSG_PEEK);
	char *end;

	if (n == -1 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		kit_fail("no answer on %d: %s", fd, n == 0 ? "end of file" :
		    strerror(errno));
	head[n] = '\0';
	if ((end = strstr(head, "\r\n\r\n")) == NULL)
		return 0;
	end[4] = '\0';
	kit_recv(fd, head, strlen(head));
	return strlen(head);
}

static void
read_head(int fd, char *head, size_t size)
{
	int64_t end = kit_now() + kit_patience();

	do {
		kit_poll(fd, POLLIN, "an answer");
		if (kit_now() > end)
			kit_fail("half an answer on %d", fd);
	} while (take_head(fd, head, size) == 0);
}

/* The next answer, whatever it is. */
static const struct answer *
answer(int fd)
{
	static struct answer a;

	read_head(fd, a.head, sizeof(a.head));
	judge(&a);
	if (a.len >= sizeof(a.body))
		kit_fail("a body of %zu bytes", a.len);
	kit_recv(fd, a.body, a.len);
	a.body[a.len] = '\0';
	if (a.closes)
		kit_eof(fd);
	return &a;
}

/* The next answer, which has this status; to a native request all answers
 * say an offset. */
static const struct answer *
answers(int fd, int status)
{
	const struct answer *a = answer(fd);

	if (a->status != status)
		kit_fail("no %d: <<%s%s>>", status, a->head, a->body);
	if (a->offset == -1)
		kit_fail("no Tunnel-Offset: <<%s>>", a->head);
	return a;
}

static const struct answer *
answers_at(int fd, int status, uint64_t offset)
{
	const struct answer *a = answers(fd, status);

	if ((uint64_t)a->offset != offset)
		kit_fail("the offset is %jd and not %ju: <<%s>>",
		    (intmax_t)a->offset, (uintmax_t)offset, a->head);
	return a;
}

/* A GET's that has all there is at this offset, and says so or not. */
static void
answers_text(int fd, uint64_t offset, const char *text)
{
	const struct answer *a = answers_at(fd, 200, offset);

	if (a->len != strlen(text) || memcmp(a->body, text, a->len) != 0)
		kit_fail("<<%s>> and not <<%s>>", a->body, text);
}

/* A GET's that says that the target has ended, at this offset. */
static void
answers_end(int fd, uint64_t offset)
{
	const struct answer *a = answers_at(fd, 204, offset);

	if (a->end != (int64_t)offset)
		kit_fail("no end: <<%s>>", a->head);
}

/* A GET's without bytes and without an end. */
static void
answers_nothing(int fd, uint64_t offset)
{
	const struct answer *a = answers_at(fd, 204, offset);

	if (a->end != -1)
		kit_fail("an end: <<%s>>", a->head);
}

/* The status of an answer to what is no native request. */
static const char *
answers_plainly(int fd, int status)
{
	static char head[4096];
	const char *line = kit_str("HTTP/1.1 %d ", status);
	int64_t len;
	char body[4096];

	read_head(fd, head, sizeof(head));
	if (strncmp(head, line, strlen(line)) != 0)
		kit_fail("no %d: <<%s>>", status, head);
	len = number_field(head, "Content-Length");
	if (status != 204 && (len < 0 || len > (int64_t)sizeof(body)))
		kit_fail("a body of %jd bytes", (intmax_t)len);
	if (len > 0)
		kit_recv(fd, body, (size_t)len);
	return head;
}

/* Such an answer, after which the connection may be over. */
static void
refuses_plainly(int status, const char *method, const char *target,
    const char *fields, const char *body)
{
	int fd = kit_client(&px);

	ask(fd, method, target, fields, body);
	(void)answers_plainly(fd, status);
	(void)close(fd);
}


/* ---- the proxy, and its tunnels ------------------------------------------ */

/* A session: what was sent and received of it, and the target's end. */
struct tun {
	const char	*path;
	int		 t;
	uint64_t	 up, down;
};

static void
serve(const char *arg, ...)
{
	va_list ap;

	va_start(ap, arg);
	kit_proxy_is(&px, kit_server(NULL, arg, ap));
	va_end(ap);
	tl = kit_listen(AF_INET, &tport);
	also = "";
	c = kit_client(&px);
}

/* Another connection. */
static int
client(void)
{
	return kit_client(&px);
}

/* Nothing is left of whatever was asked, but this one's. */
static void
settles(void)
{
	(void)close(c);
	kit_proxy_settles(&px);
	c = client();
}

static void
rests(void)
{
	kit_proxy_rests(&px);
}

/* How what somebody does comes to the proxy: one thing after the other, at
 * its leisure, or all of it at once, however much that is. */
enum pace { SLOWLY, QUICKLY, AT_ONCE, PACES };

static void
signal_all(int sig)
{
	int i;

	for (i = 0; i < px.npids; i++)
		assert_int_equal(kill(px.pids[i], sig), 0);
}

static void
pace_begins(enum pace how)
{
	if (how == AT_ONCE) {
		rests();
		signal_all(SIGSTOP);
	}
}

static void
pace_steps(enum pace how)
{
	if (how == SLOWLY)
		rests();
}

static void
pace_ends(enum pace how)
{
	if (how == AT_ONCE)
		signal_all(SIGCONT);
}

/* The target's end of what was asked for on c. */
static int
opens(int lfd)
{
	struct pollfd p[2] = {
		{ .fd = lfd, .events = POLLIN }, { .fd = c, .events = POLLIN }
	};
	int t;

	/* a refusal shall be seen */
	(void)poll(p, 2, kit_patience());
	if (p[0].revents == 0)
		(void)answers_at(c, 200, 0);
	t = kit_accept(lfd);
	(void)answers_at(c, 200, 0);
	return t;
}

/* A session of this path, which nobody has, asked for with this form. */
static struct tun
tunnel_by(const char *path, int lfd, const char *form)
{
	struct tun u = { .path = path };

	ask(c, "POST", path, at(0), form);
	u.t = opens(lfd);
	return u;
}

static struct tun
tunnel(void)
{
	return tunnel_by(new_path(), tl, form_for(tport));
}

static void
puts_text(int fd, struct tun *u, const char *text)
{
	put(fd, u->path, u->up, text);
	u->up += strlen(text);
	(void)answers_at(fd, 200, u->up);
	kit_expect(u->t, text);
}

/* These bytes come next, by one GET or by some. */
static void
gets_text(int fd, struct tun *u, const char *text)
{
	const struct answer *a;

	while (*text != '\0') {
		get(fd, u->path, u->down);
		a = answers_at(fd, 200, u->down);
		if (a->len < 1 || a->len > strlen(text) ||
		    memcmp(a->body, text, a->len) != 0)
			kit_fail("<<%s>> and not <<%s>>", a->body, text);
		text += a->len;
		u->down += a->len;
	}
}

static void
carries(int fd, struct tun *u)
{
	puts_text(fd, u, "to the target");
	kit_puts(u->t, "to the client");
	gets_text(fd, u, "to the client");
}

/* The client's end is said, and comes. */
static void
up_ends(int fd, struct tun *u)
{
	put_end(fd, u->path, u->up, "", u->up);
	(void)answers_at(fd, 200, u->up);
	kit_eof(u->t);
}

static void
down_ends(int fd, struct tun *u)
{
	kit_half_close(u->t);
	get(fd, u->path, u->down);
	answers_end(fd, u->down);
}

static void
deleted(int fd, const char *path)
{
	del(fd, path);
	(void)answers_at(fd, 200, 0);
}

/* The end in order. */
static void
farewell(int fd, struct tun *u)
{
	carries(fd, u);
	up_ends(fd, u);
	down_ends(fd, u);
	deleted(fd, u->path);
	(void)close(u->t);
}

/* Given up. */
static void
broken_off(int fd, struct tun *u)
{
	deleted(fd, u->path);
	kit_until_reset(u->t);
	(void)close(u->t);
}

static void
serves(void)
{
	struct tun u = tunnel();

	farewell(c, &u);
}


/* ---- a session's life ---------------------------------------------------- */

/* All on one connection. */
static void
life(void **state)
{
	struct tun u;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	carries(c, &u);
	carries(c, &u);
	put(c, u.path, u.up, "");
	(void)answers_at(c, 200, u.up);
	up_ends(c, &u);
	kit_puts(u.t, "more");
	gets_text(c, &u, "more");
	down_ends(c, &u);
	get(c, u.path, u.down);
	answers_end(c, u.down);
	del(c, u.path);
	(void)answers_at(c, 200, 0);
	kit_eof(u.t);
	get(c, u.path, u.down);
	(void)answers_at(c, 404, 0);
	put(c, u.path, u.up, "late");
	(void)answers_at(c, 404, 0);
	del(c, u.path);
	(void)answers_at(c, 404, 0);
	settles();
	/* the id may be used again */
	u = tunnel_by(u.path, tl, form_for(tport));
	farewell(c, &u);
	settles();
}

/* An answer with bytes is there whole as soon as any of it is. */
static void
one_write(void **state)
{
	static char buf[8192];
	struct tun u;
	const char *head;
	size_t len;
	ssize_t n;
	int i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	for (i = 0; i < 100; i++) {
		get(c, u.path, u.down);
		rests();
		len = 1 + (size_t)i * 20;
		kit_send(u.t, kit_times(len, "x"), len);
		kit_poll(c, POLLIN, "an answer");
		n = recv(c, buf, sizeof(buf) - 1, MSG_PEEK);
		assert_true(n > 0);
		buf[n] = '\0';
		head = strstr(buf, "\r\n\r\n");
		if (head == NULL || strlen(head + 4) != len)
			kit_fail("%zd bytes come first: <<%s>>", n, buf);
		(void)answers_at(c, 200, u.down);
		u.down += len;
	}
	farewell(c, &u);
}

static void
many_requests_on_a_connection(void **state)
{
	struct tun u[5];
	int i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 5; i++)
		u[i] = tunnel();
	for (i = 0; i < 500; i++)
		carries(c, &u[chance() % 5]);
	/* and what is no session's */
	ask(c, "GET", "/", "", NULL);
	(void)answers_plainly(c, 404);
	for (i = 0; i < 5; i++)
		farewell(c, &u[i]);
	settles();
}

/* Each request on a connection of its own, left open or closed at once. */
static void
many_connections(void **state)
{
	struct tun u;
	int i, fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	for (i = 0; i < 100; i++) {
		fd = client();
		put(fd, u.path, u.up++, "+");
		(void)answers_at(fd, 200, u.up);
		kit_expect(u.t, "+");
		if (i % 2)
			(void)close(fd);
		kit_puts(u.t, "-");
		fd = client();
		get(fd, u.path, u.down);
		answers_text(fd, u.down++, "-");
		if (i % 2)
			(void)close(fd);
	}
	farewell(c, &u);
}

/* Requests that are sent without waiting for an answer get theirs in order. */
static void
pipelined(void **state)
{
	const char *all = "";
	struct tun u = { .path = NULL };
	int i;

	(void)state;
	serve(LOCAL);
	u.path = new_path();
	all = kit_str("%s%s", head_for("POST", u.path, at(0),
	    (ssize_t)strlen(form_for(tport))), form_for(tport));
	for (i = 0; i < 50; i++)
		all = kit_str("%s%sabc%d", all, head_for("PUT", u.path,
		    at(4 * (unsigned)i), 4), i % 10);
	all = kit_str("%s%s%s%s%s", all, head_for("PUT", u.path,
	    at_end(200, 200), 0), head_for("GET", u.path, at(0), -1),
	    head_for("GET", u.path, at(4), -1),
	    head_for("DELETE", u.path, at(0), -1));
	kit_puts(c, all);
	u.t = kit_accept(tl);
	(void)answers_at(c, 200, 0);
	for (i = 0; i < 50; i++) {
		(void)answers_at(c, 200, 4 * (unsigned)i + 4);
		kit_expect(u.t, kit_str("abc%d", i % 10));
	}
	(void)answers_at(c, 200, 200);
	kit_eof(u.t);
	kit_silent(c, 0);
	kit_puts(u.t, "down");
	answers_text(c, 0, "down");
	kit_silent(c, 0);
	kit_half_close(u.t);
	answers_end(c, 4);
	(void)answers_at(c, 200, 0);
	kit_eof(u.t);
	settles();
}

/* A session's whole life. */
static const char *
script(const char *path)
{
	return kit_str("%s%s%sup%s%s", head_for("POST", path, at(0),
	    (ssize_t)strlen(form_for(tport))), form_for(tport),
	    head_for("PUT", path, at_end(0, 2), 2),
	    head_for("GET", path, at(0), -1),
	    head_for("DELETE", path, at(0), -1));
}

/* It is cut in two writes at each of its bytes. */
static void
at_every_cut(void **state)
{
	const char *all;
	size_t cut, len;
	int t, fd;

	(void)state;
	serve(LOCAL);
	all = script(new_path());
	len = strlen(all);
	for (cut = 1; cut < len; cut++) {
		fd = client();
		kit_send(fd, all, cut);
		rests();
		kit_puts(fd, all + cut);
		t = kit_accept(tl);
		kit_expect(t, "up");
		kit_eof(t);
		kit_puts(t, "down");
		(void)answers_at(fd, 200, 0);
		(void)answers_at(fd, 200, 2);
		answers_text(fd, 0, "down");
		(void)answers_at(fd, 200, 0);
		(void)kit_until_end(t);
		(void)close(t);
		(void)close(fd);
	}
	settles();
}

/* It goes no further. */
static void
vanishing_in_the_script(void **state)
{
	const char *all, *path = new_path();
	const struct answer *a;
	enum kit_way how;
	enum pace pace;
	size_t cut, len;
	int fd;

	(void)state;
	serve(LOCAL);
	all = script(path);
	len = strlen(all);
	for (cut = 1; cut < len; cut += 3) {
		how = (enum kit_way)(chance() % KIT_WAYS);
		pace = (enum pace)(chance() % PACES);
		kit_note("way %d, pace %d at %zu", (int)how, (int)pace, cut);
		pace_begins(pace);
		fd = client();
		kit_send(fd, all, cut);
		pace_steps(pace);
		kit_vanish(fd, how);
		pace_ends(pace);
		rests();
		del(c, path);
		a = answer(c);
		if (a->status != 200 && a->status != 404)
			kit_fail("a %d", a->status);
		if (how == KIT_WAY_HALF) {
			(void)kit_until_end(fd);
			(void)close(fd);
		}
	}
	settles();		/* though no target has gone */
}

/* A session is reached under any prefix. */
static void
prefixes(void **state)
{
	static const char *const p[] = {
		"", "/a", "/some/longer/prefix", "/a.b/~c/%20"
	};
	struct tun u;
	const char *id;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(p); i++) {
		id = new_path();
		post(c, kit_str("%s%s", p[i], id), tport);
		u.t = kit_accept(tl);
		(void)answers_at(c, 200, 0);
		put(c, kit_str("%s%s", p[(i + 1) % 4], id), 0, "up");
		(void)answers_at(c, 200, 2);
		kit_expect(u.t, "up");
		kit_puts(u.t, "down");
		get(c, kit_str("%s%s", p[(i + 2) % 4], id), 0);
		answers_text(c, 0, "down");
		post(c, kit_str("%s%s", p[(i + 1) % 4], id), tport);
		(void)answers(c, 409);
		del(c, kit_str("%s%s", p[(i + 3) % 4], id));
		(void)answers_at(c, 200, 0);
		kit_until_reset(u.t);
	}
	settles();
}

static void
good_ids(void **state)
{
	static const char *const ids[] = {
		"/0123456789abcdef0123456789abcdef",
		"/0123456789ABCDEF0123456789ABCDEF",
		"/0123456789abcDEF0123456789abcdef",
		"/01234567-89ab-cdef-0123-456789abcdef",
		"/01234567-89AB-CDEF-0123-456789ABCDEF",
		"/00000000-0000-0000-0000-000000000000"
	};
	struct tun u[KIT_COUNT(ids)];
	size_t i;

	(void)state;
	serve(LOCAL);
	/* compared as bytes: each is another one */
	for (i = 0; i < KIT_COUNT(ids); i++) {
		get(c, ids[i], 0);
		(void)answers_at(c, 404, 0);
		u[i] = tunnel_by(ids[i], tl, form_for(tport));
	}
	for (i = 0; i < KIT_COUNT(ids); i++)
		farewell(c, &u[i]);
	settles();
}

static void
bad_ids(void **state)
{
	static const char id[] = "/0123456789abcdef0123456789abcdef";
	static const char *const bad[] = {
		"/", "/tunnel", "/0123456789abcdef0123456789abcde",
		"/0123456789abcdef0123456789abcdef0",
		"/0123456789abcdef0123456789abcdeg",
		"/0123456789abcdef0123456789abcde.",
		"/.123456789abcdef0123456789abcdef",
		"/0123456789abcdef0123456789abcdef.",
		"/0123456789abcdef0123456789abcdef/",
		"/0123456789abcdef0123456789abcdef/.",
		"/0123456789abcdef0123456789abcdef/x",
		"/0123456789abcdef0123456789abcdef?",
		"/0123456789abcdef0123456789abcdef?x=y",
		"/?/0123456789abcdef0123456789abcdef",
		"/%30123456789abcdef0123456789abcdef",
		"/x0123456789abcdef0123456789abcdef",
		"/01234567-89ab-cdef-0123-456789abcde",
		"/01234567-89ab-cdef-0123-456789abcdef0",
		"/0123456789-ab-cdef-0123-456789abcdef",
		"/01234567-89ab-cdef-0123456789abcdef",
		"/01234567089ab0cdef001230456789abcdef",
		"/01234567-89ab-cdef-0123-456789abcdeg",
		"/{01234567-89ab-cdef-0123-456789abcdef}",
		"/--------------------------------"
	};
	struct tun u;
	size_t i;

	(void)state;
	serve(LOCAL);
	u = tunnel_by(id, tl, form_for(tport));
	for (i = 0; i < KIT_COUNT(bad); i++) {
		kit_note("id %s", bad[i]);
		refuses_plainly(404, "POST", bad[i], at(0), form_for(tport));
		refuses_plainly(404, "PUT", bad[i], at(0), "x");
		refuses_plainly(404, "GET", bad[i], at(0), NULL);
		refuses_plainly(404, "DELETE", bad[i], at(0), NULL);
	}
	kit_untouched(tl);
	farewell(c, &u);
	settles();
}

static void
other_methods(void **state)
{
	static const char *const methods[] = {
		"post", "Put", "PATCH", "OPTIONS", "TRACE", "GETT"
	};
	struct tun u;
	size_t i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	for (i = 0; i < KIT_COUNT(methods); i++)
		refuses_plainly(404, methods[i], u.path, at(0), "");
	farewell(c, &u);
	settles();
}

/* A client that the connection is closed to behind the answer. */
struct closing {
	const char	*version, *fields;
	const char	*path;
};

static int
asks_and_closes(const struct closing *k, const char *method, const char *body)
{
	int fd = client();

	kit_puts(fd, kit_str("%s %s HTTP/%s\r\nHost: h\r\n%s"
	    "Content-Length: %zu\r\nTunnel-Offset: 0\r\n\r\n%s", method,
	    k->path, k->version, k->fields, strlen(body), body));
	return fd;
}

/* The body, unless this is NULL. */
static void
closed_behind(int fd, int status, const char *text)
{
	const struct answer *a = answers(fd, status);

	if (text != NULL)
		assert_string_equal(a->body, text);
	if (!a->closes)
		kit_eof(fd);
	(void)close(fd);
}

static void
old_and_closing_clients(void **state)
{
	struct closing cases[] = {
		{ "1.0", "", NULL }, { "1.0", "Connection: close\r\n", NULL },
		{ "1.1", "Connection: close\r\n", NULL }
	};
	struct closing *k;
	size_t i;
	int t, fd;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		k = &cases[i];
		k->path = new_path();
		fd = asks_and_closes(k, "POST", form_for(tport));
		t = kit_accept(tl);
		closed_behind(fd, 200, NULL);
		closed_behind(asks_and_closes(k, "PUT", "up"), 200, NULL);
		kit_expect(t, "up");
		fd = asks_and_closes(k, "GET", "");
		kit_puts(t, "down");
		closed_behind(fd, 200, "down");
		closed_behind(asks_and_closes(k, "GET", ""), 200, "down");
		closed_behind(asks_and_closes(k, "DELETE", ""), 200, NULL);
		kit_until_reset(t);
	}
	settles();
}

/* A web page that posts to its visitor's machine. */
static void
origins(void **state)
{
	static const char *const o[] = {
		"Origin: http://evil.example\r\n", "Origin: null\r\n",
		"origin: http://gw.example\r\n", "ORIGIN:\r\n"
	};
	struct tun u;
	const char *path;
	size_t i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	path = new_path();
	for (i = 0; i < KIT_COUNT(o); i++) {
		also = o[i];
		post(c, path, tport);
		(void)answers(c, 403);
		put(c, u.path, 0, "x");
		(void)answers(c, 403);
		get(c, u.path, 0);
		(void)answers(c, 403);
		del(c, u.path);
		(void)answers(c, 403);
		/* neither by one of the older protocols */
		refuses_plainly(403, "POST", path, "", form_for(tport));
		refuses_plainly(403, "POST", path, "",
		    kit_str("127.0.0.1:%u", tport));
	}
	also = "";
	rests();
	kit_untouched(tl);
	kit_silent(u.t, 0);
	farewell(c, &u);
	settles();
}


/* ---- offsets ------------------------------------------------------------- */

/* What comes twice is taken once. */
static void
put_again(void **state)
{
	struct tun u;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	put(c, u.path, 0, "abcdef");
	(void)answers_at(c, 200, 6);
	put(c, u.path, 0, "abcdef");
	(void)answers_at(c, 200, 6);
	put(c, u.path, 3, "defghi");
	(void)answers_at(c, 200, 9);
	put(c, u.path, 4, "ef");
	(void)answers_at(c, 200, 9);
	put(c, u.path, 8, "ij");
	(void)answers_at(c, 200, 10);
	put(c, u.path, 0, "");
	(void)answers_at(c, 200, 10);
	put(c, u.path, 0, "abcdefghijkl");
	(void)answers_at(c, 200, 12);
	kit_expect(u.t, "abcdefghijkl");
	rests();
	kit_silent(u.t, 0);
	u.up = 12;
	farewell(c, &u);
	settles();
}

/* A client that has lost count finds it again. */
static void
put_ahead(void **state)
{
	struct tun u;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	puts_text(c, &u, "abc");
	put(c, u.path, 4, "efg");
	(void)answers_at(c, 409, 3);
	put(c, u.path, 999999999999999999U, "");
	(void)answers_at(c, 409, 3);
	put(c, u.path, 4, "");
	(void)answers_at(c, 409, 3);
	put_end(c, u.path, 4, "efg", 7);
	(void)answers_at(c, 409, 3);
	put_stream(c, u.path, 1, 100, 200 * KB);
	if (answers_at(c, 409, 3)->closes) {	/* a long body is not read */
		(void)close(c);
		c = client();
	}
	rests();
	kit_silent(u.t, 0);
	farewell(c, &u);
	settles();
}

/* Until it says that it has them, the client may ask again for any bytes. */
static void
get_again(void **state)
{
	struct tun u;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	kit_puts(u.t, "0123456789");
	rests();
	get(c, u.path, 0);
	answers_text(c, 0, "0123456789");
	get(c, u.path, 0);
	answers_text(c, 0, "0123456789");
	kit_puts(u.t, "abc");
	rests();
	get(c, u.path, 0);
	answers_text(c, 0, "0123456789abc");
	get(c, u.path, 4);
	answers_text(c, 4, "456789abc");
	get(c, u.path, 4);
	answers_text(c, 4, "456789abc");
	/* those before the 4th are forgotten */
	get(c, u.path, 3);
	(void)answers_at(c, 409, 4);
	get(c, u.path, 0);
	(void)answers_at(c, 409, 4);
	get(c, u.path, 12);
	answers_text(c, 12, "c");
	get(c, u.path, 11);
	(void)answers_at(c, 409, 12);
	kit_half_close(u.t);
	u.down = 13;
	get(c, u.path, 13);
	answers_end(c, 13);
	/* the end is known, but not what came before */
	get(c, u.path, 12);
	(void)answers_at(c, 409, 13);
	get(c, u.path, 13);
	answers_end(c, 13);
	broken_off(c, &u);
	settles();
}

/* A GET that cannot be answered does not disturb the one that waits. */
static void
get_ahead(void **state)
{
	static const uint64_t wrong[] = { 11, 100, 999999999999999999U, 3, 0 };
	struct tun u;
	size_t i;
	int fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	get(c, u.path, 1);
	(void)answers_at(c, 409, 0);
	kit_puts(u.t, "0123456789");
	gets_text(c, &u, "0123456789");
	get(c, u.path, 4);
	answers_text(c, 4, "456789");
	fd = client();
	get(fd, u.path, 10);
	rests();
	for (i = 0; i < KIT_COUNT(wrong); i++) {
		kit_note("offset %ju", (uintmax_t)wrong[i]);
		get(c, u.path, wrong[i]);
		(void)answers_at(c, 409, 10);	/* what waits has the rest */
	}
	refuses_plainly(400, "GET", u.path, "", NULL);
	kit_silent(fd, QUIET);
	kit_puts(u.t, "abc");
	answers_text(fd, 10, "abc");
	u.down = 13;
	(void)close(fd);
	farewell(c, &u);
	settles();
}

static void
get_waits(void **state)
{
	struct tun u;
	int fd = -1, i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	for (i = 0; i < 3; i++) {
		get(c, u.path, u.down);
		kit_silent(c, QUIET);
		puts_text(fd == -1 ? (fd = client()) : fd, &u, "meanwhile");
		kit_silent(c, 0);
		kit_puts(u.t, "data");
		answers_text(c, u.down, "data");
		u.down += 4;
	}
	get(c, u.path, u.down);
	rests();
	kit_half_close(u.t);
	answers_end(c, u.down);
	up_ends(fd, &u);
	deleted(fd, u.path);
	(void)close(fd);
	settles();
}

static void
second_get(void **state)
{
	struct tun u;
	int a, b;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	kit_puts(u.t, "0123456789");
	gets_text(c, &u, "0123456789");
	a = client();
	b = client();
	get(a, u.path, 10);
	rests();
	get(b, u.path, 10);
	answers_nothing(a, 10);
	kit_silent(b, QUIET);
	get(a, u.path, 10);
	answers_nothing(b, 10);
	kit_puts(u.t, "abc");
	answers_text(a, 10, "abc");
	/* what it has is forgotten, as its offset said */
	get(a, u.path, 13);
	rests();
	get(b, u.path, 10);
	(void)answers_at(b, 409, 13);
	kit_silent(a, 0);
	get(c, u.path, 13);
	answers_nothing(a, 13);
	kit_puts(u.t, "def");
	answers_text(c, 13, "def");
	u.down = 16;
	farewell(c, &u);
	(void)close(a);
	(void)close(b);
	settles();
}

/* A GET whose client has gone takes nothing with it. */
static void
get_that_is_given_up(void **state)
{
	enum kit_way how;
	enum pace pace;
	struct tun u;
	int fd, i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	for (i = 0; i < KIT_WAYS * PACES; i++) {
		how = (enum kit_way)(i % KIT_WAYS);
		pace = (enum pace)(i / KIT_WAYS);
		kit_note("way %d, pace %d", (int)how, (int)pace);
		pace_begins(pace);
		fd = client();
		get(fd, u.path, u.down);
		pace_steps(pace);
		kit_vanish(fd, how);
		pace_ends(pace);
		rests();
		kit_puts(u.t, "data");
		gets_text(c, &u, "data");
		if (how == KIT_WAY_HALF)
			(void)close(fd);
		/* its answer is lost */
		fd = client();
		kit_puts(u.t, "lost");
		rests();
		get(fd, u.path, u.down);
		kit_poll(fd, POLLIN, "an answer");
		kit_vanish(fd, how);
		gets_text(c, &u, "lost");
		if (how == KIT_WAY_HALF)
			(void)close(fd);
	}
	farewell(c, &u);
	settles();
}


/* ---- ends ---------------------------------------------------------------- */

/* It is said with the last bytes, behind them, or before. */
static void
client_ends(void **state)
{
	struct tun u;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	put_end(c, u.path, 0, "abc", 3);
	(void)answers_at(c, 200, 3);
	kit_expect(u.t, "abc");
	kit_eof(u.t);
	put_end(c, u.path, 0, "abc", 3);	/* once more */
	(void)answers_at(c, 200, 3);
	put_end(c, u.path, 3, "", 3);
	(void)answers_at(c, 200, 3);
	put(c, u.path, 1, "bc");
	(void)answers_at(c, 200, 3);
	kit_puts(u.t, "answer");
	gets_text(c, &u, "answer");
	down_ends(c, &u);
	deleted(c, u.path);

	u = tunnel();
	put_end(c, u.path, 0, "abc", 10);
	(void)answers_at(c, 200, 3);
	kit_expect(u.t, "abc");
	rests();
	kit_silent(u.t, 0);
	put(c, u.path, 3, "defg");
	(void)answers_at(c, 200, 7);
	kit_expect(u.t, "defg");
	rests();
	kit_silent(u.t, 0);
	put_end(c, u.path, 6, "ghij", 10);
	(void)answers_at(c, 200, 10);
	kit_expect(u.t, "hij");
	kit_eof(u.t);
	down_ends(c, &u);
	deleted(c, u.path);

	u = tunnel();
	put_end(c, u.path, 0, "", 0);
	(void)answers_at(c, 200, 0);
	kit_eof(u.t);
	down_ends(c, &u);
	deleted(c, u.path);
	settles();
}

/* Without effect, all of them. */
static void
wrong_ends(void **state)
{
	static const struct {
		uint64_t	 offset, end;	/* end 0: none is said */
		const char	*text;
	} cases[] = {
		{ 4, 9, "" }, { 4, 11, "" }, { 4, 9, "efg" }, { 0, 9, "abcd" },
		{ 4, 999999999999999999U, "e" },
		{ 4, 0, "efghijk" }, { 10, 0, "k" }, { 0, 0, "abcdefghijk" },
		{ 4, 11, "efghijk" }
	};
	struct tun u;
	size_t i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	puts_text(c, &u, "ab");
	/* before what is there already */
	put_end(c, u.path, 0, "", 1);
	(void)answers_at(c, 409, 2);
	put_end(c, u.path, 2, "cd", 10);
	(void)answers_at(c, 200, 4);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		if (cases[i].end == 0)
			put(c, u.path, cases[i].offset, cases[i].text);
		else
			put_end(c, u.path, cases[i].offset, cases[i].text,
			    cases[i].end);
		(void)answers_at(c, 409, 4);
	}
	put_end(c, u.path, 4, "efghij", 10);
	(void)answers_at(c, 200, 10);
	put(c, u.path, 10, "k");
	(void)answers_at(c, 409, 10);
	put_end(c, u.path, 10, "k", 11);
	(void)answers_at(c, 409, 10);
	put_end(c, u.path, 10, "", 10);
	(void)answers_at(c, 200, 10);
	kit_expect(u.t, "cdefghij");
	kit_eof(u.t);
	kit_puts(u.t, "down");
	gets_text(c, &u, "down");
	down_ends(c, &u);
	deleted(c, u.path);
	settles();
}

/* The server says it with the last bytes, or with a 204. */
static void
target_ends(void **state)
{
	const struct answer *a;
	struct tun u;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	kit_puts(u.t, "down");
	kit_half_close(u.t);
	rests();
	get(c, u.path, 0);
	a = answers_at(c, 200, 0);
	assert_string_equal(a->body, "down");
	assert_int_equal(a->end, 4);
	get(c, u.path, 1);
	a = answers_at(c, 200, 1);
	assert_string_equal(a->body, "own");
	assert_int_equal(a->end, 4);
	get(c, u.path, 4);
	answers_end(c, 4);
	get(c, u.path, 4);
	answers_end(c, 4);
	get(c, u.path, 5);
	(void)answers_at(c, 409, 4);
	puts_text(c, &u, "still");
	up_ends(c, &u);
	deleted(c, u.path);

	/* without a byte; somebody waits */
	u = tunnel();
	get(c, u.path, 0);
	rests();
	kit_half_close(u.t);
	answers_end(c, 0);
	up_ends(c, &u);
	deleted(c, u.path);

	/* more than an answer may hold */
	u = tunnel();
	{
		struct kit_stream s = { u.t, KIT_OUT, 200 * KB, 1, 1, 0 };

		kit_pump(&s, 1);
	}
	rests();
	while (u.down < 200 * KB) {
		get(c, u.path, u.down);
		a = answers_at(c, 200, u.down);
		kit_check(a->body, a->len, 1, u.down);
		u.down += a->len;
		if (u.down == 200 * KB)
			assert_int_equal(a->end, 200 * KB);
	}
	get(c, u.path, u.down);
	answers_end(c, u.down);
	up_ends(c, &u);
	deleted(c, u.path);
	settles();
}

/* Each side's end leaves the other direction as it was. */
static void
half_close(void **state)
{
	struct tun u;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	up_ends(c, &u);
	kit_puts(u.t, "one");
	gets_text(c, &u, "one");
	kit_puts(u.t, "two");
	gets_text(c, &u, "two");
	down_ends(c, &u);
	deleted(c, u.path);
	u = tunnel();
	down_ends(c, &u);
	puts_text(c, &u, "one");
	puts_text(c, &u, "two");
	up_ends(c, &u);
	deleted(c, u.path);
	/* both at once */
	u = tunnel();
	kit_half_close(u.t);
	put_end(c, u.path, 0, "bye", 3);
	(void)answers_at(c, 200, 3);
	kit_expect(u.t, "bye");
	kit_eof(u.t);
	get(c, u.path, 0);
	answers_end(c, 0);
	deleted(c, u.path);
	settles();
}


/* ---- PUTs that are cut off ----------------------------------------------- */

#define PIECE	1000

/* How much of the stream the server has, asked from what it has for sure. */
static uint64_t
where(int fd, const struct tun *u)
{
	const struct answer *a;

	put(fd, u->path, u->up, "");
	a = answers(fd, 200);
	if ((uint64_t)a->offset < u->up)
		kit_fail("it has %jd bytes, and had %ju", (intmax_t)a->offset,
		    (uintmax_t)u->up);
	return (uint64_t)a->offset;
}

/* The head of a PUT of stream 1 up to there, and that many bytes of it. */
static int
half_put(const struct tun *u, uint64_t from, uint64_t to, size_t n)
{
	char buf[65536];
	int fd = client();

	assert_true(n <= sizeof(buf));
	kit_fill(buf, n, 1, from);
	kit_puts(fd, head_for("PUT", u->path, at(from),
	    (ssize_t)(to - from)));
	kit_send(fd, buf, n);
	return fd;
}

static void
target_has(struct tun *u, uint64_t upto)
{
	char buf[65536];
	size_t n = (size_t)(upto - u->up);

	assert_true(n <= sizeof(buf));
	kit_recv(u->t, buf, n);
	kit_check(buf, n, 1, u->up);
	u->up = upto;
}

/* Of a PUT so many bytes come; whatever they are taken for, the next PUT goes
 * on from there. */
static void
cut_at(struct tun *u, size_t n, enum kit_way how, enum pace pace)
{
	uint64_t has;
	int fd;

	kit_note("cut at %zu, way %d, pace %d", n, (int)how, (int)pace);
	pace_begins(pace);
	fd = half_put(u, u->up, u->up + PIECE, n);
	pace_steps(pace);
	kit_vanish(fd, how);
	pace_ends(pace);
	has = where(c, u);
	if (has > u->up + n)
		kit_fail("it has %ju bytes of %ju", (uintmax_t)has,
		    (uintmax_t)(u->up + n));
	put_stream(c, u->path, 1, has, (size_t)(u->up + PIECE - has));
	(void)answers_at(c, 200, u->up + PIECE);
	target_has(u, u->up + PIECE);
	rests();
	kit_silent(u->t, 0);
	if (how == KIT_WAY_HALF) {
		(void)kit_until_end(fd);
		(void)close(fd);
	}
}

static void
put_cut(void **state)
{
	static const size_t cuts[] = { 0, 1, 500, 999 };
	enum kit_way how;
	enum pace pace;
	struct tun u;
	size_t i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	for (i = 0; i < KIT_COUNT(cuts); i++)
		for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++)
			for (pace = SLOWLY; pace < PACES; pace++)
				cut_at(&u, cuts[i], how, pace);
	farewell(c, &u);
	settles();
}

/* A repeat of what is there already, which ends too soon: it stops nobody,
 * and nothing is left of it. */
static void
repeat_cut(void **state)
{
	static const size_t cuts[] = { 0, 1, 999 };
	enum kit_way how;
	struct tun u;
	int fd, i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	put_stream(c, u.path, 1, 0, PIECE);
	(void)answers_at(c, 200, PIECE);
	target_has(&u, PIECE);
	for (i = 0; i < (int)KIT_COUNT(cuts) * KIT_WAYS * PACES; i++) {
		how = (enum kit_way)(i % KIT_WAYS);
		kit_note("way %d, %d", (int)how, i);
		pace_begins((enum pace)(i / KIT_WAYS % PACES));
		fd = half_put(&u, 0, PIECE, cuts[i / KIT_WAYS / PACES]);
		pace_steps((enum pace)(i / KIT_WAYS % PACES));
		kit_vanish(fd, how);
		pace_ends((enum pace)(i / KIT_WAYS % PACES));
		assert_int_equal(where(c, &u), PIECE);
		if (how != KIT_WAY_HALF)
			continue;
		(void)kit_until_end(fd);
		(void)close(fd);
	}
	farewell(c, &u);
	settles();
}

/* Half a head behind a PUT: how much was taken is not said, least of all 0. */
static void
late_head(void **state)
{
	const struct answer *a;
	struct tun u;

	(void)state;
	serve("-w", "1", LOCAL);
	u = tunnel();
	put(c, u.path, 0, "hello");
	(void)answers_at(c, 200, 5);
	kit_puts(c, kit_str("PUT %s HTTP/1.1\r\n", u.path));
	a = answer(c);
	assert_int_equal(a->status, 408);
	assert_int_equal(a->offset, -1);
	(void)close(c);
	c = client();
	assert_int_equal(where(c, &u), 5);
	deleted(c, u.path);
	settles();
}

/* One that has announced the end, too. */
static void
put_cut_before_its_end(void **state)
{
	struct tun u;
	int fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	fd = client();
	kit_puts(fd, kit_str("%sabc", head_for("PUT", u.path, at_end(0, 6),
	    6)));
	rests();
	kit_reset(fd);
	rests();
	put_end(c, u.path, 0, "abcdef", 6);
	(void)answers_at(c, 200, 6);
	kit_expect(u.t, "abcdef");
	kit_eof(u.t);
	down_ends(c, &u);
	deleted(c, u.path);
	settles();
}

/* One goes on while another one has the same bytes. */
static void
put_beside_an_older(void **state)
{
	char buf[PIECE];
	struct tun u;
	uint64_t has;
	int fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	/* the newer one has all of it */
	fd = half_put(&u, 0, PIECE, 300);
	rests();
	put_stream(c, u.path, 1, 0, PIECE);
	(void)answers_at(c, 200, PIECE);
	kit_silent(fd, 0);
	kit_fill(buf, 700, 1, 300);
	kit_send(fd, buf, 700);
	(void)answers_at(fd, 200, PIECE);
	target_has(&u, PIECE);
	(void)close(fd);
	/* it has some: the older one's rest is new again */
	fd = half_put(&u, PIECE, 2 * PIECE, 300);
	rests();
	has = where(c, &u);
	put_stream(c, u.path, 1, has, (size_t)(PIECE + 600 - has));
	(void)answers_at(c, 200, PIECE + 600);
	kit_fill(buf, 700, 1, PIECE + 300);
	kit_send(fd, buf, 700);
	(void)answers_at(fd, 200, 2 * PIECE);
	target_has(&u, 2 * PIECE);
	(void)close(fd);
	/* the older one goes on beyond what the newer one was cut off at */
	fd = half_put(&u, 2 * PIECE, 3 * PIECE, 300);
	rests();
	kit_reset(half_put(&u, where(c, &u), 3 * PIECE, 400));
	rests();
	kit_fill(buf, 700, 1, 2 * PIECE + 300);
	kit_send(fd, buf, 700);
	(void)answers_at(fd, 200, 3 * PIECE);
	target_has(&u, 3 * PIECE);
	(void)close(fd);
	rests();
	kit_silent(u.t, 0);
	farewell(c, &u);
	settles();
}

/* The older ones have their answers also where the newer one has the end. */
static void
put_beside_the_end(void **state)
{
	char buf[PIECE];
	struct tun u;
	int fd[2], i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	for (i = 0; i < 2; i++) {
		fd[i] = half_put(&u, 0, PIECE, 300);
		rests();
	}
	kit_fill(buf, sizeof(buf), 1, 0);
	kit_puts(c, head_for("PUT", u.path, at_end(0, PIECE), PIECE));
	kit_send(c, buf, PIECE);
	(void)answers_at(c, 200, PIECE);
	target_has(&u, PIECE);
	kit_eof(u.t);
	rests();
	kit_send(fd[0], buf + 300, PIECE - 300);
	(void)answers_at(fd[0], 200, PIECE);
	down_ends(c, &u);
	kit_send(fd[1], buf + 300, PIECE - 300);
	(void)answers_at(fd[1], 200, PIECE);
	for (i = 0; i < 2; i++) {
		put(fd[i], u.path, PIECE, "");
		(void)answers_at(fd[i], 200, PIECE);
		(void)close(fd[i]);
	}
	deleted(c, u.path);
	settles();
}

#define RACERS	3
#define COURSE	60000

/* All the same bytes from all of them, in pieces, in any order. */
static void
puts_racing(void **state)
{
	char buf[COURSE];
	uint64_t done[RACERS], n;
	int fd[RACERS], i, left = RACERS, round;
	struct tun u;

	(void)state;
	serve(LOCAL);
	for (round = 0; round < 5; round++) {
		u = tunnel();
		for (i = 0; i < RACERS; i++) {
			rests();
			done[i] = where(c, &u);
			fd[i] = half_put(&u, done[i], COURSE, 500);
			done[i] += 500;
		}
		for (left = RACERS; left > 0;) {
			i = (int)(chance() % RACERS);
			n = 1 + chance() % 5000;
			if (n > COURSE - done[i])
				n = COURSE - done[i];
			kit_fill(buf, (size_t)n, 1, done[i]);
			kit_send(fd[i], buf, (size_t)n);
			done[i] += n;
			left -= n > 0 && done[i] == COURSE;
		}
		for (i = 0; i < RACERS; i++) {
			(void)answers_at(fd[i], 200, COURSE);
			(void)close(fd[i]);
		}
		target_has(&u, COURSE);
		rests();
		kit_silent(u.t, 0);
		farewell(c, &u);
	}
	settles();
}


/* ---- POST ---------------------------------------------------------------- */

/* Where # stands for the target's port. */
static const char *
ported(const char *s)
{
	const char *p;

	while ((p = strchr(s, '#')) != NULL)
		s = kit_str("%.*s%u%s", (int)(p - s), s, tport, p + 1);
	return s;
}

static void
good_forms(void **state)
{
	static const char *const forms[] = {
		"host=127.0.0.1&port=#", "port=#&host=127.0.0.1",
		"host=127%2e0%2E0.1&port=#", "host=localhost&port=#",
		"host=LocalHost&port=#"
	};
	struct tun u;
	size_t i;

	(void)state;
	serve("-4", LOCAL);
	for (i = 0; i < KIT_COUNT(forms); i++) {
		kit_note("form %s", forms[i]);
		u = tunnel_by(new_path(), tl, ported(forms[i]));
		farewell(c, &u);
	}
	settles();
}

static void
to_ipv6(void **state)
{
	static const char *const hosts[] = {
		"::1", "[::1]", "%5b::1%5D", "%3A%3a1", "0:0:0:0:0:0:0:1"
	};
	struct tun u;
	unsigned port;
	size_t i;
	int lfd;

	(void)state;
	if (!kit_has_ipv6())
		return;
	serve(LOCAL);
	lfd = kit_listen(AF_INET6, &port);
	for (i = 0; i < KIT_COUNT(hosts); i++) {
		u = tunnel_by(new_path(), lfd, kit_str("host=%s&port=%u",
		    hosts[i], port));
		farewell(c, &u);
	}
	settles();
}

static void
bad_forms(void **state)
{
	static const char *const forms[] = {
		"", "x", "&", "=", "host", "host=", "host=127.0.0.1",
		"port=#", "host=&port=#", "host=127.0.0.1&port=",
		"host=127.0.0.1&port=0", "host=127.0.0.1&port=65536",
		"host=127.0.0.1&port=-1", "host=127.0.0.1&port=+#",
		"host=127.0.0.1&port=#.0", "host=127.0.0.1&port=#x",
		"host=127.0.0.1&port=0x#", "host=127.0.0.1&port= #",
		"host=127.0.0.1&port=99999999999999999999",
		"host=127.0.0.1&port=#&port=#",
		"host=127.0.0.1&host=127.0.0.1&port=#",
		"host=127.0.0.1%zz&port=#", "host=127.0.0.1%2&port=#",
		"host=127.0.0.1%00&port=#", "host=127.0.0.1%0d%0a&port=#",
		"host=127.0.0.1%20&port=#", "host=a+b&port=#",
		"host=127.0.0.1\r\n&port=#", "host=a%2fb&port=#",
		"host=[127.0.0.1&port=#", "host=[::1&port=#",
		"host=a@127.0.0.1&port=#", "host=127.0.0.1:80&port=#",
		"127.0.0.1:#", "host=127.0.0.1;port=#",
		"HOST=127.0.0.1&PORT=#"
	};
	const char *path, *form;
	size_t i;
	struct tun u;

	(void)state;
	serve(LOCAL);
	path = new_path();
	for (i = 0; i < KIT_COUNT(forms) + 1; i++) {
		form = i < KIT_COUNT(forms) ? forms[i] :
		    kit_str("host=%s&port=#", kit_times(256, "a"));
		kit_note("form %s", form);
		form = ported(form);
		ask(c, "POST", path, at(0), form);
		(void)answers_at(c, 400, 0);
	}
	kit_untouched(tl);
	/* the id is free */
	u = tunnel_by(path, tl, form_for(tport));
	farewell(c, &u);
	settles();
}

/* An answer that was lost is asked for again. */
static void
post_again(void **state)
{
	struct tun u;
	int fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	post(c, u.path, tport);
	(void)answers_at(c, 200, 0);
	fd = client();
	ask(fd, "POST", u.path, at(0), kit_str("port=%u&host=127.0.0.1",
	    tport));
	(void)answers_at(fd, 200, 0);
	(void)close(fd);
	kit_untouched(tl);
	/* another target */
	post(c, u.path, tport - 1);
	(void)answers(c, 409);
	ask(c, "POST", u.path, at(0), kit_str("host=127.0.0.2&port=%u",
	    tport));
	(void)answers(c, 409);
	post(c, u.path, tport);
	(void)answers_at(c, 200, 0);
	puts_text(c, &u, "abc");
	post(c, u.path, tport);
	(void)answers(c, 409);
	farewell(c, &u);

	/* a GET says as well that the answer came */
	u = tunnel();
	fd = client();
	get(fd, u.path, 0);
	rests();
	post(c, u.path, tport);
	(void)answers(c, 409);
	kit_silent(fd, 0);
	kit_puts(u.t, "abc");
	answers_text(fd, 0, "abc");
	u.down = 3;
	(void)close(fd);
	kit_untouched(tl);
	farewell(c, &u);
	settles();
}

/* It says why as the answer to a CONNECT does. */
static void
must_tell(const struct answer *a, const char *error)
{
	const char *rest = kit_must_have(a->head, "Proxy-Status",
	    kit_str("httptun; error=%s", error));

	if (*error != '\0' && *rest != '\0' && *rest != ';')
		kit_fail("no error=%s: <<%s>>", error, a->head);
	if (a->len < 2 || strchr((const char *)a->body, '\n') !=
	    (const char *)a->body + a->len - 1)
		kit_fail("the body is not a line: <<%s>>", a->body);
}

/* What stands behind a POST that fails is not left waiting. */
static void
behind_a_refused_post(void **state)
{
	const char *form = form_for(kit_nobody(AF_INET));

	(void)state;
	serve(LOCAL);
	kit_puts(c, kit_str("%s%s" "%s%s", head_for("POST", new_path(), at(0),
	    (ssize_t)strlen(form)), form, head_for("POST", new_path(), at(0),
	    (ssize_t)strlen(form)), form));
	(void)answers_at(c, 502, 0);
	(void)answers_at(c, 502, 0);
}

/* The longest head and the longest form go together. */
static void
longest_post(void **state)
{
	(void)state;
	serve(LOCAL);
	ask(c, "POST", new_path(), kit_str("%sX: %s\r\n", at(0),
	    kit_times(16 * KB - 500, "y")), kit_times(4 * KB, "z"));
	(void)answers_at(c, 400, 0);
}

static void
targets_that_refuse(void **state)
{
	struct tun u = { .path = NULL };
	unsigned nobody;
	int i;

	(void)state;
	serve(LOCAL);
	nobody = kit_nobody(AF_INET);
	u.path = new_path();
	for (i = 0; i < 3; i++) {
		post(c, u.path, nobody);
		must_tell(answers_at(c, 502, 0), "connection_refused");
		get(c, u.path, 0);
		(void)answers_at(c, 404, 0);
	}
	u = tunnel_by(u.path, tl, form_for(tport));
	farewell(c, &u);
	settles();
	/* rules */
	serve("-n", "-t", "127.0.0.1:1", LOCAL);
	u.path = new_path();
	post(c, u.path, tport);
	must_tell(answers_at(c, 403, 0), "");
	ask(c, "POST", u.path, at(0), "host=localhost&port=1");
	must_tell(answers_at(c, 403, 0), "");
	post(c, u.path, 1);
	must_tell(answers_at(c, 502, 0), "connection_refused");
	kit_untouched(tl);
	settles();
}

/* A listening socket whose queue is full until somebody accepts; then the
 * program's next try gets in, after a second. */
static int
late_target(unsigned *port)
{
	int lfd = kit_listen(AF_INET, port);

	assert_int_equal(listen(lfd, 0), 0);
	(void)kit_connect(AF_INET, *port);
	return lfd;
}

struct late {
	int		 lfd;
	unsigned	 port;
	struct tun	 u;
	int		 fd[5];
};

/* Everything that may be asked before the POST's answer. */
static void
late_asks(struct late *l)
{
	size_t i;

	memset(l, 0, sizeof(*l));
	l->lfd = late_target(&l->port);
	l->u.path = new_path();
	for (i = 0; i < KIT_COUNT(l->fd); i++)
		l->fd[i] = client();
	post(l->fd[0], l->u.path, l->port);
	rests();
	post(l->fd[1], l->u.path, l->port + 1);
	(void)answers(l->fd[1], 409);
	/* the repeat of one that was lost on its way */
	post(l->fd[1], l->u.path, l->port);
	rests();
	kit_reset(l->fd[1]);
	l->fd[1] = client();
	post(l->fd[1], l->u.path, l->port);
	rests();
	put(l->fd[2], l->u.path, 0, "early");
	rests();
	get(l->fd[3], l->u.path, 0);
	rests();
	for (i = 0; i < 4; i++)
		kit_silent(l->fd[i], 0);
}

static void
late_goes(struct late *l)
{
	size_t i;

	l->u.t = kit_accept(l->lfd);		/* the first in the queue */
	(void)close(l->u.t);
	l->u.t = kit_accept(l->lfd);
	(void)answers_at(l->fd[0], 200, 0);
	(void)answers_at(l->fd[1], 200, 0);
	(void)answers_at(l->fd[2], 200, 5);
	kit_expect(l->u.t, "early");
	kit_puts(l->u.t, "late");
	answers_text(l->fd[3], 0, "late");
	l->u.up = 5;
	l->u.down = 4;
	farewell(c, &l->u);
	for (i = 0; i < KIT_COUNT(l->fd); i++)
		(void)close(l->fd[i]);
	rests();
	kit_untouched(l->lfd);
}

/* The same where nobody will ever answer. */
static void
never_goes(struct late *l)
{
	size_t i;

	for (i = 0; i < 2; i++)
		must_tell(answers_at(l->fd[i], 504, 0), "connection_timeout");
	(void)answers_at(l->fd[2], 404, 0);
	(void)answers_at(l->fd[3], 404, 0);
	/* the id is free */
	l->u = tunnel_by(l->u.path, tl, form_for(tport));
	farewell(c, &l->u);
	for (i = 0; i < KIT_COUNT(l->fd); i++)
		(void)close(l->fd[i]);
}

/* Given up before anybody has answered. */
static void
deleted_while_connecting(void)
{
	const char *path = new_path();
	int fd[3];
	unsigned port;
	size_t i;

	kit_blackhole(&port);
	for (i = 0; i < KIT_COUNT(fd); i++)
		fd[i] = client();
	post(fd[0], path, port);
	rests();
	put(fd[1], path, 0, "early");
	get(fd[2], path, 0);
	rests();
	deleted(c, path);
	for (i = 0; i < KIT_COUNT(fd); i++) {
		if (answer(fd[i])->status < 400)
			kit_fail("no refusal");
		(void)close(fd[i]);
	}
	get(c, path, 0);
	(void)answers_at(c, 404, 0);
	settles();
}

/* The seconds of all of them pass at once. */
static void
while_connecting(void **state)
{
	struct kit_proxy mine;
	struct late late, never;

	(void)state;
	serve("-w", "1", LOCAL);
	late_asks(&never);
	mine = px;
	(void)close(c);		/* nor may it wait there for so long */
	serve(LOCAL);
	late_asks(&late);
	late_goes(&late);
	settles();
	deleted_while_connecting();
	serves();
	settles();
	(void)close(c);
	px = mine;
	c = client();
	never_goes(&never);
	settles();
}


/* ---- what is malformed --------------------------------------------------- */

/* A number that is none, of each field in each request. */
static void
bad_numbers(void **state)
{
	static const char *const bad[] = {
		"", "-1", "+1", "+0", "0x0", "1 2", "0,0", "0, 0", "0.0",
		"a", "\"0\"", "0000000000000000000", "1000000000000000000",
		"18446744073709551616", "9223372036854775808"
	};
	static const char *const twice[] = {
		"Tunnel-Offset: 0\r\nTunnel-Offset: 0\r\n",
		"Tunnel-Offset: 0\r\nTunnel-End: 1\r\nTunnel-End: 1\r\n"
	};
	const char *field, *path;
	struct tun u;
	size_t i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	path = new_path();
	for (i = 0; i < KIT_COUNT(bad) + 1; i++) {
		field = i < KIT_COUNT(bad) ? kit_str("Tunnel-Offset: %s\r\n",
		    bad[i]) : twice[0];
		kit_note("%s", field);
		refuses_plainly(400, "PUT", u.path, field, "x");
		refuses_plainly(400, "POST", path, field, form_for(tport));
		refuses_plainly(400, "GET", u.path, field, NULL);
		refuses_plainly(400, "DELETE", u.path, field, NULL);
	}
	for (i = 0; i < KIT_COUNT(bad) + 1; i++) {
		field = i < KIT_COUNT(bad) ? kit_str("%sTunnel-End: %s\r\n",
		    at(0), bad[i]) : twice[1];
		kit_note("%s", field);
		refuses_plainly(400, "PUT", u.path, field, "x");
	}
	kit_untouched(tl);
	/* these are good ones */
	ask(c, "PUT", u.path, "Tunnel-Offset: 000000000000000000\r\n", "x");
	(void)answers_at(c, 200, 1);
	ask(c, "PUT", u.path, "tunnel-offset:1\t\r\n", "y");
	(void)answers_at(c, 200, 2);
	kit_expect(u.t, "xy");
	u.up = 2;
	farewell(c, &u);
	settles();
}

/* An end before the bytes that bear it. */
static void
ends_before_their_bytes(void **state)
{
	struct tun u;
	int status;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	put_end(c, u.path, 0, "abc", 2);
	status = answer(c)->status;
	if (status != 400 && status != 409)
		kit_fail("a %d", status);
	(void)close(c);
	c = client();
	put_end(c, u.path, 1, "", 0);
	status = answer(c)->status;
	if (status != 400 && status != 409)
		kit_fail("a %d", status);
	(void)close(c);
	c = client();
	farewell(c, &u);
	settles();
}

static void
no_offset(void **state)
{
	struct tun u;
	const char *path;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	refuses_plainly(400, "PUT", u.path, "", "x");
	refuses_plainly(400, "PUT", u.path, "Tunnel-End: 0\r\n", "");
	refuses_plainly(400, "GET", u.path, "", NULL);
	refuses_plainly(400, "DELETE", u.path, "", NULL);
	farewell(c, &u);
	/* a POST without it is one of an older protocol */
	path = new_path();
	ask(c, "POST", path, "", form_for(tport));
	u.t = kit_accept(tl);
	if (kit_field(answers_plainly(c, 200), "Tunnel-Offset") != NULL)
		kit_fail("an answer with Tunnel-Offset");
	ask(c, "DELETE", path, "", NULL);
	(void)answers_plainly(c, 200);
	(void)kit_until_end(u.t);
	(void)close(u.t);
	settles();
}

/* The head of a request whose body is sent when it is wanted. */
static void
expects(int fd, const char *method, const char *path, size_t n)
{
	kit_puts(fd, kit_str("%s %s HTTP/1.1\r\nHost: x\r\n"
	    "Tunnel-Offset: 0\r\nExpect: 100-continue\r\n"
	    "Content-Length: %zu\r\n\r\n", method, path, n));
}

/* A client that wants to hear first that its body is wanted. */
static void
expects_to_go_on(void **state)
{
	struct tun u;
	const char *form;

	(void)state;
	serve(LOCAL);
	u.path = new_path();
	form = form_for(tport);
	expects(c, "POST", u.path, strlen(form));
	kit_expect(c, "HTTP/1.1 100 Continue\r\n\r\n");
	kit_puts(c, form);
	u.t = opens(tl);
	expects(c, "PUT", u.path, 5);
	kit_expect(c, "HTTP/1.1 100 Continue\r\n\r\n");
	kit_puts(c, "hello");
	kit_expect(u.t, "hello");
	(void)answers_at(c, 200, 5);
	deleted(c, u.path);
	(void)kit_until_end(u.t);
	(void)close(u.t);
	settles();
}

/* The same from one who has gone when it would be told so. */
static void
expects_nothing_more(void **state)
{
	struct tun u;
	int fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	fd = client();
	get(fd, u.path, 0);
	expects(fd, "PUT", u.path, 5);
	(void)close(fd);
	rests();
	kit_puts(u.t, "data");		/* the GET's answer is refused */
	rests();
	gets_text(c, &u, "data");
	broken_off(c, &u);
	settles();
}

/* How long a body is must be said, and must not be too long; judged by the
 * head alone. */
static void
lengths(void **state)
{
	static const struct {
		const char	*method, *fields;
		int		 status;
	} cases[] = {
		{ "PUT", "", 411 }, { "POST", "", 411 },
		{ "PUT", "Transfer-Encoding: chunked\r\n", 411 },
		{ "POST", "Transfer-Encoding: chunked\r\n", 411 },
		{ "POST", "Content-Length: 4097\r\n", 413 },
		{ "POST", "Content-Length: 1048576\r\n", 413 },
		{ "PUT", "Content-Length: 1048577\r\n", 413 },
		{ "PUT", "Content-Length: 4294967296\r\n", 413 },
		{ "PUT", "Content-Length: 4294967297\r\n", 413 },
		{ "PUT", "Content-Length: 999999999999999999\r\n", 413 },
		{ "PUT", "Content-Length: -1\r\n", 400 },
		{ "PUT", "Content-Length: +1\r\n", 400 },
		{ "PUT", "Content-Length: 0x1\r\n", 400 },
		{ "PUT", "Content-Length: 1\r\nContent-Length: 2\r\n", 400 },
		{ "PUT", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
		    400 },
		{ "PUT", "Transfer-Encoding: gzip, identity\r\n", 400 },
		{ "PUT", "Content-Length: 99999999999999999999999\r\n", 400 }
	};
	struct tun u;
	size_t i;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		refuses_plainly(cases[i].status, cases[i].method,
		    strcmp(cases[i].method, "PUT") == 0 ? u.path : new_path(),
		    kit_str("%s%s", at(0), cases[i].fields), NULL);
	}
	rests();
	kit_silent(u.t, 0);
	/* as long as may be */
	request(c, "POST", u.path, at(0), kit_times(FORM_MAX, "x"), FORM_MAX);
	(void)answers(c, 400);
	put_stream(c, u.path, 1, 0, PUT_MAX);
	{
		struct kit_stream s = { u.t, KIT_IN, PUT_MAX, 1, 0, 0 };

		kit_pump(&s, 1);
	}
	(void)answers_at(c, 200, PUT_MAX);
	u.up = PUT_MAX;
	farewell(c, &u);
	settles();
}

/* Whatever a request is refused for, its body never is another request. */
static void
bodies_are_no_requests(void **state)
{
	static const struct {
		const char	*method;
		const char	*target;	/* NULL: the live one */
		const char	*fields;
		int		 status;	/* 0: any */
	} cases[] = {
		{ "PUT", "/ffffffffffffffffffffffffffffffff",
		    "Tunnel-Offset: 0\r\n", 404 },
		{ "PUT", "/elsewhere", "Tunnel-Offset: 0\r\n", 404 },
		{ "GET", "/", "", 404 },
		{ "PUT", NULL, "Tunnel-Offset: 1000\r\n", 409 },
		{ "PUT", NULL, "Tunnel-Offset: 0\r\nTunnel-End: 9\r\n", 0 },
		{ "PUT", NULL, "Tunnel-Offset: x\r\n", 400 },
		{ "PUT", NULL, "", 400 },
		{ "PUT", NULL, "Tunnel-Offset: 0\r\nOrigin: o\r\n", 403 },
		{ "POST", NULL, "Tunnel-Offset: 0\r\n", 0 },
		{ "POST", "/ffffffffffffffffffffffffffffffff",
		    "Tunnel-Offset: 0\r\n", 400 },
		{ "GET", NULL, "Tunnel-Offset: 1000\r\n", 0 },
		{ "DELETE", "/ffffffffffffffffffffffffffffffff",
		    "Tunnel-Offset: 0\r\n", 0 },
		{ "PATCH", NULL, "Tunnel-Offset: 0\r\n", 404 }
	};
	const char *body, *head;
	struct tun u;
	size_t i;
	int fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	body = head_for("DELETE", u.path, at(0), -1);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		fd = client();
		ask(fd, cases[i].method, cases[i].target != NULL ?
		    cases[i].target : u.path, cases[i].fields, body);
		if (cases[i].status != 0)
			head = answers_plainly(fd, cases[i].status);
		else
			head = answer(fd)->head;
		if (kit_field(head, "Connection") == NULL) {
			ask(fd, "GET", "/", "", NULL);
			(void)answers_plainly(fd, 404);
		}
		(void)close(fd);
	}
	farewell(c, &u);
	settles();
}


/* ---- credentials --------------------------------------------------------- */

static void
refused_401(int fd)
{
	const struct answer *a = answers(fd, 401);

	(void)kit_offers(a->head, "WWW-Authenticate", 0);
}

static void
all_refused(const char *path)
{
	post(c, new_path(), tport);
	refused_401(c);
	put(c, path, 0, "x");
	refused_401(c);
	get(c, path, 0);
	refused_401(c);
	del(c, path);
	refused_401(c);
	/* unknown ones, too */
	get(c, new_path(), 0);
	refused_401(c);
	/* nor is it a proxy's business, who asks for them */
	ask(c, "GET", kit_str("http://127.0.0.1:%u%s", px.port, path), at(0),
	    NULL);
	refused_401(c);
	ask(c, "GET", kit_str("http://localhost:%u%s", px.port, path), at(0),
	    NULL);
	refused_401(c);
}

static const char *
authorization(const char *cred)
{
	return kit_str("Authorization: %s\r\n", kit_basic(cred));
}

static void
credentials(void **state)
{
	const char *alice, *bob;
	struct tun u, v;
	int fd;

	(void)state;
	serve("-a", kit_file("users", 0600, "alice:secret\nbob:word\n"),
	    LOCAL);
	alice = authorization("alice:secret");
	bob = authorization("bob:word");
	also = alice;
	u = tunnel();
	carries(c, &u);
	fd = client();
	get(fd, u.path, u.down);
	rests();
	also = "";
	all_refused(u.path);
	also = authorization("alice:wrong");
	all_refused(u.path);
	also = "Authorization: Basic !\r\n";
	all_refused(u.path);
	also = "Authorization: Bearer secret\r\n";
	all_refused(u.path);
	also = kit_str("Proxy-%s", alice);
	all_refused(u.path);
	rests();
	kit_untouched(tl);
	/* somebody else */
	also = bob;
	post(c, u.path, tport);
	(void)answers(c, 409);
	put(c, u.path, u.up, "x");
	(void)answers_at(c, 404, 0);
	get(c, u.path, u.down);
	(void)answers_at(c, 404, 0);
	del(c, u.path);
	(void)answers_at(c, 404, 0);
	v = tunnel();
	post(c, v.path, tport);
	(void)answers_at(c, 200, 0);
	also = alice;
	post(c, v.path, tport);	/* though nobody has used it */
	(void)answers(c, 409);
	also = bob;
	farewell(c, &v);
	/* the GET was not disturbed by any of that */
	kit_silent(fd, 0);
	kit_puts(u.t, "data");
	answers_text(fd, u.down, "data");
	u.down += 4;
	also = alice;
	farewell(c, &u);
	(void)close(fd);
	settles();
}


/* ---- ends that are none -------------------------------------------------- */

static void
deleted_before_both_ends(void **state)
{
	struct tun u;
	int a, b, i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 3; i++) {
		u = tunnel();
		a = client();
		if (i == 1)
			up_ends(c, &u);
		if (i == 2)
			down_ends(c, &u);
		else
			get(a, u.path, 0);
		b = i == 1 ? client() : half_put(&u, 0, PIECE, 300);
		rests();
		deleted(c, u.path);
		if (i == 1)		/* it has had its end of file */
			kit_push_until_reset(u.t);
		else {
			kit_until_reset(u.t);
			(void)close(u.t);
		}
		if (i != 2)
			(void)answers(a, 410);
		del(c, u.path);
		(void)answers_at(c, 404, 0);
		get(c, u.path, 0);
		(void)answers_at(c, 404, 0);
		put_stream(c, u.path, 1, 0, 10);
		(void)answers_at(c, 404, 0);
		(void)close(a);
		(void)close(b);
	}
	settles();
}

/* What was accepted is still delivered, then comes a clean end. */
static void
deleted_after_both_ends(void **state)
{
	struct kit_stream s = { .dir = KIT_IN, .bytes = 200000, .seed = 1,
	    .end = 1 };
	static char buf[200000];
	struct tun u;
	unsigned port;
	int lfd;

	(void)state;
	serve(LOCAL);
	lfd = kit_listen_buf(AF_INET, &port, 4096);
	u = tunnel_by(new_path(), lfd, form_for(port));
	kit_fill(buf, sizeof(buf), 1, 0);
	request(c, "PUT", u.path, at_end(0, sizeof(buf)), buf, sizeof(buf));
	(void)answers_at(c, 200, sizeof(buf));
	down_ends(c, &u);
	deleted(c, u.path);
	get(c, u.path, 0);
	(void)answers_at(c, 404, 0);
	rests();
	s.fd = u.t;
	kit_pump(&s, 1);
	settles();
}

/* -I: bytes move while they come, and no other request is one of them. */
static void
idle(void **state)
{
	struct tun u, v;
	int64_t end;
	int fd;

	(void)state;
	serve("-I", "1", LOCAL);
	u = tunnel();
	v = tunnel();
	fd = half_put(&u, 0, PIECE, 0);
	for (end = kit_now() + 1300; kit_now() < end; ) {
		put(c, v.path, 0, "");
		(void)answer(c);
		kit_puts(fd, "x");
		kit_expect(u.t, "x");
		(void)poll(NULL, 0, 20);
	}
	kit_expect_reset(v.t);
	put(c, u.path, 0, "");
	(void)answers(c, 200);
	(void)close(fd);
	kit_expect_reset(u.t);
	settles();
}

/* Told to everybody who asks, until the session is given up. */
static void
is_broken(struct tun *u)
{
	get(c, u->path, 0);
	(void)answers(c, 410);
	get(c, u->path, 100);
	(void)answers(c, 410);
	/* how much it has: what the last PUT brought may count */
	put(c, u->path, 0, "");
	assert_in_range(answers(c, 410)->offset, u->up, u->up + 1);
	put(c, u->path, 300, "x");
	assert_in_range(answers(c, 410)->offset, u->up, u->up + 1);
	post(c, u->path, tport);
	(void)answers(c, 409);
	get(c, u->path, 0);
	(void)answers(c, 410);
	deleted(c, u->path);
	get(c, u->path, 0);
	(void)answers_at(c, 404, 0);
}

static void
target_resets(void **state)
{
	struct tun u;
	int fd, i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 4; i++) {
		kit_note("reset %d", i);
		u = tunnel();
		fd = client();
		if (i == 0)
			get(fd, u.path, 0);
		else if (i == 1) {
			(void)close(fd);
			fd = half_put(&u, 0, PIECE, 300);
			u.up = 300;
		} else if (i == 2)
			up_ends(c, &u);
		else
			kit_puts(u.t, "never asked for");
		rests();
		kit_reset(u.t);
		if (i == 0)
			(void)answers(fd, 410);
		rests();
		is_broken(&u);
		(void)close(fd);
	}
	kit_untouched(tl);
	settles();
	/* also where the proxy asks for it by a session of its own */
	serve("-x", kit_str("poll://127.0.0.1:%u/", px.port), LOCAL);
	u = tunnel();
	fd = client();
	get(fd, u.path, 0);
	kit_reset(u.t);
	(void)answers(fd, 410);
	is_broken(&u);
	(void)close(fd);
	settles();
}

/* Bytes that nobody takes any more: before or after its end is known. */
static void
target_goes(void **state)
{
	const struct answer *a;
	struct tun u;
	int i, k;

	(void)state;
	serve(LOCAL);
	for (k = 0; k < 3; k++) {
		u = tunnel();
		if (k > 0)
			down_ends(c, &u);
		kit_vanish(u.t, k == 1 ? KIT_WAY_RESET : KIT_WAY_CLOSE);
		for (i = 0; i < 1000; i++) {
			put(c, u.path, u.up, "x");
			a = answer(c);
			if (a->status == 410)
				break;
			assert_int_equal(a->status, 200);
			u.up = (uint64_t)a->offset;
			rests();
		}
		assert_true(i < 1000);
		is_broken(&u);
	}
	settles();
}


/* ---- streams ------------------------------------------------------------- */

/* Both directions of a session at once: GETs on one connection, PUTs on
 * another. */
struct pump {
	struct tun	*u;
	uint64_t	 up, down;	/* bytes of streams 1 and 2 */
	uint64_t	 in, out;	/* the target's: read and written */
	struct pollfd	 p[3];		/* GETs, PUTs, the target */
	struct answer	 got;		/* that is being read */
	size_t		 left;		/* of its body */
	char		 buf[130 * KB];	/* a PUT on its way */
	size_t		 len, sent;
	int		 gets, puts, ends, says;	/* what has ended */
};

enum { GETS, PUTS, TARGET };

static int
pump_get(struct pump *p)
{
	char buf[65536];
	int fd = p->p[GETS].fd;
	size_t n;

	if (p->left > 0) {
		n = p->left < sizeof(buf) ? p->left : sizeof(buf);
		n = (size_t)recv(fd, buf, n, MSG_DONTWAIT);
		if (n == 0 || n > sizeof(buf))
			kit_fail("no body at %ju", (uintmax_t)p->u->down);
		kit_check(buf, n, 2, p->u->down);
		p->u->down += n;
		p->left -= n;
	} else {
		if (take_head(fd, p->got.head, sizeof(p->got.head)) == 0)
			return 0;
		judge(&p->got);
		if ((p->got.status != 200 && p->got.status != 204) ||
		    p->got.offset != (int64_t)p->u->down ||
		    (p->got.status == 200) != (p->got.len > 0))
			kit_fail("no 200: <<%s>>", p->got.head);
		if (p->got.end != -1 && p->got.end != (int64_t)p->down)
			kit_fail("a wrong end: <<%s>>", p->got.head);
		p->left = p->got.len;
	}
	if (p->left > 0)
		return 1;
	if (p->u->down == p->down && p->got.end != -1)
		p->gets = 1;
	else
		get(fd, p->u->path, p->u->down);
	return 1;
}

/* The next PUT, of any size; the last one bears the end or is followed by
 * one that does. */
static void
pump_next_put(struct pump *p)
{
	uint64_t left = p->up - p->u->up;
	size_t n = chance() % (128 * KB);
	const char *head;

	if (n > left)
		n = (size_t)left;
	head = head_for("PUT", p->u->path, n == left && chance() % 2 ?
	    at_end(p->u->up, p->up) : left == 0 ? at_end(p->up, p->up) :
	    at(p->u->up), (ssize_t)n);
	p->len = strlen(head);
	memcpy(p->buf, head, p->len);
	kit_fill(p->buf + p->len, n, 1, p->u->up);
	p->len += n;
	p->sent = 0;
	p->u->up += n;
	p->puts = strstr(head, "Tunnel-End") != NULL;
}

static int
pump_put(struct pump *p)
{
	int fd = p->p[PUTS].fd;
	ssize_t n;

	if (p->sent < p->len) {
		n = send(fd, p->buf + p->sent, p->len - p->sent,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n == -1 && errno != EAGAIN)
			kit_fail("a PUT: %s", strerror(errno));
		p->sent += n > 0 ? (size_t)n : 0;
		return n > 0;
	}
	(void)answers_at(fd, 200, p->u->up);
	if (p->puts)
		p->puts = 2;		/* answered, too */
	else
		pump_next_put(p);
	return 1;
}

static int
pump_target(struct pump *p)
{
	char buf[65536];
	ssize_t n, m = 0;

	n = recv(p->u->t, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		kit_check(buf, (size_t)n, 1, p->in);
	p->in += n > 0 ? (uint64_t)n : 0;
	if (n == 0) {
		if (p->in != p->up)
			kit_fail("stream 1 ends at %ju", (uintmax_t)p->in);
		p->ends = 1;
	}
	if (p->out < p->down) {
		m = (ssize_t)(p->down - p->out < sizeof(buf) ? p->down -
		    p->out : sizeof(buf));
		kit_fill(buf, (size_t)m, 2, p->out);
		m = send(p->u->t, buf, (size_t)m, MSG_NOSIGNAL | MSG_DONTWAIT);
		p->out += m > 0 ? (uint64_t)m : 0;
	}
	if (p->out == p->down && !p->says) {
		kit_half_close(p->u->t);
		p->says = 1;
	}
	return n >= 0 || m > 0;
}

/* What each of them waits for. */
static void
pump_interest(struct pump *p)
{
	p->p[GETS].events = p->gets ? 0 : POLLIN;
	p->p[PUTS].events = p->puts == 2 ? 0 : p->sent < p->len ? POLLOUT :
	    POLLIN;
	p->p[TARGET].events = 0;
	if (!p->ends)
		p->p[TARGET].events |= POLLIN;
	if (!p->says)
		p->p[TARGET].events |= POLLOUT;
}

/* Moves so many bytes up and down, of which the target has sent some, until
 * both have ended; then the session is deleted. */
static void
pump(struct tun *u, uint64_t up, uint64_t down, uint64_t out)
{
	static int (*const step[])(struct pump *) = {
		pump_get, pump_put, pump_target
	};
	static struct pump p;
	int64_t end = kit_now() + kit_patience();
	int i;

	memset(&p, 0, sizeof(p));
	p.u = u;
	p.up = up;
	p.down = down;
	p.in = u->up;
	p.out = out;
	p.p[GETS].fd = client();
	p.p[PUTS].fd = client();
	p.p[TARGET].fd = u->t;
	get(p.p[GETS].fd, u->path, u->down);
	pump_next_put(&p);
	while (!p.gets || p.puts < 2 || !p.ends || !p.says) {
		pump_interest(&p);
		(void)poll(p.p, 3, 50);
		(void)kit_err(px.proc);
		for (i = 0; i < 3; i++)
			if ((p.p[i].events != 0 || i == TARGET) &&
			    p.p[i].revents != 0 && step[i](&p))
				end = kit_now() + kit_patience();
		if (kit_now() > end)
			kit_fail("%ju of %ju down, %ju of %ju up: it stands",
			    (uintmax_t)u->down, (uintmax_t)down,
			    (uintmax_t)p.in, (uintmax_t)up);
	}
	deleted(p.p[PUTS].fd, u->path);
	(void)close(p.p[GETS].fd);
	(void)close(p.p[PUTS].fd);
	(void)close(u->t);
}

static void
both_directions_at_once(void **state)
{
	struct tun u;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	pump(&u, 16 * MB, 16 * MB, 0);
	settles();
	kit_proxy_below(&px, PEAK);
	u = tunnel();
	pump(&u, 0, 4 * MB, 0);
	u = tunnel();
	pump(&u, 4 * MB, 0, 0);
	settles();
}

static void
stalls_and_goes_on(void)
{
	struct kit_stream s = { .dir = KIT_OUT, .bytes = 64 * MB, .seed = 2 };
	struct tun u = tunnel();

	s.fd = u.t;
	kit_stuff(&s, QUIET);
	if (s.done > 20 * MB)
		kit_fail("%ju bytes went to nobody", (uintmax_t)s.done);
	rests();
	kit_proxy_below(&px, PEAK);
	put(c, u.path, 0, "meanwhile");
	(void)answers_at(c, 200, 9);
	kit_expect(u.t, "meanwhile");
	rests();
	u.up = 9;
	pump(&u, 1 * MB, 24 * MB, s.done);
	settles();
	kit_proxy_below(&px, PEAK);
}

/* A client that asks for nothing stops the target, also where the proxy asks
 * for it by a session of its own. */
static void
stalled_client(void **state)
{
	(void)state;
	serve(LOCAL);
	stalls_and_goes_on();
	serve("-x", kit_str("poll://127.0.0.1:%u/", px.port), LOCAL);
	stalls_and_goes_on();
}

/* What was accepted before a DELETE that comes behind both ends arrives, also
 * over a session of the proxy's own. */
static void
delete_behind_both_ends(void **state)
{
	struct kit_stream s = { .dir = KIT_IN, .seed = 1, .bytes = 200 * KB };
	static char buf[200 * KB];
	struct tun u;
	int i;

	(void)state;
	serve(LOCAL);
	kit_fill(buf, sizeof(buf), s.seed, 0);
	for (i = 0; i < 2; i++) {
		u = tunnel();
		kit_half_close(u.t);
		get(c, u.path, 0);
		answers_end(c, 0);
		request(c, "PUT", u.path, at_end(0, sizeof(buf)), buf,
		    sizeof(buf));
		del(c, u.path);
		(void)answers_at(c, 200, sizeof(buf));
		(void)answers_at(c, 200, 0);
		s.fd = u.t;
		s.done = 0;
		kit_pump(&s, 1);
		kit_eof(u.t);
		settles();
		if (i == 0)
			serve("-x", kit_str("poll://127.0.0.1:%u/", px.port),
			    LOCAL);
	}
}

/* More comes while what came before is about to be read, and is a URL whose
 * host has to be looked up. */
static void
looked_up_in_between(void **state)
{
	struct tun u;
	int fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	fd = client();
	kit_puts(fd, kit_str("%s%s", head_for("GET", u.path, at(0), -1),
	    head_for("GET", kit_str("http://localhost:%u%s", px.port, u.path),
	    at(0), -1)));
	pace_begins(AT_ONCE);
	get(c, u.path, 0);
	get(fd, u.path, 0);
	pace_ends(AT_ONCE);
	answers_nothing(fd, 0);
	answers_nothing(c, 0);
	kit_puts(u.t, "abc");
	answers_text(fd, 0, "abc");
	answers_text(fd, 0, "abc");
	(void)close(fd);
	broken_off(c, &u);
	settles();
}

/* A target that does not read has the client wait for its answer. */
static void
stalled_target(void **state)
{
	struct pollfd p = { .events = POLLIN };
	struct kit_stream s = { .dir = KIT_IN, .seed = 1 };
	struct tun u;
	int fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	p.fd = fd = client();
	for (;;) {
		put_stream(fd, u.path, 1, u.up, 64 * KB);
		u.up += 64 * KB;
		if (u.up > 20 * MB)
			kit_fail("%ju bytes went to nobody", (uintmax_t)u.up);
		if (poll(&p, 1, 2 * QUIET) == 0)
			break;
		(void)answers_at(fd, 200, u.up);
	}
	rests();
	kit_silent(fd, 0);
	/* another try does no better */
	put_stream(c, u.path, 1, u.up - 64 * KB, 64 * KB);
	kit_silent(c, QUIET);
	kit_puts(u.t, "meanwhile");
	(void)close(c);
	c = client();
	gets_text(c, &u, "meanwhile");
	rests();
	kit_proxy_below(&px, PEAK);
	s.fd = u.t;
	s.bytes = u.up;
	kit_pump(&s, 1);
	(void)answers_at(fd, 200, u.up);
	(void)close(fd);
	farewell(c, &u);
	settles();
	kit_proxy_below(&px, PEAK);
}

/* The client goes while its PUT is held; nothing is lost of what it is told
 * was taken. */
static void
held_put_is_given_up(void **state)
{
	struct kit_stream s = { .dir = KIT_IN, .seed = 1 };
	struct tun u;
	int fd = -1;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	s.fd = u.t;
	while (s.bytes < 20 * MB) {
		fd = client();
		put_stream(fd, u.path, 1, s.bytes, PUT_MAX / 2);
		if (poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, QUIET) == 0)
			break;
		(void)answers_at(fd, 200, s.bytes += PUT_MAX / 2);
		(void)close(fd);
	}
	kit_reset(fd);
	rests();
	kit_proxy_below(&px, PEAK);
	/* as far as it had come */
	u.up = s.bytes;
	kit_pump(&s, 1);
	rests();
	s.bytes = where(c, &u);
	kit_pump(&s, 1);
	u.up = s.bytes;
	rests();
	kit_silent(u.t, 0);
	farewell(c, &u);
	settles();
}


/* ---- absolute-form ------------------------------------------------------- */

static void
absolute_and_mine(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost",
	    "LOCALHOST" };
	const char *base;
	struct tun u;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(hosts); i++) {
		base = kit_str("http://%s:%u", hosts[i], px.port);
		u = tunnel_by(kit_str("%s/pre%s", base, new_path()), tl,
		    form_for(tport));
		carries(c, &u);
		u.path = strrchr(u.path, '/');
		carries(c, &u);
		u.path = kit_str("%s%s", base, u.path);
		farewell(c, &u);
		get(c, u.path, 0);
		(void)answers_at(c, 404, 0);
	}
	settles();
}

/* To anybody else it is an ordinary request. */
static void
absolute_and_forwarded(void **state)
{
	static const char *const methods[] = { "POST", "PUT", "GET",
	    "DELETE" };
	const char *id, *body, *want;
	struct tun u;
	char head[4096];
	unsigned port;
	size_t i;
	int lfd, o, fd;

	(void)state;
	serve(LOCAL);
	u = tunnel();
	id = u.path;
	lfd = kit_listen(AF_INET, &port);
	for (i = 0; i < KIT_COUNT(methods); i++) {
		fd = client();
		body = i < 2 ? form_for(tport) : NULL;
		ask(fd, methods[i], kit_str("http://127.0.0.1:%u%s", port, id),
		    at(0), body);
		o = kit_accept(lfd);
		(void)kit_head(o, head, sizeof(head));
		want = kit_str("%s %s HTTP/1.1\r\n", methods[i], id);
		if (strncmp(head, want, strlen(want)) != 0)
			kit_fail("<<%s>> is no %s", head, want);
		must_say(head, "Tunnel-Offset", "0");
		if (body != NULL)
			kit_expect(o, body);
		kit_puts(o, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
		    "Tunnel-Offset: 77\r\n\r\nok");
		must_say(answers_plainly(fd, 200), "Tunnel-Offset", "77");
		(void)close(o);
		(void)close(fd);
	}
	kit_untouched(tl);
	farewell(c, &u);
	settles();
}


/* ---- many ---------------------------------------------------------------- */

static void
room_for_descriptors(void)
{
	struct rlimit rl;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
}

#define WAITING	500

/* A client as it is: one connection for what it sends, one that waits. */
struct waiter {
	const char	*path;
	int		 puts, gets;
	int		 t;
};

static struct waiter waiters[WAITING];

/* Each gets another few bytes, and waits again. */
static void
waiters_are_woken(uint64_t offset)
{
	struct waiter *w;
	int i;

	for (i = 0; i < WAITING; i++)
		kit_puts(waiters[i].t, kit_str("%04d", i));
	for (i = 0; i < WAITING; i++) {
		w = &waiters[i];
		kit_note("waiter %d", i);
		answers_text(w->gets, offset, kit_str("%04d", i));
		get(w->gets, w->path, offset + 4);
	}
	rests();
}

/* All of them, with their GETs behind each POST or behind the last one. */
static void
waiters_come(int later)
{
	struct waiter *w;
	int i, t;

	for (i = 0; i < WAITING; i++) {
		kit_note("waiter %d", i);
		w = &waiters[i];
		w->path = new_path();
		w->puts = client();
		post(w->puts, w->path, tport);
		(void)answers_at(w->puts, 200, 0);
		put(w->puts, w->path, 0, kit_str("%04d", i));
		(void)answers_at(w->puts, 200, 4);
		if (later) {
			(void)close(w->puts);
			continue;
		}
		w->gets = client();
		get(w->gets, w->path, 0);
	}
	for (i = 0; i < WAITING; i++) {
		t = kit_accept(tl);
		waiters[kit_number(t, WAITING)].t = t;
		if (!later)
			continue;
		waiters[i].gets = client();
		get(waiters[i].gets, waiters[i].path, 0);
	}
	rests();
	for (i = 0; i < WAITING; i++) {
		kit_note("waiter %d", i);
		kit_silent(waiters[i].gets, 0);
	}
}

static void
waiters_go(void)
{
	struct waiter *w;
	int i;

	for (i = 0; i < WAITING; i++) {
		w = &waiters[i];
		w->puts = client();
		deleted(w->puts, w->path);
		(void)answers(w->gets, 410);
		(void)close(w->puts);
		(void)close(w->gets);
		kit_until_reset(w->t);
		(void)close(w->t);
	}
	settles();
}

/* So many sessions of one command, each with a GET that waits. */
static void
many_that_wait(void **state)
{
	int i;

	(void)state;
	room_for_descriptors();
	serve(LOCAL);
	waiters_come(0);
	waiters_are_woken(0);
	/* all connections are lost, all come back */
	for (i = 0; i < WAITING; i++) {
		kit_reset(waiters[i].puts);
		kit_reset(waiters[i].gets);
	}
	for (i = 0; i < WAITING; i++) {
		waiters[i].gets = client();
		get(waiters[i].gets, waiters[i].path, 4);
	}
	rests();
	waiters_are_woken(4);
	waiters_go();
}

static void
many_that_come_later(void **state)
{
	(void)state;
	room_for_descriptors();
	serve(LOCAL);
	waiters_come(1);
	waiters_are_woken(0);
	waiters_go();
}

/* One more than there may be. */
static void
too_many(void **state)
{
	const char **path = calloc(SESSIONS, sizeof(*path)), *last;
	unsigned port[3];
	int i, fd;

	(void)state;
	assert_non_null(path);
	room_for_descriptors();
	serve(LOCAL);
	/* nobody accepts: the queues hold them */
	for (i = 0; i < 3; i++)
		(void)kit_listen(AF_INET, &port[i]);
	for (i = 0; i < SESSIONS; i++) {
		kit_note("session %d", i);
		path[i] = new_path();
		fd = client();
		post(fd, path[i], port[i % 3]);
		(void)answers_at(fd, 200, 0);
		(void)close(fd);
	}
	last = new_path();
	for (i = 0; i < 3; i++) {
		post(c, last, tport);
		(void)answers_at(c, 503, 0);
		get(c, last, 0);
		(void)answers_at(c, 404, 0);
	}
	kit_untouched(tl);
	/* what there is goes on, and one that goes makes room for one */
	for (i = 0; i < SESSIONS; i += 100) {
		put(c, path[i], 0, "x");
		(void)answers_at(c, 200, 1);
	}
	post(c, path[1], port[1]);
	(void)answers_at(c, 200, 0);
	deleted(c, path[1]);
	post(c, path[1], tport);
	(void)answers_at(c, 200, 0);
	post(c, last, tport);
	(void)answers_at(c, 503, 0);
	for (i = 0; i < SESSIONS; i++)
		deleted(c, path[i]);
	free(path);
	settles();
}


/* ---- workers ------------------------------------------------------------- */

#define CREW	4
#define FLOCK	8
#define LAPS	4
#define LOAD	(10 * KB)
#define ROUNDS	40

/* Whichever worker a connection comes to, it reaches each session. */
static void
four_workers(void **state)
{
	struct tun u[FLOCK];
	struct kit_pair p;
	int i, fd;

	(void)state;
	serve("-j", "4", LOCAL);
	for (i = 0; i < FLOCK; i++) {
		(void)close(c);
		c = client();
		u[i] = tunnel();
	}
	for (i = 0; i < 10 * FLOCK; i++) {
		fd = client();
		carries(fd, &u[i % FLOCK]);
		(void)close(fd);
		fd = client();
		get(fd, u[i % FLOCK].path, u[i % FLOCK].down);
		rests();
		kit_puts(u[i % FLOCK].t, "woken");
		answers_text(fd, u[i % FLOCK].down, "woken");
		u[i % FLOCK].down += 5;
		(void)close(fd);
	}
	/* a connection that has asked for them serves for the rest, too */
	for (i = 0; i < FLOCK; i++) {
		fd = client();
		farewell(fd, &u[i]);
		ask(fd, "GET", "/", "", NULL);
		(void)answers_plainly(fd, 404);
		kit_puts(fd, kit_request_to(tport));
		p.c = fd;
		p.t = kit_accept(tl);
		kit_expect(fd, KIT_OK);
		kit_farewell(p);
	}
	settles();
}

/* Requests for all sessions in one go, on one connection, which goes from one
 * worker to the other with what each of them has read. */
static void
pipelined_for_all(void **state)
{
	static char all[LAPS * FLOCK * (LOAD + KB)];
	struct tun u[FLOCK];
	const char *head;
	size_t n = 0;
	int i;

	(void)state;
	serve("-j", "4", LOCAL);
	for (i = 0; i < FLOCK; i++) {
		(void)close(c);
		c = client();
		u[i] = tunnel();
	}
	for (i = 0; i < LAPS * FLOCK; i++) {
		head = head_for("PUT", u[i % FLOCK].path,
		    at((uint64_t)(i / FLOCK) * LOAD), LOAD);
		memcpy(all + n, head, strlen(head));
		n += strlen(head);
		kit_fill(all + n, LOAD, 1, (uint64_t)(i / FLOCK) * LOAD);
		n += LOAD;
	}
	kit_send(c, all, n);
	for (i = 0; i < LAPS * FLOCK; i++) {
		(void)answers_at(c, 200, (uint64_t)(i / FLOCK + 1) * LOAD);
		target_has(&u[i % FLOCK], (uint64_t)(i / FLOCK + 1) * LOAD);
	}
	for (i = 0; i < FLOCK; i++)
		farewell(c, &u[i]);
	settles();
}

/* An answer to one byte more: its status; 0: the connection was lost. */
static int
one_more(const struct tun *u)
{
	const struct answer *a;
	int fd = client(), status = 0;
	char byte;

	put(fd, u->path, u->up, "+");
	kit_poll(fd, POLLIN, "an answer");
	if (recv(fd, &byte, 1, MSG_PEEK) == 1) {
		a = answer(fd);
		status = a->status;
		if (status == 200)
			assert_int_equal(a->offset, u->up + 1);
	}
	(void)close(fd);
	return status;
}

/* Does the session live?  It lost no byte if it does; its target has heard
 * of it if it does not. */
static int
lives(struct tun *u)
{
	int64_t end = kit_now() + kit_patience();
	int status;

	while ((status = one_more(u)) == 0)
		if (kit_now() > end)
			kit_fail("no answer on any connection");
	if (status == 200) {
		u->up++;
		kit_expect(u->t, "+");
		return 1;
	}
	if (status != 404 && status != 410)
		kit_fail("a %d", status);
	(void)kit_until_end(u->t);
	(void)close(u->t);
	return 0;
}

/* A session is given up while the worker that knows of all ids is asked about
 * it: who comes next has its place, and is not taken for it. */
static void
deleted_at_once(void **state)
{
	const char *path[FLOCK][2];
	struct pollfd pfd = { 0, POLLIN, 0 };
	int fd[FLOCK][4], round, i, k;

	(void)state;
	serve("-j", "2", LOCAL);
	pfd.fd = tl;
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < FLOCK; i++)
			for (k = 0; k < 4; k++)
				fd[i][k] = client();
		for (i = 0; i < FLOCK; i++) {
			path[i][0] = new_path();
			path[i][1] = new_path();
			post(fd[i][0], path[i][0], tport);
			del(fd[i][1], path[i][0]);
			del(fd[i][2], path[i][0]);
			post(fd[i][3], path[i][1], tport);
		}
		for (i = 0; i < FLOCK; i++) {
			(void)answers_at(fd[i][3], 200, 0);
			deleted(fd[i][3], path[i][1]);
			(void)answer(fd[i][1]);
			(void)answer(fd[i][2]);
			if (answer(fd[i][0])->status == 200) {
				del(fd[i][0], path[i][0]);
				(void)answer(fd[i][0]);
			}
			for (k = 0; k < 4; k++)
				(void)close(fd[i][k]);
		}
		/* The target's queue would be full one day. */
		while (poll(&pfd, 1, 0) == 1)
			(void)close(kit_accept(tl));
	}
	settles();
}

/* More requests come to one worker for the other's session than the channels
 * between them hold, while that one does nothing: they wait for it. */
static void
channels_full(void **state)
{
	pid_t pids[2], awake[2], helper;
	int fd[400], i;
	const char *path;

	(void)state;
	serve("-j", "2", LOCAL);
	assert_int_equal(kit_workers(&px, pids, 2, &helper), 2);
	(void)close(c);
	kit_stop(pids[1]);
	c = client();
	path = new_path();
	post(c, path, tport);
	(void)answers_at(c, 200, 0);
	kit_go_on();
	kit_stop(pids[0]);
	for (i = 0; i < (int)KIT_COUNT(fd); i++) {
		fd[i] = client();
		put(fd[i], path, 0, "");
	}
	awake[0] = px.proc->pid;
	awake[1] = pids[1];
	kit_idle_all(awake, 2);
	kit_go_on();
	for (i = 0; i < (int)KIT_COUNT(fd); i++) {
		(void)answers_at(fd[i], 200, 0);
		(void)close(fd[i]);
	}
	deleted(c, path);
	settles();
}

/* One that dies takes its own sessions with it, no others. */
static void
worker_dies(void **state)
{
	struct tun u[FLOCK];
	int i, k, gone, least = FLOCK;

	(void)state;
	serve("-j", "4", LOCAL);
	for (i = 0; i < FLOCK; i++)
		u[i] = tunnel();
	/* the look-up helper is one of them */
	for (k = 1; k < px.npids; k++) {
		assert_int_equal(kill(px.pids[k], SIGKILL), 0);
		kit_gone(px.pids[k]);
		(void)close(c);
		for (i = gone = 0; i < FLOCK; i++) {
			if (lives(&u[i]))
				continue;
			gone++;
			u[i].path = NULL;
		}
		kit_rests(px.proc);
		c = client();
		for (i = 0; i < FLOCK; i++)
			if (u[i].path == NULL)
				u[i] = tunnel();
		print_message("%d of %d sessions went with process %d\n",
		    gone, FLOCK, k);
		least = gone < least ? gone : least;
	}
	if (least == FLOCK)
		kit_fail("each takes all sessions with it");
	for (i = 0; i < FLOCK; i++)
		farewell(c, &u[i]);
	(void)close(c);
	kit_returns(px.proc, &px.idle);
}


/* ---- the log ------------------------------------------------------------- */

/* The next line behind *pos, which moves on. */
static const char *
log_next(size_t *pos)
{
	int64_t end = kit_now() + kit_patience();
	const char *nl, *line;

	while ((nl = strchr(kit_err(px.proc) + *pos, '\n')) == NULL) {
		if (kit_now() > end)
			kit_fail("no further line in the log");
		(void)poll(NULL, 0, 1);
	}
	line = px.proc->errbuf + *pos;
	*pos = (size_t)(nl - px.proc->errbuf) + 1;
	return kit_str("%.*s", (int)(nl - line), line);
}

/* One line for each tunnel, at its end, with what it has carried. */
static void
log_line(void **state)
{
	char who[128], user[128], what[128], why[256];
	unsigned status, up, down;
	const char *line;
	struct tun u;
	size_t pos;
	int i;

	(void)state;
	serve("-v", "-a", kit_file("users", 0600, "alice:secret\n"), LOCAL);
	also = authorization("alice:secret");
	pos = strlen(kit_err(px.proc));
	for (i = 0; i < 2; i++) {
		u = tunnel();
		put(c, u.path, 0, "abc");
		(void)answers_at(c, 200, 3);
		put(c, u.path, 0, "abcdefg");
		(void)answers_at(c, 200, 7);
		kit_puts(u.t, "12345");
		rests();
		get(c, u.path, 0);
		answers_text(c, 0, "12345");
		get(c, u.path, 0);
		answers_text(c, 0, "12345");
		u.down = 5;
		kit_expect(u.t, "abcdefg");
		u.up = 7;
		rests();
		if (kit_err(px.proc)[pos] != '\0')
			kit_fail("it says something before the end");
		if (i == 0)
			farewell(c, &u);
		else
			broken_off(c, &u);
		line = log_next(&pos);
		if (sscanf(line, "httptun: %*s %127s %127s %127s %u %u %u "
		    "%*f %255[^\n]", who, user, what, &status, &up, &down,
		    why) != 7)
			kit_fail("no line of a log: <<%s>>", line);
		if (strncmp(who, "127.0.0.1:", 10) != 0)
			kit_fail("no client: <<%s>>", line);
		assert_string_equal(user, "alice");
		assert_string_equal(what, kit_str("127.0.0.1:%u", tport));
		assert_int_equal(status, 200);
		assert_int_equal(up, i == 0 ? 20 : 7);
		assert_int_equal(down, i == 0 ? 18 : 5);
		settles();
		if (kit_err(px.proc)[pos] != '\0')
			kit_fail("it says more than a line");
	}
	/* one that was refused has its line, too */
	post(c, new_path(), kit_nobody(AF_INET));
	(void)answers_at(c, 502, 0);
	line = log_next(&pos);
	if (strstr(line, " 502 0 0 ") == NULL || strstr(line, "secret") != NULL)
		kit_fail("no line of a refusal: <<%s>>", line);
}

static void
silent_without_v(void **state)
{
	struct tun u;

	(void)state;
	serve(LOCAL);
	serves();
	u = tunnel();
	kit_reset(u.t);
	get(c, u.path, 0);
	(void)answers(c, 410);
	deleted(c, u.path);
	post(c, u.path, kit_nobody(AF_INET));
	(void)answers_at(c, 502, 0);
	settles();
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
}


/* ---- nothing is left ----------------------------------------------------- */

#define ENDS	10

/* Each way in which a session can come to its end. */
static void
dies(int how, unsigned nobody)
{
	struct tun u = { .path = new_path() };
	int fd;

	if (how == 0 || how == 1) {
		ask(c, "POST", u.path, at(0), how ? "host=&port=0" :
		    form_for(nobody));
		(void)answers_at(c, how ? 400 : 502, 0);
		return;
	}
	u = tunnel();
	fd = client();
	switch (how) {
	case 2:
		farewell(fd, &u);
		(void)close(fd);
		return;
	case 3:
		break;
	case 4:
		get(fd, u.path, 0);
		rests();
		break;
	case 5:
		kit_puts(u.t, "never asked for");
		break;
	case 6:
		get(fd, u.path, 0);
		kit_reset(u.t);
		(void)answers(fd, 410);
		break;
	case 7:
		kit_reset(u.t);
		get(fd, u.path, 0);
		(void)answers(fd, 410);
		break;
	case 8:
		kit_reset(half_put(&u, 0, PIECE, 500));
		get(fd, u.path, 0);
		kit_reset(fd);
		fd = client();
		break;
	default:
		put_stream(fd, u.path, 1, 0, 60 * KB);
		(void)answers_at(fd, 200, 60 * KB);
		kit_puts(u.t, "asked for twice");
		get(c, u.path, 0);
		(void)answers_at(c, 200, 0);
		get(c, u.path, 0);
		(void)answers_at(c, 200, 0);
		put_end(fd, u.path, 60 * KB, "", 70 * KB);
		(void)answers_at(fd, 200, 60 * KB);
	}
	deleted(c, u.path);
	if (how == 4)
		(void)answers(fd, 410);
	if (how != 6 && how != 7) {
		kit_until_reset(u.t);
		(void)close(u.t);
	}
	(void)close(fd);
}

static void
nothing_is_left(void **state)
{
	unsigned nobody = kit_nobody(AF_INET);
	struct kit_figure f;
	long before = 0;
	int i, how;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 100; i++) {
		for (how = 0; how < ENDS; how++)
			dies(how, nobody);
		if (i != 30)
			continue;
		settles();
		kit_figure(px.proc->pid, &f);
		before = f.rss;
	}
	settles();
	kit_figure(px.proc->pid, &f);
	if (!kit_sanitized() && f.rss > before + SLACK)
		kit_fail("from %ld to %ld KiB", before, f.rss);
	serves();
}

/* An argument is the pattern of the tests to run. */
int
main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(life),
		KIT_TEST(one_write),
		KIT_TEST(many_requests_on_a_connection),
		KIT_TEST(many_connections),
		KIT_TEST(pipelined),
		KIT_TEST(at_every_cut),
		KIT_TEST(vanishing_in_the_script),
		KIT_TEST(prefixes),
		KIT_TEST(good_ids),
		KIT_TEST(bad_ids),
		KIT_TEST(other_methods),
		KIT_TEST(old_and_closing_clients),
		KIT_TEST(origins),
		KIT_TEST(put_again),
		KIT_TEST(put_ahead),
		KIT_TEST(get_again),
		KIT_TEST(get_ahead),
		KIT_TEST(get_waits),
		KIT_TEST(second_get),
		KIT_TEST(get_that_is_given_up),
		KIT_TEST(client_ends),
		KIT_TEST(wrong_ends),
		KIT_TEST(target_ends),
		KIT_TEST(half_close),
		KIT_TEST(put_cut),
		KIT_TEST(repeat_cut),
		KIT_TEST(late_head),
		KIT_TEST(put_cut_before_its_end),
		KIT_TEST(put_beside_an_older),
		KIT_TEST(put_beside_the_end),
		KIT_TEST(puts_racing),
		KIT_TEST(good_forms),
		KIT_TEST(to_ipv6),
		KIT_TEST(bad_forms),
		KIT_TEST(post_again),
		KIT_TEST(targets_that_refuse),
		KIT_TEST(behind_a_refused_post),
		KIT_TEST(longest_post),
		KIT_TEST(while_connecting),
		KIT_TEST(bad_numbers),
		KIT_TEST(ends_before_their_bytes),
		KIT_TEST(no_offset),
		KIT_TEST(expects_to_go_on),
		KIT_TEST(expects_nothing_more),
		KIT_TEST(lengths),
		KIT_TEST(bodies_are_no_requests),
		KIT_TEST(credentials),
		KIT_TEST(deleted_before_both_ends),
		KIT_TEST(deleted_after_both_ends),
		KIT_TEST(idle),
		KIT_TEST(target_resets),
		KIT_TEST(target_goes),
		KIT_TEST(both_directions_at_once),
		KIT_TEST(stalled_client),
	KIT_TEST(delete_behind_both_ends), KIT_TEST(looked_up_in_between),
		KIT_TEST(stalled_target),
		KIT_TEST(held_put_is_given_up),
		KIT_TEST(absolute_and_mine),
		KIT_TEST(absolute_and_forwarded),
		KIT_TEST(many_that_wait),
		KIT_TEST(many_that_come_later),
		KIT_TEST(too_many),
		KIT_TEST(four_workers),
		KIT_TEST(pipelined_for_all),
		KIT_TEST(deleted_at_once),
		KIT_TEST(channels_full),
		KIT_TEST(worker_dies),
		KIT_TEST(log_line),
		KIT_TEST(silent_without_v),
		KIT_TEST(nothing_is_left)
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("poll", tests, NULL, NULL);
}
