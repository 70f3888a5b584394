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
 * exec:command as the first hop: what the command is told and given, what goes
 * through it, how it ends, and that nothing of it is ever left.  Its output
 * is the test's word for what it saw: a command here writes to stderr, which
 * is the program's, or answers as a proxy would.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#define _XOPEN_SOURCE 700

#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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
#define MB	1000000
#define BULK	(4 * MB)
#define SOME	(MB / 5)
#define STUFFED	200		/* ms in which nothing more has gone */
#define PEAK	8192		/* KiB that the program may ever take */
#define MANY	10

/* a command's answer to a CONNECT that it has read: a proxy that ends there */
#define ASKED	"while read -r l && [ ${#l} -gt 1 ]; do :; done; "
#define YES	"printf 'HTTP/1.1 200 OK\\r\\n\\r\\n'"

/* a command that tells its pid and then is an echo */
#define ECHO	"echo pid $$ >&2; exec cat"

/* a process of the command's group that has nothing to do with the tunnel;
 * it tells its pid, and what it does on SIGTERM stands before */
#define ASIDE(trap)							\
	"sh -c 'trap " trap " TERM; echo pid $$ >&2; sleep 1000 & "	\
	"wait; wait' </dev/null >/dev/null & "
#define STUBBORN ASIDE("\"\"")
#define POLITE	ASIDE("\"echo terminated >&2; exit\"")

/* A target. */
static int		tl;
static unsigned		tport;


/* ---- what nearly every test does ----------------------------------------- */

static void
target(void)
{
	tl = kit_listen(AF_INET, &tport);
}

/* stdin/stdout to the target by this command and further hops (NULL) */
static struct kit_proc *
bridge(const char *command, ...)
{
	struct kit_proc *p;
	va_list ap;

	va_start(ap, command);
	p = kit_bridge(NULL, NULL, tport, kit_str("exec:%s", command), ap);
	va_end(ap);
	return p;
}

/* stdin/stdout to a name by this command alone */
static struct kit_proc *
run(const char *command)
{
	return kit_httptun(NULL, "-x", kit_str("exec:%s", command), HOST, PORT,
	    NONE);
}

/* the same through a proxy that is asked behind it */
static struct kit_proc *
run_proxy(const char *command)
{
	return kit_httptun(NULL, "-x", kit_str("exec:%s", command), "-x",
	    "p2.example", HOST, PORT, NONE);
}

/* The command that passes on a half-close in either direction. */
static const char *
self(void)
{
	return kit_str("exec %s %%h %%p", kit_binary());
}

/* It ends with this status and one line of its own, that begins so. */
static void
complains(struct kit_proc *p, int status, const char *line)
{
	kit_exits(p, status);
	kit_err_has(p, line);
	if (kit_said(p, "httptun: ") != 1)
		kit_fail("not one line: <<%s>>", kit_err(p));
}

/* The same, and nothing on stdout. */
static void
fails(struct kit_proc *p, int status, const char *line)
{
	complains(p, status, line);
	kit_eof(p->out);
}

