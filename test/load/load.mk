# The programs of the load: make -f test/load/load.mk top=. PG_CONFIG=…
top       ?= .
PG_CONFIG ?= pg_config
out       := $(top)/build/load
here      := $(top)/test/load

load_parts      := load reader writer writes writes_rare schema session history
scenarios_parts := scenarios schedules schedules_builders scene schema session history
puts_parts      := puts put_schedule session

CXX      ?= g++
CXXFLAGS := -std=c++20 -O1 -g -Wall -Wextra -pthread -I$(shell $(PG_CONFIG) --includedir) -MMD -MP
LIBS     := -L$(shell $(PG_CONFIG) --libdir) -lpq

all: $(out)/load $(out)/scenarios $(out)/puts $(out)/late_writer.so
$(out)/load: $(load_parts:%=$(out)/%.o)
	$(CXX) $(CXXFLAGS) -o $@ $^ $(LIBS)
$(out)/scenarios: $(scenarios_parts:%=$(out)/%.o)
	$(CXX) $(CXXFLAGS) -o $@ $^ $(LIBS)
$(out)/puts: $(puts_parts:%=$(out)/%.o)
	$(CXX) $(CXXFLAGS) -o $@ $^ $(LIBS)
$(out)/late_writer.so: $(here)/late_writer.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O1 -fPIC -shared -fno-exceptions -fno-rtti -Wno-register \
		-I$(shell $(PG_CONFIG) --includedir-server) -o $@ $<
$(out)/%.o: $(here)/%.cpp $(here)/load.mk
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -c -o $@ $<

.PHONY: all
-include $(wildcard $(out)/*.d)
