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
 * httptun: TCP tunnels over HTTP.  The house, from the top:
 *
 *   httptun.c   what was asked: options, hops, credentials, rules, the life
 *      |        of a tunnel (near end, far end, the hops between), log
 *      |            ^
 *      v            |  the ways up: struct steps (an end has input, ended,
 *   net.c           |  broke), struct dialer (connected), struct commander
 *      |            |  (TLS), struct crew
 *      |        descriptors, time and processes: the select loop, deadlines,
 *      |        signals, ends and the flows between two of them, commands,
 *      |        look-ups, connecting, listening, workers
 *      v
 *   http.c      bytes and meaning: heads, replies, bodies, authorities, URLs,
 *               credentials, Base64, hashes, WebSocket frames, the poll
 *               carrier's ids and forms.  No descriptor, clock or stderr
 *
 * A tunnel has a near end, where it was asked for, a far end, the way to the
 * target, and two flows between them.  Modes are choices of the two ends:
 *
 *   near end                                far end
 *   stdin/stdout              by_stdio      straight to the target, or
 *   a local port (-L, -f)     by_port       through hops (-x), each asked
 *   a CONNECT request (-l)    by_request    with CONNECT, in order
 *   the same on stdin (-l -i) by_inetd      through an exit's link (-l -r)
 *   a session of requests     by_session
 *   a link to a gateway (-r)  by_exit
 *
 * Its life (httptun.c, "the life of a tunnel"):
 *
 *   HEAD --> OPENING --> [CHECK] --> OPEN --> DEAD    HEAD, LINGER: requests
 *     ^         |                     |               CHECK: -T
 *     |         v                     v
 *     +----- refused -----------> LINGER --> DEAD
 *
 * What a local port leads to is a forward.  The file of -f may change: lines
 * that are new get one, those that have gone leave theirs to its tunnels.
 *
 * An http:// request (struct exchange) is a tunnel whose flows are messages:
 * a codec of http.c's on each end takes their framing off and puts it on.
 * How an end's bytes travel is its carrier, a table of functions: TCP, stdin
 * and stdout, a command's, a WebSocket (net.c), or no descriptor at all
 * (httptun.c): a session whose requests come and go.  There,
 *
 *   serving:  client --- requests (struct errand) --- session --- far end
 *   asking:   near end --- poller --- two lanes of requests --- server
 *
 * and each connection of a lane is a tunnel of its own (by_lane), as is what
 * stands between a WebSocket and another one on it (by_sleeve).  TLS is such a
 * one, too, and a command between both: its cleartext is the far end, its
 * ciphertext the near end of the tunnel below,
 *
 *   near end --- far end, a command's pipes
 *                openssl s_client
 *                its socket, near end --- far end, to the hop   (by_sleeve)
 *
 * In listen mode the first process keeps workers, which hold the tunnels, and
 * a look-up helper; with it all of them end:
 *
 *   first --+-- worker, worker ...   (share the listening sockets)
 *           +-- helper -- a process for each look-up
 *
 * and who runs commands has a keeper beside them, which ends those that are
 * left when he is gone.
 *
 * What workers share is worker 0's: the links that exits have parked, and who
 * has which session's id.  They send notes to each other, by the first.
 */

#ifndef HTTPTUN_H
#define HTTPTUN_H

#include <sys/types.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#define VERSION		"0.1"

/* ---- limits ------------------------------------------------------------ */

