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

/* The system tests' common part; kit.h says what each function does. */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "kit.h"

#define NPROC		64		/* processes of one test */
#define NFD		1024		/* descriptors looked after */
#define NOTES		24
#define PATTERN		1048573		/* a prime: its period is no buffer's */

static struct kit_proc	*procs[NPROC];
static unsigned char	 wasopen[NFD];
static char		 notes[NOTES][160];
static unsigned		 nnotes;
static unsigned char	*pattern;
static char		 tmpdir[64];

struct str {
	struct str	*next;
	char		 s[];
};
static struct str	*strs;


/* The test's frame. */

int64_t
kit_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int
kit_patience(void)
{
	return getenv("HTTPTUN_SANITIZED") != NULL ? 40000 : 10000;
}

int
kit_sanitized(void)
{
	if (getenv("HTTPTUN_SANITIZED") == NULL)
		return 0;
	print_message("memory is not measured: a sanitizer's build\n");
	return 1;
}

void
kit_note(const char *fmt, ...)
{
	char *now = notes[nnotes % NOTES];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(now, sizeof(notes[0]), fmt, ap);
	va_end(ap);
	if (nnotes == 0 || strcmp(now, notes[(nnotes - 1) % NOTES]) != 0)
		nnotes++;
}

void
kit_fail(const char *fmt, ...)
{
	char why[1024];
	unsigned i;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	for (i = nnotes < NOTES ? 0 : nnotes - NOTES + 1; i < nnotes; i++)
		print_error("    step: %s\n", notes[i % NOTES]);
	for (i = 0; i < NPROC; i++)
		if (procs[i] != NULL)
			print_error("    stderr of process %ld: <<%s>>\n",
			    (long)procs[i]->pid, kit_err(procs[i]));
	fail_msg("%s", why);
	abort();		/* fail_msg does not come back */
}

const char *
kit_str(const char *fmt, ...)
{
	struct str *s;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || (s = malloc(sizeof(*s) + (size_t)n + 1)) == NULL)
		kit_fail("no memory");
	va_start(ap, fmt);
	(void)vsnprintf(s->s, (size_t)n + 1, fmt, ap);
	va_end(ap);
	s->next = strs;
	strs = s;
	return s->s;
}

int
kit_setup(void **state)
{
	int fd;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	for (fd = 0; fd < NFD; fd++)
		wasopen[fd] = fcntl(fd, F_GETFD) != -1;
	nnotes = 0;
	return 0;
}

static void
remove_tmpdir(void)
{
	struct dirent *e;
	DIR *d;

	if (tmpdir[0] == '\0')
		return;
	if ((d = opendir(tmpdir)) != NULL) {
		while ((e = readdir(d)) != NULL)
			if (e->d_name[0] != '.')
				(void)unlink(kit_path(e->d_name));
		closedir(d);
	}
	(void)rmdir(tmpdir);
	tmpdir[0] = '\0';
}

int
kit_teardown(void **state)
{
	struct str *s;
	int fd, i;

	(void)state;
	for (i = 0; i < NPROC; i++)
		if (procs[i] != NULL)
			kit_done(procs[i]);
	for (fd = 0; fd < NFD; fd++)
		if (!wasopen[fd])
			(void)close(fd);
	remove_tmpdir();
	while ((s = strs) != NULL) {
		strs = s->next;
		free(s);
	}
	return 0;
}


/* Processes. */

const char *
kit_binary(void)
{
	const char *path = getenv("HTTPTUN");

	return path != NULL ? path : "./httptun";
}

/* What the child gets as its descriptor (-1: none); *ours is our end. */
static int
child_end(int kind, int isin, int *ours)
{
	int p[2];

	*ours = -1;
	switch (kind) {
	case KIT_PIPE:
		if (pipe(p) == -1)
			kit_fail("pipe: %s", strerror(errno));
		*ours = p[isin ? 1 : 0];
		return p[isin ? 0 : 1];
	case KIT_SOCK:
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) == -1)
			kit_fail("socketpair: %s", strerror(errno));
		*ours = p[0];
		return p[1];
	case KIT_NULL:
		return open("/dev/null", O_RDWR);
	case KIT_CLOSED:
		return -1;
	default:
		return dup(kind);
	}
}

