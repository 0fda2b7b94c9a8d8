#include "cache/registry.hpp"

#include "cache/own_rows.hpp"
#include "cache/slots.hpp"

extern "C" {
#include "catalog/partition.h"
#include "utils/hsearch.h"
}

namespace prompt_cache::registry {

namespace {

struct AnswerLocal {
    struct Key {
        Oid relation;
        Oid trigger;
    };
    Key key;
    Oid source;
    bool valid;
    LocalTransactionId transaction;
    std::uint64_t star_generation;
    std::uint64_t namespaces_generation;
};
HTAB* answers_local = nullptr;

void invalidate(Oid relation) noexcept {
    if (!answers_local) return;
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, answers_local);
    while (auto* answer = static_cast<AnswerLocal*>(hash_seq_search(&scan)))
        if (!OidIsValid(relation) || answer->key.relation == relation) answer->valid = false;
}

void relation_changed(Datum, Oid relation) {
    invalidate(relation);
}

AnswerLocal& answer_for(Oid relation, Oid trigger) {
    if (!answers_local) {
        HASHCTL control{};
        control.keysize = sizeof(AnswerLocal::Key);
        control.entrysize = sizeof(AnswerLocal);
        answers_local = hash_create("prompt_cache triggers", 16, &control, HASH_ELEM | HASH_BLOBS);
        CacheRegisterRelcacheCallback(relation_changed, static_cast<Datum>(0));
    }
    const AnswerLocal::Key key{relation, trigger};
    bool found = false;
    auto* answer = static_cast<AnswerLocal*>(hash_search(answers_local, &key, HASH_ENTER, &found));
    if (!found) answer->valid = false;
    return *answer;
}

// A writer that has marked and ended is pending, until a store moves it, which begins a new generation.
bool is_unmarked_since(Wide which, std::uint64_t generation) noexcept {
    const core::WideSlot slot = wide_slot(which);
    const bool pending = slot.has_pending();
    std::atomic_thread_fence(std::memory_order_acquire);  // the other way round a move could fall in between
    return !pending && slot.gen() == generation;
}

bool holds(const AnswerLocal& answer) noexcept {
    if (!answer.valid) return false;
    if (answer.transaction == local_transaction_id()) return true;
    return shared && is_unmarked_since(Wide::kAll, answer.star_generation) &&
           is_unmarked_since(Wide::kNamespaces, answer.namespaces_generation);
}

// Compares the trigger's arguments with those of a registration, one after the other.
class Arguments {
  public:
    explicit Arguments(const Trigger& trigger) : trigger_(trigger) {}
    void expect(const char* argument) {
        same_ = same_ && next_ < trigger_.tgnargs && strcmp(trigger_.tgargs[next_], argument) == 0;
        next_++;
    }
    void expect_name(std::optional<Datum> name) {
        if (name) expect(NameStr(*DatumGetName(*name)));
    }
    void expect_text(std::optional<Datum> value) {
        if (value) expect(TextDatumGetCString(*value));
    }
    bool all_met() const { return same_ && next_ == trigger_.tgnargs; }

  private:
    const Trigger& trigger_;
    int next_ = 0;
    bool same_ = true;
};

bool is_source(std::optional<Datum> source, const List* candidates) {
    return source && list_member_oid(candidates, DatumGetObjectId(*source));
}

Oid attached_source(const OwnRow& row, const Trigger& trigger, const List* candidates) {
    if (is_source(row.column("users"), candidates)) {
        Arguments arguments(trigger);
        arguments.expect("user");
        arguments.expect_name(row.column("user_key"));
        arguments.expect_text(row.column("user_prompt"));
        arguments.expect_name(row.column("user_tenant"));
        if (arguments.all_met()) return DatumGetObjectId(*row.column("users"));
    }
    if (is_source(row.column("tenants"), candidates)) {
        Arguments arguments(trigger);
        arguments.expect("tenant");
        arguments.expect_name(row.column("tenant_key"));
        arguments.expect_text(row.column("tenant_prompt"));
        if (arguments.all_met()) return DatumGetObjectId(*row.column("tenants"));
    }
    return InvalidOid;
}

Oid watched_source(const OwnRow& row, const Trigger& trigger, const List* candidates) {
    if (!is_source(row.column("source"), candidates)) return InvalidOid;
    Arguments arguments(trigger);
    arguments.expect("watch");
    arguments.expect_text(row.column("namespace"));
    const std::optional<Datum> key = row.column("key");
    arguments.expect(key ? TextDatumGetCString(*key) : "");
    if (const std::optional<Datum> columns = row.column("columns")) {
        Datum* names = nullptr;
        int count = 0;
        deconstruct_array(DatumGetArrayTypeP(*columns), TEXTOID, -1, false, TYPALIGN_INT, &names, nullptr, &count);
        for (int i = 0; i < count; i++) arguments.expect_text(names[i]);
    }
    return arguments.all_met() ? DatumGetObjectId(*row.column("source")) : InvalidOid;
}

// As of now, own changes included: a registration holds the table's lock until its commit. Nothing if our tables are
// locked exclusively, or have lost their names.
std::optional<Oid> look_up(Relation relation, const Trigger& trigger) {
    if (!OidIsValid(own_relation(OwnRelation::kAttachment)) || !OidIsValid(own_relation(OwnRelation::kWatch)))
        return OidIsValid(get_extension_oid(kExtension, true)) ? std::nullopt : std::optional(InvalidOid);
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "prompt_cache trigger", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(scratch);
    List* candidates = list_make1_oid(RelationGetRelid(relation));
    if (relation->rd_rel->relispartition)
        candidates = list_concat(candidates, get_partition_ancestors(RelationGetRelid(relation)));
    Oid source = InvalidOid;
    LOCKMODE lock = AccessShareLock;
    const bool known = visit_own_rows(OwnRelation::kAttachment, lock,
                                      [&](const OwnRow& row) {
                                          if (!OidIsValid(source)) source = attached_source(row, trigger, candidates);
                                      }) &&
                       visit_own_rows(OwnRelation::kWatch, lock, [&](const OwnRow& row) {
                           if (!OidIsValid(source)) source = watched_source(row, trigger, candidates);
                       });
    MemoryContextSwitchTo(before);
    MemoryContextDelete(scratch);
    return known ? std::optional(source) : std::nullopt;
}

}  // namespace

Registration registration_of(Relation relation, const Trigger& trigger) {
    AnswerLocal& answer = answer_for(RelationGetRelid(relation), trigger.tgoid);
    if (holds(answer)) return {OidIsValid(answer.source) ? Registered::kYes : Registered::kNo, answer.source};
    // Before the look-up, which sees whatever has begun these generations.
    const std::uint64_t star_generation = shared ? wide_slot(Wide::kAll).gen() : 0;
    const std::uint64_t namespaces_generation = shared ? wide_slot(Wide::kNamespaces).gen() : 0;
    answer.valid = true;  // a message that arrives on the way takes it back
    const std::optional<Oid> source = look_up(relation, trigger);
    if (!source) {
        answer.valid = false;
        return {Registered::kUnknown, InvalidOid};
    }
    answer.source = *source;
    answer.transaction = local_transaction_id();
    answer.star_generation = star_generation;
    answer.namespaces_generation = namespaces_generation;
    return {OidIsValid(*source) ? Registered::kYes : Registered::kNo, *source};
}

void forget() noexcept {
    invalidate(InvalidOid);
}

}  // namespace prompt_cache::registry
