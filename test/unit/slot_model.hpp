// A small world around one slot: writers begin, mark and end; readers take a snapshot, load the entry, judge
// it, build on a miss, ask for a generation and publish. Every step is atomic, every order of steps is tried
// (or a random one), and every hit is compared with what a build under the same snapshot gives.
//
// The slot, the verdict and the store rule are the server's own code (core/slot.hpp); only the world is made
// up here. A value is the set of committed writers that its snapshot sees. Ids are dense and start three
// below a multiple of 2^32, so that the low halves wrap in the middle of every history.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "core/slot.hpp"

namespace prompt_cache::test {

using core::kSlotIds;
using core::SlotHistory;
using core::SnapshotView;
using core::Xid;

inline constexpr unsigned kMaxWriters = 10;
inline constexpr unsigned kMaxReaders = 3;
inline constexpr Xid kFirstXid = (Xid{5} << 32) - 3;

struct WorldOptions {
    unsigned writers = 3;
    unsigned begun = 0;       // so many of them run from the start
    unsigned quick = 0;       // bit i: writer i does all that is left to it, up to the commit, in one step
    unsigned bystanders = 0;  // bit i: writer i is quick and changes another tag
    unsigned readers = 2;
    unsigned rounds = 2;
    bool distinct_readers = false;  // count worlds apart that differ only in which reader is which
    bool remarks = false;           // a writer may mark twice
    bool settle = false;            // writers look who is running, in a step of its own before the mark
    bool settle_running = false;    // broken: what they see running counts as finished
    bool lease = false;             // a reader's value is read after its snapshot, as an application does
    bool lease_with_k = false;      // broken: a lease stored by the rule for builders
    bool late_mark = false;         // broken: a writer ends before it marks
    bool torn_number = false;       // broken: a mark's number appears before its id
};

enum WriterStep : std::uint8_t {
    kUnborn,
    kBegun,
    kLooked,
    kNumbered,
    kMarked,
    kRemarked,
    kEndedUnmarked,
    kDone
};
enum ReaderStep : std::uint8_t { kIdle, kHasSnapshot, kLoaded, kMissed, kBuilt, kJudgedStore, kFinished };

// Writer i has id kFirstXid + i. Bit sets over writers. All bytes are compared: no padding.
struct World {
    struct Reader {
        std::uint16_t running, value;  // of its snapshot; what it loaded or built
        std::uint8_t step, round, xmin, xmax, has_value, gen;
    };
    std::uint16_t running, committed, entry_value;
    std::uint8_t has_entry, entry_gen;
    std::uint8_t born, completed_end;  // ids given out; one past the highest that ended
    std::uint8_t gen, n;
    std::uint8_t max_id, dropped_id, id[kSlotIds];  // 0 = none, else writer + 1
    std::uint8_t settled, unused;
    std::uint16_t look_running[kMaxWriters];  // what a writer saw before it marks
    std::uint8_t look_xmax[kMaxWriters];
    std::uint8_t step[kMaxWriters];
    Reader reader[kMaxReaders];
};
static_assert(std::has_unique_object_representations_v<World>);

inline Xid id_to_xid(std::uint8_t id) {
    return id == 0 ? 0 : kFirstXid + id - 1;
}
inline std::uint8_t xid_to_id(Xid xid) {
    return xid == 0 ? 0 : static_cast<std::uint8_t>(xid - kFirstXid + 1);
}

class Explorer {
  public:
    explicit Explorer(const WorldOptions& options) : options_(options) {}

    // Counts over everything explored; a proof in which nothing hit would prove nothing.
    std::uint64_t states = 0, hits = 0, hits_behind = 0, stores = 0, stores_behind = 0, drops = 0,
                  settled_drops = 0;
    std::uint64_t settled_hits = 0;  // that a bound on xmin alone would have refused
    bool violated = false;
    World witness{};

    // Every order of steps. True if all hits were right.
    bool explore_all(std::size_t most_states) {
        std::vector<World> todo{start()};
        Seen seen;
        seen.add(todo.back());
        while (!todo.empty() && !violated && states < most_states) {
            const World world = todo.back();
            todo.pop_back();
            ++states;
            for_each_move(world, [&](World next) {
                if (!options_.distinct_readers) sort_readers(next);
                if (seen.add(next)) todo.push_back(next);
            });
        }
        return !violated && todo.empty();
    }

    // One random order of steps at a time. True if all hits were right.
    bool walk(std::mt19937_64& random, unsigned walks) {
        std::vector<World> next;
        for (unsigned i = 0; i < walks && !violated; ++i) {
            World world = start();
            for (;;) {
                next.clear();
                for_each_move(world, [&](const World& w) { next.push_back(w); });
                if (next.empty() || violated) break;
                world = next[random() % next.size()];
                ++states;
            }
        }
        return !violated;
    }