/* Between fork and exec.  The three are above 2, so no order is wrong. */
static void
become(const struct kit_opt *opt, const int fds[3], const char *const *argv)
{
	static const char *const clean[] = {
		"http_proxy", "https_proxy", "all_proxy", "no_proxy",
		"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
		"HTTPTUN_AUTH", "HTTPTUN_TLS"
	};
	static const int signals[] = {
		SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGCHLD, SIGTSTP
	};
	sigset_t none;
	size_t i;
	int fd, gone;

	if (opt->newsid || opt->tty > 0)
		(void)setsid();
	if (opt->tty > 0)
		(void)ioctl(opt->tty, TIOCSCTTY, 0);
	for (fd = 0; fd < 3; fd++) {
		gone = fds[fd] == -1;
		if (gone ? close(fd) == -1 : dup2(fds[fd], fd) == -1)
			_exit(126);
	}
	for (fd = 3; fd < NFD; fd++)
		(void)close(fd);
	/* whatever whoever runs the tests ignores, as nohup(1) does */
	for (i = 0; i < KIT_COUNT(signals); i++)
		(void)signal(signals[i], SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (i = 0; i < KIT_COUNT(clean); i++)
		(void)unsetenv(clean[i]);
	for (i = 0; opt->env != NULL && opt->env[i] != NULL; i++)
		(void)putenv((char *)(uintptr_t)opt->env[i]);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	(void)!write(2, "cannot execute\n", 15);
	_exit(127);
}

struct kit_proc *
kit_startv(const struct kit_opt *opt, const char *const *argv)
{
	static const struct kit_opt plain;
	struct kit_proc *p;
	int fds[3], i, slot;

	if (opt == NULL)
		opt = &plain;
	for (slot = 0; slot < NPROC && procs[slot] != NULL; slot++)
		;
	if (slot == NPROC || (p = calloc(1, sizeof(*p))) == NULL)
		kit_fail("too many processes");
	fds[0] = child_end(opt->in, 1, &p->in);
	if (opt->in == KIT_SOCK && opt->out == KIT_SOCK) {
		fds[1] = dup(fds[0]);
		p->out = dup(p->in);
	} else
		fds[1] = child_end(opt->out, 0, &p->out);
	fds[2] = child_end(opt->err, 0, &p->err);
	procs[slot] = p;
	fflush(NULL);
	if ((p->pid = fork()) == 0)
		become(opt, fds, argv);
	for (i = 0; i < 3; i++)
		if (fds[i] != -1)
			(void)close(fds[i]);
	if (p->pid == -1)
		kit_fail("fork: %s", strerror(errno));
	if (p->err != -1)
		kit_nonblock(p->err, 1);
	kit_note("process %ld is %s, in %d, out %d", (long)p->pid, argv[0],
	    p->in, p->out);
	return p;
}

static struct kit_proc *
start_va(const struct kit_opt *opt, const char *name, va_list ap)
{
	const char *argv[64];
	size_t n = 0;

	argv[n++] = name;
	while (n < KIT_COUNT(argv) &&
	    (argv[n] = va_arg(ap, const char *)) != NULL)
		n++;
	if (n == KIT_COUNT(argv))
		kit_fail("too many arguments");
	return kit_startv(opt, argv);
}

struct kit_proc *
kit_start(const struct kit_opt *opt, const char *name, ...)
{
	struct kit_proc *p;
	va_list ap;

	va_start(ap, name);
	p = start_va(opt, name, ap);
	va_end(ap);
	return p;
}

struct kit_proc *
kit_httptun(const struct kit_opt *opt, ...)
{
	struct kit_proc *p;
	va_list ap;

	va_start(ap, opt);
	p = start_va(opt, kit_binary(), ap);
	va_end(ap);
	return p;
}

const char *
kit_err(struct kit_proc *p)
{
	char spill[4096];
	size_t room;
	ssize_t n;

	while (p->err != -1) {
		room = sizeof(p->errbuf) - 1 - p->errlen;
		n = room > 0 ? read(p->err, p->errbuf + p->errlen, room) :
		    read(p->err, spill, sizeof(spill));
		if (n <= 0)
			break;
		if (room > 0)
			p->errlen += (size_t)n;
	}
	p->errbuf[p->errlen] = '\0';
	return p->errbuf;
}

/* Keeps no process waiting for us to read what it says. */
static void
drain_all(void)
{
	int i;

	for (i = 0; i < NPROC; i++)
		if (procs[i] != NULL)
			(void)kit_err(procs[i]);
}

int
kit_alive(struct kit_proc *p)
{
	int st;

	if (!p->reaped && waitpid(p->pid, &st, WNOHANG) == p->pid) {
		p->reaped = 1;
		p->status = WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
	}
	return !p->reaped;
}

/* A little time for the processes to do something that no descriptor of ours
 * tells; a caller's own deadline bounds the loop around it. */
static void
breathe(struct kit_proc *p)
{
	struct pollfd pfd = { .fd = p->err, .events = POLLIN };

	if (poll(&pfd, 1, 5) > 0 && (pfd.revents & POLLIN) == 0)
		(void)poll(NULL, 0, 1);		/* closed: it would spin */
	drain_all();
}

void
kit_err_wait(struct kit_proc *p, const char *text)
{
	int64_t end = kit_now() + kit_patience();
	int alive;

	kit_note("wait for \"%s\" from %ld", text, (long)p->pid);
	for (;;) {
		alive = kit_alive(p);
		if (strstr(kit_err(p), text) != NULL)
			return;
		if (!alive || kit_now() > end)
			kit_fail("process %ld %s without saying \"%s\"",
			    (long)p->pid, alive ? "goes on" : "ended", text);
		breathe(p);
	}
}

void
kit_err_is(struct kit_proc *p, const char *text)
{
	if (strcmp(kit_err(p), text) != 0)
		kit_fail("stderr is <<%s>>\n    and not <<%s>>", kit_err(p),
		    text);
}

void
kit_err_has(struct kit_proc *p, const char *text)
{
	if (strstr(kit_err(p), text) == NULL)
		kit_fail("stderr is <<%s>>\n    without <<%s>>", kit_err(p),
		    text);
}

unsigned
kit_listening(struct kit_proc *p, int nth)
{
	static const char line[] = "httptun: listening on ";
	int64_t end = kit_now() + kit_patience();
	const char *s;
	unsigned port;
	int alive, i;

	for (;;) {
		alive = kit_alive(p);
		s = kit_err(p);
		for (i = 0; (s = strstr(s, line)) != NULL; i++) {
			s += sizeof(line) - 1;
			if (i == nth && strchr(s, '\n') != NULL &&
			    sscanf(s, "%*s %u\n", &port) == 1)
				return port;
		}
		if (!alive || kit_now() > end)
			kit_fail("process %ld does not listen", (long)p->pid);
		breathe(p);
	}
}

int
kit_wait(struct kit_proc *p)
{
	int64_t end = kit_now() + kit_patience();

	kit_note("wait for the end of %ld", (long)p->pid);
	while (kit_alive(p)) {
		if (kit_now() > end)
			kit_fail("process %ld does not end", (long)p->pid);
		breathe(p);
	}
	(void)kit_err(p);
	return p->status;
}

void
kit_exits(struct kit_proc *p, int status)
{
	int got = kit_wait(p);

	if (got != status)
		kit_fail("process %ld ended with %d and not %d", (long)p->pid,
		    got, status);
}

void
kit_done(struct kit_proc *p)
{
	int i;

	if (kit_alive(p)) {
		(void)kill(p->pid, SIGKILL);
		(void)waitpid(p->pid, NULL, 0);
	}
	if (p->in != -1)
		(void)close(p->in);
	if (p->out != -1)
		(void)close(p->out);
	if (p->err != -1)
		(void)close(p->err);
	for (i = 0; i < NPROC; i++)
		if (procs[i] == p)
			procs[i] = NULL;
	free(p);
}

int
kit_fds(pid_t pid)
{
	struct dirent *e;
	char path[64];
	DIR *d;
	int n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	if ((d = opendir(path)) == NULL)
		kit_fail("%s: %s", path, strerror(errno));
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			n++;
	closedir(d);
	return n;
}

/* A field of /proc/PID/status, or -1 when there is no such process. */
static long
status_field(pid_t pid, const char *field)
{
	char line[256], path[64];
	size_t len = strlen(field);
	long val = -1;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	if ((f = fopen(path, "r")) == NULL)
		return -1;
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, len) == 0 && line[len] == ':')
			val = strtol(line + len + 1, NULL, 10);
	fclose(f);
	return val;
}

