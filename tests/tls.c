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
 * TLS at any hop, by openssl s_client and by other commands: through HAProxy
 * and nginx that speak it in front of `httptun -l`, with certificates of the
 * test's own; what is wrong with a certificate or a server; and that nothing
 * of the command is ever left, neither a process nor its socket.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define NONE	((char *)NULL)
#define HOST	"target.example"	/* never looked up */
#define PORT	"5432"
#define OKAY	"HTTP/1.1 200 OK\r\n\r\n"
#define MB	1000000
#define BULK	(5 * MB)	/* both ways at once */
#define SOME	(MB / 5)
#define STUFFED	50		/* ms in which nothing more has gone */
#define PEAK	8192		/* KiB that the program may ever take */
#define MANY	5
#define CROWD	40
#define AT_ONCE	50		/* programs that are killed so */

/* A command that only joins the two sides: TLS in name.  It keeps its stdout
 * open until all is over. */
#define JOIN	"exec socat -t 60 - UNIX-CONNECT:%s"

/* `httptun -l`, TLS in front of it, and a target. */
static struct kit_proxy	px;
static unsigned		front;
static struct kit_proc	*haproxy;
static int		tl;
static unsigned		tport;

/* Whom the program trusts, and where it makes its directories. */
static const char	*ca;
static const char	*tmp;
static const char	*env[8];
static struct kit_opt	 opt = { .env = env };


/* ---- what nearly every test does ----------------------------------------- */

/* A directory that has to be empty in the end, and an issuer. */
static void
trust(void)
{
	tmp = kit_path("tmp");
	if (mkdir(tmp, 0755) == -1)
		kit_fail("%s: %s", tmp, strerror(errno));
	ca = kit_ca("ca");
	memset(env, 0, sizeof(env));
	env[0] = kit_str("SSL_CERT_FILE=%s", ca);
	env[1] = kit_str("TMPDIR=%s", tmp);
}

/* The command shall be this one. */
static void
by(const char *command)
{
	env[2] = command != NULL ? kit_str("HTTPTUN_TLS=%s", command) : NULL;
}

static void
target(void)
{
	tl = kit_listen(AF_INET, &tport);
}

/* All of it, with such a certificate. */
static void
gateway(const char *names, const char *bind)
{
	trust();
	target();
	kit_proxy(&px, "-4", "127.0.0.1", "0", NONE);
	haproxy = kit_tls(kit_cert(ca, names, 2), bind, px.port, &front);
}

static const char *
at(const char *scheme, unsigned port)
{
	return kit_str("%s://localhost:%u", scheme, port);
}

/* stdin/stdout to the target through these hops (NULL) */
static struct kit_proc *
bridge(const char *hop, ...)
{
	struct kit_proc *p;
	va_list ap;

	va_start(ap, hop);
	p = kit_bridge(&opt, "-4", tport, hop, ap);
	va_end(ap);
	return p;
}

/* a local port to the target through this hop */
static struct kit_proc *
local(const char *hop)
{
	return kit_httptun(&opt, "-4", "-x", hop, "-L",
	    kit_str("127.0.0.1:0:127.0.0.1:%u", tport), NONE);
}

/* httptun -l through this hop */
static void
relay(struct kit_proxy *r, const char *hop)
{
	kit_proxy_is(r, kit_httptun(&opt, "-4", "-x", hop, "-l", "127.0.0.1",
	    "0", NONE));
}

/* What it keeps for all further commands, a process, is there once it had one,
 * which may still be ending. */
static void
used(struct kit_proxy *r)
{
	struct kit_figure keeper = r->idle;

	keeper.procs++;
	keeper.fds = INT_MAX;
	kit_returns(r->proc, &keeper);
	kit_rests(r->proc);
	kit_figure(r->proc->pid, &r->idle);
	r->npids = kit_processes(r->proc->pid, r->pids,
	    (int)KIT_COUNT(r->pids));
}

/* how many names there are in a directory */
static int
names_in(const char *dir)
{
	struct dirent *e;
	DIR *d = opendir(dir);
	int n = 0;

	if (d == NULL)
		kit_fail("%s: %s", dir, strerror(errno));
	while ((e = readdir(d)) != NULL)
		n += strcmp(e->d_name, ".") != 0 &&
		    strcmp(e->d_name, "..") != 0;
	closedir(d);
	return n;
}

static void
no_socket_left(void)
{
	int n = names_in(tmp);

	if (n != 0)
		kit_fail("%d names are left in %s", n, tmp);
}

/* It says nothing itself; what openssl says of a certificate that it takes is
 * nobody's. */
static void
silent(struct kit_proc *p)
{
	if (kit_said(p, "httptun: ") !=
	    kit_said(p, "httptun: listening on "))
		kit_fail("it says <<%s>>", kit_err(p));
}

/* Not opened: nothing on stdout, one line of its own, that begins so. */
static void
refused(struct kit_proc *p, const char *line)
{
	kit_exits(p, 1);
	kit_eof(p->out);
	kit_err_has(p, line);
	if (kit_said(p, "httptun: ") != 1)
		kit_fail("not one line: <<%s>>", kit_err(p));
	no_socket_left();
}

/* A hop is to blame. */
static void
blames(struct kit_proc *p, unsigned port)
{
	refused(p, kit_str("httptun: localhost:%u: ", port));
}

static void
client_first(struct kit_proc *p, int t)
{
	kit_last_words(p->in, t, SOME, 3);
	kit_last_words(t, p->out, SOME, 4);
	kit_exits(p, 0);
	silent(p);
}

static void
target_first(struct kit_proc *p, int t)
{
	kit_last_words(t, p->out, SOME, 5);
	kit_last_words(p->in, t, SOME, 6);
	kit_exits(p, 0);
	silent(p);
}

/* All that TLS can say is its end. */
static void
target_only(struct kit_proc *p, int t)
{
	kit_last_words(t, p->out, SOME, 5);
	kit_exits(p, 0);
	silent(p);
	(void)kit_until_end(t);
}

