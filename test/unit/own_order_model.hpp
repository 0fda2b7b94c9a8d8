// A small world around one transaction that puts: it changes a row, takes leases, reads, puts, under new snapshots and under
// one that it holds (an open cursor, a statement that calls functions), in savepoints that it releases or rolls back. Every
// sequence of steps is tried, and after each step it is asked: if the transaction committed now, would everything that it
// publishes be what a snapshot after the commit reads?
//
// The order of own changes is the server's own code (core/own_order.hpp, core/tag_set.hpp). What is made up here is what the
// server does around it: command ids, row versions, subtransactions. A value is the number of the row version.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "core/own_order.hpp"

namespace prompt_cache::test {

using core::Command;

struct OrderOptions {
    unsigned steps = 7;
    bool puts_survive = false;       // broken: a change does not void what was put before it
    bool undone_counts = false;      // broken: what was read and rolled back may be put
    bool lease_alone = false;        // broken: the statement that puts with a lease is not asked
    bool others_as_own = false;      // broken: another's lease counts as the transaction's own
    bool command_not_used = false;   // too careful: a declared change does not end its command
};

class OrderExplorer {
  public:
    explicit OrderExplorer(const OrderOptions& options) : options_(options) {}

    std::uint64_t states = 0, accepted = 0, refused = 0, published = 0, published_after_change = 0;
    std::vector<const char*> witness;  // the steps to the first wrong value

    bool explore() {
        World world;
        step(world);
        return witness.empty();
    }

  private:
    static constexpr std::uint64_t kTag = 1, kOtherTag = 2;
    static constexpr unsigned kMost = 8;

    struct Version {
        Command command;
        unsigned level;  // of subtransactions
        bool alive;
    };
    struct Pending {
        unsigned value, level;
    };
    template <typename T>
    struct List {
        std::array<T, kMost> item{};
        unsigned size = 0;
        void add(const T& one) { item[size++] = one; }
    };
    struct World {
        Command now = 0;
        bool used = false;
        List<Version> versions;
        core::BoundedTagSet<1> changed;  // so small that it gives up telling tags apart
        List<Pending> pending;
        unsigned level = 0;
        bool undone = false;
        std::optional<Command> held;     // a snapshot that is older than new ones
        std::optional<Command> writing;  // a statement that has written, and whose triggers have not spoken
        std::optional<core::LeaseOrder> lease;
        std::optional<unsigned> read;
    };

    // The version that a snapshot of the command reads; 0: the one of before the transaction.
    static unsigned visible(const World& world, Command command) {
        unsigned value = 0;
        for (unsigned i = 0; i < world.versions.size; i++)
            if (world.versions.item[i].alive && world.versions.item[i].command < command) value = i + 1;
        return value;
    }

    static void end_command(World& world) {
        if (!world.used) return;
        world.now++;
        world.used = false;
    }

    void note(World& world, std::uint64_t tag) const {
        world.changed.add(tag, world.now);
        if (!options_.command_not_used) world.used = true;
        if (tag != kTag || options_.puts_survive) return;
        world.pending.size = 0;
    }

    static void write(World& world) {
        world.versions.add({world.now, world.level, true});
        world.used = true;
    }

    // A lookup of a snapshot that sees what a statement has written goes round the cache until its triggers have spoken.
    static bool bypasses(const World& world, Command command) { return world.writing && command > *world.writing; }

    void put(World& world, Command statement, unsigned value, bool leased) {
        if (bypasses(world, statement)) return;
        std::optional<core::LeaseOrder> lease;
        if (leased) lease = world.lease;
        if (lease && options_.others_as_own) lease->own = true;
        Command seen = core::seen_before(statement, lease);
        if (lease && lease->own && options_.lease_alone) seen = lease->command;
        const bool may = (!world.undone || options_.undone_counts) && !core::unseen_change(world.changed, kTag, seen);
        if (may) world.pending.add({value, world.level});
        ++(may ? accepted : refused);
    }