long
kit_status(pid_t pid, const char *field)
{
	long val;

	if ((val = status_field(pid, field)) == -1)
		kit_fail("process %ld has no %s", (long)pid, field);
	return val;
}

static int
asleep(pid_t pid)
{
	char path[64], line[512];
	const char *s;
	int is = 0;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if ((f = fopen(path, "r")) == NULL)
		return 0;
	if (fgets(line, sizeof(line), f) != NULL &&
	    (s = strrchr(line, ')')) != NULL)
		is = s[1] == ' ' && s[2] == 'S';
	fclose(f);
	return is;
}

/* On loopback what we send wakes the receiver before send returns.  One that
 * wakes up again and again by itself shows by its count of switches. */
void
kit_idle(struct kit_proc *p)
{
	int64_t end = kit_now() + kit_patience();
	long before;

	while (kit_alive(p)) {
		before = status_field(p->pid, "voluntary_ctxt_switches");
		if (asleep(p->pid) && poll(NULL, 0, 1) == 0 &&
		    asleep(p->pid) && before ==
		    status_field(p->pid, "voluntary_ctxt_switches"))
			return;
		if (kit_now() > end)
			kit_fail("process %ld does not rest", (long)p->pid);
		drain_all();
	}
}

int
kit_children(pid_t pid)
{
	struct dirent *e;
	DIR *d;
	int n = 0;

	if ((d = opendir("/proc")) == NULL)
		kit_fail("/proc: %s", strerror(errno));
	while ((e = readdir(d)) != NULL)
		if (isdigit((unsigned char)e->d_name[0]) && status_field(
		    (pid_t)strtol(e->d_name, NULL, 10), "PPid") == (long)pid)
			n++;
	closedir(d);
	return n;
}


/* Sockets. */

static socklen_t
loopback(struct sockaddr_storage *ss, int family, unsigned port)
{
	struct sockaddr_in6 *s6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *s4 = (struct sockaddr_in *)ss;

	memset(ss, 0, sizeof(*ss));
	if (family == AF_INET6) {
		s6->sin6_family = AF_INET6;
		s6->sin6_port = htons((uint16_t)port);
		s6->sin6_addr = in6addr_loopback;
		return sizeof(*s6);
	}
	s4->sin_family = AF_INET;
	s4->sin_port = htons((uint16_t)port);
	s4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(*s4);
}

static int
new_socket(int family, int sndbuf, int rcvbuf)
{
	int fd;

	if ((fd = socket(family, SOCK_STREAM, 0)) == -1)
		kit_fail("socket: %s", strerror(errno));
	if ((sndbuf != 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf,
	    sizeof(sndbuf)) == -1) || (rcvbuf != 0 && setsockopt(fd,
	    SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf)) == -1))
		kit_fail("setsockopt: %s", strerror(errno));
	return fd;
}

