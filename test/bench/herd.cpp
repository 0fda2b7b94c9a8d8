// Many connections miss the same entry at once while its build takes long.
//
//   herd CLIENTS MILLISECONDS ROUNDS [BEGIN]     prints "ratio lower upper builds_worst"
//
// The build is made slow by a lock: a session of its own holds ACCESS EXCLUSIVE on `tenants` for so long, and
// the builder, which must read that table, waits. Each round invalidates tenant 1 and lets first one client
// ask for user 1, then all of them; the ratio is the time until the last one is answered over the time of the
// one alone. Everything but the tenant's layer is in memory, so that one build is what the round needs. With
// BEGIN (say "BEGIN ISOLATION LEVEL REPEATABLE READ") each asks in a transaction of its own.
#include "connection.hpp"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Round {
    double seconds;
    long builds;
};

class Herd {
  public:
    Herd(unsigned clients, unsigned milliseconds, std::string begin)
        : milliseconds_(milliseconds), begin_(std::move(begin)), holder_(""), watcher_("") {
        for (unsigned i = 0; i < clients; i++) {
            clients_.push_back(std::make_unique<Connection>(""));
            clients_.back()->prepare("ask", "SELECT prompt_cache.prompt(1)");
            // Every backend knows the wiring and has its plans.
            for (int k = 0; k < 3; k++) clients_.back()->call("ask", 0, nullptr, nullptr);
            clients_.back()->run("SELECT prompt_cache.build(1)");
        }
    }

    Round run(std::size_t count) {
        watcher_.run("UPDATE tenants SET system_prompt = 'Guideline ' || random() WHERE id = 1");
        const long before = builds();
        holder_.run("BEGIN");
        holder_.run("LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE");

        std::vector<Clock::time_point> answered(count);
        std::barrier start(static_cast<std::ptrdiff_t>(count) + 1);
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < count; i++)
            threads.emplace_back([this, i, &answered, &start] {
                if (!begin_.empty()) clients_[i]->run(begin_);
                start.arrive_and_wait();
                clients_[i]->call("ask", 0, nullptr, nullptr);
                answered[i] = Clock::now();
                if (!begin_.empty()) clients_[i]->run("COMMIT");
            });
        start.arrive_and_wait();
        const Clock::time_point began = Clock::now();
        std::this_thread::sleep_until(began + std::chrono::milliseconds(milliseconds_));
        holder_.run("COMMIT");
        for (std::thread& thread : threads) thread.join();
        const Clock::time_point last = *std::max_element(answered.begin(), answered.end());
        return {std::chrono::duration<double>(last - began).count(), builds() - before};
    }

  private:
    long builds() {
        return std::atol(
            watcher_.run("SELECT builds FROM prompt_cache.stats WHERE namespace = 'prompt'").c_str());
    }

    unsigned milliseconds_;
    std::string begin_;
    Connection holder_, watcher_;
    std::vector<std::unique_ptr<Connection>> clients_;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) give_up("usage: herd CLIENTS MILLISECONDS ROUNDS [BEGIN]");
    const auto clients = static_cast<unsigned>(std::max(1, std::atoi(argv[1])));
    Herd herd(clients, static_cast<unsigned>(std::atoi(argv[2])), argc > 4 ? argv[4] : "");
    const int rounds = std::max(1, std::atoi(argv[3]));
    std::vector<double> ratios;
    long worst = 0;
    for (int round = 0; round < rounds; round++) {
        const Round one = herd.run(1);
        const Round all = herd.run(clients);
        ratios.push_back(all.seconds / one.seconds);
        worst = std::max(worst, all.builds);
        if (all.builds > 1)
            std::fprintf(stderr, "round %d: %ld builds in %.3f s, alone %.3f s\n", round, all.builds,
                         all.seconds, one.seconds);
    }
    std::sort(ratios.begin(), ratios.end());
    const std::size_t n = ratios.size();
    std::printf("%.4f %.4f %.4f %ld\n", ratios[n / 2], ratios[n / 4], ratios[n * 3 / 4], worst);
    return 0;
}
