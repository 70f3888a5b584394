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
 * The load of make bench: the target, and what opens tunnels to it and uses
 * them.  Each prints what it found in one line, a name before each number.
 *
 *	load target
 *	load down|up|setup secs where
 *	load trips secs where ...
 *	load idle tunnels where
 *	load start secs command [argument ...]
 *	load pipe secs command [argument ...]
 *
 * Where is port,host:port: the port of 127.0.0.1 where a proxy is asked for a
 * tunnel, and what it is asked for; with the port alone whoever is there leads
 * to the target.  Several places have their round trips in turns, so that the
 * machine is the same to all, and a line each.  What a tunnel's first byte is,
 * so the target serves it.
 */

#define _XOPEN_SOURCE 700

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* a tunnel's first byte */
#define DOWN	'd'		/* bytes without end */
#define UP	'u'		/* at the last one, how many there were */
#define TRIPS	't'		/* each comes back at once */
#define ECHO	'e'		/* the same, beside others */
#define IDLE	'i'		/* the same once, then nothing more */

#define LAST	'.'		/* of the bytes that go up: not each proxy
				 * passes on that one end has come */
#define CHUNK	65536		/* bytes read and written at once */
#define HEAD	4096		/* bytes of a proxy's answer */
#define AT_ONCE	16		/* tunnels being opened */
#define WATCHED	64		/* by the target, the idle ones apart */
#define MOST	12000		/* tunnels of a run: from half of the local
				 * ports on, each one has to be looked for */
#define SAMPLES	250000		/* times kept */
#define PLACES	16		/* that have round trips in turns */
#define WARM	20		/* at the begin of a turn, not measured */
#define TURN	200		/* measured ones */
#define PATIENCE 20000		/* ms without anything happening */

extern char	**environ;

static char		 chunk[CHUNK];
static uint64_t		 samples[PLACES][SAMPLES];

/* who is asked, and for what */
struct where {
	unsigned	 port;
	const char	*to;		/* host:port, or NULL: not asked */
};

static void
die(const char *fmt, ...)
{
	va_list ap;

	(void)fprintf(stderr, "load: ");
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "\n");
	exit(1);
}

/* ---- small things -------------------------------------------------------- */

static uint64_t
now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static double
secs_since(uint64_t then)
{
	return (double)(now() - then) / 1e9;
}

static int
by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void
print_samples(uint64_t *s, size_t n)
{
	size_t p50 = n / 2, p99 = n * 99 / 100;

	if (n == 0)
		die("nothing was measured");
	qsort(s, n, sizeof(*s), by_value);
	(void)printf("n %zu p50 %.9f p99 %.9f\n", n, (double)s[p50] / 1e9,
	    (double)s[p99] / 1e9);
}

