// Runs two prepared statements in turn, A B B A A B …, and prints how their rates compare.
//
//   duel [option…]              prints "ratio lower upper by_cpu rate_a rate_b"
//     --a SQL --b SQL           `@file` takes a statement from each line of a file, chosen at random
//     --keys N                  $1 is a key from 1 to N (--a-keys, --b-keys to differ)
//     --order random|next       keys at random, or each key once: the run ends with an error when none is
//     left
//     --value FILE              $2 is the file's text, its first bytes another in every call
//     --clients N               connections, a thread each (--a-clients, --b-clients to differ). A client and
//     its
//                               backends stay on one processor: where the scheduler puts them changes the
//                               rate of a lone client threefold, and not the same way for both sides
//     --pairs N                 pairs of slices
//     --ms N | --calls N        length of a slice: time, or calls of each client
//     --after SQL               run after every call, not timed
//     --conn STRING             where to (--b-conn to differ)
//     --setup SQL               once a connection
//
// The ratio is the median of rate A / rate B over the pairs, lower and upper are its quartiles. The two
// slices of a pair follow each other, so that whatever else the machine does meets both. Rates are calls a
// second: only to see what was measured, since they depend on the machine. by_cpu is the same ratio by the
// processor time that backends and clients used: what other jobs on the machine take does not count there,
// and neither does waiting.
#include "connection.hpp"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

struct Side {
    std::vector<std::string> statements;
    std::string conninfo, setup, after, value;
    long keys = 1;
    bool in_order = false;
    unsigned clients = 1;
    std::atomic<long> next_key{1};
};

struct Slice {
    double milliseconds = 500;
    long calls = 0;  // 0: by time
};

// Of one client or of all: calls a second, and a processor second.
struct Rate {
    double by_clock = 0;
    double by_cpu = 0;
};

// Has the statement this parameter, as in "$2"?
bool takes(const std::string& sql, const char* parameter) {
    return sql.find(parameter) != std::string::npos;
}

// The processor of the client with this number, in turn those that we may use.
cpu_set_t processor_of(unsigned number) {
    cpu_set_t all, one;
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    unsigned left = number % static_cast<unsigned>(std::max(1, CPU_COUNT(&all)));
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && left-- == 0) CPU_SET(cpu, &one);
    return one;
}

class Client {
  public:
    Client(Side& side, unsigned number)
        : side_(side), connection_(side.conninfo), random_(number + 1), processor_(processor_of(number)) {
        // Without the right to do so nothing is lost but steadiness.
        sched_setaffinity(connection_.backend(), sizeof processor_, &processor_);
        if (!side.setup.empty()) connection_.run(side.setup);
        for (std::size_t i = 0; i < side.statements.size(); i++) {
            const std::string& sql = side.statements[i];
            names_.push_back("s" + std::to_string(i));
            parameters_.push_back(takes(sql, "$2") ? 2 : takes(sql, "$1") ? 1 : 0);
            connection_.prepare(names_.back(), sql);
        }
        value_ = side.value;
    }

    Rate run(const Slice& slice) {
        sched_setaffinity(0, sizeof processor_, &processor_);
        const double cpu_before = cpu_seconds();
        const Clock::time_point began = Clock::now();
        const Clock::time_point end =
            began + std::chrono::duration_cast<Clock::duration>(Seconds(slice.milliseconds / 1000));
        Clock::time_point now = began;
        Seconds busy{0};
        long calls = 0;
        do {
            const Clock::time_point before = now;
            call();
            now = Clock::now();
            busy += now - before;
            calls++;
            if (!side_.after.empty()) {
                connection_.run(side_.after);
                now = Clock::now();
            }
        } while (slice.calls > 0 ? calls < slice.calls : now < end);
        return {static_cast<double>(calls) / busy.count(),
                static_cast<double>(calls) / (cpu_seconds() - cpu_before)};
    }

  private:
    // Of this thread and of its backend, which is idle when we ask.
    double cpu_seconds() const {
        timespec own{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &own);
        double backend = 0;
        std::ifstream("/proc/" + std::to_string(connection_.backend()) + "/schedstat") >> backend;
        return static_cast<double>(own.tv_sec) + (static_cast<double>(own.tv_nsec) + backend) / 1e9;
    }

