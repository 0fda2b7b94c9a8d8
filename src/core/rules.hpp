// The rules of the coherence protocol, by name, so that a test build can take one away.
//
// Every rule must have a test that fails without it (a negative control). Test builds are compiled with
// PROMPT_CACHE_TEST; there a setting fills `removed_rules` and the places that apply a rule ask `applies()`
// first. In a normal build `applies()` is the constant true: the switch costs nothing and cannot be thrown.
#pragma once

#include <cstdint>

namespace prompt_cache::core {

enum class Rule : std::uint32_t {
    kMarkBeforeEnd,      // a writer marks before it leaves the running set, not after
    kWholeMark,          // number and id of a mark change together, inside the slot's lock
    kStoreCheck,         // a value is stored only if every id of its slots is on one side of the snapshot
    kDroppedBound,       // ids pushed out of the history must be complete
    kNewestRunning,      // marks after the entry's must still be running for the snapshot
    kOldestComplete,     // marks up to the entry's must be complete for the snapshot
    kFastPathNewest,     // the fast path compares the highest id ever marked, not the ids remembered
    kBootBound,          // snapshots older than this server's life as a primary bypass
    kBootAtPromotion,    // the bound is taken after recovery ended, not before
    kOwnDirty,           // own uncommitted changes bypass
    kOwnDdl,             // own uncommitted DDL on a tracked relation bypasses
    kStatementInFlight,  // own statement still writing bypasses
    kPremarkedNonce,     // a write after the own PRE_COMMIT leaves nonce and mark at once
    kVacuum,             // VACUUM and ANALYZE are no change
    kTriggersAtStore,    // all triggers must stand, ENABLE ALWAYS, under the snapshot of a store
    kDurableStamps,      // tier 3 is used only where every stamp is the one the snapshot sees
    kDdlMark,            // DDL on a tracked relation marks everything
    kLeaseWhole,         // a put value needs every id of its slots complete for the lease, the newest too
    kPrefixAtStore,      // a value is stored only by who has seen every forget_prefix() of its namespace
    kRemoteStamps,       // tier 2 is used only where every stamp is the one the snapshot sees
    kCallersSession,     // what a builder made of the session of its caller is not stored
    kOwnOrder,           // a put value has seen every change that its own transaction makes of its tags
    kPutAsBuilt,         // where there is a builder, a value is put only if it is what the builder gives
    kPendingRuns,        // whoever has marked `*` and not been seen to end must still be running now
    kEndedGeneration,    // a writer of `*` that is seen to have ended starts a new generation
    kEndedSeen,          // writers of `*` that have ended must be complete
    kCount
};

#ifdef PROMPT_CACHE_TEST
inline std::uint32_t removed_rules = 0;
inline bool applies(Rule rule) noexcept {
    return (removed_rules & (1u << static_cast<unsigned>(rule))) == 0;
}
#else
constexpr bool applies(Rule) noexcept {
    return true;
}
#endif

}  // namespace prompt_cache::core
