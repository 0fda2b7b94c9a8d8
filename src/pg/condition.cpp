#include "pg/condition.hpp"

namespace prompt_cache {

namespace {

// What builders, expressions and stored rows may meet; others are shown by their code alone.
constexpr std::string_view kConditions[] = {
    "0A000 feature_not_supported", "20000 case_not_found", "21000 cardinality_violation", "22000 data_exception",
    "22001 string_data_right_truncation", "22003 numeric_value_out_of_range", "22004 null_value_not_allowed",
    "22007 invalid_datetime_format", "22008 datetime_field_overflow", "2200M invalid_xml_document",
    "22011 substring_error", "22012 division_by_zero", "22018 invalid_character_value_for_cast",
    "2201B invalid_regular_expression", "2201E invalid_argument_for_logarithm", "22021 character_not_in_repertoire",
    "22023 invalid_parameter_value", "2202E array_subscript_error", "22032 invalid_json_text",
    "22P01 floating_point_exception", "22P02 invalid_text_representation", "22P03 invalid_binary_representation",
    "22P05 untranslatable_character", "23000 integrity_constraint_violation", "23502 not_null_violation",
    "23503 foreign_key_violation", "23505 unique_violation", "23514 check_violation", "23P01 exclusion_violation",
    "25006 read_only_sql_transaction", "25P02 in_failed_sql_transaction",
    "2F005 function_executed_no_return_statement", "40000 transaction_rollback", "40001 serialization_failure",
    "40P01 deadlock_detected", "42501 insufficient_privilege", "42601 syntax_error", "42702 ambiguous_column",
    "42703 undefined_column", "42704 undefined_object", "42725 ambiguous_function", "42804 datatype_mismatch",
    "42809 wrong_object_type", "42830 invalid_foreign_key", "42846 cannot_coerce", "42883 undefined_function",
    "42P01 undefined_table", "42P02 undefined_parameter", "42P13 invalid_function_definition",
    "42P17 invalid_object_definition", "42P18 indeterminate_datatype", "42P19 invalid_recursion",
    "42P21 collation_mismatch", "42P22 indeterminate_collation", "53000 insufficient_resources", "53100 disk_full",
    "53200 out_of_memory", "53300 too_many_connections", "53400 configuration_limit_exceeded",
    "54000 program_limit_exceeded", "54001 statement_too_complex", "54023 too_many_arguments",
    "55000 object_not_in_prerequisite_state", "55006 object_in_use", "55P03 lock_not_available",
    "55P04 unsafe_new_enum_value_usage", "57000 operator_intervention", "57014 query_canceled",
    "57P01 admin_shutdown", "57P02 crash_shutdown", "57P04 database_dropped", "58000 system_error", "58030 io_error",
    "58P01 undefined_file", "P0000 plpgsql_error", "P0001 raise_exception", "P0002 no_data_found",
    "P0003 too_many_rows", "P0004 assert_failure", "XX000 internal_error", "XX001 data_corrupted",
    "XX002 index_corrupted",
};

}  // namespace

const char* describe_code(int code) {
    const char* state = unpack_sql_state(code);
    for (const std::string_view condition : kConditions)
        if (condition.starts_with(state)) return psprintf("SQLSTATE %s (%s)", state, condition.data() + 6);
    return psprintf("SQLSTATE %s", state);
}

}  // namespace prompt_cache
