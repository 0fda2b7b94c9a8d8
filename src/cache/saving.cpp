#include "cache/saving.hpp"

#include "pg/settings.hpp"

extern "C" {
#include "storage/latch.h"
}

namespace prompt_cache::saving {

namespace {

SavingShared& list() noexcept {
    return *shared.saving;
}

constexpr std::int64_t kHousekeepingNaps = 20;  // while nonces are left
constexpr std::int64_t kQuietNaps = 3600;       // while nothing changes: rows grow old all the same
constexpr std::int64_t kOrderNaps = 300;        // between two times that the usage order is written

// Under the lock. Null if the table of databases is full.
SavingDatabaseShared* find_or_make(Oid oid) noexcept {
    if (SavingDatabaseShared* database = find(oid)) return database;
    SavingDatabaseShared* place = find(InvalidOid);
    if (!place) return nullptr;
    *place = SavingDatabaseShared{};
    place->oid = oid;
    place->cleaned = place->ordered = memory::now();
    return place;
}

// Under the lock. Must the launcher be told?
bool want(SavingDatabaseShared& database) noexcept {
    if (database.wanted) return false;
    database.wanted = true;
    database.wanted_since = memory::now();
    return database.worker == 0;
}

std::uint64_t hits() noexcept {
    return shared.partitions[0].statistics.sum(core::Counter::kHitsMemory);
}

}  // namespace

SavingDatabaseShared* find(Oid oid) noexcept {
    for (SavingDatabaseShared& database : list().databases)
        if (database.oid == oid) return &database;
    return nullptr;
}

std::int64_t naps(std::int64_t count) noexcept {
    return count * settings::persist_naptime * 1000;
}

std::int64_t housekeeping_due(const SavingDatabaseShared& database) noexcept {
    return database.cleaned + naps(database.unclean ? kHousekeepingNaps : kQuietNaps);
}

std::int64_t order_due(const SavingDatabaseShared& database) noexcept {
    return database.warmed && hits() != database.ordered_hits ? database.ordered + naps(kOrderNaps)
                                                              : INT64_MAX;
}

std::int64_t due(const SavingDatabaseShared& database) noexcept {
    std::int64_t at = std::min(housekeeping_due(database), order_due(database));
    if (database.wanted) at = std::min(at, database.wanted_since + naps(1));
    if (database.walk_at != 0) at = std::min(at, database.walk_at);
    return at;
}

void wake_launcher() noexcept {
    if (list().launcher != 0) SetLatch(&GetPGProcByNumber(list().launcher_proc)->procLatch);
}

bool is_warm() noexcept {
    LWLockAcquire(shared.saving_lock, LW_SHARED);
    const SavingDatabaseShared* database = find(MyDatabaseId);
    const bool warm = database && database->warmed;
    LWLockRelease(shared.saving_lock);
    return warm;
}

std::uint32_t composition_of(const FoundEntry* user, const FoundEntry* tenant,
                             const FoundEntry* application) noexcept {
    // Serials only have to be told apart; odd factors keep the three from cancelling each other out.
    const auto serial = [](const FoundEntry* entry) { return entry ? entry->header.serial : 0u; };
    const std::uint32_t number =
        serial(user) * 0x9E3779B1u ^ serial(tenant) * 0x85EBCA77u ^ serial(application) * 0xC2B2AE3Du;
    return number == 0 ? 1 : number;
}

void note(const FoundEntry& user, std::uint32_t composition) noexcept {
    if (user.header.noted == composition) return;
    bool wake = false;
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    SavingDatabaseShared* database = find_or_make(MyDatabaseId);
    if (database) {
        wake = want(*database);
        if (list().count < SavingShared::kItems)
            list().items[list().count++] = {MyDatabaseId, user.header.hash};
        else
            database->walk = true;
    }
    LWLockRelease(shared.saving_lock);
    if (wake) wake_launcher();
    if (database) memory::set_noted(user, composition);
}

void note_database() noexcept {
    static Oid noted = InvalidOid;
    if (noted == MyDatabaseId) return;
    noted = MyDatabaseId;
    bool wake = false;
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = find_or_make(MyDatabaseId); database && !database->warmed)
        wake = want(*database);
    LWLockRelease(shared.saving_lock);
    if (wake) wake_launcher();
}

void note_nonces(std::size_t count) noexcept {
    bool wake = false;
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = find_or_make(MyDatabaseId)) {
        wake = !database->unclean && database->worker == 0;
        database->unclean = true;
        database->nonces_at = memory::now();
        database->nonces += static_cast<std::int64_t>(count);
    }
    LWLockRelease(shared.saving_lock);
    if (wake) wake_launcher();
}

namespace {

// Under the lock.
std::uint32_t take_of(Oid database, SavingItemShared* items, std::uint32_t most) noexcept {
    std::uint32_t taken = 0;
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < list().count; i++) {
        const SavingItemShared item = list().items[i];
        if (item.database != database || taken == most)
            list().items[kept++] = item;
        else if (items)
            items[taken++] = item;
    }
    list().count = kept;
    return taken;
}

}  // namespace

std::uint32_t take(SavingItemShared* items, std::uint32_t most) noexcept {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    const std::uint32_t taken = take_of(MyDatabaseId, items, most);
    LWLockRelease(shared.saving_lock);
    return taken;
}

bool any_noted() noexcept {
    LWLockAcquire(shared.saving_lock, LW_SHARED);
    const SavingDatabaseShared* database = find(MyDatabaseId);
    bool any = database && database->walk;
    for (std::uint32_t i = 0; i < list().count && !any; i++) any = list().items[i].database == MyDatabaseId;
    LWLockRelease(shared.saving_lock);
    return any;
}

std::optional<std::uint32_t> take_walk() noexcept {
    std::optional<std::uint32_t> bucket;
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = find(MyDatabaseId); database && database->walk) {
        bucket = database->walk_bucket;
        database->walk = false;
        database->walk_bucket = 0;
    }
    LWLockRelease(shared.saving_lock);
    return bucket;
}

void put_walk_back(std::uint32_t bucket) noexcept {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = find(MyDatabaseId)) {
        // If the list was full again meanwhile, what was noted then may lie behind: from the beginning.
        database->walk_bucket = database->walk ? 0 : bucket;
        database->walk = true;
        want(*database);
    }
    LWLockRelease(shared.saving_lock);
}

void forget_items() noexcept {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    take_of(MyDatabaseId, nullptr, SavingShared::kItems);
    LWLockRelease(shared.saving_lock);
    take_walk();
}

void forget_database(Oid oid) noexcept {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    take_of(oid, nullptr, SavingShared::kItems);
    if (SavingDatabaseShared* database = find(oid)) *database = SavingDatabaseShared{};
    LWLockRelease(shared.saving_lock);
}

}  // namespace prompt_cache::saving