#define HEAD_MAX	16384	/* bytes of a message head */
#define HEAD_LINE_MAX	8192	/* bytes of a request line */
#define HEAD_FIELDS	100	/* fields of a head */
#define HOST_MAX	255	/* bytes of a host name */
#define CRED_MAX	512	/* bytes of user:password */
#define WS_FRAME_MAX	67108864	/* bytes of a WebSocket frame taken */
#define INPUT_MAX	(HEAD_MAX + POLL_POST_MAX) /* kept of an unlinked end */
#define CHUNK		65536	/* bytes read at once */
#define BULK		524288	/* where they go on as they are */
#define BUSY_MIN	32768	/* of them, that a busy flow brings */
#define DUCT		1048576		/* and within the kernel, where there is room */
#define DUCTS_MAX	64	/* pipes that a process moves them through */
#define LETTERS_MAX	512	/* notes that wait for a full channel */
#define DUCT_MS		100	/* until the empty ones are closed */
#define REFUSAL_MAX	65536	/* of a refusal's body read to ask again */
#define OPEN_SECS	30	/* -w */
#define LINGER_SECS	2	/* for a refused client's, or a Close's, end */
#define KILL_MS		1000	/* from SIGTERM to SIGKILL for a command */
#define STATUS_MS	100	/* from a command's end of file to its own */
#define RECONNECT_MS	250	/* until the next address (RFC 8305, 5) */
#define CROWDED_MS	1500	/* until it takes one's place, without room */
#define COLD_MS		250	/* a quiet descriptor becomes a cold one */
#define HALVES_MS	1000	/* how often what has ended is looked at */
#define GLANCE_MS	10	/* how often cold ones are looked at */
#define WS_QUIET_MS	30000	/* until a Ping, and for its answer */
#define WS_SIGN_MS	1000	/* between signs to who may wait for a Close */
#define POLL_WINDOW	262144	/* unacknowledged bytes of a direction */
#define POLL_PUT_MAX	1048576	/* bytes of a PUT's body */
#define POLL_POST_MAX	4096	/* and of a POST's */
#define POLL_BODY_MIN	1024	/* of ours, where 413 was the answer */
#define KHUEVU_MAX	51200	/* of a PUT, before it is encoded */
#define POLL_ANSWER_MS	35000	/* until an answer is not waited for */
#define OLDER_ANSWER_MS	67000	/* the bridge's holds a GET for 57 s */
#define POLL_SLOW_MS	10000	/* what fails behind that was too long */
#define KNOCK_MS	15000	/* and to connect again, each time */
#define POLL_KEEP_MS	25000	/* an empty PUT, when there is no GET */
#define DELETE_MS	2000	/* that the server's answer to it may take */
#define FAREWELL_MS	1000	/* where a signal ends us */
#define SESSION_SECS	60	/* of a session without a request */
#define SESSIONS_MAX	1000	/* of all workers together */
#define SESSIONS_EACH	512
#define NONCE_SECS	300	/* that a Digest nonce may be used */
#define RENEWALS	5	/* nonces that are too old, in a row */
#define NONCES		512	/* remembered by a process */
#define PARKED_LINKS	4	/* that an exit keeps */
#define LINK_QUIET_MS	2000	/* what was not heard of so long is asked, */
#define LINK_GRACE_MS	3000	/* and has so long to answer */
#define EXIT_DELAY_MS	1000	/* until an exit tries again; doubles */
#define EXIT_DELAY_MAX_MS 60000
#define EXIT_REJECTED_MS 10000	/* at least, where it was not wanted */
#define EXIT_STOOD_MS	10000	/* then all is well again */
#define PORTS_EAGER	16	/* of forwards, asked each turn */
#define REST_MS		1000	/* a listener's rest when out of descriptors */
#define LOOK_MS		500	/* between two looks at a file of forwards */
#define LINES_MAX	4194304	/* bytes of it */
#define LINE_FIELDS	128	/* fields of a line */
#define ROOMY_MS	60000	/* with room until "full" is said again */
#define ADDRS_MAX	32	/* addresses tried of one name */
#define LOOKUPS_MAX	32	/* look-ups at once */
#define LOOKUP_RETRY_MS	50	/* when the helper's queue is full */
#define ACCEPT_BATCH	16	/* connections accepted in one turn */
#define BACKLOG		511
#define HOPS_MAX	32
#define WORKERS_MAX	64
#define SIGNALS_MAX	8
#define SPARE_FDS	16	/* for all that is no end of a tunnel */

/* ---- http.c: bytes ------------------------------------------------------ */

/* n bytes inside somebody else's memory; not NUL-terminated. */
struct span {
	const char	*p;
	size_t		 n;
};

/* Bytes that wait: len of them at p + off.  All zero is empty. */
struct buf {
	unsigned char	*p;
	unsigned	 off, len, cap;
};

/* Appends n bytes.  Returns -1 (ENOMEM) and leaves the buffer as it was. */
int	buf_put(struct buf *, const void *, size_t n);
/* Appends text as printf(3) does; same errors. */
int	buf_fmt(struct buf *, const char *, ...)
	    __attribute__((format(printf, 2, 3)));
/* Drops the first n bytes (n <= len); an empty buffer owns no memory. */
void	buf_take(struct buf *, size_t n);
void	buf_free(struct buf *);

struct span span_of(const char *);
int	span_is(struct span, const char *);	/* equal, without case */
/* Where the text begins in it first; NULL: nowhere. */
const char *span_find(struct span, const char *);
/* Compares in a time that depends on the lengths only.  1 when equal. */
int	secret_equal(const void *, size_t, const void *, size_t);
void	secret_wipe(void *, size_t);
/*
 * Writes src to dst (size > 0), bytes outside 0x20-0x7e as \xNN, cut to
 * fit, NUL-terminated.  Returns the length.
 */
size_t	text_escape(char *dst, size_t size, const char *src, size_t n);
/* n bytes as 2 * n hex digits, NUL-terminated. */
char	*text_hex(char *dst, const void *, size_t n);
/* The number of 1 to 18 digits that is the field's only value; 0: there is
 * none, -1: it is malformed. */
struct head;
int	head_number(const struct head *, const char *name, uint64_t *);
/* A decimal number min..max of digits only; -1 when s is none. */
long	text_number(const char *s, size_t n, long min, long max);
/*
 * Takes the next line off a text: max fields at most, parted by blanks, up to
 * a comment, which "#" begins where a field would.  Returns how many there
 * are, max + 1 when they are too many, -1 at the end of the text.
 */
int	line_fields(struct span *text, struct span *field, int max);

