#include "cache/put.hpp"

#include "cache/lease.hpp"
#include "cache/value_store.hpp"
#include "cache/writer.hpp"
#include "pg/attempt.hpp"
#include "pg/query.hpp"

namespace prompt_cache {

namespace {

using core::applies;
using core::Rule;

// In TopTransactionContext, the newest first.
struct PendingLocal {
    PendingLocal* next;
    SubTransactionId subtransaction;
    ValueToStore value;
    core::SnapshotView view;
};
PendingLocal* pending_local = nullptr;

// A subtransaction that had written was rolled back: what the application has read may be what never was.
bool undone_local = false;

struct PutJudge {
    core::SnapshotView view;
    core::Xid own;
};

std::optional<Dependency> depend_for_put(const void* context, Tag tag) {
    const auto* judge = static_cast<const PutJudge*>(context);
    const auto gen = applies(Rule::kLeaseWhole) ? put_generation(tag, judge->view, judge->own)
                                                : store_generation(tag, judge->view);
    if (!gen) return std::nullopt;
    return Dependency(slot_number(tag), *gen);
}

core::Xid own_xid() noexcept {
    return full_xid(GetTopTransactionIdIfAny());
}

template <typename Holds>
bool all_tags(const ValueToStore& value, Holds holds) {
    return holds(Tag(TagKind::kAll)) && holds(entry_tag(value.name, value.key)) && holds(namespace_tag(value.name)) &&
           holds(prefix_tag(value.name)) && std::all_of(value.tags.begin(), value.tags.end(), holds);
}

bool can_depend(const PutJudge& judge, const ValueToStore& value) {
    return all_tags(value, [&](Tag tag) { return depend_for_put(&judge, tag).has_value(); });
}

// The transaction has ended and everybody can see it. Nothing here may raise an error.
void publish() noexcept {
    // The oldest first: of two puts to one key the later one stays.
    PendingLocal* oldest = nullptr;
    while (pending_local) {
        PendingLocal* const one = pending_local;
        pending_local = one->next;
        one->next = oldest;
        oldest = one;
    }
    for (const PendingLocal* one = oldest; one; one = one->next) {
        const PutJudge judge{one->view, own_xid()};
        const auto prefix = depend_for_put(&judge, prefix_tag(one->value.name));
        if (prefix) store_value(one->value, depend_for_put, &judge, &*prefix, false);
    }
}

void at_transaction_event(XactEvent event, void*) {
    if (event == XACT_EVENT_COMMIT && shared) publish();
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
    lease::at_end_of_transaction(undone_local || (event == XACT_EVENT_ABORT && own_xid() != 0));
    pending_local = nullptr;
    undone_local = false;
}

void at_subtransaction_event(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void*) {
    if (event == SUBXACT_EVENT_COMMIT_SUB)
        for (PendingLocal* one = pending_local; one; one = one->next)
            if (one->subtransaction == own) one->subtransaction = parent;
    if (event != SUBXACT_EVENT_ABORT_SUB) return;
    undone_local |= TransactionIdIsValid(GetCurrentTransactionIdIfAny());
    while (pending_local && pending_local->subtransaction >= own) pending_local = pending_local->next;
}

template <typename T>
std::span<const T> keep(std::span<const T> items) {
    auto* copy = static_cast<T*>(MemoryContextAlloc(TopTransactionContext, items.size_bytes() + 1));
    std::copy(items.begin(), items.end(), copy);
    return {copy, items.size()};
}

std::string_view keep(std::string_view bytes) {
    const std::span<const char> copy = keep(std::span<const char>(bytes.data(), bytes.size()));
    return {copy.data(), copy.size()};
}

bool same(const text* built, const std::optional<std::string_view>& value) {
    return built ? value && view_of(built) == *value : !value;
}

// The build that proves a value of a namespace with a builder; null if it does not. Nothing watches what it has read beside
// the watches, so nothing would tell of a change between the put and the commit. The builder's error is no error of the put,
// unless the statement is cancelled.
const BuildLocal* prove(ValueContext& context, const NewPut& put) {
    const char* name = copy_into(CurrentMemoryContext, context.space->name()).data();
    const char* key = copy_into(CurrentMemoryContext, put.key).data();
    BuiltValue built{};
    const ErrorData* error = attempt([&] { built = build_to_compare(context, put.key); }, is_cancel);
    if (error) {
        ereport(NOTICE,
                (errmsg("the builder of namespace \"%s\" failed, so nothing was put", name), errdetail("%s", error->message),
                 errhint("SELECT prompt_cache.rebuild(%s, %s);", quote_literal_cstr(name), quote_literal_cstr(key))));
        return nullptr;
    }
    for (const Tag tag : put.tags) built.build->tags.add(tag);
    const bool proved = is_whole(*built.build) && !built.build->has_gap &&
                        (same(built.value, put.value) || !applies(Rule::kPutAsBuilt));
    return proved ? built.build : nullptr;
}

}  // namespace

void drop_puts_on(Tag tag) noexcept {
    for (PendingLocal** link = &pending_local; *link;) {
        if (tag == Tag(TagKind::kAll) || !all_tags((*link)->value, [&](Tag other) { return other != tag; }))
            *link = (*link)->next;
        else
            link = &(*link)->next;
    }
}

void install_puts() {
    RegisterXactCallback(at_transaction_event, nullptr);
    RegisterSubXactCallback(at_subtransaction_event, nullptr);
}

bool put_value(ValueContext& context, const NewPut& put) {
    // Whether it would be stored is no function of what the snapshot sees.
    if (context.around) context.around->exact = false;
    std::optional<LeaseShared> lease;
    if (put.lease && shared)
        lease = lease::give_back(*put.lease, EntryKey(EntryKind::kValue, put.key, context.space->wiring()));
    if ((put.lease && !lease) || !context.use_memory || context.judge.by != Judge::By::kMarks || !context.space->sound() ||
        (put.value && put.value->size() > memory::largest_value()))
        return false;

    const BuildLocal* build = nullptr;
    if (context.space->has_builder()) {
        build = prove(context, put);
        if (!build) return false;
        lease.reset();
    } else if (undone_local || (lease && lease->own != 0 && !lease->is_own())) {
        return false;
    }

    const Namespace& space = *context.space;
    const std::int64_t lifetime = put.lifetime.value_or(space.ttl());
    const std::int64_t own_deadline = put.lifetime && *put.lifetime != INT64_MAX ? context.now + *put.lifetime : INT64_MAX;
    ValueToStore value{
        .wiring = space.wiring(),
        .partition = space.partition,
        .name = space.name(),
        .key = put.key,
        .flags = static_cast<std::uint8_t>(kPut | (put.value ? kFound : 0)),
        .value = put.value.value_or(std::string_view{}),
        .tags = put.tags,
        .lifetime = lifetime,
        .deadline = own_deadline,
    };
    if (build) {
        if (build->deadline < INT64_MAX) value.flags |= kHasDeadline;
        if (!build->durable) value.flags |= kUnlogged;
        value.tags = build->tags.tags();
        value.lifetime = std::min(lifetime, space.ttl());
        value.deadline = std::min(own_deadline, build->deadline);
    }
    if (value.tags.size() > kMaxFurtherTags - 2) return false;

    std::optional<core::LeaseOrder> order;
    if (lease) order = {lease->is_own(), lease->command};
    const core::Command seen = core::seen_before(context.judge.snapshot->curcid, order);
    const core::SnapshotView view = lease ? lease::view_of(*lease) : context.judge.view;
    if (view.xmin < context.judge.since || !all_tags(value, [&](Tag tag) { return !has_unseen_change(tag, seen); }) ||
        !can_depend({view, own_xid()}, value) || !can_depend({context.judge.view, own_xid()}, value))
        return false;

    value.name = keep(value.name);
    value.key = keep(value.key);
    value.value = keep(value.value);
    value.tags = keep(value.tags);
    auto* pending = static_cast<PendingLocal*>(MemoryContextAlloc(TopTransactionContext, sizeof(PendingLocal)));
    *pending = {pending_local, GetCurrentSubTransactionId(), value, {view.xmin, view.xmax, keep(view.running)}};
    pending_local = pending;
    return true;
}

}  // namespace prompt_cache
