// Deciding whether an entry is exact for one snapshot, and what a new entry has to carry so that others can
// decide.
//
// An entry names what it depends on: its own tag and `*`. On a primary a dependency is the tag's slot and the
// generation up to which the value has seen its marks; the verdict costs one look at a cache line. A standby
// has no marks, since they are made in memory and nothing is added to the WAL for them. There a dependency is
// the tag's stamp: the value is exact for every snapshot that sees the same stamp. That costs an index probe
// a tag, or none while the backend's snapshots stay the same.
//
// Entries proved by stamps are no longer hit once the server is a primary: they are built, or proved, anew.
#pragma once

#include "cache/memory.hpp"
#include "cache/slots.hpp"
#include "cache/transaction.hpp"
#include "pg/snapshot.hpp"
#include "tier/nonce.hpp"

namespace prompt_cache {

struct Judge {
    enum class By { kNothing, kMarks, kStamps };

    Snapshot snapshot = nullptr;
    core::SnapshotView view;
    core::Xid since = 0;  // primary_since() when the judge was made
    By by = By::kNothing;
    Bypass bypass = Bypass::kNone;  // why it is nothing
    SnapshotIdentity identity;      // of the snapshot, where stamps decide
};

// The stamp that the judge's snapshot sees.
inline Stamp stamp_under(Tag tag, const Judge& judge) {
    return judge.by == Judge::By::kStamps ? stamp_under(tag, judge.snapshot, judge.identity)
                                          : stamp_under(tag, judge.snapshot);
}

// The verdict of core/slot.hpp, the common case in line. The rest also notes whether the entry was hit
// although its tag was marked since, by a writer that the snapshot does not see.
bool decide_by_marks(const Judge& judge, const Dependency& dependency) noexcept;
inline bool marks_agree(const Judge& judge, const Dependency& dependency) noexcept {
    return shared.slots[dependency.slot()].quiet_hit(dependency.gen(), judge.view) ||
           decide_by_marks(judge, dependency);
}

// Was there such a hit since the last call?
bool take_hit_behind() noexcept;

// Does a dependency on a tag hold for the judge's snapshot? `tag()` is only called where stamps decide.
template <typename TagOf>
bool agrees(const Judge& judge, const Dependency& dependency, bool by_stamp, TagOf tag) {
    switch (judge.by) {
        case Judge::By::kMarks:
            return !by_stamp && marks_agree(judge, dependency);
        case Judge::By::kStamps:
            return by_stamp && stamp_under(tag(), judge) == dependency.stamp();
        case Judge::By::kNothing:
            break;
    }
    return false;
}

// The same for the entry's dependency `i`.
template <typename TagOf>
bool agrees(const Judge& judge, const FoundEntry& entry, unsigned i, TagOf tag) {
    return agrees(judge, entry.dependencies[i], entry.has(kByStamp), tag);
}

// What a value built under the judge's snapshot has to carry for `tag`; nothing if it cannot be vouched for.
std::optional<Dependency> depend_on(const Judge& judge, Tag tag);

// Has this backend heard of all DDL that the judge's snapshot sees? Functions, views and plans come from its own
// caches, which learn of a change by a message: sent after the change can be seen, and read only now and then. The
// writer gives up the lock on its id after it has sent its messages; so where nobody holds the lock of an id in the
// slot of `*` that the snapshot sees, what there is to hear can be read at once. False only for the microseconds in
// between. On a standby the two steps are parts of one record's replay, whose end can be waited for.
bool has_heard_of_ddl(const Judge& judge);

// The flag that says which kind of dependencies an entry of this judge carries.
inline std::uint8_t dependency_flag(const Judge& judge) noexcept {
    return judge.by == Judge::By::kStamps ? kByStamp : 0;
}

// The stamp of a tag that many entries share, remembered in memory as long as the tag's slot says it holds:
// while nothing changes, a row of tier 3 is proved without a probe.
Stamp shared_stamp(const Judge& judge, Tag tag);

}  // namespace prompt_cache