    void call() {
        const std::size_t which = names_.size() == 1 ? 0 : random_() % names_.size();
        char key[24];
        const char* values[2] = {key, value_.c_str()};
        const int lengths[2] = {0, static_cast<int>(value_.size())};
        if (parameters_[which] > 0) {
            const long number =
                side_.in_order ? side_.next_key.fetch_add(1) : 1 + static_cast<long>(random_() % side_.keys);
            if (number > side_.keys) give_up("duel: every key has been used once");
            std::snprintf(key, sizeof key, "%ld", number);
        }
        if (parameters_[which] > 1 && value_.size() >= 16) {
            char change[17];
            std::snprintf(change, sizeof change, "%016llx", static_cast<unsigned long long>(random_()));
            value_.replace(0, 16, change);
        }
        connection_.call(names_[which].c_str(), parameters_[which], values, lengths);
    }

    Side& side_;
    Connection connection_;
    std::mt19937_64 random_;
    cpu_set_t processor_;
    std::vector<std::string> names_;
    std::vector<int> parameters_;
    std::string value_;
};

using Clients = std::vector<std::unique_ptr<Client>>;

Clients connect(Side& side) {
    Clients clients;
    for (unsigned i = 0; i < side.clients; i++) clients.push_back(std::make_unique<Client>(side, i));
    return clients;
}

Rate run_all(Clients& clients, const Slice& slice) {
    std::vector<Rate> rates(clients.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < clients.size(); i++)
        threads.emplace_back([&client = *clients[i], &slice, &rate = rates[i]] { rate = client.run(slice); });
    for (std::thread& thread : threads) thread.join();
    Rate sum;
    for (const Rate& rate : rates) {
        sum.by_clock += rate.by_clock;
        sum.by_cpu += rate.by_cpu;
    }
    return sum;
}

double quantile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    const double at = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (values[above] - values[below]) * (at - static_cast<double>(below));
}

std::string contents(const std::string& path) {
    std::ifstream file(path);
    if (!file) give_up("duel: cannot read " + path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::vector<std::string> statements_of(const std::string& argument) {
    if (argument.empty() || argument[0] != '@') return {argument};
    std::vector<std::string> lines;
    std::istringstream text(contents(argument.substr(1)));
    for (std::string line; std::getline(text, line);)
        if (!line.empty()) lines.push_back(line);
    return lines;
}

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> options;
    for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
    const auto option = [&options](const std::string& name, const std::string& otherwise) {
        const auto found = options.find(name);
        return found == options.end() ? otherwise : found->second;
    };

    Side sides[2];
    for (const char letter : {'a', 'b'}) {
        Side& side = sides[letter - 'a'];
        const auto own = [&option, letter](const char* name, const char* otherwise) {
            return option(std::string("--") + letter + "-" + name,
                          option(std::string("--") + name, otherwise));
        };
        side.statements = statements_of(option(std::string("--") + letter, ""));
        if (side.statements.empty() || side.statements[0].empty()) give_up("duel: needs --a and --b");
        side.conninfo = own("conn", "");
        side.setup = own("setup", "");
        side.after = own("after", "");
        side.keys = std::max(1L, std::atol(own("keys", "1").c_str()));
        side.clients = static_cast<unsigned>(std::max(1, std::atoi(own("clients", "1").c_str())));
        side.in_order = own("order", "random") == "next";
        const std::string value = own("value", "");
        if (!value.empty()) side.value = contents(value);
    }
    Slice slice;
    slice.milliseconds = std::atof(option("--ms", "500").c_str());
    slice.calls = std::atol(option("--calls", "0").c_str());
    const int pairs = std::max(1, std::atoi(option("--pairs", "20").c_str()));

    Clients clients[2] = {connect(sides[0]), connect(sides[1])};
    // Plans settle after five calls; the first pair is not counted.
    std::vector<double> ratios, by_cpu, rates[2];
    for (int pair = 0; pair <= pairs; pair++) {
        Rate rate[2];
        const int first = pair % 2;
        rate[first] = run_all(clients[first], slice);
        rate[1 - first] = run_all(clients[1 - first], slice);
        if (pair == 0) continue;
        ratios.push_back(rate[0].by_clock / rate[1].by_clock);
        by_cpu.push_back(rate[0].by_cpu / rate[1].by_cpu);
        rates[0].push_back(rate[0].by_clock);
        rates[1].push_back(rate[1].by_clock);
    }
    std::printf("%.4f %.4f %.4f %.4f %.1f %.1f\n", quantile(ratios, 0.5), quantile(ratios, 0.25),
                quantile(ratios, 0.75), quantile(by_cpu, 0.5), quantile(rates[0], 0.5),
                quantile(rates[1], 0.5));
    return 0;
}