/* ---- http.c: heads (RFC 9112, 2-5) -------------------------------------- */

struct field {
	struct span	 name, value;
};

/* A parsed head; the spans point into the bytes that were parsed. */
struct head {
	struct span	 method, target;	/* of a request */
	struct span	 reason;		/* of a reply */
	int		 status;		/* of a reply */
	int		 minor;			/* HTTP/1.minor */
	size_t		 nfields;
	struct field	 field[HEAD_FIELDS];
};

/*
 * Parses a request head strictly, as soon as what is there can be judged.
 * Returns its length (leading empty lines included), 0 when more bytes are
 * needed, or minus the status to refuse it with: 400, 414, 431, 505.
 */
ssize_t	head_request(struct head *, const void *, size_t n);
/*
 * Parses a reply head, lenient as RFC 9112 allows a client to be: bare LF,
 * no reason, folded lines.  Returns its length, 0 for more, -1 for no HTTP.
 */
ssize_t	head_reply(struct head *, const void *, size_t n);
/* The next field of that name after the given one (NULL: the first). */
const struct field *head_field(const struct head *, const char *name,
	    const struct field *after);
/* 1 when a field of that name lists the token (RFC 9110, 5.6.1). */
int	head_lists(const struct head *, const char *name, const char *token);
/* Takes the next item off a comma list; it may be empty.  0: the end. */
int	list_next(struct span *rest, struct span *item);
int	head_method(const struct head *, const char *);	/* case matters */
/* 1 when the connection persists after this message (RFC 9112, 9.3). */
int	head_persists(const struct head *);
/* 1 when name is a token and value has no control character. */
int	field_valid(struct span name, struct span value);

enum framing { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_CLOSE, BODY_BAD };

/*
 * What body follows this head (RFC 9112, 6.3).  A request (method set) is
 * judged strictly: whatever could be read in two ways is BODY_BAD.
 */
enum framing head_framing(const struct head *, uint64_t *length);

/* Where a chunked body's reader is; all zero is its beginning. */
struct chunked {
	int		 state;
	unsigned	 digits;	/* of the chunk size; bytes of a line */
	uint64_t	 left;		/* of this chunk */
};

/*
 * Takes the chunks (RFC 9112, 7.1) out of n bytes at p: the payload moves to
 * the front, *used says how many bytes were consumed (fewer than n only
 * behind the end).  Returns the payload's length, or -1 when malformed.
 */
ssize_t	chunked_decode(struct chunked *, unsigned char *p, size_t n,
	    size_t *used);
int	chunked_done(const struct chunked *);

/* ---- http.c: codecs, for ends (net.c) ------------------------------------ */

#define MARGIN		48	/* bytes that encoders may add on each side */

struct message;

/* Turns an end's bytes into the tunnel's and back, in place. */
struct codec {
	/*
	 * The payload of n bytes at p, moved there; *used is n already, less
	 * when they go on behind the message, which is *over.  -1: bad
	 */
	ssize_t		(*decode)(struct message *, unsigned char *p, size_t n,
			    size_t *used, int *over);
	/* Wraps *n bytes at p, with MARGIN around; returns the new begin. */
	unsigned char	*(*encode)(const struct message *, unsigned char *p,
			    size_t *n);
	/* What ends a message, to at least MARGIN bytes. */
	size_t		(*last)(const struct message *, unsigned char *);
	/* Whether the end of the connection is that of the message. */
	int		(*open_ended)(const struct message *);
	/* How many bytes the message still has; SIZE_MAX: who knows. */
	size_t		(*due)(const struct message *);
};

/* A message with one body in and one out (RFC 9112, 6). */
struct message {
	const struct codec *codec;
	enum framing	 in;
	uint64_t	 left;
	struct chunked	 chunked;
	int		 chunks_out;	/* what goes out is chunked */
};
extern const struct codec message_codec;

/*
 * A body that is a piece of a stream: it begins at pos, of which have bytes
 * are there; only what is new counts.  The message stands first.  The stream
 * may be a message itself.
 */
struct piece {
	struct message	 message;
	uint64_t	*have;
	uint64_t	 pos;
	int		 form;		/* is it data=..., urlencoded? */
	int		 state;		/* of that */
	int		 bad;		/* it is not, behind what was taken */
	unsigned char	 high;
	struct message	*inner;		/* that the stream is, NULL: none */
	int		 inner_over;	/* it is; -1: it is malformed */
};
extern const struct codec piece_codec;

/*
 * Appends the field lines that an intermediary passes on (RFC 9110, 7.6.1):
 * none that is for one connection only, no Host; a Content-Length at most
 * once, and Via behind them.  -1: ENOMEM.
 */
int	head_pass(struct buf *, const struct head *);
/* Appends a reply's status line as ours. */
int	head_pass_status(struct buf *, const struct head *);

/* ---- http.c: authorities and URLs (RFC 3986) ---------------------------- */

/*
 * These return NULL, or what is wrong in a few words.  The host (to at least
 * HOST_MAX + 1 bytes) comes without brackets.
 */
