#include "cache/writer.hpp"

#include "cache/attachment.hpp"
#include "cache/memory.hpp"
#include "cache/saving.hpp"
#include "cache/slots.hpp"
#include "cache/sources.hpp"
#include "cache/transaction.hpp"
#include "core/tag_set.hpp"
#include "pg/pause.hpp"
#include "tier/nonce.hpp"

namespace prompt_cache {

using core::applies;
using core::Rule;

namespace {

core::TagSet dirty_local;
bool premarked_local = false;
bool dropped_local = false;
Oid dropped_database_local = InvalidOid;

core::Xid own_xid() {
    return U64FromFullTransactionId(GetTopFullTransactionId());
}

// Most messages are about what cannot be a source: catalogs, temporary tables, indexes. One that is gone can
// be.
bool can_be_source(Oid relation) {
    if (!OidIsValid(relation)) return true;  // stands for all
    if (relation < FirstNormalObjectId) return false;
    const char kind = get_rel_relkind(relation);
    return kind == '\0' || ((kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE) &&
                            get_rel_persistence(relation) != RELPERSISTENCE_TEMP);
}

// Did this transaction change the definition of a source? VACUUM and ANALYZE send the same messages as DDL;
// they change no row, and an id assigned inside a lazy VACUUM would be missing from other snapshots.
bool changed_a_source() {
    if (applies(Rule::kVacuum) && is_vacuuming()) return false;
    SharedInvalidationMessage* messages = nullptr;
    bool init_file = false;
    const int count = xactGetCommittedInvalidationMessages(&messages, &init_file);
    bool found = false;
    std::optional<SourceSet> sources;
    for (int i = 0; i < count && !found; i++) {
        const SharedInvalidationMessage& message = messages[i];
        const bool about_relation = message.id == SHAREDINVALRELCACHE_ID && message.rc.dbId == MyDatabaseId &&
                                    can_be_source(message.rc.relId);
        const bool about_schema = message.id == NAMESPACEOID && message.cc.dbId == MyDatabaseId;
        if (!about_relation && !about_schema) continue;
        if (!sources) sources = current_sources();
        if (sources->empty()) break;
        found = about_schema ? sources->contains_schema(message.cc.hashValue)
                             : !OidIsValid(message.rc.relId) || sources->contains(message.rc.relId);
    }
    if (messages) pfree(messages);
    return found;
}

void before_end_of_transaction() {
    const bool ddl = applies(Rule::kDdlMark) && changed_a_source();
    if (ddl || dropped_local) dirty_local.add_all();
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
        // TRUNCATE and rewrites are seen by every snapshot: older entries die for everybody.
        if (ddl || dropped_local) mark_tags({&all, 1}, core::kFrozenXid);
        if (applies(Rule::kMarkBeforeEnd)) mark_tags(tags, writer);
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
    premarked_local = false;
    dropped_local = false;
    dirty_local.clear();
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
            before_end_of_transaction();
            break;
        case XACT_EVENT_COMMIT:
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE:
        case XACT_EVENT_PARALLEL_COMMIT:
        case XACT_EVENT_PARALLEL_ABORT:
#ifdef PROMPT_CACHE_TEST
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
    if (event == SUBXACT_EVENT_ABORT_SUB) forget_fresh_attachment();
}

}  // namespace

void install_writer() {
    RegisterXactCallback(at_transaction_event, nullptr);
    RegisterSubXactCallback(at_subtransaction_event, nullptr);
}

void note_change(Tag tag) {
    if (tag == Tag(TagKind::kAll))
        dirty_local.add_all();
    else
        dirty_local.add(tag.hash);
    if (!premarked_local || !applies(Rule::kPremarkedNonce)) return;
    // Our turn at PRE_COMMIT is over and another extension is still writing.
    insert_nonces({&tag, 1});
    mark_tags({&tag, 1}, own_xid());
}

void note_extension_dropped() noexcept {
    dropped_local = true;
    note_database_dropped(MyDatabaseId);
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
bool is_premarked() noexcept {
    return premarked_local;
}

}  // namespace prompt_cache
