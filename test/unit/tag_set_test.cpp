// The set of changed tags: what it holds, how it is cleared, and that nobody can choose tags that make it slow.
#include "core/tag_set.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>

namespace {

using prompt_cache::core::TagSet;

constexpr std::size_t kMax = 4096;  // of TagSet
constexpr std::uint64_t kDefaultFactor = 0x9E3779B97F4A7C15;

// x with x * odd = 1, by Newton's iteration: each step doubles the number of right bits.
std::uint64_t inverse(std::uint64_t odd) {
    std::uint64_t x = odd;
    for (int i = 0; i < 6; i++) x *= 2 - odd * x;
    return x;
}

// Tags that all belong to the first cell, for who knows the factor.
void add_chosen(TagSet& set, std::uint64_t factor) {
    for (std::uint64_t i = 1; i <= kMax; i++) set.add(i * inverse(factor), 1);
}

TEST(TagSet, HoldsWhatWasAdded) {
    std::mt19937_64 random(3);
    const auto set = std::make_unique<TagSet>();
    for (int round = 0; round < 50; round++) {
        set->choose_hash(random());
        std::set<std::uint64_t> model;
        for (auto left = random() % (round % 5 == 0 ? 2 * kMax : 300); left > 0; left--) {
            const std::uint64_t tag = random() % 2 == 0 ? random() : random() % 500;
            set->add(tag, 1);
            model.insert(tag);
        }
        ASSERT_EQ(set->all(), model.size() > kMax);
        if (!set->all()) {
            ASSERT_EQ(set->tags().size(), model.size());
            for (std::uint64_t tag = 0; tag < 600; tag++) ASSERT_EQ(set->contains(tag), model.count(tag) == 1);
        }
        for (const std::uint64_t tag : model) ASSERT_TRUE(set->contains(tag));
        set->clear();
        ASSERT_TRUE(set->empty());
        for (const std::uint64_t tag : model) ASSERT_FALSE(set->contains(tag));
        ASSERT_EQ(set->longest_run(), 0u);
    }
}

TEST(TagSet, ChosenTagsSpreadWhereTheFactorIsSecret) {
    const auto set = std::make_unique<TagSet>();
    add_chosen(*set, kDefaultFactor);
    EXPECT_EQ(set->longest_run(), kMax);  // control: who knows the factor can do it
    std::mt19937_64 random(4);
    for (int round = 0; round < 100; round++) {
        set->clear();
        set->choose_hash(random());
        add_chosen(*set, kDefaultFactor);
        ASSERT_LT(set->longest_run(), 300u) << round;
    }
}

}  // namespace