const char *host_parse(const char *, size_t n, char *host);
/* host:port; without a port it is dflt, and an error when dflt is 0. */
const char *authority_parse(const char *, size_t n, char *host,
	    unsigned *port, unsigned dflt);
/* host:port with brackets where needed, to at least HOST_MAX + 9 bytes. */
char	*authority_format(char *, const char *host, unsigned port);

/* The parts of scheme://userinfo@host:port/path; absent ones have p NULL. */
struct url {
	struct span	 scheme, user, pass, host_port, path;
};

/* Splits only; the last @ ends the userinfo. */
void	url_split(struct url *, const char *);
/*
 * Splits an http:// request-target (RFC 9112, 3.2.2) into its authority and
 * its origin-form (path, to which "/" may have to be put in front when it is
 * empty or begins with "?").  Returns what is wrong, or NULL.
 */
const char *target_split(struct span target, struct span *authority,
	    struct span *path);
/* 1 when the target has the form scheme://..., 0 for any other form. */
int	target_absolute(struct span target);
/*
 * Decodes %XX to dst (size bytes, NUL-terminated).  Returns the length, -1
 * when malformed, too long, or with a control character (RFC 7617, 2).
 */
ssize_t	percent_decode(char *dst, size_t size, struct span);

/* ---- http.c: hashes -------------------------------------------------------- */

#define SHA256_LEN	32
#define MD5_LEN		16

void	sha256(unsigned char *dst, const void *, size_t n);	/* FIPS 180-4 */
void	md5(unsigned char *dst, const void *, size_t n);	/* RFC 1321 */

/* ---- http.c: poll carrier -------------------------------------------------- */

#define POLL_ID		36	/* characters of a session's id at most */

/* The id, a path's last segment: 32 hex digits or a UUID.  0: it has none. */
int	poll_id(struct span path, struct span *id);
/*
 * Parses where a POST wants to go: host=H&port=P, urlencoded (*form is 1), or
 * H:P.  Returns what is wrong, or NULL.
 */
const char *poll_target(const char *, size_t n, char *host, unsigned *port,
	    int *form);
/* Appends it, or "data=" with the bytes, urlencoded.  -1: ENOMEM. */
int	form_put(struct buf *, const void *, size_t n);

/* ---- http.c: credentials (RFC 9110, 11; RFC 7617) ----------------------- */

/* Standard alphabet with padding; dst holds 4 * ((n + 2) / 3) + 1 bytes. */
size_t	base64_encode(char *dst, const void *, size_t n);
/* Strict; returns the length or -1.  dst holds 3 * (n / 4) bytes. */
ssize_t	base64_decode(unsigned char *dst, const char *, size_t n);

struct challenge {
	struct span	 scheme, params;
};

/* Takes the next challenge off a field value.  1, or 0 at its end. */
int	auth_challenge(struct span *rest, struct challenge *);
/* Appends "Basic " and the encoded pair.  -1: ENOMEM. */
int	auth_basic(struct buf *, const char *user, const char *pass);
/*
 * Decodes the credentials of an Authorization field's value to userpass
 * (CRED_MAX + 1 bytes).  Returns their length, or -1 when it is not Basic.
 */
ssize_t	auth_basic_decode(struct span value, char *userpass);

/* ---- http.c: Digest (RFC 7616) ------------------------------------------- */

#define DIGEST_HEX	(2 * SHA256_LEN + 1)
#define DIGEST_TEXT	4096	/* bytes of all values together */

/* The stronger one is the greater one; NONE is one that is not spoken. */
enum digest_algorithm { DIGEST_NONE, DIGEST_MD5, DIGEST_SHA256 };

enum {
	DIGEST_USER, DIGEST_REALM, DIGEST_NONCE, DIGEST_URI, DIGEST_RESPONSE,
	DIGEST_ALGORITHM, DIGEST_QOP, DIGEST_NC, DIGEST_CNONCE, DIGEST_OPAQUE,
	DIGEST_STALE, DIGEST_VALUES
};

/* The parameters of a challenge or of credentials; p is NULL: not there. */
struct digest {
	struct span	 value[DIGEST_VALUES];
	enum digest_algorithm algorithm;
	char		 text[DIGEST_TEXT];	/* the values, unquoted */
};

/* -1: malformed.  The spans point into the struct itself. */
int	auth_digest_parse(struct span params, struct digest *);
/* Whether a challenge can be answered: algorithm and qop. */
int	auth_digest_spoken(const struct digest *);
/* The response (3.4.1) that these credentials should have.  -1: ENOMEM. */
int	auth_digest_response(char *hex, const struct digest *,
	    const char *user, const char *pass, struct span method);
/* Appends the answer to a challenge.  -1: ENOMEM. */
int	auth_digest(struct buf *, const struct digest *, const char *user,
	    const char *pass, const char *method, struct span uri,
	    unsigned nc, const char *cnonce);

/* ---- http.c: WebSocket (RFC 6455) ---------------------------------------- */

