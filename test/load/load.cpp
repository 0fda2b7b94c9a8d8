// A mixed load of readers and writers that checks every read: see README.md of this folder.
#include <signal.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "reader.hpp"
#include "writer.hpp"

namespace {

using namespace load;

std::atomic<bool> stop = false;

void usage() {
    std::printf(
        "load [--primary CONNINFO] [--standby CONNINFO] [--duration SECONDS] [--reads N] [--readers N] "
        "[--writers N]\n"
        "     [--keys N] [--think MICROSECONDS] [--seed N] [--mix KIND] [--partitioned] [--small] "
        "[--any-hits] [--redis]\n");
}

bool parse(int argc, char** argv, Options& options) {
    for (int i = 1; i < argc; i++) {
        const std::string name = argv[i];
        if (name == "--partitioned") {
            options.partitioned = true;
            continue;
        }
        if (name == "--redis") {
            options.redis_required = true;
            continue;
        }
        if (name == "--small") {
            options.large = false;
            continue;
        }
        if (name == "--any-hits") {
            options.hits_required = false;
            continue;
        }
        if (i + 1 == argc) return false;
        const std::string value = argv[++i];
        if (name == "--primary")
            options.primary = value;
        else if (name == "--standby")
            options.standby = value;
        else if (name == "--duration")
            options.duration = std::stoi(value);
        else if (name == "--reads")
            options.reads = std::stoll(value);
        else if (name == "--readers")
            options.readers = std::stoi(value);
        else if (name == "--writers")
            options.writers = std::stoi(value);
        else if (name == "--keys")
            options.keys = std::stoi(value);
        else if (name == "--think")
            options.think = std::stoi(value);
        else if (name == "--seed")
            options.seed = std::stoull(value);
        else if (name == "--mix")
            options.mix = value;
        else
            return false;
    }
    return options.mix.empty() || Writer::knows(options.mix);
}

long long as_number(const std::atomic<std::int64_t>& value) {
    return value.load();
}

// What the primary counted since it was started.
struct Counted {
    double behind = -1;  // hits of an entry that a writer has marked since, for 100 hits; -1: not counted
    std::int64_t evictions = 0;
};

Counted counted(const Options& options) {
    Session session(options.primary, "load summary");
    const Rows rows = session.run(
        "SELECT (prompt_cache.health()->'tiers'->'memory'->>'hits_behind')::float8 * 100 / "
        "nullif(hits_memory, 0), evictions"
        " FROM prompt_cache.stats WHERE namespace = 'prompt'");
    if (rows.count() == 0) return {};
    return {rows.null(0, 0) ? -1 : std::stod(rows.text(0, 0)), rows.number(0, 1)};
}

bool uses_redis(const Sources& sources) {
    return 5 * sources.redis >= sources.reads - sources.memory;
}

int summary(const Options& options, Tally& tally, Violations& violations, History& history, double seconds,
            const Counted& server) {
    const std::int64_t judged = history.judge(violations);
    const long long reads = as_number(tally.primary.reads) + as_number(tally.standby.reads);
    const auto print_sources = [](const char* name, const Sources& sources) {
        const long long all = as_number(sources.reads);
        const double share =
            all > 0 ? 100.0 * static_cast<double>(sources.memory) / static_cast<double>(all) : 0;
        std::printf("reads checked        %lld on the %s, %lld of them against build() too\n", all, name,
                    as_number(sources.by_build));
        std::printf("  answered by        memory %lld (%.1f %%), redis %lld, database %lld, built %lld\n",
                    as_number(sources.memory), share, as_number(sources.redis), as_number(sources.database),
                    as_number(sources.built));
        return share;
    };
    std::printf("duration             %.0f s\n", seconds);
    const double share = print_sources("primary", tally.primary);
    if (tally.standby.reads > 0) print_sources("standby", tally.standby);
    if (server.behind >= 0)
        std::printf("  with d > 0         %.2f of 100 memory hits since the server was started\n",
                    server.behind);
    std::printf("  evictions          %lld\n", static_cast<long long>(server.evictions));
    std::printf("  judged offline     %lld reads against %zu commits\n", static_cast<long long>(judged),
                history.commits());
    std::printf("transactions         %lld committed, %lld rolled back or refused, %lld lost at COMMIT\n",
                as_number(tally.commits), as_number(tally.rollbacks), as_number(tally.unknown));
    std::printf("second call after an acknowledged write, other connection: %lld of %lld from memory\n",
                as_number(tally.second_memory), as_number(tally.second_calls));
    std::printf("readers reconnected  %lld times\n", as_number(tally.reconnects));
    violations.print();
    std::printf("violations           %lld", static_cast<long long>(violations.total()));
    if (violations.total() == 0 && reads > 0)
        std::printf(" (0 in %lld: fewer than %.2g a read, at 95 %%)", reads,
                    3.0 / static_cast<double>(reads));
    std::printf("\n");
    const bool enough = reads > 0 && (!options.hits_required || (share >= 50 && server.behind != 0));
    if (!enough) std::printf("too few memory hits: a cache that bypasses everything passes any oracle\n");
    const bool remote = !options.redis_required || (uses_redis(tally.primary) && uses_redis(tally.standby));
    if (!remote) std::printf("too few answers of Redis: not one miss in five\n");
    return violations.total() == 0 && enough && remote ? 0 : 1;
}

// Until the standby has the schema.
void wait_for_standby(const Options& options) {
    Session primary(options.primary, "load setup");
    Session standby(options.standby, "load setup");
    const std::string target = primary.run("SELECT pg_current_wal_lsn()").text(0, 0);
    for (int tries = 0; tries < 600; tries++) {
        if (standby.run("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", {target}).flag(0, 0)) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    throw SqlError{"", "the standby does not follow"};
}

int run(const Options& options) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    History history(3000000);
    Tally tally;
    Violations violations;
    {
        Session session(options.primary, "load setup");
        create_schema(options, session, history);
    }
    if (!options.standby.empty()) wait_for_standby(options);
    std::vector<std::unique_ptr<Reader>> readers;
    std::vector<std::unique_ptr<Writer>> writers;
    for (int i = 0; i < options.readers; i++)
        readers.push_back(std::make_unique<Reader>(options, history, tally, violations, i, false));
    if (!options.standby.empty())
        readers.push_back(
            std::make_unique<Reader>(options, history, tally, violations, options.readers, true));
    for (int i = 0; i < options.writers; i++)
        writers.push_back(std::make_unique<Writer>(options, history, tally, violations, i));

    const Nanos began = now();
    const auto seconds = [&] { return static_cast<double>(now() - began) / 1e9; };
    std::vector<std::thread> threads;
    for (const auto& reader : readers) threads.emplace_back([&reader] { reader->run_until(stop); });
    for (const auto& writer : writers) threads.emplace_back([&writer] { writer->run_until(stop); });
    while (!stop.load() && (seconds() < options.duration || tally.primary.reads.load() < options.reads))
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stop = true;
    for (std::thread& thread : threads) thread.join();
    const double took = seconds();
    return summary(options, tally, violations, history, took, counted(options));
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    if (!parse(argc, argv, options)) {
        usage();
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, [](int) { stop = true; });
    signal(SIGTERM, [](int) { stop = true; });
    try {
        return run(options);
    } catch (const SqlError& error) {
        std::printf("%s %s\n", error.state.c_str(), error.text.c_str());
        return 2;
    }
}
