#include "cache/attachment.hpp"

#include "cache/memory.hpp"
#include "cache/slots.hpp"
#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"

namespace prompt_cache {

namespace {

// Columns of prompt_cache._attachment().
enum Column {
    kUserKeyType = 1,
    kTenantKeyType,
    kOwners,
    kTables,
    kQueries,
    kConditions,
    kProblem,
    kSound,
    kDurable,
    kSources,
    kSchemas,
    kObjects,
    kVersions,
    kStorage,
};

Attachment judged_local;                   // holds as long as its dependency on `*` does ...
Judge::By by_local = Judge::By::kNothing;  // ... which is of this kind
Attachment fresh_local;                    // holds for one snapshot
SnapshotIdentity fresh_under_local;
bool fresh_heard_local = false;  // read when all that the snapshot sees had been heard of
std::uint64_t versions_local = 0;

KeyType key_type(std::optional<std::string_view> name) {
    if (!name) return KeyType::kNone;
    if (*name == "bigint") return KeyType::kInteger;
    if (*name == "uuid") return KeyType::kUuid;
    return KeyType::kText;
}

void append_array_texts(StringInfo flat, Datum array, std::uint32_t* lengths) {
    Datum* texts = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &count);
    for (int i = 0; i < count && i < static_cast<int>(kBuilderQueries); i++) {
        if (nulls[i]) continue;
        const std::string_view query = view_of(DatumGetTextPP(texts[i]));
        lengths[i] = static_cast<std::uint32_t>(query.size());
        appendBinaryStringInfo(flat, query.data(), static_cast<int>(query.size()));
    }
}

// An array of oids or integers.
std::span<Datum> elements(Datum array) {
    Datum* values = nullptr;
    int count = 0;
    const ArrayType* type = DatumGetArrayTypeP(array);
    deconstruct_array(const_cast<ArrayType*>(type), ARR_ELEMTYPE(type), sizeof(std::uint32_t), true,
                      TYPALIGN_INT, &values, nullptr, &count);
    return {values, static_cast<std::size_t>(count)};
}

void append_number(StringInfo flat, std::uint32_t number) {
    appendBinaryStringInfo(flat, reinterpret_cast<const char*>(&number), sizeof(number));
}

// Asks the catalogs. The result is flat, in `context`.
std::string_view read_flat(MemoryContext context) {
    static Query query("SELECT * FROM prompt_cache._attachment()");

    AttachmentHeader header{};
    StringInfoData flat;
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kAttachment));
    spi_connect();
    initStringInfo(&flat);
    appendBinaryStringInfo(&flat, reinterpret_cast<const char*>(&header), sizeof(header));
    if (query.run(nullptr, nullptr, true, 1) == 1) {
        header.attached = true;
        header.user_key = key_type(result_text(0, kUserKeyType));
        header.tenant_key = key_type(result_text(0, kTenantKeyType));
        const std::span<Datum> owners = elements(*result_datum(0, kOwners));
        for (std::size_t i = 0; i < owners.size() && i < core::kLayers; i++)
            header.owner[i] = DatumGetObjectId(owners[i]);
        const std::span<Datum> tables = elements(*result_datum(0, kTables));
        for (std::size_t i = 0; i < tables.size() && i < kBuilderQueries; i++) header.table[i] = DatumGetObjectId(tables[i]);
        append_array_texts(&flat, *result_datum(0, kQueries), header.query_length);
        append_array_texts(&flat, *result_datum(0, kConditions), header.condition_length);
        const std::string_view problem = result_text(0, kProblem).value_or("");
        header.problem_length = static_cast<std::uint32_t>(problem.size());
        appendBinaryStringInfo(&flat, problem.data(), static_cast<int>(problem.size()));
        header.sound = DatumGetBool(*result_datum(0, kSound));
        header.durable = DatumGetBool(*result_datum(0, kDurable));
        for (const Datum source : elements(*result_datum(0, kSources))) {
            append_number(&flat, DatumGetObjectId(source));
            header.source_count++;
        }
        header.storage = static_cast<std::uint64_t>(DatumGetInt64(*result_datum(0, kStorage)));
        const auto append_object = [&](std::uint32_t object) {
            append_number(&flat, object);
            header.object_count++;
        };
        for (const Datum schema : elements(*result_datum(0, kSchemas)))
            append_object(catalog_object_of(NAMESPACEOID, DatumGetObjectId(schema)));
        for (const Datum object : elements(*result_datum(0, kObjects)))
            append_object(static_cast<std::uint32_t>(DatumGetInt32(object)));
        for (const Datum number : elements(*result_datum(0, kVersions))) {
            append_number(&flat, static_cast<std::uint32_t>(DatumGetInt32(number)));
            header.version_numbers++;
        }
    }
    memcpy(flat.data, &header, sizeof(header));
    const std::string_view copy = copy_into(context, {flat.data, static_cast<std::size_t>(flat.len)});
    SPI_finish();
    end_as_owner(before);
    return copy;
}