static struct sockaddr_in
loopback(unsigned port)
{
	struct sockaddr_in sin;

	memset(&sin, 0, sizeof(sin));
	sin.sin_family = AF_INET;
	sin.sin_port = htons((uint16_t)port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sin;
}

static void
no_delay(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static ssize_t
receive(int fd, void *buf, size_t n)
{
	ssize_t r;

	while ((r = read(fd, buf, n)) == -1 && errno == EINTR)
		;
	return r;
}

/* All of it, to somebody who reads; -1 when he has gone. */
static int
send_all(int fd, const char *p, size_t n)
{
	ssize_t w;

	for (; n > 0; p += w, n -= (size_t)w)
		if ((w = write(fd, p, n)) == -1) {
			if (errno != EINTR)
				return -1;
			w = 0;
		}
	return 0;
}

/* One byte there and back. */
static void
trip(int fd, char c)
{
	char back;

	if (send_all(fd, &c, 1) == -1 || receive(fd, &back, 1) != 1 ||
	    back != c)
		die("the byte that was sent does not come back");
}

/* ---- the target ---------------------------------------------------------- */

static unsigned
listener(int *fd)
{
	struct sockaddr_in sin = loopback(0);
	socklen_t len = sizeof(sin);

	if ((*fd = socket(AF_INET, SOCK_STREAM, 0)) == -1 ||
	    bind(*fd, (struct sockaddr *)&sin, sizeof(sin)) == -1 ||
	    listen(*fd, SOMAXCONN) == -1 ||
	    getsockname(*fd, (struct sockaddr *)&sin, &len) == -1)
		die("listen: %s", strerror(errno));
	return ntohs(sin.sin_port);
}

static void
count_up(int fd, size_t n)
{
	char answer[32];
	uint64_t total = n - 1;
	ssize_t r;

	for (; chunk[n - 1] != LAST; n = (size_t)r, total += n)
		if ((r = receive(fd, chunk, sizeof(chunk))) <= 0)
			return;
	(void)snprintf(answer, sizeof(answer), "%llu\n",
	    (unsigned long long)total);
	(void)send_all(fd, answer, strlen(answer));
}

/*
 * A new tunnel has said what it is for.  The long ones come one at a time and
 * are served to their end, without a poll(2) between; -1: that was it.
 */
static int
serve(int fd, size_t n)
{
	switch (chunk[0]) {
	case DOWN:
		while (send_all(fd, chunk, sizeof(chunk)) == 0)
			;
		return -1;
	case UP:
		count_up(fd, n);
		return -1;
	case TRIPS:
		do {
			if (send_all(fd, chunk, n) == -1)
				return -1;
		} while ((n = (size_t)receive(fd, chunk, 1)) == 1);
		return -1;
	default:
		return send_all(fd, chunk, n);
	}
}

/*
 * As a proxy, for clients of one: the target is this process itself, so that
 * nobody else's time is in what is measured.  Who asks for the port that speaks
 * first gets its byte.
 */
static int
play_proxy(int fd, unsigned banner)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\n\r\n";
	char head[HEAD + 1], port[16];
	size_t got = 0;
	ssize_t n;

	do {
		if (got == HEAD || (n = receive(fd, head + got, HEAD - got))
		    <= 0)
			return -1;
		got += (size_t)n;
		head[got] = '\0';
	} while (strstr(head, "\r\n\r\n") == NULL);
	(void)snprintf(port, sizeof(port), ":%u ", banner);
	if (send_all(fd, ok, sizeof(ok) - 1) == -1)
		return -1;
	return strstr(head, port) != NULL ? send_all(fd, "!", 1) : 0;
}

enum { PLAIN, BANNER, PROXY, LISTENERS };

/* -1: no client, or one that has gone. */
static int
take(int lfd, int which, unsigned banner)
{
	int fd = accept(lfd, NULL, NULL);

	if (fd == -1)
		return -1;
	no_delay(fd);
	if ((which == BANNER && send_all(fd, "!", 1) == -1) ||
	    (which == PROXY && play_proxy(fd, banner) == -1)) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

/* Something came on a tunnel; 0: it is not to be watched any more. */
static int
go_on(int fd, int fresh)
{
	ssize_t n = receive(fd, chunk, sizeof(chunk));

	if (n > 0 && fresh && chunk[0] == IDLE && send_all(fd, chunk, 1) == 0)
		return 0;		/* it stays open */
	if (n > 0 && (fresh ? serve(fd, (size_t)n) :
	    send_all(fd, chunk, (size_t)n)) == 0)
		return 1;
	(void)close(fd);
	return 0;
}

static void
target(void)
{
	struct pollfd set[WATCHED];
	int fresh[WATCHED], fd;
	unsigned port[LISTENERS];
	nfds_t i, n;

	for (n = 0; n < LISTENERS; n++) {
		port[n] = listener(&set[n].fd);
		set[n].events = POLLIN;
	}
	(void)printf("plain %u banner %u proxy %u\n", port[PLAIN],
	    port[BANNER], port[PROXY]);
	(void)fflush(stdout);
	for (;;) {
		if (poll(set, n, -1) == -1)
			die("poll: %s", strerror(errno));
		for (i = n; i-- > LISTENERS;) {
			if (set[i].revents == 0)
				continue;
			if (!go_on(set[i].fd, fresh[i])) {
				set[i] = set[--n];
				fresh[i] = fresh[n];
			} else
				fresh[i] = 0;
		}
		for (i = 0; i < LISTENERS && n < WATCHED; i++) {
			if (set[i].revents == 0 || (fd = take(set[i].fd,
			    (int)i, port[BANNER])) == -1)
				continue;
			set[n].fd = fd;
			set[n].events = POLLIN;
			fresh[n++] = 1;
		}
	}
}

/* ---- one tunnel ---------------------------------------------------------- */

/* Read a proxy's head so far: 1 whole, 0 not yet. */
static int
head_came(int fd, char *head, size_t *got)
{
	ssize_t n = receive(fd, head + *got, HEAD - *got);

	if (n <= 0)
		die("the proxy's answer does not come");
	*got += (size_t)n;
	head[*got] = '\0';
	if (strstr(head, "\r\n\r\n") == NULL)
		return 0;
	if (strncmp(head, "HTTP/1.", 7) != 0 || head[9] != '2')
		die("the proxy says %.12s", head);
	return 1;
}

static void
ask(int fd, const char *to)
{
	char request[512];

	(void)snprintf(request, sizeof(request),
	    "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to);
	if (send_all(fd, request, strlen(request)) == -1)
		die("request: %s", strerror(errno));
}

static struct where
where(char *arg)
{
	struct where w;
	char *comma = strchr(arg, ',');

	w.port = (unsigned)strtoul(arg, NULL, 10);
	w.to = comma == NULL ? NULL : comma + 1;
	return w;
}

static int
tunnel(struct where w)
{
	struct sockaddr_in sin = loopback(w.port);
	char head[HEAD + 1];
	size_t got = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd == -1 || connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1)
		die("connect: %s", strerror(errno));
	no_delay(fd);
	if (w.to != NULL) {
		ask(fd, w.to);
		while (!head_came(fd, head, &got))
			;
	}
	return fd;
}

static void
down(int fd, double secs)
{
	uint64_t start, total = 0;
	ssize_t n;

	if (send_all(fd, "d", 1) == -1 || receive(fd, chunk, 1) != 1)
		die("nothing comes down");
	start = now();
	while (secs_since(start) < secs) {
		if ((n = receive(fd, chunk, sizeof(chunk))) <= 0)
			die("the tunnel ended");
		total += (uint64_t)n;
	}
	(void)printf("bytes %llu secs %.6f\n", (unsigned long long)total,
	    secs_since(start));
}

/* It is over when the target says that it has all. */
static void
up(int fd, double secs)
{
	char answer[32], last = LAST;
	uint64_t start, sent = 1;

	if (send_all(fd, "u", 1) == -1)
		die("nothing goes up");
	start = now();
	for (; secs_since(start) < secs; sent += sizeof(chunk))
		if (send_all(fd, chunk, sizeof(chunk)) == -1)
			die("the tunnel ended");
	if (send_all(fd, &last, 1) == -1)
		die("the tunnel ended");
	memset(answer, 0, sizeof(answer));
	if (receive(fd, answer, sizeof(answer) - 1) <= 0 ||
	    strtoull(answer, NULL, 10) != sent)
		die("the target does not have all");
	(void)printf("bytes %llu secs %.6f\n", (unsigned long long)sent,
	    secs_since(start));
}

/* One after the other; the tunnels have their turns. */
static void
trips(double secs, char **wheres)
{
	uint64_t start, then;
	int fd[PLACES], i, places, turn;
	size_t n = 0;

	for (places = 0; wheres[places] != NULL; places++) {
		if (places == PLACES)
			die("too many places");
		fd[places] = tunnel(where(wheres[places]));
	}
	start = now();
	for (; secs_since(start) < secs && n + TURN <= SAMPLES; n += TURN)
		for (i = 0; i < places; i++)
			for (turn = -WARM; turn < TURN; turn++) {
				then = now();
				trip(fd[i], TRIPS);
				if (turn >= 0)
					samples[i][n + (size_t)turn] =
					    now() - then;
			}
	for (i = 0; i < places; i++)
		print_samples(samples[i], n);
}

/* ---- many tunnels -------------------------------------------------------- */

struct opening {
	size_t		 got;
	enum { CONNECTING, ASKED, USED } state;
	char		 head[HEAD + 1];
};

static struct opening	 openings[AT_ONCE];
static struct pollfd	 slots[AT_ONCE];

static void
begin(int i, unsigned port)
{
	struct sockaddr_in sin = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd == -1 || fcntl(fd, F_SETFL, O_NONBLOCK) == -1)
		die("socket: %s", strerror(errno));
	no_delay(fd);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1 &&
	    errno != EINPROGRESS)
		die("connect: %s", strerror(errno));
	openings[i].state = CONNECTING;
	openings[i].got = 0;
	slots[i].fd = fd;
	slots[i].events = POLLOUT;
}