static void
client_first(struct kit_proc *p, int t)
{
	kit_last_words(p->in, t, SOME, 3);
	kit_last_words(t, p->out, SOME, 4);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

static void
target_first(struct kit_proc *p, int t)
{
	kit_last_words(t, p->out, SOME, 5);
	kit_last_words(p->in, t, SOME, 6);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

/* What goes in comes out. */
static void
echoes(struct kit_proc *p, const char *word)
{
	kit_puts(p->in, word);
	kit_expect(p->out, word);
}

/* The end of stdin is the command's, and its end is the tunnel's. */
static void
ends(struct kit_proc *p)
{
	kit_half_close(p->in);
	kit_eof(p->out);
	kit_exits(p, 0);
}

static const char *
contents(const char *path)
{
	static char buf[65536];
	int fd = open(path, O_RDONLY);

	if (fd == -1)
		kit_fail("%s: %s", path, strerror(errno));
	(void)kit_slurp(fd, buf, sizeof(buf));
	(void)close(fd);
	return kit_str("%s", buf);
}

static void
is(const char *got, const char *want)
{
	if (strcmp(got, want) != 0)
		kit_fail("<<%s>>\n    and not <<%s>>", got, want);
}

/* The n-th pid (from 0) that a process of a command has told. */
static pid_t
told_pid(struct kit_proc *p, int nth)
{
	int64_t end = kit_now() + kit_patience();
	const char *s;
	long pid;
	char nl;
	int i;

	for (;;) {
		s = kit_err(p);
		for (i = 0; (s = strstr(s, "pid ")) != NULL; i++, s++)
			if (i == nth && sscanf(s, "pid %ld%c", &pid, &nl) == 2)
				return (pid_t)pid;
		if (kit_now() > end)
			kit_fail("no pid number %d", nth);
		(void)poll(NULL, 0, 5);
	}
}


/* ---- what goes through --------------------------------------------------- */

static void
test_both_ways(void **state)
{
	const char *const commands[] = {
		self(), "socat -t 60 - TCP:%h:%p", "exec nc -N %h %p"
	};
	struct kit_proc *p;
	size_t i;
	int t;

	(void)state;
	target();
	for (i = 0; i < KIT_COUNT(commands); i++) {
		p = bridge(commands[i], NONE);
		t = kit_accept(tl);
		kit_talk(p, t, BULK);
		client_first(p, t);
		if (i > 0)		/* these keep their stdout open */
			continue;
		p = bridge(commands[i], NONE);
		t = kit_accept(tl);
		kit_talk(p, t, BULK);
		target_first(p, t);
	}
}

/* The command has no way at all to the target: it is the tunnel. */
static void
test_echo(void **state)
{
	struct kit_proc *p = run("cat");
	struct kit_stream s[] = {
		{ p->in, KIT_OUT, BULK, 1, 1, 0 },
		{ p->out, KIT_IN, BULK, 1, 1, 0 },
	};

	(void)state;
	echoes(p, "hello");
	kit_pump(s, KIT_COUNT(s));
	kit_exits(p, 0);
	kit_err_is(p, "");

	p = kit_httptun(NULL, "-z", "-x", "exec:cat", HOST, PORT, NONE);
	kit_exits(p, 0);
	kit_eof(p->out);
	kit_err_is(p, "");
	p = kit_httptun(NULL, "-z", "-x", "exec:cat; exit 3", HOST, PORT, NONE);
	kit_exits(p, 1);
	kit_eof(p->out);
	kit_err_is(p, "httptun: " HOST ":" PORT ": the command ended with "
	    "status 3\n");
}

/* Whichever way the command closes first, the other one goes on. */
static void
test_command_half_closes(void **state)
{
	const char *file = kit_path("got");
	struct kit_proc *p;

	(void)state;
	p = run(kit_str("echo first; exec >&-; cat >%s", file));
	kit_expect(p->out, "first\n");
	kit_eof(p->out);
	kit_puts(p->in, "afterwards");
	kit_half_close(p->in);
	kit_exits(p, 0);
	kit_err_is(p, "");
	is(contents(file), "afterwards");

	p = run("cat >/dev/null; exec <&-; echo last");
	kit_puts(p->in, "first");
	kit_half_close(p->in);
	kit_expect(p->out, "last\n");
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

/* Each kind of hop behind it, and two. */
static void
test_before_hops(void **state)
{
	static const char *const schemes[] = { "http", "ws", "poll" };
	struct kit_proxy px;
	struct kit_proc *p;
	const char *hop;
	size_t i;
	int t, second;

	(void)state;
	target();
	kit_proxy(&px, "127.0.0.1", "0", NONE);
	for (i = 0; i < KIT_COUNT(schemes); i++)
		for (second = 0; second < 2; second++) {
			kit_note("%s, %d", schemes[i], second);
			hop = kit_str("%s://127.0.0.1:%u", schemes[i],
			    px.port);
			if (second)
				p = bridge(self(), kit_str(
				    "http://127.0.0.1:%u", px.port), hop, NONE);
			else
				p = bridge(self(), hop, NONE);
			t = kit_accept(tl);
			kit_talk(p, t, SOME);
			if (second)
				client_first(p, t);
			else
				target_first(p, t);
		}
	kit_proxy_settles(&px);
}

/* A real jump host. */
static void
test_ssh(void **state)
{
	unsigned port = kit_serve(&kit_sshd, NULL);
	const char *jump;
	struct kit_proc *p;
	int t;

	(void)state;
	jump = kit_str("exec ssh -F none -i %s -o IdentitiesOnly=yes "
	    "-o BatchMode=yes -o StrictHostKeyChecking=no "
	    "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
	    "-p %u -W %%h:%%p 127.0.0.1", kit_path("id"), port);
	target();
	p = bridge(jump, NONE);
	t = kit_accept(tl);
	kit_talk(p, t, SOME);
	client_first(p, t);

	tport = kit_nobody(AF_INET);
	fails(bridge(jump, NONE), 1, "httptun: ");
}

/* A command that does not read stops whoever sends, and costs no memory. */
static void
test_stalled(void **state)
{
	struct kit_proc *p = run(ECHO);
	struct kit_stream s[] = {
		{ .fd = p->in, .dir = KIT_OUT, .bytes = 300 * MB, .seed = 7 },
		{ .fd = p->out, .dir = KIT_IN, .seed = 7 },
	};

	(void)state;
	echoes(p, "hello");
	kit_stop(told_pid(p, 0));
	kit_stalls(&s[0], STUFFED);
	kit_idle(p);
	kit_go_on();
	/* now nobody takes what it sends */
	kit_stalls(&s[0], STUFFED);
	kit_idle(p);
	if (!kit_sanitized() && kit_status(p->pid, "VmHWM") >= PEAK)
		kit_fail("%ld KiB", kit_status(p->pid, "VmHWM"));
	s[0].bytes = s[1].bytes = s[0].done + MB;
	kit_pump(s, 2);
	ends(p);
}

/* Bytes that it has not taken are not delivered, whatever it says. */
static void
test_does_not_read(void **state)
{
	const char *fifo = kit_path("fifo");
	struct kit_stream s = { .dir = KIT_OUT, .bytes = 300 * MB, .seed = 8 };
	struct kit_proc *p;
	int fd, i;

	(void)state;
	if (mkfifo(fifo, 0600) == -1 || (fd = open(fifo, O_RDWR)) == -1)
		kit_fail("%s: %s", fifo, strerror(errno));
	p = run(kit_str("read -r l; echo \"$l\"; read -r l <%s", fifo));
	kit_puts(p->in, "line\n");
	kit_expect(p->out, "line\n");
	s.fd = p->in;
	kit_stalls(&s, STUFFED);
	kit_puts(fd, "\n");
	complains(p, 1, "httptun: " HOST ":" PORT ": ");
	kit_eof(p->out);
	/* Nor where it might have read on to their end. */
	for (i = 0; i < 8; i++) {
		p = run(kit_str("echo here; read -r l <%s", fifo));
		kit_expect(p->out, "here\n");
		kit_puts(p->in, "line\n");
		kit_half_close(p->in);
		kit_puts(fd, "\n");
		complains(p, 1, "httptun: " HOST ":" PORT ": Broken pipe\n");
	}
	/* Nor where it had said all before, and is ended by us, or ends itself. */
	p = run(kit_str("echo here; exec >&-; read -r l <%s", fifo));
	kit_expect(p->out, "here\n");
	kit_eof(p->out);
	kit_puts(p->in, "line\n");
	kit_half_close(p->in);
	complains(p, 1, "httptun: " HOST ":" PORT ": Broken pipe\n");
	p = run(kit_str("exec >&-; read -r l <%s; echo gone >&2", fifo));
	kit_eof(p->out);
	kit_puts(p->in, "line\n");
	kit_puts(fd, "\n");
	kit_err_wait(p, "gone\n");
	kit_half_close(p->in);
	complains(p, 1, "httptun: " HOST ":" PORT ": Broken pipe\n");
}


/* ---- what it is told ----------------------------------------------------- */

/* The next hop, or the target: as they were written. */
static void
test_host_and_port(void **state)
{
	static const struct {
		const char *hop, *host, *port, *args;
	} as[] = {
		{ NULL, "target.example", "5432", "target.example 5432" },
		{ NULL, "192.0.2.7", "1", "192.0.2.7 1" },
		{ NULL, "2001:db8::7", "22", "2001:db8::7 22" },
		{ "p2.example", HOST, PORT, "p2.example 3128" },
		{ "http://u:secret@p2.example:99/", HOST, PORT,
		    "p2.example 99" },
		{ "[::1]:7", HOST, PORT, "::1 7" },
		{ "ws://p2.example/path", HOST, PORT, "p2.example 80" },
		{ "poll://p2.example", HOST, PORT, "p2.example 80" },
	};
	struct kit_proc *p[KIT_COUNT(as)];
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(as); i++)
		p[i] = as[i].hop == NULL ?
		    kit_httptun(NULL, "-x", "exec:echo %h %p; exec cat",
		    as[i].host, as[i].port, NONE) :
		    kit_httptun(NULL, "-w", "1", "-x",
		    "exec:echo is %h %p >&2; exit 9", "-x", as[i].hop,
		    as[i].host, as[i].port, NONE);
	for (i = 0; i < KIT_COUNT(as); i++) {
		kit_note("%zu", i);
		if (as[i].hop == NULL) {
			kit_expect(p[i]->out, kit_str("%s\n", as[i].args));
			ends(p[i]);
			kit_err_is(p[i], "");
			continue;
		}
		kit_exits(p[i], 1);
		kit_err_has(p[i], kit_str("is %s\n", as[i].args));
		assert_null(strstr(kit_err(p[i]), "secret"));
	}
}

/* All but its own % is the shell's. */
static void
test_quoting(void **state)
{
	static const char *const as[][2] = {
		{ "echo 100%%; exec cat", "100%\n" },
		{ "printf '%%s|' 'a  b' \"c'd\" %h%p '%%h' %%%%; echo; cat",
		    "a  b|c'd|" HOST PORT "|%h|%%|\n" },
		{ "  echo   a\\ \\ b  $((1+1)) # %h\n echo $#; cat",
		    "a  b 2\n0\n" },
		{ "cat <<E; exec cat\nx$((6*7)) %h@:/?#\nE\n",
		    "x42 " HOST "@:/?#\n" },
	};
	struct kit_proc *p;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(as); i++) {
		kit_note("%s", as[i][0]);
		p = run(as[i][0]);
		kit_expect(p->out, as[i][1]);
		echoes(p, "also");
		ends(p);
		kit_err_is(p, "");
	}
}

/* Which signals are blocked and ignored, as `look' below shows them: whoever
 * runs the tests may ignore those that the C library keeps for itself (GNU
 * make does); of the others the kit takes care. */
static const char *
own_signals(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256], name[8], *from, *to;
	const char *all = "";
	uint64_t mask;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%6[A-Za-z]: %" SCNx64, name, &mask) != 2 ||
		    (strcmp(name, "SigBlk") != 0 &&
		    strcmp(name, "SigIgn") != 0))
			continue;
		mask &= ~(uint64_t)0x7fffffff;
		snprintf(line, sizeof(line), "%s:%016" PRIx64, name, mask);
		for (from = to = line; *from != '\0'; from++)
			if (*from != '0')
				*to++ = *from;
		*to = '\0';
		all = kit_str("%s%s", all, line);
	}
	fclose(f);
	return all;
}

