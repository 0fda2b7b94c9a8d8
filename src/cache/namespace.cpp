#include "cache/namespace.hpp"

#include "cache/memory.hpp"
#include "cache/slots.hpp"
#include "cache/writer.hpp"
#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"

extern "C" {
#include "utils/hsearch.h"
}

namespace prompt_cache {

namespace {

// Columns of prompt_cache._namespace().
enum Column {
    kWiring = 1,
    kBuilder,
    kTtl,
    kMaxEntries,
    kSliding,
    kRedis,
    kRedisTtl,
    kSound,
    kDurable,
    kProblem,
    kReaders,
    kWatched,
    kStorage,
};

struct RememberedLocal {
    char name[NAMEDATALEN];  // the key of the table
    MemoryContext context;
    Namespace value;
    Judge::By by;
};
HTAB* remembered_local = nullptr;

Namespace fresh_local;           // holds for one snapshot
bool fresh_heard_local = false;  // read when all that the snapshot sees had been heard of
MemoryContext fresh_context_local = nullptr;
SnapshotIdentity fresh_under_local;

void append(StringInfo flat, std::string_view bytes) {
    appendBinaryStringInfo(flat, bytes.data(), static_cast<int>(bytes.size()));
}

// Lists begin where they are aligned, as the texts before them need not be.
void align(StringInfo flat) {
    while (flat->len % 8 != 0) appendStringInfoChar(flat, '\0');
}

template <typename T>
std::uint32_t append_list(StringInfo flat, Datum array, Oid type) {
    Datum* items = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(array), type, sizeof(T), true, sizeof(T) == 8 ? TYPALIGN_DOUBLE : TYPALIGN_INT,
                      &items, nullptr, &count);
    align(flat);
    for (int i = 0; i < count; i++) {
        const T item = static_cast<T>(items[i]);
        append(flat, {reinterpret_cast<const char*>(&item), sizeof(item)});
    }
    return static_cast<std::uint32_t>(count);
}

std::string_view column_text(int column) {
    return result_text(0, column).value_or(std::string_view{});
}

// Asks the catalogs. The result is flat, in `context`; empty if there is no such namespace.
std::string_view read_flat(std::string_view name, MemoryContext context) {
    static Query query("SELECT * FROM prompt_cache._namespace($1)", {TEXTOID});

    std::string_view copy;
    StringInfoData flat;
    const Datum argument = PointerGetDatum(make_text(name));
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kNamespace));
    spi_connect();
    initStringInfo(&flat);
    if (query.run(&argument, nullptr, true, 1) == 1) {
        NamespaceHeader header{};
        append(&flat, {reinterpret_cast<const char*>(&header), sizeof(header)});
        const auto add_text = [&](std::string_view bytes) {
            append(&flat, bytes);
            appendStringInfoChar(&flat, '\0');
            return static_cast<std::uint32_t>(bytes.size());
        };
        const auto time = [](int column) {
            const auto micros = result_datum(0, column);
            return micros && DatumGetInt64(*micros) > 0 ? DatumGetInt64(*micros) : INT64_MAX;
        };
        header.wiring = static_cast<std::uint32_t>(DatumGetInt32(*result_datum(0, kWiring)));
        header.builder = DatumGetObjectId(*result_datum(0, kBuilder));
        header.ttl = time(kTtl);
        header.redis_ttl = time(kRedisTtl);
        header.storage = DatumGetInt64(*result_datum(0, kStorage));
        header.max_entries = static_cast<std::uint32_t>(DatumGetInt32(*result_datum(0, kMaxEntries)));
        header.sliding = DatumGetBool(*result_datum(0, kSliding));
        header.redis = DatumGetBool(*result_datum(0, kRedis));
        header.sound = DatumGetBool(*result_datum(0, kSound));
        header.durable = DatumGetBool(*result_datum(0, kDurable));
        header.name_length = add_text(name);
        header.problem_length = add_text(column_text(kProblem));
        header.reader_count = append_list<Oid>(&flat, *result_datum(0, kReaders), OIDOID);
        header.watched_count = append_list<std::int64_t>(&flat, *result_datum(0, kWatched), INT8OID);
        memcpy(flat.data, &header, sizeof(header));
        copy = copy_into(context, {flat.data, static_cast<std::size_t>(flat.len)});
    }
    SPI_finish();
    end_as_owner(before);
    return copy;
}

[[noreturn]] void complain_of_missing(std::string_view name) {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                    errmsg("there is no namespace \"%.*s\"", static_cast<int>(name.size()), name.data()),
                    errhint("Make it with prompt_cache.create_namespace(); the view prompt_cache.namespaces "
                            "lists those there are.")));
    pg_unreachable();
}

