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
 * `httptun -l` as one leaves it running: rules, -T, many users, look-ups that
 * hang, thousands of tunnels, processes that die, log, signals, and being
 * started by others (-i, LISTEN_FDS).  What it answers to single requests is
 * tested in listen.c, what it forwards in forward.c.
 */

#define _GNU_SOURCE			/* prlimit(2) */

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kit.h"

#define NONE	((char *)NULL)
#define LOCAL	"127.0.0.1", "0", NONE
#define OBSERVE	300		/* ms for which a process is watched */

/* The proxy under test, and a target for it. */
static struct kit_proxy	px = { .family = AF_INET };
static int		tl;
static unsigned		tport;


/* ---- the test's frame ---------------------------------------------------- */

/* The kit looks after the first thousand descriptors only. */
static int
teardown(void **state)
{
	struct rlimit rl;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0)
		for (fd = 1024; fd < (int)rl.rlim_cur; fd++)
			(void)close(fd);
	return kit_teardown(state);
}

#define TEST(f)	cmocka_unit_test_setup_teardown(f, kit_setup, teardown)

/* It has taken up all that was sent. */
static void
rests(void)
{
	kit_rests(px.proc);
}

/* Nothing is left of whatever was asked. */
static void
settles(void)
{
	kit_returns(px.proc, &px.idle);
}

/* A text in which P is the target's port, < and > are the ports beside it;
 * the P of a word is none. */
static const char *
ported(const char *s)
{
	const char *r = "", *start = s;

	for (; *s != '\0'; s++)
		if ((*s == 'P' && (s == start ||
		    !isalpha((unsigned char)s[-1]))) || *s == '<' || *s == '>')
			r = kit_str("%s%u", r, tport + (*s == '>') -
			    (*s == '<'));
		else
			r = kit_str("%s%c", r, *s);
	return r;
}

static void
target(void)
{
	tl = kit_listen(AF_INET, &tport);
}

/* Starts `httptun -l` with these arguments. */
static void
serve_opt(const struct kit_opt *opt, const char *arg, ...)
{
	va_list ap;

	va_start(ap, arg);
	kit_proxy_is(&px, kit_server(opt, arg, ap));
	va_end(ap);
}

/* The same, and a target. */
static void
serve(const char *arg, ...)
{
	va_list ap;

	target();
	va_start(ap, arg);
	kit_proxy_is(&px, kit_server(NULL, arg, ap));
	va_end(ap);
}

static int
client(void)
{
	return kit_client(&px);
}

static int
ask(const char *request)
{
	return kit_ask(&px, request);
}

static const char *
auth(const char *userpass)
{
	return kit_str("Proxy-Authorization: %s\r\n", kit_basic(userpass));
}

static struct kit_pair
tunnel(void)
{
	return kit_tunnel(&px, tl, tport);
}

static void
serves(void)
{
	kit_farewell(tunnel());
}


/* ---- its processes ------------------------------------------------------- */

/* Waits until there are so many workers, and a helper. */
static pid_t
wait_workers(pid_t *pids, int n)
{
	pid_t helper;

	kit_wait_workers(&px, pids, n, &helper);
	return helper;
}

/* Until kit_go_on() only this one of the workers accepts: the others stand
 * still. */
static void
only(const pid_t *pids, int n, int which)
{
	int i;

	rests();
	for (i = 0; i < n; i++)
		if (i != which)
			kit_stop(pids[i]);
}

/* A tunnel of this one's. */
static struct kit_pair
tunnel_in(const pid_t *pids, int n, int which)
{
	struct kit_pair p;

	only(pids, n, which);
	p = tunnel();
	kit_go_on();
	return p;
}


/* ---- names that a test makes --------------------------------------------- */

/* Stands before the C library's own: *.hang never answers, and some names
 * have the addresses that a test wants. */
static const char shim_source[] =
    "#define _GNU_SOURCE\n"
    "#include <sys/types.h>\n"
    "#include <sys/socket.h>\n"
    "#include <dlfcn.h>\n"
    "#include <netdb.h>\n"
    "#include <stdlib.h>\n"
    "#include <string.h>\n"
    "#include <unistd.h>\n"
    "typedef int fn(const char *, const char *, const struct addrinfo *,\n"
    "    struct addrinfo **);\n"
    "static const char *const names[][3] = {\n"
    "	{ \"one.test\", \"127.0.0.1\", NULL },\n"
    "	{ \"two.test\", \"127.0.0.1\", \"127.0.0.2\" },\n"
    "	{ \"any.test\", \"0.0.0.0\", NULL },\n"
    "	{ \"any6.test\", \"::\", NULL },\n"
    "	{ \"link.test\", \"169.254.1.1\", NULL },\n"
    "	{ \"mapped.test\", \"::ffff:127.0.0.1\", NULL }\n"
    "};\n"
    "static void __attribute__((constructor)) hello(void) {\n"
    "	if (getenv(\"SHIM_HELLO\") != NULL)\n"
    "		(void)!write(2, \"shim\\n\", 5);\n"
    "}\n"
    "int getaddrinfo(const char *node, const char *service,\n"
    "    const struct addrinfo *hints, struct addrinfo **res) {\n"
    "	fn *next = (fn *)dlsym(RTLD_NEXT, \"getaddrinfo\");\n"
    "	struct addrinfo literal = { 0 };\n"
    "	size_t i, len = node != NULL ? strlen(node) : 0;\n"
    "	if (hints != NULL && hints->ai_flags & AI_NUMERICHOST)\n"
    "		return next(node, service, hints, res);\n"
    "	while (len > 5 && strcmp(node + len - 5, \".hang\") == 0)\n"
    "		pause();\n"
    "	if (hints != NULL)\n"
    "		literal.ai_socktype = hints->ai_socktype;\n"
    "	literal.ai_flags = AI_NUMERICHOST;\n"
    "	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {\n"
    "		if (node == NULL || strcmp(node, names[i][0]) != 0)\n"
    "			continue;\n"
    "		if (next(names[i][1], service, &literal, res) != 0)\n"
    "			return EAI_FAIL;\n"
    "		if (names[i][2] != NULL && next(names[i][2], service,\n"
    "		    &literal, &(*res)->ai_next) != 0)\n"
    "			return EAI_FAIL;\n"
    "		return 0;\n"
    "	}\n"
    "	return next(node, service, hints, res);\n"
    "}\n";

/* An environment with the shim, or NULL where it cannot be. */
static const struct kit_opt *
shimmed(void)
{
	static const char *env[3];
	static struct kit_opt opt = { .env = env };
	const char *so = kit_path("shim.so");
	struct kit_proc *p;

	if (getenv("HTTPTUN_SANITIZED") != NULL) {
		print_message("no shim before a sanitizer's library\n");
		return NULL;
	}
	p = kit_start(NULL, "cc", "-shared", "-fPIC", "-o", so,
	    kit_file("shim.c", 0600, shim_source), "-ldl", NONE);
	if (kit_wait(p) != 0)
		kit_fail("the shim does not compile");
	env[0] = kit_str("LD_PRELOAD=%s", so);
	env[1] = "SHIM_HELLO=1";
	p = kit_httptun(&opt, "-V", NONE);
	kit_exits(p, 0);
	if (strstr(kit_err(p), "shim") == NULL) {
		print_message("no shim in a static binary\n");
		return NULL;
	}
	env[1] = NULL;
	return &opt;
}


/* ---- rules --------------------------------------------------------------- */

/* A socket that listens at any address; -1: not with this one. */
static int
listen_at(int family, const char *addr, unsigned port)
{
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in s4 = { .sin_family = AF_INET };
	struct sockaddr *sa = (struct sockaddr *)&s4;
	socklen_t len = sizeof(s4);
	int fd = socket(family, SOCK_STREAM, 0);

	s4.sin_port = s6.sin6_port = htons((uint16_t)port);
	if (family == AF_INET6) {
		sa = (struct sockaddr *)&s6;
		len = sizeof(s6);
	}
	assert_int_equal(inet_pton(family, addr, family == AF_INET6 ?
	    (void *)&s6.sin6_addr : (void *)&s4.sin_addr), 1);
	if (fd != -1 && bind(fd, sa, len) == 0 && listen(fd, 512) == 0)
		return fd;
	if (fd != -1)
		(void)close(fd);
	return -1;
}

static unsigned
port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	return ntohs(ss.ss_family == AF_INET6 ?
	    ((struct sockaddr_in6 *)&ss)->sin6_port :
	    ((struct sockaddr_in *)&ss)->sin_port);
}

/* Targets at the same port of 127.0.0.1 and, where there is one, of ::1. */
static int
targets(void)
{
	int tl6 = -1, i;

	if (!kit_has_ipv6()) {
		target();
		return -1;
	}
	for (i = 0; i < 100 && tl6 == -1; i++) {
		target();
		if ((tl6 = listen_at(AF_INET6, "::1", tport)) == -1)
			(void)close(tl);
	}
	if (tl6 == -1)
		kit_fail("no port that is free in both families");
	return tl6;
}

/* The tunnel reaches one of the targets, and only one. */
static void
reaches(int c, int tl6)
{
	struct pollfd pfd[2] = {
		{ .fd = tl, .events = POLLIN }, { .fd = tl6, .events = POLLIN }
	};
	struct kit_pair p;

	kit_expect(c, KIT_OK);
	assert_int_equal(poll(pfd, 2, 0), 1);
	p.c = c;
	p.t = kit_accept(pfd[0].revents != 0 ? tl : tl6);
	kit_farewell(p);
}

/* "+authority" reaches its target, "~authority" a port where nobody is,
 * "-authority" is not allowed; the client hears no more than that. */
static void
tries(int c, const char *trial, int tl6)
{
	const char *reply;

	kit_note("trial %s", trial);
	kit_puts(c, kit_request(ported(trial + 1), ""));
	if (*trial == '+') {
		reaches(c, tl6);
		return;
	}
	reply = kit_reply(c, *trial == '~' ? 502 : 403);
	if (*trial == '-' && strstr(reply, "not allowed here\n") == NULL)
		kit_fail("%s: <<%s>>", trial, reply);
	if (*trial == '-' && strstr(reply, "rule") != NULL)
		kit_fail("%s: the client hears of rules: <<%s>>", trial,
		    reply);
	kit_untouched(tl);
	if (tl6 != -1)
		kit_untouched(tl6);
	(void)close(c);
}

struct matrix {
	const char	*rules[4];
	const char	*trials[12];
};

/* Only here -t stands before what -c and others do. */
static void
start_rules(const struct kit_opt *opt, const char *letter,
    const char *const *rules, size_t n)
{
	const char *argv[24];
	size_t i, k = 0;

	argv[k++] = kit_binary();
	argv[k++] = "-lv";
	for (i = 0; i < n && rules[i] != NULL; i++) {
		argv[k++] = letter;
		argv[k++] = ported(rules[i]);
	}
	argv[k++] = "0";
	argv[k] = NULL;
	px.proc = kit_startv(opt, argv);
	px.port = kit_listening(px.proc, 0);
}

static void
run_matrix(const struct kit_opt *opt, const struct matrix *m, size_t n)
{
	size_t i, k;
	int tl6 = targets();

	for (i = 0; i < n; i++) {
		start_rules(opt, "-t", m[i].rules, KIT_COUNT(m[i].rules));
		for (k = 0; k < KIT_COUNT(m[i].trials) &&
		    m[i].trials[k] != NULL; k++) {
			/* a mapped address needs no IPv6 */
			if (tl6 == -1 && m[i].trials[k][1] == '[' &&
			    strstr(m[i].trials[k], "ffff") == NULL)
				continue;
			tries(client(), m[i].trials[k], tl6);
		}
		kit_done(px.proc);
	}
}

