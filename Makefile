# httptun: make, make test, make install.  For POSIX make: no generator, no
# pattern rules.  tests/setup installs what test, lint, fuzz and sanitize need.

CC	= cc
CFLAGS	= -O2
LDFLAGS	=
PREFIX	= /usr/local
MANDIR	= $(PREFIX)/share/man
DESTDIR	=

STD	= -std=c99 -pedantic
WARN	= -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	  -Wconversion
SAN	= -g -O1 -fsanitize=address,undefined -fno-omit-frame-pointer \
	  -fno-sanitize-recover=undefined

FUZZ_SECS = 120

SRC	= httptun.c net.c http.c
OBJ	= httptun.o net.o http.o
UNIT	= tests/unit_http tests/unit_net tests/unit_portable tests/unit_httptun
# the long ones first
SYSTEM	= tests/listen tests/serve tests/hostile tests/tls tests/connect \
	  tests/reverse tests/ws tests/poll tests/forward tests/lines \
	  tests/real tests/exec tests/auth tests/older tests/between \
	  tests/peers tests/fallback tests/bulk
TESTS	= $(UNIT) $(SYSTEM)

all: httptun

httptun: $(OBJ)
	$(CC) $(LDFLAGS) -o $@ $(OBJ)

$(OBJ): httptun.h

.SUFFIXES: .c .o
.c.o:
	$(CC) $(STD) $(WARN) $(CFLAGS) -c -o $@ $<

# The unit tests take the file that they test in whole, statics and all.
tests/unit_http: tests/unit_http.c http.c httptun.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/unit_http.c \
	    -lcmocka
tests/unit_net: tests/unit_net.c net.c httptun.h http.o
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/unit_net.c \
	    http.o -lcmocka
# The same without what POSIX lacks.
tests/unit_portable: tests/unit_net.c net.c httptun.h http.o
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -DHTTPTUN_PORTABLE -o $@ \
	    tests/unit_net.c http.o -lcmocka
tests/unit_httptun: tests/unit_httptun.c httptun.c httptun.h net.o http.o
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ \
	    tests/unit_httptun.c net.o http.o -lcmocka

tests/kit.o: tests/kit.c tests/kit.h
tests/connect: tests/connect.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/connect.c \
	    tests/kit.o -lcmocka
tests/listen: tests/listen.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/listen.c \
	    tests/kit.o -lcmocka
tests/real: tests/real.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/real.c \
	    tests/kit.o -lcmocka

tests/forward: tests/forward.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/forward.c \
	    tests/kit.o -lcmocka
tests/serve: tests/serve.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/serve.c \
	    tests/kit.o -lcmocka
tests/peers: tests/peers.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/peers.c \
	    tests/kit.o -lcmocka
tests/ws: tests/ws.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/ws.c \
	    tests/kit.o -lcmocka
tests/reverse: tests/reverse.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/reverse.c \
	    tests/kit.o -lcmocka
tests/poll: tests/poll.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/poll.c \
	    tests/kit.o -lcmocka
tests/hostile: tests/hostile.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/hostile.c \
	    tests/kit.o -lcmocka
tests/older: tests/older.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/older.c \
	    tests/kit.o -lcmocka
tests/between: tests/between.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/between.c \
	    tests/kit.o -lcmocka
tests/lines: tests/lines.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/lines.c \
	    tests/kit.o -lcmocka
tests/auth: tests/auth.c tests/kit.o tests/kit.h httptun.h http.o
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/auth.c \
	    tests/kit.o http.o -lcmocka
tests/exec: tests/exec.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/exec.c \
	    tests/kit.o -lcmocka
tests/tls: tests/tls.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/tls.c \
	    tests/kit.o -lcmocka
tests/fallback: tests/fallback.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/fallback.c \
	    tests/kit.o -lcmocka
tests/bulk: tests/bulk.c tests/kit.o tests/kit.h
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LDFLAGS) -o $@ tests/bulk.c \
	    tests/kit.o -lcmocka