/* Nothing of ours but the three descriptors; signals and the environment are
 * as the program itself got them, less its secret. */
static void
test_inherits(void **state)
{
	static const char *const env[] = { "HTTPTUN_AUTH=user:s3cret",
	    "KEPT=kept", NULL };
	static const char look[] = "exec:ls /proc/self/fd | tr '\\n' ' '; "
	    "grep -E 'SigBlk|SigIgn' /proc/self/status | tr -d '0\\n\\t'; "
	    "env | grep -Ec 's3cret|HTTPTUN_AUTH'; echo $KEPT; "
	    "read -r a b c d pgid rest </proc/$$/stat; "
	    "[ $pgid = $$ ] && echo leads; exec cat";
	struct kit_opt opt = { .env = env };
	const char *seen;
	struct kit_proc *p;
	char buf[128];
	unsigned port;
	int fd[3], i;

	(void)state;
	seen = kit_str("0 1 2 3 %s0\nkept\nleads\n", own_signals());
	p = kit_httptun(&opt, "-x", look, HOST, PORT, NONE);
	kit_recv(p->out, buf, strlen(seen));
	buf[strlen(seen)] = '\0';
	is(buf, seen);
	ends(p);

	p = kit_httptun(&opt, "-x", look, "-L", "0:" HOST ":" PORT, NONE);
	port = kit_listening(p, 0);
	for (i = 0; i < 3; i++) {
		fd[i] = kit_connect(AF_INET, port);
		kit_expect(fd[i], seen);
	}
}

