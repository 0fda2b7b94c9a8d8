// Housekeeping of a database's own tables, in rounds of tasks, each done a little at a time so that a worker
// can stop between two transactions and the next one can go on.
//
//   repair    triggers that a restore has switched from ENABLE ALWAYS
//   compact   nonces of one tag into one; only where enough have come to be worth a pass over the table
//   expire    rows replaced longer than history_max_age ago, and readers whose role is gone
//   purge     rows of users that are gone; every twentieth round
//   look at size, freeze, rewrite    give back what many nonces have left behind, once no more come
//
// A task that fails is passed over until the next round.
#pragma once

#include <cstdint>

namespace prompt_cache {

struct LeftOutLocal;
struct SavingDatabaseShared;

// Where a round has got to; between two workers it lies in shared memory, under the lock `saving`.
struct UpkeepShared {
    enum Task : std::uint32_t { kNone, kRepair, kCompact, kExpire, kPurge, kLookAtSize, kFreeze, kRewrite };

    Task task;           // kNone: no round is under way
    bool wants_compact;  // in this round
    bool wants_purge;
    bool idle;                      // no nonce has come lately
    bool compacted;                 // since the table was small last
    bool shrinks;                   // in this round
    bool again;                     // something is left for the next round, which comes as if nonces had
    std::int64_t tag, salt;         // nonces up to here are put together
    std::int64_t rows, table_rows;  // seen in this pass, and in the last one
    std::int64_t purge_before;      // rows from here on have been looked at

    bool done() const noexcept { return task == kNone; }
};

// The round that is under way, or a new one. Under the lock, as end_upkeep().
UpkeepShared begin_upkeep(SavingDatabaseShared& database) noexcept;
void end_upkeep(SavingDatabaseShared& database, const UpkeepShared& upkeep) noexcept;

// A piece of the task at hand, in the worker's transaction; moves on to the next task at its end.
void do_upkeep(UpkeepShared& upkeep, LeftOutLocal& left_out);

// VACUUM (FREEZE, SKIP_LOCKED) tag_nonce: the task kFreeze, before it is passed. Ends the transaction that it
// finds begun and begins others.
void freeze_nonces();
void pass_over(UpkeepShared& upkeep) noexcept;

}  // namespace prompt_cache