/* What is sent at once shall be a segment of its own. */
static void
no_delay(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int
bound_socket(int family, unsigned *port, int rcvbuf, int backlog)
{
	struct sockaddr_storage ss;
	socklen_t len = loopback(&ss, family, 0);
	int fd = new_socket(family, 0, rcvbuf);

	if (bind(fd, (struct sockaddr *)&ss, len) == -1 ||
	    (backlog >= 0 && listen(fd, backlog) == -1) ||
	    getsockname(fd, (struct sockaddr *)&ss, &len) == -1)
		kit_fail("listen: %s", strerror(errno));
	*port = ntohs(family == AF_INET6 ?
	    ((struct sockaddr_in6 *)&ss)->sin6_port :
	    ((struct sockaddr_in *)&ss)->sin_port);
	kit_note("%d is bound to port %u", fd, *port);
	return fd;
}

int
kit_listen(int family, unsigned *port)
{
	return bound_socket(family, port, 0, 512);
}

int
kit_listen_buf(int family, unsigned *port, int rcvbuf)
{
	return bound_socket(family, port, rcvbuf, 512);
}

/* Bound and not listening: nobody else gets the port meanwhile. */
unsigned
kit_nobody(int family)
{
	unsigned port;

	(void)bound_socket(family, &port, 0, -1);
	return port;
}

/* Where the queue of a listening socket is full Linux drops further SYNs. */
void
kit_blackhole(unsigned *port)
{
	struct sockaddr_storage ss;
	struct pollfd pfd = { .events = POLLOUT };
	socklen_t len;
	int i;

	(void)bound_socket(AF_INET, port, 0, 0);
	len = loopback(&ss, AF_INET, *port);
	for (i = 0; i < 8; i++) {
		pfd.fd = new_socket(AF_INET, 0, 0);
		kit_nonblock(pfd.fd, 1);
		(void)connect(pfd.fd, (struct sockaddr *)&ss, len);
		if (poll(&pfd, 1, 100) == 0)
			return;
	}
	kit_fail("no connection is left without an answer");
}

int
kit_connect_buf(int family, unsigned port, int sndbuf, int rcvbuf)
{
	struct sockaddr_storage ss;
	socklen_t len = loopback(&ss, family, port);
	int fd = new_socket(family, sndbuf, rcvbuf);

	kit_note("connect %d to port %u", fd, port);
	if (connect(fd, (struct sockaddr *)&ss, len) == -1)
		kit_fail("connect to port %u: %s", port, strerror(errno));
	no_delay(fd);
	return fd;
}

int
kit_connect(int family, unsigned port)
{
	return kit_connect_buf(family, port, 0, 0);
}

int
kit_accept(int lfd)
{
	int fd;

	kit_poll(lfd, POLLIN, "a connection");
	if ((fd = accept(lfd, NULL, NULL)) == -1)
		kit_fail("accept: %s", strerror(errno));
	no_delay(fd);
	kit_note("accepted %d", fd);
	return fd;
}

void
kit_untouched(int lfd)
{
	struct pollfd pfd = { .fd = lfd, .events = POLLIN };

	if (poll(&pfd, 1, 0) != 0)
		kit_fail("somebody has connected");
}

/* Waits for an event that never is the only thing to wait for: meanwhile the
 * processes may fill their stderr. */
void
kit_poll(int fd, short events, const char *what)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int64_t end = kit_now() + kit_patience();

	kit_note("wait for %s on %d", what, fd);
	while (poll(&pfd, 1, 50) <= 0) {
		drain_all();
		if (kit_now() > end)
			kit_fail("time-out waiting for %s on %d", what, fd);
	}
}

void
kit_nonblock(int fd, int on)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl == -1 || fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK :
	    fl & ~O_NONBLOCK) == -1)
		kit_fail("fcntl of %d: %s", fd, strerror(errno));
}