  private:
    // 128-bit fingerprints of the worlds seen; two worlds with one fingerprint are not to be expected.
    class Seen {
      public:
        bool add(const World& world) {
            if (2 * (count_ + 1) > slots_.size()) grow();
            std::uint64_t words[(sizeof(World) + 7) / 8] = {};
            std::memcpy(words, &world, sizeof(world));
            Print print{0x243F6A8885A308D3u, 0x13198A2E03707344u};
            for (const std::uint64_t word : words) {
                print.a = std::rotl((print.a ^ word) * 0x9E3779B97F4A7C15u, 29);
                print.b = std::rotl((print.b + word) * 0xC2B2AE3D27D4EB4Fu, 37) ^ print.a;
            }
            return put(print);
        }

      private:
        struct Print {
            std::uint64_t a, b;
        };
        bool put(Print print) {
            print.b |= 1;
            std::size_t i = print.a >> 7 & (slots_.size() - 1);
            for (; slots_[i].b != 0; i = (i + 1) & (slots_.size() - 1))
                if (slots_[i].a == print.a && slots_[i].b == print.b) return false;
            slots_[i] = print;
            ++count_;
            return true;
        }
        void grow() {
            std::vector<Print> old(slots_.empty() ? 1024 : 2 * slots_.size(), Print{0, 0});
            old.swap(slots_);
            count_ = 0;
            for (const Print& print : old)
                if (print.b != 0) put(print);
        }
        std::vector<Print> slots_;
        std::size_t count_ = 0;
    };

    World start() const {
        World world{};
        for (unsigned i = 0; i < options_.begun; ++i) begin(world);
        for (unsigned i = options_.readers; i < kMaxReaders; ++i) world.reader[i].step = kFinished;
        return world;
    }

    static void sort_readers(World& world) {
        for (unsigned i = 1; i < kMaxReaders; ++i)
            for (unsigned j = i; j > 0; --j)
                if (std::memcmp(&world.reader[j - 1], &world.reader[j], sizeof(World::Reader)) > 0)
                    std::swap(world.reader[j - 1], world.reader[j]);
    }

    static void begin(World& world) {
        world.running = static_cast<std::uint16_t>(world.running | 1u << world.born);
        world.step[world.born++] = kBegun;
    }

    static SlotHistory history(const World& world) {
        SlotHistory slot;
        slot.gen = world.gen;
        slot.max_xid = id_to_xid(world.max_id);
        slot.dropped_max_xid = id_to_xid(world.dropped_id);
        slot.settled = world.settled != 0;
        slot.n = world.n;
        for (unsigned i = 0; i < kSlotIds; ++i) slot.xid[i] = id_to_xid(world.id[i]);
        return slot;
    }

    void mark(World& world, unsigned writer, bool count = true) {
        SlotHistory slot = history(world);
        std::uint32_t running[kMaxWriters];
        const std::uint16_t seen = options_.settle_running ? 0 : world.look_running[writer];
        const core::Moment moment{view(seen, world.look_xmax[writer], running), kFirstXid + writer};
        if (!slot.push(kFirstXid + writer, options_.settle ? &moment : nullptr)) return;
        if (count) world.gen = static_cast<std::uint8_t>(slot.gen);
        if (slot.dropped_max_xid != 0) ++drops;
        if (slot.settled) ++settled_drops;
        world.settled = slot.settled;
        forget_look(world, writer);
        world.max_id = xid_to_id(slot.max_xid);
        world.dropped_id = xid_to_id(slot.dropped_max_xid);
        world.n = static_cast<std::uint8_t>(slot.n);
        for (unsigned i = 0; i < kSlotIds; ++i) world.id[i] = xid_to_id(slot.xid[i]);
    }

    static void end(World& world, unsigned writer, bool commit, std::uint8_t next_step) {
        const auto bit = static_cast<std::uint16_t>(1u << writer);
        world.running = static_cast<std::uint16_t>(world.running & ~bit);
        if (commit) world.committed = static_cast<std::uint16_t>(world.committed | bit);
        world.completed_end = std::max(world.completed_end, static_cast<std::uint8_t>(writer + 1));
        world.step[writer] = next_step;
    }

    bool is_quick(unsigned writer) const {
        return ((options_.quick | options_.bystanders) >> writer & 1) != 0;
    }

    void mark_and_commit(World& world, unsigned writer) {
        if ((options_.bystanders >> writer & 1) == 0) {
            look(world, writer);
            mark(world, writer);
        }
        end(world, writer, true, kDone);
    }

    // What writer sees of the others before it marks; itself it leaves out.
    void look(World& world, unsigned writer) const {
        if (!options_.settle) return;
        world.look_xmax[writer] = world.completed_end;
        world.look_running[writer] =
            static_cast<std::uint16_t>(world.running & ((1u << world.completed_end) - 1) & ~(1u << writer));
    }
    static void forget_look(World& world, unsigned writer) {
        world.look_running[writer] = 0;
        world.look_xmax[writer] = 0;
    }