/* Something has come; 1: the tunnel has carried a byte each way. */
static int
step(int i, const char *to, char service)
{
	struct opening *o = &openings[i];
	int fd = slots[i].fd;
	char c;

	switch (o->state) {
	case CONNECTING:
		slots[i].events = POLLIN;
		if (to != NULL) {
			ask(fd, to);
			o->state = ASKED;
			return 0;
		}
		break;
	case ASKED:
		if (!head_came(fd, o->head, &o->got))
			return 0;
		break;
	case USED:
		if (receive(fd, &c, 1) != 1 || c != service)
			die("the byte that was sent does not come back");
		return 1;
	}
	if (send_all(fd, &service, 1) == -1)
		die("byte: %s", strerror(errno));
	o->state = USED;
	return 0;
}

/* Open tunnels, some at once, until so many or so long; the idle ones stay. */
static unsigned long
open_many(struct where w, char service, unsigned long most, double secs)
{
	uint64_t start = now();
	unsigned long begun = 0, done = 0;
	int i;

	for (i = 0; i < AT_ONCE; i++)
		if (begun++ < most)
			begin(i, w.port);
		else
			slots[i].fd = -1;
	while (done < most && secs_since(start) < secs) {
		if (poll(slots, AT_ONCE, PATIENCE) <= 0)
			die("no tunnel opens");
		for (i = 0; i < AT_ONCE; i++) {
			if (slots[i].revents == 0 || !step(i, w.to, service))
				continue;
			if (service != IDLE)
				(void)close(slots[i].fd);
			slots[i].fd = -1;
			done++;
			if (begun++ < most)
				begin(i, w.port);
		}
	}
	return done;
}