# All run, four at a time, and one that fails fails the whole.
test: httptun
	@$(MAKE) -j 2 $(TESTS)
	@tests/run $(TESTS)

# The same with larger numbers, for minutes.
soak: httptun tests/hostile tests/older tests/lines
	HTTPTUN_LONG=1 ./tests/hostile
	HTTPTUN_LONG=1 ./tests/older
	HTTPTUN_LONG=1 ./tests/lines

# Beside the peers: minutes, a table, tests/bench/results.csv.
bench: httptun tests/bench/load
	-tests/setup bench
	tests/bench/run

tests/bench/load: tests/bench/load.c
	$(CC) $(STD) $(WARN) -O2 -o $@ tests/bench/load.c

# The same tests with everything built anew under ASan and UBSan.
sanitize:
	rm -rf .sanitize && mkdir .sanitize
	cp -R Makefile $(SRC) httptun.h tests .sanitize/
	cd .sanitize && $(MAKE) clean && HTTPTUN_SANITIZED=1 \
	    UBSAN_OPTIONS=print_stacktrace=1 \
	    $(MAKE) CC="$(CC)" CFLAGS="$(SAN)" LDFLAGS="$(SAN)" test
	rm -rf .sanitize

# The parsers under libFuzzer, from tests/seeds on, for FUZZ_SECS seconds.  An
# input at which it failed is left as tests/found-*: "tests/fuzz FILE" shows it.
fuzz: tests/fuzz
	@dir=$$(mktemp -d) || exit 1; trap 'rm -rf "$$dir"' EXIT; \
	trap 'exit 1' HUP INT TERM; \
	./tests/fuzz -max_total_time=$(FUZZ_SECS) -max_len=4096 \
	    -len_control=30 -timeout=5 -print_final_stats=1 \
	    -artifact_prefix=tests/found- "$$dir" tests/seeds

tests/fuzz: tests/fuzz.c httptun.c net.c http.c httptun.h
	clang $(STD) $(WARN) -g -O1 -fsanitize=fuzzer,address,undefined \
	    -fno-sanitize-recover=undefined -o $@ tests/fuzz.c net.c http.c

lint:
	mandoc -Tlint -W warning httptun.1
	cppcheck --quiet --std=c99 --error-exitcode=1 \
	    --enable=warning,portability --inline-suppr $(SRC)
	clang-tidy --quiet --warnings-as-errors='*' --checks='-*,bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-bugprone-narrowing-conversions,-clang-analyzer-security.insecureAPI.*,-bugprone-assignment-in-if-condition,-bugprone-suspicious-string-compare,-clang-analyzer-valist.*,-bugprone-not-null-terminated-result' \
	    $(SRC) -- $(STD)
	for cc in gcc clang; do $$cc $(STD) $(WARN) -Werror -O2 \
	    -o /dev/null $(SRC) || exit 1; done
	musl-gcc $(STD) $(WARN) -Werror -O2 -static -o /dev/null $(SRC)
	bmake -n all >/dev/null

# One that runs cannot be written to, and is there at each moment.
install: httptun
	mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(MANDIR)/man1
	cp httptun $(DESTDIR)$(PREFIX)/bin/httptun.new
	chmod 755 $(DESTDIR)$(PREFIX)/bin/httptun.new
	mv -f $(DESTDIR)$(PREFIX)/bin/httptun.new \
	    $(DESTDIR)$(PREFIX)/bin/httptun
	cp httptun.1 $(DESTDIR)$(MANDIR)/man1/httptun.1
	chmod 644 $(DESTDIR)$(MANDIR)/man1/httptun.1

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/httptun
	rm -f $(DESTDIR)$(MANDIR)/man1/httptun.1

clean:
	rm -f httptun $(OBJ) tests/*.o $(TESTS) tests/bench/load tests/fuzz
	rm -rf .sanitize

.PHONY: all test soak bench sanitize fuzz lint install uninstall clean