void
kit_send(int fd, const void *buf, size_t len)
{
	const char *p = buf;
	ssize_t n;

	kit_note("send %zu bytes on %d", len, fd);
	kit_nonblock(fd, 1);
	while (len > 0) {
		kit_poll(fd, POLLOUT, "room");
		n = write(fd, p, len);
		if (n == -1 && errno != EAGAIN)
			kit_fail("send on %d: %s", fd, strerror(errno));
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	kit_nonblock(fd, 0);
}

void
kit_puts(int fd, const char *s)
{
	kit_send(fd, s, strlen(s));
}

/* One read, after waiting; fails on an error. */
static size_t
read_some(int fd, void *buf, size_t len, const char *what)
{
	ssize_t n;

	kit_poll(fd, POLLIN, what);
	if ((n = read(fd, buf, len)) == -1)
		kit_fail("waiting for %s on %d: %s", what, fd,
		    strerror(errno));
	return (size_t)n;
}

void
kit_recv(int fd, void *buf, size_t len)
{
	size_t got, n;

	for (got = 0; got < len; got += n)
		if ((n = read_some(fd, (char *)buf + got, len - got,
		    "bytes")) == 0)
			kit_fail("end of file on %d after %zu of %zu bytes: "
			    "<<%.*s>>", fd, got, len, (int)got, (char *)buf);
}

void
kit_expect(int fd, const char *s)
{
	size_t len = strlen(s);
	char buf[4096];

	assert_true(len < sizeof(buf));
	kit_recv(fd, buf, len);
	buf[len] = '\0';
	if (memcmp(buf, s, len) != 0)
		kit_fail("<<%s>>\n    came and not <<%s>>", buf, s);
}

/* A byte at a time: what follows the marker must stay where it is. */
size_t
kit_until(int fd, char *buf, size_t size, const char *marker)
{
	size_t len = 0, mlen = strlen(marker);

	while (len + 1 < size) {
		if (read_some(fd, buf + len, 1, "a marker") == 0)
			kit_fail("end of file on %d after <<%.*s>>", fd,
			    (int)len, buf);
		buf[++len] = '\0';
		if (len >= mlen && strcmp(buf + len - mlen, marker) == 0)
			return len;
	}
	kit_fail("no marker on %d within %zu bytes: <<%s>>", fd, size, buf);
}

size_t
kit_head(int fd, char *buf, size_t size)
{
	return kit_until(fd, buf, size, "\r\n\r\n");
}

size_t
kit_slurp(int fd, char *buf, size_t size)
{
	size_t len = 0, n;

	while (len + 1 < size) {
		if ((n = read_some(fd, buf + len, size - 1 - len,
		    "the end of file")) == 0) {
			buf[len] = '\0';
			return len;
		}
		len += n;
	}
	kit_fail("no end of file on %d within %zu bytes", fd, size);
}

void
kit_eof(int fd)
{
	char buf[512];
	size_t n;

	if ((n = read_some(fd, buf, sizeof(buf), "the end of file")) != 0)
		kit_fail("<<%.*s>> and not the end of file on %d", (int)n,
		    buf, fd);
}

void
kit_expect_reset(int fd)
{
	char buf[512];
	ssize_t n;

	kit_poll(fd, POLLIN, "a reset");
	if ((n = read(fd, buf, sizeof(buf))) != -1)
		kit_fail("%zd bytes and not a reset on %d", n, fd);
	if (errno != ECONNRESET)
		kit_fail("no reset on %d: %s", fd, strerror(errno));
}

void
kit_until_reset(int fd)
{
	char buf[65536];
	ssize_t n;

	do {
		kit_poll(fd, POLLIN, "a reset");
	} while ((n = read(fd, buf, sizeof(buf))) > 0);
	if (n == 0 || errno != ECONNRESET)
		kit_fail("no reset on %d: %s", fd,
		    n == 0 ? "end of file" : strerror(errno));
}

void
kit_silent(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	if (poll(&pfd, 1, ms) != 0)
		kit_fail("something came on %d", fd);
}

void
kit_half_close(int fd)
{
	kit_note("half-close %d", fd);
	if (shutdown(fd, SHUT_WR) == 0)
		return;
	if (errno != ENOTSOCK)
		kit_fail("shutdown of %d: %s", fd, strerror(errno));
	kit_drop(fd);
}

void
kit_drop(int fd)
{
	int nul = open("/dev/null", O_RDWR);

	kit_note("close %d", fd);
	if (nul == -1 || dup2(nul, fd) == -1)
		kit_fail("/dev/null: %s", strerror(errno));
	(void)close(nul);
}

void
kit_reset(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	kit_note("reset %d", fd);
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) == -1)
		kit_fail("SO_LINGER: %s", strerror(errno));
	(void)close(fd);
}


/* Patterned streams: one long random block over and over, each seed from
 * another place in it. */

static const unsigned char *
pattern_at(unsigned seed, uint64_t off, size_t *run)
{
	uint64_t x = 88172645463325252U;
	size_t at;

	if (pattern == NULL) {
		if ((pattern = malloc(PATTERN)) == NULL)
			kit_fail("no memory");
		for (at = 0; at < PATTERN; at++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			pattern[at] = (unsigned char)(x >> 32);
		}
	}
	at = (size_t)((off + (uint64_t)seed * 77773) % PATTERN);
	if (*run > PATTERN - at)
		*run = PATTERN - at;
	return pattern + at;
}

void
kit_fill(void *buf, size_t len, unsigned seed, uint64_t off)
{
	const unsigned char *p;
	size_t done, n;

	for (done = 0; done < len; done += n) {
		n = len - done;
		p = pattern_at(seed, off + done, &n);
		memcpy((char *)buf + done, p, n);
	}
}

void
kit_check(const void *buf, size_t len, unsigned seed, uint64_t off)
{
	const unsigned char *p, *q;
	size_t done, i, n;

	for (done = 0; done < len; done += n) {
		n = len - done;
		p = pattern_at(seed, off + done, &n);
		q = (const unsigned char *)buf + done;
		if (memcmp(q, p, n) == 0)
			continue;
		for (i = 0; q[i] == p[i]; i++)
			;
		kit_fail("wrong byte at %ju of stream %u",
		    (uintmax_t)(off + done + i), seed);
	}
}

static int
finished(const struct kit_stream *s)
{
	/* an expected end of file counts as one position more */
	return s->done == s->bytes + (s->end && s->dir == KIT_IN);
}

