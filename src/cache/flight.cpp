#include "cache/flight.hpp"

#include "pg/settings.hpp"

namespace prompt_cache {

namespace {

FlightShared* leading_local = nullptr;  // a build may start nested ones; only the outermost is a flight
bool exit_callback_local = false;

constexpr int kLooks = 4;  // at a place that others take and leave meanwhile

void land_at_exit(int, Datum) {
    land();
}

// Would an entry built by the leader be a hit for us?
bool can_share(const Judge& judge, const FlightPlanShared& flight, Tag own) {
    const auto holds = [&](unsigned i, Tag tag) {
        return agrees(judge, flight.dependencies[i], flight.by_stamp, [&] { return tag; });
    };
    return holds(0, own) && holds(1, Tag(TagKind::kAll));
}

enum class TakeOff { kTaken, kOccupied, kPointless };

TakeOff take_off(FlightShared& flight, const Judge& judge, const EntryKey& key, Tag own) {
    const auto own_dependency = depend_on(judge, own);
    const auto star = depend_on(judge, Tag(TagKind::kAll));
    if (!own_dependency || !star) return TakeOff::kPointless;  // what we build will not be stored
    if (!exit_callback_local) {
        before_shmem_exit(land_at_exit, static_cast<Datum>(0));
        exit_callback_local = true;
    }
    LWLockAcquire(shared.flights_lock, LW_EXCLUSIVE);
    const bool is_free = flight.plan.key == 0;
    if (is_free) {
        flight.plan.key = key.hash;
        flight.plan.number++;
        flight.plan.database = MyDatabaseId;
        flight.plan.by_stamp = judge.by == Judge::By::kStamps;
        flight.plan.dependencies[0] = *own_dependency;
        flight.plan.dependencies[1] = *star;
        leading_local = &flight;
    }
    LWLockRelease(shared.flights_lock);
    return is_free ? TakeOff::kTaken : TakeOff::kOccupied;
}

// Until the flight `number` has landed, at most build_wait by a clock that nobody can set.
bool wait_for(FlightShared& flight, std::uint64_t number) {
    const std::int64_t deadline = memory::now() + static_cast<std::int64_t>(settings::build_wait) * 1000;
    bool landed = false;
    ConditionVariablePrepareToSleep(&flight.landed);
    for (;;) {
        LWLockAcquire(shared.flights_lock, LW_SHARED);
        landed = flight.plan.key == 0 || flight.plan.number != number;
        LWLockRelease(shared.flights_lock);
        const long left = static_cast<long>((deadline - memory::now() + 999) / 1000);
        if (landed || left <= 0) break;
        ConditionVariableTimedSleep(&flight.landed, left, build_wait_event());
    }
    ConditionVariableCancelSleep();
    return landed;
}

}  // namespace

Boarding board(const Judge& judge, const EntryKey& key, Tag own) {
    if (settings::build_wait == 0 || leading_local) return Boarding::kAlone;
    FlightShared& flight = shared.flights[key.hash % kFlights];
    // Of those who find the place free together one takes off; the others look again and find him there.
    for (int looks = 0; looks < kLooks; looks++) {
        LWLockAcquire(shared.flights_lock, LW_SHARED);
        const FlightPlanShared seen = flight.plan;
        LWLockRelease(shared.flights_lock);
        if (seen.key == 0) {
            const TakeOff result = take_off(flight, judge, key, own);
            if (result == TakeOff::kTaken) return Boarding::kLead;
            if (result == TakeOff::kPointless) return Boarding::kAlone;
            continue;
        }
        if (seen.key != key.hash || seen.database != MyDatabaseId || !can_share(judge, seen, own))
            return Boarding::kAlone;
        return wait_for(flight, seen.number) ? Boarding::kLanded : Boarding::kAlone;
    }
    return Boarding::kAlone;
}

void land() noexcept {
    if (!leading_local) return;
    LWLockAcquire(shared.flights_lock, LW_EXCLUSIVE);
    leading_local->plan.key = 0;
    LWLockRelease(shared.flights_lock);
    ConditionVariableBroadcast(&leading_local->landed);
    leading_local = nullptr;
}

}  // namespace prompt_cache