const Namespace& read_for(Snapshot snapshot, std::string_view name) {
    const SnapshotIdentity identity = identity_of(snapshot);
    if (fresh_under_local == identity && fresh_local.name() == name) return fresh_local;
    forget_fresh_namespace();
    if (!fresh_context_local)
        fresh_context_local =
            AllocSetContextCreate(TopMemoryContext, "prompt_cache fresh namespace", ALLOCSET_SMALL_SIZES);
    const std::string_view flat = read_flat(name, CurrentMemoryContext);
    if (flat.empty()) complain_of_missing(name);
    MemoryContextReset(fresh_context_local);
    fresh_local = Namespace(copy_into(fresh_context_local, flat));
    fresh_under_local = identity;
    return fresh_local;
}

RememberedLocal* remembered(std::string_view name, bool make) {
    if (name.size() >= NAMEDATALEN) return nullptr;
    if (!remembered_local) {
        HASHCTL control{};
        control.keysize = NAMEDATALEN;
        control.entrysize = sizeof(RememberedLocal);
        remembered_local = hash_create("prompt_cache namespaces", 16, &control, HASH_ELEM | HASH_STRINGS);
    }
    char key[NAMEDATALEN] = {};
    memcpy(key, name.data(), name.size());
    bool found = false;
    auto* cell = static_cast<RememberedLocal*>(
        hash_search(remembered_local, key, make ? HASH_ENTER : HASH_FIND, &found));
    if (cell && !found) {
        cell->context = nullptr;
        cell->value = Namespace();
        cell->by = Judge::By::kNothing;
    }
    return cell;
}

Tag star() noexcept {
    return Tag(TagKind::kAll);
}

// What the namespaces are.
Tag wiring_tag() noexcept {
    return Tag(TagKind::kNamespace);
}

bool still_holds(const Judge& judge, const RememberedLocal& cell) {
    const bool by_stamp = cell.by == Judge::By::kStamps;
    return cell.value.dependency && agrees(judge, *cell.value.dependency, by_stamp, star) &&
           agrees(judge, cell.value.wiring_dependency, by_stamp, wiring_tag);
}

// Dependencies: what the namespaces are, and `*`.
const Namespace& remember(std::string_view name, std::string_view flat, const Dependency* dependencies,
                          Judge::By by) {
    RememberedLocal& cell = *remembered(name, true);
    cell.value = Namespace();
    if (!cell.context)
        cell.context =
            AllocSetContextCreate(TopMemoryContext, "prompt_cache namespace", ALLOCSET_SMALL_SIZES);
    MemoryContextReset(cell.context);
    cell.value = Namespace(copy_into(cell.context, flat));
    cell.value.wiring_dependency = dependencies[0];
    cell.value.dependency = dependencies[1];
    cell.value.partition = partition::claim(name, cell.value.max_entries());
    cell.by = by;
    return cell.value;
}

const Namespace* adopt_shared_copy(const Judge& judge, std::string_view name) {
    FoundEntry found;
    if (!memory::find(EntryKey(EntryKind::kNamespace, name), found) || !agrees(judge, found, 0, wiring_tag) ||
        !agrees(judge, found, 1, star))
        return nullptr;
    char* flat = static_cast<char*>(palloc(found.header.value_length));
    const Namespace* value = nullptr;
    if (memory::read_value(found, flat) && memory::still_there(found))
        value = &remember(name, {flat, found.header.value_length}, found.dependencies, judge.by);
    pfree(flat);
    return value;
}

}  // namespace

Namespace::Namespace(std::string_view flat) : flat_(flat) {
    memcpy(&header_, flat.data(), sizeof(header_));
    std::size_t at = sizeof(header_);
    const auto take_text = [&](std::uint32_t length) {
        const char* bytes = flat.data() + at;
        at += length + 1;
        return bytes;
    };
    const auto take_list = [&](std::size_t bytes) {
        at = (at + 7) / 8 * 8;
        const char* list = flat.data() + at;
        at += bytes;
        return list;
    };
    name_ = {take_text(header_.name_length), header_.name_length};
    problem_ = take_text(header_.problem_length);
    readers_ = reinterpret_cast<const Oid*>(take_list(header_.reader_count * sizeof(Oid)));
    watched_ = reinterpret_cast<const std::int64_t*>(take_list(header_.watched_count * sizeof(std::int64_t)));
}

