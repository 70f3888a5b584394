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
 * The poll carrier, client and server, with what real networks have between
 * the two: nginx and HAProxy in front of `httptun -l`, tinyproxy and squid as
 * the proxies that a client has to leave through.  They keep requests until
 * they are whole, and answers; they speak HTTP/1.0 or keep connections; they
 * give up on an answer that takes too long, and limit bodies.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define NONE	((char *)NULL)
#define MB	1000000
#define BULK	(3 * MB)	/* both ways at once */
#define MANY	30		/* tunnels at once */

/* `httptun -l`, and a target. */
static struct kit_proxy	px;
static int		tl;
static unsigned		tport;

/* What stands between, and the way through it. */
static struct kit_proc	*peer;
static const char	*way[2];


/* ---- what stands between ------------------------------------------------- */

/* All of it, at once. */
static void
end_peer(void)
{
	(void)kill(-peer->pid, SIGKILL);
	kit_done(peer);
}

static int	 nginx_fd;
static unsigned	 nginx_port;

/* Buffering is what it does anyway, and HTTP/1.0 is what it speaks anyway. */
static void
run_nginx(void)
{
	peer = kit_nginx(nginx_fd, kit_str(
	    "	upstream kept { server 127.0.0.1:%u; keepalive 4; }\n"
	    "	server {\n"
	    "		listen 127.0.0.1:%u;\n"
	    "		proxy_request_buffering on;\n"
	    "		proxy_buffering on;\n"
	    "		location /tunnel/ {\n"
	    "			proxy_pass http://127.0.0.1:%u;\n"
	    "		}\n"
	    "		location /kept/ {\n"
	    "			proxy_pass http://kept/;\n"
	    "			proxy_http_version 1.1;\n"
	    "			proxy_set_header Connection '';\n"
	    "		}\n"
	    "		location /small/ {\n"
	    "			proxy_pass http://kept;\n"
	    "			client_max_body_size 5k;\n"
	    "		}\n"
	    "		location /locked/ {\n"
	    "			proxy_pass http://kept;\n"
	    "			auth_basic nginx;\n"
	    "			auth_basic_user_file users;\n"
	    "		}\n"
	    "		location /hasty/ {\n"
	    "			proxy_pass http://kept;\n"
	    "			proxy_read_timeout 1s;\n"
	    "		}\n"
	    "	}\n", px.port, nginx_port, px.port));
}

static void
nginx_at(const char *location)
{
	nginx_fd = kit_listen(AF_INET, &nginx_port);
	run_nginx();
	way[0] = kit_str("poll://127.0.0.1:%u%s", nginx_port, location);
	way[1] = NULL;
}

static void
nginx(void)
{
	nginx_at("/tunnel/");
}

static void
nginx_kept(void)
{
	nginx_at("/kept/");
}

static void
nginx_small(void)
{
	nginx_at("/small/");
}

static void
nginx_hasty(void)
{
	nginx_at("/hasty/");
}

static void
haproxy(void)
{
	unsigned port;
	int lfd = kit_listen(AF_INET, &port);

	peer = kit_haproxy(lfd, kit_str("global\n"
	    "	maxconn 512\n"
	    "defaults\n"
	    "	mode http\n"
	    "	option http-buffer-request\n"
	    "	timeout connect 10s\n"
	    "	timeout client 50s\n"
	    "	timeout server 50s\n"
	    "frontend web\n"
	    "	bind fd@0\n"
	    "	default_backend tunnels\n"
	    "backend tunnels\n"
	    "	http-reuse always\n"
	    "	server httptun 127.0.0.1:%u\n", px.port));
	(void)close(lfd);
	way[0] = kit_str("poll://127.0.0.1:%u/", port);
	way[1] = NULL;
}

static void
tinyproxy(void)
{
	way[0] = kit_str("http://127.0.0.1:%u", kit_serve(&kit_tinyproxy,
	    NULL));
	way[1] = kit_str("poll://127.0.0.1:%u/", px.port);
}

static struct kit_proc *
start_squid(const struct kit_opt *opt, unsigned port, const char *cred)
{
	(void)cred;
	peer = kit_squid(opt, port, "http_access allow all\n"
	    "max_filedescriptors 512\n");
	return peer;
}

static void
squid(void)
{
	static const struct kit_service service = { "squid",
	    "Accepting HTTP Socket connections", "in use", start_squid };

	way[0] = kit_str("http://127.0.0.1:%u", kit_serve(&service, NULL));
	way[1] = kit_str("poll://127.0.0.1:%u/some/where", px.port);
}

struct between {
	void	(*start)(void);
};