static void
target_rules(void **state)
{
	static const struct matrix m[] = {
		{ { NULL }, { "+127.0.0.1:P", "+[::1]:P", "+127.1:P",
		    "+2130706433:P", "+0.0.0.0:P", "+[::]:P", "+localhost:P",
		    "+[::ffff:127.0.0.1]:P", "~127.0.0.2:P" } },
		/* every way to write the same */
		{ { "!127.0.0.0/8" }, { "-127.0.0.1:P", "-127.1:P",
		    "-127.0.1:P", "-2130706433:P", "-0x7f000001:P",
		    "-0177.0.0.1:P", "-0.0.0.0:P", "-0:P", "-127.9.9.9:P",
		    "-[::ffff:127.0.0.1]:P", "-[::ffff:7f00:1]:P",
		    "+[::1]:P" } },
		{ { "!127.0.0.1" }, { "-127.0.0.1:P", "-127.1:P", "-0:P",
		    "-0.0.0.0:P", "-[::ffff:127.0.0.1]:P", "~127.0.0.2:P",
		    "+[::1]:P" } },
		{ { "!::1" }, { "-[::1]:P", "-[0:0:0:0:0:0:0:1]:P",
		    "-[::]:P", "+127.0.0.1:P", "+[::ffff:127.0.0.1]:P" } },
		{ { "!::ffff:127.0.0.0/104" }, { "-127.0.0.1:P", "-127.1:P",
		    "-[::ffff:127.0.0.1]:P", "+[::1]:P" } },
		{ { "![::1]:P" }, { "-[::1]:P", "+127.0.0.1:P" } },
		/* the first that matches; none, with an allowing one: no */
		{ { "127.0.0.1" }, { "+127.0.0.1:P", "+127.1:P", "+0:P",
		    "+[::ffff:127.0.0.1]:P", "-127.0.0.2:P", "-[::1]:P" } },
		{ { "127.0.0.0/30" }, { "+127.0.0.1:P", "~127.0.0.3:P",
		    "-127.0.0.4:P" } },
		{ { "!127.0.0.1", "127.0.0.0/8" }, { "-127.0.0.1:P",
		    "~127.0.0.2:P", "-[::1]:P" } },
		{ { "127.0.0.0/8", "!127.0.0.1" }, { "+127.0.0.1:P" } },
		{ { "!127.0.0.2", "!127.0.0.3" }, { "+127.0.0.1:P",
		    "-127.0.0.2:P", "-127.0.0.3:P", "~127.0.0.4:P" } },
		{ { "0.0.0.0/0" }, { "+127.0.0.1:P", "-[::1]:P",
		    "+[::ffff:127.0.0.1]:P" } },
		{ { "::/0" }, { "+[::1]:P", "-127.0.0.1:P" } },
		/* ports */
		{ { "*:P" }, { "+127.0.0.1:P", "+localhost:P", "+[::1]:P",
		    "-127.0.0.1:<", "-127.0.0.1:>", "-localhost:>" } },
		{ { "!*:P", "*" }, { "-127.0.0.1:P", "-localhost:P",
		    "-[::1]:P", "~127.0.0.2:>" } },
		{ { "*:1-<,>-65535" }, { "-127.0.0.1:P", "~127.0.0.2:>",
		    "~127.0.0.2:65535", "~127.0.0.2:1" } },
		{ { "*:<-P" }, { "+127.0.0.1:P", "-127.0.0.1:>" } },
		{ { "*:P->" }, { "+127.0.0.1:P", "-127.0.0.1:<" } },
		{ { "*:1,22,P,65535" }, { "+127.0.0.1:P", "-127.0.0.1:>" } },
		{ { "127.0.0.0/8:P" }, { "+127.0.0.1:P", "-127.0.0.1:>",
		    "-[::1]:P" } },
		{ { "[::1]:P" }, { "+[::1]:P", "-[::1]:>",
		    "-127.0.0.1:P" } },
		/* names, as asked */
		{ { "localhost" }, { "+localhost:P", "-127.0.0.1:P",
		    "-[::1]:P" } },
		{ { "LocalHost." }, { "+localhost:P", "-127.0.0.1:P" } },
		{ { "*host" }, { "+localhost:P", "-127.0.0.1:P" } },
		{ { "l*l*t" }, { "+localhost:P", "-127.0.0.1:P" } },
		{ { "localhost*" }, { "+localhost:P" } },
		{ { "*.localhost" }, { "-localhost:P" } },
		{ { "local" }, { "-localhost:P" } },
		{ { "!localhost" }, { "-localhost:P", "+127.0.0.1:P" } },
		{ { "!LOCALhost." }, { "-localhost:P", "+127.0.0.1:P" } },
		{ { "!L*", "*" }, { "-localhost:P", "+127.0.0.1:P" } },
		{ { "127.0.0.1", "::1" }, { "+localhost:P" } },
		{ { "10.0.0.0/8" }, { "-localhost:P", "-127.0.0.1:P" } },
		/* a name cannot lead where an address may not */
		{ { "!127.0.0.0/8", "!::1", "*" }, { "-localhost:P",
		    "-127.0.0.1:P", "-127.1:P", "-[::1]:P",
		    "-0.0.0.0:P", "-[::]:P", "-[::ffff:127.0.0.1]:P" } }
	};

	(void)state;
	run_matrix(NULL, m, KIT_COUNT(m));
}

/* The same with names that have strange addresses. */
static void
names_and_addresses(void **state)
{
	static const struct matrix m[] = {
		{ { "!127.0.0.0/8", "*" }, { "-one.test:P", "-two.test:P",
		    "-any.test:P", "-mapped.test:P" } },
		{ { "!127.0.0.1", "*" }, { "-any.test:P", "-mapped.test:P",
		    "~two.test:P" } },
		{ { "!::1", "*" }, { "+mapped.test:P", "+any.test:P" } },
		{ { "127.0.0.1" }, { "+mapped.test:P", "+any.test:P",
		    "+one.test:P", "+two.test:P" } },
		{ { "*.test" }, { "+one.test:P", "-127.0.0.1:P" } },
		{ { "!one.test", "127.0.0.1" }, { "-one.test:P",
		    "+two.test:P", "+127.0.0.1:P" } }
	};
	const struct kit_opt *opt = shimmed();

	(void)state;
	if (opt == NULL)
		skip();
	run_matrix(opt, m, KIT_COUNT(m));
}

/* What a hop is asked for is judged as it is written, which it may read its
 * own way: squid knows no final dots. */
static void
targets_behind_a_hop(void **state)
{
	static const struct matrix m[] = {
		{ { "!127.0.0.0/8" }, { "-127.0.0.1:P", "-0x7f.1:P",
		    "-127.0.0.1.:P", "-127.1..:P", "+localhost:P" } },
		{ { "!one.test" }, { "-one.test:P", "-ONE.test.:P",
		    "-one.test..:P", "+127.0.0.1:P" } },
		{ { "127.0.0.1" }, { "+127.0.0.1:P", "~127.0.0.1.:P",
		    "-localhost:P" } }
	};
	struct kit_proc *hop;
	const char *at;
	size_t i, k;
	int tl6 = targets();

	(void)state;
	hop = kit_httptun(NULL, "-l", "0", NONE);
	at = kit_str("127.0.0.1:%u", kit_listening(hop, 0));
	for (i = 0; i < KIT_COUNT(m); i++) {
		px.proc = kit_httptun(NULL, "-l", "-x", at, "-t",
		    m[i].rules[0], "0", NONE);
		px.port = kit_listening(px.proc, 0);
		for (k = 0; m[i].trials[k] != NULL; k++)
			tries(client(), m[i].trials[k], tl6);
		kit_done(px.proc);
	}
	kit_done(hop);
}

/* A client that connects from another of this machine's addresses. */
static int
client_from(const char *addr)
{
	struct sockaddr_in s4 = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (strchr(addr, ':') != NULL) {
		(void)close(fd);
		return kit_connect(AF_INET6, px.port);
	}
	assert_int_equal(inet_pton(AF_INET, addr, &s4.sin_addr), 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&s4, sizeof(s4)), 0);
	s4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s4.sin_port = htons((uint16_t)px.port);
	kit_dial(fd, &s4, sizeof(s4), kit_str("the proxy from %s", addr));
	return fd;
}

static void
client_rules(void **state)
{
	static const struct matrix m[] = {
		{ { "127.0.0.1" }, { "+127.0.0.1", "-127.0.0.2", "-::1" } },
		{ { "!127.0.0.1", "any" }, { "-127.0.0.1", "+127.0.0.2",
		    "+::1" } },
		{ { "!127.0.0.0/30" }, { "-127.0.0.1", "-127.0.0.3",
		    "+127.0.0.4", "+::1" } },
		{ { "127.0.0.2", "!127.0.0.0/8", "any" }, { "-127.0.0.1",
		    "+127.0.0.2", "-127.0.0.3", "+::1" } },
		{ { "any", "!127.0.0.1" }, { "+127.0.0.1", "+::1" } },
		{ { "0.0.0.0/0" }, { "+127.0.0.1", "-::1" } },
		{ { "::/0" }, { "-127.0.0.1", "+::1" } },
		{ { "::1" }, { "-127.0.0.1", "+::1" } },
		{ { "!::ffff:127.0.0.0/104", "any" }, { "-127.0.0.1",
		    "+::1" } }
	};
	size_t i, k;
	int tl6 = targets(), c;

	(void)state;
	for (i = 0; i < KIT_COUNT(m); i++) {
		start_rules(NULL, "-c", m[i].rules, KIT_COUNT(m[i].rules));
		for (k = 0; m[i].trials[k] != NULL; k++) {
			if (tl6 == -1 && m[i].trials[k][1] == ':')
				continue;
			c = client_from(m[i].trials[k] + 1);
			tries(c, *m[i].trials[k] == '+' ? "+127.0.0.1:P" :
			    "-127.0.0.1:P", tl6);
		}
		kit_done(px.proc);
	}
}

/* The log has the rule as it was written, or that there is none. */
static void
rule_in_the_log(void **state)
{
	static const struct {
		const char	*letter, *rule, *why;
	} cases[] = {
		{ "-t", "!127.0.0.0/8", "rule -t !127.0.0.0/8" },
		{ "-t", "!127.1", "rule -t !127.1" },
		{ "-t", "!*:1-65535", "rule -t !*:1-65535" },
		{ "-t", "!::ffff:127.0.0.1", "rule -t !::ffff:127.0.0.1" },
		{ "-t", "10.0.0.0/8", "no rule allows it" },
		{ "-t", "*:1", "no rule allows it" },
		{ "-c", "!127.0.0.0/8", "rule -c !127.0.0.0/8" },
		{ "-c", "10.0.0.1", "no rule allows it" }
	};
	const char *err;
	size_t i;
	int c;

	(void)state;
	target();
	for (i = 0; i < KIT_COUNT(cases); i++) {
		start_rules(NULL, cases[i].letter, &cases[i].rule, 1);
		tries(client(), "-127.0.0.1:P", -1);
		c = ask(kit_request_to(tport));
		if (strstr(kit_reply(c, 403), cases[i].rule) != NULL)
			kit_fail("the client hears of %s", cases[i].rule);
		kit_err_wait(px.proc, kit_str(" 127.0.0.1:%u 403 0 0 ", tport));
		err = strstr(kit_err(px.proc), " 403 0 0 ");
		if (strstr(err, cases[i].why) == NULL)
			kit_fail("the log has no \"%s\"", cases[i].why);
		kit_done(px.proc);
	}
}

static void
faulty_rules(void **state)
{
	static const char *const t[] = {
		"", "!", "127.0.0.1/33", "127.0.0.1/-1", "127.0.0.1/",
		"127.0.0.1/x", "::1/129", "host/24", "127.0.0.1:0",
		"host:80-22", "host:65536", "host:", "host:a", "host:80,",
		"host:,80", "host:80-", "host:-80", "host: 80", "a b",
		"[::1", "[::1]x", "user@host", "http://host/", ":80",
		"[127.0.0.1/8", "ho\nst", "127/8", "10.1/16", "1.2.3/24",
		"!10/8"
	};
	static const char *const c[] = {
		"", "!", "localhost", "*", "any/8", "127.0.0.1:80",
		"127.0.0.1/33", "::1/129", "10.0.0.0/8,127.0.0.1", "10/8",
		"!172.16/12"
	};
	static const char *const j[] = {
		"", "0", "-1", "+2", "x", "2x", "1.5", "99999999999"
	};
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(t); i++)
		kit_will_not_start(2, "-t", t[i], LOCAL);
	for (i = 0; i < KIT_COUNT(c); i++)
		kit_will_not_start(2, "-c", c[i], LOCAL);
	for (i = 0; i < KIT_COUNT(j); i++)
		kit_will_not_start(2, "-j", j[i], LOCAL);
}

/* Not on loopback: -a, or an allowing -c or -t, else it does not start. */
static void
open_proxies(void **state)
{
	static const char *const addrs[] = { "0.0.0.0", "*", "::" };
	static const struct {
		const char	*letter, *rule;
		int		 enough;
	} cases[] = {
		{ "-c", "any", 1 }, { "-c", "10.0.0.0/8", 1 },
		{ "-t", "*:443", 1 }, { "-t", "localhost", 1 },
		{ "-t", "10.0.0.1", 1 }, { "-a", NULL, 1 },
		{ "-c", "!10.0.0.0/8", 0 }, { "-t", "!127.0.0.0/8", 0 },
		{ "-t", "!*:25", 0 }, { "-w", "5", 0 }, { "-j", "2", 0 },
		{ "-vT", "-n", 0 }
	};
	const char *rule, *users = kit_file("users", 0600, "u:p\n");
	int six = kit_has_ipv6();
	size_t i, k;

	(void)state;
	target();
	for (i = 0; i < KIT_COUNT(cases); i++)
		for (k = 0; k < KIT_COUNT(addrs); k++) {
			if (*addrs[k] == ':' && !six)
				continue;
			rule = cases[i].rule != NULL ? cases[i].rule : users;
			if (!cases[i].enough) {
				kit_will_not_start(2, cases[i].letter, rule,
				    addrs[k], "0", NONE);
				continue;
			}
			kit_note("%s %s", cases[i].letter, rule);
			serve_opt(NULL, cases[i].letter, rule, addrs[k], "0",
			    NONE);
			kit_done(px.proc);
		}
}


/* ---- clients from elsewhere ---------------------------------------------- */

/* Two networks of our own, this machine's and another one's. */
static int	here_ns, there_ns;

static int
has_networks(void)
{
	if (!kit_networks(&here_ns, &there_ns))
		return 0;
	kit_script(here_ns, "ip addr add 169.254.1.1/16 dev near");
	return 1;
}

static int
client_in(int ns, const char *addr)
{
	struct sockaddr_in s4 = { .sin_family = AF_INET };
	int fd;

	kit_enter(ns);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	kit_leave();
	s4.sin_port = htons((uint16_t)px.port);
	assert_int_equal(inet_pton(AF_INET, addr, &s4.sin_addr), 1);
	kit_dial(fd, &s4, sizeof(s4), addr);
	return fd;
}

static void
elsewhere_matrix(const struct matrix *m, size_t n)
{
	size_t i, k;

	for (i = 0; i < n; i++) {
		const char *argv[] = { kit_binary(), "-l", "-c", "any",
		    "192.0.2.1", "0", NULL, NULL, NULL };

		/* one rule at most, so that it can stand in one place */
		if (m[i].rules[0] != NULL) {
			argv[4] = "-t";
			argv[5] = ported(m[i].rules[0]);
			argv[6] = "192.0.2.1";
			argv[7] = "0";
		}
		kit_enter(here_ns);
		px.proc = kit_startv(NULL, argv);
		kit_leave();
		px.port = kit_listening(px.proc, 0);
		for (k = 0; k < KIT_COUNT(m[i].trials) &&
		    m[i].trials[k] != NULL; k++)
			tries(client_in(m[i].trials[k][0] == '@' ? here_ns :
			    there_ns, "192.0.2.1"), m[i].trials[k] +
			    (m[i].trials[k][0] == '@'), -1);
		kit_done(px.proc);
	}
}

/* Loopback and link-local only where an address, or exactly the name, is
 * allowed.  "@..." is asked on this machine itself. */