/* Also SIGPIPE, which the program itself always ignores. */
static void
test_inherits_sigpipe(void **state)
{
	static const char command[] = "kill -PIPE $$; echo lives; exec cat";
	const char *file;
	struct kit_proc *p;

	(void)state;
	file = kit_file("command", 0755, kit_str("#!/bin/sh\n%s\n", command));
	p = kit_httptun(NULL, "-v", "-f", kit_file("lines", 0600, kit_str("0 "
	    HOST " " PORT " -x exec:%s\n", file)), NONE);
	kit_until_reset(kit_connect(AF_INET, kit_listening(p, 0)));
	kit_err_wait(p, "the command ended with status 141\n");
	p = run(command);
	kit_eof(p->out);
	complains(p, 1, "the command was ended by signal 13\n");
	p = kit_start(NULL, "sh", "-c", kit_str("trap '' PIPE; exec %s -x "
	    "'exec:%s' " HOST " " PORT, kit_binary(), command), NONE);
	kit_expect(p->out, "lives\n");
	ends(p);
}

/* Neither password is shown by the command's or our arguments. */
static void
test_secrets(void **state)
{
	static const char *const env[] = { "HTTPTUN_AUTH=user:s3cret", NULL };
	struct kit_opt opt = { .env = env };
	struct kit_proc *p;
	pid_t pids[8];
	const char *args;
	char buf[4096];
	size_t len;
	int fd, i, n;

	(void)state;
	p = kit_httptun(&opt, "-vv", "-x", "exec:" ASKED "echo pid $$ >&2; "
	    YES "; exec cat", "-x", "http://u:s3cret@p2.example", HOST, PORT,
	    NONE);
	(void)told_pid(p, 0);
	echoes(p, "x");
	n = kit_processes(p->pid, pids, (int)KIT_COUNT(pids));
	assert_true(n >= 2);
	for (i = 0; i < n; i++) {
		args = kit_str("/proc/%ld/cmdline", (long)pids[i]);
		assert_true((fd = open(args, O_RDONLY)) != -1);
		len = kit_slurp(fd, buf, sizeof(buf));
		(void)close(fd);
		while (len-- > 0)
			if (buf[len] == '\0')
				buf[len] = ' ';
		if (strstr(buf, "s3cret") != NULL)
			kit_fail("ps shows <<%s>>", buf);
	}
	ends(p);
	if (strstr(kit_err(p), "s3cret") != NULL)
		kit_fail("the log shows it");
}