static void
setup(double secs, struct where w)
{
	uint64_t start = now();
	unsigned long n = open_many(w, ECHO, MOST, secs);

	(void)printf("tunnels %lu secs %.6f\n", n, secs_since(start));
}

/* They are held until stdin ends. */
static void
idle(unsigned long n, struct where w)
{
	(void)printf("open %lu\n", open_many(w, IDLE, n, 600));
	(void)fflush(stdout);
	while (receive(0, chunk, sizeof(chunk)) > 0)
		;
}

/* ---- commands ------------------------------------------------------------ */

struct command {
	pid_t	 pid;
	int	 in, out;
};

static void
make_pipe(int p[2], int ours)
{
	if (pipe(p) == -1 || fcntl(p[ours], F_SETFD, FD_CLOEXEC) == -1)
		die("pipe: %s", strerror(errno));
}

static struct command
run(char **argv)
{
	struct command c;
	posix_spawn_file_actions_t fa;
	int in[2], out[2], e;

	make_pipe(in, 1);
	make_pipe(out, 0);
	if ((e = posix_spawn_file_actions_init(&fa)) != 0 ||
	    (e = posix_spawn_file_actions_adddup2(&fa, in[0], 0)) != 0 ||
	    (e = posix_spawn_file_actions_adddup2(&fa, out[1], 1)) != 0 ||
	    (e = posix_spawn_file_actions_addclose(&fa, in[0])) != 0 ||
	    (e = posix_spawn_file_actions_addclose(&fa, out[1])) != 0 ||
	    (e = posix_spawnp(&c.pid, argv[0], &fa, NULL, argv, environ)) != 0)
		die("%s: %s", argv[0], strerror(e));
	(void)posix_spawn_file_actions_destroy(&fa);
	(void)close(in[0]);
	(void)close(out[1]);
	c.in = in[1];
	c.out = out[0];
	return c;
}

static void
end(struct command c)
{
	(void)kill(c.pid, SIGKILL);
	(void)waitpid(c.pid, NULL, 0);
	(void)close(c.in);
	(void)close(c.out);
}

/* From the start to the first byte of a target that speaks first. */
static void
start(double secs, char **argv)
{
	struct command c;
	uint64_t first = now(), then;
	size_t n;

	for (n = 0; n < SAMPLES && secs_since(first) < secs; n++) {
		then = now();
		c = run(argv);
		if (receive(c.out, chunk, 1) != 1)
			die("%s: nothing comes", argv[0]);
		samples[0][n] = now() - then;
		end(c);
	}
	print_samples(samples[0], n);
}

static void
from_pipe(double secs, char **argv)
{
	struct command c = run(argv);
	uint64_t then, total = 0;
	ssize_t n;

	if (send_all(c.in, "d", 1) == -1 || receive(c.out, chunk, 1) != 1)
		die("%s: nothing comes", argv[0]);
	then = now();
	while (secs_since(then) < secs) {
		if ((n = receive(c.out, chunk, sizeof(chunk))) <= 0)
			die("%s ended", argv[0]);
		total += (uint64_t)n;
	}
	(void)printf("bytes %llu secs %.6f\n", (unsigned long long)total,
	    secs_since(then));
	end(c);
}

static void
all_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1)
		die("getrlimit: %s", strerror(errno));
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) == -1)
		die("setrlimit: %s", strerror(errno));
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	double amount;

	(void)signal(SIGPIPE, SIG_IGN);
	all_descriptors();
	if (strcmp(what, "target") == 0)
		target();
	if (argc < 4)
		die("target | down|up|setup secs where | trips secs where ... "
		    "| idle tunnels where | start|pipe secs command ...");
	amount = strtod(argv[2], NULL);
	if (strcmp(what, "down") == 0)
		down(tunnel(where(argv[3])), amount);
	else if (strcmp(what, "up") == 0)
		up(tunnel(where(argv[3])), amount);
	else if (strcmp(what, "trips") == 0)
		trips(amount, argv + 3);
	else if (strcmp(what, "setup") == 0)
		setup(amount, where(argv[3]));
	else if (strcmp(what, "idle") == 0)
		idle((unsigned long)amount, where(argv[3]));
	else if (strcmp(what, "start") == 0)
		start(amount, argv + 3);
	else if (strcmp(what, "pipe") == 0)
		from_pipe(amount, argv + 3);
	else
		die("%s: unknown", what);
	return 0;
}