static void
from_elsewhere(void **state)
{
	static const struct matrix m[] = {
		{ { NULL }, { "-127.0.0.1:P", "-127.1:P", "-2130706433:P",
		    "-0.0.0.0:P", "-0:P", "-[::ffff:127.0.0.1]:P",
		    "-localhost:P", "-127.9.9.9:P", "-169.254.1.1:P",
		    "+192.0.2.1:P", "@+127.0.0.1:P", "@+localhost:P" } },
		{ { NULL }, { "-[::1]:P", "-[::]:P", "-[fe80::1]:P",
		    "-[febf::1]:P", "-[::ffff:169.254.1.1]:P",
		    "@+169.254.1.1:P" } },
		{ { "*" }, { "-127.0.0.1:P", "-localhost:P", "-0:P",
		    "-169.254.1.1:P", "-[::1]:P", "+192.0.2.1:P" } },
		{ { "*:P" }, { "-127.0.0.1:P", "-localhost:P",
		    "+192.0.2.1:P", "-192.0.2.1:>" } },
		{ { "local*" }, { "-localhost:P", "-192.0.2.1:P" } },
		{ { "0/0" }, { "-127.0.0.1:P", "+192.0.2.1:P" } },
		{ { "0.0.0.0/0" }, { "-127.0.0.1:P", "-localhost:P",
		    "-169.254.1.1:P", "-[::ffff:127.0.0.1]:P",
		    "+192.0.2.1:P", "@+127.0.0.1:P" } },
		{ { "::/0" }, { "-[::1]:P", "-127.0.0.1:P" } },
		{ { "!10.0.0.1" }, { "-127.0.0.1:P", "-localhost:P",
		    "+192.0.2.1:P" } },
		{ { "127.0.0.1" }, { "+127.0.0.1:P", "+127.1:P", "+0:P",
		    "-127.0.0.2:P", "-169.254.1.1:P", "-192.0.2.1:P" } },
		{ { "127.0.0.0/8" }, { "+127.0.0.1:P", "-169.254.1.1:P" } },
		{ { "0.0.0.0" }, { "+127.0.0.1:P", "+0:P", "-127.0.0.2:P",
		    "-192.0.2.1:P" } },
		{ { "169.254.0.0/16:P" }, { "+169.254.1.1:P",
		    "-169.254.1.1:>", "-127.0.0.1:P" } },
		{ { "LocalHost" }, { "+localhost:P", "-127.0.0.1:P",
		    "-[::1]:P" } },
		{ { "127.0.0.1:P" }, { "+127.0.0.1:P", "-127.0.0.1:>" } }
	};

	(void)state;
	if (!has_networks())
		skip();
	kit_enter(here_ns);
	tl = listen_at(AF_INET, "0.0.0.0", 0);
	kit_leave();
	tport = port_of(tl);
	elsewhere_matrix(m, KIT_COUNT(m));
}

/* Asked for itself, it would take such a client for one of this machine. */
static void
from_elsewhere_to_itself(void **state)
{
	static const char *const cases[][4] = {
		{ "-c", "any", "192.0.2.1" }, { "-c", "any", "*" },
		{ "-t", "192.0.2.0/24", "*" }, { "-t", "*:1-65535", "0.0.0.0" },
		{ "-t", "127.0.0.1", "*" }
	};
	size_t i;

	(void)state;
	if (!has_networks())
		skip();
	kit_script(here_ns, "ip addr add 198.51.100.1/24 dev near");
	kit_enter(here_ns);
	tl = listen_at(AF_INET, "0.0.0.0", 0);
	kit_leave();
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_enter(here_ns);
		px.proc = kit_httptun(NULL, "-lv", cases[i][0], cases[i][1],
		    cases[i][2], "0", NONE);
		kit_leave();
		/* "P" is its own port now, ">" the target's */
		tport = px.port = kit_listening(px.proc, 0);
		tries(client_in(there_ns, "192.0.2.1"), "-192.0.2.1:P", -1);
		tries(client_in(there_ns, "192.0.2.1"), "-127.0.0.1:P", -1);
		kit_err_wait(px.proc, "this proxy itself");
		if (strcmp(cases[i][2], "192.0.2.1") != 0)
			tries(client_in(there_ns, "192.0.2.1"),
			    "-198.51.100.1:P", -1);
		tport = port_of(tl);
		if (i < 4)
			tries(client_in(there_ns, "192.0.2.1"),
			    "+192.0.2.1:P", -1);
		kit_done(px.proc);
	}
}

/* A hop that is on this machine connects from here, too. */
static void
from_elsewhere_by_a_hop(void **state)
{
	static const struct {
		const char	*hop, *rule, *trials[16];
	} cases[] = {
		{ "127.0.0.1:%u", "*", { "-127.0.0.1:P", "-127.1:P",
		    "-[::ffff:127.0.0.1]:P", "-[::1]:P", "-0:P",
		    "-localhost:P", "-LOCALHOST.:P", "-a.localhost:P",
		    "-169.254.1.1:P", "+192.0.2.1:P", "@+127.0.0.1:P",
		    "@+localhost:P" } },
		{ "localhost:%u", "*", { "-127.0.0.1:P", "+192.0.2.1:P" } },
		{ "192.0.2.1:%u", "*", { "-127.0.0.1:P", "+192.0.2.1:P" } },
		{ "exec:nc %%h %%p", "*", { "-127.0.0.1:P", "-[::1]:P" } },
		{ "127.0.0.1:%u", "127.0.0.1", { "+127.0.0.1:P",
		    "-localhost:P", "-127.0.0.2:P" } },
		{ "127.0.0.1:%u", "localhost", { "+localhost:P",
		    "-127.0.0.1:P" } },
	};
	struct kit_proc *hop;
	unsigned port;
	size_t i, k;

	(void)state;
	if (!has_networks())
		skip();
	kit_enter(here_ns);
	tl = listen_at(AF_INET, "0.0.0.0", 0);
	hop = kit_httptun(NULL, "-l", "-c", "any", "*", "0", NONE);
	kit_leave();
	tport = port_of(tl);
	port = kit_listening(hop, 0);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_enter(here_ns);
		px.proc = kit_httptun(NULL, "-l", "-c", "any", "-t",
		    cases[i].rule, "-x", kit_str(cases[i].hop, port),
		    "192.0.2.1", "0", NONE);
		kit_leave();
		px.port = kit_listening(px.proc, 0);
		for (k = 0; cases[i].trials[k] != NULL; k++)
			tries(client_in(cases[i].trials[k][0] == '@' ?
			    here_ns : there_ns, "192.0.2.1"),
			    cases[i].trials[k] +
			    (cases[i].trials[k][0] == '@'), -1);
		kit_done(px.proc);
	}
}

/* The same client on a socket that somebody else accepted. */
static void
from_elsewhere_by_inetd(void **state)
{
	struct kit_opt opt = { 0 };
	int lfd, c;

	(void)state;
	if (!has_networks())
		skip();
	kit_enter(here_ns);
	tl = listen_at(AF_INET, "0.0.0.0", 0);
	lfd = listen_at(AF_INET, "0.0.0.0", 0);
	tport = port_of(tl);
	px.port = port_of(lfd);
	c = client_in(there_ns, "192.0.2.1");
	opt.in = opt.out = kit_accept(lfd);
	kit_enter(here_ns);
	px.proc = kit_httptun(&opt, "-l", "-i", NONE);
	kit_leave();
	kit_drop(opt.in);
	tries(c, "-127.0.0.1:P", -1);
	kit_exits(px.proc, 0);
	kit_err_is(px.proc, "");
	/* nor who would come back by the same port */
	c = client_in(there_ns, "192.0.2.1");
	opt.in = opt.out = kit_accept(lfd);
	kit_enter(here_ns);
	px.proc = kit_httptun(&opt, "-l", "-i", "-c", "any", NONE);
	kit_leave();
	kit_drop(opt.in);
	tport = px.port;
	tries(c, "-192.0.2.1:P", -1);
	kit_untouched(lfd);
	kit_exits(px.proc, 0);
}


/* ---- -T ------------------------------------------------------------------ */

static const char hello[] =
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on";
#define HELLO	(sizeof(hello) - 1)

/* Sent to the target once all is there that is wanted. */
static void
tls_flows(struct kit_pair p, size_t sent)
{
	char got[HELLO];

	kit_send(p.c, hello + sent, HELLO - sent);
	kit_recv(p.t, got, HELLO);
	assert_memory_equal(got, hello, HELLO);
	kit_farewell(p);
}

static void
tls_at_every_cut(void **state)
{
	struct kit_pair p;
	size_t i;

	(void)state;
	serve("-T", LOCAL);
	for (i = 1; i < HELLO; i++) {
		kit_note("cut at %zu", i);
		p = tunnel();
		kit_send(p.c, hello, i);
		rests();
		if (i < 6)
			kit_silent(p.t, 0);
		tls_flows(p, i);

		/* the same with the request */
		p.c = client();
		kit_send(p.c, kit_str("%s%s", kit_request_to(tport), "\x16"),
		    strlen(kit_request_to(tport)) + 1);
		p.t = kit_accept(tl);
		kit_expect(p.c, KIT_OK);
		if (i > 1)
			kit_send(p.c, hello + 1, i - 1);
		rests();
		if (i < 6)
			kit_silent(p.t, 0);
		tls_flows(p, i);
	}
	settles();
}

static void
tls_of_all_versions(void **state)
{
	char first[6] = "\x16\x03\x00\x7f\xff\x01";
	struct kit_pair p;
	int minor;

	(void)state;
	serve("-T", LOCAL);
	for (minor = 0; minor <= 4; minor++) {
		first[2] = (char)minor;
		p = tunnel();
		kit_send(p.c, first, sizeof(first));
		{
			char got[sizeof(first)];

			kit_recv(p.t, got, sizeof(got));
			assert_memory_equal(got, first, sizeof(got));
		}
		kit_farewell(p);
	}
	settles();
}

/* Nothing reaches the target but its end; the client hears nothing either,
 * but that it had been connected. */
static void
tls_refused(struct kit_pair p)
{
	char buf[64];

	kit_poll(p.t, POLLIN, "the end");
	if (read(p.t, buf, sizeof(buf)) > 0)
		kit_fail("bytes have reached the target");
	kit_ends(p.c);
	(void)close(p.t);
}

static void
no_tls(void **state)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
	} cases[] = {
#define B(s)	{ s, sizeof(s) - 1 }
		B("SSH-2.0-OpenSSH_9.2p1\r\n"), B("GET / HTTP/1.1\r\n\r\n"),
		B("\x15\x03\x01\x02\x00\x01"), B("\x17\x03\x01\x02\x00\x01"),
		B("\x16\x02\x01\x02\x00\x01"), B("\x16\x04\x01\x02\x00\x01"),
		B("\x16\x03\x05\x02\x00\x01"), B("\x16\x03\xff\x02\x00\x01"),
		B("\x16\x03\x01\x02\x00\x02"), B("\x16\x03\x01\x02\x00\x00"),
		B("\0\0\0\0\0\0"), B("\x80\x2e\x01\x03\x01\x00"),
		B("S"), B("\x16S"), B("\x16\x03\x09")
#undef B
	};
	struct kit_pair p;
	size_t i;
	int early;

	(void)state;
	serve("-Tv", LOCAL);
	for (i = 0; i < 2 * KIT_COUNT(cases); i++) {
		size_t n = i / 2, len = cases[n].len;

		early = i % 2;
		kit_note("case %zu%s", n, early ? ", early" : "");
		p.c = client();
		if (early) {
			char all[512];
			const char *asks = kit_request_to(tport);

			memcpy(all, asks, strlen(asks));
			memcpy(all + strlen(asks), cases[n].bytes, len);
			kit_send(p.c, all, strlen(asks) + len);
		} else
			kit_puts(p.c, kit_request_to(tport));
		p.t = kit_accept(tl);
		kit_expect(p.c, KIT_OK);
		if (!early)
			kit_send(p.c, cases[n].bytes, len);
		tls_refused(p);
	}
	/* who ends before it is decided is not waited for */
	p = tunnel();
	kit_half_close(p.c);
	tls_refused(p);
	p = tunnel();
	kit_send(p.c, hello, 5);
	kit_half_close(p.c);
	tls_refused(p);
	/* http:// is no TLS whatever comes behind it */
	p.c = ask(kit_str("GET http://127.0.0.1:%u/ HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\n\r\n", tport, tport));
	(void)kit_reply(p.c, 403);
	kit_untouched(tl);
	(void)close(p.c);
	settles();
	if (kit_said(px.proc, "TLS") < (int)(2 * KIT_COUNT(cases)))
		kit_fail("%d lines say what was wrong", kit_said(px.proc,
		    "TLS"));
}

/* Undecided, and with a server that speaks first. */
static void
tls_never(void **state)
{
	struct kit_pair p[6], decided, gone;
	int64_t start = kit_now();
	char got[6];
	size_t i;

	(void)state;
	serve("-T", "-w", "1", LOCAL);
	decided = tunnel();
	kit_send(decided.c, hello, sizeof(got));
	kit_recv(decided.t, got, sizeof(got));
	for (i = 0; i < KIT_COUNT(p); i++) {
		p[i] = tunnel();
		kit_puts(p[i].t, "SSH-2.0-a server\r\n");
		kit_send(p[i].c, hello, i);
	}
	gone = tunnel();
	kit_send(gone.c, hello, 5);
	kit_reset(gone.c);
	kit_ends(gone.t);
	for (i = 0; i < KIT_COUNT(p); i++)
		tls_refused(p[i]);
	if (kit_now() - start < 900)
		kit_fail("they had %d ms", (int)(kit_now() - start));
	/* no deadline holds for what has been decided */
	kit_farewell(decided);
	settles();
}


/* ---- many users, read again ---------------------------------------------- */

#define USERS	1000
#define CREW	4

/* Asks for a port where nobody is: is it for the credentials or not? */
static int
authorized(int c, const char *userpass, unsigned nobody)
{
	char head[4096];
	size_t len;

	kit_puts(c, kit_request(kit_str("127.0.0.1:%u", nobody),
	    auth(userpass)));
	(void)kit_head(c, head, sizeof(head));
	assert_non_null(strstr(head, "Content-Length: "));
	len = (size_t)strtoul(strstr(head, "Content-Length: ") + 16, NULL, 10);
	kit_recv(c, head + 16, len);
	if (strncmp(head, "HTTP/1.1 407 ", 13) == 0)
		return 0;
	if (strncmp(head, "HTTP/1.1 502 ", 13) != 0)
		kit_fail("%s: <<%.16s>>", userpass, head);
	return 1;
}

