// What replay is held to: LRU and S3-FIFO of a trace, written plainly and without bounds on work or memory.
//
//   policies TRACE [--bytes]     a line for each capacity of 1, 5 and 10 % of the keys (or of their bytes):
//                                "capacity=N requests=N lru=N s3fifo=N" with the hits of each
//
// The rule is that of replay: on a miss entries go until the new one fits; one that is larger than the cache
// (S3-FIFO: than its small queue) is not let in. S3-FIFO has a small queue of 25 % of the capacity and ghosts
// of 90 %, moves an entry to the main queue when it was hit once, and gives the main queue two bits.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <list>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

struct Request {
    std::uint32_t key;
    std::uint64_t size;
};

struct Trace {
    std::vector<Request> requests;
    std::uint64_t keys = 0, bytes = 0;
};

Trace read_trace(const char* path, bool bytes) {
    std::ifstream file(path);
    Trace trace;
    std::unordered_map<std::string, std::uint32_t> numbers;
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string key;
        std::uint64_t size = 1;
        if (!(words >> key)) continue;
        if (!(words >> size) || !bytes) size = 1;
        const auto [found, added] = numbers.try_emplace(key, trace.keys);
        if (added) trace.keys++, trace.bytes += size;
        trace.requests.push_back({found->second, size});
    }
    return trace;
}

// Keys in the order they came in, with what they take.
class Queue {
  public:
    explicit Queue(std::uint64_t keys) : places_(keys, order_.end()) {}
    bool has(std::uint32_t key) const { return places_[key] != order_.end(); }
    bool empty() const { return order_.empty(); }
    std::uint64_t used() const { return used_; }
    void push(Request request) {
        places_[request.key] = order_.insert(order_.end(), request);
        used_ += request.size;
    }
    Request pop() {
        const Request oldest = order_.front();
        take(oldest.key);
        return oldest;
    }
    Request take(std::uint32_t key) {
        const Request request = *places_[key];
        order_.erase(places_[key]);
        places_[key] = order_.end();
        used_ -= request.size;
        return request;
    }
    void renew(std::uint32_t key) { order_.splice(order_.end(), order_, places_[key]); }

  private:
    std::list<Request> order_;
    std::vector<std::list<Request>::iterator> places_;
    std::uint64_t used_ = 0;
};

std::uint64_t play_lru(const Trace& trace, std::uint64_t capacity) {
    Queue queue(trace.keys);
    std::uint64_t hits = 0;
    for (const Request& request : trace.requests) {
        if (queue.has(request.key)) {
            hits++;
            queue.renew(request.key);
            continue;
        }
        if (request.size > capacity) continue;
        while (queue.used() + request.size > capacity) queue.pop();
        queue.push(request);
    }
    return hits;
}

class S3Fifo {
  public:
    S3Fifo(std::uint64_t keys, std::uint64_t capacity)
        : capacity_(capacity),
          small_capacity_(std::max<std::uint64_t>(capacity / 4, 1)),
          ghost_capacity_(capacity * 9 / 10),
          small_(keys),
          main_(keys),
          ghosts_(keys),
          uses_(keys) {}

    bool request(const Request& request) {
        if (small_.has(request.key) || main_.has(request.key)) {
            uses_[request.key]++;
            return true;
        }
        const bool remembered = ghosts_.has(request.key);
        if (remembered) ghosts_.take(request.key);
        if (request.size > small_capacity_) return false;
        while (small_.used() + main_.used() + request.size > capacity_) {
            if (main_.used() > capacity_ - small_capacity_ || small_.empty())
                evict_from_main();
            else
                evict_from_small();
        }
        uses_[request.key] = 0;
        (remembered ? main_ : small_).push(request);
        return false;
    }

  private:
    void evict_from_main() {
        while (!main_.empty()) {
            const Request oldest = main_.pop();
            if (uses_[oldest.key] == 0) return;
            uses_[oldest.key] = std::min(uses_[oldest.key], 3U) - 1;
            main_.push(oldest);
        }
    }

    void evict_from_small() {
        while (!small_.empty()) {
            const Request oldest = small_.pop();
            if (uses_[oldest.key] > 0) {
                uses_[oldest.key] = 0;
                main_.push(oldest);
                continue;
            }
            if (oldest.size > ghost_capacity_) return;
            while (ghosts_.used() + oldest.size > ghost_capacity_) ghosts_.pop();
            ghosts_.push(oldest);
            return;
        }
    }

    std::uint64_t capacity_, small_capacity_, ghost_capacity_;
    Queue small_, main_, ghosts_;
    std::vector<std::uint32_t> uses_;
};

}  // namespace

int main(int argc, char** argv) {
    const bool bytes = argc == 3 && std::strcmp(argv[2], "--bytes") == 0;
    if (argc != 2 && !bytes) {
        std::fprintf(stderr, "usage: policies TRACE [--bytes]\n");
        return 2;
    }
    const Trace trace = read_trace(argv[1], bytes);
    if (trace.requests.empty()) {
        std::fprintf(stderr, "policies: no requests in %s\n", argv[1]);
        return 1;
    }
    for (const unsigned percent : {1U, 5U, 10U}) {
        const std::uint64_t capacity =
            std::max<std::uint64_t>((bytes ? trace.bytes : trace.keys) * percent / 100, 1);
        S3Fifo policy(trace.keys, capacity);
        std::uint64_t hits = 0;
        for (const Request& request : trace.requests) hits += policy.request(request);
        std::printf("capacity=%llu requests=%zu lru=%llu s3fifo=%llu\n",
                    static_cast<unsigned long long>(capacity), trace.requests.size(),
                    static_cast<unsigned long long>(play_lru(trace, capacity)),
                    static_cast<unsigned long long>(hits));
    }
    return 0;
}