static void
test_usage(void **state)
{
	const char *touched = kit_path("touched");
	const char *touch = kit_str("exec:echo >%s; cat", touched);
	const char *env[] = { NULL, NULL };
	struct kit_opt sock = { .in = KIT_NULL, .out = KIT_SOCK };
	struct kit_opt named = { .in = KIT_NULL, .env = env };
	struct kit_proc *p;

	(void)state;
	fails(kit_httptun(NULL, "-x", "p1.example", "-x", touch, HOST, PORT,
	    NONE), 2, "httptun: ");
	fails(kit_httptun(NULL, "-x", touch, "-x", touch, HOST, PORT, NONE), 2,
	    "httptun: ");
	fails(kit_httptun(NULL, "-x", "exec:", HOST, PORT, NONE), 2,
	    "httptun: ");
	/* a descriptor alone would not be the tunnel */
	p = kit_httptun(&sock, "-F", "-x", touch, HOST, PORT, NONE);
	fails(p, 2, "httptun: ");
	/* the environment names a proxy, and no command */
	env[0] = kit_str("https_proxy=%s", touch);
	p = kit_httptun(&named, HOST, PORT, NONE);
	fails(p, 1, "httptun: https_proxy: ");
	assert_int_equal(access(touched, F_OK), -1);
}


/* ---- how it ends --------------------------------------------------------- */

static void
test_status(void **state)
{
	static const struct {
		const char *command, *out, *why;
	} as[] = {
		{ "exit 0", "", NULL },
		{ "echo said", "said\n", NULL },
		{ "echo said; exit 3", "said\n", "status 3\n" },
		{ "echo said; kill -9 $$", "said\n", "signal 9\n" },
		{ "echo said; kill $$", "said\n", "signal 15\n" },
		{ "cat; exit 1", "typed", "status 1\n" },
		{ "cat; kill -INT $$", "typed", "signal 2\n" },
		{ "sleep 1000 & exit 3", "", "status 3\n" },
		{ "/nonexistent/command", "", "status 127\n" },
		{ "'", "", "status 2\n" },	/* the shell's complaint */
	};
	struct kit_proc *p[KIT_COUNT(as)];
	char out[64];
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(as); i++) {
		p[i] = run(as[i].command);
		if (strncmp(as[i].command, "cat", 3) == 0)
			kit_puts(p[i]->in, "typed");
		kit_half_close(p[i]->in);
	}
	for (i = 0; i < KIT_COUNT(as); i++) {
		kit_note("%s", as[i].command);
		if (as[i].why == NULL) {
			kit_exits(p[i], 0);
			kit_err_is(p[i], "");
		} else {
			complains(p[i], 1, "httptun: ");
			kit_err_has(p[i], as[i].why);
		}
		(void)kit_slurp(p[i]->out, out, sizeof(out));
		is(out, as[i].out);
	}
}

/* Before the hop behind it has opened the tunnel. */
static void
test_status_before(void **state)
{
	static const char *const commands[] = {
		"exit 0", "exit 1", "kill -9 $$", "/nonexistent/command",
		ASKED "exit 0", ASKED "exit 4", ASKED "kill -9 $$",
		ASKED "echo 220 hello", "printf 'HTTP/1.1 200 O'",
		"exec <&- >&-; sleep 1000",
	};
	struct kit_proc *p, *of[KIT_COUNT(commands)];
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(commands); i++)
		of[i] = run_proxy(commands[i]);
	for (i = 0; i < KIT_COUNT(commands); i++) {
		kit_note("%s", commands[i]);
		fails(of[i], 1, "httptun: ");
	}
	/* whose refusal it is says the line */
	fails(run_proxy(ASKED "printf 'HTTP/1.1 403 No\\r\\n\\r\\n'"), 1,
	    "httptun: p2.example:3128: 403 No\n");
	p = run_proxy(ASKED YES "; echo early");
	kit_half_close(p->in);
	kit_expect(p->out, "early\n");
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "");
	p = run_proxy(ASKED YES "; echo early; exit 1");
	kit_half_close(p->in);
	kit_expect(p->out, "early\n");
	complains(p, 1, "status 1\n");
}

static void
test_stderr(void **state)
{
	struct kit_opt closed = { .in = KIT_CLOSED, .err = KIT_CLOSED };
	struct kit_proc *p = run("echo hello >&2; exec cat");

	(void)state;
	kit_err_wait(p, "\n");
	ends(p);
	kit_err_is(p, "hello\n");
	/* nor is it lost where its three could be mixed up */
	p = kit_httptun(&closed, "-x", "exec:echo 1; cat; echo 2", HOST, PORT,
	    NONE);
	kit_expect(p->out, "1\n2\n");
	kit_eof(p->out);
	kit_exits(p, 0);
}

/*
 * The command of TLS fails, with that the tunnel, and with that the command
 * below it, which has ended before in order.
 */
static void
test_both_end(void **state)
{
	static const char *env[] = { NULL, NULL };
	struct kit_opt opt = { .env = env };
	const char *file = kit_file("pid", 0600, "");
	struct kit_proc *p;

	(void)state;
	env[0] = kit_str("HTTPTUN_TLS=until grep -q '^State:.Z' "
	    "/proc/$(cat %s)/status; do :; done 2>/dev/null; exit 3 # %%s",
	    file);
	p = kit_httptun(&opt, "-x", kit_str("exec:echo $$ >%s", file), "-x",
	    "https://p2.example", HOST, PORT, NONE);
	fails(p, 1, "p2.example:443: the command ended with status 3\n");
}

