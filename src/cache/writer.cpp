#include "cache/writer.hpp"

#include "cache/attachment.hpp"
#include "cache/memory.hpp"
#include "cache/partition.hpp"
#include "cache/put.hpp"
#include "cache/saving.hpp"
#include "cache/slots.hpp"
#include "cache/sources.hpp"
#include "cache/transaction.hpp"
#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/expression_objects.hpp"
#include "pg/pause.hpp"
#include "pg/query.hpp"
#include "pg/temporary_objects.hpp"
#include "tier/feed.hpp"
#include "tier/nonce.hpp"

namespace prompt_cache {

using core::applies;
using core::Rule;

namespace {

core::TagSet dirty_local;
bool premarked_local = false;
bool dropped_local = false;
bool view_dropped_local = false;
Oid dropped_database_local = InvalidOid;

// Prefixes of keys that this transaction has declared changed; in TopTransactionContext.
struct DirtyPrefixLocal {
    DirtyPrefixLocal* next;
    std::string_view name;
    std::string_view prefix;
};
DirtyPrefixLocal* prefixes_local = nullptr;
unsigned prefix_count_local = 0;
constexpr unsigned kMaxPrefixes = 64;  // more of them count as whole namespaces

core::Xid own_xid() {
    return U64FromFullTransactionId(GetTopFullTransactionId());
}

// What a message is about.
struct Changed {
    Oid relation = InvalidOid;
    std::uint32_t object = 0;
    bool is_code = false;
    bool anything = false;
};

// Most messages are about what cannot be a source: catalogs, what is temporary, indexes. One that is gone can
// be, and what is a composite type can be part of an expression.
bool can_be_source(Oid relation) {
    if (relation < FirstNormalObjectId) return false;
    const char kind = get_rel_relkind(relation);
    return kind == '\0' ||
           ((kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE || kind == RELKIND_VIEW ||
             kind == RELKIND_COMPOSITE_TYPE) &&
            get_rel_persistence(relation) != RELPERSISTENCE_TEMP);
}

std::optional<Changed> changed_by(const SharedInvalidationMessage& message) {
    if (message.id == SHAREDINVALRELCACHE_ID) {
        const Oid relation = message.rc.relId;
        if (message.rc.dbId != MyDatabaseId) return std::nullopt;
        if (!OidIsValid(relation)) return Changed{.anything = true};
        if (!can_be_source(relation)) return std::nullopt;
        return Changed{.relation = relation, .object = catalog_object(kNoCache, relation)};
    }
    if (message.id < 0 || message.cc.dbId != MyDatabaseId ||
        std::find(std::begin(kObjectCaches), std::end(kObjectCaches), message.id) == std::end(kObjectCaches))
        return std::nullopt;
    const std::uint32_t object = catalog_object(message.id, message.cc.hashValue);
    if (temporary_objects::contains(object)) return std::nullopt;
    return Changed{.object = object, .is_code = is_code_cache(message.id)};
}

// What is prepared may become part of something before it commits, when nobody looks again.
SourceSet sources_at_end(bool prepares) {
    const bool is_here = OidIsValid(own_relation(OwnRelation::kAttachment));
    return prepares && is_here ? SourceSet::unknown() : sources_until_end();
}

// Did this transaction change the definition of a source? VACUUM and ANALYZE send the same messages as DDL;
// they change no row, and an id assigned inside a lazy VACUUM would be missing from other snapshots.
bool changed_a_source(bool prepares) {
    if (applies(Rule::kVacuum) && is_vacuuming()) return false;
    SharedInvalidationMessage* messages = nullptr;
    bool init_file = false;
    const int count = xactGetCommittedInvalidationMessages(&messages, &init_file);
    if (count > 0) temporary_objects::complete();
    std::optional<SourceSet> sources;
    bool found = false;
    if (view_dropped_local) {
        sources = sources_at_end(prepares);
        found = sources->has_builders();
    }
    for (int i = 0; i < count && !found; i++) {
        const std::optional<Changed> changed = changed_by(messages[i]);
        if (!changed) continue;
        if (!sources) sources = sources_at_end(prepares);
        if (sources->empty()) break;
        found = changed->anything || (changed->is_code && sources->has_builders()) ||
                (OidIsValid(changed->relation) && sources->contains(changed->relation)) ||
                sources->contains_object(changed->object);
    }
    if (messages) pfree(messages);
    return found;
}

// After the marks: who stores from now on has seen them, and what was stored before is found here.
void drop_prefix(std::string_view name, std::string_view prefix) noexcept {
    if (!shared) return;
    const PartitionRef partition = partition::find(name);
    if (partition.holds()) memory::walk_prefix(partition.number, prefix, memory::WithPrefix::kDrop);
}

void before_end_of_transaction(bool prepares) {
    const bool ddl = applies(Rule::kDdlMark) && changed_a_source(prepares);
    if (ddl || dropped_local) {
        dirty_local.add_all(GetCurrentCommandId(false));
        drop_puts_on(Tag(TagKind::kAll));  // made before DDL that no trigger has told of
    }
    const bool marks = !dirty_local.empty();
    if (marks) {
        const Tag all(TagKind::kAll);
        static_assert(sizeof(Tag) == sizeof(std::uint64_t));
        const std::span<const std::uint64_t> hashes = dirty_local.tags();
        const std::span<const Tag> tags =
            dirty_local.all()
                ? std::span<const Tag>{&all, 1}
                : std::span<const Tag>{reinterpret_cast<const Tag*>(hashes.data()), hashes.size()};
        const core::Xid writer = own_xid();
        if (!dropped_local) insert_nonces(tags);  // else their table is gone with the extension
        if (shared) saving::note_nonces(tags.size());
        feed::note(tags, writer);
        if (applies(Rule::kMarkBeforeEnd)) mark_tags(tags, writer);
        for (const DirtyPrefixLocal* one = prefixes_local; one; one = one->next) drop_prefix(one->name, one->prefix);
    }
    premarked_local = true;
    if (marks) PC_PAUSE("mark|commit");
}

void after_end_of_transaction(bool committed) noexcept {
    // What readers stored after the drop was announced; by now nobody is left, or sees the extension.
    if (committed && OidIsValid(dropped_database_local) && shared)
        memory::drop_database(dropped_database_local);
    dropped_database_local = InvalidOid;
    if (TransactionIdIsValid(GetTopTransactionIdIfAny())) forget_stamps();
    forget_fresh_attachment();
    forget_fresh_namespace();
    forget_own_query(0);
    temporary_objects::forget();
    premarked_local = false;
    dropped_local = view_dropped_local = false;
    dirty_local.clear();
    prefixes_local = nullptr;
    prefix_count_local = 0;
}

#ifdef PROMPT_CACHE_TEST
// Negative control: the mark comes when everybody can see the change already.
void late_mark(core::Xid writer) {
    if (applies(Rule::kMarkBeforeEnd) || dirty_local.empty()) return;
    const std::span<const std::uint64_t> hashes = dirty_local.tags();
    pg_usleep(2000);
    mark_tags({reinterpret_cast<const Tag*>(hashes.data()), hashes.size()}, writer);
}
#endif

void at_transaction_event(XactEvent event, void*) {
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PRE_PREPARE:
            before_end_of_transaction(event == XACT_EVENT_PRE_PREPARE);
            break;
        case XACT_EVENT_COMMIT:
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE:
        case XACT_EVENT_PARALLEL_COMMIT:
        case XACT_EVENT_PARALLEL_ABORT:
#ifdef PROMPT_CACHE_TEST
            if (event == XACT_EVENT_COMMIT && !dirty_local.empty())
                PC_PAUSE("commit|tell");  // visible; its messages are not sent yet
            if (event == XACT_EVENT_COMMIT) late_mark(full_xid(GetTopTransactionIdIfAny()));
#endif
            after_end_of_transaction(event == XACT_EVENT_COMMIT);
            forget_transaction();
            break;
        default:
            break;
    }
}

void at_subtransaction_event(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    if (event != SUBXACT_EVENT_ABORT_SUB) return;
    forget_fresh_attachment();
    forget_fresh_namespace();
    forget_own_query(GetCurrentTransactionNestLevel());
}

}  // namespace

