// A small world around one wide slot: writers begin, look who runs, mark and end; readers take a snapshot, load the
// entry, judge it, build on a miss, take a snapshot of now, ask for a generation and publish. Every step is atomic, every order of steps is
// tried (or a random one), and every hit is compared with what a build at that moment under the same snapshot gives.
//
// Slot, verdict and store rule are the server's own code (core/wide_slot.hpp). A value is the set of committed writers
// that its snapshot sees, and of those whose DDL shows through every snapshot once they have committed.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <unordered_set>
#include <vector>

#include "core/wide_slot.hpp"

namespace prompt_cache::test {

inline constexpr unsigned kWideWriters = 6;
inline constexpr unsigned kWideReaders = 3;
inline constexpr unsigned kWideIds = 4;
inline constexpr core::Xid kWideFirstXid = (core::Xid{5} << 32) - 3;

struct WideOptions {
    unsigned writers = 3;
    unsigned begun = 0;       // so many of them run from the start
    unsigned quick = 0;       // bit i: writer i does all that is left to it, up to the commit, in one step
    unsigned bystanders = 0;  // bit i: writer i is quick and changes another tag
    unsigned ddl = 0;         // bit i: what writer i does shows through every snapshot once it has committed
    unsigned ids = kWideIds;  // room for pending ids
    unsigned readers = 2;
    unsigned rounds = 2;
    bool aborts = false;       // writers may abort, too
    bool late_mark = false;    // broken: a writer ends before it marks
    bool now_is_old = false;   // broken: "now" is the reader's own snapshot
    bool early = false;        // the store rule is asked before the build, in a step of its own
    bool put = false;          // values are made outside, after the snapshot
};

struct WideWorld {
    enum WriterStep : std::uint8_t { kUnborn, kBegun, kLooked, kMarked, kEndedUnmarked, kDone };
    enum ReaderStep : std::uint8_t { kIdle, kHasSnapshot, kLoaded, kMissed, kJudgedEarly, kBuilt, kHasNow, kJudgedStore, kFinished };

    struct Moment {
        std::uint8_t running, xmax;
    };
    struct Reader {
        Moment snapshot, now;
        std::uint16_t value;
        std::uint8_t step, round, has_value, gen;
    };
    std::uint16_t entry_value;
    std::uint8_t running, committed;
    std::uint8_t has_entry, entry_gen;
    std::uint8_t born, completed_end;  // ids given out; one past the highest that ended
    std::uint8_t step[kWideWriters];
    Moment look[kWideWriters];
    Reader reader[kWideReaders];
    // The slot; ids as writer + 1
    std::uint8_t gen, ended, pending_count, older_count;
    std::uint8_t pending[kWideIds], older[kWideIds];

    bool operator==(const WideWorld& other) const { return std::memcmp(this, &other, sizeof(*this)) == 0; }
};
static_assert(std::has_unique_object_representations_v<WideWorld>);

class WideExplorer {
  public:
    explicit WideExplorer(const WideOptions& options) : options_(options) {}

    std::uint64_t states = 0, hits = 0, pending_hits = 0, held_back_hits = 0, stores = 0, pending_stores = 0, moves = 0;
    bool violated = false;
    WideWorld witness{};

    bool explore_all(std::size_t most_states) {
        std::vector<WideWorld> todo{start()};
        std::unordered_set<WideWorld, Hash> seen{todo.back()};
        while (!todo.empty() && !violated && states < most_states) {
            const WideWorld world = todo.back();
            todo.pop_back();
            ++states;
            for_each_move(world, [&](WideWorld next) {
                sort_readers(next);
                if (seen.insert(next).second) todo.push_back(next);
            });
        }
        return !violated && todo.empty();
    }

    bool walk(std::mt19937_64& random, unsigned walks) {
        std::vector<WideWorld> next;
        for (unsigned i = 0; i < walks && !violated; ++i) {
            WideWorld world = start();
            for (;;) {
                next.clear();
                for_each_move(world, [&](const WideWorld& w) { next.push_back(w); });
                if (next.empty() || violated) break;
                world = next[random() % next.size()];
                ++states;
            }
        }
        return !violated;
    }

  private:
    struct Hash {
        std::size_t operator()(const WideWorld& world) const {
            std::uint64_t words[(sizeof(WideWorld) + 7) / 8] = {};
            std::memcpy(words, &world, sizeof(world));
            std::uint64_t hash = 0;
            for (const std::uint64_t word : words) hash = std::rotl((hash ^ word) * 0x9E3779B97F4A7C15u, 29);
            return hash;
        }
    };