/* What comes next is a TLS ClientHello. */
static void
hello(int fd)
{
	unsigned char head[6];

	kit_recv(fd, head, sizeof(head));
	if (head[0] != 0x16 || head[1] != 3 || head[5] != 1)
		kit_fail("no ClientHello: %02x %02x", head[0], head[1]);
}


/* ---- what goes through --------------------------------------------------- */

/* Through these hops.  A WebSocket and a session carry a half-close inside
 * TLS; a session may connect anew at any time. */
static void
carries(const char *a, const char *b, int half_close)
{
	struct kit_proc *p;
	int t;

	kit_note("%s, then %s", a, b != NULL ? b : "none");
	p = bridge(a, b, NONE);
	t = kit_accept(tl);
	kit_talk(p, t, BULK);
	if (!half_close) {
		no_socket_left();
		target_only(p, t);
		return;
	}
	client_first(p, t);
	p = bridge(a, b, NONE);
	target_first(p, kit_accept(tl));
}

static void
test_first_hop(void **state)
{
	(void)state;
	gateway("DNS:localhost", "");
	carries(at("https", front), NULL, 0);
	carries(at("wss", front), NULL, 1);
	carries(at("polls", front), NULL, 1);
	no_socket_left();
	kit_proxy_settles(&px);
}

static void
test_second_hop(void **state)
{
	const char *first;

	(void)state;
	gateway("DNS:localhost", "");
	first = kit_str("http://127.0.0.1:%u", px.port);
	carries(first, at("https", front), 0);
	carries(first, at("wss", front), 1);
	carries(first, at("polls", front), 1);
	/* and where the first one is itself no bare connection */
	carries(kit_str("ws://127.0.0.1:%u", px.port), at("wss", front), 1);
	carries(kit_str("exec:exec %s %%h %%p", kit_binary()),
	    at("https", front), 0);
	no_socket_left();
	kit_proxy_settles(&px);
}

static void
test_before_a_hop(void **state)
{
	const char *first;

	(void)state;
	gateway("DNS:localhost", "");
	first = at("https", front);
	carries(first, kit_str("http://127.0.0.1:%u", px.port), 0);
	carries(first, kit_str("ws://127.0.0.1:%u", px.port), 1);
	carries(first, kit_str("poll://127.0.0.1:%u", px.port), 1);
	carries(at("wss", front), kit_str("http://127.0.0.1:%u", px.port), 1);
	no_socket_left();
	kit_proxy_settles(&px);
}

static void
test_inside_itself(void **state)
{
	(void)state;
	gateway("DNS:localhost", "");
	carries(at("https", front), at("https", front), 0);
	carries(at("wss", front), at("wss", front), 1);
	no_socket_left();
	kit_proxy_settles(&px);
}

/* The end of stdin is where it ends; the other way goes on. */
static void
test_end_of_stdin(void **state)
{
	struct kit_proc *p;
	int t;

	(void)state;
	gateway("DNS:localhost", "");
	p = bridge(at("https", front), NONE);
	t = kit_accept(tl);
	kit_puts(p->in, "question");
	kit_half_close(p->in);
	kit_expect(t, "question");
	kit_rests(p);
	kit_silent(t, 0);
	assert_true(kit_alive(p));
	kit_last_words(t, p->out, SOME, 1);
	kit_exits(p, 0);
	silent(p);
	(void)kit_until_end(t);

	/* one that is over before it is open */
	p = bridge(at("https", front), NONE);
	kit_half_close(p->in);
	t = kit_accept(tl);
	kit_puts(t, "hello");
	kit_expect(p->out, "hello");
	kit_half_close(t);
	kit_eof(p->out);
	kit_exits(p, 0);
	silent(p);
	kit_proxy_settles(&px);
}

/* nginx, as its documentation sets it up for WebSockets. */
static void
test_nginx(void **state)
{
	const char *cert;
	unsigned port;
	int lfd;

	(void)state;
	trust();
	target();
	kit_proxy(&px, "-4", "127.0.0.1", "0", NONE);
	cert = kit_cert(ca, "DNS:localhost", 2);
	lfd = kit_listen(AF_INET, &port);
	(void)kit_nginx(lfd, kit_str(
	    "	server {\n"
	    "		listen 127.0.0.1:%u ssl;\n"
	    "		ssl_certificate %s;\n"
	    "		ssl_certificate_key %s.key;\n"
	    "		location /tunnel/ {\n"
	    "			proxy_pass http://127.0.0.1:%u;\n"
	    "			proxy_http_version 1.1;\n"
	    "			proxy_set_header Upgrade $http_upgrade;\n"
	    "			proxy_set_header Connection upgrade;\n"
	    "		}\n"
	    "		location /poll/ {\n"
	    "			proxy_pass http://127.0.0.1:%u;\n"
	    "			proxy_http_version 1.1;\n"
	    "			client_max_body_size 1m;\n"
	    "		}\n"
	    "	}\n", port, cert, cert, px.port, px.port));
	(void)close(lfd);
	carries(kit_str("wss://localhost:%u/tunnel/", port), NULL, 1);
	carries(kit_str("polls://localhost:%u/poll/", port), NULL, 1);
	no_socket_left();
	kit_proxy_settles(&px);
}

/* Who sends is stopped, in either direction, and no memory grows. */
static void
test_stalled(void **state)
{
	struct kit_stream s[4] = {
		{ .dir = KIT_OUT, .bytes = 300 * MB, .seed = 7 },
		{ .dir = KIT_IN, .seed = 7 },
		{ .dir = KIT_OUT, .bytes = 300 * MB, .seed = 8 },
		{ .dir = KIT_IN, .seed = 8 },
	};
	struct kit_proc *p;
	int i, t;

	(void)state;
	gateway("DNS:localhost", "");
	p = bridge(at("https", front), NONE);
	t = kit_accept(tl);
	s[0].fd = p->in;
	s[1].fd = s[2].fd = t;
	s[3].fd = p->out;
	for (i = 0; i < 4; i += 2) {
		kit_stalls(&s[i], 4 * STUFFED);
		kit_idle(p);
		if (!kit_sanitized() && kit_status(p->pid, "VmHWM") >= PEAK)
			kit_fail("%ld KiB", kit_status(p->pid, "VmHWM"));
		s[i].bytes = s[i + 1].bytes = s[i].done + MB;
		kit_pump(s + i, 2);
	}
	target_only(p, t);
	kit_proxy_settles(&px);
}