const std::int64_t* Namespace::watched_at(Oid relation) const {
    for (std::uint32_t at = 0; at + 1 < header_.watched_count;) {
        if (watched_[at] == static_cast<std::int64_t>(relation)) return watched_ + at;
        at += 2 + static_cast<std::uint32_t>(std::max<std::int64_t>(watched_[at + 1], 0));
    }
    return nullptr;
}

Namespace::Watch Namespace::watches(Oid relation, std::span<const AttrNumber> columns) const {
    const std::int64_t* watched = watched_at(relation);
    if (!watched) return Watch::kNone;
    if (watched[1] < 0) return Watch::kAll;
    const std::span<const std::int64_t> own{watched + 2, static_cast<std::size_t>(watched[1])};
    for (const AttrNumber column : columns)
        if (std::find(own.begin(), own.end(), column) == own.end()) return Watch::kSomeColumns;
    return Watch::kAll;
}

void Namespace::complain(const char* problem, const char* hint) const {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("namespace \"%s\" cannot be used: %s", name_.data(), problem),
                    errhint("%s", hint ? hint
                                       : "Name a builder with prompt_cache.alter_namespace(), or take a watch back with "
                                         "prompt_cache.unwatch(); see the view prompt_cache.namespaces.")));
    pg_unreachable();
}

void Namespace::require_usable() const {
    if (problem_[0] == '\0') return;
    complain(problem_, has_builder() ? look_up_builder(builder()).hint : nullptr);
}

BuilderFunction Namespace::trusted_builder() const {
    const BuilderFunction function = look_up_builder(builder());
    if (function.problem) complain(function.problem, function.hint);
    return function;
}

void Namespace::require_builder() const {
    if (has_builder()) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("namespace \"%s\" has no builder", name_.data()),
                    errhint("Read it with prompt_cache.get() and fill it with prompt_cache.put(), or give it a "
                            "builder with prompt_cache.alter_namespace().")));
}

void Namespace::require_reader() const {
    const Oid role = GetUserId();
    for (std::uint32_t i = 0; i < header_.reader_count; i++)
        if (has_privs_of_role(role, readers_[i])) return;
    if (superuser_arg(role) || has_privs_of_role(role, owner_of(OwnRelation::kNamespace))) return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("permission denied for namespace \"%s\"", name_.data()),
                    errhint("SELECT prompt_cache.allow(%s, %s);",
                            quote_literal_cstr(quote_identifier(GetUserNameFromId(role, false))),
                            quote_literal_cstr(name_.data()))));
}

Namespace copy_namespace(const Namespace& original) {
    Namespace copy(copy_into(CurrentMemoryContext, original.flat()));
    copy.dependency = original.dependency;
    copy.wiring_dependency = original.wiring_dependency;
    copy.partition = original.partition;
    return copy;
}

bool own_ddl_concerns(const Namespace& space) {
    return own_ddl_concerns(
        [](const void* context, Oid relation) { return static_cast<const Namespace*>(context)->is_source(relation); },
        &space);
}

void forget_fresh_namespace() noexcept {
    fresh_under_local = {};
    fresh_heard_local = false;
}

const Namespace& namespace_under(const Judge& judge, std::string_view name) {
    if (judge.by == Judge::By::kNothing) return read_for(judge.snapshot, name);

    if (is_dirty(wiring_tag())) return read_for(judge.snapshot, name);
    RememberedLocal* cell = remembered(name, false);
    if (cell && still_holds(judge, *cell)) {
        if (!cell->value.partition.holds())
            cell->value.partition = partition::claim(name, cell->value.max_entries());
        return cell->value;
    }
    if (const Namespace* shared_copy = adopt_shared_copy(judge, name)) return *shared_copy;
    const std::optional<Dependency> wiring = depend_on(judge, wiring_tag());
    const std::optional<Dependency> everything = depend_on(judge, star());
    // Where nobody can vouch for it, or own DDL may be in it, it holds for this snapshot.
    const bool keeps = wiring && everything && has_heard_of_ddl(judge);
    if (keeps && !fresh_heard_local) forget_fresh_namespace();
    const Namespace& fresh = read_for(judge.snapshot, name);
    fresh_heard_local = keeps;
    if (!keeps || own_ddl_concerns(fresh)) return fresh;
    const Dependency dependencies[] = {*wiring, *everything};
    const std::string_view flat = fresh.flat();
    memory::store(EntryKey(EntryKind::kNamespace, name), {.flags = dependency_flag(judge),
                                                          .pointer = {},
                                                          .value = flat,
                                                          .dependencies = dependencies});
    return remember(name, flat, dependencies, judge.by);
}

}  // namespace prompt_cache
