# prompt_cache: `make`, `make install` and `make installcheck` as in every PGXS extension;
# `make demo`, `make check`, `make bench` and `make server` use a sandbox and a throw-away server (test/lib).

top := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))
harness := deps check check-assert check-sanitizers check-versions sqlsmith soak demo bench server

# The harness must start before PostgreSQL is installed, so it does without PGXS.
ifneq ($(filter $(harness),$(MAKECMDGOALS)),)

.PHONY: $(harness)
deps: ; @test/deps check
check: ; @test/run $(STAGES)
check-assert: ; @test/assert $(STAGES)
check-sanitizers: ; @test/sanitizers $(STAGES)
check-versions: ; @test/versions
sqlsmith: ; @test/fuzz/run
soak: ; @test/deps check && DURATION='$(or $(DURATION),3600)' test/load/run
demo: ; @PROMPTS='$(PROMPTS)' KEEP='$(KEEP)' test/demo/run
bench: ; @ROWS='$(ROWS)' SIZES='$(SIZES)' TRACES='$(TRACES)' test/bench/run
server: ; @test/server start $(VARIANT)
# `make clean check`
$(filter-out $(harness),$(MAKECMDGOALS)): ; @$(MAKE) --no-print-directory $@

# `make TEST_BUILD=1 …` is the same build with the test switches, in a folder of its own.
else ifeq ($(TEST_BUILD)$(top),1.)

.PHONY: all install clean
all install clean:
	@mkdir -p build/test
	$(MAKE) -C build/test -f ../../Makefile $@

else

EXTENSION   = prompt_cache
MODULE_big  = prompt_cache
PGFILEDESC  = "prompt_cache - a system-prompt cache whose hits are exact"
DATA        = $(patsubst $(top)/%,%,$(wildcard $(top)/sql/prompt_cache--*.sql))
OBJS        = $(patsubst $(top)/%.cpp,%.o,$(wildcard $(top)/src/*.cpp $(top)/src/*/*.cpp))

# One topic a file; each runs in a database that has the extension.
REGRESS      = $(filter-out prompt_cache--%,$(patsubst $(top)/sql/%.sql,%,$(wildcard $(top)/sql/*.sql)))
REGRESS_OPTS = --load-extension=prompt_cache
ENCODING     = UTF8
NOLOCALE     = --no-locale

PG_CONFIG ?= pg_config
PGXS      := $(shell $(PG_CONFIG) --pgxs)

# The server's headers come as system headers: -Wextra is for our own code.
PG_CPPFLAGS = -I$(top)/src -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CXXFLAGS = -std=c++20 -fno-exceptions -fno-rtti -fno-threadsafe-statics \
              -fvisibility=hidden -fvisibility-inlines-hidden \
              -Wall -Wextra -Wno-register -MMD -MP
SHLIB_LINK  = -lhiredis -lcrypto
# A hit goes through a dozen files of two or three small functions each: optimized as one, a tenth of its time less.
# Where the server's compiler can; `make LTO=` does without.
LTO := $(shell printf 'int x;' | $(or $(shell $(PG_CONFIG) --cc),$(CC)) -flto=auto -shared -fPIC -x c - -o /dev/null 2>/dev/null && echo -flto=auto)
PG_CXXFLAGS += $(LTO)
SHLIB_LINK  += $(LTO)
# TLS to Redis, where hiredis has it: not in Debian 12.
ifneq ($(wildcard /usr/include/hiredis/hiredis_ssl.h /usr/local/include/hiredis/hiredis_ssl.h),)
PG_CPPFLAGS += -DPROMPT_CACHE_TLS
SHLIB_LINK  := -lhiredis_ssl $(SHLIB_LINK) -lssl
endif
ifdef TEST_BUILD
PG_CPPFLAGS += -DPROMPT_CACHE_TEST
endif
# For `make check-sanitizers` alone: the server must have their runtime.
ifneq ($(SANITIZE),)
PG_CPPFLAGS += -U_FORTIFY_SOURCE
PG_CXXFLAGS += -fsanitize=address,undefined -fno-sanitize=vptr -fno-omit-frame-pointer
SHLIB_LINK  += -fsanitize=address,undefined
endif

EXTRA_CLEAN = $(OBJS:.o=.d) test/bench/replay build results regression.diffs regression.out

# No bitcode: nothing here is worth inlining into a query, and PGXS drops PG_CXXFLAGS there.
# PGXS links with $(CC), so libstdc++ is never linked; test/check_source finds what would need it.
override with_llvm := no
ifneq ($(PGXS),)
include $(PGXS)
else ifeq ($(MAKECMDGOALS),replay)
# The replay tool is all that can be built without PostgreSQL.
CPPFLAGS := -I$(top)/src
CXXFLAGS := -O2 -fPIC $(PG_CXXFLAGS)
else
$(error no PostgreSQL with its development files; run: make deps)
endif

# Built elsewhere (make -C build/x -f ../../Makefile), only sources are looked up here: an object of
# another build must not be found.
VPATH :=
vpath %.cpp $(top)
vpath %.control $(top)

$(OBJS): $(top)/Makefile | $(sort $(dir $(OBJS)))
$(sort $(dir $(OBJS))): ; @mkdir -p $@
-include $(OBJS:.o=.d)

# The Redis tier needs a client library and libcrypto: said by name, instead of by the compiler.
have = $(shell printf '\043include <$(1)>\n' | $(CXX) $(CPPFLAGS) -E -x c++ - >/dev/null 2>&1 && echo yes)
$(filter src/tier/%,$(OBJS)): | libraries
.PHONY: libraries
libraries:
	@$(if $(call have,hiredis/hiredis.h),:,echo 'hiredis/hiredis.h is missing: install libhiredis-dev (Debian), hiredis-devel (Fedora), or run: make deps' >&2; exit 1)
	@$(if $(call have,openssl/evp.h),:,echo 'openssl/evp.h is missing: install libssl-dev (Debian), openssl-devel (Fedora), or run: make deps' >&2; exit 1)

# A trace through the eviction code: the very objects that the server runs.
core_objects := $(filter src/core/%,$(OBJS))
.PHONY: replay
replay: test/bench/replay
test/bench/replay: $(top)/test/bench/replay.cpp $(top)/src/core/*.hpp $(core_objects) $(top)/Makefile
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -Wall -Wextra $< $(core_objects) -o $@

endif