/* The password goes inside; the command knows nothing of it. */
static void
test_credentials(void **state)
{
	static const char *const secrets[] = { "s3cret", "czNjcmV0" };
	struct kit_proc *p;
	pid_t pids[8];
	const char *file[2];
	char buf[65536];
	size_t i, k, len;
	int fd, j, n, t;

	(void)state;
	trust();
	target();
	kit_proxy(&px, "-4", "-a", kit_file("users", 0600, "user:s3cret\n"),
	    "127.0.0.1", "0", NONE);
	(void)kit_tls(kit_cert(ca, "DNS:localhost", 2), "", px.port, &front);
	env[2] = "HTTPTUN_AUTH=user:s3cret";
	p = kit_httptun(&opt, "-4", "-vv", "-x", at("https", front), "-x",
	    kit_str("https://user:s3cret@localhost:%u", front), "127.0.0.1",
	    kit_str("%u", tport), NONE);
	t = kit_accept(tl);
	kit_talk(p, t, SOME);
	n = kit_processes(p->pid, pids, (int)KIT_COUNT(pids));
	assert_true(n >= 3);
	for (j = 0; j < n; j++) {
		file[0] = kit_str("/proc/%ld/cmdline", (long)pids[j]);
		file[1] = kit_str("/proc/%ld/environ", (long)pids[j]);
		/* our own is what we were given */
		for (i = 0; i < (j == 0 ? 1 : 2); i++) {
			assert_true((fd = open(file[i], O_RDONLY)) != -1);
			len = kit_slurp(fd, buf, sizeof(buf));
			(void)close(fd);
			for (k = 0; k < len; k++)
				if (buf[k] == '\0')
					buf[k] = ' ';
			if (strstr(buf, "s3cret") != NULL)
				kit_fail("%s: <<%s>>", file[i], buf);
		}
	}
	kit_last_words(t, p->out, SOME, 5);
	kit_exits(p, 0);
	for (i = 0; i < KIT_COUNT(secrets); i++)
		if (strstr(kit_err(p), secrets[i]) != NULL)
			kit_fail("the log: <<%s>>", kit_err(p));

	env[2] = NULL;
	refused(bridge(kit_str("https://user:wr0ng@localhost:%u", front),
	    NONE), kit_str("httptun: localhost:%u: 407 ", front));
	refused(bridge(kit_str("wss://user:wr0ng@localhost:%u", front), NONE),
	    kit_str("httptun: localhost:%u: 401 ", front));
	kit_proxy_settles(&px);
}


/* ---- certificates -------------------------------------------------------- */

/* Each scheme, alone and behind another hop, finds fault with a server that
 * has this certificate in front of a port. */
static void
finds_fault(const char *cert, unsigned clear, const char *fault)
{
	static const char *const schemes[] = { "https", "wss", "polls" };
	struct kit_proc *p;
	unsigned port;
	size_t i;

	(void)kit_tls(cert, "", clear, &port);
	for (i = 0; i < KIT_COUNT(schemes); i++) {
		kit_note("%s, %s", schemes[i], fault);
		p = bridge(at(schemes[i], port), NONE);
		blames(p, port);
		kit_err_has(p, fault);
	}
	p = bridge(kit_str("http://127.0.0.1:%u", px.port),
	    at("https", port), NONE);
	blames(p, port);
	kit_err_has(p, fault);
}

static void
test_certificates(void **state)
{
	struct kit_proc *p;
	const char *good;
	unsigned clear, port;
	int lfd;

	(void)state;
	trust();
	target();
	kit_proxy(&px, "-4", "127.0.0.1", "0", NONE);
	lfd = kit_listen(AF_INET, &clear);
	finds_fault(kit_cert(ca, "DNS:other.example,DNS:local,"
	    "DNS:*.localhost", 2), clear, "mismatch");
	finds_fault(kit_cert(ca, "DNS:localhost", -1), clear, "expired");
	good = kit_cert(ca, "DNS:other.example,DNS:localhost", 2);
	(void)kit_tls(good, "", px.port, &port);
	env[0] = kit_str("SSL_CERT_FILE=%s", kit_ca("another"));
	finds_fault(good, clear, "issuer");
	kit_untouched(lfd);

	/* the same is good enough for who trusts its issuer */
	env[0] = kit_str("SSL_CERT_FILE=%s", ca);
	p = bridge(at("https", port), NONE);
	target_only(p, kit_accept(tl));
	kit_proxy_settles(&px);
}

/* The server is told which name is meant, and serves no other. */
static void
test_server_name(void **state)
{
	struct kit_proc *p;

	(void)state;
	gateway("DNS:localhost", "strict-sni");
	p = bridge(at("https", front), NONE);
	target_only(p, kit_accept(tl));
	p = bridge(at("https", front), at("wss", front), NONE);
	target_first(p, kit_accept(tl));
	/* that this could fail */
	by("openssl s_client -quiet -noservername -unix %s");
	blames(bridge(at("https", front), NONE), front);
	kit_proxy_settles(&px);
}

