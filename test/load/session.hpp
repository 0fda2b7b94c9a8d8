// A connection, and the two ways a statement can fail: an error that ends the transaction, or a lost
// connection.
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>
#include <vector>

#include "common.hpp"

namespace load {

struct SqlError {
    std::string state;  // SQLSTATE; empty: the connection was lost
    std::string text;
};

class Rows {
  public:
    explicit Rows(PGresult* result) : result_(result, PQclear) {}
    int count() const { return PQntuples(result_.get()); }
    int affected() const { return std::atoi(PQcmdTuples(result_.get())); }
    bool null(int row, int column) const { return PQgetisnull(result_.get(), row, column) != 0; }
    std::string text(int row, int column) const { return PQgetvalue(result_.get(), row, column); }
    Id number(int row, int column) const { return std::atoll(PQgetvalue(result_.get(), row, column)); }
    bool flag(int row, int column) const { return PQgetvalue(result_.get(), row, column)[0] == 't'; }

  private:
    std::unique_ptr<PGresult, decltype(&PQclear)> result_;
};

using Parameters = std::vector<std::string>;

class Session {
  public:
    Session(std::string conninfo, std::string name);
    ~Session() { PQfinish(connection_); }
    Session(const Session&) = delete;

    Rows run(const std::string& sql, const Parameters& parameters = {});
    // By a name that the session prepares when it first sees it.
    Rows run_prepared(const std::string& name, const std::string& sql, const Parameters& parameters);
    void copy_in(const std::string& sql, const std::string& lines);
    // Starts a statement without waiting for its answer; busy(): it has not come yet.
    void send(const std::string& sql) { PQsendQuery(connection_, sql.c_str()); }
    bool busy();
    Rows receive();
    // Whatever the session was doing, it is idle and connected afterwards; false if the server does not
    // answer.
    bool recover();
    int reconnects() const { return reconnects_; }
    int id() const { return id_; }
    int pid() const { return PQbackendPID(connection_); }

  private:
    void connect();
    Rows check(PGresult* result);

    std::string conninfo_;
    std::string name_;
    PGconn* connection_ = nullptr;
    std::vector<std::string> prepared_;
    int reconnects_ = 0;
    int id_ = 0;  // another after a reconnect: what a session has seen binds only itself
};

std::string array_of(const std::vector<Id>& ids);

}  // namespace load