/* The new list is in force at this worker soon. */
static void
becomes_authorized(int c, const char *userpass, unsigned nobody)
{
	int64_t end = kit_now() + kit_patience();

	while (!authorized(c, userpass, nobody))
		if (kit_now() > end)
			kit_fail("%s never is let in", userpass);
}

static const char *
many_users(const char *name)
{
	static char text[USERS * 32];
	size_t n = 0;
	int i;

	for (i = 0; i < USERS; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n,
		    "user%d:pass%d\n", i, i * 7);
	return kit_file(name, 0600, text);
}

static void
many_users_are_known(void **state)
{
	static const char *const right[] = {
		"user0:pass0", "user1:pass7", "user500:pass3500",
		"user998:pass6986", "user999:pass6993"
	};
	static const char *const wrong[] = {
		"user0:pass7", "user1:pass0", "user999:pass699",
		"user1000:pass7000", "user99:pass6993", "user:pass",
		"user999:pass69933", "user999:", ":pass0"
	};
	unsigned nobody = kit_nobody(AF_INET);
	size_t i;
	int c;

	(void)state;
	serve("-a", many_users("users"), LOCAL);
	c = client();
	for (i = 0; i < KIT_COUNT(right); i++)
		if (!authorized(c, right[i], nobody))
			kit_fail("%s is not known", right[i]);
	for (i = 0; i < KIT_COUNT(wrong); i++)
		if (authorized(c, wrong[i], nobody))
			kit_fail("%s is let in", wrong[i]);
	(void)close(c);
	settles();
}

/* A long Digest of who knows no password is not hashed with everybody's. */
static void
strangers_cost_little(void **state)
{
	const char *request;
	int64_t start;
	int c, i, took;

	(void)state;
	serve("-a", many_users("users"), LOCAL);
	c = client();
	start = kit_now();
	for (i = 0; i < 60; i++) {
		request = kit_request("a:1", kit_str("Proxy-Authorization: "
		    "Digest username=\"user%s\", realm=\"httptun\", nonce="
		    "\"n\", uri=\"a:1\", qop=auth, nc=00000001, algorithm="
		    "SHA-256, cnonce=\"%s\", response=\"00\"\r\n",
		    i % 2 ? "7" : "", kit_times(3800, "c")));
		kit_puts(c, request);
		(void)kit_reply(c, 407);
	}
	took = (int)(kit_now() - start);
	print_message("60 wrong Digests, %d users: %d ms\n", USERS, took);
	if (took > 2000)
		kit_fail("60 wrong Digests took %d ms", took);
	(void)close(c);
	settles();
}

/* Whom each worker lets in and whom not. */
static void
all_know(const int *c, int n, const char *right, const char *wrong,
    unsigned nobody)
{
	int i;

	for (i = 0; i < n; i++) {
		if (!authorized(c[i], right, nobody))
			kit_fail("%s is not known at %d", right, i);
		if (authorized(c[i], wrong, nobody))
			kit_fail("%s is let in at %d", wrong, i);
	}
}

/* A fault is reported once and leaves the list as it was. */
static void
faulty_reload(const int *c, const char *fault, const char *says,
    unsigned nobody)
{
	const char *path = kit_path("users");
	int before = kit_said(px.proc, path);

	kit_note("fault: %s", says);
	(void)unlink(path);
	if (fault != NULL)
		(void)kit_file("users", 0600, fault);
	kit_signal(px.proc->pid, SIGHUP);
	kit_err_wait(px.proc, kit_str("httptun: %s: %s", path, says));
	rests();
	assert_int_equal(kit_said(px.proc, path), before + 1);
	all_know(c, CREW, "new:word", "other:word", nobody);
}

/* A connection of that worker's which stays open. */
static int
unknown_client(const pid_t *w, int which)
{
	int c;

	only(w, CREW, which);
	c = ask(kit_request_to(tport));
	(void)kit_reply(c, 407);
	kit_go_on();
	return c;
}

static void
credentials_again(void **state)
{
	unsigned nobody = kit_nobody(AF_INET);
	pid_t w[CREW];
	struct kit_pair p;
	int c[CREW], i;

	(void)state;
	serve("-a", many_users("users"), "-j", "4", LOCAL);
	(void)wait_workers(w, CREW);
	for (i = 0; i < CREW; i++)
		c[i] = unknown_client(w, i);
	all_know(c, CREW, "user999:pass6993", "new:word", nobody);
	only(w, CREW, 0);
	p.c = ask(kit_request(kit_str("127.0.0.1:%u", tport),
	    auth("user0:pass0")));
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	kit_go_on();

	(void)kit_file("users", 0600, "# changed\nnew:word\n");
	kit_signal(px.proc->pid, SIGHUP);
	for (i = 0; i < CREW; i++)
		becomes_authorized(c[i], "new:word", nobody);
	all_know(c, CREW, "new:word", "user999:pass6993", nobody);
	kit_carries(p);

	faulty_reload(c, "other:word\nnew:word\nno colon\n", "line 3",
	    nobody);
	faulty_reload(c, NULL, strerror(ENOENT), nobody);
	faulty_reload(c, "# nobody at all\n", "", nobody);
	kit_carries(p);

	/* who comes later knows what the others know */
	kit_signal(w[3], SIGKILL);
	kit_gone(w[3]);
	kit_ends(c[3]);
	(void)wait_workers(w, CREW);
	for (i = 0; i < CREW; i++) {
		c[3] = unknown_client(w, i);
		all_know(&c[3], 1, "new:word", "other:word", nobody);
	}
	(void)kit_file("users", 0600, "last:one\n");
	kit_signal(px.proc->pid, SIGHUP);
	becomes_authorized(c[3], "last:one", nobody);
	kit_farewell(p);
}


/* ---- look-ups that hang -------------------------------------------------- */

static const char *
hang(int i)
{
	return kit_request(kit_str("n%d.hang:80", i), "");
}

/* Their clients hear that at the deadline. */
static void
times_out(int c)
{
	if (strstr(kit_reply(c, 504), "error=dns_timeout") == NULL)
		kit_fail("no word of a dns_timeout");
	(void)close(c);
}

/* So many more processes than when idle: the look-ups are under way. */
static void
wait_family(int more)
{
	int64_t end = kit_now() + kit_patience();
	struct kit_figure f;

	for (;;) {
		kit_figure(px.proc->pid, &f);
		if (f.procs >= px.idle.procs + more)
			return;
		if (kit_now() > end)
			kit_fail("%d processes and not %d more than %d",
			    f.procs, more, px.idle.procs);
	}
}

static void
hanging_look_ups(void **state)
{
	const struct kit_opt *opt = shimmed();
	const char *asks;
	struct kit_pair p;
	int64_t start;
	int c[20], i, took;

	(void)state;
	if (opt == NULL)
		skip();
	target();
	serve_opt(opt, "-w", "3", LOCAL);
	start = kit_now();
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		c[i] = ask(hang(i));
	wait_family((int)KIT_COUNT(c));
	for (i = 0; i < 50; i++) {
		asks = i % 2 ? kit_request_to(tport) : kit_request(kit_str(
		    i % 4 ? "localhost:%u" : "one.test:%u", tport), "");
		p.c = ask(asks);
		p.t = kit_accept(tl);
		kit_expect(p.c, KIT_OK);
		kit_farewell(p);
	}
	took = (int)(kit_now() - start);
	print_message("50 tunnels beside 20 look-ups that hang: %d ms\n",
	    took);
	if (took > 2000)
		kit_fail("50 tunnels took %d ms", took);
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		kit_silent(c[i], 0);
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		times_out(c[i]);
	took = (int)(kit_now() - start);
	if (took < 2900 || took > 3000 + kit_patience() / 2)
		kit_fail("they had %d ms", took);
	settles();
}

/* More of them than there are look-ups at once; nobody else's time is
 * theirs, and afterwards names work again. */
static void
too_many_look_ups(void **state)
{
	const struct kit_opt *opt = shimmed();
	struct kit_figure f;
	int c[100], i;

	(void)state;
	if (opt == NULL)
		skip();
	target();
	serve_opt(opt, "-w", "1", LOCAL);
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		c[i] = ask(hang(i));
	wait_family(20);
	serves();
	kit_figure(px.proc->pid, &f);
	if (f.procs > px.idle.procs + 32)
		kit_fail("%d processes at once", f.procs);
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		times_out(c[i]);
	i = ask(kit_request(kit_str("one.test:%u", tport), ""));
	reaches(i, -1);
	settles();
}

/* Who goes frees its look-up at once; a helper that dies takes nothing but
 * itself, and none of what it started stays. */
static void
helper_is_replaced(void **state)
{
	const struct kit_opt *opt = shimmed();
	pid_t all[64], w, helper;
	int c[10], i, n;

	(void)state;
	if (opt == NULL)
		skip();
	target();
	serve_opt(opt, LOCAL);
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		c[i] = ask(hang(i));
	wait_family((int)KIT_COUNT(c));
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		kit_reset(c[i]);
	settles();
	kit_done(px.proc);

	/* once idle, once with look-ups under way */
	serve_opt(opt, "-w", "2", LOCAL);
	for (n = 0; n < 2; n++) {
		for (i = 0; n > 0 && i < (int)KIT_COUNT(c); i++)
			c[i] = ask(hang(i));
		wait_family(n * (int)KIT_COUNT(c));
		i = kit_family(px.proc->pid, all, (int)KIT_COUNT(all));
		helper = wait_workers(&w, 1);
		kit_signal(helper, SIGKILL);
		kit_gone(helper);
		reaches(ask(kit_request(kit_str("one.test:%u", tport), "")),
	    -1);
		for (; i > 0; i--)
			if (n > 0 && all[i - 1] != w && all[i - 1] != helper)
				kit_gone(all[i - 1]);
		assert_true(kit_alive(px.proc));
	}
	for (i = 0; i < (int)KIT_COUNT(c); i++)
		kit_reset(c[i]);
	settles();
	serves();
}

/* A request for a session, if that name is the proxy's own. */
static const char *
maybe_own(unsigned port, const char *fields)
{
	return kit_str("GET http://n0.hang:%u/0123456789abcdef0123456789abcdef"
	    " HTTP/1.1\r\nHost: n0.hang\r\n%s\r\n", port, fields);
}

/* One that hangs because the URL could be our own is given up in time, too. */
static void
own_look_up_hangs(void **state)
{
	const struct kit_opt *opt = shimmed();
	int c;

	(void)state;
	if (opt == NULL)
		skip();
	serve_opt(opt, "-w", "1", LOCAL);
	c = ask(maybe_own(px.port, ""));
	wait_family(1);
	(void)kit_refusal(c, 504, "dns_timeout", KIT_CLOSES);
	(void)close(c);
	settles();
}

/* Nothing is looked up for who is refused in any case. */
static void
no_look_ups_for_strangers(void **state)
{
	const struct kit_opt *opt = shimmed();
	const char *right = kit_basic("u:p"), *wrong = kit_basic("u:q");
	int c;

	(void)state;
	if (opt == NULL)
		skip();
	serve_opt(opt, "-w", "1", "-a", kit_file("users", 0600, "u:p\n"),
	    LOCAL);
	c = ask(maybe_own(px.port, ""));
	(void)kit_reply(c, 407);
	kit_puts(c, maybe_own(px.port, kit_str("Authorization: %s\r\n"
	    "Proxy-Authorization: %s\r\n", wrong, wrong)));
	(void)kit_reply(c, 407);
	/* the port tells that it is another one's, whose proxy this is */
	kit_puts(c, maybe_own(80, kit_str("Authorization: %s\r\n", right)));
	(void)kit_reply(c, 407);
	kit_puts(c, maybe_own(px.port, kit_str("Authorization: %s\r\n",
	    right)));
	wait_family(1);
	(void)kit_refusal(c, 504, "dns_timeout", KIT_CLOSES);
	(void)close(c);
	c = ask(maybe_own(px.port, auth("u:p")));
	wait_family(1);
	(void)kit_refusal(c, 504, "dns_timeout", KIT_CLOSES);
	(void)close(c);
	settles();
	kit_done(px.proc);

	serve_opt(opt, "-c", "!127.0.0.0/8", "-c", "any", LOCAL);
	c = ask(maybe_own(px.port, ""));
	(void)kit_refusal(c, 403, "http_request_denied", KIT_STAYS);
	(void)close(c);
	settles();
}

/* It has no helper: there is never a name to look up. */
static void
without_helper(const char *option, const char *value)
{
	pid_t w, helper;

	if (value != NULL)
		serve(option, value, LOCAL);
	else
		serve(option, LOCAL);
	assert_int_equal(kit_workers(&px, &w, 1, &helper), 1);
	assert_int_equal(helper, -1);
	kit_done(px.proc);
	(void)close(tl);
}

/* The first process has it also where only a hop's name is looked up, so that
 * a worker never makes do with one of its own. */
static void
helper_for_hops(void **state)
{
	pid_t w, helper;
	int c, i;

	(void)state;
	without_helper("-n", NULL);
	without_helper("-x", "127.0.0.1:1");
	without_helper("-x", "exec:cat");
	serve("-r", LOCAL);
	(void)wait_workers(&w, 1);
	kit_done(px.proc);
	(void)close(tl);
	target();
	serve_opt(NULL, "-4", "-x", kit_str("127.0.0.1:1,localhost:%u", tport),
	    LOCAL);
	for (i = 0; i < 3; i++) {
		helper = wait_workers(&w, 1);
		assert_int_equal(kit_children(w), 0);
		c = ask("CONNECT h:1 HTTP/1.1\r\n\r\n");
		(void)close(kit_accept(tl));
		(void)kit_refusal(c, 502, "", KIT_STAYS);
		(void)close(c);
		assert_int_equal(kit_children(w), 0);
		kit_signal(helper, SIGKILL);
		kit_gone(helper);
	}
}

/* ---- slow clients -------------------------------------------------------- */

#define DRIPS	500