/* In each mode it is one tunnel that is not opened. */
static void
test_certificate_of_many(void **state)
{
	struct kit_proxy r;
	struct kit_proc *p;
	unsigned port;
	int c, fds = 0, family = 0, i;

	(void)state;
	gateway("DNS:other.example", "");
	p = local(at("https", front));
	port = kit_listening(p, 0);
	for (i = 1; i <= 3; i++) {
		c = kit_connect(AF_INET, port);
		kit_ends(c);
		if (i > 1)
			kit_settles(p, fds, family);
		kit_rests(p);
		fds = kit_fds(p->pid);
		family = kit_family(p->pid, NULL, 0);
		if (kit_said(p, kit_str("httptun: localhost:%u: ", front)) !=
		    i)
			kit_fail("%d, but <<%s>>", i, kit_err(p));
	}
	no_socket_left();

	relay(&r, at("https", front));
	for (i = 0; i < 2; i++) {
		c = kit_ask(&r, kit_request_to(tport));
		(void)kit_refusal(c, 502, "", KIT_EITHER);
		(void)close(c);
		if (i == 0)
			used(&r);
		kit_proxy_settles(&r);
	}
	no_socket_left();
	kit_untouched(tl);
	kit_proxy_settles(&px);
}


/* ---- servers that are none ----------------------------------------------- */

static void
test_no_tls(void **state)
{
	struct kit_proc *p;
	unsigned port;
	int c, lfd;

	(void)state;
	trust();
	target();
	kit_proxy(&px, "-4", "127.0.0.1", "0", NONE);
	blames(bridge(at("https", px.port), NONE), px.port);
	blames(bridge(at("wss", px.port), NONE), px.port);
	blames(bridge(at("polls", px.port), NONE), px.port);
	kit_untouched(tl);

	lfd = kit_listen(AF_INET, &port);
	p = bridge(at("https", port), NONE);
	c = kit_accept(lfd);
	hello(c);
	(void)close(c);
	blames(p, port);
	p = bridge(at("https", port), NONE);
	c = kit_accept(lfd);
	hello(c);
	kit_reset(c);
	blames(p, port);
	p = bridge(at("https", port), NONE);
	kit_reset(kit_accept(lfd));
	blames(p, port);
	p = bridge(at("https", port), NONE);
	c = kit_accept(lfd);
	hello(c);
	kit_puts(c, "HTTP/1.1 200 OK\r\n\r\n220 hello\r\n");
	blames(p, port);
	/* no connection at all, also behind a hop, which then is to blame */
	port = kit_nobody(AF_INET);
	blames(bridge(at("https", port), NONE), port);
	refused(bridge(kit_str("http://127.0.0.1:%u", px.port),
	    at("https", port), NONE), kit_str("httptun: 127.0.0.1:%u: 502 ",
	    px.port));
	kit_proxy_settles(&px);
}

/* -w bounds the handshake too, and what waits behind it.  All wait at once. */
static void
test_silent_server(void **state)
{
	struct kit_proc *p[4];
	unsigned port, hole, behind;
	int c, i, lfd, sl;
	pid_t pids[8];
	int n = 0;

	(void)state;
	trust();
	target();
	lfd = kit_listen(AF_INET, &port);
	sl = kit_listen(AF_INET, &behind);
	(void)kit_tls(kit_cert(ca, "DNS:localhost", 2), "", behind, &front);
	kit_blackhole(&hole);
	p[0] = kit_httptun(&opt, "-4", "-w", "1", "-x", at("https", port),
	    HOST, PORT, NONE);
	c = kit_accept(lfd);
	hello(c);
	p[1] = kit_httptun(&opt, "-4", "-w", "1", "-x", at("wss", port),
	    HOST, PORT, NONE);
	hello(kit_accept(lfd));
	p[2] = kit_httptun(&opt, "-4", "-w", "1", "-x", at("https", hole),
	    HOST, PORT, NONE);
	p[3] = kit_httptun(&opt, "-4", "-w", "1", "-x", at("https", front),
	    HOST, PORT, NONE);
	(void)kit_accept(sl);
	for (i = 0; i < 4; i++)
		n += kit_family(p[i]->pid, pids + n,
		    (int)KIT_COUNT(pids) - n);
	assert_true(n >= 3);
	for (i = 0; i < 4; i++) {
		kit_exits(p[i], 1);
		kit_eof(p[i]->out);
		kit_err_has(p[i], kit_str("httptun: localhost:%u: ",
		    i < 2 ? port : i == 2 ? hole : front));
		if (kit_said(p[i], "httptun: ") != 1)
			kit_fail("not one line: <<%s>>", kit_err(p[i]));
	}
	for (i = 0; i < n && i < (int)KIT_COUNT(pids); i++)
		kit_gone(pids[i]);
	no_socket_left();
}


/* ---- other commands ------------------------------------------------------ */

/* What it is told, and where its socket is: a script says it on stderr. */
static void
test_command(void **state)
{
	const char *script, *said = kit_path("said"), *text;
	struct kit_proc *p;
	char dir[128], sock[128], buf[1024];
	int fd;

	(void)state;
	trust();
	target();
	kit_proxy(&px, "-4", "127.0.0.1", "0", NONE);
	script = kit_file("script", 0700, "#!/bin/sh\n"
	    "stat -c '%a %F %n' \"$(dirname \"$1\")\"\n"
	    "stat -c '%F %n' \"$1\"\n"
	    "shift; echo \"args $*\"\n");
	by(kit_str("%s %%s %%h '%%h' %%p 100%%%% >%s; %s", script, said,
	    JOIN));
	p = bridge(at("https", px.port), NONE);
	client_first(p, kit_accept(tl));
	no_socket_left();
	assert_true((fd = open(said, O_RDONLY)) != -1);
	(void)kit_slurp(fd, buf, sizeof(buf));
	if (sscanf(buf, "700 directory %127s\nsocket %127s\n", dir,
	    sock) != 2)
		kit_fail("it says <<%s>>", buf);
	if (strncmp(dir, tmp, strlen(tmp)) != 0 || dir[strlen(tmp)] != '/' ||
	    strchr(dir + strlen(tmp) + 1, '/') != NULL ||
	    strncmp(sock, dir, strlen(dir)) != 0)
		kit_fail("%s is not in %s, not in %s", sock, dir, tmp);
	text = kit_str("args localhost localhost %u 100%%\n", px.port);
	if (strstr(buf, text) == NULL)
		kit_fail("it says <<%s>>\n    without <<%s>>", buf, text);
	kit_proxy_settles(&px);
}

