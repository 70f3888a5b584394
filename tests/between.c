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

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
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

/* Gives it a socket that listens already as its stdin. */
static void
hand_over(int lfd, const char *const *env, const char *const *argv)
{
	struct kit_opt opt = { .out = KIT_NULL, .newsid = 1 };

	opt.in = lfd;
	opt.env = env;
	peer = kit_startv(&opt, argv);
	kit_group(peer);
}

/* All of it, at once. */
static void
end_peer(void)
{
	(void)kill(-peer->pid, SIGKILL);
	kit_done(peer);
}

/* Buffering is what it does anyway, and HTTP/1.0 is what it speaks anyway. */
static const char nginx_conf[] =
    "%s"
    "daemon off;\n"
    "pid pid;\n"
    "error_log stderr warn;\n"
    "events { worker_connections 512; }\n"
    "http {\n"
    "	access_log off;\n"
    "	client_body_temp_path body;\n"
    "	proxy_temp_path proxy;\n"
    "	fastcgi_temp_path fastcgi;\n"
    "	uwsgi_temp_path uwsgi;\n"
    "	scgi_temp_path scgi;\n"
    "	upstream kept { server 127.0.0.1:%u; keepalive 4; }\n"
    "	server {\n"
    "		listen 127.0.0.1:%u;\n"
    "		proxy_request_buffering on;\n"
    "		proxy_buffering on;\n"
    "		location /tunnel/ { proxy_pass http://127.0.0.1:%u; }\n"
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
    "	}\n"
    "}\n";

static int	 nginx_fd;
static unsigned	 nginx_port;

