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
 * Several hops to choose from: `-x p1,p2`.  Which failures make the program
 * try the next one and which are somebody's last word, in what order, how
 * long, what it remembers of it and what it says.  The proxies are scripted;
 * those that only have to be used are `httptun -l`.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define NONE		((char *)NULL)
#define HOST		"target.example"	/* never looked up */
#define PORT		"5432"
#define AUTHORITY	HOST ":" PORT
#define OK200		"HTTP/1.1 200 OK\r\n\r\n"
#define A1		"Basic YTox"			/* a:1 */
#define B2		"Basic Yjoy"			/* b:2 */

/* A proxy: where it listens, and how the program is told so. */
struct peer {
	int		 lfd;
	unsigned	 port;
	const char	*hp;		/* 127.0.0.1:PORT */
};

static char head[32768];		/* the request that request() read */


/* ---- what nearly every test does ----------------------------------------- */

static struct peer
listen_on(int family)
{
	struct peer px;

	px.lfd = kit_listen(family, &px.port);
	px.hp = kit_str(family == AF_INET6 ? "[::1]:%u" : "127.0.0.1:%u",
	    px.port);
	return px;
}

static struct peer
peer(void)
{
	return listen_on(AF_INET);
}

/* One where nobody listens; then somebody does. */
static struct peer
nobody(void)
{
	struct peer px = { .lfd = -1 };

	px.port = kit_nobody(AF_INET);
	px.hp = kit_str("127.0.0.1:%u", px.port);
	return px;
}

/* Accepts a connection and reads the CONNECT on it. */
static int
asked(const struct peer *px, const char *authority)
{
	const char *line = kit_str("CONNECT %s HTTP/1.1\r\n", authority);
	int fd = kit_accept(px->lfd);

	kit_head(fd, head, sizeof(head));
	if (strncmp(head, line, strlen(line)) != 0)
		kit_fail("the request is <<%s>> and not for %s", head,
		    authority);
	return fd;
}

/* stdin/stdout through any of these. */
static struct kit_proc *
through(const char *hops)
{
	return kit_httptun(NULL, "-x", hops, HOST, PORT, NONE);
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
	kit_half_close(far);
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

/* It is the one that is asked for this, takes it, and carries. */
static void
takes(struct kit_proc *p, const struct peer *px)
{
	int fd = asked(px, AUTHORITY);

	kit_puts(fd, OK200);
	works(p, fd);
}

/* The same for a client of a local port; it goes again. */
static void
serves(unsigned port, const struct peer *px)
{
	struct kit_pair t;

	t.c = kit_connect(AF_INET, port);
	t.t = asked(px, AUTHORITY);
	kit_puts(t.t, OK200);
	kit_farewell(t);
}

static void
fails(struct kit_proc *p, const char *line)
{
	kit_exits(p, 1);
	kit_eof(p->out);
	kit_err_is(p, line);
}


/* ---- who is tried -------------------------------------------------------- */

static void
test_first(void **state)
{
	struct peer a = peer(), b = peer();

	(void)state;
	takes(through(kit_str("%s,%s", a.hp, b.hp)), &a);
	kit_untouched(b.lfd);
	takes(through(kit_str("http://%s/,http://%s/", b.hp, a.hp)), &b);
	kit_untouched(a.lfd);
}

/* What one does that is not to be taken for an answer; NULL: it goes at once.
 * Then it closes. */
static const char *const broken[] = {
	NULL, "", "220 hello\r\n", "HTTP/1.1 200", "HTTP/1.1 200 O",
	"HTTP/1.1 999999 No\r\n\r\n", "SSH-2.0-x\r\n\r\n",
	"HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 502 No\r\n\r\n",
	"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno",
	"HTTP/1.0 504 No\r\n\r\n", "HTTP/1.1 100 C\r\n\r\n",
	"HTTP/1.1 599 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
};

static void
test_next(void **state)
{
	struct peer a = peer(), b = peer();
	struct kit_proc *p;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(broken); i++) {
		kit_note("%s", broken[i] != NULL ? broken[i] : "(none)");
		p = through(kit_str("%s,%s", a.hp, b.hp));
		if (broken[i] == NULL)
			kit_reset(kit_accept(a.lfd));
		else {
			fd = asked(&a, AUTHORITY);
			kit_puts(fd, broken[i]);
			kit_half_close(fd);
		}
		takes(p, &b);
		kit_done(p);
	}
	/* nobody there, or nowhere, and all of it before the third */
	p = through(kit_str("%s,no-such-name.invalid:1,%s", nobody().hp,
	    b.hp));
	takes(p, &b);
	p = through(kit_str("%s,%s,%s", a.hp, a.hp, b.hp));
	(void)close(asked(&a, AUTHORITY));
	(void)close(asked(&a, AUTHORITY));
	takes(p, &b);
	kit_untouched(a.lfd);
}