    static void roll_back(World& world) {
        for (unsigned i = 0; i < world.versions.size; i++) {
            Version& version = world.versions.item[i];
            if (version.level != world.level) continue;
            world.undone |= version.alive;
            version.alive = false;
        }
        List<Pending>& pending = world.pending;
        while (pending.size > 0 && pending.item[pending.size - 1].level == world.level) pending.size--;
        world.level--;
    }

    static void release(World& world) {
        for (unsigned i = 0; i < world.versions.size; i++)
            if (world.versions.item[i].level == world.level) world.versions.item[i].level--;
        for (unsigned i = 0; i < world.pending.size; i++)
            if (world.pending.item[i].level == world.level) world.pending.item[i].level--;
        world.level--;
    }

    void check_commit(const World& world) {
        if (world.writing) return;  // the statement has not ended
        const unsigned final = visible(world, world.now + 1);
        for (unsigned i = 0; i < world.pending.size; i++) {
            ++published;
            published_after_change += world.versions.size > 0;
            if (world.pending.item[i].value != final && witness.empty()) witness = path_;
        }
    }

    // One more step: `change` is given a copy of the world; false: not applicable.
    template <typename Change>
    void with(const World& world, const char* name, Change change) {
        if (!witness.empty()) return;
        World next = world;
        change(next);
        path_.push_back(name);
        ++states;
        check_commit(next);
        step(next);
        path_.pop_back();
    }

    void step(const World& world) {
        if (path_.size() == options_.steps || !witness.empty()) return;
        if (!world.writing) {
            with(world, "change", [&](World& w) {
                write(w);
                note(w, kTag);
                end_command(w);
            });
            with(world, "write", [&](World& w) {
                w.writing = w.now;
                write(w);
            });
            with(world, "change another tag", [&](World& w) {
                w.used = true;
                note(w, kOtherTag);
                end_command(w);
            });
            with(world, "declare a change", [&](World& w) {
                note(w, kTag);
                end_command(w);
            });
            if (world.level < 2) with(world, "savepoint", [&](World& w) { w.level++; });
            if (world.level > 0) with(world, "roll back to it", [&](World& w) { roll_back(w); });
            if (world.level > 0) with(world, "release it", [&](World& w) { release(w); });
        } else {
            // Another trigger runs a statement of its own first, or ours speaks.
            with(world, "a trigger's statement", [&](World& w) { end_command(w); });
            with(world, "tell", [&](World& w) {
                note(w, kTag);
                w.writing.reset();
                end_command(w);
            });
        }
        if (!world.held) with(world, "hold a snapshot", [&](World& w) { w.held = w.now; });
        if (!world.lease || !world.lease->own)
            with(world, "another's lease", [&](World& w) {
                w.lease = {false, 100};  // a command of another transaction
                w.read.reset();
            });
        snapshot_steps(world, world.now, true);
        if (world.held) snapshot_steps(world, *world.held, false);
    }

    void snapshot_steps(const World& world, Command command, bool is_new) {
        with(world, is_new ? "put" : "put, held", [&](World& w) { put(w, command, visible(w, command), false); });
        if (!bypasses(world, command))
            with(world, is_new ? "lease" : "lease, held", [&](World& w) {
                w.lease = {true, command};
                w.read.reset();
            });
        if (!world.lease) return;
        // By a statement that began after the lease was given; over another connection, which sees no own change, where
        // the application has made none that its lease saw.
        if (is_new) with(world, "read", [&](World& w) { w.read = visible(w, w.now); });
        if (is_new && (!world.lease->own || world.versions.size == 0))
            with(world, "read elsewhere", [&](World& w) { w.read = 0; });
        if (world.read)
            with(world, is_new ? "put with the lease" : "put with the lease, held",
                 [&](World& w) { put(w, command, *w.read, true); });
        with(world, is_new ? "read and put with the lease" : "read and put with the lease, held",
             [&](World& w) { put(w, command, visible(w, command), true); });
    }

    OrderOptions options_;
    std::vector<const char*> path_;
};

}  // namespace prompt_cache::test
