// Random schedules around put() and lease(); every value that is given out is compared with the tables.
//
//   puts CONNINFO [SECONDS [SEED [SCHEDULES]]]
//
// Each schedule has a seed of its own, which is printed if it goes wrong, with the shortest form of it that still does:
// `puts CONNINFO 0 SEED 1` plays it again. Exit code 0: all was exact, and each honest way of putting a value has published
// some.
#include <cstdlib>

#include "put_schedule.hpp"

namespace {

using namespace load;

double seconds_since(Nanos began) {
    return static_cast<double>(now() - began) / 1e9;
}

// Leaves out every step that is not needed for something to be wrong.
PutSchedule shortest(PutPlayer& player, PutSchedule schedule) {
    for (std::size_t i = schedule.size(); i-- > 0;) {
        PutSchedule less = schedule;
        less.erase(less.begin() + static_cast<std::ptrdiff_t>(i));
        if (!player.play(less).empty()) schedule = less;
    }
    return schedule;
}

bool summary(const PutPlayer::Counts& counts, std::int64_t schedules, std::int64_t wrong, double seconds) {
    std::printf("schedules            %lld in %.1f s, %lld steps, %lld values compared\n", static_cast<long long>(schedules),
                seconds, static_cast<long long>(counts.steps), static_cast<long long>(counts.compared));
    std::printf("puts                 %lld, accepted %lld\n", static_cast<long long>(counts.puts),
                static_cast<long long>(counts.accepted));
    bool all = true;
    for (int way = 0; way < PutPlayer::kWays; way++) {
        std::printf("  published          %lld %s, %s, %s\n", static_cast<long long>(counts.published[way]),
                    way & PutPlayer::kWithBuilder ? "with a builder" : "without a builder",
                    way & PutPlayer::kLeased ? "with a lease" : "without a lease",
                    way & PutPlayer::kAfterOwnChange ? "after own changes" : "no own changes");
        all = all && counts.published[way] > 0;
    }
    std::printf("wrong                %lld\n", static_cast<long long>(wrong));
    if (!all) std::printf("too few puts: one way has published nothing\n");
    return all;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::printf("puts CONNINFO [SECONDS [SEED [SCHEDULES]]]\n");
        return 2;
    }
    const double limit = argc > 2 ? std::atof(argv[2]) : 20;
    const std::uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1;
    const std::int64_t most = argc > 4 ? std::atoll(argv[4]) : INT64_MAX;
    constexpr int kMostShown = 10;
    constexpr std::int64_t kFewest = 500;  // however slow the machine is
    try {
        PutPlayer player(argv[1]);
        player.set_up();
        std::printf("seed                 %llu\n", static_cast<unsigned long long>(seed));
        const Nanos began = now();
        std::int64_t schedules = 0, wrong = 0;
        while (schedules < (most == INT64_MAX ? kFewest : most) || (most == INT64_MAX && seconds_since(began) < limit)) {
            const std::uint64_t own_seed = seed + static_cast<std::uint64_t>(schedules++);
            const PutSchedule schedule = random_put_schedule(own_seed);
            if (player.play(schedule).empty()) continue;
            std::printf("VIOLATION seed %llu, after %.2f s\n", static_cast<unsigned long long>(own_seed), seconds_since(began));
            if (++wrong == kMostShown) break;
            const std::string what = player.play(shortest(player, schedule));
            for (const std::string& line : player.log) std::printf("    %s\n", line.c_str());
            std::printf("    %s\n", what.c_str());
        }
        const bool enough = summary(player.counts, schedules, wrong, seconds_since(began));
        return wrong > 0 || (!enough && most == INT64_MAX) ? 1 : 0;
    } catch (const SqlError& error) {
        std::printf("error %s: %s\n", error.state.c_str(), error.text.c_str());
        return 2;
    }
}
