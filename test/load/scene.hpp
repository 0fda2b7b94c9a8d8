// The stage of scenarios: three sessions, and the chat tables with three users.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "schema.hpp"
#include "session.hpp"

namespace load {

class Scene {
  public:
    explicit Scene(const std::string& conninfo)
        : a(conninfo, "scenario a"),
          b(conninfo, "scenario b"),
          c(conninfo, "scenario c"),
          conninfo_(conninfo) {}

    void set_up();
    // The prompt of the user as this session gets it now equals what its snapshot sees.
    std::string exact(Session& session, const std::string& when, Id user = 1);
    // The same, whatever the attached expressions are: equals what build() gives.
    void as_built(Session& session, const std::string& when, Id user = 1);
    // The statement is an error of this state; the session goes on.
    void refused(Session& session, const std::string& sql, const std::string& state);
    // Backends whose setting pause_at names a point wait there until let_go().
    void hold_pauses() { c.run("SELECT pg_advisory_lock(7061757365)"); }
    void let_go() { c.run("SELECT pg_advisory_unlock(7061757365)"); }
    void expect(bool right, const std::string& what) {
        if (right) return;
        std::printf("wrong: %s\n", what.c_str());
        wrong_++;
    }
    // Until another session waits for a lock, so that what blocks has really come to its place.
    void wait_until_blocked(Session& blocked);
    const std::string& conninfo() const { return conninfo_; }
    int wrong() const { return wrong_; }

    Session a, b, c;

  private:
    std::string conninfo_;
    int wrong_ = 0;
};

inline constexpr const char* kChange = "UPDATE load.users SET system_prompt = 'second' WHERE id = 1";

struct Scenario {
    const char* name;
    void (*play)(Scene&);
    bool sets_up = true;  // begins with set_up()
};

// Schedules that gave a wrong answer once, and need all rules; in schedules.cpp and schedules_builders.cpp.
extern const std::vector<Scenario> kSchedules;
extern const std::vector<Scenario> kBuilderSchedules;

}  // namespace load
