# Unit tests of src/core without a server: make -f test/lib/unit.mk KIND=plain|asan|tsan top=.
# One program per kind, build/unit-KIND/tests. Only tests that start threads (they include <thread>) go under TSan.
top  ?= .
# One name for one object, whoever calls: what it depends on is written down by that name.
override top := $(abspath $(top))
KIND ?= plain
out  := $(top)/build/unit-$(KIND)

flags_plain := -O1
flags_asan  := -O1 -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer
# TSan does not model fences; what they order is tested by the other two kinds.
flags_tsan  := -O1 -fsanitize=thread -Wno-tsan

tests := $(wildcard $(top)/test/unit/*_test.cpp)
ifeq ($(KIND),tsan)
tests := $(shell grep -l '<thread>' $(tests) /dev/null)
endif
# Core, and what else of src includes no server header.
core  := $(wildcard $(top)/src/core/*.cpp) $(top)/src/tier/seal.cpp
objs  := $(tests:$(top)/%.cpp=$(out)/%.o) $(core:$(top)/%.cpp=$(out)/%.o)

CXX      ?= g++
CXXFLAGS := -std=c++20 -g -Wall -Wextra -pthread -I$(top)/src $(flags_$(KIND)) -DPROMPT_CACHE_TEST -MMD -MP

all: $(if $(tests),$(out)/tests)

$(out)/tests: $(objs)
	$(CXX) $(CXXFLAGS) -o $@ $^ -lgtest -lgtest_main -lcrypto
$(out)/src/%.o: CXXFLAGS += -fno-exceptions -fno-rtti
$(out)/%.o: $(top)/%.cpp $(top)/test/lib/unit.mk
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -c -o $@ $<

.PHONY: all
-include $(objs:.o=.d)