/* `httptun -l` beyond it, and a target. */
static void
beyond(const struct between *b)
{
	peer = NULL;
	tl = kit_listen(AF_INET, &tport);
	kit_proxy(&px, "-v", "127.0.0.1", "0", NONE);
	b->start();
}

/* Waits until it has seen the end of so many tunnels to this port. */
static void
ended(unsigned port, int n)
{
	const char *line = kit_str(" 127.0.0.1:%u 200 ", port), *s;
	int64_t end = kit_now() + kit_patience();
	int i;

	for (;;) {
		s = kit_err(px.proc);
		for (i = 0; (s = strstr(s, line)) != NULL; i++)
			s++;
		if (i == n)
			return;
		if (i > n || kit_now() > end)
			kit_fail("%d tunnels have ended and not %d", i, n);
		(void)poll(NULL, 0, 5);
	}
}

/* Once what keeps connections has gone, all is as it was. */
static void
over(void)
{
	if (peer != NULL)
		end_peer();
	kit_proxy_settles(&px);
}


/* ---- tunnels ------------------------------------------------------------- */

/* stdin/stdout, or this -L, to the target */
static struct kit_proc *
client(const char *local)
{
	static const struct kit_opt quiet = { .in = KIT_NULL };
	const char *argv[16];
	size_t i, n = 0;

	argv[n++] = kit_binary();
	for (i = 0; i < KIT_COUNT(way) && way[i] != NULL; i++) {
		argv[n++] = "-x";
		argv[n++] = way[i];
	}
	argv[n++] = local != NULL ? "-L" : "127.0.0.1";
	argv[n++] = local != NULL ? kit_str("%s:127.0.0.1:%u", local, tport) :
	    kit_str("%u", tport);
	argv[n] = NULL;
	return kit_startv(local != NULL ? &quiet : NULL, argv);
}

