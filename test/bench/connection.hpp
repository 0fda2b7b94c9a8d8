// A libpq connection that gives up with a message: what both load tools share.
#pragma once

#include <libpq-fe.h>

#include <cstdio>
#include <cstdlib>
#include <string>

[[noreturn]] inline void give_up(const std::string& what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(1);
}

class Connection {
  public:
    explicit Connection(const std::string& conninfo) : handle_(PQconnectdb(conninfo.c_str())) {
        if (PQstatus(handle_) != CONNECTION_OK) give_up(PQerrorMessage(handle_));
    }
    ~Connection() { PQfinish(handle_); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    int backend() const { return PQbackendPID(handle_); }

    // The first column of the first row, "" where there is none.
    std::string run(const std::string& sql) { return taken(PQexec(handle_, sql.c_str()), sql); }

    void prepare(const std::string& name, const std::string& sql) {
        taken(PQprepare(handle_, name.c_str(), sql.c_str(), 0, nullptr), sql);
    }

    // The answer is received in full and dropped, as by a client that hands it on.
    void call(const char* name, int count, const char* const* values, const int* lengths) {
        PGresult* result = PQexecPrepared(handle_, name, count, values, lengths, nullptr, 0);
        const ExecStatusType status = PQresultStatus(result);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) give_up(PQerrorMessage(handle_));
        PQclear(result);
    }

  private:
    std::string taken(PGresult* result, const std::string& sql) {
        const ExecStatusType status = PQresultStatus(result);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            give_up(sql + ": " + PQerrorMessage(handle_));
        std::string value = PQntuples(result) > 0 && PQnfields(result) > 0 ? PQgetvalue(result, 0, 0) : "";
        PQclear(result);
        return value;
    }

    PGconn* handle_;
};