/* One that carries a half-close either way. */
static const char join[] =
    "import os, socket, sys, threading\n"
    "s = socket.socket(socket.AF_UNIX)\n"
    "s.connect(sys.argv[1])\n"
    "def up():\n"
    "    while data := os.read(0, 65536):\n"
    "        s.sendall(data)\n"
    "    s.shutdown(socket.SHUT_WR)\n"
    "t = threading.Thread(target=up)\n"
    "t.start()\n"
    "while data := s.recv(65536):\n"
    "    while data:\n"
    "        data = data[os.write(1, data):]\n"
    "os.close(1)\n"
    "t.join()\n";

/* The end of a direction passes where the command can say so. */
static void
test_commands(void **state)
{
	const char *commands[] = { JOIN, "exec nc -N -U %s", NULL };
	struct kit_proc *p;
	size_t i;
	int t;

	(void)state;
	trust();
	target();
	kit_proxy(&px, "-4", "127.0.0.1", "0", NONE);
	commands[2] = kit_str("exec python3 %s %%s",
	    kit_file("join", 0600, join));
	for (i = 0; i < KIT_COUNT(commands); i++) {
		kit_note("%s", commands[i]);
		by(commands[i]);
		p = bridge(at("https", px.port), NONE);
		t = kit_accept(tl);
		kit_talk(p, t, SOME);
		client_first(p, t);
	}
	p = bridge(at("https", px.port), NONE);
	target_first(p, kit_accept(tl));
	p = bridge(at("https", px.port), at("https", px.port), NONE);
	t = kit_accept(tl);
	kit_talk(p, t, SOME);
	target_first(p, t);
	no_socket_left();
	kit_proxy_settles(&px);
}

static void
test_failing_commands(void **state)
{
	static const char *const bad[] = {
		"/nonexistent/command %s", "exit 0 %s", "exit 1 # %s",
		"kill -9 $$ # %s", "'%s",
		"echo HTTP/1.1 200 # %s",
		"printf 'HTTP/1.1 200 OK\\r\\n\\r\\n220 hello' # %s",
		"socat -u /dev/null UNIX-CONNECT:%s; exit 0",
		"socat -u /dev/null UNIX-CONNECT:%s; exit 1",
		"socat - UNIX-CONNECT:%s </dev/null >/dev/null; exit 1",
	};
	struct kit_proc *p[2];
	pid_t pids[16];
	unsigned port;
	size_t i;
	int lfd, n;

	(void)state;
	trust();
	target();
	lfd = kit_listen(AF_INET, &port);
	for (i = 0; i < KIT_COUNT(bad); i++) {
		kit_note("%s", bad[i]);
		by(bad[i]);
		blames(bridge(at("https", port), NONE), port);
	}
	/* it hangs: before it has connected, or later */
	by("exec sleep 1000 # %s");
	p[0] = kit_httptun(&opt, "-4", "-w", "1", "-x", at("https", port),
	    HOST, PORT, NONE);
	(void)kit_accept(lfd);
	kit_rests(p[0]);
	by("trap '' TERM; socat -u /dev/null UNIX-CONNECT:%s; sleep 1000");
	p[1] = kit_httptun(&opt, "-4", "-w", "1", "-x", at("https", port),
	    HOST, PORT, NONE);
	(void)kit_until_end(kit_accept(lfd));
	n = kit_family(p[0]->pid, pids, 4);
	n += kit_family(p[1]->pid, pids + n, (int)KIT_COUNT(pids) - n);
	assert_true(n >= 3);
	for (i = 0; i < 2; i++)
		kit_exits(p[i], 1);
	for (i = 0; i < 2; i++)
		blames(p[i], port);
	while (n-- > 0)
		kit_gone(pids[n]);
	/* one that could never connect to us is a mistake of ours */
	by("exec openssl s_client -quiet");
	p[0] = bridge(at("https", port), NONE);
	kit_exits(p[0], 2);
	kit_eof(p[0]->out);
	kit_err_has(p[0], "httptun: HTTPTUN_TLS: ");
}

/* Where the socket cannot be, or its name is the shell's. */
static void
test_directory(void **state)
{
	const char *odd = kit_path("a b'c\"d$(echo x)`echo y`;e\\f"), *lost;
	const char *was;
	struct kit_proc *p;

	(void)state;
	gateway("DNS:localhost", "");
	was = env[1];
	env[1] = kit_str("TMPDIR=%s", kit_path("nonexistent"));
	p = bridge(at("https", front), NONE);
	blames(p, front);
	kit_err_has(p, kit_str(": %s: No such file or directory\n",
	    kit_path("nonexistent")));
	kit_untouched(tl);
	/* too long for a socket's name: it is elsewhere */
	lost = kit_path(kit_times(12, "directory"));
	if (mkdir(lost, 0700) == -1)
		kit_fail("%s: %s", lost, strerror(errno));
	env[1] = kit_str("TMPDIR=%s", lost);
	p = bridge(at("https", front), NONE);
	target_only(p, kit_accept(tl));
	assert_int_equal(names_in(lost), 0);

	if (mkdir(odd, 0700) == -1)
		kit_fail("%s: %s", odd, strerror(errno));
	env[1] = kit_str("TMPDIR=%s", odd);
	p = bridge(at("https", front), NONE);
	target_only(p, kit_accept(tl));
	assert_int_equal(names_in(odd), 0);
	/* empty is unset; there it is /tmp, where others are */
	env[1] = "TMPDIR=";
	p = bridge(at("https", front), NONE);
	target_only(p, kit_accept(tl));
	env[1] = was;
	kit_proxy_settles(&px);
}