#define WS_HEAD_MAX	14	/* bytes of a frame's head */
#define WS_CONTROL_MAX	125	/* bytes of a control frame's payload */
#define WS_KEY		24	/* characters of a Sec-WebSocket-Key */
#define WS_ACCEPT	28	/* and of what accepts it */

enum { WS_CONTINUATION, WS_TEXT, WS_BINARY, WS_CLOSE = 8, WS_PING, WS_PONG };

/* Close codes (7.4.1); WS_NO_CODE is a Close without one. */
enum {
	WS_NORMAL = 1000, WS_AWAY = 1001, WS_PROTOCOL = 1002,
	WS_NO_CODE = 1005,
	WS_NOT_UTF8 = 1007, WS_TOO_BIG = 1009, WS_BROKEN = 1011
};

/*
 * A WebSocket that carries a byte stream.  All zero but the first two is its
 * beginning; a message may be cut anywhere and is never held.
 */
struct ws {
	unsigned	 client:1,	/* we mask, the other side must not */
			 ends:1,	/* the text "end" ends a direction */
			 ended:1,	/* it came */
			 closed:1,	/* a Close came: code */
			 ponging:1,	/* a Pong is owed */
			 fin:1, masked:1;	/* of the frame being read */
	unsigned char	 opcode;	/* of the frame */
	unsigned char	 message;	/* opcode of the unfinished message */
	unsigned char	 nhead;		/* bytes of the head that are there */
	unsigned char	 ncontrol;	/* bytes of a Close's payload */
	unsigned char	 nend;
	unsigned char	 utf8, utf8_min;	/* see utf8_byte() */
	unsigned	 code;		/* of their Close, or of our reason */
	unsigned char	 mask[4];
	uint64_t	 left;		/* of the frame's payload */
	unsigned char	 head[WS_HEAD_MAX];
	unsigned char	 phase;		/* of the mask */
	struct buf	 pong;		/* what it says; the owner's to free */
};

/*
 * Takes frames off n bytes at p.  Returns the length of the payload, which
 * moves to the front; what else came is in the struct.  -1: the connection
 * has to be failed, with code (7.1.7).  Behind a Close nothing is read.
 */
ssize_t	ws_decode(struct ws *, unsigned char *p, size_t n);
/*
 * Makes the *n bytes at p, with WS_HEAD_MAX of room before, one whole frame,
 * masked with the key (4 bytes) if we are the client.  Returns its begin.
 */
unsigned char *ws_encode(const struct ws *, int opcode,
	    const unsigned char *key, unsigned char *p, size_t *n);
/* 1 between two frames, with nothing owed. */
int	ws_clean(const struct ws *);
/* What the server answers to a key, WS_ACCEPT + 1 bytes (1.3). */
void	ws_accept(char *dst, const char *key, size_t n);

/* ---- http.c: commands ------------------------------------------------------ */

/*
 * Appends a command with %h, %p, %s and %% put in.  -1: ENOMEM, or EINVAL, the
 * host could mean something to a shell.
 */
int	command_expand(struct buf *, const char *text, const char *host,
	    unsigned port, const char *path);
/* What the stderr of a TLS command says of its failure, in a few words. */
void	tls_reason(char *dst, size_t size, const char *text, size_t n);

/* ---- http.c: replies ----------------------------------------------------- */

#define REPLY_CLOSE	1	/* says Connection: close */
#define REPLY_HEAD	2	/* no body: it answers a HEAD */

const char *status_reason(int status);
/*
 * Appends a whole reply: status, the extra field lines (each with CRLF, or
 * ""), a text/plain body of one line.  -1: ENOMEM.
 */
int	reply_make(struct buf *, int status, unsigned flags,
	    const char *fields, const char *text);

/* ---- net.c: the loop ------------------------------------------------------ */

void	loop_run(void);		/* until loop_stop() */
void	loop_stop(void);
int64_t	loop_now(void);		/* milliseconds, monotonic, of this turn */
/* How many descriptors this process can use, FD_SETSIZE at most. */
int	loop_limit(void);

/* A deadline, stored with its owner; all zero is unset. */
struct timer {
	struct timer	*next, *prev;
	int64_t		 at;
	void		(*fn)(void *);
	void		*arg;
};
void	timer_set(struct timer *, int64_t ms, void (*fn)(void *), void *arg);
void	timer_stop(struct timer *);
/*
 * Calls fn(arg) after this turn's dispatch, when nobody holds arg any more.
 * Until then the timer is not to be touched.
 */
void	loop_bury(struct timer *, void (*fn)(void *), void *arg);

/* Calls fn from the loop when the signal has come. */
void	signal_watch(int sig, void (*fn)(void));
/*
 * From now on TERM, INT and HUP (where not ignored) end all processes that
 * were started from here, then this one, by that signal.
 */