/* One direction to its end, then the other one. */
static void
finish(struct kit_proc *p, int from, int to, int answer_from, int answer_to)
{
	kit_last_words(from, to, MB / 5, 3);
	kit_last_words(answer_from, answer_to, MB / 5, 4);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

static void
both_ways(void **state)
{
	struct kit_proc *p;
	int t;

	beyond(*state);
	p = client(NULL);
	t = kit_accept(tl);
	kit_talk(p, t, BULK);
	finish(p, p->in, t, t, p->out);
	(void)close(t);
	p = client(NULL);
	t = kit_accept(tl);
	finish(p, t, p->out, p->in, t);
	(void)close(t);
	over();
}

static void
many(void **state)
{
	struct kit_proxy local;
	struct kit_pair p[MANY];
	size_t i;

	beyond(*state);
	kit_proxy_is(&local, client("127.0.0.1:0"));
	for (i = 0; i < MANY; i++) {
		p[i].c = kit_client(&local);
		p[i].t = kit_accept(tl);
	}
	for (i = 0; i < MANY; i++)
		kit_parts(p[i], i % KIT_WAYS, i / KIT_WAYS % 2);
	kit_proxy_settles(&local);
	over();
}

/* The server's own words come through, and nothing of them to stdout. */
static void
refused(void **state)
{
	const char *gw;

	beyond(*state);
	tport = kit_nobody(AF_INET);
	gw = way[way[1] != NULL];
	kit_refused(client(NULL), kit_str("httptun: %.*s: 502 ",
	    (int)strcspn(gw + 7, "/"), gw + 7));
	over();
}

static void
broken(void **state)
{
	struct kit_proc *p;
	int t;

	beyond(*state);
	p = client(NULL);
	t = kit_accept(tl);
	kit_puts(p->in, "up");
	kit_expect(t, "up");
	kit_reset(t);
	kit_eof(p->out);
	kit_exits(p, 1);

	p = client(NULL);
	t = kit_accept(tl);
	kit_puts(t, "down");
	kit_expect(p->out, "down");
	(void)kill(p->pid, SIGTERM);
	kit_exits(p, -SIGTERM);
	kit_expect_reset(t);
	over();
}

static void
ssh(void **state)
{
	const char *proxy;
	struct kit_proc *p;
	unsigned port;

	beyond(*state);
	proxy = kit_str("ProxyCommand=%s -x %s%s%s %%h %%p", kit_binary(),
	    way[0], way[1] != NULL ? " -x " : "", way[1] != NULL ? way[1] :
	    "");
	port = kit_serve(&kit_sshd, NULL);
	kit_ssh_runs(proxy, port);
	p = kit_ssh(proxy, port, "cat");
	kit_last_words(p->in, p->out, BULK, 5);
	kit_exits(p, 0);
	kit_err_is(p, "");
	/* ssh does not wait for who was its connection */
	ended(port, 2);
	over();
}

/* Bodies are as long as it lets them be. */
static void
limited(void **state)
{
	struct kit_proc *p;
	int t;

	beyond(*state);
	p = client(NULL);
	t = kit_accept(tl);
	kit_talk(p, t, MB / 4);
	kit_err_wait(peer, "client intended to send too large body");
	finish(p, p->in, t, t, p->out);
	over();
}

/* A GET that brings nothing for so long is its own 504. */
static void
timed_out(void **state)
{
	struct kit_proc *p;
	int t;

	beyond(*state);
	p = client(NULL);
	t = kit_accept(tl);
	kit_talk(p, t, MB / 4);
	kit_err_wait(peer, "upstream timed out");
	kit_talk(p, t, MB / 4);
	finish(p, t, p->out, p->in, t);
	over();
}

/* All its connections are gone with it, and the tunnel is not. */
static void
restarted(void **state)
{
	struct kit_proc *p;
	int i, t;

	beyond(*state);
	p = client(NULL);
	t = kit_accept(tl);
	for (i = 0; i < 3; i++) {
		kit_talk(p, t, MB / 4);
		kit_puts(t, "here");
		kit_expect(p->out, "here");
		end_peer();
		run_nginx();
	}
	finish(p, p->in, t, t, p->out);
	over();
}

/* nginx asks for a password, and nobody behind it does. */
static void
locked(void **state)
{
	struct kit_proc *p;
	int i, t;

	(void)state;
	(void)kit_file("users", 0600, "al:{PLAIN}open\n");
	tl = kit_listen(AF_INET, &tport);
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	nginx_at("/locked/");
	p = client(NULL);
	kit_exits(p, 1);
	kit_eof(p->out);
	kit_err_has(p, kit_str("httptun: 127.0.0.1:%u: 401 ", nginx_port));
	kit_untouched(tl);
	for (i = 0; i < 2; i++) {
		p = kit_httptun(NULL, "-A", i == 0 ? "basic" : "any", "-x",
		    kit_str("poll://al:open@127.0.0.1:%u/locked/",
		    nginx_port), "127.0.0.1", kit_str("%u", tport), NONE);
		t = kit_accept(tl);
		kit_talk(p, t, MB / 4);
		finish(p, p->in, t, t, p->out);
		(void)close(t);
	}
	over();
}

/* The proxy's, and those of the server beyond it. */
static void
credentials(void **state)
{
	const char *corp;
	struct kit_proc *p;
	int i, t;

	(void)state;
	peer = NULL;
	tl = kit_listen(AF_INET, &tport);
	kit_proxy(&px, "-a", kit_file("users", 0600, "al:o:p e%n\n"),
	    "127.0.0.1", "0", NONE);
	corp = kit_str("bob:sesame@127.0.0.1:%u", kit_serve(&kit_tinyproxy,
	    "bob:sesame"));
	for (i = 0; i < 2; i++) {
		way[0] = kit_str("http://%s", corp);
		way[1] = kit_str("poll://al:%s@127.0.0.1:%u/", i == 0 ?
		    "open" : "o%3ap%20e%25n", px.port);
		p = client(NULL);
		if (i == 0) {
			kit_exits(p, 1);
			kit_eof(p->out);
			kit_err_has(p, kit_str("httptun: 127.0.0.1:%u: 401 ",
			    px.port));
			kit_untouched(tl);
			continue;
		}
		t = kit_accept(tl);
		kit_talk(p, t, MB / 4);
		finish(p, p->in, t, t, p->out);
	}
	kit_proxy_settles(&px);
}


/* ---- all of them --------------------------------------------------------- */

#define CASE(name, f, row) { name, f, kit_setup, kit_teardown, row }
#define EACH(f)								\
    CASE("nginx: " #f, f, &betweens[0]),				\
    CASE("nginx, kept connections: " #f, f, &betweens[1]),		\
    CASE("haproxy: " #f, f, &betweens[2]),				\
    CASE("tinyproxy: " #f, f, &betweens[3]),				\
    CASE("squid: " #f, f, &betweens[4])

int
main(void)
{
	static struct between betweens[] = {
		{ nginx }, { nginx_kept }, { haproxy }, { tinyproxy },
		{ squid }, { nginx_small }, { nginx_hasty },
	};
	static const struct CMUnitTest between[] = {
		EACH(both_ways),
		EACH(many),
		EACH(refused),
		EACH(broken),
		EACH(ssh),
		CASE("nginx: limited", limited, &betweens[5]),
		CASE("nginx: timed_out", timed_out, &betweens[6]),
		CASE("nginx: restarted", restarted, &betweens[1]),
		KIT_TEST(locked),
		KIT_TEST(credentials),
	};

	return cmocka_run_group_tests(between, NULL, NULL);
}
