#include "session.hpp"

#include <algorithm>
#include <thread>

namespace load {

namespace {
std::atomic<int> next_session_id = 1;
}

Session::Session(std::string conninfo, std::string name)
    : conninfo_(std::move(conninfo)), name_(std::move(name)) {
    connect();
    if (PQstatus(connection_) != CONNECTION_OK) throw SqlError{"", PQerrorMessage(connection_)};
}

void Session::connect() {
    if (connection_) PQfinish(connection_);
    connection_ = PQconnectdb((conninfo_ + " application_name='" + name_ + "'").c_str());
    PQsetNoticeProcessor(
        connection_, [](void*, const char*) {}, nullptr);
    prepared_.clear();
    id_ = next_session_id.fetch_add(1);
}

Rows Session::check(PGresult* result) {
    Rows rows(result);
    const ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_COPY_IN) return rows;
    if (PQstatus(connection_) != CONNECTION_OK || !result) throw SqlError{"", PQerrorMessage(connection_)};
    const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    throw SqlError{state ? state : "", PQresultErrorMessage(result)};
}

Rows Session::run(const std::string& sql, const Parameters& parameters) {
    if (parameters.empty()) return check(PQexec(connection_, sql.c_str()));
    std::vector<const char*> values;
    for (const std::string& value : parameters) values.push_back(value.c_str());
    return check(PQexecParams(connection_, sql.c_str(), static_cast<int>(values.size()), nullptr,
                              values.data(), nullptr, nullptr, 0));
}

Rows Session::run_prepared(const std::string& name, const std::string& sql, const Parameters& parameters) {
    if (std::find(prepared_.begin(), prepared_.end(), name) == prepared_.end()) {
        check(PQprepare(connection_, name.c_str(), sql.c_str(), 0, nullptr));
        prepared_.push_back(name);
    }
    std::vector<const char*> values;
    for (const std::string& value : parameters) values.push_back(value.c_str());
    return check(PQexecPrepared(connection_, name.c_str(), static_cast<int>(values.size()), values.data(),
                                nullptr, nullptr, 0));
}

void Session::copy_in(const std::string& sql, const std::string& lines) {
    check(PQexec(connection_, sql.c_str()));
    PQputCopyData(connection_, lines.data(), static_cast<int>(lines.size()));
    PQputCopyEnd(connection_, nullptr);
    PGresult* result = PQgetResult(connection_);
    while (PGresult* rest = PQgetResult(connection_)) PQclear(rest);
    check(result);
}

bool Session::busy() {
    PQconsumeInput(connection_);
    return PQisBusy(connection_) != 0;
}

Rows Session::receive() {
    PGresult* result = PQgetResult(connection_);
    while (PGresult* rest = PQgetResult(connection_)) PQclear(rest);
    return check(result);
}

bool Session::recover() {
    if (PQstatus(connection_) == CONNECTION_OK) {
        if (PQtransactionStatus(connection_) == PQTRANS_IDLE) return true;
        PQclear(PQexec(connection_, "ROLLBACK"));
        if (PQtransactionStatus(connection_) == PQTRANS_IDLE) return true;
    }
    for (int tries = 0; tries < 300; tries++) {
        connect();
        reconnects_++;
        if (PQstatus(connection_) == CONNECTION_OK) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return false;
}

std::string array_of(const std::vector<Id>& ids) {
    std::string text = "{";
    for (const Id id : ids) text += (text.size() > 1 ? "," : "") + std::to_string(id);
    return text + "}";
}

}  // namespace load