Tag star() noexcept {
    return Tag(TagKind::kAll);
}

bool still_holds(const Judge& judge, const Attachment& local) {
    if (!local.dependency || by_local != judge.by) return false;
    return judge.by == Judge::By::kMarks ? marks_agree(judge, *local.dependency)
                                         : stamp_under(star(), judge) == local.dependency->stamp();
}

bool adopt_shared_copy(const Judge& judge, Attachment& local) {
    FoundEntry found;
    if (!memory::find(EntryKey(EntryKind::kAttachment, {}), found) || !agrees(judge, found, 0, star))
        return false;
    char* flat = static_cast<char*>(palloc(found.header.value_length));
    const bool whole = memory::read_value(found, flat) && memory::still_there(found);
    if (whole) {
        local.adopt({flat, found.header.value_length});
        local.dependency = found.dependencies[0];
    }
    pfree(flat);
    return whole;
}

const Attachment& read_for(Snapshot snapshot) {
    const SnapshotIdentity identity = identity_of(snapshot);
    if (fresh_under_local == identity) return fresh_local;
    forget_fresh_attachment();
    fresh_local.adopt(read_flat(CurrentMemoryContext));
    fresh_under_local = identity;
    return fresh_local;
}

}  // namespace

void Attachment::adopt(std::string_view flat) {
    if (!context_)
        context_ = AllocSetContextCreate(TopMemoryContext, "prompt_cache attachment", ALLOCSET_SMALL_SIZES);
    dependency.reset();
    if (flat == flat_) return;
    MemoryContextReset(context_);
    flat_ = {};
    header_ = {};
    version = ++versions_local;

    // flat_ last: if memory runs out on the way, the next call must not take the rest for adopted.
    const std::string_view copy = copy_into(context_, flat);
    memcpy(&header_, copy.data(), sizeof(header_));
    std::size_t at = sizeof(header_);
    const auto take = [&](std::uint32_t length) {
        const std::string_view bytes =
            copy_into(context_, {copy.data() + at, length});  // ends in NUL, aligned
        at += length;
        return bytes.data();
    };
    for (unsigned i = 0; i < kBuilderQueries; i++) query_[i] = take(header_.query_length[i]);
    for (unsigned i = 0; i < kBuilderQueries; i++) condition_[i] = take(header_.condition_length[i]);
    problem_ = take(header_.problem_length);
    sources_ = reinterpret_cast<const Oid*>(take(header_.source_count * sizeof(Oid)));
    objects_ = reinterpret_cast<const std::uint32_t*>(take(header_.object_count * sizeof(std::uint32_t)));
    static_assert(sizeof(CatalogRow) == 2 * sizeof(std::uint32_t));
    rows_ = reinterpret_cast<const CatalogRow*>(take(header_.version_numbers * sizeof(std::uint32_t)));
    flat_ = copy;
}

void Attachment::require_usable() const {
    if (!attached())
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("no chat schema is attached to prompt_cache in this database"),
                        errhint("Call prompt_cache.attach() once, naming the users and tenants tables.")));
    if (problem_[0] != '\0')
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the attachment of prompt_cache no longer fits the tables: %s", problem_),
                        errhint("Call prompt_cache.attach() again.")));
}

bool is_attached() {
    Judge nothing;
    nothing.snapshot = GetActiveSnapshot();
    return attachment_under(nothing).usable();
}

void forget_fresh_attachment() noexcept {
    fresh_under_local = {};
    fresh_heard_local = false;
}

const Attachment& attachment_under(const Judge& judge) {
    if (judge.by == Judge::By::kNothing) return read_for(judge.snapshot);

    Attachment& local = judged_local;
    if (still_holds(judge, local)) return local;
    local.dependency.reset();
    by_local = judge.by;
    if (adopt_shared_copy(judge, local)) return local;
    const std::optional<Dependency> dependency = depend_on(judge, star());
    // Where nobody can vouch for it, or own DDL may be in it, it holds for this snapshot.
    const bool keeps = dependency && has_heard_of_ddl(judge);
    if (keeps && !fresh_heard_local) forget_fresh_attachment();
    const Attachment& fresh = read_for(judge.snapshot);
    fresh_heard_local = keeps;
    if (!keeps || !fresh.usable() || own_ddl_may_show(fresh.sources(), fresh.objects())) return fresh;
    local.adopt(fresh.flat());
    local.dependency = dependency;
    if (local.dependency)
        memory::store(EntryKey(EntryKind::kAttachment, {}), {.flags = dependency_flag(judge),
                                                             .pointer = {},
                                                             .value = local.flat(),
                                                             .dependencies = {&*local.dependency, 1}});
    return local;
}

}  // namespace prompt_cache