/* One read or write; has anything moved? */
static int
move_some(struct kit_stream *s)
{
	static char buf[65536];
	uint64_t left = s->bytes - s->done;
	size_t want = left < sizeof(buf) ? (size_t)left : sizeof(buf);
	ssize_t n;

	if (s->dir == KIT_OUT) {
		kit_fill(buf, want, s->seed, s->done);
		n = want > 0 ? write(s->fd, buf, want) : 0;
	} else
		n = read(s->fd, buf, want > 0 ? want : 1);
	if (n == -1 && errno == EAGAIN)
		return 0;
	if (n == -1)
		kit_fail("stream %u %s at %ju of %ju: %s", s->seed,
		    s->dir == KIT_OUT ? "out" : "in", (uintmax_t)s->done,
		    (uintmax_t)s->bytes, strerror(errno));
	if (s->dir == KIT_IN && n == 0 && want > 0)
		kit_fail("stream %u ends at %ju of %ju", s->seed,
		    (uintmax_t)s->done, (uintmax_t)s->bytes);
	if (s->dir == KIT_IN && n > 0 && want == 0)
		kit_fail("stream %u goes on after %ju", s->seed,
		    (uintmax_t)s->bytes);
	if (s->dir == KIT_IN)
		kit_check(buf, (size_t)n, s->seed, s->done);
	s->done += n > 0 ? (uint64_t)n : s->dir == KIT_IN;
	return 1;
}

/* A finished stream's descriptor goes back to blocking, half-closed if so
 * asked, unless another stream still uses it. */
static void
stream_end(struct kit_stream *s, const struct kit_stream *all, size_t n)
{
	size_t i;

	for (i = 0; i < n && (all[i].fd != s->fd || finished(&all[i])); i++)
		;
	if (i == n)
		kit_nonblock(s->fd, 0);
	if (s->dir == KIT_OUT && s->end)
		kit_half_close(s->fd);
}

void
kit_pump(struct kit_stream *s, size_t n)
{
	struct pollfd *pfd;
	int64_t end;
	size_t i, left;

	if ((pfd = calloc(n, sizeof(*pfd))) == NULL)
		kit_fail("no memory");
	for (i = 0, left = n; i < n; i++) {
		kit_note("stream %u %s %d: %ju bytes", s[i].seed, s[i].dir ==
		    KIT_OUT ? "out on" : "in on", s[i].fd,
		    (uintmax_t)s[i].bytes);
		kit_nonblock(s[i].fd, 1);
		pfd[i].fd = s[i].fd;
		pfd[i].events = s[i].dir == KIT_OUT ? POLLOUT : POLLIN;
	}
	end = kit_now() + kit_patience();
	while (left > 0) {
		(void)poll(pfd, (nfds_t)n, 50);
		drain_all();
		for (i = 0; i < n; i++) {
			if (pfd[i].fd == -1 || (!finished(&s[i]) &&
			    pfd[i].revents == 0))
				continue;
			if (!finished(&s[i]) && move_some(&s[i]))
				end = kit_now() + kit_patience();
			if (finished(&s[i])) {
				pfd[i].fd = -1;
				left--;
				stream_end(&s[i], s, n);
			}
		}
		if (kit_now() > end)
			break;
	}
	free(pfd);
	for (i = 0; i < n; i++)
		if (!finished(&s[i]))
			kit_fail("stream %u stands at %ju of %ju%s", s[i].seed,
			    (uintmax_t)s[i].done, (uintmax_t)s[i].bytes,
			    s[i].done == s[i].bytes ? ", no end" : "");
}

void
kit_stuff(struct kit_stream *s, int ms)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLOUT };

	kit_nonblock(s->fd, 1);
	while (s->done < s->bytes && poll(&pfd, 1, ms) > 0)
		(void)move_some(s);
	kit_nonblock(s->fd, 0);
	kit_note("stream %u is stuffed at %ju", s->seed, (uintmax_t)s->done);
}


/* Files. */

const char *
kit_path(const char *name)
{
	if (tmpdir[0] == '\0') {
		strcpy(tmpdir, "/tmp/httptun-test.XXXXXX");
		if (mkdtemp(tmpdir) == NULL) {
			tmpdir[0] = '\0';
			kit_fail("mkdtemp: %s", strerror(errno));
		}
	}
	return kit_str("%s/%s", tmpdir, name);
}

const char *
kit_file(const char *name, mode_t mode, const char *text)
{
	const char *path = kit_path(name);
	FILE *f = fopen(path, "w");

	if (f == NULL || fputs(text, f) == EOF || fclose(f) == EOF ||
	    chmod(path, mode) == -1)
		kit_fail("%s: %s", path, strerror(errno));
	return path;
}


/* What is left. */

int
kit_family(pid_t pid, pid_t *pids, int size)
{
	pid_t all[512];
	struct dirent *e;
	pid_t kid;
	DIR *d;
	int i, n = 0, next;

	all[n++] = pid;
	for (next = 0; next < n; next++) {
		if ((d = opendir("/proc")) == NULL)
			kit_fail("/proc: %s", strerror(errno));
		while ((e = readdir(d)) != NULL) {
			kid = (pid_t)strtol(e->d_name, NULL, 10);
			if (kid > 0 && n < (int)KIT_COUNT(all) &&
			    status_field(kid, "PPid") == (long)all[next])
				all[n++] = kid;
		}
		closedir(d);
	}
	for (i = 1; i < n && i <= size; i++)
		pids[i - 1] = all[i];
	return n - 1;
}

/* How often they have gone to sleep; -1 when not all of them are asleep. */
static long
sleeps(const pid_t *pids, int n)
{
	long sum = 0;
	int i;

	for (i = 0; i < n; i++) {
		if (!asleep(pids[i]))
			return -1;
		sum += status_field(pids[i], "voluntary_ctxt_switches");
	}
	return sum;
}