void	signal_end(void);
/* From now on these signals call fn first, which ends by signal_finish(). */
void	signal_farewell(void (*fn)(void));
void	signal_finish(void);	/* ends as the last one of them, if one came */
/* write(2) to stderr, which keeps nobody whom such a signal is to end. */
void	words_write(const void *, size_t n);

/* Wall-clock time as RFC 3339 says, to at least 21 bytes. */
void	time_stamp(char *);

/* ---- net.c: addresses ------------------------------------------------------ */

union addr {
	struct sockaddr		sa;
	struct sockaddr_in	in;
	struct sockaddr_in6	in6;
};

#define ADDR_TEXT	(46 + 17)		/* address%scope */
#define ADDR_PORT_TEXT	(ADDR_TEXT + 8)		/* [address%scope]:port */

/* Every way to write a literal that the kernel's own parser takes; -1: none. */
int	addr_literal(union addr *, const char *, unsigned port);
unsigned addr_port(const union addr *);
/* ADDR, or ADDR:PORT with brackets around an IPv6 address. */
char	*addr_text(char *, const union addr *);
char	*addr_text_port(char *, const union addr *);
void	addr_unmap(union addr *);	/* ::ffff:a.b.c.d becomes a.b.c.d */
/* 1 when the first bits of both are equal and they are of one family. */
int	addr_within(const union addr *, const union addr *net, unsigned bits);
int	addr_loopback(const union addr *);
int	addr_any(const union addr *);		/* unspecified: all of them */
int	addr_link_local(const union addr *);
int	addr_same_host(const union addr *, const union addr *);
int	addr_here(const union addr *);		/* one of this machine's */

/* ---- net.c: ends and flows -------------------------------------------------- */

struct end;
struct duct;

/* How an end's bytes travel.  -1 with errno; EAGAIN for later. */
struct carrier {
	ssize_t		(*recv)(struct end *, void *, size_t);
	ssize_t		(*send)(struct end *, const void *, size_t);
	int		(*finish)(struct end *); /* our direction ends */
	int		 survives;	/* what came is read though a send failed */
};

/* What an end tells its owner, always the last thing that it does. */
struct steps {
	void	(*input)(void *owner, struct end *);	/* in grew, or eof */
	void	(*over)(void *owner, struct end *);	/* its message */
	void	(*sent)(void *owner, struct end *);	/* out is empty */
	void	(*done)(void *owner, struct end *);	/* both flows ended */
	void	(*broken)(void *owner, struct end *);	/* see error */
};

/* One side of a tunnel.  Joined to a peer it needs its owner no more. */
struct end {
	const struct carrier *carrier;
	const struct steps *steps;
	void		*owner;
	struct end	*peer;		/* gets what comes */
	struct websocket *ws;		/* NULL: the carrier has no frames */
	struct command	*command;	/* NULL: it is none's */
	struct message	*message;	/* the owner's, or NULL: none */
	unsigned long long *meter;	/* counts what comes, the owner's */
	int		 rfd, wfd;	/* -1: none */
	struct buf	 in;		/* received, for the owner */
	struct buf	 out;		/* owed to this end */
	struct duct	*duct;		/* the same before out, in the kernel */
	uint64_t	 got;		/* bytes received since linked */
	int64_t		 active;	/* loop_now() of the last byte either way */
	int		 error;		/* errno of what broke it */
	unsigned	 eof:1,		/* nothing more will come */
			 finish:1,	/* nothing more to send behind out */
			 finished:1,	/* and the other side was told */
			 lost:1,	/* error came from sending */
			 exact:1,	/* only look at what comes (-F) */
			 deaf:1,	/* do not read while it has no peer */
			 stays:1,	/* finish ends a message, not TCP */
			 pending:1,	/* its command's status is due */
			 closed:1,
			 busy:1,	/* what comes comes in large chunks */
			 more:1,	/* more is sent next, the owner says */
			 indirect:1,	/* somebody before the other side may
					 * hold what was sent, he says too */
			 ipipe:1, opipe:1, /* what stdin and stdout are */
			 ofile:1, osocket:1;
	unsigned	 peeked;	/* bytes of in that were only looked at */
};

/* How a direction's end is said on a WebSocket. */
enum ws_ending {
	WS_ENDS,	/* "end"; after both, Close */
	WS_CLOSES,	/* Close, and what still comes is delivered */
	WS_STAYS,	/* not at all: the other side closes */
	WS_LEAVES	/* Close, and nothing more is waited for: end_leave() */
};

void	end_socket(struct end *, int fd, const struct steps *, void *owner);
void	end_stdio(struct end *, const struct steps *, void *owner);
/*
 * An end without a descriptor: its carrier's send takes what comes for it (or
 * says EAGAIN), its finish may say EAGAIN too, until end_resume().  What it
 * receives is brought by end_came() and end_ended(), or by ends that are
 * joined to its peer.
 */
void	end_virtual(struct end *, const struct carrier *, const struct steps *,
	    void *owner);