/* Each of them gets another byte of its head. */
static void
drip(const int *c, size_t turn)
{
	static const char head[] = "CONNECT 127.0.0.1:80 HTTP/1.1\r\n"
	    "Host: 127.0.0.1:80\r\nX-Long: ";
	char byte = turn < sizeof(head) - 1 ? head[turn] : 'x';
	int i;

	/* one that has been dropped may be told so by an error */
	for (i = 0; i < DRIPS; i++)
		(void)send(c[i], &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
dripping_clients(void **state)
{
	int64_t start, before;
	int c[DRIPS], i, slowest = 0;
	struct pollfd last = { .events = POLLIN };
	size_t turn = 0;

	(void)state;
	serve("-w", "2", LOCAL);
	start = kit_now();
	for (i = 0; i < DRIPS; i++)
		c[i] = client();
	last.fd = c[DRIPS - 1];
	do {
		drip(c, turn++);
		before = kit_now();
		if (before - start < 1700) {
			serves();
			if (kit_now() - before > slowest)
				slowest = (int)(kit_now() - before);
		}
		if (before - start > 2000 + kit_patience())
			kit_fail("they drip for ever");
	} while (poll(&last, 1, 20) == 0);
	print_message("the slowest good client beside %d bad ones: %d ms\n",
	    DRIPS, slowest);
	if (slowest > 1000)
		kit_fail("a good client needed %d ms", slowest);
	if (turn < 10 || kit_now() - start < 1900)
		kit_fail("they had %d ms", (int)(kit_now() - start));
	for (i = 0; i < DRIPS; i++) {
		(void)kit_reply(c[i], 408);
		kit_eof(c[i]);
		(void)close(c[i]);
	}
	settles();
	serves();
}


/* ---- thousands of tunnels ------------------------------------------------ */

#define MANY		5000
#define AT_ONCE		200		/* being opened */
#define BLOCK		4096		/* bytes of a turn in each tunnel */
#define MARGIN		2048		/* KiB by which the allocator may err */

/* A client's end of a tunnel to the echo. */
struct tun {
	int		 fd;		/* -1: none */
	unsigned	 seed;
	uint64_t	 sent, got, upto;
	size_t		 opened;	/* bytes of the 200 */
};

static struct tun	*tuns;
static struct pollfd	*tun_pfd;
static int		 ntuns;

/* One connection of the echo's: what comes goes back.  0: it has ended. */
static int
echo(int fd)
{
	char buf[16384];
	ssize_t n = read(fd, buf, sizeof(buf)), k, done = 0;

	if (n == -1 && errno == EAGAIN)
		return 1;
	for (; done < n; done += k)
		if ((k = write(fd, buf + done, (size_t)(n - done))) == -1)
			break;
	if (n > 0 && done == n)
		return 1;
	(void)close(fd);
	return 0;
}

/* The target, a process of its own; ends with the pipe. */
static void
echo_run(int lfd, int life, int max)
{
	struct pollfd *pfd = calloc((size_t)max + 2, sizeof(*pfd));
	int n = 2, i, fd;

	if (pfd == NULL)
		_exit(1);
	pfd[0].fd = life;
	pfd[1].fd = lfd;
	pfd[0].events = pfd[1].events = POLLIN;
	while (poll(pfd, (nfds_t)n, -1) > 0 && pfd[0].revents == 0) {
		for (i = n - 1; i >= 2; i--)
			if (pfd[i].revents != 0 && !echo(pfd[i].fd))
				pfd[i] = pfd[--n];
		/* all of them: a tunnel is open before it is accepted here */
		while (pfd[1].revents != 0 && n < max + 2 &&
		    (fd = accept(lfd, NULL, NULL)) != -1) {
			pfd[n].fd = fd;
			pfd[n].events = POLLIN;
			pfd[n++].revents = 0;
		}
	}
	_exit(0);
}

static pid_t
echo_start(int max)
{
	int life[2], fd;
	pid_t pid;

	assert_int_equal(pipe(life), 0);
	kit_nonblock(tl, 1);
	fflush(NULL);
	if ((pid = fork()) == 0) {
		for (fd = 3; fd < 1024; fd++)
			if (fd != tl && fd != life[0])
				(void)close(fd);
		echo_run(tl, life[0], max);
	}
	assert_true(pid > 0);
	(void)close(life[0]);
	return pid;		/* life[1] is closed with the test at last */
}

/* How many tunnels the limit allows; it is raised as far as it goes. */
static int
allowed_tunnels(void)
{
	struct rlimit rl;
	long n;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	n = rl.rlim_cur > MANY + 200 ? MANY : (long)rl.rlim_cur - 200;
	if (n < MANY)
		print_message("the limit of descriptors allows %ld tunnels\n",
		    n);
	return (int)n;
}

/* Reads what is there of the 200.  1 once it is whole. */
static int
tun_opens(struct tun *t)
{
	static const char ok[] = KIT_OK;
	char buf[sizeof(ok)];
	size_t want = sizeof(ok) - 1 - t->opened;
	ssize_t n = read(t->fd, buf, want);

	if (n == -1 && errno == EAGAIN)
		return 0;
	if (n <= 0 || memcmp(buf, ok + t->opened, (size_t)n) != 0)
		kit_fail("tunnel %u: %s<<%.*s>>", t->seed, n == -1 ?
		    strerror(errno) : "", n > 0 ? (int)n : 0, buf);
	t->opened += (size_t)n;
	return t->opened == sizeof(ok) - 1;
}

/* Opens all that are not open. */
static void
tuns_open(void)
{
	int64_t end = kit_now() + 2 * kit_patience();
	const char *asks = kit_request_to(tport);
	int i, first = 0, next = 0, waiting = 0;

	for (i = 0; i < ntuns; i++)
		tun_pfd[i].fd = -1;
	while (next < ntuns || waiting > 0) {
		for (; next < ntuns && waiting < AT_ONCE; next++) {
			if (tuns[next].fd != -1)
				continue;
			memset(&tuns[next], 0, sizeof(tuns[next]));
			tuns[next].seed = (unsigned)next;
			tuns[next].fd = client();
			(void)!write(tuns[next].fd, asks, strlen(asks));
			kit_nonblock(tuns[next].fd, 1);
			tun_pfd[next].fd = tuns[next].fd;
			waiting++;
		}
		while (first < next && tun_pfd[first].fd == -1)
			first++;
		(void)poll(tun_pfd + first, (nfds_t)(next - first), 50);
		(void)kit_err(px.proc);
		for (i = first; i < next; i++)
			if (tun_pfd[i].fd != -1 && tun_pfd[i].revents != 0 &&
			    tun_opens(&tuns[i])) {
				tun_pfd[i].fd = -1;
				waiting--;
			}
		if (kit_now() > end)
			kit_fail("%d tunnels are not opened", waiting);
	}
}

/* Moves what goes, up to a block more.  -1: it has been reset. */
static int
tun_moves(struct tun *t)
{
	char buf[BLOCK];
	size_t want;
	ssize_t n;

	want = (size_t)(t->upto - t->sent);
	if (want > 0) {
		kit_fill(buf, want, t->seed, t->sent);
		n = send(t->fd, buf, want, MSG_NOSIGNAL);
		if (n == -1 && (errno == ECONNRESET || errno == EPIPE))
			return -1;
		t->sent += n > 0 ? (size_t)n : 0;
	}
	n = read(t->fd, buf, (size_t)(t->upto - t->got));
	if (n == -1 && errno == EAGAIN)
		return 0;
	if (n == -1 && errno == ECONNRESET)
		return -1;
	if (n <= 0)
		kit_fail("tunnel %u ends at %ju: %s", t->seed,
		    (uintmax_t)t->got, n == 0 ? "end of file" :
		    strerror(errno));
	kit_check(buf, (size_t)n, t->seed, t->got);
	t->got += (size_t)n;
	return 0;
}

/* Each open tunnel echoes another block, all at once.  Returns how many were
 * found reset instead: those are closed. */
static int
tuns_echo(void)
{
	int64_t end = kit_now() + 2 * kit_patience();
	int i, left = 0, dead = 0;

	for (i = 0; i < ntuns; i++) {
		tun_pfd[i].fd = tuns[i].fd;
		tun_pfd[i].events = POLLIN | POLLOUT;
		tuns[i].upto = tuns[i].got + BLOCK;
		left += tuns[i].fd != -1;
	}
	while (left > 0) {
		(void)poll(tun_pfd, (nfds_t)ntuns, 50);
		(void)kit_err(px.proc);
		for (i = 0; i < ntuns; i++) {
			if (tun_pfd[i].fd == -1 || tun_pfd[i].revents == 0)
				continue;
			if (tun_moves(&tuns[i]) == -1) {
				(void)close(tuns[i].fd);
				tuns[i].fd = -1;
				dead++;
			} else if (tuns[i].got < tuns[i].upto) {
				if (tuns[i].sent == tuns[i].upto)
					tun_pfd[i].events = POLLIN;
				continue;
			}
			tun_pfd[i].fd = -1;
			left--;
		}
		if (kit_now() > end)
			kit_fail("%d tunnels do not echo", left);
	}
	for (i = 0; i < ntuns; i++)
		tun_pfd[i].events = POLLIN;
	return dead;
}

static void
tuns_end(int every, int reset)
{
	int i;

	for (i = 0; i < ntuns; i += every) {
		if (tuns[i].fd != -1) {
			if (reset)
				kit_reset(tuns[i].fd);
			else
				(void)close(tuns[i].fd);
		}
		tuns[i].fd = -1;
	}
}

/* Some come and go one after the other; in ms. */
static int
one_by_one(void)
{
	int64_t start;
	struct kit_pair p;
	unsigned port;
	int i, lfd;

	/* no echo: it is not the target that is timed */
	lfd = kit_listen(AF_INET, &port);
	start = kit_now();
	for (i = 0; i < 50; i++) {
		p.c = ask(kit_request_to(port));
		p.t = kit_accept(lfd);
		kit_expect(p.c, KIT_OK);
		kit_farewell(p);
	}
	(void)close(lfd);
	return (int)(kit_now() - start);
}

/* The worker with the most tunnels dies, and all of its tunnels, but no
 * other one. */
static void
kill_a_worker(void)
{
	pid_t w[128], helper, most;
	int n, i, socks, dead;

	n = kit_workers(&px, w, (int)KIT_COUNT(w), &helper);
	for (i = 1, most = w[0]; i < n; i++)
		if (kit_holds(w[i], NULL) > kit_holds(most, NULL))
			most = w[i];
	socks = kit_holds(most, NULL);
	kit_signal(most, SIGKILL);
	kit_gone(most);
	dead = tuns_echo();
	print_message("%d tunnels went with one of %d workers\n", dead, n);
	if (dead < 1 || dead > socks / 2)
		kit_fail("%d tunnels are reset, the worker had %d sockets",
		    dead, socks);
	assert_true(kit_alive(px.proc));
}

static void
memory_is_back(void)
{
	struct kit_figure f;

	settles();
	rests();
	kit_figure(px.proc->pid, &f);
	print_message("idle before: %d processes, %d descriptors, %ld KiB; "
	    "after: %d, %d, %ld\n", px.idle.procs, px.idle.fds, px.idle.rss,
	    f.procs, f.fds, f.rss);
	if (!kit_sanitized() && f.rss > px.idle.rss + MARGIN)
		kit_fail("from %ld to %ld KiB", px.idle.rss, f.rss);
}

static void
many_and_their_worker(void)
{
	struct kit_figure f, idle = px.idle;
	int alone, beside;

	alone = one_by_one();
	settles();
	rests();
	kit_figure(px.proc->pid, &px.idle);
	assert_true(px.idle.fds <= idle.fds);
	tuns_open();
	assert_int_equal(tuns_echo(), 0);
	rests();
	kit_figure(px.proc->pid, &f);
	print_message("%d tunnels: %d processes, %d descriptors, %ld KiB\n",
	    ntuns, f.procs, f.fds, f.rss);
	tuns_end(ntuns, 1);	/* room for one more where there is a limit */
	beside = one_by_one();
	print_message("50 one by one: %d ms alone, %d ms beside them\n",
	    alone, beside);
	if (beside > 2000 + 5 * alone)
		kit_fail("%d ms beside others, %d ms alone", beside, alone);
	tuns_end(2, 1);
	kill_a_worker();
	tuns_open();
	assert_int_equal(tuns_echo(), 0);
	tuns_end(1, 0);
	memory_is_back();
	assert_int_equal(one_by_one() > 0, 1);
}

static void
thousands_of_tunnels(void **state)
{
	pid_t pid;
	int i;

	(void)state;
	ntuns = allowed_tunnels();
	tuns = calloc((size_t)ntuns, sizeof(*tuns));
	tun_pfd = calloc((size_t)ntuns, sizeof(*tun_pfd));
	assert_true(ntuns > 0 && tuns != NULL && tun_pfd != NULL);
	for (i = 0; i < ntuns; i++) {
		tuns[i].fd = -1;
		tun_pfd[i].events = POLLIN;
	}
	serve(LOCAL);
	pid = echo_start(ntuns + 100);
	many_and_their_worker();
	free(tuns);
	free(tun_pfd);
	kit_signal(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}


/* ---- full ---------------------------------------------------------------- */

#define CROWD	400		/* fewer than the backlog holds */

/* All of it together uses next to no time. */
static void
does_not_spin(void)
{
	long hz = sysconf(_SC_CLK_TCK);
	struct kit_figure before, after;

	kit_figure(px.proc->pid, &before);
	(void)poll(NULL, 0, OBSERVE);
	kit_figure(px.proc->pid, &after);
	/* a process that spins would take all of the time */
	if ((after.cpu - before.cpu) * 1000 > hz * OBSERVE / 2)
		kit_fail("%ld ticks in %d ms", after.cpu - before.cpu,
		    OBSERVE);
}

/* Takes what has got to the target up to now; returns how many. */
static int
crowd_accept(struct kit_pair *p)
{
	struct pollfd pfd = { .fd = tl, .events = POLLIN };
	int n, t;

	for (n = 0; poll(&pfd, 1, 0) > 0; n++) {
		t = kit_accept(tl);
		p[kit_number(t, CROWD)].t = t;
	}
	return n;
}

/* Until nobody finds room any more and nobody new is started for it; returns
 * how many have found room. */
static int
crowd_settles(struct kit_pair *p)
{
	pid_t pids[128];
	int n, got, all = 0;

	do {
		n = kit_processes(px.proc->pid, pids, (int)KIT_COUNT(pids));
		rests();
		got = crowd_accept(p);
		all += got;
	} while (got > 0 || kit_processes(px.proc->pid, pids,
	    (int)KIT_COUNT(pids)) != n);
	return all;
}

/* Besides the log and where it listens there is one line at most, of all that
 * has come up to now: more may come while it is looked at. */
static void
full_is_said_once(void)
{
	const char *line = kit_err(px.proc), *end;
	int others = 0;

	for (; (end = strchr(line, '\n')) != NULL; line = end + 1)
		if (strncmp(line, "httptun: 20", 11) != 0 &&
		    strncmp(line, "httptun: listening", 18) != 0 &&
		    others++ > 0)
			kit_fail("it says more than that it is full: %.*s",
			    (int)(end - line), line);
}

/* Far more clients than there is room for: they wait, silently, and each is
 * served when others have left. */
static void
little_room(void **state)
{
	struct kit_pair p[CROWD];
	int i, open = 0, served = 0;

	(void)state;
	target();
	kit_proxy_is(&px, kit_start(NULL, "sh", "-c",
	    "ulimit -n 32; exec \"$@\"", "sh", kit_binary(), "-lv", LOCAL));
	for (i = 0; i < CROWD; i++) {
		p[i].c = ask(kit_str("%s%04d", kit_request_to(tport), i));
		p[i].t = -1;
	}
	open = crowd_settles(p);
	print_message("%d of %d clients found room\n", open, CROWD);
	if (open < 4 || open == CROWD)
		kit_fail("%d of %d clients found room", open, CROWD);
	does_not_spin();
	assert_int_equal(crowd_accept(p), 0);
	for (i = 0; i < CROWD; i++)
		if (p[i].t == -1)
			kit_silent(p[i].c, 0);
	for (i = 0; served < CROWD; i = (i + 1) % CROWD) {
		if (p[i].t > 0) {
			kit_expect(p[i].c, KIT_OK);
			kit_farewell(p[i]);
			p[i].t = 0;
			served++;
		} else if (served == open) {
			kit_poll(tl, POLLIN, "the next of the crowd");
			open += crowd_accept(p);
		}
	}
	settles();
	serves();
	full_is_said_once();
}

/* What a process may open is taken away from it. */
static void
limit_files(pid_t pid, rlim_t n)
{
	struct rlimit rl;

	/* not the hard one: it could not be raised again */
	if (prlimit(pid, RLIMIT_NOFILE, NULL, &rl) == -1 ||
	    (rl.rlim_cur = n, prlimit(pid, RLIMIT_NOFILE, &rl, NULL) == -1))
		kit_fail("prlimit of %ld: %s", (long)pid, strerror(errno));
}

/* EMFILE where there seemed to be room: no spinning, and at most one word of
 * it; what waited is served once there is room. */
static void
out_of_descriptors(void **state)
{
	struct kit_pair old, p[20];
	size_t i;
	pid_t w;

	(void)state;
	serve(LOCAL);
	old = tunnel();
	(void)wait_workers(&w, 1);
	rests();
	limit_files(w, (rlim_t)kit_fds(w));
	limit_files(px.proc->pid, (rlim_t)kit_fds(px.proc->pid));
	for (i = 0; i < KIT_COUNT(p); i++)
		p[i].c = ask(kit_str("%s%04zu", kit_request_to(tport), i));
	does_not_spin();
	kit_carries(old);
	kit_untouched(tl);
	for (i = 0; i < KIT_COUNT(p); i++)
		kit_silent(p[i].c, 0);
	limit_files(px.proc->pid, 1024);
	limit_files(w, 1024);
	for (i = 0; i < KIT_COUNT(p); i++) {
		int t = kit_accept(tl);

		p[kit_number(t, CROWD)].t = t;
	}
	for (i = 0; i < KIT_COUNT(p); i++) {
		kit_expect(p[i].c, KIT_OK);
		kit_farewell(p[i]);
	}
	kit_farewell(old);
	settles();
	full_is_said_once();
}


/* ---- many workers -------------------------------------------------------- */

static void
four_workers(void **state)
{
	struct kit_pair p[CREW];
	pid_t w[CREW], helper;
	int i;

	(void)state;
	serve("-j", "4", LOCAL);
	helper = wait_workers(w, CREW);
	assert_int_equal(px.idle.procs, 1 + CREW + 1);
	assert_int_equal(kit_holds(helper, kit_proxy_socket(&px)), 0);
	for (i = 0; i < CREW; i++) {
		p[i] = tunnel_in(w, CREW, i);
	}
	for (i = 0; i < CREW; i++)
		kit_carries(p[i]);
	/* one takes only its own with it */
	kit_signal(w[2], SIGKILL);
	kit_expect_reset(p[2].c);
	kit_expect_reset(p[2].t);
	(void)close(p[2].c);
	(void)close(p[2].t);
	(void)wait_workers(w, CREW);
	p[2] = tunnel_in(w, CREW, CREW - 1);
	for (i = 0; i < CREW; i++)
		kit_farewell(p[i]);
	settles();
}

/* All of them at once, again and again, and the helper too. */
static void
everybody_dies(void **state)
{
	pid_t w[CREW], helper;
	struct kit_pair p;
	int i, turn;

	(void)state;
	serve("-j", "4", LOCAL);
	for (turn = 0; turn < 2; turn++) {
		helper = wait_workers(w, CREW);
		p = tunnel();
		for (i = 0; i < CREW; i++)
			kit_signal(w[i], SIGKILL);
		kit_signal(helper, SIGKILL);
		kit_until_reset(p.c);
		kit_until_reset(p.t);
		(void)close(p.c);
		(void)close(p.t);
		for (i = 0; i < CREW; i++)
			kit_gone(w[i]);
		kit_gone(helper);
		serves();
	}
	(void)wait_workers(w, CREW);
	settles();
}


/* ---- the log ------------------------------------------------------------- */

struct logged {
	char	time[32], client[80], user[128], what[512], status[16],
		up[32], down[32], secs[32], why[256];
};

static int
is_number(const char *s, const char *set)
{
	return *s != '\0' && isdigit((unsigned char)*s) &&
	    strspn(s, set) == strlen(s);
}

/* Nine columns, parted by one blank each, of which only the last may have
 * blanks in it; nothing that a terminal would obey. */
static void
log_parse(const char *line, struct logged *l)
{
	size_t i, n = strcspn(line, "\n");
	const char *again;
	struct tm tm;

	for (i = 0; i < n; i++)
		if (line[i] < 0x20 || line[i] > 0x7e)
			kit_fail("byte %d in the log: <<%s>>", line[i], line);
	if (sscanf(line, "httptun: %31s %79s %127s %511s %15s %31s %31s %31s "
	    "%255[^\n]", l->time, l->client, l->user, l->what, l->status,
	    l->up, l->down, l->secs, l->why) != 9)
		kit_fail("not the columns of a log: <<%.*s>>", (int)n, line);
	again = kit_str("httptun: %s %s %s %s %s %s %s %s %s", l->time,
	    l->client, l->user, l->what, l->status, l->up, l->down, l->secs,
	    l->why);
	if (strlen(again) != n || strncmp(again, line, n) != 0)
		kit_fail("blanks in the log: <<%.*s>>", (int)n, line);
	again = strptime(l->time, "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (again == NULL || *again != '\0' || strlen(l->time) != 20)
		kit_fail("no time: %s", l->time);
	if (!is_number(l->status, "0123456789") || strlen(l->status) != 3 ||
	    !is_number(l->up, "0123456789") ||
	    !is_number(l->down, "0123456789") ||
	    !is_number(l->secs, "0123456789."))
		kit_fail("no number: <<%.*s>>", (int)n, line);
}

/* Waits for the next line of the log behind *at, which moves on. */
static void
log_next(size_t *at, struct logged *l)
{
	int64_t end = kit_now() + kit_patience();
	const char *nl;

	while ((nl = strchr(kit_err(px.proc) + *at, '\n')) == NULL) {
		if (kit_now() > end)
			kit_fail("no further line in the log");
		(void)poll(NULL, 0, 1);
	}
	log_parse(px.proc->errbuf + *at, l);
	*at = (size_t)(nl - px.proc->errbuf) + 1;
}

static const char *
name_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char host[64], port[8];

	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	assert_int_equal(getnameinfo((struct sockaddr *)&ss, len, host,
	    sizeof(host), port, sizeof(port),
	    NI_NUMERICHOST | NI_NUMERICSERV), 0);
	return kit_str(ss.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
	    port);
}

/* The line of one that was asked by this client. */
static void
log_is(size_t *at, const char *who, const char *user, const char *what,
    int status, unsigned up, unsigned down)
{
	struct logged l;

	log_next(at, &l);
	assert_string_equal(l.client, who);
	assert_string_equal(l.user, user);
	assert_string_equal(l.what, what);
	assert_int_equal(atoi(l.status), status);
	assert_int_equal(strtoul(l.up, NULL, 10), up);
	assert_int_equal(strtoul(l.down, NULL, 10), down);
	if (strtod(l.secs, NULL) > kit_patience())
		kit_fail("%s seconds", l.secs);
}

static void
log_columns(void **state)
{
	char before[32], after[32];
	time_t now = time(NULL);
	const char *who, *what;
	struct logged l;
	struct kit_pair p;
	size_t at;

	(void)state;
	strftime(before, sizeof(before), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
	serve("-v", "-a", kit_file("users", 0600, "alice:secret\n"
	    "j\xf6rg smith:pw\n"), LOCAL);
	at = strlen(kit_err(px.proc));
	what = kit_str("127.0.0.1:%u", tport);

	/* 5 bytes came early, 13 and 14 behind them */
	p.c = ask(kit_str("%searly", kit_request(what, auth("alice:secret"))));
	who = name_of(p.c);
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	kit_expect(p.t, "early");
	assert_int_equal(kit_err(px.proc)[at], '\0');	/* at its end only */
	kit_carries(p);
	kit_reset(p.t);
	kit_expect_reset(p.c);
	(void)close(p.c);
	log_is(&at, who, "alice", what, 200, 18, 13);
	if (strstr(kit_err(px.proc), strerror(ECONNRESET)) == NULL)
		kit_fail("it does not say that it was reset");

	/* as each request on a connection that stays */
	p.c = ask(kit_request(what, ""));
	who = name_of(p.c);
	(void)kit_reply(p.c, 407);
	log_is(&at, who, "-", what, 407, 0, 0);
	kit_puts(p.c, kit_request(what, auth("alice:wrong")));
	(void)kit_reply(p.c, 407);
	log_is(&at, who, "-", what, 407, 0, 0);
	kit_puts(p.c, kit_request(what, auth("j\xf6rg smith:pw")));
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	log_next(&at, &l);
	assert_string_equal(l.client, who);
	if (strncmp(l.user, "j\\xf6rg", 7) != 0 ||
	    strstr(l.user, "smith") == NULL)
		kit_fail("user %s", l.user);
	now = time(NULL);
	strftime(after, sizeof(after), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
	if (strcmp(l.time, before) < 0 || strcmp(l.time, after) > 0)
		kit_fail("%s is not between %s and %s", l.time, before,
		    after);
	assert_int_equal(kit_err(px.proc)[at], '\0');
}

static void
log_of_refusals(void **state)
{
	struct {
		const char	*asks, *what;
		int		 status;
	} cases[] = {
		{ "CONNECT 127.0.0.1:P HTTP/1.1\r\n\r\n", "127.0.0.1:P",
		    502 },
		{ "GET /path HTTP/1.1\r\nHost: h\r\n\r\n", "/path", 404 },
		{ "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "*", 404 },
		{ "GET / HTTP/1.1\nHost: h\n\n", "-", 400 },
		{ "\x16\x03\x01\x02", "-", 400 },
		{ "GET /\x1b[2J HTTP/1.1\r\n\r\n", "-", 400 },
		{ "GET / HTTP/2.0\r\n\r\n", "-", 505 },
		{ "GET / HTTP/1.1\r\nHost: h\r\nX: \x1b]0;t\x07\r\n\r\n", "-",
		    400 },
		{ "GET http://a@127.0.0.1:P/x?y HTTP/1.1\r\nHost: h\r\n\r\n",
		    NULL, 400 },
		{ "CONNECT a\x7f\r\n\r\n", "-", 400 },
		{ "CONNECT 127.0.0.1:0 HTTP/1.1\r\n\r\n", NULL, 400 },
		{ "CONNECT j\xf6rg:80 HTTP/1.1\r\n\r\n", NULL, 400 },
		{ "GET http://127.0.0.1:P/x?secret HTTP/1.1\r\n"
		    "Host: 127.0.0.1:P\r\n\r\n", "http://127.0.0.1:P/x", 502 }
	};
	struct logged l;
	size_t at, i;
	const char *who;
	int c;

	(void)state;
	serve("-v", LOCAL);
	tport = kit_nobody(AF_INET);
	at = strlen(kit_err(px.proc));
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("case %zu", i);
		c = ask(ported(cases[i].asks));
		who = name_of(c);
		(void)kit_reply(c, cases[i].status);
		(void)close(c);
		if (cases[i].what != NULL) {
			log_is(&at, who, "-", ported(cases[i].what),
			    cases[i].status, 0, 0);
			continue;
		}
		log_next(&at, &l);
		assert_string_equal(l.client, who);
		assert_int_equal(atoi(l.status), cases[i].status);
	}
	if (strstr(kit_err(px.proc), "secret") != NULL)
		kit_fail("a query is in the log");
	if (!kit_has_ipv6())
		return;
	serve("-v", "::1", "0", NONE);
	at = strlen(kit_err(px.proc));
	c = kit_connect(AF_INET6, px.port);
	kit_puts(c, ported("CONNECT [::1]:< HTTP/1.1\r\n\r\n"));
	tport = kit_nobody(AF_INET6);
	(void)kit_head(c, (char[4096]){ 0 }, 4096);
	log_next(&at, &l);
	assert_string_equal(l.client, name_of(c));
	assert_int_equal(strncmp(l.what, "[::1]:", 6), 0);
}

/* Nor is a password in a URL its business. */
static void
log_of_urls(void **state)
{
	static const char *const asks[] = {
		"GET http://bob:s3cret@127.0.0.1:1/@x HTTP/1.1\r\nHost: h\r\n",
		"GET http://s3cret@s3cret@h/?s3cret HTTP/1.1\r\nHost: h\r\n",
		"CONNECT bob:s3cret@127.0.0.1:1 HTTP/1.1\r\nHost: h\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nReferer: http://u:s3cret@h/\r\n",
		"GET /a@b HTTP/1.1\r\nHost: h\r\nFrom: joe@h.example\r\n",
	};
	char reply[4096];
	size_t i;
	int c;

	(void)state;
	serve("-vv", LOCAL);
	for (i = 0; i < KIT_COUNT(asks); i++) {
		c = ask(kit_str("%sConnection: close\r\n\r\n", asks[i]));
		(void)kit_slurp(c, reply, sizeof(reply));
		(void)close(c);
	}
	kit_err_wait(px.proc, "From: joe@h.example\n");
	kit_err_has(px.proc, "> GET http://***@127.0.0.1:1/@x HTTP/1.1\n");
	kit_err_has(px.proc, "> CONNECT ***@127.0.0.1:1 HTTP/1.1\n");
	kit_err_has(px.proc, " - http://***@127.0.0.1:1/@x 400 ");
	kit_err_has(px.proc, "> GET /a@b HTTP/1.1\n");
	kit_err_has(px.proc, "> Referer: http://***@h/\n");
	if (strstr(kit_err(px.proc), "s3cret@") != NULL)
		kit_fail("the log has the password");
}

/* Without -v there is nothing but what is wrong. */
static void
silent_without_v(void **state)
{
	int c;

	(void)state;
	serve("-t", "127.0.0.1", LOCAL);
	serves();
	c = ask(kit_request("127.0.0.2:80", ""));
	(void)kit_reply(c, 403);
	(void)close(c);
	c = ask("nonsense\r\n\r\n");
	(void)kit_reply(c, 400);
	(void)close(c);
	settles();
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
}

#define LINES	300

/* A socket that keeps writes apart: each must be one line. */
static const char *
one_write(int fd)
{
	static char line[4096];
	ssize_t n;

	kit_poll(fd, POLLIN, "a line");
	n = read(fd, line, sizeof(line) - 1);
	line[n > 0 ? n : 0] = '\0';
	if (n <= 0 || strchr(line, '\n') != line + n - 1)
		kit_fail("not one line in one write: <<%s>>", line);
	return line;
}

static void
a_write_each(void **state)
{
	struct kit_opt opt = { 0 };
	struct kit_pair p[LINES];
	struct logged l;
	int sv[2], i;
	pid_t w[CREW];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	opt.err = sv[1];
	target();
	px.proc = kit_httptun(&opt, "-l", "-v", "-j", "4", LOCAL);
	(void)close(sv[1]);
	assert_int_equal(sscanf(one_write(sv[0]),
	    "httptun: listening on 127.0.0.1 %u\n", &px.port), 1);
	(void)wait_workers(w, CREW);
	for (i = 0; i < LINES; i++) {
		if (i % (LINES / CREW) == 0) {
			kit_go_on();
			only(w, CREW, i / (LINES / CREW));
		}
		p[i] = tunnel();
	}
	kit_go_on();
	for (i = 0; i < LINES; i++)
		kit_reset(i % 2 ? p[i].c : p[i].t);
	for (i = 0; i < LINES; i++) {
		log_parse(one_write(sv[0]), &l);
		assert_string_equal(l.what, kit_str("127.0.0.1:%u", tport));
		assert_string_equal(l.status, "200");
	}
	/* not before: a worker whose line finds no room waits */
	for (i = 0; i < LINES; i++)
		kit_ends(i % 2 ? p[i].t : p[i].c);
	kit_silent(sv[0], 0);
}


/* ---- signals ------------------------------------------------------------- */

/* The number is one of those in the line. */
static void
has_number(const char *line, unsigned long want)
{
	const char *s = line;
	char *end;

	while ((s = strpbrk(s, "0123456789")) != NULL) {
		if (strtoul(s, &end, 10) == want)
			return;
		s = end;
	}
	kit_fail("no %lu among the totals: <<%s>>", want, line);
}

/* Of all workers, with what is open and what is over. */
static void
totals(void **state)
{
	unsigned nobody = kit_nobody(AF_INET);
	pid_t w[CREW];
	struct kit_pair p[CREW];
	const char *line;
	int i, c;

	(void)state;
	serve("-j", "4", LOCAL);
	(void)wait_workers(w, CREW);
	for (i = 0; i < CREW; i++) {
		p[i] = tunnel_in(w, CREW, i);
		kit_carries(p[i]);
	}
	for (i = 0; i < 7; i++)
		serves();
	for (i = 0; i < 9; i++) {
		c = ask(kit_request_to(nobody));
		(void)kit_reply(c, 502);
		(void)close(c);
	}
	kit_puts(p[0].c, "12345");
	kit_expect(p[0].t, "12345");
	rests();
	kit_signal(px.proc->pid, SIGUSR1);
	kit_err_wait(px.proc, "httptun: totals: ");
	rests();
	assert_int_equal(kit_said(px.proc, "totals"), 1);
	line = strstr(kit_err(px.proc), "httptun: totals: ");
	if (strchr(line, '\n') != line + strlen(line) - 1)
		kit_fail("not one line: <<%s>>", line);
	has_number(line, CREW);			/* open */
	has_number(line, CREW + 7);		/* so far */
	has_number(line, 9);			/* refused */
	has_number(line, (CREW + 7) * 13 + 5);	/* bytes up */
	has_number(line, (CREW + 7) * 13);	/* bytes down */
	for (i = 0; i < CREW; i++)
		kit_farewell(p[i]);
	kit_signal(px.proc->pid, SIGUSR1);
	kit_signal(px.proc->pid, SIGUSR1);
	rests();
	serves();
}

/* At once, with all its processes and without a word, by that signal. */
static void
ends_by(const struct kit_opt *opt, int sig, int group)
{
	int waiting, hung, i, n;
	pid_t all[128], w[CREW];
	struct kit_pair p[CREW];
	int64_t start;

	kit_note("signal %d%s", sig, group ? " to all of them" : "");
	target();
	serve_opt(opt, "-j", "4", LOCAL);
	(void)wait_workers(w, CREW);
	for (i = 0; i < CREW; i++) {
		p[i] = tunnel_in(w, CREW, i);
	}
	waiting = ask("CONNECT 127");
	hung = ask(hang(0));
	rests();
	n = kit_processes(px.proc->pid, all, (int)KIT_COUNT(all));
	start = kit_now();
	kit_signal(group ? -px.proc->pid : px.proc->pid, sig);
	kit_exits(px.proc, -sig);
	for (i = 0; i < n; i++)
		kit_gone(all[i]);
	if (kit_now() - start > 2000)
		kit_fail("it took %d ms", (int)(kit_now() - start));
	for (i = 0; i < CREW; i++) {
		kit_ends(p[i].c);
		kit_ends(p[i].t);
	}
	kit_ends(waiting);
	kit_poll(hung, POLLIN, "the end");
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
	kit_eof(px.proc->out);
	kit_done(px.proc);
}

static void
signals_end_all(void **state)
{
	static const struct kit_opt plain;
	const struct kit_opt *shim = shimmed();
	struct kit_opt opt = shim != NULL ? *shim : plain;

	(void)state;
	opt.newsid = 1;
	ends_by(&opt, SIGTERM, 0);
	ends_by(&opt, SIGINT, 0);
	ends_by(&opt, SIGHUP, 0);
	ends_by(&opt, SIGINT, 1);	/* a terminal tells the whole group */
	ends_by(&opt, SIGTERM, 1);
	ends_by(&opt, SIGKILL, 0);
}

static void
stops_listening(void)
{
	int64_t end = kit_now() + kit_patience();

	while (kit_knock(AF_INET, px.port) != ECONNREFUSED)
		if (kit_now() > end)
			kit_fail("it goes on listening");
}

/* Tunnels go on, whoever still asks does not, then it ends. */
static void
drains(void **state)
{
	struct kit_stream s[] = {
		{ 0, KIT_OUT, 5 << 20, 1, 1, 0 },
		{ 0, KIT_IN, 5 << 20, 1, 1, 0 }
	};
	struct kit_pair p[CREW];
	pid_t w[CREW], all[64];
	int waiting, mute, i, n;

	(void)state;
	serve("-j", "4", LOCAL);
	(void)wait_workers(w, CREW);
	for (i = 0; i < CREW; i++) {
		p[i] = tunnel_in(w, CREW, i);
	}
	waiting = ask("CONNECT 127");
	mute = client();
	rests();
	n = kit_processes(px.proc->pid, all, (int)KIT_COUNT(all));
	kit_signal(px.proc->pid, SIGQUIT);
	stops_listening();
	kit_poll(waiting, POLLIN, "the end");
	kit_ends(mute);
	for (i = 0; i < CREW - 1; i++)
		kit_farewell(p[i]);
	assert_true(kit_alive(px.proc));
	s[0].fd = p[i].t;
	s[1].fd = p[i].c;
	kit_half_close(p[i].c);
	kit_eof(p[i].t);
	kit_pump(s, 2);
	kit_exits(px.proc, 0);
	for (i = 0; i < n; i++)
		kit_gone(all[i]);
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
}

static void
drains_or_ends(void **state)
{
	struct kit_pair p;

	(void)state;
	serve(LOCAL);
	kit_signal(px.proc->pid, SIGQUIT);
	kit_exits(px.proc, 0);
	serve(LOCAL);
	p = tunnel();
	kit_signal(px.proc->pid, SIGQUIT);
	stops_listening();
	kit_carries(p);
	kit_signal(px.proc->pid, SIGTERM);
	kit_exits(px.proc, -SIGTERM);
	kit_ends(p.c);
	kit_ends(p.t);
}


/* ---- started by others --------------------------------------------------- */

/* What the client of an inetd does: a refusal, then a tunnel that is ended
 * from either side.  Returns the target's end, where an end of file is next. */
static int
inetd_client(int in, int out, int client_first)
{
	struct kit_pair p;

	kit_puts(in, kit_request_to(kit_nobody(AF_INET)));
	(void)kit_reply(out, 502);
	kit_puts(in, kit_str("%searly", kit_request_to(tport)));
	p.t = kit_accept(tl);
	kit_expect(out, KIT_OK);
	kit_expect(p.t, "early");
	kit_puts(in, "to the target");
	kit_expect(p.t, "to the target");
	kit_puts(p.t, "to the client");
	kit_expect(out, "to the client");
	if (client_first) {
		kit_half_close(in);
		kit_eof(p.t);
		kit_puts(p.t, "still there");
		kit_expect(out, "still there");
		kit_half_close(p.t);
		kit_eof(out);
	} else {
		kit_half_close(p.t);
		kit_eof(out);
		kit_puts(in, "still there");
		kit_expect(p.t, "still there");
		kit_half_close(in);
	}
	return p.t;
}

/* Neither a word nor a process is left of it. */
static void
inetd_ends(void)
{
	pid_t all[16];
	int n = kit_processes(px.proc->pid, all, (int)KIT_COUNT(all)), i;

	kit_half_close(px.proc->in);
	kit_exits(px.proc, 0);
	for (i = 0; i < n; i++)
		kit_gone(all[i]);
	kit_err_is(px.proc, "");
}

static void
inetd_by_hand(void **state)
{
	static const struct kit_opt sock = { .in = KIT_SOCK, .out = KIT_SOCK };
	int client_first, two;

	(void)state;
	target();
	for (two = 0; two <= 1; two++)
		for (client_first = 0; client_first <= 1; client_first++) {
			px.proc = kit_httptun(two ? NULL : &sock, "-l", "-i",
			    NONE);
			kit_eof(inetd_client(px.proc->in, px.proc->out,
			    client_first));
			kit_exits(px.proc, 0);
			kit_err_is(px.proc, "");
			kit_done(px.proc);
		}
	/* who asks nothing, or nothing good */
	px.proc = kit_httptun(NULL, "-l", "-i", NONE);
	inetd_ends();
	kit_eof(px.proc->out);
	px.proc = kit_httptun(&sock, "-li", NONE);
	kit_puts(px.proc->in, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	(void)kit_reply(px.proc->out, 404);
	inetd_ends();
	kit_eof(px.proc->out);
	px.proc = kit_httptun(NULL, "-li", "-w", "1", NONE);
	kit_puts(px.proc->in, "CONNECT");
	(void)kit_reply(px.proc->out, 408);
	kit_eof(px.proc->out);
	kit_half_close(px.proc->in);
	(void)kit_wait(px.proc);
	kit_will_not_start(2, "-i", LOCAL);
	kit_will_not_start(2, "-i", "0", NONE);
}

/* Its tunnel carries and ends in order, and so does it. */
static void
inetd_farewell(struct kit_pair p)
{
	kit_carries(p);
	kit_half_close(p.t);
	kit_eof(p.c);
	kit_half_close(p.c);
	kit_eof(p.t);
	kit_exits(px.proc, 0);
	kit_err_is(px.proc, "");
}

/* The name is looked up there too, and reading its users. */
static void
inetd_with_users(void **state)
{
	static const struct kit_opt sock = { .in = KIT_SOCK, .out = KIT_SOCK };
	const char *users = kit_file("users", 0600, "alice:secret\n"), *to;
	struct kit_pair p;

	(void)state;
	target();
	px.proc = kit_httptun(&sock, "-l", "-i", "-a", users, NONE);
	to = kit_str("localhost:%u", tport);
	kit_puts(px.proc->in, kit_request(to, ""));
	(void)kit_offers(kit_reply(px.proc->out, 407), "Proxy-Authenticate", 0);
	kit_puts(px.proc->in, kit_request(to, auth("alice:Secret")));
	(void)kit_reply(px.proc->out, 407);
	kit_untouched(tl);
	kit_puts(px.proc->in, kit_request(to, auth("alice:secret")));
	p.c = px.proc->in;
	p.t = kit_accept(tl);
	kit_expect(px.proc->out, KIT_OK);
	inetd_farewell(p);
}

/* SIGQUIT lets the tunnel end, or does not wait for it; SIGHUP reads -a. */
static void
inetd_signals(void **state)
{
	static const struct kit_opt sock = { .in = KIT_SOCK, .out = KIT_SOCK };
	const char *users = kit_file("users", 0600, "alice:old\n");
	struct kit_pair p;

	(void)state;
	target();
	px.proc = kit_httptun(&sock, "-l", "-i", "-a", users, NONE);
	kit_puts(px.proc->in, kit_request_to(tport));
	(void)kit_reply(px.proc->out, 407);
	(void)kit_file("users", 0600, "alice:new\n");
	kit_signal(px.proc->pid, SIGHUP);
	kit_idle(px.proc);
	kit_puts(px.proc->in, kit_request(kit_str("127.0.0.1:%u", tport),
	    auth("alice:new")));
	p.c = px.proc->in;
	p.t = kit_accept(tl);
	kit_expect(px.proc->out, KIT_OK);
	kit_signal(px.proc->pid, SIGQUIT);
	kit_idle(px.proc);
	inetd_farewell(p);
	px.proc = kit_httptun(&sock, "-l", "-i", NONE);
	kit_puts(px.proc->in, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	(void)kit_reply(px.proc->out, 404);
	kit_signal(px.proc->pid, SIGQUIT);
	kit_exits(px.proc, 0);
}

/* A connection that somebody accepted for it; its client is in the log. */
static void
inetd_with_a_connection(void **state)
{
	struct kit_opt opt = { 0 };
	struct logged l;
	unsigned port;
	size_t at = 0;
	int lfd, c;

	(void)state;
	target();
	lfd = kit_listen(AF_INET, &port);
	c = kit_connect(AF_INET, port);
	opt.in = opt.out = kit_accept(lfd);
	px.proc = kit_httptun(&opt, "-l", "-i", "-v", NONE);
	kit_drop(opt.in);
	kit_eof(inetd_client(c, c, 1));
	kit_exits(px.proc, 0);
	log_next(&at, &l);
	assert_string_equal(l.status, "502");
	log_is(&at, name_of(c), "-", kit_str("127.0.0.1:%u", tport), 200, 18,
	    24);
	/* without one there is no client to tell */
	px.proc = kit_httptun(NULL, "-l", "-i", "-v", NONE);
	kit_eof(inetd_client(px.proc->in, px.proc->out, 1));
	kit_exits(px.proc, 0);
	at = 0;
	log_next(&at, &l);
	assert_string_equal(l.client, "-");
	assert_string_equal(l.status, "502");
}

/* One that has gone by a reset cannot be told from anybody; but what it sent
 * is still there to be read, and so many bytes that there is more to come. */
static void
inetd_with_a_reset(void **state)
{
	struct kit_opt opt = { 0 };
	struct pollfd pfd = { .events = POLLIN };
	const char *request;
	unsigned port;
	int lfd, c;

	(void)state;
	target();
	lfd = kit_listen(AF_INET, &port);
	c = kit_connect(AF_INET, port);
	pfd.fd = opt.in = opt.out = kit_accept(lfd);
	request = kit_request_to(tport);
	kit_puts(c, request);
	kit_puts(c, kit_times(20480 - strlen(request) / 2, "x"));
	kit_reset(c);
	while ((pfd.revents & POLLERR) == 0)
		assert_int_equal(poll(&pfd, 1, kit_patience()), 1);
	px.proc = kit_httptun(&opt, "-l", "-i", "-c", "127.0.0.1", NONE);
	kit_exits(px.proc, 1);
	kit_err_is(px.proc, "");
	kit_untouched(tl);
}

/* inetd(8) leaves the client on stderr, too: it gets nothing but answers. */
static void
inetd_with_stderr(void **state)
{
	const char *users = kit_file("users", 0644, "alice:secret\n");
	struct kit_opt opt = { 0 };
	unsigned port;
	int lfd, c, pipes[2];

	(void)state;
	lfd = kit_listen(AF_INET, &port);
	c = kit_connect(AF_INET, port);
	opt.in = opt.out = opt.err = kit_accept(lfd);
	px.proc = kit_httptun(&opt, "-l", "-i", "-vv", "-a", users, NONE);
	kit_drop(opt.in);
	kit_puts(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	(void)kit_reply(c, 404);
	kit_half_close(c);
	kit_eof(c);
	kit_exits(px.proc, 0);
	/* the same where they are two pipes */
	assert_int_equal(pipe(pipes), 0);
	opt.in = KIT_PIPE;
	opt.out = opt.err = pipes[1];
	px.proc = kit_httptun(&opt, "-l", "-i", "-vv", "-a", users, NONE);
	kit_drop(pipes[1]);
	kit_puts(px.proc->in, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	(void)kit_reply(pipes[0], 404);
	kit_half_close(px.proc->in);
	kit_eof(pipes[0]);
	kit_exits(px.proc, 0);
}

/* socat says "listening on AF=2 127.0.0.1:PORT" */
static struct kit_proc *
socat(const char *linger, const char *options)
{
	static const char says[] = "listening on AF=2 127.0.0.1:";
	struct kit_proc *p;

	p = kit_start(NULL, "socat", "-d", "-d", linger,
	    "TCP-LISTEN:0,bind=127.0.0.1,fork",
	    kit_str("EXEC:%s -l -i%s", kit_binary(), options), NONE);
	kit_err_wait(p, says);
	px.port = (unsigned)strtoul(strstr(kit_err(p), says) +
	    sizeof(says) - 1, NULL, 10);
	return p;
}

static void
inetd_under_socat(void **state)
{
	/* -t: for how long a direction may outlive the other one.  With pipes
	 * socat does not see its child's end of file, only its end, and then
	 * waits for so long (1.7.4): there the client has to end first. */
	static const struct {
		const char	*linger, *options;
		int		 clients;
		int		 target_first;
	} cases[] = {
		{ "-t30", "", 6, 1 }, { "-t0.3", ",pipes", 2, 0 }
	};
	struct kit_proc *p;
	int c[6], k;
	size_t i;

	(void)state;
	target();
	for (i = 0; i < KIT_COUNT(cases); i++) {
		p = socat(cases[i].linger, cases[i].options);
		for (k = 0; k < cases[i].clients; k++)
			c[k] = client();
		for (k = 0; k < cases[i].clients; k++) {
			/* socat ends its child when both have ended */
			kit_ends(inetd_client(c[k], c[k],
			    !cases[i].target_first || k % 2));
			(void)close(c[k]);
		}
		kit_settles(p, kit_fds(p->pid), 0);
		if (strstr(kit_err(p), "httptun:") != NULL)
			kit_fail("it says something");
		kit_done(p);
	}
}

/* Sockets that come as descriptors 3 and 4, as systemd passes them; they
 * are our stdin and stdout first because the kit closes all others. */
static void
activate(int a, int b, const char *n, const char *pid, const char *const *args)
{
	struct kit_opt opt = { 0 };
	const char *argv[16] = { "sh", "-c", NULL, "sh" };
	size_t k = 4;

	argv[2] = kit_str("exec 3<&0 4<&1 </dev/null >/dev/null; "
	    "LISTEN_FDS=%s LISTEN_PID=%s exec \"$@\"", n, pid);
	argv[k++] = kit_binary();
	argv[k++] = "-l";
	while (*args != NULL)
		argv[k++] = *args++;
	argv[k] = NULL;
	opt.in = a;
	opt.out = b;
	px.proc = kit_startv(&opt, argv);
}

static const char *const no_args[] = { NULL };

static void
socket_activation(void **state)
{
	unsigned port, other;
	int a, b, c;

	(void)state;
	target();
	a = kit_listen(AF_INET, &port);
	b = kit_listen(AF_INET, &other);
	/* who comes first waits there */
	px.port = port;
	c = ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	activate(a, b, "2", "$$", no_args);
	assert_int_equal(kit_listening(px.proc, 0), port);
	assert_int_equal(kit_listening(px.proc, 1), other);
	(void)kit_reply(c, 404);
	(void)close(c);
	rests();
	kit_figure(px.proc->pid, &px.idle);
	serves();
	px.port = other;
	serves();
	settles();
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n"
	    "httptun: listening on 127.0.0.1 %u\n", port, other));
	kit_signal(px.proc->pid, SIGQUIT);
	kit_exits(px.proc, 0);

	/* and only one of them */
	activate(a, b, "1", "$$", no_args);
	assert_int_equal(kit_listening(px.proc, 0), port);
	px.port = port;
	serves();
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    port));
}

/* What it is started as by the small parent is an error. */
static void
not_activated(int a, int b, const char *n, const char *pid,
    const char *const *args, int status)
{
	const char *err;

	kit_note("LISTEN_FDS=%s LISTEN_PID=%s", n, pid);
	activate(a, b, n, pid, args);
	kit_exits(px.proc, status);
	err = kit_err(px.proc);
	if (*err == '\0' || strstr(err, "listening on") != NULL)
		kit_fail("no word of what is wrong");
	kit_done(px.proc);
}

static void
wrong_activation(void **state)
{
	static const char *const own[] = { "127.0.0.1", "0", NULL };
	static const char *const any[] = { "-c", "any", NULL };
	static const char *const denying[] = { "-c", "!10.0.0.1", NULL };
	unsigned port;
	int a, b, all;

	(void)state;
	target();
	a = kit_listen(AF_INET, &port);
	b = open("/dev/null", O_RDWR);
	/* meant for somebody else, or for nobody: a port is wanted */
	not_activated(a, b, "1", "1", no_args, 2);
	not_activated(a, b, "1", "", no_args, 2);
	not_activated(a, b, "1", "x", no_args, 2);
	not_activated(a, b, "1", "$$x", no_args, 2);
	not_activated(a, b, "0", "$$", no_args, 2);
	not_activated(a, b, "", "$$", no_args, 2);
	/* or together with one */
	not_activated(a, b, "1", "$$", own, 2);
	activate(a, b, "1", "1", own);
	px.port = kit_listening(px.proc, 0);
	assert_int_not_equal(px.port, port);
	serves();
	kit_done(px.proc);

	/* who passes it may have opened it to all */
	all = listen_at(AF_INET, "0.0.0.0", 0);
	not_activated(all, b, "1", "$$", no_args, 2);
	not_activated(all, b, "1", "$$", denying, 2);
	not_activated(a, all, "2", "$$", no_args, 2);
	activate(all, b, "1", "$$", any);
	assert_int_equal(kit_listening(px.proc, 0), port_of(all));
	px.port = port_of(all);
	serves();
}

/* Neither a file nor a connection listens. */
static void
activated_by_something_else(void **state)
{
	unsigned port;
	int a, nul, c;

	(void)state;
	a = kit_listen(AF_INET, &port);
	nul = open("/dev/null", O_RDWR);
	c = kit_connect(AF_INET, port);
	(void)kit_accept(a);
	activate(nul, a, "1", "$$", no_args);
	assert_true(kit_wait(px.proc) > 0);
	activate(a, nul, "2", "$$", no_args);
	assert_true(kit_wait(px.proc) > 0);
	activate(c, nul, "1", "$$", no_args);
	assert_true(kit_wait(px.proc) > 0);
	activate(a, nul, "500", "$$", no_args);
	assert_true(kit_wait(px.proc) > 0);
}

/* IPv4 clients of a socket for both families have mapped addresses. */
static void
mapped_clients(void **state)
{
	static const char *const none[] = {
		"-v", "-c", "!127.0.0.0/8", "-c", "any", NULL
	};
	static const char *const some[] = { "-v", "-c", "127.0.0.1", NULL };
	int fd, off = 0, nul;
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6 };

	(void)state;
	if (!kit_has_ipv6())
		skip();
	target();
	nul = open("/dev/null", O_RDWR);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	assert_int_equal(bind(fd, (struct sockaddr *)&s6, sizeof(s6)), 0);
	assert_int_equal(listen(fd, 16), 0);
	activate(fd, nul, "1", "$$", none);
	px.port = kit_listening(px.proc, 0);
	tries(client(), "-127.0.0.1:P", -1);
	kit_err_wait(px.proc, "rule -c !127.0.0.0/8");
	kit_done(px.proc);
	activate(fd, nul, "1", "$$", some);
	px.port = kit_listening(px.proc, 0);
	tries(client(), "+127.0.0.1:P", -1);
	/* and it is on this machine */
	kit_err_wait(px.proc, "Z 127.0.0.1:");
	tries(kit_connect(AF_INET6, px.port), "-127.0.0.1:P", -1);
}


int
main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		TEST(target_rules),
		TEST(names_and_addresses),
		TEST(targets_behind_a_hop),
		TEST(client_rules),
		TEST(rule_in_the_log),
		TEST(faulty_rules),
		TEST(open_proxies),
		TEST(from_elsewhere),
		TEST(from_elsewhere_to_itself),
		TEST(from_elsewhere_by_a_hop),
		TEST(from_elsewhere_by_inetd),
		TEST(tls_at_every_cut),
		TEST(tls_of_all_versions),
		TEST(no_tls),
		TEST(tls_never),
		TEST(many_users_are_known),
		TEST(strangers_cost_little),
		TEST(credentials_again),
		TEST(hanging_look_ups),
		TEST(too_many_look_ups),
		TEST(helper_is_replaced),
		TEST(own_look_up_hangs),
		TEST(no_look_ups_for_strangers),
		TEST(helper_for_hops),
		TEST(dripping_clients),
		TEST(thousands_of_tunnels),
		TEST(little_room),
		TEST(out_of_descriptors),
		TEST(four_workers),
		TEST(everybody_dies),
		TEST(log_columns),
		TEST(log_of_refusals),
		TEST(log_of_urls),
		TEST(silent_without_v),
		TEST(a_write_each),
		TEST(totals),
		TEST(signals_end_all),
		TEST(drains),
		TEST(drains_or_ends),
		TEST(inetd_by_hand),
		TEST(inetd_with_users),
		TEST(inetd_signals),
		TEST(inetd_with_a_connection),
		TEST(inetd_with_a_reset),
		TEST(inetd_with_stderr),
		TEST(inetd_under_socat),
		TEST(socket_activation),
		TEST(wrong_activation),
		TEST(activated_by_something_else),
		TEST(mapped_clients)
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