void
kit_idle_all(const pid_t *pids, int n)
{
	int64_t end = kit_now() + kit_patience();
	long before;

	for (;;) {
		before = sleeps(pids, n);
		if (before != -1 && poll(NULL, 0, 1) == 0 &&
		    sleeps(pids, n) == before)
			return;
		if (kit_now() > end)
			kit_fail("process %ld and its %d others do not rest",
			    (long)pids[0], n - 1);
		drain_all();
	}
}

/* A zombie that nobody waits for has no memory any more. */
void
kit_gone(pid_t pid)
{
	int64_t end = kit_now() + kit_patience();

	while (status_field(pid, "VmRSS") != -1) {
		if (kit_now() > end)
			kit_fail("process %ld is still there", (long)pid);
		(void)poll(NULL, 0, 5);
	}
}

void
kit_settles(struct kit_proc *p, int fds, int family)
{
	int64_t end = kit_now() + kit_patience();
	int nfds, nfamily;

	for (;;) {
		if (!kit_alive(p))
			kit_fail("process %ld ended with %d", (long)p->pid,
			    kit_wait(p));
		nfds = kit_fds(p->pid);
		nfamily = kit_family(p->pid, NULL, 0);
		if (nfds == fds && nfamily == family)
			return;
		if (kit_now() > end)
			kit_fail("process %ld stays at %d descriptors and %d "
			    "descendants, not %d and %d", (long)p->pid, nfds,
			    nfamily, fds, family);
		breathe(p);
	}
}


/* All processes of one command. */

static int
fds_of(pid_t pid)
{
	struct dirent *e;
	char path[64];
	DIR *d;
	int n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	if ((d = opendir(path)) == NULL)
		return 0;		/* it has just ended */
	while ((e = readdir(d)) != NULL)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static long
cpu_of(pid_t pid)
{
	unsigned long user = 0, sys = 0;
	char path[64], line[1024];
	const char *s;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if ((f = fopen(path, "r")) == NULL)
		return 0;
	if (fgets(line, sizeof(line), f) != NULL &&
	    (s = strrchr(line, ')')) != NULL)
		(void)sscanf(s, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u "
		    "%*u %lu %lu", &user, &sys);
	fclose(f);
	return (long)(user + sys);
}

void
kit_figure(pid_t pid, struct kit_figure *f)
{
	pid_t pids[256];
	long rss;
	int i;

	memset(f, 0, sizeof(*f));
	pids[0] = pid;
	f->procs = 1 + kit_family(pid, pids + 1, (int)KIT_COUNT(pids) - 1);
	for (i = 0; i < f->procs && i < (int)KIT_COUNT(pids); i++) {
		f->fds += fds_of(pids[i]);
		f->cpu += cpu_of(pids[i]);
		rss = status_field(pids[i], "VmRSS");
		f->rss += rss > 0 ? rss : 0;
	}
}

void
kit_returns(struct kit_proc *p, const struct kit_figure *idle)
{
	int64_t end = kit_now() + kit_patience();
	struct kit_figure f;

	for (;;) {
		if (!kit_alive(p))
			kit_fail("process %ld ended with %d", (long)p->pid,
			    kit_wait(p));
		kit_figure(p->pid, &f);
		if (f.procs == idle->procs && f.fds <= idle->fds)
			return;
		if (kit_now() > end)
			kit_fail("process %ld stays at %d processes and %d "
			    "descriptors, not %d and %d", (long)p->pid,
			    f.procs, f.fds, idle->procs, idle->fds);
		breathe(p);
	}
}

void
kit_rests(struct kit_proc *p)
{
	int64_t end = kit_now() + kit_patience();
	pid_t pids[256];
	long before;
	int n;

	pids[0] = p->pid;
	do {
		if (!kit_alive(p))
			return;
		n = 1 + kit_family(p->pid, pids + 1,
		    (int)KIT_COUNT(pids) - 1);
		if (n > (int)KIT_COUNT(pids))
			n = (int)KIT_COUNT(pids);
		before = sleeps(pids, n);
		if (before != -1 && poll(NULL, 0, 1) == 0 &&
		    sleeps(pids, n) == before &&
		    kit_family(p->pid, NULL, 0) == n - 1)
			return;
		drain_all();
	} while (kit_now() < end);
	kit_fail("process %ld and its %d others do not rest", (long)p->pid,
	    n - 1);
}

/* RFC 7617 with RFC 4648, section 4 */
const char *
kit_basic(const char *userpass)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)userpass;
	size_t len = strlen(userpass), i, n = 0;
	char out[1024];
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
	return kit_str("Basic %.*s", (int)n, out);
}

const char *
kit_reply(int fd, int status)
{
	char buf[8192];
	const char *s;
	size_t n, len;

	n = kit_head(fd, buf, sizeof(buf) / 2);
	if (strncmp(buf, kit_str("HTTP/1.1 %d ", status), 13) != 0)
		kit_fail("<<%s>> and no %d", buf, status);
	if ((s = strstr(buf, "\r\nContent-Length: ")) == NULL)
		kit_fail("no Content-Length: <<%s>>", buf);
	len = (size_t)strtoul(s + 18, NULL, 10);
	if (len >= sizeof(buf) / 2)
		kit_fail("a body of %zu bytes", len);
	kit_recv(fd, buf + n, len);
	buf[n + len] = '\0';
	return kit_str("%s", buf);
}