static void
test_usage(void **state)
{
	struct kit_opt sock = { .in = KIT_NULL, .out = KIT_SOCK, .env = env };
	struct kit_proc *p;

	(void)state;
	gateway("DNS:localhost", "");
	/* the socket alone would not be the tunnel */
	p = kit_httptun(&sock, "-4", "-F", "-x", at("https", front), HOST,
	    PORT, NONE);
	kit_exits(p, 2);
	kit_eof(p->out);
	p = kit_httptun(NULL, "-x", "https://localhost/path", HOST, PORT,
	    NONE);
	kit_exits(p, 2);
	/* the ports that a URL does not name are 443 */
	refused(kit_httptun(&opt, "-4", "-x", "https://127.0.0.9", HOST, PORT,
	    NONE), "httptun: 127.0.0.9:443: ");
	refused(kit_httptun(&opt, "-4", "-x", "wss://127.0.0.9", HOST, PORT,
	    NONE), "httptun: 127.0.0.9:443: ");
	refused(kit_httptun(&opt, "-4", "-x", "polls://127.0.0.9", HOST, PORT,
	    NONE), "httptun: 127.0.0.9:443: ");
	kit_untouched(tl);

	p = kit_httptun(&opt, "-4", "-z", "-v", "-x", at("https", front),
	    "127.0.0.1", kit_str("%u", tport), NONE);
	(void)kit_until_end(kit_accept(tl));
	kit_exits(p, 0);
	kit_eof(p->out);
	no_socket_left();
	/* from the environment */
	env[2] = kit_str("https_proxy=https://localhost:%u", front);
	p = kit_httptun(&opt, "-4", "127.0.0.1", kit_str("%u", tport), NONE);
	target_only(p, kit_accept(tl));
	kit_proxy_settles(&px);
}


/* ---- many ---------------------------------------------------------------- */

/* More at once than there are descriptors for: the others wait, none is lost. */
static void
test_full(void **state)
{
	struct kit_proc *p;
	unsigned port;
	int fd[CROWD], i, t;

	(void)state;
	gateway("DNS:localhost", "");
	p = kit_start(&opt, "sh", "-c", "ulimit -n 64; exec \"$@\"", "sh",
	    kit_binary(), "-4", "-x", at("https", front), "-L",
	    kit_str("0:127.0.0.1:%u", tport), NONE);
	port = kit_listening(p, 0);
	for (i = 0; i < CROWD; i++)
		fd[i] = kit_connect(AF_INET, port);
	for (i = 0; i < CROWD; i++) {
		t = kit_accept(tl);
		kit_puts(t, "hello");
		(void)close(t);
	}
	for (i = 0; i < CROWD; i++) {
		kit_expect(fd[i], "hello");
		kit_eof(fd[i]);
		(void)close(fd[i]);
	}
	silent(p);
}

/* What is refused leaves no place taken: the one worker has room again. */
static void
test_relay_refused(void **state)
{
	struct kit_proc *p;
	int fd, i;

	(void)state;
	p = kit_start(NULL, "sh", "-c", "ulimit -n 64; exec \"$@\"", "sh",
	    kit_binary(), "-l", "-x", "https://127.0.0.1:1", "127.0.0.1", "0",
	    NONE);
	fd = kit_connect(AF_INET, kit_listening(p, 0));
	for (i = 0; i < CROWD; i++) {
		kit_puts(fd, "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n");
		(void)kit_reply(fd, 502);
	}
	(void)close(fd);
	kit_signal(p->pid, SIGUSR1);
	kit_err_wait(p, " workers");
	kit_err_has(p, ", 1 workers");
}

/* Who is accepted has room for all that its way takes: the others wait, or go
 * to another worker, and nobody waits for what only another one's end frees. */
static void
crowd_through(const char *hop, const char *next)
{
	struct kit_proc *p;
	unsigned port;
	int fd[CROWD], t[CROWD], i;

	p = kit_start(&opt, "sh", "-c", "ulimit -n 64; exec \"$@\"", "sh",
	    kit_binary(), "-4", "-l", "-x", hop, "-x", next, "127.0.0.1", "0",
	    NONE);
	port = kit_listening(p, 0);
	for (i = 0; i < CROWD; i++)
		fd[i] = kit_connect(AF_INET, port);
	for (i = 0; i < CROWD; i++)
		kit_puts(fd[i], kit_request_to(tport));
	for (i = 0; i < CROWD; i++) {
		t[i] = kit_accept(tl);
		kit_puts(t[i], "hello");
	}
	for (i = 0; i < CROWD; i++)
		kit_expect(fd[i], KIT_OK "hello");
	for (i = 0; i < CROWD; i++) {
		(void)close(fd[i]);
		(void)close(t[i]);
	}
	kit_done(p);
}

static void
test_relay_crowd(void **state)
{
	const char *hop;

	(void)state;
	trust();
	target();
	kit_proxy(&px, "-4", "127.0.0.1", "0", NONE);
	hop = kit_str("127.0.0.1:%u", px.port);
	by(JOIN);
	crowd_through(hop, kit_str("https://%s", hop));
	crowd_through(kit_str("exec:socat - TCP:%s", hop), hop);
	crowd_through(hop, kit_str("poll://%s/", hop));
}

/* Several at once, again and again: no descriptor and no zombie is left. */
static void
test_local_many(void **state)
{
	int fds = 0, family = 0, i, j, k, fd[2 * MANY];
	struct kit_stream s[4];
	struct kit_proc *p;
	unsigned port;

	(void)state;
	gateway("DNS:localhost", "");
	p = local(at("https", front));
	port = kit_listening(p, 0);
	for (j = 0; j < (kit_sanitized() ? 2 : 10); j++) {
		for (i = 0; i < MANY; i++) {
			fd[2 * i] = kit_connect(AF_INET, port);
			fd[2 * i + 1] = kit_accept(tl);
		}
		for (i = 0; i < MANY; i++)
			for (k = 0; k < 2; k++) {
				s[0] = (struct kit_stream){ fd[2 * i + k],
				    KIT_OUT, SOME, (unsigned)i, k, 0 };
				s[1] = (struct kit_stream){ fd[2 * i + !k],
				    KIT_IN, SOME, (unsigned)i, k, 0 };
				kit_pump(s, 2);
			}
		for (i = 0; i < 2 * MANY; i++)
			(void)close(fd[i]);
		if (j > 0)
			kit_settles(p, fds, family);
		kit_rests(p);
		fds = kit_fds(p->pid);
		family = kit_family(p->pid, NULL, 0);
		no_socket_left();
	}
	assert_true(kit_alive(p));
	silent(p);
}