static void
run_nginx(void)
{
	static const char *const env[] = { "NGINX=0;", NULL };
	const char *argv[] = { "/usr/sbin/nginx", "-e", "stderr", "-p",
	    kit_path("."), "-c", NULL, NULL };

	/* or its workers are somebody else, to whom our files are closed */
	argv[6] = kit_file("nginx_conf", 0600, kit_str(nginx_conf,
	    geteuid() == 0 ? "user root;\n" : "", px.port, nginx_port,
	    px.port));
	hand_over(nginx_fd, env, argv);
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
	const char *argv[] = { "/usr/sbin/haproxy", "-db", "-f", NULL, NULL };
	unsigned port;
	int lfd = kit_listen(AF_INET, &port);

	argv[3] = kit_file("haproxy_conf", 0600, kit_str("global\n"
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
	hand_over(lfd, NULL, argv);
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

/* No cache, no files: one process, that speaks on stderr. */
static struct kit_proc *
start_squid(const struct kit_opt *opt, unsigned port, const char *cred)
{
	(void)cred;
	/* it runs as somebody else, who has to get at the file */
	(void)chmod(kit_path("."), 0711);
	peer = kit_start(opt, "/usr/sbin/squid", "-N", "-d", "1", "-n",
	    kit_str("httptun%ld", (long)getpid()), "-f",
	    kit_file("squid_conf", 0644, kit_str(
	    "http_port 127.0.0.1:%u\nhttp_access allow all\n"
	    "cache deny all\ncache_mem 1 MB\nmemory_cache_shared off\n"
	    "cache_log /dev/null\naccess_log none\npid_filename none\n"
	    "netdb_filename none\ncoredump_dir none\npinger_enable off\n"
	    "dns_nameservers 127.0.0.1\nmax_filedescriptors 512\n"
	    "cache_effective_user proxy\n", port)), NONE);
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

/* Its lines of shared memory are not the next one's. */
static int
between_teardown(void **state)
{
	static const char *const shm[] = { "metadata", "queues", "readers" };
	char name[64];
	size_t i;
	int ret = kit_teardown(state);

	for (i = 0; i < KIT_COUNT(shm); i++) {
		(void)snprintf(name, sizeof(name), "/httptun%ld-cf__%s.shm",
		    (long)getpid(), shm[i]);
		(void)shm_unlink(name);
	}
	return ret;
}

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

/* Both directions at once. */
static void
talk(const struct kit_proc *p, int t, uint64_t bytes)
{
	struct kit_stream s[] = {
		{ .fd = p->in, .dir = KIT_OUT, .bytes = bytes, .seed = 1 },
		{ .fd = t, .dir = KIT_IN, .bytes = bytes, .seed = 1 },
		{ .fd = t, .dir = KIT_OUT, .bytes = bytes, .seed = 2 },
		{ .fd = p->out, .dir = KIT_IN, .bytes = bytes, .seed = 2 },
	};

	kit_pump(s, KIT_COUNT(s));
}

/* One direction to its end, then the other one. */
static void
finish(struct kit_proc *p, int from, int to, int answer_from, int answer_to)
{
	struct kit_stream s[] = {
		{ .fd = from, .dir = KIT_OUT, .seed = 3, .end = 1 },
		{ .fd = to, .dir = KIT_IN, .seed = 3, .end = 1 },
		{ .fd = answer_from, .dir = KIT_OUT, .seed = 4, .end = 1 },
		{ .fd = answer_to, .dir = KIT_IN, .seed = 4, .end = 1 },
	};
	size_t i;

	for (i = 0; i < KIT_COUNT(s); i++)
		s[i].bytes = MB / 5;
	kit_pump(s, 2);
	kit_pump(&s[2], 2);
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
	talk(p, t, BULK);
	finish(p, p->in, t, t, p->out);
	(void)close(t);
	p = client(NULL);
	t = kit_accept(tl);
	finish(p, t, p->out, p->in, t);
	(void)close(t);
	over();
}

/* It carries, and ends as one of its ends does. */
static void
short_tunnel(struct kit_pair p, enum kit_way how, int from_client)
{
	int first = from_client ? p.c : p.t, second = from_client ? p.t : p.c;

	kit_carries(p);
	kit_vanish(first, how);
	if (how == KIT_WAY_RESET)
		kit_expect_reset(second);
	else
		kit_eof(second);
	if (how == KIT_WAY_HALF) {
		kit_puts(second, "and this");
		kit_half_close(second);
		kit_expect(first, "and this");
		kit_eof(first);
		(void)close(first);
	}
	(void)close(second);
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
		short_tunnel(p[i], i % KIT_WAYS, i / KIT_WAYS % 2);
	kit_proxy_settles(&local);
	over();
}

/* The server's own words come through, and nothing of them to stdout. */
static void
refused(void **state)
{
	const char *line, *gw;
	struct kit_proc *p;

	beyond(*state);
	tport = kit_nobody(AF_INET);
	p = client(NULL);
	kit_exits(p, 1);
	kit_eof(p->out);
	gw = way[way[1] != NULL];
	line = kit_str("httptun: %.*s: 502 ", (int)strcspn(gw + 7, "/"),
	    gw + 7);
	if (strncmp(kit_err(p), line, strlen(line)) != 0 ||
	    strchr(kit_err(p), '\n') != kit_err(p) + strlen(kit_err(p)) - 1)
		kit_fail("<<%s>> and not one line <<%s...>>", kit_err(p),
		    line);
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
	struct kit_stream s[] = {
		{ .dir = KIT_OUT, .bytes = BULK, .seed = 5, .end = 1 },
		{ .dir = KIT_IN, .bytes = BULK, .seed = 5, .end = 1 },
	};
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
	s[0].fd = p->in;
	s[1].fd = p->out;
	kit_pump(s, 2);
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
	talk(p, t, MB / 4);
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
	talk(p, t, MB / 4);
	kit_err_wait(peer, "upstream timed out");
	talk(p, t, MB / 4);
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
		talk(p, t, MB / 4);
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
		talk(p, t, MB / 4);
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
		talk(p, t, MB / 4);
		finish(p, p->in, t, t, p->out);
	}
	kit_proxy_settles(&px);
}


/* ---- all of them --------------------------------------------------------- */

#define CASE(name, f, row) { name, f, kit_setup, between_teardown, row }
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