    static SnapshotView view(std::uint16_t running_set, std::uint8_t xmax, std::uint32_t* running) {
        unsigned count = 0;
        for (unsigned i = 0; i < kMaxWriters; ++i)
            if (running_set >> i & 1) running[count++] = static_cast<std::uint32_t>(kFirstXid + i);
        const unsigned xmin = running_set == 0 ? xmax : static_cast<unsigned>(std::countr_zero(running_set));
        return {kFirstXid + xmin, kFirstXid + xmax, {running, count}};
    }

    static void take_snapshot(const World& world, World::Reader& reader) {
        reader.xmax = world.completed_end;
        reader.running = static_cast<std::uint16_t>(world.running & ((1u << reader.xmax) - 1));
        reader.xmin =
            reader.running == 0 ? reader.xmax : static_cast<std::uint8_t>(std::countr_zero(reader.running));
    }

    std::uint16_t value_for(const World& world, const World::Reader& reader) const {
        return static_cast<std::uint16_t>(world.committed & ((1u << reader.xmax) - 1) & ~reader.running &
                                          ~options_.bystanders);
    }

    template <typename Emit>
    void for_each_move(const World& world, Emit emit) {
        if (world.born < options_.writers) {
            World next = world;
            const unsigned writer = world.born;
            begin(next);
            if (is_quick(writer)) mark_and_commit(next, writer);
            emit(next);
        }
        for (unsigned writer = 0; writer < world.born; ++writer) writer_moves(world, writer, emit);
        for (unsigned reader = 0; reader < kMaxReaders; ++reader) {
            if (world.reader[reader].step == kFinished) continue;
            World next = world;
            reader_move(next, next.reader[reader]);
            emit(next);
        }
    }

    template <typename Emit>
    void writer_moves(const World& world, unsigned writer, Emit emit) {
        World next = world;
        const std::uint8_t step = world.step[writer];
        if (step == kBegun && is_quick(writer)) {
            mark_and_commit(next, writer);
            emit(next);
        } else if (step == kBegun && options_.torn_number) {
            ++next.gen;
            next.step[writer] = kNumbered;
            emit(next);
        } else if (step == kBegun && options_.settle) {
            look(next, writer);
            next.step[writer] = kLooked;
            emit(next);
        } else if ((step == kBegun && !options_.late_mark) || step == kLooked || step == kNumbered ||
                   step == kEndedUnmarked) {
            mark(next, writer, step != kNumbered);
            next.step[writer] = step == kEndedUnmarked ? kDone : kMarked;
            emit(next);
        } else if (step == kBegun || step == kMarked || step == kRemarked) {
            const std::uint8_t after = step == kBegun ? kEndedUnmarked : kDone;
            end(next, writer, true, after);
            emit(next);
            next = world;
            end(next, writer, false, after);
            emit(next);
            if (options_.remarks && step == kMarked) {
                next = world;
                look(next, writer);
                mark(next, writer);
                next.step[writer] = kRemarked;
                emit(next);
            }
        }
    }

    void reader_move(World& world, World::Reader& reader) {
        std::uint32_t running[kMaxWriters];
        const SnapshotView snapshot = view(reader.running, reader.xmax, running);
        const SlotHistory slot = history(world);
        const auto next_round = [&] {
            const auto round = static_cast<std::uint8_t>(reader.round + 1);
            reader = World::Reader{};
            reader.round = round;
            reader.step = round < options_.rounds ? kIdle : kFinished;
        };

        switch (reader.step) {
            case kIdle:
                take_snapshot(world, reader);
                reader.step = kHasSnapshot;
                break;
            case kHasSnapshot:
                reader.has_value = world.has_entry;
                reader.value = world.entry_value;
                reader.gen = world.entry_gen;
                reader.step = kLoaded;
                break;
            case kLoaded:
                if (reader.has_value != 0 && slot.hit(reader.gen, snapshot)) {
                    ++hits;
                    hits_behind += reader.gen != world.gen;
                    settled_hits += slot.settled && slot.dropped_max_xid >= snapshot.xmin;
                    if (reader.value != value_for(world, reader)) {
                        violated = true;
                        witness = world;
                    }
                    next_round();
                } else {
                    reader.value = value_for(world, reader);
                    reader.gen = reader.has_value = 0;
                    reader.step = options_.lease ? kMissed : kBuilt;
                }
                break;
            case kMissed: {  // the application reads at its own, later moment
                World::Reader later{};
                take_snapshot(world, later);
                reader.value = value_for(world, later);
                reader.step = kBuilt;
                break;
            }
            case kBuilt: {
                std::optional<std::uint64_t> gen = slot.store_generation(snapshot);
                if (options_.lease && !options_.lease_with_k)
                    gen = slot.put_generation(snapshot, 0);
                if (!gen) {
                    next_round();
                    break;
                }
                ++stores;
                stores_behind += *gen != slot.gen;
                reader.gen = static_cast<std::uint8_t>(*gen);
                reader.step = kJudgedStore;
                break;
            }
            case kJudgedStore:
                world.has_entry = 1;
                world.entry_value = reader.value;
                world.entry_gen = reader.gen;
                next_round();
                break;
        }
    }

    WorldOptions options_;
};

}  // namespace prompt_cache::test
