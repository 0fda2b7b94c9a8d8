// What SQL calls to read and write values of namespaces: check the arguments, one call, return.
#include "cache/lease.hpp"
#include "cache/put.hpp"
#include "cache/value.hpp"
#include "cache/writer.hpp"
#include "exports.hpp"
#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"

extern "C" {
#include "utils/array.h"
#include "datatype/timestamp.h"
}

namespace prompt_cache {

namespace {

constexpr std::string_view kReservedTags = "prompt_cache:";

std::string_view required_text(FunctionCallInfo fcinfo, int number, const char* what) {
    if (PG_ARGISNULL(number))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the %s must not be NULL", what)));
    return view_of(PG_GETARG_TEXT_PP(number));
}

void check_length(std::string_view text, const char* what) {
    if (text.size() <= kMaxKeyLength) return;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the %s is too long", what),
                    errdetail("It has %zu bytes; at most %zu are allowed.", text.size(), kMaxKeyLength),
                    errhint("Use a digest of it, such as md5().")));
}

std::string_view namespace_argument(FunctionCallInfo fcinfo) {
    return required_text(fcinfo, 0, "namespace");
}

std::string_view key_argument(FunctionCallInfo fcinfo) {
    const std::string_view key = required_text(fcinfo, 1, "key");
    check_length(key, "key");
    return key;
}

Tag named_tag(std::string_view name) {
    check_length(name, "tag");
    if (name.starts_with(kReservedTags))
        ereport(ERROR, (errcode(ERRCODE_RESERVED_NAME),
                        errmsg("tag \"%.*s\" is reserved", static_cast<int>(name.size()), name.data()),
                        errdetail("Tags that begin with \"prompt_cache:\" are the extension's own."),
                        errhint("Name tags 'kind/key', as 'role/7'.")));
    return Tag(TagKind::kNamed, name);
}

// The texts of an array argument; NULL is not one.
std::span<const std::string_view> texts_argument(FunctionCallInfo fcinfo, int number, const char* what) {
    if (PG_ARGISNULL(number))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the %ss must not be NULL", what)));
    Datum* datums = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT, &datums, &nulls, &count);
    auto* texts = static_cast<std::string_view*>(palloc(count * sizeof(std::string_view) + 1));
    for (int i = 0; i < count; i++) {
        if (nulls[i])
            ereport(ERROR,
                    (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the %s must not be NULL", what),
                     errdetail("Number %d of the array is.", i + 1)));
        texts[i] = view_of(DatumGetTextPP(datums[i]));
        check_length(texts[i], what);
    }
    return {texts, static_cast<std::size_t>(count)};
}

// Microseconds; a month has 30 days.
std::int64_t microseconds_of(const Interval& interval) {
    constexpr double kMost = 9e18;
    const double micros = static_cast<double>(interval.time) +
                          (static_cast<double>(interval.day) + 30.0 * interval.month) * USECS_PER_DAY;
    if (micros < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a time to live must not be negative"),
                        errhint("It is an interval; '0' means no limit.")));
    return micros == 0 || micros > kMost ? INT64_MAX : static_cast<std::int64_t>(micros);
}

Datum text_result(FunctionCallInfo fcinfo, text* value) {
    if (!value) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(value);
}

// Whoever may call these may invalidate anything; but a namespace that is not there is a slip of the pen.
void require_namespace(std::string_view name) {
    static Query query("SELECT prompt_cache._require_namespace($1)", {TEXTOID});
    const Datum argument = PointerGetDatum(make_text(name));
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kNamespace));
    spi_connect();
    query.run(&argument, nullptr, false, 1);
    SPI_finish();
    end_as_owner(before);
}

void begin_forgetting(const char* command) {
    PreventCommandIfReadOnly(command);
    PreventCommandIfParallelMode(command);
}

}  // namespace

PC_FUNCTION(pc_fetch) {
    const std::string_view key = key_argument(fcinfo);
    ValueContext context = open_value_context(namespace_argument(fcinfo));
    const Value value = fetch_value(context, key);
    close_value_context(context);
    return text_result(fcinfo, value.value);
}

PC_FUNCTION(pc_rebuild) {
    const std::string_view key = key_argument(fcinfo);
    ValueContext context = open_value_context(namespace_argument(fcinfo));
    text* value = rebuild_value(context, key);
    close_value_context(context);
    return text_result(fcinfo, value);
}

PC_FUNCTION(pc_fetch_many) {
    const std::string_view name = namespace_argument(fcinfo);
    const std::span<const std::string_view> keys = texts_argument(fcinfo, 1, "key");
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    ValueContext context = open_value_context(name);
    // A build may look the namespace up again; what this call began with stays.
    const Namespace space = copy_namespace(*context.space);
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "prompt_cache fetch_many", ALLOCSET_DEFAULT_SIZES);
    MemoryContext outer = MemoryContextSwitchTo(scratch);
    for (const std::string_view key : keys) {
        CHECK_FOR_INTERRUPTS();
        context.space = &space;
        const Value value = fetch_value(context, key);
        Datum values[] = {PointerGetDatum(make_text(key)), PointerGetDatum(value.value),
                          PointerGetDatum(make_text(name_of(value.source)))};
        bool nulls[] = {false, value.value == nullptr, false};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
        MemoryContextReset(scratch);
    }
    MemoryContextSwitchTo(outer);
    MemoryContextDelete(scratch);
    close_value_context(context);
    return static_cast<Datum>(0);
}

