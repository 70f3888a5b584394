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
 * Busy tunnels: their bytes arrive whole whatever stdout is, however many
 * tunnels stall at once, and where there are no descriptors for pipes.
 */

#include <sys/socket.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define MB	((uint64_t)1 << 20)
#define LOCAL	"127.0.0.1", "0", NULL
#define MANY	70		/* tunnels: more than a process has pipes */

static struct kit_proxy px;
static int tl;			/* where the targets listen */
static unsigned tport;

static void
serve(void)
{
	kit_proxy(&px, LOCAL);
	tl = kit_listen(AF_INET, &tport);
}

/* A client with this stdout; the target's end. */
static int
client(struct kit_proc **p, int out)
{
	struct kit_opt opt = { .in = KIT_NULL, .out = out };

	tl = kit_listen(AF_INET, &tport);
	*p = kit_httptun(&opt, "127.0.0.1", kit_str("%u", tport), NULL);
	return kit_accept(tl);
}

static void
appended(void **state)
{
	static char buf[MB];
	int out = open(kit_file("out", 0600, "before"), O_RDWR | O_APPEND);
	struct kit_stream s = { 0, KIT_OUT, 20 * MB, 3, 1, 0 };
	struct kit_proc *p;
	uint64_t i;

	(void)state;
	s.fd = client(&p, out);
	kit_pump(&s, 1);
	kit_exits(p, 0);
	kit_err_is(p, "");
	assert_int_equal(lseek(out, 0, SEEK_SET), 0);
	kit_expect(out, "before");
	for (i = 0; i < s.bytes; i += sizeof(buf)) {
		kit_recv(out, buf, sizeof(buf));
		kit_check(buf, sizeof(buf), s.seed, i);
	}
	kit_eof(out);
}

static void
thrown_away(void **state)
{
	struct kit_stream s = { 0, KIT_OUT, 20 * MB, 3, 1, 0 };
	struct kit_proc *p;

	(void)state;
	s.fd = client(&p, KIT_NULL);
	kit_pump(&s, 1);
	kit_exits(p, 0);
	kit_err_is(p, "");
}

/* No room in a file, or nobody who reads: that is no success. */
static void
undeliverable(void **state)
{
	struct kit_stream s = { 0, KIT_OUT, 100 * MB, 3, 0, 0 }, got = s;
	struct kit_proc *p;
	int far;

	(void)state;
	far = client(&p, open("/dev/full", O_WRONLY));
	kit_push_until_reset(far);
	kit_exits(p, 1);

	s.fd = client(&p, KIT_PIPE);
	kit_stalls(&s, 100);
	got.fd = p->out;
	got.dir = KIT_IN;
	got.bytes = s.done / 2;
	kit_pump(&got, 1);
	kit_drop(p->out);
	kit_push_until_reset(s.fd);
	kit_exits(p, 1);
}

/* What is on its way when the target ends gets to a slow stdout, too. */
static void
last_words(void **state)
{
	struct kit_stream s = { 0, KIT_OUT, 100 * MB, 3, 0, 0 }, got = s;
	struct kit_proc *p;

	(void)state;
	s.fd = client(&p, KIT_PIPE);
	kit_stalls(&s, 100);
	kit_half_close(s.fd);
	kit_idle(p);
	got.fd = p->out;
	got.dir = KIT_IN;
	got.bytes = s.done;
	got.end = 1;
	kit_pump(&got, 1);
	kit_exits(p, 0);
}

/* All stall, so that the pipes do not suffice; each has its own bytes. */
static void
many_stall(void **state)
{
	static struct kit_stream s[2 * MANY];
	struct kit_pair p;
	unsigned i;

	(void)state;
	serve();
	for (i = 0; i < MANY; i++) {
		p = kit_tunnel(&px, tl, tport);
		s[i] = (struct kit_stream){ p.t, KIT_OUT, 100 * MB, i, 0, 0 };
		s[MANY + i] = (struct kit_stream){ p.c, KIT_IN, 0, i, 1, 0 };
		kit_stalls(&s[i], 1);
	}
	kit_proxy_rests(&px);
	for (i = 0; i < MANY; i++) {
		kit_half_close(s[i].fd);
		s[MANY + i].bytes = s[i].done;
	}
	kit_pump(s + MANY, MANY);
	for (i = 0; i < 2 * MANY; i++)
		(void)close(s[i].fd);
	kit_proxy_settles(&px);
}

/* Pipes, if there were any, are given back. */
static void
both_ways(void **state)
{
	(void)state;
	serve();
	kit_crosses(kit_tunnel(&px, tl, tport), 100 * MB);
	kit_proxy_settles(&px);
}

/* No descriptor is left for a pipe that no tunnel could need. */
static void
few_descriptors(void **state)
{
	struct kit_pair p;

	(void)state;
	kit_proxy_is(&px, kit_start(NULL, "sh", "-c",
	    "ulimit -n 64; exec \"$@\"", "sh", kit_binary(), "-l", LOCAL));
	tl = kit_listen(AF_INET, &tport);
	p = kit_tunnel(&px, tl, tport);
	kit_half_closed(p.c, p.t, 20 * MB);
	kit_proxy_settles(&px);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(appended),
		KIT_TEST(thrown_away),
		KIT_TEST(undeliverable),
		KIT_TEST(last_words),
		KIT_TEST(many_stall),
		KIT_TEST(both_ways),
		KIT_TEST(few_descriptors)
	};

	return cmocka_run_group_tests_name("bulk", tests, NULL, NULL);
}