/* A word that holds for whoever is asked. */
static void
test_final(void **state)
{
	static const char *const answers[] = {
		"400 Bad", "403 Forbidden", "404 Not Found",
		"407 Proxy Authentication Required", "429 Later",
		"101 Other", "302 Found", "300 Many", "600 Odd", "999 Odd",
	};
	struct peer a = peer(), b = peer();
	struct kit_proc *p;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < KIT_COUNT(answers); i++) {
		p = through(kit_str("%s,%s", a.hp, b.hp));
		kit_puts(asked(&a, AUTHORITY), kit_str("HTTP/1.1 %s\r\n"
		    "Content-Length: 0\r\n\r\n", answers[i]));
		kit_exits(p, 1);
		kit_eof(p->out);
		kit_err_has(p, kit_str("httptun: %s: %s", a.hp, answers[i]));
		assert_int_equal(kit_said(p, "\n"), 1);
	}
	kit_untouched(b.lfd);
	/* once open, it is open */
	p = through(kit_str("%s,%s", a.hp, b.hp));
	fd = asked(&a, AUTHORITY);
	kit_puts(fd, OK200 "early");
	kit_expect(p->out, "early");
	kit_reset(fd);
	kit_exits(p, 1);
	kit_untouched(b.lfd);
}

/* All of them fail: each is named, the last one first. */
static void
test_none(void **state)
{
	struct peer a = peer(), b = nobody(), c = peer();
	struct kit_proc *p;
	int fd;

	(void)state;
	p = through(kit_str("%s,u:s3cret@%s,%s", a.hp, b.hp, c.hp));
	(void)close(asked(&a, AUTHORITY));
	kit_puts(asked(&c, AUTHORITY), "HTTP/1.1 503 Full\r\n\r\n");
	fails(p, kit_str("httptun: %s: 503 Full; before that %s: closed "
	    "without a reply, %s: Connection refused\n", c.hp, a.hp, b.hp));

	/* one after another as -v tells it */
	p = kit_httptun(NULL, "-v", "-x", kit_str("%s,u:s3cret@%s,%s", a.hp,
	    b.hp, c.hp), HOST, PORT, NONE);
	(void)close(asked(&a, AUTHORITY));
	fd = asked(&c, AUTHORITY);
	kit_puts(fd, OK200);
	kit_half_close(p->in);
	kit_half_close(fd);
	kit_exits(p, 0);
	kit_err_has(p, kit_str("%s: closed without a reply", a.hp));
	kit_err_has(p, kit_str("%s: Connection refused", b.hp));
	assert_null(strstr(kit_err(p), "s3cret"));
}


/* ---- how long ------------------------------------------------------------ */

/* Each has its share of -w: a silent one leaves something for the next, and
 * all of them together do not take longer. */
