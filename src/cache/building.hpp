// Builds of namespace values that are under way in this backend, the innermost first: what each has depended on
// so far.
//
// A builder is a function of the user's. Its entry dies with its own key and its namespace, with every tag that
// it named (depends_on) and with all that the values it fetched depend on. Which tables it reads, and which
// functions it calls, is learned from the queries that the server runs for it: views, dynamic SQL and branches
// are all the same there. What it reads and nothing watches is reported, since its entry is then only as fresh as
// its time to live; what its caller's session decides is not kept at all.
//
// PL/pgSQL runs expressions such as now() without the executor. They are seen when they are planned, once a
// backend. What was seen then holds for all later builds of the namespace in this backend, and plans that were
// made before are given up when the backend builds a value of the namespace for the first time.
//
// A value is not stored where the builder left the caller's snapshot: a VOLATILE function inside it sees newer
// rows, or writes.
#pragma once

#include "cache/namespace.hpp"
#include "pg/plan_inputs.hpp"

namespace prompt_cache {

inline constexpr unsigned kMaxFurtherTags = 256;

// Everything a value depends on beyond its own tag and `*`.
class TagListLocal {
  public:
    void add(Tag tag) noexcept {
        if (std::find(tags_, tags_ + count_, tag) != tags_ + count_) return;
        if (count_ == kMaxFurtherTags)
            full_ = true;
        else
            tags_[count_++] = tag;
    }
    void add(const TagListLocal& other) noexcept {
        for (const Tag tag : other.tags()) add(tag);
        full_ |= other.full_;
    }
    std::span<const Tag> tags() const noexcept { return {tags_, count_}; }
    bool full() const noexcept { return full_; }

  private:
    Tag tags_[kMaxFurtherTags];
    unsigned count_ = 0;
    bool full_ = false;
};

struct BuildLocal {
    BuildLocal* outer = nullptr;
    Namespace space;
    std::string_view key;
    SnapshotIdentity snapshot;
    bool uncached = false;  // nothing may come from a cache: the oracle

    TagListLocal tags;
    std::int64_t deadline = INT64_MAX;  // on the clock of entries: what it was made from ends then
    bool has_gap = false;
    bool durable = true;  // it hangs on no unlogged table
    bool exact = true;  // it is a function of what the snapshot sees
    const QueryDesc* noted = nullptr;  // the query that was noted last
    // Lookups inside of it that have begun and not ended: one that an error ended, and the builder caught, hangs
    // on what nobody has noted.
    unsigned unfinished = 0;
};

namespace building {

// The innermost build, null if there is none. Nothing of the extension's own queries counts.
BuildLocal* current() noexcept;

// Between these the builder runs. begin() raises 54001 where the value is being built already, or too many are
// nested. end() never fails; to be called after an error too.
void begin(BuildLocal& build);
void end(const BuildLocal& build) noexcept;

// A lookup begins; returns the build that it is a part of, null if none. Until it has ended it counts as unfinished.
BuildLocal* begin_lookup() noexcept;
void end_lookup(BuildLocal* around) noexcept;

// The lookup reads under this snapshot, and goes round the cache or not. What it finds is no function of what
// the build's own snapshot sees where that is another one, or where the transaction's own changes let it go
// round: they may be ones that no tag speaks of, as DDL.
void note_lookup(BuildLocal* around, Snapshot snapshot, Bypass bypass) noexcept;

// The server runs a query of the innermost builder.
void note_query(const QueryDesc& query, bool writes);

// The innermost builder runs SHOW.
void note_show(const char* setting);

void install_planner_hook();

}  // namespace building
}  // namespace prompt_cache