/* Who is left of its group is asked, then killed. */
static void
test_group(void **state)
{
	struct kit_proc *p[6];
	pid_t pid[6];
	int i;

	(void)state;
	p[0] = run(POLITE "exec cat");
	p[1] = run(STUBBORN "exec cat");
	p[2] = run(STUBBORN "cat; exit 3");
	p[3] = run(STUBBORN "trap '' TERM; cat; exec sleep 1000");
	p[4] = run(STUBBORN "trap '' TERM; cat; exec sleep 1000");
	p[5] = run(POLITE "exec cat");
	for (i = 0; i < 6; i++)
		pid[i] = told_pid(p[i], 0);
	for (i = 0; i < 3; i++)
		kit_half_close(p[i]->in);
	kit_signal(p[3]->pid, SIGTERM);
	kit_signal(p[4]->pid, SIGKILL);
	kit_signal(p[5]->pid, SIGKILL);
	for (i = 0; i < 6; i++)
		kit_gone(pid[i]);
	kit_exits(p[0], 0);
	kit_err_has(p[0], "terminated\n");
	kit_exits(p[1], 0);
	kit_exits(p[2], 1);
	kit_exits(p[3], -SIGTERM);
	kit_err_wait(p[5], "terminated\n");
}

/* The same where the program goes on. */
static void
test_group_local(void **state)
{
	int fds, family, fd, i;
	struct kit_proc *p;
	pid_t pid;

	(void)state;
	p = kit_httptun(NULL, "-x", "exec:" STUBBORN "exec cat", "-L",
	    "0:" HOST ":" PORT, NONE);
	for (i = fds = family = 0; i < 2; i++) {
		fd = kit_connect(AF_INET, kit_listening(p, 0));
		kit_puts(fd, "x");
		kit_expect(fd, "x");
		pid = told_pid(p, i);
		kit_reset(fd);
		kit_gone(pid);
		if (i > 0)
			kit_settles(p, fds, family);
		kit_rests(p);
		fds = kit_fds(p->pid);
		family = kit_family(p->pid, NULL, 0);
	}
}

/* Who has left the group lives on; its end is seen to. */
static void
test_group_left(void **state)
{
	const char *fifo = kit_path("fifo");
	struct kit_proc *p;
	int fd, gate, i;
	pid_t pid;

	(void)state;
	if (mkfifo(fifo, 0600) == -1 || (gate = open(fifo, O_RDWR)) == -1)
		kit_fail("%s: %s", fifo, strerror(errno));
	p = kit_httptun(NULL, "-x", kit_str("exec:setsid sh -c 'echo pid $$ "
	    ">&2; read -r line' <%s >/dev/null & exec cat", fifo), "-L",
	    "0:" HOST ":" PORT, NONE);
	for (i = 0; i < 2; i++) {
		fd = kit_connect(AF_INET, kit_listening(p, 0));
		kit_puts(fd, "x");
		kit_expect(fd, "x");
		pid = told_pid(p, i);
		kit_reset(fd);
		kit_rests(p);
		assert_int_equal(kit_family(p->pid, NULL, 0), 2);
		kit_puts(gate, "\n");
		kit_gone(pid);
		kit_settles(p, kit_fds(p->pid), 1);
	}
}


/* ---- signals ------------------------------------------------------------- */

enum phase { ASKING, CARRYING, STUFFED_UP, SERVING, PHASES };

static struct kit_proc *
in_phase(enum phase phase)
{
	struct kit_stream s = { .dir = KIT_OUT, .bytes = 300 * MB, .seed = 1 };
	struct kit_proc *p;
	unsigned port;
	int i, fd;

	switch (phase) {
	case ASKING:
		p = run_proxy(ASKED "echo up >&2; exec sleep 1000");
		kit_err_wait(p, "up\n");
		break;
	case CARRYING:
	case STUFFED_UP:
		p = run("exec cat");
		echoes(p, "x");
		s.fd = p->in;
		if (phase == STUFFED_UP)
			kit_stuff(&s, STUFFED / 4);
		break;
	default:
		p = kit_httptun(NULL, "-x", "exec:exec cat", "-L",
		    "0:" HOST ":" PORT, NONE);
		port = kit_listening(p, 0);
		for (i = 0; i < 3; i++) {
			fd = kit_connect(AF_INET, port);
			kit_puts(fd, "x");
			kit_expect(fd, "x");
		}
		break;
	}
	return p;
}

/* The kernel lets no signal end a container's first process by itself. */
static void
test_first_process(void **state)
{
	struct kit_proc *p;

	(void)state;
	p = kit_start(NULL, "unshare", "-pf", "--kill-child", "true", NONE);
	if (kit_wait(p) != 0)
		skip();
	p = kit_start(NULL, "unshare", "-pf", "--kill-child", kit_binary(),
	    "-x", "exec:kill -TERM 1; exec sleep 1000", HOST, PORT, NONE);
	kit_exits(p, 128 + SIGTERM);
	kit_err_is(p, "");
}