void	end_resume(struct end *);
void	end_came(struct end *, const void *, size_t n);
void	end_ended(struct end *);
/* Queues bytes and sends what goes at once.  Errors come as broken. */
void	end_send(struct end *, const void *, size_t);
/* Ends our direction once out is sent. */
void	end_finish(struct end *);
/* From now on what comes from one, in first, goes to the other. */
void	end_join(struct end *from, struct end *to);
void	end_link(struct end *, struct end *);	/* both ways */
void	end_part(struct end *from);	/* what comes is the owner's again */
/* 1: it was reset, which goes unnoticed while nothing is read from it. */
int	end_failed(struct end *);
/* Whether bytes have come that its owner has not taken, read or not. */
int	end_more(const struct end *);
/* What it is on has broken: so will it, when what came is read. */
void	end_doom(struct end *, int error);
/*
 * exact: the first n bytes of in are the owner's, the rest stays unread.  -1:
 * it broke, and its owner was told.
 */
int	end_keep(struct end *, size_t n);
/*
 * From here on it is a WebSocket (RFC 6455), in has its first frames.  client
 * is who masks.  -1: ENOMEM.
 */
int	end_websocket(struct end *, int client, enum ws_ending);
/* Its life: a Ping after quiet ms without a byte, broken grace ms later. */
void	end_pulse(struct end *, int quiet, int grace);
void	end_ping(struct end *);		/* now, if none is unanswered */
int64_t	end_heard(const struct end *);	/* loop_now() of its last byte */
/* 1: no Ping is unanswered, it is between two frames and owes nothing. */
int	end_alive(const struct end *);
/* As end_finish(), but the whole WebSocket ends: Close 1000. */
void	end_leave(struct end *);
/*
 * Says Close with the reason and ends TCP; what still comes is read over, up
 * to input with eof.  0: there is no such way, it has to be closed.
 */
int	end_fail(struct end *);
const char *end_why(const struct end *);	/* error in words */
/* Makes it another one's; it may have no peer. */
void	end_move(struct end *to, struct end *from, const struct steps *,
	    void *owner);
void	end_close(struct end *);
void	end_reset(struct end *);	/* the other side gets a RST */
/* Gives up the descriptor (in blocking mode) without closing it. */
int	end_release(struct end *);

/* ---- net.c: commands -------------------------------------------------------- */

/*
 * A command of /bin/sh in a process group of its own.  The group gets
 * SIGTERM when the command is ended, also by our own death, and SIGKILL
 * KILL_MS later if somebody of it is still there.
 */
struct command;

/* What a command that has to connect to a socket of ours tells its owner. */
struct commander {
	void	(*joined)(void *owner, int fd);	/* it has */
	void	(*failed)(void *owner, const char *why); /* and will not */
};

/*
 * Starts text, in which %h is host, %p port, %s the socket's path and %% a
 * percent sign.  Without a commander there is no socket, and its stderr is
 * ours, which else only explains why it failed.  NULL: errno and, in *failed,
 * the directory that it was, or NULL.
 */
struct command *command_start(const char *text, const char *host,
	    unsigned port, const struct commander *, void *owner,
	    const char **failed);
/* Its stdin and stdout; it is ended with the end. */
void	end_command(struct end *, struct command *, const struct steps *,
	    void *owner);
void	command_end(struct command *);
/* Waits until all are gone that were ended, KILL_MS at most. */
void	commands_end(void);

/* ---- net.c: look-ups, connecting, listening ---------------------------------- */

/* How to reach things from here; one for the process. */
struct reach {
	int		 family;	/* AF_UNSPEC, AF_INET, AF_INET6 */
	int		 literals;	/* -n */
	union addr	 source;	/* -s, sa_family AF_UNSPEC: none */
	/*
	 * For an attempt more beside those of the same dial; NULL: always.
	 * Asked when their number has changed, too: they may fill a process.
	 */
	int		(*room)(void);
};
extern struct reach reach;

enum dial_error {
	DIAL_OK, DIAL_LOOKUP, DIAL_NAME_REFUSED, DIAL_RULE, DIAL_FULL,
	DIAL_CONNECT
};

/* The connecting to one host:port; freed by its end or dial_cancel(). */
struct dial;

struct dialer {
	/* Whether this address may be connected to. */
	int	(*allow)(void *owner, const union addr *);
	/* fd, or -1 with the reason: code is an errno or getaddrinfo's. */
	void	(*done)(void *owner, int fd, enum dial_error, int code);
};

/*
 * NULL: no memory.  done() never comes before it returns.  secs bounds the
 * look-up in the helper; the deadline of the whole is the owner's.
 */
struct dial *dial_start(const char *host, unsigned port, int secs,
	    const struct dialer *, void *owner);
void	dial_cancel(struct dial *);
/* Whether it is the look-up that is still waited for. */
int	dial_looking(const struct dial *);
/* Attempts that all dials have beside one each: descriptors. */
int	dial_extras(void);
/* Starts the look-up helper, best before any socket is open.  -1: errno. */
int	lookup_init(void);
/* Ends it, if it is a child of this process. */
void	lookup_end(void);

#define LISTEN_ADDRS	8

