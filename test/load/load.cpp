// A mixed load of readers and writers that checks every read: see README.md of this folder.
#include <signal.h>

#include <cstring>
#include <memory>
#include <thread>

#include "reader.hpp"
#include "writer.hpp"

namespace {

using namespace load;

std::atomic<bool> stop = false;

void usage() {
    std::printf(
        "load [--primary CONNINFO] [--standby CONNINFO] [--duration SECONDS] [--reads N] [--readers N] [--writers N]\n"
        "     [--keys N] [--think MICROSECONDS] [--seed N] [--mix KIND] [--partitioned] [--small] [--any-hits]\n");
}

bool parse(int argc, char** argv, Options& options) {
    for (int i = 1; i < argc; i++) {
        const std::string name = argv[i];
        if (name == "--partitioned") {
            options.partitioned = true;
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
        if (name == "--primary") options.primary = value;
        else if (name == "--standby") options.standby = value;
        else if (name == "--duration") options.duration = std::stoi(value);
        else if (name == "--reads") options.reads = std::stoll(value);
        else if (name == "--readers") options.readers = std::stoi(value);
        else if (name == "--writers") options.writers = std::stoi(value);
        else if (name == "--keys") options.keys = std::stoi(value);
        else if (name == "--think") options.think = std::stoi(value);
        else if (name == "--seed") options.seed = std::stoull(value);
        else if (name == "--mix") options.mix = value;
        else return false;
    }
    return options.mix.empty() || Writer::knows(options.mix);
}

long long as_number(const std::atomic<std::int64_t>& value) { return value.load(); }

int summary(const Options& options, Tally& tally, Violations& violations, History& history, double seconds) {
    const std::int64_t judged = history.judge(violations);
    const long long reads = as_number(tally.reads);
    const double share = reads > 0 ? 100.0 * static_cast<double>(tally.memory) / static_cast<double>(reads) : 0;
    std::printf("reads checked        %lld in %.0f s (%lld on a standby, %lld against build() too)\n", reads, seconds,
                as_number(tally.standby_reads), as_number(tally.by_build));
    std::printf("  from memory        %lld (%.1f %%), database %lld, built %lld\n", as_number(tally.memory), share,
                as_number(tally.database), as_number(tally.built));
    std::printf("  judged offline     %lld against %zu commits\n", static_cast<long long>(judged), history.commits());
    std::printf("transactions         %lld committed, %lld rolled back\n", as_number(tally.commits),
                as_number(tally.rollbacks));
    std::printf("second call after an acknowledged write, other connection: %lld of %lld from memory\n",
                as_number(tally.second_memory), as_number(tally.second_calls));
    std::printf("readers reconnected  %lld\n", as_number(tally.reconnects));
    violations.print();
    std::printf("violations           %lld", static_cast<long long>(violations.total()));
    if (violations.total() == 0 && reads > 0)
        std::printf(" (0 in %lld: fewer than %.2g a read, at 95 %%)", reads, 3.0 / static_cast<double>(reads));
    std::printf("\n");
    const bool enough = reads > 0 && (!options.hits_required || share >= 50);
    if (!enough) std::printf("too few memory hits: a cache that bypasses everything passes any oracle\n");
    return violations.total() == 0 && enough ? 0 : 1;
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
    std::vector<std::unique_ptr<Reader>> readers;
    std::vector<std::unique_ptr<Writer>> writers;
    for (int i = 0; i < options.readers; i++)
        readers.push_back(std::make_unique<Reader>(options, history, tally, violations, i, false));
    if (!options.standby.empty())
        readers.push_back(std::make_unique<Reader>(options, history, tally, violations, options.readers, true));
    for (int i = 0; i < options.writers; i++)
        writers.push_back(std::make_unique<Writer>(options, history, tally, violations, i));

    const Nanos began = now();
    const auto seconds = [&] { return static_cast<double>(now() - began) / 1e9; };
    std::vector<std::thread> threads;
    for (const auto& reader : readers) threads.emplace_back([&reader] { reader->run_until(stop); });
    for (const auto& writer : writers) threads.emplace_back([&writer] { writer->run_until(stop); });
    while (!stop.load() && (seconds() < options.duration || tally.reads.load() < options.reads))
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stop = true;
    for (std::thread& thread : threads) thread.join();
    return summary(options, tally, violations, history, seconds());
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