/* However the program goes, its commands go. */
static void
test_signals(void **state)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGHUP, SIGKILL };
	struct kit_proc *p[PHASES];
	pid_t pids[16 * PHASES];
	size_t i;
	int phase, n, had;

	(void)state;
	for (i = 0; i < KIT_COUNT(sigs); i++) {
		for (phase = n = 0; phase < PHASES; phase++) {
			kit_note("phase %d, signal %d", phase, sigs[i]);
			p[phase] = in_phase((enum phase)phase);
			had = kit_family(p[phase]->pid, pids + n, 16);
			assert_in_range(had, phase == SERVING ? 3 : 1, 16);
			n += had;
		}
		for (phase = 0; phase < PHASES; phase++)
			kit_signal(p[phase]->pid, sigs[i]);
		for (phase = 0; phase < PHASES; phase++) {
			kit_exits(p[phase], -sigs[i]);
			assert_int_equal(kit_said(p[phase], "httptun: "),
			    kit_said(p[phase], "httptun: listening on "));
		}
		while (n-- > 0)
			kit_gone(pids[n]);
	}
}

/* The command dies: the tunnel is broken, another one is not. */
static void
test_killed(void **state)
{
	struct kit_proc *p;
	int fd[2], fds, family, i;
	unsigned port;

	(void)state;
	p = run(ECHO);
	echoes(p, "x");
	kit_signal(told_pid(p, 0), SIGKILL);
	fails(p, 1, "signal 9\n");

	p = run_proxy(ASKED "echo pid $$ >&2; exec sleep 1000");
	kit_signal(told_pid(p, 0), SIGKILL);
	fails(p, 1, "httptun: exec:while: the command was ended by signal 9\n");

	p = kit_httptun(NULL, "-x", "exec:" ECHO, "-L", "0:" HOST ":" PORT,
	    NONE);
	port = kit_listening(p, 0);
	for (i = fds = family = 0; i < 3; i += 2) {
		fd[0] = kit_connect(AF_INET, port);
		kit_puts(fd[0], "x");
		kit_expect(fd[0], "x");
		fd[1] = kit_connect(AF_INET, port);
		kit_puts(fd[1], "x");
		kit_expect(fd[1], "x");
		kit_signal(told_pid(p, i), SIGKILL);
		kit_expect_reset(fd[0]);
		kit_puts(fd[1], "y");
		kit_half_close(fd[1]);
		kit_expect(fd[1], "y");
		kit_eof(fd[1]);
		if (i > 0)
			kit_settles(p, fds, family);
		kit_rests(p);
		fds = kit_fds(p->pid);
		family = kit_family(p->pid, NULL, 0);
	}
}

/* Ctrl-C is for the foreground's group, which the command is not in. */
static void
test_terminal(void **state)
{
	struct kit_opt opt = { .in = KIT_PIPE };
	struct kit_proc *p;
	pid_t cat;
	int master;

	(void)state;
	master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master == -1 || grantpt(master) == -1 || unlockpt(master) == -1 ||
	    (opt.tty = open(ptsname(master), O_RDWR | O_NOCTTY)) == -1)
		kit_fail("pseudo-terminal: %s", strerror(errno));
	p = kit_httptun(&opt, "-x", "exec:" ECHO, HOST, PORT, NONE);
	echoes(p, "x");
	cat = told_pid(p, 0);
	kit_puts(master, "\003");
	kit_exits(p, -SIGINT);
	kit_gone(cat);
}

/* -w is for the hop behind it, -I for the tunnel. */
static void
test_time(void **state)
{
	struct kit_proc *p[2];
	pid_t pid[2];
	int i;

	(void)state;
	p[0] = kit_httptun(NULL, "-w", "1", "-x", "exec:echo pid $$ >&2; exec "
	    "sleep 1000", "-x", "p2.example", HOST, PORT, NONE);
	p[1] = kit_httptun(NULL, "-I", "1", "-x", "exec:echo pid $$ >&2; exec "
	    "sleep 1000", HOST, PORT, NONE);
	for (i = 0; i < 2; i++)
		pid[i] = told_pid(p[i], 0);
	fails(p[0], 1, "httptun: p2.example:3128: ");
	fails(p[1], 1, "httptun: ");
	kit_err_has(p[1], "idle");
	for (i = 0; i < 2; i++)
		kit_gone(pid[i]);
}


/* ---- many ---------------------------------------------------------------- */