/* HTTP. */

const char *
kit_field(const char *head, const char *name)
{
	const char *line = head, *val, *all = NULL;
	size_t len = strlen(name);

	while ((line = strstr(line, "\r\n")) != NULL) {
		line += 2;
		if (strncasecmp(line, name, len) != 0 || line[len] != ':')
			continue;
		val = line + len + 1 + strspn(line + len + 1, " \t");
		val = kit_str("%.*s", (int)strcspn(val, "\r\n"), val);
		all = all == NULL ? val : kit_str("%s, %s", all, val);
	}
	return all;
}

/* RFC 9209: these, and only these, tell which error it was. */
static void
tells_why(const char *head, int status, const char *error)
{
	const char *val = kit_field(head, "Proxy-Status"), *want;

	if (status != 403 && (status < 502 || status > 504))
		return;
	want = kit_str("httptun; error=%s", error != NULL ? error : "");
	if (val == NULL || strncmp(val, want, strlen(want)) != 0)
		kit_fail("no Proxy-Status \"%s\": <<%s>>", want, head);
	val += strlen(want);
	if (error != NULL && *error != '\0' ? *val != '\0' && *val != ';' :
	    *val < 'a' || *val > 'z')
		kit_fail("no Proxy-Status \"%s\": <<%s>>", want, head);
}

void
kit_refusal(int fd, int status, const char *error, enum kit_after after)
{
	char head[4096], body[1024];
	const char *val;
	size_t len;
	int closes;

	(void)kit_head(fd, head, sizeof(head));
	if (strncmp(head, kit_str("HTTP/1.1 %d ", status), 13) != 0)
		kit_fail("<<%s>> and no %d", head, status);
	tells_why(head, status, error);
	if ((val = kit_field(head, "Content-Type")) == NULL ||
	    strncmp(val, "text/plain", 10) != 0 ||
	    (val = kit_field(head, "Content-Length")) == NULL ||
	    kit_field(head, "Transfer-Encoding") != NULL)
		kit_fail("not a refusal of ours: <<%s>>", head);
	len = (size_t)strtoul(val, NULL, 10);
	if (len < 2 || len >= sizeof(body))
		kit_fail("a body of %zu bytes", len);
	kit_recv(fd, body, len);
	body[len] = '\0';
	if (strchr(body, '\n') != body + len - 1)
		kit_fail("the body is not a line: <<%s>>", body);
	val = kit_field(head, "Connection");
	closes = val != NULL && strcasecmp(val, "close") == 0;
	if ((after == KIT_CLOSES && !closes) || (after == KIT_STAYS && closes))
		kit_fail("it %s: <<%s>>", closes ? "closes" : "stays", head);
	if (closes)
		kit_eof(fd);
}

int
kit_to_the_end(int fd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len + 1 < size) {
		kit_poll(fd, POLLIN, "the end");
		n = read(fd, buf + len, size - 1 - len);
		if (n == -1 && errno != ECONNRESET)
			kit_fail("read of %d: %s", fd, strerror(errno));
		buf[len += n > 0 ? (size_t)n : 0] = '\0';
		if (n <= 0)
			return n == -1;
	}
	kit_fail("no end on %d within %zu bytes", fd, size);
}


/* `httptun -l`. */

void
kit_proxy(struct kit_proxy *px, const char *arg, ...)
{
	/* no look-up may outlast a test, whatever resolver there is */
	static const char *const env[] = {
		"RES_OPTIONS=timeout:1 attempts:1", NULL
	};
	static const struct kit_opt opt = { .env = env };
	const char *argv[32] = { NULL, "-l" };
	char buf[4096];
	va_list ap;
	size_t n = 2;
	int fd;

	argv[0] = kit_binary();
	va_start(ap, arg);
	for (; arg != NULL; arg = va_arg(ap, const char *)) {
		assert_true(n + 1 < KIT_COUNT(argv));
		argv[n++] = arg;
	}
	va_end(ap);
	argv[n] = NULL;
	px->proc = kit_startv(&opt, argv);
	px->port = kit_listening(px->proc, 0);
	/* once it has answered all its processes are there */
	fd = kit_connect(AF_INET, px->port);
	kit_puts(fd, "GET / HTTP/1.0\r\n\r\n");
	(void)kit_slurp(fd, buf, sizeof(buf));
	(void)close(fd);
	px->pids[0] = px->proc->pid;
	px->npids = 1 + kit_family(px->pids[0], px->pids + 1,
	    KIT_COUNT(px->pids) - 1);
	kit_proxy_rests(px);
	kit_figure(px->pids[0], &px->idle);
}

void
kit_proxy_rests(const struct kit_proxy *px)
{
	kit_idle_all(px->pids, px->npids);
}

void
kit_proxy_settles(const struct kit_proxy *px)
{
	kit_returns(px->proc, &px->idle);
}

void
kit_proxy_below(const struct kit_proxy *px, long kib)
{
	long peak;
	int i;

	if (kit_sanitized())
		return;
	for (i = 0; i < px->npids; i++)
		if ((peak = kit_status(px->pids[i], "VmHWM")) >= kib)
			kit_fail("process %ld had a peak of %ld KiB",
			    (long)px->pids[i], peak);
}