    // The slot of a world, as the server has it in shared memory.
    class Slot {
      public:
        Slot(const WideWorld& world, unsigned ids) : ids_(ids) {
            head().gen = world.gen;
            head().xid[0] = xid(world.ended);
            head().xid[1] = world.pending_count;
            head().xid[2] = world.older_count;
            for (unsigned i = 0; i < world.pending_count; ++i) pending()[i] = xid(world.pending[i]);
            for (unsigned i = 0; i < world.older_count; ++i) older()[i] = static_cast<std::uint32_t>(xid(world.older[i]));
        }
        core::WideSlot view() { return {&head(), ids_}; }
        void save(WideWorld& world) {
            world.gen = static_cast<std::uint8_t>(head().gen);
            world.ended = id(head().xid[0]);
            world.pending_count = static_cast<std::uint8_t>(head().xid[1]);
            world.older_count = static_cast<std::uint8_t>(head().xid[2]);
            for (unsigned i = 0; i < kWideIds; ++i) {
                world.pending[i] = i < world.pending_count ? id(pending()[i]) : 0;
                world.older[i] = i < world.older_count ? static_cast<std::uint8_t>(older()[i] - static_cast<std::uint32_t>(kWideFirstXid) + 1) : 0;
            }
        }

      private:
        static core::Xid xid(std::uint8_t id) { return id == 0 ? 0 : kWideFirstXid + id - 1; }
        static std::uint8_t id(core::Xid xid) { return xid == 0 ? 0 : static_cast<std::uint8_t>(xid - kWideFirstXid + 1); }
        core::SlotShared& head() { return lines_[0]; }
        std::atomic<core::Xid>* pending() { return reinterpret_cast<std::atomic<core::Xid>*>(&lines_[1]) + core::WideSlot::kRecent; }
        std::atomic<std::uint32_t>* older() { return reinterpret_cast<std::atomic<std::uint32_t>*>(pending() + ids_); }

        core::SlotShared lines_[core::WideSlot::lines(kWideIds)]{};
        unsigned ids_;
    };

    WideWorld start() const {
        WideWorld world{};
        for (unsigned i = 0; i < options_.begun; ++i) begin(world);
        for (unsigned i = options_.readers; i < kWideReaders; ++i) world.reader[i].step = WideWorld::kFinished;
        return world;
    }

    static void sort_readers(WideWorld& world) {
        for (unsigned i = 1; i < kWideReaders; ++i)
            for (unsigned j = i; j > 0; --j)
                if (std::memcmp(&world.reader[j - 1], &world.reader[j], sizeof(WideWorld::Reader)) > 0)
                    std::swap(world.reader[j - 1], world.reader[j]);
    }

    static void begin(WideWorld& world) {
        world.running = static_cast<std::uint8_t>(world.running | 1u << world.born);
        world.step[world.born++] = WideWorld::kBegun;
    }

    static WideWorld::Moment moment_of(const WideWorld& world) {
        return {static_cast<std::uint8_t>(world.running & ((1u << world.completed_end) - 1)), world.completed_end};
    }

    static core::SnapshotView view(WideWorld::Moment moment, std::uint32_t* running) {
        unsigned count = 0;
        for (unsigned i = 0; i < kWideWriters; ++i)
            if (moment.running >> i & 1) running[count++] = static_cast<std::uint32_t>(kWideFirstXid + i);
        const unsigned xmin = moment.running == 0 ? moment.xmax : static_cast<unsigned>(std::countr_zero(moment.running));
        return {kWideFirstXid + xmin, kWideFirstXid + moment.xmax, {running, count}};
    }

    bool is_quick(unsigned writer) const { return ((options_.quick | options_.bystanders) >> writer & 1) != 0; }

    // What writer sees of the others; itself it leaves out.
    static void look(WideWorld& world, unsigned writer) {
        world.look[writer] = moment_of(world);
        world.look[writer].running = static_cast<std::uint8_t>(world.look[writer].running & ~(1u << writer));
    }

    void mark(WideWorld& world, unsigned writer) {
        std::uint32_t running[kWideWriters];
        Slot slot(world, options_.ids);
        const std::uint64_t before = slot.view().gen();
        slot.view().mark(kWideFirstXid + writer, {view(world.look[writer], running), kWideFirstXid + writer});
        moves += slot.view().gen() != before;
        slot.save(world);
        world.look[writer] = {};
    }

    static void end(WideWorld& world, unsigned writer, bool commit, std::uint8_t next_step) {
        world.running = static_cast<std::uint8_t>(world.running & ~(1u << writer));
        if (commit) world.committed = static_cast<std::uint8_t>(world.committed | 1u << writer);
        world.completed_end = std::max(world.completed_end, static_cast<std::uint8_t>(writer + 1));
        world.step[writer] = next_step;
    }

    void mark_and_commit(WideWorld& world, unsigned writer) {
        if ((options_.bystanders >> writer & 1) == 0) {
            look(world, writer);
            mark(world, writer);
        }
        end(world, writer, true, WideWorld::kDone);
    }

    // Low byte: whose rows the snapshot sees. High byte: whose DDL is in effect now.
    std::uint16_t value_for(const WideWorld& world, WideWorld::Moment snapshot) const {
        const unsigned seen = world.committed & ((1u << snapshot.xmax) - 1) & ~snapshot.running & ~options_.bystanders;
        return static_cast<std::uint16_t>(seen | (world.committed & options_.ddl & ~options_.bystanders) << 8);
    }

