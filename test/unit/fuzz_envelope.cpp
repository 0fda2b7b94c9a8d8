// Bytes from outside, for libFuzzer: whatever a check or a sanitizer complains of is a crash.
//
//     flags="-std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined"
//     clang++ $flags -Isrc -Itest/unit test/unit/fuzz_envelope.cpp src/core/envelope.cpp
//     src/core/redis_url.cpp \
//         src/tier/seal.cpp -lcrypto -o build/fuzz_envelope
//     mkdir -p build/corpus && build/fuzz_envelope -max_total_time=60 -max_len=4096 build/corpus
//     test/unit/corpus_envelope
#include "envelope_probe.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    prompt_cache::test::probe_envelope(data, size);
    return 0;
}
