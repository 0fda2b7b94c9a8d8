#include "cache/saving.hpp"

namespace prompt_cache::saving {

namespace {

SavingShared& list() noexcept {
    return *shared.saving;
}

// Under the lock. Nothing if the table of databases is full.
SavingDatabaseShared* database_of(Oid oid, bool make) noexcept {
    SavingDatabaseShared* unused = nullptr;
    for (SavingDatabaseShared& database : list().databases) {
        if (database.oid == oid) return &database;
        if (database.oid == InvalidOid && !unused) unused = &database;
    }
    if (!make || !unused) return nullptr;
    *unused = SavingDatabaseShared{};
    unused->oid = oid;
    return unused;
}

}  // namespace

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
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    SavingDatabaseShared* database = database_of(MyDatabaseId, true);
    if (database) {
        database->wanted = true;
        if (list().count < SavingShared::kItems)
            list().items[list().count++] = {MyDatabaseId, user.unit, user.header.hash};
        else
            database->walk = true;
    }
    LWLockRelease(shared.saving_lock);
    if (database) memory::set_noted(user, composition);
}

void note_database() noexcept {
    static Oid noted = InvalidOid;
    if (noted == MyDatabaseId) return;
    noted = MyDatabaseId;
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = database_of(MyDatabaseId, true); database && !database->warmed)
        database->wanted = true;
    LWLockRelease(shared.saving_lock);
}

void note_nonces() noexcept {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = database_of(MyDatabaseId, true)) database->unclean = true;
    LWLockRelease(shared.saving_lock);
}

std::uint32_t take(SavingItemShared* items, std::uint32_t most) noexcept {
    std::uint32_t taken = 0;
    std::uint32_t kept = 0;
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    for (std::uint32_t i = 0; i < list().count; i++) {
        const SavingItemShared item = list().items[i];
        if (item.database == MyDatabaseId && taken < most)
            items[taken++] = item;
        else
            list().items[kept++] = item;
    }
    list().count = kept;
    LWLockRelease(shared.saving_lock);
    return taken;
}

std::optional<std::uint32_t> take_walk() noexcept {
    std::optional<std::uint32_t> bucket;
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = database_of(MyDatabaseId, false); database && database->walk) {
        bucket = database->walk_bucket;
        database->walk = false;
        database->walk_bucket = 0;
    }
    LWLockRelease(shared.saving_lock);
    return bucket;
}

void put_walk_back(std::uint32_t bucket) noexcept {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = database_of(MyDatabaseId, false)) {
        // If the list was full again meanwhile, what was noted then may lie behind: from the beginning.
        database->walk_bucket = database->walk ? 0 : bucket;
        database->walk = database->wanted = true;
    }
    LWLockRelease(shared.saving_lock);
}

void forget_items() noexcept {
    SavingItemShared item;
    while (take(&item, 1) > 0) continue;
    take_walk();
}

void forget_database(Oid oid) noexcept {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = database_of(oid, false)) *database = SavingDatabaseShared{};
    LWLockRelease(shared.saving_lock);
}

}  // namespace prompt_cache::saving