/* `httptun -l` that is itself somebody's first hop. */
static void
test_relay(void **state)
{
	struct kit_proxy r;
	struct kit_pair p[MANY];
	int i;

	(void)state;
	gateway("DNS:localhost", "");
	relay(&r, at("wss", front));
	kit_farewell(kit_tunnel(&r, tl, tport));
	used(&r);
	for (i = 0; i < MANY; i++)
		p[i] = kit_tunnel(&r, tl, tport);
	for (i = 0; i < MANY; i++)
		kit_parts(p[i], (enum kit_way)(i % KIT_WAYS), i % 2);
	kit_crosses(kit_tunnel(&r, tl, tport), BULK);
	kit_proxy_settles(&r);
	kit_proxy_settles(&px);
	no_socket_left();
}

/* An exit behind a firewall that lets out TLS alone. */
static void
test_exit(void **state)
{
	int64_t end = kit_now() + kit_patience();
	struct kit_proc *p;
	struct kit_pair t;
	pid_t pids[16];
	char head[1024];
	int i, n;

	(void)state;
	trust();
	target();
	kit_proxy_is(&px, kit_httptun(NULL, "-l", "-r", "-4", "127.0.0.1", "0",
	    NONE));
	(void)kit_tls(kit_cert(ca, "DNS:localhost", 2), "", px.port, &front);
	/* whoever a link is from, it is not this machine */
	p = kit_httptun(&opt, "-4", "-t", "127.0.0.1", "-r", "-x",
	    at("wss", front), NONE);
	do {		/* until it has registered */
		t.c = kit_ask(&px, kit_request_to(tport));
		kit_head(t.c, head, sizeof(head));
		if (strncmp(head, "HTTP/1.1 200 ", 13) == 0)
			break;
		(void)close(t.c);
	} while (kit_now() < end);
	t.t = kit_accept(tl);
	kit_farewell(t);
	kit_crosses(kit_tunnel(&px, tl, tport), BULK);
	kit_rests(p);
	n = kit_family(p->pid, pids, (int)KIT_COUNT(pids));
	assert_true(n > 0);
	kit_signal(p->pid, SIGTERM);
	kit_exits(p, -SIGTERM);
	for (i = 0; i < n; i++)
		kit_gone(pids[i]);
	no_socket_left();
}


/* ---- killed -------------------------------------------------------------- */

enum phase { DIALLING, SHAKING, ASKING, CARRYING, FLOODED, SERVING, PHASES };

/* The ports of a server for each of the phases. */
static unsigned	hole, mute, deaf;
static int	mutefd, deaffd;

static struct kit_proc *
in_phase(enum phase phase)
{
	struct kit_stream s = { .dir = KIT_OUT, .bytes = 300 * MB, .seed = 1 };
	struct kit_proc *p;
	char head[512];
	int c, i, t;

	switch (phase) {
	case DIALLING:
		p = bridge(at("https", hole), NONE);
		kit_rests(p);
		break;
	case SHAKING:
		p = bridge(at("https", mute), NONE);
		hello(kit_accept(mutefd));
		break;
	case ASKING:
		p = bridge(at("https", deaf), NONE);
		kit_head(kit_accept(deaffd), head, sizeof(head));
		break;
	case CARRYING:
	case FLOODED:
		p = bridge(at("https", front), NONE);
		t = kit_accept(tl);
		kit_puts(t, "hello");
		kit_expect(p->out, "hello");
		s.fd = p->in;
		if (phase == FLOODED)
			kit_stuff(&s, STUFFED);
		break;
	default:
		p = local(at("https", front));
		for (i = 0; i < 2; i++) {
			c = kit_connect(AF_INET, kit_listening(p, 0));
			t = kit_accept(tl);
			kit_puts(t, "hello");
			kit_expect(c, "hello");
		}
		break;
	}
	return p;
}

static void
servers(void)
{
	gateway("DNS:localhost", "");
	kit_blackhole(&hole);
	mutefd = kit_listen(AF_INET, &mute);
	deaffd = kit_listen(AF_INET, &deaf);
	(void)kit_tls(kit_cert(ca, "DNS:localhost", 2), "", deaf, &deaf);
}

/* However the program goes, its commands go, and their directory; but when it
 * is killed while they have not connected. */
static void
test_signals(void **state)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGHUP, SIGKILL };
	struct kit_proc *p[PHASES];
	pid_t pids[16 * PHASES];
	size_t i;
	int phase, n, had;

	(void)state;
	servers();
	for (i = 0; i < KIT_COUNT(sigs); i++) {
		for (phase = n = 0; phase < PHASES; phase++) {
			kit_note("phase %d, signal %d", phase, sigs[i]);
			p[phase] = in_phase((enum phase)phase);
			had = kit_family(p[phase]->pid, pids + n, 16);
			assert_in_range(had, phase == SERVING ? 2 :
			    phase != DIALLING, 16);
			n += had;
		}
		no_socket_left();
		for (phase = 0; phase < PHASES; phase++)
			kit_signal(p[phase]->pid, sigs[i]);
		for (phase = 0; phase < PHASES; phase++) {
			kit_exits(p[phase], -sigs[i]);
			silent(p[phase]);
		}
		while (n-- > 0)
			kit_gone(pids[n]);
		no_socket_left();
		for (phase = 0; phase < PHASES; phase++)
			kit_done(p[phase]);
	}
}