/* Several at once, again and again: no descriptor and no zombie is left. */
static void
test_local_many(void **state)
{
	struct kit_stream s[4 * MANY];
	struct kit_proc *p;
	const char *said;
	unsigned i, port, turn;
	int fds = 0, family = 0, near, far;

	(void)state;
	target();
	p = kit_httptun(NULL, "-x", kit_str("exec:%s", self()), "-L",
	    kit_str("0:127.0.0.1:%u", tport), NONE);
	port = kit_listening(p, 0);
	kit_idle(p);
	said = kit_str("%s", kit_err(p));
	for (turn = 0; turn < (kit_sanitized() ? 2 : 10); turn++) {
		for (i = 0; i < MANY; i++) {
			near = kit_connect(AF_INET, port);
			far = kit_accept(tl);
			s[4 * i] = (struct kit_stream){ near, KIT_OUT, SOME,
			    2 * i, 1, 0 };
			s[4 * i + 1] = (struct kit_stream){ far, KIT_IN, SOME,
			    2 * i, 1, 0 };
			s[4 * i + 2] = (struct kit_stream){ far, KIT_OUT,
			    SOME, 2 * i + 1, 1, 0 };
			s[4 * i + 3] = (struct kit_stream){ near, KIT_IN,
			    SOME, 2 * i + 1, 1, 0 };
		}
		kit_pump(s, KIT_COUNT(s));
		for (i = 0; i < 4 * MANY; i += 2)
			(void)close(s[i].fd);
		if (turn > 0)
			kit_settles(p, fds, family);
		kit_rests(p);
		fds = kit_fds(p->pid);
		family = kit_family(p->pid, NULL, 0);
	}
	kit_err_is(p, said);
}

/* A proxy has had a command: what it keeps for all further ones is there. */
static void
used(struct kit_proxy *px)
{
	kit_farewell(kit_tunnel(px, tl, tport));
	kit_rests(px->proc);
	kit_figure(px->proc->pid, &px->idle);
	px->npids = kit_processes(px->proc->pid, px->pids,
	    (int)KIT_COUNT(px->pids));
}

/* Listen mode: each client's tunnel has a command, and what a client asks for
 * is never the shell's. */
static void
test_listen(void **state)
{
	const char *touched = kit_path("touched"), *host;
	const char *const hosts[] = {
		"$(echo${IFS}>%s)", "`echo>%s`", "h;echo>%s;", "h|echo>%s",
		"'$(echo>%s)'", "\"h\">%s", "h&&echo>%s", "--x>%s",
	};
	struct kit_proxy px;
	struct kit_pair p;
	size_t i;
	int c;

	(void)state;
	target();
	kit_proxy(&px, "-x", kit_str("exec:%s", self()), "127.0.0.1", "0",
	    NONE);
	used(&px);
	for (i = 0; i < KIT_WAYS; i++) {
		p = kit_tunnel(&px, tl, tport);
		kit_parts(p, (enum kit_way)i, i % 2 == 0);
	}
	p = kit_tunnel(&px, tl, tport);
	kit_crosses(p, SOME);
	kit_proxy_settles(&px);

	kit_proxy(&px, "-x", "exec:echo %h %p >&2; exit 1", "127.0.0.1", "0",
	    NONE);
	for (i = 0; i < KIT_COUNT(hosts); i++) {
		host = kit_str(hosts[i], touched);
		kit_note("%s", host);
		c = kit_ask(&px, kit_request(kit_str("%s:80", host), ""));
		(void)kit_until_end(c);
		c = kit_ask(&px, kit_str("GET http://%s/ HTTP/1.1\r\n"
		    "Host: %s\r\n\r\n", host, host));
		(void)kit_until_end(c);
		if (access(touched, F_OK) == 0)
			kit_fail("%s was run", host);
		assert_null(strstr(kit_err(px.proc), "--x"));
	}
	/* that a harmless one arrives shows that the others could have */
	c = kit_ask(&px, kit_request("harmless.example:80", ""));
	(void)kit_until_end(c);
	kit_err_wait(px.proc, "harmless.example 80\n");
}

/* Its processes have commands below them: all go, each way. */
static void
test_listen_signals(void **state)
{
	struct kit_proxy px[2];
	int i;

	(void)state;
	target();
	for (i = 0; i < 2; i++)
		kit_proxy(&px[i], "-x", kit_str("exec:%s", self()),
		    "127.0.0.1", "0", NONE);
	kit_families_end(px, tl, tport);
}

/* An argument is the pattern of the tests to run. */
int
main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(test_both_ways),
		KIT_TEST(test_echo),
		KIT_TEST(test_command_half_closes),
		KIT_TEST(test_before_hops),
		KIT_TEST(test_ssh),
		KIT_TEST(test_stalled),
		KIT_TEST(test_does_not_read),
		KIT_TEST(test_host_and_port),
		KIT_TEST(test_quoting),
		KIT_TEST(test_inherits),
		KIT_TEST(test_inherits_sigpipe),
		KIT_TEST(test_secrets),
		KIT_TEST(test_usage),
		KIT_TEST(test_status),
		KIT_TEST(test_status_before),
		KIT_TEST(test_stderr),
		KIT_TEST(test_both_end),
		KIT_TEST(test_group),
		KIT_TEST(test_group_local),
		KIT_TEST(test_group_left),
		KIT_TEST(test_first_process),
		KIT_TEST(test_signals),
		KIT_TEST(test_killed),
		KIT_TEST(test_terminal),
		KIT_TEST(test_time),
		KIT_TEST(test_local_many),
		KIT_TEST(test_listen),
		KIT_TEST(test_listen_signals),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