void install_writer() {
    std::uint64_t random = 0;
    if (pg_strong_random(&random, sizeof(random))) dirty_local.choose_hash(random);
    RegisterXactCallback(at_transaction_event, nullptr);
    RegisterSubXactCallback(at_subtransaction_event, nullptr);
}

void note_change(Tag tag) {
    drop_puts_on(tag);
    // Taken as used, so that the next statement has a higher one and counts as seeing the change, also where no row was
    // written.
    const core::Command command = GetCurrentCommandId(true);
    if (tag == Tag(TagKind::kAll))
        dirty_local.add_all(command);
    else
        dirty_local.add(tag.hash, command);
    if (!premarked_local || !applies(Rule::kPremarkedNonce)) return;
    // Our turn at PRE_COMMIT is over and another extension is still writing.
    insert_nonces({&tag, 1});
    feed::note({&tag, 1}, own_xid());
    mark_tags({&tag, 1}, own_xid());
}

void note_prefix(std::string_view name, std::string_view prefix) {
    if (prefix_count_local == kMaxPrefixes) {
        note_change(namespace_tag(name));
        return;
    }
    const auto keep = [](std::string_view bytes) { return copy_into(TopTransactionContext, bytes); };
    auto* one = static_cast<DirtyPrefixLocal*>(MemoryContextAlloc(TopTransactionContext, sizeof(DirtyPrefixLocal)));
    *one = {prefixes_local, keep(name), keep(prefix)};
    prefixes_local = one;
    prefix_count_local++;
    note_change(prefix_tag(name));
    if (premarked_local) drop_prefix(one->name, one->prefix);
}

void note_extension_dropped() noexcept {
    dropped_local = true;
    note_database_dropped(MyDatabaseId);
}

void note_view_dropped() noexcept {
    view_dropped_local = true;
}

void note_database_dropped(Oid database) noexcept {
    dropped_database_local = database;
}

bool anything_is_dirty() noexcept {
    return applies(Rule::kOwnDirty) && !dirty_local.empty();
}
bool is_dirty(Tag tag) noexcept {
    return applies(Rule::kOwnDirty) && dirty_local.contains(tag.hash);
}
bool everything_is_dirty() noexcept {
    return applies(Rule::kOwnDirty) && (dirty_local.all() || dropped_local);
}
bool is_dirty_prefix(std::string_view name, std::string_view key) noexcept {
    if (!applies(Rule::kOwnDirty)) return false;
    for (const DirtyPrefixLocal* one = prefixes_local; one; one = one->next)
        if (one->name == name && key.starts_with(one->prefix)) return true;
    return false;
}
bool has_unseen_change(Tag tag, core::Command seen) noexcept {
    return core::unseen_change(dirty_local, tag.hash, seen);
}
bool is_premarked() noexcept {
    return premarked_local;
}

}  // namespace prompt_cache