PC_FUNCTION(pc_get) {
    const std::string_view key = key_argument(fcinfo);
    TupleDesc descriptor = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "prompt_cache: get must return a row");
    ValueContext context = open_value_context(namespace_argument(fcinfo));
    const Value value = get_value(context, key);
    close_value_context(context);
    Datum values[] = {PointerGetDatum(value.value), BoolGetDatum(value.found)};
    bool nulls[] = {value.value == nullptr, false};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls));
}

PC_FUNCTION(pc_put) {
    const std::string_view name = namespace_argument(fcinfo);
    NewPut put;
    put.key = key_argument(fcinfo);
    if (!PG_ARGISNULL(2)) put.value = view_of(PG_GETARG_TEXT_PP(2));
    if (!PG_ARGISNULL(3)) put.lifetime = microseconds_of(*PG_GETARG_INTERVAL_P(3));
    const std::span<const std::string_view> names = texts_argument(fcinfo, 4, "tag");
    auto* tags = static_cast<Tag*>(palloc(names.size() * sizeof(Tag) + 1));
    for (std::size_t i = 0; i < names.size(); i++) tags[i] = named_tag(names[i]);
    put.tags = {tags, names.size()};
    if (!PG_ARGISNULL(5)) put.lease = PG_GETARG_INT64(5);
    ValueContext context = open_value_context(name);
    const bool would_be_stored = put_value(context, put);
    close_value_context(context);
    PG_RETURN_BOOL(would_be_stored);
}

PC_FUNCTION(pc_lease) {
    const std::string_view key = key_argument(fcinfo);
    const std::string_view name = namespace_argument(fcinfo);
    ValueContext context = open_value_context(name);
    if (context.around) context.around->exact = false;  // as in put_value()
    const Tag tags[] = {Tag(TagKind::kAll), entry_tag(name, key), namespace_tag(name), prefix_tag(name)};
    std::optional<std::int64_t> id;
    if (context.use_memory && context.judge.by == Judge::By::kMarks)
        id = lease::take(context.judge, EntryKey(EntryKind::kValue, key, context.space->wiring()), tags);
    else if (!RecoveryInProgress())
        id = lease::new_id();  // nothing can be stored, so there is nobody to wait for: the put will be refused
    close_value_context(context);
    if (!id) PG_RETURN_NULL();
    PG_RETURN_INT64(*id);
}

PC_FUNCTION(pc_forget) {
    begin_forgetting("prompt_cache.forget()");
    const std::string_view name = namespace_argument(fcinfo);
    const std::string_view key = key_argument(fcinfo);
    require_namespace(name);
    note_change(entry_tag(name, key));
    PG_RETURN_BOOL(true);
}

PC_FUNCTION(pc_forget_tag) {
    begin_forgetting("prompt_cache.forget_tag()");
    note_change(named_tag(required_text(fcinfo, 0, "tag")));
    PG_RETURN_BOOL(true);
}

PC_FUNCTION(pc_forget_namespace) {
    begin_forgetting("prompt_cache.forget_namespace()");
    const std::string_view name = namespace_argument(fcinfo);
    require_namespace(name);
    note_change(namespace_tag(name));
    PG_RETURN_BOOL(true);
}

PC_FUNCTION(pc_forget_prefix) {
    begin_forgetting("prompt_cache.forget_prefix()");
    const std::string_view name = namespace_argument(fcinfo);
    const std::string_view prefix = required_text(fcinfo, 1, "prefix");
    check_length(prefix, "prefix");
    require_namespace(name);
    note_prefix(name, prefix);
    const PartitionRef partition = shared ? partition::find(name) : PartitionRef{};
    if (!shared || !partition.holds()) PG_RETURN_INT64(0);
    PG_RETURN_INT64(memory::walk_prefix(partition.number, prefix, memory::WithPrefix::kCount));
}

PC_FUNCTION(pc_depends_on) {
    const Tag tag = named_tag(required_text(fcinfo, 0, "tag"));
    BuildLocal* build = building::current();
    if (!build) PG_RETURN_BOOL(false);
    build->tags.add(tag);
    PG_RETURN_BOOL(true);
}

PC_FUNCTION(pc_builder_problem) {
    TupleDesc descriptor = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "prompt_cache: _builder_problem must return a row");
    const BuilderFunction builder = look_up_builder(PG_GETARG_OID(0));
    bool nulls[] = {builder.problem == nullptr, builder.hint == nullptr};
    Datum values[] = {nulls[0] ? static_cast<Datum>(0) : CStringGetTextDatum(builder.problem),
                      nulls[1] ? static_cast<Datum>(0) : CStringGetTextDatum(builder.hint)};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls));
}

PC_FUNCTION(pc_free_namespace) {
    const PartitionRef partition = shared ? partition::find(view_of(PG_GETARG_TEXT_PP(0))) : PartitionRef{};
    if (!shared || !partition.holds()) PG_RETURN_INT64(0);
    PG_RETURN_INT64(memory::drop_partition(partition.number));
}

PC_FUNCTION(pc_release_namespace) {
    if (shared) partition::release(view_of(PG_GETARG_TEXT_PP(0)));
    PG_RETURN_BOOL(true);
}

}  // namespace prompt_cache
