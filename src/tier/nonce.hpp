// Durable proof: the table tag_nonce, and the stamps that tier 3 carries.
//
// Every writer leaves one row a changed tag: (tag, a random nonce, weight 1). The stamp of a tag under a
// snapshot is the sum of the weights and the xor of the nonces of the rows the snapshot sees; it names the
// exact set of visible changes. A count could come back for other data after a failover or a restore, random
// nonces do not. Rows are only ever added (compaction keeps sum and xor), so writers never wait for each
// other here.
#pragma once

#include "pg/postgres.hpp"
#include "pg/snapshot.hpp"
#include "tier/tag.hpp"

namespace prompt_cache {

struct Stamp {
    std::int64_t weight = 0;
    std::int64_t nonces = 0;
    bool operator==(const Stamp&) const = default;
};

// Leaves one nonce a tag in the current transaction. Goes below rights, row security, search_path and
// transaction_read_only, so that no setting of the writer's can lose it. Raises what the server raises (disk
// full).
void insert_nonces(std::span<const Tag> tags);

// The stamp that the snapshot sees: an index probe, or none if this backend has asked under the same snapshot
// before.
Stamp stamp_under(Tag tag, Snapshot snapshot);
// The same for who asks several times and has the snapshot's identity at hand.
Stamp stamp_under(Tag tag, Snapshot snapshot, SnapshotIdentity identity);

// At the end of a transaction that had an id. A snapshot leaves out the own id, so that one taken before the
// commit and one taken after it can be the same numbers, while only the second sees the own nonces.
void forget_stamps() noexcept;

}  // namespace prompt_cache