struct listener {
	struct listener	*next;
	int		 fd;
	union addr	 addr;
	struct timer	 rest;
	int		 resting;
	int		 patient;	/* its clients may wait for GLANCE_MS */
	int		 passed;	/* it is not ours alone */
	int		(*room)(void);		/* one more connection? */
	void		(*accepted)(struct listener *, int fd,
			    const union addr *peer);
	void		*arg;
};

/*
 * Opens listening sockets at addr (NULL: loopback; "*" or "": all) and port
 * (0: one that the system chooses, the same for all), appended to the list
 * in order.  -1 with errno and, in *failed, the address that it was.
 */
int	listen_open(struct listener **, const char *addr, unsigned port,
	    union addr *failed);
/*
 * The sockets that systemd passed (LISTEN_FDS), appended.  Their number, 0
 * when there are none for us, -1 when one is no IP socket.
 */
int	listen_passed(struct listener **);
/* One socket more, at that address and port, which become the real ones. */
int	listen_add(struct listener **, union addr *);	/* -1: errno */
/* Errors that mean that this machine has no such family. */
int	family_missing(int error);
void	listener_stop(struct listener *);
void	listener_free(struct listener *);	/* also stops it */
/* Puts it into the loop; room, accepted and arg have to be set.  -1: EMFILE. */
int	listener_start(struct listener *);
/* Whether who connects to that address comes to one of these. */
int	listener_reached(const struct listener *, const union addr *);
/* The addresses that this would bind (LISTEN_ADDRS at most); 0: unknown. */
int	listen_addrs(union addr *, const char *addr, unsigned port);

/* ---- net.c: workers ---------------------------------------------------------- */

/* What the first process tells workers, they it, and they each other. */
enum {
	CREW_ACCEPT, CREW_LEAVE, CREW_DRAIN, CREW_FAREWELL, CREW_RELOAD,
	CREW_HELPER,
	CREW_FULL, CREW_ROOM,
	CREW_PARK, CREW_WANT, CREW_UNWANT, CREW_LINK,	/* exits' links */
	CREW_CLAIM, CREW_CLAIMED, CREW_REQUEST,		/* sessions */
	CREW_NONCE			/* a request with a nonce of theirs */
};
#define CREW_FIRST	(-1)		/* the first process */

struct note {
	int		 what;
	int		 worker;	/* that it is from, CREW_FIRST: none */
	unsigned	 id;
	unsigned	 len;
	unsigned char	 bytes[];	/* INPUT_MAX at most */
};

/* How this program is many processes; the functions are the owner's. */
struct crew {
	int	  min;			/* workers that accept */
	void	(*start)(int number);	/* in a new worker, before its loop */
	/* In a worker; the descriptor (-1: none is due) is its own. */
	void	(*note)(const struct note *, int fd);
	void	(*ended)(int number, int pid, int status);
	void	(*full)(int error);	/* no room, and no more workers */
};

/* Forks the first workers and keeps them from then on.  -1: errno. */
int	crew_start(const struct crew *);
int	crew_size(void);
/* By CREW_DRAIN and CREW_FAREWELL they end, and the loop with the last one. */
void	crew_order_all(int);
/*
 * In a worker: a note to that one (or CREW_FIRST), with a descriptor or -1,
 * which is given away in any case.  -1: it did not go, or this is no worker.
 */
int	crew_tell(int what, int worker, unsigned id, int fd);
/*
 * The same to another worker, with what was read from the descriptor; more
 * than INPUT_MAX does not go.
 */
int	crew_pass(int what, int worker, int fd, const void *, size_t n);
int	crew_number(void);		/* which worker this is */

/* ---- net.c: this process ------------------------------------------------------ */

/* Opens /dev/null where 0, 1 or 2 are closed, ignores SIGPIPE. */
void	fd_sane(void);
/* inetd(8) leaves the client on stderr, too: then nothing is said there. */
void	fd_discreet(void);
int	fd_pair(int *fd);	/* two connected stream sockets.  -1: errno */
/*
 * Whom a TCP socket is connected to, AF_UNSPEC: it is none.  -1: whoever it
 * was has gone, though what he sent is still to be read.
 */
int	fd_peer(int fd, union addr *);
/* Makes an inherited TCP socket ours: non-blocking, and as all of them. */
void	fd_own(int fd);
void	random_bytes(void *, size_t n);		/* unpredictable ones */
/* Zeroed memory that children share; NULL: errno. */
void	*shared_alloc(size_t);
/* Passes fd with one byte over the socket.  -1: errno. */
int	fd_pass(int sock, int fd);
int	fd_is_socket(int fd);
int	fd_is_local(int fd);		/* a Unix socket, which passes others */
/*
 * Asks on /dev/tty without echo, and puts all deadlines off by the time that
 * it took.  -1: errno, ENXIO: there is no terminal, EIO: nothing was typed, but
 * Ctrl-D, EINTR: a signal came that the loop will act on.
 */
int	tty_password(const char *prompt, char *, size_t);

#endif
