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

#define _GNU_SOURCE			/* setns(2) and unshare(2) */

#include <sys/ioctl.h>
#include <sys/mman.h>
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
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "kit.h"

#define NPROC		64		/* processes of one test */
#define NGROUP		32		/* their groups that are killed */
#define NFD		1024		/* descriptors looked after */
#define NSTOPPED	16		/* processes that stand still */
#define FAMILY		256		/* processes of one command */
#define NOTES		24
#define PATTERN		1048573		/* a prime: its period is no buffer's */

static struct kit_proc	*procs[NPROC];
static pid_t		 groups[NGROUP];
static size_t		 ngroups;
static unsigned char	 wasopen[NFD];
static char		 notes[NOTES][160];
static unsigned		 nnotes;
static unsigned char	*pattern;
static char		 tmpdir[64];
static char		 squid_name[32];

/* what is stopped must go on, or it outlives the test */
static pid_t		 stopped[NSTOPPED];
/* where the test was before it went into a network of its own, or -1 */
static int		 home_ns = -1;

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

/* Room for a string of so many characters, until the test's end. */
static struct str *
new_str(size_t len)
{
	struct str *s;

	if ((s = malloc(sizeof(*s) + len + 1)) == NULL)
		kit_fail("no memory");
	s->next = strs;
	strs = s;
	return s;
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
	if (n < 0)
		kit_fail("no string: %s", fmt);
	s = new_str((size_t)n);
	va_start(ap, fmt);
	(void)vsnprintf(s->s, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return s->s;
}

const char *
kit_times(size_t n, const char *text)
{
	size_t len = strlen(text), i;
	struct str *s = new_str(n * len);

	for (i = 0; i < n; i++)
		memcpy(s->s + i * len, text, len);
	s->s[n * len] = '\0';
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

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

static void
remove_tmpdir(void)
{
	if (tmpdir[0] != '\0')
		(void)nftw(tmpdir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	tmpdir[0] = '\0';
}

/* squid's two or three lines of it are not the next one's. */
static void
remove_shm(void)
{
	static const char *const shm[] = { "metadata", "queues", "readers" };
	char name[64];
	size_t i;

	for (i = 0; squid_name[0] != '\0' && i < KIT_COUNT(shm); i++) {
		(void)snprintf(name, sizeof(name), "/%s-cf__%s.shm",
		    squid_name, shm[i]);
		(void)shm_unlink(name);
	}
	squid_name[0] = '\0';
}

/* A failed test may have left what it stopped, and be elsewhere. */
int
kit_teardown(void **state)
{
	struct str *s;
	int fd, i;

	(void)state;
	kit_go_on();
	if (home_ns != -1)
		(void)setns(home_ns, CLONE_NEWNET);
	home_ns = -1;
	while (ngroups > 0)
		(void)kill(-groups[--ngroups], SIGKILL);
	for (i = 0; i < NPROC; i++)
		if (procs[i] != NULL)
			kit_done(procs[i]);
	for (fd = 0; fd < NFD; fd++)
		if (!wasopen[fd])
			(void)close(fd);
	remove_tmpdir();
	remove_shm();
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

void
kit_group(const struct kit_proc *p)
{
	if (ngroups == KIT_COUNT(groups))
		kit_fail("too many process groups");
	groups[ngroups++] = p->pid;
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

int
kit_said(struct kit_proc *p, const char *text)
{
	const char *s = kit_err(p);
	int n = 0;

	while ((s = strstr(s, text)) != NULL) {
		s += strlen(text);
		n++;
	}
	return n;
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

void
kit_signal(pid_t pid, int sig)
{
	kit_note("signal %d to %ld", sig, (long)pid);
	if (kill(pid, sig) == -1)
		kit_fail("signal %d to %ld: %s", sig, (long)pid,
		    strerror(errno));
}

void
kit_stop(pid_t pid)
{
	size_t i;

	for (i = 0; i < NSTOPPED && stopped[i] > 0; i++)
		;
	assert_true(i < NSTOPPED);
	stopped[i] = pid;
	kit_signal(pid, SIGSTOP);
}

void
kit_go_on(void)
{
	size_t i;

	for (i = 0; i < NSTOPPED; i++)
		if (stopped[i] > 0)
			(void)kill(stopped[i], SIGCONT);
	memset(stopped, 0, sizeof(stopped));
}


/* What processes are, and do. */

/* How many descriptors it has; -1 when there is no such process. */
static int
fds_of(pid_t pid)
{
	struct dirent *e;
	char path[64];
	DIR *d;
	int n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	if ((d = opendir(path)) == NULL)
		return -1;
	while ((e = readdir(d)) != NULL)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

int
kit_fds(pid_t pid)
{
	int n;

	if ((n = fds_of(pid)) == -1)
		kit_fail("the descriptors of process %ld: %s", (long)pid,
		    strerror(errno));
	return n;
}

int
kit_holds(pid_t pid, const char *what)
{
	const char *dir = kit_str("/proc/%ld/fd", (long)pid);
	char to[256];
	struct dirent *e;
	ssize_t n;
	int found = 0;
	DIR *d;

	if ((d = opendir(dir)) == NULL)
		return 0;
	while ((e = readdir(d)) != NULL) {
		n = readlink(kit_str("%s/%s", dir, e->d_name), to,
		    sizeof(to) - 1);
		to[n > 0 ? n : 0] = '\0';
		found += what != NULL ? strcmp(to, what) == 0 :
		    strncmp(to, "socket:", 7) == 0;
	}
	closedir(d);
	return found;
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

/* /proc/PID/stat from the state on; "" when there is no such process. */
static const char *
stat_of(pid_t pid)
{
	static char line[1024];
	const char *s = NULL;
	char path[64];
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if ((f = fopen(path, "r")) == NULL)
		return "";
	if (fgets(line, sizeof(line), f) != NULL)
		s = strrchr(line, ')');
	fclose(f);
	return s != NULL && s[1] == ' ' ? s + 2 : "";
}

static int
asleep(pid_t pid)
{
	return *stat_of(pid) == 'S';
}

/* The clock ticks that it has used. */
static long
cpu_of(pid_t pid)
{
	unsigned long user = 0, sys = 0;

	(void)sscanf(stat_of(pid), "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u "
	    "%*u %lu %lu", &user, &sys);
	return (long)(user + sys);
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

int
kit_processes(pid_t pid, pid_t *pids, int size)
{
	int n;

	pids[0] = pid;
	n = 1 + kit_family(pid, pids + 1, size - 1);
	return n < size ? n : size;
}

void
kit_figure(pid_t pid, struct kit_figure *f)
{
	pid_t pids[FAMILY];
	long rss;
	int fds, i, n;

	memset(f, 0, sizeof(*f));
	pids[0] = pid;
	f->procs = 1 + kit_family(pid, pids + 1, (int)KIT_COUNT(pids) - 1);
	n = f->procs < (int)KIT_COUNT(pids) ? f->procs : (int)KIT_COUNT(pids);
	for (i = 0; i < n; i++) {
		/* any of them may have just ended */
		fds = fds_of(pids[i]);
		rss = status_field(pids[i], "VmRSS");
		f->fds += fds > 0 ? fds : 0;
		f->rss += rss > 0 ? rss : 0;
		f->cpu += cpu_of(pids[i]);
	}
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

/* On loopback what we send wakes the receiver before send returns.  One that
 * wakes up again and again by itself shows by its count of switches. */
static int
at_rest(const pid_t *pids, int n)
{
	long before = sleeps(pids, n);

	return before != -1 && poll(NULL, 0, 1) == 0 &&
	    sleeps(pids, n) == before;
}

void
kit_idle(struct kit_proc *p)
{
	int64_t end = kit_now() + kit_patience();

	while (kit_alive(p) && !at_rest(&p->pid, 1)) {
		if (kit_now() > end)
			kit_fail("process %ld does not rest", (long)p->pid);
		drain_all();
	}
}

void
kit_idle_all(const pid_t *pids, int n)
{
	int64_t end = kit_now() + kit_patience();

	while (!at_rest(pids, n)) {
		if (kit_now() > end)
			kit_fail("process %ld and its %d others do not rest",
			    (long)pids[0], n - 1);
		drain_all();
	}
}

void
kit_rests(struct kit_proc *p)
{
	int64_t end = kit_now() + kit_patience();
	pid_t pids[FAMILY];
	int n;

	do {
		if (!kit_alive(p))
			return;
		n = kit_processes(p->pid, pids, (int)KIT_COUNT(pids));
		if (at_rest(pids, n) && kit_family(p->pid, NULL, 0) == n - 1)
			return;
		drain_all();
	} while (kit_now() < end);
	kit_fail("process %ld and its %d others do not rest", (long)p->pid,
	    n - 1);
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


/* Networks. */

void
kit_enter(int ns)
{
	if (setns(ns, CLONE_NEWNET) == -1)
		kit_fail("setns: %s", strerror(errno));
}

void
kit_leave(void)
{
	kit_enter(home_ns);
}

static int
this_network(void)
{
	return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

static int
new_network(void)
{
	return unshare(CLONE_NEWNET) == -1 ? -1 : this_network();
}

void
kit_script(int ns, const char *commands)
{
	int back = this_network();
	struct kit_proc *p;

	kit_enter(ns);
	p = kit_start(NULL, "sh", "-ec", commands, (char *)NULL);
	kit_enter(back);
	(void)close(back);
	if (kit_wait(p) != 0)
		kit_fail("no network: %s", commands);
	kit_done(p);
}

int
kit_networks(int *here, int *there)
{
	home_ns = this_network();
	if (geteuid() != 0 || home_ns == -1 ||
	    (*there = new_network()) == -1) {
		print_message("no network of its own: not tested\n");
		return 0;
	}
	*here = new_network();
	kit_leave();
	kit_script(*here, kit_str("ip link set lo up\n"
	    "ip link add near type veth peer name far\n"
	    "ip link set far netns /proc/%ld/fd/%d\n"
	    "ip addr add 192.0.2.1/24 dev near\n", (long)getpid(), *there));
	kit_script(*there, "ip link set lo up\n"
	    "ip addr add 192.0.2.2/24 dev far\n"
	    "ip link set far up\n");
	kit_script(*here, "ip link set near up\n" KIT_UNTIL_UP("near"));
	return 1;
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

/* Who is quick resets what connect(2) has not told of yet: it fails with what
 * the first read would have. */
void
kit_dial(int fd, const void *sa, socklen_t len, const char *where)
{
	kit_note("connect %d to %s", fd, where);
	if (connect(fd, sa, len) == -1 && errno != ECONNRESET)
		kit_fail("connect to %s: %s", where, strerror(errno));
}

/* What reading from there says then. */
static int
is_reset(int error)
{
	return error == ECONNRESET || error == ENOTCONN;
}

int
kit_connect_buf(int family, unsigned port, int sndbuf, int rcvbuf)
{
	struct sockaddr_storage ss;
	socklen_t len = loopback(&ss, family, port);
	int fd = new_socket(family, sndbuf, rcvbuf);

	kit_dial(fd, &ss, len, kit_str("port %u", port));
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

int
kit_knock(int family, unsigned port)
{
	struct sockaddr_storage ss;
	socklen_t len = loopback(&ss, family, port);
	int fd = new_socket(family, 0, 0), error;

	error = connect(fd, (struct sockaddr *)&ss, len) == -1 ? errno : 0;
	(void)close(fd);
	return error;
}

int
kit_has_ipv6(void)
{
	struct sockaddr_storage ss;
	socklen_t len = loopback(&ss, AF_INET6, 0);
	int fd = socket(AF_INET6, SOCK_STREAM, 0), has;

	has = fd != -1 && bind(fd, (struct sockaddr *)&ss, len) == 0;
	if (fd != -1)
		(void)close(fd);
	if (!has)
		print_message("no IPv6 here: not tested\n");
	return has;
}


/* What goes over a descriptor. */

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

int
kit_to_the_end(int fd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len + 1 < size) {
		kit_poll(fd, POLLIN, "the end");
		n = read(fd, buf + len, size - 1 - len);
		if (n == -1 && !is_reset(errno))
			kit_fail("read of %d: %s", fd, strerror(errno));
		buf[len += n > 0 ? (size_t)n : 0] = '\0';
		if (n <= 0)
			return n == -1;
	}
	kit_fail("no end on %d within %zu bytes", fd, size);
}

int
kit_number(int fd, int below)
{
	char digits[5];
	int n;

	kit_recv(fd, digits, 4);
	digits[4] = '\0';
	n = atoi(digits);
	assert_in_range(n, 0, below - 1);
	return n;
}

void
kit_silent(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	if (poll(&pfd, 1, ms) != 0)
		kit_fail("something came on %d", fd);
}


/* How it ends. */

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
	if (!is_reset(errno))
		kit_fail("no reset on %d: %s", fd, strerror(errno));
}

int
kit_until_end(int fd)
{
	char buf[65536];
	ssize_t n;

	do {
		kit_poll(fd, POLLIN, "the end");
	} while ((n = read(fd, buf, sizeof(buf))) > 0);
	return n == 0 ? 0 : errno;
}

void
kit_until_reset(int fd)
{
	int error;

	if (!is_reset(error = kit_until_end(fd)))
		kit_fail("no reset on %d: %s", fd,
		    error == 0 ? "end of file" : strerror(error));
}

void
kit_ends(int fd)
{
	char byte;
	ssize_t n;

	kit_poll(fd, POLLIN, "the end");
	if ((n = read(fd, &byte, 1)) > 0)
		kit_fail("'%c' and no end on %d", byte, fd);
	if (n == -1 && !is_reset(errno))
		kit_fail("no end on %d: %s", fd, strerror(errno));
	(void)close(fd);
}

void
kit_push_until_reset(int fd)
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

void
kit_vanish(int fd, enum kit_way how)
{
	if (how == KIT_WAY_RESET)
		kit_reset(fd);
	else if (how == KIT_WAY_CLOSE)
		(void)close(fd);
	else
		kit_half_close(fd);
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

void
kit_stalls(struct kit_stream *s, int ms)
{
	kit_stuff(s, ms);
	if (s->done >= s->bytes / 2)
		kit_fail("%ju bytes went to a reader that does not read",
		    (uintmax_t)s->done);
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

const char *
kit_stream_file(const char *name, size_t bytes, unsigned seed)
{
	const char *path = kit_path(name);
	FILE *f = fopen(path, "w");
	char *buf = malloc(bytes);
	int ok;

	if (f == NULL || buf == NULL)
		kit_fail("%s: %s", path, strerror(errno));
	kit_fill(buf, bytes, seed, 0);
	ok = fwrite(buf, 1, bytes, f) == bytes;
	free(buf);
	if (fclose(f) == EOF || !ok)
		kit_fail("%s: %s", path, strerror(errno));
	return path;
}


/* HTTP. */

/* RFC 4648, section 4 */
static const char *
base64(const unsigned char *p, size_t len)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t i, n = 0;
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
	return kit_str("%.*s", (int)n, out);
}

const char *
kit_base64(const char *s)
{
	return base64((const unsigned char *)s, strlen(s));
}

/* RFC 7617 */
const char *
kit_basic(const char *userpass)
{
	return kit_str("Basic %s", kit_base64(userpass));
}

const char *
kit_request(const char *authority, const char *fields)
{
	return kit_str("CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", authority,
	    authority, fields);
}

const char *
kit_request_to(unsigned port)
{
	return kit_request(kit_str("127.0.0.1:%u", port), "");
}

/* How many lines a field has; their values joined by ", ". */
static int
field_lines(const char *head, const char *name, const char **all)
{
	const char *line = head, *val;
	size_t len = strlen(name);
	int n = 0;

	*all = NULL;
	while ((line = strstr(line, "\r\n")) != NULL) {
		line += 2;
		if (strncasecmp(line, name, len) != 0 || line[len] != ':')
			continue;
		val = line + len + 1 + strspn(line + len + 1, " \t");
		val = kit_str("%.*s", (int)strcspn(val, "\r\n"), val);
		*all = n++ == 0 ? val : kit_str("%s, %s", *all, val);
	}
	return n;
}

const char *
kit_field(const char *head, const char *name)
{
	const char *all;

	(void)field_lines(head, name, &all);
	return all;
}

const char *
kit_one_field(const char *head, const char *name)
{
	const char *val;

	if (field_lines(head, name, &val) > 1)
		kit_fail("two %s fields: <<%s>>", name, head);
	return val;
}

const char *
kit_must_have(const char *head, const char *name, const char *start)
{
	const char *val = kit_one_field(head, name);

	if (val == NULL || strncmp(val, start, strlen(start)) != 0)
		kit_fail("no field \"%s: %s\": <<%s>>", name, start, head);
	return val + strlen(start);
}

void
kit_field_is(const char *head, const char *name, const char *value)
{
	const char *v = kit_one_field(head, name);

	if ((v == NULL) != (value == NULL) ||
	    (v != NULL && strcmp(v, value) != 0))
		kit_fail("%s is %s and not %s: <<%s>>", name, v != NULL ? v :
		    "missing", value != NULL ? value : "missing", head);
}

int
kit_lists(const char *value, const char *token)
{
	size_t len = strlen(token);

	while (value != NULL) {
		value += strspn(value, ", \t");
		if (strncasecmp(value, token, len) == 0 &&
		    strchr(", \t", value[len]) != NULL)
			return 1;
		value = strchr(value, ',');
	}
	return 0;
}

/* A message's head, which must have this status. */
static size_t
head_of(int fd, int status, char *buf, size_t size)
{
	size_t n = kit_head(fd, buf, size);

	if (strncmp(buf, kit_str("HTTP/1.1 %d ", status), 13) != 0)
		kit_fail("<<%s>> and no %d", buf, status);
	return n;
}

const char *
kit_reply(int fd, int status)
{
	char buf[8192];
	const char *s;
	size_t n, len;

	n = head_of(fd, status, buf, sizeof(buf) / 2);
	if ((s = strstr(buf, "\r\nContent-Length: ")) == NULL)
		kit_fail("no Content-Length: <<%s>>", buf);
	len = (size_t)strtoul(s + 18, NULL, 10);
	if (len >= sizeof(buf) / 2)
		kit_fail("a body of %zu bytes", len);
	kit_recv(fd, buf + n, len);
	buf[n + len] = '\0';
	return kit_str("%s", buf);
}

/* RFC 9209: these, and only these, tell which error it was. */
static void
tells_why(const char *head, int status, const char *error)
{
	const char *rest;

	if (status != 403 && (status < 502 || status == 505))
		return;
	if (error == NULL)
		error = "";
	rest = kit_must_have(head, "Proxy-Status",
	    kit_str("httptun; error=%s", error));
	if (*error != '\0' ? *rest != '\0' && *rest != ';' :
	    *rest < 'a' || *rest > 'z')
		kit_fail("no error=%s: <<%s>>", error, head);
}

/* The challenge of one Digest; what is behind it. */
static const char *
offers_digest(const char *val, const char *algorithm, const char **nonce)
{
	const char *begin = kit_str("Digest realm=\"httptun\", qop=\"auth\", "
	    "algorithm=%s, nonce=\"", algorithm);
	size_t n;

	if (strncmp(val, begin, strlen(begin)) != 0)
		return NULL;
	val += strlen(begin);
	n = strspn(val, "0123456789abcdef");
	*nonce = kit_str("%.*s", (int)n, val);
	val += n;
	if (n < 32 || *val++ != '"')
		return NULL;
	if (strncmp(val, ", stale=true", 12) == 0)
		val += 12;
	return strncmp(val, ", ", 2) == 0 ? val + 2 : NULL;
}

const char *
kit_offers(const char *head, const char *field, int md5)
{
	static const char *const algorithms[] = { "SHA-256", "MD5" };
	const char *val, *p, *nonce[2];
	int older;

	if ((val = kit_field(head, field)) == NULL)
		kit_fail("no %s: <<%s>>", field, head);
	for (older = 0; older < 2; older++)
		if ((p = offers_digest(val, algorithms[older],
		    &nonce[older])) != NULL && (p = offers_digest(p,
		    algorithms[!older], &nonce[!older])) != NULL && strcmp(p,
		    "Basic realm=\"httptun\", charset=\"UTF-8\"") == 0)
			return nonce[md5];
	kit_fail("%s: %s: <<%s>>", field, val, head);
}

/* A refusal's head; does it say that the connection closes? */
static int
refused_so(int fd, int status, const char *error, enum kit_after after,
    size_t *length)
{
	char head[4096];
	const char *val;
	int closes;

	(void)head_of(fd, status, head, sizeof(head));
	(void)kit_must_have(head, "Content-Type", "text/plain");
	val = kit_must_have(head, "Content-Length", "");
	*length = (size_t)strtoul(val, NULL, 10);
	if (status == 407)
		(void)kit_offers(head, "Proxy-Authenticate", 0);
	tells_why(head, status, error);
	if (kit_field(head, "Transfer-Encoding") != NULL)
		kit_fail("a Transfer-Encoding: <<%s>>", head);
	val = kit_one_field(head, "Connection");
	closes = val != NULL && strcmp(val, "close") == 0;
	if (!closes && val != NULL && strcasecmp(val, "keep-alive") != 0)
		kit_fail("Connection: %s: <<%s>>", val, head);
	if ((after == KIT_CLOSES && !closes) || (after == KIT_STAYS && closes))
		kit_fail("it %s: <<%s>>", closes ? "closes" : "stays", head);
	return closes;
}

size_t
kit_refusal_head(int fd, int status, const char *error, enum kit_after after)
{
	size_t len;

	(void)refused_so(fd, status, error, after, &len);
	return len;
}

const char *
kit_refusal(int fd, int status, const char *error, enum kit_after after)
{
	char body[1024];
	size_t len;
	int closes;

	closes = refused_so(fd, status, error, after, &len);
	if (len < 2 || len >= sizeof(body))
		kit_fail("a body of %zu bytes", len);
	kit_recv(fd, body, len);
	body[len] = '\0';
	if (strchr(body, '\n') != body + len - 1)
		kit_fail("the body is not a line: <<%s>>", body);
	if (closes)
		kit_eof(fd);
	return kit_str("%s", body);
}


/* WebSockets. */

void
kit_ws_mask(unsigned char *p, size_t n, const unsigned char key[4],
    unsigned *at)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] ^= key[(*at)++ & 3];
}

size_t
kit_ws_make_head(unsigned char *h, int masks, unsigned b0,
    enum kit_ws_form form, uint64_t len, unsigned char key[4])
{
	static uint32_t x = 2463534242U;
	size_t n = 2, width;
	int i;

	if (form == KIT_WS_SHORTEST)
		form = len < 126 ? KIT_WS_7 : len < 65536 ? KIT_WS_16 :
		    KIT_WS_64;
	width = form == KIT_WS_7 ? 0 : form == KIT_WS_16 ? 2 : 8;
	h[0] = (unsigned char)b0;
	h[1] = (unsigned char)(form == KIT_WS_7 ? len :
	    form == KIT_WS_16 ? 126 : 127);
	while (width > 0)
		h[n++] = (unsigned char)(len >> 8 * --width);
	if (!masks) {
		memset(key, 0, 4);
		return n;
	}
	h[1] |= 0x80;
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	for (i = 0; i < 4; i++)
		key[i] = h[n++] = (unsigned char)(x >> 8 * i);
	return n;
}

size_t
kit_ws_make(unsigned char *dst, int masks, unsigned b0, enum kit_ws_form form,
    const void *data, size_t len)
{
	unsigned char key[4];
	unsigned at = 0;
	size_t n = kit_ws_make_head(dst, masks, b0, form, len, key);

	memcpy(dst + n, data, len);
	if (masks)
		kit_ws_mask(dst + n, len, key, &at);
	return n + len;
}

void
kit_ws_send(const struct kit_ws *w, unsigned b0, const void *data, size_t len)
{
	static unsigned char buf[KIT_WS_MAX + 14];

	assert_true(len <= KIT_WS_MAX);
	kit_send(w->fd, buf, kit_ws_make(buf, w->client, b0, KIT_WS_SHORTEST,
	    data, len));
}

void
kit_ws_say(const struct kit_ws *w, unsigned b0, const char *text)
{
	kit_ws_send(w, b0, text, strlen(text));
}

void
kit_ws_puts(const struct kit_ws *w, const char *text)
{
	kit_ws_say(w, KIT_WS_FIN | KIT_WS_BINARY, text);
}

void
kit_ws_end(const struct kit_ws *w)
{
	kit_ws_say(w, KIT_WS_FIN | KIT_WS_TEXT, "end");
}

void
kit_ws_close(const struct kit_ws *w, int code)
{
	unsigned char buf[16], data[2] = {
		(unsigned char)(code >> 8), (unsigned char)code
	};
	size_t n = kit_ws_make(buf, w->client, KIT_WS_FIN | KIT_WS_CLOSE,
	    KIT_WS_SHORTEST, data, code == 0 ? 0 : 2);

	(void)send(w->fd, buf, n, MSG_NOSIGNAL);
}

/* What each frame's head must be like, whoever sent it. */
static void
judge_head(const unsigned char *h, struct kit_ws_frame *f, int from_client)
{
	f->fin = h[0] >> 7;
	f->op = h[0] & 15;
	if ((h[0] & (KIT_WS_RSV1 | KIT_WS_RSV2 | KIT_WS_RSV3)) != 0)
		kit_fail("a frame with reserved bits: 0x%02x", h[0]);
	if (h[1] >> 7 != from_client)
		kit_fail("a %s's frame is %smasked", from_client ? "client" :
		    "server", from_client ? "not " : "");
	if ((f->op > KIT_WS_BINARY && f->op < KIT_WS_CLOSE) ||
	    f->op > KIT_WS_PONG)
		kit_fail("a frame of opcode %u", f->op);
	if (f->op >= KIT_WS_CLOSE && (!f->fin || (h[1] & 127) > 125))
		kit_fail("a control frame 0x%02x 0x%02x", h[0], h[1]);
}

/* How many bytes of length and key follow the two that come first. */
static size_t
more_head(const unsigned char *h)
{
	unsigned len = h[1] & 127;

	return (len == 126 ? 2U : len == 127 ? 8U : 0U) + (h[1] >> 7 ? 4U : 0U);
}

/* The rest of a frame's head. */
static void
judge_length(const unsigned char *h, struct kit_ws_frame *f)
{
	unsigned form = h[1] & 127;
	size_t width = form == 126 ? 2 : form == 127 ? 8 : 0, i;

	f->len = width > 0 ? 0 : form;
	for (i = 0; i < width; i++)
		f->len = f->len << 8 | h[2 + i];
	if ((width == 2 && f->len < 126) || (width == 8 && f->len < 65536))
		kit_fail("a length of %ju in %zu bytes", (uintmax_t)f->len,
		    width);
	if (f->len > KIT_WS_MAX)
		kit_fail("a frame of %ju bytes", (uintmax_t)f->len);
	memset(f->key, 0, sizeof(f->key));
	if (h[1] >> 7)
		memcpy(f->key, h + 2 + width, 4);
}

/* A message ends before the next one begins; control frames may come within
 * it. */
static void
judge_order(struct kit_ws *w, const struct kit_ws_frame *f)
{
	if (f->op >= KIT_WS_CLOSE)
		return;
	if ((f->op == KIT_WS_CONT) != w->within)
		kit_fail("a frame of opcode %u %s a message", f->op,
		    w->within ? "within" : "without");
	w->within = !f->fin;
}

size_t
kit_ws_judge(struct kit_ws *w, const unsigned char *h, size_t n,
    struct kit_ws_frame *f)
{
	size_t len;

	if (n < 2)
		return 2 - n;
	judge_head(h, f, !w->client);
	len = 2 + more_head(h);
	if (n < len)
		return len - n;
	judge_length(h, f);
	judge_order(w, f);
	return 0;
}

void
kit_ws_read_head(struct kit_ws *w, struct kit_ws_frame *f)
{
	unsigned char h[14];
	size_t n, more;

	for (n = 0; (more = kit_ws_judge(w, h, n, f)) > 0; n += more)
		kit_recv(w->fd, h + n, more);
}

void
kit_ws_read_data(struct kit_ws *w, struct kit_ws_frame *f)
{
	unsigned at = 0;

	kit_recv(w->fd, f->data, (size_t)f->len);
	kit_ws_mask(f->data, (size_t)f->len, f->key, &at);
	f->data[f->len] = '\0';
	if (f->op == KIT_WS_PONG)
		memcpy(w->pong, f->data, (size_t)f->len + 1);	/* <= 125 */
}

static uint32_t
rotate(uint32_t x, int n)
{
	return x << n | x >> (32 - n);
}

/* One block of SHA-1 (RFC 3174, 6.1). */
static void
sha1_block(uint32_t h[5], const unsigned char *p)
{
	static const uint32_t k[] = {
		0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6
	};
	uint32_t w[80], v[5], f;
	int t;

	for (t = 0; t < 16; t++)
		w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 |
		    (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
	for (; t < 80; t++)
		w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
	memcpy(v, h, sizeof(v));
	for (t = 0; t < 80; t++) {
		f = t < 20 ? (v[1] & v[2]) | (~v[1] & v[3]) :
		    t < 40 || t >= 60 ? v[1] ^ v[2] ^ v[3] :
		    (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]);
		f += rotate(v[0], 5) + v[4] + w[t] + k[t / 20];
		v[4] = v[3];
		v[3] = v[2];
		v[2] = rotate(v[1], 30);
		v[1] = v[0];
		v[0] = f;
	}
	for (t = 0; t < 5; t++)
		h[t] += v[t];
}

/* RFC 6455, 4.2.2: Base64 of a SHA-1. */
const char *
kit_ws_accept(const char *key)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint32_t h[5] = {
		0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0
	};
	unsigned char block[128] = { 0 }, d[20];
	size_t len = strlen(key) + sizeof(guid) - 1, i;

	assert_true(len < 64 && len >= 56);	/* two blocks */
	(void)sprintf((char *)block, "%s%s", key, guid);
	block[len] = 0x80;
	block[126] = (unsigned char)(len * 8 >> 8);
	block[127] = (unsigned char)(len * 8);
	sha1_block(h, block);
	sha1_block(h, block + 64);
	for (i = 0; i < 20; i++)
		d[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
	return base64(d, sizeof(d));
}

const char *
kit_ws_request(const char *fields)
{
	return kit_str("GET / HTTP/1.1\r\nHost: here\r\n"
	    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Key: " KIT_WS_KEY "\r\n"
	    "Sec-WebSocket-Version: 13\r\n%s\r\n", fields);
}

void
kit_ws_upgraded(int fd, const char *protocol)
{
	char head[4096];
	const char *v;

	(void)head_of(fd, 101, head, sizeof(head));
	v = kit_must_have(head, "Upgrade", "");
	if (strcasecmp(v, "websocket") != 0 ||
	    !kit_lists(kit_one_field(head, "Connection"), "upgrade"))
		kit_fail("it upgrades to %s: <<%s>>", v, head);
	kit_field_is(head, "Sec-WebSocket-Accept", KIT_WS_ACCEPT);
	kit_field_is(head, "Sec-WebSocket-Protocol", protocol);
	kit_field_is(head, "Sec-WebSocket-Extensions", NULL);
	kit_field_is(head, "Content-Length", NULL);
	kit_field_is(head, "Transfer-Encoding", NULL);
}

const char *
kit_ws_answer(const char *key, const char *protocol)
{
	return kit_str("HTTP/1.1 101 Switching Protocols\r\n"
	    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n", kit_ws_accept(key),
	    protocol != NULL ? "Sec-WebSocket-Protocol: " : "",
	    protocol != NULL ? protocol : "", protocol != NULL ? "\r\n" : "");
}


/* `httptun -l`. */

struct kit_proc *
kit_server(const struct kit_opt *opt, const char *arg, va_list ap)
{
	static const char *const env[] = {
		"RES_OPTIONS=timeout:1 attempts:1", NULL
	};
	static const struct kit_opt quick = { .env = env };
	const char *argv[32] = { NULL, "-l" };
	size_t n = 2;

	argv[0] = kit_binary();
	for (; arg != NULL; arg = va_arg(ap, const char *)) {
		assert_true(n + 1 < KIT_COUNT(argv));
		argv[n++] = arg;
	}
	argv[n] = NULL;
	return kit_startv(opt != NULL ? opt : &quick, argv);
}

void
kit_will_not_start(int status, const char *arg, ...)
{
	struct kit_proc *p;
	const char *err;
	char out[64];
	va_list ap;

	kit_note("must end with %d: %s ...", status, arg);
	va_start(ap, arg);
	p = kit_server(NULL, arg, ap);
	va_end(ap);
	kit_exits(p, status);
	assert_int_equal(kit_slurp(p->out, out, sizeof(out)), 0);
	err = kit_err(p);
	if (*err == '\0' || strchr(err, '\n') != err + strlen(err) - 1)
		kit_fail("stderr is not a line");
	if (strstr(err, "listening") != NULL)
		kit_fail("it listened before");
	kit_done(p);
}

void
kit_proxy_is(struct kit_proxy *px, struct kit_proc *p)
{
	px->proc = p;
	px->family = AF_INET;
	px->port = kit_listening(p, 0);
	kit_rests(p);
	px->npids = kit_processes(p->pid, px->pids, (int)KIT_COUNT(px->pids));
	kit_figure(p->pid, &px->idle);
}

void
kit_proxy(struct kit_proxy *px, const char *arg, ...)
{
	char buf[4096];
	va_list ap;
	int fd;

	va_start(ap, arg);
	px->proc = kit_server(NULL, arg, ap);
	va_end(ap);
	fd = kit_connect(AF_INET, kit_listening(px->proc, 0));
	kit_puts(fd, "GET / HTTP/1.0\r\n\r\n");
	(void)kit_slurp(fd, buf, sizeof(buf));
	(void)close(fd);
	kit_proxy_is(px, px->proc);
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

const char *
kit_proxy_socket(const struct kit_proxy *px)
{
	char line[512];
	const char *found = NULL;
	unsigned port, st;
	unsigned long inode;
	FILE *f = fopen("/proc/self/net/tcp", "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s "
		    "%*s %*s %*u %*u %lu", &port, &st, &inode) == 3 &&
		    port == px->port && st == 10)	/* TCP_LISTEN */
			found = kit_str("socket:[%lu]", inode);
	fclose(f);
	if (found == NULL)
		kit_fail("nobody listens on port %u", px->port);
	return found;
}

int
kit_workers(const struct kit_proxy *px, pid_t *pids, int size, pid_t *helper)
{
	const char *sock = kit_proxy_socket(px);
	pid_t all[FAMILY];
	int n = kit_family(px->proc->pid, all, (int)KIT_COUNT(all));
	int i, found = 0;

	*helper = -1;
	for (i = 0; i < n && i < (int)KIT_COUNT(all); i++)
		if (kit_holds(all[i], sock) == 0) {
			if (*helper == -1)
				*helper = all[i];
		} else if (found < size)
			pids[found++] = all[i];
	return found;
}

void
kit_wait_workers(struct kit_proxy *px, pid_t *pids, int n, pid_t *helper)
{
	int64_t end = kit_now() + kit_patience();
	pid_t some[FAMILY], other;
	int found;

	while ((found = kit_workers(px, some, (int)KIT_COUNT(some),
	    &other)) != n || (helper != NULL && other == -1)) {
		if (kit_now() > end)
			kit_fail("%d workers, %s helper, but not %d%s", found,
			    other == -1 ? "no" : "a", n,
			    helper != NULL ? " and one" : "");
		(void)poll(NULL, 0, 5);
	}
	memcpy(pids, some, (size_t)n * sizeof(*pids));
	if (helper != NULL)
		*helper = other;
	px->npids = kit_processes(px->proc->pid, px->pids,
	    (int)KIT_COUNT(px->pids));
}


/* Its tunnels. */

int
kit_client(const struct kit_proxy *px)
{
	return kit_connect(px->family, px->port);
}

int
kit_ask(const struct kit_proxy *px, const char *request)
{
	int c = kit_client(px);

	kit_puts(c, request);
	return c;
}

struct kit_pair
kit_tunnel(const struct kit_proxy *px, int lfd, unsigned port)
{
	struct kit_pair p;

	p.c = kit_ask(px, kit_request_to(port));
	p.t = kit_accept(lfd);
	kit_expect(p.c, KIT_OK);
	return p;
}

void
kit_carries(struct kit_pair p)
{
	kit_puts(p.c, "to the target");
	kit_expect(p.t, "to the target");
	kit_puts(p.t, "to the client");
	kit_expect(p.c, "to the client");
}

void
kit_farewell(struct kit_pair p)
{
	kit_carries(p);
	kit_half_close(p.c);
	kit_eof(p.t);
	kit_half_close(p.t);
	kit_eof(p.c);
	(void)close(p.c);
	(void)close(p.t);
}

void
kit_parts(struct kit_pair p, enum kit_way way, int client)
{
	int first = client ? p.c : p.t, second = client ? p.t : p.c;

	kit_carries(p);
	kit_vanish(first, way);
	if (way == KIT_WAY_RESET)
		kit_expect_reset(second);
	else
		kit_eof(second);
	if (way == KIT_WAY_HALF) {
		kit_puts(second, "and this");
		kit_half_close(second);
		kit_expect(first, "and this");
		kit_eof(first);
		(void)close(first);
	}
	(void)close(second);
}

void
kit_crosses(struct kit_pair p, uint64_t bytes)
{
	struct kit_stream s[] = {
		{ p.c, KIT_OUT, bytes, 1, 1, 0 },
		{ p.t, KIT_IN, bytes, 1, 1, 0 },
		{ p.t, KIT_OUT, bytes, 2, 1, 0 },
		{ p.c, KIT_IN, bytes, 2, 1, 0 }
	};

	kit_pump(s, KIT_COUNT(s));
	(void)close(p.c);
	(void)close(p.t);
}

void
kit_half_closed(int quiet, int sender, uint64_t bytes)
{
	kit_puts(quiet, "last words");
	kit_half_close(quiet);
	kit_expect(sender, "last words");
	kit_eof(sender);
	kit_last_words(sender, quiet, bytes, 1);
	(void)close(quiet);
	(void)close(sender);
}

void
kit_reset_passes(struct kit_pair (*tunnel)(void), int client)
{
	struct kit_pair p;
	int a, b, i;

	for (i = 0; i < 4; i++) {
		p = tunnel();
		a = client ? p.c : p.t;
		b = client ? p.t : p.c;
		kit_note("%s resets, %d", client ? "client" : "target", i);
		if (i == 1) {		/* b has ended its direction */
			kit_half_close(b);
			kit_eof(a);
		} else if (i >= 2) {	/* a has */
			kit_half_close(a);
			kit_eof(b);
		}
		kit_reset(a);
		if (i == 2) {
			kit_push_until_reset(b);
			continue;
		}
		if (i == 3)		/* b says nothing more */
			kit_poll(b, 0, "a reset behind the end of file");
		else
			kit_expect_reset(b);
		(void)close(b);
	}
}


void
kit_families_end(struct kit_proxy *px, int tl, unsigned tport)
{
	static const int sigs[] = { SIGTERM, SIGKILL };
	pid_t pids[64];
	size_t i;
	int n = 0, had;

	for (i = 0; i < KIT_COUNT(sigs); i++) {
		kit_carries(kit_tunnel(&px[i], tl, tport));
		kit_carries(kit_tunnel(&px[i], tl, tport));
		had = kit_family(px[i].proc->pid, pids + n, 32);
		assert_in_range(had, px[i].npids + 1, 32);
		n += had;
	}
	for (i = 0; i < KIT_COUNT(sigs); i++)
		kit_signal(px[i].proc->pid, sigs[i]);
	for (i = 0; i < KIT_COUNT(sigs); i++)
		kit_exits(px[i].proc, -sigs[i]);
	while (n-- > 0)
		kit_gone(pids[n]);
}

struct kit_proc *
kit_bridge(const struct kit_opt *opt, const char *option, unsigned port,
    const char *hop, va_list ap)
{
	const char *argv[16];
	size_t n = 0;

	argv[n++] = kit_binary();
	if (option != NULL)
		argv[n++] = option;
	for (; hop != NULL; hop = va_arg(ap, const char *)) {
		assert_true(n + 5 < KIT_COUNT(argv));
		argv[n++] = "-x";
		argv[n++] = hop;
	}
	argv[n++] = "127.0.0.1";
	argv[n++] = kit_str("%u", port);
	argv[n] = NULL;
	return kit_startv(opt, argv);
}

/* A client's tunnel. */

void
kit_talk(const struct kit_proc *p, int t, uint64_t bytes)
{
	struct kit_stream s[] = {
		{ .fd = p->in, .dir = KIT_OUT, .bytes = bytes, .seed = 1 },
		{ .fd = t, .dir = KIT_IN, .bytes = bytes, .seed = 1 },
		{ .fd = t, .dir = KIT_OUT, .bytes = bytes, .seed = 2 },
		{ .fd = p->out, .dir = KIT_IN, .bytes = bytes, .seed = 2 },
	};

	kit_pump(s, KIT_COUNT(s));
}

void
kit_last_words(int from, int to, uint64_t bytes, unsigned seed)
{
	struct kit_stream s[] = {
		{ from, KIT_OUT, bytes, seed, 1, 0 },
		{ to, KIT_IN, bytes, seed, 1, 0 }
	};

	kit_pump(s, KIT_COUNT(s));
}

void
kit_refused(struct kit_proc *p, const char *line)
{
	const char *nl;

	kit_exits(p, 1);
	kit_eof(p->out);
	nl = strchr(kit_err(p), '\n');
	if (strncmp(kit_err(p), line, strlen(line)) != 0 || nl == NULL ||
	    nl[1] != '\0')
		kit_fail("stderr is <<%s>>\n    and not one line <<%s...>>",
		    kit_err(p), line);
}


/* A web server. */

void
kit_web(struct kit_web *w, const char *handler)
{
	static const char serve[] =
	    "class Server(socketserver.ThreadingTCPServer):\n"
	    "    daemon_threads = True\n"
	    "http, https = [Server(('127.0.0.1', 0), Handler)\n"
	    "    for i in range(2)]\n"
	    "tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
	    "tls.load_cert_chain(sys.argv[1], sys.argv[2])\n"
	    "https.socket = tls.wrap_socket(https.socket, server_side=True)\n"
	    "threading.Thread(target=http.serve_forever, daemon=True).start()\n"
	    "print(http.server_address[1], https.server_address[1], 'ready',\n"
	    "    file=sys.stderr, flush=True)\n"
	    "https.serve_forever()\n";
	static const struct kit_opt opt = { .in = KIT_NULL, .out = KIT_NULL };
	const char *key = kit_path("web_key");
	struct kit_proc *p;

	w->cert = kit_path("web_cert");
	p = kit_start(NULL, "openssl", "req", "-x509", "-batch", "-nodes",
	    "-days", "2", "-newkey", "ec", "-pkeyopt",
	    "ec_paramgen_curve:P-256", "-subj", "/CN=localhost", "-addext",
	    "subjectAltName=DNS:localhost", "-keyout", key, "-out", w->cert,
	    (char *)NULL);
	kit_exits(p, 0);
	p = kit_start(&opt, "python3", "-c", kit_str("import http.server, "
	    "socketserver, ssl, sys, threading\n%s%s", handler, serve),
	    w->cert, key, (char *)NULL);
	kit_err_wait(p, "ready\n");
	if (sscanf(kit_err(p), "%u %u ready", &w->http, &w->https) != 2)
		kit_fail("the web server tells no ports");
}


/* Other people's servers. */

/* Bound and closed again: free, unless somebody is quicker. */
static unsigned
free_port(void)
{
	unsigned port;

	(void)close(kit_listen(AF_INET, &port));
	return port;
}

/* Waits until it listens (1) or says that the port is taken (0). */
static int
comes_up(const struct kit_service *s, struct kit_proc *p)
{
	struct pollfd pfd = { .fd = p->err, .events = POLLIN };
	int64_t end = kit_now() + kit_patience();
	int alive;

	do {
		alive = kit_alive(p);
		if (strstr(kit_err(p), s->ready) != NULL)
			return 1;
		if (!alive && strstr(kit_err(p), s->taken) != NULL)
			return 0;
		(void)poll(&pfd, 1, 50);
	} while (alive && kit_now() < end);
	kit_fail("%s does not start", s->name);
}

/* A connection alone would not tell that it is up, it could be to the quicker
 * somebody; nor do words, squid's come a moment early. */
unsigned
kit_serve(const struct kit_service *s, const char *cred)
{
	static const struct kit_opt opt = { .in = KIT_NULL, .out = KIT_NULL,
	    .newsid = 1 };
	int64_t end = kit_now() + kit_patience();
	struct kit_proc *p;
	unsigned port;

	for (;;) {
		port = free_port();
		p = s->start(&opt, port, cred);
		if (comes_up(s, p))
			break;
		kit_done(p);
		if (kit_now() > end)
			kit_fail("%s finds no free port", s->name);
	}
	kit_group(p);
	while (kit_knock(AF_INET, port) != 0) {
		if (!kit_alive(p) || kit_now() > end)
			kit_fail("%s does not answer", s->name);
		(void)poll(NULL, 0, 5);
	}
	return port;
}

/* A program that has to end well. */
#define RUN(...) kit_exits(kit_start(NULL, __VA_ARGS__, (char *)NULL), 0)

static struct kit_proc *
start_sshd(const struct kit_opt *opt, unsigned port, const char *cred)
{
	const char *conf, *host = kit_path("host"), *id = kit_path("id");

	(void)cred;
	if (access(id, F_OK) == -1) {
		RUN("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host);
		RUN("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", id);
	}
	/* as root it wants this one, which the package's service makes */
	(void)mkdir("/run/sshd", 0755);
	/* HOME: the user's shell shall read no start-up file, that may speak */
	conf = kit_file("sshd_config", 0600, kit_str("HostKey %s\n"
	    "AuthorizedKeysFile %s.pub\nPidFile none\nStrictModes no\n"
	    "UsePAM no\nUseDNS no\nSetEnv HOME=/nonexistent\n"
	    "ListenAddress 127.0.0.1:%u\n", host, id, port));
	/* it starts itself anew for each client and so wants its whole path */
	return kit_start(opt, "/usr/sbin/sshd", "-D", "-e", "-f", conf,
	    (char *)NULL);
}

/* Its log goes to stdout. */
static struct kit_proc *
start_tinyproxy(const struct kit_opt *opt, unsigned port, const char *cred)
{
	const char *auth = "";

	if (cred != NULL)
		auth = kit_str("BasicAuth %.*s %s\n", (int)strcspn(cred, ":"),
		    cred, strchr(cred, ':') + 1);
	return kit_start(opt, "/bin/sh", "-c",
	    "exec tinyproxy -d -c \"$0\" >&2", kit_file("tinyproxy_conf",
	    0600, kit_str("Listen 127.0.0.1\nPort %u\nLogLevel Info\n%s",
	    port, auth)), (char *)NULL);
}

const struct kit_service kit_sshd = {
	"sshd", "Server listening on ", "in use", start_sshd
};
const struct kit_service kit_tinyproxy = {
	"tinyproxy", "Accepting connections", "create listening sockets",
	start_tinyproxy
};

/* No cache, no files: one process, that speaks on stderr.  Its shared memory
 * in /dev/shm is named for the service. */
struct kit_proc *
kit_squid(const struct kit_opt *opt, unsigned port, const char *lines)
{
	const char *dir = kit_path(".");

	/* it runs as somebody else, who has to get at the files */
	if (chmod(dir, 0711) == -1)
		kit_fail("%s: %s", dir, strerror(errno));
	(void)snprintf(squid_name, sizeof(squid_name), "httptun%ld",
	    (long)getpid());
	return kit_start(opt, "/usr/sbin/squid", "-N", "-d", "1", "-n",
	    squid_name, "-f", kit_file("squid_conf", 0644, kit_str(
	    "http_port 127.0.0.1:%u\n%s"
	    "cache deny all\ncache_mem 1 MB\nmemory_cache_shared off\n"
	    "cache_log /dev/null\naccess_log none\npid_filename none\n"
	    "netdb_filename none\ncoredump_dir none\npinger_enable off\n"
	    "dns_nameservers 127.0.0.1\n"
	    "cache_effective_user proxy\n", port, lines)), (char *)NULL);
}

struct kit_proc *
kit_hand_over(int lfd, const char *const *env, const char *const *argv)
{
	struct kit_opt opt = { .out = KIT_NULL, .newsid = 1 };
	struct kit_proc *p;

	opt.in = lfd;
	opt.env = env;
	p = kit_startv(&opt, argv);
	kit_group(p);
	return p;
}

struct kit_proc *
kit_nginx(int lfd, const char *http)
{
	static const char *const env[] = { "NGINX=0;", NULL };
	const char *argv[] = { "/usr/sbin/nginx", "-e", "stderr", "-p",
	    kit_path("."), "-c", NULL, NULL };

	/* user: or its workers are somebody else, to whom our files are
	 * closed */
	argv[6] = kit_file("nginx_conf", 0600, kit_str("%s"
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
	    "%s"
	    "}\n", geteuid() == 0 ? "user root;\n" : "", http));
	return kit_hand_over(lfd, env, argv);
}

struct kit_proc *
kit_haproxy(int lfd, const char *conf)
{
	const char *argv[] = { "/usr/sbin/haproxy", "-db", "-f", NULL, NULL };
	static unsigned n;

	/* each has its own: nobody knows when one has been read */
	argv[3] = kit_file(kit_str("haproxy_conf%u", n++), 0600, conf);
	return kit_hand_over(lfd, NULL, argv);
}

#define NEW_KEY	"-batch", "-nodes", "-newkey", "ec", "-pkeyopt",	\
		"ec_paramgen_curve:P-256"

const char *
kit_ca(const char *name)
{
	const char *ca = kit_path(name);

	RUN("openssl", "req", "-x509", NEW_KEY, "-days", "2", "-subj",
	    kit_str("/CN=%s", name), "-addext",
	    "basicConstraints=critical,CA:TRUE", "-keyout",
	    kit_str("%s.key", ca), "-out", ca);
	return ca;
}

const char *
kit_cert(const char *ca, const char *names, int days)
{
	static unsigned n;
	const char *cert = kit_path(kit_str("cert%u", n++));
	const char *key = kit_str("%s.key", cert);
	const char *req = kit_str("%s.req", cert);

	RUN("openssl", "req", "-new", NEW_KEY, "-subj", "/CN=tests",
	    "-addext", kit_str("subjectAltName=%s", names), "-addext",
	    "basicConstraints=critical,CA:FALSE", "-keyout", key,
	    "-out", req);
	/* by x509: for req none may have ended already */
	RUN("openssl", "x509", "-req", "-in", req, "-copy_extensions",
	    "copyall", "-CA", ca, "-CAkey", kit_str("%s.key", ca), "-days",
	    kit_str("%d", days), "-out", cert);
	return cert;
}

struct kit_proc *
kit_tls(const char *cert, const char *bind, unsigned to, unsigned *port)
{
	int lfd = kit_listen(AF_INET, port);
	struct kit_proc *p;

	p = kit_haproxy(lfd, kit_str("global\n"
	    "	maxconn 512\n"
	    "defaults\n"
	    "	mode tcp\n"
	    "	retries 0\n"
	    "	timeout connect 10s\n"
	    "	timeout client 1h\n"
	    "	timeout server 1h\n"
	    "frontend tls\n"
	    "	bind fd@0 ssl crt %s %s\n"
	    "	default_backend clear\n"
	    "backend clear\n"
	    "	server it 127.0.0.1:%u\n", cert, bind, to));
	/* or connecting to one that has ended would succeed */
	(void)close(lfd);
	return p;
}

struct kit_proc *
kit_ssh(const char *proxy, unsigned port, const char *command)
{
	return kit_start(NULL, "ssh", "-F", "none", "-T", "-i", kit_path("id"),
	    "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
	    "-o", "StrictHostKeyChecking=no",
	    "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
	    "-o", "KexAlgorithms=curve25519-sha256",
	    "-o", "Ciphers=aes128-gcm@openssh.com", "-o", proxy,
	    "-o", kit_str("ProxyUseFdpass=%s", strstr(proxy, " -F ") != NULL ?
	    "yes" : "no"), "-p", kit_str("%u", port), "127.0.0.1", command,
	    (char *)NULL);
}

void
kit_ssh_runs(const char *proxy, unsigned port)
{
	struct kit_proc *p = kit_ssh(proxy, port,
	    "cat; echo said >&2; exit 7");

	kit_puts(p->in, "typed\n");
	kit_half_close(p->in);
	kit_expect(p->out, "typed\n");
	kit_eof(p->out);
	kit_exits(p, 7);
	kit_err_is(p, "said\n");
}


/* Tests from tables. */

static struct CMUnitTest tests[96];
static size_t ntests;

void
kit_add(const char *name, CMUnitTestFunction function, const void *row)
{
	struct CMUnitTest t = { name, function, kit_setup, kit_teardown,
	    (void *)(uintptr_t)row };

	if (ntests == KIT_COUNT(tests))
		abort();
	memcpy(&tests[ntests++], &t, sizeof(t));
}

int
kit_run(const char *name)
{
	return _cmocka_run_group_tests(name, tests, ntests, NULL, NULL);
}