    template <typename Emit>
    void for_each_move(const WideWorld& world, Emit emit) {
        if (world.born < options_.writers) {
            WideWorld next = world;
            const unsigned writer = world.born;
            begin(next);
            if (is_quick(writer)) mark_and_commit(next, writer);
            emit(next);
        }
        for (unsigned writer = 0; writer < world.born; ++writer) writer_moves(world, writer, emit);
        for (unsigned reader = 0; reader < kWideReaders; ++reader) {
            if (world.reader[reader].step == WideWorld::kFinished) continue;
            WideWorld next = world;
            reader_move(next, next.reader[reader]);
            emit(next);
        }
    }

    template <typename Emit>
    void writer_moves(const WideWorld& world, unsigned writer, Emit emit) {
        WideWorld next = world;
        const std::uint8_t step = world.step[writer];
        if (step == WideWorld::kBegun && is_quick(writer)) {
            mark_and_commit(next, writer);
            emit(next);
        } else if (step == WideWorld::kBegun && !options_.late_mark) {
            look(next, writer);
            next.step[writer] = WideWorld::kLooked;
            emit(next);
        } else if (step == WideWorld::kLooked || step == WideWorld::kEndedUnmarked) {
            mark(next, writer);
            next.step[writer] = step == WideWorld::kLooked ? WideWorld::kMarked : WideWorld::kDone;
            emit(next);
        } else if (step == WideWorld::kBegun || step == WideWorld::kMarked) {
            const std::uint8_t after = step == WideWorld::kBegun ? WideWorld::kEndedUnmarked : WideWorld::kDone;
            end(next, writer, true, after);
            emit(next);
            if (!options_.aborts) return;
            next = world;
            end(next, writer, false, after);
            emit(next);
        }
    }

    void reader_move(WideWorld& world, WideWorld::Reader& reader) {
        std::uint32_t running[kWideWriters];
        std::uint32_t running_now[kWideWriters];
        const core::SnapshotView snapshot = view(reader.snapshot, running);
        Slot slot(world, options_.ids);
        core::WideSlot wide = slot.view();
        const auto now = [&] { return options_.now_is_old ? snapshot : view(moment_of(world), running_now); };
        const auto next_round = [&] {
            const auto round = static_cast<std::uint8_t>(reader.round + 1);
            reader = WideWorld::Reader{};
            reader.round = round;
            reader.step = round < options_.rounds ? WideWorld::kIdle : WideWorld::kFinished;
        };
        switch (reader.step) {
            case WideWorld::kIdle:
                reader.snapshot = moment_of(world);
                reader.step = WideWorld::kHasSnapshot;
                break;
            case WideWorld::kHasSnapshot:
                reader.has_value = world.has_entry;
                reader.value = world.entry_value;
                reader.gen = world.entry_gen;
                reader.step = WideWorld::kLoaded;
                break;
            case WideWorld::kLoaded:
                if (reader.has_value != 0 && wide.hit(reader.gen, snapshot, now)) {
                    ++hits;
                    pending_hits += wide.has_pending();
                    held_back_hits += world.ended != 0 && kWideFirstXid + world.ended - 1 >= snapshot.xmin;
                    if (reader.value != value_for(world, reader.snapshot)) {
                        violated = true;
                        witness = world;
                    }
                    next_round();
                } else {
                    reader.value = options_.early ? std::uint16_t{0} : value_for(world, reader.snapshot);
                    reader.gen = reader.has_value = 0;
                    reader.step = options_.put ? WideWorld::kMissed : WideWorld::kBuilt;
                }
                break;
            case WideWorld::kJudgedEarly:
                reader.value = value_for(world, reader.snapshot);
                reader.step = WideWorld::kJudgedStore;
                break;
            case WideWorld::kMissed:  // the application reads at its own, later moment
                reader.value = value_for(world, moment_of(world));
                reader.step = WideWorld::kBuilt;
                break;
            case WideWorld::kBuilt:
                reader.now = options_.now_is_old ? reader.snapshot : moment_of(world);
                reader.step = WideWorld::kHasNow;
                break;
            case WideWorld::kHasNow: {
                const std::uint64_t before = wide.gen();
                const std::optional<std::uint64_t> gen =
                    options_.put ? wide.put_generation(snapshot)
                                 : wide.store_generation(snapshot, view(reader.now, running_now));
                moves += wide.gen() != before;
                slot.save(world);
                if (!gen) {
                    next_round();
                    break;
                }
                reader.now = {};
                ++stores;
                pending_stores += wide.has_pending();
                reader.gen = static_cast<std::uint8_t>(*gen);
                reader.step = options_.early ? WideWorld::kJudgedEarly : WideWorld::kJudgedStore;
                break;
            }
            case WideWorld::kJudgedStore:
                world.has_entry = 1;
                world.entry_value = reader.value;
                world.entry_gen = reader.gen;
                next_round();
                break;
        }
    }

    WideOptions options_;
};

}  // namespace prompt_cache::test