/* It is killed as soon as the directory is there, before its command is. */
static void
test_killed_at_once(void **state)
{
	struct kit_proc *p;
	struct pollfd made = { .events = POLLIN };
	char event[4096];
	pid_t pids[8 * AT_ONCE];
	int i, n = 0;

	(void)state;
	servers();
	if ((made.fd = inotify_init()) == -1 ||
	    inotify_add_watch(made.fd, tmp, IN_CREATE) == -1)
		kit_fail("inotify: %s", strerror(errno));
	for (i = 0; i < AT_ONCE; i++) {
		p = bridge(at("https", mute), NONE);
		if (poll(&made, 1, kit_patience()) != 1)
			kit_fail("no directory is made");
		kit_signal(p->pid, SIGSTOP);
		n += kit_family(p->pid, pids + n, 8);
		kit_signal(p->pid, SIGKILL);
		kit_exits(p, -SIGKILL);
		kit_done(p);
		if (read(made.fd, event, sizeof(event)) == -1)
			kit_fail("inotify: %s", strerror(errno));
	}
	(void)close(made.fd);
	while (n-- > 0)
		kit_gone(pids[n]);
	no_socket_left();
}

/* Its command is killed: the tunnel is broken, and another one is not. */
static void
test_command_killed(void **state)
{
	struct kit_proc *p;
	pid_t pids[16];
	int phase, c, fds, all, n, t;

	(void)state;
	servers();
	for (phase = SHAKING; phase < SERVING; phase++) {
		kit_note("phase %d", phase);
		p = in_phase((enum phase)phase);
		n = kit_family(p->pid, pids, (int)KIT_COUNT(pids));
		while (n-- > 0)
			(void)kill(pids[n], SIGKILL);
		if (phase == SHAKING || phase == ASKING)
			blames(p, phase == SHAKING ? mute : deaf);
		else
			refused(p, kit_str("httptun: 127.0.0.1:%u: ", tport));
		kit_err_has(p, "signal 9\n");
	}
	p = local(at("https", front));
	c = kit_connect(AF_INET, kit_listening(p, 0));
	t = kit_accept(tl);
	kit_puts(t, "hello");
	kit_expect(c, "hello");
	all = n = kit_family(p->pid, pids, (int)KIT_COUNT(pids));
	fds = kit_fds(p->pid);
	(void)kit_connect(AF_INET, kit_listening(p, 0));
	t = kit_accept(tl);
	while (n-- > 0)
		(void)kill(pids[n], SIGKILL);
	kit_expect_reset(c);
	kit_puts(t, "hello");
	/* the one that is left has as many as the other one had, with a new
	 * keeper; the look-up helper has gone, dead and buried */
	kit_settles(p, fds, all - 1);
	no_socket_left();
}

/* The commands of one tunnel end at the same time, before it is open. */
static void
test_commands_killed(void **state)
{
	static const char *const sleeps[] = {
		"HTTPTUN_TLS=exec sleep 1000 # %s", NULL
	};
	struct kit_opt own = { .env = sleeps };
	struct kit_proc *p;
	pid_t pids[16];
	int i, n;

	(void)state;
	p = kit_httptun(&own, "-x", "exec:exec sleep 1000", "-x",
	    "https://gw.example", "target.example", "1", NONE);
	kit_rests(p);
	n = kit_family(p->pid, pids, (int)KIT_COUNT(pids));
	assert_int_equal(n, 3);			/* and their keeper */
	kit_stop(p->pid);
	for (i = 0; i < n; i++)
		(void)kill(pids[i], SIGKILL);
	for (i = 0; i < n; i++)
		kit_gone(pids[i]);
	kit_go_on();
	kit_exits(p, 1);
	kit_err_is(p, "httptun: gw.example:443: the command was ended by "
	    "signal 9\n");
}

/* The server in between is killed. */
static void
test_server_killed(void **state)
{
	struct kit_proc *p;
	int t;

	(void)state;
	gateway("DNS:localhost", "");
	p = bridge(at("wss", front), NONE);
	t = kit_accept(tl);
	kit_puts(t, "hello");
	kit_expect(p->out, "hello");
	kit_signal(haproxy->pid, SIGKILL);
	refused(p, kit_str("httptun: 127.0.0.1:%u: ", tport));
	(void)kit_until_end(t);
	kit_proxy_settles(&px);
}

/* Listen mode's commands are grandchildren of what is killed. */
static void
test_relay_killed(void **state)
{
	struct kit_proxy r[2];
	int i;

	(void)state;
	gateway("DNS:localhost", "");
	for (i = 0; i < 2; i++)
		relay(&r[i], at("https", front));
	kit_families_end(r, tl, tport);
	no_socket_left();
	kit_proxy_settles(&px);
}

/* An argument is the pattern of the tests to run. */
int
main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(test_first_hop),
		KIT_TEST(test_second_hop),
		KIT_TEST(test_before_a_hop),
		KIT_TEST(test_inside_itself),
		KIT_TEST(test_end_of_stdin),
		KIT_TEST(test_nginx),
		KIT_TEST(test_stalled),
		KIT_TEST(test_credentials),
		KIT_TEST(test_certificates),
		KIT_TEST(test_server_name),
		KIT_TEST(test_certificate_of_many),
		KIT_TEST(test_no_tls),
		KIT_TEST(test_silent_server),
		KIT_TEST(test_command),
		KIT_TEST(test_commands),
		KIT_TEST(test_failing_commands),
		KIT_TEST(test_directory),
		KIT_TEST(test_usage),
		KIT_TEST(test_full),
		KIT_TEST(test_relay_refused),
		KIT_TEST(test_relay_crowd),
		KIT_TEST(test_local_many),
		KIT_TEST(test_relay),
		KIT_TEST(test_exit),
		KIT_TEST(test_signals),
		KIT_TEST(test_killed_at_once),
		KIT_TEST(test_command_killed),
		KIT_TEST(test_commands_killed),
		KIT_TEST(test_server_killed),
		KIT_TEST(test_relay_killed),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