static void
test_silent(void **state)
{
	struct peer a = peer(), b = peer();
	struct kit_proc *p[4];
	unsigned hole;
	int fd;

	(void)state;
	kit_blackhole(&hole);
	p[0] = kit_httptun(NULL, "-w", "2", "-x", kit_str("%s,%s", a.hp,
	    b.hp), HOST, PORT, NONE);
	fd = asked(&a, AUTHORITY);
	p[1] = kit_httptun(NULL, "-w", "2", "-x", kit_str("127.0.0.1:%u,%s",
	    hole, b.hp), "second.example", PORT, NONE);
	p[2] = kit_httptun(NULL, "-w", "1", "-x", kit_str("%s,127.0.0.1:%u,"
	    "127.0.0.1:%u", a.hp, hole, hole), "third.example", PORT, NONE);
	(void)asked(&a, "third.example:" PORT);
	/* bytes are no progress */
	kit_puts(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200");
	(void)kit_accept(b.lfd);
	(void)kit_accept(b.lfd);
	kit_until_end(fd);
	kit_exits(p[2], 1);
	kit_eof(p[2]->out);
	kit_err_has(p[2], "before that");
	kit_done(p[0]);
	kit_done(p[1]);
}


/* ---- what it remembers --------------------------------------------------- */

static void
test_remembers(void **state)
{
	struct peer a = peer(), b = peer(), c = peer();
	struct kit_proc *p;
	unsigned port;
	int near;

	(void)state;
	p = kit_httptun(NULL, "-x", kit_str("%s,%s,%s", a.hp, b.hp, c.hp),
	    "-L", "127.0.0.1:0:" AUTHORITY, NONE);
	port = kit_listening(p, 0);
	serves(port, &a);

	near = kit_connect(AF_INET, port);
	(void)close(asked(&a, AUTHORITY));
	kit_puts(asked(&b, AUTHORITY), OK200 "x");
	kit_expect(near, "x");
	serves(port, &b);
	serves(port, &b);
	kit_untouched(a.lfd);
	/* round and round */
	near = kit_connect(AF_INET, port);
	(void)close(asked(&b, AUTHORITY));
	(void)close(asked(&c, AUTHORITY));
	kit_puts(asked(&a, AUTHORITY), OK200 "y");
	kit_expect(near, "y");
	serves(port, &a);
	/* a word against a target is nothing against the proxy */
	near = kit_connect(AF_INET, port);
	kit_puts(asked(&a, AUTHORITY), "HTTP/1.1 403 No\r\n\r\n");
	(void)kit_until_end(near);
	serves(port, &a);
	/* nor does it forget when all have failed */
	near = kit_connect(AF_INET, port);
	(void)close(asked(&a, AUTHORITY));
	(void)close(asked(&b, AUTHORITY));
	(void)close(asked(&c, AUTHORITY));
	(void)kit_until_end(near);
	serves(port, &a);
	kit_untouched(b.lfd);
	kit_untouched(c.lfd);
}

/* No descriptor is left of those that failed. */
static void
test_many(void **state)
{
	struct peer a = peer(), b = nobody();
	struct kit_proc *p;
	unsigned port;
	int c[20], i, fds;

	(void)state;
	p = kit_httptun(NULL, "-x", kit_str("%s,%s,%s,%s", b.hp, a.hp, b.hp,
	    a.hp), "-L", "127.0.0.1:0:" AUTHORITY, NONE);
	port = kit_listening(p, 0);
	kit_idle(p);
	fds = kit_fds(p->pid);
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		c[i] = kit_connect(AF_INET, port);
	for (i = 0; i < 2 * (int)KIT_COUNT(c); i++)
		kit_reset(asked(&a, AUTHORITY));
	for (i = 0; i < (int)KIT_COUNT(c); i++) {
		(void)kit_until_end(c[i]);
		(void)close(c[i]);
	}
	kit_settles(p, fds, 0);
	serves(port, &a);
	kit_settles(p, fds, 0);
}

/* httptun -l: what a client is told when none is left, and when one is. */
static void
test_listen(void **state)
{
	struct peer a = peer(), b = nobody();
	struct kit_proxy px;
	struct kit_pair t;

	(void)state;
	kit_proxy(&px, "-x", kit_str("%s,%s", b.hp, a.hp), "127.0.0.1", "0",
	    NONE);
	t.c = kit_ask(&px, kit_request(AUTHORITY, ""));
	t.t = asked(&a, AUTHORITY);
	kit_puts(t.t, OK200);
	kit_expect(t.c, KIT_OK);
	kit_farewell(t);
	t.c = kit_ask(&px, kit_request(AUTHORITY, ""));
	kit_puts(asked(&a, AUTHORITY), "HTTP/1.1 403 No\r\n\r\n");
	(void)kit_refusal(t.c, 403, "", KIT_EITHER);
	(void)close(t.c);
	t.c = kit_ask(&px, kit_request(AUTHORITY, ""));
	(void)close(asked(&a, AUTHORITY));
	(void)kit_refusal(t.c, 502, "", KIT_EITHER);
	(void)close(t.c);
	kit_proxy_settles(&px);
}


/* ---- what they are ------------------------------------------------------- */

/* In a chain: the first one is asked for each of the others. */
static void
test_chain(void **state)
{
	struct peer a1 = peer(), a2 = peer();
	struct kit_proc *p;
	int fd;

	(void)state;
	p = kit_httptun(NULL, "-x", a1.hp, "-x", "b1.example,b2.example:99",
	    HOST, PORT, NONE);
	kit_puts(asked(&a1, "b1.example:3128"), "HTTP/1.1 502 No\r\n"
	    "Content-Length: 0\r\n\r\n");
	fd = asked(&a1, "b2.example:99");
	kit_puts(fd, OK200);
	kit_head(fd, head, sizeof(head));
	kit_puts(fd, OK200);
	works(p, fd);

	/* the second one's own failure, too */
	p = kit_httptun(NULL, "-x", a1.hp, "-x", "b1.example,b2.example", HOST,
	    PORT, NONE);
	fd = asked(&a1, "b1.example:3128");
	kit_puts(fd, OK200);
	kit_head(fd, head, sizeof(head));
	kit_puts(fd, "HTTP/1.1 503 Full\r\n\r\n");
	fd = asked(&a1, "b2.example:3128");
	kit_puts(fd, OK200);
	kit_head(fd, head, sizeof(head));
	assert_non_null(strstr(head, "CONNECT " AUTHORITY " "));
	kit_puts(fd, OK200);
	works(p, fd);

	/* all of the second place, then the next of the first */
	p = kit_httptun(NULL, "-x", kit_str("%s,%s", a1.hp, a2.hp), "-x",
	    "b1.example,b2.example", HOST, PORT, NONE);
	kit_puts(asked(&a1, "b1.example:3128"), "HTTP/1.1 502 No\r\n\r\n");
	kit_puts(asked(&a1, "b2.example:3128"), "HTTP/1.1 502 No\r\n\r\n");
	fd = asked(&a2, "b1.example:3128");
	kit_puts(fd, OK200);
	kit_head(fd, head, sizeof(head));
	kit_puts(fd, OK200);
	works(p, fd);
	kit_untouched(a1.lfd);

	/* who is down is not asked again for the others */
	p = kit_httptun(NULL, "-x", kit_str("%s,%s", nobody().hp, a2.hp),
	    "-x", "b1.example,b2.example", HOST, PORT, NONE);
	fd = asked(&a2, "b1.example:3128");
	kit_puts(fd, "HTTP/1.1 403 No\r\n\r\n");
	kit_exits(p, 1);
	kit_err_has(p, kit_str("httptun: %s: 403 No", a2.hp));
	kit_untouched(a2.lfd);
}

/* Each is a hop as it could be alone. */
static void
test_schemes(void **state)
{
	struct peer a = peer(), b = nobody();
	struct kit_proxy px;
	struct kit_proc *p;
	const char *hops[4];
	unsigned tport;
	size_t i;
	int t, tl = kit_listen(AF_INET, &tport);

	(void)state;
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	hops[0] = kit_str("http://%s,ws://127.0.0.1:%u", b.hp, px.port);
	hops[1] = kit_str("ws://%s/x,poll://127.0.0.1:%u/y", b.hp, px.port);
	hops[2] = kit_str("poll://%s,http://127.0.0.1:%u", b.hp, px.port);
	hops[3] = kit_str("https://%s,ws://%s,127.0.0.1:%u", b.hp, b.hp,
	    px.port);
	for (i = 0; i < KIT_COUNT(hops); i++) {
		kit_note("%s", hops[i]);
		p = kit_httptun(NULL, "-x", hops[i], "127.0.0.1",
		    kit_str("%u", tport), NONE);
		t = kit_accept(tl);
		works(p, t);
	}
	/* each refuses in its own way */
	p = kit_httptun(NULL, "-x", kit_str("ws://%s,http://127.0.0.1:%u",
	    a.hp, px.port), "127.0.0.1", kit_str("%u", tport), NONE);
	t = kit_accept(a.lfd);
	kit_head(t, head, sizeof(head));
	kit_puts(t, "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno");
	(void)close(t);
	kit_exits(p, 1);
	kit_untouched(tl);
	kit_proxy_settles(&px);
}

/* Before and behind a poll server it is the same. */
static void
test_poll(void **state)
{
	struct peer a = peer(), b = nobody();
	struct kit_proxy px;
	struct kit_proc *p;
	const char *chain[6][2], *hp;
	unsigned tport;
	size_t i;
	int fd, tl = kit_listen(AF_INET, &tport);

	(void)state;
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	hp = kit_str("127.0.0.1:%u", px.port);
	for (i = 0; i < 6; i++)
		chain[i][1] = kit_str("poll://%s/", hp);
	chain[0][0] = kit_str("%s,%s", b.hp, hp);	/* it forwards */
	chain[1][0] = kit_str("ws://%s,ws://%s", b.hp, hp);
	chain[2][0] = chain[2][1];
	chain[2][1] = chain[0][0];
	/* a takes the connection, and says no, breaks off or is silent */
	for (i = 3; i < 6; i++)
		chain[i][0] = kit_str("%s%s,%s", i == 4 ? "ws://" : "", a.hp,
		    hp);
	for (i = 0; i < 6; i++) {
		kit_note("-x %s -x %s", chain[i][0], chain[i][1]);
		p = kit_httptun(NULL, "-w", i < 4 ? "60" : "2", "-x",
		    chain[i][0], "-x", chain[i][1], "127.0.0.1",
		    kit_str("%u", tport), NONE);
		if (i > 2) {
			fd = kit_accept(a.lfd);
			kit_head(fd, head, sizeof(head));
			if (i == 3)
				kit_puts(fd, "HTTP/1.1 501 No\r\n"
				    "Content-Length: 0\r\n\r\n");
			if (i < 5)
				(void)close(fd);
		}
		fd = kit_accept(tl);
		if (i == 5)			/* nor is there a farewell */
			kit_drop(a.lfd);
		works(p, fd);
	}
	kit_proxy_settles(&px);
}

/* TLS that fails is no hop either. */
static void
test_tls(void **state)
{
	struct peer a = peer();
	struct kit_proc *p;
	int fd;

	(void)state;
	p = through(kit_str("https://%s,%s", a.hp, a.hp));
	fd = kit_accept(a.lfd);
	kit_puts(fd, "220 hello\r\n");
	(void)close(fd);
	takes(p, &a);
}

/* A password is for whom it was written. */
static void
test_users(void **state)
{
	static const char *const env[] = { "HTTPTUN_AUTH=b:2", NULL };
	static const char ask[] = "HTTP/1.1 407 Who\r\n"
	    "Proxy-Authenticate: Basic realm=\"r\"\r\n"
	    "Content-Length: 0\r\n\r\n";
	struct kit_opt opt = { .env = env };
	struct peer a = peer(), b = peer();
	struct kit_proc *p;
	char args[4096];
	size_t len;
	int fd, i;

	(void)state;
	for (i = 0; i < 2; i++) {
		p = i == 0 ? through(kit_str("a:1@%s,b:2@%s", a.hp, b.hp)) :
		    kit_httptun(&opt, "-x", kit_str("a:1@%s,%s", a.hp, b.hp),
		    HOST, PORT, NONE);
		fd = asked(&a, AUTHORITY);
		kit_field_is(head, "Proxy-Authorization", NULL);
		kit_puts(fd, ask);
		kit_head(fd, head, sizeof(head));
		kit_field_is(head, "Proxy-Authorization", A1);
		kit_puts(fd, "HTTP/1.1 503 Full\r\n\r\n");
		fd = asked(&b, AUTHORITY);
		kit_field_is(head, "Proxy-Authorization", NULL);
		kit_puts(fd, ask);
		kit_head(fd, head, sizeof(head));
		kit_field_is(head, "Proxy-Authorization", B2);
		kit_puts(fd, OK200);
		works(p, fd);
	}
	p = through(kit_str("a:s3cret@%s,http://b:s3cret@%s", a.hp, b.hp));
	fd = asked(&a, AUTHORITY);
	i = open(kit_str("/proc/%ld/cmdline", (long)p->pid), O_RDONLY);
	assert_true(i != -1);
	for (len = kit_slurp(i, args, sizeof(args)); len > 0; len--)
		if (args[len - 1] == '\0')
			args[len - 1] = ' ';
	assert_null(strstr(args, "s3cret"));
	assert_non_null(strstr(args, b.hp));
	kit_puts(fd, OK200);
	works(p, fd);
}

static void
test_ipv6(void **state)
{
	struct peer a, b = peer();

	(void)state;
	if (!kit_has_ipv6())
		return;
	a = listen_on(AF_INET6);
	takes(through(kit_str("%s,%s", a.hp, b.hp)), &a);
	takes(through(kit_str("%s,%s", nobody().hp, a.hp)), &a);
}

static void
test_usage(void **state)
{
	static const char *const faulty[] = {
		"%s,", ",%s", "%s,,%s", "%s,exec:cat", "%s,socks://%s",
		"%s,http://%s/path", "%s,:s3cret@", "%s,x:y",
	};
	struct peer a = peer();
	struct kit_proc *p;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(faulty); i++) {
		kit_note("%s", faulty[i]);
		p = through(kit_str(faulty[i], a.hp, a.hp));
		kit_exits(p, 2);
		kit_eof(p->out);
		assert_int_equal(kit_said(p, "\n"), 1);
		assert_null(strstr(kit_err(p), "s3cret"));
	}
	kit_untouched(a.lfd);
}

/* An argument is the pattern of the tests to run. */
int
main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(test_first),
		KIT_TEST(test_next),
		KIT_TEST(test_final),
		KIT_TEST(test_none),
		KIT_TEST(test_silent),
		KIT_TEST(test_remembers),
		KIT_TEST(test_many),
		KIT_TEST(test_listen),
		KIT_TEST(test_chain),
		KIT_TEST(test_schemes),
		KIT_TEST(test_poll),
		KIT_TEST(test_tls),
		KIT_TEST(test_users),
		KIT_TEST(test_ipv6),
		KIT_TEST(test_usage),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("fallback", tests, NULL, NULL);
}
